"""The transport over scripted bytes: replies, errors, and what is left."""

import asyncio
import gzip
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import anyio
import brotli
import pytest
import trustme
from support.figures import Record
from support.raw_server import (
    CLOSE,
    RESET,
    STALL,
    Answer,
    RawServer,
    Talk,
    TalkServer,
    pin_of,
    reply,
    serving,
)
from support.secrets_guard import texts_of
from yarl import URL

from veeam_tasks._errors import (
    CertificateError,
    ClosedError,
    MalformedReplyError,
    RequestTimeoutError,
    SubmitUncertainError,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._protocol.messages import UNCHANGED, Method, Reply, Request
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import Secrets, hidden_or_none
from veeam_tasks._transport.errors import describe, error_class
from veeam_tasks._transport.transport import Transport
from veeam_tasks._transport.trust import Trust, make_trust

TOKEN = "MTIzNDU2Nzg5MC1wbGFudGVkLXRva2Vu"
LIMIT = 1 << 20

RUNNING = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<Task xmlns="http://www.veeam.com/ent/v1.0"'
    b' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    b' Href="http://h:9399/api/tasks/task-7" Type="Task">'
    b'<Links><Link Href="http://h:9399/api/tasks/task-7" Rel="Delete" /></Links>'
    b"<TaskId>task-7</TaskId><State>Running</State>"
    b"<Operation>EditCloudTenant</Operation></Task>"
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
COOKIE = f"Set-Cookie: X-RestSvcSessionId={TOKEN}; Path=/api;"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Return a throw-away CA."""
    return trustme.CA()


@pytest.fixture(scope="module")
def leaf(ca: trustme.CA) -> trustme.LeafCert:
    """Return a server's certificate for loopback."""
    return ca.issue_cert("localhost", "127.0.0.1", common_name="em.example")


def trusting(ca: trustme.CA) -> Trust:
    """Return a trust in that CA alone."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return Trust(context=context)


@asynccontextmanager
async def opened(
    server: RawServer | str,
    trust: Trust | None = None,
    *,
    host: str = "127.0.0.1",
    timeout: float = 20.0,  # noqa: ASYNC109 the transport's own, which is tested
    proxy: str | None = None,
    secrets: Secrets | None = None,
) -> AsyncIterator[Transport]:
    """Open a transport to a server, and see that it leaves nothing behind."""
    if secrets is None:
        secrets = Secrets()
        secrets.add(TOKEN)
    url = server if isinstance(server, str) else server.url(host)
    transport = Transport(
        base_url(url, insecure=True),
        trust or Trust(),
        secrets=secrets,
        request_timeout=timeout,
        proxy=hidden_or_none(proxy),
    )
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()
        assert transport.in_flight == 0
        if isinstance(server, RawServer):
            with anyio.fail_after(60):
                await server.all_gone()


async def poll(transport: Transport, limit: int = LIMIT) -> Reply:
    """Poll task-7."""
    return await transport.poll(transport.url("tasks/task-7"), TOKEN, limit)


def submit(method: Method = "POST", body: bytes | None = None) -> Request:
    """Return a request that starts a job."""
    path = "jobs/b04c?action=start"
    return Request(method=method, path=path, shown=path, body=body)


# What is sent


async def test_a_poll_is_one_plain_get() -> None:
    """It has the token, one media type, and neither cookie nor body nor type of one."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        got = await poll(transport)
        assert got == Reply(
            request=f"GET {server.url()}/api/tasks/task-7",
            status=200,
            content_type="application/xml",
            body=RUNNING,
        )
        assert (transport.requests, transport.bytes_in) == (1, len(RUNNING))
    [seen] = server.seen
    assert (seen.method, seen.target) == ("GET", "/api/tasks/task-7")
    assert dict(seen.headers) == {
        "Host": f"127.0.0.1:{server.port}",
        "Accept": "application/xml",
        "Accept-Encoding": "identity",
        "User-Agent": "veeam-tasks",
        "X-RestSvcSessionId": TOKEN,
    }


async def test_a_poll_whose_body_is_known_is_not_described() -> None:
    """It counts as any other; but of another status than 200 no body is known."""
    answers = [reply(RUNNING), reply(RUNNING, status="404 Not Found"), reply(b"<T/>")]
    async with RawServer(*answers) as server, opened(server) as transport:
        url = transport.url("tasks/task-7")
        got = [
            await transport.poll(url, TOKEN, LIMIT, is_known=RUNNING.__eq__)
            for _ in answers
        ]
        assert got[0] is UNCHANGED
        assert [one.status for one in got] == [200, 404, 200]
        assert [one.body for one in got[1:]] == [RUNNING, b"<T/>"]
        assert transport._polls == [0, 0, 2, 0, 1, 0]
        assert transport.bytes_in == 2 * len(RUNNING) + 4


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_cookie_is_ever_sent_back(host: str) -> None:
    """The server would take its token before the header's."""
    async with (
        RawServer(reply(RUNNING, headers=[COOKIE])) as server,
        opened(server, host=host) as transport,
    ):
        for _ in range(3):
            await poll(transport)
            await transport.send(submit(), TOKEN)
    assert [seen.header("Cookie") for seen in server.seen] == [None] * 6


async def test_a_new_token_is_used_at_once() -> None:
    """The prepared headers of the old one are not used any more."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        url = transport.url("tasks/task-7")
        for token in ("one", "two", "one"):
            await transport.poll(url, token, LIMIT)
    sent = [seen.header("X-RestSvcSessionId") for seen in server.seen]
    assert sent == ["one", "two", "one"]


async def test_many_requests_use_one_connection() -> None:
    """It is kept open between them."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        for _ in range(20):
            await poll(transport)
            await transport.send(submit("DELETE"), TOKEN)
        assert server.connections == 1


async def test_requests_are_counted_by_kind_and_class_of_status() -> None:
    """Each once, and those that no reply came to beside them."""
    answers = [reply(RUNNING), reply(status="404 Not Found"), b"nonsense\r\n\r\n"]
    async with RawServer(*answers) as server, opened(server) as transport:
        for _ in range(2):
            await transport.send(Request(method="GET", path="x", shown="x"), TOKEN)
        with pytest.raises(TransportError):
            await transport.send(submit(), TOKEN, uncertain=True)
        assert transport._replies["read"] == [0, 0, 1, 0, 1, 0]
        assert transport._replies["action"] == [1, 0, 0, 0, 0, 0]


async def test_polls_are_counted_by_class_of_status() -> None:
    """Each once, also a 401 whose body cannot be read, and one without a reply."""
    unreadable = reply(status="401 Unauthorized", headers=["Content-Encoding: gzip"])
    answers = [reply(RUNNING), unreadable, b"nonsense\r\n\r\n"]
    async with RawServer(*answers) as server, opened(server) as transport:
        assert (await poll(transport)).status == 200
        assert (await poll(transport)).status == 401
        with pytest.raises(MalformedReplyError):
            await poll(transport)
        assert transport._replies["poll"] == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 " + b"echo" * 3_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"echo" * 3_000 + b"\r\n\r\n",
        reply(headers=["Content-Encoding: " + "echo" * 2_000]),
        reply(status="302 Found", headers=["Location: /" + "echo" * 2_000]),
    ],
    ids=["reason", "header", "encoding", "location"],
)
async def test_no_error_repeats_a_long_header(answer: bytes) -> None:
    """Who reads it wants the beginning at most."""
    async with RawServer(answer) as server, opened(server) as transport:
        try:
            got = await poll(transport)
        except VeeamTasksError as error:
            said = str(error)
        else:
            said = got.location or ""
    assert said
    assert said.count("echo") <= 125
    assert "bytearray" not in said


async def test_an_encoding_that_echoes_the_token_hides_it() -> None:
    """What stands in a header may be any word of the request."""
    answer = reply(headers=[f"Content-Encoding: {TOKEN}"])
    async with RawServer(answer) as server, opened(server) as transport:
        with pytest.raises(MalformedReplyError, match="unknown Content-Enc") as caught:
            await poll(transport)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_above_599_is_a_reply_of_the_fifth_class(status: int) -> None:
    """Whatever is asked: it is no error of ours that no class has that number."""
    async with (
        RawServer(reply(status=f"{status} Denied")) as server,
        opened(server) as transport,
    ):
        assert (await poll(transport)).status == status
        request = Request(method="GET", path="x", shown="x")
        assert (await transport.send(request, TOKEN)).status == status
        assert (await transport.send(submit(), TOKEN, uncertain=True)).status == status
        for kind in ("poll", "read", "action"):
            assert transport._replies[kind] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_action_without_a_body_has_length_0_and_no_type(
    method: Method,
) -> None:
    """A type of nothing is answered with 415 by some versions."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        await transport.send(submit(method), TOKEN)
    [seen] = server.seen
    assert (seen.method, seen.target) == (method, "/api/jobs/b04c?action=start")
    assert seen.header("Content-Length") == "0"
    assert seen.header("Content-Type") is None
    assert seen.header("Transfer-Encoding") is None
    assert seen.header("Accept") == "application/xml"
    assert seen.header("X-RestSvcSessionId") == TOKEN


@pytest.mark.parametrize("media_type", ["application/xml", "application/json"])
async def test_a_body_is_of_the_one_media_type(media_type: str) -> None:
    """9.5u4 fails if Accept and Content-Type differ."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        await transport.send(
            Request(
                method="PUT",
                path="jobs/1",
                shown="jobs/1",
                body=b"<Job/>",
                media_type=media_type,
                headers={"Authorization": "Basic eA=="},
            )
        )
    [seen] = server.seen
    assert seen.body == b"<Job/>"
    assert seen.header("Content-Type") == media_type
    assert seen.header("Accept") == media_type
    assert seen.header("Authorization") == "Basic eA=="
    assert seen.header("X-RestSvcSessionId") is None


async def test_json_is_asked_for_when_it_is_wanted() -> None:
    """`accept` is what a poll asks for."""
    async with RawServer(reply(b"{}")) as server:
        transport = Transport(
            base_url(server.url(), insecure=False),
            Trust(),
            secrets=Secrets(),
            accept="json",
        )
        await transport.open()
        await poll(transport)
        await transport.aclose()
    assert server.seen[0].header("Accept") == "application/json"


async def test_a_path_is_sent_as_it_was_encoded() -> None:
    """Nothing is encoded twice, nothing decoded."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        path = "guestfs/C%3A%5Ctemp%2Fx?filter=a%20b"
        await transport.send(Request(method="GET", path=path, shown=path), TOKEN)
    assert server.seen[0].target == f"/api/{path}"


# What comes back


@pytest.mark.parametrize("name", ["X-RestSvcSessionId", "x-restsvcsessionid"])
async def test_the_token_of_a_logon_is_read(name: str) -> None:
    """In any case of its header's name."""
    answer = reply(
        b"<LogonSession />", status="201 Created", headers=[f"{name}: {TOKEN}", COOKIE]
    )
    async with RawServer(answer) as server, opened(server) as transport:
        got = await transport.send(submit())
    assert (got.status, got.token) == (201, TOKEN)
    assert TOKEN not in repr(got)


async def test_a_reply_without_content_is_a_reply() -> None:
    """204 has neither body nor type."""
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with RawServer(answer) as server, opened(server) as transport:
        for _ in range(2):
            got = await transport.send(submit("DELETE"), TOKEN)
            assert (got.status, got.content_type, got.body) == (204, "", b"")
        assert server.connections == 1


async def test_odd_reason_phrases_and_error_bodies_are_replies() -> None:
    """A status is for others to judge."""
    answer = reply(b"<Error/>", status="400 BadRequest", content_type="TEXT/HTML; x")
    async with RawServer(answer) as server, opened(server) as transport:
        got = await poll(transport)
    assert (got.status, got.content_type) == (400, "text/html")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 T", "308 P"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    """The token would go with it; where it points is told, secrets hidden."""
    async with RawServer(reply(RUNNING)) as other:
        where = f"Location: {other.url()}/api/?token={TOKEN}\x7f"
        answer = reply(b"", status=status, headers=[where.replace("\x7f", "\xad")])
        async with RawServer(answer) as server, opened(server) as transport:
            for got in (await poll(transport), await transport.send(submit(), TOKEN)):
                assert got.status == int(status[:3])
                assert got.location is not None
                assert got.location.startswith(f"{other.url()}/api/?token=[hidden]")
                assert got.location.isprintable()
        assert other.seen == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (["Retry-After: 7"], 7.0),
        (["Retry-After: soon"], None),
        (["Retry-After: -7"], None),
        (["Retry-After: 7.5"], 7.5),
        (["Retry-After: 7,5"], None),
        (["Retry-After: 1e3"], None),
        (["Retry-After: " + 30 * "9"], 365 * 86400.0),
        (["Retry-After: " + 999 * "9"], 365 * 86400.0),
        (["Retry-After: Mon, 24 Nov 2025 10:00:30 GMT"], 0.0),
        (
            [
                "Retry-After: Mon, 23 Nov 2026 10:00:30 GMT",
                "Date: Mon, 23 Nov 2026 10:00:00 GMT",
            ],
            30.0,
        ),
        (
            [
                "Retry-After: Mon, 23 Nov 2026 09:00:00 GMT",
                "Date: Mon, 23 Nov 2026 10:00:00 GMT",
            ],
            0.0,
        ),
        (["Retry-After: Mon, 24 Nov 2025 09:00:00 -0000", "Date: x"], 0.0),
        (["Retry-After: Mon, 23 Nov 2026 09:00:00 +99999999999999999999"], None),
        (
            [
                "Retry-After: Mon, 23 Nov 2026 11:00:00 -0000",
                "Date: Mon, 23 Nov 2026 10:00:00 GMT",
            ],
            3600.0,
        ),
    ],
)
async def test_retry_after_is_seconds(
    headers: list[str], seconds: float | None
) -> None:
    """A date counts from the reply's own; what cannot be read is nothing."""
    answer = reply(status="503 Service Unavailable", headers=headers)
    async with RawServer(answer) as server, opened(server) as transport:
        assert (await poll(transport)).retry_after == seconds


@pytest.mark.parametrize(
    ("written", "year"),
    [
        ("Mon, 23 Nov 2026 10:00:00 GMT", 2026),
        ("Mon, 01 Jan 1601 00:00:00 GMT", None),
        ("Wed, 31 Dec 1969 23:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1970),
        ("Wed, 31 Dec 9997 23:59:59 GMT", 9997),
        ("Thu, 01 Jan 9998 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("x", None),
    ],
)
async def test_a_date_that_no_clock_shows_is_none(
    written: str, year: int | None
) -> None:
    """What was started then would be followed from before all time, or never."""
    answer = reply(RUNNING, headers=[f"Date: {written}"])
    async with RawServer(answer) as server, opened(server) as transport:
        date = (await transport.send(submit(), TOKEN)).date
    assert (None if date is None else date.year) == year


async def test_retry_after_by_a_date_of_a_server_that_tells_no_time() -> None:
    """The date counts from our own clock then."""
    later = datetime.now(UTC) + timedelta(seconds=500)
    header = f"Retry-After: {format_datetime(later, usegmt=True)}"
    answer = reply(status="503 Service Unavailable", headers=[header])
    async with RawServer(answer) as server, opened(server) as transport:
        asked = (await poll(transport)).retry_after
        assert asked is not None
        assert 300 < asked <= 500


def chunked(body: bytes, size: int) -> bytes:
    """Return a body in chunks of `size` bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


BIG = RUNNING * 10_000


@pytest.mark.parametrize(
    "answer",
    [
        reply(BIG),
        [reply(BIG, headers=["Connection: close"]), CLOSE],
        [HEAD + b"\r\n" + BIG, CLOSE],
        CHUNKED + chunked(BIG, 65536),
        CHUNKED + chunked(BIG, 999),
        reply(gzip.compress(BIG), headers=["Content-Encoding: gzip"]),
        reply(zlib.compress(BIG), headers=["Content-Encoding: Deflate"]),
        reply(brotli.compress(BIG, quality=1), headers=["Content-Encoding: br"]),
    ],
    ids=["length", "close", "eof", "chunked", "small", "gzip", "deflate", "br"],
)
@pytest.mark.parametrize("secure", [False, True])
async def test_a_long_body_is_read_whole(
    answer: Answer, secure: bool, ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """However it is framed or compressed, and on TLS too."""
    tls = serving(leaf) if secure else None
    trust = trusting(ca) if secure else None
    async with RawServer(answer, tls=tls) as server, opened(server, trust) as transport:
        for _ in range(2):
            got = await poll(transport, len(BIG))
            assert got.body == BIG
        assert transport.bytes_in == 2 * len(BIG)


async def test_a_body_that_comes_in_drips_is_read_whole() -> None:
    """Each piece in a segment of its own."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(RUNNING), 20):
            writer.write(RUNNING[at : at + 20])
            await writer.drain()
            for _ in range(3):
                await anyio.lowlevel.checkpoint()

    answer = [HEAD + b"Content-Length: %d\r\n\r\n" % len(RUNNING), drip]
    async with RawServer(answer) as server, opened(server) as transport:
        for _ in range(2):
            assert (await poll(transport)).body == RUNNING
        assert server.connections == 1


# Faults


async def pushed(writer: asyncio.StreamWriter) -> None:
    """Wait until there is room, and let the loop notice a client that is gone."""
    await writer.drain()
    await anyio.lowlevel.checkpoint()


async def endless_header(writer: asyncio.StreamWriter) -> None:
    """Write a header that does not end."""
    while True:
        writer.write(b"X-More: " + b"a" * 8000)
        await pushed(writer)


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    """Write headers without end."""
    while True:
        writer.write(b"X-More: a\r\n" * 100)
        await pushed(writer)


async def endless_body(writer: asyncio.StreamWriter) -> None:
    """Write chunks without end."""
    while True:
        writer.write(b"1000\r\n" + b"a" * 0x1000 + b"\r\n")
        await pushed(writer)


def later(data: bytes) -> Talk:
    """Return a step that writes `data` when what came before has been read."""

    async def write(writer: asyncio.StreamWriter) -> None:
        await writer.drain()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        writer.write(data)
        await writer.drain()

    return write


SECRET_HEAD = f"HTTP/1.1 200 OK\r\nX-RestSvcSessionId: fresh-{TOKEN}".encode()
FAULTS: dict[str, tuple[Answer, type[VeeamTasksError], str]] = {
    "reset": (RESET, TransportError, "ClientOSError: [Errno 104]"),
    "close": (CLOSE, TransportError, "ServerDisconnectedError: the server closed"),
    "reset in the head": ([SECRET_HEAD, RESET], TransportError, "ClientOSError"),
    "close in the head": ([SECRET_HEAD, CLOSE], TransportError, "without a reply"),
    "close after a header": (
        [SECRET_HEAD + b"\r\n", CLOSE],
        TransportError,
        "without a reply",
    ),
    "garbage": (b"\x00\x01\x02\r\n\r\n", MalformedReplyError, "ClientResponseError"),
    "html": (b"<html><p>hi</p></html>\r\n\r\n", MalformedReplyError, "status line"),
    "another protocol": (b"SSH-2.0-x\r\n", MalformedReplyError, "ClientResponseError"),
    "short, closed": (
        [HEAD + b"Content-Length: 10\r\n\r\nabc", CLOSE],
        TransportError,
        "ContentLengthError: Not enough data",
    ),
    "short, reset": (
        [HEAD + b"Content-Length: 10\r\n\r\nabc", RESET],
        TransportError,
        "ContentLengthError: Not enough data",
    ),
    "cut chunk": ([CHUNKED + b"5\r\nhel", CLOSE], TransportError, "Not enough data"),
    "bad chunk": (CHUNKED + b"zz\r\nfoo", MalformedReplyError, "chunk size"),
    "bad chunk, later": (
        [CHUNKED + b"5\r\nhello\r\n", later(b"zz\r\nfoo")],
        TransportError,
        "the connection was closed",
    ),
    "long chunk": (CHUNKED + b"3\r\nhello\r\n", MalformedReplyError, "chunk data"),
    "bad length": (
        HEAD + b"Content-Length: abc\r\n\r\n",
        MalformedReplyError,
        "Content-Length",
    ),
    "negative length": (
        HEAD + b"Content-Length: -1\r\n\r\n",
        MalformedReplyError,
        "Content-Length",
    ),
    "two lengths": (
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
        MalformedReplyError,
        "Content-Length",
    ),
    "length and chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        MalformedReplyError,
        "Transfer-Encoding",
    ),
    "endless header": ([HEAD, endless_header], MalformedReplyError, "more than 8190"),
    "endless headers": ([HEAD, endless_headers], MalformedReplyError, "Too many"),
    "control in a header": (
        SECRET_HEAD + b"\x00\r\n\r\n",
        MalformedReplyError,
        # In asyncio's debug mode aiohttp is stricter, and has another word for it.
        "ClientResponseError: Invalid ",
    ),
    "bad gzip": (
        reply(b"hello", headers=["Content-Encoding: gzip"]),
        MalformedReplyError,
        "ContentEncodingError: Can not decode",
    ),
    "bad deflate": (
        reply(b"\xff" * 9, headers=["Content-Encoding: deflate"]),
        MalformedReplyError,
        "ContentEncodingError: Can not decode",
    ),
    "unknown encoding": (
        reply(b"hello", headers=["Content-Encoding: compress"]),
        MalformedReplyError,
        "unknown Content-Encoding 'compress'",
    ),
    "two encodings": (
        reply(b"hello", headers=["Content-Encoding: gzip, gzip"]),
        MalformedReplyError,
        "unknown Content-Encoding 'gzip, gzip'",
    ),
    "other version": (b"HTTP/9.9 200 OK\r\n\r\n", MalformedReplyError, "status line"),
    "bad status": (b"HTTP/1.1 2000 OK\r\n\r\n", MalformedReplyError, "status line"),
    "switched": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        MalformedReplyError,
        "status 101, which nobody asked for",
    ),
    "endless body": ([CHUNKED, endless_body], MalformedReplyError, "longer than"),
    "long body": (
        reply(b"a" * (LIMIT + 1)),
        MalformedReplyError,
        "longer than 1048576",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("how", ["poll", "send", "tls"])
async def test_a_fault_is_one_of_our_errors(
    name: str, how: str, ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """It keeps the foreign class's name, no secret, and nothing foreign behind it."""
    answer, kind, said = FAULTS[name]
    tls = serving(leaf) if how == "tls" else None
    trust = trusting(ca) if how == "tls" else None
    async with RawServer(answer, tls=tls) as server, opened(server, trust) as transport:
        failing = transport.send(submit(), TOKEN) if how == "send" else poll(transport)
        with pytest.raises(kind) as caught, anyio.fail_after(60):
            await failing
    error = caught.value
    assert type(error) is kind
    if (how, said) != ("tls", "ClientOSError: [Errno 104]"):
        assert said in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert getattr(error, "connected", True)
    assert not any(TOKEN in text for text in texts_of(error))
    assert str(error).isprintable()


async def test_a_body_of_the_very_limit_is_read() -> None:
    """One byte more is not."""
    async with RawServer(reply(b"a" * 100)) as server, opened(server) as transport:
        assert len((await poll(transport, 100)).body) == 100
        with pytest.raises(MalformedReplyError, match="longer than 99 bytes"):
            await poll(transport, 99)


async def test_after_a_fault_the_next_request_works() -> None:
    """On a new connection, since the old one is cut."""
    answers = (STALL, [CHUNKED, endless_body], b"garbage\r\n\r\n", reply(RUNNING))
    async with (
        RawServer(*answers) as server,
        opened(server, timeout=0.5) as transport,
    ):
        for _ in range(3):
            with pytest.raises(VeeamTasksError):
                await transport.send(submit(), TOKEN)
        assert (await poll(transport)).body == RUNNING
        assert server.connections == 4


MEBI = 1 << 20


def zlib_bomb(wbits: int) -> bytes:
    """Return half a gibibyte of zeros, compressed."""
    press = zlib.compressobj(wbits=wbits)
    zeros = bytes(MEBI)
    start = press.compress(zeros) + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(zeros) + press.flush(zlib.Z_FULL_FLUSH)
    return start + block * 511


def brotli_bomb() -> bytes:
    """Return half a gibibyte of zeros, compressed."""
    press = brotli.Compressor(quality=1)
    start = press.process(bytes(MEBI)) + press.flush()
    block = press.process(bytes(MEBI)) + press.flush()
    return start + block * 511


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", lambda: zlib_bomb(31)),
        ("deflate", lambda: zlib_bomb(15)),
        ("br", brotli_bomb),
    ],
)
@pytest.mark.parametrize("limit", [MEBI, 64 * MEBI])
async def test_a_bomb_is_cut_while_it_is_read(
    encoding: str, bomb: Callable[[], bytes], limit: int, record_property: Record
) -> None:
    """A small body that becomes 512 MiB costs less than 80 MiB."""
    answer = reply(bomb(), headers=[f"Content-Encoding: {encoding}"])
    async with RawServer(answer) as server, opened(server) as transport:
        tracemalloc.start(1)
        try:
            with pytest.raises(MalformedReplyError, match=f"longer than {limit} bytes"):
                await poll(transport, limit)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    record_property("MiB held", round(peak / MEBI, 1))
    assert peak < min(80 * MEBI, limit + 16 * MEBI)


# At most once


AFTER_IT_WAS_READ: dict[str, Answer] = {
    "reset": RESET,
    "close": CLOSE,
    "half a head": [b"HTTP/1.1 202 Acc", CLOSE],
    "half a body": [HEAD + b"Content-Length: 9\r\n\r\n<Task", RESET],
    "garbage": b"\x00\x01\r\n\r\n",
    "stalled": STALL,
    "stalled body": [HEAD + b"Content-Length: 9\r\n\r\n<Task", STALL],
    "long body": reply(b"a" * (LIMIT + 1)),
    "unknown encoding": reply(b"a", headers=["Content-Encoding: x"]),
}


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("name", AFTER_IT_WAS_READ)
async def test_an_action_that_was_read_is_sent_once(
    name: str, method: Method, kept: bool
) -> None:
    """Whether it was carried out is not known, and that is what the error says."""
    answers: list[Answer] = [reply(RUNNING)] if kept else []
    answers.append(AFTER_IT_WAS_READ[name])
    limit = 0.5 if "stalled" in name else 20.0
    async with (
        RawServer(*answers) as server,
        opened(server, timeout=limit) as transport,
    ):
        if kept:
            await poll(transport)
        with pytest.raises(SubmitUncertainError) as caught:
            await transport.send(submit(method, b"<Spec/>"), TOKEN, uncertain=True)
    assert [seen.method for seen in server.seen[kept:]] == [method]
    assert server.seen[-1].body == b"<Spec/>"
    assert "may have been carried out" in str(caught.value)
    assert caught.value.__context__ is None
    assert not any(TOKEN in text for text in texts_of(caught.value))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("answer", [RESET, CLOSE])
async def test_a_logon_or_a_log_out_is_sent_once_too(
    method: Method, answer: Answer
) -> None:
    """Where nobody asks whether it was carried out, the error is a plain one."""
    async with RawServer(answer) as server, opened(server) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(submit(method), TOKEN)
    assert type(caught.value) is TransportError
    assert len(server.seen) == 1


async def test_a_call_makes_one_attempt_also_by_get() -> None:
    """A GET that the server gave no reply to is not sent again by `send`."""
    async with (
        RawServer(reply(RUNNING), CLOSE, reply(RUNNING)) as server,
        opened(server) as transport,
    ):
        assert (await transport.send(submit("GET"), TOKEN)).status == 200
        with pytest.raises(TransportError):
            await transport.send(submit("GET"), TOKEN)
        assert len(server.seen) == 2


async def test_a_poll_may_be_sent_again_after_a_disconnect() -> None:
    """A kept connection that the server has just given up harms no poll."""
    answers = (reply(RUNNING), CLOSE, reply(RUNNING))
    async with RawServer(*answers) as server, opened(server) as transport:
        for _ in range(2):
            assert (await poll(transport)).status == 200
        assert len(server.seen) == 3


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """Return the port of a server that takes connections and says nothing."""

    async def stay(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with TalkServer(stay) as server:
        yield server.port
        await server.all_gone()


async def closed_port() -> int:
    """Return a port where nobody listens."""
    async with RawServer(STALL) as server:
        return server.port


async def test_no_connection_is_told_by_its_place_and_reason(ca: trustme.CA) -> None:
    """How the server was to be trusted stands in aiohttp's words, not in ours."""
    place = f"127.0.0.1:{await closed_port()}"
    for scheme, trust in (("http", None), ("https", None), ("https", trusting(ca))):
        async with opened(f"{scheme}://{place}", trust) as transport:
            said = rf"Error: Cannot connect to host {place} \[Connect call failed"
            with pytest.raises(TransportError, match=said):
                await poll(transport)


async def test_what_was_not_sent_was_not_carried_out(
    leaf: trustme.LeafCert, silent: int
) -> None:
    """Refused, unknown, not trusted, no handshake: never a SubmitUncertainError."""
    refused = f"http://127.0.0.1:{await closed_port()}"
    async with opened(refused) as transport:
        with pytest.raises(TransportError, match="ClientConnectorError: ") as caught:
            await transport.send(submit("PUT"), TOKEN, uncertain=True)
        assert type(caught.value) is TransportError
        assert not caught.value.connected
    async with opened(f"https://127.0.0.1:{silent}", timeout=0.1) as transport:
        for request in (submit("PUT"), submit("GET")):
            with pytest.raises(RequestTimeoutError, match=r"within 0\.1 s") as late:
                await transport.send(request, TOKEN, uncertain=True)
            assert not late.value.connected
    async with RawServer(STALL, tls=serving(leaf)) as server:
        async with opened(server) as transport:
            with pytest.raises(CertificateError):
                await transport.send(submit("PUT"), TOKEN, uncertain=True)
        assert server.seen == []


async def test_a_host_that_nobody_knows_is_a_transport_error() -> None:
    """With the resolver's words."""
    async with opened("https://no-such.invalid") as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(submit(), TOKEN, uncertain=True)
    assert not isinstance(caught.value, SubmitUncertainError)
    assert caught.value.__context__ is None


# Trust


async def test_a_server_that_is_not_trusted_gets_no_request(
    leaf: trustme.LeafCert,
) -> None:
    """The error says what it showed and how to pin it."""
    async with RawServer(reply(RUNNING), tls=serving(leaf)) as server:
        async with opened(server) as transport:
            for failing in (poll(transport), transport.send(submit(), TOKEN)):
                with pytest.raises(CertificateError) as caught:
                    await failing
                error = caught.value
                assert error.fingerprint == pin_of(leaf)
                assert error.subject is not None
                assert "CN=em.example" in error.subject
                assert error.expires == "3000-01-01 00:00 UTC"
                assert f'fingerprint="{pin_of(leaf)}"' in str(error)
                assert "ClientConnectorCertificateError: unable to get" in str(error)
                assert (error.__cause__, error.__context__) == (None, None)
                assert not any(TOKEN in text for text in texts_of(error))
        assert server.seen == []


@pytest.mark.parametrize("how", ["context", "ca_file", "pin", "insecure"])
async def test_a_server_that_is_trusted_is_talked_to(
    how: str, ca: trustme.CA, leaf: trustme.LeafCert, tmp_path: object
) -> None:
    """By a context, a CA file, a pin, or with verification off."""
    path = f"{tmp_path}/ca.pem"
    ca.cert_pem.write_to_path(path)
    async with RawServer(reply(RUNNING), tls=serving(leaf)) as server:
        if how == "context":
            trust = trusting(ca)
        elif how == "insecure":
            trust = Trust(insecure=True)
        else:
            trust = make_trust(
                URL(server.url()),
                ssl=None,
                ca_file=path if how == "ca_file" else None,
                fingerprint=pin_of(leaf) if how == "pin" else None,
                insecure=False,
            )
        async with opened(server, trust, host="localhost") as transport:
            assert (await poll(transport)).body == RUNNING
            assert server.connections == 1


async def test_another_certificate_than_the_pinned_one_is_refused(
    ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """Though its chain is good; what it showed is told."""
    trust = Trust(fingerprint=b"\xab" * 32)
    async with RawServer(reply(RUNNING), tls=serving(leaf)) as server:
        async with opened(server, trust) as transport:
            with pytest.raises(CertificateError, match="not the one that is") as caught:
                await poll(transport)
        assert caught.value.fingerprint == pin_of(leaf)
        assert caught.value.expires == "3000-01-01 00:00 UTC"
        assert server.seen == []


async def test_a_pin_replaces_name_and_expiry(ca: trustme.CA) -> None:
    """A certificate that has long ended is fine if it is the one, for any host."""
    old = ca.issue_cert(
        "127.0.0.1",
        not_before=datetime(2019, 1, 1, tzinfo=UTC),
        not_after=datetime(2020, 1, 1, tzinfo=UTC),
    )
    async with RawServer(reply(RUNNING), tls=serving(old)) as server:
        pin = bytes.fromhex(pin_of(old).replace(":", ""))
        pinned = Trust(fingerprint=pin)
        async with opened(server, pinned, host="localhost") as transport:
            assert (await poll(transport)).status == 200
        async with opened(server, trusting(ca)) as transport:
            with pytest.raises(CertificateError, match="expired") as caught:
                await poll(transport)
        assert caught.value.expires == "2020-01-01 00:00 UTC"


async def test_a_certificate_for_another_host_is_refused(ca: trustme.CA) -> None:
    """Names are verified."""
    other = ca.issue_cert("elsewhere.example")
    async with RawServer(reply(RUNNING), tls=serving(other)) as server:
        async with opened(server, trusting(ca)) as transport:
            with pytest.raises(CertificateError, match="not valid for"):
                await poll(transport)
        assert server.seen == []


async def test_a_certificate_may_change_in_mid_watch(
    ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """The next connection is verified like the first; a pin then finds another."""
    context = serving(leaf)
    answers = ([reply(RUNNING), CLOSE], reply(RUNNING))
    async with RawServer(*answers, tls=context) as server:
        pin = bytes.fromhex(pin_of(leaf).replace(":", ""))
        async with opened(server, Trust(fingerprint=pin)) as transport:
            assert (await poll(transport)).status == 200
            ca.issue_cert("localhost").configure_cert(context)
            await server.all_gone()
            with pytest.raises(CertificateError):
                await poll(transport)


@asynccontextmanager
async def handshakes(
    *contexts: ssl.SSLContext, said: bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n"
) -> AsyncIterator[int]:
    """Give the port of a server that shows something else on each connection."""
    left = list(contexts)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if left:
            await writer.start_tls(left.pop(0))
            await reader.read()
        else:
            writer.write(said)

    async with TalkServer(speak) as server:
        yield server.port


async def test_a_certificate_error_stands_without_a_look(
    leaf: trustme.LeafCert,
) -> None:
    """If the look at the certificate fails, the rest is told all the same."""
    async with (
        handshakes(serving(leaf)) as port,
        opened(f"https://127.0.0.1:{port}") as transport,
    ):
        with pytest.raises(CertificateError, match=r"Name its CA") as caught:
            await poll(transport)
    assert caught.value.fingerprint is None


async def test_a_look_that_finds_another_certificate_is_not_told(
    ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """What the error tells is the certificate that was refused."""
    other = serving(ca.issue_cert("localhost"))
    async with (
        handshakes(serving(leaf), other, other) as port,
        opened(
            f"https://127.0.0.1:{port}", Trust(fingerprint=b"\xab" * 32)
        ) as transport,
    ):
        with pytest.raises(CertificateError) as caught:
            await poll(transport)
    assert caught.value.fingerprint == pin_of(leaf)
    assert caught.value.subject is None


async def test_a_port_without_tls_is_a_transport_error() -> None:
    """It is no matter of trust, and the error asks whether http:// is meant."""
    async with (
        handshakes() as port,
        opened(f"https://127.0.0.1:{port}") as transport,
    ):
        with pytest.raises(TransportError, match="SSLError: ") as caught:
            await transport.send(submit(), TOKEN, uncertain=True)
    assert type(caught.value) is TransportError
    assert "not speak TLS; is it another port, or is http:// meant?" in str(
        caught.value
    )


async def test_a_handshake_that_fails_otherwise_gets_no_advice() -> None:
    """A server that refuses in a TLS alert does speak TLS."""
    async with (
        handshakes(said=b"\x15\x03\x03\x00\x02\x02\x28") as port,
        opened(f"https://127.0.0.1:{port}") as transport,
    ):
        with pytest.raises(TransportError, match="SSLError: ") as caught:
            await transport.send(submit(), TOKEN, uncertain=True)
    assert "http://" not in str(caught.value)


# Time, cancellation, closing


@pytest.mark.parametrize(
    "answer", [STALL, [HEAD, STALL], [HEAD + b"Content-Length: 9\r\n\r\n<T", STALL]]
)
@pytest.mark.parametrize("secure", [False, True])
async def test_a_send_ends_in_time_and_cuts_its_connection(
    answer: Answer, secure: bool, ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """Whatever part of the reply does not come."""
    tls = serving(leaf) if secure else None
    async with RawServer(answer, tls=tls) as server:
        async with opened(server, trusting(ca), timeout=0.5) as transport:
            with pytest.raises(RequestTimeoutError, match=r"within 0\.5 s") as caught:
                await transport.send(submit(), TOKEN)
            assert transport.in_flight == 0
        assert caught.value.connected
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "answer", [STALL, [HEAD, STALL], [HEAD + b"Content-Length: 9\r\n\r\n<T", STALL]]
)
@pytest.mark.parametrize("how", ["poll", "send"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_cancelled_request_leaves_no_connection(
    answer: Answer, how: str, secure: bool, ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """Nor anything in flight; the transport goes on working."""
    tls = serving(leaf) if secure else None
    async with RawServer(answer, reply(RUNNING), tls=tls) as server:
        async with opened(server, trusting(ca)) as transport:
            async with anyio.create_task_group() as group:
                if how == "poll":
                    group.start_soon(poll, transport)
                else:
                    group.start_soon(transport.send, submit(), TOKEN)
                await server.arrived.wait()
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                assert transport.in_flight == 1
                group.cancel_scope.cancel()
            assert transport.in_flight == 0
            assert (await poll(transport)).body == RUNNING
        assert server.connections == 2


async def test_a_close_ends_what_is_under_way(
    ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """Whoever waits for a reply learns that the transport was closed."""
    async with RawServer(STALL, tls=serving(leaf)) as server:
        async with opened(server, trusting(ca)) as transport:

            async def wait() -> None:
                with pytest.raises(ClosedError, match="closed meanwhile"):
                    await poll(transport)

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await server.arrived.wait()
                await transport.aclose()
        assert server.open_connections == 0


async def test_a_transport_opens_and_closes_as_often_as_one_likes() -> None:
    """Opening twice or closing twice is nothing; a request in between is an error."""
    async with RawServer(reply(RUNNING)) as server, opened(server) as transport:
        await transport.open()
        assert (await poll(transport)).status == 200
        assert repr(transport) == (
            f"<Transport {server.url()}/api/ 0 in flight, 1 requests>"
        )
        for _ in range(2):
            await transport.aclose()
        assert "closed" in repr(transport)
        with pytest.raises(ClosedError, match="open it"):
            await poll(transport)
        with pytest.raises(ClosedError, match="open it"):
            await transport.send(submit(), TOKEN)
        await transport.open()
        assert (await poll(transport)).status == 200


# Errors of others


def test_every_error_of_aiohttp_is_mapped() -> None:
    """A new one fails here until someone has thought about it."""
    from veeam_tasks._transport.errors import _KINDS

    classes = {
        name: value
        for name, value in vars(aiohttp.client_exceptions).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == aiohttp.client_exceptions.__name__
    }
    del classes["ClientError"]  # the root of the others
    assert len(classes) > 20
    assert set(classes) <= set(_KINDS)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError("no"), TransportError, "OSError: no"),
        (TimeoutError(), TransportError, "TimeoutError"),
        (RuntimeError("gone"), TransportError, "RuntimeError: gone"),
        (ssl.SSLError(1, "bad"), TransportError, "SSLError: "),
        (
            ssl.SSLCertVerificationError(1, "bad"),
            CertificateError,
            "SSLCertVerificationError: ",
        ),
        (ValueError("odd"), MalformedReplyError, "ValueError: odd"),
        (KeyError("odd"), MalformedReplyError, "KeyError: "),
        (aiohttp.InvalidURL("x"), TransportError, "InvalidURL: x"),
        (aiohttp.ClientError("odd"), MalformedReplyError, "ClientError: odd"),
        (
            aiohttp.ServerTimeoutError("late"),
            TransportError,
            "ServerTimeoutError: late",
        ),
    ],
)
def test_other_errors_are_ours_too(
    error: Exception, kind: type[VeeamTasksError], words: str
) -> None:
    """The system's are about the way, a parser's about the reply."""
    assert error_class(error) is kind
    assert ": ".join(filter(None, describe(error))).startswith(words)


async def test_no_error_holds_a_secret_path() -> None:
    """A log-out has the session ID in its path: what is shown is another one."""
    request = Request(
        method="DELETE",
        path="logonSessions/11112222-planted",
        shown="logonSessions/[hidden]",
    )
    answers: list[Answer] = [RESET, b"x\r\n\r\n", STALL]
    for answer in answers:
        async with (
            RawServer(answer) as server,
            opened(server, timeout=0.5, secrets=Secrets()) as transport,
        ):
            for uncertain in (False, True):
                with pytest.raises(VeeamTasksError) as caught:
                    await transport.send(request, TOKEN, uncertain=uncertain)
                texts = list(texts_of(caught.value))
                assert not any("planted" in text for text in texts)
                assert not any(TOKEN in text for text in texts)
                assert any("logonSessions/[hidden]" in text for text in texts)


# Proxies


async def test_a_proxy_is_used_when_it_is_given() -> None:
    """It is asked for the whole URL, and told no more than it needs."""
    async with (
        RawServer(reply(RUNNING)) as proxy,
        opened("http://em.example", proxy=proxy.url()) as transport,
    ):
        assert (await poll(transport)).body == RUNNING
        assert (await transport.send(submit(), TOKEN)).body == RUNNING
    targets = [seen.target for seen in proxy.seen]
    assert targets == [
        "http://em.example:9399/api/tasks/task-7",
        "http://em.example:9399/api/jobs/b04c?action=start",
    ]


async def test_a_proxy_that_refuses_is_a_transport_error() -> None:
    """Nothing was sent to the server; the proxy's password is not shown."""
    refusal = b"HTTP/1.1 407 Log on 'there'\r\nContent-Length: 0\r\n\r\n"
    async with RawServer(refusal) as proxy:
        url = proxy.url().replace("//", "//me:hunter22@")
        secrets = Secrets()
        async with opened(
            "https://em.example", proxy=url, secrets=secrets
        ) as transport:
            with pytest.raises(TransportError, match="proxy answered 407") as caught:
                await transport.send(submit(), TOKEN, uncertain=True)
        assert type(caught.value) is TransportError
        assert "hunter22" not in str(caught.value)
        assert secrets.hide("hunter22") == "[hidden]"
        [seen] = proxy.seen
        assert (seen.method, seen.target) == ("CONNECT", "em.example:9398")
        assert seen.header("Proxy-Authorization") is not None
        assert seen.header("X-RestSvcSessionId") is None


async def test_behind_a_proxy_no_look_is_taken(
    ca: trustme.CA, leaf: trustme.LeafCert
) -> None:
    """It would go past the proxy; the error stands as it is."""
    context = serving(leaf)

    async def tunnel(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.start_tls(context)

    async with (
        RawServer([tunnel, STALL]) as proxy,
        opened("https://em.example", proxy=proxy.url()) as transport,
    ):
        with pytest.raises(CertificateError, match="Name its CA"):
            await poll(transport)
    assert len(proxy.seen) == 1
