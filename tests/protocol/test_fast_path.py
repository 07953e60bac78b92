"""The plain form of a task's XML: read the same as by the parser, or not at all."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import xml_tasks

from veeam_tasks._errors import MalformedReplyError
from veeam_tasks._model import Task
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import fast_path as _fast_path
from veeam_tasks._protocol import tasks as _tasks
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._protocol.replies import plain_task
from veeam_tasks._redaction import Secrets

# Published in the vendor's reference, pages tasks_id and edit_cloud_tenant.
PUBLISHED = (
    b'<Task xmlns="http://www.veeam.com/ent/v1.0"'
    b' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    b' Href="http://h:9399/api/tasks/task-7" Type="Task">'
    b'<Links><Link Href="http://h:9399/api/tasks/task-7" Rel="Delete" />'
    b'<Link Href="http://h:9399/api/cloud/tenants/95c2?format=Entity" Name="Audi"'
    b' Type="CloudTenant" Rel="Related"/></Links>'
    b"<TaskId>task-7</TaskId><State>Finished</State>"
    b"<Operation>EditCloudTenant</Operation>"
    b'<Result Success="true"><Message>Ok</Message></Result></Task>'
)


def parsed(body: bytes) -> Task:
    """Return the task that the XML parser finds.

    Raises:
        MalformedReplyError, DocumentError: It finds none.
    """
    reply = Reply(
        request="GET x", status=200, content_type="application/xml", body=body
    )
    secrets = Secrets()
    return _tasks.task_from_tree(
        _tasks.single(*_document.parse(reply, secrets)), secrets
    )


def agrees(body: bytes) -> bool:
    """Tell whether the plain reading gives what the parser gives, or nothing."""
    plain = _fast_path.parse_task(body)
    return plain is None or plain == parsed(body)


def test_the_published_form_is_read_without_a_parser() -> None:
    """What the server sends is the plain form, so the fast way is the usual one."""
    assert _fast_path.parse_task(PUBLISHED) == parsed(PUBLISHED)
    assert plain_task(PUBLISHED, Secrets()) == parsed(PUBLISHED)


@pytest.mark.parametrize(
    "sample", sorted(Path(__file__).parents[1].glob("samples/task_*/*.xml")), ids=str
)
def test_published_samples_read_the_same(sample: Path) -> None:
    """Each published body of a task is read as the parser reads it."""
    assert agrees(sample.read_bytes())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Ok<", b"O&amp;k<"),
        (b"Ok<", b"<![CDATA[Ok]]><"),
        (b"Ok<", b"O]]>k<"),
        (b"Ok<", b"O\nk<"),
        (b"<Links>", b"<!-- a comment --><Links>"),
        (b"<Links>", b"<?pi x?><Links>"),
        (b' Type="Task"', b' Type="Task" Type="Task"'),
        (b' Type="Task"', b' Type="Task" Href="http://h:9399/api/tasks/task-7"'),
        (b' xmlns="http', b'Href="/api/tasks/task-7" xmlns="http'),
        (b' Type="Task"', b' Type="Task" xmlns:xsd="urn:again"'),
        (b' Rel="Delete"', b' Rel="Delete" Rel="Delete"'),
        (b' Rel="Delete"', b' Rel=""'),
        (b' Rel="Delete"', b""),
        (b"<Operation>EditCloudTenant</Operation>", b""),
        (b"<Operation>EditCloudTenant</Operation>", b"<Operation></Operation>"),
        (b' Success="true"', b""),
        (b' Rel="Delete"', b' xmlns="urn:x" Rel="Delete"'),
        (b' Type="Task"', b' x:Type="Task"'),
        (b' Type="Task"', b' xmlns:x=""'),
        (b' xmlns="http://www.veeam.com/ent/v1.0"', b' xmlns="urn:another"'),
        (b"<State>Finished</State>", b"<State> Finished </State>"),
        (b"<State>Finished</State>", b"<State></State>"),
        (b'Success="true"', b'Success="True"'),
        (b'Success="true"', b'ConfirmationNeeded="true" Success="true"'),
        (b"<Task ", b"<!DOCTYPE Task><Task "),
        (b"</Task>", b"<Task></Task></Task>"),
    ],
)
def test_a_surprise_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    """Whatever is not the plain form, well-formed or not, is not read here."""
    body = PUBLISHED.replace(old, new, 1)
    assert body != PUBLISHED
    assert _fast_path.parse_task(body) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b' xmlns="http://www.veeam.com/ent/v1.0"', b""),
        (b"Finished", b"Stopped"),
        (b"<Message>Ok</Message>", b""),
        (b"<Message>Ok</Message>", b"<Message>  </Message>"),
        (b'<Result Success="true"><Message>Ok</Message></Result>', b""),
        (b'Success="true"', b'Success="false"'),
        (b' Href="http://h:9399/api/tasks/task-7" Type', b" Type"),
        (b' Name="Audi"', b' Name=""'),
        (b"<Task ", b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n<Task '),
    ],
)
def test_plain_variants_are_read_as_the_parser_reads_them(
    old: bytes, new: bytes
) -> None:
    """Absent parts, unknown words and a declaration are still the plain form."""
    body = PUBLISHED.replace(old, new, 1)
    plain = _fast_path.parse_task(body)
    assert plain is not None
    assert plain == parsed(body)


@given(xml_tasks())
def test_generated_bodies_read_the_same(made: tuple[object, bytes]) -> None:
    """Whatever is read without a parser is what the parser reads."""
    assert agrees(made[1])


@given(st.integers(min_value=0, max_value=2**32))
def test_mutated_bodies_read_the_same_or_not_at_all(seed: int) -> None:
    """A body that the parser would refuse is never read without it."""
    chance = random.Random(seed)
    body = bytearray(PUBLISHED)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body))
        body[at : at + chance.randint(0, 3)] = bytes(
            chance.choice(b' <>&"/=:!?]xmlnsT\x00\xff') for _ in range(2)
        )
    plain = _fast_path.parse_task(bytes(body))
    if plain is not None:
        try:
            assert plain == parsed(bytes(body))
        except (MalformedReplyError, DocumentError) as error:
            pytest.fail(f"the parser refuses {bytes(body)!r}: {error}")


NAMES = [f"{one}{two}" for one in "abc" for two in "abcdefghijklmnopqrstuvwxyz"]


@pytest.mark.parametrize(
    "attributes",
    [
        "".join(f' {name}=""' for name in NAMES[:65]),
        f' Name="{"x" * 1024}"',
    ],
    ids=["many", "long"],
)
def test_odd_attributes_are_left_to_the_parser(attributes: str) -> None:
    """The parser's limit of 64 attributes holds, and nothing large is remembered."""
    plain = b"<TaskId>task-7</TaskId><State>Running</State><Operation>A</Operation>"
    assert _fast_path.parse_task(b"<Task>" + plain + b"</Task>") is not None
    assert (
        _fast_path.parse_task(f"<Task{attributes}>".encode() + plain + b"</Task>")
        is None
    )


def test_a_huge_body_is_left_to_the_parser() -> None:
    """A regular expression would take far more memory for it."""
    head, tail = PUBLISHED.split(b"Ok<")
    assert _fast_path.parse_task(head + b"k" * 1000 + b"<" + tail) is not None
    assert _fast_path.parse_task(head + b"k" * (1 << 16) + b"<" + tail) is None
