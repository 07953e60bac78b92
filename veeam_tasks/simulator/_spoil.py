"""Plays a fault on the reply to one request."""

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import attrs
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from veeam_tasks.simulator import _bombs
from veeam_tasks.simulator._dress import Dresser
from veeam_tasks.simulator._exchange import (
    MEDIA_TYPES,
    TOKEN,
    Answer,
    Incoming,
    Refusal,
    accepted_kind,
    refused,
)
from veeam_tasks.simulator._faults import Fault, FaultKind
from veeam_tasks.simulator._flavor import Flavor
from veeam_tasks.simulator._tree import MediaKind

_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
_MESSAGES: Final = {
    401: "Authentication token has expired",
    403: "Access denied",
    500: "Object reference not set to an instance of an object.",
    503: "The service is temporarily unavailable",
}
_RESET: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = b" " * 65_536


@attrs.frozen(kw_only=True)
class Play:
    """What a fault is played on.

    `said` is what the server says; None if the request is not carried out.
    """

    fault: Fault
    kind: FaultKind
    incoming: Incoming
    request: web.BaseRequest
    said: Answer | None

    @property
    def answer(self) -> Answer:
        """What the server says, or the head of what it might have said."""
        return self.said or Answer(status=200, content_type=MEDIA_TYPES["xml"])

    @property
    def status(self) -> int:
        """The HTTP status that the client gets to see; 0 for none."""
        return 0 if self.kind in _SILENT else self.answer.status


Send = Callable[[Play], Awaitable[web.StreamResponse]]
_SILENT: Final = frozenset(
    {
        FaultKind.RESET,
        FaultKind.RESET_IN_HEADERS,
        FaultKind.DROP,
        FaultKind.STALL,
        FaultKind.GARBAGE,
    }
)


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

    def prepared(self, play: Play) -> Play:
        """Return it with the answer that the fault makes of the server's."""
        return attrs.evolve(play, said=self._changed(play))

    async def send(self, play: Play) -> web.StreamResponse:
        """Send the answer as the fault does."""
        send = self._sends.get(play.kind)
        if send is not None:
            return await send(play)
        raw = self._cut(play)
        return self._plain(play.answer) if raw is None else raw

    def _kind(self, play: Play) -> MediaKind:
        return accepted_kind(play.incoming.headers.get("Accept"), self._flavor)

    def _plain(self, answer: Answer) -> web.StreamResponse:
        return web.Response(
            status=answer.status,
            reason=self._dresser.reason(answer),
            headers=self._dresser.headers(answer),
            body=answer.body,
        )

    def _cut(self, play: Play) -> web.StreamResponse | None:
        """Return a reply written by hand, or None for a kind that needs none."""
        answer = play.answer
        head, body = self._dresser.head(answer), answer.body
        half = body[: len(body) // 2]
        match play.kind:
            case FaultKind.RESET:
                return Raw(b"", reset=True)
            case FaultKind.DROP:
                return Raw(b"")
            case FaultKind.RESET_IN_HEADERS:
                return Raw(head[: len(head) // 2], reset=True)
            case FaultKind.RESET_AFTER_HEADERS:
                return Raw(head, reset=True)
            case FaultKind.CUT_BODY:
                return Raw(head + half)
            case FaultKind.CUT_CLOSE:
                unmeasured = self._dresser.head(answer, has_length=False)
                return Raw(unmeasured + half, abort=True)
            case FaultKind.GARBAGE:
                return Raw(play.fault.bytes(512))
            case FaultKind.CHUNKED_NONSENSE:
                chunked = self._dresser.head(answer, has_length=False)
                chunked = chunked[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
                return Raw(chunked + b"zz\r\n" + half + b"\r\n-1\r\n")
            case FaultKind.WRONG_LENGTH:
                wrong = max(len(body) + (play.fault.amount or 16), 0)
                return Raw(self._dresser.head(answer, length=wrong) + body)
        return None

    def _changed(self, play: Play) -> Answer:
        """Return another answer than the server's own."""
        fault, answer, kind = play.fault, play.answer, self._kind(play)
        match play.kind:
            case FaultKind.STATUS:
                return self._status(play, fault.status or 500)
            case FaultKind.UNAUTHORIZED:
                return self._status(play, 401)
            case FaultKind.FORBIDDEN:
                return self._status(play, 403)
            case FaultKind.REDIRECT:
                return Answer(
                    status=fault.status or 302, headers=(("Location", fault.location),)
                )
            case FaultKind.ECHO_SECRETS:
                return self._status(play, 500, _secrets(play.incoming))
            case FaultKind.HTML:
                return Answer(
                    status=200, body=_PAGE, content_type="text/html; charset=utf-8"
                )
            case FaultKind.NO_TOKEN:
                wanted = {TOKEN.lower(), "set-cookie"}
                return attrs.evolve(
                    answer,
                    headers=tuple(
                        pair for pair in answer.headers if pair[0].lower() not in wanted
                    ),
                )
        return self._other_body(play, answer, kind)

    def _other_body(self, play: Play, answer: Answer, kind: MediaKind) -> Answer:
        fault = play.fault
        media = (answer.content_type or MEDIA_TYPES[kind]).partition(";")[0]
        size = fault.amount or _bombs.SIZE
        match play.kind:
            case FaultKind.EMPTY:
                return attrs.evolve(answer, body=b"")
            case FaultKind.GARBAGE_BODY:
                return attrs.evolve(answer, body=fault.bytes(400))
            case FaultKind.WRONG_CHARSET:
                return attrs.evolve(
                    answer, content_type=f"{media}; charset={fault.charset}"
                )
            case FaultKind.WRONG_TYPE:
                return attrs.evolve(answer, content_type=fault.content_type)
            case FaultKind.GZIP_BOMB:
                return _encoded(answer, _bombs.gzip_bomb(size), "gzip")
            case FaultKind.BROTLI_BOMB:
                return _encoded(answer, _bombs.brotli_bomb(size), "br")
            case FaultKind.ENTITY_BOMB:
                xml = MEDIA_TYPES["xml"]
                return attrs.evolve(answer, body=_bombs.entity_bomb(), content_type=xml)
            case FaultKind.DEEP_BODY:
                return attrs.evolve(answer, body=_bombs.deep_body(kind))
            case FaultKind.WIDE_BODY:
                xml = MEDIA_TYPES["xml"]
                return attrs.evolve(answer, body=_bombs.wide_body(), content_type=xml)
        # The kinds that change tasks did so while the answer was made.
        return answer

    def _status(self, play: Play, status: int, message: str | None = None) -> Answer:
        fault = play.fault
        text = message or fault.message or _MESSAGES.get(status, "Something went wrong")
        headers: tuple[tuple[str, str], ...] = ()
        if status == _UNAUTHORIZED:
            headers = (("WWW-Authenticate", "Basic Realm=RestSvc"),)
        if fault.retry_after is not None:
            headers = (*headers, ("Retry-After", fault.retry_after))
        if fault.body == "error":
            refusal = Refusal(status, text, headers)
            return refused(refusal, self._kind(play), self._flavor)
        if fault.body == "empty":
            return Answer(status=status, headers=headers)
        page = f"<html><body><h1>{status}</h1><p>{text}</p></body></html>"
        return Answer(
            status=status,
            body=page.encode(),
            content_type="text/html; charset=utf-8",
            headers=headers,
        )

    async def _stall(self, play: Play) -> web.StreamResponse:
        del play
        await anyio.sleep_forever()
        return Raw(b"")

    async def _delay(self, play: Play) -> web.StreamResponse:
        answer = play.answer
        await anyio.sleep(play.fault.seconds)
        return self._plain(answer)

    async def _endless(self, play: Play) -> web.StreamResponse:
        answer = play.answer
        reply = web.StreamResponse(status=answer.status)
        reply.headers["Content-Type"] = answer.content_type or MEDIA_TYPES["xml"]
        reply.enable_chunked_encoding()

        async def write() -> None:
            await reply.write(answer.body[:-1])
            while True:
                await reply.write(_CHUNK)

        return await _written(play, reply, write)

    async def _drip(self, play: Play) -> web.StreamResponse:
        answer = play.answer
        headers = self._dresser.headers(answer)
        reply = web.StreamResponse(status=answer.status, headers=headers)

        async def write() -> None:
            for index in range(len(answer.body)):
                await reply.write(answer.body[index : index + 1])
                await anyio.sleep(play.fault.seconds)

        return await _written(play, reply, write)


_UNAUTHORIZED: Final = 401


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


def _encoded(answer: Answer, body: bytes, encoding: str) -> Answer:
    headers = (*answer.headers, ("Content-Encoding", encoding))
    return attrs.evolve(answer, body=body, headers=headers)


def _secrets(incoming: Incoming) -> str:
    names = (TOKEN, "Cookie", "Authorization")
    found = [
        f"{name}: {incoming.headers[name]}"
        for name in names
        if name in incoming.headers
    ]
    body = incoming.body.decode("utf-8", "replace")
    return (
        f"Unexpected request {incoming.target} with {'; '.join(found)} {body}".strip()
    )
