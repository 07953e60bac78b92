"""What a reply means for one watched task: decided with values, at each boundary."""

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import (
    Pace,
    ServerBusyError,
    StatusError,
    Task,
    TaskLostError,
    TaskResult,
    TaskState,
    TransportError,
)
from veeam_tasks._engine.decisions import (
    RESULTLESS_REPLIES,
    Decision,
    contradicts,
    count_unauthorized,
    denied_for_good,
    lost,
    on_failure,
    on_missing,
    on_task,
    replaced,
)
from veeam_tasks._engine.records import PollTimes, TaskRecord
from veeam_tasks._pace import LONGEST_PAUSE

WALL = 1_750_000_000.0
RENEWED = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
PACE = Pace(first=2, growth=2, longest=10, jitter=0.25)
DOWN = TransportError(request="GET x", reason="reset")
FORBIDDEN = StatusError(request="GET x", status=403, message="Access denied")
OK = TaskResult(success=True, message="Ok")


def record(*, first_generation: int = 1, pace: Pace = PACE) -> TaskRecord:
    """Return a record that has met nothing yet."""
    return TaskRecord(
        task_id="task-1", pace=pace, first_generation=first_generation, pause=1
    )


def task(
    raw: str = "Running", result: TaskResult | None = None, operation: str = "StartJob"
) -> Task:
    """Return a task in a state that the server's words name."""
    known = {state.value: state for state in TaskState}
    return Task(
        task_id="task-1",
        state=known.get(raw, TaskState.UNKNOWN),
        raw_state=raw,
        operation=operation,
        result=result,
    )


def at(now: float, generation: int = 1, took: float = 0.5) -> PollTimes:
    """Return a moment; both clocks go alike."""
    return PollTimes(
        generation=generation,
        sent=now - took,
        sent_wall=WALL + now - took,
        now=now,
        now_wall=WALL + now,
    )


def meet(
    given: TaskRecord,
    found: Task,
    now: float = 1.0,
    generation: int = 1,
    unchanged_hash: int = 7,
) -> Decision:
    """Let a record meet a task as the engine does, which keeps the digest."""
    decision = on_task(given, found, at(now, generation), RENEWED)
    given.unchanged_hash = None if given.finished_without_result else unchanged_hash
    return decision


# --- a reply that describes the task


def test_the_first_reply_tells_what_is_there() -> None:
    """The first sighting has no poll before it; the pause begins with the first."""
    given = record()
    decision = meet(given, task())
    assert decision.seen is not None
    assert decision.seen.not_before is None
    assert decision.seen.observed_at == datetime.fromtimestamp(WALL + 1, UTC)
    assert not decision.seen.is_final
    assert decision.pause == PACE.first
    assert (given.generation, given.sent, given.sent_wall) == (1, 0.5, WALL + 0.5)


def test_the_same_state_tells_nothing_and_pauses_longer() -> None:
    """What changes beside the state is kept, but is no sighting."""
    given = record()
    meet(given, task())
    again = task(operation="Renamed")
    pauses = []
    for now in range(5):
        decision = meet(given, again, now + 5.0)
        assert decision.seen is None
        pauses.append(decision.pause)
    assert pauses == [4, 8, 10, 10, 10]
    assert given.task is again


def test_a_newcomer_is_told_of_the_same_state() -> None:
    """Without a digest somebody new wants to know, and the pause grows all the same."""
    given = record()
    meet(given, task())
    given.unchanged_hash = None
    decision = meet(given, task(), 5.0)
    assert decision.seen is not None
    assert decision.pause == 4


def test_two_unknown_words_are_two_states() -> None:
    """The server's own words are compared, not what they mean to us."""
    given = record()
    meet(given, task("Queued"))
    decision = meet(given, task("Waiting"), 5.0)
    assert decision.seen is not None
    assert decision.seen.state is TaskState.UNKNOWN
    assert decision.pause == PACE.first


@pytest.mark.parametrize("raw", ["Running", "OperationFinished", "Archived"])
def test_a_result_alone_is_not_final(raw: str) -> None:
    """Only Finished ends a task."""
    decision = meet(record(), task(raw, OK))
    assert decision.seen is not None
    assert not decision.seen.is_final


def test_finished_with_a_result_is_final_at_once() -> None:
    """Also if it was Finished without one before, which told nothing."""
    given = record()
    assert meet(given, task("Finished")).seen is None
    decision = meet(given, task("Finished", OK), 3.0)
    assert decision.seen is not None
    assert decision.seen.is_final


def test_finished_without_a_result_is_final_at_the_fourth() -> None:
    """It is asked for three more times, each after the first pause."""
    given = record()
    meet(given, task())
    for look in range(RESULTLESS_REPLIES - 1):
        decision = meet(given, task("Finished"), 2 * look + 5.0)
        assert (decision.seen, decision.pause) == (None, PACE.first)
        assert given.unchanged_hash is None
    decision = meet(given, task("Finished"), 12.0)
    assert decision.seen is not None
    assert decision.seen.is_final
    assert decision.seen.task is not None
    assert decision.seen.task.result is None


def test_running_again_begins_that_count_anew() -> None:
    """Three replies without a result must follow one another."""
    given = record()
    for now in range(9):
        meet(given, task("Finished" if now % 4 else "Running"), float(now))
    assert given.finished_without_result == 0
    assert meet(given, task("Finished"), 10.0).seen is None


# --- under another logon session


BEFORE_AND_AFTER = [
    ("Running", "Running", False),
    ("Running", "OperationFinished", False),
    ("Running", "Finished", False),
    ("Archived", "Running", False),
    ("OperationFinished", "OperationFinished", False),
    ("OperationFinished", "Finished", False),
    ("OperationFinished", "Running", True),
    ("OperationFinished", "Archived", True),
    ("Finished", "Finished", False),
    ("Finished", "OperationFinished", True),
    ("Finished", "Running", True),
]


@pytest.mark.parametrize(("before", "after", "is_another"), BEFORE_AND_AFTER)
def test_backwards_after_a_renewal_is_another_task(
    before: str, after: str, is_another: bool
) -> None:
    """From Finished or OperationFinished nothing goes back; so it is another task."""
    given = record()
    meet(given, task(before))
    decision = meet(given, task(after), 9.0, generation=2)
    lost = decision.seen is not None and decision.seen.state is TaskState.LOST
    assert lost is is_another
    if lost:
        assert decision.seen is not None
        assert decision.seen.is_final
        assert decision.seen.task == task(before)
        error = decision.seen.error
        assert isinstance(error, TaskLostError)
        assert "renewed at 2025-06-15 15:06:40 UTC" in str(error)
        assert "another task under this ID" in str(error)
        assert "may well go on" in str(error)
        assert error.last_seen == task(before)


def test_another_operation_after_a_renewal_is_another_task() -> None:
    """Also if it is finished: never a foreign outcome."""
    given = record()
    meet(given, task())
    other = task("Finished", OK, operation="CloneJob")
    decision = meet(given, other, 9.0, generation=2)
    assert decision.seen is not None
    assert decision.seen.state is TaskState.LOST
    assert given.task == task()


@pytest.mark.parametrize("generation", [1, 0])
def test_backwards_under_the_same_logon_session_is_told(generation: int) -> None:
    """Whatever is seen is told, as long as the token is the same, or an older one."""
    given = record()
    meet(given, task("OperationFinished"))
    decision = meet(given, task(operation="Renamed"), 9.0, generation=generation)
    assert decision.seen is not None
    assert decision.seen.state is TaskState.RUNNING


def test_only_the_first_reply_after_a_renewal_is_compared_so() -> None:
    """Then the new logon session's task is the one that is watched."""
    given = record()
    meet(given, task("OperationFinished"))
    meet(given, task("OperationFinished"), 5.0, generation=2)
    assert given.generation == 2
    decision = meet(given, task("Running"), 9.0, generation=2)
    assert decision.seen is not None
    assert decision.seen.state is TaskState.RUNNING


def test_what_is_new_under_any_generation_has_nothing_to_be_compared_with() -> None:
    """The first sighting of a record may come under the fifth token."""
    decision = meet(record(), task(), generation=5)
    assert decision.seen is not None
    assert decision.seen.state is TaskState.RUNNING


# --- unknown or denied


@pytest.mark.parametrize(
    ("sent_after", "is_lost"), [(1.4, False), (1.48, False), (1.5, True), (2.0, True)]
)
def test_two_doubts_a_jittered_pause_apart_are_the_end(
    sent_after: float, is_lost: bool
) -> None:
    """A pause of 2 s may be cut to 1.5 s by its jitter; anything less is too early."""
    given = record()
    first = on_missing(given, FORBIDDEN, at(10.0), None, "advice")
    assert (first.seen, first.pause) == (None, 2.0)
    second = on_missing(given, FORBIDDEN, at(10.5 + sent_after), None, "advice")
    assert (second.seen is not None) is is_lost
    if not is_lost:
        # So that the next one is sent a whole pause after the first was answered.
        assert second.pause == pytest.approx(2.0 - sent_after)


def test_what_went_wrong_last_is_kept_until_a_good_reply() -> None:
    """So that whoever runs out of time learns why; a text, not the error."""
    given = record()
    assert given.trouble == ""
    on_failure(given, DOWN, at(10.0), None, 0.0)
    assert given.trouble == "GET x: reset"
    on_missing(given, FORBIDDEN, at(20.0), None, "")
    assert given.trouble == str(FORBIDDEN)
    meet(given, task(), 30.0)
    assert given.trouble == ""
    on_failure(given, DOWN, at(40.0), None, 0.0)
    meet(given, task("Finished"), 50.0)
    assert given.trouble == ""


def test_a_good_reply_between_two_doubts_forgets_the_first() -> None:
    """Two replies prove it only with no good one in between."""
    given = record()
    on_missing(given, FORBIDDEN, at(10.0), None, "")
    meet(given, task(), 20.0)
    assert on_missing(given, FORBIDDEN, at(30.0), None, "").seen is None
    # Trouble in between proves nothing, either way.
    on_failure(given, DOWN, at(40.0), None, 0.0)
    assert on_missing(given, FORBIDDEN, at(50.0), None, "").seen is not None


def test_a_task_that_was_never_seen_is_lost_with_advice() -> None:
    """The advice is only for those who ask a fresh logon for what it cannot know."""
    given = record()
    for now in (10.0, 20.0):
        decision = on_missing(
            given, FORBIDDEN, at(now), None, "Share the logon session"
        )
    assert decision.seen is not None
    assert decision.seen.task is None
    assert str(decision.seen.error).endswith("Share the logon session")
    known = record()
    meet(known, task())
    for now in (10.0, 20.0):
        decision = on_missing(
            known, FORBIDDEN, at(now), None, "Share the logon session"
        )
    assert decision.seen is not None
    assert decision.seen.task == task()
    assert "Share" not in str(decision.seen.error)


@pytest.mark.parametrize(
    ("first_generation", "generation", "renewed_at", "tells"),
    [(1, 2, RENEWED, True), (2, 2, RENEWED, False), (1, 2, None, False)],
)
def test_a_renewal_is_named_only_if_it_came_in_between(
    first_generation: int, generation: int, renewed_at: datetime | None, tells: bool
) -> None:
    """A task that was first watched after the renewal is not lost by it."""
    given = record(first_generation=first_generation)
    for now in (10.0, 20.0):
        decision = on_missing(given, FORBIDDEN, at(now, generation), renewed_at, "")
    assert decision.seen is not None
    assert ("was renewed at" in str(decision.seen.error)) is tells
    assert "Access denied" in str(decision.seen.error)


# --- trouble


def test_trouble_pauses_longer_and_longer() -> None:
    """A task that alone gets only errors is polled on at its longest pause."""
    given = record()
    pauses = [on_failure(given, DOWN, at(now), None, 0.0).pause for now in range(5)]
    assert pauses == [2, 4, 8, 10, 10]
    assert given.unchanged_hash is None
    # A good reply ends the count.
    meet(given, task(), 9.0)
    assert on_failure(given, DOWN, at(10.0), None, 0.0).pause == 2


@pytest.mark.parametrize(
    ("asked", "pause"), [(None, 2.0), (1.0, 2.0), (77.0, 77.0), (99_999.0, 600.0)]
)
def test_retry_after_is_honoured_but_not_for_days(
    asked: float | None, pause: float
) -> None:
    """A slip in a header must not end a watch for days."""
    busy = ServerBusyError(request="GET x", status=503, message="", retry_after=asked)
    given = record()
    decision = on_failure(given, busy, at(1.0), None, 0.0)
    assert decision.pause == pause <= LONGEST_PAUSE
    # Who comes anew is not kept waiting for more than was asked.
    assert given.not_before == 1.0 + min(asked or 0.0, LONGEST_PAUSE)


def test_patience_ends_the_task_when_a_later_poll_fails_too() -> None:
    """The pause is cut so that the last poll is sent at that moment, not before it."""
    given = record()
    assert on_failure(given, DOWN, at(100.0), 5.0, 0.0).pause == 2.0
    assert on_failure(given, DOWN, at(102.0), 5.0, 0.0).pause == 3.0
    almost = on_failure(given, DOWN, at(104.99), 5.0, 0.0)
    assert almost.seen is None
    assert almost.pause == pytest.approx(0.01)
    # Sent before patience ended, so the task may have become readable since.
    hung = on_failure(given, DOWN, at(130.0, took=25.01), 5.0, 0.0)
    assert (hung.seen, hung.pause) == (None, 0.0)
    decision = on_failure(given, DOWN, at(130.0, took=25.0), 5.0, 0.0)
    assert decision.seen is not None
    assert (decision.seen.state, decision.seen.error) == (TaskState.LOST, DOWN)


def test_patience_cuts_what_retry_after_asks_for() -> None:
    """Whoever has ten seconds does not wait for a minute."""
    busy = ServerBusyError(request="GET x", status=503, message="", retry_after=60)
    assert on_failure(record(), busy, at(1.0), 10.0, 0.0).pause == 10.0


def test_patience_begins_anew_when_an_outage_ends() -> None:
    """What the server did to all is not held against one task."""
    given = record()
    on_failure(given, DOWN, at(100.0), None, 0.0)
    assert on_failure(given, DOWN, at(900.0), 5.0, 898.0).pause == 3.0
    assert on_failure(given, DOWN, at(903.5), 5.0, 898.0).seen is not None


def test_a_doubt_ends_the_count_of_trouble() -> None:
    """The server has spoken of this task, so it does not get only errors."""
    given = record()
    on_failure(given, DOWN, at(100.0), 5.0, 0.0)
    on_missing(given, FORBIDDEN, at(104.0), None, "")
    assert on_failure(given, DOWN, at(106.0), 5.0, 0.0).seen is None


# --- the words of a loss, and clocks


def test_why_a_task_is_lost_is_told_in_words() -> None:
    """Replaced, or refused for good: with the last known task."""
    given = record()
    meet(given, task())
    assert "submitted since then" in str(replaced(given, RENEWED))
    assert "renewed," in str(replaced(given, None))
    refused = denied_for_good(given, FORBIDDEN)
    assert "this account may not read it" in str(refused)
    assert refused.last_seen == task()


@pytest.mark.parametrize(
    ("now", "now_wall", "before"),
    [
        (30.0, WALL + 30, WALL + 0.5),
        (30.0, WALL - 7000, WALL - 7029.5),  # the wall clock was set back
        (30.0, WALL + 9000, WALL + 0.5),  # it was set forward, or a laptop slept
        (30.0, WALL - 1, WALL - 30.5),
    ],
)
def test_not_before_is_on_the_safe_side_of_both_clocks(
    now: float, now_wall: float, before: float
) -> None:
    """The poll before was sent at 0.5; whatever clock jumped, it is not later."""
    given = record()
    meet(given, task())
    moment = PollTimes(
        generation=1, sent=now - 1, sent_wall=now_wall - 1, now=now, now_wall=now_wall
    )
    seen = lost(given, moment, DOWN)
    assert seen.not_before == datetime.fromtimestamp(before, UTC)
    assert seen.not_before <= seen.observed_at


def test_a_wall_clock_set_back_since_the_request_was_sent() -> None:
    """`not_before` is never later than `observed_at`."""
    given = record()
    on_task(
        given,
        task(),
        PollTimes(generation=1, sent=5.0, sent_wall=WALL, now=5.1, now_wall=WALL + 0.1),
        None,
    )
    # A late sighting by a monotonic clock that stood still.
    moment = PollTimes(
        generation=1, sent=5.0, sent_wall=WALL, now=4.0, now_wall=WALL - 60
    )
    seen = lost(given, moment, DOWN)
    assert seen.not_before == seen.observed_at


# --- properties

BUSY = ServerBusyError(request="GET x", status=503, message="", retry_after=1e6)
replies = st.lists(
    st.tuples(
        st.sampled_from(["Running", "Finished", "doubt", "trouble", "busy"]),
        st.floats(0.1, 50),
        st.integers(0, 1),
    ),
    max_size=40,
)


def react(
    given: TaskRecord, kind: str, moment: PollTimes, patience: float | None
) -> Decision:
    """Let a record meet one kind of reply."""
    if kind == "doubt":
        return on_missing(given, FORBIDDEN, moment, RENEWED, "")
    if kind in {"trouble", "busy"}:
        error = DOWN if kind == "trouble" else BUSY
        return on_failure(given, error, moment, patience, 0.0)
    return on_task(given, task(kind), moment, RENEWED)


@given(replies=replies, patience=st.none() | st.floats(0.1, 100))
def test_pauses_stay_in_bounds_and_an_end_has_its_proof(
    replies: list[tuple[str, float, int]], patience: float | None
) -> None:
    """Whatever comes in whatever order; LOST only by two doubts or spent patience."""
    met = record()
    now, generation = 0.0, 1
    past: list[tuple[str, float]] = []
    for kind, gap, renewal in replies:
        now, generation = now + gap, generation + renewal
        decision = react(met, kind, at(now, generation, took=0.05), patience)
        seen = decision.seen
        if seen is not None and seen.is_final:
            assert proof_of(kind, now, past, patience)
            return
        assert 0 <= decision.pause <= LONGEST_PAUSE
        # At once only where patience ran out while the poll was under way.
        assert decision.pause > 0 or proof_of(kind, now, past, patience)
        # What a good reply says ends what was counted before it.
        past = (
            [(kind, now)] if kind in {"Running", "Finished"} else [*past, (kind, now)]
        )


def proof_of(
    kind: str, now: float, past: list[tuple[str, float]], patience: float | None
) -> bool:
    """Return whether the end of a task may follow from what came before."""
    if kind in {"Running", "Finished"}:
        return True  # another task, or no result; the tables above tell
    if kind == "doubt":
        return any(one == "doubt" and now - 0.05 - at >= 1.48 for one, at in past)
    since = [at for one, at in past if one in {"trouble", "busy"}]
    # The clock is read in fractions of which a sum may fall short by its last bit.
    return patience is not None and bool(since) and now - since[0] >= patience - 1e-6


def test_replies_that_were_brought_forward_are_no_rounds() -> None:
    """A look or a round counts a jittered pause after the last one that counted."""
    given = record()
    for moments in ([0.0, 0.1, 1.9], [2.0, 3.9], [4.0, 5.9]):
        for now in moments:
            assert meet(given, task("Finished"), now).seen is None
    decision = meet(given, task("Finished"), 6.0)
    assert decision.seen is not None
    assert decision.seen.is_final
    other = record()
    pauses = [count_unauthorized(other, at(now)) for now in (10.0, 10.5, 11.0, 14.0)]
    assert other.unauthorized_rounds == 2
    assert pauses == [2.0, 2.0, 1.5, 2.0]


def test_a_good_reply_ends_the_count_of_rounds_of_401() -> None:
    """Else refusals that are days apart would lose the task."""
    given = record()
    for now in (1.0, 11.0):
        count_unauthorized(given, at(now))
    assert given.unauthorized_rounds == 2
    meet(given, task(), 21.0)
    assert given.unauthorized_rounds == 0


def test_another_word_for_the_same_state_is_no_contradiction() -> None:
    """A collection may write a state in other letters than the task itself does."""
    given = record()
    meet(given, task())
    found = attrs.evolve(task(), raw_state="RUNNING")
    assert not contradicts(given, found, at(2.0))
    backwards = attrs.evolve(task("OperationFinished"), raw_state="other")
    meet(given, task("Finished", OK), 3.0)
    assert contradicts(given, backwards, at(4.0))
