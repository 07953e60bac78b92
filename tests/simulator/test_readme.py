"""The simulator's README: its programs run as they stand, its table names files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from veeam_tasks import simulator

FOLDER = Path(simulator.__file__).parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(
    r"<!-- (?P<mark>run|output) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL
)


def marked(mark: str) -> list[str]:
    """Return the code blocks that carry a mark."""
    return [found["text"] for found in FENCE.finditer(TEXT) if found["mark"] == mark]


@pytest.mark.parametrize(
    ("code", "shown"), list(zip(marked("run"), marked("output"), strict=True))
)
def test_a_program_prints_what_the_readme_shows(code: str, shown: str) -> None:
    """Each marked program runs as it stands, with exactly the output below it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == shown


def test_the_table_names_every_file() -> None:
    """Whoever adds a file says in the README what it holds."""
    table = TEXT.partition("## The files")[2]
    named = set(re.findall(r"`(_\w+\.py)`", table))
    assert named == {path.name for path in FOLDER.glob("_[!_]*.py")}
