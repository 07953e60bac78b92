"""`run` and `follow`: from an action to the true end of the job that it started."""

from typing import Literal

import anyio
import pytest
from support.managers import door, targets

from veeam_tasks import (
    JobSession,
    Run,
    SessionFailedError,
    SessionLostError,
    SessionResult,
    SessionState,
    WatchTimeoutError,
)
from veeam_tasks.simulator import Fault, SimulatedServer
from veeam_tasks.simulator._version import VersionName

pytestmark = pytest.mark.virtual_time(debug=False)

Accept = Literal["xml", "json"]
Links = Literal["documented", "always", "never", "late"]
VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")
LINKS: tuple[Links, ...] = ("documented", "always", "never", "late")


@pytest.mark.parametrize("accept", ["xml", "json"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("links", LINKS)
async def test_run_returns_the_task_and_its_session_at_the_end(
    accept: Accept, version: VersionName, links: Links
) -> None:
    """Whether or not the task links to it, and with a month of runs before it."""
    async with SimulatedServer(version=version, job_links=links) as server:
        job = server.add_job(
            "Nightly", session="Starting 2s, Working 60s, Stopped", history=30
        )
        async with door(server, accept=accept) as em:
            run = await em.run(f"{job.path}?action=start")
        assert isinstance(run, Run)
        assert run.task.succeeded
        session = run.session
        assert session is not None
        assert session.session_id == server.job_sessions[-1].session_id
        assert session.state is SessionState.STOPPED
        assert session.result is SessionResult.SUCCESS
        assert session.job_name == "Nightly"
        assert run.failures == ()
        assert not run.has_warnings


@pytest.mark.parametrize("accept", ["xml", "json"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_failed_job_raises_with_the_reason_of_each_machine(
    accept: Accept, version: VersionName
) -> None:
    """It names the job and the first reasons; it has the job session and machines."""
    async with SimulatedServer(version=version) as server:
        job = server.add_job(
            "Oracle",
            session="Working 30s, Stopped failed",
            machines={"db01": "Completed failed 'No space'", "db02": None, "ok": None},
        )
        async with door(server, accept=accept) as em:
            with pytest.raises(SessionFailedError) as caught:
                await em.run(f"{job.path}?action=start")
        error = caught.value
        assert "'Oracle' ended Failed" in str(error)
        assert "db01: No space" in str(error)
        assert error.task is not None
        assert error.task.task_id == "task-1"
        assert isinstance(error.session, JobSession)
        assert "db01" in [one.vm_name for one in error.failures]
        assert all(one.result is not SessionResult.SUCCESS for one in error.failures)


async def test_a_warning_is_a_success_that_says_so() -> None:
    """`succeeded` is True, `has_warnings` is, and the machines are read."""
    async with SimulatedServer() as server:
        job = server.add_job(
            "Nightly",
            session="Working 30s, Stopped warning",
            machines={"db01": "Completed warning 'Slow'", "db02": "Completed"},
        )
        async with door(server) as em:
            run = await em.run(f"{job.path}?action=start")
            assert run.has_warnings
            assert run.session is not None
            assert run.session.succeeded is True
            assert [(one.vm_name, one.reason) for one in run.failures] == [
                ("db01", "Slow")
            ]
            task = await em.submit(f"{job.path}?action=start")
            async with em.watch(task, follow=True) as watch:
                report = await watch.wait()
            assert report.succeeded == report.warnings == (task.task_id,)


async def test_run_asks_once_before_it_sends_which_sessions_the_job_has() -> None:
    """One query of each kind that they can be; then the action."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 5s, Stopped")
        before = server.requests.total
        await em.run(f"{job.path}?action=start")
        methods = [record.method for record in server.requests][before:]
        first = methods.index("POST")
        paths = [record.path for record in server.requests][before : before + first]
        assert set(paths) == {"/api/query"}


async def test_a_refusal_of_that_question_is_no_error() -> None:
    """Then the times alone tell the run from the one before."""
    from veeam_tasks.simulator import Fault

    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 5s, Stopped", history=3)
        server.faults.add(Fault("status", path="query", status=403, times=4))
        run = await em.run(f"{job.path}?action=start")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id


async def test_an_action_without_a_session_ends_with_its_task() -> None:
    """`session` is None then, and nothing is asked for."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.jobs[0]
        run = await em.run(f"{job.path}?action=toggleScheduleEnabled")
        assert run.session is None
        assert run.task.is_finished
        asked = [path for path in targets(server) if not path.startswith("tasks/")]
        assert not [path for path in asked if "query" in path or "essions/" in path]


async def test_follow_takes_up_a_task_that_was_started_already() -> None:
    """Also one that has long finished, and one whose job session has ended."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 60s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        await em.wait(task)
        await anyio.sleep(300)
        run = await em.follow(task.task_id)
        assert run.session is not None
        assert run.session.is_ended


async def test_a_run_that_takes_too_long_is_a_watch_timeout() -> None:
    """Its own time ran out; the job goes on at the server."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        with pytest.raises(WatchTimeoutError) as caught:
            await em.run(f"{job.path}?action=start", timeout=600)
        event = caught.value.report.outcomes["task-1"]
        assert event is not None
        assert event.session is not None
        assert event.session.state is SessionState.WORKING
        assert server.job_sessions[-1].path


async def test_the_timeout_that_is_told_is_the_one_that_was_given() -> None:
    """It counts from the call of `run`: what was asked before the action is part of it.

    And it is told as it was given, not what was left of it then.
    """
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        server.faults.add(Fault("delay", path="query", seconds=7))
        began = anyio.current_time()
        with pytest.raises(WatchTimeoutError, match="after 600 s with") as caught:
            await em.run(f"{job.path}?action=start", timeout=600)
        assert caught.value.seconds == 600
        assert anyio.current_time() - began == pytest.approx(600)
        assert [path for path in targets(server) if path.startswith("query")]


async def test_a_session_that_never_comes_is_lost_after_the_find_timeout() -> None:
    """The text names the run that was under way before the start."""
    async with SimulatedServer(running_job="ignored") as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 9h, Stopped")
        server.add_session(job, started=-600)
        began = anyio.current_time()
        with pytest.raises(SessionLostError) as caught:
            await em.run(f"{job.path}?action=start", find_timeout=300)
        assert 300 <= anyio.current_time() - began < 400
        assert caught.value.last_seen is None
        assert caught.value.task is not None
        assert "within 300 s" in str(caught.value)
        assert "a run was under way before: 'Nightly@" in str(caught.value)
        assert server.job_sessions[-1].session_id in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
async def test_a_find_timeout_is_a_span_of_time(value: float) -> None:
    """Anything else is a ValueError before anything is sent."""
    async with SimulatedServer() as server, door(server) as em:
        before = server.requests.total
        with pytest.raises(ValueError, match="find_timeout"):
            await em.run("jobs/1?action=start", find_timeout=value)
        with pytest.raises(ValueError, match="find_timeout"):
            em.watch("task-1", find_timeout=value)
        assert server.requests.total == before
