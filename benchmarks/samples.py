"""The samples of a results file, and the arithmetic on them."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

Sample = dict[str, Any]
Value = Callable[[Sample], float]


def cpu_per_poll(sample: Sample) -> float:
    """Return microseconds of client CPU for each poll.

    A poll is one look at one task, be it a request of its own or a part of a
    collection: so it does not matter how many collections fell into the measure.
    """
    return 1e6 * sample["cpu"] / sample["polls"]


def cpu_share(sample: Sample) -> float:
    """Return seconds of client CPU in each second."""
    return sample["cpu"] / sample["wall"]


def requests_per_poll(sample: Sample) -> float:
    """Return the requests for each poll; one, if nothing else is said."""
    return sample.get("requests_measured", sample["polls"]) / sample["polls"]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median, least and greatest of some rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Return the spread of `values`, which are not empty."""
        return cls(statistics.median(values), min(values), max(values), len(values))


class Samples:
    """What one results file holds."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._experiments = results["experiments"]

    def has(self, experiment: str) -> bool:
        """Tell whether an experiment was played."""
        return experiment in self._experiments

    def of(self, experiment: str, side: str, case: str) -> list[Sample]:
        """Return the samples of one side and case, by round."""
        return [
            sample
            for sample in self._experiments.get(experiment, {}).get("samples", ())
            if (sample["side"], sample["case"]) == (side, case)
        ]

    def keys(self, experiment: str) -> list[tuple[str, str]]:
        """Return each side and case of an experiment once."""
        samples = self._experiments.get(experiment, {}).get("samples", ())
        return sorted({(sample["side"], sample["case"]) for sample in samples})

    def about(self, experiment: str) -> dict[str, Any]:
        """Return when and on what an experiment was played."""
        return self._experiments[experiment]

    def spread(
        self, experiment: str, side: str, case: str, value: Value
    ) -> Spread | None:
        """Return the spread of `value`, or None if nothing was measured."""
        values = [value(sample) for sample in self.of(experiment, side, case)]
        return Spread.of(values) if values else None

    def ratio(
        self, experiment: str, over: tuple[str, str], under: tuple[str, str], how: Value
    ) -> Spread | None:
        """Return how many times `over`'s value is `under`'s.

        The median is that of the medians; least and most are of the rounds, each of
        which played both sides.
        """
        above = [how(sample) for sample in self.of(experiment, *over)]
        below = [how(sample) for sample in self.of(experiment, *under)]
        if not above or not below:
            return None
        rounds = [a / b for a, b in zip(above, below, strict=False)]
        median = statistics.median(above) / statistics.median(below)
        return Spread(median, min(rounds), max(rounds), len(rounds))
