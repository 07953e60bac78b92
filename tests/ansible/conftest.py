"""Runs playbooks by ansible-core against a simulated server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.playbooks import Play, Played

import veeam_tasks
from veeam_tasks.simulator import ThreadedServer

BIN = Path(sys.executable).parent
_RESULT = re.compile(r"^\w+: \[localhost\].*?=> (?=\{)", re.MULTILINE)


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Return where the collection of a checkout is; None if it is installed."""
    package = Path(veeam_tasks.__file__).parent
    if (package.parent / "ansible_collections/veeam_tasks/em").exists():
        return None
    root = tmp_path_factory.mktemp("collections")
    place = root / "ansible_collections/veeam_tasks"
    place.mkdir(parents=True)
    (place / "em").symlink_to(package / "ansible")
    return root


@pytest.fixture(scope="session")
def ansible_environment(
    collections: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """Return an environment in which Ansible finds this collection and no other."""
    if shutil.which("ansible-playbook", path=str(BIN)) is None:
        pytest.skip("no ansible-core here")
    home = tmp_path_factory.mktemp("home")
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
    return kept | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(collections or home),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
    }


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Run a server ten times as fast as a real one."""
    with ThreadedServer(speed=10, job_links="always") as running:
        running.add_job("Nightly", session="Starting 1s, Working 50% 2s, Stopped")
        running.add_job(
            "Broken",
            session="Starting 1s, Working 2s, Stopped failed",
            machines={"db01": "InProgress 1s, Completed failed 'No space left'"},
        )
        yield running


@pytest.fixture
def play(
    server: ThreadedServer, ansible_environment: Mapping[str, str], tmp_path: Path
) -> Play:
    """Return what runs tasks, or whole plays, as a playbook against the server."""

    def run(text: str, *args: str, account: bool = True, **more: str) -> Played:
        if not text.startswith("- hosts:"):
            head = "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
            text = head + re.sub(r"^(?=.)", "    ", text, flags=re.MULTILINE)
        path = tmp_path / "play.yml"
        path.write_text(text)
        ours = {
            "VEEAM_EM_URL": server.url,
            "VEEAM_EM_USERNAME": server.username,
            "VEEAM_EM_PASSWORD": server.password,
        }
        done = subprocess.run(
            ["ansible-playbook", path.name, *(args or ("-v",))],
            env={**ansible_environment, **(ours if account else {}), **more},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        results = [
            json.JSONDecoder().raw_decode(done.stdout, found.end())[0]
            for found in _RESULT.finditer(done.stdout)
        ]
        print(done.stdout)
        return Played(status=done.returncode, output=done.stdout, results=results)

    return run
