"""Numbers, spans of time and verdicts, as people say them."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from veeam_tasks.report._recorder import Outcome

NOT_YET = "not seen yet"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def number(value: int) -> str:
    """Return a count with commas: ``5,000``."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Return a count with its noun: ``1 task``, ``2 tasks``."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def span(time: timedelta) -> str:
    """Return a span in its two largest units: ``1 h 05 min``, ``3.4 s``."""
    seconds = max(0.0, time.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:  # noqa: PLR2004 - from here on it would be 10.0 s
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def listed(parts: Sequence[str]) -> str:
    """Return parts as a sentence has them: ``a, b and c``."""
    if len(parts) < 2:  # noqa: PLR2004 - nothing to join
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def day(at: datetime) -> str:
    """Return a date: ``27 November 2026``."""
    return f"{at.day} {at:%B %Y}"


def zone(at: datetime) -> str:
    """Return how far a time is from UTC: ``UTC``, ``UTC+01:00``."""
    offset = f"{at:%z}"
    return "UTC" if int(offset) == 0 else f"UTC{offset[:3]}:{offset[3:]}"


def verdict(counts: Counter[Outcome], *, unseen: int = 0, is_over: bool) -> str:
    """Return what became of all tasks, in one sentence.

    Args:
        counts: By outcome; the unseen are among the unfinished.
        unseen: Of how many no reply has told.
        is_over: Whether nothing more is to come.
    """
    total = counts.total()
    if not total:
        return "No task was seen." if is_over else "No task was seen yet."
    failed, lost = counts[Outcome.FAILED], counts[Outcome.LOST]
    warned, left = counts[Outcome.WARNING], counts[Outcome.UNFINISHED] - unseen
    good = counts[Outcome.SUCCEEDED] + warned
    bad = []
    if failed:
        bad.append(f"{number(failed)} failed")
    if lost:
        bad.append(f"{number(lost)} {'was' if lost == 1 else 'were'} lost")
    if left:
        word = "was left unfinished" if left == 1 else "were left unfinished"
        going = "is still under way" if left == 1 else "are still under way"
        bad.append(f"{number(left)} {word if is_over else going}")
    if unseen:
        word = "was" if unseen == 1 else "were"
        bad.append(f"{number(unseen)} {word} {'never seen' if is_over else NOT_YET}")
    if bad and total == 1:
        text = f"The one task {bad[0].removeprefix('1 ')}"
    elif bad:
        text = f"Of {counted(total, 'task')}, {listed(bad)}"
        text += f"; {number(good)} succeeded" if good else ""
    elif total == 1:
        text = "The one task succeeded"
    else:
        text = f"All {number(total)} tasks succeeded"
    if not warned:
        return f"{text}."
    alone = "with a warning" if warned == good == 1 else None
    return f"{text}, {alone or f'{number(warned)} of them with warnings'}."
