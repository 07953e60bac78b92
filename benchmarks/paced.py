"""What pauses cost, in virtual time: the default pace, and a trickle of waits.

    python benchmarks/paced.py

Nothing here depends on the machine, but for the CPU seconds of the trickle.
"""

import argparse
import asyncio
import json
import math
import random
import resource
import statistics
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

import looptime

from veeam_tasks import Pace, connect
from veeam_tasks.simulator import Fault, SimulatedServer

T = TypeVar("T")
Mode = Literal["auto", "never", "always"]

SHORTEST, LONGEST = 2.0, 7200.0
"""Durations, log-uniform between them: seconds."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on a loop whose clock jumps to the next timer."""
    loop = looptime.make_event_loop_class(asyncio.SelectorEventLoop)
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(coroutine)


async def measure_pace(pace: Pace, tasks: int, seed: int = 1) -> dict[str, float]:
    """Return how late ends are seen, as a share of the durations, and the requests."""
    rng = random.Random(seed)
    spread = math.log(LONGEST / SHORTEST)
    # Evenly over the logarithms, so that few tasks stand for many.
    places = [(number + rng.random()) / tasks for number in range(tasks)]
    durations = [SHORTEST * math.exp(spread * place) for place in places]
    shares: list[float] = []
    async with (
        SimulatedServer() as server,
        connect(
            server.url,
            username=server.username,
            password=server.password,
            coalesce="never",
            pace=pace,
            keep_alive=False,
        ) as em,
    ):
        loop = asyncio.get_running_loop()

        async def wait(duration: float) -> None:
            # Not all at once: they are to be independent of one another.
            await asyncio.sleep(rng.random() * 3600)
            began = loop.time()
            task = server.add_task(f"Running {duration:.4f}s, Finished ok")
            await em.wait(task.task_id)
            shares.append((loop.time() - began - duration) / duration)

        await asyncio.gather(*map(wait, durations))
        polls = em.statistics().polls
    return {
        "delay_share_mean": statistics.mean(shares),
        "requests_per_task": polls / tasks,
    }


async def measure_trickle(
    mode: Mode, *, count: int, a_second: float, seconds: float, pace: Pace
) -> dict[str, float]:
    """Return what waits that come one after the other cost, in all."""
    async with (
        SimulatedServer(keep_requests=100_000) as server,
        connect(
            server.url,
            username=server.username,
            password=server.password,
            coalesce=mode,
            pace=pace,
            keep_alive=False,
        ) as em,
    ):
        # On this clock only what the server is made to take has a cost: some thirty
        # single polls for the collection, as measured of a real one.
        server.faults.add(Fault("delay", path=r"/tasks$", seconds=0.06))
        server.faults.add(Fault("delay", path=r"/tasks/", seconds=0.002))
        waiting = []
        began = _cpu()
        for _ in range(count):
            task = server.add_task(f"Running {seconds:g}s, Finished ok")
            waiting.append(asyncio.create_task(em.wait(task.task_id)))
            await asyncio.sleep(1 / a_second)
        await asyncio.sleep(max(0.0, seconds - count / a_second))
        known = em.statistics()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return {
            "requests": known.requests,
            "polls": known.polls,
            "cpu_seconds": _cpu() - began,
            "coalesced": known.coalesced,
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--only", choices=["pace", "trickle"])
    asked = parser.parse_args()
    if asked.only != "trickle":
        for growth in (1.1, 1.5):
            told = run(measure_pace(Pace(growth=growth), asked.tasks))
            print(f"pace growth {growth}: {json.dumps(told)}", flush=True)
        print("goal: a share of 0.07 and 52 requests at most")
    if asked.only != "pace":
        for mode in ("always", "auto", "never"):
            told = run(
                measure_trickle(mode, count=1000, a_second=20, seconds=110, pace=Pace())
            )
            print(f"trickle {mode}: {json.dumps(told)}", flush=True)
        print("goal: auto costs at most 1.5 times what always costs")


if __name__ == "__main__":
    main()
