"""The command `veeam-tasks`: what it is called with, and its sub-commands."""

from typing import Final

import click

from veeam_tasks import __version__
from veeam_tasks.cli._actions import actions
from veeam_tasks.cli._command import Command, Group
from veeam_tasks.cli._jobs import jobs, read
from veeam_tasks.cli._logon import fingerprint, logon, logout
from veeam_tasks.cli._repl import repl
from veeam_tasks.cli._runner import Exit
from veeam_tasks.cli._simulate import simulate
from veeam_tasks.cli._tasks import delete, get, list_tasks, submit
from veeam_tasks.cli._watch import watch


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(
    __version__,
    "-V",
    "--version",
    package_name="veeam-tasks",
    prog_name="veeam-tasks",
)
def main() -> None:
    """Watch the tasks of a Veeam Backup Enterprise Manager.

    Try it without a server: veeam-tasks watch --simulate 20

    'veeam-tasks COMMAND --help' is one screen, 'veeam-tasks help COMMAND' all of it,
    'veeam-tasks help' has the exit statuses.
    """


STATUSES: Final = """\
Exit status, the first that applies:
    130  interrupted (143 by SIGTERM, 129 by a terminal that went away)
    2    wrong usage
    4    logon or permission refused: stop, a retry may lock the account
    3    the server was not reached or trusted, or answered with an error; or
         standard output could not be written
    124  out of time
    1    a task failed or was lost
    0    otherwise

A task ID is known only to the logon session that started the task. Start and watch
it with one command ('submit'), or let commands share a logon session ('logon').
"""


@click.command("help", cls=Command, short_help="Explain a command, all of it.")
@click.argument("command", required=False)
def help_(*, command: str | None) -> int:
    """Explain a command with all of its options; without one, list the commands."""
    root = click.get_current_context().find_root()
    if command is None:
        click.echo(f"{root.get_help()}\n\n{STATUSES}", nl=False)
        return Exit.OK
    found = main.get_command(root, command)
    if found is None:
        known = ", ".join(main.list_commands(root))
        text = f"there is no command {command!r}; there are: {known}"
        raise click.UsageError(text)
    context = click.Context(found, parent=root, info_name=command)
    assert isinstance(found, Command)
    click.echo(found.whole_help(context))
    return Exit.OK


@click.command("version", cls=Command, short_help="Print the version.")
def version() -> int:
    """Print the version."""
    click.echo(f"veeam-tasks, version {__version__}")
    return Exit.OK


for _command in (
    *(watch, submit, jobs, actions, list_tasks, get, delete, read),
    *(logon, logout, fingerprint, repl, simulate, help_, version),
):
    main.add_command(_command)
