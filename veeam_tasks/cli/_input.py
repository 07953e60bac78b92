"""What is read from the command line, standard input and files: IDs and texts."""

import codecs
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._messages import visible

_PORTS: Final = {"https": (9398, 443), "http": (9399, 80)}
_TASK: Final = re.compile(
    r"(?:(?P<before>[^\s?#\\]*/)?tasks/)?(?P<id>task-[0-9]{1,32})"
)
_OF_SERVER: Final = re.compile(
    r"(?!tasks/)(?P<server>[^\s/?#:]+)/(?P<id>task-[0-9]{1,32})"
)
_LONGEST_SHOWN = 80


@attrs.frozen(kw_only=True)
class TaskName:
    """A task as somebody named it.

    Attributes:
        task_id: Its ID.
        href: Where it was said to be, as a URL; None if only the ID was named.
        server: The name of its server, as in ``prod/task-7``; "" if none was named.
    """

    task_id: str
    href: str | None = None
    server: str = ""


def read_names(arguments: Iterable[str], file: str | None = None) -> list[TaskName]:
    """Return the tasks that are named, each once, in that order.

    A file or standard input holds IDs or Hrefs between blanks, lines of JSON with a
    ``task_id`` in them, such as the other commands print, and comments after ``#``.

    Args:
        arguments: IDs or Hrefs; ``-`` stands for standard input.
        file: A path, or ``-``.

    Raises:
        click.UsageError: Something is no task ID, or cannot be read.
    """
    found: list[TaskName] = []
    for argument in arguments:
        if argument == "-":
            found += _names_in(standard_input(), "standard input")
        else:
            found.append(_name(argument, ""))
    if file == "-":
        found += _names_in(standard_input(), "standard input")
    elif file is not None:
        found += _names_in(read_text(file, "--file"), visible(file))
    keys = {(name.server, name.task_id, name.href): name for name in found}
    return list(keys.values())


async def checked_ids(em: "vt.SessionManager", names: Iterable[TaskName]) -> list[str]:
    """Return the IDs, each once, if all of them are tasks of this server.

    A server may know itself by another name than we do: what its own logon session
    says of where it is counts as well, and is asked for if it matters.

    Raises:
        click.UsageError: An Href is that of another server.
        VeeamTasksError: The server could not be asked for its own name.
    """
    places = _places(em.url)
    is_asked = False
    ids: dict[str, None] = {}
    for name in names:
        if name.server:
            text = (
                f"{name.server}/{name.task_id} names a server, which only watch takes:"
                f" write --server {name.server} {name.task_id}"
            )
            raise click.UsageError(text)
        if name.href is not None and not _places(name.href) & places:
            if not is_asked:
                is_asked = True
                places |= await _own_places(em)
            if not _places(name.href) & places:
                problem = (
                    f"{visible(name.href)} is a task of another server than {em.url};"
                    f" if you mean the one here, write {name.task_id}"
                )
                raise click.UsageError(problem)
        ids[name.task_id] = None
    return list(ids)


async def _own_places(em: "vt.SessionManager") -> set[tuple[str, int]]:
    """Return where the server says that it is, in the links of our logon session."""
    if em.session_id is None:
        return set()
    try:
        found = await em.read(f"logonSessions/{em.session_id}")
    except vt.StatusError:
        return set()
    places: set[tuple[str, int]] = set()
    for href in _hrefs(found):
        places |= _places(href)
    return places


def _hrefs(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.lower().lstrip("@") == "href" and isinstance(inner, str):
                yield inner
            else:
                yield from _hrefs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _hrefs(inner)


def _places(url: str) -> set[tuple[str, int]]:
    """Return host and port of a URL; without a port, those that it may mean."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return set()
    if not host:
        return set()
    ports = _PORTS.get(parts.scheme, ()) if port is None else (port,)
    return {(host.rstrip(".").lower(), one) for one in ports}


def read_text(file: str, option: str) -> str:
    """Return the text of a file.

    Raises:
        click.UsageError: It cannot be read.
    """
    shown = visible(file)
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        problem = f"{option}: {shown} cannot be read: {error.strerror}"
    else:
        return decoded(content, f"{option}: {shown}")
    raise click.UsageError(problem)


def standard_input() -> str:
    """Return the text of standard input.

    Raises:
        click.UsageError: It cannot be read, or is no text.
    """
    try:
        content = sys.stdin.buffer.read()
    except OSError as error:
        problem = f"standard input cannot be read: {error.strerror}"
    else:
        return decoded(content, "standard input")
    raise click.UsageError(problem)


def decoded(content: bytes, whence: str) -> str:
    """Return a text in UTF-8, or in UTF-16 if it says so as Windows PowerShell does.

    Raises:
        click.UsageError: It is neither.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        problem = f"{whence} is no text in UTF-8"
    raise click.UsageError(problem)


def _names_in(text: str, whence: str) -> list[TaskName]:
    found: list[TaskName] = []
    # Not by splitlines: a message in JSON may have a U+2028 in it.
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"line {number} of {whence}: "
        if line.lstrip().startswith("{"):
            found.append(_name(_member(line, where), where))
        else:
            words = line.partition("#")[0].split()
            found.extend(_name(word, where) for word in words)
    return found


def _member(line: str, where: str) -> str:
    try:
        found = json.loads(line)
        value, server = found["task_id"], found.get("server")
    except (ValueError, KeyError, RecursionError):
        value = server = None
    if isinstance(value, str):
        return f"{server}/{value}" if isinstance(server, str) else value
    problem = f"{where}no JSON object with a task_id in it"
    raise click.UsageError(problem)


def _name(word: str, where: str) -> TaskName:
    plain = word.partition("?")[0]
    of_server = _OF_SERVER.fullmatch(plain)
    if of_server is not None:
        return TaskName(task_id=of_server["id"], server=of_server["server"])
    found = _TASK.fullmatch(plain)
    if found is not None and plain.isascii():
        is_url = "://" in (found["before"] or "")
        return TaskName(task_id=found["id"], href=plain if is_url else None)
    shown = visible(plain[:_LONGEST_SHOWN]) if "@" not in plain else "this"
    problem = (
        f"{where}{shown!r} names no task: pass an ID like 'task-7' or the Href of one,"
        " which ends in /tasks/task-7"
    )
    raise click.UsageError(problem)
