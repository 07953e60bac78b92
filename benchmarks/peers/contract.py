"""What every client program here shares: its task, its measure, its last line.

A program is started as ``python peers/NAME.py SPEC`` with a `Spec` as JSON. It pins
itself to a core, watches the tasks as its kind of program would, and prints one line
of JSON, which tells at least:

* ``polls``, ``cpu``, ``wall``: replies read while measured, client CPU seconds (user
  and system, by ``getrusage`` of this process) and seconds meanwhile;
* ``requests``: all that it sent, warm-up included, for comparison with the count of
  the server; ``cut_short``: how many of them may have been cancelled at the end;
* ``wrong``: what was found wrong in the replies; empty if nothing was.
"""

import asyncio
import dataclasses
import inspect
import json
import os
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

TOKEN_HEADER = "X-RestSvcSessionId"
Result = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What a program is asked to do.

    Attributes:
        url: Where the server is.
        ca_file: The CA that signed its certificate.
        token: The token of the server's one logon session.
        tasks: How many tasks there are: ``task-1`` to ``task-<tasks>``.
        pause: Seconds between two polls of one task; 0 polls without a pause.
        warm_up: Polls before the measure begins.
        polls: Polls that are measured; 0 measures for `seconds` instead.
        seconds: See `polls`.
        changing: Whether every reply is expected to differ from the last.
        cpu: The core to run on, or None.
        options: Whatever one program alone understands.
    """

    url: str
    ca_file: str
    token: str
    tasks: int
    pause: float = 0.0
    warm_up: int = 0
    polls: int = 0
    seconds: float = 0.0
    changing: bool = False
    cpu: int | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def task_ids(self) -> list[str]:
        """The IDs of all tasks, made anew."""
        return [f"task-{number}" for number in range(1, self.tasks + 1)]

    @property
    def urls(self) -> list[str]:
        """The URL of each task, as a string."""
        return [f"{self.url}/api/tasks/{task_id}" for task_id in self.task_ids]

    @property
    def headers(self) -> dict[str, str]:
        """What a logged-on client sends with each request."""
        return {TOKEN_HEADER: self.token, "Accept": "application/xml"}

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts the server's CA and checks its name."""
        return ssl.create_default_context(cafile=self.ca_file)


def cpu_seconds() -> float:
    """Return the CPU time of this process, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no pathlib needed
        return int(file.read().split()[1]) * resource.getpagesize()


class Meter:
    """CPU and wall time since it was made."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = cpu_seconds()

    def read(self) -> Result:
        """Return the seconds so far."""
        return {
            "cpu": cpu_seconds() - self._cpu,
            "wall": time.perf_counter() - self._wall,
        }


async def measure_while(count: Callable[[], int], spec: Spec) -> Result:
    """Measure a client that polls by itself, whose polls so far `count` returns.

    It looks ten times a second at most: to count may cost something.
    """
    while count() < spec.warm_up:  # noqa: ASYNC110 - an event would be work too
        await asyncio.sleep(0.1)
    before = count()
    meter = Meter()
    if spec.polls:
        while count() < before + spec.polls:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    else:
        await asyncio.sleep(spec.seconds)
    return meter.read() | {"polls": count() - before}


def polled_in_turn(measured: Result, bodies: dict[int, bytes], spec: Spec) -> Result:
    """Return the result of a client that polled the tasks in turn.

    Args:
        measured: What its meter read.
        bodies: The last body of each task, by the task's place in `Spec.urls`.
        spec: What it was asked to do.
    """
    wrong = [
        f"task-{index + 1}: {body[:80]!r}"
        for index, body in bodies.items()
        if f"<TaskId>task-{index + 1}</TaskId><State>Running<".encode() not in body
    ]
    if len(bodies) != spec.tasks:
        wrong.append(f"{len(bodies)} tasks were polled instead of {spec.tasks}")
    operations = (body.partition(b"<Operation>")[2] for body in bodies.values())
    return measured | {
        "polls": spec.polls,
        "requests": spec.warm_up + spec.polls,
        "cut_short": 0,
        "wrong": wrong or wrong_operations(operations, spec),
    }


def wrong_operations(operations: Iterable[object], spec: Spec) -> list[str]:
    """Return what is wrong if the operations should (or should not) all differ."""
    different = len(set(operations))
    expected = spec.tasks if spec.changing else 1
    if different == expected:
        return []
    return [f"{different} different operations instead of {expected}"]


def play(run: Callable[[Spec], Result | Awaitable[Result]]) -> None:
    """Run the program `run` on the `Spec` of the command line and print its result."""
    spec = Spec(**json.loads(sys.argv[1]))
    if spec.cpu is not None:
        os.sched_setaffinity(0, {spec.cpu})
    result = run(spec)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    result["wrong"] = result["wrong"][:5]
    print(json.dumps(result))
