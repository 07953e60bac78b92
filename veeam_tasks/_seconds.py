"""Numbers that callers pass in, of seconds above all, checked; pure."""

import math

from veeam_tasks._errors import ArgumentError
from veeam_tasks._shown import quoted


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
