"""What ends a followed run, and what does not; what is delivered of it meanwhile."""

from itertools import pairwise
from typing import Literal

import anyio
import pytest
from support.managers import STEADY, door, followed, targets

from veeam_tasks import (
    Pace,
    RunStage,
    SessionFailedError,
    SessionLostError,
    SessionResult,
    SessionState,
    TaskEvent,
    TaskFailedError,
    TaskState,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

TASK, SEARCHING, SESSION = RunStage.TASK, RunStage.SEARCHING, RunStage.SESSION
Links = Literal["always", "never"]


def is_in_order(events: list[TaskEvent]) -> bool:
    """Tell whether one task's events keep what is promised of them."""
    order = [TASK, SEARCHING, SESSION]
    stages = [order.index(event.stage) for event in events]
    shown = [
        (
            event.stage,
            event.state,
            event.session and event.session.raw_state,
            event.session and event.session.raw_result,
            event.session and event.session.progress,
            event.is_final,
        )
        for event in events
    ]
    before = [None, *[event.state for event in events[:-1]]]
    return (
        stages == sorted(stages)
        and all(one != two for one, two in pairwise(shown))
        and [event.previous for event in events] == before
        and [event.sequence for event in events] == list(range(1, len(events) + 1))
        and [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
        and all(
            event.not_before is None or event.not_before <= event.observed_at
            for event in events
        )
    )


async def test_stages_come_in_order_and_nothing_is_told_twice() -> None:
    """Task, searching, session; one final event, last; numbered, with `previous`."""
    script = "Starting 3s, Working 20s, Postprocessing 5s, Stopping 2s, Stopped"
    async with SimulatedServer(job_links="never", session_delay=2) as server:
        job = server.add_job("Nightly", session=script)
        async with door(server) as em:
            events = await followed(em, job.path)
    assert is_in_order(events)
    assert events[0].stage is TASK
    assert SEARCHING in [event.stage for event in events]
    words = [event.session.raw_state for event in events if event.session]
    assert list(dict.fromkeys(words)) == [
        "Starting",
        "Working",
        "Postprocessing",
        "Stopping",
        "Stopped",
    ]
    assert all(event.state is TaskState.FINISHED for event in events if event.session)
    assert [event.succeeded for event in events] == [None] * (len(events) - 1) + [True]
    progress = [event.session.progress for event in events if event.session]
    assert len(set(progress)) > 5


@pytest.mark.parametrize(
    ("script", "ends"),
    [
        ("Working 30s success, Stopped", True),
        ("Working 30s 100%, Stopped failed", False),
        ("Working 30s failed, Stopped warning", True),
        ("Idle 30s, Pending 10s, WaitingTape 5s, Stopped", True),
        ("Working 10s 90%, Working 20s 10%, Stopped", True),
    ],
)
async def test_stopped_alone_ends_it(script: str, ends: bool) -> None:
    """Not a Result, not 100 %, not an unknown word; progress may fall."""
    async with SimulatedServer() as server, door(server) as em:
        events = await followed(em, server.add_job("Nightly", session=script).path)
        assert is_in_order(events)
        assert events[-1].succeeded is ends
        assert events[-1].session is not None
        assert events[-1].session.state is SessionState.STOPPED
        assert anyio.current_time() >= 30


@pytest.mark.parametrize("result", ["none", "unsettled"])
async def test_stopped_without_a_result_is_asked_for_three_more_times(
    result: str,
) -> None:
    """Then it is final with `succeeded` None, and counts as failed."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        async with em.watch(task, follow=True) as watch:
            await anyio.sleep(60.5)
            server.job_sessions[-1].play(f"Stopped {result}")
            before = server.requests.total
            events = [event async for event in watch]
            assert server.requests.total == before + 4
        assert events[-1].succeeded is None
        assert events[-1].is_final
        assert watch.report.failed == (task.task_id,)
        with pytest.raises(SessionFailedError, match="ended without a result"):
            await em.follow(task)


async def test_a_result_that_comes_late_is_waited_for() -> None:
    """It comes two seconds after Stopped; nothing is told in between."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        async with em.watch(task, follow=True) as watch:
            await anyio.sleep(60)
            server.job_sessions[-1].play("Stopped none")
            await anyio.sleep(2)
            server.job_sessions[-1].finish("Warning")
            events = [event async for event in watch]
        assert watch.report.warnings == (task.task_id,)
        assert len([one for one in events if one.session and one.session.is_ended]) == 1


async def test_an_unknown_result_is_final_and_kept() -> None:
    """`succeeded` is None, the word stays."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        async with em.watch(task, follow=True) as watch:
            await anyio.sleep(60)
            server.job_sessions[-1].set_state("Stopped", result="Better")
            events = [event async for event in watch]
        end = events[-1]
        assert end.session is not None
        assert end.session.result is SessionResult.UNKNOWN
        assert end.session.raw_result == "Better"
        assert end.succeeded is None


@pytest.mark.parametrize("unknown", [404, 500])
@pytest.mark.parametrize("links", ["always", "never"])
async def test_a_session_that_was_seen_and_is_gone_is_lost(
    links: Links, unknown: int
) -> None:
    """After two replies of the server's own, a pause apart; it was told before."""
    async with SimulatedServer(job_links=links, unknown_session=unknown) as server:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            async with em.watch(task, follow=True) as watch:
                await anyio.sleep(60)
                session = server.job_sessions[-1]
                session.vanish()
                began = anyio.current_time()
                events = [event async for event in watch]
                assert 0.5 <= anyio.current_time() - began < 10
        assert is_in_order(events)
        end = events[-1]
        assert end.state is TaskState.LOST
        assert isinstance(end.error, SessionLostError)
        assert end.error.last_seen == end.session
        assert end.session is not None
        assert "gone" in str(end.error)
        assert end.task is not None
        assert watch.report.lost == (task.task_id,)
        assert em.statistics().errors == 2
        with pytest.raises(ExceptionGroup) as caught:
            watch.report.raise_for_failures()
        assert isinstance(caught.value.exceptions[0], SessionLostError)


async def test_one_reply_that_it_is_unknown_is_ridden_out() -> None:
    """And so are two, if a good one is in between."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 60s, Stopped")
        server.faults.add(Fault("status", path="backupSessions", status=404, every=3))
        run = await em.run(f"{job.path}?action=start")
        assert run.session is not None


async def test_an_error_that_does_not_say_unknown_is_ridden_out() -> None:
    """500 may mean anything: a job session that was seen is not lost by it."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 60s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        async with em.watch(task, follow=True) as watch:
            await anyio.sleep(30)
            server.faults.add(
                Fault("status", path="backupSessions", status=500, times=12)
            )
            report = await watch.wait()
        assert report.succeeded == (task.task_id,)


async def test_what_goes_back_after_stopped_is_not_told() -> None:
    """The first proof counts, also while its Result is waited for."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 20s, Stopped none")
        task = await em.submit(f"{job.path}?action=start")
        async with em.watch(task, follow=True) as watch:
            await anyio.sleep(22 + 5)
            server.job_sessions[-1].set_state("Working")
            events = [event async for event in watch]
        assert is_in_order(events)
        assert events[-1].session is not None
        assert events[-1].session.state is SessionState.STOPPED


async def test_the_end_of_the_task_is_told_before_that_of_a_lost_session() -> None:
    """Also to a reader who comes when all is over."""
    async with SimulatedServer(job_links="never", session_delay=10**6) as server:
        job = server.add_job("Nightly")
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            watch = em.watch(task, follow=True, find_timeout=30)
            await anyio.sleep(300)
            events = [event async for event in watch]
        assert [(one.stage, one.state) for one in events] == [
            (SEARCHING, TaskState.FINISHED),
            (SEARCHING, TaskState.LOST),
        ]
        assert is_in_order(events)


async def test_a_slow_reader_is_spared_what_lies_between() -> None:
    """The end of the task and the final event: no more than two wait for him."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 60s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        watch = em.watch(task, follow=True)
        await anyio.sleep(600)
        assert watch.report.succeeded == (task.task_id,)
        events = [event async for event in watch]
        assert [event.stage for event in events] == [SEARCHING, SESSION]
        assert is_in_order(events)
        assert events[-1].previous is TaskState.FINISHED


async def test_a_failed_task_is_final_in_its_first_stage() -> None:
    """There is no job session of a start that failed, and none is asked for."""
    async with SimulatedServer(running_job="refused") as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        server.add_session(job)
        before = server.requests.total
        events = await followed(em, job.path)
        assert events[-1].stage is TASK
        assert events[-1].succeeded is False
        assert events[-1].session is None
        assert is_in_order(events)
        assert not [one for one in targets(server)[before:] if "ession" in one]
        with pytest.raises(TaskFailedError):
            await em.follow("task-1")
        with pytest.raises(TaskFailedError):
            await em.run(f"{job.path}?action=start")


async def test_a_plain_watch_asks_for_no_session() -> None:
    """It ends with the task, as ever; every stage is `TASK`."""
    async with SimulatedServer(job_links="always") as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 10s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        async with em.watch(task) as watch:
            events = [event async for event in watch]
        assert {event.stage for event in events} == {TASK}
        assert events[-1].succeeded is True
        assert events[-1].session is None
        assert all("ession" not in path for path in targets(server))


async def test_two_watches_of_one_run_cost_one_poll() -> None:
    """Also one that comes later, which is told at once how far it is."""
    async with SimulatedServer() as server, door(server, pace=STEADY) as em:
        job = server.add_job("Nightly", session="Working 100s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        first, second = em.watch(task, follow=True), em.watch(task, follow=True)
        await anyio.sleep(30)
        third = em.watch(task, follow=True)
        await anyio.sleep(10)
        ended = [await watch.wait() for watch in (first, second, third)]
        assert all(report.succeeded == (task.task_id,) for report in ended)
        guid = server.job_sessions[-1].session_id
        assert len([path for path in targets(server) if guid in path]) < 110


async def test_progress_alone_does_not_quicken_the_pace() -> None:
    """A new word does."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly", session="Working 3000s, Stopping 60s, Stopped")
        pace = Pace(first=1, growth=2, longest=64, jitter=0)
        async with door(server, pace=pace) as em:
            await em.run(f"{job.path}?action=start")
        guid = server.job_sessions[-1].session_id
        times = [one.time for one in server.requests if guid in one.path]
        pauses = [b - a for a, b in pairwise(times)]
        assert max(pauses) == pytest.approx(64, abs=1)
        assert len(times) < 70
        assert min(pauses[-3:]) < 10


async def test_the_machines_are_read_once_for_what_did_not_end_well() -> None:
    """For Failed and Warning; whatever goes wrong there changes no outcome."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job(
            "Nightly",
            session="Working 10s, Stopped failed",
            machines={"db01": "Completed failed 'No space'", "db02": "Completed"},
        )
        events = await followed(em, job.path)
        assert [(one.vm_name, one.reason) for one in events[-1].failures] == [
            ("db01", "No space")
        ]
        asked = [path for path in targets(server) if "askSessions" in path]
        assert len(asked) == 1
        for kind in ("status", "html", "drop"):
            server.faults.add(Fault(kind, path="taskSessions", times=2))
            events = await followed(em, job.path)
            assert events[-1].succeeded is False
            assert events[-1].failures == ()
            server.faults.clear()
