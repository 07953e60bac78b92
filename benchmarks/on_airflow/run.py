"""What the provider promises, tried on a whole Airflow; prints the figures.

    python -m nox -s airflow-full                   # all parts, about half an hour
    python -m nox -s airflow-full -- fifty wrong    # some

Needs Airflow, psycopg2 and PostgreSQL 15.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
from stack import Stack, running

import veeam_tasks as vt
from veeam_tasks.simulator import ThreadedServer

PASSWORD = "Correct-Horse-Battery-7"
WRONG = "Wrong-Horse-Battery-8"
FIFTY = 50
PARTS = ("fifty", "wrong", "plain", "naive", "killed")
HERE = Path(__file__).resolve().parent


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


@attrs.define
class Run:
    """A stack and the servers that it talks to.

    Args:
        stack: Airflow.
        server: Whose logon sessions know their own tasks alone, as real ones do.
        wrong: Of which Airflow has a wrong password.
        plain: Whose tasks every logon session knows, so that naive triggers can work.
        many: How many triggers.
    """

    stack: Stack
    server: ThreadedServer
    wrong: ThreadedServer
    plain: ThreadedServer
    many: int

    def start(self, dag: str) -> None:
        """Let a DAG run."""
        ready = f"select 1 from dag where dag_id = '{dag}'"
        self.stack.await_rows(ready, seconds=180)
        self.stack.airflow("dags", "unpause", dag, "--yes")
        self.stack.airflow("dags", "trigger", dag)

    def await_end(self, dag: str, seconds: float) -> str:
        """Wait until a run of that DAG has ended; return how."""
        sql = (
            "select state from dag_run where state in ('success', 'failed')"
            f" and dag_id = '{dag}'"
        )
        return str(self.stack.await_rows(sql, seconds=seconds)[0][0])

    def states(self, dag: str) -> dict[str, int]:
        """Return how many tasks are in which state."""
        sql = "select state, count(*) from task_instance where dag_id = %s group by 1"
        return {str(state): count for state, count in self.stack.query(sql, dag)}

    def fifty(self) -> None:
        """A night of fifty jobs: a logon, each started once, each end as it was."""
        began = time.monotonic()
        self.start("fifty")
        state = self.await_end("fifty", 900)
        say("50 jobs, 10 of which fail: state of the DAG run", state)
        say("50 jobs: seconds", round(time.monotonic() - began))
        rows = self.stack.query(
            "select map_index, state from task_instance where dag_id = 'fifty'"
        )
        say("50 jobs: states of the tasks", self.states("fifty"))
        right = sum((state == "failed") == (n % 5 == 4) for n, state in rows)
        say("50 jobs: right outcomes", right)
        say("50 jobs: logons", len(self.server.logons))
        say("50 jobs: actions sent", sum(actions(self.server).values()))
        say("50 jobs: sent more than once", repeated(self.server))

    def wrong_password(self) -> None:
        """Mapped tasks with a password that is refused."""
        began = time.monotonic()
        self.start("wrong")
        self.await_end("wrong", 2000)
        say("wrong password: states of the tasks", self.states("wrong"))
        say("wrong password: seconds", round(time.monotonic() - began))
        say("wrong password: logons tried", len(self.wrong.logons))

    def measure_plain(self) -> None:
        """With the logon session made before, so that checkpoints are of it."""

        async def log_on() -> dict[str, str | None]:
            account = {"username": "admin", "password": PASSWORD}
            em = await vt.connect(self.plain.url, **account)
            reference = em.reference
            await em.aclose(log_out=False)
            return {
                "reference": reference,
                "token": em.token,
                "session_id": em.session_id,
            }

        logon = asyncio.run(log_on())
        key = "veeam_em_token__em_plain"
        self.stack.airflow("variables", "set", key, json.dumps(logon))
        os.environ["VEEAM_BENCH_PLAIN"] = f"{self.plain.url} {logon['token']}"
        self.measure("plain", before=0)

    def hold(self, dag: str) -> None:
        """Have the scheduler make the tasks."""
        self.start(dag)
        sql = (
            f"select 1 from task_instance where dag_id = '{dag}' and map_index >= 0"
            f" having count(*) = {self.many}"
        )
        self.stack.await_rows(sql, seconds=600)

    def defer(self, dag: str, kind: str) -> None:
        """Give each of them a trigger, all at once."""
        command = [sys.executable, str(HERE / "defer.py"), dag, kind]
        subprocess.run(command, env=self.stack.env, check=True, stdout=subprocess.PIPE)

    def await_events(self, dag: str, seconds: float) -> None:
        """Wait until each trigger has said how it ended."""
        sql = (
            f"select 1 from task_instance where dag_id = '{dag}'"
            f" and next_kwargs::text like '%%event%%' having count(*) = {self.many}"
        )
        self.stack.await_rows(sql, seconds=seconds)

    def ends(self, dag: str) -> dict[str, int]:
        """Return how often each outcome was told."""
        sql = "select next_kwargs::text from task_instance where dag_id = %s"
        found: Counter[str] = Counter()
        for (text,) in self.stack.query(sql, dag):
            for word in ("succeeded", "failed", "lost", "problem", "no event"):
                if word in (text or "no event"):
                    found[word] += 1
                    break
        return dict(found)

    def measure(self, dag: str, *, before: int | None = None) -> None:
        """A thousand triggers that watch a thousand tasks to their ends."""
        triggerers = [f"triggerer-{n}" for n in range(self.stack.triggerers)]
        self.hold(dag)
        for number in range(self.many):
            self.plain.task(f"task-{number + 1}").play("Running 150s, Finished")
        self.defer(dag, dag)
        spent = -sum(map(self.stack.cpu_seconds, triggerers))
        logons, requests = len(self.plain.logons), len(self.plain.requests)
        logons = logons if before is None else before
        began = time.monotonic()
        self.await_events(dag, 1200)
        say(f"{dag}: seconds", round(time.monotonic() - began))
        say(f"{dag}: outcomes", self.ends(dag))
        say(f"{dag}: logons", len(self.plain.logons) - logons)
        say(f"{dag}: requests", len(self.plain.requests) - requests)
        spent += sum(map(self.stack.cpu_seconds, triggerers))
        say(f"{dag}: processor seconds of the triggerers", round(spent, 1))

    def killed(self) -> None:
        """A triggerer dies in mid-watch; later the logon session is renewed."""
        sent, logons = actions(self.server).total(), len(self.server.logons)
        self.start("start_all")
        self.await_end("start_all", 600)
        tasks = len(self.server.tasks)
        self.hold("killed")
        self.defer("killed", "started")
        sql = f"select 1 from trigger having count(triggerer_id) >= {self.many}"
        self.stack.await_rows(sql, seconds=400)
        time.sleep(10)
        count = "select triggerer_id, count(*) from trigger group by 1"
        before = dict(self.stack.query(count))
        began = time.monotonic()
        self.stack.kill("triggerer-1")
        dead = self._dead()
        taken_over = f"select 1 from trigger where triggerer_id = {dead}"
        while self.stack.query(taken_over):
            if time.monotonic() > began + 300:
                sys.exit(f"nobody took the triggers of triggerer {dead} over")
            time.sleep(0.5)
        say("killed: triggers of the one that died", before.get(dead))
        say("killed: taken over in seconds", round(time.monotonic() - began))
        self.server.expire_logon_sessions(keep_tasks=True)
        for session in self.server.job_sessions:
            if session.state != "Stopped":
                session.finish("Success")
        self.await_events("killed", 1200)
        say("killed: outcomes", self.ends("killed"))
        say(
            "killed: logons, of which one is the renewal",
            len(self.server.logons) - logons,
        )
        say("killed: actions sent after the kill", len(self.server.tasks) - tasks)
        say("killed: sent more than once", repeated(self.server) - sent)

    def _dead(self) -> int:
        # On a busy machine a living one may be silent for ten seconds, too.
        silent = (
            "select id from job where job_type = 'TriggererJob' and state = 'running'"
            " and latest_heartbeat < now() - interval '20 seconds'"
            " order by latest_heartbeat limit 1"
        )
        return int(self.stack.await_rows(silent, seconds=60)[0][0])

    def search(self) -> None:
        """Search database and logs for secrets."""
        names = [PASSWORD, WRONG]
        for server in (self.server, self.wrong, self.plain):
            for reply in server.logon_sessions:
                names += [reply.token, reply.session_id]
        dump = self.stack.dump()
        say("secrets searched for", len(names))
        say("found in the dump", sum(dump.count(name.encode()) for name in names))
        logs = list(self.stack.logs())
        found = [
            path.name for path, text in logs for name in names if name.encode() in text
        ]
        say(f"found in {len(logs)} log files", len(found))
        for name in sorted(set(found)):
            say("  in", name)


def actions(server: ThreadedServer) -> Counter[str]:
    """Return how often each action was sent."""
    return Counter(
        f"{request.path}?{request.query}"
        for request in server.requests
        if request.method == "POST" and "action=" in request.query
    )


def repeated(server: ThreadedServer) -> int:
    """Return how many actions were sent more than once."""
    return sum(count > 1 for count in actions(server).values())


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
    return paths


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="a folder that is kept")
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--wrong", type=int, default=200)
    parser.add_argument("parts", nargs="*", default=PARTS)
    given = parser.parse_args()
    base = Path(given.keep or tempfile.mkdtemp(prefix="veeam-airflow-"))
    options: dict[str, Any] = {"password": PASSWORD, "job_links": "always"}
    with ExitStack() as opened:
        server = opened.enter_context(ThreadedServer(**options))
        wrong = opened.enter_context(ThreadedServer(**options))
        plain = opened.enter_context(ThreadedServer(**options, session_scoped=False))
        plain.add_tasks(given.many)
        long = server.add_job("Long", session="Starting 1s, Working 2h, Stopped")
        jobs = [*add_jobs(server), f"{long.path}?action=start"]
        os.environ["VEEAM_BENCH_JOBS"] = ",".join(jobs)
        os.environ["VEEAM_BENCH_WRONG"] = str(given.wrong)
        os.environ["VEEAM_BENCH_MANY"] = str(given.many)
        os.environ["PYTHONPATH"] = str(HERE)
        stack = Stack(
            base / "airflow",
            triggerers=2,
            connections={
                "em": connection(server.url),
                "em_wrong": connection(wrong.url, WRONG),
                "em_plain": connection(plain.url),
            },
        )
        with running(stack):
            stack.query(
                "insert into slot_pool (pool, slots, include_deferred)"
                " values ('held', 0, false)"
            )
            run = Run(stack, server, wrong, plain, given.many)
            parts = {
                "fifty": run.fifty,
                "wrong": run.wrong_password,
                "plain": run.measure_plain,
                "naive": lambda: run.measure("naive"),
                "killed": run.killed,
            }
            for part in given.parts:
                parts[part]()
                run.search()
    if not given.keep:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
