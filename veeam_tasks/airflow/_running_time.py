"""The time in which the event loop ran.

Other triggers may hold the loop of a triggerer, and a process may be stopped: that is
nobody's fault, and what has come meanwhile is to be read first.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import attrs

_TICK = 0.5


@attrs.define(eq=False)
class RunningTime:
    """Counts the seconds in which the loop ran.

    Attributes:
        seconds: How many, in steps.
        limit: Cancel `scope` after so many; None for never.
        scope: What is cancelled then.
    """

    seconds: float = 0.0
    limit: float | None = None
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    _timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def start(self) -> None:
        """Count from now on."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _TICK
        self._timer = loop.call_at(due, self._count, loop, due)

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _count(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # A step that came late is none: the loop was held.
        if loop.time() - due < _TICK:
            self.seconds += _TICK
        if self.limit is not None and self.seconds >= self.limit:
            self.scope.cancel()
        else:
            self.start()


@asynccontextmanager
async def running_time(limit: float | None = None) -> AsyncIterator[RunningTime]:
    """Count while something is done; cancel that at the limit."""
    time = RunningTime(limit=limit)
    with time.scope:
        time.start()
        try:
            yield time
        finally:
            time.stop()
