"""Look for secrets in whatever form something may have written them.

Each is looked for as it is, escaped as in JSON, Python, HTML, a URL and a dump of
PostgreSQL (also twice, since JSON is kept inside JSON), as UTF-16, in hexadecimal, and
in base64 wherever in a longer text it stands. Upper and lower case are one.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

import attrs

_ESCAPES: Final[tuple[Callable[[str], str], ...]] = (
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: ascii(text)[1:-1],
    lambda text: html.escape(text, quote=False),
    html.escape,
    quote,
    lambda text: quote(text, safe=""),
    quote_plus,
    lambda text: text.replace("\\", "\\\\"),
)
_ENCRYPTED: Final = re.compile(rb"gAAAA[\w-]{60,}={0,2}")
_TABLE: Final = re.compile(r"^COPY (\S+) .*?;\n(.*?)^\\\.$", re.MULTILINE | re.DOTALL)


def forms(secret: str) -> set[bytes]:
    """Return in which forms this may have been written, in lower case."""
    texts = {secret}
    for _ in range(2):
        texts |= {escape(text) for text in texts for escape in _ESCAPES}
    found = {text.encode() for text in texts}
    found |= {secret.encode("utf-16-le"), secret.encode("utf-16-be")}
    for coded in (secret.encode(), secret.encode("utf-16-le")):
        found |= {coded.hex().encode(), *_as_base64(coded)}
    return {form.lower() for form in found}


def _as_base64(secret: bytes) -> Iterator[bytes]:
    """Give what base64 makes of it, however many bytes stand before and after it."""
    for before, shared in ((0, 0), (1, 2), (2, 3)):
        padded = bytes(before) + secret
        coded = base64.b64encode(padded).rstrip(b"=")
        last = len(coded) if len(padded) % 3 == 0 else -1
        alone = coded[shared:last]
        yield from (alone, alone.translate(bytes.maketrans(b"+/", b"-_")))


@attrs.frozen
class Search:
    """Secrets, in all their forms.

    Args:
        secrets: What must not be found.
    """

    secrets: frozenset[str] = attrs.field(converter=frozenset, repr=False)
    _forms: dict[str, set[bytes]] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        known = {secret: forms(secret) for secret in self.secrets}
        object.__setattr__(self, "_forms", known)

    @property
    def number_of_forms(self) -> int:
        """How many are looked for."""
        return sum(map(len, self._forms.values()))

    def count(self, text: bytes) -> int:
        """Return how many of the secrets are in the text, in some form."""
        lowered = text.lower()
        return sum(
            any(form in lowered for form in known) for known in self._forms.values()
        )

    def blind_spots(self) -> int:
        """Return how many forms would not be found in a text around them."""
        return sum(
            not self.count(b'{"a": "' + form + b'"}\n')
            for known in self._forms.values()
            for form in known
        )


def tables_of(dump: bytes) -> dict[str, bytes]:
    """Return the rows of each table of a dump by ``pg_dump``, as they stand there."""
    text = dump.decode()
    return {
        name.removeprefix("public."): rows.encode()
        for name, rows in _TABLE.findall(text)
    }


def decrypted(rows: bytes, decrypt: Callable[[bytes], bytes]) -> Iterable[bytes]:
    """Give what is encrypted in these rows by Airflow, as it was before."""
    return map(decrypt, _ENCRYPTED.findall(rows))
