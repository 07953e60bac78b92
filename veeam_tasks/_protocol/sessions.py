"""Replies to job sessions and task sessions; pure.

Every public function takes a whole `Reply` and raises nothing but a `VeeamTasksError`.
Facts (``backupsessions_id``, ``get_backupsessions_id_tasksessions``,
``get_query_backupjobsession`` reference pages, and captures of 9.5u4, 10, 12 and 13):
XML has attributes Href, Type, Name, UID; JSON has members of those names, in PascalCase
up to 12 and camelCase from 13; times are UTC with 0 to 7 digits of a fraction; from 12
on absent members are null; a query doubles the plural, a collection does not.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from sys import intern
from typing import Any

import attrs

from veeam_tasks._model import (
    JobSession,
    SessionResult,
    SessionState,
    TaskSession,
)
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import tasks as _tasks
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

KINDS = (
    "BackupJobSession",
    "ReplicaJobSession",
    "RestoreSession",
    "CloudFailoverSession",
    "CdpReplicaSession",
)
"""The entities that are job sessions, as their Type and the root of their XML say."""

# Two reference pages name a restore session like this.
_OTHER_NAMES = {"RestoreJobSession": "RestoreSession"}

_TASK_KINDS = ("BackupTaskSession", "ReplicaTaskSession", "CdpReplicaTaskSession")

GUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    re.ASCII | re.IGNORECASE,
)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_EARLIEST, _LATEST = 1970, 9998
_PERCENT = range(101)


@attrs.frozen(kw_only=True)
class SessionPage:
    """One page of job sessions.

    Attributes:
        sessions: In the server's order.
        next_path: Where the next page is, below ``/api/``; None on the last page.
    """

    sessions: tuple[JobSession, ...]
    next_path: str | None = None


@attrs.frozen(kw_only=True)
class TaskSessionPage:
    """One page of task sessions.

    Attributes:
        sessions: In the server's order.
        next_path: Where the next page is, below ``/api/``; None on the last page.
    """

    sessions: tuple[TaskSession, ...]
    next_path: str | None = None


def guid_of(text: str | None) -> str | None:
    """Return the last GUID in a UID, an Href or a path, in lower case; None if none.

    A NAS job's session says ``urn:veeam:Job:<guid>`` of the job whose own UID is
    ``urn:veeam:NasJob:<guid>``: only the GUIDs can be compared.
    """
    found = GUID.findall(text or "")
    return found[-1].lower() if found else None


def decode_session(reply: Reply, secrets: Secrets) -> JobSession:
    """Return the job session that a reply describes.

    Raises:
        MalformedReplyError: It is no job session; a reference to one, which a GET
            without ``format=Entity`` brings, is none either.
    """
    return _document.decode(
        reply, secrets, lambda name, value: _job_session(name, value, secrets)
    )


def decode_sessions(reply: Reply, secrets: Secrets) -> SessionPage:
    """Return the job sessions of a query or a collection, and where it goes on.

    Raises:
        MalformedReplyError: It is neither.
    """

    def read(name: str, value: Any) -> SessionPage:
        found, paging = _members(name, value, KINDS)
        return SessionPage(
            sessions=tuple([_job_session(kind, node, secrets) for kind, node in found]),
            next_path=_tasks.next_path(paging),
        )

    return _document.decode(reply, secrets, read)


def decode_task_sessions(reply: Reply, secrets: Secrets) -> TaskSessionPage:
    """Return the task sessions of a collection or a query, and where it goes on.

    Raises:
        MalformedReplyError: It is neither.
    """

    def read(name: str, value: Any) -> TaskSessionPage:
        found, paging = _members(name, value, _TASK_KINDS)
        return TaskSessionPage(
            sessions=tuple([_task_session(node, secrets) for _, node in found]),
            next_path=_tasks.next_path(paging),
        )

    return _document.decode(reply, secrets, read)


def decode_failover_tasks(reply: Reply, secrets: Secrets) -> tuple[TaskSession, ...]:
    """Return the machines that a cloud failover session holds inside it.

    Raises:
        MalformedReplyError: It is no such session.
    """

    def read(name: str, value: Any) -> tuple[TaskSession, ...]:
        inner = _tasks.mapping(value, name or "session").get("CloudFailoverTasks")
        if type(inner) is dict:
            # The name is doubled: a list of that name within itself.
            inner = inner.get("CloudFailoverTasks")
        return tuple([_task_session(item, secrets) for item in _listed(inner)])

    return _document.decode(reply, secrets, read)


def time_of(text: str | None) -> datetime | None:
    """Return a time of the server, aware; None if it says none that can be meant.

    Without a ``Z`` it is UTC all the same. Years before 1970 stand for "none" (working
    copy jobs end in 1900, or in the year 1), and so does .NET's last moment, in 9999,
    which no other time zone could show.
    """
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if not _EARLIEST <= when.year <= _LATEST:
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


# --- one job session


def _job_session(name: str, value: Any, secrets: Secrets) -> JobSession:
    node = _hidden(_tasks.mapping(value, name or "session"), secrets)
    uid, href = _tasks.text(node, "@UID") or None, _tasks.text(node, "@Href") or None
    kind = _kind_of(name, _tasks.text(node, "@Type"), uid)
    if kind is None:
        problem = f"it is no job session, since it is {name or 'of an unknown type'}"
        raise DocumentError(problem)
    word = _tasks.text(node, "State")
    if not word:
        problem = "it has no State, as a reference without format=Entity has none"
        raise DocumentError(problem)
    session_id = guid_of(uid) or guid_of((href or "").partition("?")[0])
    if session_id is None:
        problem = "it has no UID"
        raise DocumentError(problem)
    state, raw_result = SessionState.from_word(word), _text(node, "Result")
    return JobSession(
        session_id=session_id,
        uid=uid,
        kind=intern(kind),
        name=_text(node, "@Name"),
        job_name=_text(node, "JobName", "@CloudFailoverPlanName", "PolicyName"),
        job_uid=_text(node, "JobUid", "PolicyUid"),
        job_type=_text(node, "JobType", "PolicyType"),
        vm_name=_text(node, "@VmDisplayName"),
        state=state,
        raw_state=word if state is SessionState.UNKNOWN else state.value,
        result=SessionResult.from_word(raw_result),
        raw_result=raw_result,
        progress=_percent(node.get("Progress")),
        created_at=time_of(_text(node, "CreationTimeUTC")),
        ended_at=time_of(_text(node, "EndTimeUTC")),
        is_retry=_flag(node.get("IsRetry")),
        failure_message=_text(node, "FailureMessage"),
        links=_tasks.links_of(node["Links"], href) if "Links" in node else (),
        href=href,
    )


def _kind_of(name: str, said: str | None, uid: str | None) -> str | None:
    """Return the kind by the root, the Type, or else the middle of the UID."""
    middle = (uid or "").split(":")[2:3]
    for word in (name, said or "", *middle):
        kind = _OTHER_NAMES.get(word, word)
        if kind in KINDS:
            return kind
    return None


def _task_session(value: Any, secrets: Secrets) -> TaskSession:
    node = _hidden(_tasks.mapping(value, "task session"), secrets)
    raw_result = _text(node, "Result")
    return TaskSession(
        vm_name=_text(node, "@VmDisplayName", "@VmName", "@Name"),
        vm_uid=_text(node, "VmUid"),
        raw_state=intern(_text(node, "State") or ""),
        result=SessionResult.from_word(raw_result),
        raw_result=raw_result,
        reason=_text(node, "Reason", "FailureMessage"),
        created_at=time_of(_text(node, "CreationTimeUTC")),
        ended_at=time_of(_text(node, "EndTimeUTC")),
        size=_count(node.get("TotalSize")),
    )


def _hidden(node: dict[str, Any], secrets: Secrets) -> dict[str, Any]:
    """Return a node with no known secret in its texts, nor in those of its links."""
    if not secrets.is_in(str(node)):
        return node
    hidden: dict[str, Any] = _walk(node, secrets.hide)
    return hidden


def _walk(value: Any, hide: Callable[[str], str]) -> Any:
    if type(value) is str:
        return hide(value)
    if type(value) is dict:
        return {key: _walk(item, hide) for key, item in value.items()}
    return [_walk(item, hide) for item in value] if type(value) is list else value


# --- collections


def _members(
    name: str, value: Any, kinds: tuple[str, ...]
) -> tuple[list[tuple[str, Any]], Any]:
    """Return the (kind, node) pairs of a document, and its PagingInfo.

    ``<BackupJobSessions><BackupJobSession/>``, a QueryResult with Entities of several
    types, and JSON of both, with the plural once or twice.
    """
    if name and name in {f"{kind}s" for kind in kinds}:
        return _of_kind(name[:-1], value), None
    node = _tasks.mapping(value, name or "reply")
    paging = node.get("PagingInfo")
    is_collection = "Entities" in node or name == "QueryResult"
    if is_collection:
        node = _tasks.mapping(node.get("Entities") or None, "Entities")
    found: list[tuple[str, Any]] = []
    for kind in kinds:
        if f"{kind}s" in node:
            is_collection = True
            found += _of_kind(kind, node[f"{kind}s"])
    if not is_collection:
        problem = f"it is no collection of {kinds[0]}"
        raise DocumentError(problem)
    return found, paging


def _of_kind(kind: str, value: Any) -> list[tuple[str, Any]]:
    if type(value) is dict:
        value = value.get(kind, value.get(f"{kind}s"))
    return [(kind, node) for node in _listed(value)]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if type(value) is list else [value]


# --- members


def _text(node: dict[str, Any], *names: str) -> str | None:
    """Return the first text that there is by one of the names; None if none."""
    for name in names:
        value = node.get(name)
        if value is not None and type(value) is not list:
            found = (
                _tasks.text(node, name) if type(value) in {str, dict} else str(value)
            )
            if found:
                return found
    return None


def _percent(value: Any) -> int | None:
    found = _count(value)
    return found if found in _PERCENT else None


def _count(value: Any) -> int | None:
    """Return a whole number, of XML or JSON; None for anything else."""
    if type(value) is float and value.is_integer():
        return int(value)
    text = str(value).strip()
    is_short = len(text) <= len(str(1 << 64))
    return int(text) if is_short and re.fullmatch(r"-?[0-9]+", text, re.ASCII) else None


def _flag(value: Any) -> bool | None:
    return None if value is None else _FLAGS.get(str(value).strip().lower())
