"""The parts of a run: what the provider promises, each tried on a whole Airflow."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import attrs
from figures import Figures
from leaks import search
from stack import Stack, fail

import veeam_tasks as vt
from veeam_tasks.simulator import ThreadedServer

PASSWORD = 'Horse "7"/é&\\+%41=battery'  # what every escape writes otherwise
WRONG = 'Wrong "8"/é&\\+%42=battery'
FIFTY = 50
HERE = Path(__file__).resolve().parent


@attrs.define
class Servers:
    """What Airflow talks to.

    Args:
        own: Whose logon sessions know their own tasks alone, as real ones do.
        wrong: Of which Airflow has a wrong password.
        plain: Whose tasks every logon session knows, and
        naive: the same, for triggers that log on each for itself.
    """

    own: ThreadedServer
    wrong: ThreadedServer
    plain: ThreadedServer
    naive: ThreadedServer


@attrs.define
class Run:
    """A stack, the servers that it talks to, and what was found out.

    Args:
        stack: Airflow.
        servers: The servers.
        figures: Take what is found.
        many: How many triggers.
        wrong: How many tasks have a wrong password.
        seconds: How long the tasks take that many triggers watch.
    """

    stack: Stack
    servers: Servers
    figures: Figures
    many: int
    wrong: int
    seconds: int
    _measured: dict[str, tuple[float, int]] = attrs.field(init=False, factory=dict)

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

    def search(self, when: str, *, commands: bool = False) -> None:
        """Search everything for every secret that there was so far."""
        servers = (self.servers.own, self.servers.wrong, self.servers.plain)
        search(
            *(self.stack, self.figures, when),
            passwords=(PASSWORD, WRONG),
            servers=servers,
            commands=commands,
        )

    def fifty(self) -> None:
        """A night of fifty jobs: a logon, each started once, each end as it was."""
        server, figures, began = self.servers.own, self.figures, time.monotonic()
        self.start("fifty")
        self.await_end("fifty", 1500)
        figures.fact("50 jobs, 10 of which fail: seconds", _seconds(began))
        rows = self.stack.query(
            "select map_index, state from task_instance where dag_id = 'fifty'"
        )
        expected = {n: "failed" if n % 5 == 4 else "success" for n in range(FIFTY)}
        right = sum(expected[number] == state for number, state in rows)
        figures.fact("50 jobs: states of the tasks", self.states("fifty"))
        figures.exact("50 jobs: right outcomes", right, FIFTY)
        figures.exact("50 jobs: logons", len(server.logons), 1)
        figures.exact("50 jobs: actions sent", actions(server).total(), FIFTY)
        figures.exact("50 jobs: sent more than once", repeated(server), 0)
        self.search("50 jobs", commands=True)

    def wrong_password(self) -> None:
        """Mapped tasks with a password that is refused."""
        server, began = self.servers.wrong, time.monotonic()
        self.start("wrong")
        self.await_end("wrong", 3000)
        states = self.states("wrong")
        self.figures.fact("wrong password: seconds", _seconds(began))
        name = f"wrong password: of {self.wrong} mapped tasks, failed"
        self.figures.exact(name, states.get("failed", 0), self.wrong)
        accepted = [one.accepted for one in server.logons]
        self.figures.exact("wrong password: logons tried", len(accepted), 1)
        self.figures.exact("wrong password: accepted", sum(accepted), 0)
        self.search("wrong password")

    def triggers(self) -> None:
        """A thousand triggers over one logon session, against two other kinds."""
        key = "veeam_em_token__em_plain"
        self.stack.airflow("variables", "set", key, json.dumps(self._log_on()))
        self.measure("sleep", None)
        self.measure("plain", self.servers.plain)
        self.measure("naive", self.servers.naive)
        figures = self.figures
        figures.exact("plain: logons", len(self.servers.plain.logons), 1)
        ours, requests = self._measured["plain"]
        slept, _ = self._measured["sleep"]
        polled, asked = self._measured["naive"]
        ratio = round(asked / requests, 1)
        figures.at_least("requests: naive over plain", ratio, 50)
        ratio = round(ours / slept, 2)
        figures.at_most("processor time: plain over sleep", ratio, 2)
        ratio = round(polled / ours, 2)
        figures.fact("processor time: naive over plain", ratio)

    def _log_on(self) -> dict[str, str | None]:
        """Log on before the triggers do, so that their checkpoints are of that."""

        async def log_on() -> dict[str, str | None]:
            server = self.servers.plain
            em = await vt.connect(
                server.url,
                username="admin",
                password=PASSWORD,
                fingerprint=server.fingerprint,
            )
            logon = {
                "reference": em.reference,
                "token": em.token,
                "session_id": em.session_id,
            }
            await em.aclose(log_out=False)
            return logon

        logon = asyncio.run(log_on())
        server = self.servers.plain
        told = (server.url, server.fingerprint, logon["token"])
        os.environ["VEEAM_BENCH_PLAIN"] = " ".join(map(str, told))
        return logon

    def hold(self, dag: str) -> None:
        """Have the scheduler make the tasks."""
        self.start(dag)
        sql = (
            f"select 1 from task_instance where dag_id = '{dag}' and map_index >= 0"
            f" having count(*) = {self.many}"
        )
        self.stack.await_rows(sql, seconds=600)

    def defer(self, dag: str) -> None:
        """Give each of them a trigger, all at once."""
        command = [sys.executable, str(HERE / "defer.py"), dag, str(self.seconds)]
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
        words = ("succeeded", "failed", "lost", "problem", "no event")
        found: Counter[str] = Counter()
        for (text,) in self.stack.query(sql, dag):
            told = text or "no event"
            found[next((word for word in words if word in told), "other")] += 1
        return dict(found)

    def measure(self, dag: str, server: ThreadedServer | None) -> None:
        """A thousand triggers that watch a thousand tasks to their ends."""
        triggerers = [f"triggerer-{n}" for n in range(self.stack.triggerers)]
        self.hold(dag)
        requests = 0
        if server is not None:
            for number in range(self.many):
                script = f"Running {self.seconds}s, Finished"
                server.task(f"task-{number + 1}").play(script)
            requests -= server.requests.total
        spent = -sum(map(self.stack.cpu_seconds, triggerers))
        began = time.monotonic()
        self.defer(dag)
        self.await_events(dag, 1200)
        spent += sum(map(self.stack.cpu_seconds, triggerers))
        self.figures.fact(f"{dag}: seconds", _seconds(began))
        self.figures.exact(f"{dag}: outcomes", self.ends(dag), {"succeeded": self.many})
        if server is not None:
            requests += server.requests.total
            self.figures.fact(f"{dag}: logons", server.logons.total)
            self.figures.fact(f"{dag}: requests", requests)
        name = f"{dag}: processor seconds of the triggerers"
        self.figures.fact(name, round(spent, 1))
        self._measured[dag] = spent, requests

    def killed(self) -> None:
        """A triggerer dies in mid-watch; later the logon session is renewed."""
        server, figures = self.servers.own, self.figures
        before = actions(server).total()
        self.start("start_all")
        self.await_end("start_all", 900)
        self.hold("killed")
        self.defer("killed")
        sql = f"select 1 from trigger having count(triggerer_id) >= {self.many}"
        self.stack.await_rows(sql, seconds=400)
        asked = server.requests.total
        self.until(lambda: server.requests.total > asked + 5, "polls", 120)
        logons = len(server.logons)
        self.search("in mid-watch")
        died, seconds = self._kill()
        figures.at_least("killed: triggers of the one that died", died, 1)
        figures.fact("killed: taken over in seconds", seconds)
        asked = server.requests.total
        self.until(lambda: server.requests.total > asked + 5, "polls", 120)
        figures.exact("killed: logons of those who took over", self._since(logons), 0)
        server.expire_logon_sessions(keep_tasks=True)
        self.until(lambda: self._since(logons) > 0, "a renewal", 120)
        for session in server.job_sessions:
            if session.state != "Stopped":
                session.finish("Success")
        self.await_events("killed", 1200)
        ends = self.ends("killed")
        figures.exact("killed and renewed: outcomes", ends, {"succeeded": self.many})
        figures.exact("killed and renewed: logons", self._since(logons), 1)
        sent = actions(server).total() - before
        figures.exact("killed and renewed: actions sent in all", sent, self.many)
        refused = sum(
            request.method == "POST" and request.status == HTTPStatus.UNAUTHORIZED
            for request in server.requests
            if "action=" in request.query
        )
        figures.fact("actions refused with 401, and sent anew", refused)
        self.search("killed and renewed")
        self.stack.start_triggerer(1)

    def _since(self, logons: int) -> int:
        return len(self.servers.own.logons) - logons

    def _kill(self) -> tuple[int, int]:
        """Kill a triggerer; wait until it has no triggers. Return how many it had."""
        count = "select triggerer_id, count(*) from trigger group by 1"
        before = dict(self.stack.query(count))
        began = time.monotonic()
        self.stack.kill("triggerer-1")
        dead = self._dead()
        taken_over = f"select 1 from trigger where triggerer_id = {dead}"
        self.until(lambda: not self.stack.query(taken_over), "a takeover", 300)
        return before.get(dead, 0), _seconds(began)

    def _dead(self) -> int:
        # On a busy machine a living one may be silent for ten seconds, too.
        silent = (
            "select id from job where job_type = 'TriggererJob' and state = 'running'"
            " and latest_heartbeat < now() - interval '20 seconds'"
            " order by latest_heartbeat limit 1"
        )
        return int(self.stack.await_rows(silent, seconds=60)[0][0])

    def until(self, reached: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for something."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                fail(f"no sign of {what} in {seconds} s; see {self.stack.folder}")
            time.sleep(0.5)


def _seconds(began: float) -> int:
    return round(time.monotonic() - began)


def actions(server: ThreadedServer) -> Counter[str]:
    """Return how often each action was sent.

    Without those refused since the token was dead, as after a quarter of an hour in
    which nobody asked: they were not carried out, and go again under a new one.
    """
    return Counter(
        f"{request.path}?{request.query}"
        for request in server.requests
        if request.method == "POST"
        and "action=" in request.query
        and request.status != HTTPStatus.UNAUTHORIZED
    )


def repeated(server: ThreadedServer) -> int:
    """Return how many actions were sent more than once."""
    return sum(count > 1 for count in actions(server).values())
