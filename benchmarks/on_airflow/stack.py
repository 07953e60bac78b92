"""A whole Airflow on PostgreSQL, for as long as a run needs it."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psycopg2
from cryptography.fernet import Fernet

HERE = Path(__file__).resolve().parent
DEBIAN = "/usr/lib/postgresql/15/bin"
PARALLEL = 8


class RunError(Exception):
    """Something did not start, end or happen."""


def fail(text: str) -> NoReturn:
    """Raise `RunError`."""
    raise RunError(text)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """Airflow with scheduler, API server, DAG processor, triggerers, and its database.

    Args:
        folder: Where everything is kept: database, logs, configuration.
        triggerers: How many.
        connections: For each ID, a connection as JSON.
    """

    def __init__(
        self, folder: Path, *, triggerers: int, connections: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.triggerers = triggerers
        self.connections = connections
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.cleanup: subprocess.Popen[bytes] | None = None
        self.database_port = free_port()
        self.api_port = free_port()
        self.key = secrets.token_hex(32)
        self.fernet_key = Fernet.generate_key().decode()

    @property
    def database(self) -> str:
        """The database, as libpq takes it."""
        return f"postgresql://postgres@127.0.0.1:{self.database_port}/airflow"

    @property
    def env(self) -> dict[str, str]:
        """The settings of Airflow, as its processes get them."""
        url = self.database.replace("postgresql:", "postgresql+psycopg2:")
        core = {
            "CORE__DAGS_FOLDER": str(HERE / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": str(PARALLEL),
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": "2000",
            "CORE__FERNET_KEY": self.fernet_key,
            "CORE__EXECUTION_API_SERVER_URL": (
                f"http://127.0.0.1:{self.api_port}/execution/"
            ),
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "API_AUTH__JWT_SECRET": self.key,
            "API__SECRET_KEY": self.key,
            "DATABASE__SQL_ALCHEMY_CONN": url,
            # One core is enough for two files, and they do not change.
            "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "DAG_PROCESSOR__STALE_DAG_THRESHOLD": "600",
            # An API that answers late on a busy machine is no dead one.
            "WORKERS__EXECUTION_API_TIMEOUT": "30",
            # Else a worker whose socket stays open tells of its end after a minute,
            # when the task is queued again, and the scheduler fails that.
            "WORKERS__SOCKET_CLEANUP_TIMEOUT": "2",
            "LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "SCHEDULER__CATCHUP_BY_DEFAULT": "False",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "SCHEDULER__MAX_TIS_PER_QUERY": "64",
            "SCHEDULER__TASK_QUEUED_TIMEOUT": "3000",
            "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "5",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
        }
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.folder),
            # Else the names of processes are written over their environments, by
            # which `cleanup.py` knows them.
            "SPT_NOENV": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **{f"AIRFLOW__{name}": value for name, value in core.items()},
        }

    def start(self) -> None:
        """Start everything, in order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder.parent):
            folder.chmod(0o755)
        self.cleanup = subprocess.Popen(
            [sys.executable, str(HERE / "cleanup.py"), str(self.folder)],
            cwd="/",
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._start_database()
        self.airflow("db", "migrate")
        for name, text in self.connections.items():
            self.airflow("connections", "add", name, "--conn-json", text)
        self._run("api-server", "--port", str(self.api_port), "--workers", "1")
        self._await_port(self.api_port)
        self._run("dag-processor")
        self._run("scheduler", "--skip-serve-logs")
        for number in range(self.triggerers):
            self.start_triggerer(number)

    def start_triggerer(self, number: int) -> None:
        """Start one of the triggerers."""
        self._run("triggerer", "--skip-serve-logs", name=f"triggerer-{number}")

    def stop(self) -> None:
        """Stop everything."""
        for process in reversed(self.processes.values()):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        if self.cleanup is not None:
            self.cleanup.communicate()
            for process in self.processes.values():
                process.wait()
            if self.cleanup.returncode:
                fail(f"something that was started in {self.folder} does not end")

    def kill(self, name: str) -> None:
        """Kill a process and its children, as the kernel does when memory is short."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def airflow(self, *arguments: str) -> str:
        """Run a command of Airflow to its end."""
        run = subprocess.run(
            ["airflow", *arguments],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        with (self.folder / "commands.log").open("a") as log:
            log.write(run.stderr)
        if run.returncode:
            fail(f"airflow {arguments}: {run.stdout[-2000:]}{run.stderr[-3000:]}")
        return run.stdout

    def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the database."""
        connection = psycopg2.connect(self.database)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def await_rows(self, sql: str, *, seconds: float) -> list[tuple[Any, ...]]:
        """Ask until there are rows."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rows = self.query(sql)
            if rows:
                return rows
            self._check()
            time.sleep(1)
        fail(f"{sql}: nothing in {seconds} s; see {self.folder}/*.log")

    def dump(self) -> bytes:
        """Return the whole database as text."""
        dump = shutil.which("pg_dump") or f"{DEBIAN}/pg_dump"
        return subprocess.run(
            [dump, self.database], check=True, capture_output=True
        ).stdout

    def logs(self) -> Iterator[tuple[Path, bytes]]:
        """Give each file of Airflow, and the log of the database, with its content."""
        for path in self.folder.rglob("*"):
            of_database = self.folder / "database" in path.parents
            if path.is_file() and (not of_database or path.name == "log"):
                yield path, path.read_bytes()

    def rest(self, path: str, token: str = "") -> bytes:
        """Ask the REST API; return the answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.api_port}{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        asked = urllib.request.Request(url, headers=headers)
        with opener.open(asked, timeout=120) as reply:
            body: bytes = reply.read()
        return body

    def rest_token(self) -> str:
        """Return a token of the REST API; everyone is its administrator here."""
        token: str = json.loads(self.rest("/auth/token"))["access_token"]
        return token

    def decrypt(self, text: bytes) -> bytes:
        """Return what Airflow has encrypted."""
        return Fernet(self.fernet_key).decrypt(text)

    def cpu_seconds(self, name: str) -> float:
        """Return the processor time of a process and its children so far."""
        group = self.processes[name].pid
        ticks = 0
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = entry.read_text().rpartition(")")[2].split()
                if int(fields[2]) == group:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _run(self, *command: str, name: str = "") -> None:
        name = name or command[0]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["airflow", *command, "--pid", str(self.folder / f"{name}.pid")],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _check(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{name}.log").read_text()[-3000:]
                fail(f"{name} has ended: {log}")

    def _await_port(self, port: int) -> None:
        for _ in range(120):
            self._check()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.5)
        fail(f"nothing listens on {port}")

    def _start_database(self) -> None:
        data = self.folder / "database"
        data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(data, "postgres")
        self._postgres("initdb", "-D", "database", "-U", "postgres", "-A", "trust")
        options = (
            f"-p {self.database_port} -k {data} -c fsync=off -c max_connections=300"
        )
        self._postgres(
            *("pg_ctl", "-D", "database", "-l", "database/log", "-w"),
            *("-o", options, "start"),
        )
        self._postgres(
            *("createdb", "-h", "127.0.0.1", "-p", str(self.database_port)),
            *("-U", "postgres", "airflow"),
        )

    def _postgres(self, command: str, *arguments: str) -> None:
        tool = f"{DEBIAN}/{command}"
        found = tool if Path(tool).exists() else shutil.which(command)
        if found is None:
            fail(f"{command} is missing: apt-get install postgresql-15")
        # PostgreSQL refuses to run as root.
        other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = other if os.geteuid() == 0 else []
        run = subprocess.run(
            [*prefix, found, *arguments],
            cwd=self.folder,
            env={**os.environ, "AIRFLOW_HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if run.returncode:
            fail(f"{command}: {run.stderr.decode()}")


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Stop the stack in the end, whatever happens: Ctrl-C and SIGTERM, too.

    `cleanup.py` does it when this process is killed.
    """

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, leave) for number in ends}
    try:
        stack.start()
        yield stack
    finally:
        for number in ends:
            # A second Ctrl-C must not leave half of it behind.
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
