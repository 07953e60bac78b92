"""What the tests are worth: of 200 small faults put into the code, how many they find.

    python benchmarks/mutants.py                          # the sample
    python benchmarks/mutants.py --only health.py --list  # what there is for a file

A mutant is the package with one expression or statement changed (`mutations.py`). A
sample is drawn from each area: a mutant's place in the queue is a hash of its name, so
that the sample stays as it is where the code does.

First all tests run without a fault, and `mutant_tests.py` notes which lines each runs.
Then each mutant meets, in a copy of the checkout, those tests of its area that run its
line, those of its own file first, and the quick ones before the slow ones; one that
survives meets all others that run its line: of the rest of the core, of which each test
has a third of its cases. A line that runs on import, or that none was seen to run,
meets all of them. What survives needs a reason in `mutants.toml`, next to this file;
what has one meets the tests of its area alone.

Left out: annotations, decorators, `assert`, lines of the log, `__repr__`, texts.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from mutations import Finder, Mutant

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REASONS = HERE / "mutants.toml"
COPIED = ("veeam_tasks", "tests", "benchmarks", "pyproject.toml", "README.md")
COPIED_TOO = ("noxfile.py", ".importlinter")
CORE = ("protocol", "transport", "session", "engine", "public", "scenarios")
# Starts pytest within pytest, for minutes, and is about the plugin.
LEFT_OUT = "tests/public/test_pytest_plugin.py"
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "mutant_tests"),
    *("--hypothesis-seed=0", "-otimeout=60"),
)
GOAL = 0.95
SEED = "veeam_tasks"
# Of each area one, broken wholly to see whether the tests notice.
BROKEN = (
    *("_engine/resuming.py", "_engine/runs.py", "_engine/engine.py"),
    *("_session/calls.py", "_transport/trust.py", "_protocol/urls.py"),
)
OF_RUNS = ("engine/test_run_*", "session/test_session_search*", "public/test_follow*")
# The area, how many, its files, its tests. The first that fits a file is its area.
AREAS = (
    (
        *("checkpoint", 20, ("_engine/checkpoint", "_engine/resuming")),
        ("engine/test_resuming*", "public/test_checkpoint*", "public/test_bound*"),
    ),
    (
        *("follow", 30, ("_engine/run", "_session/session_", "_session/submi")),
        (*OF_RUNS, "scenarios/test_follow.py"),
    ),
    ("engine", 60, ("_engine/",), ("engine",)),
    ("session", 30, ("_session/",), ("session",)),
    ("transport", 30, ("_transport/",), ("transport",)),
    ("protocol", 30, ("_protocol/",), ("protocol",)),
)


def area_of(path: str) -> int | None:
    """Return which area a file of the package belongs to; None if to none."""
    fitting = (at for at, area in enumerate(AREAS) if path.startswith(area[2]))
    return next(fitting, None)


def drawn(only: str | None) -> list[Mutant]:
    """Return the mutants of the sample, or all whose name has a text in it."""
    found: list[list[Mutant]] = [[] for _ in AREAS]
    for file in sorted((ROOT / "veeam_tasks").rglob("*.py")):
        path = file.relative_to(ROOT / "veeam_tasks").as_posix()
        if (area := area_of(path)) is not None:
            found[area] += Finder(path, file.read_text(encoding="utf-8")).all()
    if only is not None:
        return [one for area in found for one in area if only in one.name]
    sample = []
    for (_, number, *_), every in zip(AREAS, found, strict=True):
        lines: dict[tuple[str, int], Mutant] = {}
        for one in sorted(every, key=place):
            lines.setdefault((one.path, one.line), one)
        sample += list(lines.values())[:number]
    return sample


def place(mutant: Mutant) -> str:
    """Return where in the queue a mutant stands."""
    return hashlib.sha256(f"{SEED} {mutant.name}".encode()).hexdigest()


@dataclass(frozen=True)
class Ran:
    """What ran which line, as `mutant_tests.py` has noted it."""

    seconds: dict[str, float]
    """How long each test took, by its ID, in the order in which they ran."""
    lines: dict[tuple[str, int], set[str]]
    """The tests that ran a line."""

    @classmethod
    def read(cls, files: list[Path]) -> "Ran":
        """Return what was noted in some files."""
        seconds: dict[str, float] = {}
        lines: dict[tuple[str, int], set[str]] = {}
        for file in files:
            tests, ran_by = json.loads(file.read_text(encoding="utf-8"))
            seconds |= dict(tests)
            for path, of_file in ran_by.items():
                for line, numbers in of_file.items():
                    ran = lines.setdefault((path, int(line)), set())
                    ran.update(tests[number][0] for number in numbers)
        return cls(seconds, lines)

    def of(self, mutant: Mutant, source: str) -> set[str]:
        """Return the tests that ran a line of what a mutant changes."""
        length = source.encode()[mutant.start : mutant.end].count(b"\n")
        lines = range(mutant.line, mutant.line + length + 1)
        none: set[str] = set()
        return none.union(*(self.lines.get((mutant.path, one), none) for one in lines))

    def ordered(self, tests: set[str], path: str) -> list[str]:
        """Return tests in the order to run them in: a file's own, and quick ones first.

        Not that of the files, of which the first may take a minute to get to the point.
        """
        own = Path(path).stem.strip("_")
        return sorted(
            tests,
            key=lambda one: (own not in file_of(one).stem, self.seconds[one], one),
        )


def file_of(test: str) -> Path:
    """Return the file of a test."""
    return Path(test.partition("::")[0])


class Copy:
    """A copy of the checkout, in which one mutant at a time is tested."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__", ".*", "results")
        for name in (*COPIED, *COPIED_TOO):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder / name)

    def near(self, area: int) -> list[str]:
        """Return the test files of an area."""
        found: set[Path] = set()
        for pattern in AREAS[area][3]:
            for one in (self.folder / "tests").glob(pattern):
                found |= set(one.glob("test_*.py")) if one.is_dir() else {one}
        return sorted(one.relative_to(self.folder).as_posix() for one in found)

    def far(self, path: str) -> list[str]:
        """Return the tests of the rest of the core that a file is tested by.

        Areas below its own are not asked: they import nothing above them.
        """
        area = path.partition("/")[0].strip("_")
        above = CORE[CORE.index(area) if area in CORE else 0 :]
        near = self.near(area_of(path) or 0)
        ignored = [f"--ignore={one}" for one in (*near, LEFT_OUT)]
        return [*ignored, *(f"tests/{one}" for one in above)]

    def fails(self, tests: list[str], limit: float, **asked: str) -> str | None:
        """Run tests; return what failed, None if nothing did.

        The copy comes first on the path, before the package that is installed.
        """
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        first = f"{self.folder}{os.pathsep}{self.folder / 'benchmarks'}"
        env = os.environ | {"PYTHONPATH": first, "PYTHONSAFEPATH": ""}
        env |= {"VEEAM_TASKS_LENGTHY": "no"}
        env |= {f"VEEAM_TASKS_{name.upper()}": text for name, text in asked.items()}
        with tempfile.TemporaryFile() as output:
            run = subprocess.Popen(
                [sys.executable, "-m", "pytest", *OPTIONS, *tests],
                cwd=self.folder,
                env=env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                status = run.wait(limit)
            except subprocess.TimeoutExpired:
                return "out of time"
            finally:
                end_group(run)
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()
        failed = [one for one in lines if one.startswith(("FAILED", "ERROR"))]
        return None if status == 0 else (failed or lines[-1:] or [f"exit {status}"])[0]

    def fails_of(self, tests: list[str], limit: float) -> str | None:
        """Run tests that are given by their IDs, in this order."""
        chosen = self.folder / "chosen.json"
        chosen.write_text(json.dumps(tests), encoding="utf-8")
        files = sorted({file_of(one).as_posix() for one in tests})
        return self.fails(files, limit, chosen=str(chosen))

    def found_by(self, mutant: Mutant, ran: Ran, *, is_near: bool) -> str | None:
        """Return what finds the fault that is in the copy; None if it survives."""
        source = (ROOT / "veeam_tasks" / mutant.path).read_text(encoding="utf-8")
        near = self.near(area_of(mutant.path) or 0)
        tests = ran.of(mutant, source)
        if not tests:
            found = self.fails(near, 900, share="0/1")
            if found is not None or is_near:
                return found
            return self.fails(self.far(mutant.path), 1800, share="0/3")
        of_room = {one for one in tests if file_of(one).as_posix() in near}
        for some in (of_room, *(() if is_near else (tests - of_room,))):
            order = ran.ordered(some, mutant.path)
            if order and (found := self.fails_of(order, 1800)) is not None:
                return found
        return None

    def put(self, path: str, source: str) -> None:
        """Put a file there, and see to it that no compiled one is taken for it."""
        file = self.folder / "veeam_tasks" / path
        for old in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            old.unlink()
        file.write_text(source, encoding="utf-8")

    def verdict(self, mutant: Mutant, ran: Ran, *, is_near: bool) -> str | None:
        """Return what finds a mutant; None if it survives."""
        source = (ROOT / "veeam_tasks" / mutant.path).read_text(encoding="utf-8")
        self.put(mutant.path, mutant.applied(source))
        try:
            return self.found_by(mutant, ran, is_near=is_near)
        finally:
            self.put(mutant.path, source)

    def check(self) -> None:
        """Be sure that the copy is what is tested."""
        for path in BROKEN:
            source = (ROOT / "veeam_tasks" / path).read_text(encoding="utf-8")
            self.put(path, f"{source}\nraise RuntimeError('is imported')\n")
            found = self.fails(self.near(area_of(path) or 0), 900, share="0/1")
            self.put(path, source)
            if found is None:
                sys.exit(f"{path} was broken wholly, and its tests have passed")

    def record(self, area: int | None) -> Path:
        """Run the tests of an area, or else all others; return what was noted.

        Those of an area run twice, the second time in the order of the mutants' runs:
        no mutant is to be found by that.
        """
        out = self.folder / f"{area}.json"
        near = [one for number in range(len(AREAS)) for one in self.near(number)]
        rest = [*(f"--ignore={one}" for one in (*near, LEFT_OUT))]
        tests = [*rest, *(f"tests/{one}" for one in CORE)]
        share = "0/3"
        if area is not None:
            tests, share = self.near(area), "0/1"
        found = self.fails(tests, 3600, share=share, lines=str(out))
        if found is None and area is not None:
            ran = Ran.read([out])
            found = self.fails_of(ran.ordered(set(ran.seconds), "none"), 3600)
        if found is not None:
            sys.exit(f"the tests fail without any mutant: {found}")
        return out


def end_group(run: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def asked_for(asked: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that the command line chooses."""
    part, parts = map(int, asked.part.split("/"))
    mutants = drawn(asked.only)
    if asked.again is not None:
        told = map(json.loads, asked.again.read_text().splitlines())
        survived = {one["mutant"] for one in told if one["found by"] is None}
        mutants = [one for one in drawn("") if one.name in survived]
    return mutants[part::parts]


def main() -> None:
    """Test the mutants that are asked for, and print what has come of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TEXT", help="all whose name has it in it")
    parser.add_argument("--list", action="store_true", help="show them, test none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", default="0/1", metavar="K/N", help="each N-th")
    parser.add_argument("--near", action="store_true", help="only the area's tests")
    parser.add_argument("--out", type=Path, help="a line of JSON for each")
    parser.add_argument("--again", type=Path, help="only what survived in such a file")
    parser.add_argument(
        "--lines", type=Path, help="where to keep what runs which line, for the next"
    )
    asked = parser.parse_args()
    mutants = asked_for(asked)
    if asked.list:
        print(*(one.name for one in mutants), len(mutants), sep="\n")
        return
    reasons = given_reasons()
    with tempfile.TemporaryDirectory() as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(asked.workers):
            copies.put(Copy(Path(folder) / str(number)))
        with ThreadPoolExecutor(asked.workers) as workers:
            kept = asked.lines or Path(folder)
            ran = noted(copies, workers, kept, is_near=asked.near)

            def test(mutant: Mutant) -> dict[str, str | float | None]:
                begun = time.monotonic()
                is_near = asked.near or mutant.name in reasons
                with borrowed(copies) as copy:
                    found = copy.verdict(mutant, ran, is_near=is_near)
                seconds = round(time.monotonic() - begun, 1)
                told = {"mutant": mutant.name, "found by": found, "seconds": seconds}
                print("  ".join(str(one) for one in told.values()), flush=True)
                if asked.out is not None:
                    with asked.out.open("a") as file:
                        file.write(f"{json.dumps(told)}\n")
                return told

            tested = list(workers.map(test, mutants))
    sys.exit(
        report(
            [str(one["mutant"]) for one in tested if not one["found by"]], len(tested)
        )
    )


@contextlib.contextmanager
def borrowed(copies: SimpleQueue[Copy]) -> Iterator[Copy]:
    """Give a copy that nobody uses, once there is one, and take it back."""
    copy = copies.get()
    try:
        yield copy
    finally:
        copies.put(copy)


def noted(
    copies: SimpleQueue[Copy],
    workers: ThreadPoolExecutor,
    folder: Path,
    *,
    is_near: bool,
) -> Ran:
    """Run all tests without a mutant, if near those of the areas; return what ran."""

    def record(area: int | None) -> Path:
        kept = folder / f"lines-{area}.json"
        if not kept.exists():
            with borrowed(copies) as copy:
                if area == 0:
                    copy.check()
                shutil.copy(copy.record(area), kept)
        return kept

    areas = [*(() if is_near else (None,)), *range(len(AREAS))]
    try:
        return Ran.read(list(workers.map(record, areas)))
    except SystemExit:
        workers.shutdown(cancel_futures=True)
        raise


def given_reasons() -> dict[str, str]:
    """Return why which mutants are to survive."""
    return tomllib.loads(REASONS.read_text(encoding="utf-8"))


def report(survivors: list[str], number: int) -> str | None:
    """Print the score; return what is wrong with it, if anything is."""
    reasons = given_reasons()
    every = {one.name for one in drawn("")}
    for one in survivors:
        print(f"\nsurvives: {one}\n  {reasons.get(one, 'without a reason')}")
    killed = number - len(survivors)
    equivalent = len(set(survivors) & set(reasons))
    share = killed / max(number - equivalent, 1)
    print(f"\n{killed} of {number} found, {equivalent} survive with a reason;", end=" ")
    print(f"of those without one {share:.1%} found, and {GOAL:.0%} are asked for")
    gone = sorted(set(reasons) - every)
    if gone:
        return "\n".join(["reasons for what the code has no more:", *gone])
    if not set(survivors) <= set(reasons):
        return "not every survivor has a reason"
    return None if share >= GOAL else "too few were found"


if __name__ == "__main__":
    main()
