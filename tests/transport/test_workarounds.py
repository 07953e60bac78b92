"""What aiohttp is kept from: connections without an end, ends that nobody looks at."""

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import trustme
from support.raw_server import RESET, Answer, RawServer, reply

import veeam_tasks as vt
from veeam_tasks._protocol.messages import Request
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import Secrets
from veeam_tasks._transport.transport import Transport
from veeam_tasks._transport.trust import Trust


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """Give a TLS server that answers nonsense, keeps the line and says no good-bye."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    done = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as line:
            line.recv(10_000)
            line.sendall(b"\x01\x02nonsense\r\n\r\n")
            done.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    done.set()
    thread.join()
    listener.close()


async def test_a_connection_without_a_good_bye_is_cut(
    silent: str, tmp_path: Path
) -> None:
    """A broken reply under TLS leaves no socket, though the server never hangs up."""
    with pytest.raises(vt.VeeamTasksError):
        await vt.connect(
            silent, username="u", password="p", ca_file=tmp_path / "ca.pem"
        )
    port = int(silent.rpartition(":")[2])
    assert [one for one in open_sockets() if one.getpeername()[1] == port] == []


def open_sockets() -> list[socket.socket]:
    """Return the TCP sockets of this process that are connected."""
    gc.collect()
    found = [one for one in gc.get_objects() if type(one) is socket.socket]
    return [one for one in found if one.family == socket.AF_INET and is_connected(one)]


def is_connected(one: socket.socket) -> bool:
    """Tell whether a socket is open and has a peer."""
    try:
        one.getpeername()
    except OSError:
        return False
    return True


ASK = Request(method="GET", path="jobs", shown="jobs")
ANSWERS: dict[str, Answer] = {
    "idle": [reply(b"<Jobs/>"), RESET],
    "in the middle": [reply(b"<Jobs/>")[:-3], RESET],
}


@pytest.mark.parametrize("when", ANSWERS)
async def test_the_end_of_a_connection_is_nobodys_complaint(when: str) -> None:
    """Asyncio complains of an exception that nobody looked at; here somebody does."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with RawServer(ANSWERS[when]) as server:
        transport = Transport(
            base_url(server.url(), insecure=True), Trust(), secrets=Secrets()
        )
        await transport.open()
        try:
            if when == "idle":
                assert (await transport.send(ASK)).is_success
            else:
                with pytest.raises(vt.TransportError):
                    await transport.send(ASK)
            await server.all_gone()
            await anyio.wait_all_tasks_blocked()
        finally:
            await transport.aclose()
        del transport
    gc.collect()
    assert complaints == []
