"""The command `veeam-tasks`: what it is called with, and its sub-commands."""

from typing import Final

import click

from veeam_tasks import __version__
from veeam_tasks.cli._command import Command, LazyGroup
from veeam_tasks.cli._exits import Exit

PLACES: Final = {
    "watch": ("_watch", "watch", "Watch tasks until they are finished."),
    "submit": ("_tasks", "submit", "Start a job or another action, and watch it."),
    "resume": ("_resume", "resume", "Go on with a watch that was cut short."),
    "jobs": ("_jobs", "jobs", "List the jobs of the server."),
    "actions": (
        "_actions",
        "actions",
        "List the actions that are answered with a task.",
    ),
    "list": ("_tasks", "list_tasks", "Print the tasks of the logon session."),
    "get": ("_tasks", "get", "Print one or more tasks."),
    "delete": ("_tasks", "delete", "Let the server forget tasks."),
    "read": ("_jobs", "read", "Print any resource as JSON."),
    "logon": ("_logon", "logon", "Open a logon session for later commands."),
    "logout": ("_logon", "logout", "End the logon session that 'logon' opened."),
    "fingerprint": (
        "_logon",
        "fingerprint",
        "Print a server's certificate and how to pin it.",
    ),
    "repl": ("_repl", "repl", "Open a Python prompt that is logged on."),
    "simulate": (
        "_simulate",
        "simulate",
        "Run a simulated server to try things against.",
    ),
}
"""Where commands are, and what the list of them says: it loads none of them."""


@click.group(
    cls=LazyGroup,
    places=PLACES,
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
    """Start jobs of a Veeam Backup Enterprise Manager, and watch its tasks.

    Try it without a server: veeam-tasks watch --simulate 20. COMMAND --help is one
    screen, 'help COMMAND' all of it; -V is the version.
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

A task belongs to the logon session that started it. Start and watch
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


for _command in (help_, version):
    main.add_command(_command)
