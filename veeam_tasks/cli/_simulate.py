"""The command `simulate`: a simulated server to try things against."""

import asyncio
import itertools
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from veeam_tasks.cli._command import (
    CONNECTION,
    SIMULATION,
    TRUST,
    Command,
    Duration,
    Number,
    WholeNumber,
    option,
)
from veeam_tasks.cli._exits import Exit
from veeam_tasks.cli._input import read_text
from veeam_tasks.cli._json_lines import write
from veeam_tasks.cli._messages import visible
from veeam_tasks.cli._options import output_options
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import run_async

if TYPE_CHECKING:
    from veeam_tasks.simulator import (
        FaultKind,
        FaultKindName,
        Mix,
        SimulatedServer,
        VersionName,
    )

_JOB = "b04c217b-0538-4650-bec4-19deff4ea1ac"
_TOKEN = "X-RestSvcSessionId"  # noqa: S105 - the name of a header


_PAUSE = 5.0
_KEPT = 2000


class _FaultRule(click.ParamType["tuple[FaultKind, float | None, str | None]"]):
    """A kind of fault, with the share of requests and the path that it strikes."""

    name = "fault"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple["FaultKind", float | None, str | None]:
        """Return kind, share and path."""
        from veeam_tasks.simulator import Fault, FaultKind  # noqa: PLC0415 - aiohttp

        if isinstance(value, tuple):
            return value
        kind, _, rest = str(value).partition(":")
        text, _, path = rest.partition(":")
        problem = ""
        try:
            share = float(text) if text else None
            # A word that is none raises ValueError here, and Fault says which are.
            Fault(cast("FaultKindName", kind), share=share, path=path or None)
        except (ValueError, re.error) as error:
            problem = str(error)
        if problem:
            self.fail(problem, param, ctx)
        return FaultKind(kind), share, path or None


@click.command(
    cls=Command,
    short_help="Run a simulated server to try things against.",
    examples=(
        "veeam-tasks simulate",
        "veeam-tasks simulate --tls --tasks 50 --seed 1 --speed 10",
        "veeam-tasks simulate --fault status:0.1 --fault stall:0.01:/api/tasks",
    ),
)
@option(
    "--port",
    type=WholeNumber(0, 65535),
    default=9398,
    metavar="PORT",
    help="0 takes any that is free. [default: 9398]",
)
@option(
    "--host",
    group=CONNECTION,
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Where to listen; 0.0.0.0 for other machines too. [default: this one only]",
)
@option(
    "--tasks",
    type=WholeNumber(0, 100_000),
    default=20,
    metavar="N",
    help="How many tasks there are; the first logon session gets them. [default: 20]",
)
@option(
    "--scoped/--shared",
    group=SIMULATION,
    default=True,
    help="Whether tasks are known to their logon session alone, as real ones are, or to"
    " every one.",
)
@option(
    "--jobs",
    group=SIMULATION,
    type=WholeNumber(0, 10_000),
    default=0,
    metavar="N",
    help="More jobs than the six that are there, with a week of runs each.",
)
@option(
    "--failing",
    group=SIMULATION,
    type=Number(0, 1),
    default=0.05,
    metavar="SHARE",
    help="The share of the tasks, and of the jobs of --jobs, that fail; the last run of"
    " such a job failed, too. The six jobs that are there do not. [default: 0.05]",
)
@option(
    "--keep-going",
    group=SIMULATION,
    is_flag=True,
    help="Begin new tasks and runs for ever.",
)
@option(
    "--fault",
    "faults",
    multiple=True,
    type=_FaultRule(),
    metavar="KIND[:SHARE[:PATH]]",
    help="Break replies: status:0.1, stall:0.01:/api/tasks, vanish. May be repeated.",
)
@option("--tls", is_flag=True, help="Speak TLS, with a certificate of a throw-away CA.")
@option(
    "--cert-file",
    group=TRUST,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Speak TLS with the certificate and the key in this file, in PEM.",
)
@option(
    "--version",
    type=click.Choice(["9.5u4", "12", "13"]),
    default="12",
    metavar="VERSION",
    help="The Enterprise Manager that is played: 9.5u4, 12, 13. [default: 12]",
)
@option(
    "--seed",
    group=SIMULATION,
    type=int,
    metavar="N",
    help="The same seed, the same tasks.",
)
@option(
    "--speed",
    type=Number(0.01, 1000),
    default=1.0,
    metavar="X",
    help="How much faster the tasks go. [default: 1]",
)
@option(
    "--username",
    group=CONNECTION,
    default="admin",
    metavar="ACCOUNT",
    help="The account that may do everything. [default: admin]",
)
@option(
    "--password-file",
    group=CONNECTION,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="A file with its password. [default: admin-secret]",
)
@option(
    "--idle-expiry",
    group=CONNECTION,
    type=Duration(),
    default=900.0,
    metavar="TIME",
    help="When an idle logon session ends. [default: 15m]",
)
@output_options
def simulate(*, output: OutputMode, **given: Any) -> int:
    """Run a simulated Enterprise Manager on this machine, until Ctrl-C.

    It prints where it listens and what the other commands need to use it: lines for
    another terminal, or one JSON object into a pipe. With -v each request is a line.
    """
    plan = _Plan(**given)
    return run_async(lambda: plan.carry_out(output), logs_out=False)


@attrs.frozen(kw_only=True)
class _Plan:
    """Which server to run."""

    port: int
    host: str
    tasks: int
    scoped: bool
    jobs: int
    failing: float
    keep_going: bool
    faults: tuple[tuple["FaultKind", float | None, str | None], ...]
    tls: bool
    cert_file: str | None
    version: "VersionName"
    seed: int | None
    speed: float
    username: str
    password_file: str | None
    idle_expiry: float

    async def carry_out(self, output: OutputMode) -> Exit:
        """Run the server until it is cancelled."""
        server = await self._start()
        try:
            self._fill(server)
            has_tls = server.url.startswith("https:")
            info = ServerInfo(
                url=server.url,
                version=self.version,
                tasks=self.tasks,
                username=server.username,
                password=server.password,
                ca_file=server.ca_file if has_tls else None,
                fingerprint=_readable(server.fingerprint) if has_tls else None,
            )
            if output.wants_objects:
                write(info.as_object())
            else:
                sys.stdout.write(info.as_text())
                sys.stdout.flush()
            if self.keep_going:
                await self._go_on(server)
            await asyncio.Event().wait()
        finally:
            await server.aclose()
        return Exit.OK

    def _fill(self, server: "SimulatedServer") -> None:
        from veeam_tasks.simulator import Fault  # noqa: PLC0415 - loads aiohttp

        server.add_tasks(self.tasks, self._mix(), shared=not self.scoped)
        failing = round(self.jobs * self.failing)
        for number in range(1, self.jobs + 1):
            server.add_job(
                f"Job {number}",
                seconds=60,
                result="Failed" if number <= failing else "Success",
                history=7,
            )
        for kind, share, path in self.faults:
            seed = None if self.seed is None else self.seed + len(server.faults)
            server.faults.add(Fault(kind, share=share, path=path, seed=seed))

    async def _go_on(self, server: "SimulatedServer") -> None:
        """Begin a task and a run every few seconds, and forget the oldest."""
        for number in itertools.count():
            await asyncio.sleep(_PAUSE / self.speed)
            if self.tasks and (server.logon_sessions or not self.scoped):
                server.add_tasks(1, self._mix(), shared=not self.scoped)
            jobs = server.jobs
            if jobs:
                server.add_session(jobs[number % len(jobs)])
            for task in server.tasks[:-_KEPT]:
                server.forget_task(task.task_id)
            for session in server.job_sessions[:-_KEPT]:
                server.forget_session(session)

    def _mix(self) -> "Mix":
        from veeam_tasks.simulator import Mix  # noqa: PLC0415 - loads aiohttp

        return Mix(running=(2.0, 120.0), failing=self.failing)

    async def _start(self) -> "SimulatedServer":
        from veeam_tasks.simulator import SimulatedServer  # noqa: PLC0415 - as above

        problem = ""
        password: dict[str, Any] = {}
        if self.password_file is not None:
            password["password"] = _password_in(self.password_file)
        try:
            return await SimulatedServer(
                host=self.host,
                port=self.port,
                tls=self.tls,
                cert_file=self.cert_file,
                version=self.version,
                session_scoped=self.scoped,
                username=self.username,
                idle_expiry=self.idle_expiry,
                seed=self.seed,
                speed=self.speed,
                access_log=True,
                **password,
            ).start()
        except (ImportError, ValueError) as error:
            problem = str(error)
        except OSError as error:
            problem = (
                f"port {self.port} of {self.host} cannot be used:"
                f" {error.strerror or error}; --port 0 takes one that is free"
            )
        raise click.UsageError(problem)


def _password_in(path: str) -> str:
    text = read_text(path, "--password-file").removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text:
        problem = f"--password-file: {visible(path)} holds no password in one line"
        raise click.UsageError(problem)
    return text


@attrs.frozen(kw_only=True)
class ServerInfo:
    """Where the simulated server is, and what is needed to use it."""

    url: str
    version: str
    tasks: int
    username: str
    password: str
    ca_file: str | None
    fingerprint: str | None

    def as_object(self) -> dict[str, object]:
        """Return what is written into a pipe."""
        return {**attrs.asdict(self), "curl": self._curl()}

    def as_text(self) -> str:
        """Return what people read."""
        settings = {
            "VEEAM_EM_URL": self.url,
            "VEEAM_EM_USERNAME": self.username,
            "VEEAM_EM_PASSWORD": self.password,
            "VEEAM_EM_CA_FILE": self.ca_file,
        }
        lines = [
            f"A simulated Enterprise Manager {self.version} listens at {self.url}",
            f"It has {self.tasks} tasks. Ctrl-C stops it. In another terminal:",
            "",
            *(
                f"    export {name}={shlex.quote(value)}"
                for name, value in settings.items()
                if value is not None
            ),
            '    eval "$(veeam-tasks logon)"',
            "    veeam-tasks list",
            '    veeam-tasks submit --job "SQL Replication" --follow',
            "    veeam-tasks watch --all --timeout 2m",
            '    eval "$(veeam-tasks logout)"',
            "",
            "Or with curl, whose logon session has tasks of its own:",
            "",
            *(f"    {line}" for line in self._curl()),
        ]
        if self.fingerprint is not None:
            lines += ["", f"SHA-256 of its certificate: {self.fingerprint}"]
        return "".join(f"{line}\n" for line in lines)

    def _curl(self) -> list[str]:
        """Return lines that work in this order; the first one sets TOKEN."""
        trust = [] if self.ca_file is None else ["--cacert", self.ca_file]
        logon = f"{self.url}/api/sessionMngr/?v=latest"
        account = f"{self.username}:{self.password}"
        shown = ["-s", "-D", "-", "-o", "/dev/null"]
        asked = shlex.join(["curl", *shown, *trust, "-u", account, "-d", "", logon])
        # Header names are in lower case since 13, and lines end with a carriage return.
        found = f"awk 'tolower($1) == \"{_TOKEN.lower()}:\" {{print $2}}'"
        with_token = shlex.join(["curl", "-s", *trust, "-H"])
        with_token += f' "{_TOKEN}: $TOKEN"'
        start = shlex.quote(f"{self.url}/api/jobs/{_JOB}?action=start")
        return [
            f"TOKEN=$({asked} | {found} | tr -d '\\r')",
            f"{with_token} -d '' {start}",
            f"{with_token} {self.url}/api/tasks",
        ]


def _readable(fingerprint: str) -> str:
    """Return it as people compare it: ``AB:CD:...``."""
    return bytes.fromhex(fingerprint).hex(":").upper()
