"""Watching all tasks: what was discarded, IDs that come again, and months of it."""

import contextlib

import anyio
import pytest
from support.managers import door

from veeam_tasks import Pace, TaskEvent, Watch
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time

MODES = pytest.mark.parametrize("mode", ["never", "auto", "always"])


def told(event: TaskEvent) -> tuple[str, str, int]:
    """Return what tells two events apart."""
    return event.task_id, event.state.value, event.sequence


async def read(watch: Watch, seconds: float) -> list[tuple[str, str, int]]:
    """Return what a watch tells within some seconds."""
    events: list[tuple[str, str, int]] = []
    with anyio.move_on_after(seconds), contextlib.suppress(StopAsyncIteration):
        while True:
            events.append(told(await anext(watch)))
    return events


@MODES
async def test_a_discard_before_the_task_is_listed_is_remembered(mode: str) -> None:
    """A task that was discarded before it was there is never told of."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        watch = em.watch_all()
        watch.discard("task-1")
        assert await read(watch, 20) == []
        assert server.add_task("Running").task_id == "task-1"
        assert server.add_task("Running").task_id == "task-2"
        assert await read(watch, 60) == [("task-2", "Running", 1)]
        assert list(watch.report.outcomes) == ["task-2"]


@MODES
async def test_a_discard_holds_over_a_renewal_that_keeps_the_task(mode: str) -> None:
    """The new logon session lists the very task that was discarded."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.add_task("Running")
        watch = em.watch_all()
        assert await read(watch, 20) == [("task-1", "Running", 1)]
        watch.discard("task-1")
        server.expire_logon_sessions(keep_tasks=True)
        assert await read(watch, 100) == []


@MODES
async def test_an_id_discarded_before_a_renewal_may_come_again(mode: str) -> None:
    """Once it has gone, it is another task under the new logon session, and told."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.add_task("Running")
        watch = em.watch_all()
        assert await read(watch, 20) == [("task-1", "Running", 1)]
        watch.discard("task-1", "task-2")
        server.restart()
        assert await read(watch, 100) == []
        for _ in range(2):
            server.add_task("Running")
        events = await read(watch, 100)
        assert sorted(events) == [("task-1", "Running", 1), ("task-2", "Running", 1)]


@MODES
@pytest.mark.parametrize("end", ["Running 5s, Finished ok", "Finished failed"])
async def test_an_id_that_ended_before_a_renewal_comes_again(
    mode: str, end: str
) -> None:
    """A task of the new logon session is told from sequence 1, whatever had its ID."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.add_task("Finished ok")
        watch = em.watch_all()
        assert await read(watch, 20) == [("task-1", "Finished", 1)]
        server.restart()
        assert server.add_task(end).task_id == "task-1"
        events = await read(watch, 100)
        expected = [("task-1", "Running", 1), ("task-1", "Finished", 2)]
        if end == "Finished failed":
            expected = [("task-1", "Finished", 1)]
            assert watch.report.failed == ("task-1",)
        assert events == expected
        assert list(watch.report.outcomes) == ["task-1"]
        assert em.statistics().watched == 0


@MODES
async def test_an_equal_task_is_another_if_it_was_not_listed_at_first(
    mode: str,
) -> None:
    """What the new logon session listed only later is new, even if it looks alike."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.add_task("Finished ok")
        watch = em.watch_all()
        assert await read(watch, 20) == [("task-1", "Finished", 1)]
        server.restart()
        assert await read(watch, 100) == []
        assert watch.report.succeeded == ("task-1",)
        server.add_task("Finished ok")
        assert await read(watch, 100) == [("task-1", "Finished", 1)]


@MODES
async def test_a_renewal_that_keeps_tasks_tells_none_of_them_again(mode: str) -> None:
    """A task that has ended has one final event, also where the server keeps it."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        for end in ("ok", "failed", "unsettled"):
            server.add_task(f"Running 5s, Finished {end}")
        watch = em.watch_all()
        assert len(await read(watch, 60)) == 6
        for _ in range(3):
            server.expire_logon_sessions(keep_tasks=True)
            assert await read(watch, 100) == []
        assert em.statistics().renewals == 3
        assert em.statistics().watched == 0


@MODES
async def test_an_owed_end_is_told_before_the_task_that_has_its_id_now(
    mode: str,
) -> None:
    """No final event is dropped, and what is discarded takes those owed along."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        for _ in range(2):
            server.add_task("Finished ok")
        watch = em.watch_all()
        await anyio.sleep(60)
        server.restart()
        for _ in range(2):
            server.add_task("Running")
        await anyio.sleep(100)
        assert "4 events to read" in repr(watch)
        watch.discard("task-2")
        assert [told(await anext(watch)) for _ in range(2)] == [
            ("task-1", "Finished", 1),
            ("task-1", "Running", 1),
        ]
        assert await read(watch, 100) == []


@MODES
async def test_a_task_that_took_the_id_of_a_lost_one_is_told(mode: str) -> None:
    """What made a watched task LOST is itself watched from then on."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.add_task("Running 1h, Finished ok")
        watch = em.watch_all()
        watch.add("task-2")
        assert await read(watch, 20) == [
            ("task-1", "Running", 1),
            ("task-2", "Lost", 1),
        ]
        server.restart()
        for _ in range(2):
            server.add_task("Running 50s, Finished ok", operation="CloneJob")
        events = await read(watch, 200)
        assert [one for one in events if one[0] == "task-1"] == [
            ("task-1", "Lost", 2),
            ("task-1", "Running", 1),
            ("task-1", "Finished", 2),
        ]
        assert [one for one in events if one[0] == "task-2"] == [
            ("task-2", "Running", 1),
            ("task-2", "Finished", 2),
        ]


@MODES
async def test_a_lost_task_that_is_there_again_is_not_told_again(mode: str) -> None:
    """LOST is final for that task, also where the next logon session shows it."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.add_task("Running 5s, gone 20s, Running 1h, Finished ok")
        watch = em.watch_all()
        assert await read(watch, 20) == [
            ("task-1", "Running", 1),
            ("task-1", "Lost", 2),
        ]
        assert await read(watch, 60) == []
        server.expire_logon_sessions(keep_tasks=True)
        assert await read(watch, 100) == []
        assert em.statistics().watched == 0


async def test_an_id_that_a_submit_gave_again_can_be_added_again() -> None:
    """To any watch: what ended under an earlier logon session was another task."""
    async with SimulatedServer() as server, door(server) as em:
        action = f"jobs/{server.jobs[0].job_id}?action=start"
        server.set_script("Finished ok")
        old = await em.submit(action)
        watch = em.watch(old)
        assert (await watch.wait()).succeeded == (old.task_id,)
        watch.add(old)
        assert await read(watch, 10) == []
        server.restart()
        await anyio.sleep(0.1)  # the connections that it cut are seen to be cut
        server.set_script("Running 5s, Finished failed")
        new = await em.submit(action)
        assert new.task_id == old.task_id
        watch.add(new)
        assert await read(watch, 60) == [
            (new.task_id, "Running", 1),
            (new.task_id, "Finished", 2),
        ]
        assert watch.report.failed == (new.task_id,)


@MODES
async def test_what_has_ended_and_gone_is_dropped_after_a_while(mode: str) -> None:
    """Months of watching all keep what is there, is running, or was not yet read."""
    pace = Pace(first=100, growth=1, longest=100)
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=pace) as em,
    ):
        ended = [server.add_task("Finished ok").task_id for _ in range(5)]
        kept = server.add_task("Finished ok").task_id
        watch = em.watch_all()
        assert len(await read(watch, 200)) == 6
        watch.discard(ended[0])
        late = server.add_task("Finished ok").task_id
        await anyio.sleep(200)
        for task_id in [*ended, late]:
            server.forget_task(task_id)
        await anyio.sleep(1000)
        assert list(watch.report.outcomes) == [*ended[1:], kept, late]
        await anyio.sleep(3 * 3600)
        # The one is still there, and the other one was never read.
        assert list(watch.report.outcomes) == list(watch.tasks) == [kept, late]
        assert watch._subscription._unwanted == {}
        assert await read(watch, 1) == [(late, "Finished", 1)]
        await anyio.sleep(3 * 3600)
        assert list(watch.report.outcomes) == [kept]
        assert list(watch._subscription.pending) == [kept]


@MODES
async def test_one_abridged_collection_makes_nothing_old_new(mode: str) -> None:
    """What was missing from one list, hours after its end, is not told again."""
    pace = Pace(first=100, growth=1, longest=100)
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=pace) as em,
    ):
        server.add_task("Finished ok")
        watch = em.watch_all()
        assert await read(watch, 5) == [("task-1", "Finished", 1)]
        await anyio.sleep(1700)
        fault = server.faults.add(Fault("vanish", path="/tasks$"))
        await anyio.sleep(200)
        server.faults.remove(fault)
        assert await read(watch, 4 * 3600) == []
        assert watch.report.succeeded == ("task-1",)
