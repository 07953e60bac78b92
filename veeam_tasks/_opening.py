"""One opening of a manager, shared by all who ask for it meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import NoReturn

import anyio
import attrs

from veeam_tasks._errors import ClosedError, VeeamTasksError


@attrs.define(eq=False)
class Opening:
    """Opens in an asyncio task of its own, so that no waiter takes others down.

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
            raise failure.again() if isinstance(failure, VeeamTasksError) else failure
        self._is_served = True

    async def ended(self) -> None:
        """Wait for the end, also if cancelled meanwhile; that is honoured then."""
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while self._task is not None and not self._task.done():
                try:
                    await asyncio.wait([self._task])
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled
