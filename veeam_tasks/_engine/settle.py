"""What a collection of tasks means for each watched task, settled in slices of time."""

import asyncio
from collections.abc import Iterable, Mapping

import attrs

from veeam_tasks._engine.decisions import contradicts
from veeam_tasks._engine.records import BUSY, DueState, PollTimes, TaskRecord
from veeam_tasks._engine.tracker import Tracker
from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task
from veeam_tasks._pace import Pace
from veeam_tasks._redaction import visible
from veeam_tasks._session.collection import CollectionReader, Found, TimeSlice

_PORTION = 64


@attrs.frozen(kw_only=True)
class Collection:
    """All tasks of the logon session, as they were fetched.

    Attributes:
        seconds: What it took to fetch and to cut them; None if the loop was held, which
            tells nothing of that.
        size: Bytes of all pages.
        is_unchanged: The whole body is that of the last one; then nothing was cut.
        unchanged_hash: Hash of the whole body, if it was one page.
    """

    pages: CollectionReader
    times: PollTimes
    seconds: float | None
    size: int
    is_unchanged: bool = False
    unchanged_hash: int | None = None


@attrs.define(eq=False, kw_only=True)
class Settling:
    """Settles every watched task with one collection.

    The loop is let go in between, so that ten thousand tasks do not hold it; so each
    record is looked at again before it is touched.

    Args:
        tracker: Has the records, acts on tasks that changed, and lets a record be asked
            for singly.
        is_together: Whether what is settled waits for the next collection.
        quick: Paces whose tasks are asked for singly beside it.

    Attributes:
        settled: How many watched tasks were answered.
        lowest: The shortest pause among them.
        jitter: The share by which that one may be cut.
        stale: Why the collection is not to be relied on: it shows again what a single
            poll has denied.
    """

    loop: asyncio.AbstractEventLoop
    tracker: Tracker
    is_together: bool
    quick: frozenset[Pace] = frozenset()
    settled: int = 0
    lowest: float = float("inf")
    jitter: float = 0.0
    stale: MalformedReplyError | None = None
    _time_slice: TimeSlice = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._time_slice = TimeSlice(self.loop)

    async def settle(self, collection: Collection) -> None:
        """Compare, decode what changed, and tell.

        Raises:
            MalformedReplyError: It is no collection after all.
        """
        times, pages = collection.times, collection.pages
        if collection.is_unchanged:
            await self._on_same(list(self.tracker.records.values()), times)
            return
        same, changed = await self._compare(pages.found, times)
        tasks = await pages.decode(changed)
        if tasks is None:
            # A slice does not stand for itself, so none is relied on.
            tasks = await pages.decode_whole()
            same, changed = await self._compare(tasks, times)
        await self._on_same(same, times)
        await self._on_changed(changed, tasks, collection)

    async def _compare(
        self, found: Mapping[str, bytes | Task], times: PollTimes
    ) -> tuple[list[TaskRecord], Found]:
        """Return the watched records that did not change, and what did."""
        records, same, changed = self.tracker.records, list[TaskRecord](), Found()
        async for chunk in self._time_slice.chunks(found.items()):
            for task_id, piece in chunk:
                record = records.get(task_id)
                if record is None or _is_known_better(record, times):
                    continue
                if record.due >= 0 and record.pace in self.quick:
                    continue  # its own polls tell more; a hash of theirs is another
                if record.unchanged_hash == hash(piece) and (
                    times.generation == record.generation
                ):
                    same.append(record)
                elif times.generation >= record.generation:
                    changed[task_id] = piece
        return same, changed

    async def _on_same(self, same: Iterable[TaskRecord], times: PollTimes) -> None:
        # Done for every record each time, so what it needs are local names; and a pace
        # is hashed only if any is quick, since that costs as much as all the rest.
        sent, sent_wall, waiting = times.sent, times.sent_wall, DueState.IN_COLLECTION
        quick = self.quick if self.is_together else frozenset()
        async for chunk in self._time_slice.chunks(same):
            for record in chunk:
                due = record.due
                # Someone may have come anew meanwhile, who is to be told.
                if record.unchanged_hash is None or due in BUSY:
                    continue
                self.settled += 1
                record.sent, record.sent_wall = sent, sent_wall
                if quick and record.pace in quick:
                    if due == waiting:
                        self.tracker.reschedule(record, record.pause)
                    continue
                if due == waiting:
                    record.grow()
                elif self.is_together:
                    record.due = waiting
                if record.pause < self.lowest:
                    self.lowest, self.jitter = record.pause, record.pace.jitter

    async def _on_changed(
        self, changed: Found, tasks: Mapping[str, Task], collection: Collection
    ) -> None:
        time_slice, times = self._time_slice, collection.times
        for task_id, piece in changed.items():
            record = self.tracker.records.get(task_id)
            if record is None or _is_known_better(record, times):
                continue
            task = tasks[task_id]
            if contradicts(record, task, times):
                self._on_contradiction(record, task, collection)
                continue
            record.contradicted = None
            self.settled += 1
            self.tracker.on_task(record, task, hash(piece), times)
            self._place(record)
            if time_slice.is_over:
                await time_slice.renew()

    def _place(self, record: TaskRecord) -> None:
        """Let a record that was told of something new wait for what is next."""
        if record.due == DueState.DROPPED:
            return
        is_quick = self.is_together and record.pace in self.quick
        # The collection may leave out the Result that the task itself has.
        if record.finished_without_result or is_quick:
            self.tracker.reschedule(record, record.pause)
            return
        if record.pause < self.lowest:
            self.lowest, self.jitter = record.pause, record.pace.jitter
        if self.is_together:
            record.due = DueState.IN_COLLECTION

    def _on_contradiction(
        self, record: TaskRecord, task: Task, collection: Collection
    ) -> None:
        """Ask the task itself; once it has denied this, it is not asked again."""
        sent = collection.times.sent
        if (
            record.contradicted == task.raw_state
            and record.sent > record.contradicted_at
        ):
            assert record.task is not None
            problem = (
                f"it shows {record.task_id} {visible(task.raw_state)}, which is"
                f" {visible(record.task.raw_state)}"
            )
            self.stale = MalformedReplyError(
                request=collection.pages.shown, problem=problem
            )
            return
        record.contradicted, record.contradicted_at = task.raw_state, sent
        if record.due != DueState.READY:
            self.tracker.reschedule(record, 0.0)


def _is_known_better(record: TaskRecord, times: PollTimes) -> bool:
    """Tell whether the task is or was asked for singly since, or has to be."""
    is_newer = times.sent < record.sent
    return is_newer or record.due in BUSY or record.finished_without_result > 0
