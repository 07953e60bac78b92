"""A loop that was blocked: by other code, a stopped process, a laptop that slept."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from support.managers import STEADY, door
from support.virtual_time import BlockableLoop

from veeam_tasks import (
    Pace,
    RequestTimeoutError,
    SessionManager,
    WatchTimeoutError,
    inspect_certificate,
)
from veeam_tasks.simulator import Fault, SimulatedServer, ThreadedServer

pytestmark = pytest.mark.virtual_time(loop=BlockableLoop)

STOPPED = """
import asyncio, veeam_tasks as vt
told = []
async def main():
    async with vt.connect({server.url!r}, username={server.username!r},
            password={server.password!r}, request_timeout=3, coalesce="never",
            pace=vt.Pace(first=1, growth=1, longest=1, jitter=0),
            on_notice=lambda notice: told.append(notice.kind.value)) as em:
        watch = em.watch([f"task-{{n}}" for n in range(1, 21)])
        for _ in range(3):
            polls = em.statistics().polls
            while em.statistics().polls < polls + 50:
                await asyncio.sleep(0.05)
            print("polled", flush=True)
        print(em.statistics().errors, "errors, told:", *told, flush=True)
asyncio.run(main())
"""

START = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"
LONG = Pace(first=2, growth=1, longest=2, jitter=0)


async def block_when_asked(server: SimulatedServer, seconds: float) -> None:
    """Block the loop once requests are under way, whose replies then lie there."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, BlockableLoop)
    before = server.requests.total
    while server.requests.total == before:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.02)
    # They were asked for, and the replies come in the next steps of the loop.
    loop.block(seconds)
    await asyncio.sleep(0.5)


@pytest.mark.parametrize("seconds", [3.0, 600.0])
@pytest.mark.parametrize("mode", ["never", "auto", "always"])
async def test_a_blocked_loop_is_no_fault_of_the_server(
    mode: str, seconds: float
) -> None:
    """No poll fails, nothing is told, and how tasks are asked for stays as it was."""
    notices: list[str] = []
    async with (
        SimulatedServer() as server,
        door(
            server,
            coalesce=mode,
            pace=LONG,
            request_timeout=5,
            keep_alive=False,
            on_notice=lambda notice: notices.append(notice.kind.value),
        ) as em,
    ):
        server.faults.add(Fault("delay", seconds=0.05, method="GET"))
        ids = [server.add_task("Running 20h, Finished ok").task_id for _ in range(40)]
        watch = em.watch(ids)
        await anyio.sleep(30)
        before = em.statistics()
        for _ in range(6):
            await block_when_asked(server, seconds)
            await anyio.sleep(3.3)
        after = em.statistics()
        assert after.errors == after.retries == 0
        assert after.coalescing == before.coalescing, after.coalescing_reason
        assert notices == ["logged_on"]
        assert after.polls + after.coalesced > before.polls + before.coalesced
        await watch.aclose()


async def test_a_call_under_way_while_the_loop_is_blocked_is_answered() -> None:
    """What one asks for is given its time too."""
    async with (
        SimulatedServer() as server,
        door(server, request_timeout=5) as em,
    ):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        server.faults.add(Fault("delay", seconds=0.05, method="GET"))
        task_id = server.add_task("Running 1h, Finished ok").task_id
        for call in (lambda: em.fetch(task_id), em.fetch_all, lambda: em.read("jobs")):
            under_way = asyncio.create_task(call())  # type: ignore[arg-type,func-returns-value,var-annotated] # three kinds of result
            await asyncio.sleep(0.01)
            loop.block(60)
            assert await under_way


async def test_a_server_that_does_not_answer_is_late_all_the_same() -> None:
    """The deadline moves by the time blocked, and no further."""
    async with (
        SimulatedServer() as server,
        door(server, request_timeout=5, pace=STEADY, coalesce="never") as em,
    ):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        task_id = server.add_task("Running 1h, Finished ok").task_id
        watch = em.watch(task_id)
        await anyio.sleep(1.5)
        server.faults.add(Fault("stall"))
        await anyio.sleep(2)
        loop.block(100)
        await anyio.sleep(1)
        assert em.statistics().errors == 0
        await anyio.sleep(4)
        assert em.statistics().errors == 1
        began = loop.time()
        calling = asyncio.create_task(em.fetch(task_id))
        await asyncio.sleep(1)
        loop.block(100)
        with pytest.raises(RequestTimeoutError, match="within 5 s"):
            await calling
        assert 104 <= loop.time() - began <= 107
        await watch.aclose()


Waiting = Callable[[SessionManager, str], Awaitable[object]]
WAYS: dict[str, Waiting] = {
    "watch": lambda em, task_id: em.watch(task_id, timeout=20).wait(),
    "wait": lambda em, task_id: em.wait(task_id, timeout=20),
    "follow": lambda em, task_id: em.follow(task_id, timeout=20),
}


@pytest.mark.parametrize("seconds", [20.0, 600.0])
@pytest.mark.parametrize("way", WAYS)
async def test_the_time_of_a_caller_is_that_in_which_the_loop_ran(
    way: str, seconds: float
) -> None:
    """A task that ended meanwhile is told of, however late the loop comes to it."""
    script = "Running 15s, Finished ok"
    async with SimulatedServer() as server:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        async with door(server, pace=STEADY) as em:
            # What makes no job session.
            task_id = server.add_task(script, operation="CloneJob").task_id
            waiting = asyncio.ensure_future(WAYS[way](em, task_id))
            await asyncio.sleep(1.01)
            loop.block(seconds)
            assert await waiting


@pytest.mark.parametrize("way", ["watch", "wait"])
async def test_the_time_of_a_caller_ends_all_the_same(way: str) -> None:
    """It is longer by the times for which the loop was blocked, and no more."""
    async with SimulatedServer() as server, door(server, pace=STEADY) as em:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        task_id = server.add_task("Running 9h, Finished ok").task_id
        began = loop.time()
        waiting = asyncio.ensure_future(WAYS[way](em, task_id))
        for _ in range(3):
            await asyncio.sleep(4)
            loop.block(100)
        with pytest.raises(WatchTimeoutError, match="after 20 s"):
            await waiting
        assert loop.time() - began == pytest.approx(320, abs=4)


async def test_what_has_come_in_the_last_moment_is_read_first() -> None:
    """Also where the loop was blocked only for the end of the time."""
    async with SimulatedServer() as server, door(server, pace=STEADY) as em:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        task = server.add_task("Running 9h, Finished ok")
        waiting = asyncio.ensure_future(em.wait(task.task_id, timeout=20))
        await asyncio.sleep(19.9)
        task.finish()
        loop.block(0.5)
        assert await waiting


async def test_a_job_session_is_searched_for_the_time_in_which_the_loop_ran() -> None:
    """Blocked for longer than it may be searched, it goes on for what is left."""
    async with SimulatedServer(job_links="never", session_delay=270) as server:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        async with door(server, pace=STEADY) as em:
            running = asyncio.ensure_future(em.run(START, find_timeout=100))
            await asyncio.sleep(20)
            loop.block(200)
            run = await running
            assert run.session is not None


async def test_a_look_at_a_certificate_outlasts_a_blocked_loop() -> None:
    """The handshake is given its time too."""
    async with SimulatedServer(tls=True) as server:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BlockableLoop)
        looking = asyncio.ensure_future(inspect_certificate(server.url, timeout=5))
        await asyncio.sleep(0)
        loop.block(60)
        assert (await looking).fingerprint


@pytest.mark.lengthy
@pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="a process cannot be stopped"
)
def test_a_process_that_was_stopped_blames_nobody(tmp_path: Path) -> None:
    """SIGSTOP for longer than `request_timeout`, then SIGCONT: no poll has failed."""
    with ThreadedServer() as server:
        server.faults.add(Fault("delay", seconds=0.3, method="GET"))
        for _ in range(20):
            server.add_task("Running 1h, Finished ok")
        script = tmp_path / "watching.py"
        script.write_text(STOPPED.format(server=server), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            for _ in range(2):
                assert process.stdout.readline() == "polled\n"
                process.send_signal(signal.SIGSTOP)
                # Longer than its request_timeout; the server goes on meanwhile.
                threading.Event().wait(4)
                process.send_signal(signal.SIGCONT)
            told, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert told.split("\n")[-2] == "0 errors, told: logged_on"
