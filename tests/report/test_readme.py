"""The README of the report: its program runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from veeam_tasks import report

FOLDER = Path(report.__file__).parent


def test_the_program_writes_a_report(tmp_path: Path) -> None:
    """It needs nothing but the package, and leaves one file."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- run -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    command = [sys.executable, "-W", "error", "-c", found[1]]
    subprocess.run(command, cwd=tmp_path, timeout=50, check=True)
    page = (tmp_path / "night.html").read_text(encoding="utf-8")
    assert "Of 2 tasks, 1 failed; 1 succeeded." in page
