"""What the provider promises, tried on a whole Airflow; prints the figures.

    python -m nox -s airflow-full

Needs Airflow, psycopg2 and PostgreSQL 15; takes about ten minutes on two cores.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stack import Stack, running

from veeam_tasks.simulator import ThreadedServer

PASSWORD = "Correct-Horse-Battery-7"
WRONG = "Wrong-Horse-Battery-8"
FIFTY = 50


def connection(url: str, password: str = PASSWORD) -> str:
    """Return a connection of Airflow as JSON."""
    host, _, port = url.rpartition(":")
    return json.dumps(
        {
            "conn_type": "veeam_em",
            "host": host,
            "port": int(port),
            "login": "admin",
            "password": password,
            "extra": {"pace_longest": 5},
        }
    )


def say(name: str, value: object) -> None:
    """Print a figure."""
    print(f"{name:<58} {value}", flush=True)


@contextmanager
def stack_for(server: ThreadedServer, folder: Path, triggerers: int) -> Iterator[Stack]:
    """Start an Airflow that has a right and a wrong connection to that server."""
    connections = {
        "em": connection(server.url),
        "em_wrong": connection(server.url, WRONG),
    }
    stack = Stack(folder, triggerers=triggerers, connections=connections)
    with running(stack):
        yield stack


def start(stack: Stack, dag: str) -> None:
    """Let a DAG run."""
    ready = f"select 1 from dag where dag_id = '{dag}'"
    stack.await_rows(ready, seconds=120)
    stack.airflow("dags", "unpause", dag, "--yes")
    stack.airflow("dags", "trigger", dag)


def await_end(stack: Stack, dag: str, seconds: float) -> str:
    """Wait until a run of that DAG has ended; return how."""
    sql = (
        "select state from dag_run where state in ('success', 'failed')"
        f" and dag_id = '{dag}'"
    )
    return str(stack.await_rows(sql, seconds=seconds)[0][0])


def posts(server: ThreadedServer) -> Counter[str]:
    """Return how often each action was sent."""
    return Counter(
        request.path
        for request in server.requests
        if request.method == "POST" and "action=" in request.query
    )


def fifty_jobs(stack: Stack, server: ThreadedServer) -> None:
    """A night of fifty jobs: a logon, each started once, each end as it was."""
    began = time.monotonic()
    start(stack, "fifty")
    state = await_end(stack, "fifty", 900)
    say("50 jobs: state of the DAG run (10 jobs are to fail)", state)
    say("50 jobs: seconds", round(time.monotonic() - began))
    rows = stack.query(
        "select map_index, state, try_number from task_instance where dag_id = 'fifty'"
    )
    say("50 jobs: states of the tasks", dict(Counter(row[1] for row in rows)))
    say("50 jobs: accepted logons", sum(one.accepted for one in server.logons))
    say("50 jobs: sent more than once", sum(n > 1 for n in posts(server).values()))


def secrets_of(server: ThreadedServer) -> list[str]:
    """Return what must stand nowhere."""
    found = [PASSWORD, WRONG]
    for one in server.logon_sessions:
        found += [one.token, one.session_id]
    return found


def search(stack: Stack, server: ThreadedServer) -> None:
    """Search database and logs for secrets."""
    names = secrets_of(server)
    dump = stack.dump()
    say("secrets searched for", len(names))
    say("found in the dump of the database", sum(dump.count(n.encode()) for n in names))
    logs = list(stack.logs())
    found = [
        path.name for path, text in logs for name in names if name.encode() in text
    ]
    say(f"found in {len(logs)} log files", len(found))
    for name in set(found):
        say("  in", name)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="a folder that is kept")
    parser.add_argument("parts", nargs="*", default=["fifty"])
    given = parser.parse_args()
    base = Path(given.keep or tempfile.mkdtemp(prefix="veeam-airflow-"))
    with ThreadedServer(
        username="admin", password=PASSWORD, job_links="always"
    ) as server:
        jobs = []
        for number in range(FIFTY):
            script = "Starting 1s, Working 20s, Stopped"
            machines: dict[str, Any] = {"db01": None}
            if number % 5 == 4:
                script += " failed"
                machines = {"db01": f"InProgress 2s, Completed failed 'Disk {number}'"}
            job = server.add_job(f"Night {number}", session=script, machines=machines)
            jobs.append(f"{job.path}?action=start")
        os.environ["VEEAM_BENCH_JOBS"] = ",".join(jobs)
        with stack_for(server, base / "airflow", 2) as stack:
            fifty_jobs(stack, server)
            search(stack, server)


if __name__ == "__main__":
    sys.exit(main())
