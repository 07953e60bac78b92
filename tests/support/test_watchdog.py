"""The watchdog: a test that runs out of time ends with all stacks, whatever it does."""

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
    re.match("(a|aa)+$", "a" * 90 + "b")
"""


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (AWAITING, ["name='the sleeper'", "in waits_for_nothing", "in wait"]),
        (STUBBORN, ["name='the stubborn'", "in stubborn", "thread MainThread"]),
        (AFTER_A_FAILURE, ["in never_ends"]),
        (IN_A_THREAD, ["thread the helper", "in blocked_for_ever"]),
        (IN_C, ["in test_hangs", "in match"]),
    ],
    ids=["awaiting", "stubborn", "after a failure", "in a thread", "in C"],
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


def test_the_other_tests_go_on_in_a_new_process(pytester: pytest.Pytester) -> None:
    """Under pytest-xdist a test that never ends is one failure of many tests."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(AWAITING + "def test_one(): pass\ndef test_two(): pass\n")
    result = pytester.runpytest_subprocess("--timeout=3", "-p", "no:asyncio", "-n", "1")
    result.assert_outcomes(passed=2, failed=1)
    assert "in waits_for_nothing" in result.stderr.str()
