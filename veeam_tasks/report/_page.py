"""The page: what is told in which order, and how it gets into the file."""

import contextlib
import errno
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import attrs

import veeam_tasks as vt
from veeam_tasks._redaction import quoted, visible
from veeam_tasks.report import _words as words
from veeam_tasks.report._recorder import Outcome, Recorder, check_aware
from veeam_tasks.report._runs import Run, run_of
from veeam_tasks.report._timeline import timeline_of

if TYPE_CHECKING:
    from jinja2 import Template

_SHOWN = 10
_ROWS = 250
_MOST_WORDS = 160
_NEEDS_JINJA = (
    "a report needs jinja2, which the extra 'report' installs:"
    " pip install 'veeam-tasks[report]'"
)
_BAD = (Outcome.FAILED, Outcome.LOST, Outcome.WARNING)
_ORDER = {outcome: place for place, outcome in enumerate(Outcome)}


@attrs.frozen(kw_only=True)
class Problem:
    """What went wrong once, or many times in the same words."""

    runs: tuple[Run, ...]

    @property
    def run(self) -> Run:
        """The one, or the first of them."""
        return self.runs[0]

    @property
    def ended(self) -> tuple[datetime, ...]:
        """When it ended; of many, when the first and the last of them did."""
        ends = [run.ended_at for run in self.runs if run.ended_at is not None]
        first, last = min(ends), max(ends)
        return (first,) if first == last else (first, last)


@attrs.frozen(kw_only=True)
class Operation:
    """How long the tasks of one operation took."""

    name: str
    count: int
    bad: int
    typical: timedelta | None
    longest: timedelta | None


def render(
    delivered: Recorder | vt.Report | Iterable[vt.TaskEvent],
    notices: Iterable[vt.Notice] = (),
    *,
    title: str = "Tasks of the Enterprise Manager",
    url: str | None = None,
    account: str | None = None,
    now: datetime | None = None,
    zone: tzinfo | None = None,
) -> str:
    """Return the report as one HTML page that needs neither network nor script.

    Args:
        delivered: A `Recorder`, the events that a watch delivered, in their order, or
            its `Report`, of which only the ends are known.
        notices: What was told of the server, unless a `Recorder` has it.
        title: Of the page.
        url: Of the server, unless a `Recorder` has it.
        account: Whose logon session it was; nothing says so unless it is passed.
        now: The end of the timeline; the present, if not said.
        zone: The time zone of all times; that of this machine, if not said.

    Raises:
        ModuleNotFoundError: jinja2 is not there: the extra ``report`` installs it.
        TypeError: An argument is of another type.
        ValueError: A time has no time zone.
    """
    check_aware("now", now)
    if zone is not None and not isinstance(zone, tzinfo):
        text = (
            f"zone must be a tzinfo, as ZoneInfo('Europe/Berlin'), not {quoted(zone)}"
        )
        raise TypeError(text)
    recorder = _recorded(delivered, notices)
    text = _template().render(
        page_of(recorder, now=now or datetime.now(UTC), zone=zone),
        title=title,
        url=url or recorder.url,
        account=account,
        version=vt.__version__,
    )
    # A lone surrogate, which the title may have from a command line, is no text.
    return text.encode(errors="replace").decode()


def write(path: str | os.PathLike[str], page: str) -> None:
    """Put a page into its file, whole: a reader finds the old one or the new one.

    A link stays one: the page gets to where it leads.

    Raises:
        OSError: It cannot be written; the old one is still there. Or it is no file but
            a device, say, which nothing can take the place of.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is no file that can be replaced", str(path))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        if target.exists():
            Path(name).chmod(target.stat().st_mode & 0o777)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _recorded(
    delivered: Recorder | vt.Report | Iterable[vt.TaskEvent],
    notices: Iterable[vt.Notice],
) -> Recorder:
    if not isinstance(delivered, Recorder | vt.Report | Iterable):
        text = (
            "a page is made of a Recorder, of events or of a Report, not of"
            f" {type(delivered).__name__}"
        )
        raise TypeError(text)
    if isinstance(delivered, Recorder):
        recorder = delivered
    else:
        recorder = Recorder()
        recorder.is_over = True
        events: Iterable[vt.TaskEvent | None] = (
            delivered.outcomes.values()
            if isinstance(delivered, vt.Report)
            else delivered
        )
        for event in events:
            if event is not None:
                recorder.add_event(event)
        if isinstance(delivered, vt.Report):
            # Not those that were seen and are only counted.
            unseen = [one for one, event in delivered.outcomes.items() if event is None]
            recorder.expect(*unseen)
    for notice in notices:
        recorder.add_notice(notice)
    return recorder


@cache
def _template() -> "Template":
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_NEEDS_JINJA, name="jinja2") from None
    environment = Environment(
        loader=PackageLoader("veeam_tasks.report"),
        autoescape=True,
        finalize=_finished,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        # Unbroken: a unit alone at the beginning of a line is no help.
        span=lambda time: words.span(time).replace(" ", "\u00a0"),
        short=_short,
        iso=lambda at: at.isoformat(timespec="seconds"),
    )
    return environment.get_template("report.html.jinja")


def page_of(
    recorder: Recorder, *, now: datetime, zone: tzinfo | None
) -> dict[str, object]:
    """Return all that the template shows."""
    runs = [run_of(lane, at) for at, lane in enumerate(recorder.lanes)]
    runs.sort(key=lambda run: (_ORDER[run.outcome], run.seen_at))
    counts, unseen = recorder.counts(), recorder.unseen
    now = now.astimezone(zone)
    until = now
    if recorder.is_over:
        # What came last, if that was the end: a report may be made long after.
        moments = [run.ended_at or run.changes[-1].observed_at for run in runs]
        moments += [one.ended_at or one.began_at for one in recorder.outages]
        if recorder.ended_at is not None and counts[Outcome.UNFINISHED]:
            moments.append(recorder.ended_at)
        until = max(moments, default=now)
    begin = min((run.seen_at for run in runs), default=recorder.began_at)
    timed = sorted(
        (run for run in runs if run.took is not None),
        key=lambda run: run.took or timedelta(),
        reverse=True,
    )
    zoned = _Zoned(zone)
    return {
        "verdict": words.verdict(counts, unseen=len(unseen), is_over=recorder.is_over),
        "unseen": unseen,
        "worst": _worst(counts, is_cut=recorder.cut_short is not None),
        "counts": counts,
        "total": counts.total(),
        "Outcome": Outcome,
        "recorder": recorder,
        "problems": [_problems(runs, outcome) for outcome in _BAD],
        "runs": runs,
        "tables": [runs[at : at + _ROWS] for at in range(0, len(runs), _ROWS)],
        "timeline": timeline_of(runs, recorder.outages, until, zone),
        "longest": timed[:_SHOWN],
        "operations": _operations(runs),
        "begin": begin.astimezone(zone),
        "until": until.astimezone(zone),
        "now": now,
        "clock": zoned.clock if _is_one_day(begin, until, zone) else zoned.moment,
        "day": words.day,
        "zone": words.zone(now),
        "counted": words.counted,
    }


@attrs.frozen
class _Zoned:
    """Moments in the time zone of the page."""

    zone: tzinfo | None

    def clock(self, at: datetime) -> str:
        return f"{at.astimezone(self.zone):%H:%M:%S}"

    def moment(self, at: datetime) -> str:
        local = at.astimezone(self.zone)
        return f"{local.day} {local:%b %H:%M:%S}"


def _is_one_day(begin: datetime, end: datetime, zone: tzinfo | None) -> bool:
    return begin.astimezone(zone).date() == end.astimezone(zone).date()


def _worst(counts: Counter[Outcome], *, is_cut: bool) -> Outcome:
    """Return what gives the verdict its colour: the worst that there is."""
    if not counts.total():
        return Outcome.FAILED if is_cut else Outcome.UNFINISHED
    return next(outcome for outcome in Outcome if counts[outcome])


def _problems(runs: Iterable[Run], outcome: Outcome) -> tuple[Outcome, list[Problem]]:
    """Return what went wrong, and what did so in the same words only once."""
    found: dict[object, list[Run]] = {}
    for run in runs:
        if run.outcome is outcome:
            alike = run.name, run.kind, run.reason, run.advice, run.machines
            found.setdefault(alike, []).append(run)
    return outcome, [Problem(runs=tuple(alike)) for alike in found.values()]


def _operations(runs: Iterable[Run]) -> list[Operation]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.operation, []).append(run)
    operations = []
    for name, alike in found.items():
        took = [run.took.total_seconds() for run in alike if run.took is not None]
        operations.append(
            Operation(
                name=name,
                count=len(alike),
                bad=sum(run.outcome in {Outcome.FAILED, Outcome.LOST} for run in alike),
                typical=timedelta(seconds=median(took)) if took else None,
                longest=timedelta(seconds=max(took)) if took else None,
            )
        )
    return sorted(operations, key=lambda one: one.longest or timedelta(), reverse=True)


def _finished(value: object) -> object:
    """Show control characters, which the server's text may hold; lines stay lines."""
    if type(value) is not str:
        return value
    return "\n".join(map(visible, value.splitlines()))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS].rstrip()}…"
