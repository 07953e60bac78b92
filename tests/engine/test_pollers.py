"""The pollers: who is woken, who is called off, and no timer for each request."""

import asyncio
import math
from collections import deque

import anyio
import pytest

from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._engine.pollers import Poller, Pollers

pytestmark = pytest.mark.virtual_time


class Shop:
    """Some pollers that do what they are given: seconds of work each."""

    def __init__(self, count: int, timeout: float = 5.0) -> None:
        self.due: deque[float] = deque()
        self.events: list[tuple[str, float, float]] = []
        self.loop = asyncio.get_running_loop()
        self.queue = DueQueue(loop=self.loop)
        self.pollers = Pollers[float](
            loop=self.loop,
            queue=self.queue,
            request_timeout=timeout,
            take=self.take,
            work=self.work,
        )
        self.tasks = [asyncio.create_task(self.pollers.run()) for _ in range(count)]

    def take(self, _: Poller) -> float | None:
        """Give what is due next."""
        return self.due.popleft() if self.due else None

    async def work(self, me: Poller, seconds: float) -> None:
        """Take so many seconds, or be called off."""
        self.pollers.begin(me, self.loop.time())
        try:
            await asyncio.sleep(seconds)
            self.note("came", seconds)
        except asyncio.CancelledError:
            if not me.is_late():
                self.note("cancelled", seconds)
                raise
            self.note("late", seconds)
        finally:
            self.pollers.end(me)

    def note(self, what: str, seconds: float) -> None:
        """Remember what became of a piece of work, and when."""
        self.events.append((what, seconds, round(self.loop.time() - self.began, 3)))

    async def give(self, *work: float) -> None:
        """Let work be due."""
        self.began = self.loop.time()
        self.due += work
        self.queue.wake(len(work))

    async def close(self) -> None:
        """Cancel the pollers, as the group that runs them does."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_as_many_are_woken_as_there_is_work() -> None:
    """Two pieces of work wake two of five; all pollers work at once if need be."""
    shop = Shop(5)
    await anyio.wait_all_tasks_blocked()
    await shop.give(1, 2)
    assert len(shop.queue._waiting) == 3
    await asyncio.sleep(3)
    assert shop.events == [("came", 1, 1), ("came", 2, 2)]
    await shop.give(*[1] * 7)
    await asyncio.sleep(3)
    assert [at for _, _, at in shop.events[2:]] == [1] * 5 + [2] * 2
    shop.queue.wake(0)
    await shop.close()


async def test_a_late_request_is_called_off_and_its_poller_goes_on() -> None:
    """After `request_timeout`, and no other request with it."""
    shop = Shop(3)
    await anyio.wait_all_tasks_blocked()
    await shop.give(100, 4)
    await asyncio.sleep(2)
    shop.due.append(4.5)
    shop.queue.wake(1)
    await asyncio.sleep(10)
    assert shop.events == [("came", 4, 4), ("late", 100, 5), ("came", 4.5, 6.5)]
    assert not any(task.done() for task in shop.tasks)
    assert not any(task.cancelling() for task in shop.tasks)
    await shop.close()


async def test_one_timer_serves_all_requests() -> None:
    """It is set when none is, looks on twice a second, and ends with the last."""
    shop = Shop(10)
    await anyio.wait_all_tasks_blocked()
    await shop.give(*[100] * 5)
    await asyncio.sleep(1.1)
    timer = shop.pollers._timer
    assert timer is not None
    await shop.give(*[100] * 5)
    await asyncio.sleep(0.1)
    assert shop.pollers._timer is timer
    await asyncio.sleep(4.3)
    assert [what for what, _, _ in shop.events] == ["late"] * 5
    assert shop.pollers._timer is not None
    await asyncio.sleep(2)
    assert len(shop.events) == 10
    # It finds nothing under way, and is not set again for nothing.
    assert shop.pollers._timer is None
    await shop.close()


async def test_no_timer_is_left_when_the_last_poller_has_gone() -> None:
    """A close in mid-request leaves nothing to be run later."""
    shop = Shop(2)
    await anyio.wait_all_tasks_blocked()
    await shop.give(100, 100)
    await asyncio.sleep(1)
    timer = shop.pollers._timer
    assert timer is not None
    await shop.close()
    assert [what for what, _, _ in shop.events] == ["cancelled"] * 2
    assert timer.cancelled()
    assert (shop.pollers._timer, shop.pollers._all) == (None, [])


async def test_a_cancellation_at_the_same_moment_goes_on() -> None:
    """Called off and cancelled by somebody else in one step: the latter counts."""
    shop = Shop(1)
    await anyio.wait_all_tasks_blocked()
    await shop.give(100)
    await asyncio.sleep(1)
    (me,) = shop.pollers._all
    me.cancel_request()
    shop.tasks[0].cancel()
    await asyncio.wait(shop.tasks)
    assert shop.tasks[0].cancelled()
    assert [what for what, _, _ in shop.events] == ["cancelled"]


async def test_called_off_counts_once() -> None:
    """Whoever asks a second time is told of a second time only."""

    async def wait() -> list[bool]:
        current = asyncio.current_task()
        assert current is not None
        me = Poller(current, deadline=1.0)
        told = [me.is_late()]
        me.cancel_request()
        assert me.deadline == math.inf
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            told += [me.is_late(), me.is_late()]
        return told

    assert await asyncio.create_task(wait()) == [False, True, False]
