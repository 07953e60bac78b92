"""Task sessions: the machines of a job session, and why they failed."""

from urllib.parse import urlsplit

import anyio
import pytest
from support.plain_client import JSON, NAMESPACE, Client, Got, member

from veeam_tasks.simulator import SimulatedServer, VersionName

VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")


def machines(got: Got, *names: str) -> list[tuple[str | None, ...]]:
    """Return what stands in each task session of a collection of entities."""
    return [
        tuple(one.findtext(f"{NAMESPACE}{name}") for name in names) for one in got.xml
    ]


@pytest.mark.virtual_time
async def test_machines_follow_their_session_to_its_end() -> None:
    """Pending, InProgress with Result Success already, Completed with a Reason."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job(
            "Nightly",
            session="Starting 1s, Working 20s, Stopped failed 'Disk full'",
            machines=("db01", "db02"),
        )
        await client.log_on()
        session = server.add_session(job)
        path = f"/api/backupSessions/{session.session_id}/taskSessions?format=Entity"
        names = ("State", "Result", "Reason")
        got = await client.get(path)
        assert got.names == ["BackupTaskSessions", *["BackupTaskSession"] * 2]
        assert machines(got, *names) == [("Pending", "None", "")] * 2
        await anyio.sleep(10)
        trap = await client.get(path)
        assert machines(trap, *names) == [("InProgress", "Success", "")] * 2
        assert machines(trap, "EndTimeUTC") == [(None,)] * 2
        await anyio.sleep(20)
        ended = await client.get(path)
        assert machines(ended, *names) == [
            ("Completed", "Failed", "Disk full"),
            ("Completed", "Success", ""),
        ]
        assert [one.get("VmDisplayName") for one in ended.xml] == ["db01", "db02"]
        assert all(end for (end,) in machines(ended, "EndTimeUTC"))


@pytest.mark.virtual_time
async def test_a_machine_may_have_a_script_of_its_own() -> None:
    """Any word, any result, whatever its session says."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job(
            "Nightly",
            session="Working 60s, Stopped warning",
            machines={
                "db01": "Pending 5s, InProgress 5s, Completed failed 'No space'",
                "db02": None,
                "db03": "InProgress 10s failed, Success",
            },
        )
        await client.log_on()
        session = server.add_session(job)
        path = f"/api/{session.path}/taskSessions?format=Entity"
        await anyio.sleep(10)
        assert machines(await client.get(path), "State", "Result", "Reason") == [
            ("Completed", "Failed", "No space"),
            ("InProgress", "Success", ""),
            ("Success", "None", ""),
        ]
        await anyio.sleep(50)
        assert machines(await client.get(path), "State", "Result") == [
            ("Completed", "Failed"),
            ("Completed", "Success"),
            ("Success", "None"),
        ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_keys_of_a_machine_in_their_recorded_order(
    version: VersionName,
) -> None:
    """As a capture of 12.3 has them; 9.5 knows no VmUid yet."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Stopped")
        task_session = session.task_sessions[0]
        got = (await client.get(f"/api/{task_session.path}?format=Entity", JSON)).json
        keys = [
            *("JobSessionUid", "CreationTimeUTC", "EndTimeUTC", "State", "Result"),
            *("Reason", "TotalSize", "VmUid", "VmDisplayName", "Name", "UID"),
            *("Links", "Href", "Type"),
        ]
        if version == "9.5u4":
            keys.remove("VmUid")
        assert [key.lower() for key in got] == [key.lower() for key in keys]
        assert member(got, "Reason") == ""
        assert member(got, "JobSessionUid") == session.uid
        links = [(member(x, "Rel"), member(x, "Type")) for x in member(got, "Links")]
        assert links == [
            ("Up", "BackupServerReference"),
            ("Up", "BackupJobSessionReference"),
            ("Alternate", "BackupTaskSessionReference"),
        ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_link_of_a_replica_session_is_misspelt(version: VersionName) -> None:
    """The samples print repicaTaskSessions, the URLs do not; both can be read."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[0], "Stopped warning 'Slow'")
        got = await client.get(f"/api/{session.path}?format=Entity")
        links = {one.get("Type"): one.get("Href", "") for one in got.xml[0]}
        assert "Stop" not in [one.get("Rel") for one in got.xml[0]]
        down = urlsplit(links["ReplicaTaskSessionReferenceList"]).path
        assert down == f"/api/{session.path}/repicaTaskSessions"
        for path in (down, f"/api/{session.path}/replicaTaskSessions"):
            listed = await client.get(f"{path}?format=Entity")
            assert listed.names == ["ReplicaTaskSessions", *["ReplicaTaskSession"] * 2]
            assert machines(listed, "Result", "Reason")[0] == ("Warning", "Slow")
        one = session.task_sessions[0]
        single = await client.get(f"/api/replicaTaskSessions/{one.session_id}")
        assert single.names[0] == "EntityRef"
        assert len((await client.get("/api/replicaTaskSessions")).xml) == 2
        assert (await client.get("/api/backupTaskSessions")).names == [
            "EntityReferences"
        ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_machines_are_found_by_queries(version: VersionName) -> None:
    """By JobSessionUid, whole or as a bare GUID, by result and by name."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Stopped failed")
        server.add_session(server.jobs[2], "Stopped failed")
        for filter_, count in (
            (f"JobSessionUid=={session.session_id}", 2),
            (f'JobSessionUid=="{session.uid}"', 2),
            (f"JobSessionUid=={session.session_id};Result==Failed", 1),
            (f"JobUid=={server.jobs[2].job_id};VmDisplayName==srv02", 1),
            ("State==Completed", 4),
            ("State==InProgress", 0),
        ):
            got = await client.get(
                f"/api/query?type=BackupTaskSession&format=Entities&filter={filter_}",
                JSON,
            )
            found = member(
                got.json, "Entities", "BackupTaskSessions", "BackupTaskSessions"
            )
            assert len(found) == count, filter_
        none = await client.get("/api/query?type=ReplicaTaskSession")
        assert none.status == 200


async def test_machines_are_unknown_while_their_session_is() -> None:
    """Not in collections, not by their ID."""
    async with (
        SimulatedServer(session_delay=60) as server,
        Client(server.url) as client,
    ):
        await client.log_on()
        session = server.add_session(server.jobs[1], "Working")
        one = session.task_sessions[0]
        assert not one.is_known
        assert (await client.get(f"/api/{one.path}")).status == 404
        assert (await client.get(f"/api/{session.path}/taskSessions")).status == 404
        assert len((await client.get("/api/backupTaskSessions")).xml) == 0
