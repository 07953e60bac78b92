"""A time slice: long work lets the event loop go in between."""

import asyncio

from support.manual_loop import ManualLoop

from veeam_tasks._session.collection import LONGEST_HOLD, TimeSlice


async def test_it_is_over_after_the_longest_hold() -> None:
    """And again as long after it was renewed."""
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


async def test_renewing_it_lets_all_else_go_first() -> None:
    """What is ready in the loop runs before the work goes on."""
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "other")
    await TimeSlice(asyncio.get_running_loop()).renew()
    order.append("work")
    assert order == ["other", "work"]


async def test_chunks_let_the_loop_go_when_the_slice_is_over() -> None:
    """All items come, in order; what is ready runs between two chunks."""
    loop = ManualLoop(100.0)
    seen: list[object] = []
    async for chunk in TimeSlice(loop).chunks(range(5), 2):
        seen.append(chunk)
        asyncio.get_running_loop().call_soon(seen.append, "other")
        loop.now += LONGEST_HOLD * (2 if chunk[0] else 0)
    assert seen == [[0, 1], [2, 3], "other", "other", [4], "other"]
