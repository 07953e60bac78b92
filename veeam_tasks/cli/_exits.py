"""How a command ends: its exit status, and an output that cannot be written.

Apart, so that the help loads nothing that a watch needs: see `_runner`.
"""

import signal
import sys
from enum import IntEnum
from typing import Final

from veeam_tasks.cli._messages import complain
from veeam_tasks.cli._streams import hush, is_output_broken


class Exit(IntEnum):
    """Exit statuses; of several that apply, the one that stands first here."""

    INTERRUPTED = 130
    TERMINATED = 143
    HUNG_UP = 129
    USAGE = 2
    REFUSED = 4
    SERVER = 3
    TIMEOUT = 124
    FAILED = 1
    OK = 0


_ORDER = list(Exit)
# Windows has no SIGHUP: there a closed console ends a program by itself.
STATUS_OF_SIGNAL: Final = {
    number: status
    for name, status in (
        ("SIGINT", Exit.INTERRUPTED),
        ("SIGTERM", Exit.TERMINATED),
        ("SIGBREAK", Exit.TERMINATED),
        ("SIGHUP", Exit.HUNG_UP),
    )
    if (number := getattr(signal, name, None)) is not None
}


def first_of(*statuses: Exit) -> Exit:
    """Return the status that counts when several apply."""
    return min(statuses, key=_ORDER.index, default=Exit.OK)


def report_output(error: OSError) -> Exit:
    """Print a line about a standard output that failed; return the exit status.

    Raises:
        OSError: It was something else.
    """
    if isinstance(error, BrokenPipeError):
        # Nobody reads any more, and that is no failure.
        hush(sys.stdout)
        return Exit.OK
    if not is_output_broken():
        raise error
    hush(sys.stdout)
    complain(f"standard output could not be written: {error.strerror or error}")
    return Exit.SERVER
