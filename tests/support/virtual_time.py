"""Virtual time: a clock that jumps to the next timer when nothing is left to do.

So an hour of polling takes milliseconds. A test asks for it by the marker::

    @pytest.mark.virtual_time                # the loop that is chosen
    @pytest.mark.virtual_time(debug=False)   # for many thousand polls
    @pytest.mark.virtual_time(loop=BlockableLoop)

and what runs outside a test's own loop by `run`. Sockets work as long as both ends live
in the loop. For asyncio's own loop it is looptime's work, which lives in the selector;
`VirtualUvloop` needs none.
"""

import asyncio
import contextlib
import contextvars
import functools
import heapq
import itertools
import os
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVarTuple, Unpack

import anyio
import looptime
import pytest

from support.loops import LOOP_KIND, Uvloop, of_asyncio

Ts = TypeVarTuple("Ts")
Backend = tuple[str, dict[str, object]]


# Asked for from outside, it is for all tests, whatever they say.
ALL_IN_DEBUG = bool(os.environ.get("VEEAM_TASKS_DEBUG"))
_RUNS_ALL = "VEEAM_TASKS_SHARE" not in os.environ


def has_thread_at_work(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether one of anyio's threads works for a loop.

    A loop does not know of them: its own executor's are others.
    """
    return any(
        thread.name == "AnyIO worker thread"
        and getattr(thread, "loop", None) is loop
        and thread.queue.unfinished_tasks  # type: ignore[attr-defined]
        for thread in threading.enumerate()
    )


class _WaitsForThreads:
    """The half of a virtual loop that knows which threads of its executor work."""

    _threads: set[asyncio.Future[Any]]

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Ts]], Any],
        *args: *Ts,
    ) -> "asyncio.Future[Any]":
        """Do as other loops do, and let time stand still until the thread is done."""
        done: asyncio.Future[Any] = super().run_in_executor(  # type: ignore[misc] # of the loop
            executor, func, *args
        )
        self._threads.add(done)
        done.add_done_callback(self._threads.discard)
        return done

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's signature
        """Wait for the threads however long: the clock would jump past the timeout."""
        del timeout
        await super().shutdown_default_executor()  # type: ignore[misc] # of the loop


class AsyncioVirtual(  # type: ignore[misc]
    _WaitsForThreads, looptime.make_event_loop_class(asyncio.SelectorEventLoop)
):
    """An asyncio loop whose clock jumps, and stands still while a thread works for it.

    looptime would let the time pass that an executor's thread really takes, and any
    time while one of anyio's works: what comes first would be up to the machine.

    Before the clock jumps, the sockets are looked at `_LOOKS` times: what one end has
    sent, the system may not have brought to the other yet. looptime goes through 42
    whole steps of the loop for that, which was most of what a test cost.
    """

    _LOOKS = 16

    def __init__(self) -> None:
        super().__init__(noop_cycles=0)
        self._threads: set[asyncio.Future[Any]] = set()
        self._select_and_jump = self._selector.select
        self._selector.select = self._select

    def _select(self, timeout: float | None) -> list[tuple[Any, int]]:
        look = functools.partial(type(self._selector).select, self._selector)
        if timeout is None or timeout > 0:
            if self._threads or has_thread_at_work(self):
                # A thread's end is something to read.
                return look(0.01)
            for _ in range(self._LOOKS):
                if ready := look(0):
                    return ready
        return self._select_and_jump(timeout)


class BlockableLoop(AsyncioVirtual):
    """A loop that is blocked when a test says so: time goes on and nothing runs."""

    _blocked = 0.0

    def time(self) -> float:
        """Return the time, that for which the loop was blocked included."""
        return float(super().time()) + self._blocked

    def block(self, seconds: float) -> None:
        """Block the loop, as other code or a stopped process does."""
        self._blocked += seconds


class VirtualUvloop(_WaitsForThreads, Uvloop):  # type: ignore[misc, valid-type]
    """A uvloop whose clock jumps; its handles do not say when they are due.

    Sockets work as long as both ends live in the loop: time does not move before
    many steps of the loop have made nothing ready, nor while a thread works for it.
    """

    _STEPS = 42

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._order = itertools.count()
        self._made_ready = self._seen = self._still = 0
        self._is_stepping = False
        self._threads: set[asyncio.Future[Any]] = set()

    def time(self) -> float:
        """Return what the clock shows."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Do as uvloop does, and note that something happens."""
        self._made_ready += 1
        handle: asyncio.Handle = super().call_soon(callback, *args, context=context)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Do as uvloop does, and note that something happens."""
        self._made_ready += 1
        handle: asyncio.Handle = super().call_soon_threadsafe(
            callback, *args, context=context
        )
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Set a timer; a time that has come needs none."""
        if when <= self._now:
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        if not self._is_stepping:
            self._is_stepping = True
            self._still = 0
            super().call_soon(self._step)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Set a timer from now."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        """Ask in a thread that is waited for, which uvloop's own are not.

        A number needs none, as on every other loop: a test that waits until all tasks
        are blocked would else go on before a connection to it is there.
        """
        with contextlib.suppress(socket.gaierror):
            numeric = options.get("flags", 0) | socket.AI_NUMERICHOST
            return socket.getaddrinfo(*args, **options | {"flags": numeric})
        return await self.run_in_executor(
            None, lambda: socket.getaddrinfo(*args, **options)
        )

    async def create_connection(
        self, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """Connect to the first address there is, looked up in a thread as above."""
        if host is not None:
            if options.get("ssl"):
                options.setdefault("server_hostname", host)
            [family, kind, number, _, address], *_ = await self.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
            options["sock"] = made = socket.socket(family, kind, number)
            made.setblocking(False)
            try:
                await self.sock_connect(made, address)
            except BaseException:
                made.close()
                raise
        return await super().create_connection(factory, **options)

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Let time stand still: uvloop looks even numbers up in a thread of its own."""
        listening = self.create_task(super().create_server(*args, **options))
        self._threads.add(listening)
        listening.add_done_callback(self._threads.discard)
        server: asyncio.Server = await listening
        return server

    def _step(self) -> None:
        """Look whether something happened since the last step; if not, move the clock.

        Between two steps uvloop looks at its sockets once.
        """
        if self._seen != self._made_ready:
            self._seen, self._still = self._made_ready, 0
        self._still += 1
        if self._threads or has_thread_at_work(self):
            super().call_later(0.001, self._step)
            return
        if self._still > self._STEPS:
            self._jump()
        if self._timers:
            super().call_soon(self._step)
        else:
            self._is_stepping = False

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            return
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            _, _, handle = heapq.heappop(self._timers)
            self.call_soon(_run, handle)


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()


def virtual_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of the kind that is chosen, whose clock jumps."""
    if LOOP_KIND.name == "uvloop":
        return VirtualUvloop()
    return of_asyncio(AsyncioVirtual)()


def is_debug_for(test: str) -> bool:
    """Tell whether a test runs in asyncio's debug mode, which may double its time.

    One in sixteen does, always the same ones, on the Python that runs all tests.
    """
    # Divided, since what is left over by 8 chooses the loop of a test.
    return ALL_IN_DEBUG or (_RUNS_ALL and zlib.crc32(test.encode()) // 8 % 16 == 0)


def backend(test: str, marker: pytest.Mark) -> Backend:
    """Return anyio's backend for a test with the marker."""
    options = {"debug": is_debug_for(test), "loop": virtual_loop, **marker.kwargs}
    debug = options["debug"] or ALL_IN_DEBUG
    return "asyncio", {"debug": debug, "loop_factory": options["loop"]}


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function in a loop of its own, in virtual time."""
    options = {"loop_factory": virtual_loop, "debug": ALL_IN_DEBUG}
    anyio.run(work, backend_options=options)
