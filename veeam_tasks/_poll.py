"""The engine, one per manager: what is due, the pollers, who is told."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

import anyio
import attrs

from veeam_tasks import _record
from veeam_tasks._errors import (
    CertificateError,
    LogonError,
    RequestTimeoutError,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._events import Sighting
from veeam_tasks._exchange import Reply
from veeam_tasks._logon import Logon
from veeam_tasks._model import NoticeKind, Task
from veeam_tasks._outage import Gate, Outage
from veeam_tasks._pollers import Poller, Pollers
from veeam_tasks._record import Decision, Moment, Phase, Record, SubscriberRef
from veeam_tasks._roster import Roster
from veeam_tasks._text import Secrets
from veeam_tasks._transport import Transport
from veeam_tasks._verdict import Verdict, judge

_log = logging.getLogger(__name__)

_OK = 200
_STARTED_KEPT = 10_000

ADVICE = (
    "A task belongs to the logon session that started it, and this logon session knows"
    " none of those it was asked for: start and watch tasks through one manager, or"
    " share the logon session (em.token, aclose(log_out=False), adopt())"
)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running asyncio loop.

    Raises:
        RuntimeError: There is none: plain code, or another library such as trio.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001 - never raises, so no context
    if loop is None:
        text = (
            "veeam_tasks runs on asyncio's event loop and there is none running here:"
            " call it inside asyncio.run() or in 'python -m asyncio'; trio is not"
            " supported"
        )
        raise RuntimeError(text)
    return loop


@attrs.define(eq=False, kw_only=True)
class Engine:
    """Polls every watched task once, however many subscribers want it.

    Subscribers are held weakly and have no asyncio task of their own.

    Args:
        on_notice: Told of an outage and of its end, with the tasks at risk.
        max_in_flight: How many pollers there are.
        request_timeout: Seconds until a poll without a reply is given up.
        patience: Seconds that an outage may last; None for ever.
    """

    loop: asyncio.AbstractEventLoop
    transport: Transport
    logon: Logon
    secrets: Secrets
    on_notice: Callable[[NoticeKind, str, Iterable[str]], None]
    max_in_flight: int
    request_timeout: float
    patience: float | None
    max_reply_bytes: int
    polls: int = 0
    retries: int = 0
    errors: int = 0
    has_met_a_task: bool = False
    wanted: anyio.Event = attrs.field(factory=anyio.Event)
    roster: Roster = attrs.field(init=False)
    gate: Gate = attrs.field(init=False)
    pollers: Pollers = attrs.field(init=False)
    _started: dict[str, tuple[Task, Moment]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.roster = Roster(
            loop=self.loop,
            url=lambda task_id: self.transport.url(f"tasks/{task_id}"),
            wake=self._wake,
        )
        self.pollers = Pollers(
            loop=self.loop,
            request_timeout=self.request_timeout,
            take=self._take,
            poll=self._poll,
        )
        self.gate = Gate(
            loop=self.loop,
            patience=self.patience,
            on_probe=self._wake,
            on_spent=self._patience_spent,
            outage=Outage(chance=random.random),
        )

    def subscribe(self, subscriber: SubscriberRef, task_ids: Iterable[str]) -> None:
        """Poll the tasks from now on for a subscriber, a first time soon."""
        generation = self.logon.generation
        for record in self.roster.add(subscriber, task_ids, generation):
            started = self._started.get(record.task_id)
            if started is not None:
                record.task, moment = started
                record.born = record.generation = moment.generation
                record.sent, record.sent_wall = moment.sent, moment.sent_wall
        self.gate.resume()
        self.wanted.set()

    def check_loop(self) -> None:
        """Raise unless called in the event loop that the manager was opened in.

        Raises:
            RuntimeError: Called in another thread or loop, or outside of any.
        """
        if running_loop() is not self.loop:
            text = (
                "this manager belongs to the event loop that it was opened in; call it"
                " from there (from another thread: asyncio.run_coroutine_threadsafe)"
            )
            raise RuntimeError(text)

    def cut_all(self, error: Exception) -> None:
        """End every subscription with an error; its tasks stay unfinished."""
        subscribers = self.roster.clear()
        self.gate.disarm()
        for subscriber in subscribers:
            subscriber.cut(error)

    def submitted(self, task: Task) -> None:
        """Note that a submit of ours gave this task: an older watch of it is over."""
        moment = self._moment()
        self._started.pop(task.task_id, None)
        self._started[task.task_id] = task, moment
        if len(self._started) > _STARTED_KEPT:
            del self._started[next(iter(self._started))]
        self.has_met_a_task = True
        record = self.roster.records.get(task.task_id)
        if record is not None and record.born < moment.generation:
            error = _record.replaced(record, self.logon.renewed_at)
            self._tell(record, _record.lose(record, moment, error))

    def renewed(self) -> None:
        """Ask for each watched task once more, under the new logon session."""
        for record in self.roster.records.values():
            if record.phase >= 0:
                self.roster.put_first(record)

    def good(self) -> None:
        """Note that the server gave a good reply, to whomever."""
        if self.gate.good():
            self._reopen()

    # --- the pollers

    async def _poll(self, me: Poller, record: Record) -> None:
        try:
            await self._ask(me, record)
        finally:
            if me.is_probe:
                # Whatever became of this probe, there will be another if need be.
                self.gate.resume()

    async def _ask(self, me: Poller, record: Record) -> None:
        logon = self.logon
        generation = logon.generation
        sent, sent_wall = self.loop.time(), time.time()
        reply: Reply | None = None
        failure: VeeamTasksError | None = None
        self.pollers.begin(me, sent)
        try:
            reply = await self.transport.poll(
                record.url, logon.token or "", self.max_reply_bytes
            )
        except VeeamTasksError as error:
            failure = error
        except asyncio.CancelledError:
            if not me.is_late():
                raise
            failure = RequestTimeoutError(
                request=f"GET {record.url}",
                reason=f"no reply within {self.request_timeout:g} s",
            )
        finally:
            self.pollers.end(me)
        self.polls += 1
        if record.phase != Phase.POLLING:
            return  # dropped meanwhile
        if (
            reply is not None
            and generation == record.generation
            and reply.status == _OK
            and record.digest == hash(reply.body)
        ):
            record.sent, record.sent_wall = sent, sent_wall
            self.roster.again(record, record.grow())
            if self.gate.outage.is_troubled:
                self.good()
            return
        moment = Moment(
            generation=generation,
            sent=sent,
            sent_wall=sent_wall,
            now=self.loop.time(),
            now_wall=time.time(),
        )
        if reply is None:
            assert failure is not None
            self._meet_trouble(me, record, failure, moment)
        else:
            await self._meet(me, record, reply, moment)

    async def _meet(
        self, me: Poller, record: Record, reply: Reply, moment: Moment
    ) -> None:
        if moment.generation < record.generation:
            self.roster.again(record, 0.0)  # older than what is known
            return
        verdict, value = judge(reply, record.task_id, self.secrets)
        if verdict is Verdict.TASK:
            assert isinstance(value, Task)
            self.meet_task(record, value, hash(reply.body), moment)
            return
        assert isinstance(value, VeeamTasksError)
        if verdict is Verdict.TROUBLE:
            self._meet_trouble(me, record, value, moment)
            return
        self.errors += 1
        if verdict is Verdict.REFUSED:
            await self._meet_refusal(me, record, value, moment)
        else:
            self.logon.note(moment.generation)
            self.good()
            advice = "" if self.has_met_a_task else ADVICE
            renewed_at = self.logon.renewed_at
            self._carry_out(
                record, _record.meet_doubt(record, value, moment, renewed_at, advice)
            )

    def meet_task(
        self, record: Record, task: Task, digest: int, moment: Moment
    ) -> None:
        """Act on a good reply about a task, asked for singly or with all others."""
        self.logon.note(moment.generation)
        self.has_met_a_task = True
        if self.gate.outage.is_troubled:
            self.good()
        decision = _record.meet_task(record, task, moment, self.logon.renewed_at)
        # Finished without a Result is looked at each time.
        record.digest = None if decision.seen is None else digest
        self._carry_out(record, decision)

    async def _meet_refusal(
        self, me: Poller, record: Record, error: VeeamTasksError, moment: Moment
    ) -> None:
        logon = self.logon
        if moment.generation != logon.generation:
            self.roster.again(record, 0.0)  # a late 401: the token is another by now
            return
        record.refusals += 1
        if record.refusals > _record.REFUSED_ROUNDS:
            lost = _record.refused_for_good(record, error)
            self._tell(record, _record.lose(record, moment, lost))
            return
        failure: VeeamTasksError | None = None
        pause = 0.0
        try:
            # The second time it may be this task alone that is refused.
            if record.refusals > 1 and await logon.is_token_good():
                pause = record.reset_pause()
            else:
                await logon.renew(moment.generation)
                self.retries += 1
                self.good()
                if logon.generation == moment.generation:
                    pause = record.reset_pause()
        except LogonError:
            return  # every subscription was cut by it
        except VeeamTasksError as caught:
            failure = caught
        if record.phase != Phase.POLLING:
            return
        if failure is None:
            self.roster.again(record, pause)
        else:
            record.refusals -= 1
            self._meet_trouble(me, record, failure, moment)

    def _meet_trouble(
        self, me: Poller, record: Record, error: VeeamTasksError, moment: Moment
    ) -> None:
        self.errors += 1
        self.retries += 1
        _log.debug("poll of %s failed: %s", record.task_id, error)
        if isinstance(error, CertificateError):
            self.cut_all(error)
            return
        outage = self.gate.outage
        if self.gate.fail(
            record.task_id,
            error,
            moment.now,
            watched=len(self.roster.records),
            is_probe=me.is_probe,
        ):
            self.on_notice(NoticeKind.UNREACHABLE, str(error), self.roster.records)
        patience = None if outage.is_closed else self.patience
        self._carry_out(
            record,
            _record.meet_trouble(record, error, moment, patience, outage.reopened_at),
        )

    # --- acting on decisions

    def _carry_out(self, record: Record, decision: Decision) -> None:
        seen = decision.seen
        if seen is not None:
            self._tell(record, seen)
        if record.phase == Phase.POLLING:
            self.roster.again(record, decision.pause)

    def _tell(self, record: Record, seen: Sighting) -> None:
        if seen.is_final:
            self.roster.drop(record)
            self._started.pop(record.task_id, None)
        for ref in record.subscribers:
            subscriber = ref()
            if subscriber is not None:
                subscriber.see(seen)

    def _take(self, me: Poller) -> Record | None:
        me.is_probe = self.gate.outage.is_closed
        if not me.is_probe:
            return self.roster.take()
        record = self.roster.take_any() if self.gate.take_probe() else None
        if record is None and self.roster.records:
            self.gate.resume()
        return record

    def _wake(self) -> None:
        self.wanted.set()
        self.pollers.wake(self.gate.work(len(self.roster.schedule.ready)))

    def _moment(self) -> Moment:
        now, wall = self.loop.time(), time.time()
        return Moment(
            generation=self.logon.generation,
            sent=now,
            sent_wall=wall,
            now=now,
            now_wall=wall,
        )

    # --- outages

    def _patience_spent(self) -> None:
        last = self.gate.outage.last_error
        self.cut_all(
            TransportError(
                request="the Enterprise Manager",
                reason=f"no good reply for {self.patience:g} s, which is all the"
                f" patience there was; the last was: {last}",
            )
        )

    def _reopen(self) -> None:
        self.on_notice(
            NoticeKind.RECOVERED, "the server answers again", self.roster.records
        )
        self.roster.spread()
