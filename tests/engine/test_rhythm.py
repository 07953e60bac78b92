"""When the server was asked last and is asked next, as `statistics()` tells."""

from datetime import UTC, datetime

import anyio
import pytest

import veeam_tasks as vt
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time


async def test_the_next_request_is_that_of_the_pace_or_the_probe() -> None:
    """Without a watch there is none; in an outage it is the probe's."""
    async with SimulatedServer() as server:
        server.add_task("Running", shared=True)
        manager = vt.SessionManager(
            server.url,
            username=server.username,
            password=server.password,
            pace=vt.Pace(first=20, longest=20, jitter=0),
            coalesce="never",
        )
        assert manager.statistics().last_request_at is None
        async with manager as em:
            idle = em.statistics()
            assert idle.last_request_at is not None
            assert idle.next_request_at is None
            async with em.watch("task-1") as watch:
                await anext(watch)
                assert 18 < left(em) <= 20.1
                await server.pause()
                await anyio.sleep(20.5)
                assert 0 < left(em) <= 2.1
                await server.resume()
                await anyio.sleep(3)
                assert 10 < left(em) <= 20.1


def left(em: vt.SessionManager) -> float:
    """Return the seconds until the server is asked next."""
    at = em.statistics().next_request_at
    assert at is not None
    return (at - datetime.now(UTC)).total_seconds()
