"""Checkpoints of followed runs: the job's true end is told whoever began to watch."""

import json
from typing import Any, Literal

import anyio
import pytest
from support.managers import STEADY, door, settings_for

import veeam_tasks as vt
from veeam_tasks import RunStage, SessionManager, TaskEvent, Watch, adopt
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

Links = Literal["documented", "always", "never", "late"]
SESSION = "Starting 4s, Working 6s, Postprocessing 4s, Stopped failed"
MACHINES = {"db01": "Completed failed 'No space'", "db02": None}


def saved(watch: Watch) -> dict[str, Any]:
    """Return a checkpoint as it comes back from a file."""
    value: dict[str, Any] = json.loads(json.dumps(watch.checkpoint(), allow_nan=False))
    return value


def told(event: TaskEvent) -> tuple[object, ...]:
    """Return what of an event does not depend on when it was read."""
    session = event.session
    return (
        event.sequence,
        event.stage,
        event.previous,
        event.state,
        session and (session.session_id, session.raw_state, session.raw_result),
        event.is_final,
        event.succeeded,
        [(one.vm_name, one.reason) for one in event.failures],
        type(event.error),
    )


def without_progress(events: list[TaskEvent]) -> list[tuple[object, ...]]:
    """Return what was told, less what only the progress tells apart."""
    shown = [told(event)[1:] for event in events]
    return [one for at, one in enumerate(shown) if at == 0 or one != shown[at - 1]]


def check(before: list[TaskEvent], after: list[TaskEvent]) -> None:
    """Check that two lists of events of one task are one without a gap or a double."""
    events = [*before, *after]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
    order = list(RunStage)
    stages = [order.index(event.stage) for event in events]
    assert stages == sorted(stages)
    states = [event.state for event in events]
    assert [event.previous for event in after] == ([None, *states][len(before) : -1])


@pytest.mark.parametrize("is_same", [True, False])
@pytest.mark.parametrize("links", ["documented", "always", "never", "late"])
async def test_from_each_checkpoint_the_run_goes_on_to_its_end(
    links: Links,
    is_same: bool,
) -> None:
    """After any event, under the same logon session or another: the same end.

    In another one the task is not known any more: whatever was to be told of it is
    lost, and the job session is found and followed all the same.
    """
    async with SimulatedServer(job_links=links) as server:
        job = server.add_job("Oracle", session=SESSION, machines=MACHINES, history=9)
        async with door(server, pace=STEADY) as em:
            watch = em.watch(
                await em.submit(f"{job.path}?action=start"), follow=True, pace=STEADY
            )
            states = [saved(watch)]
            events: list[TaskEvent] = []
            resumed: list[tuple[int, list[TaskEvent]]] = []

            async def go_on(at: int) -> None:
                assert em.token is not None
                options = settings_for(server, {})
                manager: Any = (
                    adopt(em.url, em.token, **options) if is_same else door(server)
                )
                async with manager as other:
                    again = other.resume(states[at], pace=STEADY)
                    resumed.append((at, [event async for event in again]))

            async with anyio.create_task_group() as group:
                group.start_soon(go_on, 0)
                async for event in watch:
                    events.append(event)
                    states.append(saved(watch))
                    group.start_soon(go_on, len(events))
        assert len(resumed) == len(events) + 1
        job_session = server.job_sessions[-1].session_id
        assert events[-1].succeeded is False
        assert [one.vm_name for one in events[-1].failures] == ["db01"]
        for at, rest in resumed:
            if at == len(events):
                assert rest == []
                continue
            check(events[:at], rest)
            last = rest[-1]
            is_linked = at < len(events) and links in {"always", "late"}
            if last.error is not None:
                # Its task was lost before it had linked to the session.
                assert is_linked
                assert not is_same
                continue
            assert last.session is not None
            assert last.session.session_id == job_session
            assert told(last)[1:] == told(events[-1])[1:]
            if is_same:
                both = [*events[:at], *rest]
                assert without_progress(both) == without_progress(events)


async def killed_while(
    server: SimulatedServer, stage: RunStage, **options: Any
) -> dict[str, Any]:
    """Return the checkpoint of a watch that was ended when its run was so far."""
    job = server.add_job("Oracle", session=SESSION, machines=MACHINES)
    async with door(server, pace=STEADY) as em:
        watch = em.watch(
            await em.submit(f"{job.path}?action=start"), follow=True, **options
        )
        async for event in watch:
            if event.stage is stage:
                break
        return saved(watch)


async def test_an_end_that_came_while_nobody_ran_is_told() -> None:
    """The job ended in between: its result and the reasons of its machines are told."""
    async with SimulatedServer() as server:
        state = await killed_while(server, RunStage.SESSION)
        await anyio.sleep(1000)
        async with door(server) as other:
            watch = other.resume(state)
            events = [event async for event in watch]
            report = watch.report
    assert [event.is_final for event in events] == [True]
    assert events[0].not_before is not None
    assert events[0].session is not None
    assert events[0].session.result is vt.SessionResult.FAILED
    assert [one.reason for one in events[0].failures] == ["No space"]
    assert report.failed == ("task-1",)


async def test_a_search_has_one_more_look_however_long_nobody_ran() -> None:
    """A job session that began in time is found after its deadline has passed."""
    async with SimulatedServer(session_delay=100) as server:
        state = await killed_while(server, RunStage.SEARCHING)
        await anyio.sleep(10_000)
        async with door(server) as other:
            events = [event async for event in other.resume(state)]
    assert events[-1].session is not None
    assert events[-1].succeeded is False


async def test_a_later_run_of_the_job_is_not_taken_for_ours() -> None:
    """The oldest since the start is ours, also for a process that did not start it."""
    async with SimulatedServer(session_delay=5) as server:
        state = await killed_while(server, RunStage.SEARCHING)
        mine = server.job_sessions[-1].session_id
        async with door(server) as other:
            job = server.jobs[-1]
            await anyio.sleep(60)
            await other.submit(f"{job.path}?action=start")
            events = [event async for event in other.resume(state)]
    assert events[-1].session is not None
    assert events[-1].session.session_id == mine


async def test_owed_ends_of_task_and_run_are_both_told() -> None:
    """Neither was taken: the end of the task comes first, then that of the job."""
    async with SimulatedServer(job_links="always") as server:
        job = server.add_job("Oracle", session=SESSION, machines=MACHINES)
        async with door(server, pace=STEADY) as em:
            watch = em.watch(await em.submit(f"{job.path}?action=start"), follow=True)
            await anext(watch)
            await anyio.sleep(100)
            state = saved(watch)
        async with door(server) as other:
            watch = other.resume(state)
            events = [event async for event in watch]
            assert other.statistics().polls == 0
    assert [(event.stage, event.is_final) for event in events] == [
        (RunStage.SEARCHING, False),
        (RunStage.SESSION, True),
    ]
    assert [event.sequence for event in events] == [2, 3]
    assert [one.vm_name for one in events[-1].failures] == ["db01"]


async def test_what_had_ended_stays_in_the_report() -> None:
    """A run that ended with a warning is still one; nothing is asked for."""
    async with SimulatedServer() as server:
        job = server.add_job("Oracle", session="Working 5s, Stopped warning")
        async with door(server) as em:
            watch = em.watch(await em.submit(f"{job.path}?action=start"), follow=True)
            await watch.wait()
            state = saved(watch)
        async with door(server) as other:
            report = await other.resume(state).wait()
    assert report.warnings == report.succeeded == ("task-1",)


async def test_it_goes_on_from_a_checkpoint_of_what_was_resumed() -> None:
    """A process that is killed again and again loses nothing on the way."""
    async with SimulatedServer() as server:
        job = server.add_job("Oracle", session=SESSION, machines=MACHINES)
        async with door(server) as em:
            state = saved(
                em.watch(await em.submit(f"{job.path}?action=start"), follow=True)
            )
        events: list[TaskEvent] = []
        for _ in range(30):
            async with door(server) as other:
                watch = other.resume(state, pace=STEADY)
                events += await some_of(watch)
                state = saved(watch)
        check([], events)
        assert events[-1].session is not None
        assert events[-1].session.session_id == server.job_sessions[-1].session_id


async def some_of(watch: Watch) -> list[TaskEvent]:
    """Return what a watch tells within two seconds."""
    events: list[TaskEvent] = []
    with anyio.move_on_after(2):
        async for event in watch:
            events.append(event)  # noqa: PERF401 - they are kept if time runs out
    return events


async def test_two_starts_of_one_job_keep_their_own_runs() -> None:
    """The earlier start has the older job session, also after both were resumed."""
    async with SimulatedServer(session_delay=8) as server:
        job = server.add_job(
            "Oracle", session="Working 60s, Stopped", machines=MACHINES
        )
        async with door(server) as em:
            first = await em.submit(f"{job.path}?action=start")
            await anyio.sleep(2)
            second = await em.submit(f"{job.path}?action=start")
            watch = em.watch(second, first, follow=True)
            assert isinstance(em, SessionManager)
            for _ in range(2):
                await anext(watch)
            state = saved(watch)
        async with door(server) as other:
            report = await other.resume(state).wait()
    sessions = [one.session_id for one in server.job_sessions]
    found = {
        task_id: event and event.session and event.session.session_id
        for task_id, event in report.outcomes.items()
    }
    assert found == dict(zip(["task-1", "task-2"], sessions, strict=True))


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("seconds", [1, 6, 20])
@pytest.mark.parametrize("renewed", [False, True])
async def test_what_this_process_has_started_itself_may_be_resumed_in_it(
    is_closed: bool, seconds: float, renewed: bool
) -> None:
    """The job session that the first watch has found is that of the second one, too."""
    async with SimulatedServer(session_delay=8, job_links="never") as server:
        job = server.add_job("Oracle", session="Working 60s, Stopped")
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            watch = em.watch(task, follow=True)
            state = saved(watch)
            await anyio.sleep(seconds)
            if renewed:
                server.expire_logon_sessions()
                await em.fetch_all()
            else:
                state = saved(watch)
            if is_closed:
                await watch.aclose()
            again = em.resume(state)
            reports = [await one.wait() for one in [again, watch][: 2 - is_closed]]
    assert [report.succeeded for report in reports] == [("task-1",)] * len(reports)


@pytest.mark.parametrize("seconds", [0, 3])
async def test_a_job_is_found_though_two_checkpoints_lie_between(
    seconds: float,
) -> None:
    """The second is made before the task was looked at, under its own logon session."""
    async with SimulatedServer(job_links="never", session_delay=8) as server:
        job = server.add_job("Oracle", session="Working 60s, Stopped")
        async with door(server) as em:
            task = await em.submit(f"{job.path}?action=start")
            watch = em.watch(task, follow=True)
            await anext(watch)
            await anyio.sleep(seconds)
            state = saved(watch)
        async with door(server) as other:
            state = saved(other.resume(state))
            assert other.token is not None
            options = settings_for(server, {})
            async with adopt(server.url, other.token, **options) as third:
                report = await third.resume(state).wait()
    assert report.succeeded == ("task-1",)
