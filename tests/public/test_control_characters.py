"""What people are shown of texts: no control character, every script as it is."""

import inspect
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from yarl import URL

import veeam_tasks
from veeam_tasks import (
    JobSession,
    Link,
    Notice,
    NoticeKind,
    Report,
    SessionResult,
    SessionState,
    Task,
    TaskEvent,
    TaskFailedError,
    TaskLostError,
    TaskResult,
    TaskSession,
    TaskState,
    VeeamTasksError,
)
from veeam_tasks._errors import fresh
from veeam_tasks._protocol.tasks import text
from veeam_tasks._protocol.urls import resource_path
from veeam_tasks._redaction import has_controls, quoted, visible
from veeam_tasks._session.credentials import Credentials
from veeam_tasks.airflow._watching import reason_of
from veeam_tasks.cli import _messages

BASE = URL("https://em.example:9398/api/")
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BAD = f"\x00\x07\x1b[2J\r\n\t\x7f\x85\x9b\u2028\u2029\ud800{BIDI}"
SPACES = "\u00a0\u1680\u2003\u200a\u202f\u205f\u3000"
JOINERS = "\u200b\u200c\u200d\u2060\ufeff"
GOOD = f"a{SPACES}b{JOINERS}c\u00e9\u4e2d\u05d0\U0001f468\u200d\U0001f469\ue000\u0378"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def is_clean(shown: str) -> bool:
    """Tell whether no control character is in it, by the database of Unicode."""
    return not any(is_control(char) for char in shown)


def is_control(char: str) -> bool:
    """Tell what Unicode says: categories, and what turns the direction."""
    is_deprecated = "\u206a" <= char <= "\u206f"
    category = unicodedata.category(char)
    return category in {"Cc", "Cs", "Zl", "Zp"} or char in BIDI or is_deprecated


def test_each_character_is_text_or_control() -> None:
    """Of all there are; each space and joiner is text, whatever Python prints of it."""
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        assert has_controls(char) == is_control(char), hex(code)
        assert (visible(char) == char) != is_control(char)
        if unicodedata.category(char) == "Zs":
            assert not has_controls(char)
        if unicodedata.bidirectional(char) in BIDI_CLASSES:
            assert has_controls(char)


BIDI_CLASSES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    "value", ["", "a", "it's", '"', "\"'", "a\\b", "\x1b", None, 7]
)
def test_quoted_is_repr_without_other_scripts(value: object) -> None:
    """For whatever is ASCII; the rest is kept."""
    assert quoted(value) == repr(value)
    assert quoted(GOOD) == f"'{GOOD}'"


def test_names_in_other_scripts_are_paths_and_names() -> None:
    """With every space and joiner, as they came; control characters are refused."""
    path = f"backupFiles/x?path=C:/{GOOD}\u3000"
    assert URL(f"https://x/{resource_path(path, BASE)}").query["path"] == (
        f"C:/{GOOD}\u3000"
    )
    link = Link(rel="Related", href=f"https://em.example:9398/api/{path}")
    assert resource_path(link, BASE) == resource_path(path, BASE)
    assert Credentials(username=GOOD, password="x").username == GOOD
    for char in filter(is_control, BAD):
        with pytest.raises(ValueError, match="control character"):
            resource_path(f"jobs/a{char}b", BASE)
        with pytest.raises(ValueError, match="control") as caught:
            Credentials(username=f"a{char}b", password="x")
        assert is_clean(str(caught.value))


def test_messages_show_other_scripts_as_they_are() -> None:
    """A refused path or user name is repeated as it was written."""
    with pytest.raises(ValueError, match="fragment") as caught:
        resource_path(f"jobs/{GOOD}#", BASE)
    assert GOOD in str(caught.value)
    with pytest.raises(ValueError, match="colon") as caught:
        Credentials(username=f"{GOOD}:", password="x")
    assert GOOD in str(caught.value)


def test_a_text_of_a_reply_keeps_the_spaces_of_other_scripts() -> None:
    """Only what XML takes for blanks is cut off."""
    assert text({"Name": f" \r\n{SPACES}x{SPACES}\t"}, "Name") == f"{SPACES}x{SPACES}"


LINK = Link(rel=BAD, href=BAD, type=BAD, name=BAD)
TASK = Task(
    task_id="task-1",
    state=TaskState.FINISHED,
    raw_state=BAD,
    operation=BAD,
    result=TaskResult(success=False, message=BAD),
    links=(LINK,),
)
LOST = TaskLostError(task_id=BAD, last_seen=TASK, reason=BAD)


def event(**changes: object) -> TaskEvent:
    """Return a final event of that task."""
    values: dict[str, object] = {
        "task_id": BAD,
        "task": TASK,
        "previous": TaskState.UNKNOWN,
        "state": TaskState.FINISHED,
        "is_final": True,
        "succeeded": False,
        "observed_at": NOW,
        "sequence": 1,
    }
    return TaskEvent(**values | changes)  # type: ignore[arg-type]


def test_no_repr_of_a_value_moves_a_cursor() -> None:
    """Whatever the server wrote into any of their fields."""
    unknown = event(state=TaskState.UNKNOWN, is_final=False, succeeded=None)
    lost = event(state=TaskState.LOST, succeeded=None, error=LOST)
    session = JobSession(
        session_id=BAD,
        uid=BAD,
        kind=BAD,
        name=BAD,
        job_name=BAD,
        raw_state=BAD,
        state=SessionState.UNKNOWN,
        result=SessionResult.UNKNOWN,
        raw_result=BAD,
    )
    machine = TaskSession(vm_name=BAD, raw_state=BAD, raw_result=BAD, reason=BAD)
    values = [
        TASK,
        LINK,
        TASK.result,
        event(),
        unknown,
        lost,
        Notice(kind=NoticeKind.UNREACHABLE, at=NOW, detail=BAD, task_ids=(BAD,)),
        session,
        machine,
    ]
    for value in values:
        assert is_clean(repr(value)), type(value)
        assert "\\x1b[2J" in repr(value)
    outcomes = {"task-1": event(), "task-2": unknown, "task-3": lost, BAD: None}
    lines = repr(Report(outcomes=outcomes)).split("\n")
    assert len(lines) == 5
    assert all(is_clean(line) for line in lines)


def errors() -> list[type[Exception]]:
    """Return every public error class."""
    found = [getattr(veeam_tasks, name) for name in dir(veeam_tasks)]
    return [
        one for one in found if isinstance(one, type) and issubclass(one, Exception)
    ]


@pytest.mark.parametrize("kind", errors())
def test_no_message_of_an_error_moves_a_cursor(kind: type[Exception]) -> None:
    """Whatever stands in the fields that it is composed of; copies alike."""
    known: dict[str, object] = {
        "task": TASK,
        "last_seen": TASK,
        "report": Report(outcomes={BAD: None}),
        "seconds": 1.0,
        "status": 500,
        "retry_after": 1.0,
        "connected": True,
        "failures": (TaskSession(vm_name=BAD, raw_state=BAD, reason=BAD),),
        "session": JobSession(
            session_id=BAD,
            uid=BAD,
            kind=BAD,
            job_name=BAD,
            raw_state=BAD,
            state=SessionState.STOPPED,
            result=SessionResult.FAILED,
            raw_result=BAD,
        ),
        "kind": "other",
        "others": (),
    }
    if kind is VeeamTasksError:
        assert is_clean(str(kind(BAD)))
        return
    names = inspect.signature(kind).parameters
    error = kind(**{name: known.get(name, BAD) for name in names})
    assert is_clean(str(error))
    assert len(str(error)) > 40
    if isinstance(error, VeeamTasksError):
        assert str(fresh(error)) == str(error)
    if isinstance(error, TaskFailedError):
        assert error.task is TASK


def test_the_provider_for_airflow_shows_the_same_characters() -> None:
    """It imports nothing private, so it has the pattern once more."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    outcome: dict[str, Any] = {"task_id": every, "outcome": "failed", "failures": []}
    outcome |= {"error": None, "message": GOOD}
    line = reason_of(outcome)  # type: ignore[arg-type] # no more of it is read
    assert line == f"{visible(every)}: failed: {GOOD}"


def test_the_shell_shows_the_same_characters() -> None:
    """It has a reading of its own, since it imports nothing private."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert _messages.visible(every) == visible(every)
    assert _messages.visible(GOOD) == GOOD
