"""Tables that fit the terminal: tasks, jobs, certificates, as people read them."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

import veeam_tasks as vt
from veeam_tasks.cli._messages import counted, visible

COLUMNS: Final = ("TASK", "STATE", "AGE", "OPERATION", "MESSAGE")
RUN_COLUMNS: Final = ("TASK", "OPERATION", "JOB", "STATE", "AGE")
STYLES: Final = {
    "succeeded": "green",
    "failed": "red",
    "lost": "magenta",
    "unfinished": "yellow",
}
_GAP = 2
_USUAL_COLUMNS, _USUAL_LINES = 80, 24
_WIDE = 120
_LONGEST, _LONGEST_WIDE = 18, 38
_MESSAGE = 24
# In this order they give way; what would get less is left out. TASK and STATE stay.
_LEAST: Final = {"OPERATION": len("OPERATION"), "AGE": 4, "JOB": 8, "MESSAGE": 10}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes nothing in a text for markup."""
    # Which rich takes at its word, and shows nothing.
    is_nothing = {
        name: bool(re.fullmatch("0+", os.environ.get(name, "")))
        for name in ("COLUMNS", "LINES")
    }
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=_USUAL_COLUMNS if is_nothing["COLUMNS"] else None,
        height=_USUAL_LINES if is_nothing["LINES"] else None,
    )


def make_table(
    names: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    width: int,
    *,
    is_whole: bool = False,
    last: str = "MESSAGE",
) -> Table:
    """Return a table that fits the width; columns without anything are left out.

    Args:
        names: The heads of the columns.
        rows: A cell for each of the names.
        width: Columns of the terminal.
        is_whole: Whether what is long in the last column goes on below.
        last: The column that gets what room is left.
    """
    rooms = _rooms(_natural(names, rows, width, last), width, last)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    for name, room in rooms.items():
        folds = is_whole and name == last
        table.add_column(
            name,
            width=room,
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
            justify="right" if name == "AGE" else "left",
        )
    for row in rows:
        shown = zip(names, row, strict=True)
        table.add_row(*(cell for name, cell in shown if name in rooms))
    return table


def has_messages(table: Table) -> bool:
    """Tell whether there was room for the messages."""
    return any(column.header == "MESSAGE" for column in table.columns)


def _natural(
    names: Sequence[str], rows: Sequence[tuple[Text, ...]], width: int, last: str
) -> dict[str, int]:
    """Return how wide the columns would be with room for all."""
    longest = _LONGEST_WIDE if width >= _WIDE else _LONGEST
    natural = {}
    for at, name in enumerate(names):
        content = max((row[at].cell_len for row in rows), default=0)
        if content:
            room = max(len(name), content)
            natural[name] = room if name == last else min(room, longest)
    return natural


def _rooms(natural: dict[str, int], width: int, last: str) -> dict[str, int]:
    """Return how wide the columns are, without those that had to go."""
    rooms = dict(natural)
    if last in rooms:
        # Before the message is cut shorter than this, others give way.
        rooms[last] = min(rooms[last], _MESSAGE)
    for name, least in _LEAST.items():
        over = _over(rooms, width)
        if over <= 0:
            break
        if name in rooms:
            rooms[name] -= over
            if rooms[name] < least:
                del rooms[name]
    if last in rooms:
        rooms[last] = min(natural[last], rooms[last] - min(0, _over(rooms, width)))
    return rooms


def _over(rooms: Mapping[str, int], width: int) -> int:
    return sum(rooms.values()) + _GAP * (len(rooms) - 1) - width


def print_tasks(tasks: Sequence[vt.Task]) -> None:
    """Print a table of tasks."""
    console = make_console()
    rows = [_cells(task) for task in tasks]
    names = ("TASK", "STATE", "OPERATION", "MESSAGE")
    table = make_table(names, rows, console.size.width, is_whole=True)
    console.print(table)
    if not has_messages(table):
        for task in tasks:
            if _outcome(task) == "failed":
                line = f"{task.task_id} failed: {_message(task)}"
                console.print(Text(line, style=STYLES["failed"]))
    console.print(Text(counted(len(tasks), "task")))


def print_task(task: vt.Task) -> None:
    """Print what is known of one task."""
    pairs = [
        ("task", task.task_id),
        ("state", _state(task)),
        ("operation", visible(task.operation)),
    ]
    if task.result is not None:
        pairs.append(("message", _message(task) or "none"))
    pairs += [("related", _link(link)) for link in task.related]
    print_pairs(pairs)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one a line; long values go on below."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(value))
    make_console().print(table)


def _cells(task: vt.Task) -> tuple[Text, ...]:
    style = STYLES.get(_outcome(task), "")
    return (
        Text(task.task_id),
        Text(_state(task), style=style),
        Text(visible(task.operation)),
        Text(_message(task), style=style),
    )


def _outcome(task: vt.Task) -> str:
    if not task.is_finished:
        return ""
    return "succeeded" if task.succeeded else "failed"


def _state(task: vt.Task) -> str:
    return _outcome(task) or visible(task.raw_state)


def _message(task: vt.Task) -> str:
    # In a task that is not Finished yet it is a placeholder.
    if task.result is None or not task.is_finished:
        return ""
    return visible(task.result.message or "")


def _link(link: vt.Link) -> str:
    parts = (link.type or "", link.name or "", link.href)
    return visible("  ".join(part for part in parts if part))


def print_jobs(rows: Sequence[Sequence[str]]) -> None:
    """Print a table of jobs: name, kind, whether enabled, last result, ID."""
    console = make_console()
    names: Sequence[str] = ("NAME", "KIND", "ENABLED", "LAST RESULT", "ID")
    cells: list[tuple[Text, ...]] = [
        (
            Text(name),
            Text(kind),
            Text(enabled, style="" if enabled == "yes" else "dim"),
            Text(last, style=_RESULT_STYLES.get(last, "")),
            Text(job_id),
        )
        for name, kind, enabled, last, job_id in rows
    ]
    if _natural_width(names, cells) > console.size.width:
        # An ID that is broken in two cannot be copied: it gets a line of its own.
        cells = [
            (Text.assemble(name, "\n  ", (job_id.plain, "dim")), *rest)
            for name, *rest, job_id in cells
        ]
        names = ("NAME, ID", *names[1:-1])
    for at in (2, 1):
        if _natural_width(names, cells) > console.size.width:
            names = (*names[:at], *names[at + 1 :])
            cells = [(*row[:at], *row[at + 1 :]) for row in cells]
    _print_plain(console, names, cells)
    console.print(Text(counted(len(rows), "job")))


_RESULT_STYLES: Final = {"Success": "green", "Warning": "yellow", "Failed": "red"}


def print_actions(rows: Sequence[Sequence[str | None]]) -> None:
    """Print a table of actions: method, path, operation, body."""
    console = make_console()
    names = ("METHOD", "PATH", "OPERATION", "BODY")
    cells = [tuple(Text(value or "") for value in row) for row in rows]
    if _natural_width(names, cells) <= console.size.width:
        _print_plain(console, names, cells)
    else:
        # A path that is broken in two cannot be copied.
        for method, path, *rest in rows:
            console.print(Text(f"{method:<6}  {path}"), soft_wrap=True)
            about = "  ".join(filter(None, rest))
            console.print(Text(f"        {about}", style="dim"), soft_wrap=True)
    console.print(Text(counted(len(rows), "action")))


def measure(cell: Text) -> int:
    """Return the width of the widest line of a cell."""
    return max(line.cell_len for line in cell.split(allow_blank=True))


def _natural_width(names: Sequence[str], rows: Sequence[tuple[Text, ...]]) -> int:
    widths = [
        max([len(name), *(measure(row[at]) for row in rows)])
        for at, name in enumerate(names)
        if any(row[at].cell_len for row in rows)
    ]
    return sum(widths) + _GAP * (len(widths) - 1)


def _print_plain(
    console: Console, names: Sequence[str], rows: Sequence[tuple[Text, ...]]
) -> None:
    """Print a table as wide as the terminal; what is long goes on below.

    Nothing is cut: what stands here is to be copied.
    """
    shown = [at for at in range(len(names)) if any(row[at].cell_len for row in rows)]
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    for at in shown:
        table.add_column(names[at], overflow="fold")
    for row in rows:
        table.add_row(*(row[at] for at in shown))
    console.print(table)
