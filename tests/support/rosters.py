"""A roster on a clock moved by hand, and somebody who wants tasks."""

from collections.abc import Iterable

from support.manual_loop import ManualLoop, manual_loop
from veeam_tasks import Pace
from veeam_tasks._engine.records import SubscriberRef, TaskRecord
from veeam_tasks._engine.tracker import Roster
from veeam_tasks._events import Observation

SLOW = Pace(first=10, growth=1, longest=10, jitter=0)
QUICK = Pace(first=2, growth=1, longest=2, jitter=0)


class Wanting:
    """Wants tasks at its own pace, and takes note of nothing."""

    def __init__(self, pace: Pace = SLOW) -> None:
        self.pace = pace

    def on_observation(self, seen: Observation) -> None:
        """Take no note."""

    def cut(self, error: Exception) -> None:
        """Take no note."""

    def on_discovered(self, task_ids: Iterable[str], generation: int) -> bool:
        """Want nothing anew."""
        return False


class Scene:
    """A roster on a clock moved by hand."""

    def __init__(self) -> None:
        self.loop: ManualLoop = manual_loop(100.0)
        self.roster = Roster(loop=self.loop)

    def add(self, wanting: Wanting, *task_ids: str) -> SubscriberRef:
        """Let somebody want tasks; return the reference."""
        reference = self.roster.reference(wanting, task_ids)
        self.roster.add(reference, task_ids, 1)
        return reference

    def taken(self) -> list[str]:
        """Poll whatever is due; return the IDs."""
        taken = []
        while (record := self.roster.take()) is not None:
            assert isinstance(record, TaskRecord)
            taken.append(record.task_id)
        return taken

    def record(self, task_id: str) -> TaskRecord:
        """Return a record that is watched."""
        return self.roster.records[task_id]
