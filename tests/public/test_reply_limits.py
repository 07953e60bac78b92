"""`max_reply_bytes` holds for every reply, whatever it answers."""

import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest
from support.raw_server import Answer, RawServer, Seen, reply

from veeam_tasks import (
    MalformedReplyError,
    SessionManager,
    SubmitUncertainError,
    connect,
)
from veeam_tasks._client.connect import log_out
from veeam_tasks._client.runtime import KEEP_ALIVE_SECONDS

pytestmark = pytest.mark.virtual_time

SESSION_ID = "695f4bc1-8a48-4d5b-a3a5-9f0a6a7c2d11"
TOKEN = "Njk1ZjRiYzEtOGE0OC00ZDViLWEzYTUtOWYwYTZhN2MyZDEx"
LIMIT = 2000
NS = 'xmlns="http://www.veeam.com/ent/v1.0"'


def logon(padding: int = 0) -> bytes:
    """Return the reply to a logon, so much longer than it has to be."""
    body = (
        f'<LogonSession {NS} Type="LogonSession"><UserName>u{"x" * padding}'
        f"</UserName><SessionId>{SESSION_ID}</SessionId></LogonSession>"
    )
    header = f"X-RestSvcSessionId: {TOKEN}"
    return reply(body.encode(), status="201 Created", headers=(header,))


def task(padding: int = 0) -> bytes:
    """Return the reply about a task, so much longer than it has to be."""
    body = (
        f'<Task {NS} Type="Task" Href="http://h:9399/api/tasks/task-7">'
        f"<TaskId>task-7</TaskId><State>Running</State><Operation>{'x' * padding}"
        "</Operation></Task>"
    )
    return reply(body.encode(), status="202 Accepted")


def answers(padding: int) -> Callable[[Seen], Answer]:
    """Return a route whose replies are that much longer, but for the logon's."""

    def route(seen: Seen) -> Answer:
        if "sessionMngr" in seen.target:
            return logon()
        if "logonSessions" in seen.target:
            return reply(b" " * padding)
        return task(padding)

    return route


def door(server: RawServer, limit: int = LIMIT) -> SessionManager:
    """Return a manager that takes replies up to a length."""
    return SessionManager(
        server.url(), username="u", password="p", max_reply_bytes=limit
    )


CALLS: dict[str, Callable[[SessionManager], Awaitable[object]]] = {
    "fetch": lambda em: em.fetch("task-7"),
    "fetch_all": lambda em: em.fetch_all(),
    "read": lambda em: em.read("jobs"),
    "submit": lambda em: em.submit("jobs/1?action=start"),
    "submit PUT": lambda em: em.submit("jobs/1", "<Job/>", method="PUT"),
    "delete": lambda em: em.delete("task-7"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call(name: str) -> None:
    """A longer reply to a call is refused, and the error names the limit."""
    async with RawServer(route=answers(3000)) as server, door(server) as em:
        acts = name.startswith(("submit", "delete"))
        expected = SubmitUncertainError if acts else MalformedReplyError
        with pytest.raises(expected, match=f"longer than {LIMIT} bytes") as caught:
            await CALLS[name](em)
        assert ("may have been carried out" in str(caught.value)) is acts


@pytest.mark.parametrize("name", ["fetch", "submit", "delete"])
async def test_a_higher_limit(name: str) -> None:
    """A limit above the default lets longer replies in, those to actions too."""
    higher = 1 << 21
    route = answers(higher - 2000)
    async with RawServer(route=route) as server, door(server, limit=higher) as em:
        before = em.statistics().bytes_in
        await CALLS[name](em)
        assert em.statistics().bytes_in - before > higher - 3000


async def test_a_logon() -> None:
    """A longer reply to a logon is refused."""
    async with RawServer(logon(3000)) as server:
        with pytest.raises(MalformedReplyError, match=f"longer than {LIMIT} bytes"):
            await connect(
                server.url(), username="u", password="p", max_reply_bytes=LIMIT
            )


async def test_a_keep_alive_and_a_log_out(caplog: pytest.LogCaptureFixture) -> None:
    """Longer replies to a keep-alive and a log-out are refused, which the log tells."""
    caplog.set_level(logging.DEBUG, "veeam_tasks")
    async with RawServer(route=answers(3000)) as server:
        async with door(server):
            await anyio.sleep(KEEP_ALIVE_SECONDS + 1)
            methods = [seen.method for seen in server.seen]
            assert methods == ["POST", "GET"]
            assert f"not kept alive: GET {server.url()}" in caplog.text
            assert f"longer than {LIMIT} bytes" in caplog.text
            caplog.clear()
        assert "not logged out" in caplog.text
        assert f"longer than {LIMIT} bytes" in caplog.text


async def test_the_end_of_an_adopted_logon_session() -> None:
    """A longer reply to the log-out of somebody else's logon session is refused."""
    async with RawServer(route=answers(3000)) as server:
        with pytest.raises(MalformedReplyError, match=f"longer than {LIMIT} bytes"):
            await log_out(server.url(), TOKEN, max_reply_bytes=LIMIT)


async def test_what_is_asked_at_a_renewal(caplog: pytest.LogCaptureFixture) -> None:
    """A longer reply of the logon session itself says nothing of the token."""
    refused = reply(status="401 Unauthorized")
    first = [logon(), task(), refused]
    # Its own logon session, with an answer that would show a good token.
    shown = reply(b"<LogonSession>" + b"x" * 3000 + b"</LogonSession>")
    async with RawServer(*first, shown, refused, logon(), task()) as server:
        async with door(server) as em:
            await em.fetch("task-7")
            await em.fetch("task-7")
            assert em.statistics().renewals == 1
        assert [seen.target.rpartition("/")[2] for seen in server.seen][3:5] == [
            SESSION_ID,
            "task-0",
        ]
    assert TOKEN not in caplog.text
