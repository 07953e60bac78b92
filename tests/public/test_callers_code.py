"""Functions that a caller gives: whatever they raise harms nothing but themselves."""

import asyncio
import logging
from collections.abc import Callable

import anyio
import pytest
from support.managers import door

from veeam_tasks import Notice, NoticeKind, TransportError, connect
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)


def cancelled() -> str:
    """Ask a cancelled future for its result, which raises CancelledError."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future.result()


async def cancelled_later() -> str:
    """Wait for a future that somebody else cancels."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.cancel)
    return await future


class OddError(BaseException):
    """Is no Exception."""


def odd() -> str:
    """Raise what is no Exception."""
    raise OddError


def group() -> str:
    """Raise a group that is no Exception."""
    text = "all"
    raise BaseExceptionGroup(text, [OddError()])


@pytest.mark.parametrize("fail", [cancelled, odd, group])
async def test_what_on_notice_raises_stops_no_poller(
    fail: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """A watch goes on through an outage whatever class was raised, and it is logged."""
    told: list[NoticeKind] = []

    def on_notice(notice: Notice) -> None:
        told.append(notice.kind)
        fail()

    async with SimulatedServer() as server:
        task_id = server.add_task("Running 30s, Finished ok").task_id
        async with door(server, on_notice=on_notice, max_in_flight=1) as em:
            watch = em.watch(task_id)
            await anext(watch)
            await server.pause()
            await anyio.sleep(10)
            await server.resume()
            with anyio.fail_after(120):
                report = await watch.wait()
        assert report.succeeded == (task_id,)
    assert told == ["logged_on", "unreachable", "recovered", "logged_out"]
    logged = [one for one in caplog.records if "on_notice raised" in one.getMessage()]
    assert [one.name for one in logged] == ["veeam_tasks.manager"] * 4
    assert all(one.exc_info for one in logged)


class Failing(logging.Handler):
    """A handler of a log, or a filter of one, that raises."""

    def __init__(self, fail: Callable[[], str]) -> None:
        super().__init__()
        self.fail = fail
        self.raised = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Raise as a filter."""
        self.raised += 1
        self.fail()
        return True


@pytest.mark.parametrize("fail", [cancelled, odd, group, lambda: str(1 // 0)])
async def test_what_a_handler_of_the_log_raises_harms_nothing(
    fail: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Logon, outage, renewal and log-out go on; it is printed, as logging does."""
    handler, log = Failing(fail), logging.getLogger("veeam_tasks")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        async with SimulatedServer() as server:
            task_id = server.add_task("Running 30s, Finished ok").task_id
            async with door(server, max_in_flight=1) as em:
                watch = em.watch(task_id)
                await anext(watch)
                await server.pause()
                await anyio.sleep(10)
                await server.resume()
                server.expire_logon_sessions(keep_tasks=True)
                with anyio.fail_after(120):
                    assert (await watch.wait()).succeeded == (task_id,)
            assert server.logon_sessions == []
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    # logged on, Running, polls that failed, unreachable, recovered, renewed, Finished,
    # logged out
    assert handler.raised >= 8
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("password", "word"),
    [
        (cancelled, "CancelledError"),
        (cancelled_later, "CancelledError"),
        (odd, "OddError"),
        (group, "BaseExceptionGroup"),
    ],
)
async def test_what_the_password_callable_raises_is_an_error_of_the_call(
    password: Callable[[], str], word: str
) -> None:
    """It is named, whatever class it is, and the manager may be opened again."""
    given = [password]

    def ask() -> object:
        return given[0]()

    async with SimulatedServer() as server:
        em = connect(server.url, username="admin", password=ask)  # type: ignore[arg-type] # gives either
        with pytest.raises(TransportError, match=f"callable raised {word}"):
            await em
        given[0] = lambda: server.password
        async with em as manager:
            assert await manager.fetch_all() == []


async def test_a_renewal_whose_password_callable_is_cancelled_is_an_outage() -> None:
    """The watch rides it out until the callable gives a password again."""
    given: list[Callable[[], object]] = []

    def ask() -> object:
        return given[0]()

    async with SimulatedServer() as server:
        given.append(lambda: server.password)
        task_id = server.add_task("Running 60s, Finished ok").task_id
        async with connect(server.url, username="admin", password=ask) as em:  # type: ignore[arg-type] # gives either
            watch = em.watch(task_id)
            await anext(watch)
            given[0] = cancelled_later
            server.expire_logon_sessions(keep_tasks=True)
            await anyio.sleep(30)
            given[0] = lambda: server.password
            with anyio.fail_after(200):
                assert (await watch.wait()).succeeded == (task_id,)


async def test_a_password_callable_that_cannot_be_cancelled_holds_no_close() -> None:
    """The close takes no longer than its grace of five seconds."""
    end = asyncio.Event()

    async def stubborn() -> str:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    async with SimulatedServer() as server:
        em = connect(server.url, username="admin", password=stubborn)
        began = anyio.current_time()
        with anyio.move_on_after(1):
            await em
        assert anyio.current_time() - began <= 6.5
        end.set()
        await anyio.wait_all_tasks_blocked()
        assert server.requests.total == 0
