"""A time slice: long work lets the event loop go in between."""

import asyncio

from support.manual_loop import ManualLoop

from veeam_tasks._session.collection import LONGEST_HOLD, TimeSlice


async def test_it_is_due_after_the_longest_hold() -> None:
    """And again as long after it was taken."""
    loop = ManualLoop(100.0)
    time_slice = TimeSlice(loop)
    loop.now += LONGEST_HOLD
    assert not time_slice.is_over
    loop.now += 0.001
    assert time_slice.is_over
    await time_slice.renew()
    assert not time_slice.is_over
    loop.now += LONGEST_HOLD + 0.001
    assert time_slice.is_over


async def test_taking_one_lets_all_else_go_first() -> None:
    """What is ready in the loop runs before the work goes on."""
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "other")
    await TimeSlice(asyncio.get_running_loop()).renew()
    order.append("work")
    assert order == ["other", "work"]
