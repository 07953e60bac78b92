"""Time for which a loop or a process was held counts against no server, and nobody."""

import asyncio
import json

import anyio
import attrs
import pytest
from support.variables import MemoryStore
from support.virtual_time import BlockableLoop

import veeam_tasks as vt
from veeam_tasks.airflow._connection import Server
from veeam_tasks.airflow._managers import _until_answered
from veeam_tasks.airflow._shared_logon import Logon, SharedLogon
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(loop=BlockableLoop)

KEY = "veeam_em_token__em"
THEIRS = Logon(reference="theirs", token="their-token", session_id=None)


def shared_logon(simulated: SimulatedServer, **options: float) -> SharedLogon:
    """Return the shared logon of a connection to this server."""
    server = Server(
        conn_id="em",
        url=simulated.url,
        username="admin",
        password="admin-secret",
        **({"options": options} if options else {}),  # type: ignore[arg-type] # of a test
    )
    return SharedLogon(server, MemoryStore())


def put_ticket(store: MemoryStore, number: int) -> str:
    """Let another process wait for its turn; return its ticket."""
    key = f"veeam_em_queue__em__{number:08}__{int(store.now())}_other"
    store.values[key] = "waiting"
    return key


def block(seconds: float) -> None:
    """Hold the loop, as other code or a stopped process does."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, BlockableLoop)
    loop.block(seconds)


async def test_a_wait_for_others_goes_on_after_a_hold() -> None:
    """What they found meanwhile is taken."""
    async with SimulatedServer() as simulated:
        shared = shared_logon(simulated)
        store = shared.store
        assert isinstance(store, MemoryStore)
        put_ticket(store, 0)
        asking = asyncio.ensure_future(shared.current())
        await anyio.sleep(10)
        block(100)
        await anyio.sleep(10)
        store.values[KEY] = json.dumps(attrs.asdict(THEIRS))
        assert await asking == THEIRS
        assert not simulated.logons


async def test_a_ticket_that_is_too_old_after_a_hold_is_no_turn() -> None:
    """Others take it for a dead process's; so another is taken, behind theirs."""
    async with SimulatedServer() as simulated:
        shared = shared_logon(simulated)
        store = shared.store
        assert isinstance(store, MemoryStore)
        before = put_ticket(store, 0)
        asking = asyncio.ensure_future(shared.current())
        await anyio.sleep(10)
        del store.values[before]
        block(300)
        put_ticket(store, 9)
        await anyio.sleep(10)
        store.values[KEY] = json.dumps(attrs.asdict(THEIRS))
        assert await asking == THEIRS
        assert not simulated.logons


async def test_others_that_cannot_log_on_are_told_of_in_time() -> None:
    """A wait without an end is a TimeoutError, and the ticket goes with it."""
    async with SimulatedServer() as simulated:
        shared = shared_logon(simulated)
        store = shared.store
        assert isinstance(store, MemoryStore)
        other = put_ticket(store, 0)
        with pytest.raises(TimeoutError, match="others try to log on and cannot"):
            await shared.current()
        assert 70 < anyio.current_time() < 80
        assert store.values.keys() == {other}


async def test_a_logon_goes_on_after_a_hold() -> None:
    """Its reply lies in the socket all the while."""
    async with SimulatedServer() as simulated:
        simulated.faults.add(Fault("delay", seconds=5.0, times=1))
        asking = asyncio.ensure_future(shared_logon(simulated).current())
        await anyio.sleep(1)
        block(100)
        await asking
        assert len(simulated.logon_sessions) == 1


async def test_a_logon_without_an_answer_is_given_up() -> None:
    """Nobody who waits for it waits for ever."""
    async with SimulatedServer() as simulated:
        shared = shared_logon(simulated, request_timeout=500.0)
        simulated.faults.add(Fault("stall", times=1))
        with pytest.raises(TimeoutError, match="no answer to the logon in time"):
            await shared.current()
        assert anyio.current_time() < 70


async def test_patience_is_not_spent_by_a_hold() -> None:
    """The server is asked on when it goes on."""
    async with SimulatedServer() as simulated:
        await simulated.pause()
        asking = asyncio.ensure_future(
            _until_answered(shared_logon(simulated, patience=60.0), None)
        )
        await anyio.sleep(5)
        block(100)
        await anyio.sleep(20)
        await simulated.resume()
        await asking
        await simulated.pause()
        with pytest.raises(vt.TransportError):
            await _until_answered(shared_logon(simulated, patience=60.0), None)
