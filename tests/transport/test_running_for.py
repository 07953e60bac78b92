"""The time that a request may take, in which the loop ran."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from veeam_tasks._transport.held import running_for, tick_of


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what is to be done at once."""

    soon = 0

    def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:
        """Count it."""
        self.soon += 1
        return super().call_soon(*args, **options)


class LostWakeup:
    """Awaited, and never tells: as after a Ctrl-C in the middle of the telling."""

    _asyncio_future_blocking = False
    tell: Callable[..., object]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that waits."""
        return self._loop

    def add_done_callback(self, fn: Callable[..., object], **_: Any) -> None:
        """Keep to oneself who is to be told."""
        self.tell = fn

    def cancel(self, *_: Any, **__: Any) -> bool:
        """Say that it is done already."""
        return False

    def result(self) -> None:
        """Give nothing."""

    def __await__(self) -> Generator["LostWakeup", None, None]:
        self._asyncio_future_blocking = True
        yield self


def test_what_is_never_woken_again_leaves_the_loop_alone() -> None:
    """It is cancelled once, not in each step of the loop."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        lost = LostWakeup(loop)

        async def work() -> None:
            async with running_for(0.05):
                await lost

        working = loop.create_task(work())
        await asyncio.sleep(0.1)
        before = loop.soon
        await asyncio.sleep(0.2)
        steps = loop.soon - before
        assert not working.done()
        loop.call_soon(lost.tell, lost)
        await working
        return steps

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) < 50


def test_whether_the_loop_is_held_is_looked_at_ten_times_within_a_limit() -> None:
    """And every half second at the least."""
    assert [tick_of(seconds) for seconds in (0.5, 2.0, 5.0, 30.0)] == [
        *(0.05, 0.2, 0.5, 0.5),
    ]


@pytest.mark.virtual_time
async def test_a_timeout_of_somebody_else_is_passed_on() -> None:
    """Only its own is told by nothing but the end."""
    async with running_for(5):
        await asyncio.sleep(10)
    with pytest.raises(TimeoutError, match="another"):
        async with running_for(5):
            raise TimeoutError("another")  # noqa: EM101 - one word
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), running_for(5):
            await asyncio.sleep(10)
    cancelled = asyncio.create_task(asyncio.sleep(10))
    async with running_for(5):
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
