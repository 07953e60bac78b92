"""The arithmetic of the benchmarks' report, and the contract of their programs."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PROGRAMS = sorted(
    path
    for path in (BENCHMARKS / "peers").glob("*.py")
    if path.stem not in {"contract", "loop_probe"}
)

pytestmark = pytest.mark.skipif(
    not BENCHMARKS.exists(), reason="the benchmarks come with the sources only"
)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the benchmarks' report module, which finds its neighbours by path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import report

    return report


def sample(side: str, case: str, number: int, cpu: float, **more: Any) -> object:
    """Return one sample of 1,000 polls."""
    told = {"side": side, "case": case, "round": number, "cpu": cpu}
    return told | {"polls": 1000, "wall": 1.0} | more


def results(**experiments: list[object]) -> dict[str, Any]:
    """Return a results file written by hand."""
    about = {"when": "2026-01-01", "commit": "abc", "load": 0.1, "server": "nginx/1"}
    return {
        "mode": "full",
        "machine": {
            "processor": "a processor",
            "cores": 2,
            "system": "Linux",
            "python": "CPython 3.11",
            "openssl": "OpenSSL 3",
            "packages": {"aiohttp": "3.14"},
        },
        "experiments": {
            name: about | {"samples": samples} for name, samples in experiments.items()
        },
    }


def found(report: ModuleType, told: dict[str, Any]) -> dict[str, Any]:
    """Return the goals that were measured, by what they say."""
    goals = report.goals.goals(report.Samples(told))
    return {goal.what: goal for goal in goals if goal.measured is not None}


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_the_rounds(
    report: ModuleType,
) -> None:
    """P1 over three rounds: medians 0.10 and 0.08, rounds 0.5, 1.25 and 3.0."""
    told = results(
        single=[
            sample("aiohttp bare", "unchanged", 0, 0.04),
            sample("veeam_tasks", "unchanged", 0, 0.08),
            sample("aiohttp bare", "unchanged", 1, 0.10),
            sample("veeam_tasks", "unchanged", 1, 0.08),
            sample("veeam_tasks", "unchanged", 2, 0.05),
            sample("aiohttp bare", "unchanged", 2, 0.15),
        ]
    )
    (goal,) = found(report, told).values()
    assert goal.name == "P1"
    assert goal.measured.median == pytest.approx(1.25)
    assert goal.measured.least == pytest.approx(0.5)
    assert goal.measured.most == pytest.approx(3.0)
    assert goal.verdict == "reached"


def test_a_goal_is_reached_at_its_bound_and_not_beyond(report: ModuleType) -> None:
    """10 ms are reached by a hold of 10 ms, not by one of 10.1 ms."""
    told = results(
        hold=[
            sample("veeam_tasks", "auto", 0, 1.0, start_hold=0.010),
            sample("veeam_tasks", "always", 0, 1.0, start_hold=0.0101),
        ]
    )
    verdicts = [goal.verdict for goal in found(report, told).values()]
    assert verdicts == ["reached", "not reached"]


def test_costs_are_compared_by_the_poll(report: ModuleType) -> None:
    """P5 counts a poll of the loop as a request, and ours by what was sent."""
    told = results(
        bulk=[
            sample("aiohttp loop", "unchanged", 0, 1.0, polls=20_000, wall=10.0),
            sample(
                "veeam_tasks",
                "unchanged",
                0,
                0.04,
                polls=10_000,
                wall=5.0,
                requests_measured=1,
            ),
        ]
    )
    cpu, asked = found(report, told).values()
    assert cpu.measured.median == pytest.approx(50 / 4)
    assert cpu.verdict == "not reached"
    assert asked.measured.median == pytest.approx(10_000)
    assert asked.verdict == "reached"


def test_growth_is_the_worst_size_against_a_hundred(report: ModuleType) -> None:
    """P10 takes the cost for each task; sizes below 100 do not count."""
    told = results(
        scale=[
            sample("veeam_tasks", f"{size} always", 0, cpu)
            for size, cpu in ((10, 9.0), (100, 1.0), (1000, 0.8), (10_000, 1.04))
        ]
    )
    growth = report.goals.growth(report.Samples(told))
    assert growth.median == pytest.approx(1.04)


def test_the_crossing_lies_between_two_sizes(report: ModuleType) -> None:
    """Singly 10 us a task against 1,000 us flat cross at 100; elsewhere never."""
    singly = {10: 100.0, 50: 500.0, 200: 2000.0}
    flat = dict.fromkeys(singly, 1000.0)
    assert report.goals.crossing(singly, flat) == pytest.approx(100)
    assert report.goals.crossing(singly, dict.fromkeys(singly, 9000.0)) is None
    assert report.goals.crossing(singly, dict.fromkeys(singly, 1.0)) == 10


def test_what_was_not_measured_is_said(report: ModuleType) -> None:
    """An empty file gives every goal, none of them measured, and no table else."""
    text = report.text(results())
    for number in range(1, 11):
        assert f"| P{number} " in text
    assert "reached" not in text.replace("not measured", "")
    assert text.count("not measured") == len(
        report.goals.goals(report.Samples(results()))
    )


def test_each_experiment_names_programs_that_there_are(report: ModuleType) -> None:
    """Each run names a program, once for each side and case, in both modes."""
    import experiments

    for quick in (True, False):
        for plan in experiments.EXPERIMENTS.values():
            runs = plan(quick=quick)
            assert {run.program for run in runs} <= {path.stem for path in PROGRAMS}
            assert len({(run.side, run.case) for run in runs}) == len(runs)
    named = {name for names in experiments.GOALS.values() for name in names}
    assert named <= set(experiments.NAMES)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_each_program_runs_its_own_run_under_the_contract(program: Path) -> None:
    """Each has a docstring, a `run(spec)`, and plays it when it is started."""
    tree = ast.parse(program.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    functions = {
        node.name: [arg.arg for arg in node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert functions["run"] == ["spec"]
    assert ast.unparse(tree.body[-1]).endswith("play(run)")


def test_a_program_prints_its_result_as_one_line_of_json(tmp_path: Path) -> None:
    """`play` reads the spec from the command line and cuts what is wrong short."""
    program = tmp_path / "program.py"
    program.write_text(
        "from contract import play\n"
        "play(lambda spec: {'polls': spec.tasks, 'wrong': ['x'] * 9})\n"
    )
    spec = {"url": "https://em", "ca_file": "", "token": "t", "tasks": 7}
    ended = subprocess.run(
        [sys.executable, str(program), json.dumps(spec)],
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(BENCHMARKS / "peers")},
        text=True,
    )
    assert json.loads(ended.stdout) == {"polls": 7, "wrong": ["x"] * 5}
