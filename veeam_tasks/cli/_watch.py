"""The command `watch`."""

from typing import Any

import attrs
import click

from veeam_tasks.cli._ends import Exit
from veeam_tasks.cli._following import follow, show_to_end
from veeam_tasks.cli._ids import read_ids
from veeam_tasks.cli._options import (
    Connecting,
    Server,
    server_options,
    talk_options,
    watch_options,
)
from veeam_tasks.cli._shows import Show, Talk, make_show
from veeam_tasks.cli._simulation import Simulation


@attrs.frozen(kw_only=True)
class Plan:
    """What to watch and when to stop.

    Attributes:
        task_ids: The tasks; None for all of the logon session.
        timeout: Seconds; None for ever.
        fail_fast: End with the first task that failed or was lost.
    """

    task_ids: list[str] | None
    timeout: float | None
    fail_fast: bool

    async def carry_out(self, connecting: Connecting, show: Show) -> Exit:
        """Log on, watch to the end, log out."""
        async with connecting as em:
            if self.task_ids is None:
                watch = em.watch_all(timeout=self.timeout)
                show.begin(f"Watching all tasks of this logon at {em.url}", None)
            else:
                watch = em.watch(self.task_ids, timeout=self.timeout)
                count = len(self.task_ids)
                noun = "task" if count == 1 else "tasks"
                show.begin(f"Watching {count} {noun} at {em.url}", count)
            return await follow(watch, show, fail_fast=self.fail_fast)


@click.command(short_help="Watch tasks until they are finished.")
@click.argument("ids", nargs=-1, metavar="[IDS]...")
@click.option(
    "--file",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Read IDs from FILE; - is standard input.",
)
@click.option(
    "--all", "is_all", is_flag=True, help="Watch every task, those to come included."
)
@click.option(
    "--simulate",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Watch N tasks of a simulated server in this process; one of them fails.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    metavar="X",
    help="How much faster the simulated tasks go. [default: 1]",
)
@watch_options
@server_options
@talk_options
def watch(
    *,
    ids: tuple[str, ...],
    file: str | None,
    is_all: bool,
    simulate: int | None,
    speed: float | None,
    timeout: float | None,
    fail_fast: bool,
    options: dict[str, Any],
    server: Server,
    talk: Talk,
) -> int:
    """Watch tasks until each of them is finished.

    IDS are task IDs like task-7, or Hrefs of tasks; - reads them from standard input,
    where lines of JSON with a task_id are taken, too. A task is known only to the
    logon session that started it; 'veeam-tasks logon' lets commands share one.

    On a terminal the progress is shown; into a pipe goes one JSON object per event.
    The exit status is 1 if a task failed or was lost, 2 if no IDs came at all.

    \b
    Examples:
        veeam-tasks watch --simulate 20
        veeam-tasks watch --simulate 20 --speed 10 | jq .state
        veeam-tasks watch task-1 task-2 --timeout 10m
        veeam-tasks watch --all --timeout 5s
        veeam-tasks list | veeam-tasks watch -
    """  # noqa: D301 - click's mark is a real backspace
    named = bool(ids) or file is not None
    if named + is_all + (simulate is not None) != 1:
        text = "pass one of these: task IDs (or - or --file), --all, --simulate N"
        raise click.UsageError(text)
    if simulate is None and speed is not None:
        text = "--speed goes with --simulate N: only simulated tasks have a speed"
        raise click.UsageError(text)
    show = make_show(talk)
    if simulate is not None:
        simulation = Simulation(tasks=simulate, speed=speed or 1.0)
        return show_to_end(
            show,
            lambda: simulation.watched(show, timeout=timeout, fail_fast=fail_fast),
        )
    task_ids = None if is_all else read_ids(ids, file)
    if task_ids == []:
        text = "nothing to watch: no task IDs came"
        raise click.UsageError(text)
    plan = Plan(task_ids=task_ids, timeout=timeout, fail_fast=fail_fast)
    connecting = server.connecting(on_notice=show.notice, **options)
    return show_to_end(show, lambda: plan.carry_out(connecting, show))
