"""One record per watched task, and what a reply means for it; decides, never acts."""

import weakref
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Protocol

import attrs
from yarl import URL

from veeam_tasks._errors import ForbiddenError, ServerBusyError, VeeamTasksError
from veeam_tasks._events import Observation
from veeam_tasks._model import Task, TaskLostError, TaskState
from veeam_tasks._pace import LONGEST_PAUSE, Pace, next_pauses

RESULTLESS_REPLIES = 4
"""Finished without a Result is asked for three more times, then final."""

_DENIED = "this account may not read it"

REFUSED_ROUNDS = 3
"""Rounds, a pause apart, in which one task alone may answer 401 before it is lost."""


class Subscriber(Protocol):
    """Who wants to know: a watch or a wait; held weakly."""

    pace: Pace

    def on_observation(self, seen: Observation) -> None:
        """Take note of what a reply proved about one task."""

    def cut(self, error: Exception) -> None:
        """Take note that nothing more will be seen, and why."""

    def on_discovered(self, task_ids: Iterable[str], generation: int) -> bool:
        """Take note of IDs that a logon session has; tell whether one is wanted."""

    def on_listed(self, found: Container[str] | None, generation: int) -> bool:
        """Take note of every ID that a logon session has; None: as before.

        Return whether they have to be told the next time even if they are as before.
        """


class SubscriberRef(weakref.ref[Subscriber]):
    """A weak reference that still tells what is to be undone when its subscriber goes.

    Attributes:
        pace: That of the subscriber.
        wanted: The IDs that it wants, among others perhaps.
    """

    __slots__ = ("pace", "wanted")

    pace: Pace
    wanted: Iterable[str]


class DueState(IntEnum):
    """Where a record stands; a phase of 0 or more is the grid tick when it is due.

    TOGETHER: it is answered by the next collection.
    """

    READY = -1
    POLLING = -2
    IN_COLLECTION = -3
    DROPPED = -4


BUSY = (DueState.POLLING, DueState.DROPPED)
"""Where nothing but the poller that has it, if any, may touch a record."""


@attrs.define(eq=False)
class TaskRecord:
    """What the engine knows of one watched task, however many watches want it.

    Attributes:
        pace: The one that is due next, of those that its subscribers ask for.
        born: The generation of the logon session when it was first watched.
        pause: How long that one pauses now.
        url: Where it is asked for singly; None until it is.
        generation: The generation under which the last good reply was asked for.
        subscribers: Who wants it, in order; a dict, since there may be ten thousand.
        digest: Hash of the last body, if an equal one would mean nothing new.
        sent: Monotonic time when the last good poll was sent, and by the wall clock.
        doubts: Replies since the last good one that say: unknown, or denied.
        resultless: Looks at Finished without a Result; `looked_at` of the last counted.
        refusals: Rounds of 401 for this task alone; `refused_at` of the last counted.
        contradicted: The state in which a collection last showed the task against what
            was known of it; `contradicted_at` when that collection was asked for.
        not_before: Monotonic time before which the server asked not to be asked.
        trouble_at: Monotonic time of the first failure since the last good reply.
        trouble: What went wrong last since then; an error itself would hold too much.
    """

    task_id: str
    pace: Pace
    first_generation: int
    url: URL | None = None
    subscribers: dict[SubscriberRef, None] = attrs.field(factory=dict)
    due: int = DueState.DROPPED
    pause: float = 0.0
    task: Task | None = None
    unchanged_hash: int | None = None
    generation: int = 0
    sent: float = 0.0
    sent_wall: float = 0.0
    missing_replies: int = 0
    doubt_at: float = 0.0
    finished_without_result: int = 0
    looked_at: float = 0.0
    unauthorized_rounds: int = 0
    refused_at: float = 0.0
    contradicted: str | None = None
    contradicted_at: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    trouble_at: float = 0.0
    trouble: str = ""
    # Only where its subscribers ask for several paces.
    _pauses: dict[Pace, float] | None = None
    _paces: dict[Pace, int] = attrs.field(factory=dict)

    def join(self, subscriber: SubscriberRef) -> None:
        """Let a subscriber want this task, at its pace besides those of the others."""
        subscribers, pace = self.subscribers, subscriber.pace
        if subscriber in subscribers:
            return
        if not subscribers:
            self.pace, self.pause = pace, pace.first
        elif self._pauses is not None or pace != self.pace:
            if self._pauses is None:
                self._pauses = {self.pace: self.pause}
                self._paces = {self.pace: len(subscribers)}
            self._pauses.setdefault(pace, pace.first)
            self._paces[pace] = self._paces.get(pace, 0) + 1
            self._choose(self._pauses)
        subscribers[subscriber] = None

    def leave(self, subscriber: SubscriberRef) -> None:
        """Let a subscriber and its pace go, whether or not it is still there."""
        del self.subscribers[subscriber]
        if self._pauses is None:
            return
        pace = subscriber.pace
        self._paces[pace] -= 1
        if not self._paces[pace]:
            del self._paces[pace], self._pauses[pace]
            self._choose(self._pauses)
            if len(self._pauses) == 1:
                self._pauses = None

    def _choose(self, pauses: dict[Pace, float]) -> None:
        self.pace = min(pauses, key=pauses.__getitem__)
        self.pause = pauses[self.pace]

    @property
    def is_wanted(self) -> bool:
        """Whether a subscriber is still there."""
        return any(ref() is not None for ref in self.subscribers)

    def grow(self) -> float:
        """Lengthen the pause, since nothing changed, and return it."""
        pace = self.pace
        if self._pauses is None:
            self.pause = min(pace.longest, self.pause * pace.growth)
        else:
            self._pauses = next_pauses(self._pauses)
            self._choose(self._pauses)
        return self.pause

    def reset_pause(self) -> float:
        """Fall back to the first pause, and return it."""
        if self._pauses is None:
            self.pause = self.pace.first
        else:
            self._pauses = {pace: pace.first for pace in self._pauses}
            self._choose(self._pauses)
        return self.pause


@attrs.frozen(kw_only=True)
class PollTimes:
    """When and under what a poll was asked and answered.

    Attributes:
        generation: Of the token it was sent with.
        sent: Monotonic seconds when it was sent; `sent_wall` by the wall clock.
        now: Monotonic seconds when the reply came; `now_wall` by the wall clock.
    """

    generation: int
    sent: float
    sent_wall: float
    now: float
    now_wall: float


@attrs.frozen(kw_only=True)
class Decision:
    """What follows from a reply: what was seen, if anything, and the next pause."""

    seen: Observation | None
    pause: float = 0.0


def meet_task(
    record: TaskRecord, task: Task, moment: PollTimes, renewed_at: datetime | None
) -> Decision:
    """Decide on a reply that describes the task."""
    before = record.task
    if (
        before is not None
        and moment.generation > record.generation > 0
        and is_another(before, task)
    ):
        reason = (
            f"{_renewed(renewed_at)}, and the new one has another task under this ID"
            f" ({task.raw_state}, {task.operation}); the operation may well go on"
        )
        return Decision(seen=lose(record, moment, _lost(record, reason)))
    not_before = _not_before(record, moment)
    record.task, record.generation = task, moment.generation
    record.sent, record.sent_wall = moment.sent, moment.sent_wall
    record.missing_replies = record.unauthorized_rounds = record.failures = 0
    record.trouble = ""
    is_final = False
    if task.state is TaskState.FINISHED:
        wait = 0.0 if task.result is not None else _count_look(record, moment)
        is_final = (
            task.result is not None
            or record.finished_without_result >= RESULTLESS_REPLIES
        )
        if not is_final:
            return Decision(seen=None, pause=wait)
    else:
        record.finished_without_result = 0
    is_same = before is not None and before.raw_state == task.raw_state
    if is_same and not is_final and record.unchanged_hash is not None:
        # No newcomer, and no event: only something beside the state has changed.
        return Decision(seen=None, pause=record.grow())
    seen = Observation(
        task_id=record.task_id,
        task=task,
        state=task.state,
        is_final=is_final,
        observed_at=_wall(moment.now_wall),
        not_before=not_before,
        generation=moment.generation,
    )
    return Decision(seen=seen, pause=record.grow() if is_same else record.reset_pause())


def contradicts(record: TaskRecord, task: Task, moment: PollTimes) -> bool:
    """Tell whether a collection shows a task otherwise than it can have become.

    A cache in between may show how the task was a while ago. So what is not on the way
    from Running to Finished takes the word of the task itself, and so does that it is
    another one after a renewal.
    """
    before = record.task
    if before is None:
        return False
    if before.raw_state != task.raw_state:
        way = (TaskState.RUNNING, TaskState.OPERATION_FINISHED, TaskState.FINISHED)
        if before.state not in way or task.state not in way:
            return True
        if way.index(task.state) < way.index(before.state):
            return True
    return moment.generation > record.generation > 0 and is_another(before, task)


def count_refusal(record: TaskRecord, moment: PollTimes) -> float:
    """Count a 401 for this task alone; return the pause until the next round."""
    early = (
        _early(record, record.refused_at, moment) if record.unauthorized_rounds else 0.0
    )
    if early:
        return early
    record.unauthorized_rounds, record.refused_at = (
        record.unauthorized_rounds + 1,
        moment.now,
    )
    return record.reset_pause()


def _count_look(record: TaskRecord, moment: PollTimes) -> float:
    """Count a look at Finished without a Result; return the pause until the next."""
    early = (
        _early(record, record.looked_at, moment)
        if record.finished_without_result
        else 0.0
    )
    if early:
        return early
    record.finished_without_result, record.looked_at = (
        record.finished_without_result + 1,
        moment.now,
    )
    return record.reset_pause()


def _early(record: TaskRecord, counted_at: float, moment: PollTimes) -> float:
    """Return by how much this reply comes too early to count; 0.0 if it counts.

    A count of replies stands for a span of time: a new subscriber, a renewal or a
    probe may bring a poll forward, which must not use one of them up.
    """
    first = record.pace.first
    waited = moment.sent - counted_at
    is_enough = waited >= first * (1 - record.pace.jitter) * 0.99
    return 0.0 if is_enough else first - waited


def on_missing(
    record: TaskRecord,
    error: VeeamTasksError,
    moment: PollTimes,
    renewed_at: datetime | None,
    advice: str,
) -> Decision:
    """Decide on a reply that says that the task is unknown or denied.

    It takes two, at least one pause apart: a task may be slow to appear.
    """
    record.unchanged_hash, record.trouble = None, str(error)
    record.failures = record.unauthorized_rounds = 0
    first = record.reset_pause()
    if record.missing_replies == 0:
        record.missing_replies, record.doubt_at = 1, moment.now
        return Decision(seen=None, pause=first)
    early = _early(record, record.doubt_at, moment)
    if early:
        return Decision(seen=None, pause=early)
    reason = str(error)
    if isinstance(error, ForbiddenError):
        reason = f"{_DENIED}: {reason}"
    if record.first_generation < moment.generation and renewed_at is not None:
        reason = (
            f"{_renewed(renewed_at)}, and the new one does not show it: {reason}; the"
            " operation may well go on"
        )
        return Decision(
            seen=lose(record, moment, _lost(record, reason, "", error, renewed_at))
        )
    if record.task is not None:
        advice = ""
    return Decision(seen=lose(record, moment, _lost(record, reason, advice, error)))


def meet_trouble(
    record: TaskRecord,
    error: VeeamTasksError,
    moment: PollTimes,
    patience: float | None,
    reopened_at: float,
) -> Decision:
    """Decide on a reply, or none, that tells nothing about the task."""
    record.unchanged_hash, record.trouble = None, str(error)
    if record.failures == 0:
        record.trouble_at = moment.now
        pause = record.reset_pause()
    else:
        pause = record.grow()
    record.failures += 1
    asked = error.retry_after if isinstance(error, ServerBusyError) else None
    asked = min(asked or 0.0, LONGEST_PAUSE)
    pause = max(pause, asked)
    if patience is not None:
        until = max(record.trouble_at, reopened_at) + patience
        # Not before it has failed once more to a poll sent after that.
        if moment.sent >= until:
            return Decision(seen=lose(record, moment, error))
        left = max(0.0, until - moment.now)
        pause, asked = min(pause, left), min(asked, left)
    # Beside the pause, which jitter cuts and newcomers bring forward.
    record.not_before = moment.now + asked
    return Decision(seen=None, pause=pause)


def lose(record: TaskRecord, moment: PollTimes, error: VeeamTasksError) -> Observation:
    """Return the sighting that ends a task as LOST."""
    return Observation(
        task_id=record.task_id,
        task=record.task,
        state=TaskState.LOST,
        is_final=True,
        observed_at=_wall(moment.now_wall),
        not_before=_not_before(record, moment),
        generation=record.generation or record.first_generation,
        error=error,
    )


def replaced(record: TaskRecord, renewed_at: datetime | None) -> TaskLostError:
    """Return why the task of a record is lost when a new one got its ID."""
    return _lost(
        record,
        f"{_renewed(renewed_at)}, and a task submitted since then got this ID; the"
        " operation of the old one may well go on",
    )


def refused_for_good(record: TaskRecord, error: VeeamTasksError) -> TaskLostError:
    """Return why a task is lost that alone goes on to answer 401."""
    return _lost(record, f"{_DENIED}: {error}", "", error)


def is_another(before: Task, task: Task) -> bool:
    """Tell whether a task under another logon session is not the one seen before."""
    backwards = (
        before.state in {TaskState.FINISHED, TaskState.OPERATION_FINISHED}
        and task.state is not TaskState.FINISHED
        and task.state is not before.state
    )
    leads, led = _paths(task), _paths(before)
    # What a task points to may become more, but it is never something else.
    is_elsewhere = bool(leads and led) and leads.isdisjoint(led)
    return backwards or is_elsewhere or before.operation != task.operation


def _paths(task: Task) -> set[str]:
    """Return where the Related links lead; host and port are the server's own idea."""
    hrefs = [link.href.partition("?")[0] for link in task.related]
    return {href.rpartition("/api/")[2].casefold() for href in hrefs}


def _lost(
    record: TaskRecord,
    reason: str,
    advice: str = "",
    last_error: VeeamTasksError | None = None,
    renewed_at: datetime | None = None,
) -> TaskLostError:
    return TaskLostError(
        task_id=record.task_id,
        last_seen=record.task,
        reason=reason,
        advice=advice,
        last_error=last_error,
        renewed_at=renewed_at,
    )


def _renewed(at: datetime | None) -> str:
    when = "" if at is None else f" at {at:%Y-%m-%d %H:%M:%S} UTC"
    return f"the logon session was renewed{when}"


def _wall(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _not_before(record: TaskRecord, moment: PollTimes) -> datetime | None:
    """Return when the poll before was sent, on the safe side of both clocks.

    The wall clock may have been set back since, and the monotonic one may have stood
    still while a laptop slept: the earlier answer of the two is right.
    """
    if record.task is None:
        return None
    by_span = moment.now_wall - (moment.now - record.sent)
    earlier = min(by_span, record.sent_wall, moment.now_wall)
    return _wall(earlier)
