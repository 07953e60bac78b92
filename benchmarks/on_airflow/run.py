"""What the provider promises, tried on a whole Airflow; prints figures beside goals.

    python -m nox -s airflow-full                   # all parts
    python -m nox -s airflow-full -- fifty wrong    # some

Needs Airflow, psycopg2 and PostgreSQL 15. The exit status is 1 if a goal was missed.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from figures import Figures
from parts import FIFTY, HERE, PASSWORD, WRONG, Run, Servers
from stack import Stack, running

from veeam_tasks.simulator import ThreadedServer

PARTS = {
    "fifty": Run.fifty,
    "wrong": Run.wrong_password,
    "triggers": Run.triggers,
    "killed": Run.killed,
}


def connection(server: ThreadedServer, password: str = PASSWORD) -> str:
    """Return a connection of Airflow as JSON."""
    host, _, port = server.url.removeprefix("https://").rpartition(":")
    return json.dumps(
        {
            "conn_type": "veeam_em",
            "host": host,
            "port": int(port),
            "login": "admin",
            "password": password,
            "extra": {"pace_longest": 5, "fingerprint": server.fingerprint},
        }
    )


def add_jobs(server: ThreadedServer) -> list[str]:
    """Add fifty jobs, of which each fifth fails, and one that takes long."""
    paths = []
    for number in range(FIFTY):
        script = "Starting 1s, Working 20s, Stopped"
        machines: dict[str, Any] = {"db01": None}
        if number % 5 == 4:
            script += " failed"
            machines = {"db01": f"InProgress 2s, Completed failed 'Disk {number}'"}
        job = server.add_job(f"Night {number}", session=script, machines=machines)
        paths.append(f"{job.path}?action=start")
    long = server.add_job("Long", session="Starting 1s, Working 2h, Stopped")
    return [*paths, f"{long.path}?action=start"]


def open_servers(opened: ExitStack, many: int) -> Servers:
    """Start the servers, and give the last two their tasks."""

    def one(**options: Any) -> ThreadedServer:
        server = ThreadedServer(
            tls=True,
            password=PASSWORD,
            job_links="always",
            keep_requests=1_000_000,
            **options,
        )
        return opened.enter_context(server)

    shared = {"session_scoped": False}
    servers = Servers(own=one(), wrong=one(), plain=one(**shared), naive=one(**shared))
    servers.plain.add_tasks(many)
    servers.naive.add_tasks(many)
    return servers


def run(given: argparse.Namespace, folder: Path, figures: Figures) -> None:
    """Start everything, run the parts, stop everything."""
    with ExitStack() as opened:
        servers = open_servers(opened, given.many)
        os.environ["VEEAM_BENCH_JOBS"] = ",".join(add_jobs(servers.own))
        os.environ["VEEAM_BENCH_WRONG"] = str(given.wrong)
        os.environ["VEEAM_BENCH_MANY"] = str(given.many)
        os.environ["PYTHONPATH"] = str(HERE)
        stack = Stack(
            folder,
            triggerers=2,
            connections={
                "em": connection(servers.own),
                "em_wrong": connection(servers.wrong, WRONG),
                "em_plain": connection(servers.plain),
                "em_naive": connection(servers.naive),
            },
        )
        opened.enter_context(running(stack))
        stack.query(
            "insert into slot_pool (pool, slots, include_deferred)"
            " values ('held', 0, false)"
        )
        parts = Run(
            stack=stack,
            servers=servers,
            figures=figures,
            many=given.many,
            wrong=given.wrong,
            seconds=given.seconds,
        )
        for part in given.parts:
            try:
                PARTS[part](parts)
            except Exception as error:  # noqa: BLE001 - it counts as missed
                # The other parts may well show what they promise.
                figures.fact(f"{part}: came to no end", error)
                figures.missed.append(part)


def main() -> int:
    """Run what was asked for; tell whether all goals were reached."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="a folder that is kept, for logs and database")
    parser.add_argument("--many", type=int, default=1000, help="how many triggers")
    parser.add_argument("--wrong", type=int, default=200, help="how many mapped tasks")
    parser.add_argument(
        "--seconds", type=int, default=300, help="how long watched tasks take"
    )
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    given = parser.parse_args()
    unknown = set(given.parts) - PARTS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: {', '.join(PARTS)}")
    # PostgreSQL, which does not run as root, must come there, and nox has a folder of
    # its own for what is temporary, where only root may go.
    where = None if os.geteuid() else "/tmp"
    made = given.keep or tempfile.mkdtemp(prefix="veeam-airflow-", dir=where)
    base = Path(made).resolve()
    figures = Figures()
    try:
        run(given, base / "airflow", figures)
    finally:
        if not given.keep and not figures.missed:
            shutil.rmtree(base, ignore_errors=True)
    if figures.missed:
        print(f"{len(figures.missed)} goals missed: {'; '.join(figures.missed)}")
        print(f"logs and database: {base}")
        return 1
    print("all goals reached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
