"""One view of the server's health for all pollers: who probes, who waits."""

import asyncio
import math
from collections.abc import Callable, Collection

import attrs

from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._errors import ServerBusyError, TransportError, VeeamTasksError
from veeam_tasks._pace import LONGEST_PAUSE, Pace
from veeam_tasks._telemetry.notices import NoticeKind, Notices

PROBE_PACE = Pace(first=2.0, growth=1.5, longest=30.0, jitter=0.25)
"""Pauses between two probes of a server that is down: never two in one second."""

_STREAK = 3
_CHANCE = 1e-8
"""How probable it may be that a server which answers as it did before gives so many
bad replies in a row: at hundreds of polls a second for hours none is to be expected."""
_MEMORY = 400.0
"""Replies after which what is remembered of a bad one has faded to a third."""
_SHORT = 5.0
_SUPPOSED_BAD, _SUPPOSED = 0.3, 20.0
"""What is supposed before there were replies: that few are bad."""


@attrs.define(eq=False)
class _Share:
    """The share of bad replies while the server is there, from those of late."""

    bad: float = 0.0
    all: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether more good replies would tell nothing new."""
        return self.bad < 0.1 and self.all > 0.8 * _MEMORY  # noqa: PLR2004

    @property
    def streak(self) -> int:
        """How many bad replies in a row are no chance any more; three at least."""
        share = (self.bad + _SUPPOSED_BAD) / (self.all + _SUPPOSED)
        return max(_STREAK, math.ceil(math.log(_CHANCE) / math.log(min(share, 0.7))))

    def add(self, bad: int) -> None:
        """Take note of a good reply that came after `bad` bad ones."""
        fading = 1.0 - (bad + 1) / (_MEMORY + bad)
        self.bad = self.bad * fading + bad
        self.all = self.all * fading + bad + 1


@attrs.define(eq=False, kw_only=True)
class Outage:
    """Whether the server is down, by its last replies; pure, but for its random pauses.

    It begins when a connection cannot be made, or when the last replies, of at least
    two tasks if two are watched, were all failures: three, or as many as are no chance
    with a server that gave bad replies before and answered between them. Any good
    reply ends it. Meanwhile one probe goes on; the failures of requests that were
    already under way neither wake nor move the probe.

    Attributes:
        chance: Gives a number in [0, 1) for the jitter.
        patience: Seconds that an outage may last; None for ever.
        since: Monotonic time of the outage's first failure; None if there is none.
        reopened_at: Monotonic time when the last outage ended.
        held_until: Monotonic time until which the loop was last held by other code.
        last_error: The last bad reply of the outage.
    """

    chance: Callable[[], float]
    patience: float | None = None
    since: float | None = None
    reopened_at: float = float("-inf")
    held_until: float = float("-inf")
    last_error: VeeamTasksError | None = None
    _failures: int = 0
    _failed: set[object] = attrs.field(factory=set)
    _failing_since: float = 0.0
    _share: _Share = attrs.field(factory=_Share)
    _pause: float = PROBE_PACE.first

    @property
    def is_closed(self) -> bool:
        """Whether requests of pollers wait until the outage is over."""
        return self.since is not None

    @property
    def has_failures(self) -> bool:
        """Whether a good reply would be news."""
        return (
            self.since is not None or self._failures > 0 or not self._share.is_settled
        )

    def fail(
        self,
        item: object,
        error: VeeamTasksError,
        now: float,
        *,
        sent: float,
        watched: int,
    ) -> bool:
        """Count a failed poll; return whether an outage begins by it."""
        if self.since is not None:
            self.last_error = error
            return False
        if sent < max(self.reopened_at, self.held_until):
            # It tells of an outage that is over, or of us: a server gives up a client
            # that does not read.
            return False
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if len(self._failed) < _STREAK:
            self._failed.add(item)
        if not self._is_outage(error, now, watched):
            return False
        self.since = self._failing_since
        self.last_error = error
        self._pause = PROBE_PACE.first
        return True

    def _is_outage(self, error: VeeamTasksError, now: float, watched: int) -> bool:
        # 1. Without a connection there is nothing to be had, unless that happens
        #    now and then to a server that answers.
        if (
            isinstance(error, TransportError)
            and not error.connected
            and self._share.bad < 0.5  # noqa: PLR2004
        ):
            return True
        # 2. It says so itself, and nothing but the collection is asked for.
        if watched == 0 and isinstance(error, ServerBusyError) and error.retry_after:
            return True
        # 3. It may be one task alone.
        if len(self._failed) < min(2, watched):
            return False
        # 4. Whoever is patient for less than that takes must not lose tasks by it.
        is_long = self.patience is not None and (
            now - self._failing_since >= self.patience
        )
        # 5. Three in a row prove nothing of a server of whose replies 15 % are bad:
        #    at 50 polls a second that happens every six seconds.
        return is_long or self._failures >= self._share.streak

    def good(self, now: float) -> bool:
        """Count a good reply; return whether an outage ends by it."""
        since, failures = self.since, self._failures
        self._failures = 0
        self._failed.clear()
        if since is None:
            self._share.add(failures)
            return False
        # An outage tells nothing of the replies of a server that is there; but what
        # was over at the first probe was none.
        self._share.add(int(now - since < _SHORT))
        self.since = None
        self.reopened_at = now
        self.last_error = None
        return True

    def reset_pause(self) -> None:
        """Begin again with the first pause."""
        self._pause = PROBE_PACE.first

    def next_probe(self, retry_after: float | None = None) -> float:
        """Return the pause before the next probe, in seconds, and lengthen it.

        A server may ask for more, but not for more than the longest pause there is:
        a slip in a header must not end a watch for days.
        """
        pause = PROBE_PACE.jittered(self._pause, self.chance())
        self._pause = PROBE_PACE.after(self._pause)
        return max(pause, min(retry_after or 0.0, LONGEST_PAUSE))


@attrs.define(eq=False, kw_only=True)
class ServerHealth:
    """Whether the server answers, for all: closes the queue while it does not.

    It has the timers: when the next probe is due, when patience is spent. The probe is
    known by its item, since one item is polled by one poller at a time.

    Args:
        loop: Whose timers are used.
        patience: Seconds that an outage may last; None for ever.
        queue: Closed while the server is down; one is let through as the probe.
        watched: The IDs of what is watched, which an outage puts at risk.
        notices: Told of an outage and of its end.
        give_up: Called when the outage has lasted for `patience`, and a probe that
            was sent after that has failed as well.

    Attributes:
        probe: The item of the one probe of this outage under way; None if none is.
        patience_ends_at: Loop time when patience is spent; infinite if nobody waits
            for that, or it is spent already. No probe is waited for any longer.
    """

    loop: asyncio.AbstractEventLoop
    patience: float | None
    queue: DueQueue
    watched: Collection[str]
    notices: Notices
    give_up: Callable[[], None]
    outage: Outage
    probe: object | None = None
    patience_ends_at: float = math.inf
    _is_patience_over: bool = False
    _is_last: bool = False
    _timer: asyncio.Handle | None = None
    _probe_at: float = 0.0
    _spent: asyncio.Handle | None = None

    @property
    def next_at(self) -> float | None:
        """Loop time of the next probe; None if it has none."""
        return None if self._timer is None else self._probe_at

    @property
    def is_asking(self) -> bool:
        """Whether a probe is under way or due, or the next one has its time."""
        return (
            self._timer is not None or self.queue.is_probe_due or self.probe is not None
        )

    def record_failure(
        self, item: object, error: VeeamTasksError, *, sent: float
    ) -> None:
        """Count a failed poll of an item; close the queue if it begins an outage."""
        outage, now = self.outage, self.loop.time()
        watched = len(self.watched)
        closes = outage.fail(item, error, now, sent=sent, watched=watched)
        if closes:
            self.queue.close()
        # A probe of an earlier outage is a late failure like any other: it must
        # neither wake nor move the probe that waits.
        is_probe = self.probe is item
        if closes or is_probe:
            self.probe = None
            asked = error.retry_after if isinstance(error, ServerBusyError) else None
            pause = outage.next_probe(asked)
            if is_probe and self._is_last and sent >= outage.held_until:
                self.give_up()
                return
            self._arm(pause)
        if closes and outage.since is not None:
            self._be_patient(outage.since)
            # Last, since it is the caller's function that is called.
            self.notices.tell(NoticeKind.UNREACHABLE, str(error), self.watched, error)

    def record_success(self) -> None:
        """Count a good reply, to whomever; open the queue if it ends an outage."""
        if not self.outage.good(self.loop.time()):
            return
        self.disarm()
        self.queue.open()
        self.notices.tell(
            NoticeKind.RECOVERED, "the server answers again", self.watched
        )

    def begin_probe(self, item: object) -> None:
        """Note what is polled as the probe."""
        self._is_last = self._is_patience_over
        self.probe = item

    def end_probe(self, *, is_awaited: bool) -> None:
        """Let there be another probe, whatever became of this one, if one is awaited.

        A probe that failed has been noted already; one whose task was dropped
        meanwhile, or that found nothing to poll, tells nothing.
        """
        self.probe = None
        if is_awaited:
            self.resume()
        else:
            self.disarm()

    def resume(self) -> None:
        """Probe again if there is an outage and nobody does: someone has come anew."""
        if not self.outage.is_closed:
            return
        if not self.is_asking:
            # Whoever comes next is not to wait for what others have waited for.
            self.outage.reset_pause()
            self._arm(self.outage.next_probe())
        if self._spent is None and not self._is_patience_over:
            self._be_patient(self.loop.time())

    def disarm(self) -> None:
        """Stop the timers."""
        for timer in (self._timer, self._spent):
            if timer is not None:
                timer.cancel()
        self._timer = self._spent = self.probe = None
        self.patience_ends_at = math.inf
        self._is_patience_over = self._is_last = False
        self.queue.recall()

    def _arm(self, pause: float) -> None:
        if self._is_patience_over:
            # Nobody is patient any more: the last probe goes at once.
            self._due()
        else:
            self._probe_at = self.loop.time() + pause
            self._timer = self.loop.call_at(self._probe_at, self._due)

    def _be_patient(self, since: float) -> None:
        if self.patience is not None:
            self.patience_ends_at = since + self.patience
            self._spent = self.loop.call_at(self.patience_ends_at, self._end)

    def _end(self) -> None:
        """Ask once more, since the server may have come back since the last probe.

        The pauses between probes grow, and a server may ask for a long one.
        """
        self._spent = None
        self._is_patience_over = True
        self.patience_ends_at = math.inf
        # A probe under way has its deadline now, and the last one follows it.
        if self.probe is None and not self.queue.is_probe_due:
            if self._timer is not None:
                self._timer.cancel()
            self._due()

    def _due(self) -> None:
        self._timer = None
        self.queue.let_one_through()
