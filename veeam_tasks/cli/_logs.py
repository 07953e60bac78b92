"""Log lines: on standard error above the display, and into a file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from veeam_tasks.cli._messages import LOG, log_said, visible, warn
from veeam_tasks.cli._streams import tell

_LEVELS = {1: logging.INFO}


_TOLD_HERE = frozenset({"changed", "ended"})


def _is_not_told_here(record: logging.LogRecord) -> bool:
    """Leave out what the shell says itself, in its own words, of each task."""
    is_ours = record.name == LOG.name
    return is_ours or getattr(record, "event", None) not in _TOLD_HERE


def _is_not_said(record: logging.LogRecord) -> bool:
    """Leave out what stands on standard error already."""
    return not getattr(record, "is_said", False)


class _StandardError(logging.Handler):
    """Writes to what is standard error now: a display may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        tell(visible(self.format(record)))


class _LogFile(logging.FileHandler):
    """A file that tells once when it cannot be written, and harms nothing then."""

    is_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name
        """Say what is wrong with the file; called while that is handled."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.is_told:
            self.is_told = True
            shown = visible(self.baseFilename)
            warn(f"--log-file: {shown} cannot be written: {error.strerror}")

    def close(self) -> None:
        """Close it; what could not be written is told already."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(*, verbose: int, log_file: str | None) -> Iterator[None]:
    """Send the package's log lines where the options say.

    A line names a fact, not the module that says it.

    Args:
        verbose: 0 nothing, 1 what happens to the logon session, in outages and to the
            tasks, 2 also each poll and each keep-alive that failed; one that went well
            is no line.
        log_file: Gets everything.

    Raises:
        click.UsageError: The file cannot be written.
    """
    logger = logging.getLogger("veeam_tasks")
    handlers: list[logging.Handler] = []
    if verbose:
        shown = _StandardError()
        shown.setLevel(_LEVELS.get(verbose, logging.DEBUG))
        shown.addFilter(_is_not_said)
        shown.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%X"))
        handlers.append(shown)
    if log_file is not None:
        handlers.append(_file_handler(log_file))
    for handler in handlers:
        handler.addFilter(_is_not_told_here)
        logger.addHandler(handler)
    before = logger.level
    if handlers:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    except click.UsageError as error:
        # It is printed when the file is closed already.
        log_said(logging.ERROR, error.format_message())
        raise
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _file_handler(path: str) -> logging.Handler:
    try:
        handler = _LogFile(path, encoding="utf-8")
        problem = ""
    except OSError as error:
        problem = f"--log-file: {visible(path)} cannot be written: {error.strerror}"
    if problem:
        raise click.UsageError(problem)
    form = "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S%z"))
    return handler
