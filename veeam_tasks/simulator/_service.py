"""What the server answers: every request in, its answer out, without any waiting."""

from typing import Final

import attrs

from veeam_tasks.simulator._accounts import Account, LogonSession, Role, may_read
from veeam_tasks.simulator._action_runner import ActionRunner
from veeam_tasks.simulator._actions import Action, match
from veeam_tasks.simulator._authenticator import Authenticator
from veeam_tasks.simulator._catalog import Catalog
from veeam_tasks.simulator._documented import documented_methods
from veeam_tasks.simulator._messages import (
    MEDIA_TYPES,
    TOKEN,
    Answer,
    Incoming,
    Refusal,
    accepted_kind,
    check_root,
    http_sys,
    read_body,
    refused,
    resource,
)
from veeam_tasks.simulator._records import LogonRecord, Records
from veeam_tasks.simulator._resources import logon_session, logon_sessions, root
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tasks import SimulatedTask
from veeam_tasks.simulator._tree import MediaKind
from veeam_tasks.simulator._version import ServerVersion

_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_NOT_ALLOWED: Final = 405
_LENGTH_REQUIRED: Final = 411
_UNKNOWN_TASK: Final = 500
_NOT_IMPLEMENTED: Final = 501
_WITH_BODY: Final = frozenset({"POST", "PUT"})
_TASKS: Final = "/api/tasks/"
# Documented to answer 202 without a task.
_SILENT: Final = frozenset({("POST", "backupservers", "create")})


class Service:
    """The REST service: routes, permissions, and what they lead to."""

    def __init__(
        self,
        *,
        state: ServerState,
        accounts: dict[str, Account],
        logons: Records[LogonRecord],
        runner: ActionRunner,
        unknown_session: int,
        task_location: bool,
    ) -> None:
        self._state = state
        self._version: ServerVersion = state.context.version
        self._authenticator = Authenticator(
            state=state, accounts=accounts, logons=logons
        )
        self._runner = runner
        self._task_location = task_location
        self._catalog = Catalog(state, unknown_session=unknown_session)

    def answer(self, incoming: Incoming) -> Answer:
        """Answer one request; HEAD as GET, whose body then is not sent."""
        if incoming.method == "HEAD":
            incoming = attrs.evolve(incoming, method="GET")
        kind = accepted_kind(incoming.headers.get("Accept"), self._version)
        self._state.settle()
        try:
            if incoming.method == "GET" and incoming.target.startswith(_TASKS):
                session = self._authenticator.admit(incoming)
                return self._read_task(session, incoming, kind)
            return self._route(incoming, kind)
        except Refusal as refusal:
            return refused(refusal, kind, self._version)

    def refusal_of(self, incoming: Incoming) -> Answer | None:
        """Return the refusal of a request by its head alone, or None.

        Who sends ``Expect: 100-continue`` waits for it before sending a body.
        """
        kind = accepted_kind(incoming.headers.get("Accept"), self._version)
        path = incoming.path.strip("/").partition("/")[2]
        if path.lower().startswith("sessionmngr"):
            # The credentials may stand in the body.
            return None
        try:
            session = self._authenticator.admit(incoming)
            found = match(incoming.method, path, incoming.query.get("action"))
            if found.action is None:
                raise self._refusal_of_path(incoming, path)
            _permit(session, found.action)
        except Refusal as refusal:
            return refused(refusal, kind, self._version)
        return None

    def _route(self, incoming: Incoming, kind: MediaKind) -> Answer:
        head, _, rest = incoming.path.strip("/").partition("/")
        if head.lower() != "api":
            return http_sys(
                _NOT_FOUND, "Not Found", "The requested resource is not found."
            )
        if (
            incoming.method in _WITH_BODY
            and "Content-Length" not in incoming.headers
            and "Transfer-Encoding" not in incoming.headers
        ):
            return http_sys(
                _LENGTH_REQUIRED,
                "Length Required",
                "The request must be chunked or have a content length.",
            )
        path = rest.strip("/")
        name, _, inner = path.partition("/")
        handler = {
            "": self._root,
            "sessionmngr": self._log_on,
            "logonsessions": self._logon_sessions,
            "tasks": self._tasks,
        }.get(name.lower(), self._other)
        return handler(incoming, path if handler == self._other else inner, kind)

    def _root(self, incoming: Incoming, _: str, kind: MediaKind) -> Answer:
        _only(incoming, "GET")
        return resource(
            root(self._state.context.base(), self._version), kind, self._version
        )

    def _log_on(self, incoming: Incoming, inner: str, kind: MediaKind) -> Answer:
        if inner:
            raise _unknown(incoming)
        _only(incoming, "POST")
        session = self._authenticator.log_on(incoming, kind)
        body = logon_session(session, self._state.context.base())
        answer = resource(body, kind, self._version, 201)
        here = f"{self._state.context.base()}logonSessions/{session.session_id}"
        answer.headers = (
            ("Location", here),
            (TOKEN, session.token),
            ("Set-Cookie", f"{TOKEN}={session.token}; Path=/api;"),
        )
        return answer

    def _logon_sessions(
        self, incoming: Incoming, inner: str, kind: MediaKind
    ) -> Answer:
        self._authenticator.admit(incoming)
        base = self._state.context.base()
        sessions = self._state.open_sessions()
        if not inner:
            _only(incoming, "GET")
            return resource(logon_sessions(sessions, base), kind, self._version)
        _only(incoming, "GET", "DELETE")
        wanted = inner.lower()
        found = next((one for one in sessions if one.session_id == wanted), None)
        if found is None:
            raise Refusal(_NOT_FOUND, f"There is no logon session with id [{inner}].")
        if incoming.method == "DELETE":
            self._state.close_session(found.session_id)
            return Answer(status=204)
        return resource(logon_session(found, base), kind, self._version)

    def _tasks(self, incoming: Incoming, inner: str, kind: MediaKind) -> Answer:
        session = self._authenticator.admit(incoming)
        if not inner:
            _only(incoming, "GET")
            return self._catalog.tasks(session, kind)
        _only(incoming, "GET", "DELETE")
        task = self._find(session, inner)
        if incoming.method == "GET":
            return self._show(task, kind)
        self._state.delete(session, task)
        return Answer(status=204)

    def _read_task(
        self, session: LogonSession, incoming: Incoming, kind: MediaKind
    ) -> Answer:
        inner = incoming.path[len(_TASKS) :].strip("/")
        if not inner:
            return self._catalog.tasks(session, kind)
        return self._show(self._find(session, inner), kind)

    def _find(self, session: LogonSession, task_id: str) -> SimulatedTask:
        task = self._state.find(session, task_id)
        if task is None:
            raise Refusal(
                _UNKNOWN_TASK,
                f"There is no backup task with id [{task_id}] in current rest session",
            )
        return task

    def _show(self, task: SimulatedTask, kind: MediaKind, status: int = 200) -> Answer:
        return Answer(
            status=status,
            body=task.body(kind, is_root=True),
            content_type=MEDIA_TYPES[kind],
        )

    def _other(self, incoming: Incoming, path: str, kind: MediaKind) -> Answer:
        session = self._authenticator.admit(incoming)
        if incoming.method == "GET":
            if not may_read(session.role, path, incoming.query.get("type", "")):
                raise Refusal(_FORBIDDEN, "Access denied")
            found = self._catalog.read(path, incoming.query, session, kind)
            if found is not None:
                return found
        return self._act(incoming, path, session, kind)

    def _act(
        self, incoming: Incoming, path: str, session: LogonSession, kind: MediaKind
    ) -> Answer:
        word = incoming.query.get("action")
        found = match(incoming.method, path, word)
        if found.action is not None:
            _permit(session, found.action)
            body = read_body(incoming, kind, self._version)
            check_root(body, found.action.request_root)
            task = self._runner.start(found.action, path, found.ids, session, body)
            # One that succeeds at once shows what follows from it in its first reply.
            self._state.settle()
            answer = self._show(task, kind, found.action.status)
            if self._task_location:
                href = f"{self._state.context.base()}tasks/{task.task_id}"
                answer.headers = (("Location", href),)
            return answer
        if (incoming.method, path.lower(), (word or "").lower()) in _SILENT:
            return Answer(status=202)
        raise self._refusal_of_path(incoming, path)

    def _refusal_of_path(self, incoming: Incoming, path: str) -> Refusal:
        """Return why a request leads nowhere.

        What the reference documents and this server does not simulate is 501, so that
        nobody takes it for what a real server says.
        """
        methods = set(match(incoming.method, path, None).methods)
        methods |= documented_methods(path)
        if self._catalog.has(path):
            methods.add("GET")
        word = incoming.query.get("action")
        if incoming.method in methods:
            about = f"The action [{word}] of [{path}]" if word else f"[{path}]"
            return Refusal(
                _NOT_IMPLEMENTED, f"{about} is not simulated, or not supported."
            )
        return _not_allowed(incoming, methods) if methods else _unknown(incoming)


_RESTORERS: Final = frozenset({Role.PORTAL_USER, Role.RESTORE_OPERATOR})
_OF_USERS: Final = frozenset({"collect", "quickbackup", "veeamzip"})
_TENANT_PATH: Final = "cloud/cloudFailoverPlans/{ID}"


def _permit(session: LogonSession, action: Action) -> None:
    word = action.action or ""
    match session.role:
        case Role.PORTAL_ADMINISTRATOR:
            may = True
        case Role.TENANT:
            # The vendor lets a tenant start and undo a cloud failover plan, no more.
            may = action.path == _TENANT_PATH and word in {"start", "undo"}
        case _:
            may = action.is_restore and session.role in _RESTORERS
            may = may or (word in _OF_USERS and session.role is Role.PORTAL_USER)
    if not may:
        raise Refusal(_FORBIDDEN, "Access denied")


def _only(incoming: Incoming, *methods: str) -> None:
    if incoming.method not in methods:
        raise _not_allowed(incoming, set(methods))


def _not_allowed(incoming: Incoming, methods: set[str]) -> Refusal:
    allowed = ", ".join(sorted(methods))
    return Refusal(
        _NOT_ALLOWED,
        f"The method [{incoming.method}] is not supported for this resource.",
        (("Allow", allowed),),
    )


def _unknown(incoming: Incoming) -> Refusal:
    return Refusal(_NOT_FOUND, f"The resource [{incoming.path}] was not found.")
