"""What replies mean for one followed run; pure: times come in as values.

While its job session is searched:

| reply                               | what it does                                   |
| ----------------------------------- | ---------------------------------------------- |
| the job session of the task's link  | found                                          |
| 404, 500, nothing in place of it    | it is not there yet: the round is over         |
| the task, with a link by now        | the link is asked for                          |
| job sessions of the job             | the oldest that fits is the run, if one does   |
| 400 to a query                      | the next way to ask, see `QueryHabits`         |
| 403                                 | lost                                           |

Once it was seen:

| reply                               | what it does                                   |
| ----------------------------------- | ---------------------------------------------- |
| Stopped with a Result               | final                                          |
| Stopped without one                 | asked for three more times, then final         |
| any other state                     | polled on; after Stopped it counts as Stopped  |
| unknown                             | lost at the second, a pause later              |
| 403                                 | lost                                           |

Anything else is trouble, as with tasks. Which reply is of which kind stands in
`_protocol/classification.py`.
"""

from datetime import datetime

import attrs

from veeam_tasks._engine.decisions import (
    RESULTLESS_REPLIES,
    Decision,
    early_by,
    wall,
)
from veeam_tasks._engine.records import PollTimes
from veeam_tasks._engine.run_records import (
    LinkRequest,
    QueryRequest,
    RunRecord,
    RunRequest,
    TaskRequest,
)
from veeam_tasks._errors import SessionLostError, VeeamTasksError, why_lost
from veeam_tasks._events import Observation
from veeam_tasks._model import (
    JobSession,
    RunStage,
    SessionResult,
    TaskState,
    share_links,
)
from veeam_tasks._protocol.session_paths import JobFilter, job_query
from veeam_tasks._session.session_search import NEWEST, SessionSource, why_not

_TASK = "task"
_REFUSED_KEPT, _REFUSED_SHOWN = 20, 3


@attrs.define(eq=False)
class QueryHabits:
    """How this server takes a query for the job sessions of a job.

    Both ways to name the job are used by programs in production, and which of them a
    server takes is not documented: they take turns until one has shown a job session of
    that job. A server that refuses a filter by time is asked for the newest.
    """

    by_urn: bool | None = None
    has_no_times: bool = False
    _refused: set[bool] = attrs.field(factory=set)

    def form(self, number: int) -> JobFilter:
        """Return how to ask in the round of this number, counted from 1."""
        by_urn = number % 2 == 0 if self.by_urn is None else self.by_urn
        if by_urn in self._refused:
            by_urn = not by_urn
        return JobFilter(by_urn=by_urn, has_time=not self.has_no_times)

    def note_found(self, request: QueryRequest) -> None:
        """Take note that this way to ask has shown job sessions of the job."""
        self.by_urn = request.by_urn
        self._refused.discard(request.by_urn)

    def note_refused(self, request: QueryRequest) -> bool:
        """Take note of a 400; return whether there is another way to ask."""
        if request.has_time and not self.has_no_times:
            self.has_no_times = True
            return True
        if request.has_time:
            return True  # refused meanwhile, for another run
        self._refused.add(request.by_urn)
        if len(self._refused) == 1:
            self.by_urn = None
            return True
        # Both: perhaps it was not the filter. The next round begins anew.
        self._refused.clear()
        self.has_no_times = False
        return False


def next_request(
    record: RunRecord, habits: QueryHabits, now: float, *, may_ask_task: bool
) -> RunRequest | None:
    """Return what to ask for next; None if nothing can tell of the run any more.

    Args:
        record: The run.
        habits: How the server takes queries.
        now: Monotonic seconds.
        may_ask_task: Whether the logon session is still that of the task.
    """
    if not may_ask_task:
        record.has_task = False
    if record.path is not None:
        if record.session is None:
            _begin_round(record, [], now)
        return LinkRequest(record.path)
    if not record.has_task and _TASK in record.steps:
        record.steps.remove(_TASK)
    if not record.steps:
        steps = _steps(record)
        if not steps:
            return None
        _begin_round(record, steps, now)
    step = record.steps.pop(0)
    if step == _TASK:
        return TaskRequest(f"tasks/{record.task_id}")
    assert record.started is not None
    form = habits.form(record.rounds)
    # The last time, what ran before the start is to be seen as well.
    form = attrs.evolve(form, has_time=form.has_time and not _is_overdue(record, now))
    started = record.started
    since = started.not_before
    return QueryRequest(
        path=job_query(step, started.job_guid, form, since, NEWEST),
        kind=step,
        by_urn=form.by_urn,
        has_time=form.has_time,
    )


def _steps(record: RunRecord) -> list[str]:
    steps: list[str] = []
    is_queried = record.source is SessionSource.QUERY and record.started is not None
    if is_queried and record.started is not None:
        steps += record.started.kinds
    # A link that comes late is seen late, where the job's sessions are asked for too.
    is_turn = not is_queried or (record.rounds + 1).bit_count() == 1
    if record.has_task and is_turn:
        steps.append(_TASK)
    return steps


def _begin_round(record: RunRecord, steps: list[str], now: float) -> None:
    record.steps = steps
    record.rounds += 1
    record.round_sent = now
    record.is_round_clean = True


def _is_overdue(record: RunRecord, now: float) -> bool:
    return now >= min([one.at for one in record.deadlines.values()], default=now)


def searching(seen: Observation, record: RunRecord) -> Observation:
    """Return what the end of a task shows while its job session is searched."""
    is_lost = seen.state is TaskState.LOST
    return attrs.evolve(
        seen,
        task=record.task,
        state=record.task.state if is_lost else seen.state,
        is_final=False,
        error=None,
        stage=RunStage.SEARCHING,
        is_by_link=record.is_by_link,
    )


def on_answer(record: RunRecord, times: PollTimes) -> None:
    """Take note that the server itself has answered, whatever it said."""
    record.generation = times.generation
    record.sent, record.sent_wall = times.sent, times.sent_wall
    record.unauthorized_rounds = record.failures = 0
    record.trouble = ""


def on_sessions(
    record: RunRecord,
    sessions: tuple[JobSession, ...],
    taken: dict[str, str],
) -> JobSession | None:
    """Return the run among job sessions of the job; None if it is not there.

    Args:
        record: The run, whose start is known.
        sessions: What a query gave.
        taken: Job sessions that are the runs of other starts, and of which.
    """
    started = record.started
    assert started is not None
    fitting: list[JobSession] = []
    for session in sessions:
        owner = taken.get(session.session_id)
        reason = why_not(session, started)
        if reason is None and owner is not None:
            reason = f"it is the run of {owner}"
        if reason is None:
            fitting.append(session)
            continue
        if reason != "it is of another job" and len(record.refused) < _REFUSED_KEPT:
            record.refused[session.session_id] = reason
        if not session.is_ended and "before the start" in reason:
            record.under_way = _later(record.under_way, session)
    return min(fitting, key=_age, default=None)


def _age(session: JobSession) -> tuple[datetime, str]:
    assert session.created_at is not None  # or it would not fit
    return session.created_at, session.session_id


def _later(one: JobSession | None, other: JobSession) -> JobSession:
    if one is None or one.created_at is None or other.created_at is None:
        return other
    return other if other.created_at > one.created_at else one


def end_round(record: RunRecord, times: PollTimes) -> float:
    """Return the pause after a request that did not find it; 0.0 within a round."""
    if record.steps and record.path is None:
        return 0.0
    pause = record.grow() if record.rounds > 1 else record.reset_pause()
    left = [one.at - times.now for one in record.deadlines.values()]
    return max(0.001, min([pause, *[seconds for seconds in left if seconds > 0]]))


def is_not_found(record: RunRecord, deadline: float) -> bool:
    """Tell whether a round that began after a deadline has not found it either.

    An outage is no answer: the search goes on until the server has given one.
    """
    is_over = not record.steps or record.path is not None
    is_told = record.is_round_clean or record.failures >= RESULTLESS_REPLIES
    return is_over and is_told and record.round_sent >= deadline


def on_session(record: RunRecord, session: JobSession, times: PollTimes) -> Decision:
    """Decide on a reply that describes the job session."""
    before = record.session
    not_before = _not_before(record, times)
    on_answer(record, times)
    record.missing_replies = 0
    if before is not None and before.is_ended and not session.is_ended:
        # The first proof counts: a cache, or a collection of data, may lag behind.
        session = before
    if before is not None:
        share_links(session, before)
    record.session, record.session_id = session, session.session_id
    is_final = False
    if session.is_ended:
        wait = 0.0
        if session.result is SessionResult.NONE:
            wait = _count_look(record, times)
        is_final = (
            session.result is not SessionResult.NONE
            or record.resultless >= RESULTLESS_REPLIES
        )
        if not is_final:
            return Decision(seen=None, pause=wait)
    is_new = before is None or _words(before) != _words(session)
    if not is_final and not is_new and before is not None:
        is_new_progress = before.progress != session.progress
        # Progress alone is told, but it does not make the polls more frequent.
        pause = record.grow()
        if not is_new_progress:
            return Decision(seen=None, pause=pause)
    else:
        pause = record.reset_pause()
    seen = _seen(record, times, not_before, is_final=is_final)
    record.latest = seen
    return Decision(seen=seen, pause=pause)


def _words(session: JobSession) -> tuple[str, str | None]:
    return session.raw_state, session.raw_result


def _count_look(record: RunRecord, times: PollTimes) -> float:
    """Count a look at Stopped without a Result; return the pause until the next."""
    early = early_by(record, record.looked_at, times) if record.resultless else 0.0
    if early:
        return early
    record.resultless, record.looked_at = record.resultless + 1, times.now
    return record.reset_pause()


def on_unknown(record: RunRecord, error: VeeamTasksError, times: PollTimes) -> Decision:
    """Decide on a reply that says that a job session which was seen is unknown."""
    on_answer(record, times)
    record.unchanged_hash, record.trouble = None, str(error)
    first = record.reset_pause()
    if record.missing_replies == 0:
        record.missing_replies, record.missing_at = 1, times.now
        return Decision(seen=None, pause=first)
    early = early_by(record, record.missing_at, times)
    if early:
        return Decision(seen=None, pause=early)
    return Decision(seen=lost(record, times, f"it was there and is gone: {error}"))


def forbidden(record: RunRecord, error: VeeamTasksError) -> str:
    """Return why a run is lost whose job session this account may not read."""
    what = "its job session" if record.session is None else "it"
    return (
        f"this account may not read {what}: {error} (some roles may read tasks and"
        " restores, but no backup sessions)"
    )


def lost(record: RunRecord, times: PollTimes, reason: str) -> Observation:
    """Return the observation that ends a run as LOST."""
    error = SessionLostError(
        task_id=record.task_id,
        task=record.task,
        last_seen=record.session,
        reason=f"{record.lost_by}{reason}",
    )
    seen = _seen(record, times, _not_before(record, times), is_final=True)
    return attrs.evolve(seen, state=TaskState.LOST, error=error)


def replaced(record: RunRecord, now: float, now_wall: float) -> Observation:
    """Return the end of a run in a watch that has a later task under its ID now."""
    times = PollTimes(
        generation=record.first_generation,
        sent=now,
        sent_wall=now_wall,
        now=now,
        now_wall=now_wall,
    )
    reason = (
        "a later task got its ID in this watch; what runs on over a renewal of the"
        " logon session is to be followed in a watch of its own"
    )
    return lost(record, times, reason)


def lost_by(seen: Observation) -> str:
    """Return what the error of a lost job says first, if its task is lost as well."""
    if seen.error is None:
        return ""
    return f"its task is lost, too ({why_lost(seen.error)}); "


def not_found(record: RunRecord, seconds: float) -> str:
    """Return why a run is lost whose job session was not found in time."""
    if record.path is not None:
        reason = f"the task links to {record.path.partition('?')[0]}, but that did not"
        reason = f"{reason} show it within {seconds:g} s"
        return f"{reason}: {record.trouble}" if record.trouble else reason
    started = record.started
    if started is None or record.source is not SessionSource.QUERY:
        reason = f"the task linked to no job session within {seconds:g} s"
        if started is None:
            reason += ", and this manager has not started it, so the job is not known"
        return reason
    reason = f"no session of the job began after its start within {seconds:g} s"
    if record.trouble:
        reason = f"{reason}; the last reply was: {record.trouble}"
    under_way = started.under_way or record.under_way
    if under_way is not None:
        return f"{reason}; a run was under way before: {_described(under_way)}"
    others = list(record.refused.items())[-_REFUSED_SHOWN:]
    if others:
        shown = "; ".join(f"{one}: {why}" for one, why in others)
        reason = f"{reason}; others were not taken for it ({shown})"
    return reason


def _described(session: JobSession) -> str:
    began = session.created_at
    when = "" if began is None else f", began {began:%Y-%m-%d %H:%M:%S} UTC"
    title = session.name or session.job_name
    named = session.session_id if title is None else f"{title!r} {session.session_id}"
    return f"{named} ({session.raw_state}{when})"


def _seen(
    record: RunRecord, times: PollTimes, not_before: datetime | None, *, is_final: bool
) -> Observation:
    return Observation(
        task_id=record.task_id,
        task=record.task,
        # The operation has ended, or there would be no job session of it.
        state=TaskState.FINISHED,
        is_final=is_final,
        observed_at=wall(times.now_wall),
        not_before=not_before,
        generation=record.first_generation,
        stage=RunStage.SEARCHING if record.session is None else RunStage.SESSION,
        session=record.session,
    )


def _not_before(record: RunRecord, times: PollTimes) -> datetime | None:
    """Return when the request before was sent, on the safe side of both clocks."""
    if not record.sent_wall:
        return None
    by_span = times.now_wall - (times.now - record.sent)
    return wall(min(by_span, record.sent_wall, times.now_wall))
