"""What a poll of job sessions means for when each of them is asked for next."""

import attrs
import pytest
from support.engines import EngineScene
from support.trackers import followed

from veeam_tasks import JobSession, Pace, SessionState
from veeam_tasks._engine.due_queue import GRID
from veeam_tasks._engine.records import DueState, PollTimes
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._protocol.sessions import SessionPage

PACE = Pace(first=10, growth=1, longest=10, jitter=0.5)
WORKING = JobSession(
    session_id="1a2b3c4d-0000-4000-8000-000000000001",
    kind="BackupJobSession",
    state=SessionState.WORKING,
    raw_state="Working",
    progress=10,
)


def polled(scene: EngineScene) -> RunRecord:
    """Return the run of a job session that works, while it is being asked for."""
    record = followed(WORKING, pace=PACE)
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
