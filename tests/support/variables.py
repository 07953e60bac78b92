"""Variables in memory, for tests without Airflow."""

import anyio
import attrs


@attrs.define
class MemoryStore:
    """What `Store` asks for; the processes of a test share `values`."""

    values: dict[str, str] = attrs.field(factory=dict)
    hidden: set[str] = attrs.field(factory=set)
    writes: int = 0
    time: float | None = None

    async def get(self, key: str) -> str | None:
        """Return the value."""
        await anyio.lowlevel.checkpoint()
        return self.values.get(key)

    async def put(self, key: str, value: str) -> None:
        """Set the value, while others may run."""
        await anyio.lowlevel.checkpoint()
        self.values[key] = value
        self.writes += 1
        await anyio.lowlevel.checkpoint()

    async def delete(self, key: str) -> None:
        """Delete the key."""
        await anyio.lowlevel.checkpoint()
        self.values.pop(key, None)
        await anyio.lowlevel.checkpoint()

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin so."""
        await anyio.lowlevel.checkpoint()
        return sorted(key for key in self.values if key.startswith(prefix))

    async def hide(self, *texts: str) -> None:
        """Note what is to be masked."""
        self.hidden.update(filter(None, texts))

    def now(self) -> float:
        """Return the time of the loop, or what was set."""
        return 1.7e9 + (anyio.current_time() if self.time is None else self.time)
