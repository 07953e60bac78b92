"""Actions become tasks: with an operation, a script and what they lead to.

What an action changes, and the job session that it starts, comes when its task succeeds
and not with the request: a start that fails makes no session.
"""

from collections.abc import Callable
from typing import Final, Literal

import attrs

from veeam_tasks.simulator._accounts import LogonSession
from veeam_tasks.simulator._actions import Action
from veeam_tasks.simulator._job_sessions import (
    BACKUP,
    CLOUD_FAILOVER,
    RESTORE,
    JobSession,
)
from veeam_tasks.simulator._jobs import Job
from veeam_tasks.simulator._messages import Body, Refusal
from veeam_tasks.simulator._script import FINISHED, RUNNING, Script, Step
from veeam_tasks.simulator._session_script import STOPPED, SessionScript
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tasks import Effect, Related, SimulatedTask

JobLinks = Literal["documented", "always", "never", "late"]
RunningJob = Literal["refused", "ignored", "started"]
JOB_LINKS: Final[tuple[JobLinks, ...]] = ("documented", "always", "never", "late")
RUNNING_JOB: Final[tuple[RunningJob, ...]] = ("refused", "ignored", "started")
_NOT_FOUND: Final = 404
DEFAULT_SCRIPT: Final = "Running 2s, OperationFinished 1s, Finished"
# What the vendor's samples show of these operations.
_SCRIPTS: Final = {
    "BrowseVM": "Finished",
    "StartRebuildScope": "Finished",
    "StartReplicaFailover": "Running 3s ok, Finished",
    "UndoFailoverPlan": "Running 2s, Finished",
}
_MESSAGES: Final = {
    "CollectingBackupServer": (
        "Data collection started. To view results, go to Sessions."
    ),
    "RestoreFile": "Restore operations started successfully.",
}
_STARTS: Final = frozenset({"start", "sync", "retry"})
_TRIGGERED: Final = {
    "start": "start",
    "sync": "start",
    "retry": "retry",
    "stop": "stop",
}
_JOB_PATHS: Final = ("jobs/", "agents/jobs/", "nas/jobs/")
_FILE_RESTORES: Final = frozenset({"RestoreFile", "FileRestoreFromMountPoint"})


class ActionRunner:
    """Starts what an action asks for.

    Args:
        state: What the server knows.
        any_id: Whether a job or job session that does not exist may be acted on.
        job_links: Whether the task of a started job links to its session.
        link_delay: Seconds from Finished to a link that is ``late``.
        running_job: What becomes of a start while the job runs.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        any_id: bool,
        job_links: JobLinks = "documented",
        link_delay: float = 10.0,
        running_job: RunningJob = "started",
    ) -> None:
        _check("job_links", job_links, JOB_LINKS)
        _check("running_job", running_job, RUNNING_JOB)
        self._state = state
        self._any_id = any_id
        self._job_links = job_links
        self._link_delay = link_delay
        self._running_job = running_job
        self._starting: list[tuple[str, SimulatedTask]] = []
        self._scripts: dict[str | None, Script] = {
            name: Script.parse(text) for name, text in _SCRIPTS.items()
        }
        self._scripts[None] = Script.parse(DEFAULT_SCRIPT)

    def set_script(self, operation: str | None, script: Script) -> None:
        """Let the tasks of an operation play a script; None is every other one."""
        if operation is None:
            self._scripts.clear()
        self._scripts[operation] = script

    def script_of(self, operation: str) -> Script:
        """Return what the tasks of an operation play."""
        return self._scripts.get(operation) or self._scripts[None]

    def start(
        self,
        action: Action,
        path: str,
        ids: tuple[str, ...],
        owner: LogonSession,
        body: Body | None = None,
    ) -> SimulatedTask:
        """Start an action.

        Raises:
            Refusal: 404; there is no such job or session.
        """
        job = self._job(action, ids)
        if job is not None and _word(action) in _STARTS:
            return self._start_job(action, job, owner)
        message = _MESSAGES.get(action.operation)
        related: tuple[Related, ...] = ()
        effect: Effect | None
        if action.path.lower().startswith("backupsessions/"):
            session = self._session(ids[0])
            about = ids[0] if session is None else session.name
            message = f'Job Session "{about}" triggered to stop.'
            effect = None if session is None else _stopping([session])
        elif job is not None:
            if _word(action) == "stop":
                message = f'Job "{job.name}" triggered to stop.'
            effect = self._change(action, job, body)
        elif action.operation == "CollectingBackupServer":
            effect = self._collect
        elif (action.related or "").startswith("session:"):
            effect = self._restore(action, ids)
            if action.path.startswith("vAppReplicaPoints"):
                # The vendor's sample of this action has the link while it is Running.
                links = effect(self._now())
                related = tuple(attrs.evolve(link, is_early=True) for link in links)
                effect = None
        else:
            related, effect = self._link(action, path), None
        return self._state.add_task(
            operation=action.operation,
            script=self.script_of(action.operation),
            message=message,
            related=related,
            owner=owner,
            effect=effect,
        )

    def session_effect(
        self, kind: str, operation: str, script: SessionScript | None = None
    ) -> Effect:
        """Return what starts a job session of that type, which belongs to no job."""
        is_file = operation in _FILE_RESTORES
        about = "Quick Backup"
        if kind == RESTORE:
            about = "FLR_[srv04]" if is_file else "srv04"
        elif kind == CLOUD_FAILOVER:
            about = "Failover Plan"
        return self._session_effect(kind, about, is_file=is_file, script=script)

    def job_effect(
        self,
        job: Job,
        *,
        is_retry: bool = False,
        link: Related | None = None,
        script: SessionScript | None = None,
    ) -> Effect:
        """Return what starts a job's job session, linked as `link` says, if it does."""

        def effect(moment: float) -> tuple[Related, ...]:
            session = self._state.start_job(
                job, moment, is_retry=is_retry, script=script
            )
            if link is None:
                return ()
            path = f"{link_path(session)}?format=Entity"
            return (
                Related(
                    type=session.type, path=path, name=session.name, delay=link.delay
                ),
            )

        return effect

    def _start_job(
        self, action: Action, job: Job, owner: LogonSession
    ) -> SimulatedTask:
        """Start a run of a job, as its link and its message go together.

        The vendor prints two variants of a started job: ``triggered to start`` without
        a link, and ``Ok`` with one. Nothing public says which comes when.
        """
        is_retry = _word(action) == "retry"
        script = self.script_of(action.operation)
        link = None if is_retry else self._link_of(job, action)
        message = f'Job "{job.name}" triggered to {_TRIGGERED[_word(action)]}.'
        effect: Effect | None = self.job_effect(job, is_retry=is_retry, link=link)
        if self._is_running(job) and self._running_job != "started":
            effect = None
            if self._running_job == "refused":
                script = _refused(f'Job "{job.name}" is already running.')
        task = self._state.add_task(
            operation=action.operation,
            script=script,
            message=message if link is None else None,
            owner=owner,
            effect=effect,
        )
        self._starting.append((job.job_id, task))
        return task

    def _link_of(self, job: Job, action: Action) -> Related | None:
        is_linked = self._job_links in {"always", "late"}
        if self._job_links == "documented":
            # A client in production takes it from agent jobs; of the others the pages
            # print both variants, and the one without a link in every edition.
            is_linked = job.kind == "AgentBackup" and _word(action) == "start"
        delay = self._link_delay if self._job_links == "late" else 0.0
        return Related(type=None, path="", delay=delay) if is_linked else None

    def _is_running(self, job: Job) -> bool:
        self._starting = [one for one in self._starting if not one[1].is_settled]
        if any(job_id == job.job_id for job_id, _ in self._starting):
            return True
        now = self._now()
        return any(
            session.created <= now and session.state != STOPPED
            for session in self._state.sessions_of(job)
        )

    def _job(self, action: Action, ids: tuple[str, ...]) -> Job | None:
        family = action.path.lower()
        if not family.startswith(_JOB_PATHS):
            return None
        job_id = ids[0].lower()
        job = self._state.jobs.get(job_id)
        if job is not None and family.startswith(job.path.rpartition("/")[0] + "/"):
            return job
        if not self._any_id:
            raise Refusal(_NOT_FOUND, f"There is no job with id [{ids[0]}].")
        made = Job(job_id=job_id, name=f"Job {job_id[:8]}")
        if family.startswith("agents"):
            made.kind = "AgentBackup"
        elif family.startswith("nas"):
            made.kind = "NasBackup"
        return made

    def _session(self, session_id: str) -> JobSession | None:
        session = self._state.job_sessions.get(session_id.lower())
        if session is not None and session.type == BACKUP and session.is_known:
            return session
        if self._any_id:
            return None
        problem = f"There is no backup session with id [{session_id}]."
        raise Refusal(_NOT_FOUND, problem)

    def _restore(self, action: Action, ids: tuple[str, ...]) -> Effect:
        kind = (action.related or "").removeprefix("session:")
        is_file = action.operation in _FILE_RESTORES
        name = ids[0] if "{vmname}" in action.path else "srv04"
        about = {"VeeamZip": "VeeamZIP"}.get(action.operation, "Quick Backup")
        if kind == RESTORE:
            about = f"FLR_[{name}]" if is_file else name
        elif kind == CLOUD_FAILOVER:
            about = f"Failover Plan {ids[0][:8]}"
        return self._session_effect(kind, about, is_file=is_file, vm_name=name)

    def _session_effect(
        self,
        kind: str,
        about: str,
        *,
        is_file: bool,
        vm_name: str = "srv04",
        script: SessionScript | None = None,
    ) -> Effect:
        words = {
            RESTORE: "FileLevelRestore" if is_file else "RestoreVm",
            CLOUD_FAILOVER: "FailoverPlan",
            "ReplicaJobSession": "Replica",
        }

        def effect(moment: float) -> tuple[Related, ...]:
            session = self._state.start_session(
                kind,
                about,
                moment,
                job_type=words.get(kind, "Backup"),
                vm_name=vm_name if kind == RESTORE else None,
                script=script,
            )
            # The samples name the link of a file restore, and that of a cloud failover.
            name = {CLOUD_FAILOVER: about}.get(kind)
            if is_file:
                name = "Restore job session"
            path = f"{session.path}?format=Entity"
            return (Related(type=kind, path=path, name=name),)

        return effect

    def _change(self, action: Action, job: Job, body: Body | None) -> Effect | None:
        word = _word(action)
        if action.operation == "CloneJob":
            return self._cloning(job, body)
        if action.operation == "DeleteJob":
            return _only(lambda: self._state.jobs.pop(job.job_id, None))
        if word == "toggleScheduleEnabled":
            return _only(job.toggle_schedule)
        if word == "stop":
            # The job sessions of the moment when it takes effect, not of the request's.
            def effect(moment: float) -> tuple[Related, ...]:
                return _stopping(self._state.sessions_of(job))(moment)

            return effect
        return None

    def _cloning(self, job: Job, body: Body | None) -> Effect:
        asked = None if body is None else body.texts.get("jobname")

        def effect(_: float) -> tuple[Related, ...]:
            clone = Job(
                job_id=self._state.new_guid(),
                name=asked or f"{job.name}_clone",
                kind=job.kind,
                seconds=job.seconds,
                result=job.result,
                session=job.session,
                machines=job.machines,
            )
            self._state.add_job(clone)
            return (Related(type="Job", path=f"{clone.path}?format=Entity", name=""),)

        return effect

    def _collect(self, moment: float) -> tuple[Related, ...]:
        self._state.server.collect(moment)
        return ()

    def _link(self, action: Action, path: str) -> tuple[Related, ...]:
        """Return the link to something that the server does not hold."""
        if action.related is None:
            return ()
        kind, _, target = action.related.partition("=")
        target = target.replace("{path}", path)
        if "{new}" in target:
            target = target.replace("{new}", self._state.new_guid())
        if kind == "Download":
            return (Related(type=None, path=target, rel="Download"),)
        rel, colon, of = kind.partition(":")
        if colon:
            return (Related(type=of, path=target, rel=rel),)
        return (Related(type=kind, path=target, name=""),)

    def _now(self) -> float:
        return self._state.context.clock.now()


def link_path(session: JobSession) -> str:
    """Return the path in the link of a task to a session.

    That of an agent's leads to a path which no page documents for a single job session,
    and which a client in production reads all the same.
    """
    if session.job is not None and session.job.kind == "AgentBackup":
        return f"agents/backupSessions/{session.session_id}"
    return session.path


def _word(action: Action) -> str:
    return action.action or action.path.rpartition("/")[2]


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        problem = f"{name} is one of {', '.join(map(repr, known))}, not {value!r}"
        raise ValueError(problem)


def _refused(message: str) -> Script:
    return Script((Step(RUNNING, 1.0), Step(FINISHED, success=False, message=message)))


def _stopping(sessions: list[JobSession]) -> Effect:
    def effect(moment: float) -> tuple[Related, ...]:
        for session in sessions:
            session.stop(moment)
        return ()

    return effect


def _only(change: Callable[[], object]) -> Effect:
    def effect(_: float) -> tuple[Related, ...]:
        change()
        return ()

    return effect
