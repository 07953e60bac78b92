"""A loop whose clock is moved by hand, for code that only sets timers."""

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable
from typing import TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")


class ManualLoop(asyncio.AbstractEventLoop):
    """Keeps timers; `move_to` runs those that are due, in order.

    Their handles do not say when they are due, since uvloop's do not always.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.armed = 0
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._count = itertools.count()

    def time(self) -> float:
        """Return what the hand shows."""
        return self.now

    def get_debug(self) -> bool:
        """Leave out what handles keep in debug mode."""
        return False

    def call_at(  # type: ignore[override] # less than asyncio's own promise
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Set a timer."""
        handle = asyncio.Handle(callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._count), handle))
        self.armed += 1
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Set a timer from now."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    @property
    def timers(self) -> list[float]:
        """When the timers that were not cancelled will run."""
        return sorted(at for at, _, one in self._timers if not one.cancelled())

    def move_to(self, now: float) -> None:
        """Move the clock, running timers when their time comes."""
        while self._timers and self._timers[0][0] <= now:
            at, _, handle = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if not handle.cancelled():
                handle._run()
        self.now = max(self.now, now)

    def run_early(self, early: float) -> None:
        """Run the next timer a little before its time, as coarse clocks do."""
        while self._timers:
            at, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self.now = max(self.now, at - early)
                handle._run()
                return


def manual_loop(now: float = 0.0) -> ManualLoop:
    """Return such a loop, which leaves all out that a loop has besides."""
    return ManualLoop(now)  # type: ignore[abstract] # only timers are asked for
