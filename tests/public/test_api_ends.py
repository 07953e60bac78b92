"""What ends a task, and the single requests of `SessionManager`."""

from typing import Literal

import anyio
import pytest
from support.managers import Wire, door, targets
from support.raw_server import RawServer, reply

from veeam_tasks import (
    ForbiddenError,
    MalformedReplyError,
    SessionManager,
    StatusError,
    TaskFailedError,
    TaskLostError,
    TaskState,
    VeeamTasksError,
    WatchTimeoutError,
    connect,
)
from veeam_tasks.simulator import Fault, FaultKindName, SimulatedServer

pytestmark = pytest.mark.virtual_time


async def test_finished_alone_ends_a_task(wire: Wire) -> None:
    """Not a Result, not OperationFinished, not an unknown word: Finished alone."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running")
        watch = em.watch(task.task_id, timeout=100)
        await anext(watch)
        for state in ("Running", "OperationFinished", "Odd"):
            task.set_state(state, success=True, message="Ok")
            await anyio.sleep(10)
            assert watch.report.unfinished == (task.task_id,)
        task.finish()
        assert (await watch.wait()).succeeded == (task.task_id,)


async def test_finished_without_a_result(wire: Wire) -> None:
    """Finished without a Result is asked for three more times, then final, failed."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Finished unsettled").task_id
        watch = em.watch(task)
        (event,) = [event async for event in watch]
        assert (event.state, event.succeeded) == (TaskState.FINISHED, None)
        assert watch.report.failed == (task,)
        if wire.coalesce == "never":
            assert targets(server).count(f"tasks/{task}") == 4
        with pytest.raises(TaskFailedError, match="the server gave no result"):
            await em.wait(task)


LOGON = reply(status="201 Created", headers=["X-RestSvcSessionId: dG9rZW4tMTIzNA=="])


@pytest.mark.parametrize(
    ("content_type", "result"),
    [
        ("application/xml", b"<Result/>"),
        ("application/xml", b"<Result><Message>Ok</Message></Result>"),
        ("application/json", b'"Result":{"Success":null,"Message":null}'),
    ],
)
async def test_finished_with_a_result_that_says_nothing(
    content_type: str, result: bytes
) -> None:
    """A Result without Success is none: asked three more times, final, failed."""
    body = (
        b"<Task><TaskId>task-1</TaskId><State>Finished</State>"
        b"<Operation>StartJob</Operation>" + result + b"</Task>"
        if content_type == "application/xml"
        else b'{"TaskId":"task-1","State":"Finished","Operation":"StartJob",'
        + result
        + b"}"
    )
    async with (
        RawServer(LOGON, reply(body, content_type=content_type)) as server,
        connect(server.url(), username="u", password="p", coalesce="never") as em,
    ):
        with pytest.raises(TaskFailedError, match="the server gave no result"):
            await em.wait("task-1", timeout=100)
        assert [seen.method for seen in server.seen[1:]] == ["GET"] * 4


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", ""])
@pytest.mark.parametrize("coalesce", ["never", "always"])
async def test_a_changed_content_type_ends_no_task_and_keeps_none_from_ending(
    content_type: str, coalesce: Literal["never", "always"]
) -> None:
    """What can be read is read, whatever a proxy made of its type."""
    task = (
        b"<Task><TaskId>task-1</TaskId><State>Finished</State>"
        b'<Operation>StartJob</Operation><Result Success="true"/></Task>'
    )
    body = task if coalesce == "never" else b"<Tasks>" + task + b"</Tasks>"
    async with (
        RawServer(LOGON, reply(body, content_type=content_type)) as server,
        connect(server.url(), username="u", password="p", coalesce=coalesce) as em,
    ):
        assert (await em.wait("task-1", timeout=100)).succeeded


async def test_lost_after_two_replies_a_pause_apart(wire: Wire) -> None:
    """Two replies, at least one pause apart, in which the server does not know it."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running 5s, gone")
        watch = em.watch(task.task_id)
        found = await anext(watch)
        lost = await anext(watch)
        assert (found.state, lost.state) == (TaskState.RUNNING, TaskState.LOST)
        assert lost.is_final
        assert lost.succeeded is None
        assert isinstance(lost.error, TaskLostError)
        assert lost.task is not None
        assert watch.report.lost == (task.task_id,)
        name = f"/api/tasks/{task.task_id}"
        times = [record.time for record in server.requests if record.path == name]
        assert times[-1] - times[-2] > 0.99
        with pytest.raises(TaskLostError) as caught:
            await em.wait(task.task_id)
        assert caught.value.task_id == task.task_id


async def test_unknown_once_is_not_lost(wire: Wire) -> None:
    """One such reply alone proves nothing."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running 2s, gone 500ms, Running 5s, Finished ok")
        assert (await em.wait(task.task_id)).succeeded


async def test_403_is_lost() -> None:
    """LOST: this account may not read it (403)."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        task = server.add_task("Running").task_id
        server.faults.add(Fault("forbidden", path=f"tasks/{task}$"))
        (event,) = [event async for event in em.watch(task)]
        assert event.state is TaskState.LOST
        assert "403" in str(event.error)
        with pytest.raises(ForbiddenError):
            await em.fetch(task)
        with pytest.raises(TaskLostError, match="this account may not read it") as lost:
            await em.wait(task)
        # Another logon session would not help.
        assert "adopt" not in str(lost.value)
        assert server.logons.total == 1


async def test_another_task_is_a_malformed_reply(wire: Wire) -> None:
    """A reply about another task than the one asked for is a MalformedReplyError."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running").task_id
        server.add_task("Running")
        server.faults.add(Fault("other_task", path=f"tasks/{task}$"))
        with pytest.raises(MalformedReplyError):
            await em.fetch(task)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [("status", StatusError, "502"), ("html", MalformedReplyError, "text/html")],
)
async def test_only_errors_for_one_task(
    fault: FaultKindName, error: type[VeeamTasksError], said: str
) -> None:
    """LOST: only errors for this one task for as long as `patience`."""
    async with (
        SimulatedServer() as server,
        # Asked for together with all others it would not give any.
        door(server, patience=40, coalesce="never") as em,
    ):
        bad, good = (server.add_task("Running").task_id for _ in range(2))
        server.faults.add(Fault(fault, status=502, path=f"tasks/{bad}$"))
        watch = em.watch(bad, good, timeout=300)
        with pytest.raises(WatchTimeoutError):
            await watch.wait()
        assert watch.report.lost == (bad,)
        lost = watch.report.outcomes[bad]
        assert lost is not None
        assert lost.task is None
        assert isinstance(lost.error, error)
        assert said in str(lost.error)
        assert watch.report.unfinished == (good,)


async def succeed(em: SessionManager, task_id: str) -> None:
    """Wait for a task that would fail if its Result were given up too early."""
    assert (await em.wait(task_id)).succeeded


async def test_newcomers_use_up_no_look_at_a_missing_result(wire: Wire) -> None:
    """Looks without a Result are a pause apart, however many begin to wait."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running 5s, Finished unsettled 1500ms, Finished ok")
        async with anyio.create_task_group() as group:
            group.start_soon(succeed, em, task.task_id)
            await anyio.sleep(5.2)
            for _ in range(5):
                group.start_soon(succeed, em, task.task_id)
                await anyio.sleep(0.02)


async def test_newcomers_use_up_no_round_of_refusals() -> None:
    """Rounds of 401 for one task alone are a pause apart, whoever comes anew."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        task = server.add_task("Running 10s, Finished ok").task_id
        other = server.add_task("Running 10s, Finished ok").task_id
        async with anyio.create_task_group() as group:
            group.start_soon(em.wait, task)
            group.start_soon(em.wait, other)
            await anyio.sleep(2.5)
            fault = server.faults.add(Fault("unauthorized", path=f"{task}$"))
            for _ in range(40):
                group.start_soon(em.wait, task)
                await anyio.sleep(0.02)
            assert fault.played > 10
            server.faults.remove(fault)
        assert server.logons.total == 1


async def test_renewals_use_up_no_look_at_a_missing_result() -> None:
    """A renewal brings polls forward, and none of them counts as a later look."""
    async with SimulatedServer() as server, door(server, coalesce="never") as em:
        task = server.add_task("Running 5s, Finished unsettled 1500ms, Finished ok")
        async with anyio.create_task_group() as group:
            group.start_soon(succeed, em, task.task_id)
            await anyio.sleep(5.2)
            for _ in range(5):
                server.expire_logon_sessions(keep_tasks=True)
                await em.fetch_all()
                await anyio.sleep(0.02)
