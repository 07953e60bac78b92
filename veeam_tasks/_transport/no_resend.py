"""One attempt at a request: whether it may have arrived, and that it stays one.

Measured (aiohttp 3.14): after a disconnect it sends GET, PUT and DELETE a second time
by itself, unless what a middleware raises is another error than those it knows. Of a
kept connection it asks only whether asyncio has seen its end: a reply that came while
it was idle is the answer to the next request; and after the loop was held, the end may
still lie in the kernel. Hence `Guard`.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import aiohttp
from aiohttp.connector import Connection

from veeam_tasks._transport.errors import DisconnectedError, describe

_MANY = 64
_LONG_HELD = 0.05

Transports = dict[asyncio.Transport, "Guard"]
"""The transports of connections, and what guards them.

Held strongly: aiohttp forgets a TLS transport while it still says good-bye to a server
that may never answer. (uvloop's cannot be held weakly in any case.)
"""


def shut_sockets(transports: Transports) -> None:
    """End what `abort` did not.

    asyncio's TLS transports cannot be aborted any more once `close` was called twice,
    as aiohttp does after a broken reply; the end of their socket ends them.
    """
    for guard in transports.values():
        # OSError: it is gone; TypeError: uvloop's, which abort ends in any case.
        with contextlib.suppress(OSError, TypeError):
            guard.sock.shutdown(socket.SHUT_RDWR)


class UnusableError(aiohttp.ClientError):
    """A kept connection was given up before anything was sent over it: ask again."""


class Guard(asyncio.Protocol):
    """Stands between a kept connection and aiohttp's protocol.

    Bytes that come while nobody waits for a reply end the connection: whatever they
    are, they are no answer to what is asked next. (Some servers say 408 before they
    close an idle one.)
    """

    __slots__ = ("_connection", "_news", "_now", "_protocol", "_taken_at", "sock")

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        assert connection.protocol is not None
        self._connection = connection
        self._protocol = connection.protocol
        self._now = asyncio.get_running_loop().time
        self._taken_at = self._now()
        self.sock: Any = transport.get_extra_info("socket")
        self._news = _news_of(self.sock)
        transport.set_protocol(self)

    def take(self, connection: Connection, *, is_hurried: bool) -> bool:
        """Return whether a request may be sent over it, again.

        To ask the kernel costs 0.7 us, 1 % of a poll, so that one asks only if the loop
        was held, or the connection was idle, for so long that something may have come.
        """
        now = self._now()
        is_recent = is_hurried and now - self._taken_at < _LONG_HELD
        self._connection, self._taken_at = connection, now
        return is_recent or not self._news()

    def data_received(self, data: bytes) -> None:
        """Pass on what was asked for."""
        if self._connection.protocol is not None:
            self._protocol.data_received(data)
            return
        self._protocol.force_close()
        if self._protocol.transport is not None:
            self._protocol.transport.abort()

    def eof_received(self) -> None:
        """Pass it on."""
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()


def _news_of(sock: Any) -> Callable[[], bool]:
    """Return what tells whether the kernel holds bytes or the end of a connection."""
    if not hasattr(select, "poll"):  # pragma: no cover - Windows
        return lambda: bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    # Hang-ups and errors are told in any case.
    poll.register(sock.fileno(), select.POLLIN)
    return lambda: bool(poll.poll(0))


class _Request(aiohttp.ClientRequest):
    """A request that knows whether it was handed to a connection, and notes which."""

    opened: ClassVar[Transports]
    is_hurried = True
    is_sent = False

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        transport = conn.transport
        if transport is not None:
            guard = self.opened.get(transport)
            if guard is None:
                self._note(conn, transport)
            elif not guard.take(conn, is_hurried=self.is_hurried):
                transport.abort()
                raise UnusableError
        self.is_sent = True
        return super().send(conn)

    def _note(self, conn: Connection, transport: asyncio.Transport) -> None:
        if len(self.opened) >= _MANY:
            for gone in [one for one in self.opened if one.is_closing()]:
                del self.opened[gone]
        self.opened[transport] = Guard(conn, transport)


def tracking_request_class(opened: Transports) -> type[aiohttp.ClientRequest]:
    """Return the request class whose requests note their transports in `opened`."""
    return type("TrackedRequest", (_Request,), {"opened": opened})


class NoResend:
    """A middleware that knows whether a request may have arrived."""

    def __init__(self) -> None:
        self._request: aiohttp.ClientRequest | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Pass the request on, and stop aiohttp from sending it again."""
        self._request = request
        if isinstance(request, _Request):
            request.is_hurried = False
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            name, text = describe(error)
        raise DisconnectedError(name, text)

    @property
    def may_have_arrived(self) -> bool:
        """Whether the request was handed to an open connection."""
        return isinstance(self._request, _Request) and self._request.is_sent
