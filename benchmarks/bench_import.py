"""How long `import veeam_tasks` and the command line's help take; no aiohttp in them.

python benchmarks/bench_import.py
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

STARTED = {
    "python -c pass": ("-c", "pass"),
    "import veeam_tasks": ("-c", "import veeam_tasks"),
    "import aiohttp": ("-c", "import aiohttp"),
    "import click": ("-c", "import click"),
    "veeam-tasks --help": ("-m", "veeam_tasks", "--help"),
}
LIMITS = (
    ("import veeam_tasks", "python -c pass", 1.5),
    ("veeam-tasks --help", "import click", 2.0),
)
"""What may cost how many times the CPU of what."""

HELP = """
import runpy, sys
sys.argv = ["veeam_tasks", "--help"]
try:
    runpy.run_module("veeam_tasks", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print("aiohttp" in sys.modules, file=sys.stderr)
"""
IMPORT = """
import sys, veeam_tasks
print("aiohttp" in sys.modules, file=sys.stderr)
"""


FIRST = """
import asyncio, veeam_tasks as vt

async def main():
    loop, longest = asyncio.get_running_loop(), 0.0

    async def tick():
        nonlocal longest
        last = loop.time()
        while True:
            await asyncio.sleep(0.001)
            now = loop.time()
            longest, last = max(longest, now - last - 0.001), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    began = loop.time()
    try:
        await vt.connect("https://127.0.0.1:9", username="u", password="p")
    except vt.TransportError:
        pass
    took = loop.time() - began
    await asyncio.sleep(0.01)
    print(longest, took)

asyncio.run(main())
"""


def first_connect(folder: str) -> dict[str, float]:
    """Return the seconds of a first connect, and the longest hold of its loop.

    Modules are compiled into `folder` the first time: to compile one holds the loop
    for as long as it takes, in whatever thread.
    """
    compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
    ended = subprocess.run(
        [sys.executable, "-c", FIRST],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | compiled,
    )
    hold, wall = map(float, ended.stdout.split())
    return {"hold": hold, "wall": wall}


def loads_aiohttp(program: str) -> bool:
    """Tell whether a Python program ends up with aiohttp loaded."""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    return ended.stderr.strip().splitlines()[-1] == "True"


def start(words: tuple[str, ...]) -> dict[str, float]:
    """Start Python once; return the seconds that it took, and of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return the samples: whether aiohttp is loaded, and the seconds of each start."""
    samples = [
        {
            "side": side,
            "case": "aiohttp",
            "round": 0,
            "loaded": int(loads_aiohttp(program)),
        }
        for side, program in (
            ("import veeam_tasks", IMPORT),
            ("veeam-tasks --help", HELP),
        )
    ]
    for words in STARTED.values():
        start(words)  # the files are in memory from now on
    for number in range(rounds):
        sides = list(STARTED.items())
        random.shuffle(sides)
        samples += [
            {"side": side, "case": "start", "round": number} | start(words)
            for side, words in sides
        ]
    with tempfile.TemporaryDirectory() as folder:
        first_connect(folder)
        samples += [
            {"side": "veeam_tasks", "case": "first connect", "round": number}
            | first_connect(folder)
            for number in range(rounds)
        ]
    return samples


def told(samples: list[dict[str, Any]]) -> list[str]:
    """Return a line for each limit: the ratio of CPU, median, minimum and maximum."""
    lines = []
    cpu = {
        (sample["side"], sample["round"]): sample["cpu"]
        for sample in samples
        if sample["case"] == "start"
    }
    for side, base, limit in LIMITS:
        ratios = sorted(
            seconds / cpu[base, number]
            for (other, number), seconds in cpu.items()
            if other == side
        )
        middle = statistics.median(ratios)
        lines.append(
            f"{side}: {middle:.2f} times the CPU of {base}"
            f" ({ratios[0]:.2f} to {ratios[-1]:.2f}; at most {limit:.1f})"
        )
    holds = sorted(1e3 * each["hold"] for each in samples if "hold" in each)
    lines.append(
        f"the first connect holds the loop for {statistics.median(holds):.1f} ms at a"
        f" time ({holds[0]:.1f} to {holds[-1]:.1f};"
        " at most 10 on a quiet machine)"
    )
    return lines


if __name__ == "__main__":
    taken = measure(7)
    print(json.dumps(taken, indent=1))
    print(*told(taken), sep="\n", file=sys.stderr)
