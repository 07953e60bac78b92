"""Who watches what; what each reply means for a record, and when it is due next."""

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from random import Random
from types import MappingProxyType

import attrs

from veeam_tasks._engine import decisions as _decisions
from veeam_tasks._engine.decisions import Decision
from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._engine.health import ServerHealth
from veeam_tasks._engine.records import (
    BUSY,
    DueItem,
    DueState,
    PolledRecord,
    PollTimes,
    Subscriber,
    SubscriberRef,
    TaskRecord,
)
from veeam_tasks._engine.run_records import RunRecord, WatchedRecords
from veeam_tasks._errors import LogonError, VeeamTasksError, WatchTimeoutError
from veeam_tasks._events import Observation, Report
from veeam_tasks._model import Task
from veeam_tasks._protocol.classification import ReplyKind
from veeam_tasks._session.logon_session import ADVICE, LogonSession
from veeam_tasks._telemetry.monitor import Monitor
from veeam_tasks._telemetry.notices import TASKS

_GONE_AT_ONCE = 64
_FIRST_POLLS_APART = 0.001
_STARTED_KEPT = _RESTING_KEPT = 10_000
# Under a token with which so many rounds in a row could read nothing, none is sound.
_HOPELESS = 4 * _decisions.UNAUTHORIZED_ROUNDS


@attrs.define(eq=False, kw_only=True)
class Tracker:
    """One record per watched task; its subscribers are held weakly.

    It takes each reply as classified, has `decisions` decide, tells the subscribers,
    and puts the record back into the queue.

    Args:
        loop: Whose clock is used.
        queue: Where records wait until they are due.
        health: Is told of good and bad replies.
        session: Is told that its token is good, and that it knows tasks.
        patience: Seconds for which one task alone may give no usable reply; None for
            ever.
        random: Spreads polls.
        watched_records: Where records are kept, for health to know how many there are.
        monitor: Counts what changed.

    Attributes:
        is_together: Whether newcomers wait for the next collection.
        records: The watched tasks, by their IDs.
        runs: The runs that are followed, by their `RunRecord.key`.
        retries: How often a task was asked for again since no usable reply came.
        errors: How many replies told of no task.
    """

    loop: asyncio.AbstractEventLoop
    queue: DueQueue
    health: ServerHealth
    session: LogonSession
    patience: float | None
    random: Random
    watched_records: WatchedRecords
    monitor: Monitor = attrs.field(factory=Monitor)
    records: dict[str, TaskRecord] = attrs.field(init=False)
    runs: dict[tuple[str, int], RunRecord] = attrs.field(init=False)
    is_together: bool = False
    retries: int = 0
    errors: int = 0
    # Who went, each with the IDs that are still to be taken from it.
    _gone: deque[tuple[SubscriberRef, Iterator[str]]] = attrs.field(factory=deque)
    _subscribers: set[SubscriberRef] = attrs.field(factory=set)
    # What submits of ours gave, by ID.
    _started: dict[str, tuple[Task, PollTimes]] = attrs.field(factory=dict)
    # When the server wants to be asked for what was dropped before that.
    _resting: dict[str | tuple[str, int], float] = attrs.field(factory=dict)
    # When the next newcomer may be due.
    _next_first: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.records = self.watched_records.tasks
        self.runs = self.watched_records.runs

    # --- who watches what

    def reference(
        self,
        subscriber: Subscriber,
        wanted: Iterable[str] = (),
        followed: Mapping[str, PolledRecord] = MappingProxyType({}),
    ) -> SubscriberRef:
        """Return the weak reference by which a subscriber is known here.

        When the subscriber goes, it is taken out of the records that it wanted.

        Args:
            subscriber: Who wants to know.
            wanted: Where the IDs that it wants will be found when it has gone.
            followed: Where the runs of some of them will be found then.
        """
        reference = SubscriberRef(subscriber, self._note_gone)
        reference.pace, reference.wanted = subscriber.pace, wanted
        reference.followed, reference.timer = followed, None
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

    def add(self, subscriber: SubscriberRef, task_ids: Iterable[str]) -> None:
        """Poll the tasks from now on for a subscriber, a first time soon."""
        self.prune_gone()
        self._subscribers.add(subscriber)
        for task_id in task_ids:
            record = self.records.get(task_id)
            if record is None:
                record = self._new_record(task_id, subscriber)
            record.join(subscriber)
            # Also an unchanged body is news to the newcomer.
            record.unchanged_hash = None
            if record.due not in {DueState.READY, DueState.POLLING}:
                self.schedule_first(record)

    def _new_record(self, task_id: str, subscriber: SubscriberRef) -> TaskRecord:
        generation = self.session.generation
        record = TaskRecord(
            task_id=task_id, pace=subscriber.pace, first_generation=generation
        )
        record.not_before = self._rest_of(task_id)
        self.records[task_id] = record
        self._seed_from_submit(record)
        return record

    def _seed_from_submit(self, record: TaskRecord) -> None:
        """Let a new record know what the submit that gave its ID has shown."""
        started = self._started.get(record.task_id)
        if started is not None:
            record.task, times = started
            record.first_generation = record.generation = times.generation
            record.sent, record.sent_wall = times.sent, times.sent_wall

    def discard(self, subscriber: SubscriberRef, task_ids: Iterable[str]) -> None:
        """Stop polling the tasks for a subscriber."""
        for task_id in task_ids:
            record = self.records.get(task_id)
            if record is not None and subscriber in record.subscribers:
                self._leave(subscriber, record)

    def _leave(self, subscriber: SubscriberRef, record: PolledRecord) -> None:
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
        return not self.watched_records

    @property
    def task_ids(self) -> list[str]:
        """The tasks that are watched, those whose job session is followed included."""
        return list(self.watched_records)

    def prune_gone(self) -> None:
        """Take those whom nobody held any more out of the records that they wanted.

        In portions, since a watch may have wanted a hundred thousand: whatever is left
        is not polled for them meanwhile, see `take`.
        """
        while self._gone:
            subscriber, rest = self._gone[0]
            if subscriber.timer is not None:
                subscriber.timer.cancel()
            portion = list(islice(rest, _GONE_AT_ONCE))
            if portion:
                self.discard(subscriber, portion)
                for task_id in portion:
                    run = subscriber.followed.get(task_id)
                    if run is not None and subscriber in run.subscribers:
                        self._leave(subscriber, run)
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

    def drop(self, record: DueItem) -> None:
        """Poll a record no more."""
        record.due = DueState.DROPPED
        # Each kind of record is forgotten where it is kept.
        if isinstance(record, RunRecord):
            self._note_rest(record.key, record)
            self.runs.pop(record.key, None)
        if (
            isinstance(record, TaskRecord)
            and self.records.get(record.task_id) is record
        ):
            self._note_rest(record.task_id, record)
            del self.records[record.task_id]

    def _note_rest(self, key: str | tuple[str, int], record: DueItem) -> None:
        """Keep when the server wants to be asked again: who comes anew waits, too."""
        if record.not_before > self.loop.time():
            self._resting[key] = record.not_before
            if len(self._resting) > _RESTING_KEPT:
                del self._resting[next(iter(self._resting))]

    def _rest_of(self, key: str | tuple[str, int]) -> float:
        """Return when what nobody wanted for a while may be asked for again."""
        return self._resting.pop(key, 0.0)

    # --- what a reply means

    def on_reply(
        self,
        record: TaskRecord,
        classified: tuple[ReplyKind, Task | VeeamTasksError],
        unchanged_hash: int,
        times: PollTimes,
    ) -> VeeamTasksError | None:
        """Act on a reply to the GET of one task.

        Args:
            record: What was asked for.
            classified: What the reply proves, and the task or the error in it.
            unchanged_hash: Hash of the body.
            times: When and under what it was asked and answered.

        Returns:
            The error of a 401, which nothing is decided on here: first the logon
            session has to be asked, see `on_unauthorized`.
        """
        # 1. Older than what is known: it may be of another task under this ID.
        if times.generation < record.generation:
            self.reschedule(record, 0.0)
            return None
        # 2. The task.
        kind, value = classified
        if isinstance(value, Task):
            self.on_task(record, value, unchanged_hash, times)
            return None
        # 3. Nothing about the task, and perhaps an outage.
        if kind is ReplyKind.UNUSABLE:
            self.on_failure(record, value, times)
            return None
        self.errors += 1
        # 4. The token is refused, or this task is under it.
        if kind is ReplyKind.UNAUTHORIZED:
            return value
        # 5. UNKNOWN or FORBIDDEN: the server is up, and the token is good.
        self._note_good(times)
        is_foreign = kind is ReplyKind.UNKNOWN and not self.session.knows_tasks
        advice = ADVICE if is_foreign else ""
        renewed_at = self.session.renewed_at
        self._apply(
            record, _decisions.on_missing(record, value, times, renewed_at, advice)
        )
        return None

    def _note_good(self, times: PollTimes) -> None:
        """Note that the server is up, and the token good."""
        self.session.mark_accepted(times.generation)
        if self.health.outage.has_failures:
            self.health.record_success()

    def on_task(
        self, record: TaskRecord, task: Task, unchanged_hash: int, times: PollTimes
    ) -> None:
        """Act on a good reply about a task, asked for singly or with all others."""
        self._note_good(times)
        self.session.mark_knows_tasks(times.generation)
        origins = self.session.origins
        origins.give(task)
        foreign = origins.foreign(record.task_id)
        if foreign is not None:
            self._apply(record, Decision(seen=_decisions.lost(record, times, foreign)))
            return
        decision = _decisions.on_task(record, task, times, self.session.renewed_at)
        # Finished without a Result is looked at each time.
        record.unchanged_hash = (
            None if record.finished_without_result else unchanged_hash
        )
        self._apply(record, decision)

    def on_failure(
        self, record: TaskRecord, error: VeeamTasksError, times: PollTimes
    ) -> None:
        """Act on a poll that told nothing about its task; it may begin an outage."""
        self.errors += 1
        self.retries += 1
        told = self.monitor.failed_poll(record.task_id, error)
        TASKS.debug("poll of %s failed: %s", record.task_id, error, extra=told)
        health = self.health
        health.record_failure(record, error, sent=times.sent)
        # The patience of an outage is that of all, and health counts it.
        patience = None if health.outage.is_closed else self.patience
        reopened_at = max(health.outage.reopened_at, self.queue.held.until)
        self._apply(
            record, _decisions.on_failure(record, error, times, patience, reopened_at)
        )

    async def on_unauthorized(
        self, record: PolledRecord, error: VeeamTasksError, times: PollTimes
    ) -> VeeamTasksError | None:
        """Act on a 401 of the server itself: is it the token, or this record alone?

        1. The token is another by now: the reply was late, and proves nothing.
        2. The logon session says that its token has expired: it is renewed, once for
           all who ask, and the record is polled again at once.
           So it is when many rounds could read nothing of anybody, whatever it says.
        3. The token is good, or nobody can tell: a round is counted, a pause apart.
        4. It came after the last round: `error` is returned. If others are not refused,
           see `is_refused_alone`, the record is lost; else the server is unwell.
        5. No answer came to the question: that failure is returned.

        Returns:
            What is left to be acted on; None if the record was put back into the queue,
            or is polled no more.
        """
        session = self.session
        if times.generation != session.generation:
            # Were it compared with the token of today, each late 401 would make one
            # more logon.
            self.reschedule(record, 0.0)
            return None
        is_hopeless = record.unauthorized_rounds >= _HOPELESS
        failure: VeeamTasksError | None = None
        is_expired = is_hopeless and not self.is_refused_alone(record)
        try:
            is_expired = await session.renew(times.generation, is_expired=is_expired)
            self.health.record_success()
        except LogonError:
            return None  # every subscription was ended by it
        except VeeamTasksError as caught:
            failure = caught
        if record.due != DueState.POLLING:
            return None  # dropped meanwhile
        if failure is not None:
            return failure
        # Or a good reply like the last one would not end the count.
        record.unchanged_hash, record.trouble = None, str(error)
        is_renewed = session.generation != times.generation
        self.retries += is_renewed
        pause = 0.0
        if is_expired:
            record.unauthorized_rounds = 0
        else:
            pause = _decisions.count_unauthorized(record, times)
        if record.unauthorized_rounds > _decisions.UNAUTHORIZED_ROUNDS:
            return error
        # Where it may be this record alone, others are to try a new token first.
        is_quick = is_renewed and is_expired
        self.reschedule(record, 0.0 if is_quick else pause or record.reset_pause())
        return None

    def on_denied(
        self, record: TaskRecord, error: VeeamTasksError, times: PollTimes
    ) -> None:
        """End a task that alone went on to answer 401."""
        lost = _decisions.denied_for_good(record, error)
        self._deliver(record, _decisions.lost(record, times, lost))

    def is_refused_alone(self, record: PolledRecord) -> bool:
        """Tell whether no other, or not every other, is refused: is the server well?"""
        others = [one for one in self.everything() if one is not record]
        return not others or any(one.unauthorized_rounds == 0 for one in others)

    def _apply(self, record: TaskRecord, decision: Decision) -> None:
        seen = decision.seen
        if seen is not None:
            self._deliver(record, seen)
        # It may be dropped by now, by this very observation or by whoever was told.
        if record.due == DueState.POLLING:
            self.reschedule(record, decision.pause)

    def count(
        self, record: PolledRecord, seen: Observation, *, is_ours: bool = False
    ) -> None:
        """Count what was seen of a record, if it is a change."""
        session, task = seen.session, seen.task
        word = seen.state.value if task is None else task.raw_state
        if session is not None:
            word = session.raw_state
        if word != record.told or seen.is_final:
            record.told = word
            self.monitor.changed(seen, is_ours=is_ours)

    def _deliver(self, record: TaskRecord, seen: Observation) -> None:
        self.count(record, seen)
        if seen.is_final:
            self.drop(record)
            self._started.pop(record.task_id, None)
        # Of a copy: whoever is told may go, or come anew.
        for ref in list(record.subscribers):
            subscriber = ref()
            if subscriber is not None:
                subscriber.on_observation(seen)

    def note_submitted(self, task: Task, generation: int) -> None:
        """Note that a submit of ours gave this task: an older watch of it is over.

        Its reply may come when the logon session that it was sent under is no more.
        """
        times = _now(self.loop, generation)
        self.session.mark_knows_tasks(generation)
        record = self.records.get(task.task_id)
        if record is not None and record.first_generation < times.generation:
            error = _decisions.replaced(record, self.session.renewed_at)
            self._deliver(record, _decisions.lost(record, times, error))
        # Not before, since what has ended is forgotten.
        self._started.pop(task.task_id, None)
        self._started[task.task_id] = task, times
        if len(self._started) > _STARTED_KEPT:
            del self._started[next(iter(self._started))]

    def started_under(self, task_id: str) -> int:
        """Return under which generation a submit of ours gave this ID; 0 if none."""
        started = self._started.get(task_id)
        return 0 if started is None else started[1].generation

    # --- when a record is due

    def reschedule(self, record: PolledRecord, pause: float) -> None:
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

    def hurry(self, record: RunRecord) -> None:
        """Let a run be due now: who comes anew waits for no pause that others had."""
        record.reset_pause()
        if record.due not in {DueState.READY, DueState.POLLING}:
            record.not_before = max(record.not_before, self._rest_of(record.key))
            self.queue.add(record)

    def leave_collection(self) -> None:
        """Let what waited for a collection come due singly, spread over its pause."""
        self.is_together = False
        for record in self.records.values():
            if record.due == DueState.IN_COLLECTION:
                self.queue.add_after(record, record.pause * self.random.random())

    def take(self) -> DueItem | None:
        """Return the next item that is due and still wanted, to be polled."""
        if self._gone:
            self.prune_gone()
        while (item := self.queue.pop()) is not None:
            if item.is_wanted:
                return item
            self.drop(item)
        return None

    def take_idle(self) -> DueItem | None:
        """Return a record that is not due yet, to be polled all the same."""
        idle = (one for one in self.everything() if one.due not in BUSY)
        record = next(idle, None)
        if record is not None:
            record.due = DueState.POLLING
        return record


def _now(loop: asyncio.AbstractEventLoop, generation: int) -> PollTimes:
    now, wall = loop.time(), time.time()
    return PollTimes(
        generation=generation, sent=now, sent_wall=wall, now=now, now_wall=wall
    )
