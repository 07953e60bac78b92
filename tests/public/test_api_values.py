"""The values are frozen and readable; reprs of each are in test_model, test_events."""

import copy
import itertools
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import anyio
import attrs
import pytest
from support.managers import Wire, door

from veeam_tasks import (
    JobSession,
    Link,
    Notice,
    NoticeKind,
    Pace,
    Report,
    Run,
    RunStage,
    SessionResult,
    SessionState,
    Statistics,
    Task,
    TaskEvent,
    TaskFailedError,
    TaskLostError,
    TaskResult,
    TaskSession,
    TaskState,
    VeeamTasksError,
)
from veeam_tasks._engine.collection_poll import Coalesce
from veeam_tasks.simulator import SimulatedServer

TASK = Task(
    task_id="task-7",
    state=TaskState.RUNNING,
    raw_state="Running",
    operation="StartJob",
)
SESSION = JobSession(
    session_id="1c29a0ac-7e4e-4a0b-9f45-6c7b1a0d2e33",
    kind="BackupJobSession",
    state=SessionState.WORKING,
    raw_state="Working",
)
NOW = datetime.now(UTC)
EVENT = TaskEvent(
    task_id="task-7",
    task=TASK,
    previous=None,
    state=TaskState.RUNNING,
    is_final=False,
    succeeded=None,
    observed_at=NOW,
    sequence=1,
)
VALUES: dict[type[Any], tuple[object, dict[str, object]]] = {
    Task: (
        TASK,
        {
            "task_id": str,
            "state": TaskState,
            "raw_state": str,
            "operation": str,
            "result": TaskResult | None,
            "links": tuple[Link, ...],
            "href": str | None,
        },
    ),
    TaskResult: (TaskResult(success=True), {"success": bool, "message": str | None}),
    Link: (
        Link(rel="Delete", href="/api/tasks/task-7"),
        {"rel": str, "href": str, "type": str | None, "name": str | None},
    ),
    TaskEvent: (
        EVENT,
        {
            "task_id": str,
            "task": Task | None,
            "previous": TaskState | None,
            "state": TaskState,
            "is_final": bool,
            "succeeded": bool | None,
            "observed_at": datetime,
            "not_before": datetime | None,
            "sequence": int,
            "error": VeeamTasksError | None,
            "stage": RunStage,
            "session": JobSession | None,
            "failures": tuple[TaskSession, ...],
            "is_by_link": bool,
        },
    ),
    JobSession: (
        SESSION,
        {
            "session_id": str,
            "uid": str | None,
            "kind": str,
            "name": str | None,
            "job_name": str | None,
            "job_uid": str | None,
            "job_type": str | None,
            "vm_name": str | None,
            "state": SessionState,
            "raw_state": str,
            "result": SessionResult,
            "raw_result": str | None,
            "progress": int | None,
            "created_at": datetime | None,
            "ended_at": datetime | None,
            "is_retry": bool | None,
            "failure_message": str | None,
            "links": tuple[Link, ...],
            "href": str | None,
        },
    ),
    TaskSession: (
        TaskSession(raw_state="Pending"),
        {
            "vm_name": str | None,
            "vm_uid": str | None,
            "raw_state": str,
            "result": SessionResult,
            "raw_result": str | None,
            "reason": str | None,
            "created_at": datetime | None,
            "ended_at": datetime | None,
            "size": int | None,
        },
    ),
    Run: (
        Run(task=TASK),
        {
            "task": Task,
            "session": JobSession | None,
            "failures": tuple[TaskSession, ...],
        },
    ),
    Report: (
        Report(outcomes={"task-7": EVENT}),
        {"outcomes": Mapping[str, TaskEvent | None]},
    ),
    Pace: (
        Pace(),
        {"first": float, "growth": float, "longest": float, "jitter": float},
    ),
    Notice: (
        Notice(kind=NoticeKind.RENEWED, at=NOW, detail=""),
        {
            "kind": NoticeKind,
            "at": datetime,
            "detail": str,
            "task_ids": tuple[str, ...],
            "error": VeeamTasksError | None,
        },
    ),
    Statistics: (
        Statistics(),
        {
            **dict.fromkeys(
                (
                    "logons",
                    "renewals",
                    "requests",
                    "polls",
                    "coalesced",
                    "retries",
                    "errors",
                    "in_flight",
                    "watched",
                    "bytes_in",
                ),
                int,
            ),
            "coalescing": str,
            "coalescing_reason": str,
            "last_request_at": datetime | None,
            "next_request_at": datetime | None,
        },
    ),
}


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_fields_and_their_types(kind: type[Any]) -> None:
    """Each class has the fields of the table, of those types."""
    value, fields = VALUES[kind]
    hints = get_type_hints(kind)
    assert {field.name: hints[field.name] for field in attrs.fields(kind)} == fields
    # And what is documented for each of them.
    if "Attributes:" in (kind.__doc__ or ""):
        assert all(f"{name}: " in kind.__doc__ for name in fields)
    else:
        assert kind is Pace
    assert isinstance(value, kind)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_frozen_slots_keyword_only(kind: type[Any]) -> None:
    """Frozen `attrs` classes, slots, keyword-only."""
    value, fields = VALUES[kind]
    for name in fields:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)
    assert not hasattr(value, "__dict__")
    assert all(field.kw_only for field in attrs.fields(kind))
    with pytest.raises(TypeError):
        kind("task-7")
    for again in (copy.copy(value), copy.deepcopy(value)):
        assert again == value
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_readable_repr(kind: type[Any]) -> None:
    """Readable `repr`: it names the class, and shows no object by its address."""
    shown = repr(VALUES[kind][0])
    assert shown.lstrip("<").startswith(kind.__name__)
    assert " at 0x" not in shown


def test_notice_reads_well() -> None:
    """A notice about ten thousand tasks is still one short line."""
    at = datetime(2026, 1, 31, 12, 30, 5, tzinfo=UTC)
    told = Notice(kind=NoticeKind.RECOVERED, at=at, detail="the server answers again")
    assert repr(told) == (
        "<Notice recovered at 2026-01-31 12:30:05: the server answers again>"
    )
    many = tuple(f"task-{number}" for number in range(10_000))
    assert repr(attrs.evolve(told, task_ids=many)).endswith("; 10000 tasks at risk>")
    assert repr(attrs.evolve(told, task_ids=("task-1",))).endswith("; 1 task at risk>")


@pytest.mark.virtual_time
async def test_task_from_the_server(wire: Wire) -> None:
    """`Task`: each field and property of one that the server described."""
    server = wire.server(link_base="https://em01:9398")
    async with server, door(server, **wire.options()) as em:
        made = server.add_task(
            "Running", operation="StartJob", related="BackupJobSession"
        )
        name = made.task_id
        task = await em.fetch(name)
        assert (task.task_id, task.raw_state) == (name, "Running")
        assert task.state is TaskState.RUNNING
        assert (task.operation, task.result) == ("StartJob", None)
        assert (task.is_finished, task.succeeded, task.related) == (False, None, ())
        assert task.href == f"https://em01:9398/api/tasks/{name}"
        assert {link.rel for link in task.links} == {"Delete"}
        assert task.raise_for_failure() is task
        made.finish(message="Started")
        ended = await em.fetch(name)
        assert (ended.state, ended.raw_state) == (TaskState.FINISHED, "Finished")
        assert ended.result == TaskResult(success=True, message="Started")
        assert (ended.is_finished, ended.succeeded) == (True, True)
        (link,) = ended.related
        assert (link.rel, link.type) == ("Related", "BackupJobSession")
        assert link.name is None
        assert link.href.startswith("https://em01:9398/api/backupSessions/")
        assert ended.raise_for_failure() is ended
        failed = await em.fetch(server.add_task("Finished failed 'Disk full'").task_id)
        assert failed.result == TaskResult(success=False, message="Disk full")
        assert (failed.is_finished, failed.succeeded) == (True, False)
        with pytest.raises(TaskFailedError, match="Disk full"):
            failed.raise_for_failure()


@pytest.mark.virtual_time
async def test_events_of_a_watch(wire: Wire) -> None:
    """`TaskEvent`: each field of the first, of a later and of a final event."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running 5s, Odd 5s, Finished ok").task_id
        began = datetime.now(UTC)
        first, second, last = [event async for event in em.watch(task)]
        for event, (state, sequence) in zip(
            (first, second, last),
            ((TaskState.RUNNING, 1), (TaskState.UNKNOWN, 2), (TaskState.FINISHED, 3)),
            strict=True,
        ):
            assert (event.task_id, event.state) == (task, state)
            assert event.sequence == sequence
            assert event.error is None
            assert event.task is not None
            assert event.task.state is state
            assert event.observed_at.utcoffset() == timedelta(0)
            assert event.observed_at >= began
        assert (first.previous, first.not_before) == (None, None)
        assert (second.previous, last.previous) == (first.state, second.state)
        for event in (second, last):
            assert event.not_before is not None
            assert event.not_before.utcoffset() == timedelta(0)
            assert event.not_before <= event.observed_at
        assert [e.is_final for e in (first, second, last)] == [False, False, True]
        assert [e.succeeded for e in (first, second, last)] == [None, None, True]


@pytest.mark.virtual_time
async def test_event_of_a_task_that_was_never_seen(wire: Wire) -> None:
    """`task` is None if it was lost before it was ever seen; `error` says why."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        (event,) = [event async for event in em.watch("task-99")]
        assert (event.state, event.task) == (TaskState.LOST, None)
        assert (event.succeeded, event.is_final) == (None, True)
        assert (event.previous, event.not_before, event.sequence) == (None, None, 1)
        assert isinstance(event.error, TaskLostError)
        assert "task-99" in str(event.error)


@pytest.mark.virtual_time
async def test_report_of_a_watch(wire: Wire) -> None:
    """`Report`: a snapshot that later polls do not change, in the order watched."""
    scripts = ("Running 60s, Finished ok", "Finished failed", "Finished ok", "gone")
    async with wire.server() as server, door(server, **wire.options()) as em:
        ids = [server.add_task(script).task_id for script in scripts]
        ids += [server.add_task(script).task_id for script in scripts]
        ids.reverse()
        watch = em.watch(ids)
        nothing = watch.report
        assert list(nothing.outcomes.items()) == [(name, None) for name in ids]
        assert nothing.unfinished == tuple(ids)
        await anyio.sleep(20)
        half = watch.report
        assert list(half.outcomes) == ids
        assert half.succeeded == (ids[1], ids[5])
        assert half.failed == (ids[2], ids[6])
        assert half.lost == (ids[0], ids[4])
        assert half.unfinished == (ids[3], ids[7])
        latest = half.outcomes[ids[3]]
        assert latest is not None
        assert latest.state is TaskState.RUNNING
        whole = await watch.wait()
        assert whole.succeeded == (ids[1], ids[3], ids[5], ids[7])
        assert whole.unfinished == ()
        assert half.unfinished == (ids[3], ids[7])
        assert nothing.unfinished == tuple(ids)
        with pytest.raises(ExceptionGroup) as caught:
            whole.raise_for_failures()
        told = [
            error.task.task_id if isinstance(error, TaskFailedError) else error.task_id
            for error in caught.value.exceptions
            if isinstance(error, TaskFailedError | TaskLostError)
        ]
        assert told == [ids[0], ids[2], ids[4], ids[6]]


@pytest.mark.virtual_time
async def test_pace_grows_and_falls_back() -> None:
    """`Pace`: pauses grow from `first` to `longest`; a change falls back to `first`."""
    pace = Pace(first=2, growth=2, longest=10, jitter=0)
    async with (
        SimulatedServer() as server,
        door(server, pace=pace, coalesce="never") as em,
    ):
        task = server.add_task("Running")
        watch = em.watch(task.task_id)
        await anyio.sleep(35)
        task.set_state("Odd")
        await anyio.sleep(25)
        await watch.aclose()
        times = [record.time for record in server.requests if record.method == "GET"]
    pauses = [round(after - before) for before, after in itertools.pairwise(times)]
    # The change, at 35 s, is seen at 44 s.
    assert pauses == [2, 4, 8, 10, 10, 10, 2, 4, 8]


@pytest.mark.virtual_time
@pytest.mark.parametrize("together", [False, True])
async def test_jitter_is_a_share_of_the_pause(together: bool) -> None:
    """`jitter` is a share of the pause: ten per cent of each by default."""
    pace = Pace(first=10, growth=1)
    mode: Coalesce = "always" if together else "never"
    async with (
        SimulatedServer() as server,
        door(server, pace=pace, coalesce=mode) as em,
    ):
        watch = em.watch(server.add_task("Running").task_id)
        await anyio.sleep(600)
        await watch.aclose()
        times = [
            record.time
            for record in server.requests
            if record.path.endswith("/tasks" if together else "/task-1")
        ]
    # With a first collection there are two polls at once.
    pauses = [after - before for before, after in itertools.pairwise(times[1:])]
    assert len(pauses) > 50
    assert 8.9 < min(pauses) < 9.4
    assert 9.6 < max(pauses) < 10.1
