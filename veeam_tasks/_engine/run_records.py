"""`RunRecord`: what the engine knows of a followed run, from the end of its task on."""

from collections.abc import Collection, Iterator

import attrs

from veeam_tasks._engine.records import PolledRecord, SubscriberRef, TaskRecord
from veeam_tasks._events import Observation
from veeam_tasks._model import JobSession, RunStage, Task
from veeam_tasks._session.session_search import SessionSource, StartedJob
from veeam_tasks._session.submitted import Submitted


@attrs.frozen
class LinkRequest:
    """A GET of the job session that the task links to, or that was found."""

    path: str


@attrs.frozen
class TaskRequest:
    """A GET of the finished task, which may link to its job session by now."""

    path: str


@attrs.frozen
class QueryRequest:
    """A query for the job sessions of the job.

    Attributes:
        kind: Of which kind the job sessions are.
        by_urn: Whether the job is named by its whole UID, not by its GUID alone.
        has_time: Whether only those since the start are asked for.
    """

    path: str
    kind: str
    by_urn: bool
    has_time: bool


@attrs.frozen
class Deadline:
    """Until when a job session may be searched.

    Attributes:
        at: Monotonic time.
        seconds: How long that was from the beginning.
        held_before: For how many seconds the loop had been held until then.
    """

    at: float
    seconds: float
    held_before: float = 0.0


RunRequest = LinkRequest | TaskRequest | QueryRequest


@attrs.define(eq=False, kw_only=True)
class RunRecord(PolledRecord):
    """One run: searched until its job session is found, then polled until that ends.

    A search goes in rounds: each asks for what may tell of the job session, one request
    after the other, and then pauses.

    Attributes:
        task_id: The task that started it.
        first_generation: Of the logon session that the task belongs to.
        number: Tells which of two starts came first.
        task: As it was seen last.
        submitted: What gave the task; None if that was not ours.
        started: What is known of the start; None if it was no job or not ours.
        source: Where its session may be found.
        deadlines: How long each subscriber lets it be searched.
        path: Of the job session, below ``/api/``; None until it is known.
        session_id: The GUID of the job session; None until it is known.
        session: As it was seen last; None until it was seen.
        latest: What was told last of its session, for whoever joins.
        has_task: Whether the task may still be asked for a link.
        steps: What is left of the round of a search: kinds to query, or "task".
        rounds: How many rounds were begun.
        round_sent: Monotonic time when the first request of the round was sent.
        is_round_clean: Whether each request of the round had an answer that tells.
        resultless: Looks at Stopped without a Result; `looked_at` of the last counted.
        refused: Why job sessions of the job were not taken for the run, by ID.
        under_way: A job session of the job that ran before the start, as far as known.
        is_single: Whether it is not to be asked for together with others.
        missed: How many queries for several job sessions did not show it.
        shown: What stands for the bytes of its session in a page, with that session.
    """

    task_id: str
    first_generation: int
    number: int = 0
    task: Task
    submitted: Submitted | None = None
    started: StartedJob | None
    source: SessionSource
    lost_by: str = ""
    deadlines: dict[SubscriberRef, Deadline] = attrs.field(factory=dict)
    path: str | None = None
    session_id: str | None = None
    session: JobSession | None = None
    latest: Observation | None = None
    has_task: bool = True
    steps: list[str] = attrs.field(factory=list)
    rounds: int = 0
    round_sent: float = 0.0
    is_round_clean: bool = True
    resultless: int = 0
    looked_at: float = 0.0
    refused: dict[str, str] = attrs.field(factory=dict)
    under_way: JobSession | None = None
    is_single: bool = False
    missed: int = 0
    shown: tuple[int, JobSession] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from others: a later logon session gives its task ID anew."""
        return self.task_id, self.number

    @property
    def stage(self) -> RunStage:
        """How far it is."""
        return RunStage.SEARCHING if self.session is None else RunStage.SESSION

    @property
    def is_by_link(self) -> bool:
        """Whether only a link of the task, still to come, can tell of its session."""
        return self.source is SessionSource.LINK and self.path is None

    def want(self, subscriber: SubscriberRef, deadline: Deadline) -> None:
        """Let a subscriber want this, and search until its deadline."""
        self.join(subscriber)
        self.deadlines[subscriber] = deadline

    def leave(self, subscriber: SubscriberRef) -> None:
        """Let a subscriber go."""
        super().leave(subscriber)
        del self.deadlines[subscriber]


@attrs.define(eq=False)
class WatchedRecords(Collection[str]):
    """Every record of an engine; as a collection, the IDs of the tasks.

    Attributes:
        tasks: The watched tasks, by their IDs.
        runs: The runs that are followed, by their `RunRecord.key`.
    """

    tasks: dict[str, TaskRecord] = attrs.field(factory=dict)
    runs: dict[tuple[str, int], RunRecord] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self.tasks) + len(self.runs)

    def __iter__(self) -> Iterator[str]:
        yield from self.tasks
        for task_id, _ in self.runs:
            yield task_id

    def __contains__(self, task_id: object) -> bool:
        return task_id in self.tasks or any(task_id == one for one, _ in self.runs)
