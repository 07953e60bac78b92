"""One view of the server's health for all pollers: who probes, who waits."""

from collections import deque
from collections.abc import Callable

import attrs

from veeam_tasks._errors import TransportError, VeeamTasksError
from veeam_tasks._pace import Pace

PROBE_PACE = Pace(first=2.0, growth=1.5, longest=30.0, jitter=0.25)
"""Pauses between two probes of a server that is down: never two in one second."""

_STREAK = 3


@attrs.define(eq=False, kw_only=True)
class Outage:
    """The gate: open while the server answers, closed during an outage.

    It closes when a connection cannot be made, or when the last three replies, of at
    least two tasks if two are watched, were all failures. Any good reply opens it.
    Behind it one probe goes on; the failures of requests that were already under way
    neither wake nor move the probe.

    Attributes:
        chance: Gives a number in [0, 1) for the jitter.
        since: Monotonic time of the first failure of the outage; None while open.
        reopened_at: Monotonic time when the gate opened last.
        last_error: The last bad reply of the outage.
    """

    chance: Callable[[], float]
    since: float | None = None
    reopened_at: float = float("-inf")
    last_error: VeeamTasksError | None = None
    _streak: deque[tuple[str, float]] = attrs.field(
        factory=lambda: deque(maxlen=_STREAK)
    )
    _pause: float = PROBE_PACE.first

    @property
    def is_closed(self) -> bool:
        """Whether requests of pollers wait behind the gate."""
        return self.since is not None

    def fail(
        self, task_id: str, error: VeeamTasksError, now: float, *, watched: int
    ) -> bool:
        """Count a failed poll; return whether the gate closes by it."""
        if self.since is not None:
            self.last_error = error
            return False
        self._streak.append((task_id, now))
        unreachable = isinstance(error, TransportError) and not error.connected
        distinct = len({name for name, _ in self._streak})
        if not unreachable and (
            len(self._streak) < _STREAK or distinct < min(2, watched)
        ):
            return False
        self.since = self._streak[0][1]
        self.last_error = error
        self._pause = PROBE_PACE.first
        return True

    def good(self, now: float) -> bool:
        """Count a good reply; return whether the gate opens by it."""
        self._streak.clear()
        if self.since is None:
            return False
        self.since = None
        self.reopened_at = now
        self.last_error = None
        return True

    def next_probe(self, retry_after: float | None = None) -> float:
        """Return the pause before the next probe, in seconds, and lengthen it."""
        pause = PROBE_PACE.jittered(self._pause, self.chance())
        self._pause = PROBE_PACE.after(self._pause)
        return pause if retry_after is None else max(pause, retry_after)
