"""Faults that change what the server says, before it is sent."""

import importlib
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import attrs
from aiohttp import web

from veeam_tasks.simulator._faults import Fault, FaultKind
from veeam_tasks.simulator._messages import (
    MEDIA_TYPES,
    TOKEN,
    Answer,
    Incoming,
    Refusal,
    refused,
)
from veeam_tasks.simulator._tree import NAMESPACE, MediaKind
from veeam_tasks.simulator._version import ServerVersion

_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
_MESSAGES: Final = {
    401: "Authentication token has expired",
    403: "Access denied",
    500: "Object reference not set to an instance of an object.",
    503: "The service is temporarily unavailable",
}
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500
_SILENT: Final = frozenset(
    {
        FaultKind.RESET,
        FaultKind.RESET_IN_HEADERS,
        FaultKind.DROP,
        FaultKind.STALL,
        FaultKind.GARBAGE,
    }
)


@attrs.frozen(kw_only=True)
class FaultyReply:
    """What a fault is played on.

    `said` is what the server says; None if the request is not carried out.
    """

    fault: Fault
    kind: FaultKind
    incoming: Incoming
    request: web.BaseRequest
    media: MediaKind
    said: Answer | None

    @property
    def answer(self) -> Answer:
        """What the server says, or the head of what it might have said."""
        return self.said or Answer(status=200, content_type=MEDIA_TYPES[self.media])

    @property
    def status(self) -> int:
        """The HTTP status that the client gets to see; 0 for none."""
        return 0 if self.kind in _SILENT else self.answer.status


def changed(faulty: FaultyReply, version: ServerVersion) -> Answer:
    """Return the answer that the fault makes of the server's.

    The kinds that change tasks did so while the answer was made.
    """
    change = _CHANGES.get(faulty.kind)
    return faulty.answer if change is None else change(faulty, version)


def _status(faulty: FaultyReply, version: ServerVersion) -> Answer:
    return _error(faulty, version, faulty.fault.status or _SERVER_ERROR)


def _unauthorized(faulty: FaultyReply, version: ServerVersion) -> Answer:
    return _error(faulty, version, _UNAUTHORIZED)


def _forbidden(faulty: FaultyReply, version: ServerVersion) -> Answer:
    return _error(faulty, version, _FORBIDDEN)


def _echo(faulty: FaultyReply, version: ServerVersion) -> Answer:
    return _error(faulty, version, _SERVER_ERROR, _secrets(faulty.incoming))


def _error(
    faulty: FaultyReply, version: ServerVersion, status: int, message: str | None = None
) -> Answer:
    fault = faulty.fault
    text = message or fault.message or _MESSAGES.get(status, "Something went wrong")
    headers: tuple[tuple[str, str], ...] = ()
    if status == _UNAUTHORIZED:
        headers = (("WWW-Authenticate", "Basic Realm=RestSvc"),)
    if fault.retry_after is not None:
        headers = (*headers, ("Retry-After", fault.retry_after))
    if fault.body == "error":
        return refused(Refusal(status, text, headers), faulty.media, version)
    if fault.body == "empty":
        return Answer(status=status, headers=headers)
    page = f"<html><body><h1>{status}</h1><p>{text}</p></body></html>"
    return Answer(
        status=status,
        body=page.encode(),
        content_type="text/html; charset=utf-8",
        headers=headers,
    )


def _secrets(incoming: Incoming) -> str:
    found = [
        f"{name}: {incoming.headers[name]}"
        for name in (TOKEN, "Cookie", "Authorization")
        if name in incoming.headers
    ]
    body = incoming.body.decode("utf-8", "replace")
    text = f"Unexpected request {incoming.target} with {'; '.join(found)} {body}"
    return text.strip()


def _redirect(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return Answer(
        status=faulty.fault.status or 302,
        headers=(("Location", faulty.fault.location),),
    )


def _html(_: FaultyReply, __: ServerVersion) -> Answer:
    return Answer(status=200, body=_PAGE, content_type="text/html; charset=utf-8")


def _no_token(faulty: FaultyReply, _: ServerVersion) -> Answer:
    unwanted = {TOKEN.lower(), "set-cookie"}
    kept = (pair for pair in faulty.answer.headers if pair[0].lower() not in unwanted)
    return attrs.evolve(faulty.answer, headers=tuple(kept))


def _empty(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, body=b"")


def _byte_order_mark(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, body=b"\xef\xbb\xbf" + faulty.answer.body)


def _blanks(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, body=b"\r\n \t" + faulty.answer.body)


def _garbage_body(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, body=faulty.fault.noise(400))


def _wrong_charset(faulty: FaultyReply, _: ServerVersion) -> Answer:
    media = (faulty.answer.content_type or "").partition(";")[0]
    content_type = f"{media}; charset={faulty.fault.charset}"
    return attrs.evolve(faulty.answer, content_type=content_type)


def _wrong_type(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, content_type=faulty.fault.content_type)


def _gzip_bomb(faulty: FaultyReply, _: ServerVersion) -> Answer:
    body = gzip_bomb(faulty.fault.amount or BOMB_SIZE)
    return _encoded(faulty.answer, body, "gzip")


def _brotli_bomb(faulty: FaultyReply, _: ServerVersion) -> Answer:
    body = brotli_bomb(faulty.fault.amount or BOMB_SIZE)
    return _encoded(faulty.answer, body, "br")


def _encoded(answer: Answer, body: bytes, encoding: str) -> Answer:
    headers = (*answer.headers, ("Content-Encoding", encoding))
    return attrs.evolve(answer, body=body, headers=headers)


def _entity_bomb(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(
        faulty.answer, body=entity_bomb(), content_type=MEDIA_TYPES["xml"]
    )


def _deep_body(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, body=deep_body(faulty.media))


def _wide_body(faulty: FaultyReply, _: ServerVersion) -> Answer:
    return attrs.evolve(faulty.answer, body=wide_body(faulty.media))


_CHANGES: Final[Mapping[FaultKind, Callable[[FaultyReply, ServerVersion], Answer]]] = {
    FaultKind.STATUS: _status,
    FaultKind.UNAUTHORIZED: _unauthorized,
    FaultKind.FORBIDDEN: _forbidden,
    FaultKind.ECHO_SECRETS: _echo,
    FaultKind.REDIRECT: _redirect,
    FaultKind.HTML: _html,
    FaultKind.NO_TOKEN: _no_token,
    FaultKind.EMPTY: _empty,
    FaultKind.BYTE_ORDER_MARK: _byte_order_mark,
    FaultKind.BLANKS: _blanks,
    FaultKind.GARBAGE_BODY: _garbage_body,
    FaultKind.WRONG_CHARSET: _wrong_charset,
    FaultKind.WRONG_TYPE: _wrong_type,
    FaultKind.GZIP_BOMB: _gzip_bomb,
    FaultKind.BROTLI_BOMB: _brotli_bomb,
    FaultKind.ENTITY_BOMB: _entity_bomb,
    FaultKind.DEEP_BODY: _deep_body,
    FaultKind.WIDE_BODY: _wide_body,
}


BOMB_SIZE: Final = 512 << 20
_BLOCK: Final = 1 << 20
_OPENING: Final = f'<Task xmlns="{NAMESPACE}"><TaskId>task-1</TaskId><State>'.encode()


@cache
def gzip_bomb(size: int) -> bytes:
    """Return gzip of `size` bytes that begin as a task."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = squeeze.compress(_OPENING) + squeeze.flush(zlib.Z_FULL_FLUSH)
    # After a full flush equal blocks give equal bytes: squeeze one, repeat it.
    block = b"A" * _BLOCK
    once = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    tail = squeeze.flush(zlib.Z_FINISH)
    count = max(size // _BLOCK, 1)
    check = zlib.crc32(_OPENING)
    for _ in range(count):
        check = zlib.crc32(block, check)
    length = len(_OPENING) + count * _BLOCK
    gzip_head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    ending = check.to_bytes(4, "little") + (length % (1 << 32)).to_bytes(4, "little")
    return gzip_head + head + once * count + tail + ending


@cache
def brotli_bomb(size: int) -> bytes:
    """Return brotli of `size` bytes that begin as a task.

    Raises:
        ImportError: ``brotli`` is not installed.
    """
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        problem = 'the fault "brotli_bomb" needs brotli: pip install brotli'
    else:
        squeeze = brotli.Compressor(quality=1)
        parts = [squeeze.process(_OPENING)]
        block = b"A" * _BLOCK
        parts += [squeeze.process(block) for _ in range(max(size // _BLOCK, 1))]
        return b"".join((*parts, squeeze.finish()))
    raise ImportError(problem)


@cache
def entity_bomb() -> bytes:
    """Return a document whose entities expand a thousand million times."""
    names = [f"e{depth}" for depth in range(10)]
    declared = ['<!ENTITY e0 "Finished">']
    for outer, inner in zip(names[1:], names, strict=False):
        declared.append(f'<!ENTITY {outer} "{f"&{inner};" * 10}">')
    return (
        f"<!DOCTYPE Task [{''.join(declared)}]>"
        f'<Task xmlns="{NAMESPACE}"><TaskId>task-1</TaskId><State>&e9;</State></Task>'
    ).encode()


@cache
def deep_body(kind: str, depth: int = 100_000) -> bytes:
    """Return a document of elements, or arrays, within each other."""
    if kind == "json":
        return b'{"Task":' * depth + b"1" + b"}" * depth
    return b"<Task>" * depth + b"</Task>" * depth


@cache
def wide_body(kind: str, count: int = 200_000) -> bytes:
    """Return a task with that many attributes, or members."""
    if kind == "json":
        members = ",".join(f'"a{number}":1' for number in range(count))
        return f"{{{members}}}".encode()
    attributes = " ".join(f'a{number}="1"' for number in range(count))
    return f'<Task xmlns="{NAMESPACE}" {attributes} />'.encode()
