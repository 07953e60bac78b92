"""The live display: what stands where while the server answers, or does not."""

import re
import socket

import pexpect
import pytest
from support.command_line import QUICK, ended, on_terminal, plain, settings_of

from veeam_tasks.simulator import Fault, ThreadedServer

pytestmark = pytest.mark.usefixtures("_nobody_stays")


def display(child: "pexpect.spawn[str]", wanted: str) -> list[str]:
    """Return the lines of the display, once it has something in it."""
    while True:
        child.expect(re.escape("\x1b[H"))
        text = plain(child.before or "")
        if re.search(wanted, text):
            return [line.rstrip() for line in text.split("\n") if line.strip()]


def stop(child: "pexpect.spawn[str]") -> str:
    """Interrupt a command; return what stands on the terminal after it."""
    child.sendintr()
    child.expect(re.escape("\x1b[?1049l"))
    assert ended(child) == 130
    return plain(child.before or "")


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_failures_come_first_then_what_runs_by_number(
    server: ThreadedServer, columns: int
) -> None:
    """task-9 stands before task-10; what is done comes last; no column is empty."""
    for number in range(1, 13):
        script = {3: "Finished failed 'Disk full'", 4: "Finished"}.get(number)
        server.add_task(script or "Running", shared=True)
    ids = [f"task-{number}" for number in range(12, 0, -1)]
    child = on_terminal(["watch", *ids, *QUICK], settings_of(server), columns=columns)
    lines = display(child, "10 running")
    rows = [line.split()[:2] for line in lines if line.startswith("task-")]
    running = [
        ["task-" + number, "Running"] for number in ["1", "2", "5", "6", "7", "8", "9"]
    ]
    assert rows[0] == ["task-3", "failed"]
    assert rows[1:8] == running
    assert rows[-1] == ["task-4", "succeeded"]
    assert "Disk full" in next(line for line in lines if line.startswith("task-3"))
    assert max(map(len, lines)) <= columns
    stop(child)


def test_a_column_without_anything_is_not_there(server: ThreadedServer) -> None:
    """As long as nothing has ended there is no place for messages."""
    server.add_task("Running", shared=True)
    child = on_terminal(["watch", "task-1"], settings_of(server))
    [head] = [line for line in display(child, "1 running") if line.startswith("TASK")]
    assert head.split() == ["TASK", "STATE", "AGE", "OPERATION"]
    stop(child)


def test_what_a_narrow_display_cuts_is_seen_to_be_cut(server: ThreadedServer) -> None:
    """The line on the server ends with a sign; a head is whole or not there."""
    server.add_task("Running", operation="StartVMRestore", shared=True)
    child = on_terminal(["watch", "task-1"], settings_of(server), columns=30)
    lines = display(child, "(?s)asked.*TASK")
    [head] = [line for line in lines if line.startswith("TASK")]
    assert head.split() == ["TASK", "STATE", "AGE"]
    [health] = [line for line in lines if line.startswith("server:")]
    assert health.endswith("…")
    stop(child)


def test_the_display_tells_when_the_server_is_asked(server: ThreadedServer) -> None:
    """When it was asked last and is asked next; in an outage why, and the next try."""
    server.add_task("Running", shared=True)
    arguments = ["watch", "task-1", "--first-pause", "2", "--longest-pause", "2"]
    child = on_terminal(arguments, settings_of(server))
    lines = display(child, r"server: answers, asked \d+ s ago, next in \d+ s")
    assert "1 running" in " ".join(lines)
    server.pause()
    lines = display(child, "away for")
    [health] = [line for line in lines if line.startswith("server:")]
    assert re.match(
        r"server: connection \w+ \(127.0.0.1:\d+\)(, next try in \d+ s)?; away for",
        health,
    )
    display(child, "next try in")
    server.resume()
    display(child, "server: answers")
    stop(child)


def test_what_is_not_known_any_more_is_dimmed(server: ThreadedServer) -> None:
    """While the server is away, the rows of running tasks are shown as old."""
    server.add_task("Running", shared=True)
    child = on_terminal(["watch", "task-1", *QUICK], settings_of(server))
    child.expect(r"\x1b\[H(?:(?!\x1b\[H).)*task-1 +Running")
    assert not re.search(r"\x1b\[2mtask-1", child.after or "")
    server.pause()
    child.expect(r"\x1b\[2mtask-1")
    server.resume()
    display(child, "server: answers")
    stop(child)


def test_the_failure_is_repeated_next_to_the_counts(server: ThreadedServer) -> None:
    """Below the table; a single task says its reason once only."""
    server.add_task("Finished failed 'Disk full'", shared=True)
    server.add_task("Finished", shared=True)
    child = on_terminal(["watch", "task-1", "task-2"], settings_of(server))
    child.expect(re.escape("\x1b[?1049l"))
    assert ended(child) == 1
    text = plain(child.before or "")
    assert text.endswith(
        "task-1 failed (StartJob): Disk full\n2 tasks: 1 succeeded, 1 failed\n"
    )
    child = on_terminal(["watch", "task-1"], settings_of(server))
    child.expect(re.escape("\x1b[?1049l"))
    assert ended(child) == 1
    assert (child.before or "").count("Disk full") == 1


def test_a_logon_that_takes_long_says_where_it_connects() -> None:
    """After a second of silence; Ctrl-C tells at once that it is being ended."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {"VEEAM_EM_USERNAME": "u", "VEEAM_EM_PASSWORD": "secret-enough"}
        child = on_terminal(["list", "--url", url], variables)
        child.expect(re.escape(f"connecting to {url} ..."))
        child.sendintr()
        child.expect("logging out; press Ctrl-C twice more to leave at once")
        assert ended(child) == 130


def test_a_terminal_in_an_old_encoding_gets_escapes(server: ThreadedServer) -> None:
    """A table with a text that the encoding cannot say is printed all the same."""
    server.add_task("Finished failed 'Espace plein \u2014 \u65e5\u672c'", shared=True)
    variables = {**settings_of(server), "PYTHONIOENCODING": "latin-1"}
    child = on_terminal(["list"], variables, columns=120)
    child.expect(re.escape("Espace plein \\u2014"))
    assert ended(child) == 0


@pytest.mark.parametrize("columns", [50, 80])
def test_ids_of_jobs_are_whole_in_any_terminal(
    server: ThreadedServer, columns: int
) -> None:
    """They are there to be copied; where they do not fit, they get a line."""
    child = on_terminal(["jobs"], settings_of(server), columns=columns)
    assert ended(child) == 0
    text = plain(child.before or "")
    assert re.search(r"Oracle Backup", text)
    assert "78c3919c-54d7-43fe-b047-485d3566f11f" in text
    assert max(map(len, text.split("\n"))) <= columns


def test_a_third_signal_leaves_the_display(server: ThreadedServer) -> None:
    """A log-out that hangs is quit at once, on the terminal's first screen."""
    server.add_task("Running", shared=True)
    child = on_terminal(["watch", "task-1"], settings_of(server))
    display(child, "1 running")
    server.faults.add(Fault("stall", method="DELETE"))
    child.sendintr()
    child.expect(re.escape("\x1b[?1049l"))
    child.expect("1 unfinished")
    child.sendintr()
    child.expect("5 seconds at most")
    child.sendintr()
    assert ended(child) == 130
    server.expire_logon_sessions()
