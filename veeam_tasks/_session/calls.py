"""Calls: what is asked for once, and once more only under a renewed token."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from typing import Any, Protocol
from urllib.parse import unquote

import attrs

from veeam_tasks._errors import (
    MalformedReplyError,
    StatusError,
    TaskLostError,
    TaskNotFoundError,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._model import TASK_ID, JobSession, Task, TaskSession
from veeam_tasks._options.settings import Settings
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.actions import check_deleted, task_started
from veeam_tasks._protocol.classification import ReplyKind, classify, refuses_token
from veeam_tasks._protocol.messages import NOT_FOUND, Reply, Request
from veeam_tasks._protocol.session_paths import (
    JobFilter,
    job_query,
    machines_paths,
    other_path,
    session_path,
)
from veeam_tasks._protocol.sessions import (
    decode_failover_tasks,
    decode_session,
    decode_sessions,
    decode_task_sessions,
)
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import CollectionReader, parsed, read_collection
from veeam_tasks._session.logon_session import ADVICE, LogonSession
from veeam_tasks._session.session_search import job_action_of
from veeam_tasks._session.submitted import (
    KnownSessions,
    Submitted,
    known_sessions,
    started_job,
)
from veeam_tasks._telemetry.notices import TASKS, error_fields

_LONG_AGO = datetime.fromtimestamp(0, UTC)
# Of those a job had before: what began in the minutes before the start is among them.
_NEWEST_KNOWN = 30
_MOST_COLLECTIONS = 5
_OF_A_TASK = re.compile(rf"tasks/({TASK_ID.pattern})(?:[/?].*)?", re.IGNORECASE)


class CallObserver(Protocol):
    """Is told what single requests show: the engine, which polls the same server."""

    def record_success(self) -> None:
        """Take note that the server gave a good reply."""

    def note_submitted(self, submitted: Submitted) -> None:
        """Take note of an action that was answered with a task."""

    def last_seen(self, task_id: str) -> Task | None:
        """Return a watched task as it was seen last; None if it never was."""


@attrs.define(eq=False, kw_only=True)
class Calls:
    """Single requests of callers, in slots of their own beside those of the pollers.

    Args:
        session: Sends them under the token.
        observer: Is told what they show of the server and of tasks.

    Attributes:
        errors: How many of them ended in an error.
    """

    session: LogonSession
    observer: CallObserver
    secrets: Secrets
    settings: Settings
    errors: int = 0
    _reads: asyncio.Semaphore = attrs.field(init=False)
    _actions: asyncio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Actions do not wait behind reads.
        self._reads = asyncio.Semaphore(self.settings.max_in_flight)
        self._actions = asyncio.Semaphore(self.settings.max_in_flight)

    async def fetch(self, task_id: str) -> Task:
        """GET one task."""
        with self._counted():
            request = self._get(f"tasks/{task_id}", self.settings.resource_bytes)
            reply, generation = await self._read(request)
            kind, value = await parsed(classify, reply, task_id, self.secrets)
            if isinstance(value, Task):
                self.session.mark_knows_tasks(generation)
                self.session.origins.give(value)
                self._check_foreign(task_id)
                return value
            if kind is ReplyKind.UNKNOWN and isinstance(value, StatusError):
                raise self._advised(value)
            raise value

    async def fetch_all(self) -> list[Task]:
        """GET the tasks of this logon session, every page."""
        with self._counted():
            shown = f"GET {self.settings.base}tasks"
            for _ in range(_MOST_COLLECTIONS):
                pages = await self._collection(shown)
                if pages is None:
                    continue
                generation = self.session.generation
                tasks = await pages.tasks()
                if tasks:
                    self.session.mark_knows_tasks(generation)
                for task in tasks:
                    self.session.origins.give(task)
                return tasks
            raise TransportError(
                request=shown,
                reason=f"the logon session was renewed {_MOST_COLLECTIONS} times while"
                " its pages were read",
            )

    async def _collection(self, shown: str) -> CollectionReader | None:
        """Return the pages of one logon session; None if it was renewed meanwhile."""
        pages = CollectionReader(
            loop=asyncio.get_running_loop(),
            shown=shown,
            limit=self.settings.collection_bytes,
            secrets=self.secrets,
        )
        first: int | None = None

        async def send(path: str) -> Reply | None:
            nonlocal first
            request = self._get(path, self.settings.collection_bytes)
            reply, generation = await self._read(request, is_bound=first is not None)
            first = generation if first is None else first
            is_refused = refuses_token(reply)
            if generation != first or (is_refused and first != self.session.generation):
                return None
            return reply

        return None if await read_collection(pages, send) is None else pages

    async def read(self, path: str) -> Mapping[str, Any]:
        """GET any resource below ``/api/``, decoded."""
        with self._counted():
            request = self._get(path, self.settings.collection_bytes)
            reply, _ = await self._read(request)
            self._check(reply)
            return await parsed(_replies.decode_resource, reply, self.secrets)

    async def fetch_session(self, path: str) -> JobSession:
        """GET one job session; one of an agent's or a NAS job's also where all are."""
        with self._counted():
            reply = await self._plain(path)
            other = other_path(path)
            if reply.status == NOT_FOUND and other is not None:
                reply = await self._plain(other)
            self._check(reply)
            return await parsed(decode_session, reply, self.secrets)

    async def fetch_session_tasks(self, session: JobSession) -> tuple[TaskSession, ...]:
        """GET the machines of a job session, every page; () for kinds without any."""
        if not isinstance(session, JobSession):
            text = (
                f"a job session is given as a JobSession, not {type(session).__name__}"
            )
            raise TypeError(text)
        with self._counted():
            if session.kind == "CloudFailoverSession":
                reply = await self._plain(
                    session_path(session, self.settings.base), is_long=True
                )
                self._check(reply)
                return await parsed(decode_failover_tasks, reply, self.secrets)
            paths = machines_paths(session, self.settings.base)
            for path in paths:
                reply = await self._plain(path, is_long=True)
                if reply.status != NOT_FOUND or path == paths[-1]:
                    return await self._machines(reply)
            return ()

    async def _machines(self, reply: Reply) -> tuple[TaskSession, ...]:
        """Return the machines of a first page and of those after it."""
        found: list[TaskSession] = []
        asked: set[str] = set()
        while True:
            self._check(reply)
            page = await parsed(decode_task_sessions, reply, self.secrets)
            found += page.sessions
            path = page.next_path
            if path is None:
                return tuple(found)
            if path in asked or not page.sessions:
                problem = "its pages go on without end"
                raise MalformedReplyError(request=reply.request, problem=problem)
            asked.add(path)
            reply = await self._plain(path, is_long=True)

    async def known_sessions(self, path: str) -> KnownSessions | None:
        """Return what a job has before an action starts it; None if nobody can say.

        A refusal is no error: it only helps to tell the run from the one before.
        """
        action = job_action_of(path)
        if action is None:
            return None
        start = started_job(path, _LONG_AGO, is_server_time=True, known=None)
        assert start is not None
        is_answered = False
        # The job sessions of one job are all of one kind.
        for kind, by_urn in product(start.kinds, (False, True)):
            form = JobFilter(by_urn=by_urn, has_time=False)
            query = job_query(kind, action[0], form, _LONG_AGO, _NEWEST_KNOWN)
            try:
                sessions = await self._sessions_of(query)
            except TransportError:
                break  # the action itself is not to wait for four requests that hang
            is_answered |= sessions is not None
            known = known_sessions(sessions or (), action[0])
            if known.ids:
                return known
        return KnownSessions() if is_answered else None

    async def _sessions_of(self, query: str) -> tuple[JobSession, ...] | None:
        try:
            reply = await self._plain(query, is_long=True)
            self._check(reply)
            page = await parsed(decode_sessions, reply, self.secrets)
        except VeeamTasksError as error:
            told = {"em_url": str(self.settings.base), "event": "sessions_unreadable"}
            told |= error_fields(error)
            text = "the job sessions before an action could not be asked for: %s"
            TASKS.debug(text, error, extra=told)
            if isinstance(error, TransportError):
                raise
            return None
        return page.sessions

    async def submit(self, request: Request, *, follow: bool) -> Task:
        """Send an action; return its task, and remember where it came from.

        Args:
            request: The action.
            follow: Whether to ask first what the job that it starts has already.
        """
        known = None
        if follow and request.method == "POST":
            known = await self.known_sessions(request.path)
        path, _, query = request.shown.partition("?")
        told = {
            "http.request.method": request.method,
            "url.path": f"{self.settings.base.path}{path}",
            "url.query": query,
        }
        spans = self.session.spans
        with self._counted(), spans.client("veeam_tasks.submit", told) as span:
            reply, generation, waited = await self._act(request)
            at, is_server_time = self.session.time_of(reply)
            task = await parsed(task_started, reply, self.secrets)
            self.session.origins.give(task)
            if span is not None:
                span.set_attribute("http.response.status_code", reply.status)
                span.set_attribute("veeam_tasks.task_id", task.task_id)
                span.set_attribute("veeam_tasks.operation", task.operation)
                spans.note_submitted(task.task_id, span)
            started = None
            if request.method == "POST":
                started = started_job(
                    request.path,
                    at,
                    is_server_time=is_server_time,
                    known=known,
                    waited=waited,
                )
            self.observer.note_submitted(
                Submitted(
                    path=request.shown,
                    at=at,
                    generation=generation,
                    task=task,
                    started=started,
                )
            )
            return task

    async def delete(self, task_id: str) -> None:
        """DELETE one task."""
        with self._counted():
            if self.session.origins.is_open(task_id):
                await self.session.ask_name()
                self._check_foreign(task_id)
            path = f"tasks/{task_id}"
            reply, generation, _ = await self._act(
                Request(
                    method="DELETE",
                    path=path,
                    shown=path,
                    media_type=self.settings.media_type,
                )
            )
            await parsed(check_deleted, reply, self.secrets)
            self.session.mark_knows_tasks(generation)

    def _check_foreign(self, task_id: str) -> None:
        foreign = self.session.origins.foreign(task_id)
        if foreign is not None:
            raise foreign

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except TaskNotFoundError as error:
            self.errors += 1
            raise self._advised(error) from None
        except VeeamTasksError:
            self.errors += 1
            raise

    def _advised(self, error: StatusError) -> StatusError:
        """Return an error about an unknown task, with advice where nothing is known."""
        if self.session.knows_tasks:
            return error
        return TaskNotFoundError(
            request=error.request,
            status=error.status,
            message=error.message,
            advice=ADVICE,
        )

    async def _read(
        self, request: Request, *, is_bound: bool = False
    ) -> tuple[Reply, int]:
        async with self._reads:
            reply, generation = await self.session.send(request, is_bound=is_bound)
        if reply.is_success:
            self.observer.record_success()
        return reply, generation

    async def _act(self, request: Request) -> tuple[Reply, int, float]:
        """Send an action; return its reply, and for how long that was waited for."""
        called_under = self.session.check()
        clock = asyncio.get_running_loop().time
        about = _OF_A_TASK.fullmatch(unquote(request.path))
        async with self._actions:
            # The ID of a task may be another task's in the next logon session.
            if about is not None and self.session.check() != called_under:
                raise self._lost(about[1].lower())
            began = clock()
            reply, generation = await self.session.send(
                request, uncertain=True, is_bound=about is not None
            )
            waited = clock() - began
        is_replaced = generation != self.session.generation
        if about is not None and is_replaced and refuses_token(reply):
            raise self._lost(about[1].lower())
        if reply.is_success:
            self.observer.record_success()
        return reply, generation, waited

    def _lost(self, task_id: str) -> TaskLostError:
        return TaskLostError(
            task_id=task_id,
            last_seen=self.observer.last_seen(task_id),
            reason="its logon session has ended, and in the new one this ID may be"
            " another task's; so the request was not sent there",
        )

    async def _plain(self, path: str, *, is_long: bool = False) -> Reply:
        """GET a path, whatever comes of it."""
        settings = self.settings
        limit = settings.collection_bytes if is_long else settings.resource_bytes
        reply, _ = await self._read(self._get(path, limit))
        return reply

    def _check(self, reply: Reply) -> None:
        if not reply.is_success:
            raise _replies.status_error(reply, self.secrets)

    def _get(self, path: str, limit: int) -> Request:
        return Request(
            method="GET",
            path=path,
            shown=self.secrets.hide_in_path(path),
            media_type=self.settings.media_type,
            max_reply_bytes=limit,
        )
