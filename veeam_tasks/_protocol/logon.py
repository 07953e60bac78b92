"""What is asked about a logon session, and what the replies say of it; pure.

Facts (``logging_on``, ``http_authentication`` and ``logging_out`` reference pages): a
logon is answered 201 with the token in the header ``X-RestSvcSessionId`` and the
session ID in the body; a logon session is ended by
``DELETE /logonSessions/{SessionId}``.
"""

import base64
import binascii
import re
from typing import Any, Literal
from urllib.parse import quote

from veeam_tasks._errors import LogonError, MalformedReplyError
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import (
    FORBIDDEN,
    OK,
    UNAUTHORIZED,
    Reply,
    Request,
)
from veeam_tasks._redaction import Secret, Secrets

_ABSENT_TASK = "tasks/task-0"
_SESSION_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}", re.ASCII)
_REFUSED = (
    "It is not tried again until open(), so that the account is not locked. Check the"
    " user name (DOMAIN\\user or user@domain), the password, and that the account has"
    " a role in the Enterprise Manager"
)


def log_on_request(authorization: Secret, api_version: str, media_type: str) -> Request:
    """Return the request that opens a logon session."""
    path = f"sessionMngr/?v={api_version}"
    return Request(
        method="POST",
        path=path,
        shown=path,
        media_type=media_type,
        headers={"Authorization": authorization},
        is_own=True,
    )


def opened(reply: Reply, secrets: Secrets) -> tuple[Secret, Secret | None]:
    """Return the token and the session ID that a logon was answered with.

    The session ID is None if the body shows none.

    Raises:
        LogonError: The account was refused.
        StatusError: The server answered with another error.
        MalformedReplyError: It came from something else than an Enterprise Manager.
    """
    if not reply.is_success:
        said = _replies.ErrorReply(reply)
        if reply.status in {UNAUTHORIZED, FORBIDDEN} and said.is_own_refusal:
            raise LogonError(
                request=reply.request,
                status=reply.status,
                message=said.message(secrets),
                advice=_REFUSED,
            )
        raise said.foreign_refusal() or said.error(secrets)
    if reply.token is None or not reply.token.reveal():
        raise MalformedReplyError(
            request=reply.request,
            problem=f"answered {reply.status} without the header X-RestSvcSessionId, so"
            " this URL is not an Enterprise Manager REST service (its port is 9398; the"
            " web console has another)",
        )
    if not can_stand_in_header(reply.token):
        # It could not be sent back, and is not shown.
        raise MalformedReplyError(
            request=reply.request,
            problem=f"answered {reply.status} with an X-RestSvcSessionId that has"
            " characters which no token has",
        )
    return reply.token, _replies.decode_logon(reply, secrets)


def hrefs_in(reply: Reply) -> list[str]:
    """Return the Hrefs of a reply about a logon session: how the server calls itself.

    Nothing of them may be shown, since the ID of the logon session stands in them.
    """
    try:
        _, value = _document.parse(reply, None)
    except MalformedReplyError:
        return []
    found: list[str] = []
    left: list[Any] = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            href = one.get("@Href")
            found += [href] if isinstance(href, str) else []
            left += one.values()
        elif isinstance(one, list):
            left += one
    return found


def can_stand_in_header(secret: Secret) -> bool:
    """Tell whether a token or a session ID has only characters that such have."""
    text = secret.reveal()
    return text != "" and text.isascii() and text.isprintable() and " " not in text


def own_session_request(
    method: Literal["GET", "DELETE"],
    token: Secret | None,
    session_id: Secret | None,
    media_type: str,
) -> Request:
    """Return a request about one's own logon session, as cheap as there is one.

    Without a session ID it is a GET of them all, whatever the method.
    """
    session_id = session_id or session_id_in(token)
    if session_id is None:
        path = "logonSessions"
        return Request(
            method="GET", path=path, shown=path, media_type=media_type, is_own=True
        )
    return Request(
        method=method,
        path=f"logonSessions/{quote(session_id.reveal(), safe='')}",
        shown="logonSessions/[hidden]",
        media_type=media_type,
        is_own=True,
    )


def token_checks(
    token: Secret | None, session_id: Secret | None, media_type: str
) -> tuple[Request, ...]:
    """Return requests whose replies tell an expired token from one refused resource.

    One's own logon session; and, for servers that do not serve that, or to whomever, a
    task that cannot be there, since IDs begin at 1: asked for as any other, it is
    refused to an expired token by whatever refuses the others.
    """
    absent_task = Request(
        method="GET",
        path=_ABSENT_TASK,
        shown=_ABSENT_TASK,
        media_type=media_type,
        is_own=True,
    )
    return own_session_request("GET", token, session_id, media_type), absent_task


def is_token_valid(reply: Reply) -> bool | None:
    """Return whether the reply to one of the `token_checks` shows a good token.

    False if the server's own 401 shows an expired one; None if it says nothing, as from
    whatever knows no such resource. What counts is any word of the Enterprise Manager
    about the task, the logon session itself, and the word that this account may not
    look at it.
    """
    if reply.status == UNAUTHORIZED:
        return False if _replies.is_own_refusal(reply) else None
    if reply.request.endswith(_ABSENT_TASK):
        is_task = reply.status == OK and b"task-0" in reply.body
        is_shown = is_task or _replies.is_unknown_task(reply)
    elif reply.status == FORBIDDEN:
        is_shown = _replies.is_error_body(reply)
    else:
        is_shown = reply.status == OK and b"logonsession" in reply.body.lower()
    return True if is_shown else None


def session_id_in(token: Secret | None) -> Secret | None:
    """Return the session ID that newer servers put into the token as base64."""
    if token is None:
        return None
    try:
        text = base64.b64decode(token.reveal(), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return Secret(text) if _SESSION_ID.fullmatch(text) else None
