"""A token or a session ID in a path is shown nowhere, however it is written there."""

import base64
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest
from support.managers import raw_door
from support.raw_server import CLOSE, RESET, STALL, Answer, RawServer, Seen, reply
from support.secrets_guard import texts_of

from veeam_tasks import Link, SessionManager, VeeamTasksError, connect

pytestmark = pytest.mark.virtual_time

SESSION_ID = "695f4bc1-8a48-4d5b-a3a5-9f0a6a7c2d11"
TOKEN = "p9/Xq+4vTz//Yb3Kc81MZw=="
NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
LOGON = reply(
    f"<LogonSession {NS}><SessionId>{SESSION_ID}</SessionId></LogonSession>".encode(),
    status="201 Created",
    headers=[f"X-RestSvcSessionId: {TOKEN}"],
)


def in_base64(text: str) -> str:
    """Return a text in base64, as it stands in a header."""
    return base64.b64encode(text.encode()).decode()


def written(secret: str) -> dict[str, str]:
    """Return ways to write a secret as one segment of a path."""
    once = quote(secret, safe="")
    coded = in_base64(secret)
    return {
        "raw": secret.replace("/", "%2F"),
        "encoded": once,
        "encoded twice": quote(once, safe=""),
        "encoded wholly": "".join(f"%{ord(char):02x}" for char in secret),
        "base64": quote(coded, safe=""),
        "base64, padding left": quote(coded, safe="="),
        "base64, unpadded": quote(coded.rstrip("="), safe=""),
        "base64 for URLs": base64.urlsafe_b64encode(secret.encode()).decode(),
        "base64, among others": quote(in_base64(f"id:{secret};v=1"), safe=""),
        "base64 twice": quote(in_base64(coded), safe=""),
        "among others": f"session-{once}-1",
        "braces": f"%7B{once}%7D",
    }


WAYS = {
    f"{what}, {way}": segment
    for what, secret in (("token", TOKEN), ("session ID", SESSION_ID))
    for way, segment in written(secret).items()
}
FAILURES: dict[str, Answer] = {
    "refused": reply(status="404 Not Found"),
    "nonsense": reply(b"nonsense", content_type="text/plain"),
    "stalled": STALL,
    "reset": RESET,
    "closed": CLOSE,
    "no HTTP": b"nonsense\r\n\r\n",
}
Call = Callable[[SessionManager, str], Awaitable[object]]
CALLS: dict[str, Call] = {
    "read": lambda em, path: em.read(path),
    "read of a link": lambda em, path: em.read(
        Link(rel="Related", href=f"https://em.example:9398/api/{path}")
    ),
    "submit": lambda em, path: em.submit(path),
    "submit DELETE": lambda em, path: em.submit(path, method="DELETE"),
    "fetch": lambda em, path: em.fetch(path),
    "watch": lambda em, path: em.wait(path),
}


def assert_hidden(segment: str, texts: str) -> None:
    """Check that no half of a segment stands in what is shown."""
    assert "[hidden]" in texts
    for shown in (segment, segment[:12], segment[-12:]):
        assert shown.lower() not in texts.lower()
    for secret in (TOKEN, SESSION_ID):
        assert secret not in texts


@pytest.mark.parametrize("place", ["sessions/{}/x", "jobs?filter=a&id={}&b=c"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_path(way: str, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """In whatever encoding, in the path or the query: no error or log shows it."""
    caplog.set_level(logging.DEBUG)
    segment = WAYS[way]
    path = place.format(segment)
    texts = []
    async with RawServer(LOGON, FAILURES["refused"]) as server, raw_door(server) as em:
        for name in ("read", "submit"):
            with pytest.raises(VeeamTasksError) as caught:
                await CALLS[name](em, path)
            texts += texts_of(caught.value)
        # It was sent as it is.
        assert server.seen[1].target.endswith(path)
    assert_hidden(segment, "\n".join([*texts, caplog.text]))


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", ["read", "read of a link", "submit", "submit DELETE"])
async def test_each_failure(
    name: str, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever becomes of the request, its path is shown without the secret."""
    caplog.set_level(logging.DEBUG)
    segment = WAYS["token, encoded twice"]
    async with RawServer(LOGON, FAILURES[failure]) as server, raw_door(server) as em:
        with pytest.raises(VeeamTasksError) as caught:
            await CALLS[name](em, f"sessions/{segment}")
    assert_hidden(segment, "\n".join([*texts_of(caught.value), caplog.text]))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "path",
    ["x\\{}", "{}#x", "{}/../x", "https://other.example:1/api/{}", "{}" + "x" * 99],
)
async def test_wrong_arguments(name: str, path: str) -> None:
    """What is no path, or no task, is named in an error without the secret."""
    segment = WAYS["session ID, raw"]
    # The middle of it would stand where a long text is cut.
    wrong = path.format(f"{'y' * 30}/{segment}")
    async with RawServer(LOGON, FAILURES["refused"]) as server, raw_door(server) as em:
        with pytest.raises((ValueError, VeeamTasksError), match="hidden") as caught:
            await CALLS[name](em, wrong)
    assert_hidden(segment, "\n".join(texts_of(caught.value)))


async def test_an_id_of_another_logon_session() -> None:
    """What follows `logonSessions/` is an ID: hidden, though nobody told us."""
    other = "0b7d3a52-1111-4222-8333-444455556666"
    async with RawServer(LOGON, FAILURES["refused"]) as server, raw_door(server) as em:
        with pytest.raises(VeeamTasksError) as caught:
            await em.submit(f"logonSessions/{other}", method="DELETE")
    assert_hidden(other, "\n".join(texts_of(caught.value)))


@pytest.mark.parametrize("coalesce", ["never", "always"])
async def test_a_page_of_the_collection(
    coalesce: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A link of the server to a next page may hold one: likewise."""
    caplog.set_level(logging.DEBUG)
    segment = WAYS["token, encoded"]
    page = (
        f"<QueryResult {NS}><Resources><Tasks><Task><TaskId>task-1</TaskId>"
        "<State>Running</State><Operation>StartJob</Operation></Task></Tasks>"
        '</Resources><PagingInfo PageNum="1" PageSize="1" PagesCount="2"><Links><Link'
        f' Rel="Next" Href="http://h/api/tasks?page=2&amp;s={segment}"/></Links>'
        "</PagingInfo></QueryResult>"
    ).encode()

    def route(seen: Seen) -> Answer:
        if "sessionMngr" in seen.target:
            return LOGON
        return FAILURES["refused"] if "page=2" in seen.target else reply(page)

    async with (
        RawServer(route=route) as server,
        connect(
            server.url(),
            username="u",
            password="pass-word",
            coalesce="always" if coalesce == "always" else "never",
        ) as em,
    ):
        if coalesce == "always":
            watch = em.watch_all(timeout=20)
            report = await watch.wait()
            texts = [repr(report), em.statistics().coalescing_reason]
        else:
            with pytest.raises(VeeamTasksError) as caught:
                await em.fetch_all()
            texts = list(texts_of(caught.value))
        assert any("page=2" in seen.target for seen in server.seen)
    assert_hidden(segment, "\n".join([*texts, caplog.text]))


async def test_a_redirect() -> None:
    """Where a redirect points is shown without the secret."""
    segment = WAYS["token, encoded wholly"]
    moved = reply(status="302 Found", headers=[f"Location: /logon/{segment}?x=1"])
    async with RawServer(LOGON, moved) as server, raw_door(server) as em:
        with pytest.raises(VeeamTasksError, match="It points to /logon/") as caught:
            await em.read("jobs")
    assert_hidden(segment, "\n".join(texts_of(caught.value)))
