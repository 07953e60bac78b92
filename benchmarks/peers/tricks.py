"""What one trick is worth: bare aiohttp with one thing changed, named in the spec."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import anyio
import xmltodict
import yarl
from contract import Meter, Result, Spec, play, polled_in_turn

COROUTINES = 16
TRICKS = (
    "defaults",
    "prebuilt URL",  # a yarl.URL made once instead of a string each time
    "no request timer",  # ClientTimeout(total=None)
    "prebuilt URL, no timer",
    "body compared",  # with the last one
    "body parsed",  # by xmltodict
    "fail_after",  # anyio's, around each request
    "trace hook",  # an empty one at the end of each request
    "limiter",  # anyio.CapacityLimiter around each request
)
Get = Callable[[aiohttp.ClientSession, str | yarl.URL], Awaitable[bytes]]


def make_session(spec: Spec, trick: str) -> aiohttp.ClientSession:
    """Return the session that `trick` needs."""
    timer = {"timeout": aiohttp.ClientTimeout(total=None)} if "timer" in trick else {}
    hooks = []
    if trick == "trace hook":
        hook = aiohttp.TraceConfig()

        async def ended(*_: object) -> None:
            """Do nothing: that it is called is what costs."""

        hook.on_request_end.append(ended)
        hooks.append(hook)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=spec.tls()),
        headers=spec.headers,
        trace_configs=hooks,
        **timer,
    )


def make_get(trick: str) -> Get:
    """Return the coroutine function that asks once, as `trick` has it."""
    limiter = anyio.CapacityLimiter(COROUTINES)

    async def get(session: aiohttp.ClientSession, url: str | yarl.URL) -> bytes:
        async with session.get(url) as reply:
            return await reply.read()

    async def within(session: aiohttp.ClientSession, url: str | yarl.URL) -> bytes:
        with anyio.fail_after(30):
            async with session.get(url) as reply:
                return await reply.read()

    async def limited(session: aiohttp.ClientSession, url: str | yarl.URL) -> bytes:
        async with limiter, session.get(url) as reply:
            return await reply.read()

    return {"fail_after": within, "limiter": limited}.get(trick, get)


async def run(spec: Spec) -> Result:
    """Poll the tasks in turn, with the trick of ``options["trick"]``."""
    trick = spec.options["trick"]
    get = make_get(trick)
    prebuilt = "prebuilt URL" in trick
    urls = [yarl.URL(url) if prebuilt else url for url in spec.urls]
    bodies: dict[int, bytes] = {}

    async def poll(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for number in numbers:
            index = number % spec.tasks
            body = await get(session, urls[index])
            if trick == "body compared" and body == bodies.get(index):
                continue
            if trick == "body parsed":
                assert xmltodict.parse(body)["Task"]["State"] == "Running"
            bodies[index] = body

    async def poll_all(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(poll(session, numbers) for _ in range(COROUTINES)))

    async with make_session(spec, trick) as session:
        await poll_all(spec.warm_up)
        meter = Meter()
        await poll_all(spec.polls)
        result = meter.read()
    return polled_in_turn(result, bodies, spec)


if __name__ == "__main__":
    play(run)
