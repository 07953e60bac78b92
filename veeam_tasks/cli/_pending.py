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

import click

import veeam_tasks as vt
from veeam_tasks.cli._json_lines import task_object, write
from veeam_tasks.cli._messages import say, visible, warn
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import Exit
from veeam_tasks.cli._server import Server
from veeam_tasks.cli._state import PendingAction, State, StateFile

_JOB: Final = re.compile(
    r"(?:agents/|nas/)?jobs/(?P<id>[^/?]+)(?:/start|\?.*\baction=(?:start|retry|sync))",
    re.IGNORECASE,
)
_KINDS: Final = ("BackupJobSession", "ReplicaJobSession")
_SKEW: Final = timedelta(seconds=120)
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


async def look_for(
    action: PendingAction, em: "vt.SessionManager", output: OutputMode
) -> Exit:
    """Tell what can be found of an action that may have been carried out.

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
    tasks = None
    if em.reference == action.logon:
        before = set(action.tasks or ())
        tasks = [one for one in await em.fetch_all() if one.task_id not in before]
    found = await _sessions(em, action.path)
    before = set(action.sessions or ())
    sessions = None
    if found is not None:
        sessions = [one for one in found if _is_since(one, at, before)]
    _tell(action, tasks, sessions, output)
    return Exit.SERVER


def _tell(
    action: PendingAction,
    tasks: "list[vt.Task] | None",
    sessions: list[Mapping[str, Any]] | None,
    output: OutputMode,
) -> None:
    if output.wants_objects:
        write(
            {
                "action": action.path,
                "may_have_been_started": True,
                "tasks": None if tasks is None else [task_object(one) for one in tasks],
                "sessions": None
                if sessions is None
                else [_session_object(one) for one in sessions],
            }
        )
    if output.quiet:
        return
    for task in tasks or ():
        say(
            f"{task.task_id} {visible(task.raw_state)} {visible(task.operation)}: in"
            " this logon session since then; see with 'veeam-tasks get"
            f" {task.task_id}'"
        )
    for one in sessions or ():
        name, state = _text(one, "Name"), _text(one, "State")
        say(
            f"a run of the job began at {_text(one, 'CreationTimeUTC')}:"
            f" {visible(name)}, {visible(state)} {visible(_text(one, 'Result'))};"
            " perhaps this one, perhaps another's"
        )
    if not tasks and not sessions:
        where = (
            "its tasks are of a logon session that is not this one" * (tasks is None)
            or "this logon session has no task that is new"
        )
        runs = "" if sessions is None else ", and the job no run that began since"
        say(f"no trace of it: {where}{runs}. See in the server's console")


def _session_object(value: Mapping[str, Any]) -> dict[str, object]:
    keys = ("UID", "Name", "JobName", "State", "Result", "CreationTimeUTC")
    return {_snake(key): _text(value, key) for key in keys}


def _snake(key: str) -> str:
    names = {"UID": "uid", "JobName": "job_name", "CreationTimeUTC": "created_at"}
    return names.get(key, key.lower())


def _is_since(value: Mapping[str, Any], at: datetime, before: set[str]) -> bool:
    if _text(value, "UID") in before:
        return False
    try:
        began = datetime.fromisoformat(_text(value, "CreationTimeUTC")[:26].rstrip("Z"))
    except ValueError:
        return True
    return began.replace(tzinfo=UTC) >= at - _SKEW


async def _sessions(
    em: "vt.SessionManager", path: str
) -> list[Mapping[str, Any]] | None:
    """Return the newest sessions of a job; None if it is none, or may not be asked."""
    job = _JOB.match(path)
    guid = _GUID.search(job["id"]) if job else None
    if guid is None:
        return None
    found: list[Mapping[str, Any]] = []
    for kind in _KINDS:
        urn = quote(f'JobUid=="urn:veeam:Job:{guid[0].lower()}"')
        query = (
            f"query?type={kind}&format=Entities&filter={urn}"
            "&sortDesc=CreationTime&pageSize=50"
        )
        try:
            found += _rows(await em.read(query), kind)
        except vt.StatusError:
            continue
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
