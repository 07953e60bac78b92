"""What the server holds in memory: logon sessions, tasks, jobs and job sessions."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, TypeVar

from veeam_tasks.simulator._accounts import LogonSession, Role
from veeam_tasks.simulator._backup_server import BackupServer
from veeam_tasks.simulator._faults import FaultKind
from veeam_tasks.simulator._job_sessions import RESTORE, JobSession
from veeam_tasks.simulator._jobs import Job, JobKind, as_machines
from veeam_tasks.simulator._script import Script
from veeam_tasks.simulator._session_script import SessionScript, usual_script
from veeam_tasks.simulator._tasks import Effect, Related, SimulatedTask, TaskContext

# The names and IDs of jobs that the vendor's pages use.
_JOBS: Final[tuple[tuple[str, str, JobKind], ...]] = (
    ("b04c217b-0538-4650-bec4-19deff4ea1ac", "SQL Replication", "Replica"),
    ("78c3919c-54d7-43fe-b047-485d3566f11f", "Oracle Backup", "Backup"),
    ("4856ab37-2235-45e8-affe-d515878b01a9", "Fileserver Backup", "Backup"),
    ("5658281f-625e-4627-89dd-d2a0c48be99e", "DB Backup", "Backup"),
    ("92346ee0-5191-4556-a9c6-ed1a38cdc71b", "Agent Backup Job 1", "AgentBackup"),
    ("93dfbb3e-f420-45cf-addc-4ee9297113f2", "Shared Files Backup", "NasBackup"),
)
_USUAL_SECONDS: Final = 30.0
_DAY: Final = 86_400.0
_PAST_SECONDS: Final = 300.0
_RETRY_AFTER: Final = 600.0
_EACH_FAILED: Final = 5


Shuffled = TypeVar("Shuffled")


class ServerState:
    """What the server knows. All methods are synchronous.

    Args:
        context: What the tasks share.
        server: The backup server that jobs run on.
        random: Where IDs come from.
        idle_expiry: Seconds without a request after which a logon session ends.
        session_scoped: Whether a logon session knows only its own tasks.
        per_session_counter: Whether each logon session counts its tasks from 1.
        history: How many days each job has run already.
    """

    def __init__(
        self,
        *,
        context: TaskContext,
        server: BackupServer,
        random: Random,
        idle_expiry: float,
        session_scoped: bool,
        per_session_counter: bool,
        history: int,
    ) -> None:
        self.context = context
        self.idle_expiry = idle_expiry
        self.session_scoped = session_scoped
        self.per_session_counter = per_session_counter
        self.jobs: dict[str, Job] = {}
        self.job_sessions: dict[str, JobSession] = {}
        self.server = server
        self._random = random
        self._unsettled: list[SimulatedTask] = []
        self._settling = threading.Lock()
        self._last_number = 0
        self._opened = 0
        self.alteration: FaultKind | None = None
        self._by_token: dict[str, LogonSession] = {}
        self._shared: dict[str, SimulatedTask] = {}
        self._waiting: dict[str, SimulatedTask] = {}
        self._latest: dict[str, SimulatedTask] = {}
        for job_id, name, kind in _JOBS:
            self.add_job(Job(job_id=job_id, name=name, kind=kind), history=history)

    def new_guid(self) -> str:
        """Return a fresh GUID."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def open_session(self, username: str, role: Role) -> LogonSession:
        """Open a logon session; tasks that wait for one become its own."""
        now = self.context.clock.now()
        session = LogonSession.open(self.new_guid(), username, role, now)
        self._opened += 1
        session.number = self._opened
        self._by_token[session.token] = session
        if self._waiting:
            session.tasks.update(self._waiting)
            numbers = (int(task_id.split("-")[1]) for task_id in self._waiting)
            session.last_number = max(numbers)
            self._waiting.clear()
        return session

    def use_session(self, token: str) -> LogonSession | None:
        """Return the logon session of a token and start its idle time anew."""
        session = self._by_token.get(token)
        if session is None:
            return None
        now = self.context.clock.now()
        if now - session.last_used >= self.idle_expiry:
            del self._by_token[token]
            return None
        session.last_used = now
        return session

    def name_of(self, token: str | None) -> str:
        """Return what may be shown of the logon session of a token."""
        session = self._by_token.get(token or "")
        return "no logon session" if session is None else f"logon {session.number}"

    def open_sessions(self) -> list[LogonSession]:
        """Return those that are open now, oldest first."""
        idle_since = self.context.clock.now() - self.idle_expiry
        return [
            session
            for session in tuple(self._by_token.values())
            if session.last_used > idle_since
        ]

    def close_session(self, session_id: str) -> bool:
        """End one by its session ID; tell whether there was one."""
        for session in self.open_sessions():
            if session.session_id == session_id.lower():
                del self._by_token[session.token]
                return True
        return False

    def end_sessions(self, *, keep_tasks: bool) -> int:
        """End all; kept tasks wait for the next logon. Return how many ended."""
        ended = self.open_sessions()
        self._by_token.clear()
        for session in ended if keep_tasks else ():
            self._waiting.update(session.tasks)
        return len(ended)

    def forget_tasks(self, *, reset_counter: bool) -> None:
        """Forget every task, as a service does that was restarted."""
        self._shared.clear()
        self._waiting.clear()
        self._latest.clear()
        for session in tuple(self._by_token.values()):
            session.tasks.clear()
        if reset_counter:
            self._last_number = 0

    def add_task(
        self,
        *,
        operation: str,
        script: Script,
        message: str | None = None,
        related: tuple[Related, ...] = (),
        owner: LogonSession | None = None,
        shared: bool = False,
        effect: Effect | None = None,
    ) -> SimulatedTask:
        """Add one to its owner: by default the newest open logon session.

        Without any open one it waits for the next. `shared` ones all may read.
        """
        everyone = shared or not self.session_scoped
        if owner is None and not everyone:
            owner = next(reversed(self.open_sessions()), None)
        task = SimulatedTask(
            task_id=f"task-{self._next_number(None if everyone else owner)}",
            operation=operation,
            script=script,
            context=self.context,
            message=message,
            related=related,
            effect=effect,
        )
        if effect is not None:
            with self._settling:
                self._unsettled.append(task)
        home = self._shared if everyone else self._waiting
        if owner is not None and not everyone:
            home = owner.tasks
        home[task.task_id] = self._latest[task.task_id] = task
        return task

    def find(self, session: LogonSession, task_id: str) -> SimulatedTask | None:
        """Return what this logon session knows under that ID, or None."""
        task = session.tasks.get(task_id) or self._shared.get(task_id)
        if task is None or task.is_gone:
            return None
        if self.alteration is not None:
            return self._altered_task(session, task, self.alteration)
        return task

    def visible(self, session: LogonSession) -> list[SimulatedTask]:
        """Return all that this logon session knows."""
        tasks = self._all(session)
        match self.alteration:
            case FaultKind.VANISH:
                return []
            case FaultKind.DUPLICATE:
                return [task for task in tasks for _ in range(2)]
            case FaultKind.SHUFFLE:
                return self.shuffled(tasks)
            case FaultKind.BACKWARDS:
                return [task.as_before() for task in tasks]
        return tasks

    @contextmanager
    def altered(self, kind: FaultKind) -> Iterator[None]:
        """Let the tasks look wrong while one request is answered."""
        self.alteration = kind
        try:
            yield
        finally:
            self.alteration = None

    def shuffled(self, found: list[Shuffled]) -> list[Shuffled]:
        """Return them in random order."""
        return self._random.sample(found, len(found))

    def _all(self, session: LogonSession) -> list[SimulatedTask]:
        tasks = (*tuple(session.tasks.values()), *tuple(self._shared.values()))
        return [task for task in tasks if not task.is_gone]

    def _altered_task(
        self, session: LogonSession, task: SimulatedTask, kind: FaultKind
    ) -> SimulatedTask | None:
        if kind is FaultKind.VANISH:
            return None
        if kind is FaultKind.BACKWARDS:
            return task.as_before()
        if kind is FaultKind.OTHER_TASK:
            others = [one for one in self._all(session) if one is not task]
            return self._random.choice(others or [task])
        return task

    def delete(self, session: LogonSession, task: SimulatedTask) -> None:
        """Let nobody know it any more."""
        task.is_deleted = True
        session.tasks.pop(task.task_id, None)
        self._shared.pop(task.task_id, None)

    def forget_task(self, task_id: str) -> None:
        """Forget a task wholly, also for `latest`.

        Raises:
            KeyError: There was none.
        """
        task = self.latest(task_id)
        for home in (
            self._waiting,
            self._shared,
            self._latest,
            *(session.tasks for session in tuple(self._by_token.values())),
        ):
            if home.get(task_id) is task:
                del home[task_id]

    def latest(self, task_id: str) -> SimulatedTask:
        """Return the newest task of that ID, whoever knows it.

        Raises:
            KeyError: There was none.
        """
        try:
            return self._latest[task_id]
        except KeyError:
            known = ", ".join([*self._latest][-3:]) or "none"
            problem = f"there was no task {task_id!r}; the newest are: {known}"
        raise KeyError(problem)

    def all_tasks(self) -> Iterator[SimulatedTask]:
        """Yield the newest task of every ID, oldest first."""
        return iter(tuple(self._latest.values()))

    def add_job(self, job: Job, *, history: int = 0) -> Job:
        """Add a job that has had so many runs already."""
        self.jobs[job.job_id] = job
        for number in range(history, 0, -1):
            self._add_past_day(job, number)
        return job

    def start_job(
        self,
        job: Job,
        moment: float,
        *,
        is_retry: bool = False,
        script: SessionScript | None = None,
        appears: float | None = None,
        job_type: str | None = None,
    ) -> JobSession:
        """Start a job session of a job at a moment, past ones included."""
        return self._keep(
            JobSession(
                session_id=self.new_guid(),
                type=job.session_type,
                server=self.server,
                about=job.name,
                script=script or job.next_script(),
                created=moment,
                appears=appears,
                job=job,
                job_type=job_type or job.kind,
                is_retry=is_retry,
                machines=job.machines,
            )
        )

    def start_session(
        self,
        kind: str,
        about: str,
        moment: float,
        *,
        job_type: str = "Backup",
        vm_name: str | None = None,
        script: SessionScript | None = None,
    ) -> JobSession:
        """Start a job session that belongs to no job."""
        machines = () if kind == RESTORE else as_machines(("srv01", "srv02"))
        return self._keep(
            JobSession(
                session_id=self.new_guid(),
                type=kind,
                server=self.server,
                about=about,
                script=script or usual_script(_USUAL_SECONDS, "Success"),
                created=moment,
                job_type=job_type,
                vm_name=vm_name,
                machines=machines,
            )
        )

    def sessions_of(self, job: Job) -> list[JobSession]:
        """Return the job sessions of a job, oldest first."""
        found = tuple(self.job_sessions.values())
        return [
            session
            for session in found
            if session.job is not None and session.job.job_id == job.job_id
        ]

    def settle(self) -> None:
        """Let happen what follows from tasks that have succeeded by now.

        Nothing ticks in this server: whoever looks at jobs or job sessions, a request
        or a test, settles first. What happened earlier comes first. A test may look
        from another thread than the one that answers requests, hence the lock.
        """
        if not self._unsettled:
            return
        with self._settling:
            due, waiting = [], []
            for task in self._unsettled:
                moment = task.succeeded_at()
                if moment is not None:
                    due.append((moment, task))
                elif not task.is_settled:
                    waiting.append(task)
            self._unsettled = waiting
            for moment, task in sorted(due, key=lambda one: one[0]):
                task.carry_out(moment)

    def _keep(self, session: JobSession) -> JobSession:
        self.job_sessions[session.session_id] = session
        return session

    def _add_past_day(self, job: Job, days_ago: int) -> None:
        """Add the run of one earlier day; each fifth failed and was retried.

        An automatic retry is a job session of its own, ten minutes after the failure.
        The last run of a job that fails failed already, and was left at that.
        """
        moment = self.context.clock.now() - days_ago * _DAY
        is_failing = days_ago == 1 and job.result == "Failed"
        has_failed = days_ago % _EACH_FAILED == 0 or is_failing
        result = "Failed" if has_failed else "Success"
        script = usual_script(_PAST_SECONDS, result)
        self.start_job(job, moment, script=script, appears=moment)
        if has_failed and not is_failing:
            again = moment + (_PAST_SECONDS + _RETRY_AFTER) / self.context.clock.speed
            script = usual_script(_PAST_SECONDS / 2, "Success")
            self.start_job(job, again, is_retry=True, script=script, appears=again)

    def _next_number(self, owner: LogonSession | None) -> int:
        if self.per_session_counter and owner is not None:
            owner.last_number += 1
            return owner.last_number
        self._last_number += 1
        return self._last_number
