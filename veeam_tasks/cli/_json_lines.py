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


def task_object(task: vt.Task, server: str = "") -> dict[str, object]:
    """Return what `list`, `get` and ``submit --no-watch`` print of a task."""
    result = task.result
    named = {"server": server} if server else {}
    return {
        **named,
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
    server, _, task_id = event.task_id.rpartition("/")
    found: dict[str, object] = {
        "task_id": task_id,
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
        "stage": event.stage.value,
        "session": None if event.session is None else _session(event.session),
    }
    if server:
        found["server"] = server
    if event.is_final:
        found["failures"] = [
            {"vm": one.vm_name, "result": one.raw_result, "reason": one.reason}
            for one in event.failures
        ]
    return found


def _session(session: vt.JobSession) -> dict[str, object]:
    has_result = session.result is not vt.SessionResult.NONE
    return {
        "uid": session.uid,
        "kind": session.kind,
        "name": session.name,
        "job_name": session.job_name,
        "state": session.raw_state,
        "result": session.raw_result if has_result else None,
        "progress": session.progress,
        "created_at": _time(session.created_at),
        "ended_at": _time(session.ended_at),
        "is_retry": session.is_retry,
        "href": session.href,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else iso_time(at)


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
