"""veeam_tasks: one watch over all tasks, one reader of its events."""

import asyncio

from contract import Result, Spec, measure_while, play, wrong_operations

import veeam_tasks as vt

EAGER = 0.001  # seconds: a pause must be longer than nothing


def pace(spec: Spec) -> vt.Pace:
    """Return a pace that polls each task every `Spec.pause` seconds, as by default."""
    pause = spec.pause or EAGER
    return vt.Pace(first=pause, growth=1.0, longest=pause)


def manager(spec: Spec) -> vt.SessionManager:
    """Return the manager, not yet opened."""
    return vt.SessionManager(
        spec.url,
        username="bench",
        password="bench",
        ca_file=spec.ca_file,
        coalesce=spec.options.get("coalesce", "never"),
        pace=pace(spec),
    )


def wrong_tasks(watch: vt.Watch, spec: Spec) -> list[str]:
    """Return what is wrong with the watched tasks, in words."""
    tasks = watch.tasks
    found = [
        f"{task_id}: {task!r}"
        for task_id, task in tasks.items()
        if task is None
        or task.task_id != task_id
        or task.state is not vt.TaskState.RUNNING
    ]
    if sorted(tasks) != sorted(spec.task_ids):
        found.append(f"{len(tasks)} tasks were seen instead of {spec.tasks}")
    return found


class Reader:
    """Reads the events of a watch, as a program does that is always there.

    Attributes:
        found: How many tasks were found, by their first events.
        events: How many events were read.
    """

    def __init__(self, watch: vt.Watch) -> None:
        self.found = 0
        self.events = 0
        self._reading = asyncio.create_task(self._read(watch))

    async def _read(self, watch: vt.Watch) -> None:
        async for event in watch:
            self.events += 1
            self.found += event.sequence == 1

    async def find(self, tasks: int, interval: float = 0.02) -> None:
        """Wait until as many tasks were found; raise what the watch raised."""
        while self.found < tasks:
            await asyncio.sleep(interval)
            if self._reading.done():
                self._reading.result()
                return

    async def aclose(self) -> None:
        """Stop reading; raise what the watch raised, if it did."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if not self._reading.cancelled():
            self._reading.result()


def answered(em: vt.SessionManager) -> int:
    """Return how often a watched task was answered for, singly or together."""
    now = em.statistics()
    return now.polls + now.coalesced


async def run(spec: Spec) -> Result:
    """Watch all tasks at once."""
    async with manager(spec) as em:
        watch = em.watch(spec.task_ids)
        reader = Reader(watch)
        await reader.find(spec.tasks)
        await asyncio.sleep(spec.options.get("settle", 0.0))
        before = em.statistics()
        result = await measure_while(lambda: answered(em), spec)
        after = em.statistics()
        wrong = wrong_tasks(watch, spec)
        if not wrong and not after.coalesced:
            operations = (task.operation for task in watch.tasks.values())
            wrong = wrong_operations(operations, spec)
        await reader.aclose()
    return result | {
        "requests": em.statistics().requests,
        "cut_short": 16,
        "requests_measured": after.requests - before.requests,
        "coalescing": after.coalescing,
        "errors": after.errors,
        "wrong": wrong,
    }


if __name__ == "__main__":
    play(run)
