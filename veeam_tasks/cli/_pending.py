"""An action that may have been sent: noted before, and looked for afterwards.

It is never sent again. What was there before is noted with it, so that what has come
since can be told from the rest.
"""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import anyio
import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._json_lines import task_object, write
from veeam_tasks.cli._messages import say, span, visible, warn
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._server import Server
from veeam_tasks.cli._state import PendingAction, State, StateFile

_JOB: Final = re.compile(
    r"(?:agents/|nas/)?jobs/(?P<id>[^/?]+)(?:/start|\?.*\baction=(?:start|retry|sync))",
    re.IGNORECASE,
)
_PATHS: Final = {
    "BackupJobSession": "backupSessions",
    "ReplicaJobSession": "replicaSessions",
}
_CHILDREN: Final = ("ImmediateBackupCopyWorker", "AgentManagement")
_STARTS: Final = re.compile("Start|Retry|Sync")
_SKEW: Final = timedelta(seconds=120)
_LATE: Final = 600.0
"""Seconds. A run that began later than so long after its action is not that of it."""
_APPEARS: Final = 60.0
"""Seconds after an action within which its run appears as a rule."""
_SEARCH: Final = 1200.0
_LOOKS_AGAIN: Final = 2.0
_NO_TASK: Final = "task-0"
"""Stands for a task that is not known: the IDs of a server begin at 1."""
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


async def note_action(
    file: StateFile,
    em: "vt.SessionManager",
    server: Server,
    *,
    path: str,
    method: str,
) -> None:
    """Write down that an action is about to be sent, and what there was before.

    Raises:
        vt.VeeamTasksError: The server could not be asked; nothing is sent then.
    """
    tasks: tuple[str, ...] = ()
    if server.is_adopted:
        tasks = tuple(task.task_id for task in await em.fetch_all())
    found = await _sessions(em, path)
    sessions = None if found is None else tuple(_text(one, "UID") for one in found)
    action = PendingAction(
        path=path,
        method=method,
        at=time.time(),
        url=em.url,
        logon=em.reference,
        tasks=tasks,
        sessions=sessions,
    )
    await file.save(State(action=action))


@attrs.frozen(kw_only=True)
class _Traces:
    """What there is since an action was sent that may be its doing.

    Attributes:
        tasks: New ones of the logon session; None under another logon session.
        runs: Of the job, none that was there before; None if nobody can say.
    """

    tasks: "list[vt.Task] | None"
    runs: list[Mapping[str, Any]] | None

    @property
    def is_any(self) -> bool:
        """Whether there is anything."""
        return bool(self.tasks or self.runs)


async def look_for(
    action: PendingAction,
    em: "vt.SessionManager",
    output: OutputMode,
    seconds: float | None,
) -> dict[str, Any] | None:
    """Tell what can be found of an action that may have been carried out.

    Args:
        action: Which.
        em: Where.
        output: How to tell.
        seconds: How long after it was sent something of it may appear.

    Returns:
        A checkpoint with which to watch what it has started; None if that is not
        certain.

    Raises:
        vt.VeeamTasksError: The server could not be asked.
    """
    if em.url != action.url:
        text = f"the action was for {visible(action.url)}, not for {em.url}"
        raise click.UsageError(text)
    at = datetime.fromtimestamp(action.at, UTC)
    shown = f"{action.method} {visible(action.path)}"
    warn(
        f"{shown} may have been started at {at.astimezone():%Y-%m-%d %H:%M:%S}: nobody"
        " was there to take the answer. It is not sent again"
    )
    until = action.at + (_APPEARS if seconds is None else seconds)
    traces = await _traces(action, em, at)
    if not traces.is_any and time.time() < until and not output.quiet:
        say(f"looking for what it has started, for {span(until - time.time())} at most")
    while not traces.is_any and (left := until - time.time()) > 0:
        await anyio.sleep(min(_LOOKS_AGAIN, left))
        traces = await _traces(action, em, at)
    found = _certain(action, em, traces, seconds)
    _tell(action, traces, found, output)
    return found


async def _traces(
    action: PendingAction, em: "vt.SessionManager", at: datetime
) -> _Traces:
    tasks = None
    if em.reference == action.logon:
        before = set(action.tasks or ())
        tasks = [one for one in await em.fetch_all() if one.task_id not in before]
    found = None
    if action.sessions is not None:
        found = await _sessions(em, action.path)
    known = set(action.sessions or ())
    runs = None
    if found is not None:
        runs = [one for one in found if _is_since(one, at, known)]
    return _Traces(tasks=tasks, runs=runs)


def _certain(
    action: PendingAction,
    em: "vt.SessionManager",
    traces: _Traces,
    seconds: float | None,
) -> dict[str, Any] | None:
    """Return a checkpoint of the one task or run that fits, if there is one only.

    1. A new task of the logon session that the action was sent in: it must be the only
       one, since that logon session may be shared, and of the operation that starts a
       job if that is what was sent.
    2. A run that began within minutes of the action, and not by a retry of the job's
       own: any other may be that of a schedule or of somebody else.
    """
    search = _SEARCH if seconds is None else seconds
    job = _JOB.search(action.path)
    path = action.path if job is None else action.path[job.start() :]
    start = {"path": path, "at": action.at, "skew": _LATE}
    if action.sessions:
        start["known"] = [_guid(one) for one in action.sessions]
    task: dict[str, Any] = {"start": start}
    if traces.tasks:
        (new, *others) = traces.tasks
        if others or (job is not None and not _STARTS.match(new.operation)):
            return None
        task["id"] = new.task_id
    else:
        at = datetime.fromtimestamp(action.at, UTC)
        fits = [one for one in traces.runs or () if _is_soon(one, at, action)]
        if len(fits) != 1:
            return None
        task |= _searching(_text(fits[0], "UID"), action.at, time.time() + search)
    return {
        "version": 1,
        "url": em.url,
        "logon": em.reference,
        "saved": time.time(),
        "find_timeout": search,
        "tasks": [task],
    }


def _searching(uid: str, at: float, until: float) -> dict[str, Any]:
    """Return what a checkpoint has of a run whose task is not known."""
    collection = _PATHS[uid.split(":")[2]]
    return {
        "id": _NO_TASK,
        "sequence": 1,
        "at": at,
        "state": "Finished",
        "success": True,
        "operation": "StartJob",
        "stage": "searching",
        "run": {
            "path": f"{collection}/{_guid(uid)}?format=Entity",
            "until": until,
        },
    }


def searched_for(checkpoint: Any, seconds: float) -> Any:
    """Return a checkpoint whose job sessions are searched for so long from now on."""
    tasks = []
    for task in checkpoint["tasks"]:
        run = task.get("run")
        if isinstance(run, dict) and run.get("path") is None:
            task = {**task, "run": {**run, "until": time.time() + seconds}}  # noqa: PLW2901
        tasks.append(task)
    return {**checkpoint, "find_timeout": seconds, "tasks": tasks}


def _tell(
    action: PendingAction,
    traces: _Traces,
    found: dict[str, Any] | None,
    output: OutputMode,
) -> None:
    tasks, runs = traces.tasks, traces.runs
    followed = None
    if found is not None:
        followed = found["tasks"][0]["id"]
    if output.wants_objects:
        write(
            {
                "action": action.path,
                "may_have_been_started": True,
                "tasks": None if tasks is None else [task_object(one) for one in tasks],
                "sessions": None
                if runs is None
                else [_session_object(one) for one in runs],
                "goes_on_as": followed,
            }
        )
    if output.quiet and found is not None:
        return
    for task in tasks or ():
        say(
            f"{task.task_id} {visible(task.raw_state)} {visible(task.operation)}: in"
            " this logon session since then"
        )
    for one in runs or ():
        name, state = _text(one, "Name"), _text(one, "State")
        say(
            f"a run of the job began at {_text(one, 'CreationTimeUTC')}:"
            f" {visible(name)}, {visible(state)} {visible(_text(one, 'Result'))}"
        )
    if followed == _NO_TASK:
        say(
            "it is the one run that fits, so it is followed to its end; its task is not"
            f" known, and called {_NO_TASK} here"
        )
    elif followed is not None:
        say(f"{followed} is the one task that fits, so it is watched to its end")
    elif traces.is_any:
        say("none, or more than one, fits for certain: perhaps this one, perhaps not")
    else:
        where = "this logon session has no task that is new"
        if tasks is None:
            where = "its tasks are of a logon session that is not this one"
        ran = "" if runs is None else ", and the job no run that began since"
        say(f"no trace of it: {where}{ran}. See in the server's console")


def _session_object(value: Mapping[str, Any]) -> dict[str, object]:
    keys = ("UID", "Name", "JobName", "State", "Result", "CreationTimeUTC")
    return {_snake(key): _text(value, key) for key in keys}


def _snake(key: str) -> str:
    names = {"UID": "uid", "JobName": "job_name", "CreationTimeUTC": "created_at"}
    return names.get(key, key.lower())


def _is_since(value: Mapping[str, Any], at: datetime, before: set[str]) -> bool:
    if _text(value, "UID") in before:
        return False
    began = _began(value)
    return began is None or began >= at - _SKEW


def _is_soon(value: Mapping[str, Any], at: datetime, action: PendingAction) -> bool:
    """Tell whether a run may be that of an action that was sent then."""
    began = _began(value)
    if began is None or began > at + timedelta(seconds=_LATE):
        return False
    is_retry = _flag(value, "IsRetry")
    return not is_retry or "retry" in action.path.lower()


def _began(value: Mapping[str, Any]) -> datetime | None:
    try:
        began = datetime.fromisoformat(_text(value, "CreationTimeUTC")[:26].rstrip("Z"))
    except ValueError:
        return None
    return began.replace(tzinfo=UTC)


def _guid(uid: str) -> str:
    return uid.rpartition(":")[2].lower()


def _flag(value: Mapping[str, Any], key: str) -> bool:
    for name, inner in value.items():
        if name.lstrip("@").lower() == key.lower():
            return str(inner).lower() in {"true", "1"}
    return False


async def _sessions(
    em: "vt.SessionManager", path: str
) -> list[Mapping[str, Any]] | None:
    """Return a job's newest job sessions; None if it is none, or may not be asked."""
    job = _JOB.search(path)
    guid = _GUID.search(job["id"]) if job else None
    if guid is None:
        return None
    found: list[Mapping[str, Any]] = []
    for kind in _PATHS:
        urn = quote(f'JobUid=="urn:veeam:Job:{guid[0].lower()}"')
        query = (
            f"query?type={kind}&format=Entities&filter={urn}"
            "&sortDesc=CreationTime&pageSize=50"
        )
        try:
            rows = list(_rows(await em.read(query), kind))
        except vt.StatusError:
            continue
        # A filter is not always heeded.
        found += [
            one
            for one in rows
            if guid[0].lower() in _text(one, "JobUid").lower()
            and _text(one, "JobType") not in _CHILDREN
        ]
    return found


def _rows(value: Any, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield what a query's reply holds of a kind, in XML or JSON of any version."""
    if isinstance(value, list):
        for one in value:
            yield from _rows(one, kind)
    elif isinstance(value, Mapping):
        if _text(value, "UID").startswith(f"urn:veeam:{kind}:"):
            yield value
            return
        for inner in value.values():
            yield from _rows(inner, kind)


def _text(value: Mapping[str, Any], key: str) -> str:
    """Return a member as text, however its name is written."""
    for name, inner in value.items():
        if name.lstrip("@").lower() == key.lower() and isinstance(inner, str):
            return inner
    return ""
