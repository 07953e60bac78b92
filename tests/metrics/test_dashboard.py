"""The dashboard against Grafana's own types, by the compiler of TypeScript."""

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from veeam_tasks.metrics import dashboard

FOLDER = os.environ.get("VEEAM_TASKS_GRAFANA", "")
"""Where npm has put TypeScript and Grafana's types."""

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="needs types from npm: nox -s prometheus"
)

TYPES = (Path(__file__).parent / "dashboard.ts").read_text(encoding="utf-8")
COMPILER = (
    "node_modules/typescript/bin/tsc",
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    *("--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"),
    *("--types", ""),
)
BROKEN = {
    "a value of an option": ('"colorMode": "value"', '"colorMode": "valu"'),
    "a name of a field": ('"unit": "short"', '"units": "short"'),
    "an option of the panel": ('"showUnfilled"', '"showFilled"'),
    "an option of the lines": ('"drawStyle": "line"', '"drawStyle": "lines"'),
    "a kind of panel": ('"type": "stat"', '"type": "stats"'),
    "a number of an enum": ('"graphTooltip": 1', '"graphTooltip": 7'),
    "a field of a query": ('"refId": "A"', '"refid": "A"'),
    "a query without expression": ('"expr": "min', '"exp": "min'),
    "a place": ('"w": 4', '"w": "4"'),
    "thresholds": ('"mode": "absolute"', '"mode": "abs"'),
    "an order of a variable": ('"sort": 1', '"sort": 9'),
    "a kind of variable": ('"type": "datasource"', '"type": "source"'),
    "no version": ('"schemaVersion": 39,', ""),
}


def complaints(boards: dict[str, str]) -> str:
    """Return what the compiler has against dashboards, by the names of their files."""
    for name, board in boards.items():
        text = (
            f"{TYPES}export const board = {board.strip()} satisfies Written<Board>;\n"
        )
        Path(FOLDER, name).write_text(text, encoding="utf-8")
    ran = subprocess.run(
        ["node", *COMPILER, *boards],
        cwd=FOLDER,
        timeout=300,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode == 0) == (not ran.stdout), ran.stderr
    return ran.stdout


def test_the_dashboard_is_what_grafanas_types_say() -> None:
    """Each field is known, each value allowed, nothing that is needed is missing."""
    assert complaints({"dashboard.ts": dashboard()}) == ""


def test_a_broken_dashboard_is_refused() -> None:
    """Whatever of it is broken: a name, a value, a number, a kind."""
    good = dashboard()
    boards = {}
    for at, (found, put) in enumerate(BROKEN.values()):
        assert found in good
        boards[f"broken_{at}.ts"] = good.replace(found, put, 1)
    said = complaints(boards)
    missed = [what for at, what in enumerate(BROKEN) if f"broken_{at}.ts(" not in said]
    assert missed == []
