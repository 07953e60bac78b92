"""`veeam-em` 2022.11, from the package index, against the simulated server.

Found on the way, all of it that client's own:

* its names are those of JSON before 13, so that it cannot log on to 13: it takes the
  missing ``Links`` for a missing token;
* it takes a boolean alone for its ``ssl_verify``, so that a CA file goes by the
  variable of `requests`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from veeam_em.exceptions import VeeamEmError
from veeam_em.manager import VeeamEm

from veeam_tasks.simulator import Account, Role, ThreadedServer, VersionName

pytestmark = pytest.mark.strangers


@pytest.fixture(params=["9.5u4", "12"])
def server(request: pytest.FixtureRequest) -> Iterator[ThreadedServer]:
    """Run a server with TLS."""
    version: VersionName = request.param
    accounts = {"operator": Account("pw", role=Role.RESTORE_OPERATOR)}
    with ThreadedServer(version=version, tls=True, accounts=accounts) as running:
        yield running


@pytest.fixture
def client(server: ThreadedServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Log on as the client's readme does it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.ca_file)
    found = VeeamEm(api_endpoint=server.url)
    found.get_token(server.username, server.password)
    yield found
    found.session.close()


def test_it_logs_on_and_knows_who_it_is(server: ThreadedServer, client: Any) -> None:
    """The token goes by header and by cookie; the logon session can be read."""
    (session,) = server.logon_sessions
    assert client.api_token == session.token
    assert client.session_data["UserName"] == "admin"
    (listed,) = client.get_logon_sessions()
    assert listed["SessionId"] == session.session_id
    assert client.get_logon_session(session.session_id)["UserName"] == "admin"
    assert client.get_hierarchy_roots() == []


def test_it_reads_task_sessions_over_all_pages(
    server: ThreadedServer, client: Any
) -> None:
    """By the query service, newest first, along the Next links."""
    job = server.add_job("Nightly", history=6)
    running = server.add_session(job, "Working")
    found = client.get_backup_task_sessions(page_size=5)
    assert len(found) == len({one["UID"] for one in found}) == 2 * 8
    times = [one["CreationTimeUTC"] for one in found]
    assert times == sorted(times, reverse=True)
    # The trap of this very client's own sample: InProgress, and Success already.
    first = found[0]
    assert (first["State"], first["Result"]) == ("InProgress", "Success")
    assert first["JobSessionUid"] == running.uid
    failed = client.get_backup_task_sessions(filter="Result==Failed")
    assert [one["VmDisplayName"] for one in failed] == ["srv01"]
    assert failed[0]["Reason"]


def test_what_it_asks_for_and_is_not_simulated_raises(
    server: ThreadedServer, client: Any
) -> None:
    """Accounts and the lookup are documented: 501 with words that it shows."""
    for ask in (client.get_accounts, client.get_roles):
        with pytest.raises(VeeamEmError, match="not simulated"):
            ask()
    assert server.requests[-1].status == 501


def test_an_operator_is_refused_a_backup_session(
    server: ThreadedServer, client: Any
) -> None:
    """403, while restore sessions can be read."""
    client.get_token("operator", "pw")
    with pytest.raises(VeeamEmError, match="Access denied"):
        client.get_backup_task_sessions()
    assert client.request("/restoreSessions")["Refs"] == []
    assert server.requests[-1].status == 200


def test_it_cannot_log_on_to_13() -> None:
    """The token is there, its names are in camelCase."""
    with ThreadedServer(version="13") as server:
        client = VeeamEm(api_endpoint=server.url)
        with pytest.raises(VeeamEmError, match="Could not generate token"):
            client.get_token(server.username, server.password)
        client.session.close()
        assert server.logons[0].accepted
