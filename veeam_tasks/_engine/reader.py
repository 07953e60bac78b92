"""`Reader`: who waits for events, of one subscription or of many at once."""

import asyncio
from collections import deque

waiting: set[object] = set()
"""Whoever a coroutine waits for. asyncio holds its tasks weakly and the engine its
subscribers: without this, gc would end a coroutine that nobody holds."""


class Reader:
    """Waits for whichever of its subscriptions has something to tell first.

    It knows each by a number alone: a reference to them would make a circle. The
    numbers come back in the order in which they were noted, so that each has its turn.

    Args:
        loop: Whose futures are waited for.
        busy: What a second coroutine is told that reads at the same time.

    Attributes:
        is_whole: Whether no other reader has taken a subscription away.
    """

    __slots__ = ("_busy", "_future", "_loop", "_noted", "_queue", "is_whole")

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: str) -> None:
        self.is_whole = False
        self._loop = loop
        self._busy = busy
        self._queue: deque[int] = deque()
        self._noted: set[int] = set()
        self._future: asyncio.Future[None] | None = None

    def note(self, number: int) -> None:
        """Let a subscription be looked at, once, and wake who waits."""
        if number not in self._noted:
            self._noted.add(number)
            self._queue.append(number)
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def next_noted(self) -> int | None:
        """Return which subscription to look at; None if there is nothing to see."""
        if not self._queue:
            return None
        number = self._queue.popleft()
        self._noted.discard(number)
        return number

    def check_free(self) -> None:
        """Raise if a coroutine waits here.

        Raises:
            RuntimeError: One reads already.
        """
        if self._future is not None:
            raise RuntimeError(self._busy)

    async def wait(self) -> None:
        """Wait until a subscription is noted; one coroutine at a time."""
        self._future = self._loop.create_future()
        waiting.add(self)
        try:
            await self._future
        finally:
            self._future = None
            waiting.discard(self)
