"""`--state` and `resume`: a command that was ended goes on where it stood."""

import json
import os
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command_line import (
    COMMAND,
    QUICK,
    SECONDS,
    Here,
    Ran,
    clean_environment,
    settings_of,
)

from veeam_tasks.simulator import Fault, ThreadedServer


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Give a server without TLS whose time runs ten times as fast."""
    with ThreadedServer(seed=1, speed=10) as server:
        yield server


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server: ThreadedServer,
) -> Here:
    """Run command lines here, with settings that log on to the server."""
    here = Here(capsys, monkeypatch)
    here.set({name: None for name in os.environ if name.startswith("VEEAM_EM_")})
    here.set(settings_of(server))
    return here


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Give the name of a state file."""
    return str(tmp_path / "run.json")


def share(shell: Here) -> dict[str, str]:
    """Open a logon session that later commands share; return its variables."""
    ran = shell("logon")
    pairs = [
        line.removeprefix("export ").partition("=")[::2]
        for line in ran.out.splitlines()
        if line.startswith("export ")
    ]
    found = {name: value.strip("'") for name, value in pairs}
    shell.set(found)
    return found


def start(arguments: list[str], **more: Any) -> "subprocess.Popen[str]":
    """Start a command between pipes, with the settings of this process."""
    variables = {key: os.environ[key] for key in os.environ if "VEEAM_EM_" in key}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=clean_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def lines_of(out: str) -> list[dict[str, Any]]:
    """Return the whole JSON lines of what a killed command wrote."""
    return [json.loads(line) for line in out.splitlines() if line.endswith("}")]


def keys(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return which events these are."""
    return [(event["task_id"], event["sequence"]) for event in events]


def killed(child: "subprocess.Popen[str]", *, with_: int = signal.SIGKILL) -> Ran:
    """Kill a command; return what it had written."""
    child.send_signal(with_)
    out, err = child.communicate(timeout=SECONDS)
    return Ran(child.returncode, out, err)


def wait_for(condition: Any) -> None:
    """Wait until something is so that another process does."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_watch_that_was_killed_goes_on_under_the_same_logon_session(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """No event is told twice unmarked, and each end is told."""
    share(shell)
    for number in range(6):
        end = "failed" if number == 0 else "ok"
        server.add_task(f"Running {20 + 10 * number}s, Finished {end}", shared=True)
    ids = [f"task-{number}" for number in range(1, 7)]
    child = start(["watch", *ids, "--state", file, *QUICK])
    wait_for(lambda: '"final"' in _text_of(file))
    first = lines_of(killed(child).out)
    ran = shell("resume", file, *QUICK)
    assert ran.status == 1
    events = [*first, *(one for one in ran.objects if not one.get("again"))]
    assert len(set(keys(events))) == len(events)
    told = [*first, *ran.objects]
    assert {one["task_id"] for one in told if one["is_final"]} == set(ids)
    assert "6 tasks: 5 succeeded, 1 failed" in ran.err
    # Nothing is left to go on with, and nothing more is told.
    again = shell("resume", file, *QUICK)
    assert (again.status, again.out) == (1, "")
    shell("logout")


def _text_of(file: str) -> str:
    path = Path(file)
    return path.read_text() if path.exists() else ""


def test_the_file_is_its_owners_alone_and_holds_no_secret(
    shell: Here, server: ThreadedServer, file: str, tmp_path: Path
) -> None:
    """It has mode 0600, whatever was there before, and nothing is left beside it."""
    found = share(shell)
    server.add_task("Finished ok", shared=True)
    path = tmp_path / "run.json"
    assert shell("watch", "task-1", "--state", file).status == 0
    path.chmod(0o666)
    assert shell("watch", "task-1", "--state", file).status == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["run.json"]  # noqa: PTH208 - names
    text = path.read_text()
    for secret in (server.password, server.username, *found.values()):
        assert secret == server.url or secret not in text
    shell("logout")


def test_a_link_is_followed_and_stays(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """What it leads to is written."""
    share(shell)
    server.add_task("Finished ok", shared=True)
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "run.json")
    assert shell("watch", "task-1", "--state", str(link)).status == 0
    assert link.is_symlink()
    assert (tmp_path / "run.json").exists()
    shell("logout")


def test_a_full_disk_is_told_once_and_harms_nothing(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """The watch goes on to its end; no half of a file is left."""
    share(shell)
    task = server.add_task("Running", shared=True)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    child = start(["watch", "task-1", "--state", file, *QUICK], preexec_fn=limit)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["state"] == "Running"
    task.finish()
    out, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 0
    assert [one["state"] for one in lines_of(out)] == ["Finished"]
    assert err.count("cannot be written: File too large") == 1
    assert os.listdir(Path(file).parent) == []  # noqa: PTH208 - names
    shell("logout")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_watch_goes_on(
    shell: Here, server: ThreadedServer, file: str, number: int
) -> None:
    """What was told before the signal is in the file when the command has ended.

    Where the signal came while a line was written, that is told again and marked.
    """
    share(shell)
    task = server.add_task("Running", shared=True)
    child = start(["watch", "task-1", "--state", file, *QUICK])
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["sequence"] == 1
    killed(child, with_=number)
    task.finish()
    ran = shell("resume", file, *QUICK)
    assert ran.status == 0
    told = [(one["sequence"], one.get("again")) for one in ran.objects]
    assert told in ([(2, None)], [(1, True), (2, None)])
    shell("logout")


def test_an_unfinished_watch_is_not_overwritten(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """Beginning anew would forget it; one that has ended is overwritten."""
    share(shell)
    server.add_task("Running 40s, Finished ok", shared=True)
    ran = shell("watch", "task-1", "--state", file, "--timeout", "0.5s")
    assert ran.status == 124
    for command in (["watch", "task-1"], ["submit", "jobs/1?action=start"]):
        ran = shell(*command, "--state", file)
        assert ran.status == 2
        assert f"'veeam-tasks resume {file}' goes on with it" in ran.complaint
    assert [r.method for r in server.requests if r.method == "POST"] == ["POST"]
    assert shell("resume", file, *QUICK).status == 0
    assert shell("watch", "task-1", "--state", file).status == 0
    shell("logout")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"kind": "veeam-tasks state"}', "\0\0\0"]
)
def test_a_damaged_file_is_refused(shell: Here, file: str, content: str) -> None:
    """It is said so in a line, and nothing is sent."""
    Path(file).write_text(content)
    ran = shell("resume", file)
    assert ran.status == 2
    assert "is no state file of veeam-tasks, or is damaged" in ran.complaint


def test_a_file_that_is_not_there_is_told(shell: Here, file: str) -> None:
    """With its name and the reason."""
    ran = shell("resume", file)
    assert (ran.status, ran.complaint.endswith("No such file or directory")) == (
        2,
        True,
    )


def test_a_kill_while_the_action_is_sent_leaves_word_of_it(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """It is looked for, told, and never sent again."""
    share(shell)
    server.add_task("Finished ok", shared=True)
    job = server.jobs[0]
    # The server carries it out, and its answer never comes.
    server.faults.add(Fault("stall", path="action=start", carried_out=True))
    child = start(["submit", f"{job.path}?action=start", "--state", file])
    wait_for(lambda: _posts(server) == 1)
    assert '"action":{"path":"jobs/' in Path(file).read_text()
    killed(child)
    server.faults.clear()
    for _ in range(2):
        ran = shell("resume", file)
        assert ran.status == 3
        (found,) = ran.objects
        assert found["may_have_been_started"] is True
        assert [task["task_id"] for task in found["tasks"]] == ["task-2"]
        wait_for(lambda: bool(server.job_sessions))
        assert "may have been started" in ran.err
        assert "It is not sent again" in ran.err
    assert "a run of the job began" in shell("resume", file).err
    assert _posts(server) == 1
    ran = shell("submit", f"{job.path}?action=start", "--state", file)
    assert (ran.status, _posts(server)) == (2, 1)
    shell("logout")


def _posts(server: ThreadedServer) -> int:
    paths = [one.path for one in server.requests if one.method == "POST"]
    return sum("action=start" in path or "/jobs/" in path for path in paths)


def test_a_refused_action_leaves_nothing_to_go_on_with(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """What the server refused was not started, and `resume` says so."""
    ran = shell("submit", "jobs/b04c217b?action=explode", "--state", file)
    assert ran.status == 3
    ran = shell("resume", file)
    assert ran.status == 2
    assert "nothing was started" in ran.complaint
    assert (
        shell(
            "submit", server.jobs[0].path + "?action=start", "--state", file, *QUICK
        ).status
        == 0
    )


def test_the_url_of_the_file_is_taken_and_another_is_refused(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """A checkpoint of another server is no watch of this one."""
    share(shell)
    server.add_task("Running 40s, Finished ok", shared=True)
    shell("watch", "task-1", "--state", file, "--timeout", "0.5s")
    with ThreadedServer() as other:
        ran = shell("resume", file, "--url", other.url)
        assert ran.status in {2, 4}
    shell.set({"VEEAM_EM_URL": None})
    assert shell("resume", file, *QUICK).status == 0
    shell.set({"VEEAM_EM_URL": server.url})
    shell("logout")
