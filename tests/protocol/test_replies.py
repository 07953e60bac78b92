"""Replies to values: published bytes, what they mean, and what is refused."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from support.slicing import cut_whole
from support.strategies import (
    VEEAM,
    XSI,
    json_collections,
    json_tasks,
    reply,
    xml_collections,
    xml_tasks,
)

from veeam_tasks._errors import (
    ForbiddenError,
    MalformedReplyError,
    ServerBusyError,
    StatusError,
    TaskNotFoundError,
)
from veeam_tasks._model import Link, Task, TaskResult, TaskState
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol import slices as _slices
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

SECRETS = Secrets()
SAMPLES = sorted((Path(__file__).parents[1] / "samples").iterdir())
JSON = "application/json"


def sample(folder: Path) -> tuple[Reply, dict[str, Any]]:
    """Return a published reply, with what it means."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    (body,) = folder.glob("body.*")
    asked = expected.get("asked", "task-7")
    given_reply = reply(
        body.read_bytes(),
        expected["content_type"],
        expected["status"],
        f"GET https://em.example:9398/api/tasks/{asked}",
    )
    return given_reply, expected


def task_of(expected: dict[str, Any]) -> Task:
    """Return the task that a sample's file describes."""
    result = expected["result"]
    return Task(
        task_id=expected["task_id"],
        state=TaskState(expected["state"]),
        raw_state=expected["state"],
        operation=expected["operation"],
        result=None if result is None else TaskResult(**result),
        links=tuple(Link(**link) for link in expected["links"]),
        href=expected["href"],
    )


def named(key: str) -> Any:
    """Parametrize over the samples that say what `key` is."""
    found = [path for path in SAMPLES if key in sample(path)[1]]
    assert found
    return pytest.mark.parametrize("folder", found, ids=lambda path: path.name)


def task_reply(inner: str, attributes: str = "") -> Reply:
    """Return a reply with one task in XML."""
    return reply(f'<Task xmlns="{VEEAM}"{attributes}>{inner}</Task>'.encode())


NEEDED = "<TaskId>task-7</TaskId><State>Running</State><Operation>StartJob</Operation>"
NEEDED_JSON = {"TaskId": "task-7", "State": "Running", "Operation": "StartJob"}


def decode(inner: str, attributes: str = "") -> Task:
    """Return the task that is described by this and what every task needs."""
    return _replies.decode_task(task_reply(NEEDED + inner, attributes), SECRETS)


def decode_json(**members: object) -> Task:
    """Return the task of a JSON object with these members beside the needed ones."""
    body = json.dumps(NEEDED_JSON | members).encode()
    return _replies.decode_task(reply(body, JSON), SECRETS)


def refusal(given_reply: Reply, asked: str | None = None) -> str:
    """Return why a reply is no task."""
    with pytest.raises(MalformedReplyError) as caught:
        _replies.decode_task(given_reply, SECRETS, asked=asked)
    assert caught.value.__context__ is None
    return caught.value.problem


# --- published bodies


@named("task")
def test_a_published_task_is_read(folder: Path) -> None:
    """Each published body of a task means what its file says."""
    given_reply, expected = sample(folder)
    task = task_of(expected["task"])
    assert _replies.decode_task(given_reply, SECRETS) == task
    assert _replies.decode_task(given_reply, SECRETS, asked=task.task_id) == task
    assert not _replies.is_error_body(given_reply)


@named("page")
def test_a_published_collection_is_read(folder: Path) -> None:
    """Each published collection or query result means what its file says."""
    given_reply, expected = sample(folder)
    page = expected["page"] | {"tasks": tuple(map(task_of, expected["page"]["tasks"]))}
    assert _replies.decode_tasks(given_reply, SECRETS) == _replies.Page(**page)


def test_a_published_collection_is_sliced() -> None:
    """The slices of the reference's collection mean the same."""
    (folder,) = [path for path in SAMPLES if path.name == "tasks_two"]
    given_reply, expected = sample(folder)
    found = cut_whole(given_reply)
    assert found is not None
    tasks = tuple(map(task_of, expected["page"]["tasks"]))
    assert _slices.decode_slices(given_reply, found, SECRETS) == tasks


@named("error")
def test_a_published_error_is_read(folder: Path) -> None:
    """Each published error body gives its class, its message and what it proves."""
    given_reply, expected = sample(folder)
    said = expected["error"]
    error = _replies.status_error(given_reply, SECRETS)
    assert type(error).__name__ == said["class"]
    assert error.message == said["message"]
    assert error.status == expected["status"]
    assert _replies.error_message(given_reply, SECRETS) == said["message"]
    assert _replies.is_error_body(given_reply) == (said["message"] is not None)
    assert _replies.is_unknown_task(given_reply) == said["is_unknown_task"]
    with pytest.raises(MalformedReplyError):
        _replies.decode_task(given_reply, SECRETS)
    with pytest.raises(MalformedReplyError):
        _replies.decode_tasks(given_reply, SECRETS)


@named("session_id")
def test_a_published_logon_is_read(folder: Path) -> None:
    """Each published logon shows its session ID, which is hidden from then on."""
    given_reply, expected = sample(folder)
    secrets = Secrets()
    assert _replies.decode_logon(given_reply, secrets) == expected["session_id"]
    assert secrets.is_in(f"/logonSessions/{expected['session_id']}")
    assert "[hidden]" in secrets.excerpt(expected["session_id"].encode())


# --- any body that the schema allows


@given(given_task=xml_tasks())
def test_any_task_in_xml_is_read(given_task: tuple[Task, bytes]) -> None:
    """However it is written, a task is read as what it is."""
    task, body = given_task
    given_reply = reply(body)
    assert _replies.decode_task(given_reply, SECRETS, asked=task.task_id) == task


@given(given_task=json_tasks())
def test_any_task_in_json_is_read(given_task: tuple[Task, bytes]) -> None:
    """Whichever version wrote it, a task is read as what it is."""
    task, body = given_task
    given_reply = reply(body, JSON)
    assert _replies.decode_task(given_reply, SECRETS, asked=task.task_id) == task


@given(given_collection=xml_collections())
def test_any_collection_in_xml_is_read(
    given_collection: tuple[list[Task], bytes],
) -> None:
    """However it is written, a collection is read in order."""
    tasks, body = given_collection
    assert _replies.decode_tasks(reply(body), SECRETS).tasks == tuple(tasks)


@given(given_collection=json_collections())
def test_any_collection_in_json_is_read(
    given_collection: tuple[list[Task], bytes],
) -> None:
    """Whichever version wrote it, a collection is read in order."""
    tasks, body = given_collection
    assert _replies.decode_tasks(reply(body, JSON), SECRETS).tasks == tuple(tasks)


# --- one task


@pytest.mark.parametrize(
    ("written", "success"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        (" TRUE ", True),
        ("false", False),
        ("FALSE", False),
        ("0", False),
    ],
)
def test_success_is_a_boolean_of_xml_schema(written: str, success: bool) -> None:
    """True and 1, false and 0, in any case; in JSON as text, too."""
    assert decode(f'<Result Success="{written}"/>').result == TaskResult(
        success=success
    )
    assert decode_json(Result={"Success": written}).result == TaskResult(
        success=success
    )


@pytest.mark.parametrize("success", [True, False])
def test_success_in_json_may_be_a_boolean_or_a_number(success: bool) -> None:
    """JSON's own booleans are what servers send."""
    expected = TaskResult(success=success)
    assert decode_json(result={"success": success}).result == expected
    assert decode_json(result={"success": int(success)}).result == expected


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("", None),
        ("<Message/>", None),
        ("<Message>  </Message>", None),
        ('<Message xsi:nil="true"/>', None),
        ("<Message> a\n b </Message>", "a\n b"),
        ('<Message xml:lang="en">a</Message>', "a"),
        ('<Message xsi:nil="false">a</Message>', "a"),
        ("<Message>a&amp;<![CDATA[<b>]]><!-- c --></Message>", "a&<b>"),
    ],
)
def test_a_result_may_have_a_message(inner: str, message: str | None) -> None:
    """A message is free text, and absent, empty and nil are the same."""
    task = decode(f'<Result Success="true">{inner}</Result>', f' xmlns:xsi="{XSI}"')
    assert task.result == TaskResult(success=True, message=message)


@pytest.mark.parametrize(
    "written",
    [
        "<Result/>",
        "<Result></Result>",
        "<Result><Message>Ok</Message></Result>",
        '<Result CredentialsNeeded="false"/>',
    ],
)
def test_a_result_without_success_is_none(written: str) -> None:
    """What is empty or null is absent; then there is nothing to go by."""
    assert decode(written).result is None


@pytest.mark.parametrize("result", [None, {}, {"Success": None, "Message": "Ok"}])
def test_a_result_in_json_without_success_is_none(result: object) -> None:
    """Version 12 prints null for what is absent."""
    assert decode_json(Result=result).result is None


@pytest.mark.parametrize("prefix", ["xsi", "i"])
def test_nil_means_absent(prefix: str) -> None:
    """A nil Result is none, whatever the prefix of the schema instance namespace."""
    nil = f'{prefix}:nil="true"'
    task = decode(f"<Result {nil}/><Links {nil}/>", f' xmlns:{prefix}="{XSI}"')
    assert task.result is None
    assert task.links == ()


@pytest.mark.parametrize("links", [None, [], {}, {"Link": None}, {"Link": []}])
def test_links_in_json_may_be_absent_in_many_ways(links: object) -> None:
    """Null, none and an empty wrapper are no links."""
    assert decode_json(Links=links).links == ()


def test_a_single_link_in_a_wrapper_is_one_link() -> None:
    """A client met ``{"Link": {...}}``."""
    links = {"link": {"rel": "Delete", "href": "h"}}
    assert decode_json(links=links).links == (Link(rel="Delete", href="h"),)


WHOLE_LINK = '<Link Rel="Delete" Href="h"/>'


@pytest.mark.parametrize(
    "written",
    ["<Link/>", '<Link Rel="a"/>', '<Link Href="a"/>', '<Link Rel="" Href="a"/>'],
)
@pytest.mark.parametrize("comment", ["", "<!-- -->"])
def test_half_a_link_is_left_out(written: str, comment: str) -> None:
    """A link without Rel or Href leads nowhere; the task and its other links count."""
    task = decode(f"{comment}<Links>{WHOLE_LINK}{written}</Links>")
    assert task.links == (Link(rel="Delete", href="h"),)


@pytest.mark.parametrize("half", [None, {}, {"Rel": None, "Href": "a"}, {"Rel": "a"}])
def test_half_a_link_in_json_is_left_out(half: object) -> None:
    """Null is absent, also in a link and for a link."""
    links = [half, {"Rel": "Delete", "Href": "h", "Type": None, "Name": None}]
    assert decode_json(Links=links).links == (Link(rel="Delete", href="h"),)


@pytest.mark.parametrize("written", ["", "<Operation/>", "<Operation> </Operation>"])
def test_a_task_without_an_operation_is_one(written: str) -> None:
    """What the work is called does not matter for whether it has ended."""
    inner = f"<TaskId>task-7</TaskId><State>Running</State>{written}"
    task = _replies.decode_task(task_reply(inner), SECRETS)
    assert (task.state, task.operation) == (TaskState.RUNNING, "")
    assert repr(task) == "<Task task-7 Running>"
    assert decode_json(Operation=None) == task


def test_an_unknown_word_is_kept() -> None:
    """Another state is UNKNOWN, and the word stays."""
    task = _replies.decode_task(
        task_reply(NEEDED.replace("Running", " Collecting ")), SECRETS
    )
    assert task.state is TaskState.UNKNOWN
    assert task.raw_state == "Collecting"


def test_words_that_the_client_says_are_not_the_servers() -> None:
    """A server that says Lost or Unknown has said an unknown word."""
    for word in ("Lost", "Unknown", "running"):
        given_reply = task_reply(NEEDED.replace("Running", word))
        assert _replies.decode_task(given_reply, SECRETS).state is TaskState.UNKNOWN


def test_repeated_texts_are_shared() -> None:
    """Ten thousand tasks hold one operation, and one href for two uses."""
    attributes = ' Href="https://h:9398/api/tasks/task-7"'
    link = f'<Links><Link Rel="Delete" Type="Task"{attributes}/></Links>'
    one, two = decode(link, attributes), decode(link, attributes)
    assert one.operation is two.operation
    assert one.links[0].rel is two.links[0].rel
    assert one.links[0].type is two.links[0].type
    assert one.links[0].href is one.href


def test_the_task_id_counts_and_not_the_href() -> None:
    """The reference itself has bodies whose Href names another task."""
    task = decode("", ' Href="https://h:9398/api/tasks/task-8"')
    assert task.task_id == "task-7"


@pytest.mark.parametrize("written", ["", " "])
def test_an_empty_href_is_none(written: str) -> None:
    """Read plainly or by the parser, an Href of blanks names nothing."""
    for comment in ("", "<!-- -->"):
        assert decode(comment, f' Href="{written}"').href is None


def test_another_task_than_asked_for_is_refused() -> None:
    """A reply about another task proves nothing about this one."""
    problem = "it describes task-7, although task-8 was asked for"
    assert refusal(task_reply(NEEDED), asked="task-8") == problem


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        ("", "a task in it has no members"),
        ("text", "a task in it has no members"),
        ("<State>Running</State>", "it has no TaskId"),
        (NEEDED.replace("task-7", ""), "it has no TaskId"),
        (NEEDED.replace("task-7", "x"), "its TaskId is no task ID: x"),
        (
            NEEDED.replace("task-7", "task-\u0667"),
            "its TaskId is no task ID: task-\u0667",
        ),
        (NEEDED.replace("task-7", "task-7/.."), "its TaskId is no task ID: task-7/.."),
        (NEEDED.replace("task-7", "<A/>"), "its TaskId is no text"),
        (NEEDED + "<TaskId>task-7</TaskId>", "its TaskId is no text"),
        (NEEDED.replace("Running", " "), "it has no State"),
        (NEEDED + "<State>Finished</State>", "its State is no text"),
        (NEEDED + "<Operation>StopJob</Operation>", "its Operation is no text"),
        (NEEDED + "<Result>true</Result>", "its Result has no Success"),
        (
            NEEDED + '<Result Success="true"/><Result Success="false"/>',
            "its Result has no Success",
        ),
        (NEEDED + '<Result Success="yes"/>', "its Result has no Success but yes"),
        (NEEDED + '<Result Success=""/>', "its Result has no Success but "),
        (
            NEEDED + '<Result Success="true"><Message/><Message/></Result>',
            "its Message is no text",
        ),
        (NEEDED + "<Links>text</Links>", "its Links are no links"),
        (NEEDED + "<Links><Link>a</Link></Links>", "a link in it has no members"),
        (NEEDED + "<v:A/>", "it is not well-formed XML (unbound prefix: "),
    ],
)
def test_what_the_sheet_does_not_allow_is_malformed(inner: str, problem: str) -> None:
    """A task without what every task has is no task."""
    assert refusal(task_reply(inner)).startswith(problem)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"TaskId": 7}, "its TaskId is no text"),
        ({"TaskId": None}, "it is no task, since its members are State, Operation"),
        ({"TaskId": ["task-7"]}, "its TaskId is no text"),
        ({"State": None}, "it has no State"),
        ({"Operation": True}, "its Operation is no text"),
        ({"Result": True}, "its Result has no Success"),
        ({"Result": []}, "its Result has no Success"),
        ({"Result": {"Success": "yes"}}, "its Result has no Success but yes"),
        ({"Result": {"Success": 1.0}}, "its Result has no Success but 1.0"),
        ({"Result": {"Success": True, "Message": 1}}, "its Message is no text"),
        ({"Links": "x"}, "its Links are no links"),
        ({"Links": ["x"]}, "a link in it has no members"),
        ({"Links": [{"Rel": 1, "Href": None}]}, "its Rel is no text"),
        ({"Links": [{"Rel": "x", "Href": 1}]}, "its Href is no text"),
    ],
)
def test_json_that_the_sheet_does_not_allow_is_malformed(
    members: dict[str, object], problem: str
) -> None:
    """Types are checked as well, since JSON has some."""
    body = json.dumps(NEEDED_JSON | members).encode()
    assert refusal(reply(body, JSON)) == problem


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"<Tasks/>", "application/xml", "it holds 0 tasks instead of one"),
        (
            b"<Tasks><Task>a</Task><Task/></Tasks>",
            "application/xml",
            "it holds 2 tasks instead of one",
        ),
        (b"<Tasks><Task/></Tasks>", "application/xml", "a task in it has no members"),
        (b"<Tasks><A/></Tasks>", "application/xml", "its Tasks are no list of tasks"),
        (b"<Tasks>a</Tasks>", "application/xml", "its Tasks are no list of tasks"),
        (b'{"Tasks":[]}', JSON, "it holds 0 tasks instead of one"),
        (b"{}", JSON, "it is no task, since its members are none"),
        (b'{"@a":1}', JSON, "it is no task, since its members are @a"),
        (b"<body/>", "text/xml", "it is no task, since its root is <body>"),
        (
            b'<Task xmlns="urn:x"/>',
            "text/xml",
            "it is no task, since its root is <urn:x:Task>",
        ),
    ],
)
def test_another_document_is_no_task(
    body: bytes, content_type: str, problem: str
) -> None:
    """Other roots, and collections of none or many, are refused in words."""
    assert refusal(reply(body, content_type)) == problem


def test_a_malformed_reply_shows_where_it_came_from_and_how_it_begins() -> None:
    """The error names the request and the first bytes, without secrets."""
    secrets = Secrets()
    secrets.add("dG9rZW4tMTIzNDU2Nzg5MA==")
    given_reply = task_reply("<TaskId>dG9rZW4tMTIzNDU2Nzg5MA==</TaskId>")
    with pytest.raises(MalformedReplyError) as caught:
        _replies.decode_task(given_reply, secrets)
    assert caught.value.request == given_reply.request
    assert caught.value.problem == "its TaskId is no task ID: [hidden]"
    assert caught.value.excerpt.startswith("'<Task xmlns=")
    assert caught.value.excerpt.endswith("<TaskId>[hidden]</TaskId></Task>'")


def test_echoed_secrets_are_hidden_from_values() -> None:
    """A task that quotes a secret shows it nowhere."""
    token = "dG9rZW4tMTIzNDU2Nzg5MA=="
    secrets = Secrets()
    secrets.add(token)
    inner = (
        f'<Links><Link Rel="Related" Href="https://h/{token}" Name="{token}"/>'
        f'<Link Rel="Delete" Href="https://h/"/></Links><TaskId>task-7</TaskId>'
        f"<State>{token}</State><Operation>{token}</Operation>"
        f'<Result Success="true"><Message>{token}</Message></Result>'
    )
    for attributes in ("", f' Href="{token}"'):
        task = _replies.decode_task(task_reply(inner, attributes), secrets)
        assert "[hidden]" in repr(task)
        assert not secrets.is_in(repr(task) + repr(task.links) + str(task.href))
        assert task.links[1] == Link(rel="Delete", href="https://h/")
    quiet = task_reply(inner.replace(f"<Message>{token}</Message>", ""))
    assert _replies.decode_task(quiet, secrets).result == TaskResult(success=True)


# --- collections


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("https://em:9398/api/query?type=Task&amp;page=2", "query?type=Task&page=2"),
        ("http://other/veeam/api/tasks?page=2", "tasks?page=2"),
        ("/api/query?page=2", "query?page=2"),
        ("query?page=2", "query?page=2"),
        ("https://h/api/query?a=/api/b", "query?a=/api/b"),
        ("https://h/api/query?filter=State!=Finished", "query?filter=State!=Finished"),
    ],
)
def test_only_the_path_of_the_next_page_is_used(href: str, path: str) -> None:
    """Scheme, host and port of a link are the server's own idea of itself."""
    body = (
        '<QueryResult><PagingInfo PageNum="1"><Links>'
        f'<Link Rel="next" Href="{href}"/></Links></PagingInfo></QueryResult>'
    )
    page = _replies.decode_tasks(reply(body.encode()), SECRETS)
    assert page == _replies.Page(tasks=(), next_path=path, number=1)


def query(paging: str) -> bytes:
    """Return a query result without tasks."""
    return f"<QueryResult>{paging}</QueryResult>".encode()


def next_link(*hrefs: str) -> bytes:
    """Return a query result whose next page is there."""
    links = "".join(f'<Link Rel="Next" Href="{href}"/>' for href in hrefs)
    return query(f"<PagingInfo><Links>{links}</Links></PagingInfo>")


TASK = f"<Task>{NEEDED}</Task>"
AWAY = "its link to the next page leads nowhere: "


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (
            f"<Tasks>{TASK}{TASK}</Tasks>".encode(),
            "text/xml",
            "a task stands in it twice",
        ),
        (b"<Tasks><Task/></Tasks>", "text/xml", "a task in it has no members"),
        (
            f"<Tasks>{TASK}<Task><TaskId>task-8</TaskId></Task></Tasks>".encode(),
            "text/xml",
            "it has no State",
        ),
        (TASK.encode(), "text/xml", "it is no collection of tasks, since its root is"),
        (b"<QueryResult>a</QueryResult>", "text/xml", "its QueryResult has no members"),
        (query("<Resources>a</Resources>"), "text/xml", "its Resources has no members"),
        (query("<PagingInfo>a</PagingInfo>"), "text/xml", "its PagingInfo has no mem"),
        (query('<PagingInfo PageNum="x"/>'), "text/xml", "its PageNum is no count: x"),
        (query('<PagingInfo PagesCount="-1"/>'), "text/xml", "its PagesCount is no"),
        (
            query('<PagingInfo PagesCount="\u0663"/>'),
            "text/xml",
            "its PagesCount is no",
        ),
        (next_link("https://h/else?page=2"), "text/xml", AWAY + "https://h/else?page="),
        (next_link("https://h/api/"), "text/xml", AWAY),
        (next_link("https://h/api//h/x"), "text/xml", AWAY),
        (next_link("https://h/api/../x"), "text/xml", AWAY),
        (next_link("https://h/api/a b"), "text/xml", AWAY),
        (next_link("https://h/api/a#b"), "text/xml", AWAY),
        (next_link("//h/x"), "text/xml", AWAY),
        (next_link("query?page=2", "query?page=3"), "text/xml", AWAY),
        (b'{"Tasks":"x"}', JSON, "its Tasks are no list of tasks"),
        (b'{"Tasks":[null]}', JSON, "a task in it has no members"),
        (b'{"Tasks":{"Other":[]}}', JSON, "its Tasks are no list of tasks"),
        (b'{"Resources":[]}', JSON, "its Resources has no members"),
        (b'{"Resources":null,"PagingInfo":{"PagesCount":true}}', JSON, "its PagesCou"),
        (b'{"TaskId":"task-7"}', JSON, "it is no collection of tasks, since its mem"),
    ],
)
def test_what_is_no_collection_is_malformed(
    body: bytes, content_type: str, problem: str
) -> None:
    """Doubles, other documents and links that lead astray are refused in words."""
    with pytest.raises(MalformedReplyError) as caught:
        _replies.decode_tasks(reply(body, content_type), SECRETS)
    assert caught.value.problem.startswith(problem)


def test_namespaces_may_be_left_alone() -> None:
    """A reader of slices wants no document that must be resolved."""
    body = f'<v:Tasks xmlns:v="{VEEAM}"/>'.encode()
    assert _replies.decode_tasks(reply(body), SECRETS).tasks == ()
    with pytest.raises(MalformedReplyError, match="namespaces must be resolved"):
        _replies.decode_tasks(reply(body), SECRETS, resolve=False)


# --- logons


@pytest.mark.parametrize(
    ("body", "content_type", "session_id"),
    [
        (b'<LogonSession SessionId=" 1234-abcd "/>', "text/xml", "1234-abcd"),
        (b"<LogonSession/>", "text/xml", None),
        (b"<LogonSession>text</LogonSession>", "text/xml", None),
        (b"<LogonSession><SessionId/></LogonSession>", "text/xml", None),
        (b"<LogonSession><SessionId><A/></SessionId></LogonSession>", "text/xml", None),
        (b"<Other><SessionId>1234</SessionId></Other>", "text/xml", None),
        (b'{"SessionId":"1234-abcd"}', JSON, "1234-abcd"),
        (b'{"SessionId":null}', JSON, None),
        (b'{"SessionId":1234}', JSON, None),
        (b'{"SessionId":"' + b"1" * 257 + b'"}', JSON, None),
        (b"", "", None),
        (b"<html>", "text/html", None),
        (b"<LogonSession><SessionId>1234", "text/xml", None),
    ],
)
def test_a_logon_whose_body_shows_no_session_id_is_still_one(
    body: bytes, content_type: str, session_id: str | None
) -> None:
    """The token in the header is what counts, so a strange body harms nothing."""
    given_reply = reply(body, content_type, 201)
    assert _replies.decode_logon(given_reply, Secrets()) == session_id


# --- resources


def test_a_resource_is_read_as_it_is() -> None:
    """XML has its root as the one key; an empty or other body is malformed."""
    assert _replies.decode_resource(reply(b"<Job/>"), SECRETS) == {"Job": None}
    with pytest.raises(MalformedReplyError):
        _replies.decode_resource(reply(b""), SECRETS)


# --- errors


def error_reply(message: str, status: int = 500, **more: Any) -> Reply:
    """Return a reply with an error body of the Enterprise Manager."""
    body = f'<Error xmlns="{VEEAM}" Message="{message}" StatusCode="{status}"/>'
    return reply(body.encode(), status=status, **more)


@pytest.mark.parametrize(
    ("body", "content_type", "is_error", "message"),
    [
        (b'<Error Message=" a "/>', "text/xml", True, "a"),
        (b'<Error Message=""/>', "text/xml", True, None),
        (b'<Error StatusCode="500"/>', "text/xml", True, None),
        (b"<Error/>", "text/xml", False, None),
        (b"<Error>a</Error>", "text/xml", False, None),
        (b"<Error><Code>NoSuchKey</Code></Error>", "text/xml", False, None),
        (b'<Error xmlns="urn:x" Message="a"/>', "text/xml", False, None),
        (b'<Fault Message="a" StatusCode="500"/>', "text/xml", False, None),
        (b'{"Message":"a","StatusCode":400}', JSON, True, "a"),
        (b'{"Message":null,"StatusCode":400}', JSON, False, None),
        (b'{"Message":1,"StatusCode":400}', JSON, True, None),
        (b'{"message":"a","firstChanceExceptionMessage":"b"}', JSON, True, "a"),
        (b'{"message":"a","errorCode":"NotFound"}', JSON, False, None),
        (b"<html>a</html>", "text/html", False, None),
        (b"", "", False, None),
    ],
)
def test_whose_error_body_it_is(
    body: bytes, content_type: str, is_error: bool, message: str | None
) -> None:
    """Bodies of proxies and of other services are not the Enterprise Manager's."""
    given_reply = reply(body, content_type, 500)
    assert _replies.is_error_body(given_reply) == is_error
    assert _replies.error_message(given_reply, SECRETS) == message


def test_a_message_is_fit_to_be_shown() -> None:
    """Secrets hidden, control characters visible, not longer than 500."""
    secrets = Secrets()
    secrets.add("P4ss<word")
    said = _replies.error_message(error_reply("a&#9;P4ss&lt;word\u202e"), secrets)
    assert said == "a\\t[hidden]\\u202e"
    long = _replies.error_message(error_reply("x" * 600), secrets)
    assert long == "x" * 500 + "..."
    half = _replies.error_message(error_reply("x" * 496 + "P4ss&lt;word"), secrets)
    assert half == "x" * 496 + "[hid..."


@pytest.mark.parametrize(
    ("status", "message", "is_unknown"),
    [
        (500, "There is no backup task with id [task-7] in current rest session", True),
        (500, "there is NO task with ID task-7", True),
        (400, "No restore\nsession task with id 7", True),
        (500, "Object reference not set to an instance of an object.", False),
        (500, "task with id [task-7] failed", False),
        (404, "Not found", True),
        (503, "There is no backup task with id [task-7]", False),
        (403, "There is no backup task with id [task-7]", False),
        (200, "There is no backup task with id [task-7]", False),
    ],
)
def test_who_says_that_a_task_is_unknown(
    status: int, message: str, is_unknown: bool
) -> None:
    """Only the Enterprise Manager's own words, or its 404, mean an unknown task."""
    given_reply = error_reply(message, status)
    assert _replies.is_unknown_task(given_reply) == is_unknown
    error = _replies.status_error(given_reply, SECRETS)
    assert isinstance(error, TaskNotFoundError) == is_unknown


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("status", [500, 400, 404])
def test_another_unknown_task_than_asked_for_says_nothing(
    method: str, status: int
) -> None:
    """The ID in brackets must be the one asked for; without one the words count."""
    request = f"{method} https://h/api/tasks/task-1"
    for named, other in (
        ("[task-1]", None),
        ("[ TASK-1 ]", None),
        ("[]", None),
        ("[0]", None),
        ("[task-2]", "task-2"),
        ("[task-11]", "task-11"),
    ):
        given_reply = error_reply(
            f"There is no backup task with id {named} in current rest session",
            status,
            request=request,
        )
        error = _replies.status_error(given_reply, SECRETS)
        assert isinstance(error, TaskNotFoundError) == (other is None)
        malformed = _replies.about_another(given_reply, "task-1", SECRETS)
        assert (malformed is None) == (other is None)
        if malformed is not None:
            problem = f"it says that {other} is unknown, although task-1 was asked for"
            assert malformed.problem == problem


@pytest.mark.parametrize(
    ("body", "content_type", "is_unknown"),
    [
        (b"", "", True),
        (b" \r\n", "text/html", True),
        (b"<html>There is no task with id task-7</html>", "text/html", False),
        (b"<html>There is no task with id task-7</html>", "text/xml", False),
        (b'{"errorCode":"NotFound","message":"no task with id 7"}', JSON, False),
    ],
)
def test_a_404_is_believed_only_from_the_enterprise_manager(
    body: bytes, content_type: str, is_unknown: bool
) -> None:
    """A proxy's page does not lose a task; an empty 404 comes from the service."""
    assert _replies.is_unknown_task(reply(body, content_type, 404)) == is_unknown


def test_a_404_to_something_else_is_no_unknown_task() -> None:
    """Unknown is then the job, not the task."""
    given_reply = error_reply(
        "Not found", 404, request="POST https://h/api/jobs/x?action=start"
    )
    error = _replies.status_error(given_reply, SECRETS)
    assert type(error) is StatusError
    assert "9398" not in str(error)


def test_a_404_of_no_enterprise_manager_tells_of_the_port() -> None:
    """9419 is another Veeam API, and the commonest mistake."""
    error = _replies.status_error(reply(b"<html/>", "text/html", 404), SECRETS)
    assert type(error) is StatusError
    assert "its port is 9398 (9419 is another Veeam API)" in str(error)


@pytest.mark.parametrize(
    "page",
    [
        b"<title>400 The plain HTTP request was sent to HTTPS port</title>",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
    ],
    ids=["nginx", "Apache", "Go", "Tomcat"],
)
def test_a_400_to_plain_http_at_a_tls_port_asks_for_https(page: bytes) -> None:
    """In the known words, and only when it was we who spoke plain HTTP."""
    for request, is_told in (
        ("POST http://h:9398/api/sessionMngr/?v=latest", True),
        ("POST https://h:9398/api/sessionMngr/?v=latest", False),
    ):
        given_reply = attrs.evolve(reply(page, "text/html", 400), request=request)
        error = _replies.status_error(given_reply, SECRETS)
        assert type(error) is StatusError
        assert ("speaks TLS; is https:// meant?" in str(error)) == is_told


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_a_forbidden_error(status: int) -> None:
    """Whoever logs on makes a logon error of it, and nobody else."""
    error = _replies.status_error(error_reply("Access denied", status), SECRETS)
    assert type(error) is ForbiddenError
    assert error.message == "Access denied"


def test_a_busy_server_may_say_for_how_long() -> None:
    """503 is busy, with the seconds that the server asked to wait."""
    error = _replies.status_error(error_reply("later", 503, retry_after=2.5), SECRETS)
    assert type(error) is ServerBusyError
    assert error.retry_after == 2.5


@pytest.mark.parametrize(
    ("location", "shown"),
    [("https://else.example/\x1b", "https://else.example/\\x1b"), (None, "nowhere")],
)
def test_a_redirect_names_where_it_points(location: str | None, shown: str) -> None:
    """It is not followed, and the error says where it would have led."""
    given_reply = reply(b"", "", 302, location=location)
    error = _replies.status_error(given_reply, SECRETS)
    assert type(error) is StatusError
    assert error.status == 302
    assert f"It points to {shown}, which is not followed" in str(error)
