"""The socket that the server listens on, and what is open on it."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final

import attrs
from aiohttp import web

from veeam_tasks.simulator._http import Door

_GRACE: Final = 0.1
_BACKLOG: Final = 4096


@attrs.define(kw_only=True)
class Address:
    """Where the server is, and where it believes to be.

    Attributes:
        host: Where to listen.
        port: The port; 0 until one was found.
        scheme: ``http`` or ``https``.
        believed: What stands in links instead of the URL, or None.
    """

    host: str
    port: int
    scheme: str
    believed: str | None

    @property
    def url(self) -> str:
        """The URL.

        Raises:
            RuntimeError: There is no port yet.
        """
        if not self.port:
            problem = "the simulated server has no URL before it is started"
            raise RuntimeError(problem)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}:{self.port}"

    def base(self) -> str:
        """Return the beginning of every link."""
        return f"{(self.believed or self.url).rstrip('/')}/api/"


def _ignore_broken_handshakes(loop: asyncio.AbstractEventLoop) -> None:
    """Keep a loop in debug mode from reporting clients that distrust the certificate.

    That a client breaks the handshake off is what a test of it wants to see. It stays
    in force, since the loop may learn of it after the server was closed.
    """
    before = loop.get_exception_handler()
    if isinstance(getattr(before, "__self__", None), _Quiet):
        return
    loop.set_exception_handler(_Quiet(before).handle)


_Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


@attrs.frozen
class _Quiet:
    before: _Handler | None

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        is_ours = isinstance(context.get("protocol"), web.RequestHandler)
        if is_ours and isinstance(context.get("exception"), OSError):
            return
        if self.before is None:
            loop.default_exception_handler(context)
        else:
            self.before(loop, context)


class Runtime:
    """Listens in one event loop at a time.

    It knows nothing of the face in front of it, so that one which nobody holds any
    more can warn that it was left open.

    Args:
        address: Where to listen; its port is filled in.
        make_door: Makes what accepts connections; called in the loop.
    """

    def __init__(self, address: Address, make_door: Callable[[], Door]) -> None:
        self._address = address
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
        if tls is not None:
            _ignore_broken_handshakes(self._loop)
        try:
            await self.resume()
        except BaseException:
            await self.stop()
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
            self._door,
            self._address.host,
            self._address.port,
            ssl=self._tls,
            backlog=_BACKLOG,
        )
        self._address.port = self._listener.sockets[0].getsockname()[1]

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
