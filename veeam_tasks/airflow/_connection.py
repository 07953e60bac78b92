"""A connection of Airflow as what `veeam_tasks.connect` takes; nothing of Airflow."""

import json
import math
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import attrs

import veeam_tasks as vt

DEFAULT_PORT: Final = 9398
_CONSOLE_PORT: Final = 9443
_TEXTS: Final = ("fingerprint", "ca_file", "api_version", "accept", "proxy")
_NUMBERS: Final = ("request_timeout", "patience")
_PACE: Final = ("first", "longest")
_SECRET_PROXY: Final = "proxy_secret"  # noqa: S105 - a name
"""Airflow masks an extra whose name has the word secret in it, and no other."""
_KNOWN: Final = (
    f"there are {', '.join((*_TEXTS, _SECRET_PROXY, *_NUMBERS))}, max_in_flight,"
    " insecure, pace_first, pace_longest"
)


class AirflowConnection(Protocol):
    """What is read of a connection, Airflow's own or another's."""

    conn_id: Any
    host: Any
    port: Any
    login: Any
    password: Any
    extra: Any


@attrs.frozen(kw_only=True)
class Server:
    """An Enterprise Manager, how it is trusted, and the account.

    Attributes:
        conn_id: The connection that it was read from.
        url: As `veeam_tasks.connect` takes it.
        username: The account.
        password: Its password.
        options: The other keywords of `veeam_tasks.connect`.
    """

    conn_id: str
    url: str
    username: str
    password: str = attrs.field(repr=False)
    options: dict[str, Any] = attrs.field(factory=dict, repr=False)

    @property
    def console_url(self) -> str:
        """Where people look at it in a browser."""
        host = urlsplit(self.url).hostname or ""
        host = f"[{host}]" if ":" in host else host
        return f"https://{host}:{_CONSOLE_PORT}/"


def read_server(connection: AirflowConnection) -> Server:
    """Return the server that a connection of Airflow describes.

    Raises:
        ValueError: Something is missing or malformed, or an extra is not known.
    """
    name = str(connection.conn_id)
    # An empty password is a forgotten one, and would count as a wrong one.
    if not (connection.host and connection.login and connection.password):
        text = f"connection {name!r} needs a host, an account and a password"
        raise ValueError(text)
    return Server(
        conn_id=name,
        url=_url(name, str(connection.host), connection.port),
        username=str(connection.login),
        password=str(connection.password),
        options=_options(name, _extras(name, connection.extra)),
    )


def _url(conn_id: str, host: str, port: object) -> str:
    try:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        has_port = parts.port is not None
    except ValueError:
        # Its own text repeats a part of the URL, and people put passwords there.
        text = f"connection {conn_id!r}: the host is neither a name nor a URL"
        raise ValueError(text) from None
    if has_port or "@" in parts.netloc:
        # What stands in the URL counts; connect() refuses user information.
        return urlunsplit(parts)
    netloc = f"{parts.netloc}:{port or DEFAULT_PORT}"
    return urlunsplit(parts._replace(netloc=netloc))


def _extras(conn_id: str, extra: object) -> dict[str, Any]:
    """Decode them; Airflow itself takes for "none" what it cannot decode."""
    try:
        found = json.loads(extra) if isinstance(extra, str) and extra else extra
    except ValueError:
        found = extra
    if isinstance(found, dict | None):
        return found or {}
    text = f"connection {conn_id!r}: its extras are no JSON object"
    raise ValueError(text)


def _options(conn_id: str, extra: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in extra.items() if value not in (None, "")}
    options: dict[str, Any] = {}
    pace: dict[str, float] = {}
    for name, value in given.items():
        if name in _TEXTS:
            options[name] = _text(conn_id, name, value)
        elif name == _SECRET_PROXY:
            options["proxy"] = _text(conn_id, name, value)
        elif name in _NUMBERS:
            options[name] = _number(conn_id, name, value)
        elif name == "max_in_flight":
            options[name] = int(_number(conn_id, name, value))
        elif name == "insecure":
            options[name] = _is_true(conn_id, value)
        elif name.startswith("pace_") and name[5:] in _PACE:
            pace[name[5:]] = _number(conn_id, name, value)
        else:
            text = f"connection {conn_id!r} has an unknown extra {name!r}: {_KNOWN}"
            raise ValueError(text)
    if pace:
        options["pace"] = vt.Pace(**pace)
    return options


def _text(conn_id: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        text = f"connection {conn_id!r}: {name} is no text"
        raise ValueError(text)  # noqa: TRY004 - as for all else that is wrong with it
    if name == "proxy" and "@" in value:
        text = (
            f"connection {conn_id!r}: a proxy with an account in its URL goes into the"
            f" extra {_SECRET_PROXY!r}, since Airflow shows {name!r} to people"
        )
        raise ValueError(text)
    return value


def _number(conn_id: str, name: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        text = f"connection {conn_id!r}: {name} is no number"
        raise ValueError(text) from None
    return number


def _is_true(conn_id: str, value: object) -> bool:
    # A connection written as a URI has texts alone.
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False}
    found = words.get(str(value).lower())
    if found is None:
        # Anything else must not be taken for "verify nothing".
        text = f"connection {conn_id!r}: insecure is neither true nor false"
        raise ValueError(text)
    return found
