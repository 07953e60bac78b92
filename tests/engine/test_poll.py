"""The engine: what is due, who may ask, and what a late reply is worth."""

import asyncio

import anyio
import pytest
from support.engines import EngineScene
from support.managers import door, targets

from veeam_tasks import LogonError, Pace, TaskState
from veeam_tasks._engine.engine import Poller, running_loop
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)


def test_without_a_loop_it_says_what_to_do() -> None:
    """A plain call is an error in words that help, without a cause that does not."""
    with pytest.raises(RuntimeError, match=r"inside asyncio\.run") as caught:
        running_loop()
    assert caught.value.__context__ is None


async def test_a_failing_collection_is_no_outage_while_tasks_answer() -> None:
    """A watch of all tasks looks for new ones later; nobody is told of an outage."""
    kinds: list[str] = []
    async with (
        SimulatedServer() as server,
        door(
            server,
            pace=Pace(first=200, longest=200),
            on_notice=lambda notice: kinds.append(notice.kind.value),
        ) as em,
    ):
        known = server.add_task("Running 1h, Finished ok").task_id
        watch = em.watch_all()
        assert (await anext(watch)).task_id == known
        fault = server.faults.add(Fault("status", status=500, path="/tasks$"))
        await anyio.sleep(600)
        assert fault.played >= 5
        assert kinds == ["logged_on"]
        new = server.add_task("Running 1h, Finished ok").task_id
        server.faults.remove(fault)
        with anyio.fail_after(40):
            assert (await anext(watch)).task_id == new


@pytest.mark.parametrize("mode", ["never", "auto", "always"])
async def test_a_renewal_asks_for_no_task_if_none_is_watched(mode: str) -> None:
    """Also when all tasks would be asked for together."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        await em.read("jobs")
        server.expire_logon_sessions()
        await em.read("jobs")
        await anyio.sleep(60)
        assert em.statistics().renewals == 1
        assert not [path for path in targets(server) if path.startswith("tasks")]


async def test_in_an_outage_nothing_is_sent_for_nobody() -> None:
    """When the last watch has gone the probes end; whoever comes then has one soon."""
    async with SimulatedServer() as server, door(server, keep_alive=False) as em:
        task_id = server.add_task("Running 1h, Finished ok").task_id
        watch = em.watch(task_id)
        await anext(watch)
        fault = server.faults.add(Fault("status", status=503))
        await anyio.sleep(60)
        await watch.aclose()
        await anyio.sleep(60)
        before = server.requests.total
        await anyio.sleep(3600)
        assert server.requests.total == before
        server.faults.remove(fault)
        later = em.watch(task_id)
        with anyio.fail_after(40):
            assert (await anext(later)).task_id == task_id


async def test_a_poll_costs_its_share_of_the_time_and_its_bytes() -> None:
    """In virtual time it takes none, so that its bytes are all that is noted."""
    async with SimulatedServer() as server, door(server) as em:
        watch = em.watch(server.add_task("Running 1h, Finished ok").task_id)
        await anext(watch)
        await anyio.sleep(60)
        statistics = em.statistics()
        size = statistics.bytes_in / statistics.requests
        cost = em._runtime.engine.collection.cost
        assert 0 < cost._single < 2 * size * 1e-7
        await watch.aclose()


async def test_a_poll_that_somebody_cancels_is_no_poll_that_took_too_long() -> None:
    """Its own deadline becomes an error; any other cancellation goes on."""
    scene = EngineScene()
    silent = asyncio.Event()

    async def poll(*_: object) -> object:
        silent.set()
        return await asyncio.Event().wait()

    scene.script.poll = poll  # type: ignore[attr-defined] # what the engine asks with

    async def ask() -> object:
        this = asyncio.current_task()
        assert this is not None
        url = scene.script.url("tasks/task-1")
        return await scene.engine._get(Poller(this), url, 1)

    asking = asyncio.create_task(ask())
    await silent.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("kind", ["stall", "delay"])
async def test_a_probe_that_came_to_nothing_is_followed_by_another(kind: str) -> None:
    """Its task was dropped while it hung; the other watch waits for the queue."""
    async with SimulatedServer() as server, door(server, request_timeout=20) as em:
        tasks = [server.add_task("Running 1h, Finished ok") for _ in range(2)]
        watches = {task.task_id: em.watch(task.task_id) for task in tasks}
        await anyio.sleep(5)
        await server.pause()
        await anyio.sleep(20)
        server.faults.add(Fault(kind, times=1, seconds=10))
        await server.resume()
        for _ in range(60):
            await anyio.sleep(0.5)
            if em.statistics().in_flight:
                break
        assert em.statistics().in_flight == 1
        await watches.pop(targets(server)[-1].rpartition("/")[2]).aclose()
        for task in tasks:
            task.finish()
        ((task_id, waiting),) = watches.items()
        with anyio.fail_after(60):
            assert (await waiting.wait()).succeeded == (task_id,)


async def test_a_probe_is_not_given_up_while_its_only_task_is_under_way() -> None:
    """Everything watched hangs since before the queue closed; it is asked for later."""
    async with SimulatedServer() as server, door(server, request_timeout=100) as em:
        task = server.add_task("Running 1h, Finished ok")
        watch = em.watch(task.task_id)
        await anext(watch)
        server.faults.add(Fault("stall", path=f"{task.task_id}$", times=1))
        await anyio.sleep(5)
        down = server.faults.add(Fault("drop"))
        gone = em.watch("task-7", "task-8", "task-9")
        await anyio.sleep(5)
        await gone.aclose()
        await anyio.sleep(60)
        server.faults.remove(down)
        task.finish()
        with anyio.fail_after(100):
            assert (await watch.wait()).succeeded == (task.task_id,)


@pytest.mark.parametrize("again", [False, True])
async def test_a_reply_for_a_task_that_was_dropped_meanwhile_is_nobodys(
    again: bool,
) -> None:
    """Also if it is watched anew by then: that is another record, asked for anew."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        task = server.add_task("Running 1h, Finished ok")
        other = server.add_task("Running 1h, Finished ok")
        delay = Fault("delay", method="GET", path=f"{task.task_id}$", seconds=5)
        server.faults.add(delay)
        watch = em.watch(other.task_id, task.task_id)
        await anyio.sleep(2)
        watch.discard(task.task_id)
        server.faults.clear()
        if again:
            watch.add(task.task_id)
        await anyio.sleep(20)
        events = [await anext(watch) for _ in range(1 + again)]
        assert {event.task_id for event in events} == set(watch.report.outcomes)
        assert all(event.sequence == 1 for event in events)
        assert not watch._subscription._owed
        asked = targets(server).count(f"tasks/{task.task_id}")
        assert asked >= 19 if again else asked == 1


async def test_whoever_comes_during_a_poll_is_told_by_its_reply() -> None:
    """Although nothing has changed for whoever was there when it was sent."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        task = server.add_task("Running 1h, Finished ok")
        first = em.watch(task.task_id)
        assert (await anext(first)).sequence == 1
        # The first polls are measured, and therefore looked at in any case.
        await anyio.sleep(600)
        server.faults.add(Fault("delay", path=f"{task.task_id}$", seconds=10))
        await anyio.sleep(5)
        asked = targets(server).count(f"tasks/{task.task_id}")
        second = em.watch(task.task_id)
        with anyio.fail_after(10):
            assert (await anext(second)).sequence == 1
        assert targets(server).count(f"tasks/{task.task_id}") == asked
        assert not first._subscription._owed


async def test_a_reply_that_comes_after_the_end_of_all_is_told_to_nobody() -> None:
    """A refused logon ends the watches; a poll that was under way adds no event."""
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("Running 1h, Finished ok")
        watch = em.watch(task.task_id)
        assert (await anext(watch)).state is TaskState.RUNNING
        task.finish()
        late = Fault("delay", method="GET", path=f"{task.task_id}$", seconds=5)
        server.faults.add(late)
        await anyio.sleep(2)
        assert late.played == 1
        server.change_password("another")
        server.expire_logon_sessions()
        with pytest.raises(LogonError):
            await em.fetch_all()
        await anyio.sleep(20)
        assert not watch._subscription._owed
        with pytest.raises(LogonError):
            await anext(watch)
        assert watch.report.unfinished == (task.task_id,)


async def test_an_unchanged_body_under_a_new_token_is_known_to_be_of_that_token() -> (
    None
):
    """So that after the next renewal it is compared with what that one knew."""
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("OperationFinished")
        watch = em.watch(task.task_id)
        for _ in range(3):
            await anyio.sleep(5)
            server.expire_logon_sessions(keep_tasks=True)
        await anyio.sleep(5)
        assert em.statistics().renewals == 3
        assert (await anext(watch)).state is TaskState.OPERATION_FINISHED
        assert not watch._subscription._owed
        # Within one logon session whatever is seen is told.
        task.set_state("Running")
        assert (await anext(watch)).state is TaskState.RUNNING


async def test_an_unchanged_body_is_good_news_in_trouble() -> None:
    """Two failures, a reply as before, two failures: no three in a row."""
    kinds: list[str] = []
    async with (
        SimulatedServer() as server,
        door(
            server,
            max_in_flight=1,
            on_notice=lambda notice: kinds.append(notice.kind.value),
        ) as em,
    ):
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(3)]
        watch = em.watch(ids)
        await anyio.sleep(5)
        for task_id in ids[:2]:
            server.faults.add(Fault("status", status=500, path=f"{task_id}$"))
        await anyio.sleep(60)
        assert kinds == ["logged_on"]
        assert len(watch.report.unfinished) == 3
