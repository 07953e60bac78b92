"""What every test shares: asyncio as backend, the guard of secrets, the watchdog."""

import gc
import os
import signal
import zlib
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.figures import Record
from support.loops import LOOP_KIND, kind_for
from support.managers import WIRES, Wire
from support.secrets_guard import GUARD
from support.virtual_time import Backend, backend, is_debug_for
from support.watchdog import Watchdog

# A busy machine is no failure; pytest's timeout ends what hangs.
settings.register_profile(
    "project", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


SLOW_FOLDERS = {
    *("airflow", "ansible", "cli", "metrics", "report", "scenarios", "simulator")
}
"""Of whose tests without cases a Python that runs a share runs a share, too."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, since unknown ones are errors.

    And take the signals that whoever starts tests in the background has them ignore,
    Ctrl-C and with `nohup` the hang-up: the programs that tests end by a signal would
    inherit that. What has a handler here, even one that does nothing, they do not.
    """
    config.pluginmanager.register(Watchdog(), "watchdog")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Windows has none.
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_IGN:
        signal.signal(hang_up, lambda *_: None)
    config.addinivalue_line("markers", "virtual_time(debug, loop): a clock that jumps")
    config.addinivalue_line("markers", "asyncio_loop: never runs on uvloop")
    config.addinivalue_line("markers", "strangers: needs clients of other people")
    config.addinivalue_line("markers", "soak: takes minutes; only runs by `-m soak`")
    config.addinivalue_line("markers", "playbooks: runs Ansible; only on request")
    config.addinivalue_line(
        "markers", "lengthy: takes seconds; only on the last Python"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the clients of other people out unless they are named."""
    is_stranger = collection_path.name == "strangers"
    asked = any("strangers" in str(arg) for arg in config.invocation_params.args)
    return True if is_stranger and not asked else None


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave the soak out, unless an expression of markers was given.

    Where nox runs several Pythons, what is lengthy is left to the last of them, and
    of each parametrised test the others run a share.
    """
    keep_share(config, items)
    if config.getoption("markexpr"):
        return
    left_out = {
        "soak": "takes minutes: nox -s soak",
        "playbooks": "takes half a minute: nox -s ansible",
    }
    if os.environ.get("VEEAM_TASKS_LENGTHY") == "no":
        left_out["lengthy"] = "runs on another Python"
    for item in items:
        for marker, reason in left_out.items():
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Have no garbage collection go over what was collected here, which stays.

    Six thousand tests and their modules are some hundred thousand objects, and each
    full collection would look at all of them: a twentieth of the time of all tests.
    """
    gc.collect()
    gc.freeze()


def keep_share(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the cases of each test keep every third, say, where `VEEAM_TASKS_SHARE` asks.

    "0/3", "1/3" and "2/3" have each of them once between them. Of the tests without
    cases, in the folders that take long, it is half such a share. They are counted in
    an order without a pattern: in their own, a share might be all JSON, say.
    """
    asked = os.environ.get("VEEAM_TASKS_SHARE")
    if asked is None:
        return
    number, of = map(int, asked.split("/"))
    alike = defaultdict(list)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if hasattr(item, "callspec"):
            alike[item.parent, item.originalname, of].append(item)
        elif item.path.parent.name in SLOW_FOLDERS:
            alike[item.parent, item.path.stem, 2 * of].append(item)
    left_out = set()
    for (_, name, apart), same in alike.items():
        same.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        first = zlib.crc32(name.encode())
        left_out.update(
            item for at, item in enumerate(same, first) if at % apart != number
        )
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item,
) -> Generator[None, object, object]:
    """Choose the loop, before any fixture makes one."""
    kind = kind_for(item.nodeid)
    if kind == "uvloop" and item.get_closest_marker("asyncio_loop") is not None:
        kind = "asyncio"
    item.add_report_section("setup", "loop", kind)
    LOOP_KIND.set(kind)
    try:
        return (yield)
    finally:
        LOOP_KIND.set("asyncio")


@pytest.fixture(scope="session", autouse=True)
def _guarding_secrets() -> Iterator[None]:
    """Walk what the whole suite lets people see."""
    with GUARD.watching():
        yield


@pytest.fixture(autouse=True)
def _no_secret_is_shown(
    _guarding_secrets: None, record_property: Record
) -> Iterator[None]:
    """Fail the test that lets people see a planted secret."""
    GUARD.forget()
    before = GUARD.walked
    yield
    leaks = GUARD.forget()
    record_property("texts walked", GUARD.walked - before)
    record_property("secrets found", len(leaks))
    assert leaks == []


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    """Run async tests on asyncio, with virtual time where marked."""
    test = request.node.nodeid
    marker = request.node.get_closest_marker("virtual_time")
    if marker is None:
        return "asyncio", {"debug": is_debug_for(test)}
    return backend(test, marker)


@pytest.fixture(params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Give each way to ask and be answered: XML, JSON, plain, TLS, singly, at once."""
    assert isinstance(request.param, Wire)
    return request.param
