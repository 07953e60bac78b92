"""The command `resume`: goes on with what a state file says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import FOLLOW, Command, Duration, option
from veeam_tasks.cli._exits import Exit, first_of
from veeam_tasks.cli._messages import counted, say, visible
from veeam_tasks.cli._options import Servers, output_options, servers_options
from veeam_tasks.cli._pending import look_for, searched_for
from veeam_tasks.cli._reporters import OutputMode, Reporter, make_reporter
from veeam_tasks.cli._several import SeveralLogons, logons_of
from veeam_tasks.cli._state import PendingAction, State, StateFile
from veeam_tasks.cli._watch import follow, report_to_end, tell_end
from veeam_tasks.cli._watching import (
    FOLLOW_OPTIONS,
    WATCH_OPTIONS,
    Watching,
    make_watching,
    watching_options,
)

R = TypeVar("R")

_FOLLOW_ON_OPTIONS = (
    option("--follow", is_flag=True, hidden=True),
    option(
        "--find-timeout",
        group=FOLLOW,
        type=Duration(),
        metavar="TIME",
        help="How long the job session may still take to appear; of an action that may"
        " have been started, from when it was sent. [default: what is left; 1m]",
    ),
)


def resume_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of watching but for what was said at the beginning."""
    rest = [one for one in WATCH_OPTIONS if one not in FOLLOW_OPTIONS]
    return watching_options(command, [*_FOLLOW_ON_OPTIONS, *rest], _resuming)


def _resuming(*, follow: bool, **given: Any) -> Watching:
    if follow:
        text = (
            "--follow: 'resume' goes on as the watch was begun, which follows jobs or"
            " does not; leave it out"
        )
        raise click.UsageError(text)
    return make_watching(follow=True, **given)


@click.command(
    cls=Command,
    short_help="Go on with a watch that was cut short.",
    examples=(
        "veeam-tasks submit --job Nightly --follow --state run.json",
        "veeam-tasks resume run.json       # after a kill, a crash, a reboot",
    ),
)
@click.argument("file", type=click.Path(), metavar="FILE")
@resume_options
@servers_options
@output_options
def resume(
    *, file: str, watching: Watching, servers: Servers, output: OutputMode
) -> int:
    """Go on with the watch of --state FILE where it stood; FILE is kept up to date.

    What was told is not told again. What a killed command may not have told any more
    is told now, with "again" in its JSON. Nothing is ever sent again: an action that
    may have been started is looked for, and watched to its end if it is found for
    certain.

    Without another URL it goes to that of FILE. Under the same logon session (see
    'veeam-tasks logon') tasks go on; under another one they are lost, but a job that
    is followed is still found.
    """
    kept = StateFile(file)
    state = kept.read()
    urls = [str(one["url"]) for one in state.checkpoints.values()]
    urls += [] if state.action is None else [state.action.url]
    if not urls:
        text = f"{kept.shown} holds nothing to go on with: nothing was started"
        raise click.UsageError(text)
    is_named = not ("" in state.checkpoints or state.action)
    if is_named:
        found = {name: servers.named(name) for name in state.checkpoints}
    else:
        sole = servers.sole()
        found = {"": sole if sole.url else attrs.evolve(sole, url=urls[0])}
    reporter = make_reporter(output)
    watching = attrs.evolve(watching, state=kept)
    if state.action is None:
        _check_follows(state, watching, kept)
    logons = logons_of(found, reporter.notice, **watching.options)

    async def work() -> Exit:
        if state.action is None:
            return await _resume(logons, state, reporter, watching)
        return await _look(state.action, logons, reporter, watching, output)

    return report_to_end(reporter, work, watching, logons)


def _check_follows(state: State, watching: Watching, kept: StateFile) -> None:
    """Refuse what means nothing to a watch that follows no job.

    Raises:
        click.UsageError: It was said all the same.
    """
    is_asked = watching.find_timeout is not None or watching.warnings_fail
    if is_asked and not _follows(state):
        name = "--warnings-fail" if watching.warnings_fail else "--find-timeout"
        text = f"{name}: the watch of {kept.shown} was begun without --follow"
        raise click.UsageError(text)


def _follows(state: State) -> bool:
    return any(one.get("find_timeout") for one in state.checkpoints.values())


async def _look(
    action: PendingAction,
    logons: SeveralLogons,
    reporter: Reporter,
    watching: Watching,
    output: OutputMode,
) -> Exit:
    """Look for what may have been started, and go on with it if that is certain."""
    async with logons as logged_on:
        em = logged_on.managers.get("")
        if em is None:
            return logged_on.status
        found = await look_for(action, em, output, watching.find_timeout)
        if found is not None:
            state = State(checkpoints={"": found})
            watches = _resumed({"": em}, state, watching)
            return await _go_on({"": em}, watches, state, reporter, watching)
    await tell_end(
        watching,
        f"{action.method} {visible(action.path)} may have been started before, and"
        " nobody took the answer. It is not sent again.",
    )
    assert watching.state is not None
    say(
        f"look at the job, then delete {watching.state.shown}: until then no 'submit'"
        " with it begins anew"
    )
    return Exit.SERVER


async def _resume(
    logons: SeveralLogons, state: State, reporter: Reporter, watching: Watching
) -> Exit:
    async with logons as logged_on:
        watches = _resumed(logged_on.managers, state, watching)
        if state.has_ended:
            assert watching.state is not None
            shown = watching.state.shown
            say(f"{shown}: that watch had ended; this is what was told of it")
        ended = await _go_on(
            logged_on.managers, watches, state, reporter, watching, whys=logged_on.whys
        )
        return first_of(logged_on.status, ended)


def _resumed(
    managers: "Mapping[str, vt.SessionManager]", state: State, watching: Watching
) -> "dict[str, vt.Watch]":
    """Return the watches of a state, by the names of their servers.

    Raises:
        click.UsageError: One is damaged, or of another server.
    """
    return {
        name: _resumed_one(em, state.checkpoints[name], watching)
        for name, em in managers.items()
    }


async def _go_on(
    managers: "Mapping[str, vt.SessionManager]",
    watches: "Mapping[str, vt.Watch]",
    state: State,
    reporter: Reporter,
    watching: Watching,
    *,
    whys: Sequence[str] = (),
) -> Exit:
    """Watch what a state says to its end."""
    number = sum(len(one.report.outcomes) for one in watches.values())
    where = ", ".join(name or em.url for name, em in managers.items())
    title = f"Watching {counted(number, 'task')} again at {where or 'no server'}"
    sole = managers.get("")
    reporter.begin(title, number, None if sole is None else sole.statistics)
    watching = attrs.evolve(watching, follow=_follows(state))
    return await follow(watches, reporter, watching, state, whys)


def _resumed_one(
    em: "vt.SessionManager", checkpoint: Any, watching: Watching
) -> "vt.Watch":
    """Return the watch of a checkpoint.

    Raises:
        click.UsageError: It is damaged, or of another server.
    """
    seconds = watching.find_timeout
    if seconds is not None:
        checkpoint = searched_for(checkpoint, seconds)
    try:
        return em.resume(checkpoint, timeout=watching.timeout)
    except vt.ArgumentError as error:
        problem = str(error).removesuffix(f"; {error.advice}")
        assert watching.state is not None
        shown = watching.state.shown
    text = f"{shown}: {problem}; watch the tasks anew, or delete the file"
    raise click.UsageError(text)
