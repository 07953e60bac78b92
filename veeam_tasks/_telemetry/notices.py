"""What a manager tells of itself: notices, each fact once, and records of the log.

The names of the loggers and the fields of their records are public; names of modules
would move with the code. Each record has fields beside its sentence (``extra``), so
that whoever writes JSON gets values; the README of `metrics` lists them.
"""

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import attrs

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._redaction import (
    counted,
    of_the_package,
    visible,
)

_STACK = 3  # from here to whoever has something to say


class Log:
    """A logger whose handlers and filters, which are the program's, harm nothing.

    What they raise would else end the poller, the renewal or the close that tells. It
    is printed, as `logging.Handler.handleError` does; there is no log to write it to.

    Args:
        name: Of the logger.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether a record of this level would be written."""
        return self._logger.isEnabledFor(level)

    def debug(self, text: str, *args: object, **options: Any) -> None:
        """Write a record of level DEBUG."""
        self._write(logging.DEBUG, text, args, options)

    def info(self, text: str, *args: object, **options: Any) -> None:
        """Write a record of level INFO."""
        self._write(logging.INFO, text, args, options)

    def warning(self, text: str, *args: object, **options: Any) -> None:
        """Write a record of level WARNING."""
        self._write(logging.WARNING, text, args, options)

    def error(self, text: str, *args: object, **options: Any) -> None:
        """Write a record of level ERROR."""
        self._write(logging.ERROR, text, args, options)

    def exception(self, text: str, *args: object, **options: Any) -> None:
        """Write a record of level ERROR, with the traceback of what is handled."""
        self._write(logging.ERROR, text, args, {"exc_info": True, **options})

    def log(self, level: int, text: str, *args: object, **options: Any) -> None:
        """Write a record of any level."""
        self._write(level, text, args, options)

    def _write(
        self, level: int, text: str, args: tuple[object, ...], options: dict[str, Any]
    ) -> None:
        try:
            self._logger.log(level, text, *args, stacklevel=_STACK, **options)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a CancelledError, say
            if logging.raiseExceptions and sys.stderr is not None:
                with contextlib.suppress(OSError, ValueError):
                    traceback.print_exc()


# Here and not in the root, for which `logging` would be most of what it costs.
logging.getLogger("veeam_tasks").addHandler(logging.NullHandler())

LOGON = Log("veeam_tasks.logon")
"""Logon sessions: logged on, renewed, kept alive, logged out."""

SERVER = Log("veeam_tasks.server")
"""The health of the server, and how it is asked."""

TASKS = Log("veeam_tasks.tasks")
"""Each change and each end of a task or a run; polls that failed."""

MANAGER = Log("veeam_tasks.manager")
"""Errors of our own, or of the caller's functions."""


def error_fields(error: VeeamTasksError | None) -> dict[str, str]:
    """Return the fields about an error; none without one."""
    if error is None:
        return {}
    return {"error_type": type(error).__name__, "error": str(error)}


class NoticeKind(StrEnum):
    """What a `Notice` is about."""

    LOGGED_ON = "logged_on"
    """The account was accepted."""
    RENEWED = "renewed"
    """The token was refused, and a new logon session was opened."""
    UNREACHABLE = "unreachable"
    """The server gives no good replies; it is asked rarely until it does."""
    RECOVERED = "recovered"
    """It gives good replies again."""
    LOGGED_OUT = "logged_out"
    """The server confirmed that the logon session has ended."""


@attrs.frozen(kw_only=True)
class Notice:
    """Something about the server or the logon session, said once.

    Attributes:
        kind: What it is about.
        at: When it was said; aware, UTC.
        detail: More of it in words: the URL, or why the server is unreachable.
        task_ids: The watched tasks at risk.
        error: Why the server is unreachable; None in every other notice.
    """

    kind: NoticeKind
    at: datetime
    detail: str
    task_ids: tuple[str, ...] = ()
    error: VeeamTasksError | None = None

    def __repr__(self) -> str:
        number = len(self.task_ids)
        risk = f"; {counted(number, 'task')} at risk" if number else ""
        at = f"{self.at:%Y-%m-%d %H:%M:%S}"
        return f"<Notice {self.kind} at {at}: {visible(self.detail)}{risk}>"


@attrs.frozen(kw_only=True)
class Statistics:
    """What a manager has done since it was made; `in_flight` and `watched` are now.

    Attributes:
        logons: Logons that the server accepted, renewals included.
        renewals: Logons that replaced a refused token.
        requests: Requests sent, of every kind.
        polls: Requests about one watched task each, with or without a reply.
        coalesced: Watched tasks answered by a collection instead of a request each.
        retries: Requests sent again under a new token, and polls after a failure.
        errors: Polls, calls and logons that ended in an error instead of a usable
            reply.
        in_flight: Requests under way now.
        watched: Tasks watched now, each once however many watches want it.
        bytes_in: Bytes of reply bodies, after decompression.
        coalescing: How tasks are asked for now: ``"singly"`` or ``"together"``.
        coalescing_reason: Why, in words.
        last_request_at: When the last request was sent; aware, UTC. None without one.
        next_request_at: When the server will be asked next for what is watched: by a
            probe, as long as it is unreachable. None if that has no time yet.
    """

    logons: int = 0
    renewals: int = 0
    requests: int = 0
    polls: int = 0
    coalesced: int = 0
    retries: int = 0
    errors: int = 0
    in_flight: int = 0
    watched: int = 0
    bytes_in: int = 0
    coalescing: str = "singly"
    coalescing_reason: str = ""
    last_request_at: datetime | None = None
    next_request_at: datetime | None = None


def added(now: Statistics, past: Statistics) -> Statistics:
    """Return statistics with the counts of an earlier open time added."""
    return attrs.evolve(
        now,
        logons=past.logons + now.logons,
        renewals=past.renewals + now.renewals,
        requests=past.requests + now.requests,
        polls=past.polls + now.polls,
        coalesced=past.coalesced + now.coalesced,
        retries=past.retries + now.retries,
        errors=past.errors + now.errors,
        bytes_in=past.bytes_in + now.bytes_in,
    )


@attrs.frozen
class Notices:
    """Tells the log and the caller's function, whose errors harm nothing.

    Args:
        on_notice: The caller's function, if there is one.
        username: Who logs on, for the log; None with an adopted logon session.
        url: Of the server, for the log.
    """

    on_notice: Callable[[Notice], object] | None
    username: str | None = None
    url: str = ""

    def tell(
        self,
        kind: NoticeKind,
        detail: str,
        task_ids: Iterable[str] = (),
        error: VeeamTasksError | None = None,
    ) -> None:
        """Tell one fact; `task_ids` are the watched tasks at risk."""
        ids = tuple(task_ids)
        self._log(kind, detail, len(ids), error)
        if self.on_notice is None:
            return
        notice = Notice(
            kind=kind, at=datetime.now(UTC), detail=detail, task_ids=ids, error=error
        )
        try:
            self.on_notice(notice)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a CancelledError, say, which would end the poller that tells
            MANAGER.exception(
                "on_notice raised on %s; it is called again next time",
                kind,
                extra={"em_url": self.url, "event": "on_notice_raised"},
            )

    def _log(
        self, kind: NoticeKind, detail: str, watched: int, error: VeeamTasksError | None
    ) -> None:
        """Write the fact into the log, as one reads it."""
        told: dict[str, object] = {"em_url": self.url, "event": kind.value}
        match kind:
            case NoticeKind.LOGGED_ON:
                told["account"] = self.username
                LOGON.info("logged on to %s as %s", detail, self.username, extra=told)
            case NoticeKind.RENEWED:
                told |= {"account": self.username, "watched": watched}
                text = "logged on anew as %s: %s"
                LOGON.info(text, self.username, detail, extra=told)
            case NoticeKind.UNREACHABLE:
                told |= {"watched": watched, **error_fields(error)}
                text = "no good replies, %d tasks watched: %s"
                SERVER.info(text, watched, detail, extra=told)
            case NoticeKind.RECOVERED:
                told["watched"] = watched
                SERVER.info("good replies again, %d tasks watched", watched, extra=told)
            case NoticeKind.LOGGED_OUT:
                LOGON.info("logged out of %s", detail, extra=told)


of_the_package(
    Notice,
    NoticeKind,
    Statistics,
)
