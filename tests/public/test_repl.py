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


def test_lines(server: ThreadedServer) -> None:
    """Each line runs in an asyncio task of its own; Ctrl-C leaves watch and log-out."""
    one = server.add_task("Running").task_id
    two = server.add_task("Running").task_id
    shell = pexpect.spawn(
        sys.executable,
        ["-W", "error", "-m", "asyncio"],
        encoding="utf-8",
        timeout=120,
        env={"PYTHON_BASIC_REPL": "1", "TERM": "dumb", "PATH": "/usr/bin:/bin"},
        dimensions=(50, 400),
    )

    def line(text: str, *wanted: str) -> None:
        shell.sendline(text)
        for one in wanted:
            shell.expect(one)
        shell.expect("\n>>> ")

    shell.expect(">>> ")
    line("import veeam_tasks as vt")
    account = f"username='{server.username}', password='{server.password}'"
    line(f"vt.connect('{server.url}', {account})", "not logged on: await it")
    line(f"em = await vt.connect('{server.url}', {account})")
    line("em", "logged on, 0 tasks watched")
    line(f"w = em.watch('{one}', '{two}')")
    line("w", "<Watch of 2 tasks: 2 running")
    line("await anext(w)", r"<TaskEvent #1 task-\d+ Running>")
    shell.sendline("async for event in w: break")
    # Before 3.13 a loop on one line wants an empty line after it.
    if shell.expect([r"\.\.\. $", "\n>>> "]) == 0:
        line("")
    line("event", f"<TaskEvent #1 {two} Running>")
    shell.sendline("async for event in w: print(event)")
    server.task(one).finish(message="Ok")
    if shell.expect([r"\.\.\. $", "\n<TaskEvent #2 "]) == 0:
        shell.sendline("")
        shell.expect("\n<TaskEvent #2 ")
    shell.expect(f"{one} Running -> Finished succeeded 'Ok'>")
    # It waits for the other task now.
    shell.sendintr()
    shell.expect("KeyboardInterrupt")
    shell.expect(">>> ")
    line("w", "1 running, 1 succeeded, 0 failed, 0 lost>")
    line(f"await em.fetch('{one}')", f"<Task {one} Finished StartJob success 'Ok'>")
    server.task(two).finish()
    line("await w.wait()", "<Report of 2 tasks: 2 succeeded")
    line("w.report.succeeded", f"'{one}', '{two}'")
    fault = server.faults.add(Fault("delay", method="DELETE", seconds=0.5))
    shell.sendline("await em.aclose()")
    while not fault.played:
        assert shell.isalive()
    shell.sendintr()
    shell.expect("KeyboardInterrupt")
    shell.expect(">>> ")
    line("em", "not open")
    shell.sendline("exit()")
    shell.expect(pexpect.EOF)
    shell.close()
    said = shell.before.replace("exit()", "").replace("exiting asyncio REPL...", "")
    assert said.strip() == ""
    assert shell.exitstatus == 0
    assert server.logon_sessions == []
