"""What a document may not exceed, and how it is refused; shared by XML and JSON."""

from veeam_tasks._text import visible

MAX_DEPTH = 32
"""How deep elements, or JSON objects and lists, may be nested."""
MAX_ATTRIBUTES = 64
"""How many attributes an element, or members a JSON object, may have."""

_SHOWN = 60


class RefusedError(ValueError):
    """A document breaks a rule; becomes a `MalformedReplyError` with this text."""


def shown(text: str) -> str:
    """Return a text of the server short and printable, for a problem."""
    return visible(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
