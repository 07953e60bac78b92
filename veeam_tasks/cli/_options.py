"""The options that commands share, and the connection that they describe."""

import functools
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import attrs
import click
from click.core import ParameterSource

import veeam_tasks as vt
from veeam_tasks.cli._logs import logging_to
from veeam_tasks.cli._secrets import Password, find_password, has_terminal
from veeam_tasks.cli._shows import Talk
from veeam_tasks.cli._words import spoken, warn

P = ParamSpec("P")
R = TypeVar("R")
Connecting = Any
"""What `connect` and `adopt` return; that class is in a room that loads aiohttp."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d)?", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TRUST: Final = ("ca_file", "fingerprint", "insecure")


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: ``90``, ``90s``, ``10m``, ``2h``."""

    name = "seconds"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(str(value).strip())
        if found is None or not math.isfinite(float(found[1])):
            self.fail(f"{value!r} is no duration: write 90, 90s, 10m or 2h", param, ctx)
        return float(found[1]) * _UNITS[found[2] or ""]


@contextmanager
def checking() -> Iterator[None]:
    """Turn what the package says of wrong arguments into a usage error."""
    problem = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except (ValueError, TypeError) as error:
            problem = str(error)
    if problem:
        raise click.UsageError(spoken(problem))
    for warning in caught:
        warn(spoken(str(warning.message)))


@attrs.frozen(kw_only=True)
class Server:
    """Where to log on, as whom, and whom to trust: options and environment."""

    url: str | None
    username: str | None
    password_file: str | None
    password_command: str | None
    token: str | None = attrs.field(repr=False)
    session_id: str | None = attrs.field(repr=False)
    rest: Mapping[str, Any] = attrs.field(repr=False)
    """Options that go to the package as they are."""

    @property
    def is_adopted(self) -> bool:
        """Whether a logon session of someone else is used."""
        return self.token is not None

    def required_url(self) -> str:
        """Return the URL.

        Raises:
            click.UsageError: There is none.
        """
        if self.url is None:
            text = "no server: pass --url, or set VEEAM_EM_URL"
            raise click.UsageError(text)
        return self.url

    def connecting(self, **more: Any) -> Connecting:
        """Return what logs on when it is entered, or adopts the logon session.

        Raises:
            click.UsageError: Something is missing or wrong; nothing was sent.
        """
        url, options = self.required_url(), {**self.rest, **more}
        if self.token is not None:
            with checking():
                return vt.adopt(url, self.token, session_id=self.session_id, **options)
        username, password = self._account(url, options)
        with checking():
            return vt.connect(url, username=username, password=password, **options)

    def _account(self, url: str, options: Mapping[str, Any]) -> tuple[str, Password]:
        with checking(), warnings.catch_warnings():
            # Nobody is asked for a password that a wrong URL makes useless.
            warnings.simplefilter("ignore")
            vt.connect(url, username=self.username or "nobody", password="", **options)
        username = self.username
        if username is None and has_terminal():
            username = click.prompt("User name", err=True)
        if username is None:
            text = "no user name: pass --username, or set VEEAM_EM_USERNAME"
            raise click.UsageError(text)
        password = find_password(
            file=self.password_file,
            command=self.password_command,
            username=username,
        )
        return username, password


_SERVER_OPTIONS: Final = (
    click.option(
        "--url",
        envvar="VEEAM_EM_URL",
        help="The server, as https://em.example:9398. [VEEAM_EM_URL]",
    ),
    click.option(
        "--username",
        envvar="VEEAM_EM_USERNAME",
        help="DOMAIN\\user or user@domain. [VEEAM_EM_USERNAME]",
    ),
    click.option(
        "--password-file",
        type=click.Path(),
        metavar="FILE",
        help="Read the password from FILE. Else it is asked for, or taken from the"
        " environment. [VEEAM_EM_PASSWORD]",
    ),
    click.option(
        "--password-command",
        metavar="COMMAND",
        help="Run COMMAND, without a shell, and take what it prints as password.",
    ),
    click.option(
        "--ca-file",
        type=click.Path(),
        metavar="FILE",
        envvar="VEEAM_EM_CA_FILE",
        help="Trust the certificates in this PEM file. [VEEAM_EM_CA_FILE]",
    ),
    click.option(
        "--fingerprint",
        metavar="SHA256",
        envvar="VEEAM_EM_FINGERPRINT",
        help="Trust the one certificate with this fingerprint; see the command"
        " 'fingerprint'. [VEEAM_EM_FINGERPRINT]",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Trust any server. Anyone on the way can then read the password.",
    ),
    click.option(
        "--proxy",
        metavar="URL",
        envvar="VEEAM_EM_PROXY",
        help="An HTTP proxy. [VEEAM_EM_PROXY]",
    ),
    click.option(
        "--request-timeout",
        type=Duration(),
        metavar="TIME",
        help="Give up a request after this time. [default: 30s]",
    ),
    click.option(
        "--api-version",
        metavar="VERSION",
        help="Interface version to log on with, as v1_7. [default: latest]",
    ),
    click.option(
        "--accept",
        type=click.Choice(["xml", "json"]),
        help="What the server is asked to answer with. [default: xml]",
    ),
)
_PLAIN: Final = (
    *_TRUST,
    "proxy",
    "request_timeout",
    "api_version",
    "accept",
)


def server_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that say where and as whom; it gets a `Server`."""

    @functools.wraps(command)
    def with_server(**given: Any) -> R:
        return command(server=_settled(given), **given)

    wrapped: Callable[..., R] = with_server
    for option in reversed(_SERVER_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _settled(given: dict[str, Any]) -> Server:
    """Take the server's options out of `given`."""
    context = click.get_current_context()
    rest = {name: given.pop(name) for name in _PLAIN}
    is_said = {
        name: context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        for name in (*_TRUST, "username", "password_file", "password_command", "proxy")
    }
    if any(is_said[name] for name in _TRUST):
        # What is typed counts more than what stands in the environment.
        rest.update({name: None for name in _TRUST if not is_said[name]})
    if is_said["proxy"] and "@" in rest["proxy"]:
        text = "--proxy with a password in it can be read by others; set VEEAM_EM_PROXY"
        raise click.UsageError(text)
    names = ("username", "password_file", "password_command")
    is_own = any(is_said[name] for name in names)
    if rest["ca_file"] is not None:
        rest["ca_file"] = Path(rest["ca_file"])
    return Server(
        url=given.pop("url"),
        **{name: given.pop(name) for name in names},
        token=None if is_own else _variable("VEEAM_EM_TOKEN"),
        session_id=None if is_own else _variable("VEEAM_EM_SESSION_ID"),
        rest={name: value for name, value in rest.items() if value},
    )


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None


def talk_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that say how much it says; it gets a `Talk`."""

    @click.option("--json", "as_json", is_flag=True, help="JSON lines, always.")
    @click.option("-q", "--quiet", is_flag=True, help="Only what went wrong.")
    @click.option(
        "-v",
        "--verbose",
        count=True,
        help="Log lines on the logon session and outages; -vv on failed polls, too.",
    )
    @click.option(
        "--log-file",
        type=click.Path(),
        metavar="FILE",
        help="Every log line goes to FILE.",
    )
    @functools.wraps(command)
    def with_talk(
        *, as_json: bool, quiet: bool, verbose: int, log_file: str | None, **given: Any
    ) -> R:
        with logging_to(verbose=verbose, log_file=log_file):
            return command(talk=Talk(as_json=as_json, quiet=quiet), **given)

    return with_talk


def watch_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of watching; it gets keyword arguments as `pace`."""

    @click.option(
        "--timeout",
        type=Duration(),
        metavar="TIME",
        help="Stop after this time: 90s, 10m.",
    )
    @click.option(
        "--fail-fast",
        is_flag=True,
        help="Stop with the first task that failed or is lost.",
    )
    @click.option(
        "--first-pause",
        type=Duration(),
        metavar="TIME",
        help="Pause after a change until the next poll. [default: 1s]",
    )
    @click.option(
        "--longest-pause",
        type=Duration(),
        metavar="TIME",
        help="What the pauses grow to while nothing changes. [default: 30s]",
    )
    @click.option(
        "--patience",
        type=Duration(),
        metavar="TIME",
        help="How long an outage may last. [default: for ever]",
    )
    @functools.wraps(command)
    def with_pace(
        *,
        first_pause: float | None,
        longest_pause: float | None,
        patience: float | None,
        **given: Any,
    ) -> R:
        first = 1.0 if first_pause is None else first_pause
        longest = max(30.0, first) if longest_pause is None else longest_pause
        if first_pause is None:
            first = min(first, longest)
        with checking():
            options: dict[str, Any] = {"pace": vt.Pace(first=first, longest=longest)}
        if patience is not None:
            options["patience"] = patience
        return command(options=options, **given)

    return with_pace
