"""The options of watching that commands share, and the `Watching` they make."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, TypedDict, TypeVar

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import FOLLOW, PACE, UNATTENDED, Duration, option
from veeam_tasks.cli._onlookers import Onlooker, ReportFile
from veeam_tasks.cli._password import split_command
from veeam_tasks.cli._scrapes import MetricsPort
from veeam_tasks.cli._server import checking
from veeam_tasks.cli._state import StateFile

R = TypeVar("R")

FIND_TIMEOUT: Final = 1200.0
"""Seconds; as the package has it."""


class WatchOptions(TypedDict):
    """Keyword arguments of a watch."""

    timeout: float | None
    follow: bool
    find_timeout: float


@attrs.frozen(kw_only=True)
class Watching:
    """How to watch.

    Attributes:
        timeout: Seconds; None for ever.
        fail_fast: Whether to end with the first task that failed or was lost.
        patience: How long the server may be away, in seconds; None for ever, but not
            before the first logon.
        on_failure: A command for each task that failed or was lost.
        pace: How long to pause between two polls of one task.
        onlookers: Are told of everything too, for `--report` and `--metrics`.
        follow: Whether the job that a task started is followed to its end.
        find_timeout: How long its job session is searched, in seconds; None where
            nobody said it.
        warnings_fail: Whether a job that ended with Warning counts as failed.
        state: Where it is noted what was told, for `resume`.
    """

    timeout: float | None
    fail_fast: bool
    patience: float | None
    on_failure: str | None
    pace: "vt.Pace"
    onlookers: tuple[Onlooker, ...] = ()
    follow: bool = False
    find_timeout: float | None = None
    warnings_fail: bool = False
    state: StateFile | None = None

    @property
    def how(self) -> "WatchOptions":
        """The arguments of `SessionManager.watch` and `watch_all`."""
        return {
            "timeout": self.timeout,
            "follow": self.follow,
            "find_timeout": self.find_timeout or FIND_TIMEOUT,
        }

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `Server.session`."""
        return {
            "pace": self.pace,
            "patience": self.patience,
            "timeout": self.timeout,
            "onlookers": self.onlookers,
        }


FOLLOW_OPTIONS = (
    option(
        "--follow",
        is_flag=True,
        help="Go on to the end of the job: did the backup work?",
    ),
    option(
        "--find-timeout",
        group=FOLLOW,
        type=Duration(),
        metavar="TIME",
        help="How long the job session may take to appear in the Enterprise"
        " Manager. [default: 20m]",
    ),
)
WATCH_OPTIONS = (
    option(
        "--timeout",
        type=Duration(),
        metavar="TIME",
        help="Stop after this time: 90s, 10m, 1h30m. It begins anew with the first"
        " logon.",
    ),
    *FOLLOW_OPTIONS,
    option(
        "--warnings-fail",
        group=FOLLOW,
        is_flag=True,
        help="Exit with 1 also for a job that ended with Warning.",
    ),
    option(
        "--fail-fast",
        group=UNATTENDED,
        is_flag=True,
        help="Stop with the first that failed or is lost.",
    ),
    option(
        "--patience",
        group=UNATTENDED,
        type=Duration(),
        metavar="TIME",
        help="How long the server may be away, also before the logon. [default: not"
        " at all before it, for ever after it]",
    ),
    option(
        "--on-failure",
        group=UNATTENDED,
        metavar="COMMAND",
        help="Run COMMAND for each task that failed or is lost, with the event as JSON"
        " on its standard input.",
    ),
    option(
        "--report",
        group=UNATTENDED,
        type=click.Path(),
        metavar="FILE",
        help="Write a page for people to FILE, each minute and at the end.",
    ),
    option(
        "--metrics",
        group=UNATTENDED,
        metavar="[HOST]:PORT",
        help="Serve metrics for Prometheus there; loopback if no HOST is named.",
    ),
    option(
        "--first-pause",
        group=PACE,
        type=Duration(),
        metavar="TIME",
        help="Pause after a change until the next poll. [default: 1s]",
    ),
    option(
        "--longest-pause",
        group=PACE,
        type=Duration(),
        metavar="TIME",
        help="What the pauses grow to while nothing changes. [default: 30s]",
    ),
)


def watch_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of watching; it gets what they mean as `watching`."""
    return watching_options(command, WATCH_OPTIONS, make_watching)


def watching_options(
    command: Callable[..., R],
    options: Sequence[Callable[[Callable[..., R]], Callable[..., R]]],
    make: Callable[..., Watching],
) -> Callable[..., R]:
    """Give a command options whose meaning is made by `make`, see `watch_options`."""

    @functools.wraps(command)
    def with_watching(**given: Any) -> R:
        own = {
            name: given.pop(name)
            for name in inspect.signature(make_watching).parameters
        }
        return command(watching=make(**own), **given)

    wrapped: Callable[..., R] = with_watching
    for add in reversed(options):
        wrapped = add(wrapped)
    return wrapped


def make_watching(
    *,
    timeout: float | None,
    fail_fast: bool,
    follow: bool,
    find_timeout: float | None,
    warnings_fail: bool,
    patience: float | None,
    on_failure: str | None,
    report: str | None,
    metrics: str | None,
    first_pause: float | None,
    longest_pause: float | None,
) -> Watching:
    """Return what the options of watching mean."""
    if on_failure is not None:
        split_command(on_failure, "--on-failure")
    if not follow and (find_timeout is not None or warnings_fail):
        name = "--warnings-fail" if warnings_fail else "--find-timeout"
        text = f"{name} goes with --follow, which asks how the job itself ends"
        raise click.UsageError(text)
    if find_timeout == 0:
        text = "--find-timeout must be more than 0 seconds"
        raise click.UsageError(text)
    return Watching(
        follow=follow,
        find_timeout=find_timeout,
        warnings_fail=warnings_fail,
        timeout=timeout,
        fail_fast=fail_fast,
        patience=patience,
        on_failure=on_failure,
        pace=_pace(first_pause, longest_pause),
        onlookers=tuple(
            one
            for one in (ReportFile.parse(report), MetricsPort.parse(metrics))
            if one is not None
        ),
    )


def state_option(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the option of a state file; stands above `watch_options`."""

    @option(
        "--state",
        group=UNATTENDED,
        type=click.Path(),
        metavar="FILE",
        help="Keep in FILE how far the watch is: 'veeam-tasks resume FILE' goes on with"
        " it.",
    )
    @functools.wraps(command)
    def with_state(*, state: str | None, watching: Watching, **given: Any) -> R:
        if state is not None:
            file = StateFile(state)
            file.check_free()
            watching = attrs.evolve(watching, state=file)
        return command(watching=watching, **given)

    wrapped: Callable[..., R] = with_state
    return wrapped


def _pace(first_pause: float | None, longest_pause: float | None) -> "vt.Pace":
    first = 1.0 if first_pause is None else first_pause
    longest = max(30.0, first) if longest_pause is None else longest_pause
    if first_pause is None:
        first = min(first, longest)
    with checking():
        return vt.Pace(first=first, longest=longest)
