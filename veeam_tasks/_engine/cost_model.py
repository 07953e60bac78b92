"""Singly or together: what is cheaper, from what was measured of both; pure."""

from collections.abc import Sequence

import attrs

FEWEST = 8
"""Below so many watched tasks nothing can be saved."""

_SECONDS_A_BYTE = 1e-7
"""What a byte costs beside the time it took: 10 MB/s."""

_SMOOTHING = 0.1
_GAIN, _LOSS = 0.5, 0.8
_SAMPLES = 8
# How many times what was watched is worth another try before a break is over.
_A_FEW_MORE, _MANY_MORE = 1.1, 2.0
_LATE_FACTOR, _LATE_SECONDS = 2.0, 0.5
_FIRST_BREAK, _LONGEST_BREAK = 60.0, 3600.0


@attrs.define(eq=False)
class CostModel:
    """Weighs a request per task against one request for all.

    It changes sides only for a clear gain, and back only when most of it is gone, so
    it does not flap.

    Attributes:
        is_together: What was chosen.
        reason: Why, in words.
    """

    is_together: bool = False
    reason: str = "nothing was measured yet"
    _single: float = 0.0
    _samples: int = 0
    _usual: float = 0.0
    _next_break: float = _FIRST_BREAK
    _not_before: float = 0.0
    _worth_with: float = 0.0
    _is_given_up: bool = False

    def note_single(self, seconds: float, size: int) -> None:
        """Take note of what one poll cost: its share of the time, its bytes."""
        cost = seconds + size * _SECONDS_A_BYTE
        self._samples += 1
        if self._samples == 1:
            self._single = cost
        self._single += (cost - self._single) * _SMOOTHING

    def may_try(self, watched: int, now: float) -> bool:
        """Whether asking for all is worth a try, also since many more are watched."""
        if self.is_together or watched < FEWEST or self._samples < _SAMPLES:
            return False
        # Before a collection was fetched there is no number to compare with.
        has_many_more = 0 < self._worth_with <= watched
        return not self._is_given_up and (now >= self._not_before or has_many_more)

    def is_disabled(self, now: float) -> bool:
        """Whether it failed not long ago."""
        return now < self._not_before

    def is_late(self, seconds: float) -> bool:
        """Whether the collection took far longer than usual; learn the usual time."""
        usual = self._usual
        if usual and seconds > _LATE_FACTOR * usual + _LATE_SECONDS:
            return True
        self._usual = seconds if not usual else usual + (seconds - usual) * _SMOOTHING
        return False

    def quick_ones(
        self, paces: Sequence[tuple[float, float]], seconds: float, size: int
    ) -> int:
        """Return how many paces, the quickest first, are better asked for singly.

        One task of ten thousand that somebody wants to see ten times a second must not
        bring the whole collection ten times a second.

        Args:
            paces: For each pace its usual pause and its polls a second, in order.
            seconds: What a collection takes.
            size: Its bytes.
        """
        each = seconds + size * _SECONDS_A_BYTE
        best, cheapest, singly = 0, float("inf"), 0.0
        for number, (pause, polls_a_second) in enumerate(paces):
            cost = each / pause + singly * self._single
            # Only for a clear gain: what is asked for singly costs connections too.
            if cost < cheapest * _LOSS:
                best, cheapest = number, cost
            singly += polls_a_second
        return best

    def prefers_collection(
        self,
        *,
        watched: int,
        polls_a_second: float,
        beside: float = 0.0,
        pause: float,
        seconds: float,
        size: int,
        now: float,
    ) -> bool:
        """Choose, from a collection just fetched; return whether to ask together.

        Args:
            watched: How many tasks are watched.
            polls_a_second: How many single polls there would be.
            beside: How many of them there would be beside collections.
            pause: Seconds between two collections, as a rule.
            seconds: What this collection took.
            size: Its bytes.
            now: Monotonic seconds.
        """
        if self._is_given_up:
            return False
        self._worth_with = watched * _MANY_MORE
        singly = polls_a_second * self._single
        together = (seconds + size * _SECONDS_A_BYTE) / pause + beside * self._single
        share = together / singly if singly else float("inf")
        limit = _LOSS if self.is_together else _GAIN
        self.is_together = share < limit
        word = "together" if self.is_together else "singly"
        self.reason = (
            f"{word}: asking for all costs {share:.2f} of asking one by one, and below"
            f" {limit:g} it is chosen ({polls_a_second:.0f} polls a second; {size}"
            f" bytes every {pause:.1f} s)"
        )
        if self.is_together:
            self._next_break = _FIRST_BREAK
        else:
            # The share falls as more are watched: a near miss is tried again soon, or
            # chance would decide whether a trickle waits until it has doubled.
            growth = max(_A_FEW_MORE, share / _GAIN)
            self._worth_with = watched * min(_MANY_MORE, growth)
            self._put_off(now)
        return self.is_together

    def disable(
        self, why: str, now: float, *, for_good: bool, at_least: float = 0.0
    ) -> None:
        """Ask singly from now on: for good, or until a growing break is over.

        Args:
            why: The reason, in words.
            now: Monotonic seconds.
            for_good: Whether there is no use in another try.
            at_least: Seconds that the server asked to be left alone.
        """
        self.is_together = False
        self.reason = f"singly: {why}"
        self._usual = 0.0
        self._is_given_up = for_good
        self._put_off(now)
        self._not_before = max(self._not_before, now + at_least)

    def _put_off(self, now: float) -> None:
        self._not_before = now + self._next_break
        self._next_break = min(_LONGEST_BREAK, self._next_break * 2)
