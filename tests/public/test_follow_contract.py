"""Sentences about followed runs that no other test holds."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from support.managers import STEADY, door, targets
from support.raw_server import RawServer, Seen, reply

from veeam_tasks import (
    JobSession,
    Link,
    RunStage,
    SessionFailedError,
    SessionLostError,
    SessionManager,
    SessionResult,
    SessionState,
    TaskState,
    connect,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

REQUIRED = inspect.Parameter.empty
MEMBERS: dict[Callable[..., Any], dict[str, object]] = {
    SessionManager.run: {
        "path": REQUIRED,
        "body": None,
        "method": "POST",
        "timeout": None,
        "find_timeout": 1200.0,
    },
    SessionManager.follow: {"task": REQUIRED, "timeout": None, "find_timeout": 1200.0},
    SessionManager.watch: {
        "tasks": REQUIRED,
        "follow": False,
        "find_timeout": 1200.0,
        "timeout": None,
        "pace": None,
    },
    SessionManager.watch_all: {
        "timeout": None,
        "pace": None,
        "follow": False,
        "find_timeout": 1200.0,
    },
    SessionManager.fetch_session: {"session": REQUIRED},
    SessionManager.fetch_session_tasks: {"session": REQUIRED},
}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda one: one.__name__)
def test_what_members_take_and_the_defaults(member: Callable[..., Any]) -> None:
    """In this order; what has a default behind the first two of `run` is named."""
    shown = dict(inspect.signature(member).parameters)
    del shown["self"]
    assert {name: one.default for name, one in shown.items()} == MEMBERS[member]
    named = {name for name, one in shown.items() if one.kind is one.KEYWORD_ONLY}
    free = {"path", "body", "task", "tasks", "session"}
    if member is SessionManager.watch_all:
        free |= {"timeout", "pace"}
    assert named == set(shown) - free


def test_stages_states_and_results_are_the_words_of_the_contract() -> None:
    """Programs store and compare them."""
    assert [one.value for one in RunStage] == ["task", "searching", "session"]
    assert [one.value for one in SessionState] == [
        *["Starting", "Working", "Pausing", "Resuming", "Stopping", "Stopped"],
        "Unknown",
    ]
    assert [one.value for one in SessionResult] == [
        *["None", "Success", "Warning", "Failed", "Unknown"]
    ]


async def test_a_wait_and_a_fetch_ask_for_no_session() -> None:
    """Nor do `fetch_all` and `submit`: who asks for the job session pays for it."""
    async with SimulatedServer(job_links="always") as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 10s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        assert (await em.wait(task)).succeeded
        assert (await em.fetch(task)).related
        assert await em.fetch_all()
        paths = [path for path in targets(server) if "sessionMngr" not in path]
        assert not [path for path in paths if "ession" in path or "query" in path]


@pytest.mark.parametrize("result", ["success", "warning", "failed"])
async def test_nothing_but_the_action_is_sent_that_changes_anything(
    result: str,
) -> None:
    """Nothing is collected, stopped or deleted, however the job ends."""
    async with SimulatedServer(job_links="never", session_delay=30) as server:
        job = server.add_job(
            "Nightly",
            session=f"Working 10s, Stopped {result}",
            machines={"db01": "Completed failed 'No space'"},
        )
        async with door(server, keep_alive=False) as em:
            path = f"{job.path}?action=start"
            if result == "failed":
                with pytest.raises(SessionFailedError):
                    await em.run(path)
            else:
                await em.run(path)
        sent = [
            f"{one.method} {one.path}" for one in server.requests if one.method != "GET"
        ]
        assert sent[0] == "POST /api/sessionMngr/"
        assert sent[1:-1] == [f"POST /api/{job.path}"]
        assert sent[-1].startswith("DELETE /api/logonSessions/")


async def test_a_link_of_a_task_that_still_runs_is_taken() -> None:
    """It is polled once the task is Finished; then the task is asked for no more."""
    async with SimulatedServer() as server, door(server, pace=STEADY) as em:
        server.set_script("Running 5s, OperationFinished 5s, Finished")
        guid = "b04c217b-0538-4650-bec4-19deff4ea1ac"
        task = await em.submit(f"vAppReplicaPoints/{guid}?action=failover")
        assert task.state is TaskState.RUNNING
        assert [link.type for link in task.related] == ["RestoreSession"]
        async with em.watch(task, follow=True) as watch:
            events = [event async for event in watch]
        stages = [(event.stage, event.state) for event in events]
        assert stages[:2] == [
            (RunStage.TASK, TaskState.RUNNING),
            (RunStage.TASK, TaskState.OPERATION_FINISHED),
        ]
        assert not any(event.is_by_link for event in events)
        assert events[-1].session is not None
        assert events[-1].session.kind == "RestoreSession"
        paths = targets(server)
        begun = next(at for at, one in enumerate(paths) if "restoreSessions" in one)
        assert not [path for path in paths[begun:] if path.startswith("tasks")]
        assert not [path for path in paths if path.startswith("query")]


async def test_operation_finished_is_no_end_of_a_start() -> None:
    """No job session is asked for before the task is Finished, which may take long."""
    async with (
        SimulatedServer(job_links="never") as server,
        door(server, pace=STEADY) as em,
    ):
        server.set_script("Running 2s, OperationFinished 600s, Finished")
        job = server.add_job("Nightly", session="Working 10s, Stopped")
        task = await em.submit(f"{job.path}?action=start")
        watch = em.watch(task, follow=True)
        await anyio.sleep(500)
        assert not [path for path in targets(server) if path.startswith("query")]
        assert (await watch.wait()).succeeded == (task.task_id,)


PATHS = {
    "backupSessions": "BackupJobSession",
    "replicaSessions": "ReplicaJobSession",
    "restoreSessions": "RestoreSession",
    "agents/backupSessions": "BackupJobSession",
    "nas/backupSessions": "BackupJobSession",
    "cloud/failoverSessions": "CloudFailoverSession",
}
GUID = "7e9f6a52-70a5-4f4c-8d0b-6a8d1b1f7f10"
NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
LOGON = reply(
    f"<LogonSession {NS}><SessionId>695f4bc1-8a48</SessionId></LogonSession>".encode(),
    status="201 Created",
    headers=["X-RestSvcSessionId: Njk1ZjRiYzEtOGE0OA=="],
)


def shown(path: str, state: str = "Working", more: str = "") -> bytes:
    """Return the reply with a job session, as the reference prints it."""
    kind = PATHS[path]
    return reply(
        f'<{kind} {NS} Href="https://vbr01:9398/api/{path}/{GUID}?format=Entity"'
        f' Type="{kind}" UID="urn:veeam:{kind}:{GUID}"><State>{state}</State>'
        f"<Result>None</Result><Progress>100</Progress>{more}</{kind}>".encode()
    )


@pytest.mark.parametrize("path", PATHS)
async def test_a_session_is_fetched_by_whatever_names_it(path: str) -> None:
    """One GET each, by path, Href, link or itself, of every kind that there is.

    Only the path of an Href is used: a server may know itself by another name.
    """

    def route(seen: Seen) -> bytes:
        return LOGON if "sessionMngr" in seen.target else shown(path)

    async with (
        RawServer(route=route) as server,
        connect(server.url(), username="u", password="p", keep_alive=False) as em,
    ):
        href = f"https://vbr01:9398/api/{path}/{GUID}?format=Entity"
        session = await em.fetch_session(f"{path}/{GUID}")
        link = Link(rel="Related", href=href, type=PATHS[path])
        found = [await em.fetch_session(one) for one in (link, href, session)]
        assert found == [session] * 3
        assert (session.session_id, session.kind) == (GUID, PATHS[path])
        asked = [one.target for one in server.seen if GUID in one.target]
        assert asked == [f"/api/{path}/{GUID}?format=Entity"] * 4


async def test_an_end_time_is_no_end() -> None:
    """Of a working copy job it is nonsense: it is polled until it is Stopped."""
    started = (
        f"<Task {NS}><TaskId>task-8</TaskId><State>Finished</State>"
        "<Operation>StartJob</Operation><Result Success='true'/>"
        "<Links><Link Rel='Related' Type='BackupJobSession'"
        f" Href='/api/backupSessions/{GUID}?format=Entity'/></Links></Task>"
    ).encode()
    polls = 0

    def route(seen: Seen) -> bytes:
        nonlocal polls
        if "sessionMngr" in seen.target:
            return LOGON
        if "task-8" in seen.target:
            return reply(started)
        polls += 1
        ended = "<EndTimeUTC>2026-06-16T06:38:51.1Z</EndTimeUTC>"
        return shown("backupSessions", "Working" if polls < 5 else "Stopped", ended)

    async with (
        RawServer(route=route) as server,
        connect(
            server.url(), username="u", password="p", keep_alive=False, pace=STEADY
        ) as em,
    ):
        async with em.watch("task-8", follow=True) as watch:
            events = [event async for event in watch]
        assert polls == 4 + 4  # Stopped without a Result is asked for three more times
        working = [one for one in events if one.session and not one.is_final]
        assert working
        assert all(one.session and one.session.ended_at for one in working)
        assert events[-1].succeeded is None


@pytest.mark.parametrize("most", [1, 3])
async def test_sessions_keep_to_max_in_flight(most: int) -> None:
    """Polls of tasks and job sessions together are as many as that, and no more."""
    async with (
        SimulatedServer(job_links="always") as server,
        door(server, max_in_flight=most, pace=STEADY) as em,
    ):
        jobs = [
            server.add_job(f"Job {n}", session="Working 60s, Stopped")
            for n in range(12)
        ]
        tasks = [await em.submit(f"{job.path}?action=start") for job in jobs]
        server.faults.add(Fault("delay", seconds=2, method="GET"))
        seen: set[int] = set()
        watch = em.watch(tasks, follow=True)
        while watch.report.unfinished:
            await anyio.sleep(0.5)
            seen.add(em.statistics().in_flight)
        assert max(seen) == most
        assert watch.report.succeeded == tuple(task.task_id for task in tasks)
        assert server.connections.open <= most + 1


async def test_a_lost_job_is_told_with_all_that_was_known() -> None:
    """The error has the task, its ID and the job session as it was seen last."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", session="Working 1h, Stopped")
        running = asyncio.create_task(em.run(f"{job.path}?action=start"))
        await anyio.sleep(60)
        server.job_sessions[-1].vanish()
        with pytest.raises(SessionLostError) as caught:
            await running
        error = caught.value
        assert error.task_id == "task-1"
        assert error.task is not None
        assert error.task.is_finished
        assert isinstance(error.last_seen, JobSession)
        assert error.last_seen.session_id == server.job_sessions[-1].session_id
        assert "its job session was last seen Working" in str(error)
