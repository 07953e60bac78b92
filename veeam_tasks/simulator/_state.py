"""What the server holds in memory: logon sessions, tasks, jobs and job sessions."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

from veeam_tasks.simulator._accounts import LogonSession, Role
from veeam_tasks.simulator._faults import FaultKind
from veeam_tasks.simulator._jobs import Job, JobKind, JobResult, JobSession
from veeam_tasks.simulator._script import Script
from veeam_tasks.simulator._tasks import Related, SimulatedTask, TaskContext

# The names and IDs of jobs that the vendor's pages use.
_JOBS: Final[tuple[tuple[str, str, JobKind], ...]] = (
    ("b04c217b-0538-4650-bec4-19deff4ea1ac", "SQL Replication", "Replica"),
    ("78c3919c-54d7-43fe-b047-485d3566f11f", "Oracle Backup", "Backup"),
    ("4856ab37-2235-45e8-affe-d515878b01a9", "Fileserver Backup", "Backup"),
    ("5658281f-625e-4627-89dd-d2a0c48be99e", "DB Backup", "Backup"),
)


class ServerState:
    """What the server knows. All methods are synchronous.

    Args:
        context: What the tasks share.
        random: Where IDs come from.
        idle_expiry: Seconds without a request after which a logon session ends.
        session_scoped: Whether a logon session knows only its own tasks.
        per_session_counter: Whether each logon session counts its tasks from 1.
    """

    def __init__(
        self,
        *,
        context: TaskContext,
        random: Random,
        idle_expiry: float,
        session_scoped: bool,
        per_session_counter: bool,
    ) -> None:
        self.context = context
        self.idle_expiry = idle_expiry
        self.session_scoped = session_scoped
        self.per_session_counter = per_session_counter
        self.jobs: dict[str, Job] = {}
        self.job_sessions: dict[str, JobSession] = {}
        self._random = random
        self._last_number = 0
        self._alteration: FaultKind | None = None
        self._by_token: dict[str, LogonSession] = {}
        self._shared: dict[str, SimulatedTask] = {}
        self._waiting: dict[str, SimulatedTask] = {}
        self._latest: dict[str, SimulatedTask] = {}
        for job_id, name, kind in _JOBS:
            self.jobs[job_id] = Job(job_id=job_id, name=name, kind=kind)

    def new_guid(self) -> str:
        """Return a fresh GUID."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def open_session(self, username: str, role: Role) -> LogonSession:
        """Open a logon session; tasks that wait for one become its own."""
        now = self.context.clock.now()
        session = LogonSession.open(self.new_guid(), username, role, now)
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
        )
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
        if self._alteration is not None:
            return self._altered_task(session, task, self._alteration)
        return task

    def visible(self, session: LogonSession) -> list[SimulatedTask]:
        """Return all that this logon session knows."""
        tasks = self._all(session)
        match self._alteration:
            case FaultKind.VANISH:
                return []
            case FaultKind.DUPLICATE:
                return [task for task in tasks for _ in range(2)]
            case FaultKind.SHUFFLE:
                return self._random.sample(tasks, len(tasks))
            case FaultKind.BACKWARDS:
                return [task.as_before() for task in tasks]
        return tasks

    @contextmanager
    def altered(self, kind: FaultKind) -> Iterator[None]:
        """Let the tasks look wrong while one request is answered."""
        self._alteration = kind
        try:
            yield
        finally:
            self._alteration = None

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

    def add_job(
        self, name: str, kind: JobKind, seconds: float, result: JobResult
    ) -> Job:
        """Add a job."""
        job = Job(
            job_id=self.new_guid(), name=name, kind=kind, seconds=seconds, result=result
        )
        self.jobs[job.job_id] = job
        return job

    def start_job(self, job: Job, *, is_retry: bool = False) -> JobSession:
        """Start a session of a job, as the job says that it goes."""
        return self._keep(
            JobSession(
                session_id=self.new_guid(),
                type=job.session_type,
                clock=self.context.clock,
                name=job.name,
                seconds=job.seconds,
                result=job.result,
                job=job,
                is_retry=is_retry,
            )
        )

    def start_session(
        self, kind: str, name: str, seconds: float = 30.0, result: JobResult = "Success"
    ) -> JobSession:
        """Start a session that belongs to no job."""
        return self._keep(
            JobSession(
                session_id=self.new_guid(),
                type=kind,
                clock=self.context.clock,
                name=name,
                seconds=seconds,
                result=result,
            )
        )

    def _keep(self, session: JobSession) -> JobSession:
        self.job_sessions[session.session_id] = session
        return session

    def _next_number(self, owner: LogonSession | None) -> int:
        if self.per_session_counter and owner is not None:
            owner.last_number += 1
            return owner.last_number
        self._last_number += 1
        return self._last_number
