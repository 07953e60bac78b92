"""Subscriptions by themselves: tasks that have ended, IDs that come again, resuming."""

import pytest
from support.engines import EngineScene, Script
from support.observations import observation
from yarl import URL

from veeam_tasks import Link, Pace, TaskState
from veeam_tasks._engine.checkpoint_values import Checkpoint, EventMark, TaskMark
from veeam_tasks._engine.subscription import Subscription

AT = 1_780_000_000.0
FINISHED = EventMark(state="Finished", at=AT, success=True, final=True)
HALF_AN_HOUR = 1800.0
BASE = URL("https://h:9398/api/")
SESSION = f"{BASE}backupSessions/1a2b3c4d-0000-4000-8000-000000000001?format=Entity"


class AtHome(Script):
    """Knows where the API is, as links are looked at."""

    base = BASE


def subscription(
    scene: EngineScene,
    *task_ids: str,
    is_endless: bool = False,
    checkpoint: Checkpoint | None = None,
    find_timeout: float | None = None,
) -> Subscription:
    """Return a subscription to tasks, of which nothing is known yet."""
    return Subscription(
        scene.engine,
        task_ids,
        pace=Pace(),
        timeout=None,
        is_endless=is_endless,
        checkpoint=checkpoint,
        find_timeout=find_timeout,
    )


def ended(task_id: str) -> TaskMark:
    """Return what is kept of a task whose end was told."""
    return TaskMark(id=task_id, sequence=1, delivered=FINISHED, operation="StartJob")


def checkpoint(*marks: TaskMark) -> Checkpoint:
    """Return what a watch of tasks has left."""
    return Checkpoint(
        url="https://h:9398/api/", logon=None, saved=AT, all=True, tasks=marks
    )


def test_a_task_without_a_reply_is_not_among_the_tasks() -> None:
    """It comes in with the first reply, and one that others watch is there at once."""
    scene = EngineScene()
    first = subscription(scene, "task-1", "task-2")
    assert dict(first.tasks) == {}
    seen = observation("task-1")
    scene.tracker.records["task-1"].task = seen.task
    first.on_observation(seen)
    assert dict(first.tasks) == {"task-1": seen.task}
    second = subscription(scene, "task-1", "task-2")
    assert dict(second.tasks) == {"task-1": seen.task}


def test_a_task_that_was_resumed_before_its_first_reply_is_not_among_the_tasks() -> (
    None
):
    """The checkpoint has nothing of it either."""
    marks = TaskMark(id="task-1"), ended("task-2")
    resumed = subscription(EngineScene(), checkpoint=checkpoint(*marks))
    assert list(resumed.tasks) == ["task-2"]


@pytest.mark.parametrize("state", [TaskState.RUNNING, TaskState.FINISHED])
def test_what_a_listed_id_shows_is_another_task_or_the_one_that_ended(
    state: TaskState,
) -> None:
    """After a renewal a task that runs is another; the end that is known is no news."""
    scene = EngineScene()
    watching = subscription(scene, is_endless=True)
    watching.on_discovered(["task-1"], 1)
    watching.on_observation(observation("task-1", TaskState.FINISHED))
    scene.logon.generation = 2
    watching.on_discovered(["task-1"], 2)
    assert "task-1" in scene.tracker.records
    watching.on_observation(observation("task-1", state))
    is_another = state is TaskState.RUNNING
    assert (watching.report().unfinished == ("task-1",)) is is_another
    assert ("task-1" in scene.tracker.records) is is_another
    assert watching.owed == 1 + is_another


def test_a_discard_takes_the_end_along_that_is_owed_of_an_earlier_task() -> None:
    """What had the ID before is owed no more either; other tasks' ends are."""
    scene = EngineScene()
    watching = subscription(scene, is_endless=True)
    for one in ("task-1", "task-2"):
        watching.on_discovered([one], 1)
        watching.on_observation(observation(one, TaskState.FINISHED))
    scene.logon.generation = 2
    watching.on_listed([], 2)
    watching.on_discovered(["task-1", "task-2"], 2)
    assert watching.owed == 2
    watching.discard(["task-1"])
    event = watching.take()
    assert event is not None
    assert (event.task_id, event.is_final) == ("task-2", True)
    assert watching.take() is None


def test_a_resumed_end_is_forgotten_once_the_server_has_it_no_more() -> None:
    """As one that was seen by this process: after two lists without it."""
    scene = EngineScene()
    resumed = subscription(
        scene, is_endless=True, checkpoint=checkpoint(ended("task-1"))
    )
    for _ in range(2):
        assert resumed.report().succeeded == ("task-1",)
        scene.loop.move_to(scene.loop.now + HALF_AN_HOUR)
        resumed.on_listed([], 1)
    assert dict(resumed.report().outcomes) == {}


def test_a_run_that_is_discarded_is_followed_no_more() -> None:
    """Nothing is left of it to be polled."""
    scene = EngineScene(transport=AtHome())
    following = subscription(scene, "task-1", find_timeout=300.0)
    link = Link(rel="Related", href=SESSION, type="BackupJobSession")
    following.on_observation(observation("task-1", TaskState.FINISHED, links=(link,)))
    assert [one.task_id for one in scene.tracker.runs.values()] == ["task-1"]
    following.discard(["task-1"])
    assert scene.tracker.runs == {}


def test_what_came_and_was_discarded_since_the_last_report_is_in_none() -> None:
    """The next report neither has it nor looks for it."""
    watching = subscription(EngineScene(), "task-1", "task-2")
    watching.discard(["task-1"])
    assert list(watching.report().outcomes) == ["task-2"]
    watching.add(["task-3"])
    watching.discard(["task-3"])
    assert list(watching.report().outcomes) == ["task-2"]
