"""The shell when a standard stream is full or closed, or the log file is."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import (
    COMMAND,
    SECONDS,
    Ran,
    between_pipes,
    clean_environment,
    settings_of,
)
from support.secrets_guard import GUARD

from veeam_tasks.simulator import ThreadedServer

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="it needs /dev/full")
UNWRITTEN = "standard output could not be written: "


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedServer]:
    """Give a server with a task that succeeded, one that failed, one that runs."""
    with ThreadedServer(seed=1) as server:
        for script in ("Finished", "Finished failed", "Running"):
            server.add_task(script, shared=True)
        yield server


@pytest.fixture
def server(running: ThreadedServer) -> Iterator[ThreadedServer]:
    """Give the server, and check that nobody stays logged on."""
    yield running
    assert running.logon_sessions == []


def redirected(server: ThreadedServer, command: str) -> Ran:
    """Run a command line of a shell; what stands before it is `veeam-tasks`."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {command}', "sh", *COMMAND],
        env=clean_environment(**settings_of(server)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    GUARD.printed(command, done.stdout, done.stderr)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "command",
    [
        "list >/dev/full",
        "list >&-",
        "watch task-2 >/dev/full",
        "watch task-3 >&-",
        "logon --help >/dev/full",
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    server: ThreadedServer, command: str
) -> None:
    """What the command is for is lost: it logs out, says why, and ends with 3."""
    ran = redirected(server, command)
    assert ran.status == 3
    assert UNWRITTEN in ran.complaint


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("watch task-1 2>/dev/full", 0),
        ("watch task-1 2>&- <&-", 0),
        ("watch task-2 2>&-", 1),
        ("get task-99 2>&-", 3),
        ("2>/dev/full", 2),
    ],
)
def test_errors_that_cannot_be_written_change_nothing(
    server: ThreadedServer, command: str, status: int
) -> None:
    """Without standard error the exit status is that of the tasks all the same."""
    ran = redirected(server, command)
    assert (ran.status, ran.err) == (status, "")
    assert ("Finished" in ran.out) == command.startswith("watch")


def test_help_that_nobody_reads_is_no_failure() -> None:
    """A pipe that is closed is quiet for help as it is for tasks."""
    child = between_pipes(["--help"])
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    with child.stderr:
        assert (child.stderr.read(), child.wait(SECONDS)) == ("", 0)


def test_a_prompt_without_an_input_ends(server: ThreadedServer) -> None:
    """A closed standard input is at its end, and the prompt logs out."""
    ran = redirected(server, "repl --quiet <&-")
    assert (ran.status, ran.err.strip()) == (0, "")


def test_nothing_can_be_written_at_all(server: ThreadedServer) -> None:
    """With all three streams closed the status still tells that nobody was told."""
    assert redirected(server, "list <&- >&- 2>&-") == Ran(3, "", "")


def test_a_log_file_that_is_full_is_told_once(server: ThreadedServer) -> None:
    """The command goes on without it."""
    ran = redirected(server, "get task-1 --log-file /dev/full")
    assert (ran.status, len(ran.objects)) == (0, 1)
    assert ran.complaint == (
        "veeam-tasks get: warning: --log-file: /dev/full cannot be written:"
        " No space left on device"
    )


@pytest.mark.parametrize(
    "command", ["watch - <&-", "submit jobs/x?action=start --body - <&-"]
)
def test_an_input_that_is_closed_is_a_usage_error(
    server: ThreadedServer, command: str
) -> None:
    """Nothing is sent in place of what could not be read."""
    ran = redirected(server, command)
    assert ran.status == 2
    assert "standard input cannot be read: " in ran.complaint
