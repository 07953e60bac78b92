"""What people read on standard error: one line each, in the words of the shell."""

import re
import sys
from collections.abc import Mapping
from typing import Final

import click

from veeam_tasks._text import visible

_SPOKEN: Final[Mapping[str, str | None]] = {
    r'pass fingerprint="([^"]*)"': r"pass --fingerprint \1",
    r"\b(?:pass )?username= and password=": "pass --username and VEEAM_EM_PASSWORD",
    r"\bpass insecure=True": "pass --insecure",
    r"\binsecure=True": "--insecure",
    r"\binsecure\b(?=:| and |,)": "--insecure",
    r"\b(ca_file|request_timeout|max_in_flight|api_version)(?==|\b)(=?)": None,
    r"(?<![-\w])(fingerprint|patience|proxy|accept|timeout)=": r"--\1 ",
    r"look for its task with fetch_all\(\)": "look for its task with 'list'",
    r" until open\(\), so that": ", so that",
    r" until open\(\)": "",
}


def spoken(text: str) -> str:
    """Return what the package said with the names of the shell's options in it."""
    for pattern, words in _SPOKEN.items():
        text = re.sub(pattern, _option if words is None else words, text)
    return text


def _option(found: "re.Match[str]") -> str:
    return f"--{found[1].replace('_', '-')}{' ' if found[2] else ''}"


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
    """Print one line for people, flushed; control characters are made visible."""
    click.echo(visible(text), err=True)
    sys.stderr.flush()
