"""`connect` and `adopt` for a first call from a running loop: a thread loads the rest.

Measured: aiohttp and the rest take 0.3 s to import, CA certificates included, and what
is first named inside a loop is imported there, so the loop would be held. Hence a file
of its own, which imports nothing but the standard library, `_redaction`, `keywords` and
`glance`.
"""

import asyncio
import inspect
import sys
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from veeam_tasks._options.glance import looks_right
from veeam_tasks._options.keywords import check_names, hide_secrets, with_keywords
from veeam_tasks._redaction import (
    NotCopyable,
    hidden,
    hidden_or_none,
    of_the_package,
)

if TYPE_CHECKING:
    from veeam_tasks._client.connect import Connecting
    from veeam_tasks._client.manager import SessionManager

_RIGHT = "'em = await {0}(...)' or 'async with {0}(...) as em'"
# What is imported by the first request otherwise: anyio's half for asyncio, and the
# codec of host names.
_MODULES = "veeam_tasks._client.connect", "anyio._backends._asyncio", "encodings.idna"


def missing_member(name: str) -> str:
    """Return what whoever forgot the await is told that asks for a member."""
    return (
        f"it is not logged on yet, so it has no {name!r}: write"
        f" {_RIGHT.format('connect')}"
    )


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("veeam_tasks._client.")


def _place_of_caller() -> tuple[str, int]:
    """Return file and line outside of the package."""
    frame = inspect.currentframe()
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


class Unopened(NotCopyable):
    """What is to be awaited, or entered by ``async with``; `with` says so."""

    _what = "what connect() and adopt() return holds a SessionManager"
    # So also where the making has failed.
    _is_used = True

    def __init__(self, name: str) -> None:
        self._name = name
        self._place = _place_of_caller()
        # Without a loop nothing can be awaited: whoever asks there tries arguments.
        self._is_used = not _is_in_a_loop()

    def __del__(self, _warn: Any = warnings.warn_explicit) -> None:
        """Warn of a forgotten await, as of a coroutine that nobody awaited."""
        if not self._is_used and not sys.is_finalizing():
            text = (
                f"{self._name}() was never awaited, so nothing was opened: write"
                f" {_RIGHT.format(self._name)}"
            )
            _warn(text, RuntimeWarning, *self._place)

    def __enter__(self) -> NoReturn:
        self._is_used = True  # it is told here
        text = "write 'async with connect(...) as em', or 'em = await connect(...)'"
        raise TypeError(text)

    def __reduce__(self) -> NoReturn:
        self._is_used = True  # it is told here
        super().__reduce__()

    def __exit__(self, *exc_info: object) -> None:
        """Be asked for by `with` before it enters."""


class LateConnecting(Unopened):
    """A manager that is not even made yet: await it, or use it by ``async with``.

    What looks wrong about its arguments was told at once; what checks them wholly takes
    as long to load as the rest.
    """

    def __init__(
        self, name: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        super().__init__(name)
        self._args = args
        self._options = options
        self._connecting: Connecting | None = None

    def __await__(self) -> "Generator[Any, None, SessionManager]":
        return self._open().__await__()

    async def __aenter__(self) -> "SessionManager":
        return await self._open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connecting is not None
        await self._connecting.__aexit__(exc_type, exc, traceback)

    def __getattr__(self, name: str) -> NoReturn:
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        # Of which names a manager has nothing is known before it is loaded.
        if not name.startswith("_"):
            self._is_used = True  # it is told here
            text = missing_member(name)
        raise AttributeError(text)

    def __repr__(self) -> str:
        self._is_used = True  # it is told here
        return f"<{self._name}: not logged on: await it>"

    async def _open(self) -> "SessionManager":
        self._is_used = True
        if self._connecting is None:
            # Not one of the threads that the application's own work may have taken.
            executor = ThreadPoolExecutor(1, "veeam_tasks import")
            try:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(executor, _load)
            finally:
                executor.shutdown(wait=False)
            connect = getattr(import_module(_MODULES[0]), self._name)
            self._connecting = connect(*self._args, **self._options)
        return await self._connecting


def _load() -> None:
    for name in _MODULES:
        import_module(name)


@with_keywords
def connect(
    url: str, *, username: str, password: Any, **options: Any
) -> "LateConnecting | Connecting":
    """Log on to an Enterprise Manager; to be awaited or entered."""
    account = {"username": username, "password": hidden(password)}
    del password
    return _checked("connect", (url,), account, options)


@with_keywords
def adopt(
    url: str, token: Any, *, session_id: Any = None, **options: Any
) -> "LateConnecting | Connecting":
    """Use a logon session that someone else opened; never end it, nor log on anew."""
    logon_session = {"session_id": hidden_or_none(session_id)}
    args = url, hidden(token)
    del token, session_id
    return _checked("adopt", args, logon_session, options)


def _checked(
    name: str, args: tuple[Any, ...], account: dict[str, Any], options: dict[str, Any]
) -> "LateConnecting | Connecting":
    """Raise where `connect` would; else put off all that takes time to load."""
    hide_secrets(options)
    shown = account if name == "connect" else {"token": args[1], **account}
    check_names(name, {"url": args[0], **shown}, options)
    if looks_right(args[0], shown, options):
        return LateConnecting(name, args, account | options)
    # It is told at once what is wrong, although to load what tells it holds the loop.
    make = getattr(import_module(_MODULES[0]), name)
    made: Connecting = make(*args, **account, **options)
    return made


of_the_package(adopt, connect)
