"""Print every figure that the project holds itself to, each with its goal beside it.

    python benchmarks/floors.py                    # about twenty minutes, nothing else
    python benchmarks/floors.py --only counted     # measured, scripts, counted

Three sources: what `run.py --full` measures against other clients, what the scripts
beside it measure, and what tests count (`record_property`, by way of `--junitxml`).
What takes a session of nox of its own is named at the end. The exit status is 1 if a
goal is missed or a figure is missing.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import goals
import report
from goals import Goal
from samples import Samples, Spread

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "full.json"
TESTS = HERE.parent / "tests"

ELSEWHERE = (
    ("P15", "1,000 Airflow triggers of one logon session", "airflow-full"),
    ("R6", "hours of watching, memory flat", "soak"),
    ("R7", "a million random bodies", "fuzz"),
    ("R8", "secrets in anything the whole suite shows: 0", "tests"),
    ("R10", "every test on uvloop", "uvloop"),
    ("R10", "every test with eager tasks", "eager"),
    ("R10", "every test on Python 3.14", "debian -- 3.14"),
    ("R12", "1,000 random histories of jobs", "fuzz"),
    ("R11", "500 kills", "kills"),
    ("R13", "mutants killed", "mutation"),
)
"""What takes long, or a machine of its own: `nox -s` and this."""


@dataclasses.dataclass(frozen=True)
class Count:
    """A figure that tests record."""

    name: str
    what: str
    tests: str
    recorded: str
    bound: float
    unit: str = ""


FAILED = "failed"
_RENEWAL = "scenarios/test_renewal.py::"
_OUTAGE = "scenarios/test_outage.py::test_one_outage_under_a_thousand_pollers"
_BAD = "scenarios/test_faults.py::test_fifteen_bad_replies_in_a_hundred"
_CANCELLED = "scenarios/test_cancellation.py::test_cancelled_at_every_step"
COUNTS = (
    Count(
        name="R1",
        what="logons, 1,000 pollers and a token that is refused once",
        tests=f"{_RENEWAL}test_one_logon_for_n_pollers_and_one_more",
        recorded="logons",
        bound=2,
    ),
    Count(
        name="R2",
        what="refused logons, 1,000 waiting with a wrong password",
        tests=f"{_RENEWAL}test_a_wrong_password_with_many_waiting",
        recorded="refused",
        bound=1,
    ),
    Count(
        name="R2",
        what="the same, the password changed in mid-watch",
        tests=f"{_RENEWAL}test_a_changed_password_is_refused_once",
        recorded="refused",
        bound=1,
    ),
    Count(
        name="R3",
        what="15 % of replies bad, 1,000 tasks: lost, wrong, unfinished",
        tests=_BAD,
        recorded="lost, wrong or unfinished",
        bound=0,
    ),
    Count(
        name="R4",
        what="server down for 60 s under 1,000 pollers: requests",
        tests=_OUTAGE,
        recorded="requests in 60 s",
        bound=60,
    ),
    Count(
        name="R4",
        what="notices of that: one down, one up",
        tests=_OUTAGE,
        recorded="notices of it",
        bound=2,
    ),
    Count(
        name="R5",
        what="ways in and out, cancelled at each step, that leave something",
        tests=_CANCELLED,
        recorded=FAILED,
        bound=0,
    ),
    Count(
        name="R8",
        what="secrets found in what all these tests show",
        tests="",
        recorded="secrets found",
        bound=0,
    ),
    Count(
        name="R9",
        what="held of a small body that becomes 512 MiB",
        tests="transport/test_transport.py::test_a_bomb_is_cut_while_it_is_read",
        recorded="MiB held",
        bound=80,
        unit="MiB",
    ),
)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=sorted(SOURCES), action="append")
    asked = parser.parse_args().only or list(SOURCES)
    found = [goal for name in asked for goal in SOURCES[name]()]
    print(report.goal_table(found))
    print("\nBy sessions of nox of their own:\n")
    for name, what, session in ELSEWHERE:
        print(f"    {name:4} {what:50} python -m nox -s {session}")
    if missed := [goal for goal in found if goal.verdict != "reached"]:
        sys.exit(f"not reached: {', '.join(goal.name for goal in missed)}")


def measured() -> Iterator[Goal]:
    """Measure against other clients."""
    subprocess.run([sys.executable, str(HERE / "run.py"), "--full"], check=True)
    yield from goals.goals(Samples(json.loads(RESULTS.read_text(encoding="utf-8"))))


def scripts() -> Iterator[Goal]:
    """Measure what has a script of its own."""

    def goal(
        name: str, what: str, bound: float, value: float | None, unit: str = ""
    ) -> Goal:
        spread = None if value is None else Spread(value, value, value, 1)
        return Goal(
            name=name,
            what=what,
            bound=bound,
            at_least=False,
            unit=unit,
            measured=spread,
        )

    pace = lines("paced.py", "--only", "pace")[0]
    late = "default pace: delay of an end as a share of the duration"
    yield goal("P12", late, 0.07, pace["delay_share_mean"])
    yield goal("P12", "the same: requests a task", 52, pace["requests_per_task"])
    runs = {(one["sessions"], one["mode"]): one for one in lines("followed.py")}
    together, singly = runs[300, "auto"]["requests"], runs[300, "never"]["requests"]
    what = "300 job sessions at T = 1 s: requests together over singly"
    yield goal("P13", what, 0.1, together / singly)
    what = "2,000 job sessions: longest hold of the loop"
    yield goal("P13", what, 10, 1e3 * runs[2000, "auto"]["hold"], "ms")
    fifty = lines("servers.py", "--coalesce", "always")[0]
    yield goal("P14", "50 servers, 1,000 tasks each: cores", 0.25, fifty["cpu"])
    what = "the same: connections to a server at most"
    yield goal("P14", what, 4, fifty["connections_most"])


def lines(script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a script; return the objects in JSON that its lines hold."""
    ended = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    held = (
        line[line.index("{") :] for line in ended.stdout.splitlines() if "{" in line
    )
    return [json.loads(line) for line in held]


def counted() -> Iterator[Goal]:
    """Run the tests that count; one that fails gives no figure."""
    names = sorted({str(TESTS / count.tests) for count in COUNTS if count.tests})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.xml"
        written = (f"--junitxml={path}", "-o", "junit_family=xunit1")
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *written, *names],
            check=False,
            cwd=HERE.parent,
        )
        cases = list(recorded_in(path))
    for count in COUNTS:
        function = count.tests.rpartition("::")[2]
        values = [
            float(recorded[count.recorded])
            for name, recorded in cases
            if count.recorded in recorded and (not function or name == function)
        ]
        spread = None
        if values:
            # The worst counts, not the median.
            spread = Spread(max(values), min(values), max(values), len(values))
        yield Goal(
            name=count.name,
            what=count.what,
            bound=count.bound,
            at_least=False,
            unit=count.unit,
            measured=spread,
        )


def recorded_in(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the function of each test, and what it recorded if it passed."""
    for case in ET.parse(path).iter("testcase"):
        name = case.attrib["name"].partition("[")[0]
        if case.find("failure") is not None or case.find("error") is not None:
            yield name, {FAILED: "1"}
        else:
            told = {
                one.attrib["name"]: one.attrib["value"] for one in case.iter("property")
            }
            yield name, told | {FAILED: "0"}


SOURCES: dict[str, Callable[[], Iterator[Goal]]] = {
    "measured": measured,
    "scripts": scripts,
    "counted": counted,
}


if __name__ == "__main__":
    main()
