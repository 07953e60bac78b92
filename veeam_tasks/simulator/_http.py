"""HTTP around the service: connections counted, requests on record, faults played."""

import asyncio
from collections.abc import Callable
from typing import Final

import attrs
from aiohttp import web

from veeam_tasks.simulator._change import Play
from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._dress import Dresser
from veeam_tasks.simulator._exchange import Incoming, accepted_kind, http_sys
from veeam_tasks.simulator._faults import Fault, FaultKind, Faults
from veeam_tasks.simulator._memory import Memory
from veeam_tasks.simulator._records import Connections, Records, RequestRecord
from veeam_tasks.simulator._service import Service
from veeam_tasks.simulator._spoil import Raw, Spoiler

# HTTP.sys closes a connection on which nothing was asked for that long.
KEEPALIVE: Final = 120.0

_BAD_REQUEST: Final = 400


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


class Line(web.RequestHandler):
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


class Door(web.Server):
    """Accepts connections and answers the requests on them."""

    def __init__(
        self,
        *,
        memory: Memory,
        service: Service,
        faults: Faults,
        requests: Records[RequestRecord],
        count: ConnectionCount,
    ) -> None:
        super().__init__(self._handle, handler_cancellation=True)
        flavor = memory.looks.flavor
        self._flavor = flavor
        self._memory = memory
        self._clock: Clock = memory.looks.clock
        self._service = service
        self._faults = faults
        self._records = requests
        self._count = count
        self._dresser = Dresser(flavor)
        self._spoiler = Spoiler(flavor, self._dresser)
        self._transports: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> Line:
        """Return what speaks on a new connection."""
        line = Line(
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
        return self._dresser.head(answer) + answer.body

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if request.can_read_body else b""
        connection = self._count.number(request.transport)
        incoming = Incoming(
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
            body=body,
            connection=connection,
        )
        drawn = self._faults.draw(incoming.method, incoming.target)
        if drawn is None:
            answer = self._service.answer(incoming)
            self._record(incoming, answer.status, None)
            return web.Response(
                status=answer.status,
                reason=self._dresser.reason(answer),
                headers=self._dresser.headers(answer),
                body=answer.body,
            )
        return await self._spoiled(request, incoming, *drawn)

    async def _spoiled(
        self,
        request: web.BaseRequest,
        incoming: Incoming,
        fault: Fault,
        kind: FaultKind,
    ) -> web.StreamResponse:
        said = None
        if fault.carries_out(kind):
            with self._memory.twisted(kind):
                said = self._service.answer(incoming)
        play = self._spoiler.prepared(
            Play(
                fault=fault,
                kind=kind,
                incoming=incoming,
                request=request,
                media=accepted_kind(incoming.headers.get("Accept"), self._flavor),
                said=said,
            )
        )
        self._record(incoming, play.status, kind)
        return await self._spoiler.send(play)

    def _record(self, incoming: Incoming, status: int, kind: FaultKind | None) -> None:
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
