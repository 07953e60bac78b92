"""The manager: opened once, closed while it is opened, counted before it is open."""

import asyncio

import anyio
import pytest
from support.managers import direct, door, targets

from veeam_tasks import (
    ClosedError,
    LogonError,
    ServerBusyError,
    Statistics,
    SubmitUncertainError,
    adopt,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)


async def test_before_it_is_open_it_has_done_nothing() -> None:
    """Counts and `repr` are there from the beginning."""
    async with SimulatedServer() as server:
        em = direct(server)
        assert em.statistics() == Statistics()
        assert repr(em).endswith(": not open>")
        await em.aclose()
        assert server.requests.total == 0


async def test_open_while_it_is_open_is_nothing() -> None:
    """One logon, and an adopted token is taken once."""
    async with SimulatedServer() as server, door(server) as em:
        await em.open()
        assert server.logons.total == 1
        token, session_id = em.token or "", em.session_id
        async with adopt(server.url, token, session_id=session_id) as other:
            await other.open()
            assert other.token == token
            await other.fetch_all()
        assert server.logons.total == 1


async def test_an_adopted_token_that_died_is_taken_again_at_open() -> None:
    """As `connect` logs on anew after a refusal, `adopt` asks once more."""
    async with SimulatedServer() as server, door(server) as em:
        token = em.token or ""
        async with adopt(server.url, token, session_id=em.session_id) as other:
            fault = server.faults.add(Fault("unauthorized", method="GET"))
            with pytest.raises(LogonError, match="adopted token is refused"):
                await other.fetch_all()
            assert other.token is None
            server.faults.remove(fault)
            await other.open()
            assert await other.fetch_all() == []


async def test_closed_while_it_is_opened() -> None:
    """Whoever opens is told; the logon that came of it is logged out."""
    async with SimulatedServer() as server:
        em = direct(server)
        server.faults.add(Fault("delay", path="sessionMngr", seconds=3))
        opening = asyncio.create_task(em.open())
        await anyio.sleep(1)
        await em.aclose()
        with pytest.raises(ClosedError, match="closed while it was opened"):
            await opening
        assert server.logons.total == 1
        assert server.logon_sessions == []
        assert server.connections.open == 0


def hosts() -> int:
    """Return how many host tasks there are."""
    return sum(one.get_name() == "veeam_tasks host" for one in asyncio.all_tasks())


async def test_several_open_at_once_while_it_is_closed() -> None:
    """They share one opening, which begins when the close has ended."""
    async with SimulatedServer() as server:
        em = await door(server)
        server.faults.add(Fault("delay", method="DELETE", seconds=2))
        closing = asyncio.create_task(em.aclose())
        await anyio.sleep(1)
        await asyncio.gather(*(em.open() for _ in range(4)))
        await closing
        assert hosts() == 1
        assert server.logons.total == 2
        assert len(server.logon_sessions) == 1
        assert await em.fetch_all() == []
        await em.aclose()
        assert hosts() == 0
        assert server.logon_sessions == []
        assert server.connections.open == 0


async def test_several_that_retry_a_logon_that_failed() -> None:
    """Each is told of the failure; those that try again share one opening."""
    async with SimulatedServer() as server:
        em = direct(server)
        server.faults.add(Fault("status", status=503, path="sessionMngr", times=1))

        async def persist() -> None:
            try:
                await em.open()
            except ServerBusyError:
                await em.open()

        await asyncio.gather(*(persist() for _ in range(4)))
        assert hosts() == 1
        assert server.logons.total <= 2
        await em.aclose()
        assert hosts() == 0
        assert server.logon_sessions == []
        assert server.connections.open == 0


async def test_one_of_two_that_open_is_cancelled() -> None:
    """The other is served, by the one logon."""
    async with SimulatedServer() as server:
        em = direct(server)
        server.faults.add(Fault("delay", path="sessionMngr", seconds=3))
        first = asyncio.create_task(em.open())
        await anyio.sleep(1)
        second = asyncio.create_task(em.open())
        await anyio.sleep(1)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        assert await second is em
        assert server.logons.total == 1
        assert await em.fetch_all() == []
        await em.aclose()
        assert server.logon_sessions == []


async def test_opened_anew_while_the_last_who_waited_gives_up() -> None:
    """What nobody waits for is closed first; whoever comes then is served."""
    async with SimulatedServer() as server:
        em = direct(server)
        server.faults.add(Fault("delay", path="sessionMngr", seconds=3, times=1))
        first = asyncio.create_task(em.open())
        await anyio.sleep(1)
        first.cancel()
        await asyncio.sleep(0)
        assert await em.open() is em
        assert hosts() == 1
        assert await em.fetch_all() == []
        await em.aclose()
        assert server.logon_sessions == []
        assert server.connections.open == 0


async def test_closed_before_a_second_opening_has_begun() -> None:
    """An opening that waits for a close is ended by the next close."""
    async with SimulatedServer() as server:
        em = await door(server)
        server.faults.add(Fault("delay", method="DELETE", seconds=2))
        closing = asyncio.create_task(em.aclose())
        await anyio.sleep(1)
        opening = asyncio.create_task(em.open())
        await anyio.sleep(0.1)
        await em.aclose()
        await closing
        with pytest.raises(ClosedError, match="closed while it was opened"):
            await opening
        assert hosts() == 0
        assert server.logons.total == 1
        assert server.connections.open == 0


@pytest.mark.parametrize("log_out", [True, False])
async def test_a_call_that_waited_does_not_go_out_under_the_next_logon_session(
    *, log_out: bool
) -> None:
    """Closed and opened again while calls wait for a slot: they end as closed."""
    async with SimulatedServer() as server:
        em = direct(server, max_in_flight=1)
        await em.open()
        server.faults.add(Fault("stall", path=r".*(jobs|tasks)/.*", times=2))
        calls = [em.submit("jobs/1?action=start"), em.submit("jobs/2?action=start")]
        calls += [em.fetch("task-1"), em.fetch("task-2")]
        waiting = [asyncio.ensure_future(call) for call in calls]
        await anyio.wait_all_tasks_blocked()
        await em.aclose(log_out=log_out)
        await em.open()
        await asyncio.wait(waiting)
        ends = [type(one.exception()) for one in waiting]
        assert ends == [SubmitUncertainError, ClosedError, ClosedError, ClosedError]
        sent = targets(server) + targets(server, "POST")
        assert not any("jobs/2" in path or "task-2" in path for path in sent)
        await em.aclose()
