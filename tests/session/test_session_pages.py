"""Pages of job sessions are read in portions, in the loop and not in a thread."""

import asyncio
import os
import threading

import attrs
import pytest
from support.strategies import reply

from veeam_tasks import MalformedReplyError
from veeam_tasks._protocol.classification import ReplyKind, classify_query
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._protocol.sessions import SessionPage
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import parsed
from veeam_tasks._session.session_pages import read_page

SECRETS = Secrets()
PLAIN = (
    '<BackupJobSession UID="urn:veeam:BackupJobSession:{guid}" Name="{number}"><Links>'
    "{links}</Links><JobName>Job {number}</JobName><State>Working</State>"
    "</BackupJobSession>"
)


def long_page(count: int, links: int) -> Reply:
    """Return a page of so many job sessions with so many links each."""
    sessions = [
        PLAIN.format(
            guid=f"7e9f0a51-3d5e-4a48-8c2a-{number:012}",
            number=number,
            links='<Link Rel="Related" Href="http://h/api/restorePoints/1"/>' * links,
        )
        for number in range(count)
    ]
    body = f"<BackupJobSessions>{''.join(sessions)}</BackupJobSessions>"
    return reply(body.encode())


def workers() -> int:
    """Return how many threads anyio has for work beside the loop."""
    return sum("AnyIO" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("links", [1, 30, 300])
async def test_a_page_needs_no_thread_however_long_it_is(links: int) -> None:
    """A thread that parses would keep the interpreter's lock from the loop."""
    given_reply = long_page(20, links)
    before = workers()
    read = await read_page(given_reply, SECRETS)
    assert read.kind is ReplyKind.SESSION
    assert read.value == classify_query(given_reply, SECRETS)[1]
    assert workers() == before


async def test_the_loop_is_let_go_between_the_portions() -> None:
    """A page that takes much longer than a time slice lets others run meanwhile."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    try:
        await read_page(long_page(60, 400), SECRETS)
    finally:
        ticking.cancel()
    assert turns > 5


async def test_a_long_page_that_is_none_says_why() -> None:
    """What is wrong with it is told of the whole page, as of a short one."""
    given_reply = long_page(20, 30)
    broken = attrs.evolve(given_reply, body=given_reply.body[:-30])
    read = await read_page(broken, SECRETS)
    assert read.kind is ReplyKind.UNUSABLE
    assert isinstance(read.value, MalformedReplyError)
    assert "not well-formed" in str(read.value)
    html = attrs.evolve(given_reply, content_type="text/html")
    assert (await read_page(html, SECRETS)).kind is ReplyKind.UNUSABLE
    refused = attrs.evolve(given_reply, status=400)
    assert not isinstance((await read_page(refused, SECRETS)).value, SessionPage)


async def test_what_is_as_it_was_is_not_parsed_again() -> None:
    """The job sessions of equal bytes are the very same; the others are new."""
    first = await read_page(long_page(20, 3), SECRETS)
    assert isinstance(first.value, SessionPage)
    known = dict(zip(first.keys, first.value.sessions, strict=True))
    changed = long_page(20, 3)
    body = changed.body.replace(b"Job 7<", b"Job seven<")
    changed = attrs.evolve(changed, body=body)
    again = await read_page(changed, SECRETS, known)
    assert again.value == classify_query(changed, SECRETS)[1]
    assert isinstance(again.value, SessionPage)
    pairs = zip(first.value.sessions, again.value.sessions, strict=True)
    assert [one is other for one, other in pairs] == [n != 7 for n in range(20)]
    same = await read_page(long_page(20, 3), SECRETS, known)
    assert same.value == first.value


@pytest.mark.parametrize("where", [b"<BackupJobSessions>", b"</BackupJobSessions>"])
async def test_what_is_around_known_sessions_has_to_be_a_page(where: bytes) -> None:
    """A reply that is cut short or of another kind is none, whatever it holds."""
    page = long_page(20, 3)
    first = await read_page(page, SECRETS)
    assert isinstance(first.value, SessionPage)
    known = dict(zip(first.keys, first.value.sessions, strict=True))
    for other in (b"", b"<Tasks>"):
        broken = attrs.evolve(page, body=page.body.replace(where, other))
        read = await read_page(broken, SECRETS, known)
        assert read.kind is ReplyKind.UNUSABLE
        assert isinstance(read.value, MalformedReplyError)


async def test_one_thread_at_a_time_parses_what_cannot_be_cut() -> None:
    """Several would each keep the lock from the loop, one after the other."""
    running = most = 0
    lock = threading.Lock()

    def parse(given_reply: Reply) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        for _ in range(200):
            os.sched_yield()  # lets any other thread go
        with lock:
            running -= 1
        return len(given_reply.body)

    given_reply = long_page(40, 100)
    await asyncio.gather(*[parsed(parse, given_reply) for _ in range(20)])
    assert most == 1
