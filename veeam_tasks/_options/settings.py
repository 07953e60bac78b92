"""The keyword arguments of `connect`, `adopt` and `SessionManager`, checked."""

import inspect
import re
from collections.abc import Callable
from os import PathLike
from ssl import SSLContext
from typing import Literal, get_type_hints

import attrs
from yarl import URL

from veeam_tasks._errors import ArgumentError
from veeam_tasks._options.keywords import (
    DEFAULTS,
    Coalesce,
    FunctionT,
    Options,
    hide_secrets,
    with_keywords,
)
from veeam_tasks._pace import Pace, check_flag, check_seconds
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import Secret, quoted
from veeam_tasks._telemetry.notices import Notice
from veeam_tasks._transport.trust import Trust, make_trust

_RESOURCE_BYTES = 1 << 20
_COLLECTION_BYTES = 64 << 20
_API_VERSION = re.compile(r"latest|v[0-9]+_[0-9]+", re.ASCII)


@attrs.frozen(kw_only=True)
class Settings:
    """`Options`, checked and with their defaults."""

    base: URL
    trust: Trust
    api_version: str = DEFAULTS["api_version"]
    accept: Literal["xml", "json"] = DEFAULTS["accept"]
    pace: Pace = attrs.field(factory=Pace)
    request_timeout: float = DEFAULTS["request_timeout"]
    max_in_flight: int = DEFAULTS["max_in_flight"]
    patience: float | None = DEFAULTS["patience"]
    keep_alive: bool = DEFAULTS["keep_alive"]
    max_reply_bytes: int | None = DEFAULTS["max_reply_bytes"]
    coalesce: Coalesce = DEFAULTS["coalesce"]
    proxy: Secret | None = DEFAULTS["proxy"]
    on_notice: Callable[[Notice], object] | None = DEFAULTS["on_notice"]

    @property
    def media_type(self) -> str:
        """What the server is asked to answer with."""
        return f"application/{self.accept}"

    def pace_for(self, pace: Pace | None) -> Pace:
        """Return `pace`, or that of the settings.

        Raises:
            TypeError: It is no pace.
        """
        if pace is None:
            return self.pace
        if isinstance(pace, Pace):
            return pace
        text = f"pace must be a Pace, not {type(pace).__name__}"
        raise TypeError(text)

    @property
    def resource_bytes(self) -> int:
        """How long the reply about one resource may be, in bytes."""
        return self.max_reply_bytes or _RESOURCE_BYTES

    @property
    def collection_bytes(self) -> int:
        """How long the reply about all tasks may be, in bytes."""
        return self.max_reply_bytes or _COLLECTION_BYTES


def make_settings(url: str, options: Options) -> Settings:
    """Return the settings, checked before anything is sent; `check_names` came first.

    Raises:
        ValueError: An argument is out of its range, or contradicts another.
        TypeError: An argument is of the wrong type.
    """
    rest = dict(hide_secrets(options))
    insecure = options.get("insecure", False)
    check_flag("insecure", insecure)
    base = base_url(url, insecure=insecure)
    trust = make_trust(
        base,
        ssl=options.get("ssl"),
        ca_file=options.get("ca_file"),
        fingerprint=options.get("fingerprint"),
        insecure=insecure,
    )
    for name in ("ssl", "ca_file", "fingerprint", "insecure"):
        rest.pop(name, None)
    settings = Settings(base=base, trust=trust, **rest)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if not isinstance(settings.api_version, str) or not _API_VERSION.fullmatch(
        settings.api_version
    ):
        problem, shown = "write 'latest' or like 'v1_7'", quoted(settings.api_version)
        raise ArgumentError(parameter="api_version", problem=problem, shown=shown)
    _check_choice("accept", settings.accept, ("xml", "json"))
    _check_choice("coalesce", settings.coalesce, ("auto", "never", "always"))
    if not isinstance(settings.pace, Pace):
        text = f"pace must be a Pace, not {type(settings.pace).__name__}"
        raise TypeError(text)
    check_seconds("request_timeout", settings.request_timeout)
    if settings.patience is not None:
        check_seconds("patience", settings.patience)
    _check_count("max_in_flight", settings.max_in_flight)
    if settings.max_reply_bytes is not None:
        _check_count("max_reply_bytes", settings.max_reply_bytes)
    check_flag("keep_alive", settings.keep_alive)
    if settings.proxy is not None:
        check_proxy(settings.proxy)
    if settings.on_notice is not None:
        _check_plain_function("on_notice", settings.on_notice)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        problem = f"choose one of {', '.join(choices)}"
        raise ArgumentError(parameter=name, problem=problem, shown=quoted(value))


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        text = f"{name} must be a whole number, not {quoted(value)}"
        raise TypeError(text)
    if value < 1:
        raise ArgumentError(
            parameter=name, problem="it must be 1 or more", shown=quoted(value)
        )


def _check_plain_function(name: str, value: object) -> None:
    if not callable(value):
        found = type(value).__name__
    elif inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(
        type(value).__call__
    ):
        found = "a coroutine function"
    else:
        return
    text = f"{name} must be a plain function, not {found}"
    raise TypeError(text)


def check_proxy(proxy: Secret) -> None:
    """Raise unless it is the URL of an HTTP proxy.

    Raises:
        ValueError: It is no such URL.
        TypeError: It is no string.
    """
    if not isinstance(proxy.reveal(), str):
        text = f"proxy must be a URL, not {type(proxy.reveal()).__name__}"
        raise TypeError(text)
    if not _is_proxy(proxy):
        # Not repeated: it may hold the proxy's password.
        advice = "write http://proxy.example:3128"
        raise ArgumentError(
            parameter="proxy", problem="is no http:// URL", advice=advice
        )


def _is_proxy(proxy: Secret) -> bool:
    try:
        parsed = URL(proxy.reveal())
        return parsed.scheme in {"http", "https"} and bool(parsed.host)
    except ValueError:
        return False


def with_options(function: FunctionT) -> FunctionT:
    """Let ``help()`` show the keywords of a function that takes ``**options``."""
    # `Options` stands where these are not loaded.
    known = {one.__name__: one for one in (SSLContext, PathLike, Pace, Notice)}
    hints = get_type_hints(Options, localns=known)
    return with_keywords(function, pace=Pace(), hints=hints)
