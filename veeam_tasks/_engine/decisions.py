"""Which reply proves what: the one table, and the function that reads it.

| reply to the GET of one task                                      | proves    |
| ----------------------------------------------------------------- | --------- |
| 2xx with a task of the ID that was asked for                      | `TASK`    |
| 404 with an error body of the Enterprise Manager, or an empty one | `UNKNOWN` |
| 500, 400 with its words "no ... task with id", and no other ID    | `UNKNOWN` |
| 401 of the Enterprise Manager, not of a proxy or a portal         | `REFUSED` |
| 403 with an error body of the Enterprise Manager, or an empty one | `DENIED`  |
| anything else: HTML, another task, 3xx, 4xx, 5xx, nonsense        | `TROUBLE` |
| no reply: reset, cut short, timed out                             | `TROUBLE` |

| verdict   | what it does                                                      |
| --------- | ----------------------------------------------------------------- |
| `TASK`    | opens the gate; is final if Finished with a result, or Finished   |
|           | without one after three more, or LOST if a renewal shows that it  |
|           | is another task; else polled on                                   |
| `UNKNOWN` | opens the gate; LOST at the second with no `TASK` in between, a   |
|           | pause later                                                       |
| `DENIED`  | the same                                                          |
| `REFUSED` | asks whether the token is void: if so, it is renewed and the task |
|           | is asked for again at once; if not, LOST when it goes on for this |
|           | task alone for three rounds; `TROUBLE` when it goes on for all    |
| `TROUBLE` | may close the gate; polled on, at last at the longest pause; LOST |
|           | if that went on for this task alone for as long as `patience`     |
"""

from enum import Enum

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._model import Task
from veeam_tasks._protocol import replies as _wire
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

_OK, _REDIRECT, _UNAUTHORIZED, _FORBIDDEN = 200, 300, 401, 403


class ReplyKind(Enum):
    """What one reply proves about the task that was asked for."""

    TASK = "the task, as described"
    UNKNOWN = "the Enterprise Manager says that it does not know the ID"
    REFUSED = "the token is refused"
    FORBIDDEN = "the Enterprise Manager says that this account may not read it"
    UNUSABLE = "nothing about the task"


def classify(
    reply: Reply, task_id: str, secrets: Secrets
) -> tuple[ReplyKind, Task | VeeamTasksError]:
    """Return what a reply proves, with the task or the error that it carries."""
    status = reply.status
    if _OK <= status < _REDIRECT:
        try:
            return ReplyKind.TASK, _wire.decode_task(reply, secrets, asked=task_id)
        except VeeamTasksError as malformed:
            # Its frames hold the reply, which may echo a secret.
            return ReplyKind.UNUSABLE, malformed.with_traceback(None)
    error = _wire.status_error(reply, secrets)
    if status == _UNAUTHORIZED and _wire.is_own_refusal(reply):
        return ReplyKind.REFUSED, error
    if _wire.is_unknown_task(reply):
        another = _wire.about_another(reply, task_id, secrets)
        return (
            (ReplyKind.UNKNOWN, error)
            if another is None
            else (ReplyKind.UNUSABLE, another)
        )
    spoken = _wire.is_error_body(reply) or not reply.body.strip()
    if status == _FORBIDDEN and spoken:
        return ReplyKind.FORBIDDEN, error
    return ReplyKind.UNUSABLE, error
