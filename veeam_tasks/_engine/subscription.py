"""What one watch wants of the engine, the events that it is owed, and how it ends.

It is not the `Watch` that callers hold, so that what the engine calls is not offered to
them. The watch holds its subscription, the engine knows it weakly, and it does not know
its watch: a reference back would make a circle, and a watch that nobody holds any more
would be polled for until the garbage collector comes by.
"""

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Container, Iterable, Mapping
from typing import Any

from veeam_tasks._engine.checkpoint_values import Checkpoint
from veeam_tasks._engine.checkpoints import (
    Hide,
    written_event,
    written_run,
    written_task,
    written_watch,
)
from veeam_tasks._engine.decisions import is_another_end
from veeam_tasks._engine.engine import Engine
from veeam_tasks._engine.held_time import TimeLimit
from veeam_tasks._engine.pending_event import Latest, PendingEvent, PendingRun, Reports
from veeam_tasks._engine.reader import Reader
from veeam_tasks._engine.resuming import (
    Resumed,
    delivered_event,
    is_earlier,
    pending_of,
    resumed,
    run_of,
)
from veeam_tasks._engine.run_decisions import replaced, searching
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._errors import (
    WatchTimeoutError,
    fresh,
)
from veeam_tasks._events import Observation, Report, TaskEvent
from veeam_tasks._model import RunStage, Task, TaskState
from veeam_tasks._pace import Pace

_LOOKS_APART, _LOOKS_AT_ONCE = 1800.0, 4096

_BUSY = (
    "another coroutine is reading this watch: one reader at a time; make a second watch"
    " of the same tasks, it costs no poll"
)


class Subscription:
    """The tasks of one watch, as the engine tells of them and a reader takes them.

    Args:
        find_timeout: How long the job session of a finished task may be searched, in
            seconds; None if job sessions are not followed.
        checkpoint: What to go on with; None to begin.
        limit: Instead of `timeout`: one that has begun already.

    Attributes:
        pace: How long the watch pauses between two polls of one task.
        is_endless: Whether it watches all tasks, so that it never ends by itself.
        pending: What was delivered and is owed of each task, in the order watched.
        ended_by: Why nothing more will be seen; None while it goes on.
    """

    def __init__(
        self,
        engine: Engine,
        task_ids: Iterable[str],
        *,
        pace: Pace,
        timeout: float | None,
        is_endless: bool,
        find_timeout: float | None = None,
        checkpoint: Checkpoint | None = None,
        limit: TimeLimit | None = None,
    ) -> None:
        self.pace = pace
        self.is_endless = is_endless
        self.find_timeout = find_timeout
        # What is followed now, by the task that has started it.
        self._runs: dict[str, RunRecord] = {}
        self._engine = engine
        self.pending: dict[str, PendingEvent] = {}
        self._owed: dict[str, PendingEvent] = {}
        # Final ones, owed before their ID came anew.
        self._past: deque[TaskEvent] = deque()
        # Discarded, and not to be discovered again; under which generation it was.
        self._unwanted: dict[str, int] = {}
        self._doubted: set[str] = set()  # ended, and asked for whether it is another
        # What has ended and was delivered or discarded: when it was looked at last, and
        # whether the server had it no more.
        self._ended: deque[tuple[float, str, bool]] = deque()
        # Few as a rule, so that they cost less than those that were seen.
        self._unseen: set[str] = set()
        self._reports = Reports(self.pending)
        self._unfinished = self._listed_under = 0
        # The last one that read; it may read others as well, then it has a number.
        self._reader = self._own_reader = Reader(engine.loop, _BUSY)
        self._number = 0
        self.ended_by: Exception | None = None
        self._me = engine.tracker.reference(self, self.pending, self._runs)
        if limit is None and timeout is not None:
            limit = engine.time_limit(timeout)
        self._limit = limit
        self._timer: asyncio.Handle | None = None
        self._resumed: dict[str, Resumed] = {}
        self._checkpoint = checkpoint
        # Only of what is followed, and only if the program traces.
        self._spans = None if find_timeout is None else engine.spans.runs()
        if checkpoint is not None:
            self._restore(checkpoint)
        self.add(task_ids)
        self._arm()
        if is_endless:
            engine.subscribe_all(self._me)

    # --- for the watch

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The latest known tasks; a view."""
        records = self._engine.tracker.records
        return Latest(self.pending, self._unseen, records, self._runs)

    @property
    def owed(self) -> int:
        """How many events there are to read."""
        return len(self._owed) + len(self._past)

    @property
    def goes_on(self) -> bool:
        """Whether something is still to be seen."""
        return self.ended_by is None and bool(self._unfinished or self.is_endless)

    @property
    def is_cut(self) -> bool:
        """Whether an error ended it before its tasks did."""
        if self.is_endless:
            is_quiet = isinstance(self.ended_by, WatchTimeoutError)
            return self.ended_by is not None and not is_quiet
        return self.ended_by is not None and bool(self._unfinished)

    def report(self) -> Report:
        """Return what is known now; it costs what has changed since the last one."""
        return self._reports.make()

    def want(self, task_ids: Iterable[str]) -> None:
        """Watch tasks that a caller names, whether or not they were discarded."""
        for task_id in task_ids:
            self._unwanted.pop(task_id, None)
        self.add(task_ids)

    def discard(self, task_ids: list[str]) -> None:
        """Drop tasks, with their undelivered events."""
        for task_id in task_ids:
            entry = self._drop(task_id)
            self._owed.pop(task_id, None)
            if entry is not None and not entry.is_final:
                self._unfinished -= 1
        if self._past:
            kept = [event for event in self._past if event.task_id not in task_ids]
            self._past = deque(kept)
        if self.is_endless:
            under = self._engine.session.generation
            self._unwanted.update(dict.fromkeys(task_ids, under))
            self._doubted.difference_update(task_ids)
            now = self._engine.loop.time()
            self._ended.extend((now, task_id, False) for task_id in task_ids)
        self._engine.tracker.discard(self._me, task_ids)
        self._leave_runs(task_ids)
        if self._spans is not None:
            self._spans.drop(task_ids)
        self._wake()

    def close(self, error: Exception) -> None:
        """Want nothing any more, because of an error."""
        self._engine.tracker.discard(self._me, self.pending)
        self._leave_runs(list(self._runs))
        self.on_end(error)

    def read_by(self, reader: Reader, number: int) -> None:
        """Let a reader be told from now on, under a number, that there is something.

        Raises:
            RuntimeError: A coroutine waits for the events already.
        """
        if self._reader is not reader:
            self._reader.check_free()
            self._reader.is_whole = False
            self._reader, self._number = reader, number
            reader.note(number)

    async def next_event(self) -> TaskEvent:
        """Return the next event, once there is one; see `Watch.wait` for the errors."""
        reader = self._own_reader
        reader.check_free()
        self.read_by(reader, 0)
        while True:
            # From here to the return there is no await: a cancelled reader must not
            # take an event with it.
            event = self.take()
            if event is not None:
                return event
            await reader.wait()

    def take(self) -> TaskEvent | None:
        """Return the next event, None if there is none yet.

        Raises:
            StopAsyncIteration: There will be none.
            VeeamTasksError: There will be none, because of this.
        """
        if self._owed or self._past:
            return self._deliver()
        if self.goes_on:
            return None
        self._disarm()
        if self.is_cut and self.ended_by is not None:
            raise fresh(self.ended_by)
        raise StopAsyncIteration

    # --- for the engine

    def on_observation(self, seen: Observation) -> None:
        """Take note of what a reply proved about one task."""
        entry = self.pending.get(seen.task_id)
        if entry is None:
            return
        if entry.is_final:
            if seen.task_id not in self._doubted:
                return
            self._doubted.discard(seen.task_id)
            if not _is_another(entry, seen):
                self._engine.tracker.discard(self._me, [seen.task_id])
                return
            entry = self._begin_anew(seen.task_id)
        seen = self._meet_resumed(seen)
        if seen.is_final and self.find_timeout is not None:
            seen = self._go_on(seen, self.find_timeout)
        self._reports.note_changed(seen.task_id)
        if seen.task is not None and self._unseen:
            self._unseen.discard(seen.task_id)
            if not self._unseen:
                self._unseen.clear()  # or it would keep the room of all it ever held
        if entry.observe(seen):
            self._owe(seen, entry)
        else:
            self._owed.pop(seen.task_id, None)

    def _owe(self, seen: Observation, entry: PendingEvent) -> None:
        """Let an event be owed, and wake who reads."""
        if self._spans is not None:
            self._spans.observed(seen)
        self._owed[seen.task_id] = entry
        self._unfinished -= seen.is_final
        self._wake()
        if self.is_endless and entry.ended_under < self._engine.session.generation:
            # What has its ID now is another task, perhaps listed already.
            self._engine.collection.force_full_read()

    def _go_on(self, seen: Observation, find_timeout: float) -> Observation:
        """Return what the end of a task means where its job session is followed."""
        task_id = seen.task_id
        if self._runs.pop(task_id, None) is not None:
            return seen  # it was the end of the job session
        told = self._resumed.get(task_id)
        submitted = None if told is None else told.submitted
        run = self._engine.runs.begin(self._me, seen, find_timeout, submitted)
        if run is None:
            return seen
        self._runs[task_id] = run
        if run.latest is not None:
            # Another watch has followed it for a while.
            self._engine.loop.call_soon(self._catch_up, run)
        return searching(seen, run)

    def _catch_up(self, run: RunRecord) -> None:
        """Take note of what others know already of a run that is followed here too."""
        is_followed = self._runs.get(run.task_id) is run
        if is_followed and run.latest is not None:
            self.on_observation(run.latest)

    def _leave_runs(self, task_ids: Iterable[str]) -> None:
        if self._runs:
            for task_id in task_ids:
                run = self._runs.pop(task_id, None)
                if run is not None:
                    self._engine.runs.leave(self._me, run)

    def on_end(self, error: Exception) -> None:
        """Take note that nothing more will be seen, and why."""
        if self.ended_by is None:
            self.ended_by = error
            if self._spans is not None:
                self._spans.drop()
            self._disarm()
            self._engine.tracker.forget(self._me)
            self._wake()

    def on_discovered(self, task_ids: Iterable[str], generation: int) -> bool:
        """Watch the tasks that are not watched yet; return whether there are such.

        A task belongs to the logon session that started it. So where the one watched
        under an ID has ended under an earlier one, this may be another: it is, if the
        first list of this logon session did not have it; if it had, the task itself
        has to tell, since a server may keep tasks beyond a logon session.
        """
        if self.ended_by is not None:
            return False
        new: list[str] = []
        doubted: list[str] = []
        for one in task_ids:
            entry = self.pending.get(one)
            if entry is None:
                if one not in self._unwanted:
                    new.append(one)
            elif entry.ended_under < generation:
                if self._listed_under < generation and entry.latest_task is not None:
                    entry.ended_under = generation
                    doubted.append(one)
                else:
                    self._retire(one)
                    new.append(one)
        if doubted:
            self._doubted.update(doubted)
            self._engine.subscribe(self._me, doubted)
        self.add(new)
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
            entry = self.pending.get(task_id)
            if entry is not None and entry.is_final and entry.owed is None:
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
        limit = self._limit
        assert limit is not None
        self._timer = None  # so that whatever is added later is timed out at once
        if not limit.is_over(self._engine.loop.time()):
            self._arm()
        elif self._unfinished or self.is_endless:
            error = self._engine.tracker.timed_out(limit.seconds, self.report())
            self.close(error)

    def add(self, task_ids: Iterable[str]) -> None:
        """Watch the tasks that are not watched yet, or that are others by now."""
        pending, tracker = self.pending, self._engine.tracker
        new: list[str] = []
        for task_id in task_ids:
            entry = pending.get(task_id)
            if entry is not None:
                self._lose_replaced(task_id)
                self._end_replaced_run(task_id)
                if entry.ended_under >= tracker.started_under(task_id):
                    continue
                self._retire(task_id)  # a submit since then gave it to another task
            pending[task_id] = self._new_pending()
            self._reports.note_changed(task_id)
            new.append(task_id)
        if new:
            self._unfinished += len(new)
            self._engine.subscribe(self._me, new)
            records = self._engine.tracker.records
            self._unseen.update(one for one in new if records[one].task is None)
            if self._limit is not None and self._timer is None:
                # A timer that was cancelled in idleness is not one that came late.
                self._limit = self._limit.going_on(self._engine.loop.time())
            self._arm()
            self._wake()

    def _new_pending(self) -> PendingEvent:
        return PendingEvent() if self.find_timeout is None else PendingRun()

    # --- checkpoints

    def checkpoint(self, url: str, logon: str | None, saved: float) -> dict[str, Any]:
        """Return what a new process needs to go on, as JSON has it."""
        hide = self._engine.secrets.hide
        before = self._checkpoint
        return written_watch(
            url=url,
            logon=logon,
            saved=saved,
            all=self.is_endless,
            find_timeout=self.find_timeout,
            discarded=list(self._unwanted),
            past=[written_event(event, hide) for event in self._past],
            tasks=[self._written(task_id, hide, saved) for task_id in self.pending],
            extra={} if before is None else before.extra,
        )

    def _written(self, task_id: str, hide: Hide, saved: float) -> dict[str, Any]:
        entry, run = self.pending[task_id], self._runs.get(task_id)
        told = self._resumed.get(task_id)
        latest = self._engine.submits.of(task_id) if run is None else run.submitted
        submitted = (None if told is None else told.submitted) or latest
        run_mark = None
        if run is not None and not entry.is_final:
            deadline, loop = run.deadlines[self._me], self._engine.loop
            held = self._engine.queue.held.seconds - deadline.held_before
            until = saved + deadline.at + held - loop.time()
            run_mark = written_run(run, until, entry, hide)
        known = None if submitted is None else submitted.task
        record = self._engine.tracker.records.get(task_id)
        plain = written_task(
            task_id,
            entry,
            hide,
            record=None if run is not None or entry.is_final else record,
            run=run_mark,
            submitted=submitted,
            known=known,
            is_earlier=is_earlier(
                self._engine.session.generation, entry, told, run or record
            ),
        )
        return plain if told is None else {**told.mark.extra, **plain}

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take every task as it stood, and watch those that have not ended."""
        engine = self._engine
        logon, current = checkpoint.logon, engine.session.reference
        now = engine.session.generation if logon and logon == current else 0
        new: list[str] = []
        for mark in checkpoint.tasks:
            under = 0 if mark.earlier else now
            own = engine.submits.of(mark.id)
            told = self._resumed[mark.id] = resumed(mark, under, own)
            entry = pending_of(told, is_run=self.find_timeout is not None)
            self.pending[mark.id] = entry
            self._reports.note_changed(mark.id)
            if entry.owed is not None:
                self._owed[mark.id] = entry
            if entry.latest_task is None:
                self._unseen.add(mark.id)
            if entry.is_final:
                if self.is_endless:
                    self._ended.append((engine.loop.time(), mark.id, False))
                continue
            self._unfinished += 1
            if not self._resume_run(told):
                new.append(mark.id)
        self._past.extend(delivered_event(mark, now) for mark in checkpoint.past)
        self._unwanted.update(dict.fromkeys(checkpoint.discarded, now))
        engine.subscribe(self._me, new)
        self._wake()

    def _resume_run(self, told: Resumed) -> bool:
        """Go on with the job session of a task; tell whether there is one."""
        loop, find_timeout = self._engine.loop, self.find_timeout
        if find_timeout is None:
            return False
        run = run_of(
            told,
            self.pace,
            now=loop.time(),
            now_wall=time.time(),
            find_timeout=find_timeout,
        )
        if run is None:
            return False
        record = self._engine.runs.resume(self._me, *run)
        self._runs[told.mark.id] = record
        loop.call_soon(self._catch_up, record)
        return True

    def _meet_resumed(self, seen: Observation) -> Observation:
        """Return what the first reply of a task that was resumed means."""
        told = self._resumed.get(seen.task_id) if self._resumed else None
        if told is None or told.is_found or seen.stage is not RunStage.TASK:
            return seen
        under = self._engine.tracker.started_under(seen.task_id)
        met = told.meet(seen, under)
        if met.is_final and not seen.is_final:
            # Others may watch what has the ID now.
            self._engine.tracker.discard(self._me, [seen.task_id])
        return met

    def _lose_replaced(self, task_id: str) -> None:
        """Lose a resumed task whose ID a submit gave to another before it was found."""
        told = self._resumed.get(task_id) if self._resumed else None
        if told is None or told.is_found or self.pending[task_id].is_final:
            return
        tracker = self._engine.tracker
        if task_id not in self._runs and tracker.started_under(task_id) > told.under:
            tracker.discard(self._me, [task_id])
            self.on_observation(told.replaced(time.time()))

    def _end_replaced_run(self, task_id: str) -> None:
        """Follow a run no more here whose task ID a submit gave to another task.

        One watch has one place for an ID, and whoever adds it means the later task.
        """
        run, tracker = self._runs.get(task_id), self._engine.tracker
        if run is None or tracker.started_under(task_id) <= run.first_generation:
            return
        self._engine.runs.leave(self._me, run)
        self.on_observation(replaced(run, self._engine.loop.time(), time.time()))

    def _arm(self) -> None:
        if self._limit is not None and self._timer is None:
            at, call_at = self._limit.at, self._engine.loop.call_at
            self._me.timer = self._timer = call_at(at, _expire, weakref.ref(self))

    def _begin_anew(self, task_id: str) -> PendingEvent:
        """Return the entry of another task under an ID; it is subscribed to already."""
        self._retire(task_id)
        entry = self.pending[task_id] = self._new_pending()
        self._unseen.add(task_id)
        self._reports.note_changed(task_id)
        self._unfinished += 1
        return entry

    def _retire(self, task_id: str) -> None:
        """Let a task that has ended go, but for its final event if that is owed."""
        entry = self._drop(task_id)
        assert entry is not None
        self._doubted.discard(task_id)
        if self._owed.pop(task_id, None) is not None:
            while entry.owed is not None:
                self._past.append(entry.deliver())

    def _drop(self, task_id: str) -> PendingEvent | None:
        """Let the entry of a task go, if there is one, and what was known of it."""
        entry = self.pending.pop(task_id, None)
        if entry is not None:
            self._unseen.discard(task_id)
            self._reports.note_removed(task_id)
            self._resumed.pop(task_id, None)
        return entry

    def _deliver(self) -> TaskEvent:
        if self._past:
            return self._past.popleft()
        task_id = next(iter(self._owed))
        entry = self._owed.pop(task_id)
        event = entry.deliver()
        if entry.owed is not None:
            self._owed[task_id] = entry
        if not self._owed:
            self._owed.clear()  # or it would keep the room of all it ever held
        if self.is_endless and event.is_final:
            self._ended.append((self._engine.loop.time(), task_id, False))
        return event

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._reader.note(self._number)


def _is_another(entry: PendingEvent, seen: Observation) -> bool:
    """Tell whether what was seen is not the task that has ended under its ID."""
    before, task = entry.latest_task, seen.task
    if seen.state is TaskState.LOST or before is None or task is None:
        return False
    return is_another_end(before, task)


def _expire(subscription: "weakref.ReferenceType[Subscription]") -> None:
    if (expiring := subscription()) is not None:
        expiring.expire()
