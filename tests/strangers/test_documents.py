"""Requests retyped from the vendor's documented examples, sent as they are printed.

They are what a stranger's program is written after. What the pages print about the
header X-RestSvcSessionId on the logon itself is a slip of theirs: it is not needed.
"""

import anyio
import pytest
from support.plain_client import NAMESPACE, Client, basic

from veeam_tasks.simulator import SimulatedServer

pytestmark = [
    pytest.mark.strangers,
    pytest.mark.parametrize("version", ["9.5u4", "12", "13"]),
]
CLONE = b"""<?xml version="1.0" encoding="utf-8"?>
<JobCloneSpec xmlns="http://www.veeam.com/ent/v1.0">
  <BackupJobCloneInfo>
    <JobName>Copy</JobName>
    <FolderName>Copy</FolderName>
    <RepositoryUid>urn:veeam:Repository:cbd9d44a-7ab4-4b6c-9d3d-1bd8e8ef9ec5</RepositoryUid>
    <Description>d</Description>
  </BackupJobCloneInfo>
</JobCloneSpec>"""
ORACLE = "78c3919c-54d7-43fe-b047-485d3566f11f"


@pytest.mark.virtual_time
async def test_starting_a_job_as_the_pages_print_it(version: str) -> None:
    """post_jobs_id_actionstart: 202 with task-1, then GET /tasks/task-1 to its end."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        listed = await client.get("/api/")
        create = next(one for one in listed.xml[0] if one.get("Rel") == "Create")
        assert create.get("Href", "").endswith("/api/sessionMngr/?v=latest")
        await client.log_on()
        started = await client.post(f"/api/jobs/{ORACLE}?action=start")
        assert started.status == 202
        assert started.text("TaskId") == "task-1"
        states = []
        for _ in range(5):
            got = await client.get("/api/tasks/task-1")
            states.append(got.text("State"))
            await anyio.sleep(1)
        assert (states[0], states[-1]) == ("Running", "Finished")
        assert got.text("Operation") == "StartJob"
        assert got.xml.find(f"{NAMESPACE}Result").attrib == {"Success": "true"}  # type: ignore[union-attr] # it is there, or the test fails
        assert got.text("Result/Message") == 'Job "Oracle Backup" triggered to start.'


async def test_cloning_a_job_as_the_pages_print_it(version: str) -> None:
    """post_jobs_id_actionclone: a JobCloneSpec, and a Related link to the new job."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        kind = {"Content-Type": "application/xml"}
        got = await client.post(f"/api/jobs/{ORACLE}?action=clone", kind, CLONE)
        assert (got.status, got.text("Operation")) == (202, "CloneJob")
        links = [link for link in got.xml[0] if link.get("Rel") == "Related"]
        assert [link.get("Type") for link in links] == ["Job"]


async def test_a_query_as_the_pages_print_it(version: str) -> None:
    """get_query_task: finished tasks only."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        server.add_task("Running 1h, Finished")
        server.add_task("Finished", operation="StartRebuildScope")
        await client.log_on()
        got = await client.get("/api/query?type=Task&filter=State==Finished")
        assert [one.text for one in got.xml.iter(f"{NAMESPACE}TaskId")] == ["task-2"]


async def test_logging_on_and_out_as_the_pages_print_it(version: str) -> None:
    """logging_on and logging_out: 201, then 204 at the link with Rel=Delete."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        newest = {"9.5u4": "v1_4"}.get(version, "v1_7")
        client.token = "NDRjZmJkYmUtNWE5NS00MTU2LTg4NjctOTFmMDY5YjdjMmNj"
        account = {"Authorization": basic(server.username, server.password)}
        got = await client.post(f"/api/sessionMngr/?v={newest}", account)
        assert got.status == 201
        client.token = got.header("X-RestSvcSessionId")
        link = next(one for one in got.xml[0] if one.get("Rel") == "Delete")
        path = link.get("Href", "").removeprefix(server.url)
        assert (await client.ask("DELETE", path)).status == 204
        assert server.logon_sessions == []
