"""The proof: one task asked for singly now and then, so that no collection is believed.

A cache in between, or a server that is slow to list what has ended, would else hold a
watch for ever.
"""

import random
import re
from collections.abc import Mapping

import attrs

from veeam_tasks._engine.records import DueState, TaskRecord
from veeam_tasks._engine.settle import Collection
from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task

_EACH = 60.0
"""Seconds between two proofs."""

_FINISHED = re.compile(rb"<State>\s*Finished\s*</State>")


@attrs.define(eq=False)
class SpotCheck:
    """Compares what a collection says of one task with what that task says itself."""

    _record: TaskRecord | None = None
    _next_at: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether the task asked for singly is Finished, and no collection was read."""
        task = None if self._record is None else self._record.task
        return task is not None and task.is_finished

    def choose(
        self, records: Mapping[str, TaskRecord], now: float
    ) -> TaskRecord | None:
        """Return a record to be asked for singly; None while it is not time."""
        if now < self._next_at or not records:
            return None
        self._next_at = now + _EACH
        record = random.choice(list(records.values()))  # noqa: S311 - guards nothing
        if record.due != DueState.IN_COLLECTION:
            return None
        self._record = record
        return record

    def check(self, collection: Collection) -> None:
        """Compare with a collection that was asked for later; one proof is enough.

        Raises:
            MalformedReplyError: It shows a task as it was before it was Finished.
        """
        record = self._record
        if record is None:
            return
        if (
            record.due >= 0
            and not record.missing_replies
            and not record.finished_without_result
        ):
            record.due = DueState.IN_COLLECTION
        if not self.is_finished or collection.moment.sent <= record.sent:
            return
        self._record = None
        piece = collection.pages.found.get(record.task_id)
        if isinstance(piece, Task):
            is_same = piece.is_finished
        else:
            is_same = piece is None or _FINISHED.search(piece) is not None
        if not is_same:
            problem = f"it shows {record.task_id} unfinished, which is Finished"
            raise MalformedReplyError(request=collection.pages.shown, problem=problem)
