"""The loop that people write: aiohttp, a coroutine per task, xmltodict on every reply.

As found in scripts for this server: ask, parse, look at the state, sleep, again. With
a pause, the coroutines start one after the other within one pause, as operations do
that were not all submitted at the same moment.
"""

import asyncio
from typing import Any

import aiohttp
import xmltodict
from contract import Result, Spec, measure_while, play, wrong_operations


class Loop:
    """The loop and what it knows of each task."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.polls = 0
        self.tasks: dict[str, dict[str, Any]] = {}

    async def watch(
        self, session: aiohttp.ClientSession, url: str, delay: float
    ) -> dict[str, Any]:
        """Poll one task until it is finished, after a delay in seconds."""
        await asyncio.sleep(delay)
        while True:
            async with session.get(url) as reply:
                task = xmltodict.parse(await reply.text())["Task"]
            self.polls += 1
            self.tasks[url] = task
            if task["State"] == "Finished":
                return task
            await asyncio.sleep(self.spec.pause)

    def wrong(self) -> list[str]:
        """Return what is wrong with the tasks, in words."""
        found = [
            f"{url}: {task}"
            for url, task in self.tasks.items()
            if not url.endswith(f"/{task['TaskId']}") or task["State"] != "Running"
        ]
        if len(self.tasks) != self.spec.tasks:
            found.append(f"{len(self.tasks)} tasks instead of {self.spec.tasks}")
        operations = (task["Operation"] for task in self.tasks.values())
        return found or wrong_operations(operations, self.spec)


async def run(spec: Spec) -> Result:
    """Watch all tasks at once."""
    loop = Loop(spec)
    connector = aiohttp.TCPConnector(ssl=spec.tls())
    async with aiohttp.ClientSession(
        connector=connector, headers=spec.headers
    ) as session:
        watches = [
            asyncio.create_task(
                loop.watch(session, url, spec.pause * place / spec.tasks)
            )
            for place, url in enumerate(spec.urls)
        ]
        result = await measure_while(lambda: loop.polls, spec)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
    return result | {
        "requests": loop.polls,
        "cut_short": connector.limit,
        "wrong": loop.wrong(),
    }


if __name__ == "__main__":
    play(run)
