"""One logon session for all processes of a connection, over Variables in memory."""

import json

import anyio
import attrs
import pytest
from support.variables import MemoryStore

import veeam_tasks as vt
from veeam_tasks.airflow._connection import Server
from veeam_tasks.airflow._shared_logon import (
    REFUSAL_SECONDS,
    Logon,
    LogonRefusedError,
    SharedLogon,
    _Queue,
)
from veeam_tasks.simulator import SimulatedServer

KEY = "veeam_em_token__em"


def server_of(simulated: SimulatedServer, password: str = "admin-secret") -> Server:
    """Return what a connection to this server is read as."""
    return Server(conn_id="em", url=simulated.url, username="admin", password=password)


async def ask_all(
    server: Server, store: MemoryStore, count: int, *, dead: str | None = None
) -> list[Logon | Exception]:
    """Let that many processes ask at once; return what each was told."""
    found: list[Logon | Exception] = []

    async def ask() -> None:
        try:
            found.append(await SharedLogon(server, store).current(dead=dead))
        except LogonRefusedError as error:
            found.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(ask)
    return found


async def test_a_hundred_processes_that_start_at_once_log_on_once() -> None:
    """All get the one logon session; it is left open, and no ticket is left."""
    store = MemoryStore()
    async with SimulatedServer() as simulated:
        found = await ask_all(server_of(simulated), store, 100)
        assert len(set(map(str, found))) == 1
        assert len(simulated.logons) == len(simulated.logon_sessions) == 1
    assert store.values.keys() == {KEY}
    value = json.loads(store.values[KEY])
    assert value.keys() == {"reference", "token", "session_id"}
    assert {value["token"], value["session_id"]} <= store.hidden
    assert value["reference"] not in value["token"]


async def test_a_dead_token_is_replaced_once_by_all_who_met_it() -> None:
    """Whoever comes late takes what the first one made."""
    store = MemoryStore()
    async with SimulatedServer() as simulated:
        server = server_of(simulated)
        dead = await SharedLogon(server, store).current()
        simulated.expire_logon_sessions()
        found = await ask_all(server, store, 50, dead=dead.reference)
        assert len(set(map(str, found))) == 1
        assert found[0] != dead
        assert found[0] == await SharedLogon(server, store).current()
        assert len(simulated.logons) == 2


async def test_a_refused_password_is_tried_once_by_all() -> None:
    """The account is not locked; a corrected password is tried at once."""
    store = MemoryStore()
    async with SimulatedServer() as simulated:
        found = await ask_all(server_of(simulated, "wrong-one"), store, 20)
        assert {type(one) for one in found} == {LogonRefusedError}
        assert sum("not asked again" in str(one) for one in found) == 19
        assert [logon.accepted for logon in simulated.logons] == [False]
        assert "wrong-one" not in str(store.values)
        await SharedLogon(server_of(simulated), store).current()
        assert [logon.accepted for logon in simulated.logons] == [False, True]


async def test_a_refused_password_is_tried_again_after_an_hour() -> None:
    """It may have been an account that was locked, and is no longer."""
    store = MemoryStore(time=0.0)
    async with SimulatedServer() as simulated:
        server = server_of(simulated, "wrong-one")
        for store.time in (0.0, REFUSAL_SECONDS, REFUSAL_SECONDS + 1.0):
            with pytest.raises(LogonRefusedError):
                await SharedLogon(server, store).current()
        assert len(simulated.logons) == 2


@pytest.mark.parametrize("left", ["choosing__100_dead", "00000001__100_dead"])
async def test_a_process_that_died_in_the_queue_holds_up_nobody_for_long(
    left: str,
) -> None:
    """Its ticket is as old as no living process's, so it is taken away."""
    store = MemoryStore({f"veeam_em_queue__em__{left}": "waiting"})
    async with SimulatedServer() as simulated:
        await SharedLogon(server_of(simulated), store).current()
    assert store.values.keys() == {KEY}


@pytest.mark.parametrize("number", ["choosing", "00000000"])
async def test_nobody_logs_on_while_another_is_about_to(number: str) -> None:
    """Who is ahead, or may get to be, is waited for, and its logon session taken."""
    store = MemoryStore()
    other = f"veeam_em_queue__em__{number}__{int(store.now())}_other"
    store.values[other] = "waiting"
    theirs = Logon(reference="theirs", token="their-token", session_id=None)
    async with SimulatedServer() as simulated, anyio.create_task_group() as tasks:
        found: list[Logon] = []

        async def ask() -> None:
            found.append(await SharedLogon(server_of(simulated), store).current())

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        store.values[KEY] = json.dumps(attrs.asdict(theirs))
        del store.values[other]
        while not found:
            await anyio.wait_all_tasks_blocked()
            await anyio.lowlevel.checkpoint()
        assert found == [theirs]
        assert not simulated.logons


async def test_a_server_that_is_down_leaves_nothing_behind() -> None:
    """The error is the network's, and the next one in the queue may try."""
    store = MemoryStore()
    async with SimulatedServer() as simulated:
        server = server_of(simulated)
    with pytest.raises(vt.TransportError):
        await SharedLogon(server, store).current()
    assert store.values == {}


def refusal(**changed: object) -> str:
    """Return a remembered refusal, some of it changed."""
    now = MemoryStore(time=0.0).now()
    right = {"salt": "ab", "digest": "cd", "at": now, "message": "no"}
    return json.dumps(right | changed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[1]", "{", "[" * 5000, '{"token": "t"}'),
        '{"reference": "r", "token": null, "session_id": null}',
        '{"reference": "r", "token": "", "session_id": null}',
        '{"reference": "r", "token": "a\\r\\nb", "session_id": null}',
        '{"reference": ["r"], "token": "t", "session_id": null}',
        '{"reference": "r", "token": "t", "session_id": 7}',
        *(refusal(salt="zz"), refusal(salt=1), refusal(digest="é")),
        *(refusal(at="soon"), refusal(at=True), refusal(at=None), refusal(at=1e30)),
    ],
)
async def test_a_variable_that_a_person_wrote_is_replaced(text: str) -> None:
    """What is not ours tells no logon session, and no refusal."""
    store = MemoryStore({KEY: text}, time=0.0)
    async with SimulatedServer() as simulated:
        logon = await SharedLogon(server_of(simulated), store).current()
    assert json.loads(store.values[KEY]) == attrs.asdict(logon)


@pytest.mark.parametrize(
    "left",
    [
        *("x", "", "abc__123_x", "00000001__", "00000001__soon_x", "choosing__x"),
        # Of connections em__x, em__00000001 and em__choosing.
        "x__00000001__{now}_dead",
        "00000001__00000001__{now}_dead",
        "choosing__choosing__{now}_dead",
    ],
)
async def test_what_is_no_ticket_of_ours_is_left_alone(left: str) -> None:
    """A person may have made it; or another connection, with a longer name."""
    store = MemoryStore(time=0.0)
    key = f"veeam_em_queue__em__{left.format(now=int(store.now()))}"
    old = "veeam_em_queue__em__x__00000001__100_dead"
    store.values |= {key: "waiting", old: "waiting"}
    async with SimulatedServer() as simulated:
        await SharedLogon(server_of(simulated), store).current()
    assert store.values.keys() == {KEY, key, old}


@pytest.mark.parametrize("number", ["99999999", "00000000"])
async def test_a_ticket_from_the_future_holds_up_nobody(number: str) -> None:
    """No clock is that far ahead; and numbers are compared as numbers."""
    key = f"veeam_em_queue__em__{number}__999999999999_x"
    store = MemoryStore({key: "waiting"})
    async with SimulatedServer() as simulated:
        await SharedLogon(server_of(simulated), store).current()
    assert store.values.keys() == {KEY}


async def test_tickets_go_on_behind_the_highest_number() -> None:
    """It has eight digits, the next one nine: as text it would come first."""
    store = MemoryStore(time=0.0)
    other = f"veeam_em_queue__em__99999999__{int(store.now())}_other"
    store.values[other] = "waiting"
    queue = _Queue("veeam_em_queue__em__", store)
    async with queue.ticket() as ticket:
        assert not await queue.is_first(ticket)
        del store.values[other]
        assert await queue.is_first(ticket)


async def test_the_end_logs_out_and_forgets_the_token() -> None:
    """Only the one that all use now; another's is left alone."""
    store = MemoryStore()
    async with SimulatedServer() as simulated:
        shared = SharedLogon(server_of(simulated), store)
        logon = await shared.current()
        assert not await shared.end("another")
        assert len(simulated.logon_sessions) == 1
        assert await shared.end(logon.reference)
        assert not simulated.logon_sessions
    assert store.values == {}
