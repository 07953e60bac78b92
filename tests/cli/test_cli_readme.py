"""The commands of the README's shell section run, and print what is shown."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from support.shell import SECONDS, clean_environment, settings_of

from veeam_tasks.simulator import Mix, ThreadedServer

README = Path(__file__).parents[2] / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the tests run without the checkout around them"
)
FENCE = re.compile(
    r"<!-- (?P<mark>shell|terminal) -->\n```console\n(?P<text>.*?)```", re.DOTALL
)
STATUS = re.compile(r"# exit status (\d+)$")
# What differs from one run to the next.
VARYING = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
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
            pytest.fail(f"{command}: no line {wanted!r} in {seen!r}")


def usual(line: str) -> str:
    """Return a line without what differs from one run to the next."""
    for pattern, word in VARYING:
        line = pattern.sub(word, line)
    return line.strip()
