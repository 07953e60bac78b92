"""Where the password comes from; it is never the value of an option."""

import asyncio
import getpass
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import click

from veeam_tasks.cli._input import decoded, read_text
from veeam_tasks.cli._messages import visible, warn

OUR_SECRETS: Final = (
    "VEEAM_EM_PASSWORD",
    "VEEAM_EM_PROXY",
    "VEEAM_EM_SESSION_ID",
    "VEEAM_EM_TOKEN",
)
"""Variables that no command that we start gets to see."""

_COMMAND_SECONDS = 60.0
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a command of the user, without what is ours."""
    return {
        name: value for name, value in environment.items() if name not in OUR_SECRETS
    }


def split_command(written: str, option: str) -> tuple[str, ...]:
    """Return the words of a command that is run without a shell.

    Raises:
        click.UsageError: It is empty, or a quote in it has no end.
    """
    is_posix = os.name != "nt"
    try:
        words = tuple(shlex.split(written, posix=is_posix))
        problem = "" if words else "it is empty"
    except ValueError as error:
        words, problem = (), str(error)
    if problem:
        text = f"{option}: {problem}"
        raise click.UsageError(text)
    # On Windows a backslash is no escape, and quotes stay around a word.
    return words if is_posix else tuple(word.strip('"') for word in words)


def has_terminal() -> bool:
    """Tell whether somebody is there to answer a question."""
    return sys.stdin.isatty() or sys.stderr.isatty()


class Hidden:
    """Holds what error reporters must not print, which show the locals of frames."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def reveal(self) -> Any:
        """Return the value; not to be bound to a name."""
        return self._value

    def __repr__(self) -> str:
        return "[hidden]"


@attrs.define(eq=False, kw_only=True)
class PasswordSource:
    """Gives the password, asked anew at each logon where it can be.

    Attributes:
        file: Path of a file with the password in it.
        command: A command that prints it, run without a shell.
        keyring: Whether the vault of the operating system has it.
        variable: What stands in VEEAM_EM_PASSWORD.
        names: How the user named the options, for messages.
        problem: Why the password could not be had again; empty if it could.
    """

    file: str | None = None
    command: str | None = None
    keyring: bool = False
    variable: str | None = attrs.field(default=None, repr=False)
    names: Mapping[str, str] = attrs.field(factory=dict)
    problem: str = ""
    _first: str | None = attrs.field(default=None, repr=False)
    _again: Callable[[], str | Awaitable[str]] | None = None
    _running: asyncio.subprocess.Process | None = None

    def prepare(self, *, url: str, username: str) -> None:
        """Ask once now, while a mistake is still a usage error, and anew later.

        Raises:
            click.UsageError: There is none, or it cannot be had.
        """
        given = [
            self._named(option)
            for option in ("password_file", "password_command", "password_keyring")
            if getattr(self, option.removeprefix("password_"))
        ]
        if len(given) > 1:
            text = f"{' and '.join(given)}: pass one of them"
            raise click.UsageError(text)
        if self.file is not None:
            self._first = self._from_file(Path(self.file))
        elif self.command is not None:
            words = split_command(self.command, self._named("password_command"))
            self._first = self._from_command(words)
            self._again = lambda: self._ask_command(words)
        elif self.keyring:
            self._first = self._from_keyring(url, username)
            self._again = lambda: self._from_keyring(url, username)
        else:
            first = self._from_variable() or _prompt(username)
            self._first = first
            self._again = lambda: first

    def __call__(self) -> str | Awaitable[str]:
        """Return the password; at the first call what `prepare` found."""
        first, self._first = self._first, None
        if first is not None:
            return first
        assert self._again is not None
        try:
            return self._again()
        except click.UsageError as error:
            self.problem = error.format_message()
            raise

    def abort(self) -> None:
        """End a command that is still asked for the password."""
        if self._running is not None:
            with suppress(ProcessLookupError):
                self._running.kill()

    def _named(self, parameter: str) -> str:
        return self.names.get(parameter, f"--{parameter.replace('_', '-')}")

    def _from_variable(self) -> str | None:
        if not self.variable:
            return None
        # What containers mount as a secret often ends with one; sent as it is, it
        # would be refused, and locks the account in the end.
        plain = self.variable.removesuffix("\n").removesuffix("\r")
        if plain != self.variable:
            warn(
                "VEEAM_EM_PASSWORD ends with a newline, which is not taken for a part"
                " of the password"
            )
        return plain or None

    def _from_file(self, path: Path) -> str:
        option = self._named("password_file")

        def read() -> str:
            shown = f"{option}: {visible(str(path))}"
            return _one_line(Hidden(read_text(str(path), option)), shown)

        password = read()
        self._again = lambda: password
        with suppress(OSError):
            mode = path.stat().st_mode
            # A pipe, as a shell's <(...) is, can be read once only.
            if stat.S_ISREG(mode):
                self._again = read
                _warn_of_readers(path, mode)
        return password

    def _from_command(self, words: tuple[str, ...]) -> str:
        try:
            ran = Hidden(
                subprocess.run(  # noqa: S603 - the user's own command, no shell
                    words,
                    stdout=subprocess.PIPE,
                    env=without_secrets(os.environ),
                    timeout=_COMMAND_SECONDS,
                    check=False,
                )
            )
        except OSError as error:
            problem = f"{visible(words[0])} cannot be run: {error.strerror}"
        except subprocess.TimeoutExpired:
            problem = f"{visible(words[0])} printed nothing in {_COMMAND_SECONDS:g} s"
        else:
            printed = Hidden(ran.reveal().stdout)
            return self._printed(words, ran.reveal().returncode, printed)
        raise self._bad_command(problem)

    async def _ask_command(self, words: tuple[str, ...]) -> str:
        """Run the command again, beside the loop; `abort` ends it."""
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                self._running = process = await asyncio.create_subprocess_exec(
                    *words,
                    stdout=subprocess.PIPE,
                    env=without_secrets(os.environ),
                )
                printed = Hidden((await process.communicate())[0])
            return self._printed(words, process.returncode or 0, printed)
        except OSError as error:
            problem = f"{visible(words[0])} cannot be run: {error.strerror}"
        except TimeoutError:
            problem = f"{visible(words[0])} printed nothing in {_COMMAND_SECONDS:g} s"
        except click.UsageError as error:
            self.problem = error.format_message()
            raise
        finally:
            self.abort()
            self._running = None
        failure = self._bad_command(problem)
        self.problem = failure.format_message()
        raise failure

    def _printed(self, words: tuple[str, ...], status: int, printed: Hidden) -> str:
        if status:
            problem = f"{visible(words[0])} exited with {status}"
            raise self._bad_command(problem)
        whence = f"{self._named('password_command')}: what {visible(words[0])} printed"
        text = Hidden(decoded(printed.reveal(), whence))
        return _one_line(text, f"{self._named('password_command')}: {words[0]}")

    def _bad_command(self, problem: str) -> click.UsageError:
        return click.UsageError(f"{self._named('password_command')}: {problem}")

    def _from_keyring(self, url: str, username: str) -> str:
        option = self._named("password_keyring")
        try:
            import keyring  # noqa: PLC0415 - an extra
        except ImportError:
            text = (
                f"{option} needs keyring, which is not installed. Install it with:"
                ' python -m pip install "veeam-tasks[keyring]"'
            )
            raise click.UsageError(text) from None
        try:
            password = keyring.get_password(url, username)
        except Exception as error:  # noqa: BLE001 - a vault may raise anything
            text = f"{option}: the vault cannot be read: {visible(str(error))}"
            raise click.UsageError(text) from None
        if not password:
            text = (
                f"{option}: the vault has no password of {username} for {url}; put it"
                f" there with: keyring set {url} {shlex.quote(username)}"
            )
            raise click.UsageError(text)
        return password


def _warn_of_readers(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & _OTHERS_READ:
        shown = visible(str(path))
        warn(
            f"others may read {shown} (mode {stat.S_IMODE(mode):03o});"
            f" run: chmod 600 {shlex.quote(shown)}"
        )


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


def _one_line(text: Hidden, whence: str) -> str:
    problem = _problem_of(text)
    if problem:
        message = f"{whence} gave {problem}"
        raise click.UsageError(message)
    return _lines_of(text)[0]


def _problem_of(text: Hidden) -> str:
    lines = _lines_of(text)
    if not lines[0]:
        return "nothing"
    if len(lines) > 1:
        return f"{len(lines)} lines; the password must be all of it"
    return ""


def _lines_of(text: Hidden) -> list[str]:
    plain: str = text.reveal().removesuffix("\n").removesuffix("\r")
    return plain.split("\n")
