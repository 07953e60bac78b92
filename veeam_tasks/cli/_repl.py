"""The command `repl`: a Python prompt that awaits, with `em` logged on.

As in ``python -m asyncio``, each line runs in an asyncio task of its own. The loop
runs in a thread beside, so that Ctrl-C at the prompt and in a line works as in any
Python prompt.
"""

import ast
import asyncio
import code
import contextlib
import inspect
import signal
import sys
import threading
import traceback
from concurrent.futures import Future
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, NoReturn

import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command
from veeam_tasks.cli._exits import Exit
from veeam_tasks.cli._input import decoded
from veeam_tasks.cli._options import output_options, server_options
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import report_error, run_async
from veeam_tasks.cli._server import Logon, Server
from veeam_tasks.cli._streams import is_output_broken, tell

_CONSOLE = "<console>"
_SCRIPT = "<stdin>"


@click.command(
    cls=Command,
    short_help="Open a Python prompt that is logged on.",
    examples=(
        "veeam-tasks repl",
        "veeam-tasks repl < script.py",
        "echo 'print(await em.fetch_all())' | veeam-tasks repl",
    ),
)
@server_options
@output_options
def repl(*, server: Server, output: OutputMode) -> int:
    """Open a Python prompt with `em` logged on and `vt`, the package, imported.

    Lines may use await, async for and async with. The end of the input, Ctrl-D and
    exit() log out. What is piped in is a script: it ends with the first exception, and
    with status 1 then.
    """
    logon = server.logon()
    if sys.stdin.isatty():
        return _prompt(LoopThread(logon), output)
    source = _source()
    return run_async(lambda: _script(logon, source), on_signal=logon.abort)


def _source() -> str:
    """Return what was piped in; a closed standard input is at its end."""
    try:
        content = sys.stdin.buffer.read()
    except OSError:
        return ""
    return decoded(content, "standard input")


async def _script(logon: Logon, source: str) -> int:
    """Run a script; return its exit status."""
    try:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compiled = compile(source, _SCRIPT, "exec", flags=flags)
    except (SyntaxError, ValueError) as error:
        tell("".join(traceback.format_exception_only(error)).rstrip("\n"))
        return Exit.FAILED
    async with logon as em:
        try:
            await _execute(compiled, {**_names(em), "__name__": "__main__"})
        except _Quit as quit_:
            return _status_of(quit_.exit)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            shown = traceback.format_exception(_trimmed(error, _SCRIPT))
            tell("".join(shown).rstrip("\n"))
            return Exit.FAILED
    return Exit.OK


def _names(em: "vt.SessionManager") -> dict[str, Any]:
    return {"em": em, "vt": vt, "asyncio": asyncio}


def _status_of(exit_: SystemExit) -> int:
    """Return what `exit()` was given, as Python itself would end with it."""
    if exit_.code is None:
        return Exit.OK
    if isinstance(exit_.code, int):
        return exit_.code
    tell(str(exit_.code))
    return Exit.FAILED


def _prompt(thread: "LoopThread", output: OutputMode) -> int:
    before = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        em = thread.start()
        banner = "" if output.quiet else _banner(em)
        console = _Console(_names(em), thread)
        console.complete_by_tab()
        console.interact(banner=banner, exitmsg="")
    except vt.VeeamTasksError as error:
        return report_error(error)
    except SystemExit as error:
        return _status_of(error)
    finally:
        thread.end()
        signal.signal(signal.SIGTERM, before)
    return Exit.OK


def _banner(em: "vt.SessionManager") -> str:
    return (
        f"`em` is logged on at {em.url}; `vt` is the package. Ctrl-D ends.\n"
        "Try: await em.fetch_all()   or: async for e in em.watch('task-1'): print(e)"
    )


def _on_terminate(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(Exit.TERMINATED)


class LoopThread:
    """An event loop in a thread, and the manager that is logged on in it."""

    def __init__(self, logon: Logon) -> None:
        self._logon = logon
        self._ready: Future[vt.SessionManager] = Future()
        self._main: asyncio.Task[None] | None = None
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run_loop, name="veeam_tasks repl")
        self.loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> "vt.SessionManager":
        """Log on.

        Raises:
            VeeamTasksError: As of `connect`.
        """
        self._thread.start()
        return self._ready.result()

    def end(self) -> None:
        """Log out and stop the loop."""
        if self._thread.ident is None:
            return
        self._has_begun.wait()
        if self.loop is not None and self._main is not None:
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                self.loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    def _run_loop(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._live())

    async def _live(self) -> None:
        self.loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        self._has_begun.set()
        try:
            async with self._logon as em:
                self._ready.set_result(em)
                await asyncio.Event().wait()
        except vt.VeeamTasksError as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)


class _Quit(Exception):  # noqa: N818 - no error: how exit() leaves a coroutine
    """Carries a `SystemExit` past asyncio, which would stop the loop at it."""

    def __init__(self, exit_: SystemExit) -> None:
        super().__init__()
        self.exit = exit_


class _Console(code.InteractiveConsole):
    """The standard library's console, whose lines run in the event loop."""

    def __init__(self, names: dict[str, Any], thread: LoopThread) -> None:
        super().__init__(names, filename=_CONSOLE)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        assert thread.loop is not None
        self._loop = thread.loop
        self._task: asyncio.Task[object] | None = None

    def complete_by_tab(self) -> None:
        """Let Tab complete names, where the terminal can."""
        with contextlib.suppress(ImportError):  # Windows has none
            import readline  # noqa: PLC0415 - as above
            import rlcompleter  # noqa: PLC0415 - as above

            readline.set_completer(rlcompleter.Completer(self.locals).complete)
            readline.parse_and_bind("tab: complete")

    def raw_input(self, prompt: str = "") -> str:
        """Read a line; a closed standard input is at its end."""
        try:
            return super().raw_input(prompt)
        except OSError:
            if is_output_broken():
                raise
            raise EOFError from None

    def runcode(self, code: CodeType) -> None:
        """Run one line in the loop; Ctrl-C cancels it."""
        ended: Future[object] = Future()
        self._loop.call_soon_threadsafe(self._start, code, ended)
        try:
            try:
                ended.result()
            except KeyboardInterrupt:
                self._loop.call_soon_threadsafe(self._cancel)
                ended.result()
                raise
        except _Quit as quit_:
            raise quit_.exit from None
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.write("\nKeyboardInterrupt\n")
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            self.write("".join(traceback.format_exception(_trimmed(error, _CONSOLE))))

    def _start(self, line: CodeType, ended: "Future[object]") -> None:
        self._task = self._loop.create_task(_execute(line, self.locals))
        self._task.add_done_callback(lambda task: _hand_over(task, ended))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _execute(line: CodeType, names: dict[str, Any]) -> None:
    try:
        result = FunctionType(line, names)()
        if inspect.iscoroutine(result):
            await result
    except SystemExit as error:
        raise _Quit(error) from None


def _hand_over(task: "asyncio.Task[object]", ended: "Future[object]") -> None:
    if task.cancelled():
        ended.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(None)


def _trimmed(error: Exception, file: str) -> Exception:
    """Return the error without the frames that run the user's line."""
    frame: TracebackType | None = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != file:
        frame = frame.tb_next
    return error.with_traceback(frame or error.__traceback__)
