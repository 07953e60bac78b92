"""True or False: any text would be true, "no" as well, so nothing else is taken."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from support.managers import door

import veeam_tasks as vt
from veeam_tasks import SessionManager
from veeam_tasks.airflow._watching import check_flags
from veeam_tasks.jobs import read_jobs
from veeam_tasks.simulator import SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

Call = Callable[[Any, Any], Any]

CALLS: dict[tuple[str, str], Call] = {
    ("watch", "follow"): lambda em, flag: em.watch("task-1", follow=flag),
    ("watch_all", "follow"): lambda em, flag: em.watch_all(follow=flag),
    ("submit", "follow"): lambda em, flag: em.submit(
        "jobs/1?action=start", follow=flag
    ),
    ("aclose", "log_out"): lambda em, flag: em.aclose(log_out=flag),
    ("read_jobs", "results"): lambda em, flag: read_jobs(em, results=flag),
}


async def call(method: Call, em: SessionManager, flag: object) -> None:
    """Call a method, and await what it gives if that can be awaited."""
    made = method(em, flag)
    if inspect.isawaitable(made):
        await made


def test_every_flag_of_a_manager_is_tried() -> None:
    """What takes a flag stands in the list above."""
    methods = inspect.getmembers(SessionManager, inspect.isfunction)
    found = {
        (name, parameter.name)
        for name, method in methods
        if not name.startswith("_")
        for parameter in inspect.signature(method).parameters.values()
        if parameter.annotation in {bool, "bool"}
    }
    assert found == set(CALLS) - {("read_jobs", "results")}


@pytest.mark.parametrize("flag", ["yes", "no", "", 1, 0, None])
@pytest.mark.parametrize("named", CALLS, ids=" ".join)
async def test_a_flag_is_true_or_false(named: tuple[str, str], flag: object) -> None:
    """Anything else is a TypeError before anything is sent."""
    async with SimulatedServer() as server, door(server) as em:
        before = server.requests.total
        said = f"{named[1]} must be True or False, not {flag!r}"
        with pytest.raises(TypeError) as caught:
            await call(CALLS[named], em, flag)
        assert str(caught.value) == said
        assert server.requests.total == before
        assert await em.fetch_all() == []


SERVER = [
    name
    for name, parameter in inspect.signature(SimulatedServer).parameters.items()
    if parameter.annotation in {bool, "bool"}
]
SPANS = ("session_delay", "link_delay", "related_delay", "clock_skew")


@pytest.mark.parametrize("name", SERVER)
def test_a_flag_of_the_simulated_server_is_true_or_false(name: str) -> None:
    """`tls="no"` would have been a server with TLS."""
    with pytest.raises(TypeError, match=f"{name} must be True or False, not 'no'"):
        SimulatedServer(**{name: "no"})


@pytest.mark.parametrize("name", [*SPANS, "collect_interval", "collect_seconds"])
def test_a_span_of_the_simulated_server_is_a_number(name: str) -> None:
    """A text would have been an error 500 at some request."""
    with pytest.raises(TypeError, match=f"{name} must be seconds, not '9h'"):
        SimulatedServer(**{name: "9h"})
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        SimulatedServer(**{name: float("nan")})
    with pytest.raises(TypeError, match="not True"):
        SimulatedServer(**{name: True})


def test_a_flag_of_an_operator_is_true_or_false() -> None:
    """While the DAG is read; what another task returns is no such thing."""
    check_flags(follow=True, wait=False)
    with pytest.raises(TypeError, match="wait must be True or False, not 'False'"):
        check_flags(follow=True, wait="False")


@pytest.mark.parametrize("name", ["insecure", "keep_alive"])
def test_a_flag_of_a_door_is_true_or_false(name: str) -> None:
    """Of each door."""
    given: dict[str, Any] = {name: "no"}
    said = f"{name} must be True or False, not 'no'"
    url = "https://em.example"
    with pytest.raises(TypeError, match=said):
        vt.connect(url, username="u", password="p", **given)
    with pytest.raises(TypeError, match=said):
        vt.adopt(url, "dG9rZW4=", **given)
    with pytest.raises(TypeError, match=said):
        SessionManager(url, username="u", password="p", **given)
