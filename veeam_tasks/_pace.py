"""Pauses between two polls of one task, and seconds that callers pass in; pure."""

import math
from collections.abc import Mapping

import attrs

from veeam_tasks._errors import ArgumentError
from veeam_tasks._redaction import of_the_package, quoted

LONGEST_PAUSE = 600.0
"""Seconds. Well under the 15 minutes after which the server drops an idle logon
session (``http_authentication`` reference page)."""


def as_number(value: object, rule: str) -> float:
    """Return a number as a float.

    Args:
        value: What a caller passed in.
        rule: What it must be, in words, for the message.

    Raises:
        TypeError: It is no number.
        ValueError: It is a whole number that no float can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = f"{rule}, not {quoted(value)}"
        raise TypeError(text)
    try:
        return float(value)
    except OverflowError:
        # Not repeated: it has more than 300 digits.
        text = f"{rule}: this number is far out of range"
    raise ValueError(text)


def check_seconds(name: str, value: object) -> None:
    """Raise unless `value` is a span of time.

    Raises:
        ValueError: It is not more than 0, or not finite.
        TypeError: It is of another type.
    """
    number = as_number(value, f"{name} must be seconds")
    if not math.isfinite(number) or number <= 0:
        problem = "it must be more than 0 seconds"
        raise ArgumentError(parameter=name, problem=problem, shown=quoted(value))


def check_flag(name: str, value: object) -> None:
    """Raise unless `value` is True or False: any text would be true, "no" as well.

    Raises:
        TypeError: It is of another type.
    """
    if not isinstance(value, bool):
        text = f"{name} must be True or False, not {quoted(value)}"
        raise TypeError(text)


def check_timeout(timeout: float | None) -> float | None:
    """Return a timeout in seconds, or None for none.

    Raises:
        ValueError: It is negative or not a number.
        TypeError: It is of another type.
    """
    if timeout is None:
        return None
    number = as_number(timeout, "timeout must be seconds or None")
    if math.isnan(number) or number < 0:
        problem = "it must be 0 seconds or more, or None"
        raise ArgumentError(parameter="timeout", problem=problem, shown=quoted(timeout))
    return None if math.isinf(number) else number


def _bad(*, name: str, problem: str, value: float | str) -> ArgumentError:
    if isinstance(value, str):
        return ArgumentError(parameter=name, problem=problem, subject=value)
    shown = f"{value:g}"
    subject = f"Pace({name}={shown}):"
    return ArgumentError(parameter=name, problem=problem, shown=shown, subject=subject)


def _number(value: float) -> float:
    return as_number(value, "a pace is made of numbers")


@attrs.frozen(kw_only=True)
class Pace:
    """How long to pause between two polls of one task.

    Args:
        first: Seconds of the first pause, and of the first after each change.
        growth: Factor from one pause to the next while nothing changes.
        longest: Seconds that no pause exceeds; 600 at most.
        jitter: Share of each pause, 0 to 1, by which it is cut at random, so that
            many tasks do not fall due together.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument is not a number.
    """

    first: float = attrs.field(default=1.0, converter=_number)
    growth: float = attrs.field(default=1.1, converter=_number)
    longest: float = attrs.field(default=30.0, converter=_number)
    jitter: float = attrs.field(default=0.1, converter=_number)

    def __attrs_post_init__(self) -> None:
        for name in ("first", "growth", "longest", "jitter"):
            if not math.isfinite(getattr(self, name)):
                raise _bad(
                    name=name,
                    problem="must be a finite number",
                    value=f"Pace({name}=...)",
                )
        if self.first <= 0:
            raise _bad(
                name="first",
                problem="a pause must be longer than nothing",
                value=self.first,
            )
        if self.growth < 1:
            raise _bad(
                name="growth",
                problem="pauses do not shrink; use 1 or more",
                value=self.growth,
            )
        if self.longest > LONGEST_PAUSE:
            problem = (
                f"{LONGEST_PAUSE:g} s at most, since the server drops a logon session"
                " that is idle for 15 minutes"
            )
            raise _bad(name="longest", problem=problem, value=self.longest)
        if self.longest < self.first:
            raise ArgumentError(
                parameter="longest",
                problem=f"is shorter than first={self.first:g}",
                shown=f"{self.longest:g}",
                subject=f"Pace(longest={self.longest:g})",
                others=("first",),
            )
        if not 0 <= self.jitter < 1:
            raise _bad(
                name="jitter",
                problem="a share of the pause, 0 to below 1",
                value=self.jitter,
            )

    def after(self, pause: float) -> float:
        """Return the pause that follows `pause` while nothing changes, unjittered."""
        return min(self.longest, pause * self.growth)

    def jittered(self, pause: float, chance: float) -> float:
        """Return `pause`, cut by up to the share `jitter`; `chance` is in [0, 1)."""
        return pause * (1.0 - self.jitter * chance)


def next_pauses(pauses: Mapping[Pace, float]) -> dict[Pace, float]:
    """Return the pauses of one thing that is asked for at several paces; no change.

    Each poll serves all of them, so all pauses begin with it; only what was due by its
    own pace pauses longer from now on. So there are never more polls than all of them
    make alone, and no pace waits for longer than alone.
    """
    due = min(pauses.values())
    return {
        pace: pace.after(pause) if pause <= due else pause
        for pace, pause in pauses.items()
    }


of_the_package(
    Pace,
)
