"""What a reply means for one followed run, and what is delivered of it."""

from datetime import UTC, datetime
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import (
    JobSession,
    Link,
    Pace,
    RunStage,
    SessionLostError,
    SessionResult,
    SessionState,
    StatusError,
    Task,
    TaskEvent,
    TaskResult,
    TaskState,
)
from veeam_tasks._engine.decisions import RESULTLESS_REPLIES
from veeam_tasks._engine.pending_event import PendingRun
from veeam_tasks._engine.records import PollTimes
from veeam_tasks._engine.run_decisions import (
    QueryHabits,
    is_not_found,
    lost,
    next_request,
    on_session,
    on_unknown,
    searching,
)
from veeam_tasks._engine.run_records import (
    Deadline,
    LinkRequest,
    QueryRequest,
    RunRecord,
    TaskRequest,
)
from veeam_tasks._events import Observation
from veeam_tasks._session.session_search import SessionSource, StartedJob

GUID = "7e9f6a52-70a5-4f4c-8d0b-6a8d1b1f7f10"
JOB = "1c29a0ac-7e4e-4a0b-9f45-6c7b1a0d2e33"
WALL = 1_750_000_000.0
PACE = Pace(first=1, growth=2, longest=8, jitter=0)
STAGES = [RunStage.TASK, RunStage.SEARCHING, RunStage.SESSION]
GONE = StatusError(request="GET x", status=404, message="There is no session with id")
FINISHED = Task(
    task_id="task-1",
    state=TaskState.FINISHED,
    raw_state="Finished",
    operation="StartJob",
    result=TaskResult(success=True),
)
SHOWN = JobSession(
    session_id=GUID,
    kind="BackupJobSession",
    state=SessionState.WORKING,
    raw_state="Working",
)
SEARCHED = Observation(
    task_id="task-1",
    task=FINISHED,
    state=TaskState.FINISHED,
    is_final=False,
    observed_at=datetime(2026, 6, 16, tzinfo=UTC),
    not_before=None,
    generation=1,
    stage=RunStage.SEARCHING,
)


def run(**changes: object) -> RunRecord:
    """Return the record of a run that was just begun."""
    path = f"jobs/{JOB}?action=start"
    started = StartedJob(
        path=path,
        job_guid=JOB,
        action="start",
        replied_at=datetime(2026, 6, 16, tzinfo=UTC),
    )
    record = RunRecord(
        pace=PACE,
        pause=1.0,
        task_id="task-1",
        first_generation=1,
        task=FINISHED,
        started=started,
        source=SessionSource.QUERY,
    )
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def at(now: float) -> PollTimes:
    """Return when a reply came that took no time."""
    return PollTimes(
        generation=1, sent=now, sent_wall=WALL + now, now=now, now_wall=WALL + now
    )


@pytest.mark.parametrize("job", [JOB, GUID])
def test_links_that_have_not_changed_are_kept(job: str) -> None:
    """The very same ones, and not only equal ones; those that changed are the new."""
    known, come = ((Link(rel="Up", href=f"jobs/{one}"),) for one in (JOB, job))
    record = run(session=attrs.evolve(SHOWN, links=known))
    on_session(record, attrs.evolve(SHOWN, links=come, progress=7), at(1.0))
    assert record.session is not None
    assert record.session.progress == 7
    assert record.session.links is (known if job == JOB else come)


@pytest.mark.parametrize("state", [TaskState.FINISHED, TaskState.LOST])
def test_what_is_searched_shows_the_task_as_it_was(state: TaskState) -> None:
    """One that its logon session took along is not lost while its run may be found."""
    end = attrs.evolve(SEARCHED, state=state, task=None, is_final=True, error=GONE)
    found = searching(end, run())
    assert (found.state, found.task) == (TaskState.FINISHED, FINISHED)
    assert (found.is_final, found.error) == (False, None)
    assert found.stage is RunStage.SEARCHING


def test_the_state_that_was_seen_is_that_of_the_end() -> None:
    """Also where the record knows the task from its submit alone."""
    begun = attrs.evolve(FINISHED, state=TaskState.RUNNING, raw_state="Running")
    end = attrs.evolve(SEARCHED, is_final=True)
    assert searching(end, run(task=begun)).state is TaskState.FINISHED


def test_a_round_asks_for_both_kinds_and_now_and_then_for_the_task() -> None:
    """In the rounds 1, 2, 4, 8, ... a late link is looked for as well."""
    record, habits = run(), QueryHabits()
    asked: dict[int, list[type]] = {}
    kinds: set[str] = set()
    while record.rounds < 9:
        request = next_request(record, habits, 0.0, may_ask_task=True)
        asked.setdefault(record.rounds, []).append(type(request))
        if isinstance(request, QueryRequest):
            kinds.add(request.kind)
    assert kinds == {"BackupJobSession", "ReplicaJobSession"}
    with_task = [number for number, types in asked.items() if TaskRequest in types]
    assert with_task == [1, 2, 4, 8]


def test_a_link_is_all_that_is_asked_for_once_it_is_known() -> None:
    """And the task is not asked for under another logon session."""
    record, habits = run(path="backupSessions/x"), QueryHabits()
    request = next_request(record, habits, 0.0, may_ask_task=True)
    assert request == LinkRequest("backupSessions/x")
    linked = run(source=SessionSource.LINK, started=None)
    request = next_request(linked, habits, 0.0, may_ask_task=True)
    assert isinstance(request, TaskRequest)
    assert next_request(linked, habits, 0.0, may_ask_task=False) is None


def test_both_names_of_a_job_take_turns_until_one_has_shown_a_session() -> None:
    """A 400 to a time leaves times out; a 400 to a name leaves that name out."""
    habits = QueryHabits()
    assert [habits.form(number).by_urn for number in (1, 2, 3)] == [False, True, False]
    request = QueryRequest(path="q", kind="k", by_urn=True, has_time=True)
    habits.note_found(request)
    assert [habits.form(number).by_urn for number in (1, 2)] == [True, True]
    assert habits.note_refused(request)
    assert not habits.form(1).has_time
    # That of another run was under way meanwhile: it proves nothing about the name.
    assert habits.note_refused(request)
    assert [habits.form(number).by_urn for number in (1, 2)] == [True, True]
    assert habits.note_refused(attrs.evolve(request, has_time=False))
    assert [habits.form(number).by_urn for number in (1, 2)] == [False, False]
    last = attrs.evolve(request, by_urn=False, has_time=False)
    assert not habits.note_refused(last)
    assert habits.form(1).has_time


def test_a_name_that_has_shown_a_session_is_taken_although_it_was_refused() -> None:
    """Its reply may have been under way while that of another run was a 400."""
    habits = QueryHabits()
    request = QueryRequest(path="q", kind="k", by_urn=True, has_time=False)
    assert habits.note_refused(request)
    assert not habits.form(2).by_urn
    habits.note_found(request)
    assert [habits.form(number).by_urn for number in (1, 2)] == [True, True]


def test_the_last_query_asks_without_a_time() -> None:
    """So that what ran before the start is seen as well, and can be told."""
    record = run(deadlines={"watch": Deadline(at=100.0, seconds=60.0)})
    for now, has_time in ((10.0, True), (100.0, False)):
        record.steps = []
        request = next_request(record, QueryHabits(), now, may_ask_task=True)
        assert isinstance(request, QueryRequest)
        assert request.has_time is has_time


def test_a_round_with_trouble_has_not_looked_everywhere() -> None:
    """Nothing is given up by it, unless there is nothing but trouble."""
    record = run(round_sent=10.0, is_round_clean=False, failures=1)
    assert not is_not_found(record, 5.0)
    record.failures = RESULTLESS_REPLIES
    assert is_not_found(record, 5.0)
    record.is_round_clean, record.failures = True, 0
    assert is_not_found(record, 5.0)
    assert not is_not_found(record, 11.0)


def test_looks_for_the_result_of_a_session_are_a_pause_apart() -> None:
    """Newcomers bring polls forward, which must not use them up."""
    record = run(path="x")
    stopped = attrs.evolve(SHOWN, state=SessionState.STOPPED, raw_state="Stopped")
    looks = []
    for now in (1.0, 1.1, 1.2, 1.9, 2.1, 2.2, 3.2):
        on_session(record, stopped, at(now))
        looks.append(record.resultless)
    assert looks == [1, 1, 1, 1, 2, 2, 3]


def test_a_session_that_has_stopped_does_not_run_again() -> None:
    """What was proved first counts: a cache shows it as it was before."""
    record = run(path="x")
    stopped = attrs.evolve(SHOWN, state=SessionState.STOPPED, raw_state="Stopped")
    assert on_session(record, stopped, at(1.0)).seen is None  # its Result is to come
    assert on_session(record, SHOWN, at(3.0)).seen is None
    assert record.session is stopped


def test_links_as_before_are_the_very_same_whatever_else_has_changed() -> None:
    """Else each new progress would leave them all to the garbage collector anew."""
    one, same, other = [
        attrs.evolve(SHOWN, progress=n, links=(Link(rel="Up", href=href),))
        for n, href in enumerate(["a", "a", "b"])
    ]
    record = run(path="x")
    for n, session in enumerate([one, same, other], start=1):
        on_session(record, session, at(float(n)))
        assert record.session is session
    assert same.links is one.links
    assert [link.href for link in other.links] == ["b"]


words = st.sampled_from([*[one.value for one in SessionState], "Postprocessing"])
shown = st.builds(
    lambda word, result, progress: attrs.evolve(
        SHOWN,
        state=SessionState.from_word(word),
        raw_state=word,
        result=SessionResult.from_word(result),
        raw_result=result,
        progress=progress,
    ),
    words,
    st.sampled_from(["None", None, "Success", "Warning", "Failed", "Better"]),
    st.none() | st.integers(0, 100),
)


def played(sessions: list[JobSession]) -> list[Observation]:
    """Return what is seen of job sessions that come a pause apart, to the end."""
    record, seen = run(path="x", session_id=GUID), []
    for number, session in enumerate(sessions):
        decision = on_session(record, session, at(number * 100.0))
        if decision.seen is not None:
            seen.append(decision.seen)
            if decision.seen.is_final:
                break
        assert 0 < decision.pause <= PACE.longest
    return seen


@given(st.lists(shown, max_size=30))
def test_stopped_alone_ends_a_run_with_the_first_result_after_it(
    sessions: list[JobSession],
) -> None:
    """A Result, 100 %, an unknown word end nothing; what goes back is not told."""
    seen = played(sessions)
    assert all(not one.is_final for one in seen[:-1])
    stopped_at: int | None = None
    end = None
    looks = 0
    for number, session in enumerate(sessions):
        if session.is_ended or stopped_at is not None:
            stopped_at = number if stopped_at is None else stopped_at
            looks += not session.is_ended or session.result is SessionResult.NONE
            if session.is_ended and session.result is not SessionResult.NONE:
                end = session
                break
            if looks == RESULTLESS_REPLIES:
                end = sessions[stopped_at]
                break
    is_final = bool(seen) and seen[-1].is_final
    assert is_final is (end is not None)
    if end is not None:
        last = seen[-1].session
        assert last is not None
        assert last.is_ended
        assert last.result is end.result
        assert seen[-1].succeeded is end.succeeded
    if stopped_at is not None:
        ended = [one for one in seen if one.session and one.session.is_ended]
        assert len(ended) == (end is not None)


@given(
    st.lists(shown, max_size=30), st.booleans(), st.lists(st.booleans(), max_size=60)
)
def test_whoever_reads_at_whatever_speed_is_told_in_order(
    sessions: list[JobSession],
    is_lost: bool,
    reads: list[bool],
) -> None:
    """The end of the task, nothing twice, one final event, last."""
    seen = [SEARCHED, *played(sessions)]
    if not seen[-1].is_final and is_lost:
        record = run()
        record.session = seen[-1].session
        seen.append(lost(record, at(1e6), "gone"))
    slot, turns = PendingRun(), iter(reads)
    told = [slot.deliver() for one in seen if slot.observe(one) and next(turns, False)]
    while slot.owed is not None:
        told.append(slot.deliver())
    check(told, is_final=seen[-1].is_final)


def test_what_is_found_again_while_it_is_owed_is_told_once() -> None:
    """A newcomer has the search told anew; who has not read it hears it once."""
    slot = PendingRun()
    assert slot.observe(SEARCHED)
    assert slot.observe(SEARCHED)
    assert slot.deliver().stage is RunStage.SEARCHING
    assert slot.owed is None


def check(told: list[TaskEvent], *, is_final: bool) -> None:
    """Hold what is promised of the events of one run."""
    assert told[0].stage is RunStage.SEARCHING
    assert [one.sequence for one in told] == list(range(1, len(told) + 1))
    assert [one.is_final for one in told[:-1]] == [False] * (len(told) - 1)
    assert told[-1].is_final is is_final
    for before, event in pairwise(told):
        assert event.previous is before.state
        assert STAGES.index(before.stage) <= STAGES.index(event.stage)
        assert event.is_final or (event.stage, event.session) != (
            before.stage,
            before.session,
        )


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.0, 60.0])
def test_two_replies_a_pause_apart_say_that_it_is_gone(apart: float) -> None:
    """One that came too early does not count."""
    record = run(path="x", session_id=GUID)
    on_session(record, SHOWN, at(0.0))
    first = on_unknown(record, GONE, at(10.0))
    assert first.seen is None
    second = on_unknown(record, GONE, at(10.0 + apart))
    assert (second.seen is not None) is (apart >= PACE.first)
    if second.seen is not None:
        assert second.seen.state is TaskState.LOST
        assert isinstance(second.seen.error, SessionLostError)
        assert second.seen.error.last_seen == SHOWN
        assert second.seen.succeeded is None
