"""Fixtures for people who test their own automation.

* ``veeam_server``: a simulated Enterprise Manager of the test's own
  (`veeam_tasks.simulator.ThreadedServer`), in a thread, so that synchronous and
  asynchronous tests may use it alike.
* ``veeam_manager``: a `veeam_tasks.SessionManager` that is logged on to it, in the loop
  of an asynchronous test (anyio, or pytest-asyncio 0.24 or later).

Options go by markers: ``@pytest.mark.veeam_server(tasks=5, tls=True, version="13")``
takes the arguments of the server, and ``tasks``: how many to draw, or a list of
scripts. ``@pytest.mark.veeam_manager(accept="json")`` takes those of
`veeam_tasks.connect`. Several markers add up; the one nearest to the test wins.

Nothing but pytest is imported until a fixture is used.
"""

import difflib
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from veeam_tasks import SessionManager
    from veeam_tasks.simulator import ThreadedServer

_SEED: Final = 1
_UNEXPECTED: Final = re.compile(r"unexpected keyword argument '(\w+)'")
_ANYIO: Final = "_veeam_manager_of_anyio"
_ASYNCIO: Final = "_veeam_manager_of_asyncio"
_LOOP_SCOPES: Final = ("function", "class", "module", "package", "session")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and the fixture that pytest-asyncio runs."""
    config.addinivalue_line(
        "markers",
        "veeam_server(tasks=0, **options): what the fixture veeam_server simulates;"
        " options are those of veeam_tasks.simulator.ThreadedServer.",
    )
    config.addinivalue_line(
        "markers",
        "veeam_manager(**options): how the fixture veeam_manager logs on;"
        " options are those of veeam_tasks.connect.",
    )
    asyncio_plugin: Any = config.pluginmanager.get_plugin("asyncio")
    # One that knows no scopes of loops is too old; it may serve all other tests well.
    with suppress(AttributeError, TypeError):
        # Both plugins would run an async fixture of ours, each in its own loop; so each
        # gets one, and veeam_manager chooses.
        # And one for each scope of loops, since the manager has to live in the test's.
        fixtures = ModuleType("veeam_tasks_asyncio")
        for scope in _LOOP_SCOPES:
            name = f"{_ASYNCIO}_{scope}"
            made = asyncio_plugin.fixture(name=name, loop_scope=scope)
            setattr(fixtures, name, made(_managed_for_asyncio()))
        config.pluginmanager.register(fixtures, fixtures.__name__)


@pytest.fixture
def veeam_server(request: pytest.FixtureRequest) -> Iterator["ThreadedServer"]:
    """Return a simulated Enterprise Manager that runs for this test alone."""
    from veeam_tasks.simulator import ThreadedServer  # noqa: PLC0415 - only when used

    options = _options(request, "veeam_server")
    tasks = options.pop("tasks", 0)
    options.setdefault("seed", _SEED)
    with _naming("veeam_server", ThreadedServer, "tasks"):
        made = ThreadedServer(**options)
    with made as server:
        _add(server, tasks)
        yield server


@pytest.fixture
def veeam_manager(
    request: pytest.FixtureRequest, veeam_server: "ThreadedServer"
) -> "SessionManager":
    """Return a manager that is logged on to ``veeam_server``, in this test's loop."""
    del veeam_server
    names = request.fixturenames
    config = request.config
    has_asyncio = config.pluginmanager.has_plugin("veeam_tasks_asyncio")
    is_too_old = config.pluginmanager.has_plugin("asyncio") and not has_asyncio
    is_marked = request.node.get_closest_marker("asyncio") is not None
    if "anyio_backend" in names and not is_marked:
        found = request.getfixturevalue(_ANYIO)
    elif has_asyncio and is_marked:
        found = request.getfixturevalue(f"{_ASYNCIO}_{_loop_scope(request)}")
    elif is_marked and is_too_old:
        problem = (
            "the fixture veeam_manager needs pytest-asyncio 0.24 or later, or anyio's"
            " plugin; this pytest-asyncio has no loop_scope for fixtures"
        )
        raise pytest.UsageError(problem)
    else:
        problem = (
            "the fixture veeam_manager needs an asynchronous test, run by anyio or"
            " pytest-asyncio: mark it with @pytest.mark.anyio or @pytest.mark.asyncio,"
            ' or set anyio_mode or asyncio_mode = "auto" in pytest\'s configuration; a'
            " synchronous test takes veeam_server and any client"
        )
        raise pytest.UsageError(problem)
    manager: SessionManager = found
    return manager


@pytest.fixture(name=_ANYIO)
async def _managed_for_anyio(
    request: pytest.FixtureRequest, veeam_server: "ThreadedServer"
) -> AsyncIterator["SessionManager"]:
    async for manager in _managed(request, veeam_server):
        yield manager


def _managed_for_asyncio() -> Callable[..., AsyncIterator["SessionManager"]]:
    """Return a function of its own, since pytest-asyncio notes the scope on it."""

    async def managed(
        request: pytest.FixtureRequest, veeam_server: "ThreadedServer"
    ) -> AsyncIterator["SessionManager"]:
        async for manager in _managed(request, veeam_server):
            yield manager

    return managed


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """Return in which of the loops of pytest-asyncio the test runs."""
    marker = request.node.get_closest_marker("asyncio")
    found = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
    if found is None:
        with suppress(ValueError):  # a setting that pytest-asyncio has since 0.26
            found = request.config.getini("asyncio_default_test_loop_scope")
    return str(found or _LOOP_SCOPES[0])


async def _managed(
    request: pytest.FixtureRequest, server: "ThreadedServer"
) -> AsyncIterator["SessionManager"]:
    import veeam_tasks  # noqa: PLC0415 - only when used

    options = _options(request, "veeam_manager")
    if server.url.startswith("https:") and not options.keys() & _TRUST:
        options["ca_file"] = server.ca_file
    options.setdefault("username", server.username)
    # Tests should not wait for a pace that spares a real server.
    options.setdefault("pace", veeam_tasks.Pace(first=0.05, longest=0.5))
    with _naming("veeam_manager", veeam_tasks.connect):
        # Not among the locals of this frame, which error reporters print.
        manager = await veeam_tasks.connect(
            server.url, **{"password": server.password, **options}
        )
    async with manager:
        yield manager


_TRUST: Final = frozenset({"ssl", "ca_file", "fingerprint", "insecure"})


def _options(request: pytest.FixtureRequest, marker: str) -> dict[str, Any]:
    """Return what the markers of a test say, the nearest last."""
    options: dict[str, Any] = {}
    for found in reversed(list(request.node.iter_markers(marker))):
        if found.args:
            problem = f"the marker {marker} takes keyword arguments, not {found.args!r}"
            raise pytest.UsageError(problem)
        options |= found.kwargs
    return options


@contextmanager
def _naming(marker: str, taker: Callable[..., object], *more: str) -> Iterator[None]:
    """Say of an unknown option in which marker it stands, and which may be meant."""
    try:
        yield
    except TypeError as error:
        found = _UNEXPECTED.search(str(error))
        if found is None:
            raise
        problem = f"the marker {marker} takes no option {found[1]!r}"
        known = (*more, *inspect.signature(taker).parameters)
        for near in difflib.get_close_matches(found[1], known, 1):
            problem += f"; did you mean {near!r}?"
    else:
        return
    raise pytest.UsageError(problem)


def _add(server: "ThreadedServer", tasks: int | str | Sequence[str]) -> None:
    if isinstance(tasks, int):
        server.add_tasks(tasks)
        return
    for script in (tasks,) if isinstance(tasks, str) else tasks:
        server.add_task(script)
