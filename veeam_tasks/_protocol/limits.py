"""What a document may not exceed, and how it is refused; shared by XML and JSON."""

MAX_DEPTH = 32
"""How deep elements, or JSON objects and lists, may be nested."""
MAX_ATTRIBUTES = 64
"""How many attributes an element, or members a JSON object, may have."""


class DocumentError(ValueError):
    """A document breaks a rule; becomes a `MalformedReplyError` with this text."""
