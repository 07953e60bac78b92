"""What a session, or a machine in it, shows at one moment of its script."""

from typing import Final

import attrs

from veeam_tasks.simulator._session_script import STARTING, SessionScript

FULL: Final = 100


@attrs.frozen(kw_only=True)
class Look:
    """What a session, or a machine in it, shows at one moment.

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
