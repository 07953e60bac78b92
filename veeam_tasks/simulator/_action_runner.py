"""Actions become tasks: with an operation, a script and what they lead to."""

from typing import Final

from veeam_tasks.simulator._accounts import LogonSession
from veeam_tasks.simulator._actions import Action
from veeam_tasks.simulator._jobs import Job
from veeam_tasks.simulator._messages import Refusal
from veeam_tasks.simulator._script import Script
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tasks import Related, SimulatedTask

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
_TRIGGERED: Final = {
    "start": "start",
    "sync": "start",
    "retry": "retry",
    "stop": "stop",
}


class ActionRunner:
    """Starts what an action asks for.

    Args:
        state: The server's state.
        any_id: Whether a job or session that does not exist may be acted on.
    """

    def __init__(self, state: ServerState, *, any_id: bool) -> None:
        self._state = state
        self._any_id = any_id
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
        self, action: Action, path: str, ids: tuple[str, ...], owner: LogonSession
    ) -> SimulatedTask:
        """Start an action.

        Raises:
            Refusal: 404; there is no such job or session.
        """
        job = self._job(action, ids)
        message = _MESSAGES.get(action.operation)
        word = action.action or action.path.rpartition("/")[2]
        if action.path.lower().startswith("backupsessions/"):
            message = self._stop_session(ids[0])
        elif job is not None and word in _TRIGGERED:
            message = f'Job "{job.name}" triggered to {_TRIGGERED[word]}.'
        related = self._related(action, path, job)
        if job is not None:
            self._change(action, word, job)
        return self._state.add_task(
            operation=action.operation,
            script=self.script_of(action.operation),
            message=message,
            related=related,
            owner=owner,
        )

    def related_session(self, kind: str, *, is_early: bool = False) -> Related:
        """Start a session of that type and return what leads to it."""
        name = "FLR_[srv04]" if kind == "RestoreSession" else "Quick Backup"
        session = self._state.start_session(kind, name)
        return Related(
            type=kind, path=f"{session.path}?format=Entity", is_early=is_early
        )

    def _job(self, action: Action, ids: tuple[str, ...]) -> Job | None:
        family = action.path.lower()
        if not family.startswith(("jobs/", "agents/jobs/", "nas/jobs/")):
            return None
        job_id = ids[0].lower()
        job = self._state.jobs.get(job_id)
        if job is not None:
            return job
        # Only the jobs of /jobs are listed; those of agents and file shares are not.
        if family.startswith("jobs/") and not self._any_id:
            raise Refusal(_NOT_FOUND, f"There is no job with id [{ids[0]}].")
        return Job(job_id=job_id, name=f"Job {job_id[:8]}")

    def _related(
        self, action: Action, path: str, job: Job | None
    ) -> tuple[Related, ...]:
        text = action.related
        if text is None:
            return ()
        if text.startswith("session:"):
            kind = text.removeprefix("session:")
            if job is None:
                # The vendor's sample of this action has the link while it is Running.
                is_early = action.path.startswith("vAppReplicaPoints")
                return (self.related_session(kind, is_early=is_early),)
            is_retry = action.action == "retry"
            session = self._state.start_job(job, is_retry=is_retry)
            link = f"{session.path}?format=Entity"
            return (Related(type=session.type, path=link, name=session.name),)
        kind, _, target = text.partition("=")
        target = target.replace("{path}", path)
        if "{new}" in target:
            target = target.replace("{new}", self._new(action, job))
        if kind == "Download":
            return (Related(type=None, path=target, rel="Download"),)
        rel, colon, of = kind.partition(":")
        if colon:
            return (Related(type=of, path=target, rel=rel),)
        return (Related(type=kind, path=target, name=""),)

    def _new(self, action: Action, job: Job | None) -> str:
        if action.operation == "CloneJob" and job is not None:
            name = f"{job.name}_clone"
            return self._state.add_job(name, job.kind, job.seconds, job.result).job_id
        return self._state.new_guid()

    def _change(self, action: Action, word: str, job: Job) -> None:
        if action.operation == "DeleteJob":
            self._state.jobs.pop(job.job_id, None)
        elif word == "toggleScheduleEnabled":
            job.schedule_enabled = not job.schedule_enabled
        elif word == "stop":
            for session in tuple(self._state.job_sessions.values()):
                if session.job is not None and session.job.job_id == job.job_id:
                    session.stop()

    def _stop_session(self, session_id: str) -> str:
        session = self._state.job_sessions.get(session_id.lower())
        if session is None or session.type != "BackupJobSession":
            if not self._any_id:
                raise Refusal(
                    _NOT_FOUND, f"There is no backup session with id [{session_id}]."
                )
            return f'Job Session "{session_id}" triggered to stop.'
        session.stop()
        return f'Job Session "{session.name}" triggered to stop.'
