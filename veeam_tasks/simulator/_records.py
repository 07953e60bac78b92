"""What happened at the server, kept for assertions."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar, overload
from urllib.parse import parse_qsl

import attrs

Entry = TypeVar("Entry")
# A session ID is as secret as its token.
_SESSION: Final = re.compile(r"(/logonSessions/).+", re.IGNORECASE)


def path_without_secrets(path: str) -> str:
    """Return a path as it may be shown: no session ID, no control character."""
    shown = _SESSION.sub(r"\1[hidden]", path)
    return shown.encode("unicode_escape").decode("ascii")


@attrs.frozen(kw_only=True)
class RequestRecord:
    """One request that arrived and what was answered.

    Attributes:
        number: Counted from 1.
        time: Seconds since the server was started.
        method: The HTTP method.
        path: The path with ``/api``, decoded, without the query.
        query: The query as it came, without its question mark, encoded.
        headers: The headers in the order and spelling in which they came.
        body: The body.
        status: The HTTP status answered; 0 if a fault left none.
        connection: The number of the connection, counted from 1.
        fault: The kind of the fault that spoiled the reply, or None.
    """

    number: int
    time: float
    method: str
    path: str = attrs.field(repr=lambda path: repr(_SESSION.sub(r"\1[hidden]", path)))
    query: str = ""
    headers: Sequence[tuple[str, str]] = attrs.field(default=(), repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    status: int
    connection: int
    fault: str | None = None

    def header(self, name: str) -> str | None:
        """Return the first header of that name, whatever its case, or None."""
        wanted = name.lower()
        return next((text for key, text in self.headers if key.lower() == wanted), None)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query, decoded; of a repeated name the last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@attrs.frozen(kw_only=True)
class LogonRecord:
    """One attempt to log on.

    Attributes:
        time: Seconds since the server was started.
        username: The account as it was given, or None if none could be read.
        accepted: Whether it was let in.
        reason: Why it was refused; empty if accepted.
        interface_version: The ``v=`` asked for; empty if none.
        connection: The number of the connection.
    """

    time: float
    username: str | None
    accepted: bool
    reason: str = ""
    interface_version: str = ""
    connection: int = 0


class Records(Sequence[Entry], Generic[Entry]):
    """Records in the order in which they came; only the newest are kept.

    Attributes:
        total: How many there were, with those no longer kept.
    """

    def __init__(self, keep: int) -> None:
        self.total = 0
        self._kept: deque[Entry] = deque(maxlen=keep)

    def append(self, entry: Entry) -> None:
        """Add one."""
        self.total += 1
        self._kept.append(entry)

    def clear(self) -> None:
        """Forget all of them, and the total."""
        self.total = 0
        self._kept.clear()

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        return (
            list(self._kept)[index] if isinstance(index, slice) else self._kept[index]
        )

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Entry]:
        # A copy: the server may go on while a test in another thread looks.
        return iter(tuple(self._kept))

    def __repr__(self) -> str:
        return f"<Records {self.total}, {len(self._kept)} kept>"


@attrs.frozen(kw_only=True)
class Connections:
    """Connections to the server, counted.

    Attributes:
        open: Open now.
        peak: The most that were open at one time.
        total: All that were ever opened.
    """

    open: int
    peak: int
    total: int
