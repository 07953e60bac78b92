r"""The configuration file: servers by name, with everything but the password.

It is ``config.toml`` in the user's configuration folder, on Linux
``~/.config/veeam-tasks/config.toml``::

    default = "prod"

    [servers.prod]
    url = "https://em.example:9398"
    username = 'CORP\\svc'
    password-command = "pass show em"
    ca-file = "/etc/veeam/em.pem"
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import click

from veeam_tasks.cli._messages import visible

_TEXTS: Final = {
    "url": "url",
    "username": "username",
    "password-command": "password_command",
    "password-file": "password_file",
    "ca-file": "ca_file",
    "fingerprint": "fingerprint",
    "proxy": "proxy",
    "request-timeout": "request_timeout",
    "api-version": "api_version",
    "accept": "accept",
}
_SWITCHES: Final = {"insecure": "insecure", "password-keyring": "password_keyring"}
_FILES: Final = {"password_file", "ca_file"}


@attrs.frozen(kw_only=True)
class NamedServer:
    """One server of the configuration file.

    Attributes:
        name: How it is called there.
        settings: What it says, by the names of the command line's parameters.
        sources: Where each stands, for messages.
    """

    name: str
    settings: Mapping[str, Any] = attrs.field(repr=False)
    sources: Mapping[str, str] = attrs.field(repr=False)


def config_path() -> Path:
    """Return where the configuration file is, whether or not it is there."""
    try:
        import platformdirs  # noqa: PLC0415 - only where a name may be looked up
    except ImportError:
        text = (
            "servers by name need platformdirs, which is not installed. Install it"
            ' with: python -m pip install "veeam-tasks[cli]"'
        )
        raise click.UsageError(text) from None
    return platformdirs.user_config_path("veeam-tasks", appauthor=False) / "config.toml"


def named_server(name: str | None) -> NamedServer | None:
    """Return a server of the configuration file.

    Args:
        name: Which; None for the default, if there is one.

    Raises:
        click.UsageError: There is none of that name, or the file is wrong.
    """
    path = config_path()
    content = _read(path)
    if content is None and name is None:
        return None
    shown = visible(str(path))
    if content is None:
        text = f"--server {name}: there is no configuration file {shown}"
        raise click.UsageError(text)
    unknown = sorted(set(content) - {"default", "servers"})
    if unknown:
        text = (
            f"{shown}: {unknown[0]!r} is not known; it takes: default, [servers.NAME]"
        )
        raise click.UsageError(text)
    servers = content.get("servers", {})
    wanted = content.get("default") if name is None else name
    if wanted is None:
        return None
    if not isinstance(servers, dict) or not isinstance(wanted, str):
        key = "default" if isinstance(servers, dict) else "servers"
        must = "the name of a server" if isinstance(servers, dict) else "a table"
        text = f"{shown}: {key} must be {must}"
        raise click.UsageError(text)
    if wanted not in servers:
        known = ", ".join(sorted(servers)) or "none"
        text = f"{shown} has no server {visible(str(wanted))!r}; it has: {known}"
        raise click.UsageError(text)
    return _checked(str(wanted), servers[wanted], path)


def _read(path: Path) -> dict[str, Any] | None:
    shown = visible(str(path))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"{shown} cannot be read: {error.strerror}"
    # Of TOML, of UTF-8, of a number with 5,000 digits, of as many brackets.
    except (ValueError, RecursionError) as error:
        problem = f"{shown} is no TOML: {error}"
        if "Unescaped '\\'" in problem:
            problem += r"; write it in single quotes, as 'CORP\svc'"
    raise click.UsageError(problem)


def _checked(name: str, entries: Any, path: Path) -> NamedServer:
    shown = visible(str(path))
    settings: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if not isinstance(entries, dict):
        text = f"{shown}: [servers.{name}] must be a table"
        raise click.UsageError(text)
    for key, value in entries.items():
        where = f"{shown}: [servers.{name}] {visible(key)}"
        if key == "password":
            text = (
                f"{where}: a password does not stand in a file like this; write"
                " password-command, password-file or password-keyring = true"
            )
            raise click.UsageError(text)
        parameter = _TEXTS.get(key) or _SWITCHES.get(key)
        if parameter is None:
            near = difflib.get_close_matches(key, [*_TEXTS, *_SWITCHES], 1)
            hint = f"; is {near[0]} meant?" if near else ""
            text = f"{where} is not known{hint}"
            raise click.UsageError(text)
        is_switch = key in _SWITCHES
        if not isinstance(value, bool if is_switch else str | int | float) or (
            not is_switch and isinstance(value, bool)
        ):
            text = f"{where} must be {'true or false' if is_switch else 'a text'}"
            raise click.UsageError(text)
        settings[parameter] = value if is_switch else str(value)
        if parameter in _FILES:
            # Relative to the file in which it stands, wherever the command is run.
            # Not that of pathlib, which raises where there is no such home.
            settings[parameter] = str(path.parent / os.path.expanduser(str(value)))  # noqa: PTH111
        sources[parameter] = where
    return NamedServer(name=name, settings=settings, sources=sources)
