"""Trust: what may be named at once, and the look at a server's certificate."""

import asyncio
import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
import trustme
from support.raw_server import RawServer, TalkServer, pin_of, reply, serving
from yarl import URL

from veeam_tasks._errors import RequestTimeoutError, TransportError
from veeam_tasks._transport.trust import Trust, inspect_certificate, make_trust

HTTPS = URL("https://em.example:9398/api/")
HTTP = URL("http://localhost:9399/api/")
PIN = ":".join(["AB", "cd", "EF", "01"] * 8)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Return a throw-away CA."""
    return trustme.CA(organization_name="Backup", organization_unit_name="CA")


def trust(
    url: URL = HTTPS,
    *,
    ssl: ssl.SSLContext | None = None,
    ca_file: "str | os.PathLike[str] | None" = None,
    fingerprint: str | None = None,
    insecure: bool = False,
) -> Trust:
    """Call `make_trust` with the defaults of `connect`."""
    return make_trust(
        url, ssl=ssl, ca_file=ca_file, fingerprint=fingerprint, insecure=insecure
    )


def test_nothing_said_is_the_systems_trust() -> None:
    """No context of our own, no pin, nothing switched off."""
    assert trust() == Trust()
    assert trust(HTTP) == Trust()


def test_a_context_is_used_as_it_is() -> None:
    """The caller's own context is neither copied nor changed."""
    context = ssl.create_default_context()
    assert trust(ssl=context).context is context


async def test_a_long_ca_file_is_read_beside_the_loop(
    ca: trustme.CA, tmp_path: Path
) -> None:
    """A bundle takes a thread; what has no certificate at all is told at once."""
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(ca.cert_pem.bytes() * 100)
    named = trust(ca_file=bundle)
    assert named.context is None
    read = asyncio.create_task(named.make_context())
    steps = 0
    while not read.done():
        steps += 1
        await asyncio.sleep(0)
    assert steps > 3
    context = await read
    assert context is not None
    assert len(context.get_ca_certs()) == 1

    broken = ca.cert_pem.bytes().replace(b"\nM", b"\n*", 1)
    bundle.write_bytes(broken + ca.cert_pem.bytes() * 100)
    with pytest.raises(ValueError, match=r"ca\.pem holds no certificate in PEM form"):
        await trust(ca_file=bundle).make_context()
    bundle.write_bytes(b"no certificate\n" * 10_000)
    with pytest.raises(ValueError, match=r"ca\.pem holds no certificate in PEM form"):
        trust(ca_file=bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that hangs")
async def test_a_ca_file_that_hangs_holds_no_cancellation_up(tmp_path: Path) -> None:
    """A dead network drive keeps its thread, and nobody who has given up."""
    fifo = tmp_path / "ca.pem"
    os.mkfifo(fifo)
    given_up, ended = anyio.CancelScope(), anyio.Event()

    async def read() -> None:
        with given_up:
            await Trust(ca_file=str(fifo)).make_context()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        given_up.cancel()
        await anyio.wait_all_tasks_blocked()
        is_ended = ended.is_set()
        fifo.open("wb").close()  # and so the thread: it is no certificate
    assert is_ended


def test_a_context_that_verifies_nothing_warns() -> None:
    """It is taken, with the warning of `insecure` and what to pass instead."""
    context = ssl.create_default_context()
    context.check_hostname = False
    assert trust(ssl=context).context is context  # a chain is verified: no warning
    context.verify_mode = ssl.CERT_NONE
    with pytest.warns(UserWarning, match="verifies nothing .* pass ca_file= or finger"):
        assert trust(ssl=context).context is context


@pytest.mark.parametrize("context", [True, "ca.pem", 0])
def test_ssl_must_be_a_context(context: object) -> None:
    """Anything else is a TypeError."""
    with pytest.raises(TypeError, match=r"ssl must be an ssl\.SSLContext"):
        trust(ssl=context)  # type: ignore[arg-type]


def test_at_most_one_of_the_four_is_given(tmp_path: Path) -> None:
    """Any two of them are a ValueError that names both."""
    context = ssl.create_default_context()
    with pytest.raises(ValueError, match="ssl, fingerprint: pass one of them"):
        trust(ssl=context, fingerprint=PIN)
    with pytest.raises(ValueError, match="ca_file, fingerprint: pass one"):
        trust(ca_file=tmp_path / "ca.pem", fingerprint=PIN)
    with pytest.raises(ValueError, match="fingerprint, insecure: pass one"):
        trust(fingerprint=PIN, insecure=True)


def test_trust_has_no_meaning_without_tls(tmp_path: Path) -> None:
    """They would be ignored in silence by aiohttp, so they are refused."""
    with pytest.raises(ValueError, match="fingerprint= has no meaning for http"):
        trust(HTTP, fingerprint=PIN)
    with pytest.raises(ValueError, match="ca_file= has no meaning for http"):
        trust(HTTP, ca_file=tmp_path)
    with pytest.raises(ValueError, match="ssl= has no meaning for http"):
        trust(HTTP, ssl=ssl.create_default_context())


def test_insecure_warns() -> None:
    """Verification is never off in silence."""
    with pytest.warns(UserWarning, match="not verified"):
        assert trust(insecure=True) == Trust(insecure=True)


@pytest.mark.parametrize(
    "written", [PIN, PIN.replace(":", ""), PIN.lower(), f" {PIN.upper()} "]
)
def test_a_fingerprint_is_hex_with_or_without_colons(written: str) -> None:
    """In any case, as people copy it."""
    assert trust(fingerprint=written).fingerprint == bytes.fromhex("abcdef01" * 8)


@pytest.mark.parametrize("written", ["", "AB:CD", "zz" * 32, "٣" * 64, PIN + ":00"])
def test_a_fingerprint_that_is_no_sha256_is_refused(written: str) -> None:
    """SHA-1 and MD5 among them."""
    with pytest.raises(ValueError, match="64 hex digits"):
        trust(fingerprint=written)


def test_a_fingerprint_must_be_a_string() -> None:
    """Bytes are not guessed at."""
    with pytest.raises(TypeError, match="must be a string, not bytes"):
        trust(fingerprint=b"\xab" * 32)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, "", "no certificate", "directory"])
def test_a_ca_file_that_cannot_be_used_is_refused(
    content: str | None, tmp_path: Path
) -> None:
    """Missing, empty, not PEM, a folder: a ValueError before anything is sent."""
    path = tmp_path / "ca.pem"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"ca_file: .*ca\.pem holds no") as caught:
        trust(ca_file=str(path))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("path", ["", "\0", "\ud800"])
def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    """The empty one is no ".", and what the system cannot take is told in our words."""
    with pytest.raises(ValueError, match=r"ca_file.* in PEM form") as caught:
        trust(ca_file=path)
    assert str(caught.value).isprintable()
    assert caught.value.__context__ is None


@pytest.mark.parametrize("path", [5, b"ca.pem", True])
def test_a_ca_file_must_be_a_path(path: object) -> None:
    """Anything else is a TypeError that names the argument."""
    with pytest.raises(TypeError, match="ca_file must be the path of a file, not "):
        trust(ca_file=path)  # type: ignore[arg-type]


def test_a_ca_file_is_trusted_as_it_is(ca: trustme.CA, tmp_path: Path) -> None:
    """Names are verified; chains need not end in a root, nor please Python 3.13."""
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    context = trust(ca_file=path).context
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert len(context.get_ca_certs()) == 1


def test_with_a_ca_file_the_server_is_told_that_this_is_http_1_1(
    ca: trustme.CA, tmp_path: Path
) -> None:
    """As without one: what speaks several protocols would else have to guess."""
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    context = trust(ca_file=path).context
    assert context is not None
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("em.example").configure_cert(theirs)
    theirs.set_alpn_protocols(["h2", "http/1.1"])
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up, server_hostname="em.example")
    server = theirs.wrap_bio(up, down, server_side=True)
    for _ in range(2):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert server.selected_alpn_protocol() == "http/1.1"


async def test_a_look_at_a_certificate_sends_no_request(ca: trustme.CA) -> None:
    """It gives everything that the certificate says, though no one vouches for it."""
    leaf = ca.issue_cert(
        "localhost",
        "127.0.0.1",
        common_name="em\x07.example",
        organization_name="Example",
        not_before=datetime(2020, 1, 2, tzinfo=UTC),
        not_after=datetime(2099, 3, 4, 5, 6, 7, tzinfo=UTC),
    )
    async with RawServer(reply(), tls=serving(leaf)) as server:
        found = await inspect_certificate("localhost", server.port)
        await server.all_gone()
        assert server.seen == []
        assert server.connections == 2
    assert found.fingerprint == pin_of(leaf)
    assert found.fingerprint.count(":") == 31
    assert found.subject is not None
    assert "CN=em\\x07.example" in found.subject
    assert "O=Example" in found.subject
    assert found.issuer is not None
    assert "O=Backup" in found.issuer
    assert found.not_before == datetime(2020, 1, 2, tzinfo=UTC)
    assert found.not_after == datetime(2099, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert found.names == ("localhost", "127.0.0.1")


async def test_an_expired_certificate_says_when_it_ended(ca: trustme.CA) -> None:
    """It is the one that people want to see most."""
    leaf = ca.issue_cert(
        "localhost",
        not_before=datetime(2019, 1, 1, tzinfo=UTC),
        not_after=datetime(2020, 1, 1, tzinfo=UTC),
    )
    async with RawServer(reply(), tls=serving(leaf)) as server:
        found = await inspect_certificate("127.0.0.1", server.port)
    assert found.not_after == datetime(2020, 1, 1, tzinfo=UTC)
    assert found.fingerprint == pin_of(leaf)


async def test_a_certificate_without_names_has_none(ca: trustme.CA) -> None:
    """Old ones carry a common name only."""
    leaf = ca.issue_cert(common_name="em.example")
    async with RawServer(reply(), tls=serving(leaf)) as server:
        found = await inspect_certificate("localhost", server.port)
    assert found.names == ()


async def test_the_fingerprint_is_given_when_the_second_handshake_fails(
    ca: trustme.CA,
) -> None:
    """Then it is all that is known: behind one name there may be many servers."""
    first, other = ca.issue_cert("localhost"), ca.issue_cert("localhost")
    context = serving(first)
    shown = iter([first, other])

    def choose(
        sock: ssl.SSLSocket | ssl.SSLObject, name: str, _: ssl.SSLContext
    ) -> None:
        sock.context = serving(next(shown))

    context.sni_callback = choose  # type: ignore[assignment] # typeshed has int | None
    async with RawServer(reply(), tls=context) as server:
        found = await inspect_certificate("localhost", server.port)
    assert found.fingerprint == pin_of(first)
    assert (found.subject, found.not_after) == (None, None)


async def test_a_port_without_tls_cannot_be_looked_at() -> None:
    """It is a TransportError with the TLS library's words."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with TalkServer(speak) as server:
        port = server.port
        with pytest.raises(TransportError, match="SSLError: ") as caught:
            await inspect_certificate("127.0.0.1", port)
    assert caught.value.__context__ is None
    with pytest.raises(TransportError, match="ConnectionRefusedError"):
        await inspect_certificate("127.0.0.1", port)


@pytest.mark.virtual_time
@pytest.mark.parametrize(("seconds", "told"), [({"seconds": 0.05}, "0.05"), ({}, "10")])
async def test_a_look_does_not_wait_for_ever(
    seconds: dict[str, float], told: str
) -> None:
    """A server that says nothing is a timeout, after ten seconds if none are named."""

    async def stay(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with TalkServer(stay) as server:
        with pytest.raises(RequestTimeoutError, match=f"no answer in {told} s"):
            await inspect_certificate("127.0.0.1", server.port, **seconds)
        assert server.connections == 1
        await server.all_gone()
