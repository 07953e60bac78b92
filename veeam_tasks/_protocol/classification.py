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

from enum import Enum

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._model import Task
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

_OK, _REDIRECT, _UNAUTHORIZED, _FORBIDDEN = 200, 300, 401, 403


class ReplyKind(Enum):
    """What one reply proves about the task that was asked for."""

    TASK = "the task, as described"
    UNKNOWN = "the Enterprise Manager says that it does not know the ID"
    UNAUTHORIZED = "the token is refused"
    FORBIDDEN = "the Enterprise Manager says that this account may not read it"
    UNUSABLE = "nothing about the task"


def classify(
    reply: Reply, task_id: str, secrets: Secrets
) -> tuple[ReplyKind, Task | VeeamTasksError]:
    """Return what a reply proves, with the task or the error that it carries."""
    status = reply.status
    if _OK <= status < _REDIRECT:
        try:
            return ReplyKind.TASK, _replies.decode_task(reply, secrets, asked=task_id)
        except VeeamTasksError as malformed:
            # Its frames hold the reply, which may echo a secret.
            return ReplyKind.UNUSABLE, malformed.with_traceback(None)
    said = _replies.ErrorReply(reply)
    error = said.error(secrets)
    if status == _UNAUTHORIZED and said.is_own_refusal:
        return ReplyKind.UNAUTHORIZED, error
    if said.is_unknown_task:
        another = said.about_another(task_id, secrets)
        kind = ReplyKind.UNKNOWN if another is None else ReplyKind.UNUSABLE
        return kind, another or error
    if status == _FORBIDDEN and (said.is_own or not reply.body.strip()):
        return ReplyKind.FORBIDDEN, error
    return ReplyKind.UNUSABLE, error
