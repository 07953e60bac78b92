"""A checkpoint as it is read: JSON to values, or the error that says what is wrong."""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from veeam_tasks._engine.checkpoint_values import (
    VERSION,
    Checkpoint,
    DamagedError,
    EventMark,
    MachineMark,
    RunMark,
    SessionMark,
    StartMark,
    TaskMark,
    kind_of,
    not_a,
)
from veeam_tasks._errors import (
    ArgumentError,
)

_ADVICE = "pass what Watch.checkpoint() returned, unchanged, or watch the tasks anew"

MarkT = TypeVar("MarkT")

_EVENT_KEYS = frozenset(one.name for one in attrs.fields(EventMark))
_TASK_KEYS = frozenset(one.name for one in attrs.fields(TaskMark)) - {"extra"}
_KEYS = frozenset(one.name for one in attrs.fields(Checkpoint)) - {"extra"}


def read_checkpoint(value: object, url: str, hide: Callable[[str], str]) -> Checkpoint:
    """Return a checkpoint that was written as JSON, checked.

    Args:
        value: What was given.
        url: The URL that it has to be of.
        hide: Hides the secrets of a URL that an error shows.

    Raises:
        ValueError: It is damaged, of another version, or of another URL.
    """
    read = _checked(value)
    if read.url != url:
        raise ArgumentError(
            parameter="checkpoint",
            problem=f"is one of {hide(read.url)}, not of {url}",
            subject="the checkpoint",
        )
    return read


def _checked(value: object) -> Checkpoint:
    if not isinstance(value, Mapping):
        raise _unreadable(value)
    if "kind" in value and "checkpoints" in value:
        raise ArgumentError(
            parameter="checkpoint",
            problem="is a state file of the shell, which holds a checkpoint of each"
            " server",
            subject="the checkpoint",
            advice="pass one of the values of its 'checkpoints'",
        )
    if "version" not in value:
        problem = "it has no version"
        raise refusal(problem)
    version = value["version"]
    if type(version) is not int:
        raise refusal(str(not_a("version", "a number such as 1", version)))
    if version != VERSION:
        newer = version > VERSION
        raise ArgumentError(
            parameter="checkpoint",
            problem=f"is of version {kind_of(version)}, and this program reads"
            f" {VERSION}",
            subject="the checkpoint",
            advice="resume it with the release of veeam_tasks that wrote it" * newer,
        )
    try:
        return _made(
            Checkpoint,
            _known(value, _KEYS - {"tasks", "past"}),
            tasks=tuple(_read_tasks(value.get("tasks"), "tasks", are_sole=True)),
            past=tuple(_read_tasks(value.get("past", []), "past", are_sole=False)),
            extra=_others(value, _KEYS | {"version"}),
        )
    except DamagedError as error:
        problem = str(error)
    raise refusal(problem)


def refusal(problem: str) -> ArgumentError:
    """Return the error of a damaged checkpoint."""
    return ArgumentError(
        parameter="checkpoint",
        problem=problem,
        subject="the checkpoint is damaged:",
        advice=_ADVICE,
    )


def _unreadable(value: object) -> ArgumentError:
    """Return the error of what is no object: often the JSON text, or the watch."""
    advice = _ADVICE
    if isinstance(value, str | bytes | bytearray):
        advice = "pass json.loads() of the text"
    return ArgumentError(
        parameter="checkpoint",
        problem=f"is {_named(value)}, not an object (a dict)",
        subject="the checkpoint",
        advice=advice,
    )


def _named(value: object) -> str:
    kind = type(value).__name__
    return f"a text ({kind})" if isinstance(value, str | bytes | bytearray) else kind


def _read_tasks(value: object, where: str, *, are_sole: bool) -> Iterator[TaskMark]:
    ids: set[str] = set()
    for number, one in enumerate(_list(value, where)):
        try:
            mark = _read_task(_object(one))
        except DamagedError as error:
            failure: DamagedError | None = error.within(f"{where}[{number}]")
        else:
            failure = None
            if mark.id in ids:
                failure = DamagedError(f"{mark.id} is in it twice")
            ids.update([mark.id] if are_sole else [])
        if failure is not None:
            raise failure
        yield mark


def _read_task(value: Mapping[str, Any]) -> TaskMark:
    known = _known(value, _TASK_KEYS - {"delivered"})
    has_event = not _EVENT_KEYS.isdisjoint(value)
    known["delivered"] = _read_event(value) if has_event else None
    for key in ("owed", "next"):
        if key in known:
            known[key] = _within(key, _read_event, known[key])
    if "start" in known:
        known["start"] = _within("start", _read, known["start"], StartMark, "under_way")
    if "run" in known:
        known["run"] = _within("run", _read, known["run"], RunMark, "session")
    return _made(TaskMark, known, extra=_others(value, _TASK_KEYS | _EVENT_KEYS))


def _read_event(value: object) -> EventMark:
    known = _known(_object(value), _EVENT_KEYS)
    if "session" in known:
        known["session"] = _within("session", _read, known["session"], SessionMark)
    machines = _list(known.get("failures", []), "failures")
    known["failures"] = tuple(
        [
            _within(f"failures[{number}]", _read, one, MachineMark)
            for number, one in enumerate(machines)
        ]
    )
    return _made(EventMark, known)


def _read(value: object, kind: type[MarkT], session: str | None = None) -> MarkT:
    """Return a mark of a simple kind, which may hold a job session under a key."""
    known = _known(_object(value), {one.name for one in attrs.fields(kind)})  # type: ignore[arg-type] # an attrs class
    if session is not None and known.get(session) is not None:
        known[session] = _within(session, _read, known[session], SessionMark)
    return _made(kind, known)


def _within(name: str, read: Callable[..., MarkT], value: object, *more: Any) -> MarkT:
    """Read a value that stands under a name; say so of what is wrong with it."""
    try:
        return read(value, *more)
    except DamagedError as error:
        failure = error.within(name)
    raise failure


def _known(value: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: value[key] for key in keys if key in value}


def _others(value: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    others = {key: value[key] for key in value if key not in keys}
    try:
        return copy.deepcopy(others)
    except (TypeError, RecursionError):
        problem = "it holds what JSON cannot hold"
    raise DamagedError(problem)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        problem = f"it is not an object, but {kind_of(value)}"
        raise DamagedError(problem)
    return value


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list | tuple):
        raise not_a(name, "a list", value)
    return list(value)


def _made(kind: type[MarkT], known: Mapping[str, Any], **more: Any) -> MarkT:
    """Return an instance; a list becomes a tuple, since a mark never changes."""
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in known.items()}
    try:
        return kind(**{**plain, **more})
    except TypeError as error:
        # A key that has to be there is not.
        missing = re.findall(r"'(\w+)'", str(error).rpartition(":")[2])
        problem = f"{missing[0]} is missing" if missing else str(error)
    raise DamagedError(problem, is_member=True)
