"""What people are to see of a watch: rows, counts, the server's health; pure.

The board grows with the number of tasks, what is shown of it does not.
"""

import itertools
from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import attrs

import veeam_tasks as vt
from veeam_tasks._text import visible
from veeam_tasks.cli._words import ONLY_ITS_OWN, SHARE

Outcome = Literal["succeeded", "failed", "lost"]
_RECENT = 100
_NAMED = 20


def outcome_of(event: vt.TaskEvent) -> Outcome | None:
    """Return what became of the task of this event; None while it is not final."""
    if not event.is_final:
        return None
    if event.state is vt.TaskState.LOST:
        return "lost"
    return "succeeded" if event.succeeded else "failed"


def said(event: vt.TaskEvent) -> str:
    """Return what is to be read about a final event, on one line."""
    if event.error is not None:
        reason = getattr(event.error, "reason", str(event.error))
        # What is the same for every task is said once, by the summary.
        return visible(reason.partition(f" {ONLY_ITS_OWN}")[0])
    result = None if event.task is None else event.task.result
    if result is None:
        return "the server gave no result"
    if result.message is None:
        return "" if result.success else "the server gave no message"
    return visible(result.message)


def word_of(event: vt.TaskEvent) -> str:
    """Return the state as the server says it."""
    if event.state is vt.TaskState.UNKNOWN and event.task is not None:
        return visible(event.task.raw_state)
    return event.state.value


def clock(seconds: float) -> str:
    """Return a span as people read it: ``0:07``, ``12:40``, ``3:02:00``."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"


@attrs.define(kw_only=True, eq=False)
class Row:
    """One task as it is shown.

    Attributes:
        first: When it was first seen, on this machine's clock: a task has no time.
        latest: Its latest event.
    """

    first: datetime
    latest: vt.TaskEvent

    @property
    def operation(self) -> str:
        """The server's name of its work."""
        task = self.latest.task
        return "" if task is None else visible(task.operation)

    @property
    def span(self) -> timedelta:
        """From when it was first seen to its latest event."""
        return self.latest.observed_at - self.first


@attrs.define(kw_only=True, eq=False)
class Board:
    """Takes events and notices; says what there is to show.

    Args:
        total: How many tasks are watched; None if that is open.
    """

    total: int | None
    counts: Counter[Outcome] = attrs.field(factory=Counter)
    running: dict[str, Row] = attrs.field(factory=dict)
    failures: list[Row] = attrs.field(factory=list)
    recent: "deque[Row]" = attrs.field(factory=lambda: deque(maxlen=_RECENT))
    outage: vt.Notice | None = None

    @property
    def advice(self) -> str:
        """What to do about tasks that this logon session never knew, if any."""
        if any(ONLY_ITS_OWN in str(row.latest.error) for row in self.failures):
            return f"{ONLY_ITS_OWN}, and this one knows none of these: {SHARE}"
        return ""

    def take(self, event: vt.TaskEvent) -> Row:
        """Take note of an event; return the row of its task."""
        row = self.running.get(event.task_id)
        if row is None:
            row = Row(first=event.observed_at, latest=event)
        row.latest = event
        outcome = outcome_of(event)
        if outcome is None:
            self.running[event.task_id] = row
            return row
        self.running.pop(event.task_id, None)
        self.counts[outcome] += 1
        if outcome == "succeeded":
            self.recent.append(row)
        else:
            self.failures.append(row)
        return row

    def heed(self, notice: vt.Notice) -> None:
        """Take note of the server's health."""
        if notice.kind is vt.NoticeKind.UNREACHABLE:
            self.outage = notice
        elif notice.kind is vt.NoticeKind.RECOVERED:
            self.outage = None

    @property
    def ended(self) -> int:
        """How many tasks have had their final event."""
        return self.counts.total()

    @property
    def waiting(self) -> int:
        """How many tasks were not seen yet."""
        if self.total is None:
            return 0
        return max(0, self.total - self.ended - len(self.running))

    def pick(self, lines: int) -> "Picked":
        """Return the rows that fit in so many lines.

        Running tasks come first, the longest watched of them on top; failures keep at
        least a third of the lines; what is left goes to those that succeeded last.
        """
        kept = min(len(self.failures), max(lines // 3, lines - len(self.running)))
        running = _first(self.running.values(), lines - kept)
        failures = self.failures[len(self.failures) - kept :]
        left = lines - len(running) - len(failures)
        recent = list(self.recent)[max(0, len(self.recent) - left) :] if left else []
        return Picked(
            running=running,
            failures=failures,
            succeeded=recent,
            more_running=len(self.running) - len(running),
            more_failures=len(self.failures) - len(failures),
        )


@attrs.frozen(kw_only=True)
class Picked:
    """The rows that are shown, and how many are not."""

    running: list[Row]
    failures: list[Row]
    succeeded: list[Row]
    more_running: int
    more_failures: int


def _first(rows: Iterable[Row], count: int) -> list[Row]:
    return list(itertools.islice(rows, max(0, count)))


def counts_text(board: Board, unfinished: int) -> str:
    """Return the counts in words: ``20 tasks: 19 succeeded, 1 failed``."""
    total = board.ended + unfinished
    told = [
        f"{board.counts['succeeded']} succeeded",
        f"{board.counts['failed']} failed",
    ]
    if board.counts["lost"]:
        told.append(f"{board.counts['lost']} lost")
    if unfinished:
        told.append(f"{unfinished} unfinished")
    return f"{total} {'task' if total == 1 else 'tasks'}: {', '.join(told)}"


def ended_line(row: Row) -> str:
    """Return one line about a task that failed or was lost."""
    outcome = outcome_of(row.latest)
    operation = f" ({row.operation})" if row.operation else ""
    return f"{row.latest.task_id} {outcome}{operation}: {said(row.latest)}"


def unfinished_line(task_ids: list[str]) -> str:
    """Return one line that names the first of the tasks without an end."""
    named = ", ".join(map(visible, task_ids[:_NAMED]))
    more = len(task_ids) - _NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f"unfinished, and they go on at the server: {named}{rest}"
