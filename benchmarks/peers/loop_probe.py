"""How long the event loop is held: each callback timed, the longest kept.

Everything that asyncio's own loop runs, a step of a coroutine included, goes through
`asyncio.Handle._run`. While a probe is on, that method is replaced in this process by
one that takes the time before and after. One hold is one such run: while it lasts,
nothing else in the loop can run. Garbage collection and being preempted by another
process count in `longest`; `longest_cpu` is the longest in CPU time of the thread.

What another thread of the process held the interpreter's lock for is in `longest`, but
not in `longest_cpu`. On a machine with other work it is hidden there among the time in
which the thread was ready and had no core. Linux tells the latter; less that, a hold is
what a quiet machine would show: `longest_own`.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Self


class LoopProbe:
    """Context manager that measures while it is entered.

    Attributes:
        longest: Seconds of the longest hold, by the clock.
        longest_cpu: Seconds of CPU of the longest hold.
        longest_own: Seconds of the longest hold, less the waiting for a core; None
            where the system does not tell of that.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.longest_cpu = 0.0
        self.longest_own: float | None = None
        self._file: int | None = None
        self._plain = asyncio.Handle._run  # noqa: SLF001 - see the docstring

    def __enter__(self) -> Self:
        plain = self._plain
        waited = self._open_waited()

        def timed(handle: asyncio.Handle) -> None:
            before = waited()
            wall, cpu = time.perf_counter(), time.thread_time()
            plain(handle)
            self.longest_cpu = max(self.longest_cpu, time.thread_time() - cpu)
            took = time.perf_counter() - wall
            self.longest = max(self.longest, took)
            # The probe may have ended within this very callback.
            if self.longest_own is not None and self._file is not None:
                own = took - (waited() - before)
                self.longest_own = max(self.longest_own, own)

        asyncio.Handle._run = timed  # noqa: SLF001 - see the docstring
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.Handle._run = self._plain  # noqa: SLF001 - see the docstring
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open_waited(self) -> Callable[[], float]:
        """Return what tells for how long this thread was ready and had no core."""
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        try:
            file = self._file = os.open(path, os.O_RDONLY)
        except OSError:
            return lambda: 0.0
        self.longest_own = 0.0
        return lambda: int(os.pread(file, 80, 0).split()[1]) / 1e9
