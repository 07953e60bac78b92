"""`Latest`: the tasks of a watch as they were seen last."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from veeam_tasks._engine.pending_event import PendingEvent
from veeam_tasks._engine.records import TaskRecord
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._model import Task


class Latest(Mapping[str, Task]):
    """The latest known tasks of a watch, in the order watched; a view of them."""

    __slots__ = ("_records", "_runs", "_slots", "_unseen")

    def __init__(
        self,
        pending: Mapping[str, PendingEvent],
        unseen: AbstractSet[str],
        records: Mapping[str, TaskRecord],
        runs: Mapping[str, RunRecord],
    ) -> None:
        self._slots = pending
        self._unseen = unseen
        self._records = records
        self._runs = runs

    def __getitem__(self, key: str) -> Task:
        entry = self._slots[key]
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
        return iter([one for one in self._slots if one not in self._unseen])

    def __len__(self) -> int:
        return len(self._slots) - len(self._unseen)

    def __repr__(self) -> str:
        return repr(dict(self))
