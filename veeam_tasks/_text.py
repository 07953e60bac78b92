"""What may be shown: secrets hidden, control characters visible, excerpts short."""

import base64
import binascii
import re
from collections import deque
from urllib.parse import quote
from xml.sax.saxutils import escape

_HIDDEN = "[hidden]"
_SHORTEST_SECRET = 4
_KEPT = 64
_EXCERPT = 120


def visible(text: str) -> str:
    """Return `text` with every control and format character written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


class Secrets:
    """The secrets of one manager, to be hidden from whatever people see.

    Secrets of fewer than four characters are not hidden: they stand in any text.
    The oldest are forgotten, so that days of renewals do not fill the memory.
    """

    def __init__(self) -> None:
        self._forms: deque[str] = deque(maxlen=_KEPT)
        self._lowered: list[str] = []
        self._pattern: re.Pattern[str] | None = None

    def add(self, *secrets: str | None) -> None:
        """Hide `secrets` from now on, also in base64, percent or XML encoding."""
        for secret in secrets:
            for form in _forms(secret or ""):
                if form not in self._forms:
                    self._forms.append(form)
        self._lowered = [form.lower() for form in self._forms]
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = (
            re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
            if longest_first
            else None
        )

    def hide(self, text: str) -> str:
        """Return `text` with every known secret replaced."""
        return text if self._pattern is None else self._pattern.sub(_HIDDEN, text)

    def is_in(self, text: str) -> bool:
        """Tell whether a known secret stands in `text`; far cheaper than `hide`."""
        lowered = text.lower()
        for form in self._lowered:  # noqa: SIM110 - a generator costs twice as much
            if form in lowered:
                return True
        return False

    def excerpt(self, body: bytes) -> str:
        """Return the first bytes of a body: hidden, visible, quoted, short."""
        # Hidden before it is cut, so that no half of a secret stays.
        begin = body.lstrip()[: 16 * _EXCERPT].decode("utf-8", "replace")
        text = self.hide(begin).strip()
        short = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "..."
        return repr(visible(short)) if short else ""

    def __repr__(self) -> str:
        return f"<Secrets {len(self._forms)} hidden>"


def _forms(secret: str) -> set[str]:
    if len(secret) < _SHORTEST_SECRET:
        return set()
    forms = {secret, quote(secret, safe=""), escape(secret, {'"': "&quot;"})}
    forms.add(base64.b64encode(secret.encode()).decode("ascii"))
    try:
        # A token is often the session ID in base64.
        plain = base64.b64decode(secret, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return forms
    if len(plain) >= _SHORTEST_SECRET and plain.isprintable():
        forms.add(plain)
    return forms
