"""Ends a test that runs out of time, with all stacks, whatever it is doing.

pytest-timeout's own ways do not: by signal it raises between any two lines of the event
loop, which can leave a task that is never woken and a loop that spins, so that the run
goes on for ever; neither way shows asyncio tasks, and the end of a test that has failed
has no limit. So its hooks are served here: a thread prints the stacks and ends the
process, and where no thread can run, since one keeps the interpreter's lock,
`faulthandler` does. Under pytest-xdist the other tests go on in a new process.
"""

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

import attrs
import pytest
from pytest_timeout import is_debugging


class Settings(Protocol):
    """What pytest-timeout knows of one test."""

    timeout: float


@attrs.define(eq=False)
class Watchdog:
    """A plugin of pytest; to be made while standard error is not captured.

    Args:
        grace: Seconds after which `faulthandler` ends what the thread could not end.
    """

    grace: float = 20.0
    _output: int = attrs.field(factory=lambda: os.dup(sys.__stderr__.fileno()))
    _timer: threading.Timer | None = None
    _keeps: bool = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Settings) -> bool:
        """Start the clock of a test."""
        self._stop()
        # In a thread, and written in C: it needs no lock of the interpreter.
        faulthandler.dump_traceback_later(
            settings.timeout + self.grace, exit=True, file=self._output
        )
        self._timer = threading.Timer(
            settings.timeout, self._end, (item, settings.timeout)
        )
        self._timer.daemon = True
        self._timer.name = "watchdog"
        self._timer.start()
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool:
        """Stop the clock."""
        if not self._keeps:
            self._stop()
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_exception_interact(self, node: pytest.Item) -> Iterator[None]:
        """Let the clock go on after a failure, unless somebody debugs it."""
        self._keeps = not node.config.getoption("usepdb")
        try:
            return (yield)
        finally:
            self._keeps = False

    def pytest_unconfigure(self) -> None:
        """Close what was opened."""
        self._stop()
        os.close(self._output)

    def _stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()

    def _end(self, item: pytest.Item, seconds: float) -> None:
        if is_debugging():
            return
        # Bounds what follows, too.
        faulthandler.dump_traceback_later(self.grace, exit=True, file=self._output)
        try:
            self._say(f"\n+++ {item.nodeid} took more than {seconds:g} s +++\n")
            self._say(stacks_of_threads())
            self._say(stacks_of_tasks())
            self._say("".join(f"{text}\n" for _, _, text in item._report_sections))
            end_programs()
        finally:
            os._exit(1)

    def _say(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._output, data) :]


def stacks_of_threads() -> str:
    """Return the stack of each thread but this one."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "".join(
        f"--- thread {names.get(ident, ident)}\n"
        + "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    )


def stacks_of_tasks() -> str:
    """Return the stack of each asyncio task that is not done, of all loops."""
    # Found among all objects, since a loop can only be asked from within.
    tasks = [
        found
        for found in gc.get_objects()
        if issubclass(type(found), asyncio.Task) and not found.done()
    ]
    return "".join(f"--- {task!r}\n{stack_of(task)}" for task in tasks)


def stack_of(task: "asyncio.Task[object]") -> str:
    """Return where a task and all that it awaits stand, the innermost last."""
    lines: list[str] = []
    waits: object = task.get_coro()
    while waits is not None:
        for kind in ("cr", "gi", "ag"):
            frame: FrameType | None = getattr(waits, f"{kind}_frame", None)
            if frame is not None:
                lines += traceback.format_stack(frame, limit=1)
                break
        waits = next(
            (
                found
                for name in ("cr_await", "gi_yieldfrom", "ag_await")
                if (found := getattr(waits, name, None)) is not None
            ),
            None,
        )
    return "".join(lines)


def end_programs() -> None:
    """Kill the programs that tests have started, which would outlive this process.

    And what those have started, where the system says so: of a pseudo-terminal, or
    behind a shell, nothing else is known here.
    """
    # Before any is killed, since orphans are no longer known as descendants.
    for process in below(os.getpid()):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            os.kill(process, signal.SIGKILL)
    for found in gc.get_objects():
        if issubclass(type(found), subprocess.Popen) and found.poll() is None:
            found.kill()


def below(process: int) -> list[int]:
    """Return the IDs of all processes that descend from one, where `/proc` is there."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # Its name, in parentheses, may hold anything.
            after_name = path.read_text(errors="replace").rpartition(")")[2]
            children[int(after_name.split()[1])].append(int(path.parent.name))
    found = [process]
    for parent in found:
        found += children[parent]
    return found[1:]
