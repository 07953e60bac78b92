"""Frozen values and enums: what the Enterprise Manager says, free of any wire.

The field names follow the vendor's XML schema; the sources of each server fact
are the reference pages at https://helpcenter.veeam.com/docs/vbr/em_rest/.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Self

import attrs

from veeam_tasks._errors import TaskFailedError, VeeamTasksError
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


@attrs.frozen(kw_only=True)
class Task:
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

    def __repr__(self) -> str:
        parts = [self.task_id, self.raw_state]
        if self.operation:
            parts.append(self.operation)
        if self.result is not None:
            parts.append("success" if self.result.success else "failure")
            if self.result.message is not None:
                parts.append(quoted(self.result.message))
        return f"<Task {visible(' '.join(parts))}>"


class NoticeKind(StrEnum):
    """What a `Notice` is about."""

    LOGGED_ON = "logged_on"
    """The account was accepted."""
    RENEWED = "renewed"
    """The token was refused, and a new logon session was opened."""
    UNREACHABLE = "unreachable"
    """The server gives no good replies; it is asked rarely until it does."""
    RECOVERED = "recovered"
    """It gives good replies again."""
    LOGGED_OUT = "logged_out"
    """The server confirmed that the logon session has ended."""


@attrs.frozen(kw_only=True)
class Notice:
    """Something about the server or the logon session, said once.

    Attributes:
        kind: What it is about.
        at: When it was said; aware, UTC.
        detail: More of it in words: the URL, or why the server is unreachable.
        task_ids: The watched tasks at risk.
        error: Why the server is unreachable; None in every other notice.
    """

    kind: NoticeKind
    at: datetime
    detail: str
    task_ids: tuple[str, ...] = ()
    error: VeeamTasksError | None = None

    def __repr__(self) -> str:
        number = len(self.task_ids)
        risk = f"; {number} {'task' if number == 1 else 'tasks'} at risk" * bool(number)
        at = f"{self.at:%Y-%m-%d %H:%M:%S}"
        return f"<Notice {self.kind} at {at}: {visible(self.detail)}{risk}>"


@attrs.frozen(kw_only=True)
class Statistics:
    """What a manager has done since it was made; `in_flight` and `watched` are now.

    Attributes:
        logons: Logons that the server accepted, renewals included.
        renewals: Logons that replaced a refused token.
        requests: Requests sent, of every kind.
        polls: Requests about one watched task each, with or without a reply.
        coalesced: Watched tasks answered by a collection instead of a request each.
        retries: Requests sent again under a new token, and polls after a failure.
        errors: Polls, calls and logons that ended in an error instead of a usable
            reply.
        in_flight: Requests under way now.
        watched: Tasks watched now, each once however many watches want it.
        bytes_in: Bytes of reply bodies, after decompression.
        coalescing: How tasks are asked for now: ``"singly"`` or ``"together"``.
        coalescing_reason: Why, in words.
        last_request_at: When the last request was sent; aware, UTC. None without one.
        next_request_at: When the server will be asked next for what is watched: by a
            probe, as long as it is unreachable. None if that has no time yet.
    """

    logons: int = 0
    renewals: int = 0
    requests: int = 0
    polls: int = 0
    coalesced: int = 0
    retries: int = 0
    errors: int = 0
    in_flight: int = 0
    watched: int = 0
    bytes_in: int = 0
    coalescing: str = "singly"
    coalescing_reason: str = ""
    last_request_at: datetime | None = None
    next_request_at: datetime | None = None

    def added_to(self, past: "Statistics") -> "Statistics":
        """Return this with the counts of an earlier open time added."""
        return attrs.evolve(
            self,
            logons=past.logons + self.logons,
            renewals=past.renewals + self.renewals,
            requests=past.requests + self.requests,
            polls=past.polls + self.polls,
            coalesced=past.coalesced + self.coalesced,
            retries=past.retries + self.retries,
            errors=past.errors + self.errors,
            bytes_in=past.bytes_in + self.bytes_in,
        )


of_the_package(
    Link,
    Notice,
    NoticeKind,
    Statistics,
    Task,
    TaskResult,
    TaskState,
)
