"""The command `veeam-tasks`: what it is called with, and its sub-commands."""

import click

from veeam_tasks import __version__
from veeam_tasks.cli._commands import COMMANDS


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, package_name="veeam-tasks", prog_name="veeam-tasks")
def main() -> None:
    """Watch the tasks of a Veeam Backup Enterprise Manager.

    A task belongs to the logon session that started it. Start and watch it with one
    command ('submit'), or let commands share a logon session ('logon').

    \b
    To see it work, without a server:
        veeam-tasks watch --simulate 20

    \b
    Exit status, the first that applies:
        130  interrupted (143 by SIGTERM)
        2    wrong usage
        4    logon or permission refused: stop, a retry may lock the account
        3    the server was not reached or trusted, or answered with an error; or
             standard output could not be written
        124  out of time
        1    a task failed or was lost
        0    otherwise
    """  # noqa: D301 - click's mark is a real backspace


for command in COMMANDS:
    main.add_command(command)
