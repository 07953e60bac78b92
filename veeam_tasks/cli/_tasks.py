"""The commands about single tasks: `list`, `get`, `submit`, `delete`."""

from collections.abc import Mapping
from typing import Any

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._ends import Exit, drive, first_of, told
from veeam_tasks.cli._following import follow, show_to_end
from veeam_tasks.cli._ids import read_ids, read_text, standard_input
from veeam_tasks.cli._lines import task_object, write
from veeam_tasks.cli._options import (
    Connecting,
    Server,
    checking,
    server_options,
    talk_options,
    watch_options,
)
from veeam_tasks.cli._shows import Show, Talk, make_show
from veeam_tasks.cli._words import say, warn

_ABOUT_ONE_TASK = vt.TaskNotFoundError, vt.ForbiddenError


@attrs.frozen(kw_only=True)
class _Action:
    """What `submit` sends."""

    path: str
    body: str | None = attrs.field(repr=False)
    method: str

    async def send(self, em: "vt.SessionManager") -> vt.Task:
        """Send it, once.

        Raises:
            click.UsageError: The path or the body cannot be sent.
        """
        with checking():
            return await em.submit(self.path, self.body, method=self.method)


@click.command("list", short_help="Print the tasks of the logon session.")
@server_options
@talk_options
def list_tasks(*, server: Server, talk: Talk) -> int:
    """Print the tasks that this logon session knows.

    These are the tasks that were started in it: a fresh logon session usually knows
    none. 'veeam-tasks logon' lets commands share one. The exit status is 0 whatever
    the tasks' results.

    \b
    Examples:
        veeam-tasks list
        veeam-tasks list | jq -r 'select(.succeeded == false).task_id'
    """  # noqa: D301 - click's mark is a real backspace
    connecting = server.connecting()

    async def work() -> Exit:
        async with connecting as em:
            tasks = await em.fetch_all()
        if talk.wants_objects:
            for task in tasks:
                write(task_object(task))
        elif tasks:
            from veeam_tasks.cli._tables import print_tasks  # noqa: PLC0415 - rich

            print_tasks(tasks)
        elif not talk.quiet:
            say("This logon session knows no tasks.")
        return Exit.OK

    return drive(work)


@click.command(short_help="Print one or more tasks.")
@click.argument("ids", nargs=-1, required=True, metavar="IDS...")
@server_options
@talk_options
def get(*, ids: tuple[str, ...], server: Server, talk: Talk) -> int:
    """Print tasks as the server describes them now.

    The exit status is 0 whatever the tasks' results.

    \b
    Examples:
        veeam-tasks get task-1
        veeam-tasks get task-1 task-2 | jq .operation
    """  # noqa: D301 - click's mark is a real backspace
    task_ids = read_ids(ids)
    connecting = server.connecting()

    async def work() -> Exit:
        async with connecting as em:
            status, printed = Exit.OK, 0
            for task_id in task_ids:
                try:
                    task = await em.fetch(task_id)
                except _ABOUT_ONE_TASK as error:
                    status = first_of(status, told(error))
                    continue
                if printed and not talk.wants_objects:
                    click.echo()
                _print(task, talk)
                printed += 1
        return status

    return drive(work)


@click.command(short_help="Start an action and watch its task.")
@click.argument("path")
@click.option(
    "--body",
    "body_file",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="XML to send; - is standard input.",
)
@click.option(
    "--method",
    type=click.Choice(["POST", "PUT", "DELETE"], case_sensitive=False),
    default="POST",
    show_default=True,
)
@click.option("--no-watch", is_flag=True, help="Print the task and end.")
@watch_options
@server_options
@talk_options
def submit(
    *,
    path: str,
    body_file: str | None,
    method: str,
    no_watch: bool,
    server: Server,
    talk: Talk,
    **watching: Any,
) -> int:
    """Send an action that the server answers with a task; watch that task.

    PATH is what stands below /api/ in the server's reference. The action is sent
    once; if no answer came, it may have been carried out all the same.

    \b
    Examples:
        veeam-tasks submit 'jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start'
        veeam-tasks submit cloud/tenants --body tenant.xml --timeout 10m
    """  # noqa: D301 - click's mark is a real backspace
    body = _body(body_file)
    action = _Action(path=path, body=body, method=method.upper())
    if no_watch:
        connecting = server.connecting()
        return drive(lambda: _start_only(action, connecting, server, talk))
    show = make_show(talk)
    connecting = server.connecting(on_notice=show.notice, **watching["options"])
    return show_to_end(
        show, lambda: _start_and_watch(action, connecting, show, watching)
    )


@click.command(short_help="Let the server forget tasks.")
@click.argument("ids", nargs=-1, required=True, metavar="IDS...")
@server_options
@talk_options
def delete(*, ids: tuple[str, ...], server: Server, talk: Talk) -> int:
    """Delete tasks: the server forgets them.

    Whether that stops their work as well, the vendor's pages leave open.

    \b
    Examples:
        veeam-tasks delete task-1
        veeam-tasks delete task-1 task-2
    """  # noqa: D301 - click's mark is a real backspace
    task_ids = read_ids(ids)
    connecting = server.connecting()

    async def work() -> Exit:
        async with connecting as em:
            status = Exit.OK
            for task_id in task_ids:
                try:
                    await em.delete(task_id)
                except _ABOUT_ONE_TASK as error:
                    status = first_of(status, told(error))
                    continue
                if talk.wants_objects:
                    write({"task_id": task_id, "deleted": True})
                elif not talk.quiet:
                    click.echo(f"{task_id} deleted")
        return status

    return drive(work)


async def _start_only(
    action: _Action, connecting: Connecting, server: Server, talk: Talk
) -> Exit:
    async with connecting as em:
        task = await action.send(em)
        _print(task, talk)
    if not server.is_adopted and not talk.quiet:
        warn(
            f"the logon session of {task.task_id} has ended with this command, and"
            " another may not know it; 'veeam-tasks logon' keeps one open"
        )
    return Exit.OK


async def _start_and_watch(
    action: _Action, connecting: Connecting, show: Show, watching: Mapping[str, Any]
) -> Exit:
    async with connecting as em:
        task = await action.send(em)
        watch = em.watch(task, timeout=watching["timeout"])
        show.begin(f"Watching {task.task_id} at {em.url}", 1)
        return await follow(watch, show, fail_fast=watching["fail_fast"])


def _body(file: str | None) -> str | None:
    if file is None:
        return None
    return standard_input() if file == "-" else read_text(file, "--body")


def _print(task: vt.Task, talk: Talk) -> None:
    if talk.wants_objects:
        write(task_object(task))
        return
    from veeam_tasks.cli._tables import print_task  # noqa: PLC0415 - rich

    print_task(task)
