"""Actions of the simulated server: tasks, what they lead to, job sessions that move."""

from collections import Counter
from urllib.parse import urlsplit

import anyio
import pytest
from support.plain_client import JSON, NAMESPACE, Client, related

from veeam_tasks.simulator import Related, SimulatedServer
from veeam_tasks.simulator._actions import Action, actions

GUID = "7caf66d5-f700-442c-9aa9-8867f031377f"
REPLICA = "/api/jobs/b04c217b-0538-4650-bec4-19deff4ea1ac"
ORACLE = "/api/jobs/78c3919c-54d7-43fe-b047-485d3566f11f"


def target(action: Action) -> str:
    """Return a request path for an action."""
    path = action.path.replace("{ID}", GUID).replace("{vmname}", "srv04")
    path = path.replace("{filepath}", "e:/documentation%2014/offers.docx")
    return f"/api/{path}" + (f"?action={action.action}" if action.action else "")


def test_all_documented_actions_are_there() -> None:
    """87 of the write endpoints answer with a task: 56 POST, 18 DELETE, 13 PUT."""
    assert Counter(action.method for action in actions()) == {
        "POST": 56,
        "DELETE": 18,
        "PUT": 13,
    }
    assert len({(one.method, one.path, one.action) for one in actions()}) == 87
    assert sum(action.request_root is not None for action in actions()) == 39


@pytest.mark.parametrize(
    "action", actions(), ids=lambda one: f"{one.method} {target(one)}"
)
async def test_every_action_answers_with_its_task(action: Action) -> None:
    """202 as a rule, 200 for browse, 201 for rebuildScope; the body is a Task."""
    async with SimulatedServer(any_id=True) as server, Client(server.url) as client:
        await client.log_on()
        body = b""
        if action.request_root is not None:
            namespace = 'xmlns="http://www.veeam.com/ent/v1.0"'
            body = f"<{action.request_root} {namespace} />".encode()
        kind = {"Content-Type": "application/xml"}
        got = await client.ask(action.method, target(action), kind, body)
        usual = {"BrowseVM": 200, "StartRebuildScope": 201}.get(action.operation, 202)
        assert got.status == usual
        assert got.names[0] == "Task"
        assert got.text("TaskId") == "task-1"
        assert got.text("Operation") == action.operation
        state = "Running" if usual == 202 else "Finished"
        assert got.text("State") == state


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "jobs/{}?action=start", "StartJob"),
        ("POST", "jobs/{}?ACTION=START", "StartJob"),
        ("POST", "jobs/{}?action=sync", "StartJobSync"),
        ("POST", "nas/jobs/{}/start", "StartNasJob"),
        ("POST", "agents/jobs/{}?action=stop", "StopAgentJob"),
        ("PUT", "cloud/tenants/{}", "EditCloudTenant"),
        (
            "DELETE",
            "cloud/tenants/{}/vCloudComputeResources/1",
            "DeletevCloudTenantComputeResource",
        ),
        ("POST", "vAppRestorepoints/{}?action=restore", "StartvAppRestore"),
        ("POST", "backupServers/{}?action=veeamzip", "VeeamZip"),
        ("DELETE", "selfService/vSphere/Configs/{}", "DeleteVSphereConfigs"),
        ("POST", "cdpReplicas/{}/vms/2?action=failover", "StartFailover"),
        (
            "POST",
            "vmRestorePoints/{}/mounts/1/c:/a/b.txt?action=restore",
            "FileRestoreFromMountPoint",
        ),
    ],
)
async def test_operations_as_the_vendor_spells_them(
    method: str, path: str, operation: str
) -> None:
    """Retyped from the vendor's samples, irregular spelling and all."""
    async with SimulatedServer(any_id=True) as server, Client(server.url) as client:
        await client.log_on()
        got = await client.ask(method, f"/api/{path.format(GUID)}", {}, b"")
        assert got.text("Operation") == operation


async def test_an_unknown_action_of_a_known_resource_is_501() -> None:
    """And an unknown job is 404, unless the server takes any ID."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        assert (await client.post(f"{REPLICA}?action=dance")).status == 501
        assert (await client.post(REPLICA)).status == 501
        assert (await client.post(f"/api/jobs/{GUID}?action=start")).status == 404
        stop = await client.post(f"/api/backupSessions/{GUID}?action=stop")
        assert stop.status == 404
        assert server.tasks == []


async def test_some_actions_answer_202_without_a_task() -> None:
    """Adding a backup server is documented to do so."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.post("/api/backupServers?action=create")
        assert (got.status, got.body) == (202, b"")


@pytest.mark.virtual_time
async def test_a_started_job_leads_to_a_session_that_moves() -> None:
    """Finished means triggered; the outcome stands in the related session."""
    async with (
        SimulatedServer(job_links="always") as server,
        Client(server.url) as client,
    ):
        server.add_job("Nightly", seconds=100, result="Warning")
        await client.log_on()
        job = server.jobs[-1]
        started = await client.post(f"/api/{job.path}?action=start")
        assert related(started) == []
        await anyio.sleep(10)
        got = await client.get("/api/tasks/task-1")
        assert got.text("State") == "Finished"
        assert got.text("Result/Message") == "Ok"
        (link,) = related(got)
        assert link["Type"] == "BackupJobSession"
        parts = urlsplit(link["Href"])
        path = f"{parts.path}?{parts.query}"
        session = await client.get(path)
        assert session.names == [
            *("BackupJobSession", "Links", "JobUid", "JobName", "JobType"),
            *("CreationTimeUTC", "State", "Result", "Progress", "IsRetry"),
        ]
        assert session.text("State") == "Working"
        assert session.text("Result") == "None"
        assert 0 < int(session.text("Progress") or 0) < 20
        await anyio.sleep(200)
        client.close()
        ended = await client.get(path)
        assert ended.text("State") == "Stopped"
        assert ended.text("Result") == "Warning"
        assert ended.text("Progress") == "100"
        assert (ended.text("EndTimeUTC") or "").endswith("Z")
        plain = await client.get(parts.path)
        assert plain.names[0] == "EntityRef"
        assert plain.xml.get("Type") == "BackupJobSessionReference"
        listed = await client.get(f"/api/{job.path}/backupSessions?format=Entity")
        assert listed.names == ["BackupJobSessions", "BackupJobSession"]


async def test_a_replication_job_leads_to_a_replica_session() -> None:
    """Its type and path differ from those of a backup; a retry has no link to it."""
    async with SimulatedServer(seed=1) as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        got = await client.post(f"{REPLICA}?action=retry")
        assert related(got) == []
        (made,) = server.job_sessions
        session = await client.get(f"/api/{made.path}?format=Entity", JSON)
        assert made.path.startswith("replicaSessions/")
        assert session.json["Type"] == "ReplicaJobSession"
        assert session.json["JobType"] == "Replica"
        assert session.json["IsRetry"] is True
        assert session.json["State"] == "Starting"


@pytest.mark.virtual_time
async def test_stopping_a_job_or_a_session_ends_it() -> None:
    """Who stops a job session makes it Stopping, then Failed, where it stood."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        await client.post(f"{ORACLE}?action=start")
        first = server.job_sessions[0]
        got = await client.post(f"/api/{first.path}?action=stop")
        assert got.text("Result/Message") == (
            f'Job Session "{first.name}" triggered to stop.'
        )
        assert (first.state, first.result, first.progress) == ("Stopping", "None", 0)
        await anyio.sleep(3)
        assert (first.state, first.result, first.progress) == ("Stopped", "Failed", 0)
        await client.post(f"{ORACLE}?action=start")
        second = server.job_sessions[1]
        assert second.state == "Starting"
        await client.post(f"{ORACLE}?action=stop")
        assert second.state == "Stopping"
        second.finish("Success")
        assert (second.result, second.progress) == ("Success", 100)
        with pytest.raises(ValueError, match="a result is one of"):
            second.finish("Great")  # type: ignore[arg-type] # that is the point
        assert repr(second).endswith("Stopped Success 100%>")


async def test_jobs_change_by_actions() -> None:
    """Cloned, toggled and deleted jobs show in the list."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        cloned = await client.post(f"{ORACLE}?action=clone")
        (link,) = related(cloned)
        assert link["Type"] == "Job"
        parts = urlsplit(link["Href"])
        job = await client.get(f"{parts.path}?{parts.query}")
        assert job.xml.get("Name") == "Oracle Backup_clone"
        assert job.text("ScheduleEnabled") == "true"
        await client.post(f"{parts.path}?action=toggleScheduleEnabled")
        job = await client.get(f"{parts.path}?format=Entity")
        assert job.text("ScheduleEnabled") == "false"
        await client.ask("DELETE", parts.path)
        assert (await client.get(parts.path)).status == 404
        listed = await client.get("/api/jobs")
        assert listed.names == ["EntityReferences", *["Ref"] * 4]


@pytest.mark.virtual_time
async def test_related_links_come_early_or_late_or_not_at_all() -> None:
    """Before the end in one sample; after a while at others; a failure has none."""
    async with (
        SimulatedServer(related_delay=5) as server,
        Client(server.url) as client,
    ):
        await client.log_on()
        early = await client.post(f"/api/vAppReplicaPoints/{GUID}?action=failover")
        assert early.text("State") == "Running"
        assert early.xml.findall(f"{NAMESPACE}Result")[0].get("Success") == "true"
        assert related(early)[0]["Type"] == "RestoreSession"
        late = server.add_task("Finished", related="RestoreSession")
        assert related(await client.get(f"/api/tasks/{late.task_id}")) == []
        failed = server.add_task("Finished failed", related="RestoreSession")
        await anyio.sleep(5)
        assert len(related(await client.get(f"/api/tasks/{late.task_id}"))) == 1
        assert related(await client.get(f"/api/tasks/{failed.task_id}")) == []


async def test_restore_sessions_can_be_read() -> None:
    """They belong to no job and name the machine."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task("Finished", operation="RestoreFile", related="RestoreSession")
        server.add_task(
            "Finished", related=Related(type="CloudTenant", path="cloud/tenants/1")
        )
        await client.log_on()
        (link,) = related(await client.get("/api/tasks/task-1"))
        parts = urlsplit(link["Href"])
        got = await client.get(f"{parts.path}?{parts.query}")
        assert got.xml.get("Type") == "RestoreSession"
        assert got.xml.get("VmDisplayName") == "srv04"
        assert got.text("JobType") == "FileLevelRestore"
        (other,) = related(await client.get("/api/tasks/task-2"))
        assert other["Href"] == f"{server.url}/api/cloud/tenants/1"
        listed = await client.get("/api/restoreSessions")
        assert listed.names == ["EntityReferences", "Ref"]
        found = await client.get(
            "/api/query?type=RestoreSession&filter=Type==RestoreVm"
        )
        assert found.xml.findall(f".//{NAMESPACE}Ref") == []
        with pytest.raises(ValueError, match="a task leads to one of"):
            server.add_task("Finished", related="Nonsense")
