"""Notices: each fact about the server and the logon session told once."""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import attrs

from veeam_tasks._errors import VeeamTasksError
from veeam_tasks._model import Notice, NoticeKind

_log = logging.getLogger(__name__)


@attrs.frozen
class Notices:
    """Tells the log and the caller's function, whose errors harm nothing.

    Args:
        on_notice: The caller's function, if there is one.
        username: Who logs on, for the log; None with an adopted logon session.
    """

    on_notice: Callable[[Notice], object] | None
    username: str | None = None

    def tell(
        self,
        kind: NoticeKind,
        detail: str,
        task_ids: Iterable[str] = (),
        error: VeeamTasksError | None = None,
    ) -> None:
        """Tell one fact; `task_ids` are the watched tasks at risk."""
        ids = tuple(task_ids)
        self._log(kind, detail, len(ids))
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
            _log.exception("on_notice raised on %s; it is called again next time", kind)

    def _log(self, kind: NoticeKind, detail: str, watched: int) -> None:
        """Write the fact into the log, as one reads it."""
        match kind:
            case NoticeKind.LOGGED_ON:
                _log.info("logged on to %s as %s", detail, self.username)
            case NoticeKind.RENEWED:
                _log.info("logged on anew as %s: %s", self.username, detail)
            case NoticeKind.UNREACHABLE:
                _log.info("no good replies, %d tasks watched: %s", watched, detail)
            case NoticeKind.RECOVERED:
                _log.info("good replies again, %d tasks watched", watched)
            case NoticeKind.LOGGED_OUT:
                _log.info("logged out of %s", detail)
