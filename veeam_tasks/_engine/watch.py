"""`Watch` and `Waiter`: what callers hold of the engine.

Neither has an asyncio task of its own or opens a scope, so that each method may be
called from another asyncio task, as the lines of a REPL are.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from veeam_tasks._engine.checkpoint_values import Checkpoint
from veeam_tasks._engine.engine import Engine
from veeam_tasks._engine.held_time import TimeLimit
from veeam_tasks._engine.pending_event import PendingEvent
from veeam_tasks._engine.reader import Reader, waiting
from veeam_tasks._engine.subscription import Subscription
from veeam_tasks._errors import (
    CertificateError,
    ClosedError,
    LogonError,
    WatchTimeoutError,
    fresh,
)
from veeam_tasks._events import Observation, Report, TaskEvent, failure_of, lost_error
from veeam_tasks._model import Run, Task, TaskState
from veeam_tasks._pace import Pace
from veeam_tasks._redaction import (
    NotCopyable,
    counted,
    of_the_package,
)
from veeam_tasks._session.origins import Origins

if TYPE_CHECKING:
    from veeam_tasks._client.manager import SessionManager

TaskLike = str | Task

_LONGEST_REASON = 120


def task_ids_of(
    tasks: Iterable[TaskLike | Iterable[TaskLike]], origins: Origins
) -> list[str]:
    """Return the IDs of tasks, Hrefs, IDs, or of one iterable of them, each once.

    Args:
        tasks: What was given.
        origins: Tells those of another server.

    Raises:
        ValueError: Something is not a task ID, nor the Href of a task; or it is another
            server's.
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
        ids[origins.id_of(task)] = None
    return list(ids)


class Watch(NotCopyable):
    """Watches many tasks; an async iterator of `TaskEvent`.

    Made by `SessionManager.watch`. It polls by itself from the moment it exists, may
    be left by ``break`` and iterated on later, and stops quietly when nobody holds it
    any more. Iteration ends when every watched task has had its final event; one
    reader at a time. It raises what `wait` raises, once the events owed are delivered.
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
        manager: "SessionManager",
        is_endless: bool = False,
        find_timeout: float | None = None,
        checkpoint: Checkpoint | None = None,
        limit: TimeLimit | None = None,
    ) -> None:
        self._engine = engine
        self._manager = manager  # it lives as long as its watches
        self._subscription = Subscription(
            engine,
            task_ids,
            pace=pace,
            timeout=timeout,
            is_endless=is_endless,
            find_timeout=find_timeout,
            checkpoint=checkpoint,
            limit=limit,
        )

    @property
    def manager(self) -> "SessionManager":
        """Whose watch it is."""
        return self._manager

    @property
    def pace(self) -> Pace:
        """How long it pauses between two polls of one task."""
        return self._subscription.pace

    @property
    def is_endless(self) -> bool:
        """Whether it watches all tasks, so that it never ends by itself."""
        return self._subscription.is_endless

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The latest known `Task` by ID, of those that were seen already.

        It is a view: what it shows changes with the watch.
        """
        return self._subscription.tasks

    @property
    def report(self) -> Report:
        """What is known now of every watched task; a snapshot.

        It costs what has changed since the last one. A watch of all tasks leaves out
        what has ended, was delivered, and is gone at the server for an hour or more.
        """
        return self._subscription.report()

    def add(self, *tasks: TaskLike | Iterable[TaskLike]) -> None:
        """Watch further tasks; those watched already stay as they are.

        Raises:
            ValueError, TypeError: Not a task, or another server's; nothing is added
                then.
            ClosedError: The watch was closed.
            VeeamTasksError: The watch was cut short, by this.
            RuntimeError: Called outside the event loop of the manager.
        """
        task_ids = task_ids_of(tasks, self._engine.session.origins)
        self._engine.check_loop()
        if self._subscription.ended_by is not None:
            raise fresh(self._subscription.ended_by)
        self._subscription.want(task_ids)

    def discard(self, *tasks: TaskLike | Iterable[TaskLike]) -> None:
        """Drop tasks from the watch and its report, with their undelivered events.

        Raises:
            ValueError, TypeError: Not a task; nothing is dropped then.
            RuntimeError: Called outside the event loop of the manager.
        """
        task_ids = task_ids_of(tasks, self._engine.session.origins)
        self._engine.check_loop()
        self._subscription.discard(task_ids)

    def checkpoint(self) -> dict[str, Any]:
        """Return what a new process needs to go on, as values that JSON can hold.

        What the reader has taken counts as told, and nothing else does. It holds the
        URL, the tasks with what was told of them, where they came from and the job
        sessions that are followed; no token, session ID, password or user name.
        `SessionManager.resume` takes it. It costs a few microseconds a task.
        """
        manager = self._manager
        return self._subscription.checkpoint(
            manager.url, manager.reference, time.time()
        )

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
        if self._subscription.ended_by is None:
            self._engine.check_loop()
            error = ClosedError(what="the watch", advice="it was closed")
            self._subscription.close(error)

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
        return await self._subscription.next_event()

    def _read_by(self, reader: Reader, number: int) -> Subscription:
        """Let another reader be told of its events; see `merge`."""
        self._engine.check_loop()
        self._subscription.read_by(reader, number)
        return self._subscription

    def __repr__(self) -> str:
        subscription, report = self._subscription, self.report
        ended_by = subscription.ended_by
        state = "" if ended_by is None else f"; {why_ended(ended_by)}"
        number = len(subscription.pending)
        what = counted(number, "task")
        if self.is_endless:
            what = f"all tasks, {number} so far"
        owed = events_owed(subscription.owed)
        return f"<Watch of {what}: {counts([report])}{owed}{state}>"


def counts(reports: Iterable[Report]) -> str:
    """Return how many tasks are in each list of some reports."""
    words = {"unfinished": "running"}
    lists = ("unfinished", "succeeded", "failed", "lost")
    sums = dict.fromkeys(lists, 0)
    for report in reports:
        for name in lists:
            sums[name] += len(getattr(report, name))
    return ", ".join(f"{sum_} {words.get(name, name)}" for name, sum_ in sums.items())


def why_ended(error: Exception) -> str:
    """Return in a few words what has ended a watch; its reader is told all of it."""
    match error:
        case ClosedError(what="the watch"):
            return "closed"
        case ClosedError(advice="it was closed"):
            return "its manager was closed"
        case WatchTimeoutError():
            return f"time ran out after {error.seconds:g} s"
        case CertificateError():
            return "the server's certificate is not trusted"
        case LogonError():
            return "the logon was refused"
    text = str(error) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def events_owed(number: int) -> str:
    """Return how many events there are to read, as the end of a `repr`."""
    return f"; {counted(number, 'event')} to read" if number else ""


async def followed(watch: Watch) -> Run:
    """Return the run of the one task of a watch, at its end; the watch is closed.

    Raises:
        TaskFailedError: The task finished without success.
        TaskLostError: The task can no longer be learnt of.
        SessionFailedError: The job session ended without success.
        SessionLostError: The job session can no longer be learnt of.
        WatchTimeoutError: The time of the watch ran out.
    """
    async with watch:
        async for event in watch:
            if event.is_final:
                break
    if event.state is TaskState.LOST or not event.succeeded:
        raise failure_of(event)
    assert event.task is not None
    return Run(task=event.task, session=event.session, failures=event.failures)


class Waiter:
    """Waits for one task; what `SessionManager.wait` stands on."""

    def __init__(self, engine: Engine, task_id: str, pace: Pace) -> None:
        self.pace = pace
        self._engine = engine
        self._task_id = task_id
        self._end: asyncio.Future[TaskEvent | Exception] = engine.loop.create_future()
        self._slot = PendingEvent()
        self._timer: asyncio.Handle | None = None
        self._me = engine.tracker.reference(self, (task_id,))

    async def wait(self, seconds: float | None) -> Task:
        """Return the finished task.

        Raises:
            TaskFailedError: It finished without success.
            TaskLostError: It can no longer be learnt of.
            WatchTimeoutError: So many `seconds` passed.
        """
        engine = self._engine
        engine.subscribe(self._me, [self._task_id])
        if seconds is not None:
            self._arm(engine.time_limit(seconds))
        waiting.add(self)
        try:
            end = await self._end
        finally:
            waiting.discard(self)
            if self._timer is not None:
                self._timer.cancel()
            engine.tracker.discard(self._me, [self._task_id])
            engine.tracker.forget(self._me)
        if isinstance(end, Exception):
            raise fresh(end)
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

    def on_end(self, error: Exception) -> None:
        """Take note that nothing more will be seen, and why."""
        if not self._end.done():
            self._end.set_result(error)

    def _arm(self, limit: TimeLimit) -> None:
        self._timer = self._engine.loop.call_at(limit.at, self._expire, limit)

    def _expire(self, limit: TimeLimit) -> None:
        if not limit.is_over(self._engine.loop.time()):
            self._arm(limit)
            return
        report = Report(outcomes={self._task_id: self._slot.latest})
        self.on_end(self._engine.tracker.timed_out(limit.seconds, report))


of_the_package(Watch)
