"""`fetch_session` and `fetch_session_tasks`: one job session, and its machines."""

from typing import Literal

import pytest
from support.managers import door, targets

from veeam_tasks import (
    ForbiddenError,
    JobSession,
    Link,
    SessionResult,
    SessionState,
    StatusError,
    connect,
)
from veeam_tasks.simulator import Account, Fault, Role, SimulatedServer
from veeam_tasks.simulator._version import VersionName

pytestmark = pytest.mark.virtual_time(debug=False)

Accept = Literal["xml", "json"]
VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")
SCRIPT = "Starting 1s, Working 1h, Stopped"


@pytest.mark.parametrize("accept", ["xml", "json"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_fetched_with_one_get_of_the_entity(
    accept: Accept, version: VersionName
) -> None:
    """By path, Href, link or itself; format=Entity is added, or links alone come."""
    async with SimulatedServer(version=version) as server:
        one = server.add_session(server.add_job("Nightly"), SCRIPT)
        async with door(server, accept=accept) as em:
            fetched = await em.fetch_session(one.path)
            assert fetched.session_id == one.session_id
            assert fetched.kind == "BackupJobSession"
            assert fetched.job_name == "Nightly"
            assert fetched.state is SessionState.STARTING
            assert fetched.result is SessionResult.NONE
            assert fetched.href is not None
            link = Link(rel="Related", href=fetched.href, type="BackupJobSession")
            for same in (fetched, link, fetched.href, f"/api/{one.path}?format=Entity"):
                assert (await em.fetch_session(same)).session_id == one.session_id
            asked = [path for path in targets(server) if one.session_id in path]
            assert asked == [one.path] * 5
            assert all(
                record.query == "format=Entity"
                for record in server.requests
                if one.session_id in record.path
            )


@pytest.mark.parametrize("kind", ["AgentBackup", "NasBackup"])
async def test_a_session_of_an_agent_is_fetched_by_either_path(kind: str) -> None:
    """A link may lead below ``/agents`` or ``/nas``."""
    async with SimulatedServer() as server:
        job = server.add_job("Laptops", kind=kind)  # type: ignore[arg-type] # one of them
        one = server.add_session(job, SCRIPT)
        mirror = "agents" if kind == "AgentBackup" else "nas"
        async with door(server) as em:
            fetched = await em.fetch_session(
                f"{mirror}/backupSessions/{one.session_id}"
            )
            assert fetched.session_id == one.session_id


async def test_the_other_path_of_an_agent_is_asked_after_a_404_alone() -> None:
    """Where ``/agents/backupSessions/ID`` is unknown, ``/backupSessions/ID`` is not."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Laptops", kind="AgentBackup")
        one = server.add_session(job, SCRIPT)
        server.faults.add(Fault("status", path="agents/", status=404, times=1))
        path = f"agents/backupSessions/{one.session_id}"
        assert (await em.fetch_session(path)).session_id == one.session_id
        assert targets(server)[-2:] == [path, f"backupSessions/{one.session_id}"]
        server.faults.add(Fault("status", path="agents/", status=403, times=1))
        with pytest.raises(ForbiddenError):
            await em.fetch_session(path)


async def test_what_is_no_session_is_not_asked_for() -> None:
    """A path of another resource is a ValueError before anything is sent."""
    async with SimulatedServer() as server, door(server) as em:
        before = server.requests.total
        for wrong in ("jobs/1", "backupSessions", "tasks/task-1", "backupSessions/x"):
            with pytest.raises(ValueError, match="names no job session"):
                await em.fetch_session(wrong)
        with pytest.raises(TypeError, match="is given as a JobSession, not str"):
            await em.fetch_session_tasks("backupSessions/1")  # type: ignore[arg-type]
        assert server.requests.total == before


async def test_a_session_that_is_unknown_or_forbidden_is_an_error() -> None:
    """404 is a StatusError, 403 a ForbiddenError."""
    role = Role.RESTORE_OPERATOR
    accounts = {"op": Account("op-secret", role=role)}
    async with SimulatedServer(accounts=accounts) as server:
        one = server.add_session(server.jobs[0], SCRIPT)
        async with connect(server.url, username="op", password="op-secret") as em:
            with pytest.raises(ForbiddenError):
                await em.fetch_session(one.path)
        one.vanish()
        async with door(server) as em:
            with pytest.raises(StatusError) as caught:
                await em.fetch_session(one.path)
            assert caught.value.status == 404


@pytest.mark.parametrize("accept", ["xml", "json"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_the_machines_of_a_session_are_fetched_page_by_page(
    accept: Accept, version: VersionName
) -> None:
    """All of them, with state, result and reason, however many pages there are."""
    async with SimulatedServer(version=version) as server:
        machines = {f"vm{n}": None for n in range(150)}
        machines["db01"] = "Completed failed 'No space'"  # type: ignore[assignment] # a script
        job = server.add_job("Nightly", session="Stopped failed", machines=machines)
        one = server.add_session(job)
        async with door(server, accept=accept) as em:
            session = await em.fetch_session(one.path)
            found = await em.fetch_session_tasks(session)
            assert len({one.vm_name for one in found}) == 151
            (failed,) = [one for one in found if one.vm_name == "db01"]
            assert failed.is_ended
            assert failed.result is SessionResult.FAILED
            assert failed.reason == "No space"
            assert failed.succeeded is False


async def test_the_machines_of_a_replica_are_found_and_a_restore_has_none() -> None:
    """The vendor's misspelt link serves; of a restore nothing is asked."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Copies", kind="Replica", machines={"db01": None})
        one = server.add_session(job, "Stopped")
        session = await em.fetch_session(one.path)
        assert session.kind == "ReplicaJobSession"
        assert [one.vm_name for one in await em.fetch_session_tasks(session)] == [
            "db01"
        ]
        restored = JobSession(
            session_id=one.session_id,
            kind="RestoreSession",
            state=SessionState.STOPPED,
            raw_state="Stopped",
        )
        before = server.requests.total
        assert await em.fetch_session_tasks(restored) == ()
        assert server.requests.total == before
