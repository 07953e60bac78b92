"""How a watch is written into a checkpoint; `resuming.py` is the way back."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from veeam_tasks._engine.checkpoint_values import VERSION
from veeam_tasks._engine.pending_event import PendingEvent
from veeam_tasks._engine.records import TaskRecord
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._events import TaskEvent
from veeam_tasks._model import JobSession, RunStage, Task, TaskSession, TaskState
from veeam_tasks._session.session_search import SKEW
from veeam_tasks._session.submitted import Submitted

Hide = Callable[[str], str]


def written_watch(
    *,
    url: str,
    logon: str | None,
    saved: float,
    tasks: list[dict[str, Any]],
    extra: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Return a checkpoint as JSON has it."""
    said = {key: value for key, value in more.items() if _says(value)}
    plain = {"version": VERSION, "url": url, "logon": logon, "saved": _ms(saved)}
    return {**extra, **plain, **said, "tasks": tasks}


def written_task(
    task_id: str,
    entry: PendingEvent,
    hide: Hide,
    *,
    record: TaskRecord | None = None,
    run: dict[str, Any] | None = None,
    submitted: Submitted | None = None,
    known: Task | None = None,
    is_earlier: bool = False,
) -> dict[str, Any]:
    """Return a watched task as JSON has it: what was delivered, and what is owed.

    Args:
        task_id: Its ID.
        entry: What was delivered and is owed of it.
        hide: Hides the secrets that a text of the server may hold.
        record: What is known of it; None if it has ended.
        run: Its job session as JSON has it, if that is searched or followed.
        submitted: Where it came from, if that is known.
        known: The task, where neither entry nor record has seen it.
        is_earlier: Whether it is of an earlier logon session than there is now.
    """
    plain: dict[str, Any] = {"id": task_id}
    if is_earlier:
        plain["earlier"] = True
    delivered = entry.delivered
    if delivered is not None:
        plain["sequence"] = delivered.sequence
        plain.update(_event(delivered, hide))
    told = _owe(plain, entry, hide)
    latest = entry.latest_task
    if record is not None and record.task is not None:
        latest = record.task
        plain["asked"] = _ms_before(_asked(record, entry))
    latest = latest or known
    if latest is not None:
        _describe(plain, latest, told, hide)
    if submitted is not None and not entry.is_final:
        plain["start"] = _start(submitted, hide)
    if run is not None:
        if "asked" in run:
            plain["asked"] = run.pop("asked")
        plain["run"] = run
    return plain


def _owe(plain: dict[str, Any], entry: PendingEvent, hide: Hide) -> TaskEvent | None:
    """Write the ends that are owed; return the last event that is written then.

    What else is owed a new process sees for itself.
    """
    owed, last = entry.owed, entry.latest
    if owed is None or not (owed.is_final or owed.stage is RunStage.SEARCHING):
        return entry.delivered
    plain["owed"] = _event(owed, hide, is_owed=True)
    if last is not None and last is not owed and last.is_final:
        plain["next"] = _event(last, hide, is_owed=True)
    return owed


def _asked(record: TaskRecord, entry: PendingEvent) -> float:
    """Return since when a change may have come that no event has told."""
    if entry.owed is None or entry.owed.not_before is None:
        return record.sent_wall
    return min(record.sent_wall, entry.owed.not_before.timestamp())


def _describe(
    plain: dict[str, Any], task: Task, told: TaskEvent | None, hide: Hide
) -> None:
    """Write what tells a task from another one under its ID."""
    plain["operation"] = hide(task.operation)
    related = [_path(link.href, hide) for link in task.related]
    if related:
        plain["related"] = related
    if told is None or told.task is None or told.task.raw_state != task.raw_state:
        plain["seen"] = task.raw_state


def written_event(event: TaskEvent, hide: Hide) -> dict[str, Any]:
    """Return an event that is owed of a task whose ID is another one's by now."""
    plain = {"id": event.task_id, "sequence": event.sequence, **_event(event, hide)}
    if event.task is not None:
        plain["operation"] = hide(event.task.operation)
    return plain


def written_run(
    run: RunRecord, until: float, entry: PendingEvent, hide: Hide
) -> dict[str, Any]:
    """Return a job session that is searched or followed as JSON has it."""
    plain: dict[str, Any] = {"until": _ms(until)}
    if run.path is not None:
        plain["path"] = hide(run.path)
    if run.sent_wall:
        plain["asked"] = _ms_before(run.sent_wall)
    told = None if entry.delivered is None else entry.delivered.session
    if run.session is not None and run.session is not told:
        plain["session"] = _session(run.session, hide)
    return plain


def _event(event: TaskEvent, hide: Hide, *, is_owed: bool = False) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    task = event.task
    if task is not None:
        plain["state"] = task.raw_state
        if task.result is not None:
            plain["success"] = task.result.success
            if task.result.message is not None:
                plain["message"] = hide(task.result.message)
    plain["at"] = _ms(event.observed_at.timestamp())
    if is_owed and event.not_before is not None:
        plain["before"] = _ms_before(event.not_before.timestamp())
    if event.is_final:
        plain["final"] = True
    if event.state is TaskState.LOST:
        reason = getattr(event.error, "reason", None)
        plain["lost"] = hide(reason if isinstance(reason, str) else str(event.error))
    if event.stage is not RunStage.TASK:
        plain["stage"] = event.stage.value
    if event.session is not None:
        plain["session"] = _session(event.session, hide)
    if event.failures:
        plain["failures"] = [_machine(one, hide) for one in event.failures]
    return plain


def _session(session: JobSession, hide: Hide) -> dict[str, Any]:
    return _said(
        hide,
        id=session.session_id,
        kind=session.kind,
        job=session.job_name,
        vm=session.vm_name,
        state=session.raw_state,
        result=session.raw_result,
        progress=session.progress,
        began=_at(session.created_at),
        ended=_at(session.ended_at),
        failure=session.failure_message,
        href=session.href,
    )


def _machine(machine: TaskSession, hide: Hide) -> dict[str, Any]:
    return _said(
        hide,
        vm=machine.vm_name,
        state=machine.raw_state,
        result=machine.raw_result,
        reason=machine.reason,
    )


def _start(submitted: Submitted, hide: Hide) -> dict[str, Any]:
    started = submitted.started
    plain: dict[str, Any] = {"path": submitted.path, "at": _at(submitted.at)}
    if started is None:
        return plain
    if started.skew != SKEW:
        plain["skew"] = started.skew.total_seconds()
    if started.recent:
        plain["known"] = sorted(started.recent)
    if started.under_way is not None:
        plain["under_way"] = _session(started.under_way, hide)
    if started.kind is not None:
        plain["kind"] = started.kind
    return plain


def _said(hide: Hide, **values: Any) -> dict[str, Any]:
    return {
        key: hide(value) if isinstance(value, str) else value
        for key, value in values.items()
        if value is not None
    }


def _says(value: object) -> bool:
    return value is not None and value is not False and value != []


def _path(href: str, hide: Hide) -> str:
    """Return what of a link's Href tells two links apart."""
    return hide(href.partition("?")[0].rpartition("/api/")[2])


def _at(moment: datetime | None) -> float | None:
    return None if moment is None else _ms(moment.timestamp())


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _ms_before(seconds: float) -> float:
    """Return a time that is not later than this one."""
    return math.floor(max(0.0, seconds) * 1000) / 1000
