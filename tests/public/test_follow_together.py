"""Many job sessions are asked for with one query, and it changes nothing else."""

import re
from typing import Literal

import anyio
import pytest
from support.managers import STEADY, door

from veeam_tasks import Pace, RunStage, SessionManager, TaskState, Watch
from veeam_tasks.simulator import Fault, SimulatedServer
from veeam_tasks.simulator._version import VersionName

pytestmark = pytest.mark.virtual_time(debug=False)

Accept = Literal["xml", "json"]
Coalesce = Literal["never", "always", "auto"]
BY_UID = re.compile(r"filter=UID==")


async def following(
    server: SimulatedServer, em: SessionManager, count: int, script: str
) -> Watch:
    """Start so many jobs and return the watch that follows them."""
    jobs = [server.add_job(f"Job {n}", session=script) for n in range(count)]
    tasks = [await em.submit(f"{job.path}?action=start") for job in jobs]
    return em.watch(tasks, follow=True)


def by_uid(server: SimulatedServer) -> int:
    """Return how many queries for several job sessions there were."""
    return sum(BY_UID.search(one.query) is not None for one in server.requests)


@pytest.mark.parametrize(
    ("version", "accept"), [("9.5u4", "json"), ("12", "xml"), ("13", "json")]
)
async def test_they_end_rightly_with_a_tenth_of_the_requests(
    accept: Accept, version: VersionName
) -> None:
    """Twenty at once: each has its own end, for far fewer requests."""
    counts = {}
    modes: tuple[Coalesce, Coalesce] = ("never", "auto")
    for mode in modes:
        async with SimulatedServer(version=version, job_links="always") as server:
            async with door(server, accept=accept, coalesce=mode, pace=STEADY) as em:
                watch = await following(server, em, 40, "Working 100s, Stopped")
                server.jobs[7].session = None
                await anyio.sleep(30)
                server.job_sessions[3].finish("Failed")
                server.job_sessions[4].finish("Warning")
                before = server.requests.total
                await anyio.sleep(50)
                counts[mode] = server.requests.total - before
                report = await watch.wait()
            assert len(report.succeeded) == 39
            assert len(report.failed) == len(report.warnings) == 1
            assert {
                event.session.job_name: event.session.session_id
                for event in report.outcomes.values()
                if event is not None and event.session is not None
            } == {
                one.job.name: one.session_id
                for one in server.job_sessions
                if one.job is not None
            }
    assert counts["auto"] <= counts["never"] / 10


async def test_kinds_are_asked_for_apart() -> None:
    """A query is for job sessions of one kind."""
    async with SimulatedServer(job_links="always") as server:
        script = "Working 60s, Stopped"
        jobs = [server.add_job(f"B{n}", session=script) for n in range(5)]
        jobs += [
            server.add_job(f"R{n}", kind="Replica", session=script) for n in range(5)
        ]
        async with door(server, coalesce="auto", pace=STEADY) as em:
            tasks = [await em.submit(f"{job.path}?action=start") for job in jobs]
            report = await em.watch(tasks, follow=True).wait()
        assert len(report.succeeded) == 10
        types = {
            one.parameters["type"]
            for one in server.requests
            if BY_UID.search(one.query) is not None
        }
        assert types == {"BackupJobSession", "ReplicaJobSession"}


@pytest.mark.parametrize("status", [400, 403, 404, 500, 501])
async def test_where_a_query_is_refused_they_are_asked_for_singly(status: int) -> None:
    """Nothing is lost by it, and it is not asked again and again."""
    async with SimulatedServer(job_links="always") as server:
        async with door(server, coalesce="auto", pace=STEADY) as em:
            server.faults.add(Fault("status", path="/query", status=status))
            watch = await following(server, em, 10, "Working 40s, Stopped")
            report = await watch.wait()
        assert len(report.succeeded) == 10
        assert by_uid(server) <= (4 if status == 500 else 2)


@pytest.mark.parametrize("kind", ["html", "drop", "cut_body", "empty"])
async def test_a_reply_that_is_none_is_ridden_out(kind: str) -> None:
    """By single requests; a query is tried again later."""
    async with SimulatedServer(job_links="always") as server:
        async with door(server, coalesce="auto", pace=STEADY) as em:
            server.faults.add(Fault(kind, path="/query", every=2))
            watch = await following(server, em, 10, "Working 90s, Stopped")
            report = await watch.wait()
        assert len(report.succeeded) == 10


async def test_one_that_is_missing_is_asked_for_singly_before_it_is_lost() -> None:
    """A query that does not show it proves nothing."""
    async with SimulatedServer(job_links="always") as server:
        async with door(server, coalesce="auto", pace=STEADY) as em:
            watch = await following(server, em, 10, "Working 60s, Stopped")
            await anyio.sleep(20)
            gone = server.job_sessions[2]
            gone.vanish()
            await anyio.sleep(10)
            report = watch.report
            (lost,) = report.lost
            event = report.outcomes[lost]
            assert event is not None
            assert event.session is not None
            assert event.session.session_id == gone.session_id
            assert event.state is TaskState.LOST
            singly = [one for one in server.requests if gone.session_id in one.path]
            assert len(singly) >= 2
            report = await watch.wait()
        assert len(report.succeeded) == 9


async def test_a_renewal_and_an_outage_lose_none_of_them() -> None:
    """Sessions belong to the server."""
    async with SimulatedServer(job_links="always") as server:
        async with door(server, coalesce="auto", pace=STEADY) as em:
            watch = await following(server, em, 30, "Working 300s, Stopped warning")
            await anyio.sleep(20)
            server.expire_logon_sessions()
            await anyio.sleep(20)
            await server.pause()
            await anyio.sleep(60)
            await server.resume()
            report = await watch.wait()
        assert len(report.warnings) == 30
        assert em.statistics().renewals == 1


async def test_each_keeps_its_own_pace() -> None:
    """One that is asked for often takes others along, but never late ones."""
    async with SimulatedServer(job_links="always") as server:
        async with door(server, coalesce="auto", pace=Pace(jitter=0)) as em:
            watch = await following(server, em, 10, "Working 1000s, Stopped")
            events = [event async for event in watch]
        assert len(watch.report.succeeded) == 10
        assert by_uid(server) < 300
        ends = [event for event in events if event.is_final]
        assert all(event.stage is RunStage.SESSION for event in ends)
        assert all(
            event.session is not None
            and event.session.ended_at is not None
            and event.not_before is not None
            and (event.observed_at - event.not_before).total_seconds() < 60
            for event in ends
        )


async def test_one_that_goes_back_is_told_of_whoever_was_asked_for_beside_it() -> None:
    """A page as before is no news only if no other page has told otherwise since."""
    words: list[str] = []

    async def read(watch: Watch, task_id: str) -> None:
        async for event in watch:
            if event.task_id == task_id and event.session is not None:
                assert not event.is_final
                words.append(event.session.raw_state)

    script = "Working 1000s 34%, Stopped"
    async with (
        SimulatedServer(job_links="always") as server,
        door(server, coalesce="always", pace=STEADY) as em,
    ):
        watch = await following(server, em, 2, script)
        async with anyio.create_task_group() as group:
            group.start_soon(read, watch, next(iter(watch.report.outcomes)))
            await anyio.sleep(30)
            one = server.job_sessions[0]
            job = server.add_job("Another", session=script)
            other = await em.submit(f"{job.path}?action=start")
            watch.add([other])
            await anyio.sleep(30)
            one.set_state("Pausing", progress=34)
            await anyio.sleep(30)
            watch.discard([other])
            one.set_state("Working", progress=34)
            await anyio.sleep(30)
            group.cancel_scope.cancel()
    assert words == ["Working", "Pausing", "Working"]
