"""JSON to the neutral tree, whatever the case of its names, and its limits.

Facts (captures of 9.5u4 and 12, three clients' changes for 13): names are PascalCase
up to version 12 and camelCase from 13; absent members are left out or null; ``Links``
is always a list; query results double the plural (``Resources.Tasks.Tasks``).
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from veeam_tasks._protocol.limits import MAX_ATTRIBUTES, MAX_DEPTH, DocumentError

_MAX_NUMBER = 64
# A million small objects would take a gibibyte and mean nothing; the shortest task has
# some 50 bytes, its links more.
_BYTES_PER_OBJECT = 24
_FEW_OBJECTS = 4096

# What JSON names are called in the tree; they come in any case.
_NAMES = {
    "taskid": "TaskId",
    "state": "State",
    "operation": "Operation",
    "result": "Result",
    "success": "@Success",
    "message": "Message",
    "links": "Links",
    "link": "Link",
    "rel": "@Rel",
    "href": "@Href",
    "type": "@Type",
    "name": "@Name",
    "tasks": "Tasks",
    "task": "Task",
    "resources": "Resources",
    "paginginfo": "PagingInfo",
    "pagenum": "@PageNum",
    "pagescount": "@PagesCount",
    "sessionid": "SessionId",
    "statuscode": "@StatusCode",
    "firstchanceexceptionmessage": "FirstChanceExceptionMessage",
    "uid": "@UID",
    "vmdisplayname": "@VmDisplayName",
    "vmname": "@VmName",
    "cloudfailoverplanname": "@CloudFailoverPlanName",
    "jobuid": "JobUid",
    "jobname": "JobName",
    "jobtype": "JobType",
    "policyuid": "PolicyUid",
    "policyname": "PolicyName",
    "policytype": "PolicyType",
    "creationtimeutc": "CreationTimeUTC",
    "endtimeutc": "EndTimeUTC",
    "progress": "Progress",
    "failuremessage": "FailureMessage",
    "reason": "Reason",
    "isretry": "IsRetry",
    "totalsize": "TotalSize",
    "vmuid": "VmUid",
    "entities": "Entities",
    "backupjobsessions": "BackupJobSessions",
    "replicajobsessions": "ReplicaJobSessions",
    "restoresessions": "RestoreSessions",
    "cdpreplicasessions": "CdpReplicaSessions",
    "cloudfailoversessions": "CloudFailoverSessions",
    "cloudfailovertasks": "CloudFailoverTasks",
    "backuptasksessions": "BackupTaskSessions",
    "replicatasksessions": "ReplicaTaskSessions",
    "cdpreplicatasksessions": "CdpReplicaTaskSessions",
}
# Null means "none of them" for these, and "absent" for every other member.
_COLLECTIONS = {"Tasks", "Resources"}

# 1: what stays (a pair of surrogates, any other escape); else a lone surrogate.
_SURROGATE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\[^u]|\\u(?![dD][89a-fA-F]))"
    r"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def read(body: bytes) -> dict[str, Any]:
    """Return an object in the shape that xmltodict gives, names in one case.

    Members that the protocol does not name keep theirs behind a ``?``; null members
    are absent.

    Raises:
        DocumentError: It breaks a limit, or says one thing twice.
        ValueError: It is not JSON in UTF-8.
        RecursionError: It is nested far too deep.
    """
    return _read(body, _canonical)


def read_as_is(body: bytes) -> dict[str, Any]:
    """Return an object as it is.

    Raises:
        DocumentError: It breaks a limit, or says one thing twice.
        ValueError: It is not JSON in UTF-8.
        RecursionError: It is nested far too deep.
    """
    return _read(body, _plain)


def _read(body: bytes, build: Callable[[list[tuple[str, Any]]], Any]) -> dict[str, Any]:
    if body.count(b"{") > max(_FEW_OBJECTS, len(body) // _BYTES_PER_OBJECT):
        problem = "it has more objects than its size can mean"
        raise DocumentError(problem)
    text = body.decode()
    if "\\ud" in text or "\\uD" in text:
        text = _SURROGATE.sub(lambda found: found[1] or "\\ufffd", text)
    value = json.loads(
        text,
        object_pairs_hook=build,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=_refuse_number,
    )
    if not isinstance(value, dict):
        problem = "its root is not a JSON object"
        raise DocumentError(problem)
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return value
    problem = f"it is nested deeper than {MAX_DEPTH}"
    raise DocumentError(problem)


def _canonical(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_members(pairs)
    members: dict[str, Any] = {}
    for key, value in pairs:
        name = _NAMES.get(key.lower()) or f"?{key}"
        if name in members:
            _refuse_double(key)
        members[name] = value
    return {
        name: value
        for name, value in members.items()
        if value is not None or name in _COLLECTIONS
    }


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_members(pairs)
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [key for key, _ in pairs]
        _refuse_double(next(key for key in names if names.count(key) > 1))
    return members


def _check_members(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > MAX_ATTRIBUTES:
        text = f"an object has more than {MAX_ATTRIBUTES} members"
        raise DocumentError(text)


def _refuse_double(key: str) -> NoReturn:
    text = f"a member stands twice in one object: {key}"
    raise DocumentError(text)


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_NUMBER else _refuse_number(digits)


def _float(digits: str) -> float:
    value = float(digits) if len(digits) <= _MAX_NUMBER else math.inf
    return value if math.isfinite(value) else _refuse_number(digits)


def _refuse_number(digits: str) -> NoReturn:
    text = f"a number is out of bounds: {digits}"
    raise DocumentError(text)
