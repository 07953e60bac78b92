"""`submit --follow` and `watch --follow`: the exit status says if the backup worked."""

import re
from collections.abc import Iterator

import pytest
from support.command_line import QUICK, Here

from veeam_tasks.simulator import Job, ThreadedServer

FAST = "Starting 100ms, Working 400ms, Stopped"
SESSION_KEYS = {
    *("uid", "kind", "name", "job_name", "state", "result", "progress"),
    *("created_at", "ended_at", "is_retry", "href"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedServer]:
    """Give one server for all tests of this file."""
    with ThreadedServer(seed=1, job_links="never", speed=10) as server:
        yield server


@pytest.fixture
def server(running: ThreadedServer) -> Iterator[ThreadedServer]:
    """Give the server, and check that nobody stays logged on."""
    yield running
    running.faults.clear()
    assert running.expire_logon_sessions() == 0


def job(server: ThreadedServer, end: str, **options: object) -> Job:
    """Return a job of a name of its own whose job session ends so."""
    name = f"Oracle {len(server.jobs)}"
    return server.add_job(name, session=f"{FAST} {end}", **options)  # type: ignore[arg-type]


def test_a_backup_that_worked_is_status_0(shell: Here, server: ThreadedServer) -> None:
    """The last line of JSON has the job session, its result and its end."""
    one = job(server, "success")
    ran = shell("submit", "--job", one.name, "--follow", *QUICK)
    assert ran.status == 0
    first, *_, last = ran.objects
    assert first["stage"] == "task"
    assert first["session"] is None
    assert "failures" not in first
    assert last["stage"] == "session"
    assert set(last["session"]) == SESSION_KEYS
    assert last["session"]["job_name"] == one.name
    assert last["session"]["kind"] == "BackupJobSession"
    assert last["session"]["state"] == "Stopped"
    assert last["session"]["result"] == "Success"
    assert last["session"]["is_retry"] is False
    assert re.match(r"\d{4}-\d\d-\d\dT", last["session"]["created_at"])
    assert last["failures"] == []
    assert last["outcome"] == "succeeded"
    assert ran.err.splitlines()[-1] == "1 task: 1 succeeded, 0 failed"


def test_a_backup_that_failed_is_status_1_with_its_reasons(
    shell: Here, server: ThreadedServer
) -> None:
    """The first reason, and how many more machines there are."""
    machines = {
        "db01": "Completed failed 'No space'",
        "db02": "Completed failed 'No credentials'",
        "db03": "Completed",
    }
    one = job(server, "failed", machines=machines)
    ran = shell("submit", "--job", one.name, "--follow", *QUICK)
    assert ran.status == 1
    last = ran.objects[-1]
    assert last["outcome"] == "failed"
    assert last["failures"] == [
        {"vm": "db01", "result": "Failed", "reason": "No space"},
        {"vm": "db02", "result": "Failed", "reason": "No credentials"},
    ]
    line = f"{last['task_id']} failed ({one.name}): db01: No space (+1)"
    assert line in ran.err.splitlines()
    quiet = shell("submit", "--job", one.name, "--follow", "--quiet", *QUICK)
    assert quiet.status == 1
    assert quiet.complaint.endswith("): db01: No space (+1)")


def test_a_warning_is_status_0_unless_it_is_to_fail(
    shell: Here, server: ThreadedServer
) -> None:
    """`--warnings-fail` makes it 1; the count says how many there were."""
    machines = {"db01": "Completed warning 'Slow'", "db02": "Completed warning 'Slow'"}
    one = job(server, "warning", machines=machines)
    ran = shell("submit", "--job", one.name, "--follow", *QUICK)
    assert ran.status == 0
    assert ran.objects[-1]["session"]["result"] == "Warning"
    assert ran.err.splitlines()[-1] == (
        "1 task: 1 succeeded (1 with warnings), 0 failed"
    )
    ran = shell("submit", "--job", one.name, "--follow", "--warnings-fail", *QUICK)
    assert ran.status == 1


def test_without_follow_the_last_line_says_that_the_job_goes_on(
    shell: Here, server: ThreadedServer
) -> None:
    """And how to follow it; an action that starts nothing has no such line."""
    one = job(server, "failed")
    ran = shell("submit", "--job", one.name, *QUICK)
    assert ran.status == 0
    assert ran.err.splitlines()[-1] == (
        "the job goes on: that was its start; --follow tells how it ends"
    )
    ran = shell("submit", "--job", one.name, "--action", "toggleScheduleEnabled")
    assert "goes on" not in ran.err


def test_watch_follows_too(shell: Here, server: ThreadedServer) -> None:
    """A task that this command has not started is followed by its link."""
    one = job(server, "failed")
    task = server.add_task("Finished", job=one, session=f"{FAST} failed", shared=True)
    ran = shell("watch", task.task_id, "--follow", *QUICK)
    assert ran.status == 1
    assert ran.objects[-1]["session"]["result"] == "Failed"


def test_a_session_that_is_not_found_is_status_1(
    shell: Here, server: ThreadedServer
) -> None:
    """It is lost, and the reason says how long it was searched."""
    task = server.add_task("Finished", operation="StartJob", shared=True)
    ran = shell("watch", task.task_id, "--follow", "--find-timeout", "1s", *QUICK)
    assert ran.status == 1
    assert ran.objects[-1]["state"] == "Lost"
    assert "linked to no job session within 1 s" in ran.err


def test_a_job_session_that_is_searched_for_is_no_unfinished_task(
    shell: Here, server: ThreadedServer
) -> None:
    """The task has finished; nothing of it goes on at the server."""
    begun = server.add_task("Finished", operation="StartJob", shared=True).task_id
    words = ("--follow", "--timeout", "1.5s", *QUICK)
    ran = shell("watch", begun, *words)
    assert ran.status == 124
    assert ran.objects[-1]["stage"] == "searching"
    assert f"finished, but the job session is not found yet: {begun}\n" in ran.err
    assert "with the job session of 1 of 1 task not found yet\n" in ran.err
    assert "go on" not in ran.err
    slow = server.add_task("Running", shared=True).task_id
    ran = shell("watch", begun, slow, *words)
    assert f"unfinished, and still under way at the server: {slow}\n" in ran.err
    assert f"finished, but the job session is not found yet: {begun}\n" in ran.err
    assert (
        "with 1 of 2 tasks unfinished and the job session of 1 of 2 tasks not found"
        " yet; what is unfinished goes on at the server\n"
    ) in ran.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--find-timeout", "5m"], "--find-timeout goes with --follow"),
        (["--warnings-fail"], "--warnings-fail goes with --follow"),
        (["--follow", "--find-timeout", "0"], "more than 0 seconds"),
    ],
)
def test_options_that_do_not_go_together_are_status_2(
    shell: Here, arguments: list[str], text: str
) -> None:
    """Nothing is sent."""
    ran = shell("watch", "task-1", *arguments)
    assert ran.status == 2
    assert text in ran.err
    ran = shell("submit", "jobs/1?action=start", "--follow", "--no-watch")
    assert ran.status == 2
    assert "--no-watch does not" in ran.err
