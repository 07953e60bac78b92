"""Tasks by distribution: how long they run, how many fail, what they say."""

from random import Random
from typing import Final

import attrs

from veeam_tasks._model import TaskState
from veeam_tasks.simulator._script import Script, Step

# Nobody published the text of a failed task; these are what its operators would read.
_MESSAGES: Final = (
    "Disk full",
    "The object was not found on the backup server",
    "Access is denied",
    "Timed out waiting for the backup server",
)
_OPERATIONS: Final = ("StartJob", "StartVMRestore", "CloneJob", "QuickBackup")


def _check_share(_: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not 0 <= value <= 1:
        problem = f"{attribute.name} is a share from 0 to 1, not {value!r}"
        raise ValueError(problem)


def _check_span(
    _: object, attribute: "attrs.Attribute[tuple[float, float]]", value: object
) -> None:
    match value:
        case (float() | int() as low, float() | int() as high) if 0 <= low <= high:
            return
    problem = f"{attribute.name} is a pair of seconds, low and high, not {value!r}"
    raise ValueError(problem)


def _check_words(
    _: object, attribute: "attrs.Attribute[tuple[str, ...]]", value: tuple[str, ...]
) -> None:
    if not value:
        problem = f"{attribute.name} needs at least one entry"
        raise ValueError(problem)


@attrs.frozen(kw_only=True)
class Mix:
    """A distribution of scripts; the same seed gives the same tasks.

    Attributes:
        failing: The share of tasks that fail: of N tasks exactly ``round(N * share)``.
        running: Seconds that a task is Running, low and high.
        collecting: Seconds that it is OperationFinished, low and high.
        skipping: The share of tasks without that state in between.
        operations: The operations to draw from.
        messages: What failed tasks say.
    """

    failing: float = attrs.field(default=0.05, validator=_check_share)
    running: tuple[float, float] = attrs.field(
        default=(2.0, 20.0), validator=_check_span
    )
    collecting: tuple[float, float] = attrs.field(
        default=(0.5, 2.0), validator=_check_span
    )
    skipping: float = attrs.field(default=0.2, validator=_check_share)
    operations: tuple[str, ...] = attrs.field(
        default=_OPERATIONS, validator=_check_words
    )
    messages: tuple[str, ...] = attrs.field(default=_MESSAGES, validator=_check_words)

    def draw(self, count: int, random: Random) -> list[tuple[str, Script]]:
        """Return `count` pairs of an operation and a script."""
        failing = set(random.sample(range(count), round(count * self.failing)))
        return [
            (random.choice(self.operations), self._script(index in failing, random))
            for index in range(count)
        ]

    def _script(self, is_failing: bool, random: Random) -> Script:  # noqa: FBT001 - private, one caller
        steps = [Step(TaskState.RUNNING.value, round(random.uniform(*self.running), 3))]
        if random.random() >= self.skipping:
            seconds = round(random.uniform(*self.collecting), 3)
            steps.append(
                Step(TaskState.OPERATION_FINISHED.value, seconds, success=True)
            )
        message = random.choice(self.messages) if is_failing else None
        steps.append(
            Step(TaskState.FINISHED.value, success=not is_failing, message=message)
        )
        return Script(tuple(steps))
