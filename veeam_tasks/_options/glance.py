"""Whether arguments are right at a glance, before what checks them is loaded.

That takes 0.3 s, for which no running loop may be held; see `_client/late_connect.py`.
So a first call inside of one looks at its arguments here, and only if one of them looks
wrong is all loaded at once, to say what is wrong with it. What is right and looks odd
costs that hold; what is wrong and looks right is told when the call is awaited.
"""

import inspect
import os
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from veeam_tasks._redaction import Secret, has_controls, hidden

_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[^/?#:@\\\s\[\]]+)(?::([1-9][0-9]{0,4}))?(?:/[\w.-]+)*/?",
    re.ASCII | re.IGNORECASE,
)
_PROXY = re.compile(r"https?://(?:[^@/\s]*@)?[^/?#:@\\\s]+(?::[0-9]{1,4})?/?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)
_API_VERSION = re.compile(r"latest|v[0-9]+_[0-9]+", re.ASCII)
_DIGITS = re.compile(r"[0-9a-f]{64}", re.ASCII | re.IGNORECASE)
_LONG_CA_FILE = 1 << 16
_HIGHEST_PORT = 65535
_A_LOT = 1e300  # also of an int, which a float may be too small for


def looks_right(
    url: object, account: Mapping[str, object], options: Mapping[str, Any]
) -> bool:
    """Tell whether nothing about the arguments of `connect` or `adopt` looks wrong."""
    looks = all(_LOOKS[name](value) for name, value in options.items())
    return looks and _is_url(url, options) and _is_account(account)


def _is_url(url: object, options: Mapping[str, Any]) -> bool:
    found = _URL.fullmatch(url) if isinstance(url, str) else None
    if found is None or int(found[3] or 1) > _HIGHEST_PORT:
        return False
    scheme, host = found[1].lower(), found[2].lower()
    trust = [options.get(name) for name in ("ssl", "ca_file", "fingerprint")]
    given = sum(one is not None for one in trust)
    if given + options.get("insecure", False) > 1:
        return False
    if scheme == "http" and (given or not options.get("insecure", False)):
        is_local = host in {"localhost", "[::1]"} or host.startswith("127.")
        return is_local and not given and _is_host(host)
    return _is_host(host)


def _is_host(host: str) -> bool:
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    if host.startswith("[") or host.rpartition(".")[2].isdigit():
        try:
            socket.inet_pton(family, host.strip("[]"))
        except OSError:
            return False
        return True
    # What other scripts make of a name is known when it is looked up.
    return not host.isascii() or all(map(_LABEL.fullmatch, host.split(".")))


def _is_account(account: Mapping[str, object]) -> bool:
    if "username" not in account:
        token, session_id = account["token"], account["session_id"]
        return _is_token(token) and (session_id is None or _is_token(session_id))
    name, password = account["username"], hidden(account["password"])
    is_name = isinstance(name, str) and name != "" and ":" not in name
    return is_name and not has_controls(str(name)) and _is_password(password)


def _is_password(secret: Secret) -> bool:
    if callable(secret.reveal()):
        return True
    return isinstance(secret.reveal(), str) and not any(
        "\ud800" <= one <= "\udfff" for one in secret.reveal()
    )


def _is_token(value: object) -> bool:
    secret = hidden(value)
    return isinstance(secret.reveal(), str) and (
        re.fullmatch(r"[!-~]+", secret.reveal()) is not None
    )


def _is_ca_file(value: object) -> bool:
    if value is None:
        return True
    try:
        path = os.fspath(value)  # type: ignore[call-overload] # a TypeError is an answer
        if os.path.getsize(path) <= _LONG_CA_FILE:  # noqa: PTH202 - loads nothing
            ssl.create_default_context(cafile=path)
    except (OSError, ValueError, TypeError):
        return False
    return isinstance(path, str)


def _is_fingerprint(value: object) -> bool:
    if not isinstance(value, str):
        return value is None
    return _DIGITS.fullmatch(value.strip().replace(":", "")) is not None


def _is_seconds(value: object) -> bool:
    return type(value) in {int, float} and 0 < value < _A_LOT  # type: ignore[operator] # a number


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_pace(value: object) -> bool:
    # It is of a module that may not be loaded here; whoever has one has loaded it.
    kind = type(value)
    return (kind.__module__, kind.__qualname__) == ("veeam_tasks", "Pace")


def _is_proxy(value: object) -> bool:
    secret = hidden(value)
    if secret.reveal() is None:
        return True
    is_text = isinstance(secret.reveal(), str)
    return is_text and _PROXY.fullmatch(secret.reveal()) is not None


def _is_plain_function(value: object) -> bool:
    if value is None:
        return True
    call = type(value).__call__ if callable(value) else None
    return call is not None and not (
        inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call)
    )


_LOOKS = {
    "ssl": lambda value: value is None or isinstance(value, ssl.SSLContext),
    "ca_file": _is_ca_file,
    "fingerprint": _is_fingerprint,
    "insecure": lambda value: isinstance(value, bool),
    "api_version": lambda value: (
        isinstance(value, str) and _API_VERSION.fullmatch(value) is not None
    ),
    "accept": lambda value: value in ("xml", "json"),
    "pace": _is_pace,
    "request_timeout": _is_seconds,
    "max_in_flight": _is_count,
    "patience": lambda value: value is None or _is_seconds(value),
    "keep_alive": lambda value: isinstance(value, bool),
    "max_reply_bytes": lambda value: value is None or _is_count(value),
    "coalesce": lambda value: value in ("auto", "never", "always"),
    "proxy": _is_proxy,
    "on_notice": _is_plain_function,
}
"""By the names of `keywords.DEFAULTS`."""
