"""EXAMPLES.md: every public name has an example, and each runs."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from support.marked_blocks import assert_prints, programs

import veeam_tasks

pytest_plugins = ["pytester"]

PACKAGE = Path(veeam_tasks.__file__).parent
TEXT = (PACKAGE / "EXAMPLES.md").read_text(encoding="utf-8")
IN_PYTEST = (PACKAGE / "simulator" / "README.md").read_text(encoding="utf-8")
PROGRAMS = programs(TEXT)
[SUITE] = re.findall(r"```python\n(import pytest\n.*?)```", IN_PYTEST, re.DOTALL)


def modules() -> list[str]:
    """Return the public modules, by what stands behind the package's name."""
    found = {one.parent.name: one for one in PACKAGE.glob("[!_]*/__init__.py")}
    found |= {one.stem: one for one in PACKAGE.glob("[!_]*.py")}
    texts = {f".{name}": one.read_text("utf-8") for name, one in found.items()}
    return ["", *sorted(name for name, text in texts.items() if "\n__all__ =" in text)]


def titles() -> list[str]:
    """Return the title above each program."""
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    return [one.partition("\n")[0] for one in parts if "<!-- run -->" in one]


@pytest.mark.parametrize(("code", "shown"), PROGRAMS, ids=titles())
def test_an_example_prints_what_stands_below_it(
    code: str, shown: str, tmp_path: Path
) -> None:
    """Each runs as it stands, with exactly that output and no warning."""
    if "veeam_tasks.metrics" in code:
        pytest.importorskip("prometheus_client")
        pytest.importorskip("jinja2")
    assert_prints(code, shown, tmp_path)


def used() -> tuple[set[str], set[str]]:
    """Return the public names in the examples, and the attributes that they ask for."""
    names: set[str] = set()
    attributes: set[str] = set()
    trees = [ast.parse(code) for code in (*(code for code, _ in PROGRAMS), SUITE)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            attributes.add(node.attr)
            if isinstance(node.value, ast.Name) and node.value.id == "vt":
                names.add(f"veeam_tasks.{node.attr}")
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{one.name}" for one in node.names}
    return names, attributes


@pytest.mark.parametrize("name", modules())
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    """Whoever makes a name public shows its use."""
    if name == ".metrics":
        pytest.importorskip("prometheus_client")
    module = importlib.import_module(f"veeam_tasks{name}")
    names, _ = used()
    public = {f"{module.__name__}.{one}" for one in module.__all__}
    assert sorted(public - names) == []


@pytest.mark.parametrize("name", ["SessionManager", "Watch", "MergedWatch"])
def test_every_method_has_an_example_that_runs(name: str) -> None:
    """And every property, of what is called and not only read."""
    _, attributes = used()
    offered = {one for one in dir(getattr(veeam_tasks, name)) if one[0] != "_"}
    assert sorted(offered - attributes) == []


@pytest.mark.parametrize("mark", ["anyio", "asyncio"])
def test_the_tests_of_the_readme_pass(pytester: pytest.Pytester, mark: str) -> None:
    """As they stand, and for pytest-asyncio with the mark that it says there."""
    if mark == "asyncio":
        pytest.importorskip("pytest_asyncio")
    code = SUITE.replace("@pytest.mark.anyio", f"@pytest.mark.{mark}")
    # As it says there for where trio is installed.
    backend = '\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    pytester.makepyfile(code + backend)
    looptime = ("looptime_plugin", "looptime_chronometers", "looptime_timeproxies")
    result = pytester.runpytest_subprocess(
        *(f"-pno:{one}" for one in ("cacheprovider", *looptime))
    )
    result.assert_outcomes(passed=2)
