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
    """Tells the log and the caller's function, whose errors harm nothing."""

    on_notice: Callable[[Notice], object] | None

    def tell(
        self,
        kind: NoticeKind,
        detail: str,
        task_ids: Iterable[str] = (),
        error: VeeamTasksError | None = None,
    ) -> None:
        """Tell one fact; `task_ids` are the watched tasks at risk."""
        ids = tuple(task_ids)
        _log.info("%s: %s (%d tasks watched)", kind, detail, len(ids))
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
