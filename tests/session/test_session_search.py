"""Of all that a job's sessions show, the run that a start made is chosen, or none."""

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import Link, Task, TaskResult, TaskState
from veeam_tasks._model import JobSession, SessionResult, SessionState
from veeam_tasks._session.session_search import (
    SKEW,
    SessionSource,
    StartedJob,
    choose,
    job_action_of,
    session_link,
    source_of,
    why_not,
)

JOB = "1c29a0ac-7e4e-4a0b-9f45-6c7b1a0d2e33"
OTHER = "2c29a0ac-7e4e-4a0b-9f45-6c7b1a0d2e33"
NOW = datetime(2026, 6, 16, 6, 33, 10, tzinfo=UTC)


def session(number: int, seconds: float, **changes: object) -> JobSession:
    """Return a run of the job that began so many seconds after our start."""
    guid = f"00000000-0000-0000-0000-{number:012}"
    plain = JobSession(
        session_id=guid,
        uid=f"urn:veeam:BackupJobSession:{guid}",
        kind="BackupJobSession",
        job_uid=f"urn:veeam:Job:{JOB}",
        job_type="Backup",
        state=SessionState.WORKING,
        raw_state="Working",
        created_at=NOW + timedelta(seconds=seconds),
        is_retry=False,
    )
    return attrs.evolve(plain, **changes)  # type: ignore[arg-type] # of a test


def started(**changes: object) -> StartedJob:
    """Return a start of the job now."""
    plain = StartedJob(
        path=f"jobs/{JOB}?action=start", job_guid=JOB, action="start", replied_at=NOW
    )
    return attrs.evolve(plain, **changes)  # type: ignore[arg-type] # of a test


def task(operation: str, *links: Link) -> Task:
    """Return a task that finished with success."""
    return Task(
        task_id="task-7",
        state=TaskState.FINISHED,
        raw_state="Finished",
        operation=operation,
        result=TaskResult(success=True),
        links=links,
    )


def related(kind: str | None, path: str = "backupSessions/x") -> Link:
    """Return a Related link."""
    return Link(rel="Related", href=f"https://em/api/{path}?format=Entity", type=kind)


def test_the_oldest_that_fits_is_ours() -> None:
    """A retry, a scheduled and a chained run come after ours."""
    ours = session(1, 3)
    assert choose([session(2, 600), ours, session(3, 90)], started()) is ours


def test_nothing_fits_an_empty_list() -> None:
    """Until our run is there, there is none: never the newest for want of better."""
    assert choose([], started()) is None
    assert choose([session(1, -3600)], started()) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"job_uid": f"urn:veeam:Job:{OTHER}"}, "another job"),
        ({"job_type": "ImmediateBackupCopyWorker"}, "a part of"),
        ({"job_type": "AgentManagement"}, "a part of"),
        (
            {"links": (Link(rel="Up", href="https://em/x", name="Parent session"),)},
            "a part of",
        ),
        ({"created_at": None}, "does not say when"),
        ({"created_at": NOW - SKEW - timedelta(seconds=1)}, "before the start"),
        ({"is_retry": True}, "a retry of"),
    ],
)
def test_what_is_not_the_run_of_a_start(
    changes: dict[str, object], reason: str
) -> None:
    """Each trap is told by its own mark, and the reason can be shown."""
    found = session(1, 5, **changes)
    assert choose([found], started()) is None
    assert reason in (why_not(found, started()) or "")


def test_what_was_known_before_is_not_ours() -> None:
    """A run that was there before the start is the previous one, whatever its time."""
    before = session(1, 5)
    start = started(known=frozenset({before.session_id}))
    assert choose([before], start) is None


def test_a_clock_that_is_behind_hides_nothing() -> None:
    """The backup server's clock may be two minutes behind."""
    ours = session(1, -119)
    assert choose([ours], started()) is ours


def test_a_retry_is_the_run_of_a_retry() -> None:
    """Who asks for a retry gets one."""
    ours = session(1, 5, is_retry=True)
    assert choose([ours], started(action="retry")) is ours


@pytest.mark.parametrize("middle", ["Job", "NasJob", "AgentJob"])
def test_urns_of_one_guid_are_one_job(middle: str) -> None:
    """A NAS job session names its job by another URN than the job has."""
    ours = session(1, 5, job_uid=f"urn:veeam:{middle}:{JOB.upper()}")
    assert choose([ours], started()) is ours


def test_a_session_without_a_job_uid_is_told_by_its_link() -> None:
    """The Up link leads to the job."""
    up = Link(rel="Up", href=f"https://em/api/jobs/{JOB}", type="JobReference")
    ours = session(1, 5, job_uid=None, links=(up,))
    assert choose([ours], started()) is ours


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"jobs/{JOB}?action=start", (JOB, "start")),
        (f"jobs/{JOB.upper()}?Action=Start", (JOB, "start")),
        (f"jobs/{JOB}?format=Entity&action=sync", (JOB, "sync")),
        (f"agents/jobs/{JOB}?action=retry", (JOB, "retry")),
        (f"nas/jobs/{JOB}/start", (JOB, "start")),
        (f"jobs/{JOB}?action=stop", None),
        (f"jobs/{JOB}?action=clone", None),
        (f"nas/jobs/{JOB}/stop", None),
        (f"jobs/{JOB}", None),
        ("jobs/Daily?action=start", None),
        (f"backupServers/{JOB}?action=quickbackup", None),
    ],
)
def test_which_paths_start_a_job(path: str, found: tuple[str, str] | None) -> None:
    """Start, retry and sync of jobs, agents' and NAS jobs do, and nothing else."""
    assert job_action_of(path) == found


@pytest.mark.parametrize(
    ("operation", "has_start", "source"),
    [
        ("StartJob", True, SessionSource.QUERY),
        ("StartJobSync", True, SessionSource.QUERY),
        ("RetryAgentJob", True, SessionSource.QUERY),
        ("StartJob", False, SessionSource.LINK),
        ("QuickBackup", False, SessionSource.LINK),
        ("StartvAppRestore", False, SessionSource.LINK),
        ("StopJob", False, SessionSource.NOWHERE),
        ("StopJobSession", False, SessionSource.NOWHERE),
        ("CollectingBackupServer", False, SessionSource.NOWHERE),
        ("EditCloudTenant", False, SessionSource.NOWHERE),
        ("StartFailoverPlan", False, SessionSource.NOWHERE),
        ("", False, SessionSource.NOWHERE),
    ],
)
def test_which_operations_make_a_session(
    operation: str,
    has_start: bool,
    source: SessionSource,
) -> None:
    """As the vendor's samples of all 87 actions show."""
    assert source_of(task(operation), started() if has_start else None) is source


def test_a_link_tells_of_a_session_whatever_the_operation() -> None:
    """An operation that no page names may make one all the same."""
    assert source_of(task("NewThing", related("RestoreSession")), None) is (
        SessionSource.LINK
    )
    assert source_of(task("NewThing", related("CloudTenant")), None) is (
        SessionSource.NOWHERE
    )


def test_the_link_is_found_by_type_or_path_wherever_it_stands() -> None:
    """Its position varies, and its Type may be missing."""
    other = related("Job", "jobs/1")
    typed = related("BackupJobSession", "agents/backupSessions/2")
    untyped = related(None, "agents/backupSessions/2")
    assert session_link(task("X", other, typed)) is typed
    assert session_link(task("X", other, untyped)) is untyped
    assert session_link(task("X", other)) is None
    assert session_link(task("X", related(None, "vmRestorePoints/2"))) is None


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[JobSession], JobSession, StartedJob]:
    """Draw a job's sessions with every trap in them, our run, and our start."""
    seconds = st.integers(1, 10_000)
    skew = draw(st.integers(-119, 119))
    ours = session(1, skew + draw(st.integers(0, 30)))
    assert ours.created_at is not None
    found = [ours]
    for number in range(2, 2 + draw(st.integers(0, 6))):
        later = (ours.created_at - NOW).total_seconds() + draw(seconds)
        kind = draw(st.sampled_from(["before", "known", "later", "child", "other"]))
        if kind == "before":  # it may arrive late: nobody knew it
            found.append(session(number, -121 - draw(seconds)))
        elif kind == "known":
            found.append(session(number, draw(st.integers(-300, 300))))
        elif kind == "later":
            found.append(session(number, later, is_retry=draw(st.booleans())))
        elif kind == "child":
            found.append(session(number, 1, job_type="ImmediateBackupCopyWorker"))
        else:
            found.append(session(number, 1, job_uid=f"urn:veeam:Job:{OTHER}"))
        if kind == "known":
            found[-1] = attrs.evolve(found[-1], name="known")
    known = frozenset(one.session_id for one in found if one.name == "known")
    return draw(st.permutations(found)), ours, started(known=known)


@given(histories())
def test_of_any_history_our_run_is_chosen(
    history: tuple[list[JobSession], JobSession, StartedJob],
) -> None:
    """Neither the previous run, nor a late one, a retry, a child or another job's."""
    found, ours, start = history
    assert choose(found, start) is ours
    assert (
        choose(
            [one for one in found if one is not ours and _is_no_later(one, ours)], start
        )
        is None
    )


def _is_no_later(one: JobSession, ours: JobSession) -> bool:
    assert ours.created_at is not None
    assert one.created_at is not None
    is_child = one.job_type != "Backup" or one.job_uid != ours.job_uid
    return is_child or one.name == "known" or one.created_at < ours.created_at


def test_results_do_not_matter_to_the_search() -> None:
    """A run may have ended before it is found."""
    ended = session(
        1,
        5,
        state=SessionState.STOPPED,
        raw_state="Stopped",
        result=SessionResult.FAILED,
        raw_result="Failed",
    )
    assert choose([ended], started()) is ended


def test_a_session_that_began_at_the_earliest_moment_may_be_ours() -> None:
    """Clocks are compared to the second, so the limit itself is within."""
    start = started()
    first = attrs.evolve(session(1, 0), created_at=start.not_before)
    assert why_not(first, start) is None
