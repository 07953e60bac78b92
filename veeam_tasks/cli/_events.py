"""The events of one watch, or of several servers' watches, as a command reads them."""

from collections.abc import Iterator, Mapping
from typing import Self

import attrs

import veeam_tasks as vt

Told = tuple[str, "vt.TaskEvent"]
"""An event with the name of its server; "" where there is one only."""


class NamedEvents:
    """Reads the watches of several servers as one, each event with its server's name.

    Args:
        watches: By the names of their servers; under "" if there is one only.
    """

    def __init__(self, watches: "Mapping[str, vt.Watch]") -> None:
        self.watches = watches
        self._names = {watch: name for name, watch in watches.items()}
        self._merged = vt.merge(watches.values())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Told:
        watch, event = await anext(self._merged)
        return self._names[watch], event

    async def aclose(self) -> None:
        """Close the watches."""
        await self._merged.aclose()

    async def failures(self) -> "list[tuple[str, vt.VeeamTasksError]]":
        """Return what cut watches short, with the names of their servers."""
        found: list[tuple[str, vt.VeeamTasksError]] = []
        for name, watch in self.watches.items():
            try:
                await anext(watch)
            except vt.VeeamTasksError as error:
                found.append((name, error))
            except StopAsyncIteration:
                continue
        return found

    def unfinished(self) -> list[str]:
        """Return the tasks without an end."""
        return [
            label(name, task_id)
            for name, watch in self.watches.items()
            for task_id in watch.report.unfinished
        ]

    def known(self) -> Iterator[Told]:
        """Yield what was told last of each task, of watches that were resumed."""
        for name, watch in self.watches.items():
            for event in watch.report.outcomes.values():
                if event is not None:
                    yield name, event


def label(server: str, task_id: str) -> str:
    """Return how a task is called where there are several servers."""
    return f"{server}/{task_id}" if server else task_id


def labelled(server: str, event: "vt.TaskEvent") -> "vt.TaskEvent":
    """Return an event of a task under the name that it has here."""
    if not server:
        return event
    return attrs.evolve(event, task_id=label(server, event.task_id))
