"""veeam_tasks: how long after a change at the server its event is read.

The server's tasks change twice at moments that it wrote down beforehand; both
processes read the same clock. Each event is stamped when the reader has it.
"""

import asyncio
import json
import statistics
import time
from pathlib import Path

from contract import Meter, Result, Spec, play

import veeam_tasks as vt


def read_changes(path: Path) -> dict[str, list[tuple[float, str]]]:
    """Return when each task goes to which state."""
    changes: dict[str, list[tuple[float, str]]] = json.loads(path.read_text("utf-8"))
    return changes


async def run(spec: Spec) -> Result:
    """Watch all tasks to their end; compare each event with its change."""
    options = spec.options
    changes = read_changes(Path(options["changes"]))
    pace = vt.Pace(first=spec.pause, growth=1.0, longest=spec.pause)
    delays: list[float] = []
    wrong: list[str] = []
    async with vt.connect(
        spec.url,
        username=options["username"],
        password=options["password"],
        ca_file=spec.ca_file,
        coalesce=options["coalesce"],
        pace=pace,
    ) as em:
        meter = Meter()
        async with em.watch(changes) as watch:
            async for event in watch:
                now = time.monotonic()
                if event.sequence == 1:
                    if event.state is not vt.TaskState.RUNNING:
                        wrong.append(f"too late for {event!r}")
                    continue
                moment, state = changes[event.task_id].pop(0)
                if event.state != state or now < moment:
                    wrong.append(f"{event!r} instead of {state} at {moment}")
                delays.append(now - moment)
        told = em.statistics()
        await asyncio.sleep(0)
        result = meter.read()
    missing = sum(map(len, changes.values()))
    if missing:
        wrong.append(f"{missing} changes were not seen")
    delays.sort()
    return result | {
        "polls": told.polls + told.coalesced,
        "requests": told.requests,
        "cut_short": 0,
        "coalescing": told.coalescing,
        "mean": statistics.fmean(delays) / spec.pause,
        "p99": delays[int(0.99 * len(delays))] / spec.pause,
        "longest": delays[-1] / spec.pause,
        "wrong": wrong,
    }


if __name__ == "__main__":
    play(run)
