"""The sweep: one ``GET /tasks`` for all watched tasks, when that is cheaper.

The collection holds the tasks of the logon session (``tasks`` reference page). A task
that is missing from it is asked for singly before anything is said of it.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Container, Iterable
from itertools import islice

import attrs

from veeam_tasks._engine.cost_model import CostModel
from veeam_tasks._engine.pollers import Poller, Pollers
from veeam_tasks._engine.records import DueState, PolledRecord, PollTimes, TaskRecord
from veeam_tasks._engine.settle import Collection, Settling
from veeam_tasks._engine.spot_check import SpotCheck
from veeam_tasks._engine.tracker import Tracker
from veeam_tasks._errors import (
    LogonError,
    MalformedReplyError,
    ServerBusyError,
    StatusError,
    VeeamTasksError,
)
from veeam_tasks._options import Coalesce
from veeam_tasks._pace import LONGEST_PAUSE, Pace
from veeam_tasks._protocol import replies as _wire
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import CollectionReader, Found, TimeSlice
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._transport.transport import Transport

_log = logging.getLogger(__name__)

_REDIRECT, _UNAUTHORIZED = 300, 401
_SOON = 0.02
_IDS_AT_ONCE = 64
# How many times what the last sweep took, and how many seconds at most, newcomers wait.
_REST, _LONGEST_REST = 4.0, 5.0


@attrs.define(eq=False, kw_only=True)
class CollectionPoller:
    """Fetches the collection, settles every watched task with it, chooses the mode.

    Args:
        mode: "auto" chooses by itself; "never" and "always" do not.
        limit: How long the collection may be, in bytes.
        discover: Told of every ID in the collection, for whoever watches all, and of
            the generation that it was fetched under; says whether one was new.
        look_again: Asked, with all IDs, what that said and the generation, after what
            pause to look for new ones.

    Attributes:
        choice: What was chosen, and why.
        coalesced: Watched tasks that were answered by a sweep.
        not_before: Monotonic time before which the server asked not to be asked.
    """

    loop: asyncio.AbstractEventLoop
    tracker: Tracker
    transport: Transport
    logon: LogonSession
    secrets: Secrets
    pollers: "Pollers[PolledRecord | CollectionPoller]"
    mode: Coalesce
    limit: int
    on_discovered: Callable[[Iterable[str], int], bool]
    look_again: Callable[[Container[str] | None, bool, int], float | None]
    choice: CostModel = attrs.field(factory=CostModel)
    coalesced: int = 0
    is_due: bool = False
    not_before: float = 0.0
    _is_running: bool = False
    _last: tuple[int, int] | None = None
    _looks: int = 0
    proof: SpotCheck = attrs.field(factory=SpotCheck)
    _took: float = 0.0
    _quick: frozenset[Pace] = frozenset()
    _ended_at: float = 0.0
    _timer: asyncio.Handle | None = None
    _timer_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.mode != "auto":
            self.choice.reason = f"coalesce={self.mode!r} was asked for"

    @property
    def next_at(self) -> float | None:
        """Loop time when a sweep is due next; None if none is."""
        return None if self._timer is None else self._timer_at

    def request_for_newcomers(self) -> None:
        """Let a sweep be due soon, but not while it would take most of the time."""
        since = self.loop.time() - self._ended_at
        self.request(max(_SOON, min(self._took * _REST, _LONGEST_REST) - since))

    def request(self, delay: float = _SOON) -> None:
        """Let a sweep be due in `delay` seconds, or earlier if one is due already."""
        at = max(self.loop.time() + delay, self.not_before)
        if self.is_due or (self._timer is not None and self._timer_at <= at):
            return
        self.stop()
        # Kept here: a loop may answer a time that has come with a handle without one.
        self._timer_at = at
        self._timer = self.loop.call_at(at, self._due)

    def force_full_read(self) -> None:
        """Sweep soon, and read the collection even if it is as before."""
        self._looks += 1
        self._last = None
        self.request(0.0)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.is_due = False

    def take(self) -> bool:
        """Return whether a sweep may go now; one at a time."""
        if not self.is_due or self._is_running:
            return False
        self.is_due = False
        return True

    def take_probe(self) -> bool:
        """Return whether a sweep may go now as the probe of an outage."""
        if self._is_running:
            return False
        self.stop()
        return True

    def maybe_try(self) -> None:
        """Ask for all, if asking one by one looks dear."""
        if self._is_running or self.tracker.is_together:
            return
        now, watched = self.loop.time(), len(self.tracker.records)
        if self.mode == "always":
            if not self.choice.is_disabled(now):
                self.request(0.0)
        elif self.mode == "auto" and self.choice.may_try(watched, now):
            self.request(0.0)

    async def run(self, me: Poller) -> VeeamTasksError | bool:
        """Sweep once; return why it failed, or whether a collection was settled.

        It is not when the token changed meanwhile, or the logon was refused.
        """
        self._is_running = True
        started = self.loop.time()
        failure: VeeamTasksError | None = None
        collection: Collection | None = None
        try:
            collection = await self._fetch(me)
            if collection is not None:
                await self._settle(collection)
        except LogonError:
            return False  # every subscription was cut by it
        except VeeamTasksError as error:
            me.is_late()  # if so, that has become this error
            failure = error
        finally:
            self._is_running = False
            self._ended_at = self.loop.time()
            self._took = self._ended_at - started
        if failure is not None:
            self._fall_back(failure)
            return failure
        return collection is not None

    # --- fetching

    async def _fetch(self, me: Poller) -> Collection | None:
        generation, sent, sent_wall = (
            self.logon.generation,
            self.loop.time(),
            time.time(),
        )
        held = self.pollers.held
        pages = CollectionReader(
            loop=self.loop,
            shown=f"GET {self.transport.url('tasks')}",
            limit=self.limit,
            secrets=self.secrets,
        )
        is_unchanged = False
        reply: Reply | None = None
        while not is_unchanged and (path := pages.next_path()) is not None:
            reply = await self._ask(me, path)
            if reply.status == _UNAUTHORIZED and _wire.is_own_refusal(reply):
                await self.logon.renew(generation)
            if generation != self.logon.generation:
                self.request(0.0)
                return None
            if reply.status >= _REDIRECT:
                raise _wire.status_error(reply, self.secrets)
            is_unchanged = self._is_unchanged(reply, generation)
            if not is_unchanged:
                await pages.read(reply)
        assert reply is not None
        self.logon.mark_accepted(generation)
        now = self.loop.time()
        return Collection(
            pages=pages,
            moment=PollTimes(
                generation=generation,
                sent=sent,
                sent_wall=sent_wall,
                now=now,
                now_wall=time.time(),
            ),
            seconds=now - sent if self.pollers.held == held else None,
            size=len(reply.body) if is_unchanged else pages.size,
            is_unchanged=is_unchanged,
            # More than one page is not compared as a whole.
            unchanged_hash=hash(reply.body) if pages.count == 1 else None,
        )

    async def _ask(self, me: Poller, path: str) -> Reply:
        url = self.transport.url(path)
        # A further page is where the server says, in whatever words.
        shown = "" if path == "tasks" else self.secrets.hide_in_path(str(url))
        sent = self.loop.time()
        self.pollers.begin(me, sent)
        try:
            return await self.transport.poll(
                url, self.logon.token, self.limit, shown=shown
            )
        except asyncio.CancelledError:
            if not me.is_late():
                raise
        finally:
            self.pollers.end(me)
        raise self.pollers.late_error(shown or url, sent)

    def _is_unchanged(self, reply: Reply, generation: int) -> bool:
        """Tell whether the last collection has settled all that this one could."""
        if self.proof.is_finished:
            return False  # as before may be what is wrong with it
        return self._last == (hash(reply.body), generation) and all(
            (record.due == DueState.IN_COLLECTION and record.unchanged_hash is not None)
            or record.pace in self._quick
            for record in self.tracker.records.values()
        )

    # --- settling

    async def _settle(self, collection: Collection) -> None:
        self.tracker.prune_gone()
        self.proof.check(collection)
        is_together = self._choose(collection)
        self._last = None
        looks = self._looks
        found = collection.pages.found
        generation = collection.moment.generation
        has_news = await self._tell_ids(found, generation)
        # What is as before was not read.
        listed = None if collection.is_unchanged else found
        pause = self.look_again(listed, has_news, generation)
        self.tracker.is_together = is_together
        if not is_together:
            self.tracker.leave_collection()
        await asyncio.sleep(0)
        settling = Settling(
            loop=self.loop,
            records=self.tracker.records,
            meet_task=self.tracker.on_task,
            again=self.tracker.reschedule,
            is_together=is_together,
            quick=self._quick,
        )
        await settling.settle(collection)
        if is_together and settling.stale is not None:
            is_together = False
            self._fall_back(settling.stale)
        # Whoever began to watch all meanwhile has not been told of what is as before.
        if collection.unchanged_hash is not None and looks == self._looks:
            self._last = collection.unchanged_hash, collection.moment.generation
        self.coalesced += settling.settled
        if is_together:
            if not collection.is_unchanged:
                self._ask_for_missing(found)
            proved = self.proof.choose(self.tracker.records, self.loop.time())
            if proved is not None:
                self.tracker.queue.add(proved)
            if self.tracker.records:  # none is left if all was cut meanwhile
                lowest = self._lowest_pause(settling)
                pause = lowest if pause is None else min(lowest, pause)
        if pause is not None and self.logon.refused is None:
            self.request(pause)

    def _lowest_pause(self, settling: Settling) -> float:
        """Return after what pause the next collection is due."""
        pause = settling.lowest
        if math.isinf(pause):
            # All have ended or were asked for singly; yet some may wait for the next.
            pause = min(record.pause for record in self.tracker.records.values())
        return pause * (1.0 - settling.jitter * random.random())  # noqa: S311

    async def _tell_ids(self, found: Iterable[str], generation: int) -> bool:
        """Tell whoever watches all of every ID; return whether one was new."""
        breath = TimeSlice(self.loop)
        has_news = False
        ids = iter(found)
        while portion := tuple(islice(ids, _IDS_AT_ONCE)):
            was_requested = self._timer is not None or self.is_due
            has_news |= self.on_discovered(portion, generation)
            if not was_requested:
                self.stop()  # what was discovered is settled at once
            if breath.is_due:
                await breath.take()
        return has_news

    def _ask_for_missing(self, found: Found) -> None:
        for task_id in self.tracker.records.keys() - found.keys():
            record = self.tracker.records[task_id]
            if record.due == DueState.IN_COLLECTION:
                self.tracker.queue.add(record)

    # --- choosing

    def _choose(self, collection: Collection) -> bool:
        if self.mode != "auto":
            return self.mode == "always"
        if collection.seconds is None:
            return self.choice.is_together
        if self.choice.is_late(collection.seconds):
            self._fall_back(None)
            return False
        usual = _usual_pauses(self.tracker.records.values())
        if not usual:
            return self.choice.is_together
        was = self.choice.is_together
        pairs = [(pause, rate) for pause, rate, _ in usual]
        quick = self.choice.quick_ones(pairs, collection.seconds, collection.size)
        self._quick = frozenset(pace for _, _, pace in usual[:quick])
        now = self.choice.prefers_collection(
            watched=len(self.tracker.records),
            polls_a_second=sum(rate for _, rate in pairs),
            beside=sum(rate for _, rate in pairs[:quick]),
            pause=usual[quick][0],
            seconds=collection.seconds,
            size=collection.size,
            now=self.loop.time(),
        )
        if was != now:
            _log.info("%s", self.choice.reason)
        return now

    def _fall_back(self, failure: VeeamTasksError | None) -> None:
        """Ask singly from now on, since the collection cannot be relied on."""
        why = (
            "the collection took twice its usual time"
            if failure is None
            else (f"the collection cannot be had: {failure}")
        )
        is_refusal = isinstance(failure, StatusError | MalformedReplyError)
        is_busy = isinstance(failure, ServerBusyError)
        for_good = is_refusal and not is_busy and self.mode == "auto"
        now, asked = self.loop.time(), 0.0
        if isinstance(failure, ServerBusyError):
            asked = min(failure.retry_after or 0.0, LONGEST_PAUSE)
        self.not_before = now + asked
        self.choice.give_up(why, now, for_good=for_good, at_least=asked)
        _log.warning("%s", self.choice.reason)
        self.tracker.is_together = False
        self.tracker.leave_collection()

    def _due(self) -> None:
        self._timer = None
        self.is_due = True
        self.tracker.queue.wake()


def _usual_pauses(records: Iterable[TaskRecord]) -> list[tuple[float, float, Pace]]:
    """Return the pause, the polls a second and the pace of each, quickest first.

    The pause is the mean of a pace's pauses: the shortest one is that of the last
    newcomer, whose pause grows like those of all others.
    """
    polls: dict[Pace, list[float]] = {}
    for record in records:
        known = polls.setdefault(record.pace, [0.0, 0.0])
        known[0] += 1.0
        known[1] += 1.0 / record.pause
    usual = [(count / rate, rate, pace) for pace, (count, rate) in polls.items()]
    return sorted(usual, key=lambda one: one[:2])
