"""The pollers: a bounded set of coroutines, idle ones waiting, late ones called off."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
from yarl import URL

from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._errors import RequestTimeoutError
from veeam_tasks._transport.transport import GRACE, HELD, tick_of

WorkT = TypeVar("WorkT")

_CLOCK_TICK = 0.001


@attrs.define(eq=False)
class Poller:
    """One long-lived coroutine that polls whichever task is due next."""

    asyncio_task: "asyncio.Task[object]"
    deadline: float = math.inf
    _was_called_off: bool = False

    def cancel_request(self) -> None:
        """Cancel the request under way, since its deadline has passed."""
        self._was_called_off = True
        self.deadline = math.inf
        self.asyncio_task.cancel()

    def is_late(self) -> bool:
        """Tell a cancellation by `call_off` from one by somebody else.

        If both came at once, the other one goes on and this returns False.
        """
        was, self._was_called_off = self._was_called_off, False
        return was and self.asyncio_task.uncancel() == 0


@attrs.define(eq=False, kw_only=True)
class Pollers(Generic[WorkT]):
    """Runs pollers, which wait at the queue, and gives up late requests with one timer.

    Args:
        queue: Where those that find nothing to take wait.
        request_timeout: Seconds until a request under way is called off.
        take: Gives a poller the next work that is due, or None.
        work: Does one piece of it to its end.
        on_held: Told when the loop was held by other code, or the process stopped.

    Attributes:
        held: Seconds for which it was, as far as requests were under way.
    """

    loop: asyncio.AbstractEventLoop
    queue: DueQueue
    request_timeout: float
    take: Callable[[Poller], WorkT | None]
    work: Callable[[Poller, WorkT], Awaitable[None]]
    on_held: Callable[[float], None] = lambda _: None
    held: float = 0.0
    _all: list[Poller] = attrs.field(factory=list)
    _due: float = 0.0
    _timer: asyncio.Handle | None = None

    async def run(self) -> None:
        """Be one poller until cancelled."""
        current = asyncio.current_task()
        assert current is not None
        me = Poller(current)
        self._all.append(me)
        try:
            while True:
                work = self.take(me)
                if work is not None:
                    await self.work(me, work)
                    continue
                await self.queue.wait()
        finally:
            self._all.remove(me)
            if not self._all and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def begin(self, me: Poller, sent: float, until: float = math.inf) -> None:
        """Start the clock of a request, which is not waited for beyond `until`."""
        me.deadline = min(sent + self.request_timeout, until)
        if self._timer is None:
            self._arm(sent, me.deadline)
        elif me.deadline < self._due:
            self._timer.cancel()
            self._arm(sent, me.deadline)

    def end(self, me: Poller) -> None:
        """Stop the clock of a request."""
        me.deadline = math.inf

    def late_error(self, url: URL | str, sent: float) -> RequestTimeoutError:
        """Return what became of a request that was called off."""
        # A probe may be given up earlier, when patience ends.
        waited = min(self.loop.time() - sent, self.request_timeout)
        return RequestTimeoutError(
            request=f"GET {url}",
            reason=f"no reply within {waited:.3g} s",
            kind="timeout",
        )

    def _arm(self, now: float, earliest: float) -> None:
        # Not only at the deadline: else nobody could tell that the loop was held.
        self._due = min(now + tick_of(self.request_timeout), earliest)
        self._timer = self.loop.call_at(self._due, self._call_off_late)

    def _call_off_late(self) -> None:
        now = self.loop.time()
        late = now - self._due
        if late > HELD:
            self._forgive(late, now)
        earliest = math.inf
        for poller in self._all:
            if poller.deadline <= now + _CLOCK_TICK:
                poller.cancel_request()
            else:
                earliest = min(earliest, poller.deadline)
        self._timer = None
        if earliest < math.inf:
            self._arm(now, earliest)

    def _forgive(self, late: float, now: float) -> None:
        """Move the deadlines by the time for which the loop was held.

        What has come meanwhile is still to be read, which takes some steps.
        """
        self.held += late
        at_least = now + min(GRACE, self.request_timeout)
        for poller in self._all:
            if poller.deadline < math.inf:
                poller.deadline = max(poller.deadline + late, at_least)
        self.on_held(now)
