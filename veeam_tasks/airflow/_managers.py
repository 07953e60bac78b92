"""The managers of one process: one for each logon session, whoever uses it.

A triggerer runs a thousand triggers in one event loop. They share one `SessionManager`,
so their polls are merged and paced together. Nothing of Airflow is imported here.
"""

import asyncio
import logging
import os
import re
import secrets
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import attrs

import veeam_tasks as vt
from veeam_tasks.airflow._running_time import running_time
from veeam_tasks.airflow._shared_logon import (
    Logon,
    LogonRefusedError,
    SharedLogon,
    Store,
)

_log = logging.getLogger(__name__)

KEEP_SECONDS: Final = 30.0
"""How long a manager outlives its last user: between two jobs of a DAG."""
_USE_KEY: Final = "veeam_em_use__"
IDLE_SECONDS: Final = 900.0
"""The server drops a logon session that was idle for so long; so a note of use that is
older says nothing, and one that is younger may be of a task that waits for a
triggerer."""
_USER: Final = re.compile(r"[0-9a-z]+(?:_[0-9a-z]+)?")
"""Two underscores belong to the name of another connection, which begins with ours."""
_NOTE_AGAIN: Final = 300.0
_LONGEST_PAUSE: Final = 60.0
WORKERS: Final = "workers"
KEPT_GONE: Final = 256
"""A triggerer runs for months, and each renewal leaves a dead logon session. One that
was forgotten costs whoever still names it a look at the connection, no more."""


class Source(Protocol):
    """A connection of Airflow, to be read when it is needed."""

    @property
    def conn_id(self) -> str:
        """Its name."""

    async def shared_logon(self) -> SharedLogon:
        """Read the connection; raises what is wrong with it."""


@attrs.frozen
class Uses:
    """Who uses the logon session of a connection, as Variables of Airflow.

    Airflow has no other place where processes on several machines could see that they
    are the last.
    """

    conn_id: str
    store: Store

    async def note(self, who: str, *, unless_younger: float = 0.0) -> None:
        """Write that `who` uses it now."""
        key = f"{_USE_KEY}{self.conn_id}__{who}"
        if unless_younger:
            age = self._age(await self.store.get(key))
            if age is not None and 0 <= age < unless_younger:
                return
        await self.store.put(key, f"{self.store.now():.0f}")

    async def is_last(self, who: str) -> bool:
        """Take the note of `who` away; tell whether no other is young enough."""
        prefix = f"{_USE_KEY}{self.conn_id}__"
        await self.store.delete(f"{prefix}{who}")
        for key in await self.store.keys(prefix):
            if not _USER.fullmatch(key.removeprefix(prefix)):
                continue
            age = self._age(await self.store.get(key))
            if age is not None and abs(age) < IDLE_SECONDS:
                return False
            await self.store.delete(key)
        return True

    def _age(self, text: str | None) -> float | None:
        try:
            return self.store.now() - float(text or "")
        except ValueError:
            return None


@attrs.define(eq=False)
class Held:
    """A manager of this process, over a logon session that others use, too."""

    shared: SharedLogon
    logon: Logon
    manager: vt.SessionManager
    users: int = 0
    idle_since: float = 0.0
    noting: "asyncio.Task[None] | None" = None

    @property
    def conn_id(self) -> str:
        """The connection."""
        return self.shared.server.conn_id

    @property
    def reference(self) -> str:
        """What stands for the logon session."""
        return self.logon.reference


@attrs.define(eq=False)
class Managers:
    """The managers of one event loop.

    Args:
        keep: How long one without a user is kept, in seconds.
    """

    keep: float = KEEP_SECONDS
    _me: str = attrs.field(factory=lambda: f"{os.getpid()}_{secrets.token_hex(4)}")
    _held: dict[tuple[str, str], Held] = attrs.field(factory=dict)
    _latest: dict[str, Held] = attrs.field(factory=dict)
    _gone: dict[tuple[str, str], None] = attrs.field(factory=dict)
    _locks: dict[str, anyio.Lock] = attrs.field(factory=dict)
    _closing: "set[asyncio.Task[None]]" = attrs.field(factory=set)

    def __repr__(self) -> str:
        users = sum(held.users for held in self._held.values())
        return f"<Managers {len(self._held)} of logon sessions, {users} users>"

    @asynccontextmanager
    async def use(
        self, source: Source, reference: str | None, *, dead: str | None = None
    ) -> AsyncIterator[Held]:
        """Give a manager of that logon session, or of the one that took its place.

        Args:
            source: The connection.
            reference: The logon session that the tasks belong to, if known.
            dead: One whose token was refused.

        Raises:
            LogonRefusedError: The account was refused.
            VeeamTasksError, ValueError: There is no way to the server.
        """
        held = self._ready(source.conn_id, reference, dead)
        if held is None:
            held = await self._find(source, reference, dead)
        held.users += 1
        try:
            yield held
        finally:
            held.users -= 1
            if not held.users:
                self._close_later(held)

    def _ready(
        self, conn_id: str, reference: str | None, dead: str | None
    ) -> Held | None:
        if dead is not None:
            self._note_gone(conn_id, dead)
        latest = self._latest.get(conn_id)
        if latest is not None and (conn_id, latest.reference) in self._gone:
            latest = None
        if reference is None or (conn_id, reference) in self._gone:
            return latest
        return self._held.get((conn_id, reference))

    def _note_gone(self, conn_id: str, reference: str) -> None:
        # Again at the end, since one that is named often is not to be forgotten.
        self._gone.pop((conn_id, reference), None)
        self._gone[conn_id, reference] = None
        if len(self._gone) > KEPT_GONE:
            del self._gone[next(iter(self._gone))]

    async def _find(
        self, source: Source, reference: str | None, dead: str | None
    ) -> Held:
        conn_id = source.conn_id
        async with self._locks.setdefault(conn_id, anyio.Lock()):
            held = self._ready(conn_id, reference, dead)
            if held is not None:
                return held
            shared = await source.shared_logon()
            logon = await _until_answered(shared, dead)
            if reference not in (None, logon.reference):
                # A newer one took its place: the Variable is the one truth.
                self._note_gone(conn_id, str(reference))
            held = self._held.get((conn_id, logon.reference))
            if held is None:
                held = await self._adopt(shared, logon)
            self._latest[conn_id] = held
            return held

    async def _adopt(self, shared: SharedLogon, logon: Logon) -> Held:
        server = shared.server
        await Uses(server.conn_id, shared.store).note(self._me)
        manager = await vt.adopt(
            server.url, logon.token, session_id=logon.session_id, **server.options
        )
        held = Held(shared, logon, manager)
        held.noting = asyncio.create_task(self._note_again(held))
        self._held[server.conn_id, logon.reference] = held
        return held

    async def _note_again(self, held: Held) -> None:
        while True:
            await anyio.sleep(_NOTE_AGAIN)
            try:
                await Uses(held.conn_id, held.shared.store).note(self._me)
            except Exception:  # noqa: BLE001 - whatever a store raises
                _log.debug("no note that %s is used", held.conn_id, exc_info=True)

    def _close_later(self, held: Held) -> None:
        held.idle_since = anyio.current_time()
        loop = asyncio.get_running_loop()
        loop.call_later(self.keep, self._close_if_idle, held, held.idle_since)

    def _close_if_idle(self, held: Held, idle_since: float) -> None:
        if held.users or held.idle_since != idle_since:
            return
        self._held.pop((held.conn_id, held.reference), None)
        if self._latest.get(held.conn_id) is held:
            del self._latest[held.conn_id]
        closing = asyncio.create_task(self._close(held))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, held: Held) -> None:
        assert held.noting is not None
        held.noting.cancel()
        await held.manager.aclose()
        if held.conn_id in self._latest:
            # The next logon session of this connection is in use here.
            return
        try:
            if await Uses(held.conn_id, held.shared.store).is_last(self._me):
                await held.shared.end(held.reference)
        except Exception:  # noqa: BLE001 - it ends by itself after 15 idle minutes
            _log.info("%s: not logged out", held.conn_id, exc_info=True)


async def _until_answered(shared: SharedLogon, dead: str | None) -> Logon:
    """Ask for the logon session, through an outage of the server."""
    patience = shared.server.options.get("patience")
    pause = 1.0
    async with running_time() as spent:
        while True:
            try:
                return await shared.current(dead=dead)
            except LogonRefusedError:
                raise
            except (vt.VeeamTasksError, TimeoutError) as error:
                is_over = patience is not None and spent.seconds + pause > patience
                if is_over or not getattr(error, "retryable", True):
                    raise
                _log.warning("%s; asked again in %.0f s", error, pause)
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
    raise AssertionError


_OF_LOOPS: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Managers]" = (
    weakref.WeakKeyDictionary()
)


def managers_here() -> Managers:
    """Return the managers of the running event loop."""
    return _OF_LOOPS.setdefault(asyncio.get_running_loop(), Managers())
