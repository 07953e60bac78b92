"""The engine, one per manager: what is due, the pollers, who is told."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection
from functools import partial
from random import Random

import anyio
import attrs
from yarl import URL

from veeam_tasks._engine.collection_poll import CollectionPoller
from veeam_tasks._engine.due_queue import DueQueue
from veeam_tasks._engine.health import Outage, ServerHealth
from veeam_tasks._engine.held_time import TimeLimit
from veeam_tasks._engine.records import (
    DueItem,
    DueState,
    PollStatistics,
    PollTimes,
    SubscriberRef,
    TaskRecord,
)
from veeam_tasks._engine.run_batches import SessionBatches
from veeam_tasks._engine.run_records import RunRecord, WatchedRecords
from veeam_tasks._engine.runs import Runs
from veeam_tasks._engine.tracker import Tracker
from veeam_tasks._errors import (
    CertificateError,
    LogonError,
    RequestTimeoutError,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._model import Task
from veeam_tasks._options.keywords import Coalesce
from veeam_tasks._protocol.classification import classify
from veeam_tasks._protocol.messages import OK, UNCHANGED, Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import parsed
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._session.submitted import Submits, Submitted
from veeam_tasks._telemetry.monitor import Monitor
from veeam_tasks._telemetry.notices import Notices
from veeam_tasks._telemetry.spans import Spans
from veeam_tasks._transport.held import GRACE, HELD, tick_of
from veeam_tasks._transport.transport import Transport

_CLOCK_TICK = 0.001
# So many polls are all measured, then one in 16: where the mask of their count is 0.
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


@attrs.define(eq=False)
class Poller:
    """One long-lived coroutine that polls whatever is due next.

    Attributes:
        asyncio_task: What runs it.
        deadline: Loop time until which its request may take; infinite if it has none.
    """

    asyncio_task: "asyncio.Task[object]"
    deadline: float = math.inf
    _was_cancelled: bool = False

    def cancel_request(self) -> None:
        """Cancel the request under way, since its deadline has passed."""
        self._was_cancelled = True
        self.deadline = math.inf
        self.asyncio_task.cancel()

    def consume_timeout(self) -> bool:
        """Tell a cancellation by `cancel_request` from one by somebody else, once.

        If both came at once, the other one goes on and this returns False.
        """
        was, self._was_cancelled = self._was_cancelled, False
        return was and self.asyncio_task.uncancel() == 0


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
        coalesce: The ways to ask that there may be, see `CollectionPoller.mode`.
        max_collection_bytes: How long the collection may be, all pages together.

    Attributes:
        polls: See `PollStatistics`.
        wanted: The signal that there is something to watch; set once and for all.
        monitor: Counts what changed.
        spans: Makes spans for whoever traces.
        submits: Where the tasks came from that submits of this manager gave.
        pollers: Those that run; idle ones wait at the queue.
    """

    loop: asyncio.AbstractEventLoop
    transport: Transport
    session: LogonSession
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
    monitor: Monitor = attrs.field(factory=Monitor)
    spans: Spans = attrs.field(factory=Spans)
    coalesce: Coalesce
    max_collection_bytes: int
    queue: DueQueue = attrs.field(init=False)
    health: ServerHealth = attrs.field(init=False)
    tracker: Tracker = attrs.field(init=False)
    collection: CollectionPoller = attrs.field(init=False)
    runs: Runs = attrs.field(init=False)
    pollers: list[Poller] = attrs.field(factory=list)
    _measure_mask: int = 0
    # One timer for the deadlines of all requests, and when it is due.
    _timer: asyncio.Handle | None = None
    _timer_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        loop, watched = self.loop, WatchedRecords()
        self.queue = DueQueue(loop=loop, random=self.random)
        self.health = ServerHealth(
            loop=loop,
            patience=self.patience,
            queue=self.queue,
            watched=watched,
            notices=self.notices,
            give_up=self._give_up,
            outage=Outage(chance=self.random.random, patience=self.patience),
        )
        self.tracker = Tracker(
            loop=loop,
            queue=self.queue,
            health=self.health,
            session=self.session,
            patience=self.patience,
            random=self.random,
            watched_records=watched,
            monitor=self.monitor,
            is_together=self.coalesce == "always",
        )
        self.collection = CollectionPoller(
            loop=loop,
            tracker=self.tracker,
            transport=self.transport,
            session=self.session,
            secrets=self.secrets,
            mode=self.coalesce,
            limit=self.max_collection_bytes,
        )
        self.runs = Runs(
            tracker=self.tracker,
            transport=self.transport,
            session=self.session,
            secrets=self.secrets,
            health=self.health,
            submits=self.submits,
            limit=self.max_reply_bytes,
            long_limit=self.max_collection_bytes,
            patience=self.patience,
            end_all=self.end_all,
            batches=SessionBatches(mode=self.coalesce),
        )

    def subscribe(self, subscriber: SubscriberRef, task_ids: Collection[str]) -> None:
        """Poll the tasks from now on for a subscriber, a first time soon."""
        self._forget_ended_starts(task_ids)
        self.tracker.add(subscriber, task_ids)
        if self.tracker.is_together:
            self.collection.request_for_newcomers()
        else:
            self.collection.maybe_try()
        self.health.resume()
        self.wanted.set()

    def _forget_ended_starts(self, task_ids: Collection[str]) -> None:
        """Forget each submit whose task ended under an earlier logon session.

        Under this one somebody else who shares it may have started what has the ID.
        """
        tracker, generation = self.tracker, self.session.generation
        for task_id in task_ids if self.submits.is_older(generation) else ():
            is_known = task_id in tracker.records or tracker.started_under(task_id)
            if not is_known and self.submits.forget(task_id, generation):
                self.spans.forget_submit(task_id)

    def subscribe_all(self, subscriber: SubscriberRef) -> None:
        """Tell a subscriber of every task of the logon session, later ones too."""
        self.collection.subscribe(subscriber)
        self.health.resume()
        self.wanted.set()

    def time_limit(self, seconds: float) -> TimeLimit:
        """Return a limit of so many seconds, from now on, in which the loop runs."""
        return TimeLimit.of(seconds, self.loop, self.queue.held)

    # --- what single requests show, see `CallObserver`

    def record_success(self) -> None:
        """Take note that the server gave a good reply to someone else."""
        self.health.record_success()

    def note_submitted(self, submitted: Submitted) -> None:
        """Take note of the task that a submit gave, and of where it came from."""
        self.tracker.note_submitted(submitted.task, submitted.generation)
        self.submits.note(submitted)

    def last_seen(self, task_id: str) -> Task | None:
        """Return a watched task as it was seen last; None if it never was."""
        record = self.tracker.records.get(task_id)
        return None if record is None else record.task

    # --- for the runtime

    @property
    def next_at(self) -> float | None:
        """Loop time when the server is asked next for what is watched, if known."""
        if self.health.outage.is_closed:
            return self.health.next_at
        return self.queue.next_at

    def statistics(self) -> PollStatistics:
        """Return what was done; it changes nothing, and may run in any thread."""
        return PollStatistics(
            polls=self.polls,
            coalesced=self.collection.coalesced,
            retries=self.tracker.retries,
            errors=self.tracker.errors,
            watched=self.tracker.watched,
            is_together=self.tracker.is_together,
            reason=self.collection.cost.reason,
            next_at=self.next_at,
        )

    def check_loop(self) -> None:
        """Raise unless called in the event loop that the manager was opened in.

        Raises:
            RuntimeError: Called in another thread or loop, or outside of any.
        """
        check_loop(self.loop)

    def end_all(self, error: Exception) -> None:
        """End every subscription with an error; its tasks stay unfinished."""
        subscribers = self.tracker.clear()
        self.health.disarm()
        self.collection.stop()
        for subscriber in subscribers:
            subscriber.on_end(error)

    def refused(self, error: LogonError) -> None:
        """End all, since the logon session cannot go on; called by `Runtime`."""
        self.end_all(error)

    def renewed(self) -> None:
        """Ask for each watched task once more, under the new logon session.

        What is ready or polled already is asked for soon by itself, and the collection
        answers for what is in it. Runs go on: job sessions belong to the server.
        """
        # Soon, since a task that comes before it is listed may look like an old one.
        tracker = self.tracker
        is_together = tracker.is_together and bool(tracker.records)
        if is_together or self.collection.has_subscribers:
            self.collection.request(0.0)
        for record in self.tracker.records.values():
            if record.due >= 0:
                self.tracker.schedule_first(record)

    # --- what a poller does: request -> reply

    async def run_poller(self) -> None:
        """Be one of the pollers, each of which polls what is due next, until cancelled.

        They live as long as the engine: a task of its own for each poll would cost more
        than all that the engine does for one.
        """
        task = asyncio.current_task()
        assert task is not None
        poller = Poller(task)
        self.pollers.append(poller)
        try:
            while True:
                item = self._take()
                if item is not None:
                    await self._work(poller, item)
                else:
                    await self.queue.wait()
        finally:
            self.pollers.remove(poller)
            if not self.pollers and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _take(self) -> DueItem | None:
        if not self.queue.is_closed:
            return self.tracker.take()
        return self._take_probe() if self.queue.pass_through() else None

    def _take_probe(self) -> DueItem | None:
        """Return what is polled to find out whether the server is up again.

        1. A record that is due.
        2. One that is not due yet, and not being polled.
        3. The collection, if somebody watches all: last, since a server may answer for
           each task and yet not for all of them.
        """
        collection = self.collection
        item = self.tracker.take()
        if item is collection:
            item = self.tracker.take() or self.tracker.take_idle()
            if item is None:
                item = collection
            else:
                self.queue.add(collection)
        elif item is None:
            item = self.tracker.take_idle()
            is_free = collection.due != DueState.POLLING
            if item is None and is_free and collection.has_subscribers:
                item, collection.due = collection, DueState.POLLING
        self.health.begin_probe(item)
        if item is None:
            self.health.end_probe(is_awaited=self._is_anything_wanted())
        return item

    def _is_anything_wanted(self) -> bool:
        return not self.tracker.is_empty or self.collection.has_subscribers

    async def _work(self, poller: Poller, item: DueItem) -> None:
        # A further kind of polled resource joins with a class of its own that extends
        # `PolledRecord`, a branch here, a dictionary that `Tracker.drop` takes it out
        # of, and `Tracker.reschedule` to come back: queue, pace, deadlines and the
        # probe of an outage know of a record only what `PolledRecord` has.
        try:
            if isinstance(item, TaskRecord):
                await self._poll(poller, item)
            elif isinstance(item, RunRecord):
                await self.runs.poll(partial(self._ask, poller), item)
            else:
                failure = await self.collection.poll(partial(self._get, poller))
                if isinstance(failure, CertificateError):
                    self.end_all(failure)
        finally:
            if self.health.probe is item:
                self.health.end_probe(is_awaited=self._is_anything_wanted())

    async def _poll(self, poller: Poller, record: TaskRecord) -> None:
        # No await between here and where `_get` reads the token: the reply is judged by
        # this generation, and under another one the same ID may be another task.
        generation = self.session.generation
        sent, sent_wall = self.loop.time(), time.time()
        is_measured = (self.polls & self._measure_mask) == 0
        reply = await self._get(
            poller,
            self._url_of(record),
            self.max_reply_bytes,
            is_known=None if is_measured else partial(record.is_as_before, generation),
        )
        self.polls += 1
        if is_measured and isinstance(reply, Reply):
            self._note_cost(sent, len(reply.body))
            if reply.status == OK and record.is_as_before(generation, reply.body):
                reply = UNCHANGED
        if reply is UNCHANGED:
            # Of nearly every poll this is the end: nobody is told, and no subscriber is
            # touched, since to walk over weak references would cost a seventh of all.
            if record.due == DueState.POLLING:
                record.sent, record.sent_wall = sent, sent_wall
                self.tracker.reschedule(record, record.grow())
                if self.health.outage.has_failures:
                    self.health.record_success()
            return
        if record.due != DueState.POLLING:
            return  # dropped meanwhile
        times = PollTimes(
            generation=generation,
            sent=sent,
            sent_wall=sent_wall,
            now=self.loop.time(),
            now_wall=time.time(),
        )
        if not isinstance(reply, Reply):
            self._on_failure(record, reply, times)
            return
        classified = await parsed(classify, reply, record.task_id, self.secrets)
        if record.due != DueState.POLLING:
            return  # dropped while a long reply was read in a thread
        refusal = self.tracker.on_reply(record, classified, hash(reply.body), times)
        if refusal is not None:
            await self._on_unauthorized(record, refusal, times)

    def _note_cost(self, sent: float, size: int) -> None:
        """Note what a poll cost, unless other code has held the loop meanwhile."""
        if self.health.outage.held_until >= sent:
            return
        seconds = self.loop.time() - sent
        self.collection.cost.note_single(seconds / (self.transport.in_flight + 1), size)
        self._measure_mask = 0 if self.polls < _MEASURED_AT_FIRST else _MEASURED_RARELY
        self.collection.maybe_try()

    def _url_of(self, record: TaskRecord) -> URL:
        """Return a record's URL, made when it is needed: together it needs none."""
        url = record.url
        if url is None:
            url = record.url = self.transport.url(f"tasks/{record.task_id}")
        return url

    def _on_failure(
        self, record: TaskRecord, error: VeeamTasksError, times: PollTimes
    ) -> None:
        """Act on a poll without a usable reply."""
        if isinstance(error, CertificateError):
            # Whoever answers is not to be trusted, and that does not pass by itself.
            self.tracker.errors += 1
            self.tracker.retries += 1
            self.end_all(error)
        else:
            self.tracker.on_failure(record, error, times)

    async def _on_unauthorized(
        self, record: TaskRecord, error: VeeamTasksError, times: PollTimes
    ) -> None:
        """Act on a 401, see `Tracker.on_unauthorized`."""
        failure = await self.tracker.on_unauthorized(record, error, times)
        if failure is None:
            return
        if failure is error and self.tracker.is_refused_alone(record):
            self.tracker.on_denied(record, error, times)
        else:
            self._on_failure(record, failure, times)

    async def _ask(
        self, poller: Poller, url: URL, limit: int, shown: str = ""
    ) -> Reply | VeeamTasksError:
        """GET something and count it as a poll, see `_get`."""
        reply = await self._get(poller, url, limit, shown)
        self.polls += 1
        return reply

    async def _get(
        self,
        poller: Poller,
        url: URL,
        limit: int,
        shown: str = "",
        is_known: Callable[[bytes], bool] | None = None,
    ) -> Reply | VeeamTasksError:
        """GET something within `request_timeout`; return the reply, or why none came.

        A cancellation by the deadline becomes an error; any other one goes on.

        Args:
            poller: Who asks.
            url: What to ask for.
            limit: How many bytes the reply may have.
            shown: What people see instead of the URL, if that may hold a secret.
            is_known: Of which bodies the reply need not be described.
        """
        sent = self.loop.time()
        poller.deadline = sent + self.request_timeout
        if self.queue.is_closed:
            # It is the probe, and nobody is patient with it for longer than that.
            poller.deadline = min(poller.deadline, self.health.patience_ends_at)
        if self._timer is None or poller.deadline < self._timer_at:
            self._arm(sent, poller.deadline)
        try:
            return await self.transport.poll(
                url, self.session.token, limit, shown, is_known
            )
        except VeeamTasksError as error:
            poller.consume_timeout()  # if there was one, it has become this error
            return error
        except asyncio.CancelledError:
            if not poller.consume_timeout():
                raise
            return self._timeout_error(shown or url, sent)
        finally:
            poller.deadline = math.inf

    def _timeout_error(self, url: URL | str, sent: float) -> RequestTimeoutError:
        # A probe may be given up earlier, when patience ends.
        waited = min(self.loop.time() - sent, self.request_timeout)
        return RequestTimeoutError(
            request=f"GET {url}",
            reason=f"no reply within {waited:.3g} s",
            kind="timeout",
        )

    # --- deadlines of requests: one timer, since one each would cost more than a poll

    def _arm(self, now: float, earliest: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Not only at the deadline: else nobody could tell that the loop was held.
        self._timer_at = min(now + tick_of(self.request_timeout), earliest)
        self._timer = self.loop.call_at(self._timer_at, self._cancel_late_requests)

    def _cancel_late_requests(self) -> None:
        now = self.loop.time()
        late = now - self._timer_at
        self.queue.held.note(self._timer_at, now)
        if late > HELD:
            self._extend_deadlines(late, now)
        earliest = math.inf
        for poller in self.pollers:
            if poller.deadline <= now + _CLOCK_TICK:
                poller.cancel_request()
            else:
                earliest = min(earliest, poller.deadline)
        self._timer = None
        if earliest < math.inf:
            self._arm(now, earliest)

    def _extend_deadlines(self, late: float, now: float) -> None:
        """Move the deadlines by the time for which other code held the loop.

        What has come meanwhile is still to be read, which takes some steps. And what
        fails by it tells of us, not of the server.
        """
        at_least = now + min(GRACE, self.request_timeout)
        for poller in self.pollers:
            if poller.deadline < math.inf:
                poller.deadline = max(poller.deadline + late, at_least)
        self.health.outage.held_until = now

    # --- outages

    def _give_up(self) -> None:
        last = self.health.outage.last_error
        self.end_all(
            TransportError(
                request="the Enterprise Manager",
                reason=f"no good reply for {self.patience:g} s, as long as"
                f" patience= allows; the last was: {last}",
                kind="patience",
            )
        )
