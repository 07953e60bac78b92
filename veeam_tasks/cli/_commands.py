"""The sub-commands."""

from typing import Final

import click

from veeam_tasks.cli._repl import repl
from veeam_tasks.cli._sessions import fingerprint, logon, logout
from veeam_tasks.cli._simulate import simulate
from veeam_tasks.cli._tasks import delete, get, list_tasks, submit
from veeam_tasks.cli._watch import watch

COMMANDS: Final[tuple[click.Command, ...]] = (
    watch,
    submit,
    list_tasks,
    get,
    delete,
    logon,
    logout,
    fingerprint,
    repl,
    simulate,
)
