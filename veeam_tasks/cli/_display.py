"""The live display on a terminal: redrawn four times a second, never torn.

The server's words are shown as `Text`, so that nothing in them counts as markup, and
control characters in them were made visible by the board.
"""

import asyncio
import sys
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from veeam_tasks._text import visible
from veeam_tasks.cli._board import Board, Row, clock, outcome_of, said, word_of
from veeam_tasks.cli._grid import make_table

_PERIOD = 0.25
_FIXED_LINES = 8
_FEWEST_ROWS = 3
COLUMNS = ("TASK", "STATE", "AGE", "OPERATION", "MESSAGE")
STYLES = {
    "succeeded": "green",
    "failed": "red",
    "lost": "magenta",
    "unfinished": "yellow",
}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes nothing in a text for markup."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


class Display:
    """Draws a board on a terminal, below whatever else is printed meanwhile.

    Args:
        board: What there is to show; others fill it.
        title: The first line.
        console: Where it is drawn.
    """

    def __init__(self, board: Board, title: str, console: Console) -> None:
        self._board = board
        self._title = title
        self._console = console
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._size = console.size
        self._live = self._make()
        self._live.start(refresh=True)
        self._timer: asyncio.Handle | None = self._loop.call_later(_PERIOD, self._tick)

    def close(self) -> None:
        """Take the display off the screen. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._live.stop()

    def _make(self) -> Live:
        return Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            # Log lines go above the display, unless they go elsewhere anyway.
            redirect_stderr=sys.stderr.isatty(),
            vertical_overflow="crop",
            get_renderable=self._render,
        )

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_PERIOD, self._tick)
        size = self._console.size
        if size != self._size:
            # The terminal has wrapped or cut what was drawn, so that nobody knows
            # where it begins: start on a clean screen.
            self._size = size
            self._live.stop()
            self._console.clear()
            self._live = self._make()
            self._live.start()
        self._live.refresh()

    def _render(self) -> RenderableType:
        board, width = self._board, self._console.size.width
        rows = max(_FEWEST_ROWS, self._console.size.height - _FIXED_LINES)
        picked = board.pick(rows)
        now = datetime.now(UTC)
        shown = [
            cells(row, clock((now - row.first).total_seconds()))
            for row in picked.running
        ]
        shown += [
            cells(row, clock(row.span.total_seconds()))
            for row in (*picked.failures, *picked.succeeded)
        ]
        more = [
            f"{count} more {word}"
            for count, word in (
                (picked.more_running, "running"),
                (picked.more_failures, "failed or lost"),
            )
            if count
        ]
        lines: list[RenderableType] = [self._head(), *self._totals(width), Text("")]
        if shown:
            lines.append(make_table(COLUMNS, shown, width))
        if more:
            lines.append(Text(f"... and {', '.join(more)}", style="dim"))
        return Group(*lines)

    def _head(self) -> RenderableType:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        span = clock(self._loop.time() - self._began)
        grid.add_row(Text(self._title, style="bold"), Text(span))
        return grid

    def _totals(self, width: int) -> list[RenderableType]:
        board = self._board
        lines: list[RenderableType] = []
        if board.total:
            grid = Table.grid(padding=(0, 2))
            share = f"{board.ended} of {board.total}"
            bar = ProgressBar(
                total=board.total,
                completed=board.ended,
                width=max(10, min(width - len(share) - 4, 60)),
            )
            grid.add_row(bar, Text(share))
            lines.append(grid)
        lines.append(counts_line(board))
        lines.append(self._health())
        return lines

    def _health(self) -> RenderableType:
        outage = self._board.outage
        if outage is None:
            return Text("server: answers", style="dim", no_wrap=True)
        span = clock((datetime.now(UTC) - outage.at).total_seconds())
        return Text(
            f"server: unreachable for {span}: {visible(outage.detail)}",
            style="bold red",
            no_wrap=True,
            overflow="ellipsis",
        )


def cells(row: Row, age: str) -> tuple[Text, ...]:
    """Return what stands in the columns of one task."""
    event = row.latest
    outcome = outcome_of(event)
    style = "" if outcome is None else STYLES[outcome]
    return (
        Text(event.task_id),
        Text(outcome or word_of(event), style=style),
        Text(age),
        Text(row.operation),
        Text("" if outcome is None else said(event), style=style),
    )


def counts_line(board: Board) -> Text:
    """Return the counts, of which none is ever cut."""
    line = Text()
    for word in ("succeeded", "failed", "lost"):
        count = board.counts[word]
        line.append(f"{count} {word}", style=STYLES[word] if count else "dim")
        line.append("  ")
    line.append(f"{len(board.running)} running")
    if board.waiting:
        line.append(f"  {board.waiting} not seen yet", style="dim")
    return line
