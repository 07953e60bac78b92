"""Deadlines: four times, each kept in one place, and callers' own."""

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from support.managers import STEADY, door, targets
from support.virtual_time import AsyncioVirtual

from veeam_tasks import (
    Pace,
    RequestTimeoutError,
    SessionManager,
    TransportError,
    Watch,
    WatchTimeoutError,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

MODES = pytest.mark.parametrize("mode", ["never", "always"])
POLLS = "/tasks"


async def seconds_of(work: Awaitable[object]) -> float:
    """Return how long something took."""
    began = anyio.current_time()
    await work
    return anyio.current_time() - began


@MODES
async def test_a_stalled_poll_is_called_off_and_the_task_goes_on(mode: str) -> None:
    """`request_timeout` ends one request; the task is asked for again."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, request_timeout=5) as em,
    ):
        task_id = server.add_task("Running 3s, Finished ok").task_id
        stall = Fault("stall", method="GET", path=POLLS, after=1, times=1)
        server.faults.add(stall)
        took = await seconds_of(em.wait(task_id, timeout=60))
        assert stall.played == 1
        assert 5 < took < 9
        assert em.statistics().errors == 1
        assert em.statistics().logons == 1


async def test_a_stalled_fetch_says_that_it_timed_out() -> None:
    """A single request is given up after `request_timeout`, and not repeated."""
    async with SimulatedServer() as server, door(server, request_timeout=7) as em:
        task_id = server.add_task("Running 1h, Finished ok").task_id
        server.faults.add(Fault("stall", path=POLLS))
        began = anyio.current_time()
        with pytest.raises(RequestTimeoutError):
            await em.fetch(task_id)
        assert anyio.current_time() - began == pytest.approx(7, abs=0.5)
        assert targets(server) == [f"tasks/{task_id}"]


async def test_fewer_stalled_replies_than_slots_delay_only_their_own_tasks() -> None:
    """Three of four slots hang for ever; all the other tasks are seen in time."""
    async with (
        SimulatedServer() as server,
        door(server, max_in_flight=4, request_timeout=300) as em,
    ):
        stuck = [server.add_task("Running 1h, Finished ok").task_id for _ in range(3)]
        for task_id in stuck:
            server.faults.add(Fault("stall", path=f"/{task_id}$"))
        well = [
            server.add_task(f"Running {10 + number}s, Finished ok").task_id
            for number in range(20)
        ]
        began = anyio.current_time()
        ended: dict[str, float] = {}
        async with em.watch(*stuck, *well) as watch:
            async for event in watch:
                if event.is_final:
                    ended[event.task_id] = anyio.current_time() - began
                if len(ended) == len(well):
                    break
            assert watch.report.unfinished == tuple(stuck)
        assert sorted(ended) == sorted(well)
        for number, task_id in enumerate(well):
            assert 10 + number <= ended[task_id] <= 10 + number + 1.5
        assert em.statistics().errors == 0


async def test_with_every_slot_stalled_the_others_only_come_later() -> None:
    """As many stalled replies as slots: the timeout frees them, nothing is lost."""
    async with (
        SimulatedServer() as server,
        door(server, max_in_flight=2, request_timeout=20) as em,
    ):
        ids = [server.add_task("Running 5s, Finished ok").task_id for _ in range(12)]
        server.faults.add(Fault("stall", path=POLLS, times=2))
        report = await em.watch(ids, timeout=120).wait()
        assert report.succeeded == tuple(ids)


@asynccontextmanager
async def hanging(
    **faults: str,
) -> AsyncIterator[tuple[SimulatedServer, SessionManager, Watch]]:
    """Yield a server whose polls all hang in both slots, and a watch of ten tasks."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce="never", max_in_flight=2, request_timeout=600) as em,
    ):
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(10)]
        server.faults.add(Fault("stall", method="GET", path=POLLS))
        for method, path in faults.items():
            server.faults.add(Fault("stall", method=method, path=path))
        watch = em.watch(ids)
        await anyio.sleep(5)
        assert em.statistics().in_flight == 2
        yield server, em, watch
        server.faults.clear()


async def test_stalled_polls_hold_no_action_up() -> None:
    """`submit`, `delete` and a logon have slots of their own."""
    async with hanging() as (server, em, watch):
        path = f"jobs/{server.jobs[0].job_id}?action=start"
        assert await seconds_of(em.submit(path)) < 1
        assert await seconds_of(em.delete(next(iter(watch.tasks), "task-1"))) < 1
        assert em.statistics().in_flight == 2
        server.expire_logon_sessions(keep_tasks=True)
        assert await seconds_of(em.submit(path)) < 1
        assert server.logons.total == 2


async def test_stalled_polls_hold_no_renewal_up() -> None:
    """A logon has a slot of its own, and so has what is asked for once."""
    async with hanging() as (server, em, _):
        await em.read("jobs")
        server.expire_logon_sessions(keep_tasks=True)
        with anyio.fail_after(1):
            assert await em.read("jobs")
        assert em.statistics().renewals == 1


async def test_stalled_polls_hold_no_log_out_up() -> None:
    """A close calls the polls off and logs out at once."""
    async with hanging() as (server, em, _):
        assert await seconds_of(em.aclose()) < 1
        assert server.logon_sessions == []
        assert targets(server, "DELETE")


@MODES
async def test_a_watch_ends_at_its_own_timeout(mode: str) -> None:
    """A watch's `timeout` ends that watch; others and their tasks go on."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [server.add_task("Running 90s, Finished ok").task_id for _ in range(5)]
        short, long = em.watch(ids, timeout=30), em.watch(ids, timeout=300)
        began = anyio.current_time()
        with pytest.raises(WatchTimeoutError) as caught:
            await short.wait()
        assert anyio.current_time() - began == pytest.approx(30, abs=0.1)
        assert caught.value.report.unfinished == tuple(ids)
        assert isinstance(caught.value, TimeoutError)
        assert (await long.wait()).succeeded == tuple(ids)


async def test_timeouts_do_not_wait_for_stalled_replies() -> None:
    """The timeouts of a watch and of `wait` end them in mid-request."""
    async with hanging() as (_, em, watch):
        task_id = next(iter(watch.report.outcomes))
        began = anyio.current_time()
        with pytest.raises(WatchTimeoutError):
            await em.wait(task_id, timeout=12)
        with pytest.raises(WatchTimeoutError):
            await em.watch(task_id, timeout=12).wait()
        assert anyio.current_time() - began == pytest.approx(24, abs=0.2)


Act = Callable[[SessionManager, Watch, str], Awaitable[object]]
ACTS: dict[str, Act] = {
    "wait": lambda em, _, __: em.wait("task-3"),
    "anext": lambda _, watch, __: anext(watch),
    "watch.wait": lambda _, watch, __: watch.wait(),
    "fetch": lambda em, _, __: em.fetch("task-3"),
    "fetch_all": lambda em, _, __: em.fetch_all(),
    "submit": lambda em, _, path: em.submit(path),
}


def by_asyncio(seconds: float) -> AbstractAsyncContextManager[object]:
    """Return asyncio's way to say that time is up."""
    return asyncio.timeout(seconds)


@asynccontextmanager
async def by_anyio(seconds: float) -> AsyncIterator[None]:
    """Say by anyio that time is up."""
    with anyio.fail_after(seconds):
        yield


WAYS = pytest.mark.parametrize("limit", [by_asyncio, by_anyio])


@WAYS
@pytest.mark.parametrize("name", ACTS)
async def test_a_callers_own_deadline_works_around_every_await(
    name: str, limit: Callable[[float], AbstractAsyncContextManager[object]]
) -> None:
    """A caller's timeout ends the await in time, and nothing else."""
    async with hanging(POST="action=") as (server, em, watch):
        while watch._subscription._owed:
            await anext(watch)
        path = f"jobs/{server.jobs[0].job_id}?action=start"
        began = anyio.current_time()
        with pytest.raises(TimeoutError) as caught:
            async with limit(8):
                await ACTS[name](em, watch, path)
        assert type(caught.value) is TimeoutError
        assert anyio.current_time() - began == pytest.approx(8, abs=0.1)
        # The manager and the watch go on as if nothing had been asked.
        server.faults.clear()
        assert (await em.fetch("task-3")).task_id == "task-3"
        assert (await em.submit(path)).task_id
        await checkpoint()
        assert len(watch.report.unfinished) == 10
        assert server.logons.total == 1


@WAYS
async def test_a_callers_deadline_around_a_close(
    limit: Callable[[float], AbstractAsyncContextManager[object]],
) -> None:
    """A close whose log-out hangs keeps its five seconds, and leaves nothing open."""
    async with hanging(DELETE="logonSessions") as (server, em, _):
        began = anyio.current_time()
        # anyio raises only where it has cut something short, asyncio in any case.
        with suppress(TimeoutError):
            async with limit(2):
                await em.aclose()
        assert anyio.current_time() - began == pytest.approx(5, abs=0.1)
        await anyio.sleep(1)
        assert server.connections.open == 0


@MODES
async def test_patience_is_no_request_timeout(mode: str) -> None:
    """Patience is counted over requests: stalls of 5 s end a watch after 60 s."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, request_timeout=5, patience=60) as em,
    ):
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(5)]
        watch = em.watch(ids)
        for _ in ids:
            await anext(watch)
        server.faults.add(Fault("stall"))
        began = anyio.current_time()
        with pytest.raises(TransportError, match="patience"):
            await watch.wait()
        assert 60 <= anyio.current_time() - began < 90
        assert watch.report.unfinished == tuple(ids)


async def test_pace_is_kept_between_the_polls_of_a_task() -> None:
    """Each task is asked for at its watch's pace; of several by each that is due."""
    slow = Pace(first=10, growth=1, longest=10, jitter=0)
    async with (
        SimulatedServer() as server,
        door(server, coalesce="never", pace=slow) as em,
    ):
        task_id = server.add_task("Running 1h, Finished ok").task_id
        async with em.watch(task_id):
            await anyio.sleep(100)
            async with em.watch(task_id, pace=STEADY):
                await anyio.sleep(20)
            await anyio.sleep(100)
        times = [record.time for record in server.requests if record.method == "GET"]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert [round(pause) for pause in pauses[:9]] == [10] * 9
        assert sum(0.9 < pause < 1.1 for pause in pauses) >= 19
        assert [round(pause) for pause in pauses[-8:]] == [10] * 8


async def polls_within(server: SimulatedServer, seconds: float) -> int:
    """Return how many requests there are, from now on."""
    before = server.requests.total
    await anyio.sleep(seconds)
    return server.requests.total - before


@MODES
async def test_two_paces_make_no_third(mode: str) -> None:
    """Two watches of one task make no more polls than both together would alone."""
    steep = Pace(first=0.1, growth=2, longest=2, jitter=0)
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(20)]
        counts = []
        for paces in ([steep], [STEADY], [steep, STEADY], [STEADY, steep]):
            watches = [em.watch(ids[0], pace=pace) for pace in paces]
            counts.append(await polls_within(server, 4.05))
            for watch in watches:
                await watch.aclose()
            await anyio.sleep(10)
        assert counts[2] <= counts[0] + counts[1]
        assert counts[3] <= counts[0] + counts[1]
        # Nor is the collection quickened for long by one that is watched twice.
        watches = [em.watch(ids), em.watch(ids[0], pace=steep)]
        await anyio.sleep(10)
        count = await polls_within(server, 100)
        assert count <= (105 if mode == "always" else 2005)
        assert len(watches) == 2


@MODES
async def test_the_pace_of_a_forgotten_watch_goes_with_it(
    mode: str,
) -> None:
    """A quick watch that nobody holds leaves no pace to those who watch on."""
    slow = Pace(first=10, growth=1, longest=10, jitter=0)
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        task_id = server.add_task("Running 1h, Finished ok").task_id
        watch = em.watch(task_id, pace=slow)
        watches = [em.watch(task_id, pace=STEADY) for _ in range(3)]
        assert await polls_within(server, 20) >= 20
        watches.clear()
        gc.collect()
        await anyio.sleep(2)
        assert await polls_within(server, 100) <= 15
        assert (await anext(watch)).state == "Running"


class NotingLoop(AsyncioVirtual):
    """A loop that notes its timers, with when they are due."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []

    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        """Do as asyncio does, and note it."""
        timer: asyncio.TimerHandle = super().call_at(when, *args, **options)
        self.timers.append((when, timer))
        return timer


@pytest.mark.virtual_time(loop=NotingLoop, debug=False)
async def test_the_timer_of_a_forgotten_watch_goes_with_it() -> None:
    """Whoever makes a watch for each request fills no memory for the time of them."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, NotingLoop)
    async with SimulatedServer() as server, door(server) as em:
        task_id = server.add_task("Running 1h, Finished ok").task_id
        watches = [em.watch(task_id, timeout=86400) for _ in range(3)]
        watches += [em.watch_all(timeout=86400) for _ in range(3)]
        assert sum(when > 80_000 for when, _ in loop.timers) == 6
        watches.clear()
        gc.collect()
        async with em.watch(task_id) as watch:
            await anext(watch)
        late = [timer for when, timer in loop.timers if when > 80_000]
        assert all(timer.cancelled() for timer in late)


async def test_two_paces_of_watching_all_make_no_third() -> None:
    """Looks for new tasks are no more than both watches would make alone."""
    steep = Pace(first=0.1, growth=2, longest=2, jitter=0)
    async with SimulatedServer() as server, door(server) as em:
        counts = []
        for paces in ([steep], [STEADY], [steep, STEADY]):
            watches = [em.watch_all(pace=pace) for pace in paces]
            counts.append(await polls_within(server, 4.05))
            for watch in watches:
                await watch.aclose()
            await anyio.sleep(10)
        assert counts[2] <= counts[0] + counts[1]
