"""veeam_tasks: what many tasks cost at the start, later on, to add and to discard.

``options["waits"]`` watches by as many gathered `wait` calls instead of one watch.
"""

import asyncio
import time

from contract import Meter, Result, Spec, measure_while, play, resident_bytes
from loop_probe import LoopProbe
from veeam_watch import Reader, answered, manager, wrong_tasks

import veeam_tasks as vt

MANY = 1000


async def run(spec: Spec) -> Result:
    """Watch all tasks; report the start, the steady state, `add` and `discard`."""
    async with manager(spec) as em:
        memory = resident_bytes()
        waits: list[asyncio.Task[vt.Task]] = []
        meter = Meter()
        if spec.options.get("waits"):
            waits += [
                asyncio.create_task(em.wait(task_id)) for task_id in spec.task_ids
            ]
        else:
            watch = em.watch(spec.task_ids)
            reader = Reader(watch)
        calling = meter.read()["wall"]
        await asyncio.sleep(0)
        with LoopProbe() as probe:
            if waits:
                await all_answered(em, spec.tasks)
            else:
                await reader.find(spec.tasks)
            start = meter.read()
        memory = resident_bytes() - memory
        # The rest of a burst, and the choice between both ways, belong to the start.
        await asyncio.sleep(spec.options.get("settle", 2 * spec.pause))
        before = em.statistics()
        with LoopProbe() as later:
            result = await measure_while(lambda: answered(em), spec)
        after = em.statistics()
        changes: Result = {}
        if waits:
            wrong = await wrong_ends(waits)
        else:
            wrong = wrong_tasks(watch, spec)
            changes = change(watch, spec.task_ids[:MANY])
            await reader.aclose()
    return result | {
        "requests": em.statistics().requests,
        "cut_short": 16,
        "requests_measured": after.requests - before.requests,
        "coalescing": after.coalescing,
        "start_cpu": start["cpu"],
        "start_wall": start["wall"],
        "start_call": calling,
        "start_hold": probe.longest,
        "start_hold_cpu": probe.longest_cpu,
        "hold": later.longest,
        "hold_cpu": later.longest_cpu,
        "resident_per_task": memory / spec.tasks,
        "wrong": wrong,
        **changes,
    }


async def all_answered(em: vt.SessionManager, tasks: int) -> None:
    """Wait for the first reply about each task."""
    # Only the count tells, and to count may cost something for each task.
    while answered(em) < tasks:  # noqa: ASYNC110 - as in contract
        await asyncio.sleep(0.5)


async def wrong_ends(waits: list[asyncio.Task[vt.Task]]) -> list[str]:
    """Cancel the waits; return how those ended that had ended before."""
    for wait in waits:
        wait.cancel()
    ended = await asyncio.gather(*waits, return_exceptions=True)
    return [repr(end) for end in ended if not is_cancelled(end)]


def is_cancelled(end: object) -> bool:
    """Tell whether a wait went on until it was cancelled here."""
    return isinstance(end, asyncio.CancelledError)


def change(watch: vt.Watch, task_ids: list[str]) -> Result:
    """Discard some tasks and add them again, at once; seconds for each task."""
    began = time.perf_counter()
    watch.discard(*task_ids)
    between = time.perf_counter()
    watch.add(*task_ids)
    ended = time.perf_counter()
    return {
        "discard": (between - began) / len(task_ids),
        "add": (ended - between) / len(task_ids),
    }


if __name__ == "__main__":
    play(run)
