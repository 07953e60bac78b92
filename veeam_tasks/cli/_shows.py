"""How a watch is told: live on a terminal, as JSON lines into a pipe, or hardly."""

import os
import sys
from collections.abc import Iterable
from typing import Protocol

import attrs

import veeam_tasks as vt
from veeam_tasks.cli._board import (
    Board,
    counts_text,
    ended_line,
    outcome_of,
    said,
    unfinished_line,
    word_of,
)
from veeam_tasks.cli._lines import Writer, event_object
from veeam_tasks.cli._words import say


@attrs.frozen(kw_only=True)
class Talk:
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


class Show(Protocol):
    """Tells of one watch, from its beginning to its summary."""

    board: Board

    @property
    def is_stuck(self) -> bool:
        """Whether something is still being written that nobody reads."""

    def begin(self, title: str, total: int | None) -> None:
        """Start; `total` is how many tasks are watched, None if that is open."""

    async def event(self, event: vt.TaskEvent) -> None:
        """Tell of an event."""

    def notice(self, notice: vt.Notice) -> None:
        """Tell of the server's health."""

    def close(self) -> None:
        """Stop telling of events. May be called twice."""

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell what became of the tasks."""


def make_show(talk: Talk) -> Show:
    """Return what suits the standard output and the options."""
    if talk.quiet and not talk.as_json:
        return QuietShow()
    if talk.wants_objects:
        return JsonShow(quiet=talk.quiet)
    if os.environ.get("TERM", "") in {"", "dumb", "unknown"} and os.name != "nt":
        return LinesShow()
    from veeam_tasks.cli._live import LiveShow  # noqa: PLC0415 - rich only if used

    return LiveShow()


class QuietShow:
    """Says nothing but what went wrong, on standard error."""

    def __init__(self) -> None:
        self.board = Board(total=None)
        self.is_stuck = False

    def begin(self, title: str, total: int | None) -> None:  # noqa: ARG002 - the protocol has it
        """Start."""
        self.board.total = total

    async def event(self, event: vt.TaskEvent) -> None:
        """Tell of a task that failed or was lost."""
        row = self.board.take(event)
        if outcome_of(event) in {"failed", "lost"}:
            say(ended_line(row))

    def notice(self, notice: vt.Notice) -> None:
        """Take note only."""
        self.board.heed(notice)

    def close(self) -> None:
        """Stop."""

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell which tasks have no end, if any."""
        left = list(unfinished)
        if left:
            say(unfinished_line(left))


class JsonShow:
    """Writes one object a line; whatever else there is goes to standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self.board = Board(total=None)
        self._writer = Writer()
        self._quiet = quiet

    @property
    def is_stuck(self) -> bool:
        """Whether a line was left behind because nobody reads the pipe."""
        return self._writer.is_stuck

    def begin(self, title: str, total: int | None) -> None:  # noqa: ARG002 - the protocol has it
        """Start."""
        self.board.total = total

    async def event(self, event: vt.TaskEvent) -> None:
        """Write the event."""
        self.board.take(event)
        await self._writer.write(event_object(event))

    def notice(self, notice: vt.Notice) -> None:
        """Tell of an outage, its end, and a logon anew."""
        self.board.heed(notice)
        if not self._quiet:
            tell_notice(notice)

    def close(self) -> None:
        """Stop."""

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell what became of the tasks on standard error, one line each."""
        if not self._quiet:
            tell_summary(self.board, unfinished)


class LinesShow:
    """A line of text per event: for a terminal that can do no more."""

    def __init__(self) -> None:
        self.board = Board(total=None)
        self.is_stuck = False

    def begin(self, title: str, total: int | None) -> None:
        """Start."""
        self.board.total = total
        self._print(title)

    async def event(self, event: vt.TaskEvent) -> None:
        """Print the event."""
        row = self.board.take(event)
        previous = "" if event.previous is None else f"{event.previous} -> "
        time = event.observed_at.astimezone().strftime("%H:%M:%S")
        line = f"{time}  {event.task_id}  {previous}{word_of(event)}  {row.operation}"
        outcome = outcome_of(event)
        if outcome is not None:
            line = f"{line}  {outcome}  {said(event)}"
        self._print(line.rstrip())

    def notice(self, notice: vt.Notice) -> None:
        """Tell of an outage, its end, and a logon anew."""
        self.board.heed(notice)
        tell_notice(notice)

    def close(self) -> None:
        """Stop."""

    def summary(self, unfinished: Iterable[str]) -> None:
        """Tell what became of the tasks."""
        tell_summary(self.board, unfinished)

    def _print(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


_TOLD = {
    vt.NoticeKind.UNREACHABLE: "the server cannot be reached: ",
    vt.NoticeKind.RECOVERED: "",
    vt.NoticeKind.RENEWED: "logged on anew: ",
}


def tell_notice(notice: vt.Notice) -> None:
    """Print a line about an outage, its end, or a logon anew."""
    told = _TOLD.get(notice.kind)
    if told is not None:
        time = notice.at.astimezone().strftime("%H:%M:%S")
        say(f"{time}  {told}{notice.detail}")


def tell_summary(board: Board, unfinished: Iterable[str]) -> None:
    """Print what became of the tasks: the failures, then the counts."""
    for row in board.failures:
        say(ended_line(row))
    left = list(unfinished)
    if left:
        say(unfinished_line(left))
    if board.advice:
        say(board.advice)
    say(counts_text(board, len(left)))
