"""A server that speaks scripted bytes, so that no test starts from our own output."""

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Self

import attrs
import trustme


class _Act:
    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


RESET: Final = _Act("RESET")
"""Cut the connection with a TCP reset."""
CLOSE: Final = _Act("CLOSE")
"""Close the connection in good order."""
STALL: Final = _Act("STALL")
"""Say nothing more until the client goes away."""

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]
Step = bytes | _Act | Talk
Answer = Step | Sequence[Step]


@attrs.frozen
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the one value of a header, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None


def reply(
    body: bytes = b"",
    *,
    status: str = "200 OK",
    content_type: str = "application/xml; charset=utf-8",
    headers: Sequence[str] = (),
) -> bytes:
    """Return a whole reply as an Enterprise Manager's HTTP.sys writes it."""
    lines = [
        f"HTTP/1.1 {status}",
        "Cache-Control: private",
        f"Content-Type: {content_type}",
        "Server: Microsoft-HTTPAPI/2.0",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def error_body(status: int, message: str) -> bytes:
    """Return an error body of the Enterprise Manager, as captured."""
    return (
        f'<Error Message="{message}" StatusCode="{status}"'
        ' xmlns="http://www.veeam.com/ent/v1.0"><FirstChanceExceptionMessage>'
        f"{message}</FirstChanceExceptionMessage></Error>"
    ).encode()


def serving(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """Return a server's context that shows `leaf`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def pin_of(leaf: trustme.LeafCert) -> str:
    """Return the fingerprint of a leaf, as people compare it, from its PEM text."""
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    return hashlib.sha256(der).digest().hex(":").upper()


class RawServer:
    """Answers the n-th request with the n-th answer, and the rest with the last.

    An answer is one step or a sequence of them: bytes to be written, `RESET`, `CLOSE`,
    `STALL`, or a coroutine function that is given the writer. With `route` the answer
    is what that returns for the request.

    Attributes:
        seen: The requests that arrived, in order.
        connections: How many connections were made, handshake included.
    """

    def __init__(
        self,
        *answers: Answer,
        route: Callable[[Seen], Answer] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self._answers = list(answers)
        self._route = route
        self._tls = tls
        self._host = host
        self._writers: set[asyncio.StreamWriter] = set()
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # asyncio accepts in one step and makes the transport in a later one; a server
        # closed in between leaves the socket to the garbage collector.
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError):
            for one in self._server.sockets:
                loop.remove_reader(one.fileno())
        for _ in range(4):
            await asyncio.sleep(0)
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)

    def url(self, host: str = "127.0.0.1") -> str:
        """Return the server's URL under one of its names."""
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections the client has not closed."""
        return len(self._writers)

    def say(self, data: bytes) -> None:
        """Send bytes that nobody asked for over every open connection, at once."""
        for writer in self._writers:
            writer.write(data)

    def shut_sockets(self) -> None:
        """End every open connection, at once; the client has yet to notice."""
        for writer in self._writers:
            fileno = writer.get_extra_info("socket").fileno()
            # Of a twin, since uvloop's sockets cannot be shut down.
            with socket.socket(fileno=os.dup(fileno)) as twin:
                twin.shutdown(socket.SHUT_RDWR)

    async def one_gone(self) -> None:
        """Wait until the client has closed a connection."""
        await asyncio.wait(self._talks, return_when=asyncio.FIRST_COMPLETED)

    async def all_gone(self) -> None:
        """Wait until the client has closed every connection."""
        while self._talks:
            await asyncio.wait(self._talks)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self._writers.add(writer)
        talk = asyncio.ensure_future(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    def _answer(self) -> Answer:
        if self._route is not None:
            return self._route(self.seen[-1])
        return self._answers[min(len(self.seen), len(self._answers)) - 1]

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            # A client that goes away is what many tests are about.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if self._tls is not None:
                    # Here, since asyncio's server reports each refused handshake.
                    await writer.start_tls(self._tls)
                while True:
                    self.seen.append(await _read_request(reader))
                    self.arrived.set()
                    answer = self._answer()
                    steps = answer if isinstance(answer, list | tuple) else [answer]
                    await _carry_out(steps, reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()


Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


class TalkServer(RawServer):
    """Runs a conversation on each connection, of what is no HTTP or not in order.

    Unlike `asyncio.start_server` it closes all that it accepted, also what comes while
    it closes.
    """

    def __init__(self, speak: Conversation) -> None:
        super().__init__()
        self._speak = speak

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._speak(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()


async def _carry_out(
    steps: Iterable[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    for step in steps:
        if step is RESET:
            await writer.drain()
            _reset(writer)
            raise ConnectionResetError
        if step is CLOSE:
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            raise ConnectionResetError
        if step is STALL:
            await reader.read()
            raise ConnectionResetError
        if isinstance(step, bytes):
            writer.write(step)
        else:
            await step(writer)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = tuple(
        (name, value.strip())
        for name, _, value in (line.partition(":") for line in lines)
    )
    length = next((v for k, v in headers if k.lower() == "content-length"), "0")
    return Seen(method, target, headers, await reader.readexactly(int(length)))
