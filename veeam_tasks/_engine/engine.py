"""The engine, one per manager: what is due, the pollers, who is told."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Container, Iterable
from operator import itemgetter
from random import Random

import anyio
import attrs
from yarl import URL

from veeam_tasks._engine.collection_poll import CollectionPoller
from veeam_tasks._engine.health import Outage, ServerHealth
from veeam_tasks._engine.pollers import Poller, Pollers
from veeam_tasks._engine.records import (
    AllTasksSubscriber,
    DueState,
    PolledRecord,
    PollTimes,
    SubscriberRef,
    TaskRecord,
)
from veeam_tasks._engine.replies import Replies
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._engine.runs import Runs
from veeam_tasks._engine.submitted import Submits
from veeam_tasks._engine.tracker import Roster
from veeam_tasks._errors import (
    CertificateError,
    LogonError,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._notices import Notices
from veeam_tasks._options import Coalesce
from veeam_tasks._pace import Pace, next_pauses
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._transport.transport import Transport

_log = logging.getLogger(__name__)

_OK = 200
_SWEEP_AGAIN = 30.0
# So many polls are all measured, then one in 16: the second is a mask of their count.
_MEASURED_AT_FIRST, _MEASURED_RARELY = 64, 15


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running asyncio loop.

    Raises:
        RuntimeError: There is none: plain code, or another library such as trio.
    """
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    # Outside of the block: asyncio's own words are no context that helps.
    text = (
        "veeam_tasks runs on asyncio's event loop and there is none running here:"
        " call it inside asyncio.run() or in 'python -m asyncio'; trio is not"
        " supported"
    )
    raise RuntimeError(text)


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise unless called in the event loop that a manager was opened in.

    Raises:
        RuntimeError: Called in another thread or loop, or outside of any.
    """
    if running_loop() is not loop:
        text = (
            "this manager belongs to the event loop that it was opened in; call it"
            " from there (from another thread: asyncio.run_coroutine_threadsafe)"
        )
        raise RuntimeError(text)


@attrs.define(eq=False, kw_only=True)
class Engine:
    """Polls every watched task once, however many subscribers want it.

    Subscribers are held weakly and have no asyncio task of their own.

    Args:
        notices: Told of an outage and of its end, with the tasks at risk.
        random: Spreads polls; guards nothing.
        max_in_flight: How many pollers there are.
        request_timeout: Seconds until a poll without a reply is given up.
        patience: Seconds that an outage may last; None for ever.
        max_reply_bytes: How long the reply about one task may be.
        coalesce: The ways to ask that there may be, see `Sweep.mode`.
        max_collection_bytes: How long the collection may be, all pages together.

    Attributes:
        polls: How many single polls there were, with or without a reply.
        wanted: The signal that there is something to watch; set once and for all.
        submits: Where the tasks came from that submits of this manager gave.
    """

    loop: asyncio.AbstractEventLoop
    transport: Transport
    logon: LogonSession
    secrets: Secrets
    notices: Notices
    max_in_flight: int
    request_timeout: float
    patience: float | None
    max_reply_bytes: int
    random: Random = attrs.field(factory=Random)
    polls: int = 0
    wanted: anyio.Event = attrs.field(factory=anyio.Event)
    submits: Submits = attrs.field(factory=Submits)
    coalesce: Coalesce
    max_collection_bytes: int
    roster: Roster = attrs.field(init=False)
    sweep: CollectionPoller = attrs.field(init=False)
    health: ServerHealth = attrs.field(init=False)
    replies: Replies = attrs.field(init=False)
    runs: Runs = attrs.field(init=False)
    pollers: Pollers[PolledRecord | CollectionPoller] = attrs.field(init=False)
    _endless: set[SubscriberRef] = attrs.field(factory=set)
    _looks: dict[Pace, float] = attrs.field(factory=dict)
    _skip: int = 0
    _has_swept: bool = False

    def __attrs_post_init__(self) -> None:
        self.roster = Roster(loop=self.loop, is_together=self.coalesce == "always")
        self.pollers = Pollers(
            loop=self.loop,
            queue=self.roster.queue,
            request_timeout=self.request_timeout,
            take=self._take,
            work=self._work,
            on_held=self._note_held,
        )
        self.health = ServerHealth(
            loop=self.loop,
            patience=self.patience,
            queue=self.roster.queue,
            on_hung=self._give_up_probe,
            on_spent=self._patience_spent,
            outage=Outage(chance=self.random.random, patience=self.patience),
        )
        self.replies = Replies(
            roster=self.roster,
            health=self.health,
            logon=self.logon,
            secrets=self.secrets,
            notices=self.notices,
            cut_all=self.cut_all,
            patience=self.patience,
        )
        self.sweep = CollectionPoller(
            loop=self.loop,
            roster=self.roster,
            transport=self.transport,
            logon=self.logon,
            secrets=self.secrets,
            pollers=self.pollers,
            mode=self.coalesce,
            limit=self.max_collection_bytes,
            meet_task=self.replies.meet_task,
            on_discovered=self._discover,
            look_again=self._look_again,
        )

        self.runs = Runs(
            roster=self.roster,
            transport=self.transport,
            logon=self.logon,
            secrets=self.secrets,
            health=self.health,
            replies=self.replies,
            submits=self.submits,
            ask=self._ask,
            limit=self.max_reply_bytes,
            long_limit=self.max_collection_bytes,
            patience=self.patience,
            cut_all=self.cut_all,
        )

    def subscribe(self, subscriber: SubscriberRef, task_ids: Iterable[str]) -> None:
        """Poll the tasks from now on for a subscriber, a first time soon."""
        generation = self.logon.generation
        for record in self.roster.add(subscriber, task_ids, generation):
            self.replies.seed_from_submit(record)
        if self.roster.is_together:
            self.sweep.request_for_newcomers()
        else:
            self.sweep.maybe_try()
        self.health.resume()
        self.wanted.set()

    @property
    def next_at(self) -> float | None:
        """Loop time when the server is asked next for what is watched, if known."""
        if self.health.outage.is_closed:
            return self.health.next_at
        due = [self.roster.queue.next_at, self.sweep.next_at]
        return min((at for at in due if at is not None), default=None)

    def check_loop(self) -> None:
        """Raise unless called in the event loop that the manager was opened in.

        Raises:
            RuntimeError: Called in another thread or loop, or outside of any.
        """
        check_loop(self.loop)

    def cut_all(self, error: Exception) -> None:
        """End every subscription with an error; its tasks stay unfinished."""
        subscribers = self.roster.clear()
        self.health.disarm()
        self.sweep.stop()
        self._endless.clear()
        for subscriber in subscribers:
            subscriber.on_end(error)

    def refused(self, error: LogonError) -> None:
        """End all, since the logon session cannot go on."""
        self.cut_all(error)

    def renewed(self) -> None:
        """Ask for each watched task once more, under the new logon session."""
        # Soon, since a task that comes before it is listed may look like an old one.
        if self._has_endless() or (self.roster.is_together and self.roster.records):
            self.sweep.request(0.0)
        for record in self.roster.records.values():
            if record.due >= 0:
                self.roster.schedule_first(record)

    # --- the pollers

    async def _work(self, me: Poller, work: PolledRecord | CollectionPoller) -> None:
        try:
            if isinstance(work, TaskRecord):
                await self._poll(me, work)
            elif isinstance(work, RunRecord):
                await self.runs.poll(me, work)
            elif isinstance(work, CollectionPoller):
                await self._sweep_once(me)
        finally:
            if self.health.prober is me:
                self._release_probe()

    async def _ask(
        self, me: Poller, url: URL, limit: int, shown: str = ""
    ) -> Reply | VeeamTasksError:
        """GET something within `request_timeout`; return the reply, or why none came.

        A cancellation by the deadline becomes an error; any other one goes on.

        Args:
            me: Who asks.
            url: What to ask for.
            limit: How many bytes the reply may have.
            shown: What people see instead of the URL, if that may hold a secret.
        """
        sent = self.loop.time()
        self.pollers.begin(me, sent)
        try:
            return await self.transport.poll(url, self.logon.token, limit, shown)
        except VeeamTasksError as error:
            me.is_late()  # if so, that has become this error
            return error
        except asyncio.CancelledError:
            if not me.is_late():
                raise
            return self.pollers.late_error(shown or url, sent)
        finally:
            self.pollers.end(me)
            self.polls += 1

    async def _poll(self, me: Poller, record: TaskRecord) -> None:
        generation = self.logon.generation
        sent, sent_wall = self.loop.time(), time.time()
        held = self.pollers.held
        reply = await self._ask(me, self._url_of(record), self.max_reply_bytes)
        if isinstance(reply, Reply):
            if self.polls & self._skip == 0 and self.pollers.held == held:
                self._note_cost(self.loop.time() - sent, len(reply.body))
            if (
                record.unchanged_hash == hash(reply.body)
                and record.due == DueState.POLLING
                and generation == record.generation
                and reply.status == _OK
            ):
                record.sent, record.sent_wall = sent, sent_wall
                self.roster.again(record, record.grow())
                if self.health.outage.has_failures:
                    self.replies.good()
                return
        if record.due != DueState.POLLING:
            return  # dropped meanwhile
        moment = PollTimes(
            generation=generation,
            sent=sent,
            sent_wall=sent_wall,
            now=self.loop.time(),
            now_wall=time.time(),
        )
        if isinstance(reply, Reply):
            await self.replies.meet(me, record, reply, moment)
        else:
            self.replies.meet_trouble(me, record, reply, moment)

    def _url_of(self, record: TaskRecord) -> URL:
        """Return a record's URL, made when it is needed: together it needs none."""
        url = record.url
        if url is None:
            url = record.url = self.transport.url(f"tasks/{record.task_id}")
        return url

    def _take(self, me: Poller) -> PolledRecord | CollectionPoller | None:
        if not self.health.outage.is_closed:
            return self._take_next()
        if not self.health.take_probe(me):
            return None
        record = self.roster.take_any()
        if record is not None:
            return record
        if self._has_endless() and self.sweep.take_probe():
            return self.sweep
        self._release_probe()
        return None

    def _take_next(self) -> PolledRecord | CollectionPoller | None:
        # With one poller, collections for newcomers would else leave no time for polls.
        is_turn = not (self._has_swept and self.roster.queue.ready)
        if is_turn and self.sweep.take():
            self._has_swept = True
            return self.sweep
        self._has_swept = False
        record = self.roster.take()
        return self.sweep if record is None and self.sweep.take() else record

    def _release_probe(self) -> None:
        """Let there be another probe, whatever became of this one, if anybody waits."""
        self.health.prober = None
        if not self.roster.is_empty or self._has_endless():
            self.health.resume()
        else:
            self.health.disarm()

    # --- all with one request

    def subscribe_all(self, subscriber: SubscriberRef) -> None:
        """Tell a subscriber of every task of the logon session, later ones too."""
        self._endless.add(subscriber)
        self.roster.admit(subscriber)
        self._looks.clear()
        self.health.resume()
        self.sweep.force_full_read()
        self.wanted.set()

    def _has_endless(self) -> bool:
        """Tell whether someone still watches all; forget those who do not."""
        self._endless = {ref for ref in self._endless if self.roster.is_known(ref)}
        return bool(self._endless)

    def _all_watchers(self) -> list[AllTasksSubscriber]:
        refs = self._endless
        return [one for ref in refs if isinstance(one := ref(), AllTasksSubscriber)]

    def _discover(self, found: Iterable[str], generation: int) -> bool:
        """Tell whoever watches all of IDs; return whether one of them is new."""
        has_news = False
        for watch in self._all_watchers():
            has_news |= watch.on_discovered(found, generation)
        return has_news

    def _look_again(
        self,
        found: Container[str] | None,
        has_news: bool,  # noqa: FBT001 - one fact
        generation: int,
    ) -> float | None:
        """Return after what pause to look for new tasks again; None if nobody does."""
        if not self._has_endless():
            return None
        watchers = self._all_watchers()
        is_awaited = False
        for watch in watchers:
            is_awaited |= watch.on_listed(found, generation)
        if is_awaited:
            self.sweep.force_full_read()
        paces = {watch.pace for watch in watchers}
        was = self._looks
        if has_news or not was:
            self._looks = {pace: pace.first for pace in paces}
        else:
            self._looks = next_pauses({p: was.get(p, p.first) for p in paces})
        pace, pause = min(self._looks.items(), key=itemgetter(1))
        return pace.jittered(pause, self.random.random())

    async def _sweep_once(self, me: Poller) -> None:
        sent = self.loop.time()
        swept = await self.sweep.run(me)
        if isinstance(swept, bool):
            if swept:
                self.replies.good()
            return
        self.replies.errors += 1
        if isinstance(swept, CertificateError):
            self.cut_all(swept)
        elif self._has_endless():
            if self.roster.is_empty:
                # No single poll will find out whether it is an outage.
                now = self.loop.time()
                self.replies.count_failure(me, "tasks", swept, now, sent=sent)
            if self.health.outage.is_closed:
                # The gate knows when to ask, and that the server answers again.
                self.sweep.not_before = 0.0
            self.sweep.request(_SWEEP_AGAIN)

    def _note_cost(self, seconds: float, size: int) -> None:
        self.sweep.choice.note_single(seconds / (self.transport.in_flight + 1), size)
        self._skip = 0 if self.polls < _MEASURED_AT_FIRST else _MEASURED_RARELY
        self.sweep.maybe_try()

    # --- outages

    def _note_held(self, until: float) -> None:
        self.health.outage.held_until = until

    def _give_up_probe(self) -> None:
        prober = self.health.prober
        # Without a deadline it waits for something else, such as a logon.
        if isinstance(prober, Poller) and prober.deadline < math.inf:
            prober.cancel_request()

    def _patience_spent(self) -> None:
        last = self.health.outage.last_error
        self.cut_all(
            TransportError(
                request="the Enterprise Manager",
                reason=f"no good reply for {self.patience:g} s, which is all the"
                f" patience there was; the last was: {last}",
                kind="patience",
            )
        )
