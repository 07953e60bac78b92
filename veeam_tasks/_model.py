"""Frozen values and enums: what the Enterprise Manager says, free of any wire.

The field names follow the vendor's XML schema; the sources of each server fact
are the reference pages at https://helpcenter.veeam.com/docs/vbr/em_rest/.

Tasks belong to one logon session. Job sessions and task sessions (what a started job
is while it runs, and its machines) belong to the server: they outlive a renewal and a
restart of the Enterprise Manager. The pages ``backupSessions``, ``replicaSessions``,
``restoreSessions`` and ``cloud/failoverSessions`` tell of them.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Self

import attrs

from veeam_tasks._errors import SessionFailedError, TaskFailedError
from veeam_tasks._redaction import of_the_package, quoted, visible

TASK_ID = re.compile(r"task-[0-9]{1,32}", re.ASCII)
"""The form of every task ID ever seen: ``task-1``, ``task-297``."""


class TaskState(StrEnum):
    """Where a task stands. Only `FINISHED` and `LOST` end it.

    The first three are the server's words (``tasks_id`` reference page).
    """

    RUNNING = "Running"
    """In progress."""
    OPERATION_FINISHED = "OperationFinished"
    """Done on the backup server, but not collected by the Enterprise Manager: not
    finished yet."""
    FINISHED = "Finished"
    """Done, and the Enterprise Manager's database has the result."""
    UNKNOWN = "Unknown"
    """Any other word of the server, kept in `Task.raw_state`; polled on."""
    LOST = "Lost"
    """Said by the client only: it can no longer learn of the task."""

    @classmethod
    def from_word(cls, word: str) -> "TaskState":
        """Return the state for a word of the server; other words are `UNKNOWN`."""
        return _STATES.get(word, cls.UNKNOWN)


_STATES = {
    state.value: state
    for state in (
        TaskState.RUNNING,
        TaskState.OPERATION_FINISHED,
        TaskState.FINISHED,
    )
}


@attrs.frozen(kw_only=True)
class TaskResult:
    """How a task's operation went; proof of an end only in a Finished task.

    Attributes:
        success: Whether it went well.
        message: What the server says of it, or None if it says nothing.
    """

    success: bool
    message: str | None = None

    def __repr__(self) -> str:
        word = "success" if self.success else "failure"
        said = "" if self.message is None else f" {quoted(self.message)}"
        return f"<TaskResult {word}{said}>"


@attrs.frozen(kw_only=True)
class Link:
    """A link of a resource. Its host and port are the server's own idea of itself.

    Attributes:
        rel: How the other resource relates: ``Related``, ``Delete``, ``Up``.
        href: Its URL; `SessionManager.read` uses the path alone.
        type: Its type, such as ``BackupJobSession``, or None.
        name: Its name, or None.
    """

    rel: str
    href: str
    type: str | None = None
    name: str | None = None

    def __repr__(self) -> str:
        parts = [
            self.rel,
            self.type,
            self.name and quoted(self.name),
            quoted(self.href),
        ]
        return f"<Link {visible(' '.join(part for part in parts if part))}>"


@attrs.frozen
class Origin:
    """Whom a server gave a task: nothing of it is secret.

    Attributes:
        url: Where the manager reaches the server, ending in ``/api/``.
        logon: The reference of its logon session; None without one.
    """

    url: str
    logon: str | None


class _WithOrigin:
    """Where a task remembers whom it was given.

    Beside its fields, since it says nothing of the task itself: two tasks are equal,
    and are shown and written alike, whoever got them.
    """

    __slots__ = ("_origin",)

    _origin: Origin | None


@attrs.frozen(kw_only=True)
class Task(_WithOrigin):
    """One task as the server described it in one reply.

    A task carries no time, no progress and no owner: the schema has none (``tasks_id``
    reference page).

    Attributes:
        task_id: Its ID, such as ``task-7``; of one logon session only.
        state: Where it stands.
        raw_state: The server's own word for that.
        operation: The server's name for the work, such as ``StartJob``; empty if it did
            not say.
        result: How it went, as far as the server says; None without a Result.
        links: Its links in order: ``Delete`` for itself, ``Related`` to what it made.
        href: Its URL as the server has it, or None.
    """

    task_id: str
    state: TaskState
    raw_state: str
    operation: str
    result: TaskResult | None = None
    links: tuple[Link, ...] = ()
    href: str | None = None

    @property
    def is_finished(self) -> bool:
        """True for `TaskState.FINISHED` alone; OperationFinished is not finished."""
        return self.state is TaskState.FINISHED

    @property
    def succeeded(self) -> bool | None:
        """True or False once finished with a result, else None."""
        if self.state is not TaskState.FINISHED or self.result is None:
            return None
        return self.result.success

    @property
    def related(self) -> tuple[Link, ...]:
        """The links with ``Rel="Related"``: job and restore sessions, new objects."""
        return tuple(link for link in self.links if link.rel == "Related")

    def raise_for_failure(self) -> Self:
        """Return the task itself unless it finished without success.

        Raises:
            TaskFailedError: It is finished, and its result is a failure or absent.
        """
        if self.is_finished and not self.succeeded:
            raise TaskFailedError(task=self)
        return self

    def __getstate__(self) -> dict[str, object]:
        state = {name: getattr(self, name) for name in _TASK_FIELDS}
        return {**state, "_origin": origin_of(self)}

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        parts = [self.task_id, self.raw_state]
        if self.operation:
            parts.append(self.operation)
        if self.result is not None:
            parts.append("success" if self.result.success else "failure")
            if self.result.message is not None:
                parts.append(quoted(self.result.message))
        return f"<Task {visible(' '.join(parts))}>"


_TASK_FIELDS = tuple(field.name for field in attrs.fields(Task))


def origin_of(task: Task) -> Origin | None:
    """Return whom a task was given; None of one that was made by hand."""
    return getattr(task, "_origin", None)


def give(task: Task, origin: Origin) -> None:
    """Let a task that was just read remember whom it is given."""
    object.__setattr__(task, "_origin", origin)


class RunStage(StrEnum):
    """How far a run was followed: a run is a task with the job session it started."""

    TASK = "task"
    """The task is polled; in a plain watch this is the one stage."""
    SEARCHING = "searching"
    """The task is Finished with success, and its job session is not found yet."""
    SESSION = "session"
    """The job session is polled."""


class SessionState(StrEnum):
    """Where a job session stands. Only `STOPPED` ends it.

    The words are the server's (``backupsessions_id`` reference page).
    """

    STARTING = "Starting"
    """It begins."""
    WORKING = "Working"
    """It works; so it stays, whatever its progress and its result say."""
    PAUSING = "Pausing"
    """It is about to pause."""
    RESUMING = "Resuming"
    """It goes on after a pause."""
    STOPPING = "Stopping"
    """It comes to its end, or was stopped; it has not ended yet."""
    STOPPED = "Stopped"
    """It has ended, well or not: `JobSession.result` tells."""
    UNKNOWN = "Unknown"
    """Any other word of the server, kept in `JobSession.raw_state`; polled on."""

    @classmethod
    def from_word(cls, word: str) -> "SessionState":
        """Return the state for a word of the server; other words are `UNKNOWN`."""
        return _SESSION_STATES.get(word, cls.UNKNOWN)


_SESSION_STATES = {
    state.value: state for state in SessionState if state is not SessionState.UNKNOWN
}


class SessionResult(StrEnum):
    """How a job session or a task session went; no proof of its end.

    A task session of recorded servers is InProgress with the Result Success.
    """

    NONE = "None"
    """No result: the word ``None`` while it runs, or no such member."""
    SUCCESS = "Success"
    """It went well, if it has ended: while it runs it may stand there already."""
    WARNING = "Warning"
    """It went well, with remarks."""
    FAILED = "Failed"
    """It did not go well."""
    UNKNOWN = "Unknown"
    """Any other word of the server, kept in `raw_result`."""

    @classmethod
    def from_word(cls, word: str | None) -> "SessionResult":
        """Return the result for a word of the server; other words are `UNKNOWN`."""
        return cls.NONE if not word else _RESULTS.get(word, cls.UNKNOWN)


_RESULTS = {
    result.value: result
    for result in SessionResult
    if result is not SessionResult.UNKNOWN
}
_GOOD = (SessionResult.SUCCESS, SessionResult.WARNING)


def _succeeded(result: SessionResult) -> bool | None:
    """Return what the result of something that has ended says of its success."""
    if result in _GOOD:
        return True
    return False if result is SessionResult.FAILED else None


@attrs.frozen(kw_only=True)
class JobSession:
    """One run of a job, a restore or a failover, as one reply described it.

    Attributes:
        session_id: Its ID: a GUID, without the ``urn:veeam:`` around it.
        uid: Its UID, ``urn:veeam:BackupJobSession:7e9f...``, or None.
        kind: The name of its entity: ``BackupJobSession``, ``ReplicaJobSession``,
            ``RestoreSession``, ``CloudFailoverSession``.
        name: Its name, ``<job>@<time>`` as a rule; for people only.
        job_name: The job's, or the failover plan's, name; None for a restore.
        job_uid: The job's UID; its middle differs between pages, so compare GUIDs.
        job_type: ``Backup``, ``BackupCopy``, ``RestoreVm``, ...: an open set.
        vm_name: Of a restore: the machine.
        state: Where it stands.
        raw_state: The server's own word for that.
        result: How it went; no proof of an end.
        raw_result: The server's own word for that; None if it said none.
        progress: Percent, 0 to 100, or None. It may fall, and is no proof of an end.
        created_at: When it began by the backup server's clock; aware, UTC.
        ended_at: When it ended, as far as the server says; no proof of an end.
        is_retry: Whether the server started it because an earlier run failed.
        failure_message: What it says of a failure; null even for most that failed.
        links: Its links, in order.
        href: Its URL as the server has it, or None.
    """

    session_id: str
    uid: str | None = None
    kind: str
    name: str | None = None
    job_name: str | None = None
    job_uid: str | None = None
    job_type: str | None = None
    vm_name: str | None = None
    state: SessionState
    raw_state: str
    result: SessionResult = SessionResult.NONE
    raw_result: str | None = None
    progress: int | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    is_retry: bool | None = None
    failure_message: str | None = None
    links: tuple[Link, ...] = ()
    href: str | None = None

    @property
    def is_ended(self) -> bool:
        """True for Stopped alone: not for a result, 100 percent, or an end time."""
        return self.state is SessionState.STOPPED

    @property
    def succeeded(self) -> bool | None:
        """True once it ended with Success or Warning, False with Failed, else None."""
        return _succeeded(self.result) if self.is_ended else None

    @property
    def has_warnings(self) -> bool:
        """Whether it ended with Warning: it went well, with remarks."""
        return self.is_ended and self.result is SessionResult.WARNING

    def raise_for_failure(self) -> Self:
        """Return the job session itself unless it ended without success.

        Raises:
            SessionFailedError: It ended, and its result is neither Success nor Warning.
        """
        if self.is_ended and not self.succeeded:
            raise SessionFailedError(task=None, session=self, failures=())
        return self

    def __repr__(self) -> str:
        parts = [self.kind, self.session_id]
        title = self.job_name or self.vm_name or self.name
        if title:
            parts.append(quoted(title))
        parts.append(self.raw_state)
        if self.raw_result and self.result is not SessionResult.NONE:
            parts.append(self.raw_result)
        if self.progress is not None and not self.is_ended:
            parts.append(f"{self.progress} %")
        return f"<JobSession {visible(' '.join(parts))}>"


def share_links(session: JobSession, before: JobSession) -> None:
    """Let a job session that was just read hold the links of the same one before.

    They hardly ever change, and are most of what one consists of: else each change of
    the progress would give the garbage collector all of them to go through again.
    """
    if session.links == before.links:
        object.__setattr__(session, "links", before.links)


@attrs.frozen(kw_only=True)
class TaskSession:
    """What a job session did for one machine, or one share.

    Attributes:
        vm_name: The machine, or the share.
        vm_uid: Its UID; from version 10 on.
        raw_state: The server's word: Pending, InProgress, Completed; an open set.
        result: How it went; no proof of an end.
        raw_result: The server's own word for that; None if it said none.
        reason: The text of the failure, where the server gives one.
        created_at: When it began; aware, UTC.
        ended_at: When it ended, as far as the server says.
        size: Bytes, as the server counts them, or None.
    """

    vm_name: str | None = None
    vm_uid: str | None = None
    raw_state: str
    result: SessionResult = SessionResult.NONE
    raw_result: str | None = None
    reason: str | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    size: int | None = None

    @property
    def is_ended(self) -> bool:
        """True for Completed alone; InProgress may have the result Success."""
        return self.raw_state == "Completed"

    @property
    def succeeded(self) -> bool | None:
        """True once it ended with Success or Warning, False with Failed, else None."""
        return _succeeded(self.result) if self.is_ended else None

    def __repr__(self) -> str:
        parts = [self.vm_name or self.vm_uid or "?", self.raw_state]
        if self.raw_result and self.result is not SessionResult.NONE:
            parts.append(self.raw_result)
        if self.reason:
            parts.append(quoted(self.reason))
        return f"<TaskSession {visible(' '.join(parts))}>"


@attrs.frozen(kw_only=True)
class Run:
    """A task that finished with success, with the job session it started, at its end.

    Attributes:
        task: The finished task.
        session: The job session, which has ended; None where the action makes none.
        failures: Its machines that did not end with Success, with their reasons.
    """

    task: Task
    session: JobSession | None = None
    failures: tuple[TaskSession, ...] = ()

    @property
    def has_warnings(self) -> bool:
        """Whether the job session ended with Warning."""
        return self.session is not None and self.session.has_warnings

    def __repr__(self) -> str:
        parts = [self.task.task_id]
        if self.task.operation:
            parts.append(self.task.operation)
        session = self.session
        if session is None:
            parts.append("without a job session")
        else:
            parts.append(quoted(session.job_name or session.vm_name or session.name))
            parts.append(session.raw_result or "without a result")
        return f"<Run {visible(' '.join(parts))}>"


of_the_package(
    JobSession,
    Link,
    Run,
    RunStage,
    SessionResult,
    SessionState,
    Task,
    TaskResult,
    TaskSession,
    TaskState,
)
