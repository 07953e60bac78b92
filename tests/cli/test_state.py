"""`--state` and `resume`: a command that was ended goes on where it stood."""

import json
import math
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
    QUICK,
    SECONDS,
    Here,
    Ran,
    between_pipes,
)

from veeam_tasks.simulator import Fault, Job, ThreadedServer


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Give a server without TLS whose time runs ten times as fast."""
    with ThreadedServer(seed=1, speed=10) as server:
        yield server


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
    return between_pipes(arguments, variables, **more)


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


def whole(**members: object) -> str:
    """Return a state file with such members, written as JSON."""
    known = {"kind": "veeam-tasks state", "version": 1, "checkpoints": {}}
    return json.dumps({**known, "telling": [], "action": None, **members})


ACTION = {
    "path": "jobs/1?action=start",
    "method": "POST",
    "at": 1.0,
    "logon": None,
    "url": "http://em",
    "tasks": None,
    "sessions": None,
}


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", '{"kind": "veeam-tasks state"}', "\0\0\0", "[" * 100_000),
        whole(checkpoints={"": {"url": "http://em", "tasks": ["task-1"]}}),
        whole(telling=[["", "task-1", math.inf]]),
        whole(action={**ACTION, "at": math.inf}),
        whole(action={**ACTION, "at": 1e18}),
    ],
)
def test_a_damaged_file_is_refused(shell: Here, file: str, content: str) -> None:
    """It is said so in a line, and nothing is sent."""
    Path(file).write_text(content)
    ran = shell("resume", file)
    assert ran.status == 2
    assert f"{file} is no state file of veeam-tasks, or is damaged" in ran.complaint
    ran = shell("watch", "task-1", "--state", file)
    assert ran.status == 2
    assert f"--state {file} is no state file of veeam-tasks" in ran.complaint


def test_what_is_no_file_is_refused_at_once(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """A pipe or a device may have no end, and nothing is to take its place."""
    os.mkfifo(tmp_path / "pipe")
    server.requests.clear()
    for name, said in (("pipe", "it is no file"), (".", "Is a directory")):
        file = str(tmp_path / name)
        for command in (["watch", "task-1", "--state"], ["resume"]):
            ran = shell(*command, file)
            assert ran.status == 2
            assert ran.complaint.endswith(f"cannot be read: {said}")
    assert not server.requests
    assert (tmp_path / "pipe").is_fifo()


def test_a_name_that_no_file_can_have_harms_nothing(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """It is told, as that of a folder which is not there."""
    task = server.add_task("Finished", shared=True)
    for name in ("x" * 300, "nowhere/x"):
        ran = shell("watch", task.task_id, "--state", str(tmp_path / name), *QUICK)
        assert ran.status == 0
        assert "cannot be written: " in ran.err


def test_a_file_that_is_not_there_is_told(shell: Here, file: str) -> None:
    """With its name and the reason."""
    ran = shell("resume", file)
    assert (ran.status, ran.complaint.endswith("No such file or directory")) == (
        2,
        True,
    )


def killed_while_sending(
    shell: Here, server: ThreadedServer, file: str, *, carried_out: bool = True
) -> Job:
    """Kill a `submit --state` whose action was sent and whose answer never came."""
    job = server.add_job("Oracle", session="Working 20s, Stopped failed", history=2)
    stall = Fault("stall", path="action=start", carried_out=carried_out)
    server.faults.add(stall)
    path = f"{job.path}?action=start"
    child = start(["submit", path, "--follow", "--state", file])
    wait_for(lambda: _posts(server) == 1)
    assert '"action":{"path":"jobs/' in Path(file).read_text()
    killed(child)
    server.faults.clear()
    assert shell("submit", path, "--state", file).status == 2
    return job


def test_what_a_killed_submit_has_started_is_followed_by_its_task(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """Its task is the one that is new in the shared logon session."""
    share(shell)
    server.add_task("Finished ok", shared=True)
    job = killed_while_sending(shell, server, file)
    ran = shell("resume", file, *QUICK)
    assert ran.status == 1
    found, *events = ran.objects
    assert found["may_have_been_started"] is True
    assert [task["task_id"] for task in found["tasks"]] == ["task-2"]
    assert found["goes_on_as"] == "task-2"
    assert "task-2 is the one task that fits, so it is watched to its end" in ran.err
    assert events[-1]["is_final"]
    mine = [one for one in server.job_sessions if one.job is job]
    assert events[-1]["session"]["uid"].endswith(mine[-1].session_id)
    assert "Oracle" in ran.err
    # From then on it is a watch like any other.
    ran = shell("resume", file, *QUICK)
    assert (ran.status, ran.out) == (1, "")
    assert "that watch had ended" in ran.err
    assert _posts(server) == 1
    shell("logout")


@pytest.mark.parametrize("accept", ["xml", "json"])
def test_what_a_killed_submit_has_started_is_followed_by_its_run(
    shell: Here, server: ThreadedServer, file: str, accept: str
) -> None:
    """Under another logon session its task is not known, and the run is the only one.

    The runs of the days before, and a later one, are not taken for it.
    """
    job = killed_while_sending(shell, server, file)
    wait_for(lambda: any(one.job is job for one in server.job_sessions))
    ran = shell("resume", file, *QUICK, *_as(accept))
    assert ran.status == 1
    found, *events = ran.objects
    assert (found["tasks"], found["goes_on_as"]) == (None, "task-0")
    assert "it is the one run that fits, so it is followed to its end" in ran.err
    (run,) = found["sessions"]
    assert events[-1]["session"]["uid"] == run["uid"]
    assert (events[-1]["is_final"], events[-1]["succeeded"]) == (True, False)
    assert _posts(server) == 1


def _as(accept: str) -> list[str]:
    return ["--accept", "json"] if accept == "json" else []


def test_what_is_not_certain_is_told_and_not_followed(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """Of two runs, or of two tasks, nobody can say which one it is."""
    share(shell)
    job = killed_while_sending(shell, server, file)
    path = f"{job.path}?action=start"
    other = Path(file).with_name("other.json")
    other.write_text(Path(file).read_text())
    assert shell("submit", path, "--no-watch").status == 0
    ran = shell("resume", file, *QUICK)
    (found,) = ran.objects
    assert (ran.status, len(found["tasks"]), found["goes_on_as"]) == (3, 2, None)
    assert "none, or more than one, fits for certain" in ran.err
    assert f"look at the job, then delete {file}" in ran.err
    assert _posts(server) == 2
    shell("logout")


def test_an_action_without_a_trace_is_looked_for_as_long_as_said(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """It may be late; then it is said where to look, and nothing is sent."""
    killed_while_sending(shell, server, file, carried_out=False)
    ran = shell("resume", file, "--find-timeout", "2s")
    (found,) = ran.objects
    assert (ran.status, found["sessions"], found["goes_on_as"]) == (3, [], None)
    assert "no trace of it" in ran.err
    assert _posts(server) == 1


def test_what_resume_cannot_be_told_is_refused(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """It goes on as the watch was begun: an option without effect is an error."""
    share(shell)
    server.add_task("Running 40s, Finished ok", shared=True)
    shell("watch", "task-1", "--state", file, "--timeout", "0.5s")
    requests = len(server.requests)
    ran = shell("resume", file, "--follow")
    assert (ran.status, "leave it out" in ran.complaint) == (2, True)
    for option in (["--find-timeout", "1m"], ["--warnings-fail"]):
        ran = shell("resume", file, *option)
        assert ran.status == 2
        assert f"{option[0]}: the watch of {file} was begun without" in ran.complaint
    assert "\n  --follow" not in shell("help", "resume").out
    assert len(server.requests) == requests
    shell("logout")


def test_a_damaged_checkpoint_in_a_whole_file_is_told(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """With its place, and what to do."""
    share(shell)
    server.add_task("Running 40s, Finished ok", shared=True)
    shell("watch", "task-1", "--state", file, "--timeout", "0.5s")
    content = json.loads(Path(file).read_text())
    content["checkpoints"][""]["tasks"][0]["at"] = "noon"
    Path(file).write_text(json.dumps(content))
    ran = shell("resume", file)
    assert ran.status == 2
    assert (
        f"{file}: the checkpoint is damaged: tasks[0].at is not a time in seconds since"
        " 1970, but another text; watch the tasks anew, or delete the file"
    ) in ran.complaint
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


def test_of_an_ended_watch_of_another_server_nothing_is_told(
    shell: Here, server: ThreadedServer, file: str
) -> None:
    """It is refused, and not announced first."""
    task = server.add_task("Finished ok", shared=True)
    assert shell("watch", task.task_id, "--state", file).status == 0
    with ThreadedServer() as other:
        shell.set({"VEEAM_EM_URL": other.url})
        ran = shell("resume", file)
    assert ran.status == 2
    assert f"not of {other.url}" in ran.err
    assert "had ended" not in ran.err
