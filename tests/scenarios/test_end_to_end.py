"""The whole way: one logon, hundreds of tasks, one log-out, and nothing left."""

import asyncio

from veeam_tasks import Pace, connect
from veeam_tasks.simulator import SimulatedServer


async def test_five_hundred_ids_on_one_manager() -> None:
    """One logon, the token and no cookie on each GET, one log-out, nothing left."""
    async with SimulatedServer(host="localhost", speed=20) as server:
        ids = [server.add_task("Running 2s, Finished").task_id for _ in range(500)]
        before = asyncio.all_tasks()
        async with connect(
            server.url,
            username=server.username,
            password=server.password,
            pace=Pace(first=0.2, longest=0.5),
        ) as em:
            token = em.token
            report = await em.watch(ids).wait()
        assert len(report.succeeded) == 500
        assert server.logons.total == 1
        gets = [one for one in server.requests if one.method == "GET"]
        assert len(gets) >= 8
        for one in gets:
            headers = {name.lower(): value for name, value in one.headers}
            assert headers["x-restsvcsessionid"] == token
            assert "cookie" not in headers
        outs = [one for one in server.requests if one.method == "DELETE"]
        assert [one.status for one in outs] == [204]
        assert server.logon_sessions == []
        left = {
            one for one in asyncio.all_tasks() - before if "veeam" in one.get_name()
        }
        assert left == set()


async def test_two_watches_and_a_wait_make_one_poll() -> None:
    """However many want a task, it is asked for once at a time."""
    async with SimulatedServer() as server:
        task = server.add_task("Finished").task_id
        async with connect(
            server.url, username=server.username, password=server.password
        ) as em:
            first, second = em.watch(task), em.watch(task)
            ended = await em.wait(task)
            assert ended.succeeded
            assert (await first.wait()).succeeded == (task,)
            assert (await second.wait()).succeeded == (task,)
            assert em.statistics().polls == 1
