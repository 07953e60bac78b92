"""The shell among other servers, odd files and terminals, signals, silence."""

import contextlib
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.command_line import (
    COMMAND,
    QUICK,
    SECONDS,
    Here,
    between_pipes,
    clean_environment,
    settings_of,
)

from veeam_tasks.simulator import Fault, ThreadedServer

JOB = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"


@pytest.mark.parametrize("command", ["delete", "get", "watch"])
def test_the_href_of_another_server_is_refused(
    shell: Here, server: ThreadedServer, command: str
) -> None:
    """No task of ours is taken for one of another server; the ID to type is told."""
    task = server.add_task("Finished", shared=True)
    ran = shell(command, f"http://em2.example:9398/api/tasks/{task.task_id}")
    assert (ran.status, ran.out) == (2, "")
    assert "is a task of another server than" in ran.complaint
    assert ran.complaint.endswith(f"write {task.task_id}")
    assert not task.is_deleted
    assert server.logon_sessions == []


def test_the_href_of_this_server_is_taken(shell: Here, server: ThreadedServer) -> None:
    """By the URL's own host and port, and by a path, which names no host."""
    task = server.add_task("Finished", shared=True)
    for href in (
        f"{server.url}/api/tasks/{task.task_id}",
        f"/api/tasks/{task.task_id}",
    ):
        assert shell("get", href).objects[0]["task_id"] == task.task_id


def test_a_server_may_know_itself_by_another_name(
    shell: Here, server: ThreadedServer
) -> None:
    """What its own logon session says of where it is counts as well."""
    task = server.add_task("Finished", shared=True)
    shell.set({"VEEAM_EM_URL": server.url.replace("127.0.0.1", "localhost")})
    ran = shell("get", f"{server.url}/api/tasks/{task.task_id}")
    assert ran.status == 0
    assert len([one for one in server.requests if "logonSessions" in one.path]) >= 1


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--request-timeout", "--request-timeout 0.0: it must be more than 0 seconds"),
        ("--patience", "--patience 0.0: it must be more than 0 seconds"),
        ("--first-pause", "--first-pause 0: a pause must be longer than nothing"),
    ],
)
def test_a_time_of_nothing_is_no_default(shell: Here, option: str, named: str) -> None:
    """0 is refused by the name of the option; it does not mean the default."""
    ran = shell("watch", "task-1", option, "0")
    assert (ran.status, ran.out) == (2, "")
    assert named in ran.complaint


def test_a_password_with_a_newline_is_sent_without_it(
    shell: Here, server: ThreadedServer
) -> None:
    """As containers mount it; it is told, and no logon is refused."""
    for end in ("\n", "\r\n"):
        shell.set({"VEEAM_EM_PASSWORD": server.password + end})
        ran = shell("list", "--quiet")
        assert ran.status == 0
        assert "VEEAM_EM_PASSWORD ends with a newline" in ran.complaint
    assert all(logon.accepted for logon in server.logons)


PRINT = (
    "import pathlib, sys;"
    " sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())"
)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_files_as_powershell_writes_them_are_read(
    shell: Here, server: ThreadedServer, tmp_path: Path, encoding: str
) -> None:
    """IDs, a password and a body in UTF-16 with its mark, as > in PowerShell 5 does."""

    def write(name: str, text: str) -> str:
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        (tmp_path / name).write_bytes((mark + text).encode(encoding))
        (tmp_path / name).chmod(0o600)
        return str(tmp_path / name)

    task = server.add_task("Finished", shared=True)
    ids = write("ids", f"{task.task_id}\r\n")
    secret = write("secret", f"{server.password}\r\n")
    ran = shell("watch", "--file", ids, "--password-file", secret)
    assert ran.status == 0
    command = shlex.join([sys.executable, "-c", PRINT, secret])
    ran = shell("watch", "--file", ids, "--password-command", command)
    assert (ran.status, ran.err.count("\n")) == (0, 1)
    assert ran.objects[0]["task_id"] == task.task_id
    body = write("body", "<JobStartSpec/>")
    server.set_script("Finished")
    assert shell("submit", JOB, "--body", body, *QUICK).status == 0
    [sent] = [one for one in server.requests if "action=start" in one.query]
    assert sent.body == b"<JobStartSpec/>"


def test_only_a_newline_ends_a_line_of_json(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """A message may have U+2028 or NEL in it."""
    task = server.add_task("Finished", shared=True)
    file = tmp_path / "ids"
    file.write_text(
        f'{{"task_id": "{task.task_id}", "message": "a\u2028b\x85c"}}\n',
        encoding="utf-8",
    )
    assert shell("watch", "--file", str(file)).status == 0


def test_a_certificate_in_der_form_is_told_with_the_way_out(
    shell: Here, tmp_path: Path
) -> None:
    """What Windows exports by default is named, and how to convert it."""
    file = tmp_path / "em.cer"
    file.write_bytes(b"\x30\x82\x03\x21" + bytes(100))
    shell.set({"VEEAM_EM_URL": "https://127.0.0.1"})
    ran = shell("list", "--ca-file", str(file))
    assert ran.status == 2
    assert "is a certificate in DER form; convert it to PEM: openssl x509" in (
        ran.complaint
    )


def test_a_terminal_that_is_not_utf_8_gets_escapes(server: ThreadedServer) -> None:
    """A server's text that the encoding cannot say harms nothing."""
    server.add_task("Finished failed 'Espace plein \u2014 \u65e5\u672c'", shared=True)
    done = subprocess.run(
        [*COMMAND, "watch", "task-1"],
        env=clean_environment(**settings_of(server), PYTHONIOENCODING="latin-1"),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert b"failed (StartJob): Espace plein \\u2014 \\u65e5\\u672c" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_that_goes_away_logs_out(server: ThreadedServer) -> None:
    """SIGHUP, as of a dropped ssh, ends the watch as SIGTERM does; status 129."""
    task = server.add_task("Running", shared=True)
    child = between_pipes(["watch", task.task_id, *QUICK], settings_of(server))
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGHUP)
    _, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 129
    assert "unfinished, and still under way" in err
    assert server.logon_sessions == []


def test_a_closed_terminal_logs_out(server: ThreadedServer) -> None:
    """Also where nothing can be written to it any more."""
    server.add_task("Running", shared=True)
    number, fd = pty.fork()
    if number == 0:  # pragma: no cover - another process
        os.execvpe(
            COMMAND[0],
            [*COMMAND, "watch", "task-1"],
            clean_environment(**settings_of(server), TERM="xterm"),
        )
    seen = b""
    while b"1 running" not in seen:
        seen += os.read(fd, 65536)
    os.close(fd)
    _, status = os.waitpid(number, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert server.logon_sessions == []


def test_ctrl_c_in_a_submit_says_that_it_may_be_carried_out(
    server: ThreadedServer,
) -> None:
    """An action that was being sent is not passed over in silence."""
    fault = server.faults.add(Fault("stall", path="action=start"))
    child = between_pipes(["submit", JOB], settings_of(server))
    while not fault.played:
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 130
    assert "interrupted while the action was sent: it may have been carried out" in err
    assert "'veeam-tasks jobs'" in err


def test_ctrl_c_waits_for_no_resolver(server: ThreadedServer) -> None:
    """While a name is looked up, which nobody can interrupt, Ctrl-C ends at once."""
    code = (
        "import socket, sys, time\n"
        "from veeam_tasks.cli import run\n"
        "def slow(*_, **__):\n"
        "    print('looking', flush=True)\n"
        "    time.sleep(3600)\n"
        "socket.getaddrinfo = slow\n"
        "sys.exit(run(['list', '--url', 'https://em.example']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env=clean_environment(**settings_of(server)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "looking\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, err) == (130, "")


def test_ctrl_c_waits_for_no_password_command(
    server: ThreadedServer, tmp_path: Path
) -> None:
    """A command that hangs at a renewal is ended with us."""
    marker, script = tmp_path / "asked", tmp_path / "give.py"
    script.write_text(
        "import os, sys, time\n"
        f"if os.path.exists({str(marker)!r}):\n"
        f"    open({str(tmp_path / 'again')!r}, 'w').close()\n"
        "    time.sleep(3600)\n"
        f"open({str(marker)!r}, 'w').close()\n"
        f"print({server.password!r})\n"
    )
    task = server.add_task("Running", shared=True)
    variables = {**settings_of(server), "VEEAM_EM_PASSWORD": ""}
    command = f"{sys.executable} {script}"
    child = between_pipes(
        ["watch", task.task_id, "--password-command", command, *QUICK], variables
    )
    assert child.stdout is not None
    child.stdout.readline()
    server.expire_logon_sessions(keep_tasks=True)
    while not (tmp_path / "again").exists():
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 130
    assert "Traceback" not in err


def test_a_certificate_is_had_through_a_proxy(bare: Here) -> None:
    """`fingerprint` takes --proxy, and blames it if it is gone."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
    ran = bare("fingerprint", "https://em.example", "--proxy", gone)
    assert ran.status == 3
    assert "the proxy did not let us through to em.example:9398" in ran.complaint
    assert ran.complaint.endswith("check --proxy")
    with (
        ThreadedServer(tls=True) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = int(server.url.rpartition(":")[2])
        threading.Thread(target=tunnel, args=(listener, port), daemon=True).start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ran = bare("fingerprint", "https://em.example", "--proxy", proxy)
        assert ran.status == 0
        assert ran.objects[0]["fingerprint"].replace(":", "").lower() == (
            server.fingerprint
        )


def tunnel(listener: socket.socket, port: int) -> None:
    """Be a proxy that lets everything through to one port."""

    def carry(one: socket.socket, other: socket.socket) -> None:
        # One end goes away first; what the command makes of it is what is tested.
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        other.close()

    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        near.recv(65536)
        near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        far = socket.create_connection(("127.0.0.1", port))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=carry, args=pair, daemon=True).start()
