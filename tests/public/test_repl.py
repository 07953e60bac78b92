"""The lines of a newcomer, typed into `python -m asyncio` over a real terminal.

nox runs this on each Python that is there.
"""

import sys
from collections.abc import Iterator

import pexpect
import pytest

from veeam_tasks.simulator import Fault, ThreadedServer


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Run a simulated server in a thread of this process."""
    with ThreadedServer() as running:
        yield running


class Prompt:
    """The prompt of ``python -m asyncio``, on a terminal."""

    def __init__(self) -> None:
        self.shell = pexpect.spawn(
            sys.executable,
            ["-W", "error", "-m", "asyncio"],
            encoding="utf-8",
            timeout=120,
            env={"PYTHON_BASIC_REPL": "1", "TERM": "dumb", "PATH": "/usr/bin:/bin"},
            dimensions=(50, 400),
        )
        self.shell.expect(">>> ")

    def line(self, text: str, *wanted: str) -> None:
        """Type a line; wait for what it is to print, and for the next prompt."""
        self.shell.sendline(text)
        for one in wanted:
            self.shell.expect(one)
        self.shell.expect("\n>>> ")

    def loop(self, text: str, wanted: str) -> None:
        """Type a loop on one line, which before 3.13 wants an empty line after it."""
        self.shell.sendline(text)
        if self.shell.expect([r"\.\.\. $", wanted]) == 0:
            self.shell.sendline("")
            self.shell.expect(wanted)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.shell.sendintr()
        self.shell.expect("KeyboardInterrupt")
        self.shell.expect(">>> ")

    def end(self) -> str:
        """Leave it, with status 0; return what was printed meanwhile."""
        self.shell.sendline("exit()")
        self.shell.expect(pexpect.EOF)
        self.shell.close()
        assert self.shell.exitstatus == 0
        said = str(self.shell.before).replace("exit()", "")
        return said.replace("exiting asyncio REPL...", "").strip()


def test_lines(server: ThreadedServer) -> None:
    """Each line runs in an asyncio task of its own; Ctrl-C leaves watch and log-out."""
    one = server.add_task("Running").task_id
    two = server.add_task("Running").task_id
    prompt = Prompt()
    line = prompt.line
    line("import veeam_tasks as vt")
    account = f"username='{server.username}', password='{server.password}'"
    line(f"vt.connect('{server.url}', {account})", "not logged on: await it")
    line(f"em = await vt.connect('{server.url}', {account})")
    line("em", "logged on, 0 tasks watched")
    line(f"w = em.watch('{one}', '{two}')")
    line("w", "<Watch of 2 tasks: 2 running")
    line("await anext(w)", r"<TaskEvent #1 task-\d+ Running>")
    prompt.loop("async for event in w: break", "\n>>> ")
    line("event", f"<TaskEvent #1 {two} Running>")
    server.task(one).finish(message="Ok")
    prompt.loop("async for event in w: print(event)", "\n<TaskEvent #2 ")
    prompt.shell.expect(f"{one} Running -> Finished succeeded 'Ok'>")
    # It waits for the other task now.
    prompt.interrupt()
    line("w", "1 running, 1 succeeded, 0 failed, 0 lost>")
    line(f"await em.fetch('{one}')", f"<Task {one} Finished StartJob success 'Ok'>")
    server.task(two).finish()
    line("await w.wait()", "<Report of 2 tasks: 2 succeeded")
    line("w.report.succeeded", f"'{one}', '{two}'")
    fault = server.faults.add(Fault("delay", method="DELETE", seconds=0.5))
    prompt.shell.sendline("await em.aclose()")
    while not fault.played:
        assert prompt.shell.isalive()
    prompt.interrupt()
    line("em", "not open")
    assert prompt.end() == ""
    assert server.logon_sessions == []
