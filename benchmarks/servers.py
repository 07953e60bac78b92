"""One process that watches many servers: CPU, connections and memory.

    python benchmarks/servers.py [--servers 50] [--tasks 1000] [--pace 5] [--seconds 60]
        [--in-flight 4] [--coalesce auto] [--warm-up 30]

The simulated servers run in a process of their own, with TLS. The watches are merged,
and every event is read. CPU is that of this process alone, so other work on the machine
costs time and no truth. Linux only: sockets and memory are read from ``/proc``.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import veeam_tasks as vt
from veeam_tasks.simulator import SimulatedServer

_ESTABLISHED = "01"


def serve(pipe: Connection, servers: int, tasks: int) -> None:
    """Run the servers until the other end of the pipe is closed."""
    asyncio.run(_serve(pipe, servers, tasks))


async def _serve(pipe: Connection, servers: int, tasks: int) -> None:
    chance = random.Random(7)
    running = [SimulatedServer(tls=True, seed=n) for n in range(servers)]
    for server in running:
        await server.__aenter__()
        for _ in range(tasks):
            script = f"Running {chance.randint(20, 1200)}s, Finished ok"
            server.add_task(script, shared=True)
    pipe.send([[one.url, one.username, one.password, one.ca_file] for one in running])
    await asyncio.to_thread(pipe.recv)
    for server in running:
        await server.__aexit__(None, None, None)


def connections(ports: set[int]) -> Counter[int]:
    """Return how many connections this process has to each port."""
    mine = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            mine.add(str(entry.readlink()))
        except OSError:
            continue
    found: Counter[int] = Counter()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        port = int(words[2].rpartition(":")[2], 16)
        if (
            words[3] == _ESTABLISHED
            and f"socket:[{words[9]}]" in mine
            and port in ports
        ):
            found[port] += 1
    return found


def resident() -> int:
    """Return how much memory this process holds, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


async def logged_on(
    where: list[list[str]], given: argparse.Namespace
) -> list[vt.SessionManager]:
    """Log on to all servers, one after the other."""
    return [
        await vt.connect(
            url,
            username=user,
            password=word,
            ca_file=ca,
            pace=vt.Pace(first=given.pace, growth=1.0, longest=given.pace),
            max_in_flight=given.in_flight,
            coalesce=given.coalesce,
        )
        for url, user, word, ca in where
    ]


async def measure(where: list[list[str]], given: argparse.Namespace) -> Any:
    """Watch all tasks of all servers; return the figures."""
    before = resident()
    tasks, pace, seconds = given.tasks, given.pace, given.seconds
    managers = await logged_on(where, given)
    ids = [f"task-{number}" for number in range(1, tasks + 1)]
    merged = vt.merge(em.watch(ids) for em in managers)
    events = 0

    async def read() -> None:
        nonlocal events
        async for _ in merged:
            events += 1

    reader = asyncio.create_task(read())
    await asyncio.sleep(given.warm_up)
    first = events
    ports = {int(url.rpartition(":")[2].split("/")[0]) for url, *_ in where}
    most: Counter[int] = Counter()
    requests = sum(em.statistics().requests for em in managers)
    began, cpu = time.monotonic(), time.process_time()
    while time.monotonic() < began + seconds:
        await asyncio.sleep(1)
        for port, number in connections(ports).items():
            most[port] = max(most[port], number)
    cpu, passed = time.process_time() - cpu, time.monotonic() - began
    requests = sum(em.statistics().requests for em in managers) - requests
    figures = {
        "servers": len(where),
        "tasks": tasks * len(where),
        "pace": pace,
        "cpu": round(cpu / passed, 3),
        "connections_most": max(most.values(), default=0),
        "connections_sum": sum(most.values()),
        "requests_per_second": round(requests / passed, 1),
        "memory_mib": resident() - before,
        "first_events": first,
        "events_per_second": round((events - first) / passed, 1),
        "ways": Counter(em.statistics().coalescing for em in managers),
        "why": managers[0].statistics().coalescing_reason,
    }
    reader.cancel()
    await asyncio.wait([reader])
    await merged.aclose()
    for em in managers:
        await em.aclose()
    return figures


def main() -> None:
    """Start the servers, measure, print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--pace", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=30.0)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--coalesce", default="auto")
    given = parser.parse_args()
    mine, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=serve, args=(theirs, given.servers, given.tasks))
    child.start()
    try:
        where = mine.recv()
        print(json.dumps(asyncio.run(measure(where, given))))
    finally:
        mine.send(None)
        child.join()


if __name__ == "__main__":
    main()
