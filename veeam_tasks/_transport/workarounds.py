"""What aiohttp has to be kept from: sending twice, old connections, endless bodies.

`NoResend` makes one attempt at a request, and tells whether it may have arrived;
`read_body` counts a body while it is read, whatever the headers say of its length.

Measured (aiohttp 3.14): after a disconnect it sends GET, PUT and DELETE a second time
by itself, unless what a middleware raises is another error than those it knows. Of a
kept connection it asks only whether asyncio has seen its end: a reply that came while
it was idle is the answer to the next request; and after the loop was held, the end may
still lie in the kernel. Hence `Guard`.

Since 3.14.1 it decompresses in pieces of its read buffer, no faster than they are
taken; so a body that becomes too long is cut, however small it was on the wire.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from multidict import CIMultiDict, CIMultiDictProxy, istr

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._redaction import HIDDEN, Secrets
from veeam_tasks._transport.errors import CUT, DisconnectedError, describe

TOKEN_HEADER = istr("X-RestSvcSessionId")
"""Carries the token, in a logon's reply and in every request after it."""

_SECRET = frozenset({TOKEN_HEADER.lower(), hdrs.SET_COOKIE.lower()})

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


class Response(aiohttp.ClientResponse):
    """A reply whose `repr` shows no headers: a token stands in them."""

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    def hide_headers(self, secrets: Secrets) -> None:
        """Hide what is secret in its headers from whoever is told of the reply."""
        shown = CIMultiDict(
            (name, HIDDEN if name.lower() in _SECRET or secrets.is_in(value) else value)
            for name, value in self._headers.items()
        )
        self._headers = self._cache["headers"] = CIMultiDictProxy(shown)
        self._raw_headers = self._cache["raw_headers"] = ()


class _Body:
    """What has come of a body; no local of a frame, since those are printed."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def take(self, piece: bytes) -> bool:
        """Add what came; return whether it was anything."""
        self.size += len(piece)
        self._pieces.append(piece)
        return bool(piece)

    def whole(self) -> bytes:
        """Return all of it."""
        return b"".join(self._pieces)


async def read_body(
    response: aiohttp.ClientResponse, request: str, limit: int
) -> bytes:
    """Return the body, which may be `limit` bytes long; else cut the connection.

    Raises:
        MalformedReplyError: It is longer.
        aiohttp.ClientError: Whatever else befell it.
    """
    body = _Body()
    try:
        with _told_of_the_end(response):
            while body.size <= limit and body.take(await response.content.readany()):
                continue
    except BaseException:
        drop(response)
        raise
    if body.size <= limit:
        return body.whole()
    drop(response)
    problem = f"the body is longer than {limit} bytes"
    raise MalformedReplyError(request=request, problem=problem)


def drop(response: aiohttp.ClientResponse) -> None:
    """Cut the connection of a reply that is not wanted any more."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


@contextmanager
def _told_of_the_end(response: aiohttp.ClientResponse) -> Iterator[None]:
    """Let whoever reads a body know when its connection is gone.

    aiohttp 3.14 forgets the reader when a later chunk is garbage, and when the server
    closes while a compressed body waits to be read on.
    """

    def tell(_: asyncio.Future[None] | None = None) -> None:
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(
                aiohttp.ClientPayloadError(f"{CUT}: the connection was closed")
            )

    connection = response.connection
    protocol = None if connection is None else connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is None:  # it was lost before
        tell()
        yield
        return
    # Stays after this reply, and once only: the connection may be lost much later.
    closed.remove_done_callback(_retrieve)
    closed.add_done_callback(_retrieve)
    closed.add_done_callback(tell)
    try:
        yield
    finally:
        closed.remove_done_callback(tell)


def _retrieve(closed: asyncio.Future[None]) -> None:
    """Look at how a connection ended, or asyncio complains that nobody did."""
    if not closed.cancelled():
        closed.exception()
