"""The error tree.

Root `VeeamTasksError`; marked (r) what polling rides out (`retryable`):

* `TransportError` (r): no usable reply came
    * `RequestTimeoutError` (r)
    * `CertificateError`: the server is not trusted
    * `SubmitUncertainError`: the action may have been carried out
* `StatusError`: the server answered with an error
    * `LogonError`, `ForbiddenError`, `TaskNotFoundError`
    * `ServerBusyError` (r): 503, 429
* `MalformedReplyError` (r): a reply that the protocol does not allow
* `ClosedError`: used before it was opened or after it was closed
* `TaskFailedError`, `TaskLostError`: what became of a task
* `SessionFailedError`, `SessionLostError`: what became of a job session
* `WatchTimeoutError`: a watch ran out of its own time

Wrong arguments are no part of the tree: `ArgumentError` is a ValueError.

Every class composes its own message from typed fields. What the server said is shown
with control characters visible; secrets were hidden by whoever passed the text in.
"""

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar, get_args

from veeam_tasks._redaction import of_the_package, quoted, visible

if TYPE_CHECKING:
    from veeam_tasks._events import Report
    from veeam_tasks._model import JobSession, Task, TaskSession

TransportKind = Literal[
    "refused",
    "unknown_host",
    "no_route",
    "no_tls",
    "tls",
    "proxy",
    "disconnected",
    "timeout",
    "password",
    "patience",
    "other",
]
"""What kept a reply from coming, for whoever writes words of his own."""

MAYBE_CARRIED_OUT = (
    "It may have been carried out: see with fetch_all() which tasks there are now"
    " before you send it again"
)
"""What is true of an action, and of the DELETE of a task, without a clear answer."""


def _revive(
    cls: type["VeeamTasksError"], text: str, state: dict[str, object]
) -> "VeeamTasksError":
    error = cls.__new__(cls, text)
    error.args = (text,)
    error.__dict__.update(state)
    return error


class VeeamTasksError(Exception):
    """The root of all errors that this package raises about its work."""

    retryable: ClassVar[bool] = False
    """Whether a watch goes on after it; never a licence to repeat a `submit`."""

    def __init__(self, text: str = "") -> None:
        super().__init__(visible(text))

    def __reduce__(self) -> tuple[object, ...]:
        return _revive, (type(self), str(self), self.__dict__.copy())


ErrorT = TypeVar("ErrorT", bound=BaseException)


def fresh(error: ErrorT) -> ErrorT:
    """Return a copy of an error of ours, so that raisers do not share one traceback."""
    if not isinstance(error, VeeamTasksError):
        return error
    copy = _revive(type(error), str(error), error.__dict__)
    assert isinstance(copy, type(error))
    return copy


class ArgumentError(ValueError):
    """An argument is wrong; nothing was sent. The caller corrects it.

    Attributes:
        parameter: The name of the argument, as ``ca_file``.
        problem: What is wrong with it, in words that do not name it.
        advice: What to pass instead, in words of Python; may be empty.
        shown: The value, quoted and short, or empty where it must not be repeated.
        others: The names of the arguments that it contradicts.
    """

    parameter: str
    problem: str
    advice: str
    shown: str
    others: tuple[str, ...]

    def __init__(
        self,
        *,
        parameter: str,
        problem: str,
        shown: str = "",
        advice: str = "",
        others: tuple[str, ...] = (),
        subject: str | None = None,
    ) -> None:
        if subject is None:
            subject = f"{parameter}={shown}:" if shown else parameter
        text = f"{subject} {problem}"
        super().__init__(visible(f"{text}; {advice}" if advice else text))
        self.parameter = parameter
        self.problem = problem
        self.advice = advice
        self.shown = shown
        self.others = others

    def __reduce__(self) -> tuple[object, ...]:
        return _revive_argument, (type(self), str(self), self.__dict__.copy())


def _revive_argument(
    cls: type[ArgumentError], text: str, state: dict[str, object]
) -> ArgumentError:
    error = cls.__new__(cls, text)
    error.__dict__.update(state)
    return error


class TransportError(VeeamTasksError):
    """No usable reply came. Whoever runs the network or the server must act.

    Attributes:
        request: What was asked, as ``GET https://em.example:9398/api/tasks/task-1``.
        reason: What happened instead.
        connected: False if no connection could be made, so that nothing was sent.
        kind: Which of the usual causes it was: ``"refused"``, ``"unknown_host"``,
            ``"no_route"``, ``"no_tls"``, ``"tls"``, ``"proxy"``, ``"disconnected"``,
            ``"timeout"``, ``"password"`` (none could be had), ``"patience"`` (it is
            over), or ``"other"``.
        detail: `reason` without the name of a foreign class before it.
    """

    retryable = True
    request: str
    reason: str
    connected: bool
    kind: TransportKind
    detail: str

    def __init__(
        self,
        *,
        request: str,
        reason: str,
        connected: bool = True,
        kind: TransportKind = "other",
        detail: str | None = None,
    ) -> None:
        super().__init__(self._compose(request, reason))
        assert kind in get_args(TransportKind)
        self.request = request
        self.reason = reason
        self.connected = connected
        self.kind = kind
        self.detail = reason if detail is None else detail

    def _compose(self, request: str, reason: str) -> str:
        return f"{request}: {reason}"


class RequestTimeoutError(TransportError):
    """The reply did not come within `request_timeout`. The server is slow or gone."""


class CertificateError(TransportError):
    """The server's certificate is not trusted, so nothing was sent to it.

    Whoever runs the server confirms the fingerprint; then pin it or name the CA.

    Attributes:
        fingerprint: SHA-256 of the certificate that was shown, or None.
        subject: Whom that certificate names, or None.
        expires: When it ends, as it says itself, or None.
    """

    retryable = False
    fingerprint: str | None
    subject: str | None
    expires: str | None

    def __init__(
        self,
        *,
        request: str,
        reason: str,
        detail: str | None = None,
        fingerprint: str | None = None,
        subject: str | None = None,
        expires: str | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.subject = subject
        self.expires = expires
        super().__init__(request=request, reason=reason, connected=False, detail=detail)

    def _compose(self, request: str, reason: str) -> str:
        text = f"{request}: the server's certificate is not trusted: {reason}."
        if self.fingerprint is None:
            return f"{text} Name its CA with ca_file=, or pin it with fingerprint=."
        about = [f"SHA-256 {self.fingerprint}"]
        if self.subject:
            about.append(f"subject {self.subject}")
        if self.expires:
            about.append(f"expires {self.expires}")
        return (
            f"{text} It showed: {', '.join(about)}. Compare that with what the server's"
            f' own console shows; if it is the same, pass fingerprint="'
            f'{self.fingerprint}", or name the CA with ca_file=.'
        )


class SubmitUncertainError(TransportError):
    """An action was sent and no answer came: it may have been carried out.

    The caller finds out with `fetch_all()` before sending it again.
    """

    retryable = False

    def _compose(self, request: str, reason: str) -> str:
        return f"{request}: {reason}. {MAYBE_CARRIED_OUT}."


class StatusError(VeeamTasksError):
    """The server answered with an error status.

    Attributes:
        request: What was asked.
        status: The HTTP status code.
        message: What the server said, or None if it said nothing readable.
        advice: What this may mean or what to do, in words of Python; may be empty.
    """

    request: str
    status: int
    message: str | None
    advice: str

    def __init__(
        self, *, request: str, status: int, message: str | None, advice: str = ""
    ) -> None:
        said = "without a readable message" if message is None else quoted(message)
        text = f"{request}: the server answered {status}, {said}"
        super().__init__(f"{text}. {advice}" if advice else text)
        self.request = request
        self.status = status
        self.message = message
        self.advice = advice

    @property
    def may_be_carried_out(self) -> bool:
        """Whether an action was answered so that nobody knows whether it was done."""
        return self.advice == MAYBE_CARRIED_OUT


class LogonError(StatusError):
    """The logon, or the token, was refused. The owner of the account must act.

    It is final: nothing is asked again until `open()`, so that no account is locked.
    """


class ForbiddenError(StatusError):
    """This account may not do that. The owner of the account must act."""


class TaskNotFoundError(StatusError):
    """The server knows no such task, or none in this logon session."""


class ServerBusyError(StatusError):
    """503 or 429: overload or maintenance. It passes; whoever runs the server may know.

    Attributes:
        retry_after: Seconds that the server asked to wait, or None.
    """

    retryable = True
    retry_after: float | None

    def __init__(
        self,
        *,
        request: str,
        status: int,
        message: str | None,
        retry_after: float | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(request=request, status=status, message=message, advice=advice)
        self.retry_after = retry_after


class MalformedReplyError(VeeamTasksError):
    """A reply that the protocol does not allow: a proxy, a wrong port, a fault.

    Attributes:
        request: What was asked.
        problem: What is wrong with the reply.
        excerpt: The first bytes of the body, made readable; empty for a logon.
        may_be_carried_out: Whether it is the answer to an action that may be done.
    """

    retryable = True
    request: str
    problem: str
    excerpt: str
    may_be_carried_out: bool

    def __init__(
        self,
        *,
        request: str,
        problem: str,
        excerpt: str = "",
        may_be_carried_out: bool = False,
    ) -> None:
        text = f"{request}: {problem}"
        if may_be_carried_out:
            text = f"{text}. {MAYBE_CARRIED_OUT}"
        super().__init__(f"{text}; it begins {excerpt}" if excerpt else text)
        self.request = request
        self.problem = problem
        self.excerpt = excerpt
        self.may_be_carried_out = may_be_carried_out


class ClosedError(VeeamTasksError):
    """Something was used before it was opened or after it was closed.

    The caller opens it, or holds it open for longer.

    Attributes:
        what: What was used: the manager, the watch.
        advice: Why that cannot be, and what to do.
    """

    what: str
    advice: str

    def __init__(self, *, what: str, advice: str) -> None:
        super().__init__(f"{what}: {advice}")
        self.what = what
        self.advice = advice


class TaskFailedError(VeeamTasksError):
    """A task finished without success. The caller decides what that means.

    Attributes:
        task: The finished task, with the server's result.
    """

    task: "Task"

    def __init__(self, *, task: "Task") -> None:
        result = task.result
        if result is None:
            said = "the server gave no result"
        elif result.message is None:
            said = "the server gave no message"
        else:
            said = quoted(result.message)
        operation = f" ({task.operation})" if task.operation else ""
        super().__init__(f"{task.task_id}{operation} failed: {said}")
        self.task = task


class TaskLostError(VeeamTasksError):
    """The client can no longer learn of a task; its operation may well go on.

    The operator finds out on the server what became of the operation.

    Attributes:
        task_id: The task that was lost.
        last_seen: The last known task, or None if it was never seen.
        reason: Why it counts as lost.
        advice: What to do if it is a task of another logon session; else empty.
        last_error: What the server answered last, or None.
        renewed_at: When the logon session that knew it was renewed, or None.
    """

    task_id: str
    last_seen: "Task | None"
    reason: str
    advice: str
    last_error: VeeamTasksError | None
    renewed_at: datetime | None

    def __init__(
        self,
        *,
        task_id: str,
        last_seen: "Task | None",
        reason: str,
        advice: str = "",
        last_error: VeeamTasksError | None = None,
        renewed_at: datetime | None = None,
    ) -> None:
        text = f"{task_id} is lost ({_task_seen(last_seen)}): {reason}"
        super().__init__(f"{text}. {advice}" if advice else text)
        self.task_id = task_id
        self.last_seen = last_seen
        self.reason = reason
        self.advice = advice
        self.last_error = last_error
        self.renewed_at = renewed_at


class SessionFailedError(VeeamTasksError):
    """A job session ended without success. The caller decides what that means.

    Attributes:
        task: The task that started it; None if that is not known.
        session: The job session at its end.
        failures: Its machines that did not end with Success, with their reasons; empty
            if they could not be read.
    """

    task: "Task | None"
    session: "JobSession"
    failures: "tuple[TaskSession, ...]"

    def __init__(
        self,
        *,
        task: "Task | None",
        session: "JobSession",
        failures: "tuple[TaskSession, ...]" = (),
    ) -> None:
        title = session.job_name or session.vm_name or session.name
        ended = session.raw_result
        if not ended or ended == "None":
            ended = "without a result"
        text = f"{session.kind if title is None else quoted(title)} ended {ended}"
        reasons = [
            f"{one.vm_name or 'a machine'}: {one.reason or one.raw_result or 'unknown'}"
            for one in sorted(failures, key=_by_weight)
        ]
        if not reasons and session.failure_message:
            reasons = [session.failure_message]
        shown = "; ".join(reasons[:_REASONS_SHOWN])
        more = len(reasons) - _REASONS_SHOWN
        if shown:
            text = f"{text}: {shown}{f' (+{more} more)' if more > 0 else ''}"
        super().__init__(text if task is None else f"{task.task_id}: {text}")
        self.task = task
        self.session = session
        self.failures = failures


_REASONS_SHOWN = 3


def _by_weight(machine: "TaskSession") -> bool:
    """Let failures come before warnings."""
    return machine.raw_result != "Failed"


class SessionLostError(VeeamTasksError):
    """The client can no longer learn of a job session, or never found it.

    The job may well go on: the operator finds out on the server what became of it.

    Attributes:
        task_id: The task that started it.
        task: That task as it was seen last, or None.
        last_seen: The job session as it was seen last; None if it was never found.
        reason: Why it counts as lost.
    """

    task_id: str
    task: "Task | None"
    last_seen: "JobSession | None"
    reason: str

    def __init__(
        self,
        *,
        task_id: str,
        task: "Task | None",
        last_seen: "JobSession | None",
        reason: str,
    ) -> None:
        seen = _session_seen(last_seen)
        super().__init__(f"{task_id}: the job is lost ({seen}): {reason}")
        self.task_id = task_id
        self.task = task
        self.last_seen = last_seen
        self.reason = reason


def _task_seen(task: "Task | None") -> str:
    if task is None:
        return "it was never seen"
    return ", ".join(filter(None, (f"last seen {task.raw_state}", task.operation)))


def _session_seen(session: "JobSession | None") -> str:
    if session is None:
        return "its job session was never found"
    return f"its job session was last seen {session.raw_state}"


def why_lost(error: VeeamTasksError) -> str:
    """Return what is to be read behind a task ID and the word for "lost"."""
    if isinstance(error, SessionLostError):
        return visible(f"{_session_seen(error.last_seen)}: {error.reason}")
    if isinstance(error, TaskLostError):
        text = f"{_task_seen(error.last_seen)}: {error.reason}"
        return visible(f"{text}. {error.advice}" if error.advice else text)
    return str(error)


def _not_over(report: "Report") -> str:
    """Return what goes on, and which finished tasks have a job session yet to find."""
    searched: list[str] = []
    going: list[str] = []
    for task_id in report.unfinished:
        event = report.outcomes[task_id]
        is_searched = event is not None and event.stage == "searching"
        (searched if is_searched else going).append(task_id)
    total, parts = len(report.outcomes), []
    if searched:
        parts.append(
            f"the job session of {len(searched)} of {total} tasks not found yet"
            f" ({_first_of(searched)})"
        )
    if going or not searched:
        parts.append(
            f"{len(going)} of {total} tasks unfinished ({_first_of(going)});"
            " the operations go on"
        )
    return " and ".join(parts)


def _first_of(task_ids: list[str]) -> str:
    return ", ".join(task_ids[:3]) + (", ..." if len(task_ids) > 3 else "")  # noqa: PLR2004


class WatchTimeoutError(VeeamTasksError, TimeoutError):
    """A watch or a wait ran out of its own time; the operations go on.

    Attributes:
        report: What was known at that moment.
        seconds: The time that there was.
        trouble: What went wrong last, or None.
    """

    report: "Report"
    seconds: float
    trouble: str | None

    def __init__(
        self, *, seconds: float, report: "Report", trouble: str | None = None
    ) -> None:
        text = f"time ran out after {seconds:g} s with {_not_over(report)}"
        super().__init__(text if trouble is None else f"{text}; {trouble}")
        self.report = report
        self.seconds = seconds
        self.trouble = trouble


of_the_package(
    ArgumentError,
    CertificateError,
    ClosedError,
    ForbiddenError,
    LogonError,
    MalformedReplyError,
    RequestTimeoutError,
    ServerBusyError,
    SessionFailedError,
    SessionLostError,
    StatusError,
    SubmitUncertainError,
    TaskFailedError,
    TaskLostError,
    TaskNotFoundError,
    TransportError,
    VeeamTasksError,
    WatchTimeoutError,
)
