"""JSON lines: what each kind of object holds, and how it is written.

The keys are part of the public surface: they may grow, they do not change.
"""

import json
import sys
from collections.abc import Mapping
from datetime import datetime

import anyio.to_thread

import veeam_tasks as vt
from veeam_tasks.cli._explain import explain
from veeam_tasks.cli._progress import outcome_of

JsonObject = Mapping[str, object]


def task_object(task: vt.Task) -> dict[str, object]:
    """Return what `list`, `get` and ``submit --no-watch`` print of a task."""
    result = task.result
    return {
        "task_id": task.task_id,
        "state": task.state.value,
        "raw_state": task.raw_state,
        "operation": task.operation,
        "is_finished": task.is_finished,
        "succeeded": task.succeeded,
        "message": None if result is None else result.message,
        "related": [_link(link) for link in task.related],
    }


def event_object(event: vt.TaskEvent) -> dict[str, object]:
    """Return what a watch prints of an event."""
    task = event.task
    result = None if task is None else task.result
    return {
        "task_id": event.task_id,
        "sequence": event.sequence,
        "previous": None if event.previous is None else event.previous.value,
        "state": event.state.value,
        "raw_state": None if task is None else task.raw_state,
        "operation": None if task is None else task.operation,
        "is_final": event.is_final,
        "succeeded": event.succeeded,
        "outcome": outcome_of(event),
        "message": None if result is None else result.message,
        "error": None if event.error is None else explain(event.error),
        "observed_at": iso_time(event.observed_at),
        "not_before": None if event.not_before is None else iso_time(event.not_before),
        "related": [] if task is None else [_link(link) for link in task.related],
    }


def iso_time(at: datetime) -> str:
    """Return a time in ISO 8601, with milliseconds and offset."""
    return at.isoformat(timespec="milliseconds")


def _link(link: vt.Link) -> dict[str, object]:
    return {"type": link.type, "name": link.name, "href": link.href}


def write(value: JsonObject) -> None:
    """Write one object as one line of ASCII, flushed.

    Raises:
        OSError: It cannot be written; as BrokenPipeError: nobody reads it any more.
    """
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


class Writer:
    """Writes lines without holding up the event loop when the reader is slow.

    A pipe that is not read blocks whoever writes to it; the watch must go on polling
    meanwhile, or the server would end the logon session as idle.
    """

    def __init__(self) -> None:
        self.is_stuck = False

    async def write(self, value: JsonObject) -> None:
        """Write one object; if cancelled meanwhile, leave the writing behind.

        Raises:
            OSError: As `write`.
        """
        self.is_stuck = True
        try:
            await anyio.to_thread.run_sync(write, value, abandon_on_cancel=True)
        except OSError:
            self.is_stuck = False
            raise
        self.is_stuck = False
