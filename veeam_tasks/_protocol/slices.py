"""A collection cut into the bytes of each task without parsing it; pure.

`cut` costs about half a microsecond a task and proves little. What makes it safe is
that a slice counts only once `decode_slices` has read it:

1. The cuts lie at every ``</Task>`` between a plain start and a plain end of the
   collection.
2. A slice must hold no comment, CDATA section or processing instruction, and no start
   of a task but at its own beginning. So if it is well-formed together with others like
   it, it is balanced by itself; and if all are, the collection is well-formed.
3. It must hold one task, of the ID that `cut` gave it.
4. What it means depends on nothing outside of it: the start of the collection declares
   nothing that matters, and a slice that needs its namespaces resolved is refused.

So if every slice could be decoded, now or when the same bytes came before, then
`decode_tasks` gives the same tasks. At any refusal the caller has that parse all.
"""

import re
from collections.abc import Iterator, Mapping
from operator import methodcaller
from typing import NoReturn

import attrs

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

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


def split(reply: Reply, *, portion: int = 1 << 16) -> Iterator[dict[str, bytes]]:
    """Yield each task's bytes by its ID, in order, some hundred tasks at a time.

    Equal bytes under the same ID mean an equal task; new bytes mean nothing before
    `decode_slices` has accepted them.

    Args:
        reply: A whole collection.
        portion: How many bytes to cut up at a time; a task may be longer. The default
            takes a fifth of a millisecond.

    Raises:
        DocumentError: At the first surprise; what was yielded before means nothing.
    """
    if _document.is_html(reply.content_type):
        _refuse("it is HTML")
    body = reply.body.lstrip(_document.BOM_AND_BLANKS)
    head = _HEAD.match(body)
    if head is None or not _is_plain(head[1]):
        _refuse("it does not begin as a collection does")
    at, elements = head.end(), 0
    ids: set[str] = set()
    while (end := _last_end(body, at, at + portion)) > at:
        cutting = body[at:end]
        elements += cutting.count(b"<")
        parts = _parts(cutting)
        if _document.is_dense(len(body), elements) or not ids.isdisjoint(parts):
            _refuse("it is too dense, or a task stands in it twice")
        ids.update(parts)
        yield parts
        at = end
    if _TAIL.fullmatch(body, at) is None:
        _refuse("it does not end as a collection does")


def _last_end(body: bytes, at: int, until: int) -> int:
    """Return where the last task before `until` ends, or else the first one behind.

    `at` if there is none.
    """
    end = body.rfind(_CUT, at, until)
    if end < 0:
        end = body.find(_CUT, at)
    return at if end < 0 else end + len(_CUT)


def _parts(cutting: bytes) -> dict[str, bytes]:
    parts = cutting.split(_CUT)
    parts.pop()  # nothing is behind the last cut
    ids = b" ".join(_ID.findall(cutting)).decode().split()
    if not all(map(_begins, parts)):
        parts = [part.lstrip(b" \t\r\n") for part in parts]
    found = dict(zip(ids, parts, strict=False))
    if not len(found) == len(ids) == len(parts) or not all(map(_begins, parts)):
        _refuse("something else than tasks stands in it")
    return found


def _refuse(problem: str) -> NoReturn:
    raise DocumentError(problem)


def _is_plain(declarations: bytes) -> bool:
    """Tell whether nothing is declared twice, and no foreign default namespace."""
    declared = _DECLARED.findall(declarations)
    names = dict(declared)
    default = names.get(b"xmlns", _document.NAMESPACE.encode())
    return len(names) == len(declared) and default == _document.NAMESPACE.encode()


def decode_slices(
    reply: Reply, parts: Mapping[str, bytes], secrets: Secrets
) -> tuple[Task, ...]:
    """Return the tasks of some slices, in order, as `decode_tasks` would.

    Args:
        reply: The reply that the slices were cut from.
        parts: Some of its slices. Many at once cost less than each by itself.
        secrets: Hidden from messages.

    Raises:
        MalformedReplyError: One does not stand for itself; have all of it parsed.
    """
    plain = [
        # What a slice declares would matter to the others, if one must be resolved.
        None if b"xmlns" in part else _replies.plain_task(part + _CUT, secrets)
        for part in parts.values()
    ]
    tasks = tuple([task for task in plain if task is not None])
    if [task.task_id for task in tasks] == list(parts):
        return tasks
    if all(map(_stands_alone, parts.values())):
        whole = b"".join((_ROOT, *[part + _CUT for part in parts.values()], _END))
        alone = attrs.evolve(reply, body=whole)
        tasks = _replies.decode_tasks(alone, secrets, resolve=False).tasks
        if [task.task_id for task in tasks] == list(parts):
            return tasks
    raise MalformedReplyError(
        request=reply.request, problem="a task in it does not stand for itself"
    )


def _stands_alone(part: bytes) -> bool:
    return part.count(b"<Task") == _STARTS and b"<!" not in part and b"<?" not in part
