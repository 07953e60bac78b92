"""The connection of Airflow to an Enterprise Manager."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
from airflow.sdk import BaseHook, Variable
from airflow.sdk.log import mask_secret

import veeam_tasks as vt
from veeam_tasks.airflow._connection import Server, read_server
from veeam_tasks.airflow._managers import WORKERS, Uses
from veeam_tasks.airflow._shared_logon import Logon, SharedLogon
from veeam_tasks.airflow._submitting import with_logon

DEFAULT_CONN_ID = "veeam_default"
T = TypeVar("T")


class AirflowVariables:
    """Variables of Airflow, from a worker or a triggerer.

    Each call goes in a thread: in a triggerer the loop must not wait for it, and in a
    worker Airflow's own calls and those of its masking share one lock.
    """

    async def get(self, key: str) -> str | None:
        """Return the value; an error of Airflow's API is not taken for "none"."""
        return await asyncio.to_thread(_get_variable, key)

    async def put(self, key: str, value: str) -> None:
        """Set the value."""
        await asyncio.to_thread(Variable.set, key, value)

    async def delete(self, key: str) -> None:
        """Delete the key, if it is there."""
        await asyncio.to_thread(Variable.delete, key)

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin so."""
        return await asyncio.to_thread(lambda: list(Variable.keys(prefix)))

    async def hide(self, *texts: str) -> None:
        """Mask these texts in whatever this process logs."""
        await asyncio.to_thread(lambda: [mask_secret(text) for text in texts if text])

    def now(self) -> float:
        """Return the seconds since 1970."""
        return time.time()


def _get_variable(key: str) -> str | None:
    for _ in range(3):
        value: str | None = Variable.get(key, default=None)
        # Airflow says "not found" also when its API did not answer; another logon then
        # would lose the tasks of the one that all use.
        if value is not None or key not in list(Variable.keys(key)):
            return value
    text = f"Variable {key!r} cannot be read"
    raise RuntimeError(text)


@attrs.frozen
class HookSource:
    """A connection, read in a thread when it is needed."""

    hook: "VeeamHook"

    @property
    def conn_id(self) -> str:
        """Its name."""
        return self.hook.veeam_conn_id

    async def shared_logon(self) -> SharedLogon:
        """Read the connection."""
        server = await asyncio.to_thread(self.hook.get_conn)
        return SharedLogon(server, AirflowVariables())


class VeeamHook(BaseHook):
    """Use an Enterprise Manager over the one logon session of a connection.

    In a task of your own::

        hook = VeeamHook("em_berlin")
        tasks = hook.call(lambda em: em.fetch_all())

    Args:
        veeam_conn_id: The connection, of type ``veeam_em``.
    """

    conn_name_attr = "veeam_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "veeam_em"
    hook_name = "Veeam Backup Enterprise Manager"

    def __init__(self, veeam_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.veeam_conn_id = veeam_conn_id

    def get_conn(self) -> Server:
        """Read the connection.

        Raises:
            ValueError: Something is missing, or an extra is not known.
        """
        return read_server(self.get_connection(self.veeam_conn_id))

    @property
    def source(self) -> HookSource:
        """The connection, to be read later."""
        return HookSource(self)

    @asynccontextmanager
    async def manager(self) -> AsyncIterator[vt.SessionManager]:
        """Give a manager over the logon session that all use; it is left open."""
        shared = await self.source.shared_logon()
        logon = await shared.current()
        if not await _is_alive(shared.server, logon):
            logon = await shared.current(dead=logon.reference)
        await Uses(self.veeam_conn_id, shared.store).note(WORKERS)
        async with vt.adopt(
            shared.server.url,
            logon.token,
            session_id=logon.session_id,
            **shared.server.options,
        ) as em:
            yield em

    def call(self, function: Callable[[vt.SessionManager], Awaitable[T]]) -> T:
        """Call a coroutine function with a manager, from plain code.

        It is called again if the logon session was dead: what the server refuses with
        401 it has not carried out.
        """

        def call(em: vt.SessionManager, _: Logon) -> Awaitable[T]:
            return function(em)

        return asyncio.run(with_logon(self.source, call))

    def test_connection(self) -> tuple[bool, str]:
        """Log on and out again, for the button in the form of the connection."""

        async def log_on(server: Server) -> None:
            options = {**server.options, "keep_alive": False}
            async with vt.connect(
                server.url,
                username=server.username,
                password=server.password,
                **options,
            ):
                pass

        try:
            server = self.get_conn()
            asyncio.run(log_on(server))
        except (vt.VeeamTasksError, ValueError) as error:
            return False, str(error)
        return True, f"logged on at {server.url} as {server.username}, and out again"


async def _is_alive(server: Server, logon: Logon) -> bool:
    async with vt.adopt(
        server.url, logon.token, session_id=logon.session_id, **server.options
    ) as em:
        try:
            await em.read("logonSessions")
        except vt.LogonError:
            return False
        except vt.StatusError:
            return True
    return True
