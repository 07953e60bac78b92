"""What is due when, and the pollers that wait for it; one timer that never idles."""

import asyncio
import heapq
import math
from collections import deque
from random import Random

import attrs

from veeam_tasks._engine.held_time import HeldTime
from veeam_tasks._engine.records import DueItem, DueState

GRID = 0.02
"""Seconds. Due times are rounded up to it, so that one wake serves many tasks."""

_RESUMED_APART = 0.002
_MANY = 256


@attrs.define(eq=False, kw_only=True)
class DueQueue:
    """Items by due time; those that are due wait in `ready`, pollers in `wait`.

    An item stands in one place only, named by its `due`; entries left behind when it
    moves are skipped when their time comes. While the server is down the queue is
    closed: whatever is due stays, and one poller at a time is let through as the probe.

    A poller that waits is not given an item but woken: an item that is handed over to
    a poller which is cancelled in the same step would be lost.

    Args:
        loop: Whose clock and timer are used.
        random: Spreads what was kept back by an outage.

    Attributes:
        held: How long the loop was held by other code.
        is_closed: Whether nothing may be taken, but for a probe.
    """

    loop: asyncio.AbstractEventLoop
    ready: deque[DueItem] = attrs.field(factory=deque)
    _buckets: dict[int, list[DueItem]] = attrs.field(factory=dict)
    # How many entries a large one may have.
    _limits: dict[int, int] = attrs.field(factory=dict)
    _ticks: list[int] = attrs.field(factory=list)
    _timer: asyncio.Handle | None = None
    _armed: float = math.inf
    random: Random = attrs.field(factory=Random)
    held: HeldTime = attrs.field(factory=HeldTime)
    is_closed: bool = False
    _is_probe_due: bool = False
    # The poller that waited last is woken first: its connection is the warmest.
    _waiting: "list[asyncio.Future[float]]" = attrs.field(factory=list)

    async def wait(self) -> None:
        """Wait until there may be something to take; it may be gone by then."""
        future: asyncio.Future[float] = self.loop.create_future()
        self._waiting.append(future)
        try:
            woken_at = await future
        finally:
            # It is no longer there if it was woken, or cancelled in the same step.
            if future in self._waiting:
                self._waiting.remove(future)
        self.held.note(woken_at, self.loop.time())

    def wake(self, count: int = 1) -> None:
        """Wake as many pollers as there are things to take, if they may be taken."""
        if self.is_closed:
            count = int(self._is_probe_due)
        now = self.loop.time()
        while count > 0 and self._waiting:
            future = self._waiting.pop()
            if not future.done():
                future.set_result(now)
                count -= 1

    # --- closed while the server is down

    def close(self) -> None:
        """Let nobody take anything any more."""
        self.is_closed, self._is_probe_due = True, False

    def let_one_through(self) -> None:
        """Let one poller take something, whatever that is, as the probe."""
        self._is_probe_due = True
        self.wake()

    def recall(self) -> None:
        """Let nobody through who was not taken yet."""
        self._is_probe_due = False

    @property
    def is_probe_due(self) -> bool:
        """Whether one may be let through, and nobody has come yet."""
        return self._is_probe_due

    def pass_through(self) -> bool:
        """Return whether whoever asks is the one that may pass; only one is."""
        was, self._is_probe_due = self._is_probe_due, False
        return was

    def open(self) -> None:
        """Let everybody take what is due, one by one and not as a burst."""
        self.is_closed = self._is_probe_due = False
        waiting = [one for one in self.ready if one.due == DueState.READY]
        self.ready.clear()
        window = max(1.0, len(waiting) * _RESUMED_APART)
        for item in waiting:
            if item.goes_first:
                self.add(item)
            else:
                self.add_after(item, window * self.random.random())

    def pop(self) -> DueItem | None:
        """Return the next item that is due, which whoever asks is to poll; or None."""
        ready = self.ready
        while ready:
            item = ready.popleft()
            if item.due == DueState.READY:  # else it has moved since
                item.due = DueState.POLLING
                return item
        return None

    # --- due times

    @property
    def next_at(self) -> float | None:
        """Loop time when something is due next; None if nothing is."""
        armed = self._armed  # once: another thread may ask while the timer fires
        return None if armed == math.inf else armed * GRID

    def add_after(self, item: DueItem, delay: float) -> None:
        """Let `item` be due in `delay` seconds, instead of when it was due."""
        tick = math.ceil((self.loop.time() + delay) / GRID)
        if item.not_before > 0.0:
            # Half a grid later, since that is how early what is due may be taken.
            tick = max(tick, math.ceil(item.not_before / GRID + 0.5))
        item.due = tick
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.append(item)
            if len(bucket) > _MANY:
                self._compact(tick, bucket)
            return
        self._buckets[tick] = [item]
        heapq.heappush(self._ticks, tick)
        if tick < self._armed:
            self._arm(tick)

    def _compact(self, tick: int, bucket: list[DueItem]) -> None:
        """Forget what was left behind in a bucket, once that may be half of it.

        Whoever comes and goes while the server wants to be left alone for ten minutes
        would else be kept for as long.
        """
        if len(bucket) > self._limits.get(tick, 0):
            bucket[:] = dict.fromkeys(one for one in bucket if one.due == tick)
            self._limits[tick] = max(_MANY, 2 * len(bucket))

    def bring_forward(self, item: DueItem, delay: float) -> None:
        """Let `item` be due in `delay` seconds, or when it was due if that is sooner.

        Whoever comes anew must not put a poll off: with enough of them it never comes.
        """
        if item.due < 0 or item.due * GRID > self.loop.time() + delay:
            self.add_after(item, delay)

    def add(self, item: DueItem, *, is_last: bool = False) -> None:
        """Let `item` be due now, or when the server may be asked for it again.

        Args:
            item: What is due.
            is_last: Whether what is due already goes before it in any case.
        """
        if item.not_before > self.loop.time():
            self.add_after(item, 0.0)
            return
        item.due = DueState.READY
        if item.goes_first and not is_last:
            self.ready.appendleft(item)
        else:
            self.ready.append(item)
        self.wake()

    def clear(self) -> None:
        """Forget all items and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._armed = math.inf
        self._buckets.clear()
        self._limits.clear()
        self._ticks.clear()
        self.ready.clear()

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = tick
        self._timer = self.loop.call_at(tick * GRID, self._due)

    def _due(self) -> None:
        # A timer may fire a clock tick early; half a grid of tolerance is enough.
        self.held.note(self._armed * GRID, self.loop.time())
        now = self.loop.time() / GRID + 0.5
        self._timer = None
        self._armed = math.inf
        while self._ticks and self._ticks[0] <= now:
            tick = heapq.heappop(self._ticks)
            self._limits.pop(tick, None)
            for item in self._buckets.pop(tick):
                if item.due != tick:
                    continue
                item.due = DueState.READY
                if item.goes_first:
                    self.ready.appendleft(item)
                else:
                    self.ready.append(item)
        if self._ticks:
            self._arm(self._ticks[0])
        if self.ready:
            self.wake(len(self.ready))
