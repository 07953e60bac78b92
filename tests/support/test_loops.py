"""On which loops the tests run: that what was asked for is what they get."""

import asyncio
import gc
import hashlib
import socket
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import anyio
import anyio.to_thread
import pytest

from support import virtual_time
from support.loops import KINDS, LOOP_KIND, kind_for, real_loop
from support.raw_server import TalkServer
from support.virtual_time import VirtualUvloop, virtual_loop

IS_EAGER_THERE = sys.version_info >= (3, 12)
ON_ALL = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            kind == "eager" and not IS_EAGER_THERE, reason="eager tasks came with 3.12"
        ),
    )
    for kind in KINDS
]


@pytest.fixture(params=ON_ALL)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Choose a kind of loop, whatever was chosen."""
    assert isinstance(request.param, str)
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    before = LOOP_KIND.name
    LOOP_KIND.set(request.param)
    yield request.param
    LOOP_KIND.set(before)


def told() -> tuple[str, bool]:
    """Return of which package the running loop is, and whether tasks begin at once."""

    async def begin() -> None:
        pass

    loop = asyncio.get_running_loop()
    kept = loop.create_task(begin())
    names = [one.__module__.partition(".")[0] for one in type(loop).__mro__]
    return "uvloop" if "uvloop" in names else "asyncio", kept.done()


EXPECTED = {
    "asyncio": ("asyncio", False),
    "uvloop": ("uvloop", False),
    "eager": ("asyncio", True),
}


async def tell() -> tuple[str, bool]:
    """Return what `told` does, as a coroutine."""
    return told()


@pytest.mark.parametrize("make", [real_loop, virtual_loop, None])
def test_each_way_to_a_loop_gives_the_kind(kind: str, make: object) -> None:
    """Those that tests name, and those that `asyncio.run` and threads make."""
    if make is None:
        assert asyncio.run(tell()) == EXPECTED[kind]
        loops: list[asyncio.AbstractEventLoop] = []
        thread = threading.Thread(target=lambda: loops.append(asyncio.new_event_loop()))
        thread.start()
        thread.join()
        (loop,) = loops
        assert loop.run_until_complete(tell()) == EXPECTED[kind]
        loop.close()
    else:
        options = {"loop_factory": make}
        assert anyio.run(tell, backend_options=options) == EXPECTED[kind]


def test_the_clock_jumps_on_each_loop(kind: str) -> None:
    """In order, over hours, also around sockets and threads."""
    order: list[object] = []

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        order.append(await reader.readline())
        await asyncio.sleep(3600)
        writer.write(b"later\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with TalkServer(answer) as server:
            loop.call_later(1800, order.append, "first").cancel()
            loop.call_later(1800, order.append, "timer")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"now\n")
            order.append(await reader.readline())
            assert 3600 <= loop.time() - start < 3601
            await asyncio.to_thread(threading.Event().wait, 0.05)
            writer.close()
            await writer.wait_closed()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(100):
                    await asyncio.sleep(200)

    virtual_time.run(main)
    assert order == [b"now\n", "timer", b"later\n"]


@pytest.mark.parametrize("run_in_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
def test_the_clock_stands_still_while_a_thread_works(
    kind: str, run_in_thread: Callable[..., Awaitable[object]]
) -> None:
    """However long it takes, and whatever else there is to come."""

    def work() -> None:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 300_000)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        ticking = [loop.call_later(number / 1000, int) for number in range(1, 10_000)]
        await run_in_thread(work)
        assert loop.time() == start
        for tick in ticking:
            tick.cancel()

    virtual_time.run(main)


class Closing(asyncio.Protocol):
    """Closes a connection as soon as it is accepted."""

    def __init__(self, accepted: asyncio.Event) -> None:
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
        self._accepted.set()


def test_the_clock_waits_for_what_looks_up_an_address(kind: str) -> None:
    """To listen and to connect takes no time, though a loop may use a thread for it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            loop.call_later(5, lambda: None)
            start = loop.time()
            accepted = asyncio.Event()
            server = await loop.create_server(
                partial(Closing, accepted), "127.0.0.1", 0
            )
            port = server.sockets[0].getsockname()[1]
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", port
            )
            # Or the socket is left to the garbage collector: see `RawServer`.
            await accepted.wait()
            transport.close()
            server.close()
            assert loop.time() == start

    virtual_time.run(main)


@pytest.mark.parametrize("steps", range(5))
def test_a_server_of_the_tests_leaves_no_socket_that_it_accepted(
    kind: str, steps: int
) -> None:
    """In whichever step of an accept it closes; plain asyncio leaves some."""

    async def stay(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with TalkServer(stay) as server:
            client = socket.create_connection(("127.0.0.1", server.port))
            for _ in range(steps):
                await asyncio.sleep(0)
        client.close()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Outside of this it would be an error of whichever test comes later.
        with asyncio.Runner(loop_factory=real_loop) as runner:
            runner.run(main())
        gc.collect()
    assert [str(one.message) for one in caught] == []


def test_a_share_runs_on_each_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of the tests, unless the environment names one loop for all."""
    monkeypatch.delenv("VEEAM_TASKS_LOOP", raising=False)
    kinds = [kind_for(f"tests/test_x.py::test_{number}") for number in range(800)]
    expected = {"asyncio", "uvloop"} | ({"eager"} if IS_EAGER_THERE else set())
    assert set(kinds) == expected
    assert all(kinds.count(kind) > 60 for kind in expected)
    monkeypatch.setenv("VEEAM_TASKS_LOOP", "uvloop")
    assert kind_for("tests/test_x.py::test_1") == "uvloop"
    monkeypatch.setenv("VEEAM_TASKS_LOOP", "trio")
    with pytest.raises(ValueError, match="one of asyncio, uvloop, eager"):
        kind_for("tests/test_x.py::test_1")


def test_handles_of_the_virtual_uvloop_do_not_tell_when() -> None:
    """Nothing of ours may ask them."""
    pytest.importorskip("uvloop")
    loop = VirtualUvloop()
    assert not hasattr(loop.call_later(5, print), "when")
    loop.close()
