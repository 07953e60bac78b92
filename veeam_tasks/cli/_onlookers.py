"""What else is told of a watch: the file of `--report`, the port of `--metrics`."""

import asyncio
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._messages import visible, warn

if TYPE_CHECKING:
    from veeam_tasks.report import Recorder

_BETWEEN_PAGES = 60.0
_NEEDS: Final = {"jinja2": "report", "prometheus_client": "metrics"}


class Onlooker(Protocol):
    """Is told of a watch beside whoever looks at the terminal."""

    def begin(self, manager: "vt.SessionManager", server: str | None = None) -> None:
        """Take note of a manager that is open now, and of its name if it has one."""

    def expect(self, task_ids: Sequence[str], server: str | None = None) -> None:
        """Take note of what is watched, seen or not."""

    def notice(self, notice: "vt.Notice", server: str | None = None) -> None:
        """Take a notice."""

    def event(self, event: "vt.TaskEvent", server: str | None = None) -> None:
        """Take an event."""

    async def finish(self, why: str | None = None) -> None:
        """Take note of the end; `why` says what cut the watch short.

        Only the first call counts.
        """


def require(module: str, option: str) -> None:
    """Refuse an option whose extra is not installed.

    Raises:
        click.UsageError: Its module is not there.
    """
    if find_spec(module) is None:
        extra = _NEEDS[module]
        text = f"{option} needs the extra '{extra}': pip install 'veeam-tasks[{extra}]'"
        raise click.UsageError(text)


@attrs.define(eq=False)
class ReportFile:
    """Keeps what is delivered, and writes the page each minute and at the end.

    A page that cannot be written is told once, and harms nothing: the watch counts.

    Args:
        path: Of the file.
    """

    path: str
    _recorder: "Recorder" = attrs.field(init=False)
    _writer: asyncio.Task[None] | None = None
    _urls: set[str] = attrs.field(factory=set)
    _is_told: bool = False
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _is_last_written: bool = False

    def __attrs_post_init__(self) -> None:
        from veeam_tasks.report import Recorder  # noqa: PLC0415 - only if asked for

        self._recorder = Recorder()

    @classmethod
    def parse(cls, path: str | None) -> "ReportFile | None":
        """Return what writes the file, if one is named.

        Raises:
            click.UsageError: It cannot be written, or jinja2 is not there.
        """
        if path is None:
            return None
        require("jinja2", "--report")
        problem = _problem_of(path)
        if problem:
            text = f"--report: {visible(path)} cannot be written: {problem}"
            raise click.UsageError(text)
        return cls(path)

    def begin(self, manager: "vt.SessionManager", server: str | None = None) -> None:  # noqa: ARG002 - the protocol has it
        """Begin to write, now that it is known of which server."""
        self._urls.add(manager.url)
        self._recorder.url = manager.url if len(self._urls) == 1 else None
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._keep_writing())

    def expect(self, task_ids: Sequence[str], server: str | None = None) -> None:
        """Take note of what is watched, seen or not."""
        self._recorder.expect(*task_ids, server=server)

    def notice(self, notice: "vt.Notice", server: str | None = None) -> None:
        """Take a notice."""
        self._recorder.add_notice(notice, server=server)

    def event(self, event: "vt.TaskEvent", server: str | None = None) -> None:
        """Take an event."""
        self._recorder.add_event(event, server=server)

    async def finish(self, why: str | None = None) -> None:
        """Write the last page; `why` says what cut the watch short."""
        if self._recorder.is_over:
            return
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
            await asyncio.wait([writer])
        self._recorder.finish(why)
        # Not in a thread: after Ctrl-C nothing is waited for.
        self._write(is_last=True)

    async def _keep_writing(self) -> None:
        # Whoever begins says in the same step what is watched: an eager task, or its
        # thread, would be there before.
        await asyncio.sleep(0)
        while True:
            # In a thread, since a page of thousands of tasks takes half a second.
            await asyncio.to_thread(self._write)
            await asyncio.sleep(_BETWEEN_PAGES)

    def _write(self, *, is_last: bool = False) -> None:
        from veeam_tasks.report import render, write  # noqa: PLC0415 - only if asked for

        page = render(self._recorder)
        try:
            with self._lock:
                # A thread that nobody waited for may come after the last page.
                if is_last or not self._is_last_written:
                    self._is_last_written = is_last
                    write(self.path, page)
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                shown = visible(self.path)
                warn(f"--report: {shown} cannot be written: {error.strerror}")


def _problem_of(path: str) -> str:
    """Return why a file cannot be put there, or nothing."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode if os.path.lexists(target) else stat.S_IFREG
        if not stat.S_ISREG(mode):
            return "it is a folder" if stat.S_ISDIR(mode) else "it is no file"
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        return error.strerror or str(error)
    os.close(handle)
    with suppress(OSError):
        Path(name).unlink()
    return ""


def told_of(
    onlookers: Iterable[Onlooker],
    on_notice: "Callable[[vt.Notice], object] | None" = None,
    server: str | None = None,
) -> "Callable[[vt.Notice], None]":
    """Return a function that tells a notice to `on_notice` and to each onlooker."""

    def tell(notice: "vt.Notice") -> None:
        if on_notice is not None:
            on_notice(notice)
        for onlooker in onlookers:
            onlooker.notice(notice, server)

    return tell
