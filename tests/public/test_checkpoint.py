"""`Watch.checkpoint` and `SessionManager.resume`: a watch that outlives its process."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.managers import STEADY, door, settings_for
from support.virtual_time import run

import veeam_tasks as vt
from veeam_tasks import SessionManager, TaskEvent, Watch, adopt
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

Told = tuple[Any, ...]


def told(event: TaskEvent) -> Told:
    """Return what of an event does not depend on when it was read."""
    session = event.session
    return (
        event.task_id,
        event.sequence,
        event.previous,
        event.state,
        event.stage,
        None if session is None else (session.session_id, session.raw_state),
        event.is_final,
        event.succeeded,
        event.task and (event.task.raw_state, event.task.operation, event.task.result),
        type(event.error),
        [(one.vm_name, one.reason) for one in event.failures],
    )


def saved(watch: Watch) -> dict[str, Any]:
    """Return a checkpoint as it comes back from a file."""
    text = json.dumps(watch.checkpoint(), allow_nan=False)
    value: dict[str, Any] = json.loads(text)
    return value


def sharing(server: SimulatedServer, em: SessionManager) -> Any:
    """Return a door to the logon session of another manager."""
    assert em.token is not None
    return adopt(em.url, em.token, **settings_for(server, {}))


async def rest_of(watch: Watch) -> list[Told]:
    """Read a watch to its end."""
    return [told(event) async for event in watch]


# --- what is told, and what is not


async def test_what_was_taken_is_not_told_again_and_what_was_not_is() -> None:
    """Under the same logon session the events go on where they stood."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running 5s, OperationFinished 5s, Finished failed 'no disk'")
        server.add_task("Running 5s, Finished ok")
        server.add_task("Finished ok")
        watch = em.watch("task-1", "task-2", "task-3")
        first = [told(await anext(watch)) for _ in range(3)]
        state = saved(watch)
        rest = await rest_of(watch)
        async with sharing(server, em) as other:
            again = other.resume(state)
            events = await rest_of(again)
        assert sorted(event[0] for event in first) == ["task-1", "task-2", "task-3"]
        assert {event[0] for event in events} == {event[0] for event in rest}
        finals = [event for event in events if event[6]]
        assert [(one[0], one[1], one[7]) for one in finals] == [
            ("task-1", 2, False),
            ("task-2", 2, True),
        ]
        report = again.report
        assert report.failed == ("task-1",)
        assert report.succeeded == ("task-2", "task-3")
        assert list(report.outcomes) == ["task-1", "task-2", "task-3"]


async def test_an_end_that_was_seen_and_not_taken_is_told() -> None:
    """Also where the next logon session knows nothing of the task any more."""
    async with SimulatedServer() as server:
        async with door(server) as em:
            server.add_task("Running 3s, Finished failed 'no disk'")
            watch = em.watch("task-1")
            await anext(watch)
            await anyio.sleep(10)
            state = saved(watch)
        async with door(server) as other:
            (event,) = [event async for event in other.resume(state)]
        assert (event.sequence, event.previous) == (2, vt.TaskState.RUNNING)
        assert (event.is_final, event.succeeded) == (True, False)
        assert event.task is not None
        assert event.task.result == vt.TaskResult(success=False, message="no disk")
        assert event.not_before is not None
        assert event.not_before <= event.observed_at


async def test_what_had_ended_is_in_the_report_and_not_told() -> None:
    """A watch whose events were all taken has nothing more to tell."""
    async with SimulatedServer() as server:
        async with door(server) as em:
            for end in ("ok", "failed 'no disk'", "unsettled"):
                server.add_task(f"Finished {end}")
            watch = em.watch("task-1", "task-2", "task-3", "task-9")
            before = await watch.wait()
            state = saved(watch)
        async with door(server) as other:
            again = other.resume(state)
            assert await rest_of(again) == []
            after = again.report
            for key in ("url", "version"):
                assert saved(again)[key] == state[key]
            # Of the logon session before this one, which a third may be under as well.
            earlier = [{**one, "earlier": True} for one in state["tasks"]]
            assert saved(again)["tasks"] == earlier
            assert other.statistics().polls == 0
        for name in ("succeeded", "failed", "lost", "unfinished"):
            assert getattr(after, name) == getattr(before, name)
        with pytest.raises(ExceptionGroup) as caught:
            after.raise_for_failures()
        assert [str(error) for error in caught.value.exceptions] == [
            str(error) for error in _failures(before)
        ]


def _failures(report: vt.Report) -> Iterator[Exception]:
    try:
        report.raise_for_failures()
    except ExceptionGroup as group:
        yield from group.exceptions


async def test_the_change_lies_between_the_last_poll_before_and_the_first_after() -> (
    None
):
    """`not_before` of the first event is from before the checkpoint."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running 100s, Finished ok")
        watch = em.watch("task-1")
        first = await anext(watch)
        await anyio.sleep(20)
        state = saved(watch)
        await watch.aclose()
        await anyio.sleep(200)
        async with sharing(server, em) as other:
            (event,) = [event async for event in other.resume(state)]
        assert event.not_before is not None
        assert first.observed_at < event.not_before <= event.observed_at


async def test_a_watch_of_all_tasks_goes_on() -> None:
    """What was told is not told again, what was discarded not at all, new ones are."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Finished ok")
        server.add_task("Running")
        server.add_task("Running")
        watch = em.watch_all()
        for _ in range(3):
            await anext(watch)
        watch.discard("task-3")
        state = saved(watch)
        await watch.aclose()
        async with sharing(server, em) as other:
            again = other.resume(state, timeout=100)
            assert again.is_endless
            server.add_task("Finished failed")
            assert [(event.task_id, event.sequence) async for event in again] == [
                ("task-4", 1)
            ]
            assert list(again.report.outcomes) == ["task-1", "task-2", "task-4"]


# --- another logon session


async def test_a_task_that_the_new_logon_session_does_not_know_is_lost() -> None:
    """It is said why, with the state in which it was seen last; sequences go on."""
    async with SimulatedServer() as server:
        async with door(server) as em:
            server.add_task("Running")
            watch = em.watch("task-1")
            await anext(watch)
            state = saved(watch)
        async with door(server) as other:
            (event,) = [event async for event in other.resume(state)]
        assert (event.state, event.is_final, event.sequence) == ("Lost", True, 2)
        assert event.previous is vt.TaskState.RUNNING
        assert "another logon session than that of the checkpoint" in str(event.error)
        assert "last seen Running, StartJob" in str(event.error)


@pytest.mark.parametrize("is_seen", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
async def test_another_task_under_the_id_is_not_taken_for_ours(
    is_seen: bool,
    is_first: bool,
) -> None:
    """Whether it was submitted before or after, and whether ours was ever polled."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly")
        async with door(server) as em:
            watch = em.watch(await em.submit(f"{job.path}?action=start"))
            if is_seen:
                await anext(watch)
            state = saved(watch)
        server.restart()
        async with door(server) as other:
            if is_first:
                await other.submit(f"{job.path}?action=start")
            watch = other.resume(state)
            if not is_first:
                started = await other.submit(f"{job.path}?action=start")
                assert started.task_id == "task-1"
            (event,) = [event async for event in watch]
            assert event.state is vt.TaskState.LOST
            assert (await other.wait("task-1")).succeeded


async def test_a_new_task_under_the_id_is_watched_when_it_is_added() -> None:
    """The old one is lost at once, and the new one is told from sequence 1."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly")
        async with door(server) as em:
            watch = em.watch(await em.submit(f"{job.path}?action=start"))
            await anext(watch)
            state = saved(watch)
        server.restart()
        async with door(server) as other:
            again = other.resume(state)
            again.add(await other.submit(f"{job.path}?action=start"))
            events = [event async for event in again]
        assert [(one.sequence, one.state == "Lost") for one in events[:2]] == [
            (2, True),
            (1, False),
        ]
        assert events[-1].succeeded


async def test_a_stranger_under_the_id_of_a_task_never_seen_is_not_ours() -> None:
    """Nobody can say whether it is the same, so it is lost."""
    async with SimulatedServer() as server:
        async with door(server) as em:
            state = saved(em.watch("task-1"))
        server.restart()
        async with door(server) as other:
            server.add_task("Finished ok")
            (event,) = [event async for event in other.resume(state)]
            assert event.state is vt.TaskState.LOST
            assert "never seen" in str(event.error)


async def resumed_as_a_stranger(
    server: SimulatedServer, em: vt.SessionManager, state: dict[str, Any]
) -> vt.TaskEvent:
    """Resume under the logon session of a manager, which has another task-1."""
    server.add_task("Finished failed", operation="DeleteJob")
    assert em.token is not None
    options = settings_for(server, {})
    async with adopt(server.url, em.token, **options) as third:
        assert state["logon"] == third.reference
        (event,) = [event async for event in third.resume(state)]
    return event


async def test_what_was_resumed_and_not_looked_at_is_still_of_an_earlier_one() -> None:
    """A checkpoint at once knows the new logon session, which is not the task's."""
    async with SimulatedServer() as server:
        async with door(server) as em:
            server.add_task("Running")
            watch = em.watch("task-1")
            await anext(watch)
            state = saved(watch)
        server.restart()
        async with door(server) as other:
            state = saved(other.resume(state))
            event = await resumed_as_a_stranger(server, other, state)
        assert event.state is vt.TaskState.LOST


async def test_what_was_not_looked_at_since_a_renewal_is_of_an_earlier_one() -> None:
    """A checkpoint in the moment of the renewal knows the new logon session."""
    states: list[dict[str, Any]] = []

    def on_notice(notice: vt.Notice) -> None:
        if notice.kind == "renewed":
            states.append(saved(watch))

    async with (
        SimulatedServer(per_session_counter=True) as server,
        door(server, on_notice=on_notice) as em,
    ):
        server.add_task("Running")
        watch = em.watch("task-1")
        await anext(watch)
        server.expire_logon_sessions()
        await em.fetch_all()
        event = await resumed_as_a_stranger(server, em, states[0])
        assert event.state is vt.TaskState.LOST


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "DeleteJob"},
        {"script": "Running"},
        {"script": "Finished ok", "related": "RestoreSession"},
    ],
)
async def test_what_cannot_be_the_same_is_lost(change: dict[str, Any]) -> None:
    """Another operation, an earlier state, another Related link."""
    mine = {"script": "OperationFinished", "operation": "StartJob"}
    async with SimulatedServer() as server:
        async with door(server) as em:
            server.add_task(**mine)  # type: ignore[arg-type] # of two kinds
            watch = em.watch("task-1")
            await anext(watch)
            state = saved(watch)
            # As servers have it that link early, which the simulated one does not.
            state["tasks"][0]["related"] = ["restoreSessions/7e9f"]
        server.restart()
        async with door(server) as other:
            server.add_task(**{**mine, **change})  # type: ignore[arg-type] # of two kinds
            (event,) = [event async for event in other.resume(state)]
        assert event.state is vt.TaskState.LOST
        assert "another task under this ID" in str(event.error)


async def test_a_task_that_the_new_logon_session_knows_goes_on() -> None:
    """A server may keep tasks beyond a logon session."""
    async with SimulatedServer() as server:
        em = await door(server)
        server.add_task("Running 30s, Finished ok")
        watch = em.watch("task-1")
        await anext(watch)
        state = saved(watch)
        server.expire_logon_sessions(keep_tasks=True)
        async with door(server) as other:
            assert em.reference != other.reference
            (event,) = [event async for event in other.resume(state)]
        assert (event.sequence, event.succeeded) == (2, True)
        await em.aclose()


# --- what it is


async def test_it_holds_no_secret_and_is_small() -> None:
    """About a hundred bytes a task; no token, ID, password or user name."""
    async with SimulatedServer() as server:
        job = server.add_job("Nightly")
        async with door(server) as em:
            server.add_tasks(1000)
            watch = em.watch(f"task-{number}" for number in range(1, 1001))
            for _ in range(1000):
                await anext(watch)
            text = json.dumps(watch.checkpoint(), separators=(",", ":"))
            assert len(text) < 160 * 1000
            watch.add(await em.submit(f"{job.path}?action=start"))
            text = json.dumps(watch.checkpoint())
            assert job.path in text
            for secret in (em.token, em.session_id, server.password, server.username):
                assert secret is not None
                assert secret not in text


async def test_what_a_server_echoes_is_hidden() -> None:
    """A message that repeats the token does not bring it onto the disk."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Finished failed", message=f"token {em.token} refused")
        watch = em.watch("task-1")
        await watch.wait()
        assert em.token is not None
        assert em.token not in json.dumps(watch.checkpoint())


async def test_unknown_keys_are_kept() -> None:
    """What a later minor version wrote comes out as it went in."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running")
        watch = em.watch("task-1")
        await anext(watch)
        state = saved(watch)
        state["later"] = {"a": [1, None]}
        state["tasks"][0]["color"] = "blue"
        again = em.resume(state)
        after = saved(again)
        assert after["later"] == {"a": [1, None]}
        assert after["tasks"][0]["color"] == "blue"
        again.discard("task-1")
        again.add("task-1")
        assert "color" not in saved(again)["tasks"][0]


NOT_A_TEXT = "is not a text, but"
DAMAGED: list[tuple[Any, str]] = [
    (None, r"is NoneType, not an object \(a dict\); pass what Watch.checkpoint"),
    ([], "is list, not an object"),
    ('{"version": 1}', r"is a text \(str\), not an object .*; pass json.loads"),
    (b"{}", r"is a text \(bytes\), not an object .*; pass json.loads"),
    ({}, "has no version; pass what"),
    ({"version": True}, "version is not a number such as 1, but true"),
    ({"version": None}, "version is not a number such as 1, but null"),
    ({"version": "1"}, "version is not a number such as 1, but another text"),
    ({"version": 1.0}, "version is not a number such as 1, but 1.0"),
    ({"version": [1]}, "version is not a number such as 1, but a list"),
    ({"version": 2}, "is of version 2, and this program reads 1; resume it with"),
    ({"version": 0}, "is of version 0, and this program reads 1$"),
    ({"version": 10**5000}, "is of version a number too long to show"),
    ({"kind": "veeam-tasks state", "checkpoints": {}}, "is a state file of the shell"),
    ({"url": None}, f"url {NOT_A_TEXT} null"),
    ({"url": ...}, "url is missing"),
    ({"url": "https://other.example:9398/api/"}, "is one of https://other"),
    ({"logon": 3}, f"logon {NOT_A_TEXT} 3"),
    ({"saved": "now"}, "saved is not a time in seconds since 1970, but another text"),
    ({"saved": float("nan")}, "saved is not a time .*, but nan"),
    ({"saved": 10**400}, "saved is not a time .*, but a number too long to show"),
    ({"all": 1}, "all is not true or false, but 1"),
    ({"discarded": ["x"]}, "discarded is not a list of task IDs"),
    ({"discarded": "task-1"}, "discarded is not a list of texts"),
    ({"tasks": ...}, "tasks is not a list, but null"),
    ({"tasks": {}}, "tasks is not a list, but an object"),
    ({"tasks": [3]}, r"tasks\[0\]: it is not an object, but 3"),
    ({"find_timeout": -1e99}, r"find_timeout is not seconds, more than 0, but -1e\+99"),
    ({"find_timeout": 0}, "find_timeout is not seconds, more than 0, but 0"),
    ({"find_timeout": float("inf")}, "find_timeout is not seconds"),
    ({"find_timeout": "20 min"}, "find_timeout is not seconds"),
    ({"find_timeout": False}, "find_timeout is not seconds, more than 0, but false"),
    ({"x": [(one for one in ())]}, "holds what JSON cannot hold"),
]
SESSION = {"id": "1", "kind": "BackupJobSession", "state": "Working"}
OWED = {"state": "Finished", "at": 1}
TASKS: list[tuple[dict[str, Any], str]] = [
    ({"id": "job-1"}, "id is not an ID like 'task-7', but another text"),
    ({"id": ...}, "id is missing"),
    ({"sequence": -1}, "sequence is not a count, but -1"),
    ({"sequence": 1.5}, "sequence is not a count"),
    ({"sequence": 0}, "sequence and state"),
    ({"state": 3}, f"state {NOT_A_TEXT} 3"),
    ({"state": ...}, "state is missing"),
    ({"at": ...}, "at is missing"),
    ({"operation": ...}, "operation is missing"),
    ({"final": "yes"}, "final is not true or false, but another text"),
    ({"final": True, "owed": OWED}, "comes after its final"),
    ({"lost": "gone"}, "what is lost is not final"),
    ({"owed": 3}, "owed: it is not an object, but 3"),
    ({"owed": {**OWED, "at": []}}, "owed.at is not a time .*, but a list"),
    ({"owed": {**OWED, "lost": "x"}}, "owed: what is lost is not final"),
    ({"stage": "task"}, r"stage is not a stage \(searching or session\)"),
    ({"stage": "session"}, "session is missing"),
    ({"related": "a"}, "related is not a list"),
    ({"asked": []}, "asked is not a time"),
    ({"start": {"path": "jobs/1"}}, "start.at is missing"),
    ({"start": {"path": "jobs/1", "at": -1}}, "start.at is not a time"),
    ({"start": {"path": "jobs/1", "at": 1, "skew": 1e9}}, "start.skew is not seconds"),
    ({"run": {"until": None}}, "run.until is not a time"),
    ({"run": {"until": 1, "path": "../x"}}, "run.path is not the path of a job ses"),
    (
        {"run": {"until": 1, "session": {**SESSION, "progress": 250}}},
        "run.session.progress is not a percentage, but 250",
    ),
    ({"session": {"id": "1"}}, "session.kind is missing"),
    ({"session": ""}, "session: it is not an object, but an empty text"),
    ({"failures": 3}, "failures is not a list, but 3"),
    ({"failures": [{"state": "x"}, 3]}, r"failures\[1\]: it is not an object, but 3"),
]


@pytest.mark.parametrize(
    ("change", "problem"),
    [*DAMAGED, *[({"tasks": change}, problem) for change, problem in TASKS]],
)
async def test_a_damaged_one_is_a_value_error(change: Any, problem: str) -> None:
    """Nothing is sent, and nothing is watched; it is said what is wrong."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running")
        watch = em.watch("task-1")
        await anext(watch)
        state = saved(watch)
        await watch.aclose()
        damaged = change
        if isinstance(change, dict) and change:
            task = change.get("tasks")
            if isinstance(task, dict) and task:
                change = {"tasks": [_changed(state["tasks"][0], task)]}
            damaged = _changed(state, change)
        before = server.requests.total
        with pytest.raises(vt.ArgumentError, match=problem) as caught:
            em.resume(damaged)
        assert caught.value.parameter == "checkpoint"
        assert em.statistics().watched == 0
        assert server.requests.total == before


def _changed(whole: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return a whole with other values; an ellipsis takes one out."""
    merged = {**whole, **change}
    return {key: value for key, value in merged.items() if value is not ...}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "state", "at", "path", "until", "kind", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
PLACES = ("sequence", "state", "at", "final", "lost", "owed", "next", "start", "run")


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_stands_in_it_is_taken_or_a_value_error(data: st.DataObject) -> None:
    """No other error comes of a checkpoint that somebody has changed."""
    top = ("url", "logon", "saved", "all", "find_timeout", "discarded", "tasks")
    inside = (*PLACES, "session", "stage", "failures", "related", "operation", "seen")

    async def play() -> None:
        async with SimulatedServer() as server, door(server) as em:
            server.add_task("Running")
            watch = em.watch("task-1", follow=data.draw(st.booleans()))
            await anext(watch)
            state = saved(watch)
            task = state["tasks"][0]
            for key in data.draw(st.lists(st.sampled_from(inside), max_size=3)):
                task[key] = data.draw(json_values)
            if data.draw(st.booleans()):
                state[data.draw(st.sampled_from(top))] = data.draw(json_values)
            try:
                again = em.resume(state)
            except ValueError:
                return
            json.dumps(again.checkpoint())
            repr(again)
            await again.aclose()

    run(play)


# --- a checkpoint at every event


@st.composite
def scripts(draw: st.DrawFn) -> list[str]:
    """Return scripts of which a poll each second sees every state."""
    states = st.sampled_from(["Running", "OperationFinished", "Other", "Word"])
    steps = st.builds("{} {}s".format, states, st.integers(3, 9))
    ends = ["Finished ok", "Finished failed 'no'", "Finished unsettled", "gone"]
    script = st.builds(
        lambda some, last: ", ".join([*some, last]),
        st.lists(steps, max_size=4),
        st.sampled_from(ends),
    )
    return draw(st.lists(script, min_size=1, max_size=4))


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(scripts=scripts(), lag=st.integers(0, 2))
def test_from_each_checkpoint_the_same_events_follow(
    scripts: list[str], lag: int
) -> None:
    """A process that is killed after any event, and goes on, tells what was to come."""

    async def play() -> None:
        async with SimulatedServer() as server, door(server, pace=STEADY) as em:
            for script in scripts:
                server.add_task(script)
            ids = [f"task-{number + 1}" for number in range(len(scripts))]
            states: list[tuple[int, dict[str, Any]]] = []
            watch = em.watch(ids)
            events: list[Told] = []
            resumed: list[tuple[int, list[Told]]] = []

            async def go_on(at: int, state: dict[str, Any]) -> None:
                async with sharing(server, em) as other:
                    await anyio.sleep(lag)
                    resumed.append((at, await rest_of(other.resume(state))))

            async with anyio.create_task_group() as group:
                group.start_soon(go_on, 0, saved(watch))
                async for event in watch:
                    events.append(told(event))
                    states.append((len(events), saved(watch)))
                    group.start_soon(go_on, *states[-1])
            assert len(resumed) == len(events) + 1
            for at, rest in resumed:
                if lag == 0:
                    assert sorted(rest) == sorted(events[at:])
                check(events[:at], rest, ids)

    run(play)


def check(before: list[Told], after: list[Told], ids: list[str]) -> None:
    """Check that two lists of events are one that keeps what a watch promises."""
    for task_id in ids:
        mine = [event for event in [*before, *after] if event[0] == task_id]
        assert [event[1] for event in mine] == list(range(1, len(mine) + 1))
        assert [event[6] for event in mine] == [False] * (len(mine) - 1) + [True]
        words = [event[8] and event[8][0] for event in mine if event[9] is type(None)]
        assert all(one != other for one, other in itertools.pairwise(words))
        states = [event[3] for event in mine]
        assert [event[2] for event in mine] == [None, *states[:-1]]
