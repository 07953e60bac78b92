"""What the server says, as people may see it."""

from __future__ import annotations

import re
from typing import Final

# Control characters, surrogates, line separators, and what turns the direction of text.
_CONTROLS: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return a text of the server with every control character as an escape."""
    return _CONTROLS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
