"""The values: tasks, results, links, notices, statistics."""

import copy
import pickle

import attrs
import pytest

from veeam_tasks import (
    Link,
    NoticeKind,
    Statistics,
    Task,
    TaskFailedError,
    TaskLostError,
    TaskResult,
    TaskState,
)
from veeam_tasks._errors import fresh
from veeam_tasks._telemetry.notices import added

HREF = "https://em.example:9398/api/tasks/task-7"


def task(word: str = "Running", result: TaskResult | None = None) -> Task:
    """Return a task in a state, given by the server's word."""
    return Task(
        task_id="task-7",
        state=TaskState.from_word(word),
        raw_state=word,
        operation="StartJob",
        result=result,
    )


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Running", TaskState.RUNNING),
        ("OperationFinished", TaskState.OPERATION_FINISHED),
        ("Finished", TaskState.FINISHED),
        ("running", TaskState.UNKNOWN),
        ("Queued", TaskState.UNKNOWN),
        ("Lost", TaskState.UNKNOWN),
        ("Unknown", TaskState.UNKNOWN),
        ("", TaskState.UNKNOWN),
    ],
)
def test_words(word: str, state: TaskState) -> None:
    """Three words of the server are states; LOST is no word that it may say."""
    assert TaskState.from_word(word) is state


@pytest.mark.parametrize("word", ["Running", "OperationFinished", "Finished", "Queued"])
@pytest.mark.parametrize("success", [True, False, None])
def test_succeeded(word: str, success: bool | None) -> None:
    """`succeeded` is True or False once finished, else None; `is_finished` is exact."""
    result = None if success is None else TaskResult(success=success)
    one = task(word, result)
    assert one.is_finished is (word == "Finished")
    assert one.succeeded is (success if word == "Finished" else None)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (TaskResult(success=False, message="Disk full"), "failed: 'Disk full'"),
        (TaskResult(success=False), "failed: the server gave no message"),
        (None, "failed: the server gave no result"),
    ],
)
def test_raise_for_failure(result: TaskResult | None, said: str) -> None:
    """`raise_for_failure` raises for a finished task without success."""
    finished = task("Finished", result)
    with pytest.raises(TaskFailedError) as caught:
        finished.raise_for_failure()
    assert caught.value.task is finished
    assert str(caught.value) == f"task-7 (StartJob) {said}"


def test_raise_for_failure_returns_the_task() -> None:
    """`raise_for_failure() -> Task`: itself, unless it finished without success."""
    running = task("Running", TaskResult(success=False))
    succeeded = task("Finished", TaskResult(success=True))
    assert running.raise_for_failure() is running
    assert succeeded.raise_for_failure() is succeeded


def test_related() -> None:
    """`related` are the links with Rel "Related"."""
    delete = Link(rel="Delete", href=HREF)
    related = Link(rel="Related", href="https://h/api/restoreSessions/1", type="Rest")
    one = attrs.evolve(task(), links=(delete, related))
    assert one.related == (related,)


def test_reprs_read_well() -> None:
    """`repr`s read well at a prompt."""
    assert repr(task()) == "<Task task-7 Running StartJob>"
    assert repr(task("Finished", TaskResult(success=True, message="Ok"))) == (
        "<Task task-7 Finished StartJob success 'Ok'>"
    )
    assert repr(task("Finished", TaskResult(success=False))) == (
        "<Task task-7 Finished StartJob failure>"
    )
    assert repr(TaskResult(success=True)) == "<TaskResult success>"
    assert repr(TaskResult(success=False, message="No")) == "<TaskResult failure 'No'>"
    assert repr(Link(rel="Delete", href=HREF)) == f"<Link Delete '{HREF}'>"
    link = Link(rel="Related", href=HREF, type="Job", name="a b")
    assert repr(link) == f"<Link Related Job 'a b' '{HREF}'>"


def test_lost_error() -> None:
    """`TaskLostError` has `.task_id` and `.last_seen`, and its text says both."""
    never = TaskLostError(task_id="task-7", last_seen=None, reason="gone")
    assert (never.task_id, never.last_seen, never.reason) == ("task-7", None, "gone")
    assert str(never) == "task-7 is lost (it was never seen): gone"
    seen = TaskLostError(task_id="task-7", last_seen=task(), reason="gone")
    assert str(seen) == "task-7 is lost (last seen Running, StartJob): gone"


def test_an_operation_that_was_not_told_leaves_no_gap() -> None:
    """Texts read well without the operation's name."""
    found = attrs.evolve(task("Finished"), operation="")
    assert repr(found) == "<Task task-7 Finished>"
    with pytest.raises(TaskFailedError, match=r"^task-7 failed: the server gave no"):
        found.raise_for_failure()
    lost = TaskLostError(task_id="task-7", last_seen=found, reason="gone")
    assert str(lost) == "task-7 is lost (last seen Finished): gone"


def test_errors_survive_copy_and_pickle() -> None:
    """Errors are copied and pickled with their fields."""
    error = TaskFailedError(task=task("Finished"))
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error)), fresh(error)):
        assert type(again) is TaskFailedError
        assert (str(again), again.task) == (str(error), error.task)


def test_notice_kinds() -> None:
    """`NoticeKind`: logged_on, renewed, unreachable, recovered, logged_out."""
    assert [str(kind) for kind in NoticeKind] == [
        "logged_on",
        "renewed",
        "unreachable",
        "recovered",
        "logged_out",
    ]


def test_statistics_add_up() -> None:
    """Counts of an earlier open time are added; what is now is not."""
    names = ("requests", "polls", "coalesced", "retries", "errors", "bytes_in")
    past = Statistics(**dict.fromkeys(names, 3), in_flight=4, watched=5)
    now = Statistics(**dict.fromkeys(names, 1), logons=2, renewals=1, watched=1)
    total = added(now, past)
    assert all(getattr(total, name) == 4 for name in names)
    assert (total.logons, total.renewals) == (2, 1)
    assert (total.in_flight, total.watched) == (0, 1)
