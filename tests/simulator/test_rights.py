"""Who may read and start what: the roles, as the vendor's page lists them."""

import pytest
from support.plain_client import Client

from veeam_tasks.simulator import Account, Role, SimulatedServer

GUID = "7caf66d5-f700-442c-9aa9-8867f031377f"
ACCOUNTS = {
    "user": Account("pw", role=Role.PORTAL_USER),
    "operator": Account("pw", role=Role.RESTORE_OPERATOR),
}
JOB = "jobs/78c3919c-54d7-43fe-b047-485d3566f11f"


@pytest.mark.parametrize(
    ("path", "user", "operator"),
    [
        ("tasks", 200, 200),
        ("query?type=Task", 200, 200),
        ("logonSessions", 200, 200),
        ("jobs", 403, 403),
        (JOB, 403, 403),
        (f"{JOB}/backupSessions", 403, 403),
        ("agents/jobs", 403, 403),
        ("nas/jobs", 403, 403),
        ("query?type=Job", 403, 403),
        ("backupSessions", 200, 403),
        ("backupTaskSessions", 200, 403),
        ("replicaSessions", 200, 403),
        ("agents/backupSessions", 200, 403),
        ("query?type=BackupJobSession", 200, 403),
        ("query?type=BackupTaskSession", 200, 403),
        ("restoreSessions", 200, 200),
        ("query?type=RestoreSession", 200, 200),
        ("cloud/failoverSessions", 200, 200),
        ("systemSessions", 403, 403),
        ("backupServers", 200, 403),
    ],
)
async def test_roles_may_read_what_the_page_lists(
    path: str, user: int, operator: int
) -> None:
    """An administrator everything, a user no jobs, an operator restores alone."""
    async with (
        SimulatedServer(accounts=ACCOUNTS) as server,
        Client(server.url) as client,
    ):
        for name, status in (("user", user), ("operator", operator)):
            await client.log_on(name, "pw")
            got = await client.get(f"/api/{path}")
            assert got.status == status, name
            if status == 403:
                assert got.xml.get("Message") == "Access denied"
        await client.log_on()
        assert (await client.get(f"/api/{path}")).status == 200


@pytest.mark.parametrize(
    ("path", "user", "operator"),
    [
        (f"{JOB}?action=start", 403, 403),
        (f"backupSessions/{GUID}?action=stop", 403, 403),
        (f"backupServers/{GUID}?action=collect", 202, 403),
        (f"backupServers/{GUID}?action=quickbackup", 202, 403),
        (f"backupServers/{GUID}?action=veeamzip", 202, 403),
        (f"vmRestorePoints/{GUID}?action=restore", 202, 202),
        (f"vmReplicaPoints/{GUID}?action=failover", 403, 403),
    ],
)
async def test_roles_may_start_what_the_page_lists(
    path: str, user: int, operator: int
) -> None:
    """A user may collect and back up at once, an operator restore."""
    async with (
        SimulatedServer(accounts=ACCOUNTS, any_id=True) as server,
        Client(server.url) as client,
    ):
        for name, status in (("user", user), ("operator", operator)):
            await client.log_on(name, "pw")
            assert (await client.post(f"/api/{path}")).status == status, name


async def test_an_operator_reads_a_task_but_not_the_session_that_it_leads_to() -> None:
    """403 on a backup session whose task can be read is normal."""
    async with (
        SimulatedServer(accounts=ACCOUNTS) as server,
        Client(server.url) as client,
    ):
        await client.log_on("operator", "pw")
        server.add_task("Finished", related="BackupJobSession")
        task = await client.get("/api/tasks/task-1")
        assert task.text("State") == "Finished"
        (session,) = server.job_sessions
        got = await client.get(f"/api/{session.path}?format=Entity")
        assert (got.status, got.names[0]) == (403, "Error")
