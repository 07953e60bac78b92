"""Faults in the sending: replies cut, dragged out, or never sent."""

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import attrs
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from veeam_tasks.simulator._faults import FaultKind
from veeam_tasks.simulator._faulty_reply import FaultyReply, changed
from veeam_tasks.simulator._messages import ReplyHeaders
from veeam_tasks.simulator._version import ServerVersion

# SO_LINGER on, for no time: closing sends a reset.
_RESET: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = b" " * 65_536
_NOISE: Final = 512
_EXTRA: Final = 16

Send = Callable[[FaultyReply], Awaitable[web.StreamResponse]]


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


class FaultSender:
    """Plays faults: first the answer is changed, then it is sent, badly."""

    def __init__(self, version: ServerVersion, reply_headers: ReplyHeaders) -> None:
        self._version = version
        self._reply_headers = reply_headers
        self._sends: Mapping[FaultKind, Send] = {
            FaultKind.STALL: self._stall,
            FaultKind.DELAY: self._delay,
            FaultKind.ENDLESS_BODY: self._endless,
            FaultKind.SLOW_DRIP: self._drip,
        }
        self._cuts: Mapping[FaultKind, Callable[[FaultyReply], Raw]] = {
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

    def prepared(self, faulty: FaultyReply) -> FaultyReply:
        """Return it with the answer that the fault makes of the server's."""
        return attrs.evolve(faulty, said=changed(faulty, self._version))

    async def send(self, faulty: FaultyReply) -> web.StreamResponse:
        """Send the answer as the fault does."""
        send, cut = self._sends.get(faulty.kind), self._cuts.get(faulty.kind)
        if send is not None:
            return await send(faulty)
        return self._plain(faulty) if cut is None else cut(faulty)

    def _plain(self, faulty: FaultyReply) -> web.StreamResponse:
        return web.Response(
            status=faulty.answer.status,
            reason=self._reply_headers.reason(faulty.answer),
            headers=self._reply_headers.headers(faulty.answer),
            body=faulty.answer.body,
        )

    def _reset(self, _: FaultyReply) -> Raw:
        return Raw(b"", reset=True)

    def _reset_in_headers(self, faulty: FaultyReply) -> Raw:
        head = self._reply_headers.head(faulty.answer)
        return Raw(head[: len(head) // 2], reset=True)

    def _reset_after_headers(self, faulty: FaultyReply) -> Raw:
        return Raw(self._reply_headers.head(faulty.answer), reset=True)

    def _drop(self, _: FaultyReply) -> Raw:
        return Raw(b"")

    def _garbage(self, faulty: FaultyReply) -> Raw:
        return Raw(faulty.fault.noise(_NOISE))

    def _cut_body(self, faulty: FaultyReply) -> Raw:
        return Raw(self._reply_headers.head(faulty.answer) + _half(faulty))

    def _cut_close(self, faulty: FaultyReply) -> Raw:
        head = self._reply_headers.head(faulty.answer, has_length=False)
        return Raw(head + _half(faulty), abort=True)

    def _chunked_nonsense(self, faulty: FaultyReply) -> Raw:
        head = self._reply_headers.head(faulty.answer, has_length=False).removesuffix(
            b"\r\n"
        )
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        return Raw(head + b"zz\r\n" + _half(faulty) + b"\r\n-1\r\n")

    def _wrong_length(self, faulty: FaultyReply) -> Raw:
        body = faulty.answer.body
        length = max(len(body) + (faulty.fault.amount or _EXTRA), 0)
        return Raw(self._reply_headers.head(faulty.answer, length=length) + body)

    async def _stall(self, _: FaultyReply) -> web.StreamResponse:
        await anyio.sleep_forever()
        return Raw(b"")

    async def _delay(self, faulty: FaultyReply) -> web.StreamResponse:
        await anyio.sleep(faulty.fault.seconds)
        return self._plain(faulty)

    async def _endless(self, faulty: FaultyReply) -> web.StreamResponse:
        answer = faulty.answer
        reply = web.StreamResponse(status=answer.status)
        reply.headers["Content-Type"] = answer.content_type or "application/xml"
        reply.enable_chunked_encoding()

        async def write() -> None:
            await reply.write(answer.body[:-1])
            while True:
                await reply.write(_CHUNK)

        return await _written(faulty, reply, write)

    async def _drip(self, faulty: FaultyReply) -> web.StreamResponse:
        answer = faulty.answer
        reply = web.StreamResponse(
            status=answer.status, headers=self._reply_headers.headers(answer)
        )

        async def write() -> None:
            for index in range(len(answer.body)):
                await reply.write(answer.body[index : index + 1])
                await anyio.sleep(faulty.fault.seconds)

        return await _written(faulty, reply, write)


def _half(faulty: FaultyReply) -> bytes:
    return faulty.answer.body[: len(faulty.answer.body) // 2]


async def _written(
    faulty: FaultyReply, reply: web.StreamResponse, write: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Write until the client has enough of it."""
    try:
        await reply.prepare(faulty.request)
        await write()
    except ConnectionError:
        return Raw(b"")
    return reply
