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

_S = r"[ \t\r\n]*+"
# Printable ASCII but for the characters that mean something in XML.
_VALUE = r"[ !#-%'-;=?-~]*+"
_TEXT = r"[ -%'-;=?-\\^-~]*+"
_ATTRIBUTE = r"[ \t\r\n]++([A-Za-z:]++)=\"(" + _VALUE + r")\""
_ANY = r"[ \t\r\n]++[A-Za-z:]++=\"" + _VALUE + r"\""
_PLAIN = re.compile(
    _S.join(
        [
            r"(?:\xef\xbb\xbf)?(?:<\?xml version=\"1\.0\" encoding=\"utf-8\" ?\?>)?",
            # What stands before and after Href is the same in all tasks of a server.
            r"<Task((?:(?![ \t\r\n]++Href=)" + _ANY + r")*+)"
            r"(?:[ \t\r\n]++Href=\"(" + _VALUE + r")\")?+((?:" + _ANY + r")*+)",
            r">",
            r"(?:<Links>",
            r"((?:<Link(?:" + _ANY + r")*+" + _S + r"/>" + _S + r")*+)</Links>",
            r")?<TaskId>(task-[0-9]{1,32})</TaskId>",
            r"<State>([A-Za-z]++)</State>",
            r"<Operation>([A-Za-z0-9_]++)</Operation>",
            r"(?:<Result Success=\"(true|false)\" ?(?:/>|>",
            r"(?:<Message>(" + _TEXT + r")</Message>",
            r")?</Result>)",
            r")?</Task>",
            r"",
        ]
    )
)
_NAMESPACE = "http://www.veeam.com/ent/v1.0"
_LINK_NAMES = {"Rel", "Href", "Type", "Name"}
_attributes = re.compile(_ATTRIBUTE).findall
# A task has some 500; a regular expression takes 50 bytes for each of the body's.
_MAX_BODY = 1 << 16
# A task has some 200 of attributes beside Href; they are kept, see `_is_plain_root`.
_MAX_ROOT = 1024


def parse_task(body: bytes) -> Task | None:
    """Return the task that a body in the plain form describes, else None."""
    if len(body) > _MAX_BODY:
        return None
    # In the plain form every character is one byte.
    match = _PLAIN.fullmatch(body.decode("latin-1"))
    if match is None:
        return None
    before, found, after, told, task_id, word, operation, success, message = (
        match.groups()
    )
    if len(before) + len(after) > _MAX_ROOT or not _is_plain_root(before, after):
        return None
    href = found.strip() or None if found else None
    links: list[Link] = []
    for part in told.split("<Link")[1:] if told else ():
        link = _link(part, href)
        if link is None:
            return None
        links.append(link)
    state = TaskState.from_word(word)
    result = None
    if success is not None:
        text = message and message.strip()
        result = TaskResult(success=success == "true", message=text or None)
    return Task(
        task_id=task_id,
        state=state,
        raw_state=word if state is TaskState.UNKNOWN else state.value,
        operation=intern(operation),
        result=result,
        links=tuple(links),
        href=href,
    )


def _link(part: str, own: str | None) -> Link | None:
    attributes = _unique(part)
    if attributes is None or not attributes.keys() <= _LINK_NAMES:
        return None
    rel, href = attributes.get("Rel", "").strip(), attributes.get("Href", "").strip()
    if not rel or not href:
        return None
    kind, name = attributes.get("Type", "").strip(), attributes.get("Name")
    return Link(
        rel=intern(rel),
        # Most tasks have a link to themselves; one string serves both.
        href=own if own is not None and href == own else href,
        type=intern(kind) if kind else None,
        name=None if name is None else name.strip(),
    )


def _unique(part: str) -> dict[str, str] | None:
    """Return attributes by name; None if one is repeated."""
    pairs = _attributes(part)
    named = dict(pairs)
    return named if len(named) == len(pairs) else None


@lru_cache(maxsize=64)
def _is_plain_root(before: str, after: str) -> bool:
    """Tell whether nothing but the one namespace, prefixes and plain names stands.

    Args:
        before: The attributes of the root before its Href.
        after: Those after it, among which is no second one.
    """
    attributes = _unique(before + after)
    if attributes is None or "Href" in attributes or len(attributes) >= MAX_ATTRIBUTES:
        return False
    for name, value in attributes.items():
        if name == "xmlns":
            if value != _NAMESPACE:
                return False
        elif ":" in name:
            prefix, _, local = name.partition(":")
            if prefix != "xmlns" or not local.isalpha() or not value:
                return False
    return True
