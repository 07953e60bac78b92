"""What is due when: a heap of due times on a grid, and one timer that never idles."""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable

import attrs

from veeam_tasks._engine.records import DueState, TaskRecord

GRID = 0.02
"""Seconds. Due times are rounded up to it, so that one wake serves many tasks."""


@attrs.define(eq=False, kw_only=True)
class Schedule:
    """Records by due time; those that are due wait in `ready`.

    A record stands in one place only, named by its `phase`; entries left behind when
    it moves are skipped when their time comes.

    Args:
        loop: Whose clock and timer are used.
        wake: Called when records have become ready.
    """

    loop: asyncio.AbstractEventLoop
    wake: Callable[[], None]
    ready: deque[TaskRecord] = attrs.field(factory=deque)
    _buckets: dict[int, list[TaskRecord]] = attrs.field(factory=dict)
    _ticks: list[int] = attrs.field(factory=list)
    _timer: asyncio.Handle | None = None
    _armed: float = math.inf

    @property
    def next_at(self) -> float | None:
        """Loop time when something is due next; None if nothing is."""
        return None if self._timer is None else self._armed * GRID

    def put(self, record: TaskRecord, delay: float) -> None:
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

    def bring_forward(self, record: TaskRecord, delay: float) -> None:
        """Let `record` be due in `delay` seconds, or when it was due if that is sooner.

        Whoever comes anew must not put a poll off: with enough of them it never comes.
        """
        if record.due < 0 or record.due * GRID > self.loop.time() + delay:
            self.put(record, delay)

    def put_ready(self, record: TaskRecord) -> None:
        """Let `record` be due now, or when the server may be asked for it again."""
        if record.not_before > self.loop.time():
            self.put(record, 0.0)
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
            self.wake()
