"""The host task: everything that runs while a manager is open, and its orderly end.

One asyncio task enters and leaves the task group of the pollers by itself, so that a
manager may be opened, used and closed from different asyncio tasks, as the lines of a
REPL are.
"""

import asyncio
import logging
import warnings
from typing import Literal

import anyio
import anyio.lowlevel
import attrs

from veeam_tasks._calls import Calls
from veeam_tasks._errors import ClosedError, VeeamTasksError
from veeam_tasks._logon import INTERRUPTIONS, Logon
from veeam_tasks._model import NoticeKind, Statistics
from veeam_tasks._notices import Notices
from veeam_tasks._poll import Engine
from veeam_tasks._text import visible
from veeam_tasks._transport import Transport

_log = logging.getLogger(__name__)

LOG_OUT_SECONDS = 5.0
"""How long a close waits for the log-out; the server ends the rest by itself."""

KEEP_ALIVE_SECONDS = 300.0
"""How long nothing may be sent before the logon session is kept alive; the server
drops it after 15 idle minutes (``http_authentication`` reference page)."""

_CLOCK_TICK = 0.001  # a sum of seconds may fall short by its last bit

# The loop itself holds its tasks weakly.
_running: set["asyncio.Task[None]"] = set()


@attrs.define(eq=False, kw_only=True)
class Host:
    """Owns the transport, the engine and the host task of one open manager.

    Args:
        shown: The URL, for the warning of a manager that was left open.
        keep_alive: Whether the logon session is kept alive while nothing is sent.
    """

    transport: Transport
    engine: Engine
    calls: Calls
    logon: Logon
    shown: str
    keep_alive: bool
    notices: Notices
    _stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    _end: Literal["log out", "leave open"] = "log out"
    _task: "asyncio.Task[None] | None" = None
    _was_asked: bool = False
    _has_left: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it runs and was not asked to stop."""
        if self._task is None or self._task.done() or self._stop.is_set():
            return False
        # A loop may be closed without a word to what still ran in it.
        return not self.engine.loop.is_closed()

    async def start(self) -> None:
        """Open the transport and start the host task."""
        self.logon.transport = self.transport
        self.logon.on_logon = self._logged_on
        self.logon.on_refused = self.engine.cut_all
        await self.transport.open()
        self._task = asyncio.create_task(self._run(), name="veeam_tasks host")
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    async def aclose(self, *, log_out: bool) -> None:
        """Stop everything and wait until it is gone, also if cancelled meanwhile.

        Raises:
            RuntimeError: It runs in another event loop.
        """
        is_gone = self._has_left and self._task is not None and self._task.done()
        if is_gone or self.engine.loop.is_closed():
            return
        self.engine.check_loop()
        self._was_asked = True
        if not self._stop.is_set():
            self._end = "log out" if log_out else "leave open"
            self._stop.set()
        self.engine.cut_all(ClosedError(what="the manager", advice="it was closed"))
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while self._task is not None and not self._task.done():
                try:
                    await asyncio.wait([self._task])
                except asyncio.CancelledError as error:
                    cancelled = error
            if not self._has_left:
                # It was cancelled before it took its first step, or never started.
                await self._leave()
        if cancelled is not None:
            raise cancelled

    def statistics(self) -> Statistics:
        """Return what this open time has done, apart from the logons.

        Changes nothing, so that a `repr` in a debugger or another thread does not.
        """
        engine, transport = self.engine, self.transport
        return Statistics(
            requests=transport.requests,
            polls=engine.polls,
            coalesced=engine.sweep.coalesced,
            retries=engine.replies.retries,
            errors=engine.replies.errors + self.calls.errors,
            in_flight=transport.in_flight,
            watched=engine.roster.watched,
            bytes_in=transport.bytes_in,
            coalescing="together" if engine.roster.is_together else "singly",
            coalescing_reason=engine.sweep.choice.reason,
        )

    def abandon(self) -> None:
        """Stop everything, since the manager was forgotten; may run in any thread."""
        if self.is_open and not self.engine.loop.is_closed():
            self.engine.loop.call_soon_threadsafe(self._stop.set)
            self._warn()

    async def _run(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        crash: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._poll)
                if self.keep_alive:
                    group.start_soon(self._keep_alive)
                await self._stop.wait()
                group.cancel_scope.cancel()
        except asyncio.CancelledError as error:
            # The loop is being shut down and nobody has closed the manager.
            cancelled = error
            self._stop.set()
        except BaseException as error:  # noqa: BLE001 - told to the readers and the log
            # Whatever it is, also a Ctrl-C that struck in a poller's step.
            crash = error
            self._stop.set()
            _log.exception("the pollers stopped")
        advice = "it was closed" if crash is None else self._explain(crash)
        self.engine.cut_all(ClosedError(what="the manager", advice=advice))
        try:
            await self._leave()
        finally:
            # Last, since a warning may be an error.
            if cancelled is not None and not self._was_asked:
                self._warn()
        if cancelled is not None:
            raise cancelled

    def _explain(self, crash: BaseException) -> str:
        while isinstance(crash, BaseExceptionGroup):
            crash = crash.exceptions[0]
        what = visible(self.engine.secrets.hide(repr(crash)))
        return f"an error of its own stopped it, and is in the log: {what}"

    async def _leave(self) -> None:
        self._has_left = True
        interruption: BaseException | None = None
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(LOG_OUT_SECONDS) as bound:
                # Once more, since what strikes the first must not skip the rest.
                for work in (self.logon.settle, self.logon.settle, self._log_out):
                    try:
                        await work()
                    except INTERRUPTIONS as error:
                        if bound.cancel_called:
                            raise
                        interruption = error
            await self.transport.aclose()
            await self.logon.stop()
        if interruption is not None:
            raise interruption

    async def _log_out(self) -> None:
        if self._end == "log out" and await self.logon.log_out():
            self.notices.tell(NoticeKind.LOGGED_OUT, self.shown)

    async def _poll(self) -> None:
        """Run the pollers once there is something to watch."""
        await self.engine.wanted.wait()
        # A close in the same step must not meet pollers that have not begun.
        await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as group:
            for _ in range(self.engine.max_in_flight):
                group.start_soon(self.engine.pollers.run)

    async def _keep_alive(self) -> None:
        while True:
            idle = self.engine.loop.time() - self.transport.sent_at
            if idle < KEEP_ALIVE_SECONDS - _CLOCK_TICK:
                await anyio.sleep(KEEP_ALIVE_SECONDS - idle)
                continue
            if self.logon.refused is None and not self.engine.gate.is_asking:
                try:
                    if await self.logon.keep_alive():
                        self.engine.replies.good()
                except VeeamTasksError as error:
                    _log.debug("not kept alive: %s", error)
            # A refusal, or a server that asked for a long pause, leaves nothing to do.
            idle = self.engine.loop.time() - self.transport.sent_at
            if idle >= KEEP_ALIVE_SECONDS - _CLOCK_TICK:
                await anyio.sleep(KEEP_ALIVE_SECONDS)

    def _logged_on(self, renewal: bool) -> None:  # noqa: FBT001 - one fact
        if renewal:
            self.notices.tell(
                NoticeKind.RENEWED,
                "the token was refused, and a new logon session was opened",
                self.engine.roster.records,
            )
            self.engine.renewed()
        else:
            self.notices.tell(NoticeKind.LOGGED_ON, self.shown)

    def _warn(self) -> None:
        warnings.warn(
            f"the manager of {self.shown} was left open: use 'async with' or"
            " 'await manager.aclose()'",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
