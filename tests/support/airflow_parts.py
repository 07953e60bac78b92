"""What stands for Airflow in tests without it."""

from typing import Any

import anyio
import attrs

from support.variables import MemoryStore
from veeam_tasks.airflow._connection import Server
from veeam_tasks.airflow._shared_logon import SharedLogon
from veeam_tasks.simulator import SimulatedServer, ThreadedServer


@attrs.define
class FixedSource:
    """A connection that is always read the same; counts how often."""

    server: Server
    store: MemoryStore = attrs.field(factory=MemoryStore)
    reads: int = 0

    @property
    def conn_id(self) -> str:
        """Its name."""
        return self.server.conn_id

    async def shared_logon(self) -> SharedLogon:
        """Read it."""
        await anyio.lowlevel.checkpoint()
        self.reads += 1
        return SharedLogon(self.server, self.store)


def source_of(simulated: SimulatedServer, **options: Any) -> FixedSource:
    """Return a connection to this server."""
    server = Server(
        conn_id="em",
        url=simulated.url,
        username="admin",
        password=options.pop("password", "admin-secret"),
        options=options,
    )
    return FixedSource(server)


def sent(server: SimulatedServer | ThreadedServer) -> int:
    """Return how many actions reached the server."""
    return sum("action=" in one.query for one in server.requests)


@attrs.define
class MemoryOfTries:
    """What the tries of an Airflow task remember; can die before or after a write."""

    values: dict[str, Any] = attrs.field(factory=dict)
    dies_before: str | None = None

    async def get(self, key: str) -> Any:
        """Return the value."""
        return self.values.get(key)

    async def put(self, key: str, value: dict[str, Any]) -> None:
        """Set the value, unless the worker dies here."""
        if value["noted"] == self.dies_before:
            raise WorkerDiedError
        self.values[key] = value

    async def delete(self, key: str) -> None:
        """Forget the value."""
        self.values.pop(key, None)


class WorkerDiedError(BaseException):
    """Stands for SIGKILL: nothing of the try runs after it."""
