"""The reports of a watch: what is kept between two of them."""

from veeam_tasks._engine.pending_event import PendingEvent, Reports


def test_what_came_and_went_since_the_last_report_is_not_kept() -> None:
    """A watch of months whose report nobody looks at holds no ID of what it had."""
    pending: dict[str, PendingEvent] = {}
    reports = Reports(pending)
    for number in range(1000):
        task_id = f"task-{number}"
        pending[task_id] = PendingEvent()
        reports.note_changed(task_id)
        del pending[task_id]
        reports.note_removed(task_id)
    assert not reports._removed
    assert not reports._changed


def test_what_a_report_had_and_has_gone_is_not_in_the_next() -> None:
    """What is taken out after a report is missing in the next one, others are not."""
    pending = {"task-1": PendingEvent(), "task-2": PendingEvent()}
    reports = Reports(pending)
    for task_id in pending:
        reports.note_changed(task_id)
    assert list(reports.make().outcomes) == ["task-1", "task-2"]
    del pending["task-1"]
    reports.note_removed("task-1")
    assert list(reports.make().outcomes) == ["task-2"]
