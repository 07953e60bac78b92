"""What is due when, and the pollers that wait for it; one timer that never idles."""

import asyncio
import heapq
import math
from collections import deque
from random import Random

import attrs

from veeam_tasks._engine.records import DueState, PolledRecord

GRID = 0.02
"""Seconds. Due times are rounded up to it, so that one wake serves many tasks."""

_RESUMED_APART = 0.002


@attrs.define(eq=False, kw_only=True)
class DueQueue:
    """Records by due time; those that are due wait in `ready`, pollers in `wait`.

    A record stands in one place only, named by its `phase`; entries left behind when
    it moves are skipped when their time comes. While the server is down the queue is
    closed: whatever is due stays, and one poller at a time is let through as the probe.

    Args:
        loop: Whose clock and timer are used.
        random: Spreads what was kept back by an outage.

    Attributes:
        is_closed: Whether nothing may be taken, but for a probe.
    """

    loop: asyncio.AbstractEventLoop
    ready: deque[PolledRecord] = attrs.field(factory=deque)
    _buckets: dict[int, list[PolledRecord]] = attrs.field(factory=dict)
    _ticks: list[int] = attrs.field(factory=list)
    _timer: asyncio.Handle | None = None
    _armed: float = math.inf
    random: Random = attrs.field(factory=Random)
    is_closed: bool = False
    _is_probe_due: bool = False
    # The poller that waited last is woken first: its connection is the warmest.
    _waiting: "list[asyncio.Future[None]]" = attrs.field(factory=list)

    async def wait(self) -> None:
        """Wait until there may be something to take; it may be gone by then."""
        future = self.loop.create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            # It is no longer there if it was woken, or cancelled in the same step.
            if future in self._waiting:
                self._waiting.remove(future)

    def wake(self, count: int = 1) -> None:
        """Wake as many pollers as there are things to take, if they may be taken."""
        if self.is_closed:
            count = int(self._is_probe_due)
        while count > 0 and self._waiting:
            future = self._waiting.pop()
            if not future.done():
                future.set_result(None)
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
        for record in waiting:
            self.add_after(record, window * self.random.random())
        # A collection may be due that no timer announces any more.
        self.wake()

    # --- due times

    @property
    def next_at(self) -> float | None:
        """Loop time when something is due next; None if nothing is."""
        return None if self._timer is None else self._armed * GRID

    def add_after(self, record: PolledRecord, delay: float) -> None:
        """Let `record` be due in `delay` seconds, instead of when it was due."""
        tick = math.ceil((self.loop.time() + delay) / GRID)
        if record.not_before > 0.0:
            # Half a grid later, since that is how early what is due may be taken.
            tick = max(tick, math.ceil(record.not_before / GRID + 0.5))
        record.due = tick
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.append(record)
            return
        self._buckets[tick] = [record]
        heapq.heappush(self._ticks, tick)
        if tick < self._armed:
            self._arm(tick)

    def bring_forward(self, record: PolledRecord, delay: float) -> None:
        """Let `record` be due in `delay` seconds, or when it was due if that is sooner.

        Whoever comes anew must not put a poll off: with enough of them it never comes.
        """
        if record.due < 0 or record.due * GRID > self.loop.time() + delay:
            self.add_after(record, delay)

    def add(self, record: PolledRecord) -> None:
        """Let `record` be due now, or when the server may be asked for it again."""
        if record.not_before > self.loop.time():
            self.add_after(record, 0.0)
            return
        record.due = DueState.READY
        self.ready.append(record)
        self.wake()

    def clear(self) -> None:
        """Forget all records and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._armed = math.inf
        self._buckets.clear()
        self._ticks.clear()
        self.ready.clear()

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = tick
        self._timer = self.loop.call_at(tick * GRID, self._due)

    def _due(self) -> None:
        # A timer may fire a clock tick early; half a grid of tolerance is enough.
        now = self.loop.time() / GRID + 0.5
        self._timer = None
        self._armed = math.inf
        while self._ticks and self._ticks[0] <= now:
            tick = heapq.heappop(self._ticks)
            for record in self._buckets.pop(tick):
                if record.due == tick:
                    record.due = DueState.READY
                    self.ready.append(record)
        if self._ticks:
            self._arm(self._ticks[0])
        if self.ready:
            self.wake(len(self.ready))
