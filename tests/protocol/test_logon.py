"""What is asked about a logon session, and what the replies say of it."""

import pytest
from support.strategies import reply

from veeam_tasks import LogonError, MalformedReplyError, ServerBusyError, StatusError
from veeam_tasks._protocol import logon as wire
from veeam_tasks._redaction import Secret, Secrets, hidden_or_none

SESSION_ID = "695c2c92-d1e8-4a2a-b5f3-9f2f2b1c1a11"
TOKEN = "Njk1YzJjOTItZDFlOC00YTJhLWI1ZjMtOWYyZjJiMWMxYTEx"
XML = "application/xml"
BASE = "https://em.example:9398/api/"
UNKNOWN = (
    b'<Error Message="There is no backup task with id [task-0] in current rest session"'
    b' StatusCode="500" xmlns="http://www.veeam.com/ent/v1.0"></Error>'
)
LOG_ON = "POST https://em.example:9398/api/sessionMngr/?v=latest"
LOGON_SESSION = (
    b'<LogonSession xmlns="http://www.veeam.com/ent/v1.0" Type="LogonSession">'
    b"<Links/><UserName>u</UserName><SessionId>695c2c92-d1e8-4a2a-b5f3-9f2f2b1c1a11"
    b"</SessionId></LogonSession>"
)
FORBIDDEN = (
    b'<Error Message="Access denied" StatusCode="403"'
    b' xmlns="http://www.veeam.com/ent/v1.0"></Error>'
)


def test_a_logon_is_a_post_without_a_body() -> None:
    """``POST /sessionMngr/?v=latest`` with Basic authentication."""
    request = wire.log_on_request(Secret("Basic dTpw"), "v1_7", XML)
    assert (request.method, request.path) == ("POST", "sessionMngr/?v=v1_7")
    assert request.headers == {"Authorization": "Basic dTpw"}
    assert request.body is None
    assert "dTpw" not in repr(request)


def test_an_opened_logon_session() -> None:
    """The token comes in a header, the session ID in the body."""
    given = reply(LOGON_SESSION, status=201, token=TOKEN)
    assert wire.opened(given, Secrets()) == (TOKEN, SESSION_ID)
    empty = reply(b"", status=201, token=TOKEN)
    assert wire.opened(empty, Secrets()) == (TOKEN, None)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, LogonError),
        (403, LogonError),
        (404, StatusError),
        (302, StatusError),
        (500, StatusError),
        (503, ServerBusyError),
    ],
)
def test_a_logon_that_opened_none(status: int, error: type[StatusError]) -> None:
    """401 and 403 are the account's; whatever else is the server's."""
    with pytest.raises(error) as caught:
        wire.opened(reply(FORBIDDEN, status=status, request=LOG_ON), Secrets())
    assert type(caught.value) is error


def test_a_2xx_without_a_token_is_no_enterprise_manager() -> None:
    """The web console answers so, and other Veeam services."""
    with pytest.raises(MalformedReplyError, match="its port is 9398"):
        wire.opened(reply(LOGON_SESSION, status=201), Secrets())


def test_requests_about_the_own_logon_session() -> None:
    """By the ID, which may be told by the token; shown without it."""
    for token, session_id in ((TOKEN, None), ("opaque", SESSION_ID)):
        request = wire.own_session_request(
            "DELETE", Secret(token), hidden_or_none(session_id), XML
        )
        assert request.method == "DELETE"
        assert request.path == f"logonSessions/{SESSION_ID}"
        assert SESSION_ID not in request.shown
    request = wire.own_session_request("DELETE", Secret("opaque"), None, XML)
    assert (request.method, request.path) == ("GET", "logonSessions")
    odd = wire.own_session_request("GET", Secret("t"), Secret("a/../b"), XML)
    assert odd.path == "logonSessions/a%2F..%2Fb"


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (200, LOGON_SESSION, True),
        (200, b'{"sessionId":"1","type":"LogonSession"}', True),
        (200, b'<LogonSessions xmlns="http://www.veeam.com/ent/v1.0"/>', True),
        (403, FORBIDDEN, True),
        (401, b"", False),
        (401, FORBIDDEN, False),
        (200, b"", None),
        (200, b"<html>Welcome</html>", None),
        (403, b"<html>Blocked</html>", None),
        (404, FORBIDDEN, None),
        (405, b"", None),
        (400, b"", None),
        (302, b"", None),
        (500, UNKNOWN, None),
        (503, b"", None),
    ],
)
def test_what_shows_a_good_token(status: int, body: bytes, shown: bool | None) -> None:
    """The logon session itself, or the word that this account may not look at it."""
    given = reply(body, status=status, request=f"GET {BASE}logonSessions/[hidden]")
    assert wire.is_token_valid(given) is shown


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (500, UNKNOWN, True),
        (404, FORBIDDEN, True),
        (200, b"<Task><TaskId>task-0</TaskId></Task>", True),
        (401, UNKNOWN, False),
        (200, LOGON_SESSION, None),
        (500, FORBIDDEN, None),
        (403, FORBIDDEN, None),
        (503, b"", None),
    ],
)
def test_what_a_task_that_cannot_be_there_shows(
    status: int, body: bytes, shown: bool | None
) -> None:
    """Whoever is told that there is no such task was let in."""
    given = reply(body, status=status, request=f"GET {BASE}tasks/task-0")
    assert wire.is_token_valid(given) is shown


def test_the_probes() -> None:
    """One's own logon session first, then a task that cannot be there."""
    own, absent = wire.token_checks(Secret(TOKEN), None, XML)
    assert own.path == f"logonSessions/{SESSION_ID}"
    assert (absent.method, absent.path) == ("GET", "tasks/task-0")
