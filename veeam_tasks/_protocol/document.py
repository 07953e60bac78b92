"""Bytes to a neutral tree and back: XML through xmltodict, JSON, and their limits.

The tree has the shape that xmltodict gives: ``@Href`` is an attribute, ``#text`` a text
beside attributes, ``Link`` and ``Task`` below the root are always lists. JSON is
brought into the same shape, whatever the case of its names.

Facts (``representation`` reference page, and captures): XML is in the namespace
``http://www.veeam.com/ent/v1.0``, declared or not, with or without a prefix.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar
from xml.parsers import expat

import xmltodict

from veeam_tasks._errors import ArgumentError, MalformedReplyError
from veeam_tasks._protocol import json_document as _json
from veeam_tasks._protocol.limits import (
    MAX_ATTRIBUTES,
    MAX_DEPTH,
    NOT_XML,
    DocumentError,
    replace_bad_references,
)
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets, quoted, visible

ValueT = TypeVar("ValueT")

NAMESPACE = "http://www.veeam.com/ent/v1.0"

_MAX_NAMESPACE = 128
_LONGEST_PROBLEM = 160
_BYTES_PER_ELEMENT = 12
_FEW_ELEMENTS = 4096
_LONG = 1 << 20

BOM_AND_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""Blanks and byte order marks, in any order; no document begins with these bytes."""
_XML_BEGINS = (b"<", b"\xff\xfe", b"\xfe\xff", b"\x00<")
_JSON_BEGINS = (b"{", b"[")
_HTML = re.compile(rb"<(?:!DOCTYPE\s+)?html(?![\w.:-])", re.IGNORECASE)

_DOCTYPE = re.compile(rb"(?:\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)
_ENCODINGS = {"utf-8", "utf-16", "us-ascii", "iso-8859-1"}
_FORCED = ("Link", "Task")
_BAD_REFERENCE = expat.errors.codes[expat.errors.XML_ERROR_BAD_CHAR_REF]
_PREFIXES = {
    NAMESPACE: None,
    "http://www.w3.org/2001/XMLSchema-instance": "xsi",
    "http://www.w3.org/XML/1998/namespace": "xml",
}


class _NamespacesError(Exception):
    """The document must be read with its namespaces resolved."""


def is_dense(size: int, elements: int) -> bool:
    """Tell whether a document has more elements than its size can mean.

    A million empty elements would take a second and mean nothing; the shortest task
    has some 20 bytes an element.
    """
    return elements > max(_FEW_ELEMENTS, size // _BYTES_PER_ELEMENT)


def parse(
    reply: Reply, secrets: Secrets | None, *, resolve: bool = True
) -> tuple[str, Any]:
    """Return the name of the root (empty for JSON) and what it holds.

    An XML root may hold None, a string or a mapping; a JSON root is a mapping.

    Args:
        reply: Its first byte decides how it is read, unless its type is HTML.
        secrets: Hidden from the excerpt; None leaves the body out of the error.
        resolve: False refuses XML that must be read a second time: for its namespaces
            or for references to characters that XML does not have.

    Raises:
        MalformedReplyError: It is neither XML nor JSON, or breaks a limit.
    """
    return _read(reply, secrets, _json.read, resolve=resolve)


def decode(
    reply: Reply,
    secrets: Secrets,
    read: Callable[[str, Any], ValueT],
    *,
    resolve: bool = True,
) -> ValueT:
    """Return what `read` makes of the name of the root and what it holds.

    Args:
        reply: See `parse`.
        secrets: Hidden from messages.
        read: Raises `DocumentError` if that is not what was expected.
        resolve: See `parse`.

    Raises:
        MalformedReplyError: It cannot be parsed, or `read` refuses it.
    """
    name, value = parse(reply, secrets, resolve=resolve)
    try:
        return read(name, value)
    except DocumentError as error:
        problem = str(error)
    # Behind the except block: else the error would have the other as its context,
    # whose frames hold the reply.
    raise malformed(reply, problem, secrets)


def parse_as_is(reply: Reply, secrets: Secrets) -> dict[str, Any]:
    """Return a document as xmltodict or JSON gives it, only without namespaces.

    Raises:
        MalformedReplyError: It is neither XML nor JSON, or breaks a limit.
    """
    name, value = _read(reply, secrets, _json.read_as_is, resolve=True)
    if name:
        return {name: value}
    assert isinstance(value, dict)
    return value


def _read(
    reply: Reply,
    secrets: Secrets | None,
    read_json: Callable[[bytes], dict[str, Any]],
    *,
    resolve: bool,
) -> tuple[str, Any]:
    body = reply.body.lstrip(BOM_AND_BLANKS)
    try:
        if _is_xml(reply.content_type, body):
            return _xml(body, resolve=resolve)
        return "", read_json(body)
    except DocumentError as error:
        problem = str(error)
    except expat.ExpatError as error:
        problem = f"it is not well-formed XML ({error})"
    except RecursionError:
        problem = f"it is nested deeper than {MAX_DEPTH}"
    except ValueError as error:
        # UnicodeError and JSONDecodeError among them; their texts show no content.
        problem = f"it cannot be read ({type(error).__name__}: {_reason(error)})"
    raise malformed(reply, problem, secrets)


def malformed(
    reply: Reply, problem: str, secrets: Secrets | None
) -> MalformedReplyError:
    """Return the error for a reply with a problem, which may quote it at its end.

    Without `secrets` neither the problem nor the body is shown.
    """
    if secrets is None:
        return MalformedReplyError(request=reply.request, problem="it is unreadable")
    # Hidden before it is cut, so that no half of a secret stays.
    text = visible(secrets.hide(problem[: 16 * _LONGEST_PROBLEM]))
    return MalformedReplyError(
        request=reply.request,
        problem=text
        if len(text) <= _LONGEST_PROBLEM
        else f"{text[:_LONGEST_PROBLEM]}...",
        excerpt=secrets.excerpt(reply.body),
    )


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{error.reason} at byte {error.start}"
    return str(error)


def is_html(content_type: str) -> bool:
    """Tell whether a reply says that it is HTML: a proxy's page, whatever is in it."""
    return "html" in content_type


def _is_xml(content_type: str, body: bytes) -> bool:
    """Tell XML from JSON by the first byte, since proxies and gateways change types.

    Raises:
        DocumentError: It is neither.
    """
    if not body:
        text = f"the reply is empty (Content-Type: {content_type or 'none'})"
        raise DocumentError(text)
    if not is_html(content_type):
        if _HTML.match(body) is not None:
            text = f"it is HTML (Content-Type: {content_type or 'none'})"
            raise DocumentError(text)
        if body.startswith(_XML_BEGINS):
            return True
        if body.startswith(_JSON_BEGINS):
            return False
    text = f"it is not XML or JSON but {content_type or 'of no known type'}"
    raise DocumentError(text)


def _xml(body: bytes, *, resolve: bool) -> tuple[str, Any]:
    if len(body) > _LONG and body.count(b"=") > MAX_ATTRIBUTES * body.count(b"<"):
        # Some element has too many. Seen before expat holds ten times as much of them.
        _refuse_size(0, 0)
    if b"<!DOCTYPE" in body and _DOCTYPE.match(body):
        # Seen before expat does: after a handler's refusal it would read on.
        _refuse_doctype()
    try:
        return _tree(body, len(body), resolve=resolve)
    except expat.ExpatError as error:
        if error.code != _BAD_REFERENCE or not resolve:
            raise
        again = replace_bad_references(body)
        if again is None:
            raise
    return _tree(again, len(body), resolve=resolve)


def _tree(body: bytes, size: int, *, resolve: bool) -> tuple[str, Any]:
    try:
        tree = xmltodict.parse(body, expat=_Guard(size), force_list=_FORCED)
    except _NamespacesError:
        tree = None
    if tree is None:
        if not resolve:
            text = "its namespaces must be resolved"
            raise DocumentError(text)
        tree = xmltodict.parse(
            body,
            expat=_Guard(size),
            force_list=_FORCED,
            process_namespaces=True,
            namespaces=_PREFIXES,
        )
    ((name, value),) = tree.items()
    # A root of a forced name is a list of one.
    return name, value[0] if type(value) is list else value


class _Guard:
    """Stands in for expat and for its parser: counts while xmltodict builds.

    Almost every document declares the one namespace at its root and uses no prefix;
    any other raises `_NamespacesError`, unless namespaces are being resolved, which
    is slower.
    """

    StartNamespaceDeclHandler: Callable[[str | None, str | None], None]
    StartElementHandler: Callable[[str, list[str]], None]
    EndElementHandler: Callable[[str], None]
    CharacterDataHandler: Callable[[str], None]
    EntityDeclHandler: Callable[..., None]
    ordered_attributes: bool
    buffer_text: bool

    def __init__(self, size: int) -> None:
        self._size = size

    def ParserCreate(  # noqa: N802 - expat's name
        self, _encoding: str | None, separator: str | None
    ) -> "_Guard":
        self._resolving = separator is not None
        self._parser = expat.ParserCreate(None, separator)
        return self

    def Parse(self, body: bytes, final: bool) -> None:  # noqa: FBT001, N802 - expat's
        parser = self._parser
        parser.ordered_attributes = self.ordered_attributes
        parser.buffer_text = self.buffer_text
        parser.XmlDeclHandler = _check_declaration
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartNamespaceDeclHandler = _check_namespace
        parser.CharacterDataHandler = self.CharacterDataHandler
        self._count(parser)
        # In one piece: expat 2.5 is quadratic on one huge attribute fed in pieces.
        parser.Parse(body, final)

    def _count(self, parser: expat.XMLParserType) -> None:
        begin, finish = self.StartElementHandler, self.EndElementHandler
        resolving = self._resolving
        depth = 0
        left = max(_FEW_ELEMENTS, self._size // _BYTES_PER_ELEMENT)

        def start(name: str, attributes: list[str]) -> None:
            nonlocal depth, left
            depth += 1
            left -= 1
            if depth > MAX_DEPTH or left < 0 or len(attributes) > 2 * MAX_ATTRIBUTES:
                _refuse_size(depth, left)
            if not resolving:
                if ":" in name:
                    raise _NamespacesError
                if depth == 1:
                    attributes = _without_namespaces(attributes)
                elif "xmlns" in attributes:
                    raise _NamespacesError
            begin(name, attributes)

        def end(name: str) -> None:
            nonlocal depth
            depth -= 1
            finish(name)

        parser.StartElementHandler = start
        parser.EndElementHandler = end


def _without_namespaces(attributes: list[str]) -> list[str]:
    kept: list[str] = []
    pairs = iter(attributes)
    for name, value in zip(pairs, pairs, strict=True):
        if not name.startswith("xmlns"):
            kept += name, value
        elif name == "xmlns" and value != NAMESPACE:
            raise _NamespacesError
    return kept


def _refuse_size(depth: int, left: int) -> NoReturn:
    if depth > MAX_DEPTH:
        text = f"it is nested deeper than {MAX_DEPTH}"
    elif left < 0:
        text = "it has more elements than its size can mean"
    else:
        text = f"an element has more than {MAX_ATTRIBUTES} attributes"
    raise DocumentError(text)


def _refuse_doctype(*_: object) -> NoReturn:
    text = "it has a DOCTYPE, which no Enterprise Manager sends"
    raise DocumentError(text)


def _check_declaration(_version: str, encoding: str | None, _standalone: int) -> None:
    # Others would be looked up among Python's codecs, which hold surprises.
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        text = f"its encoding is not supported: {encoding}"
        raise DocumentError(text)


def _check_namespace(_prefix: str | None, uri: str | None) -> None:
    # Every name would be prefixed with it.
    if uri is not None and len(uri) > _MAX_NAMESPACE:
        text = f"a namespace is longer than {_MAX_NAMESPACE}"
        raise DocumentError(text)


_NAME = re.compile(r"@?[^\W\d][\w.-]*(?::[^\W\d][\w.-]*)?|#text")


def encode(body: Mapping[str, object]) -> bytes:
    """Return a request body in XML: xmltodict's shape, its order kept.

    The order of elements matters to the server (``specifications`` reference page).

    Args:
        body: One root. Without an ``@xmlns`` it is put into the namespace of the
            Enterprise Manager.

    Raises:
        TypeError: Something is not a mapping, a list, a text, a number or None.
        ValueError: There is not exactly one root, a name or a text is not allowed
            in XML, or it is nested too deep.
    """
    if not isinstance(body, Mapping):  # a caller may not be type-checked
        text = f"a body must be a mapping, not {type(body).__name__}"
        raise TypeError(text)
    if len(body) != 1:
        text = f"a body has exactly one root element, not {len(body)}"
        raise _bad_body(text)
    ((name, value),) = body.items()
    _check_name(name)
    content = _encodable(name, value, 1)
    if name[0] in "@#" or type(content) is list:
        text = f"a body has exactly one root element; {quoted(name)} is none"
        raise _bad_body(text)
    if type(content) is not dict:
        content = {"#text": content}
    root = {"@xmlns": NAMESPACE} | content
    return xmltodict.unparse({name: root}).encode()


def _bad_body(problem: str) -> ArgumentError:
    return ArgumentError(parameter="body", problem=problem, subject="body:")


def _encodable(name: str, value: object, depth: int) -> Any:
    if depth > MAX_DEPTH:
        text = f"a body must not be nested deeper than {MAX_DEPTH}"
        raise _bad_body(text)
    if isinstance(value, Mapping) and name[0] not in "@#":
        for key in value:
            _check_name(key)
        return {key: _encodable(key, item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and name[0] not in "@#":
        if any(isinstance(item, list | tuple) for item in value):
            text = f"{name}: a list in a list has no form in XML"
            raise TypeError(text)
        return [_encodable(name, item, depth) for item in value]
    return _scalar(name, value)


def _scalar(name: str, value: object) -> str | bool | float | None:
    if isinstance(value, str):
        wrong = NOT_XML.search(value)
        if wrong is not None:
            text = f"{name}: the character {wrong[0]!a} is not allowed in XML"
            raise _bad_body(text)
        return str.__str__(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = f"{name}: {value} has no form in XML"
        raise _bad_body(text)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = f"{name}: {type(value).__name__} has no form in XML"
    raise TypeError(text)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        text = f"a name must be a string, not {type(name).__name__}"
        raise TypeError(text)
    if _NAME.fullmatch(name) is None:
        text = f"{quoted(name)} is no name of an XML element or attribute"
        raise _bad_body(text)
