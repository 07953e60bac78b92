"""Which job session is the run of a start, among all that look like it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import pytest
from support.managers import door, followed, targets

from veeam_tasks import (
    JobSession,
    RunStage,
    SessionLostError,
    SessionManager,
    TaskEvent,
    connect,
)
from veeam_tasks.simulator import Account, Fault, Role, SimulatedServer
from veeam_tasks.simulator._version import VersionName

pytestmark = pytest.mark.virtual_time(debug=False)

Accept = Literal["xml", "json"]
VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")
SCRIPT = "Starting 2s, Working 60s, Stopped"


@asynccontextmanager
async def started(
    server: SimulatedServer, **options: object
) -> AsyncIterator[SessionManager]:
    """Give a manager of the server."""
    async with door(server, **options) as em:  # type: ignore[arg-type] # of a test
        yield em


def session_of(events: list[TaskEvent]) -> JobSession:
    """Return the job session of the last event."""
    assert events[-1].is_final
    session = events[-1].session
    assert session is not None
    return session


@pytest.mark.parametrize("accept", ["xml", "json"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "kind",
    ["Backup", "Replica", "AgentBackup", "NasBackup", "BackupCopy"],
)
async def test_every_kind_of_job_is_found_without_a_link(
    accept: Accept, version: VersionName, kind: str
) -> None:
    """By a query for either kind of job session; GUIDs are compared, not whole URNs."""
    async with (
        SimulatedServer(version=version, job_links="never") as server,
        started(server, accept=accept) as em,
    ):
        job = server.add_job("Nightly", kind=kind, session=SCRIPT, history=3)  # type: ignore[arg-type]
        action = "sync" if kind == "BackupCopy" else "start"
        mark = "/" if kind == "NasBackup" else "?action="
        run = await em.run(f"{job.path}{mark}{action}")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id


@pytest.mark.parametrize("accept", ["xml", "json"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_the_previous_run_is_never_taken(
    accept: Accept, version: VersionName
) -> None:
    """Not the one that ended a second before, nor an old one that arrives late."""
    async with (
        SimulatedServer(version=version, job_links="never", session_delay=90) as server,
        started(server, accept=accept) as em,
    ):
        job = server.add_job("Nightly", session=SCRIPT, history=5)
        server.add_session(job, "Working 10s, Stopped failed", started=-600, appears=20)
        events = await followed(em, job.path)
        assert session_of(events).session_id == server.job_sessions[-1].session_id
        assert events[-1].succeeded is True


async def test_a_run_that_began_just_before_is_known_to_run() -> None:
    """Two clocks may differ by two minutes; what was there before is left out."""
    async with SimulatedServer(job_links="never", session_delay=30) as server:
        job = server.add_job("Nightly", session="Working 30s, Stopped")
        server.add_session(job, "Stopped failed", started=-100, appears=-90)
        async with started(server) as em:
            run = await em.run(f"{job.path}?action=start")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id


@pytest.mark.parametrize("skew", [-110, 110, 3600])
async def test_the_backup_servers_clock_may_differ(skew: float) -> None:
    """Up to two minutes behind, or any time ahead."""
    async with SimulatedServer(job_links="never", clock_skew=skew) as server:
        job = server.add_job("Nightly", session=SCRIPT, history=3)
        async with started(server) as em:
            run = await em.run(f"{job.path}?action=start")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id


async def test_without_a_date_the_skew_is_wider() -> None:
    """Our own clock has to do then, which may be off by more."""
    async with SimulatedServer(job_links="never", date_header=False) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with started(server) as em:
            run = await em.run(f"{job.path}?action=start")
        assert run.session is not None


async def test_a_run_that_began_long_before_the_reply_is_found() -> None:
    """A server that is slow to answer starts the job while its reply is waited for."""
    async with SimulatedServer(job_links="never") as server:
        server.faults.add(Fault("delay", path="action=start", seconds=200))
        job = server.add_job("Nightly", session="Working 60s, Stopped", history=3)
        async with started(server, request_timeout=600.0) as em:
            run = await em.run(f"{job.path}?action=start")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id


async def test_of_those_that_fit_the_oldest_is_the_run() -> None:
    """A scheduled run, a retry and a chained one come after ours."""
    async with SimulatedServer(job_links="never", session_delay=40) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with started(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            await anyio.sleep(5)
            ours = server.job_sessions[-1]
            server.add_session(job, SCRIPT, started=10, appears=12)
            server.add_session(job, SCRIPT, started=20, appears=22, is_retry=True)
            await anyio.sleep(60)
            run = await em.follow(task)
        assert run.session is not None
        assert run.session.session_id == ours.session_id


@pytest.mark.parametrize("job_type", ["ImmediateBackupCopyWorker", "AgentManagement"])
async def test_a_worker_or_a_child_is_never_the_run(job_type: str) -> None:
    """Each has a job of its own, or a parent session."""
    async with SimulatedServer(job_links="never", session_delay=30) as server:
        kind = "AgentBackup" if job_type == "AgentManagement" else "ImmediateBackupCopy"
        job = server.add_job("Copies", kind=kind, session=SCRIPT)  # type: ignore[arg-type]
        async with started(server) as em:
            action = "start" if kind == "AgentBackup" else "sync"
            task = await em.submit(f"{job.path}?action={action}")
            server.add_session(job, SCRIPT, job_type=job_type, started=1, appears=1)
            run = await em.follow(task)
        assert run.session is not None
        assert run.session.job_type != job_type


@pytest.mark.parametrize("apart", [0, 10])
async def test_two_starts_of_one_job_do_not_share_a_session(apart: float) -> None:
    """However close they are; the earlier start has the older session."""
    async with SimulatedServer(job_links="never", session_delay=60) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        tasks = []
        async with started(server) as em:
            for _ in range(4):
                tasks.append(await em.submit(f"{job.path}?action=start"))
                await anyio.sleep(apart)
            async with em.watch(tasks[::-1], follow=True) as watch:
                report = await watch.wait()
        ends = [report.outcomes[task.task_id] for task in tasks]
        found = [end.session.session_id for end in ends if end and end.session]
        made = [one.session_id for one in server.job_sessions[-4:]]
        assert sorted(found) == sorted(made)
        assert found == made or not apart


@pytest.mark.parametrize("status", [400, 501])
async def test_a_filter_by_time_that_is_refused_is_left_out(status: int) -> None:
    """Then the newest are asked for, and told apart here."""
    async with SimulatedServer(job_links="never") as server:
        job = server.add_job("Nightly", session=SCRIPT, history=20)
        async with started(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            server.faults.add(Fault("status", path="query", status=status, times=1))
            run = await em.follow(task)
            queries = [
                record.parameters["filter"]
                for record in server.requests
                if record.path == "/api/query"
            ]
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id
        assert "CreationTime" in queries[0]
        assert all("CreationTime" not in one for one in queries[1:])


async def test_a_job_is_named_by_its_guid_and_then_by_its_urn() -> None:
    """Which of them a server takes is not documented, so they take turns."""
    async with SimulatedServer(job_links="never", session_delay=20) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with started(server) as em:
            await followed(em, job.path)
            queries = [
                record.parameters["filter"].partition(";")[0]
                for record in server.requests
                if record.path == "/api/query"
            ]
        assert f"JobUid=={job.job_id}" in queries
        assert f'JobUid=="urn:veeam:Job:{job.job_id}"' in queries


async def test_a_link_is_taken_whenever_it_comes() -> None:
    """Minutes after Finished; then it is what is polled, and no query any more."""
    async with SimulatedServer(
        job_links="late", link_delay=20, session_delay=10**6
    ) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with started(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            async with em.watch(task, follow=True, find_timeout=100) as watch:
                events = [event async for event in watch]
        assert isinstance(events[-1].error, SessionLostError)
        assert "the task links to backupSessions/" in str(events[-1].error)
        assert events[-1].task is not None
        assert len(events[-1].task.related) == 1


async def test_that_the_task_is_gone_meanwhile_is_an_answer_all_the_same() -> None:
    """It ends an outage, and the search, since nothing else would have the link."""
    kinds: list[str] = []
    async with (
        SimulatedServer() as server,
        started(server, on_notice=lambda notice: kinds.append(notice.kind.value)) as em,
    ):
        task = server.add_task("Finished ok", operation="StartJob", shared=True)
        async with em.watch(task.task_id, follow=True, find_timeout=900) as watch:
            first = await anext(watch)
            assert first.stage is RunStage.SEARCHING
            fault = server.faults.add(Fault("status", status=503))
            await anyio.sleep(60)
            assert kinds == ["logged_on", "unreachable"]
            server.forget_task(task.task_id)
            server.faults.remove(fault)
            end = await anext(watch)
        assert "its task is gone" in str(end.error)
        assert kinds == ["logged_on", "unreachable", "recovered"]


@pytest.mark.parametrize("unknown", [404, 500])
@pytest.mark.parametrize("links", ["always", "never"])
async def test_a_session_that_comes_late_is_waited_for(
    unknown: int, links: Literal["always", "never"]
) -> None:
    """404, 500 and an empty body before it was seen mean: not yet."""
    async with SimulatedServer(
        job_links=links, session_delay=900, unknown_session=unknown
    ) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with started(server) as em:
            server.faults.add(
                Fault("empty", path="backupSessions", times=2)
                if unknown == 404
                else Fault("status", path="backupSessions", status=500, times=2)
            )
            run = await em.run(f"{job.path}?action=start")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id


async def test_a_task_that_no_submit_gave_is_followed_by_its_link_alone() -> None:
    """Its job is not known, so no query is sent."""
    async with SimulatedServer(job_links="always") as server, started(server) as one:
        job = server.add_job("Nightly", session=SCRIPT)
        task = await one.submit(f"{job.path}?action=start")
        async with connect(
            server.url, username=server.username, password=server.password
        ) as other:
            del other
        token, session_id = one.token, one.session_id
        assert token is not None
        from veeam_tasks import adopt

        before = server.requests.total
        async with adopt(server.url, token, session_id=session_id) as em:
            run = await em.follow(task.task_id)
        assert run.session is not None
        paths = [record.path for record in server.requests][before:]
        assert "/api/query" not in paths


async def test_a_started_job_of_another_client_without_a_link_is_lost() -> None:
    """There is nothing to find it by, which the text says."""
    async with SimulatedServer(job_links="never") as server, started(server) as em:
        server.add_task("Running 2s, Finished", operation="StartJob", shared=True)
        with pytest.raises(
            SessionLostError, match="linked to no job session"
        ) as caught:
            await em.follow("task-1", find_timeout=60)
        assert "this manager has not started it" in str(caught.value)
        assert "query" not in [path.partition("?")[0] for path in targets(server)]


@pytest.mark.parametrize("operation", ["StartJob", "StartVMRestore"])
async def test_a_search_by_link_alone_says_so(
    caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    """From its first moment: in the event, its `repr`, the report and the log."""
    caplog.set_level(logging.INFO, "veeam_tasks")
    async with SimulatedServer(job_links="never") as server, started(server) as em:
        server.add_task("Running 2s, Finished", operation=operation, shared=True)
        job = server.add_job("Nightly", session=SCRIPT)
        ours = await em.submit(f"{job.path}?action=start")
        async with (
            em.watch("task-1", ours, follow=True, find_timeout=60) as watch,
            em.watch("task-1", follow=True) as other,
        ):
            await anyio.sleep(10)
            text = "its job session is not found yet, and only a link of the task can"
            assert f"Finished {operation}, {text} tell" in repr(watch.report)
            again = em.resume(watch.checkpoint())
            outcomes = again.report.outcomes
            by_link = [one and one.is_by_link for one in outcomes.values()]
            assert by_link == [True, False]
            events = [event async for event in watch]
            assert await anext(other)
        theirs = [event for event in events if event.task_id == "task-1"]
        assert [event.is_by_link for event in theirs] == [True, False]
        assert not any(one.is_by_link for one in events if one.task_id == ours.task_id)
        assert repr(theirs[0]) == (
            "<TaskEvent #1 task-1 Finished searching by link alone>"
        )
    told = [one for one in caplog.records if vars(one).get("event") == "by_link_alone"]
    (record,) = told
    assert record.getMessage() == (
        "the job session of task-1 is found only if the task links to it; it is asked"
        " again for 60 s"
    )


async def test_a_restore_without_a_link_is_never_guessed() -> None:
    """Its task is asked for the link, and no restore session is."""
    async with SimulatedServer() as server, started(server) as em:
        server.add_task("Running 2s, Finished", operation="StartVMRestore", shared=True)
        with pytest.raises(SessionLostError, match="linked to no job session"):
            await em.follow("task-1", find_timeout=60)
        assert not [path for path in targets(server) if "estoreSessions" in path]


async def test_a_restore_is_followed_by_its_link() -> None:
    """Its job session has no job, but a machine."""
    async with SimulatedServer() as server, started(server) as em:
        server.add_task("Running 2s, Finished", related="RestoreSession", shared=True)
        run = await em.follow("task-1")
        assert run.session is not None
        assert run.session.kind == "RestoreSession"


@pytest.mark.parametrize("links", ["always", "never"])
async def test_what_this_account_may_not_read_is_lost_at_once(
    links: Literal["always", "never"],
) -> None:
    """403: with the role as the reason; the end of the task is told before."""
    accounts = {"op": Account("op-secret", role=Role.RESTORE_OPERATOR)}
    async with SimulatedServer(accounts=accounts, job_links=links) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        server.add_task("Running 2s, Finished", job=job, session=SCRIPT, shared=True)
        async with (
            connect(server.url, username="op", password="op-secret") as em,
            em.watch("task-1", follow=True) as watch,
        ):
            await anyio.sleep(60)
            events = [event async for event in watch]
        stages = [event.stage for event in events]
        assert stages == [RunStage.SEARCHING, RunStage.SEARCHING]
        end = events[-1]
        assert isinstance(end.error, SessionLostError)
        assert "may not read" in str(end.error)
        assert "roles" in str(end.error)


async def test_a_link_of_an_agent_that_is_unknown_leads_elsewhere() -> None:
    """No page has ``/agents/backupSessions/ID``; ``/backupSessions/ID`` has all."""
    async with SimulatedServer() as server, started(server) as em:
        job = server.add_job("Laptops", kind="AgentBackup", session=SCRIPT)
        server.faults.add(Fault("status", path="agents/backupSessions", status=404))
        run = await em.run(f"{job.path}?action=start")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id
        paths = targets(server)
        first = next(at for at, path in enumerate(paths) if "agents/backupS" in path)
        assert paths[first + 1].startswith("backupSessions/")


async def test_an_outage_does_not_use_up_the_time_to_find_it() -> None:
    """Not found is what the server says, not what it does not say."""
    async with SimulatedServer(job_links="never", session_delay=50) as server:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        async with started(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            async with em.watch(task, follow=True, find_timeout=100) as watch:
                await anyio.sleep(20)
                await server.pause()
                await anyio.sleep(300)
                await server.resume()
                report = await watch.wait()
        assert report.succeeded == (task.task_id,)


async def test_a_cloud_failover_has_its_machines_inside_it() -> None:
    """They are read from the job session itself."""
    async with SimulatedServer() as server, started(server) as em:
        server.add_task(
            "Running 2s, Finished", related="CloudFailoverSession", shared=True
        )
        run = await em.follow("task-1")
        assert run.session is not None
        assert run.session.kind == "CloudFailoverSession"
        session = await em.fetch_session(run.session)
        machines = await em.fetch_session_tasks(session)
        assert [one.vm_name for one in machines] == ["srv01", "srv02"]


async def test_a_retry_has_the_run_that_says_so() -> None:
    """A start has not: that is the retry of an earlier run."""
    async with SimulatedServer(job_links="never") as server, started(server) as em:
        job = server.add_job("Nightly", session=SCRIPT)
        run = await em.run(f"{job.path}?action=retry")
        assert run.session is not None
        assert run.session.session_id == server.job_sessions[-1].session_id
