"""A reply's body, counted while it is read, whatever its headers say of its length.

Since 3.14.1 aiohttp decompresses in pieces of its read buffer, no faster than they are
taken; so a body that becomes too long is cut, however small it was on the wire.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy, istr

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._redaction import HIDDEN, Secrets
from veeam_tasks._transport.errors import CUT

TOKEN_HEADER = istr("X-RestSvcSessionId")
"""Carries the token, in a logon's reply and in every request after it."""

_SECRET = frozenset({TOKEN_HEADER.lower(), hdrs.SET_COOKIE.lower()})


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
