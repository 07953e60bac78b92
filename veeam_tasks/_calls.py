"""Calls: what is asked for once, and once more only under a renewed token."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from veeam_tasks import _wire
from veeam_tasks._actions import check_deleted, task_started
from veeam_tasks._errors import TaskNotFoundError, VeeamTasksError
from veeam_tasks._exchange import Reply, Request
from veeam_tasks._logon import Logon
from veeam_tasks._model import Task
from veeam_tasks._pages import Pages
from veeam_tasks._poll import Engine
from veeam_tasks._replies import ADVICE
from veeam_tasks._settings import Settings
from veeam_tasks._text import Secrets
from veeam_tasks._verdict import Verdict, judge

_REDIRECT = 300


@attrs.define(eq=False, kw_only=True)
class Calls:
    """Single requests of callers, in slots of their own beside those of the pollers.

    Args:
        logon: Sends them under the token.
        engine: Is told what they show of the server and of tasks.

    Attributes:
        errors: How many of them ended in an error.
    """

    logon: Logon
    engine: Engine
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
            reply = await self._read(request)
            verdict, value = judge(reply, task_id, self.secrets)
            if isinstance(value, Task):
                self.engine.replies.has_met_a_task = True
                return value
            if verdict is Verdict.UNKNOWN and not self.engine.replies.has_met_a_task:
                raise TaskNotFoundError(
                    request=reply.request,
                    status=reply.status,
                    message=_wire.error_message(reply, self.secrets),
                    advice=ADVICE,
                )
            raise value

    async def fetch_all(self) -> list[Task]:
        """GET the tasks of this logon session, every page."""
        with self._counted():
            pages = Pages(
                loop=self.engine.loop,
                shown=f"GET {self.settings.base}tasks",
                limit=self.settings.collection_bytes,
                secrets=self.secrets,
            )
            while (path := pages.next_path()) is not None:
                reply = await self._read(
                    self._get(path, self.settings.collection_bytes)
                )
                self._check(reply)
                await pages.read(reply)
            tasks = await pages.tasks()
            if tasks:
                self.engine.replies.has_met_a_task = True
            return tasks

    async def read(self, path: str) -> Mapping[str, object]:
        """GET any resource below ``/api/``, decoded."""
        with self._counted():
            reply = await self._read(self._get(path, self.settings.collection_bytes))
            self._check(reply)
            return _wire.decode_resource(reply, self.secrets)

    async def submit(self, request: Request) -> Task:
        """Send an action; return its task."""
        with self._counted():
            reply, generation = await self._act(request)
            task = task_started(reply, self.secrets)
            self.engine.replies.submitted(task, generation)
            return task

    async def delete(self, task_id: str) -> None:
        """DELETE one task."""
        with self._counted():
            path = f"tasks/{task_id}"
            reply, _ = await self._act(
                Request(
                    method="DELETE",
                    path=path,
                    shown=path,
                    media_type=self.settings.media_type,
                )
            )
            check_deleted(reply, self.secrets)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except VeeamTasksError:
            self.errors += 1
            raise

    async def _read(self, request: Request) -> Reply:
        async with self._reads:
            reply, _ = await self.logon.send(request)
        if reply.status < _REDIRECT:
            self.engine.replies.good()
        return reply

    async def _act(self, request: Request) -> tuple[Reply, int]:
        async with self._actions:
            reply, generation = await self.logon.send(request, uncertain=True)
        if reply.status < _REDIRECT:
            self.engine.replies.good()
        return reply, generation

    def _check(self, reply: Reply) -> None:
        if reply.status >= _REDIRECT:
            raise _wire.status_error(reply, self.secrets)

    def _get(self, path: str, limit: int) -> Request:
        return Request(
            method="GET",
            path=path,
            shown=path,
            media_type=self.settings.media_type,
            max_reply_bytes=limit,
        )
