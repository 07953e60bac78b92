"""A real Prometheus scrapes ten minutes of simulated work, with an outage in it.

The scripts of the simulated server go twenty times as fast as the clock.
"""

import asyncio
import json
import os
import re
import shutil
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest

import veeam_tasks as vt
from veeam_tasks import metrics
from veeam_tasks.metrics import Collector, dashboard, serve
from veeam_tasks.simulator import Mix, SimulatedServer

PROGRAM = shutil.which("prometheus")

pytestmark = [
    pytest.mark.skipif(
        PROGRAM is None or not os.environ.get("VEEAM_TASKS_PROMETHEUS"),
        reason="takes a minute and Debian's prometheus: nox -s prometheus",
    ),
    pytest.mark.asyncio_loop,
]

README = (Path(metrics.__file__).parent / "README.md").read_text(encoding="utf-8")
SPEED = 20.0
TASKS, JOBS = 60, 6
CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: veeam_tasks
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Its HTTP API."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression gives now."""
        url = f"{self._url}/api/v1/query"
        async with self._http.get(url, params={"query": expression}) as reply:
            answer = await reply.json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    async def value(self, expression: str) -> float:
        """Return the one value that an expression gives now."""
        (found,) = await self.ask(expression)
        return float(found["value"][1])


@asynccontextmanager
async def prometheus(folder: Path, port: int) -> AsyncIterator[Prometheus]:
    """Run one that scrapes a port, until it is left."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(port=port))
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:9397",
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        line = b""
        while b"Server is ready" not in line:
            line = await asyncio.wait_for(process.stderr.readline(), 60)
            assert line, "prometheus ended"
        async with aiohttp.ClientSession() as http:
            yield Prometheus(http, "http://127.0.0.1:9397")
    finally:
        process.terminate()
        await process.wait()


def connected(server: SimulatedServer, **more: Any) -> Any:
    """Return what logs on to a server."""
    return vt.connect(server.url, username="admin", password="admin-secret", **more)


async def work(server: SimulatedServer, em: vt.SessionManager) -> vt.Report:
    """Watch tasks and follow jobs for ten simulated minutes, with an outage."""
    mix = Mix(failing=0.1, running=(60.0, 400.0), collecting=(5.0, 30.0))
    watch = em.watch([task.task_id for task in server.add_tasks(TASKS, mix)])
    jobs = [
        server.add_job(f"Job {at}", session=f"Starting 5s, Working {60 * at}s, Stopped")
        for at in range(1, JOBS + 1)
    ]
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(em.run(f"{job.path}?action=start"))
        await anyio.sleep(240 / SPEED)
        await server.pause()
        await anyio.sleep(120 / SPEED)
        await server.resume()
        return await watch.wait()


async def test_a_real_prometheus_reads_it_right(tmp_path: Path) -> None:
    """Counts are those of the report; the outage is seen, and so is its end."""
    async with (
        SimulatedServer(speed=SPEED, seed=1, job_links="always") as server,
        connected(server, pace=vt.Pace(first=0.1, longest=0.5)) as em,
    ):
        scraped, _ = serve(Collector(em), port=0)
        try:
            async with prometheus(tmp_path, scraped.server_port) as prom:
                await anyio.sleep(3)
                report = await work(server, em)
                await anyio.sleep(4)
                starts = 'operation="StartJob"'
                ends = "veeam_tasks_ends_total"
                failed = await prom.value(f'sum({ends}{{outcome="failed"}})')
                assert failed == len(report.failed) > 0
                all_ends = await prom.value(f"sum({ends})")
                assert all_ends == TASKS + JOBS
                assert await prom.value(f"sum({ends}{{{starts}}})") >= JOBS
                good = await prom.value('veeam_tasks_sessions_total{result="success"}')
                assert good == JOBS
                up = "veeam_tasks_em_reachable"
                assert await prom.value(f"min_over_time({up}[10m])") == 0
                assert await prom.value(up) == 1
                lost = 'requests_total{kind="poll",status="none"}'
                assert await prom.value(f"veeam_tasks_{lost}") > 0
                polls = await prom.value("veeam_tasks_polls_total")
                assert polls == em.statistics().polls
                jobs = await prom.ask("veeam_tasks_job_last_success_timestamp_seconds")
                assert len(jobs) == JOBS
                late = "veeam_tasks_change_seen_after_seconds"
                assert await prom.value(f"{late}_count") >= TASKS
                assert await prom.value("sum(veeam_tasks_watched)") == 0
                await every_panel_shows_something(prom)
                # Prometheus draws what it counts out to the ends of its window.
                shown = await prom.value(expression_of("Failed or lost"))
                assert round(shown) == len(report.failed)
                jobs_failed = await prom.value(expression_of("Jobs failed"))
                assert jobs_failed == 0
        finally:
            scraped.shutdown()
            scraped.server_close()


def expressions() -> Iterator[tuple[str, str]]:
    """Yield titles of panels, and what they ask for with the variables filled in."""
    for panel in json.loads(dashboard())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            expression = expression.replace("$__range", "10m").replace("$em", ".*")
            yield panel["title"], expression


def expression_of(title: str) -> str:
    """Return what the one query of a panel asks for."""
    (found,) = [asked for panel, asked in expressions() if panel == title]
    return found


async def every_panel_shows_something(prom: Prometheus) -> None:
    """Ask for whatever the dashboard shows: each has a number, and no NaN alone."""
    for title, expression in expressions():
        found = await prom.ask(expression)
        assert found, (title, expression)
        assert any(one["value"][1] != "NaN" for one in found), (title, expression)


async def test_promtool_has_nothing_against_the_metrics() -> None:
    """Names, units, types and texts are as Prometheus wants them."""
    async with SimulatedServer(job_links="always") as server, connected(server) as em:
        job = server.add_job("Nightly", session="Working 0.1s, Stopped")
        await em.run(f"{job.path}?action=start")
        registry = CollectorRegistry()
        registry.register(Collector(em))
        text = generate_latest(registry)
    assert b"veeam_tasks_job_last_success_timestamp_seconds{" in text
    assert b"veeam_tasks_change_seen_after_seconds_bucket{" in text
    assert await promtool("metrics", given=text) == (0, "")


async def test_promtool_has_nothing_against_the_alarms(tmp_path: Path) -> None:
    """Those of the README are rules as they stand; each names families that exist."""
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    file = tmp_path / "rules.yml"
    rules = textwrap.indent(found[1], "  ")
    file.write_text(f"groups:\n- name: backups\n  rules:\n{rules}", encoding="utf-8")
    status, said = await promtool("rules", str(file))
    assert status == 0, said
    assert f"SUCCESS: {found[1].count('- alert:')} rules found" in said
    registry = CollectorRegistry()
    registry.register(Collector())
    known = {f"{one.name}_total" for one in registry.collect() if one.type == "counter"}
    known |= {one.name for one in registry.collect()}
    assert set(re.findall(r"veeam_tasks_\w+", found[1])) <= known


async def promtool(*arguments: str, given: bytes = b"") -> tuple[int | None, str]:
    """Let it check something; return its status and what it says."""
    process = await asyncio.create_subprocess_exec(
        "promtool",
        *("check", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(given)
    return process.returncode, said.decode()
