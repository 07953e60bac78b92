"""A page of job sessions cut into the bytes of each, without parsing it; pure.

So that a page can be parsed a few job sessions at a time, with the loop let go in
between, and what is as it was not at all. Whatever is parsed stands between what stood
before the first job session and behind the last one, so it means what it meant there:
the same namespaces, the same collection, the same paging.

The cuts lie behind ``</BackupJobSession>`` or the like. A page is left whole if they
could lie within a comment, a CDATA section or a processing instruction; and if a
job session holds another one, its halves are not well-formed. So if each shorter page
is well-formed and has as many job sessions as pieces, all together are the page.
"""

import re
from collections.abc import Sequence

import attrs

from veeam_tasks._protocol.document import BOM_AND_BLANKS, is_html
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._protocol.sessions import KINDS

PORTION = 1 << 13
"""Bytes of job sessions that are parsed at once, in some 0.5 ms; one may be longer."""

_END = re.compile(b"</(%s)>" % "|".join(KINDS).encode())
_SESSION = re.compile(rb"<(?:%s)[\s/>]" % "|".join(KINDS).encode())
_PROLOG = re.compile(rb"<\?xml [^<>]*\?>")


@attrs.frozen(kw_only=True)
class Pieces:
    """A page, cut.

    Attributes:
        whole: The page.
        parts: The bytes of each job session, and of what stood before it.
    """

    whole: Reply
    parts: tuple[bytes, ...]
    _head: bytes
    _tail: bytes

    def keys(self) -> list[int]:
        """Return what stands for each part; equal ones stand for equal sessions."""
        head = hash(self._head)
        return [hash((head, part)) for part in self.parts]

    def page(self, parts: Sequence[bytes]) -> Reply:
        """Return a page that holds some of the sessions."""
        return attrs.evolve(self.whole, body=b"".join((self._head, *parts, self._tail)))


def cut(reply: Reply) -> Pieces | None:
    """Return a page in XML, cut; None without a job session or a safe way to cut."""
    body = reply.body.lstrip(BOM_AND_BLANKS)
    found = _END.search(body)
    if found is None or is_html(reply.content_type) or not _is_plain(body):
        return None
    end = found[0]
    first = re.compile(rb"<%s[\s>]" % found[1]).search(body)
    if first is None or first.start() > found.start():
        return None
    *parts, tail = body[first.start() :].split(end)
    head = body[: first.start()]
    if len(head) + len(tail) > PORTION:
        return None  # each shorter page would be as long again
    if _SESSION.search(head) or _SESSION.search(tail):
        return None  # one of another kind, or that ends otherwise, would be in each
    return Pieces(
        whole=reply, parts=tuple([part + end for part in parts]), head=head, tail=tail
    )


def _is_plain(body: bytes) -> bool:
    """Tell whether every ``</`` in a body is the end of an element."""
    if b"<!" in body:
        return False
    return b"<?" not in body[1:] and (
        body[:2] != b"<?" or _PROLOG.match(body) is not None
    )
