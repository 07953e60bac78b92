"""`veeam-easy-connect` 0.8, from the package index, against the simulated server.

Found on the way, all of it that client's own:

* it speaks https only, and to an Enterprise Manager JSON only;
* it knows no log-out and no DELETE: that logon session ends by its idle time;
* it hands the server's keys through, so that programs around it break on 13, whose keys
  are in camelCase.
"""

from typing import Any

import pytest
from veeam_easy_connect import VeeamEasyConnect

from veeam_tasks.simulator import ThreadedServer

pytestmark = [
    pytest.mark.strangers,
    pytest.mark.parametrize("version", ["9.5u4", "12", "13"]),
]


def member(body: Any, name: str) -> Any:
    """Return a member whatever its case, as programs must since 13."""
    return {key.lower(): value for key, value in body.items()}[name.lower()]


@pytest.fixture
def server(version: str) -> Any:
    """Run a server with TLS and two tasks."""
    with ThreadedServer(version=version, tls=True, speed=20) as running:
        running.add_task("Running 1h, Finished")
        running.add_task("Finished failed 'Disk full'")
        yield running


def connected(server: ThreadedServer, password: str) -> VeeamEasyConnect:
    """Log on as the client's readme does it, on our port."""
    client = VeeamEasyConnect(server.username, password, server.ca_file).ent_man()
    client.update_port(server.url.rpartition(":")[2])
    client.login("127.0.0.1")
    return client


def test_it_logs_on_reads_tasks_and_starts_a_job(server: ThreadedServer) -> None:
    """The token comes from the reply's header, in either case."""
    client = connected(server, server.password)
    assert client.get_access_token() == server.logon_sessions[0].token
    assert member(client.get_body_data(), "UserName") == "admin"
    listed = member(client.get("tasks", full=False), "Tasks")
    assert [member(task, "State") for task in listed] == ["Running", "Finished"]
    one = client.get("tasks/task-2", full=False)
    assert member(member(one, "Result"), "Message") == "Disk full"
    job = member(client.get("jobs", full=False), "Refs")[0]
    started = client.post(f"{member(job, 'Href')}?action=start", data={})
    assert member(started, "Operation") == "StartJob"
    again = client.get(member(started, "Href"))
    assert member(again, "TaskId") == member(started, "TaskId") == "task-3"
    found = client.get("query?type=Task&filter=State==Finished", full=False)
    tasks = member(member(member(found, "Resources"), "Tasks"), "Tasks")
    assert "task-2" in [member(task, "TaskId") for task in tasks]
    assert all(record.status < 300 for record in server.requests)


def test_a_refused_logon_raises(server: ThreadedServer) -> None:
    """The client raises for the status."""
    with pytest.raises(Exception, match="401"):
        connected(server, "wrong")
    assert [logon.accepted for logon in server.logons] == [False]
