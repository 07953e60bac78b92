"""The simulated server as an owner of sockets, threads, certificates and records."""

import asyncio
import gc
import hashlib
import socket
import ssl
import threading
import urllib.error
import urllib.request
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from support.plain_client import Client, basic

from veeam_tasks.simulator import Account, Role, SimulatedServer, ThreadedServer

PENDING = "Running 1h, Finished"


async def test_it_starts_and_closes_by_hand_and_starts_again() -> None:
    """The port is kept; a second close does nothing."""
    server = SimulatedServer()
    with pytest.raises(RuntimeError, match="no URL before it is started"):
        _ = server.url
    assert repr(server).startswith("<SimulatedServer not started, not running")
    assert await server.start() is server
    url = server.url
    with pytest.raises(RuntimeError, match="is running"):
        await server.start()
    async with Client(url) as client:
        assert (await client.log_on()).status == 201
    await server.aclose()
    await server.aclose()
    with pytest.raises(OSError, match=r"[Cc]onnect"):
        await Client(url).get("/api/")
    await server.start()
    assert server.url == url
    await server.aclose()


async def test_several_run_at_once_and_a_taken_port_is_an_error() -> None:
    """Each has a port of its own."""
    async with SimulatedServer() as one, SimulatedServer() as two:
        assert one.url != two.url
        taken = SimulatedServer(port=int(one.url.rpartition(":")[2]))
        with pytest.raises(OSError, match="in use"):
            await taken.start()
        assert "not running" in repr(taken)


def test_left_open_it_warns() -> None:
    """A forgotten server is a ResourceWarning that names it."""
    loop = asyncio.new_event_loop()
    server = SimulatedServer()
    loop.run_until_complete(server.start())
    runtime = server._listener
    with pytest.warns(ResourceWarning, match="was left open"):
        del server
    loop.run_until_complete(runtime.stop())
    loop.close()


async def test_pause_refuses_and_resume_serves_on_the_same_port() -> None:
    """Open connections are cut; memory stays."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        assert server.connections.open == 1
        await server.pause()
        assert await client.read() == b""
        client.close()
        with pytest.raises(OSError, match=r"[Cc]onnect"):
            await client.get("/api/tasks")
        await server.resume()
        await server.resume()
        assert (await client.get("/api/tasks")).status == 200
        assert server.connections.total == 2
        assert server.connections.peak == 1


# Of a handshake that never ends uvloop leaves its own transport open.
@pytest.mark.parametrize(
    "tls", [False, pytest.param(True, marks=pytest.mark.asyncio_loop)]
)
@pytest.mark.parametrize("how", ["aclose", "pause"])
def test_a_connection_of_the_last_moment_is_closed_too(how: str, tls: bool) -> None:
    """However far the server has got with it: no socket is left to the collector."""
    clients = []
    gc.collect()  # what others left is not of this server

    async def connected_late(steps: int) -> None:
        async with SimulatedServer(tls=tls) as server:
            port = int(server.url.rpartition(":")[2])
            clients.append(socket.create_connection(("127.0.0.1", port)))
            for _ in range(steps):
                await asyncio.sleep(0)
            await getattr(server, how)()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for steps in range(6):
            asyncio.run(connected_late(steps))
            gc.collect()
    for client in clients:
        client.close()
    assert [str(one.message) for one in caught] == []


def test_connections_that_come_in_each_step_are_no_error() -> None:
    """The last of them is not taken by a server that has closed already."""
    troubles: list[object] = []

    async def connected_all_the_while() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, told: troubles.append(told))
        async with SimulatedServer() as server:
            address = "127.0.0.1", int(server.url.rpartition(":")[2])
            clients: list[socket.socket] = []

            def connect(left: int) -> None:
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(address)
                clients.append(client)
                if left:
                    loop.call_soon(connect, left - 1)

            connect(8)
            await server.pause()
            while len(clients) < 9:  # noqa: ASYNC110 - each step of the loop counts
                await asyncio.sleep(0)
            for client in clients:
                client.close()

    # Of a connection that it could not let in asyncio tells in its debug mode only.
    for _ in range(5):
        asyncio.run(connected_all_the_while(), debug=True)
        gc.collect()
    assert troubles == []


async def test_a_restart_empties_the_memory_and_counts_anew() -> None:
    """Tokens are void, tasks gone, and task-1 comes again for another task."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task(PENDING, operation="CloneJob")
        await client.log_on()
        server.restart()
        assert await client.read() == b""
        client.close()
        assert (await client.get("/api/tasks")).status == 401
        await client.log_on()
        assert (await client.get("/api/tasks/task-1")).status == 500
        assert server.add_task(PENDING).task_id == "task-1"
        got = await client.get("/api/tasks/task-1")
        assert got.text("Operation") == "StartJob"


async def test_a_restart_or_expiry_may_keep_the_tasks() -> None:
    """Then they wait for the next logon session."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task(PENDING)
        await client.log_on()
        server.restart(keep_tasks=True)
        client.close()
        await client.log_on()
        assert (await client.get("/api/tasks/task-1")).status == 200
        assert server.expire_logon_sessions(keep_tasks=True) == 1
        assert (await client.get("/api/tasks/task-1")).status == 401
        await client.log_on()
        assert (await client.get("/api/tasks/task-1")).status == 200
        server.expire_logon_sessions()
        await client.log_on()
        assert (await client.get("/api/tasks/task-1")).status == 500
        assert server.add_task(PENDING).task_id == "task-2"
        server.restart(reset_counter=False)
        assert server.add_task(PENDING).task_id == "task-3"


async def test_who_owns_a_task_that_a_test_adds() -> None:
    """The owner named, else the newest logon session, else the next; or all."""
    async with SimulatedServer() as server, Client(server.url) as client:

        async def known() -> list[str]:
            got = await client.get("/api/tasks")
            return [task[1].text or "" for task in got.xml]

        server.add_task(PENDING)
        await client.log_on()
        first = client.token
        assert await known() == ["task-1"]
        await client.log_on()
        server.add_task(PENDING)
        server.add_task(PENDING, owner=server.logon_sessions[0])
        server.add_task(PENDING, shared=True)
        assert await known() == ["task-2", "task-4"]
        client.token = first
        assert await known() == ["task-1", "task-3", "task-4"]
        assert server.session_scoped
        server.session_scoped = False
        server.add_task(PENDING)
        await client.log_on()
        assert await known() == ["task-4", "task-5"]


async def test_a_task_can_be_forgotten_wholly() -> None:
    """So that days of tasks that come and go hold no more than one hour of them."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task(PENDING)
        await client.log_on()
        server.add_task(PENDING, shared=True)
        for task_id in ("task-1", "task-2"):
            server.forget_task(task_id)
            assert (await client.get(f"/api/tasks/{task_id}")).status == 500
        assert server.tasks == []
        with pytest.raises(KeyError, match="the newest are: none"):
            server.forget_task("task-1")


async def test_everything_is_on_record() -> None:
    """Requests with their headers in order and case, bodies and statuses; logons."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on("admin", "wrong")
        await client.log_on()
        await client.post("/api/nope?a=1&b=x%20y", {"X-Odd-CASE": "1"}, b"hello")
        record = server.requests[-1]
        assert (record.method, record.path, record.query) == (
            "POST",
            "/api/nope",
            "a=1&b=x%20y",
        )
        assert record.parameters == {"a": "1", "b": "x y"}
        assert ("X-Odd-CASE", "1") in record.headers
        assert record.header("x-odd-case") == "1"
        assert record.header("absent") is None
        assert record.body == b"hello"
        assert (record.status, record.number, record.connection) == (404, 3, 1)
        assert [(one.username, one.accepted, one.reason) for one in server.logons] == [
            ("admin", False, "wrong password"),
            ("admin", True, ""),
        ]
        assert [one.status for one in server.requests[:2]] == [401, 201]
        assert repr(server.requests) == "<Records 3, 3 kept>"
        server.requests.clear()
        assert (len(server.requests), server.requests.total) == (0, 0)
        session_id = server.logon_sessions[0].session_id
        await client.get(f"/api/logonSessions/{session_id}")
        shown = f"{server.requests[0]!r} {server.logon_sessions!r} {server!r}"
        for secret in (session_id, client.token, "admin-secret"):
            assert secret is not None
            assert secret not in shown


async def test_only_the_newest_records_are_kept() -> None:
    """Days of polling do not fill the memory; the total goes on."""
    async with (
        SimulatedServer(keep_requests=3) as server,
        Client(server.url) as client,
    ):
        for _ in range(5):
            await client.get("/api/")
        assert [one.number for one in server.requests] == [3, 4, 5]
        assert server.requests.total == 5


async def test_a_changed_password_counts_for_the_next_logon() -> None:
    """Open logon sessions stay open; other accounts keep theirs."""
    accounts = {"op": Account("op-pw", role=Role.RESTORE_OPERATOR)}
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        await client.log_on()
        server.change_password("new-secret")
        assert (await client.get("/api/tasks")).status == 200
        assert (await client.log_on()).status == 401
        assert (await client.log_on("admin", server.password)).status == 201
        server.change_password("other", username="op")
        assert (await client.log_on("op", "other")).status == 201
        assert server.logon_sessions[-1].role is Role.RESTORE_OPERATOR
        with pytest.raises(KeyError):
            server.change_password("x", username="nobody")


async def test_tls_by_a_throw_away_ca() -> None:
    """ca_file makes it trusted, fingerprint is that of its own certificate."""
    async with SimulatedServer(tls=True) as server:
        context = ssl.create_default_context(cafile=server.ca_file)
        assert server.url.startswith("https://127.0.0.1:")
        async with Client(server.url, context) as client:
            assert (await client.log_on()).status == 201
            assert client._streams is not None
            der = client._streams[1].get_extra_info("ssl_object").getpeercert(True)
            assert hashlib.sha256(der).hexdigest() == server.fingerprint
    plain = SimulatedServer()
    for name in ("ca_file", "fingerprint"):
        with pytest.raises(RuntimeError, match="tls=True"):
            getattr(plain, name)


async def test_the_certificate_may_change_while_it_runs() -> None:
    """Of the same CA, of another one, or expired; open connections are cut."""
    async with SimulatedServer(tls=True) as server:
        before = server.fingerprint
        context = ssl.create_default_context(cafile=server.ca_file)
        async with Client(server.url, context) as client:
            await client.get("/api/")
            server.change_certificate()
            assert server.fingerprint != before
            assert await client.read() == b""
            client.close()
            assert (await client.get("/api/")).status == 200
            old = server.ca_file
            server.change_certificate(new_ca=True)
            assert server.ca_file != old
            client.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await client.get("/api/")
        context = ssl.create_default_context(cafile=server.ca_file)
        async with Client(server.url, context) as client:
            assert (await client.get("/api/")).status == 200
            server.change_certificate(expires=datetime.now(UTC) - timedelta(days=1))
            client.close()
            with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
                await client.get("/api/")


def test_without_trustme_tls_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra `simulator` is named."""
    monkeypatch.setitem(__import__("sys").modules, "trustme", None)
    with pytest.raises(ImportError, match=r'pip install "veeam-tasks\[simulator\]"'):
        SimulatedServer(tls=True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"version": "11"}, "known are '9.5u4', '12', '13'"),
        ({"speed": 0}, "speed must be above 0"),
        (
            {"accounts": {"x": Account("y", role="None")}, "version": ""},
            "not simulated",
        ),
    ],
)
def test_wrong_options_are_told(wrong: dict[str, object], said: str) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=said):
        SimulatedServer(**wrong)  # type: ignore[arg-type] # that is the point


def logged_on(server: ThreadedServer) -> dict[str, str]:
    """Log on by urllib; return the header with the token."""
    request = urllib.request.Request(
        f"{server.url}/api/sessionMngr/?v=latest",
        data=b"",
        headers={"Authorization": basic(server.username, server.password)},
        method="POST",
    )
    with urllib.request.urlopen(request) as reply:
        return {"X-RestSvcSessionId": reply.headers["X-RestSvcSessionId"]}


def read(server: ThreadedServer, path: str, headers: dict[str, str]) -> bytes:
    """GET by urllib."""
    request = urllib.request.Request(f"{server.url}{path}", headers=headers)
    with urllib.request.urlopen(request) as reply:
        body: bytes = reply.read()
        return body


def test_a_server_in_a_thread_serves_synchronous_code() -> None:
    """Controls and records work from the test's thread; nothing is left running."""
    before = threading.active_count()
    with ThreadedServer() as server:
        assert threading.active_count() == before + 1
        task = server.add_task(PENDING)
        headers = logged_on(server)
        assert b"<State>Running" in read(server, "/api/tasks/task-1", headers)
        task.finish()
        assert b"<State>Finished" in read(server, "/api/tasks/task-1", headers)
        server.pause()
        with pytest.raises(urllib.error.URLError):
            read(server, "/api/", {})
        server.resume()
        assert read(server, "/api/", {})
        server.drop_connections()
        server.restart()
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            read(server, "/api/tasks", headers)
        refused.value.close()
        with pytest.raises(RuntimeError, match="is running"):
            server.start()
        assert len(server.requests) == 5
    assert threading.active_count() == before
    server.close()
    with pytest.raises(RuntimeError, match="is not running"):
        server.pause()


def test_a_server_in_a_thread_that_cannot_listen_leaves_no_thread() -> None:
    """A taken port is told to the caller."""
    before = threading.active_count()
    with ThreadedServer() as server:
        taken = ThreadedServer(port=int(server.url.rpartition(":")[2]))
        with pytest.raises(OSError, match="in use"):
            taken.start()
        assert threading.active_count() == before + 1


async def test_many_tasks_are_served_quickly() -> None:
    """Ten thousand tasks: one collection, and any of them by itself."""
    async with SimulatedServer(seed=1) as server, Client(server.url) as client:
        server.add_tasks(10_000)
        await client.log_on()
        got = await client.get("/api/tasks")
        assert got.body.count(b"<TaskId>") == 10_000
        assert (await client.get("/api/tasks/task-10000")).status == 200
