"""A pytest plugin for the mutants: which test runs which line, and tests in an order.

`VEEAM_TASKS_LINES` names the file to write to: of each test that was run how long it
took, and of each line of the package, the copy in the working directory, which tests
ran it. `VEEAM_TASKS_CHOSEN` names a file with the IDs of the only tests to be run.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from types import CodeType

import pytest

PACKAGE = f"{Path.cwd() / 'veeam_tasks'}{os.sep}"


class Lines:
    """Notes once for each test each line of the package that it runs, in any thread."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.tests: list[tuple[str, float]] = []
        self.ran_by: defaultdict[str, defaultdict[int, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.seen: set[tuple[str, int]] = set()
        events = sys.monitoring
        self.tool = events.PROFILER_ID
        events.use_tool_id(self.tool, "mutants")
        events.register_callback(self.tool, events.events.LINE, self.note)
        events.set_events(self.tool, events.events.LINE)

    def note(self, code: CodeType, line: int) -> object:
        """Note a line, and ask not to be told of it again by this test."""
        if code.co_filename.startswith(PACKAGE):
            self.seen.add((code.co_filename, line))
        return sys.monitoring.DISABLE

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item
    ) -> Generator[None, object, object]:
        """Note what one test runs, its fixtures included."""
        self.seen.clear()
        sys.monitoring.restart_events()
        begun = time.perf_counter()
        try:
            return (yield)
        finally:
            number = len(self.tests)
            self.tests.append((item.nodeid, round(time.perf_counter() - begun, 3)))
            for path, line in list(self.seen):
                of_file = self.ran_by[Path(path.removeprefix(PACKAGE)).as_posix()]
                of_file[line].append(number)

    def pytest_sessionfinish(self) -> None:
        """Write down what was noted."""
        sys.monitoring.set_events(self.tool, 0)
        sys.monitoring.free_tool_id(self.tool)
        self.out.write_text(json.dumps([self.tests, self.ran_by]), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Note lines if that is asked for."""
    if out := os.environ.get("VEEAM_TASKS_LINES"):
        config.pluginmanager.register(Lines(Path(out)), "lines")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that were chosen, in the order in which they were."""
    if chosen := os.environ.get("VEEAM_TASKS_CHOSEN"):
        order = json.loads(Path(chosen).read_text(encoding="utf-8"))
        found = {item.nodeid: item for item in items}
        items[:] = [found[one] for one in order if one in found]
