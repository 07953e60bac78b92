"""Bare aiohttp with its defaults: GET and read, nothing else; 16 coroutines."""

import asyncio
from collections.abc import Iterator

import aiohttp
from contract import Meter, Result, Spec, play, polled_in_turn

COROUTINES = 16


async def run(spec: Spec) -> Result:
    """Poll the tasks in turn."""
    urls = spec.urls
    bodies: dict[int, bytes] = {}

    async def poll(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for number in numbers:
            index = number % spec.tasks
            async with session.get(urls[index]) as reply:
                bodies[index] = await reply.read()

    async def poll_all(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(poll(session, numbers) for _ in range(COROUTINES)))

    connector = aiohttp.TCPConnector(ssl=spec.tls())
    async with aiohttp.ClientSession(
        connector=connector, headers=spec.headers
    ) as session:
        await poll_all(spec.warm_up)
        meter = Meter()
        await poll_all(spec.polls)
        result = meter.read()
    return polled_in_turn(result, bodies, spec)


if __name__ == "__main__":
    play(run)
