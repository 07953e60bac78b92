"""The example for Temporal, with its own way to run activities."""

import asyncio
import dataclasses
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import veeam_tasks as vt
import veeam_tasks.airflow
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.filterwarnings("ignore")

if find_spec("temporalio") is None:
    pytest.skip("temporalio is not installed: nox -s airflow", allow_module_level=True)


def example() -> dict[str, Any]:
    """Return what the code of the text defines."""
    text = Path(veeam_tasks.airflow.__file__).with_name("TEMPORAL.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 75
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "TEMPORAL.md", "exec"), names)
    return names


async def test_the_activities_see_a_job_to_its_end_over_two_workers() -> None:
    """The second worker goes on from the heartbeat of the first, and sends nothing."""
    from temporalio.testing import ActivityEnvironment

    backups = example()["Backups"]
    account = {"username": "admin", "password": "admin-secret"}
    async with SimulatedServer(speed=20) as simulated:
        job = simulated.add_job("Nightly", session="Working 20s, Stopped warning")
        beats: list[Any] = []
        first = ActivityEnvironment()
        beaten = asyncio.Event()
        first.on_heartbeat = lambda *args: (beats.append(args), beaten.set())
        pace = vt.Pace(first=0.05, longest=0.1)
        async with vt.connect(simulated.url, pace=pace, **account) as em:
            started = await first.run(backups(em).start, f"{job.path}?action=start")
            watching = asyncio.create_task(
                first.run(backups(em).see_to_the_end, started)
            )
            await beaten.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching
            second = ActivityEnvironment()
            second.info = dataclasses.replace(second.info, heartbeat_details=beats[-1])
            end = await second.run(backups(em).see_to_the_end, started)
            assert end == "warning"
        sent = [one for one in simulated.requests if "action=" in one.query]
        assert len(sent) == 1
