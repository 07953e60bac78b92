"""What the tests are worth: of 200 small faults put into the code, how many they find.

    python benchmarks/mutants.py                          # the sample
    python benchmarks/mutants.py --only health.py --list  # what there is for a file

A mutant is the package with one expression or statement changed (`mutations.py`). A
sample is drawn from each room: a mutant's place in the queue is a hash of its name, so
that the sample stays as it is where the code does. Each meets the tests of its room in
a copy of the checkout, those of its own file first; one that survives meets the rest of
the core's, of which each test runs a third of its cases. What survives that too needs a
reason in `mutants.toml`, next to this file.

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
from concurrent.futures import ThreadPoolExecutor
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
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
GOAL = 0.95
SEED = "veeam_tasks"
# Of each room one, broken wholly to see whether the tests notice.
BROKEN = (
    *("_engine/resuming.py", "_engine/runs.py", "_engine/engine.py"),
    *("_session/calls.py", "_transport/trust.py", "_protocol/urls.py"),
)
OF_RUNS = ("engine/test_run_*", "session/test_session_search*", "public/test_follow*")
# The room, how many, its files, its tests. The first that fits a file is its room.
ROOMS = (
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


def room_of(path: str) -> int | None:
    """Return which room a file of the package belongs to; None if to none."""
    fitting = (at for at, room in enumerate(ROOMS) if path.startswith(room[2]))
    return next(fitting, None)


def drawn(only: str | None) -> list[Mutant]:
    """Return the mutants of the sample, or all whose name has a text in it."""
    found: list[list[Mutant]] = [[] for _ in ROOMS]
    for file in sorted((ROOT / "veeam_tasks").rglob("*.py")):
        path = file.relative_to(ROOT / "veeam_tasks").as_posix()
        if (room := room_of(path)) is not None:
            found[room] += Finder(path, file.read_text(encoding="utf-8")).all()
    if only is not None:
        return [one for room in found for one in room if only in one.name]
    sample = []
    for (_, number, *_), every in zip(ROOMS, found, strict=True):
        lines: dict[tuple[str, int], Mutant] = {}
        for one in sorted(every, key=place):
            lines.setdefault((one.path, one.line), one)
        sample += list(lines.values())[:number]
    return sample


def place(mutant: Mutant) -> str:
    """Return where in the queue a mutant stands."""
    return hashlib.sha256(f"{SEED} {mutant.name}".encode()).hexdigest()


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

    def near(self, path: str) -> list[str]:
        """Return the test files of a file's room, its own first."""
        room = room_of(path)
        assert room is not None
        found: set[Path] = set()
        for pattern in ROOMS[room][3]:
            for one in (self.folder / "tests").glob(pattern):
                found |= set(one.glob("test_*.py")) if one.is_dir() else {one}
        own = Path(path).stem.strip("_")
        order = sorted(found, key=lambda one: (own not in one.stem, one))
        return [one.relative_to(self.folder).as_posix() for one in order]

    def fails(self, tests: list[str], limit: float, share: str) -> str | None:
        """Run tests; return what failed, None if nothing did.

        The copy comes first on the path, before the package that is installed.
        """
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        env = os.environ | {"PYTHONPATH": str(self.folder), "VEEAM_TASKS_SHARE": share}
        env |= {"VEEAM_TASKS_LENGTHY": "no", "PYTHONSAFEPATH": ""}
        with tempfile.TemporaryFile() as output:
            run = subprocess.Popen(
                [sys.executable, "-m", "pytest", *OPTIONS, "-otimeout=60", *tests],
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

    def found_by(self, path: str, *, is_near: bool) -> str | None:
        """Return what finds the fault in a file; None if it survives.

        Rooms below its own are not asked: they import nothing above them.
        """
        near = self.near(path)
        if (found := self.fails(near, 900, "0/1")) is not None or is_near:
            return found
        room = path.partition("/")[0].strip("_")
        above = CORE[CORE.index(room) if room in CORE else 0 :]
        ignored = [f"--ignore={one}" for one in (*near, LEFT_OUT)]
        rest = [*ignored, *(f"tests/{room}" for room in above)]
        return self.fails(rest, 1800, "0/3")

    def put(self, path: str, source: str) -> None:
        """Put a file there, and see to it that no compiled one is taken for it."""
        file = self.folder / "veeam_tasks" / path
        for old in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            old.unlink()
        file.write_text(source, encoding="utf-8")

    def verdict(self, mutant: Mutant, *, is_near: bool) -> str | None:
        """Return what finds a mutant; None if it survives."""
        source = (ROOT / "veeam_tasks" / mutant.path).read_text(encoding="utf-8")
        self.put(mutant.path, mutant.applied(source))
        try:
            return self.found_by(mutant.path, is_near=is_near)
        finally:
            self.put(mutant.path, source)

    def check(self, *, is_near: bool) -> None:
        """Be sure that the copy is what is tested, and that it passes as it is."""
        for path in BROKEN:
            source = (ROOT / "veeam_tasks" / path).read_text(encoding="utf-8")
            self.put(path, f"{source}\nraise RuntimeError('is imported')\n")
            found = self.found_by(path, is_near=True)
            self.put(path, source)
            if found is None:
                sys.exit(f"{path} was broken wholly, and its tests have passed")
            if found := self.found_by(path, is_near=is_near):
                sys.exit(f"the tests fail without any mutant: {found}")


def end_group(run: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def main() -> None:
    """Test the mutants that are asked for, and print what has come of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TEXT", help="all whose name has it in it")
    parser.add_argument("--list", action="store_true", help="show them, test none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", default="0/1", metavar="K/N", help="each N-th")
    parser.add_argument("--near", action="store_true", help="only the room's tests")
    parser.add_argument("--out", type=Path, help="a line of JSON for each")
    parser.add_argument("--again", type=Path, help="only what survived in such a file")
    asked = parser.parse_args()
    part, parts = map(int, asked.part.split("/"))
    mutants = drawn(asked.only)
    if asked.again is not None:
        told = map(json.loads, asked.again.read_text().splitlines())
        survived = {one["mutant"] for one in told if one["found by"] is None}
        mutants = [one for one in drawn("") if one.name in survived]
    mutants = mutants[part::parts]
    if asked.list:
        print(*(one.name for one in mutants), len(mutants), sep="\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(asked.workers):
            copies.put(Copy(Path(folder) / str(number)))
        first = copies.get()
        first.check(is_near=asked.near)
        copies.put(first)

        def test(mutant: Mutant) -> dict[str, str | float | None]:
            copy, begun = copies.get(), time.monotonic()
            found = copy.verdict(mutant, is_near=asked.near)
            copies.put(copy)
            seconds = round(time.monotonic() - begun, 1)
            told = {"mutant": mutant.name, "found by": found, "seconds": seconds}
            print("  ".join(str(one) for one in told.values()), flush=True)
            if asked.out is not None:
                with asked.out.open("a") as file:
                    file.write(f"{json.dumps(told)}\n")
            return told

        with ThreadPoolExecutor(asked.workers) as workers:
            tested = list(workers.map(test, mutants))
    sys.exit(
        report(
            [str(one["mutant"]) for one in tested if not one["found by"]], len(tested)
        )
    )


def report(survivors: list[str], number: int) -> str | None:
    """Print the score; return what is wrong with it, if anything is."""
    reasons: dict[str, str] = {}
    if REASONS.exists():
        reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    every = {one.name for one in drawn("")}
    for one in survivors:
        print(f"\nsurvives: {one}\n  {reasons.get(one, 'without a reason')}")
    killed = number - len(survivors)
    print(f"\n{killed} of {number} found; {GOAL:.0%} are asked for")
    gone = sorted(set(reasons) - every)
    if gone:
        return "\n".join(["reasons for what the code has no more:", *gone])
    if not set(survivors) <= set(reasons):
        return "not every survivor has a reason"
    return None if killed >= GOAL * number else "too few were found"


if __name__ == "__main__":
    main()
