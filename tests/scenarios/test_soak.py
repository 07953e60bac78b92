"""Soak: days of watching end right, and hours of it cost no more and more.

`nox -s soak` watches for hours; a share of seconds belongs to the default run.
"""

import asyncio
import gc
import logging
import re
import statistics
import tracemalloc
from collections.abc import Iterator

import anyio
import attrs
import pytest
from support.managers import door
from support.virtual_time import ALL_IN_DEBUG

from veeam_tasks import Pace, SessionManager, Watch
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

HOUR = 3600.0
DAY = 24 * HOUR
UNHURRIED = Pace(first=120, growth=2, longest=600)
THIRTY = Pace(first=30, growth=1, longest=30)
IN_FLIGHT = 16
CONNECTION = 25 * 1024
"""What both ends of a connection hold, measured: from 2 sockets to 16, 300 KiB more.

How many are open at the moment of a sample is chance; that they are few is asserted.
"""


def three_days_of_tasks(server: SimulatedServer) -> dict[str, tuple[float, bool]]:
    """Add 500 tasks that end all through three days; return when and how, by ID."""
    ends: dict[str, tuple[float, bool]] = {}
    for number in range(500):
        seconds = 60 + number * (3 * DAY - 3 * HOUR) / 500
        succeeds = number % 5 != 4
        end = "ok" if succeeds else "failed 'Disk full'"
        script = f"Running {seconds}s, OperationFinished 20m, Finished {end}"
        ends[server.add_task(script).task_id] = (seconds + 1200, succeeds)
    return ends


async def nightly_restarts(server: SimulatedServer, forgets_at: int | None) -> None:
    """Restart the server at the end of each of three days, an outage before each."""
    for night in range(3):
        await anyio.sleep(DAY - 4 * HOUR if night == 0 else DAY)
        outage = Fault("reset")
        server.faults.add(outage)
        await anyio.sleep(120)
        server.restart(keep_tasks=night != forgets_at, reset_counter=False)
        server.faults.clear()


async def watched_for_days(
    server: SimulatedServer, em: SessionManager, forgets_at: int | None
) -> tuple[Watch, dict[str, tuple[float, bool]], float]:
    """Watch three days of tasks through nightly restarts to their ends."""
    ends = three_days_of_tasks(server)
    began = anyio.current_time()
    watch = em.watch(ends)
    async with anyio.create_task_group() as group:
        group.start_soon(nightly_restarts, server, forgets_at)
        await watch.wait()
        group.cancel_scope.cancel()
    return watch, ends, anyio.current_time() - began


@pytest.mark.lengthy
async def test_three_days_with_nightly_restarts() -> None:
    """500 tasks, three days, three restarts: 0 lost that the server knew."""
    async with (
        SimulatedServer(seed=1, keep_requests=10) as server,
        door(server, coalesce="always", pace=UNHURRIED) as em,
    ):
        watch, ends, took = await watched_for_days(server, em, forgets_at=None)
        report = watch.report
        figures = em.statistics()
        print(
            f"soak: {len(ends)} tasks over {took / HOUR:.1f} hours,"
            f" {server.logons.total} logons, {figures.renewals} renewals,"
            f" {server.requests.total} requests; {len(report.lost)} lost"
        )
        assert took > 2.8 * DAY
        assert (report.lost, report.unfinished) == ((), ())
        assert list(report.failed) == [one for one in ends if not ends[one][1]]
        assert len(report.succeeded) == 400
        assert figures.renewals == 3


async def started_through_the_day(
    server: SimulatedServer, em: SessionManager, count: int
) -> tuple[Watch, dict[str, str]]:
    """Start jobs all through a day and follow them; return how each ends, by task."""
    ends: dict[str, str] = {}
    watch = em.watch((), follow=True, find_timeout=HOUR)
    for number in range(count):
        end = ("success", "warning", "failed")[number % 3]
        script = f"Starting 60s, Working {1 + number % 9}h, Stopped {end}"
        job = server.add_job(f"Job {number}", session=script)
        task = await em.submit(f"{job.path}?action=start", follow=True)
        ends[task.task_id] = end
        watch.add(task)
        await anyio.sleep(DAY / count)
    return watch, ends


@pytest.mark.lengthy
@pytest.mark.parametrize("coalesce", ["never", "auto"])
async def test_a_day_of_jobs_with_restarts(coalesce: str) -> None:
    """Jobs of hours, a restart that forgets the tasks every five: 0 wrong, 0 lost."""
    async with (
        SimulatedServer(seed=4, keep_requests=10, session_delay=300) as server,
        door(server, coalesce=coalesce, pace=UNHURRIED) as em,
    ):

        async def restarts() -> None:
            while True:
                await anyio.sleep(5.1 * HOUR)
                outage = server.faults.add(Fault("reset"))
                await anyio.sleep(120)
                server.restart(reset_counter=False)
                server.faults.remove(outage)

        async with anyio.create_task_group() as group:
            group.start_soon(restarts)
            watch, ends = await started_through_the_day(server, em, 60)
            await watch.wait()
            group.cancel_scope.cancel()
        report = watch.report
        assert (report.lost, report.unfinished) == ((), ())
        assert {one for one in ends if ends[one] == "failed"} == set(report.failed)
        assert {one for one in ends if ends[one] == "warning"} == set(report.warnings)
        names = [
            event.session.job_name
            for event in report.outcomes.values()
            if event is not None and event.session is not None
        ]
        assert names == [f"Job {number}" for number in range(60)]
        assert em.statistics().renewals >= 4


@pytest.mark.lengthy
async def test_three_days_with_a_night_that_forgets() -> None:
    """Of a restart that forgets come LOST, for the tasks that had not ended only."""
    async with (
        SimulatedServer(seed=2, keep_requests=10) as server,
        door(server, coalesce="always", pace=UNHURRIED) as em,
    ):
        watch, ends, _ = await watched_for_days(server, em, forgets_at=1)
        report = watch.report
        forgotten = 2 * DAY - 4 * HOUR + 240
        # What ended within the last pause before the outage may have gone unseen.
        seen = forgotten - 120 - 1.2 * UNHURRIED.longest
        for task_id, (end, succeeds) in ends.items():
            if end < seen:
                right = report.succeeded if succeeds else report.failed
            elif end > forgotten:
                right = report.lost
            else:
                continue
            assert task_id in right
        assert report.unfinished == ()
        event = report.outcomes[report.lost[-1]]
        assert event is not None
        assert "the logon session was renewed" in str(event.error)
        assert len(report.lost) > 150


@attrs.frozen
class Sample:
    """What is held at one moment."""

    hours: float
    memory: int
    objects: int
    sockets: int
    tasks: int

    @property
    def beside(self) -> int:
        """What memory there is beside that of the connections open just then."""
        return self.memory - self.sockets * CONNECTION

    @classmethod
    def take(cls, server: SimulatedServer, hours: float) -> "Sample":
        """Take one, after all that is garbage is gone."""
        gc.collect()
        return cls(
            hours=hours,
            memory=tracemalloc.get_traced_memory()[0],
            objects=len(gc.get_objects()),
            sockets=server.connections.open,
            tasks=len(asyncio.all_tasks()),
        )

    def __str__(self) -> str:
        return (
            f"{self.hours:6.2f} h: {self.memory / 1024:8.0f} KiB,"
            f" {self.objects} objects, {self.sockets} sockets, {self.tasks} tasks"
        )


def assert_flat(samples: list[Sample]) -> None:
    """Fail if the last third holds more than the second: the first is warm-up."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[-third:]
    for name, slack in (("beside", 192 * 1024), ("objects", 2000)):
        before = statistics.median(getattr(one, name) for one in middle)
        after = statistics.median(getattr(one, name) for one in last)
        assert after <= before * 1.03 + slack, f"{name}: from {before} to {after}"
    # For polls and calls, the logon's, and those that a fault is cutting.
    assert max(one.sockets for one in samples) <= 4 * IN_FLIGHT
    assert max(one.tasks for one in samples) <= 8 * IN_FLIGHT


@attrs.define
class Crowd:
    """Tasks that come and go: as many as there were, others all the time."""

    server: SimulatedServer
    number: int = 0
    came: int = 0
    outcomes: dict[str, bool] = attrs.field(factory=dict)

    def come(self) -> str:
        """Add a task that lasts from five minutes to forty; return its ID."""
        self.came += 1
        succeeds = self.came % 7 != 0
        seconds = 300 + self.came * 37 % 2100
        end = "ok" if succeeds else "failed 'Disk full'"
        script = f"Running {seconds}s, OperationFinished 1m, Finished {end}"
        task_id = self.server.add_task(script).task_id
        self.outcomes[task_id] = succeeds
        return task_id

    def go(self, task_id: str) -> None:
        """Let the server forget a task wholly; it keeps them as long as it lives."""
        self.server.forget_task(task_id)
        del self.outcomes[task_id]


def troubles(server: SimulatedServer) -> None:
    """Spoil a few replies in a hundred."""
    kinds = ("reset", "cut_body", "garbage", "html", "stall", "status", "delay")
    for seed, kind in enumerate(kinds):
        fault = Fault(
            kind, path=re.compile("/tasks"), share=0.004, seed=seed, status=503
        )
        server.faults.add(fault)


async def unrest(server: SimulatedServer) -> None:
    """Let logon sessions expire every 20 minutes, and every third time restart."""
    for number in range(1, 10_000):
        await anyio.sleep(1200)
        if number % 3:
            server.expire_logon_sessions(keep_tasks=True)
        else:
            server.restart(keep_tasks=True)


@pytest.fixture
def traced(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Trace memory, of which pytest is not to fill any with log lines."""
    caplog.set_level(logging.ERROR, logger="veeam_tasks")
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def soaked(mode: str, hours: float, crowd_size: int, count: int) -> None:
    """Watch a crowd for hours, take `count` samples, and fail unless they are flat."""
    samples: list[Sample] = []
    async with (
        SimulatedServer(seed=5, keep_requests=10) as server,
        door(
            server,
            coalesce=mode,
            pace=THIRTY,
            request_timeout=10,
            max_in_flight=IN_FLIGHT,
        ) as em,
        anyio.create_task_group() as group,
    ):
        crowd = Crowd(server)
        troubles(server)
        group.start_soon(unrest, server)
        began = anyio.current_time()
        async with em.watch([crowd.come() for _ in range(crowd_size)]) as watch:
            async for event in watch:
                if event.is_final:
                    # LOST would be None, which is neither.
                    assert event.succeeded is crowd.outcomes[event.task_id], event
                    watch.discard(event.task_id)
                    crowd.go(event.task_id)
                    watch.add(crowd.come())
                passed = (anyio.current_time() - began) / HOUR
                if passed >= (len(samples) + 1) * hours / count:
                    samples.append(Sample.take(server, passed))
                    print(samples[-1])
                if len(samples) == count:
                    break
        figures = em.statistics()
        print(
            f"soak {mode}: {crowd.came} tasks, {server.requests.total} requests,"
            f" {figures.errors} errors, {figures.renewals} renewals, 0 lost, 0 wrong"
        )
        assert figures.errors > 0
        assert figures.renewals >= hours * 3 - 1
        server.faults.clear()
        group.cancel_scope.cancel()
    assert server.logon_sessions == []
    assert_flat(samples)


@pytest.mark.lengthy
@pytest.mark.skipif(ALL_IN_DEBUG, reason="debug mode remembers where calls were made")
async def test_two_hours_cost_no_more_than_one(traced: None) -> None:
    """A share of the soak: twelve tasks, two hours, all flat."""
    await soaked("auto", hours=2, crowd_size=12, count=12)


@pytest.mark.soak
@pytest.mark.parametrize(("mode", "hours"), [("auto", 6), ("never", 2)])
async def test_soak(mode: str, hours: float, traced: None) -> None:
    """Hours at a 30 s pace, 1,000 tasks that come and go: memory is flat."""
    await soaked(mode, hours=hours, crowd_size=1000, count=24)
