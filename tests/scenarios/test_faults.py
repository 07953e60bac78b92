"""The fault matrix: what a hostile server may do, and what comes of it."""

import re

import pytest
from support.figures import Record
from support.managers import door

from veeam_tasks import (
    MalformedReplyError,
    NoticeKind,
    Pace,
    Report,
    SessionManager,
    StatusError,
    TaskState,
)
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

MODES = pytest.mark.parametrize("mode", ["never", "always"])
TASKS = re.compile(r"/tasks")
QUICK = Pace(first=1, growth=1.5, longest=5)

RIDDEN_OUT = [
    FaultKind.RESET,
    FaultKind.RESET_IN_HEADERS,
    FaultKind.RESET_AFTER_HEADERS,
    FaultKind.DROP,
    FaultKind.STALL,
    FaultKind.DELAY,
    FaultKind.GARBAGE,
    FaultKind.CUT_CLOSE,
    FaultKind.CUT_BODY,
    FaultKind.ENDLESS_BODY,
    FaultKind.SLOW_DRIP,
    FaultKind.WRONG_LENGTH,
    FaultKind.WRONG_TYPE,
    FaultKind.WRONG_CHARSET,
    FaultKind.BYTE_ORDER_MARK,
    FaultKind.BLANKS,
    FaultKind.GZIP_BOMB,
    FaultKind.BROTLI_BOMB,
    FaultKind.ENTITY_BOMB,
    FaultKind.DEEP_BODY,
    FaultKind.WIDE_BODY,
    FaultKind.HTML,
    FaultKind.EMPTY,
    FaultKind.GARBAGE_BODY,
    FaultKind.CHUNKED_NONSENSE,
    FaultKind.STATUS,
    FaultKind.REDIRECT,
    FaultKind.ECHO_SECRETS,
    FaultKind.DUPLICATE,
    FaultKind.SHUFFLE,
    FaultKind.OTHER_TASK,
    FaultKind.BACKWARDS,
    FaultKind.UNAUTHORIZED,
]
"""Each may befall any reply; none ends a task, and none changes an outcome."""

OTHERS = {FaultKind.VANISH, FaultKind.FORBIDDEN, FaultKind.NO_TOKEN}
"""By these the server itself ends a task or a logon; they have tests of their own."""


def planned(server: SimulatedServer, count: int) -> tuple[list[str], list[str]]:
    """Add tasks of which every fifth fails; return the IDs, and those that fail."""
    ids: list[str] = []
    failing: list[str] = []
    for number in range(count):
        fails = number % 5 == 4
        end = "failed 'Disk full'" if fails else "ok"
        script = f"Running {10 + number % 40}s, OperationFinished 5s, Finished {end}"
        ids.append(server.add_task(script).task_id)
        if fails:
            failing.append(ids[-1])
    return ids, failing


async def watched_to_the_end(em: SessionManager, ids: list[str]) -> Report:
    """Watch tasks to their ends; each event in order, one final one each."""
    last: dict[str, int] = {}
    ended: set[str] = set()
    async with em.watch(ids, timeout=24 * 3600) as watch:
        async for event in watch:
            assert event.task_id not in ended
            assert event.sequence == last.get(event.task_id, 0) + 1
            last[event.task_id] = event.sequence
            if event.is_final:
                ended.add(event.task_id)
        return watch.report


@MODES
@pytest.mark.parametrize("kind", RIDDEN_OUT, ids=str)
async def test_a_fault_ends_no_task_and_changes_no_outcome(
    kind: FaultKind, mode: str
) -> None:
    """Under any fault in many of the replies each outcome is the true one."""
    # Tasks outlive their logon session here, since a 401 brings a new one.
    async with (
        SimulatedServer(seed=1, session_scoped=False) as server,
        door(server, coalesce=mode, pace=QUICK, request_timeout=5) as em,
    ):
        ids, failing = planned(server, 12)
        faults = [Fault(kind, method="GET", path=TASKS, share=0.33, seed=2)]
        if kind is FaultKind.UNAUTHORIZED:
            # A task that answers 401 four times running is lost, so none has four.
            faults = [Fault(kind, path=r"/tasks$", share=0.33, seed=2)]
            faults += [
                Fault(kind, path=f"tasks/{one}$", share=0.33, seed=2, times=3)
                for one in ids
            ]
        for fault in faults:
            server.faults.add(fault)
        report = await watched_to_the_end(em, ids)
        assert any(fault.played for fault in faults), report
        assert list(report.failed) == failing, report
        assert len(report.succeeded) == len(ids) - len(failing)
        server.faults.clear()
    if kind is not FaultKind.UNAUTHORIZED:
        # A logon session that is refused has ended, the protocol says; so it is not
        # logged out, and this fault alone leaves some to the idle limit.
        assert server.logon_sessions == []


def test_every_kind_of_fault_has_its_outcome() -> None:
    """The matrix has no hole: what the simulator can spoil, a test spoils here."""
    assert OTHERS | set(RIDDEN_OUT) == set(FaultKind)


@MODES
@pytest.mark.parametrize("kind", ["reset_after_headers", "cut_close", "cut_body"])
async def test_tls_that_closes_without_notice(kind: str, mode: str) -> None:
    """What is cut under TLS is never taken for the whole, and the watch goes on."""
    async with (
        SimulatedServer(tls=True) as server,
        door(server, coalesce=mode, pace=QUICK) as em,
    ):
        ids, failing = planned(server, 6)
        fault = Fault(kind, method="GET", path=TASKS, every=3)
        server.faults.add(fault)
        report = await watched_to_the_end(em, ids)
        assert fault.played > 0
        assert list(report.failed) == failing
        assert (report.lost, report.unfinished) == ((), ())


async def test_a_logon_without_a_token_is_no_logon() -> None:
    """Some other service answered: it is said so, once, and nothing is watched."""
    async with SimulatedServer() as server:
        server.faults.add(Fault("no_token", path="sessionMngr"))
        with pytest.raises(MalformedReplyError, match="not an Enterprise Manager"):
            await door(server)
        assert server.logons.total == 1


@pytest.mark.lengthy
@pytest.mark.parametrize("mode", ["never", "auto", "always"])
async def test_fifteen_bad_replies_in_a_hundred(
    mode: str, record_property: Record
) -> None:
    """1,000 tasks, 15 % of the replies bad: none lost, none wrong, none hangs."""
    kinds = ("reset", "cut_body", "garbage", "html", "stall", "status")
    async with (
        SimulatedServer(seed=3) as server,
        door(server, coalesce=mode, pace=QUICK, request_timeout=5) as em,
    ):
        ids, failing = planned(server, 1000)
        each = 0.15 / 8
        faults = [
            Fault(kind, method="GET", path=TASKS, share=each, seed=number, status=500)
            for number, kind in enumerate(kinds)
        ]
        faults += [
            Fault("status", method="GET", path=TASKS, share=each, seed=9, status=502),
            Fault("status", method="GET", path=TASKS, share=each, seed=8, status=503),
        ]
        for fault in faults:
            server.faults.add(fault)
        report = await watched_to_the_end(em, ids)
        bad = sum(fault.played for fault in faults)
        wrong = set(report.failed) ^ set(failing)
        record_property("bad replies", bad)
        missed = len(report.lost) + len(wrong) + len(report.unfinished)
        record_property("lost, wrong or unfinished", missed)
        assert bad > 0
        assert not wrong
        assert (report.lost, report.unfinished) == ((), ())
        server.faults.clear()


@MODES
async def test_backward_states_are_told_as_they_are_seen(mode: str) -> None:
    """A state that goes back is an event like any other, and ends nothing."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=Pace(first=1, longest=1)) as em,
    ):
        task = server.add_task("OperationFinished")
        async with em.watch(task.task_id) as watch:
            assert (await anext(watch)).state is TaskState.OPERATION_FINISHED
            task.set_state("Running")
            back = await anext(watch)
            assert back.previous is TaskState.OPERATION_FINISHED
            assert (back.state, back.is_final) == (TaskState.RUNNING, False)
            task.finish()
            assert (await anext(watch)).succeeded


@MODES
async def test_a_task_that_vanishes_for_one_reply_is_not_lost(mode: str) -> None:
    """One reply that it is unknown proves nothing, however often one comes."""
    async with (
        SimulatedServer() as server,
        door(server, coalesce=mode, pace=Pace(first=1, longest=1)) as em,
    ):
        task = server.add_task("Running 10s, Finished ok")
        server.faults.add(Fault("vanish", method="GET", path=TASKS, after=2, every=7))
        assert (await em.wait(task.task_id, timeout=60)).succeeded


async def test_a_redirect_is_not_followed() -> None:
    """A redirect is an error that names where it pointed; the token stays here."""
    async with (
        SimulatedServer() as elsewhere,
        SimulatedServer() as server,
        door(server) as em,
    ):
        task = server.add_task("Running 1h, Finished ok")
        server.faults.add(
            Fault("redirect", path=TASKS, location=f"{elsewhere.url}/elsewhere")
        )
        with pytest.raises(StatusError, match="elsewhere"):
            await em.fetch(task.task_id)
        assert elsewhere.requests.total == 0


async def test_an_outage_is_told_once_down_and_once_up() -> None:
    """However many polls fail, there is one notice down and one up."""
    kinds: list[NoticeKind] = []
    async with (
        SimulatedServer() as server,
        door(
            server,
            coalesce="never",
            pace=QUICK,
            on_notice=lambda notice: kinds.append(notice.kind),
        ) as em,
    ):
        ids, _ = planned(server, 50)
        fault = Fault("html", method="GET", path=TASKS, after=60, times=40)
        server.faults.add(fault)
        report = await watched_to_the_end(em, ids)
        assert not report.lost
        assert kinds.count(NoticeKind.UNREACHABLE) == 1
        assert kinds.count(NoticeKind.RECOVERED) == 1
