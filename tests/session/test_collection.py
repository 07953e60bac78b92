"""The pages of a collection: read one by one, cut or parsed, the loop let go."""

import asyncio
import json
from collections.abc import Callable

import pytest
from support.strategies import VEEAM, reply

from veeam_tasks import MalformedReplyError
from veeam_tasks._protocol import replies as _replies
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets
from veeam_tasks._session.collection import CollectionReader

SECRETS = Secrets()
MANY = 3000


def task(number: int) -> str:
    """Return the element of a task as the reference prints it."""
    href = f"https://h:9398/api/tasks/task-{number}"
    return (
        f'<Task Type="Task" Href="{href}"><Links><Link Rel="Delete" Href="{href}" />'
        f"</Links><TaskId>task-{number}</TaskId><State>Running</State>"
        "<Operation>StartJob</Operation></Task>"
    )


def collection(*elements: str) -> Reply:
    """Return the reply to GET /tasks."""
    return reply(f'<Tasks xmlns="{VEEAM}">{"".join(elements)}</Tasks>'.encode())


def query(number: int, pages: int, *, next_page: int = 0, shows: int = 0) -> Reply:
    """Return one page of a query with one task."""
    following, shown = next_page or number + 1, shows or number
    more = f'<Link Rel="Next" Href="https://h:9398/api/query?page={following}" />'
    return reply(
        f'<QueryResult xmlns="{VEEAM}"><Resources><Tasks>{task(shown)}</Tasks>'
        f'</Resources><PagingInfo PageNum="{number}" PagesCount="{pages}" PageSize="1">'
        f"<Links>{more if number < pages else ''}</Links></PagingInfo>"
        "</QueryResult>".encode()
    )


def pages(limit: int = 1 << 26) -> CollectionReader:
    """Return pages of which none is read yet."""
    return CollectionReader(
        loop=asyncio.get_running_loop(),
        shown="GET https://h:9398/api/tasks",
        limit=limit,
        secrets=SECRETS,
    )


async def ids_of(read: CollectionReader) -> list[str]:
    """Return the IDs of all tasks, in order."""
    return [each.task_id for each in await read.tasks()]


async def test_a_collection_is_cut_and_decoded_later() -> None:
    """`GET /tasks` is one page; its tasks stay slices until they are asked for."""
    read = pages()
    assert read.next_path() == "tasks"
    await read.read(collection(task(2), task(1)))
    assert read.next_path() is None
    assert [type(piece) for piece in read.found.values()] == [bytes, bytes]
    assert await ids_of(read) == ["task-2", "task-1"]
    assert read.count == 1


async def test_pages_are_followed_to_the_last() -> None:
    """A link to a next page is followed; its host is the server's own idea."""
    read = pages()
    read.next_path()
    for number in (1, 2, 3):
        await read.read(query(number, pages=3))
        expected = f"query?page={number + 1}" if number < 3 else None
        assert read.next_path() == expected
    assert await ids_of(read) == ["task-1", "task-2", "task-3"]
    assert read.size == sum(len(query(number, pages=3).body) for number in (1, 2, 3))


async def test_pages_without_end_are_an_error() -> None:
    """A page that leads back to one that was read would go on for ever."""
    read = pages()
    read.next_path()
    await read.read(query(1, pages=9))
    read.next_path()
    await read.read(query(2, pages=9, next_page=2))
    with pytest.raises(MalformedReplyError, match="after 2 pages it goes on at"):
        read.next_path()


def unlinked(number: int | None, pages: int | None, *numbers: int) -> Reply:
    """Return a page with these tasks that says no more than where it stands."""
    told = f' PageNum="{number}"' * (number is not None)
    told += f' PagesCount="{pages}"' * (pages is not None)
    return reply(
        f'<QueryResult xmlns="{VEEAM}"><Resources><Tasks>{"".join(map(task, numbers))}'
        f"</Tasks></Resources><PagingInfo{told}/></QueryResult>".encode()
    )


async def test_pages_without_links_are_followed_by_their_numbers() -> None:
    """PageNum below PagesCount means another page, whether or not a link says so."""
    read = pages()
    assert read.next_path() == "tasks"
    await read.read(unlinked(1, 3, 1, 2))
    assert read.next_path() == "tasks?page=2"
    await read.read(unlinked(2, 3, 2, 3))
    assert read.next_path() == "tasks?page=3"
    await read.read(unlinked(3, 3, 4))
    assert read.next_path() is None
    assert await ids_of(read) == ["task-1", "task-2", "task-3", "task-4"]


async def test_the_rest_of_a_query_is_kept_from_page_to_page() -> None:
    """The same is asked for, only another page of it; the size of a page stays."""
    link = "query?type=Task&amp;Page=2&amp;pageSize=1&amp;filter=State!=Finished"
    first = query(1, pages=4).body.replace(b"query?page=2", link.encode())
    read = pages()
    read.next_path()
    await read.read(reply(first))
    assert read.next_path() == link.replace("&amp;", "&")
    await read.read(unlinked(2, 4, 2))
    kept = "query?type=Task&pageSize=1&filter=State!=Finished&page="
    assert read.next_path() == f"{kept}3"
    await read.read(unlinked(3, 4, 3))
    assert read.next_path() == f"{kept}4"


@pytest.mark.parametrize(
    ("number", "count"), [(1, 1), (2, 1), (1, 0), (None, 3), (1, None)]
)
async def test_the_last_page_is_the_last(number: int | None, count: int | None) -> None:
    """What does not say that there is more ends there."""
    read = pages()
    read.next_path()
    await read.read(unlinked(number, count, 1))
    assert read.next_path() is None


async def test_a_page_with_nothing_new_that_leads_on_is_an_error() -> None:
    """It would lead on for ever, ten thousand requests long."""
    again = query(2, pages=9, shows=1)
    for last in (again, unlinked(2, 9, 1), unlinked(2, 9)):
        read = pages()
        read.next_path()
        await read.read(query(1, pages=9))
        read.next_path()
        with pytest.raises(MalformedReplyError, match="although it shows no new task"):
            await read.read(last)
    with pytest.raises(MalformedReplyError, match=r"at 'tasks[?]page=2', alth"):
        await pages_at("tasks").read(unlinked(1, 2))


def pages_at(path: str) -> CollectionReader:
    """Return pages whose first one has been asked for."""
    read = pages()
    assert read.next_path() == path
    return read


async def test_a_last_page_with_nothing_new_is_none() -> None:
    """Tasks may have gone while the pages before it were read."""
    read = pages_at("tasks")
    await read.read(query(1, pages=2))
    read.next_path()
    await read.read(unlinked(2, 2))
    assert read.next_path() is None
    assert await ids_of(read) == ["task-1"]


async def test_another_page_than_asked_for_is_an_error() -> None:
    """A server that does not know the parameter would show its first page for ever."""
    read = pages_at("tasks")
    await read.read(unlinked(1, 3, 1))
    read.next_path()
    with pytest.raises(MalformedReplyError, match="is page 1, although 2 was asked"):
        await read.read(unlinked(1, 3, 2))


async def test_all_pages_together_have_a_limit() -> None:
    """The limit holds for the collection, not for each of its pages."""
    first = query(1, pages=9)
    read = pages(limit=len(first.body) + 10)
    read.next_path()
    await read.read(first)
    with pytest.raises(MalformedReplyError, match="its pages have more than"):
        await read.read(query(2, pages=9))


async def test_a_slice_that_does_not_stand_for_itself_has_all_parsed() -> None:
    """A comment in one task makes the whole page be parsed; nothing is lost."""
    odd = task(2).replace("<State>", "<!-- </Tusk> --><State>")
    read = pages()
    read.next_path()
    await read.read(collection(task(1), odd, task(3)))
    assert await read.decode(read.found) is None
    assert await ids_of(read) == ["task-1", "task-2", "task-3"]


async def test_a_cut_page_behind_parsed_ones_loses_none_of_them() -> None:
    """A server may end its pages with a plain collection; all of it counts."""
    odd = task(2).replace("<State>", "<!-- --><State>")
    for last in (task(2), odd):
        read = pages()
        read.next_path()
        await read.read(query(1, pages=2))
        read.next_path()
        await read.read(collection(last))
        assert await ids_of(read) == ["task-1", "task-2"]


async def test_what_is_no_collection_is_an_error() -> None:
    """HTML, and XML that is cut short, raise; nothing is taken for tasks."""
    for bad in (
        reply(b"<html></html>", "text/html"),
        reply(collection(task(1), task(2)).body[:-30]),
    ):
        read = pages()
        read.next_path()
        with pytest.raises(MalformedReplyError):
            await read.read(bad)


def long_json() -> Reply:
    """Return a long collection in JSON, which cannot be cut."""
    members = [
        {"TaskId": f"task-{number}", "State": "Running", "Operation": "StartJob"}
        for number in range(MANY)
    ]
    return reply(json.dumps({"Tasks": members}).encode(), "application/json")


def long_odd_xml() -> Reply:
    """Return a long collection that cannot be cut."""
    return collection("<!-- -->", *[task(number) for number in range(MANY)])


@pytest.mark.parametrize("make", [long_json, long_odd_xml])
async def test_a_long_page_that_cannot_be_cut_does_not_hold_the_loop(
    make: Callable[[], Reply],
) -> None:
    """It is parsed in a thread: the loop goes round in the meantime."""
    given_reply = make()
    rounds = 0

    async def go_round() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    going = asyncio.create_task(go_round())
    read = pages()
    read.next_path()
    await read.read(given_reply)
    going.cancel()
    # A parse in the loop itself would let it go round two or three times.
    assert rounds > 5
    assert await read.tasks() == list(_replies.decode_tasks(given_reply, SECRETS).tasks)


async def test_a_long_collection_is_cut_with_the_loop_let_go() -> None:
    """Cutting and decoding thousands of slices gives the tasks of the full parse."""
    given_reply = collection(*[task(number) for number in range(MANY)])
    read = pages()
    read.next_path()
    await read.read(given_reply)
    assert await read.tasks() == list(_replies.decode_tasks(given_reply, SECRETS).tasks)
