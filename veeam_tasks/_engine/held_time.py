"""How long the loop was held: by other code, a stopped process, a laptop that slept.

That is nobody's fault. So the time limits of watches and waits, and how long a job
session is searched, count the time in which the loop ran. Nothing ticks for it: a hold
shows in whatever timer it made late, and while something is watched there is one.
"""

import asyncio

import attrs

from veeam_tasks._transport.held import GRACE, HELD


@attrs.define(eq=False)
class HeldTime:
    """Counts the time for which a loop was held, a second or more at once.

    Attributes:
        seconds: How long that was in all.
        until: Monotonic time when the last hold ended.
    """

    seconds: float = 0.0
    until: float = float("-inf")

    def note(self, due: float, now: float) -> None:
        """Take note that a timer that was due at a time came now."""
        if now - due >= GRACE:
            self.seconds += now - max(due, self.until)
            self.until = now


@attrs.define(eq=False)
class TimeLimit:
    """So many seconds of a caller, in which the loop runs.

    Attributes:
        seconds: How many.
        at: Monotonic time when they are over, as far as known.
    """

    seconds: float
    at: float
    _held: HeldTime
    _counted: float
    _had_grace: bool = False

    @classmethod
    def of(
        cls, seconds: float, loop: asyncio.AbstractEventLoop, held: HeldTime
    ) -> "TimeLimit":
        """Return a limit that begins now."""
        return cls(seconds, loop.time() + seconds, held, held.seconds)

    def is_over(self, now: float) -> bool:
        """Tell whether they are over at a time when they seemed to be; or move `at`.

        What has come while the loop was held is to be read first.
        """
        self._held.note(self.at, now)
        moved = self._held.seconds - self._counted
        self._counted = self._held.seconds
        at_least = now + min(GRACE, self.seconds)
        if moved > 0:
            self.at = max(self.at + moved, at_least)
        elif now - self.at > HELD and not self._had_grace:
            self._had_grace = True
            self.at = at_least
        return self.at <= now

    def going_on(self, now: float) -> "TimeLimit":
        """Return the limit for who goes on: no timer of it was late until now."""
        at = now + self.left(now)
        return TimeLimit(self.seconds, at, self._held, self._held.seconds)

    def left(self, now: float) -> float:
        """Return how many of them are left; 0.0 if none are."""
        return max(0.0, self.at + self._held.seconds - self._counted - now)
