"""Tasks and certificates as people read them on a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

import veeam_tasks as vt
from veeam_tasks._text import visible
from veeam_tasks.cli._display import STYLES, make_console
from veeam_tasks.cli._grid import has_messages, make_table


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
    console.print(Text(f"{len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}"))


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
