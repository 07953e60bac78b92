"""Whatever member of a checkpoint is changed: it is resumed, or refused in words."""

import copy
import json
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.managers import STEADY, door
from support.virtual_time import run

import veeam_tasks as vt
from veeam_tasks import Watch
from veeam_tasks.simulator import SimulatedServer

Checkpoint = dict[str, Any]
Place = tuple[str | int, ...]


def saved(watch: Watch) -> Checkpoint:
    """Return a checkpoint as it comes back from a file."""
    value: Checkpoint = json.loads(json.dumps(watch.checkpoint(), allow_nan=False))
    return value


async def _play(samples: list[Checkpoint], links: Literal["never", "always"]) -> None:
    async with SimulatedServer(
        session_delay=3, failure_messages=True, job_links=links
    ) as server:
        jobs = [
            server.add_job(f"job {number}", session=script)
            for number, script in enumerate(
                ("Working 9s, Stopped failed", "Working 5s, Stopped warning")
            )
        ]
        async with door(server, pace=STEADY) as em:
            tasks = [
                await em.submit(f"{job.path}?action=start", follow=True) for job in jobs
            ]
            server.add_task("Running 4s, Finished failed 'no disk'")
            server.add_task("Running 2s, gone")
            watch = em.watch(*tasks, "task-3", "task-4", "task-99", follow=True)
            samples.append(saved(watch))
            samples += [saved(watch) async for _ in watch]
            everything = em.watch_all()
            everything.discard("task-1")
            for _ in range(2):
                await anext(everything)
            unread = em.watch(*tasks, follow=True)
            await anext(unread)
            await anyio.sleep(60)
            samples += [saved(everything), saved(unread)]


@cache
def samples() -> tuple[Checkpoint, ...]:
    """Return checkpoints that have every member that there is."""
    found: list[Checkpoint] = []
    run(lambda: _play(found, "never"))
    run(lambda: _play(found, "always"))
    return tuple(found)


def places(value: Any, before: Place = ()) -> Iterator[Place]:
    """Yield where something stands in a value, itself excluded."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield (*before, key)
        yield from places(inner, (*before, key))


STRANGE = st.sampled_from(
    (
        *(None, True, False, 0, 1, -1, 0.5, 1e300, -1e18, 10**30, float("nan")),
        *("", "x", "task-1", "\x00\x1b[31m", "Finished", "Stopped", "session", "1"),
        *("../../x", "https://x/api/tasks/task-1", "jobs/1?action=start"),
        *([], {}, [None], ["task-1"], [{}], {"id": "task-1"}, {"at": 1}, {"path": ""}),
        *(-62_135_596_800, 253_402_300_799, 253_402_300_800),
    )
)


@st.composite
def changed(draw: st.DrawFn) -> Checkpoint:
    """Return a checkpoint with some of its members changed, taken out, or doubled."""
    whole = copy.deepcopy(draw(st.sampled_from(samples())))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(places(whole)) or [("tasks",)]))
        inner: Any = whole
        for key in place[:-1]:
            inner = inner[key]
        what = draw(st.sampled_from(("replace", "replace", "remove", "twice")))
        if what == "remove":
            del inner[place[-1]]
        elif what == "twice" and isinstance(inner, list):
            inner.append(copy.deepcopy(inner[place[-1]]))
        else:
            inner[place[-1]] = copy.deepcopy(draw(STRANGE))
    return whole


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.found.append(self.format(record))


async def _resume(state: Checkpoint) -> None:
    async with SimulatedServer() as server, door(server, pace=STEADY) as em:
        server.add_task("Running 2s, Finished ok")
        # The URL is one more member that may be changed.
        is_ours = state.get("url") in [one["url"] for one in samples()]
        given_ = {**state, "url": em.url} if is_ours else state
        before = server.requests.total
        watch, refusal = None, ""
        try:
            watch = em.resume(given_, timeout=30)
        except vt.ArgumentError as error:
            refusal = str(error)
        if watch is None:
            assert refusal.startswith("the checkpoint is ")
            assert refusal.isprintable()
            assert server.requests.total == before
            return
        repr(watch)
        try:
            async for event in watch:
                assert repr(event) + str(event.error)
                json.dumps(watch.checkpoint())
        except vt.VeeamTasksError:
            repr(watch.report)
        again = em.resume(saved(watch))
        assert again.report.succeeded == watch.report.succeeded
        assert again.report.failed == watch.report.failed


@pytest.mark.virtual_time(debug=False)
def test_there_are_samples_of_every_member() -> None:
    """Else the next test would leave some unchanged."""
    keys = {str(place[-1]) for one in samples() for place in places(one)}
    wanted = "start run session failures owed next discarded lost related seen past"
    assert set(wanted.split()) <= keys | {"past"}


@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
@given(state=changed())
def test_a_changed_one_is_resumed_or_refused_in_clear_words(state: Checkpoint) -> None:
    """Nothing else is raised, at once or later, and no poller stops by it."""
    errors = Errors()
    logging.getLogger("veeam_tasks").addHandler(errors)
    try:
        run(lambda: _resume(state))
    finally:
        logging.getLogger("veeam_tasks").removeHandler(errors)
    assert errors.found == []
