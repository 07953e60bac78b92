"""The command `simulate`: a simulated server to try things against."""

import asyncio
import shlex
import sys
from typing import TYPE_CHECKING

import attrs
import click

from veeam_tasks.cli._command import Command, option
from veeam_tasks.cli._json_lines import write
from veeam_tasks.cli._options import output_options
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import Exit, run_async

if TYPE_CHECKING:
    from veeam_tasks.simulator import SimulatedServer, VersionName

_JOB = "b04c217b-0538-4650-bec4-19deff4ea1ac"
_TOKEN = "X-RestSvcSessionId"  # noqa: S105 - the name of a header


@click.command(
    cls=Command,
    short_help="Run a simulated server to try things against.",
    examples=(
        "veeam-tasks simulate",
        "veeam-tasks simulate --port 9398 --tasks 50 --tls --seed 1 --speed 10",
    ),
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9398,
    show_default=True,
    help="0 takes any that is free.",
)
@option(
    "--tasks",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="How many tasks there are; every logon session knows them.",
)
@option("--tls", is_flag=True, help="Speak TLS, with a certificate of a throw-away CA.")
@option(
    "--version",
    type=click.Choice(["9.5u4", "12", "13"]),
    default="12",
    show_default=True,
    help="The version of the Enterprise Manager that is played.",
)
@option("--seed", type=int, metavar="N", help="The same seed, the same tasks.")
@option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    default=1.0,
    metavar="X",
    help="How much faster the tasks go.",
)
@output_options
def simulate(
    *,
    port: int,
    tasks: int,
    tls: bool,
    version: "VersionName",
    seed: int | None,
    speed: float,
    output: OutputMode,
) -> int:
    """Run a simulated Enterprise Manager on this machine, until Ctrl-C.

    It prints where it listens and what the other commands need to use it: lines for
    another terminal, or one JSON object into a pipe.
    """
    plan = _Plan(
        port=port, tasks=tasks, tls=tls, version=version, seed=seed, speed=speed
    )
    return run_async(lambda: plan.carry_out(output), logs_out=False)


@attrs.frozen(kw_only=True)
class _Plan:
    """Which server to run."""

    port: int
    tasks: int
    tls: bool
    version: "VersionName"
    seed: int | None
    speed: float

    async def carry_out(self, output: OutputMode) -> Exit:
        """Run the server until it is cancelled."""
        from veeam_tasks.simulator import Mix  # noqa: PLC0415 - loads aiohttp

        server = await self._start()
        try:
            server.add_tasks(self.tasks, Mix(running=(2.0, 120.0)), shared=True)
            info = ServerInfo(
                url=server.url,
                version=self.version,
                tasks=self.tasks,
                username=server.username,
                password=server.password,
                ca_file=server.ca_file if self.tls else None,
                fingerprint=_readable(server.fingerprint) if self.tls else None,
            )
            if output.wants_objects:
                write(info.as_object())
            else:
                sys.stdout.write(info.as_text())
                sys.stdout.flush()
            await asyncio.Event().wait()
        finally:
            await server.aclose()
        return Exit.OK

    async def _start(self) -> "SimulatedServer":
        from veeam_tasks.simulator import SimulatedServer  # noqa: PLC0415 - as above

        problem = ""
        try:
            return await SimulatedServer(
                port=self.port,
                tls=self.tls,
                version=self.version,
                seed=self.seed,
                speed=self.speed,
            ).start()
        except ImportError as error:
            problem = str(error)
        except OSError as error:
            problem = (
                f"port {self.port} cannot be used: {error.strerror or error};"
                " --port 0 takes one that is free"
            )
        raise click.UsageError(problem)


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
            "    veeam-tasks list",
            "    veeam-tasks watch --all --timeout 2m",
            f"    veeam-tasks submit 'jobs/{_JOB}?action=start'",
            "",
            "Or with curl, the token of the first reply in the second:",
            "",
            *(f"    {line}" for line in self._curl()),
        ]
        if self.fingerprint is not None:
            lines += ["", f"SHA-256 of its certificate: {self.fingerprint}"]
        return "".join(f"{line}\n" for line in lines)

    def _curl(self) -> list[str]:
        trust = [] if self.ca_file is None else ["--cacert", self.ca_file]
        logon = f"{self.url}/api/sessionMngr/?v=latest"
        account = f"{self.username}:{self.password}"
        return [
            shlex.join(["curl", "-i", *trust, "-u", account, "-d", "", logon]),
            shlex.join(["curl", *trust, "-H"])
            + f' "{_TOKEN}: $TOKEN" {self.url}/api/tasks',
        ]


def _readable(fingerprint: str) -> str:
    """Return it as people compare it: ``AB:CD:...``."""
    return bytes.fromhex(fingerprint).hex(":").upper()
