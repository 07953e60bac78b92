"""What a `SessionManager` does; `submit` and more of `delete` in test_api_submit."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import attrs
import pytest
import trustme
from support.managers import Wire, direct, door, targets
from support.raw_server import RawServer, pin_of, reply, serving

from veeam_tasks import (
    ClosedError,
    ForbiddenError,
    Link,
    LogonError,
    MalformedReplyError,
    SessionManager,
    StatusError,
    Task,
    TaskFailedError,
    TaskState,
    TransportError,
    VeeamTasksError,
    WatchTimeoutError,
    connect,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time

CA = trustme.CA()
GUID = "b04c217b-0538-4650-bec4-19deff4ea1ac"


async def test_fetch(wire: Wire) -> None:
    """`await fetch(task) -> Task`: one GET of one task, by ID, `Task` or Href."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        name = server.add_task("Running", operation="StopJob").task_id
        task = await em.fetch(name)
        assert isinstance(task, Task)
        assert (task.task_id, task.state, task.operation) == (
            name,
            TaskState.RUNNING,
            "StopJob",
        )
        assert task.href is not None
        assert await em.fetch(task) == await em.fetch(task.href) == task
        assert targets(server) == [f"tasks/{name}"] * 3


async def test_fetch_all(wire: Wire) -> None:
    """`fetch_all`: the tasks of this logon session, and no others."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        ids = [server.add_task("Running").task_id for _ in range(3)]
        async with door(server, **wire.options()) as other:
            theirs = server.add_task("Running").task_id
            assert [task.task_id for task in await other.fetch_all()] == [theirs]
            assert [task.task_id for task in await em.fetch_all()] == ids
        server.expire_logon_sessions()
        assert await em.fetch_all() == []


XML, JSON = "application/xml; charset=utf-8", "application/json; charset=utf-8"
LOGON = reply(
    b'<LogonSession xmlns="http://www.veeam.com/ent/v1.0" Type="LogonSession">'
    b"<SessionId>695a4d8a-4b0b-4b0b-8b0b-0a0b0c0d0e0f</SessionId></LogonSession>",
    status="201 Created",
    headers=["X-RestSvcSessionId: Njk1YTRkOGE="],
)
GONE = reply(status="204 No Content")


def page(number: int, media_type: str) -> bytes:
    """Return the first, second or third page of the tasks, one task on each."""
    following = f"http://another.host:1/api/tasks?page={number + 1}"
    if media_type == JSON:
        links = f'[{{"Rel":"Next","Href":"{following}"}}]' if number < 3 else "null"
        return reply(
            f'{{"PagingInfo":{{"PageNum":{number},"Links":{links}}},"Resources":{{'
            f'"Tasks":[{{"TaskId":"task-{number}","State":"Running",'
            f'"Operation":"StartJob"}}]}}}}'.encode(),
            content_type=media_type,
        )
    link = f'<Links><Link Rel="Next" Href="{following}"/></Links>' * (number < 3)
    return reply(
        f'<QueryResult xmlns="http://www.veeam.com/ent/v1.0"><PagingInfo PageNum='
        f'"{number}">{link}</PagingInfo><Resources><Tasks><Task><TaskId>task-{number}'
        "</TaskId><State>Running</State><Operation>StartJob</Operation></Task></Tasks>"
        "</Resources></QueryResult>".encode(),
        content_type=media_type,
    )


@pytest.mark.parametrize("media_type", [XML, JSON])
@pytest.mark.parametrize("tls", [True, False])
async def test_fetch_all_reads_every_page(media_type: str, tls: bool) -> None:
    """`fetch_all`: every page; of the link to the next one the path alone is used."""
    leaf = CA.issue_cert("127.0.0.1")
    pages = [page(number, media_type) for number in (1, 2, 3)]
    async with RawServer(
        LOGON, *pages, GONE, tls=serving(leaf) if tls else None
    ) as server:
        async with connect(
            server.url(),
            username="u",
            password="pass-word",
            fingerprint=pin_of(leaf) if tls else None,
        ) as em:
            tasks = await em.fetch_all()
        assert [task.task_id for task in tasks] == ["task-1", "task-2", "task-3"]
        asked = [seen.target for seen in server.seen if seen.method == "GET"]
        assert asked == ["/api/tasks", "/api/tasks?page=2", "/api/tasks?page=3"]


def unlinked(number: int) -> bytes:
    """Return one of three pages that have no links to each other, one task on each."""
    return reply(
        '<QueryResult xmlns="http://www.veeam.com/ent/v1.0"><Resources><Tasks><Task>'
        f"<TaskId>task-{number}</TaskId><State>Finished</State><Operation>StartJob"
        '</Operation><Result Success="true"/></Task></Tasks></Resources><PagingInfo'
        f' PagesCount="3" PageSize="1" PageNum="{number}"/></QueryResult>'.encode(),
    )


async def test_pages_without_links() -> None:
    """Neither `fetch_all` nor `watch_all` takes the first of many pages for all."""
    pages = [unlinked(number) for number in (1, 2, 3)]
    async with (
        RawServer(LOGON, *pages, *pages) as server,
        connect(
            server.url(), username="u", password="pass-word", coalesce="always"
        ) as em,
    ):
        ids = [task.task_id for task in await em.fetch_all()]
        assert ids == ["task-1", "task-2", "task-3"]
        async with em.watch_all(timeout=0.5) as watch:
            got = [event.task_id async for event in watch]
            assert got == ids
        asked = [seen.target for seen in server.seen if seen.method == "GET"]
        assert asked == ["/api/tasks", "/api/tasks?page=2", "/api/tasks?page=3"] * 2


async def test_pages_without_end() -> None:
    """Pages that are one and the same are a `MalformedReplyError` at the second."""
    async with (
        RawServer(LOGON, page(1, XML), page(1, XML), page(1, XML), GONE) as server,
        connect(server.url(), username="u", password="pass-word") as em,
    ):
        with pytest.raises(MalformedReplyError, match="is page 1, although 2 was"):
            await em.fetch_all()
        assert em.statistics().errors == 1
        assert sum(seen.method == "GET" for seen in server.seen) == 2


async def test_watch_is_no_coroutine(wire: Wire) -> None:
    """`watch` starts at once and is not a coroutine, nor is `watch_all`."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Finished ok").task_id
        watches = [em.watch(task), em.watch_all(timeout=20)]
        assert em.statistics().watched == 1
        assert targets(server) == []
        await anyio.sleep(5)
        assert [watch.report.succeeded for watch in watches] == [(task,)] * 2


async def test_watch_all(wire: Wire) -> None:
    """`watch_all`: every task of the logon session, those that appear later included.

    It ends only when closed or, quietly, at its timeout.
    """
    async with wire.server() as server:
        one = server.add_task("Running 5s, Finished ok").task_id
        async with door(server, **wire.options()) as em:
            watch = em.watch_all(timeout=300)
            assert (await anext(watch)).task_id == one
            assert (await anext(watch)).is_final
            two = server.add_task("Running 5s, Finished failed").task_id
            assert (await anext(watch)).task_id == two
            rest = [event async for event in watch]
            assert [event.state for event in rest] == [TaskState.FINISHED]
            assert (await watch.wait()).failed == (two,)


async def test_discard_from_a_watch_of_all(wire: Wire) -> None:
    """`discard` drops a task from a watch of all, until it is added again."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        one, two = (server.add_task("Running").task_id for _ in range(2))
        watch = em.watch_all()
        assert {(await anext(watch)).task_id, (await anext(watch)).task_id} == {
            one,
            two,
        }
        watch.discard(one)
        await anyio.sleep(100)
        assert list(watch.report.outcomes) == [two]
        assert em.statistics().watched == 1
        three = server.add_task("Running").task_id
        assert (await anext(watch)).task_id == three
        watch.add(one)
        event = await anext(watch)
        assert (event.task_id, event.sequence) == (one, 1)
        assert list(watch.report.outcomes) == [two, three, one]


async def test_watch_all_ends_when_closed(wire: Wire) -> None:
    """A watch of all tasks wakes its reader with ClosedError when it is closed."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        watch = em.watch_all()

        async def read() -> None:
            with pytest.raises(ClosedError):
                await anext(watch)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(10)
            await watch.aclose()


async def test_wait(wire: Wire) -> None:
    """`wait`: until Finished; raises if it failed or time ran out; may be cancelled.

    Cancelling one only unsubscribes.
    """
    async with wire.server() as server, door(server, **wire.options()) as em:
        bad = server.add_task("Running 3s, Finished failed 'Disk full'").task_id
        slow = server.add_task("Running").task_id
        with pytest.raises(TaskFailedError, match="Disk full") as caught:
            await em.wait(bad)
        assert caught.value.task.task_id == bad
        with pytest.raises(WatchTimeoutError) as out:
            await em.wait(slow, timeout=5)
        assert out.value.report.unfinished == (slow,)
        with anyio.move_on_after(5):
            await em.wait(slow)
        assert em.statistics().watched == 0
        assert not [p for p in targets(server, "DELETE") if p.startswith("tasks/")]


@pytest.mark.lengthy
async def test_many_waits() -> None:
    """Ten thousand of them gathered are as cheap as one watch."""
    async with SimulatedServer() as server, door(server) as em:
        task = server.add_task("Running 10s, Finished ok").task_id
        waits = [em.wait(task) for _ in range(10_000)]
        ended = await asyncio.gather(*waits)
        assert all(one.succeeded for one in ended)
        assert server.requests.total < 20
        assert em.statistics().watched == 0


async def test_nothing_is_deleted_but_on_request(wire: Wire) -> None:
    """`delete`: DELETE of the task, only ever on request, however a watch ends."""
    scripts = ("Finished ok", "Finished failed 'No'", "Running 3s, gone", "Running")
    async with wire.server() as server, door(server, **wire.options()) as em:
        tasks = [server.add_task(script) for script in scripts]
        ids = [task.task_id for task in tasks]
        with pytest.raises(WatchTimeoutError):
            await em.watch(ids, timeout=30).wait()
        with anyio.move_on_after(3):
            await em.wait(ids[3])
        async with em.watch(ids):
            pass
        assert targets(server, "DELETE") == []
        one, two, three = ids[0], await em.fetch(ids[1]), await em.fetch(ids[3])
        assert three.href is not None
        for named in (one, two, three.href):
            await em.delete(named)
        expected = [f"tasks/{ids[number]}" for number in (0, 1, 3)]
        assert targets(server, "DELETE") == expected


async def test_read(wire: Wire) -> None:
    """`read`: any other resource, by path, `Link` or Href, whose path alone is used.

    A related session, say: its link names the server as it calls itself.
    """
    server = wire.server(link_base="https://em01.corp:9398", job_links="always")
    async with server, door(server, **wire.options()) as em:
        task = await em.wait(await em.submit(f"jobs/{GUID}?action=start"))
        (link,) = task.related
        assert isinstance(link, Link)
        assert link.href.startswith("https://em01.corp:9398/api/replicaSessions/")
        path = link.href.partition("/api/")[2]
        before = em.statistics().requests
        for named in (link, link.href, path, f"/{path}", f"/api/{path}"):
            read = await em.read(named)
            assert "SQL Replication" in str(read)
            # XML has the root as its one key, with attributes as @Name.
            root = read["ReplicaJobSession"] if wire.accept == "xml" else read
            assert isinstance(root, dict)
            assert ("@Type" in root) is (wire.accept == "xml")
        assert em.statistics().requests == before + 5
        asked = targets(server)[-5:]
        assert asked == [path.partition("?")[0]] * 5
        assert server.requests[-1].query == "format=Entity"
        with pytest.raises(StatusError) as caught:
            await em.read("replicaSessions/7b52a4ee-0000-4000-8000-000000000000")
        assert caught.value.status == 404


Call = Callable[[SessionManager, str], Awaitable[object]]
CALLS: dict[str, tuple[Call, str]] = {
    "fetch": (lambda em, task: em.fetch(task), r"tasks/task-[1-9]\d*$"),
    "fetch_all": (lambda em, _: em.fetch_all(), "tasks$"),
    "read": (lambda em, _: em.read("jobs"), "jobs$"),
    "submit": (lambda em, _: em.submit(f"jobs/{GUID}?action=start"), f"jobs/{GUID}"),
    "delete": (lambda em, task: em.delete(task), r"tasks/task-[1-9]\d*$"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_one_attempt(name: str, wire: Wire) -> None:
    """`fetch`, `fetch_all`, `read`, `submit` and `delete` make one attempt."""
    call, path = CALLS[name]
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running").task_id
        for fault, error in (
            (Fault("status", status=503, path=path), StatusError),
            (Fault("reset", path=path), TransportError),
            (Fault("garbage", path=path), VeeamTasksError),
        ):
            server.faults.add(fault)
            before = server.requests.total
            with pytest.raises(error):
                await call(em, task)
            assert server.requests.total == before + 1
            server.faults.clear()
        await anyio.sleep(600)
        assert len(server.logons) == 1


@pytest.mark.parametrize("name", [name for name in CALLS if name != "delete"])
async def test_one_renewal(name: str, wire: Wire) -> None:
    """Plus one renewal of the logon session if the token was refused, and no more.

    A delete does not follow it: in the new one the ID may be another task's.
    """
    call, path = CALLS[name]
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running").task_id
        await em.fetch_all()
        token = em.token
        server.expire_logon_sessions(keep_tasks=True)
        await call(em, task)
        assert em.token != token
        counts = em.statistics()
        assert (counts.logons, counts.renewals, counts.retries) == (2, 1, 1)
        await em.fetch_all()
        asked = server.requests.total
        fault = server.faults.add(Fault("unauthorized", path=path))
        with pytest.raises(ForbiddenError):
            await call(em, task)
        assert fault.matched == 2
        # The token is good, as two replies show: it is not given up for one resource.
        assert len(server.logons) == 2
        assert server.requests.total == asked + 4


async def test_a_delete_refused_under_a_good_token_goes_once_more(wire: Wire) -> None:
    """The logon session is the same one, so the ID is the same task."""
    call, path = CALLS["delete"]
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running").task_id
        await em.fetch_all()
        fault = server.faults.add(Fault("unauthorized", path=path))
        with pytest.raises(ForbiddenError):
            await call(em, task)
        assert fault.matched == 2
        assert len(server.logons) == 1


async def test_connect_makes_one_attempt(wire: Wire) -> None:
    """`connect` makes one attempt."""
    async with wire.server() as server:
        for fault, error in (
            (Fault("status", status=503), StatusError),
            (Fault("reset"), TransportError),
            (Fault("no_token"), MalformedReplyError),
            (Fault("unauthorized"), LogonError),
        ):
            server.faults.add(fault)
            before = server.requests.total
            with pytest.raises(error):
                await door(server, **wire.options())
            assert server.requests.total == before + 1
            server.faults.clear()
        assert server.connections.open == 0


async def test_statistics_of_polls(wire: Wire) -> None:
    """`statistics()`: logons, requests, polls, coalesced, watched, bytes_in."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        counts = em.statistics()
        assert (counts.logons, counts.requests) == (1, 1)
        assert (counts.polls, counts.coalesced, counts.watched) == (0, 0, 0)
        assert counts.bytes_in > 0
        ids = [server.add_task("Running 30s, Finished ok").task_id for _ in range(4)]
        watches = [em.watch(ids), em.watch(ids[0])]
        # Polls are due on a grid of 20 ms: between two of them none is under way.
        await anyio.sleep(20.01)
        counts = em.statistics()
        assert (counts.watched, counts.in_flight) == (4, 0)
        assert counts.requests == server.requests.total
        asked = targets(server)
        assert counts.polls == sum(path.startswith("tasks/") for path in asked)
        if wire.coalesce == "never":
            assert counts.coalesced == 0
            assert counts.coalescing == "singly"
        else:
            assert 0 < counts.coalesced <= 4 * asked.count("tasks")
            assert counts.coalescing == "together"
        for watch in watches:
            await watch.wait()
        end = em.statistics()
        assert end.watched == end.errors == end.retries == end.renewals == 0
        assert end.bytes_in > counts.bytes_in
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            end.polls = 7  # type: ignore[misc] # the point


async def test_statistics_of_trouble(wire: Wire) -> None:
    """`statistics()`: errors, retries, in_flight, renewals."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running").task_id
        one = f"tasks/{task}$"
        server.faults.add(Fault("status", status=502, path=one, times=2))
        with pytest.raises(StatusError):
            await em.fetch(task)
        assert (em.statistics().errors, em.statistics().retries) == (1, 0)
        if wire.coalesce == "never":
            watch = em.watch(task)
            await anyio.sleep(5)
            assert (em.statistics().errors, em.statistics().retries) == (2, 1)
            await watch.aclose()
        server.faults.clear()
        server.faults.add(Fault("delay", seconds=3, path="jobs", times=1))
        reading = asyncio.create_task(em.read("jobs"))
        await anyio.sleep(1)
        assert em.statistics().in_flight == 1
        await reading
        assert em.statistics().in_flight == 0
        before = em.statistics()
        server.expire_logon_sessions()
        await em.fetch_all()
        after = em.statistics()
        assert (after.logons, after.renewals) == (2, 1)
        assert after.retries == before.retries + 1
        assert after.errors == before.errors
        server.change_password("another-one")
        server.expire_logon_sessions()
        with pytest.raises(LogonError):
            await em.fetch_all()
        # The call, and the logon that was refused.
        assert em.statistics().errors == before.errors + 2


async def test_bytes_in_are_those_of_the_bodies() -> None:
    """`statistics().bytes_in`: the bytes of the bodies of replies."""
    body = b'{"any": "resource"}'
    answer = reply(body, content_type=JSON)
    async with RawServer(LOGON, answer, GONE) as server:
        em = await connect(server.url(), username="u", password="pass-word")
        logon = em.statistics().bytes_in
        assert logon == len(LOGON.partition(b"\r\n\r\n")[2])
        assert await em.read("x") == {"any": "resource"}
        assert em.statistics().bytes_in == logon + len(body)
        await em.aclose()


async def test_counts_go_on_when_it_is_opened_again(wire: Wire) -> None:
    """Each count goes on where it was, and none is counted twice."""
    async with wire.server() as server:
        em = direct(server, **wire.options())
        for number in (1, 2, 3):
            async with em:
                await em.fetch_all()
                server.expire_logon_sessions()
                await em.fetch_all()
                with pytest.raises(StatusError):
                    await em.read("jobs/none")
                counts = em.statistics()
                assert (counts.renewals, counts.retries) == (number, number)
                assert (counts.logons, counts.errors) == (2 * number, number)
            assert em.statistics().requests == server.requests.total


async def test_secrets_are_properties_and_in_no_repr(wire: Wire) -> None:
    """`url`, `token`, `session_id`: where it talks to; no secret in a `repr`."""
    async with wire.server() as server:
        em = await door(server, **wire.options())
        (session,) = server.logon_sessions
        assert em.url == f"{server.url}/api/"
        assert (em.token, em.session_id) == (session.token, session.session_id)
        shown = [repr(em), repr(em.watch("task-1")), repr(em.statistics())]
        await em.aclose()
        assert (em.token, em.session_id) == (None, None)
        for text in [*shown, repr(em)]:
            assert session.token not in text
            assert session.session_id not in text
        assert em.url in repr(em)


async def test_aclose(wire: Wire) -> None:
    """`aclose` stops the watches, logs out what it logged on, closes connections.

    It may be called twice and from any asyncio task.
    """
    async with wire.server() as server:
        task = server.add_task("Running").task_id
        em = await asyncio.create_task(door(server, **wire.options()).__aenter__())
        watch, waiting = em.watch(task), asyncio.create_task(em.wait(task))
        await anext(watch)
        closes = [asyncio.create_task(em.aclose()) for _ in range(2)]
        await asyncio.gather(*closes)
        assert server.logon_sessions == []
        assert server.connections.open == 0
        for attempt in (lambda: anext(watch), lambda: waiting):
            with pytest.raises(ClosedError):
                await attempt()
        asked = server.requests.total
        await em.aclose()
        await asyncio.create_task(em.aclose(log_out=False))
        await anyio.sleep(100)
        assert server.requests.total == asked
        deleted = targets(server, "DELETE")
        assert [path.partition("/")[0] for path in deleted] == ["logonSessions"]


async def test_close_without_log_out(wire: Wire) -> None:
    """After `log_out=False` the token and session ID stay readable."""
    async with wire.server() as server:
        em = await door(server, **wire.options())
        await em.aclose(log_out=False)
        assert em.token == server.logon_sessions[0].token
        assert em.session_id == server.logon_sessions[0].session_id
        assert server.connections.open == 0
        async with door(server, **wire.options()) as other:
            token = other.token
        assert other.token is None
        assert token


async def test_open_close_open(wire: Wire) -> None:
    """A manager can be opened, closed and opened again; counts go on."""
    async with wire.server() as server:
        em = direct(server, **wire.options())
        for number in (1, 2, 3):
            async with em:
                await em.fetch_all()
                assert em.statistics().logons == number
        assert em.statistics().requests == server.requests.total
        assert len(server.logons) == 3


async def test_before_it_is_open(wire: Wire) -> None:
    """`watch()` before `open` is a `ClosedError` ("open it first")."""
    async with wire.server() as server:
        em = direct(server, **wire.options())
        with pytest.raises(ClosedError, match="open it first"):
            em.watch("task-1")
        with pytest.raises(ClosedError, match="open it first"):
            await em.fetch("task-1")
        await em.aclose()
        await em.open()
        await em.aclose()
        await em.aclose()
        with pytest.raises(ClosedError, match="it was closed; open it first"):
            await em.wait("task-1")
        assert server.logon_sessions == []


async def test_another_thread_is_refused() -> None:
    """From another loop or thread a `RuntimeError`; outside of any loop as well."""
    async with SimulatedServer() as server, door(server) as em:
        watch = em.watch("task-1")
        caught: list[BaseException] = []

        async def elsewhere() -> None:
            for call in (
                lambda: em.watch("task-1"),
                lambda: watch.add("task-2"),
                lambda: watch.discard("task-2"),
            ):
                with pytest.raises(RuntimeError, match="belongs to the event loop"):
                    call()
            for attempt in (
                em.fetch_all,
                lambda: em.fetch("task-1"),
                lambda: em.wait("task-1"),
                lambda: em.read("jobs"),
                lambda: em.submit("jobs/1?action=start"),
                lambda: em.delete("task-1"),
                watch.__anext__,
                watch.wait,
                watch.aclose,
                em.open,
                em.aclose,
            ):
                with pytest.raises(RuntimeError, match="belongs to the event loop"):
                    await attempt()

        def work() -> None:
            try:
                with pytest.raises(RuntimeError, match="there is none running"):
                    em.watch("task-1")
                asyncio.run(elsewhere())
            except BaseException as error:  # noqa: BLE001 - told to the main thread
                caught.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        assert caught == []
        # Nothing of that has ended anything here.
        assert "logged on, 1 task watched" in repr(em)
        assert list(watch.report.outcomes) == ["task-1"]
