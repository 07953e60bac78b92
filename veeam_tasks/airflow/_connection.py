"""A connection of Airflow as what `veeam_tasks.connect` takes; nothing of Airflow."""

from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import attrs

import veeam_tasks as vt

DEFAULT_PORT: Final = 9398
_CONSOLE_PORT: Final = 9443
_TEXTS: Final = ("fingerprint", "ca_file", "api_version", "accept", "proxy")
_NUMBERS: Final = ("request_timeout", "patience")
_PACE: Final = ("first", "longest")
_KNOWN: Final = (
    f"there are {', '.join((*_TEXTS, *_NUMBERS))}, max_in_flight, insecure,"
    " pace_first, pace_longest"
)


class AirflowConnection(Protocol):
    """What is read of a connection, Airflow's own or another's."""

    conn_id: Any
    host: Any
    port: Any
    login: Any
    password: Any

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The field of extras, decoded."""


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
        ValueError: Something is missing, or an extra is not known.
    """
    name = str(connection.conn_id)
    if not connection.host or not connection.login or connection.password is None:
        text = f"connection {name!r} needs a host, an account and a password"
        raise ValueError(text)
    return Server(
        conn_id=name,
        url=_url(str(connection.host), connection.port),
        username=str(connection.login),
        password=str(connection.password),
        options=_options(name, connection.extra_dejson),
    )


def _url(host: str, port: object) -> str:
    parts = urlsplit(host if "://" in host else f"https://{host}")
    if parts.port is not None or "@" in parts.netloc:
        # What stands in the URL counts; connect() refuses user information.
        return urlunsplit(parts)
    netloc = f"{parts.netloc}:{port or DEFAULT_PORT}"
    return urlunsplit(parts._replace(netloc=netloc))


def _options(conn_id: str, extra: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in extra.items() if value not in (None, "")}
    options: dict[str, Any] = {}
    pace: dict[str, float] = {}
    for name, value in given.items():
        if name in _TEXTS:
            options[name] = str(value)
        elif name in _NUMBERS:
            options[name] = float(value)
        elif name == "max_in_flight":
            options[name] = int(value)
        elif name == "insecure":
            options[name] = _is_true(conn_id, value)
        elif name.startswith("pace_") and name[5:] in _PACE:
            pace[name[5:]] = float(value)
        else:
            text = f"connection {conn_id!r} has an unknown extra {name!r}: {_KNOWN}"
            raise ValueError(text)
    if pace:
        options["pace"] = vt.Pace(**pace)
    return options


def _is_true(conn_id: str, value: object) -> bool:
    # A connection written as a URI has texts alone.
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False}
    found = words.get(str(value).lower())
    if found is None:
        # Anything else must not be taken for "verify nothing".
        text = f"connection {conn_id!r}: insecure is neither true nor false"
        raise ValueError(text)
    return found
