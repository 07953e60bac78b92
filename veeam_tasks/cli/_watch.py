"""The command `watch`, and following a watch to its end, as `submit` does too."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command, Number, WholeNumber, option
from veeam_tasks.cli._events import NamedEvents, labelled
from veeam_tasks.cli._exits import Exit, first_of
from veeam_tasks.cli._explain import explain, late, outage
from veeam_tasks.cli._hooks import FailureHook
from veeam_tasks.cli._input import TaskName, checked_ids, read_names
from veeam_tasks.cli._messages import complain, counted, say, span, warn
from veeam_tasks.cli._onlookers import Onlooker, told_of
from veeam_tasks.cli._options import Servers, output_options, servers_options
from veeam_tasks.cli._progress import Progress, interrupted_text, outcome_of
from veeam_tasks.cli._reporters import (
    OutputMode,
    Reporter,
    log_event,
    make_reporter,
)
from veeam_tasks.cli._runner import run_async, status_of
from veeam_tasks.cli._server import Logon
from veeam_tasks.cli._several import SeveralLogons, logons_of
from veeam_tasks.cli._state import KeptEvents, State
from veeam_tasks.cli._streams import hush
from veeam_tasks.cli._watching import (
    Watching,
    state_option,
    watch_options,
)

_SHORTEST_PAUSE = 0.02
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 0.4
_ENDED_BADLY = frozenset({"failed", "lost"})


@click.command(
    cls=Command,
    short_help="Watch tasks until they are finished.",
    examples=(
        "veeam-tasks watch task-1 task-2 --timeout 10m",
        "veeam-tasks list | veeam-tasks watch -",
        "veeam-tasks watch --simulate 20          # without a server",
    ),
)
@click.argument("ids", nargs=-1, metavar="[IDS]...")
@option(
    "--file",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Read IDs from FILE; - is standard input.",
)
@option(
    "--all",
    "is_all",
    is_flag=True,
    help="Every task of the logon session, also those to come.",
)
@option(
    "--simulate",
    type=WholeNumber(1, 100_000),
    metavar="N",
    help="N tasks of a simulated server, of which one fails.",
)
@option(
    "--speed",
    group="Pace",
    type=Number(0.01, 1000),
    metavar="X",
    help="How much faster the simulated tasks go. [default: 1]",
)
@watch_options
@state_option
@servers_options
@output_options
def watch(
    *,
    ids: tuple[str, ...],
    file: str | None,
    is_all: bool,
    simulate: int | None,
    speed: float | None,
    watching: Watching,
    servers: Servers,
    output: OutputMode,
) -> int:
    """Watch tasks until each of them is finished: IDs like task-7, or their Hrefs.

    A - reads them from standard input, where lines of JSON with a task_id are taken,
    too. A task belongs to the logon session that started it;
    'veeam-tasks logon' lets commands share one. With several servers an ID is written
    as NAME/task-7, and --all takes --server more than once.

    On a terminal the progress is shown; into a pipe goes one JSON object per event.
    The exit status is 1 if a task failed or was lost, 2 if no IDs came at all.
    """
    named = bool(ids) or file is not None
    _check_source(named + is_all, simulate, speed)
    reporter = make_reporter(output)
    if simulate is not None and watching.state is not None:
        text = (
            "--state does not go with --simulate: that server ends with the command,"
            " so that nothing could go on with it"
        )
        raise click.UsageError(text)
    if simulate is not None:
        work = _Simulation(tasks=simulate, speed=speed or 1.0)
        return report_to_end(
            reporter, lambda: work.carry_out(reporter, watching), watching
        )
    names = None if is_all else read_names(ids, file)
    if names == []:
        text = "nothing to watch: no task IDs came"
        raise click.UsageError(text)
    if len(servers.names) > 1 or any(name.server for name in names or ()):
        work_of = _wanted(servers, names)
        if is_all and not output.quiet:
            say(_how_it_ends(watching.timeout))
        both = logons_of(
            {name: servers.named(name) for name in work_of},
            reporter.notice,
            **watching.options,
        )
        return report_to_end(
            reporter,
            lambda: _watch_several(both, work_of, reporter, watching),
            watching,
            both,
        )
    server = servers.sole()
    logon = server.logon(on_notice=reporter.notice, **watching.options)
    if is_all and not output.quiet:
        say(_how_it_ends(watching.timeout))
    if is_all and not server.is_adopted and not output.quiet:
        warn(
            "this command's own logon session sees only tasks that are started in it,"
            " and it starts none; 'veeam-tasks logon' lets commands share one"
        )
    return report_to_end(
        reporter,
        lambda: _watch(logon, names, reporter, watching),
        watching,
        logon,
    )


def _how_it_ends(timeout: float | None) -> str:
    ends = "Ctrl-C ends it" if timeout is None else f"it ends after {span(timeout)}"
    return f"--all waits for new tasks, too: {ends}"


def _check_source(real: int, simulate: int | None, speed: float | None) -> None:
    """Refuse a command that names no tasks, or tasks of several kinds."""
    if real + (simulate is not None) != 1:
        text = "pass one of these: task IDs (or - or --file), --all, --simulate N"
        raise click.UsageError(text)
    if simulate is None and speed is not None:
        text = "--speed goes with --simulate N: only simulated tasks have a speed"
        raise click.UsageError(text)


async def _watch(
    logon: Logon,
    names: list[TaskName] | None,
    reporter: Reporter,
    watching: Watching,
) -> Exit:
    async with logon as em:
        if names is None:
            watch = em.watch_all(**watching.how)
            title, total = f"Watching all tasks of this logon session at {em.url}", None
        else:
            ids = await checked_ids(em, names)
            watch = em.watch(ids, **watching.how)
            total = len(ids)
            title = f"Watching {counted(total, 'task')} at {em.url}"
        reporter.begin(title, total, em.statistics)
        return await follow({"": watch}, reporter, watching)


def _wanted(
    servers: Servers, names: list[TaskName] | None
) -> dict[str, list[TaskName] | None]:
    """Return what to watch of each server, by its name; None for all."""
    if names is None:
        return dict.fromkeys(servers.names)
    found: dict[str, list[TaskName] | None] = {}
    for name in names:
        server = name.server or (servers.names[0] if len(servers.names) == 1 else "")
        if not server:
            text = f"{name.task_id}: of which server? Write NAME/{name.task_id}"
            raise click.UsageError(text)
        tasks = found.setdefault(server, [])
        assert tasks is not None
        tasks.append(attrs.evolve(name, server=""))
    return found


async def _watch_several(
    logons: SeveralLogons,
    wanted: Mapping[str, list[TaskName] | None],
    reporter: Reporter,
    watching: Watching,
) -> Exit:
    async with logons as logged_on:
        watches: dict[str, vt.Watch] = {}
        total = 0
        for server, em in logged_on.managers.items():
            names = wanted[server]
            if names is None:
                watches[server] = em.watch_all(**watching.how)
            else:
                ids = await checked_ids(em, names)
                total += len(ids)
                watches[server] = em.watch(ids, **watching.how)
        lists = [wanted[server] for server in watches]
        what = "all tasks" if None in lists else counted(total, "task")
        title = f"Watching {what} of {', '.join(watches) or 'no server'}"
        reporter.begin(title, None if None in lists else total)
        ended = await follow(watches, reporter, watching, whys=logged_on.whys)
        return first_of(logged_on.status, ended)


def report_to_end(
    reporter: Reporter,
    work: Callable[[], Coroutine[Any, Any, int]],
    watching: Watching,
    logon: Logon | SeveralLogons | None = None,
) -> int:
    """Run `work`, which tells `reporter`; return the exit status.

    What ends it before anything is watched is told to the onlookers: a report of the
    night before would pass for that of this one.
    """

    async def told() -> int:
        try:
            return await work()
        except click.UsageError as error:
            await tell_end(watching, error.format_message())
            raise
        except vt.VeeamTasksError as error:
            await tell_end(watching, explain(error))
            raise
        except asyncio.CancelledError:
            await tell_end(watching, "It was interrupted.")
            raise

    def interrupted() -> None:
        reporter.close()
        if logon is not None:
            logon.abort()

    status = run_async(told, on_signal=interrupted, logs_out=logon is not None)
    if reporter.is_stuck:
        # A thread still writes to a pipe that nobody reads; it must not hold us.
        os._exit(status)
    return status


async def follow(
    watches: "Mapping[str, vt.Watch]",
    reporter: Reporter,
    watching: Watching,
    state: State | None = None,
    whys: Sequence[str] = (),
) -> Exit:
    """Read watches to their ends and tell `reporter` of it; return the exit status.

    Args:
        watches: What to read, by the names of their servers; they are closed.
        reporter: Was begun; it is closed and gives its summary.
        watching: When to stop, what to run for each failure, where to note it.
        state: What they were resumed from, if they were.
        whys: Why other servers are not watched.

    Raises:
        asyncio.CancelledError: A signal ended it; the summary was given.
    """
    is_heard = True
    reporter.progress.follows = watching.follow
    failures: list[tuple[str, vt.VeeamTasksError]] = []
    away: list[str] = []
    hook = FailureHook.parse(watching.on_failure)
    events = NamedEvents(watches)
    kept = None
    if watching.state is not None:
        before = {} if state is None else state.checkpoints
        others = {name: one for name, one in before.items() if name not in watches}
        kept = KeptEvents(events, watching.state, others)
    try:
        await _tell_known(events, reporter, state, watching.onlookers)
        if kept is not None:
            await kept.begin()
        if await _read(kept or events, reporter, hook, watching):
            failures = await events.failures()
            away = _still_away(reporter.progress, state, dict(failures))
        if hook is not None:
            await hook.finish()
    except BrokenPipeError:
        is_heard = False
        hush(sys.stdout)
    except asyncio.CancelledError:
        reporter.close()
        left = events.unfinished()
        reporter.summary(left)
        await tell_end(watching, interrupted_text(left, reporter.progress))
        raise
    finally:
        reporter.close()
        if kept is not None:
            await kept.finish()
        await events.aclose()
    if is_heard:
        reporter.summary(events.unfinished())
    outcome = _exit_of(reporter.progress, watching)
    cut = [_why_cut_short(name, one, reporter.progress) for name, one in failures]
    cut += away
    await tell_end(watching, "; ".join([*whys, *cut]) or None)
    for why in cut:
        complain(why)
    statuses = [status_of(one) for _, one in failures] + [Exit.SERVER] * bool(away)
    return first_of(*statuses, outcome)


async def tell_end(watching: Watching, why: str | None = None) -> None:
    """Tell the onlookers that nothing more comes; only the first time counts."""
    for onlooker in watching.onlookers:
        await onlooker.finish(why)


async def _tell_known(
    events: NamedEvents,
    reporter: Reporter,
    state: State | None,
    onlookers: Sequence[Onlooker],
) -> None:
    """Tell what is watched, and what may not have been told by a process before."""
    for onlooker in onlookers:
        for server, watch in events.watches.items():
            onlooker.expect(list(watch.report.outcomes), server or None)
    if state is None:
        return
    for server, event in events.known():
        for onlooker in onlookers:
            onlooker.event(event, server or None)
        if (server, event.task_id, event.sequence) in state.telling:
            await reporter.event(labelled(server, event), again=True)
        else:
            reporter.progress.take(labelled(server, event))


async def _read(
    events: NamedEvents | KeptEvents,
    reporter: Reporter,
    hook: FailureHook | None,
    watching: Watching,
) -> bool:
    """Tell of each event; return whether that was to the end."""
    # What cut watches short is asked of each.
    with suppress(ExceptionGroup):
        async for server, plain in events:
            event = labelled(server, plain)
            log_event(event)
            for onlooker in watching.onlookers:
                onlooker.event(plain, server or None)
            is_bad = outcome_of(event) in _ENDED_BADLY or (
                watching.warnings_fail and event.is_final and event.has_warnings
            )
            if is_bad and hook is not None:
                hook.start(event)
            await reporter.event(event)
            if isinstance(events, KeptEvents):
                events.note_told()
            if watching.fail_fast and is_bad:
                return False
    return True


def _why_cut_short(server: str, failure: vt.VeeamTasksError, progress: Progress) -> str:
    text = explain(failure)
    if isinstance(failure, vt.WatchTimeoutError):
        text = late(failure, is_simulated=progress.is_simulated)
    text = f"{server}: {text}" if server else text
    down = progress.outages.get(server)
    if down is None:
        return text
    is_patience = isinstance(failure, vt.TransportError) and failure.kind == "patience"
    why = outage(down.error) or down.detail
    if isinstance(failure, vt.WatchTimeoutError):
        return f"{text}; the server is away: {why}"
    return f"{text}: {why}" if is_patience else text


def _still_away(
    progress: Progress, state: State | None, told: Mapping[str, object]
) -> list[str]:
    """Return which servers are away at the end of a watch of all tasks.

    It ends when its time is over, and that is no failure; but of a server that is away
    then nobody knows what became of its tasks.

    Args:
        progress: What was seen.
        state: What the watch was resumed from, if it was.
        told: The servers of which it is told already why they are not watched.
    """
    before = {} if state is None else state.checkpoints
    is_open = any(one.get("all") for one in before.values())
    if progress.total is not None and not is_open:
        return []
    return [
        f"the server is away: {outage(down.error) or down.detail}"
        for name, down in progress.outages.items()
        if name not in told
    ]


def _exit_of(progress: Progress, watching: Watching) -> Exit:
    is_bad = progress.failures or (watching.warnings_fail and progress.warnings)
    return Exit.FAILED if is_bad else Exit.OK


@attrs.frozen(kw_only=True)
class _Simulation:
    """Tasks of a simulated server in this process; exactly one of them fails.

    Attributes:
        tasks: How many.
        speed: How many seconds of their scripts pass in one second.
    """

    tasks: int
    speed: float

    async def carry_out(self, reporter: Reporter, watching: Watching) -> Exit:
        """Start the server, watch its tasks to the end, stop it."""
        from veeam_tasks.simulator import (  # noqa: PLC0415 - loads aiohttp
            Mix,
            SimulatedServer,
        )

        mix = Mix(
            failing=1 / self.tasks,
            running=(1.0, 3.5),
            collecting=(0.8, 1.2),
            skipping=0.0,
        )
        reporter.progress.is_simulated = True
        async with SimulatedServer(speed=self.speed) as server:
            tasks = server.add_tasks(self.tasks, mix)
            async with vt.connect(
                server.url,
                username=server.username,
                password=server.password,
                pace=self._pace(),
                on_notice=told_of(watching.onlookers, reporter.notice),
            ) as em:
                for one in watching.onlookers:
                    one.begin(em)
                watch = em.watch([task.task_id for task in tasks], **watching.how)
                title = f"Watching {counted(self.tasks, 'task')} of a simulated server"
                reporter.begin(f"{title} at {em.url}", self.tasks, em.statistics)
                return await follow({"": watch}, reporter, watching)

    def _pace(self) -> vt.Pace:
        """Return a pace that sees each state of a script go by."""
        return vt.Pace(
            first=max(_SHORTEST_PAUSE, _FIRST_PAUSE / self.speed),
            growth=1.2,
            longest=max(_SHORTEST_PAUSE, min(30.0, _LONGEST_PAUSE / self.speed)),
        )
