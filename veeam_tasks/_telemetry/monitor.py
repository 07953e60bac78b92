"""Counts for whoever monitors: additions where something happens, nothing else.

`veeam_tasks.metrics` reads them when it is scraped. A poll adds one to a number in a
list; all the rest happens only when something has changed.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

import attrs

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._events import Observation
from veeam_tasks._model import RunStage, TaskState
from veeam_tasks._redaction import visible
from veeam_tasks._telemetry.notices import TASKS, Statistics, error_fields

_MOST_OPERATIONS = 200
_MOST_JOBS = 500
_LONGEST_LABEL = 200
_OTHER = "other"

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Seconds; the upper bounds of the buckets of `Monitor.seen_after`."""

KINDS = ("poll", "read", "action", "logon", "session")
"""What requests are about; ``session`` is our own logon session."""

OUTCOMES = ("succeeded", "failed", "lost")
SESSION_RESULTS = ("success", "warning", "failed", "none", "unknown", "lost")

NO_REPLY = 0
"""The class of a request without a usable reply; the others are 1 (1xx) to 5 (5xx)."""


@attrs.define(eq=False)
class Buckets:
    """A histogram: how many spans of time were at most so long.

    Attributes:
        counts: By bucket, not added up; the last is beyond all bounds.
    """

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.total += seconds
        at = next((n for n, bound in enumerate(BOUNDS) if seconds <= bound), -1)
        self.counts[at] += 1


@attrs.define(eq=False)
class Monitor:
    """What happened under one manager, over all the times that it was open.

    Args:
        url: Of the server, for the log.

    Attributes:
        requests: By kind: how many replies of each class of status came.
        ends: Tasks and runs that ended, by operation and outcome.
        sessions: Job sessions that were followed to their end, by result.
            Of both, what may happen is there with 0 before it does, since what a series
            began with is no increase to Prometheus.
        seen_after: How much later than it happened a change was seen at most: the time
            between the poll before and the reply that showed it.
        refusals: Logons, and adopted tokens, that were refused.
        last_success: When the latest run of each job that was started here was seen to
            have ended well; the latest so many jobs.
    """

    url: str = ""
    requests: dict[str, list[int]] = attrs.field(
        factory=lambda: {kind: [0] * 6 for kind in KINDS}
    )
    ends: dict[tuple[str, str], int] = attrs.field(factory=dict)
    sessions: dict[str, int] = attrs.field(
        factory=lambda: dict.fromkeys(SESSION_RESULTS, 0)
    )
    seen_after: Buckets = attrs.field(factory=Buckets)
    refusals: int = 0
    last_success: OrderedDict[str, datetime] = attrs.field(factory=OrderedDict)
    _operations: set[str] = attrs.field(factory=set)

    def changed(self, seen: Observation, *, is_ours: bool) -> None:
        """Count a change that was seen, once however many watches want it.

        Args:
            seen: What a reply proved.
            is_ours: Whether a submit of this manager gave the task.
        """
        self._log(seen)
        if seen.not_before is not None:
            late = (seen.observed_at - seen.not_before).total_seconds()
            self.seen_after.add(max(0.0, late))
        if seen.stage is RunStage.TASK:
            operation = self._operation_of(seen)
            for one in OUTCOMES:
                self.ends.setdefault((operation, one), 0)
        if not seen.is_final:
            return
        outcome = outcome_of(seen)
        if seen.stage is RunStage.TASK:
            self.ends[operation, outcome] += 1
            return
        session = seen.session
        result = _OTHER if session is None else session.result.value.lower()
        if outcome == "lost":
            result = outcome
        self.sessions[result] = self.sessions.get(result, 0) + 1
        if is_ours and session is not None and session.job_name and seen.succeeded:
            job = _label(session.job_name)
            self.last_success[job] = seen.observed_at
            self.last_success.move_to_end(job)
            if len(self.last_success) > _MOST_JOBS:
                self.last_success.popitem(last=False)

    def failed_poll(
        self, task_id: str, error: VeeamTasksError, stage: RunStage = RunStage.TASK
    ) -> dict[str, str]:
        """Return the fields of a log record about a poll without a usable reply."""
        return {
            "em_url": self.url,
            "event": "poll_failed",
            "task_id": task_id,
            "stage": stage.value,
            **error_fields(error),
        }

    def _log(self, seen: Observation) -> None:
        level = logging.INFO if seen.is_final else logging.DEBUG
        if not TASKS.is_enabled_for(level):
            return
        session, task = seen.session, seen.task
        word = seen.state.value
        if session is not None and seen.state is not TaskState.LOST:
            word = session.raw_state
        elif task is not None and seen.state is TaskState.UNKNOWN:
            word = task.raw_state
        before = seen.not_before
        told: dict[str, object] = {
            "em_url": self.url,
            "event": "ended" if seen.is_final else "changed",
            "task_id": seen.task_id,
            "operation": None if task is None else task.operation,
            "stage": seen.stage.value,
            "state": word,
            "outcome": outcome_of(seen) if seen.is_final else None,
            "observed_at": seen.observed_at.isoformat(),
            "not_before": before and before.isoformat(),
            "job_name": None if session is None else session.job_name,
            "job_session_id": None if session is None else session.session_id,
            "session_result": None if session is None else session.result.value,
            **error_fields(seen.error),
        }
        end = f", {told['outcome']}" if seen.is_final else ""
        what = "" if seen.stage is RunStage.TASK else f"{seen.stage.value} "
        text = "%s %s%s%s"
        TASKS.log(level, text, seen.task_id, what, visible(word), end, extra=told)

    def _operation_of(self, seen: Observation) -> str:
        """Return the operation; the words are the server's, so they are bounded."""
        word = "" if seen.task is None else _label(seen.task.operation)
        if word not in self._operations:
            if len(self._operations) >= _MOST_OPERATIONS:
                return _OTHER
            self._operations.add(word)
        return word


def _label(word: str) -> str:
    """Return a word of the server as a label: short, and without control characters."""
    return visible(word[:_LONGEST_LABEL])


@attrs.frozen(kw_only=True)
class Measures:
    """What `veeam_tasks.metrics` tells of one manager.

    Attributes:
        states: How many tasks and runs are watched, by where they stand.
        is_reachable: Whether the server gives good replies.
    """

    statistics: Statistics
    monitor: Monitor
    states: Mapping[str, int]
    is_reachable: bool


def outcome_of(seen: Observation) -> str:
    """Return what became of it: succeeded, failed or lost."""
    if seen.state is TaskState.LOST:
        return "lost"
    return "succeeded" if seen.succeeded else "failed"
