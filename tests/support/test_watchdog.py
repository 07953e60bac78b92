"""The watchdog: a test that runs out of time ends with all stacks, whatever it does."""

import os
import select
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HERE = Path(__file__).parents[1]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from support.watchdog import Watchdog

def pytest_configure(config):
    config.pluginmanager.register(Watchdog(grace=1), "watchdog")
"""

AWAITING = """
import asyncio

async def waits_for_nothing():
    await asyncio.Event().wait()

def test_hangs():
    async def main():
        task = asyncio.create_task(waits_for_nothing(), name="the sleeper")
        await task
    asyncio.run(main())
"""

# A signal's exception, and any cancellation, would be swallowed here.
STUBBORN = """
import asyncio

async def stubborn():
    while True:
        try:
            await asyncio.sleep(0)
        except BaseException:
            pass

def test_hangs():
    async def main():
        await asyncio.create_task(stubborn(), name="the stubborn")
    while True:
        try:
            asyncio.run(main())
        except BaseException:
            pass
"""

AFTER_A_FAILURE = """
import pytest, threading

@pytest.fixture
def never_ends():
    yield
    threading.Event().wait()

def test_hangs(never_ends):
    assert False
"""

IN_A_THREAD = """
import threading

def blocked_for_ever():
    threading.Event().wait()

def test_hangs():
    thread = threading.Thread(target=blocked_for_ever, name="the helper")
    thread.start()
    thread.join()
"""

# It gives nobody else the lock of the interpreter.
IN_C = """
import re

def test_hangs():
    re.search("^(a|aa)+$", "a" * 90 + "b")
"""


# As a signal's exception leaves a loop now and then: the future is done, its waiter was
# never told, and a cancellation is delivered to it at each step, for ever.
IN_CANCELLATION = """
import anyio, asyncio

async def was_never_told():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    def lose_the_call():
        for call, _ in future._callbacks:
            future.remove_done_callback(call)
        future.set_result(None)
        scope.cancel()
    with anyio.CancelScope() as scope:
        loop.call_soon(lose_the_call)
        await future

def test_hangs():
    anyio.run(was_never_told)
"""

ASLEEP = """
import asyncio, time

async def holds_the_loop():
    time.sleep(3600)

def test_hangs():
    async def main():
        other = asyncio.create_task(asyncio.sleep(0), name="the other")
        await asyncio.create_task(holds_the_loop())
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (AWAITING, ["name='the sleeper'", "in waits_for_nothing", "in wait"]),
        (STUBBORN, ["name='the stubborn'", "in stubborn", "thread MainThread"]),
        (AFTER_A_FAILURE, ["in never_ends"]),
        (IN_A_THREAD, ["thread the helper", "in blocked_for_ever"]),
        (IN_C, ["in test_hangs", "in search"]),
        (IN_CANCELLATION, ["in was_never_told", "wait_for=<Future finished"]),
        (ASLEEP, ["in holds_the_loop", "name='the other'"]),
    ],
    ids=[
        "awaiting",
        "stubborn",
        "after a failure",
        "in a thread",
        "in C",
        "in cancellation",
        "asleep",
    ],
)
def test_a_test_that_runs_out_of_time_ends_with_all_stacks(
    pytester: pytest.Pytester, code: str, shown: list[str]
) -> None:
    """The process ends, and says where each thread and each asyncio task was."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(code)
    result = pytester.runpytest_subprocess("--timeout=1", "-p", "no:asyncio")
    assert result.ret == 1
    text = result.stderr.str()
    assert [part for part in shown if part not in text] == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="nobody says so here")
@pytest.mark.parametrize(
    "waits",
    [
        "subprocess.run(COMMAND)",
        "pexpect.spawn(COMMAND[0], COMMAND[1:]).expect('nothing', timeout=None)",
    ],
    ids=["a pipe", "a terminal"],
)
def test_no_program_outlives_a_test_that_ran_out_of_time(
    pytester: pytest.Pytester, waits: str
) -> None:
    """Neither those that the test has started nor what they have started ends late."""
    pytester.makeconftest(CONFTEST)
    # Whoever has the pipe open for writing lives; a hang-up of the terminal is ignored.
    os.mkfifo(pytester.path / "lives")
    pytester.makepyfile(f"""
        import pexpect, subprocess

        COMMAND = ["sh", "-c", "trap '' HUP; exec 9> lives; sh -c 'sleep 99; :'; :"]

        def test_hangs():
            {waits}
    """)
    reading = os.open(pytester.path / "lives", os.O_RDONLY | os.O_NONBLOCK)
    try:
        result = pytester.runpytest_subprocess("--timeout=2", "-p", "no:asyncio")
        assert "in test_hangs" in result.stderr.str()
        # At its end there is something to read: nobody is left who could write.
        assert select.select([reading], [], [], 30)[0] == [reading]
    finally:
        os.close(reading)


def test_the_other_tests_go_on_in_a_new_process(pytester: pytest.Pytester) -> None:
    """Under pytest-xdist a test that never ends is one failure of many tests."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(AWAITING + "def test_one(): pass\ndef test_two(): pass\n")
    result = pytester.runpytest_subprocess("--timeout=3", "-p", "no:asyncio", "-n", "1")
    result.assert_outcomes(passed=2, failed=1)
    assert "in waits_for_nothing" in result.stderr.str()
