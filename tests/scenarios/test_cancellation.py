"""Cancelled at every step of the loop, and other sudden ends: nothing is left."""

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import attrs
import pytest
from support.figures import Record
from support.loops import of_asyncio
from support.managers import door
from support.virtual_time import AsyncioVirtual

from veeam_tasks import (
    Pace,
    SessionFailedError,
    SessionManager,
    VeeamTasksError,
    adopt,
    connect,
)
from veeam_tasks.simulator import Fault, SimulatedServer, ThreadedServer

START = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"


class SteppedLoop(AsyncioVirtual):  # type: ignore[misc, valid-type] # a class made at run time
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


async def log_out(server: SimulatedServer) -> None:
    """Log out over a slow line, after a kept connection has died unnoticed."""
    em = await door(server)
    server.faults.add(Fault("reset", method="DELETE", times=1))
    server.faults.add(Fault("delay", method="DELETE", seconds=2))
    await em.aclose()


async def password(server: SimulatedServer) -> None:
    """Log on with a password that a coroutine fetches."""

    async def fetched() -> str:
        await asyncio.sleep(1)
        return server.password

    async with connect(server.url, username=server.username, password=fetched):
        pass


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


async def fetch_until_closed(em: SessionManager) -> None:
    """Ask while somebody else closes the manager."""
    with contextlib.suppress(VeeamTasksError):
        await em.fetch_all()


async def close_in_renewal(server: SimulatedServer) -> None:
    """Close while a renewal runs."""
    async with door(server) as em:
        await em.fetch_all()
        server.expire_logon_sessions()
        server.faults.add(Fault("delay", path="sessionMngr", seconds=2))
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch_until_closed(em))
            await asyncio.sleep(1)
            await em.aclose()


async def adopted(server: SimulatedServer) -> None:
    """Watch over the logon session of someone else."""
    task_id = server.add_task("Running 2s, Finished ok").task_id
    async with door(server) as owner:
        token, session_id = owner.token, owner.session_id
        assert token is not None
        async with adopt(server.url, token, session_id=session_id) as em:
            await em.wait(task_id)


async def read_events(server: SimulatedServer) -> None:
    """Read what a watch delivers."""
    task_id = server.add_task("Running 2s, Finished ok").task_id
    async with door(server) as em, em.watch(task_id) as watch:
        async for _ in watch:
            pass


async def read_together(server: SimulatedServer) -> None:
    """Read what polls of the whole collection deliver."""
    ids = [server.add_task("Running 2s, Finished ok").task_id for _ in range(3)]
    async with door(server, coalesce="always") as em, em.watch(ids) as watch:
        async for _ in watch:
            pass


async def watch_all(server: SimulatedServer) -> None:
    """Watch what there is and what appears later, to the timeout."""
    server.add_task("Running 1s, Finished ok")
    async with door(server) as em, em.watch_all(timeout=3) as watch:
        await anext(watch)
        server.add_task("Running 1s, Finished ok")
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


async def delete(server: SimulatedServer) -> None:
    """Let the server forget a task."""
    task_id = server.add_task("Running").task_id
    async with door(server) as em:
        await em.delete(task_id)


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


def failing_job(server: SimulatedServer) -> str:
    """Return the path that starts a job which fails with reasons."""
    job = server.add_job(
        "Nightly",
        session="Working 1s, Stopped failed",
        machines={"db01": "Completed failed 'No space'"},
    )
    return f"{job.path}?action=start"


async def run_job(server: SimulatedServer) -> None:
    """Start a job and follow it: query, job session, machines."""
    path = failing_job(server)
    async with door(server) as em:
        with contextlib.suppress(SessionFailedError):
            await em.run(path)


async def follow_together(server: SimulatedServer) -> None:
    """Follow some jobs, whose job sessions are asked for with one query."""
    paths = [failing_job(server) for _ in range(2)]
    async with door(server, coalesce="always") as em:
        tasks = [await em.submit(path) for path in paths]
        async with em.watch(tasks, follow=True) as watch:
            await watch.wait()


Scenario = Callable[[SimulatedServer], Awaitable[None]]
SCENARIOS: list[Scenario] = [
    *[log_on, log_out, password, fetch, renew, close_in_renewal, adopted],
    *[read_events, read_together, watch_all, wait, submit, delete, outage],
    *[run_job, follow_together],
]


def is_down(server: SimulatedServer) -> bool:
    """Tell whether the server refuses connections."""
    return server._listener._socket is None


def deleted_tasks(server: SimulatedServer) -> int:
    """Return how many DELETEs of tasks came."""
    return sum(
        one.method == "DELETE" and "/tasks" in one.path for one in server.requests
    )


async def nothing_left(
    server: SimulatedServer, before: set[asyncio.Task[None]], *, deletes: int = 0
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
    assert deleted_tasks(server) <= deletes


@attrs.define
class Steps:
    """Counts the steps of the loop; does something at some of them.

    Attributes:
        at: The steps at which `act` is called.
        was_down: Whether the server was down at the first of them or later.
    """

    server: SimulatedServer
    act: Callable[[], object]
    at: tuple[int, ...]
    count: int = 0
    was_down: bool = False

    def __call__(self) -> None:
        """Count one step."""
        self.count += 1
        if self.count in self.at:
            self.act()
        if self.count >= self.at[0] and is_down(self.server):
            self.was_down = True


async def cancelled_at(
    scenario: Scenario, at: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> bool:
    """Cancel a scenario at some steps; return whether it was done before that."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    async with SimulatedServer(any_id=True, session_scoped=False) as server:
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(scenario(server))
        loop.at_step = steps = Steps(server, task.cancel, at)
        await asyncio.wait([task])
        loop.at_step = None
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
        if server.logon_sessions:
            # Nobody can log out of a server that is down; all else holds there too.
            assert steps.was_down
            assert "not logged out" in caplog.text
            server.expire_logon_sessions()
        caplog.clear()
        await nothing_left(server, before, deletes=scenario is delete)
        return steps.count < at[0]


def swept(
    scenario: Scenario, caplog: pytest.LogCaptureFixture, again: int | None = None
) -> int:
    """Cancel a scenario at each step, and perhaps again; return how many there are."""
    step = 1
    while True:
        at = (step,) if again is None else (step, step + again)
        with asyncio.Runner(loop_factory=of_asyncio(SteppedLoop)) as runner:
            if runner.run(cancelled_at(scenario, at, caplog)):
                break
        step += 1
    return step - 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cancelled_at_every_step(
    scenario: Scenario, caplog: pytest.LogCaptureFixture, record_property: Record
) -> None:
    """No asyncio task, connection or logon session is left, and no task is deleted."""
    steps = swept(scenario, caplog)
    record_property("steps", steps)
    assert steps > 10


@pytest.mark.lengthy
@pytest.mark.parametrize("again", [1, 4])
@pytest.mark.parametrize("scenario", [log_on, log_out, renew, close_in_renewal, wait])
def test_cancelled_twice(
    scenario: Scenario,
    again: int,
    caplog: pytest.LogCaptureFixture,
    record_property: Record,
) -> None:
    """The same when it is cancelled again while it ends."""
    steps = swept(scenario, caplog, again)
    record_property("steps", steps)
    assert steps > 10


async def failing(signal: asyncio.Event) -> None:
    """Fail at a signal."""
    await signal.wait()
    raise KeyError("mine")  # noqa: EM101 - no error of ours


async def error_in_the_body(server: SimulatedServer, signal: asyncio.Event) -> None:
    """An error in the body ends everything, and is the error that comes out."""
    task_id = server.add_task("Running").task_id
    with pytest.raises(KeyError, match="mine"):
        async with door(server) as em, em.watch(task_id):
            await failing(signal)


async def break_and_forget(server: SimulatedServer, signal: asyncio.Event) -> None:
    """A watch left by `break` and forgotten stops; the manager goes on."""
    task_id = server.add_task("Running").task_id
    async with door(server) as em:
        async for _ in em.watch(task_id):
            await signal.wait()
            break
        await asyncio.sleep(1)
        assert em.statistics().watched == 0


async def forget_the_watch(server: SimulatedServer, signal: asyncio.Event) -> None:
    """A watch in a cycle that nobody holds stops when that is collected."""
    task_id = server.add_task("Running").task_id
    async with door(server) as em:
        cycle: list[object] = [em.watch(task_id)]
        cycle.append(cycle)
        await signal.wait()
        del cycle
        gc.collect()
        await asyncio.sleep(1)
        assert em.statistics().watched == 0


async def forget_the_manager(server: SimulatedServer, signal: asyncio.Event) -> None:
    """A manager left to the cyclic collector warns what to do, and is closed."""
    task_id = server.add_task("Running").task_id
    em = await door(server)
    cycle: list[object] = [em, em.watch(task_id)]
    cycle.append(cycle)
    await signal.wait()
    del em, cycle
    with pytest.warns(ResourceWarning, match="aclose"):
        gc.collect()


End = Callable[[SimulatedServer, asyncio.Event], Awaitable[None]]


async def ended_at(end: End, step: int) -> None:
    """Let something end suddenly, not before one step of the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    async with SimulatedServer(session_scoped=False) as server:
        before = asyncio.all_tasks()
        signal = asyncio.Event()
        loop.at_step = Steps(server, signal.set, (step,))
        await end(server, signal)
        loop.at_step = None
        assert server.logons.total == 1
        await nothing_left(server, before)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "end", [error_in_the_body, break_and_forget, forget_the_watch, forget_the_manager]
)
def test_other_ends_at_many_steps(end: End) -> None:
    """They leave as little, in mid-request and between two."""
    steps = range(1, 70, 4)
    for step in steps:
        with asyncio.Runner(loop_factory=of_asyncio(SteppedLoop)) as runner:
            runner.run(ended_at(end, step))


def test_the_loop_ends_with_an_open_manager() -> None:
    """`asyncio.run` that ends with a manager open logs out, and warns what to do."""
    kept: list[object] = []

    async def forget(server: ThreadedServer) -> None:
        em = await connect(
            server.url, username=server.username, password=server.password
        )
        kept.extend([em, em.watch("task-1")])

    with ThreadedServer() as server:
        with pytest.warns(ResourceWarning, match="aclose"):
            asyncio.run(forget(server))
        assert server.logons.total == 1
        assert server.logon_sessions == []


BRISK = Pace(first=0.02, growth=1.0, longest=0.02, jitter=0.0)


class StoppedLoop(asyncio.SelectorEventLoop):
    """A loop whose main coroutine may wait for one of its steps."""

    steps = 0
    at = 0
    signal: asyncio.Event

    def _run_once(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.signal.set()
        super()._run_once()  # type: ignore[misc] # typeshed hides it


async def left_at(
    server: ThreadedServer, name: str, step: int, kept: list[object]
) -> None:
    """Return at one step of the loop, with a manager that logs on, polls or renews."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StoppedLoop)
    loop.signal = asyncio.Event()

    async def use() -> None:
        em = SessionManager(
            server.url, username=name, password="admin-secret", pace=BRISK
        )
        kept.append(em)
        await em.open()
        kept.append(em.watch(server.add_task("Running").task_id))
        await em.fetch_all()

    loop.steps, loop.at = 0, step
    kept.append(asyncio.ensure_future(use()))
    await loop.signal.wait()


@pytest.mark.filterwarnings("ignore:the manager of:ResourceWarning")
def test_the_loop_ends_at_many_steps() -> None:
    """A loop that ends logs out, unless it ends in the middle of a logon."""
    lost = 0
    # An account each, since the server may carry out late what was asked of it.
    names = [f"user-{step}" for step in range(1, 40)]
    accounts = dict.fromkeys(names, "admin-secret")
    with ThreadedServer(session_scoped=False, accounts=accounts) as server:
        for step, name in enumerate(names, 1):
            kept: list[object] = []
            with asyncio.Runner(loop_factory=of_asyncio(StoppedLoop)) as runner:
                runner.run(left_at(server, name, step, kept))
            (em,) = (one for one in kept if isinstance(one, SessionManager))
            assert repr(em).endswith("not open>")
            if em.statistics().logons:
                assert name not in {one.username for one in server.logon_sessions}
            else:
                lost += 1
    # At the first steps, and then between a logon's request and its reply.
    assert lost < 10


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
        _, errors = script.communicate(timeout=120)
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
