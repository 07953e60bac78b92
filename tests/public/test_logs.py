"""Log records: whose they are, and the fields beside their sentences."""

import logging
from pathlib import Path

import anyio
import pytest
from support.managers import direct, door

import veeam_tasks as vt
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

README = (Path(vt.__file__).parent / "metrics" / "README.md").read_text(
    encoding="utf-8"
)
LOGGERS = {f"veeam_tasks.{one}" for one in ("logon", "server", "tasks", "manager")}


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
    standard = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    fields = {name for one in ours for name in vars(one)} - standard
    assert [name for name in fields if f"`{name}`" not in README] == []
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


async def test_an_error_of_the_callers_function_is_the_managers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its traceback, and without harm."""

    def fail(notice: vt.Notice) -> None:
        raise ValueError(notice.kind)

    async with SimulatedServer() as server, direct(server, on_notice=fail):
        pass
    told = records(caplog, "on_notice_raised")
    assert [one.name for one in told] == ["veeam_tasks.manager"] * 2
    assert told[0].exc_info is not None
