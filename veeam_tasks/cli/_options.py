"""The options that commands share, and the `Server` and `OutputMode` they make.

Those of watching are in `_watching`.
"""

import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click
from click.core import ParameterSource

from veeam_tasks.cli._command import CONNECTION, OUTPUT, TRUST, Duration, option
from veeam_tasks.cli._config import NamedServer, named_server
from veeam_tasks.cli._logs import logging_to
from veeam_tasks.cli._password import PasswordSource
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._server import Server

R = TypeVar("R")

_TRUST: Final = ("ca_file", "fingerprint", "insecure")
_ACCOUNT: Final = ("username", "password_file", "password_command", "password_keyring")
_VARIABLES: Final = {
    "url": "VEEAM_EM_URL",
    "username": "VEEAM_EM_USERNAME",
    "ca_file": "VEEAM_EM_CA_FILE",
    "fingerprint": "VEEAM_EM_FINGERPRINT",
    "proxy": "VEEAM_EM_PROXY",
    "server": "VEEAM_EM_SERVER",
}

URL = option(
    "--url",
    group=CONNECTION,
    metavar="URL",
    envvar="VEEAM_EM_URL",
    help="The server, as https://em.example:9398. [VEEAM_EM_URL]",
)
SERVER = option(
    "--server",
    group=CONNECTION,
    multiple=True,
    metavar="NAME",
    envvar="VEEAM_EM_SERVER",
    help="A server of the configuration file; for watch --all and list also several."
    " [VEEAM_EM_SERVER]",
)
PROXY = option(
    "--proxy",
    group=CONNECTION,
    metavar="URL",
    envvar="VEEAM_EM_PROXY",
    help="An HTTP proxy. [VEEAM_EM_PROXY]",
)
REQUEST_TIMEOUT = option(
    "--request-timeout",
    group=CONNECTION,
    type=Duration(),
    metavar="TIME",
    help="Give up a request after this time. [default: 30s]",
)
_ACCOUNT_OPTIONS: Final = (
    option(
        "--username",
        group=CONNECTION,
        metavar="ACCOUNT",
        envvar="VEEAM_EM_USERNAME",
        help="DOMAIN\\user or user@domain. [VEEAM_EM_USERNAME]",
    ),
    option(
        "--password-file",
        group=CONNECTION,
        type=click.Path(),
        metavar="FILE",
        help="Read the password from FILE. Else it is asked for, or taken from the"
        " environment. [VEEAM_EM_PASSWORD]",
    ),
    option(
        "--password-command",
        group=CONNECTION,
        metavar="COMMAND",
        help="Run COMMAND, without a shell, and take what it prints as password.",
    ),
    option(
        "--password-keyring",
        group=CONNECTION,
        is_flag=True,
        help="Take the password from the vault of the operating system.",
    ),
)
_TRUST_OPTIONS: Final = (
    option(
        "--ca-file",
        group=TRUST,
        type=click.Path(),
        metavar="FILE",
        envvar="VEEAM_EM_CA_FILE",
        help="Trust the certificates in this PEM file. [VEEAM_EM_CA_FILE]",
    ),
    option(
        "--fingerprint",
        group=TRUST,
        metavar="SHA256",
        envvar="VEEAM_EM_FINGERPRINT",
        help="Trust the one certificate with this fingerprint; see the command"
        " 'fingerprint'. [VEEAM_EM_FINGERPRINT]",
    ),
    option(
        "--insecure",
        group=TRUST,
        is_flag=True,
        help="Trust any server. Anyone on the way can then read the password.",
    ),
)
_WIRE_OPTIONS: Final = (
    option(
        "--api-version",
        group=CONNECTION,
        metavar="VERSION",
        help="Interface version to log on with, as v1_7. [default: latest]",
    ),
    option(
        "--accept",
        group=CONNECTION,
        type=click.Choice(["xml", "json"]),
        help="What the server is asked to answer with. [default: xml]",
    ),
)
_PLAIN: Final = ("proxy", "request_timeout", "api_version", "accept")


_ALL: Final = (
    *(URL, SERVER, *_ACCOUNT_OPTIONS, PROXY, REQUEST_TIMEOUT),
    *(*_WIRE_OPTIONS, *_TRUST_OPTIONS),
)


def server_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that say where and as whom; it gets a `Server`."""
    return _with_server(command, _ALL)


class Servers:
    """The servers that a command was given, of which each is made when it is asked for.

    Attributes:
        names: Those of the configuration file, as they were given.
    """

    def __init__(self, given: Mapping[str, Any], context: click.Context) -> None:
        self.names: tuple[str, ...] = tuple(dict.fromkeys(given["server"]))
        self._given = dict(given)
        self._context = context

    def sole(self) -> Server:
        """Return the one server; it is what messages are about.

        Raises:
            click.UsageError: There are several, or what was said of it is wrong.
        """
        given = {**self._given, "server": _only(self.names)}
        server = _server(given, self._context)
        self._context.obj = server
        return server

    def named(self, name: str) -> Server:
        """Return one by its name; the token of its logon session may be set.

        Raises:
            click.UsageError: The configuration file has none of that name.
        """
        suffix = re.sub(r"[^A-Z0-9]", "_", name.upper())
        server = _server({**self._given, "server": name}, self._context, is_meant=True)
        token = _variable(f"VEEAM_EM_TOKEN_{suffix}")
        session_id = _variable(f"VEEAM_EM_SESSION_ID_{suffix}")
        return attrs.evolve(server, token=token, session_id=session_id)


def servers_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the same options for one server or several, as `Servers`."""

    @functools.wraps(command)
    def with_servers(**given: Any) -> R:
        names = [one.name for one in click.get_current_context().command.params]
        of_server = {"url", "server", *_ACCOUNT, *_TRUST, *_PLAIN}
        mine = {name: given.pop(name) for name in names if name in of_server}
        servers = Servers(mine, click.get_current_context())
        return command(servers=servers, **given)

    wrapped: Callable[..., R] = with_servers
    for one in reversed(_ALL):
        wrapped = one(wrapped)
    return wrapped


def _only(names: tuple[str, ...]) -> str | None:
    if len(names) > 1:
        text = f"--server {' and '.join(names)}: pass one of them"
        raise click.UsageError(text)
    return names[0] if names else None


def token_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of a logon session that was opened before."""
    return _with_server(command, (URL, SERVER, PROXY, REQUEST_TIMEOUT, *_TRUST_OPTIONS))


def _with_server(
    command: Callable[..., R], options: tuple[Callable[[Any], Any], ...]
) -> Callable[..., R]:
    @functools.wraps(command)
    def with_server(**given: Any) -> R:
        context = click.get_current_context()
        given["server"] = _only(tuple(dict.fromkeys(given["server"])))
        server = _server(given, context)
        context.obj = server
        return command(server=server, **given)

    wrapped: Callable[..., R] = with_server
    for one in reversed(options):
        wrapped = one(wrapped)
    return wrapped


class _Settings:
    """What was said, where the nearer counts more.

    What is typed counts more than what a named server says, and that more than the
    environment; `default` of the configuration file counts least.
    """

    def __init__(
        self, given: dict[str, Any], context: click.Context, *, is_meant: bool = False
    ) -> None:
        self._given = given
        self._context = context
        self._named: NamedServer | None = None
        self.sources: dict[str, str] = {}
        name = given.pop("server", None)
        is_token_set = bool(os.environ.get("VEEAM_EM_TOKEN"))
        if name and (is_meant or self.is_typed("server") or not is_token_set):
            self._named = named_server(name)
        elif not given.get("url") and not self.is_typed("url"):
            self._named = named_server(None)

    @property
    def is_named(self) -> bool:
        """Whether a server of the configuration file was chosen."""
        return self._named is not None

    @property
    def server(self) -> str | None:
        """What the configuration file calls the server that was chosen there."""
        return None if self._named is None else self._named.name

    def is_typed(self, name: str) -> bool:
        """Tell whether it stands on the command line."""
        source = self._context.get_parameter_source(name)
        return source is ParameterSource.COMMANDLINE

    def take(self, name: str) -> Any:
        """Return a setting, and note how it was named."""
        value = self._given.pop(name, None)
        option_name = f"--{name.replace('_', '-')}"
        if self.is_typed(name):
            self.sources[name] = option_name
            return value
        if self._named is not None:
            value = self._named.settings.get(name)
            if value is not None:
                self.sources[name] = self._named.sources[name]
            if name == "request_timeout" and value is not None:
                value = Duration().convert(value, None, self._context)
            return value
        if value:
            self.sources[name] = _VARIABLES.get(name, option_name)
        return value


def _server(
    given: dict[str, Any], context: click.Context, *, is_meant: bool = False
) -> Server:
    """Take the server's options out of `given`."""
    settings = _Settings(given, context, is_meant=is_meant)
    is_account_typed = any(settings.is_typed(name) for name in _ACCOUNT)
    is_proxy_typed = settings.is_typed("proxy")
    typed_trust = [name for name in _TRUST if settings.is_typed(name)]
    url, username = settings.take("url"), settings.take("username")
    password = _password(settings)
    options = {name: settings.take(name) for name in (*_TRUST, *_PLAIN)}
    if typed_trust:
        # What is typed counts more than what stands elsewhere.
        for name in set(_TRUST) - set(typed_trust):
            options[name] = None
    if is_proxy_typed and "@" in (options["proxy"] or ""):
        text = "--proxy with a password in it can be read by others; set VEEAM_EM_PROXY"
        raise click.UsageError(text)
    if options["ca_file"]:
        options["ca_file"] = Path(options["ca_file"])
    is_own = is_account_typed or settings.is_named
    return Server(
        url=url or None,
        username=username or None,
        password=password,
        token=None if is_own else _variable("VEEAM_EM_TOKEN"),
        session_id=None if is_own else _variable("VEEAM_EM_SESSION_ID"),
        options={
            # An option that is set to nothing is off; a time of 0 is a mistake.
            name: value
            for name, value in options.items()
            if value not in (None, "", False) or isinstance(value, float)
        },
        sources=settings.sources,
        quiet=bool(context.params.get("quiet")),
        name=settings.server,
    )


def _password(settings: _Settings) -> PasswordSource:
    names = ("password_file", "password_command", "password_keyring")
    typed = [name for name in names if settings.is_typed(name)]
    found = {name: settings.take(name) for name in names}
    if typed:
        found = {name: found[name] if name in typed else None for name in names}
    return PasswordSource(
        file=found["password_file"] or None,
        command=found["password_command"] or None,
        keyring=bool(found["password_keyring"]),
        variable=_variable("VEEAM_EM_PASSWORD"),
        names=settings.sources,
    )


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None


def output_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options on how much it says; it gets an `OutputMode`."""

    @option(
        "--json",
        "as_json",
        group=OUTPUT,
        is_flag=True,
        help="Print JSON lines, also on a terminal.",
    )
    @option(
        "-q", "--quiet", group=OUTPUT, is_flag=True, help="Say only what went wrong."
    )
    @option(
        "-v",
        "--verbose",
        group=OUTPUT,
        count=True,
        help="Log lines on the logon session, outages and the ends of tasks; -vv on"
        " failed polls, too.",
    )
    @option(
        "--log-file",
        group=OUTPUT,
        type=click.Path(),
        metavar="FILE",
        help="Write every log line to FILE.",
    )
    @functools.wraps(command)
    def with_output(
        *, as_json: bool, quiet: bool, verbose: int, log_file: str | None, **given: Any
    ) -> R:
        with logging_to(verbose=verbose, log_file=log_file):
            return command(output=OutputMode(as_json=as_json, quiet=quiet), **given)

    wrapped: Callable[..., R] = with_output
    return wrapped
