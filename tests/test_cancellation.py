"""Cancelled at every step of the loop, and other sudden ends: nothing is left (R5)."""

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import looptime
import pytest
from doors import door

from veeam_tasks import SessionManager, connect
from veeam_tasks.simulator import Fault, SimulatedServer, ThreadedServer

START = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"
Virtual = looptime.make_event_loop_class(asyncio.SelectorEventLoop)


class SteppedLoop(Virtual):  # type: ignore[misc, valid-type] # a class made at run time
    """A loop whose clock jumps, and which calls `at_step` before each of its steps."""

    at_step: Callable[[], None] | None = None

    def _run_once(self) -> None:
        if self.at_step is not None:
            self.at_step()
        super()._run_once()


async def log_on(server: SimulatedServer) -> None:
    """Log on by await, and close."""
    em = await door(server)
    await em.aclose()


async def fetch(server: SimulatedServer) -> None:
    """Ask for one task."""
    task_id = server.add_task("Running").task_id
    async with door(server) as em:
        await em.fetch(task_id)


async def renew(server: SimulatedServer) -> None:
    """Ask with a token that has expired meanwhile."""
    task_id = server.add_task("Running").task_id
    async with door(server) as em:
        await em.fetch(task_id)
        server.expire_logon_sessions(keep_tasks=True)
        await em.fetch_all()


async def read_events(server: SimulatedServer) -> None:
    """Read what a watch delivers."""
    task_id = server.add_task("Running 2s, Finished ok").task_id
    async with door(server) as em, em.watch(task_id) as watch:
        async for _ in watch:
            pass


async def wait(server: SimulatedServer) -> None:
    """Wait for one task."""
    task_id = server.add_task("Running 2s, Finished ok").task_id
    async with door(server) as em:
        await em.wait(task_id)


async def submit(server: SimulatedServer) -> None:
    """Start a job."""
    async with door(server) as em:
        await em.submit(START)


async def resume_later(server: SimulatedServer) -> None:
    """Let the server be down for some seconds."""
    await asyncio.sleep(8)
    await asyncio.shield(server.resume())


async def outage(server: SimulatedServer) -> None:
    """Watch through an outage of some seconds."""
    task_id = server.add_task("Running 3s, Finished ok").task_id
    async with door(server) as em, em.watch(task_id) as watch:
        await anext(watch)
        await asyncio.shield(server.pause())
        async with asyncio.TaskGroup() as group:
            group.create_task(resume_later(server))
            await watch.wait()


Scenario = Callable[[SimulatedServer], Awaitable[None]]


async def nothing_left(
    server: SimulatedServer, before: set[asyncio.Task[None]]
) -> None:
    """Assert, after a bounded grace on the jumping clock, that nothing is left."""
    end = asyncio.get_running_loop().time() + 60
    while True:
        ours = asyncio.all_tasks() - before
        left = (ours, server.connections.open, server.logon_sessions)
        if left == (set(), 0, []) or asyncio.get_running_loop().time() > end:
            break
        await asyncio.sleep(0.5)
    assert left == (set(), 0, [])
    assert [
        one
        for one in server.requests
        if one.method == "DELETE" and "/tasks" in one.path
    ] == []


async def cancelled_at(
    scenario: Scenario, step: int, caplog: pytest.LogCaptureFixture
) -> bool:
    """Cancel a scenario at one step; return whether it was done before that."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    async with SimulatedServer(any_id=True, session_scoped=False) as server:
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(scenario(server))
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                task.cancel()

        loop.at_step = count
        await asyncio.wait([task])
        loop.at_step = None
        whole = steps < step
        # Nobody can log out of a server that is down; all else holds there too.
        down = scenario is outage and bool(server.logon_sessions)
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
        if down:
            assert "not logged out" in caplog.text
            caplog.clear()
            server.expire_logon_sessions()
        await nothing_left(server, before)
        return whole


@pytest.mark.parametrize(
    "scenario", [log_on, fetch, renew, read_events, wait, submit, outage]
)
def test_cancelled_at_every_step(
    scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    """No asyncio task, connection or logon session is left, and no task is deleted."""
    step = 1
    while True:
        with asyncio.Runner(loop_factory=SteppedLoop) as runner:
            if runner.run(cancelled_at(scenario, step, caplog)):
                break
        step += 1
    assert step > 10


@pytest.mark.virtual_time
async def test_an_error_in_the_body() -> None:
    """An error in the body ends everything, and is the error that comes out."""
    async with SimulatedServer() as server:
        before = asyncio.all_tasks()
        with pytest.raises(KeyError):
            async with door(server) as em, em.watch(server.add_task("Running").task_id):
                raise KeyError(server)
        await nothing_left(server, before)


@pytest.mark.virtual_time
async def test_break_and_a_forgotten_watch() -> None:
    """A watch left by `break` and forgotten stops; the manager goes on."""
    async with SimulatedServer() as server:
        before = asyncio.all_tasks()
        async with door(server) as em:
            async for _ in em.watch(server.add_task("Running").task_id):
                break
            gc.collect()
            await asyncio.sleep(1)
            assert em.statistics().watched == 0
        await nothing_left(server, before)


def test_the_loop_ends_with_an_open_manager() -> None:
    """`asyncio.run` that ends with a manager open logs out, and warns what to do."""
    kept: list[SessionManager] = []

    async def forget(server: ThreadedServer) -> None:
        kept.append(
            await connect(
                server.url, username=server.username, password=server.password
            )
        )

    with ThreadedServer() as server:
        with pytest.warns(ResourceWarning, match="aclose"):
            asyncio.run(forget(server))
        assert server.logons.total == 1
        assert server.logon_sessions == []


SCRIPT = """
import asyncio, sys
import veeam_tasks as vt

async def main():
    async with vt.connect(sys.argv[1], username="admin", password="admin-secret") as em:
        async with em.watch(sys.argv[2]) as watch:
            await anext(watch)
            print("watching", flush=True)
            await watch.wait()

asyncio.run(main())
"""


def interrupted(server: ThreadedServer, fault: Fault | None, *arguments: str) -> str:
    """Press Ctrl-C in a script, and again while the fault holds its log-out.

    Returns:
        What it said on standard error.
    """
    task_id = server.add_task("Running").task_id
    with subprocess.Popen(
        [sys.executable, *arguments, "-c", SCRIPT, server.url, task_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "watching\n"
        assert len(server.logon_sessions) == 1
        script.send_signal(signal.SIGINT)
        if fault is not None:
            while not fault.played:
                assert script.poll() is None
            script.send_signal(signal.SIGINT)
        _, errors = script.communicate(timeout=20)
    return errors


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_in_a_script(twice: bool) -> None:
    """Ctrl-C logs out, also when it is pressed again while that goes on."""
    with ThreadedServer(session_scoped=False) as server:
        fault = Fault("delay", method="DELETE", seconds=0.3)
        errors = interrupted(server, server.faults.add(fault) if twice else None)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert server.logon_sessions == []
        assert "Unclosed" not in errors
