"""Errors tell in typed fields what a program would else read out of their text."""

import asyncio
import copy
import inspect
import pickle
import re
import socket
import ssl
from contextlib import suppress
from typing import Any, get_args

import aiohttp
import pytest
from support.raw_server import TalkServer

import veeam_tasks as vt
from veeam_tasks._errors import TransportKind
from veeam_tasks._transport.errors import DisconnectedError, transport_kind
from veeam_tasks.simulator import Fault, SimulatedServer

URL = "https://em.example"
ACCOUNT = {"username": "u", "password": "p"}


def test_the_kinds_of_no_reply_are_told_where_an_editor_looks() -> None:
    """Whoever writes words of his own finds them all in the class's text."""
    told = re.findall(r'``"(\w+)"``', inspect.getdoc(vt.TransportError) or "")
    assert told == list(get_args(TransportKind))


@pytest.mark.parametrize(
    ("wrong", "parameter", "others"),
    [
        ({"url": "em.example"}, "url", ()),
        ({"url": "https://u:p@em.example"}, "url", ()),
        ({"url": "http://em.example"}, "url", ()),
        ({"url": "https://em.example:0"}, "url", ()),
        ({"username": "a:b"}, "username", ()),
        ({"password": "\ud800"}, "password", ()),
        ({"ca_file": "/nonexistent"}, "ca_file", ()),
        ({"fingerprint": "ab"}, "fingerprint", ()),
        ({"fingerprint": "ab" * 32, "insecure": True}, "fingerprint", ("insecure",)),
        ({"url": "http://127.0.0.1", "ca_file": "x"}, "ca_file", ()),
        ({"api_version": "7"}, "api_version", ()),
        ({"accept": "yaml"}, "accept", ()),
        ({"request_timeout": 0}, "request_timeout", ()),
        ({"patience": -1}, "patience", ()),
        ({"max_in_flight": 0}, "max_in_flight", ()),
        ({"proxy": "nonsense"}, "proxy", ()),
    ],
    ids=ascii,
)
def test_a_wrong_argument_is_named(
    wrong: dict[str, Any], parameter: str, others: tuple[str, ...]
) -> None:
    """A ValueError of a wrong argument names it, and what it contradicts."""
    with pytest.raises(vt.ArgumentError) as caught:
        vt.SessionManager(**{"url": URL, **ACCOUNT, **wrong})
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.parameter, error.others) == (parameter, others)
    assert error.problem in str(error)
    assert error.advice in str(error)


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [
        ({"first": 0}, "first"),
        ({"growth": 0.5}, "growth"),
        ({"longest": 601}, "longest"),
        ({"first": 2, "longest": 1}, "longest"),
        ({"jitter": 1}, "jitter"),
        ({"jitter": float("nan")}, "jitter"),
    ],
)
def test_a_wrong_pace_names_its_number(wrong: dict[str, float], parameter: str) -> None:
    """So does a pace."""
    with pytest.raises(vt.ArgumentError) as caught:
        vt.Pace(**wrong)
    assert caught.value.parameter == parameter


def test_an_argument_error_can_be_copied() -> None:
    """It survives a copy and a pickle with its fields."""
    with pytest.raises(vt.ArgumentError) as caught:
        vt.SessionManager(URL, username="u", password="p", patience=0)
    for again in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert str(again) == str(caught.value)
        assert (again.parameter, again.shown) == ("patience", "0")


async def test_what_was_asked_of_a_manager_is_named() -> None:
    """The method of an action, its path, a task and a timeout."""
    manager = vt.SessionManager(URL, username="u", password="p")
    with pytest.raises(vt.ArgumentError) as caught:
        await manager.submit("jobs/1", method="GET")
    assert caught.value.parameter == "method"
    for path in ("../x", "https://other.example/api/jobs/1"):
        with pytest.raises(vt.ArgumentError) as caught:
            await manager.submit(path)
        assert caught.value.parameter == "path"
    with pytest.raises(vt.ArgumentError) as caught:
        await manager.fetch("frob")
    assert caught.value.parameter == "task"
    with pytest.raises(vt.ArgumentError) as caught:
        manager.watch("task-1", timeout=-1)
    assert caught.value.parameter == "timeout"


def connect(url: str, **options: Any) -> Any:
    """Return what logs on there."""
    return vt.connect(url, username="u", password="p", request_timeout=5, **options)


async def refusal(url: str, **options: Any) -> vt.TransportError:
    """Return why no usable reply came."""
    with pytest.raises(vt.TransportError) as caught:
        await connect(url, **options)
    error = caught.value
    assert error.reason.endswith(error.detail)
    assert "Error:" not in error.detail
    return error


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


async def test_why_there_was_no_reply() -> None:
    """Refused, a proxy that is gone, no TLS, hung up: `kind` tells them apart."""
    here = f"http://127.0.0.1:{closed_port()}"
    assert (await refusal(here)).kind == "refused"
    assert (await refusal("http://127.0.0.1:1", proxy=here)).kind == "proxy"
    async with SimulatedServer() as server:
        url = server.url.replace("http:", "https:")
        assert (await refusal(url)).kind == "no_tls"
        server.faults.add(Fault("drop", path="sessionMngr"))
        assert (await refusal(server.url)).kind == "disconnected"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(111, "refused"), "refused"),
        (OSError(113, "No route to host"), "no_route"),
        (OSError(101, "Network is unreachable"), "no_route"),
        (OSError(110, "timed out"), "timeout"),
        (ConnectionResetError(104, "reset"), "disconnected"),
        (socket.gaierror(-2, "Name or service not known"), "unknown_host"),
        (aiohttp.ServerDisconnectedError(), "disconnected"),
        (DisconnectedError("ServerDisconnectedError", "gone"), "disconnected"),
        (aiohttp.ServerTimeoutError("late"), "timeout"),
        (ssl.SSLError(1, "[SSL: UNKNOWN]"), "tls"),
        (OSError("odd"), "other"),
        (ValueError("else"), "other"),
    ],
    ids=str,
)
def test_each_usual_cause_has_its_kind(error: Exception, kind: str) -> None:
    """An error of the system tells its cause by its number, not by its text."""
    assert transport_kind(error) == kind


async def test_an_answer_that_leaves_an_action_open_says_so() -> None:
    """`may_be_carried_out` is true of a 5xx and of a reply without a task."""
    async with SimulatedServer() as server:
        job = f"jobs/{server.jobs[0].job_id}?action=start"
        async with vt.connect(
            server.url, username=server.username, password=server.password
        ) as em:
            server.faults.add(Fault("status", path="action", status=500, times=1))
            with pytest.raises(vt.StatusError) as refused:
                await em.submit(job)
            assert refused.value.may_be_carried_out
            server.faults.add(Fault("html", path="action", times=1))
            with pytest.raises(vt.MalformedReplyError) as nonsense:
                await em.submit(job)
            assert nonsense.value.may_be_carried_out
            with pytest.raises(vt.StatusError) as unknown:
                await em.fetch("task-9")
            assert not unknown.value.may_be_carried_out


@pytest.mark.virtual_time
async def test_a_task_of_another_logon_session_comes_with_advice() -> None:
    """`advice` is what the text ends with; a task that was known has none."""
    async with SimulatedServer() as server:
        notices: list[vt.Notice] = []
        async with vt.connect(
            server.url,
            username=server.username,
            password=server.password,
            pace=vt.Pace(first=0.05, longest=0.05),
            on_notice=notices.append,
        ) as em:
            with pytest.raises(vt.TaskLostError) as lost:
                await em.wait("task-9")
            assert lost.value.advice
            assert str(lost.value).endswith(lost.value.advice)
            assert lost.value.advice not in lost.value.reason
            task = server.add_task("Running", shared=True)
            server.faults.add(Fault("drop", path="tasks"))
            with pytest.raises(vt.WatchTimeoutError) as late:
                await em.wait(task.task_id, timeout=5.0)
            assert late.value.seconds == 5.0
            [down] = [one for one in notices if one.kind == "unreachable"]
            assert isinstance(down.error, vt.TransportError)
            assert down.detail == str(down.error)


async def test_a_certificate_can_be_looked_at() -> None:
    """By URL; what has no TLS, and a wrong time, are wrong arguments."""
    async with SimulatedServer(tls=True) as server:
        found = await vt.inspect_certificate(server.url)
        assert found.fingerprint.replace(":", "").lower() == server.fingerprint
        assert len(server.requests) == 0
    for url, timeout, parameter in (
        ("http://127.0.0.1", 1.0, "url"),
        ("em", 1.0, "url"),
        (URL, 0.0, "timeout"),
    ):
        with pytest.raises(vt.ArgumentError) as caught:
            await vt.inspect_certificate(url, timeout=timeout)
        assert caught.value.parameter == parameter


async def test_a_certificate_can_be_looked_at_through_a_proxy() -> None:
    """The tunnel is asked for with the proxy's account; a refusal is the proxy's."""
    seen: list[bytes] = []
    async with SimulatedServer(tls=True) as server:
        port = int(server.url.rpartition(":")[2])

        async def tunnel(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            if b"Authorization: Basic dTpw" not in seen[-1]:
                writer.write(b"HTTP/1.1 407 Who are you\r\n\r\n")
                writer.close()
                return
            there, back = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(carry(reader, back), carry(there, writer))

        async def carry(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            # One end goes away first; what the client makes of it is what is tested.
            with suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
            writer.close()

        async with TalkServer(tunnel) as proxy:
            here = f"127.0.0.1:{proxy.port}"
            url = f"https://em.example:{port}"
            found = await vt.inspect_certificate(url, proxy=f"http://u:p@{here}")
            assert found.fingerprint.replace(":", "").lower() == server.fingerprint
            assert seen[0].startswith(f"CONNECT em.example:{port} HTTP/1.1".encode())
            with pytest.raises(vt.TransportError, match="407") as caught:
                await vt.inspect_certificate(url, proxy=f"http://{here}")
            assert caught.value.kind == "proxy"
            await proxy.all_gone()
        with pytest.raises(vt.TransportError) as caught:
            await vt.inspect_certificate(url, proxy=f"http://{here}")
        assert caught.value.kind == "proxy"


class TwoAddresses(asyncio.SelectorEventLoop):
    """A loop in which every name has two addresses."""

    addresses: list[Any]

    async def getaddrinfo(self, *_: Any, **__: Any) -> list[Any]:
        """Return them."""
        return self.addresses


def test_a_dead_address_holds_the_next_up_for_a_moment_only() -> None:
    """A certificate is had from the second address while the first says nothing."""
    with socket.socket() as dead, socket.socket() as filler:
        dead.bind(("127.0.0.1", 0))
        dead.listen(0)
        filler.connect(dead.getsockname())

        async def look() -> vt.Certificate:
            async with SimulatedServer(tls=True) as server:
                loop = asyncio.get_running_loop()
                assert isinstance(loop, TwoAddresses)
                stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                port = int(server.url.rpartition(":")[2])
                loop.addresses = [
                    (*stream, dead.getsockname()),
                    (*stream, ("127.0.0.1", port)),
                ]
                return await vt.inspect_certificate("https://em.example", timeout=3)

        with asyncio.Runner(loop_factory=TwoAddresses) as runner:
            assert "127.0.0.1" in runner.run(look()).names
