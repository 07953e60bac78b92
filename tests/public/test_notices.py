"""Notices: each fact told to the log and to the caller's function, which may fail."""

import logging
from datetime import UTC, datetime

import pytest

from veeam_tasks import Notice, NoticeKind
from veeam_tasks._telemetry.notices import Notices


def test_a_notice_is_told_to_the_log_and_to_the_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once each, with when it was and which tasks are at risk."""
    told: list[Notice] = []
    caplog.set_level(logging.INFO, "veeam_tasks")
    before = datetime.now(UTC)
    ids = {"task-1": 1, "task-2": 2}
    Notices(told.append).tell(NoticeKind.UNREACHABLE, "refused", ids)
    ids.clear()
    assert [(one.kind, one.detail, one.task_ids) for one in told] == [
        (NoticeKind.UNREACHABLE, "refused", ("task-1", "task-2"))
    ]
    assert before <= told[0].at <= datetime.now(UTC)
    assert [record.getMessage() for record in caplog.records] == [
        "no good replies, 2 tasks watched: refused"
    ]


def test_without_a_function_there_is_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The log gets each fact also if nobody else wants it."""
    caplog.set_level(logging.INFO, "veeam_tasks")
    Notices(None).tell(NoticeKind.LOGGED_ON, "https://h:9398/")
    assert len(caplog.records) == 1


def test_a_function_that_raises_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the function is called the next time."""
    told: list[NoticeKind] = []

    def fail(notice: Notice) -> None:
        told.append(notice.kind)
        raise ZeroDivisionError

    notices = Notices(fail)
    notices.tell(NoticeKind.UNREACHABLE, "refused")
    notices.tell(NoticeKind.RECOVERED, "well")
    assert told == [NoticeKind.UNREACHABLE, NoticeKind.RECOVERED]
    errors = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all(one.exc_info for one in errors)


@pytest.mark.parametrize("sudden", [KeyboardInterrupt, SystemExit])
def test_a_sudden_end_is_not_kept_from_anybody(sudden: type[BaseException]) -> None:
    """Ctrl-C that strikes in the function is no error of the function."""

    def end(_: Notice) -> None:
        raise sudden

    with pytest.raises(sudden):
        Notices(end).tell(NoticeKind.LOGGED_OUT, "")
