"""The collection as it is built, documented and installed; its README's playbooks."""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import veeam_tasks

pytestmark = pytest.mark.playbooks

PACKAGE = Path(veeam_tasks.__file__).parent
INSTALLED = PACKAGE.parent / "ansible_collections/veeam_tasks/em"
FOLDER = INSTALLED if INSTALLED.exists() else PACKAGE / "ansible"
BLOCK = re.compile(r"^```(yaml|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ACTIONS = ("actions", "jobs", "logon", "logout")


def run(*words: str, cwd: Path, env: Mapping[str, str]) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(
        words, cwd=cwd, env={**env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugins_import_what_is_public_alone() -> None:
    """A collection from elsewhere meets another version of the package."""
    found = set()
    for path in FOLDER.rglob("*.py"):
        text = path.read_text()
        found |= set(
            re.findall(r"^\s*(?:from|import) (veeam_tasks[\w.]*)", text, re.MULTILINE)
        )
    assert found == {"veeam_tasks", "veeam_tasks.jobs"}


def test_a_tarball_is_built_and_installed(
    ansible_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """It holds the licence and no cache, and its actions are documented."""
    env = ansible_environment
    built = ("collection", "build", str(FOLDER), "--output-path", str(tmp_path))
    run("ansible-galaxy", *built, cwd=tmp_path, env=env)
    (tarball,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert "LICENSE" in names
    assert not [one for one in names if "__pycache__" in one]
    place = tmp_path / "elsewhere"
    to = ("collection", "install", str(tarball), "-p", str(place), "--force")
    run("ansible-galaxy", *to, cwd=tmp_path, env=env)
    here = {**env, "ANSIBLE_COLLECTIONS_PATH": str(place)}
    for name in ACTIONS:
        words = ("ansible-doc", "--json", f"veeam_tasks.em.{name}")
        shown = json.loads(run(*words, cwd=tmp_path, env=here))
        documented = shown[f"veeam_tasks.em.{name}"]
        assert str(place) in documented["doc"]["filename"]
        assert documented["examples"]
        assert "url" in documented["doc"]["options"]


def test_what_is_documented_is_what_is_taken(
    ansible_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Each option of an argument spec is documented, with its type and default."""
    script = f"""
import json, sys
sys.path.insert(0, {str(tmp_path)!r})
from ansible.plugins.loader import init_plugin_loader, action_loader
init_plugin_loader([])
from ansible_collections.veeam_tasks.em.plugins.plugin_utils.server import (
    CONNECTION_SPEC)
for name in {ACTIONS!r}:
    plugin = action_loader.get("veeam_tasks.em." + name, class_only=True)
    print(json.dumps(dict(CONNECTION_SPEC, **plugin.SPEC)))
"""
    printed = run(sys.executable, "-c", script, cwd=tmp_path, env=ansible_environment)
    for name, line in zip(ACTIONS, printed.splitlines(), strict=True):
        words = ("ansible-doc", "--json", f"veeam_tasks.em.{name}")
        shown = json.loads(run(*words, cwd=tmp_path, env=ansible_environment))
        options = shown[f"veeam_tasks.em.{name}"]["doc"]["options"]
        assert _compared(json.loads(line), "options") == _compared(
            options, "suboptions"
        )


def _compared(spec: dict[str, dict[str, object]], inner: str) -> dict[str, object]:
    kept = ("type", "default", "choices", "elements")
    return {
        name: [
            *(one.get(key) for key in kept),
            _compared(one[inner], inner) if one.get(inner) else None,  # type: ignore[arg-type]
        ]
        for name, one in spec.items()
    }


@pytest.fixture
def simulated() -> Iterator[dict[str, str]]:
    """Run the server that the README says to run, with TLS; yield what it printed."""
    readme = (FOLDER / "README.md").read_text()
    (asked,) = re.findall(r"`veeam-tasks (simulate [^`]+)`", readme)
    words = (*asked.split(), "--tls", "--port", "0")
    command = [sys.executable, "-m", "veeam_tasks", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()
        process.stdout.read()


def test_the_playbooks_of_the_readme_do_what_it_shows(
    simulated: dict[str, str], ansible_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Each command is run as printed; what it shows is there, in order."""
    env = {
        **ansible_environment,
        "VEEAM_EM_URL": simulated["url"],
        "VEEAM_EM_USERNAME": simulated["username"],
        "VEEAM_EM_PASSWORD": simulated["password"],
        "VEEAM_EM_FINGERPRINT": simulated["fingerprint"],
    }
    (tmp_path / "key").write_text("the key of the vault")
    vault = ("encrypt_string", "--vault-password-file", "key", simulated["password"])
    name = ("--name", "vault_em_password")
    vaulted = run("ansible-vault", *vault, *name, cwd=tmp_path, env=env)
    ran = 0
    for kind, text in BLOCK.findall((FOLDER / "README.md").read_text()):
        if kind == "yaml":
            head, _, body = text.partition("\n")
            if head.startswith("# em.yml"):
                body = _for_this_server(body, simulated) + vaulted
            (tmp_path / head.split()[1].rstrip(",")).write_text(body)
            continue
        for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = shown.partition("\n")
            command, _, note = command.partition("#")
            mine = env if "vault" not in command else dict(ansible_environment)
            done = subprocess.run(
                shlex.split(command),
                cwd=tmp_path,
                env=mine,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == (2 if "2" in note else 0), done.stdout
            _assert_shown(expected, done.stdout)
            ran += 1
    assert ran == 4


def _for_this_server(variables: str, simulated: Mapping[str, str]) -> str:
    """Put the simulated server in the place of the example."""
    kept = variables[: variables.index("vault_em_password: !vault")]
    for key in ("url", "username", "fingerprint"):
        kept = re.sub(rf"(veeam_em_{key}: ).*", rf"\g<1>{simulated[key]}", kept)
    return kept


def _assert_shown(expected: str, printed: str) -> None:
    """Look for the lines that are shown, in order; dots stand for any others."""
    place = 0
    for line in expected.splitlines():
        wanted = line.rstrip(".").strip(" ,") if line.endswith("...") else line.strip()
        found = printed.find(wanted, place)
        assert found >= 0, f"{wanted!r} is not in:\n{printed[place:]}"
        place = found + len(wanted)


def test_no_folder_of_this_machine_is_in_the_collection() -> None:
    """What is packed speaks of no place but itself."""
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.suffix in {".py", ".yml", ".md", ".txt"}:
            assert os.path.expanduser("~") + "/" not in path.read_text()  # noqa: PTH111
