"""What would be published: its contents, its metadata, its licences, its SBOM.

`nox -s build` makes it and runs these, with the folder in VEEAM_TASKS_DIST.
"""

import json
import os
import re
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

DIST = Path(os.environ.get("VEEAM_TASKS_DIST", ""))
ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COLLECTION = "ansible_collections/veeam_tasks/em/"
FREE = re.compile(
    r"MIT|Apache|BSD|ISC|PSF|Python Software Foundation|Mozilla Public|MPL|Unlicense"
)
# An extra that whoever asks for it has already: MIT code may be used with it.
COPYLEFT = {"ansible-core"}

pytestmark = pytest.mark.skipif(
    "VEEAM_TASKS_DIST" not in os.environ, reason="nox -s build makes what this reads"
)


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    """Return the one wheel."""
    (path,) = DIST.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """Return the metadata of the wheel."""
    (name,) = [one for one in wheel.namelist() if one.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def files_below(folder: Path) -> set[str]:
    """Return the files of a folder of the checkout, without caches."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_the_wheel_has_the_package_and_the_collection_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    """Each file of the checkout is there once, and the marker for type checkers."""
    names = [one for one in wheel.namelist() if ".dist-info/" not in one]
    package = files_below(ROOT / "veeam_tasks")
    collection = {one for one in package if one.startswith("ansible/")}
    expected = {f"veeam_tasks/{one}" for one in package - collection}
    expected |= {COLLECTION + one.removeprefix("ansible/") for one in collection}
    assert sorted(names) == sorted(expected)
    assert "veeam_tasks/py.typed" in names


def test_the_source_distribution_has_what_its_tests_need() -> None:
    """And its checks, and the README's links; no file of a cache, an editor or Git."""
    (path,) = DIST.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {one.partition("/")[2] for one in archive.getnames()}
    for folder in ("veeam_tasks", "tests", "benchmarks"):
        assert {f"{folder}/{one}" for one in files_below(ROOT / folder)} <= names
    linked = re.findall(r"\]\(([\w./]+)\)", (ROOT / "README.md").read_text())
    assert set(linked) <= names
    assert {"pyproject.toml", "README.md", "noxfile.py", "PKG-INFO"} <= names
    assert ".importlinter" in names
    roots = {one.partition("/")[0] for one in names}
    assert roots <= {
        *("veeam_tasks", "tests", "benchmarks", "noxfile.py", "README.md"),
        *("pyproject.toml", "PKG-INFO", ".gitignore", "LICENSE"),
        *(".importlinter", ".github"),
    }


def test_the_metadata_says_what_the_project_says(
    wheel: zipfile.ZipFile, metadata: Message
) -> None:
    """Version, licence, Pythons, extras, commands, the fixtures of pytest."""
    asked = PROJECT["project"]
    assert metadata["Name"] == asked["name"]
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "The veeam_tasks authors"
    assert metadata["Requires-Python"] == asked["requires-python"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    extras = set(metadata.get_all("Provides-Extra") or ())
    assert extras == set(asked["optional-dependencies"])
    names = wheel.namelist()
    assert any(one.endswith(".dist-info/licenses/veeam_tasks/LICENSE") for one in names)
    (points,) = [one for one in names if one.endswith(".dist-info/entry_points.txt")]
    text = wheel.read(points).decode()
    assert "veeam-tasks = veeam_tasks.__main__:main" in text
    assert "[pytest11]" in text


def test_the_long_description_renders_as_it_stands_in_the_readme(
    metadata: Message,
) -> None:
    """As the index shows it: each heading, table, list item and block of code."""
    markdown = pytest.importorskip("readme_renderer.markdown")
    text = metadata.get_payload()
    page = markdown.render(text)
    assert page is not None
    fences = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    blocks = len(fences.findall(text))
    prose = fences.sub("", text)
    blocks += len(re.findall(r"\n\n    \S", prose))
    assert page.count("<pre") == blocks > 5
    assert page.count("<table>") == len(re.findall(r"^\| --- ", prose, re.MULTILINE))
    assert page.count("<li>") == len(re.findall(r"^\* ", prose, re.MULTILINE))
    assert page.count("<h2") == len(re.findall(r"^## ", prose, re.MULTILINE))
    assert "&lt;!--" not in page


def test_there_is_one_version(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """Of the package, of the collection in it, of the README's last line of changes."""
    version = metadata["Version"]
    assert (
        f'__version__ = "{version}"' in wheel.read("veeam_tasks/__init__.py").decode()
    )
    galaxy = wheel.read(f"{COLLECTION}galaxy.yml").decode()
    assert f"\nversion: {version}\n" in galaxy
    assert f"\n## Changes\n\n**{version}**" in (ROOT / "README.md").read_text()


def test_every_dependency_may_be_used_with_ours() -> None:
    """Of all extras but Airflow; those with a condition are named here."""
    listed = json.loads((DIST / "licences.json").read_text())
    assert len(listed) > 10
    others = {one["Name"]: one["License"] for one in listed if one["Name"] not in OURS}
    bound = {name for name, said in others.items() if not FREE.search(said)}
    assert bound <= COPYLEFT, {name: others[name] for name in bound - COPYLEFT}


OURS = {"veeam-tasks"}


def test_the_bill_of_materials_names_each_of_them(metadata: Message) -> None:
    """With its version, and us as what it is the bill of."""
    bill = json.loads((DIST / "sbom.cdx.json").read_text())
    named = {one["name"]: one.get("version") for one in bill["components"]}
    listed = json.loads((DIST / "licences.json").read_text())
    for one in listed:
        if one["Name"] not in OURS:
            assert named[one["Name"]] == one["Version"]
    us = bill["metadata"]["component"]
    assert (us["name"], us["version"]) == ("veeam-tasks", metadata["Version"])
