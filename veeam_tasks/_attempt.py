"""One attempt at a request: whether it may have arrived, and that it stays one.

Measured (aiohttp 3.14): after a disconnect it sends GET, PUT and DELETE a second time
by itself, unless what a middleware raises is another error than those it knows.
"""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any, ClassVar

import aiohttp
from aiohttp.connector import Connection

from veeam_tasks._foreign import DisconnectedError, words_of

_MANY = 64
Transports = dict[asyncio.Transport, Any]
"""The transports of connections, and their sockets.

Held strongly: aiohttp forgets a TLS transport while it still says good-bye to a server
that may never answer. (uvloop's cannot be held weakly in any case.)
"""


def hang_up(transports: Transports) -> None:
    """End what `abort` did not.

    asyncio's TLS transports cannot be aborted any more once `close` was called twice,
    as aiohttp does after a broken reply; the end of their socket ends them.
    """
    for sock in transports.values():
        # OSError: it is gone; TypeError: uvloop's, which abort ends in any case.
        with contextlib.suppress(OSError, TypeError):
            sock.shutdown(socket.SHUT_RDWR)


class _Request(aiohttp.ClientRequest):
    """A request that knows whether it was handed to a connection, and notes which."""

    opened: ClassVar[Transports]
    is_sent = False

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        self.is_sent = True
        transport = conn.transport
        if transport is not None and transport not in self.opened:
            if len(self.opened) >= _MANY:
                for gone in [one for one in self.opened if one.is_closing()]:
                    del self.opened[gone]
            self.opened[transport] = transport.get_extra_info("socket")
        return super().send(conn)


def tracking(opened: Transports) -> type[aiohttp.ClientRequest]:
    """Return the request class whose requests note their transports in `opened`."""
    return type("TrackedRequest", (_Request,), {"opened": opened})


class Attempt:
    """A middleware that knows whether a request may have arrived."""

    def __init__(self) -> None:
        self._request: aiohttp.ClientRequest | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Pass the request on, and stop aiohttp from sending it again."""
        self._request = request
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            name, text = words_of(error)
        raise DisconnectedError(name, text)

    @property
    def may_have_arrived(self) -> bool:
        """Whether the request was handed to an open connection."""
        return isinstance(self._request, _Request) and self._request.is_sent
