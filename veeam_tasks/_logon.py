"""Log on once, share the token, renew once for all, keep alive, log out.

Facts (``logging_on``, ``http_authentication`` and ``logging_out`` reference pages): a
logon is answered 201 with the token in the header ``X-RestSvcSessionId`` and the
session ID in the body; the token is void after 15 idle minutes, then every reply is
401; a logon session is ended by ``DELETE /logonSessions/{SessionId}``.
"""

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Literal, NoReturn, Protocol
from urllib.parse import quote

import attrs

from veeam_tasks import _wire
from veeam_tasks._account import Account
from veeam_tasks._errors import (
    ClosedError,
    LogonError,
    MalformedReplyError,
    VeeamTasksError,
)
from veeam_tasks._exchange import Reply, Request
from veeam_tasks._text import Secrets

_log = logging.getLogger(__name__)

LOG_OUT_SECONDS = 5.0
"""How long a close waits for the log-out; the server ends the rest by itself."""

INTERRUPTIONS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What may strike the log-out and has to wait for it: a loop that ends cancels all its
tasks; a second Ctrl-C, or a signal handler that exits, raises in any of their steps."""

_OK, _REDIRECT, _UNAUTHORIZED, _FORBIDDEN = 200, 300, 401, 403
_ALLOWED_IN = {400, _FORBIDDEN, 404, 405}
_SESSION_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}", re.ASCII)


class Sender(Protocol):
    """What the logon room wants of a transport."""

    async def send(
        self, request: Request, token: str | None = None, *, uncertain: bool = False
    ) -> Reply:
        """Send one request, with the token if one is given; return the reply."""


@attrs.define(eq=False, kw_only=True)
class Logon:
    """One logon session at a time, shared by all, renewed once for all.

    Whoever opens it gives it a transport and the two functions that it tells.

    Args:
        secrets: Learns every password, token and session ID.
        account: Who logs on; None for an adopted logon session, which is never
            renewed and never logged out.
        api_version: The ``v=`` of the logon.
        media_type: Of the logon's reply.

    Attributes:
        transport: Sends requests.
        on_logon: Told after each accepted logon, True for a renewal.
        on_refused: Told once when a logon or an adopted token was refused.
        generation: 0 before the first logon, then one more with each.
        accepted: Whether the server has answered anything but 401 under this token.
        refused: Why nothing is asked any more, until `open`.
        renewed_at: When the token was renewed last; None if never.
    """

    secrets: Secrets
    account: Account | None
    api_version: str
    media_type: str
    transport: Sender = attrs.field(init=False)
    on_logon: Callable[[bool], None] = attrs.field(init=False)
    on_refused: Callable[[LogonError], None] = attrs.field(init=False)
    token: str | None = attrs.field(default=None, repr=False)
    session_id: str | None = attrs.field(default=None, repr=False)
    generation: int = 0
    accepted: bool = False
    refused: LogonError | None = None
    renewed_at: datetime | None = None
    logons: int = 0
    renewals: int = 0
    retries: int = 0
    errors: int = 0
    _owned: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Log on, unless there is a logon session already.

        Raises:
            LogonError: The account was refused.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
        """
        self.refused = None
        if self.token is None:
            await self._share(self._log_on)

    def adopt(self, token: str, session_id: str | None) -> None:
        """Use a logon session that someone else opened."""
        self.refused = None
        self._take(token, session_id)

    async def send(
        self, request: Request, *, uncertain: bool = False
    ) -> tuple[Reply, int]:
        """Send under the token, after a 401 once more; return under which generation.

        Raises:
            LogonError: The logon was refused, now or before.
            ClosedError: There is no logon session.
            TransportError, MalformedReplyError: No usable reply came.
        """
        generation = self.check()
        reply = await self.transport.send(request, self.token, uncertain=uncertain)
        if reply.status != _UNAUTHORIZED:
            self.note(generation, reply.status)
            return reply, generation
        await self.renew(generation)
        self.retries += 1
        generation = self.check()
        reply = await self.transport.send(request, self.token, uncertain=uncertain)
        self.note(generation, reply.status)
        if reply.status == _UNAUTHORIZED and generation == self.generation:
            await self._share(self._prove)
        return reply, generation

    def check(self) -> int:
        """Return the generation to send with, or raise what forbids to send.

        Raises:
            LogonError: The logon was refused before.
            ClosedError: There is no logon session.
        """
        if self.refused is not None:
            raise self.refused.again()
        if self.token is None:
            raise ClosedError(what="the manager", advice="it is closed; open it again")
        return self.generation

    def note(self, generation: int, status: int = _OK) -> None:
        """Remember that the server accepted the token of `generation`, if it did."""
        if generation == self.generation and status < _REDIRECT:
            self.accepted = True

    async def renew(self, generation: int) -> None:
        """Replace the token of `generation`, unless that was done meanwhile.

        However many ask at once, one logon runs and all share how it went.

        Raises:
            LogonError: The logon was refused; or the token was, although it was never
                accepted or is adopted.
            TransportError, StatusError, MalformedReplyError: The logon had no answer.
        """
        if self.check() == generation:
            await self._share(self._renew)

    async def is_token_good(self) -> bool:
        """Ask the server for our own logon session; return whether it lets us ask.

        Every answer but 401 shows that it does, unless a server that is unwell gave it.

        Raises:
            TransportError, StatusError, MalformedReplyError: No usable reply came.
        """
        generation = self.check()
        reply = await self.transport.send(self._own("GET"), self.token)
        if reply.status == _UNAUTHORIZED:
            return False
        if not (_OK <= reply.status < _REDIRECT or reply.status in _ALLOWED_IN):
            raise _wire.status_error(reply, self.secrets)
        self.note(generation)
        return True

    async def keep_alive(self) -> None:
        """Reset the server's idle timer; renew the token if it is void already.

        Raises:
            LogonError: The logon was refused.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
        """
        generation = self.check()
        reply = await self.transport.send(self._own("GET"), self.token)
        self.note(generation, reply.status)
        if reply.status == _UNAUTHORIZED:
            await self.renew(generation)

    async def settle(self) -> None:
        """Wait for a logon under way, whoever asked for it, so it can be logged out."""
        while self._owned is not None:
            await asyncio.wait([self._owned])

    async def stop(self) -> None:
        """Give up a logon under way, which took too long to be waited for."""
        while self._owned is not None:
            self._owned.cancel()
            await asyncio.wait([self._owned])

    async def log_out(self) -> bool:
        """End our logon session; return whether the server confirmed it.

        An end that cannot be confirmed is only logged: the server ends an idle
        logon session after 15 minutes by itself. A cancellation or a Ctrl-C in the
        middle is honoured after one more try, since the request is safe to repeat.
        """
        request, token = self._own("DELETE"), self.token
        self.forget()
        if self.account is None or token is None:
            return False
        if request.method != "DELETE":
            _log.warning("not logged out: the server never said our session's ID")
            return False
        interruption: BaseException | None = None
        failure: VeeamTasksError | None = None
        reply: Reply | None = None
        for _ in range(2):
            try:
                reply = await self.transport.send(request, token)
                break
            except INTERRUPTIONS as error:
                interruption = error
            except VeeamTasksError as error:
                # A kept connection may have died unnoticed: a second one is made.
                failure = error
        if interruption is not None:
            raise interruption
        if reply is None:
            _log.warning("not logged out, the server will do it: %s", failure)
            return False
        return reply.status < _REDIRECT

    async def end(self) -> None:
        """End the logon session, whoever opened it.

        Raises:
            LogonError: It has ended already.
            StatusError, TransportError, MalformedReplyError: Not confirmed.
        """
        self.check()
        reply = await self.transport.send(self._own("DELETE"), self.token)
        if reply.status == _UNAUTHORIZED:
            raise LogonError(
                request=reply.request,
                status=reply.status,
                message=_wire.error_message(reply, self.secrets),
                advice="This logon session has ended already",
            )
        if reply.status >= _REDIRECT:
            raise _wire.status_error(reply, self.secrets)
        self.forget()

    def forget(self) -> None:
        """Drop the logon session without a word to the server."""
        self.token = self.session_id = None
        self.accepted = False

    def _own(self, method: Literal["GET", "DELETE"]) -> Request:
        """Return a request about our own logon session, as cheap as there is one."""
        session_id = self.session_id or session_id_in(self.token or "")
        if session_id is None:
            return Request(
                method="GET",
                path="logonSessions",
                shown="logonSessions",
                media_type=self.media_type,
            )
        return Request(
            method=method,
            path=f"logonSessions/{quote(session_id, safe='')}",
            shown="logonSessions/[hidden]",
            media_type=self.media_type,
        )

    async def _share(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run `work` in an asyncio task of our own; all who ask share its result.

        The server makes a logon session whether or not anyone still waits for it, so
        a waiter that is cancelled must not take the logon down with it.
        """
        owned = self._owned
        if owned is None or owned.done():
            self._owned = owned = asyncio.create_task(work(), name="veeam_tasks logon")
            owned.add_done_callback(self._release)
        await asyncio.wait([owned])
        if owned.cancelled():
            # By `stop`; a waiter that nobody cancelled must not end as if it were.
            raise ClosedError(what="the manager", advice="it was closed")
        failure = owned.exception()
        if failure is not None:
            raise failure.again() if isinstance(failure, VeeamTasksError) else failure

    def _release(self, owned: asyncio.Task[None]) -> None:
        if self._owned is owned:
            self._owned = None
        # Retrieved here, since every waiter may have gone.
        self.errors += not owned.cancelled() and owned.exception() is not None

    async def _renew(self) -> None:
        if self.account is None or not self.accepted:
            await self._prove()
        else:
            await self._log_on()

    async def _prove(self) -> None:
        """Tell a refused token from one resource that is refused; the former ends all.

        A token that was never accepted is not renewed: a server that hands out
        tokens which it refuses would be logged on to for ever.
        """
        if self.account is not None and self.accepted:
            return
        if await self.is_token_good():
            return
        advice = (
            "The adopted token is dead: its logon session has ended, and an adopted"
            " one is never logged on anew"
            if self.account is None
            else "The server accepted the logon and then refused its own token; it is"
            " not tried again until open()"
        )
        self._refuse(
            LogonError(
                request="the logon session",
                status=_UNAUTHORIZED,
                message=None,
                advice=advice,
            )
        )

    def _refuse(self, error: LogonError) -> NoReturn:
        self.refused = error
        self.forget()
        self.on_refused(error)
        raise error.again()

    async def _log_on(self) -> None:
        assert self.account is not None
        renewal = self.token is not None
        request = Request(
            method="POST",
            path=f"sessionMngr/?v={self.api_version}",
            shown=f"sessionMngr/?v={self.api_version}",
            media_type=self.media_type,
            headers={"Authorization": await self.account.authorization(self.secrets)},
        )
        reply = await self.transport.send(request)
        if reply.status in {_UNAUTHORIZED, _FORBIDDEN}:
            self._refuse(
                LogonError(
                    request=reply.request,
                    status=reply.status,
                    message=_wire.error_message(reply, self.secrets),
                    advice=_REFUSED,
                )
            )
        if not _OK <= reply.status < _REDIRECT:
            raise _wire.status_error(reply, self.secrets)
        if not reply.token:
            raise MalformedReplyError(
                request=reply.request,
                problem=f"answered {reply.status} without the header"
                " X-RestSvcSessionId, so this URL is not an Enterprise Manager REST"
                " service (its port is 9398; the web console has another)",
            )
        self._take(reply.token, _wire.decode_logon(reply, self.secrets))
        self.logons += 1
        if renewal:
            self.renewals += 1
            self.renewed_at = datetime.now(UTC)
        self.on_logon(renewal)

    def _take(self, token: str, session_id: str | None) -> None:
        self.secrets.add(token, session_id)
        self.token, self.session_id = token, session_id
        self.generation += 1
        self.accepted = False


_REFUSED = (
    "It is not tried again until open(), so that the account is not locked. Check the"
    " user name (DOMAIN\\user or user@domain), the password, and that the account has"
    " a role in the Enterprise Manager"
)


def session_id_in(token: str) -> str | None:
    """Return the session ID that newer servers put into the token as base64."""
    try:
        text = base64.b64decode(token, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return text if _SESSION_ID.fullmatch(text) else None
