"""Where job sessions are asked for: single ones, their machines, queries; pure.

Facts (``backupsessions_id``, ``get_query_backupjobsession``, ``query_comparison``
reference pages, and published programs): a single job session and a collection need
``format=Entity``, a query ``format=Entities``, or links alone come. A filter has ``;``
for "and" and ``,`` for "or". Programs in production ask for the job sessions of a job
with ``JobUid==<guid>``, others with ``JobUid=="urn:veeam:Job:<guid>"``; and for times
in quotes without a ``Z``.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

import attrs
from yarl import URL

from veeam_tasks._errors import ArgumentError
from veeam_tasks._model import JobSession, Link
from veeam_tasks._protocol.sessions import GUID
from veeam_tasks._protocol.urls import Hide, resource_path
from veeam_tasks._redaction import quoted

SessionLike = str | Link | JobSession
"""How callers name a job session: a path, an Href, a link, or itself."""

PATHS = {
    "BackupJobSession": "backupSessions",
    "ReplicaJobSession": "replicaSessions",
    "RestoreSession": "restoreSessions",
    "CloudFailoverSession": "cloud/failoverSessions",
    "CdpReplicaSession": "cdpReplicaSessions",
}
"""The collection that job sessions of a kind stand in."""

_MIRRORS = ("agents/backupSessions", "nas/backupSessions")
"""Paths whose job sessions stand in ``/backupSessions`` as well."""

_COLLECTIONS = {path.casefold() for path in (*PATHS.values(), *_MIRRORS)}

_MACHINES = {
    "BackupJobSession": "taskSessions",
    "ReplicaJobSession": "replicaTaskSessions",
    "CdpReplicaSession": "cdpReplicaTaskSessions",
}
_FORMAT = re.compile(r"(?:^|&)format=[^&]*", re.IGNORECASE)
_SAFE = "=;:,()"

AT_ONCE = 20
"""How many job sessions one query asks for by UID; more would make a long URL."""


@attrs.frozen
class JobFilter:
    """One way to ask for the job sessions of a job.

    Attributes:
        by_urn: Whether the job is named by its whole UID, not by its GUID alone.
        has_time: Whether the server is to leave out what began before a time.
    """

    by_urn: bool = False
    has_time: bool = True


def entity_path(path: str) -> str:
    """Return a path of ours so that the whole entity comes, not only its links."""
    plain, _, query = path.partition("?")
    kept = _FORMAT.sub("", query).strip("&")
    return f"{plain}?{f'{kept}&' if kept else ''}format=Entity"


def session_path(value: SessionLike, base: URL, hide: Hide = str) -> str:
    """Return the path of one job session, with ``format=Entity``.

    Args:
        value: A `JobSession`, a `Link`, an Href or a path of one.
        base: What `base_url` returned.
        hide: Hides the secrets of a text that an error shows.

    Raises:
        TypeError: It is none of these.
        ValueError: It names no job session.
    """
    if isinstance(value, JobSession):
        value = value.href or path_of(value)
    path = resource_path(value, base, hide)
    if not is_session_path(path):
        shown = quoted(hide(path.partition("?")[0][:80]))
        raise ArgumentError(
            parameter="session",
            problem="names no job session: pass a Link, an Href, or a path like"
            " 'backupSessions/ID'",
            shown=shown,
            subject=shown,
        )
    return entity_path(path)


def is_session_path(path: str) -> bool:
    """Tell whether a path below ``/api/`` is that of one job session."""
    plain = path.partition("?")[0].rstrip("/")
    collection, _, last = plain.rpartition("/")
    return collection.casefold() in _COLLECTIONS and bool(GUID.fullmatch(last))


def path_of(session: JobSession) -> str:
    """Return where a job session stands by its kind and ID."""
    collection = PATHS.get(session.kind, PATHS["BackupJobSession"])
    return f"{collection}/{session.session_id}"


def other_path(path: str) -> str | None:
    """Return where a job session of an agent or a NAS job stands as well; else None.

    No reference page has a single job session below ``/agents/backupSessions``, though
    links lead there.
    """
    plain = path.partition("?")[0].casefold()
    for mirror in _MIRRORS:
        if plain.startswith(mirror.casefold()):
            rest = path[len(mirror) :]
            return f"{PATHS['BackupJobSession']}{rest}"
    return None


def machines_paths(session: JobSession, base: URL) -> tuple[str, ...]:
    """Return where the machines of a job session may be asked for, best first.

    The link, then the URL of the reference: the vendor's samples spell the link of a
    replica's ``/repicaTaskSessions``. Nothing for kinds that have none.
    """
    tail = _MACHINES.get(session.kind)
    if tail is None:
        return ()
    found = []
    for link in session.links:
        name = (link.type or link.href.partition("?")[0]).casefold()
        if link.rel == "Down" and "tasksession" in name:
            try:
                found.append(entity_path(resource_path(link, base)))
            except ValueError:
                continue
    found.append(entity_path(f"{path_of(session)}/{tail}"))
    return tuple(dict.fromkeys(found))


def job_query(
    kind: str, job_guid: str, form: JobFilter, since: datetime, size: int
) -> str:
    """Return the path of a query for the job sessions of a job.

    Those that began since a time, the oldest first; without that the newest.
    """
    uid = f'"urn:veeam:Job:{job_guid}"' if form.by_urn else job_guid
    wanted = f"JobUid=={uid}"
    order = "sortDesc"
    if form.has_time:
        when = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        wanted, order = f'{wanted};CreationTime>="{when}"', "sortAsc"
    return _query(kind, wanted, f"{order}=CreationTime&pageSize={size}")


def uid_query(kind: str, session_ids: Iterable[str]) -> str:
    """Return the path of a query for some job sessions of one kind."""
    ids = list(session_ids)
    wanted = ",".join(f'UID=="urn:veeam:{kind}:{one}"' for one in ids)
    return _query(kind, wanted, f"pageSize={len(ids)}")


def _query(kind: str, wanted: str, rest: str) -> str:
    encoded = quote(wanted, safe=_SAFE)
    return f"query?type={kind}&filter={encoded}&{rest}&format=Entities"
