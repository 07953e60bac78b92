"""Watches of many managers, read as one."""

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.managers import door
from support.virtual_time import run

import veeam_tasks as vt
from veeam_tasks import MergedWatch, SessionManager, TaskEvent, Watch, merge
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time


@attrs.frozen
class Servers:
    """Some servers, each with a manager logged on to it and tasks that play scripts."""

    servers: list[SimulatedServer]
    managers: list[SessionManager]
    scripts: tuple[list[str], ...]

    def watches(self, timeout: float | None = None) -> list[Watch]:
        """Return a watch of all tasks of each server, by their IDs."""
        return [
            em.watch([f"task-{n + 1}" for n in range(len(scripts))], timeout=timeout)
            for em, scripts in zip(self.managers, self.scripts, strict=True)
        ]


@contextlib.asynccontextmanager
async def running(*scripts: list[str]) -> AsyncIterator[Servers]:
    """Run servers, and log on to each."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(SimulatedServer()) for _ in scripts]
        managers = [await stack.enter_async_context(door(one)) for one in servers]
        # Last, since a logon takes its time.
        for server, some in zip(servers, scripts, strict=True):
            for script in some:
                server.add_task(script)
        yield Servers(servers, managers, scripts)


async def test_each_event_comes_with_its_watch_and_each_once() -> None:
    """The merged events of a watch are those that it would have told by itself."""
    scripts = ["Running 3s, Finished ok", "Running 9s, Finished failed"]
    async with running(scripts, scripts, scripts[:1]) as there:
        watches = there.watches()
        told: dict[Watch, list[tuple[str, str, int]]] = {one: [] for one in watches}
        async with merge(*watches) as merged:
            async for watch, event in merged:
                told[watch].append((event.task_id, event.state.value, event.sequence))
        first = [("task-1", "Running", 1), ("task-1", "Finished", 2)]
        both = [*first, ("task-2", "Running", 1), ("task-2", "Finished", 2)]
        assert [sorted(told[one]) for one in watches] == [
            sorted(both),
            sorted(both),
            sorted(first),
        ]
        assert [one.manager for one in watches] == there.managers


async def test_each_watch_has_its_turn() -> None:
    """A watch with much to tell does not let one with little wait."""
    many = ["Running"] * 20
    async with running(many, many[:3], many) as there:
        watches = there.watches()
        merged = merge(watches)
        await anyio.sleep(5)
        order = [watches.index((await anext(merged))[0]) for _ in range(43)]
        assert order[:9] == [0, 1, 2] * 3
        assert order[9:] == [0, 2] * 17
        await merged.aclose()


async def test_a_watch_that_is_cut_short_does_not_stop_the_others() -> None:
    """Its error is raised at the end, in a group, with the server that it was of."""
    slow = ["Running 50s, Finished ok"]
    async with running(slow, slow, slow) as there:
        watches = there.watches()
        merged = merge(*watches)
        there.servers[0].change_password("another")
        there.servers[0].expire_logon_sessions()
        await anyio.sleep(5)
        await there.managers[2].aclose()
        finals = [
            watch async for watch, event in _until_raised(merged) if event.is_final
        ]
        assert finals == [watches[1]]
        for _ in range(2):
            with pytest.raises(ExceptionGroup, match="2 of 3 watches were cut") as got:
                await anext(merged)
            kinds = [type(error) for error in got.value.exceptions]
            assert kinds == [vt.LogonError, vt.ClosedError]
            assert [error.__notes__ for error in got.value.exceptions] == [
                [f"of the watch of {em.url}"] for em in there.managers[::2]
            ]
        assert [one.report.unfinished for one in watches] == [
            ("task-1",),
            (),
            ("task-1",),
        ]


async def _until_raised(merged: MergedWatch):  # type: ignore[no-untyped-def] # noqa: ANN202 - a helper
    with contextlib.suppress(ExceptionGroup):
        async for pair in merged:
            yield pair


async def test_owed_events_of_a_watch_that_was_cut_short_come_first() -> None:
    """What it had to tell is told before its end counts."""
    async with running(["Running"], ["Running 3s, Finished ok"]) as there:
        watches = there.watches(timeout=5)
        merged = merge(*watches)
        await anyio.sleep(10)
        told = [
            (watches.index(watch), event.state.value)
            async for watch, event in _until_raised(merged)
        ]
        assert told == [(0, "Running"), (1, "Finished")]
        with pytest.raises(ExceptionGroup) as got:
            await merged.wait()
        (error,) = got.value.exceptions
        assert isinstance(error, vt.WatchTimeoutError)
        assert error.report.unfinished == ("task-1",)


async def test_a_dead_server_stops_nobody() -> None:
    """While one server is away, the events of the other come as ever."""
    async with running(
        ["Running 60s, Finished ok"], ["Running 30s, Finished ok"]
    ) as there:
        merged = merge(there.watches())
        for _ in range(2):
            await anext(merged)
        await there.servers[0].pause()
        watch, event = await anext(merged)
        assert (watch.manager, event.is_final) == (there.managers[1], True)
        await there.servers[0].resume()
        watch, event = await anext(merged)
        assert (watch.manager, event.is_final) == (there.managers[0], True)


async def test_what_is_not_read_takes_one_place_a_task() -> None:
    """However much has changed meanwhile, a task has one event to read, the latest."""
    changes = ", ".join(f"Word{n} 3s" for n in range(20)) + ", Finished ok"
    async with running([changes] * 2, [changes]) as there:
        merged = merge(there.watches())
        await anyio.sleep(100)
        assert repr(merged).endswith("; 3 events to read>")
        pairs = [pair async for pair in merged]
        assert [(event.sequence, event.is_final) for _, event in pairs] == [
            (1, True)
        ] * 3


async def test_break_cancel_and_resume_lose_no_event() -> None:
    """A reader that is cancelled or leaves takes nothing with it."""
    scripts = ["Running 2s, OperationFinished 2s, Finished ok"] * 3
    async with running(scripts, scripts) as there:
        watches = there.watches()
        merged = merge(watches)
        told: Counter[tuple[int, str]] = Counter()
        for _ in range(200):
            with anyio.move_on_after(0.07):
                async for watch, event in merged:
                    told[watches.index(watch), event.task_id] += 1
                    assert told[watches.index(watch), event.task_id] == event.sequence
                    break
        assert set(told.values()) == {3}
        assert len(told) == 6
        with pytest.raises(StopAsyncIteration):
            await anext(merged)


async def test_async_with_closes_the_watches() -> None:
    """At its end nothing is watched any more, and each has its `ClosedError`."""
    async with running(["Running"], ["Running"]) as there:
        async with merge(there.watches()) as merged:
            await anext(merged)
        for watch in merged.watches:
            await _drained(watch)
        with pytest.raises(ExceptionGroup, match="2 of 2") as got:
            await anext(merged)
        assert {type(error) for error in got.value.exceptions} == {vt.ClosedError}
        assert [em.statistics().watched for em in there.managers] == [0, 0]


async def _drained(watch: Watch) -> None:
    with pytest.raises(vt.ClosedError):
        await watch.wait()


async def test_closing_wakes_the_reader() -> None:
    """A reader that waits is told when the last of the watches is closed."""
    async with running(["Running"], ["Running"]) as there:
        merged = merge(there.watches())
        reader = asyncio.create_task(merged.wait())
        await anyio.sleep(5)
        await merged.watches[0].aclose()
        await anyio.wait_all_tasks_blocked()
        assert not reader.done()
        await merged.aclose()
        with pytest.raises(ExceptionGroup):
            await reader


async def test_all_tasks_of_a_server_can_be_one_of_them() -> None:
    """A watch of all tasks goes on while others end, and ends at its timeout."""
    async with running(["Running 3s, Finished ok"], []) as there:
        endless = there.managers[1].watch_all(timeout=100)
        merged = merge(there.managers[0].watch("task-1"), endless)
        assert [(await anext(merged))[1].sequence for _ in range(2)] == [1, 2]
        there.servers[1].add_task("Running 5s, Finished ok")
        assert [(await anext(merged))[0] for _ in range(2)] == [endless, endless]
        reports = await merged.wait()
        assert [report.succeeded for report in reports] == [("task-1",), ("task-1",)]


async def test_what_is_added_to_an_ended_watch_is_told() -> None:
    """Iteration goes on after an `add` to one of them, whether it had ended or not."""
    async with running(["Finished ok"] * 3, ["Finished ok"]) as there:
        first, second = there.managers[0].watch("task-1"), there.watches()[1]
        merged = merge(first, second)
        await merged.wait()
        first.add("task-2")
        watch, event = await anext(merged)
        assert (watch, event.task_id) == (first, "task-2")
        with pytest.raises(StopAsyncIteration):
            await anext(merged)


async def test_nothing_to_read_ends_at_once() -> None:
    """No watches, and empty ones, have nothing to tell."""
    async with running([]) as there:
        for merged in (merge(), merge([]), merge(there.managers[0].watch())):
            assert [pair async for pair in merged] == []


async def test_one_reader_at_a_time() -> None:
    """A second one of the merge, or of one of its watches, is an error in words."""
    async with running(["Running"], ["Running"]) as there:
        watches = there.watches()
        merged = merge(watches)
        for _ in range(2):
            await anext(merged)
        reader = asyncio.create_task(anext(merged))  # type: ignore[arg-type] # a coroutine
        await anyio.wait_all_tasks_blocked()
        for second in (merged, watches[0], watches[1]):
            with pytest.raises(RuntimeError, match="one reader at a time"):
                await anext(second)  # type: ignore[arg-type] # of two kinds
        with pytest.raises(RuntimeError, match="one reader at a time"):
            merge(watches[1])
        reader.cancel()
        await asyncio.wait([reader])
        single = asyncio.create_task(anext(watches[1]))  # type: ignore[arg-type] # a coroutine
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="one reader at a time"):
            await anext(merged)
        single.cancel()
        await asyncio.wait([single])


async def test_a_watch_may_be_read_by_itself_in_between() -> None:
    """Whoever reads next gets what comes next, and none is told twice."""
    scripts = ["Running 2s, OperationFinished 2s, Finished ok"] * 4
    async with running(scripts, scripts) as there:
        watches = there.watches()
        merged, other = merge(watches), merge(watches)
        told: Counter[str] = Counter()
        await anyio.sleep(10)
        for number in range(8):
            event: TaskEvent
            if number in {0, 3}:
                event = await anext(watches[0])
            else:
                _, event = await anext(merged if number % 2 else other)
            told[event.task_id] += 1
        assert told == {f"task-{n}": 2 for n in range(1, 5)}
        for one in (merged, other, *watches):
            with pytest.raises(StopAsyncIteration):
                await anext(one)  # type: ignore[arg-type] # of two kinds


async def test_doubles_collapse_and_what_is_no_watch_is_refused() -> None:
    """A watch given twice is one; anything but watches is a TypeError."""
    async with running(["Running"]) as there:
        (watch,) = there.watches()
        assert merge(watch, watch).watches == (watch,)
        for wrong in (None, 3, "task-1", [watch, "task-1"], merge(watch)):
            with pytest.raises(TypeError, match=r"merge\(\) takes watches, not"):
                merge(wrong)  # type: ignore[arg-type] # that is the point


async def test_it_belongs_to_the_loop_of_its_watches() -> None:
    """From another loop it cannot be made, and not be read."""
    async with running(["Running"]) as there:
        watches = there.watches()
        merged = merge(watches)

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="belongs to the event loop"):
                await anext(merged)
            with pytest.raises(RuntimeError, match="belongs to the event loop"):
                merge(watches)

        await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        with pytest.raises(RuntimeError, match="no"):
            await asyncio.to_thread(merge, watches)


async def test_its_repr_counts_what_there_is() -> None:
    """One line tells how many watches and tasks there are, and how they stand."""
    scripts = ["Running 3s, Finished ok", "Finished failed", "Running"]
    async with running(scripts, scripts, scripts[:1]) as there:
        watches = there.watches()
        merged = merge(*watches)
        assert repr(merged) == (
            "<MergedWatch of 3 watches: 7 tasks: 7 running, 0 succeeded, 0 failed,"
            " 0 lost>"
        )
        await anyio.sleep(10)
        await watches[1].aclose()
        for _ in range(5):
            await anext(merged)
        assert repr(merged) == (
            "<MergedWatch of 3 watches, 2 ended, 1 cut short (closed): 7 tasks:"
            " 2 running, 3 succeeded, 2 failed, 0 lost; 2 events to read>"
        )


async def test_a_merge_that_nobody_holds_stops_quietly() -> None:
    """Its watches go with it, at once, and nothing is polled any more."""
    gc.disable()
    try:
        async with running(["Running"], ["Running"]) as there:
            merged = merge(there.watches())
            await anext(merged)
            gone = [weakref.ref(watch) for watch in merged.watches]
            del merged
            assert [ref() for ref in gone] == [None, None]
            await anyio.sleep(100)
            assert [em.statistics().watched for em in there.managers] == [0, 0]
    finally:
        gc.enable()


async def test_a_reader_that_nobody_holds_goes_on() -> None:
    """The garbage collector does not end a coroutine that waits for a merge."""
    async with running(["Running 50s, Finished ok"], ["Finished ok"]) as there:
        ended = anyio.Event()

        async def read() -> None:
            async for _ in merge(there.watches()):
                gc.collect()
            ended.set()

        holder = {asyncio.create_task(read())}
        await anyio.sleep(3)
        holder.clear()
        gc.collect()
        with anyio.fail_after(100):
            await ended.wait()


@st.composite
def scripts_of_servers(draw: st.DrawFn) -> list[list[str]]:
    """Return scripts of tasks for one to four servers."""
    states = st.sampled_from(["Running", "OperationFinished", "Other"])
    steps = st.builds("{} {}s".format, states, st.integers(1, 9))
    end = st.sampled_from(["Finished ok", "Finished failed", "gone"])
    script = st.builds(
        lambda some, last: ", ".join([*some, last]), st.lists(steps, max_size=4), end
    )
    return draw(st.lists(st.lists(script, max_size=4), min_size=1, max_size=4))


@pytest.mark.virtual_time(loop=None)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(scripts=scripts_of_servers(), data=st.data())
def test_whatever_is_done_each_task_is_told_to_its_end(
    scripts: list[list[str]], data: st.DataObject
) -> None:
    """With breaks, cancellations, other readers: in order, once, one final event."""

    async def play() -> None:
        async with running(*scripts) as there:
            watches = there.watches()
            last: dict[tuple[int, str], TaskEvent] = {}
            merged = merge(watches)
            for _ in range(data.draw(st.integers(0, 6))):
                match data.draw(st.sampled_from(["rest", "cancel", "anew"])):
                    case "rest":
                        await anyio.sleep(data.draw(st.integers(0, 6)))
                    case "cancel":
                        with anyio.move_on_after(data.draw(st.floats(0, 3))):
                            async for watch, event in merged:
                                note(last, watches.index(watch), event)
                    case _:
                        merged = merge(watches)
            async for watch, event in merged:
                note(last, watches.index(watch), event)
            expected = {
                (at, f"task-{n + 1}")
                for at, tasks in enumerate(scripts)
                for n in range(len(tasks))
            }
            assert set(last) == expected
            assert all(event.is_final for event in last.values())

    run(play)


def note(last: dict[tuple[int, str], TaskEvent], number: int, event: TaskEvent) -> None:
    """Check an event against the one before of its task."""
    before = last.get((number, event.task_id))
    assert before is None or not before.is_final
    assert event.sequence == (1 if before is None else before.sequence + 1)
    assert event.previous == (None if before is None else before.state)
    last[number, event.task_id] = event
