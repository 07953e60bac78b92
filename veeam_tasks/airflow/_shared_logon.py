"""One logon session for all workers and triggerers of a connection.

It stands in a Variable of Airflow, which is encrypted in the database and masked in
logs and pages. Nothing of Airflow is imported here: Variables come as a `Store`.

Variables have no compare-and-set, and a hundred workers start at once. So whoever wants
to log on takes a ticket first (`_Queue`); the others wait, then use what it found.
"""

import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import anyio
import attrs

import veeam_tasks as vt
from veeam_tasks.airflow._connection import Server
from veeam_tasks.airflow._running_time import running_time

TOKEN_KEY: Final = "veeam_em_token__"  # noqa: S105 - the beginning of a name
"""Airflow masks a Variable whose key has the word token in it."""
_QUEUE_KEY: Final = "veeam_em_queue__"
_LOGON_SECONDS: Final = 60.0
_TICKET_SECONDS: Final = 180.0
"""After these a ticket is a dead process's. Someone may wait `_WAIT_SECONDS`, then log
on for `_LOGON_SECONDS`, and the clocks of two machines may differ by half a minute."""
_WAIT_SECONDS: Final = 75.0
_LOOK_AGAIN: Final = 0.5
_HEADER: Final = re.compile(r"[!-~]+")
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")
_TICKET: Final = re.compile(
    r"(?:choosing|(?P<number>[0-9]{8,18}))__(?P<who>(?P<at>[0-9]{1,12})_[0-9a-z]+)"
)
"""What follows the prefix. Another connection's name may begin with this one's and two
underscores, so whatever does not look so is not ours: neither read nor deleted."""
REFUSAL_SECONDS: Final = 3600.0
"""How long a refused password is not tried again."""


class Store(Protocol):
    """Variables of Airflow, and the time that all machines share."""

    async def get(self, key: str) -> str | None:
        """Return the value, or None without one."""

    async def put(self, key: str, value: str) -> None:
        """Set the value."""

    async def delete(self, key: str) -> None:
        """Delete the key, if it is there."""

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin so."""

    async def hide(self, *texts: str) -> None:
        """Mask these texts in whatever this process logs."""

    def now(self) -> float:
        """Return the seconds since 1970."""


@attrs.frozen(kw_only=True)
class Logon:
    """A logon session that many processes use.

    Attributes:
        reference: Stands for it where a token must not: in arguments of triggers.
        token: Its token.
        session_id: Its ID, if known.
    """

    reference: str
    token: str = attrs.field(repr=False)
    session_id: str | None = attrs.field(repr=False)


class LogonRefusedError(Exception):
    """This password was refused; it is not tried again for a while."""


@attrs.frozen(kw_only=True)
class _Refusal:
    """What is remembered of a refused logon: which password, told by a slow hash.

    A fast one would let whoever reads the database try passwords against it.
    """

    salt: str
    digest: str
    at: float
    message: str

    @classmethod
    def of(cls, server: Server, message: str, now: float) -> "_Refusal":
        salt = secrets.token_hex(16)
        digest = _slow_hash(server, salt)
        return cls(salt=salt, digest=digest, at=now, message=message)

    def is_of(self, server: Server, now: float) -> bool:
        if abs(now - self.at) > REFUSAL_SECONDS:
            return False
        return secrets.compare_digest(self.digest, _slow_hash(server, self.salt))


def _slow_hash(server: Server, salt: str) -> str:
    text = f"{server.url}\0{server.username}\0{server.password}"
    return hashlib.scrypt(
        text.encode(), salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1
    ).hex()


@attrs.frozen
class SharedLogon:
    """Finds, makes, renews and ends the logon session of one connection.

    Args:
        server: Where to, and as whom.
        store: Where the logon session is kept.
    """

    server: Server
    store: Store

    @property
    def _key(self) -> str:
        return f"{TOKEN_KEY}{self.server.conn_id}"

    async def current(self, *, dead: str | None = None) -> Logon:
        """Return the logon session that all use; log on if there is none.

        Args:
            dead: The reference of one whose token was refused.

        Raises:
            LogonRefusedError: The account was refused, now or lately.
            VeeamTasksError, TimeoutError: The server could not be asked.
        """
        found = await self._look(dead)
        queue = _Queue(f"{_QUEUE_KEY}{self.server.conn_id}__", self.store)
        while found is None:
            async with queue.ticket() as ticket:
                found = await self._in_turn(queue, ticket, dead)
        return found

    async def _in_turn(
        self, queue: "_Queue", ticket: str, dead: str | None
    ) -> Logon | None:
        """Wait for what others find, or log on when it is our turn.

        Returns:
            None if the ticket is a dead process's by now, as when this was stopped.
        """
        async with running_time(_WAIT_SECONDS) as waiting:
            while not await queue.is_first(ticket):
                found = await self._look(dead)
                if found is not None or not await queue.has(ticket):
                    return found
                await anyio.sleep(_LOOK_AGAIN)
        if waiting.scope.cancelled_caught:
            text = f"{self.server.conn_id!r}: others try to log on and cannot"
            raise TimeoutError(text)
        return await self._look(dead) or await self._log_on()

    async def end(self, reference: str) -> bool:
        """Log out, if this is still the logon session that all use."""
        queue = _Queue(f"{_QUEUE_KEY}{self.server.conn_id}__", self.store)
        async with queue.ticket() as ticket:
            if not await queue.is_first(ticket):
                # Someone is about to log on: leave everything to them.
                return False
            found = await self._look(None)
            if found is None or found.reference != reference:
                return False
            await self.store.delete(self._key)
            await vt.log_out(
                self.server.url,
                found.token,
                session_id=found.session_id,
                **self.server.options,
            )
            return True

    async def _look(self, dead: str | None) -> Logon | None:
        value = _decoded(await self.store.get(self._key))
        if isinstance(value, Logon):
            await self.store.hide(value.token, value.session_id or "")
            return None if value.reference == dead else value
        if isinstance(value, _Refusal) and await anyio.to_thread.run_sync(
            value.is_of, self.server, self.store.now()
        ):
            raise LogonRefusedError(self._refused_text(value))
        return None

    def _refused_text(self, refusal: _Refusal) -> str:
        return (
            f"not asked again: {refusal.message} (with the password that connection"
            f" {self.server.conn_id!r} still has). Correct the password there; the same"
            f" one is tried again after {REFUSAL_SECONDS / 60:.0f} minutes, or when you"
            f" delete the Variable {self._key!r}"
        )

    async def _log_on(self) -> Logon:
        manager = vt.SessionManager(
            self.server.url,
            username=self.server.username,
            password=self.server.password,
            **self.server.options,
        )
        try:
            async with running_time(_LOGON_SECONDS) as trying:
                await manager.open()
            if trying.scope.cancelled_caught:
                text = f"{self.server.conn_id!r}: no answer to the logon in time"
                raise TimeoutError(text)
        except vt.LogonError as error:
            refusal = await anyio.to_thread.run_sync(
                _Refusal.of, self.server, str(error), self.store.now()
            )
            await self._put(attrs.asdict(refusal))
            raise LogonRefusedError(str(error)) from None
        token, session_id = manager.token, manager.session_id
        reference = manager.reference
        assert token is not None
        assert reference is not None
        await self.store.hide(token, session_id or "")
        logon = Logon(reference=reference, token=token, session_id=session_id)
        is_published = False
        try:
            await self._put(attrs.asdict(logon))
            is_published = True
        finally:
            with anyio.CancelScope(shield=True):
                await manager.aclose(log_out=not is_published)
        return logon

    async def _put(self, value: dict[str, Any]) -> None:
        await self.store.put(self._key, json.dumps(value))


def _decoded(text: str | None) -> Logon | _Refusal | None:
    """Return what a Variable holds; nothing, if someone else wrote it."""
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    for kind, is_right in ((Logon, _is_logon), (_Refusal, _is_refusal)):
        names = {field.name for field in attrs.fields(kind)}
        if isinstance(value, dict) and value.keys() == names and is_right(value):
            found: Logon | _Refusal = kind(**value)
            return found
    return None


def _is_logon(value: dict[str, Any]) -> bool:
    session_id = value["session_id"]
    return (
        all(isinstance(value[name], str) for name in ("reference", "token"))
        and _HEADER.fullmatch(value["token"]) is not None
        and (session_id is None or isinstance(session_id, str))
    )


def _is_refusal(value: dict[str, Any]) -> bool:
    texts = [value[name] for name in ("salt", "digest", "message")]
    return (
        all(isinstance(text, str) for text in texts)
        and all(_HEX.fullmatch(text) for text in texts[:2])
        and type(value["at"]) in (int, float)
    )


@attrs.frozen
class _Queue:
    """Who logs on next: Lamport's bakery, for a store that can only read and write.

    Each takes a number one higher than all that it sees. Until it has written that, it
    is marked as choosing, and the others wait for it: or one that was slow between
    looking and writing could get a lower number than one that went ahead.
    """

    prefix: str
    store: Store

    @asynccontextmanager
    async def ticket(self) -> AsyncIterator[str]:
        me = f"{int(self.store.now())}_{secrets.token_hex(6)}"
        choosing, mine = f"{self.prefix}choosing__{me}", ""
        try:
            await self.store.put(choosing, "choosing")
            highest = max((number for number, _ in await self._waiting()), default=0)
            mine = f"{self.prefix}{highest + 1:08}__{me}"
            await self.store.put(mine, "waiting")
            await self.store.delete(choosing)
            yield mine
        finally:
            with anyio.move_on_after(10, shield=True):
                await self.store.delete(choosing)
                if mine:
                    await self.store.delete(mine)

    async def is_first(self, ticket: str) -> bool:
        """Tell whether all others come later."""
        me, waiting = self._place(ticket), await self._waiting()
        return me in waiting and all(me <= other for other in waiting)

    async def has(self, ticket: str) -> bool:
        """Tell whether a ticket is still there, and young enough for the others."""
        return self._place(ticket) in await self._waiting()

    def _place(self, ticket: str) -> tuple[int, str]:
        number, _, who = ticket.removeprefix(self.prefix).partition("__")
        return int(number), who

    async def _waiting(self) -> list[tuple[int, str]]:
        """Return who waits; one that is choosing counts as the very first."""
        entries = []
        for key in await self.store.keys(self.prefix):
            found = _TICKET.fullmatch(key.removeprefix(self.prefix))
            if found is None:
                continue
            if abs(self.store.now() - int(found["at"])) > _TICKET_SECONDS:
                await self.store.delete(key)
            else:
                entries.append((int(found["number"] or 0), found["who"]))
        return entries
