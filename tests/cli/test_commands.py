"""The shell through a pipe: every command, what it prints, how it ends."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from click.shell_completion import ShellComplete
from support.command_line import (
    QUICK,
    Here,
    Ran,
    clean_environment,
    elsewhere,
    settings_of,
)

import veeam_tasks as vt
from veeam_tasks.cli._explain import explain
from veeam_tasks.cli._main import main
from veeam_tasks.simulator import Fault, FaultKind, ThreadedServer

JOB = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"
SHORT = "Running 100ms, OperationFinished 100ms, Finished"
EVENT_KEYS = {
    *("task_id", "sequence", "previous", "state", "raw_state", "operation"),
    *("is_final", "succeeded", "outcome", "message", "error", "observed_at"),
    *("not_before", "related", "stage", "session"),
}
TASK_KEYS = {
    *("task_id", "state", "raw_state", "operation", "is_finished", "succeeded"),
    *("message", "related"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[ThreadedServer]:
    """Give one server with TLS for all tests of this file."""
    with ThreadedServer(tls=True, seed=1, job_links="always") as server:
        yield server


@pytest.fixture
def server(running: ThreadedServer) -> Iterator[ThreadedServer]:
    """Give the server, and check that nobody stays logged on."""
    running.requests.clear()
    yield running
    running.faults.clear()
    left = running.expire_logon_sessions()
    assert left == 0


# --- watch


def test_watch_writes_an_object_for_each_event(
    shell: Here, server: ThreadedServer
) -> None:
    """Each event is one line of JSON with the documented keys, in their order."""
    task = server.add_task(SHORT, operation="StartVMRestore", shared=True)
    ran = shell("watch", task.task_id, *QUICK)
    assert ran.status == 0
    *others, last = ran.objects
    assert all(set(line) == EVENT_KEYS for line in others)
    assert set(last) == {*EVENT_KEYS, "failures"}
    count = len(ran.objects)
    assert [line["sequence"] for line in ran.objects] == list(range(1, count + 1))
    states = [None, *(line["state"] for line in ran.objects)]
    assert [line["previous"] for line in ran.objects] == states[:-1]
    last = ran.objects[-1]
    assert last["state"] == "Finished"
    assert (last["is_final"], last["succeeded"], last["outcome"]) == (
        True,
        True,
        "succeeded",
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", last["observed_at"]
    )
    assert ran.complaint == "1 task: 1 succeeded, 0 failed"


def test_a_failed_task_is_exit_status_1_and_a_line(
    shell: Here, server: ThreadedServer
) -> None:
    """A failure is told on standard error with the server's words."""
    good = server.add_task("Finished", shared=True).task_id
    bad = server.add_task("Finished failed 'Disk full'", shared=True).task_id
    ran = shell("watch", good, bad, *QUICK)
    assert ran.status == 1
    assert ran.err.splitlines() == [
        f"{bad} failed (StartJob): Disk full",
        "2 tasks: 1 succeeded, 1 failed",
    ]


def test_quiet_tells_failures_only(shell: Here, server: ThreadedServer) -> None:
    """With --quiet nothing is printed but what went wrong."""
    good = server.add_task("Finished", shared=True).task_id
    assert shell("watch", good, "--quiet") == Ran(0, "", "")
    bad = server.add_task("Finished failed 'Disk full'", shared=True).task_id
    ran = shell("watch", good, bad, "--quiet")
    assert (ran.status, ran.out) == (1, "")
    assert ran.complaint == f"{bad} failed (StartJob): Disk full"
    ran = shell("watch", good, bad, "--quiet", "--json")
    assert len(ran.objects) == 2
    assert ran.err == ""


def test_a_watch_out_of_time_is_exit_status_124(
    shell: Here, server: ThreadedServer
) -> None:
    """Out of time counts before a failure; the unfinished tasks are named."""
    bad = server.add_task("Finished failed", shared=True).task_id
    slow = server.add_task("Running", shared=True).task_id
    ran = shell("watch", bad, slow, "--timeout", "1.5s", *QUICK)
    assert ran.status == 124
    assert f"unfinished, and still under way at the server: {slow}" in ran.err
    assert "time ran out after 1.5 s with 1 of 2 tasks unfinished" in ran.err
    ran = shell("watch", slow, "--timeout", "0.1s", "--quiet")
    assert ran.status == 124
    assert slow in ran.err


def test_fail_fast_ends_with_the_first_failure(
    shell: Here, server: ThreadedServer
) -> None:
    """With --fail-fast the tasks that go on do not hold the command."""
    slow = server.add_task("Running", shared=True).task_id
    bad = server.add_task("Finished failed", shared=True).task_id
    ran = shell("watch", slow, bad, "--fail-fast", *QUICK)
    assert ran.status == 1
    assert f"unfinished, and still under way at the server: {slow}" in ran.err


def test_watch_all_ends_quietly_at_its_timeout(shell: Here) -> None:
    """The end of the time is the end of a watch of everything."""
    with ThreadedServer() as server:
        shell.set({**settings_of(server), "VEEAM_EM_CA_FILE": None})
        server.add_tasks(3, shared=True)
        ran = shell("watch", "--all", "--timeout", "1.5s", *QUICK)
    assert ran.status == 0
    assert {line["task_id"] for line in ran.objects} == {"task-1", "task-2", "task-3"}
    assert "3 unfinished" in ran.err


def test_ids_come_from_files_and_lines_of_json(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """A file may hold IDs, Hrefs, comments and the lines that `list` prints."""
    ids = [server.add_task("Finished", shared=True).task_id for _ in range(4)]
    file = tmp_path / "ids"
    file.write_text(
        f"\ufeff# what ran last night\n{ids[0]} {ids[1]} # two\n\n"
        f'{{"task_id": "{ids[2]}"}}\n'
    )
    href = f"{server.url}/api/tasks/{ids[3]}"
    ran = shell("watch", href, "--file", str(file))
    assert ran.status == 0
    assert {line["task_id"] for line in ran.objects} == set(ids)


def test_ids_come_from_standard_input(server: ThreadedServer) -> None:
    """`-` and `--file -` read standard input; none at all is a usage error.

    Else a pipe from a command that failed would look like a success.
    """
    ids = [server.add_task("Finished", shared=True).task_id for _ in range(2)]
    ran = elsewhere(["watch", "-"], settings_of(server), typed="\n".join(ids))
    assert ran.status == 0
    assert {line["task_id"] for line in ran.objects} == set(ids)
    ran = elsewhere(["watch", "--file", "-"], settings_of(server))
    assert (ran.status, ran.out) == (2, "")
    assert ran.complaint == "veeam-tasks watch: nothing to watch: no task IDs came"


def test_a_fresh_logon_that_knows_no_task_says_why(
    shell: Here, server: ThreadedServer
) -> None:
    """IDs of another logon session are lost, and what to do is said once."""
    ran = shell("watch", "task-777", "task-778", *QUICK)
    assert ran.status == 1
    assert [line["outcome"] for line in ran.objects] == ["lost", "lost"]
    advice = [line for line in ran.err.splitlines() if "belongs to the logon" in line]
    assert len(advice) == 1
    assert "task-777 lost: this logon session does not know it" in ran.err
    assert "'veeam-tasks logon --help'" in advice[0]
    assert "em.token" not in ran.err


def test_patience_bounds_an_outage(shell: Here, server: ThreadedServer) -> None:
    """With --patience a long outage ends the watch with status 3."""
    task = server.add_task("Running", shared=True)
    server.faults.add(Fault("status", path="tasks", status=503))
    ran = shell("watch", task.task_id, "--patience", "0.3s", *QUICK)
    assert ran.status == 3
    assert "1 unfinished" in ran.err
    assert "away for longer than --patience allows: it answers 503" in ran.err


def test_a_token_that_dies_in_mid_watch_is_exit_status_4(
    shell: Here, server: ThreadedServer
) -> None:
    """A refused logon counts before the failures that were seen."""
    bad = server.add_task("Finished failed", shared=True).task_id
    slow = server.add_task("Running", shared=True).task_id
    void = f"{slow}|task-0"
    server.faults.add(Fault("unauthorized", method="GET", path=void, after=2))
    server.faults.add(Fault("unauthorized", path="sessionMngr", after=1))
    ran = shell("watch", bad, slow, *QUICK)
    assert ran.status == 4
    assert "refused the logon with 401" in ran.err
    assert server.expire_logon_sessions() == 1  # that of the refused token


def test_server_text_is_harmless(shell: Here, server: ThreadedServer) -> None:
    """Control characters are visible on standard error and escaped in JSON."""
    text = "[bold]red[/bold] \x9b31m \u202e end"
    task = server.add_task(f"Finished failed '{text}'", shared=True)
    ran = shell("watch", task.task_id)
    assert ran.objects[-1]["message"] == text
    assert ran.out.isascii()
    assert f"{task.task_id} failed (StartJob): [bold]red[/bold] \\x9b31m" in ran.err


# --- watch --simulate


def test_simulate_needs_nothing_and_one_task_fails(bare: Here) -> None:
    """`watch --simulate` ends with every task Finished and exactly one failed."""
    ran = bare("watch", "--simulate", "5", "--speed", "20")
    assert ran.status == 1
    states: dict[str, list[str]] = {}
    for line in ran.objects:
        states.setdefault(line["task_id"], []).append(line["state"])
    assert len(states) == 5
    assert all(
        set(seen) <= {"Running", "OperationFinished", "Finished"}
        and seen[-1] == "Finished"
        for seen in states.values()
    )
    assert sum(line["outcome"] == "failed" for line in ran.objects) == 1
    assert "5 tasks: 4 succeeded, 1 failed" in ran.err


def test_a_single_simulated_task_fails(bare: Here) -> None:
    """Of one task it is that one."""
    ran = bare("watch", "--simulate", "1", "--speed", "100")
    assert (ran.status, ran.objects[-1]["outcome"]) == (1, "failed")


# --- list, get, submit, delete


def test_list_prints_the_tasks_of_the_logon_session(shell: Here) -> None:
    """An object a task; the exit status is 0 whatever the results."""
    with ThreadedServer() as server:
        shell.set({**settings_of(server), "VEEAM_EM_CA_FILE": None})
        ran = shell("list")
        assert (ran.status, ran.out) == (0, "")
        assert "knows no tasks, since it is new" in ran.complaint
        assert shell("list", "--quiet") == Ran(0, "", "")
        server.add_task("Finished failed 'Disk full'", shared=True)
        ran = shell("list")
        assert (ran.status, ran.err) == (0, "")
        [task] = ran.objects
        assert set(task) == TASK_KEYS
        assert (task["succeeded"], task["message"]) == (False, "Disk full")


def test_get_prints_tasks_and_goes_on_after_an_unknown_one(
    shell: Here, server: ThreadedServer
) -> None:
    """An unknown ID is a line and status 3; the others are printed."""
    task = server.add_task("Finished failed", shared=True)
    ran = shell("get", task.task_id)
    assert (ran.status, ran.objects[0]["succeeded"]) == (0, False)
    ran = shell("get", "task-777", task.task_id)
    assert ran.status == 3
    assert ran.objects[0]["task_id"] == task.task_id
    assert "no backup task with id [task-777]" in ran.complaint
    assert "'submit'" in ran.complaint


def test_submit_watches_what_it_started(shell: Here, server: ThreadedServer) -> None:
    """The job's task is followed to its end, over the logon that started it."""
    server.set_script(SHORT)
    ran = shell("submit", JOB, *QUICK)
    assert ran.status == 0
    assert ran.objects[-1]["outcome"] == "succeeded"
    assert ran.objects[-1]["related"][0]["type"] == "ReplicaJobSession"
    assert server.logons.total >= 1


def test_submit_without_watching_warns_of_the_lost_logon(
    shell: Here, server: ThreadedServer
) -> None:
    """With --no-watch the task is printed; its logon session ends with the command."""
    ran = shell("submit", JOB, "--no-watch")
    assert ran.status == 0
    assert ran.objects[0]["operation"] == "StartJob"
    assert "the logon session of" in ran.complaint


def test_submit_sends_a_body(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """The file of --body is sent as it is, once."""
    body = tmp_path / "body.xml"
    body.write_text("<JobStartSpec/>")
    server.set_script("Finished")
    ran = shell("submit", JOB, "--body", str(body), *QUICK)
    assert ran.status == 0
    [sent] = [one for one in server.requests if "action=start" in one.query]
    assert sent.body == b"<JobStartSpec/>"


def test_submit_says_when_it_may_have_been_carried_out(
    shell: Here, server: ThreadedServer
) -> None:
    """Without an answer, the line says so and how to find out; status 3."""
    server.faults.add(Fault("drop", path="action=start"))
    ran = shell("submit", JOB)
    assert ran.status == 3
    assert "may have been carried out: see with 'veeam-tasks jobs'" in ran.complaint
    assert len([one for one in server.requests if "action=start" in one.query]) == 1


def test_delete_tells_what_it_deleted(shell: Here, server: ThreadedServer) -> None:
    """Each deleted task is an object; an unknown one is a line and status 3."""
    task = server.add_task("Running", shared=True)
    ran = shell("delete", "task-777", task.task_id)
    assert ran.status == 3
    assert ran.objects == [{"task_id": task.task_id, "deleted": True}]
    assert "task-777" in ran.complaint
    assert task.is_deleted


def test_forbidden_is_exit_status_4(shell: Here, server: ThreadedServer) -> None:
    """What this account may not do is status 4, as a refused logon is."""
    server.faults.add(Fault("forbidden", path="action=start"))
    ran = shell("submit", JOB)
    assert ran.status == 4
    assert "403" in ran.complaint


# --- logon, logout, fingerprint


def exports(text: str) -> dict[str, str]:
    """Return what the lines of `logon` set."""
    return dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))


def test_logon_shares_its_logon_session_with_later_commands(
    shell: Here, server: ThreadedServer
) -> None:
    """Later commands use the printed token, never end it, and `logout` does."""
    ran = shell("logon")
    assert (ran.status, ran.err) == (0, "")
    printed = exports(ran.out)
    assert set(printed) == {
        *("VEEAM_EM_URL", "VEEAM_EM_TOKEN", "VEEAM_EM_SESSION_ID", "VEEAM_EM_CA_FILE")
    }
    logons = server.logons.total
    shell.set({**printed, "VEEAM_EM_USERNAME": None, "VEEAM_EM_PASSWORD": None})
    started = shell("submit", JOB, "--no-watch")
    assert (started.status, started.err) == (0, "")
    task_id = started.objects[0]["task_id"]
    assert task_id in {task["task_id"] for task in shell("list").objects}
    assert len(server.logon_sessions) == 1
    assert server.logons.total == logons
    ran = shell("logout")
    assert ran.status == 0
    assert ran.out == "unset VEEAM_EM_TOKEN\nunset VEEAM_EM_SESSION_ID\n"
    assert server.logon_sessions == []


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ("Hostname mismatch, certificate is not valid for 'a'", "name the server in"),
        ("certificate has expired", "let the certificate be renewed, or pin it"),
        ("self-signed certificate", "name its CA with"),
    ],
)
def test_what_helps_depends_on_why_a_certificate_is_not_trusted(
    detail: str, words: str
) -> None:
    """No CA helps against a wrong name or an old certificate."""
    error = vt.CertificateError(
        request="GET https://a:9398/api/",
        reason=detail,
        detail=detail,
        fingerprint="AB:CD",
    )
    assert words in explain(error)


def test_a_dead_token_is_exit_status_4(shell: Here, server: ThreadedServer) -> None:
    """Commands say what to do; for `logout` there is only something to forget."""
    shell.set(exports(shell("logon").out))
    server.expire_logon_sessions()
    ran = shell("list")
    assert ran.status == 4
    assert ran.complaint.endswith(
        'has ended: open another one with eval "$(veeam-tasks logon)", or unset'
        " VEEAM_EM_TOKEN"
    )
    ran = shell("logout", "--powershell")
    assert ran.status == 4
    assert ran.complaint.endswith("of VEEAM_EM_TOKEN had ended already")
    assert "Remove-Item Env:VEEAM_EM_TOKEN" in ran.out


def test_a_logout_that_is_not_confirmed_is_exit_status_3(
    shell: Here, server: ThreadedServer
) -> None:
    """The logon session may still be open, so nothing is forgotten."""
    shell.set(exports(shell("logon").out))
    fault = server.faults.add(Fault("status", path="logonSessions", status=503))
    ran = shell("logout")
    assert (ran.status, ran.out) == (3, "")
    assert "503" in ran.complaint
    server.faults.remove(fault)
    assert shell("logout").status == 0


def test_an_account_on_the_command_line_counts_more_than_a_token(
    shell: Here, server: ThreadedServer
) -> None:
    """With --username a command logs on by itself, whatever VEEAM_EM_TOKEN says."""
    shell.set({"VEEAM_EM_TOKEN": "ZGVhZA=="})
    assert shell("list", "--username", server.username).status == 0


def test_logout_without_a_logon_session_is_a_usage_error(shell: Here) -> None:
    """There is nothing to end without VEEAM_EM_TOKEN."""
    ran = shell("logout")
    assert ran.status == 2
    assert "VEEAM_EM_TOKEN is not set" in ran.complaint
    shell.set({"VEEAM_EM_TOKEN": "b3BhcXVl!"})
    ran = shell("logout")
    assert ran.status == 2
    assert "VEEAM_EM_SESSION_ID is needed" in ran.complaint


def test_fingerprint_sends_nothing_but_a_handshake(
    bare: Here, server: ThreadedServer
) -> None:
    """The certificate is told, no request is sent, and the pin is taken."""
    ran = bare("fingerprint", server.url)
    [found] = ran.objects
    assert ran.status == 0
    assert found["fingerprint"].replace(":", "").lower() == server.fingerprint
    assert "127.0.0.1" in found["names"]
    assert len(server.requests) == 0
    bare.set(settings_of(server, trust=False))
    assert bare("list", "--fingerprint", found["fingerprint"]).status == 0


# --- passwords


def test_the_password_comes_from_a_file(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """A file that others may read gets a warning, and is used all the same."""
    file = tmp_path / "password"
    file.write_text(f"{server.password}\n")
    file.chmod(0o600)
    shell.set({"VEEAM_EM_PASSWORD": None})
    ran = shell("list", "--quiet", "--password-file", str(file))
    assert (ran.status, ran.err) == (0, "")
    file.chmod(0o640)
    ran = shell("list", "--quiet", "--password-file", str(file))
    assert ran.status == 0
    assert f"others may read {file} (mode 640); run: chmod 600" in ran.complaint


def test_the_password_comes_from_a_command_that_sees_no_secret(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """The command runs without a shell, and our secrets are not in its environment."""
    script = tmp_path / "give.py"
    script.write_text(
        "import os, sys\n"
        "assert not {'VEEAM_EM_PASSWORD', 'VEEAM_EM_TOKEN', 'VEEAM_EM_SESSION_ID'}"
        " & set(os.environ)\n"
        "assert sys.argv[1:] == ['$HOME; x']\n"
        f"print({server.password!r})\n"
    )
    shell.set({"VEEAM_EM_PASSWORD": "secret", "VEEAM_EM_TOKEN": "secret"})
    command = f"{sys.executable} {script} '$HOME; x'"
    ran = shell("list", "--quiet", "--password-command", command)
    assert (ran.status, ran.err) == (0, "")


def test_a_password_file_is_read_anew_at_each_logon(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """A renewal of the logon takes the password that the command prints then."""
    counter = tmp_path / "count"
    script = tmp_path / "give.py"
    script.write_text(
        f"open({str(counter)!r}, 'a').write('x')\nprint({server.password!r})\n"
    )
    task = server.add_task("Running 2s, Finished", shared=True)
    # The task is refused once, and then one that cannot be there.
    void = f"{task.task_id}|task-0"
    server.faults.add(Fault("unauthorized", method="GET", path=void, after=1, times=2))
    command = f"{sys.executable} {script}"
    ran = shell("watch", task.task_id, "--password-command", command, *QUICK)
    assert ran.status == 0
    assert counter.read_text() == "xx"
    assert "logged on anew" in ran.err
    assert server.expire_logon_sessions() == 1  # that of the refused token


# --- wrong input: one line, the right status, no traceback


WRONG: list[tuple[list[str], dict[str, str | None], int, str]] = [
    (["list"], {"VEEAM_EM_URL": None}, 2, "pass --url, or set VEEAM_EM_URL"),
    (["list", "--url", "em.example"], {}, 2, "write https://em.example"),
    (["list", "--url", "ftp://em.example"], {}, 2, "no https:// URL"),
    (["list", "--url", "https://u:hush@em"], {}, 2, "user information"),
    (["list", "--url", "http://em.example"], {}, 2, "--insecure"),
    (["list", "--proxy", "http://u:hush@p:1"], {}, 2, "set VEEAM_EM_PROXY"),
    (["list"], {"VEEAM_EM_PROXY": "nonsense"}, 2, "proxy"),
    (["list"], {"VEEAM_EM_USERNAME": None}, 2, "pass --username"),
    (["list"], {"VEEAM_EM_PASSWORD": None}, 2, "set VEEAM_EM_PASSWORD"),
    (["list", "--username", "a:b"], {}, 2, "colon"),
    (["list", "--password-file", "/nonexistent"], {}, 2, "cannot be read"),
    (["list", "--password-file", "EMPTY"], {}, 2, "gave nothing"),
    (["list", "--password-file", "LINES"], {}, 2, "gave 2 lines"),
    (["list", "--password-file", "BYTES"], {}, 2, "no text in UTF-8"),
    (["list", "--password-command", "'"], {}, 2, "--password-command"),
    (["list", "--password-command", " "], {}, 2, "it is empty"),
    (["list", "--password-command", "/nonexistent"], {}, 2, "cannot be run"),
    (["list", "--password-command", "false"], {}, 2, "exited with 1"),
    (
        ["list", "--password-command", "a", "--password-file", "b"],
        {},
        2,
        "pass one of them",
    ),
    (
        ["list"],
        {"VEEAM_EM_PASSWORD": "wrong"},
        4,
        "the password; it is not tried again",
    ),
    (["list", "--password-file", "OLD"], {}, 4, "the password of --password-file; it"),
    (["list"], {"VEEAM_EM_CA_FILE": None}, 3, "--fingerprint"),
    (["list"], {"VEEAM_EM_CA_FILE": "/nonexistent"}, 2, "VEEAM_EM_CA_FILE /non"),
    (["list", "--ca-file", "OTHER_CA"], {}, 3, "let --ca-file hold the CA that issued"),
    (["list", "--fingerprint", "abc"], {}, 2, "--fingerprint must be a SHA-256"),
    (["list"], {"VEEAM_EM_FINGERPRINT": "ab" * 32}, 2, "one of them at most"),
    (["list", "--fingerprint", "ab" * 32], {}, 3, "someone may be in between"),
    (["list", "--url", "https://127.0.0.1:1"], {}, 3, "127.0.0.1:1"),
    (["list", "--request-timeout", "soon"], {}, 2, "write 90, 90s, 10m or 2h"),
    (["list", "--log-file", "/nonexistent/log"], {}, 2, "cannot be written"),
    (["list", "--frobnicate"], {}, 2, "No such option"),
    (["frobnicate"], {}, 2, "there is no command 'frobnicate'"),
    (["job"], {}, 2, "did you mean 'jobs'?"),
    (["jobs", "--url", "http://127.0.0.1:99999"], {}, 2, ": Port out of range"),
    (["list", "--request-timeuot", "9"], {}, 2, "'; did you mean '--request-timeout'"),
    (["get"], {}, 2, "Missing argument"),
    (["get", "frob"], {}, 2, "names no task: pass an ID like 'task-7' or"),
    (["watch"], {}, 2, "pass one of these"),
    (["watch", "task-1", "--all"], {}, 2, "pass one of these"),
    (["watch", "--file", "/nonexistent"], {}, 2, "cannot be read"),
    (["watch", "--file", "FOLDER"], {}, 2, "cannot be read"),
    (["watch", "--file", "BYTES"], {}, 2, "no text in UTF-8"),
    (["watch", "--file", "LINES"], {}, 2, "line 1 of "),
    (["watch", "--file", "OBJECT"], {}, 2, "no JSON object with a task_id"),
    (["watch", "--simulate", "0"], {}, 2, "'0' is no whole number from 1 to 100000"),
    (["watch", "--simulate", "x"], {}, 2, "'x' is no whole number from 1 to 100000"),
    (["watch", "--simulate", "1", "--speed", "nan"], {}, 2, "is no number from 0.01"),
    (["watch", "--simulate", "1", "--state", "NEW"], {}, 2, "does not go with --simul"),
    (["watch", "task-1", "--speed", "2"], {}, 2, "--speed goes with --simulate"),
    (["watch", "task-1", "--longest-pause", "1h"], {}, 2, "600 s at most"),
    (["submit", "../secrets"], {}, 2, "names no resource"),
    (["submit", f"http://other.example/api/{JOB}"], {}, 2, "that is another server"),
    (["submit", JOB, "--body", "/nonexistent"], {}, 2, "cannot be read"),
    (["submit", "jobs/nope?action=start"], {}, 3, "404"),
    (["fingerprint"], {"VEEAM_EM_URL": None}, 2, "name its URL"),
    (["fingerprint", "http://127.0.0.1"], {}, 2, "no TLS"),
    (["fingerprint", "https://127.0.0.1:1"], {}, 3, "127.0.0.1:1"),
    (["simulate", "--port", "TAKEN"], {}, 2, "--port 0 takes one"),
]


@pytest.mark.parametrize(
    "case",
    WRONG,
    ids=[f"{' '.join(arguments)}: {words}" for arguments, _, _, words in WRONG],
)
def test_wrong_input_is_one_line(
    shell: Here,
    server: ThreadedServer,
    tmp_path: Path,
    case: tuple[list[str], dict[str, str | None], int, str],
) -> None:
    """Each kind of wrong input is one clear line and the right exit status."""
    arguments, variables, status, words = case
    for name, content in {
        "EMPTY": b"",
        "OLD": b"old-secret",
        "LINES": b"one\ntwo",
        "BYTES": b"\xff\xfe\xfa",
        "OBJECT": b'{"id": 7}',
        "OTHER_CA": trustme.CA().cert_pem.bytes(),
    }.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    places = {path.name: str(path) for path in tmp_path.iterdir()}
    places |= {"FOLDER": str(tmp_path), "TAKEN": server.url.rpartition(":")[2]}
    shell.set(variables)
    ran = shell(*(places.get(word, word) for word in arguments))
    assert ran.status == status, ran.err
    assert words in ran.complaint
    assert ran.complaint.startswith("veeam-tasks")
    assert ran.out == ""
    assert "hush" not in ran.err


@pytest.mark.parametrize(
    "kind", [FaultKind.HTML, FaultKind.GARBAGE, FaultKind.NO_TOKEN]
)
def test_nonsense_from_the_server_is_one_line(
    shell: Here, server: ThreadedServer, kind: FaultKind
) -> None:
    """What is no Enterprise Manager is one line and status 3."""
    server.faults.add(Fault(kind, path="sessionMngr"))
    ran = shell("list")
    assert ran.status == 3
    assert ran.complaint.startswith("veeam-tasks list: POST ")
    server.expire_logon_sessions()  # that of the token that was kept back


def test_insecure_warns(shell: Here, server: ThreadedServer) -> None:
    """--insecure counts more than a CA file in the environment, and warns."""
    ran = shell("list", "--insecure", "--quiet")
    assert ran.status == 0
    assert ran.complaint.startswith("veeam-tasks list: warning: --insecure: ")


# --- log lines


def test_log_lines_go_where_they_are_wanted(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """-v shows the logon, --log-file keeps everything; neither holds a secret."""
    file = tmp_path / "log"
    ran = shell("list", "-v", "--log-file", str(file))
    assert ran.status == 0
    assert re.search(r"^\d\d:\d\d:\d\d  logged on to http", ran.err, re.MULTILINE)
    written = file.read_text()
    assert re.search(r"INFO logged on to https://\S+ as admin\n", written)
    assert "logged out of https://" in written
    assert "veeam_tasks." not in written
    assert server.password not in written + ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--username", "nobody"], "ERROR POST http"),
        (["submit", "--job", "Nowhere"], "ERROR --job 'Nowhere': there is no such job"),
        (["list", "--insecure"], "WARNING --insecure: no certificate is verified"),
    ],
)
def test_what_goes_wrong_stands_in_the_log_file(
    shell: Here, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """Whoever opens it after the night finds why; with -v it is not printed twice."""
    file = tmp_path / "log"
    ran = shell(*arguments, "-v", "--log-file", str(file))
    assert file.read_text().count(words) == 1
    said = words.partition(" ")[2]
    assert ran.err.count(said) == 1


def test_what_went_wrong_with_a_poll_takes_two_v(
    shell: Here, server: ThreadedServer
) -> None:
    """A failed poll is a line of -vv, not of -v; one that went well is no line."""
    task = server.add_task("Running 300ms, Finished", shared=True)
    for option, count in (("-v", 0), ("-vv", 1)):
        server.faults.add(Fault("status", path="tasks", status=500, times=1))
        ran = shell("watch", task.task_id, option, *QUICK)
        assert ran.status == 0
        lines = [line for line in ran.err.splitlines() if "poll" in line]
        assert [f"poll of {task.task_id} failed" in line for line in lines] == (
            [True] * count
        )


# --- help


def test_help_loads_neither_aiohttp_nor_the_simulator() -> None:
    """Help stays quick: what it does not need is not imported."""
    code = (
        "import sys; from veeam_tasks.__main__ import main;"
        " status = main(); heavy = {'aiohttp', 'veeam_tasks.simulator', 'rich.live'};"
        " assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        " sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "veeam-tasks watch --simulate 20" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["watch", "--file"],
        ["submit", "--body"],
        ["list", "--log-file"],
        ["list", "--password-file"],
        ["list", "--ca-file"],
    ],
    ids=" ".join,
)
def test_the_shell_completes_names_of_files(words: list[str]) -> None:
    """Where an option takes a file, the shell is told to offer files."""
    complete = ShellComplete(main, {}, "veeam-tasks", "_VEEAM_TASKS_COMPLETE")
    assert [item.type for item in complete.get_completions(words, "")] == ["file"]


@pytest.mark.parametrize(
    "command",
    [
        *("watch", "submit", "list", "get", "delete", "logon", "logout"),
        *("fingerprint", "repl", "simulate"),
    ],
)
def test_the_help_of_each_command_has_an_example(bare: Here, command: str) -> None:
    """Each command shows how it is typed."""
    ran = bare(command, "--help")
    assert ran.status == 0
    examples = ran.out.partition("Examples:\n")[2].partition("\n\n")[0]
    assert f"veeam-tasks {command}" in examples


def test_a_user_finds_both_words_of_a_switch_and_what_a_timeout_counts(
    bare: Here,
) -> None:
    """In the help that is one screen; a switch goes before its command, too."""
    assert "--scoped/--shared" in bare("simulate", "--help").out
    said = " ".join(bare("watch", "--help").out.split())
    assert "It begins anew with the first logon." in said
    ran = bare("--shared", "simulate", "--port", "-1")
    assert "--port" in ran.complaint


def test_without_a_command_the_help_is_shown(bare: Here) -> None:
    """`veeam-tasks` alone tells what there is; that is a usage error."""
    ran = bare()
    assert ran.status == 2
    assert "Commands:" in ran.err


def test_a_missing_extra_is_a_helpful_line() -> None:
    """Without click the command says what to install."""
    code = (
        "import sys; sys.modules['click'] = None;"
        " from veeam_tasks.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'pip install "veeam-tasks[cli]"' in done.stderr
