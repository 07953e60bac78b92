"""What the README of the shell shows: its commands run, its recipes are true."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from support.command_line import ESCAPE, SECONDS, clean_environment, settings_of

from veeam_tasks.simulator import Mix, ThreadedServer

README = Path(__file__).parents[2] / "veeam_tasks" / "cli" / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the tests run without the checkout around them"
)
FENCE = re.compile(
    r"<!-- (?P<mark>shell|terminal) -->\n```console\n(?P<text>.*?)```", re.DOTALL
)
STATUS = re.compile(r"# exit status (\d+)$")
TOLD = 40
"""How many of the lines before it are shown with one that is missing."""
# What differs from one run to the next.
VARYING = (
    (ESCAPE, ""),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}"), "GUID"),
    (re.compile(r"\d+"), "0"),
    (re.compile(r" +"), " "),
)


def commands() -> list[tuple[str, str, list[str]]]:
    """Return the commands: their kind, themselves, the lines that they show."""
    if not README.exists():
        return []
    found: list[tuple[str, str, list[str]]] = []
    for block in FENCE.finditer(README.read_text(encoding="utf-8")):
        for line in block["text"].splitlines():
            if line.startswith("$ "):
                found.append((block["mark"], line[2:], []))
            else:
                found[-1][2].append(line)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder with a `veeam-tasks` in it, and a server to use it with."""
    program = tmp_path / "bin" / "veeam-tasks"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m veeam_tasks "$@"\n'
    )
    program.chmod(0o755)
    with ThreadedServer(seed=1, speed=20) as server:
        mix = Mix(failing=0, operations=("StartJob",))
        server.add_tasks(3, mix, shared=True)
        settings = "".join(
            f"export {name}={shlex.quote(value)}\n"
            for name, value in settings_of(server).items()
        )
        (tmp_path / "state").write_text(settings)
        yield tmp_path
        assert server.logon_sessions == []


def test_the_commands_print_what_the_readme_shows(folder: Path) -> None:
    """In their order, in one shell: each shown line comes, and the exit status."""
    for mark, command, shown in commands():
        status, printed = carry_out(mark, command, folder)
        expected = STATUS.search(command)
        assert status == (int(expected[1]) if expected else 0), (command, printed)
        assert_in_order([line for line in shown if line != "..."], printed, command)


def carry_out(mark: str, command: str, folder: Path) -> tuple[int, str]:
    """Run one command, with what the commands before it have exported."""
    script = f". ./state\n{command}\nstatus=$?\nexport -p > state\nexit $status"
    environment = clean_environment(TERM="xterm-256color")
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    if mark == "shell":
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout
    child = pexpect.spawn(
        "bash",
        ["-c", script],
        cwd=str(folder),
        env=environment,  # type: ignore[arg-type] # typeshed knows os._Environ only
        encoding="utf-8",
        timeout=SECONDS,
        dimensions=(24, 100),
    )
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus or 0, child.before or ""


def assert_in_order(shown: list[str], printed: str, command: str) -> None:
    """Check that each shown line was printed, after those before it."""
    lines = iter(re.split("[\r\n]+", printed))
    seen: list[str] = []
    for wanted in shown:
        for line in lines:
            seen.append(line)
            if usual(line) == usual(wanted):
                break
        else:
            last = "\n".join(filter(None, map(usual, seen[-TOLD:])))
            pytest.fail(f"{command}: no line {wanted!r}; the last ones are\n{last}")


def usual(line: str) -> str:
    """Return a line without what differs from one run to the next."""
    for pattern, word in VARYING:
        line = pattern.sub(word, line)
    return line.strip()


def recipe(mark: str, places: dict[str, str]) -> str:
    """Return a recipe of the README, with other places in it."""
    fence = re.compile(rf"<!-- {mark} -->\n```\w+\n(.*?)```", re.DOTALL)
    found = fence.search(README.read_text(encoding="utf-8"))
    assert found is not None
    text = found[1]
    for name, place in places.items():
        assert name in text, name
        text = text.replace(name, place)
    return text


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[ThreadedServer, dict[str, str]]]:
    """Give a server with TLS, and where things are instead of in the recipes."""
    (tmp_path / "password").touch(0o600)
    with ThreadedServer(tls=True, seed=1, speed=20) as server:
        (tmp_path / "password").write_text(f"{server.password}\n")
        yield (
            server,
            {
                "https://em.example:9398": server.url,
                "/etc/veeam/password": str(tmp_path / "password"),
            },
        )
        assert server.logon_sessions == []


def test_cron_mails_what_went_wrong_and_nothing_else(
    secure: tuple[ThreadedServer, dict[str, str]], tmp_path: Path
) -> None:
    """A backup that failed is a line and status 1; a refused logon stops it, aloud."""
    server, places = secure
    script = tmp_path / "nightly.sh"
    script.write_text(
        recipe(
            "cron",
            places
            | {
                r"'CORP\svc'": server.username,
                "/etc/veeam/em.pem": server.ca_file,
                "/var/lib/nightly.stopped": str(tmp_path / "stopped"),
                "/var/log/nightly.log": str(tmp_path / "log"),
                "veeam-tasks submit": f"{sys.executable} -m veeam_tasks submit",
            },
        )
    )

    def night() -> tuple[int, str]:
        done = subprocess.run(
            ["sh", str(script)],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    (job,) = [one for one in server.jobs if one.name == "SQL Replication"]
    job.session = "Working 1s, Stopped"
    assert night() == (0, "")
    job.session = "Working 1s, Stopped failed"
    status, mail = night()
    assert (status, mail.count("\n")) == (1, 1)
    assert mail.startswith("task-2 failed (SQL Replication): srv01: ")
    assert "task-2 Stopped, failed: srv01: " in (tmp_path / "log").read_text()
    server.set_script("Running 1s, Finished failed 'Disk full'")
    assert night() == (1, "task-3 failed (StartJob): Disk full\n")
    assert "task-3 Finished, failed: Disk full" in (tmp_path / "log").read_text()
    Path(places["/etc/veeam/password"]).write_text("wrong\n")
    status, mail = night()
    assert (status, mail.count("\n")) == (4, 1)
    before = server.logons.total
    status, mail = night()
    assert status == 4
    assert mail.startswith("not started: the logon was refused before")
    assert server.logons.total == before


def test_a_night_begins_a_run_of_its_own_and_tells_what_it_cannot(
    secure: tuple[ThreadedServer, dict[str, str]], tmp_path: Path
) -> None:
    """A missing job is an error on any night; what was killed is gone on with once."""
    server, places = secure
    script, file = tmp_path / "nightly", tmp_path / "run.json"
    command = f"{sys.executable} -m veeam_tasks"
    text = recipe("nightly", {"--job Nightly": '--job "$JOB"'})
    text = text.replace("veeam-tasks submit", f"{command} submit")
    script.write_text(text.replace("veeam-tasks resume", f"{command} resume"))
    (tmp_path / "em-password").symlink_to(places["/etc/veeam/password"])

    def night(job: str = "SQL Replication") -> tuple[int, str]:
        env = {
            "JOB": job,
            "STATE_DIRECTORY": str(tmp_path),
            "CREDENTIALS_DIRECTORY": str(tmp_path),
            "VEEAM_EM_URL": server.url,
            "VEEAM_EM_USERNAME": server.username,
            "VEEAM_EM_CA_FILE": str(server.ca_file),
        }
        done = subprocess.run(
            ["sh", str(script)],
            env=clean_environment() | env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stderr

    (job,) = [one for one in server.jobs if one.name == "SQL Replication"]
    job.session = "Working 1s, Stopped"
    assert night()[0] == 0
    assert not file.exists()
    status, complaint = night("Renamed")
    assert (status, "there is no such job" in complaint) == (2, True)
    job.session = "Working 1s, Stopped failed"
    assert night()[0] == 1
    job.session = "Working 1s, Stopped"
    assert night()[0] == 0
    nothing = {"checkpoints": {}, "telling": [], "action": None}
    content = {"kind": "veeam-tasks state", "version": 1} | nothing
    file.write_text(json.dumps(content), encoding="utf-8")
    assert night()[0] == 0
    sent = [one.path for one in server.requests if one.method == "POST"]
    assert sum("/jobs/" in path for path in sent) == 4


def test_the_unit_of_systemd_fails_when_the_start_fails(
    secure: tuple[ThreadedServer, dict[str, str]], tmp_path: Path
) -> None:
    """What stands in ExecStart and Environment is run as systemd would."""
    server, places = secure
    text = recipe("systemd", places | {"svc@corp.example": server.username})
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    name, _, source = lines["LoadCredential"].partition(":")
    (tmp_path / name).write_bytes(Path(source).read_bytes())
    (tmp_path / name).chmod(0o400)
    variables = dict(
        setting.split("=", 1) for setting in shlex.split(lines["Environment"])
    )
    command = lines["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", str(tmp_path))
    program, *arguments = shlex.split(command)
    assert program == "/usr/bin/veeam-tasks"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "veeam_tasks", *arguments],
            env=clean_environment(**variables, VEEAM_EM_CA_FILE=server.ca_file),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    server.set_script("Running 1s, Finished")
    assert run().returncode == 0
    server.set_script("Running 1s, Finished failed 'Disk full'")
    done = run()
    assert done.returncode == 1
    assert "task-2 failed (StartJob): Disk full" in done.stderr
