"""Scripts: what a simulated task goes through, as a short text or as values."""

import bisect
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from random import Random
from typing import Final, Generic, Protocol, TypeVar

import attrs

# The words of the reference; a script may say any other word as well.
RUNNING: Final = "Running"
OPERATION_FINISHED: Final = "OperationFinished"
FINISHED: Final = "Finished"
STATE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<comma>,)
      | '(?P<single>(?:[^']|'')*)'
      | "(?P<double>(?:[^"]|"")*)"
      | (?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|m|h)(?![A-Za-z0-9])
      | (?P<percent>[0-9]{1,3})%
      | (?P<word>[A-Za-z][A-Za-z0-9_]*)
    )""",
    re.VERBOSE | re.ASCII,
)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RESULTS: Final[dict[str, bool | None]] = {
    "ok": True,
    "succeeded": True,
    "failed": False,
    "unsettled": None,
}
GONE: Final = "gone"

Said = dict[str, object]
"""What a step says beside its state: duration, result, message, progress."""


@attrs.frozen
class Step:
    """One step of a script.

    Attributes:
        state: The word that the server says: ``Running``, or any other.
        seconds: How long it lasts, before `speed`; None for ever.
        success: What the Result says; None for a task without a Result.
        message: The Result's message; None leaves it to the operation.
        is_gone: The server does not know the task in this step.
    """

    state: str
    seconds: float | None = None
    success: bool | None = attrs.field(default=None, kw_only=True)
    message: str | None = attrs.field(default=None, kw_only=True)
    is_gone: bool = attrs.field(default=False, kw_only=True)

    def __str__(self) -> str:
        parts = [GONE if self.is_gone else self.state]
        if self.seconds is not None:
            parts.append(f"{self.seconds:g}s")
        if self.success is False:
            parts.append("failed")
        elif self.success and self.state not in _SETTLED:
            parts.append("ok")
        elif self.success is None and self.state in _SETTLED:
            parts.append("unsettled")
        if self.message is not None:
            quoted = self.message.replace("'", "''")
            parts.append(f"'{quoted}'")
        return " ".join(parts)


# Two complete vendor samples carry a Result already in OperationFinished.
_SETTLED: Final = frozenset({FINISHED, OPERATION_FINISHED})


class _Lasting(Protocol):
    @property
    def seconds(self) -> float | None: ...


AnyStep = TypeVar("AnyStep", bound=_Lasting)


@attrs.frozen
class Timeline(Generic[AnyStep]):
    """Steps in order; the last one lasts for ever."""

    steps: tuple[AnyStep, ...]
    _starts: tuple[float, ...] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if not self.steps:
            problem = "a script needs at least one step"
            raise ValueError(problem)
        for step in self.steps[:-1]:
            if step.seconds is None:
                problem = (
                    f"the step {str(step)!r} needs a duration such as '2s':"
                    " only the last step lasts for ever"
                )
                raise ValueError(problem)
        if self.steps[-1].seconds is not None:
            problem = (
                f"the last step {str(self.steps[-1])!r} lasts for ever and takes no"
                " duration: leave it out, or add what comes after it"
            )
            raise ValueError(problem)
        lasting = [step.seconds or 0.0 for step in self.steps[:-1]]
        starts = tuple(itertools.accumulate(lasting, initial=0.0))
        object.__setattr__(self, "_starts", starts)

    @property
    def seconds(self) -> float:
        """How long it takes to reach the last step, before `speed`."""
        return self._starts[-1]

    def at(self, elapsed: float) -> tuple[int, float]:
        """Return the index of the step at `elapsed` seconds and when it ends."""
        index = max(bisect.bisect_right(self._starts, elapsed) - 1, 0)
        ends = self._starts[index + 1] if index + 1 < len(self.steps) else float("inf")
        return index, ends

    def begins(self, index: int) -> float:
        """Return when the step at `index` begins, in seconds from the start."""
        return self._starts[index]

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps))


@attrs.frozen
class Script(Timeline[Step]):
    """The steps of one task, in order; the last one lasts for ever."""

    @classmethod
    def parse(cls, text: str) -> "Script":
        """Read a script such as ``Running 2s, Finished failed 'Disk full'``.

        Steps are separated by commas. A step is a state (any word), then in any
        order: a duration (``500ms``, ``2s``, ``1.5m``, ``1h``; not in the last step);
        ``ok``, ``failed`` or ``unsettled`` (no Result); a message in quotes, a quote
        in it doubled. ``gone`` instead of a state hides the task. Finished and
        OperationFinished are ``ok``, other states ``unsettled``, unless said.

        Raises:
            ValueError: The text cannot be read; it says where.
        """
        return cls(tuple(_step(tokens, text) for tokens in tokens_of(text, _GRAMMAR)))

    def succeeds_at(self) -> int | None:
        """Return the index of the step in which it has succeeded; None if it fails."""
        ends = [i for i, step in enumerate(self.steps) if step.state == FINISHED]
        if not ends or not self.steps[ends[-1]].success:
            return None
        index = ends[-1]
        while index and self.steps[index - 1].state == OPERATION_FINISHED:
            index -= 1
        return index


def as_script(script: "str | Script") -> Script:
    """Return a script as it is, or read its text."""
    return Script.parse(script) if isinstance(script, str) else script


def tokens_of(text: str, grammar: "StepGrammar") -> list[list[re.Match[str]]]:
    """Return the tokens of each step.

    Raises:
        ValueError: The text cannot be read; it says where.
    """
    steps: list[list[re.Match[str]]] = [[]]
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].strip()
            place = f"the script {text!r} cannot be read at {rest[:30]!r}"
            problem = f"{place}: {grammar.expected(steps[-1])}"
            raise ValueError(problem)
        position = match.end()
        if match["comma"]:
            steps.append([])
        else:
            steps[-1].append(match)
    return steps


@attrs.frozen(kw_only=True)
class StepGrammar:
    """What the steps of one kind of script may say.

    Attributes:
        results: What the words for a Result mean.
        states: The states that the reference names; any other word is taken, too.
        has_progress: Whether a step may say how far it is.
    """

    results: Mapping[str, object]
    states: tuple[str, ...]
    has_progress: bool = False

    def read(self, tokens: list[re.Match[str]], text: str) -> tuple[str, Said]:
        """Return the state of a step, and what else is said of it by name.

        Raises:
            ValueError: It begins with no state, or says something twice or unknown.
        """
        if not tokens or not (word := tokens[0]["word"]):
            problem = f"each step of the script {text!r} begins with a state"
            raise ValueError(problem)
        if word in self.results:
            problem = f"the step {word!r} of the script {text!r} has no state before it"
            raise ValueError(problem)
        said: Said = {}
        for token in tokens[1:]:
            name, value = self._meaning(token, text)
            if name in said:
                step = f"the step {word!r} of the script {text!r}"
                problem = f"{step} says its {name} twice"
                raise ValueError(problem)
            said[name] = value
        if word != GONE:
            _warn_of_slip(word, (*self.states, GONE))
        elif said.keys() - {"duration"}:
            problem = f"a step {GONE!r} has nothing but a duration, in {text!r}"
            raise ValueError(problem)
        return word, said

    def expected(self, tokens: list[re.Match[str]]) -> str:
        """Return what may stand after these tokens of a step."""
        if not tokens:
            return f"a step begins with a state, as {self.states[0]!r}"
        state = tokens[0]["word"] or ""
        near = _nearest(state, (*self.states, GONE))
        hint = f"; for {state!r}, did you mean {near!r}?" if near else ""
        return f"here may stand {self._details('or')}{hint}"

    def _details(self, last: str) -> str:
        progress = " a progress such as 34%," if self.has_progress else ""
        return (
            f"a duration such as 500ms, 2s, 1.5m or 1h,{progress} a message in quotes"
            f" {last} one of {', '.join(sorted(self.results))}"
        )

    def _meaning(self, token: re.Match[str], text: str) -> tuple[str, object]:
        if token["number"]:
            return "duration", float(token["number"]) * _UNITS[token["unit"]]
        for quote in ("single", "double"):
            if token[quote] is not None:
                mark = token[0].strip()[0]
                return "message", token[quote].replace(mark * 2, mark)
        if self.has_progress and token["percent"]:
            return "progress", int(token["percent"])
        if token["word"] in self.results:
            return "result", self.results[token["word"]]
        problem = (
            f"{token[0].strip()!r} in the script {text!r} is neither"
            f" {self._details('nor')}"
        )
        raise ValueError(problem)


_GRAMMAR: Final = StepGrammar(
    results=_RESULTS, states=(RUNNING, OPERATION_FINISHED, FINISHED)
)


def _step(tokens: list[re.Match[str]], text: str) -> Step:
    word, said = _GRAMMAR.read(tokens, text)
    seconds, message = seconds_in(said), message_in(said)
    if word == GONE:
        return Step(GONE, seconds, is_gone=True)
    success = said.get("result", True if word in _SETTLED else None)
    if message is not None and success is None:
        problem = (
            f"the message {message!r} of the script {text!r} needs 'ok' or 'failed'"
        )
        raise ValueError(problem)
    return Step(
        word,
        seconds,
        success=None if success is None else bool(success),
        message=message,
    )


def seconds_in(said: Said) -> float | None:
    """Return the duration that a step says."""
    value = said.get("duration")
    return value if isinstance(value, float) else None


def message_in(said: Said) -> str | None:
    """Return the message that a step says."""
    message = said.get("message")
    return None if message is None else str(message)


def _warn_of_slip(state: str, known: Iterable[str]) -> None:
    """Warn of a state that looks like a misspelt word of the reference.

    Any word may be scripted, since a client must survive any; so it is no error.
    """
    near = _nearest(state, known)
    if near is not None:
        warnings.warn(
            f"the state {state!r} of a script is none of the server's: did you mean"
            f" {near!r}?",
            stacklevel=2,
        )


def _nearest(state: str, known: Iterable[str]) -> str | None:
    """Return the word that a state looks like, unless it is one itself."""
    words = {word.lower(): word for word in known}
    if state in words.values():
        return None
    close = get_close_matches(state.lower(), words, n=1, cutoff=0.8)
    return words[close[0]] if close else None


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
        """Return `count` pairs of an operation and a script.

        Raises:
            TypeError: `count` is no whole number.
            ValueError: It is below 0.
        """
        if isinstance(count, bool) or not isinstance(count, int):
            problem = f"count must be a whole number, not {count!r}"
            raise TypeError(problem)
        if count < 0:
            problem = f"count must be 0 or more, not {count}"
            raise ValueError(problem)
        failing = set(random.sample(range(count), round(count * self.failing)))
        return [
            (random.choice(self.operations), self._script(index in failing, random))
            for index in range(count)
        ]

    def _script(self, is_failing: bool, random: Random) -> Script:  # noqa: FBT001 - private, one caller
        steps = [Step(RUNNING, round(random.uniform(*self.running), 3))]
        if random.random() >= self.skipping:
            seconds = round(random.uniform(*self.collecting), 3)
            steps.append(Step(OPERATION_FINISHED, seconds, success=True))
        message = random.choice(self.messages) if is_failing else None
        steps.append(Step(FINISHED, success=not is_failing, message=message))
        return Script(tuple(steps))
