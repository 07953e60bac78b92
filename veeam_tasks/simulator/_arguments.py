"""Arguments of the servers, checked where they are given and not at a first request."""

import math
from collections.abc import Mapping
from typing import Final

_FLAGS: Final = (
    "tls",
    "session_scoped",
    "per_session_counter",
    "date_header",
    "task_location",
    "failure_messages",
    "any_id",
    "access_log",
)
_SPANS: Final = (
    "related_delay",
    "link_delay",
    "session_delay",
    "collect_interval",
    "collect_seconds",
    "clock_skew",
)


def check(given: Mapping[str, object]) -> None:
    """Raise unless each flag is True or False, and each span a number of seconds.

    Any text would be true, "no" as well.

    Raises:
        TypeError: One is of another type; its name is in the message.
        ValueError: A span is no finite number.
    """
    for name in _FLAGS:
        if not isinstance(given[name], bool):
            text = f"{name} must be True or False, not {given[name]!r}"
            raise TypeError(text)
    for name in _SPANS:
        value = given[name]
        if name == "collect_interval" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            text = f"{name} must be seconds, not {value!r}"
            raise TypeError(text)
        if not math.isfinite(value):
            text = f"{name} must be a finite number of seconds, not {value!r}"
            raise ValueError(text)
