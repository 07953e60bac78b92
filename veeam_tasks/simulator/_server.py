"""The simulated Enterprise Manager, in the caller's own event loop."""

import asyncio
from types import TracebackType
from typing import Self

from veeam_tasks.simulator._face import Face


class SimulatedServer(Face):
    """A simulated Enterprise Manager on a real socket, in the loop that starts it.

    Use it by ``async with``, or by ``await start()`` and ``await aclose()``. States and
    expiry follow the loop's clock, so virtual time works; nothing ticks meanwhile.
    """

    async def start(self) -> Self:
        """Listen; return the server itself.

        Raises:
            RuntimeError: It is running.
            OSError: The port is taken.
        """
        if self._runtime.is_running:
            problem = f"{self!r} is running"
            raise RuntimeError(problem)
        self._clock.bind(asyncio.get_running_loop())
        tls = None if self._certificates is None else self._certificates.context
        await self._runtime.start(tls)
        return self

    async def aclose(self) -> None:
        """Stop listening and end every connection; may be called twice."""
        await self._runtime.stop()

    async def pause(self) -> None:
        """Refuse connections and cut the open ones, as a service that is down."""
        await self._runtime.pause()

    async def resume(self) -> None:
        """Listen again, on the same port."""
        await self._runtime.resume()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
