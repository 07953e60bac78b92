"""Actions that the server answers with a task: the request, and what its reply means.

87 endpoints do so (56 POST, 18 DELETE, 13 PUT), with 200, 201, 202 or 204; whether
there is a task is seen from the body alone.
"""

from collections.abc import Mapping

from yarl import URL

from veeam_tasks._errors import (
    MAYBE_CARRIED_OUT,
    ArgumentError,
    MalformedReplyError,
    ServerBusyError,
    StatusError,
    TaskNotFoundError,
)
from veeam_tasks._model import Link, Task
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import (
    NO_CONTENT,
    NOT_IMPLEMENTED,
    SERVER_ERROR,
    UNAVAILABLE,
    Method,
    Reply,
    Request,
)
from veeam_tasks._protocol.urls import check_same_server, resource_path
from veeam_tasks._redaction import Secrets, quoted

Body = str | bytes | Mapping[str, object]

_METHODS: dict[str, Method] = {"POST": "POST", "PUT": "PUT", "DELETE": "DELETE"}


def action_request(
    path: str | Link,
    body: Body | None,
    method: str,
    *,
    base: URL,
    media_type: str,
    secrets: Secrets,
) -> Request:
    """Return the request of an action.

    A body is XML and is sent as such, with an XML reply asked for, whatever the
    manager accepts: the server reads a body as what Accept names (9.5 Update 4).

    Raises:
        ValueError, TypeError: The path, the method or the body is not usable.
    """
    verb = _METHODS.get(method.upper()) if isinstance(method, str) else None
    if verb is None:
        problem = "an action is a POST, PUT or DELETE"
        raise ArgumentError(parameter="method", problem=problem, shown=quoted(method))
    relative = resource_path(path, base, secrets.hide_in_path)
    if isinstance(path, str):
        # A Link came from the server, whose idea of its own host may differ.
        check_same_server(path, base, secrets.hide_in_path)
    content = _encoded(body)
    return Request(
        method=verb,
        path=relative,
        shown=secrets.hide_in_path(relative),
        body=content,
        media_type=media_type if content is None else "application/xml",
    )


def task_started(reply: Reply, secrets: Secrets) -> Task:
    """Return the task that an action was answered with.

    Raises:
        StatusError: Refused; a 5xx other than 501 may have been carried out.
        MalformedReplyError: The reply has no task; it may have been carried out.
    """
    check_carried_out(reply, secrets)
    problem = f"answered {reply.status} without a task"
    if reply.status != NO_CONTENT:
        try:
            return _replies.decode_task(reply, secrets, asked=None)
        except MalformedReplyError as error:
            problem = (
                f"answered {reply.status} without a readable task: {error.problem}"
            )
    raise MalformedReplyError(
        request=reply.request,
        problem=problem,
        excerpt=secrets.excerpt(reply.body),
        may_be_carried_out=True,
    )


def check_carried_out(reply: Reply, secrets: Secrets) -> None:
    """Raise unless the server says that it carried an action out.

    Raises:
        TaskNotFoundError: The server knows no such task.
        StatusError: It was refused; a 5xx other than 501 may have been carried out.
    """
    if reply.is_success:
        return
    error = _replies.status_error(reply, secrets)
    # A task that the server does not know is a 500 too, and nobody does what he says
    # that he cannot do.
    is_refused = isinstance(error, TaskNotFoundError) or reply.status == NOT_IMPLEMENTED
    if reply.status >= SERVER_ERROR and not is_refused:
        error = _uncertain_status(reply, secrets)
    raise error


def check_deleted(reply: Reply, secrets: Secrets) -> None:
    """Raise unless the Enterprise Manager says that it deleted a task.

    It does so by 204 without a body (``delete_task_id`` reference page); any document
    of its own in a 2xx is taken too.

    Raises:
        TaskNotFoundError: The server knows no such task.
        StatusError: It was refused; a 5xx other than 501 may have been carried out.
        MalformedReplyError: Someone else answered; it may have been carried out.
    """
    check_carried_out(reply, secrets)
    if not reply.body.strip(_document.BOM_AND_BLANKS):
        return
    try:
        root, _ = _document.parse(reply, secrets)
    except MalformedReplyError as error:
        problem = error.problem
    else:
        # The name of a root in a foreign namespace keeps that, with a colon.
        is_foreign = root.lower() == "html" or ":" in root
        if not is_foreign and not _replies.is_error_body(reply):
            return
        problem = f"it is {'no reply' if is_foreign else 'an error'} of the server"
    raise MalformedReplyError(
        request=reply.request,
        problem=f"answered {reply.status}, but {problem}",
        excerpt=secrets.excerpt(reply.body),
        may_be_carried_out=True,
    )


def _uncertain_status(reply: Reply, secrets: Secrets) -> StatusError:
    message = _replies.error_message(reply, secrets)
    if reply.status == UNAVAILABLE:
        return ServerBusyError(
            request=reply.request,
            status=reply.status,
            message=message,
            retry_after=reply.retry_after,
            advice=MAYBE_CARRIED_OUT,
        )
    return StatusError(
        request=reply.request,
        status=reply.status,
        message=message,
        advice=MAYBE_CARRIED_OUT,
    )


def _encoded(body: Body | None) -> bytes | None:
    if body is None:
        return None
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    if isinstance(body, Mapping):
        return _document.encode(body)
    text = f"a body is XML as str or bytes, or a mapping, not {type(body).__name__}"
    raise TypeError(text)
