"""ARCHITECTURE.md is in step with the folders, files and names of the package."""

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

# Of the checkout: the wheel has the collection for Ansible elsewhere.
PACKAGE = Path(__file__).parent.parent / "veeam_tasks"
TEXT = (PACKAGE / "ARCHITECTURE.md").read_text(encoding="utf-8")
# What says by itself what it is.
PLAIN = {
    *("ARCHITECTURE.md", "EXAMPLES.md", "README.md", "LICENSE", "py.typed"),
    *("__init__.py", "__main__.py", "__pycache__/"),
}
# Words of Python and of the shell, a field of log records, places beside the package.
NOT_OURS = {
    *("await", "list", "try", "em_url"),
    *(".importlinter", "veeam_tasks", "ansible_collections/veeam_tasks/em"),
}


def table(heading: str) -> str:
    """Return the first table after a text."""
    rows = TEXT.partition(heading)[2].partition("\n| ")[2]
    return rows.partition("\n\n")[0]


def first_cells(rows: str) -> set[str]:
    """Return the names in the first column of a table."""
    cells = [row.strip("| ").split(" | ")[0] for row in rows.splitlines()]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def entries(folder: Path) -> set[str]:
    """Return the folders and modules in a folder, as the text writes them."""
    names = {f"{one.name}/" if one.is_dir() else one.name for one in folder.iterdir()}
    return names - PLAIN


@pytest.mark.parametrize(
    ("heading", "folder"),
    [
        ("## One sentence a folder", "."),
        ("Within `_client`", "_client"),
        ("Within `_engine`", "_engine"),
        ("Within `_session`", "_session"),
        ("Within `_transport`", "_transport"),
        ("Within `_protocol`", "_protocol"),
        ("Within `cli`", "cli"),
    ],
)
def test_each_folder_and_file_has_its_row(heading: str, folder: str) -> None:
    """And no row is about one that is gone."""
    assert first_cells(table(heading)) == entries(PACKAGE / folder)


def modules() -> dict[str, set[str]]:
    """Return the names that each file of the package defines, by its path."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        names = found[path.relative_to(PACKAGE).as_posix()]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names.update(names_of(node))
    return found


def names_of(node: ast.AST) -> Iterator[str]:
    """Give what a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


def is_there(name: str, defined: dict[str, set[str]], places: set[str]) -> bool:
    """Tell whether a file, a name, or a member of a class or file exists."""
    if any(place.endswith(f"/{name.strip('/')}") for place in places):
        return True
    owner, _, member = name.rpartition(".")
    if not owner:
        return any(name in names for names in defined.values())
    return any(
        member in names
        for path, names in defined.items()
        if owner in names or f"/{path}".endswith(f"/{owner}.py")
    )


def test_each_name_in_the_text_is_there() -> None:
    """A file at that place; a class, function or attribute; a member in that file."""
    defined = modules()
    paths = [f"/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*")]
    places = {*paths, *(path.removesuffix(".py") for path in paths)}
    names = set(re.findall(r"`(?:veeam_tasks\.)?([\w./]+)`", TEXT)) - NOT_OURS
    assert sorted(one for one in names if not is_there(one, defined, places)) == []


def raised_in(text: str) -> set[str]:
    """Return the errors that a docstring names under Raises."""
    listed = re.search(r"Raises:\n((?:    .*\n?)+)", text)
    heads = re.findall(r"^    (\w[\w., ]*):", listed[1] if listed else "", re.MULTILINE)
    return {name.rpartition(".")[2] for head in heads for name in head.split(", ")}


def test_each_error_that_a_docstring_raises_is_there() -> None:
    """A class of the package, or an error of Python or of a package that it imports."""
    known = {*dir(builtins), "UsageError", "CancelledError", "ClientError"}
    wanted: dict[str, str] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                known.add(node.name)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                wanted |= dict.fromkeys(raised_in(text), f"{path.name}:{node.lineno}")
    assert len(wanted) > 20
    assert {name: where for name, where in wanted.items() if name not in known} == {}
