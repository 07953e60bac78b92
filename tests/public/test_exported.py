"""What the package exports, and what importing it costs."""

import ast
import inspect
import os
import pickle
import re
import subprocess
import sys
from enum import Enum, EnumType
from itertools import pairwise
from pathlib import Path

import pytest

import veeam_tasks

API = {
    "ArgumentError",
    "Certificate",
    "CertificateError",
    "ClosedError",
    "ForbiddenError",
    "JobSession",
    "Link",
    "LogonError",
    "MalformedReplyError",
    "MergedWatch",
    "Notice",
    "NoticeKind",
    "Pace",
    "Report",
    "RequestTimeoutError",
    "Run",
    "RunStage",
    "ServerBusyError",
    "SessionFailedError",
    "SessionLostError",
    "SessionManager",
    "SessionResult",
    "SessionState",
    "Statistics",
    "StatusError",
    "SubmitUncertainError",
    "Task",
    "TaskEvent",
    "TaskFailedError",
    "TaskLostError",
    "TaskNotFoundError",
    "TaskResult",
    "TaskSession",
    "TaskState",
    "TransportError",
    "VeeamTasksError",
    "Watch",
    "WatchTimeoutError",
    "adopt",
    "connect",
    "inspect_certificate",
    "log_out",
    "merge",
}


def test_all_is_what_dir_shows() -> None:
    """`__all__` equals what `dir(veeam_tasks)` shows, sorted, all of the surface."""
    assert veeam_tasks.__all__ == dir(veeam_tasks)
    assert veeam_tasks.__all__ == sorted(veeam_tasks.__all__)
    assert set(veeam_tasks.__all__) == API


@pytest.mark.parametrize("name", sorted(API))
def test_every_name_is_there(name: str) -> None:
    """Each public name can be had from the package, and has a docstring."""
    value = getattr(veeam_tasks, name)
    assert value.__doc__
    assert getattr(veeam_tasks, name) is value


@pytest.mark.parametrize("name", sorted(API))
def test_every_name_is_in_the_typed_samples(name: str) -> None:
    """Mypy and pyright see each public name in use."""
    samples = Path(__file__).parents[1] / "typing" / "api.py"
    assert re.search(rf"\bvt\.{name}\b", samples.read_text(encoding="utf-8"))


MEMBERS = {
    "Certificate": "fingerprint issuer names not_after not_before subject",
    "JobSession": "created_at ended_at failure_message has_warnings href is_ended"
    " is_retry job_name job_type job_uid kind links name progress raise_for_failure"
    " raw_result raw_state result session_id state succeeded uid vm_name",
    "Link": "href name rel type",
    "MergedWatch": "aclose wait watches",
    "Notice": "at detail error kind task_ids",
    "Pace": "after first growth jitter jittered longest",
    "Report": "failed lost outcomes raise_for_failures succeeded unfinished warnings",
    "Run": "failures has_warnings session task",
    "SessionManager": "aclose delete fetch fetch_all fetch_session fetch_session_tasks"
    " follow open read reference resume run session_id statistics submit token url wait"
    " watch watch_all",
    "Statistics": "bytes_in coalesced coalescing coalescing_reason errors in_flight"
    " last_request_at logons next_request_at polls renewals requests retries watched",
    "Task": "href is_finished links operation raise_for_failure raw_state related"
    " result state succeeded task_id",
    "TaskEvent": "error failures has_warnings is_by_link is_final not_before"
    " observed_at previous"
    " sequence session stage state succeeded task task_id",
    "TaskResult": "message success",
    "TaskSession": "created_at ended_at is_ended raw_result raw_state reason result"
    " size succeeded vm_name vm_uid",
    "Watch": "aclose add checkpoint discard is_endless manager pace report tasks wait",
}
"""What each class offers at a prompt; errors and enums have lists of their own."""


@pytest.mark.parametrize("name", sorted(API))
def test_a_class_offers_what_is_the_callers_and_nothing_else(name: str) -> None:
    """No member of it is there for our own work."""
    value = getattr(veeam_tasks, name)
    if not isinstance(value, type) or issubclass(value, Enum):
        return
    offered = {member for member in dir(value) if not member.startswith("_")}
    if issubclass(value, BaseException):
        offered -= {"retryable", "may_be_carried_out", *dir(OSError)}
    assert sorted(offered) == MEMBERS.get(name, "").split()


def written(name: str) -> ast.AST:
    """Return a class or function as it is written: an editor shows nothing else."""
    package = Path(veeam_tasks.__file__).parent
    module = veeam_tasks._MODULE_OF[name].replace(".", "/")
    tree = ast.parse((package / f"{module}.py").read_text(encoding="utf-8"))
    return next(node for node in tree.body if getattr(node, "name", "") == name)


ENUMS = [
    name for name in sorted(API) if isinstance(getattr(veeam_tasks, name), EnumType)
]


@pytest.mark.parametrize("name", ENUMS)
def test_every_member_of_an_enum_is_explained(name: str) -> None:
    """An editor shows the text that stands below a member."""
    node = written(name)
    assert isinstance(node, ast.ClassDef)
    members = {
        target.id: after
        for one, after in pairwise([*node.body, ast.Pass()])
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    assert list(members) == [one.name for one in getattr(veeam_tasks, name)]
    explained = {
        member
        for member, after in members.items()
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    assert members.keys() == explained


def test_an_editor_shows_of_connect_what_help_does() -> None:
    """Editors read what is written; each keyword is explained there as in `help()`."""
    node = written("connect")
    assert isinstance(node, ast.FunctionDef)
    shown = inspect.getdoc(veeam_tasks.connect)
    assert ast.get_docstring(node) == shown
    assert shown is not None
    assert len(re.findall("^\\* `", shown, re.MULTILINE)) == 18


def test_other_names_are_not_there() -> None:
    """A wrong name is an AttributeError as with any module."""
    name = "Sesion"
    with pytest.raises(AttributeError, match="has no attribute 'Sesion'"):
        getattr(veeam_tasks, name)


def test_a_module_that_is_not_loaded_says_how_to_have_it() -> None:
    """Of each public module below the package, and of nothing that is not public."""
    package = Path(veeam_tasks.__file__).parent
    public = {
        path.stem
        for path in package.iterdir()
        if path.suffix in {"", ".py"} and not path.name.startswith("_")
    } - {"ansible", "LICENSE"}  # what Ansible reads, and no module
    said = run(
        "import veeam_tasks\n"
        f"for name in {sorted(public)}:\n"
        "    try: getattr(veeam_tasks, name)\n"
        "    except AttributeError as error: print(error)\n"
    )
    told = re.findall(
        r"module of its own: import veeam_tasks\.(\w+)$", said, re.MULTILINE
    )
    assert told == sorted(public)


def run(code: str) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        # Coverage, where it is measured, loads modules of its own.
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")},
    )
    assert done.stderr == ""
    return done.stdout


def test_import_loads_nothing_that_costs() -> None:
    """The root alone: not even what every program of some size has loaded."""
    loaded = run(
        "import sys; before = set(sys.modules); import veeam_tasks; dir(veeam_tasks);"
        "print(*sorted(set(sys.modules) - before))"
    )
    assert set(loaded.split()) <= {
        *("importlib", "importlib._bootstrap", "importlib._bootstrap_external"),
        *("_warnings", "warnings", "veeam_tasks"),
    }


def test_what_may_be_shown_loads_no_client() -> None:
    """Not by a module of the standard library that is wanted for something else."""
    loaded = run(
        "import sys, veeam_tasks._redaction, veeam_tasks._model, veeam_tasks._events;"
        "print(*(m for m in ('urllib.request', 'http.client', 'asyncio', 'aiohttp',"
        " 'anyio', 'xml.sax', 'ssl') if m in sys.modules))"
    )
    assert loaded.strip() == ""


def test_the_help_of_the_shell_loads_no_client() -> None:
    """The list of commands loads none of them, and nothing that they need."""
    loaded = run(
        "import io, sys\n"
        "from veeam_tasks.cli import run\n"
        "from contextlib import redirect_stdout, suppress\n"
        "with redirect_stdout(io.StringIO()), suppress(SystemExit):"
        "\n    run(['--help'])\n"
        "print(*(m for m in ('urllib.request', 'http.client', 'asyncio', 'aiohttp',"
        " 'anyio', 'ssl', 'subprocess', 'rich.console', 'xmltodict', 'json',"
        " 'veeam_tasks.cli._watch',"
        " 'veeam_tasks._errors', 'attr') if m in sys.modules))"
    )
    assert loaded.strip() == ""


def test_the_list_of_commands_says_of_each_what_it_says_itself() -> None:
    """Its lines are written apart, so that no command is loaded for them."""
    from click import Context

    from veeam_tasks.cli._main import PLACES, main

    for name, (_, _, line) in PLACES.items():
        command = main.get_command(Context(main), name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(100) == line


def test_what_is_logged_goes_nowhere_unless_asked_for() -> None:
    """A program that configures no logging sees no warning of ours on its terminal."""
    said = run(
        "import logging, veeam_tasks; veeam_tasks.SessionManager;"
        "logging.getLogger('veeam_tasks.x').warning('lost'); print('ok')"
    )
    assert said == "ok\n"


def test_import_loads_no_aiohttp() -> None:
    """Importing the package loads neither aiohttp nor the shell nor the simulator."""
    loaded = run(
        "import sys, veeam_tasks; dir(veeam_tasks); import veeam_tasks._model;"
        "print(*(m for m in ('aiohttp', 'anyio', 'click', 'rich', 'xmltodict',"
        " 'veeam_tasks.simulator', 'veeam_tasks.cli') if m in sys.modules))"
    )
    assert loaded.strip() == ""


def test_values_load_no_aiohttp() -> None:
    """Values and errors can be had without aiohttp."""
    loaded = run(
        "import sys; from veeam_tasks import Task, TaskEvent, Report, Pace, LogonError;"
        "print('aiohttp' in sys.modules)"
    )
    assert loaded.strip() == "False"


def test_import_of_all_names() -> None:
    """`from veeam_tasks import *` gives each name."""
    names = run("from veeam_tasks import *; print(connect.__name__, Watch.__name__)")
    assert names.split() == ["connect", "Watch"]


@pytest.mark.parametrize("name", sorted(API))
def test_every_class_is_of_the_package(name: str) -> None:
    """Tracebacks and pickles say `veeam_tasks.X`, wherever X is written."""
    value = getattr(veeam_tasks, name)
    if isinstance(value, type):
        assert (value.__module__, value.__qualname__) == ("veeam_tasks", name)
    assert pickle.loads(pickle.dumps(value)) is value
