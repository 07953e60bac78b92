"""`--metrics [HOST]:PORT`: what a Prometheus reads while a watch lasts."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from support.command_line import (
    COMMAND,
    SECONDS,
    Here,
    between_pipes,
    clean_environment,
    settings_of,
)

from veeam_tasks.simulator import ThreadedServer

pytest.importorskip("prometheus_client")


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedServer]:
    """Give one server for all tests of this file."""
    with ThreadedServer(seed=1) as server:
        yield server


def test_a_watch_serves_metrics_on_loopback(server: ThreadedServer) -> None:
    """From the logon to the end; with port 0 it says which one it has."""
    task = server.add_task("Running", shared=True)
    with between_pipes(
        ["watch", task.task_id, "--metrics", ":0"], settings_of(server)
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            child.stdout.readline()
            said = child.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/metrics", said)
            assert found is not None
            with urllib.request.urlopen(found[0], timeout=10) as reply:
                text = reply.read().decode()
            task.finish()
            child.communicate(timeout=30)
        finally:
            child.kill()  # or a failure would wait for it
        assert child.returncode == 0
    assert re.search(r'watched\{em="[^"]*",state="running"\} 1\.0', text)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(found[0], timeout=10)


@pytest.mark.parametrize("written", ["host", ":x", ":99999", "127.0.0.1:", "127.0.0.1"])
def test_what_is_no_address_is_refused(
    written: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent."""
    here = Here(capsys, monkeypatch)
    here.set({name: None for name in os.environ if name.startswith("VEEAM_EM_")})
    ran = here("watch", "--simulate", "1", "--speed", "100", "--metrics", written)
    assert ran.status == 2
    assert "--metrics" in ran.err


def test_a_port_that_is_taken_is_refused_and_leaves_nothing(
    server: ThreadedServer,
) -> None:
    """It is known once there is a manager, whose logon session ends all the same."""
    watch = ("watch", "task-1", "--metrics")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [sys.executable, "-Wd::ResourceWarning", *COMMAND[1:], *watch, f":{port}"],
            env=clean_environment(**settings_of(server)),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert ran.returncode == 2
    said = f"--metrics: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert ran.stderr == f"veeam-tasks watch: {said}\n"
    assert server.logon_sessions == []


@pytest.mark.parametrize("host", ["x" * 70, "a..b"])
def test_what_is_no_name_of_a_host_is_refused(
    shell: Here, server: ThreadedServer, host: str
) -> None:
    """Also what cannot even be asked of a name server."""
    ran = shell("watch", "task-1", "--metrics", f"{host}:9399")
    assert ran.status == 2
    assert f"--metrics: cannot listen on {host}:9399: " in ran.complaint
    assert server.logon_sessions == []


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_address_of_ipv6_is_told_as_a_url_has_it(
    shell: Here, server: ThreadedServer
) -> None:
    """In brackets, so that it can be copied."""
    task = server.add_task("Finished", shared=True)
    ran = shell("watch", task.task_id, "--metrics", "[::1]:0", "--json")
    if "Cannot assign requested address" in ran.err:
        pytest.skip("no IPv6 here")
    assert ran.status == 0
    assert re.search(r"metrics: http://\[::1\]:\d+/metrics", ran.err)
