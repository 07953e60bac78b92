"""The queue: due times on a grid, one timer, closed while the server is down."""

import asyncio
import itertools
import math
import sys
import weakref
from types import FrameType
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.manual_loop import manual_loop

from veeam_tasks import Pace
from veeam_tasks._engine.due_queue import GRID, DueQueue
from veeam_tasks._engine.records import DueState, TaskRecord


class Counting(DueQueue):
    """A queue that counts how often it woke pollers."""

    wakes = 0

    def wake(self, count: int = 1) -> None:
        """Wake, and count it."""
        super().wake(count)
        self.wakes += 1


class Woken:
    """A queue on a clock moved by hand, and how often it woke somebody."""

    def __init__(self, now: float = 0.0) -> None:
        self.loop = manual_loop(now)
        self.queue = Counting(loop=self.loop)

    @property
    def wakes(self) -> int:
        """How often pollers were woken."""
        return self.queue.wakes

    def ready(self) -> list[str]:
        """Return the IDs that are ready, in order, and let them be polled."""
        taken = [one for one in self.queue.ready if one.due == DueState.READY]
        self.queue.ready.clear()
        for one in taken:
            one.due = DueState.POLLING
        return [one.task_id for one in taken]


def record(task_id: str = "a") -> TaskRecord:
    """Return a record that stands nowhere yet."""
    return TaskRecord(task_id=task_id, pace=Pace(), first_generation=1)


@pytest.mark.parametrize(
    ("delay", "at"), [(0.5, 0.5), (0.501, 0.52), (0.001, 0.02), (0.0, 0.0)]
)
def test_due_times_are_rounded_up_to_the_grid(delay: float, at: float) -> None:
    """Never earlier than asked for, and on a tick that others may share."""
    woken = Woken()
    one = record()
    woken.queue.add_after(one, delay)
    assert woken.loop.timers == [pytest.approx(at)]
    assert one.due == round(at / GRID)
    woken.loop.move_to(at - 0.001)
    assert woken.ready() == []
    woken.loop.move_to(at + 0.001)
    assert woken.ready() == ["a"]


def test_one_wake_serves_all_of_a_tick() -> None:
    """Records of one tick cost one timer and one wake."""
    woken = Woken()
    for name in "abc":
        woken.queue.add_after(record(name), 0.99)
    assert woken.loop.armed == 1
    woken.loop.move_to(2)
    assert woken.wakes == 1
    assert woken.ready() == ["a", "b", "c"]
    assert woken.loop.timers == []


def test_the_timer_is_armed_anew_only_for_an_earlier_time() -> None:
    """One timer, always for the next tick; the clock is never polled."""
    woken = Woken()
    woken.queue.add_after(record("late"), 9)
    woken.queue.add_after(record("later"), 20)
    assert woken.loop.armed == 1
    woken.queue.add_after(record("soon"), 1)
    assert woken.loop.timers == [pytest.approx(1)]
    woken.loop.move_to(1)
    assert woken.ready() == ["soon"]
    assert woken.loop.timers == [pytest.approx(9)]
    woken.loop.move_to(100)
    assert woken.ready() == ["late", "later"]
    assert (woken.wakes, woken.loop.armed) == (3, 4)


def test_a_record_that_moved_is_skipped_where_it_stood() -> None:
    """It stands in one place only; nobody is woken for an empty tick."""
    woken = Woken()
    one = record()
    woken.queue.add_after(one, 1)
    woken.queue.add_after(one, 5)
    woken.loop.move_to(2)
    assert (woken.ready(), woken.wakes) == ([], 0)
    woken.loop.move_to(6)
    assert (woken.ready(), woken.wakes) == (["a"], 1)


def test_a_record_that_came_back_to_its_tick_is_ready_once() -> None:
    """The tick has two entries of it by then."""
    woken = Woken()
    one = record()
    for delay in (1, 5, 1):
        woken.queue.add_after(one, delay)
    woken.loop.move_to(9)
    assert woken.ready() == ["a"]


def test_a_record_that_is_dropped_never_comes_due() -> None:
    """Whoever drops a record only changes its due state."""
    woken = Woken()
    one = record()
    woken.queue.add_after(one, 1)
    one.due = DueState.DROPPED
    woken.loop.move_to(2)
    assert (woken.ready(), woken.wakes) == ([], 0)


def test_what_comes_and_goes_is_not_kept_until_it_would_be_due() -> None:
    """Ten thousand that were dropped meanwhile; what is still wanted comes due once."""
    woken = Woken()
    wanted = [record(f"wanted-{number}") for number in range(300)]
    gone = []
    for number in range(10_000):
        passing = record()
        for one in (passing, wanted[number % 300]):
            woken.queue.add_after(one, 600.0)
        passing.due = DueState.DROPPED
        gone.append(weakref.ref(passing))
    del passing
    assert sum(one() is not None for one in gone) < 1000
    woken.loop.move_to(600.0)
    assert woken.ready() == [one.task_id for one in wanted]


def test_ready_at_once() -> None:
    """No timer is needed for what is due now."""
    woken = Woken()
    woken.queue.add(record())
    assert (woken.ready(), woken.wakes, woken.loop.armed) == (["a"], 1, 0)


def test_clear_forgets_all_and_begins_anew() -> None:
    """No timer is left behind, and later ones are armed as at first."""
    woken = Woken()
    woken.queue.clear()
    woken.queue.add_after(record(), 1)
    woken.queue.add(record("b"))
    woken.queue.clear()
    assert woken.loop.timers == []
    woken.loop.move_to(5)
    assert woken.ready() == []
    woken.queue.add_after(record("c"), 9)
    assert woken.loop.timers == [pytest.approx(14)]


@pytest.mark.parametrize("early", [0.0, 0.001, 0.009])
def test_a_timer_that_fires_early_is_not_armed_for_nothing(early: float) -> None:
    """Half a grid of tolerance: coarse clocks fire a tick too soon."""
    woken = Woken()
    woken.queue.add_after(record(), 1)
    woken.loop.run_early(early)
    assert (woken.ready(), woken.loop.armed) == (["a"], 1)


def test_a_clock_that_jumped_serves_all_that_was_missed() -> None:
    """A machine that slept wakes to everything due, in the order of the due times."""
    woken = Woken(now=1000.0)
    for name, delay in (("c", 30), ("a", 1), ("b", 7)):
        woken.queue.add_after(record(name), delay)
    woken.loop.now = 9000.0
    woken.loop.move_to(9000.0)
    assert (woken.ready(), woken.wakes) == (["a", "b", "c"], 1)


moves = st.lists(
    st.tuples(
        st.sampled_from(["put", "ready", "drop", "wait"]),
        st.integers(0, 4),
        st.floats(0, 3),
    ),
    max_size=60,
)


@given(moves=moves)
def test_each_record_stands_in_one_place_and_comes_due_there(
    moves: list[tuple[str, int, float]],
) -> None:
    """Whatever is moved how often: due once, no earlier, at most a grid too late."""
    woken = Woken()
    records = [record(str(number)) for number in range(5)]
    due = [math.inf] * 5
    for what, number, delay in moves:
        now = woken.loop.now
        if what == "put":
            woken.queue.add_after(records[number], delay)
            due[number] = now + delay
        elif what == "ready":
            woken.queue.add(records[number])
            due[number] = now
        elif what == "drop":
            records[number].due = DueState.DROPPED
            due[number] = math.inf
        else:
            woken.loop.move_to(now + delay)
        now = woken.loop.now
        came = [int(name) for name in woken.ready()]
        assert len(came) == len(set(came))
        # Half a grid too early is the tolerance for coarse timers.
        assert all(due[one] <= now + GRID / 2 + 1e-9 for one in came)
        for one in came:
            due[one] = math.inf
        assert all(at > now - GRID - 1e-9 for at in due)
        if any(at < math.inf for at in due):
            assert woken.loop.timers[0] <= min(due) + GRID + 1e-9


async def test_a_closed_queue_lets_one_through_at_a_time() -> None:
    """Whatever becomes due wakes nobody then; opened, each thing due wakes a poller."""
    loop = asyncio.get_running_loop()
    queue = DueQueue(loop=loop)
    waiting = [loop.create_task(queue.wait()) for _ in range(3)]
    await anyio.wait_all_tasks_blocked()
    queue.close()
    queue.add(record("a"))
    await anyio.wait_all_tasks_blocked()
    assert not any(task.done() for task in waiting)
    queue.let_one_through()
    await anyio.wait_all_tasks_blocked()
    assert sum(task.done() for task in waiting) == 1
    assert [queue.pass_through(), queue.pass_through()] == [True, False]
    queue.open()
    queue.wake(2)
    await asyncio.gather(*waiting)


async def test_a_poller_that_is_cancelled_waits_no_more() -> None:
    """Neither one that waits, nor one that was woken in the same step."""
    loop = asyncio.get_running_loop()
    queue = DueQueue(loop=loop)
    waiting = [loop.create_task(queue.wait()) for _ in range(2)]
    await anyio.wait_all_tasks_blocked()
    waiting[0].cancel()
    queue.wake()
    waiting[1].cancel()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)
    assert queue._waiting == []


async def test_a_wake_passes_over_who_was_cancelled_in_the_same_step() -> None:
    """Whoever waits behind is woken instead."""
    queue = DueQueue(loop=asyncio.get_running_loop())
    first = asyncio.create_task(queue.wait())
    last = asyncio.create_task(queue.wait())
    await anyio.wait_all_tasks_blocked()
    last.cancel()
    queue.add(record())
    await anyio.wait_all_tasks_blocked()
    assert last.cancelled()
    assert first.done()


def test_what_has_moved_since_it_came_due_is_not_taken() -> None:
    """It stands elsewhere by now."""
    queue = Woken().queue
    moved, other = record("a"), record("b")
    queue.add(moved)
    queue.add(other)
    queue.add_after(moved, 5.0)
    assert queue.pop() is other
    assert queue.pop() is None


@pytest.mark.parametrize("not_before", [1.0, 1.005, 1.01])
def test_what_must_not_be_asked_yet_is_due_later_by_what_timers_are_early(
    not_before: float,
) -> None:
    """A timer serves what is due half a grid later, too."""
    one = record()
    one.not_before = not_before
    Woken().queue.add(one)
    assert (one.due - 0.5) * GRID >= not_before - 1e-9


def test_when_it_is_due_next_may_be_asked_in_any_thread() -> None:
    """A scrape is told a time or none, whenever the timer fires meanwhile."""
    for steps in itertools.count():
        queue = Woken().queue
        queue.add_after(record(), 1.0)
        left = steps

        def look(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal left
            if frame.f_code.co_name != "next_at":
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left == 0:
                    queue.clear()  # noqa: B023 - called before the next round
            return look

        before = sys.gettrace()
        sys.settrace(look)
        try:
            found = queue.next_at
        finally:
            sys.settrace(before)
        assert found in {None, 1.0}
        if left > 0:
            break
    assert steps > 3
