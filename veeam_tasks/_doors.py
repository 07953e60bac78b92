"""The doors: `connect` and `adopt`, both to be awaited or entered."""

from collections.abc import Generator
from types import TracebackType
from typing import Any, Unpack

from veeam_tasks._account import Password
from veeam_tasks._logon_wire import session_id_in
from veeam_tasks._manager import SessionManager
from veeam_tasks._settings import Options
from veeam_tasks._sole import Sole


class Connecting(Sole):
    """A manager that is not logged on yet: await it, or use it by ``async with``."""

    _what = "what connect() and adopt() return holds a SessionManager"

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    def __await__(self) -> Generator[Any, None, SessionManager]:
        return self._manager.open().__await__()

    async def __aenter__(self) -> SessionManager:
        return await self._manager.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._manager.aclose()

    def __repr__(self) -> str:
        return f"<connect {self._manager.url}: not logged on: await it>"


def connect(
    url: str, *, username: str, password: Password, **options: Unpack[Options]
) -> Connecting:
    r"""Log on to an Enterprise Manager; to be awaited or entered.

    Args:
        url: ``https://em.example:9398``, with or without ``/api``, port and path.
        username: ``DOMAIN\\user`` or ``user@domain``.
        password: A string, or a callable, plain or async, that returns one and is
            asked anew at each logon.
        **options: See `Options`: trust, pace, timeouts and the rest.

    Returns:
        What gives a logged-on `SessionManager`, awaited or entered; it makes one
        attempt and raises what `SessionManager.open` raises.

    Raises:
        ValueError, TypeError: An argument is wrong; nothing was sent.
    """
    return Connecting(
        SessionManager(url, username=username, password=password, **options)
    )


def adopt(
    url: str,
    token: str,
    *,
    session_id: str | None = None,
    **options: Unpack[Options],
) -> Connecting:
    """Use a logon session that someone else opened; never end it, nor log on anew.

    Args:
        url: As in `connect`.
        token: The ``X-RestSvcSessionId`` of the logon session.
        session_id: Its ID, if known: makes keeping it alive cheaper.
        **options: See `Options`.

    Returns:
        What gives a `SessionManager`, awaited or entered. A dead token is a
        `LogonError` at the first request.

    Raises:
        ValueError, TypeError: An argument is wrong; nothing was sent.
    """
    return Connecting(_Adopted(url, token, session_id, options))


async def log_out(
    url: str,
    token: str,
    *,
    session_id: str | None = None,
    **options: Unpack[Options],
) -> None:
    """End a logon session that was left open, by its token.

    Args:
        url: As in `connect`.
        token: The ``X-RestSvcSessionId`` of the logon session.
        session_id: Its ID; may be left out if the token is the ID in base64, as newer
            servers have it.
        **options: See `Options`.

    Raises:
        LogonError: It has ended already.
        ValueError, TypeError: An argument is wrong; nothing was sent.
        VeeamTasksError: The server could not be asked, or refused.
    """
    manager = _Adopted(url, token, session_id, {**options, "keep_alive": False})
    if session_id is None and session_id_in(token) is None:
        text = "session_id is needed: this token does not tell it"
        raise ValueError(text)
    await manager.open()
    try:
        await manager.end()
    finally:
        await manager.aclose()


class _Adopted(SessionManager):
    """A manager over somebody else's logon session."""

    def __init__(
        self, url: str, token: str, session_id: str | None, options: Options
    ) -> None:
        _check_secret("token", token)
        if session_id is not None:
            _check_secret("session_id", session_id)
        self._prepare(url, None, options)
        self._adopt(token, session_id)

    async def end(self) -> None:
        """End the logon session at the server."""
        await self._logon.end()


def _check_secret(name: str, value: object) -> None:
    """Refuse what cannot stand in a header, without repeating it."""
    if not isinstance(value, str):
        text = f"{name} must be a string, not {type(value).__name__}"
        raise TypeError(text)
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        text = f"{name} is empty or has characters that no {name} has"
        raise ValueError(text)
