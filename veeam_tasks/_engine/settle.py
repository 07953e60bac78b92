"""What a collection of tasks means for each watched task, settled in slices of time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import attrs

from veeam_tasks._engine.decisions import contradicts
from veeam_tasks._engine.records import BUSY, DueState, PollTimes, TaskRecord
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
        is_as_before: The whole body is that of the last one; then nothing was cut.
        digest: Hash of the whole body, if it was one page.
    """

    pages: CollectionReader
    moment: PollTimes
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
        records: What is watched, by ID.
        meet_task: Told of each task that changed.
        again: Lets a record be asked for singly, after a pause.
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
    records: Mapping[str, TaskRecord]
    meet_task: Callable[[TaskRecord, Task, int, PollTimes], None]
    again: Callable[[TaskRecord, float], None]
    is_together: bool
    quick: frozenset[Pace] = frozenset()
    settled: int = 0
    lowest: float = float("inf")
    jitter: float = 0.0
    stale: MalformedReplyError | None = None
    _breath: TimeSlice = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._breath = TimeSlice(self.loop)

    async def settle(self, collection: Collection) -> None:
        """Compare, decode what changed, and tell.

        Raises:
            MalformedReplyError: It is no collection after all.
        """
        moment, pages = collection.moment, collection.pages
        if collection.is_unchanged:
            await self._meet_same(list(self.records.values()), moment)
            return
        same, changed = await self._compare(pages.found, moment)
        tasks = await pages.decode(changed)
        if tasks is None:
            # A slice does not stand for itself, so none is relied on.
            tasks = await pages.decode_whole()
            same, changed = await self._compare(tasks, moment)
        await self._meet_same(same, moment)
        await self._meet_changed(changed, tasks, collection)

    async def _compare(
        self, found: Mapping[str, bytes | Task], moment: PollTimes
    ) -> tuple[list[TaskRecord], Found]:
        """Return the watched records that did not change, and what did."""
        records, same, changed = self.records, list[TaskRecord](), Found()
        breath = self._breath
        items = iter(found.items())
        while portion := list(islice(items, _PORTION)):
            for task_id, piece in portion:
                record = records.get(task_id)
                if record is None or _is_known_better(record, moment):
                    continue
                if record.due >= 0 and record.pace in self.quick:
                    continue  # its own polls tell more; a hash of theirs is another
                if record.unchanged_hash == hash(piece) and (
                    moment.generation == record.generation
                ):
                    same.append(record)
                elif moment.generation >= record.generation:
                    changed[task_id] = piece
            if breath.is_due:
                await breath.take()
        return same, changed

    async def _meet_same(self, same: Iterable[TaskRecord], moment: PollTimes) -> None:
        breath = self._breath
        items = iter(same)
        while portion := list(islice(items, _PORTION)):
            for record in portion:
                # Someone may have come anew meanwhile, who is to be told.
                if record.unchanged_hash is None or record.due in BUSY:
                    continue
                self.settled += 1
                record.sent, record.sent_wall = moment.sent, moment.sent_wall
                if self.is_together and record.pace in self.quick:
                    if record.due == DueState.IN_COLLECTION:
                        self.again(record, record.pause)
                    continue
                if record.due == DueState.IN_COLLECTION:
                    record.grow()
                elif self.is_together:
                    record.due = DueState.IN_COLLECTION
                if record.pause < self.lowest:
                    self.lowest, self.jitter = record.pause, record.pace.jitter
            if breath.is_due:
                await breath.take()

    async def _meet_changed(
        self, changed: Found, tasks: Mapping[str, Task], collection: Collection
    ) -> None:
        breath, moment = self._breath, collection.moment
        for task_id, piece in changed.items():
            record = self.records.get(task_id)
            if record is None or _is_known_better(record, moment):
                continue
            task = tasks[task_id]
            if contradicts(record, task, moment):
                self._meet_contradiction(record, task, collection)
                continue
            record.contradicted = None
            self.settled += 1
            self.meet_task(record, task, hash(piece), moment)
            self._place(record)
            if breath.is_due:
                await breath.take()

    def _place(self, record: TaskRecord) -> None:
        """Let a record that was told of something new wait for what is next."""
        if record.due == DueState.DROPPED:
            return
        is_quick = self.is_together and record.pace in self.quick
        # The collection may leave out the Result that the task itself has.
        if record.finished_without_result or is_quick:
            self.again(record, record.pause)
            return
        if record.pause < self.lowest:
            self.lowest, self.jitter = record.pause, record.pace.jitter
        if self.is_together:
            record.due = DueState.IN_COLLECTION

    def _meet_contradiction(
        self, record: TaskRecord, task: Task, collection: Collection
    ) -> None:
        """Ask the task itself; once it has denied this, it is not asked again."""
        sent = collection.moment.sent
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
            self.again(record, 0.0)


def _is_known_better(record: TaskRecord, moment: PollTimes) -> bool:
    """Tell whether the task is or was asked for singly since, or has to be."""
    is_newer = moment.sent < record.sent
    return is_newer or record.due in BUSY or record.finished_without_result > 0
