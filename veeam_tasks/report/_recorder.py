"""What was delivered, kept for the report: the changes of each task, the outages."""

from collections import Counter, OrderedDict
from datetime import UTC, datetime
from enum import StrEnum

import attrs

import veeam_tasks as vt

_MOST_CHANGES = 64
_MOST_TASKS = 20_000
_MOST_OUTAGES = 500


class Outcome(StrEnum):
    """What became of a task, the worst first."""

    FAILED = "failed"
    LOST = "lost"
    WARNING = "warning"
    UNFINISHED = "unfinished"
    SUCCEEDED = "succeeded"


class Activity(StrEnum):
    """What a task was seen to do; the names of the colours in the timeline."""

    RUNNING = "running"
    COLLECTING = "collecting"
    SEARCHING = "searching"
    SESSION = "session"
    OTHER = "other"
    ENDED = "ended"


def outcome_of(event: vt.TaskEvent) -> Outcome:
    """Return what became of the task of this latest event."""
    if not event.is_final:
        return Outcome.UNFINISHED
    if event.state is vt.TaskState.LOST:
        return Outcome.LOST
    if not event.succeeded:
        return Outcome.FAILED
    return Outcome.WARNING if event.has_warnings else Outcome.SUCCEEDED


_ACTIVITIES = {
    vt.TaskState.RUNNING: Activity.RUNNING,
    vt.TaskState.OPERATION_FINISHED: Activity.COLLECTING,
    vt.TaskState.FINISHED: Activity.COLLECTING,
}


def _activity_of(event: vt.TaskEvent) -> Activity:
    if event.is_final:
        return Activity.ENDED
    if event.stage is vt.RunStage.SEARCHING:
        return Activity.SEARCHING
    if event.stage is vt.RunStage.SESSION:
        return Activity.SESSION
    return _ACTIVITIES.get(event.state, Activity.OTHER)


@attrs.frozen
class Change:
    """An activity that was seen to begin, between two moments.

    Attributes:
        activity: Which one.
        not_before: The poll before; None for what was found first.
        observed_at: The reply that showed it.
    """

    activity: Activity
    not_before: datetime | None
    observed_at: datetime


@attrs.define(eq=False)
class Lane:
    """One task as it was delivered: its changes of activity, and its latest event.

    Attributes:
        server: The name of its server, where there are several.
        latest: The event that was delivered last.
    """

    server: str | None
    latest: vt.TaskEvent
    changes: list[Change] = attrs.field(factory=list)

    def add(self, event: vt.TaskEvent) -> None:
        """Take the next event."""
        self.latest = event
        change = Change(_activity_of(event), event.not_before, event.observed_at)
        if self.changes and self.changes[-1].activity is change.activity:
            return
        if len(self.changes) >= _MOST_CHANGES:
            # One that goes back and forth for days; its beginning and end count.
            del self.changes[_MOST_CHANGES // 2]
        self.changes.append(change)

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        return outcome_of(self.latest)


@attrs.define(eq=False)
class Outage:
    """A time in which the server gave no good replies.

    Attributes:
        ended_at: None while it lasts.
    """

    server: str | None
    began_at: datetime
    ended_at: datetime | None
    detail: str


def shown_id(server: str | None, task_id: str) -> str:
    """Return how a task is called: with its server, where there are several."""
    return task_id if server is None else f"{server}/{task_id}"


def _now() -> datetime:
    return datetime.now(UTC)


def check_aware(name: str, moment: datetime | None) -> None:
    """Refuse a time that can be compared with no other, before it is kept.

    Raises:
        TypeError: It is no `datetime`.
        ValueError: It has no time zone.
    """
    if moment is None:
        return
    if not isinstance(moment, datetime):
        text = f"{name} must be a datetime, not {type(moment).__name__}"
        raise TypeError(text)
    if moment.utcoffset() is None:
        raise vt.ArgumentError(
            parameter=name,
            problem="it has no time zone",
            advice="write datetime.now(UTC), or use replace(tzinfo=...)",
            shown=str(moment),
        )


def _why(notice: vt.Notice) -> str:
    """Return why the server cannot be reached, without the request that showed it."""
    error = notice.error
    return error.reason if isinstance(error, vt.TransportError) else notice.detail


@attrs.define(eq=False)
class Recorder:
    """Keeps what a watch delivered, and what notices told, for `render`.

    It holds some 600 bytes a task, more of a run with its machines, and forgets the
    oldest that succeeded when there are more than twenty thousand; they stay counted.
    Of outages it holds the latest five hundred; the others stay counted, too.

    Args:
        url: Of the server, to be shown; None if there are several.

    Attributes:
        began_at: When it was made.
        cut_short: Why the watch ended before its tasks did, in words; else None.
        is_over: Whether nothing more is to come.
        ended_at: When that was noted.
        renewals: When the logon session was renewed.
        forgotten: How many tasks that succeeded are only counted.
        forgotten_outages: How many outages are only counted.
    """

    url: str | None = None
    began_at: datetime = attrs.field(factory=_now, kw_only=True)
    cut_short: str | None = attrs.field(default=None, kw_only=True)
    is_over: bool = attrs.field(default=False, kw_only=True)
    ended_at: datetime | None = attrs.field(default=None, kw_only=True)
    outages: list[Outage] = attrs.field(factory=list, init=False)
    renewals: list[datetime] = attrs.field(factory=list, init=False)
    forgotten: int = attrs.field(default=0, init=False)
    forgotten_outages: int = attrs.field(default=0, init=False)
    _unseen: dict[tuple[str | None, str], None] = attrs.field(factory=dict, init=False)
    _lanes: dict[tuple[str | None, str], Lane] = attrs.field(factory=dict, init=False)
    _earlier: dict[Lane, None] = attrs.field(factory=dict, init=False)
    # Those that are forgotten first.
    _succeeded: OrderedDict[Lane, None] = attrs.field(factory=OrderedDict, init=False)

    def __attrs_post_init__(self) -> None:
        check_aware("began_at", self.began_at)
        check_aware("ended_at", self.ended_at)

    def add_event(self, event: vt.TaskEvent, *, server: str | None = None) -> None:
        """Take an event that was delivered.

        Args:
            event: The events of each task in their order.
            server: The name of its server, where there are several.

        Raises:
            TypeError: It is no `TaskEvent`; nothing was taken.
            ValueError: It has a time without a time zone; nothing was taken.
        """
        if not isinstance(event, vt.TaskEvent):
            text = f"an event is a TaskEvent, not {type(event).__name__}"
            raise TypeError(text)
        check_aware("observed_at", event.observed_at)
        check_aware("not_before", event.not_before)
        key = server, event.task_id
        self._unseen.pop(key, None)
        lane = self._lanes.get(key)
        if lane is not None and event.sequence == 1:
            # Another task under the ID of one that has ended.
            self._earlier[lane] = None
            del self._lanes[key]
            lane = None
        if lane is None:
            lane = self._lanes[key] = Lane(server, event)
        lane.add(event)
        if lane.outcome is Outcome.SUCCEEDED:
            self._succeeded[lane] = None
        while self._succeeded and len(self._lanes) + len(self._earlier) > _MOST_TASKS:
            self._forget(self._succeeded.popitem(last=False)[0])

    def expect(self, *task_ids: str, server: str | None = None) -> None:
        """Take note of tasks that are watched, so that those never seen are told.

        Args:
            *task_ids: Those that an event was added of are left as they are.
            server: The name of their server, where there are several.

        Raises:
            TypeError: One is no string; nothing was noted.
        """
        for task_id in task_ids:
            if not isinstance(task_id, str):
                text = f"a task is expected by its ID, not {type(task_id).__name__}"
                raise TypeError(text)
        for task_id in task_ids:
            if (server, task_id) not in self._lanes:
                self._unseen[server, task_id] = None

    def add_notice(self, notice: vt.Notice, *, server: str | None = None) -> None:
        """Take a notice; may be passed as `on_notice`.

        Raises:
            TypeError: It is no `Notice`; nothing was taken.
            ValueError: It has a time without a time zone; nothing was taken.
        """
        if not isinstance(notice, vt.Notice):
            text = f"a notice is a Notice, not {type(notice).__name__}"
            raise TypeError(text)
        check_aware("at", notice.at)
        last = next((one for one in self.outages[::-1] if one.server == server), None)
        is_open = last is not None and last.ended_at is None
        if notice.kind is vt.NoticeKind.UNREACHABLE and not is_open:
            self.outages.append(Outage(server, notice.at, None, _why(notice)))
            if len(self.outages) > _MOST_OUTAGES:
                del self.outages[0]
                self.forgotten_outages += 1
        elif notice.kind is vt.NoticeKind.RECOVERED and last is not None and is_open:
            last.ended_at = notice.at
        elif notice.kind is vt.NoticeKind.RENEWED:
            self.renewals.append(notice.at)

    def finish(self, error: BaseException | str | None = None) -> None:
        """Note that nothing more comes, and what cut the watch short, if anything."""
        self.is_over = True
        self.ended_at = _now()
        self.cut_short = None if error is None else str(error)

    @property
    def lanes(self) -> list[Lane]:
        """The tasks, in the order in which they were seen first."""
        return [*self._earlier, *self._lanes.values()]

    @property
    def unseen(self) -> list[str]:
        """The tasks that are watched, and of which no reply has told."""
        return [shown_id(server, task_id) for server, task_id in list(self._unseen)]

    def counts(self) -> Counter[Outcome]:
        """Return how many tasks have which outcome; the unseen are unfinished."""
        counts = Counter(lane.outcome for lane in self.lanes)
        counts[Outcome.UNFINISHED] += len(self._unseen)
        counts[Outcome.SUCCEEDED] += self.forgotten
        return counts

    def _forget(self, lane: Lane) -> None:
        key = lane.server, lane.latest.task_id
        if self._lanes.get(key) is lane:
            del self._lanes[key]
        else:
            del self._earlier[lane]
        self.forgotten += 1

    def __repr__(self) -> str:
        return f"<Recorder of {len(self.lanes)} tasks, {len(self.outages)} outages>"
