"""Log on once, share the token, renew once for all, keep alive, log out.

Fact (``http_authentication`` reference page): a token expires after 15 idle minutes,
then every reply is 401. What a 401 leads to:

1. The token was replaced since the refused request was sent: nothing but to send it
   again. Each token has a generation for that; compared with the current token alone,
   each late 401 would make one more logon session.
2. A renewal is under way: all who ask wait for that one (`_single_flight`).
3. The token is still good and only this resource is refused: no renewal. It would give
   up the logon session with all its tasks, so the server is asked first (`_renew`).
4. The token was never accepted, or is adopted: the end (`_refuse_token`). A server that
   refuses its own tokens would be logged on to for ever.
5. Else a logon, after a pause if new tokens keep being refused (`LogonPauses`).
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Literal, NoReturn, Protocol

import anyio
import attrs

from veeam_tasks._errors import (
    ClosedError,
    LogonError,
    VeeamTasksError,
    fresh,
)
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.classification import refuses_token
from veeam_tasks._protocol.logon import (
    hrefs_in,
    is_token_valid,
    log_on_request,
    opened,
    own_session_request,
    token_checks,
)
from veeam_tasks._protocol.messages import (
    OK,
    REDIRECT,
    SERVER_ERROR,
    UNAUTHORIZED,
    Reply,
    Request,
    Sender,
)
from veeam_tasks._redaction import Secret, Secrets, hidden, hidden_or_none
from veeam_tasks._session.credentials import Credentials
from veeam_tasks._session.origins import Origins
from veeam_tasks._telemetry.notices import LOGON, error_fields
from veeam_tasks._telemetry.spans import Spans

ADVICE = (
    "A task belongs to the logon session that started it, and this logon session knows"
    " none of those it was asked for: start and watch tasks through one manager, or"
    " share the logon session (em.token, aclose(log_out=False), adopt())"
)
"""For whoever asks for a task that this logon session does not know."""

INTERRUPTIONS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What may strike the log-out and has to wait for it: a loop that ends cancels all its
tasks; a second Ctrl-C, or a signal handler that exits, raises in any of their steps."""


_REFERENCE_LETTERS = 24

_EARLY = 60.0
"""Seconds. A token that was good for longer has expired, or the server restarted."""

_AT_ONCE = 3
"""Renewals that go at once, since a server may be restarted twice."""

_NOT_FOUND = 404


@attrs.define
class LogonPauses:
    """Counts the tokens that were refused early, one after the other; pure.

    Two nodes behind one address, each of which refuses the other's tokens, would else
    make logons without end.
    """

    _issued_at: float = 0.0
    _refused_early: int = 0

    def token_issued(self, now: float) -> None:
        """Note that a token was taken into use."""
        self._issued_at = now

    def token_refused(self, now: float) -> float:
        """Note its refusal; return the pause before the next logon, in seconds."""
        is_early = now - self._issued_at < _EARLY
        self._refused_early = self._refused_early + 1 if is_early else 0
        if self._refused_early <= _AT_ONCE:
            return 0.0
        return min(_EARLY, 2.0 ** (self._refused_early - _AT_ONCE))


class SessionListener(Protocol):
    """Who is told what becomes of a logon session."""

    def logged_on(self) -> None:
        """There is one where there was none."""

    def renewed(self) -> None:
        """Another logon session took the place of the one before."""

    def refused(self, error: LogonError) -> None:
        """Nothing is asked any more: a logon or an adopted token was refused."""


@attrs.define(eq=False, kw_only=True)
class LogonSession:
    """One logon session at a time, shared by all, renewed once for all.

    Made anew for each open time of a manager: a call that waited while the manager was
    closed and opened again still holds this one, which stays closed, and does not go
    out under the next one's token.

    Args:
        transport: Sends requests.
        listener: Is told of a logon, a renewal and a refusal.
        secrets: Learns every password, token and session ID.
        credentials: Who logs on; None for an adopted logon session, which is never
            renewed and never logged out.
        api_version: The ``v=`` of the logon.
        media_type: Of the logon's reply.
        spans: Makes spans for whoever traces.
        origins: Is told of each logon session, and of how the server calls itself.

    Attributes:
        generation: 0 before the first logon, then one more with each.
        knows_tasks: Whether this logon session has known a task that was asked for.
        accepted: Whether the server has answered anything but 401 under this token.
        refused: Why nothing is asked any more, until `open`.
        renewed_at: When the token was renewed last; None if never.
        clock_offset: By how much the server's clock was ahead of ours when it last told
            the time; None if it never did.
    """

    transport: Sender
    listener: SessionListener
    secrets: Secrets
    credentials: Credentials | None
    api_version: str
    media_type: str
    spans: Spans = attrs.field(factory=Spans)
    origins: Origins = attrs.field(factory=Origins)
    token: Secret | None = attrs.field(default=None, repr=False)
    session_id: Secret | None = attrs.field(default=None, repr=False)
    generation: int = 0
    knows_tasks: bool = False
    accepted: bool = False
    refused: LogonError | None = None
    renewed_at: datetime | None = None
    clock_offset: timedelta | None = None
    logons: int = 0
    renewals: int = 0
    retries: int = 0
    errors: int = 0
    _pending: asyncio.Task[bool] | None = None
    _pauses: LogonPauses = attrs.field(factory=LogonPauses)
    _is_pausing: bool = False
    _is_closing: bool = False

    @property
    def reference(self) -> str | None:
        """What stands for the logon session where its token must not.

        A hash of the token, since whoever adopts it knows nothing else. The token is a
        random number of 122 bits or more, so that no slow hash is needed.
        """
        if self.token is None:
            return None
        digest = hashlib.sha256(b"veeam_tasks logon session\0")
        digest.update(str(self.token.reveal()).encode(errors="surrogatepass"))
        return digest.hexdigest()[:_REFERENCE_LETTERS]

    async def open(self) -> None:
        """Log on, unless there is a logon session already.

        Raises:
            LogonError: The account was refused.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
        """
        self.refused, self._is_closing = None, False
        if self.token is None:
            await self._single_flight(self._log_on)

    def adopt(self, token: str | Secret, session_id: str | Secret | None) -> None:
        """Use a logon session that someone else opened."""
        self.refused, self._is_closing = None, False
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
        self._note_time(reply)
        if not refuses_token(reply):
            self.mark_accepted(generation, reply.status)
            return reply, generation
        # A 401 means that nothing was carried out, so even an action may go once more.
        await self.renew(generation)
        if is_bound and generation != self.check():
            return reply, generation
        self.retries += 1
        generation = self.check()
        reply = await self.transport.send(request, self.token, uncertain=uncertain)
        self._note_time(reply)
        self.mark_accepted(generation, reply.status)
        # Once more only: a second 401 is the caller's to judge, unless the token itself
        # was never any good, which ends all.
        if refuses_token(reply) and generation == self.generation:
            await self._single_flight(self._check_new_token)
        return reply, generation

    def check(self) -> int:
        """Return the generation to send with, or raise what forbids to send.

        Raises:
            LogonError: The logon was refused before.
            ClosedError: There is no logon session.
        """
        if self.refused is not None:
            raise fresh(self.refused)
        if self.token is None:
            raise ClosedError(what="the manager", advice="it is closed; open it again")
        return self.generation

    def mark_accepted(self, generation: int, status: int = OK) -> None:
        """Remember that the server accepted the token of `generation`, if it did."""
        if generation == self.generation and status < REDIRECT:
            self.accepted = True

    def time_of(self, reply: Reply) -> tuple[datetime, bool]:
        """Return when a reply that has just come was sent, and if the server says so.

        By the server's clock; without its word by ours, set by what it said before.
        """
        if reply.date is not None:
            return reply.date, True
        return datetime.now(UTC) + (self.clock_offset or timedelta()), False

    def _note_time(self, reply: Reply) -> None:
        if reply.date is not None:
            self.clock_offset = reply.date - datetime.now(UTC)

    def mark_knows_tasks(self, generation: int) -> None:
        """Remember that the logon session of `generation` knew a task."""
        if generation == self.generation:
            self.knows_tasks = True

    async def renew(self, generation: int, *, is_expired: bool = False) -> bool:
        """Replace the token of `generation` if it has expired and was not replaced yet.

        However many ask at once, one logon runs and all share how it went; see the
        numbered cases of the module.

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
        self.mark_accepted(generation, reply.status)
        if refuses_token(reply):
            # It was asked about itself, so nothing else has to be asked.
            return await self.renew(generation, is_expired=True)
        return reply.is_success

    async def wait_for_pending(self) -> None:
        """Wait for a logon under way, whoever asked for it, so it can be logged out."""
        self._is_closing = True
        # Once and again: who waited for the first may have begun another one.
        while self._pending is not None:
            if self._is_pausing:
                # It pauses for up to a minute, and has sent nothing yet.
                self._pending.cancel()
            await asyncio.wait([self._pending])

    async def cancel_pending(self) -> None:
        """Give up a logon under way, which took too long to be waited for."""
        while self._pending is not None:
            self._pending.cancel()
            await asyncio.wait([self._pending])

    async def log_out(self) -> bool:
        """End our logon session; return whether the server confirmed it.

        An end that cannot be confirmed is only logged: the server ends an idle
        logon session after 15 minutes by itself. A cancellation or a Ctrl-C in the
        middle is honoured after one more try, since the request is safe to repeat.
        """
        request, token = self._own("DELETE"), self.token
        # First: whatever strikes below, nothing goes out under this token any more.
        self.clear()
        if self.credentials is None or token is None:
            return False
        if request.method != "DELETE":
            LOGON.warning(
                "not logged out: the server never told the ID of our logon session",
                extra={"em_url": self.spans.url, "event": "not_logged_out"},
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
        is_over = reply is not None and (
            reply.is_success or refuses_token(reply) or reply.status == _NOT_FOUND
        )
        if reply is not None and not is_over:
            failure = _replies.status_error(reply, self.secrets)
        if reply is None or not is_over:
            told = {"em_url": self.spans.url, "event": "not_logged_out"}
            told |= error_fields(failure)
            text = "not logged out, the server will do it: %s"
            LOGON.warning(text, failure, extra=told)
            return False
        return reply.is_success

    async def delete(self) -> None:
        """End the logon session, whoever opened it.

        Raises:
            LogonError: It has ended already.
            StatusError, TransportError, MalformedReplyError: Not confirmed.
        """
        self.check()
        reply = await self.transport.send(self._own("DELETE"), self.token)
        if refuses_token(reply):
            raise LogonError(
                request=reply.request,
                status=reply.status,
                message=_replies.error_message(reply, self.secrets),
                advice="This logon session has ended already",
            )
        if not reply.is_success:
            raise _replies.status_error(reply, self.secrets)
        self.clear()

    def clear(self) -> None:
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
        pending = self._pending
        if pending is None or pending.done():
            self._is_pausing = False
            self._pending = pending = asyncio.create_task(
                work(), name="veeam_tasks logon"
            )
            pending.add_done_callback(self._release)
        # Not awaited itself, or the cancellation of one who waits would go into it.
        await asyncio.wait([pending])
        if pending.cancelled():
            # A waiter that nobody cancelled must not end as if it were.
            raise ClosedError(what="the manager", advice="it was closed")
        failure = pending.exception()
        if failure is not None:
            raise fresh(failure)
        return pending.result()

    def _release(self, pending: asyncio.Task[bool]) -> None:
        if self._pending is pending:
            self._pending = None
        # Retrieved here, since every waiter may have gone.
        self.errors += not pending.cancelled() and pending.exception() is not None

    async def _renew(self) -> bool:
        is_good = await self._is_token_accepted()
        if is_good:
            return False
        # Also where no reply tells: an expired token that is not renewed ends every
        # watch, while a good one that is renewed costs the tasks of one logon session.
        await self._replace()
        # Then it may be the one resource all the same, so its rounds are counted.
        return is_good is False

    async def _replace(self) -> bool:
        """Log on anew, unless this token was never accepted or is not ours.

        A server that hands out tokens which it refuses would be logged on to for ever.
        """
        if self.credentials is None or not self.accepted:
            self._refuse_token()
        await self._pause()
        await self._log_on()
        return True

    async def _check_new_token(self) -> bool:
        """End all if a new token is refused that was never accepted."""
        may_renew = self.credentials is not None and self.accepted
        if not may_renew and not await self._is_token_accepted():
            self._refuse_token()
        return True

    async def _is_token_accepted(self) -> bool | None:
        """Ask the server for what tells; return whether it accepts the token.

        None if no reply tells. A refusal counts at once; an acceptance only if no later
        check is refused. Raises what came instead of an answer if the server is unwell.
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
                failure = _replies.status_error(reply, self.secrets)
        if failure is not None and not is_good:
            raise failure
        if is_good:
            self.mark_accepted(generation)
        return is_good

    async def _pause(self) -> None:
        """Pause before a logon if new tokens keep being refused."""
        pause = self._pauses.token_refused(anyio.current_time())
        if not pause:
            return
        if self._is_closing:
            raise ClosedError(what="the manager", advice="it was closed")
        self._is_pausing = True
        try:
            await anyio.sleep(pause)
        finally:
            self._is_pausing = False

    def _refuse_token(self) -> NoReturn:
        advice = (
            "The adopted token is refused: its logon session has ended, and an adopted"
            " one is never logged on anew"
            if self.credentials is None
            else "The server accepted the logon and then refused its own token; it is"
            " not tried again until open()"
        )
        what, status = "the logon session", UNAUTHORIZED
        error = LogonError(request=what, status=status, message=None, advice=advice)
        self._end_by(error)
        raise error

    def _end_by(self, error: LogonError) -> None:
        self.refused = fresh(error)
        self.clear()
        self.listener.refused(self.refused)

    async def _log_on(self) -> bool:
        assert self.credentials is not None
        renewal = self.token is not None
        authorization = await self.credentials.authorization(self.secrets)
        with self.spans.client("veeam_tasks.logon", {"veeam_tasks.renewal": renewal}):
            reply = await self.transport.send(
                log_on_request(authorization, self.api_version, self.media_type)
            )
            self._note_time(reply)
            try:
                token, session_id = opened(reply, self.secrets)
            except LogonError as error:
                self._end_by(error)
                raise
        # Before anyone is told, since whoever is told may send under it at once.
        self._take(token, session_id)
        self._learn_names(reply)
        self.logons += 1
        if renewal:
            self.renewals += 1
            self.renewed_at = datetime.now(UTC)
            self.listener.renewed()
        else:
            self.listener.logged_on()
        return True

    def _take(self, token: Secret, session_id: Secret | None) -> None:
        self._pauses.token_issued(anyio.current_time())
        self.secrets.add(token, session_id)
        self.token, self.session_id = token, session_id
        self.generation += 1
        self.accepted = self.knows_tasks = False
        self.origins.logged_on(self.reference)

    async def ask_name(self) -> None:
        """Ask for our logon session: its links say how the server calls itself.

        Raises:
            LogonError, ClosedError, TransportError, MalformedReplyError, StatusError:
                No usable reply came.
        """
        self.check()
        reply = await self.transport.send(self._own("GET"), self.token)
        if reply.is_success:
            self._learn_names(reply)

    def _learn_names(self, reply: Reply) -> None:
        for href in hrefs_in(reply):
            self.origins.learn(href)
