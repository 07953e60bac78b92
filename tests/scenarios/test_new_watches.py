"""Whoever comes anew brings polls forward, and never puts one off."""

import itertools
from collections import defaultdict
from typing import Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.managers import STEADY, door, targets
from support.trackers import SLOW, Scene, Wanting

from veeam_tasks import Pace, RunStage, WatchTimeoutError
from veeam_tasks._engine.records import DueState
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

Coalesce = Literal["never", "always", "auto"]
MODES = pytest.mark.parametrize("mode", ["never", "auto", "always"])


def longest_gaps(server: SimulatedServer, begin: float) -> list[float]:
    """Return for each task the longest time without a request that shows it."""
    times: dict[str, list[float]] = defaultdict(list)
    together = []
    for record in server.requests:
        if record.path == "/api/tasks":
            together.append(record.time)
        elif record.path.startswith("/api/tasks/"):
            times[record.path].append(record.time)
    ids = [f"/api/tasks/{task.task_id}" for task in server.tasks]
    end = anyio.current_time()
    return [
        max(
            after - before
            for before, after in itertools.pairwise(
                [begin, *sorted(t for t in times[path] + together if t > begin), end]
            )
        )
        for path in ids
    ]


@MODES
async def test_newcomers_starve_no_poll(mode: str) -> None:
    """However many watches come and go each second, each task is asked for in time."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [server.add_task("Running").task_id for _ in range(60)]
        watch = em.watch(ids)
        await anyio.sleep(3)
        begin = anyio.current_time()
        turns = itertools.cycle(ids)
        for _ in range(250):
            for _ in range(30):
                await em.watch(next(turns), next(turns)).aclose()
            await anyio.sleep(0.02)
        assert max(longest_gaps(server, begin)) < 1.2
        await watch.aclose()


async def test_watches_of_all_leave_time_for_polls() -> None:
    """Where there is one poller, collections and polls of one task take turns."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce="never", max_in_flight=1) as em,
    ):
        task_id = server.add_task("Running").task_id
        watch = em.watch(task_id)
        await anyio.sleep(3)
        watches = []
        server.faults.add(Fault("delay", path="/tasks$", seconds=0.05))
        before = targets(server).count(f"tasks/{task_id}")
        for _ in range(400):
            watches.append(em.watch_all())
            await anyio.sleep(0.01)
        assert targets(server).count(f"tasks/{task_id}") - before >= 3
        await watch.aclose()


@given(
    delays=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=5),
    newcomers=st.integers(1, 3000),
    together=st.booleans(),
)
def test_a_newcomer_or_a_renewal_puts_nothing_off(
    delays: list[float], newcomers: int, *, together: bool
) -> None:
    """What was due singly is due then at the latest, whoever has come before."""
    scene = Scene()
    tracker = scene.tracker
    wanting = Wanting(SLOW)
    scene.add(wanting, *(f"task-{number}" for number in range(newcomers)))
    watching = Wanting(Pace(first=0.5, growth=1, longest=10, jitter=0))
    ids = [f"old-{number}" for number in range(len(delays))]
    scene.add(watching, *ids)
    scene.loop.move_to(scene.loop.now + 30)
    scene.taken()
    for task_id, delay in zip(ids, delays, strict=True):
        tracker.queue.add_after(scene.record(task_id), delay)
    tracker.is_together = together
    before = {task_id: scene.record(task_id).due for task_id in ids}
    others = Wanting(SLOW)
    scene.add(others, *(f"new-{number}" for number in range(newcomers)), *ids)
    for task_id in ids:
        due = scene.record(task_id).due
        assert due == DueState.READY or 0 <= due <= before[task_id]


def test_a_stream_of_newcomers_uses_up_no_turns() -> None:
    """Only a poll that is really brought forward takes one of the first turns."""
    scene = Scene()
    wanting = Wanting(STEADY)
    scene.add(wanting, "task-1")
    scene.taken()
    scene.tracker.reschedule(scene.record("task-1"), 0.05)
    for _ in range(1000):
        scene.add(other := Wanting(STEADY), "task-1")
    scene.add(other, "task-2")
    scene.loop.move_to(scene.loop.now + 0.06)
    assert sorted(scene.taken()) == ["task-1", "task-2"]


@MODES
async def test_a_newcomer_hurries_the_look_at_a_missing_result(mode: str) -> None:
    """Also where tasks are asked for together: it is the task itself that is asked."""
    pace = Pace(first=10, growth=1, longest=10, jitter=0)
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=pace) as em,
    ):
        task = server.add_task("Running 9s, Finished unsettled 5s, Finished ok")
        watch = em.watch(task.task_id)
        await anyio.sleep(15)
        assert watch.tasks[task.task_id].is_finished
        assert watch.report.unfinished == (task.task_id,)
        with anyio.fail_after(1):
            assert (await em.wait(task.task_id)).succeeded
        assert watch.report.succeeded == (task.task_id,)


@pytest.mark.parametrize("coalesce", ["never", "auto"])
@pytest.mark.parametrize("is_resumed", [False, True])
async def test_who_follows_a_run_anew_waits_for_no_pause_of_others(
    coalesce: Coalesce, *, is_resumed: bool
) -> None:
    """However long the pauses are that a watch before has come to."""
    slow = Pace(first=200, growth=1, longest=200, jitter=0)
    async with (
        SimulatedServer(job_links="always") as server,
        door(server, coalesce=coalesce) as em,
    ):
        job = server.add_job("Nightly", session="Working 300s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        watch = em.watch(task, follow=True, pace=slow)
        async for event in watch:
            if event.stage is RunStage.SESSION:
                break
        checkpoint = watch.checkpoint()
        if is_resumed:
            await watch.aclose()
            watch = em.resume(checkpoint, pace=slow)
        await anyio.sleep(110)
        with anyio.fail_after(10):
            if is_resumed:
                report = await em.resume(checkpoint).wait()
                assert report.succeeded == (task.task_id,)
            else:
                async with em.watch(task, follow=True) as another:
                    run = await em.follow(task)
                    assert run.session is not None
                    assert run.session.is_ended
                    assert another.report.succeeded == (task.task_id,)
        assert watch.report.succeeded == (task.task_id,)


@pytest.mark.parametrize("is_followed", [False, True])
async def test_what_the_server_asked_for_outlives_who_has_asked(
    *, is_followed: bool
) -> None:
    """Waits that come and go ask no earlier than the server's Retry-After says."""
    async with (
        SimulatedServer(job_links="always") as server,
        # Together the list would answer for the task.
        door(server, coalesce="never") as em,
    ):
        job = server.add_job("Nightly", session="Working 300s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        await em.wait(task)
        path = "/backupSessions/" if is_followed else f"/tasks/{task.task_id}$"
        wait = em.follow if is_followed else em.wait
        busy = Fault("status", status=429, retry_after="60", path=path)
        server.faults.add(busy)
        for _ in range(11):
            with pytest.raises(WatchTimeoutError):
                await wait(task, timeout=5)
        assert busy.played == 1
        await anyio.sleep(10)
        with pytest.raises(WatchTimeoutError):
            await wait(task, timeout=5)
        assert busy.played == 2
