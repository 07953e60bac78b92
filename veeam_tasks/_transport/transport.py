"""`Request` -> `Reply` over the connections of one aiohttp session.

Measured facts of aiohttp 3.14 that shape this file:

* It sends PUT and DELETE again by itself after a disconnect; `NoResend` stops that.
* The `repr` of its errors holds the request's headers, so what stands for them is
  raised outside the ``except`` block, and they are never kept as a cause or context.
* Closing a TLS connection waits up to 30 s for the server's farewell, and an aiohttp
  session that closes does not wait for those: hence `abort`.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ssl import SSLContext
from typing import Literal

import aiohttp
import anyio
import anyio.lowlevel
from aiohttp import hdrs
from multidict import CIMultiDictProxy
from yarl import URL

from veeam_tasks._errors import (
    CertificateError,
    ClosedError,
    MalformedReplyError,
    RequestTimeoutError,
    SubmitUncertainError,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._protocol.messages import (
    BAD_REQUEST,
    OK,
    REDIRECT,
    UNAUTHORIZED,
    UNCHANGED,
    Reply,
    Request,
)
from veeam_tasks._redaction import Secret, Secrets, hidden, quoted, visible
from veeam_tasks._telemetry.monitor import NO_REPLY, Monitor
from veeam_tasks._transport.errors import (
    beginning,
    describe,
    error_class,
    is_connect_failure,
    transport_kind,
)
from veeam_tasks._transport.held import running_for
from veeam_tasks._transport.trust import Trust, inspect_certificate, readable
from veeam_tasks._transport.untraced import SecretHeaders, untraced
from veeam_tasks._transport.workarounds import (
    TOKEN_HEADER,
    NoResend,
    Response,
    Transports,
    UnusableError,
    drop,
    read_body,
    shut_sockets,
    tracking_request_class,
)

_KEEP_ALIVE_SECONDS = 110.0
# Of the connections for actions, which are sent once only: some servers close what was
# idle for two seconds, and their farewell may be on its way. A burst still shares one.
_KEEP_FOR_ACTIONS_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_MEDIA_TYPES = {"xml": "application/xml", "json": "application/json"}
_ENCODINGS = {"", "identity", "gzip", "deflate", "br", "zstd"}
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?", re.ASCII)
_YEAR = 365 * 86400.0
_YEARS = range(1970, 9998)


class Transport:
    """Sends requests over the connections of one aiohttp session; belongs to one loop.

    Args:
        base: What `base_url` returned.
        trust: Whom to trust.
        secrets: Hidden in whatever an error says.
        accept: What the server is asked to answer with.
        request_timeout: Seconds that `send` waits for a whole reply.
        max_reply_bytes: How long a body may be, unless its request says otherwise.
        proxy: URL of an HTTP proxy, or None.
        monitor: Counts the replies.

    Attributes:
        requests: Requests sent since it was made.
        in_flight: Requests under way now.
        bytes_in: Bytes of bodies received, after decompression.
        sent_at: Monotonic time when the last request was sent.
    """

    def __init__(
        self,
        base: URL,
        trust: Trust,
        *,
        secrets: Secrets,
        accept: Literal["xml", "json"] = "xml",
        request_timeout: float = 30.0,
        max_reply_bytes: int = 1 << 20,
        proxy: Secret | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self.base = base
        self.media_type = _MEDIA_TYPES[accept]
        self.request_timeout = request_timeout
        self.max_reply_bytes = max_reply_bytes
        self.requests = 0
        self.in_flight = 0
        self.bytes_in = 0
        self.sent_at = 0.0
        self._replies = (monitor or Monitor()).requests
        self._polls = self._replies["poll"]
        self._now: Callable[[], float] = lambda: 0.0
        self._trust = trust
        self._secrets = secrets
        self._proxy = proxy
        self._root = str(base)
        self._http: aiohttp.ClientSession | None = None
        self._closing: list[aiohttp.ClientSession] = []
        self._polling: aiohttp.ClientSession | None = None
        self._actions: aiohttp.ClientSession | None = None
        self._opened: Transports = {}
        self._token: object = None
        self._token_headers: Mapping[str, str] = {}
        if proxy is not None:
            secrets.keep(URL(proxy.reveal()).password)

    def __repr__(self) -> str:
        word = "closed" if self._http is None else f"{self.in_flight} in flight"
        return f"<Transport {self._root} {word}, {self.requests} requests>"

    async def open(self) -> None:
        """Make the aiohttp session, in this loop; nothing is connected yet.

        Raises:
            ValueError: The file of CAs cannot be read.
        """
        if self._http is not None:
            return
        context = await self._trust.make_context()
        self._now = asyncio.get_running_loop().time
        self.sent_at = self._now()
        connector = self._make_connector(context, _KEEP_ALIVE_SECONDS)
        self._http = self._polling = self._make_http(connector)
        self._actions = self._make_http(
            self._make_connector(context, _KEEP_FOR_ACTIONS_SECONDS)
        )
        if self._http.trace_configs:
            # Someone traces aiohttp. That polls are suppressed in its spans would still
            # cost each of them a sixth; so they go over an aiohttp session without
            # traces, and the same connections.
            self._polling = self._make_http(connector, is_owner=False)
            self._polling.trace_configs.clear()

    def _make_connector(
        self, context: SSLContext | None, keep_alive: float
    ) -> aiohttp.TCPConnector:
        trust = self._trust
        ssl: aiohttp.Fingerprint | bool = not trust.insecure
        if trust.fingerprint is not None:
            ssl = aiohttp.Fingerprint(trust.fingerprint)
        return aiohttp.TCPConnector(
            keepalive_timeout=keep_alive,
            limit=0,  # whoever calls bounds how many are in flight
            ssl=context or ssl,
        )

    def _make_http(
        self, connector: aiohttp.TCPConnector, *, is_owner: bool = True
    ) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=is_owner,
            # The server takes a cookie's token before the header's.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                hdrs.ACCEPT: self.media_type,
                hdrs.ACCEPT_ENCODING: "identity",
                hdrs.USER_AGENT: "veeam-tasks",
            },
            proxy=None if self._proxy is None else self._proxy.reveal(),
            request_class=tracking_request_class(self._opened),
            response_class=Response,
            timeout=aiohttp.ClientTimeout(),
        )

    async def aclose(self) -> None:
        """Close every connection, at once; may be called twice.

        Requests still under way end in `ClosedError`.
        """
        opened = {self._polling, self._http, self._actions}
        self._closing += [one for one in opened if one is not None]
        self._http = self._polling = self._actions = None
        if not self._closing:
            return
        with anyio.CancelScope(shield=True):
            for transport in list(self._opened):
                transport.abort()
            for one in list(self._closing):
                await one.close()
                # Not before: what ends in the middle is taken up by the next call.
                if one in self._closing:
                    self._closing.remove(one)
            shut_sockets(self._opened)
            for _ in range(3):
                # An aborted TLS connection takes two rounds of the loop to go.
                await anyio.lowlevel.checkpoint()
            self._opened.clear()

    def url(self, path: str) -> URL:
        """Return the URL of a checked, encoded path below ``/api/``."""
        return URL(self._root + path, encoded=True)

    async def poll(
        self,
        url: URL,
        token: Secret | None,
        limit: int,
        shown: str = "",
        is_known: Callable[[bytes], bool] | None = None,
    ) -> Reply:
        """GET `url` under `token`, with nothing around it; the caller sets the time.

        `shown` stands for the URL in what people see, if that may hold a secret. If
        `is_known` says so of the body of a 200, the reply is `UNCHANGED`: to describe
        one that nobody reads would cost a twentieth of a poll.

        Raises:
            TransportError, CertificateError, MalformedReplyError: No usable reply came.
            ClosedError: The transport is not open.
        """
        http = self._polling or self._require_http()
        if token is not self._token:
            self._token = token
            self._token_headers = {TOKEN_HEADER: hidden(token or "").reveal()}
        self.requests += 1
        self.sent_at = self._now()
        self.in_flight += 1
        response: aiohttp.ClientResponse | None = None
        refusal: Reply | None = None
        try:
            while True:
                try:
                    response = await http.request(
                        "GET", url, headers=self._token_headers, allow_redirects=False
                    )
                except UnusableError:
                    continue  # that one is gone; after the last comes a new one
                break
            content = response.content
            if content.is_eof() and content.total_bytes <= limit:
                body = content.read_nowait()
            else:
                body = await read_body(response, f"GET {shown or url}", limit)
            self.bytes_in += len(body)
            if is_known is not None and response.status == OK and is_known(body):
                self._polls[OK // 100] += 1
                return UNCHANGED
            reply = self._reply(response, f"GET {shown or url}", body)
            self._polls[_class_of(reply.status)] += 1
            return reply  # noqa: TRY300 - what it raises is mapped below
        except Exception as error:  # noqa: BLE001 parsers of foreign bytes may raise anything
            if response is not None and response.status == UNAUTHORIZED:
                # Its head says it all; else an expired token would never be renewed.
                refusal = _refusal(response, f"GET {shown or url}")
            self._polls[NO_REPLY if refusal is None else UNAUTHORIZED // 100] += 1
            failure = self._map_error(error, f"GET {shown or url}")
            body = b""  # it may hold an echo, and reporters print locals
        finally:
            self.in_flight -= 1
        if refusal is not None:
            return refusal
        raise await self._with_certificate(failure)

    async def send(
        self, request: Request, token: Secret | None = None, *, uncertain: bool = False
    ) -> Reply:
        """Send one request, within `request_timeout`; what is not a GET, once only.

        Args:
            request: What to send.
            token: Sent with it.
            uncertain: Whether it matters if the request was carried out: then a
                failure after it may have arrived is a `SubmitUncertainError`.

        Raises:
            RequestTimeoutError: The reply took too long.
            SubmitUncertainError: See `uncertain`.
            TransportError, CertificateError, MalformedReplyError: No usable reply came.
            ClosedError: The transport is not open.
        """
        http, actions = self._require_http(), self._actions
        assert actions is not None
        shown = f"{request.method} {self._root}{request.shown}"
        attempt = NoResend()
        failure: VeeamTasksError | None = None
        self.requests += 1
        self.sent_at = self._now()
        self.in_flight += 1
        counts = self._replies[_kind_of(request, uncertain=uncertain)]
        status_class = NO_REPLY
        # A path with a secret in it is one of them: it is shown otherwise.
        is_untraced = request.is_own or request.shown != request.path
        try:
            with untraced() if is_untraced else nullcontext():
                async with running_for(self.request_timeout):
                    reply = await self._exchange(
                        actions if uncertain else http, request, token, attempt
                    )
                    status_class = _class_of(reply.status)
                    return reply
        except Exception as error:  # noqa: BLE001 parsers of foreign bytes may raise anything
            failure = self._map_error(error, shown, url=self._root + request.path)
        finally:
            self.in_flight -= 1
            counts[status_class] += 1
        if failure is None:
            failure = RequestTimeoutError(
                request=shown,
                reason=f"no reply within {self.request_timeout:g} s",
                connected=attempt.may_have_arrived,
                kind="timeout",
            )
        if uncertain and attempt.may_have_arrived:
            raise _uncertain(shown, failure)
        raise await self._with_certificate(failure)

    async def _exchange(
        self,
        http: aiohttp.ClientSession,
        request: Request,
        token: Secret | None,
        attempt: NoResend,
    ) -> Reply:
        # An action without a body must not say of which type it is.
        skipped = () if request.body is not None else (hdrs.CONTENT_TYPE,)
        is_told = bool(http.trace_configs) and not request.is_own
        private = SecretHeaders(
            _secret_headers_of(request, token), self._secrets if is_told else None
        )
        while True:
            try:
                response = await http.request(
                    request.method,
                    self.url(request.path),
                    data=request.body,
                    headers=_headers_of(request),
                    allow_redirects=False,
                    skip_auto_headers=skipped,
                    middlewares=(attempt, private),
                )
            except UnusableError:
                continue  # nothing was sent; see `poll`
            break
        shown = f"{request.method} {self._root}{request.shown}"
        limit = request.max_reply_bytes or self.max_reply_bytes
        if response.status == UNAUTHORIZED:
            refusal = _refusal(response, shown)
            if refusal is not None:
                # Its head says it all: a logon that is sent again and again, since the
                # body cannot be read, locks the account.
                with suppress(Exception):
                    async with running_for(self.request_timeout / 2):
                        body = await read_body(response, shown, limit)
                        self.bytes_in += len(body)
                        return self._reply(response, shown, body, refusal.date)
                return refusal
        body = await read_body(response, shown, limit)
        self.bytes_in += len(body)
        return self._reply(response, shown, body, _date(response.headers))

    def _reply(
        self,
        response: aiohttp.ClientResponse,
        request: str,
        body: bytes,
        date: datetime | None = None,
    ) -> Reply:
        headers, status = response.headers, response.status
        if status < OK:
            drop(response)
            problem = f"status {status}, which nobody asked for"
            raise MalformedReplyError(request=request, problem=problem)
        encoding = headers.get(hdrs.CONTENT_ENCODING)
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            problem = (
                f"unknown Content-Encoding {quoted(beginning(self._shown(encoding)))}"
            )
            raise MalformedReplyError(request=request, problem=problem)
        location = headers.get(hdrs.LOCATION) if status >= REDIRECT else None
        return Reply(
            request=request,
            status=status,
            content_type=_media_type(headers.get(hdrs.CONTENT_TYPE, "")),
            body=body,
            token=headers.get(TOKEN_HEADER),
            retry_after=_retry_after(headers) if status >= BAD_REQUEST else None,
            location=None
            if location is None
            else beginning(visible(self._secrets.hide_in_path(location))),
            challenge=_challenge(headers) if status == UNAUTHORIZED else None,
            date=date,
        )

    def _require_http(self) -> aiohttp.ClientSession:
        """Return the aiohttp session, or raise that the transport is closed."""
        if self._http is None:
            raise ClosedError(what="the transport", advice="it is closed; open it")
        return self._http

    def _shown(self, text: str) -> str:
        return visible(self._secrets.hide(text))

    def _map_error(
        self, error: Exception, request: str, *, url: str | None = None
    ) -> VeeamTasksError:
        """Return what stands for a foreign error and keeps nothing of it but words."""
        if isinstance(error, VeeamTasksError):
            # The frames where it was raised hold the reply.
            return error.with_traceback(None)
        if self._http is None:
            return ClosedError(
                what=request, advice="the transport was closed meanwhile"
            )
        name, text = describe(error)
        if url is not None:
            text = text.replace(url, request.partition(" ")[2])
        text = self._shown(text)
        words = ": ".join(filter(None, (name, text)))
        kind = error_class(error)
        if issubclass(kind, MalformedReplyError):
            return MalformedReplyError(request=request, problem=words)
        if issubclass(kind, CertificateError):
            got = getattr(error, "got", None)
            return CertificateError(
                request=request,
                reason=words,
                detail=text or words,
                fingerprint=readable(got) if isinstance(got, bytes) else None,
            )
        return TransportError(
            request=request,
            reason=words,
            connected=not is_connect_failure(error),
            kind=transport_kind(error),
            detail=text or words,
        )

    async def _with_certificate(self, failure: VeeamTasksError) -> VeeamTasksError:
        """Return `failure`, and if it is about a certificate, with a look at it."""
        if not isinstance(failure, CertificateError) or self._proxy is not None:
            return failure
        try:
            seen = await inspect_certificate(
                self.base.raw_host or "", self.base.port or 0, seconds=_LOOK_SECONDS
            )
        except TransportError:
            return failure
        if failure.fingerprint not in {None, seen.fingerprint}:
            return failure
        ends = seen.not_after
        return CertificateError(
            request=failure.request,
            reason=failure.reason,
            detail=failure.detail,
            fingerprint=seen.fingerprint,
            subject=seen.subject,
            expires=None if ends is None else f"{ends:%Y-%m-%d %H:%M} UTC",
        )


def _challenge(headers: CIMultiDictProxy[str]) -> str | None:
    """Return what a 401 asks for: all of it, since whatever is between may add more."""
    return ", ".join(headers.getall(hdrs.WWW_AUTHENTICATE, ())) or None


def _refusal(response: aiohttp.ClientResponse, request: str) -> Reply | None:
    """Return a 401 without its body; None if only that can tell whose word it is."""
    headers = response.headers
    content_type = _media_type(headers.get(hdrs.CONTENT_TYPE, ""))
    challenge = _challenge(headers)
    if challenge is None and "html" in content_type:
        return None
    return Reply(
        request=request,
        status=response.status,
        content_type=content_type,
        body=b"",
        challenge=challenge,
        date=_date(headers),
    )


def _class_of(status: int) -> int:
    """Return the class that a status is counted in; what is above 599 is a 5xx.

    So RFC 9110 has it, and there are servers and proxies that answer with such.
    """
    return min(status // 100, 5)


def _kind_of(request: Request, *, uncertain: bool) -> str:
    """Return what a request is counted as."""
    if request.is_own:
        return "logon" if request.method == "POST" else "session"
    return "action" if uncertain else "read"


def _secret_headers_of(request: Request, token: Secret | None) -> dict[str, Secret]:
    headers = {
        name: value
        for name, value in request.headers.items()
        if isinstance(value, Secret)
    }
    if token is not None:
        headers[TOKEN_HEADER] = hidden(token)
    return headers


def _headers_of(request: Request) -> dict[str, str]:
    """Return the headers that hold no secret."""
    headers: dict[str, str] = {
        hdrs.ACCEPT: request.media_type,
        hdrs.ACCEPT_ENCODING: "gzip, deflate",
    }
    headers |= {
        name: value
        for name, value in request.headers.items()
        if not isinstance(value, Secret)
    }
    if request.body is not None:
        headers[hdrs.CONTENT_TYPE] = request.media_type
    return headers


@lru_cache(maxsize=64)
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After.

    A date counts from the reply's own; without one, from ours.
    """
    value = headers.get(hdrs.RETRY_AFTER, "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _YEAR)
    until = _moment(value)
    if until is None:
        return None
    now = _date(headers) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(headers: Mapping[str, str]) -> datetime | None:
    """Return the time that the server says it is; None for one that no clock shows.

    FILETIME begins in 1601, and near the end of all dates nothing could be added.
    """
    date = _moment(headers.get(hdrs.DATE, ""))
    return date if date is not None and date.year in _YEARS else None


def _moment(written: str) -> datetime | None:
    """Return a date of a header; None if it is none. HTTP dates are all in UTC."""
    try:
        moment = parsedate_to_datetime(written)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _uncertain(request: str, failure: VeeamTasksError) -> SubmitUncertainError:
    if isinstance(failure, TransportError):
        return SubmitUncertainError(
            request=request,
            reason=failure.reason,
            kind=failure.kind,
            detail=failure.detail,
        )
    if isinstance(failure, MalformedReplyError):
        return SubmitUncertainError(request=request, reason=failure.problem)
    return SubmitUncertainError(request=request, reason=str(failure))
