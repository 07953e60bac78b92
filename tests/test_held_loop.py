"""The event loop is let go while long replies are parsed and while rooms are loaded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from raw_server import RawServer, Seen, reply

from veeam_tasks import SessionManager, connect

NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
LOGON = reply(
    f"<LogonSession {NS}><SessionId>695f4bc1-8a48</SessionId></LogonSession>".encode(),
    status="201 Created",
    headers=["X-RestSvcSessionId: Njk1ZjRiYzEtOGE0OA=="],
)
XML_SESSIONS = (
    f"<BackupJobSessions {NS}>"
    + "".join(
        f'<BackupJobSession Name="Job {number}" Href="http://h/api/x/{number}">'
        f"<JobName>Job {number}</JobName><State>Stopped</State></BackupJobSession>"
        for number in range(20_000)
    )
    + "</BackupJobSessions>"
).encode()
JSON_SESSIONS = (
    '{"Sessions":['
    + ",".join(
        f'{{"Name":"Job {number}","State":"Stopped","Result":"Success","Links":[]}}'
        for number in range(60_000)
    )
    + "]}"
).encode()
LINK = '<Link Rel="Up" Href="x"/>'
LONG_TASK = (
    f"<Task {NS}><TaskId>task-7</TaskId><State>Running</State>"
    f"<Operation>StartJob</Operation><Links>{LINK * 40_000}</Links></Task>"
).encode()

Call = Callable[[SessionManager], Awaitable[object]]


async def share_of_longest_hold(work: Awaitable[object]) -> float:
    """Return which share of the time that work takes it holds the loop at once."""
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = loop.time()
        while True:
            await asyncio.sleep(0)
            now = loop.time()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    began = loop.time()
    try:
        await work
        took = loop.time() - began
        # Once more, to be told of what the last step has held.
        await asyncio.sleep(0)
        return longest / took
    finally:
        ticking.cancel()


@pytest.mark.parametrize(
    ("body", "call"),
    [
        (XML_SESSIONS, lambda em: em.read("backupSessions?format=Entity")),
        (JSON_SESSIONS, lambda em: em.read("backupSessions?format=Entity")),
        (LONG_TASK, lambda em: em.fetch("task-7")),
        (LONG_TASK, lambda em: em.submit("jobs/1?action=start")),
    ],
    ids=["read XML", "read JSON", "fetch", "submit"],
)
async def test_a_long_reply_is_parsed_beside_the_loop(body: bytes, call: Call) -> None:
    """A body of a megabyte and more holds the loop for a small share of its time."""

    def route(seen: Seen) -> bytes:
        return LOGON if "sessionMngr" in seen.target else reply(body)

    async with (
        RawServer(route=route) as server,
        connect(
            server.url(),
            username="u",
            password="pass-word",
            keep_alive=False,
            max_reply_bytes=16 << 20,
        ) as em,
    ):
        assert await share_of_longest_hold(call(em)) < 0.4
