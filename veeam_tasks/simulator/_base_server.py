"""What both servers share: their options, their controls and their records."""

import warnings
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from random import Random
from typing import Final

from veeam_tasks.simulator._accounts import Account, LogonSession
from veeam_tasks.simulator._action_runner import ActionRunner
from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._faults import Faults
from veeam_tasks.simulator._http_server import (
    Address,
    ConnectionCount,
    HttpServer,
    Listener,
)
from veeam_tasks.simulator._jobs import (
    SESSION_PATHS,
    Job,
    JobKind,
    JobResult,
    JobSession,
)
from veeam_tasks.simulator._records import (
    Connections,
    LogonRecord,
    Records,
    RequestRecord,
)
from veeam_tasks.simulator._script import Mix, Script, as_script
from veeam_tasks.simulator._service import Service
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tasks import Related, SimulatedTask, TaskContext
from veeam_tasks.simulator._tls import Certificates
from veeam_tasks.simulator._version import version_named

_KEPT: Final = 50_000


class BaseServer:
    """A simulated Enterprise Manager, apart from the way in which it is started.

    Args:
        host: Where to listen.
        port: The port; 0 for any that is free.
        tls: Speak TLS with a certificate of a throw-away CA (extra ``simulator``).
        version: ``9.5u4``, ``12`` or ``13``.
        username: The account that may do everything.
        password: Its password.
        accounts: More accounts, by name: a password (of a Portal Administrator) or an
            `Account`.
        idle_expiry: Seconds without a request after which a logon session ends.
        session_scoped: Whether a logon session knows only its own tasks.
        per_session_counter: Whether each logon session counts its tasks from 1.
        speed: How many seconds of scripts pass in one second.
        seed: For IDs, mixes and everything else that is drawn; None draws anew.
        related_delay: Seconds from Finished until the Related links are there.
        link_base: The server's own idea of its URL for links, such as
            ``https://em01:9398``; None for the URL where it is.
        any_id: Whether jobs and sessions that do not exist may be acted on.
        keep_requests: How many records of requests to keep, the newest ones.

    Attributes:
        username: The account that may do everything.
        password: Its password.
        faults: The rules of what goes wrong.
        requests: The requests that came, as `RequestRecord`.
        logons: The attempts to log on, as `LogonRecord`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        version: str = "12",
        username: str = "admin",
        password: str = "admin-secret",  # noqa: S107 - of a server that holds nothing
        accounts: Mapping[str, str | Account] | None = None,
        idle_expiry: float = 900.0,
        session_scoped: bool = True,
        per_session_counter: bool = False,
        speed: float = 1.0,
        seed: int | None = None,
        related_delay: float = 0.0,
        link_base: str | None = None,
        any_id: bool = False,
        keep_requests: int = _KEPT,
    ) -> None:
        self.username = username
        self.password = password
        self.faults = Faults()
        self.requests: Records[RequestRecord] = Records(keep_requests)
        self.logons: Records[LogonRecord] = Records(keep_requests)
        self._random = Random(seed)  # noqa: S311 - a server that holds no secrets
        self._clock = Clock(speed)
        self._accounts = {username: Account(password)}
        for name, given in (accounts or {}).items():
            account = given if isinstance(given, Account) else Account(given)
            self._accounts[name] = account
        self._certificates = Certificates(host) if tls else None
        scheme = "https" if tls else "http"
        self._address = Address(host=host, port=port, scheme=scheme, believed=link_base)
        context = TaskContext(
            clock=self._clock,
            version=version_named(version),
            base=self._address.base,
            related_delay=related_delay,
        )
        self._state = ServerState(
            context=context,
            random=self._random,
            idle_expiry=idle_expiry,
            session_scoped=session_scoped,
            per_session_counter=per_session_counter,
        )
        self._runner = ActionRunner(self._state, any_id=any_id)
        self._count = ConnectionCount()
        self._listener = self._make_listener()

    @property
    def url(self) -> str:
        """Where it is: ``http://127.0.0.1:43210``.

        Raises:
            RuntimeError: It was not started, so it has no port yet.
        """
        return self._address.url

    @property
    def version(self) -> str:
        """The version that it plays."""
        return self._state.context.version.name

    @property
    def ca_file(self) -> str:
        """The file of the CA that its certificate comes from.

        Raises:
            RuntimeError: It does not speak TLS.
        """
        return self._tls().ca_file

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate, in hex.

        Raises:
            RuntimeError: It does not speak TLS.
        """
        return self._tls().fingerprint

    @property
    def speed(self) -> float:
        """How many seconds of scripts pass in one second."""
        return self._clock.speed

    @property
    def connections(self) -> Connections:
        """The connections that are open, and were."""
        return self._count.snapshot()

    @property
    def logon_sessions(self) -> list[LogonSession]:
        """The logon sessions that are open now, oldest first."""
        return self._state.open_sessions()

    @property
    def session_scoped(self) -> bool:
        """Whether a logon session knows only its own tasks; may be changed."""
        return self._state.session_scoped

    @session_scoped.setter
    def session_scoped(self, value: bool) -> None:
        self._state.session_scoped = value

    @property
    def tasks(self) -> list[SimulatedTask]:
        """The newest task of every ID, oldest first."""
        return list(self._state.all_tasks())

    def task(self, task_id: str) -> SimulatedTask:
        """Return the newest task of that ID.

        Raises:
            KeyError: There was none.
        """
        return self._state.latest(task_id)

    def forget_task(self, task_id: str) -> None:
        """Forget a task wholly, here as well, so that a long run holds no more.

        Raises:
            KeyError: There was none.
        """
        self._state.forget_task(task_id)

    def add_task(
        self,
        script: str | Script | None = None,
        *,
        operation: str = "StartJob",
        message: str | None = None,
        related: str | Related | None = None,
        owner: LogonSession | None = None,
        shared: bool = False,
    ) -> SimulatedTask:
        """Add a task, as if an action had started it; its script begins now.

        It belongs to `owner`, or to the newest logon session that is open, or without
        any to the next one that is opened: so a server with tasks can be made first and
        logged on to afterwards. `shared` tasks are known to every logon session.

        Args:
            script: What it goes through (see `Script.parse`); None for what the
                operation plays.
            operation: Its operation.
            message: What its Result says on success; None for ``Ok``.
            related: What it leads to: ``BackupJobSession``, ``ReplicaJobSession`` or
                ``RestoreSession``, which starts such a session, or a `Related`.
            owner: The logon session that it belongs to.
            shared: Whether every logon session knows it.

        Raises:
            ValueError: The script cannot be read, or `related` is not known.
        """
        if isinstance(related, str):
            if related not in SESSION_PATHS:
                known = ", ".join(SESSION_PATHS)
                problem = f"a task leads to one of {known}, not {related!r}"
                raise ValueError(problem)
            related = self._runner.related_session(related)
        return self._state.add_task(
            operation=operation,
            script=(
                self._runner.script_of(operation)
                if script is None
                else as_script(script)
            ),
            message=message,
            related=() if related is None else (related,),
            owner=owner,
            shared=shared,
        )

    def add_tasks(
        self,
        count: int,
        mix: Mix | None = None,
        *,
        owner: LogonSession | None = None,
        shared: bool = False,
    ) -> list[SimulatedTask]:
        """Add `count` tasks by distribution; owned as `add_task` says."""
        drawn = (mix or Mix()).draw(count, self._random)
        return [
            self.add_task(script, operation=operation, owner=owner, shared=shared)
            for operation, script in drawn
        ]

    def set_script(self, script: str | Script, *, operation: str | None = None) -> None:
        """Let what actions start play `script`: one operation's tasks, or all.

        Raises:
            ValueError: The script cannot be read.
        """
        self._runner.set_script(operation, as_script(script))

    @property
    def jobs(self) -> list[Job]:
        """The jobs; four are there from the beginning."""
        return list(self._state.jobs.values())

    def add_job(
        self,
        name: str,
        *,
        kind: JobKind = "Backup",
        seconds: float = 30.0,
        result: JobResult = "Success",
    ) -> Job:
        """Add a job whose sessions last `seconds` and end with `result`."""
        return self._state.add_job(name, kind, seconds, result)

    @property
    def job_sessions(self) -> list[JobSession]:
        """The backup, replica and restore sessions, oldest first."""
        return list(self._state.job_sessions.values())

    def expire_logon_sessions(self, *, keep_tasks: bool = False) -> int:
        """End all logon sessions, as if they had been idle for too long.

        Args:
            keep_tasks: Give their tasks to the next logon session.

        Returns:
            How many were open.
        """
        return self._state.end_sessions(keep_tasks=keep_tasks)

    def restart(self, *, keep_tasks: bool = False, reset_counter: bool = True) -> None:
        """Restart the service at once: connections cut, tokens void, state empty.

        Args:
            keep_tasks: Give the tasks to the next logon session instead.
            reset_counter: Count tasks from 1 again, so that IDs come again for others;
                not with `keep_tasks`.
        """
        self._state.end_sessions(keep_tasks=keep_tasks)
        if not keep_tasks:
            self._state.forget_tasks(reset_counter=reset_counter)
        self._listener.drop()

    def drop_connections(self) -> None:
        """Cut every open connection."""
        self._listener.drop()

    def change_password(self, password: str, *, username: str | None = None) -> None:
        """Change the password of an account; open logon sessions stay open.

        Raises:
            KeyError: There is no such account.
        """
        name = self.username if username is None else username
        role = self._accounts[name].role
        self._accounts[name] = Account(password, role=role)
        if name == self.username:
            self.password = password

    def change_certificate(
        self, *, new_ca: bool = False, expires: datetime | None = None
    ) -> None:
        """Show another certificate on new connections, and cut the open ones.

        Args:
            new_ca: Issue it from another CA, whose file `ca_file` then names.
            expires: When it ends; a time in the past makes an expired one.

        Raises:
            RuntimeError: It does not speak TLS.
        """
        self._tls().change(new_ca=new_ca, expires=expires)
        self._listener.drop()

    def __repr__(self) -> str:
        where = self.url if self._address.port else "not started"
        state = "" if self._listener.is_running else ", not running"
        return (
            f"<{type(self).__name__} {where}{state}, version {self.version},"
            f" {len(self.tasks)} tasks, {len(self.logon_sessions)} logon sessions,"
            f" {self.requests.total} requests>"
        )

    def __del__(self) -> None:
        listener = getattr(self, "_listener", None)
        if listener is not None and listener.is_running:
            warnings.warn(
                f"{self!r} was left open: close it or use it in a with statement",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def _make_listener(self) -> Listener:
        service = Service(
            state=self._state,
            accounts=self._accounts,
            logons=self.logons,
            runner=self._runner,
        )
        make_server = partial(
            HttpServer,
            state=self._state,
            service=service,
            faults=self.faults,
            requests=self.requests,
            count=self._count,
        )
        return Listener(self._address, make_server)

    def _tls(self) -> Certificates:
        if self._certificates is None:
            problem = "this simulated server does not speak TLS: make it with tls=True"
            raise RuntimeError(problem)
        return self._certificates
