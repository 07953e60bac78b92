"""Log records: whose they are, and the fields beside their sentences."""

import logging
import re
from pathlib import Path

import anyio
import attrs
import pytest
from support.managers import direct, door

import veeam_tasks as vt
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

README = (Path(vt.__file__).parent / "metrics" / "README.md").read_text(
    encoding="utf-8"
)
ROOT = Path(vt.__file__).parent
LOGGERS = {f"veeam_tasks.{one}" for one in ("logon", "server", "tasks", "manager")}


STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
LOGGER = re.compile(r'(?:getLogger|Log)\("(veeam_tasks\.[\w.]+)"\)')
ERROR_FIELDS = {"error_type", "error"}


@attrs.frozen
class Documented:
    """What the README says of the records about one event."""

    logger: str
    levels: set[str]
    fields: set[str]


def documented() -> dict[str, Documented]:
    """Return the table of events."""
    found = {}
    for row in README.partition("| `event` | logger |")[2].splitlines()[2:]:
        if not row.startswith("|"):
            break
        events, logger, levels, fields = row.strip("|").split("|")
        names = re.sub(r"\(.*?\)", "", fields)
        told = Documented(
            logger=f"veeam_tasks.{logger.strip(' `')}",
            levels=set(re.findall(r"[A-Z]+", levels)),
            fields=set(re.findall(r"`(\w+)`", names)),
        )
        found |= dict.fromkeys(re.findall(r"`(\w+)`", events), told)
    same = attrs.evolve(found["changed"], fields=found["ended"].fields)
    return found | {"changed": same}


def as_documented(record: logging.LogRecord) -> None:
    """Fail unless a record has the logger, the level and the fields of its event."""
    fields = set(vars(record)) - STANDARD
    told = documented()[vars(record)["event"]]
    assert record.name == told.logger
    assert record.levelname in told.levels
    assert fields - {"em_url", "event"} <= told.fields
    assert told.fields - ERROR_FIELDS <= fields


def test_the_documented_events_and_loggers_are_those_of_the_source() -> None:
    """None is missing, and none is told of that is no more."""
    files = list(Path(vt.__file__).parent.rglob("*.py"))
    sources = [one.read_text(encoding="utf-8") for one in files]
    # What a notice is about is the event of its record.
    events = {kind.value for kind in vt.NoticeKind}
    loggers = set()
    for file, source in zip(files, sources, strict=True):
        for found in re.findall(r'"event": ([^,}]*)', source):
            events |= set(re.findall(r'"(\w+)"', found))
        own = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)
        named = source.replace("(__name__)", f'("{own}")')
        loggers |= set(LOGGER.findall(named))
    assert events == set(documented())
    assert loggers >= LOGGERS
    assert [one for one in loggers if f"`{one}`" not in README] == []


async def test_what_could_not_be_had_is_logged_as_documented(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The machines of a job, what job sessions it has, a log-out, an own function."""
    caplog.set_level(logging.DEBUG, "veeam_tasks")

    def fail(notice: vt.Notice) -> None:
        raise ValueError(notice.kind)

    async with SimulatedServer(job_links="always") as server:
        job = server.add_job("Nightly", session="Working 5s, Stopped failed")
        for path in ("backupTaskSessions|taskSessions", r"query\?"):
            server.faults.add(Fault(FaultKind.STATUS, status=500, path=path))
        async with direct(server, on_notice=fail) as em:
            with pytest.raises(vt.SessionFailedError):
                await em.run(f"{job.path}?action=start")
            server.faults.clear()
            server.faults.add(Fault(FaultKind.STATUS, status=503, method="DELETE"))
    seen = {one: records(caplog, one) for one in documented()}
    for told in seen.values():
        for record in told:
            as_documented(record)
    unread = ("machines_unreadable", "sessions_unreadable")
    for event in (*unread, "on_notice_raised", "not_logged_out"):
        assert seen[event], event


def records(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    """Return the records about one kind of event."""
    ours = [one for one in caplog.records if one.name.startswith("veeam_tasks.")]
    return [one for one in ours if getattr(one, "event", None) == event]


async def test_each_record_says_of_which_server_and_what_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Through a logon, an outage, a renewal, an end and a log-out."""
    caplog.set_level(logging.DEBUG, "veeam_tasks")
    async with SimulatedServer() as server:
        server.add_task("Running 300s, Finished")
        async with door(server) as em:
            watch = em.watch("task-1")
            await anyio.sleep(5)
            server.faults.add(Fault(FaultKind.RESET))
            await anyio.sleep(60)
            server.faults.clear()
            await anyio.sleep(60)
            server.expire_logon_sessions(keep_tasks=True)
            await watch.wait()
            url = em.url
    kinds = ("logged_on", "unreachable", "poll_failed", "recovered", "renewed")
    for kind in (*kinds, "changed", "ended", "logged_out"):
        assert records(caplog, kind), kind
    ours = [one for one in caplog.records if one.name.startswith("veeam_tasks.")]
    assert {one.name for one in ours} <= LOGGERS
    assert {getattr(one, "em_url", None) for one in ours} == {url}
    for record in ours:
        as_documented(record)
    (down,) = records(caplog, "unreachable")
    assert vars(down)["watched"] == 1
    assert vars(down)["error_type"] == "TransportError"


async def test_an_end_has_the_values_of_the_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told once, however many watches want the task."""
    caplog.set_level(logging.INFO, "veeam_tasks")
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running 3s, Finished failed 'no'", operation="RestoreVm")
        first, second = em.watch("task-1"), em.watch("task-1")
        report = await first.wait()
        await second.wait()
    event = report.outcomes["task-1"]
    assert event is not None
    assert event.not_before is not None
    (told,) = records(caplog, "ended")
    assert told.getMessage() == "task-1 Finished, failed"
    wanted = {
        "task_id": "task-1",
        "operation": "RestoreVm",
        "stage": "task",
        "state": "Finished",
        "outcome": "failed",
        "observed_at": event.observed_at.isoformat(),
        "not_before": event.not_before.isoformat(),
    }
    assert wanted.items() <= vars(told).items()


async def test_a_followed_job_is_told_with_its_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The task ends first, then its job session."""
    caplog.set_level(logging.INFO, "veeam_tasks")
    async with SimulatedServer(job_links="always") as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 5s, Stopped warning")
        await em.run(f"{job.path}?action=start")
    task, session = records(caplog, "ended")
    assert vars(task)["stage"] == "task"
    assert vars(session)["job_name"] == "Nightly"
    assert vars(session)["session_result"] == "Warning"
    assert vars(session)["outcome"] == "succeeded"
