"""Tasks and certificates as people read them on a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

import veeam_tasks as vt
from veeam_tasks._text import visible
from veeam_tasks.cli._display import STYLES, make_console


def print_tasks(tasks: Sequence[vt.Task]) -> None:
    """Print a table of tasks."""
    console = make_console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("TASK", "STATE", "OPERATION"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=38)
    table.add_column("MESSAGE", overflow="fold", ratio=1)
    for task in tasks:
        style = STYLES.get(_outcome(task), "")
        table.add_row(
            Text(task.task_id),
            Text(_state(task), style=style),
            Text(visible(task.operation)),
            Text(_message(task), style=style),
        )
    console.print(table)
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
