"""Kept connections: none is used over which something came that nobody asked for."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
import trustme
from support.managers import STEADY
from support.raw_server import Answer, RawServer, Seen, pin_of, reply, serving

from veeam_tasks import SessionManager, TaskState, connect
from veeam_tasks._client.connect import Connecting
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import Secrets
from veeam_tasks._transport.transport import Transport
from veeam_tasks._transport.trust import Trust

NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
LOGON = reply(
    f"<LogonSession {NS}><SessionId>695a4d8a-4b0b-4b0b-8b0b-0a0b0c0d0e0f</SessionId>"
    "</LogonSession>".encode(),
    status="201 Created",
    headers=["X-RestSvcSessionId: Njk1YTRkOGEtNGIwYg=="],
)
DROPPED = reply(status="204 No Content")


def task(state: str, number: int = 7) -> bytes:
    """Return what is said of one task."""
    result = '<Result Success="true"/>' if state == "Finished" else ""
    return (
        f"<Task {NS}><TaskId>task-{number}</TaskId><State>{state}</State>"
        f"<Operation>StartJob</Operation>{result}</Task>"
    ).encode()


UNASKED = {
    "a whole reply": reply(task("Finished", 666)),
    "a reply about the task": reply(task("Finished")),
    "a 408": reply(status="408 Request Timeout"),
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "half a body": reply(task("Finished", 666))[:-20],
    "a line end": b"\r\n",
    "no HTTP": b"\x00\xff\xfe",
}

Call = Callable[[SessionManager], Awaitable[object]]
CALLS: dict[str, Call] = {
    "fetch": lambda em: em.fetch("task-7"),
    "fetch_all": lambda em: em.fetch_all(),
    "read": lambda em: em.read("jobs"),
    "wait": lambda em: em.wait("task-8"),
    "submit": lambda em: em.submit("jobs/1?action=start"),
    "submit with a body": lambda em: em.submit("jobs/1", "<Job/>", method="PUT"),
    "delete": lambda em: em.delete("task-7"),
}


@pytest.fixture(scope="module")
def leaf() -> trustme.LeafCert:
    """Return a server's certificate for loopback."""
    return trustme.CA().issue_cert("127.0.0.1")


def route(seen: Seen) -> Answer:
    """Answer as an Enterprise Manager does."""
    if "sessionMngr" in seen.target:
        return LOGON
    if seen.method == "DELETE":
        return DROPPED
    if seen.target.endswith("task-8"):
        return reply(task("Finished", 8))
    if seen.target.endswith("/tasks"):
        return reply(f"<Tasks {NS}>".encode() + task("Running") + b"</Tasks>")
    return reply(task("Running"))


def door(server: RawServer, leaf: trustme.LeafCert | None = None) -> Connecting:
    """Return a door to a raw server."""
    fingerprint = None if leaf is None else pin_of(leaf)
    return connect(
        server.url(),
        username="u",
        password="pass-word",
        keep_alive=False,
        fingerprint=fingerprint,
        pace=STEADY,
        coalesce="never",
    )


async def turn() -> None:
    """Let the loop read what lies in its sockets."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "in the kernel"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", CALLS)
async def test_an_unasked_reply_is_no_answer(
    name: str, *, is_tls: bool, is_seen: bool, leaf: trustme.LeafCert
) -> None:
    """A reply that nobody asked for, read by the loop or not, answers no call."""
    tls = serving(leaf) if is_tls else None
    async with (
        RawServer(route=route, tls=tls) as server,
        door(server, leaf if is_tls else None) as em,
    ):
        expected = await CALLS[name](em)
        used = server.connections
        server.say(UNASKED["a whole reply"])
        if is_seen:
            await turn()
        assert await CALLS[name](em) == expected
        assert server.connections == used + 1


@pytest.mark.parametrize("what", UNASKED)
@pytest.mark.parametrize("name", ["fetch", "submit"])
async def test_whatever_came_unasked(name: str, what: str) -> None:
    """Whatever came over an idle connection: that one is closed, another one used."""
    async with RawServer(route=route) as server, door(server) as em:
        expected = await CALLS[name](em)
        used = server.connections
        server.say(UNASKED[what])
        await turn()
        assert await CALLS[name](em) == expected
        assert server.connections == used + 1
        assert em.statistics().errors == 0


async def test_what_came_with_the_reply_is_no_answer_either() -> None:
    """A second reply right behind the one that was asked for: likewise."""

    def twice(seen: Seen) -> Answer:
        answer = route(seen)
        assert isinstance(answer, bytes)
        is_logon = "sessionMngr" in seen.target
        return answer if is_logon else answer + UNASKED["a whole reply"]

    async with RawServer(route=twice) as server, door(server) as em:
        for _ in range(3):
            assert (await em.fetch("task-7")).task_id == "task-7"
            assert (await em.submit("jobs/1?action=start")).task_id == "task-7"
        assert server.connections >= 6


@pytest.mark.virtual_time
async def test_an_unasked_reply_is_no_event() -> None:
    """A reply that came between two polls of a task says nothing of that task."""
    async with RawServer(route=route) as server, door(server) as em:
        watch = em.watch("task-7")
        assert (await anext(watch)).state is TaskState.RUNNING
        for _ in range(3):
            server.say(UNASKED["a reply about the task"])
            await anyio.sleep(3)
        assert watch.tasks["task-7"].state is TaskState.RUNNING
        assert watch.report.unfinished == ("task-7",)
        assert em.statistics().errors == 0


@pytest.mark.virtual_time
async def test_a_poll_asks_the_kernel_after_a_pause() -> None:
    """What the loop has not read yet of an idle connection answers no poll."""
    async with RawServer(reply(task("Running"))) as server:
        transport = Transport(
            base_url(server.url(), insecure=True), Trust(), secrets=Secrets()
        )
        await transport.open()
        url = transport.url("tasks/task-7")
        for _ in range(2):
            assert b"Running" in (await transport.poll(url, "token", 1000)).body
            await anyio.sleep(1)
            server.say(UNASKED["a reply about the task"])
        assert b"Running" in (await transport.poll(url, "token", 1000)).body
        await transport.aclose()
        assert server.connections == 3


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_connection_that_was_closed_meanwhile(
    name: str, *, is_tls: bool, leaf: trustme.LeafCert
) -> None:
    """The server closed all while the loop was busy: sent once, over a new one."""
    tls = serving(leaf) if is_tls else None
    async with (
        RawServer(route=route, tls=tls) as server,
        door(server, leaf if is_tls else None) as em,
    ):
        expected = await CALLS[name](em)
        used, sent = server.connections, len(server.seen)
        server.shut_sockets()
        assert await CALLS[name](em) == expected
        assert server.connections == used + 1
        assert len(server.seen) == sent + 1
        assert em.statistics().errors == 0


async def test_actions_share_a_connection_for_a_second() -> None:
    """A burst of actions needs one connection, which is closed after a short time."""
    async with RawServer(route=route) as server, door(server) as em:
        await em.fetch("task-7")
        before = server.open_connections
        for _ in range(10):
            await em.submit("jobs/1?action=start")
        assert server.open_connections == before + 1
        with anyio.fail_after(30):
            while server.open_connections > before:
                await server.one_gone()
        # Those of polls and reads are kept for longer.
        assert server.open_connections == before
        await em.submit("jobs/1?action=start")
        assert server.connections == before + 2
