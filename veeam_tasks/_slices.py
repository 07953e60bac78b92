"""A collection cut into the bytes of each task without parsing it; pure.

`slices` costs about half a microsecond a task and proves little. What makes it safe is
that a slice counts only once `decode_slices` has read it:

1. The cuts lie at every ``</Task>`` between a plain start and a plain end of the
   collection.
2. A slice must hold no comment, CDATA section or processing instruction, and no start
   of a task but at its own beginning. So if it is well-formed together with others like
   it, it is balanced by itself; and if all are, the collection is well-formed.
3. It must hold one task, of the ID that `slices` gave it.
4. What it means depends on nothing outside of it: the start of the collection declares
   nothing that matters, and a slice that needs its namespaces resolved is refused.

So if every slice could be decoded, now or when the same bytes came before, then
`_wire.decode_tasks` gives the same tasks. At any refusal the caller has it parse all.
"""

import re
from collections.abc import Mapping
from operator import methodcaller

import attrs

from veeam_tasks import _document, _wire
from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._exchange import Reply
from veeam_tasks._model import Task
from veeam_tasks._text import Secrets

_ROOT = b'<Tasks xmlns="' + _document.NAMESPACE.encode() + b'">'
_CUT = b"</Task>"
_END = b"</Tasks>"
_STARTS = 2  # <Task and <TaskId
_begins = methodcaller("startswith", (b"<Task ", b"<Task>"))

_HEAD = re.compile(
    rb"""(?:<\?xml[ ]version="1\.0"(?:[ ]encoding="(?:utf|UTF)-8")?[ ]?\?>)?
    [ \t\r\n]*
    <Tasks((?:[ ]xmlns(?::[a-z]+)?="[A-Za-z0-9:/._#-]*")*)[ ]?>""",
    re.VERBOSE,
)
_DECLARED = re.compile(rb'(xmlns[:a-z]*)="([^"]*)"')
_TAIL = re.compile(rb"[ \t\r\n]*</Tasks>[ \t\r\n]*")
_ID = re.compile(rb"<TaskId>(task-[0-9]{1,32})</TaskId>")


def slices(reply: Reply) -> dict[str, bytes] | None:
    """Return each task's bytes by its ID, in order; None at the first surprise.

    Equal bytes under the same ID mean an equal task; new bytes mean nothing before
    `decode_slices` has accepted them.
    """
    if reply.content_type not in _document.XML_TYPES:
        return None
    body = reply.body.lstrip(_document.LEAD)
    head = _HEAD.match(body)
    if (
        head is None
        or not _is_plain(head[1])
        or _document.is_dense(len(body), body.count(b"<"))
    ):
        return None
    parts = body.split(_CUT)
    parts[0] = parts[0][head.end() :]
    if _TAIL.fullmatch(parts.pop()) is None:
        return None
    ids = b" ".join(_ID.findall(body)).decode().split()
    if not all(map(_begins, parts)):
        parts = [part.lstrip(b" \t\r\n") for part in parts]
        if not all(map(_begins, parts)):
            return None
    found = dict(zip(ids, parts, strict=False))
    return found if len(found) == len(ids) == len(parts) else None


def _is_plain(declarations: bytes) -> bool:
    """Tell whether nothing is declared twice, and no foreign default namespace."""
    declared = _DECLARED.findall(declarations)
    names = dict(declared)
    default = names.get(b"xmlns", _document.NAMESPACE.encode())
    return len(names) == len(declared) and default == _document.NAMESPACE.encode()


def decode_slices(
    reply: Reply, parts: Mapping[str, bytes], secrets: Secrets
) -> tuple[Task, ...]:
    """Return the tasks of some slices, in order, as `_wire.decode_tasks` would.

    Args:
        reply: The reply that the slices were cut from.
        parts: Some of its slices. Many at once cost less than each by itself.
        secrets: Hidden from messages.

    Raises:
        MalformedReplyError: One does not stand for itself; have all of it parsed.
    """
    plain = [
        # What a slice declares would matter to the others, if one must be resolved.
        None if b"xmlns" in part else _wire.plain_task(part + _CUT, secrets)
        for part in parts.values()
    ]
    tasks = tuple([task for task in plain if task is not None])
    if [task.task_id for task in tasks] == list(parts):
        return tasks
    if all(map(_stands_alone, parts.values())):
        whole = b"".join((_ROOT, *[part + _CUT for part in parts.values()], _END))
        alone = attrs.evolve(reply, body=whole)
        tasks = _wire.decode_tasks(alone, secrets, resolve=False).tasks
        if [task.task_id for task in tasks] == list(parts):
            return tasks
    raise MalformedReplyError(
        request=reply.request, problem="a task in it does not stand for itself"
    )


def _stands_alone(part: bytes) -> bool:
    return part.count(b"<Task") == _STARTS and b"<!" not in part and b"<?" not in part
