"""Actions are sent at most once, over the tries of an Airflow task."""

from typing import Any

import anyio
import pytest
from support.airflow_parts import (
    FixedSource,
    MemoryOfTries,
    WorkerDiedError,
    source_of,
)

import veeam_tasks as vt
from veeam_tasks.airflow._shared_logon import Logon
from veeam_tasks.airflow._submitting import (
    Action,
    Step,
    Submitting,
    keys_of,
    next_step,
    remember_ends,
)
from veeam_tasks.simulator import Fault, SimulatedServer


def actions_sent(simulated: SimulatedServer) -> list[str]:
    """Return the paths of the actions that reached the server."""
    return [
        f"{one.path}?{one.query}"
        for one in simulated.requests
        if "action=" in one.query
    ]


async def try_once(
    source: FixedSource, memory: MemoryOfTries, *actions: Action, max_tries: int = 2
) -> Submitting:
    """Do what a try of the Airflow task does."""
    submitting = Submitting(source, memory, max_tries)
    await submitting.run(actions)
    return submitting


def start(simulated: SimulatedServer, number: int = 0) -> Action:
    """Return the start of a job of that server."""
    return Action(path=f"{simulated.jobs[number].path}?action=start")


@pytest.mark.parametrize(
    ("remembered", "by_retry", "by_person"),
    [
        (None, Step.SEND, Step.SEND),
        ({"noted": "sending"}, Step.GIVE_UP, Step.SEND),
        (
            {"noted": "started", "checkpoint": {}, "reference": "r"},
            *(Step.WATCH, Step.WATCH),
        ),
        ({"noted": "ended", "outcome": {"outcome": "failed"}}, Step.SEND, Step.SEND),
        ({"noted": "ended", "outcome": {"outcome": "lost"}}, Step.KEEP, Step.SEND),
        ({"noted": "ended", "outcome": {"outcome": "succeeded"}}, Step.KEEP, Step.SEND),
        ({"noted": "ended", "outcome": {"outcome": "warning"}}, Step.KEEP, Step.SEND),
    ],
)
def test_only_a_person_has_sent_again_what_may_run(
    remembered: dict[str, Any] | None, by_retry: Step, by_person: Step
) -> None:
    """A retry sends what was never sent or is known to have failed."""
    if remembered is not None:
        remembered = {"max_tries": 2, **remembered}
    assert next_step(remembered, 2) is by_retry
    assert next_step(remembered, 4) is by_person


@pytest.mark.parametrize(
    "remembered",
    [
        *("sending", 7, [], {}, {"noted": "tried"}, {"max_tries": 1}),
        {"noted": "started", "max_tries": "2", "checkpoint": None},
        {"noted": "ended", "max_tries": 2, "outcome": "failed"},
        {"noted": "ended", "max_tries": 2, "outcome": {}},
    ],
)
def test_what_nobody_can_read_is_taken_for_sent(remembered: object) -> None:
    """A store that someone else wrote to is no reason to start a job twice."""
    assert next_step(remembered, 1) is Step.GIVE_UP


async def test_what_was_started_is_found_again_by_the_next_try() -> None:
    """It is watched on; nothing is sent."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source, action = source_of(simulated), start(simulated)
        first = await try_once(source, memory, action)
        again = await try_once(source, memory, action)
        assert first.checkpoints == again.checkpoints
        assert first.checkpoints[0]["task"] == "task-1"
        assert again.reference == first.reference is not None
        assert len(actions_sent(simulated)) == 1


async def test_a_worker_that_died_with_the_reply_leaves_a_doubt() -> None:
    """The next try sends nothing and says so; a person may send it again."""
    memory = MemoryOfTries(dies_before="started")
    async with SimulatedServer() as simulated:
        source, action = source_of(simulated), start(simulated)
        with pytest.raises(BaseExceptionGroup) as caught:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(try_once, source, memory, action)
        assert caught.group_contains(WorkerDiedError)
        memory.dies_before = None
        for _ in range(3):
            retried = await try_once(source, memory, action)
            assert retried.outcomes[0]["outcome"] == "uncertain"
            assert "may have been carried out" in retried.outcomes[0]["error"]
            assert not retried.checkpoints
        assert len(actions_sent(simulated)) == 1
        cleared = await try_once(source, memory, action, max_tries=5)
        assert cleared.checkpoints
        assert len(actions_sent(simulated)) == 2


async def test_a_worker_that_died_before_it_wrote_has_sent_nothing() -> None:
    """So the next try sends it."""
    memory = MemoryOfTries(dies_before="sending")
    async with SimulatedServer() as simulated:
        source, action = source_of(simulated), start(simulated)
        with pytest.raises(WorkerDiedError):
            await try_once(source, memory, action)
        assert not actions_sent(simulated)
        memory.dies_before = None
        assert (await try_once(source, memory, action)).checkpoints


async def test_a_dead_token_is_renewed_and_the_action_sent_once_more() -> None:
    """What is refused with 401 was not carried out; those before it stay."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        await try_once(source, memory, start(simulated))
        simulated.expire_logon_sessions()
        both = await try_once(source, memory, start(simulated), start(simulated, 1))
        assert both.checkpoints.keys() == {0, 1}
        assert [one.accepted for one in simulated.logons] == [True, True]
        assert len(simulated.tasks) == 2


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault("reset", path="jobs"), "uncertain"),
        (Fault("status", path="jobs", status=500), "uncertain"),
        (Fault("status", path="jobs", status=503), "uncertain"),
        (Fault("status", path="jobs", status=403), "failed"),
        (Fault("status", path="jobs", status=404), "failed"),
    ],
)
async def test_an_error_tells_whether_it_may_have_been_carried_out(
    fault: Fault, outcome: str
) -> None:
    """In doubt no retry sends it; otherwise each does."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        simulated.faults.add(fault)
        source, action = source_of(simulated), start(simulated)
        tried = await try_once(source, memory, action)
        assert tried.outcomes[0]["outcome"] == outcome
        simulated.faults.clear()
        again = await try_once(source, memory, action)
        assert bool(again.checkpoints) is (outcome == "failed")


async def test_a_server_that_is_down_gets_no_second_request_of_the_same_try() -> None:
    """A thousand actions would else wait a thousand times for the same."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        first = start(simulated)
        await try_once(source, memory, first)
    tried = await try_once(source, memory, first, *(Action(path="jobs/x"),) * 3)
    assert tried.checkpoints.keys() == {0}
    assert [tried.outcomes[place]["outcome"] for place in (1, 2, 3)] == ["failed"] * 3
    assert all("not carried out" in one["error"] for one in tried.outcomes.values())
    assert memory.values.keys() == {"veeam_tried", *keys_of([first])}


async def test_jobs_are_started_by_name_or_id() -> None:
    """Names are looked up with one reading of all jobs; an ID needs none."""
    async with SimulatedServer() as simulated:
        job = simulated.add_job("Nightly")
        simulated.add_job("Laptops", kind="AgentBackup")
        source = source_of(simulated)
        await try_once(source, MemoryOfTries(), Action(job=job.job_id, verb="stop"))
        assert actions_sent(simulated) == [f"/api/{job.path}?action=stop"]
        named = (Action(job="Nightly"), Action(job="laptops"))
        tried = await try_once(source, MemoryOfTries(), *named)
        assert tried.checkpoints.keys() == {0, 1}
        queries = [one for one in simulated.requests if "/query" in one.path]
        assert len(queries) == 1


async def test_a_retry_keeps_what_succeeded_and_sends_what_failed() -> None:
    """Of many actions in one Airflow task."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        actions = start(simulated), start(simulated, 1)
        first = await try_once(source, memory, *actions)
        ends = {
            place: {"outcome": word, "task_id": first.checkpoints[place]["task"]}
            for place, word in enumerate(("succeeded", "failed"))
        }
        await remember_ends(memory, actions, ends)
        again = await try_once(source, memory, *actions)
        assert again.outcomes == {0: ends[0]}
        assert again.checkpoints.keys() == {1}
        assert again.checkpoints[1]["task"] == "task-3"


class RefusedAfterSubmit(vt.SessionManager):
    """A manager whose token is refused while the reply to a submit comes in."""

    async def submit(self, *args: Any, **options: Any) -> vt.Task:
        """Send it, then meet the refusal."""
        task = await super().submit(*args, **options)
        await self.aclose()
        return task


async def test_what_was_sent_is_not_sent_again_because_it_cannot_be_watched() -> None:
    """A retry finds that it may have been carried out."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source, action = source_of(simulated), start(simulated)
        submitting = Submitting(source, memory, 2)
        account = {"username": "admin", "password": "admin-secret"}
        async with RefusedAfterSubmit(simulated.url, **account) as em:
            submitting._keys = keys_of([action])
            logon = Logon(reference="abc", token="unused", session_id=None)
            await submitting._send_all({0: action})(em, logon)
        assert submitting.outcomes[0]["outcome"] == "uncertain"
        assert "was started as task-1" in submitting.outcomes[0]["error"]
        assert next_step(memory.values[keys_of([action])[0]], 2) is Step.GIVE_UP
        assert len(actions_sent(simulated)) == 1


async def test_actions_are_known_again_in_another_order() -> None:
    """A list of an upstream task may come back sorted otherwise."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        one, two = start(simulated), start(simulated, 1)
        first = await try_once(source, memory, one, two, one)
        again = await try_once(source, memory, two, one, one)
        assert len(actions_sent(simulated)) == 3
        assert again.checkpoints == {
            0: first.checkpoints[1],
            1: first.checkpoints[0],
            2: first.checkpoints[2],
        }


async def test_what_is_remembered_has_no_secret() -> None:
    """Airflow's task state store is plain text."""
    memory = MemoryOfTries()
    async with SimulatedServer() as simulated:
        source = source_of(simulated)
        tried = await try_once(source, memory, start(simulated))
    shown = f"{memory.values}{tried.checkpoints}{tried.reference}"
    secrets = [*source.store.hidden, "admin-secret"]
    assert len(secrets) == 3
    assert not [one for one in secrets if one in shown]
