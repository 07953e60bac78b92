"""The collection: what a collection says, and what is not taken from it alone."""

import asyncio
import contextlib
import logging

import anyio
import pytest
from support.engines import EngineScene
from support.raw_server import STALL, Answer, RawServer, Seen, reply
from support.trackers import Scene, Wanting

from veeam_tasks import (
    ClosedError,
    LogonError,
    Pace,
    SessionManager,
    TaskEvent,
    TaskState,
    Watch,
)
from veeam_tasks._engine.collection_poll import _quick_one
from veeam_tasks._engine.records import DueState
from veeam_tasks._engine.settle import Settling
from veeam_tasks._options.keywords import Coalesce

pytestmark = pytest.mark.virtual_time(debug=False)

TOKEN = "X-RestSvcSessionId: NThBRkU="
NAMESPACE = 'xmlns="http://www.veeam.com/ent/v1.0"'
COUNT = 20
PROOFS = 3
"""Single polls a minute, of one task, by which the collection is proved, at most."""
LATER = '<Result Success="true"><Message>Ok</Message></Result>'


class Manager:
    """Routes as an Enterprise Manager whose collection may be other than its tasks.

    Attributes:
        state: Of every task when it is asked for singly; `listed` in the collection.
        result: Of every task when it is asked for singly.
        statuses: What the next collections are answered with, instead of 200.
        void: Whether the token is.
        stalled: Whether the collection gets no reply.
        seconds: How long each reply takes; `seconds_of_all` that of the collection.
        answered: Set with each reply.
    """

    def __init__(self) -> None:
        self.state = self.listed = "Running"
        self.result = ""
        self.odd = ""
        self.generation = 0
        self.count_of_all = COUNT
        self.void = self.stalled = False
        self.seconds = self.seconds_of_all = 0.0
        self.statuses: list[int] = []
        self.asked: list[str] = []
        self.answered = asyncio.Event()

    def __call__(self, seen: Seen) -> Answer:
        """Answer one request."""
        path = seen.target.removeprefix("/api/")
        if seen.method == "POST":
            return self.log_on()
        if seen.method == "DELETE":
            return reply(status="204 No Content")
        self.asked.append(path)
        if self.stalled and path == "tasks":
            return STALL
        seconds = self.seconds + self.seconds_of_all * (path == "tasks")

        async def wait(_: asyncio.StreamWriter) -> None:
            await anyio.sleep(seconds)
            self.answered.set()

        return wait, reply(status="401 Unauthorized") if self.void else self.get(path)

    def log_on(self) -> bytes:
        """Give another token."""
        self.void = False
        self.generation += 1
        body = f"<LogonSession {NAMESPACE}><SessionId>1234-5678</SessionId>"
        return reply(
            f"{body}</LogonSession>".encode(),
            status="201 Created",
            headers=[f"{TOKEN}{self.generation}"],
        )

    def get(self, path: str) -> bytes:
        """Answer a GET under a good token."""
        if path.startswith("logonSessions"):
            return reply(f"<LogonSession {NAMESPACE}/>".encode())
        if path != "tasks":
            number = int(path.removeprefix("tasks/task-"))
            one = self.task(number, self.state, self.result)
            return reply(one.replace("<Task ", f"<Task {NAMESPACE} ").encode())
        if self.statuses:
            return reply(status=f"{self.statuses.pop(0)} X")
        numbers = range(self.count_of_all)
        all_of_them = [self.task(number, self.listed) for number in numbers]
        return reply(f"<Tasks {NAMESPACE}>{''.join(all_of_them)}</Tasks>".encode())

    def task(self, number: int, state: str, result: str = "") -> str:
        """Return the element of a task as the reference prints it."""
        href = f"https://h:9398/api/tasks/task-{number}"
        return (
            f'<Task Type="Task" Href="{href}"><Links><Link Rel="Delete" Href="{href}"/>'
            f"</Links><TaskId>task-{number}</TaskId>{self.odd}<State>{state}</State>"
            f"<Operation>StartJob</Operation>{result}</Task>"
        )

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return self.asked.count(path)


IDS = [f"task-{number}" for number in range(COUNT)]
SECOND = Pace(first=1, growth=1, longest=1, jitter=0)


def door(
    server: RawServer, pace: Pace = SECOND, coalesce: Coalesce = "always"
) -> SessionManager:
    """Return a manager that asks for all tasks together."""
    return SessionManager(
        server.url(), username="u", password="secret", coalesce=coalesce, pace=pace
    )


async def test_a_result_that_the_collection_leaves_out_is_asked_for() -> None:
    """Finished without a Result is asked for singly before it counts as failed."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(5)
        em.state = em.listed = "Finished"
        em.result = LATER
        report = await watch.wait()
    assert report.succeeded == tuple(IDS)
    singly = [path for path in em.asked if path.startswith("tasks/")]
    assert {f"tasks/{task_id}" for task_id in IDS} == set(singly)
    assert len(singly) <= COUNT + PROOFS


async def test_no_result_anywhere_is_final_after_three_more_replies() -> None:
    """The collection counts as one reply, and three single ones follow."""
    em = Manager()
    em.state = em.listed = "Finished"
    async with RawServer(route=em) as server, door(server) as manager:
        report = await manager.watch(IDS).wait()
    assert report.failed == tuple(IDS)
    singly = [path for path in em.asked if path.startswith("tasks/")]
    assert 3 * COUNT <= len(singly) <= 3 * COUNT + PROOFS


async def test_a_collection_that_stays_as_it_was_is_found_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One task a minute is asked for singly, so a cache in between harms nobody."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(10)
        em.state = "Finished"
        em.result = LATER
        with caplog.at_level(logging.WARNING), anyio.fail_after(180):
            report = await watch.wait()
    assert report.succeeded == tuple(IDS)
    assert "unfinished, which is Finished" in caplog.text


async def test_an_honest_collection_costs_a_few_single_polls_a_minute() -> None:
    """The proof is cheap, and a task that really ends is no contradiction."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(600.5)
        singly = len([path for path in em.asked if path.startswith("tasks/")])
        assert 10 <= singly <= 11 * PROOFS
        assert em.count("tasks") >= 600
        em.state = em.listed = "Finished"
        em.result = LATER
        await watch.wait()
        assert manager.statistics().coalescing == "together"


async def test_slices_that_do_not_stand_for_themselves_have_all_parsed() -> None:
    """A comment within the tasks makes the whole be parsed; the outcome is the same."""
    em = Manager()
    em.odd = "<!-- odd -->"
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(5)
        assert len(watch.tasks) == COUNT
        assert manager.statistics().coalescing == "together"
        em.state = em.listed = "Finished"
        em.result = LATER
        assert (await watch.wait()).succeeded == tuple(IDS)


async def test_a_token_that_ends_during_a_collection_is_renewed_once() -> None:
    """The collection is asked for again under the new one."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(5)
        em.void = True
        await anyio.sleep(5)
        assert manager.statistics().renewals == 1
        assert manager.statistics().coalescing == "together"
        assert len(watch.report.unfinished) == COUNT


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_a_refused_collection_is_served_singly(status: int) -> None:
    """For a while, with a word in the statistics; no logon is made."""
    em = Manager()
    em.statuses = [status] * 2
    async with RawServer(route=em) as server, door(server) as manager:
        manager.watch(IDS)
        watch = manager.watch(IDS)
        await anyio.sleep(30)
        now = manager.statistics()
        assert now.coalescing == "singly"
        assert f"the server answered {status}" in now.coalescing_reason
        assert len(watch.tasks) == COUNT
        assert now.logons == 1
        await anyio.sleep(300)
        assert manager.statistics().coalescing == "together"


async def test_watch_all_begun_during_a_collection_is_told_of_all() -> None:
    """Also if the collection does not change any more."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        first = manager.watch(IDS)
        await anyio.sleep(5)
        for _ in range(40):
            # Each at another step of the collections that go on.
            await anyio.sleep(0.997)
            late = manager.watch_all()
            await anyio.sleep(3)
            assert len(late.tasks) == COUNT
            await late.aclose()
        assert len(first.tasks) == COUNT


async def test_newcomers_do_not_make_collections_follow_one_another() -> None:
    """While tasks are added one by one, most of the time no collection is asked for."""
    em = Manager()
    slow = Pace(first=60, growth=1, longest=60, jitter=0)
    async with RawServer(route=em) as server, door(server, slow) as manager:
        watch = manager.watch(IDS[:2])
        await anyio.sleep(5)
        before = em.count("tasks")
        for task_id in IDS[2:]:
            watch.add(task_id)
            await anyio.sleep(0.005)
        await anyio.sleep(5)
        assert len(watch.tasks) == COUNT
        assert em.count("tasks") - before <= 1 + 18 * 0.005 / 0.02


def test_the_earliest_of_two_requests_holds() -> None:
    """It is due once, whoever asks for it later."""
    scene = EngineScene()
    collection = scene.engine.collection
    for delay, due in ((5.0, 105.0), (1.0, 101.0), (3.0, 101.0)):
        collection.request(delay)
        assert scene.loop.timers == [pytest.approx(due)]
    collection.request(0.0)
    collection.request(1.0)
    assert list(scene.queue.ready) == [collection]
    assert collection.due == DueState.READY


def test_what_is_asked_for_meanwhile_comes_behind_what_is_ready() -> None:
    """Else collections asked for again and again leave one poller no time for polls."""
    scene = Scene()
    scene.add(wanting := Wanting(), "task-1")
    scene.queue.add(collection := scene.engine.collection)
    assert scene.tracker.take() is collection
    collection.force_full_read()
    collection.request(5.0)
    assert collection.due == DueState.POLLING
    collection._reschedule()
    assert scene.tracker.take() is scene.record("task-1")
    assert scene.tracker.take() is collection
    assert wanting is not None


def test_a_collection_that_nobody_wants_is_not_polled() -> None:
    """Whatever it was asked for has gone meanwhile."""
    scene = EngineScene()
    scene.engine.collection.request(0.0)
    assert scene.tracker.take() is None
    assert scene.engine.collection.due == DueState.DROPPED


async def test_one_collection_at_a_time() -> None:
    """Also the probe of an outage waits for one that is under way."""
    em = Manager()
    em.stalled = True
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch_all()
        await anyio.sleep(5)
        assert em.count("tasks") == 1
        assert manager._runtime is not None
        engine = manager._runtime.engine
        assert engine._take_probe() is None
        engine.collection.request(0.0)
        await anyio.sleep(5)
        assert engine.collection.due == DueState.POLLING
        assert engine.tracker.take() is None
        em.stalled = False
        await anyio.sleep(60)
        assert len(watch.tasks) == COUNT


async def test_a_collection_that_takes_twice_its_usual_time_is_put_off() -> None:
    """It is asked for singly from then on, with a notice in the log and a reason."""
    em = Manager()
    em.seconds = 0.05
    async with RawServer(route=em) as server, door(server, coalesce="auto") as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(30)
        assert manager.statistics().coalescing == "together"
        em.seconds_of_all = 2.0
        await anyio.sleep(10)
        now = manager.statistics()
        assert now.coalescing == "singly"
        assert "twice its usual time" in now.coalescing_reason
        assert len(watch.tasks) == COUNT


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.3, 0.99, 1.7])
async def test_a_proof_in_step_with_the_collection_stops_no_polling(
    seconds: float,
) -> None:
    """However long the collection takes, a single watched task is polled on."""
    em = Manager()
    em.seconds_of_all = seconds
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS[0])
        for _ in range(5):
            before = len(em.asked)
            await anyio.sleep(70)
            assert len(em.asked) - before > 20
        em.state = em.listed = "Finished"
        em.result = LATER
        with anyio.fail_after(10):
            assert (await watch.wait()).succeeded == (IDS[0],)


async def test_a_newcomer_or_a_renewal_stops_no_asking_for_a_result() -> None:
    """A task without a Result is asked for singly, whoever else comes to want it."""
    for happens in ("newcomer", "renewal"):
        em = Manager()
        em.state = em.listed = "Finished"
        async with RawServer(route=em) as server, door(server) as manager:
            watch = manager.watch(IDS)
            await anyio.sleep(1.5)
            if happens == "newcomer":
                other = manager.watch(IDS[3])
            else:
                em.void = True
                other = watch
            em.result = LATER
            with anyio.fail_after(20):
                assert (await watch.wait()).succeeded == tuple(IDS)
                await other.wait()


async def test_what_is_discarded_from_a_watch_of_all_stays_out() -> None:
    """Also from a collection of more tasks than are told of at once."""
    em = Manager()
    em.count_of_all = 150
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch_all()
        await anyio.sleep(5)
        assert len(watch.tasks) == 150
        watch.discard("task-149", "task-3")
        em.count_of_all = 151
        await anyio.sleep(5)
        assert len(watch.tasks) == 149
        em.count_of_all = 140
        await anyio.sleep(5)
        em.count_of_all = 151
        await anyio.sleep(5)
        # Within one logon session an ID stands for one task, also if it had gone.
        assert "task-149" not in watch.tasks
        assert "task-3" not in watch.tasks


async def test_a_collection_that_only_ends_tasks_is_followed_by_another() -> None:
    """What else is watched may wait for it, although no pause was met."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(1)
        assert manager._runtime is not None
        engine = manager._runtime.engine
        for settled in (0, 3):
            ended = Settling(
                loop=engine.loop,
                tracker=engine.tracker,
                is_together=True,
                settled=settled,
            )
            assert engine.collection._lowest_pause(ended) == SECOND.first
        await watch.aclose()


@pytest.mark.parametrize("mode", ["never", "auto", "always"])
@pytest.mark.parametrize("renewed", [False, True])
async def test_an_older_collection_takes_back_nothing(
    mode: Coalesce, renewed: bool
) -> None:
    """What a task said itself stands against a collection that shows it as it was."""
    em = Manager()
    async with RawServer(route=em) as server, door(server, coalesce=mode) as manager:
        watches = [manager.watch_all(), manager.watch(IDS)]
        events: list[TaskEvent] = []

        async def read(watch: Watch) -> None:
            with contextlib.suppress(ClosedError, StopAsyncIteration):
                while True:
                    events.append(await anext(watch))

        readers = [asyncio.create_task(read(watch)) for watch in watches]
        await anyio.sleep(5)
        em.state = "OperationFinished"
        # Together one task a minute is asked for singly.
        await anyio.sleep(150)
        em.void = renewed
        await anyio.sleep(150)
        assert manager.statistics().renewals == renewed
        em.state, em.result = "Finished", LATER
        with anyio.fail_after(300):
            await readers[1]
        await watches[0].aclose()
        await asyncio.wait(readers)
    for watch in watches:
        assert len(watch.report.succeeded) == COUNT
    ways = [str(event.state) for event in events if event.task_id == IDS[3]]
    assert ways.count("Running") == ways.count("Finished") == 2
    for event in events:
        assert event.state is not TaskState.LOST
        assert (event.previous, event.state) != ("OperationFinished", "Running")


async def test_a_collection_that_is_stale_again_is_not_relied_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task that was asked for has denied it: from then on each is asked singly."""
    em = Manager()
    em.state = em.listed = "OperationFinished"
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(5)
        em.listed = "Running"
        with caplog.at_level(logging.WARNING):
            await anyio.sleep(10)
        assert manager.statistics().coalescing == "singly"
        assert "Running, which is OperationFinished" in caplog.text
        assert {str(task.state) for task in watch.tasks.values()} == {
            "OperationFinished"
        }
        asked = len(em.asked)
        await anyio.sleep(30)
        assert len(em.asked) - asked <= COUNT * 31


@pytest.mark.parametrize("mode", ["never", "always"])
async def test_a_task_that_goes_back_itself_is_told(mode: Coalesce) -> None:
    """Also to a word we do not know: its own word is asked for at once, and counts."""
    em = Manager()
    slow = Pace(first=1, growth=2, longest=600, jitter=0)
    async with RawServer(route=em) as server, door(server, slow, mode) as manager:
        watch, other = manager.watch(IDS[:5]), manager.watch_all(pace=SECOND)
        await anyio.sleep(200)
        for word in ("Paused", "Running", "Paused", "OperationFinished", "Running"):
            em.state = em.listed = word
            await anyio.sleep(5)
            assert {task.raw_state for task in watch.tasks.values()} == {word}
        assert len(other.tasks) == COUNT
        await other.aclose()


async def test_discovered_tasks_are_settled_by_what_discovered_them() -> None:
    """They need no second collection."""
    em = Manager()
    slow = Pace(first=60, growth=1, longest=60, jitter=0)
    async with RawServer(route=em) as server, door(server, slow) as manager:
        watch = manager.watch_all()
        await anyio.sleep(10)
        assert len(watch.tasks) == COUNT
        assert em.count("tasks") == 1
        em.count_of_all = COUNT + 5
        await anyio.sleep(60)
        assert len(watch.tasks) == COUNT + 5
        assert em.count("tasks") == 2


async def test_newcomers_leave_a_slow_collection_its_rest() -> None:
    """Most of the time none is under way, whoever comes."""
    em = Manager()
    em.seconds_of_all = 0.5
    em.count_of_all = 100
    slow = Pace(first=60, growth=1, longest=60, jitter=0)
    async with RawServer(route=em) as server, door(server, slow) as manager:
        watch = manager.watch("task-0")
        for number in range(1, 100):
            await anyio.sleep(0.2)
            watch.add(f"task-{number}")
        assert 6 <= em.count("tasks") * em.seconds_of_all * 2 <= 20
        await anyio.sleep(10)
        assert len(watch.tasks) == 100


@pytest.mark.parametrize(("seconds", "apart"), [(0.0, 2.0), (0.3, 2.0), (1.0, 3.0)])
async def test_the_pause_counts_from_when_the_collection_was_asked_for(
    seconds: float, apart: float
) -> None:
    """What it shows is as old as that; yet a slow one leaves the server its rest."""
    em = Manager()
    em.seconds_of_all = seconds
    pace = Pace(first=2, growth=1, longest=2, jitter=0)
    async with RawServer(route=em) as server, door(server, pace) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(60)
        before = em.count("tasks")
        await anyio.sleep(60)
        assert (em.count("tasks") - before) == pytest.approx(60 / apart, abs=1.5)
        assert len(watch.report.unfinished) == COUNT


async def test_a_collection_under_an_older_token_is_not_settled() -> None:
    """It may be of other tasks; another is asked for under the new token."""
    em = Manager()
    em.seconds_of_all = 0.5
    async with RawServer(route=em) as server, door(server) as manager:
        watch = manager.watch(IDS)
        await anyio.sleep(10)
        assert manager._runtime is not None
        collection = manager._runtime.engine.collection
        while collection.due != DueState.POLLING:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.05)
        settled = manager.statistics().coalesced
        em.void = True
        await manager.fetch("task-0")
        assert manager.statistics().renewals == 1
        asked = em.count("tasks")
        # The one under way ends within half a second, the next one after a whole one.
        await anyio.sleep(0.7)
        assert manager.statistics().coalesced == settled
        assert em.count("tasks") == asked + 1
        await anyio.sleep(0.5)
        assert manager.statistics().coalesced > settled
        await watch.aclose()


async def test_watch_all_begun_while_a_collection_is_settled_is_told_of_all() -> None:
    """That one was told to others already, and the next one is as it was."""
    em = Manager()
    async with RawServer(route=em) as server, door(server) as manager:
        first = manager.watch(IDS)
        await anyio.sleep(5.5)
        assert manager._runtime is not None
        collection = manager._runtime.engine.collection
        asked = em.count("tasks")
        em.answered.clear()
        await em.answered.wait()
        # From here to the end no time goes by: only steps of the loop.
        for _ in range(100):
            if collection.due == DueState.POLLING and collection._last is None:
                break
            await asyncio.sleep(0)
        assert collection._last is None
        assert em.count("tasks") == asked + 1
        late = manager.watch_all()
        await anyio.sleep(3)
        assert len(late.tasks) == COUNT
        await late.aclose()
        await first.aclose()


async def test_a_refused_logon_is_no_good_reply_to_a_collection() -> None:
    """Nobody is told of an end of the outage when the watch is cut short instead."""
    em = Manager()
    em.statuses = [503] * 5
    told: list[str] = []
    async with RawServer(route=em) as server:
        manager = SessionManager(
            server.url(),
            username="u",
            password="secret",
            on_notice=lambda notice: told.append(notice.kind.value),
        )
        async with manager:
            watch = manager.watch_all()
            while len(told) == 1:  # noqa: ASYNC110 - it tells nobody
                await anyio.sleep(0.1)
            em.log_on = lambda: reply(status="401 Unauthorized")  # type: ignore[method-assign] # its next answer
            em.void = True
            with pytest.raises(LogonError):
                await watch.wait()
            await anyio.sleep(1)
    assert told[:2] == ["logged_on", "unreachable"]
    assert "recovered" not in told


@pytest.mark.parametrize(
    ("count", "quick", "watched", "is_apart"),
    [
        (1, 2.0, 20, True),
        (2, 2.0, 20, False),
        (1, 5.0, 20, False),
        (1, 2.0, 7, False),
    ],
)
def test_one_quick_task_among_many_is_asked_for_apart(
    count: int, quick: float, watched: int, *, is_apart: bool
) -> None:
    """Two make more requests than a collection, and one that is hardly quicker too."""
    pace, slow = Pace(first=quick), Pace(first=10.0)
    usual = [(quick, count / quick, pace), (10.0, watched / 10.0, slow)]
    assert _quick_one(usual, watched) == (
        frozenset({pace}) if is_apart else frozenset()
    )
    assert _quick_one(usual[1:], watched) == frozenset()
