"""The live display on a terminal, redrawn four times a second, and a table at the end.

It is drawn on the terminal's other screen: there a resize moves no half-drawn line
into the history. What is to be read meanwhile stands at the bottom, and is printed
when the display goes.

The server's words are shown as `Text`, so that nothing in them counts as markup, and
control characters in them were made visible by `Progress`.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import IO, Any, Final, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import veeam_tasks as vt
from veeam_tasks.cli._explain import outage
from veeam_tasks.cli._messages import visible
from veeam_tasks.cli._progress import (
    GOES_ON,
    Progress,
    Row,
    clock,
    counts_text,
    ended_line,
    in_order,
    outcome_of,
    reason_of,
    unfinished_lines,
    word_of,
)
from veeam_tasks.cli._reporters import Reporter
from veeam_tasks.cli._streams import TerminalScreen
from veeam_tasks.cli._tables import (
    COLUMNS,
    RUN_COLUMNS,
    STYLES,
    has_messages,
    make_console,
    make_table,
)

_PERIOD: Final = 0.25
# Windows has none.
_STOP: Final = getattr(signal, "SIGTSTP", None)
_FIXED_LINES = 8
_FEWEST_ROWS = 3
_NOTES_SHOWN, _NOTES_KEPT = 3, 10_000
_MOST_ROWS = 40
_REPEATED = 5


class _HeldErrors:
    """A standard error that keeps what is written until the display is gone."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.lines: deque[str] = deque(maxlen=_NOTES_KEPT)
        self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Keep it."""
        *whole, self._rest = (self._rest + text).split("\n")
        self.lines.extend(whole)
        return len(text)

    def flush(self) -> None:
        """Do nothing: it is kept already."""

    def release(self) -> None:
        """Write what was kept."""
        for line in (*self.lines, *filter(None, [self._rest])):
            self.stream.write(f"{line}\n")
        self.stream.flush()


class Display:
    """Draws the progress of a watch on a terminal.

    Args:
        progress: What there is to show; others fill it.
        title: The first line.
        console: Where it is drawn.
        statistics: Of the manager that watches; None if nobody has them.
    """

    def __init__(
        self,
        progress: Progress,
        title: str,
        console: Console,
        statistics: Callable[[], vt.Statistics] | None = None,
    ) -> None:
        self._progress = progress
        self._title = title
        self._console = console
        self._statistics = statistics
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._held: _HeldErrors | None = None
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=self._render,
        )
        if sys.stderr.isatty():
            self._held = _HeldErrors(sys.stderr)
            sys.stderr = cast("TextIO", self._held)
        TerminalScreen.is_other = True
        self._live.start(refresh=True)
        self._stops = False
        self._take_stop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(
            _PERIOD, self._tick
        )

    def close(self) -> None:
        """Take the display off the screen. May be called twice."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._leave_stop()
        # A terminal that went away is no reason to stay logged on.
        with suppress(OSError):
            self._live.stop()
        TerminalScreen.is_other = False
        if self._held is not None:
            sys.stderr = cast("TextIO", self._held.stream)
            with suppress(OSError):
                self._held.release()

    def _take_stop(self) -> None:
        """Let Ctrl-Z come to us; what is ignored stays so."""
        if _STOP is not None and signal.getsignal(_STOP) is signal.SIG_DFL:
            self._loop.add_signal_handler(_STOP, self._stop)
            self._stops = True

    def _leave_stop(self) -> None:
        if _STOP is not None and self._stops:
            self._loop.remove_signal_handler(_STOP)
            self._stops = False

    def _stop(self) -> None:
        """Stop as Ctrl-Z asks, but not before the first screen is shown again."""
        TerminalScreen.leave()
        self._leave_stop()
        assert _STOP is not None
        os.kill(os.getpid(), _STOP)
        # From here on it goes on, perhaps in a terminal of another size.
        self._take_stop()
        TerminalScreen.return_to()
        with suppress(OSError):
            self._live.refresh()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_PERIOD, self._tick)
        with suppress(OSError):
            self._live.refresh()

    def _render(self) -> RenderableType:
        progress, size = self._progress, self._console.size
        notes = self._notes()
        fixed = _FIXED_LINES + len(notes)
        picked = progress.pick(max(_FEWEST_ROWS, size.height - fixed))
        now = datetime.now(UTC)
        is_old = progress.outage is not None
        draw = run_cells if progress.follows else cells
        shown = [
            *(draw(row, clock(row.span.total_seconds())) for row in picked.failures),
            *(
                draw(row, clock((now - row.first).total_seconds()), is_old=is_old)
                for row in picked.running
            ),
            *(draw(row, clock(row.span.total_seconds())) for row in picked.succeeded),
        ]
        lines: list[RenderableType] = [self._head(), *self._totals(size.width)]
        if shown:
            lines += [Text(""), self._table(shown, size.width)]
        more = [
            f"{count} more {word}"
            for count, word in (
                (picked.more_failures, "failed or lost"),
                (picked.more_running, "running"),
            )
            if count
        ]
        if more:
            lines.append(Text(f"... and {', '.join(more)}", style="dim"))
        if notes:
            lines += [Text(""), *notes]
        return Group(*lines)

    def _table(self, shown: list[tuple[Text, ...]], width: int) -> Table:
        if self._progress.follows:
            return make_table(RUN_COLUMNS, shown, width, last="STATE")
        return make_table(COLUMNS, shown, width)

    def _notes(self) -> list[Text]:
        if self._held is None:
            return []
        last = list(self._held.lines)[-_NOTES_SHOWN:]
        return [
            Text(visible(line), style="dim", no_wrap=True, overflow="ellipsis")
            for line in last
        ]

    def _head(self) -> RenderableType:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        span = clock(self._loop.time() - self._began)
        grid.add_row(Text(self._title, style="bold"), Text(span))
        return grid

    def _totals(self, width: int) -> list[RenderableType]:
        progress = self._progress
        lines: list[RenderableType] = []
        if progress.total:
            grid = Table.grid(padding=(0, 2))
            share = f"{progress.ended} of {progress.total}"
            bar = ProgressBar(
                total=progress.total,
                completed=progress.ended,
                width=max(10, min(width - len(share) - 4, 60)),
            )
            grid.add_row(bar, Text(share))
            lines.append(grid)
        lines += [counts_line(progress), self._health()]
        return lines

    def _health(self) -> RenderableType:
        down = self._progress.outage
        if down is None:
            return Text(
                f"server: answers{self._rhythm()}",
                style="dim",
                no_wrap=True,
                overflow="ellipsis",
            )
        away = clock((datetime.now(UTC) - down.at).total_seconds())
        why = visible(outage(down.error) or down.detail)
        return Text(
            f"server: {why}{self._rhythm()}; away for {away}",
            style="bold red",
            no_wrap=True,
            overflow="ellipsis",
        )

    def _rhythm(self) -> str:
        """Return when the server was asked last, and when it is asked next."""
        if self._statistics is None:
            return ""
        found, now = self._statistics(), datetime.now(UTC)
        is_down = self._progress.outage is not None
        parts = []
        if found.last_request_at is not None and not is_down:
            parts.append(f"asked {_seconds(now - found.last_request_at)} ago")
        if found.next_request_at is not None:
            word = "next try" if is_down else "next"
            parts.append(f"{word} in {_seconds(found.next_request_at - now)}")
        return "".join(f", {part}" for part in parts)


def _seconds(span: timedelta) -> str:
    return f"{max(0, round(span.total_seconds()))} s"


def cells(row: Row, age: str, *, is_old: bool = False) -> tuple[Text, ...]:
    """Return what stands in the columns of one task.

    Args:
        row: The task.
        age: How long it is watched, or was.
        is_old: Whether it may be otherwise by now: the server is away.
    """
    event = row.latest
    outcome = outcome_of(event)
    style = ("dim" if is_old else "") if outcome is None else STYLES[outcome]
    plain = "dim" if is_old and outcome is None else ""
    return (
        Text(event.task_id, style=plain),
        Text(outcome or word_of(event), style=style),
        Text(age, style=plain),
        Text(row.operation, style=plain),
        Text("" if outcome is None else reason_of(event), style=style),
    )


def run_cells(row: Row, age: str, *, is_old: bool = False) -> tuple[Text, ...]:
    """Return what stands in the columns of one followed run; see `cells`."""
    event = row.latest
    outcome = outcome_of(event)
    style = ("dim" if is_old else "") if outcome is None else STYLES[outcome]
    if event.has_warnings:
        style = STYLES["unfinished"]
    plain = "dim" if is_old and outcome is None else ""
    state = word_of(event) if outcome is None else reason_of(event) or outcome
    if outcome == "lost" or (outcome is not None and event.session is None):
        state = outcome if state == outcome else f"{outcome}: {state}"
    return (
        Text(event.task_id, style=plain),
        Text(row.operation, style=plain),
        Text(row.job, style=plain),
        Text(state, style=style),
        Text(age, style=plain),
    )


def counts_line(progress: Progress) -> Text:
    """Return the counts, of which none is ever cut."""
    line = Text()
    for word in ("succeeded", "failed", "lost"):
        count = progress.counts[word]
        if word == "lost" and not count:
            continue
        line.append(f"{count} {word}", style=STYLES[word] if count else "dim")
        line.append("  ")
    line.append(f"{len(progress.running)} running")
    if progress.waiting:
        line.append(f"  {progress.waiting} not seen yet", style="dim")
    return line


class LiveReporter(Reporter):
    """Draws what it has noted while the watch goes on; prints a table when it ends."""

    def __init__(self) -> None:
        super().__init__()
        self._console = make_console()
        self._display: Display | None = None

    def begin(
        self,
        title: str,
        total: int | None,
        statistics: Callable[[], vt.Statistics] | None = None,
    ) -> None:
        """Start drawing."""
        super().begin(title, total, statistics)
        self._display = Display(self.progress, title, self._console, statistics)

    def close(self) -> None:
        """Take the display off the screen."""
        if self._display is not None:
            self._display.close()

    def summary(self, unfinished: Iterable[str]) -> None:
        """Print a table: everything if it is short, else what did not succeed.

        What went wrong is repeated below it, next to the counts.
        """
        left = list(unfinished)
        progress, console = self.progress, self._console
        ended = [*progress.recent, *progress.failures]
        if len(ended) != progress.ended or len(ended) > _MOST_ROWS:
            ended = progress.failures
        shown = in_order(ended)[:_MOST_ROWS]
        is_told = self._print_rows(shown) if shown else True
        if len(ended) > len(shown):
            console.print(
                Text(f"... and {len(ended) - len(shown)} more failed or lost")
            )
        self._repeat_failures(is_alone=is_told and len(shown) == 1)
        for line in unfinished_lines(left, progress):
            console.print(Text(line, style=STYLES["unfinished"]))
        if progress.advice:
            console.print(Text(progress.advice))
        is_good = progress.is_good and not left
        console.print(
            Text(counts_text(progress, len(left)), style="green" if is_good else "bold")
        )
        if progress.begun:
            console.print(Text(GOES_ON, style=STYLES["unfinished"]))

    def _print_rows(self, rows: list[Row]) -> bool:
        """Print a table of tasks; return whether it tells why they failed."""
        follows, width = self.progress.follows, self._console.size.width
        draw = run_cells if follows else cells
        drawn = [draw(row, clock(row.span.total_seconds())) for row in rows]
        if follows:
            table = make_table(RUN_COLUMNS, drawn, width, is_whole=True, last="STATE")
            self._console.print(table)
            # Said again below all the same: the last lines are what is read first.
            return False
        table = make_table(COLUMNS, drawn, width, is_whole=True)
        self._console.print(table)
        return has_messages(table)

    def _repeat_failures(self, *, is_alone: bool) -> None:
        if is_alone:
            return
        failures = in_order(self.progress.failures)
        for row in failures[:_REPEATED]:
            outcome = outcome_of(row.latest)
            style = STYLES[outcome or "failed"]
            self._console.print(Text(ended_line(row), style=style))
        if len(failures) > _REPEATED:
            self._console.print(
                Text(f"... and {len(failures) - _REPEATED} more, see above")
            )
