"""How a command ends: exit status, Ctrl-C, SIGTERM, a pipe that nobody reads."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType
from typing import Any

import veeam_tasks as vt
from veeam_tasks.cli._streams import hush, is_output_broken
from veeam_tasks.cli._words import complain, spoken

_SHOW_CURSOR = b"\x1b[?25h"
_SIGNALS_THAT_QUIT = 3
_PATIENCE = (
    b"veeam-tasks: logging out, 5 seconds at most; a third signal quits at once\n"
)


class Exit(IntEnum):
    """Exit statuses; of several that apply, the one that stands first here."""

    INTERRUPTED = 130
    TERMINATED = 143
    USAGE = 2
    REFUSED = 4
    SERVER = 3
    TIMEOUT = 124
    FAILED = 1
    OK = 0


_ORDER = list(Exit)


def first_of(*statuses: Exit) -> Exit:
    """Return the status that counts when several apply."""
    return min(statuses, key=_ORDER.index, default=Exit.OK)


def status_of(error: vt.VeeamTasksError) -> Exit:
    """Return the exit status that an error stands for."""
    if isinstance(error, vt.LogonError | vt.ForbiddenError):
        return Exit.REFUSED
    if isinstance(error, vt.WatchTimeoutError):
        return Exit.TIMEOUT
    if isinstance(error, vt.TaskFailedError | vt.TaskLostError):
        return Exit.FAILED
    return Exit.SERVER


def told(error: vt.VeeamTasksError) -> Exit:
    """Print a line about an error that ends the command; return its exit status."""
    complain(spoken(str(error)))
    return status_of(error)


def unwritten(error: OSError) -> Exit:
    """Print a line about a standard output that failed; return the exit status.

    Raises:
        OSError: It was something else.
    """
    if isinstance(error, BrokenPipeError):
        # Nobody reads any more, and that is no failure.
        hush(sys.stdout)
        return Exit.OK
    if not is_output_broken():
        raise error
    hush(sys.stdout)
    complain(f"standard output could not be written: {error.strerror or error}")
    return Exit.SERVER


class Ending:
    """Runs a coroutine; the first signal cancels it, the third quits at once."""

    def __init__(self) -> None:
        self._signals_seen = 0
        self.status: Exit | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        """Return what `work` returned, or the status of the signal that ended it."""
        status = 0
        with self._signals(), asyncio.Runner() as runner:
            try:
                status = runner.run(self._owned(work))
            except asyncio.CancelledError:
                if self.status is None:
                    raise
            except (vt.VeeamTasksError, OSError):
                if self.status is None:
                    raise
        return status if self.status is None else self.status

    async def _owned(self, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self.status is not None:
            raise asyncio.CancelledError
        return await work()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        # What is ignored stays so, as it is for jobs that a script started with &.
        before = [
            (number, signal.signal(number, self._on_signal))
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        status = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        self._signals_seen += 1
        if self._signals_seen >= _SIGNALS_THAT_QUIT:
            if os.isatty(1):
                os.write(1, _SHOW_CURSOR)
            os._exit(status)
        if self.status is not None:
            # Not by print, which a signal may have struck in the middle.
            with suppress(OSError):
                os.write(2, _PATIENCE)
            return
        self.status = status
        if self._loop is not None and self._task is not None:
            # Also wakes a loop that sleeps until something is due.
            self._loop.call_soon_threadsafe(self._task.cancel)


def drive(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run the asynchronous part of a command; return its exit status.

    Args:
        work: Makes the coroutine. The first Ctrl-C or SIGTERM cancels it, so that it
            logs out; the second says so; the third quits at once.
    """
    try:
        return Ending().run(work)
    except OSError as error:
        # Here, since click would make a failure of a broken pipe.
        return unwritten(error)
    except vt.VeeamTasksError as error:
        return told(error)
