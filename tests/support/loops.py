"""The event loops that tests run on: asyncio's own, uvloop's, or with eager tasks.

Each of them also with a clock that jumps: when nothing is left to do, it moves to the
next timer, so that an hour of polling takes milliseconds. For asyncio's own loop that
is looptime's work, which lives in its selector; `VirtualUvloop` needs none.
"""

import asyncio
import contextvars
import heapq
import importlib.util
import itertools
import os
import socket
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVarTuple, Unpack

import looptime

Ts = TypeVarTuple("Ts")

KINDS = ("asyncio", "uvloop", "eager")
"""What the environment variable ``VEEAM_TASKS_LOOP`` may say."""

_SHARE = 8
_HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
_HAS_EAGER = sys.version_info >= (3, 12)


class AsyncioVirtual(  # type: ignore[misc]
    looptime.make_event_loop_class(asyncio.SelectorEventLoop)
):
    """An asyncio loop whose clock jumps."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's signature
        """Wait for the threads however long: the clock would jump past the timeout."""
        del timeout
        await super().shutdown_default_executor()


if _HAS_UVLOOP:
    from uvloop import Loop as Uvloop
else:
    Uvloop = asyncio.SelectorEventLoop


class VirtualUvloop(Uvloop):  # type: ignore[misc, valid-type]
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

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Ts]], Any],
        *args: *Ts,
    ) -> "asyncio.Future[Any]":
        """Do as uvloop does, and let time stand still until the thread is done."""
        done: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._threads.add(done)
        done.add_done_callback(self._threads.discard)
        return done

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's signature
        """Wait for the threads however long: the clock would jump past the timeout."""
        del timeout
        await super().shutdown_default_executor()

    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        """Ask in a thread that is waited for, which uvloop's own are not."""
        return await self.run_in_executor(
            None, lambda: socket.getaddrinfo(*args, **options)
        )

    def _step(self) -> None:
        """Look whether something happened since the last step; if not, move the clock.

        Between two steps uvloop looks at its sockets once.
        """
        if self._seen != self._made_ready:
            self._seen, self._still = self._made_ready, 0
        self._still += 1
        if self._threads:
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


class CostModel:
    """Which loop is made now, wherever one is asked for.

    It is made by an event loop policy, since the programs within tests call
    ``asyncio.run``, and so does the thread of the simulated server.
    """

    def __init__(self) -> None:
        self.kind = KINDS[0]

    def take(self, kind: str) -> None:
        """Let loops be of a kind from now on."""
        self.kind = kind
        with warnings.catch_warnings():
            # Policies are deprecated since 3.14, and nothing else reaches those.
            warnings.simplefilter("ignore", DeprecationWarning)
            policy = None if kind == KINDS[0] else _policy()
            asyncio.set_event_loop_policy(policy)


CHOICE = CostModel()


def _policy() -> asyncio.AbstractEventLoopPolicy:
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return real_loop()

    return Policy()


def kind_for(test: str) -> str:
    """Return on which loop a test runs.

    Unless the environment says it for all of them, one in eight runs on uvloop and one
    on asyncio with eager tasks; always the same ones, chosen by the name of the test.
    """
    asked = os.environ.get("VEEAM_TASKS_LOOP", "")
    if asked:
        if asked not in KINDS:
            text = f"VEEAM_TASKS_LOOP is {asked!r}; it may be one of {', '.join(KINDS)}"
            raise ValueError(text)
        if asked == "eager" and not _HAS_EAGER:
            text = "VEEAM_TASKS_LOOP is 'eager', which needs Python 3.12"
            raise ValueError(text)
        return asked
    kind = {1: "uvloop", 2: "eager"}.get(zlib.crc32(test.encode()) % _SHARE, "asyncio")
    is_there = {"uvloop": _HAS_UVLOOP, "eager": _HAS_EAGER}.get(kind, True)
    return kind if is_there else "asyncio"


def of_asyncio(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes such a loop, for tests that need asyncio's own.

    Its tasks are eager where they are in the whole run.
    """

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        if CHOICE.kind == "eager" and sys.version_info >= (3, 12):
            loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return made


def real_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of the kind that is chosen."""
    return (
        Uvloop() if CHOICE.kind == "uvloop" else of_asyncio(asyncio.SelectorEventLoop)()
    )


def virtual_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of the kind that is chosen, whose clock jumps."""
    return VirtualUvloop() if CHOICE.kind == "uvloop" else of_asyncio(AsyncioVirtual)()
