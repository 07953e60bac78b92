"""The state file of ``--state``: what `resume` goes on with, whatever ended us.

It is written before what it says is told: a process that is killed in between leaves
word of what it may not have told any more, and `resume` tells that again, marked so.
"""

import errno
import json
import math
import os
import stat
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import anyio
import anyio.to_thread
import attrs
import click

from veeam_tasks.cli._events import NamedEvents, Told
from veeam_tasks.cli._messages import complain, say, visible

_VERSION: Final = 1
_KIND: Final = "veeam-tasks state"
_DAMAGED: Final = (
    *(ValueError, TypeError, KeyError, AttributeError),
    *(OverflowError, RecursionError),
)
"""What is raised by the way through a file of any content."""
_LATEST: Final = 1e11
"""Seconds since 1970, in the year 5138."""
_SHORTEST_PAUSE: Final = 1.0
_SHARE: Final = 20
"""How many times as long as it takes to save there is until the next time."""


@attrs.frozen(kw_only=True)
class PendingAction:
    """An action that was about to be sent.

    Attributes:
        path: Of the action.
        method: POST, PUT or DELETE.
        at: When, in seconds since 1970.
        url: Of the server.
        logon: The reference of the logon session.
        tasks: What the logon session knew already; None if nobody asked.
        sessions: IDs of the job's sessions that there were; None if nobody asked.
    """

    path: str
    method: str
    at: float
    url: str
    logon: str | None
    tasks: tuple[str, ...] | None = None
    sessions: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True)
class State:
    """What a state file says.

    Attributes:
        checkpoints: Of each watch, by the name of its server; "" if there is one only.
        telling: What was about to be told: server, task ID, sequence.
        action: What was about to be sent, if nothing is watched yet.
    """

    checkpoints: Mapping[str, Any] = attrs.field(factory=dict)
    telling: frozenset[tuple[str, str, int]] = frozenset()
    action: PendingAction | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to go on with."""
        tasks = [
            task for one in self.checkpoints.values() for task in one.get("tasks", [])
        ]
        is_endless = any(one.get("all") for one in self.checkpoints.values())
        is_all_final = all(task.get("final") for task in tasks)
        return not (is_endless or self.telling or self.action) and is_all_final


class StateFile:
    """A state file that is written whole or not at all, for its owner alone.

    Args:
        path: Where it is; what a link leads to, if it is one.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.realpath(path))
        self.shown = visible(path)
        self._is_told = False

    async def save(self, state: State) -> bool:
        """Write it, onto the disk; return whether that was possible."""
        text = json.dumps(_plain(state), separators=(",", ":"))
        try:
            await anyio.to_thread.run_sync(self._write, text.encode())
        except OSError as error:
            if not self._is_told:
                why = error.strerror or str(error)
                complain(
                    f"--state {self.shown} cannot be written: {why}; the watch goes on,"
                    " but 'veeam-tasks resume' will not know of it"
                )
            self._is_told = True
            return False
        if self._is_told:
            say(f"--state {self.shown} is written again")
        self._is_told = False
        return True

    def _write(self, content: bytes) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(temporary, flags, stat.S_IRUSR | stat.S_IWUSR)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        self._sync_folder()

    def _sync_folder(self) -> None:
        """Let the name of the file be on the disk, too, where a system can do that."""
        with suppress(OSError):
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self, option: str = "") -> State:
        """Return what it says.

        Args:
            option: By which it was named.

        Raises:
            click.UsageError: It is not there, cannot be read, or is damaged.
        """
        try:
            return _parsed(json.loads(self._content()))
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        except _DAMAGED:
            problem = "is no state file of veeam-tasks, or is damaged"
        text = f"{option}{self.shown} {problem}"
        raise click.UsageError(text)

    def _content(self) -> bytes:
        mode = self.path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return self.path.read_bytes()
        # A device or a pipe may have no end.
        raise OSError(errno.EINVAL, "it is no file")

    def check_free(self) -> None:
        """Refuse to begin where something that has not ended would be forgotten.

        Raises:
            click.UsageError: The file holds a watch that has not ended, or is not ours.
        """
        if os.path.lexists(self.path) and not self.read("--state ").has_ended:
            text = (
                f"--state {self.shown} holds a watch that has not ended:"
                f" 'veeam-tasks resume {self.shown}' goes on with it; to begin anew,"
                " delete the file"
            )
            raise click.UsageError(text)


class KeptEvents:
    """Hands out events once it is on the disk that they were; see `StateFile`.

    They are kept back for a second at most, so that a burst of them costs one file.

    Args:
        events: What is read.
        file: Where it is noted.
        others: Checkpoints of servers that are not watched now, which are kept.
    """

    def __init__(
        self, events: NamedEvents, file: StateFile, others: Mapping[str, Any]
    ) -> None:
        self._others = others
        self._events = events
        self._file = file
        self._batch: deque[Told] = deque()
        self._current: Told | None = None
        self._on_disk: frozenset[tuple[str, str, int]] = frozenset()
        self._next_at = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Told:
        self._current = None
        while not self._batch:
            await self._fill()
        self._current = self._batch.popleft()
        return self._current

    async def begin(self) -> None:
        """Note what is watched."""
        await self._save()

    async def finish(self) -> None:
        """Note what was told, and what was taken and could not be told any more."""
        with anyio.CancelScope(shield=True):
            await self._save()

    def note_told(self) -> None:
        """Take note that the last event was told."""
        self._current = None

    async def _fill(self) -> None:
        """Take what there is to read, and note it."""
        # What was told is noted before long, so that it is not told again.
        limit = self._pause() if self._on_disk else math.inf
        with anyio.move_on_after(limit):
            self._batch.append(await anext(self._events))
        if self._batch:
            await anyio.sleep(self._pause())
            await self._take_more()
        await self._save()

    async def _take_more(self) -> None:
        """Take what can be read without waiting; what ends it comes again later."""
        with suppress(StopAsyncIteration, ExceptionGroup):
            while True:
                with anyio.move_on_after(0) as scope:
                    self._batch.append(await anext(self._events))
                if scope.cancelled_caught:
                    return

    def _pause(self) -> float:
        return max(0.0, self._next_at - anyio.current_time())

    async def _save(self) -> None:
        began = time.monotonic()
        untold = [self._current, *self._batch]
        telling = frozenset(_key(one) for one in untold if one is not None)
        checkpoints = {
            name: one.checkpoint() for name, one in self._events.watches.items()
        }
        await self._file.save(State(checkpoints=checkpoints, telling=telling))
        self._on_disk = telling
        cost = time.monotonic() - began
        self._next_at = anyio.current_time() + max(_SHORTEST_PAUSE, _SHARE * cost)


def _key(told: Told) -> tuple[str, str, int]:
    server, event = told
    return server, event.task_id, event.sequence


def _plain(state: State) -> dict[str, Any]:
    action = state.action
    return {
        "kind": _KIND,
        "version": _VERSION,
        "checkpoints": dict(state.checkpoints),
        "telling": sorted(state.telling),
        "action": None if action is None else attrs.asdict(action),
    }


def _parsed(value: Any) -> State:
    if value["kind"] != _KIND or value["version"] != _VERSION:
        text = f"it is of version {value['version']!r}, not {_VERSION}"
        raise ValueError(text)
    checkpoints = dict(value["checkpoints"])
    for one in checkpoints.values():
        tasks = one["tasks"]
        is_list = isinstance(tasks, list) and all(isinstance(t, dict) for t in tasks)
        if not isinstance(one["url"], str) or not is_list:
            text = "a checkpoint without a URL or without tasks"
            raise TypeError(text)
    telling = frozenset((str(a), str(b), int(c)) for a, b, c in value["telling"])
    action = None
    if value["action"] is not None:
        action = _action(value["action"])
    return State(checkpoints=checkpoints, telling=telling, action=action)


def _action(value: Mapping[str, Any]) -> PendingAction:
    at = float(value["at"])
    if not 0 <= at < _LATEST:
        text = "a time that no action was sent at"
        raise ValueError(text)
    return PendingAction(
        path=str(value["path"]),
        method=str(value["method"]),
        at=at,
        url=str(value["url"]),
        logon=None if value["logon"] is None else str(value["logon"]),
        tasks=_ids(value["tasks"]),
        sessions=_ids(value["sessions"]),
    )


def _ids(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(map(str, value))
