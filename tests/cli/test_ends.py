"""How the shell ends: signals, a pipe that nobody reads, the order of statuses."""

import json
import signal
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
from support.command_line import (
    QUICK,
    SECONDS,
    between_pipes,
    elsewhere,
    settings_of,
)

import veeam_tasks as vt
from veeam_tasks._client.runtime import LOG_OUT_SECONDS
from veeam_tasks.cli._exits import Exit, first_of
from veeam_tasks.cli._runner import status_of
from veeam_tasks.simulator import Fault, ThreadedServer


def start(server: ThreadedServer, *arguments: str) -> "subprocess.Popen[str]":
    """Start a command that logs on to a server."""
    return between_pipes(arguments, settings_of(server))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str
)
def test_a_signal_stops_watching_and_logs_out(
    server: ThreadedServer, number: int, status: int
) -> None:
    """The first signal names what is unfinished, logs out, deletes nothing."""
    task = server.add_task("Running", shared=True)
    failed = server.add_task("Finished failed", shared=True)
    child = start(server, "watch", task.task_id, failed.task_id, *QUICK)
    assert child.stdout is not None
    assert {child.stdout.readline()[13:19] for _ in range(2)} == {"task-1", "task-2"}
    child.send_signal(number)
    _, err = child.communicate(timeout=SECONDS)
    assert child.returncode == status
    assert "unfinished, and still under way at the server: task-1" in err
    assert "2 tasks: 0 succeeded, 1 failed, 1 unfinished" in err
    assert "Traceback" not in err
    assert server.logon_sessions == []
    assert not task.is_deleted


def test_a_signal_says_that_a_simulated_server_is_gone(
    server: ThreadedServer, tmp_path: Path
) -> None:
    """Its tasks go on nowhere; neither do they after a time that ran out."""
    page = tmp_path / "report.html"
    words = ("watch", "--simulate", "2", "--speed", "0.01", "--report", str(page))
    child = start(server, *words)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 130
    gone = "unfinished, and gone with the simulated server: task-1, task-2"
    assert err.splitlines() == [gone, "2 tasks: 0 succeeded, 0 failed, 2 unfinished"]
    assert "It was interrupted." in page.read_text()
    _, err = start(server, *words, "--timeout", "1s").communicate(timeout=SECONDS)
    assert gone in err
    assert "go on" not in err + page.read_text()


def test_an_outage_and_its_end_are_told(server: ThreadedServer) -> None:
    """Into a pipe an outage is two lines on standard error, and the watch goes on."""
    task = server.add_task("Running", shared=True)
    fault = server.faults.add(Fault("drop", path="tasks", after=1))
    child = start(server, "watch", task.task_id, *QUICK)
    assert child.stderr is not None
    assert "the server cannot be reached: connection lost" in child.stderr.readline()
    server.faults.remove(fault)
    assert "the server answers again" in child.stderr.readline()
    task.finish()
    _, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, err) == (0, "1 task: 1 succeeded, 0 failed\n")


def interrupted_twice(server: ThreadedServer, fault: Fault) -> "subprocess.Popen[str]":
    """Start a watch, and interrupt it once more while it logs out."""
    task = server.add_task("Running", shared=True)
    server.faults.add(fault)
    child = start(server, "watch", task.task_id, *QUICK)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    while not fault.played:
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    assert "unfinished" in child.stderr.readline()
    assert "1 task: " in child.stderr.readline()
    assert f"{LOG_OUT_SECONDS:g} seconds at most" in child.stderr.readline()
    return child


def test_the_second_signal_lets_the_log_out_end(server: ThreadedServer) -> None:
    """A user who presses Ctrl-C twice is told of the log-out, which goes on."""
    fault = Fault("delay", method="DELETE", seconds=0.5)
    child = interrupted_twice(server, fault)
    _, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, err) == (130, "")
    assert server.logon_sessions == []


def test_the_third_signal_quits_at_once(server: ThreadedServer) -> None:
    """A log-out that hangs does not hold a user who presses Ctrl-C three times."""
    child = interrupted_twice(server, Fault("stall", method="DELETE"))
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=LOG_OUT_SECONDS - 1)
    assert (child.returncode, err) == (130, "")


@pytest.mark.parametrize(
    "arguments", [["watch", "--all", "--json", "--quiet"], ["list"]], ids=" ".join
)
def test_a_broken_pipe_is_quiet(server: ThreadedServer, arguments: list[str]) -> None:
    """When nobody reads any more, the command logs out and says nothing."""
    server.add_tasks(20, shared=True)
    child = start(server, *arguments)
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    err = child.stderr.read()
    child.stderr.close()
    assert (child.wait(SECONDS), err) == (0, "")
    assert server.logon_sessions == []


def test_a_reader_that_is_slow_does_not_stop_the_polls(
    server: ThreadedServer,
) -> None:
    """A pipe that is full holds neither the polls nor Ctrl-C."""
    server.add_tasks(1500, shared=True)
    child = start(server, "watch", "--all", *QUICK)
    assert child.stdout is not None
    child.stdout.readline()  # and then no more: 64 KiB are full
    before = server.requests.total
    while server.requests.total < before + 5:
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 130
    assert "unfinished, and still under way" in err


def test_simulate_prints_where_it_is_and_stops_by_a_signal() -> None:
    """Into a pipe it is one object with everything that another command needs."""
    child = between_pipes(
        ["simulate", "--port", "0", "--tasks", "2", "--tls", "--seed", "1"]
    )
    assert child.stdout is not None
    place = json.loads(child.stdout.readline())
    variables = {
        "VEEAM_EM_URL": place["url"],
        "VEEAM_EM_USERNAME": place["username"],
        "VEEAM_EM_PASSWORD": place["password"],
        "VEEAM_EM_FINGERPRINT": place["fingerprint"],
    }
    ran = elsewhere(["list"], variables)
    assert (ran.status, len(ran.objects)) == (0, 2)
    assert place["ca_file"] in place["curl"][0]
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, err) == (143, "")


def test_what_is_piped_into_repl_is_a_script(server: ThreadedServer) -> None:
    """It may await, prints nothing of its own, and exit() gives the status."""
    server.add_task("Finished", shared=True)
    lines = (
        "tasks = await em.fetch_all()\n"
        "async for event in em.watch(tasks):\n    print(event.state)\n"
        "tasks\nprint(vt.__version__)\nexit(7)\n"
    )
    ran = elsewhere(["repl"], settings_of(server), typed=lines)
    assert (ran.status, ran.err) == (7, "")
    assert ran.out == f"Finished\n{vt.__version__}\n"
    assert server.logon_sessions == []
    ran = elsewhere(["repl", "--quiet"], settings_of(server))
    assert (ran.status, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize(
    ("lines", "words", "frames"),
    [
        ("print('one')\n1 / 0\nprint('two')\n", "ZeroDivisionError", 1),
        ("raise vt.ClosedError(what='x', advice='y')\n", "ClosedError: x: y", 1),
        ("exit('because')\n", "because", 0),
        ("print('one'\n", "SyntaxError", 1),
    ],
)
def test_a_script_that_fails_is_exit_status_1(
    server: ThreadedServer, lines: str, words: str, frames: int
) -> None:
    """It ends with the first exception, whose traceback has the script's own frames."""
    ran = elsewhere(["repl"], settings_of(server), typed=lines)
    assert ran.status == 1
    assert words in ran.err
    assert ran.err.count("File ") == frames
    assert "two" not in ran.out
    assert ">>>" not in ran.out + ran.err
    assert server.logon_sessions == []


def test_a_repl_that_is_refused_is_one_line(server: ThreadedServer) -> None:
    """Without a logon there is no prompt."""
    ran = elsewhere(["repl"], {**settings_of(server), "VEEAM_EM_PASSWORD": "wrong"})
    assert (ran.status, ran.out) == (4, "")
    assert ran.complaint.startswith("veeam-tasks repl: POST ")


def test_sigterm_ends_a_repl_with_a_log_out(server: ThreadedServer) -> None:
    """A prompt that is ended from outside logs out as well."""
    child = between_pipes(["repl"], settings_of(server), stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("print('ready', flush=True)\nawait asyncio.sleep(1000)\n")
    child.stdin.close()
    assert "ready" in child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    assert child.stderr is not None
    with child.stdout, child.stderr:
        err = child.stderr.read()
    child.wait(SECONDS)
    assert child.returncode == 143
    assert "Traceback" not in err
    assert server.logon_sessions == []


def test_of_several_statuses_the_first_of_the_list_counts() -> None:
    """The order is that of the documentation, whatever the numbers."""
    order = [130, 143, 129, 2, 4, 3, 124, 1, 0]
    assert [int(status) for status in Exit] == order
    for one, other in permutations(Exit, 2):
        assert first_of(one, other) is min(one, other, key=list(Exit).index)
    assert first_of() is Exit.OK


def test_every_error_has_a_status() -> None:
    """Refusals are 4, time is 124, a task's own end is 1, all else is 3."""
    task = vt.Task(
        task_id="task-1",
        state=vt.TaskState.FINISHED,
        raw_state="Finished",
        operation="StartJob",
    )
    about = {"request": "GET x", "status": 403, "message": None}
    report = vt.Report(outcomes={})
    expected = {
        vt.LogonError(**about): 4,
        vt.ForbiddenError(**about): 4,
        vt.TaskNotFoundError(**about): 3,
        vt.TransportError(request="GET x", reason="gone"): 3,
        vt.ClosedError(what="x", advice="y"): 3,
        vt.WatchTimeoutError(seconds=1.0, report=report): 124,
        vt.TaskFailedError(task=task): 1,
        vt.TaskLostError(task_id="task-1", last_seen=None, reason="gone"): 1,
    }
    assert {error: int(status_of(error)) for error in expected} == expected


def test_an_interrupt_before_anything_is_sent_is_quiet() -> None:
    """Ctrl-C while the command is still being read has no traceback either."""
    code = (
        "import sys; import veeam_tasks.cli._main as m;"
        " from veeam_tasks.cli import run\n"
        "def stop(**_): raise KeyboardInterrupt\n"
        "m.main.get_command(None, 'list').callback = stop\n"
        "sys.exit(run(['list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "\n")
