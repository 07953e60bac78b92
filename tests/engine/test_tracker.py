"""The tracker: who is watched by whom, and where each record stands."""

import gc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.trackers import QUICK, SLOW, Scene, Wanting

from veeam_tasks._engine.due_queue import GRID
from veeam_tasks._engine.records import BUSY, DueState, TaskRecord
from veeam_tasks._engine.tracker import Tracker


def test_newcomers_are_asked_for_one_after_the_other() -> None:
    """The first at once, the next a millisecond later each: quick, but no burst."""
    scene = Scene()
    wanting = Wanting()
    ids = [f"task-{number}" for number in range(200)]
    scene.add(wanting, *ids)
    assert scene.taken() == ids[:1]
    taken = []
    for _ in range(12):
        scene.loop.move_to(scene.loop.now + GRID)
        came = scene.taken()
        assert len(came) <= 21
        taken += came
    assert taken == ids[1:]


def test_more_newcomers_than_a_pause_has_room_for_are_scattered_over_it() -> None:
    """Ten thousand are not queued for ten seconds when the pace says two."""
    scene = Scene()
    ids = [f"task-{number}" for number in range(10_000)]
    wanting = Wanting(QUICK)
    scene.add(wanting, *ids)
    scene.loop.move_to(scene.loop.now + QUICK.first + 2 * GRID)
    assert sorted(scene.taken()) == sorted(ids)


def test_two_watches_share_a_record_and_the_quicker_pace() -> None:
    """One poll for both; when the quick one leaves, the pace is the slow one's."""
    scene = Scene()
    slow, quick = Wanting(SLOW), Wanting(QUICK)
    scene.add(slow, "task-1")
    record = scene.record("task-1")
    assert (record.pace, record.pause) == (SLOW, 10)
    leaving = scene.add(quick, "task-1")
    assert (record.pace, record.pause) == (QUICK, 2)
    assert len(scene.tracker.records) == 1
    scene.tracker.discard(leaving, ["task-1"])
    assert record.pace == SLOW


def test_among_many_the_pace_of_one_goes_with_it() -> None:
    """Ten thousand others of one pace do not keep the quick one's for ever."""
    scene = Scene()
    quick = scene.add(leader := Wanting(QUICK), "task-1")
    others = [Wanting(SLOW) for _ in range(100)]
    refs = [scene.add(other, "task-1") for other in others]
    record = scene.record("task-1")
    assert (record.pace, leader.pace) == (QUICK, QUICK)
    scene.tracker.discard(refs[0], ["task-1"])
    scene.tracker.add(refs[1], ["task-1"])
    assert record.pace == QUICK
    scene.tracker.discard(quick, ["task-1"])
    assert (record.pace, record.pause) == (SLOW, 10)
    assert len(record.subscribers) == 99


def test_a_newcomer_brings_the_next_poll_forward_and_forgets_the_digest() -> None:
    """An unchanged body is news to whoever comes anew."""
    scene = Scene()
    first, second = Wanting(), Wanting()
    scene.add(first, "task-1")
    assert scene.taken() == ["task-1"]
    record = scene.record("task-1")
    record.unchanged_hash = 7
    scene.tracker.reschedule(record, 10)
    scene.loop.move_to(105)
    scene.add(second, "task-1")
    assert record.unchanged_hash is None
    assert scene.taken() == ["task-1"]
    # While it is being asked for, it is not asked for a second time.
    third = Wanting()
    scene.add(third, "task-1")
    assert record.due == DueState.POLLING


def test_a_discard_of_what_is_not_wanted_is_nothing() -> None:
    """Unknown IDs, and tasks that only somebody else wants, stay as they are."""
    scene = Scene()
    one, other = Wanting(), Wanting()
    scene.add(one, "task-1")
    reference = scene.add(other, "task-2")
    scene.tracker.discard(reference, ["task-1", "task-9"])
    assert list(scene.tracker.records) == ["task-1", "task-2"]
    scene.tracker.discard(reference, ["task-2"])
    assert list(scene.tracker.records) == ["task-1"]


def test_a_record_of_somebody_forgotten_is_dropped_as_it_comes_due() -> None:
    """Nobody walks over all records when a watch goes."""
    scene = Scene()
    wanting, stays = Wanting(), Wanting()
    reference = scene.add(wanting, "task-1", "task-2")
    scene.add(stays, "task-2")
    assert scene.tracker.is_known(reference)
    del wanting
    gc.collect()
    assert not scene.tracker.is_known(reference)
    assert list(scene.tracker.records) == ["task-1", "task-2"]
    scene.loop.move_to(101)
    assert scene.taken() == ["task-2"]
    assert list(scene.tracker.records) == ["task-2"]


def test_who_has_gone_is_taken_out_of_the_records_that_others_want() -> None:
    """With its pace, and before the record is asked for or wanted once more."""
    scene = Scene()
    stays = Wanting(SLOW)
    scene.add(stays, "task-1")
    record = scene.record("task-1")
    for _ in range(100):
        scene.add(Wanting(QUICK), "task-1")
        gc.collect(0)
        assert len(record.subscribers) <= 3
    gc.collect()
    assert scene.taken() == ["task-1"]
    assert len(record.subscribers) == 1
    assert (record.pace, record.pause) == (SLOW, 10)


def test_who_wanted_many_is_taken_out_in_portions() -> None:
    """So that a forgotten watch of very many does not hold the loop."""
    scene = Scene()
    stays, many = Wanting(), [f"task-{number}" for number in range(1000)]
    scene.add(wanting := Wanting(), *many)
    scene.add(stays, "task-1000")
    del wanting
    gc.collect()
    sizes = [len(scene.tracker.records)]
    while sizes[-1] > 1:
        scene.tracker.prune_gone()
        sizes.append(len(scene.tracker.records))
    assert max(before - after for before, after in pairwise(sizes)) <= 100
    scene.tracker.prune_gone()
    assert list(scene.tracker.records) == ["task-1000"]


def test_counting_the_watched_changes_nothing() -> None:
    """What nobody wants any more is not counted, and dropped only when it is due."""
    scene = Scene()
    wanting, stays = Wanting(), Wanting()
    scene.add(wanting, "task-1", "task-2")
    scene.add(stays, "task-2", "task-3")
    assert scene.tracker.watched == 3
    del wanting
    gc.collect()
    before = {record: record.due for record in scene.tracker.records.values()}
    assert scene.tracker.watched == 2
    assert {one: one.due for one in scene.tracker.records.values()} == before


def test_counting_the_watched_bears_changes_meanwhile() -> None:
    """As the loop makes them while another thread counts."""
    scene = Scene()
    stays = Wanting()
    scene.add(stays, "task-1", "task-2")

    def meddle() -> None:
        scene.add(stays, f"task-{len(scene.tracker.records) + 1}")
        scene.record("task-1").subscribers[lambda: None] = None  # type: ignore[index]

    scene.record("task-1").subscribers = {meddle: None}  # type: ignore[dict-item]
    assert scene.tracker.watched == 1
    assert scene.tracker.watched == 2
    assert len(scene.tracker.records) == 4


def test_somebody_gone_before_the_add_is_harmless() -> None:
    """A dead reference wants nothing, and its record is dropped when due."""
    scene = Scene()
    reference = scene.tracker.reference(Wanting())
    gc.collect()
    scene.tracker.add(reference, ["task-1"])
    assert scene.record("task-1").pace == SLOW
    assert scene.taken() == []
    assert scene.tracker.records == {}


def test_a_dropped_record_does_not_take_its_successor_along() -> None:
    """Discarded and added anew in mid-poll, there are two records of one ID."""
    scene = Scene()
    wanting = Wanting()
    reference = scene.add(wanting, "task-1")
    old = scene.tracker.take()
    assert old is not None
    scene.tracker.discard(reference, ["task-1"])
    scene.add(wanting, "task-1")
    scene.tracker.drop(old)
    assert scene.record("task-1") is not old
    scene.loop.move_to(101)
    assert scene.taken() == ["task-1"]


def test_clear_returns_those_who_are_there() -> None:
    """Each is told once that nothing can go on; no timer is left."""
    scene = Scene()
    one, other, gone = Wanting(), Wanting(), Wanting()
    scene.add(one, "task-1", "task-2")
    scene.tracker.admit(scene.tracker.reference(other))
    scene.add(gone, "task-3")
    forgotten = scene.add(quiet := Wanting(), "task-4")
    scene.tracker.forget(forgotten)
    del gone
    gc.collect()
    assert quiet not in (told := scene.tracker.clear())
    assert set(map(id, told)) == {id(one), id(other)}
    assert (scene.tracker.records, scene.loop.timers) == ({}, [])
    assert scene.tracker.clear() == []


@pytest.mark.parametrize(("pause", "due"), [(0.0, True), (-1.0, True), (0.5, False)])
def test_again_at_once_or_after_a_pause(pause: float, due: bool) -> None:
    """A pause of nothing needs no timer."""
    scene = Scene()
    wanting = Wanting()
    scene.add(wanting, "task-1")
    record = scene.tracker.take()
    assert record is not None
    scene.tracker.reschedule(record, pause)
    assert (scene.taken() == ["task-1"]) is due
    scene.loop.move_to(scene.loop.now + 0.5 + GRID)
    assert (scene.taken() == []) is due


def test_together_newcomers_wait_for_the_collection_and_are_scattered_later() -> None:
    """No timer of their own while the collection answers for all."""
    scene = Scene()
    scene.tracker.is_together = True
    wanting = Wanting()
    ids = [f"task-{number}" for number in range(100)]
    scene.add(wanting, *ids)
    assert scene.loop.timers == []
    assert {record.due for record in scene.tracker.records.values()} == {
        DueState.IN_COLLECTION
    }
    scene.record("task-0").due = DueState.POLLING
    scene.tracker.leave_collection()
    scene.loop.move_to(102)
    first = scene.taken()
    assert 0 < len(first) < 60
    scene.loop.move_to(111)
    assert sorted(first + scene.taken()) == sorted(ids[1:])


def test_what_waited_in_the_closed_queue_comes_one_by_one() -> None:
    """A thousand that are ready are spread over two seconds, one over one."""
    scene = Scene()
    wanting = Wanting()
    ids = [f"task-{number}" for number in range(1000)]
    scene.add(wanting, *ids)
    scene.loop.move_to(200)
    scene.record("task-0").due = DueState.DROPPED
    scene.tracker.queue.open()
    assert not scene.tracker.queue.ready
    most, taken = 0, 0
    while scene.loop.now < 202 + GRID:
        scene.loop.move_to(scene.loop.now + 0.1)
        came = len(scene.taken())
        most, taken = max(most, came), taken + came
    assert taken == 999
    assert most < 100


def test_a_probe_may_be_any_record_that_nobody_has() -> None:
    """One that is due rather than one that is not; none that is being asked for."""
    scene = Scene()
    wanting = Wanting()
    scene.add(wanting, "task-1", "task-2", "task-3")
    assert scene.taken() == ["task-1"]
    scene.tracker.queue.add(scene.record("task-3"))
    for expected in ("task-3", "task-2"):
        record = scene.engine._take_probe()
        assert isinstance(record, TaskRecord)
        assert (record.task_id, record.due) == (expected, DueState.POLLING)
        assert scene.health.probe is record
    assert scene.engine._take_probe() is None
    assert scene.health.probe is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add",
                "discard",
                "take",
                "answer",
                "now",
                "first",
                "spread",
                "together",
                "scatter",
                "prune",
                "wait",
            ]
        ),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=50,
)


@given(steps=STEPS)
def test_each_wanted_task_stands_in_one_place_and_comes_due(
    steps: list[tuple[str, int, int]],
) -> None:
    """Whoever comes and goes: one record a task, in one place, due within a pause."""
    scene = Scene()
    tracker = scene.tracker
    people = [Wanting(SLOW), Wanting(QUICK), Wanting(SLOW)]
    refs = [tracker.reference(one) for one in people]
    wanted: set[tuple[int, str]] = set()
    polled: list[TaskRecord] = []
    for what, who, number in steps:
        task_id = f"task-{number}"
        if what == "add":
            tracker.add(refs[who], [task_id])
            wanted.add((who, task_id))
        elif what == "discard":
            tracker.discard(refs[who], [task_id])
            wanted.discard((who, task_id))
        elif what == "take":
            polled += [one for one in [tracker.take()] if one is not None]
        else:
            act(scene, what, number, polled)
        assert set(tracker.records) == {one for _, one in wanted}
        assert_places(tracker, polled)
    tracker.leave_collection()
    for record in polled:
        if record.due == DueState.POLLING:
            tracker.reschedule(record, 5)
    scene.loop.move_to(scene.loop.now + SLOW.first + GRID)
    assert set(scene.taken()) == {one for _, one in wanted}


def act(scene: Scene, what: str, number: int, polled: list[TaskRecord]) -> None:
    """Do one thing that changes nobody's wants."""
    tracker = scene.tracker
    if what in {"answer", "now"}:
        for record in polled[:1]:
            if record.due == DueState.POLLING:
                tracker.reschedule(record, 0 if what == "now" else 5)
        del polled[:1]
    elif what == "first":
        for record in tracker.records.values():
            if record.due >= 0:
                tracker.schedule_first(record)
    elif what == "together":
        tracker.is_together = True
    elif what == "wait":
        scene.loop.move_to(scene.loop.now + number)
    else:
        {
            "spread": tracker.queue.open,
            "scatter": tracker.leave_collection,
            "prune": tracker.prune_gone,
        }[what]()


def assert_places(tracker: Tracker, polled: list[TaskRecord]) -> None:
    """Assert that each record is where its due state says, and only there."""
    queue = tracker.queue
    for record in tracker.records.values():
        ready = [one for one in queue.ready if one is record]
        timed = [
            tick
            for tick, bucket in queue._buckets.items()
            if record in bucket and record.due == tick
        ]
        mine = [one for one in polled if one is record and one.due == DueState.POLLING]
        places = {
            DueState.READY: bool(ready),
            DueState.POLLING: bool(mine),
            DueState.IN_COLLECTION: True,
        }
        assert places.get(DueState(record.due)) if record.due < 0 else len(timed) == 1
        assert record.due not in BUSY or mine


def test_of_what_the_server_asked_for_the_latest_is_kept() -> None:
    """Of ten thousand tasks that nobody wants any more."""
    scene = Scene()
    ids = [f"task-{number}" for number in range(10_001)]
    wanting = Wanting()
    reference = scene.add(wanting, *ids)
    until = scene.loop.now + 60.0
    for task_id in ids:
        scene.record(task_id).not_before = until
        scene.tracker.discard(reference, [task_id])
    scene.add(wanting, *ids[:2])
    assert [scene.record(one).not_before for one in ids[:2]] == [0.0, until]
