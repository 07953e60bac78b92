"""The standard streams when they are closed, full, or read by nobody any more.

Standard output is what a command is for: when it fails, so does the command. Standard
error only tells of it: when it fails, nothing else changes.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, ClassVar, Final, TextIO, cast

import click

_COLUMNS: Final = 80
_LEAVE: Final = b"\x1b[?1049l\x1b[?25h"
_RETURN: Final = b"\x1b[?1049h\x1b[?25l"
_NONE: Final = {"stdin": os.O_WRONLY, "stdout": os.O_RDONLY, "stderr": os.O_WRONLY}


@contextmanager
def standard_streams() -> Iterator[None]:
    """Have streams that are there, and an output that remembers whether it failed."""
    _replace_closed()
    _take_any_character()
    before = sys.stdout
    sys.stdout = cast("TextIO", _Output(before))
    try:
        yield
    finally:
        sys.stdout = before
        _settle_errors()


class TerminalScreen:
    """Which of its two screens the terminal shows, for whoever has to quit at once."""

    is_other: ClassVar[bool] = False

    @classmethod
    def leave(cls) -> None:
        """Show the first one again, with its cursor. Safe in a signal handler."""
        if cls.is_other:
            with suppress(OSError):
                os.write(1, _LEAVE)

    @classmethod
    def return_to(cls) -> None:
        """Show the other one again, empty, without a cursor."""
        if cls.is_other:
            with suppress(OSError):
                os.write(1, _RETURN)


def is_output_broken() -> bool:
    """Tell whether standard output has failed."""
    return getattr(sys.stdout, "is_broken", False)


def hush(stream: IO[str]) -> None:
    """Let nothing more go to a stream that cannot be written any more.

    What is still in its buffer goes nowhere, too: at its exit Python would fail on it.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def tell(text: str) -> None:
    """Print to standard error, flushed; if that cannot be, go on without."""
    with suppress(OSError):
        click.echo(text, err=True)
    _settle_errors()


def columns_of(stream: IO[str]) -> int:
    """Return how wide the terminal of a stream is, or is said to be by COLUMNS."""
    try:
        return int(os.environ.get("COLUMNS", "")) or _COLUMNS
    except ValueError:
        # Not by shutil, which asks the terminal of standard output.
        with suppress(OSError):
            return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    return _COLUMNS


class _Output:
    """A standard output that remembers whether it failed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write."""
        with self._noting():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flush."""
        with self._noting():
            self._stream.flush()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.is_broken = True
            raise


def _replace_closed() -> None:
    """Put something where a stream was closed before we began.

    Else the next socket would get its number, and be written to. A closed standard
    input cannot be read and a closed standard output not be written, as before; what
    goes to a closed standard error is dropped.
    """
    for name, flags in _NONE.items():
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            number = os.open(os.devnull, flags)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - a descriptor, as long as the process


def _take_any_character() -> None:
    """Let a stream that is not UTF-8 show what it cannot say as an escape.

    A server's text may hold any character; in an old locale, or in a Windows code page,
    writing it would be an error.
    """
    for stream in (sys.stdout, sys.stderr):
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
        reconfigure = getattr(stream, "reconfigure", None)
        if encoding.replace("-", "") != "utf8" and reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _settle_errors() -> None:
    """Flush standard error, or give it up."""
    try:
        sys.stderr.flush()
    except OSError:
        with suppress(OSError):
            hush(sys.stderr)
