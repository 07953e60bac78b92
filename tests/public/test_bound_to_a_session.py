"""What means something in one logon session only is never sent under another."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from support.raw_server import Answer, RawServer, Seen, reply

from veeam_tasks import (
    LogonError,
    SessionManager,
    TaskLostError,
    TransportError,
    adopt,
    connect,
)
from veeam_tasks._client.connect import Connecting

pytestmark = pytest.mark.virtual_time

Deletion = Callable[[SessionManager], Awaitable[object]]
DELETIONS: dict[str, Deletion] = {
    "delete": lambda em: em.delete("task-7"),
    "submit": lambda em: em.submit("tasks/task-7", method="DELETE"),
    "encoded": lambda em: em.submit("/api/Tasks/task%2D7?x=1", method="DELETE"),
}
NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
REFUSED = reply(status="401 Unauthorized")
DROPPED = reply(status="204 No Content")
TASK = reply(
    f"<Task {NS}><TaskId>task-7</TaskId><State>Running</State>"
    "<Operation>StartJob</Operation></Task>".encode()
)
UNKNOWN = reply(
    f'<Error {NS} StatusCode="500" Message="There is no backup task with id [task-0]'
    ' in current rest session"/>'.encode(),
    status="500 InternalServerError",
)


class Sessions:
    """Logon sessions one after the other, each with a task-7 of its own.

    Attributes:
        current: Which logon session is open now, from 1.
        deleted: Under which logon sessions task-7 was deleted.
        refusals: How many DELETEs of a task are refused to a good token.
    """

    def __init__(self) -> None:
        self.current = 0
        self.deleted: list[str] = []
        self.unauthorized_rounds = 0

    def __call__(self, seen: Seen) -> Answer:
        """Answer as an Enterprise Manager does."""
        if "sessionMngr" in seen.target:
            self.current += 1
            return reply(
                f"<LogonSession {NS}><SessionId>session-{self.current}</SessionId>"
                "</LogonSession>".encode(),
                status="201 Created",
                headers=(f"X-RestSvcSessionId: token-{self.current}",),
            )
        token = seen.header("X-RestSvcSessionId")
        if token != f"token-{self.current}":
            return REFUSED
        if seen.method != "DELETE":
            is_own = "logonSessions" in seen.target
            answer = UNKNOWN if seen.target.endswith("task-0") else TASK
            return reply(b"<LogonSession/>") if is_own else answer
        if "logonSessions" in seen.target:
            return DROPPED
        if self.unauthorized_rounds:
            self.unauthorized_rounds -= 1
            return REFUSED
        self.deleted.append(token)
        return DROPPED

    def expire(self) -> None:
        """End the logon session, as if it had been idle for too long."""
        self.current += 1


def door(server: RawServer, slots: int = 16) -> Connecting:
    """Return a door to a raw server."""
    return connect(
        server.url(),
        username="u",
        password="pass-word",
        keep_alive=False,
        max_in_flight=slots,
    )


@pytest.mark.parametrize("name", DELETIONS)
async def test_a_refused_delete_is_not_sent_under_another_session(name: str) -> None:
    """After a renewal the ID is another task's: `TaskLostError`, nothing deleted."""
    sessions = Sessions()
    async with RawServer(route=sessions) as server, door(server) as em:
        await em.fetch("task-7")
        sessions.expire()
        with pytest.raises(TaskLostError) as caught:
            await DELETIONS[name](em)
        assert caught.value.task_id == "task-7"
        assert "so the request was not sent there" in str(caught.value)
        assert em.statistics().renewals == 1
        assert sessions.deleted == []


async def test_a_delete_that_waited_for_its_slot_is_not_sent_either() -> None:
    """Called before a renewal and sent after it: it means the task of before."""
    sessions = Sessions()
    go_on = asyncio.Event()

    async def slowly(_: asyncio.StreamWriter) -> None:
        await go_on.wait()

    def route(seen: Seen) -> Answer:
        answer = sessions(seen)
        return (slowly, TASK) if "jobs" in seen.target else answer

    async with RawServer(route=route) as server, door(server, slots=1) as em:
        await em.fetch("task-7")
        slow = asyncio.create_task(em.submit("jobs/1?action=start"))
        await anyio.wait_all_tasks_blocked()
        waiting = asyncio.create_task(em.delete("task-7"))
        await anyio.wait_all_tasks_blocked()
        sessions.expire()
        await em.fetch("task-7")
        assert em.statistics().renewals == 1
        go_on.set()
        with pytest.raises(TaskLostError):
            await waiting
        await slow
        assert sessions.deleted == []


async def test_a_delete_goes_once_more_under_the_same_session() -> None:
    """A 401 that leaves the logon session as it was: sent once more, and deleted."""
    sessions = Sessions()
    async with RawServer(route=sessions) as server, door(server) as em:
        await em.fetch("task-7")
        sessions.unauthorized_rounds = 1
        await em.delete("task-7")
        assert sessions.deleted == ["token-1"]
        assert em.statistics().renewals == 0


async def test_an_adopted_session_that_ended_ends_the_delete() -> None:
    """An adopted logon session is never renewed: `LogonError`, nothing deleted."""
    sessions = Sessions()
    sessions.current = 1
    async with (
        RawServer(route=sessions) as server,
        adopt(server.url(), "token-1", keep_alive=False) as em,
    ):
        await em.fetch("task-7")
        sessions.expire()
        with pytest.raises(LogonError):
            await em.delete("task-7")
        assert sessions.deleted == []


def page_of(token: str, number: int, pages: int) -> bytes:
    """Return one page of the collection of a logon session: two tasks a page."""
    session = int(token.rpartition("-")[2])
    ids = [f"task-{session * 100 + 2 * number + at}" for at in range(2)]
    tasks = "".join(
        f"<Task><TaskId>{task_id}</TaskId><State>Running</State>"
        "<Operation>StartJob</Operation></Task>"
        for task_id in ids
    )
    link = f'<Link Rel="Next" Href="http://h:9399/api/tasks?page={number + 1}"/>'
    return reply(
        f"<QueryResult {NS}><Resources><Tasks>{tasks}</Tasks></Resources>"
        f'<PagingInfo PageNum="{number}" PageSize="2" PagesCount="{pages}"><Links>'
        f"{link if number < pages else ''}</Links></PagingInfo></QueryResult>".encode()
    )


class CollectionReader(Sessions):
    """A collection of three pages; before some of them the logon session expires."""

    def __init__(self, *expiring: int) -> None:
        super().__init__()
        self.expiring = list(expiring)
        self.asked: list[str] = []

    def __call__(self, seen: Seen) -> Answer:
        """Answer a page, or as `Sessions` do."""
        target = seen.target.rpartition("/")[2]
        number = int(target.partition("page=")[2] or 1)
        is_page = target.startswith("tasks")
        if is_page and self.expiring and self.expiring[0] == number:
            del self.expiring[0]
            self.expire()
        token = seen.header("X-RestSvcSessionId")
        if not is_page or token != f"token-{self.current}":
            return super().__call__(seen)
        self.asked.append(f"{token} {number}")
        return page_of(token, number, 3)


def ids_of(session: int) -> list[str]:
    """Return the IDs of the tasks of a logon session, in order."""
    return [f"task-{session * 100 + at}" for at in range(2, 8)]


@pytest.mark.parametrize("expiring", [(2,), (3,), (2, 2), (3, 2, 3)])
async def test_fetch_all_is_of_one_logon_session(expiring: tuple[int, ...]) -> None:
    """A renewal between pages: all pages are asked for anew, none of before is kept."""
    sessions = CollectionReader(*expiring)
    async with RawServer(route=sessions) as server, door(server) as em:
        await em.fetch("task-7")
        tasks = await em.fetch_all()
        # Each expiry counts as a logon session, and each renewal.
        assert em.statistics().renewals == len(expiring)
        assert [task.task_id for task in tasks] == ids_of(sessions.current)
        last = [f"token-{sessions.current} {number}" for number in (1, 2, 3)]
        assert sorted(sessions.asked[-len(last) :])[: len(last)] == last


async def test_fetch_all_ends_where_sessions_end_at_each_page() -> None:
    """A server that ends each logon session at its second page: an error in the end."""
    sessions = CollectionReader(*[2] * 50)
    async with RawServer(route=sessions) as server, door(server) as em:
        await em.fetch("task-7")
        with pytest.raises(TransportError, match="was renewed 5 times while its pages"):
            await em.fetch_all()


async def test_fetch_all_is_of_one_session_when_another_call_renewed_it() -> None:
    """The renewal that another call has made counts as one of our own."""
    sessions = CollectionReader()
    go_on, has_begun = asyncio.Event(), asyncio.Event()

    async def slowly(_: asyncio.StreamWriter) -> None:
        has_begun.set()
        await go_on.wait()

    def route(seen: Seen) -> Answer:
        answer = sessions(seen)
        assert isinstance(answer, bytes)
        return (slowly, answer) if sessions.asked == ["token-1 1"] else answer

    async with RawServer(route=route) as server, door(server) as em:
        await em.fetch("task-7")
        listing = asyncio.create_task(em.fetch_all())
        await has_begun.wait()
        sessions.asked.clear()
        sessions.expire()
        await em.fetch("task-7")
        go_on.set()
        assert [task.task_id for task in await listing] == ids_of(sessions.current)
        assert em.statistics().renewals == 1


@pytest.mark.parametrize("expiring", [(2,), (3,)])
async def test_a_collection_of_a_watch_is_of_one_logon_session(
    expiring: tuple[int, ...],
) -> None:
    """A renewal between pages: no task of the ended logon session is told of."""
    sessions = CollectionReader(*expiring)
    async with (
        RawServer(route=sessions) as server,
        connect(
            server.url(), username="u", password="pass-word", coalesce="always"
        ) as em,
    ):
        await em.fetch("task-7")
        watch = em.watch_all()
        told = [await anext(watch) for _ in range(6)]
        assert em.statistics().renewals == 1
        assert sorted(event.task_id for event in told) == ids_of(sessions.current)
        assert set(watch.tasks) == set(ids_of(sessions.current))
