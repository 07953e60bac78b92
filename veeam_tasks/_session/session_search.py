"""Which job session a task has started; pure.

A started job's task may link to its job session, or not: vendor samples of one version
show both (``jobs_id_action_start``, ``get_query_task`` reference pages). Without a link
the job's sessions are asked for, and most of what comes is not ours:

1. the previous run, which may reach the Enterprise Manager later than our start;
2. a later run: a retry, the schedule's, one chained to another job;
3. a child of a run: the worker of a copy job, an agent's management session;
4. a run of another job, since a filter of the server is no promise.

Two clocks are in it: a job session is dated by the backup server's, our start by the
Enterprise Manager's ``Date`` header. Hence a skew, and the job sessions known before.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Literal

import attrs

from veeam_tasks._model import JobSession, Link, Task
from veeam_tasks._protocol.sessions import KINDS, guid_of

SKEW = timedelta(seconds=120)
"""By how much the backup server's clock may be behind the Enterprise Manager's."""
WIDE_SKEW = timedelta(seconds=600)
"""The same where the server told no time, so that our own clock had to do."""

QUERY_KINDS = ("BackupJobSession", "ReplicaJobSession")
"""What a job's run can be; the job itself, which would say, is not for all roles. Only
those below ``/jobs`` can be replicas; and ``sync`` is for backup copies."""

NEWEST = 100
"""Sessions asked for where the server takes no filter by time."""

_CHILDREN = {"immediatebackupcopyworker", "agentmanagement"}
_PARENT = "parent session"

# Operations by the samples of all 87 actions, spelt as there but for the case.
_START_JOB = {
    "startjob",
    "startjobsync",
    "retryjob",
    "startagentjob",
    "retryagentjob",
    "startnasjob",
    "retrynasjob",
}
_LINKED = {
    "quickbackup",
    "veeamzip",
    "startvmrestore",
    "startvapprestore",
    "restorefile",
    "startreplicafailover",
    "startfailover",
    "startcloudfailoverplan",
}
# The job session that such a task may link to is one that it ends, or its own
# beginning.
_STOP = {"stopjob", "stopagentjob", "stopnasjob", "stopjobsession"}

_JOB_ACTION = re.compile(
    r"(?:(agents|nas)/)?jobs/([^/?]+)(?:/([A-Za-z]+))?(?:\?(.*))?", re.IGNORECASE
)
_ACTIONS = ("start", "retry", "sync")


class SessionSource(Enum):
    """Where the job session of a finished task is to be found."""

    NOWHERE = "the operation makes none: the task is the end"
    LINK = "the task links to it, now or later"
    QUERY = "the task may link to it, or the job's sessions have it"


@attrs.frozen(kw_only=True)
class StartedJob:
    """What is known of a start that `submit` sent, so that its run can be told.

    Attributes:
        path: Of the action, below ``/api/``.
        job_guid: The GUID of the job, in lower case.
        action: What was asked of it.
        replied_at: When the reply came, by the server's ``Date``; aware, UTC.
        skew: How much earlier a run of ours may seem to have begun.
        known: IDs of job sessions that the job had before; empty if nobody asked.
        recent: Those of them that their time alone does not tell from our run.
        under_way: A run of the job that had not ended before, if there was one.
        kind: What the job's sessions are, if it had any; else both kinds are asked for.
    """

    path: str
    job_guid: str
    action: Literal["start", "retry", "sync"]
    replied_at: datetime
    skew: timedelta = SKEW
    known: frozenset[str] = frozenset()
    recent: frozenset[str] = frozenset()
    under_way: JobSession | None = None
    kind: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its run can be: a replica's session or, as a rule, a backup's."""
        if self.kind is not None:
            return (self.kind,)
        is_plain = self.path.casefold().startswith("jobs/") and self.action != "sync"
        return QUERY_KINDS if is_plain else QUERY_KINDS[:1]

    @property
    def not_before(self) -> datetime:
        """The earliest beginning that a run of ours can have."""
        return self.replied_at - self.skew


def job_action_of(path: str) -> tuple[str, Literal["start", "retry", "sync"]] | None:
    """Return (GUID, action) of the path of an action that starts a job; else None."""
    found = _JOB_ACTION.fullmatch(path)
    guid = guid_of(found[2]) if found else None
    if found is None or guid is None:
        return None
    named = re.search(r"(?:^|&)action=([A-Za-z]+)", found[4] or "", re.IGNORECASE)
    word = (found[3] or (named[1] if named else "")).lower()
    for action in _ACTIONS:
        if action == word:
            return guid, action  # type: ignore[return-value] # one of the three
    return None


def source_of(task: Task, started: StartedJob | None) -> SessionSource:
    """Return where the job session of a task that finished with success is."""
    operation = task.operation.casefold()
    if operation in _STOP:
        return SessionSource.NOWHERE
    if operation in _START_JOB or started is not None:
        return SessionSource.LINK if started is None else SessionSource.QUERY
    if operation in _LINKED or session_link(task) is not None:
        return SessionSource.LINK
    return SessionSource.NOWHERE


def session_link(task: Task) -> Link | None:
    """Return the Related link of a task that leads to a job session; None if none.

    By its Type, wherever it stands; a link without one by its path.
    """
    for link in task.related:
        if link.type in KINDS or (link.type is None and _is_session_path(link.href)):
            return link
    return None


def _is_session_path(href: str) -> bool:
    path = href.partition("?")[0].rpartition("/api/")[2]
    collection = path.rpartition("/")[0].casefold()
    return collection in {
        "backupsessions",
        "replicasessions",
        "restoresessions",
        "agents/backupsessions",
        "nas/backupsessions",
        "cloud/failoversessions",
    }


def choose(sessions: Iterable[JobSession], started: StartedJob) -> JobSession | None:
    """Return the oldest of the job sessions that can be the run of this start.

    The oldest, since a retry, a scheduled and a chained run come after ours.
    """
    fitting = [one for one in sessions if why_not(one, started) is None]
    return min(fitting, key=_by_age, default=None)


def _by_age(session: JobSession) -> tuple[datetime, str]:
    return session.created_at or datetime.max.replace(tzinfo=UTC), session.session_id


def why_not(session: JobSession, started: StartedJob) -> str | None:
    """Return in words why a job session is not this start's run; None if it may be."""
    created = session.created_at
    reason = None
    if not is_of_job(session, started.job_guid):
        reason = "it is of another job"
    elif is_child(session):
        reason = "it is a part of another job session"
    elif session.session_id in started.known:
        reason = "it was there before the start"
    elif created is None:
        reason = "the server does not say when it began"
    elif created < started.not_before:
        reason = f"it began at {created:%Y-%m-%d %H:%M:%S} UTC, before the start"
    elif session.is_retry and started.action != "retry":
        reason = "it is a retry of an earlier run"
    return reason


def is_of_job(session: JobSession, job_guid: str) -> bool:
    """Tell whether a job session is of the job with this GUID."""
    guid = guid_of(session.job_uid)
    if guid is None:
        ups = [link.href for link in session.links if link.rel == "Up"]
        paths = [href.partition("?")[0] for href in ups]
        return any("/jobs/" in path and guid_of(path) == job_guid for path in paths)
    return guid == job_guid


def is_child(session: JobSession) -> bool:
    """Tell whether a job session is a part of another one, and no run by itself."""
    return (session.job_type or "").casefold() in _CHILDREN or any(
        link.rel == "Up" and (link.name or "").casefold() == _PARENT
        for link in session.links
    )
