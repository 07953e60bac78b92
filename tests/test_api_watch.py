"""api.md, section Watch: the iterator and context manager."""

import pytest
from doors import Wire, door

from veeam_tasks import TaskState

pytestmark = pytest.mark.virtual_time


async def test_bulk(wire: Wire) -> None:
    """A bulk watcher: the first event per task is what was found, then changes."""
    async with wire.server() as server:
        tasks = [
            server.add_task("Running 20s, Finished ok"),
            server.add_task("Running 5s, OperationFinished 20s, Finished failed 'No'"),
            server.add_task("Finished ok"),
        ]
        ids = [task.task_id for task in tasks]
        async with door(server, **wire.options()) as em, em.watch(ids) as watch:
            told: dict[str, list[TaskState]] = {task_id: [] for task_id in ids}
            async for event in watch:
                told[event.task_id].append(event.state)
            report = watch.report
    assert told[ids[0]] == ["Running", "Finished"]
    between = [] if wire.version == "9.5u4" else ["OperationFinished"]
    assert told[ids[1]] == ["Running", *between, "Finished"]
    assert told[ids[2]] == ["Finished"]
    assert report.succeeded == (ids[0], ids[2])
    assert report.failed == (ids[1],)
