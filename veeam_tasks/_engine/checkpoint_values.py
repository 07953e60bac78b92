"""Checkpoints: what a new process needs to go on, as JSON-able values; pure.

A watch is written as its tasks, with what was delivered of each. A key is left out
where it would say nothing, so that a task takes about a hundred bytes. Of a checkpoint
and of its tasks the keys that are not known are kept: a later program wrote them.
"""

import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import attrs

from veeam_tasks._errors import (
    SessionLostError,
    TaskLostError,
    VeeamTasksError,
)
from veeam_tasks._events import Observation
from veeam_tasks._model import (
    TASK_ID,
    JobSession,
    Link,
    RunStage,
    SessionResult,
    SessionState,
    Task,
    TaskResult,
    TaskSession,
    TaskState,
)
from veeam_tasks._protocol.session_paths import is_session_path

VERSION = 1

# What a datetime can show; servers date what has no end to the year 1.
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799
_YEAR = 366 * 86_400
_LONGEST_SHOWN = 40
_QUERY = re.compile(r"[A-Za-z0-9=&%._~-]*", re.ASCII)
_STAGES = (RunStage.SEARCHING.value, RunStage.SESSION.value)


class DamagedError(ValueError):
    """A value is not what it has to be; becomes an `ArgumentError` that says where."""

    def __init__(self, problem: str, *, is_member: bool = False) -> None:
        super().__init__(problem)
        self._is_member = is_member

    def within(self, name: str) -> "DamagedError":
        """Return the same of a value that stands under a name."""
        mark = "." if self._is_member else ": "
        return DamagedError(f"{name}{mark}{self}", is_member=True)


def _text(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    _demand(isinstance(value, str), name, "a text", value)


def _flag(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    _demand(isinstance(value, bool), name, "true or false", value)


def _is_within(value: object, least: float, most: float) -> bool:
    """Tell whether a value is a number in these bounds; NaN is in none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and least <= value <= most  # type: ignore[operator] # a number


def _time(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    is_time = _is_within(value, _EARLIEST, _LATEST)
    _demand(is_time, name, "a time in seconds since 1970", value)


def _time_of_ours(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    # Skews are taken from it and added to it.
    is_time = _is_within(value, 0, _LATEST - _YEAR)
    _demand(is_time, name, "a time in seconds since 1970", value)


def _skew(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    _demand(_is_within(value, 0, _YEAR), name, "seconds, up to a year", value)


def _span(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    is_span = _is_within(value, 0, sys.float_info.max) and value != 0
    _demand(is_span, name, "seconds, more than 0", value)


def _count(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    is_count = isinstance(value, int) and _is_within(value, 0, math.inf)
    _demand(is_count, name, "a count", value)


def _percent(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    is_percentage = isinstance(value, int) and _is_within(value, 0, 100)
    _demand(is_percentage, name, "a percentage", value)


def _stage(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    _demand(value in _STAGES, name, f"a stage ({' or '.join(_STAGES)})", value)


def _task_id(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    is_id = isinstance(value, str) and bool(TASK_ID.fullmatch(value))
    _demand(is_id, name, "an ID like 'task-7'", value)


def _session_path(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    # It is asked for as it stands.
    is_path = isinstance(value, str) and is_session_path(value)
    is_path = is_path and _QUERY.fullmatch(str(value).partition("?")[2]) is not None
    _demand(is_path, name, "the path of a job session", value)


def _texts(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    are_texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    _demand(are_texts, name, "a list of texts", value)


def _task_ids(_: object, name: "attrs.Attribute[Any]", value: object) -> None:
    _texts(_, name, value)
    are_ids = all(TASK_ID.fullmatch(one) for one in value)  # type: ignore[attr-defined] # a tuple
    _demand(are_ids, name, "a list of task IDs", value)


def _demand(
    is_so: bool,  # noqa: FBT001 - the fact itself
    name: "attrs.Attribute[Any]",
    what: str,
    value: object,
) -> None:
    if not is_so:
        raise not_a(name.name, what, value)


def not_a(name: str, what: str, value: object) -> DamagedError:
    problem = f"{name} is not {what}, but {kind_of(value)}"
    return DamagedError(problem, is_member=True)


def kind_of(value: object) -> str:
    """Return what a value is, in words of JSON; no text is repeated."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        text = "a number too long to show"
        with suppress(ValueError):  # of more digits than Python prints
            text = repr(value) if len(repr(value)) <= _LONGEST_SHOWN else text
        return text
    if isinstance(value, str):
        return "another text" if value else "an empty text"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, Mapping) else type(value).__name__


def _maybe(check: Any) -> Any:
    return attrs.field(default=None, validator=attrs.validators.optional(check))


@attrs.frozen(kw_only=True)
class SessionMark:
    """What is kept of a job session; the words are the server's."""

    id: str = attrs.field(validator=_text)
    kind: str = attrs.field(validator=_text)
    job: str | None = _maybe(_text)
    vm: str | None = _maybe(_text)
    state: str = attrs.field(validator=_text)
    result: str | None = _maybe(_text)
    progress: int | None = _maybe(_percent)
    began: float | None = _maybe(_time)
    ended: float | None = _maybe(_time)
    failure: str | None = _maybe(_text)
    href: str | None = _maybe(_text)

    def session(self) -> JobSession:
        """Return the job session."""
        return JobSession(
            session_id=self.id,
            uid=f"urn:veeam:{self.kind}:{self.id}",
            kind=self.kind,
            job_name=self.job,
            vm_name=self.vm,
            state=SessionState.from_word(self.state),
            raw_state=self.state,
            result=SessionResult.from_word(self.result),
            raw_result=self.result,
            progress=self.progress,
            created_at=_moment(self.began),
            ended_at=_moment(self.ended),
            failure_message=self.failure,
            href=self.href,
        )


@attrs.frozen(kw_only=True)
class MachineMark:
    """What is kept of a machine of a job session that has ended."""

    vm: str | None = _maybe(_text)
    state: str = attrs.field(validator=_text)
    result: str | None = _maybe(_text)
    reason: str | None = _maybe(_text)

    def machine(self) -> TaskSession:
        """Return what the job session did for it."""
        return TaskSession(
            vm_name=self.vm,
            raw_state=self.state,
            result=SessionResult.from_word(self.result),
            raw_result=self.result,
            reason=self.reason,
        )


@attrs.frozen(kw_only=True)
class EventMark:
    """What is kept of an event.

    Attributes:
        state: The server's word; None for a task that was lost before it was seen.
        at: When it was observed, in seconds since 1970.
        before: When the poll before was sent; only where the event is owed.
        final: Whether it was the last.
        success: What the Result said; None without one.
        message: That of the Result.
        lost: Why the task, or its job session, was lost; None if it was not.
        stage: How far a followed run was; None for the task itself.
        session: Its job session.
        failures: Its machines that did not end with Success.
    """

    state: str | None = _maybe(_text)
    at: float = attrs.field(validator=_time)
    before: float | None = _maybe(_time)
    final: bool = attrs.field(default=False, validator=_flag)
    success: bool | None = _maybe(_flag)
    message: str | None = _maybe(_text)
    lost: str | None = _maybe(_text)
    stage: str | None = _maybe(_stage)
    session: SessionMark | None = None
    failures: tuple[MachineMark, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.state is None and (self.lost is None or self.stage is not None):
            problem = "state is missing"
            raise DamagedError(problem, is_member=True)
        if self.lost is not None and not self.final:
            problem = "what is lost is not final"
            raise DamagedError(problem)
        if self.stage == RunStage.SESSION.value and self.session is None:
            problem = "session is missing"
            raise DamagedError(problem, is_member=True)

    def observation(
        self, task_id: str, operation: str, links: tuple[Link, ...], generation: int
    ) -> Observation:
        """Return what it has shown, as far as that was kept."""
        task = None
        if self.state is not None:
            result = None
            if self.success is not None:
                result = TaskResult(success=self.success, message=self.message)
            task = task_of(task_id, self.state, operation, links, result)
        session = None if self.session is None else self.session.session()
        stage = RunStage.TASK if self.stage is None else RunStage(self.stage)
        error: VeeamTasksError | None = None
        state = TaskState.LOST if task is None else task.state
        if stage is RunStage.SESSION:
            # Also where the task was lost before it was seen Finished.
            state = TaskState.FINISHED
        if self.lost is not None:
            state = TaskState.LOST
            error = TaskLostError(task_id=task_id, last_seen=task, reason=self.lost)
            if stage is not RunStage.TASK:
                error = SessionLostError(
                    task_id=task_id, task=task, last_seen=session, reason=self.lost
                )
        observed_at = _moment(self.at)
        assert observed_at is not None
        return Observation(
            task_id=task_id,
            task=task,
            state=state,
            is_final=self.final,
            observed_at=observed_at,
            not_before=_moment(self.before),
            generation=generation,
            error=error,
            stage=stage,
            session=session,
            failures=tuple(one.machine() for one in self.failures),
        )


@attrs.frozen(kw_only=True)
class StartMark:
    """What is kept of the submit that a task came from.

    Attributes:
        path: Of the action, below ``/api/``.
        at: When the server answered it, in seconds since 1970.
        skew: By how much the backup server's clock may be behind; None as a rule.
        known: Job sessions of the job that time alone does not tell from its run.
        under_way: A run of the job that had not ended before.
        kind: What the job's sessions are, as far as known.
    """

    path: str = attrs.field(validator=_text)
    at: float = attrs.field(validator=_time_of_ours)
    skew: float | None = _maybe(_skew)
    known: tuple[str, ...] = attrs.field(default=(), validator=_texts)
    under_way: SessionMark | None = None
    kind: str | None = _maybe(_text)


@attrs.frozen(kw_only=True)
class RunMark:
    """What is kept of a job session that is searched or followed.

    Attributes:
        path: Of the job session, below ``/api/``; None until it is known.
        until: Until when it may be searched, in seconds since 1970.
        session: As it was seen last, where no event has told of it.
    """

    path: str | None = _maybe(_session_path)
    until: float = attrs.field(validator=_time)
    session: SessionMark | None = None


@attrs.frozen(kw_only=True)
class TaskMark:
    """What is kept of a watched task.

    Attributes:
        id: Its ID.
        sequence: Of the last event that the reader took; 0 before the first.
        delivered: That event.
        owed: The end of the task, where it was observed and not taken yet.
        next: The end of its run, where both were observed and not taken yet.
        operation: The task's; None if it was never seen.
        related: Where its Related links lead.
        seen: The latest known word of its state, where no event has told it.
        asked: When the poll was sent that showed it so, in seconds since 1970.
        start: The submit that it came from, if that is known.
        run: Its job session, once that is searched.
        earlier: Whether it is of an earlier logon session than the checkpoint, as far
            as was known.
        extra: What is not known here.
    """

    id: str = attrs.field(validator=_task_id)
    sequence: int = attrs.field(default=0, validator=_count)
    delivered: EventMark | None = None
    owed: EventMark | None = None
    next: EventMark | None = None
    operation: str | None = _maybe(_text)
    related: tuple[str, ...] = attrs.field(default=(), validator=_texts)
    seen: str | None = _maybe(_text)
    asked: float | None = _maybe(_time)
    start: StartMark | None = None
    run: RunMark | None = None
    earlier: bool = attrs.field(default=False, validator=_flag)
    extra: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        problem = ""
        events = (self.delivered, self.owed, self.next)
        told = [one for one in events if one is not None]
        if bool(self.sequence) != (self.delivered is not None):
            problem = "sequence and state do not belong together"
        elif any(one.final for one in told[:-1]):
            problem = "something comes after its final event"
        elif self.next is not None and self.owed is None:
            problem = "next comes after nothing"
        elif self.operation is None and any(one.state is not None for one in told):
            problem = "operation is missing"
        if problem:
            raise DamagedError(problem)

    @property
    def links(self) -> tuple[Link, ...]:
        """The Related links, as far as they were kept."""
        return tuple([Link(rel="Related", href=href) for href in self.related])

    @property
    def latest(self) -> EventMark | None:
        """What was observed last, of that which was kept."""
        return self.next or self.owed or self.delivered

    def task(self) -> Task | None:
        """Return the task as it was seen last; None if it never was."""
        operation = self.operation or ""
        if self.seen is not None:
            return task_of(self.id, self.seen, operation, self.links, None)
        if self.latest is None:
            return None
        return self.latest.observation(self.id, operation, self.links, 0).task


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A watch, as far as its reader had read it.

    Attributes:
        url: Of the Enterprise Manager, ending in ``/api/``.
        logon: The reference of the logon session; None if there was none.
        saved: When it was made, in seconds since 1970.
        all: Whether the watch was one of all tasks.
        find_timeout: How long a job session may be searched; None if none was followed.
        discarded: IDs that a watch of all tasks is not to tell of.
        tasks: The watched tasks, in the order watched.
        past: Tasks whose end is owed, and whose IDs are other tasks by now.
        extra: What is not known here.
    """

    url: str = attrs.field(validator=_text)
    logon: str | None = _maybe(_text)
    saved: float = attrs.field(validator=_time)
    all: bool = attrs.field(default=False, validator=_flag)
    find_timeout: float | None = _maybe(_span)
    discarded: tuple[str, ...] = attrs.field(default=(), validator=_task_ids)
    tasks: tuple[TaskMark, ...] = ()
    past: tuple[TaskMark, ...] = ()
    extra: Mapping[str, Any] = attrs.field(factory=dict)


def task_of(
    task_id: str,
    word: str,
    operation: str,
    links: tuple[Link, ...],
    result: TaskResult | None,
) -> Task:
    """Return a task as far as it was kept."""
    return Task(
        task_id=task_id,
        state=TaskState.from_word(word),
        raw_state=word,
        operation=operation,
        result=result,
        links=links,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
