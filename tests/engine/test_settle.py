"""Settling: what a collection means for each watched task, with the loop let go.

The clock of these tests jumps a second each time it is read, so that the loop is let go
at every chance there is; what happens meanwhile is what each test is about.
"""

import asyncio
from collections.abc import Callable

from support.strategies import VEEAM, reply

from veeam_tasks import Pace, Task
from veeam_tasks._engine.records import DueState, PollTimes, TaskRecord
from veeam_tasks._engine.settle import Collection, Settling
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import CollectionReader

SECRETS = Secrets()
COUNT = 200


class Restless:
    """A clock that never shows the same time twice; all else is the real loop's."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        """Return a later time than before."""
        self.now += 1.0
        return self.now


def body(number: int, state: str = "Running", result: str = "") -> bytes:
    """Return the bytes of a task up to the cut."""
    href = f"https://h:9398/api/tasks/task-{number}"
    return (
        f'<Task Type="Task" Href="{href}"><Links><Link Rel="Delete" Href="{href}"/>'
        f"</Links><TaskId>task-{number}</TaskId><State>{state}</State>"
        f"<Operation>StartJob</Operation>{result}"
    ).encode()


def collection(*bodies: bytes) -> Reply:
    """Return the reply to GET /tasks."""
    inner = b"".join(one + b"</Task>" for one in bodies)
    return reply(b'<Tasks xmlns="' + VEEAM.encode() + b'">' + inner + b"</Tasks>")


def task_of(one: bytes) -> Task:
    """Return a task as it is decoded."""
    (task,) = _replies.decode_tasks(collection(one), SECRETS).tasks
    return task


class Scene:
    """Watched tasks that all wait for the next collection.

    Attributes:
        met: The IDs of the tasks that were found to have changed.
        singly: The IDs of those that are asked for singly from now on.
        meanwhile: Called once, when the loop was let go `after` times.
    """

    def __init__(self, *, is_together: bool = True) -> None:
        self.records = {
            f"task-{number}": TaskRecord(
                task_id=f"task-{number}", pace=Pace(growth=2), first_generation=1
            )
            for number in range(COUNT)
        }
        for number, record in enumerate(self.records.values()):
            record.due, record.pause, record.generation = DueState.IN_COLLECTION, 1.0, 1
            record.unchanged_hash, record.sent = hash(body(number)), 10.0
        self.met: list[str] = []
        self.singly: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.after = 1
        self.settling = Settling(
            loop=Restless(),  # type: ignore[arg-type] # nothing but its clock is used
            tracker=self,  # type: ignore[arg-type] # what it has of one is enough
            is_together=is_together,
        )

    def reschedule(self, record: TaskRecord, _: float) -> None:
        """Take note of what is asked for singly."""
        self.singly.append(record.task_id)

    def on_task(
        self, record: TaskRecord, task: Task, unchanged_hash: int, times: PollTimes
    ) -> None:
        """Take note of a changed task, as the tracker does."""
        assert record.task_id == task.task_id
        self.met.append(task.task_id)
        record.unchanged_hash, record.sent = unchanged_hash, times.sent
        record.finished_without_result += task.is_finished and task.result is None

    async def settle(
        self, *bodies: bytes, sent: float = 20.0, generation: int = 1
    ) -> None:
        """Settle with a collection of these tasks."""
        given = collection(*bodies)
        pages = CollectionReader(
            loop=Restless(),  # type: ignore[arg-type] # nothing but its clock is used
            shown="GET x",
            limit=1 << 24,
            secrets=SECRETS,
        )
        pages.next_path()
        await pages.read(given)
        times = PollTimes(
            generation=generation, sent=sent, sent_wall=sent, now=sent, now_wall=sent
        )
        other = asyncio.create_task(self.act())
        await self.settling.settle(
            Collection(pages=pages, times=times, seconds=0.1, size=1)
        )
        await other

    async def act(self) -> None:
        """Do what is done meanwhile, when the loop was let go so many times."""
        for _ in range(self.after):
            await asyncio.sleep(0)
        self.meanwhile()


BODIES = [body(number) for number in range(COUNT)]


async def test_what_is_as_before_is_not_decoded() -> None:
    """Its pause grows, and it counts as asked for at that times."""
    scene = Scene()
    await scene.settle(*BODIES)
    assert scene.met == []
    assert scene.settling.settled == COUNT
    assert {record.sent for record in scene.records.values()} == {20.0}
    assert {record.pause for record in scene.records.values()} == {2.0}
    assert scene.settling.lowest == 2.0


async def test_only_what_changed_is_met() -> None:
    """A task that is not watched, or not in the collection, is left alone."""
    scene = Scene()
    del scene.records["task-3"]
    changed = [*BODIES[:7], body(7, "Queued"), *BODIES[9:]]
    await scene.settle(*changed)
    assert scene.met == ["task-7"]
    assert scene.records["task-8"].sent == 10.0
    assert scene.settling.settled == COUNT - 2


async def test_a_task_that_was_asked_for_singly_since_is_known_better() -> None:
    """So is one whose single poll is under way."""
    scene = Scene()
    scene.records["task-1"].sent = 30.0
    scene.records["task-2"].due = DueState.POLLING
    scene.records["task-3"].finished_without_result = 1
    await scene.settle(*[body(number, "Queued") for number in range(COUNT)])
    assert not {"task-1", "task-2", "task-3"} & set(scene.met)
    assert len(scene.met) == COUNT - 3


async def test_an_older_logon_session_tells_nothing() -> None:
    """A collection asked for before a renewal changes nothing that came after it."""
    scene = Scene()
    for record in scene.records.values():
        record.generation = 2
    await scene.settle(*BODIES, generation=1)
    await scene.settle(body(0, "Queued"), generation=1)
    assert (scene.met, scene.settling.settled) == ([], 0)


async def test_a_new_logon_session_has_each_task_decoded() -> None:
    """Equal bytes under another token may be another task."""
    scene = Scene()
    await scene.settle(*BODIES, generation=2)
    assert len(scene.met) == COUNT


async def test_a_newcomer_in_between_is_not_passed_over() -> None:
    """Whose task was as before: it is to be told of it by the next collection."""
    scene = Scene()

    def come() -> None:
        scene.records["task-199"].unchanged_hash = None

    scene.meanwhile = come
    scene.after = 5  # all are compared by then, but not all are settled
    await scene.settle(*BODIES)
    assert scene.settling.settled == COUNT - 1
    assert scene.records["task-199"].sent == 10.0


async def test_what_is_dropped_in_between_is_left_alone() -> None:
    """Discarded, or taken by a poller, while the loop was let go."""
    scene = Scene()

    def drop() -> None:
        scene.records["task-198"].due = DueState.POLLING
        scene.records.pop("task-199").due = DueState.DROPPED

    scene.meanwhile = drop
    await scene.settle(*[body(number, "Queued") for number in range(COUNT)])
    assert len(scene.met) == COUNT - 2


async def test_finished_without_a_result_is_asked_for_singly() -> None:
    """The collection may leave the Result out; it is not asked about it again."""
    scene = Scene()
    done = body(5, "Finished")
    await scene.settle(*BODIES[:5], done, *BODIES[6:])
    assert scene.singly == ["task-5"]
    await scene.settle(*BODIES[:5], done, *BODIES[6:], sent=30.0)
    assert scene.met == ["task-5"]


async def test_while_asking_singly_nothing_waits_for_the_next_collection() -> None:
    """A trial of the collection leaves each task where it stands in the schedule."""
    scene = Scene(is_together=False)
    for record in scene.records.values():
        record.due = 77
    await scene.settle(body(0, "Queued"), *BODIES[1:])
    assert {record.due for record in scene.records.values()} == {77}
    assert {record.pause for record in scene.records.values()} == {1.0}
    scene = Scene()
    for record in scene.records.values():
        record.due = 77
    await scene.settle(body(0, "Queued"), *BODIES[1:])
    assert {record.due for record in scene.records.values()} == {DueState.IN_COLLECTION}


def test_the_samples_are_what_they_are_taken_for() -> None:
    """A body up to the cut decodes to its task."""
    assert task_of(body(4, "Finished")).is_finished
