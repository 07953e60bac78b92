"""What becomes of each reply: who is told, who is asked again, who ends."""

import logging
import time
from collections.abc import Callable

import attrs

from veeam_tasks._engine import decisions as _decisions
from veeam_tasks._engine.decisions import Decision
from veeam_tasks._engine.health import ServerHealth
from veeam_tasks._engine.pollers import Poller
from veeam_tasks._engine.records import DueState, PollTimes, TaskRecord
from veeam_tasks._engine.tracker import Roster
from veeam_tasks._errors import CertificateError, LogonError, VeeamTasksError
from veeam_tasks._events import Observation
from veeam_tasks._model import Task
from veeam_tasks._notices import NoticeKind, Notices
from veeam_tasks._protocol.classification import ReplyKind, classify
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.logon_session import LogonSession

_log = logging.getLogger(__name__)

_STARTED_KEPT = 10_000
_HOPELESS = 4 * _decisions.UNAUTHORIZED_ROUNDS

ADVICE = (
    "A task belongs to the logon session that started it, and this logon session knows"
    " none of those it was asked for: start and watch tasks through one manager, or"
    " share the logon session (em.token, aclose(log_out=False), adopt())"
)


@attrs.define(eq=False, kw_only=True)
class Replies:
    """Acts on what the replies of polls prove, as `decisions` decides.

    Args:
        notices: Told of an outage and of its end, with the tasks at risk.
        cut_all: Ends every subscription with an error.
    """

    roster: Roster
    health: ServerHealth
    logon: LogonSession
    secrets: Secrets
    notices: Notices
    cut_all: Callable[[Exception], None]
    patience: float | None
    retries: int = 0
    errors: int = 0
    _started: dict[str, tuple[Task, PollTimes]] = attrs.field(factory=dict)

    def seed_from_submit(self, record: TaskRecord) -> None:
        """Let a new record know what the submit that gave its ID has shown."""
        started = self._started.get(record.task_id)
        if started is not None:
            record.task, moment = started
            record.first_generation = record.generation = moment.generation
            record.sent, record.sent_wall = moment.sent, moment.sent_wall

    async def meet(
        self, me: Poller, record: TaskRecord, reply: Reply, moment: PollTimes
    ) -> None:
        """Act on a reply to the GET of one task; after a 401 ask for the logon session.

        Args:
            me: Who asked; it may be the probe.
            record: What was asked for.
            reply: Not one that was as before, which tells nothing new.
            moment: When and under what it was asked and answered.
        """
        if moment.generation < record.generation:
            self.roster.again(record, 0.0)  # older than what is known
            return
        verdict, value = classify(reply, record.task_id, self.secrets)
        if verdict is ReplyKind.TASK:
            assert isinstance(value, Task)
            self.meet_task(record, value, hash(reply.body), moment)
            return
        assert isinstance(value, VeeamTasksError)
        if verdict is ReplyKind.UNUSABLE:
            self.meet_trouble(me, record, value, moment)
            return
        self.errors += 1
        if verdict is ReplyKind.UNAUTHORIZED:
            await self._meet_refusal(me, record, value, moment)
        else:
            self.logon.mark_accepted(moment.generation)
            self.good()
            is_foreign = verdict is ReplyKind.UNKNOWN and not self.logon.knows_tasks
            advice = ADVICE if is_foreign else ""
            renewed_at = self.logon.renewed_at
            self._apply(
                record, _decisions.on_missing(record, value, moment, renewed_at, advice)
            )

    def meet_task(
        self, record: TaskRecord, task: Task, unchanged_hash: int, moment: PollTimes
    ) -> None:
        """Act on a good reply about a task, asked for singly or with all others."""
        self.logon.mark_accepted(moment.generation)
        self.logon.mark_knows_tasks(moment.generation)
        if self.health.outage.has_failures:
            self.good()
        decision = _decisions.on_task(record, task, moment, self.logon.renewed_at)
        # Finished without a Result is looked at each time.
        record.unchanged_hash = (
            None if record.finished_without_result else unchanged_hash
        )
        self._apply(record, decision)

    async def _meet_refusal(
        self, me: Poller, record: TaskRecord, error: VeeamTasksError, moment: PollTimes
    ) -> None:
        logon = self.logon
        if moment.generation != logon.generation:
            self.roster.again(record, 0.0)  # a late 401: the token is another by now
            return
        failure: VeeamTasksError | None = None
        # A token under which nothing can be read is void, whatever it looks like.
        is_expired = record.unauthorized_rounds >= _HOPELESS and not self._is_alone(
            record
        )
        try:
            is_expired = await logon.renew(moment.generation, is_expired=is_expired)
            self.good()
        except LogonError:
            return  # every subscription was cut by it
        except VeeamTasksError as caught:
            failure = caught
        if record.due != DueState.POLLING:
            return
        if failure is not None:
            self.meet_trouble(me, record, failure, moment)
            return
        # Or a good reply like the last one would not end the count.
        record.unchanged_hash, record.trouble = None, str(error)
        is_renewed = logon.generation != moment.generation
        self.retries += is_renewed
        pause = 0.0
        if is_expired:
            record.unauthorized_rounds = 0
        else:
            pause = _decisions.count_unauthorized(record, moment)
        if record.unauthorized_rounds > _decisions.UNAUTHORIZED_ROUNDS:
            if self._is_alone(record):
                lost = _decisions.denied_for_good(record, error)
                self._tell(record, _decisions.lost(record, moment, lost))
            else:
                self.meet_trouble(me, record, error, moment)
            return
        # Where it may be this task alone, others are to try a new token first.
        is_quick = is_renewed and is_expired
        self.roster.again(record, 0.0 if is_quick else pause or record.reset_pause())

    def _is_alone(self, record: TaskRecord) -> bool:
        """Tell whether other tasks are not refused: else the server is unwell."""
        others = [one for one in self.roster.everything() if one is not record]
        return not others or any(one.unauthorized_rounds == 0 for one in others)

    def meet_trouble(
        self, me: Poller, record: TaskRecord, error: VeeamTasksError, moment: PollTimes
    ) -> None:
        """Act on a poll that told nothing about its task; it may close the gate."""
        self.errors += 1
        self.retries += 1
        _log.debug("poll of %s failed: %s", record.task_id, error)
        if isinstance(error, CertificateError):
            self.cut_all(error)
            return
        outage = self.health.outage
        self.count_failure(me, record.task_id, error, moment.now, sent=moment.sent)
        patience = None if outage.is_closed else self.patience
        self._apply(
            record,
            _decisions.on_failure(record, error, moment, patience, outage.reopened_at),
        )

    def count_failure(
        self,
        me: Poller,
        what: str,
        error: VeeamTasksError,
        now: float,
        *,
        sent: float,
    ) -> None:
        """Count a failure to get `what`, and tell of the outage if that begins it."""
        watched = len(self.roster.records) + len(self.roster.runs)
        if self.health.record_failure(
            what, error, now, sent=sent, watched=watched, who=me
        ):
            self.notices.tell(
                NoticeKind.UNREACHABLE, str(error), self.roster.task_ids, error
            )

    def _apply(self, record: TaskRecord, decision: Decision) -> None:
        seen = decision.seen
        if seen is not None:
            self._tell(record, seen)
        if record.due == DueState.POLLING:
            self.roster.again(record, decision.pause)

    def _tell(self, record: TaskRecord, seen: Observation) -> None:
        if seen.is_final:
            self.roster.drop(record)
            self._started.pop(record.task_id, None)
        for ref in list(record.subscribers):
            subscriber = ref()
            if subscriber is not None:
                subscriber.on_observation(seen)

    def note_submitted(self, task: Task, generation: int) -> None:
        """Note that a submit of ours gave this task: an older watch of it is over.

        Its reply may come when the logon session that it was sent under is no more.
        """
        moment = _moment(self.roster, generation)
        self.logon.mark_knows_tasks(generation)
        record = self.roster.records.get(task.task_id)
        if record is not None and record.first_generation < moment.generation:
            error = _decisions.replaced(record, self.logon.renewed_at)
            self._tell(record, _decisions.lost(record, moment, error))
        # Not before, since what has ended is forgotten.
        self._started.pop(task.task_id, None)
        self._started[task.task_id] = task, moment
        if len(self._started) > _STARTED_KEPT:
            del self._started[next(iter(self._started))]

    def started_under(self, task_id: str) -> int:
        """Return under which generation a submit of ours gave this ID; 0 if none."""
        started = self._started.get(task_id)
        return 0 if started is None else started[1].generation

    def good(self) -> None:
        """Note that the server gave a good reply, to whomever."""
        if self.health.record_success():
            self._reopen()

    def _reopen(self) -> None:
        self.notices.tell(
            NoticeKind.RECOVERED, "the server answers again", self.roster.task_ids
        )


def _moment(roster: Roster, generation: int) -> PollTimes:
    now, wall = roster.loop.time(), time.time()
    return PollTimes(
        generation=generation, sent=now, sent_wall=wall, now=now, now_wall=wall
    )
