"""Plots of a results file, as SVG. Needs matplotlib."""

from pathlib import Path

import goals
import matplotlib as mpl
from goals import OURS
from matplotlib.figure import Figure
from samples import Samples, cpu_per_poll

mpl.rcParams["svg.hashsalt"] = "veeam_tasks"  # the same figures, the same file
LABELS = {"always": "together (GET /tasks)", "never": "singly (GET /tasks/{id})"}


def draw(samples: Samples, folder: Path) -> list[Path]:
    """Draw what there are samples for; return the paths."""
    drawn = []
    if samples.has("single"):
        drawn.append(_single(samples, folder / "poll.svg"))
    if samples.has("scale"):
        drawn.append(_scale(samples, folder / "scale.svg"))
    if samples.has("crossover"):
        drawn.append(_crossover(samples, folder / "crossover.svg"))
    return drawn


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    return path


def _single(samples: Samples, path: Path) -> Path:
    bars = []
    for side, case in samples.keys("single"):
        spread = samples.spread("single", side, case, cpu_per_poll)
        bars.append((f"{side}, {case}", spread))
    bars.sort(key=lambda bar: -bar[1].median)
    figure = Figure(figsize=(7, 3))
    axes = figure.add_subplot()
    axes.barh(
        [label for label, _ in bars],
        [spread.median for _, spread in bars],
        xerr=[
            [spread.median - spread.least for _, spread in bars],
            [spread.most - spread.median for _, spread in bars],
        ],
        color=["C1" if label.startswith(OURS) else "C0" for label, _ in bars],
    )
    axes.set_xlabel("microseconds of client CPU a poll")
    return _save(figure, path)


def _scale(samples: Samples, path: Path) -> Path:
    figure = Figure(figsize=(9, 3.5))
    cost, start = figure.subplots(1, 2)
    for mode, label in LABELS.items():
        sizes = [size for size, each in goals.sizes(samples) if each == mode]
        costs = [
            samples.spread("scale", OURS, f"{size} {mode}", cpu_per_poll).median
            for size in sizes
        ]
        starts = [
            samples.spread(
                "scale", OURS, f"{size} {mode}", lambda each: each["start_cpu"]
            ).median
            for size in sizes
        ]
        per_round = [size * each / 1e6 for size, each in zip(sizes, costs, strict=True)]
        cost.plot(sizes, per_round, "o-", label=label)
        start.plot(sizes, starts, "o-", label=label)
    cost.set_ylabel("CPU seconds to look at all once")
    start.set_ylabel("CPU seconds to find all")
    for axes in (cost, start):
        axes.set_xlabel("watched tasks")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(visible=True, alpha=0.3)
    cost.legend()
    figure.tight_layout()
    return _save(figure, path)


def _crossover(samples: Samples, path: Path) -> Path:
    figure = Figure(figsize=(5, 3.5))
    axes = figure.add_subplot()
    for mode, label in LABELS.items():
        costs = goals.rounds_cost(samples, mode)
        axes.plot(
            costs.keys(), [cost / 1e3 for cost in costs.values()], "o-", label=label
        )
    axes.set_xlabel("watched tasks, of 2,000 that the logon session has")
    axes.set_ylabel("ms of CPU to look at all once")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return _save(figure, path)
