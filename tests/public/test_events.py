"""Events, their merging for a slow reader, and the report."""

import copy
import pickle
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import (
    Report,
    RunStage,
    Task,
    TaskEvent,
    TaskFailedError,
    TaskLostError,
    TaskResult,
    TaskState,
    TransportError,
    WatchTimeoutError,
)
from veeam_tasks._engine.pending_event import PendingEvent
from veeam_tasks._events import Observation, lost_error, outcome_of

START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("Running", "OperationFinished", "Queued", "Paused")
ENDS = ("ok", "failed", "no result", "lost", "lost unseen")


def task(word: str, *, success: bool | None = None, name: str = "task-1") -> Task:
    """Return a task by the server's word."""
    return Task(
        task_id=name,
        state=TaskState.from_word(word),
        raw_state=word,
        operation="StartJob",
        result=None if success is None else TaskResult(success=success, message="Ok"),
    )


def observation(word: str, second: int = 0) -> Observation:
    """Return what a poll at a second showed: a word of the server, or an end."""
    at = START + timedelta(seconds=second)
    before = at - timedelta(seconds=1)
    if word.startswith("lost"):
        error = TaskLostError(task_id="task-1", last_seen=None, reason="gone")
        return Observation(
            task_id="task-1",
            task=task("Running") if word == "lost" else None,
            state=TaskState.LOST,
            is_final=True,
            observed_at=at,
            not_before=before,
            generation=1,
            error=error,
        )
    is_final = word in ENDS
    shown = task(
        "Finished" if is_final else word,
        success={"ok": True, "failed": False}.get(word),
    )
    return Observation(
        task_id="task-1",
        task=shown,
        state=shown.state,
        is_final=is_final,
        observed_at=at,
        not_before=before,
        generation=1,
    )


def play(pending: PendingEvent, words: list[str], reads: list[bool]) -> list[TaskEvent]:
    """Observe each word; read after it where the reader does. Return what came."""
    read: list[TaskEvent] = []
    for second, word in enumerate(words):
        is_owed = pending.observe(observation(word, second))
        assert is_owed is (pending.owed is not None)
        if second < len(reads) and reads[second] and pending.owed is not None:
            read.append(pending.deliver())
    if pending.owed is not None:
        read.append(pending.deliver())
    return read


def word_of(event: TaskEvent) -> str:
    """Return what makes a state of its own, as the server said it."""
    if event.state is TaskState.UNKNOWN:
        assert event.task is not None
        return event.task.raw_state
    return str(event.state)


scripts = st.tuples(
    st.lists(st.sampled_from(WORDS), min_size=0, max_size=12),
    st.sampled_from([*ENDS, None]),
).map(lambda drawn: [*drawn[0], *([drawn[1]] if drawn[1] else [])])


@given(words=scripts, reads=st.lists(st.booleans(), max_size=14))
def test_delivery_contract(words: list[str], reads: list[bool]) -> None:
    """The contract: found first, changes in order, never twice, one final event, last.

    "`event.previous` is always the state of the event delivered before it"; "A reader
    that is slow may be spared states in between but never the final event".
    """
    pending = PendingEvent()
    read = play(pending, words, reads)
    assert [event.sequence for event in read] == list(range(1, len(read) + 1))
    before: TaskEvent | None = None
    for event in read:
        assert event.previous == (None if before is None else before.state)
        if before is None:
            assert event.not_before is None
        else:
            assert event.not_before is not None
            assert event.not_before <= event.observed_at
            assert event.observed_at > before.observed_at
            assert event.is_final or word_of(event) != word_of(before)
        before = event
    finals = [event.is_final for event in read]
    has_end = bool(words) and words[-1] in ENDS
    assert finals.count(True) == has_end
    assert not has_end or finals[-1]
    # What was delivered is a part of what was there, in its order.
    seen = iter(words)
    told = [word_of(event) for event in read if not event.is_final]
    assert all(word in seen for word in told)
    if words and not has_end:
        assert before is not None
        assert word_of(before) == words[-1]
    assert pending.latest is before
    assert pending.is_final is has_end


@given(words=scripts)
def test_quick_reader_misses_nothing(words: list[str]) -> None:
    """A reader that is quick sees each change, and the same state once."""
    read = play(PendingEvent(), words, [True] * len(words))
    changes = [
        word for word, old in zip(words, [None, *words], strict=False) if word != old
    ]
    assert len(read) == len(changes)


@given(words=scripts)
def test_reader_that_never_reads(words: list[str]) -> None:
    """A reader that never reads is owed one event: the found state, or the final."""
    pending = PendingEvent()
    for second, word in enumerate(words):
        pending.observe(observation(word, second))
        assert pending.owed is not None
        assert pending.owed.sequence == 1
        assert pending.owed.previous is None
    assert pending.is_final is (bool(words) and words[-1] in ENDS)


def test_return_to_the_delivered_state_takes_back() -> None:
    """A change that returns to the state delivered last is no event."""
    pending = PendingEvent()
    pending.observe(observation("Running"))
    first = pending.deliver()
    assert pending.observe(observation("OperationFinished", 1))
    assert not pending.observe(observation("Running", 2))
    assert pending.owed is None
    assert pending.latest is first


def test_owed_event_keeps_its_time() -> None:
    """An owed event tells when its state was seen first, also if it is seen again."""
    pending = PendingEvent()
    pending.observe(observation("Running", 0))
    pending.observe(observation("Running", 1))
    assert pending.deliver().observed_at == START


def test_two_unknown_words_are_two_states() -> None:
    """Two different unknown words are two states."""
    read = play(PendingEvent(), ["Queued", "Paused", "Paused", "ok"], [True] * 4)
    assert [event.state for event in read] == [
        TaskState.UNKNOWN,
        TaskState.UNKNOWN,
        TaskState.FINISHED,
    ]
    assert read[1].previous is TaskState.UNKNOWN


def test_final_event_is_the_last() -> None:
    """After the final event nothing is observed any more."""
    pending = PendingEvent()
    pending.observe(observation("ok"))
    assert pending.observe(observation("Running", 1))
    assert pending.deliver().is_final
    assert not pending.observe(observation("Running", 2))


@pytest.mark.parametrize(
    ("end", "succeeded", "outcome"),
    [
        ("ok", True, "succeeded"),
        ("failed", False, "failed"),
        ("no result", None, "failed"),
        ("lost", None, "lost"),
        ("lost unseen", None, "lost"),
        ("Running", None, "unfinished"),
    ],
)
def test_outcomes(end: str, succeeded: bool | None, outcome: str) -> None:
    """`succeeded` is None for LOST; Finished without a Result counts as failed."""
    (event,) = play(PendingEvent(), [end], [])
    assert event.succeeded is succeeded
    assert outcome_of(event) == outcome
    assert (event.error is None) is not end.startswith("lost")
    assert (event.task is None) is (end == "lost unseen")
    report = Report(outcomes={"task-1": event})
    for word in ("succeeded", "failed", "lost", "unfinished"):
        assert getattr(report, word) == (("task-1",) if word == outcome else ())


def test_before_the_first_event() -> None:
    """Before the first event an outcome is None, and the task unfinished."""
    report = Report(outcomes={"task-2": None, "task-1": None})
    assert report.unfinished == ("task-2", "task-1")
    report.raise_for_failures()
    assert repr(report) == (
        "<Report of 2 tasks: 0 succeeded, 0 failed, 0 lost, 2 unfinished\n"
        "  task-2       unfinished not seen\n"
        "  task-1       unfinished not seen>"
    )


def events(*ends: str) -> dict[str, TaskEvent | None]:
    """Return outcomes of task-1, task-2 and so on by their ends."""
    made: dict[str, TaskEvent | None] = {}
    for number, end in enumerate(ends, 1):
        (event,) = play(PendingEvent(), [end], [])
        name = f"task-{number}"
        shown = event.task and attrs.evolve(event.task, task_id=name)
        made[name] = attrs.evolve(event, task_id=name, task=shown)
    return made


def test_each_kind_of_failure_is_caught_by_itself() -> None:
    """As the documentation of `raise_for_failures` shows it."""
    report = Report(outcomes=events("failed", "lost"))
    failed: list[BaseException] = []
    lost: list[BaseException] = []
    try:
        report.raise_for_failures()
    except* TaskFailedError as group:
        failed += group.exceptions
    except* TaskLostError as group:
        lost += group.exceptions
    assert [type(error) for error in (*failed, *lost)] == [
        TaskFailedError,
        TaskLostError,
    ]


def test_raise_for_failures() -> None:
    """`raise_for_failures()` raises a group of TaskFailedError and TaskLostError."""
    report = Report(outcomes=events("ok", "failed", "no result", "lost", "Running"))
    with pytest.raises(ExceptionGroup) as caught:
        report.raise_for_failures()
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [TaskFailedError, TaskFailedError, TaskLostError]
    assert "3 of 5 tasks failed or were lost" in str(caught.value)
    assert "the server gave no result" in str(caught.value.exceptions[1])


def test_report_is_a_snapshot() -> None:
    """A report does not change with the mapping that it was made of, nor by hand."""
    outcomes = events("ok")
    report = Report(outcomes=outcomes)
    outcomes["task-9"] = None
    assert list(report.outcomes) == ["task-1"]
    with pytest.raises(TypeError):
        report.outcomes["task-9"] = None  # type: ignore[index] # the point


def test_report_reads_as_a_table() -> None:
    """The `repr` of a report is a short table of what did not succeed."""
    report = Report(outcomes=events("ok", "failed", "lost", "Running"))
    assert repr(report).splitlines() == [
        "<Report of 4 tasks: 1 succeeded, 1 failed, 1 lost, 1 unfinished",
        "  task-2       failed     Finished StartJob 'Ok'",
        "  task-3       lost       it was never seen: gone",
        "  task-4       unfinished Running StartJob>",
    ]
    many = Report(outcomes=events(*["failed"] * 12))
    assert repr(many).splitlines()[-1] == "  and 2 more>"


def test_report_of_one() -> None:
    """One task is not "1 tasks"."""
    assert repr(Report(outcomes=events("ok"))) == (
        "<Report of 1 task: 1 succeeded, 0 failed, 0 lost, 0 unfinished>"
    )


def test_event_reads_well() -> None:
    """The `repr` of an event is what a person wants to read."""
    read = play(PendingEvent(), ["Running", "Queued", "ok"], [True] * 3)
    assert [repr(event) for event in read] == [
        "<TaskEvent #1 task-1 Running>",
        "<TaskEvent #2 task-1 Running -> Queued>",
        "<TaskEvent #3 task-1 Unknown -> Finished succeeded 'Ok'>",
    ]
    (lost,) = play(PendingEvent(), ["lost"], [])
    assert repr(lost) == ("<TaskEvent #1 task-1 Lost 'it was never seen: gone'>")
    same, end = play(PendingEvent(), ["Finished", "no result"], [True] * 2)
    assert (same.previous, end.previous) == (None, TaskState.FINISHED)
    assert repr(end) == "<TaskEvent #2 task-1 Finished failed without a result>"
    (failed,) = play(PendingEvent(), ["failed"], [])
    assert repr(failed) == "<TaskEvent #1 task-1 Finished failed 'Ok'>"
    (bare,) = play(PendingEvent(), ["no result"], [])
    assert repr(bare) == "<TaskEvent #1 task-1 Finished failed without a result>"
    assert bare.task is not None
    mute = attrs.evolve(bare.task, result=TaskResult(success=True))
    said = attrs.evolve(bare, task=mute, succeeded=True)
    assert repr(said) == "<TaskEvent #1 task-1 Finished succeeded>"


def test_lost_error_of_an_event() -> None:
    """`wait` raises what the LOST event says; any other reason becomes a TaskLostError.

    The copy is fresh, so that those who raise it share no traceback.
    """
    (event,) = play(PendingEvent(), ["lost"], [])
    raised = lost_error(event)
    assert str(raised) == str(event.error)
    assert raised is not event.error
    why = TransportError(request="GET x", reason="reset")
    wrapped = lost_error(attrs.evolve(event, error=why))
    assert wrapped.last_seen is event.task
    assert "GET x: reset" in str(wrapped)


def test_timeout_error() -> None:
    """`WatchTimeoutError` is also a builtin TimeoutError and has `.report`."""
    report = Report(outcomes=events("ok", *["Running"] * 4))
    error = WatchTimeoutError(seconds=2.5, report=report)
    assert isinstance(error, TimeoutError)
    assert error.report is report
    assert str(error) == (
        "time ran out after 2.5 s with 4 of 5 tasks unfinished"
        " (task-2, task-3, task-4, ...); the operations go on"
    )
    why = WatchTimeoutError(seconds=2.5, report=report, trouble="a poll went wrong")
    assert str(why) == f"{error}; a poll went wrong"
    two = WatchTimeoutError(seconds=1, report=Report(outcomes=events("Running")))
    assert "1 of 1 tasks unfinished (task-1)" in str(two)


def test_a_timeout_while_a_job_session_is_searched_for_says_so() -> None:
    """The task itself has finished, so nothing is said to go on."""
    outcomes = events(*["Running"] * 2)
    found = outcomes["task-2"]
    assert found is not None
    outcomes["task-2"] = attrs.evolve(found, stage=RunStage.SEARCHING)
    error = WatchTimeoutError(seconds=9, report=Report(outcomes=outcomes))
    assert str(error) == (
        "time ran out after 9 s with the job session of 1 of 2 tasks not found yet"
        " (task-2) and 1 of 2 tasks unfinished (task-1); the operations go on"
    )
    del outcomes["task-1"]
    error = WatchTimeoutError(seconds=9, report=Report(outcomes=outcomes))
    assert str(error).endswith("of 1 of 1 tasks not found yet (task-2)")


def test_reports_and_events_survive_copies() -> None:
    """A report, an event and the error with a report are copied and pickled."""
    report = Report(outcomes=events("ok", "failed", "lost"))
    for again in (copy.copy(report), copy.deepcopy(report)):
        assert list(again.outcomes) == list(report.outcomes)
    revived = pickle.loads(pickle.dumps(report))
    assert (revived.failed, revived.lost) == (report.failed, report.lost)
    assert type(revived.outcomes) is type(report.outcomes)
    error = WatchTimeoutError(seconds=1, report=report)
    assert pickle.loads(pickle.dumps(error)).report.failed == report.failed
