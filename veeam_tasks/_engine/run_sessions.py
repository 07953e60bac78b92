"""Which job session is whose, where it is asked for, and the machines in it."""

from collections.abc import Mapping

import attrs
from yarl import URL

from veeam_tasks._engine.records import Ask
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._errors import LogonError, VeeamTasksError
from veeam_tasks._model import JobSession, SessionResult, TaskSession
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import NOT_FOUND, Reply
from veeam_tasks._protocol.session_paths import (
    entity_path,
    is_session_path,
    machines_paths,
    path_of,
)
from veeam_tasks._protocol.sessions import (
    decode_failover_tasks,
    decode_task_sessions,
    guid_of,
)
from veeam_tasks._protocol.urls import resource_path
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import parsed
from veeam_tasks._session.session_search import choose
from veeam_tasks._telemetry.notices import TASKS, error_fields
from veeam_tasks._transport.transport import Transport

_PAGES_OF_MACHINES = 10
_TAKEN_KEPT = 10_000


def session_path_of(session: JobSession, base: URL) -> str:
    """Return where a job session that a query gave is asked for."""
    if session.href is not None:
        try:
            path = resource_path(session.href, base)
        except ValueError:
            path = ""
        if is_session_path(path) and guid_of(path) == session.session_id:
            return entity_path(path)
    return entity_path(path_of(session))


def log_search(record: RunRecord, seconds: float, url: str) -> None:
    """Log that the search may be in vain, or it would be silent for long."""
    told = {"em_url": url, "event": "by_link_alone", "task_id": record.task_id}
    text = "the job session of %s is found only if the task links to it; it is asked"
    TASKS.info(f"{text} again for %g s", record.task_id, seconds, extra=told)


def log_unreadable(number: int, error: VeeamTasksError, url: str) -> None:
    """Log that a query for several job sessions told nothing of them."""
    told = {"em_url": url, "event": "sessions_unreadable", **error_fields(error)}
    TASKS.info(
        "%d job sessions could not be had together: %s", number, error, extra=told
    )


@attrs.define(eq=False)
class SessionOwners:
    """Which job session is the run of which start, so that no two starts share one."""

    _runs: Mapping[tuple[str, int], RunRecord]
    _taken: dict[str, tuple[str, int]] = attrs.field(factory=dict)

    def take(self, record: RunRecord, session: JobSession) -> None:
        """Remember that a job session is the run of this start."""
        if session.session_id not in self._taken:
            self._taken[session.session_id] = record.key
            if len(self._taken) > _TAKEN_KEPT:
                del self._taken[next(iter(self._taken))]

    def taken_by_others(
        self, record: RunRecord, sessions: tuple[JobSession, ...]
    ) -> dict[str, str]:
        """Return job sessions that other starts have, or have to get first.

        Of two starts of one job that are searched, the earlier takes the older run.
        """
        taken: dict[str, str] = {}
        for session in sessions:
            owner = self._taken.get(session.session_id)
            if owner is not None and owner != record.key:
                taken[session.session_id] = owner[0]
        started = record.started
        assert started is not None
        earlier = [
            other
            for other in self._runs.values()
            if other.number < record.number
            and other.path is None
            and other.started is not None
            and other.started.job_guid == started.job_guid
        ]
        for other in sorted(earlier, key=lambda one: one.number):
            assert other.started is not None
            left = [one for one in sessions if one.session_id not in taken]
            theirs = choose(left, other.started)
            if theirs is not None:
                taken[theirs.session_id] = other.task_id
        return taken


@attrs.define(eq=False, kw_only=True)
class MachineReader:
    """Reads the machines of a run that did not end with Success.

    Args:
        limit: How long a page of them may be, in bytes.
        url: Of the server, for the log.
    """

    transport: Transport
    secrets: Secrets
    limit: int
    url: str

    async def read_failures(
        self, ask: Ask, session: JobSession
    ) -> tuple[TaskSession, ...]:
        """Return the machines that did not end with Success, as far as they are had.

        Once, and whatever goes wrong changes nothing: how the run ended is known.
        """
        try:
            if session.kind == "CloudFailoverSession":
                reply = await self._get(
                    ask, session_path_of(session, self.transport.base)
                )
                found = list(await parsed(decode_failover_tasks, reply, self.secrets))
            else:
                found = await self._machines(ask, session)
        except LogonError:
            raise
        except VeeamTasksError as error:
            told = {
                "em_url": self.url,
                "event": "machines_unreadable",
                "job_session_id": session.session_id,
                "job_name": session.job_name,
                **error_fields(error),
            }
            text = "the machines of %s could not be read: %s"
            TASKS.info(text, session, error, extra=told)
            return ()
        return tuple([one for one in found if one.result is not SessionResult.SUCCESS])

    async def _machines(self, ask: Ask, session: JobSession) -> list[TaskSession]:
        found: list[TaskSession] = []
        paths = list(machines_paths(session, self.transport.base))
        path = paths.pop(0) if paths else None
        for _ in range(_PAGES_OF_MACHINES):
            if path is None:
                break
            reply = await self._get(ask, path, may_miss=bool(paths))
            if reply.status == NOT_FOUND:
                path = paths.pop(0)
                continue
            page = await parsed(decode_task_sessions, reply, self.secrets)
            paths.clear()
            found += page.sessions
            path = page.next_path
        return found

    async def _get(self, ask: Ask, path: str, *, may_miss: bool = False) -> Reply:
        reply = await ask(self.transport.url(path), self.limit, "")
        if not isinstance(reply, Reply):
            raise reply
        if not reply.is_success and not (may_miss and reply.status == NOT_FOUND):
            raise _replies.status_error(reply, self.secrets)
        return reply
