"""Tasks watched by many triggers of one process, to their ends."""

import anyio
import pytest
from support.airflow_parts import FixedSource, source_of
from support.variables import MemoryStore

import veeam_tasks as vt
from veeam_tasks.airflow._managers import (
    IDLE_SECONDS,
    KEEP_SECONDS,
    KEPT_GONE,
    WORKERS,
    Managers,
    Uses,
)
from veeam_tasks.airflow._shared_logon import LogonRefusedError
from veeam_tasks.airflow._submitting import with_logon
from veeam_tasks.airflow._watching import (
    Outcome,
    Watching,
    checkpoint_of,
    delete_tasks,
    is_checkpoint,
    reason_of,
    report_of,
)
from veeam_tasks.simulator import SimulatedServer

USE = "veeam_em_use__em__"


async def start(
    simulated: SimulatedServer, source: FixedSource, count: int = 1
) -> tuple[str, list[dict[str, object]]]:
    """Start a job as workers do; return the reference and the checkpoints."""

    async def submit(em: vt.SessionManager, _: object) -> list[dict[str, object]]:
        path = f"{simulated.jobs[0].path}?action=start"
        return [
            await checkpoint_of(
                em, await em.submit(path), follow=True, find_timeout=60.0
            )
            for _ in range(count)
        ]

    checkpoints = await with_logon(source, submit)
    return (await (await source.shared_logon()).current()).reference, checkpoints


async def watch(
    managers: Managers,
    source: FixedSource,
    reference: str | None,
    checkpoints: list[dict[str, object]],
) -> list[Outcome]:
    """Do what a trigger does."""
    watching = Watching(list(checkpoints), lambda _: None)
    return await watching.to_the_end(managers, source, reference)


@pytest.mark.virtual_time
async def test_triggers_share_a_manager_and_read_the_connection_once() -> None:
    """One logon session, one connection to the API of Airflow; all ends are right."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers()
        reference, checkpoints = await start(simulated, source, 30)
        before = source.reads
        ends: list[Outcome] = []

        async def run(checkpoint: dict[str, object]) -> None:
            ends.extend(await watch(managers, source, reference, [checkpoint]))

        async with anyio.create_task_group() as tasks:
            for checkpoint in checkpoints:
                tasks.start_soon(run, checkpoint)
        assert {end["outcome"] for end in ends} == {"succeeded"}
        assert len({end["task_id"] for end in ends}) == 30
        assert all(end["session"]["result"] == "Success" for end in ends)
        assert source.reads == before + 1
        assert len(simulated.logons) == 1
        await anyio.sleep(KEEP_SECONDS + 1)


@pytest.mark.virtual_time
async def test_a_renewal_in_the_middle_is_made_once_for_all_triggers() -> None:
    """Jobs belong to the server: their ends are learnt under the next logon session."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers()
        reference, checkpoints = await start(simulated, source, 10)
        ends: list[Outcome] = []

        async def run(checkpoint: dict[str, object]) -> None:
            ends.extend(await watch(managers, source, reference, [checkpoint]))

        async with anyio.create_task_group() as tasks:
            for checkpoint in checkpoints:
                tasks.start_soon(run, checkpoint)
            await anyio.sleep(2)
            simulated.expire_logon_sessions(keep_tasks=True)
        assert {end["outcome"] for end in ends} == {"succeeded"}
        assert len(ends) == 10
        assert len(simulated.logons) == 2
        await anyio.sleep(KEEP_SECONDS + 1)


@pytest.mark.virtual_time
async def test_the_last_user_of_all_processes_logs_out() -> None:
    """Not before 30 s without a user, and not while another process is at it."""
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        reference, checkpoints = await start(simulated, source)
        one, other = Managers(), Managers()
        await Uses("em", source.store).is_last(WORKERS)
        async with other.use(source, reference):
            await watch(one, source, reference, checkpoints)
            await anyio.sleep(KEEP_SECONDS - 1)
            assert len(simulated.logon_sessions) == 1
            await anyio.sleep(2)
            assert len(simulated.logon_sessions) == 1
        await anyio.sleep(KEEP_SECONDS - 1)
        assert len(simulated.logon_sessions) == 1
        await anyio.sleep(2)
        assert not simulated.logon_sessions
    assert source.store.values == {}


@pytest.mark.virtual_time
async def test_a_task_that_waits_for_a_triggerer_keeps_the_logon_session() -> None:
    """A worker has used it less than 15 minutes ago, so its task may be deferred."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers()
        reference, checkpoints = await start(simulated, source)
        await watch(managers, source, reference, checkpoints)
        await anyio.sleep(KEEP_SECONDS + 1)
        assert repr(managers) == "<Managers 0 of logon sessions, 0 users>"
        assert len(simulated.logon_sessions) == 1
        assert source.store.values.keys() == {
            f"{USE}{WORKERS}",
            "veeam_em_token__em",
        }


@pytest.mark.virtual_time
async def test_a_note_of_a_process_that_died_ages() -> None:
    """After the idle time of the server it holds up no log-out."""
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        uses = Uses("em", source.store)
        await uses.note("dead")
        assert not await uses.is_last("me")
        await anyio.sleep(IDLE_SECONDS + 1)
        assert await uses.is_last("me")
        assert source.store.values == {}


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "soon", "9e99", ""])
async def test_a_note_that_a_person_wrote_holds_up_no_log_out(text: str) -> None:
    """It says of no moment at all that the logon session was in use."""
    store = MemoryStore({f"{USE}workers": text})
    assert await Uses("em", store).is_last("me")


async def test_a_note_of_another_connection_is_left_alone() -> None:
    """Its name begins with the name of ours; it is neither heeded nor deleted."""
    store = MemoryStore(time=0.0)
    await Uses("em__x", store).note(WORKERS)
    store.values[f"{USE}y__workers"] = "0"
    before = dict(store.values)
    assert await Uses("em", store).is_last("me")
    assert store.values == before


@pytest.mark.virtual_time
async def test_a_process_that_goes_on_renews_its_note() -> None:
    """A job of hours is in use all the time."""
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        async with Managers(keep=0).use(source, None):
            await Uses("em", source.store).is_last(WORKERS)
            await anyio.sleep(3 * IDLE_SECONDS)
            assert not await Uses("em", source.store).is_last("me")
            assert len(simulated.logon_sessions) == 1
        await anyio.sleep(1)
        assert not simulated.logon_sessions


async def test_a_trigger_of_a_logon_session_that_is_gone_takes_the_next() -> None:
    """What its tasks have become is known there, or lost; the Variable is the truth."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers(keep=0)
        await start(simulated, source)
        before = source.reads
        for _ in range(3):
            async with managers.use(source, "gone") as held:
                assert held.reference != "gone"
                kept = held
                async with managers.use(source, "gone") as other:
                    assert other is kept
        assert source.reads <= before + 3
        await anyio.wait_all_tasks_blocked()


async def test_months_of_renewals_leave_a_bounded_memory_of_dead_logon_sessions() -> (
    None
):
    """The oldest are forgotten, and whoever still names one gets the manager, too."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers(keep=0)
        async with managers.use(source, None) as held:
            for number in range(KEPT_GONE + 5):
                async with managers.use(source, f"gone-{number}") as other:
                    assert other is held
            assert len(managers._gone) == KEPT_GONE
            for dead in ("gone-0", held.reference):
                async with managers.use(source, "gone-0", dead=dead) as other:
                    assert (other is held) == (dead == "gone-0")
            assert len(managers._gone) == KEPT_GONE
        await anyio.wait_all_tasks_blocked()


async def test_a_refused_logon_reaches_every_trigger_and_is_asked_once() -> None:
    """The account is not locked by a thousand triggers."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated, password="wrong-one"), Managers()
        refused = 0

        async def use() -> None:
            nonlocal refused
            with pytest.raises(LogonRefusedError):
                async with managers.use(source, None):
                    pass
            refused += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(use)
        assert refused == 10
        assert len(simulated.logons) == 1


@pytest.mark.virtual_time
async def test_an_outage_at_the_time_of_a_renewal_is_ridden_out() -> None:
    """The triggers wait for the server; patience ends that where it is given."""
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        managers = Managers(keep=0)
        await simulated.pause()
        used = []

        async def use() -> None:
            async with managers.use(source, None) as held:
                used.append(held)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use)
            await anyio.sleep(200)
            assert not used
            await simulated.resume()
        assert used
        await anyio.sleep(1)
        await simulated.pause()
        impatient = source_of(simulated, patience=10.0)
        with pytest.raises((vt.TransportError, TimeoutError)):
            async with Managers().use(impatient, None):
                pass


def test_a_line_says_how_it_ended_and_why() -> None:
    """The first reasons of the machines, not all thousand."""
    outcome = {
        "task_id": "task-1",
        "outcome": "failed",
        "error": "the job failed",
        "message": "Ok",
        "session": {"job_name": "Nightly"},
        "failures": [
            {"vm": f"vm{n}", "result": "Failed", "reason": "Disk full" if n else None}
            for n in range(5)
        ],
    }
    assert reason_of(outcome) == (
        "task-1 Nightly: failed:"
        " vm0: Failed; vm1: Disk full; vm2: Disk full; and 2 more"
    )
    bare = {**outcome, "session": None, "failures": [], "error": None, "message": None}
    assert reason_of(bare) == "task-1: failed"
    assert report_of([outcome, bare])["failed"] == 2
    noisy = {**bare, "message": "a\x1b[31mb\u202ec\r\nd"}
    assert reason_of(noisy) == r"task-1: failed: a\x1b[31mb\u202ec\r\nd"


@pytest.mark.virtual_time
async def test_a_trigger_that_begins_under_a_token_just_refused_renews_it() -> None:
    """It may be the first to meet that: those at work learn of it a moment later."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers(keep=0)
        reference, checkpoints = await start(simulated, source)
        async with managers.use(source, reference) as held:
            simulated.expire_logon_sessions(keep_tasks=True)
            with pytest.raises(vt.LogonError):
                await held.manager.fetch("task-1")
            (end,) = await watch(managers, source, reference, checkpoints)
        assert end["outcome"] == "succeeded"
        assert len(simulated.logons) == 2
        await anyio.sleep(1)


async def test_tasks_are_deleted_under_their_own_logon_session_alone() -> None:
    """Under the next one the same ID may be another's task."""
    async with SimulatedServer() as simulated:
        source, managers = source_of(simulated), Managers(keep=0)
        reference, checkpoints = await start(simulated, source, 2)
        async with managers.use(source, reference) as held:
            (why,) = await delete_tasks(held, "before", checkpoints)
            assert "nothing was deleted" in why
            assert not [one for one in simulated.requests if one.method == "DELETE"]
            assert await delete_tasks(held, reference, checkpoints) == []
            whys = await delete_tasks(held, reference, checkpoints)
        deleted = [one for one in simulated.requests if one.method == "DELETE"]
        assert len(deleted) == 4
        assert all("was not deleted" in why for why in whys)
        assert len(whys) == 2
        await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    "value", [None, 7, {}, {"task": "t"}, {"task": "t", "watch": 1}, ["task-1"]]
)
def test_what_is_no_checkpoint_is_told_from_one(value: object) -> None:
    """A sensor may be given the XCom of anything."""
    assert not is_checkpoint(value)
    assert is_checkpoint({"task": "task-1", "watch": {"version": 1}})
