"""Three ways to use it: awaited, as a bulk watcher, and line by line.

The third over a terminal is in test_repl, sharing a logon session in test_api_connect.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import pytest
from support.managers import Wire, door

from veeam_tasks import (
    Task,
    TaskEvent,
    TaskFailedError,
    TaskLostError,
    TaskNotFoundError,
    TaskState,
    WatchTimeoutError,
)

pytestmark = pytest.mark.virtual_time

T = TypeVar("T")
ACTION = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"


async def test_awaited(wire: Wire) -> None:
    """1. awaited: `submit`, then `wait` gives the Task or raises what became of it."""
    server = wire.server(job_links="always")
    async with server, door(server, **wire.options()) as em:
        started = await em.submit(ACTION)
        task = await em.wait(started, timeout=60)
        assert isinstance(task, Task)
        assert (task.operation, task.state) == ("StartJob", TaskState.FINISHED)
        assert task.succeeded
        (link,) = task.related
        assert link.name
        for script, error in (
            ("Running 5s, Finished failed 'No'", TaskFailedError),
            ("Running 5s, gone", TaskLostError),
            ("Running", WatchTimeoutError),
        ):
            server.set_script(script)
            started = await em.submit(ACTION)
            with pytest.raises(error):
                await em.wait(started, timeout=60)


async def test_bulk(wire: Wire) -> None:
    """2. a bulk watcher over many task IDs; the first event is what was found."""
    told: dict[str, list[str]] = {}
    async with wire.server() as server, door(server, **wire.options()) as em:
        server.set_script("Running 20s, Finished ok")
        started = [await em.submit(ACTION) for _ in range(3)]
        started += [await em.fetch(server.add_task("Finished failed 'No'").task_id)]
        async with em.watch(started) as watch:
            async for event in watch:
                assert isinstance(event, TaskEvent)
                line = f"{event.previous} -> {event.state}"
                told.setdefault(event.task_id, []).append(line)
        report = watch.report
    ids = [task.task_id for task in started]
    for task_id in ids[:3]:
        assert told.pop(task_id) == ["None -> Running", "Running -> Finished"]
    assert told == {ids[3]: ["None -> Finished"]}
    assert report.succeeded == tuple(ids[:3])
    assert report.failed == (ids[3],)


async def awaiting(line: Coroutine[object, object, T]) -> T:
    """Run a line with `await`, as `python -m asyncio` does: in a task of its own."""
    return await asyncio.create_task(line)


async def plainly(line: Callable[[], T]) -> T:
    """Run a line without `await`, as it does: in the loop, but in no task."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run() -> None:
        assert asyncio.current_task() is None
        try:
            done.set_result(line())
        except Exception as error:  # noqa: BLE001 - for whoever typed the line
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(run)
    return await done


async def test_line_by_line(wire: Wire) -> None:
    """3. driven by lines, each in an asyncio task of its own or in none."""
    async with wire.server() as server:
        one = server.add_task("Running 10s, Finished ok").task_id
        two = server.add_task("Running 20s, Finished ok").task_id

        async def leave_by_break() -> str:
            told = ""
            async for event in w:
                told = event.task_id
                break
            return told

        async def to_the_end() -> list[TaskEvent]:
            return [event async for event in w]

        assert "await it" in await plainly(lambda: repr(door(server, **wire.options())))
        em = await awaiting(door(server, **wire.options()).__aenter__())
        w = await plainly(lambda: em.watch(one, two))
        shown = await plainly(lambda: repr(w))
        assert shown == "<Watch of 2 tasks: 2 running, 0 succeeded, 0 failed, 0 lost>"
        first = await awaiting(w.__anext__())
        second = await awaiting(leave_by_break())
        assert {first.task_id, second} == {one, two}
        await plainly(lambda: w.discard(two))
        await plainly(lambda: w.add(two))
        rest = await awaiting(to_the_end())
        assert [(event.task_id, event.state) for event in rest] == [
            (two, TaskState.RUNNING),
            (one, TaskState.FINISHED),
            (two, TaskState.FINISHED),
        ]
        assert (await plainly(lambda: w.report)).succeeded == (one, two)
        assert (await awaiting(em.wait(two))).succeeded
        await awaiting(em.aclose())
        assert "not open" in await plainly(lambda: repr(em))
        assert server.logon_sessions == []


async def test_another_logon_session_does_not_know_it(wire: Wire) -> None:
    """A task belongs to the logon session that started it; the error says exactly this.

    It does when a fresh logon knows none of the IDs that it is asked for.
    """
    said = "A task belongs to the logon session that started it"
    async with (
        wire.server() as server,
        door(server, **wire.options()) as em,
        door(server, **wire.options()) as other,
    ):
        task = (await em.submit(ACTION)).task_id
        with pytest.raises(TaskNotFoundError, match=said):
            await other.fetch(task)
        with pytest.raises(TaskLostError, match=said) as lost:
            await other.wait(task)
        assert str(lost.value).count("the logon session that started it") == 1
        (event,) = [event async for event in other.watch(task)]
        assert said in str(event.error)
        for way in ("em.token", "aclose(log_out=False)", "adopt()"):
            assert way in str(event.error)
        # One that knows some of them is told of the rest as it is.
        assert (await em.fetch(task)).task_id == task
        with pytest.raises(TaskNotFoundError) as caught:
            await em.fetch("task-99")
        assert said not in str(caught.value)


async def test_the_host_of_the_url_is_asked_and_no_other(wire: Wire) -> None:
    """The server's own idea of its URL, in links and Hrefs, is never followed."""
    server = wire.server(link_base="https://em01.corp:9398")
    async with server, door(server, **wire.options()) as em:
        started = await em.submit(ACTION)
        assert started.href is not None
        assert started.href.startswith("https://em01.corp:9398/")
        assert (await em.wait(started.href)).succeeded
