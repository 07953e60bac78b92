"""A task of another server is never taken for one of ours; one of ours always is."""

import copy
import json
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from support.managers import Wire, door, settings_for, targets

import veeam_tasks as vt
from veeam_tasks import SessionManager, Task, TaskLostError, adopt
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

NAMED = {"link_base": "https://em01.corp:9398"}
JOB = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac"
OTHER = "https://em02.corp:9398/api/tasks/task-1"


async def watched(em: SessionManager, task: str | Task) -> None:
    """Watch a task to its end."""
    async with em.watch(task) as watch:
        await watch.wait()


async def added(em: SessionManager, task: str | Task) -> None:
    """Add a task to a watch, and watch it to its end."""
    async with em.watch() as watch:
        watch.add(task)
        await watch.wait()


async def discarded(em: SessionManager, task: str | Task) -> None:
    """Take a task out of a watch of the one under its ID."""
    named = task.task_id if isinstance(task, Task) else task
    task_id = named.partition("?")[0].rpartition("/")[2]
    async with em.watch(task_id) as watch:
        watch.discard([task])
        assert not watch.report.outcomes


async def followed(em: SessionManager, task: str | Task) -> None:
    """Follow a task to its end."""
    await em.follow(task, timeout=600, find_timeout=1)


Call = Callable[[SessionManager, Any], Awaitable[object]]
CALLS: dict[str, Call] = {
    "fetch": lambda em, task: em.fetch(task),
    "wait": lambda em, task: em.wait(task),
    "watch": watched,
    "add": added,
    "discard": discarded,
    "follow": followed,
    "delete": lambda em, task: em.delete(task),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@asynccontextmanager
async def two(
    wire: Wire, **settings: object
) -> AsyncIterator[tuple[SessionManager, SimulatedServer, SessionManager]]:
    """Give a manager, and another server with its manager; each has a task-1."""
    async with (
        wire.server(**NAMED) as server,
        door(server, **wire.options()) as em,
        wire.server(**settings) as other,
        door(other, **wire.options()) as their,
    ):
        server.add_task("Finished ok", operation="StopJob")
        other.add_task("Finished ok", operation="StopJob")
        yield em, other, their


@calls
async def test_a_task_that_another_manager_gave_is_refused(
    wire: Wire, call: Call
) -> None:
    """Nothing is asked, even if both servers call themselves the same."""
    async with two(wire, **NAMED) as (em, other, their):
        task = await em.fetch("task-1")
        requests = their.statistics().requests
        with pytest.raises(vt.ArgumentError) as caught:
            await call(their, task)
        assert (caught.value.parameter, em.url in str(caught.value)) == ("task", True)
        assert f"this manager is of {their.url}" in str(caught.value)
        assert "if the one here is meant, pass 'task-1' alone" in str(caught.value)
        asked = their.statistics().requests
        # What was watched before is asked for.
        assert asked == requests or call is discarded
        assert targets(other, "DELETE") == []
        await call(em, task)
        await call(their, "task-1")


@calls
async def test_an_href_of_another_server_is_refused(wire: Wire, call: Call) -> None:
    """It names neither the URL nor how the server has called itself."""
    async with two(wire) as (em, other, their):
        for elsewhere in (OTHER, f"{em.url}tasks/task-1"):
            requests = their.statistics().requests
            with pytest.raises(vt.ArgumentError) as caught:
                await call(their, elsewhere)
            assert elsewhere in str(caught.value)
            assert their.statistics().requests == requests or call is discarded
        assert targets(other, "DELETE") == []
        await call(their, f"{their.url}tasks/task-1")


@calls
async def test_ours_is_taken_however_the_server_calls_itself(
    wire: Wire, call: Call
) -> None:
    """As it does so itself, by the URL, by a path, with and without its port."""
    async with wire.server(**NAMED) as server, door(server, **wire.options()) as em:
        for number, name in enumerate(
            (
                "https://em01.corp:9398/api/tasks/{}",
                "http://em01.corp:9399/api/tasks/{}?format=Entity",
                "https://EM01.corp/api/tasks/{}",
                "https://em01.corp./api/tasks/{}",
                em.url + "tasks/{}",
                "/api/tasks/{}",
                "tasks/{}",
            ),
            start=1,
        ):
            server.add_task("Finished ok", operation="StopJob")
            task_id = f"task-{number}"
            await call(em, name.format(task_id))


@calls
async def test_ours_is_taken_after_a_pickle_a_copy_and_a_renewal(
    wire: Wire, call: Call
) -> None:
    """The rules of a renewal say what has become of it: it is asked for."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        server.add_task("Finished ok", operation="StopJob")
        task = await em.fetch("task-1")
        for same in (
            pickle.loads(pickle.dumps(task)),
            copy.copy(task),
            copy.deepcopy(task),
            attrs.evolve(task, operation="Other"),
        ):
            if call is not CALLS["delete"]:
                await call(em, same)
        server.expire_logon_sessions(keep_tasks=True)
        await em.fetch_all()
        assert em.statistics().renewals == 1
        await call(em, task)


async def test_a_task_of_a_shared_logon_session_is_taken_by_any_url(
    wire: Wire,
) -> None:
    """One server may be reached by several URLs, as directly and through a proxy."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        server.add_task("Running 2s, Finished ok", operation="StopJob")
        task = await em.fetch("task-1")
        assert em.token is not None
        url = em.url.replace("127.0.0.1", "localhost")
        assert url != em.url
        options = settings_for(server, wire.options())
        async with adopt(url, em.token, **options) as other:
            assert (await other.wait(task)).succeeded
            assert (await other.wait(em.url + "tasks/task-1")).succeeded
            theirs = await other.fetch("task-1")
        assert (await em.wait(theirs)).succeeded


async def test_a_new_process_asks_for_a_task_of_an_older_logon_session(
    wire: Wire,
) -> None:
    """Of the same URL it is not refused: the error says what an ID is worth."""
    async with wire.server() as server:
        async with door(server, **wire.options()) as em:
            task = await em.submit(f"{JOB}?action=start")
        async with door(server, **wire.options()) as em:
            with pytest.raises(TaskLostError) as caught:
                await em.wait(pickle.loads(pickle.dumps(task)))
            assert "belongs to the logon session that started it" in str(caught.value)


@calls
async def test_an_adopted_logon_session_tells_by_its_first_reply(
    wire: Wire, call: Call
) -> None:
    """Nobody has said how the server calls itself: then what is found decides."""
    async with wire.server(**NAMED) as server, door(server, **wire.options()) as em:
        server.add_task("Running 2s, Finished ok", operation="StopJob")
        server.add_task("Running 2s, Finished ok", operation="StopJob")
        assert em.token is not None
        options = settings_for(server, wire.options())
        async with adopt(em.url, em.token, **options) as other:
            await call(other, "https://em01.corp:9398/api/tasks/task-2")
        async with adopt(em.url, em.token, **options) as other:
            if call is watched or call is added:
                watch = other.watch(OTHER)
                (event,) = [event async for event in watch]
                assert event.state is vt.TaskState.LOST
                assert "it calls itself em01.corp" in str(event.error)
                return
            if call is discarded:
                await call(other, OTHER)
                return
            with pytest.raises((vt.ArgumentError, TaskLostError)) as caught:
                await call(other, OTHER)
            assert "it calls itself em01.corp" in str(caught.value)
        assert "tasks/task-1" not in targets(server, "DELETE")


async def test_an_id_that_is_named_both_ways_is_taken() -> None:
    """A doubtful Href does not take the task from whoever names it by its ID."""
    async with SimulatedServer(**NAMED) as server, door(server) as em:  # type: ignore[arg-type]
        server.add_task("Running 2s, Finished ok", operation="StopJob")
        assert em.token is not None
        async with adopt(em.url, em.token, **settings_for(server, {})) as other:
            report = await other.watch(OTHER, "task-1").wait()
            assert report.succeeded == ("task-1",)


async def test_an_event_of_one_manager_is_not_taken_by_the_other(wire: Wire) -> None:
    """Of several servers read together each task belongs to its own manager."""
    async with two(wire) as (em, _, their):
        managers = {em: their, their: em}
        async with vt.merge(em.watch("task-1"), their.watch("task-1")) as merged:
            async for watch, event in merged:
                assert event.task is not None
                assert (await watch.manager.wait(event.task)).succeeded
                with pytest.raises(vt.ArgumentError):
                    await managers[watch.manager].wait(event.task)
        run = (await em.submit(f"{JOB}?action=stop"),)
        with pytest.raises(vt.ArgumentError):
            their.watch(run)


async def test_whom_it_was_given_is_no_part_of_a_task(wire: Wire) -> None:
    """Two tasks with the same fields are equal; nothing of it is shown or written."""
    async with two(wire) as (em, _, _their):
        (task,) = await em.fetch_all()
    plain = Task(**{one.name: getattr(task, one.name) for one in attrs.fields(Task)})
    assert (task == plain, hash(task) == hash(plain)) == (True, True)
    assert repr(task) == repr(plain)
    assert json.dumps(attrs.asdict(task)) == json.dumps(attrs.asdict(plain))
    assert "origin" not in json.dumps(attrs.asdict(task))
    again = pickle.loads(pickle.dumps(plain))
    assert (again == plain, repr(again)) == (True, repr(plain))
