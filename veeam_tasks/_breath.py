"""Breath: long work lets the event loop go in between."""

import asyncio

import attrs

LONGEST_HOLD = 0.003
"""Seconds of work after which the loop is let go. It is to be held for less than 10 ms,
and the piece of work under way comes on top of this."""


@attrs.define(eq=False)
class Breath:
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
