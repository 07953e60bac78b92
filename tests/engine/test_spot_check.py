"""The proof of collections: which task is asked for, and what contradicts it."""

from random import Random

import pytest
from support.strategies import VEEAM, reply

from veeam_tasks import MalformedReplyError, Pace, Task, TaskState
from veeam_tasks._engine.collection_poll import SpotCheck
from veeam_tasks._engine.records import DueState, PollTimes, TaskRecord
from veeam_tasks._engine.settle import Collection
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import CollectionReader

FINISHED = Task(
    task_id="task-1",
    state=TaskState.FINISHED,
    raw_state="Finished",
    operation="StartJob",
)


def watched(due: int = DueState.IN_COLLECTION) -> dict[str, TaskRecord]:
    """Return one record, by its ID."""
    record = TaskRecord(task_id="task-1", pace=Pace(), first_generation=1)
    record.due = due
    return {"task-1": record}


async def collection(*elements: str, sent: float = 20.0) -> Collection:
    """Return a collection that was asked for at a time."""
    body = f'<Tasks xmlns="{VEEAM}">{"".join(elements)}</Tasks>'.encode()
    pages = CollectionReader(
        loop=Still(),  # type: ignore[arg-type] # nothing but its clock is used
        shown="GET https://h:9398/api/tasks",
        limit=1 << 20,
        secrets=Secrets(),
    )
    pages.next_path()
    await pages.read(reply(body))
    times = PollTimes(generation=1, sent=sent, sent_wall=sent, now=sent, now_wall=sent)
    return Collection(pages=pages, times=times, seconds=0.1, size=len(body))


class Still:
    """A clock that stands still."""

    def time(self) -> float:
        """Return always the same."""
        return 0.0


def element(state: str, task_id: str = "task-1") -> str:
    """Return a task as the reference prints it."""
    return (
        f"<Task><TaskId>{task_id}</TaskId><State>{state}</State>"
        "<Operation>StartJob</Operation></Task>"
    )


def test_one_task_a_minute_that_waits_for_a_collection() -> None:
    """One that is asked for singly anyway proves nothing."""
    proof = SpotCheck(Random(0))
    records = watched()
    assert proof.choose(records, 0.0) is records["task-1"]
    assert proof.choose(records, 59.9) is None
    assert proof.choose(records, 60.0) is records["task-1"]
    assert proof.choose(watched(due=7), 120.0) is None
    assert proof.choose({}, 500.0) is None


@pytest.mark.parametrize("state", ["Running", "OperationFinished", "Odd"])
async def test_a_task_that_has_ended_and_is_shown_as_before(state: str) -> None:
    """The collection is not to be relied on, and the error says why."""
    proof = SpotCheck(Random(0))
    records = watched()
    record = proof.choose(records, 0.0)
    assert record is not None
    record.task, record.sent, record.due = FINISHED, 10.0, DueState.DROPPED
    assert proof.is_finished
    with pytest.raises(MalformedReplyError, match="task-1 unfinished, which is Finish"):
        proof.check(await collection(element(state)))
    assert not proof.is_finished


@pytest.mark.parametrize(
    "elements", [[element("Finished")], [element(" Finished\n")], []]
)
async def test_what_is_no_contradiction(elements: list[str]) -> None:
    """It shows the end as well, or the task not at all."""
    proof = SpotCheck(Random(0))
    records = watched()
    record = proof.choose(records, 0.0)
    assert record is not None
    record.task, record.sent, record.due = FINISHED, 10.0, DueState.DROPPED
    proof.check(await collection(*elements))
    assert not proof.is_finished


async def test_an_older_collection_proves_nothing_yet() -> None:
    """It was asked for before the task was."""
    proof = SpotCheck(Random(0))
    records = watched()
    record = proof.choose(records, 0.0)
    assert record is not None
    record.task, record.sent, record.due = FINISHED, 30.0, DueState.DROPPED
    proof.check(await collection(element("Running"), sent=20.0))
    assert proof.is_finished


async def test_a_task_that_goes_on_waits_for_collections_again() -> None:
    """Unless it is doubted, or a Result is asked for, or nothing was chosen."""
    proof = SpotCheck(Random(0))
    proof.check(await collection(element("Running")))
    for missing_replies, finished_without_result, due in [
        (0, 0, DueState.IN_COLLECTION),
        (1, 0, 77),
        (0, 1, 77),
    ]:
        records = watched()
        proof = SpotCheck(Random(0))
        record = proof.choose(records, 0.0)
        assert record is not None
        record.due, record.missing_replies, record.finished_without_result = (
            77,
            missing_replies,
            finished_without_result,
        )
        proof.check(await collection(element("Running")))
        assert record.due == due
