"""`--metrics [HOST]:PORT`: what a Prometheus reads while a watch lasts."""

import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from support.command_line import COMMAND, Here, clean_environment, settings_of

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
    with subprocess.Popen(
        [*COMMAND, "watch", task.task_id, "--metrics", ":0"],
        env=clean_environment(**settings_of(server)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", child.stderr.readline())
        assert found is not None
        with urllib.request.urlopen(found[0], timeout=10) as reply:
            text = reply.read().decode()
        task.finish()
        child.communicate(timeout=30)
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
