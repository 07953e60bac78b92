"""Singly or together: the choice, from measured costs; pure."""

from veeam_tasks._engine.cost_model import FEWEST, CostModel


def measured(seconds: float = 0.001) -> CostModel:
    """Return a choice that knows what a single poll costs."""
    choice = CostModel()
    for _ in range(20):
        choice.note_single(seconds, 0)
    return choice


def prefers_collection(choice: CostModel, share: float, now: float = 0.0) -> bool:
    """Weigh a collection that costs `share` of asking one by one."""
    return choice.prefers_collection(
        watched=100, polls_a_second=100, pause=1, seconds=share * 0.1, size=0, now=now
    )


def test_it_changes_for_a_clear_gain_only() -> None:
    """Together at half the cost, back at most of it: no flapping in between."""
    choice = measured()
    assert not prefers_collection(choice, 0.6)
    assert prefers_collection(choice, 0.4)
    assert prefers_collection(choice, 0.7)
    assert not prefers_collection(choice, 0.9)
    assert not prefers_collection(choice, 0.7)


def test_few_tasks_and_few_measurements_are_not_worth_a_try() -> None:
    """A try needs some watched tasks, and polls that were measured."""
    assert not CostModel().may_try(1000, 0.0)
    assert not measured().may_try(FEWEST - 1, 0.0)
    assert measured().may_try(FEWEST, 0.0)


def test_eight_measured_polls_are_enough_to_try() -> None:
    """One fewer may be chance."""
    choice = CostModel()
    for _ in range(7):
        choice.note_single(0.001, 0)
    assert not choice.may_try(100, 0.0)
    choice.note_single(0.001, 0)
    assert choice.may_try(100, 0.0)


def test_time_and_bytes_cost_on_both_sides() -> None:
    """A megabyte costs as much as a tenth of a second; a pause spreads the cost."""
    choice = CostModel()
    # The first poll counts whole, each later one for a tenth.
    choice.note_single(0.001, 10_000)
    choice.note_single(0.012, 0)
    together = {"watched": 100, "polls_a_second": 100.0, "now": 0.0}
    choice.prefers_collection(**together, pause=1.0, seconds=0.15, size=1_500_000)
    assert "costs 1.00 of asking one by one, and below 0.5 it is" in choice.reason
    choice.prefers_collection(**together, pause=4.0, seconds=0.15, size=1_500_000)
    assert "costs 0.25 of asking one by one" in choice.reason


def test_nothing_measured_is_no_reason_to_ask_together() -> None:
    """What a single poll costs is not known, so no share of it is small."""
    assert not prefers_collection(CostModel(), 0.01)


def test_what_was_found_dearer_is_tried_again_later_or_with_many_more() -> None:
    """A failed try is put off, unless twice as many tasks are watched."""
    choice = measured()
    assert not prefers_collection(choice, 2.0, now=0.0)
    assert not choice.may_try(100, 1.0)
    assert not choice.may_try(199, 1.0)
    assert choice.may_try(200, 1.0)
    assert choice.may_try(100, 3600.0)


def test_a_refusal_is_for_good_and_a_fault_is_not() -> None:
    """After a refusal nothing is tried again; after a fault it is, later."""
    refused, failed = measured(), measured()
    refused.disable("refused", 0.0, for_good=True)
    failed.disable("cut", 0.0, for_good=False)
    assert not refused.may_try(10_000, 1e9)
    assert not prefers_collection(refused, 0.01, now=1e9)
    assert not failed.may_try(10_000, 1.0)
    assert failed.may_try(100, 3600.0)
    assert "cut" in failed.reason


def test_twice_the_usual_time_is_late() -> None:
    """A collection that takes twice its usual time, and half a second, is late."""
    choice = CostModel()
    assert not choice.is_late(1.0)
    assert not choice.is_late(2.0)
    assert choice.is_late(4.0)


def test_the_usual_time_is_learnt_slowly_and_not_from_what_is_late() -> None:
    """A tenth of each collection counts; after a break it is learnt anew."""
    choice = CostModel()
    assert not choice.is_late(1.0)
    assert not choice.is_late(2.4)  # now 1.14 is usual
    assert choice.is_late(2.79)
    assert choice.is_late(2.79)
    assert not choice.is_late(2.77)
    choice.disable("late", 0.0, for_good=False)
    assert not choice.is_late(100.0)


def test_breaks_grow_to_an_hour_and_begin_anew_after_a_success() -> None:
    """Each is twice as long as the one before."""
    choice, now = measured(), 0.0
    for seconds in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        choice.disable("cut", now, for_good=False)
        assert choice.is_disabled(now + seconds - 0.1)
        now += seconds
        assert not choice.is_disabled(now)
    assert prefers_collection(choice, 0.4, now)
    choice.disable("cut", now, for_good=False)
    assert choice.is_disabled(now + 59.9)
    assert not choice.is_disabled(now + 60)


def test_a_near_miss_is_tried_again_before_what_is_watched_has_doubled() -> None:
    """Where a few more would have been enough, a few more are."""
    model = CostModel()
    for _ in range(8):
        model.note_single(0.001, 0)
    weighed = {"watched": 80, "polls_a_second": 100, "pause": 1.0, "size": 0}
    assert not model.prefers_collection(**weighed, seconds=0.055, now=0.0)
    assert not model.may_try(87, 1.0)
    assert model.may_try(88, 1.0)
    assert not model.prefers_collection(**weighed, seconds=0.5, now=2.0)
    assert not model.may_try(159, 3.0)
    assert model.may_try(160, 3.0)
