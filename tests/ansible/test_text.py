"""What the collection shows of the server's words; needs no Ansible."""

import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path

import veeam_tasks as vt
from veeam_tasks._redaction import visible

# A wheel has the collection where Ansible looks for it.
PACKAGE = Path(vt.__file__).parent
IN_WHEEL = "ansible_collections.veeam_tasks.em"
IS_WHEEL = (PACKAGE.parent / IN_WHEEL.replace(".", "/")).exists()
UTILS = f"{IN_WHEEL if IS_WHEEL else 'veeam_tasks.ansible'}.plugins.plugin_utils"
night = importlib.import_module(f"{UTILS}.night")
text = importlib.import_module(f"{UTILS}.text")

NOISY = "a\x1b[31mb\u202ec\r\nd"
SHOWN = r"a\x1b[31mb\u202ec\r\nd"


def event(state: vt.TaskState, *, success: bool | None) -> vt.TaskEvent:
    """Return an event of a task whose words move a cursor."""
    result = None if success is None else vt.TaskResult(success=success, message=NOISY)
    task = vt.Task(
        task_id="task-1",
        state=state,
        raw_state=NOISY if success is None else state.value,
        operation="StartJob",
        result=result,
        links=(),
        href=None,
    )
    return vt.TaskEvent(
        task_id="task-1",
        task=task,
        previous=None,
        state=state,
        is_final=success is not None,
        succeeded=success,
        observed_at=datetime.now(UTC),
        not_before=None,
        sequence=1,
        error=None,
    )


def test_the_collection_shows_the_same_characters() -> None:
    """It has a pattern of its own, since it imports nothing private."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert text.visible(every) == visible(every)


def test_no_line_for_people_moves_a_cursor() -> None:
    """Reasons and states come from the server; a playbook's output is a terminal's."""
    failed = night.Step(name="Nightly", task_id="task-1", outcome="failed")
    failed.event = event(vt.TaskState.FINISHED, success=False)
    assert failed.reasons == [SHOWN]
    assert night.summary([failed], warnings_fail=False)["msg"].endswith(
        f"failed: {SHOWN}"
    )
    running = night.Step(name="Nightly", task_id="task-1", outcome="unfinished")
    running.event = event(vt.TaskState.UNKNOWN, success=None)
    assert running.standing == SHOWN
