"""Text as people may see it: control characters written as escapes, the rest as it is.

`str.isprintable` and `repr` are no help: they take the spaces and joiners of other
scripts for control characters, as U+202F in the name of each screenshot of macOS.
"""

import re

# Control characters (Cc), lone surrogates (Cs), separators of lines and paragraphs
# (Zl, Zp), the marks, embeddings, overrides and isolates that turn the direction of
# what follows, and the deprecated ones beside them (U+206A to U+206F).
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]"
)


def has_controls(text: str) -> bool:
    """Return whether a character of `text` is none that people would write."""
    return _CONTROLS.search(text) is not None


def visible(text: str) -> str:
    """Return `text` with every control character written as an escape."""
    return _CONTROLS.sub(_escape, text)


def quoted(value: object) -> str:
    """Return what `repr` does, but with the characters of all scripts as they are."""
    if not isinstance(value, str):
        return visible(repr(value))
    mark = '"' if "'" in value and '"' not in value else "'"
    text = value.replace("\\", "\\\\")
    if mark == "'":
        text = text.replace("'", "\\'")
    return f"{mark}{visible(text)}{mark}"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
