"""`Request` and `Reply`: one exchange with the server, as values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

import attrs

from veeam_tasks._redaction import Secret, hidden_or_none

Method = Literal["GET", "POST", "PUT", "DELETE"]

# The HTTP statuses that mean something here; those below REDIRECT are successes.
OK, NO_CONTENT, REDIRECT = 200, 204, 300
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 400, 401, 403, 404
TOO_MANY_REQUESTS = 429
SERVER_ERROR, NOT_IMPLEMENTED, UNAVAILABLE = 500, 501, 503


@attrs.frozen(kw_only=True)
class Request:
    """One request to be sent.

    Attributes:
        method: The HTTP method.
        path: Below the ``/api/`` of the server, with its query, already encoded:
            ``tasks/task-1``, ``jobs/b04c?action=start``.
        shown: The path as people may see it, without a session ID.
        body: The request body; None sends none (and ``Content-Length: 0`` on a
            POST or PUT).
        media_type: The one media type of Accept and Content-Type.
        headers: Further headers, secret ones among them.
        max_reply_bytes: How long the reply's body may be, after decompression; None:
            as the sender has it for one resource.
        is_own: Whether it is about our own logon session: no trace shows it.
    """

    method: Method
    path: str = attrs.field(repr=False)
    shown: str
    body: bytes | None = attrs.field(default=None, repr=False)
    media_type: str = "application/xml"
    headers: Mapping[str, str | Secret] = attrs.field(factory=dict, repr=False)
    max_reply_bytes: int | None = None
    is_own: bool = False


@attrs.define(kw_only=True, on_setattr=attrs.setters.NO_OP)
class Reply:
    """One reply, wholly read.

    Nothing changes it. But it is not frozen: a frozen one sets each field by a call,
    which is half of what it costs to make one, and one is made for each changed poll.

    Attributes:
        request: What was asked, as people may see it:
            ``GET https://em.example:9398/api/tasks/task-1``.
        status: The HTTP status code.
        content_type: The media type in lower case without parameters; empty if none.
        body: The body after decompression.
        token: The header ``X-RestSvcSessionId``, which a logon reply has.
        retry_after: Seconds of a ``Retry-After`` header, or None.
        location: Where a redirect points, as people may see it, or None.
        challenge: The header ``WWW-Authenticate`` of a 401, or None.
        date: When it was sent, by the server's ``Date``; aware, UTC. None if the server
            told no time, and for the replies to polls, of which nobody needs it.
    """

    request: str
    status: int
    content_type: str
    body: bytes = attrs.field(repr=False)
    token: Secret | None = attrs.field(
        default=None, repr=False, converter=hidden_or_none
    )
    retry_after: float | None = None
    location: str | None = None
    challenge: str | None = attrs.field(default=None, repr=False)
    date: datetime | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status says that it went well: 2xx."""
        return OK <= self.status < REDIRECT


UNCHANGED = Reply(request="GET", status=OK, content_type="", body=b"")
"""Stands for a reply whose body is known already."""


class Sender(Protocol):
    """What sends requests: the transport, or a script in tests."""

    async def send(
        self, request: Request, token: Secret | None = None, *, uncertain: bool = False
    ) -> Reply:
        """Send one request, with the token if one is given; return the reply."""
