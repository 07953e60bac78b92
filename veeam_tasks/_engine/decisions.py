"""What a classified reply means for one record; pure: times come in as values.

| kind           | what it does                                                      |
| -------------- | ----------------------------------------------------------------- |
| `TASK`         | the server is up; final if Finished with a result, or Finished    |
|                | without one after three more looks, or LOST if a renewal shows    |
|                | that it is another task; else polled on                           |
| `UNKNOWN`      | the server is up; LOST at the second with no `TASK` in between, a |
|                | pause later                                                       |
| `FORBIDDEN`    | the same                                                          |
| `UNAUTHORIZED` | asks whether the token expired: if so, it is renewed and the task |
|                | is asked for again at once; if not, LOST when it goes on for this |
|                | task alone for three rounds; `UNUSABLE` when it goes on for all   |
| `UNUSABLE`     | may be an outage; polled on, at last at the longest pause; LOST   |
|                | if that went on for this task alone for as long as `patience`     |

Which reply is of which kind stands in `_protocol/classification.py`.
"""

from datetime import UTC, datetime

import attrs

from veeam_tasks._engine.records import PolledRecord, PollTimes, TaskRecord
from veeam_tasks._errors import (
    ForbiddenError,
    ServerBusyError,
    StatusError,
    TaskLostError,
    VeeamTasksError,
)
from veeam_tasks._events import Observation
from veeam_tasks._model import Task, TaskState
from veeam_tasks._pace import LONGEST_PAUSE

RESULTLESS_REPLIES = 4
"""Finished without a Result is asked for three more times, then final."""

UNAUTHORIZED_ROUNDS = 3
"""Rounds, a pause apart, in which one task alone may answer 401 before it is lost."""

_DENIED = "this account may not read it"


@attrs.define(kw_only=True)
class Decision:
    """What follows from a reply: what was seen, if anything, and the next pause.

    Not frozen, for the same reason as `Reply` is not.
    """

    seen: Observation | None
    pause: float = 0.0


def on_task(
    record: TaskRecord, task: Task, times: PollTimes, renewed_at: datetime | None
) -> Decision:
    """Decide on a reply that describes the task."""
    before = record.task
    if (
        before is not None
        and times.generation > record.generation > 0
        and is_another(before, task)
    ):
        reason = (
            f"{_renewed(renewed_at)}, and the new one has another task under this ID"
            f" ({task.raw_state}, {task.operation}); the operation may well go on"
        )
        return Decision(seen=lost(record, times, _lost_error(record, reason)))
    asked_before = _asked_before(record, times)
    record.task, record.generation = task, times.generation
    record.sent, record.sent_wall = times.sent, times.sent_wall
    record.missing_replies = record.unauthorized_rounds = record.failures = 0
    record.trouble = ""
    is_final = False
    if task.state is TaskState.FINISHED:
        wait = 0.0 if task.result is not None else _count_look(record, times)
        is_final = (
            task.result is not None
            or record.finished_without_result >= RESULTLESS_REPLIES
        )
        if not is_final:
            return Decision(seen=None, pause=wait)
    else:
        record.finished_without_result = 0
    is_same = before is not None and before.raw_state == task.raw_state
    if is_same and not is_final and record.unchanged_hash is not None:
        # No newcomer, and no event: only something beside the state has changed.
        return Decision(seen=None, pause=record.grow())
    seen = Observation(
        task_id=record.task_id,
        task=task,
        state=task.state,
        is_final=is_final,
        observed_at=wall(times.now_wall),
        not_before=_wall_or_none(asked_before),
        generation=times.generation,
    )
    return Decision(seen=seen, pause=record.grow() if is_same else record.reset_pause())


def contradicts(record: TaskRecord, task: Task, times: PollTimes) -> bool:
    """Tell whether a collection shows a task otherwise than it can have become.

    A cache in between may show how the task was a while ago. So what is not on the way
    from Running to Finished takes the word of the task itself, and so does that it is
    another one after a renewal.
    """
    before = record.task
    if before is None:
        return False
    if before.raw_state != task.raw_state:
        way = (TaskState.RUNNING, TaskState.OPERATION_FINISHED, TaskState.FINISHED)
        if before.state not in way or task.state not in way:
            return True
        if way.index(task.state) < way.index(before.state):
            return True
    return times.generation > record.generation > 0 and is_another(before, task)


def count_unauthorized(record: PolledRecord, times: PollTimes) -> float:
    """Count a 401 for this task alone; return the pause until the next round."""
    early = (
        early_by(record, record.unauthorized_at, times)
        if record.unauthorized_rounds
        else 0.0
    )
    if early:
        return early
    record.unauthorized_rounds, record.unauthorized_at = (
        record.unauthorized_rounds + 1,
        times.now,
    )
    return record.reset_pause()


def _count_look(record: TaskRecord, times: PollTimes) -> float:
    """Count a look at Finished without a Result; return the pause until the next."""
    early = (
        early_by(record, record.looked_at, times)
        if record.finished_without_result
        else 0.0
    )
    if early:
        return early
    record.finished_without_result, record.looked_at = (
        record.finished_without_result + 1,
        times.now,
    )
    return record.reset_pause()


def early_by(record: PolledRecord, counted_at: float, times: PollTimes) -> float:
    """Return by how much this reply comes too early to count; 0.0 if it counts.

    A count of replies stands for a span of time: a new subscriber, a renewal or a
    probe may bring a poll forward, which must not use one of them up.
    """
    first = record.pace.first
    waited = times.sent - counted_at
    is_enough = waited >= first * (1 - record.pace.jitter) * 0.99
    return 0.0 if is_enough else first - waited


def on_missing(
    record: TaskRecord,
    error: VeeamTasksError,
    times: PollTimes,
    renewed_at: datetime | None,
    advice: str,
) -> Decision:
    """Decide on a reply that says that the task is unknown or denied.

    It takes two, at least one pause apart: a task may be slow to appear.
    """
    record.unchanged_hash, record.trouble = None, str(error)
    record.failures = record.unauthorized_rounds = 0
    first = record.reset_pause()
    if record.missing_replies == 0:
        record.missing_replies, record.missing_at = 1, times.now
        return Decision(seen=None, pause=first)
    early = early_by(record, record.missing_at, times)
    if early:
        return Decision(seen=None, pause=early)
    reason = str(error)
    if isinstance(error, ForbiddenError):
        reason = f"{_DENIED}: {reason}"
    if record.first_generation < times.generation and renewed_at is not None:
        reason = (
            f"{_renewed(renewed_at)}, and the new one does not show it: {reason}; the"
            " operation may well go on"
        )
        return Decision(
            seen=lost(record, times, _lost_error(record, reason, "", error, renewed_at))
        )
    if record.task is not None:
        advice = ""
    if advice and isinstance(error, StatusError):
        # It says the same at greater length.
        reason = reason.removesuffix(f". {error.advice}")
    return Decision(
        seen=lost(record, times, _lost_error(record, reason, advice, error))
    )


def on_failure(
    record: TaskRecord,
    error: VeeamTasksError,
    times: PollTimes,
    patience: float | None,
    reopened_at: float,
) -> Decision:
    """Decide on a reply, or none, that tells nothing about the task."""
    pause = count_failure(record, error, times, patience, reopened_at)
    if pause is None:
        return Decision(seen=lost(record, times, error))
    return Decision(seen=None, pause=pause)


def count_failure(
    record: PolledRecord,
    error: VeeamTasksError,
    times: PollTimes,
    patience: float | None,
    reopened_at: float,
) -> float | None:
    """Count a failure; return the pause until the next poll, None once it is lost."""
    record.unchanged_hash, record.trouble = None, str(error)
    if record.failures == 0:
        record.trouble_at = times.now
        pause = record.reset_pause()
    else:
        pause = record.grow()
    record.failures += 1
    asked = error.retry_after if isinstance(error, ServerBusyError) else None
    asked = min(asked or 0.0, LONGEST_PAUSE)
    pause = max(pause, asked)
    if patience is not None:
        until = max(record.trouble_at, reopened_at) + patience
        # Not before it has failed once more to a poll sent after that.
        if times.sent >= until:
            return None
        left = max(0.0, until - times.now)
        pause, asked = min(pause, left), min(asked, left)
    # Beside the pause, which jitter cuts and newcomers bring forward.
    record.not_before = times.now + asked
    return pause


def lost(record: TaskRecord, times: PollTimes, error: VeeamTasksError) -> Observation:
    """Return the observation that ends a task as LOST."""
    return Observation(
        task_id=record.task_id,
        task=record.task,
        state=TaskState.LOST,
        is_final=True,
        observed_at=wall(times.now_wall),
        not_before=_wall_or_none(_asked_before(record, times)),
        generation=record.generation or record.first_generation,
        error=error,
    )


def replaced(record: TaskRecord, renewed_at: datetime | None) -> TaskLostError:
    """Return why the task of a record is lost when a new one got its ID."""
    return _lost_error(
        record,
        f"{_renewed(renewed_at)}, and a task submitted since then got this ID; the"
        " operation of the old one may well go on",
    )


def denied_for_good(record: TaskRecord, error: VeeamTasksError) -> TaskLostError:
    """Return why a task is lost that alone goes on to answer 401."""
    return _lost_error(record, f"{_DENIED}: {error}", "", error)


def is_another(before: Task, task: Task) -> bool:
    """Tell whether a task under another logon session is not the one seen before."""
    backwards = (
        before.state in {TaskState.FINISHED, TaskState.OPERATION_FINISHED}
        and task.state is not TaskState.FINISHED
        and task.state is not before.state
    )
    leads, led = _paths(task), _paths(before)
    # What a task points to may become more, but it is never something else.
    is_elsewhere = bool(leads and led) and leads.isdisjoint(led)
    return backwards or is_elsewhere or before.operation != task.operation


def is_another_end(before: Task, task: Task) -> bool:
    """Tell whether a task that ended is another than the one found under its ID."""
    # A Result that comes late is no other task.
    has_same_end = not before.is_finished or before.result in {None, task.result}
    return not has_same_end or is_another(before, task)


def _paths(task: Task) -> set[str]:
    """Return where the Related links lead; host and port are the server's own idea."""
    hrefs = [link.href.partition("?")[0] for link in task.related]
    return {href.rpartition("/api/")[2].casefold() for href in hrefs}


def _lost_error(
    record: TaskRecord,
    reason: str,
    advice: str = "",
    last_error: VeeamTasksError | None = None,
    renewed_at: datetime | None = None,
) -> TaskLostError:
    return TaskLostError(
        task_id=record.task_id,
        last_seen=record.task,
        reason=reason,
        advice=advice,
        last_error=last_error,
        renewed_at=renewed_at,
    )


def _renewed(at: datetime | None) -> str:
    when = "" if at is None else f" at {at:%Y-%m-%d %H:%M:%S} UTC"
    return f"the logon session was renewed{when}"


def wall(seconds: float) -> datetime:
    """Return a time of the wall clock; aware, UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _wall_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else wall(seconds)


def _asked_before(record: TaskRecord, times: PollTimes) -> float | None:
    """Return when the poll before was sent, on the safe side of both clocks.

    The wall clock may have been set back since, and the monotonic one may have stood
    still while a laptop slept: the earlier answer of the two is right.
    """
    if record.task is None:
        return None
    by_span = times.now_wall - (times.now - record.sent)
    return min(by_span, record.sent_wall, times.now_wall)
