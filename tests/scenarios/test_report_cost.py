"""What a report and the tasks beside each event cost: counted, not timed."""

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TypeVar

import pytest
from support.managers import STEADY, door
from support.observations import observation

from veeam_tasks import TaskState, Watch
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

T = TypeVar("T")


def steps_of(work: Callable[[], T]) -> tuple[int, T]:
    """Return how many instructions of Python some work takes, and what it gives."""
    steps = 0

    def trace(frame: FrameType, what: str, _: object) -> object:
        nonlocal steps
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps += what == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type] # as simple as it may be
    try:
        result = work()
    finally:
        sys.settrace(before)
    return steps, result


def looked_at(watch: Watch, task_id: str) -> int:
    """Look at all that a program may show beside an event of one task."""
    report, tasks = watch.report, watch.tasks
    assert report.outcomes[task_id] is not None
    assert tasks[task_id].task_id == task_id
    assert task_id in tasks
    repr(watch)
    return sum(
        len(each)
        for each in (
            tasks,
            report.outcomes,
            report.succeeded,
            report.failed,
            report.lost,
            report.unfinished,
        )
    )


async def dearest(count: int) -> int:
    """Return what the dearest look beside one of many events costs."""
    costs = []
    async with SimulatedServer() as server, door(server, pace=STEADY) as em:
        server.faults.add(Fault("stall", method="GET"))
        ids = [f"task-{number}" for number in range(count)]
        watch = em.watch(ids)
        repr(watch)  # whatever was added is news once
        for number in range(0, count, count // 100):
            for state in (TaskState.RUNNING, TaskState.FINISHED):
                watch._subscription.on_observation(observation(ids[number], state))
                event = await anext(watch)
                cost, shown = steps_of(partial(looked_at, watch, event.task_id))
                costs.append(cost)
                assert shown == 2 * count + number // (count // 100) + 1
    return max(costs)


async def test_a_look_beside_each_event_costs_what_changed() -> None:
    """Twenty times as many tasks cost a few steps of a tree more, not twenty times."""
    few, many = await dearest(500), await dearest(10_000)
    assert many < 3 * few
    assert many < 20_000
