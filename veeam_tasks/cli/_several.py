"""Several servers at once: each is logged on to once; one that is away stops none."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import attrs

import veeam_tasks as vt
from veeam_tasks.cli._events import label
from veeam_tasks.cli._exits import Exit, first_of
from veeam_tasks.cli._explain import explain, outage
from veeam_tasks.cli._messages import complain
from veeam_tasks.cli._runner import status_of
from veeam_tasks.cli._server import Logon, Server

Listener = Any


@attrs.define
class LoggedOn:
    """The servers that could be logged on to.

    Attributes:
        managers: By the names of the servers.
        status: What became of the others.
        whys: That in words.
    """

    managers: "dict[str, vt.SessionManager]"
    status: Exit
    whys: list[str] = attrs.field(factory=list)


class SeveralLogons:
    """Logs on to several servers when it is entered, and out when it is left.

    Args:
        logons: By the names of the servers.
    """

    def __init__(self, logons: Mapping[str, Logon]) -> None:
        self._logons = logons
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> LoggedOn:
        found = LoggedOn({}, Exit.OK)
        ways = [self._enter(name, one, found) for name, one in self._logons.items()]
        try:
            await asyncio.gather(*ways)
        except BaseException:
            await self._stack.aclose()
            raise
        return found

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def _enter(self, name: str, logon: Logon, found: LoggedOn) -> None:
        try:
            found.managers[name] = await self._stack.enter_async_context(logon)
        except vt.VeeamTasksError as error:
            why = f"{name}: {explain(error)}" if name else explain(error)
            found.whys.append(why)
            complain(why)
            found.status = first_of(found.status, status_of(error))

    def abort(self) -> None:
        """End what may hold up a log-out of any of them."""
        for logon in self._logons.values():
            logon.abort()


def logons_of(
    servers: Mapping[str, Server], listener: Listener | None = None, **options: Any
) -> SeveralLogons:
    """Return what logs on to servers; notices are told with the names of theirs.

    Raises:
        click.UsageError: Something that was said of one of them is wrong.
    """
    return SeveralLogons(
        {
            name: one.logon(on_notice=_named(name, listener), **options)
            for name, one in servers.items()
        }
    )


def _named(name: str, listener: Listener | None) -> Listener | None:
    if listener is None:
        return None

    if not name:
        return listener

    def tell(notice: "vt.Notice") -> None:
        detail = f"{name}: {outage(notice.error) or notice.detail}"
        task_ids = tuple(label(name, task_id) for task_id in notice.task_ids)
        named = attrs.evolve(notice, detail=detail, task_ids=task_ids, error=None)
        listener(named, name)

    return tell
