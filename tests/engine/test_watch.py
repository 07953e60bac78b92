"""Watches and waits by themselves: what they make of what the engine tells them."""

import asyncio
import gc
from collections.abc import Callable

import anyio
import pytest
from support.managers import door
from support.observations import observation

from veeam_tasks import (
    CertificateError,
    ClosedError,
    LogonError,
    Pace,
    Report,
    TaskState,
    TransportError,
    Watch,
    WatchTimeoutError,
)
from veeam_tasks._engine.watch import Waiter, why_ended
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)


async def test_nothing_is_told_after_the_final_event() -> None:
    """Whatever comes later, from whatever reply that was under way."""
    async with SimulatedServer() as server, door(server) as em:
        server.faults.add(Fault("stall", method="GET"))
        watch = em.watch("task-1", "task-2")
        tell = watch._subscription.on_observation
        tell(observation("task-1", TaskState.FINISHED))
        tell(observation("task-1", TaskState.FINISHED, success=False))
        tell(observation("task-1", TaskState.LOST))
        tell(observation("task-9"))
        event = await anext(watch)
        assert (event.is_final, event.succeeded, event.sequence) == (True, True, 1)
        assert watch.report.unfinished == ("task-2",)
        tell(observation("task-2", TaskState.LOST))
        assert (await watch.wait()).lost == ("task-2",)


async def test_the_first_reason_counts() -> None:
    """A watch that was cut is cut; what is told later is not its end."""
    async with SimulatedServer() as server, door(server) as em:
        server.faults.add(Fault("stall", method="GET"))
        watch = em.watch("task-1", timeout=5)
        await watch.aclose()
        await watch.aclose()
        watch._subscription.on_end(KeyError("later"))
        await anyio.sleep(10)
        with pytest.raises(ClosedError):
            await watch.wait()


async def test_a_closed_watch_of_all_tasks_takes_no_more() -> None:
    """While another one goes on, the engine may still know of it."""
    async with SimulatedServer() as server, door(server) as em:
        closed, goes_on = em.watch_all(), em.watch_all()
        await anyio.sleep(2)
        await closed.aclose()
        new = server.add_task("Running 1h, Finished ok").task_id
        assert (await anext(goes_on)).task_id == new
        assert closed._subscription.on_discovered([new], 1) is False
        assert dict(closed.report.outcomes) == {}


async def test_the_timer_of_a_watch_that_nobody_holds_does_nothing() -> None:
    """It does not keep the watch alive either."""
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("Running 1h, Finished ok").task_id
        em.watch(task, timeout=30)
        gc.collect()
        await anyio.sleep(60)
        assert em.statistics().watched == 0


async def test_an_ended_watch_has_no_timer_left() -> None:
    """Its time may run out when everything has ended: that is no end of it."""
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("Running 5s, Finished ok").task_id
        watch = em.watch(task, timeout=30)
        await anyio.sleep(20)
        # Nobody has read it so far, so its time does run out.
        await anyio.sleep(20)
        assert (await watch.wait()).succeeded == (task,)
        assert watch._subscription._timer is None


@pytest.mark.parametrize("first", ["end", "error"])
async def test_a_wait_ends_with_what_came_first(first: str) -> None:
    """Its end and a cut in one step: whoever waits is told of the first."""
    async with SimulatedServer() as server, door(server) as em:
        server.faults.add(Fault("stall", method="GET"))
        host = em._runtime
        assert host is not None
        waiter = Waiter(host.engine, "task-1", Pace())
        waiting = asyncio.create_task(waiter.wait(None))
        await anyio.sleep(1)
        tell: list[Callable[[], None]] = [
            lambda: waiter.on_observation(observation("task-1", TaskState.FINISHED)),
            lambda: waiter.on_end(ClosedError(what="the manager", advice="closed")),
        ]
        for step in tell if first == "end" else tell[::-1]:
            step()
        if first == "end":
            assert (await waiting).succeeded
        else:
            with pytest.raises(ClosedError):
                await waiting


@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_a_wait_without_time_says_what_it_has_seen(seconds: float) -> None:
    """Not even the first reply came."""
    async with SimulatedServer() as server, door(server) as em:
        server.faults.add(Fault("stall", method="GET"))
        with pytest.raises(WatchTimeoutError) as caught:
            await em.wait("task-1", timeout=seconds)
        assert dict(caught.value.report.outcomes) == {"task-1": None}
        assert em.statistics().watched == 0


def test_a_watch_offers_what_is_the_callers() -> None:
    """Completion at a prompt shows no name that only the engine calls."""
    offered = {name for name in dir(Watch) if not name.startswith("_")}
    members = {"tasks", "report", "add", "discard", "wait", "aclose"}
    assert offered == members | {"pace", "is_endless", "manager", "checkpoint"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ClosedError(what="the watch", advice="it was closed"), "closed"),
        (
            ClosedError(what="the manager", advice="it was closed"),
            "its manager was closed",
        ),
        (
            ClosedError(what="the manager", advice="an error of its own stopped it"),
            "the manager: an error of its own stopped it",
        ),
        (
            WatchTimeoutError(seconds=2.5, report=Report(outcomes={})),
            "time ran out after 2.5 s",
        ),
        (
            LogonError(request="POST x", status=401, message="Wrong"),
            "the logon was refused",
        ),
        (
            CertificateError(request="GET x", reason="self-signed"),
            "the server's certificate is not trusted",
        ),
        (TransportError(request="GET x", reason="no reply"), "GET x: no reply"),
        (TransportError(request="G", reason="x" * 500), f"G: {'x' * 117}..."),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_its_repr_says_in_words_what_has_ended_it(error: Exception, words: str) -> None:
    """On one line, and never by the name of a class that has words of its own."""
    assert why_ended(error) == words
