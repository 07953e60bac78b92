"""Scripts of job sessions and of the machines in them, and what they show when.

They are written like those of tasks, in the words of sessions: a Result is a word, and
a step may say how far the job session is.
"""

import re
from typing import Final

import attrs

from veeam_tasks.simulator._script import (
    GONE,
    StepGrammar,
    Timeline,
    message_in,
    seconds_in,
    tokens_of,
)

STARTING: Final = "Starting"
WORKING: Final = "Working"
STOPPING: Final = "Stopping"
STOPPED: Final = "Stopped"
PENDING: Final = "Pending"
IN_PROGRESS: Final = "InProgress"
COMPLETED: Final = "Completed"
# The words of the reference, then those of the backup server's own enumeration.
SESSION_STATES: Final = (
    *(STARTING, WORKING, "Pausing", "Resuming", STOPPING, STOPPED),
    *("Idle", PENDING, "Postprocessing", "WaitingTape", "WaitingRepository"),
    *("WaitingSlot", "ActionRequired", IN_PROGRESS, COMPLETED),
)
_ENDS: Final = frozenset({STOPPED, COMPLETED})
FULL: Final = 100
NO_RESULT: Final = "None"
"""What the wire says while a job session runs."""
_RESULTS: Final[dict[str, str | None]] = {
    "ok": "Success",
    "success": "Success",
    "succeeded": "Success",
    "warning": "Warning",
    "failed": "Failed",
    "none": NO_RESULT,
    "unsettled": None,
}
_WORDS: Final = {
    "Success": "success",
    "Warning": "warning",
    "Failed": "failed",
    NO_RESULT: "none",
    None: "unsettled",
}


@attrs.frozen(kw_only=True)
class SessionStep:
    """One step of the script of a session.

    Attributes:
        state: The word that the server says: ``Working``, or any other.
        seconds: How long it lasts, before `speed`; None for ever.
        result: The word of its Result; ``"None"`` while it runs; None for a job session
            that has no Result at all.
        message: Why it ended so: the Reason of a machine in it.
        progress: Percent, or None for what has passed of the script.
        is_gone: The server does not know the job session in this step.
    """

    state: str
    seconds: float | None = None
    result: str | None = NO_RESULT
    message: str | None = None
    progress: int | None = None
    is_gone: bool = False

    def __str__(self) -> str:
        if self.is_gone:
            return GONE if self.seconds is None else f"{GONE} {self.seconds:g}s"
        parts = [self.state]
        if self.seconds is not None:
            parts.append(f"{self.seconds:g}s")
        if self.progress is not None:
            parts.append(f"{self.progress}%")
        if self.result != _usual_result(self.state):
            parts.append(_WORDS.get(self.result, str(self.result)))
        if self.message is not None:
            quoted = self.message.replace("'", "''")
            parts.append(f"'{quoted}'")
        return " ".join(parts)


def _usual_result(state: str) -> str:
    return "Success" if state in _ENDS else NO_RESULT


@attrs.frozen
class SessionScript(Timeline[SessionStep]):
    """The steps of one job session, in order; the last one lasts for ever."""

    @classmethod
    def parse(cls, text: str) -> "SessionScript":
        """Read a script such as ``Starting 1s, Working 20s, Stopped failed 'Full'``.

        Steps are separated by commas. A step is a state (any word), then in any order:
        a duration (``500ms``, ``2s``, ``1.5m``, ``1h``; not in the last step); a
        progress (``34%``); ``success``, ``warning``, ``failed``, ``none`` (the word
        None) or ``unsettled`` (no Result at all); a message in quotes, a quote in it
        doubled. ``gone`` instead of a state hides the session. Stopped and Completed
        are ``success``, other states ``none``, unless said. One that never ends has
        another last state than these.

        Raises:
            ValueError: The text cannot be read; it says where.
        """
        return cls(tuple(_step(tokens, text) for tokens in tokens_of(text, _GRAMMAR)))


def as_session_script(script: "str | SessionScript") -> SessionScript:
    """Return a script as it is, or read its text."""
    return SessionScript.parse(script) if isinstance(script, str) else script


def usual_script(seconds: float, result: str) -> SessionScript:
    """Return the script of a job session that works for so long and ends so."""
    starting = min(1.0, seconds / 2)
    return SessionScript(
        (
            SessionStep(state=STARTING, seconds=starting),
            SessionStep(state=WORKING, seconds=seconds),
            SessionStep(state=STOPPED, result=result),
        )
    )


_GRAMMAR: Final = StepGrammar(
    results=_RESULTS, states=SESSION_STATES, has_progress=True
)


def _step(tokens: list[re.Match[str]], text: str) -> SessionStep:
    word, said = _GRAMMAR.read(tokens, text)
    seconds = seconds_in(said)
    if word == GONE:
        return SessionStep(state=GONE, seconds=seconds, is_gone=True)
    result, progress = said.get("result", _usual_result(word)), said.get("progress")
    return SessionStep(
        state=word,
        seconds=seconds,
        result=None if result is None else str(result),
        message=message_in(said),
        progress=progress if isinstance(progress, int) else None,
    )


@attrs.frozen(kw_only=True)
class Look:
    """What a job session, or a machine in it, shows at one moment.

    Attributes:
        state: The word of its State.
        result: The word of its Result; None for none at all.
        progress: Percent.
        message: Why it ended so, or None.
        ended: When it ended, or None while it runs.
        is_gone: Whether the server does not know it.
    """

    state: str
    result: str | None
    progress: int
    message: str | None = None
    ended: float | None = None
    is_gone: bool = False


def look_at(
    script: SessionScript, elapsed: float, end: str, *, is_backwards: bool
) -> tuple[Look, float]:
    """Return what a script shows, and when its present step began."""
    index, _ = script.at(elapsed)
    if is_backwards:
        index = max(index - 1, 0)
        elapsed = script.begins(index)
    step = script.steps[index]
    progress = step.progress
    if progress is None:
        progress = 0 if step.state == STARTING else _share(script, elapsed)
        progress = FULL if step.state == end else progress
    look = Look(
        state=step.state,
        result=step.result,
        progress=progress,
        message=step.message,
        is_gone=step.is_gone,
    )
    return look, script.begins(index)


def _share(script: SessionScript, elapsed: float) -> int:
    return min(int(FULL * elapsed / script.seconds), FULL) if script.seconds else 0
