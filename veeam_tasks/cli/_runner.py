"""How a command runs and is ended: Ctrl-C, SIGTERM, an error of the package."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import veeam_tasks as vt
from veeam_tasks.cli._exits import STATUS_OF_SIGNAL, Exit, report_output
from veeam_tasks.cli._explain import explain
from veeam_tasks.cli._messages import complain, say
from veeam_tasks.cli._streams import TerminalScreen, hush

if TYPE_CHECKING:
    import asyncio

_SIGNALS_THAT_QUIT = 3
_AT_THE_FIRST = "logging out; press Ctrl-C twice more to leave at once"
_AT_THE_SECOND = (
    b"veeam-tasks: logging out, 5 seconds at most; a third signal quits at once\n"
)


def status_of(error: vt.VeeamTasksError) -> Exit:
    """Return the exit status that an error stands for."""
    if isinstance(error, vt.LogonError | vt.ForbiddenError):
        return Exit.REFUSED
    if isinstance(error, vt.WatchTimeoutError):
        return Exit.TIMEOUT
    if isinstance(error, vt.TaskFailedError | vt.TaskLostError):
        return Exit.FAILED
    return Exit.SERVER


def report_error(error: vt.VeeamTasksError) -> Exit:
    """Print a line about an error that ends the command; return its exit status."""
    complain(explain(error))
    return status_of(error)


class _LeavableThreads(ThreadPoolExecutor):
    """Threads that nobody waits for: neither Ctrl-C nor the end of the process.

    The loop looks names up in them. The system's resolver cannot be interrupted and
    may take minutes; those of the standard library are joined at the end.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)  # which is never used
        self._pending: set[Future[Any]] = set()
        self._is_left = False

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> "Future[Any]":
        """Run `fn` in a thread of its own."""
        future: Future[Any] = Future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

        def work() -> None:
            outcome: Any = None
            failure: BaseException | None = None
            try:
                outcome = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is for who waits
                failure = error
            with suppress(Exception):
                if failure is None:
                    future.set_result(outcome)
                else:
                    future.set_exception(failure)

        if self._is_left:
            future.set_exception(InterruptedError("interrupted"))
        else:
            threading.Thread(target=work, daemon=True).start()
        return future

    def leave(self) -> None:
        """Let those who wait for a thread go on without its result."""
        self._is_left = True
        for future in list(self._pending):
            with suppress(Exception):
                future.set_exception(InterruptedError("interrupted"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature of the class
        """Forget the threads; the one of the class was never started."""
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


class SignalRunner:
    """Runs a coroutine; the first signal cancels it, the third quits at once.

    Args:
        on_signal: Called in the loop at the first signal, before the coroutine is
            cancelled: it ends what would hold up the log-out.
        logs_out: Whether there is a log-out to tell of.
    """

    def __init__(
        self,
        *,
        on_signal: Callable[[], None] | None = None,
        logs_out: bool = True,
    ) -> None:
        self.status: Exit | None = None
        self._on_first = on_signal
        self._logs_out = logs_out
        self._signals_seen = 0
        self._threads = _LeavableThreads()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        """Return what `work` returned, or the status of the signal that ended it."""
        import asyncio  # noqa: PLC0415 - the help needs none

        status = 0
        with self._signals(), asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(self._threads)
            try:
                status = runner.run(self._owned(work))
            except asyncio.CancelledError:
                if self.status is None:
                    raise
            except (vt.VeeamTasksError, OSError):
                if self.status is None:
                    raise
        if self.status is Exit.HUNG_UP:
            # Nobody is there to read what is still in the buffer.
            hush(sys.stdout)
        return status if self.status is None else self.status

    async def _owned(self, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        import asyncio  # noqa: PLC0415 - the help needs none

        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self.status is not None:
            raise asyncio.CancelledError
        return await work()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        # What is ignored stays so, as it is for jobs that a script started with &,
        # and for those of nohup.
        before = [
            (number, signal.signal(number, self._on_signal))
            for number in STATUS_OF_SIGNAL
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        status = STATUS_OF_SIGNAL[signal.Signals(number)]
        self._signals_seen += 1
        if self._signals_seen >= _SIGNALS_THAT_QUIT:
            TerminalScreen.leave()
            os._exit(status)
        if self.status is not None:
            self._write(_AT_THE_SECOND)
            return
        self.status = status
        if self._loop is not None and self._task is not None:
            # Also wakes a loop that sleeps until something is due.
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None
        try:
            self._threads.leave()
            if self._on_first is not None:
                self._on_first()
            if self._logs_out and sys.stderr.isatty():
                say(_AT_THE_FIRST)
        finally:
            # Whatever cannot be told: the log-out counts most.
            self._task.cancel()

    def _write(self, text: bytes) -> None:
        # Not by print, which a signal may have struck in the middle.
        with suppress(OSError):
            os.write(2, text)


def run_async(
    work: Callable[[], Coroutine[Any, Any, int]],
    *,
    on_signal: Callable[[], None] | None = None,
    logs_out: bool = True,
) -> int:
    """Run the asynchronous part of a command; return its exit status.

    Args:
        work: Makes the coroutine. The first Ctrl-C or SIGTERM cancels it, so that it
            logs out; the second says so; the third quits at once.
        on_signal: See `SignalRunner`.
        logs_out: See `SignalRunner`.
    """
    try:
        return SignalRunner(on_signal=on_signal, logs_out=logs_out).run(work)
    except vt.VeeamTasksError as error:
        return report_error(error)  # first: a WatchTimeoutError is an OSError, too
    except OSError as error:
        # Here, since click would make a failure of a broken pipe.
        return report_output(error)
