"""The host task: what runs while a manager is open, and its orderly end."""

import asyncio
import gc
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Never

import anyio
import attrs
import looptime
import pytest
from support.managers import direct, door, targets

from veeam_tasks import ClosedError, SessionManager, VeeamTasksError
from veeam_tasks._engine.records import DueItem
from veeam_tasks._protocol.messages import Reply, Request
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._transport.transport import Transport
from veeam_tasks.simulator import Fault, SimulatedServer, ThreadedServer

pytestmark = pytest.mark.virtual_time(debug=False)


async def test_a_crash_reaches_every_reader(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error in a poller ends every watch, logs out, and closes."""
    async with SimulatedServer() as server:
        em = await door(server)
        task_id = server.add_task("Running 1h, Finished ok").task_id
        watch = em.watch(task_id)
        await anext(watch)
        host = em._runtime
        assert host is not None

        class Crashing(deque[DueItem]):
            def popleft(self) -> DueItem:
                raise KeyError(host)

        host.engine.queue.ready = Crashing()
        with pytest.raises(ClosedError, match="KeyError"), anyio.fail_after(60):
            await watch.wait()
        await anyio.sleep(1)
        assert server.logon_sessions == []
        with pytest.raises(ClosedError):
            em.watch(task_id)
        assert any(record.exc_info for record in caplog.records)
        # And it may be opened again.
        async with em:
            assert em.token
        await em.aclose()


async def test_keep_alive_over_days() -> None:
    """Nothing is sent but one cheap GET each five minutes; one logon for days."""
    async with SimulatedServer() as server, door(server):
        await anyio.sleep(2 * 24 * 3600)
        assert server.logons.total == 1
        gets = targets(server)
        assert 570 <= len(gets) <= 577
        assert {path.partition("/")[0] for path in gets} == {"logonSessions"}


async def test_no_keep_alive() -> None:
    """`keep_alive=False` sends nothing, and the next call renews."""
    async with SimulatedServer() as server, door(server, keep_alive=False) as em:
        await em.fetch_all()
        await anyio.sleep(3600)
        assert server.logons.total == 1
        await em.fetch_all()
        assert server.logons.total == 2


async def test_keep_alive_renews_a_session_that_ended_in_sleep() -> None:
    """A laptop that slept wakes to an expired logon session: it is renewed."""
    async with SimulatedServer() as server, door(server) as em:
        await em.fetch_all()
        server.expire_logon_sessions()
        await anyio.sleep(700)
        assert server.logons.total == 2
        assert em.statistics().renewals == 1


async def test_keep_alive_survives_an_outage_and_a_refusal() -> None:
    """It goes on after failures; after a refusal it stays silent."""
    async with SimulatedServer() as server, door(server) as em:
        await em.fetch_all()
        server.faults.add(Fault("status", status=503, path="logonSessions", times=1))
        await anyio.sleep(1300)
        assert server.requests[-1].status == 200
        server.change_password("another")
        server.expire_logon_sessions()
        await anyio.sleep(3600)
        assert [record.accepted for record in server.logons] == [True, False]


async def test_aclose_from_many_asyncio_tasks_at_once() -> None:
    """Closing twice, from any asyncio task, in mid-renewal: one log-out."""
    async with SimulatedServer() as server:
        em = await door(server)
        watch = em.watch(server.add_task("Running 1h, Finished ok").task_id)
        await anext(watch)
        server.faults.add(Fault("delay", path="sessionMngr", seconds=2))
        server.expire_logon_sessions(keep_tasks=True)
        await anyio.sleep(2.5)
        await asyncio.gather(*(asyncio.create_task(em.aclose()) for _ in range(5)))
        assert server.logon_sessions == []
        assert server.connections.open == 0
        with pytest.raises(ClosedError):
            await anext(watch)


async def test_a_logon_that_never_ends_does_not_outlive_the_close() -> None:
    """A close waits five seconds for a logon under way, then gives it up."""
    async with SimulatedServer() as server:
        server.faults.add(Fault("stall", path="sessionMngr"))
        opening = asyncio.create_task(direct(server).open())
        await anyio.sleep(1)
        opening.cancel()
        with anyio.fail_after(6), pytest.raises(asyncio.CancelledError):
            await opening
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not any("veeam_tasks" in name for name in names)


async def test_a_host_that_was_cancelled_before_its_first_step_is_closed() -> None:
    """A loop that shuts down may cancel it so early that it never runs."""
    async with SimulatedServer() as server:
        em = direct(server)
        host = em._lifetime.make_runtime(asyncio.get_running_loop())
        await host.start()
        assert host._task is not None
        host._task.cancel()
        await host.aclose(log_out=True)
        assert host._task.cancelled()
        assert host.transport._http is None


async def test_a_host_that_is_cancelled_in_mid_log_out_leaves_nothing() -> None:
    """The log-out goes once more, then the connections are closed."""
    async with SimulatedServer() as server:
        em = await door(server)
        host = em._runtime
        assert host is not None
        server.faults.add(Fault("stall", method="DELETE", times=1))
        closing = asyncio.create_task(em.aclose())
        await anyio.sleep(1)
        assert host._task is not None
        host._task.cancel()
        await closing
        assert host._task.cancelled()
        assert server.logon_sessions == []
        assert server.connections.open == 0


async def test_log_out_goes_again_over_a_new_connection() -> None:
    """A kept connection that died unnoticed does not leave the logon session open."""
    async with SimulatedServer() as server:
        em = await door(server)
        server.faults.add(Fault("reset", method="DELETE", times=1))
        await em.aclose()
        assert server.logon_sessions == []


async def test_a_forgotten_empty_watch_harms_nothing() -> None:
    """Its weak reference was never stored anywhere."""
    async with SimulatedServer() as server, door(server) as em:
        em.watch([])
        gc.collect()
        assert em.statistics().watched == 0


async def test_a_closed_watch_all_stops_asking() -> None:
    """Also while its object is still held."""
    async with SimulatedServer() as server, door(server, keep_alive=False) as em:
        server.add_task("Running 1h, Finished ok")
        async with em.watch_all() as watch:
            await anext(watch)
        await anyio.sleep(60)
        before = server.requests.total
        await anyio.sleep(600)
        assert server.requests.total == before
        assert watch.report.unfinished


async def test_errors_of_the_face_are_ours() -> None:
    """A watch on a manager closed in mid-poll ends with one of ours."""
    async with SimulatedServer() as server:
        em = await door(server)
        watch = em.watch(server.add_task("Running 1h, Finished ok").task_id)
        await em.aclose(log_out=False)
        assert em.token
        with pytest.raises(VeeamTasksError):
            await watch.wait()
        assert len(server.logon_sessions) == 1


@attrs.define(eq=False)
class Struck:
    """A transport in whose first step a signal handler raises."""

    inner: Transport
    stroke: type[BaseException]
    is_struck: bool = False

    async def send(
        self, request: Request, token: str | None = None, *, uncertain: bool = False
    ) -> Reply:
        """Raise the first time, then send."""
        if not self.is_struck:
            self.is_struck = True
            raise self.stroke
        return await self.inner.send(request, token, uncertain=uncertain)


class StruckLogon(asyncio.Future[None]):
    """A logon under way, in the wait for which a signal handler raises."""

    logon: LogonSession
    stroke: type[BaseException]

    def add_done_callback(self, *_: object, **__: object) -> None:
        """Raise; the logon ends meanwhile."""
        self.logon._pending = None
        raise self.stroke


@pytest.mark.parametrize("stroke", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", ["settle", "log out"])
async def test_a_ctrl_c_in_a_step_of_the_log_out_waits(
    stroke: type[BaseException], at: str
) -> None:
    """Log-out and close come first, whichever step a signal handler raised in."""
    async with SimulatedServer() as server:
        em = await door(server)
        host = em._runtime
        assert host is not None
        if at == "log out":
            host.session.transport = Struck(host.transport, stroke)
        else:
            owned = StruckLogon()
            owned.logon, owned.stroke = host.session, stroke
            host.session._pending = owned  # type: ignore[assignment] # a future does
        with pytest.raises(stroke):
            await host._leave()
        assert server.logon_sessions == []
        assert host.transport._http is None
        await em.aclose()
        assert server.connections.open == 0


def test_a_warning_that_is_an_error_does_not_prevent_the_log_out() -> None:
    """With warnings as errors the end of the loop logs out all the same."""
    code = (
        "import asyncio, sys, veeam_tasks as vt\n"
        "async def main():\n"
        "    em = await vt.connect(sys.argv[1], username='admin',"
        " password='admin-secret')\n"
        "    sys.kept = em\n"
        "asyncio.run(main())\n"
    )
    with ThreadedServer() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, server.url],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "was left open" in done.stderr
        assert "Unclosed" not in done.stderr
        assert server.logon_sessions == []


class Unheard(asyncio.Future[None]):
    """A future that is done and wakes nobody: an interruption struck as it would."""

    def add_done_callback(self, *_: object, **__: object) -> None:
        """Forget whom to wake."""

    def cancel(self, msg: object = None) -> bool:
        """Be done, which is too late to be cancelled."""
        return False


async def unheard(*_: object, **__: object) -> Never:
    """Never go on, not even by a cancellation."""
    await Unheard()
    raise AssertionError


def ours() -> set[str]:
    """Return the names of our asyncio tasks in this loop."""
    return {
        task.get_name()
        for task in asyncio.all_tasks()
        if "veeam_tasks" in task.get_name()
    }


async def test_a_worker_that_nothing_wakes_does_not_hold_a_close() -> None:
    """It is given up after two seconds, and the log-out comes all the same."""
    async with SimulatedServer() as server:
        em = await door(server)
        watch = em.watch(server.add_task("Running").task_id)
        await anext(watch)
        assert em._runtime is not None
        em._runtime._start_worker(unheard())
        await anyio.sleep(1)
        began = anyio.current_time()
        await em.aclose()
        assert anyio.current_time() - began == pytest.approx(2, abs=0.1)
        assert server.logon_sessions == []
        assert server.connections.open == 0
        assert ours() == set()


@attrs.frozen
class Deaf:
    """A transport whose replies wake nobody."""

    send = staticmethod(unheard)


async def test_a_log_out_that_nothing_wakes_is_given_up() -> None:
    """A close ends after five seconds, and a little, and leaves nothing open."""
    async with SimulatedServer() as server:
        em = await door(server)
        assert em._runtime is not None
        em._runtime.session.transport = Deaf()
        began = anyio.current_time()
        await em.aclose()
        assert anyio.current_time() - began < 7
        assert server.connections.open == 0
        assert ours() == set()
        async with em:
            assert em.token


@attrs.define(eq=False)
class NeverHeard:
    """A signal that wakes nobody."""

    inner: asyncio.Event
    wait = staticmethod(unheard)

    def __getattr__(self, name: str) -> object:
        """Be set and asked as the signal is."""
        return getattr(self.inner, name)


async def test_a_host_that_nothing_wakes_is_ended_by_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A close ends all the same, says so in the log, logs out, leaves nothing open."""
    async with SimulatedServer() as server:
        em = direct(server)
        em._lifetime.runtime = host = em._lifetime.make_runtime(
            asyncio.get_running_loop()
        )
        host._stop = NeverHeard(host._stop)  # type: ignore[assignment] # as if struck
        await host.start()
        await host.session.open()
        began = anyio.current_time()
        await em.aclose()
        assert anyio.current_time() - began == pytest.approx(10, abs=0.5)
        assert "did not end within 10 s" in caplog.text
        assert server.logons.total == 1
        assert server.logon_sessions == []
        assert server.connections.open == 0
        assert ours() == set()
        async with em:
            assert em.token


Virtual = looptime.make_event_loop_class(asyncio.SelectorEventLoop)


class StruckLoop(Virtual):  # type: ignore[misc, valid-type] # made at run time
    """A loop in which Ctrl-C strikes as one of our tasks is about to be woken."""

    wakeups = 0
    at = 0
    steps = 0

    def call_soon(
        self, callback: Callable[..., object], *args: Any, **kwargs: Any
    ) -> Any:
        """Schedule a callback, or be struck."""
        task = getattr(callback, "__self__", None)
        is_wakeup = isinstance(task, asyncio.Task) and args
        if self.at and is_wakeup and "veeam_tasks" in task.get_name():
            self.wakeups += 1
            if self.wakeups == self.at:
                raise KeyboardInterrupt
        return super().call_soon(callback, *args, **kwargs)

    def _run_once(self) -> None:
        self.steps += 1
        assert self.steps < 20_000, "it spins"
        super()._run_once()


async def closed_by_a_ctrl_c(at: int, kept: list[SessionManager]) -> None:
    """Watch, and close; be struck at one of the times when a task of ours is woken."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StruckLoop)
    async with (
        SimulatedServer() as server,
        door(server, max_in_flight=2, coalesce="never") as em,
    ):
        kept.append(em)
        watch = em.watch(server.add_task("Running").task_id)
        await anext(watch)
        loop.at = at
        await anyio.sleep(2)


# A connection that the server was about to take is nobody's any more.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_ctrl_c_wherever_it_strikes_leaves_a_program_that_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`asyncio.run` ends by itself and soon, whichever task was never woken."""
    # A log that is kept would keep the frames of each stroke, and their sockets.
    caplog.set_level(logging.CRITICAL, "veeam_tasks")
    for at in count(1):
        kept: list[SessionManager] = []
        loop = StruckLoop()
        with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:
            with suppress(KeyboardInterrupt):
                runner.run(closed_by_a_ctrl_c(at, kept))
            began = loop.time()
            runner.close()
        assert loop.time() - began < 20
        assert repr(kept[0]).endswith("not open>")
        is_over = loop.wakeups < at
        # Whatever was left open is collected here, and not in some later test.
        del loop, runner, kept
        gc.collect()
        if is_over:
            break
    assert at > 8


async def test_a_close_that_is_struck_while_a_logon_runs_waits_for_it_again() -> None:
    """The logon session that comes of it is logged out all the same."""
    async with SimulatedServer() as server:
        em = await door(server)
        await em.fetch_all()
        server.expire_logon_sessions(keep_tasks=True)
        server.faults.add(Fault("delay", path="sessionMngr", seconds=3))
        renewing = asyncio.create_task(em.fetch_all())
        await anyio.sleep(1)
        closing = asyncio.create_task(em.aclose())
        await anyio.sleep(1)
        names = {"veeam_tasks host", "veeam_tasks log-out"}
        for task in asyncio.all_tasks():
            if task.get_name() in names:
                task.cancel()
        await asyncio.wait([closing, renewing])
        renewing.exception()
        assert server.logons.total == 2
        assert server.logon_sessions == []
        assert server.connections.open == 0


async def test_nothing_is_kept_alive_in_an_outage() -> None:
    """Who asks to be left alone for ten minutes is, by the keep-alive too."""
    async with SimulatedServer() as server, door(server) as em:
        watch = em.watch(server.add_task("Running").task_id)
        await anext(watch)
        await server.pause()
        await anyio.sleep(10)
        server.faults.add(Fault("status", status=503, retry_after="600"))
        await server.resume()
        await anyio.sleep(560)
        assert [path for path in targets(server) if "logonSessions" in path] == []
