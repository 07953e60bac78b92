"""Where tasks came from: the action of each submit, and when the server answered it.

The task of a started job often says nothing of the job session; the path of the action
and the time of its reply are then what tells the run from others, see
`session_search.py`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import attrs

from veeam_tasks._model import JobSession, Task
from veeam_tasks._session.session_search import (
    SKEW,
    WIDE_SKEW,
    StartedJob,
    is_child,
    is_of_job,
    job_action_of,
)

_KEPT = 10_000
_NEVER = datetime.max.replace(tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Submitted:
    """One action that was answered with a task.

    Attributes:
        path: Of the action, below ``/api/``, as people may see it.
        at: When the reply came, by the server's clock; aware, UTC.
        generation: Of the logon session that it was sent under.
        task: The task, as the reply had it.
        started: What is known of the start, if it started a job.
        number: Tells which of two came first; counted from 1.
    """

    path: str
    at: datetime
    generation: int
    task: Task
    started: StartedJob | None = None
    number: int = 0


@attrs.frozen(kw_only=True)
class KnownSessions:
    """What a job had before it was started.

    Attributes:
        ids: Of the job sessions that it had.
        began: When they began, as far as the server said.
        under_way: The newest that had not ended.
        kind: What its sessions are; None if it had none.
    """

    ids: frozenset[str] = frozenset()
    began: Mapping[str, datetime] = attrs.field(factory=dict)
    under_way: JobSession | None = None
    kind: str | None = None


@attrs.define(eq=False)
class Submits:
    """The latest submits by the ID of their task; a bounded number of them.

    An ID begins anew with each logon session: the latest submit is the one meant.
    """

    _by_task: dict[str, Submitted] = attrs.field(factory=dict)
    _count: int = 0

    def note(self, submitted: Submitted) -> None:
        """Remember a submit."""
        task_id = submitted.task.task_id
        self._count += 1
        self._by_task.pop(task_id, None)
        self._by_task[task_id] = attrs.evolve(submitted, number=self._count)
        if len(self._by_task) > _KEPT:
            del self._by_task[next(iter(self._by_task))]

    def is_older(self, generation: int) -> bool:
        """Tell whether any submit was sent under an earlier logon session."""
        first = next(iter(self._by_task.values()), None)
        return first is not None and first.generation < generation

    def forget(self, task_id: str, generation: int) -> bool:
        """Forget a submit of an earlier logon session; tell whether there was one."""
        submitted = self._by_task.get(task_id)
        if submitted is None or submitted.generation >= generation:
            return False
        del self._by_task[task_id]
        return True

    def of(self, task_id: str) -> Submitted | None:
        """Return the submit that gave a task ID; None if it was none of ours."""
        return self._by_task.get(task_id)


def started_job(
    path: str,
    at: datetime,
    *,
    is_server_time: bool,
    known: KnownSessions | None,
    waited: float = 0.0,
) -> StartedJob | None:
    """Return what is known of the start that an action was; None if it was none.

    Args:
        path: Of the action.
        at: When its reply came.
        is_server_time: Whether that is by the server's clock.
        known: What the job had before.
        waited: For how many seconds the reply was waited for.
    """
    action = job_action_of(path)
    if action is None:
        return None
    known = known or KnownSessions()
    skew: timedelta = SKEW if is_server_time else WIDE_SKEW
    # A server that is slow to answer has begun the run long before its reply.
    skew += timedelta(seconds=int(waited))
    return StartedJob(
        path=path,
        job_guid=action[0],
        action=action[1],
        replied_at=at,
        skew=skew,
        known=known.ids,
        recent=frozenset(
            one for one in known.ids if known.began.get(one, at) >= at - skew
        ),
        under_way=known.under_way,
        kind=known.kind,
    )


def known_sessions(sessions: Iterable[JobSession], job_guid: str) -> KnownSessions:
    """Return what of the job sessions that a query gave matters after the start."""
    mine = [one for one in sessions if is_of_job(one, job_guid)]
    open_ones = [one for one in mine if not one.is_ended and not is_child(one)]
    dated = [one for one in open_ones if one.created_at is not None]
    newest = max(dated, key=lambda one: one.created_at or _NEVER, default=None)
    return KnownSessions(
        ids=frozenset(one.session_id for one in mine),
        began={one.session_id: one.created_at for one in mine if one.created_at},
        under_way=newest,
        kind=mine[0].kind if mine else None,
    )
