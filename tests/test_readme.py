"""The README: its code and its commands run as they stand, its tables are true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.marked_blocks import assert_prints, programs

README = Path(__file__).parent.parent / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the tests run without the checkout around them"
)
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""


@pytest.mark.parametrize(("code", "shown"), programs(TEXT))
def test_a_program_prints_what_the_readme_shows(code: str, shown: str) -> None:
    """Each marked program runs as it stands, with exactly the output below it."""
    assert_prints(code, shown)


def test_the_first_command_watches_twenty_tasks_and_one_fails() -> None:
    """`watch --simulate 20` ends with status 1, since one of the tasks fails."""
    assert 'pip install ".[cli]" && python -m veeam_tasks watch --simulate 20' in TEXT
    done = subprocess.run(
        [sys.executable, "-m", "veeam_tasks", "watch", "--simulate", "20"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert done.returncode == 1
    assert "20 tasks: 19 succeeded, 1 failed" in done.stderr


def test_every_named_test_file_is_there() -> None:
    """Each promise of the first screen names a test that exists."""
    named = re.findall(r"`(tests/[\w/]+\.py)`", README.read_text(encoding="utf-8"))
    assert len(named) >= 5
    missing = [name for name in named if not (README.parent / name).exists()]
    assert not missing
