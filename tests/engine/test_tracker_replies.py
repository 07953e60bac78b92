"""What becomes of each reply: who is told, who is asked again, who ends."""

import gc
from collections.abc import Callable, Iterable

import pytest
from support.engines import EngineScene
from support.raw_server import error_body

from veeam_tasks import (
    CertificateError,
    LogonError,
    NoticeKind,
    Pace,
    Task,
    TaskResult,
    TaskState,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._engine.decisions import UNAUTHORIZED_ROUNDS
from veeam_tasks._engine.records import DueState, PollTimes, TaskRecord
from veeam_tasks._engine.tracker import _STARTED_KEPT
from veeam_tasks._events import Observation
from veeam_tasks._protocol.classification import classify
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._session.logon_session import ADVICE

WALL = 1_750_000_000.0
DOWN = TransportError(request="GET x", reason="reset")
UNKNOWN = "There is no backup task with id [task-1] in current rest session"


class Watching:
    """Notes what it is told."""

    pace = Pace(first=2, growth=2, longest=10, jitter=0)

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.cut_by: list[Exception] = []

    def on_observation(self, seen: Observation) -> None:
        """Note a sighting."""
        self.seen.append(seen)

    def on_end(self, error: Exception) -> None:
        """Note the end."""
        self.cut_by.append(error)

    def on_discovered(self, task_ids: Iterable[str], generation: int) -> bool:
        """Want nothing anew."""
        return False


class Scene(EngineScene):
    """One watched task under the first token, which was accepted."""

    def __init__(self, patience: float | None = None) -> None:
        super().__init__(patience)
        self.watching = Watching()
        self.on_renewed: Callable[[], object] = lambda: None
        self.me = self.tracker.reference(self.watching)
        self.record = self.watch("task-1")

    def watch(self, task_id: str) -> TaskRecord:
        """Watch one more task, and let a poller have it."""
        self.tracker.add(self.me, [task_id])
        record = self.tracker.records[task_id]
        record.due = DueState.POLLING
        return record

    def renewed(self) -> None:
        """Do what the test asks for."""
        self.on_renewed()

    @property
    def told(self) -> list[tuple[NoticeKind, list[str]]]:
        """What the caller was told, with the tasks at risk."""
        return [(notice.kind, list(notice.task_ids)) for notice in self.notices]

    def moment(self, generation: int | None = None) -> PollTimes:
        """Return now, under the token of today or another."""
        now = self.loop.now
        return PollTimes(
            generation=self.logon.generation if generation is None else generation,
            sent=now,
            sent_wall=WALL + now,
            now=now,
            now_wall=WALL + now,
        )

    async def meet(
        self,
        status: int,
        body: bytes = b"",
        *,
        generation: int | None = None,
        later: float = 3.0,
    ) -> None:
        """Let a poller meet a reply, some seconds after the last one."""
        self.loop.move_to(self.loop.now + later)
        if self.record.due != DueState.DROPPED:
            self.record.due = DueState.POLLING
        kind = "application/xml" if body else ""
        given = Reply(request="GET x", status=status, content_type=kind, body=body)
        times = self.moment(generation)
        verdict = classify(given, "task-1", self.logon.secrets)
        refusal = self.tracker.on_reply(self.record, verdict, hash(body), times)
        if refusal is not None:
            await self.engine._on_unauthorized(self.record, refusal, times)

    @property
    def states(self) -> list[str]:
        """What was told, in order."""
        return [seen.state.value for seen in self.watching.seen]

    @property
    def last(self) -> str:
        """The words of the last loss."""
        return str(self.watching.seen[-1].error)


def task(
    state: str = "Running", operation: str = "StartJob", result: str = ""
) -> bytes:
    """Return a task as the reference prints it."""
    return (
        '<Task xmlns="http://www.veeam.com/ent/v1.0" Type="Task"'
        ' Href="https://h:9398/api/tasks/task-1"><TaskId>task-1</TaskId>'
        f"<State>{state}</State><Operation>{operation}</Operation>{result}</Task>"
    ).encode()


STARTED = Task(
    task_id="task-1",
    state=TaskState.RUNNING,
    raw_state="Running",
    operation="StartJob",
    result=None,
)


# --- a task, or nothing known of it


async def test_a_task_is_told_and_asked_for_again() -> None:
    """And its token is good, and this logon session knows a task."""
    scene = Scene()
    scene.logon.accepted = False
    await scene.meet(200, task())
    assert scene.states == ["Running"]
    assert scene.record.due >= 0
    assert scene.logon.accepted
    assert scene.logon.knows_tasks
    assert scene.record.unchanged_hash == hash(task())


async def test_finished_is_told_and_dropped() -> None:
    """Exactly one final event; the record is gone, and a late reply changes nothing."""
    scene = Scene()
    await scene.meet(200, task("Finished", result='<Result Success="true"/>'))
    assert scene.states == ["Finished"]
    assert scene.record.due == DueState.DROPPED
    assert scene.tracker.records == {}


async def test_without_a_result_each_reply_is_looked_at() -> None:
    """An equal body counts, so no digest is kept."""
    scene = Scene()
    for _ in range(3):
        await scene.meet(200, task("Finished"))
        assert scene.record.unchanged_hash is None
    await scene.meet(200, task("Finished"))
    assert scene.states == ["Finished"]


async def test_two_words_of_the_server_that_it_is_unknown() -> None:
    """LOST at the second; with advice, since this logon session knows none."""
    scene = Scene()
    await scene.meet(500, error_body(500, UNKNOWN))
    assert scene.states == []
    await scene.meet(500, error_body(500, UNKNOWN))
    assert scene.states == ["Lost"]
    assert ADVICE in scene.last
    assert scene.tracker.errors == 2


async def test_advice_is_only_for_a_logon_session_that_knows_nothing() -> None:
    """Once it knew a task, the advice would mislead."""
    scene = Scene()
    scene.logon.knows_tasks = True
    for _ in range(2):
        await scene.meet(404)
    assert ADVICE not in scene.last


async def test_403_is_lost_at_the_second_and_renews_nothing() -> None:
    """This account may not read it."""
    scene = Scene()
    for _ in range(2):
        await scene.meet(403, error_body(403, "Access denied"))
    assert scene.states == ["Lost"]
    assert "Access denied" in scene.last
    assert scene.script.logons == 0


async def test_who_has_gone_is_not_told() -> None:
    """A watch that nobody held any more may go while its poll is under way."""
    scene = Scene()
    other = Watching()
    scene.tracker.add(scene.tracker.reference(other), ["task-1"])
    del scene.watching
    gc.collect()
    await scene.meet(200, task())
    assert [seen.state.value for seen in other.seen] == ["Running"]


# --- generations


async def test_a_good_reply_to_an_older_token_is_asked_for_again() -> None:
    """It is older than what is known: it may be of another task under that ID."""
    scene = Scene()
    scene.logon.adopt("token-9", "695c2c92")
    await scene.meet(200, task())
    assert scene.record.generation == 2
    told = len(scene.watching.seen)
    await scene.meet(
        200, task("Finished", result='<Result Success="false"/>'), generation=1
    )
    assert len(scene.watching.seen) == told
    assert scene.record.due == DueState.READY


async def test_a_late_401_is_asked_for_again_at_once() -> None:
    """The token is another by now; no logon, and it does not count as a round."""
    scene = Scene()
    scene.logon.adopt("token-9", "695c2c92")
    await scene.meet(401, generation=1)
    assert (scene.record.due, scene.record.unauthorized_rounds) == (DueState.READY, 0)
    assert scene.script.logons == 0


async def test_a_refused_token_is_renewed_and_the_task_asked_for_at_once() -> None:
    """One logon, one retry, and no round of this task alone."""
    scene = Scene()
    await scene.meet(401)
    assert scene.script.logons == 1
    assert (scene.logon.generation, scene.record.due) == (2, DueState.READY)
    assert (scene.record.unauthorized_rounds, scene.tracker.retries) == (0, 1)


async def test_a_task_that_alone_answers_401_is_given_up_after_three_rounds() -> None:
    """The token is known to be good, so it is this task alone; no logon."""
    scene = Scene()
    scene.script.own = 200
    for _ in range(UNAUTHORIZED_ROUNDS):
        await scene.meet(401)
        assert scene.states == []
    await scene.meet(401)
    assert scene.states == ["Lost"]
    assert "this account may not read it" in scene.last
    assert scene.script.logons == 0


async def test_tasks_that_are_all_refused_are_not_lost() -> None:
    """A good token and 401 for every task: the server is unwell, and it passes."""
    scene = Scene()
    scene.script.own = 200
    other = scene.watch("task-2")
    other.due = 7
    other.unauthorized_rounds = 1
    for _ in range(3 * UNAUTHORIZED_ROUNDS):
        await scene.meet(401)
    assert scene.states == []
    assert scene.record.failures > 0
    assert scene.script.logons == 0
    # Until another one is readable.
    other.unauthorized_rounds = 0
    await scene.meet(401)
    assert scene.states == ["Lost"]


@pytest.mark.virtual_time
async def test_a_server_that_will_not_tell_costs_three_logons_at_most() -> None:
    """It knows no logon session to ask for, so the token is renewed in each round."""
    scene = Scene()
    scene.script.own = 405
    for _ in range(UNAUTHORIZED_ROUNDS + 1):
        # Others have had good replies.
        scene.logon.mark_accepted(scene.logon.generation)
        assert scene.states == []
        await scene.meet(401)
    assert scene.states == ["Lost"]
    assert scene.script.logons <= UNAUTHORIZED_ROUNDS + 1


@pytest.mark.virtual_time
async def test_restarts_close_together_do_not_lose_a_task() -> None:
    """Each time the token is really void: rounds of one task alone do not add up."""
    scene = Scene()
    for _ in range(9):
        await scene.meet(401)
        scene.logon.mark_accepted(scene.logon.generation)
        await scene.meet(200, task())
    assert set(scene.states) == {"Running"}
    assert scene.script.logons == 9


@pytest.mark.virtual_time
async def test_a_token_that_is_void_again_is_no_round_of_one_task() -> None:
    """Restarts close together: five 401 with no good reply to this task in between."""
    scene = Scene()
    scene.script.own = 401
    for _ in range(5):
        scene.logon.mark_accepted(
            scene.logon.generation
        )  # others have had good replies
        await scene.meet(401)
    assert scene.states == []
    assert scene.script.logons == 5


@pytest.mark.parametrize("answer", [500, 503, DOWN])
async def test_a_renewal_without_an_answer_is_trouble(
    answer: int | VeeamTasksError,
) -> None:
    """It counts as a failure of the poll, and may close the queue."""
    scene = Scene()
    scene.script.post = answer
    await scene.meet(401)
    assert scene.record.failures == 1
    assert scene.record.due >= 0
    assert scene.logon.refused is None
    scene.script.post = 201
    await scene.meet(401)
    assert scene.logon.generation == 2


async def test_an_unwell_server_in_the_second_round_is_trouble() -> None:
    """Whether this task alone is refused could not be found out."""
    scene = Scene()
    scene.script.own = 200
    await scene.meet(401)
    scene.script.own = DOWN
    await scene.meet(401)
    assert (scene.record.unauthorized_rounds, scene.record.failures) == (1, 1)


async def test_a_refused_logon_ends_all() -> None:
    """The record is gone by then, and nobody is told of it as a loss."""
    scene = Scene()
    scene.script.post = 401
    await scene.meet(401)
    assert scene.states == []
    assert [type(one) for one in scene.watching.cut_by] == [LogonError]
    assert scene.tracker.records == {}


async def test_a_record_that_went_while_the_logon_ran_is_left_alone() -> None:
    """Discarded in mid-renewal."""
    scene = Scene()
    scene.on_renewed = lambda: scene.tracker.discard(scene.me, ["task-1"])
    await scene.meet(401)
    assert scene.record.due == DueState.DROPPED
    assert (scene.states, scene.record.unauthorized_rounds) == ([], 0)


async def test_a_task_of_another_server_is_lost_when_the_first_reply_tells() -> None:
    """It was named by an Href, and the server calls itself otherwise."""
    scene = Scene()
    origins = scene.logon.origins
    assert origins.id_of("https://other:9398/api/tasks/task-1") == "task-1"
    await scene.meet(200, task())
    assert scene.states == ["Lost"]
    assert "was named as 'https://other:9398/api/tasks/task-1'" in scene.last
    assert scene.tracker.records == {}


# --- trouble


async def test_a_refused_certificate_ends_all_at_once() -> None:
    """It is no outage, and nobody waits for it to go away."""
    scene = Scene()
    refused = CertificateError(request="GET x", reason="expired")
    scene.engine._on_failure(scene.record, refused, scene.moment())
    assert scene.watching.cut_by == [refused]
    assert (scene.told, scene.health.outage.is_closed) == ([], False)


async def test_one_outage_is_told_once_down_and_once_up() -> None:
    """With the tasks at risk, however many polls fail."""
    scene = Scene()
    records = [scene.record, *(scene.watch(f"task-{number}") for number in (2, 3, 4))]
    for _ in range(3):
        for record in records:
            record.due = DueState.POLLING
            scene.engine._on_failure(record, DOWN, scene.moment())
    at_risk = ["task-1", "task-2", "task-3", "task-4"]
    assert scene.told == [(NoticeKind.UNREACHABLE, at_risk)]
    for _ in range(3):
        scene.health.record_success()
    assert scene.told[1:] == [(NoticeKind.RECOVERED, at_risk)]


async def test_patience_of_one_task_is_not_spent_in_an_outage() -> None:
    """During an outage patience is counted for all; afterwards it begins anew."""
    scene = Scene(patience=10.0)
    other = scene.watch("task-2")
    other.due = DueState.IN_COLLECTION
    for _ in range(2):
        scene.engine._on_failure(scene.record, DOWN, scene.moment())
        scene.record.due = DueState.POLLING
    unreachable = TransportError(request="GET x", reason="refused", connected=False)
    scene.loop.move_to(109)
    scene.engine._on_failure(scene.record, unreachable, scene.moment())
    assert scene.health.outage.is_closed
    scene.loop.move_to(200)
    scene.record.due = DueState.POLLING
    scene.engine._on_failure(scene.record, DOWN, scene.moment())
    scene.health.record_success()
    scene.loop.move_to(209)
    scene.record.due = DueState.POLLING
    scene.engine._on_failure(scene.record, DOWN, scene.moment())
    assert scene.states == []
    scene.loop.move_to(210)
    scene.record.due = DueState.POLLING
    scene.engine._on_failure(scene.record, DOWN, scene.moment())
    assert scene.states == ["Lost"]
    assert scene.watching.seen[0].error is DOWN


# --- what submit gave


async def test_a_task_that_submit_gave_since_the_renewal_ends_the_old_watch() -> None:
    """The old one of that ID is LOST, with its last known task."""
    scene = Scene()
    await scene.meet(200, task())
    await scene.meet(401)
    scene.tracker.note_submitted(STARTED, 2)
    assert scene.states == ["Running", "Lost"]
    assert "submitted since then" in scene.last
    assert scene.watching.seen[-1].task is not None
    # What is watched from now on is the new one.
    scene.record = scene.watch("task-1")
    assert (scene.record.first_generation, scene.record.generation) == (2, 2)
    await scene.meet(200, task())
    assert scene.states == ["Running", "Lost", "Running"]


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_task_that_is_watched_before_its_submit_returns_is_the_same(
    generation: int,
) -> None:
    """No renewal in between, so it is the task that was meant."""
    scene = Scene()
    if generation == 2:
        scene.tracker.clear()
        await scene.logon.renew(1, is_expired=True)
        scene.record = scene.watch("task-1")
    scene.tracker.note_submitted(STARTED, generation)
    assert scene.states == []
    assert scene.record.due == DueState.POLLING


async def test_a_submit_of_an_older_logon_session_ends_no_newer_watch() -> None:
    """Its reply came after the renewal, but the task is of the one before it."""
    scene = Scene()
    scene.tracker.clear()
    await scene.logon.renew(1, is_expired=True)
    scene.tracker.note_submitted(STARTED, 1)
    scene.record = scene.watch("task-1")
    assert (scene.record.first_generation, scene.record.generation) == (1, 1)
    # So another task under its ID is not taken for it.
    await scene.meet(200, task(operation="CloneJob"))
    assert scene.states == ["Lost"]
    assert "another task under this ID" in scene.last


async def test_what_submits_gave_is_remembered_up_to_a_bound() -> None:
    """Ten thousand are kept, the oldest forgotten; what has ended is forgotten too."""
    scene = Scene()
    for number in range(_STARTED_KEPT + 5):
        started = Task(
            task_id=f"task-{number + 100}",
            state=TaskState.RUNNING,
            raw_state="Running",
            operation="StartJob",
            result=None,
        )
        scene.tracker.note_submitted(started, 1)
    assert len(scene.tracker._started) == _STARTED_KEPT
    assert "task-104" not in scene.tracker._started
    assert "task-105" in scene.tracker._started
    finished = TaskResult(success=True, message=None)
    record = scene.watch("task-105")
    assert record.task is not None
    ended = Task(
        task_id="task-105",
        state=TaskState.FINISHED,
        raw_state="Finished",
        operation="StartJob",
        result=finished,
    )
    scene.tracker.on_task(record, ended, 7, scene.moment())
    assert "task-105" not in scene.tracker._started
