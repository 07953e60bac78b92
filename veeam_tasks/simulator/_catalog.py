"""What can be read besides single tasks: collections, single resources, queries."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, Protocol, TypeVar

import attrs

from veeam_tasks.simulator._accounts import LogonSession
from veeam_tasks.simulator._backup_server import BackupServer, SystemSession
from veeam_tasks.simulator._faults import FaultKind
from veeam_tasks.simulator._job_sessions import SESSION_PATHS, JobSession
from veeam_tasks.simulator._jobs import Job
from veeam_tasks.simulator._messages import MEDIA_TYPES, Answer, Refusal, resource
from veeam_tasks.simulator._query import Fields, Page, parse_filter, positive, sort_key
from veeam_tasks.simulator._reports import REPORTS, Reports, Repository
from veeam_tasks.simulator._resources import (
    COLLECTIONS,
    QUERY_FIELDS,
    TASK_FIELDS,
    entities,
    plural,
    query_result,
    query_service,
    references,
    section_of,
)
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._task_sessions import (
    TASK_SESSION_PATHS,
    RestorePoint,
    TaskSession,
)
from veeam_tasks.simulator._tasks import SimulatedTask
from veeam_tasks.simulator._tree import DECLARATION, NAMESPACE, MediaKind, Node, Scalar

_NOT_FOUND: Final = 404
_BAD: Final = 400
# Programs have seen this page size when they asked for none.
_PAGE_SIZE: Final = 100
_COLLECTED: Final = 30 * 86_400.0
Found = TypeVar("Found")
AnySession = TypeVar("AnySession", JobSession, TaskSession)
_KINDS: Final = {path.lower(): kind for kind, path in COLLECTIONS}
# Job sessions of agents and file shares stand in /backupSessions as well.
_OF_KIND: Final = {
    "agents/backupsessions": "AgentBackup",
    "nas/backupsessions": "NasBackup",
}
_SESSIONS: Final = {
    path.lower(): kind for kind, path in SESSION_PATHS.items()
} | dict.fromkeys(_OF_KIND, "BackupJobSession")
_TASK_SESSIONS: Final = {
    path.lower(): kind for kind, path in TASK_SESSION_PATHS.items()
}
_JOBS: Final = {"jobs": "Job", "agents/jobs": "AgentBackupJob", "nas/jobs": "NasJob"}
# Collections within a single resource: its path, the resource's ID, the collection.
_INNER: Final = re.compile(
    r"(?P<head>(?:agents/|nas/)?jobs|backupsessions|replicasessions|systemsessions"
    r"|backupservers|repositories)/(?P<guid>[^/]+)/(?P<tail>[a-z]+)"
)
_INNER_TAILS: Final[Mapping[str, frozenset[str]]] = {
    "jobs": frozenset({"backupsessions", "replicasessions"}),
    "agents/jobs": frozenset({"backupsessions"}),
    "nas/jobs": frozenset({"backupsessions"}),
    "backupsessions": frozenset({"tasksessions", "agentmanagementsessions"}),
    # The second one is how the vendor's samples spell it, the third the URL.
    "replicasessions": frozenset(
        {"tasksessions", "repicatasksessions", "replicatasksessions"}
    ),
    "systemsessions": frozenset({"events"}),
    "backupservers": frozenset({"jobs", "repositories"}),
    "repositories": frozenset({"backups", "replicas"}),
}


_REPORT: Final = re.compile(f"reports/summary(/({'|'.join(REPORTS)}))?")


class _Entity(Protocol):
    def fields(self) -> dict[str, Scalar | None]: ...
    def entity(self, base: str) -> Node: ...
    def reference(self, base: str, element: str) -> Node: ...


@attrs.frozen
class _ListedJob:
    """A job with the server that it stands on."""

    job: Job
    server: BackupServer

    def fields(self) -> dict[str, Scalar | None]:
        return self.job.fields(self.server)

    def entity(self, base: str) -> Node:
        return self.job.entity(self.server, base)

    def reference(self, base: str, element: str) -> Node:
        return self.job.reference(self.server, base, element)


@attrs.frozen
class _Earlier:
    """A job session as it was before its last change."""

    session: JobSession | TaskSession

    def fields(self) -> dict[str, Scalar | None]:
        return self.session.fields()

    def entity(self, base: str) -> Node:
        return self.session.entity(base, is_backwards=True)

    def reference(self, base: str, element: str) -> Node:
        return self.session.reference(base, element)


class Catalog:
    """Reads what the server knows in the forms of the reference.

    Args:
        state: What the server knows.
        unknown_session: The status for a job session that is not known.
    """

    def __init__(self, state: ServerState, *, unknown_session: int = 404) -> None:
        self._state = state
        self._version = state.context.version
        self._unknown_session = unknown_session

    def has(self, path: str) -> bool:
        """Tell whether a path can be read."""
        lowered = path.lower()
        head = lowered.rpartition("/")[0]
        known = _KINDS.keys() | _SESSIONS.keys()
        if lowered in known or head in known or lowered in {"query", "querysvc"}:
            return True
        if _REPORT.fullmatch(lowered):
            return True
        inner = _INNER.fullmatch(lowered)
        return inner is not None and inner["tail"] in _INNER_TAILS[inner["head"]]

    def tasks(self, session: LogonSession, kind: MediaKind) -> Answer:
        """Answer with the whole collection of a logon session."""
        visible = self._state.visible(session)
        bodies = [task.body(kind, is_root=False) for task in visible]
        if kind == "json":
            key = self._version.key("Tasks")
            body = b'{"%s":[%s]}' % (key.encode(), b",".join(bodies))
        else:
            body = b'%s<Tasks xmlns="%s">%s</Tasks>' % (
                DECLARATION.encode(),
                NAMESPACE.encode(),
                b"".join(bodies),
            )
        return Answer(status=200, body=body, content_type=MEDIA_TYPES[kind])

    def read(
        self,
        path: str,
        query: Mapping[str, str],
        session: LogonSession,
        kind: MediaKind,
    ) -> Answer | None:
        """Answer a GET, or return None for a path that nobody can read."""
        lowered = path.lower()
        if lowered == "query":
            return self._query(query, session, kind)
        if lowered == "querysvc":
            node: Node | None = query_service(self._state.context.base())
        elif _REPORT.fullmatch(lowered):
            name = lowered.removeprefix("reports/summary").removeprefix("/")
            node = self._reports().read(name, self._state.context.base())
        else:
            as_entity = query.get("format", "").lower() in {"entity", "entities"}
            node = self._collection(lowered, as_entity=as_entity)
            if node is None:
                node = self._single(lowered, as_entity=as_entity)
        return None if node is None else resource(node, kind, self._version)

    def _collection(self, path: str, *, as_entity: bool) -> Node | None:
        base = self._state.context.base()
        kind: str | None
        found: Sequence[_Entity]
        if path in _OF_KIND:
            kind = "BackupJobSession"
            wanted = _OF_KIND[path]
            found = self._altered(
                [
                    one
                    for one in self._recent(self._sessions(kind))
                    if one.job is not None and one.job.kind == wanted
                ]
            )
        elif path in _KINDS:
            kind = _KINDS[path]
            if kind in SESSION_PATHS:
                found = self._altered(self._recent(self._sessions(kind)))
            elif kind in TASK_SESSION_PATHS:
                found = self._altered(self._recent(self._task_sessions(kind)))
            else:
                found = self._all(kind)
        else:
            inner = _INNER.fullmatch(path)
            if inner is None or inner["tail"] not in _INNER_TAILS[inner["head"]]:
                return None
            if inner["tail"] == "events":
                return self._system_session(inner["guid"]).events(base)
            kind, found = self._inner(inner["head"], inner["guid"], inner["tail"])
        if as_entity:
            return entities(kind, [one.entity(base) for one in found])
        return references([one.reference(base, "Ref") for one in found])

    def _inner(self, head: str, guid: str, tail: str) -> tuple[str, Sequence[_Entity]]:
        """Return what stands in a resource, with its type."""
        if head in _JOBS:
            job = self._job(guid, _JOBS[head])
            kind = "ReplicaJobSession" if tail[0] == "r" else "BackupJobSession"
            of_job = {one.session_id for one in self._state.sessions_of(job)}
            sessions = [one for one in self._sessions(kind) if one.session_id in of_job]
            return kind, self._altered(self._recent(sessions))
        if head in _SESSIONS:
            session = self._session(_SESSIONS[head], guid)
            if tail == "agentmanagementsessions":
                every = self._recent(self._sessions("BackupJobSession"))
                return "BackupJobSession", [
                    one
                    for one in every
                    if one.job_type == "AgentManagement" and one.job is session.job
                ]
            kind = "ReplicaTaskSession" if head[0] == "r" else "BackupTaskSession"
            known = [one for one in session.task_sessions if one.is_known]
            return kind, self._altered(known)
        if head == "backupservers":
            self._backup_server(guid)
            kind = "Job" if tail == "jobs" else "Repository"
            return kind, self._all(kind)
        self._repository(guid)
        return ("Backup" if tail == "backups" else "Replica"), []

    def _single(self, path: str, *, as_entity: bool) -> Node | None:
        head, _, guid = path.rpartition("/")
        one: _Entity
        if head in _JOBS:
            one = _ListedJob(self._job(guid, _JOBS[head]), self._state.server)
        elif head in _SESSIONS:
            one = self._altered_one(self._session(_SESSIONS[head], guid))
        elif head in _TASK_SESSIONS:
            one = self._altered_one(self._task_session(_TASK_SESSIONS[head], guid))
        elif head == "systemsessions":
            one = self._system_session(guid)
        elif head == "backupservers":
            one = self._backup_server(guid)
        elif head == "repositories":
            one = self._repository(guid)
        elif head == "restorepoints":
            one = self._restore_point(guid)
        elif head in _KINDS:
            raise Refusal(_NOT_FOUND, f"There is no {_KINDS[head]} with id [{guid}].")
        else:
            return None
        base = self._state.context.base()
        return one.entity(base) if as_entity else one.reference(base, "EntityRef")

    def _job(self, guid: str, kind: str) -> Job:
        job = self._state.jobs.get(guid)
        if job is None or job.type != kind:
            raise Refusal(_NOT_FOUND, f"There is no job with id [{guid}].")
        return job

    def _session(self, kind: str, guid: str) -> JobSession:
        session = self._state.job_sessions.get(guid)
        is_known = session is not None and session.type == kind and session.is_known
        if session is None or not is_known or self._has_vanished():
            self._refuse_session(kind, guid)
        return session

    def _task_session(self, kind: str, guid: str) -> TaskSession:
        for one in self._task_sessions(kind):
            if one.session_id == guid and not self._has_vanished():
                return one
        return self._refuse_session(kind, guid)

    def _refuse_session(self, kind: str, guid: str) -> NoReturn:
        problem = f"There is no {kind} with id [{guid}]."
        raise Refusal(self._unknown_session, problem)

    def _system_session(self, guid: str) -> SystemSession:
        for one in self._system_sessions():
            if one.session_id == guid:
                return one
        return self._refuse_session("SystemSession", guid)

    def _backup_server(self, guid: str) -> BackupServer:
        if guid != self._state.server.server_id:
            raise Refusal(_NOT_FOUND, f"There is no BackupServer with id [{guid}].")
        return self._state.server

    def _repository(self, guid: str) -> Repository:
        for one in self._reports().repositories():
            if one.repository_id == guid:
                return one
        raise Refusal(_NOT_FOUND, f"There is no Repository with id [{guid}].")

    def _reports(self) -> Reports:
        jobs = tuple(self._state.jobs.values())
        sessions = tuple(self._state.job_sessions.values())
        known = [one for one in sessions if one.is_known]
        return Reports(self._state.server, jobs, known)

    def _restore_point(self, guid: str) -> RestorePoint:
        for one in self._restore_points():
            if one.point_id == guid:
                return one
        raise Refusal(_NOT_FOUND, f"There is no RestorePoint with id [{guid}].")

    def _sessions(self, kind: str) -> list[JobSession]:
        sessions = tuple(self._state.job_sessions.values())
        return [one for one in sessions if one.type == kind and one.is_known]

    def _task_sessions(self, kind: str) -> list[TaskSession]:
        sessions = tuple(self._state.job_sessions.values())
        return [
            one
            for session in sessions
            if session.is_known
            for one in session.task_sessions
            if one.type == kind and one.is_known and session.type in _WITH_TASKS
        ]

    def _system_sessions(self) -> list[SystemSession]:
        server = self._state.server
        return [
            SystemSession(server=server, collection=one) for one in server.collections()
        ]

    def _restore_points(self) -> list[RestorePoint]:
        return [
            RestorePoint(session, self._state.server)
            for session in self._sessions("BackupJobSession")
            if session.has_restore_point
        ]

    def _all(self, kind: str) -> Sequence[_Entity]:
        if kind in _JOBS.values():
            jobs = tuple(self._state.jobs.values())
            server = self._state.server
            return [_ListedJob(job, server) for job in jobs if job.type == kind]
        if kind in SESSION_PATHS:
            return self._altered(self._sessions(kind))
        if kind in TASK_SESSION_PATHS:
            return self._altered(self._task_sessions(kind))
        others: Mapping[str, Callable[[], Sequence[_Entity]]] = {
            "SystemSession": self._system_sessions,
            "BackupServer": lambda: [self._state.server],
            "Repository": lambda: self._reports().repositories(),
            "RestorePoint": self._restore_points,
        }
        found = others.get(kind)
        return () if found is None else found()

    def _recent(self, found: list[AnySession]) -> list[AnySession]:
        """Return what a collection holds: the last 30 days; queries hold more."""
        since = self._state.context.clock.now() - _COLLECTED
        return [one for one in found if one.created >= since]

    def _has_vanished(self) -> bool:
        return self._state.alteration is FaultKind.VANISH

    def _altered(
        self, found: Sequence[JobSession] | Sequence[TaskSession]
    ) -> Sequence[_Entity]:
        """Return job sessions as a fault lets them look."""
        match self._state.alteration:
            case FaultKind.VANISH:
                return []
            case FaultKind.DUPLICATE:
                return [one for one in found for _ in range(2)]
            case FaultKind.SHUFFLE:
                return self._state.shuffled([*found])
            case FaultKind.BACKWARDS:
                return [_Earlier(one) for one in found]
        return found

    def _altered_one(self, session: JobSession | TaskSession) -> _Entity:
        alteration = self._state.alteration
        if alteration is FaultKind.BACKWARDS:
            return _Earlier(session)
        if alteration is FaultKind.OTHER_TASK:
            every: Sequence[JobSession | TaskSession] = (
                self._sessions(session.type)
                if isinstance(session, JobSession)
                else self._task_sessions(session.type)
            )
            others = [one for one in every if one is not session]
            return self._state.shuffled(others)[0] if others else session
        return session

    def _query(
        self, query: Mapping[str, str], session: LogonSession, kind: MediaKind
    ) -> Answer:
        asked = query.get("type", "").lower()
        if asked == "task":
            return self._query_tasks(query, session, kind)
        known = next((one for one in QUERY_FIELDS if one.lower() == asked), None)
        if known is None:
            raise Refusal(_BAD, f"Unknown type [{query.get('type', '')}] of the query.")
        found, page = _select(
            query,
            [(one.fields(), one) for one in self._all(known)],
            QUERY_FIELDS[known],
        )
        base = self._state.context.base()
        if query.get("format", "").lower() in {"entity", "entities"}:
            content = entities(known, [one.entity(base) for one in found])
            section, name = "Entities", section_of(known)
        else:
            section = name = "Refs"
            refs = tuple(one.reference(base, "Ref") for one in found)
            content = Node(section, items=(section, refs))
        node = query_result(
            section, name, content, page, self._links(page, query, known)
        )
        return resource(node, kind, self._version)

    def _query_tasks(
        self, query: Mapping[str, str], session: LogonSession, kind: MediaKind
    ) -> Answer:
        visible = self._state.visible(session)
        fields = [(_task_fields(task), task) for task in visible]
        found, page = _select(query, fields, TASK_FIELDS)
        content = Node(
            plural("Task"), items=("Tasks", tuple(task.node() for task in found))
        )
        # Tasks have no reference form, so both formats give the same.
        node = query_result(
            "Resources", "Tasks", content, page, self._links(page, query, "Task")
        )
        return resource(node, kind, self._version)

    def _links(self, page: Page, query: Mapping[str, str], kind: str) -> dict[str, str]:
        """Return the URL of each paging link by its Rel.

        The query stands in it as it was asked, values percent-encoded, and the size and
        the number of the page come last.
        """
        asked = {"type": kind}
        for name, spelling in _SPELLING.items():
            if name in query:
                asked[spelling] = query[name]
        text = "&".join(
            f"{name}={self._version.quoted(value)}" for name, value in asked.items()
        )
        numbers = {"First": 1}
        if page.number > 1:
            numbers["Prev"] = page.number - 1
        if page.number < page.count:
            numbers["Next"] = page.number + 1
        numbers["Last"] = max(page.count, 1)
        base = self._state.context.base()
        return {
            rel: f"{base}query?{text}&pageSize={page.size}&page={number}"
            for rel, number in numbers.items()
        }


_WITH_TASKS: Final = frozenset({"BackupJobSession", "ReplicaJobSession"})
_SPELLING: Final = {
    "format": "format",
    "filter": "filter",
    "sortasc": "sortAsc",
    "sortdesc": "sortDesc",
}


def _task_fields(task: SimulatedTask) -> dict[str, Scalar | None]:
    return {
        "TaskId": task.task_id,
        "TaskUid": task.task_id,
        "State": task.state,
        "Operation": task.operation,
    }


def _select(
    query: Mapping[str, str],
    candidates: Sequence[tuple[Fields, Found]],
    known: Sequence[str],
) -> tuple[list[Found], Page]:
    """Filter, sort and page what was found; `known` is empty where any name will do.

    Raises:
        Refusal: 400; a parameter cannot be read.
    """
    test = parse_filter(query.get("filter", ""), known)
    kept = [one for one in candidates if test(one[0])]
    for name, is_descending in (("sortasc", False), ("sortdesc", True)):
        asked = query.get(name)
        if asked is None:
            continue
        field = next((one for one in known if one.lower() == asked.lower()), None)
        if field is None and known:
            raise Refusal(_BAD, f"Unknown query parameter [{asked}].")
        if field is not None:
            kept.sort(key=_sorter(field), reverse=is_descending)
    size = positive(query, "pageSize", _PAGE_SIZE)
    number = positive(query, "page", 1)
    page = Page(number=number, size=size, count=-(-len(kept) // size))
    first = (number - 1) * size
    return [found for _, found in kept[first : first + size]], page


def _sorter(field: str) -> Callable[[tuple[Fields, object]], tuple[int, float, str]]:
    return lambda one: sort_key(field, one[0].get(field))
