"""One attempt at a request: whether it may have arrived, and that it stays one.

Measured (aiohttp 3.14): after a disconnect it sends PUT and DELETE a second time by
itself, unless what a middleware raises is another error than those it knows.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection

from veeam_tasks._foreign import DisconnectedError, words_of

Transports = WeakSet[asyncio.Transport]


class _Request(aiohttp.ClientRequest):
    """A request that knows whether it was handed to a connection, and notes which."""

    opened: ClassVar[Transports]
    is_sent = False

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        self.is_sent = True
        transport = conn.transport
        if transport is not None and transport not in self.opened:
            self.opened.add(transport)
        return super().send(conn)


def tracking(opened: Transports) -> type[aiohttp.ClientRequest]:
    """Return the request class of a session whose transports go into `opened`."""
    return type("TrackedRequest", (_Request,), {"opened": opened})


class Attempt:
    """A middleware that knows whether a request may have arrived.

    Args:
        once: Whether the request may be sent once only.
    """

    def __init__(self, *, once: bool) -> None:
        self._once = once
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
            if not self._once:
                raise
            words = words_of(error)
        raise DisconnectedError(words)

    @property
    def may_have_arrived(self) -> bool:
        """Whether the request was handed to an open connection."""
        return isinstance(self._request, _Request) and self._request.is_sent
