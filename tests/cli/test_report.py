"""`--report FILE`: a page for people, of whatever a watch delivered."""

import os
import re
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.command_line import COMMAND, QUICK, Here, clean_environment, settings_of
from support.deliveries import night
from support.managers import direct

from veeam_tasks.cli._onlookers import ReportFile
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer, ThreadedServer

pytest.importorskip("jinja2")

from veeam_tasks.report import render, write

pytestmark = pytest.mark.virtual_time(debug=False)

JOB = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedServer]:
    """Give one server for all tests of this file."""
    with ThreadedServer(seed=1) as server:
        yield server


def test_a_watch_leaves_a_report(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """With the failure, its reason and the server, and without account or secret."""
    task = server.add_task("Running 1s, Finished failed 'Disk <full>'", shared=True)
    file = tmp_path / "night.html"
    ran = shell("watch", task.task_id, "--report", str(file), *QUICK)
    assert ran.status == 1
    page = file.read_text(encoding="utf-8")
    assert "The one task failed." in page
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
    assert "The one task was left unfinished." in page


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


def test_nothing_takes_the_place_of_what_is_no_file(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """A device, a pipe, or what a link leads to: a page would be all that is left."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    server.requests.clear()
    for name in (str(pipe), str(tmp_path / "link")):
        ran = shell("watch", "task-1", "--report", name)
        assert ran.status == 2
        assert ran.complaint.endswith("cannot be written: it is no file")
    ran = shell("watch", "task-1", "--report", str(tmp_path / ("x" * 300)))
    assert ran.status == 2
    assert ran.complaint.endswith("cannot be written: File name too long")
    assert not server.requests
    assert pipe.is_fifo()


@pytest.mark.parametrize("what", ["refused", "away", "no job", "forbidden"])
def test_a_night_that_did_not_begin_leaves_no_report_of_the_one_before(
    shell: Here, server: ThreadedServer, tmp_path: Path, what: str
) -> None:
    """It says why nothing was watched, and neither account nor password."""
    file = tmp_path / "night.html"
    file.write_text("All is well.", encoding="utf-8")
    arguments = ["watch", "task-1"]
    if what == "refused":
        shell.set({"VEEAM_EM_PASSWORD": "a wrong one"})
    elif what == "away":
        shell.set({"VEEAM_EM_URL": "http://127.0.0.1:9"})
    elif what == "no job":
        arguments = ["submit", "--job", "Nonesuch"]
    else:
        server.faults.add(Fault(FaultKind.STATUS, status=403, path="jobs", times=1))
        arguments = ["submit", JOB]
    ran = shell(*arguments, "--report", str(file))
    assert ran.status in {2, 3, 4}
    page = file.read_text(encoding="utf-8")
    assert "No task was seen." in page
    assert "Nothing was watched." in page
    assert server.username not in page
    assert "a wrong one" not in page


def test_a_resumed_watch_leaves_a_report_of_both_parts(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """What ended before stands in it as well, and what goes on is told apart."""
    line = shell("logon").out
    found = re.findall(r"export (\w+)='?([^'\n]*)", line)
    shell.set(dict(found))
    soon = server.add_task("Running 1s, Finished failed 'Disk full'", shared=True)
    late = server.add_task("Running 300s, Finished", shared=True)
    state, file = tmp_path / "run.json", tmp_path / "night.html"
    ids = [soon.task_id, late.task_id]
    first = shell("watch", *ids, "--state", str(state), "--timeout", "3s", *QUICK)
    assert first.status == 124
    late.finish()
    ran = shell("resume", str(state), "--report", str(file), *QUICK)
    assert ran.status == 1
    page = file.read_text(encoding="utf-8")
    assert "Of 2 tasks, 1 failed; 1 succeeded." in page
    assert "Disk full" in page
    again = shell("resume", str(state), "--report", str(file), "--metrics", ":0")
    assert again.status == 1
    assert "metrics: http://127.0.0.1:" in again.err
    assert "Of 2 tasks, 1 failed; 1 succeeded." in file.read_text(encoding="utf-8")


def is_whole(page: str) -> bool:
    """Tell whether a page has both of its ends."""
    return page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")


async def test_the_page_is_written_each_minute(tmp_path: Path) -> None:
    """At once, then each minute, and at the end without waiting for the next."""
    file = tmp_path / "night.html"
    async with SimulatedServer() as server, direct(server) as em:
        server.add_task("Running 90s, Finished")
        kept = ReportFile(str(file))
        kept.begin(em)
        watch = em.watch("task-1")
        kept.expect(list(watch.report.outcomes))
        await anyio.sleep(1)
        assert verdict_of(file) == "The one task was not seen yet."
        kept.event(await anext(watch))
        await anyio.sleep(58)
        assert verdict_of(file) == "The one task was not seen yet."
        await anyio.sleep(2)
        assert verdict_of(file) == "The one task is still under way."
        async for event in watch:
            kept.event(event)
        assert verdict_of(file) == "The one task is still under way."
        await kept.finish()
    assert verdict_of(file) == "The one task succeeded."


def verdict_of(file: Path) -> str:
    """Return the sentence at the top of a page that is whole."""
    page = file.read_text(encoding="utf-8")
    assert is_whole(page)
    found = re.search(r"<h1[^>]*>(.*?)</h1>", page)
    assert found is not None
    return found[1]


def test_a_reader_never_finds_half_a_page(tmp_path: Path) -> None:
    """However often it looks while pages of different lengths are written."""
    file = tmp_path / "night.html"
    pages = [render(night(count)) for count in (20, 500)]
    write(file, pages[0])
    found, is_over = set(), threading.Event()

    def read() -> None:
        while not is_over.is_set():
            found.add(file.read_text(encoding="utf-8"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for at in range(200):
            write(file, pages[at % 2])
    finally:
        is_over.set()
        reader.join()
    assert found <= set(pages)
    assert found


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
