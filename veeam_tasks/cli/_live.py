"""The show for a terminal: a live display, and a table at the end."""

from collections.abc import Iterable

from rich.text import Text

import veeam_tasks as vt
from veeam_tasks.cli._board import (
    Board,
    Row,
    clock,
    counts_text,
    ended_line,
    outcome_of,
    unfinished_line,
)
from veeam_tasks.cli._display import (
    COLUMNS,
    STYLES,
    Display,
    cells,
    make_console,
)
from veeam_tasks.cli._grid import has_messages, make_table

_MOST_ROWS = 40


class LiveShow:
    """Draws while the watch goes on; prints a table when it ends."""

    def __init__(self) -> None:
        self.board = Board(total=None)
        self.is_stuck = False
        self._console = make_console()
        self._display: Display | None = None

    def begin(self, title: str, total: int | None) -> None:
        """Start drawing."""
        self.board.total = total
        self._display = Display(self.board, title, self._console)

    async def event(self, event: vt.TaskEvent) -> None:
        """Take note: it is drawn with the next picture."""
        self.board.take(event)

    def notice(self, notice: vt.Notice) -> None:
        """Take note: it is drawn with the next picture, until it is over."""
        self.board.heed(notice)

    def close(self) -> None:
        """Take the display off the screen."""
        if self._display is not None:
            self._display.close()

    def summary(self, unfinished: Iterable[str]) -> None:
        """Print a table: everything if it is short, else what did not succeed."""
        left = list(unfinished)
        board, console = self.board, self._console
        ended = [*board.recent, *board.failures]
        if len(ended) != board.ended or len(ended) > _MOST_ROWS:
            ended = board.failures
        ended = sorted(ended, key=_number)
        shown = ended[:_MOST_ROWS]
        if shown:
            self._print_rows(shown)
        if len(ended) > len(shown):
            console.print(
                Text(f"... and {len(ended) - len(shown)} more failed or lost")
            )
        if left:
            console.print(Text(unfinished_line(left), style=STYLES["unfinished"]))
        if board.advice:
            console.print(Text(board.advice))
        is_good = board.counts["succeeded"] == board.ended and not left
        console.print(
            Text(counts_text(board, len(left)), style="green" if is_good else "bold")
        )

    def _print_rows(self, rows: list[Row]) -> None:
        drawn = [cells(row, clock(row.span.total_seconds())) for row in rows]
        table = make_table(COLUMNS, drawn, self._console.size.width, is_whole=True)
        self._console.print(table)
        if has_messages(table):
            return
        for row in rows:
            outcome = outcome_of(row.latest)
            if outcome is not None and outcome != "succeeded":
                self._console.print(Text(ended_line(row), style=STYLES[outcome]))


def _number(row: Row) -> int:
    return int(row.latest.task_id.rpartition("-")[2])
