"""Renewal: once for all, never a loop, never a foreign outcome."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from support.figures import Record
from support.managers import door

from veeam_tasks import (
    ClosedError,
    ForbiddenError,
    LogonError,
    Pace,
    SessionManager,
    TaskLostError,
    TaskNotFoundError,
    TaskState,
    adopt,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

QUICK = Pace(first=4, longest=4)
MODES = pytest.mark.parametrize("mode", ["never", "auto", "always"])


@pytest.mark.lengthy
@MODES
@pytest.mark.parametrize("count", [1, 10, 1000])
async def test_one_logon_for_n_pollers_and_one_more(
    mode: str, count: int, record_property: Record
) -> None:
    """One logon for any number of pollers; one more after the token is refused."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=QUICK) as em,
    ):
        ids = [
            server.add_task("Running 60s, Finished ok").task_id for _ in range(count)
        ]
        watch = em.watch(ids)
        await anyio.sleep(20)
        assert server.expire_logon_sessions(keep_tasks=True) == 1
        report = await watch.wait()
        assert len(report.succeeded) == count
        record_property("logons", server.logons.total)
        assert server.logons.total == 2
        assert em.statistics().renewals == 1
        assert len(server.logon_sessions) == 1
    assert server.logon_sessions == []


@MODES
@pytest.mark.parametrize("count", [4, 1000])
async def test_a_changed_password_is_refused_once(
    mode: str, count: int, record_property: Record
) -> None:
    """One refused logon under a thousand pollers; all are told at once."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=QUICK) as em,
    ):
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(count)]
        watches = [em.watch(ids[i::4]) for i in range(4)]
        waiting = asyncio.gather(
            *(em.wait(task_id) for task_id in ids), return_exceptions=True
        )
        await anyio.sleep(14)
        server.change_password("another")
        server.expire_logon_sessions()
        began = anyio.current_time()
        outcomes = await waiting
        # At their pace, which is 4 s, somebody finds out; the others are told.
        assert anyio.current_time() - began < 5
        assert {type(outcome) for outcome in outcomes} == {LogonError}
        for watch in watches:
            with pytest.raises(LogonError):
                await watch.wait()
            assert len(watch.report.unfinished) == count // 4
        accepted = [record.accepted for record in server.logons]
        record_property("refused", accepted.count(False))
        assert accepted == [True, False]
        before = server.requests.total
        with pytest.raises(LogonError):
            await em.fetch(ids[0])
        with pytest.raises(LogonError):
            em.watch(ids[0])
        await anyio.sleep(3600)
        assert server.requests.total == before


@pytest.mark.parametrize("count", [1, 2, 50, 1000])
async def test_a_wrong_password_with_many_waiting(
    count: int, record_property: Record
) -> None:
    """However many open at once, a wrong password is sent once."""
    async with SimulatedServer() as server:
        em = SessionManager(server.url, username="admin", password="wrong")
        opened = await asyncio.gather(
            *(em.open() for _ in range(count)), return_exceptions=True
        )
        assert {type(error) for error in opened} == {LogonError}
        record_property("refused", server.logons.total)
        assert server.logons.total == 1
        await em.aclose()


async def test_a_cancelled_first_waiter_takes_no_one_down() -> None:
    """The logon is an asyncio task of its own; all others share its result."""
    async with SimulatedServer() as server, door(server) as em:
        task_id = server.add_task("Running 1h, Finished ok").task_id
        await em.fetch(task_id)
        server.expire_logon_sessions(keep_tasks=True)
        server.faults.add(Fault("delay", path="sessionMngr", seconds=5))
        first = asyncio.create_task(em.fetch(task_id))
        await anyio.sleep(1)
        second = asyncio.create_task(em.fetch(task_id))
        await anyio.sleep(1)
        first.cancel()
        assert (await second).task_id == task_id
        assert server.logons.total == 2


async def test_a_close_while_the_password_is_asked_for_cancels_nobody() -> None:
    """A caller that waits for the renewal is told that the manager was closed."""
    asked = 0

    async def password() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            await anyio.sleep(3600)  # a person has gone for lunch
        return server.password

    async with SimulatedServer() as server:
        em = SessionManager(server.url, username=server.username, password=password)
        await em.open()
        await em.fetch_all()
        server.expire_logon_sessions()
        fetching = asyncio.create_task(em.fetch_all())
        await anyio.sleep(1)
        await em.aclose()
        await asyncio.wait([fetching])
        assert not fetching.cancelled()
        assert isinstance(fetching.exception(), ClosedError)


@MODES
async def test_a_renewal_never_touches_the_http_session(mode: str) -> None:
    """The same aiohttp session and the same connections serve the new token."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=QUICK) as em,
    ):
        ids = [server.add_task("Running 90s, Finished ok").task_id for _ in range(50)]
        watch = em.watch(ids)
        await anyio.sleep(20)
        host = em._runtime
        assert host is not None
        http, made = host.transport._http, server.connections.total
        server.expire_logon_sessions(keep_tasks=True)
        assert (await watch.wait()).succeeded == tuple(ids)
        assert em.statistics().renewals == 1
        assert host.transport._http is http
        # The logon is sent beside the polls, so it may be one more than they need.
        assert server.connections.total <= made + 1


@MODES
async def test_each_task_is_asked_for_once_more_after_a_renewal(mode: str) -> None:
    """At once, however long the pause is that they are in."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=Pace(first=400, longest=400)) as em,
    ):
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(60)]
        watch = em.watch(ids)
        await anyio.sleep(20)
        server.expire_logon_sessions()
        before = len(server.requests)
        await em.fetch_all()
        assert em.statistics().renewals == 1
        await anyio.sleep(5)
        asked = [record.path for record in server.requests][before:]
        singly = {path.rpartition("/")[2] for path in asked} & set(ids)
        # Together, the collection lacks them, and then each is asked for singly.
        assert len(singly) == 60
        assert len(watch.report.unfinished) == 60


async def test_one_task_alone_that_answers_401_is_given_up() -> None:
    """Three rounds and no renewal, then LOST; the other tasks go on."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        bad = server.add_task("Running 100s, Finished ok").task_id
        good = server.add_task("Running 100s, Finished ok").task_id
        server.faults.add(Fault("unauthorized", path=f"{bad}$"))
        report = await em.watch(bad, good).wait()
        assert report.lost == (bad,)
        assert report.succeeded == (good,)
        assert server.logons.total == 1


@MODES
async def test_a_stray_401_gives_no_logon_session_up(mode: str) -> None:
    """A 401 under a good token, of a role or of a proxy, loses no task."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [server.add_task("Running 60s, Finished ok").task_id for _ in range(20)]
        watch = em.watch(ids)
        await anyio.sleep(5)
        # But not of the question whether the token is void.
        path = "/tasks$|/task-[1-9]"
        stray = Fault("status", status=401, path=path, share=0.05, seed=4)
        server.faults.add(stray)
        server.faults.add(Fault("status", status=401, path="/jobs"))
        with pytest.raises(ForbiddenError):
            await em.read("jobs")
        report = await watch.wait()
        assert stray.played > 2
        assert report.succeeded == tuple(ids)
        assert server.logons.total == 1


@pytest.mark.parametrize("mode", ["auto", "always"])
async def test_a_collection_that_answers_401_alone_renews_nothing(mode: str) -> None:
    """GET /tasks refused under a good token: asked singly, no logon loop."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        server.faults.add(Fault("unauthorized", path="/tasks$"))
        ids = [server.add_task("Running 99s, Finished ok").task_id for _ in range(20)]
        report = await em.watch(ids).wait()
        assert report.succeeded == tuple(ids)
        assert server.logons.total == 1


@pytest.mark.parametrize("kind", ["status", "reset", "garbage", "stall", "html"])
async def test_a_logon_that_fails_is_an_outage(kind: str) -> None:
    """5xx or no usable reply: the watch goes on, and the probe renews again."""
    async with SimulatedServer() as server, door(server, request_timeout=5) as em:
        ids = [server.add_task("Running 200s, Finished ok").task_id for _ in range(30)]
        watch = em.watch(ids)
        await anyio.sleep(10)
        server.faults.add(Fault(kind, status=500, path="sessionMngr", times=5))
        server.expire_logon_sessions(keep_tasks=True)
        assert (await watch.wait()).succeeded == tuple(ids)
        assert server.logons.total == 2
        posts = [r for r in server.requests if r.method == "POST"]
        assert len(posts) <= 7


async def test_an_unwell_server_is_not_taken_for_a_refusal() -> None:
    """A 401 and then 5xx about our own logon session prove nothing about the token."""
    async with SimulatedServer() as server:
        first = await door(server).__aenter__()
        task_id = server.add_task("Running 60s, Finished ok").task_id
        async with adopt(
            server.url, first.token or "", session_id=first.session_id
        ) as em:
            server.faults.add(Fault("unauthorized", path="/tasks/", times=1))
            server.faults.add(
                Fault("status", status=500, path="logonSessions", times=2)
            )
            assert (await em.wait(task_id)).succeeded
        await first.aclose()


@MODES
async def test_unknown_after_a_renewal_is_lost(mode: str) -> None:
    """LOST with the last known task, the renewal's time, and that it may go on."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(20)]
        watch = em.watch(ids)
        await anyio.sleep(30)
        server.restart(reset_counter=False)
        report = await watch.wait()
        assert report.lost == tuple(ids)
        for event in report.outcomes.values():
            assert event is not None
            assert event.task is not None
            assert event.task.state is TaskState.RUNNING
            assert "renewed at" in str(event.error)
            assert "may well go on" in str(event.error)
            assert event.sequence == 2
        assert server.logons.total == 2


@MODES
async def test_another_task_under_the_id_is_no_foreign_outcome(mode: str) -> None:
    """After a restart the IDs come again: another operation, or backwards, is LOST."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [
            server.add_task(script, operation="StartJob").task_id
            for script in ["Running 1h, Finished ok", "OperationFinished 1h, Finished"]
            for _ in range(10)
        ]
        watch = em.watch(ids)
        await anyio.sleep(30)
        server.restart()
        again = [
            server.add_task("Running 1s, Finished failed", operation="CloneJob")
            for _ in range(10)
        ] + [server.add_task("Running 1h, Finished failed") for _ in range(10)]
        assert [task.task_id for task in again] == ids
        report = await watch.wait()
        assert report.lost == tuple(ids)


async def test_a_submit_since_the_renewal_makes_the_id_new() -> None:
    """The old watch of an ID that submit gave again is LOST; the new one is right."""
    async with SimulatedServer() as server, door(server) as em:
        action = f"jobs/{server.jobs[0].job_id}?action=start"
        server.set_script("Running 100s, Finished ok")
        old = await em.submit(action)
        watch = em.watch(old)
        await anyio.sleep(20)
        server.restart()
        await anyio.sleep(0.1)
        new = await em.submit(action)
        assert new.task_id == old.task_id
        fresh = em.watch(new)
        report = await watch.wait()
        assert report.lost == (old.task_id,)
        assert "submitted since" in str(report.outcomes[old.task_id])
        assert (await fresh.wait()).succeeded == (new.task_id,)


async def test_a_submit_whose_reply_comes_after_the_renewal() -> None:
    """Its task is of the logon session before, and so is its watch: LOST by that."""
    async with SimulatedServer() as server, door(server) as em:
        await em.fetch_all()
        server.faults.add(Fault("delay", path="action=", seconds=5, carried_out=True))
        action = f"jobs/{server.jobs[0].job_id}?action=start"
        submitting = asyncio.create_task(em.submit(action))
        await anyio.sleep(3)
        server.expire_logon_sessions()
        await em.fetch_all()
        assert server.logons.total == 2
        started = await submitting
        with pytest.raises(TaskLostError, match="the logon session was renewed at"):
            await em.wait(started)


@pytest.mark.lengthy
async def test_two_restarts_close_together() -> None:
    """Each is one renewal, and no task that the server still knew is lost."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        ids = [server.add_task("Running 200s, Finished ok").task_id for _ in range(100)]
        watch = em.watch(ids)
        await anyio.sleep(10)
        for _ in range(6):
            server.restart(keep_tasks=True)
            await anyio.sleep(0.5)
        report = await watch.wait()
        assert report.succeeded == tuple(ids)
        assert em.statistics().renewals <= 6


async def test_an_unchanged_body_counts_for_the_new_logon_session() -> None:
    """What it shows was seen under the new token, or all that follows were doubted."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(5)]
        watch = em.watch(ids)
        for _ in ids:
            await anext(watch)
        server.expire_logon_sessions(keep_tasks=True)
        # One of them is refused; the others are asked for under the new token alone.
        await anyio.sleep(60)
        records = em._running().engine.tracker.records
        assert [records[one].generation for one in ids] == [2] * 5
        await watch.aclose()


@pytest.mark.parametrize("ask", ["fetch", "delete", "read", "submit"])
async def test_every_call_about_an_unknown_task_gives_the_advice(ask: str) -> None:
    """While the logon session of now has known none; a task that it knew ends that."""
    calls: dict[str, Callable[[SessionManager], Awaitable[object]]] = {
        "fetch": lambda em: em.fetch("task-999"),
        "delete": lambda em: em.delete("task-999"),
        "read": lambda em: em.read("tasks/task-999"),
        "submit": lambda em: em.submit("tasks/task-999", method="DELETE"),
    }
    async with SimulatedServer(session_scoped=False) as server, door(server) as em:
        await em.fetch(server.add_task("Running").task_id)
        server.expire_logon_sessions()
        await em.read("jobs")
        assert em.statistics().renewals == 1
        with pytest.raises(TaskNotFoundError, match="through one manager"):
            await calls[ask](em)
        await em.delete(server.add_task("Running").task_id)
        with pytest.raises(TaskNotFoundError) as caught:
            await calls[ask](em)
        assert "through one manager" not in str(caught.value)
