"""Parts of the run on a whole Airflow: its search for secrets, and its end."""

import base64
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import quote_plus

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "on_airflow"
pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="the benchmarks come with the sources only"
)
SECRET = 'Horse "7"/é&\\+%41=battery'
CHILD = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
RUN = """
import subprocess, sys
folder, child, cleanup = sys.argv[1:]
subprocess.Popen(
    [sys.executable, cleanup, folder],
    cwd="/", stdin=subprocess.PIPE, start_new_session=True,
)
env = {"AIRFLOW_HOME": folder}
by_home = subprocess.Popen(
    [sys.executable, "-c", child], env=env, cwd="/", process_group=0
)
by_place = subprocess.Popen(
    [sys.executable, "-c", child], cwd=folder, start_new_session=True
)
print(by_home.pid, by_place.pid, flush=True)
by_home.wait()
"""


def part(name: str) -> ModuleType:
    """Return a module of the run."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        json.dumps({"a": SECRET}),
        json.dumps({"a": json.dumps({"b": SECRET})}),
        json.dumps(SECRET, ensure_ascii=False).replace("\\", "\\\\"),
        repr([SECRET]),
        quote_plus(SECRET),
        quote_plus(SECRET).lower(),
        SECRET.encode().hex().upper(),
        *(base64.b64encode(f"{'x' * n}{SECRET}yz".encode()).decode() for n in range(4)),
        base64.urlsafe_b64encode(f"admin:{SECRET}".encode()).decode(),
    ],
)
def test_a_secret_is_found_in_each_form(text: str) -> None:
    """Each way in which Airflow, PostgreSQL or HTTP may write it down."""
    search = part("secrets_search").Search({SECRET, "another-secret"})
    assert search.count(f"before {text} after".encode()) == 1
    assert search.count(b"before and after") == 0
    assert search.blind_spots() == 0
    assert SECRET not in repr(search)


def test_the_rows_of_a_dump_are_told_by_table() -> None:
    """And what Airflow has encrypted in them is seen as it was before."""
    module = part("secrets_search")
    coded = "gAAAA" + "x" * 80
    dump = f"COPY public.xcom (a) FROM stdin;\n1\t{coded}\n2\t\\N\n\\.\n\nCREATE x;\n"
    tables = module.tables_of(dump.encode())
    assert tables == {"xcom": f"1\t{coded}\n2\t\\N\n".encode()}
    found = list(module.decrypted(tables["xcom"], lambda text: text[:5]))
    assert found == [b"gAAAA"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux")
def test_what_a_killed_run_has_started_is_ended(tmp_path: Path) -> None:
    """In groups of their own, deaf to SIGTERM, in the folder or with it as home."""
    cleanup = str(FOLDER / "cleanup.py")
    command = [sys.executable, "-c", RUN, str(tmp_path), CHILD, cleanup]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        handles = [os.pidfd_open(int(pid)) for pid in run.stdout.readline().split()]
        assert not select.select(handles, [], [], 0)[0]
        run.send_signal(signal.SIGKILL)
        for handle in handles:
            assert select.select([handle], [], [], 30)[0]
            os.close(handle)


def test_a_missed_goal_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure stands beside its goal; the exit status is made of these."""
    figures = part("figures").Figures()
    figures.fact("seconds", 7)
    figures.exact("logons", 1, 1)
    figures.at_most("ratio", 1.5, 2)
    figures.at_least("requests", 49.9, 50)
    assert figures.missed == ["requests"]
    shown = capsys.readouterr().out
    assert "49.9   (goal: at least 50; MISSED)" in shown
    assert shown.count("reached") == 2
