"""Who is watched by whom, and when each record is due next."""

import asyncio
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

import attrs

from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._engine.records import (
    BUSY,
    DueState,
    PolledRecord,
    Subscriber,
    SubscriberRef,
    TaskRecord,
)
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._errors import WatchTimeoutError
from veeam_tasks._events import Report

_GONE_AT_ONCE = 64
_FIRST_POLLS_APART = 0.001


@attrs.define(eq=False, kw_only=True)
class Roster:
    """One record per watched task; its subscribers are held weakly.

    Args:
        loop: Whose clock and timer are used.
        random: Spreads polls.

    Attributes:
        is_together: Whether newcomers wait for the next collection.
        runs: The runs that are followed, by their `RunRecord.key`.
    """

    loop: asyncio.AbstractEventLoop
    random: Random = attrs.field(factory=Random)
    records: dict[str, TaskRecord] = attrs.field(factory=dict)
    runs: dict[tuple[str, int], RunRecord] = attrs.field(factory=dict)
    queue: DueQueue = attrs.field(init=False)
    is_together: bool = False
    _gone: deque[tuple[SubscriberRef, Iterator[str]]] = attrs.field(factory=deque)
    _subscribers: set[SubscriberRef] = attrs.field(factory=set)
    _next_first: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.queue = DueQueue(loop=self.loop, random=self.random)

    def reference(
        self, subscriber: Subscriber, wanted: Iterable[str] = ()
    ) -> SubscriberRef:
        """Return the weak reference by which a subscriber is known here.

        When the subscriber goes, it is taken out of the records that it wanted.

        Args:
            subscriber: Who wants to know.
            wanted: Where the IDs that it wants will be found when it has gone.
        """
        reference = SubscriberRef(subscriber, self._note_gone)
        reference.pace, reference.wanted = subscriber.pace, wanted
        hash(reference)  # kept by it; it could not be asked for once it is dead
        return reference

    def _note_gone(self, subscriber: weakref.ReferenceType[Subscriber]) -> None:
        # May run in any thread, so it does nothing that is not atomic.
        assert isinstance(subscriber, SubscriberRef)
        self._subscribers.discard(subscriber)
        self._gone.append((subscriber, iter(subscriber.wanted)))

    def timed_out(self, seconds: float, report: Report) -> WatchTimeoutError:
        """Return the error of a subscriber whose time ran out, before it is dropped.

        It tells of the first unfinished task whose last poll went wrong, if any.
        """
        runs = {record.task_id: record for record in self.runs.values()}
        for task_id in report.unfinished:
            record = self.records.get(task_id) or runs.get(task_id)
            if record is not None and record.trouble:
                said = f"the last poll of {task_id} went wrong: {record.trouble}"
                return WatchTimeoutError(seconds=seconds, report=report, trouble=said)
        return WatchTimeoutError(seconds=seconds, report=report)

    def admit(self, subscriber: SubscriberRef) -> None:
        """Know a subscriber, so that it is told when nothing can go on."""
        self._subscribers.add(subscriber)

    def add(
        self, subscriber: SubscriberRef, task_ids: Iterable[str], generation: int
    ) -> list[TaskRecord]:
        """Poll the tasks from now on for a subscriber; return the new records."""
        self.prune_gone()
        self._subscribers.add(subscriber)
        new: list[TaskRecord] = []
        for task_id in task_ids:
            record = self.records.get(task_id)
            if record is None:
                record = TaskRecord(
                    task_id=task_id, pace=subscriber.pace, first_generation=generation
                )
                self.records[task_id] = record
                new.append(record)
            record.join(subscriber)
            # Also an unchanged body is news to the newcomer.
            record.unchanged_hash = None
            if record.due not in {DueState.READY, DueState.POLLING}:
                self.schedule_first(record)
        return new

    def discard(self, subscriber: SubscriberRef, task_ids: Iterable[str]) -> None:
        """Stop polling the tasks for a subscriber."""
        for task_id in task_ids:
            record = self.records.get(task_id)
            if record is None or subscriber not in record.subscribers:
                continue
            record.leave(subscriber)
            if not record.subscribers:
                self.drop(record)

    def forget(self, subscriber: SubscriberRef) -> None:
        """Forget a subscriber that wants nothing any more."""
        self._subscribers.discard(subscriber)

    def is_known(self, subscriber: SubscriberRef) -> bool:
        """Tell whether a subscriber is there and still wants something."""
        return subscriber in self._subscribers

    @property
    def watched(self) -> int:
        """How many tasks somebody wants; drops nothing, and may run in any thread."""
        # Copied at once, since the loop's thread may change them meanwhile.
        records = [*self.records.values(), *self.runs.values()]
        wanted = (tuple(record.subscribers) for record in records)
        return sum(any(ref() is not None for ref in refs) for refs in wanted)

    def everything(self) -> Iterator[PolledRecord]:
        """Return whatever is polled: tasks, and runs that are followed."""
        yield from self.records.values()
        yield from self.runs.values()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is polled by itself."""
        return not self.records and not self.runs

    @property
    def task_ids(self) -> list[str]:
        """The tasks that are watched, those whose job session is followed included."""
        return [*self.records, *[record.task_id for record in self.runs.values()]]

    def prune_gone(self) -> None:
        """Take those whom nobody held any more out of the records that they wanted.

        In portions, since a watch may have wanted a hundred thousand: whatever is left
        is not polled for them meanwhile, see `take`.
        """
        while self._gone:
            subscriber, rest = self._gone[0]
            portion = list(islice(rest, _GONE_AT_ONCE))
            if portion:
                self.discard(subscriber, portion)
                return
            self._gone.popleft()

    def clear(self) -> list[Subscriber]:
        """Drop every record; return the subscribers that there were."""
        refs = list(self._subscribers)
        self._subscribers.clear()
        for record in self.everything():
            record.due = DueState.DROPPED
        self.records.clear()
        self.runs.clear()
        self.queue.clear()
        return [subscriber for ref in refs if (subscriber := ref()) is not None]

    def drop(self, record: PolledRecord) -> None:
        """Poll a record no more."""
        record.due = DueState.DROPPED
        # Each kind of record is forgotten where it is kept.
        if isinstance(record, RunRecord):
            self.runs.pop(record.key, None)
        if (
            isinstance(record, TaskRecord)
            and self.records.get(record.task_id) is record
        ):
            del self.records[record.task_id]

    def again(self, record: PolledRecord, pause: float) -> None:
        """Let a record be due after a pause in seconds, cut by its jitter."""
        if pause <= 0:
            self.queue.add(record)
        else:
            chance = self.random.random()
            self.queue.add_after(record, record.pace.jittered(pause, chance))

    def schedule_first(self, record: TaskRecord) -> None:
        """Let a record be due soon, never later; but not all newcomers in one burst."""
        first = record.reset_pause()
        # A Result that the collection leaves out is asked for singly.
        if self.is_together and not record.finished_without_result:
            # What is due singly stays so: the next collection may be further off.
            if record.due < 0:
                record.due = DueState.IN_COLLECTION
            return
        now = self.loop.time()
        at = max(now, self._next_first)
        if at - now > first:
            self.queue.bring_forward(record, first * self.random.random())
        elif at == now:
            self._next_first = at + _FIRST_POLLS_APART
            self.queue.add(record)
        else:
            before = record.due
            self.queue.bring_forward(record, at - now)
            if record.due != before:
                self._next_first = at + _FIRST_POLLS_APART

    def leave_collection(self) -> None:
        """Let what waited for a collection come due singly, spread over its pause."""
        self.is_together = False
        for record in self.records.values():
            if record.due == DueState.IN_COLLECTION:
                self.queue.add_after(record, record.pause * self.random.random())

    def take(self) -> PolledRecord | None:
        """Return the next record that is due and still wanted."""
        if self._gone:
            self.prune_gone()
        ready = self.queue.ready
        while ready:
            record = ready.popleft()
            if record.due != DueState.READY:
                continue
            if record.is_wanted:
                record.due = DueState.POLLING
                return record
            self.drop(record)
        return None

    def take_any(self) -> PolledRecord | None:
        """Return a record that is due, or else one that is not due yet."""
        record = self.take()
        if record is None:
            idle = (r for r in self.everything() if r.due not in BUSY)
            record = next(idle, None)
            if record is not None:
                record.due = DueState.POLLING
        return record
