"""`merge`: the events of many watches, of any managers, in one iterator."""

from collections.abc import Iterable
from types import TracebackType
from typing import NoReturn, Self

from veeam_tasks._engine.engine import check_loop, running_loop
from veeam_tasks._engine.reader import Reader
from veeam_tasks._engine.subscription import Subscription
from veeam_tasks._engine.watch import Watch, counts, events_owed, why_ended
from veeam_tasks._errors import VeeamTasksError, fresh
from veeam_tasks._events import Report, TaskEvent
from veeam_tasks._redaction import NotCopyable, counted, of_the_package

_BUSY = (
    "another coroutine is reading these watches, merged: one reader at a time; make a"
    " second watch of the same tasks, it costs no poll"
)


def merge(*watches: Watch | Iterable[Watch]) -> "MergedWatch":
    """Read many watches as one: an async iterator of ``(watch, event)``.

    The watches may be of different managers; ``watch.manager`` tells of which. Each
    that has something to tell has its turn. One that is cut short does not stop the
    others: when all have ended, an `ExceptionGroup` of what cut the rest short is
    raised.

    Args:
        *watches: What `SessionManager.watch` and `watch_all` return, or one iterable
            of them; doubles collapse.

    Returns:
        What may be iterated, left by ``break`` and iterated on; ``async with`` closes
        the watches at its end.

    Raises:
        TypeError: Something is no `Watch`.
        RuntimeError: A watch belongs to another event loop, or is being read.
    """
    given = list(watches)
    if len(given) == 1 and not isinstance(given[0], Watch):
        if not isinstance(given[0], Iterable):
            _refuse(given[0])
        given = list(given[0])
    sole: dict[Watch, None] = {}
    for watch in given:
        if not isinstance(watch, Watch):
            _refuse(watch)
        sole[watch] = None
    return MergedWatch(sole)


def _refuse(value: object) -> NoReturn:
    text = f"merge() takes watches, not {type(value).__name__}"
    raise TypeError(text)


class MergedWatch(NotCopyable):
    """Reads many watches as one; an async iterator of ``(watch, event)``.

    Made by `merge`. It keeps no events: they stay with their watches, each of which
    may still be added to, closed or reported on. Iteration ends when all have ended,
    and goes on after an `add` to one of them; one reader at a time.
    """

    _what = "a MergedWatch is bound to its watches"
    _instead = "merge them once more"

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._watches = tuple(watches)
        self._loop = running_loop()
        self._reader = Reader(self._loop, _BUSY)
        self._subscriptions: tuple[Subscription, ...] = ()
        self._ended: dict[int, VeeamTasksError | None] = {}
        self._attach()

    @property
    def watches(self) -> tuple[Watch, ...]:
        """The watches, in the order in which they were given."""
        return self._watches

    async def wait(self) -> tuple[Report, ...]:
        """Drain the watches to their ends; return the report of each.

        Raises:
            ExceptionGroup: Of what cut some of them short, when all have ended.
            RuntimeError: Another coroutine reads one of them, or it is called outside
                their event loop.
        """
        async for _ in self:
            continue
        return tuple(watch.report for watch in self._watches)

    async def aclose(self) -> None:
        """Close the watches; the tasks go on at the servers. May be called twice.

        Raises:
            RuntimeError: Called outside the event loop of the watches.
        """
        for watch in self._watches:
            await watch.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Watch, TaskEvent]:
        check_loop(self._loop)
        reader = self._reader
        reader.check_free()
        self._attach()
        while True:
            # From here to the return there is no await: a cancelled reader must not
            # take an event with it.
            while (number := reader.next_noted()) is not None:
                event = self._take(number)
                if event is not None:
                    # To the end of the line, behind those that wait for their turn.
                    reader.note(number)
                    return self._watches[number], event
            if len(self._ended) == len(self._watches):
                self._end()
            await reader.wait()

    def _attach(self) -> None:
        """Be the reader of all watches, also of those that another has read since."""
        if self._reader.is_whole:
            return
        self._subscriptions = tuple(
            watch._read_by(self._reader, number)  # noqa: SLF001 - nothing for callers
            for number, watch in enumerate(self._watches)
        )
        self._reader.is_whole = True

    def _take(self, number: int) -> TaskEvent | None:
        """Return the next event of one watch, or take note that it has ended."""
        self._ended.pop(number, None)
        try:
            return self._subscriptions[number].take()
        except StopAsyncIteration:
            self._ended[number] = None
        except VeeamTasksError as error:
            self._ended[number] = error
        return None

    def _end(self) -> NoReturn:
        """Raise what cut watches short, or that there is nothing more to read."""
        errors: list[VeeamTasksError] = []
        for number, cause in sorted(self._ended.items()):
            if cause is not None:
                error = fresh(cause)
                error.add_note(f"of the watch of {self._watches[number].manager.url}")
                errors.append(error)
        if not errors:
            raise StopAsyncIteration
        all_ = counted(len(self._watches), "watch was", "watches were")
        text = f"{len(errors)} of {all_} cut short"
        raise ExceptionGroup(text, errors)

    def __repr__(self) -> str:
        subscriptions = self._subscriptions
        reports = [watch.report for watch in self._watches]
        parts = [counted(len(reports), "watch", "watches")]
        ended = sum(not one.goes_on for one in subscriptions)
        if ended:
            parts.append(f"{ended} ended")
        cut = [
            why_ended(one.ended_by)
            for one in subscriptions
            if one.is_cut and one.ended_by is not None
        ]
        if cut:
            parts.append(f"{len(cut)} cut short ({', '.join(dict.fromkeys(cut))})")
        tasks = counted(sum(len(one.outcomes) for one in reports), "task")
        owed = events_owed(sum(one.owed for one in subscriptions))
        return f"<MergedWatch of {', '.join(parts)}: {tasks}: {counts(reports)}{owed}>"


of_the_package(MergedWatch, merge)
