"""What people read on standard error: one line each, in the words of the shell."""

import re
import sys
import textwrap
from typing import Final

import click

from veeam_tasks._text import visible
from veeam_tasks.cli._streams import columns_of, tell

ONLY_ITS_OWN: Final = "A task belongs to the logon session that started it"
"""How the package begins to explain why a fresh logon knows no task."""

SHARE: Final = (
    "start and watch it with one command ('submit'), or let commands share a logon"
    " session ('veeam-tasks logon --help')"
)

_FEWEST_COLUMNS: Final = 20
_NAMES: Final = (
    "ca_file|request_timeout|max_in_flight|api_version|fingerprint|patience|proxy"
    "|accept|timeout|insecure"
)
_ANEW: Final = (
    'The logon session of VEEAM_EM_TOKEN has ended: eval "$(veeam-tasks logon)" again,'
    " or unset VEEAM_EM_TOKEN"
)
_SPOKEN: Final[tuple[tuple[str, str], ...]] = (
    (r"username= and password=", "--username and VEEAM_EM_PASSWORD"),
    (rf"(?<![-\w])({_NAMES})=(?:True\b)?(?=$|[\s.,;:)])", r"--\1"),
    (rf"(?<![-\w])({_NAMES})=(?:True\b)?", r"--\1 "),
    (rf"(?<![-\w])({_NAMES})(?=[:,] | and | must )", r"--\1"),
    (r"(?<=--fingerprint )\"([^\"]*)\"", r"\1"),
    (r"see with fetch_all\(\)", "see with 'list'"),
    (r" until open\(\)", ""),
    (r"^token is", "VEEAM_EM_TOKEN is"),
    (r"^session_id is", "VEEAM_EM_SESSION_ID is"),
    (r", or pass a Link or its href", ""),
    (r", or pass a Link of the server, whose path alone is used", ""),
    (r"The adopted token is dead: its logon session has ended.*", _ANEW),
    (r", a Task, or", " or"),
    (
        rf"(?: A task is known[^.]*\.)? ({ONLY_ITS_OWN})[^:]*:[^:]*$",
        rf" \1, and this one knows none of those it was asked for: {SHARE}",
    ),
)


def spoken(text: str) -> str:
    """Return what the package said with the names of the shell's options in it."""
    for pattern, words in _SPOKEN:
        text = re.sub(pattern, words, text)
    return re.sub(r"--[a-z_]+", lambda found: found[0].replace("_", "-"), text)


def complain(text: str, context: click.Context | None = None) -> None:
    """Print one line about what went wrong."""
    if context is None:
        context = click.get_current_context(silent=True)
    name = "veeam-tasks" if context is None else context.command_path
    say(f"{name}: {text}")


def warn(text: str) -> None:
    """Print one line about what is dangerous, but goes on."""
    complain(f"warning: {text}")


def say(text: str) -> None:
    """Print one line for people, flushed; control characters are made visible.

    A terminal gets it in lines of its width, broken between words.
    """
    text = visible(text)
    if sys.stderr.isatty():
        columns = max(_FEWEST_COLUMNS, columns_of(sys.stderr))
        text = textwrap.fill(
            text, columns, break_long_words=False, break_on_hyphens=False
        )
    tell(text)
