"""Everything that runs while a manager is open, and its orderly end.

One asyncio task, the host task, starts and ends the pollers by itself, so that a
manager may be opened, used and closed from different asyncio tasks, as the lines of a
REPL are.

A Ctrl-C that asyncio does not turn into a cancellation (the second one under
`asyncio.run`, the first one elsewhere) raises between any two lines of the event loop.
It can strike where a future that is done wakes the task that waits for it: nothing ever
wakes that task then, and no cancellation reaches it. So nobody waits here without bound
for a task to end: what cannot go on is given up (`end_by_force`).
"""

import asyncio
import contextlib
import warnings
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio
import attrs

from veeam_tasks._engine.engine import Engine
from veeam_tasks._errors import (
    ClosedError,
    LogonError,
    VeeamTasksError,
)
from veeam_tasks._model import TaskState
from veeam_tasks._options.settings import Settings
from veeam_tasks._redaction import Secret, Secrets, visible
from veeam_tasks._session.calls import Calls
from veeam_tasks._session.credentials import Credentials
from veeam_tasks._session.logon_session import INTERRUPTIONS, LogonSession
from veeam_tasks._session.origins import Origins
from veeam_tasks._telemetry.monitor import Monitor
from veeam_tasks._telemetry.notices import (
    LOGON,
    MANAGER,
    NoticeKind,
    Notices,
    Statistics,
    error_fields,
)
from veeam_tasks._telemetry.spans import Spans
from veeam_tasks._transport.transport import Transport
from veeam_tasks._transport.untraced import untraced_context

LOG_OUT_SECONDS = 5
"""How long a close waits for the log-out; the server ends the rest by itself."""

KEEP_ALIVE_SECONDS = 300.0
"""How long nothing may be sent before the logon session is kept alive; the server
drops it after 15 idle minutes (``http_authentication`` reference page)."""

LEAVE_SECONDS = 2
"""How long the pollers may take to end once they are cancelled."""

FORCE_SECONDS = LEAVE_SECONDS + LOG_OUT_SECONDS + 3
"""How long the whole end may take until the host task is given up."""

_METRIC_WORDS = {
    TaskState.RUNNING: "running",
    TaskState.OPERATION_FINISHED: "operation_finished",
    TaskState.FINISHED: "finished",
    TaskState.UNKNOWN: "unknown",
    TaskState.LOST: "lost",
}
"""How states are called by whoever monitors."""

_CLOCK_TICK = 0.001  # a sum of seconds may fall short by its last bit

# The loop itself holds its tasks weakly.
_running: set["asyncio.Task[None]"] = set()


def end_by_force(task: "asyncio.Task[Any]") -> None:
    """Make a task done that cannot take another step, and close its coroutine.

    A cancellation of the task is only delivered with its next step, which never comes;
    that of the future which every task is takes effect at once.
    """
    asyncio.Future.cancel(task)
    coroutine = task.get_coro()
    if isinstance(coroutine, Coroutine):
        # Its cleanup may await, or belong to the task itself.
        with contextlib.suppress(Exception, asyncio.CancelledError):
            coroutine.close()


async def wait_out(task: "asyncio.Task[None] | None") -> asyncio.CancelledError | None:
    """Wait until a task has ended, also if cancelled; return what cancelled the wait.

    What it raised is left for others.
    """
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while task is not None and not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


@attrs.define(eq=False, kw_only=True)
class Runtime:
    """Transport, logon session, engine and calls of one open time of a manager.

    It listens to the logon session for the engine, which is made of it.

    Args:
        loop: The event loop that the manager is opened in.
        credentials: Who logs on; None with an adopted logon session.
        adopted: Token and session ID of that one.
    """

    loop: asyncio.AbstractEventLoop
    settings: Settings
    secrets: Secrets
    credentials: Credentials | None
    adopted: tuple[Secret, Secret | None] | None
    notices: Notices
    monitor: Monitor
    spans: Spans
    origins: Origins
    transport: Transport = attrs.field(init=False)
    session: LogonSession = attrs.field(init=False)
    engine: Engine = attrs.field(init=False)
    calls: Calls = attrs.field(init=False)
    _stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    _end: Literal["log out", "leave open"] = "log out"
    _task: "asyncio.Task[None] | None" = None
    _workers: "set[asyncio.Task[None]]" = attrs.field(factory=set)
    _log_out: "asyncio.Task[BaseException | None] | None" = None
    _crash: BaseException | None = None
    is_used: bool = False
    _was_asked: bool = False
    _has_left: bool = False
    _seconds_left: int = FORCE_SECONDS
    _guard: "asyncio.TimerHandle | asyncio.Task[None] | None" = None

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.transport = Transport(
            settings.base,
            settings.trust,
            secrets=self.secrets,
            accept=settings.accept,
            request_timeout=settings.request_timeout,
            max_reply_bytes=settings.resource_bytes,
            proxy=settings.proxy,
            monitor=self.monitor,
        )
        self.session = LogonSession(
            transport=self.transport,
            listener=self,
            secrets=self.secrets,
            credentials=self.credentials,
            api_version=settings.api_version,
            media_type=settings.media_type,
            spans=self.spans,
            origins=self.origins,
        )
        self.engine = Engine(
            loop=self.loop,
            transport=self.transport,
            session=self.session,
            secrets=self.secrets,
            notices=self.notices,
            monitor=self.monitor,
            spans=self.spans,
            max_in_flight=settings.max_in_flight,
            request_timeout=settings.request_timeout,
            patience=settings.patience,
            max_reply_bytes=settings.resource_bytes,
            coalesce=settings.coalesce,
            max_collection_bytes=settings.collection_bytes,
        )
        self.calls = Calls(
            session=self.session,
            observer=self.engine,
            secrets=self.secrets,
            settings=settings,
        )

    @property
    def shown(self) -> str:
        """The URL, as people see it."""
        return str(self.settings.base)

    @property
    def is_open(self) -> bool:
        """Whether it runs and was not asked to stop."""
        if self._task is None or self._task.done() or self._stop.is_set():
            return False
        # A loop may be closed without a word to what still ran in it.
        return not self.loop.is_closed()

    async def start(self) -> None:
        """Open the transport and start the host task."""
        await self.transport.open()
        if self._stop.is_set():
            raise ClosedError(what="the manager", advice="closed while it was opened")
        self._task = asyncio.create_task(self._run(), name="veeam_tasks host")
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    async def log_on(self) -> None:
        """Have a logon session: log on, or take the adopted one.

        Raises:
            LogonError: The account was refused.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
            ClosedError: It was closed meanwhile.
        """
        if self.adopted is None:
            await self.session.open()
        elif self.session.token is None:
            self.session.adopt(*self.adopted)
        if not self.is_open:
            raise ClosedError(what="the manager", advice="closed while it was opened")

    async def aclose(self, *, log_out: bool) -> None:
        """Stop everything and wait until it is gone, also if cancelled meanwhile.

        Raises:
            RuntimeError: It runs in another event loop.
        """
        is_gone = self._has_left and self._task is not None and self._task.done()
        if is_gone or self.loop.is_closed():
            return
        self.engine.check_loop()
        self._was_asked = True
        if not self._stop.is_set():
            self._end = "log out" if log_out else "leave open"
            self._begin_end()
        self.engine.end_all(ClosedError(what="the manager", advice="it was closed"))
        with anyio.CancelScope(shield=True):
            cancelled = await wait_out(self._task)
            if not self._has_left:
                # It was cancelled before it took its first step, or never started.
                await self._leave()
            await self.transport.aclose()
        if cancelled is not None:
            raise cancelled

    def statistics(self) -> Statistics:
        """Return what this open time has done.

        Changes nothing, so that a `repr` in a debugger or another thread does not.
        """
        polling, transport = self.engine.statistics(), self.transport
        session = self.session
        last_at = transport.sent_at if transport.requests else None
        return Statistics(
            logons=session.logons,
            renewals=session.renewals,
            requests=transport.requests,
            polls=polling.polls,
            coalesced=polling.coalesced,
            retries=polling.retries + session.retries,
            errors=polling.errors + self.calls.errors + session.errors,
            in_flight=transport.in_flight,
            watched=polling.watched,
            bytes_in=transport.bytes_in,
            coalescing="together" if polling.is_together else "singly",
            coalescing_reason=polling.reason,
            last_request_at=self._wall(last_at),
            next_request_at=self._wall(polling.next_at),
        )

    def states(self) -> Counter[str]:
        """Count what is watched by where it stands; may be called in any thread."""
        tracker = self.engine.tracker
        counts = Counter(
            "unseen" if record.task is None else _METRIC_WORDS[record.task.state]
            for record in list(tracker.records.values())
        )
        counts.update(record.stage.value for record in list(tracker.runs.values()))
        return counts

    @property
    def is_reachable(self) -> bool:
        """Whether it is open, was not refused, and the server gives good replies."""
        is_refused = self.session.refused is not None
        return (
            self.is_open and not is_refused and not self.engine.health.outage.is_closed
        )

    def _wall(self, at: float | None) -> datetime | None:
        """Return what a time of the loop is on the wall clock."""
        if at is None:
            return None
        return datetime.now(UTC) + timedelta(seconds=at - self.loop.time())

    def abandon(self) -> None:
        """Stop everything, since the manager was forgotten; may run in any thread."""
        if self.is_open and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._begin_end)
            self._warn()

    async def _run(self) -> None:
        interruption: BaseException | None = None
        try:
            self._start_worker(self._start_pollers())
            if self.settings.keep_alive:
                self._start_worker(self._keep_alive())
            await self._stop.wait()
        except asyncio.CancelledError as error:
            # The loop is being shut down and nobody has closed the manager.
            interruption = error
        except (KeyboardInterrupt, SystemExit) as error:
            # Ctrl-C struck in this very step.
            interruption = self._crash = error
        self._begin_end()
        interruption = await self._end_workers() or interruption
        crash = self._crash
        if crash is not None:
            told = {"em_url": self.shown, "event": "crashed"}
            MANAGER.error("the pollers stopped", exc_info=crash, extra=told)
        advice = "it was closed" if crash is None else self._explain(crash)
        self.engine.end_all(ClosedError(what="the manager", advice=advice))
        try:
            await self._leave()
        finally:
            # Last, since a warning may be an error.
            if isinstance(interruption, asyncio.CancelledError) and not self._was_asked:
                self._warn()
        if interruption is not None:
            raise interruption

    # --- the workers: the pollers, and what keeps the logon session alive

    # Not in a task group: one waits without bound for each of its tasks, and to one
    # that is told nothing any more it delivers its cancellation in each step of the
    # loop, for ever.
    def _start_worker(self, work: Coroutine[None, None, None]) -> None:
        worker = self.loop.create_task(
            work, name="veeam_tasks worker", context=untraced_context()
        )
        self._workers.add(worker)
        worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: "asyncio.Task[None]") -> None:
        self._workers.discard(worker)
        crash = None if worker.cancelled() else worker.exception()
        if crash is not None:
            # Whatever it is, also a Ctrl-C that struck in a poller's step.
            self._crash = self._crash or crash
            self._begin_end()

    async def _end_workers(self) -> BaseException | None:
        """Cancel all workers until they are gone; return what struck meanwhile."""
        interruption: BaseException | None = None
        for _ in range(LEAVE_SECONDS):
            try:
                for worker in self._workers:
                    worker.cancel()
                if self._workers:
                    await asyncio.wait(self._workers, timeout=1)
            except INTERRUPTIONS as error:
                interruption = error
        for worker in list(self._workers):
            end_by_force(worker)
        return interruption

    # --- the end

    def _begin_end(self) -> None:
        """Ask the host task to end, and from now on see to it that it does."""
        # First, since an interruption may strike in whatever follows.
        if self._guard is None and self._task is not None and not self._task.done():
            self._guard = self.loop.call_later(1, self._count_down)
            self._task.add_done_callback(self._stop_guard)
        self._stop.set()

    def _stop_guard(self, host: "asyncio.Task[None]") -> None:
        if self._guard is not None:
            self._guard.cancel()
        # Retrieved here: what it raises has gone through the loop, and nobody waits.
        _ = host.cancelled() or host.exception()

    def _count_down(self) -> None:
        # In steps, so that a loop which was held for long counts as one of them.
        self._seconds_left -= 1
        loop = self.loop
        if self._seconds_left > 0:
            self._guard = loop.call_later(1, self._count_down)
        else:
            self._guard = loop.create_task(self._end_in_its_place())

    async def _end_in_its_place(self) -> None:
        """End instead of the host task, which can go on no more."""
        MANAGER.error(
            "the manager of %s did not end within %d s: it is ended by force",
            self.shown,
            FORCE_SECONDS,
            extra={"em_url": self.shown, "event": "ended_by_force"},
        )
        try:
            await self._end_workers()
            # What it had begun to leave is not begun again: that was what hung.
            await (self.transport.aclose() if self._has_left else self._leave())
        finally:
            for task in (self._log_out, self._task):
                if task is not None and not task.done():
                    end_by_force(task)

    def _explain(self, crash: BaseException) -> str:
        what = visible(self.engine.secrets.hide(repr(crash)))
        return f"an error of its own stopped it, and is in the log: {what}"

    async def _leave(self) -> None:
        """Log out, and close every connection, whatever interrupts it."""
        # In a task of its own: a log-out that nothing wakes can be given up.
        create = self.loop.create_task
        self._log_out = log_out = create(self._end_logon(), name="veeam_tasks log-out")
        self._has_left = True
        try:
            interruption = await self._wait_for(log_out, LOG_OUT_SECONDS)
            # This ends a log-out under way, too.
            await self.transport.aclose()
            await self.session.cancel_pending()
            interruption = await self._wait_for(log_out, 1) or interruption
        finally:
            if not log_out.done():
                end_by_force(log_out)
        if not log_out.cancelled():
            interruption = interruption or log_out.result()
        if interruption is not None:
            raise interruption

    async def _wait_for(
        self, log_out: "asyncio.Task[BaseException | None]", seconds: int
    ) -> BaseException | None:
        """Wait for the log-out; return what struck meanwhile."""
        interruption: BaseException | None = None
        # In steps, so that a loop which was held for long counts as one of them.
        for _ in range(seconds):
            if log_out.done():
                break
            try:
                await asyncio.wait([log_out], timeout=1)
            except INTERRUPTIONS as error:
                interruption = error
                # It begins once more, unless it was interrupted as well.
                if not log_out.cancelling():
                    log_out.cancel()
        return interruption

    async def _end_logon(self) -> BaseException | None:
        """Log out; return what struck meanwhile."""
        interruption: BaseException | None = None
        # Once more, since what strikes the first must not skip the rest.
        for work in (*[self.session.wait_for_pending] * 2, self._end_logon_session):
            try:
                await work()
            except INTERRUPTIONS as error:
                interruption = error
        return interruption

    async def _end_logon_session(self) -> None:
        if self._end == "log out" and await self.session.log_out():
            self.notices.tell(NoticeKind.LOGGED_OUT, self.shown)

    async def _start_pollers(self) -> None:
        """Start the pollers once there is something to watch."""
        await self.engine.wanted.wait()
        for _ in range(self.engine.max_in_flight):
            self._start_worker(self.engine.run_poller())

    async def _keep_alive(self) -> None:
        while True:
            idle = self.loop.time() - self.transport.sent_at
            if idle < KEEP_ALIVE_SECONDS - _CLOCK_TICK:
                await anyio.sleep(KEEP_ALIVE_SECONDS - idle)
                continue
            if self.session.refused is None and not self.engine.health.is_asking:
                try:
                    if await self.session.keep_alive():
                        self.engine.health.record_success()
                except VeeamTasksError as error:
                    told = {"em_url": self.shown, "event": "not_kept_alive"}
                    told |= error_fields(error)
                    LOGON.debug("not kept alive: %s", error, extra=told)
            # A refusal, or a server that asked for a long pause, leaves nothing to do.
            idle = self.loop.time() - self.transport.sent_at
            if idle >= KEEP_ALIVE_SECONDS - _CLOCK_TICK:
                await anyio.sleep(KEEP_ALIVE_SECONDS)

    # --- what the logon session tells

    def logged_on(self) -> None:
        """Tell of the first logon, and of one after a refusal."""
        self.notices.tell(NoticeKind.LOGGED_ON, self.shown)

    def renewed(self) -> None:
        """Tell of a renewal, and ask for each watched task under the new token."""
        self.notices.tell(
            NoticeKind.RENEWED,
            "the token was refused, and a new logon session was opened",
            self.engine.tracker.task_ids,
        )
        self.engine.renewed()

    def refused(self, error: LogonError) -> None:
        """End every watch, since nothing is asked any more."""
        self.monitor.refusals += 1
        self.engine.refused(error)

    def _warn(self) -> None:
        warnings.warn(
            f"the manager of {self.shown} was left open: use 'async with' or"
            " 'await manager.aclose()'",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
