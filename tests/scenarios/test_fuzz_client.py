"""The whole client against a server that behaves at random: the contract holds.

The default run plays the same examples each time. ``nox -s fuzz`` sets
VEEAM_TASKS_FUZZ_ROUNDS, and then there are more, and others each time.
"""

import asyncio
import os
import re
from typing import Literal

import anyio
import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from support import virtual_time
from support.managers import door

from veeam_tasks import Pace, TaskEvent, TaskState, Watch
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

IS_LONG = "VEEAM_TASKS_FUZZ_ROUNDS" in os.environ
EXAMPLES = 1000 if IS_LONG else 25
QUICK = Pace(first=0.5, growth=1.5, longest=5)
TASKS = re.compile(r"/tasks")
ENDS = ("ok", "failed 'Disk full'")

HARMLESS = [
    kind
    for kind in FaultKind
    # With these the server itself says that a task is gone, is not ours to read, or
    # went back; or it keeps the loop at work for long.
    if kind
    not in {
        *[FaultKind.VANISH, FaultKind.FORBIDDEN, FaultKind.UNAUTHORIZED],
        *[FaultKind.BACKWARDS, FaultKind.DEEP_BODY, FaultKind.WIDE_BODY],
        *[FaultKind.GZIP_BOMB, FaultKind.BROTLI_BOMB, FaultKind.ENTITY_BOMB],
        *[FaultKind.ENDLESS_BODY, FaultKind.SLOW_DRIP, FaultKind.NO_TOKEN],
    }
]
"""What may befall any reply about tasks and changes no outcome."""

ACTS = (
    *("expire", "expire, tasks kept", "restart", "restart, tasks kept"),
    *("restart, other tasks", "cut", "down", "add", "discard", "add again"),
)


@attrs.frozen
class Played:
    """One script: its states with their seconds, and its end."""

    steps: tuple[tuple[str, int], ...]
    end: str

    @property
    def text(self) -> str:
        """The script for the simulator."""
        parts = [f"{word} {seconds}s" for word, seconds in self.steps]
        return ", ".join([*parts, f"Finished {self.end}"])


seconds = st.integers(1, 20)
words = st.sampled_from(["Running", "Queued", "Paused"])
# Last, since one that went back over a renewal counts as another task.
collecting = st.lists(st.tuples(st.just("OperationFinished"), seconds), max_size=1)
steps = st.tuples(st.lists(st.tuples(words, seconds), max_size=4), collecting)
played = st.builds(
    Played, steps.map(lambda both: (*both[0], *both[1])), st.sampled_from(ENDS)
)
faults = st.lists(
    st.tuples(st.sampled_from(HARMLESS), st.floats(0.05, 0.3)), max_size=3
)
acts = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(ACTS)), max_size=6)


@attrs.define
class Ledger:
    """What is watched, what was told of it, and what the server forgot.

    Attributes:
        scripts: What each task that we know of plays, by its ID.
        told: The events of each watched task since it was added last.
        forgotten: Those that the server forgot at some time.
        unseen: Those of them that we had not seen until then, so that nobody can tell
            that another task has their ID now.
    """

    server: SimulatedServer
    watch: Watch
    scripts: dict[str, Played]
    told: dict[str, list[TaskEvent]] = attrs.field(factory=dict)
    forgotten: set[str] = attrs.field(factory=set)
    unseen: set[str] = attrs.field(factory=set)

    def take(self, event: TaskEvent) -> None:
        """Hold the contract for one more event."""
        before = self.told[event.task_id]
        last = before[-1] if before else None
        assert event.sequence == len(before) + 1
        assert event.previous is (None if last is None else last.state)
        if last is not None:
            assert not last.is_final
            assert event.state is not last.state or (
                event.task is not None
                and last.task is not None
                and event.task.raw_state != last.task.raw_state
            )
        before.append(event)

    def settle(self) -> None:
        """Hold that each watched task has had its one true end."""
        report = self.watch.report
        assert set(report.outcomes) == set(self.told)
        for task_id, events in self.told.items():
            last = events[-1]
            assert last.is_final
            assert report.outcomes[task_id] is last
            if last.state is TaskState.LOST:
                assert task_id in self.forgotten, last.error
            else:
                assert last.state is TaskState.FINISHED
                if task_id in self.unseen:
                    continue
                assert last.succeeded is (self.scripts[task_id].end == "ok")

    async def act(self, what: str) -> None:
        """Do what somebody, or the server, may do at any time."""
        server = self.server
        if what in {"expire", "restart", "restart, other tasks"}:
            self.forgotten |= set(self.scripts)
            self.unseen |= set(self.scripts) - set(self.watch.tasks)
        match what.partition(",")[0]:
            case "expire":
                server.expire_logon_sessions(keep_tasks="kept" in what)
            case "restart":
                is_kept = "kept" in what
                server.restart(keep_tasks=is_kept, reset_counter="other" in what)
                if "other" in what:
                    for _ in self.scripts:
                        server.add_task("Finished ok", operation="CloneJob")
            case "cut":
                server.drop_connections()
            case "down":
                await server.pause()
                await anyio.sleep(7)
                await server.resume()
            case _:
                self.change(what)

    def change(self, what: str) -> None:
        """Change what is watched."""
        watched = sorted(self.told)
        if what == "discard" and watched:
            self.watch.discard(watched[0])
            del self.told[watched[0]]
        elif what == "add again" and watched:
            self.watch.discard(watched[-1])
            self.told[watched[-1]] = []
            self.watch.add(watched[-1])
            self.unseen |= {watched[-1]} & self.forgotten
        elif what == "add":
            script = Played((("Running", 9),), "ok")
            task_id = self.server.add_task(script.text).task_id
            # Under an ID that was another task's, this is a foreign one.
            if task_id not in self.scripts:
                self.scripts[task_id] = script
                self.told[task_id] = []
                self.watch.add(task_id)


async def read(ledger: Ledger, acting: "asyncio.Task[None]", pauses: list[int]) -> None:
    """Read to the end, at random speed, and on when there is something new."""
    waits = iter(pauses)
    is_last = False
    while not is_last:
        is_last = acting.done()
        async for event in ledger.watch:
            ledger.take(event)
            await anyio.sleep(next(waits, 0))
        await anyio.sleep(1)
    await acting


@settings(max_examples=EXAMPLES, derandomize=not IS_LONG)
@given(
    scripts=st.lists(played, min_size=1, max_size=6),
    spoiled=faults,
    doings=acts,
    pauses=st.lists(st.integers(0, 12), max_size=10),
    coalesce=st.sampled_from(["never", "always", "auto"]),
    accept=st.sampled_from(["xml", "json"]),
)
def test_a_server_at_random(
    *,
    scripts: list[Played],
    spoiled: list[tuple[FaultKind, float]],
    doings: list[tuple[int, str]],
    pauses: list[int],
    coalesce: Literal["never", "always", "auto"],
    accept: Literal["xml", "json"],
) -> None:
    """One true end for each task, in order; LOST only what the server forgot."""

    async def work() -> None:
        async with SimulatedServer(seed=1) as server:
            before = asyncio.all_tasks()
            async with door(
                server, coalesce=coalesce, accept=accept, pace=QUICK, request_timeout=5
            ) as em:
                known = {server.add_task(one.text).task_id: one for one in scripts}
                for seed, (kind, share) in enumerate(spoiled):
                    server.faults.add(
                        Fault(kind, method="GET", path=TASKS, share=share, seed=seed)
                    )
                ledger = Ledger(server, em.watch(known, timeout=24 * 3600), known)
                ledger.told = {task_id: [] for task_id in known}

                async def act() -> None:
                    for pause, what in doings:
                        await anyio.sleep(pause)
                        # One that was never accepted is not renewed, by contract.
                        while not em._runtime.session.accepted:  # noqa: ASYNC110 - no signal
                            await anyio.sleep(1)
                        await ledger.act(what)

                await read(ledger, asyncio.ensure_future(act()), pauses)
                ledger.settle()
                server.faults.clear()
            await anyio.sleep(1)
            assert asyncio.all_tasks() == before
            assert server.connections.open == 0
            assert server.logon_sessions == []

    virtual_time.run(work)
