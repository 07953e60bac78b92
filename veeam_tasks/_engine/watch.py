"""`Watch` and `Waiter`: subscriptions to the engine, their events and their report.

A subscription has no asyncio task of its own and opens no scope, so that each of its
methods may be called from another asyncio task, as the lines of a REPL are.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Self

from veeam_tasks._engine.decisions import is_another
from veeam_tasks._engine.engine import Engine
from veeam_tasks._engine.records import TaskRecord
from veeam_tasks._errors import ClosedError
from veeam_tasks._events import (
    Observation,
    PendingEvent,
    Report,
    TaskEvent,
    WatchTimeoutError,
    lost_error,
    outcome_of,
)
from veeam_tasks._model import Task, TaskState
from veeam_tasks._outcomes import Outcomes
from veeam_tasks._pace import Pace
from veeam_tasks._protocol.urls import Hide, task_id_of
from veeam_tasks._sole import NotCopyable, of_the_package

_LOOKS_APART, _LOOKS_AT_ONCE = 1800.0, 4096

TaskLike = str | Task

_waiting: set[object] = set()
"""Subscriptions that a coroutine waits for. asyncio holds its tasks weakly and the
engine its subscribers: without this, gc would end a coroutine that nobody holds."""


def task_ids_of(
    tasks: Iterable[TaskLike | Iterable[TaskLike]], hide: Hide = str
) -> list[str]:
    """Return the IDs of tasks, Hrefs, IDs, or of one iterable of them, each once.

    Args:
        tasks: What was given.
        hide: Hides the secrets of a text that an error shows.

    Raises:
        ValueError: Something is not a task ID, nor the Href of a task.
        TypeError: Something is neither a string nor a `Task`.
    """
    given = list(tasks)
    if len(given) == 1 and not isinstance(given[0], str | Task):
        only = given[0]
        # Bytes are an iterable, of numbers.
        if isinstance(only, bytes | bytearray) or not isinstance(only, Iterable):
            text = f"a task is an ID, a Task or an Href, not {type(only).__name__}"
            raise TypeError(text)
        given = list(only)
    ids: dict[str, None] = {}
    for task in given:
        if not isinstance(task, str | Task):
            text = f"a task is an ID, a Task or an Href, not {type(task).__name__}"
            raise TypeError(text)
        ids[task_id_of(task, hide)] = None
    return list(ids)


class Latest(Mapping[str, Task]):
    """The latest known tasks of a watch, in the order watched; a view of them."""

    __slots__ = ("_known", "_records", "_slots")

    def __init__(
        self,
        slots: Mapping[str, PendingEvent],
        known: AbstractSet[str],
        records: Mapping[str, TaskRecord],
    ) -> None:
        self._slots = slots
        self._known = known
        self._records = records

    def __getitem__(self, key: str) -> Task:
        if key not in self._known:
            raise KeyError(key)
        slot = self._slots[key]
        record = None if slot.is_final else self._records.get(key)
        seen = slot.latest if record is None or record.task is None else record
        task = None if seen is None else seen.task
        assert task is not None
        return task

    def __iter__(self) -> Iterator[str]:
        # Of a copy, since it may be walked over with pauses in between.
        return iter([task_id for task_id in self._slots if task_id in self._known])

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return repr(dict(self))


class Watch(NotCopyable):
    """Watches many tasks; an async iterator of `TaskEvent`.

    Made by `SessionManager.watch`. It polls by itself from the moment it exists, may
    be left by ``break`` and iterated on later, and stops quietly when nobody holds it
    any more. Iteration ends when every watched task has had its final event; one
    reader at a time. It raises what `wait` raises, once the events owed are delivered.

    Attributes:
        pace: How long it pauses between two polls of one task.
        is_endless: Whether it watches all tasks, so that it never ends by itself.
    """

    _what = "a Watch is bound to its manager"
    _instead = "make a second one of the same tasks, it costs no poll; a Report can be"

    def __init__(
        self,
        engine: Engine,
        task_ids: Iterable[str],
        *,
        pace: Pace,
        timeout: float | None,
        owner: object,
        is_endless: bool = False,
    ) -> None:
        self.pace = pace
        self.is_endless = is_endless
        self._engine = engine
        self._owner = owner  # the manager lives as long as its watches
        self._slots: dict[str, PendingEvent] = {}
        self._owed: dict[str, PendingEvent] = {}
        # Final ones, owed before their ID came anew.
        self._past: deque[TaskEvent] = deque()
        # Discarded, and not to be discovered again; under which generation it was.
        self._unwanted: dict[str, int] = {}
        self._listed_under = 0
        self._doubted: set[str] = set()  # ended, and asked for whether it is another
        # What has ended and was delivered or discarded: when it was looked at last, and
        # whether the server had it no more.
        self._ended: deque[tuple[float, str, bool]] = deque()
        self._known: set[str] = set()
        self._outcomes: Outcomes[TaskEvent | None] = Outcomes(outcome_of)
        # Since `_outcomes` was made.
        self._changed: dict[str, None] = {}
        self._removed: set[str] = set()
        self._unfinished = 0
        self._reader: asyncio.Future[None] | None = None
        self._cut_by: Exception | None = None
        self._me = engine.roster.reference(self, self._slots)
        self._timeout = timeout
        self._deadline = None if timeout is None else engine.loop.time() + timeout
        self._timer: asyncio.Handle | None = None
        self._add(task_ids)
        self._arm()
        if is_endless:
            engine.subscribe_all(self._me)

    # --- for the caller

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The latest known `Task` by ID, of those that were seen already.

        It is a view: what it shows changes with the watch.
        """
        return Latest(self._slots, self._known, self._engine.roster.records)

    @property
    def report(self) -> Report:
        """What is known now of every watched task; a snapshot.

        It costs what has changed since the last one. A watch of all tasks leaves out
        what has ended, was delivered, and is gone at the server for an hour or more.
        """
        if self._changed or self._removed:
            changed, self._changed = self._changed, {}
            removed, self._removed = self._removed, set()
            slots = self._slots
            latest = {task_id: slots[task_id].latest for task_id in changed}
            self._outcomes = self._outcomes.updated(removed, latest)
        return Report(outcomes=self._outcomes)

    def add(self, *tasks: TaskLike | Iterable[TaskLike]) -> None:
        """Watch further tasks; those watched already stay as they are.

        Raises:
            ValueError, TypeError: Not a task; nothing is added then.
            ClosedError: The watch was closed.
            VeeamTasksError: The watch was cut short, by this.
            RuntimeError: Called outside the event loop of the manager.
        """
        task_ids = task_ids_of(tasks, self._engine.secrets.hide_in_path)
        self._engine.check_loop()
        if self._cut_by is not None:
            raise _fresh(self._cut_by)
        for task_id in task_ids:
            self._unwanted.pop(task_id, None)
        self._add(task_ids)

    def discard(self, *tasks: TaskLike | Iterable[TaskLike]) -> None:
        """Drop tasks from the watch and its report, with their undelivered events.

        Raises:
            ValueError, TypeError: Not a task; nothing is dropped then.
            RuntimeError: Called outside the event loop of the manager.
        """
        task_ids = task_ids_of(tasks, self._engine.secrets.hide_in_path)
        self._engine.check_loop()
        for task_id in task_ids:
            slot = self._drop(task_id)
            self._owed.pop(task_id, None)
            if slot is not None and not slot.is_final:
                self._unfinished -= 1
        if self._past:
            kept = [event for event in self._past if event.task_id not in task_ids]
            self._past = deque(kept)
        if self.is_endless:
            under = self._engine.logon.generation
            self._unwanted.update(dict.fromkeys(task_ids, under))
            self._doubted.difference_update(task_ids)
            now = self._engine.loop.time()
            self._ended.extend((now, task_id, False) for task_id in task_ids)
        self._engine.roster.discard(self._me, task_ids)
        self._wake()

    async def wait(self) -> Report:
        """Drain the watch to its end; return the report.

        Raises:
            WatchTimeoutError: Its time ran out.
            LogonError, TransportError, CertificateError: It cannot go on.
            ClosedError: It was closed, or its manager.
            RuntimeError: Another coroutine reads it, or it is called outside the event
                loop of the manager.
        """
        async for _ in self:
            continue
        return self.report

    async def aclose(self) -> None:
        """Stop watching; the tasks go on at the server. May be called twice.

        Raises:
            RuntimeError: Called outside the event loop of the manager.
        """
        if self._cut_by is None:
            self._engine.check_loop()
            self._engine.roster.discard(self._me, self._slots)
            self.cut(ClosedError(what="the watch", advice="it was closed"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskEvent:
        self._engine.check_loop()
        if self._reader is not None:
            text = (
                "another coroutine is reading this watch: one reader at a time; make"
                " a second watch of the same tasks, it costs no poll"
            )
            raise RuntimeError(text)
        while True:
            # From here to the return there is no await: a cancelled reader must not
            # take an event with it.
            if self._owed or self._past:
                return self._deliver()
            if not self._unfinished and not self.is_endless:
                self._disarm()
                raise StopAsyncIteration
            if self._cut_by is not None:
                if self.is_endless and isinstance(self._cut_by, WatchTimeoutError):
                    raise StopAsyncIteration
                raise _fresh(self._cut_by)
            self._reader = self._engine.loop.create_future()
            _waiting.add(self)
            try:
                await self._reader
            finally:
                self._reader = None
                _waiting.discard(self)

    def __repr__(self) -> str:
        report = self.report
        told = (
            f"{len(report.unfinished)} running, {len(report.succeeded)} succeeded,"
            f" {len(report.failed)} failed, {len(report.lost)} lost"
        )
        state = (
            "" if self._cut_by is None else f"; ended: {type(self._cut_by).__name__}"
        )
        count = len(self._owed) + len(self._past)
        owed = f"; {count} {'event' if count == 1 else 'events'} to read" * bool(count)
        number = len(self._slots)
        what = f"{number} {'task' if number == 1 else 'tasks'}"
        if self.is_endless:
            what = f"all tasks, {number} so far"
        return f"<Watch of {what}: {told}{owed}{state}>"

    # --- for the engine

    def on_observation(self, seen: Observation) -> None:
        """Take note of what a reply proved about one task."""
        slot = self._slots.get(seen.task_id)
        if slot is None:
            return
        if slot.is_final:
            if seen.task_id not in self._doubted:
                return
            self._doubted.discard(seen.task_id)
            if not _is_another(slot, seen):
                self._engine.roster.discard(self._me, [seen.task_id])
                return
            slot = self._begin_anew(seen.task_id)
        self._changed[seen.task_id] = None
        if seen.task is not None:
            self._known.add(seen.task_id)
        if slot.observe(seen):
            self._owed[seen.task_id] = slot
            self._unfinished -= seen.is_final
            self._wake()
            if self.is_endless and slot.ended_under < self._engine.logon.generation:
                # What has its ID now is another task, perhaps listed already.
                self._engine.sweep.force_full_read()
        else:
            self._owed.pop(seen.task_id, None)

    def cut(self, error: Exception) -> None:
        """Take note that nothing more will be seen, and why."""
        if self._cut_by is None:
            self._cut_by = error
            self._disarm()
            self._engine.roster.forget(self._me)
            self._wake()

    def on_discovered(self, task_ids: Iterable[str], generation: int) -> bool:
        """Watch the tasks that are not watched yet; return whether there are such.

        A task belongs to the logon session that started it. So where the one watched
        under an ID has ended under an earlier one, this may be another: it is, if the
        first list of this logon session did not have it; if it had, the task itself
        has to tell, since a server may keep tasks beyond a logon session.
        """
        if self._cut_by is not None:
            return False
        new: list[str] = []
        doubted: list[str] = []
        for one in task_ids:
            slot = self._slots.get(one)
            if slot is None:
                if one not in self._unwanted:
                    new.append(one)
            elif slot.ended_under < generation:
                is_known = slot.latest is not None and slot.latest.task is not None
                if self._listed_under < generation and is_known:
                    slot.ended_under = generation
                    doubted.append(one)
                else:
                    self._retire(one)
                    new.append(one)
        if doubted:
            self._doubted.update(doubted)
            self._engine.subscribe(self._me, doubted)
        self._add(new)
        return bool(new)

    def on_listed(self, found: Container[str] | None, generation: int) -> bool:
        """Take note of every ID that there is; tell whether that is awaited if None.

        Under another logon session an ID that was discarded and has gone is another
        task when it comes again. And of what has ended and gone nothing is kept for
        ever. It is looked for twice, since one list may be abridged.
        """
        now, ended = self._engine.loop.time(), self._ended
        due = now - _LOOKS_APART
        if found is None:
            return bool(ended) and ended[0][0] <= due
        for _ in range(min(len(ended), _LOOKS_AT_ONCE)):
            if ended[0][0] > due:
                break
            _, task_id, was_gone = ended.popleft()
            is_gone = task_id not in found
            if not (was_gone and is_gone):
                ended.append((now, task_id, is_gone))
                continue
            self._unwanted.pop(task_id, None)
            slot = self._slots.get(task_id)
            if slot is not None and slot.is_final and slot.owed is None:
                self._drop(task_id)
        if generation > self._listed_under:
            self._listed_under = generation
            self._unwanted = {
                one: under
                for one, under in self._unwanted.items()
                if one in found or under >= generation
            }
        return False

    def expire(self) -> None:
        """End the watch, since its own time ran out."""
        assert self._timeout is not None
        self._timer = None  # so that whatever is added later is timed out at once
        if self._unfinished or self.is_endless:
            error = self._engine.roster.timed_out(self._timeout, self.report)
            self._engine.roster.discard(self._me, self._slots)
            self.cut(error)

    def _add(self, task_ids: Iterable[str]) -> None:
        slots, replies = self._slots, self._engine.replies
        new: list[str] = []
        for task_id in task_ids:
            slot = slots.get(task_id)
            if slot is not None:
                if slot.ended_under >= replies.started_under(task_id):
                    continue
                self._retire(task_id)  # a submit since then gave it to another task
            slots[task_id] = PendingEvent()
            self._changed[task_id] = None
            new.append(task_id)
        if new:
            self._unfinished += len(new)
            self._engine.subscribe(self._me, new)
            records = self._engine.roster.records
            self._known.update(one for one in new if records[one].task is not None)
            self._arm()
            self._wake()

    def _arm(self) -> None:
        if self._deadline is not None and self._timer is None:
            self._timer = self._engine.loop.call_at(
                self._deadline, _expire, weakref.ref(self)
            )

    def _begin_anew(self, task_id: str) -> PendingEvent:
        """Return the slot of another task under an ID; it is subscribed to already."""
        self._retire(task_id)
        slot = self._slots[task_id] = PendingEvent()
        self._changed[task_id] = None
        self._unfinished += 1
        return slot

    def _retire(self, task_id: str) -> None:
        """Let a task that has ended go, but for its final event if that is owed."""
        slot = self._drop(task_id)
        assert slot is not None
        self._doubted.discard(task_id)
        if self._owed.pop(task_id, None) is not None:
            self._past.append(slot.deliver())

    def _drop(self, task_id: str) -> PendingEvent | None:
        """Let the slot of a task go, if there is one, and what was known of it."""
        slot = self._slots.pop(task_id, None)
        if slot is not None:
            self._known.discard(task_id)
            self._changed.pop(task_id, None)
            self._removed.add(task_id)
        return slot

    def _deliver(self) -> TaskEvent:
        if self._past:
            return self._past.popleft()
        task_id = next(iter(self._owed))
        event = self._owed.pop(task_id).deliver()
        if self.is_endless and event.is_final:
            self._ended.append((self._engine.loop.time(), task_id, False))
        return event

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Waiter:
    """Waits for one task; what `SessionManager.wait` stands on."""

    def __init__(self, engine: Engine, task_id: str, pace: Pace) -> None:
        self.pace = pace
        self._engine = engine
        self._task_id = task_id
        self._end: asyncio.Future[TaskEvent | Exception] = engine.loop.create_future()
        self._slot = PendingEvent()
        self._me = engine.roster.reference(self, (task_id,))

    async def wait(self, seconds: float | None) -> Task:
        """Return the finished task.

        Raises:
            TaskFailedError: It finished without success.
            TaskLostError: It can no longer be learnt of.
            WatchTimeoutError: So many `seconds` passed.
        """
        engine = self._engine
        engine.subscribe(self._me, [self._task_id])
        timer = None
        if seconds is not None:
            timer = engine.loop.call_later(seconds, self._expire, seconds)
        _waiting.add(self)
        try:
            end = await self._end
        finally:
            _waiting.discard(self)
            if timer is not None:
                timer.cancel()
            engine.roster.discard(self._me, [self._task_id])
            engine.roster.forget(self._me)
        if isinstance(end, Exception):
            raise _fresh(end)
        if end.state is TaskState.LOST:
            raise lost_error(end)
        assert end.task is not None
        return end.task.raise_for_failure()

    def on_observation(self, seen: Observation) -> None:
        """Take note of what a reply proved about the task."""
        self._slot.observe(seen)
        event = self._slot.latest
        if event is not None and event.is_final and not self._end.done():
            self._end.set_result(event)

    def cut(self, error: Exception) -> None:
        """Take note that nothing more will be seen, and why."""
        if not self._end.done():
            self._end.set_result(error)

    def on_discovered(
        self,
        task_ids: Iterable[str],  # noqa: ARG002 - a protocol
        generation: int,  # noqa: ARG002 - a protocol
    ) -> bool:
        """Want nothing more: a wait is for one task."""
        return False

    def on_listed(
        self,
        found: Container[str] | None,  # noqa: ARG002 - a protocol
        generation: int,  # noqa: ARG002 - a protocol
    ) -> bool:
        """Want nothing more: a wait is for one task."""
        return False

    def _expire(self, seconds: float) -> None:
        report = Report(outcomes={self._task_id: self._slot.latest})
        self.cut(self._engine.roster.timed_out(seconds, report))


def _is_another(slot: PendingEvent, seen: Observation) -> bool:
    """Tell whether what was seen is not the task that has ended under its ID."""
    before = None if slot.latest is None else slot.latest.task
    task = seen.task
    if seen.state is TaskState.LOST or before is None or task is None:
        return False
    # A Result that comes late is no other task.
    has_same_end = not before.is_finished or before.result in {None, task.result}
    return not has_same_end or is_another(before, task)


def _expire(watch: "weakref.ReferenceType[Watch]") -> None:
    expiring = watch()
    if expiring is not None:
        expiring.expire()


def _fresh(error: Exception) -> Exception:
    """Return a copy to be raised, so that raisers do not share one traceback."""
    again: Callable[[], Exception] | None = getattr(error, "again", None)
    return error if again is None else again()


of_the_package(
    Watch,
)
