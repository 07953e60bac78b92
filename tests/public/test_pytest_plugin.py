"""The fixtures, tried by test suites of their own."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

LOOPTIME = ("looptime_plugin", "looptime_chronometers", "looptime_timeproxies")
STRICT = """
[tool.pytest.ini_options]
strict = true
xfail_strict = true
filterwarnings = ["error"]
{more}
"""


def suite(
    pytester: pytest.Pytester, code: str, more: str = "", without: str = "asyncio"
) -> pytest.RunResult:
    """Run `code` as a suite of its own, as strict as pytest can be."""
    pytester.makepyprojecttoml(STRICT.format(more=more))
    pytester.makepyfile(code)
    unwanted = (without, "cacheprovider", *LOOPTIME)
    # In a process of its own: extension modules bear no second import.
    return pytester.runpytest_subprocess(*(f"-pno:{name}" for name in unwanted))


def test_a_synchronous_test_gets_a_server_of_its_own(
    pytester: pytest.Pytester,
) -> None:
    """Any client can log on to veeam_server; each test has another one."""
    result = suite(
        pytester,
        """
        import urllib.request
        import pytest

        seen = []

        @pytest.mark.veeam_server(tasks=3, version="13")
        def test_first(veeam_server):
            request = urllib.request.Request(
                veeam_server.url + "/api/", headers={"Accept": "application/json"}
            )
            with urllib.request.urlopen(request) as reply:
                assert b'"supportedVersions"' in reply.read()
            assert len(veeam_server.tasks) == 3
            assert veeam_server.version == "13"
            seen.append(veeam_server)

        def test_second(veeam_server):
            assert veeam_server is not seen[0]
            assert veeam_server.tasks == []
            assert len(veeam_server.requests) == 0
        """,
    )
    result.assert_outcomes(passed=2)


def test_markers_add_up_and_the_nearest_wins(pytester: pytest.Pytester) -> None:
    """A marker on the module gives what the marker on the test does not say."""
    result = suite(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.veeam_server(username="svc", version="13")

        @pytest.mark.veeam_server(
            version="9.5u4", tasks=["Running 1s, Finished", "Finished failed 'no'"]
        )
        def test_it(veeam_server):
            assert veeam_server.username == "svc"
            assert veeam_server.version == "9.5u4"
            assert [task.state for task in veeam_server.tasks] == [
                "Running", "Finished",
            ]

        @pytest.mark.veeam_server(tasks="Finished")
        def test_one(veeam_server):
            assert veeam_server.task("task-1").state == "Finished"
        """,
    )
    result.assert_outcomes(passed=2)


def test_an_anyio_test_gets_a_manager_that_is_logged_on(
    pytester: pytest.Pytester,
) -> None:
    """veeam_manager lives in the test's loop and logs out after it, over TLS too."""
    result = suite(
        pytester,
        """
        import pytest

        servers = []

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.parametrize("tls", [
            pytest.param(False, marks=pytest.mark.veeam_server(tls=False)),
            pytest.param(True, marks=pytest.mark.veeam_server(tls=True)),
        ])
        @pytest.mark.veeam_server(speed=50)
        @pytest.mark.veeam_manager(accept="json")
        async def test_it(veeam_server, veeam_manager, tls):
            assert veeam_server.url.startswith("https:") is tls
            job = veeam_server.jobs[0]
            started = await veeam_manager.submit(job.path + "?action=start")
            task = await veeam_manager.wait(started, timeout=20)
            assert task.succeeded
            assert veeam_server.requests[-1].header("Accept") == "application/json"
            servers.append(veeam_server)

        def test_afterwards():
            assert [server.logon_sessions for server in servers] == [[], []]
        """,
        more='anyio_mode = "auto"',
    )
    result.assert_outcomes(passed=3)


def test_a_pytest_asyncio_test_gets_a_manager_as_well(
    pytester: pytest.Pytester,
) -> None:
    """The same fixture works under pytest-asyncio, by marker and in auto mode."""
    pytest.importorskip("pytest_asyncio")
    code = """
        import pytest

        @pytest.mark.veeam_server(tasks="Finished")
        {mark}
        async def test_it(veeam_server, veeam_manager):
            assert (await veeam_manager.fetch("task-1")).is_finished
            assert len(veeam_server.logon_sessions) == 1
        """
    scope = 'asyncio_default_fixture_loop_scope = "function"\n'
    marked = suite(pytester, code.format(mark="@pytest.mark.asyncio"), scope, "-")
    marked.assert_outcomes(passed=1)
    auto = suite(pytester, code.format(mark=""), scope + 'asyncio_mode = "auto"', "-")
    auto.assert_outcomes(passed=1)


SCOPES = ["function", "class", "module", "package", "session"]


@pytest.mark.parametrize(
    ("fixtures", "tests"),
    list(zip(SCOPES, [*SCOPES[2:], *SCOPES[:2]], strict=True)),
)
def test_a_manager_lives_in_the_loop_of_the_test(
    pytester: pytest.Pytester, fixtures: str, tests: str
) -> None:
    """Whatever scope of loops pytest-asyncio has for fixtures, tests, or one test."""
    pytest.importorskip("pytest_asyncio")
    code = """
        import asyncio
        import pytest

        pytestmark = pytest.mark.veeam_server(tasks="Finished")

        async def used(veeam_server, veeam_manager):
            assert (await veeam_manager.fetch("task-1")).is_finished
            assert len(veeam_server.logon_sessions) == 1

        @pytest.mark.asyncio
        async def test_default(veeam_server, veeam_manager):
            await used(veeam_server, veeam_manager)

        class TestMarked:
            @pytest.mark.parametrize("scope", [
                pytest.param(one, marks=pytest.mark.asyncio(loop_scope=one))
                for one in ("function", "class", "module", "package", "session")
            ])
            async def test_marked(self, veeam_server, veeam_manager, scope):
                await used(veeam_server, veeam_manager)
        """
    more = (
        f'asyncio_default_fixture_loop_scope = "{fixtures}"\n'
        f'asyncio_default_test_loop_scope = "{tests}"\n'
    )
    suite(pytester, code, more, "-").assert_outcomes(passed=6)


OLD = """
import functools
import pytest

# As it was before 0.24.
def fixture(function=None, **options):
    if function is None:
        return functools.partial(fixture, **options)
    return pytest.fixture(function, **options)
"""
REGISTER = """
import pytest, old_plugin

@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "asyncio: run it in a loop.")
    config.pluginmanager.register(old_plugin, "asyncio")
"""


def test_a_pytest_asyncio_that_is_too_old_disturbs_nobody_else(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who asks for the manager in its loops is told what is needed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(REGISTER)
    pytester.makepyfile(
        old_plugin=OLD,
        test_it="""
        import pytest

        def test_another(veeam_server):
            assert veeam_server.url

        @pytest.mark.asyncio
        async def test_manager(veeam_manager):
            pass
        """,
    )
    result = pytester.runpytest_subprocess("-p", "veeam_tasks.pytest_plugin")
    result.assert_outcomes(passed=1, errors=1)
    assert "veeam_manager needs pytest-asyncio 0.24 or later" in result.stdout.str()


@pytest.mark.parametrize(
    ("fixture", "marker", "said"),
    [
        ("veeam_manager", "veeam_server()", "needs an asynchronous test"),
        ("veeam_server", "veeam_server(5)", "takes keyword arguments"),
        (
            *("veeam_server", "veeam_server(task=5)"),
            "veeam_server takes no option 'task'; did you mean 'tasks'?",
        ),
        (
            *("veeam_server", "veeam_server(verson='13')"),
            "veeam_server takes no option 'verson'; did you mean 'version'?",
        ),
        (
            *("veeam_server", "veeam_server(xyz=1)"),
            "veeam_server takes no option 'xyz'\n",
        ),
    ],
)
def test_a_wrong_use_is_told_in_plain_words(
    pytester: pytest.Pytester, fixture: str, marker: str, said: str
) -> None:
    """A synchronous test with veeam_manager and wrong markers fail with advice."""
    result = suite(
        pytester,
        f"""
        import pytest

        @pytest.mark.{marker}
        def test_it({fixture}):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
    assert said in result.stdout.str()


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("", "mark it with @pytest.mark.anyio or @pytest.mark.asyncio, or set"),
        (
            "@pytest.mark.anyio\n@pytest.mark.veeam_manager(acept='json')",
            "veeam_manager takes no option 'acept'; did you mean 'accept'?",
        ),
    ],
)
def test_an_asynchronous_test_that_lacks_something_says_what(
    pytester: pytest.Pytester, mark: str, said: str
) -> None:
    """Without a mark or a mode the fixture says what to write, as for an option."""
    code = "import pytest\n{mark}\nasync def test_it(veeam_manager):\n    pass\n"
    pytester.makeconftest(
        "import pytest\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    result = suite(pytester, code.format(mark=mark))
    assert said in result.stdout.str()
    result.assert_outcomes(errors=1)


def test_the_plugin_loads_nothing_heavy() -> None:
    """Importing the plugin loads neither aiohttp nor the rest of the package."""
    code = (
        "import sys, veeam_tasks.pytest_plugin\n"
        "heavy = {'aiohttp', 'attrs', 'attr', 'trustme', 'xmltodict',"
        " 'veeam_tasks.simulator', 'veeam_tasks._model'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_markers_are_registered(pytester: pytest.Pytester) -> None:
    """``pytest --markers`` lists both, so that strict markers accept them."""
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.veeam_server(*", "@pytest.mark.veeam_manager(*"]
    )
