"""curl against the simulated server, as the README shows it.

Found on the way, curl's own: `-X POST` without `-d ""` sends no Content-Length, which
the server answers with 411; and `-c` and `-b` keep the cookie, which then counts.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from veeam_tasks.simulator import ThreadedServer

pytestmark = [
    pytest.mark.strangers,
    pytest.mark.parametrize("version", ["9.5u4", "12", "13"]),
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl"),
]
SPACE = "{http://www.veeam.com/ent/v1.0}"


@pytest.fixture(params=[False, True], ids=["http", "https"])
def server(request: pytest.FixtureRequest, version: str) -> Iterator[ThreadedServer]:
    """Run a server with two tasks."""
    with ThreadedServer(version=version, tls=request.param) as running:
        running.add_task("Running 1h, Finished")
        running.add_task("Finished failed 'Disk full'")
        yield running


def curl(server: ThreadedServer, *args: str) -> str:
    """Run curl; return what it printed."""
    trust = ["--cacert", server.ca_file] if server.url.startswith("https") else []
    command = ["curl", "-sS", *trust, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_whole_way_by_header(server: ThreadedServer, tmp_path: Path) -> None:
    """Log on, list, read, start, delete, log out: by the token in a header."""
    api, head = f"{server.url}/api", tmp_path / "head"
    account = f"{server.username}:{server.password}"
    body = curl(
        server, "-D", str(head), "-u", account, "-d", "", f"{api}/sessionMngr/?v=latest"
    )
    session_id = ET.fromstring(body).findtext(f"{SPACE}SessionId")
    lines = head.read_text().splitlines()
    token = next(one for one in lines if one.lower().startswith("x-restsvcsessionid"))
    listed = curl(server, "-H", token, f"{api}/tasks")
    assert len(ET.fromstring(listed)) == 2
    as_json = ("-H", "Accept: application/json")
    one = json.loads(curl(server, "-H", token, *as_json, f"{api}/tasks/task-2"))
    assert "Disk full" in str(one)
    job = f"{api}/jobs/b04c217b-0538-4650-bec4-19deff4ea1ac"
    started = curl(server, "-H", token, "-d", "", f"{job}?action=start")
    assert ET.fromstring(started).findtext(f"{SPACE}TaskId") == "task-3"
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    path = f"{api}/tasks/task-3"
    assert curl(server, "-H", token, "-X", "DELETE", *status, path) == "204"
    assert curl(server, "-H", token, *status, path) == "500"
    path = f"{api}/logonSessions/{session_id}"
    assert curl(server, "-H", token, "-X", "DELETE", *status, path) == "204"
    assert curl(server, "-H", token, *status, f"{api}/tasks") == "401"


def test_the_whole_way_by_cookie(server: ThreadedServer, tmp_path: Path) -> None:
    """The cookie jar of curl carries the token as well as a header does."""
    jar, api = str(tmp_path / "jar"), f"{server.url}/api"
    account = f"{server.username}:{server.password}"
    path = f"{api}/sessionMngr/?v=latest"
    curl(server, "-c", jar, "-u", account, "-d", "", path)
    assert len(ET.fromstring(curl(server, "-b", jar, f"{api}/tasks"))) == 2
    stale = ("-H", "X-RestSvcSessionId: c3RhbGU=")
    assert len(ET.fromstring(curl(server, "-b", jar, *stale, f"{api}/tasks"))) == 2


def test_a_post_without_a_body_needs_its_length(server: ThreadedServer) -> None:
    """The commonest mistake with curl and this server."""
    account = f"{server.username}:{server.password}"
    path = f"{server.url}/api/sessionMngr/?v=latest"
    said = curl(server, "-X", "POST", "-u", account, "-w", "%{http_code}", path)
    assert said.endswith("411")
