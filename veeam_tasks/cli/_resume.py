"""The command `resume`: goes on with what a state file says."""

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command
from veeam_tasks.cli._messages import counted, say, visible
from veeam_tasks.cli._options import (
    Servers,
    Watching,
    output_options,
    servers_options,
    watch_options,
)
from veeam_tasks.cli._pending import look_for
from veeam_tasks.cli._reporters import OutputMode, Reporter, make_reporter
from veeam_tasks.cli._runner import Exit, first_of, run_async
from veeam_tasks.cli._server import Server, checking
from veeam_tasks.cli._several import SeveralSessions, sessions_of
from veeam_tasks.cli._state import PendingAction, State, StateFile
from veeam_tasks.cli._watch import follow, report_to_end, tell_end


@click.command(
    cls=Command,
    short_help="Go on with a watch that was ended.",
    examples=(
        "veeam-tasks submit --job Nightly --follow --state run.json",
        "veeam-tasks resume run.json       # after a kill, a crash, a reboot",
    ),
)
@click.argument("file", type=click.Path(), metavar="FILE")
@watch_options
@servers_options
@output_options
def resume(
    *, file: str, watching: Watching, servers: Servers, output: OutputMode
) -> int:
    """Go on with the watch of --state FILE where it stood; FILE is kept up to date.

    What was told is not told again; what may have been told, in the second before the
    end, is, with "again" in its JSON. Nothing is ever sent again: an action that may
    have been started is looked for and told.

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
    if state.action is not None:
        return _look(state.action, found[""], output, kept, watching)
    if state.has_ended:
        say(f"{kept.shown}: that watch had ended before; this is what was told of it")
    reporter = make_reporter(output)
    sessions = sessions_of(found, reporter.notice, **watching.options)
    is_run = any(one.get("find_timeout") for one in state.checkpoints.values())
    watching = attrs.evolve(watching, state=kept, follow=is_run)
    return report_to_end(
        reporter,
        lambda: _resume(sessions, state, reporter, watching),
        watching,
        sessions,
    )


def _look(
    action: PendingAction,
    server: Server,
    output: OutputMode,
    kept: StateFile,
    watching: Watching,
) -> int:
    session = server.session()

    async def work() -> Exit:
        async with session as em:
            ended = await look_for(action, em, output)
        await tell_end(
            watching,
            f"{action.method} {visible(action.path)} may have been started before, and"
            " nobody took the answer. It is not sent again.",
        )
        say(
            f"look at the job, then delete {kept.shown}: until then no 'submit' with it"
            " begins anew"
        )
        return ended

    return run_async(work, on_signal=session.abort)


async def _resume(
    sessions: SeveralSessions, state: State, reporter: Reporter, watching: Watching
) -> Exit:
    async with sessions as logged_on:
        watches: dict[str, vt.Watch] = {}
        for name, em in logged_on.managers.items():
            with checking():
                watches[name] = em.resume(
                    state.checkpoints[name], timeout=watching.timeout
                )
        number = sum(len(one.report.outcomes) for one in watches.values())
        where = ", ".join(name or em.url for name, em in logged_on.managers.items())
        title = f"Watching {counted(number, 'task')} again at {where or 'no server'}"
        sole = logged_on.managers.get("")
        reporter.begin(title, number, None if sole is None else sole.statistics)
        ended = await follow(watches, reporter, watching, state, logged_on.whys)
        return first_of(logged_on.status, ended)
