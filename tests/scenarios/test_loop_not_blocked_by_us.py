"""The event loop is let go while long replies are parsed and modules are loaded."""

import asyncio
import copy
import math
import ssl
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.raw_server import RawServer, Seen, reply

from veeam_tasks import Pace, SessionManager, TaskEvent, connect
from veeam_tasks._client import late_connect as _late
from veeam_tasks._options.keywords import DEFAULTS, Options

NS = 'xmlns="http://www.veeam.com/ent/v1.0"'
LOGON = reply(
    f"<LogonSession {NS}><SessionId>695f4bc1-8a48</SessionId></LogonSession>".encode(),
    status="201 Created",
    headers=["X-RestSvcSessionId: Njk1ZjRiYzEtOGE0OA=="],
)
XML_SESSIONS = (
    f"<BackupJobSessions {NS}>"
    + "".join(
        f'<BackupJobSession Name="Job {number}" Href="http://h/api/x/{number}">'
        f"<JobName>Job {number}</JobName><State>Stopped</State></BackupJobSession>"
        for number in range(20_000)
    )
    + "</BackupJobSessions>"
).encode()
JSON_SESSIONS = (
    '{"Sessions":['
    + ",".join(
        f'{{"Name":"Job {number}","State":"Stopped","Result":"Success","Links":[]}}'
        for number in range(60_000)
    )
    + "]}"
).encode()
LINK = '<Link Rel="Up" Href="x"/>'
LONG_TASK = (
    f"<Task {NS}><TaskId>task-7</TaskId><State>Running</State>"
    f"<Operation>StartJob</Operation><Links>{LINK * 40_000}</Links></Task>"
).encode()

GUID = "b04c217b-0538-4650-bec4-19deff4ea1ac"
STARTED = (
    f"<Task {NS}><TaskId>task-8</TaskId><State>Finished</State>"
    "<Operation>StartJob</Operation><Result Success='true'><Message>Ok</Message>"
    "</Result><Links><Link Rel='Related' Type='BackupJobSession'"
    f" Href='/api/backupSessions/{GUID}?format=Entity'/></Links></Task>"
).encode()
LONG_SESSION = (
    f'<BackupJobSession {NS} UID="urn:veeam:BackupJobSession:{GUID}" Name="Nightly"'
    f' Href="/api/backupSessions/{GUID}?format=Entity"><Links>{LINK * 40_000}</Links>'
    "<JobName>Nightly</JobName><State>Working</State></BackupJobSession>"
).encode()

Call = Callable[[SessionManager], Awaitable[object]]


async def share_of_longest_hold(work: Awaitable[object]) -> float:
    """Return which share of the time that work takes it holds the loop at once."""
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = loop.time()
        while True:
            await asyncio.sleep(0)
            now = loop.time()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    began = loop.time()
    try:
        await work
        took = loop.time() - began
        # Once more, to be told of what the last step has held.
        await asyncio.sleep(0)
        return longest / took
    finally:
        ticking.cancel()


async def first_event_of(em: SessionManager) -> TaskEvent:
    """Watch a task until something is known of it."""
    async with em.watch("task-7") as watch:
        return await anext(watch)


async def first_of_run(em: SessionManager) -> TaskEvent | None:
    """Follow a task until something of its job session is seen."""
    async with em.watch("task-8", follow=True) as watch:
        async for event in watch:
            if event.session is not None:
                return event
    return None


@pytest.mark.parametrize(
    ("body", "call"),
    [
        (XML_SESSIONS, lambda em: em.read("backupSessions?format=Entity")),
        (JSON_SESSIONS, lambda em: em.read("backupSessions?format=Entity")),
        (LONG_TASK, lambda em: em.fetch("task-7")),
        (LONG_TASK, lambda em: em.submit("jobs/1?action=start")),
        (LONG_TASK, first_event_of),
        (LONG_SESSION, first_of_run),
    ],
    ids=["read XML", "read JSON", "fetch", "submit", "poll", "poll of a run"],
)
async def test_a_long_reply_is_parsed_beside_the_loop(body: bytes, call: Call) -> None:
    """A body of a megabyte and more holds the loop for a small share of its time."""

    def route(seen: Seen) -> bytes:
        if "task-8" in seen.target:
            return reply(STARTED)
        return LOGON if "sessionMngr" in seen.target else reply(body)

    async with (
        RawServer(route=route) as server,
        connect(
            server.url(),
            username="u",
            password="pass-word",
            keep_alive=False,
            max_reply_bytes=16 << 20,
        ) as em,
    ):
        assert await share_of_longest_hold(call(em)) < 0.6


FIRST = """
import asyncio, sys
import veeam_tasks as vt

async def main():
    loop, longest, has_begun = asyncio.get_running_loop(), 0.0, asyncio.Event()

    async def tick():
        nonlocal longest
        last = loop.time()
        while True:
            has_begun.set()
            await asyncio.sleep(0.001)
            now = loop.time()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    await has_begun.wait()
    began = loop.time()
    assert "aiohttp" not in sys.modules
    try:
        DOOR
    except vt.VeeamTasksError as error:
        assert type(error) in (vt.TransportError, vt.LogonError), error
        assert "127.0.0.1" in str(error) or "token" in str(error)
    took = loop.time() - began
    await asyncio.sleep(0.002)
    ticking.cancel()
    assert vt.connect is sys.modules["veeam_tasks._client.connect"].connect
    print(longest / took)

asyncio.run(main())
"""
URL = "'https://127.0.0.1:9'"
DOORS = {
    "awaited": f"await vt.connect({URL}, username='u', password='p')",
    "entered": (
        f"async with vt.connect({URL}, username='u', password='p') as em: await em"
    ),
    "adopted": f"async with vt.adopt({URL}, 'dG9r') as em: await em.fetch('task-1')",
}


@pytest.mark.parametrize("door", DOORS)
def test_the_first_connect_loads_the_rooms_beside_the_loop(door: str) -> None:
    """What is first named in a running loop is imported in a thread, not there."""
    program = FIRST.replace("DOOR", DOORS[door])
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 0.6


async def test_a_late_door_says_what_it_is() -> None:
    """It cannot be copied, shows no secret, and names the await that was forgotten."""
    late = _late.connect("https://em.example", username="u", password="pass-word")
    assert repr(late) == "<connect: not logged on: await it>"
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(late)
    with pytest.raises(AttributeError, match=r"no 'watch': write 'em = await connect"):
        late.watch("task-1")
    with pytest.raises(TypeError, match="'async with connect"), late:
        pass


async def test_a_late_door_knows_the_names_of_arguments_at_once() -> None:
    """A misspelt or missing argument is told before anything is awaited."""
    assert set(DEFAULTS) == set(Options.__optional_keys__)
    for door, args in (
        (_late.connect, ("u",)),
        (_late.adopt, ("u", "token", "x")),
    ):
        with pytest.raises(TypeError):
            door(*args)
    with pytest.raises(TypeError, match="'patients'; did you mean 'patience'"):
        _late.connect("u", username="u", password="p", patients=5)
    with pytest.raises(TypeError, match="'sesion_id'; did you mean 'session_id'"):
        _late.adopt("u", "token", sesion_id="x")


def no_function() -> None:
    """Be told of notices."""


async def no_plain_function() -> None:
    """Be awaited, which nobody does."""


RIGHT: list[dict[str, Any]] = [
    {},
    {"url": "https://em.example:9398/api/"},
    {"url": "https://em-1.example/prefix/api"},
    {"url": "https://10.0.0.7"},
    {"url": "https://[2001:db8::7]:9398"},
    {"url": "https://münchen.example"},
    {"url": "http://localhost:9399"},
    {"url": "http://127.0.0.1:1"},
    {"url": "http://em.example", "insecure": True},
    {"username": "CORP\\müller", "password": no_function},
    {"fingerprint": "AB:" * 31 + "cd"},
    {"ssl": ssl.create_default_context()},
    {"pace": Pace(), "accept": "json", "coalesce": "always", "api_version": "v1_7"},
    {"request_timeout": 5, "patience": 0.5, "keep_alive": False, "max_in_flight": 1},
    {"max_reply_bytes": 1, "proxy": "http://me:pw@proxy:3128", "on_notice": print},
]
WRONG: list[dict[str, Any]] = [
    *(
        {"url": url}
        for url in (7, "", "em.example", "ftp://em", "https://", "http://em")
    ),
    *({"url": f"https://{it}"} for it in ("a b", "u:p@em", "em:0", "em:99999", "em?x")),
    *({"url": f"https://{it}"} for it in ("1.2.3", "1.2.3.999", "[::1", "a..b")),
    *({"username": name} for name in (None, "", "a:b", "a\nb")),
    *({"password": word} for word in (None, 7, b"x", "\ud800")),
    {"ssl": False},
    {"ssl": 1},
    {"ca_file": "/nowhere"},
    {"ca_file": __file__},
    {"ca_file": 7},
    {"fingerprint": "AB"},
    {"fingerprint": 7},
    {"fingerprint": "AB:" * 31 + "cd", "insecure": True},
    {"fingerprint": "AB:" * 31 + "cd", "url": "http://localhost"},
    {"insecure": 1},
    *({"api_version": one} for one in ("1.7", None, "v1_7&x")),
    {"accept": "yaml"},
    *({"coalesce": one} for one in (True, None)),
    *({"pace": one} for one in (5, None)),
    *({"request_timeout": one} for one in (0, None, True, "1", 10**400, math.nan)),
    *({"patience": one} for one in (-1, True, math.inf)),
    *({"max_in_flight": one} for one in (0, 1.5, True)),
    *({"max_reply_bytes": one} for one in (0, "1")),
    {"keep_alive": 1},
    *({"proxy": one} for one in (3, "proxy:3128", "socks5://h:1", "http://h:port")),
    *({"on_notice": one} for one in (3, no_plain_function)),
]


def arguments(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the URL and the keywords of a call."""
    keywords = {"username": "u", "password": "pass-word", **given}
    return keywords.pop("url", "https://em.example"), keywords


def named(cases: list[dict[str, Any]]) -> list[str]:
    """Return an ID for each; what some of them hold has another text each time."""
    return [f"{at}-{'-'.join(case)}" for at, case in enumerate(cases)]


@pytest.mark.parametrize("given", RIGHT, ids=named(RIGHT))
def test_a_late_door_takes_right_values(
    given: dict[str, Any],
) -> None:
    """What looks right is put off; and it is right."""
    url, keywords = arguments(given)
    assert isinstance(_late.connect(url, **keywords), _late.LateConnecting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is verified
        connect(url, **keywords)


def test_a_late_door_takes_a_file_of_certificates(tmp_path: Path) -> None:
    """It is looked at, and what is in it is right."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    for given in (path, str(path)):
        url, keywords = arguments({"ca_file": given})
        assert isinstance(_late.connect(url, **keywords), _late.LateConnecting)


@pytest.mark.parametrize("given", WRONG, ids=named(WRONG))
async def test_a_late_door_tells_of_wrong_values_at_once(given: dict[str, Any]) -> None:
    """In the words of any other call, before anything is awaited."""
    url, keywords = arguments(given)
    said = []
    for door in (_late.connect, connect):
        with pytest.raises((ValueError, TypeError)) as caught:
            door(url, **keywords)
        said.append((caught.type, str(caught.value)))
    assert said[0] == said[1]


@pytest.mark.parametrize("wrong", ["", "a b", "tök", 7])
async def test_a_late_door_tells_of_a_wrong_token_at_once(wrong: Any) -> None:
    """Of a wrong session ID too."""
    with pytest.raises((ValueError, TypeError), match="token"):
        _late.adopt("https://em.example", wrong)
    with pytest.raises((ValueError, TypeError), match="session_id"):
        _late.adopt("https://em.example", "dG9rZW4=", session_id=wrong)


async def test_a_late_door_logs_on_once() -> None:
    """Entered it gives the manager, and closes it."""

    def route(seen: Seen) -> bytes:
        is_logon = "sessionMngr" in seen.target
        return LOGON if is_logon else reply(status="204 No Content")

    async with RawServer(route=route) as server:
        late = _late.connect(server.url(), username="u", password="pass-word")
        async with late as em:
            assert (await late) is em
        assert [seen.method for seen in server.seen] == ["POST", "DELETE"]
        adopted = _late.adopt(server.url(), "Njk1ZjRiYzEtOGE0OA==")
        async with adopted as em:
            assert em.token == "Njk1ZjRiYzEtOGE0OA=="
