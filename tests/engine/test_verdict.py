"""The reply table's twin: every kind of reply, and what it proves (issue 4, 3)."""

import pytest

from veeam_tasks._engine.decisions import Verdict, judge
from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

XML, JSON, HTML, NONE = "application/xml", "application/json", "text/html", ""
# Published: the vendor's page tasks_id; a capture of 9.5 Update 4; the words of 500.
TASK = (
    b'<Task xmlns="http://www.veeam.com/ent/v1.0" Type="Task"'
    b' Href="https://localhost:9398/api/tasks/task-1"><Links>'
    b'<Link Rel="Delete" Href="https://localhost:9398/api/tasks/task-1" /></Links>'
    b"<TaskId>task-1</TaskId><State>Running</State><Operation>CloneJob</Operation>"
    b"</Task>"
)
OTHER = TASK.replace(b"<TaskId>task-1", b"<TaskId>task-2")
TASK_JSON = (
    b'{"TaskId":"task-1","State":"Running","Operation":"EditCloudTenant",'
    b'"Links":[{"Rel":"Delete","Href":"http://h:9399/api/tasks/task-1"}],'
    b'"Href":"http://h:9399/api/tasks/task-1","Type":"Task"}'
)
PAGE = b"<html><body><h1>Service Unavailable</h1></body></html>"


def error(status: int, message: str) -> bytes:
    """Return an error body of the Enterprise Manager, as captured."""
    return (
        f'<Error Message="{message}" StatusCode="{status}"'
        ' xmlns="http://www.veeam.com/ent/v1.0"><FirstChanceExceptionMessage>'
        f"{message}</FirstChanceExceptionMessage></Error>"
    ).encode()


def error_json(status: int, message: str) -> bytes:
    """Return the same in JSON, as version 12 prints it."""
    return (
        f'{{"FirstChanceExceptionMessage":null,"Message":"{message}",'
        f'"StackTrace":null,"Status":null,"StatusCode":{status}}}'
    ).encode()


ANOTHER = "There is no backup task with id [task-2] in current rest session"
UNKNOWN = "There is no backup task with id [task-1] in current rest session"
FAULT = "Object reference not set to an instance of an object."

TABLE = [
    (200, XML, TASK, Verdict.TASK),
    (202, XML, TASK, Verdict.TASK),
    (200, JSON, TASK_JSON, Verdict.TASK),
    (200, XML, b"<Tasks>" + TASK + b"</Tasks>", Verdict.TASK),
    (200, XML, OTHER, Verdict.TROUBLE),
    (200, XML, error(500, UNKNOWN), Verdict.TROUBLE),
    (200, "text/plain", TASK, Verdict.TASK),
    (200, XML, TASK_JSON, Verdict.TASK),
    (200, HTML, TASK, Verdict.TROUBLE),
    (200, HTML, PAGE, Verdict.TROUBLE),
    (404, XML, PAGE, Verdict.TROUBLE),
    (404, "text/plain", error(404, "Not found"), Verdict.UNKNOWN),
    (404, HTML, error(404, "Not found"), Verdict.TROUBLE),
    (200, XML, b"", Verdict.TROUBLE),
    (204, NONE, b"", Verdict.TROUBLE),
    (200, JSON, b"[]", Verdict.TROUBLE),
    (302, HTML, PAGE, Verdict.TROUBLE),
    (400, XML, error(400, "Node [root] does not exist."), Verdict.TROUBLE),
    (400, XML, error(400, UNKNOWN), Verdict.UNKNOWN),
    (401, XML, error(401, "Authentication token has expired"), Verdict.REFUSED),
    (401, HTML, PAGE, Verdict.TROUBLE),
    (401, NONE, b"", Verdict.REFUSED),
    (403, XML, error(403, "Access denied"), Verdict.DENIED),
    (403, JSON, error_json(403, "Access denied"), Verdict.DENIED),
    (403, NONE, b"", Verdict.DENIED),
    (403, HTML, PAGE, Verdict.TROUBLE),
    (404, XML, error(404, "Not found"), Verdict.UNKNOWN),
    (404, NONE, b"", Verdict.UNKNOWN),
    (404, HTML, PAGE, Verdict.TROUBLE),
    (500, XML, error(500, UNKNOWN), Verdict.UNKNOWN),
    (500, XML, error(500, UNKNOWN.upper()), Verdict.UNKNOWN),
    (500, JSON, error_json(500, UNKNOWN), Verdict.UNKNOWN),
    (400, XML, error(400, ANOTHER), Verdict.TROUBLE),
    (404, XML, error(404, UNKNOWN), Verdict.UNKNOWN),
    (404, XML, error(404, ANOTHER), Verdict.TROUBLE),
    (500, XML, error(500, ANOTHER), Verdict.TROUBLE),
    (500, JSON, error_json(500, ANOTHER), Verdict.TROUBLE),
    (500, XML, error(500, FAULT), Verdict.TROUBLE),
    (500, HTML, PAGE + UNKNOWN.encode(), Verdict.TROUBLE),
    (500, NONE, b"", Verdict.TROUBLE),
    (502, HTML, PAGE, Verdict.TROUBLE),
    (503, XML, error(503, "Maintenance"), Verdict.TROUBLE),
    (503, NONE, b"", Verdict.TROUBLE),
]


@pytest.mark.parametrize(("status", "content_type", "body", "verdict"), TABLE)
def test_what_a_reply_proves(
    status: int, content_type: str, body: bytes, verdict: Verdict
) -> None:
    """Each row of the table in `_verdict`; a proxy's HTML never ends a task."""
    reply = Reply(
        request="GET https://h:9398/api/tasks/task-1",
        status=status,
        content_type=content_type,
        body=body,
    )
    found, value = judge(reply, "task-1", Secrets())
    assert found is verdict
    assert isinstance(value, Task) is (verdict is Verdict.TASK)


def test_another_unknown_task_is_malformed() -> None:
    """A reply about another task than the one asked for is a `MalformedReplyError`."""
    request = "GET https://h:9398/api/tasks/task-1"
    body = error(500, ANOTHER)
    reply = Reply(request=request, status=500, content_type=XML, body=body)
    _, value = judge(reply, "task-1", Secrets())
    assert isinstance(value, MalformedReplyError)
    assert "task-2 is unknown, although task-1 was asked for" in str(value)


def test_every_verdict_has_a_row() -> None:
    """No verdict is left untested."""
    assert {row[3] for row in TABLE} == set(Verdict)
