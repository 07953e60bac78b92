"""What people read on standard error: one line each, and what is fit to be shown."""

import logging
import re
import sys
import textwrap
from typing import Final

import click

from veeam_tasks.cli._streams import columns_of, tell

LOG = logging.getLogger("veeam_tasks.shell")
"""Of what the shell itself has to say: ends of tasks, and what went wrong."""

_FEWEST_COLUMNS: Final = 20
# Control characters, surrogates, line separators, and what turns the direction of text.
_CONTROLS: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return `text` with every control character written as an escape.

    Not what `str.isprintable` takes for one: the spaces and joiners of other scripts
    are text, as U+202F in the name of each screenshot of macOS.
    """
    return _CONTROLS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 task``, ``2 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def span(seconds: float) -> str:
    """Return a span in words of the command line: ``45 s``, ``10 min``, ``2 h``."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def complain(text: str, context: click.Context | None = None) -> None:
    """Print one line about what went wrong, which is a log line, too."""
    log_said(logging.ERROR, text)
    _print_about(text, context)


def log_said(level: int, text: str) -> None:
    """Write into the log what is said on standard error, where it is not said again."""
    LOG.log(level, "%s", visible(text), extra={"is_said": True})


def _print_about(text: str, context: click.Context | None = None) -> None:
    if context is None:
        context = click.get_current_context(silent=True)
    name = "veeam-tasks" if context is None else context.command_path
    say(f"{name}: {text}")


def warn(text: str) -> None:
    """Print one line about what is dangerous, but goes on."""
    log_said(logging.WARNING, text)
    _print_about(f"warning: {text}")


def say(text: str) -> None:
    """Print one line for people, flushed; control characters are made visible.

    A terminal gets it in lines of its width, broken between words.
    """
    text = visible(text)
    if sys.stderr.isatty():
        columns = max(_FEWEST_COLUMNS, columns_of(sys.stderr))
        text = textwrap.fill(
            text, columns, break_long_words=False, break_on_hyphens=False
        )
    tell(text)
