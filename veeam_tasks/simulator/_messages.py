"""One request and its answer, as values between the service and HTTP."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote
from xml.parsers import expat

import attrs
from multidict import CIMultiDict

from veeam_tasks.simulator._tree import NAMESPACE, MediaKind, Node, render
from veeam_tasks.simulator._version import ServerVersion

TOKEN: Final = "X-RestSvcSessionId"  # noqa: S105 - the name of a header
MEDIA_TYPES: Final[dict[MediaKind, str]] = {
    "xml": "application/xml; charset=utf-8",
    "json": "application/json; charset=utf-8",
}


@attrs.frozen(kw_only=True)
class Incoming:
    """One request.

    Attributes:
        method: The HTTP method.
        target: Path and query as they came.
        headers: The headers; names without regard to case.
        body: The body.
        connection: The number of the connection.
    """

    method: str
    target: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    connection: int = 0

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded; names in lower case, of several the last."""
        text = self.target.partition("?")[2]
        return {
            name.lower(): value
            for name, value in parse_qsl(text, keep_blank_values=True)
        }

    @property
    def content_type(self) -> str:
        """The media type of the body in lower case, without parameters."""
        text = self.headers.get("Content-Type", "")
        return text.partition(";")[0].strip().lower()


@attrs.define(kw_only=True)
class Answer:
    """One reply, before the headers that every reply has.

    Attributes:
        status: The HTTP status.
        body: The body.
        content_type: Its media type, or None for a reply without a body.
        headers: Further headers, in the spelling of versions before 13.
        reason: The reason phrase; None for that of the version.
    """

    status: int
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    reason: str | None = None


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """The service answers with an error body."""

    def __init__(
        self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def accepted_kind(accept: str | None, version: ServerVersion) -> MediaKind:
    """Return XML or JSON for an Accept header: XML unless JSON is preferred."""
    if not accept:
        return "xml"
    text = accept.lower()
    if "json" not in text:
        return "xml"
    if version.json_anywhere:
        return "json" if "application/json" in text else "xml"
    best: tuple[float, MediaKind] = (0.0, "xml")
    for part in text.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        kind = _KINDS.get(name)
        weight = _weight(parameters)
        if kind is not None and weight > best[0]:
            best = (weight, kind)
    return best[1]


_KINDS: Final[dict[str, MediaKind]] = {
    "application/json": "json",
    "text/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
    "application/*": "xml",
    "*/*": "xml",
}


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def resource(
    node: Node, kind: MediaKind, version: ServerVersion, status: int = 200
) -> Answer:
    """Answer with a resource."""
    return Answer(
        status=status,
        body=render(node, kind, version),
        content_type=MEDIA_TYPES[kind],
    )


def error_body(
    status: int, message: str, kind: MediaKind, version: ServerVersion
) -> bytes:
    """Return an error body as the two public captures show it.

    The JSON one prints its nulls in every version.
    """
    if kind == "json":
        members = {
            "FirstChanceExceptionMessage": None,
            "Message": message,
            "StackTrace": None,
            "Status": None,
            "StatusCode": status,
        }
        spelled = {version.key(name): value for name, value in members.items()}
        return json.dumps(spelled, separators=(",", ":")).encode()
    node = Node(
        "Error",
        (("Message", message), ("StatusCode", status)),
        (("FirstChanceExceptionMessage", message if status == SERVER_ERROR else None),),
    )
    return render(node, "xml", version)


def refused(refusal: Refusal, kind: MediaKind, version: ServerVersion) -> Answer:
    """Answer with an error body."""
    return Answer(
        status=refusal.status,
        body=error_body(refusal.status, refusal.message, kind, version),
        content_type=MEDIA_TYPES[kind],
        headers=refusal.headers,
    )


def http_sys(status: int, title: str, text: str) -> Answer:
    """Answer as HTTP.sys does by itself, before the service sees the request."""
    page = (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN"'
        '"http://www.w3.org/TR/html4/strict.dtd">\r\n'
        f"<HTML><HEAD><TITLE>{title}</TITLE>\r\n"
        '<META HTTP-EQUIV="Content-Type" Content="text/html; charset=us-ascii">'
        f"</HEAD>\r\n<BODY><h2>{title}</h2>\r\n<hr><p>HTTP Error {status}. {text}</p>"
        "\r\n</BODY></HTML>\r\n"
    )
    return Answer(
        status=status,
        body=page.encode("ascii"),
        content_type="text/html; charset=us-ascii",
        reason=title,
    )


SERVER_ERROR: Final = 500


_NO_CONTENT: Final = 204


class ReplyHeaders:
    """Gives an answer what every reply of a version has.

    Args:
        version: The version.
        date: Returns the ``Date`` header, or None for replies without it.
    """

    def __init__(self, version: ServerVersion, date: Callable[[], str] | None) -> None:
        self._version = version
        self._date = date

    def headers(self, answer: Answer) -> CIMultiDict[str]:
        """Return all headers of a reply, in order, spelled as the version does."""
        return CIMultiDict(self._pairs(answer, len(answer.body)))

    def reason(self, answer: Answer) -> str:
        """Return the reason phrase."""
        if answer.reason is not None:
            return answer.reason
        found = self._version.reasons.get(answer.status)
        return found if found is not None else HTTPStatus(answer.status).phrase

    def head(
        self, answer: Answer, *, length: int | None = None, has_length: bool = True
    ) -> bytes:
        """Return status line and headers as bytes, with another length if given."""
        measured = len(answer.body) if length is None else length
        pairs = self._pairs(answer, measured if has_length else None)
        lines = [f"HTTP/1.1 {answer.status} {self.reason(answer)}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _pairs(self, answer: Answer, length: int | None) -> list[tuple[str, str]]:
        lower = self._version.lower_case_headers
        pairs = [("Cache-Control", "private")]
        if answer.content_type is not None:
            pairs.append(("Content-Type", answer.content_type))
        if answer.status != _NO_CONTENT and length is not None:
            pairs.append(("Content-Length", str(length)))
        pairs += [("Server", self._version.server), *answer.headers]
        if self._date is not None:
            pairs.append(("Date", self._date()))
        return [(name.lower() if lower else name, value) for name, value in pairs]


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


def read_body(
    incoming: Incoming, kind: MediaKind, version: ServerVersion
) -> Body | None:
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
    is_json = kind == "json" if version.json_anywhere else content_type in _JSON
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
    texts: dict[str, str] = {}
    try:
        value = json.loads(raw)
        if isinstance(value, dict):
            _collect(value, texts)
    except (ValueError, RecursionError):  # RecursionError: it is nested too deep
        value = None
    if not isinstance(value, dict):
        # The text of the public capture.
        raise Refusal(_BAD, "Node [root] does not exist.")
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
    except (LookupError, ValueError):  # its encoding is none that there is
        problem = "There is an error in XML document (1, 1)."
    if problem:
        raise Refusal(_BAD, problem)
    return Body(reader.root, reader.texts)
