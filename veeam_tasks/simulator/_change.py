"""Faults that change what the server says, before it is sent."""

from collections.abc import Callable, Mapping
from typing import Final

import attrs
from aiohttp import web

from veeam_tasks.simulator import _bombs
from veeam_tasks.simulator._exchange import (
    MEDIA_TYPES,
    TOKEN,
    Answer,
    Incoming,
    Refusal,
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
class Play:
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


def changed(play: Play, flavor: Flavor) -> Answer:
    """Return the answer that the fault makes of the server's.

    The kinds that change tasks did so while the answer was made.
    """
    change = _CHANGES.get(play.kind)
    return play.answer if change is None else change(play, flavor)


def _status(play: Play, flavor: Flavor) -> Answer:
    return _error(play, flavor, play.fault.status or _SERVER_ERROR)


def _unauthorized(play: Play, flavor: Flavor) -> Answer:
    return _error(play, flavor, _UNAUTHORIZED)


def _forbidden(play: Play, flavor: Flavor) -> Answer:
    return _error(play, flavor, _FORBIDDEN)


def _echo(play: Play, flavor: Flavor) -> Answer:
    return _error(play, flavor, _SERVER_ERROR, _secrets(play.incoming))


def _error(
    play: Play, flavor: Flavor, status: int, message: str | None = None
) -> Answer:
    fault = play.fault
    text = message or fault.message or _MESSAGES.get(status, "Something went wrong")
    headers: tuple[tuple[str, str], ...] = ()
    if status == _UNAUTHORIZED:
        headers = (("WWW-Authenticate", "Basic Realm=RestSvc"),)
    if fault.retry_after is not None:
        headers = (*headers, ("Retry-After", fault.retry_after))
    if fault.body == "error":
        return refused(Refusal(status, text, headers), play.media, flavor)
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


def _redirect(play: Play, _: Flavor) -> Answer:
    return Answer(
        status=play.fault.status or 302, headers=(("Location", play.fault.location),)
    )


def _html(_: Play, __: Flavor) -> Answer:
    return Answer(status=200, body=_PAGE, content_type="text/html; charset=utf-8")


def _no_token(play: Play, _: Flavor) -> Answer:
    unwanted = {TOKEN.lower(), "set-cookie"}
    kept = (pair for pair in play.answer.headers if pair[0].lower() not in unwanted)
    return attrs.evolve(play.answer, headers=tuple(kept))


def _empty(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, body=b"")


def _byte_order_mark(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, body=b"\xef\xbb\xbf" + play.answer.body)


def _blanks(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, body=b"\r\n \t" + play.answer.body)


def _garbage_body(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, body=play.fault.noise(400))


def _wrong_charset(play: Play, _: Flavor) -> Answer:
    media = (play.answer.content_type or "").partition(";")[0]
    content_type = f"{media}; charset={play.fault.charset}"
    return attrs.evolve(play.answer, content_type=content_type)


def _wrong_type(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, content_type=play.fault.content_type)


def _gzip_bomb(play: Play, _: Flavor) -> Answer:
    body = _bombs.gzip_bomb(play.fault.amount or _bombs.SIZE)
    return _encoded(play.answer, body, "gzip")


def _brotli_bomb(play: Play, _: Flavor) -> Answer:
    body = _bombs.brotli_bomb(play.fault.amount or _bombs.SIZE)
    return _encoded(play.answer, body, "br")


def _encoded(answer: Answer, body: bytes, encoding: str) -> Answer:
    headers = (*answer.headers, ("Content-Encoding", encoding))
    return attrs.evolve(answer, body=body, headers=headers)


def _entity_bomb(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(
        play.answer, body=_bombs.entity_bomb(), content_type=MEDIA_TYPES["xml"]
    )


def _deep_body(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, body=_bombs.deep_body(play.media))


def _wide_body(play: Play, _: Flavor) -> Answer:
    return attrs.evolve(play.answer, body=_bombs.wide_body(play.media))


_CHANGES: Final[Mapping[FaultKind, Callable[[Play, Flavor], Answer]]] = {
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
