"""What a watch delivers: in order, never the same twice, one final event, last."""

import gc
from datetime import UTC, timedelta
from typing import Literal

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import virtual_time
from support.managers import Wire, door

from veeam_tasks import Task, TaskEvent, TaskState, WatchTimeoutError
from veeam_tasks._engine.decisions import on_task
from veeam_tasks._engine.records import PollTimes, TaskRecord
from veeam_tasks._pace import Pace

WORDS = ("Running", "OperationFinished", "Queued", "Paused")
ENDS = ("Finished ok", "Finished failed 'No'", "Finished unsettled", "gone", None)


@attrs.frozen
class Played:
    """One script: states with their seconds, and how it ends, if it does."""

    steps: tuple[tuple[str, int], ...]
    end: str | None

    @property
    def text(self) -> str:
        """The script for the simulator."""
        parts = [f"{word} {seconds}s" for word, seconds in self.steps]
        return ", ".join([*parts, self.end or "Stuck"])

    @property
    def words(self) -> list[str]:
        """The states that it goes through."""
        end = {"gone": "Lost", None: "Stuck"}.get(self.end, "Finished")
        return [*(word for word, _ in self.steps), end]


played = st.builds(
    Played,
    st.lists(
        st.tuples(st.sampled_from(WORDS), st.integers(min_value=1, max_value=12)),
        max_size=6,
    ).map(tuple),
    st.sampled_from(ENDS),
)


def word_of(event: TaskEvent) -> str:
    """Return what the server said, or Lost."""
    if event.state is TaskState.LOST:
        return "Lost"
    assert event.task is not None
    return event.task.raw_state


def check(told: list[TaskEvent], script: Played) -> None:
    """Hold the delivery contract for the events of one task."""
    before: TaskEvent | None = None
    for number, event in enumerate(told, 1):
        assert event.sequence == number
        assert event.observed_at.tzinfo is UTC
        if before is None:
            assert event.previous is None
            assert event.not_before is None
        else:
            assert event.previous is before.state
            assert word_of(event) != word_of(before)
            if event.not_before is not None:
                assert event.not_before <= event.observed_at
        before = event
    assert [event.is_final for event in told[:-1]] == [False] * (len(told) - 1)
    assert bool(told and told[-1].is_final) is (script.end is not None)
    words = iter(script.words)
    assert all(word_of(event) in words for event in told)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scripts=st.lists(played, min_size=1, max_size=4),
    pauses=st.lists(st.integers(min_value=0, max_value=15), max_size=12),
    first=st.sampled_from([0.3, 1.0, 4.0]),
    coalesce=st.sampled_from(["never", "always", "auto"]),
    accept=st.sampled_from(["xml", "json"]),
)
def test_contract_over_random_scripts_speeds_and_readers(
    scripts: list[Played],
    pauses: list[int],
    first: float,
    coalesce: Literal["never", "always", "auto"],
    accept: Literal["xml", "json"],
) -> None:
    """First the state found; changes in order; one final event, last; never twice."""

    async def work() -> None:
        pace = Pace(first=first, longest=8.0)
        wire = Wire(accept, coalesce=coalesce)
        async with wire.server() as server:
            ids = [server.add_task(script.text).task_id for script in scripts]
            told: dict[str, list[TaskEvent]] = {task_id: [] for task_id in ids}
            async with door(server, **wire.options(pace=pace)) as em:
                watch = em.watch(ids, timeout=400)
                waits = iter(pauses)
                try:
                    async for event in watch:
                        told[event.task_id].append(event)
                        assert len(watch._subscription._owed) <= len(ids)
                        await anyio.sleep(next(waits, 0))
                    is_cut = False
                except WatchTimeoutError:
                    is_cut = True
                report = watch.report
        assert is_cut is any(script.end is None for script in scripts)
        for task_id, script in zip(ids, scripts, strict=True):
            check(told[task_id], script)
            last = told[task_id][-1] if told[task_id] else None
            assert report.outcomes[task_id] is last

    virtual_time.run(work)


def live_events() -> int:
    """Return how many events there are in this process."""
    gc.collect()
    return sum(type(one) is TaskEvent for one in gc.get_objects())


@pytest.mark.virtual_time
async def test_reader_that_never_reads(wire: Wire) -> None:
    """A reader that never reads costs bounded memory and loses no final event."""
    flips = ", ".join(["Running 2s, Queued 2s"] * 20)
    async with wire.server() as server:
        ids = [
            server.add_task(f"{flips}, Finished {end}").task_id
            for end in ("ok", "failed")
        ]
        async with door(server, **wire.options()) as em:
            before = live_events()  # samples of other tests
            watch = em.watch(ids)
            held = []
            for _ in range(4):
                await anyio.sleep(25)
                held.append(live_events() - before)
            assert max(held) <= 2 * len(ids)
            told = [event async for event in watch]
            assert sorted(event.task_id for event in told) == sorted(ids)
            assert all(event.is_final and event.sequence == 1 for event in told)


@pytest.mark.virtual_time
async def test_change_that_returns_is_spared(wire: Wire) -> None:
    """A slow reader may be spared states in between; `previous` stays true."""
    async with wire.server() as server:
        task = server.add_task("Running")
        async with door(server, **wire.options()) as em:
            watch = em.watch(task.task_id)
            first = await anext(watch)
            task.set_state("Queued")
            await anyio.sleep(5)
            task.set_state("Running")
            await anyio.sleep(5)
            task.set_state("Paused")
            await anyio.sleep(5)
            second = await anext(watch)
            assert (first.state, second.state) == ("Running", "Unknown")
            assert second.previous is TaskState.RUNNING
            assert second.task is not None
            assert second.task.raw_state == "Paused"
            assert second.sequence == 2


@pytest.mark.virtual_time
async def test_an_event_that_was_taken_back_is_not_owed(wire: Wire) -> None:
    """A reader who comes after the change has returned waits for the next one."""
    async with wire.server() as server:
        task = server.add_task("Running")
        async with door(server, **wire.options()) as em:
            watch = em.watch(task.task_id)
            await anext(watch)
            task.set_state("Queued")
            await anyio.sleep(5)
            assert "1 event to read" in repr(watch)
            task.set_state("Running")
            await anyio.sleep(5)
            assert "to read" not in repr(watch)
            with anyio.move_on_after(5) as scope:
                await anext(watch)
            assert scope.cancelled_caught
            task.set_state("Paused")
            event = await anext(watch)
            assert event.task is not None
            assert (event.task.raw_state, event.sequence) == ("Paused", 2)


@pytest.mark.virtual_time
async def test_two_unknown_words_are_two_states(wire: Wire) -> None:
    """Two different unknown words are two states; the words stay in `raw_state`."""
    async with wire.server() as server:
        task = server.add_task("Queued 5s, Waiting 5s, Finished ok")
        async with door(server, **wire.options()) as em:
            told = [event async for event in em.watch(task.task_id)]
            assert [event.state for event in told] == ["Unknown", "Unknown", "Finished"]
            words = [event.task.raw_state for event in told if event.task]
            assert words == ["Queued", "Waiting", "Finished"]


@pytest.mark.virtual_time
async def test_change_lies_between_the_two_moments(wire: Wire) -> None:
    """`not_before` is the poll before, so the change lies between the two."""
    async with wire.server() as server:
        task = server.add_task("Running 30s, Finished ok")
        async with door(server, **wire.options()) as em:
            first, last = [event async for event in em.watch(task.task_id)]
            assert first.not_before is None
            assert last.not_before is not None
            span = last.observed_at - last.not_before
            assert timedelta(seconds=0.9) < span < timedelta(seconds=1.2)


def test_not_before_when_the_wall_clock_steps_back() -> None:
    """`not_before` is never later than `observed_at`, whatever the wall clock does."""
    task = Task(
        task_id="task-1",
        state=TaskState.RUNNING,
        raw_state="Running",
        operation="StartJob",
    )
    ended = attrs.evolve(task, state=TaskState.UNKNOWN, raw_state="Queued")
    record = TaskRecord(task_id="task-1", pace=Pace(), first_generation=1)
    wall = 1_700_000_000.0
    first = PollTimes(generation=1, sent=10, sent_wall=wall, now=11, now_wall=wall + 1)
    assert on_task(record, task, first, None).seen is not None
    back = PollTimes(
        generation=1, sent=20, sent_wall=wall - 90, now=21, now_wall=wall - 89
    )
    seen = on_task(record, ended, back, None).seen
    assert seen is not None
    assert seen.not_before is not None
    assert seen.not_before <= seen.observed_at
    assert seen.observed_at.timestamp() - seen.not_before.timestamp() >= 11
