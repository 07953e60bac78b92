"""A page of job sessions cut without parsing it means what parsing it would."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import VEEAM, reply

from veeam_tasks import JobSession, VeeamTasksError
from veeam_tasks._protocol.classification import classify_query
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._protocol.session_slices import cut
from veeam_tasks._protocol.sessions import KINDS, SessionPage
from veeam_tasks._redaction import Secrets

SECRETS = Secrets()


def session(number: int, kind: str = "BackupJobSession", extra: str = "") -> str:
    """Return the element of a job session as the reference prints it."""
    guid = f"7e9f0a51-3d5e-4a48-8c2a-{number:012}"
    return (
        f'<{kind} Href="https://em:9398/api/backupSessions/{guid}?format=Entity"'
        f' Type="{kind}" Name="Job {number}@2026-06-16 06:33:10"'
        f' UID="urn:veeam:{kind}:{guid}"><Links><Link Rel="Up" Type="JobReference"'
        f' Href="https://em:9398/api/jobs/{guid}"/></Links>{extra}'
        f"<JobName>Job {number}</JobName><State>Working</State><Result>None</Result>"
        f"<Progress>{number % 100}</Progress></{kind}>"
    )


def page(*elements: str, kind: str = "BackupJobSession", tail: str = "") -> bytes:
    """Return the result of a query that holds these elements."""
    return (
        f'<QueryResult xmlns="{VEEAM}" xmlns:xsi="http://a/b"><Entities><{kind}s>'
        f"{''.join(elements)}</{kind}s></Entities>{tail}</QueryResult>"
    ).encode()


PAGING = (
    '<PagingInfo PageNum="1" PageSize="20" PagesCount="2"><Links><Link Rel="Next"'
    ' Href="https://em:9398/api/query?type=BackupJobSession&amp;page=2"/></Links>'
    "</PagingInfo>"
)


def whole(given_reply: Reply) -> SessionPage | VeeamTasksError:
    """Return what parsing all of it gives."""
    return classify_query(given_reply, SECRETS)[1]


def in_pieces(given_reply: Reply, at_once: int) -> SessionPage | None:
    """Return what parsing so many pieces at once gives; None if one is not a page."""
    pieces = cut(given_reply)
    if pieces is None:
        return None
    sessions: list[JobSession] = []
    next_path = None
    for parts in batched(pieces.parts, at_once):
        value = whole(pieces.page(parts))
        if not isinstance(value, SessionPage) or len(value.sessions) != len(parts):
            return None
        sessions += value.sessions
        next_path = value.next_path
    return SessionPage(sessions=tuple(sessions), next_path=next_path)


def batched(parts: tuple[bytes, ...], size: int) -> Iterator[tuple[bytes, ...]]:
    """Yield so many parts at a time."""
    for at in range(0, len(parts), size):
        yield parts[at : at + size]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_the_pieces_of_a_page_are_the_page(kind: str, at_once: int) -> None:
    """All job sessions in order, and where the page goes on, however many at once."""
    body = page(*[session(n, kind) for n in range(9)], kind=kind, tail=PAGING)
    for head in (b"", b"\xef\xbb\xbf", b'<?xml version="1.0" encoding="utf-8"?>\n'):
        given_reply = reply(head + body)
        found = in_pieces(given_reply, at_once)
        assert found == whole(given_reply)
        assert found is not None
        assert [one.job_name for one in found.sessions] == [
            f"Job {number}" for number in range(9)
        ]
        assert found.next_path is not None


def test_a_key_stands_for_the_bytes_and_what_is_around_them() -> None:
    """Equal bytes under another beginning may mean something else."""
    one = cut(reply(page(session(1), session(2), session(1))))
    other = cut(reply(page(session(2), kind="ReplicaJobSession")))
    assert one is not None
    assert other is not None
    first, second, third = one.keys()
    assert first == third != second
    assert other.keys() != [second]
    assert one.parts[1] == other.parts[0] == session(2).encode()


@pytest.mark.parametrize(
    "body",
    [
        page(),
        page(session(1, extra="<!-- </BackupJobSession> -->"), session(2)),
        page(session(1, extra="<Note><![CDATA[</BackupJobSession>]]></Note>")),
        page(session(1, extra="<?note </BackupJobSession>?>"), session(2)),
        b"<!DOCTYPE x>" + page(session(1)),
        page(session(1), session(2).replace("</BackupJobSession>", "")),
        b'{"BackupJobSessions": []}',
        b"",
    ],
    ids=[
        *["empty", "comment", "CDATA", "instruction", "DOCTYPE", "no end", "JSON"],
        "nothing",
    ],
)
def test_what_could_be_cut_wrongly_is_not_cut(body: bytes) -> None:
    """An end of a job session that is none must not be taken for one."""
    assert cut(reply(body)) is None


def test_html_and_a_long_beginning_are_not_cut() -> None:
    """Each slice would be refused, or be about as long as the page."""
    body = page(session(1), session(2))
    html = reply(body, "text/html")
    assert cut(html) is None
    long = body.replace(b"<Entities>", b"<Note>" + b"x" * 20000 + b"</Note><Entities>")
    assert cut(reply(long)) is None


@pytest.mark.parametrize(
    "body",
    [
        page(session(1, extra=session(2)), session(3)),
        page(session(1), session(2).replace("</Links>", ""), session(3)),
        page(session(1), session(2))[:-20],
        page(session(1), session(2).replace("<State>Working</State>", "")),
    ],
    ids=["nested", "not well-formed", "cut short", "no State"],
)
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_page_that_is_none_has_a_piece_that_is_none(
    body: bytes, at_once: int
) -> None:
    """Then it is for the whole page to say what is wrong."""
    assert cut(reply(body)) is not None
    assert in_pieces(reply(body), at_once) is None


def test_a_session_before_or_behind_those_of_a_kind_leaves_the_page_whole() -> None:
    """It would be in each piece, and be told of in the place of the piece's own."""
    odd = session(3).replace("</BackupJobSession>", "</BackupJobSession >")
    replica = session(4, "ReplicaJobSession")
    assert cut(reply(page(odd, replica, replica))) is None
    assert cut(reply(page(session(1), replica))) is None


@given(
    elements=st.lists(
        st.sampled_from(
            [
                session(1),
                session(2, extra="<X>&lt;/BackupJobSession&gt;</X>"),
                session(3).replace("</BackupJobSession>", "</BackupJobSession >"),
                session(4, "ReplicaJobSession"),
                "</BackupJobSession>",
                "<BackupJobSession>",
                "<BackupJobSession/>",
                "<!-- x -->",
                " text ",
            ]
        ),
        max_size=6,
    ),
    at_once=st.integers(1, 7),
)
def test_pieces_never_mean_anything_else(elements: list[str], at_once: int) -> None:
    """Whatever a page is made of: all its pieces are good only if it is, and equal."""
    given_reply = reply(page(*elements))
    found = in_pieces(given_reply, at_once)
    if found is not None:
        assert found == whole(given_reply)
