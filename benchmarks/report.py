"""Print the goals and tables of a results file; draw its plots.

python benchmarks/report.py [benchmarks/results/full.json]

The tables are Markdown. The plots need matplotlib, which the dependency group `bench`
brings; without it there are only tables.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import goals
from goals import OURS, Goal
from samples import Samples, Spread, cpu_per_poll, cpu_share, requests_per_poll

HERE = Path(__file__).parent


def text(results: dict[str, Any]) -> str:
    """Return the whole report."""
    samples = Samples(results)
    parts = [
        about(results),
        goal_table(goals.goals(samples)),
        single_table(samples),
        bulk_table(samples),
        hold_table(samples),
        tricks_table(samples),
        scale_table(samples),
        crossover_table(samples),
        waits_table(samples),
        import_table(samples),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def about(results: dict[str, Any]) -> str:
    """Return where and when the figures were taken."""
    told = results["machine"]
    names = ("processor", "system", "python", "openssl")
    lines = [
        ", ".join([f"{told['cores']} cores", *(told[name] for name in names)]),
        ", ".join(f"{name} {version}" for name, version in told["packages"].items()),
    ]
    lines += [
        f"- {name}: {each['when']}, commit {each['commit']}, load {each['load']},"
        f" server {each['server']}"
        for name, each in results["experiments"].items()
    ]
    return "\n".join(lines)


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table, its columns aligned for a terminal."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        + " |"
        for row in cells
    )
    return f"{title}\n\n" + "\n".join(lines)


def spread_cells(spread: Spread | None, digits: int = 2) -> tuple[str, str]:
    """Return the median, and the least and the most, for two cells."""
    if spread is None:
        return "-", "-"
    return (
        f"{spread.median:,.{digits}f}",
        f"{spread.least:,.{digits}f} to {spread.most:,.{digits}f}",
    )


def goal_table(found: Iterable[Goal]) -> str:
    """Return each goal beside what was measured."""
    rows = []
    for goal in found:
        sign = ">=" if goal.at_least else "<="
        bound = f"{sign} {goal.bound:,.{2 if goal.bound < 20 else 0}f} {goal.unit}"
        digits = 2 if goal.bound < 20 else 0
        cells = spread_cells(goal.measured, digits)
        rows.append((goal.name, goal.what, bound.strip(), *cells, goal.verdict))
    head = ("", "what", "goal", "median", "min to max", "verdict")
    return table("Goals", head, rows)


def single_table(samples: Samples) -> str:
    """Return what one poll costs with each client."""
    rows = []
    for experiment in ("single", "paced"):
        for side, case in samples.keys(experiment):
            spread = samples.spread(experiment, side, case, cpu_per_poll)
            rows.append((side, case, *spread_cells(spread, 1), spread.rounds))
    if not rows:
        return ""
    head = ("client", "case", "us of CPU a poll", "min to max", "rounds")
    return table("One GET per task", head, rows)


def bulk_table(samples: Samples) -> str:
    """Return what 10,000 tasks at 5 s cost."""
    rows = []
    for side, case in samples.keys("bulk"):
        cost = samples.spread("bulk", side, case, cpu_per_poll)
        asked = samples.spread("bulk", side, case, requests_per_poll)
        each = f"{10_000 * asked.median:,.0f}"
        rows.append((side, case, *spread_cells(cost), each))
    if not rows:
        return ""
    head = ("client", "case", "us of CPU a task", "min to max", "requests for all")
    return table("10,000 tasks, each looked at every 5 s", head, rows)


def hold_table(samples: Samples) -> str:
    """Return how long the loop was held by the first collection."""
    rows = []
    for side, case in samples.keys("hold"):
        for key, words in (
            ("start_hold", "longest hold, first collection"),
            ("start_hold_cpu", "the same in CPU time"),
            ("start_call", "the call of watch() itself"),
        ):
            spread = samples.spread(
                "hold", side, case, lambda sample, key=key: 1e3 * sample[key]
            )
            rows.append((case, words, *spread_cells(spread, 1)))
    if not rows:
        return ""
    head = ("mode", "what", "ms", "min to max")
    return table("How long the event loop is held, 10,000 new tasks", head, rows)


def tricks_table(samples: Samples) -> str:
    """Return what each trick is worth."""
    rows = []
    base = ("defaults", "unchanged")
    for side, case in samples.keys("tricks"):
        worth = samples.ratio("tricks", base, (side, case), cpu_per_poll)
        cost = samples.spread("tricks", side, case, cpu_per_poll)
        rows.append((side, f"{cost.median:,.1f}", *spread_cells(worth)))
    if not rows:
        return ""
    rows.sort(key=lambda row: -float(row[2]))
    head = ("bare aiohttp with", "us of CPU a poll", "polls per CPU-s", "min to max")
    return table("What each trick is worth", head, rows)


def scale_table(samples: Samples) -> str:
    """Return the cost against the number of tasks."""
    rows = []
    for size, mode in goals.sizes(samples):
        found = samples.of("scale", OURS, f"{size} {mode}")
        each = {
            key: Spread.of([sample[key] for sample in found]).median
            for key in found[0]
            if isinstance(found[0][key], float)
        }
        cost = samples.spread("scale", OURS, f"{size} {mode}", cpu_per_poll)
        rows.append(
            (
                f"{size:,}",
                mode,
                f"{cost.median:,.2f}",
                f"{each['start_cpu'] * 1e3:,.0f}",
                f"{each['start_wall'] * 1e3:,.0f}",
                f"{each['start_hold'] * 1e3:,.1f}",
                f"{each['hold'] * 1e3:,.1f}",
                f"{each['resident_per_task']:,.0f}",
                f"{each['add'] * 1e6:,.1f}",
                f"{each['discard'] * 1e6:,.1f}",
            )
        )
    if not rows:
        return ""
    head = (
        "tasks",
        "coalesce",
        "us a task and look",
        "start: CPU ms",
        "start: ms",
        "start: hold ms",
        "later: hold ms",
        "B a task",
        "add us",
        "discard us",
    )
    return table("Cost against the number of watched tasks", head, rows)


def crossover_table(samples: Samples) -> str:
    """Return from how many watched tasks on to ask together costs less."""
    singly, together = (
        goals.rounds_cost(samples, mode) for mode in ("never", "always")
    )
    if not singly:
        return ""
    found = goals.crossing(singly, together)
    told = "at no size" if found is None else f"from {found:.0f} tasks on"
    rows = [
        (f"{size:,}", f"{singly[size] / 1e3:,.2f}", f"{together[size] / 1e3:,.2f}")
        for size in singly
    ]
    head = ("watched of 2,000", "singly: ms of CPU", "together: ms of CPU")
    title = f"To look at all watched tasks once: together costs less {told}"
    return table(title, head, rows)


def waits_table(samples: Samples) -> str:
    """Return ten thousand waits beside one watch."""
    rows = []
    for side, case in samples.keys("waits"):
        share = samples.spread(
            "waits", side, case, lambda sample: 1e3 * cpu_share(sample)
        )
        found = samples.of("waits", side, case)
        size = Spread.of([sample["resident_per_task"] for sample in found])
        start = Spread.of([1e3 * sample["start_cpu"] for sample in found])
        rows.append((side, *spread_cells(share, 1), start.median, size.median))
    if not rows:
        return ""
    head = ("10,000 tasks by", "ms of CPU a second", "min to max", "start: CPU ms", "B")
    rows = [(*row[:3], f"{row[3]:,.0f}", f"{row[4]:,.0f}") for row in rows]
    return table("Gathered waits against one watch", head, rows)


def import_table(samples: Samples) -> str:
    """Return how long the package takes to import."""
    rows = []
    base = ("python -c pass", "start")
    for side, case in samples.keys("import"):
        if case != "start":
            continue
        worth = samples.ratio("import", (side, case), base, lambda each: each["wall"])
        time = samples.spread("import", side, case, lambda each: 1e3 * each["wall"])
        rows.append((side, *spread_cells(time, 1), f"{worth.median:.2f}"))
    if not rows:
        return ""
    head = ("started", "ms", "min to max", "times python -c pass")
    return table("Start-up", head, rows)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the plots into `folder`; return their paths, none without matplotlib."""
    try:
        import plots  # noqa: PLC0415 - the bench group alone brings matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed", file=sys.stderr)
        return []
    return plots.draw(Samples(results), folder)


if __name__ == "__main__":
    source = Path(sys.argv[1]) if sys.argv[1:] else HERE / "results" / "full.json"
    loaded = json.loads(source.read_text(encoding="utf-8"))
    print(text(loaded))
    draw(loaded, source.parent)
