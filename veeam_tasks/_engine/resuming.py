"""What a watch goes on with, out of a checkpoint; pure.

A task belongs to the logon session that started it. Where the checkpoint was made under
another one the rules of a renewal hold: a task that the new one does not know is lost,
and one that it knows may be another's under the same ID.
"""

import zlib
from datetime import UTC, datetime, timedelta

import attrs

from veeam_tasks._engine.checkpoint_values import (
    EventMark,
    SessionMark,
    StartMark,
    TaskMark,
)
from veeam_tasks._engine.decisions import is_another
from veeam_tasks._engine.pending_event import PendingEvent, PendingRun, event_of
from veeam_tasks._engine.records import TaskRecord
from veeam_tasks._engine.run_records import Deadline, RunRecord
from veeam_tasks._errors import TaskLostError
from veeam_tasks._events import Observation, TaskEvent
from veeam_tasks._model import JobSession, RunStage, Task, TaskState
from veeam_tasks._pace import Pace
from veeam_tasks._protocol.sessions import guid_of
from veeam_tasks._session.session_search import SKEW, SessionSource, source_of
from veeam_tasks._session.submitted import KnownSessions, Submitted, started_job

_OTHER = "this is another logon session than that of the checkpoint"
_REPLACED = "a task submitted since then got this ID"
_GOES_ON = "the operation may well go on"
# Before all that this process submits, in the order of the starts.
_EARLIEST = -(10**15)
_ROUNDED = 0.001
"""By how much a time is another one once it was written, in seconds."""


@attrs.define(eq=False, kw_only=True)
class Resumed:
    """What a checkpoint told of one task.

    Attributes:
        mark: As it was written.
        under: The generation of the logon session that the task belongs to; 0 if that
            is not the one that there is now.
        task: As it was seen last; None if it never was.
        submitted: Where it came from, if that is known.
        is_found: Whether it was looked at since.
    """

    mark: TaskMark
    under: int
    task: Task | None
    submitted: Submitted | None
    is_found: bool = False

    def meet(self, seen: Observation, started_under: int) -> Observation:
        """Return what the first reply means after what was known.

        Args:
            seen: What the reply proved.
            started_under: Under which generation this process was given the ID by a
                submit; 0 if it was not.
        """
        self.is_found = True
        if self.mark.asked is not None:
            asked = datetime.fromtimestamp(self.mark.asked, UTC)
            seen = attrs.evolve(seen, not_before=min(asked, seen.observed_at))
        if seen.state is TaskState.LOST:
            return self._lost(seen, None)
        if seen.generation <= self.under:
            return seen
        reason = None
        if started_under > self.under:
            reason = _REPLACED
        elif self.task is None:
            reason = (
                "it has a task under this ID, but this one was never seen, so nobody"
                " can say whether that is it"
            )
        elif seen.task is not None and is_another(self.task, seen.task):
            reason = (
                "it has another task under this ID"
                f" ({seen.task.raw_state}, {seen.task.operation})"
            )
        return seen if reason is None else self._lost(seen, reason)

    def with_search(self, event: TaskEvent) -> TaskEvent:
        """Return an event as it is while only a link can tell of the job session."""
        run, submitted = self.mark.run, self.submitted
        has_start = submitted is not None and submitted.started is not None
        is_searched = run is not None and run.path is None and not event.is_final
        if event.stage is RunStage.SEARCHING and is_searched and not has_start:
            return attrs.evolve(event, is_by_link=True)
        return event

    def replaced(self, now_wall: float) -> Observation:
        """Return the end of a task whose ID a submit gave to another one."""
        self.is_found = True
        seen = Observation(
            task_id=self.mark.id,
            task=self.task,
            state=TaskState.LOST,
            is_final=True,
            observed_at=datetime.fromtimestamp(now_wall, UTC),
            not_before=None,
            generation=self.under,
        )
        return self._lost(seen, _REPLACED)

    def _lost(self, seen: Observation, reason: str | None) -> Observation:
        """Return the end of a task that is lost, because of this or of what it says."""
        error = seen.error
        if reason is None and isinstance(error, TaskLostError) and self.under == 0:
            reason = f"it does not show it: {error.reason}"
        task = self.task if reason is not None or seen.task is None else seen.task
        if reason is not None:
            error = TaskLostError(
                task_id=seen.task_id,
                last_seen=task,
                reason=f"{_OTHER}, and {reason}; {_GOES_ON}",
                last_error=getattr(error, "last_error", None),
            )
        elif isinstance(error, TaskLostError) and error.last_seen is None:
            error = TaskLostError(
                task_id=seen.task_id,
                last_seen=task,
                reason=error.reason,
                last_error=error.last_error,
                renewed_at=error.renewed_at,
            )
        return attrs.evolve(
            seen,
            task=task,
            state=TaskState.LOST,
            is_final=True,
            error=error,
            generation=self.under,
        )


def resumed(mark: TaskMark, under: int, own: Submitted | None = None) -> Resumed:
    """Return what a mark tells of a task.

    Args:
        mark: As it was written.
        under: The generation of the logon session that the task belongs to, or 0.
        own: What this process itself submitted under the ID last.
    """
    task = mark.task()
    submitted = None
    if mark.start is not None:
        known = task or _unseen(mark)
        submitted = _submitted(mark.start, known, under)
        if own is not None and _is_same_start(own, mark.start):
            # Its job session may be known here, and is not another start's.
            submitted = attrs.evolve(submitted, number=own.number)
    return Resumed(mark=mark, under=under, task=task, submitted=submitted)


def is_earlier(
    generation: int,
    entry: PendingEvent,
    told: Resumed | None,
    record: RunRecord | TaskRecord | None,
) -> bool:
    """Tell whether a task is of an earlier logon session than there is now.

    Of one that was not looked at since, the one there is now may have another task.
    """
    if entry.is_final:
        return entry.ended_under < generation
    if isinstance(record, RunRecord):
        return record.first_generation < generation
    if told is not None and not told.is_found:
        return told.under < generation
    return record is not None and (
        (record.generation or record.first_generation) < generation
    )


def pending_of(told: Resumed, *, is_run: bool) -> PendingEvent:
    """Return the entry of a task as it stood."""
    mark, under = told.mark, told.under
    entry = PendingRun() if is_run else PendingEvent()
    if mark.delivered is not None:
        entry.delivered = told.with_search(delivered_event(mark, under))
    if mark.owed is not None:
        owed = event_of(_seen(mark, mark.owed, under), entry.delivered)
        entry.owed = told.with_search(owed)
    if mark.next is not None and isinstance(entry, PendingRun):
        entry.put_off(_seen(mark, mark.next, under))
    if entry.is_final:
        entry.ended_under = under
    return entry


def delivered_event(mark: TaskMark, under: int) -> TaskEvent:
    """Return the event that was delivered last, as far as it was kept."""
    assert mark.delivered is not None
    event = event_of(_seen(mark, mark.delivered, under), None)
    return attrs.evolve(event, sequence=mark.sequence)


def session_mark_of(mark: TaskMark) -> SessionMark | None:
    """Return the job session as it was seen last."""
    if mark.run is not None and mark.run.session is not None:
        return mark.run.session
    return None if mark.latest is None else mark.latest.session


def run_of(
    told: Resumed, pace: Pace, *, now: float, now_wall: float, find_timeout: float
) -> tuple[RunRecord, Deadline] | None:
    """Return the run that was searched or followed, and how long it may be searched.

    None if there was none, or if it has ended.
    """
    mark, latest = told.mark, told.mark.latest
    if mark.run is None or latest is None or latest.final or told.task is None:
        return None
    submitted, path = told.submitted, mark.run.path
    started = None if submitted is None else submitted.started
    source = source_of(told.task, started)
    if source is SessionSource.NOWHERE:
        source = SessionSource.LINK
    number = _EARLIEST - zlib.crc32((path or "").encode())
    last = session_mark_of(mark)
    record = RunRecord(
        pace=pace,
        task_id=mark.id,
        first_generation=told.under,
        number=number if submitted is None else submitted.number,
        task=told.task,
        started=started,
        source=source,
        has_task=told.under > 0,
        path=path,
        session_id=guid_of((path or "").partition("?")[0]),
        session=None if last is None else last.session(),
    )
    if mark.asked is not None:
        record.sent_wall = mark.asked
        record.sent = now - max(0.0, now_wall - mark.asked)
    if mark.run.session is not None and record.session is not None:
        record.latest = _unread(record, latest, record.session)
    left = max(0.0, mark.run.until - now_wall)
    return record, Deadline(now + min(left, find_timeout), find_timeout)


def _unread(
    record: RunRecord, told: EventMark, session: JobSession
) -> Observation | None:
    """Return what was seen of a job session, and no reader has taken."""
    if session.is_ended:
        return None  # without a Result yet: it is looked at again
    moment = datetime.fromtimestamp(record.sent_wall or told.at, UTC)
    return Observation(
        task_id=record.task_id,
        task=record.task,
        state=TaskState.FINISHED,
        is_final=False,
        observed_at=moment,
        not_before=None,
        generation=record.first_generation,
        stage=RunStage.SESSION,
        session=session,
    )


def _seen(mark: TaskMark, event: EventMark, under: int) -> Observation:
    return event.observation(mark.id, mark.operation or "", mark.links, under)


def _submitted(start: StartMark, task: Task, under: int) -> Submitted:
    at = datetime.fromtimestamp(start.at, UTC)
    under_way = None if start.under_way is None else start.under_way.session()
    ids = frozenset(start.known)
    known = KnownSessions(ids=ids, under_way=under_way, kind=start.kind)
    job = started_job(start.path, at, is_server_time=True, known=known)
    if job is not None:
        skew = SKEW if start.skew is None else timedelta(seconds=start.skew)
        job = attrs.evolve(job, skew=skew)
    return Submitted(
        path=start.path,
        at=at,
        generation=under,
        task=task,
        started=job,
        number=_EARLIEST + int(start.at * 1000),
    )


def _is_same_start(own: Submitted, start: StartMark) -> bool:
    is_then = abs(own.at.timestamp() - start.at) <= _ROUNDED
    return is_then and own.path == start.path


def _unseen(mark: TaskMark) -> Task:
    return Task(
        task_id=mark.id, state=TaskState.UNKNOWN, raw_state="Unknown", operation=""
    )
