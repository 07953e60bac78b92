"""Followed runs through renewals, restarts, outages, and cancellations."""

import asyncio
import gc
from typing import Literal

import anyio
import pytest
from support.managers import STEADY, door, targets

from veeam_tasks import (
    CertificateError,
    ClosedError,
    LogonError,
    NoticeKind,
    Pace,
    RunStage,
    SessionLostError,
    TaskFailedError,
    TaskState,
    TransportError,
    WatchTimeoutError,
    adopt,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

Links = Literal["always", "never"]
WITH_AND_WITHOUT_LINKS = pytest.mark.parametrize("links", ["always", "never"])
SCRIPT = "Starting 5s, Working 600s, Stopped"


@WITH_AND_WITHOUT_LINKS
@pytest.mark.parametrize("how", ["expire", "restart"])
@pytest.mark.parametrize("at", [0, 5, 60])
async def test_a_job_is_followed_over_a_renewal(
    links: Links, how: str, at: float
) -> None:
    """Sessions belong to the server: also one whose task was lost by the renewal."""
    async with SimulatedServer(job_links=links, session_delay=20) as server:
        job = server.add_job("Nightly", session=SCRIPT, history=2)
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            if links == "always" and at == 0:
                # The link has to be seen before the task is forgotten.
                await em.wait(task)
            async with em.watch(task, follow=True) as watch:
                await anyio.sleep(at)
                if how == "expire":
                    server.expire_logon_sessions()
                else:
                    server.restart()
                events = [event async for event in watch]
            assert em.statistics().renewals >= 1
        end = events[-1]
        assert end.succeeded is True
        assert end.state is TaskState.FINISHED
        assert end.session is not None
        assert end.session.session_id == server.job_sessions[-1].session_id
        assert watch.report.succeeded == (task.task_id,)


async def test_a_task_that_was_lost_otherwise_is_lost_as_ever() -> None:
    """Without a renewal nobody can say what became of the start."""
    async with SimulatedServer(job_links="never") as server, door(server) as em:
        job = server.add_job("Nightly", session=SCRIPT)
        task = await em.submit(f"{job.path}?action=start")
        server.task(task.task_id).vanish()
        async with em.watch(task, follow=True) as watch:
            events = [event async for event in watch]
        assert events[-1].state is TaskState.LOST
        assert events[-1].stage is RunStage.TASK


async def test_a_lost_task_whose_job_was_never_found_says_both() -> None:
    """The text says that the task was lost, and that no job session was found."""
    async with SimulatedServer(job_links="never", session_delay=10**6) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            server.expire_logon_sessions()
            with pytest.raises(SessionLostError) as caught:
                await em.follow(task, find_timeout=60)
        text = str(caught.value)
        assert "its task is lost, too (" in text
        assert "the logon session was renewed" in text
        assert "no session of the job began" in text
        assert text.count("is lost") == 2
        assert text.count(task.task_id) == text.count(f"/{task.task_id}:") + 2


async def test_a_task_of_the_next_logon_session_is_not_taken_for_the_old_one() -> None:
    """Its submit gives the ID anew; each start has its own session."""
    async with SimulatedServer(job_links="never", per_session_counter=True) as server:
        jobs = [server.add_job(name, session=SCRIPT) for name in ("A", "B")]
        async with door(server) as em:
            first = asyncio.create_task(em.run(f"{jobs[0].path}?action=start"))
            await anyio.sleep(30)
            server.expire_logon_sessions()
            await em.fetch_all()
            second = asyncio.create_task(em.run(f"{jobs[1].path}?action=start"))
            runs = await first, await second
        assert [run.task.task_id for run in runs] == ["task-1", "task-1"]
        assert [run.session and run.session.job_name for run in runs] == ["A", "B"]


@pytest.mark.parametrize("way", ["follow", "resume", "plain first"])
async def test_an_id_that_another_gave_anew_is_not_that_of_our_ended_start(
    way: str,
) -> None:
    """Who shares the logon session started another job: it is followed by link alone.

    What this manager submitted under that ID ended in the logon session before.
    """
    async with SimulatedServer(job_links="never", per_session_counter=True) as server:
        jobs = [server.add_job(name, session=SCRIPT) for name in ("A", "B")]
        async with door(server) as em:
            mine = await em.submit(f"{jobs[0].path}?action=start")
            await (em.wait if way == "plain first" else em.follow)(mine)
            server.expire_logon_sessions()
            await em.fetch_all()
            assert em.token is not None
            async with adopt(server.url, em.token, keep_alive=False) as sharing:
                other = await sharing.submit(f"{jobs[1].path}?action=start")
            assert other.task_id == mine.task_id
            async with em.watch(other.task_id, follow=True, find_timeout=120) as watch:
                report = None if way == "resume" else await watch.wait()
                saved = watch.checkpoint()
            if report is None:
                async with em.resume(saved) as watch:
                    report = await watch.wait()
        end = report.outcomes[other.task_id]
        assert end is not None
        assert end.session is None
        assert isinstance(end.error, SessionLostError)
        assert "start" not in saved["tasks"][0]


async def test_a_checkpoint_tells_the_start_of_the_run_it_follows() -> None:
    """Not that of the task to which a later submit gave the ID."""
    async with SimulatedServer(job_links="never", per_session_counter=True) as server:
        jobs = [server.add_job(name, session=SCRIPT) for name in ("A", "B")]
        async with door(server) as em:
            mine = await em.submit(f"{jobs[0].path}?action=start")
            async with em.watch(mine, follow=True) as watch:
                await anyio.sleep(30)
                server.expire_logon_sessions()
                await em.fetch_all()
                other = await em.submit(f"{jobs[1].path}?action=start")
                assert other.task_id == mine.task_id
                [saved] = watch.checkpoint()["tasks"]
        assert jobs[0].path in saved["start"]["path"]


async def test_one_watch_has_one_place_for_an_id() -> None:
    """A later task of the same ID takes it; the run before ends there as LOST."""
    async with SimulatedServer(job_links="never", per_session_counter=True) as server:
        jobs = [server.add_job(name, session=SCRIPT) for name in ("A", "B")]
        async with door(server) as em:
            first = await em.submit(f"{jobs[0].path}?action=start")
            other = em.watch(first, follow=True)
            async with em.watch(first, follow=True) as watch:
                await anyio.sleep(60)
                server.expire_logon_sessions()
                await em.fetch_all()
                second = await em.submit(f"{jobs[1].path}?action=start")
                assert second.task_id == first.task_id
                watch.add(second)
                events = [event async for event in watch]
            report = await other.wait()
        ends = [event for event in events if event.is_final]
        assert [event.state for event in ends] == [TaskState.LOST, TaskState.FINISHED]
        assert "in a watch of its own" in str(ends[0].error)
        begins = [event for event in events if event.sequence == 1]
        assert len(begins) == 2
        assert ends[1].session is not None
        assert ends[1].session.job_name == "B"
        event = report.outcomes[first.task_id]
        assert event is not None
        assert event.session is not None
        assert event.session.job_name == "A"


@WITH_AND_WITHOUT_LINKS
@pytest.mark.parametrize("at", [1, 5, 60])
async def test_an_outage_is_ridden_out(links: Links, at: float) -> None:
    """In the task, in the search, in the job session; one probe asks meanwhile."""
    notices = []
    async with SimulatedServer(job_links=links, session_delay=10) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server, on_notice=notices.append) as em:
            task = await em.submit(f"{job.path}?action=start")
            async with em.watch(task, follow=True, find_timeout=30) as watch:
                await anyio.sleep(at)
                await server.pause()
                await anyio.sleep(300)
                before = server.requests.total
                await server.resume()
                report = await watch.wait()
        assert report.succeeded == (task.task_id,)
        kinds = [notice.kind for notice in notices]
        assert NoticeKind.UNREACHABLE in kinds
        assert kinds.index(NoticeKind.RECOVERED) > kinds.index(NoticeKind.UNREACHABLE)
        down = next(one for one in notices if one.kind is NoticeKind.UNREACHABLE)
        assert down.task_ids == (task.task_id,)
        assert server.requests.total > before


async def test_patience_ends_the_watch_and_tells_what_is_owed_first() -> None:
    """The run stays unfinished: nothing is known to be lost."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server, patience=60) as em:
            task = await em.submit(f"{job.path}?action=start")
            watch = em.watch(task, follow=True)
            await anyio.sleep(30)
            await server.pause()
            await anyio.sleep(300)
            with pytest.raises(TransportError, match="patience"):
                async for _ in watch:
                    pass
            assert watch.report.unfinished == (task.task_id,)
            await server.resume()


async def test_only_errors_for_one_session_for_as_long_as_patience_lose_it() -> None:
    """Others are answered meanwhile, so it is no outage."""
    async with SimulatedServer(job_links="always") as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server, patience=60) as em:
            other = server.add_task("Running 1h, Finished", shared=True)
            rest = em.watch(other.task_id)
            task = await em.submit(f"{job.path}?action=start")
            watch = em.watch(task, follow=True)
            await anyio.sleep(30)
            server.faults.add(Fault("html", path="backupSessions"))
            began = anyio.current_time()
            report = await watch.wait()
            assert 55 < anyio.current_time() - began < 130
            assert report.lost == (task.task_id,)
            event = report.outcomes[task.task_id]
            assert event is not None
            assert isinstance(event.error, SessionLostError)
            await rest.aclose()


async def test_a_request_that_hangs_is_given_up_in_time() -> None:
    """The deadline of a request holds for job sessions, too."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server, request_timeout=5) as em:
            task = await em.submit(f"{job.path}?action=start")
            server.faults.add(Fault("stall", path="backupSessions", times=2))
            server.faults.add(Fault("stall", path="query", times=2))
            run = await em.follow(task)
        assert run.session is not None


async def test_a_refused_logon_ends_it_with_the_error() -> None:
    """As it ends every watch."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server) as em:
            running = asyncio.create_task(em.run(f"{job.path}?action=start"))
            await anyio.sleep(60)
            server.change_password("another")
            server.expire_logon_sessions()
            with pytest.raises(LogonError):
                await running


async def test_a_certificate_that_changes_in_the_middle_ends_it_at_once() -> None:
    """Nothing more is sent to that server."""
    async with SimulatedServer(tls=True) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server) as em:
            running = asyncio.create_task(em.run(f"{job.path}?action=start"))
            await anyio.sleep(60)
            # asyncio's server reports each handshake that a client refuses.
            asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
            server.change_certificate(new_ca=True)
            with pytest.raises(CertificateError):
                await running


async def test_a_close_wakes_it() -> None:
    """With the error of every closed watch; the job goes on."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly", session=SCRIPT)
        em = await door(server)
        running = asyncio.create_task(em.run(f"{job.path}?action=start"))
        await anyio.sleep(60)
        await em.aclose()
        with pytest.raises(ClosedError):
            await running
        await anyio.sleep(60)
        assert server.job_sessions[-1].path


async def test_cancelling_it_stops_polling_and_nothing_else() -> None:
    """No stop, no delete: not one request more."""
    async with SimulatedServer() as server, door(server, keep_alive=False) as em:
        job = server.add_job("Nightly", session=SCRIPT)
        running = asyncio.create_task(em.run(f"{job.path}?action=start"))
        await anyio.sleep(60.5)
        running.cancel()
        await anyio.wait_all_tasks_blocked()
        before = server.requests.total
        await anyio.sleep(300)
        assert server.requests.total == before
        assert em.statistics().watched == 0
        methods = [record.method for record in server.requests]
        assert methods.count("POST") == 2
        assert "DELETE" not in methods


async def test_what_nobody_holds_any_more_is_not_polled() -> None:
    """A watch that is dropped in the middle of a job session stops quietly."""
    async with SimulatedServer() as server, door(server, keep_alive=False) as em:
        job = server.add_job("Nightly", session=SCRIPT)
        task = await em.submit(f"{job.path}?action=start")
        watch = em.watch(task, follow=True)
        await anyio.sleep(60)
        assert em.statistics().watched == 1
        del watch
        await anyio.sleep(2)
        before = server.requests.total
        await anyio.sleep(300)
        assert server.requests.total == before
        assert em.statistics().watched == 0


async def test_discarding_it_drops_it_and_adding_it_begins_anew() -> None:
    """With sequence 1; nothing of the old one is told."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session=SCRIPT)
        task = await em.submit(f"{job.path}?action=start")
        watch = em.watch(task, follow=True)
        await anyio.sleep(60)
        watch.discard(task)
        assert not watch.report.outcomes
        before = server.requests.total
        await anyio.sleep(30)
        assert server.requests.total == before
        watch.add(task)
        events = [event async for event in watch]
        assert events[0].sequence == 1
        assert events[-1].succeeded is True


async def test_watch_all_follows_what_appears() -> None:
    """Tasks to come included; it ends at its timeout."""
    async with SimulatedServer(job_links="never") as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 30s, Stopped warning")
        async with em.watch_all(timeout=300, follow=True) as watch:
            await anyio.sleep(5)
            task = await em.submit(f"{job.path}?action=start")
            events = [event async for event in watch]
        assert watch.report.warnings == (task.task_id,)
        assert events[-1].has_warnings


@pytest.mark.parametrize("mode", ["never", "always", "auto"])
async def test_tasks_are_asked_for_in_any_way(
    mode: Literal["never", "always", "auto"],
) -> None:
    """Many runs end rightly, whichever way their tasks are polled."""
    async with SimulatedServer(job_links="never") as server:
        jobs = [
            server.add_job(f"Job {n}", session=f"Working {20 + n}s, Stopped")
            for n in range(30)
        ]
        async with door(server, coalesce=mode) as em:
            tasks = [await em.submit(f"{job.path}?action=start") for job in jobs]
            async with em.watch(tasks, follow=True) as watch:
                report = await watch.wait()
        assert len(report.succeeded) == 30
        found = [report.outcomes[task.task_id] for task in tasks]
        names = [one.session.job_name for one in found if one and one.session]
        assert names == [job.name for job in jobs]


async def test_its_time_runs_out_in_any_stage() -> None:
    """What was known then is in the report."""
    async with SimulatedServer(job_links="never", session_delay=10**6) as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            with pytest.raises(WatchTimeoutError) as caught:
                await em.follow(task, timeout=60)
        event = caught.value.report.outcomes[task.task_id]
        assert event is not None
        assert event.stage is RunStage.SEARCHING
        assert event.state is TaskState.FINISHED


async def test_a_401_for_the_session_alone_takes_no_token_with_it() -> None:
    """It is lost after some rounds, and the logon session stays."""
    async with SimulatedServer(job_links="always") as server:
        job = server.add_job("Nightly", session=SCRIPT)
        async with door(server, pace=STEADY) as em:
            other = server.add_task("Running 1h, Finished", shared=True)
            rest = em.watch(other.task_id)
            task = await em.submit(f"{job.path}?action=start")
            server.faults.add(Fault("status", path="backupSessions", status=401))
            report = await em.watch(task, follow=True).wait()
            assert report.lost == (task.task_id,)
            assert server.logons.total == 1
            await rest.aclose()


async def test_a_start_that_failed_on_another_kind_of_error_is_no_run() -> None:
    """A task without success ends the run, whatever links it has."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session=SCRIPT)
        server.add_task(
            "Running 2s, Finished failed 'No licence'", job=job, shared=True
        )
        with pytest.raises(TaskFailedError, match="No licence"):
            await em.follow("task-1")
        assert not [path for path in targets(server) if "ession" in path]


async def test_a_forgotten_watch_of_a_run_leaves_nothing_behind() -> None:
    """Neither its pace nor its place stays with a run that another one follows."""
    quick = Pace(first=0.5, growth=1, longest=0.5, jitter=0)
    slow = Pace(first=60, growth=1, longest=60, jitter=0)
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Starting 2s, Working 2h, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        watch = em.watch(task, follow=True, pace=slow)
        forgotten = em.watch(task, follow=True, pace=quick)
        await anyio.sleep(120)
        tracker = em._running().engine.tracker
        [run] = tracker.runs.values()
        assert len(run.subscribers) == len(run.deadlines) == 2
        del forgotten
        gc.collect()
        await anyio.sleep(60)
        before = server.requests.total
        await anyio.sleep(600)
        assert server.requests.total - before <= 11
        assert len(run.subscribers) == len(run.deadlines) == 1
        del watch
        gc.collect()
        await anyio.sleep(120)
        assert tracker.runs == {}
