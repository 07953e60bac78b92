"""`--report FILE`: a page for people, of whatever a watch delivered."""

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import COMMAND, QUICK, Here, clean_environment, settings_of

from veeam_tasks.simulator import ThreadedServer

pytest.importorskip("jinja2")

JOB = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedServer]:
    """Give one server for all tests of this file."""
    with ThreadedServer(seed=1) as server:
        yield server


@pytest.fixture
def shell(
    server: ThreadedServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Here:
    """Run command lines here, with settings that log on to the server."""
    here = Here(capsys, monkeypatch)
    here.set({name: None for name in os.environ if name.startswith("VEEAM_EM_")})
    here.set(settings_of(server))
    return here


def test_a_watch_leaves_a_report(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """With the failure, its reason and the server, and without account or secret."""
    task = server.add_task("Running 1s, Finished failed 'Disk <full>'", shared=True)
    file = tmp_path / "night.html"
    ran = shell("watch", task.task_id, "--report", str(file), *QUICK)
    assert ran.status == 1
    page = file.read_text(encoding="utf-8")
    assert "Of 1 task, 1 failed." in page
    assert "Disk &lt;full&gt;" in page
    assert server.url in page
    assert server.username not in page
    assert server.password not in page
    assert list(tmp_path.iterdir()) == [file]


def test_what_cut_a_watch_short_stands_in_the_report(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """In the words that the shell says."""
    task = server.add_task("Running", shared=True)
    file = tmp_path / "night.html"
    ran = shell("watch", task.task_id, "--timeout", "1s", "--report", str(file))
    assert ran.status == 124
    page = file.read_text(encoding="utf-8")
    assert "Watching ended early." in page
    assert "1 was left unfinished" in page


def test_submit_leaves_one_too(shell: Here, tmp_path: Path) -> None:
    """Of the one task that it started."""
    file = tmp_path / "night.html"
    assert shell("submit", JOB, "--report", str(file), *QUICK).status == 0
    assert "The one task succeeded." in file.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_refused_at_once(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """Before anything is sent."""
    server.requests.clear()
    ran = shell("watch", "task-1", "--report", str(tmp_path / "nowhere" / "x.html"))
    assert ran.status == 2
    assert "--report" in ran.err
    assert shell("watch", "task-1", "--report", str(tmp_path)).status == 2
    assert not server.requests


def test_an_interrupted_watch_leaves_a_report(
    server: ThreadedServer, tmp_path: Path
) -> None:
    """One is there from the beginning, and the last one says what happened."""
    task = server.add_task("Running", shared=True)
    file = tmp_path / "night.html"
    with subprocess.Popen(
        [*COMMAND, "watch", task.task_id, "--report", str(file)],
        env=clean_environment(**settings_of(server)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    page = file.read_text(encoding="utf-8")
    assert "It was interrupted; the tasks go on." in page
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
