"""HTTP around the service: connections counted, requests on record, faults played."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

import attrs
from aiohttp import web

from veeam_tasks.simulator._authenticator import token_of
from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._fault_sender import FaultSender, Raw
from veeam_tasks.simulator._faults import Fault, FaultKind, Faults
from veeam_tasks.simulator._faulty_reply import FaultyReply
from veeam_tasks.simulator._messages import (
    Answer,
    Incoming,
    ReplyHeaders,
    accepted_kind,
    http_sys,
)
from veeam_tasks.simulator._records import (
    Connections,
    Records,
    RequestRecord,
    path_without_secrets,
)
from veeam_tasks.simulator._service import Service
from veeam_tasks.simulator._state import ServerState

# HTTP.sys closes a connection on which nothing was asked for that long.
KEEPALIVE: Final = 120.0
_LOG: Final = logging.getLogger("veeam_tasks.simulator")

_BAD_REQUEST: Final = 400
_TOO_LARGE: Final = 413
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ConnectionCount:
    """Numbers the connections of a server, across its restarts."""

    def __init__(self) -> None:
        self._numbers: dict[asyncio.BaseTransport, int] = {}
        self._peak = 0
        self._total = 0

    def made(self, transport: asyncio.BaseTransport) -> None:
        """Give a new connection its number."""
        self._total += 1
        self._numbers[transport] = self._total
        self._peak = max(self._peak, len(self._numbers))

    def lost(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection that ended."""
        self._numbers.pop(transport, None)

    def number(self, transport: asyncio.BaseTransport | None) -> int:
        """Return the number of a connection; 0 for one that has just ended."""
        return 0 if transport is None else self._numbers.get(transport, 0)

    def snapshot(self) -> Connections:
        """Return how many there are and were."""
        return Connections(open=len(self._numbers), peak=self._peak, total=self._total)


class Connection(web.RequestHandler):
    """One connection; answers what is no HTTP as the simulated server does.

    aiohttp would answer in its own name, and log a traceback of itself.
    """

    refusal: Callable[[], bytes]

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that cannot be read; an error of our own is told of."""
        if status == _BAD_REQUEST:
            return Raw(self.refusal())
        return super().handle_error(request, status, exc, message)


class _Undated(web.Response):
    """A reply without the ``Date`` header, which aiohttp adds where there is none."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Date", None)


class HttpServer(web.Server):
    """Accepts connections and answers the requests on them.

    Attributes:
        is_refusing: Cut each new connection at once. A loop may make one that came
            before the socket was closed some steps after that.
    """

    is_refusing = False

    def __init__(
        self,
        *,
        state: ServerState,
        service: Service,
        faults: Faults,
        requests: Records[RequestRecord],
        count: ConnectionCount,
        date_header: bool,
        access_log: bool,
    ) -> None:
        super().__init__(self._handle, handler_cancellation=True)
        version = state.context.version
        self._version = version
        self._state = state
        self._clock: Clock = state.context.clock
        self._service = service
        self._faults = faults
        self._records = requests
        self._access_log = access_log
        self._count = count
        date = state.context.clock.http_date if date_header else None
        self._reply_headers = ReplyHeaders(version, date)
        self._fault_sender = FaultSender(version, self._reply_headers)
        self._response = web.Response if date_header else _Undated
        self._transports: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> Connection:
        """Return what speaks on a new connection."""
        line = Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as `web.Server` passes
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,  # as HTTP.sys does
        )
        line.refusal = self._refusal
        return line

    def connection_made(
        self, handler: web.RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Number a new connection."""
        super().connection_made(handler, transport)
        self._transports[handler] = transport
        self._count.made(transport)
        if self.is_refusing:
            transport.abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        transport = self._transports.pop(handler, None)
        if transport is not None:
            self._count.lost(transport)

    def drop(self) -> None:
        """Cut every open connection."""
        for transport in tuple(self._transports.values()):
            transport.abort()

    def _refusal(self) -> bytes:
        text = "The request is badly formed."
        answer = http_sys(_BAD_REQUEST, "Bad Request", text)
        answer = attrs.evolve(answer, headers=(("Connection", "close"),))
        return self._reply_headers.head(answer) + answer.body

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        head = Incoming(
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
            connection=self._count.number(request.transport),
        )
        drawn = None
        is_asking = head.headers.get("Expect", "").lower() == "100-continue"
        if is_asking:
            # A fault or a refusal comes first: then the body is never asked for.
            drawn = self._faults.draw(head.method, head.target)
            if drawn is not None and not drawn[0].carries_out(drawn[1]):
                return await self._send_fault(request, head, *drawn)
            refusal = self._service.refusal_of(head)
            if refusal is not None:
                self._record(head, refusal.status, None)
                return self._plain(refusal, is_last=True)
            if request.transport is not None:
                request.transport.write(_CONTINUE)
        try:
            body = await request.read() if request.can_read_body else b""
        except web.HTTPRequestEntityTooLarge:
            self._record(head, _TOO_LARGE, None)
            text = "The request entity is too large."
            large = http_sys(_TOO_LARGE, "Request Entity Too Large", text)
            return self._plain(large, is_last=True)
        incoming = attrs.evolve(head, body=body)
        if not is_asking:
            drawn = self._faults.draw(incoming.method, incoming.target)
        if drawn is not None:
            return await self._send_fault(request, incoming, *drawn)
        answer = self._service.answer(incoming)
        self._record(incoming, answer.status, None)
        return self._plain(answer)

    def _plain(self, answer: Answer, *, is_last: bool = False) -> web.StreamResponse:
        reply = self._response(
            status=answer.status,
            reason=self._reply_headers.reason(answer),
            headers=self._reply_headers.headers(answer),
            body=answer.body,
        )
        if is_last:
            reply.force_close()
        return reply

    async def _send_fault(
        self,
        request: web.BaseRequest,
        incoming: Incoming,
        fault: Fault,
        kind: FaultKind,
    ) -> web.StreamResponse:
        said = None
        if fault.carries_out(kind):
            with self._state.altered(kind):
                said = self._service.answer(incoming)
        faulty = self._fault_sender.prepared(
            FaultyReply(
                fault=fault,
                kind=kind,
                incoming=incoming,
                request=request,
                media=accepted_kind(incoming.headers.get("Accept"), self._version),
                said=said,
            )
        )
        self._record(incoming, faulty.status, kind)
        return await self._fault_sender.send(faulty)

    def _record(self, incoming: Incoming, status: int, kind: FaultKind | None) -> None:
        if self._access_log:
            _LOG.info(
                "%s %s %s%s %s",
                incoming.method,
                path_without_secrets(incoming.path),
                status or "no reply",
                "" if kind is None else f" ({kind.value})",
                self._state.name_of(token_of(incoming)),
            )
        _, _, query = incoming.target.partition("?")
        self._records.append(
            RequestRecord(
                number=self._records.total + 1,
                time=self._clock.now(),
                method=incoming.method,
                path=incoming.path,
                query=query,
                headers=tuple(incoming.headers.items()),
                body=incoming.body,
                status=status,
                connection=incoming.connection,
                fault=None if kind is None else kind.value,
            )
        )


_GRACE: Final = 0.1
# A client needs an address of this machine, not of all of its networks.
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - names, nothing is bound here
_BACKLOG: Final = 4096
_STEPS_TO_ACCEPT: Final = 4


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
        host = _EVERYWHERE.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
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
        # CancelledError: a loop ends in the middle of a handshake.
        broken = OSError, asyncio.CancelledError
        if is_ours and isinstance(context.get("exception"), broken):
            return
        if self.before is None:
            loop.default_exception_handler(context)
        else:
            self.before(loop, context)


class Listener:
    """Listens in one event loop at a time.

    It holds no reference to the `BaseServer` that made it: one that nobody holds any
    more must be collected, so that it can warn that it was left open.

    Args:
        address: Where to listen; its port is filled in.
        make_server: Makes what accepts connections; called in the loop.
    """

    def __init__(self, address: Address, make_server: Callable[[], HttpServer]) -> None:
        self._address = address
        self._make_server = make_server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: HttpServer | None = None
        self._socket: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped; a paused one is running."""
        return self._server is not None

    async def start(self, tls: ssl.SSLContext | None) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._server = self._make_server()
        if tls is not None:
            _ignore_broken_handshakes(self._loop)
        try:
            await self.resume()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        server, self._server = self._server, None
        await self._stop_listening()
        if server is not None:
            await server.shutdown(_GRACE)

    async def pause(self) -> None:
        """Refuse connections and cut those that are open."""
        if self._server is not None:
            self._server.is_refusing = True
            self._server.drop()
        await self._stop_listening()

    async def resume(self) -> None:
        """Listen again on the same port; nothing if it listens."""
        if self._server is None or self._socket is not None:
            return
        self._server.is_refusing = False
        loop = asyncio.get_running_loop()
        self._socket = await loop.create_server(
            self._server,
            self._address.host,
            self._address.port,
            ssl=self._tls,
            backlog=_BACKLOG,
        )
        self._address.port = self._socket.sockets[0].getsockname()[1]

    def drop(self) -> None:
        """Cut every open connection; from any thread."""
        loop, server = self._loop, self._server
        if loop is None or server is None:
            return
        running = None
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is loop:
            server.drop()
        else:
            loop.call_soon_threadsafe(server.drop)

    async def _stop_listening(self) -> None:
        socket, self._socket = self._socket, None
        if socket is None:
            return
        # No more are taken from here on: one that comes in each step would be in the
        # last step too. Other loops than that of selectors have no readers here.
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError):
            for one in socket.sockets:
                loop.remove_reader(one.fileno())
        try:
            # asyncio takes a connection in one step and makes its transport in the
            # next; closed in between, it leaves the socket to the garbage collector.
            for _ in range(_STEPS_TO_ACCEPT):
                await asyncio.sleep(0)
        finally:
            socket.close()
