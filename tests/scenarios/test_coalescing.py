"""Together or singly: the mode changes cost and nothing else."""

import asyncio
from typing import Literal

import anyio
import pytest
from support.managers import door

from veeam_tasks import Pace
from veeam_tasks.simulator import Fault, Mix, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

MODES = pytest.mark.parametrize("mode", ["never", "auto", "always"])
PACE = Pace(first=1, growth=1.5, longest=8)
PROOFS = 3
"""Single polls a minute, of one task, by which the collection is proved, at most."""


async def outcomes(mode: str, count: int) -> dict[str, tuple[bool | None, str | None]]:
    """Watch drawn tasks to their ends; return how each ended."""
    async with (
        SimulatedServer(seed=11) as server,
        door(server, coalesce=mode, pace=PACE) as em,
    ):
        ids = [task.task_id for task in server.add_tasks(count, Mix())]
        report = await em.watch(ids).wait()
        return {
            task_id: (event.succeeded, event.task.result.message)
            for task_id, event in report.outcomes.items()
            if event is not None and event.task is not None and event.task.result
        }


async def test_the_three_modes_tell_the_same_ends() -> None:
    """Switching the mode by hand changes no outcome."""
    singly = await outcomes("never", 200)
    assert len(singly) == 200
    assert await outcomes("auto", 200) == singly
    assert await outcomes("always", 200) == singly


@pytest.mark.lengthy
async def test_the_mode_chooses_itself() -> None:
    """Many tasks of a small collection are asked for together, with far fewer GETs."""
    asked: dict[str, int] = {}
    for mode in ("never", "auto"):
        async with (
            SimulatedServer() as server,
            door(server, coalesce=mode, pace=Pace(first=5, growth=1, longest=5)) as em,
        ):
            # On this clock only what the server is made to take has a cost.
            server.faults.add(Fault("delay", method="GET", seconds=0.05))
            ids = [server.add_task("Running 2m, Finished").task_id for _ in range(500)]
            report = await em.watch(ids).wait()
            assert len(report.succeeded) == 500
            asked[mode] = server.requests.total
            chosen = em.statistics()
            assert (chosen.coalesced > 0) is (mode == "auto")
            assert chosen.coalescing_reason
    assert asked["auto"] < asked["never"] / 4


@MODES
async def test_a_change_is_seen_within_a_pause(mode: str) -> None:
    """Detection holds in each mode: no later than one pause after the change."""
    pace = Pace(first=2, growth=1, longest=2, jitter=0)
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=pace) as em,
    ):
        tasks = [server.add_task("Running") for _ in range(60)]
        loop_time = anyio.current_time
        async with em.watch([task.task_id for task in tasks]) as watch:
            for _ in tasks:
                await anext(watch)
            await anyio.sleep(20)
            for task in tasks:
                task.finish()
            changed = loop_time()
            for _ in tasks:
                event = await anext(watch)
                assert event.is_final
            assert loop_time() - changed <= 2 * 1.05


@MODES
async def test_newcomers_and_leavers_while_it_runs(mode: str) -> None:
    """Tasks added and dropped in mid-watch are served like the first ones."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=PACE) as em,
    ):
        first = [server.add_task("Running 30s, Finished").task_id for _ in range(40)]
        watch = em.watch(first)
        await anyio.sleep(10)
        later = [server.add_task("Running 30s, Finished").task_id for _ in range(40)]
        watch.add(later)
        watch.discard(first[:10])
        report = await watch.wait()
        assert set(report.succeeded) == {*first[10:], *later}


@MODES
async def test_an_id_missing_from_the_collection_is_asked_for_singly(mode: str) -> None:
    """A watched ID that the collection lacks is lost by its own two replies only."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=PACE) as em,
    ):
        ids = [server.add_task("Running 30s, Finished").task_id for _ in range(20)]
        report = await em.watch([*ids, "task-777"]).wait()
        assert len(report.succeeded) == 20
        assert report.lost == ("task-777",)
        singly = [r for r in server.requests if r.path.endswith("/tasks/task-777")]
        assert len(singly) == 2


@pytest.mark.parametrize(
    "kind", ["html", "cut_body", "garbage_body", "duplicate", "redirect", "vanish"]
)
@pytest.mark.parametrize("mode", ["auto", "always"])
async def test_a_bad_collection_is_not_relied_on(kind: str, mode: str) -> None:
    """A server that cuts, refuses or garbles the collection is served singly."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=PACE) as em,
    ):
        ids = [server.add_task("Running 30s, Finished").task_id for _ in range(40)]
        server.faults.add(Fault(kind, method="GET", path=r"/tasks$"))
        report = await em.watch(ids).wait()
        assert len(report.succeeded) == 40


@pytest.mark.parametrize("kind", ["reset", "cut_body"])
async def test_a_collection_that_never_comes_is_seldom_asked_for(kind: str) -> None:
    """Also the first one: after a fault there is a break, and then a longer one."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce="auto", pace=PACE) as em,
    ):
        ids = [server.add_task("Running").task_id for _ in range(40)]
        server.faults.add(Fault(kind, method="GET", path=r"/tasks$"))
        watch = em.watch(ids)
        await anyio.sleep(240)
        together = [r for r in server.requests if r.path.endswith("/tasks")]
        # At once, a minute later, two minutes later; aiohttp may send each twice.
        assert 3 <= len(together) <= 6
        assert len(watch.tasks) == 40


async def test_an_unchanged_collection_costs_one_request_a_pause() -> None:
    """While nothing changes, one request answers for all tasks."""
    pace = Pace(first=10, growth=1, longest=10, jitter=0)
    async with (
        SimulatedServer() as server,
        door(server, coalesce="always", pace=pace) as em,
    ):
        ids = [server.add_task("Running 1h, Finished").task_id for _ in range(300)]
        watch = em.watch(ids)
        await anyio.sleep(15)
        before = server.requests.total
        await anyio.sleep(300)
        assert server.requests.total - before <= 31 + PROOFS * 300 / 60
        assert len(watch.tasks) == 300
        await watch.aclose()


@pytest.mark.lengthy
async def test_waits_that_come_one_by_one_are_soon_asked_for_together() -> None:
    """A trickle costs little more than if all were asked for together from the start.

    The collection costs thirty single polls here, as measured of a real one. Pauses
    have no jitter: how many polls go out at once, hence what one costs on average and
    when the change comes, would else be up to chance.
    """
    asked: dict[str, int] = {}
    pace = Pace(jitter=0)
    for mode in ("always", "auto"):
        async with (
            SimulatedServer() as server,
            door(server, coalesce=mode, pace=pace) as em,
        ):
            server.faults.add(Fault("delay", path=r"/tasks$", seconds=0.06))
            server.faults.add(Fault("delay", path=r"/tasks/", seconds=0.002))
            waiting = []
            for _ in range(1000):
                task = server.add_task("Running 60s, Finished ok")
                waiting.append(asyncio.create_task(em.wait(task.task_id)))
                await anyio.sleep(0.05)
            assert all(task.succeeded for task in await asyncio.gather(*waiting))
            asked[mode] = em.statistics().requests
    assert asked["auto"] <= 1.5 * asked["always"], asked


@pytest.mark.parametrize("mode", ["auto", "always"])
async def test_one_quick_task_does_not_quicken_the_collection(
    mode: Literal["auto", "always"],
) -> None:
    """It is polled singly at its pace, and the others together at theirs."""
    slow = Pace(first=5, growth=1, longest=5, jitter=0)
    quick = Pace(first=0.1, growth=1, longest=0.1, jitter=0)
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=slow) as em,
    ):
        server.faults.add(Fault("delay", path=r"/tasks$", seconds=0.06))
        server.faults.add(Fault("delay", path=r"/tasks/", seconds=0.01))
        ids = [server.add_task("Running 1h, Finished").task_id for _ in range(400)]
        async with em.watch(ids) as watch, em.watch("task-7", pace=quick) as second:
            await anyio.sleep(60)
            assert em.statistics().coalescing == "together"
            server.requests.clear()
            await anyio.sleep(50)
            paths = [request.path for request in server.requests]
            assert 9 <= sum(path.endswith("/tasks") for path in paths) <= 11
            assert 350 <= sum(path.endswith("/task-7") for path in paths) <= 510
            server.task("task-7").finish()
            assert (await anext(second)).task_id == "task-7"
            await second.aclose()
            assert len(watch.tasks) == 400
