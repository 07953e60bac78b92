"""Faults in the sending: replies cut, dragged out, or never sent."""

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import attrs
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from veeam_tasks.simulator._change import Play, changed
from veeam_tasks.simulator._dress import Dresser
from veeam_tasks.simulator._faults import FaultKind
from veeam_tasks.simulator._flavor import Flavor

# SO_LINGER on, for no time: closing sends a reset.
_RESET: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = b" " * 65_536
_NOISE: Final = 512
_EXTRA: Final = 16

Send = Callable[[Play], Awaitable[web.StreamResponse]]


class Raw(web.StreamResponse):
    """A reply that is written by hand; its connection ends with it.

    Args:
        data: The bytes to write.
        reset: End by a TCP reset.
        abort: End TCP at once, under TLS without notice.
    """

    def __init__(
        self, data: bytes, *, reset: bool = False, abort: bool = False
    ) -> None:
        super().__init__()
        self._data = data
        self._reset = reset
        self._abort = abort
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the bytes and end the connection."""
        transport = request.transport
        if transport is None:
            return None
        transport.write(self._data)
        if self._reset:
            plug: socket.socket = transport.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if self._reset or self._abort:
            transport.abort()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing more."""


class Spoiler:
    """Plays faults: first the answer is changed, then it is sent, badly."""

    def __init__(self, flavor: Flavor, dresser: Dresser) -> None:
        self._flavor = flavor
        self._dresser = dresser
        self._sends: Mapping[FaultKind, Send] = {
            FaultKind.STALL: self._stall,
            FaultKind.DELAY: self._delay,
            FaultKind.ENDLESS_BODY: self._endless,
            FaultKind.SLOW_DRIP: self._drip,
        }
        self._cuts: Mapping[FaultKind, Callable[[Play], Raw]] = {
            FaultKind.RESET: self._reset,
            FaultKind.RESET_IN_HEADERS: self._reset_in_headers,
            FaultKind.RESET_AFTER_HEADERS: self._reset_after_headers,
            FaultKind.DROP: self._drop,
            FaultKind.GARBAGE: self._garbage,
            FaultKind.CUT_BODY: self._cut_body,
            FaultKind.CUT_CLOSE: self._cut_close,
            FaultKind.CHUNKED_NONSENSE: self._chunked_nonsense,
            FaultKind.WRONG_LENGTH: self._wrong_length,
        }

    def prepared(self, play: Play) -> Play:
        """Return it with the answer that the fault makes of the server's."""
        return attrs.evolve(play, said=changed(play, self._flavor))

    async def send(self, play: Play) -> web.StreamResponse:
        """Send the answer as the fault does."""
        send, cut = self._sends.get(play.kind), self._cuts.get(play.kind)
        if send is not None:
            return await send(play)
        return self._plain(play) if cut is None else cut(play)

    def _plain(self, play: Play) -> web.StreamResponse:
        return web.Response(
            status=play.answer.status,
            reason=self._dresser.reason(play.answer),
            headers=self._dresser.headers(play.answer),
            body=play.answer.body,
        )

    def _reset(self, _: Play) -> Raw:
        return Raw(b"", reset=True)

    def _reset_in_headers(self, play: Play) -> Raw:
        head = self._dresser.head(play.answer)
        return Raw(head[: len(head) // 2], reset=True)

    def _reset_after_headers(self, play: Play) -> Raw:
        return Raw(self._dresser.head(play.answer), reset=True)

    def _drop(self, _: Play) -> Raw:
        return Raw(b"")

    def _garbage(self, play: Play) -> Raw:
        return Raw(play.fault.noise(_NOISE))

    def _cut_body(self, play: Play) -> Raw:
        return Raw(self._dresser.head(play.answer) + _half(play))

    def _cut_close(self, play: Play) -> Raw:
        head = self._dresser.head(play.answer, has_length=False)
        return Raw(head + _half(play), abort=True)

    def _chunked_nonsense(self, play: Play) -> Raw:
        head = self._dresser.head(play.answer, has_length=False).removesuffix(b"\r\n")
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        return Raw(head + b"zz\r\n" + _half(play) + b"\r\n-1\r\n")

    def _wrong_length(self, play: Play) -> Raw:
        body = play.answer.body
        length = max(len(body) + (play.fault.amount or _EXTRA), 0)
        return Raw(self._dresser.head(play.answer, length=length) + body)

    async def _stall(self, _: Play) -> web.StreamResponse:
        await anyio.sleep_forever()
        return Raw(b"")

    async def _delay(self, play: Play) -> web.StreamResponse:
        await anyio.sleep(play.fault.seconds)
        return self._plain(play)

    async def _endless(self, play: Play) -> web.StreamResponse:
        answer = play.answer
        reply = web.StreamResponse(status=answer.status)
        reply.headers["Content-Type"] = answer.content_type or "application/xml"
        reply.enable_chunked_encoding()

        async def write() -> None:
            await reply.write(answer.body[:-1])
            while True:
                await reply.write(_CHUNK)

        return await _written(play, reply, write)

    async def _drip(self, play: Play) -> web.StreamResponse:
        answer = play.answer
        reply = web.StreamResponse(
            status=answer.status, headers=self._dresser.headers(answer)
        )

        async def write() -> None:
            for index in range(len(answer.body)):
                await reply.write(answer.body[index : index + 1])
                await anyio.sleep(play.fault.seconds)

        return await _written(play, reply, write)


def _half(play: Play) -> bytes:
    return play.answer.body[: len(play.answer.body) // 2]


async def _written(
    play: Play, reply: web.StreamResponse, write: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Write until the client has enough of it."""
    try:
        await reply.prepare(play.request)
        await write()
    except ConnectionError:
        return Raw(b"")
    return reply
