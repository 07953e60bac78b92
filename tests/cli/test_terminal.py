"""The shell on a pseudo-terminal: what people see, and how they stop it."""

import re

import pytest
from support.command_line import (
    ESCAPE,
    QUICK,
    ended,
    on_terminal,
    plain,
    settings_of,
)

from veeam_tasks.simulator import ThreadedServer

pytestmark = pytest.mark.usefixtures("_nobody_stays")

JOB = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"
COLOR = re.compile(r"\x1b\[[0-9;]*3[1-7][0-9;]*m")


def widest(text: str) -> int:
    """Return the width of the widest line that was drawn, over others or below."""
    lines = re.split(r"[\r\n]|\x1b\[H|\x1b\[\?1049[hl]", text)
    return max(len(ESCAPE.sub("", line)) for line in lines)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_watch_draws_and_ends_with_a_table(columns: int) -> None:
    """Nothing is wider than the terminal; the table tells every task; status 1."""
    child = on_terminal(["watch", "--simulate", "12", "--speed", "5"], columns=columns)
    child.expect("Watching 12 tasks of a simulated server")
    child.expect("12 tasks: 11 succeeded, 1 failed")
    before = child.before or ""
    assert widest(before) <= columns
    table = plain(before.rpartition("TASK")[2])
    shown = [line.split()[0] for line in table.splitlines() if line[:5] == "task-"]
    # The one that failed is repeated below the table.
    [repeated] = re.findall(r"\n(task-\d+) failed \(", table)
    assert shown == [*(f"task-{number}" for number in range(1, 13)), repeated]
    assert table.count("succeeded") == 11
    assert "\x1b[?25h" in before  # the cursor is shown again
    assert ended(child) == 1


def test_thousands_of_tasks_are_counted_but_not_all_shown() -> None:
    """The table is cut to the terminal, the counts are not."""
    child = on_terminal(["watch", "--simulate", "2000", "--speed", "0.5"], lines=24)
    child.expect("2000 running")
    child.expect(r"\.\.\. and 1984 more running")
    child.sendintr()
    child.expect("task-20 and 1980 more")
    child.expect("2000 tasks: 0 succeeded, 0 failed, 2000 unfinished")
    assert ended(child) == 130


def test_a_resized_terminal_gets_a_display_that_fits(server: ThreadedServer) -> None:
    """It is drawn on the other screen, where a resize leaves nothing behind."""
    task = server.add_task("Running", shared=True)
    child = on_terminal(["watch", task.task_id], settings_of(server), columns=120)
    child.expect("1 running")
    assert "\x1b[?1049h" in (child.before or "")
    child.setwinsize(12, 50)
    child.expect(re.escape("\x1b[H"))  # the end of what was drawn before
    child.expect(re.escape("\x1b[H"))
    child.expect("AGE")
    child.expect(re.escape("\x1b[H"))
    assert widest(child.before or "") <= 50
    child.sendintr()
    assert ended(child) == 130


def test_an_outage_is_shown_and_then_gone(server: ThreadedServer) -> None:
    """The server's health is on the screen while the watch goes on."""
    task = server.add_task("Running", shared=True)
    child = on_terminal(["watch", task.task_id, *QUICK], settings_of(server))
    child.expect("server: answers")
    child.expect("Running")
    server.pause()
    child.expect(r"server: connection (refused|lost) \(127.0.0.1:\d+\)")
    child.expect("away for 0:0")
    server.resume()
    child.expect("server: answers")
    task.finish(success=False, message="[red]Disk[/red] \x9b31mfull")
    child.expect("1 task: 0 succeeded, 1 failed")
    assert "[red]Disk[/red] \\x9b31mfull" in plain(child.before or "")
    assert ended(child) == 1


def test_ctrl_c_tells_what_is_unfinished(server: ThreadedServer) -> None:
    """The display gives way to the summary; the operations go on."""
    task = server.add_task("Running", shared=True)
    child = on_terminal(["watch", task.task_id], settings_of(server))
    child.expect("1 running")
    child.sendintr()
    child.expect("unfinished, and still under way at the server: task-1")
    child.expect("1 task: 0 succeeded, 0 failed, 1 unfinished")
    assert ended(child) == 130
    assert not task.is_deleted


def test_ctrl_c_stops_no_job_that_is_followed(server: ThreadedServer) -> None:
    """Nothing but the start was sent; the job session goes on."""
    job = server.add_job("Nightly", session="Working 1h, Stopped")
    path = f"{job.path}?action=start"
    child = on_terminal(["submit", path, "--follow", *QUICK], settings_of(server))
    child.expect("Working")
    child.sendintr()
    child.expect(r"unfinished, and still under way at the server: task-1 \(Nightly\)")
    assert ended(child) == 130
    assert server.job_sessions[-1].state == "Working"
    changing = [one for one in server.requests if one.method != "GET"]
    assert [one.path for one in changing if "ogon" not in one.path][1:] == [
        f"/api/{job.path}"
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_why_a_followed_job_failed_stands_whole_below_the_table(
    server: ThreadedServer, columns: int
) -> None:
    """Also where it is the one job of the table, which may cut it."""
    job = server.add_job("Nightly", session="Working 1s, Stopped failed")
    path = f"{job.path}?action=start"
    arguments = ["submit", path, "--follow", *QUICK]
    child = on_terminal(arguments, settings_of(server), columns=columns)
    child.expect("1 task: 0 succeeded, 1 failed")
    below = " ".join(plain(child.before or "").split())
    assert below.endswith(
        "task-1 failed (Nightly): srv01: Processing srv01 Error: There is not"
        " enough space on the disk."
    )
    assert ended(child) == 1


def test_a_watch_of_all_tasks_says_how_it_ends(server: ThreadedServer) -> None:
    """Before the display, and not where only what went wrong is to be told."""
    child = on_terminal(["watch", "--all", *QUICK], settings_of(server))
    child.expect("--all waits for new tasks, too: Ctrl-C ends it")
    child.expect("Watching all tasks")
    child.sendintr()
    assert ended(child) == 130


def test_log_lines_are_kept_below_the_display(server: ThreadedServer) -> None:
    """With -v the last of them are in the display, and all are printed after it."""
    task = server.add_task("Running", shared=True)
    child = on_terminal(["watch", task.task_id, "-vv", *QUICK], settings_of(server))
    child.expect("logged on to http")
    child.expect("1 running")
    child.sendintr()
    child.expect(re.escape("\x1b[?1049l"))
    child.expect("1 unfinished")
    assert re.search(r"\d\d:\d\d:\d\d  task-1 Running", plain(child.before or ""))
    assert ended(child) == 130


def test_a_dumb_terminal_gets_lines(server: ThreadedServer) -> None:
    """Without cursor movement there is a line per event, without escapes."""
    server.add_task("Finished failed 'Disk full'", shared=True)
    child = on_terminal(["watch", "task-1"], settings_of(server), term="dumb")
    assert ended(child) == 1
    text = child.before or ""
    assert "\x1b" not in text
    assert re.search(
        r"\d\d:\d\d:\d\d  task-1  Finished  StartJob  failed  Disk full\r\n", text
    )
    assert "task-1 failed (StartJob): Disk full" in text


def test_no_color_is_respected(server: ThreadedServer) -> None:
    """With NO_COLOR nothing is coloured; without it a failure is."""
    server.add_task("Finished failed 'Disk full'", shared=True)
    variables = settings_of(server)
    child = on_terminal(["watch", "task-1"], variables)
    assert ended(child) == 1
    assert COLOR.search(child.before or "")
    child = on_terminal(["watch", "task-1"], {**variables, "NO_COLOR": "1"})
    assert ended(child) == 1
    assert not COLOR.search(child.before or "")


def test_json_is_for_terminals_too(server: ThreadedServer) -> None:
    """With --json a terminal gets the lines that a pipe gets."""
    server.add_task("Finished", shared=True)
    child = on_terminal(["watch", "task-1", "--json"], settings_of(server), columns=500)
    child.expect(r'\{"task_id": "task-1", "sequence": 1,')
    assert ended(child) == 0


def test_account_and_password_are_asked_for_without_echo(
    server: ThreadedServer,
) -> None:
    """On a terminal what is missing is asked for; the password is not shown."""
    server.add_task("Running", shared=True)
    child = on_terminal(["list", "--url", server.url])
    child.logfile_read = log = Log()
    child.expect("User name: ")
    child.sendline(server.username)
    child.expect("Password of admin: ")
    child.waitnoecho()
    child.sendline(server.password)
    child.expect("task-1 +Running")
    assert ended(child) == 0
    assert server.password not in log.text


class Log:
    """Keeps everything that a terminal showed."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        """Keep it."""
        self.text += text

    def flush(self) -> None:
        """Do nothing: it is kept already."""


@pytest.mark.parametrize(("key", "status"), [("\x03", 130), ("\x04", 2)])
def test_a_password_may_be_refused(
    server: ThreadedServer, key: str, status: int
) -> None:
    """Ctrl-C at the prompt is an interruption, Ctrl-D a missing password."""
    child = on_terminal(["list", "--url", server.url, "--username", "admin"])
    child.expect("Password of admin: ")
    child.waitnoecho()
    child.send(key)
    assert ended(child) == status
    assert "Traceback" not in (child.before or "")
    assert server.logons.total == 0


def test_list_and_get_are_readable(server: ThreadedServer) -> None:
    """A table of all tasks; the parts of one, or of several with a line between."""
    variables = settings_of(server)
    child = on_terminal(["list"], variables)
    child.expect("This logon session knows no tasks, since it is new.")
    assert ended(child) == 0
    server.add_task("Finished failed 'Disk full'", shared=True)
    server.add_task("Finished", shared=True, related="BackupJobSession")
    child = on_terminal(["list"], variables)
    assert ended(child) == 0
    table = plain(child.before or "")
    assert re.search(r"TASK +STATE +OPERATION +MESSAGE", table)
    assert re.search(r"task-1 +failed +StartJob +Disk full", table)
    assert "\n2 tasks\n" in table
    child = on_terminal(["get", "task-2"], variables, columns=200)
    assert ended(child) == 0
    text = plain(child.before or "")
    assert re.search(r"state +succeeded", text)
    assert re.search(r"related +BackupJobSession +http", text)
    child = on_terminal(["get", "task-1", "task-2"], variables)
    assert ended(child) == 0
    blocks = plain(child.before or "").split("\n\n")
    assert [block.split()[:2] for block in blocks] == [
        ["task", "task-1"],
        ["task", "task-2"],
    ]


def test_submit_and_delete_are_readable(server: ThreadedServer) -> None:
    """What was started is watched; what was deleted is told."""
    variables = settings_of(server)
    server.set_script("Running 200ms, Finished")
    child = on_terminal(["submit", JOB, *QUICK], variables)
    child.expect("Watching task-1 at ")
    child.expect("1 task: 1 succeeded, 0 failed")
    assert ended(child) == 0
    child = on_terminal(["submit", JOB, "--no-watch"], variables)
    assert ended(child) == 0
    assert re.search(r"operation +StartJob", plain(child.before or ""))
    task = server.add_task("Running", shared=True)
    child = on_terminal(["delete", task.task_id], variables)
    child.expect(f"{task.task_id} deleted")
    assert ended(child) == 0


def test_logon_and_logout_are_readable(server: ThreadedServer) -> None:
    """On a terminal the lines are shown with how to take them over."""
    variables = settings_of(server)
    child = on_terminal(["logon"], variables)
    child.expect(r"export VEEAM_EM_TOKEN=(\S+)\r\n")
    assert child.match is not None
    token = child.match[1]
    child.expect(r'eval "\$\(veeam-tasks logon\)"')
    assert ended(child) == 0
    assert len(server.logon_sessions) == 1
    child = on_terminal(["logout"], {**variables, "VEEAM_EM_TOKEN": token})
    child.expect("The logon session has ended.")
    assert ended(child) == 0


@pytest.mark.parametrize(("columns", "is_one"), [(50, False), (500, True)])
def test_errors_are_as_wide_as_their_own_terminal(
    server: ThreadedServer, columns: int, *, is_one: bool
) -> None:
    """Where standard output is no terminal, lines fit that of standard error."""
    child = on_terminal(
        ["get", "task-7"],
        settings_of(server),
        columns=columns,
        redirected=">/dev/null",
    )
    assert ended(child) == 3
    text = plain(child.before or "")
    assert widest(text) <= columns
    assert (len(text.splitlines()) == 1) is is_one


def test_fingerprint_is_readable() -> None:
    """The fingerprint stands on one line, with the option that pins it."""
    with ThreadedServer(tls=True) as server:
        child = on_terminal(["fingerprint", server.url], columns=120)
        assert ended(child) == 0
        shown = bytes.fromhex(server.fingerprint).hex(":").upper()
        text = plain(child.before or "")
        assert re.search(rf"SHA-256 +{shown}\n", text)
        assert f"    --fingerprint {shown}\n" in text
        assert "own console" in text
        assert len(server.requests) == 0


def test_simulate_says_how_to_use_it() -> None:
    """Where it listens and lines for another terminal; Ctrl-C ends it."""
    child = on_terminal(["simulate", "--port", "0", "--tasks", "3", "--tls"])
    child.expect(r"A simulated Enterprise Manager 12 listens at https://127.0.0.1:\d+")
    child.expect("export VEEAM_EM_PASSWORD=")
    child.expect("export VEEAM_EM_CA_FILE=")
    child.expect("curl")
    child.expect("SHA-256 of its certificate: ([0-9A-F]{2}:){31}")
    child.sendintr()
    assert ended(child) == 130
    assert "Traceback" not in (child.before or "")


def test_the_prompt_awaits_and_logs_out(server: ThreadedServer) -> None:
    """Lines may await, Ctrl-C cancels a line only, Ctrl-D logs out."""
    server.add_task("Running", shared=True)
    child = on_terminal(["repl"], settings_of(server))
    child.expect("`em`")
    child.expect("Try: await em.fetch_all()")
    child.expect(">>> ")
    child.sendline("await em.fetch('task-1')")
    child.expect("<Task task-1 Running StartJob>")
    child.expect(">>> ")
    child.sendline("print('now'); await asyncio.sleep(1000)")
    child.expect("now\r\n")
    child.sendintr()
    child.expect("KeyboardInterrupt")
    child.expect(">>> ")
    child.sendline("half = (")
    child.expect(r"\.\.\. ")
    child.sendintr()
    child.expect("KeyboardInterrupt")
    child.expect(">>> ")
    child.sendline("em.watch('task-1')")
    child.expect("<Watch of 1 task")
    child.expect(">>> ")
    assert len(server.logon_sessions) == 1
    child.sendeof()
    assert ended(child) == 0


def test_exit_at_the_prompt_logs_out(server: ThreadedServer) -> None:
    """exit() gives its status; the logon session is ended all the same."""
    child = on_terminal(["repl"], settings_of(server))
    child.expect(">>> ")
    child.sendline("exit(5)")
    assert ended(child) == 5


WHY = "Cannot allocate space on the repository, it has 3 GB left"


@pytest.mark.parametrize("columns", [40, 50, 100])
def test_in_a_narrow_terminal_the_message_keeps_its_place(
    server: ThreadedServer, columns: int
) -> None:
    """IDs, states and why it failed are there; operation and age give way first."""
    server.add_task("Running", operation="StartVMRestoreFromStorage", shared=True)
    for _ in range(10):
        server.add_task(f"Finished failed '{WHY}'", shared=True)
    child = on_terminal(
        ["watch", "task-1", "task-11", *QUICK], settings_of(server), columns=columns
    )
    child.expect(r"task-11 +\S*failed[^\n]*Cannot allocate")
    child.expect(r"task-1 +\S*Running")
    server.task("task-1").set_state("OperationFinished")
    child.expect(r"task-1 +\S*OperationFinished")
    server.task("task-1").finish(success=False, message=WHY)
    child.expect("2 tasks: 0 succeeded, 2 failed")
    before = child.before or ""
    assert ended(child) == 1
    assert widest(before) <= columns
    words = " ".join(plain(before.rpartition("\x1b[?1049l")[2]).split())
    assert "task-1 failed" in words
    assert "task-11 failed" in words
    # Told in the table, in lines of its own, and repeated at the end.
    assert f"task-1 failed (StartVMRestoreFromStorage): {WHY}" in words
    assert f"task-11 failed (StartJob): {WHY}" in words
    assert ("OPERATION" in words) is (columns == 100)
    child = on_terminal(["list"], settings_of(server), columns=columns)
    assert ended(child) == 0
    table = plain(child.before or "")
    assert widest(child.before or "") <= columns
    assert len(re.findall(r"^task-\d+ +failed +", table, re.MULTILINE)) == 11
    assert "Cannot" in table


def test_ctrl_z_gives_the_terminal_back(server: ThreadedServer) -> None:
    """Its own screen and its cursor, before it stops; the display when it goes on."""
    task = server.add_task("Running", shared=True)
    child = on_terminal(["watch", task.task_id], settings_of(server))
    child.expect_exact("\x1b[?1049h")
    child.expect_exact(task.task_id)
    # Nobody is there who could let it go on, so the system does not let it stop.
    child.send("\x1a")
    child.expect_exact("\x1b[?1049l\x1b[?25h")
    child.expect_exact("\x1b[?1049h\x1b[?25l")
    child.expect_exact(task.task_id)
    task.finish()
    assert ended(child) == 0


def test_a_terminal_of_no_size_shows_all_the_same(server: ThreadedServer) -> None:
    """What says that it has no columns and no lines is taken for a usual one."""
    task = server.add_task("Running", shared=True)
    nothing = {**settings_of(server), "COLUMNS": "0", "LINES": "0"}
    child = on_terminal(["list"], nothing)
    child.expect_exact("task-1")
    child.expect_exact("1 task")
    assert ended(child) == 0
    child = on_terminal(["watch", task.task_id], nothing)
    child.expect_exact("1 running")
    task.finish()
    child.expect_exact("1 task: 1 succeeded")
    assert ended(child) == 0
