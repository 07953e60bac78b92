"""Scripts, handles and mixes: what a simulated task goes through."""

import re
from collections import Counter
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plain_client import Client

from veeam_tasks.simulator import Mix, Script, SimulatedServer, Step


def test_a_script_reads_as_its_steps() -> None:
    """States, durations, results and messages; OperationFinished is a success."""
    script = Script.parse(
        "Running 2s, OperationFinished 500ms, Finished failed 'Disk full'"
    )
    assert script.steps == (
        Step("Running", 2.0),
        Step("OperationFinished", 0.5, success=True),
        Step("Finished", success=False, message="Disk full"),
    )
    assert script.seconds == 2.5


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Finished", (Step("Finished", success=True),)),
        ("Finished unsettled", (Step("Finished"),)),
        ("Running", (Step("Running"),)),
        (
            "Running 1.5m ok 'Ok', Finished",
            (
                Step("Running", 90.0, success=True, message="Ok"),
                Step("Finished", success=True),
            ),
        ),
        (
            "Running 1h, gone 2s, Stopped",
            (Step("Running", 3600.0), Step("gone", 2.0, is_gone=True), Step("Stopped")),
        ),
        (
            'Finished succeeded "a ""b"" \'c\', d"',
            (Step("Finished", success=True, message="a \"b\" 'c', d"),),
        ),
        ("Finished failed 'it''s'", (Step("Finished", success=False, message="it's"),)),
        ("Finished failed ''", (Step("Finished", success=False, message=""),)),
        ("  Finished 'x'  ", (Step("Finished", success=True, message="x"),)),
    ],
)
def test_what_scripts_can_say(text: str, steps: tuple[Step, ...]) -> None:
    """Any word is a state; quotes are doubled; gone hides the task."""
    assert Script.parse(text).steps == steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with a state"),
        ("Running 2s,", "begins with a state"),
        ("2s Running", "begins with a state"),
        ("failed 'x'", "no state before it"),
        ("Running, Finished", "needs a duration such as '2s'"),
        ("Finished 2s", "lasts for ever and takes no duration"),
        ("Running 2x, Finished", "cannot be read at '2x"),
        ("Running 2s 3s, Finished", "says its duration twice"),
        ("Finished ok failed", "says its result twice"),
        ("Finished broken", "'broken' in the script"),
        ("Running 2s 'why', Finished", "needs 'ok' or 'failed'"),
        ("gone 2s failed, Finished", "has nothing but a duration"),
        ("Finished 'open", "cannot be read at"),
    ],
)
def test_a_wrong_script_says_where(text: str, said: str) -> None:
    """Each mistake is a ValueError in plain words."""
    with pytest.raises(ValueError, match=said):
        Script.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Runing 1x, Finished",
            "cannot be read at '1x, Finished': here may stand a duration such as 500ms",
        ),
        (
            "Runing 1x, Finished",
            "succeeded, unsettled; for 'Runing', did you mean 'Running'?",
        ),
        ("Running 5, Finished", "here may stand a duration such as 500ms, 2s, 1.5m"),
        ("Running 1x", "one of failed, ok, succeeded, unsettled$"),
        ("Running 2s, ?", "begins with a state, as 'Running'$"),
        ("Finished boom", "neither a duration such as 500ms, 2s, 1.5m or 1h, a"),
    ],
)
def test_a_script_that_cannot_be_read_says_what_may_stand_there(
    text: str, said: str
) -> None:
    """How a duration looks, and the state that is nearest to the one that is none."""
    with pytest.raises(ValueError, match=re.escape(said).replace(r"\$", "$")):
        Script.parse(text)


def test_a_script_of_nothing_is_refused() -> None:
    """There is nothing to play."""
    with pytest.raises(ValueError, match="at least one step"):
        Script(())


words = st.sampled_from(["Running", "OperationFinished", "Finished", "Odd_1"])


@st.composite
def steps(draw: st.DrawFn, *, is_last: bool) -> Step:
    """Draw one step."""
    seconds = None if is_last else draw(st.sampled_from([0.25, 1.0, 90.0]))
    if draw(st.integers(0, 9)) == 0:
        return Step("gone", seconds, is_gone=True)
    success = draw(st.sampled_from([True, False, None]))
    texts = st.text(st.characters(codec="utf-8"))
    message = None if success is None else draw(st.none() | texts)
    return Step(draw(words), seconds, success=success, message=message)


@given(st.lists(steps(is_last=False), max_size=4), steps(is_last=True))
def test_a_script_reads_back_from_its_own_text(many: list[Step], last: Step) -> None:
    """`str` of a script is a script."""
    script = Script((*many, last))
    assert Script.parse(str(script)) == script


@pytest.mark.virtual_time
async def test_states_follow_the_clock_of_the_loop() -> None:
    """Nothing ticks: a state is worked out when somebody asks."""
    async with SimulatedServer() as server:
        task = server.add_task("Running 2s, OperationFinished 1s, Finished failed 'no'")
        seen = []
        for _ in range(4):
            seen.append((task.state, task.succeeded))
            await anyio.sleep(1)
        assert seen == [
            ("Running", None),
            ("Running", None),
            ("OperationFinished", True),
            ("Finished", False),
        ]


@pytest.mark.virtual_time
async def test_speed_makes_scripts_fast_and_not_expiry() -> None:
    """A demonstration at speed 10 goes through in a tenth of the time."""
    async with (
        SimulatedServer(speed=10, idle_expiry=100) as server,
        Client(server.url) as client,
    ):
        assert server.speed == 10
        task = server.add_task("Running 500s, Finished")
        await client.log_on()
        await anyio.sleep(49)
        assert task.state == "Running"
        await anyio.sleep(2)
        assert task.state == "Finished"
        assert len(server.logon_sessions) == 1
        await anyio.sleep(50)
        assert server.logon_sessions == []


@pytest.mark.virtual_time
async def test_scripts_begin_with_the_server_or_when_added() -> None:
    """A task that was added before the start begins with it."""
    server = SimulatedServer()
    early = server.add_task("Running 2s, Finished")
    await anyio.sleep(100)
    async with server:
        await anyio.sleep(1)
        late = server.add_task("Running 2s, Finished")
        await anyio.sleep(1.5)
        assert (early.state, late.state) == ("Finished", "Running")


async def test_a_test_takes_a_task_into_its_own_hands() -> None:
    """finish, set_state, vanish, come_back and play, seen by any client."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task("Running 1h, Finished", message="Done it")
        await client.log_on()
        task = server.task("task-1")

        async def seen() -> tuple[int, str | None, str | None]:
            got = await client.get("/api/tasks/task-1")
            if got.status != 200:
                return got.status, None, None
            return got.status, got.text("State"), got.text("Result/Message")

        assert await seen() == (200, "Running", None)
        task.set_state("Pausing")
        assert await seen() == (200, "Pausing", None)
        task.set_state("Running", success=True, message="so far")
        assert await seen() == (200, "Running", "so far")
        task.vanish()
        assert task.is_gone
        assert repr(task) == "<SimulatedTask task-1 gone StartJob>"
        assert await seen() == (500, None, None)
        assert (await client.get("/api/tasks")).names == ["Tasks"]
        task.come_back()
        task.finish()
        assert await seen() == (200, "Finished", "Done it")
        task.finish(success=False, message="Disk full")
        assert await seen() == (200, "Finished", "Disk full")
        task.finish(success=False)
        assert await seen() == (200, "Finished", None)
        task.play("Running 1h, Finished")
        assert str(task.script) == "Running 3600s, Finished"
        assert await seen() == (200, "Running", None)
        for state, message in (("two words", None), ("gone", None), ("Fine", "x")):
            with pytest.raises(ValueError, match=r"one word|success as well"):
                task.set_state(state, message=message)
        with pytest.raises(KeyError, match="the newest are: task-1"):
            server.task("task-9")


@pytest.mark.virtual_time
async def test_a_script_can_hide_a_task_for_a_while() -> None:
    """The word ``gone`` is a step like any other."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task("Running 1s, gone 1s, Finished 1s, gone")
        await client.log_on()
        seen = []
        for _ in range(4):
            seen.append((await client.get("/api/tasks/task-1")).status)
            await anyio.sleep(1)
        assert seen == [200, 500, 200, 500]


async def test_text_that_xml_cannot_hold_is_replaced() -> None:
    """Control characters become a replacement character; the rest stays."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task("Finished", message="a\x00b\x1bc\td\ne\rf\ud800")
        await client.log_on()
        got = await client.get("/api/tasks/task-1")
        assert got.text("Result/Message") == "a\ufffdb\ufffdc\td\ne\rf\ufffd"
        assert b"&#xD;" in got.body


def test_a_mix_fails_an_exact_share_and_repeats_itself_by_seed() -> None:
    """Of twenty tasks with 5 %, one fails; the same seed draws the same tasks."""
    first, again, other = (
        [(task.operation, str(task.script)) for task in server.add_tasks(20)]
        for server in (
            SimulatedServer(seed=1),
            SimulatedServer(seed=1),
            SimulatedServer(seed=2),
        )
    )
    assert first == again != other
    assert sum("failed" in script for _, script in first) == 1
    mix = Mix(failing=0.5, skipping=1, running=(1, 2), operations=("CloneJob",))
    drawn = SimulatedServer(seed=1).add_tasks(10, mix)
    assert Counter(task.operation for task in drawn) == {"CloneJob": 10}
    assert all("OperationFinished" not in str(task.script) for task in drawn)
    assert sum("failed" in str(task.script) for task in drawn) == 5
    assert all(1 <= task.script.seconds <= 2 for task in drawn)


@pytest.mark.parametrize(
    ("count", "error"), [(-1, ValueError), ("5", TypeError), (True, TypeError)]
)
def test_a_count_of_tasks_is_a_number_of_them(
    count: Any, error: type[Exception]
) -> None:
    """A wrong one is told, where no task at all would be found much later."""
    with pytest.raises(error, match="count must be"):
        SimulatedServer().add_tasks(count)


def test_a_version_is_written_as_text() -> None:
    """Whoever writes a number is told how it is written."""
    number: Any = 13
    with pytest.raises(TypeError, match="version must be a string, as '13', not 13"):
        SimulatedServer(version=number)


@pytest.mark.parametrize(
    "wrong",
    [
        {"failing": 1.5},
        {"skipping": -1},
        {"running": (2, 1)},
        {"collecting": 3},
        {"operations": ()},
    ],
)
def test_a_mix_refuses_what_makes_no_sense(wrong: dict[str, object]) -> None:
    """Shares lie between 0 and 1, spans go from low to high."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Mix(**wrong)  # type: ignore[arg-type] # that is the point


async def test_actions_play_the_script_that_was_set() -> None:
    """For one operation, or for all of them."""
    job = "/api/jobs/78c3919c-54d7-43fe-b047-485d3566f11f"
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        server.set_script("Finished failed 'no'", operation="StartJob")
        assert (await client.post(f"{job}?action=start")).text("State") == "Finished"
        assert (await client.post(f"{job}?action=stop")).text("State") == "Running"
        server.set_script("Queued 1h, Finished")
        assert (await client.post(f"{job}?action=start")).text("State") == "Queued"
        assert server.add_task().state == "Queued"
        with pytest.raises(ValueError, match="begins with a state"):
            server.set_script("")
