"""The time that something may take, in which the loop ran.

A reply may lie in the socket while other code holds the loop: that is nobody's fault.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HELD = 0.1
"""Seconds by which a timer comes late when the loop was held, by other code, a stopped
process or a laptop that slept. A busy loop is late by less."""

GRACE = 1.0
"""Seconds to read what has come meanwhile, in however many steps."""


def tick_of(seconds: float) -> float:
    """Return how often to look whether the loop is held, within so many seconds."""
    return min(0.5, seconds / 10)


@asynccontextmanager
async def running_for(seconds: float) -> AsyncIterator[None]:
    """Cancel what is within after so many seconds in which the loop ran.

    A reply may lie in the socket all the while, and is read first. It is cancelled
    once: a task that is told nothing any more, since a Ctrl-C has struck between two
    lines of the loop, would be cancelled by a scope of anyio in each step, for ever.
    """
    loop = asyncio.get_running_loop()
    tick = tick_of(seconds)
    limit = asyncio.timeout(seconds)
    timer: asyncio.Handle | None = None

    def look(due: float) -> None:
        nonlocal timer
        now = loop.time()
        until = limit.when()
        if now - due > HELD and until is not None and not limit.expired():
            limit.reschedule(max(until + now - due, now + min(GRACE, seconds)))
        timer = loop.call_at(now + tick, look, now + tick)

    try:
        async with limit:
            due = loop.time() + tick
            timer = loop.call_at(due, look, due)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError:
        if not limit.expired():
            raise  # somebody else's
