"""httpx over 10 connections: GET and read; 10 coroutines."""

import asyncio
from collections.abc import Iterator

import httpx
from contract import Meter, Result, Spec, play, polled_in_turn

CONNECTIONS = 10


async def run(spec: Spec) -> Result:
    """Poll the tasks in turn."""
    urls = spec.urls
    bodies: dict[int, bytes] = {}

    async def poll(client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            index = number % spec.tasks
            bodies[index] = (await client.get(urls[index])).content

    async def poll_all(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(poll(client, numbers) for _ in range(CONNECTIONS)))

    limits = httpx.Limits(
        max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS
    )
    async with httpx.AsyncClient(
        verify=spec.tls(), limits=limits, headers=spec.headers
    ) as client:
        await poll_all(spec.warm_up)
        meter = Meter()
        await poll_all(spec.polls)
        result = meter.read()
    return polled_in_turn(result, bodies, spec)


if __name__ == "__main__":
    play(run)
