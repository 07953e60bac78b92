"""`veeam` 0.1.5, from the package index, against the simulated server.

Found on the way, all of it that client's own:

* it asks for interface version v1_4, so that every server from 12a on refuses it, as
  issues of other projects tell;
* it logs out the *first* logon session that the server lists, whoever's that is;
* it knows no tasks, no actions, and no report that we simulate: its `session`, which it
  offers for that, was used for tasks and actions.
"""

from typing import Any

import pytest
from veeam.client import VeeamClient
from veeam.errors import LoginFailError

from veeam_tasks.simulator import ThreadedServer

pytestmark = pytest.mark.strangers


def connected(server: ThreadedServer) -> Any:
    """Log on as the client's readme does it."""
    return VeeamClient(f"{server.url}/api", server.username, server.password)


def test_it_logs_on_reads_jobs_and_sessions_and_logs_out() -> None:
    """Everything that it can ask 9.5 Update 4 about jobs and their sessions."""
    with ThreadedServer(version="9.5u4", speed=100) as server:
        server.set_script("Finished")
        client = connected(server)
        jobs = client.get_jobs()["Refs"]
        assert [job["Name"] for job in jobs][:2] == ["SQL Replication", "Oracle Backup"]
        uuid = jobs[1]["UID"].rpartition(":")[2]
        assert client.get_job(uuid)["JobType"] == "Backup"
        assert client.get_backups()["Refs"] == []
        started = client.session.post(f"{jobs[1]['Href']}?action=start")
        assert started.status_code == 202
        task = client.session.get(started.json()["Href"])
        assert task.json()["Operation"] == "StartJob"
        assert len(client.session.get(f"{client.url}/tasks").json()["Tasks"]) == 1
        server.job_sessions[0].finish("Failed")
        sessions = client.get_backup_sessions(uuid)["BackupJobSessions"]
        assert [one["Result"] for one in sessions] == ["Failed"]
        assert len(client.get_jobs_1_day()) == 1
        assert len(client.get_failed_jobs()) == 1
        assert [one["JobName"] for one in client.get_persistently_failed_jobs()] == [
            "Oracle Backup"
        ]
        client.logout()
        assert server.logon_sessions == []


@pytest.mark.parametrize("version", ["12", "13"])
def test_newer_servers_refuse_its_interface_version(version: str) -> None:
    """With the right password: v1_4 is refused like a wrong one."""
    with ThreadedServer(version=version) as server:
        with pytest.raises(LoginFailError):
            connected(server)
        assert server.logons[0].reason == "interface version not supported"
