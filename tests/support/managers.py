"""Ways to a simulated server, short to write in a test."""

import os
from typing import Literal, Unpack

import attrs

from support.raw_server import RawServer
from veeam_tasks import Pace, SessionManager, TaskEvent, connect
from veeam_tasks._client.connect import Connecting
from veeam_tasks._options.keywords import Options
from veeam_tasks.simulator import SimulatedServer

MODE: Literal["auto", "never", "always"] = os.environ.get(  # type: ignore[assignment] # set by nox
    "VEEAM_TASKS_COALESCE", "never"
)
"""How tasks are asked for where a test does not say it itself."""

STEADY = Pace(first=1.0, growth=1.0, longest=1.0, jitter=0.0)
"""A second between two polls of one task, always."""


@attrs.frozen
class Wire:
    """How a client asks and how the server answers."""

    accept: Literal["xml", "json"] = "xml"
    tls: bool = False
    coalesce: Literal["auto", "never", "always"] = "never"
    version: str = "12"

    def __str__(self) -> str:
        return "-".join(
            (
                self.accept,
                "tls" if self.tls else "plain",
                "singly" if self.coalesce == "never" else "together",
                self.version,
            )
        )

    def server(self, **settings: object) -> SimulatedServer:
        """Return a server that speaks this way."""
        return SimulatedServer(tls=self.tls, version=self.version, **settings)  # type: ignore[arg-type] # checked by the server

    def options(self, **options: Unpack[Options]) -> Options:
        """Return the options of a client that speaks this way."""
        mine: Options = {"accept": self.accept, "coalesce": self.coalesce}
        return {**mine, **options}


WIRES = (
    Wire("xml", tls=False, coalesce="never", version="12"),
    Wire("xml", tls=True, coalesce="always", version="13"),
    Wire("json", tls=True, coalesce="never", version="9.5u4"),
    Wire("json", tls=False, coalesce="always", version="12"),
    Wire("json", tls=False, coalesce="never", version="13"),
)


def settings_for(server: SimulatedServer, options: Options) -> Options:
    """Return options with the server's CA, and a steady pace, unless they say else."""
    mine: Options = {"pace": STEADY, "coalesce": MODE}
    if server.url.startswith("https:"):
        mine["ca_file"] = server.ca_file
    return {**mine, **options}


def door(server: SimulatedServer, **options: Unpack[Options]) -> Connecting:
    """Return `connect` to a simulated server."""
    return connect(
        server.url,
        username=server.username,
        password=server.password,
        **settings_for(server, options),
    )


def raw_door(server: RawServer) -> Connecting:
    """Return `connect` to a raw server, which is asked for nothing of its own."""
    return connect(server.url(), username="u", password="pass-word", keep_alive=False)


def direct(server: SimulatedServer, **options: Unpack[Options]) -> SessionManager:
    """Return a manager that is not open yet."""
    return SessionManager(
        server.url,
        username=server.username,
        password=server.password,
        **settings_for(server, options),
    )


async def followed(em: SessionManager, path: str) -> list[TaskEvent]:
    """Start the job at a path; return all events of the watch that follows it."""
    task = await em.submit(f"{path}?action=start")
    async with em.watch(task, follow=True) as watch:
        return [event async for event in watch]


def targets(server: SimulatedServer, method: str = "GET") -> list[str]:
    """Return the paths below ``/api/`` that were asked for, in order."""
    return [
        record.path.removeprefix("/api/")
        for record in server.requests
        if record.method == method
    ]
