"""What a poll has shown of a task, as the engine hands it to those who want it."""

from datetime import UTC, datetime

from veeam_tasks import Link, Task, TaskLostError, TaskResult, TaskState
from veeam_tasks._events import Observation

SEEN_AT = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)


def observation(
    task_id: str,
    state: TaskState = TaskState.RUNNING,
    *,
    success: bool = True,
    links: tuple[Link, ...] = (),
) -> Observation:
    """Return an observation, final if the task is finished or lost."""
    is_finished, is_lost = state is TaskState.FINISHED, state is TaskState.LOST
    task = Task(
        task_id=task_id,
        state=state,
        raw_state=state.value,
        operation="StartJob",
        result=TaskResult(success=success, message=None) if is_finished else None,
        links=links,
    )
    error = TaskLostError(task_id=task_id, last_seen=None, reason="gone")
    return Observation(
        task_id=task_id,
        task=None if is_lost else task,
        state=state,
        is_final=is_finished or is_lost,
        observed_at=SEEN_AT,
        not_before=None,
        generation=1,
        error=error if is_lost else None,
    )
