"""Followed runs against a server that behaves at random: the right run, and its end.

The default run plays the same examples each time. ``nox -s fuzz`` sets
VEEAM_TASKS_FUZZ_ROUNDS, and then there are more, and others each time.
"""

import asyncio
import os
import re
from functools import partial
from itertools import count, pairwise
from typing import Literal

import anyio
import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from support import virtual_time
from support.figures import Record
from support.managers import door

from veeam_tasks import Pace, RunStage, SessionManager, TaskEvent, TaskState
from veeam_tasks.simulator import Fault, FaultKind, Job, JobSession, SimulatedServer

IS_LONG = "VEEAM_TASKS_FUZZ_ROUNDS" in os.environ
EXAMPLES = 1000 if IS_LONG else 10
QUICK = Pace(first=0.5, growth=1.5, longest=10)
READS = re.compile(r"/tasks|essions|/query")
STAGES = [RunStage.TASK, RunStage.SEARCHING, RunStage.SESSION]
FIND = 1200.0
HISTORIES: list[int] = []
"""The runs of each history that was played to its end."""
SEEDS = count(1)
"""One a server: the GUID of a job session is else the ID of a logon session before."""

HARMLESS = [
    kind
    for kind in FaultKind
    # With these the server itself says that something is gone, or is not ours to read;
    # or they keep the loop at work for long.
    if kind
    not in {
        *[FaultKind.VANISH, FaultKind.FORBIDDEN, FaultKind.UNAUTHORIZED],
        *[FaultKind.BACKWARDS, FaultKind.DEEP_BODY, FaultKind.WIDE_BODY],
        *[FaultKind.GZIP_BOMB, FaultKind.BROTLI_BOMB, FaultKind.ENTITY_BOMB],
        *[FaultKind.ENDLESS_BODY, FaultKind.SLOW_DRIP, FaultKind.NO_TOKEN],
    }
]
ACTS = ("expire", "restart", "cut", "down", "scheduled", "old one appears", "worker")


@attrs.frozen
class Play:
    """How the server is, and what its jobs play."""

    scripts: list[str]
    links: Literal["documented", "always", "never", "late"]
    delay: int
    skew: int
    history: int
    version: Literal["9.5u4", "12", "13"]
    accept: Literal["xml", "json"]
    coalesce: Literal["never", "always", "auto"]


words = st.sampled_from(["Starting", "Working", "Idle", "Pausing", "Postprocessing"])
steps = st.lists(st.tuples(words, st.integers(1, 60)), max_size=3)
ends = st.sampled_from(["success", "warning", "failed", "none", "unsettled"])


def _script(parts: list[tuple[str, int]], end: str) -> str:
    return ", ".join([*[f"{word} {s}s" for word, s in parts], f"Stopped {end}"])


plays = st.builds(
    Play,
    scripts=st.lists(st.builds(_script, steps, ends), min_size=1, max_size=4),
    links=st.sampled_from(["documented", "always", "never", "late"]),
    delay=st.sampled_from([0, 0, 5, 90, 600]),
    skew=st.sampled_from([0, 0, -100, 100]),
    history=st.integers(0, 12),
    version=st.sampled_from(["9.5u4", "12", "13"]),
    accept=st.sampled_from(["xml", "json"]),
    coalesce=st.sampled_from(["never", "always", "auto"]),
)
faults = st.lists(
    st.tuples(st.sampled_from(HARMLESS), st.floats(0.05, 0.25)), max_size=2
)
acts = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(ACTS)), max_size=5)


async def act(server: SimulatedServer, job: Job, what: str) -> None:
    """Do what the server, or its schedule, may do at any time."""
    match what:
        case "expire":
            server.expire_logon_sessions()
        case "restart":
            server.restart()
        case "cut":
            server.drop_connections()
        case "down":
            await server.pause()
            await anyio.sleep(30)
            await server.resume()
        case "scheduled":
            # After ours has begun, and no sooner in the Enterprise Manager.
            server.add_session(job, "Working 9s, Stopped failed", started=60)
        case "old one appears":
            server.add_session(job, "Stopped failed", started=-900, appears=1)
        case "worker":
            kind = "ImmediateBackupCopyWorker"
            server.add_session(job, "Stopped failed", started=1, job_type=kind)


def check_order(events: list[TaskEvent]) -> None:
    """Hold what is promised of the events of one task."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    stages = [STAGES.index(event.stage) for event in events]
    assert stages == sorted(stages)
    for before, event in pairwise(events):
        assert not before.is_final
        assert event.previous is before.state
        one, two = before.session, event.session
        if one is not None and two is not None and not event.is_final:
            assert (one.raw_state, one.raw_result, one.progress) != (
                *(two.raw_state, two.raw_result),
                two.progress,
            )
    last = events[-1]
    assert last.is_final
    assert last.stage is RunStage.SESSION, last.error
    assert last.state is TaskState.FINISHED


def check_end(event: TaskEvent, session: JobSession, script: str) -> None:
    """Hold that it is the right job session, and its true end."""
    assert event.session is not None
    assert event.session.session_id == session.session_id
    assert event.session.is_ended
    end = script.rpartition(" ")[2]
    wanted = {"success": True, "warning": True, "failed": False}.get(end)
    assert event.succeeded is wanted, (event, end)


async def follow_all(
    server: SimulatedServer, em: SessionManager, jobs: list[Job], pauses: list[int]
) -> dict[str, list[TaskEvent]]:
    """Start each job and read all there is to read, at random speed."""
    tasks = [await em.submit(f"{job.path}?action=start") for job in jobs]
    told: dict[str, list[TaskEvent]] = {task.task_id: [] for task in tasks}
    waits = iter(pauses)
    async with em.watch(tasks, follow=True, find_timeout=FIND, timeout=10**5) as watch:
        async for event in watch:
            told[event.task_id].append(event)
            await anyio.sleep(next(waits, 0))
        assert {one: events[-1] for one, events in told.items()} == dict(
            watch.report.outcomes
        )
    return told


async def history(
    play: Play,
    spoiled: list[tuple[FaultKind, float]],
    doings: list[tuple[int, str]],
    pauses: list[int],
) -> None:
    """Play one history; hold that each start is told of in order, once, truly."""
    async with SimulatedServer(
        seed=next(SEEDS),
        job_links=play.links,
        session_delay=play.delay,
        clock_skew=play.skew,
        version=play.version,
    ) as server:
        before = asyncio.all_tasks()
        jobs = [
            server.add_job(f"Job {n}", session=script, history=play.history)
            for n, script in enumerate(play.scripts)
        ]
        known = {one.session_id for one in server.job_sessions}
        async with door(
            server,
            coalesce=play.coalesce,
            accept=play.accept,
            pace=QUICK,
            request_timeout=5,
        ) as em:
            # One whose token was never accepted is not renewed, by contract.
            await em.fetch_all()
            for seed, (kind, share) in enumerate(spoiled):
                server.faults.add(
                    Fault(kind, method="GET", path=READS, share=share, seed=seed)
                )
            following = asyncio.ensure_future(follow_all(server, em, jobs, pauses))
            await anyio.sleep(30)
            ours = {
                one.job.job_id: one
                for one in server.job_sessions
                if one.session_id not in known and one.job is not None
            }
            for pause, what in doings:
                await anyio.sleep(pause)
                while not em._runtime.session.accepted:  # noqa: ASYNC110 - no signal
                    await anyio.sleep(1)
                await act(server, jobs[0], what)
            told = await following
            server.faults.clear()
        await anyio.sleep(1)
        assert asyncio.all_tasks() == before
        assert server.connections.open == 0
        assert server.logon_sessions == []
    runs = zip(jobs, play.scripts, told.values(), strict=True)
    for job, script, events in runs:
        check_order(events)
        check_end(events[-1], ours[job.job_id], script)


@settings(max_examples=EXAMPLES, derandomize=not IS_LONG)
@given(
    play=plays,
    spoiled=faults,
    doings=acts,
    pauses=st.lists(st.integers(0, 30), max_size=8),
)
def played(
    play: Play,
    spoiled: list[tuple[FaultKind, float]],
    doings: list[tuple[int, str]],
    pauses: list[int],
) -> None:
    """Play any history."""
    virtual_time.run(partial(history, play, spoiled, doings, pauses))
    HISTORIES.append(len(play.scripts))


def test_each_start_has_its_own_session_and_its_true_end(
    record_property: Record,
) -> None:
    """In order, once, and never that of another run."""
    HISTORIES.clear()
    played()
    record_property("histories", len(HISTORIES))
    record_property("runs", sum(HISTORIES))
    assert len(HISTORIES) >= EXAMPLES
