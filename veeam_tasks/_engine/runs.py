"""`Runs`: polls the job sessions that watched tasks have started, to their end.

A run is an item of the same queue as a task, polled by the same pollers, under the same
logon session, limits and health. It never asks for what nobody follows.
"""

import time
from collections.abc import Callable
from functools import partial

import attrs

from veeam_tasks._engine import decisions as _decisions
from veeam_tasks._engine import run_decisions as _runs
from veeam_tasks._engine.decisions import Decision
from veeam_tasks._engine.health import ServerHealth
from veeam_tasks._engine.records import Ask, DueState, PollTimes, SubscriberRef
from veeam_tasks._engine.run_batches import SessionBatches, hash_of_page, is_unchanged
from veeam_tasks._engine.run_records import (
    Deadline,
    LinkRequest,
    QueryRequest,
    RunRecord,
)
from veeam_tasks._engine.run_sessions import (
    MachineReader,
    SessionOwners,
    log_search,
    log_unreadable,
    session_path_of,
)
from veeam_tasks._engine.tracker import Tracker
from veeam_tasks._errors import CertificateError, VeeamTasksError
from veeam_tasks._events import Observation
from veeam_tasks._model import JobSession, SessionResult, Task, TaskState
from veeam_tasks._protocol.classification import (
    ReplyKind,
    classify,
    classify_session,
)
from veeam_tasks._protocol.messages import OK, Reply
from veeam_tasks._protocol.session_paths import (
    entity_path,
    is_session_path,
    other_path,
    uid_query,
)
from veeam_tasks._protocol.sessions import SessionPage, guid_of
from veeam_tasks._protocol.urls import resource_path
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import parsed
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._session.session_pages import read_page
from veeam_tasks._session.session_search import (
    SessionSource,
    is_of_job,
    session_link,
    source_of,
)
from veeam_tasks._session.submitted import Submits, Submitted
from veeam_tasks._telemetry.notices import TASKS
from veeam_tasks._transport.transport import Transport

# A job session that so many queries did not show is asked for singly from then on.
_MISSED_OFTEN = 3
_WITH_REASONS = (SessionResult.FAILED, SessionResult.WARNING)


@attrs.define(eq=False, kw_only=True)
class Runs:
    """Finds the job session of each followed task, and polls it until it is Stopped.

    Args:
        limit: How long the reply about one job session may be, in bytes.
        long_limit: How long a page of job sessions may be.
        end_all: Ends every subscription with an error.
        batches: Which job sessions are asked for together.

    Attributes:
        habits: How this server takes queries.
    """

    tracker: Tracker
    transport: Transport
    session: LogonSession
    secrets: Secrets
    health: ServerHealth
    submits: Submits
    limit: int
    long_limit: int
    patience: float | None
    end_all: Callable[[Exception], None]
    batches: SessionBatches
    habits: _runs.QueryHabits = attrs.field(factory=_runs.QueryHabits)
    _owners: SessionOwners = attrs.field(init=False)
    _machines: MachineReader = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._owners = SessionOwners(self.tracker.runs)
        self._machines = MachineReader(
            transport=self.transport,
            secrets=self.secrets,
            limit=self.long_limit,
            url=self.tracker.monitor.url,
        )

    # --- who follows what

    def begin(
        self,
        subscriber: SubscriberRef,
        seen: Observation,
        seconds: float,
        submitted: Submitted | None = None,
    ) -> RunRecord | None:
        """Follow what a task that has ended has started; None if that is nothing.

        Args:
            subscriber: Who wants to know of it.
            seen: The end of the task.
            seconds: How long the job session may be searched.
            submitted: Where the task came from, if a process before us submitted it.
        """
        submitted = submitted or self.submits.of(seen.task_id)
        if submitted is not None and submitted.generation > seen.generation:
            submitted = None  # it gave the ID to a later task
        task = seen.task
        if task is None and submitted is not None:
            task = submitted.task
        if task is None or not self._goes_on(seen, task):
            return None
        started = None if submitted is None else submitted.started
        source = source_of(task, started)
        link = self._path_of_link(task)
        is_lost = seen.state is TaskState.LOST
        if is_lost and link is None and source is not SessionSource.QUERY:
            return None  # nothing can tell of it any more
        if source is SessionSource.NOWHERE:
            return None
        # A submit of ours tells two tasks under one ID apart; else the generation does.
        number = seen.generation - 1 if submitted is None else submitted.number
        record = self.tracker.runs.get((seen.task_id, number))
        if record is None:
            record = RunRecord(
                pace=subscriber.pace,
                task_id=seen.task_id,
                first_generation=seen.generation,
                number=number,
                task=task,
                submitted=submitted,
                started=started,
                source=source,
                has_task=not is_lost,
                lost_by=_runs.lost_by(seen),
                path=link,
                session_id=guid_of((link or "").partition("?")[0]),
            )
            self.tracker.runs[record.key] = record
            if record.is_by_link:
                log_search(record, seconds, self.tracker.monitor.url)
        # Whoever joins has a deadline of its own, and lets the search go on until then.
        until = self.tracker.loop.time() + seconds
        held = self.tracker.queue.held.seconds
        record.want(subscriber, Deadline(until, seconds, held))
        self.tracker.hurry(record)
        self.health.resume()
        return record

    def resume(
        self,
        subscriber: SubscriberRef,
        record: RunRecord,
        deadline: Deadline,
    ) -> RunRecord:
        """Follow a run that a process before us has followed; return its record."""
        record = self.tracker.runs.setdefault(record.key, record)
        # As every record begins: nobody polls it.
        if record.due == DueState.DROPPED and record.session is not None:
            self._owners.take(record, record.session)
        held = self.tracker.queue.held.seconds
        record.want(subscriber, attrs.evolve(deadline, held_before=held))
        self.tracker.hurry(record)
        self.health.resume()
        return record

    def _goes_on(self, seen: Observation, task: Task) -> bool:
        """Tell whether a task has ended so that a job session may tell more."""
        if seen.state is TaskState.LOST:
            # Only if the logon session took it along: the job is not lost by that.
            return seen.generation < self.session.generation and task.succeeded in {
                True,
                None,
            }
        return seen.succeeded is True

    def _path_of_link(self, task: Task) -> str | None:
        link = session_link(task)
        if link is None:
            return None
        try:
            path = resource_path(link, self.transport.base)
        except ValueError:
            return None  # to another server, which is not ours to ask
        return entity_path(path) if is_session_path(path) else None

    def leave(self, subscriber: SubscriberRef, record: RunRecord) -> None:
        """Let a subscriber follow a run no more."""
        if subscriber in record.subscribers:
            record.leave(subscriber)
            if not record.subscribers:
                self.tracker.drop(record)

    # --- one poll

    async def poll(self, ask: Ask, record: RunRecord) -> None:
        """Ask for what tells next of a run, and act on the reply."""
        if record.session is not None and not self.health.outage.is_closed:
            members = self.batches.gather(record, self.tracker.loop.time())
            if len(members) > 1:
                await self._poll_together(ask, members)
                return
        await self._poll_singly(ask, record)

    async def _poll_singly(self, ask: Ask, record: RunRecord) -> None:
        # As with tasks, no await between here and where the token is read.
        generation = self.session.generation
        sent, sent_wall = self.tracker.loop.time(), time.time()
        is_same = generation == record.first_generation
        request = _runs.next_request(record, self.habits, sent, may_ask_task=is_same)
        if request is None:
            reason = "its task is gone and had linked to no job session"
            times = _times(generation, sent, sent_wall, sent)
            self._tell(record, _runs.lost(record, times, reason))
            return
        limit = self.long_limit if isinstance(request, QueryRequest) else self.limit
        url, before = self.transport.url(request.path), self.transport.in_flight
        reply = await ask(url, limit, "")
        if record.due != DueState.POLLING:
            return  # dropped meanwhile
        times = _times(generation, sent, sent_wall, self.tracker.loop.time())
        self._note_asked(record, times, before)
        if not isinstance(reply, Reply):
            await self._on_trouble(record, reply, times)
        elif (
            record.unchanged_hash == hash(reply.body)
            and generation == record.generation
            and reply.status == OK
        ):
            # Of nearly every poll this is the end, see `Engine._poll`.
            record.sent, record.sent_wall = sent, sent_wall
            self.tracker.reschedule(record, record.grow())
            if self.health.outage.has_failures:
                self.health.record_success()
        elif isinstance(request, LinkRequest):
            await self._on_link_reply(ask, record, reply, times)
        elif isinstance(request, QueryRequest):
            await self._on_query_reply(ask, record, request, reply, times)
        else:
            await self._on_task_reply(record, reply, times)

    def _note_asked(self, record: RunRecord, times: PollTimes, before: int) -> None:
        if record.session is not None:
            self.batches.note_asked(record)
            self.batches.note_single(self._load_of(times, before))

    def _load_of(self, times: PollTimes, before: int) -> float:
        """Return for how long a request alone would have kept the server at work.

        Of a burst the first has many behind it, and the last had many before it: the
        mean of both is right for all of them together.
        """
        beside = (before + self.transport.in_flight) / 2
        return (times.now - times.sent) / (beside + 1)

    async def _poll_together(self, ask: Ask, members: list[RunRecord]) -> None:
        """Ask for several job sessions with one query, and act on what it says of each.

        1. As before, or a page of sessions: that is acted on, one by one.
        2. The query was refused: all are asked for singly, at once.
        3. Nothing usable came: the first one stands for all. Were it counted for each
           of them, one lost reply would be twenty failures, and begin an outage.
        """
        lead = members[0]
        assert lead.session is not None
        kind, loop = lead.session.kind, self.tracker.loop
        generation = self.session.generation
        sent, sent_wall = loop.time(), time.time()
        path = uid_query(kind, [one.session_id or "" for one in members])
        before = self.transport.in_flight
        reply = await ask(self.transport.url(path), self.long_limit, "")
        times = _times(generation, sent, sent_wall, loop.time())
        load = self._load_of(times, before)
        reply_kind, keys = ReplyKind.UNUSABLE, tuple[int, ...]()
        value: SessionPage | VeeamTasksError
        if not isinstance(reply, Reply):
            value = reply
        elif is_unchanged(members, reply.body):
            self.batches.note_together(load)
            self._on_unchanged(members, times)
            return
        else:
            known = self.batches.shown(members)
            read = await read_page(reply, self.secrets, known)
            reply_kind, value, keys = read.kind, read.value, read.keys
        if isinstance(value, SessionPage):
            self.batches.note_together(load)
            self._note_good(times)
            self.batches.note_shown(members, value.sessions, keys)
            assert isinstance(reply, Reply)
            await self._on_members(ask, members, value, times, hash_of_page(reply.body))
            return
        # A server that does not take the query is not asked again.
        is_refused = reply_kind in {ReplyKind.UNKNOWN, ReplyKind.FORBIDDEN}
        self.batches.note_failed(sent, is_refused=is_refused)
        log_unreadable(len(members), value, self.tracker.monitor.url)
        for one in members[0 if is_refused else 1 :]:
            if one.due == DueState.POLLING:
                self.tracker.reschedule(one, 0.0 if is_refused else one.pause)
        if not is_refused and lead.due == DueState.POLLING:
            await self._on_other(lead, reply_kind, value, times)

    def _on_unchanged(self, members: list[RunRecord], times: PollTimes) -> None:
        """Act on a page that is as before, which tells nobody anything."""
        self._note_good(times)
        chance = self.tracker.random.random()
        for one in members:
            if one.due == DueState.POLLING:
                _runs.on_answer(one, times)
                self.batches.note_asked(one)
                pause = one.pace.jittered(one.grow(), chance)
                self.tracker.queue.add_after(one, pause)

    async def _on_members(
        self,
        ask: Ask,
        members: list[RunRecord],
        page: SessionPage,
        times: PollTimes,
        page_hash: int,
    ) -> None:
        """Act on each of the job sessions that one query has told of."""
        found = {session.session_id: session for session in page.sessions}
        chance = self.tracker.random.random()
        ended: list[tuple[RunRecord, Decision]] = []
        for one in members:
            if one.due != DueState.POLLING:
                continue
            one.unchanged_hash = None
            session = found.get(one.session_id or "")
            if session is None:
                # It may be gone; that is for a single request to say.
                one.is_single = True
                one.missed += 1
                self.tracker.reschedule(one, 0.0)
                continue
            decision = _runs.on_session(one, session, times)
            self.batches.note_asked(one)
            if decision.seen is not None and decision.seen.is_final:
                ended.append((one, decision))
                continue
            if not one.resultless:  # else it is looked at each time
                one.unchanged_hash = page_hash
            if decision.seen is not None:
                self._tell(one, decision.seen)
            if one.due == DueState.POLLING:
                # All at the same time, so that they come together again.
                pause = one.pace.jittered(decision.pause, chance)
                self.tracker.queue.add_after(one, pause)
        # Last: their machines are read first, which the others are not to wait for.
        for one, decision in ended:
            if one.due == DueState.POLLING:
                await self._apply(ask, one, decision)

    async def _on_link_reply(
        self, ask: Ask, record: RunRecord, reply: Reply, times: PollTimes
    ) -> None:
        assert record.session_id is not None
        is_seen = record.session is not None
        classify_it = partial(classify_session, is_seen=is_seen)
        kind, value = await parsed(classify_it, reply, record.session_id, self.secrets)
        if record.due != DueState.POLLING:
            return  # dropped while a long reply was read in a thread
        if isinstance(value, JobSession):
            self._note_good(times)
            self._owners.take(record, value)
            # Back to those that are asked for together, unless the query leaves it out.
            record.is_single = record.missed >= _MISSED_OFTEN
            decision = _runs.on_session(record, value, times)
            # Stopped without a Result is looked at each time.
            record.unchanged_hash = None if record.resultless else hash(reply.body)
            await self._apply(ask, record, decision)
        elif kind is ReplyKind.UNKNOWN:
            self.tracker.errors += 1
            self._note_good(times)
            other = None if record.path is None else other_path(record.path)
            if other is not None:
                # At once; and once, since the other place has no other place.
                record.path = other
                self.tracker.reschedule(record, 0.0)
            elif is_seen:
                decision = _runs.on_unknown(record, value, times)
                await self._apply(ask, record, decision)
            else:
                _runs.on_answer(record, times)
                record.trouble = str(value)
                self._go_on(record, times)
        else:
            await self._on_other(record, kind, value, times)

    async def _on_task_reply(
        self, record: RunRecord, reply: Reply, times: PollTimes
    ) -> None:
        kind, value = await parsed(classify, reply, record.task_id, self.secrets)
        if record.due != DueState.POLLING:
            return
        if isinstance(value, Task):
            self.session.origins.give(value)
            self._note_good(times)
            _runs.on_answer(record, times)
            link = self._path_of_link(value)
            if link is not None:
                record.task = value
                record.path, record.steps = link, []
                record.session_id = guid_of(link.partition("?")[0])
                self.tracker.reschedule(record, 0.0)
                return
            self._go_on(record, times)
        elif kind in {ReplyKind.UNKNOWN, ReplyKind.FORBIDDEN}:
            # It has ended well, which is all that is wanted of it.
            self._note_good(times)
            _runs.on_answer(record, times)
            record.has_task = False
            self._go_on(record, times)
        else:
            await self._on_other(record, kind, value, times)

    async def _on_query_reply(
        self,
        ask: Ask,
        record: RunRecord,
        request: QueryRequest,
        reply: Reply,
        times: PollTimes,
    ) -> None:
        read = await read_page(reply, self.secrets)
        kind, value = read.kind, read.value
        if record.due != DueState.POLLING:
            return
        if isinstance(value, SessionPage):
            self._note_good(times)
            started = record.started
            assert started is not None
            if any(is_of_job(one, started.job_guid) for one in value.sessions):
                self.habits.note_found(request)
            taken = self._owners.taken_by_others(record, value.sessions)
            found = _runs.on_sessions(record, value.sessions, taken)
            if found is None:
                _runs.on_answer(record, times)
                self._go_on(record, times)
                return
            record.path = session_path_of(found, self.transport.base)
            self._owners.take(record, found)
            decision = _runs.on_session(record, found, times)
            await self._apply(ask, record, decision)
        elif kind is ReplyKind.UNKNOWN:
            self.tracker.errors += 1
            self._note_good(times)
            _runs.on_answer(record, times)
            record.trouble = str(value)
            if self.habits.note_refused(request):
                # The same question in another form, still in this round.
                record.steps.insert(0, request.kind)
                self.tracker.reschedule(record, 0.0)
            else:
                self._go_on(record, times)
        else:
            await self._on_other(record, kind, value, times)

    async def _on_other(
        self,
        record: RunRecord,
        kind: ReplyKind,
        error: object,
        times: PollTimes,
    ) -> None:
        assert isinstance(error, VeeamTasksError)
        if kind is ReplyKind.FORBIDDEN:
            self.tracker.errors += 1
            self._note_good(times)
            reason = _runs.forbidden(record, error)
            self._tell(record, _runs.lost(record, times, reason))
        elif kind is ReplyKind.UNAUTHORIZED:
            self.tracker.errors += 1
            await self._on_unauthorized(record, error, times)
        else:
            await self._on_trouble(record, error, times)

    # --- what follows

    def _go_on(self, record: RunRecord, times: PollTimes) -> None:
        """Go on with a search, for those who still let it go on."""
        seen: Observation | None = None
        for ref, deadline in list(record.deadlines.items()):
            held = self.tracker.queue.held.seconds - deadline.held_before
            if not _runs.is_not_found(record, deadline.at + held):
                continue
            subscriber = ref()
            reason = _runs.not_found(record, deadline.seconds)
            seen = _runs.lost(record, times, reason)
            record.leave(ref)
            if subscriber is not None:
                subscriber.on_observation(seen)
        if not record.subscribers:
            if seen is not None:
                self.tracker.count(record, seen)
            self.tracker.drop(record)
        elif record.due == DueState.POLLING:
            self.tracker.reschedule(record, _runs.end_round(record, times))

    async def _apply(self, ask: Ask, record: RunRecord, decision: Decision) -> None:
        seen = decision.seen
        if seen is not None and seen.is_final and seen.error is None:
            assert seen.session is not None
            if seen.session.result in _WITH_REASONS:
                # Before it is told, since nothing comes after the final event.
                failures = await self._machines.read_failures(ask, seen.session)
                seen = attrs.evolve(seen, failures=failures)
                if record.due != DueState.POLLING:
                    return
        if seen is not None:
            self._tell(record, seen)
        if record.due == DueState.POLLING:
            self.tracker.reschedule(record, decision.pause)

    def _tell(self, record: RunRecord, seen: Observation) -> None:
        self.tracker.count(record, seen, is_ours=record.started is not None)
        if seen.is_final:
            # Before anyone is told, who may want it anew.
            self.tracker.drop(record)
        for ref in list(record.subscribers):
            subscriber = ref()
            if subscriber is not None:
                subscriber.on_observation(seen)

    def _note_good(self, times: PollTimes) -> None:
        self.session.mark_accepted(times.generation)
        if self.health.outage.has_failures:
            self.health.record_success()

    async def _on_trouble(
        self, record: RunRecord, error: VeeamTasksError, times: PollTimes
    ) -> None:
        """Act on a poll that told nothing about its run; an outage may begin by it."""
        self.tracker.errors += 1
        self.tracker.retries += 1
        what = f"the run of {record.task_id}"
        told = self.tracker.monitor.failed_poll(record.task_id, error, record.stage)
        TASKS.debug("poll for %s failed: %s", what, error, extra=told)
        if isinstance(error, CertificateError):
            self.end_all(error)
            return
        outage = self.health.outage
        self.health.record_failure(record, error, sent=times.sent)
        patience = None if outage.is_closed else self.patience
        pause = _decisions.count_failure(
            record, error, times, patience, outage.reopened_at
        )
        if pause is None:
            reason = f"only errors for it for {self.patience:g} s, the last: {error}"
            self._tell(record, _runs.lost(record, times, reason))
            return
        # No search ends by a round without an answer, unless nothing else comes.
        record.steps, record.is_round_clean = [], False
        if record.session is None and not outage.is_closed:
            self._go_on(record, times)
        if record.due == DueState.POLLING:
            self.tracker.reschedule(record, pause)

    async def _on_unauthorized(
        self, record: RunRecord, error: VeeamTasksError, times: PollTimes
    ) -> None:
        """Act on a 401, see `Tracker.on_unauthorized`."""
        failure = await self.tracker.on_unauthorized(record, error, times)
        if failure is None:
            return
        if failure is error and self.tracker.is_refused_alone(record):
            reason = _runs.forbidden(record, error)
            self._tell(record, _runs.lost(record, times, reason))
        else:
            await self._on_trouble(record, failure, times)


def _times(generation: int, sent: float, sent_wall: float, now: float) -> PollTimes:
    return PollTimes(
        generation=generation,
        sent=sent,
        sent_wall=sent_wall,
        now=now,
        now_wall=time.time(),
    )
