"""Which tasks: IDs from the command line, from standard input and from files."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from veeam_tasks._address import task_id_of
from veeam_tasks._text import visible


def read_ids(arguments: Iterable[str], file: str | None = None) -> list[str]:
    """Return the task IDs that are named, each once, in that order.

    A file or standard input holds IDs or Hrefs between blanks, lines of JSON with a
    ``task_id`` in them, such as the other commands print, and comments after ``#``.

    Args:
        arguments: IDs or Hrefs; ``-`` stands for standard input.
        file: A path, or ``-``.

    Raises:
        click.UsageError: Something is no task ID, or cannot be read.
    """
    ids: dict[str, None] = {}
    for argument in arguments:
        if argument == "-":
            ids.update(dict.fromkeys(_ids_in(standard_input(), "standard input")))
        else:
            ids[_checked(argument, "")] = None
    if file == "-":
        ids.update(dict.fromkeys(_ids_in(standard_input(), "standard input")))
    elif file is not None:
        shown = visible(file)
        ids.update(dict.fromkeys(_ids_in(read_text(file, "--file"), shown)))
    return list(ids)


def read_text(file: str, option: str) -> str:
    """Return the text of a file.

    Raises:
        click.UsageError: It cannot be read.
    """
    shown = visible(file)
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = f"{option}: {shown} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"{option}: {shown} is no text in UTF-8"
    raise click.UsageError(problem)


def standard_input() -> str:
    """Return the text of standard input.

    Raises:
        click.UsageError: It cannot be read, or is no text.
    """
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except OSError as error:
        problem = f"standard input cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "standard input is no text in UTF-8"
    raise click.UsageError(problem)


def _ids_in(text: str, whence: str) -> list[str]:
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"line {number} of {whence}: "
        if line.lstrip().startswith("{"):
            found.append(_checked(_member(line, where), where))
        else:
            words = line.partition("#")[0].split()
            found.extend(_checked(word, where) for word in words)
    return found


def _member(line: str, where: str) -> str:
    try:
        value = json.loads(line)["task_id"]
    except (ValueError, KeyError):
        value = None
    if isinstance(value, str):
        return value
    problem = f"{where}no JSON object with a task_id in it"
    raise click.UsageError(problem)


def _checked(word: str, where: str) -> str:
    try:
        return task_id_of(word)
    except ValueError as error:
        problem = f"{where}{error}"
    raise click.UsageError(problem)
