"""Pages of job sessions, read so that the loop is never held for long."""

import asyncio
from collections.abc import Iterator, Mapping

import attrs

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._model import JobSession
from veeam_tasks._protocol.classification import ReplyKind, classify_query
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._protocol.session_slices import PORTION, Pieces, cut
from veeam_tasks._protocol.sessions import SessionPage
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import TimeSlice, parsed


@attrs.frozen(kw_only=True)
class ReadPage:
    """What a reply to a query for job sessions proves.

    Attributes:
        kind: As `classify_query` says.
        value: The page, or what is wrong with it.
        keys: What stands for the bytes of each job session, in order; empty if the page
            was not cut.
    """

    kind: ReplyKind
    value: SessionPage | VeeamTasksError
    keys: tuple[int, ...] = ()


async def read_page(
    reply: Reply, secrets: Secrets, known: Mapping[int, JobSession] | None = None
) -> ReadPage:
    """Return what a reply proves; a page in XML is read a few job sessions at a time.

    Not in a thread, as long as that can be avoided: the loop gives up the interpreter's
    lock with each request that it sends, and a thread that parses keeps it for up to
    5 ms. A hundred pages a second in threads held the loop for 10 to 30 ms at times.

    Args:
        reply: The reply to the query.
        secrets: Hidden from messages.
        known: Job sessions by the keys of their bytes, which are not parsed again.
    """
    pieces = cut(reply) if reply.is_success else None
    if pieces is not None:
        page = await _in_portions(pieces, secrets, known or {})
        if page is not None:
            return page
    kind, value = await parsed(classify_query, reply, secrets)
    return ReadPage(kind=kind, value=value)


async def _in_portions(
    pieces: Pieces, secrets: Secrets, known: Mapping[int, JobSession]
) -> ReadPage | None:
    """Return a page; None if it must be read as a whole, which may say why."""
    keys = pieces.keys()
    found = {key: known[key] for key in keys if key in known}
    new = {
        key: part
        for key, part in zip(keys, pieces.parts, strict=True)
        if key not in found
    }
    next_path = None
    time_slice = TimeSlice(asyncio.get_running_loop())
    async for (portion,) in time_slice.chunks(_portions(new), 1):
        parts = [new[key] for key in portion]
        _, page = await parsed(classify_query, pieces.page(parts), secrets)
        # Even if none is new: what is around them has to be a page.
        if not isinstance(page, SessionPage) or len(page.sessions) != len(portion):
            return None
        found.update(zip(portion, page.sessions, strict=True))
        next_path = page.next_path
    sessions = tuple([found[key] for key in keys])
    return ReadPage(
        kind=ReplyKind.SESSION,
        value=SessionPage(sessions=sessions, next_path=next_path),
        keys=tuple(keys),
    )


def _portions(new: Mapping[int, bytes]) -> Iterator[list[int]]:
    """Yield the keys of so many pieces as are parsed at once; at least one list."""
    portion: list[int] = []
    size = 0
    for key, part in new.items():
        if portion and size + len(part) > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += len(part)
    yield portion
