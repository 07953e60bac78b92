"""Which reply to the GET of one task proves what; pure.

| reply to the GET of one task                                      | proves         |
| ----------------------------------------------------------------- | -------------- |
| 2xx with a task of the ID that was asked for                      | `TASK`         |
| 404 with an error body of the Enterprise Manager, or an empty one | `UNKNOWN`      |
| 500, 400 with its words "no ... task with id", and no other ID    | `UNKNOWN`      |
| 401 of the Enterprise Manager, not of a proxy or a portal         | `UNAUTHORIZED` |
| 403 with an error body of the Enterprise Manager, or an empty one | `FORBIDDEN`    |
| anything else: HTML, another task, 3xx, 4xx, 5xx, nonsense        | `UNUSABLE`     |

No reply at all (reset, cut short, timed out) is `UNUSABLE` too, though nothing is
classified then: the transport raises. What each kind does to a watched task stands in
`_engine/decisions.py`.
"""

import re
from enum import Enum

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._model import JobSession, Task
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import (
    FORBIDDEN,
    NOT_FOUND,
    UNAUTHORIZED,
    Reply,
)
from veeam_tasks._protocol.sessions import (
    SessionPage,
    decode_session,
    decode_sessions,
)
from veeam_tasks._redaction import Secrets

_UNKNOWN_TOO = (400, 500)
_NO_QUERY = (400, 404, 501)
_UNKNOWN_WORDS = re.compile(
    r"\bno\b.{0,80}\bwith id\b|\bsession\b.{0,120}\b(?:not found|not exist|unknown)\b",
    re.IGNORECASE | re.DOTALL,
)


class ReplyKind(Enum):
    """What one reply proves about the task that was asked for."""

    TASK = "the task, as described"
    SESSION = "the job session, as described"
    UNKNOWN = "the Enterprise Manager says that it does not know the ID"
    UNAUTHORIZED = "the token is refused"
    FORBIDDEN = "the Enterprise Manager says that this account may not read it"
    UNUSABLE = "nothing about the task"


def refuses_token(reply: Reply) -> bool:
    """Tell whether the Enterprise Manager, not a proxy or a portal, refuses the token.

    No other 401 is a reason to log on anew.
    """
    # The body is not parsed for any other status.
    return reply.status == UNAUTHORIZED and _replies.ErrorReply(reply).refuses_token


def classify(
    reply: Reply, task_id: str, secrets: Secrets
) -> tuple[ReplyKind, Task | VeeamTasksError]:
    """Return what a reply proves, with the task or the error that it carries."""
    status = reply.status
    if reply.is_success:
        try:
            return ReplyKind.TASK, _replies.decode_task(reply, secrets, asked=task_id)
        except VeeamTasksError as malformed:
            # Its frames hold the reply, which may echo a secret.
            return ReplyKind.UNUSABLE, malformed.with_traceback(None)
    said = _replies.ErrorReply(reply)
    error = said.error(secrets)
    if said.refuses_token:
        return ReplyKind.UNAUTHORIZED, error
    if said.is_unknown_task:
        another = said.about_another(task_id, secrets)
        kind = ReplyKind.UNKNOWN if another is None else ReplyKind.UNUSABLE
        return kind, another or error
    if status == FORBIDDEN and (said.is_own or not reply.body.strip()):
        return ReplyKind.FORBIDDEN, error
    return ReplyKind.UNUSABLE, error


def classify_session(
    reply: Reply, session_id: str, secrets: Secrets, *, is_seen: bool
) -> tuple[ReplyKind, JobSession | VeeamTasksError]:
    """Return what a reply to the GET of one job session proves, with its content.

    A job session that a task links to may take its time to appear: until it was seen,
    an empty reply and each error of the server's own say that it is not there yet. Once
    it was seen, a 500 has to say that it is unknown, since 500 may mean anything.
    """
    status = reply.status
    if reply.is_success:
        try:
            session = decode_session(reply, secrets)
            if session.session_id == session_id:
                return ReplyKind.SESSION, session
            problem = f"it is {session.session_id}, although {session_id} was asked for"
            malformed: VeeamTasksError = _document.malformed(reply, problem, secrets)
        except VeeamTasksError as caught:
            malformed = caught.with_traceback(None)
        is_empty = not reply.body.strip(_document.BOM_AND_BLANKS)
        is_unknown = is_empty and not is_seen
        return ReplyKind.UNKNOWN if is_unknown else ReplyKind.UNUSABLE, malformed
    said = _replies.ErrorReply(reply)
    error = said.error(secrets)
    if said.refuses_token:
        return ReplyKind.UNAUTHORIZED, error
    is_own = said.is_own or not reply.body.strip()
    if status == FORBIDDEN and is_own:
        return ReplyKind.FORBIDDEN, error
    is_unknown = status == NOT_FOUND and is_own
    if status in _UNKNOWN_TOO and said.is_own:
        words = said.message(secrets) or ""
        is_unknown = not is_seen or _UNKNOWN_WORDS.search(words) is not None
    return ReplyKind.UNKNOWN if is_unknown else ReplyKind.UNUSABLE, error


def classify_query(
    reply: Reply, secrets: Secrets
) -> tuple[ReplyKind, SessionPage | VeeamTasksError]:
    """Return what a reply to a query for job sessions proves, with its content.

    `UNKNOWN` where the server does not take the query: 400 to a filter, 404 and 501.
    """
    if reply.is_success:
        try:
            return ReplyKind.SESSION, decode_sessions(reply, secrets)
        except VeeamTasksError as malformed:
            return ReplyKind.UNUSABLE, malformed.with_traceback(None)
    said = _replies.ErrorReply(reply)
    error = said.error(secrets)
    if said.refuses_token:
        return ReplyKind.UNAUTHORIZED, error
    if not said.is_own and reply.body.strip():
        return ReplyKind.UNUSABLE, error
    if reply.status == FORBIDDEN:
        return ReplyKind.FORBIDDEN, error
    is_refused = reply.status in _NO_QUERY
    return ReplyKind.UNKNOWN if is_refused else ReplyKind.UNUSABLE, error
