"""A watch as an iterator and a context manager, and its members."""

import asyncio
import gc
import weakref
from datetime import UTC, datetime

import anyio
import pytest
from support.managers import Wire, door, targets

from veeam_tasks import ClosedError, Report, Task, TaskState, WatchTimeoutError
from veeam_tasks._events import Observation
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time


async def test_three_kinds_of_task_are_taken(wire: Wire) -> None:
    """A task is an ID, a `Task`, or an Href; one iterable of them; doubles collapse."""
    async with wire.server() as server:
        one = server.add_task("Finished ok").task_id
        two = server.add_task("Finished ok").task_id
        async with door(server, **wire.options()) as em:
            task = await em.fetch(one)
            href = (await em.fetch(two)).href
            assert href is not None
            watch = em.watch(task, one, href, two)
            assert list(watch.report.outcomes) == [one, two]
            report = await watch.wait()
            assert report.succeeded == (one, two)
            assert list(em.watch({one: 1}).report.outcomes) == [one]
            assert list(em.watch(t for t in (two, task)).report.outcomes) == [two, one]


async def test_bare_iteration_break_and_resume(wire: Wire) -> None:
    """It also works bare, and may be left by `break` and iterated on later."""
    async with wire.server() as server:
        task = server.add_task("Running 5s, OperationFinished 5s, Finished ok")
        async with door(server, **wire.options()) as em:
            watch = em.watch(task.task_id)
            async for event in watch:
                assert event.state is TaskState.RUNNING
                break
            await anyio.sleep(60)
            rest = [event async for event in watch]
            assert [event.state for event in rest] == [TaskState.FINISHED]
            assert rest[0].previous is TaskState.RUNNING
            assert rest[0].sequence == 2
            bare = [event.state async for event in em.watch(task.task_id)]
            assert bare == [TaskState.FINISHED]


async def test_it_polls_by_itself(wire: Wire) -> None:
    """It polls from the moment it exists, whether or not anyone is reading."""
    async with wire.server() as server:
        task = server.add_task("Running 30s, Finished ok")
        async with door(server, **wire.options()) as em:
            watch = em.watch(task.task_id)
            await anyio.sleep(10)
            assert watch.tasks[task.task_id].state is TaskState.RUNNING
            await anyio.sleep(60)
            assert watch.report.succeeded == (task.task_id,)
            assert em.statistics().watched == 0
            asked = server.requests.total
            await anyio.sleep(100)
            assert server.requests.total == asked


async def test_tasks_is_a_mapping_of_the_latest(wire: Wire) -> None:
    """`tasks` is a mapping of the latest `Task` by ID, also of a quiet change."""
    async with wire.server() as server:
        first = server.add_task("Running 5s, OperationFinished 5s, Running 5s, Paused")
        last = server.add_task("Finished ok")
        async with door(server, **wire.options()) as em:
            watch = em.watch(first.task_id, last.task_id)
            assert dict(watch.tasks) == {}
            async for event in watch:
                if event.task_id == first.task_id:
                    break
            await anyio.sleep(30)
            tasks = watch.tasks
            assert {name: type(task) for name, task in tasks.items()} == {
                first.task_id: Task,
                last.task_id: Task,
            }
            assert tasks[first.task_id].raw_state == "Paused"
            assert tasks[last.task_id].state is TaskState.FINISHED
            with pytest.raises(TypeError):
                tasks["task-9"] = tasks[last.task_id]  # type: ignore[index] # the point


async def test_add_while_it_runs(wire: Wire) -> None:
    """`add(*tasks)` watches further ones; those watched already stay as they are."""
    async with wire.server() as server:
        one = server.add_task("Running 5s, Finished ok").task_id
        two = server.add_task("Running 20s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(one)
            first = await anext(watch)
            watch.add([one, two])
            rest = [event async for event in watch]
            assert first.sequence == 1
            assert [e.sequence for e in rest if e.task_id == one] == [2]
            assert [e.sequence for e in rest if e.task_id == two] == [1, 2]
            assert list(watch.report.outcomes) == [one, two]


async def test_add_wakes_a_reader_and_end(wire: Wire) -> None:
    """An empty watch ends at once; after `add()` an ended watch is iterated again."""
    async with wire.server() as server:
        one = server.add_task("Finished ok").task_id
        two = server.add_task("Running 5s, Finished failed").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch()
            assert [event async for event in watch] == []
            with pytest.raises(StopAsyncIteration):
                await anext(watch)
            assert (await watch.wait()).outcomes == {}
            watch.add(one)
            assert [event.state async for event in watch] == ["Finished"]
            watch.add(two)
            assert [event.state async for event in watch] == ["Running", "Finished"]
            assert watch.report.failed == (two,)


async def test_discard(wire: Wire) -> None:
    """`discard` drops a task from the report, with its undelivered events."""
    async with wire.server() as server:
        one = server.add_task("Running 5s, Finished ok").task_id
        two = server.add_task("Running 20s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(one, two)
            await anyio.sleep(10)
            watch.discard(one, "task-999")
            assert list(watch.report.outcomes) == [two]
            assert list(watch.tasks) == [two]
            assert {event.task_id async for event in watch} == {two}
            assert em.statistics().watched == 0


async def test_discard_of_the_last_ends_a_waiting_reader(wire: Wire) -> None:
    """Iteration ends when the last task without a final event is discarded."""
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(task)
            await anext(watch)
            async with anyio.create_task_group() as group:
                group.start_soon(watch.wait)
                await anyio.wait_all_tasks_blocked()
                watch.discard(task)
            assert em.statistics().watched == 0


async def test_discard_then_add_begins_anew(wire: Wire) -> None:
    """`discard` then `add` of one ID begins anew with sequence 1."""
    async with wire.server() as server:
        task = server.add_task("Running 5s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(task)
            assert [event.sequence async for event in watch] == [1, 2]
            watch.discard(task)
            watch.add(task)
            (event,) = [event async for event in watch]
            assert (event.sequence, event.previous) == (1, None)
            assert event.not_before is None


@pytest.mark.parametrize("wrong", [["task-1", "job-2"], ["task-1", "tasks"]])
async def test_wrong_tasks_change_nothing(wrong: list[str]) -> None:
    """Wrong arguments raise before anything is done."""
    async with SimulatedServer() as server, door(server) as em:
        watch = em.watch("task-1")
        for change in (watch.add, watch.discard):
            with pytest.raises(ValueError, match="names no task"):
                change("task-7", *wrong)
        for thing in (7, None, 1.5, b"task-1", bytearray(b"task-1")):
            said = f"a task is .*, not {type(thing).__name__}"
            with pytest.raises(TypeError, match=said):
                watch.add(thing)  # type: ignore[arg-type] # the point
            with pytest.raises(TypeError, match=said):
                watch.add("task-1", thing)  # type: ignore[arg-type] # the point
        assert list(watch.report.outcomes) == ["task-1"]


async def test_wait_returns_the_report(wire: Wire) -> None:
    """`await wait() -> Report` drains to the end; a failed task raises nothing."""
    async with wire.server() as server:
        task = server.add_task("Running 5s, Finished failed 'Disk full'").task_id
        async with door(server, **wire.options()) as em:
            report = await em.watch(task).wait()
            assert isinstance(report, Report)
            assert report.failed == (task,)


async def test_one_reader_at_a_time(wire: Wire) -> None:
    """A second reader at the same time is an error in plain words."""
    async with wire.server() as server:
        task = server.add_task("Running 5s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(task)
            await anext(watch)
            async with anyio.create_task_group() as group:
                group.start_soon(watch.wait)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(RuntimeError, match="one reader at a time"):
                    await anext(watch)
            assert watch.report.succeeded == (task,)


async def test_cancelled_reader_takes_no_event_with_it() -> None:
    """A reader that is cancelled while it waits loses nothing; the watch lives on."""
    async with SimulatedServer() as server:
        task = server.add_task("Running 5s, Finished ok").task_id
        async with door(server) as em:
            watch = em.watch(task)
            await anext(watch)
            with anyio.move_on_after(1) as scope:
                await anext(watch)
            assert scope.cancelled_caught
            reader = asyncio.ensure_future(watch.wait())
            await anyio.wait_all_tasks_blocked()
            watch._subscription.on_observation(
                Observation(
                    task_id=task,
                    task=None,
                    state=TaskState.LOST,
                    is_final=True,
                    observed_at=datetime.now(UTC),
                    not_before=None,
                    generation=1,
                )
            )
            # In the very round in which it is woken.
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            assert (await anext(watch)).is_final


async def test_forgotten_watch_stops_quietly(wire: Wire) -> None:
    """A watch that nobody holds any more stops quietly."""
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(task, timeout=1000)
            await anext(watch)
            gone = weakref.ref(watch)
            del watch
            gc.collect()
            assert gone() is None
            await anyio.sleep(5)
            asked = server.requests.total
            await anyio.sleep(100)
            assert em.statistics().watched == 0
            assert server.requests.total == asked


async def test_forgotten_endless_watch_stops_quietly(wire: Wire) -> None:
    """So does one of all tasks."""
    async with wire.server() as server:
        server.add_task("Running")
        async with door(server, **wire.options()) as em:
            watch = em.watch_all()
            await anext(watch)
            del watch
            gc.collect()
            await anyio.sleep(60)
            asked = server.requests.total
            await anyio.sleep(200)
            assert server.requests.total == asked


async def test_reader_that_nobody_holds_is_kept() -> None:
    """A coroutine that waits is not forgotten, although asyncio holds it weakly."""
    async with SimulatedServer() as server:
        task = server.add_task("Running 20s, Finished ok").task_id
        done: list[str] = []
        async with door(server) as em:

            async def read() -> None:
                await em.watch(task).wait()
                done.append("watch")

            async def wait() -> None:
                await em.wait(task)
                done.append("wait")

            weakref.ref(asyncio.ensure_future(read()))
            weakref.ref(asyncio.ensure_future(wait()))
            for _ in range(5):
                await anyio.sleep(1)
                gc.collect()
            await anyio.sleep(60)
        assert sorted(done) == ["wait", "watch"]


async def test_two_watches_cost_one_poll(wire: Wire) -> None:
    """Two watches of one task cost one poll, and tell the same."""
    async with wire.server() as server:
        task = server.add_task("Running 50s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            alone = em.watch(task)
            await alone.wait()
            before = server.requests.total
    async with wire.server() as server:
        task = server.add_task("Running 50s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            several = [em.watch(task) for _ in range(5)]
            for watch in several:
                assert (await anext(watch)).state is TaskState.RUNNING
            for watch in several:
                assert [e.state async for e in watch] == [TaskState.FINISHED]
            assert server.requests.total <= before + 1


async def test_newcomer_is_told_what_is_found(wire: Wire) -> None:
    """A second watch of a task that does not change is told of it all the same."""
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        async with door(server, **wire.options()) as em:
            first = em.watch(task)
            await anext(first)
            await anyio.sleep(20)
            event = await anext(em.watch(task))
            assert (event.state, event.sequence) == (TaskState.RUNNING, 1)


async def test_context_manager_closes(wire: Wire) -> None:
    """As a context manager it stops watching at the end; the task goes on."""
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        async with door(server, **wire.options()) as em:
            async with em.watch(task) as watch:
                await anext(watch)
            assert em.statistics().watched == 0
            await watch.aclose()
            with pytest.raises(ClosedError, match="it was closed"):
                await anext(watch)
            with pytest.raises(ClosedError, match="it was closed"):
                watch.add("task-2")
            assert watch.report.unfinished == (task,)
        deleted = targets(server, "DELETE")
        assert [path.partition("/")[0] for path in deleted] == ["logonSessions"]


async def test_repr_is_one_line_of_live_counts(wire: Wire) -> None:
    """`repr`: one line of live counts."""
    async with wire.server() as server:
        ids = [
            server.add_task(script).task_id
            for script in ("Running", "Finished ok", "Finished failed")
        ]
        async with door(server, **wire.options()) as em:
            watch = em.watch([*ids, "task-99"])
            assert repr(watch) == (
                "<Watch of 4 tasks: 4 running, 0 succeeded, 0 failed, 0 lost>"
            )
            await anyio.sleep(10)
            assert repr(watch) == (
                "<Watch of 4 tasks: 1 running, 1 succeeded, 1 failed, 1 lost;"
                " 4 events to read>"
            )
            await watch.aclose()
            assert repr(watch).endswith("4 events to read; closed>")
            assert repr(em.watch("task-1")).startswith("<Watch of 1 task: 1 running")
            assert repr(em.watch_all()).startswith("<Watch of all tasks, 0 so far:")


@pytest.mark.parametrize("is_read", [False, True])
async def test_a_deadline_that_passed_in_idleness_holds_for_what_is_added(
    wire: Wire, *, is_read: bool
) -> None:
    """What is added after the watch's time ran out is out of time at once."""
    async with wire.server() as server:
        one = server.add_task("Finished ok").task_id
        two = server.add_task("Running").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch(one, timeout=30)
            if is_read:
                await watch.wait()
            await anyio.sleep(40)
            watch.add(two)
            with anyio.fail_after(1), pytest.raises(WatchTimeoutError) as caught:
                await watch.wait()
            assert caught.value.report.succeeded == (one,)
            assert caught.value.report.unfinished == (two,)
            assert em.statistics().watched == 0
