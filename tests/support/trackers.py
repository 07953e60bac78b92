"""A tracker on a clock moved by hand, and somebody who wants tasks."""

from collections.abc import Iterable

from support.engines import EngineScene
from veeam_tasks import JobSession, Pace, Task, TaskState
from veeam_tasks._engine.records import SubscriberRef, TaskRecord
from veeam_tasks._engine.run_records import Deadline, RunRecord
from veeam_tasks._events import Observation
from veeam_tasks._session.session_search import SessionSource

SLOW = Pace(first=10, growth=1, longest=10, jitter=0)
QUICK = Pace(first=2, growth=1, longest=2, jitter=0)


class Wanting:
    """Wants tasks at its own pace, and takes note of nothing."""

    def __init__(self, pace: Pace = SLOW) -> None:
        self.pace = pace

    def on_observation(self, seen: Observation) -> None:
        """Take no note."""

    def on_end(self, error: Exception) -> None:
        """Take no note."""

    def on_discovered(self, task_ids: Iterable[str], generation: int) -> bool:
        """Want nothing anew."""
        return False


_FOLLOWER = Wanting()
"""It lives on: a record holds those who want it weakly."""


def followed(session: JobSession, number: int = 0, pace: Pace = SLOW) -> RunRecord:
    """Return the record of a run that is under way, with somebody who wants it."""
    task = Task(
        task_id=f"task-{number}",
        state=TaskState.FINISHED,
        raw_state="Finished",
        operation="StartJob",
    )
    record = RunRecord(
        pace=pace,
        task_id=task.task_id,
        first_generation=1,
        number=number,
        task=task,
        started=None,
        source=SessionSource.LINK,
        session_id=session.session_id,
        session=session,
    )
    reference = SubscriberRef(_FOLLOWER)
    reference.pace, reference.wanted = pace, ()
    record.want(reference, Deadline(1000.0, 900.0))
    return record


class Scene(EngineScene):
    """A tracker, with no poller: a test takes what is due."""

    def add(self, wanting: Wanting, *task_ids: str) -> SubscriberRef:
        """Let somebody want tasks; return the reference."""
        reference = self.tracker.reference(wanting, task_ids)
        self.tracker.add(reference, task_ids)
        return reference

    def taken(self) -> list[str]:
        """Poll whatever is due; return the IDs."""
        taken = []
        while (record := self.tracker.take()) is not None:
            assert isinstance(record, TaskRecord)
            taken.append(record.task_id)
        return taken

    def record(self, task_id: str) -> TaskRecord:
        """Return a record that is watched."""
        return self.tracker.records[task_id]
