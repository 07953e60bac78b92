"""Many job sessions followed at a pace of 1 s: together against one by one.

    python benchmarks/followed.py                 # 300 job sessions, then 2,000
    python benchmarks/followed.py --seconds 30 --rounds 3

The server is a process of its own, on a core of its own, that answers from memory. A
third of them show new progress each second, the others are as before. A hold is
told by the clock, in CPU time, and by the clock less what other processes took the core
for; the goal is one by the clock, on a machine without other work.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import machine
from loop_probe import LoopProbe

from veeam_tasks import Pace, SessionManager, connect

STEADY = Pace(first=1.0, growth=1.0, longest=1.0)
GOAL = 0.010
"""Seconds for which the event loop may be held, with 2,000 sessions."""

_NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
_ID = re.compile(rb"00000000-0000-0000-0000-([0-9]{12})")
_OF_ACTION = re.compile(rb"POST /api/jobs/([^?]+)\?")


# --- the server


def session(number: int, base: str) -> str:
    """Return a job session as recorded servers print it."""
    guid = f"00000000-0000-0000-0000-{number:012}"
    progress = int(time.monotonic()) % 100 if number % 3 == 0 else 34
    return (
        f'<BackupJobSession {_NS} Href="{base}backupSessions/{guid}?format=Entity"'
        f' Type="BackupJobSession" Name="Job {number}@2026-06-16 06:33:10"'
        f' UID="urn:veeam:BackupJobSession:{guid}"><Links>'
        f'<Link Href="{base}backupServers/{guid}" Name="vbr" Rel="Up"'
        f' Type="BackupServerReference"/>'
        f'<Link Href="{base}jobs/{guid}" Rel="Up" Type="JobReference"/>'
        f'<Link Href="{base}backupSessions/{guid}" Rel="Alternate"'
        f' Type="BackupJobSessionReference"/>'
        f'<Link Href="{base}backupSessions/{guid}/taskSessions" Rel="Down"'
        f' Type="BackupTaskSessionReferenceList"/></Links>'
        f"<JobUid>urn:veeam:Job:{guid}</JobUid><JobName>Job {number}</JobName>"
        "<JobType>Backup</JobType>"
        "<CreationTimeUTC>2026-06-16T06:33:10.659559Z</CreationTimeUTC>"
        f"<State>Working</State><Result>None</Result><Progress>{progress}</Progress>"
        "<IsRetry>false</IsRetry></BackupJobSession>"
    )


def task(number: int, base: str) -> str:
    """Return the finished task of a start, with a link to its session."""
    guid = f"00000000-0000-0000-0000-{number:012}"
    return (
        f'<Task {_NS} Type="Task" Href="{base}tasks/task-{number}"><Links>'
        f'<Link Rel="Related" Type="BackupJobSession"'
        f' Href="{base}backupSessions/{guid}?format=Entity"/></Links>'
        f"<TaskId>task-{number}</TaskId><State>Finished</State>"
        '<Operation>StartJob</Operation><Result Success="true"><Message>Ok</Message>'
        "</Result></Task>"
    )


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    port = writer.get_extra_info("sockname")[1]
    base = f"http://127.0.0.1:{port}/api/"
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        extra, status = "", "200 OK"
        first = head.partition(b"\r\n")[0]
        if b"sessionMngr" in first:
            extra, status = "X-RestSvcSessionId: bench-token\r\n", "201 Created"
            body = f"<LogonSession {_NS}><SessionId>bench-session</SessionId>"
            body += "</LogonSession>"
        elif b"/query?" in first:
            found = [session(int(one), base) for one in _ID.findall(first)]
            body = (
                f"<QueryResult {_NS}><Entities><BackupJobSessions>{''.join(found)}"
                "</BackupJobSessions></Entities></QueryResult>"
            )
        elif b"/backupSessions/" in first:
            body = session(int(_ID.findall(first)[0]), base)
        elif (action := _OF_ACTION.match(first)) is not None:
            body = task(int(_ID.findall(action[1])[0]), base)
        elif (named := re.search(rb"task-([0-9]+)", first)) is not None:
            body = task(int(named[1]), base)
        else:
            body = f"<LogonSession {_NS}/>"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    writer.close()


async def serve() -> None:
    """Serve until standard input ends."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


# --- the client


async def measure(url: str, *, count: int, mode: Any, seconds: float) -> dict[str, Any]:
    """Return what following so many job sessions has cost, a second."""
    async with connect(
        url, username="u", password="p-secret", coalesce=mode, pace=STEADY
    ) as em:
        await started(em, count)
        watch = em.watch([f"task-{n}" for n in range(count)], follow=True)
        found: set[str] = set()
        async for event in watch:
            if event.session is not None:
                found.add(event.task_id)
            if len(found) == count:
                break
        await asyncio.sleep(5.0)
        requests, cpu, began = em.statistics().requests, cpu_seconds(), time.monotonic()
        with LoopProbe() as probe:
            await asyncio.sleep(seconds)
        span = time.monotonic() - began
        told = {
            "sessions": count,
            "mode": mode,
            "requests": (em.statistics().requests - requests) / span,
            "cpu": (cpu_seconds() - cpu) / span,
            "hold": probe.longest,
            "hold_own": probe.longest_own,
            "hold_cpu": probe.longest_cpu,
            "hold_goal": GOAL,
        }
        await watch.aclose()
        return told


async def started(em: SessionManager, count: int) -> None:
    """Start the jobs."""
    for number in range(count):
        guid = f"00000000-0000-0000-0000-{number:012}"
        await em.submit(f"jobs/{guid}?action=start")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=1, help="with 2,000 sessions")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    client_core, server_core = machine.cores()
    core = server_core if given.serve else client_core
    if core is not None:
        os.sched_setaffinity(0, {core})
    if given.serve:
        asyncio.run(serve())
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    try:
        many = [(2000, "auto")] * given.rounds
        for count, mode in ((300, "never"), (300, "auto"), *many):
            told = asyncio.run(
                measure(url, count=count, mode=mode, seconds=given.seconds)
            )
            print(json.dumps(told), flush=True)
    finally:
        server.communicate()


if __name__ == "__main__":
    main()
