"""What no document may have: too deep a nesting, characters that XML has not; pure."""

import re
import sys

MAX_DEPTH = 32
"""How deep elements, or JSON objects and lists, may be nested."""
MAX_ATTRIBUTES = 64
"""How many attributes an element, or members a JSON object, may have."""


class DocumentError(ValueError):
    """A document breaks a rule; becomes a `MalformedReplyError` with this text."""


NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Comments, CDATA and instructions are passed over, to the end if they have none. No
# byte is tried twice, so that the time grows with the length alone.
_REFERENCE = re.compile(
    rb"<!--.*?(?:-->|\Z)|<!\[CDATA\[.*?(?:\]\]>|\Z)|<\?.*?(?:\?>|\Z)"
    rb"|&#(?:x([0-9A-Fa-f]++)|([0-9]++));",
    re.DOTALL,
)
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")
_FEW_REFERENCES = 4096
_BYTES_PER_REFERENCE = 12
_MOST_DIGITS = 7


def replace_bad_references(body: bytes) -> bytes | None:
    """Return XML with each reference to what is no character made one to U+FFFD.

    A message may quote what a program wrote to a terminal. .NET's XmlSerializer then
    writes the escape character as ``&#x1B;``, which no XML parser accepts.

    None if that is not done: it is in UTF-16, or has more references than its size can
    mean.
    """
    if body.startswith(_WIDE):
        return None
    left = max(_FEW_REFERENCES, len(body) // _BYTES_PER_REFERENCE)
    pieces: list[bytes] = []
    at = 0
    for found in _REFERENCE.finditer(body):
        left -= 1
        if left < 0:
            return None
        if found.lastindex is not None and not _is_character(found[1], found[2]):
            # A reference again, since the encoding may not have the character.
            pieces += body[at : found.start()], b"&#xFFFD;"
            at = found.end()
    return b"".join((*pieces, body[at:]))


def _is_character(hexadecimal: bytes | None, decimal: bytes | None) -> bool:
    digits = (hexadecimal or decimal or b"").lstrip(b"0") or b"0"
    if len(digits) > _MOST_DIGITS:
        return False
    code = int(digits, 16 if hexadecimal else 10)
    return code <= sys.maxunicode and NOT_XML.match(chr(code)) is None
