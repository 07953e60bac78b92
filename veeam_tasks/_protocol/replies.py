"""Replies to values: tasks, pages of them, logon sessions and errors; pure.

Every function takes a whole `Reply` and raises nothing but a `VeeamTasksError`.
Facts come from the reference pages named at each function, below
https://helpcenter.veeam.com/docs/vbr/em_rest/, and from published captures.
"""

import re
from collections.abc import Mapping
from typing import Any

import attrs

from veeam_tasks._errors import (
    ForbiddenError,
    MalformedReplyError,
    ServerBusyError,
    StatusError,
    TaskNotFoundError,
)
from veeam_tasks._model import Task
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import fast_path as _fast_path
from veeam_tasks._protocol import tasks as _tasks
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._protocol.messages import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_FOUND,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    UNAVAILABLE,
    Reply,
)
from veeam_tasks._redaction import Secret, Secrets, visible

_BUSY = {TOO_MANY_REQUESTS, UNAVAILABLE}
_REDIRECTS = range(300, 400)

_MAX_MESSAGE = 500
_MAX_SEARCHED = 16 * _MAX_MESSAGE
_MAX_SESSION_ID = 256

_UNKNOWN_TASK = re.compile(r"no .{0,80}\btask with id\b", re.IGNORECASE | re.DOTALL)
_UNKNOWN_ID = re.compile(
    r"\btask with id\s*\[\s*(task-[0-9]+)\s*\]", re.IGNORECASE | re.ASCII
)
_ONE_TASK = re.compile(r"/tasks/(task-[0-9]+)(?:\?.*)?", re.ASCII)
# nginx; Apache; Go; Tomcat. Behind a proxy it is the proxy's port, hence our http://.
_WANTS_TLS = re.compile(
    rb"plain HTTP request was sent to HTTPS port"
    rb"|speaking plain HTTP to an SSL-enabled server port"
    rb"|sent an HTTP request to an HTTPS server"
    rb"|combination of host and port requires TLS"
)
_CHALLENGE = re.compile(r"\bBasic\s+realm\s*=\s*\"?RestSvc\b", re.IGNORECASE)
_JSON_ERROR = {"@StatusCode", "FirstChanceExceptionMessage"}


_BETWEEN = (
    "It is not the Enterprise Manager that says so but something in between, such as a"
    " proxy or a portal"
)


@attrs.frozen(kw_only=True)
class Page:
    """One page of a collection of tasks.

    Attributes:
        tasks: The tasks in the server's order; no ID stands twice.
        next_path: Where the next page is, below ``/api/``; None on the last page.
        number: Which page this is, from 1, if the server said.
        pages: How many there are, if the server said.
    """

    tasks: tuple[Task, ...]
    next_path: str | None = None
    number: int | None = None
    pages: int | None = None


def decode_task(reply: Reply, secrets: Secrets, *, asked: str | None = None) -> Task:
    """Return the task that a reply describes (``tasks_id`` reference page).

    A ``<Tasks>`` around a single task is accepted, since some pages of the reference
    show it.

    Args:
        reply: A reply to the GET of a task, or to an action.
        secrets: Hidden from messages.
        asked: The task ID that was asked for, or None for an action's reply. The
            ID in the body counts, not the one in its Href.

    Raises:
        MalformedReplyError: It is no task, or another one than was asked for.
    """
    is_html = _document.is_html(reply.content_type)
    plain = None if is_html else plain_task(reply.body, secrets)
    if plain is not None and (asked is None or plain.task_id == asked):
        return plain

    def read(name: str, value: Any) -> Task:
        task = _tasks.task_from_tree(_tasks.single(name, value), secrets)
        if asked is None or task.task_id == asked:
            return task
        problem = f"it describes {task.task_id}, although {asked} was asked for"
        raise DocumentError(problem)

    return _document.decode(reply, secrets, read)


def plain_task(body: bytes, secrets: Secrets) -> Task | None:
    """Return the task of a body in the plain form, else None: have it parsed."""
    task = _fast_path.parse_task(body)
    # In the plain form every character is one byte.
    if task is None or secrets.is_in(body.decode("latin-1")):
        return None
    return task


def decode_tasks(reply: Reply, secrets: Secrets, *, resolve: bool = True) -> Page:
    """Return the tasks of a collection or of a query, and where it goes on.

    Both ``GET /tasks`` and ``GET /query?type=Task`` are understood (``tasks`` and
    ``get_query_task`` reference pages).

    Args:
        reply: A reply to the GET of a collection or a query.
        secrets: Hidden from messages.
        resolve: False refuses XML that must be read a second time.

    Raises:
        MalformedReplyError: It is no collection of tasks, or one stands in it twice.
    """

    def read(name: str, value: Any) -> Page:
        members, paging = _tasks.collection(name, value)
        tasks = tuple([_tasks.task_from_tree(item, secrets) for item in members])
        if len({task.task_id for task in tasks}) < len(tasks):
            problem = "a task stands in it twice"
            raise DocumentError(problem)
        return Page(
            tasks=tasks,
            next_path=_tasks.next_path(paging),
            number=_tasks.count(paging, "@PageNum"),
            pages=_tasks.count(paging, "@PagesCount"),
        )

    return _document.decode(reply, secrets, read, resolve=resolve)


def decode_logon(reply: Reply, secrets: Secrets) -> Secret | None:
    """Return the session ID from a logon's body (``logging_on`` reference page).

    None if the body shows none: the token in the header is what counts. The body is
    secret, so no error tells of it; `secrets` learns the session ID.
    """
    try:
        name, value = _document.parse(reply, None)
        if name not in {"", "LogonSession"} or type(value) is not dict:
            return None
        session_id = _tasks.text(value, "SessionId") or _tasks.text(value, "@SessionId")
    except (MalformedReplyError, DocumentError):
        return None
    if session_id is None or len(session_id) > _MAX_SESSION_ID:
        return None
    secrets.add(session_id)
    return Secret(session_id)


def decode_resource(reply: Reply, secrets: Secrets) -> Mapping[str, Any]:
    """Return any resource: XML as xmltodict gives it, JSON as it is.

    XML has its root as the one key; its namespaces are gone, and ``Link`` and
    ``Task`` are lists wherever they stand below the root.

    Raises:
        MalformedReplyError: It is neither XML nor a JSON object.
    """
    return _document.parse_as_is(reply, secrets)


@attrs.frozen
class ErrorReply:
    """A reply with an error status; its body is parsed once, whatever is asked of it.

    Attributes:
        reply: The whole reply.
    """

    reply: Reply
    _body: dict[str, Any] | None = attrs.field(init=False, repr=False)

    @_body.default
    def _parse(self) -> dict[str, Any] | None:
        return _error_body(self.reply)

    def message(self, secrets: Secrets) -> str | None:
        """Return what the Enterprise Manager says, fit to be shown.

        None if its body is no such (HTML, another service, nothing) or has no message.
        """
        return _message(self._body, secrets)

    @property
    def is_own(self) -> bool:
        """Whether the body is an error body of the Enterprise Manager itself."""
        return self._body is not None

    @property
    def is_own_refusal(self) -> bool:
        """Whether a 401 or a 403 is the Enterprise Manager's own word.

        It sends an error body, or challenges with ``Basic Realm=RestSvc`` (public rules
        that recognize it). A proxy's or a portal's page is not: that passes, as its 503
        does, and says nothing of the account or the token. A 401 with nothing at all is
        taken for its own, lest an account be locked by asking again and again.
        """
        reply = self.reply
        if self.is_own:
            return True
        if reply.status != UNAUTHORIZED:
            return False
        if reply.challenge is not None:
            return _CHALLENGE.search(reply.challenge) is not None
        return not reply.body.strip()

    @property
    def refuses_token(self) -> bool:
        """Whether it is the Enterprise Manager's own 401, and no proxy's."""
        return self.reply.status == UNAUTHORIZED and self.is_own_refusal

    @property
    def is_unknown_task(self) -> bool:
        """Whether the Enterprise Manager itself says that it does not know the ID.

        It answers 500 with ``There is no backup task with id [task-297] in current rest
        session`` (a published client's comment); 404 is what the reference documents.
        Only for a reply to the GET or DELETE of one task.
        """
        return _is_unknown_task(self.reply, self._body)

    def foreign_refusal(self) -> StatusError | None:
        """Return the error of a 401 or a 403 that is not the Enterprise Manager's."""
        reply = self.reply
        if reply.status not in {UNAUTHORIZED, FORBIDDEN} or self.is_own_refusal:
            return None
        return StatusError(
            request=reply.request, status=reply.status, message=None, advice=_BETWEEN
        )

    def about_another(self, asked: str, secrets: Secrets) -> MalformedReplyError | None:
        """Return an error if the unknown task is another than the one asked for."""
        other = _other_than(asked, self._body)
        if other is None:
            return None
        problem = f"it says that {other} is unknown, although {asked} was asked for"
        return _document.malformed(self.reply, problem, secrets)

    def error(self, secrets: Secrets) -> StatusError:
        """Return the error that this means.

        A refused logon is the logon's to tell: 401 is a `ForbiddenError` here.
        """
        reply, body = self.reply, self._body
        message = _message(body, secrets)
        request, status = reply.request, reply.status
        if status in {UNAUTHORIZED, FORBIDDEN}:
            foreign = self.foreign_refusal()
            is_silent = reply.challenge is None and not reply.body.strip()
            if foreign is not None and not is_silent:
                return foreign
            return ForbiddenError(request=request, status=status, message=message)
        # A 404 to anything else means that thing.
        one = _ONE_TASK.search(request)
        about_task = (
            status != NOT_FOUND if one is None else _other_than(one[1], body) is None
        )
        if about_task and _is_unknown_task(reply, body):
            return TaskNotFoundError(
                request=request,
                status=status,
                message=message,
                advice="A task is known only in the logon session that started it",
            )
        if status in _BUSY:
            return ServerBusyError(
                request=request,
                status=status,
                message=message,
                retry_after=reply.retry_after,
            )
        advice = _advice(reply, secrets, is_own=self.is_own)
        return StatusError(
            request=request, status=status, message=message, advice=advice
        )


def _advice(reply: Reply, secrets: Secrets, *, is_own: bool) -> str:
    """Return what whoever gets such a status may look at."""
    if reply.status in _REDIRECTS:
        return (
            f"It points to {secrets.hide(visible(reply.location or 'nowhere'))},"
            " which is not followed, since the token would go there too"
        )
    if reply.status == NOT_FOUND and not is_own:
        return (
            "This may not be an Enterprise Manager REST service: its port is 9398"
            " (9419 is another Veeam API)"
        )
    if reply.status == BAD_REQUEST and _is_for_tls(reply):
        return "The port speaks TLS; is https:// meant?"
    return ""


def error_message(reply: Reply, secrets: Secrets) -> str | None:
    """Return what an error body says, see `ErrorReply.message`."""
    return ErrorReply(reply).message(secrets)


def is_error_body(reply: Reply) -> bool:
    """Tell whether the body is an error body of the Enterprise Manager itself."""
    return ErrorReply(reply).is_own


def is_own_refusal(reply: Reply) -> bool:
    """Tell whether a refusal is the server's own, see `ErrorReply.is_own_refusal`."""
    return ErrorReply(reply).is_own_refusal


def is_unknown_task(reply: Reply) -> bool:
    """Tell whether the ID is not known, see `ErrorReply.is_unknown_task`."""
    return ErrorReply(reply).is_unknown_task


def about_another(
    reply: Reply, asked: str, secrets: Secrets
) -> MalformedReplyError | None:
    """Return an error if the unknown task is another than the one asked for."""
    return ErrorReply(reply).about_another(asked, secrets)


def status_error(reply: Reply, secrets: Secrets) -> StatusError:
    """Return the error that a reply with an error status means."""
    return ErrorReply(reply).error(secrets)


def _is_for_tls(reply: Reply) -> bool:
    """Return whether a server says that it was spoken to without TLS."""
    return " http://" in reply.request and _WANTS_TLS.search(reply.body) is not None


def _error_body(reply: Reply) -> dict[str, Any] | None:
    try:
        name, value = _document.parse(reply, None)
    except MalformedReplyError:
        return None
    if type(value) is not dict:
        return None
    if name == "Error":
        known = "@Message" in value or "@StatusCode" in value
    else:
        known = name == "" and "Message" in value and not _JSON_ERROR.isdisjoint(value)
    return value if known else None


def _said(body: dict[str, Any] | None) -> str | None:
    message = None if body is None else body.get("@Message", body.get("Message"))
    return message[:_MAX_SEARCHED].strip() or None if type(message) is str else None


def _message(body: dict[str, Any] | None, secrets: Secrets) -> str | None:
    said = _said(body)
    if said is None:
        return None
    # Hidden before it is cut, so that no half of a secret stays.
    text = visible(secrets.hide(said))
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "..."


def _is_unknown_task(reply: Reply, body: dict[str, Any] | None) -> bool:
    if reply.status == NOT_FOUND:
        return body is not None or not reply.body.strip()
    if reply.status not in {SERVER_ERROR, BAD_REQUEST}:
        return False
    return _UNKNOWN_TASK.search(_said(body) or "") is not None


def _other_than(asked: str, body: dict[str, Any] | None) -> str | None:
    """Return the ID of the unknown task if the server names another than this."""
    found = _UNKNOWN_ID.search(_said(body) or "")
    if found is None or found[1].lower() == asked:
        return None
    return found[1]
