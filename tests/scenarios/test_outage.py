"""Outages: one request asks, nobody is lost, patience ends, all goes on afterwards."""

import asyncio
import itertools
import logging

import anyio
import pytest
from support.figures import Record
from support.managers import door

from veeam_tasks import (
    CertificateError,
    NoticeKind,
    Pace,
    ServerBusyError,
    TransportError,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("mode", "count"), [("never", 1000), ("auto", 300), ("always", 300)]
)
async def test_one_outage_under_a_thousand_pollers(
    mode: str, count: int, record_property: Record
) -> None:
    """At most one request a second, one notice down, one up, no burst after it."""
    notices: list[str] = []
    async with (
        SimulatedServer(keep_requests=200_000) as server,
        door(
            server,
            pace=Pace(first=4, longest=4),
            coalesce=mode,
            on_notice=lambda notice: notices.append(notice.kind.value),
        ) as em,
    ):
        watch = em.watch(
            [server.add_task("Running 120s, Finished ok").task_id for _ in range(count)]
        )
        await anyio.sleep(20)
        stalled = server.faults.add(Fault("status", status=503))
        await anyio.sleep(1)
        before = server.requests.total
        await anyio.sleep(60)
        asked = server.requests.total - before
        server.faults.remove(stalled)
        await anyio.sleep(31)
        times = [r.time for r in server.requests if r.status == 200]
        report = await watch.wait()
    record_property("requests in 60 s", asked)
    down = notices.count(NoticeKind.UNREACHABLE.value)
    up = notices.count(NoticeKind.RECOVERED.value)
    record_property("notices of it", down + up)
    assert asked <= 60
    assert (down, up) == (1, 1)
    assert len(report.succeeded) == count
    first = next(time for time in times if time > 80)
    assert sum(first <= time < first + 0.2 for time in times) < 250


async def test_one_probe_however_many_come_while_it_hangs() -> None:
    """Watches that begin during an outage send nothing of their own."""
    async with SimulatedServer() as server, door(server, keep_alive=False) as em:
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(60)]
        watches = [em.watch(ids[0])]
        await anyio.sleep(5)
        await server.pause()
        await anyio.sleep(20)
        stall = server.faults.add(Fault("stall"))
        await server.resume()
        for task_id in ids[1:]:
            watches.append(em.watch(task_id))
            await anyio.sleep(1)
            assert em.statistics().in_flight <= 1
        server.faults.remove(stall)
        for watch in watches:
            assert not (await anext(watch)).is_final


async def test_watch_all_probes_on_when_the_other_watches_have_gone() -> None:
    """Whoever met the outage need not be there when it ends."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        other = server.add_task("Running 1h, Finished ok")
        watch, gone = em.watch_all(), em.watch("task-7", "task-8")
        await anext(watch)
        await server.pause()
        await anyio.sleep(10)
        watch.discard(other.task_id)
        await gone.aclose()
        await anyio.sleep(100)
        await server.resume()
        new = server.add_task("Running 1h, Finished ok")
        with anyio.fail_after(90):
            async for event in watch:
                if event.task_id == new.task_id:
                    break


async def test_a_server_that_is_down() -> None:
    """Refused connections are an outage; all watches go on afterwards."""
    notices: list[str] = []
    async with (
        SimulatedServer() as server,
        door(server, on_notice=lambda notice: notices.append(notice.kind.value)) as em,
    ):
        ids = [server.add_task("Running 300s, Finished ok").task_id for _ in range(50)]
        watch = em.watch(ids)
        await anyio.sleep(10)
        await server.pause()
        await anyio.sleep(60)
        assert em.statistics().errors < 60
        await server.resume()
        report = await watch.wait()
        assert report.succeeded == tuple(ids)
    assert notices == ["logged_on", "unreachable", "recovered", "logged_out"]


async def test_patience_ends_every_watch_with_the_transport_error() -> None:
    """Patience spent: TransportError with the last bad reply's text, and a report."""
    async with (
        SimulatedServer() as server,
        door(server, patience=20.0) as em,
    ):
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(20)]
        watch, other = em.watch(ids), em.watch_all()
        await anyio.sleep(10)
        await server.pause()
        with pytest.raises(TransportError, match=r"20 s.*patience") as caught:
            await watch.wait()
        assert watch.report.unfinished == tuple(ids)
        assert caught.value.__context__ is None
        with pytest.raises(TransportError):
            await other.wait()
        # A watch that comes now has patience too, and hangs no more than that.
        with pytest.raises(TransportError), anyio.fail_after(30):
            await em.watch(ids).wait()
        await server.resume()
        await anyio.sleep(1)
        late = em.watch(ids)
        with anyio.fail_after(60):
            assert not (await anext(late)).is_final


@pytest.mark.parametrize("mode", ["never", "always"])
@pytest.mark.parametrize("down", ["refuses", "busy", "stalls"])
async def test_an_outage_shorter_than_patience_ends_no_watch(
    mode: str, down: str
) -> None:
    """It is asked once more, whatever the pauses have grown to or it asked for."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, patience=50.0, request_timeout=5.0) as em,
    ):
        ids = [server.add_task("Running 80s, Finished ok").task_id for _ in range(20)]
        watches = [em.watch(ids), em.watch_all(timeout=300)]
        for watch in watches:
            await anext(watch)
        await anyio.sleep(5)
        if down == "refuses":
            await server.pause()
            await anyio.sleep(49)
            await server.resume()
        else:
            kind = "status" if down == "busy" else "stall"
            fault = Fault(kind, retry_after="600") if down == "busy" else Fault(kind)
            server.faults.add(fault)
            await anyio.sleep(49)
            server.faults.remove(fault)
        for watch in watches:
            assert len((await watch.wait()).succeeded) == 20


async def test_watch_all_alone_is_as_patient() -> None:
    """Also where the collection itself is the probe."""
    async with SimulatedServer() as server, door(server, patience=50.0) as em:
        await server.pause()
        watch = em.watch_all()
        await anyio.sleep(49)
        await server.resume()
        task = server.add_task("Running 1h, Finished ok")
        with anyio.fail_after(30):
            assert (await anext(watch)).task_id == task.task_id


async def test_a_task_readable_again_within_patience_is_not_lost() -> None:
    """A poll that hangs when patience ends is not the last one."""
    async with (
        SimulatedServer() as server,
        door(server, patience=20.0, coalesce="never", request_timeout=15.0) as em,
    ):
        bad = server.add_task("Running 200s, Finished ok").task_id
        good = server.add_task("Running 200s, Finished ok").task_id
        watch = em.watch(bad, good)
        await anyio.sleep(3)
        stall = server.faults.add(Fault("stall", path=f"{bad}$"))
        await anyio.sleep(33)
        server.faults.remove(stall)
        assert (await watch.wait()).succeeded == (bad, good)


@pytest.mark.parametrize("mode", ["never", "always"])
async def test_retry_after_is_honoured_in_an_outage(mode: str) -> None:
    """A server that asks for two minutes is left alone for two minutes."""
    async with SimulatedServer() as server, door(server, coalesce=mode) as em:
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(40)]
        watch = em.watch(ids)
        for _ in ids:
            await anext(watch)
        busy = server.faults.add(Fault("status", status=503, retry_after="120"))
        await anyio.sleep(10)
        assert em.statistics().errors >= 1
        before = server.requests.total
        # The failures that began the outage were asked for at different times.
        await anyio.sleep(105)
        assert server.requests.total == before
        await anyio.sleep(20)
        assert server.requests.total == before + 1
        server.faults.remove(busy)
        await anyio.sleep(130)
        assert server.requests.total > before + 20


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked", [3, 90])
async def test_retry_after_of_one_task_is_never_cut(status: int, asked: int) -> None:
    """Neither by jitter, nor by a newcomer, nor by a renewal."""
    pace = Pace(first=1, growth=1, longest=1, jitter=0.9)
    async with (
        SimulatedServer() as server,
        door(server, pace=pace, coalesce="never") as em,
    ):
        busy, other = (server.add_task("Running 1h, Finished ok") for _ in range(2))
        path = f"{busy.task_id}$"
        server.faults.add(
            Fault("status", status=status, retry_after=f"{asked}", path=path)
        )
        watches = [em.watch(busy.task_id, other.task_id)]
        for number in range(5 * asked):
            await anyio.sleep(1)
            if number % 7 == 0:
                watches.append(em.watch(busy.task_id))
            if number == asked:
                server.expire_logon_sessions(keep_tasks=True)
        times = [r.time for r in server.requests if r.path.endswith(busy.task_id)]
        # What a renewal asks for anew stands beside it.
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        short = [pause for pause in pauses if pause < asked]
        assert len(short) <= 1
        assert 3 <= len(times) <= 7
        assert em.statistics().errors > 0


async def test_retry_after_of_the_collection_is_honoured() -> None:
    """Whoever watches all does not ask again before."""
    em_path = "/tasks$"
    async with SimulatedServer() as server, door(server, coalesce="auto") as em:
        server.add_task("Running 1h, Finished ok")
        watch = em.watch_all()
        await anext(watch)
        busy = Fault("status", status=429, retry_after="100", path=em_path)
        server.faults.add(busy)
        await anyio.sleep(350)
        times = [r.time for r in server.requests if r.path.endswith("/tasks")]
        late = [time for time in times if time > times[0] + 2]
        assert 3 <= len(late) <= 5
        for sooner, later in itertools.pairwise(late):
            assert later - sooner >= 100


async def test_watch_all_alone_tells_of_an_outage() -> None:
    """The failures of the collection count where no task is asked for."""
    told: list[str] = []
    async with (
        SimulatedServer() as server,
        door(server, on_notice=lambda notice: told.append(notice.kind.value)) as em,
    ):
        watch = em.watch_all()
        await anyio.sleep(2)
        await server.pause()
        await anyio.sleep(3)
        assert told == ["logged_on", "unreachable"]
        await server.resume()
        await anyio.sleep(60)
        assert told == ["logged_on", "unreachable", "recovered"]
        assert watch.report.outcomes == {}


@pytest.mark.parametrize("kind", ["reset", "cut_body", "garbage", "status"])
@pytest.mark.parametrize("mode", ["never", "auto", "always"])
async def test_one_bad_collection_hides_no_new_task(mode: str, kind: str) -> None:
    """Nothing else shows what is new, so the pace of the watch goes on."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=Pace(first=1, longest=1)) as em,
    ):
        old = server.add_task("Running 1h, Finished ok").task_id
        watch = em.watch_all()
        assert (await anext(watch)).task_id == old
        for _ in range(5):
            fault = server.faults.add(Fault(kind, path=r"/tasks$", times=1))
            await anyio.sleep(3)
            assert fault.played == 1
            new = server.add_task("Running 1h, Finished ok").task_id
            with anyio.fail_after(3):
                assert (await anext(watch)).task_id == new


async def test_a_collection_that_goes_on_failing_is_asked_for_every_half_minute() -> (
    None
):
    """At first at the pace of the watch, then each time twice as late, 30 s at most."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce="never", pace=Pace(first=1, longest=1)) as em,
    ):
        server.add_task("Running 1h, Finished ok")
        watch = em.watch_all()
        await anext(watch)
        server.faults.add(Fault("status", status=500, path="/tasks$"))
        await anyio.sleep(125)
        times = [r.time for r in server.requests if r.path.endswith("/tasks")]
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert [round(one) for one in pauses[-7:]] == [2, 4, 8, 16, 30, 30, 30]


async def test_only_watches_and_wait_ride_out_an_outage() -> None:
    """Whatever is asked for once fails at once, also during an outage."""
    async with SimulatedServer() as server, door(server) as em:
        action = f"jobs/{server.jobs[0].job_id}?action=start"
        task_id = server.add_task("Running 90s, Finished ok").task_id
        watching, waiting = em.watch(task_id), asyncio.create_task(em.wait(task_id))
        await anyio.sleep(5)
        down = server.faults.add(Fault("status", status=503))
        await anyio.sleep(20)
        for call in (
            lambda: em.fetch(task_id),
            em.fetch_all,
            lambda: em.read("jobs"),
            lambda: em.submit(action),
            lambda: em.delete(task_id),
        ):
            before, began = server.requests.total, anyio.current_time()
            with pytest.raises(ServerBusyError):
                await call()
            assert server.requests.total == before + 1
            assert anyio.current_time() - began < 1
        server.faults.remove(down)
        assert (await waiting).succeeded
        assert (await watching.wait()).succeeded


@pytest.mark.parametrize("mode", ["never", "always"])
async def test_a_refused_certificate_ends_every_watch_at_once(mode: str) -> None:
    """In mid-watch it is no outage: no notice, no request, CertificateError."""
    # asyncio's server reports each handshake that a client refuses.
    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
    kinds: list[str] = []
    async with SimulatedServer(tls=True) as server:
        em = await door(
            server,
            coalesce=mode,
            on_notice=lambda notice: kinds.append(notice.kind.value),
        )
        ids = [server.add_task("Running 1h, Finished ok").task_id for _ in range(30)]
        watches = [em.watch(ids), em.watch(ids[:3])]
        if mode == "always":
            watches.append(em.watch_all())
        waiting = asyncio.create_task(em.wait(ids[0]))
        await anyio.sleep(5)
        await anyio.wait_all_tasks_blocked()
        asked = server.requests.total
        server.change_certificate(new_ca=True)
        began = anyio.current_time()
        for watch in watches:
            with pytest.raises(CertificateError):
                await watch.wait()
            assert watch.report.lost == watch.report.failed == ()
        with pytest.raises(CertificateError):
            await waiting
        assert server.requests.total == asked
        assert anyio.current_time() - began < 2
        assert kinds == ["logged_on"]
        await em.aclose()


@pytest.mark.parametrize("mode", ["never", "always"])
async def test_each_fact_is_told_once_not_once_a_poller(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_notice` and the log get each fact once under 300 watched tasks."""
    caplog.set_level(logging.INFO, "veeam_tasks")
    told: list[str] = []
    async with (
        SimulatedServer() as server,
        door(
            server,
            coalesce=mode,
            pace=Pace(first=4, longest=8),
            on_notice=lambda notice: told.append(
                f"{notice.kind} {len(notice.task_ids)}"
            ),
        ) as em,
    ):
        ids = [server.add_task("Running 120s, Finished ok").task_id for _ in range(300)]
        watches = [em.watch(ids) for _ in range(3)]
        await anyio.sleep(10)
        server.expire_logon_sessions(keep_tasks=True)
        await anyio.sleep(20)
        await server.pause()
        await anyio.sleep(60)
        await server.resume()
        for watch in watches:
            assert len((await watch.wait()).succeeded) == 300
    facts = [
        "logged_on 0",
        "renewed 300",
        "unreachable 300",
        "recovered 300",
        "logged_out 0",
    ]
    assert told == facts
    kinds = [getattr(one, "event", None) for one in caplog.records]
    logged = [f"{kind}" for kind in kinds if kind in set(NoticeKind)]
    assert logged == [fact.partition(" ")[0] for fact in facts]


@pytest.mark.parametrize("mode", ["never", "auto", "always"])
async def test_a_server_that_answers_85_of_100_polls_has_no_outage(mode: str) -> None:
    """Bad replies, evenly spread, are told to nobody as an outage."""
    notices: list[str] = []
    async with (
        SimulatedServer(seed=1) as server,
        door(
            server,
            coalesce=mode,
            on_notice=lambda notice: notices.append(notice.kind.value),
        ) as em,
    ):
        kinds = ["status", "html", "reset_after_headers", "garbage", "cut_body"]
        ids = [server.add_task("Running 100s, Finished ok").task_id for _ in range(50)]
        server.faults.add(Fault(kinds, share=0.15, seed=7, method="GET", path="/tasks"))
        report = await em.watch(ids).wait()
        assert report.succeeded == tuple(ids)
    assert notices == ["logged_on", "logged_out"]


async def test_watch_all_alone_rides_out_an_outage() -> None:
    """With nothing known yet, the collection itself is the probe."""
    async with SimulatedServer() as server, door(server) as em:
        server.faults.add(Fault("status", status=502, path="/tasks", times=6))
        task = server.add_task("Running 1h, Finished ok")
        watch = em.watch_all()
        with anyio.fail_after(600):
            assert (await anext(watch)).task_id == task.task_id


async def test_watch_all_goes_on_when_a_fetch_ended_the_outage() -> None:
    """A good reply to whomever ends the outage, and what is due is done."""
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("Running 1h, Finished ok")
        fault = server.faults.add(Fault("status", status=503, retry_after="500"))
        watch = em.watch_all()
        await anyio.sleep(200)
        server.faults.remove(fault)
        await em.fetch(task.task_id)
        with anyio.fail_after(60):
            assert (await anext(watch)).task_id == task.task_id
