"""The plain form of a task's XML, read by one regular expression; pure.

Nearly every reply of the server has this form: no comment, no CDATA, no entity, no
prefix, plain ASCII, its elements in the schema's order. Such a body is read four times
faster than by an XML parser, which matters since it is done for every change of every
task. At the first surprise the answer is None, and the caller parses it properly;
tests hold that both read the same.
"""

import re
from functools import lru_cache
from sys import intern

from veeam_tasks._model import Link, Task, TaskResult, TaskState
from veeam_tasks._protocol.limits import MAX_ATTRIBUTES

_S = rb"[ \t\r\n]*"
# Printable ASCII but for the characters that mean something in XML.
_VALUE = rb"[ !#-%'-;=?-~]*"
_TEXT = rb"[ -%'-;=?-\\^-~]*"
_ATTRIBUTE = rb"[ \t\r\n]+([A-Za-z:]+)=\"(" + _VALUE + rb")\""
_ATTRIBUTES = rb"(?:[ \t\r\n]+[A-Za-z:]+=\"" + _VALUE + rb"\")*" + _S
_PLAIN = re.compile(
    _S.join(
        [
            rb"(?:\xef\xbb\xbf)?(?:<\?xml version=\"1\.0\" encoding=\"utf-8\" ?\?>)?",
            rb"<Task(" + _ATTRIBUTES + rb")>",
            rb"(?:<Links>",
            rb"((?:<Link" + _ATTRIBUTES + rb"/>" + _S + rb")*)</Links>",
            rb")?<TaskId>(task-[0-9]{1,32})</TaskId>",
            rb"<State>([A-Za-z]+)</State>",
            rb"<Operation>([A-Za-z0-9_]+)</Operation>",
            rb"(?:<Result Success=\"(true|false)\" ?(?:/>|>",
            rb"(?:<Message>(" + _TEXT + rb")</Message>",
            rb")?</Result>)",
            rb")?</Task>",
            rb"",
        ]
    )
)
_NAMESPACE = b"http://www.veeam.com/ent/v1.0"
_LINK_NAMES = {b"Rel", b"Href", b"Type", b"Name"}
_attributes = re.compile(_ATTRIBUTE).findall
# A task has some 500; a regular expression takes 50 bytes for each of the body's.
_MAX_BODY = 1 << 16
# A task has some 300 of attributes; they are kept, see `_is_plain_root`.
_MAX_ROOT = 1024


def parse_task(body: bytes) -> Task | None:
    """Return the task that a body in the plain form describes, else None."""
    match = _PLAIN.fullmatch(body) if len(body) <= _MAX_BODY else None
    if match is None:
        return None
    root, told, task_id, word, operation, success, message = match.groups()
    attributes = _unique(root) if len(root) <= _MAX_ROOT else None
    if attributes is None or len(attributes) > MAX_ATTRIBUTES:
        return None
    found = attributes.pop(b"Href", b"").strip()
    if not _is_plain_root(tuple(attributes.items())):
        return None
    href = found.decode() if found else None
    links: list[Link] = []
    for part in told.split(b"<Link")[1:] if told else ():
        link = _link(part, found, href)
        if link is None:
            return None
        links.append(link)
    state = TaskState.from_word(word.decode())
    result = None
    if success is not None:
        text = message and message.strip().decode()
        result = TaskResult(success=success == b"true", message=text or None)
    return Task(
        task_id=task_id.decode(),
        state=state,
        raw_state=word.decode() if state is TaskState.UNKNOWN else state.value,
        operation=intern(operation.decode()),
        result=result,
        links=tuple(links),
        href=href,
    )


def _link(part: bytes, found: bytes, href: str | None) -> Link | None:
    attributes = _unique(part)
    if attributes is None or not attributes.keys() <= _LINK_NAMES:
        return None
    rel, to = attributes.get(b"Rel", b"").strip(), attributes.get(b"Href", b"").strip()
    if not rel or not to:
        return None
    kind, name = attributes.get(b"Type", b"").strip(), attributes.get(b"Name")
    return Link(
        rel=intern(rel.decode()),
        # Most tasks have a link to themselves; one string serves both.
        href=href if href is not None and to == found else to.decode(),
        type=intern(kind.decode()) if kind else None,
        name=None if name is None else name.strip().decode(),
    )


def _unique(part: bytes) -> dict[bytes, bytes] | None:
    """Return attributes by name; None if one is repeated."""
    pairs = _attributes(part)
    named = dict(pairs)
    return named if len(named) == len(pairs) else None


@lru_cache(maxsize=64)
def _is_plain_root(declared: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Tell whether nothing but the one namespace, prefixes and plain names stands."""
    for name, value in declared:
        if name == b"xmlns":
            if value != _NAMESPACE:
                return False
        elif b":" in name:
            prefix, _, local = name.partition(b":")
            if prefix != b"xmlns" or not local.isalpha() or not value:
                return False
    return True
