"""The simulator as a server process of its own, for what depends on behaviour.

Each of its tasks changes twice, at random moments that are known beforehand:
Running, then OperationFinished, then Finished. The moments stand in a file, by the
clock that all processes of one machine share (CLOCK_MONOTONIC, `time.monotonic`).
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from server import Seen

from veeam_tasks import __version__

QUIET, FIRST, SECOND = 4.0, 5.0, 2.5  # seconds
"""Nothing changes at first, while the client starts; the first changes come within
`FIRST` after that, the second ones `SECOND` to twice `SECOND` after the first."""


class SimulatedProcess:
    """Context manager around the simulator's process, alike to `BenchServer`."""

    def __init__(self, *, tasks: int, cpu: int | None = None) -> None:
        self._cpu = cpu
        self._tasks = tasks
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._process: subprocess.Popen[str] | None = None
        self._told: dict[str, Any] = {}

    def __enter__(self) -> Self:
        settings = {"tasks": self._tasks, "folder": str(self._folder), "cpu": self._cpu}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._told = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate(timeout=20)
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()

    @property
    def ca_file(self) -> str:
        """The CA that signed its certificate."""
        return str(self._told["ca_file"])

    @property
    def options(self) -> dict[str, Any]:
        """What its client must know besides: how to log on, and when tasks change."""
        return {name: self._told[name] for name in ("username", "password", "changes")}

    def url(self, *, changing: bool = True) -> str:
        """Return its address; its tasks always change."""
        assert changing
        return str(self._told["url"])

    def seen(self) -> Seen | None:
        """Return None: it does not count for us."""
        return None

    def version(self) -> str:
        """Return what it is, for the record."""
        return f"veeam_tasks.simulator {__version__}"


async def serve(settings: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    from veeam_tasks.simulator import SimulatedServer  # noqa: PLC0415 - needs an extra

    if settings["cpu"] is not None:
        os.sched_setaffinity(0, {settings["cpu"]})
    folder = Path(settings["folder"])
    changes: dict[str, list[tuple[float, str]]] = {}
    async with SimulatedServer(tls=True) as server:
        for _ in range(settings["tasks"]):
            first = QUIET + FIRST * random.random()
            second = SECOND * (1 + random.random())
            script = (
                f"Running {first:.4f}s, OperationFinished {second:.4f}s, Finished ok"
            )
            added = time.monotonic()
            task = server.add_task(script=script)
            changes[task.task_id] = [
                (added + first, "OperationFinished"),
                (added + first + second, "Finished"),
            ]
        path = folder / "changes.json"
        path.write_text(json.dumps(changes), encoding="utf-8")
        told = {
            "url": server.url,
            "ca_file": str(server.ca_file),
            "username": server.username,
            "password": server.password,
            "changes": str(path),
        }
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
