"""Each task as the report tells it: what it is called, how it ended, and why."""

from datetime import datetime, timedelta

import attrs

import veeam_tasks as vt
from veeam_tasks.report._recorder import (
    Activity,
    Change,
    Lane,
    Outcome,
    outcome_of,
    shown_id,
)

NO_OPERATION = "unknown operation"
NO_REASON = "The server gave no reason."


@attrs.frozen
class Machine:
    """One machine of a job session that did not end with Success."""

    name: str
    result: str
    reason: str


@attrs.frozen(kw_only=True)
class Run:
    """One task, with the job session that it started, if that was followed.

    Attributes:
        anchor: Its name within the page.
        operation: The server's name for the work, or that it never said one.
        changes: Its activities, in order.
        name: Of the job, of the machine, or of the operation.
        kind: The operation and the job's type, where the name does not say it.
        reason: Why it did not succeed; what the server says of it if it did.
        advice: What to do, if the client knows.
        seen_at: When it was seen first.
        ended_at: When it was seen to have ended; None while it has not.
        ended_after: The end lies between this and `ended_at`; None if it was seen first
            when it had ended.
    """

    anchor: str
    operation: str
    changes: tuple[Change, ...]
    task_id: str
    name: str
    kind: str
    outcome: Outcome
    word: str
    reason: str
    advice: str
    machines: tuple[Machine, ...]
    seen_at: datetime
    ended_at: datetime | None
    ended_after: datetime | None

    @property
    def took(self) -> timedelta | None:
        """From first sight to the end; None unless both were seen."""
        if self.ended_at is None or self.ended_after is None:
            return None
        return self.ended_at - self.seen_at

    @property
    def late(self) -> timedelta | None:
        """How much later than it happened the end may have been seen."""
        if self.ended_at is None or self.ended_after is None:
            return None
        return self.ended_at - self.ended_after


def run_of(lane: Lane, at: int) -> Run:
    """Return a task as it is told; `at` is its place among all."""
    event = lane.latest
    session = event.session
    operation = _operation(event)
    title = None
    if session is not None:
        title = session.job_name or session.vm_name or session.name
    kind = operation if title else ""
    if session is not None and session.job_type:
        kind = ", ".join(filter(None, (kind, session.job_type)))
    # As it is now: a report may be made in a thread while the next event comes.
    changes = tuple(lane.changes)
    first, last = changes[0], changes[-1]
    return Run(
        anchor=f"t{at}",
        operation=operation or NO_OPERATION,
        changes=changes,
        task_id=shown_id(lane.server, event.task_id),
        name=title or operation or NO_OPERATION,
        kind=kind,
        outcome=outcome_of(event),
        word=_word(event),
        reason=_reason(event),
        advice=_advice(event),
        machines=tuple(map(_machine, event.failures)),
        seen_at=first.observed_at,
        ended_at=event.observed_at if event.is_final else None,
        ended_after=last.not_before if last.activity is Activity.ENDED else None,
    )


def _operation(event: vt.TaskEvent) -> str:
    return "" if event.task is None else event.task.operation


def _word(event: vt.TaskEvent) -> str:
    """Return where it stands, in the server's words."""
    if event.stage is vt.RunStage.SEARCHING and not event.is_final:
        return "its job session is searched for"
    session = event.session
    if session is not None and event.state is not vt.TaskState.LOST:
        progress = "" if session.progress is None else f" {session.progress} %"
        return session.raw_state + ("" if session.is_ended else progress)
    if event.state is vt.TaskState.UNKNOWN and event.task is not None:
        return event.task.raw_state
    return event.state.value


def _reason(event: vt.TaskEvent) -> str:
    error, session = event.error, event.session
    if error is not None:
        if isinstance(error, vt.TaskLostError):
            return _sentence(error.reason)
        if isinstance(error, vt.SessionLostError):
            return _sentence(_reason_of_lost(error))
        return _sentence(str(error))
    if session is None:
        return _reason_of_task(event)
    # What the task of a job says is that the job was started, which is no reason.
    is_told = not event.is_final or bool(event.failures) or _is_good(event)
    return session.failure_message or ("" if is_told else NO_REASON)


def _reason_of_lost(error: vt.SessionLostError) -> str:
    """Return what its message says, without the task, which stands beside it."""
    if error.last_seen is None:
        return f"its job session was never found: {error.reason}"
    word = error.last_seen.raw_state
    return f"its job session was last seen {word}: {error.reason}"


def _reason_of_task(event: vt.TaskEvent) -> str:
    result = None if event.task is None else event.task.result
    if result is not None and result.message:
        return result.message
    if not event.is_final or event.succeeded:
        return ""
    return "The server gave no result." if result is None else NO_REASON


def _is_good(event: vt.TaskEvent) -> bool:
    """Tell whether it ended without a word that would need a reason."""
    return bool(event.succeeded) and not event.has_warnings


def _advice(event: vt.TaskEvent) -> str:
    error = event.error
    return error.advice if isinstance(error, vt.TaskLostError) else ""


def _machine(failure: vt.TaskSession) -> Machine:
    return Machine(
        name=failure.vm_name or failure.vm_uid or "a machine without a name",
        result=failure.raw_result or failure.raw_state,
        reason=failure.reason or NO_REASON,
    )


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
