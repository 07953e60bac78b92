"""Addresses: base URLs, task IDs and paths, taken or refused before a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from veeam_tasks._model import Link, Task, TaskState
from veeam_tasks._protocol.urls import (
    base_url,
    check_same_server,
    is_same_place,
    place_of,
    resource_path,
    task_id_of,
)

BASE = URL("https://em.example:9398/api/")
BEHIND_PROXY = URL("https://em.example:9398/veeam/api/")


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("https://em.example", "https://em.example:9398/api/"),
        ("https://em.example/", "https://em.example:9398/api/"),
        ("https://em.example:9398/api", "https://em.example:9398/api/"),
        ("https://em.example:9398/api/", "https://em.example:9398/api/"),
        ("HTTPS://EM.Example/API", "https://em.example:9398/api/"),
        ("https://em.example:8443", "https://em.example:8443/api/"),
        ("https://em.example/veeam", "https://em.example:9398/veeam/api/"),
        ("https://em.example//veeam//api//", "https://em.example:9398/veeam/api/"),
        ("https://em.example/a/../b/", "https://em.example:9398/b/api/"),
        ("https://em.example/a%2Fb%20c", "https://em.example:9398/a%2Fb%20c/api/"),
        ("https://h:9398/api/sessionMngr/?v=latest", "https://h:9398/api/"),
        ("https://h/veeam/API/tasks/task-1", "https://h:9398/veeam/api/"),
        ("https://h/api/v/api/logonSessions#x", "https://h:9398/api/v/api/"),
        ("https://h/api?password=hunter2", "https://h:9398/api/"),
        ("https://h/apis/my-api", "https://h:9398/apis/my-api/api/"),
        ("https://192.168.1.20", "https://192.168.1.20:9398/api/"),
        ("https://em1.10gbe", "https://em1.10gbe:9398/api/"),
        ("https://[::1]", "https://[::1]:9398/api/"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example:9398/%C3%A4/api/"),
        ("http://localhost", "http://localhost:9399/api/"),
        ("http://localhost.:1", "http://localhost.:1/api/"),
        ("http://127.8.9.1:5", "http://127.8.9.1:5/api/"),
        ("http://[::1]", "http://[::1]:9399/api/"),
    ],
)
def test_a_base_url_ends_in_api_and_has_a_port(given_url: str, expected: str) -> None:
    """Whatever prefix, port or trailing slash was given, the result ends in /api/."""
    assert str(base_url(given_url, insecure=False)) == expected


def test_the_default_port_of_https_is_kept_when_it_is_given() -> None:
    """Port 443 is used where it was written, not replaced by 9398."""
    url = base_url("https://em.example:443", insecure=False)
    assert (url.port, url.path) == (443, "/api/")


@pytest.mark.parametrize(
    ("given_url", "said"),
    [
        ("", "has no scheme; write https://em.example:9398"),
        ("em.example:9398", "has no scheme; write https://em.example:9398"),
        ("em.example?x", "has no scheme; write https://em.example"),
        ("//em.example", "has no scheme; write https://em.example:9398"),
        ("ftp://em.example", "is no https:// URL"),
        ("https://", "it names no host; write"),
        ("https:///api", "it names no host; write"),
        ("https://em.example:99999", "Port out of range"),
        ("https://em.example:0", "0 is no port; write"),
        ("https://1.2.3", "looks like an IPv4 address and is none; write"),
        ("https://999.1.1.1:9398", "looks like an IPv4 address and is none"),
        ("https://010.0.0.1", "looks like an IPv4 address and is none"),
        ("https://2130706433", "looks like an IPv4 address and is none"),
        ("https://0x7F000001", "looks like an IPv4 address and is none"),
        ("https://10.0.0.1.", "looks like an IPv4 address and is none"),
        ("https://em..example", "label"),
        ("https://em.example:x", "port can't be converted"),
        ("https://em.example?v=latest", "neither query nor fragment"),
        ("https://em.example/#top", "neither query nor fragment"),
        ("https://api?v=latest", "neither query nor fragment"),
        ("https://em.example/apis?x=/api/", "neither query nor fragment"),
        ("https://em.example /", "has a blank"),
        ("https://em.example\\api", "has a blank, a backslash"),
        ("https://em.example/\n", "control character"),
        ("http://em.example", "insecure=True"),
        ("http://10.0.0.1", "insecure=True"),
        ("http://localhost.example", "insecure=True"),
        ("https://" + "a" * 200 + "?", "..."),
    ],
)
def test_a_url_that_is_no_server_is_refused(given_url: str, said: str) -> None:
    """It is a ValueError that says what to write instead."""
    with pytest.raises(ValueError, match=r".") as caught:
        base_url(given_url, insecure=False)
    assert said in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "given_url",
    [
        "https://svc:hunter2@em.example",
        "svc:hunter2@em.example:9398",
        "https://hunter2@em.example/?x",
        "https:/svc:hunter2@em.example",
        "ftp://svc:hunter2@em.example",
        "https://svc:hunter2@em example\n",
        "https://em.example?password=hunter2",
        "em.example?password=hunter2",
    ],
)
def test_user_information_in_a_url_is_refused_and_not_repeated(given_url: str) -> None:
    """What may be a password never gets into the message."""
    with pytest.raises(ValueError, match=r".") as caught:
        base_url(given_url, insecure=True)
    assert "hunter2" not in repr(caught.value)


def test_a_url_that_is_no_string_is_a_type_error() -> None:
    """Nothing else is turned into a string by itself."""
    with pytest.raises(TypeError, match="must be a string, not URL"):
        base_url(BASE, insecure=False)  # type: ignore[arg-type]


def test_insecure_allows_plain_http_to_any_host() -> None:
    """The one way to talk http:// to a host that is not loopback."""
    url = base_url("http://em.example", insecure=True)
    assert str(url) == "http://em.example:9399/api/"


def a_task(task_id: str) -> Task:
    """Return a task with that ID."""
    return Task(
        task_id=task_id,
        state=TaskState.RUNNING,
        raw_state="Running",
        operation="StartJob",
    )


@pytest.mark.parametrize(
    "named",
    [
        "task-7",
        a_task("task-7"),
        "https://h:9398/api/tasks/task-7",
        "HTTP://h:9399/api/tasks/task-7?format=Entity",
        "https://h/tasks/task-7",
        "/api/tasks/task-7",
        "/tasks/task-7",
        "tasks/task-7?format=Entity",
        "veeam/api/tasks/task-7",
    ],
)
def test_a_task_is_named_by_id_task_or_href(named: str | Task) -> None:
    """All of them give the same ID; the host is ignored."""
    assert task_id_of(named) == "task-7"


@pytest.mark.parametrize(
    "named",
    [
        "",
        "7",
        "task-",
        "Task-7",
        "task-7 ",
        "task-7\n",
        "task-٣",
        "task-" + "7" * 33,
        "task-7/../task-8",
        "/api/tasks/task-7/",
        "/api/tasks/task-7/x",
        "/api/mytasks/task-7",
        "/api/tasks/task-7#x",
        "ftp://h/tasks/task-7",
        "https://svc:hunter2@h/jobs/1",
        a_task("../task-7"),
    ],
)
def test_what_names_no_task_is_refused(named: str | Task) -> None:
    """It is a ValueError that says what is accepted and repeats no user information."""
    with pytest.raises(ValueError, match="pass an ID like 'task-7'") as caught:
        task_id_of(named)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("named", [7, None, b"task-7", ["task-7"]])
def test_another_type_names_no_task(named: object) -> None:
    """It is a TypeError that names the type."""
    with pytest.raises(TypeError, match=type(named).__name__):
        task_id_of(named)  # type: ignore[arg-type]


@given(st.text())
def test_a_task_id_is_safe_in_a_url(text: str) -> None:
    """Any text gives an ID of the one known form, or a ValueError."""
    try:
        found = task_id_of(text)
    except ValueError:
        return
    assert found.startswith("task-")
    assert found[5:].isascii()
    assert found[5:].isdigit()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("jobs/ID?action=start", "jobs/ID?action=start"),
        ("/jobs/ID", "jobs/ID"),
        ("api/jobs/ID", "jobs/ID"),
        ("/api/jobs/ID?action=start", "jobs/ID?action=start"),
        ("https://h:9398/api/jobs/ID?a=b", "jobs/ID?a=b"),
        ("HTTP://10.0.0.1:9399/api/x", "x"),
        (" jobs/ID ", "jobs/ID"),
        (Link(rel="Related", href="https://x/api/y?format=Entity"), "y?format=Entity"),
        ("/api/", ""),
        ("https://h/api", ""),
        ("jobs/ID?", "jobs/ID?"),
        ("vms/my vm/ä", "vms/my%20vm/%C3%A4"),
        ("guestfs/C%3A%5Ctemp%2Fx", "guestfs/C%3A%5Ctemp%2Fx"),
        ("x?filter=Name==a b&q=%20", "x?filter=Name==a%20b&q=%20"),
        ("x?to=/../y", "x?to=/../y"),
        ("100%/x%2", "100%25/x%252"),
        ('x"<>', "x%22%3C%3E"),
    ],
)
def test_a_resource_is_named_by_path_url_or_link(
    named: str | Link, expected: str
) -> None:
    """The path below /api/ is used, encoded once, and never the host."""
    assert resource_path(named, BASE) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("/veeam/api/jobs/1", "jobs/1"),
        ("https://h/veeam/api/jobs/1", "jobs/1"),
        ("https://inside:9398/api/jobs/1", "jobs/1"),
        ("/jobs/1", "jobs/1"),
    ],
)
def test_the_prefix_of_a_reverse_proxy_is_taken_off(named: str, expected: str) -> None:
    """With it or, as the server itself writes links, without it."""
    assert resource_path(named, BEHIND_PROXY) == expected


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("..", ". or .."),
        ("jobs/../x", ". or .."),
        ("jobs/./x", ". or .."),
        ("https://h/api/../x", ". or .."),
        ("jobs/%2e%2E/x", ". or .."),
        ("jobs/..%2fx", ". or .."),
        ("jobs/..%5cx", ". or .."),
        ("jobs/%252e%252e/x", ". or .."),
        ("jobs\\x", "backslash"),
        ("jobs/x\r\nHost: y", "control character"),
        ("jobs/x%0d%0aHost: y", "control character"),
        ("jobs/\ud800", "control character"),
        ("jobs/x#y", "fragment"),
        ("//h/api/x", "begins with //"),
        ("ftp://h/api/x", "no https:// URL"),
        ("https://h/jobs/x", "not below /api/"),
        ("https://h/apis/x", "not below /api/"),
    ],
)
def test_what_names_no_resource_is_refused(named: str, problem: str) -> None:
    """It is a ValueError that says why and what to write."""
    with pytest.raises(ValueError, match="; write a path like") as caught:
        resource_path(named, BASE)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", [7, None, a_task("task-7")])
def test_another_type_names_no_resource(named: object) -> None:
    """It is a TypeError that names the type."""
    with pytest.raises(TypeError, match=f"not {type(named).__name__}"):
        resource_path(named, BASE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "href",
    [
        "jobs/1",
        "/api/jobs/1?to=https://other/",
        "https://em.example:9398/api/jobs/1",
        "HTTPS://EM.Example/api/jobs/1",
        " http://em.example/api/jobs/1 ",
    ],
)
def test_paths_and_urls_of_the_base_name_the_same_server(href: str) -> None:
    """Neither case nor scheme matters, and no port may mean any usual one."""
    check_same_server(href, BASE)


@pytest.mark.parametrize(
    "href",
    [
        "https://other.example:9398/api/jobs/1",
        "https://em.example:443/api/jobs/1",
        "https://em.example:9399/api/jobs/1",
        "https://em.example:port/api/jobs/1",
        "https://em.example@other.example:9398/api/jobs/1",
        "https:///api/jobs/1",
    ],
)
def test_urls_of_others_name_another_server(href: str) -> None:
    """It is a ValueError that names the server of the base."""
    with pytest.raises(ValueError, match=r"another server than https://em\.example"):
        check_same_server(href, BASE)


@pytest.mark.parametrize("port", [9398, 9399, 443, 80])
def test_a_url_without_a_port_may_mean_any_usual_one(port: int) -> None:
    """Those of the Enterprise Manager, and those of the two schemes."""
    base = base_url(f"https://em.example:{port}", insecure=False)
    check_same_server("http://em.example/api/jobs/1", base)
    unusual = base_url(f"https://em.example:{port + 1000}", insecure=False)
    with pytest.raises(ValueError, match="another server"):
        check_same_server("http://em.example/api/jobs/1", unusual)


@given(st.text())
def test_a_resource_stays_below_the_base(text: str) -> None:
    """Any text gives an encoded path below /api/ on our host, or a ValueError."""
    try:
        path = resource_path(text, BASE)
    except ValueError:
        return
    url = URL(str(BASE) + path)
    assert url.origin() == BASE.origin()
    assert url.path.startswith("/api/")
    assert path.isascii()
    assert path.isprintable()
    assert not {" ", "#", "\\"} & set(path)
    assert resource_path(f"/api/{path}", BASE) == path


@pytest.mark.parametrize(
    ("href", "place"),
    [
        ("https://EM.example.:9398/api/tasks/task-1", ("em.example", 0, "/")),
        ("http://em.example:9399/api/", ("em.example", 0, "/")),
        ("https://em.example/veeam/API/x?filter=/api/", ("em.example", 0, "/veeam/")),
        ("https://em.example:8443/x", ("em.example", 8443, "")),
        ("jobs/x", None),
    ],
)
def test_an_href_says_where_the_api_is(href: str, place: object) -> None:
    """Its path as far as the API, without a query; a path alone says nothing."""
    assert place_of(href) == place


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("em", 8443, "/"), ("em", 8443, "/"), True),
        (("em", 8443, "/"), ("em", 8444, "/"), False),
        (("em", 0, "/"), ("em", 443, "/"), True),
        (("em", 80, "/"), ("em", 0, ""), True),
        (("em", 8443, "/"), ("em", 0, "/"), False),
        (("em", 0, "/"), ("em", 0, "/veeam/"), False),
        (("em", 0, "/"), ("others", 0, "/"), False),
    ],
)
def test_two_places_are_one_if_they_may_be(
    one: tuple[str, int, str], other: tuple[str, int, str], *, is_same: bool
) -> None:
    """Any usual port may be meant by none, and any root by an Href without the API."""
    assert is_same_place(one, other) is is_same
    assert is_same_place(other, one) is is_same
