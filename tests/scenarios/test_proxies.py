"""What stands between: a proxy's or a portal's page never speaks for the server."""

import anyio
import pytest
from support.managers import STEADY
from support.raw_server import (
    CLOSE,
    RESET,
    STALL,
    Answer,
    RawServer,
    Seen,
    error_body,
    reply,
)

from veeam_tasks import (
    LogonError,
    NoticeKind,
    StatusError,
    TaskLostError,
    TaskNotFoundError,
    VeeamTasksError,
    connect,
)
from veeam_tasks._options.keywords import Options

pytestmark = pytest.mark.virtual_time(debug=False)

SESSION_ID = "695c2c92-d1e8-4a2a-b5f3-9f2f2b1c1a11"
LOGON = (
    '<LogonSession xmlns="http://www.veeam.com/ent/v1.0" Type="LogonSession"'
    f' Href="https://h:9398/api/logonSessions/{SESSION_ID}"><Links/>'
    f"<UserName>admin</UserName><SessionId>{SESSION_ID}</SessionId></LogonSession>"
).encode()
PAGE = (
    b"<!DOCTYPE html><html><body><h1>Access to this site is blocked</h1></body></html>"
)
OPTIONS: Options = {"pace": STEADY, "coalesce": "never"}


def task(state: str) -> bytes:
    """Return a task as it is on the wire."""
    result = '<Result Success="true"><Message>Ok</Message></Result>'
    return (
        '<Task xmlns="http://www.veeam.com/ent/v1.0" Href="http://h:9399/api/tasks/'
        f'task-7" Type="Task"><TaskId>task-7</TaskId><State>{state}</State><Operation>'
        f"StartJob</Operation>{result if state == 'Finished' else ''}</Task>"
    ).encode()


EXPIRED = reply(
    error_body(401, "Authentication token has expired"),
    status="401 Unauthorized",
    headers=["WWW-Authenticate: Basic Realm=RestSvc"],
)
BETWEEN = {
    "a portal's 403": reply(PAGE, status="403 Forbidden", content_type="text/html"),
    "a 403 without a body": reply(status="403 Forbidden"),
    "a portal's 401": reply(PAGE, status="401 Unauthorized", content_type="text/html"),
    "a gateway's 401": reply(
        status="401 Unauthorized", headers=['WWW-Authenticate: Basic realm="Gateway"']
    ),
    "a gateway's JSON": reply(
        b'{"message":"no API key","request_id":"7"}',
        status="403 Forbidden",
        content_type="application/json",
    ),
    "a proxy's 407": reply(
        PAGE,
        status="407 Proxy Authentication Required",
        content_type="text/html",
        headers=['Proxy-Authenticate: Basic realm="Proxy"'],
    ),
}
OWN = {
    "401 with words": EXPIRED,
    "401 with a challenge": reply(
        PAGE,
        status="401 Unauthorized",
        content_type="text/html",
        headers=["WWW-Authenticate: Basic Realm=RestSvc"],
    ),
    "401 with a quoted realm": reply(
        status="401 Unauthorized", headers=['WWW-Authenticate: Basic realm="RestSvc"']
    ),
    "403 with words": reply(error_body(403, "Access denied"), status="403 Forbidden"),
}


class Site:
    """An Enterprise Manager, and what may stand before it."""

    def __init__(self) -> None:
        self.logons = 0
        self.token = ""
        self.known = 0
        self.state = "Running"
        self.between: bytes | None = None
        self.logon: bytes | None = None

    def expire(self) -> None:
        """Void the token."""
        self.token = ""

    def __call__(self, seen: Seen) -> bytes:
        """Answer a request."""
        if self.between is not None:
            return self.between
        return self.log_on() if seen.method == "POST" else self.answer(seen)

    def log_on(self) -> bytes:
        """Answer a logon."""
        if self.logon is not None:
            return self.logon
        self.logons += 1
        self.token = f"dG9rZW4t{self.logons}"
        token = f"X-RestSvcSessionId: {self.token}"
        return reply(LOGON, status="201 Created", headers=[token])

    def answer(self, seen: Seen) -> bytes:
        """Answer a request that needs a token."""
        if seen.header("X-RestSvcSessionId") != self.token:
            return EXPIRED
        if seen.method == "DELETE":
            return reply(status="204 No Content")
        if "tasks/task-7" in seen.target and self.logons >= self.known:
            return reply(task(self.state))
        if "tasks/" in seen.target:
            said = "There is no backup task with id [%s] in current rest session"
            number = seen.target.rpartition("/")[2]
            return reply(
                error_body(500, said % number), status="500 InternalServerError"
            )
        return reply(LOGON)


@pytest.mark.parametrize("name", BETWEEN)
async def test_a_renewal_that_meets_a_page_is_an_outage(name: str) -> None:
    """It is told as one, ridden out, and the logon goes on when the page has gone."""
    told: list[NoticeKind] = []
    site = Site()
    async with (
        RawServer(route=site) as server,
        connect(
            server.url(),
            username="u",
            password="pass-word",
            on_notice=lambda notice: told.append(notice.kind),
            **OPTIONS,
        ) as em,
    ):
        watch = em.watch("task-7")
        await anext(watch)
        site.expire()
        site.logon = BETWEEN[name]
        await anyio.sleep(120)
        with pytest.raises(VeeamTasksError) as caught:
            await em.fetch("task-7")
        assert not isinstance(caught.value, LogonError)
        site.logon = None
        site.state = "Finished"
        with anyio.fail_after(100):
            report = await watch.wait()
        assert report.succeeded == ("task-7",)
    assert site.logons == 2
    assert told == ["logged_on", "unreachable", "renewed", "recovered", "logged_out"]


@pytest.mark.parametrize("name", BETWEEN)
async def test_a_page_before_everything_costs_no_logon_session(name: str) -> None:
    """A 401 of something in between says nothing of the token, which is kept."""
    site = Site()
    async with (
        RawServer(route=site) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        watch = em.watch("task-7")
        await anext(watch)
        site.between = BETWEEN[name]
        await anyio.sleep(60)
        for call in (em.fetch_all, lambda: em.fetch("task-7")):
            with pytest.raises(VeeamTasksError) as caught:
                await call()
            assert not isinstance(caught.value, LogonError)
        site.between = None
        site.state = "Finished"
        with anyio.fail_after(100):
            await watch.wait()
        assert em.statistics().renewals == 0
    assert site.logons == 1


@pytest.mark.parametrize("name", BETWEEN)
async def test_a_page_before_the_keep_alive_costs_no_logon_session(name: str) -> None:
    """It is asked for again later."""
    site = Site()
    async with (
        RawServer(route=site) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        await anyio.sleep(200)
        site.between = BETWEEN[name]
        await anyio.sleep(200)
        site.between = None
        await anyio.sleep(700)
        assert em.statistics().renewals == 0
    assert site.logons == 1


@pytest.mark.parametrize("name", BETWEEN)
async def test_a_first_logon_that_meets_a_page_is_an_error_of_the_call(
    name: str,
) -> None:
    """No LogonError, nothing about the account, and nothing is remembered of it."""
    site = Site()
    async with RawServer(route=site) as server:
        site.logon = BETWEEN[name]
        em = connect(server.url(), username="u", password="pass-word", **OPTIONS)
        with pytest.raises(StatusError) as caught:
            await em
        assert type(caught.value) is StatusError
        assert "account" not in str(caught.value)
        site.logon = None
        async with em as manager:
            assert (await manager.fetch("task-7")).task_id == "task-7"


@pytest.mark.parametrize("name", OWN)
async def test_the_servers_own_word_refuses_a_logon_for_good(name: str) -> None:
    """Its error body, or its challenge: the password goes to it once."""
    site = Site()
    async with RawServer(route=site) as server:
        site.logon = OWN[name]
        em = connect(server.url(), username="u", password="pass-word", **OPTIONS)
        with pytest.raises(LogonError):
            await em
        asked = len(server.seen)
        with pytest.raises(LogonError):
            await em._manager.fetch("task-7")
        assert len(server.seen) == asked == 1


@pytest.mark.parametrize("name", OWN)
async def test_the_servers_own_word_refuses_a_renewal_for_good(name: str) -> None:
    """The watch ends with the error."""
    site = Site()
    async with (
        RawServer(route=site) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        watch = em.watch("task-7")
        await anext(watch)
        site.expire()
        site.logon = OWN[name]
        with pytest.raises(LogonError), anyio.fail_after(60):
            await watch.wait()
    assert sum(seen.method == "POST" for seen in server.seen) == 2


TOKEN = "X-RestSvcSessionId"
CHALLENGE = "WWW-Authenticate: Basic Realm=RestSvc"
HEAD = f"HTTP/1.1 401 Unauthorized\r\n{CHALLENGE}\r\nContent-Length: 500\r\n\r\n"
BROKEN: dict[str, Answer] = {
    "cut": [HEAD.encode() + b"<Error Mess", CLOSE],
    "reset": [HEAD.encode(), RESET],
    "stalled": [HEAD.encode() + b"<Error Mess", STALL],
    "without words": [HEAD.replace(f"{CHALLENGE}\r\n", "").encode(), CLOSE],
    "too long": reply(b"x" * (2 << 20), status="401 Unauthorized", headers=[CHALLENGE]),
    "no gzip": reply(
        b"no gzip at all",
        status="401 Unauthorized",
        headers=[CHALLENGE, "Content-Encoding: gzip"],
    ),
    "no encoding": reply(
        b"x", status="401 Unauthorized", headers=[CHALLENGE, "Content-Encoding: zip"]
    ),
    "second challenge": reply(
        PAGE,
        status="401 Unauthorized",
        content_type="text/html",
        headers=["WWW-Authenticate: Negotiate", CHALLENGE],
    ),
}


async def expired(url: str, site: Site) -> None:
    """Watch over the end of the logon session."""
    async with connect(url, username="u", password="pass-word", **OPTIONS) as em:
        watch = em.watch("task-7")
        await anext(watch)
        site.expire()
        await watch.wait()


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("first", [True, False])
async def test_a_refusal_that_cannot_be_read_is_one_all_the_same(
    name: str, first: bool
) -> None:
    """The password goes to the server once, or the account would be locked."""
    site = Site()

    def route(seen: Seen) -> Answer:
        is_refused = seen.method == "POST" and (first or site.logons)
        return BROKEN[name] if is_refused else site(seen)

    async with RawServer(route=route) as server:
        with pytest.raises(LogonError), anyio.fail_after(600):
            await expired(server.url(), site)
        assert sum(seen.method == "POST" for seen in server.seen) == 2 - first


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"stalled"}))
@pytest.mark.parametrize("call", [True, False])
async def test_a_token_is_renewed_though_no_refusal_can_be_read(
    name: str, call: bool
) -> None:
    """Else nobody would ever learn that it has expired."""
    site = Site()

    def route(seen: Seen) -> Answer:
        is_late = seen.method == "GET" and seen.header(TOKEN) != site.token
        return BROKEN[name] if is_late else site(seen)

    async with (
        RawServer(route=route) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        watch = em.watch("task-7")
        await anext(watch)
        if call:
            await watch.aclose()
        site.expire()
        site.state = "Finished"
        with anyio.fail_after(60):
            task = await (em.fetch("task-7") if call else em.wait("task-7"))
    assert task.succeeded
    assert site.logons == 2


async def test_a_page_that_is_cut_is_still_an_outage() -> None:
    """A portal's 401 says nothing of the account, whole or not."""
    site = Site()
    page = PAGE.decode()
    cut = "HTTP/1.1 401 No\r\nContent-Type: text/html\r\nContent-Length: 900\r\n\r\n"
    portal: list[Answer] = [[f"{cut}{page}".encode(), CLOSE]] * 3

    def route(seen: Seen) -> Answer:
        is_cut = seen.method == "POST" and site.logons and portal
        return portal.pop() if is_cut else site(seen)

    async with (
        RawServer(route=route) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        await em.fetch("task-7")
        site.expire()
        site.state = "Finished"
        assert (await em.wait("task-7")).succeeded
    assert site.logons == 2


@pytest.mark.parametrize("byte", [b"\xff", b"\xed\xa0\x80", b"\xc3\xa9", b"\x7f", b" "])
async def test_a_token_that_is_no_token_is_a_malformed_reply(
    byte: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """At the first logon an error of the call, at a renewal an outage; never shown."""
    bad = reply(LOGON, status="201 Created", headers=["X-RestSvcSessionId: c2VjcmV0#x"])
    bad = bad.replace(b"#", byte)
    site = Site()
    caplog.set_level("DEBUG", "veeam_tasks")
    async with RawServer(route=site) as server:
        site.logon = bad
        em = connect(server.url(), username="u", password="pass-word", **OPTIONS)
        with pytest.raises(VeeamTasksError, match="no token has") as caught:
            await em
        site.logon = None
        async with em as manager:
            watch = manager.watch("task-7")
            await anext(watch)
            site.expire()
            site.logon = bad
            await anyio.sleep(60)
            site.logon = None
            site.state = "Finished"
            with anyio.fail_after(100):
                assert (await watch.wait()).succeeded == ("task-7",)
    assert "c2VjcmV0" not in caplog.text + str(caught.value)


@pytest.mark.parametrize("header", ["Location", "Content-Encoding", "Set-Cookie"])
@pytest.mark.parametrize("byte", [b"\xff", b"\xed\xb3\xbf"])
async def test_a_header_that_is_no_text_is_shown_as_text(
    header: str, byte: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Every message and log line can be written in UTF-8, and the manager goes on."""
    odd = reply(PAGE, status="302 Found", headers=[f"{header}: a#b=c"])
    site = Site()
    caplog.set_level("DEBUG")
    async with (
        RawServer(route=site) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        watch = em.watch("task-7")
        await anext(watch)
        site.between = odd.replace(b"#", byte)
        with pytest.raises(VeeamTasksError) as caught:
            await em.fetch_all()
        str(caught.value).encode()
        await anyio.sleep(20)
        site.between, site.state = None, "Finished"
        with anyio.fail_after(100):
            await watch.wait()
    caplog.text.encode()


async def test_the_advice_about_logon_sessions_is_given_after_a_renewal() -> None:
    """Each logon session knows its own tasks, whatever the one before has known."""
    site = Site()
    async with (
        RawServer(route=site) as server,
        connect(server.url(), username="u", password="pass-word", **OPTIONS) as em,
    ):
        watch = em.watch("task-7")
        assert (await em.fetch("task-7")).task_id == "task-7"
        await anext(watch)
        with pytest.raises(TaskNotFoundError) as caught:
            await em.fetch("task-8")
        assert "start and watch tasks through one manager" not in str(caught.value)
        site.known = 2 + site.logons
        site.expire()
        with pytest.raises(TaskNotFoundError, match="through one manager"):
            await em.fetch("task-8")
        with pytest.raises(TaskLostError, match="through one manager"):
            await em.wait("task-9", timeout=60)
        with pytest.raises(ExceptionGroup) as lost:
            (await watch.wait()).raise_for_failures()
        assert "the logon session was renewed" in str(lost.value.exceptions[0])
