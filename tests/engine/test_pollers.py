"""The pollers: who is woken, whose request is cancelled, and no timer for each."""

import asyncio
import math

import anyio
import attrs
import pytest
from support.engines import EngineScene, Script
from yarl import URL

from veeam_tasks import TransportError
from veeam_tasks._engine.engine import Engine, Poller
from veeam_tasks._engine.records import DueItem
from veeam_tasks._protocol.messages import Reply

pytestmark = pytest.mark.virtual_time


class Slow(Script):
    """Answers each poll after as many seconds as its URL says."""

    async def poll(self, url: URL, *_: object) -> Reply:
        """Answer, in time."""
        await asyncio.sleep(float(url.name))
        return Reply(request="GET x", status=200, content_type="", body=b"")


@attrs.define(eq=False, kw_only=True)
class Job(DueItem):
    """Something to be polled that takes so many seconds."""

    seconds: float


class JobEngine(Engine):
    """An engine whose items are jobs; it notes what became of each."""

    async def _work(self, poller: Poller, item: DueItem) -> None:
        """Poll, and note it."""
        assert isinstance(item, Job)
        what = "cancelled"
        try:
            url = URL(f"https://h:9398/api/{item.seconds}")
            reply = await self._get(poller, url, 1)
            what = "came" if isinstance(reply, Reply) else "late"
        finally:
            self.events.append((what, item.seconds, self.loop.time() - self.began))

    def begin(self, count: int) -> None:
        """Start the pollers."""
        self.events: list[tuple[str, float, float]] = []
        self.began = 0.0
        self.tasks = [asyncio.create_task(self.run_poller()) for _ in range(count)]

    def noted(self) -> list[tuple[str, float, float]]:
        """Return what became of each, and when."""
        return [(what, job, round(at, 3)) for what, job, at in self.events]

    def give(self, *jobs: float) -> None:
        """Let work be due."""
        self.began = self.loop.time()
        for seconds in jobs:
            self.queue.add(Job(seconds=seconds))

    async def close(self) -> None:
        """Cancel the pollers, as the group that runs them does."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def make_engine(count: int, timeout: float = 5.0) -> JobEngine:
    """Return an engine with some pollers."""
    scene = EngineScene(
        loop=asyncio.get_running_loop(),
        transport=Slow(),
        engine_class=JobEngine,
        request_timeout=timeout,
    )
    assert isinstance(scene.engine, JobEngine)
    scene.engine.begin(count)
    return scene.engine


async def test_as_many_are_woken_as_there_is_work() -> None:
    """Two pieces of work wake two of five; all pollers work at once if need be."""
    engine = make_engine(5)
    await anyio.wait_all_tasks_blocked()
    engine.give(1, 2)
    assert len(engine.queue._waiting) == 3
    await asyncio.sleep(3)
    assert engine.noted() == [("came", 1, 1), ("came", 2, 2)]
    engine.give(*[1] * 7)
    await asyncio.sleep(3)
    assert [at for _, _, at in engine.noted()[2:]] == [1] * 5 + [2] * 2
    engine.queue.wake(0)
    await engine.close()


async def test_a_late_request_is_called_off_and_its_poller_goes_on() -> None:
    """After `request_timeout`, and no other request with it."""
    engine = make_engine(3)
    await anyio.wait_all_tasks_blocked()
    engine.give(100, 4)
    await asyncio.sleep(2)
    engine.queue.add(Job(seconds=4.5))
    await asyncio.sleep(10)
    assert engine.noted() == [("came", 4, 4), ("late", 100, 5), ("came", 4.5, 6.5)]
    assert not any(task.done() for task in engine.tasks)
    assert not any(task.cancelling() for task in engine.tasks)
    await engine.close()


async def test_one_timer_serves_all_requests() -> None:
    """It is set when none is, looks on twice a second, and ends with the last."""
    engine = make_engine(10)
    await anyio.wait_all_tasks_blocked()
    engine.give(*[100] * 5)
    await asyncio.sleep(1.1)
    timer = engine._timer
    assert timer is not None
    engine.give(*[100] * 5)
    await asyncio.sleep(0.1)
    assert engine._timer is timer
    await asyncio.sleep(4.3)
    assert [what for what, _, _ in engine.noted()] == ["late"] * 5
    assert engine._timer is not None
    await asyncio.sleep(2)
    assert len(engine.events) == 10
    # It finds nothing under way, and is not set again for nothing.
    assert engine._timer is None
    await engine.close()


async def test_no_timer_is_left_when_the_last_poller_has_gone() -> None:
    """A close in mid-request leaves nothing to be run later."""
    engine = make_engine(2)
    await anyio.wait_all_tasks_blocked()
    engine.give(100, 100)
    await asyncio.sleep(1)
    timer = engine._timer
    assert timer is not None
    await engine.close()
    assert [what for what, _, _ in engine.noted()] == ["cancelled"] * 2
    assert timer.cancelled()
    assert (engine._timer, engine.pollers) == (None, [])


async def test_a_cancellation_at_the_same_moment_goes_on() -> None:
    """Called off and cancelled by somebody else in one step: the latter counts."""
    engine = make_engine(1)
    await anyio.wait_all_tasks_blocked()
    engine.give(100)
    await asyncio.sleep(1)
    (me,) = engine.pollers
    me.cancel_request()
    engine.tasks[0].cancel()
    await asyncio.wait(engine.tasks)
    assert engine.tasks[0].cancelled()
    assert [what for what, _, _ in engine.noted()] == ["cancelled"]


async def test_called_off_counts_once() -> None:
    """Whoever asks a second time is told of a second time only."""

    async def wait() -> list[bool]:
        current = asyncio.current_task()
        assert current is not None
        me = Poller(current, deadline=1.0)
        told = [me.consume_timeout()]
        me.cancel_request()
        assert me.deadline == math.inf
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            told += [me.consume_timeout(), me.consume_timeout()]
        return told

    assert await asyncio.create_task(wait()) == [False, True, False]


async def test_a_probe_that_hangs_is_given_up_when_patience_ends() -> None:
    """Also when the timer was set for a later look at other requests."""
    engine = make_engine(2, timeout=30.0)
    await anyio.wait_all_tasks_blocked()
    engine.give(100)
    await asyncio.sleep(1.1)
    later = engine._timer_at
    engine.health.patience_ends_at = engine.loop.time() + 0.25
    engine.queue.close()
    # Whatever begins now is the probe.
    one, other = engine.pollers
    poller = one if one.deadline == math.inf else other
    probe = asyncio.create_task(engine._get(poller, URL("https://h/100"), 1))
    await asyncio.sleep(0)
    assert poller.deadline == engine._timer_at < later
    probe.cancel()
    await asyncio.wait([probe])
    assert poller.deadline == math.inf
    await engine.close()


async def test_a_probe_that_finds_nothing_to_poll_is_released() -> None:
    """Or nothing would ever be asked for again: whoever comes next asks anew."""
    scene = EngineScene(patience=600.0)
    down = TransportError(request="GET x", reason="refused", connected=False)
    scene.health.record_failure(object(), down, sent=scene.loop.now)
    assert scene.queue.is_closed
    scene.loop.move_to(scene.loop.now + 3)
    assert scene.queue.is_probe_due
    assert scene.engine._take() is None
    assert (scene.health.probe, scene.health.is_asking) == (None, False)
    assert scene.loop.timers == []
    scene.health.resume()
    assert scene.health.is_asking
