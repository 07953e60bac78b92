"""How a watch is told: as JSON lines, as lines of text, or only by what went wrong.

The live display on a terminal is in `_live`, which loads rich.
"""

import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Final

import attrs

import veeam_tasks as vt
from veeam_tasks.cli._explain import outage
from veeam_tasks.cli._json_lines import Writer, event_object
from veeam_tasks.cli._messages import LOG, say
from veeam_tasks.cli._progress import (
    GOES_ON,
    Progress,
    counts_text,
    ended_line,
    log_line,
    outcome_of,
    reason_of,
    run_line,
    unfinished_lines,
    word_of,
)


@attrs.frozen(kw_only=True)
class OutputMode:
    """How much is said, and in which form.

    Attributes:
        as_json: JSON lines, also on a terminal.
        quiet: Nothing but what went wrong.
    """

    as_json: bool = False
    quiet: bool = False

    @property
    def wants_objects(self) -> bool:
        """Whether standard output gets JSON lines."""
        return self.as_json or not sys.stdout.isatty()


class Reporter(ABC):
    """Tells of one watch, from its beginning to its summary.

    By itself it takes note of everything in `progress`, and tells nothing.
    """

    def __init__(self) -> None:
        self.progress = Progress(total=None)

    @property
    def is_stuck(self) -> bool:
        """Whether something is still being written that nobody reads."""
        return False

    def begin(
        self,
        title: str,  # noqa: ARG002 - for those that tell it
        total: int | None,
        statistics: "Callable[[], vt.Statistics] | None" = None,  # noqa: ARG002 - as above
    ) -> None:
        """Start.

        Args:
            title: What is watched, and where.
            total: How many tasks are watched; None if that is open.
            statistics: Of the manager that watches.
        """
        self.progress.total = total

    async def event(
        self,
        event: vt.TaskEvent,
        *,
        again: bool = False,  # noqa: ARG002 - for those that tell it
    ) -> None:
        """Tell of an event.

        Args:
            event: What to tell.
            again: Whether a process before may have told it.
        """
        self.progress.take(event)

    def notice(self, notice: vt.Notice, server: str = "") -> None:
        """Tell of the server's health."""
        self.progress.note(notice, server)

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Stop telling of events. May be called twice."""

    @abstractmethod
    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell what became of the tasks."""


def make_reporter(output: OutputMode) -> Reporter:
    """Return what suits the standard output and the options."""
    if output.quiet and not output.as_json:
        return QuietReporter()
    if output.wants_objects:
        return JsonReporter(quiet=output.quiet)
    if os.environ.get("TERM", "") in {"", "dumb", "unknown"} and os.name != "nt":
        return LinesReporter()
    from veeam_tasks.cli._live import LiveReporter  # noqa: PLC0415 - rich only if used

    return LiveReporter()


def log_event(event: vt.TaskEvent) -> None:
    """Write what became of a task into the log."""
    level = logging.INFO if event.is_final else logging.DEBUG
    if LOG.isEnabledFor(level):
        told = {
            "event": "ended" if event.is_final else "changed",
            "task_id": event.task_id,
            "state": word_of(event),
            "outcome": outcome_of(event),
        }
        LOG.log(level, "%s", log_line(event), extra=told)


class QuietReporter(Reporter):
    """Says nothing but what went wrong, on standard error."""

    async def event(
        self,
        event: vt.TaskEvent,
        *,
        again: bool = False,  # noqa: ARG002 - people see no difference
    ) -> None:
        """Tell of a task that failed or was lost."""
        row = self.progress.take(event)
        if outcome_of(event) in {"failed", "lost"}:
            say(ended_line(row))

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell which tasks have no end, if any."""
        for line in unfinished_lines(list(unfinished), self.progress):
            say(line)


class JsonReporter(Reporter):
    """Writes one object a line; whatever else there is goes to standard error."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__()
        self._writer = Writer()
        self._quiet = quiet

    @property
    def is_stuck(self) -> bool:
        """Whether a line was left behind because nobody reads the pipe."""
        return self._writer.is_stuck

    async def event(self, event: vt.TaskEvent, *, again: bool = False) -> None:
        """Write the event."""
        self.progress.take(event)
        line = event_object(event)
        await self._writer.write({**line, "again": True} if again else line)

    def notice(self, notice: vt.Notice, server: str = "") -> None:
        """Tell of an outage, its end, and a logon anew."""
        self.progress.note(notice, server)
        if not self._quiet:
            tell_notice(notice)

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell what became of the tasks on standard error, one line each."""
        if not self._quiet:
            tell_summary(self.progress, unfinished)


class LinesReporter(Reporter):
    """A line of text per event: for a terminal that can do no more."""

    def begin(
        self,
        title: str,
        total: int | None,
        statistics: "Callable[[], vt.Statistics] | None" = None,
    ) -> None:
        """Print what is watched."""
        super().begin(title, total, statistics)
        self._print(title)

    async def event(
        self,
        event: vt.TaskEvent,
        *,
        again: bool = False,  # noqa: ARG002 - people see no difference
    ) -> None:
        """Print the event."""
        row = self.progress.take(event)
        previous = "" if event.previous is None else f"{event.previous} -> "
        time = event.observed_at.astimezone().strftime("%H:%M:%S")
        if self.progress.follows:
            self._print(f"{time}  {run_line(row)}")
            return
        line = f"{time}  {event.task_id}  {previous}{word_of(event)}  {row.operation}"
        outcome = outcome_of(event)
        if outcome is not None:
            line = f"{line}  {outcome}  {reason_of(event)}"
        self._print(line.rstrip())

    def notice(self, notice: vt.Notice, server: str = "") -> None:
        """Tell of an outage, its end, and a logon anew."""
        self.progress.note(notice, server)
        tell_notice(notice)

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell what became of the tasks."""
        tell_summary(self.progress, unfinished)

    def _print(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


_NOTICED: Final = {
    vt.NoticeKind.UNREACHABLE: "the server cannot be reached: ",
    vt.NoticeKind.RECOVERED: "",
    vt.NoticeKind.RENEWED: "logged on anew: ",
}


def tell_notice(notice: vt.Notice) -> None:
    """Print a line about an outage, its end, or a logon anew."""
    words = _NOTICED.get(notice.kind)
    if words is not None:
        time = notice.at.astimezone().strftime("%H:%M:%S")
        say(f"{time}  {words}{outage(notice.error) or notice.detail}")


def tell_summary(progress: Progress, unfinished: Iterable[str]) -> None:
    """Print what became of the tasks: the failures, then the counts."""
    for row in progress.failures:
        say(ended_line(row))
    left = list(unfinished)
    for line in unfinished_lines(left, progress):
        say(line)
    if progress.advice:
        say(progress.advice)
    say(counts_text(progress, len(left)))
    if progress.begun:
        say(GOES_ON)
