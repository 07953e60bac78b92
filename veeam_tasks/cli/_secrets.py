"""Where the password comes from; it is never the value of an option."""

import asyncio
import getpass
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import attrs
import click

from veeam_tasks._text import visible
from veeam_tasks.cli._words import warn

OUR_SECRETS = (
    "VEEAM_EM_PASSWORD",
    "VEEAM_EM_PROXY",
    "VEEAM_EM_SESSION_ID",
    "VEEAM_EM_TOKEN",
)
"""Variables that no command that we start gets to see."""

_COMMAND_SECONDS = 60.0
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH

Password = str | Callable[[], str | Awaitable[str]]


def find_password(*, file: str | None, command: str | None, username: str) -> Password:
    """Return the password, or what asks for it anew at each logon.

    Args:
        file: Path of a file with the password in it.
        command: A command that prints it, run without a shell.
        username: For the prompt.

    Raises:
        click.UsageError: There is none, or it cannot be had.
    """
    if file is not None and command is not None:
        text = "--password-file and --password-command: pass one of them"
        raise click.UsageError(text)
    if file is not None:
        return _from_file(Path(file))
    if command is not None:
        return _Command.parse(command).later()
    password = os.environ.get("VEEAM_EM_PASSWORD")
    return password or _prompt(username)


def has_terminal() -> bool:
    """Tell whether somebody is there to answer a question."""
    return sys.stdin.isatty() or sys.stderr.isatty()


def _prompt(username: str) -> str:
    if not has_terminal():
        text = (
            "no password: set VEEAM_EM_PASSWORD, or pass --password-file or"
            " --password-command"
        )
        raise click.UsageError(text)
    try:
        password = getpass.getpass(f"Password of {visible(username)}: ")
    except EOFError:
        password = ""
    if not password:
        text = "no password was given"
        raise click.UsageError(text)
    return password


def _from_file(path: Path) -> Password:
    password = _read(path)
    try:
        mode = path.stat().st_mode
    except OSError:
        return password
    if not stat.S_ISREG(mode):
        # A pipe, as a shell's <(...) is, can be read once only.
        return password
    if os.name == "posix" and mode & _OTHERS_READ:
        warn(
            f"others may read {visible(str(path))} (mode {stat.S_IMODE(mode):03o});"
            f" run: chmod 600 {shlex.quote(visible(str(path)))}"
        )
    return lambda: _read(path)


def _read(path: Path) -> str:
    shown = visible(str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = f"--password-file: {shown} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"--password-file: {shown} is no text in UTF-8"
    else:
        return _one_line(text, f"--password-file: {shown}")
    raise click.UsageError(problem)


def _one_line(text: str, whence: str) -> str:
    lines = text.removesuffix("\n").removesuffix("\r").splitlines()
    if not lines or not lines[0]:
        problem = f"{whence} gave nothing"
        raise click.UsageError(problem)
    if len(lines) > 1:
        problem = f"{whence} gave {len(lines)} lines; the password must be all of it"
        raise click.UsageError(problem)
    return lines[0]


@attrs.frozen
class _Command:
    """A command that prints the password, run without a shell."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, written: str) -> "_Command":
        try:
            words = tuple(shlex.split(written, posix=os.name != "nt"))
            problem = "" if words else "it is empty"
        except ValueError as error:
            words, problem = (), str(error)
        if problem:
            text = f"--password-command: {problem}"
            raise click.UsageError(text)
        return cls(words)

    def later(self) -> Password:
        """Ask once now, while a mistake is still a usage error, and anew later."""
        asked = [self.ask()]

        def ask() -> str | Awaitable[str]:
            return asked.pop() if asked else asyncio.to_thread(self.ask)

        return ask

    def ask(self) -> str:
        name = visible(self.words[0])
        try:
            ran = subprocess.run(  # noqa: S603 - the user's own command, no shell
                self.words,
                stdout=subprocess.PIPE,
                env=_without_secrets(os.environ),
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except OSError as error:
            problem = f"{name} cannot be run: {error.strerror}"
        except subprocess.TimeoutExpired:
            problem = f"{name} printed nothing in {_COMMAND_SECONDS:g} s"
        else:
            problem = f"{name} exited with {ran.returncode}" if ran.returncode else ""
        if problem:
            text = f"--password-command: {problem}"
            raise click.UsageError(text)
        try:
            printed = ran.stdout.decode()
        except UnicodeDecodeError:
            printed = ""
        return _one_line(printed, f"--password-command: {name}")


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name not in OUR_SECRETS
    }
