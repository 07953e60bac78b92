"""Which job sessions are asked for together, and when that pays."""

import weakref

import pytest
from support.trackers import followed

from veeam_tasks import JobSession, SessionState
from veeam_tasks._engine.due_queue import GRID
from veeam_tasks._engine.records import DueState
from veeam_tasks._engine.run_batches import (
    SessionBatches,
    hash_of_page,
    is_unchanged,
)
from veeam_tasks._engine.run_records import RunRecord


def run(
    number: int, due: float = DueState.READY, kind: str = "BackupJobSession"
) -> RunRecord:
    """Return the record of a followed job session, due at a time or now."""
    session = JobSession(
        session_id=f"00000000-0000-0000-0000-{number:012}",
        kind=kind,
        state=SessionState.WORKING,
        raw_state="Working",
    )
    record = followed(session, number)
    record.due = int(due) if due < 0 else int(due / GRID)
    return record


def batches(*records: RunRecord, **options: object) -> SessionBatches:
    """Return what knows of the records, asked for in this order."""
    made = SessionBatches(**({"mode": "auto"} | options))  # type: ignore[arg-type]
    for record in records:
        made.note_asked(record)
    return made


def test_those_that_are_due_or_soon_come_along() -> None:
    """Up to a quarter of its pause early; they are being polled from then on."""
    lead, soon, late = run(1), run(2, due=102.4), run(3, due=103)
    found = batches(lead, soon, late).gather(lead, 100.0)
    assert found == [lead, soon]
    assert [one.due for one in found] == [DueState.POLLING] * 2
    assert late.due == int(103 / GRID)


def test_twenty_at_most_and_those_asked_for_longest_ago_first() -> None:
    """What is under way does not hide the others from the next query."""
    records = [run(number) for number in range(1000)]
    made = batches(*records)
    seen: list[RunRecord] = []
    while ready := [one for one in records if one.due == DueState.READY]:
        found = made.gather(ready[0], 0.0)
        assert len(found) == 20
        seen += found
    assert seen == records


@pytest.mark.parametrize("mode", ["auto", "never", "always"])
def test_kinds_and_what_is_single_are_left_out(mode: str) -> None:
    """A query is for one kind; what a query has missed is asked for singly."""
    lead, other, single, gone = run(1), run(2, kind="RestoreSession"), run(3), run(4)
    single.is_single = True
    gone.due = DueState.DROPPED
    same = run(5)
    made = batches(lead, other, single, gone, same, mode=mode)
    assert made.gather(single, 0.0) == [single]
    assert made.gather(lead, 0.0) == ([lead] if mode == "never" else [lead, same])


@pytest.mark.parametrize(
    ("single", "together", "count", "pays"),
    [
        (0.01, 0.02, 2, True),
        (0.01, 0.021, 2, False),
        (0.01, 0.1, 10, True),
        (0.01, 0.11, 10, False),
        (0.0, 0.0, 2, True),
    ],
)
def test_it_pays_if_a_query_takes_less_than_the_single_requests(
    single: float,
    together: float,
    count: int,
    pays: bool,
) -> None:
    """Both as measured; until then it is tried."""
    records = [run(number) for number in range(count)]
    made = batches(*records)
    made.note_single(single)
    for _ in range(4):
        made.note_together(together)
    assert (len(made.gather(records[0], 0.0)) == count) is pays


def test_what_does_not_pay_even_for_twenty_is_tried_again_after_a_minute() -> None:
    """What was measured under load may be otherwise later."""
    records = [run(number) for number in range(20)]
    made = batches(*records)
    for _ in range(4):
        made.note_together(0.3)
    made.note_single(0.01)
    made.note_single(0.01)
    assert len(made.gather(records[0], 0.0)) == 1
    for _ in range(8):
        made.note_single(0.01)
    for now, count in ((0.0, 1), (59.0, 1), (60.0, 20)):
        found = made.gather(records[0], now)
        assert len(found) == count


def test_what_was_slow_by_chance_decides_nothing() -> None:
    """It takes some queries, and the least of the last eight of them counts."""
    records = [run(number) for number in range(20)]
    made = batches(*records)
    made.note_single(0.01)
    for seconds in (0.5, 0.5, 0.5, 0.02, *[0.5] * 7):
        made.note_together(seconds)
        for record in records:
            record.due = DueState.READY
        assert len(made.gather(records[0], 0.0)) == 20
    made.note_together(0.5)
    assert made.together == 0.5
    assert made.gather(records[0], 0.0) == [records[0]]


@pytest.mark.parametrize(("busy", "count"), [(0.03, 20), (0.001, 1)])
def test_what_was_measured_on_an_idle_server_is_measured_anew(
    busy: float, count: int
) -> None:
    """Eight single requests show whether it is busier now; then they are compared."""
    records = [run(number) for number in range(20)]
    made = batches(*records)
    made.note_single(0.001)
    for _ in range(8):
        made.note_together(0.4)
    for _ in range(8):
        assert made.gather(records[0], 0.0) == [records[0]]
        made.note_single(busy)
    assert len(made.gather(records[0], 0.0)) == count
    assert (made._off_until > 0) is (count == 1)


def test_two_failures_in_a_row_or_a_refusal_switch_it_off() -> None:
    """For a minute, or for good."""
    records = [run(number) for number in range(3)]
    made = batches(*records)
    made.note_failed(0.0, is_refused=False)
    made.note_together(0.1)
    made.note_failed(1.0, is_refused=False)
    assert made._off_until == 0.0
    made.note_failed(2.0, is_refused=False)
    assert made.gather(records[0], 61.0) == [records[0]]
    made.note_failed(3.0, is_refused=True)
    assert made.gather(records[0], 1e9) == [records[0]]


def test_a_page_as_before_is_known_by_each_of_its_sessions() -> None:
    """In any order; not where one was told otherwise since, nor by a single reply."""
    one, two = run(1), run(2)
    one.unchanged_hash = two.unchanged_hash = hash_of_page(b"page")
    assert is_unchanged([two, one], b"page")
    assert not is_unchanged([one, two], b"other")
    for other in (None, hash_of_page(b"other"), hash(b"page")):
        two.unchanged_hash = other
        assert not is_unchanged([one, two], b"page")


def test_what_a_page_showed_of_each_session_is_kept_with_its_key() -> None:
    """With the very job session of those bytes, whatever single replies say later."""
    one, two, three = run(1), run(2), run(3)
    made = batches(one, two, three)
    sessions = [record.session for record in (two, one) if record.session is not None]
    made.note_shown([one, two, three], sessions, [22, 11])
    assert made.shown([one, two]) == {11: one.session, 22: two.session}
    seen, one.session = one.session, two.session
    assert made.shown([one]) == {11: seen}
    assert made.shown([three]) == {}
    made.note_shown([one], [], [])  # a page that was not cut
    assert made.shown([one]) == {11: seen}
    made.note_shown([one, two], sessions[:1], [33])
    assert made.shown([one, two]) == {33: two.session}


def test_what_has_ended_is_kept_by_nobody() -> None:
    """Also where none are asked for together: it would be kept as long as we run."""
    known, going = batches(mode="never"), run(0)
    gone = []
    for number in range(1, 500):
        one = run(number)
        for _ in range(3):
            known.note_asked(one)
            known.note_asked(going)
        one.due = DueState.DROPPED
        gone.append(weakref.ref(one))
    del one
    assert sum(ref() is not None for ref in gone) < 5
