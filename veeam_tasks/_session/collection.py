"""The pages of a collection of tasks, read so that the loop is never held for long.

``GET /tasks`` answers with every task of the logon session (``tasks`` reference page);
queries come in pages, so a link to a next one is followed wherever it stands, and a
page that is not the last of its PagesCount is followed without one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar, TypeVarTuple, Unpack

import anyio.to_thread
import attrs
from anyio.lowlevel import RunVar

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol import slices as _slices
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets, quoted

LONGEST_HOLD = 0.003
"""Seconds of work after which the loop is let go. It is to be held for less than 10 ms,
and the piece of work under way comes on top of this."""

_MOST_PAGES = 10_000
_PAGE = re.compile(r"[?&]page=([0-9]{1,9})(?=&|$)", re.ASCII | re.IGNORECASE)
_PORTION = 64
# Some 500 tasks in JSON, which take 6 ms; the interpreter takes turns every 5 ms.
_LONG = 1 << 17

# One thread a loop, and none of those that the application's own work may have taken.
# A thread that parses keeps the interpreter's lock for up to 5 ms at a time, and the
# loop, which gives it up whenever it sends, would wait for one after the other.
_thread: RunVar[anyio.CapacityLimiter] = RunVar("veeam_tasks parses")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Found = dict[str, bytes | Task]
"""Tasks by ID, decoded or still as the slice of a body."""


async def parsed(
    parse: Callable[[Reply, Unpack[Ts]], T], reply: Reply, *args: *Ts
) -> T:
    """Return what `parse` makes of a reply, in a thread if that is long.

    Raises:
        Exception: Whatever `parse` raises.
    """
    if len(reply.body) < _LONG:
        return parse(reply, *args)
    try:
        thread = _thread.get()
    except LookupError:
        thread = anyio.CapacityLimiter(1)
        _thread.set(thread)
    return await anyio.to_thread.run_sync(parse, reply, *args, limiter=thread)


@attrs.define(eq=False)
class TimeSlice:
    """Tells when the loop has been held for long enough, and lets it go."""

    loop: asyncio.AbstractEventLoop
    _until: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._until = self.loop.time() + LONGEST_HOLD

    @property
    def is_over(self) -> bool:
        """Whether it is time for `renew`; cheaper to ask than to await."""
        return self.loop.time() > self._until

    async def renew(self) -> None:
        """Let everything else that is ready go first."""
        await asyncio.sleep(0)
        self._until = self.loop.time() + LONGEST_HOLD

    def chunks(self, items: Iterable[T], size: int = _PORTION) -> "_Chunks[T]":
        """Return what gives so many items at once, and lets the loop go in between."""
        return _Chunks(self, iter(items), size)


@attrs.define(eq=False)
class _Chunks(Generic[T]):
    """No asynchronous generator, since one that is left early is ended by the loop."""

    _time_slice: TimeSlice
    _items: Iterator[T]
    _size: int

    def __aiter__(self) -> "_Chunks[T]":
        return self

    async def __anext__(self) -> list[T]:
        if self._time_slice.is_over:
            await self._time_slice.renew()
        chunk = list(islice(self._items, self._size))
        if not chunk:
            raise StopAsyncIteration
        return chunk


@attrs.define(eq=False, kw_only=True)
class CollectionReader:
    """Reads a collection page by page: cuts what can be cut, decodes the rest.

    Args:
        loop: Whose clock tells how long it has been held.
        shown: What is asked for, as people may see it.
        limit: How many bytes all pages together may have.

    Attributes:
        found: What was read so far, in the server's order.
        size: Bytes of the pages read so far.
    """

    loop: asyncio.AbstractEventLoop
    shown: str
    limit: int
    secrets: Secrets
    found: Found = attrs.field(factory=Found)
    size: int = 0
    _next: str | None = "tasks"
    _asked: str = ""
    _seen: set[str] = attrs.field(factory=set)
    _cut: Reply | None = None
    _slice: TimeSlice = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._slice = TimeSlice(self.loop)

    @property
    def count(self) -> int:
        """How many pages were asked for."""
        return len(self._seen)

    def next_path(self) -> str | None:
        """Return the path of the page to ask for next; None after the last one.

        Raises:
            MalformedReplyError: The pages go on without end.
        """
        path = self._next
        if path is None:
            return None
        if path in self._seen or self.count >= _MOST_PAGES:
            shown = quoted(self.secrets.hide_in_path(path))
            problem = f"after {self.count} pages it goes on at {shown} without end"
            raise MalformedReplyError(request=self.shown, problem=problem)
        self._seen.add(path)
        self._asked = path
        return path

    async def read(self, reply: Reply) -> None:
        """Add what one page holds.

        Raises:
            MalformedReplyError: It is no page of tasks, or not the one that was asked
                for; it leads on, but shows nothing new; or all together are too long.
        """
        self.size += len(reply.body)
        if self.size > self.limit:
            problem = f"its pages have more than {self.limit} bytes"
            raise MalformedReplyError(request=reply.request, problem=problem)
        await self._slice.renew()
        slices = await self._slices_of(reply)
        if slices is not None:
            self.found |= slices
            self._cut, self._next = reply, None
            return
        page = await self._parsed(reply)
        before = len(self.found)
        self.found.update((task.task_id, task) for task in page.tasks)
        self._next = page.next_path or _after(page, self._asked)
        self._check(page, reply, is_news=len(self.found) > before)
        await self._slice.renew()

    def _check(self, page: _replies.Page, reply: Reply, *, is_news: bool) -> None:
        """Refuse what would have all the pages that there may be asked for in vain."""
        asked = _PAGE.search(self._asked)
        if asked is not None and page.number not in {None, int(asked[1])}:
            problem = f"it is page {page.number}, although {asked[1]} was asked for"
        elif self._next is not None and not is_news:
            shown = quoted(self.secrets.hide_in_path(self._next))
            problem = f"it goes on at {shown}, although it shows no new task"
        else:
            return
        raise MalformedReplyError(request=reply.request, problem=problem)

    async def _slices_of(self, reply: Reply) -> Found | None:
        slices = Found()
        try:
            async for (portion,) in self._slice.chunks(_slices.split(reply), 1):
                slices |= portion
        except DocumentError:
            return None
        return slices

    async def decode(self, part: Found) -> Mapping[str, Task] | None:
        """Return some of `found`, decoded; None if a slice does not stand for itself.

        Then none of the slices is to be relied on: ask for `decode_whole`.
        """
        tasks = {key: piece for key, piece in part.items() if type(piece) is Task}
        slices = {key: piece for key, piece in part.items() if type(piece) is bytes}
        async for chunk in self._slice.chunks(slices.items()):
            assert self._cut is not None
            try:
                decoded = _slices.decode_slices(self._cut, dict(chunk), self.secrets)
            except MalformedReplyError:
                return None
            tasks.update((task.task_id, task) for task in decoded)
        return tasks

    async def decode_whole(self) -> Mapping[str, Task]:
        """Return all tasks, having parsed the page that was cut as a whole.

        Raises:
            MalformedReplyError: It is no page of tasks after all.
        """
        assert self._cut is not None
        tasks = {key: each for key, each in self.found.items() if type(each) is Task}
        whole = await self._parsed(self._cut)
        return tasks | {task.task_id: task for task in whole.tasks}

    async def _parsed(self, reply: Reply) -> _replies.Page:
        """Return a page that cannot be cut."""
        return await parsed(_replies.decode_tasks, reply, self.secrets)

    async def tasks(self) -> list[Task]:
        """Return every task, in the server's order.

        Raises:
            MalformedReplyError: It is no collection of tasks after all.
        """
        tasks = await self.decode(self.found)
        if tasks is None:
            tasks = await self.decode_whole()
        return list(tasks.values())


async def read_collection(
    pages: CollectionReader,
    send: Callable[[str], Awaitable[Reply | None]],
    is_known: Callable[[Reply], bool] = lambda _: False,
) -> Reply | None:
    """Read all pages of a collection that belong to one logon session.

    Args:
        pages: What reads them.
        send: GETs a page; None if the logon session is another than that of the first.
        is_known: Tells whether a page says nothing new, so that it need not be read,
            nor any further one.

    Returns:
        The last page; None if the logon session was renewed meanwhile.

    Raises:
        StatusError, MalformedReplyError: A page is none.
        VeeamTasksError: Whatever `send` raises.
    """
    reply: Reply | None = None
    while (path := pages.next_path()) is not None:
        reply = await send(path)
        if reply is None:
            return None
        if not reply.is_success:
            raise _replies.status_error(reply, pages.secrets)
        if is_known(reply):
            break
        await pages.read(reply)
    return reply


def _after(page: _replies.Page, asked: str) -> str | None:
    """Return where the page after one without a link is; None if it is the last."""
    if page.number is None or page.pages is None or page.number >= page.pages:
        return None
    path, _, query = asked.partition("?")
    kept = [part for part in query.split("&") if not part.lower().startswith("page=")]
    return f"{path}?{'&'.join(filter(None, (*kept, f'page={page.number + 1}')))}"
