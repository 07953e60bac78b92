"""The collection: one ``GET /tasks`` for all watched tasks, when that is cheaper.

The collection holds the tasks of the logon session (``tasks`` reference page). A task
that is missing from it is asked for singly before anything is said of it.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Container, Iterable, Mapping
from functools import partial
from operator import itemgetter
from random import Random
from typing import ClassVar

import attrs

from veeam_tasks._engine.cost_model import FEWEST, CostModel
from veeam_tasks._engine.records import (
    AllTasksSubscriber,
    Ask,
    DueItem,
    DueState,
    PollTimes,
    SubscriberRef,
    TaskRecord,
)
from veeam_tasks._engine.settle import Collection, Settling
from veeam_tasks._engine.tracker import Tracker
from veeam_tasks._errors import (
    CertificateError,
    LogonError,
    MalformedReplyError,
    ServerBusyError,
    StatusError,
    VeeamTasksError,
)
from veeam_tasks._model import Task
from veeam_tasks._options.keywords import Coalesce
from veeam_tasks._pace import LONGEST_PAUSE, Pace, next_pauses
from veeam_tasks._protocol.classification import refuses_token
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import (
    CollectionReader,
    Found,
    TimeSlice,
    read_collection,
)
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._telemetry.notices import SERVER
from veeam_tasks._transport.transport import Transport

_SOON = 0.02
# Pauses after failures that follow one another: at first as for new tasks, which
# nothing else would show, then twice as long each time.
_AFTER_A_FAILURE, _AFTER_FAILURES = 1.0, 30.0
# How many times what the last one took, and how many seconds at most, newcomers wait;
# so many times what it took a collection rests, too, if its pause is that long.
_REST, _LONGEST_REST = 4.0, 5.0

_SPOT_CHECKS_APART = 60.0
"""Seconds."""

_FINISHED = re.compile(rb"<State>\s*Finished\s*</State>")


@attrs.define(eq=False)
class SpotCheck:
    """Compares what a collection says of one task with what that task says itself.

    A cache in between, or a server that is slow to list what has ended, would else hold
    a watch for ever: its collections agree with each other, so no single poll is sent.

    Args:
        random: Chooses the task.
    """

    random: Random
    _record: TaskRecord | None = None
    _next_at: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether the task asked for singly is Finished, and no collection was read."""
        task = None if self._record is None else self._record.task
        return task is not None and task.is_finished

    def choose(
        self, records: Mapping[str, TaskRecord], now: float
    ) -> TaskRecord | None:
        """Return a record to be asked for singly; None while it is not time."""
        if now < self._next_at or not records:
            return None
        self._next_at = now + _SPOT_CHECKS_APART
        record = self.random.choice(list(records.values()))
        if record.due != DueState.IN_COLLECTION:
            return None
        self._record = record
        return record

    def check(self, collection: Collection) -> None:
        """Compare with a collection that was asked for later; one check is enough.

        Raises:
            MalformedReplyError: It shows a task as it was before it was Finished.
        """
        record = self._record
        if record is None:
            return
        if (
            record.due >= 0
            and not record.missing_replies
            and not record.finished_without_result
        ):
            record.due = DueState.IN_COLLECTION
        if not self.is_finished or collection.times.sent <= record.sent:
            return
        self._record = None
        piece = collection.pages.found.get(record.task_id)
        if isinstance(piece, Task):
            is_same = piece.is_finished
        else:
            is_same = piece is None or _FINISHED.search(piece) is not None
        if not is_same:
            problem = f"it shows {record.task_id} unfinished, which is Finished"
            raise MalformedReplyError(request=collection.pages.shown, problem=problem)


@attrs.define(eq=False, kw_only=True)
class CollectionPoller(DueItem):
    """Polls the collection, applies it to every watched task, chooses when to.

    It is an item of the queue as each record is: taken by a poller when it is due, one
    poller at a time. Those who watch all tasks are its subscribers.

    Args:
        mode: "auto" chooses by itself; "never" and "always" do not.
        limit: How long the collection may be, in bytes.

    Attributes:
        cost: What was chosen, and why.
        coalesced: Watched tasks that were answered by a collection.
    """

    # Before what is due singly: where there is too much of that, it is what helps.
    goes_first: ClassVar[bool] = True

    loop: asyncio.AbstractEventLoop
    tracker: Tracker
    transport: Transport
    session: LogonSession
    secrets: Secrets
    mode: Coalesce
    limit: int
    cost: CostModel = attrs.field(factory=CostModel)
    coalesced: int = 0
    _spot_check: SpotCheck = attrs.field(init=False)
    # What is asked for while one is under way; infinite if nothing is.
    _again_at: float = math.inf
    # The body that was applied last, by its hash, and under which generation; None
    # if the next one has to be read even if it is the same.
    _last: tuple[int, int] | None = None
    _full_reads: int = 0
    _took: float = 0.0
    _failures: int = 0
    _ended_at: float = 0.0
    _quick: frozenset[Pace] = frozenset()
    _subscribers: set[SubscriberRef] = attrs.field(factory=set)
    _pauses: dict[Pace, float] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._spot_check = SpotCheck(self.tracker.random)
        if self.mode != "auto":
            self.cost.reason = f"coalesce={self.mode!r} was asked for"

    # --- who watches all tasks

    def subscribe(self, subscriber: SubscriberRef) -> None:
        """Tell a subscriber of every task of the logon session, later ones too."""
        self._subscribers.add(subscriber)
        self.tracker.admit(subscriber)
        self._pauses.clear()
        self.force_full_read()

    @property
    def has_subscribers(self) -> bool:
        """Whether someone still watches all; forgets those who do not."""
        known = self.tracker.is_known
        self._subscribers = {ref for ref in self._subscribers if known(ref)}
        return bool(self._subscribers)

    @property
    def is_wanted(self) -> bool:
        """Whether anything is watched that it could tell of."""
        return bool(self.tracker.records) or self.has_subscribers

    def _present(self) -> list[AllTasksSubscriber]:
        # Anew each time: the loop is let go in between, and watches come and go.
        refs = self._subscribers
        return [one for ref in refs if isinstance(one := ref(), AllTasksSubscriber)]

    async def _discover(self, found: Iterable[str], generation: int) -> bool:
        """Tell whoever watches all of every ID; return whether one was new."""
        has_news = False
        async for ids in TimeSlice(self.loop).chunks(found):
            again_at = self._again_at
            for watch in self._present():
                has_news |= watch.on_discovered(ids, generation)
            # What was discovered has asked for a collection; this one answers it.
            self._again_at = again_at
        return has_news

    def _pause_for_new(
        self, found: Container[str] | None, generation: int, *, has_news: bool
    ) -> float | None:
        """Return after what pause to look for new tasks; None if nobody does."""
        if not self.has_subscribers:
            return None
        watches = self._present()
        is_awaited = False
        for watch in watches:
            is_awaited |= watch.on_listed(found, generation)
        if is_awaited:
            self.force_full_read()
        paces = {watch.pace for watch in watches}
        was = self._pauses
        if has_news or not was:
            self._pauses = {pace: pace.first for pace in paces}
        else:
            self._pauses = next_pauses({p: was.get(p, p.first) for p in paces})
        pace, pause = min(self._pauses.items(), key=itemgetter(1))
        return pace.jittered(pause, self.tracker.random.random())

    # --- when it is due

    def request_for_newcomers(self) -> None:
        """Let it be due soon, but not while it would take most of the time."""
        since = self.loop.time() - self._ended_at
        self.request(max(_SOON, min(self._took * _REST, _LONGEST_REST) - since))

    def request(self, delay: float = _SOON) -> None:
        """Let it be due in `delay` seconds, or earlier if it is due then already."""
        if self.due == DueState.POLLING:
            # What this one shows was fetched before it was asked for.
            self._again_at = min(self._again_at, self.loop.time() + delay)
        elif self.due != DueState.READY:
            if delay > 0:
                self.tracker.queue.bring_forward(self, delay)
            else:
                self.tracker.queue.add(self)

    def force_full_read(self) -> None:
        """Let it be due now, and be read even if it is as before."""
        self._full_reads += 1
        self._last = None
        self.request(0.0)

    def stop(self) -> None:
        """Let it be due no more, and nobody be told; one under way comes to its end."""
        self._subscribers.clear()
        self._again_at = math.inf
        if self.due != DueState.POLLING:
            self.due = DueState.DROPPED

    def maybe_try(self) -> None:
        """Ask for all, if asking one by one looks dear."""
        if self.due == DueState.POLLING or self.tracker.is_together:
            return
        now, watched = self.loop.time(), len(self.tracker.records)
        if self.mode == "always":
            if not self.cost.is_disabled(now):
                self.request(0.0)
        elif self.mode == "auto" and self.cost.may_try(watched, now):
            self.request(0.0)

    def _reschedule(self) -> None:
        """Go back into the queue if it was asked for meanwhile.

        At the end of what is ready: with one poller, collections that are asked for
        again and again would else leave no time for polls.
        """
        self.due = DueState.DROPPED
        again_at, self._again_at = self._again_at, math.inf
        delay = again_at - self.loop.time()
        if delay <= 0:
            self.tracker.queue.add(self, is_last=True)
        elif delay < math.inf:
            self.tracker.queue.add_after(self, delay)

    # --- one poll

    async def poll(self, ask: Ask) -> VeeamTasksError | None:
        """Poll the collection, which is taken from the queue; return why that failed.

        1. It came, and was applied: a good reply.
        2. The token was renewed meanwhile: nothing is proved, and it is due again.
        3. The logon was refused: everything has ended by that.
        4. It failed. Tasks are asked for singly from now on, and find out by themselves
           whether it is an outage; where none is watched, it counts itself.
        """
        started = self.loop.time()
        failure: VeeamTasksError | None = None
        try:
            collection = await self._fetch(ask)
            if collection is not None:
                await self._apply(collection)
                self.tracker.health.record_success()
                self._failures = 0
        except LogonError:
            pass
        except VeeamTasksError as error:
            failure = error
        finally:
            self._ended_at = self.loop.time()
            self._took = self._ended_at - started
            if failure is not None:
                self._on_failure(failure, started)
            self._reschedule()
        return failure

    def _on_failure(self, failure: VeeamTasksError, sent: float) -> None:
        self._fall_back(failure)
        self.tracker.errors += 1
        # A certificate that is refused is no outage, and ends all.
        if isinstance(failure, CertificateError) or not self.has_subscribers:
            return
        health = self.tracker.health
        if self.tracker.is_empty:
            # No single poll will find out whether it is an outage.
            health.record_failure(self, failure, sent=sent)
        if health.outage.is_closed:
            # Health knows when to ask, and that the server answers again.
            self.not_before = 0.0
        quickest = min((watch.pace.first for watch in self._present()), default=0.0)
        pause = max(quickest, _AFTER_A_FAILURE) * 2.0 ** min(self._failures, 5)
        self._failures += 1
        self.request(min(pause, _AFTER_FAILURES))

    async def _fetch(self, ask: Ask) -> Collection | None:
        generation = self.session.generation
        sent, sent_wall = self.loop.time(), time.time()
        pages = CollectionReader(
            loop=self.loop,
            shown=f"GET {self.transport.url('tasks')}",
            limit=self.limit,
            secrets=self.secrets,
        )
        is_unchanged = False

        def is_known(reply: Reply) -> bool:
            nonlocal is_unchanged
            is_unchanged = self._is_unchanged(reply, generation)
            return is_unchanged

        send = partial(self._fetch_page, ask, generation)
        reply = await read_collection(pages, send, is_known)
        if reply is None:
            self.request(0.0)
            return None
        self.session.mark_accepted(generation)
        now = self.loop.time()
        was_held = self.tracker.health.outage.held_until >= sent
        return Collection(
            pages=pages,
            times=PollTimes(
                generation=generation,
                sent=sent,
                sent_wall=sent_wall,
                now=now,
                now_wall=time.time(),
            ),
            seconds=None if was_held else now - sent,
            size=len(reply.body) if is_unchanged else pages.size,
            is_unchanged=is_unchanged,
            # More than one page is not compared as a whole.
            unchanged_hash=hash(reply.body) if pages.count == 1 else None,
        )

    async def _fetch_page(self, ask: Ask, generation: int, path: str) -> Reply | None:
        url = self.transport.url(path)
        # A further page is where the server says, in whatever words.
        shown = "" if path == "tasks" else self.secrets.hide_in_path(str(url))
        reply = await ask(url, self.limit, shown)
        if not isinstance(reply, Reply):
            raise reply
        if refuses_token(reply):
            await self.session.renew(generation)
        # All pages of one generation, since IDs begin anew in each.
        return reply if generation == self.session.generation else None

    def _is_unchanged(self, reply: Reply, generation: int) -> bool:
        """Tell whether the last collection has settled all that this one could."""
        if self._spot_check.is_finished:
            return False  # as before may be what is wrong with it
        return self._last == (hash(reply.body), generation) and self._has_settled_all()

    def _has_settled_all(self) -> bool:
        waiting = DueState.IN_COLLECTION
        # No generator in `all`: it costs twice as much, for every record each time.
        for record in self.tracker.records.values():
            is_settled = record.due == waiting and record.unchanged_hash is not None
            if not is_settled and record.pace not in self._quick:
                return False
        return True

    async def _apply(self, collection: Collection) -> None:
        """Tell whoever watches all, and settle every watched task.

        The loop is let go in between. So whoever comes meanwhile is looked for again at
        each step, and what they have asked for is not lost: see `request`.
        """
        tracker = self.tracker
        tracker.prune_gone()
        self._spot_check.check(collection)
        is_together = self._choose(collection)
        self._last = None
        full_reads = self._full_reads
        found = collection.pages.found
        generation = collection.times.generation
        has_news = await self._discover(found, generation)
        # What is as before was not read.
        listed = None if collection.is_unchanged else found
        pause = self._pause_for_new(listed, generation, has_news=has_news)
        tracker.is_together = is_together
        if not is_together:
            tracker.leave_collection()
        await asyncio.sleep(0)
        settling = Settling(
            loop=self.loop,
            tracker=tracker,
            is_together=is_together,
            quick=self._quick,
        )
        await settling.settle(collection)
        if is_together and settling.stale is not None:
            is_together = False
            self._fall_back(settling.stale)
        # Whoever began to watch all meanwhile has not been told of what is as before.
        if collection.unchanged_hash is not None and full_reads == self._full_reads:
            self._last = collection.unchanged_hash, generation
        self.coalesced += settling.settled
        if is_together:
            if not collection.is_unchanged:
                self._ask_for_missing(found)
            checked = self._spot_check.choose(tracker.records, self.loop.time())
            if checked is not None:
                tracker.queue.add(checked)
            if tracker.records:  # none is left if all was ended meanwhile
                lowest = self._lowest_pause(settling)
                pause = lowest if pause is None else min(lowest, pause)
        if pause is not None and self.session.refused is None:
            # Counted from when it was sent, since that is as old as what it shows is;
            # but a slow one leaves the server its rest.
            took = self.loop.time() - collection.times.sent
            self.request(max(pause - took, min(pause, took * _REST)))

    def _lowest_pause(self, settling: Settling) -> float:
        """Return after what pause the next collection is due."""
        pause = settling.lowest
        if math.isinf(pause):
            # All have ended or were asked for singly; yet some may wait for the next.
            pause = min(record.pause for record in self.tracker.records.values())
        return pause * (1.0 - settling.jitter * self.tracker.random.random())

    def _ask_for_missing(self, found: Found) -> None:
        # That a list leaves a task out proves nothing: a list may be abridged.
        for task_id in self.tracker.records.keys() - found.keys():
            record = self.tracker.records[task_id]
            if record.due == DueState.IN_COLLECTION:
                self.tracker.queue.add(record)

    # --- choosing

    def _choose(self, collection: Collection) -> bool:
        if self.mode != "auto":
            usual = _usual_pauses(self.tracker.records.values())
            self._quick = _quick_one(usual, len(self.tracker.records))
            return self.mode == "always"
        if collection.seconds is None:
            # The loop was held, so how long it took says nothing about the server.
            return self.cost.is_together
        if self.cost.is_late(collection.seconds):
            self._fall_back(None)
            return False
        usual = _usual_pauses(self.tracker.records.values())
        if not usual:
            return self.cost.is_together
        was = self.cost.is_together
        pairs = [(pause, rate) for pause, rate, _ in usual]
        quick = self.cost.quick_ones(pairs, collection.seconds, collection.size)
        self._quick = frozenset(pace for _, _, pace in usual[:quick])
        now = self.cost.prefers_collection(
            watched=len(self.tracker.records),
            polls_a_second=sum(rate for _, rate in pairs),
            beside=sum(rate for _, rate in pairs[:quick]),
            pause=usual[quick][0],
            seconds=collection.seconds,
            size=collection.size,
            now=self.loop.time(),
        )
        if was != now:
            self._log_choice(logging.INFO)
        return now

    def _log_choice(self, level: int) -> None:
        word = "together" if self.cost.is_together else "singly"
        told = {
            "em_url": self.tracker.monitor.url,
            "event": "asking",
            "asking": word,
            "watched": len(self.tracker.records),
        }
        SERVER.log(level, "%s", self.cost.reason, extra=told)

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
        # For good after an error of its own: a server without this collection would be
        # asked for it for ever. A busy one, or one that was down, may give it later.
        now, asked = self.loop.time(), 0.0
        if isinstance(failure, ServerBusyError):
            asked = min(failure.retry_after or 0.0, LONGEST_PAUSE)
        self.not_before = now + asked
        self.cost.disable(why, now, for_good=for_good, at_least=asked)
        self._log_choice(logging.WARNING)
        self.tracker.is_together = False
        self.tracker.leave_collection()


def _quick_one(usual: list[tuple[float, float, Pace]], watched: int) -> frozenset[Pace]:
    """Return the pace that only one of many tasks is watched at, if it is the quickest.

    Asked for singly, that one makes as many requests as the whole collection would at
    its pace, and far smaller ones. Two of them would make more.
    """
    if watched < FEWEST or len(usual) < 2:  # noqa: PLR2004
        return frozenset()
    (pause, rate, pace), (next_pause, _, _), *_ = usual
    is_one = pause * rate < 1.5  # noqa: PLR2004
    return frozenset({pace} if is_one and pause < next_pause / 2 else ())


def _usual_pauses(records: Iterable[TaskRecord]) -> list[tuple[float, float, Pace]]:
    """Return the pause, the polls a second and the pace of each, quickest first.

    The pause is the mean of a pace's pauses: the shortest one is that of the last
    newcomer, whose pause grows like those of all others.
    """
    polls: dict[Pace, list[float]] = {}
    last: Pace | None = None
    known = [0.0, 0.0]
    for record in records:
        # Most have the pace of the one before, and to hash it costs as much as that.
        if record.pace is not last:
            last = record.pace
            known = polls.setdefault(last, [0.0, 0.0])
        known[0] += 1.0
        known[1] += 1.0 / record.pause
    usual = [(count / rate, rate, pace) for pace, (count, rate) in polls.items()]
    return sorted(usual, key=lambda one: one[:2])
