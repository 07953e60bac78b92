"""Log on once, share the token, renew once for all, keep alive, log out.

Fact (``http_authentication`` reference page): a token is void after 15 idle minutes,
then every reply is 401.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Literal, NoReturn

import anyio
import attrs

from veeam_tasks._errors import ClosedError, LogonError, VeeamTasksError
from veeam_tasks._protocol import replies as _wire
from veeam_tasks._protocol.logon import (
    OK,
    REDIRECT,
    SERVER_ERROR,
    UNAUTHORIZED,
    is_token_valid,
    log_on_request,
    opened,
    own_session_request,
    token_checks,
)
from veeam_tasks._protocol.messages import Reply, Request, Sender
from veeam_tasks._redaction import Secret, Secrets, hidden, hidden_or_none
from veeam_tasks._session.credentials import Credentials
from veeam_tasks._session.logon_backoff import LogonBackoff

_log = logging.getLogger(__name__)

INTERRUPTIONS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What may strike the log-out and has to wait for it: a loop that ends cancels all its
tasks; a second Ctrl-C, or a signal handler that exits, raises in any of their steps."""


@attrs.define(eq=False, kw_only=True)
class LogonSession:
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
        knows_tasks: Whether this logon session has known a task that was asked for.
        accepted: Whether the server has answered anything but 401 under this token.
        refused: Why nothing is asked any more, until `open`.
        renewed_at: When the token was renewed last; None if never.
    """

    secrets: Secrets
    account: Credentials | None
    api_version: str
    media_type: str
    transport: Sender = attrs.field(init=False)
    on_logon: Callable[[bool], None] = attrs.field(init=False)
    on_refused: Callable[[LogonError], None] = attrs.field(init=False)
    token: Secret | None = attrs.field(default=None, repr=False)
    session_id: Secret | None = attrs.field(default=None, repr=False)
    generation: int = 0
    knows_tasks: bool = False
    accepted: bool = False
    refused: LogonError | None = None
    renewed_at: datetime | None = None
    logons: int = 0
    renewals: int = 0
    retries: int = 0
    errors: int = 0
    _owned: asyncio.Task[bool] | None = None
    _lifetimes: LogonBackoff = attrs.field(factory=LogonBackoff)
    _is_resting: bool = False
    _is_settling: bool = False

    async def open(self) -> None:
        """Log on, unless there is a logon session already.

        Raises:
            LogonError: The account was refused.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
        """
        self.refused, self._is_settling = None, False
        if self.token is None:
            await self._single_flight(self._log_on)

    def adopt(self, token: str | Secret, session_id: str | Secret | None) -> None:
        """Use a logon session that someone else opened."""
        self.refused, self._is_settling = None, False
        self._take(hidden(token), hidden_or_none(session_id))

    async def send(
        self, request: Request, *, uncertain: bool = False, is_bound: bool = False
    ) -> tuple[Reply, int]:
        """Send under the token, after a 401 once more; return under which generation.

        Args:
            request: What to send.
            uncertain: Whether it matters if it was carried out.
            is_bound: Whether it means something only in this logon session: then the
                401 is returned if there is another one now.

        Raises:
            LogonError: The logon was refused, now or before.
            ClosedError: There is no logon session.
            StatusError: The renewal was answered with an error.
            SubmitUncertainError: No reply came, and `uncertain` asks whether it may
                have been carried out.
            TransportError, MalformedReplyError: No usable reply came.
        """
        generation = self.check()
        reply = await self.transport.send(request, self.token, uncertain=uncertain)
        if not _is_void(reply):
            self.note(generation, reply.status)
            return reply, generation
        await self.renew(generation)
        if is_bound and generation != self.check():
            return reply, generation
        self.retries += 1
        generation = self.check()
        reply = await self.transport.send(request, self.token, uncertain=uncertain)
        self.note(generation, reply.status)
        if _is_void(reply) and generation == self.generation:
            await self._single_flight(self._check_new_token)
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

    def note(self, generation: int, status: int = OK) -> None:
        """Remember that the server accepted the token of `generation`, if it did."""
        if generation == self.generation and status < REDIRECT:
            self.accepted = True

    def note_task(self, generation: int) -> None:
        """Remember that the logon session of `generation` knew a task."""
        if generation == self.generation:
            self.knows_tasks = True

    async def renew(self, generation: int, *, is_expired: bool = False) -> bool:
        """Replace the token of `generation` if it is void and not replaced already.

        A resource may be refused to a good token. A renewal would give up the logon
        session with all its tasks, so the server is asked for what tells first.
        However many ask at once, one logon runs and all share how it went.

        Args:
            generation: What the refused request was sent under.
            is_expired: Whether the server has said so of the logon session itself.

        Returns:
            Whether it has, or the token was replaced meanwhile.

        Raises:
            LogonError: The logon was refused; or the token was, although it was never
                accepted or is adopted.
            TransportError, StatusError, MalformedReplyError: The logon had no answer.
        """
        if self.check() != generation:
            return True
        return await self._single_flight(self._replace if is_expired else self._renew)

    async def keep_alive(self) -> bool:
        """Reset the server's idle timer, or renew; return whether the server is well.

        Raises:
            LogonError: The logon was refused.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
        """
        generation = self.check()
        reply = await self.transport.send(self._own("GET"), self.token)
        self.note(generation, reply.status)
        if _is_void(reply):
            return await self.renew(generation, is_expired=True)
        return reply.status < REDIRECT

    async def settle(self) -> None:
        """Wait for a logon under way, whoever asked for it, so it can be logged out."""
        self._is_settling = True
        while self._owned is not None:
            if self._is_resting:
                self._owned.cancel()
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
            _log.warning(
                "not logged out: the server never told the ID of our logon session"
            )
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
        return reply.status < REDIRECT

    async def end(self) -> None:
        """End the logon session, whoever opened it.

        Raises:
            LogonError: It has ended already.
            StatusError, TransportError, MalformedReplyError: Not confirmed.
        """
        self.check()
        reply = await self.transport.send(self._own("DELETE"), self.token)
        if _is_void(reply):
            raise LogonError(
                request=reply.request,
                status=reply.status,
                message=_wire.error_message(reply, self.secrets),
                advice="This logon session has ended already",
            )
        if reply.status >= REDIRECT:
            raise _wire.status_error(reply, self.secrets)
        self.forget()

    def forget(self) -> None:
        """Drop the logon session without a word to the server."""
        self.token = self.session_id = None
        self.accepted = False

    def _own(self, method: Literal["GET", "DELETE"]) -> Request:
        return own_session_request(method, self.token, self.session_id, self.media_type)

    async def _single_flight(
        self, work: Callable[[], Coroutine[None, None, bool]]
    ) -> bool:
        """Run `work` in an asyncio task of our own; all who ask share its result.

        The server makes a logon session whether or not anyone still waits for it, so
        a waiter that is cancelled must not take the logon down with it.
        """
        owned = self._owned
        loop = asyncio.get_running_loop()
        # One of a loop that was closed before it ended will never be done.
        if owned is None or owned.done() or owned.get_loop() is not loop:
            self._is_resting = False
            self._owned = owned = asyncio.create_task(work(), name="veeam_tasks logon")
            owned.add_done_callback(self._release)
        await asyncio.wait([owned])
        if owned.cancelled():
            # By `stop`; a waiter that nobody cancelled must not end as if it were.
            raise ClosedError(what="the manager", advice="it was closed")
        failure = owned.exception()
        if failure is not None:
            raise failure.again() if isinstance(failure, VeeamTasksError) else failure
        return owned.result()

    def _release(self, owned: asyncio.Task[bool]) -> None:
        if self._owned is owned:
            self._owned = None
        # Retrieved here, since every waiter may have gone.
        self.errors += not owned.cancelled() and owned.exception() is not None

    async def _renew(self) -> bool:
        is_good = await self._is_token_good()
        if is_good:
            return False
        await self._replace()
        # Where the server will not tell, it may be the one resource all the same.
        return is_good is False

    async def _replace(self) -> bool:
        """Log on anew, unless this token was never accepted or is not ours.

        A server that hands out tokens which it refuses would be logged on to for ever.
        """
        if self.account is None or not self.accepted:
            self._refuse_token()
        await self._back_off()
        await self._log_on()
        return True

    async def _check_new_token(self) -> bool:
        """End all if a new token is refused that was never accepted."""
        may_renew = self.account is not None and self.accepted
        if not may_renew and not await self._is_token_good():
            self._refuse_token()
        return True

    async def _is_token_good(self) -> bool | None:
        """Ask the server what tells; return what that says, None if nothing.

        A refusal counts at once; a good word only if no later probe is refused. Raises
        what came instead of an answer if the server is unwell.
        """
        generation, token = self.check(), self.token
        is_good: bool | None = None
        failure: VeeamTasksError | None = None
        for request in token_checks(token, self.session_id, self.media_type):
            try:
                reply = await self.transport.send(request, token)
            except VeeamTasksError as error:
                failure = error
                continue
            shown = is_token_valid(reply)
            if shown is False:
                return False
            is_good = is_good or shown
            is_foreign = reply.status == UNAUTHORIZED
            if shown is None and (is_foreign or reply.status >= SERVER_ERROR):
                failure = _wire.status_error(reply, self.secrets)
        if failure is not None and not is_good:
            raise failure
        if is_good:
            self.note(generation)
        return is_good

    async def _back_off(self) -> None:
        """Pause before a logon if tokens keep dying young."""
        pause = self._lifetimes.end(anyio.current_time())
        if not pause:
            return
        if self._is_settling:
            raise ClosedError(what="the manager", advice="it was closed")
        self._is_resting = True
        try:
            await anyio.sleep(pause)
        finally:
            self._is_resting = False

    def _refuse_token(self) -> NoReturn:
        advice = (
            "The adopted token is dead: its logon session has ended, and an adopted"
            " one is never logged on anew"
            if self.account is None
            else "The server accepted the logon and then refused its own token; it is"
            " not tried again until open()"
        )
        what, status = "the logon session", UNAUTHORIZED
        error = LogonError(request=what, status=status, message=None, advice=advice)
        self._end_by(error)
        raise error

    def _end_by(self, error: LogonError) -> None:
        self.refused = error.again()
        self.forget()
        self.on_refused(self.refused)

    async def _log_on(self) -> bool:
        assert self.account is not None
        renewal = self.token is not None
        authorization = await self.account.authorization(self.secrets)
        reply = await self.transport.send(
            log_on_request(authorization, self.api_version, self.media_type)
        )
        try:
            token, session_id = opened(reply, self.secrets)
        except LogonError as error:
            self._end_by(error)
            raise
        self._take(token, session_id)
        self.logons += 1
        if renewal:
            self.renewals += 1
            self.renewed_at = datetime.now(UTC)
        self.on_logon(renewal)
        return True

    def _take(self, token: Secret, session_id: Secret | None) -> None:
        self._lifetimes.begin(anyio.current_time())
        self.secrets.add(token, session_id)
        self.token, self.session_id = token, session_id
        self.generation += 1
        self.accepted = self.knows_tasks = False


def _is_void(reply: Reply) -> bool:
    """Tell whether the Enterprise Manager itself refuses the token."""
    return reply.status == UNAUTHORIZED and _wire.is_own_refusal(reply)
