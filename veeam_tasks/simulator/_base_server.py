"""What both servers share: their options, their controls and their records."""

import difflib
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from random import Random
from typing import Any, Final, TypeVar, cast

from veeam_tasks.simulator._accounts import Account, LogonSession
from veeam_tasks.simulator._action_runner import ActionRunner, JobLinks, RunningJob
from veeam_tasks.simulator._arguments import check
from veeam_tasks.simulator._backup_server import BackupServer, derived_guid
from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._faults import Faults
from veeam_tasks.simulator._http_server import (
    Address,
    ConnectionCount,
    HttpServer,
    Listener,
)
from veeam_tasks.simulator._job_sessions import SESSION_PATHS, JobSession
from veeam_tasks.simulator._jobs import Job, JobKind, JobResult, Machines, as_machines
from veeam_tasks.simulator._records import (
    Connections,
    LogonRecord,
    Records,
    RequestRecord,
)
from veeam_tasks.simulator._script import Mix, Script, as_script
from veeam_tasks.simulator._service import Service
from veeam_tasks.simulator._session_script import SessionScript, as_session_script
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tasks import Effect, Related, SimulatedTask, TaskContext
from veeam_tasks.simulator._tls import Certificates, GivenCertificate
from veeam_tasks.simulator._version import VersionName, version_named

_KEPT: Final = 50_000

InitT = TypeVar("InitT", bound=Callable[..., None])


def _names_nearest(init: InitT) -> InitT:
    """Let who misspells a keyword be told the nearest one: Python does so from 3.13."""
    if sys.version_info >= (3, 13):
        return init
    known = [*inspect.signature(init).parameters][1:]

    @functools.wraps(init)
    def checked(*args: Any, **keywords: Any) -> None:
        for name in keywords:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                text = f"unexpected keyword argument {name!r}{hint}"
                raise TypeError(text)
        init(*args, **keywords)

    return cast("InitT", checked)


class BaseServer:
    """A simulated Enterprise Manager, apart from the way in which it is started.

    Args:
        host: Where to listen.
        port: The port; 0 for any that is free.
        tls: Speak TLS with a certificate of a throw-away CA (extra ``simulator``).
        cert_file: Speak TLS with the certificate and the key in this file, in PEM.
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
        job_links: Whether the task of a started job links to its session:
            ``documented`` (agent jobs do, others do not), ``always``, ``never``, or
            ``late``, `link_delay` seconds after Finished. Retries and stops never do.
        link_delay: Seconds from Finished to a link that is ``late``.
        running_job: What becomes of a start while the job runs: ``refused`` (the task
            fails), ``ignored`` (it succeeds, no job session begins), or ``started``.
        session_delay: Seconds from the beginning of a job session until the Enterprise
            Manager knows it: in collections, in queries, by its ID.
        collect_interval: Seconds between two collections of data, which freeze what is
            shown of job sessions; None shows them as they are.
        collect_seconds: How long a collection takes.
        clock_skew: Seconds that the backup server's clock, which job sessions have
            their times from, is ahead of the Enterprise Manager's, which ``Date`` has.
        date_header: Whether replies have a ``Date`` header.
        history: How many days each of the first jobs has run already; see `add_job`.
        unknown_session: The status for a job session that is not known: 404 or 500.
        task_location: Whether the reply to an action has a ``Location`` header.
        failure_messages: Whether ``FailureMessage`` of a job session says why it
            failed; it is null in every capture.
        link_base: The server's own idea of its URL for links, such as
            ``https://em01:9398``; None for the URL where it is.
        any_id: Whether jobs and job sessions that do not exist may be acted on.
        keep_requests: How many records of requests to keep, the newest ones.
        access_log: Whether each request is a line of the logger
            ``veeam_tasks.simulator``: method, path, status, and the number of the logon
            session; never a secret.

    Attributes:
        username: The account that may do everything.
        password: Its password.
        faults: The rules of what goes wrong.
        requests: The requests that came, as `RequestRecord`.
        logons: The attempts to log on, as `LogonRecord`.
    """

    def __init_subclass__(cls) -> None:
        """Let ``help()`` of each server explain every keyword."""
        super().__init_subclass__()
        if cls.__doc__ and BaseServer.__doc__:
            # 3.13 takes the indent away by itself, the versions before it do not.
            keywords = inspect.cleandoc(BaseServer.__doc__).partition("\nArgs:")[2]
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__)}\n\nArgs:{keywords}"

    @_names_nearest
    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        cert_file: str | None = None,
        version: VersionName = "12",
        username: str = "admin",
        password: str = "admin-secret",  # noqa: S107 - of a server that holds nothing
        accounts: Mapping[str, str | Account] | None = None,
        idle_expiry: float = 900.0,
        session_scoped: bool = True,
        per_session_counter: bool = False,
        speed: float = 1.0,
        seed: int | None = None,
        related_delay: float = 0.0,
        job_links: JobLinks = "documented",
        link_delay: float = 10.0,
        running_job: RunningJob = "started",
        session_delay: float = 0.0,
        collect_interval: float | None = None,
        collect_seconds: float = 18.0,
        clock_skew: float = 0.0,
        date_header: bool = True,
        history: int = 0,
        unknown_session: int = 404,
        task_location: bool = False,
        failure_messages: bool = False,
        link_base: str | None = None,
        any_id: bool = False,
        keep_requests: int = _KEPT,
        access_log: bool = False,
    ) -> None:
        check(locals())
        self.username = username
        self.password = password
        self.faults = Faults()
        self.requests: Records[RequestRecord] = Records(keep_requests)
        self.logons: Records[LogonRecord] = Records(keep_requests)
        self._random = Random(seed)  # noqa: S311 - a server that holds no secrets
        self._clock = Clock(speed)
        self._accounts = _accounts({username: password}, accounts or {})
        self._certificates = _certificates(host, cert_file, has_tls=tls)
        scheme = "http" if self._certificates is None else "https"
        self._address = Address(host=host, port=port, scheme=scheme, believed=link_base)
        context = self._context(version, related_delay)
        self._state = ServerState(
            context=context,
            server=BackupServer(
                clock=self._clock,
                version=context.version,
                server_id=derived_guid("backup server"),
                skew=clock_skew,
                session_delay=session_delay,
                collect_interval=collect_interval,
                collect_seconds=collect_seconds,
                failure_messages=failure_messages,
            ),
            random=self._random,
            idle_expiry=idle_expiry,
            session_scoped=session_scoped,
            per_session_counter=per_session_counter,
            history=history,
        )
        self._runner = ActionRunner(
            self._state,
            any_id=any_id,
            job_links=job_links,
            link_delay=link_delay,
            running_job=running_job,
        )
        self._count = ConnectionCount()
        service = Service(
            state=self._state,
            accounts=self._accounts,
            logons=self.logons,
            runner=self._runner,
            unknown_session=unknown_session,
            task_location=task_location,
        )
        maker = self._maker(service, date_header=date_header, access_log=access_log)
        self._listener = Listener(self._address, maker)

    def _context(self, version: VersionName, related_delay: float) -> TaskContext:
        """Return what all tasks share."""
        return TaskContext(
            clock=self._clock,
            version=version_named(version),
            base=self._address.base,
            related_delay=related_delay,
        )

    def _maker(
        self, service: Service, *, date_header: bool, access_log: bool
    ) -> Callable[[], HttpServer]:
        """Return what makes the server; it holds parts of this one and not itself.

        Otherwise a server left open would not be dropped, and warn, at once.
        """
        return functools.partial(
            HttpServer,
            state=self._state,
            service=service,
            faults=self.faults,
            requests=self.requests,
            count=self._count,
            date_header=date_header,
            access_log=access_log,
        )

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
        job: Job | None = None,
        session: str | SessionScript | None = None,
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
            related: What it leads to: ``BackupJobSession``, ``ReplicaJobSession``,
                ``RestoreSession`` or ``CloudFailoverSession``, which starts such a
                job session when the task succeeds, or a `Related`.
            job: A job of which it starts a job session when it succeeds, with a link.
            session: What that job session goes through (see `SessionScript.parse`).
            owner: The logon session that it belongs to.
            shared: Whether every logon session knows it.

        Raises:
            ValueError: A script cannot be read, or `related` is not known.
        """
        effect: Effect | None = None
        played = None if session is None else as_session_script(session)
        if isinstance(related, str):
            if related not in SESSION_PATHS:
                known = ", ".join(SESSION_PATHS)
                problem = f"a task leads to one of {known}, not {related!r}"
                raise ValueError(problem)
            effect = self._runner.session_effect(related, operation, played)
            related = None
        elif job is not None:
            link = Related(type=None, path="")
            effect = self._runner.job_effect(job, link=link, script=played)
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
            effect=effect,
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
        """The jobs; six are there from the beginning, one of agents, one of NAS."""
        self._state.settle()
        return list(self._state.jobs.values())

    def add_job(
        self,
        name: str,
        *,
        kind: JobKind = "Backup",
        seconds: float = 30.0,
        result: JobResult = "Success",
        session: str | SessionScript | None = None,
        machines: Machines = ("srv01", "srv02"),
        history: int = 0,
    ) -> Job:
        """Add a job.

        Args:
            name: Its name.
            kind: ``Backup``, ``BackupCopy``, ``ImmediateBackupCopy``, ``Replica``,
                ``AgentBackup`` or ``NasBackup``.
            seconds: How long its sessions work.
            result: How they end.
            session: What they go through instead (see `SessionScript.parse`).
            machines: The machines that it works on: names, or names with the scripts
                of their task sessions.
            history: How many days it has run already, once a day: each fifth run
                failed and was retried ten minutes later, and so did the last one of a
                job that fails, without a retry.

        Raises:
            ValueError: A script cannot be read, or there is no such kind or result.
        """
        job = Job(
            job_id=self._state.new_guid(),
            name=name,
            kind=kind,
            seconds=seconds,
            result=result,
            session=session,
            machines=as_machines(machines),
        )
        return self._state.add_job(job, history=history)

    def add_session(
        self,
        job: Job,
        session: str | SessionScript | None = None,
        *,
        started: float = 0.0,
        appears: float | None = None,
        is_retry: bool = False,
        job_type: str | None = None,
    ) -> JobSession:
        """Add a run of a job that no task started: an earlier one, or a scheduled one.

        Args:
            job: The job.
            session: What it goes through, from `started` on; None for what the job
                plays.
            started: When it began, in seconds from now; below 0 in the past.
            appears: When the Enterprise Manager gets to know it, in seconds from now:
                an old run may appear late. None for `session_delay` after `started`.
            is_retry: Whether it is the retry of a failed run.
            job_type: Its JobType, where it is another than the job's kind:
                ``ImmediateBackupCopyWorker`` of a worker, which has a JobUid and a name
                of its own, or ``AgentManagement`` of a child of an agent's run. Neither
                is a run of the job.

        Raises:
            ValueError: The script cannot be read.
        """
        now = self._clock.now()
        return self._state.start_job(
            job,
            now + started,
            is_retry=is_retry,
            script=None if session is None else as_session_script(session),
            appears=None if appears is None else now + appears,
            job_type=job_type,
        )

    @property
    def job_sessions(self) -> list[JobSession]:
        """Those of jobs, restores and failovers, in the order they were made."""
        self._state.settle()
        return list(self._state.job_sessions.values())

    def forget_session(self, session: JobSession) -> None:
        """Forget a job session wholly, so that a long run holds no more."""
        self._state.job_sessions.pop(session.session_id, None)

    @property
    def backup_server(self) -> BackupServer:
        """The backup server that jobs run on."""
        return self._state.server

    def expire_logon_sessions(self, *, keep_tasks: bool = False) -> int:
        """End all logon sessions, as if they had been idle for too long.

        Args:
            keep_tasks: Give their tasks to the next logon session.

        Returns:
            How many were open.
        """
        return self._state.end_sessions(keep_tasks=keep_tasks)

    def restart(self, *, keep_tasks: bool = False, reset_counter: bool = True) -> None:
        """Restart the service at once: connections cut, tokens expired, state empty.

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

    def _tls(self) -> Certificates | GivenCertificate:
        if self._certificates is None:
            problem = "this simulated server does not speak TLS: make it with tls=True"
            raise RuntimeError(problem)
        return self._certificates


def _accounts(
    first: Mapping[str, str], more: Mapping[str, str | Account]
) -> dict[str, Account]:
    return {
        name: given if isinstance(given, Account) else Account(given)
        for name, given in {**first, **more}.items()
    }


def _certificates(
    host: str, cert_file: str | None, *, has_tls: bool
) -> Certificates | GivenCertificate | None:
    if cert_file is not None:
        return GivenCertificate(cert_file)
    return Certificates(host) if has_tls else None
