"""The simulator's README: its programs run as they stand, its table names files."""

import re
from pathlib import Path

import pytest
from support.marked_blocks import assert_prints, programs

from veeam_tasks import simulator

FOLDER = Path(simulator.__file__).parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("code", "shown"), programs(TEXT))
def test_a_program_prints_what_the_readme_shows(code: str, shown: str) -> None:
    """Each marked program runs as it stands, with exactly the output below it."""
    assert_prints(code, shown)


def test_the_table_names_every_file() -> None:
    """Whoever adds a file says in the README what it holds."""
    table = TEXT.partition("## The files")[2]
    named = set(re.findall(r"`(_\w+\.py)`", table))
    assert named == {path.name for path in FOLDER.glob("_[!_]*.py")}
