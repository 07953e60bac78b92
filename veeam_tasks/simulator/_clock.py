"""Time as the simulated server sees it: its loop's clock, virtual or not.

Short, and a file of its own, since both the servers and their tasks need it.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


class Clock:
    """Seconds since the server was first started; it stands still before that.

    Args:
        speed: How many seconds of a script pass in one second. Idle expiry and faults
            keep to the loop's own seconds.
    """

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            problem = f"speed must be above 0, not {speed!r}"
            raise ValueError(problem)
        self.speed = speed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origin = 0.0
        self._epoch = datetime.now(UTC)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on with the time of `loop`, from where the clock stands."""
        so_far = self.now()
        self._loop = loop
        self._origin = loop.time() - so_far

    def now(self) -> float:
        """Return the seconds since the start."""
        return 0.0 if self._loop is None else self._loop.time() - self._origin

    def elapsed(self, since: float) -> float:
        """Return the seconds of a script that passed since the moment `since`."""
        return (self.now() - since) * self.speed

    def moment(self, since: float, seconds: float) -> float:
        """Return the moment when `seconds` of a script have passed since `since`."""
        return since + seconds / self.speed

    def at(self, moment: float) -> datetime:
        """Return a moment as a date and time, in UTC."""
        return self._epoch + timedelta(seconds=moment)

    def http_date(self) -> str:
        """Return the present as the ``Date`` header says it.

        By this clock and not the machine's: a client that compares it with the times of
        job sessions must see one clock, also where a test lets hours pass at once.
        """
        return format_datetime(self.at(self.now()), usegmt=True)
