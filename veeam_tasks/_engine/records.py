"""What the engine knows of each watched resource, and the small values beside it."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from enum import IntEnum
from typing import ClassVar, Protocol, runtime_checkable

import attrs
from yarl import URL

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._events import Observation
from veeam_tasks._model import Task
from veeam_tasks._pace import Pace, next_pauses
from veeam_tasks._protocol.messages import Reply

Ask = Callable[[URL, int, str], Awaitable[Reply | VeeamTasksError]]
"""GETs a URL of so many bytes at most, shown so; gives the reply, or why none came."""


class Subscriber(Protocol):
    """Who wants to know: a watch or a wait; held weakly."""

    pace: Pace

    def on_observation(self, seen: Observation) -> None:
        """Take note of what a reply proved about one task."""

    def on_end(self, error: Exception) -> None:
        """Take note that nothing more will be seen, and why."""


@runtime_checkable
class AllTasksSubscriber(Subscriber, Protocol):
    """Who wants to know of every task of the logon session, later ones too."""

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
        followed: What it follows of some of them when they have ended.
        timer: Of its time limit; None without one.
    """

    __slots__ = ("followed", "pace", "timer", "wanted")

    pace: Pace
    wanted: Iterable[str]
    followed: "Mapping[str, PolledRecord]"
    timer: asyncio.Handle | None


class DueState(IntEnum):
    """Where a record stands; a value of 0 or more is the grid tick when it is due.

    IN_COLLECTION: it is answered by the next collection.
    """

    READY = -1
    POLLING = -2
    IN_COLLECTION = -3
    DROPPED = -4


BUSY = (DueState.POLLING, DueState.DROPPED)
"""Where nothing but the poller that has it, if any, may touch a record."""


@attrs.define(eq=False, kw_only=True)
class DueItem:
    """Something that is due now and then: a record, or the collection of all tasks.

    Attributes:
        due: A `DueState`, or the grid tick when it is due.
        not_before: Monotonic time before which the server asked not to be asked.
        goes_first: Whether it is taken before whatever else is due.
    """

    due: int = DueState.DROPPED
    not_before: float = 0.0
    goes_first: ClassVar[bool] = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody is there who wants it."""
        return True


@attrs.define(eq=False, kw_only=True)
class PolledRecord(DueItem):
    """What the engine knows of one polled resource, however many watches want it.

    A task is one kind of it. What any resource that is asked for again and again has
    stands here, so that the next kind needs no second queue, pace or count of failures.

    Attributes:
        pace: The one that is due next, of those that its subscribers ask for.
        pause: How long that one pauses now.
        url: Where it is asked for singly; None until it is.
        subscribers: Who wants it, in order; a dict once there are several, since there
            may be ten thousand. Of nearly all there is one, and a dict for it would be
            a tenth of the record.
        unchanged_hash: Hash of the last body, if an equal one would mean nothing new.
        generation: The generation under which the last good reply was asked for.
        sent: Monotonic time when the last good poll was sent, and by the wall clock.
        missing_replies: Replies since the last good one that say: unknown, or denied;
            `missing_at` of the last counted.
        unauthorized_rounds: Rounds of 401 for this resource alone; `unauthorized_at`
            of the last counted.
        failures: Replies, or none, since the last good one that told nothing.
        trouble: What went wrong last since then; an error itself would hold too much.
        trouble_at: Monotonic time of the first failure since the last good reply.
        told: The word that was told last, to whoever watches.
    """

    pace: Pace
    pause: float = 0.0
    url: URL | None = None
    subscribers: dict[SubscriberRef, None] | tuple[SubscriberRef, ...] = ()
    unchanged_hash: int | None = None
    generation: int = 0
    sent: float = 0.0
    sent_wall: float = 0.0
    missing_replies: int = 0
    missing_at: float = 0.0
    unauthorized_rounds: int = 0
    unauthorized_at: float = 0.0
    failures: int = 0
    trouble: str = ""
    trouble_at: float = 0.0
    told: str = ""
    # Only where its subscribers ask for several paces.
    _pauses: dict[Pace, float] | None = None
    _paces: dict[Pace, int] | None = None

    def join(self, subscriber: SubscriberRef) -> None:
        """Let a subscriber want this, at its pace besides those of the others."""
        subscribers, pace = self.subscribers, subscriber.pace
        if subscriber in subscribers:
            return
        if not subscribers:
            self.pace, self.pause = pace, pace.first
            self.subscribers = (subscriber,)
            return
        if self._pauses is not None or pace != self.pace:
            if self._pauses is None or self._paces is None:
                self._pauses = {self.pace: self.pause}
                self._paces = {self.pace: len(subscribers)}
            self._pauses.setdefault(pace, pace.first)
            self._paces[pace] = self._paces.get(pace, 0) + 1
            self._choose(self._pauses)
        if isinstance(subscribers, tuple):
            subscribers = self.subscribers = dict.fromkeys(subscribers)
        subscribers[subscriber] = None

    def leave(self, subscriber: SubscriberRef) -> None:
        """Let a subscriber and its pace go, whether or not it is still there."""
        if isinstance(self.subscribers, tuple):
            self.subscribers = ()
        else:
            del self.subscribers[subscriber]
        if self._pauses is None or self._paces is None:
            return
        pace = subscriber.pace
        self._paces[pace] -= 1
        if not self._paces[pace]:
            del self._paces[pace], self._pauses[pace]
            self._choose(self._pauses)
            if len(self._pauses) == 1:
                self._pauses = self._paces = None

    def _choose(self, pauses: dict[Pace, float]) -> None:
        self.pace = min(pauses, key=pauses.__getitem__)
        self.pause = pauses[self.pace]

    @property
    def is_wanted(self) -> bool:
        """Whether a subscriber is still there."""
        for ref in self.subscribers:  # noqa: SIM110 - a generator costs twice as much
            if ref() is not None:
                return True
        return False

    def is_as_before(self, generation: int, body: bytes) -> bool:
        """Tell whether a body that came under a generation tells nobody anything."""
        return self.unchanged_hash == hash(body) and self.generation == generation

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


@attrs.define(eq=False, kw_only=True)
class TaskRecord(PolledRecord):
    """What the engine knows of one watched task.

    Attributes:
        first_generation: That of the logon session when it was first watched.
        task: As it was seen last.
        finished_without_result: Looks at Finished without a Result; `looked_at` of the
            last counted.
        contradicted: The state in which a collection last showed the task against what
            was known of it; `contradicted_at` when that collection was asked for.
    """

    task_id: str
    first_generation: int
    task: Task | None = None
    finished_without_result: int = 0
    looked_at: float = 0.0
    contradicted: str | None = None
    contradicted_at: float = 0.0


@attrs.define(kw_only=True)
class PollTimes:
    """When and under what a poll was asked and answered; not frozen, see `Reply`.

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
class PollStatistics:
    """What an engine has done, and does next.

    Attributes:
        polls: Single polls, with or without a reply.
        coalesced: Watched tasks that were answered by a collection.
        retries: How often something was asked for again since no usable reply came.
        errors: Replies that told nothing of what was asked for, and failures.
        watched: How many tasks somebody wants.
        is_together: Whether all tasks are asked for together, for this `reason`.
        next_at: Loop time when the server is asked next, if known.
    """

    polls: int
    coalesced: int
    retries: int
    errors: int
    watched: int
    is_together: bool
    reason: str
    next_at: float | None
