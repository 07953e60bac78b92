"""The counts themselves: what they hold is bounded."""

from datetime import UTC, datetime, timedelta

import attrs

from veeam_tasks import (
    JobSession,
    RunStage,
    SessionResult,
    SessionState,
    Task,
    TaskResult,
    TaskState,
)
from veeam_tasks._events import Observation
from veeam_tasks._telemetry.monitor import BOUNDS, Monitor

AT = datetime(2026, 11, 26, 22, 0, tzinfo=UTC)


def end_of(job: str, *, late: float = 1.0) -> Observation:
    """Return the good end of a followed job."""
    return Observation(
        task_id="task-1",
        task=Task(
            task_id="task-1",
            state=TaskState.FINISHED,
            raw_state="Finished",
            operation="StartJob",
            result=TaskResult(success=True),
        ),
        state=TaskState.FINISHED,
        is_final=True,
        observed_at=AT,
        not_before=AT - timedelta(seconds=late),
        generation=1,
        stage=RunStage.SESSION,
        session=JobSession(
            session_id="1",
            kind="BackupJobSession",
            job_name=job,
            state=SessionState.STOPPED,
            raw_state="Stopped",
            result=SessionResult.SUCCESS,
        ),
    )


def test_the_last_success_is_kept_of_the_latest_jobs() -> None:
    """Of more than five hundred the one that succeeded longest ago is forgotten."""
    monitor = Monitor()
    for at in range(500):
        monitor.changed(end_of(f"Job {at}"), is_ours=True)
    monitor.changed(end_of("Job 0"), is_ours=True)
    monitor.changed(end_of("Job 500"), is_ours=True)
    assert len(monitor.last_success) == 500
    assert "Job 0" in monitor.last_success
    assert "Job 1" not in monitor.last_success


def test_jobs_of_others_have_no_last_success() -> None:
    """A label is only worth its place for what was started here."""
    monitor = Monitor()
    monitor.changed(end_of("Nightly"), is_ours=False)
    assert not monitor.last_success
    assert monitor.sessions["success"] == 1


def test_what_is_later_than_all_bounds_is_counted() -> None:
    """And what is as late as a bound belongs below it."""
    monitor = Monitor()
    for late in (BOUNDS[0], BOUNDS[-1], BOUNDS[-1] + 1):
        monitor.changed(end_of("Nightly", late=late), is_ours=False)
    counts = monitor.seen_after.counts
    assert (counts[0], counts[-2], counts[-1]) == (1, 1, 1)
    assert monitor.seen_after.total == sum((BOUNDS[0], 2 * BOUNDS[-1] + 1))


def test_words_of_the_server_are_short_labels_without_control_characters() -> None:
    """However long a name is, and whatever is in it; the same word is one series."""
    monitor = Monitor()
    for end in ("a", "b"):
        monitor.changed(end_of(f"\x1b[2J\u202e\n{'x' * 1_000_000}{end}"), is_ours=True)
    [job] = monitor.last_success
    assert job.startswith(r"\x1b[2J\u202e\nx")
    assert len(job) < 250
    begun = attrs.evolve(end_of("Job"), stage=RunStage.TASK)
    assert begun.task is not None
    task = attrs.evolve(begun.task, operation=f"\r{'y' * 1_000_000}")
    monitor.changed(attrs.evolve(begun, task=task), is_ours=True)
    [(operation, _)] = [key for key, count in monitor.ends.items() if count]
    assert operation.startswith(r"\ry")
    assert len(operation) < 250
