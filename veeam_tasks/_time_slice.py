"""Who holds the event loop: long work of ours lets it go, what others hold is seen."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import attrs

LONGEST_HOLD = 0.003
"""Seconds of work after which the loop is let go. It is to be held for less than 10 ms,
and the piece of work under way comes on top of this."""


@attrs.define(eq=False)
class TimeSlice:
    """Tells when the loop has been held for long enough, and lets it go."""

    loop: asyncio.AbstractEventLoop
    _until: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._until = self.loop.time() + LONGEST_HOLD

    @property
    def is_due(self) -> bool:
        """Whether it is time to `take` one; cheaper to ask than to await."""
        return self.loop.time() > self._until

    async def take(self) -> None:
        """Let everything else that is ready go first."""
        await asyncio.sleep(0)
        self._until = self.loop.time() + LONGEST_HOLD


HELD = 0.1
"""Seconds by which a timer comes late when the loop was held, by other code, a stopped
process or a laptop that slept. A busy loop is late by less."""

GRACE = 1.0
"""Seconds to read what has come meanwhile, in however many steps."""


def tick_of(seconds: float) -> float:
    """Return how often to look whether the loop is held, within so many seconds."""
    return min(0.5, seconds / 10)


@contextmanager
def running_for(seconds: float) -> Iterator[anyio.CancelScope]:
    """Cancel what is within after so many seconds in which the loop ran.

    A reply may lie in the socket all the while, and is read first.
    """
    loop = asyncio.get_running_loop()
    tick = tick_of(seconds)

    timer: asyncio.Handle | None = None

    def look(due: float) -> None:
        nonlocal timer
        now = loop.time()
        if now - due > HELD:
            moved = scope.deadline + now - due
            scope.deadline = max(moved, now + min(GRACE, seconds))
        timer = loop.call_at(now + tick, look, now + tick)

    with anyio.move_on_after(seconds) as scope:
        due = loop.time() + tick
        timer = loop.call_at(due, look, due)
        try:
            yield scope
        finally:
            timer.cancel()
