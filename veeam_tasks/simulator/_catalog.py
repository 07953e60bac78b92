"""What can be read besides single tasks: collections, jobs, sessions, queries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from veeam_tasks.simulator._accounts import LogonSession
from veeam_tasks.simulator._jobs import SESSION_PATHS, Job, JobSession
from veeam_tasks.simulator._messages import MEDIA_TYPES, Answer, Refusal, resource
from veeam_tasks.simulator._query import Fields, Page, parse_filter, positive, sort_key
from veeam_tasks.simulator._resources import (
    COLLECTIONS,
    entities,
    plural,
    query_result,
    query_service,
    references,
)
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tasks import SimulatedTask
from veeam_tasks.simulator._tree import DECLARATION, NAMESPACE, MediaKind, Node, Scalar

_NOT_FOUND: Final = 404
_BAD: Final = 400
# Programs have seen this page size when they asked for none.
_PAGE_SIZE: Final = 100
# Until 10 the ID was called TaskUid here, and the newest query service still says so.
_TASK_FIELDS: Final = ("TaskId", "TaskUid", "State", "Operation")
Found = TypeVar("Found")
_SERVER: Final = "BackupServerUid", "BackupServerName"
_SESSION_FIELDS: Final = (
    *("UID", "Name", "JobType", "JobUid", "JobName", "CreationTime", "EndTime"),
    *("State", "Result", "IsRetry", *_SERVER),
)
_FIELDS: Final = {
    "Job": (
        *("UID", "Name", "Description", "NextRun", "JobType", "Platform"),
        *("ScheduleConfigured", "ScheduleEnabled", *_SERVER),
    ),
    "BackupJobSession": _SESSION_FIELDS,
    "ReplicaJobSession": _SESSION_FIELDS,
    "RestoreSession": (
        *("UID", "Name", "Type", "CreationTime", "EndTime", "State", "Result"),
        *(*_SERVER, "VmDisplayName"),
    ),
}
_KINDS: Final = {path.lower(): kind for kind, path in COLLECTIONS}
_PATHS: Final = dict(COLLECTIONS)


class _Entity(Protocol):
    def fields(self) -> dict[str, Scalar | None]: ...
    def entity(self, base: str) -> Node: ...
    def reference(self, base: str, element: str) -> Node: ...


class Catalog:
    """Reads the server's state in the forms of the reference."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._version = state.context.version

    def methods(self, path: str) -> frozenset[str]:
        """Return the methods of a path that can be read; none for an unknown path."""
        lowered = path.lower()
        head, _, tail = lowered.rpartition("/")
        is_known = (
            lowered in _KINDS
            or head in _KINDS
            or lowered in {"query", "querysvc"}
            or (head.startswith("jobs/") and tail in _KINDS)
        )
        return frozenset({"GET"} if is_known else ())

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
        else:
            as_entity = query.get("format", "").lower() in {"entity", "entities"}
            node = self._collection(lowered, as_entity=as_entity)
            if node is None:
                node = self._single(lowered, as_entity=as_entity)
        return None if node is None else resource(node, kind, self._version)

    def _collection(self, path: str, *, as_entity: bool) -> Node | None:
        head, _, tail = path.rpartition("/")
        kind = _KINDS.get(path)
        found: Sequence[_Entity]
        if kind is not None:
            found = self._all(kind)
        elif head.startswith("jobs/") and tail in _KINDS:
            kind = _KINDS[tail]
            job = self._job(head.removeprefix("jobs/"))
            found = [
                one
                for one in self._sessions(kind)
                if one.job is not None and one.job.job_id == job.job_id
            ]
        else:
            return None
        base = self._state.context.base()
        if as_entity:
            return entities(kind, [one.entity(base) for one in found])
        return references([one.reference(base, "Ref") for one in found])

    def _single(self, path: str, *, as_entity: bool) -> Node | None:
        head, _, guid = path.rpartition("/")
        kind = _KINDS.get(head)
        if kind is None:
            return None
        one: _Entity
        if kind == "Job":
            one = self._job(guid)
        else:
            session = self._state.job_sessions.get(guid)
            if session is None or session.type != kind:
                raise Refusal(_NOT_FOUND, f"There is no {kind} with id [{guid}].")
            one = session
        base = self._state.context.base()
        return one.entity(base) if as_entity else one.reference(base, "EntityRef")

    def _job(self, guid: str) -> Job:
        job = self._state.jobs.get(guid)
        if job is None:
            raise Refusal(_NOT_FOUND, f"There is no job with id [{guid}].")
        return job

    def _sessions(self, kind: str) -> list[JobSession]:
        sessions = tuple(self._state.job_sessions.values())
        return [session for session in sessions if session.type == kind]

    def _all(self, kind: str) -> Sequence[_Entity]:
        if kind == "Job":
            return tuple(self._state.jobs.values())
        return self._sessions(kind) if kind in SESSION_PATHS else ()

    def _query(
        self, query: Mapping[str, str], session: LogonSession, kind: MediaKind
    ) -> Answer:
        asked = query.get("type", "")
        if asked.lower() == "task":
            return self._query_tasks(query, session, kind)
        known = next((one for one in _PATHS if one.lower() == asked.lower()), None)
        if known is None:
            raise Refusal(_BAD, f"Unknown type [{asked}] of the query.")
        found, page = _select(
            query,
            [(one.fields(), one) for one in self._all(known)],
            _FIELDS.get(known, ("UID", "Name")),
        )
        base = self._state.context.base()
        if query.get("format", "").lower() in {"entity", "entities"}:
            section = "Entities"
            content = entities(known, [one.entity(base) for one in found])
        else:
            section = "Refs"
            content = Node(
                section,
                items=(section, tuple(one.reference(base, "Ref") for one in found)),
            )
        node = query_result(section, content, page, base, _spelled(query, known))
        return resource(node, kind, self._version)

    def _query_tasks(
        self, query: Mapping[str, str], session: LogonSession, kind: MediaKind
    ) -> Answer:
        visible = self._state.visible(session)
        fields = [(_task_fields(task), task) for task in visible]
        found, page = _select(query, fields, _TASK_FIELDS)
        content = Node(
            plural("Task"), items=("Tasks", tuple(task.node() for task in found))
        )
        # Tasks have no reference form, so both formats give the same.
        base = self._state.context.base()
        node = query_result("Resources", content, page, base, _spelled(query, "Task"))
        return resource(node, kind, self._version)


def _task_fields(task: SimulatedTask) -> dict[str, Scalar | None]:
    return {
        "TaskId": task.task_id,
        "TaskUid": task.task_id,
        "State": task.state,
        "Operation": task.operation,
    }


_SPELLING: Final = {
    "format": "format",
    "filter": "filter",
    "sortasc": "sortAsc",
    "sortdesc": "sortDesc",
}


def _spelled(query: Mapping[str, str], kind: str) -> dict[str, str]:
    """Return the query for links: type first, names spelled as in the reference."""
    asked = {"type": kind}
    for name, spelling in _SPELLING.items():
        if name in query:
            asked[spelling] = query[name]
    return asked


def _select(
    query: Mapping[str, str],
    candidates: Sequence[tuple[Fields, Found]],
    known: Sequence[str],
) -> tuple[list[Found], Page]:
    """Filter, sort and page what was found.

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
        if field is None:
            raise Refusal(_BAD, f"Unknown query parameter [{asked}].")
        kept.sort(key=_sorter(field), reverse=is_descending)
    size = positive(query, "pageSize", _PAGE_SIZE)
    number = positive(query, "page", 1)
    page = Page(number=number, size=size, count=-(-len(kept) // size))
    first = (number - 1) * size
    return [found for _, found in kept[first : first + size]], page


def _sorter(field: str) -> Callable[[tuple[Fields, object]], tuple[int, float, str]]:
    return lambda one: sort_key(field, one[0].get(field))
