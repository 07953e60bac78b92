"""Every kind of reply proves what the table says."""

import pytest
from support.raw_server import error_body

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import JobSession, Task
from veeam_tasks._protocol.classification import (
    ReplyKind,
    classify,
    classify_query,
    classify_session,
)
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
    (200, XML, TASK, ReplyKind.TASK),
    (202, XML, TASK, ReplyKind.TASK),
    (200, JSON, TASK_JSON, ReplyKind.TASK),
    (200, XML, b"<Tasks>" + TASK + b"</Tasks>", ReplyKind.TASK),
    (200, XML, OTHER, ReplyKind.UNUSABLE),
    (200, XML, error_body(500, UNKNOWN), ReplyKind.UNUSABLE),
    (200, "text/plain", TASK, ReplyKind.TASK),
    (200, XML, TASK_JSON, ReplyKind.TASK),
    (200, HTML, TASK, ReplyKind.UNUSABLE),
    (200, HTML, PAGE, ReplyKind.UNUSABLE),
    (404, XML, PAGE, ReplyKind.UNUSABLE),
    (404, "text/plain", error_body(404, "Not found"), ReplyKind.UNKNOWN),
    (404, HTML, error_body(404, "Not found"), ReplyKind.UNUSABLE),
    (200, XML, b"", ReplyKind.UNUSABLE),
    (204, NONE, b"", ReplyKind.UNUSABLE),
    (200, JSON, b"[]", ReplyKind.UNUSABLE),
    (302, HTML, PAGE, ReplyKind.UNUSABLE),
    (400, XML, error_body(400, "Node [root] does not exist."), ReplyKind.UNUSABLE),
    (400, XML, error_body(400, UNKNOWN), ReplyKind.UNKNOWN),
    (
        401,
        XML,
        error_body(401, "Authentication token has expired"),
        ReplyKind.UNAUTHORIZED,
    ),
    (401, HTML, PAGE, ReplyKind.UNUSABLE),
    (401, NONE, b"", ReplyKind.UNAUTHORIZED),
    (403, XML, error_body(403, "Access denied"), ReplyKind.FORBIDDEN),
    (403, JSON, error_json(403, "Access denied"), ReplyKind.FORBIDDEN),
    (403, NONE, b"", ReplyKind.FORBIDDEN),
    (403, HTML, PAGE, ReplyKind.UNUSABLE),
    (404, XML, error_body(404, "Not found"), ReplyKind.UNKNOWN),
    (404, NONE, b"", ReplyKind.UNKNOWN),
    (404, HTML, PAGE, ReplyKind.UNUSABLE),
    (500, XML, error_body(500, UNKNOWN), ReplyKind.UNKNOWN),
    (500, XML, error_body(500, UNKNOWN.upper()), ReplyKind.UNKNOWN),
    (500, JSON, error_json(500, UNKNOWN), ReplyKind.UNKNOWN),
    (400, XML, error_body(400, ANOTHER), ReplyKind.UNUSABLE),
    (404, XML, error_body(404, UNKNOWN), ReplyKind.UNKNOWN),
    (404, XML, error_body(404, ANOTHER), ReplyKind.UNUSABLE),
    (500, XML, error_body(500, ANOTHER), ReplyKind.UNUSABLE),
    (500, JSON, error_json(500, ANOTHER), ReplyKind.UNUSABLE),
    (500, XML, error_body(500, FAULT), ReplyKind.UNUSABLE),
    (500, HTML, PAGE + UNKNOWN.encode(), ReplyKind.UNUSABLE),
    (500, NONE, b"", ReplyKind.UNUSABLE),
    (502, HTML, PAGE, ReplyKind.UNUSABLE),
    (503, XML, error_body(503, "Maintenance"), ReplyKind.UNUSABLE),
    (503, NONE, b"", ReplyKind.UNUSABLE),
]


@pytest.mark.parametrize(("status", "content_type", "body", "kind"), TABLE)
def test_what_a_reply_proves(
    status: int, content_type: str, body: bytes, kind: ReplyKind
) -> None:
    """Each row of the table; a proxy's HTML never ends a task."""
    reply = Reply(
        request="GET https://h:9398/api/tasks/task-1",
        status=status,
        content_type=content_type,
        body=body,
    )
    found, value = classify(reply, "task-1", Secrets())
    assert found is kind
    assert isinstance(value, Task) is (kind is ReplyKind.TASK)


def test_another_unknown_task_is_malformed() -> None:
    """A reply about another task than the one asked for is a `MalformedReplyError`."""
    request = "GET https://h:9398/api/tasks/task-1"
    body = error_body(500, ANOTHER)
    reply = Reply(request=request, status=500, content_type=XML, body=body)
    _, value = classify(reply, "task-1", Secrets())
    assert isinstance(value, MalformedReplyError)
    assert "task-2 is unknown, although task-1 was asked for" in str(value)


GUID = "7e9f6a52-70a5-4f4c-8d0b-6a8d1b1f7f10"
# Published: the vendor's page backupSessions_id, shortened.
SESSION = (
    f'<BackupJobSession xmlns="http://www.veeam.com/ent/v1.0" Type="BackupJobSession"'
    f' Href="https://h:9398/api/backupSessions/{GUID}?format=Entity"'
    f' UID="urn:veeam:BackupJobSession:{GUID}"><State>Working</State>'
    f"<Result>None</Result><Progress>34</Progress></BackupJobSession>"
).encode()
REFERENCE = SESSION.replace(b"<State>Working</State>", b"")
NO_SESSION = f"There is no BackupJobSession with id [{GUID}]."

SESSIONS = [
    # status, content type, body, before it was seen, after
    (200, XML, SESSION, ReplyKind.SESSION, ReplyKind.SESSION),
    (200, XML, SESSION.replace(b"7e9f", b"8e9f"), ReplyKind.UNUSABLE, None),
    (200, XML, REFERENCE, ReplyKind.UNUSABLE, None),
    (200, XML, b"", ReplyKind.UNKNOWN, ReplyKind.UNUSABLE),
    (200, HTML, PAGE, ReplyKind.UNUSABLE, None),
    (302, HTML, PAGE, ReplyKind.UNUSABLE, None),
    (401, XML, error_body(401, "Token has expired"), ReplyKind.UNAUTHORIZED, None),
    (401, HTML, PAGE, ReplyKind.UNUSABLE, None),
    (403, XML, error_body(403, "Access denied"), ReplyKind.FORBIDDEN, None),
    (403, NONE, b"", ReplyKind.FORBIDDEN, None),
    (403, HTML, PAGE, ReplyKind.UNUSABLE, None),
    (404, XML, error_body(404, "Not found"), ReplyKind.UNKNOWN, None),
    (404, JSON, error_json(404, NO_SESSION), ReplyKind.UNKNOWN, None),
    (404, NONE, b"", ReplyKind.UNKNOWN, None),
    (404, HTML, PAGE, ReplyKind.UNUSABLE, None),
    (500, XML, error_body(500, NO_SESSION), ReplyKind.UNKNOWN, None),
    (500, XML, error_body(500, FAULT), ReplyKind.UNKNOWN, ReplyKind.UNUSABLE),
    (500, JSON, error_json(500, FAULT), ReplyKind.UNKNOWN, ReplyKind.UNUSABLE),
    (500, HTML, PAGE, ReplyKind.UNUSABLE, None),
    (503, XML, error_body(503, "Maintenance"), ReplyKind.UNUSABLE, None),
]


@pytest.mark.parametrize("is_seen", [False, True])
@pytest.mark.parametrize("row", SESSIONS)
def test_what_a_reply_proves_of_a_session(
    row: tuple[int, str, bytes, ReplyKind, ReplyKind | None], *, is_seen: bool
) -> None:
    """Not there yet, until it was seen; then a 500 has to say that it is unknown."""
    status, content_type, body, before, after = row
    request = f"GET https://h:9398/api/backupSessions/{GUID}"
    reply = Reply(request=request, status=status, content_type=content_type, body=body)
    found, value = classify_session(reply, GUID, Secrets(), is_seen=is_seen)
    assert found is (after if is_seen and after is not None else before)
    assert isinstance(value, JobSession) is (found is ReplyKind.SESSION)


QUERIES = [
    (200, XML, PAGE, ReplyKind.UNUSABLE),
    (400, XML, error_body(400, "Invalid filter"), ReplyKind.UNKNOWN),
    (400, HTML, PAGE, ReplyKind.UNUSABLE),
    (401, XML, error_body(401, "Token has expired"), ReplyKind.UNAUTHORIZED),
    (403, JSON, error_json(403, "Access denied"), ReplyKind.FORBIDDEN),
    (403, NONE, b"", ReplyKind.FORBIDDEN),
    (403, HTML, PAGE, ReplyKind.UNUSABLE),
    (404, NONE, b"", ReplyKind.UNKNOWN),
    (404, HTML, PAGE, ReplyKind.UNUSABLE),
    (500, XML, error_body(500, FAULT), ReplyKind.UNUSABLE),
    (501, NONE, b"", ReplyKind.UNKNOWN),
]


@pytest.mark.parametrize(("status", "content_type", "body", "kind"), QUERIES)
def test_what_an_error_proves_of_a_query(
    status: int, content_type: str, body: bytes, kind: ReplyKind
) -> None:
    """The server's own says that it takes no query; that of a proxy says nothing."""
    request = "GET https://h:9398/api/query?type=BackupJobSession"
    reply = Reply(request=request, status=status, content_type=content_type, body=body)
    assert classify_query(reply, Secrets())[0] is kind


def test_every_kind_has_a_row() -> None:
    """No kind is left untested."""
    rows = {row[3] for row in TABLE} | {row[3] for row in SESSIONS}
    assert rows == set(ReplyKind)
