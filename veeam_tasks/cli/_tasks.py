"""The commands about single tasks: `list`, `get`, `delete`, `submit`."""

import asyncio
import re
from typing import Final, Literal

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command, option
from veeam_tasks.cli._events import label
from veeam_tasks.cli._exits import Exit, first_of
from veeam_tasks.cli._explain import WORTH, explain
from veeam_tasks.cli._input import checked_ids, read_names, read_text, standard_input
from veeam_tasks.cli._jobs import complete_job, job_named, why_no_jobs
from veeam_tasks.cli._json_lines import task_object, write
from veeam_tasks.cli._messages import complain, say, visible, warn
from veeam_tasks.cli._options import (
    Servers,
    output_options,
    server_options,
    servers_options,
)
from veeam_tasks.cli._pending import note_action
from veeam_tasks.cli._reporters import OutputMode, Reporter, make_reporter
from veeam_tasks.cli._runner import report_error, run_async
from veeam_tasks.cli._server import Logon, Server, checking
from veeam_tasks.cli._several import logons_of
from veeam_tasks.cli._state import State
from veeam_tasks.cli._watch import follow, report_to_end, tell_end
from veeam_tasks.cli._watching import (
    Watching,
    state_option,
    watch_options,
)
from veeam_tasks.jobs import is_job_id

_ABOUT_ONE_TASK: Final = vt.TaskNotFoundError, vt.ForbiddenError
_SERVER_ERROR, _NOT_IMPLEMENTED = 500, 501
_NO_PATH: Final = re.compile(r"\s|^[^/?]*$")


@click.command(
    "list",
    cls=Command,
    short_help="Print the tasks of the logon session.",
    examples=(
        "veeam-tasks list",
        "veeam-tasks list | jq -r 'select(.succeeded == false).task_id'",
    ),
)
@servers_options
@output_options
def list_tasks(*, servers: Servers, output: OutputMode) -> int:
    """Print the tasks that this logon session knows: those that were started in it.

    A logon session that the command itself opens knows none. 'veeam-tasks logon' lets
    commands share one. The exit status is 0 whatever the tasks' results.
    """
    names = servers.names
    if len(names) > 1:
        found = {name: servers.named(name) for name in names}
    else:
        found = {"": servers.sole()}
    logon = logons_of(found)

    async def work() -> Exit:
        lists: dict[str, list[vt.Task]] = {}
        async with logon as logged_on:
            for name, em in logged_on.managers.items():
                lists[name] = await em.fetch_all()
        _print_lists(lists, output)
        for name, tasks in lists.items():
            if not tasks and not output.quiet:
                prefix = f"{name}: " if name else ""
                say(f"{prefix}{_why_empty(found[name])}")
        return logged_on.status

    return run_async(work, on_signal=logon.abort)


def _print_lists(lists: dict[str, list[vt.Task]], output: OutputMode) -> None:
    tasks = [
        attrs.evolve(task, task_id=label(name, task.task_id))
        for name, some in lists.items()
        for task in some
    ]
    if output.wants_objects:
        for name, some in lists.items():
            for task in some:
                write(task_object(task, name))
    elif tasks:
        from veeam_tasks.cli._tables import print_tasks  # noqa: PLC0415 - rich

        print_tasks(tasks)


def _why_empty(server: Server) -> str:
    if server.is_adopted:
        return "This logon session knows no tasks: none was started in it yet."
    return (
        f"This logon session knows no tasks, since it is new. {WORTH};"
        " 'veeam-tasks logon' lets commands share one."
    )


@click.command(
    cls=Command,
    short_help="Print one or more tasks.",
    examples=(
        "veeam-tasks get task-1",
        "veeam-tasks get task-1 task-2 | jq .operation",
    ),
)
@click.argument("ids", nargs=-1, required=True, metavar="IDS...")
@server_options
@output_options
def get(*, ids: tuple[str, ...], server: Server, output: OutputMode) -> int:
    """Print tasks as the server describes them now.

    The exit status is 0 whatever the tasks' results.
    """
    names = read_names(ids)
    logon = server.logon()

    async def work() -> Exit:
        async with logon as em:
            status, printed = Exit.OK, 0
            for task_id in await checked_ids(em, names):
                try:
                    task = await em.fetch(task_id)
                except _ABOUT_ONE_TASK as error:
                    status = first_of(status, report_error(error))
                    continue
                if printed and not output.wants_objects:
                    click.echo()
                _print(task, output)
                printed += 1
        return status

    return run_async(work, on_signal=logon.abort)


@click.command(
    cls=Command,
    short_help="Let the server forget tasks.",
    examples=("veeam-tasks delete task-1 task-2",),
)
@click.argument("ids", nargs=-1, required=True, metavar="IDS...")
@server_options
@output_options
def delete(*, ids: tuple[str, ...], server: Server, output: OutputMode) -> int:
    """Delete tasks: the server forgets them.

    Whether that stops their work as well, the vendor's pages leave open.
    """
    names = read_names(ids)
    logon = server.logon()

    async def work() -> Exit:
        async with logon as em:
            status = Exit.OK
            for task_id in await checked_ids(em, names):
                try:
                    await em.delete(task_id)
                except _ABOUT_ONE_TASK as error:
                    status = first_of(status, report_error(error))
                    continue
                if output.wants_objects:
                    write({"task_id": task_id, "deleted": True})
                elif not output.quiet:
                    click.echo(f"{task_id} deleted")
        return status

    return run_async(work, on_signal=logon.abort)


@attrs.frozen(kw_only=True)
class _Action:
    """What `submit` sends.

    Attributes:
        path: What stands below ``/api/``, or the name of a job.
        job: Whether it is a job's name, or its ID.
        verb: What is done with the job.
        body: XML, or None.
        method: POST, PUT or DELETE.
        watching: Whether it is followed, and where it is noted before it is sent.
    """

    watching: Watching
    path: str
    job: str | None
    verb: str
    body: str | None = attrs.field(repr=False)
    method: Literal["POST", "PUT", "DELETE"]

    async def send(self, em: "vt.SessionManager", server: Server) -> vt.Task:
        """Send it, once.

        Raises:
            click.UsageError: The path or the body cannot be sent, or the job is not
                there.
        """
        path = (
            self.path
            if self.job is None
            else await self._job_path(em, self.job, server)
        )
        file = self.watching.state
        if file is not None:
            await note_action(file, em, server, path=path, method=self.method)
        try:
            with checking(server):
                return await em.submit(
                    path, self.body, method=self.method, follow=self.watching.follow
                )
        except (vt.VeeamTasksError, click.UsageError) as error:
            if file is not None and not _is_uncertain(error):
                await file.save(State())
            raise
        except asyncio.CancelledError:
            look = (
                "see with 'veeam-tasks list'"
                if server.is_adopted
                else "see with 'veeam-tasks jobs' or in the server's console"
            )
            complain(
                "interrupted while the action was sent: it may have been carried out;"
                f" {look} before you send it again"
            )
            raise

    async def _job_path(
        self, em: "vt.SessionManager", name: str, server: Server
    ) -> str:
        if is_job_id(name):
            return f"jobs/{name}?action={self.verb}"
        job = await job_named(em, name)
        if job.name != name and not server.quiet:
            say(f"{self.verb}: {visible(job.name)}")
        return job.action_path(self.verb)


@click.command(
    cls=Command,
    short_help="Start a job or another action, and watch it.",
    examples=(
        'veeam-tasks submit --job "Oracle Backup" --follow',
        "veeam-tasks submit 'jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=stop'",
        "veeam-tasks submit 'security/accounts?action=rebuildScope' --body spec.xml",
    ),
)
@click.argument("path", required=False)
@option(
    "--job",
    metavar="NAME",
    shell_complete=complete_job,
    help="A job: its name, the beginning of its name, or its ID.",
)
@option(
    "--action",
    type=click.Choice(["start", "stop", "retry", "sync", "toggleScheduleEnabled"]),
    metavar="WHAT",
    help="start (default), stop, retry, sync, toggleScheduleEnabled.",
)
@option(
    "--body",
    "body_file",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="XML to send; - is standard input.",
)
@option(
    "--method",
    type=click.Choice(["POST", "PUT", "DELETE"], case_sensitive=False),
    metavar="METHOD",
    help="POST, PUT or DELETE. [default: POST]",
)
@option("--no-watch", is_flag=True, help="Print the task and end.")
@watch_options
@state_option
@server_options
@output_options
def submit(
    *,
    path: str | None,
    job: str | None,
    action: str | None,
    body_file: str | None,
    method: Literal["POST", "PUT", "DELETE"] | None,
    no_watch: bool,
    watching: Watching,
    server: Server,
    output: OutputMode,
) -> int:
    """Send an action that is answered with a task, once; watch that task.

    PATH is what stands below /api/ in the server's reference, as 'veeam-tasks actions'
    lists it. If no answer comes, the action may have been carried out all the same.
    """
    _check_path(path, job, action)
    work = _Action(
        watching=watching,
        path=path or "",
        job=job,
        verb=action or "start",
        body=None if body_file is None else _body(body_file),
        method=method or "POST",
    )
    if no_watch and watching.follow:
        text = "--follow watches what was started to its end; --no-watch does not"
        raise click.UsageError(text)
    if no_watch:
        logon = server.logon(patience=watching.patience)
        return run_async(
            lambda: _start_only(work, logon, server, output), on_signal=logon.abort
        )
    reporter = make_reporter(output)
    logon = server.logon(on_notice=reporter.notice, **watching.options)
    return report_to_end(
        reporter,
        lambda: _start_and_watch(work, logon, server, reporter, watching),
        watching,
        logon,
    )


def _check_path(path: str | None, job: str | None, action: str | None) -> None:
    if path is None and job is None:
        text = (
            "pass what to do: a PATH like 'jobs/ID?action=start', or --job with the"
            " name or the ID of a job"
        )
        raise click.UsageError(text)
    if path is not None and job is not None:
        # Most often a name with a blank in it, which the shell took apart.
        text = (
            f"pass a PATH or --job, not both; if {visible(f'{job} {path}')!r} is the"
            f' name of a job, write: --job "{visible(f"{job} {path}")}"'
        )
        raise click.UsageError(text)
    if job is None and action is not None:
        text = f"--action goes with --job NAME; write ?action={action} into the PATH"
        raise click.UsageError(text)
    if path is not None and _NO_PATH.search(path):
        shown = visible(path)
        text = (
            f"{shown!r} is no path like 'jobs/ID?action=start'; if it is the name of a"
            f' job, write: veeam-tasks submit --job "{shown}"'
        )
        raise click.UsageError(text)


async def _start_only(
    action: _Action, logon: Logon, server: Server, output: OutputMode
) -> Exit:
    async with logon as em:
        try:
            task = await action.send(em, server)
        except vt.ForbiddenError as error:
            return _refused(error)
        if action.watching.state is not None:
            watch = em.watch(task)
            await action.watching.state.save(
                State(checkpoints={"": watch.checkpoint()})
            )
        _print(task, output)
    if not server.is_adopted and not output.quiet:
        warn(
            f"the logon session of {task.task_id} has ended with this command, and"
            " another one does not know it; 'veeam-tasks logon' keeps one open"
        )
    return Exit.OK


async def _start_and_watch(
    action: _Action,
    logon: Logon,
    server: Server,
    reporter: Reporter,
    watching: Watching,
) -> Exit:
    async with logon as em:
        try:
            task = await action.send(em, server)
        except vt.ForbiddenError as error:
            await tell_end(watching, explain(error))
            return _refused(error)
        watch = em.watch(task, **watching.how)
        reporter.progress.is_start = True
        reporter.begin(f"Watching {task.task_id} at {em.url}", 1, em.statistics)
        return await follow({"": watch}, reporter, watching)


def _is_uncertain(error: Exception) -> bool:
    """Tell whether an action may have been carried out although this was raised."""
    if isinstance(error, vt.StatusError):
        return error.status >= _SERVER_ERROR and error.status != _NOT_IMPLEMENTED
    return isinstance(error, vt.SubmitUncertainError | vt.MalformedReplyError)


def _refused(error: vt.ForbiddenError) -> Exit:
    if error.request.startswith("GET "):
        complain(why_no_jobs(error))
        return Exit.REFUSED
    return report_error(error)


def _body(file: str) -> str:
    return standard_input() if file == "-" else read_text(file, "--body")


def _print(task: vt.Task, output: OutputMode) -> None:
    if output.wants_objects:
        write(task_object(task))
        return
    from veeam_tasks.cli._tables import print_task  # noqa: PLC0415 - rich

    print_task(task)
