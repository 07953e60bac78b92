"""What a poll of job sessions means for when each of them is asked for next."""

import attrs
import pytest
from support.engines import EngineScene

from veeam_tasks import JobSession, Pace, SessionState, Task, TaskState
from veeam_tasks._engine.due_queue import GRID
from veeam_tasks._engine.records import DueState, PollTimes, SubscriberRef
from veeam_tasks._engine.run_records import Deadline, RunRecord
from veeam_tasks._protocol.sessions import SessionPage
from veeam_tasks._session.session_search import SessionSource

PACE = Pace(first=10, growth=1, longest=10, jitter=0.5)
WORKING = JobSession(
    session_id="1a2b3c4d-0000-4000-8000-000000000001",
    kind="BackupJobSession",
    state=SessionState.WORKING,
    raw_state="Working",
    progress=10,
)


class Follower:
    """Somebody who wants to know."""

    pace = PACE

    def on_observation(self, seen: object) -> None:
        """Take note of nothing."""

    def on_end(self, error: Exception) -> None:
        """Take note of nothing."""


FOLLOWER = Follower()


def polled(scene: EngineScene) -> RunRecord:
    """Return the run of a session that works, while it is being asked for."""
    task = Task(
        task_id="task-1",
        state=TaskState.FINISHED,
        raw_state="Finished",
        operation="StartJob",
    )
    record = RunRecord(
        pace=PACE,
        task_id=task.task_id,
        first_generation=1,
        number=0,
        task=task,
        started=None,
        source=SessionSource.LINK,
        session_id=WORKING.session_id,
        session=WORKING,
    )
    reference = SubscriberRef(FOLLOWER)
    reference.pace, reference.wanted = PACE, ()
    record.want(reference, Deadline(1000.0, 900.0))
    record.due = DueState.POLLING
    scene.tracker.runs[record.key] = record
    return record


@pytest.mark.parametrize("progress", [10, 11])
async def test_a_session_that_works_is_asked_for_after_a_pause(progress: int) -> None:
    """Cut by its jitter, and by no more, after a page that tells of many."""
    scene = EngineScene()
    record = polled(scene)
    now = scene.loop.now
    times = PollTimes(generation=1, sent=now, sent_wall=now, now=now, now_wall=now)
    page = SessionPage(sessions=(attrs.evolve(WORKING, progress=progress),))
    await scene.engine.runs._on_members(unasked, [record], page, times, 1)
    assert now + 5 <= record.due * GRID <= now + 10 + GRID


async def unasked(*_: object) -> object:
    """Take part in no request."""
    raise AssertionError
