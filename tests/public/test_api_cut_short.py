"""A watch that cannot go on delivers what it owes, then says why."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import attrs
import pytest
from support.managers import Wire, direct, door, targets

from veeam_tasks import (
    CertificateError,
    ClosedError,
    LogonError,
    SessionManager,
    TransportError,
    VeeamTasksError,
    Watch,
    WatchTimeoutError,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time


async def by_timeout(server: SimulatedServer, em: SessionManager) -> None:
    """Let the time of the watch run out."""
    await anyio.sleep(400)


async def by_logon(server: SimulatedServer, em: SessionManager) -> None:
    """Let a renewal be refused."""
    server.change_password("another-one")
    server.expire_logon_sessions()
    await anyio.sleep(100)


async def by_patience(server: SimulatedServer, em: SessionManager) -> None:
    """Let the server be down for longer than patience lasts."""
    await server.pause()
    await anyio.sleep(200)
    await server.resume()


async def by_certificate(server: SimulatedServer, em: SessionManager) -> None:
    """Let the server show a certificate of another CA."""
    # asyncio's server reports each handshake that a client refuses.
    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
    server.change_certificate(new_ca=True)
    await anyio.sleep(100)


async def by_close(server: SimulatedServer, em: SessionManager) -> None:
    """Close the manager."""
    await em.aclose()


Ending = Callable[[SimulatedServer, SessionManager], Awaitable[None]]
ENDINGS: list[tuple[Ending, type[VeeamTasksError]]] = [
    (by_timeout, WatchTimeoutError),
    (by_logon, LogonError),
    (by_patience, TransportError),
    (by_certificate, CertificateError),
    (by_close, ClosedError),
]
SAID = {
    WatchTimeoutError: "time ran out after 300 s>",
    LogonError: "the logon was refused>",
    TransportError: "the Enterprise Manager: no good reply for 60 s",
    CertificateError: "the server's certificate is not trusted>",
    ClosedError: "its manager was closed>",
}


def fit(wire: Wire, ending: Ending) -> Wire:
    """Return a way in which a certificate is shown, if it is to be refused."""
    return attrs.evolve(wire, tls=wire.tls or ending is by_certificate)


@pytest.mark.parametrize(("ending", "error"), ENDINGS)
async def test_owed_events_first_then_the_error(
    ending: Ending, error: type[VeeamTasksError], wire: Wire
) -> None:
    """Events already owed are delivered first; then each `anext` and `wait()` raises.

    Tasks without a final event are `unfinished`, never failed or lost; `report` stays
    readable.
    """
    wire = fit(wire, ending)
    async with wire.server() as server:
        done = server.add_task("Finished ok").task_id
        stuck = server.add_task("Running").task_id
        async with door(server, **wire.options(patience=60)) as em:
            watch = em.watch(done, stuck, timeout=300)
            await anyio.sleep(5)
            before = watch.report
            await ending(server, em)
            owed = [await anext(watch), await anext(watch)]
            assert {event.task_id for event in owed} == {done, stuck}
            texts = set()
            for attempt in (watch.__anext__, watch.wait, watch.__anext__):
                with pytest.raises(error) as caught:
                    await attempt()
                texts.add(str(caught.value))
                assert type(caught.value) is error
            assert len(texts) == 1
            if ending is not by_close:
                with pytest.raises(error):
                    watch.add("task-77")
            assert watch.report.succeeded == (done,)
            assert watch.report.unfinished == (stuck,)
            assert watch.report.failed == watch.report.lost == ()
            assert before.outcomes == watch.report.outcomes
            assert f"; {SAID[error]}" in repr(watch)


@pytest.mark.parametrize(("ending", "error"), ENDINGS)
async def test_waiting_reader_is_woken(
    ending: Ending, error: type[VeeamTasksError], wire: Wire
) -> None:
    """Whoever reads or waits at that moment is woken with the error."""
    wire = fit(wire, ending)
    async with wire.server() as server:
        stuck = server.add_task("Running").task_id
        async with door(server, **wire.options(patience=60)) as em:
            watch = em.watch(stuck, timeout=300)
            waits = [
                asyncio.create_task(watch.wait()),
                asyncio.create_task(em.wait(stuck, timeout=300)),
            ]
            await anyio.sleep(5)
            await ending(server, em)
            ended = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(one) for one in ended] == [error, error]
            assert ended[0] is not ended[1]


async def test_timeout_error_of_a_watch(wire: Wire) -> None:
    """`WatchTimeoutError` has the `.report` of that moment and is a TimeoutError."""
    async with wire.server() as server:
        done = server.add_task("Finished ok").task_id
        stuck = server.add_task("Running").task_id
        async with door(server, **wire.options()) as em:
            began = anyio.current_time()
            with pytest.raises(TimeoutError) as caught:
                await em.watch(done, stuck, timeout=20).wait()
            assert anyio.current_time() - began == pytest.approx(20, abs=0.1)
            assert isinstance(caught.value, WatchTimeoutError)
            assert caught.value.report.succeeded == (done,)
            assert caught.value.report.unfinished == (stuck,)
            assert em.statistics().watched == 0


async def test_a_finished_watch_does_not_time_out(wire: Wire) -> None:
    """Nothing is raised when all tasks had their final event before the timeout."""
    async with wire.server() as server:
        done = server.add_task("Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(done, timeout=20)
            await anyio.sleep(100)
            assert (await watch.wait()).succeeded == (done,)
            # Its time has run out by now: what is added is told so.
            watch.add(server.add_task("Running").task_id)
            with pytest.raises(WatchTimeoutError):
                await watch.wait()


async def test_timeout_error_says_what_went_wrong_last() -> None:
    """The first unfinished task whose last poll went wrong is named, with the reason.

    Not one that is well, or was before its last reply, or has ended.
    """
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        well, bad, recovered = (server.add_task("Running").task_id for _ in range(3))
        ids = well, bad, recovered
        server.faults.add(Fault("status", status=502, path=f"tasks/{bad}$"))
        server.faults.add(
            Fault("status", status=504, path=f"tasks/{recovered}$", times=3)
        )
        watch = em.watch(ids, timeout=60)
        for attempt in (watch.wait(), em.wait(bad, timeout=60)):
            with pytest.raises(WatchTimeoutError) as caught:
                await attempt
            said = str(caught.value)
            assert f"; the last poll of {bad} went wrong: GET {server.url}" in said
            assert "502" in said
            assert said.count("the last poll") == 1
        for attempt in (em.watch(well, recovered, timeout=5).wait(), em.wait(well, 5)):
            with pytest.raises(WatchTimeoutError, match=r"the operations go on$"):
                await attempt


async def test_timeout_zero_is_at_once(wire: Wire) -> None:
    """`timeout=0` ends a watch at once."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        with pytest.raises(WatchTimeoutError):
            await em.watch("task-1", timeout=0).wait()


@pytest.mark.parametrize("wrong", [-1, float("nan"), 10**400])
async def test_timeouts_out_of_range(wrong: float) -> None:
    """Below 0 or beyond any float is a ValueError before anything is watched."""
    async with SimulatedServer() as server, door(server) as em:
        for attempt in (em.watch, em.wait):
            with pytest.raises(ValueError, match="timeout"):
                await attempt("task-1", timeout=wrong)  # type: ignore[misc] # raises
        with pytest.raises(ValueError, match="timeout"):
            em.watch_all(timeout=wrong)


@pytest.mark.parametrize("wrong", ["10", True, [1]])
async def test_timeouts_of_other_types(wrong: float) -> None:
    """A timeout is a number of seconds or None."""
    async with SimulatedServer() as server, door(server) as em:
        with pytest.raises(TypeError, match="timeout"):
            em.watch("task-1", timeout=wrong)
        with pytest.raises(TypeError, match="pace"):
            em.watch("task-1", pace=5)  # type: ignore[arg-type] # the point
        endless = em.watch("task-1", timeout=float("inf"), pace=None)
        assert endless._subscription._timer is None


async def test_patience_is_for_ever_by_default(wire: Wire) -> None:
    """`patience=None`: watches ride out an outage however long it lasts."""
    async with wire.server(idle_expiry=10_000) as server:
        task = server.add_task("Running 60s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(task)
            await anext(watch)
            await server.pause()
            await anyio.sleep(5_000)
            await server.resume()
            assert (await watch.wait()).succeeded == (task,)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("status", status=503, message="Maintenance today"), "Maintenance today"),
        (Fault("status", status=500, message="Out of paper"), "500, 'Out of paper'"),
        (Fault("html"), "<html"),
        (Fault("reset"), "reset by peer"),
        (Fault("stall"), "no reply within 3 s"),
    ],
)
async def test_patience_error_tells_the_last_bad_reply(
    fault: Fault, said: str, wire: Wire
) -> None:
    """The `TransportError` holds whatever the last bad reply was, with its text."""
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        options = wire.options(patience=30, request_timeout=3)
        async with door(server, **options) as em:
            watch = em.watch(task)
            await anext(watch)
            server.faults.add(fault)
            began = anyio.current_time()
            with pytest.raises(TransportError) as caught:
                await watch.wait()
            assert type(caught.value) is TransportError
            assert said in str(caught.value)
            assert 29 < anyio.current_time() - began < 45


async def test_a_certificate_error_ends_it_at_once() -> None:
    """`CertificateError` at once: at the next poll, and not when patience is spent."""
    async with SimulatedServer(tls=True) as server, door(server) as em:
        watch = em.watch(server.add_task("Running").task_id)
        await anext(watch)
        # asyncio's server reports each handshake that a client refuses.
        asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
        server.change_certificate(new_ca=True)
        began = anyio.current_time()
        with pytest.raises(CertificateError):
            await anext(watch)
        assert anyio.current_time() - began < 3


async def test_closing_a_watch_wakes_its_reader(wire: Wire) -> None:
    """Closing a watch wakes its reader with `ClosedError`; another watch goes on."""
    async with wire.server() as server:
        task = server.add_task("Running 30s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            one, other = em.watch(task), em.watch(task)
            reader = asyncio.create_task(one.wait())
            await anyio.sleep(5)
            await one.aclose()
            with pytest.raises(ClosedError, match="the watch: it was closed"):
                await reader
            assert (await other.wait()).succeeded == (task,)


async def test_old_watches_stay_ended(wire: Wire) -> None:
    """Open again makes one new logon; old watches stay ended."""
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        em = direct(server, **wire.options())
        await em.open()
        old = em.watch(task)
        await anext(old)
        await em.aclose()
        await em.open()
        with pytest.raises(ClosedError):
            await anext(old)
        assert isinstance(em.watch(task), Watch)
        await em.aclose()
        assert len(server.logons) == 2
        assert targets(server, "DELETE")
        assert server.logon_sessions == []
