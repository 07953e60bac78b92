"""The manager: opened once, closed while it is opened, counted before it is open."""

import asyncio

import anyio
import pytest
from doors import direct, door
from virtual import QUICK_BACKEND

from veeam_tasks import ClosedError, Statistics, adopt
from veeam_tasks.simulator import Fault, SimulatedServer


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on a clock that jumps."""
    return QUICK_BACKEND


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
            with pytest.raises(Exception, match="adopted token is dead"):
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
