"""The timeline: where each bar stands, in percent of the width; pure.

Shares of the width and heights in pixels, so that the page may be as wide as the
screen while text and bars keep their size.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo

import attrs

from veeam_tasks.report._recorder import Activity, Outage, Outcome
from veeam_tasks.report._runs import Run
from veeam_tasks.report._words import counted, number

ALL_ALONE = 60
"""So many tasks have a lane each; of more, only those that did not just succeed."""
_BAD_ALONE = 40
_CHUNK = 20
_LANE, _GROUP_LANE = 24, 52
_BINS = 160
_LEAST = 0.2
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800)
_LONG_STEPS = (21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 31_536_000)
_MOST_TICKS = 8
_ORDER = list(Outcome)


@attrs.frozen
class Scale:
    """From moments to percent of the width."""

    begin: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        """Return where a moment stands."""
        share = (moment - self.begin) / (self.end - self.begin)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def bar(self, begin: datetime, end: datetime) -> tuple[float, float]:
        """Return where a bar begins and how wide it is; it is always to be seen."""
        left, right = self.at(begin), self.at(end)
        width = max(_LEAST, right - left)
        return min(left, 100 - width), round(width, 3)


@attrs.frozen
class Bar:
    """A rectangle.

    Attributes:
        kind: Its class: the activity, or `maybe` for when a change may have been.
    """

    kind: str
    x: float
    width: float
    title: str = ""


@attrs.frozen(kw_only=True)
class Row:
    """A lane: of one task, or of many that have operation and end in common.

    Attributes:
        path: Of a group: how many were under way, as an area.
        end: Where its mark of the end stands; None without one.
    """

    y: int
    height: int
    label: str
    detail: str
    outcome: Outcome
    anchor: str | None = None
    bars: tuple[Bar, ...] = ()
    end: float | None = None
    path: str | None = None


@attrs.frozen(kw_only=True)
class Block:
    """Some lanes under each other, which no page break parts."""

    rows: tuple[Row, ...]
    height: int


@attrs.frozen(kw_only=True)
class Timeline:
    """All that is drawn."""

    scale: Scale
    blocks: tuple[Block, ...]
    bands: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    is_grouped: bool
    activities: tuple[Activity, ...]


def timeline_of(
    runs: Sequence[Run],
    outages: Sequence[Outage],
    until: datetime,
    zone: tzinfo | None,
) -> Timeline:
    """Return where everything stands; `runs` are in the order of the report."""
    scale = _scale(runs, outages, until, zone)
    is_grouped = len(runs) > ALL_ALONE
    alone, crowd = list(runs), []
    if is_grouped:
        bad = [run for run in runs if run.outcome is not Outcome.SUCCEEDED]
        alone = bad[:_BAD_ALONE]
        taken = {run.anchor for run in alone}
        crowd = [run for run in runs if run.anchor not in taken]
    blocks = [
        _block([_lane_row(run, scale, until) for run in alone[at : at + _CHUNK]])
        for at in range(0, len(alone), _CHUNK)
    ]
    groups = [_group_row(key, members, scale, until) for key, members in _groups(crowd)]
    blocks += [
        _block(groups[at : at + _CHUNK // 2])
        for at in range(0, len(groups), _CHUNK // 2)
    ]
    seen = {change.activity for run in runs for change in run.changes}
    return Timeline(
        scale=scale,
        blocks=tuple(blocks),
        bands=tuple(
            Bar("outage", *scale.bar(one.began_at, one.ended_at or until), one.detail)
            for one in outages
        ),
        ticks=tuple(_ticks(scale)),
        is_grouped=is_grouped,
        activities=tuple(
            one for one in Activity if one in seen and one is not Activity.ENDED
        ),
    )


def _scale(
    runs: Sequence[Run],
    outages: Sequence[Outage],
    until: datetime,
    zone: tzinfo | None,
) -> Scale:
    begins = [run.seen_at for run in runs] + [one.began_at for one in outages]
    begin = min(begins, default=until).astimezone(zone)
    end = max([until, *(run.ended_at for run in runs if run.ended_at is not None)])
    return Scale(begin, max(end, begin + timedelta(seconds=1)))


def _block(rows: list[Row]) -> Block:
    y, placed = 0, []
    for row in rows:
        placed.append(attrs.evolve(row, y=y))
        y += row.height
    return Block(rows=tuple(placed), height=y)


def _lane_row(run: Run, scale: Scale, until: datetime) -> Row:
    bars = []
    changes = run.changes
    for change, later in zip(changes, [*changes[1:], None], strict=True):
        if change.activity is Activity.ENDED:
            break
        begin = change.observed_at
        seen = until if later is None else later.observed_at
        sure = seen if later is None else min(later.not_before or seen, seen)
        sure = max(sure, begin)
        if sure > begin:
            x, width = scale.bar(begin, sure)
            bars.append(Bar(change.activity, x, width))
        if seen > sure:
            x, width = scale.bar(sure, seen)
            bars.append(Bar(f"{change.activity} maybe", x, width))
    return Row(
        y=0,
        height=_LANE,
        label=run.name,
        detail=run.task_id,
        outcome=run.outcome,
        anchor=run.anchor,
        bars=tuple(bars),
        end=None if run.ended_at is None else scale.at(run.ended_at),
    )


def _groups(runs: Iterable[Run]) -> list[tuple[tuple[str, Outcome], list[Run]]]:
    found: defaultdict[tuple[str, Outcome], list[Run]] = defaultdict(list)
    for run in runs:
        found[run.operation, run.outcome].append(run)
    return sorted(
        found.items(), key=lambda item: (_ORDER.index(item[0][1]), -len(item[1]))
    )


def _group_row(
    key: tuple[str, Outcome], runs: list[Run], scale: Scale, until: datetime
) -> Row:
    operation, outcome = key
    steps = [0] * (_BINS + 1)
    for run in runs:
        begin = int(scale.at(run.seen_at) / 100 * (_BINS - 1))
        end = int(scale.at(run.ended_at or until) / 100 * (_BINS - 1))
        end = max(begin, end)  # the clock may have been set back meanwhile
        steps[begin] += 1
        steps[end + 1] -= 1
    counts, now = [], 0
    for step in steps[:_BINS]:
        now += step
        counts.append(now)
    most = max(counts)
    return Row(
        y=0,
        height=_GROUP_LANE,
        label=operation,
        detail=f"{counted(len(runs), 'task')}, up to {number(most)} at once",
        outcome=outcome,
        path=_area(counts, most),
    )


def _area(counts: Sequence[int], most: int) -> str:
    """Return an area of steps, in a box of `_BINS` by 100."""
    parts = ["M0 100"]
    last = None
    for at, count in enumerate(counts):
        height = round(100 - 100 * count / most)
        if height != last:
            parts.append(f"H{at}V{height}")
            last = height
    return "".join([*parts, f"H{_BINS}V100Z"])


def _ticks(scale: Scale) -> Iterable[tuple[float, str]]:
    seconds = (scale.end - scale.begin).total_seconds()
    steps = (*_STEPS, *_LONG_STEPS)
    step = next((one for one in steps if seconds / one <= _MOST_TICKS), steps[-1])
    midnight = scale.begin.replace(hour=0, minute=0, second=0, microsecond=0)
    passed = (scale.begin - midnight).total_seconds()
    at = midnight + timedelta(seconds=(passed // step + 1) * step)
    form = "%H:%M:%S" if step % 60 else "%H:%M" if step < 43_200 else "%d %b"  # noqa: PLR2004 - half a day
    while at < scale.end:
        yield scale.at(at), at.strftime(form)
        at += timedelta(seconds=step)
