"""The socket that the server listens on, and what is open on it."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final

from veeam_tasks.simulator._http import Door

_GRACE: Final = 0.1
_BACKLOG: Final = 4096


class Runtime:
    """Listens in one event loop at a time.

    Args:
        host: Where to listen.
        port: The port; 0 for any that is free, which is then kept.
        make_door: Makes what accepts connections; called in the loop.
    """

    def __init__(self, host: str, port: int, make_door: Callable[[], Door]) -> None:
        self.host = host
        self.port = port
        self._make_door = make_door
        self._loop: asyncio.AbstractEventLoop | None = None
        self._door: Door | None = None
        self._listener: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped; a paused one is running."""
        return self._door is not None

    async def start(self, tls: ssl.SSLContext | None) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._door = self._make_door()
        try:
            await self.resume()
        except BaseException:
            self._door = None
            raise

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        door, self._door = self._door, None
        self._deafen()
        if door is not None:
            await door.shutdown(_GRACE)

    async def pause(self) -> None:
        """Refuse connections and cut those that are open."""
        self._deafen()
        if self._door is not None:
            self._door.drop()

    async def resume(self) -> None:
        """Listen again on the same port; nothing if it listens."""
        if self._door is None or self._listener is not None:
            return
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._door, self.host, self.port, ssl=self._tls, backlog=_BACKLOG
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def drop(self) -> None:
        """Cut every open connection; from any thread."""
        loop, door = self._loop, self._door
        if loop is None or door is None:
            return
        running = None
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is loop:
            door.drop()
        else:
            loop.call_soon_threadsafe(door.drop)

    def _deafen(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
