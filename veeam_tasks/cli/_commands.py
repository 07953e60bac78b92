"""The sub-commands, in the order in which help shows them."""

from typing import Final

import click

from veeam_tasks.cli._watch import watch

COMMANDS: Final[tuple[click.Command, ...]] = (watch,)
