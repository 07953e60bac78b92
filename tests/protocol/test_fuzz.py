"""Random bytes and mutated published bodies to every decoder.

The default run does a fixed share. ``nox -s fuzz`` sets VEEAM_TASKS_FUZZ_ROUNDS, and
then time and memory are measured as well, and printed.
"""

import os
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.slicing import cut_whole
from support.strategies import VEEAM, reply

from veeam_tasks._errors import MalformedReplyError, VeeamTasksError
from veeam_tasks._model import Task
from veeam_tasks._protocol import document as _document
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol import slices as _slices
from veeam_tasks._protocol import tasks as _tasks
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

SHARE = 3_000
SEED = 20_261_123
LONGEST = 1 << 20
MOST_SECONDS = 1.0
MOST_BYTES = 64 << 20
MEASURED_EACH = 500
"""Tracing memory makes everything some four times slower: one round in so many."""

SECRET = "dG9rZW4tMTIzNDU2Nzg5MA=="
SAMPLES = Path(__file__).parents[1] / "samples"
BODIES = [path.read_bytes() for path in sorted(SAMPLES.glob("*/body.*"))]
FRAGMENTS = [
    *[b"<", b">", b"</", b"/>", b"&", b";", b"&#0;", b"&#x110000;", b"<!--", b"-->"],
    *[b"<![CDATA[", b"]]>", b"<?a", b"?>", b"<!DOCTYPE a [", b"<!ENTITY a 'b'>"],
    *[b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"\\u0000", b"null"],
    *[b"1e999", b"NaN", b"-0", b"9" * 70, b"true", b"[]", b"{}"],
    *[b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\x1b["],
    *[b"<Task>", b"</Task>", b"<Tasks>", b"</Tasks>", b"<TaskId>task-1</TaskId>"],
    *[b"<Result/>", b"<v:a/>", b' xmlns="u"', b' xmlns:v="u"', b' xsi:nil="true"'],
    *[b"task-", b"Finished", b"Rel", b"Next", b"/api/", SECRET.encode()],
]
CONTENT_TYPES = ["application/xml", "application/json", "text/html", "", "a/b+xml"]
STATUSES = [200, 201, 202, 302, 400, 401, 403, 404, 500, 503]

XML_UNITS = [
    *[b"<a>", b"<a/>", b"<Task>", b"<Task/>", b"<a b=''/>", b"<v:a/>", b"<!---->"],
    *[b"&amp;", b"&#65;", b"x", b"<![CDATA[x]]>", b"<?a?>", b" a=''", b"</a>", b"<"],
    f"<Task><TaskId>{'task-1'}</TaskId><State>a</State></Task>".encode(),
]
JSON_UNITS = [
    *[b"[", b"{", b'{"a":', b"[],", b"{},", b'{"":0},', b'"a":0,', b"1", b"1e5,"],
    *[b"\\ud800", b"\\\\", b'"', b" ", b'"ab",', b'{"TaskId":[]},'],
]


def long_body(chance: random.Random) -> bytes:
    """Return up to 1 MiB of one thing again and again, whole or not."""
    size = chance.randrange(LONGEST // 64, LONGEST)
    if chance.random() < 0.5:
        head, unit, tail = b"<Tasks>", chance.choice(XML_UNITS), b"</Tasks>"
        if chance.random() < 0.2:
            head, tail = f"<v:Tasks xmlns:v='{VEEAM}'>".encode(), b"</v:Tasks>"
        if unit == b" a=''":
            units = (b" a%x=''" % number for number in range(size // 9))
            return head + b"<a" + b"".join(units) + b"/>" + tail
    else:
        head, unit, tail = b'{"Tasks":[', chance.choice(JSON_UNITS), b"0]}"
        if chance.random() < 0.3:
            head, tail = b'{"State":"', b'"}'
    body = head + unit * ((size - len(head) - len(tail)) // len(unit))
    return body + tail if chance.random() < 0.7 else body


def mutated(chance: random.Random) -> bytes:
    """Return a published body with some bytes replaced, moved, doubled or lost."""
    body = bytearray(chance.choice(BODIES))
    for _ in range(chance.choice([0, 1, 1, 1, 2, 2, 3, 5, 10])):
        at = chance.randrange(len(body) + 1)
        until = min(len(body), at + chance.choice([0, 0, 1, 1, 2, 8, 40]))
        kind = chance.randrange(6)
        if kind == 0:
            del body[at:until]
        elif kind == 1:
            body[at:until] = chance.choice(FRAGMENTS)
        elif kind == 2:
            body[at:at] = body[at:until] * chance.choice([1, 2, 40])
        elif kind == 3:
            body[at:until] = chance.randbytes(until - at)
        elif kind == 4:
            other = chance.choice(BODIES)
            start = chance.randrange(len(other))
            body[at:until] = other[start : start + chance.randrange(120)]
        elif at < len(body):
            body[at] ^= 1 << chance.randrange(8)
    if chance.random() < 0.02:
        return bytes(body).decode("utf-8", "replace").encode("utf-16")
    return bytes(body)


def replies(rounds: int, *, share_of_long: float) -> Iterator[Reply]:
    """Return as many replies as rounds, the same each time."""
    chance = random.Random(SEED)
    for _ in range(rounds):
        drawn = chance.random()
        if drawn < share_of_long:
            body = long_body(chance)
        elif drawn < 0.1:
            body = chance.randbytes(chance.randrange(200))
        else:
            body = mutated(chance)
        json_like = body.lstrip(b"\xef\xbb\xbf \r\n")[:1] in b"{["
        likely = "application/json" if json_like else "application/xml"
        yield reply(
            body,
            likely if chance.random() < 0.9 else chance.choice(CONTENT_TYPES),
            chance.choice(STATUSES),
            location="https://else.example/" + body[:9].decode("latin-1"),
        )


def slices_and_whole(given_reply: Reply, secrets: Secrets) -> tuple[Task, ...] | None:
    """Return the tasks by way of slices, having compared them with the full parse."""
    found = cut_whole(given_reply)
    if found is None:
        return None
    try:
        tasks = _slices.decode_slices(given_reply, found, secrets)
    except MalformedReplyError:
        return None
    assert tasks == _replies.decode_tasks(given_reply, secrets).tasks
    return tasks


def plain_and_whole(given_reply: Reply, secrets: Secrets) -> Task | None:
    """Return the task of the plain form, having compared it with the full parse."""
    task = _replies.plain_task(given_reply.body, secrets)
    if task is not None:
        alone = reply(given_reply.body)
        node = _tasks.single(*_document.parse(alone, secrets))
        assert task == _tasks.task_from_tree(node, secrets)
    return task


def every_decoder(given_reply: Reply, secrets: Secrets) -> list[Callable[[], object]]:
    """Return what can be asked of a reply."""
    return [
        lambda: _replies.decode_task(given_reply, secrets),
        lambda: _replies.decode_task(given_reply, secrets, asked="task-7"),
        lambda: _replies.decode_tasks(given_reply, secrets),
        # What it returns is a secret by itself.
        lambda: _replies.decode_logon(given_reply, Secrets()) is None,
        lambda: _replies.decode_resource(given_reply, secrets),
        lambda: _replies.error_message(given_reply, secrets),
        lambda: _replies.is_error_body(given_reply),
        lambda: _replies.is_unknown_task(given_reply),
        lambda: _replies.status_error(given_reply, secrets),
        lambda: slices_and_whole(given_reply, secrets),
        lambda: plain_and_whole(given_reply, secrets),
    ]


def check(value: object) -> None:
    """Assert that what was decoded can be printed and holds no secret."""
    if isinstance(value, Task):
        assert value.task_id.startswith("task-")
        assert value.raw_state
        repr((value, value.links)).encode()
    if isinstance(value, VeeamTasksError):
        assert value.__context__ is None
    if isinstance(value, str | VeeamTasksError | Task):
        text = f"{value} {value!r}"
        text.encode()
        assert SECRET.lower() not in text.lower()


def ask(given_reply: Reply, secrets: Secrets) -> int:
    """Ask everything of a reply; return how many values came."""
    values = 0
    for decode in every_decoder(given_reply, secrets):
        value = outcome(decode)
        check(value)
        values += not isinstance(value, MalformedReplyError | None)
    return values


@pytest.fixture
def secrets() -> Secrets:
    """Return the secrets of a manager that has logged on."""
    found = Secrets()
    found.add(SECRET)
    return found


def test_any_bytes_give_a_value_or_an_error_of_ours(secrets: Secrets) -> None:
    """Each decoder, given anything, returns or raises a VeeamTasksError."""
    values = 0
    for given_reply in replies(SHARE, share_of_long=0.002):
        values += ask(given_reply, secrets)
    # Mutation must leave enough of the bodies readable to reach what lies behind.
    assert values > SHARE


@pytest.mark.skipif(
    "VEEAM_TASKS_FUZZ_ROUNDS" not in os.environ, reason="on request: nox -s fuzz"
)
def test_a_million_of_them_are_neither_slow_nor_large(
    secrets: Secrets, capsys: pytest.CaptureFixture[str]
) -> None:
    """No decoder takes a second, or 64 MiB, for anything up to 1 MiB."""
    rounds = int(os.environ["VEEAM_TASKS_FUZZ_ROUNDS"])
    slowest, largest, values = 0.0, 0, 0
    began = time.perf_counter()
    for number, given_reply in enumerate(
        replies(rounds, share_of_long=min(0.001, 200 / rounds))
    ):
        is_long = len(given_reply.body) > LONGEST // 64
        if not is_long and number % MEASURED_EACH:
            values += ask(given_reply, secrets)
            continue
        for decode in every_decoder(given_reply, secrets):
            seconds, traced = measure(decode)
            slowest, largest = max(slowest, seconds), max(largest, traced)
            assert seconds < MOST_SECONDS, given_reply.body[:200]
            assert traced < MOST_BYTES, given_reply.body[:200]
    with capsys.disabled():
        print(
            f"\nfuzz: {rounds} bodies, {values} values, the rest errors of ours;"
            f" slowest {slowest:.3f} s, largest {largest / (1 << 20):.1f} MiB;"
            f" {time.perf_counter() - began:.0f} s in all, seed {SEED}"
        )


def measure(decode: Callable[[], object]) -> tuple[float, int]:
    """Return the seconds and, in a second run, the peak of bytes that it takes.

    Of CPU: by the clock other processes would count as well.
    """
    began = time.process_time()
    outcome(decode)
    seconds = time.process_time() - began
    tracemalloc.start()
    outcome(decode)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


def outcome(decode: Callable[[], object]) -> object:
    """Return the value, or the error of ours."""
    try:
        return decode()
    except VeeamTasksError as error:
        return error
