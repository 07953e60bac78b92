"""What a watch goes on with: values of a checkpoint become records."""

from datetime import UTC, datetime

import pytest

from veeam_tasks import (
    JobSession,
    Pace,
    RunStage,
    ServerBusyError,
    SessionState,
    Task,
    TaskState,
)
from veeam_tasks._engine import checkpoints, resuming
from veeam_tasks._engine.checkpoint_values import (
    DamagedError,
    EventMark,
    RunMark,
    SessionMark,
    StartMark,
    TaskMark,
)
from veeam_tasks._events import Observation
from veeam_tasks._session.submitted import KnownSessions, Submitted, started_job

GUID = "1a2b3c4d-0000-4000-8000-000000000001"
AT = 1_780_000_000.0
NOW = 5000.0
RUNNING = SessionMark(id=GUID, kind="BackupJobSession", state="Working", progress=34)
LATER = SessionMark(id=GUID, kind="BackupJobSession", state="Working", progress=40)
FINISHED = EventMark(
    state="Finished", at=AT, success=True, stage="session", session=RUNNING
)
START = StartMark(path=f"jobs/{GUID}?action=start", at=AT)


def mark(**changes: object) -> TaskMark:
    """Return a task whose job session is followed."""
    values = {
        "id": "task-1",
        "sequence": 2,
        "delivered": FINISHED,
        "operation": "StartJob",
        "start": START,
        "run": RunMark(path=f"backupSessions/{GUID}?format=Entity", until=AT + 60),
    }
    return TaskMark(**(values | changes))  # type: ignore[arg-type] # as a checkpoint has it


def followed(one: TaskMark, *, now_wall: float = AT + 10) -> resuming.RunRecord:
    """Return the run of a task, which there is."""
    return run_and_deadline(one, now_wall)[0]


def run_and_deadline(
    one: TaskMark, now_wall: float
) -> tuple[resuming.RunRecord, resuming.Deadline]:
    """Return the run of a task and how long it may be searched."""
    told = resuming.resumed(one, 1)
    run = resuming.run_of(told, Pace(), now=NOW, now_wall=now_wall, find_timeout=300)
    assert run is not None
    return run


def test_a_run_was_asked_for_as_long_ago_as_the_wall_clock_says() -> None:
    """A poll that was sent seven seconds ago was sent that long before this moment."""
    record = followed(mark(asked=AT + 3))
    assert (record.sent, record.sent_wall) == (NOW - 7, AT + 3)


def test_a_clock_that_was_set_back_makes_no_poll_of_the_future() -> None:
    """A poll dated later than now was sent now."""
    assert followed(mark(asked=AT + 99)).sent == NOW


def test_a_run_goes_on_with_the_session_seen_last() -> None:
    """What a poll has shown counts, not the event that was delivered before it."""
    path = f"backupSessions/{GUID}?format=Entity"
    later = RunMark(path=path, until=AT, session=LATER)
    record = followed(mark(run=later))
    assert record.session == LATER.session()
    assert record.latest is not None
    assert record.latest.session == LATER.session()
    before = followed(mark())
    assert before.session == RUNNING.session()
    assert before.latest is None
    assert record.session_id == before.session_id == GUID


@pytest.mark.parametrize(("waited", "left"), [(10, 50), (60, 0), (600, 0), (-900, 300)])
def test_a_search_has_what_is_left_of_its_time(waited: float, left: float) -> None:
    """It has until the moment named, none if that is over, no more than it is given."""
    searching = EventMark(state="Finished", at=AT, success=True, stage="searching")
    one = mark(delivered=searching, run=RunMark(until=AT + 60))
    assert run_and_deadline(one, AT + waited)[1].at == NOW + left


def test_a_start_is_that_of_the_task_as_it_was_seen() -> None:
    """The submit has the task of the checkpoint; one that nobody saw is unknown."""
    told = resuming.resumed(mark(), 1)
    assert told.submitted is not None
    assert told.submitted.task == told.task
    assert told.task is not None
    assert told.task.state is TaskState.FINISHED
    unseen = resuming.resumed(TaskMark(id="task-1", start=START), 1)
    assert unseen.submitted is not None
    assert (unseen.task, unseen.submitted.task.raw_state) == (None, "Unknown")


def test_what_this_process_submits_comes_after_what_was_resumed() -> None:
    """Starts of a checkpoint are numbered in their order, before the first of ours."""
    numbers = []
    for at in (0, AT, AT + 1, 2 * AT):
        start = StartMark(path=START.path, at=at)
        told = resuming.resumed(mark(start=start), 1)
        assert told.submitted is not None
        numbers.append(told.submitted.number)
    without = followed(mark(start=None)).number
    assert [without, *numbers] == sorted([without, *numbers])
    assert numbers[-1] < 1


def test_a_run_that_was_under_way_is_remembered() -> None:
    """What a job did before its start is in the checkpoint, and comes back."""
    before = JobSession(
        session_id=GUID,
        uid=f"urn:veeam:BackupJobSession:{GUID}",
        kind="BackupJobSession",
        state=SessionState.from_word("Working"),
        raw_state="Working",
    )
    at = datetime.fromtimestamp(AT, UTC)
    known = KnownSessions(ids=frozenset({GUID}), under_way=before)
    task = Task(
        task_id="task-1",
        state=TaskState.RUNNING,
        raw_state="Running",
        operation="StartJob",
    )
    submitted = Submitted(
        path=START.path,
        at=at,
        generation=1,
        task=task,
        started=started_job(START.path, at, is_server_time=True, known=known),
    )
    entry = resuming.PendingEvent()
    plain = checkpoints.written_task(
        "task-1", entry, str, submitted=submitted, known=task
    )
    under_way = SessionMark(**plain["start"].pop("under_way"))
    plain["start"]["known"] = tuple(plain["start"]["known"])
    start = StartMark(**plain["start"], under_way=under_way)
    told = resuming.resumed(mark(start=start), 1).submitted
    assert told is not None
    assert told.started is not None
    assert told.started.under_way == before


def test_a_task_that_is_given_up_is_given_up_for_that_reason() -> None:
    """An error of another kind than that it is lost stays the error."""
    error = ServerBusyError(request="GET x", status=503, message=None)
    seen = Observation(
        task_id="task-1",
        task=None,
        state=TaskState.LOST,
        is_final=True,
        observed_at=datetime.fromtimestamp(AT, UTC),
        not_before=None,
        generation=1,
        error=error,
        stage=RunStage.TASK,
    )
    told = resuming.resumed(mark(), 1)
    end = told.meet(seen, 0)
    assert end.error is error
    assert end.task == told.task


@pytest.mark.parametrize("progress", [-1, 101, 1.5])
def test_a_progress_that_is_no_percentage_is_refused(progress: float) -> None:
    """From 0 to 100, both of them, and whole."""
    known = {"id": GUID, "kind": "BackupJobSession", "state": "Working"}
    for one in (0, 100):
        assert SessionMark(**known, progress=one).progress == one
    with pytest.raises(DamagedError, match="progress is not a"):
        SessionMark(**known, progress=progress)  # type: ignore[arg-type] # of a file


@pytest.mark.parametrize("start", [START, None])
def test_a_search_is_by_link_alone_where_no_start_is_known(
    start: StartMark | None,
) -> None:
    """Of the event that was told and of the one owed, until the link is there."""
    end = EventMark(state="Finished", at=AT, success=True, stage="searching")
    for event in ({"delivered": end}, {"delivered": None, "owed": end, "sequence": 0}):
        for path in (None, f"backupSessions/{GUID}?format=Entity"):
            found = mark(start=start, run=RunMark(path=path, until=AT + 60), **event)
            entry = resuming.pending_of(resuming.resumed(found, 1), is_run=True)
            assert entry.latest is not None
            assert entry.latest.is_by_link is (start is None and path is None)
