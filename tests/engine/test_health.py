"""The health of the server: when the queue closes, who probes, when it opens again."""

import asyncio
import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.manual_loop import manual_loop

from veeam_tasks import (
    RequestTimeoutError,
    ServerBusyError,
    TransportError,
)
from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._engine.health import Outage, ServerHealth
from veeam_tasks._pace import LONGEST_PAUSE
from veeam_tasks._telemetry.notices import Notices

pytestmark = pytest.mark.virtual_time(debug=False)

DOWN = TransportError(request="GET x", reason="refused", connected=False)
LATE = RequestTimeoutError(request="GET x", reason="late")


def answering() -> Outage:
    """Return one of a server that has answered well, whose pauses have no jitter."""
    quiet = Outage(chance=lambda: 0.0)
    for _ in range(1000):
        quiet.good(0.0)
    return quiet


def unknown() -> Outage:
    """Return one of a server of which nothing is known."""
    return Outage(chance=lambda: 0.0)


class Counting(DueQueue):
    """A queue that tells whenever a probe is let through."""

    def __init__(self, seen: "Seen") -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.seen = seen

    def let_one_through(self) -> None:
        """Let it through, and tell."""
        super().let_one_through()
        self.seen.probe()


class Seen:
    """What the health of a server told."""

    def __init__(self, patience: float | None = None) -> None:
        self.probes = self.spent = 0
        self.health = ServerHealth(
            loop=asyncio.get_running_loop(),
            patience=patience,
            queue=Counting(self),
            watched=[f"task-{number}" for number in range(9)],
            notices=Notices(None),
            give_up=self.end,
            outage=answering(),
        )

    def probe(self) -> None:
        """Count that a probe may go."""
        self.probes += 1

    def end(self) -> None:
        """Count that patience is spent."""
        self.spent += 1

    def take_probe(self, item: object) -> None:
        """Let the one that may pass be the probe."""
        assert self.health.queue.pass_through()
        self.health.begin_probe(item)

    def fail(self, *, who: object = None, error: Exception = DOWN) -> bool:
        """Count a failure; return whether the queue closes by it."""
        assert isinstance(error, TransportError | ServerBusyError)
        was_closed = self.health.queue.is_closed
        now = asyncio.get_running_loop().time()
        self.health.record_failure(who or object(), error, sent=now)
        return self.health.queue.is_closed and not was_closed


def test_an_unreachable_server_closes_at_once() -> None:
    """An outage begins when a connection cannot be made."""
    outage = answering()
    assert outage.fail("task-1", DOWN, 5.0, sent=5.0, watched=100)
    assert outage.since == 5.0
    assert not outage.fail("task-2", LATE, 6.0, sent=6.0, watched=100)
    assert outage.last_error is LATE
    assert outage.good(19.0)
    assert outage.reopened_at == 19.0
    assert not outage.has_failures


@pytest.mark.parametrize(
    ("names", "watched", "closes"),
    [
        ("aab", 2, True),
        ("aaa", 2, False),
        ("aaa", 1, True),
        ("ab", 2, False),
        ("aaab", 9, True),
        ("aaaa", 9, False),
    ],
)
def test_three_failures_of_two_tasks_close(
    names: str, watched: int, closes: bool
) -> None:
    """Or when the last three replies, of two tasks if two are watched, were bad."""
    outage = answering()
    told = [outage.fail(name, LATE, 1.0, sent=1.0, watched=watched) for name in names]
    assert told[-1] is closes
    assert not any(told[:-1])


def test_a_good_reply_ends_the_streak() -> None:
    """Any good reply between failures keeps an outage off."""
    outage = answering()
    for _ in range(9):
        assert not outage.fail("a", LATE, 1.0, sent=1.0, watched=5)
        assert not outage.fail("b", LATE, 1.0, sent=1.0, watched=5)
        assert not outage.good(2.0)


def test_bad_replies_now_and_then_are_no_outage() -> None:
    """However many: a server that answers 85 of 100 polls is there."""
    rng = random.Random(15)
    outage = unknown()
    for number in range(100_000):
        if rng.random() < 0.15:
            assert not outage.fail(f"{number % 50}", LATE, 1.0, sent=1.0, watched=50)
        else:
            assert not outage.good(1.0)
    # When it answers no more, that is seen all the same.
    names = (f"{number}" for number in range(30))
    assert any(outage.fail(name, LATE, 2.0, sent=2.0, watched=50) for name in names)
    assert outage.good(3.0)


def test_of_a_server_that_is_not_known_five_bad_replies_close() -> None:
    """Fewer may be chance; and a bad past fades."""
    outage = unknown()
    for number in (1, 2, 3, 4):
        assert not outage.fail(f"{number}", LATE, 1.0, sent=1.0, watched=9)
    assert outage.fail("5", LATE, 1.0, sent=1.0, watched=9)
    outage = unknown()
    for _ in range(50):
        assert not outage.fail("1", LATE, 1.0, sent=1.0, watched=9)
        assert not outage.good(1.0)
    assert outage.has_failures
    for _ in range(3000):
        assert not outage.good(1.0)
    assert not outage.has_failures
    assert [
        outage.fail(f"{number}", LATE, 1.0, sent=1.0, watched=9) for number in range(3)
    ] == [False, False, True]


def test_a_connection_that_fails_now_and_then_is_no_outage() -> None:
    """The first one is believed; if the first probe is answered, the next ones less."""
    outage = answering()
    assert outage.fail("1", DOWN, 1.0, sent=1.0, watched=9)
    assert outage.good(99.0)
    assert outage.fail("1", DOWN, 100.0, sent=100.0, watched=9)
    assert outage.good(102.0)
    assert not outage.fail("2", DOWN, 103.0, sent=103.0, watched=9)
    assert not outage.good(103.0)


def test_whoever_has_little_patience_learns_of_an_outage_in_time() -> None:
    """Bad replies alone for as long as patience lasts are an outage, not lost tasks."""
    outage = Outage(chance=lambda: 0.0, patience=20.0)
    assert not outage.fail("1", LATE, 30.0, sent=1.0, watched=1)
    assert not outage.fail("1", LATE, 49.0, sent=31.0, watched=1)
    assert outage.fail("1", LATE, 50.0, sent=49.0, watched=1)
    assert outage.since == 30.0


def test_what_was_sent_before_the_outage_ended_begins_no_other() -> None:
    """The failures of requests that hung in it come late."""
    outage = answering()
    assert outage.fail("1", DOWN, 1.0, sent=1.0, watched=9)
    assert outage.good(9.0)
    for number in range(16):
        assert not outage.fail(f"{number}", LATE, 31.0, sent=1.0, watched=9)
    assert outage.since is None


def test_what_fails_when_the_loop_was_held_is_no_outage() -> None:
    """A server hangs up on a client that does not read."""
    outage = answering()
    outage.held_until = 300.0
    for number in range(16):
        assert not outage.fail(f"{number}", LATE, 300.1, sent=1.0, watched=9)
    assert not outage.is_closed
    assert not outage.has_failures


async def test_a_last_probe_that_was_held_is_not_the_last() -> None:
    """Patience is not spent by a failure that may be our own."""
    seen = Seen(patience=10.0)
    seen.fail()
    await anyio.sleep(10.5)
    seen.take_probe("me")
    seen.health.outage.held_until = asyncio.get_running_loop().time() + 1
    seen.fail(who="me")
    assert (seen.probes, seen.spent) == (2, 0)
    seen.take_probe("me")
    await anyio.sleep(2)
    seen.fail(who="me")
    assert seen.spent == 1


def test_probes_pause_longer_and_longer() -> None:
    """The pause grows to its ceiling; Retry-After is honoured, but not for days."""
    outage = answering()
    assert outage.fail("a", DOWN, 0.0, sent=0.0, watched=1)
    pauses = [outage.next_probe() for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= 1.5
    assert pauses[-1] == 30.0
    assert outage.next_probe(77.0) == 77.0
    assert outage.next_probe(999_999.0) == LONGEST_PAUSE


async def test_late_failures_neither_wake_nor_move_the_probe() -> None:
    """The failures of requests already in flight arm nothing."""
    seen = Seen()
    assert seen.fail()
    for _ in range(15):
        await anyio.sleep(0.1)
        assert not seen.fail()
    await anyio.sleep(0.6)
    assert seen.probes == 1
    seen.take_probe("me")
    assert not seen.health.queue.pass_through()
    assert not seen.health.queue.is_probe_due
    assert not seen.fail()
    await anyio.sleep(100)
    assert seen.probes == 1
    assert not seen.fail(who="me")
    await anyio.sleep(100)
    assert seen.probes == 2


async def test_newcomers_do_not_send_a_second_probe() -> None:
    """While one is under way it is theirs too; when it has come to nothing, another."""
    seen = Seen()
    seen.fail()
    await anyio.sleep(3)
    seen.take_probe("me")
    for _ in range(50):
        seen.health.resume()
        await anyio.sleep(1)
    assert seen.probes == 1
    assert seen.health.is_asking
    seen.health.probe = None
    seen.health.resume()
    await anyio.sleep(10)
    assert seen.probes == 2


async def test_a_failed_probe_after_the_outage_ended_arms_nothing() -> None:
    """Another good reply may end the outage while the probe is under way."""
    seen = Seen()
    seen.fail()
    await anyio.sleep(3)
    seen.take_probe("me")
    seen.health.record_success()
    assert not seen.health.queue.is_closed
    seen.health.record_success()
    assert not seen.fail(who="me", error=LATE)
    await anyio.sleep(100)
    assert seen.probes == 1
    # Nor does it move the probe of the next outage, which is not its own.
    seen.fail()
    armed = seen.health._timer
    assert not seen.fail(who="me")
    assert seen.health._timer is armed
    seen.health.record_success()
    seen.health.resume()
    assert not seen.health.is_asking
    assert not seen.health.queue.is_closed


async def test_patience_is_spent_once_and_begins_anew_for_newcomers() -> None:
    """It takes a probe sent after that; a watch that comes later has patience too."""
    seen = Seen(patience=10.0)
    seen.fail()
    await anyio.sleep(2.5)
    seen.take_probe("me")
    await anyio.sleep(8)
    assert seen.spent == 0
    # That one was sent before patience ended: the last one goes at once.
    assert not seen.fail(who="me")
    assert (seen.probes, seen.spent) == (2, 0)
    seen.take_probe("me")
    assert not seen.fail(who="another")
    assert seen.spent == 0
    assert not seen.fail(who="me")
    assert seen.spent == 1
    seen.health.disarm()
    await anyio.sleep(100)
    seen.health.resume()
    seen.health.resume()
    assert seen.health.is_asking
    await anyio.sleep(9)
    assert (seen.probes, seen.spent) == (3, 1)
    await anyio.sleep(2)
    seen.take_probe("me")
    assert not seen.fail(who="me")
    assert seen.spent == 2
    seen.health.disarm()


async def test_a_long_pause_ends_with_patience() -> None:
    """The server is asked then, and an answer leaves patience unspent."""
    seen = Seen(patience=10.0)
    busy = ServerBusyError(request="x", status=503, message="", retry_after=9e9)
    seen.fail()
    await anyio.sleep(3)
    seen.take_probe("me")
    seen.fail(who="me", error=busy)
    await anyio.sleep(6.9)
    assert seen.probes == 1
    await anyio.sleep(0.2)
    assert seen.probes == 2
    seen.take_probe("me")
    # Someone who comes meanwhile neither sends another nor begins patience anew.
    seen.health.resume()
    seen.health.record_success()
    assert not seen.health.queue.is_closed
    await anyio.sleep(100)
    assert (seen.probes, seen.spent) == (2, 0)


failures = st.lists(
    st.tuples(
        st.sampled_from(["fail", "probe", "late", "good", "newcomer", "all gone"]),
        st.floats(0, 40),
    ),
    max_size=60,
)


@given(failures=failures, patience=st.none() | st.floats(1, 300))
def test_at_most_one_probe_and_never_none(
    failures: list[tuple[str, float]], patience: float | None
) -> None:
    """In an outage one probe is under way, due or timed, whatever else happens."""
    loop = manual_loop()
    waiting = True

    def cut_all() -> None:
        nonlocal waiting
        waiting = False
        health.disarm()

    health = ServerHealth(
        loop=loop,
        patience=patience,
        queue=DueQueue(loop=loop),
        watched=["a", "b", "c", "d", "e"],
        notices=Notices(None),
        give_up=cut_all,
        outage=answering(),
    )
    late = object()
    for what, pause in failures:
        loop.move_to(loop.now + pause)
        mine = object()
        is_mine = health.queue.pass_through()
        if is_mine:
            health.begin_probe(mine)
        timers = list(loop.timers)
        if what in {"fail", "late"} or (what == "probe" and is_mine):
            was_closed = health.outage.is_closed
            who, error = (mine, LATE) if what == "probe" else (late, DOWN)
            health.record_failure(who, error, sent=loop.now)
            waiting |= health.outage.is_closed and not was_closed
            assert not was_closed or what == "probe" or loop.timers == timers
        elif what == "good":
            health.record_success()
            assert loop.timers == []
        elif what == "newcomer":
            waiting = True
            health.resume()
        elif what == "all gone":
            cut_all()
        if is_mine and health.probe is mine:
            late, health.probe = mine, None
            if waiting:
                health.resume()
        assert len(loop.timers) <= 1 + (patience is not None)
        assert health.is_asking == (health.outage.is_closed and waiting)


async def test_whoever_comes_when_all_have_gone_waits_for_a_first_pause() -> None:
    """However long the pauses have grown for those who were there before."""
    seen = Seen()
    seen.fail()
    for _ in range(6):
        await anyio.sleep(40)
        seen.take_probe("me")
        seen.fail(who="me")
    probes = seen.probes
    seen.health.disarm()
    await anyio.sleep(100)
    seen.health.resume()
    await anyio.sleep(2.1)
    assert seen.probes == probes + 1
