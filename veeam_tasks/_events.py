"""Events, what they are made of, and the report; pure.

The delivery contract, per task: first the state that was found; then changes in the
order observed, never the same state twice in a row; `previous` is the state of the
event delivered before; exactly one final event, last. A slow reader may be spared
states in between, never the final event.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, groupby, islice
from typing import Generic, TypeVar

import attrs

from veeam_tasks._errors import (
    SessionFailedError,
    SessionLostError,
    TaskFailedError,
    TaskLostError,
    VeeamTasksError,
    fresh,
    why_lost,
)
from veeam_tasks._model import (
    JobSession,
    RunStage,
    SessionResult,
    Task,
    TaskSession,
    TaskState,
)
from veeam_tasks._redaction import (
    counted,
    of_the_package,
    quoted,
    visible,
)


@attrs.frozen(kw_only=True)
class TaskEvent:
    """A difference between two polls of one task, or what the first one found.

    Attributes:
        task_id: Whose event it is.
        task: The latest known task; None if it was lost before it was ever seen.
        previous: The state of the event delivered before; None for the first.
        state: The state of the task now. While its job session is searched and
            followed it is that of the finished task; LOST once that is lost.
        is_final: Whether this is the last event of this task.
        succeeded: True or False once finished with a result, else None; of a followed
            run that of the job session, with Warning as success.
        observed_at: When the reply that showed it arrived; aware, UTC.
        not_before: When the poll before was sent: the change lies between the two.
            None for the first event; never later than `observed_at`.
        sequence: From 1, per task, of the events delivered.
        error: Why the task is LOST, else None.
        stage: How far a followed run is; TASK in a plain watch.
        session: The job session as it was seen last; None in a plain watch.
        failures: Of a final event: the machines that did not end with Success.
        is_by_link: While its job session is searched: whether only a link of the task
            can tell which it is. So it is with tasks that no `submit` of this manager
            gave, and where the action starts no job, a restore say. If the server links
            to none, it is searched in vain until `find_timeout` is over.
    """

    task_id: str
    task: Task | None
    previous: TaskState | None
    state: TaskState
    is_final: bool
    succeeded: bool | None
    observed_at: datetime
    not_before: datetime | None = None
    sequence: int
    error: VeeamTasksError | None = None
    stage: RunStage = RunStage.TASK
    session: JobSession | None = None
    failures: tuple[TaskSession, ...] = ()
    is_by_link: bool = False

    @property
    def has_warnings(self) -> bool:
        """Whether the job session ended with Warning: it went well, with remarks."""
        return self.session is not None and self.session.has_warnings

    def __repr__(self) -> str:
        word = state_word(self)
        if self.previous is not None and self.previous.value != word:
            word = f"{self.previous} -> {word}"
        parts = [self.task_id, word]
        if self.stage is not RunStage.TASK:
            parts += [self.stage.value, *_session_words(self)]
        if self.is_by_link and not self.is_final:
            parts.append("by link alone")
        if self.is_final and self.error is None:
            parts.append(outcome_of(self))
        if self.is_final and self.error is None and self.session is None:
            assert self.task is not None
            result = self.task.result
            if result is None:
                parts.append("without a result")
            elif result.message is not None:
                parts.append(quoted(result.message))
        if self.error is not None:
            parts.append(quoted(why_lost(self.error)))
        return f"<TaskEvent #{self.sequence} {visible(' '.join(parts))}>"


def _session_words(event: TaskEvent) -> list[str]:
    session = event.session
    if session is None:
        return []
    words = [quoted(session.job_name or session.vm_name or session.name)]
    words.append(session.raw_state)
    if session.is_ended:
        has_result = session.result is not SessionResult.NONE
        words.append(str(session.raw_result) if has_result else "without a result")
    elif session.progress is not None:
        words.append(f"{session.progress} %")
    return words


def state_word(seen: "TaskEvent | Observation") -> str:
    """Return what tells two states apart: two unknown words are two states."""
    if seen.state is TaskState.UNKNOWN and seen.task is not None:
        return seen.task.raw_state
    return seen.state.value


@attrs.frozen(kw_only=True)
class Observation:
    """What one reply proved about one task, before it is any reader's event.

    Attributes:
        generation: Of the logon session under which the task was seen last.
        stage: How far a followed run is.
        session: Its job session as it was seen last.
        failures: Of a run that has ended: the machines that did not end with Success.
        is_by_link: Whether only a link of the task can tell of its job session.
    """

    task_id: str
    task: Task | None
    state: TaskState
    is_final: bool
    observed_at: datetime
    not_before: datetime | None
    generation: int
    error: VeeamTasksError | None = None
    stage: RunStage = RunStage.TASK
    session: JobSession | None = None
    failures: tuple[TaskSession, ...] = ()
    is_by_link: bool = False

    @property
    def succeeded(self) -> bool | None:
        """Whether what it shows went well; None while that is open, or for LOST."""
        if self.state is TaskState.LOST or self.task is None:
            return None
        if self.stage is RunStage.TASK:
            is_finished = self.state is TaskState.FINISHED
            return self.task.succeeded if is_finished else None
        return None if self.session is None else self.session.succeeded


ValueT = TypeVar("ValueT")

_BITS = 5
_WIDTH = 1 << _BITS

KINDS = ("succeeded", "failed", "lost", "unfinished")

_Entry = tuple[str, ValueT, str]


class _Node(Generic[ValueT]):
    """A leaf of entries, or a node of nodes; None where something was taken out."""

    __slots__ = ("_ids", "children", "counts", "is_leaf")

    def __init__(
        self,
        children: "list[_Entry[ValueT] | None] | list[_Node[ValueT]]",
        *,
        is_leaf: bool,
    ) -> None:
        self.children = children
        self.is_leaf = is_leaf
        self._ids: dict[str, tuple[str, ...]] = {}
        self.counts = dict.fromkeys(KINDS, 0)
        for child in children:
            if isinstance(child, _Node):
                for kind, count in child.counts.items():
                    self.counts[kind] += count
            elif child is not None:
                self.counts[child[2]] += 1

    def entries(self) -> "Iterator[_Entry[ValueT]]":
        for child in self.children:
            if isinstance(child, _Node):
                yield from child.entries()
            elif child is not None:
                yield child

    def ids(self, kind: str) -> tuple[str, ...]:
        """Return the IDs of one kind; kept, so that only what changed is made anew."""
        if not self.counts[kind]:
            return ()
        ids = self._ids.get(kind)
        if ids is None:
            ids = self._ids[kind] = tuple(
                chain.from_iterable(
                    child.ids(kind) if isinstance(child, _Node) else child[:1]
                    for child in self.children
                    if isinstance(child, _Node)
                    or (child is not None and child[2] == kind)
                )
            )
        return ids


_Changes = list[tuple[int, _Entry[ValueT] | None]]


def _changed(
    node: _Node[ValueT] | None, shift: int, changes: _Changes[ValueT]
) -> _Node[ValueT]:
    """Return a node with some entries changed, given in the order of their places."""
    if shift == 0:
        leaf: list[_Entry[ValueT] | None] = [] if node is None else [*node.children]
        for place, entry in changes:
            at = place % _WIDTH
            leaf.extend([None] * (at + 1 - len(leaf)))
            leaf[at] = entry
        return _Node(leaf, is_leaf=True)
    nodes: list[_Node[ValueT]] = [] if node is None else [*node.children]
    for at, group in groupby(changes, lambda change: (change[0] >> shift) % _WIDTH):
        below = nodes[at] if at < len(nodes) else None
        fresh = _changed(below, shift - _BITS, list(group))
        # Places are given out in order, so there is no gap.
        nodes[at : at + 1] = [fresh]
    return _Node(nodes, is_leaf=False)


class Outcomes(Mapping[str, ValueT]):
    """From task ID to its latest event, in the order watched; never changes.

    A report is a snapshot. If each were a copy, a report beside each event of ten
    thousand tasks would cost a hundred million copies. So this is a tree of small
    tuples: a change makes new ones from one leaf to the root, and every older snapshot
    keeps its own.

    Args:
        kind_of: Tells of what kind a value is, one of `KINDS`.
    """

    __slots__ = ("_is_newest", "_kind_of", "_places", "_root", "_shift", "_size")

    def __init__(self, kind_of: Callable[[ValueT], str]) -> None:
        self._kind_of = kind_of
        self._root: _Node[ValueT] = _Node([], is_leaf=True)
        self._shift = 0
        self._size = 0
        # Shared with the snapshots before, and only ever added to.
        self._places: dict[str, int] = {}
        self._is_newest = True

    def updated(
        self, removed: Iterable[str], latest: Mapping[str, ValueT]
    ) -> "Outcomes[ValueT]":
        """Return these outcomes without what was removed and with the latest values."""
        new = Outcomes(self._kind_of)
        places, size = self._places, self._size
        changes: _Changes[ValueT] = [
            (places[task_id], None) for task_id in removed if task_id in self
        ]
        gone = {place for place, _ in changes}
        for task_id, value in latest.items():
            place = places.get(task_id)
            is_known = place is not None and place not in gone and task_id in self
            if place is None or not is_known:
                is_shared = places is self._places
                if is_shared and (place is not None or not self._is_newest):
                    # An older snapshot has it elsewhere, or a newer one has others.
                    places = dict(places)
                elif is_shared:
                    self._is_newest = False
                place = places[task_id] = size
                size += 1
            changes.append((place, (task_id, value, self._kind_of(value))))
        changes.sort(key=lambda change: change[0])
        new._places, new._size, new._shift = places, size, self._shift
        root: _Node[ValueT] | None = self._root if self._size else None
        while size > 1 << (new._shift + _BITS):
            new._shift += _BITS
            root = None if root is None else _Node([root], is_leaf=False)
        if changes:
            new._root = _changed(root, new._shift, changes)
        else:
            new._root = self._root
        if size > 2 * len(new) + _WIDTH:
            # So that an endless watch does not keep the places of all that has gone.
            fresh = Outcomes(self._kind_of)
            return fresh.updated((), dict(new.items()))
        return new

    def ids(self, kind: str) -> tuple[str, ...]:
        """Return the IDs of one kind, in the order watched."""
        return self._root.ids(kind)

    def count(self, kind: str) -> int:
        """Return how many there are of one kind."""
        return self._root.counts[kind]

    def __getitem__(self, key: str) -> ValueT:
        place = self._places.get(key)
        if place is None or place >= self._size:
            raise KeyError(key)
        node = self._root
        for shift in range(self._shift, 0, -_BITS):
            below = node.children[(place >> shift) % _WIDTH]
            assert isinstance(below, _Node)
            node = below
        entry = node.children[place % _WIDTH]
        if entry is None or isinstance(entry, _Node) or entry[0] != key:
            raise KeyError(key)
        return entry[1]

    def __iter__(self) -> Iterator[str]:
        return (entry[0] for entry in self._root.entries())

    def __len__(self) -> int:
        return sum(self._root.counts.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self),)


def _frozen_outcomes(
    outcomes: Mapping[str, TaskEvent | None],
) -> Mapping[str, TaskEvent | None]:
    if isinstance(outcomes, Outcomes):
        return outcomes
    return Outcomes(outcome_of).updated((), outcomes)


@attrs.frozen(kw_only=True)
class Report:
    """What became of the watched tasks; a snapshot that later polls do not change.

    Attributes:
        outcomes: From task ID to its latest event, or None before the first, in the
            order watched.
    """

    outcomes: Mapping[str, TaskEvent | None] = attrs.field(converter=_frozen_outcomes)

    @property
    def succeeded(self) -> tuple[str, ...]:
        """The IDs of tasks that finished with success, in the order watched."""
        return self._ids("succeeded")

    @property
    def failed(self) -> tuple[str, ...]:
        """The IDs of tasks that finished without success, in the order watched."""
        return self._ids("failed")

    @property
    def lost(self) -> tuple[str, ...]:
        """The IDs of tasks that were lost, in the order watched."""
        return self._ids("lost")

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The IDs of tasks without a final event, in the order watched."""
        return self._ids("unfinished")

    @property
    def warnings(self) -> tuple[str, ...]:
        """The IDs of `succeeded` whose job session ended with Warning."""
        return tuple(
            task_id
            for task_id in self.succeeded
            if (event := self.outcomes[task_id]) is not None and event.has_warnings
        )

    def raise_for_failures(self) -> None:
        """Raise if a task or its job failed or was lost; unfinished ones raise nothing.

        All errors come at once, so they are caught by ``except*``, each kind by itself;
        ``except VeeamTasksError`` catches no group::

            try:
                watch.report.raise_for_failures()
            except* vt.TaskFailedError as group:
                for error in group.exceptions:
                    print(error.task.task_id, error)
            except* vt.TaskLostError as group:
                ...

        Raises:
            ExceptionGroup: With a `TaskFailedError`, `SessionFailedError`,
                `TaskLostError` or `SessionLostError` per task.
        """
        errors: list[VeeamTasksError] = [
            failure_of(event)
            for event in self.outcomes.values()
            if event is not None and outcome_of(event) in {"failed", "lost"}
        ]
        if errors:
            text = f"{len(errors)} of {len(self.outcomes)} tasks failed or were lost"
            raise ExceptionGroup(text, errors)

    def __reduce__(self) -> tuple[object, ...]:
        # A read-only view can be neither copied deeply nor pickled by itself.
        return _report, (dict(self.outcomes),)

    def _ids(self, outcome: str) -> tuple[str, ...]:
        assert isinstance(self.outcomes, Outcomes)
        return self.outcomes.ids(outcome)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._ids(word))} {word}" for word in KINDS)
        number = len(self.outcomes)
        lines = [f"<Report of {counted(number, 'task')}: {counts}"]
        others = number - len(self.succeeded)
        shown = (
            (task_id, event)
            for task_id, event in self.outcomes.items()
            if outcome_of(event) != "succeeded"
        )
        for task_id, event in islice(shown, _LINES_SHOWN):
            line = f"  {task_id:<12} {outcome_of(event):<10} {_told(event)}".rstrip()
            lines.append(visible(line))
        if others > _LINES_SHOWN:
            lines.append(f"  and {others - _LINES_SHOWN} more")
        return "\n".join(lines) + ">"


def _report(outcomes: Mapping[str, TaskEvent | None]) -> Report:
    return Report(outcomes=outcomes)


_LINES_SHOWN = 10


def outcome_of(event: TaskEvent | None) -> str:
    """Return in which list of a report the task of this latest event stands."""
    if event is None or not event.is_final:
        return "unfinished"
    if event.state is TaskState.LOST:
        return "lost"
    return "succeeded" if event.succeeded else "failed"


def failure_of(event: TaskEvent) -> VeeamTasksError:
    """Return the error of a final event that is no success."""
    if event.state is TaskState.LOST:
        return lost_error(event)
    assert event.task is not None
    if event.session is None:
        return TaskFailedError(task=event.task)
    return SessionFailedError(
        task=event.task, session=event.session, failures=event.failures
    )


def lost_error(event: TaskEvent) -> TaskLostError | SessionLostError:
    """Return the error of an event whose state is LOST."""
    if isinstance(event.error, TaskLostError | SessionLostError):
        return fresh(event.error)
    return TaskLostError(
        task_id=event.task_id, last_seen=event.task, reason=str(event.error)
    )


def _told(event: TaskEvent | None) -> str:
    if event is None:
        return "not seen"
    if event.error is not None:
        return why_lost(event.error)
    task = event.task
    assert task is not None
    if event.session is not None:
        return " ".join(_session_words(event))
    if event.stage is RunStage.SEARCHING:
        how = ", and only a link of the task can tell" if event.is_by_link else ""
        return (
            f"{task.raw_state} {task.operation}, its job session is not found yet{how}"
        )
    message = task.result.message if task.result and event.is_final else None
    said = "" if message is None else quoted(message)
    return f"{task.raw_state} {task.operation} {said}"


of_the_package(
    Report,
    TaskEvent,
)
