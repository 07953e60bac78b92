"""Calls: what is asked for once, in slots of its own, and what it shows of the rest."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from support.managers import door, settings_for, targets

from veeam_tasks import (
    ForbiddenError,
    MalformedReplyError,
    SessionManager,
    StatusError,
    Task,
    TaskLostError,
    TaskNotFoundError,
    TransportError,
    VeeamTasksError,
    adopt,
)
from veeam_tasks._options.settings import make_settings
from veeam_tasks._protocol.messages import Reply, Request
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.calls import Calls
from veeam_tasks._session.logon_session import LogonSession
from veeam_tasks._session.submitted import Submitted
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

Call = Callable[[SessionManager, str, str], Awaitable[object]]
CALLS: dict[str, Call] = {
    "fetch": lambda em, task_id, _: em.fetch(task_id),
    "fetch_all": lambda em, _, __: em.fetch_all(),
    "read": lambda em, _, __: em.read("jobs"),
    "submit": lambda em, _, action: em.submit(action),
    "delete": lambda em, task_id, _: em.delete(task_id),
}


def prepared(server: SimulatedServer) -> tuple[str, str]:
    """Return the ID of a task, and an action that starts another one."""
    task = server.add_task("Running 1h, Finished ok", shared=True)
    return task.task_id, f"jobs/{server.jobs[0].job_id}?action=start"


@pytest.mark.parametrize("name", CALLS)
async def test_each_call_is_one_request(name: str) -> None:
    """One attempt, in the slots of calls, and one reply."""
    async with SimulatedServer() as server, door(server) as em:
        task_id, action = prepared(server)
        before = server.requests.total
        await CALLS[name](em, task_id, action)
        assert server.requests.total == before + 1


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"delete"}))
async def test_a_refused_token_costs_one_renewal_and_one_more_attempt(
    name: str,
) -> None:
    """What was refused with 401 was not carried out, so it goes once more."""
    async with SimulatedServer() as server, door(server) as em:
        task_id, action = prepared(server)
        await em.fetch(task_id)
        server.expire_logon_sessions()
        before = server.requests.total
        await CALLS[name](em, task_id, action)
        # Refused; the logon session itself is refused too; a logon; and once more.
        assert [one.status for one in server.requests][before:][:3] == [401, 401, 201]
        assert server.requests.total == before + 4
        assert em.statistics().retries == 1


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("forbidden", 403, ForbiddenError),
        ("status", 500, StatusError),
        ("redirect", 302, StatusError),
        ("status", 404, StatusError),
        ("html", 200, MalformedReplyError),
    ],
)
async def test_each_other_reply_is_an_error_at_once(
    name: str, kind: str, status: int, error: type[VeeamTasksError]
) -> None:
    """Nothing is tried again, and 403 renews nothing."""
    async with SimulatedServer() as server, door(server) as em:
        task_id, action = prepared(server)
        before = server.requests.total
        server.faults.add(Fault(kind, status=status))
        with pytest.raises(error):
            await CALLS[name](em, task_id, action)
        assert server.requests.total == before + 1
        server.faults.clear()
        assert server.logons.total == 1


async def test_advice_is_for_a_logon_session_that_knows_no_task() -> None:
    """Fetched or listed one task, and the advice would mislead."""
    async with SimulatedServer() as server, door(server) as em:
        assert await em.fetch_all() == []
        with pytest.raises(TaskNotFoundError, match="belongs to the logon session"):
            await em.fetch("task-77")
        server.add_task("Running 1h, Finished ok")
        assert len(await em.fetch_all()) == 1
        with pytest.raises(StatusError) as caught:
            await em.fetch("task-77")
        assert "belongs to the logon session" not in str(caught.value)
        server.expire_logon_sessions()
        known = server.add_task("Running 1h, Finished ok", shared=True).task_id
        with pytest.raises(TaskNotFoundError, match="belongs to the logon session"):
            await em.fetch("task-77")
        await em.fetch(known)
        with pytest.raises(StatusError) as caught:
            await em.fetch("task-77")
        assert "belongs to the logon session" not in str(caught.value)


async def test_reads_have_slots_and_actions_have_others() -> None:
    """As many reads as slots hang: a third waits its turn, an action does not."""
    async with SimulatedServer() as server, door(server, max_in_flight=2) as em:
        task_id, action = prepared(server)
        stall = server.faults.add(Fault("stall", path=task_id))
        hanging = [asyncio.create_task(em.fetch(task_id)) for _ in range(2)]
        await anyio.sleep(1)
        waiting = asyncio.create_task(em.read("jobs"))
        with anyio.fail_after(1):
            assert (await em.submit(action)).task_id
        assert not waiting.done()
        assert "jobs" not in targets(server)
        server.faults.remove(stall)
        hanging[0].cancel()
        with anyio.fail_after(1):
            assert await waiting
        hanging[1].cancel()
        await asyncio.wait(hanging)


@pytest.mark.parametrize("name", CALLS)
async def test_a_good_reply_to_any_call_ends_the_outage(name: str) -> None:
    """The server is well again as soon as anybody knows; an error shows nothing."""
    kinds: list[str] = []
    async with (
        SimulatedServer() as server,
        door(server, on_notice=lambda notice: kinds.append(notice.kind.value)) as em,
    ):
        task_id, action = prepared(server)
        fault = server.faults.add(Fault("status", status=503))
        watch = em.watch(task_id, "task-8", "task-9")
        await anyio.sleep(60)
        assert kinds == ["logged_on", "unreachable"]
        with pytest.raises(StatusError):
            await CALLS[name](em, task_id, action)
        assert kinds == ["logged_on", "unreachable"]
        server.faults.remove(fault)
        await CALLS[name](em, task_id, action)
        assert kinds == ["logged_on", "unreachable", "recovered"]
        if name != "delete":
            with anyio.fail_after(5):
                assert (await anext(watch)).task_id == task_id


class Renewing:
    """Answers each DELETE with a 401, while the token is replaced by another call.

    It is the observer and the listener of the calls, too, and takes no note of them.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.session = LogonSession(
            transport=self,
            listener=self,
            secrets=Secrets(),
            credentials=None,
            api_version="latest",
            media_type="application/xml",
        )
        self.session.adopt("token-1", None)
        self.calls = Calls(
            session=self.session,
            observer=self,
            secrets=Secrets(),
            settings=make_settings("https://em.example", {}),
        )

    async def send(
        self, request: Request, token: object = None, *, uncertain: bool = False
    ) -> Reply:
        """Answer 401, under a token that is not the current one any more."""
        self.session.adopt("token-2", None)
        return Reply(
            request=f"{request.method} {request.shown}",
            status=401,
            content_type="text/html",
            body=self.body,
        )

    def logged_on(self) -> None:
        """See the class."""

    def renewed(self) -> None:
        """See the class."""

    def refused(self, error: VeeamTasksError) -> None:
        """See the class."""

    def record_success(self) -> None:
        """See the class."""

    def note_submitted(self, submitted: Submitted) -> None:
        """See the class."""

    def last_seen(self, task_id: str) -> Task | None:
        """Know no task."""


async def test_a_task_is_lost_to_a_delete_by_the_servers_own_401_alone() -> None:
    """A portal's page says nothing of the logon session that the task belonged to."""
    with pytest.raises(TaskLostError, match="its logon session has ended"):
        await Renewing(b"").calls.delete("task-1")
    with pytest.raises(StatusError, match="something in between") as caught:
        await Renewing(b"<html>Sign in</html>").calls.delete("task-1")
    assert caught.value.status == 401


class Silent(Renewing):
    """Takes requests, and answers none."""

    asked = 0

    async def send(
        self, request: Request, token: object = None, *, uncertain: bool = False
    ) -> Reply:
        """Be silent."""
        self.asked += 1
        raise TransportError(request=request.shown, reason="cut", connected=True)


async def test_an_action_does_not_wait_for_four_requests_that_hang() -> None:
    """What a job had before it is asked for once if there is no reply."""
    silent = Silent(b"")
    path = "jobs/00000000-0000-4000-8000-000000000001?action=start"
    assert await silent.calls.known_sessions(path) is None
    assert silent.asked == 1


async def test_what_a_job_had_before_its_start_is_known() -> None:
    """Its own job sessions, and none of another job's."""
    async with SimulatedServer() as server, door(server) as em:
        job = server.add_job("Nightly", history=3)
        server.add_job("Weekly", history=2)
        path = f"jobs/{job.job_id}?action=start"
        known = await em._runtime.calls.known_sessions(path)
        assert known is not None
        assert len(known.ids) == 3
        assert known.kind == "BackupJobSession"


@pytest.mark.parametrize("name", ["fetch", "delete"])
async def test_a_task_of_another_server_is_told_apart_by_the_first_reply(
    name: str,
) -> None:
    """Over an adopted logon session nothing was known of the server's name."""
    async with SimulatedServer() as server, door(server) as em:
        task_id, _ = prepared(server)
        href = f"https://other:9398/api/tasks/{task_id}"
        assert em.token is not None
        async with adopt(em.url, em.token, **settings_for(server, {})) as other:
            with pytest.raises(TaskLostError, match=f"was named as {href!r}"):
                await CALLS[name](other, href, "")
        assert targets(server, "DELETE") == []
