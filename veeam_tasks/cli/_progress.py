"""What people are to see of a watch: rows, counts, the server's health; pure.

It grows with the number of tasks, what is shown of it does not.
"""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import attrs

import veeam_tasks as vt
from veeam_tasks.cli._explain import SHARE, WORTH, why_lost
from veeam_tasks.cli._messages import counted, visible

SEARCHING = "triggered; its job session is not in the Enterprise Manager yet"
BY_LINK = "triggered; only a link of the task can tell its job session, none yet"

# Operations whose task ends when a job has begun; by the server's reference.
_STARTS = frozenset(
    {
        *("startjob", "startjobsync", "retryjob", "startagentjob", "retryagentjob"),
        *("startnasjob", "retrynasjob", "quickbackup", "veeamzip"),
        *("startvmrestore", "startvapprestore", "restorefile"),
        *("startreplicafailover", "startfailover", "startcloudfailoverplan"),
    }
)
GOES_ON = "the job goes on: that was its start; --follow tells how it ends"
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


def reason_of(event: vt.TaskEvent) -> str:
    """Return what is to be read about a final event, on one line."""
    if event.error is not None:
        return visible(why_lost(event.error))
    if event.session is not None:
        return _session_end(event, event.session)
    result = None if event.task is None else event.task.result
    if result is None:
        return "the server gave no result"
    if result.message is None:
        return "" if result.success else "the server gave no message"
    return visible(result.message)


def _session_end(event: vt.TaskEvent, session: vt.JobSession) -> str:
    """Return how a job ended: ``Success``, ``Warning: 2 machines``, ``Failed: ...``."""
    word = visible(session.raw_result or "")
    if session.result is vt.SessionResult.NONE:
        word = "Stopped without a result"
    failures = event.failures
    if event.has_warnings:
        return f"{word}: {counted(len(failures), 'machine')}" if failures else word
    if session.succeeded:
        return word
    reasons = [
        f"{one.vm_name}: {one.reason}" if one.vm_name else str(one.reason)
        for one in failures
        if one.reason and one.result is not vt.SessionResult.WARNING
    ]
    reasons = reasons or [f"{one.vm_name}" for one in failures if one.vm_name]
    if not reasons and session.failure_message:
        reasons = [session.failure_message]
    if not reasons:
        return word
    more = len(failures) - 1
    return f"{word}: {visible(reasons[0])}{f' (+{more})' if more > 0 else ''}"


def word_of(event: vt.TaskEvent) -> str:
    """Return the state as the server says it; of a job that runs with its progress."""
    session = event.session
    if session is not None and event.state is not vt.TaskState.LOST:
        word = visible(session.raw_state)
        is_open = session.progress is not None and not session.is_ended
        return f"{word} {session.progress} %" if is_open else word
    if event.stage is vt.RunStage.SEARCHING and not event.is_final:
        return BY_LINK if event.is_by_link else SEARCHING
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


def number_of(task_id: str) -> int:
    """Return the number in a task ID: task-9 comes before task-10."""
    digits = task_id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


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
    def task_id(self) -> str:
        """The ID of its task."""
        return self.latest.task_id

    @property
    def operation(self) -> str:
        """The server's name of its work."""
        task = self.latest.task
        return "" if task is None else visible(task.operation)

    @property
    def job(self) -> str:
        """The name of the job, or of the machine, whose job session is followed."""
        session = self.latest.session
        if session is None:
            return ""
        return visible(session.job_name or session.vm_name or session.name or "")

    @property
    def is_only_begun(self) -> bool:
        """Whether its success is that of the start of a job, which goes on."""
        event = self.latest
        is_start = self.operation.casefold() in _STARTS
        return bool(event.succeeded) and event.session is None and is_start

    @property
    def span(self) -> timedelta:
        """From when it was first seen to its latest event."""
        return self.latest.observed_at - self.first


def _by_number(row: Row) -> int:
    return number_of(row.task_id)


@attrs.define(kw_only=True, eq=False)
class Progress:
    """Takes events and notices; says what there is to show.

    Args:
        total: How many tasks are watched; None if that is open.

    Attributes:
        follows: Whether the jobs that tasks have started are followed.
        is_start: Whether the command has started what is watched.
        is_simulated: Whether the server is one of this process, and ends with it.
        begun: How many tasks have started a job that goes on, unfollowed.
        warnings: How many jobs ended with Warning.
        outages: Why servers are away now, by their names; "" if there is one only.
    """

    total: int | None
    follows: bool = False
    is_start: bool = False
    is_simulated: bool = False
    begun: int = 0
    warnings: int = 0
    counts: Counter[Outcome] = attrs.field(factory=Counter)
    running: dict[str, Row] = attrs.field(factory=dict)
    failures: list[Row] = attrs.field(factory=list)
    recent: "deque[Row]" = attrs.field(factory=lambda: deque(maxlen=_RECENT))
    outages: dict[str, vt.Notice] = attrs.field(factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether all that has ended succeeded, and it was the end."""
        is_whole = not self.begun and not self.warnings
        return is_whole and self.counts["succeeded"] == self.ended

    @property
    def advice(self) -> str:
        """What to do about tasks that this logon session never knew, if any."""
        is_foreign = any(
            isinstance(row.latest.error, vt.TaskLostError) and row.latest.error.advice
            for row in self.failures
        )
        return f"{WORTH}: {SHARE}" if is_foreign else ""

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
        self.warnings += event.has_warnings
        self.begun += self.is_start and row.is_only_begun
        if outcome == "succeeded":
            self.recent.append(row)
        else:
            self.failures.append(row)
        return row

    def is_searched(self, task_id: str) -> bool:
        """Tell whether a task has finished and its job session is not found yet."""
        row = self.running.get(task_id)
        return row is not None and row.latest.stage is vt.RunStage.SEARCHING

    def note(self, notice: vt.Notice, server: str = "") -> None:
        """Take note of a server's health."""
        if notice.kind is vt.NoticeKind.UNREACHABLE:
            self.outages[server] = notice
        elif notice.kind is vt.NoticeKind.RECOVERED:
            self.outages.pop(server, None)

    @property
    def outage(self) -> vt.Notice | None:
        """Why a server is away now, the one that has been for longest; None if none."""
        return next(iter(self.outages.values()), None)

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

        Failures come first and keep at least a third of the lines; then what is
        running, in the order of the IDs; what is left goes to those that succeeded
        last.
        """
        kept = min(len(self.failures), max(lines // 3, lines - len(self.running)))
        running = heapq.nsmallest(
            max(0, lines - kept), self.running.values(), key=_by_number
        )
        failures = self.failures[len(self.failures) - kept :]
        left = max(0, lines - len(running) - len(failures))
        recent = list(itertools.islice(reversed(self.recent), left))
        return Picked(
            failures=failures,
            running=running,
            succeeded=recent,
            more_running=len(self.running) - len(running),
            more_failures=len(self.failures) - len(failures),
        )


@attrs.frozen(kw_only=True)
class Picked:
    """The rows that are shown, and how many are not."""

    failures: list[Row]
    running: list[Row]
    succeeded: list[Row]
    more_running: int
    more_failures: int


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows in the order of their IDs."""
    return sorted(rows, key=_by_number)


def counts_text(progress: Progress, unfinished: int) -> str:
    """Return the counts in words: ``20 tasks: 19 succeeded, 1 failed``."""
    total = progress.ended + unfinished
    parts = [
        f"{progress.counts['succeeded']} succeeded",
        f"{progress.counts['failed']} failed",
    ]
    if progress.counts["lost"]:
        parts.append(f"{progress.counts['lost']} lost")
    if unfinished:
        parts.append(f"{unfinished} unfinished")
    if progress.warnings:
        parts[0] = f"{parts[0]} ({progress.warnings} with warnings)"
    return f"{counted(total, 'task')}: {', '.join(parts)}"


def ended_line(row: Row) -> str:
    """Return one line about a task that failed or was lost."""
    outcome = outcome_of(row.latest)
    what = row.job or row.operation
    named = f" ({what})" if what else ""
    return f"{row.task_id} {outcome}{named}: {_after_failed(row.latest)}"


def _after_failed(event: vt.TaskEvent) -> str:
    """Return what is to be read about a final event, behind the word for its end.

    Of a job the first word is its result, which would say the same once more.
    """
    return reason_of(event).removeprefix("Failed: ")


def run_line(row: Row) -> str:
    """Return one line about a followed run: task, operation, job, state, time."""
    event = row.latest
    is_over = outcome_of(event) is not None
    state = reason_of(event) if is_over else word_of(event)
    if is_over and event.session is None and event.error is None:
        state = f"{outcome_of(event)}  {state}".rstrip()
    elif event.error is not None:
        state = f"lost  {state}"
    parts = [row.task_id, row.operation, row.job, state]
    parts.append(clock(row.span.total_seconds()))
    return "  ".join(filter(None, parts))


def unfinished_lines(task_ids: Sequence[str], progress: Progress) -> Iterator[str]:
    """Give a line for each way in which tasks are without an end, if any.

    Each names the first of them, with their jobs. A task whose job session is searched
    for has finished itself; and a simulated server is gone when its watch ends.
    """
    searched = [one for one in task_ids if progress.is_searched(one)]
    going = [one for one in task_ids if not progress.is_searched(one)]
    what = "and still under way at the server"
    if progress.is_simulated:
        what = "and gone with the simulated server"
    if going:
        yield f"unfinished, {what}: {_named(going, progress.running)}"
    if searched:
        named = _named(searched, progress.running)
        yield f"finished, but the job session is not found yet: {named}"


def interrupted_text(task_ids: Sequence[str], progress: Progress) -> str:
    """Return what a report says of a watch that a signal has ended."""
    is_going = any(not progress.is_searched(one) for one in task_ids)
    rest = "; the tasks go on" if is_going and not progress.is_simulated else ""
    return f"It was interrupted{rest}."


def _named(task_ids: Sequence[str], running: Mapping[str, Row]) -> str:
    ordered = sorted(task_ids, key=number_of)
    names = []
    for task_id in ordered[:_NAMED]:
        row = running.get(task_id)
        job = "" if row is None else row.job
        names.append(f"{visible(task_id)} ({job})" if job else visible(task_id))
    named = ", ".join(names)
    more = len(ordered) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def log_line(event: vt.TaskEvent) -> str:
    """Return one line about an event for the log: ``task-7 Finished, failed: ...``."""
    outcome = outcome_of(event)
    line = f"{event.task_id} {word_of(event)}"
    if outcome is None:
        return line
    reason = _after_failed(event)
    return f"{line}, {outcome}: {reason}" if reason else f"{line}, {outcome}"
