"""Faults of the simulated server, each as it arrives on the wire."""

import asyncio
import ssl
import zlib
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import brotli
import pytest
from support.plain_client import JSON, NAMESPACE, XML, Client

from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer, ThreadedServer

TASK = "/api/tasks/task-1"
PENDING = "Running 1h, Finished"
JOB = "/api/jobs/78c3919c-54d7-43fe-b047-485d3566f11f?action=start"


async def ready(server: SimulatedServer, client: Client, fault: Fault) -> Fault:
    """Log on with two tasks there; then let the fault begin."""
    server.add_task(PENDING)
    server.add_task("Running 1h, Finished", operation="CloneJob")
    await client.log_on()
    return server.faults.add(fault)


async def read_into(came: bytearray, client: Client) -> None:
    """Read byte by byte, to the end."""
    while data := await client.read(1):
        came += data


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go round until something is true."""
    while not condition():
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", ["reset", "reset_in_headers", "reset_after_headers"])
@pytest.mark.parametrize("tls", [False, True])
async def test_resets(kind: str, tls: bool) -> None:
    """TCP ends by a reset, before, in or after the headers; the next request works."""
    async with SimulatedServer(tls=tls) as server:
        context = ssl.create_default_context(cafile=server.ca_file) if tls else None
        async with Client(server.url, context) as client:
            await ready(server, client, Fault(kind, times=1, path="tasks"))
            await client.send("GET", TASK)
            came = bytearray()
            with pytest.raises(ConnectionResetError):
                await read_into(came, client)
            assert (came == b"") is (kind == "reset")
            assert came.endswith(b"\r\n\r\n") is (kind == "reset_after_headers")
            assert server.requests[-1].fault == kind
            assert server.requests[-1].status == (
                200 if kind == "reset_after_headers" else 0
            )
            client.close()
            assert (await client.get(TASK)).status == 200


@pytest.mark.parametrize(
    ("kind", "rest"), [("drop", b""), ("cut_body", None), ("garbage", None)]
)
async def test_replies_that_end_early(kind: str, rest: bytes | None) -> None:
    """Nothing, half a body, or noise; then the end of the connection."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault(kind, seed=1))
        await client.send("GET", TASK)
        came = await client.read()
        if rest is not None:
            assert came == rest
        elif kind == "garbage":
            assert len(came) == 512
            assert not came.startswith(b"HTTP")
        else:
            head, _, body = came.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split()[0])
            assert 0 < len(body) < length


@pytest.mark.parametrize("tls", [False, True])
async def test_a_body_without_length_that_is_cut(tls: bool) -> None:
    """Under TLS the end comes without notice, which only a careful client sees."""
    async with SimulatedServer(tls=tls) as server:
        context = ssl.create_default_context(cafile=server.ca_file) if tls else None
        async with Client(server.url, context) as client:
            await ready(server, client, Fault("cut_close"))
            await client.send("GET", TASK)
            got = await client.head()
            assert got.header("Content-Length") is None
            assert 0 < len(await client.read()) < 400


async def test_a_stalled_reply_ends_with_the_client_or_the_server() -> None:
    """It never comes; closing the server does not wait for it."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("stall", method="GET"))
        await client.send("GET", TASK)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.read(1)
        client.close()
        await client.send("GET", TASK)
        await until(lambda: server.requests.total == 3)
        await server.aclose()
        assert await client.read() == b""


@pytest.mark.virtual_time
async def test_a_delayed_reply_is_overtaken() -> None:
    """It says what was true when it was asked for."""
    async with (
        SimulatedServer() as server,
        Client(server.url) as client,
        Client(server.url) as other,
    ):
        await ready(server, client, Fault("delay", times=1, seconds=10))
        other.token = client.token
        await client.send("GET", TASK)
        await anyio.sleep(1)
        server.task("task-1").finish()
        assert (await other.get(TASK)).text("State") == "Finished"
        got = await client.head()
        assert b"<State>Running" in await client.read(
            int(got.header("Content-Length") or 0)
        )
        assert server.requests.total == 3


async def test_an_endless_body() -> None:
    """Chunk after chunk, for as long as somebody reads."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("endless_body"))
        await client.send("GET", TASK)
        assert (await client.head()).header("Transfer-Encoding") == "chunked"
        read = 0
        while read < 2_000_000:
            read += len(await client.read(65_536))
        client.close()
        await until(lambda: not server.connections.open)


@pytest.mark.virtual_time
async def test_a_slow_drip() -> None:
    """A byte every so many seconds, the whole of it in the end."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("slow_drip", seconds=2))
        before = anyio.current_time()
        got = await client.get(TASK)
        assert got.text("State") == "Running"
        assert anyio.current_time() - before >= 2 * (len(got.body) - 1)


@pytest.mark.parametrize("amount", [0, 40, -40])
async def test_a_wrong_length(amount: int) -> None:
    """Too long, so that the end comes too early, or too short."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("wrong_length", amount=amount))
        await client.send("GET", TASK)
        got = await client.head()
        body = await client.read()
        assert int(got.header("Content-Length") or 0) - len(body) == (amount or 16)


async def test_wrong_charset_and_type() -> None:
    """The header says something else than the bytes are."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("wrong_charset", times=1))
        got = await client.get(TASK)
        assert got.header("Content-Type") == "application/xml; charset=utf-16"
        assert b"<State>Running" in got.body
        server.faults.add(Fault("wrong_type", content_type="image/png"))
        assert (await client.get(TASK)).header("Content-Type") == "image/png"


async def test_bombs() -> None:
    """Small on the wire; they unpack to what was said, and begin as a task."""
    size = 3 << 20
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("gzip_bomb", times=1, amount=size))
        got = await client.get(TASK)
        assert got.header("Content-Encoding") == "gzip"
        assert len(got.body) < 50_000
        unpacked = zlib.decompress(got.body, wbits=31)
        assert size <= len(unpacked) < size + 1000
        assert unpacked.startswith(b"<Task xmlns=")
        server.faults.add(Fault("brotli_bomb", amount=size))
        got = await client.get(TASK)
        assert got.header("Content-Encoding") == "br"
        assert len(got.body) < 50_000
        assert brotli.decompress(got.body) == unpacked


@pytest.mark.parametrize("headers", [XML, JSON])
async def test_bodies_that_are_deep_wide_or_declare_entities(
    headers: dict[str, str],
) -> None:
    """They look like what was asked for, and cost much to read."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("entity_bomb", times=1))
        bomb = await client.get(TASK, headers)
        assert bomb.body.startswith(b"<!DOCTYPE Task [<!ENTITY e0")
        server.faults.add(Fault("deep_body", times=1))
        deep = await client.get(TASK, headers)
        assert deep.body.count(b"Task") >= 100_000
        server.faults.add(Fault("wide_body"))
        wide = await client.get(TASK, headers)
        assert wide.body.count(b"a199999") == 1


async def test_what_may_come_before_a_document() -> None:
    """A byte order mark, which servers of this kind send, or blanks."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("byte_order_mark", times=1))
        assert (await client.get(TASK)).body.startswith(b"\xef\xbb\xbf<?xml")
        server.faults.add(Fault("blanks"))
        assert (await client.get(TASK)).body.startswith(b"\r\n \t<?xml")


async def test_pages_nothing_and_noise_with_200() -> None:
    """A sign-in page, an empty body, random bytes, chunks that are no chunks."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("html", times=1))
        page = await client.get(TASK)
        assert page.status == 200
        assert page.body.startswith(b"<!DOCTYPE html>")
        server.faults.add(Fault("empty", times=1))
        empty = await client.get(TASK)
        assert (empty.status, empty.body) == (200, b"")
        assert empty.header("Content-Type") == "application/xml; charset=utf-8"
        server.faults.add(Fault("garbage_body", times=1, seed=3))
        noise = await client.get(TASK)
        server.faults.add(Fault("garbage_body", times=1, seed=3))
        assert (await client.get(TASK)).body == noise.body
        server.faults.add(Fault("chunked_nonsense"))
        await client.send("GET", TASK)
        assert (await client.head()).header("Transfer-Encoding") == "chunked"
        assert (await client.read()).startswith(b"zz\r\n")


@pytest.mark.parametrize("status", [500, 502, 503, 418])
@pytest.mark.parametrize("body", ["error", "html", "empty"])
async def test_statuses(status: int, body: str) -> None:
    """Any status, with a body of the server's, of a proxy, or none."""
    async with SimulatedServer() as server, Client(server.url) as client:
        fault = Fault("status", status=status, body=body, retry_after="7")  # type: ignore[arg-type] # mypy sees str
        await ready(server, client, fault)
        got = await client.get(TASK, JSON)
        assert got.status == status
        assert got.header("Retry-After") == "7"
        assert server.requests[-1].status == status
        if body == "error":
            assert got.json["StatusCode"] == status
        else:
            assert (got.body == b"") is (body == "empty")


async def test_refusals_redirects_and_echoes() -> None:
    """401 and 403 in the server's words; 302 elsewhere; 500 full of secrets."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("unauthorized", times=1))
        got = await client.get(TASK)
        assert got.status == 401
        assert got.header("WWW-Authenticate") == "Basic Realm=RestSvc"
        assert got.xml.get("Message") == "Authentication token has expired"
        server.faults.add(Fault("forbidden", times=1))
        assert (await client.get(TASK)).xml.get("Message") == "Access denied"
        server.faults.add(Fault("redirect", times=1, location="http://x/y"))
        got = await client.get(TASK)
        assert (got.status, got.header("Location")) == (302, "http://x/y")
        server.faults.add(Fault("echo_secrets", times=1))
        got = await client.get(TASK, {"Cookie": "a=hidden-crumb"})
        assert got.status == 500
        for secret in (client.token, "hidden-crumb"):
            assert secret is not None
            assert secret in (got.xml.get("Message") or "")
        server.faults.add(Fault("status", message="Custom <words>"))
        assert (await client.get(TASK)).xml.get("Message") == "Custom <words>"


async def test_a_logon_reply_without_its_token() -> None:
    """As from another service under the same path."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.faults.add(Fault("no_token", path="sessionMngr"))
        got = await client.log_on()
        assert got.status == 201
        assert client.token is None
        assert got.header("Set-Cookie") is None


async def test_tasks_that_look_wrong() -> None:
    """A state too early, another task, twice, in another order, not there."""
    async with SimulatedServer(seed=5) as server, Client(server.url) as client:
        await ready(server, client, Fault("backwards", times=2))
        server.task("task-1").finish()
        assert (await client.get(TASK)).text("State") == "Running"
        listed = await client.get("/api/tasks")
        assert b"Finished" not in listed.body
        assert (await client.get(TASK)).text("State") == "Finished"
        server.faults.add(Fault("other_task", times=1))
        assert (await client.get(TASK)).text("TaskId") == "task-2"
        server.faults.add(Fault("duplicate", times=2))
        assert (await client.get("/api/tasks")).names.count("Task") == 4
        assert (await client.get(TASK)).text("TaskId") == "task-1"
        server.faults.add(Fault("vanish", times=2))
        assert (await client.get(TASK)).status == 500
        assert (await client.get("/api/tasks")).names == ["Tasks"]
        assert (await client.get(TASK)).status == 200
        server.add_tasks(20)
        straight = (await client.get("/api/tasks")).body
        server.faults.add(Fault("shuffle"))
        shuffled = (await client.get("/api/tasks")).body
        assert sorted(straight) == sorted(shuffled)
        assert straight != shuffled


@pytest.mark.virtual_time
async def test_backwards_follows_the_script() -> None:
    """The step before the present one; in the first, the first."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task("Queued 1s, Running 1s, Finished")
        await client.log_on()
        server.faults.add(Fault("backwards"))
        seen = []
        for _ in range(3):
            seen.append((await client.get(TASK)).text("State"))
            await anyio.sleep(1)
        assert seen == ["Queued", "Queued", "Running"]


async def test_rules_choose_their_requests() -> None:
    """By method, path, number and share; the first rule that fires counts."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("forbidden", method="delete"))
        fourth = server.faults.add(
            Fault("status", path=r"task-1$", after=1, every=2, times=2, status=503)
        )
        seen = [(await client.get(TASK)).status for _ in range(8)]
        assert seen == [200, 200, 503, 200, 503, 200, 200, 200]
        assert (fourth.matched, fourth.played) == (8, 2)
        assert (await client.get("/api/tasks/task-2")).status == 200
        assert (await client.ask("DELETE", TASK)).status == 403
        assert repr(server.faults) == "<Faults 2 rules, played 3 times>"
        assert len(server.faults) == 2
        assert fourth in list(server.faults)
        server.faults.remove(fourth)
        with pytest.raises(ValueError, match="not in force"):
            server.faults.remove(fourth)
        server.faults.clear()
        share = server.faults.add(Fault(("empty", "html"), share=0.15, seed=1))
        for _ in range(200):
            await client.get(TASK)
        assert 15 <= share.played <= 45
        kinds = {record.fault for record in server.requests}
        assert {None, "empty", "html"} <= kinds


@pytest.mark.parametrize(
    ("kind", "carried_out", "tasks"),
    [
        ("reset", None, 2),
        ("reset", True, 3),
        ("status", None, 2),
        ("status", True, 3),
        ("cut_body", None, 3),
        ("cut_body", False, 2),
    ],
)
async def test_whether_an_action_was_carried_out(
    kind: str, carried_out: bool | None, tasks: int
) -> None:
    """Without an answer a client cannot tell; the rule decides."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault(kind, carried_out=carried_out))
        await client.send("POST", JOB, {}, b"")
        if kind == "status":
            assert (await client.head()).status == 500
        elif kind == "reset":
            with pytest.raises(ConnectionResetError):
                await client.read()
        else:
            await client.read()
        assert len(server.tasks) == tasks


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kinds": "nonsense"}, "'nonsense' is no kind of fault; known: backwards,"),
        ({"kinds": ()}, "at least one kind"),
        ({"kinds": "reset", "share": 2}, "share is a number from 0 to 1"),
        ({"kinds": "reset", "share": 0.1, "every": 2}, "exclude each other"),
        ({"kinds": "reset", "every": 0}, "every is 1 or more"),
        ({"kinds": "status", "body": "x"}, "'body' must be in"),
    ],
)
def test_a_wrong_rule_is_told(wrong: dict[str, object], said: str) -> None:
    """Before it can be put in force."""
    with pytest.raises(ValueError, match=said):
        Fault(**wrong)  # type: ignore[arg-type] # that is the point


def test_every_kind_is_described_once() -> None:
    """The table in the docstring names all kinds."""
    assert FaultKind.__doc__ is not None
    for kind in FaultKind:
        assert FaultKind.__doc__.count(f"``{kind}``") == 1, kind


@pytest.mark.parametrize("kind", [*FaultKind])
def test_no_fault_upsets_the_server(
    kind: FaultKind, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the client does about it, the server logs no error and goes on."""
    amount = 1 << 20 if "bomb" in kind else 0

    async def talk(server: ThreadedServer) -> None:
        async with Client(server.url) as client:
            await client.log_on()
            server.faults.add(Fault(kind, times=1, seconds=0.01, amount=amount))
            await client.send("GET", TASK)
            try:
                async with asyncio.timeout(0.05):
                    await client.read(100)
            except (TimeoutError, ConnectionResetError):
                client.close()
            client.close()
            assert (await client.get(TASK)).status == 200

    with ThreadedServer() as server:
        server.add_task(PENDING)
        asyncio.run(talk(server))
    assert [record.message for record in caplog.records if record.levelno > 30] == []


SESSION_FAULTS = "Working 5s, Stopped warning"


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", ["backwards", "vanish", "other_task"])
async def test_faults_of_tasks_act_on_single_sessions_as_well(kind: str) -> None:
    """A job session goes back, is unknown, or is another than the one asked for."""
    async with SimulatedServer(seed=1) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], SESSION_FAULTS)
        other = server.add_session(server.jobs[2], SESSION_FAULTS)
        one = session.task_sessions[0]
        await anyio.sleep(6)
        for path in (session.path, one.path):
            server.faults.add(Fault(kind, path=path, times=1))
            got = await client.get(f"/api/{path}?format=Entity")
            again = await client.get(f"/api/{path}?format=Entity")
            uids = {found.uid for found in (session, one)}
            assert again.xml.get("UID") in uids
            if kind == "backwards":
                assert got.text("State") in {"Working", "InProgress"}
                assert again.text("State") in {"Stopped", "Completed"}
                assert got.text("EndTimeUTC") is None
            elif kind == "vanish":
                assert got.status == 404
            else:
                assert got.xml.get("UID") not in uids
        assert other.state == "Stopped"


@pytest.mark.parametrize(
    ("kind", "count"),
    [("vanish", 0), ("duplicate", 6), ("shuffle", 3), ("backwards", 3)],
)
async def test_faults_of_tasks_act_on_collections_and_queries_of_sessions(
    kind: str, count: int
) -> None:
    """Empty, twice, in another order, or as they were before."""
    async with SimulatedServer(seed=1) as server, Client(server.url) as client:
        await client.log_on()
        job = server.jobs[1]
        for _ in range(3):
            server.add_session(job, "Working 1s, Stopped", started=-60)
        for path in (
            "backupSessions?format=Entity",
            f"jobs/{job.job_id}/backupSessions?format=Entity",
            "query?type=BackupJobSession&format=Entities",
        ):
            server.faults.add(Fault(kind, times=1))
            got = await client.get(f"/api/{path}")
            states = [
                one.findtext(f"{NAMESPACE}State")
                for one in got.xml.iter(f"{NAMESPACE}BackupJobSession")
            ]
            state = "Working" if kind == "backwards" else "Stopped"
            assert states == [state] * count


async def test_seconds_to_wait_may_be_a_number() -> None:
    """Whoever thinks of seconds and not of a header's text is understood."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await ready(server, client, Fault("status", status=503, retry_after=7))
        assert (await client.get(TASK)).header("Retry-After") == "7"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"retry_after": 7.5}, {"status": "503"}, {"times": "2"}, {"after": None}),
        *({"every": "3"}, {"seconds": "5"}, {"amount": 1.5}, {"location": None}),
        *({"method": 7}, {"message": 7}, {"charset": None}, {"content_type": 7}),
    ],
)
def test_what_a_fault_cannot_play_is_told_where_it_is_written(
    wrong: dict[str, Any],
) -> None:
    """Played, it would break the server, whose client sees a closed connection."""
    [name] = wrong
    with pytest.raises(TypeError, match=name):
        Fault("status", **wrong)
