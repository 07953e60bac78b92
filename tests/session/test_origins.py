"""Whose a task is that a caller names, as far as it says."""

import attrs
import pytest
from yarl import URL

from veeam_tasks import ArgumentError, Task, TaskState
from veeam_tasks._model import Origin, origin_of
from veeam_tasks._session.origins import _MOST_LOGONS, Origins

BASE = URL("https://em.example:9398/api/")
HREF = "https://em.example:9398/api/tasks/task-1"
ELSEWHERE = "https://other.example:9398/api/tasks/task-1"


def task(href: str = HREF) -> Task:
    """Return a task as a reply has it."""
    return Task(
        task_id="task-1",
        state=TaskState.RUNNING,
        raw_state="Running",
        operation="StartJob",
        href=href,
    )


def test_a_task_remembers_the_url_and_the_logon_session() -> None:
    """Those under which it was given; before a logon there is nothing to remember."""
    origins, given = Origins(BASE), task()
    origins.give(given)
    assert origin_of(given) is None
    origins.logged_on("one")
    origins.give(given)
    assert origin_of(given) == Origin(str(BASE), "one")


def test_so_many_logon_sessions_are_remembered_and_no_more() -> None:
    """A task of one of them is taken whatever the URL; of the oldest no more."""
    ours, theirs, given = Origins(BASE), Origins(URL("https://em2:9398/api/")), task()
    theirs.logged_on("0")
    theirs.give(given)
    for number in range(_MOST_LOGONS):
        ours.logged_on(str(number))
    assert _MOST_LOGONS == 256
    assert ours.id_of(given) == "task-1"
    ours.logged_on("another")
    with pytest.raises(ArgumentError, match="was given by https://em2:9398/api/"):
        ours.id_of(given)


@pytest.mark.parametrize("named", [HREF, task()])
def test_an_href_of_the_url_is_taken(named: str | Task) -> None:
    """Whatever else the server calls itself."""
    origins = Origins(BASE)
    origins.learn("https://inside:9398/api/")
    assert origins.id_of(named) == "task-1"


def test_an_href_is_refused_once_the_server_has_said_its_name() -> None:
    """Before that it is open whether that server is this one, and a reply tells."""
    origins = Origins(BASE)
    assert origins.id_of(ELSEWHERE) == "task-1"
    assert origins.is_open("task-1")
    assert origins.foreign("task-1") is None
    origins.learn(HREF)
    lost = origins.foreign("task-1")
    assert lost is not None
    assert f"was named as '{ELSEWHERE}'" in str(lost)
    assert not origins.is_open("task-1")
    with pytest.raises(ArgumentError, match="is named as"):
        origins.id_of(attrs.evolve(task(), href=ELSEWHERE))
