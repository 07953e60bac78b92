"""What one watch has told and owes: observations merged for a slow reader; pure."""

import sys
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from veeam_tasks._engine.records import TaskRecord
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._events import (
    Observation,
    Outcomes,
    Report,
    TaskEvent,
    outcome_of,
    state_word,
)
from veeam_tasks._model import (
    RunStage,
    Task,
)

_NOT_ENDED = sys.maxsize

_FEW = 64
"""Tasks of which a report notes each that changed, whatever their share."""


class PendingEvent:
    """What one watch has delivered of one task, and what it owes.

    Attributes:
        ended_under: The generation of the logon session whose task ended, as known
            last; greater than any until then.
    """

    __slots__ = ("delivered", "ended_under", "owed")

    def __init__(self) -> None:
        self.delivered: TaskEvent | None = None
        self.owed: TaskEvent | None = None
        self.ended_under = _NOT_ENDED

    @property
    def latest(self) -> TaskEvent | None:
        """The latest event, delivered or owed."""
        return self.owed or self.delivered

    @property
    def latest_task(self) -> Task | None:
        """The task of the latest event, if one has seen it."""
        latest = self.owed or self.delivered
        return None if latest is None else latest.task

    @property
    def is_final(self) -> bool:
        """Whether the final event was observed, delivered or not."""
        latest = self.owed or self.delivered
        return latest is not None and latest.is_final

    def observe(self, seen: Observation) -> bool:
        """Merge an observation; return whether an event is owed now.

        The event is made against the state delivered last, so a change that
        returns to that state takes back what was owed.
        """
        before = self.delivered
        if self.is_final:
            return self.owed is not None
        if (
            before is not None
            and not seen.is_final
            and state_word(before) == state_word(seen)
        ):
            self.owed = None
            return False
        same = self.owed
        if (
            same is not None
            and not seen.is_final
            and state_word(same) == state_word(seen)
        ):
            return True
        if seen.is_final:
            self.ended_under = seen.generation
        self.owed = event_of(seen, before)
        return True

    def deliver(self) -> TaskEvent:
        """Hand out the event that is owed."""
        event = self.owed
        assert event is not None
        self.delivered, self.owed = event, None
        return event


class PendingRun(PendingEvent):
    """The same of a task whose job session is followed.

    The end of the task is never merged with what comes after it: whoever is told that
    a job session is lost has been told how its task ended.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        super().__init__()
        self._next: Observation | None = None

    @property
    def latest(self) -> TaskEvent | None:
        """The latest event, delivered or owed."""
        owed = self.owed
        if owed is None or self._next is None:
            return owed or self.delivered
        return event_of(self._next, owed)

    @property
    def is_final(self) -> bool:
        """Whether the final event was observed, delivered or not."""
        return super().is_final or (self._next is not None and self._next.is_final)

    def observe(self, seen: Observation) -> bool:
        """Merge an observation; return whether an event is owed now."""
        if self.is_final:
            return self.owed is not None
        owed, before = self.owed, self.delivered
        is_end_owed = owed is not None and owed.stage is RunStage.SEARCHING
        if is_end_owed and seen.stage is not RunStage.TASK:
            assert owed is not None
            if seen.is_final:
                self.ended_under = seen.generation
            self._next = seen if seen.is_final or _shows(seen) != _shows(owed) else None
            return True
        if seen.is_final:
            self.ended_under = seen.generation
        elif before is not None and _shows(before) == _shows(seen):
            self.owed = None
            return False
        elif owed is not None and _shows(owed) == _shows(seen):
            return True
        self.owed = event_of(seen, before)
        return True

    def put_off(self, seen: Observation) -> None:
        """Owe the end of the run after the end of the task, which is owed already."""
        self._next = seen

    def deliver(self) -> TaskEvent:
        """Hand out the event that is owed; afterwards another one may be."""
        event = super().deliver()
        if self._next is not None:
            self.owed, self._next = event_of(self._next, event), None
        return event


def _shows(seen: TaskEvent | Observation) -> tuple[object, ...]:
    """Return what tells two events of a run apart: stage, words, result, progress."""
    session = seen.session
    if session is None:
        return seen.stage, state_word(seen)
    return seen.stage, session.raw_state, session.raw_result, session.progress


def event_of(seen: Observation, before: TaskEvent | None) -> TaskEvent:
    """Return the event of an observation after the one delivered before it."""
    return TaskEvent(
        task_id=seen.task_id,
        task=seen.task,
        previous=None if before is None else before.state,
        state=seen.state,
        is_final=seen.is_final,
        succeeded=seen.succeeded,
        observed_at=seen.observed_at,
        not_before=None if before is None else seen.not_before,
        sequence=1 if before is None else before.sequence + 1,
        error=seen.error,
        stage=seen.stage,
        session=seen.session,
        failures=seen.failures,
        is_by_link=seen.is_by_link,
    )


class Reports:
    """Makes the reports of one watch: each costs what has changed since the last one.

    Args:
        pending: What was delivered and is owed of each task; looked at, never changed.
    """

    __slots__ = ("_changed", "_outcomes", "_pending", "_removed")

    def __init__(self, pending: Mapping[str, PendingEvent]) -> None:
        self._pending = pending
        self._outcomes: Outcomes[TaskEvent | None] = Outcomes(outcome_of)
        # Since the last report; None for all, once most of them have changed: for
        # whoever never looks at the report, a dict of all would only cost memory.
        self._changed: dict[str, None] | None = {}
        self._removed: set[str] = set()

    def note_changed(self, task_id: str) -> None:
        """Let the next report look at a task."""
        changed = self._changed
        if changed is None:
            return
        changed[task_id] = None
        if len(changed) > _FEW and 2 * len(changed) > len(self._pending):
            self._changed = None

    def note_removed(self, task_id: str) -> None:
        """Let the next report leave a task out, unless it comes anew."""
        if self._changed is not None:
            self._changed.pop(task_id, None)
        # What came and went since is in no report: for whoever never looks at one,
        # those would be all tasks of a watch of months.
        if task_id in self._outcomes:
            self._removed.add(task_id)

    def make(self) -> Report:
        """Return what is known now."""
        if self._changed is None or self._changed or self._removed:
            changed, self._changed = self._changed, {}
            removed, self._removed = self._removed, set()
            pending = self._pending
            ids = pending if changed is None else changed
            latest = {task_id: pending[task_id].latest for task_id in ids}
            self._outcomes = self._outcomes.updated(removed, latest)
        return Report(outcomes=self._outcomes)


class Latest(Mapping[str, Task]):
    """The latest known tasks of a watch, in the order watched; a view of them."""

    __pending__ = ("_records", "_runs", "_pending", "_unseen")

    def __init__(
        self,
        pending: Mapping[str, PendingEvent],
        unseen: AbstractSet[str],
        records: Mapping[str, TaskRecord],
        runs: Mapping[str, RunRecord],
    ) -> None:
        self._pending = pending
        self._unseen = unseen
        self._records = records
        self._runs = runs

    def __getitem__(self, key: str) -> Task:
        entry = self._pending[key]
        if key in self._unseen:
            raise KeyError(key)
        has_ended = entry.is_final or key in self._runs
        record = None if has_ended else self._records.get(key)
        seen = entry.latest if record is None or record.task is None else record
        task = None if seen is None else seen.task
        assert task is not None
        return task

    def __iter__(self) -> Iterator[str]:
        # Of a copy, since it may be walked over with pauses in between.
        return iter([one for one in self._pending if one not in self._unseen])

    def __len__(self) -> int:
        return len(self._pending) - len(self._unseen)

    def __repr__(self) -> str:
        return repr(dict(self))
