"""What request bodies hold: enough to refuse a wrong one and to read a tenant's."""

import json
from typing import Final
from xml.parsers import expat

import attrs

from veeam_tasks.simulator._exchange import Incoming, Refusal
from veeam_tasks.simulator._flavor import Flavor
from veeam_tasks.simulator._tree import NAMESPACE, MediaKind

_BAD: Final = 400
_UNSUPPORTED: Final = 415
_XML: Final = frozenset({"", "application/xml", "text/xml"})
_JSON: Final = frozenset({"application/json", "text/json"})
# What curl and form libraries declare for a body that is empty.
_EMPTY: Final = frozenset({"application/x-www-form-urlencoded"})


@attrs.frozen
class Body:
    """A request body: its root, and the text of every element or member by name."""

    root: str | None
    texts: dict[str, str]


def read_body(incoming: Incoming, kind: MediaKind, flavor: Flavor) -> Body | None:
    """Return the request body, or None if it is empty.

    Raises:
        Refusal: 415 for a media type that is neither XML nor JSON; 400 for a body that
            is not what it says.
    """
    content_type = incoming.content_type
    raw = incoming.body.removeprefix(b"\xef\xbb\xbf").strip()
    known = _XML | _JSON | (frozenset() if raw else _EMPTY)
    if content_type not in known:
        raise Refusal(
            _UNSUPPORTED,
            f"The media type [{content_type}] of the request is not supported.",
        )
    if not raw:
        return None
    # 9.5 Update 4 goes by Accept alone, which is its bug.
    is_json = kind == "json" if flavor.json_anywhere else content_type in _JSON
    return _read_json(raw) if is_json else _read_xml(raw)


def check_root(body: Body | None, wanted: str | None) -> None:
    """Refuse a body with another root than the action takes.

    An absent body is let through: nothing public says which may be left out.

    Raises:
        Refusal: 400; the root is another one.
    """
    if body is None or body.root is None or wanted is None:
        return
    if body.root != f"{NAMESPACE} {wanted}":
        found = body.root.rpartition(" ")[2]
        raise Refusal(
            _BAD,
            f"There is an error in XML document: <{found}> was not expected,"
            f" but <{wanted}> of {NAMESPACE}.",
        )


def _read_json(raw: bytes) -> Body:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        # The text of the public capture.
        raise Refusal(_BAD, "Node [root] does not exist.")
    texts: dict[str, str] = {}
    _collect(value, texts)
    return Body(None, texts)


def _collect(value: dict[str, object], texts: dict[str, str]) -> None:
    for name, member in value.items():
        if isinstance(member, dict):
            _collect(member, texts)
        elif isinstance(member, str):
            texts[name.lower()] = member


class _Reader:
    def __init__(self) -> None:
        self.root: str | None = None
        self.texts: dict[str, str] = {}
        self._name = ""

    def start(self, name: str, _: dict[str, str]) -> None:
        self.root = self.root or name
        self._name = name.rpartition(" ")[2].lower()
        self.texts[self._name] = ""

    def text(self, text: str) -> None:
        if self._name:
            self.texts[self._name] += text

    def end(self, _: str) -> None:
        self._name = ""


def _read_xml(raw: bytes) -> Body:
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.EndElementHandler = reader.end
    problem = ""
    try:
        parser.Parse(raw, True)  # noqa: FBT003 - expat takes it by position
    except expat.ExpatError as error:
        problem = f"There is an error in XML document ({error.lineno}, {error.offset})."
    if problem:
        raise Refusal(_BAD, problem)
    return Body(reader.root, reader.texts)
