"""One request and its answer, as values between the service and HTTP."""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

import attrs

from veeam_tasks.simulator._flavor import Flavor
from veeam_tasks.simulator._tree import MediaKind, Node, render

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


def accepted_kind(accept: str | None, flavor: Flavor) -> MediaKind:
    """Return XML or JSON for an Accept header: XML unless JSON is preferred."""
    if not accept:
        return "xml"
    text = accept.lower()
    if "json" not in text:
        return "xml"
    if flavor.json_anywhere:
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


def resource(node: Node, kind: MediaKind, flavor: Flavor, status: int = 200) -> Answer:
    """Answer with a resource."""
    return Answer(
        status=status,
        body=render(node, kind, flavor),
        content_type=MEDIA_TYPES[kind],
    )


def error_body(status: int, message: str, kind: MediaKind, flavor: Flavor) -> bytes:
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
        spelled = {flavor.key(name): value for name, value in members.items()}
        return json.dumps(spelled, separators=(",", ":")).encode()
    node = Node(
        "Error",
        (("Message", message), ("StatusCode", status)),
        (("FirstChanceExceptionMessage", message if status == SERVER_ERROR else None),),
    )
    return render(node, "xml", flavor)


def refused(refusal: Refusal, kind: MediaKind, flavor: Flavor) -> Answer:
    """Answer with an error body."""
    return Answer(
        status=refusal.status,
        body=error_body(refusal.status, refusal.message, kind, flavor),
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
