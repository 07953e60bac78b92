"""What a collection of tasks means for each watched task, settled in slices of time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import attrs

from veeam_tasks import _slices, _wire
from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._exchange import Reply
from veeam_tasks._model import Task
from veeam_tasks._record import BUSY, Moment, Phase, Record
from veeam_tasks._text import Secrets

_LONGEST_HOLD = 0.005
_PORTION = 64

Found = dict[str, bytes | Task]


@attrs.frozen(kw_only=True)
class Collection:
    """All tasks of the logon session, as slices of the body or decoded.

    Attributes:
        is_as_before: The whole body is that of the last one; then nothing was cut.
        digest: Hash of the whole body, if it was one page.
    """

    found: Found
    moment: Moment
    seconds: float
    size: int
    sample: Reply = attrs.field(repr=False)
    is_as_before: bool = False
    digest: int | None = None


@attrs.define(eq=False, kw_only=True)
class Settling:
    """Settles every watched task with one collection.

    The loop is let go in between, so that ten thousand tasks do not hold it; so each
    record is looked at again before it is touched.

    Args:
        records: What is watched, by ID.
        meet_task: Told of each task that changed.
        is_together: Whether what is settled waits for the next collection.

    Attributes:
        settled: How many watched tasks were answered.
        lowest: The shortest pause among them.
    """

    loop: asyncio.AbstractEventLoop
    records: Mapping[str, Record]
    meet_task: Callable[[Record, Task, int, Moment], None]
    secrets: Secrets
    is_together: bool
    settled: int = 0
    lowest: float = float("inf")
    _breath: "_Breath" = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._breath = _Breath(self.loop)

    async def settle(self, collection: Collection) -> None:
        """Compare, decode what changed, and tell.

        Raises:
            MalformedReplyError: It is no collection after all.
        """
        moment = collection.moment
        if collection.is_as_before:
            await self._meet_same(list(self.records.values()), moment)
            return
        same, changed = await self._compare(collection.found, moment)
        tasks = await self._decode(changed, collection)
        if tasks is None:
            # A slice does not stand for itself, so none is relied on.
            whole = _wire.decode_tasks(collection.sample, self.secrets).tasks
            tasks = {task.task_id: task for task in whole}
            same, changed = await self._compare(tasks, moment)
        await self._meet_same(same, moment)
        await self._meet_changed(changed, tasks, moment)

    async def _compare(
        self, found: Mapping[str, bytes | Task], moment: Moment
    ) -> tuple[list[Record], Found]:
        """Return the watched records that did not change, and what did."""
        records, same, changed = self.records, list[Record](), Found()
        breath = self._breath
        items = iter(found.items())
        while portion := list(islice(items, _PORTION)):
            for task_id, piece in portion:
                record = records.get(task_id)
                # One that was asked for singly since is known better.
                if record is None or moment.sent < record.sent or record.phase in BUSY:
                    continue
                if record.digest == hash(piece) and (
                    moment.generation == record.generation
                ):
                    same.append(record)
                elif moment.generation >= record.generation:
                    changed[task_id] = piece
            if breath.is_due:
                await breath.take()
        return same, changed

    async def _decode(
        self, changed: Found, collection: Collection
    ) -> Mapping[str, Task] | None:
        """Return what changed, decoded; None if a slice does not stand for itself."""
        tasks = {key: piece for key, piece in changed.items() if type(piece) is Task}
        slices = {key: piece for key, piece in changed.items() if type(piece) is bytes}
        breath = self._breath
        items = iter(slices.items())
        while portion := dict(islice(items, _PORTION)):
            try:
                decoded = _slices.decode_slices(
                    collection.sample, portion, self.secrets
                )
            except MalformedReplyError:
                return None
            tasks.update((task.task_id, task) for task in decoded)
            if breath.is_due:
                await breath.take()
        return tasks

    async def _meet_same(self, same: Iterable[Record], moment: Moment) -> None:
        breath = self._breath
        items = iter(same)
        while portion := list(islice(items, _PORTION)):
            for record in portion:
                # Someone may have come anew meanwhile, who is to be told.
                if record.digest is None or record.phase in BUSY:
                    continue
                self.settled += 1
                record.sent, record.sent_wall = moment.sent, moment.sent_wall
                if record.phase == Phase.TOGETHER:
                    record.grow()
                elif self.is_together:
                    record.phase = Phase.TOGETHER
                self.lowest = min(self.lowest, record.pause)
            if breath.is_due:
                await breath.take()

    async def _meet_changed(
        self, changed: Found, tasks: Mapping[str, Task], moment: Moment
    ) -> None:
        breath = self._breath
        for task_id, piece in changed.items():
            record = self.records.get(task_id)
            if record is None or moment.sent < record.sent or record.phase in BUSY:
                continue
            self.settled += 1
            self.meet_task(record, tasks[task_id], hash(piece), moment)
            if record.phase != Phase.GONE:
                self.lowest = min(self.lowest, record.pause)
                if self.is_together:
                    record.phase = Phase.TOGETHER
            if breath.is_due:
                await breath.take()


class _Breath:
    """Tells when the loop has been held for long enough, and lets it go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until = loop.time() + _LONGEST_HOLD

    @property
    def is_due(self) -> bool:
        return self._loop.time() > self._until

    async def take(self) -> None:
        await asyncio.sleep(0)
        self._until = self._loop.time() + _LONGEST_HOLD
