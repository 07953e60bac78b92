"""One backup server, two repositories, five reports of the simulated server."""

from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from support.plain_client import JSON, NAMESPACE, Client

from veeam_tasks.simulator import SimulatedServer, VersionName

VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")
LAST = ["links", "href", "type"]
REPORTS = {
    "overview": [
        *("backupservers", "proxyservers", "repositoryservers", "runningjobs"),
        *("scheduledjobs", "successfulvmlasteststates", "warningvmlasteststates"),
        "failedvmlasteststates",
    ],
    "job_statistics": [
        *("runningjobs", "scheduledjobs", "scheduledbackupjobs"),
        *("scheduledreplicajobs", "totaljobruns", "successfuljobruns"),
        *("warningsjobruns", "failedjobruns", "maxjobduration"),
        *("maxbackupjobduration", "maxreplicajobduration"),
        *("maxdurationbackupjobname", "maxdurationreplicajobname"),
        "backupjobstatusreportlink",
    ],
    "vms_overview": [
        *("protectedvms", "backedupvms", "replicatedvms", "restorepoints"),
        *("fullbackuppointssize", "incrementalbackuppointssize"),
        *("replicarestorepointssize", "sourcevmssize", "successbackuppercents"),
        "protectedvmsreportlink",
    ],
    "processed_vms": ["days"],
    "repository": ["periods", "capacityplanningreportlink"],
}


def lower(body: Any) -> dict[str, Any]:
    """Return an object with its keys in lower case."""
    return {key.lower(): value for key, value in body.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REPORTS)
async def test_the_keys_of_a_report_in_their_recorded_order(
    version: VersionName, name: str
) -> None:
    """Its fields, and from 12 on nulls for Links, Href and Type."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        got = lower((await client.get(f"/api/reports/summary/{name}", JSON)).json)
        assert [*got] == REPORTS[name] + ([] if version == "9.5u4" else LAST)
        assert all(got.get(key) is None for key in LAST)


@pytest.mark.virtual_time
async def test_reports_count_what_is_there() -> None:
    """Jobs that run and ran, machines by their last result, days, bytes."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        replica, backup, other = server.jobs[:3]
        server.add_session(backup, "Working 600s, Stopped failed", started=-86_400)
        server.add_session(backup, "Working 90s, Stopped", started=-3000)
        server.add_session(replica, "Working 60s, Stopped warning", started=-3000)
        server.add_session(other, "Working 30s, Stopped")
        other.toggle_schedule()

        async def report(name: str) -> dict[str, Any]:
            got = await client.get(f"/api/reports/summary/{name}", JSON)
            found: dict[str, Any] = got.json
            return found

        found = await report("job_statistics")
        assert (found["RunningJobs"], found["ScheduledJobs"]) == (1, 5)
        assert (found["ScheduledBackupJobs"], found["ScheduledReplicaJobs"]) == (4, 1)
        assert found["TotalJobRuns"] == 3
        results = ("SuccessfulJobRuns", "WarningsJobRuns", "FailedJobRuns")
        assert [found[name] for name in results] == [1, 1, 1]
        assert found["MaxJobDuration"] == found["MaxBackupJobDuration"] == 600
        assert found["MaxReplicaJobDuration"] == 60
        assert found["MaxDurationBackupJobName"] == backup.name
        assert found["MaxDurationReplicaJobName"] == replica.name
        overview = await report("overview")
        assert (overview["BackupServers"], overview["RepositoryServers"]) == (1, 2)
        machines = await report("vms_overview")
        assert machines["ProtectedVms"] == machines["BackedUpVms"] == 2
        assert machines["ReplicatedVms"] == 2
        assert machines["RestorePoints"] == 1
        assert machines["SuccessBackupPercents"] == 100
        days = (await report("processed_vms"))["Days"]
        assert len(days) == 7
        assert sum(day["BackupedVms"] for day in days) == 4
        assert sum(day["ReplicatedVms"] for day in days) == 2
        await anyio.sleep(60)
        assert (await report("overview"))["RunningJobs"] == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_repositories_stand_in_their_report_as_well(version: VersionName) -> None:
    """Two of them, with the same bytes; -1 nowhere."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        server.add_session(server.jobs[1], "Stopped")
        listed = await client.get("/api/repositories?format=Entity")
        assert listed.names == ["Repositories", "Repository", "Repository"]
        report = await client.get("/api/reports/summary/repository")
        assert report.names == ["RepositoryReportFrame", "Period", "Period"]
        for one, period in zip(listed.xml, report.xml, strict=True):
            assert one.get("Name") == period.findtext(f"{NAMESPACE}Name")
            for name in ("Capacity", "FreeSpace"):
                said = one.findtext(f"{NAMESPACE}{name}")
                assert said == period.findtext(f"{NAMESPACE}{name}")
        used = [int(x.findtext(f"{NAMESPACE}BackupSize") or 0) for x in report.xml]
        assert used[0] == 0 < used[1]
        path = urlsplit(listed.xml[1].get("Href")).path
        got = lower((await client.get(f"{path!s}?format=Entity", JSON)).json)
        assert [*got] == ["capacity", "freespace", "kind", "name", "uid", *LAST]
        rels = [lower(link)["rel"] for link in got["links"]]
        assert rels == ["Up", "Alternate", "Down", "Down"]
        assert (await client.get(f"{path!s}/backups")).names == ["EntityReferences"]
        unknown = await client.get("/api/repositories/1/backups")
        assert unknown.status == 404
        found = await client.get("/api/query?type=Repository&filter=Kind==LinuxLocal")
        assert len([*found.xml.iter(f"{NAMESPACE}Ref")]) == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_backup_server_can_be_read(version: VersionName) -> None:
    """Its keys as recorded, and what stands below it."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get("/api/backupServers?format=Entity", JSON)
        listed = lower(got.json)
        (one,) = listed["backupservers"]
        own = ["description", "port", "version"]
        if version != "9.5u4":
            own += ["wcfport", "vbrcertificatethumbprint"]
        assert [*lower(one)] == [*own, "name", "uid", *LAST]
        path = f"/api/{server.backup_server.path}"
        assert len((await client.get(f"{path}/jobs")).xml) == 4
        assert len((await client.get(f"{path}/repositories")).xml) == 2
        assert (await client.get("/api/backupServers/1")).status == 404


async def test_the_summary_lists_the_reports() -> None:
    """Each of its links can be read; another report is unknown."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get("/api/reports/summary")
        assert got.names == ["SummaryReport", "Links"]
        for link in got.xml[0]:
            path = urlsplit(link.get("Href")).path
            assert (await client.get(f"{path!s}")).names[0] == link.get("Type")
        assert (await client.get("/api/reports/summary/weather")).status == 404
