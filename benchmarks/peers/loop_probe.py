"""How long the event loop is held: each callback timed, the longest kept.

Everything that asyncio's own loop runs, a step of a coroutine included, goes through
`asyncio.Handle._run`. While a probe is on, that method is replaced in this process by
one that takes the time before and after. One hold is one such run: while it lasts,
nothing else in the loop can run. Garbage collection and being preempted by another
process count in `longest`; `longest_cpu` is the longest in CPU time of the thread.
"""

import asyncio
import time
from typing import Self


class LoopProbe:
    """Context manager that measures while it is entered.

    Attributes:
        longest: Seconds of the longest hold, by the clock.
        longest_cpu: Seconds of CPU of the longest hold.
        callbacks: How many callbacks ran.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.longest_cpu = 0.0
        self.callbacks = 0
        self._plain = asyncio.Handle._run  # noqa: SLF001 - see the docstring

    def __enter__(self) -> Self:
        plain = self._plain

        def timed(handle: asyncio.Handle) -> None:
            wall, cpu = time.perf_counter(), time.thread_time()
            plain(handle)
            self.longest_cpu = max(self.longest_cpu, time.thread_time() - cpu)
            self.longest = max(self.longest, time.perf_counter() - wall)
            self.callbacks += 1

        asyncio.Handle._run = timed  # noqa: SLF001 - see the docstring
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.Handle._run = self._plain  # noqa: SLF001 - see the docstring
