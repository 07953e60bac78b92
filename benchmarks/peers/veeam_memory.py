"""veeam_tasks: memory of each watched task while nothing happens, one reader for all.

Everything that a watched task brings counts, its ID string included; only what the
caller drops (the list of IDs, the events that were read) does not.
"""

import asyncio
import gc
import tracemalloc

from contract import Result, Spec, play, resident_bytes
from veeam_watch import manager, wrong_tasks

import veeam_tasks as vt

FEW = 200


async def read_first(watch: vt.Watch, count: int) -> None:
    """Read the first event of each task."""
    for _ in range(count):
        await anext(watch)


async def used(*, traced: bool) -> int:
    """Return the bytes in use once nothing moves any more."""
    await asyncio.sleep(0.5)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] if traced else resident_bytes()


async def run(spec: Spec) -> Result:
    """Compare the memory before and after the watch began."""
    traced = spec.options["traced"]
    if traced:
        tracemalloc.start()
    async with manager(spec) as em:
        async with em.watch(spec.task_ids[:FEW]) as few:
            await read_first(few, FEW)
        before = await used(traced=traced)
        watch = em.watch(spec.task_ids)
        await read_first(watch, spec.tasks)
        after = await used(traced=traced)
        wrong = wrong_tasks(watch, spec)
    return {
        "polls": spec.tasks,
        "cpu": 0.0,
        "wall": 0.0,
        "requests": em.statistics().requests,
        "cut_short": 0,
        "bytes_per_task": (after - before) / spec.tasks,
        "wrong": wrong,
    }


if __name__ == "__main__":
    play(run)
