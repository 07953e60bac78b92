"""Slices: a collection cut without parsing it means what parsing it would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.slicing import cut_whole
from support.strategies import VEEAM, reply, xml_collections

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol import slices as _slices
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

SECRETS = Secrets()
HREF = "https://h:9398/api/tasks/task-"


def task(number: int, state: str = "Running") -> str:
    """Return the element of a task as the reference prints it."""
    return (
        f'<Task Type="Task" Href="{HREF}{number}"><Links><Link Rel="Delete" Type="Task"'
        f' Href="{HREF}{number}" /></Links><TaskId>task-{number}</TaskId>'
        f"<State>{state}</State><Operation>StartJob</Operation></Task>"
    )


def tasks(*elements: str) -> bytes:
    """Return a collection of these elements."""
    return f'<Tasks xmlns="{VEEAM}">{"".join(elements)}</Tasks>'.encode()


PORTIONS = (700, 1)
"""Sizes of portions: some tasks, and never more than one."""


def sliced(given_reply: Reply) -> tuple[Task, ...] | None:
    """Return the tasks by way of slices, or None; in any portions the same or None."""
    found = cut_whole(given_reply)
    tasks = None if found is None else decoded(given_reply, found)
    for size in PORTIONS:
        again = cut_whole(given_reply, portion=size)
        other = None if again is None else decoded(given_reply, again)
        assert other is None or other == whole(given_reply)
    return tasks


def decoded(given_reply: Reply, found: dict[str, bytes]) -> tuple[Task, ...] | None:
    """Return slices decoded, the same all at once and one by one; None if refused."""
    singly: list[Task] | None = []
    for task_id, part in found.items():
        try:
            singly += _slices.decode_slices(given_reply, {task_id: part}, SECRETS)
        except MalformedReplyError:
            singly = None
            break
    try:
        together = _slices.decode_slices(given_reply, found, SECRETS)
    except MalformedReplyError:
        assert singly is None
        return None
    assert singly is not None
    assert list(together) == singly
    return together


def whole(given_reply: Reply) -> tuple[Task, ...] | None:
    """Return the tasks by parsing all; None if that is refused."""
    try:
        return _replies.decode_tasks(given_reply, SECRETS).tasks
    except MalformedReplyError:
        return None


def test_a_published_collection_is_cut_into_its_tasks() -> None:
    """Each slice holds one task's bytes, in the server's order."""
    found = cut_whole(reply(tasks(task(29, "Finished"), "\n  ", task(30), "\n")))
    assert found is not None
    assert list(found) == ["task-29", "task-30"]
    assert found["task-30"] + b"</Task>" == task(30).encode()


@pytest.mark.parametrize(
    "head",
    [
        "",
        '<?xml version="1.0" encoding="utf-8"?>',
        '<?xml version="1.0" encoding="UTF-8"?>\r\n',
        '<?xml version="1.0"?>',
        "\ufeff\n",
    ],
)
@pytest.mark.parametrize(
    "declared",
    [
        "",
        f' xmlns="{VEEAM}"',
        f' xmlns="{VEEAM}" xmlns:xsd="http://a/b#c" xmlns:xsi="d"',
    ],
)
def test_what_servers_print_around_tasks_is_no_surprise(
    head: str, declared: str
) -> None:
    """A declaration, a byte order mark and namespaces are expected."""
    body = f"{head}<Tasks{declared}>{task(1)}</Tasks>\n".encode()
    given_reply = reply(body)
    assert cut_whole(given_reply) is not None
    assert sliced(given_reply) == whole(given_reply) != ()


def test_any_portions_give_the_same_slices() -> None:
    """A collection is cut up a portion at a time; a task may be longer than one."""
    given_reply = reply(tasks(*[task(number) for number in range(1, 30)]))
    found = cut_whole(given_reply)
    assert found is not None
    assert len(found) == 29
    for size in PORTIONS:
        assert cut_whole(given_reply, portion=size) == found
    assert len(list(_slices.split(given_reply, portion=700))) == 10
    assert len(list(_slices.split(given_reply, portion=1))) == 29


def test_a_task_twice_is_a_surprise_across_portions() -> None:
    """An ID that stands in two portions is refused like one that stands in one."""
    given_reply = reply(tasks(task(1), task(2), task(1)))
    assert cut_whole(given_reply, portion=1) is None


def test_an_empty_collection_has_no_slices() -> None:
    """No tasks are no surprise, and decode to none."""
    given_reply = reply(tasks())
    assert cut_whole(given_reply) == {}
    assert _slices.decode_slices(given_reply, {}, SECRETS) == ()


SURPRISES = {
    "json": (b'{"Tasks":[]}', "application/json"),
    "html": (b"<html></html>", "application/xml"),
    "called html": (tasks(task(1)), "text/html"),
    "empty": (b"", "application/xml"),
    "query": (f'<QueryResult xmlns="{VEEAM}"/>'.encode(), "application/xml"),
    "one task": (task(1).encode(), "application/xml"),
    "closed at once": (b"<Tasks/>", "application/xml"),
    "foreign namespace": (b'<Tasks xmlns="urn:x"></Tasks>', "application/xml"),
    "namespace twice": (
        f'<Tasks xmlns="{VEEAM}" xmlns="{VEEAM}"></Tasks>'.encode(),
        "application/xml",
    ),
    "prefix": (f'<v:Tasks xmlns:v="{VEEAM}"></v:Tasks>'.encode(), "application/xml"),
    "other attribute": (b'<Tasks Href="x"></Tasks>', "application/xml"),
    "other encoding": (
        b'<?xml version="1.0" encoding="iso-8859-1"?><Tasks></Tasks>',
        "application/xml",
    ),
    "doctype": (b"<!DOCTYPE Tasks><Tasks></Tasks>", "application/xml"),
    "comment before": (b"<!-- --><Tasks></Tasks>", "application/xml"),
    "comment after": (tasks() + b"<!-- -->", "application/xml"),
    "comment between": (tasks(task(1), "<!-- -->", task(2)), "application/xml"),
    "text between": (tasks(task(1), "and", task(2)), "application/xml"),
    "text at the end": (tasks(task(1), "and"), "application/xml"),
    "other element": (tasks("<Other/>", task(1)), "application/xml"),
    "empty task": (tasks("<Task/>", task(1)), "application/xml"),
    "paging": (tasks(task(1), '<PagingInfo PageNum="1"/>'), "application/xml"),
    "cut short": (tasks(task(1), task(2))[:-200], "application/xml"),
    "twice the same": (tasks(task(1), task(1)), "application/xml"),
    "no ID": (tasks(task(1).replace("TaskId", "Id")), "application/xml"),
    "two IDs": (
        tasks(task(1).replace("<State>", "<TaskId>task-2</TaskId><State>")),
        "application/xml",
    ),
    "odd ID": (tasks(task(1).replace(">task-1<", ">task-x<")), "application/xml"),
    "too many elements": (
        tasks(task(1).replace("<State>", "<a/>" * 9000 + "<State>")),
        "application/xml",
    ),
}


@pytest.mark.parametrize(("body", "content_type"), SURPRISES.values(), ids=SURPRISES)
def test_a_surprise_leaves_the_whole_to_be_parsed(
    body: bytes, content_type: str
) -> None:
    """Nothing is cut that is not exactly what servers print."""
    assert cut_whole(reply(body, content_type)) is None


DOUBTS = {
    "comment": task(1).replace("<State>", "<!-- --><State>"),
    "comment around the end": task(1).replace("<State>", "<!-- </Task> --><State>"),
    "comment over a cut": task(1).replace("</Task>", "<!-- </Task>")
    + task(2).replace("<Task ", "<Task --> "),
    "CDATA": task(1).replace("Running", "<![CDATA[Running]]>"),
    "instruction": task(1).replace("<State>", "<?a b?><State>"),
    "prefix": task(1).replace("<State>", "<v:Other/><State>"),
    "nested namespace": task(1).replace("<State>", '<State xmlns="urn:x">'),
    "reserved prefix": task(1).replace("<Task ", '<Task xmlns:xml="urn:x" ')
    + task(2).replace("<Task ", f'<Task xmlns="{VEEAM}" '),
    "nested task": task(1).replace("<State>", "<Task ></Task ><State>"),
    "ID elsewhere": task(1)
    .replace("<TaskId>task-1</TaskId>", "<TaskId >task-2</TaskId>")
    .replace("<State>", "<A><TaskId>task-1</TaskId></A><State>"),
    "no state": task(1).replace("State>", "Stat>"),
    "not well-formed": task(1).replace("</State>", ""),
    "end of the collection": task(1).replace("<State>", "</Tasks><Tasks><State>"),
    "entity": task(1).replace("Running", "&other;"),
    "bad reference": task(1).replace("Running", "&#27;"),
    "control character": task(1).replace("Running", "\x01"),
}


@pytest.mark.parametrize("element", DOUBTS.values(), ids=DOUBTS)
def test_a_doubtful_slice_is_refused_when_it_is_read(element: str) -> None:
    """What only a parser can tell is told by the parser, for the slice alone."""
    given_reply = reply(tasks(element, task(9)))
    assert sliced(given_reply) is None


def test_the_error_of_a_slice_tells_no_content() -> None:
    """A refused slice only means that the whole is to be parsed."""
    given_reply = reply(tasks(task(1)))
    with pytest.raises(MalformedReplyError, match=r"does not stand for itself$"):
        _slices.decode_slices(given_reply, {"task-2": task(1)[:-7].encode()}, SECRETS)


@given(given_collection=xml_collections())
def test_slices_mean_what_the_whole_means(
    given_collection: tuple[list[Task], bytes],
) -> None:
    """For any collection: either refused, or equal to the full parse."""
    expected, body = given_collection
    given_reply = reply(body)
    assert whole(given_reply) == tuple(expected)
    assert sliced(given_reply) in (None, tuple(expected))


FRAGMENTS = [
    b"<Task>",
    b"</Task>",
    b"</Task >",
    b"<Task ",
    b"<Task/>",
    b"</Tasks>",
    b"<Tasks>",
    b"<TaskId>",
    b"</TaskId>",
    b"<TaskId>task-1</TaskId>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<?a",
    b"?>",
    b'"',
    b"'",
    b">",
    b"<",
    b"&",
    b"/>",
    b"\xff",
    b"\x00",
    b' xmlns="urn:x"',
    b' xmlns:v="urn:v"',
    b"<v:A/>",
    b' v:a="1"',
    b"<A>",
    b"</A>",
    b"",
]


@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 10_000), st.integers(0, 40), st.sampled_from(FRAGMENTS)
        ),
        max_size=4,
    ),
    count=st.integers(1, 3),
)
def test_no_mutation_makes_slices_differ_from_the_whole(
    edits: list[tuple[int, int, bytes]], count: int
) -> None:
    """Slices decode only where the full parse does, and to the same tasks."""
    body = tasks(*[task(number) for number in range(1, count + 1)])
    for position, length, fragment in edits:
        at = position % (len(body) + 1)
        body = body[:at] + fragment + body[at + length :]
    given_reply = reply(body)
    found = sliced(given_reply)
    if found is not None:
        assert whole(given_reply) == found
