"""A night of deliveries for the report, of every end, drawn from a seed."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from veeam_tasks import (
    JobSession,
    Notice,
    NoticeKind,
    RunStage,
    SessionLostError,
    SessionResult,
    SessionState,
    Task,
    TaskEvent,
    TaskLostError,
    TaskResult,
    TaskSession,
    TaskState,
    TransportError,
)
from veeam_tasks.report import Recorder

BEGIN = datetime(2026, 11, 26, 22, 0, tzinfo=UTC)
DOWN, UP = (BEGIN + timedelta(minutes=at) for at in (63, 71))
JOBS = (
    "Oracle Backup",
    "SQL Replication",
    "File servers nightly",
    "Exchange DAG",
    "Domain controllers",
    "Linux web tier in Zürich",
    "SAP HANA PRD",
    "VDI gold images",
)
OPERATIONS = ("StartJob", "StartJob", "StartJob", "RestoreVm", "QuickBackup")
FAILURES = (
    "Disk full",
    "Unable to allocate processing resources. Error: Job is already running.",
    "Failed to open VDDK disk [[ds-7] sql01/sql01.vmdk] (is read-only mode - [true])",
)
MACHINES = (
    ("sql01", "Error: Cannot complete login due to an incorrect user name."),
    ("sql02", "Error: Shared memory connection was closed.\nFailed to upload disk."),
)


@attrs.define
class _Story:
    """The events of one task, one after the other."""

    recorder: Recorder
    task_id: str
    operation: str
    at: datetime
    sequence: int = 0
    previous: TaskState | None = None
    before: datetime | None = None

    def passes(self, seconds: float) -> None:
        """Let time go by; the change lies in the last part of it."""
        self.before = self.at + timedelta(seconds=seconds)
        self.at = self.before + timedelta(seconds=min(60, 1 + seconds * 0.07))
        if DOWN <= self.at < UP:
            # Nothing was seen while the server was away.
            self.before, self.at = min(self.before, DOWN), UP

    def tell(
        self, state: TaskState, result: TaskResult | None = None, **fields: Any
    ) -> None:
        """Deliver an event."""
        self.sequence += 1
        is_lost = state is TaskState.LOST
        word = TaskState.RUNNING if is_lost else state
        task = Task(
            task_id=self.task_id,
            state=word,
            raw_state="Reticulating" if word is TaskState.UNKNOWN else word.value,
            operation=self.operation,
            result=result,
        )
        known: dict[str, Any] = {"is_final": False, "succeeded": None}
        event = TaskEvent(
            task_id=self.task_id,
            task=None if is_lost and not self.previous else task,
            previous=self.previous,
            state=state,
            observed_at=self.at,
            not_before=self.before,
            sequence=self.sequence,
            **(known | fields),
        )
        self.previous = state
        self.recorder.add_event(event)

    def end(self, *, succeeded: bool | None, **fields: Any) -> None:
        """Deliver the final event of a task that was finished."""
        message = fields.pop("message", "Ok")
        result = None
        if succeeded is not None:
            result = TaskResult(success=succeeded, message=message)
        more = {"is_final": True, "succeeded": succeeded} | fields
        self.tell(TaskState.FINISHED, result, **more)


def _session(at: int, result: SessionResult, *, is_ended: bool) -> JobSession:
    state = SessionState.STOPPED if is_ended else SessionState.WORKING
    return JobSession(
        session_id=str(at),
        kind="BackupJobSession",
        job_name=JOBS[at % len(JOBS)],
        job_type="Backup",
        state=state,
        raw_state=state.value,
        result=result,
        raw_result=result.value,
        progress=100 if is_ended else 34,
    )


def _machines(at: int, result: SessionResult) -> tuple[TaskSession, ...]:
    if result is SessionResult.SUCCESS:
        return ()
    reasons = MACHINES[: 1 + at % 2]
    if result is SessionResult.WARNING:
        reasons = (("fs-07", "Changed block tracking cannot be enabled."),)
    return tuple(
        TaskSession(
            vm_name=name,
            raw_state="Completed",
            result=result,
            raw_result=result.value,
            reason=reason,
        )
        for name, reason in reasons
    )


def _play(story: _Story, at: int, chance: random.Random, bad: float) -> None:
    story.tell(TaskState.RUNNING)
    story.passes(chance.uniform(10, 200))
    story.tell(TaskState.OPERATION_FINISHED)
    story.passes(chance.uniform(5, 60))
    drawn = chance.random()
    if drawn < bad / 3:
        reason = "the server does not know it any more"
        error = TaskLostError(task_id=story.task_id, last_seen=None, reason=reason)
        story.tell(TaskState.LOST, is_final=True, error=error)
    elif drawn < bad:
        story.end(succeeded=False, message=chance.choice(FAILURES))
    elif story.operation != "StartJob":
        story.end(succeeded=True)
    else:
        _follow(story, at, chance, bad)


def _follow(story: _Story, at: int, chance: random.Random, bad: float) -> None:
    story.tell(TaskState.FINISHED, stage=RunStage.SEARCHING)
    story.passes(chance.uniform(3, 40))
    running = _session(at, SessionResult.NONE, is_ended=False)
    story.tell(TaskState.FINISHED, stage=RunStage.SESSION, session=running)
    if chance.random() < bad / 2:
        return
    story.passes(chance.uniform(200, 3600))
    drawn = chance.random()
    result = SessionResult.SUCCESS
    if drawn < 3 * bad:
        result = SessionResult.FAILED if drawn < 1.3 * bad else SessionResult.WARNING
    story.end(
        succeeded=result is not SessionResult.FAILED,
        stage=RunStage.SESSION,
        session=_session(at, result, is_ended=True),
        failures=_machines(at, result),
    )


def _lose(story: _Story, error: TaskLostError | SessionLostError) -> None:
    story.tell(TaskState.LOST, is_final=True, error=error)


def _unknown(story: _Story, *, advice: str = "") -> None:
    reason = "the server does not know it"
    _lose(
        story,
        TaskLostError(
            task_id=story.task_id, last_seen=None, reason=reason, advice=advice
        ),
    )


def _search(story: _Story) -> None:
    story.tell(TaskState.RUNNING)
    story.passes(30)
    story.tell(TaskState.FINISHED, stage=RunStage.SEARCHING)


def _never_found(story: _Story) -> None:
    _search(story)
    story.passes(1200)
    reason = "no session of the job appeared within 20 min"
    _lose(
        story,
        SessionLostError(
            task_id=story.task_id, task=None, last_seen=None, reason=reason
        ),
    )


def _gone(story: _Story) -> None:
    _search(story)
    story.passes(20)
    running = _session(3, SessionResult.NONE, is_ended=False)
    story.tell(TaskState.FINISHED, stage=RunStage.SESSION, session=running)
    story.passes(400)
    reason = "the server does not know it any more"
    error = SessionLostError(
        task_id=story.task_id, task=None, last_seen=running, reason=reason
    )
    story.tell(
        TaskState.LOST,
        is_final=True,
        error=error,
        stage=RunStage.SESSION,
        session=running,
    )


def _without_result(story: _Story) -> None:
    story.tell(TaskState.RUNNING)
    story.passes(100)
    story.end(succeeded=None)


def _with_machines(story: _Story, result: SessionResult) -> None:
    _search(story)
    story.passes(20)
    running = _session(1, SessionResult.NONE, is_ended=False)
    story.tell(TaskState.FINISHED, stage=RunStage.SESSION, session=running)
    story.passes(1900)
    story.end(
        succeeded=result is not SessionResult.FAILED,
        stage=RunStage.SESSION,
        session=_session(1, result, is_ended=True),
        failures=_machines(1, result),
    )


def _without_machines(story: _Story) -> None:
    _search(story)
    story.passes(900)
    session = attrs.evolve(
        _session(5, SessionResult.FAILED, is_ended=True),
        failure_message="The job was stopped by a user.",
    )
    story.end(succeeded=False, stage=RunStage.SESSION, session=session)


RARE = (
    lambda story: _unknown(
        story, advice="A task belongs to the logon session that started it."
    ),
    _unknown,
    _never_found,
    _gone,
    _without_result,
    _without_machines,
    lambda story: _with_machines(story, SessionResult.FAILED),
    lambda story: _with_machines(story, SessionResult.WARNING),
    _search,
    lambda story: story.tell(TaskState.RUNNING),
    lambda story: story.tell(TaskState.UNKNOWN),
)
"""Ends that chance would not bring to few tasks."""


def night(count: int, *, seed: int = 1) -> Recorder:
    """Return what a watch of `count` tasks delivered, of every end, with an outage."""
    chance = random.Random(seed)
    recorder = Recorder("https://em.example:9398/api/", began_at=BEGIN)
    error = TransportError(
        request="GET https://em.example:9398/api/tasks/task-3",
        reason="em.example:9398 refuses the connection",
    )
    for kind, at in (("unreachable", DOWN), ("recovered", UP), ("renewed", UP)):
        recorder.add_notice(
            Notice(kind=NoticeKind(kind), at=at, detail=str(error), error=error)
        )
    bad = 0.12 if count < 100 else 0.03
    for at in range(1, count + 1):
        story = _Story(
            recorder,
            f"task-{at}",
            chance.choice(OPERATIONS),
            BEGIN + timedelta(seconds=chance.uniform(0, 7200)),
        )
        if DOWN <= story.at < UP:
            story.at = UP
        if at > count - len(RARE):
            RARE[at - count - 1](story)
        else:
            _play(story, at, chance, bad)
    recorder.expect(f"task-{count + 1}")
    recorder.finish("After 3 h 30 min the time of the watch was up.")
    recorder.ended_at = BEGIN + timedelta(hours=3.5)
    return recorder
