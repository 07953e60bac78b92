"""The ways in: `connect`, `adopt`, `log_out` and `inspect_certificate`."""

from collections.abc import Generator
from types import TracebackType
from typing import Any, NoReturn, Unpack

from veeam_tasks._client.late_connect import Unopened, missing_member
from veeam_tasks._client.manager import SessionManager
from veeam_tasks._errors import ArgumentError
from veeam_tasks._options.keywords import Options, check_names, hide_secrets
from veeam_tasks._options.settings import check_proxy, with_options
from veeam_tasks._pace import check_seconds
from veeam_tasks._protocol.logon import can_stand_in_header, session_id_in
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import (
    Secret,
    hidden,
    hidden_or_none,
    of_the_package,
)
from veeam_tasks._session.credentials import Password
from veeam_tasks._transport.trust import Certificate
from veeam_tasks._transport.trust import inspect_certificate as look_at


class Connecting(Unopened):
    """A manager that is not logged on yet: await it, or use it by ``async with``."""

    def __init__(self, name: str, manager: SessionManager) -> None:
        super().__init__(name)
        self._manager = manager

    def __await__(self) -> Generator[Any, None, SessionManager]:
        self._is_used = True
        return self._manager.open().__await__()

    async def __aenter__(self) -> SessionManager:
        self._is_used = True
        return await self._manager.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._manager.aclose()

    def __getattr__(self, name: str) -> NoReturn:
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        if not name.startswith("_") and hasattr(SessionManager, name):
            self._is_used = True  # it is told here
            text = missing_member(name)
        raise AttributeError(text)

    def __repr__(self) -> str:
        self._is_used = True  # it is told here
        return f"<{self._name} {self._manager.url}: not logged on: await it>"


@with_options
def connect(
    url: str, *, username: str, password: Password, **options: Unpack[Options]
) -> Connecting:
    r"""Log on to an Enterprise Manager; to be awaited or entered.

    Returns:
        What gives a logged-on `SessionManager`, awaited or entered; it makes one
        attempt and raises what `SessionManager.open` raises.

    A wrong argument is a ValueError or TypeError before anything is sent.

    * `url`: ``https://em.example:9398``, with or without ``/api``, port and path.
    * `username`: ``DOMAIN\user`` or ``user@domain``.
    * `password`: a string, or a callable, plain or async, that returns one and is asked
      anew at each logon.

    Trust, at most one of the four; without any, the system's CAs:

    * `ssl` (None): an `ssl.SSLContext` of your own; one that verifies nothing warns.
    * `ca_file` (None): PEM file of the CAs to trust instead of the system's.
    * `fingerprint` (None): SHA-256 of the server's own certificate, hex with or without
      colons; replaces the checks of chain, name and expiry.
    * `insecure` (False): True switches verification off (it warns), and allows ``http://``
      to hosts that are not loopback. The other three have no meaning with ``http://``.

    The rest, with defaults:

    * `api_version` ("latest"): the ``v=`` of the logon, or "v1_7" and the like.
    * `accept` ("xml"): or "json", what the server is asked to answer with.
    * `pace` (``Pace()``): how long to pause between two polls of one task.
    * `request_timeout` (30.0): seconds until a request without a reply is given up;
      more than 0.
    * `max_in_flight` (16): how many polls are under way at once; 1 or more. Calls and
      actions have as many slots of their own.
    * `patience` (None): seconds that an outage may last before watches give up, more
      than 0; None: for ever.
    * `keep_alive` (True): ask for the logon session when nothing was sent for five
      minutes, since the server drops it after 15 (``http_authentication`` page).
    * `max_reply_bytes` (None): the longest reply body in bytes, 1 or more; None: 1 MiB
      for one task, 64 MiB for a collection or what `read` asks for.
    * `coalesce` ("auto"): whether one request asks for all tasks: when that is cheaper,
      "never"; or "always", but for one of many that alone has a quicker pace.
    * `proxy` (None): URL of an HTTP proxy, ``http://proxy.example:3128``.
    * `on_notice` (None): a plain function that is told each `Notice` in the event loop;
      what it raises is logged and harms nothing.
    """
    # Or whoever prints the locals of a traceback would show it.
    secret = hidden(password)
    del password
    hide_secrets(options)
    check_names(
        "connect", {"url": url, "username": username, "password": secret}, options
    )
    manager = SessionManager(url, username=username, password=secret, **options)  # type: ignore[arg-type] # hidden
    return Connecting("connect", manager)


@with_options
def adopt(
    url: str,
    token: str,
    *,
    session_id: str | None = None,
    **options: Unpack[Options],
) -> Connecting:
    """Use a logon session that someone else opened; never end it, nor log on anew.

    Returns:
        What gives a `SessionManager`, awaited or entered. A refused token is a
        `LogonError` at the first request.

    The options are those of `connect`.
    """
    secrets = hidden(token), hidden_or_none(session_id)
    del token, session_id
    hide_secrets(options)
    given = {"url": url, "token": secrets[0], "session_id": secrets[1]}
    check_names("adopt", given, options)
    return Connecting("adopt", _Adopted(url, *secrets, options))


@with_options
async def log_out(
    url: str,
    token: str,
    *,
    session_id: str | None = None,
    **options: Unpack[Options],
) -> None:
    """End a logon session that was left open, by its token.

    The options are those of `connect`.

    Raises:
        LogonError: It has ended already.
        ValueError, TypeError: An argument is wrong; nothing was sent.
        VeeamTasksError: The server could not be asked, or refused.
    """
    secret, secret_id = hidden(token), hidden_or_none(session_id)
    del token, session_id
    hide_secrets(options)
    given = {"url": url, "token": secret, "session_id": secret_id}
    check_names("log_out", given, options)
    manager = _Adopted(url, secret, secret_id, {**options, "keep_alive": False})
    if secret_id is None and session_id_in(secret) is None:
        raise ArgumentError(
            parameter="session_id", problem="is needed: this token does not tell it"
        )
    await manager.open()
    try:
        await manager.end()
    finally:
        await manager.aclose()


async def inspect_certificate(
    url: str,
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - the public surface has it
    proxy: str | None = None,
) -> Certificate:
    """Return the certificate that a server shows; it is sent a TLS handshake alone.

    Compare its fingerprint with what the server's own console shows; if it is the
    same, pass it as ``fingerprint=``.

    Args:
        url: As in `connect`; ``https://`` only.
        timeout: Seconds to wait for an answer.
        proxy: URL of an HTTP proxy, ``http://proxy.example:3128``.

    Raises:
        TransportError: The server cannot be reached, or speaks no TLS.
        RequestTimeoutError: It did not answer in time.
        ValueError, TypeError: An argument is wrong; nothing was sent.
    """
    by = hidden_or_none(proxy)
    del proxy
    base = base_url(url, insecure=True)
    check_seconds("timeout", timeout)
    if by is not None:
        check_proxy(by)
    if base.scheme != "https" or base.host is None or base.port is None:
        problem = "speaks no TLS, so it has no certificate"
        raise ArgumentError(parameter="url", problem=problem, shown=str(base.origin()))
    return await look_at(base.host, base.port, seconds=timeout, proxy=by)


class _Adopted(SessionManager):
    """A manager over somebody else's logon session."""

    def __init__(
        self, url: str, token: Secret, session_id: Secret | None, options: Options
    ) -> None:
        _check_secret("token", token)
        if session_id is not None:
            _check_secret("session_id", session_id)
        self._prepare(url, None, options, adopted=(token, session_id))

    async def end(self) -> None:
        """End the logon session at the server."""
        await self._running().session.delete()


def _check_secret(name: str, secret: Secret) -> None:
    """Refuse what cannot stand in a header, without repeating it."""
    if not isinstance(secret.reveal(), str):
        text = f"{name} must be a string, not {type(secret.reveal()).__name__}"
        raise TypeError(text)
    if not can_stand_in_header(secret):
        problem = f"is empty or has characters that no {name} has"
        raise ArgumentError(parameter=name, problem=problem)


of_the_package(adopt, connect, inspect_certificate, log_out)
