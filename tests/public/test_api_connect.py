"""`connect` and `adopt`, their logons, and the loops that a manager lives in."""

import asyncio
import base64
import copy
import gc
import importlib.util
import pickle
import ssl
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import anyio
import pytest
from support.managers import WIRES, Wire, direct, door, settings_for
from support.raw_server import CLOSE, RawServer

from veeam_tasks import (
    CertificateError,
    LogonError,
    MalformedReplyError,
    Notice,
    SessionManager,
    TransportError,
    WatchTimeoutError,
    adopt,
    connect,
)
from veeam_tasks._options.keywords import Options
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time

URL = "https://em.example:9398"
GUID = "b04c217b-0538-4650-bec4-19deff4ea1ac"
Ask = Callable[[SessionManager], Awaitable[object]]
ASKS = pytest.mark.parametrize(
    "ask",
    [lambda em: em.fetch_all(), lambda em: em.wait("task-1")],
    ids=["call", "watch"],
)


async def test_connect_awaited_and_entered(wire: Wire) -> None:
    """`connect` is both awaitable and an async context manager."""
    async with wire.server() as server:
        em = await door(server, **wire.options())
        assert isinstance(em, SessionManager)
        assert em.token
        assert em.session_id
        assert em.url == f"{server.url}/api/"
        await em.aclose()
        async with door(server, **wire.options()) as other:
            assert len(server.logon_sessions) == 1
            assert isinstance(other, SessionManager)
        assert server.logon_sessions == []
        assert server.connections.open == 0


async def test_direct_construction(wire: Wire) -> None:
    """`SessionManager` may be built directly and opened by `async with` or `open()`."""
    async with wire.server() as server:
        em = direct(server, **wire.options())
        assert "not open" in repr(em)
        assert await em.open() is em
        assert await em.open() is em
        assert len(server.logons) == 1
        await em.aclose()
        async with direct(server, **wire.options()) as other:
            assert other.token


def test_unawaited_connect_says_so() -> None:
    """Unawaited, its `repr` says "not logged on: await it"."""
    unawaited = connect("https://em.example", username="u", password="hunter22")
    assert "not logged on: await it" in repr(unawaited)
    assert "hunter22" not in repr(unawaited)
    adopted = adopt("https://em.example", "dG9rZW4tdG9rZW4=")
    assert "dG9rZW4" not in repr(adopted)


@pytest.mark.parametrize(
    "way",
    [
        lambda **trust: connect(URL, username="u", password="hunter22", **trust),
        lambda **trust: adopt(URL, "dG9rZW4tdG9rZW4=", **trust),
        lambda **trust: SessionManager(URL, username="u", password="pw", **trust),
    ],
    ids=["connect", "adopt", "SessionManager"],
)
def test_a_warning_names_the_callers_line(way: Callable[..., object]) -> None:
    """`insecure` warns, and the warning points at the line that asked for it."""
    with pytest.warns(UserWarning, match="insecure=True") as caught:
        way(insecure=True)
    (warning,) = caught
    line = way.__code__
    assert (warning.filename, warning.lineno) == (line.co_filename, line.co_firstlineno)


async def test_adopt(wire: Wire) -> None:
    """`adopt` uses someone else's logon session and never logs it out."""
    async with wire.server() as server:
        first = await door(server, **wire.options())
        task = server.add_task("Running 3s, Finished ok").task_id
        await first.aclose(log_out=False)
        token, session_id = first.token, first.session_id
        assert token
        assert session_id
        options = settings_for(server, wire.options())
        async with adopt(server.url, token, session_id=session_id, **options) as em:
            assert (await em.wait(task)).succeeded
            assert (em.token, em.session_id) == (token, session_id)
            for secret in (token, session_id):
                assert secret not in repr(em)
        assert len(server.logon_sessions) == 1
        assert len(server.logons) == 1


@ASKS
async def test_dead_adopted_token(ask: Ask, wire: Wire) -> None:
    """A refused token is a `LogonError` that says so; nobody logs on anew."""
    token = base64.b64encode(b"7d3bd4ca-99b5-4b3e-8c5b-0f30fd4dd6d8").decode()
    async with (
        wire.server() as server,
        adopt(server.url, token, **settings_for(server, wire.options())) as em,
    ):
        for again in (ask, lambda em: em.fetch("task-1")):
            with pytest.raises(LogonError, match="adopted token is refused") as caught:
                await again(em)
            assert token not in str(caught.value)
        with pytest.raises(LogonError):
            em.watch("task-1")
        assert len(server.logons) == 0


@pytest.mark.parametrize("wrong", ["", "a b", "tök", "a\nb"])
def test_adopt_checks_its_words(wrong: str) -> None:
    """What cannot stand in a header is refused without being repeated."""
    with pytest.raises(ValueError, match="token is empty or has"):
        adopt("https://em", wrong)
    with pytest.raises(ValueError, match="session_id is empty or has"):
        adopt("https://em", "abc", session_id=wrong)
    with pytest.raises(TypeError, match="token must be a string"):
        adopt("https://em", None)  # type: ignore[arg-type] # the point


def by_context(server: SimulatedServer) -> Options:
    """Trust by a context of one's own."""
    return {"ssl": ssl.create_default_context(cafile=server.ca_file), "ca_file": None}


def by_ca_file(server: SimulatedServer) -> Options:
    """Trust by a file of CAs."""
    return {"ca_file": Path(server.ca_file)}


def by_pin(server: SimulatedServer) -> Options:
    """Trust by the SHA-256 of the server's own certificate."""
    return {"fingerprint": server.fingerprint, "ca_file": None}


def by_pin_with_colons(server: SimulatedServer) -> Options:
    """Trust by the same, as people copy it."""
    unchanged_hash = bytes.fromhex(server.fingerprint.replace(":", ""))
    return {"fingerprint": unchanged_hash.hex(":"), "ca_file": None}


def by_long_ca_file(server: SimulatedServer) -> Options:
    """Trust by a bundle of CAs, which is read in a thread."""
    pem = Path(server.ca_file).read_text(encoding="ascii")
    bundle = Path(server.ca_file).with_suffix(".bundle")
    bundle.write_text(pem * (40_000 // len(pem) + 1), encoding="ascii")
    return {"ca_file": bundle}


@pytest.mark.parametrize(
    "trust",
    [by_context, by_ca_file, by_long_ca_file, by_pin, by_pin_with_colons],
)
async def test_trust(trust: Callable[[SimulatedServer], Options]) -> None:
    """Trust, at most one of: `ssl`, `ca_file`, `fingerprint`; none is the system's."""
    async with SimulatedServer(tls=True) as server:
        async with door(server, **trust(server)) as em:
            assert await em.fetch_all() == []
        # asyncio's server reports each handshake that a client refuses.
        asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
        asked = server.requests.total
        with pytest.raises(CertificateError):
            await door(server, ca_file=None)
        past = datetime.now(UTC) - timedelta(days=1)
        options = trust(server)
        server.change_certificate(new_ca=True, expires=past)
        with pytest.raises(CertificateError):
            await door(server, **options)
        assert server.requests.total == asked
        # A pin replaces the checks of chain, name and expiry.
        pin: Options = {"fingerprint": server.fingerprint, "ca_file": None}
        async with door(server, **pin) as em:
            assert await em.fetch_all() == []


async def test_insecure_warns_and_trusts_any_server() -> None:
    """`insecure=True`: the one way to switch verification off; warns."""
    async with SimulatedServer(tls=True) as server:
        with pytest.warns(UserWarning, match="not verified"):
            unopened = door(server, insecure=True, ca_file=None)
        async with unopened as em:
            assert await em.fetch_all() == []


@pytest.mark.parametrize("version", ["latest", "v1_7"])
@pytest.mark.parametrize("accept", ["xml", "json"])
async def test_version_and_format_are_asked_for(
    version: str, accept: Literal["xml", "json"]
) -> None:
    """`api_version` is the `v=` of the logon, `accept` what is asked for."""
    async with SimulatedServer() as server:
        async with door(server, api_version=version, accept=accept) as em:
            await em.wait(server.add_task("Finished ok").task_id)
            await em.fetch_all()
        assert server.requests[0].parameters == {"v": version}
        asked = {record.header("Accept") for record in server.requests}
        assert asked == {f"application/{accept}"}


@pytest.mark.parametrize("most", [1, 3, 16])
async def test_max_in_flight(most: int) -> None:
    """`max_in_flight=16`: so many polls under way at once, over as many connections."""
    option: Options = {"coalesce": "never"}
    if most != 16:
        option["max_in_flight"] = most
    async with SimulatedServer() as server, door(server, **option) as em:
        server.faults.add(Fault("delay", seconds=2, path="tasks"))
        ids = [server.add_task("Finished ok").task_id for _ in range(40)]
        watch = em.watch(ids)
        seen = set()
        while watch.report.unfinished:
            await anyio.sleep(0.5)
            seen.add(em.statistics().in_flight)
        assert max(seen) == most
        assert server.connections.open <= most + 1


async def test_max_reply_bytes(wire: Wire) -> None:
    """`max_reply_bytes`: a longer reply is no usable one; it is cut."""
    async with wire.server() as server:
        async with door(server, **wire.options(max_reply_bytes=8000)) as em:
            task = server.add_task("Running").task_id
            assert (await em.fetch(task)).task_id == task
            for _ in range(40):
                server.add_task("Running")
            with pytest.raises(MalformedReplyError, match="8000"):
                await em.fetch_all()
        async with door(server, **wire.options()) as em:
            huge = "x" * (1 << 20)
            task = server.add_task("Finished ok", message=huge).task_id
            with pytest.raises(MalformedReplyError):
                await em.fetch(task)
            if wire.coalesce == "never":
                with pytest.raises(WatchTimeoutError) as caught:
                    await em.wait(task, timeout=5)
                assert caught.value.report.outcomes[task] is None
            (one,) = await em.fetch_all()
            assert one.result is not None
            assert one.result.message


async def test_proxy() -> None:
    """`proxy`: the requests go there, with the whole URL."""
    async with RawServer(CLOSE) as proxy:
        with pytest.raises(TransportError):
            await connect(
                "http://127.0.0.1:9", username="u", password="p", proxy=proxy.url()
            )
        (seen,) = proxy.seen
        assert seen.target == "http://127.0.0.1:9/api/sessionMngr/?v=latest"


@pytest.mark.parametrize(
    ("username", "password", "kind"),
    [
        (7, "p", TypeError),
        ("", "p", ValueError),
        ("a:b", "p", ValueError),
        ("a\n", "p", ValueError),
        ("u", 7, TypeError),
        ("u", None, TypeError),
        ("u", "half\ud800", ValueError),
    ],
)
def test_account_is_checked(
    username: str, password: str, kind: type[Exception]
) -> None:
    """Wrong accounts raise before anything is sent, without the password."""
    with pytest.raises(kind) as caught:
        connect("https://em", username=username, password=password)
    assert "half" not in str(caught.value)


async def test_password_callables(wire: Wire) -> None:
    """`password` may be a callable, plain or async, asked anew at each logon."""
    async with wire.server() as server:
        asked: list[str] = []

        def plain() -> str:
            asked.append("plain")
            return server.password

        async def slow() -> str:
            await anyio.sleep(5)
            asked.append("async")
            return server.password

        for password in (plain, slow):
            options = settings_for(server, wire.options())
            async with connect(
                server.url, username=server.username, password=password, **options
            ) as em:
                await em.fetch_all()
                server.expire_logon_sessions()
                server.change_password(f"new-{len(asked)}")
                await em.fetch_all()
                assert em.statistics().renewals == 1
        assert asked == ["plain", "plain", "async", "async"]


def _raising() -> str:
    text = "the vault says hunter22"
    raise RuntimeError(text)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        (_raising, "raised RuntimeError"),
        (lambda: None, "returned no string but of the type NoneType"),
        (lambda: "half\ud800", "returned no text"),
    ],
)
async def test_password_callable_that_fails(
    password: Callable[[], str], said: str
) -> None:
    """What the callable raises is told by its kind alone: its words may be secret."""
    async with SimulatedServer() as server:
        with pytest.raises(TransportError, match=said) as caught:
            await connect(server.url, username="u", password=password)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert "hunter22" not in repr(caught.value)
        assert server.requests.total == 0


async def test_refused_logon_is_final(wire: Wire) -> None:
    """After a refused logon every call raises it without asking, until `open()`."""
    async with wire.server() as server:
        em = direct(server, **wire.options())
        server.change_password("another-one")
        with pytest.raises(LogonError):
            await em.open()
        asked = server.requests.total
        for attempt in (em.fetch_all, lambda: em.fetch("task-1")):
            with pytest.raises(LogonError):
                await attempt()
        with pytest.raises(LogonError):
            em.watch("task-1")
        assert server.requests.total == asked
        assert "logon refused" in repr(em)
        with pytest.raises(LogonError):
            await em.open()
        assert len(server.logons) == 2
        await em.aclose()


@ASKS
async def test_token_never_accepted_is_not_renewed(ask: Ask, wire: Wire) -> None:
    """A token that is refused before it was ever accepted is not renewed."""
    async with wire.server() as server:
        server.faults.add(Fault("unauthorized", method="GET"))
        async with door(server, **wire.options()) as em:
            with pytest.raises(LogonError, match="refused its own token"):
                await ask(em)
            with pytest.raises(LogonError):
                await em.fetch_all()
        assert len(server.logons) == 1


async def test_on_notice(wire: Wire) -> None:
    """`on_notice` is told; what it raises is logged and harms nothing."""
    told: list[Notice] = []

    def on_notice(notice: Notice) -> None:
        told.append(notice)
        text = "no printer"
        raise OSError(text)

    async with wire.server() as server:
        task = server.add_task("Running 60s, Finished ok").task_id
        async with door(server, **wire.options(on_notice=on_notice)) as em:
            waiting = asyncio.create_task(em.wait(task))
            await anyio.sleep(5)
            server.expire_logon_sessions(keep_tasks=True)
            await anyio.sleep(5)
            await server.pause()
            await anyio.sleep(20)
            await server.resume()
            assert (await waiting).succeeded
    kinds = [str(notice.kind) for notice in told]
    assert kinds == ["logged_on", "renewed", "unreachable", "recovered", "logged_out"]
    assert told[1].task_ids == told[2].task_ids == (task,)
    assert all(notice.at.tzinfo is not None for notice in told)


async def _whole(server: SimulatedServer, wire: Wire) -> None:
    task = server.add_task("Running 100ms, Finished ok").task_id
    async with door(server, **wire.options()) as em, em.watch(task) as watch:
        assert (await watch.wait()).succeeded == (task,)
        assert (await em.wait(task)).succeeded
        assert (await em.submit(f"jobs/{GUID}?action=start")).task_id


@pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
)
@pytest.mark.parametrize("wire", WIRES[1:4], ids=str)
def test_uvloop(wire: Wire) -> None:
    """Uvloop works."""

    async def main() -> None:
        assert "uvloop" in type(asyncio.get_running_loop()).__module__
        async with wire.server(speed=10) as server:
            await _whole(server, wire)

    anyio.run(main, backend_options={"use_uvloop": True})


@pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
)
@pytest.mark.parametrize("mode", ["never", "auto", "always"])
def test_many_tasks_on_uvloop(mode: str) -> None:
    """Its timers say less than asyncio's; however tasks are asked for, all are told."""

    async def main() -> None:
        async with (
            SimulatedServer(speed=10) as server,
            door(server, coalesce=mode) as em,
        ):
            ids = [
                server.add_task("Running 9s, Finished ok").task_id for _ in range(50)
            ]
            watches = [em.watch(ids[:25]), em.watch(ids[25:])]
            for watch in watches:
                assert len((await watch.wait()).succeeded) == 25

    anyio.run(main, backend_options={"use_uvloop": True})


# uvloop passes its factory an argument that asyncio's takes since 3.13.3 only.
@pytest.mark.asyncio_loop
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_eager_task_factory(wire: Wire) -> None:
    """Eager task factories work."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
        assert loop.get_task_factory() is asyncio.eager_task_factory
    async with wire.server() as server:
        await _whole(server, wire)


async def test_manager_that_is_forgotten_warns() -> None:
    """An owner left open warns at once with `ResourceWarning`, logs out and stops."""
    async with SimulatedServer() as server:
        kept = [await door(server)]
        with pytest.warns(ResourceWarning, match="was left open: use 'async with'"):
            kept.clear()
        await anyio.sleep(1)
        assert server.logon_sessions == []
        assert server.connections.open == 0


def pickled(value: object) -> object:
    """Go through pickle, as a process pool does."""
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
async def test_an_owner_has_no_copy(again: Callable[[object], object]) -> None:
    """A copy or pickle of a manager, a watch or a door is a TypeError in plain words.

    What is dropped of the attempt does not close the original.
    """
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("Running 5s, Finished ok").task_id
        watch = em.watch(task)
        async with adopt(server.url, em.token or "") as adopted:
            for owner, said in (
                (em, "a SessionManager holds connections"),
                (adopted, "a SessionManager holds connections"),
                (watch, "a Watch is bound to its manager"),
                (door(server), "what connect() and adopt() return"),
            ):
                with pytest.raises(
                    TypeError, match="cannot be copied or pickled: "
                ) as no:
                    again(owner)
                assert str(no.value).startswith(said)
        gc.collect()
        assert (await watch.wait()).succeeded == (task,)
        assert pickled(watch.report) == watch.report
