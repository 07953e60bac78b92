"""The goals, each with what was measured for it and whether that reaches it."""

import dataclasses
from collections.abc import Iterator

import bench_import
from samples import (
    Samples,
    Spread,
    cpu_per_poll,
    requests_per_poll,
)

OURS = "veeam_tasks"
NOISE = 1.05
"""Two runs of the same differ by about 5 % on a machine that others use too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """One figure to reach.

    Attributes:
        name: ``P1`` to ``P15`` if it is measured, ``R1`` to ``R13`` if it is counted.
        what: What is measured.
        bound: The figure.
        at_least: Whether more is better.
        unit: What the figure counts.
        measured: What was measured, or None.
    """

    name: str
    what: str
    bound: float
    at_least: bool
    unit: str = "x"
    measured: Spread | None

    @property
    def verdict(self) -> str:
        """Say whether the median reaches the goal."""
        if self.measured is None:
            return "not measured"
        median = self.measured.median
        reached = median >= self.bound if self.at_least else median <= self.bound
        return "reached" if reached else "not reached"


def goals(samples: Samples) -> list[Goal]:
    """Return every goal, measured or not."""
    parts = (_single, _many, _memory, _detection, _rest)
    return [goal for part in parts for goal in part(samples)]


def _single(samples: Samples) -> Iterator[Goal]:
    def times(other: str, case: str, experiment: str = "single") -> Spread | None:
        return samples.ratio(experiment, (other, case), (OURS, case), cpu_per_poll)

    for name, what, bound, measured in (
        (
            "P1",
            "polls per CPU-second, unchanged, against bare aiohttp",
            1.05,
            times("aiohttp bare", "unchanged"),
        ),
        (
            "P2",
            "the same, every reply changed",
            0.7,
            times("aiohttp bare", "changed"),
        ),
        (
            "P3",
            "against the loop that people write, saturated",
            1.5,
            times("aiohttp loop", "unchanged"),
        ),
        (
            "P3",
            "the same, paced at 2,000 polls/s",
            1.9,
            times("aiohttp loop", "2,000 polls/s", "paced"),
        ),
        ("P4", "against httpx, 10 connections", 5.0, times("httpx, 10", "unchanged")),
        (
            "P4",
            "against requests, 100 threads",
            4.0,
            times("requests, 100", "unchanged"),
        ),
    ):
        yield Goal(name=name, what=what, bound=bound, at_least=True, measured=measured)


def _many(samples: Samples) -> Iterator[Goal]:
    loop, ours = ("aiohttp loop", "unchanged"), (OURS, "unchanged")
    yield Goal(
        name="P5",
        what="10,000 tasks at 5 s: CPU of the loop over ours",
        bound=50.0,
        at_least=True,
        measured=samples.ratio("bulk", loop, ours, cpu_per_poll),
    )
    yield Goal(
        name="P5",
        what="10,000 tasks at 5 s: requests of the loop over ours",
        bound=100.0,
        at_least=True,
        measured=samples.ratio("bulk", loop, ours, requests_per_poll),
    )
    for mode in ("auto", "always"):
        yield Goal(
            name="P6",
            what=f"first collection of 10,000: longest hold ({mode})",
            bound=10.0,
            at_least=False,
            unit="ms",
            measured=samples.spread(
                "hold", OURS, mode, lambda sample: 1e3 * sample["start_hold"]
            ),
        )


def _memory(samples: Samples) -> Iterator[Goal]:
    for mode in ("never", "auto"):
        for how, words in (("traced", "tracemalloc"), ("resident", "resident")):
            yield Goal(
                name="P7",
                what=f"memory for each watched task ({words}, {mode})",
                bound=2000.0,
                at_least=False,
                unit="B",
                measured=samples.spread(
                    "memory",
                    OURS,
                    f"{how}, {mode}",
                    lambda sample: sample["bytes_per_task"],
                ),
            )


def _detection(samples: Samples) -> Iterator[Goal]:
    for mode in ("never", "auto"):
        for key, words, bound in (
            ("mean", "mean", 0.55),
            ("p99", "99th percentile", 1.05),
        ):
            yield Goal(
                name="P8",
                what=f"detection, 1,500 tasks at T = 1 s: {words} ({mode})",
                bound=bound,
                at_least=False,
                unit="T",
                measured=samples.spread(
                    "detection", OURS, mode, lambda sample, key=key: sample[key]
                ),
            )


def _rest(samples: Samples) -> Iterator[Goal]:
    yield Goal(
        name="P9",
        what="connections open, 10,000 tasks singly at 5 s",
        bound=16.0,
        at_least=False,
        unit="",
        measured=samples.spread(
            "connections", OURS, "singly", lambda sample: sample["connections"]
        ),
    )
    for side in ("import veeam_tasks", "veeam-tasks --help"):
        yield Goal(
            name="start",
            what=f"aiohttp loaded by: {side}",
            bound=0.0,
            at_least=False,
            unit="",
            measured=samples.spread(
                "import", side, "aiohttp", lambda sample: sample["loaded"]
            ),
        )
    for side, base, bound in bench_import.LIMITS:
        yield Goal(
            name="P11",
            what=f"CPU of {side} over {base}",
            bound=bound,
            at_least=False,
            measured=samples.ratio(
                "import", (side, "start"), (base, "start"), lambda each: each["cpu"]
            ),
        )
    yield Goal(
        name="P10",
        what="cost of a task among many over among 100, together",
        bound=NOISE,
        at_least=False,
        measured=growth(samples),
    )


def growth(samples: Samples) -> Spread | None:
    """Return the greatest cost of one task, of all sizes, in terms of that at 100.

    Linear cost is 1; the bound allows for the noise.
    """
    costs = {}
    for size, mode in sizes(samples):
        spread = samples.spread("scale", OURS, f"{size} {mode}", cpu_per_poll)
        if mode == "always" and spread is not None and size >= 100:
            costs[size] = spread.median
    if len(costs) < 2 or 100 not in costs:
        return None
    ratios = [cost / costs[100] for size, cost in costs.items() if size > 100]
    return Spread(max(ratios), min(ratios), max(ratios), 1)


def sizes(samples: Samples, experiment: str = "scale") -> list[tuple[int, str]]:
    """Return the sizes and modes of an experiment, in order."""
    cases = (case.split() for _, case in samples.keys(experiment))
    return sorted((int(size), mode) for size, mode in cases)


def rounds_cost(samples: Samples, mode: str) -> dict[int, float]:
    """Return microseconds of CPU to look at all watched tasks once, by their number.

    From the crossover experiment, where the collection is always as long.
    """
    costs = {}
    for size, each in sizes(samples, "crossover"):
        spread = samples.spread("crossover", OURS, f"{size} {each}", cpu_per_poll)
        if each == mode and spread is not None:
            costs[size] = size * spread.median
    return costs


def crossing(singly: dict[int, float], together: dict[int, float]) -> float | None:
    """Return from how many tasks on to ask together costs less; None if it never does.

    Between two sizes that were measured, both costs are taken for straight lines.
    """
    before = None
    for size in sorted(singly.keys() & together.keys()):
        gain = singly[size] - together[size]
        if gain >= 0:
            if before is None:
                return float(size)
            low, loss = before
            return low + (size - low) * loss / (loss + gain)
        before = size, -gain
    return None
