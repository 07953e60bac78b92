"""Code blocks of a README that are marked as to be run, and as what they print."""

import re
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(
    r"<!-- (?P<mark>run|output) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL
)


def programs(text: str) -> list[tuple[str, str]]:
    """Return each marked program with the output that stands below it."""
    found: dict[str, list[str]] = {"run": [], "output": []}
    for block in FENCE.finditer(text):
        found[block["mark"]].append(block["text"])
    return list(zip(found["run"], found["output"], strict=True))


def assert_prints(code: str, shown: str, folder: Path | None = None) -> None:
    """Run a program as it stands; fail unless it prints just this, with no warning.

    Args:
        code: The program.
        shown: What it has to print.
        folder: Where it runs, so where it writes files; None for here.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=folder,
    )
    assert done.stderr == ""
    assert done.stdout == shown
