"""When a manager is open: one opening for all who ask, one close, what is left of both.

Nothing of a `Runtime` outlives its close. So whoever opens a manager again gets another
one, and what it counted goes into the counts of those before it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import NoReturn

import anyio
import attrs

from veeam_tasks._client.runtime import Runtime, wait_out
from veeam_tasks._engine.engine import running_loop
from veeam_tasks._errors import ClosedError, fresh
from veeam_tasks._options.settings import Settings
from veeam_tasks._redaction import Secret, Secrets
from veeam_tasks._session.credentials import Credentials
from veeam_tasks._session.origins import Origins
from veeam_tasks._telemetry.monitor import Measures, Monitor
from veeam_tasks._telemetry.notices import Notices, Statistics, added
from veeam_tasks._telemetry.spans import Spans


@attrs.define(eq=False, kw_only=True)
class Lifetime:
    """Opens and closes a manager, as often as it is asked to.

    Args:
        credentials: Who logs on; None with an adopted logon session.
        adopted: Token and session ID of that one.

    Attributes:
        runtime: That of now, or of the last time; None before the first.
        origins: Tells tasks of this server from those of another one.
    """

    settings: Settings
    secrets: Secrets
    credentials: Credentials | None
    adopted: tuple[Secret, Secret | None] | None
    runtime: Runtime | None = None
    origins: Origins = attrs.field(init=False)
    _notices: Notices = attrs.field(init=False)
    _monitor: Monitor = attrs.field(init=False)
    _opening: "Opening | None" = None
    # What earlier open times have done, and the last of them that is counted in it.
    _past: tuple[Runtime | None, Statistics] = attrs.field(
        factory=lambda: (None, Statistics())
    )

    def __attrs_post_init__(self) -> None:
        base, account = self.settings.base, self.credentials
        self._notices = Notices(
            self.settings.on_notice,
            None if account is None else account.username,
            str(base),
        )
        self._monitor = Monitor(str(base))
        self.origins = Origins(base, self.secrets.hide_in_path)

    async def open(self) -> None:
        """Log on, unless that is done; see `SessionManager.open`."""
        loop = running_loop()
        while (opening := self._opening) is not None:
            if opening.loop is not loop:
                if opening.loop.is_closed():
                    break
                opening.refuse_loop()
            if not opening.is_over:
                break
            # Closed, or given up by whoever waited for it: the next one comes after it.
            await opening.ended()
        runtime = self.runtime
        if opening is None and runtime is not None and runtime.is_open:
            runtime.engine.check_loop()
            await runtime.log_on()
            runtime.is_used = True
            return
        if opening is None or opening.loop is not loop:
            # No await between the look at what there is and this.
            opening = self._opening = Opening(loop)
            opening.begin(self._open(opening), self._release)
        await opening.share(self._drop)
        if self.runtime is not None:
            self.runtime.is_used = True

    def _release(self, opening: "Opening") -> None:
        if self._opening is opening:
            self._opening = None

    async def _drop(self) -> None:
        """Close what was opened for nobody, since all who asked for it have gone."""
        runtime = self.runtime
        if runtime is not None and not runtime.is_used:
            await runtime.aclose(log_out=True)

    async def _open(self, opening: "Opening") -> None:
        """Open once, for all who ask meanwhile."""
        old = self.runtime
        if old is not None:
            await old.aclose(log_out=True)
        opening.check()
        if old is not None:
            self._past = old, added(old.statistics(), self._past[1])
        runtime = self.runtime = self.make_runtime(opening.loop)
        try:
            await runtime.start()
            await runtime.log_on()
        except BaseException:
            await runtime.aclose(log_out=True)
            raise

    def make_runtime(self, loop: asyncio.AbstractEventLoop) -> Runtime:
        """Make what runs while the manager is open; nothing of it is started."""
        base = self.settings.base
        return Runtime(
            loop=loop,
            settings=self.settings,
            secrets=self.secrets,
            credentials=self.credentials,
            adopted=self.adopted,
            notices=self._notices,
            monitor=self._monitor,
            # Of this open time: the next logon session gives the same IDs anew.
            spans=Spans(base.raw_host or "", base.port or 0, str(base)),
            origins=self.origins,
        )

    async def aclose(self, *, log_out: bool) -> None:
        """Close what is open or being opened; see `SessionManager.aclose`."""
        opening, runtime = self._opening, self.runtime
        if opening is not None and not opening.loop.is_closed():
            if opening.loop is not running_loop():
                opening.refuse_loop()
            opening.is_over = True
        try:
            if runtime is not None:
                await runtime.aclose(log_out=log_out)
        finally:
            if opening is not None and not opening.loop.is_closed():
                await opening.ended()

    def running(self) -> Runtime:
        """Return the runtime of now.

        Raises:
            ClosedError: The manager is not open.
            LogonError: The logon was refused before.
            RuntimeError: It is open in another event loop.
        """
        runtime = self.runtime
        if runtime is not None and runtime.session.refused is not None:
            raise fresh(runtime.session.refused)
        if runtime is None or not runtime.is_open:
            word = "it is not open" if runtime is None else "it was closed"
            raise ClosedError(
                what="the manager", advice=f"{word}; open it first: await open()"
            )
        runtime.engine.check_loop()
        return runtime

    def statistics(self) -> Statistics:
        """Return what the manager has done over all the times that it was open."""
        # In this order: another thread may ask while one is counted as past.
        runtime = self.runtime
        counted, past = self._past
        now = Statistics()
        if runtime is not None and runtime is not counted:
            now = runtime.statistics()
        return added(now, past)

    def measures(self) -> Measures:
        """Return what a scrape tells of now; may be called in any thread."""
        runtime = self.runtime
        return Measures(
            statistics=self.statistics(),
            monitor=self._monitor,
            states={} if runtime is None else runtime.states(),
            is_reachable=runtime is not None and runtime.is_reachable,
        )


@attrs.define(eq=False)
class Opening:
    """One opening of a manager, shared by all who ask for it meanwhile.

    It opens in an asyncio task of its own, so that no waiter takes others down.

    Attributes:
        loop: Whose it is.
        is_over: Whether it was closed, or nobody waits for it any more.
    """

    loop: asyncio.AbstractEventLoop
    is_over: bool = False
    _task: "asyncio.Task[None] | None" = None
    _waiters: int = 0
    _is_served: bool = False

    def begin(
        self,
        work: Coroutine[None, None, None],
        release: "Callable[[Opening], None]",
    ) -> None:
        """Start the work; `release` is called when it has ended."""
        self._task = self.loop.create_task(work, name="veeam_tasks opening")

        def end(task: "asyncio.Task[None]") -> None:
            release(self)
            if not task.cancelled():
                task.exception()  # retrieved here, since every waiter may have gone

        self._task.add_done_callback(end)

    def check(self) -> None:
        """Raise if the manager was closed meanwhile.

        Raises:
            ClosedError: It was.
        """
        if self.is_over:
            raise ClosedError(what="the manager", advice="closed while it was opened")

    def refuse_loop(self) -> NoReturn:
        """Raise that the manager is opened in another event loop."""
        text = (
            "this manager is being opened in another event loop; call it from there"
            " (from another thread: asyncio.run_coroutine_threadsafe)"
        )
        raise RuntimeError(text)

    async def share(self, drop: Callable[[], Awaitable[None]]) -> None:
        """Wait for the end with others; the last to be cancelled ends it.

        Args:
            drop: Closes what was opened if nobody got it.
        """
        assert self._task is not None
        self._waiters += 1
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._waiters -= 1
            if not self._waiters and not self._is_served:
                self.is_over = True
                self._task.cancel()
                await self.ended()
                with anyio.CancelScope(shield=True):
                    await drop()
            raise
        self._waiters -= 1
        if self._task.cancelled():
            # By a loop that ends, or with the last waiter; this one was not cancelled.
            self.is_over = True
            self.check()
        failure = self._task.exception()
        if failure is not None:
            raise fresh(failure)
        self._is_served = True

    async def ended(self) -> None:
        """Wait for the end, also if cancelled meanwhile; that is honoured then."""
        cancelled = await wait_out(self._task)
        if cancelled is not None:
            raise cancelled
