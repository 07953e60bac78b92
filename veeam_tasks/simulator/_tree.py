"""A resource as a tree, and its two spellings: XML and JSON.

XML: attributes, then ``<Links>``, then members in the order of the schema, then the
items of a collection. JSON: a flat object in which Links is always an array and a
collection sits under its own name, so that a collection inside another resource shows
the doubled plural of the server (``Resources.Tasks.Tasks``).
"""

import json
import re
from collections.abc import Iterator
from typing import Final, Literal

import attrs

from veeam_tasks.simulator._version import ServerVersion

Scalar = str | int | bool
MediaKind = Literal["xml", "json"]
NAMESPACE: Final = "http://www.veeam.com/ent/v1.0"
_ROOT: Final = (
    f' xmlns="{NAMESPACE}" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)
DECLARATION: Final = '<?xml version="1.0" encoding="utf-8"?>'
_ESCAPES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\r": "&#xD;",
    "\n": "&#xA;",
    "\t": "&#x9;",
}
_SPECIAL: Final = re.compile(r'[&<>"\x00-\x1f\ud800-\udfff\ufffe\uffff]')
# In the text of an element a quote and a line feed stand for themselves.
_SPECIAL_TEXT: Final = re.compile(
    r"[&<>\x00-\x08\x0b\x0c\x0d\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
)


@attrs.frozen
class TreeLink:
    """One ``<Link>``; `href` is a whole URL."""

    rel: str
    href: str
    type: str | None = None
    name: str | None = None


@attrs.frozen
class Node:
    """One element: what a resource says, whatever its spelling.

    Attributes:
        name: The element's name.
        attributes: What XML writes as attributes; None is absent.
        members: Child elements in the order of the schema; None is absent.
        links: The links, or None for an element that has none by its schema.
        items: The members of a collection, with the name of its JSON array.
        json_first: The members that JSON names before the others: those of the class
            that is derived last, which XML names last.
        links_first: Whether JSON names the links before the attributes.
    """

    name: str
    attributes: tuple[tuple[str, Scalar | None], ...] = ()
    members: tuple[tuple[str, "Scalar | Node | None"], ...] = ()
    links: tuple[TreeLink, ...] | None = None
    items: tuple[str, tuple["Node", ...]] | None = None
    json_first: tuple[str, ...] = ()
    links_first: bool = False


def render(
    node: Node, kind: MediaKind, version: ServerVersion, *, is_root: bool = True
) -> bytes:
    """Return the bytes of a node, as a document or as a part of one."""
    if kind == "xml":
        text = to_xml(node, root=_ROOT if is_root else "")
        return f"{DECLARATION}{text}".encode() if is_root else text.encode()
    return json.dumps(
        to_json(node, version), separators=(",", ":"), ensure_ascii=False
    ).encode("utf-8", "replace")


def to_xml(node: Node, root: str = "") -> str:
    """Return the element; `root` holds the namespaces of a document's root."""
    attributes = "".join(
        f' {name}="{_attribute(value)}"'
        for name, value in node.attributes
        if value is not None
    )
    inner: list[str] = []
    if node.links is not None:
        links = "".join(map(_xml_link, node.links))
        inner.append(f"<Links>{links}</Links>" if links else "<Links />")
    for name, value in node.members:
        if isinstance(value, Node):
            inner.append(to_xml(value))
        elif value is not None:
            inner.append(f"<{name}>{_text(value)}</{name}>")
    if node.items is not None:
        inner.extend(map(to_xml, node.items[1]))
    if not inner:
        return f"<{node.name}{root}{attributes} />"
    return f"<{node.name}{root}{attributes}>{''.join(inner)}</{node.name}>"


def to_json(node: Node, version: ServerVersion) -> dict[str, object]:
    """Return the object that JSON shows for a node."""
    key = version.key
    found: list[tuple[str, object]] = [
        (name, to_json(value, version) if isinstance(value, Node) else value)
        for name, value in _in_json_order(node)
    ]
    if node.items is not None:
        name, nodes = node.items
        found.append((name, [to_json(item, version) for item in nodes]))
    attributes = dict(node.attributes)
    href = [(name, attributes.pop(name)) for name in _HREF if name in attributes]
    uid = [(name, attributes.pop(name)) for name in _NAME if name in attributes]
    links: list[tuple[str, object]] = []
    if node.links is not None:
        links = [("Links", [_json_link(link, version) for link in node.links])]
    elif href:
        links = [("Links", None)]
    if node.links_first:
        found += [*links, *attributes.items(), *uid, *href]
    else:
        found += [*attributes.items(), *uid, *links, *href]
    return {
        key(name): value
        for name, value in found
        if value is not None or version.prints_nulls
    }


# A class of the server has its own members first, then those of what it derives from:
# an entity (Name, UID), a resource (Links, Href, Type).
_NAME: Final = ("Name", "UID")
_HREF: Final = ("Href", "Type")


def _in_json_order(node: Node) -> Iterator[tuple[str, "Scalar | Node | None"]]:
    first = node.json_first
    yield from (pair for pair in node.members if pair[0] in first)
    yield from (pair for pair in node.members if pair[0] not in first)


def _xml_link(link: TreeLink) -> str:
    name = "" if link.name is None else f' Name="{_attribute(link.name)}"'
    kind = "" if link.type is None else f' Type="{_attribute(link.type)}"'
    href = _attribute(link.href)
    return f'<Link Href="{href}"{name}{kind} Rel="{_attribute(link.rel)}" />'


def _json_link(link: TreeLink, version: ServerVersion) -> dict[str, object]:
    pairs = (
        ("Rel", link.rel),
        ("Href", link.href),
        ("Name", link.name),
        ("Type", link.type),
    )
    return {
        version.key(name): value
        for name, value in pairs
        if value is not None or version.prints_nulls
    }


def _attribute(value: Scalar) -> str:
    text = _word(value)
    return _SPECIAL.sub(_escape, text) if _SPECIAL.search(text) else text


def _text(value: Scalar) -> str:
    text = _word(value)
    return _SPECIAL_TEXT.sub(_escape, text) if _SPECIAL_TEXT.search(text) else text


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _escape(found: re.Match[str]) -> str:
    # XML 1.0 has no way to write the other control characters.
    return _ESCAPES.get(found[0], "\ufffd")
