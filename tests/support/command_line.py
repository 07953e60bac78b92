"""Ways to run the command line in a test: here, in another process, on a terminal."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pexpect
import pytest

from support.secrets_guard import GUARD
from veeam_tasks.cli import run
from veeam_tasks.simulator import ThreadedServer

QUICK = ("--first-pause", "0.05", "--longest-pause", "0.05")
COMMAND = [sys.executable, "-m", "veeam_tasks"]
SECONDS = 120
"""What no command takes, however busy the machine is."""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@attrs.frozen
class Ran:
    """How a command line ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON lines of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def complaint(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def clean_environment(**variables: str | None) -> dict[str, str]:
    """Return this process's environment without settings of ours, plus `variables`."""
    names = ("COLUMNS", "LINES", "NO_COLOR", "TERM", "FORCE_COLOR")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VEEAM_EM_") and name not in names
    }
    return kept | {name: value for name, value in variables.items() if value}


def settings_of(server: ThreadedServer, *, trust: bool = True) -> dict[str, str]:
    """Return the variables that let a command log on to `server`."""
    found = {
        "VEEAM_EM_URL": server.url,
        "VEEAM_EM_USERNAME": server.username,
        "VEEAM_EM_PASSWORD": server.password,
    }
    if trust and server.url.startswith("https"):
        found["VEEAM_EM_CA_FILE"] = server.ca_file
    return found


def plain(text: str) -> str:
    """Return what was written on a terminal, without escape sequences."""
    return ESCAPE.sub("", text).replace("\r", "")


@attrs.frozen
class Heard:
    """A log of what a terminal shows, for the guard of secrets."""

    command: str

    def write(self, text: str) -> None:
        """Take what came."""
        GUARD.printed(self.command, text)

    def flush(self) -> None:
        """Do nothing."""


@attrs.frozen
class Here:
    """Runs command lines in this process, into a pipe as far as they can tell."""

    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def set(self, variables: Mapping[str, str | None]) -> None:
        """Set environment variables for this test; None takes one away."""
        for name, value in variables.items():
            if value is None:
                self.patch.delenv(name, raising=False)
            else:
                self.patch.setenv(name, value)

    def __call__(self, *arguments: str) -> Ran:
        """Run one; it takes what this process has in its environment."""
        self.capture.readouterr()
        status = run(arguments)
        captured = self.capture.readouterr()
        GUARD.printed(" ".join(arguments[:1]), captured.out, captured.err)
        return Ran(status, captured.out, captured.err)


def elsewhere(
    arguments: Sequence[str],
    variables: Mapping[str, str] | None = None,
    *,
    typed: str = "",
) -> Ran:
    """Run a command line in another process, between pipes."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(**(variables or {})),
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    GUARD.printed(" ".join(arguments[:1]), done.stdout, done.stderr)
    return Ran(done.returncode, done.stdout, done.stderr)


def between_pipes(
    arguments: Sequence[str],
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> "subprocess.Popen[str]":
    """Start a command line between pipes; `options` are more of `Popen`'s."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=clean_environment(**(variables or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def on_terminal(
    arguments: Sequence[str],
    variables: Mapping[str, str] | None = None,
    *,
    columns: int = 80,
    lines: int = 24,
    term: str = "xterm-256color",
    redirected: str = "",
) -> "pexpect.spawn[str]":
    """Start a command line on a pseudo-terminal; some of it may go elsewhere."""
    child = pexpect.spawn(
        "sh",
        ["-c", f'exec "$@" {redirected}', "sh", *COMMAND, *arguments],
        env=clean_environment(**{"TERM": term, **(variables or {})}),  # type: ignore[arg-type] # typeshed knows os._Environ only
        dimensions=(lines, columns),
        encoding="utf-8",
        timeout=SECONDS,
    )
    child.logfile_read = Heard(" ".join(arguments[:1]))
    return child


def ended(child: "pexpect.spawn[str]") -> int:
    """Wait for the end of a command on a terminal; return its exit status."""
    child.expect(pexpect.EOF)
    child.close()
    return -child.signalstatus if child.exitstatus is None else child.exitstatus
