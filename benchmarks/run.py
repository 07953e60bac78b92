"""Measure, keep the samples as JSON, print the report.

    python benchmarks/run.py            core figures, under a minute
    python benchmarks/run.py --full     all of them, seven rounds, about ten minutes
    python benchmarks/run.py --only P1,P5,tricks

Every client is a process of its own on one core, the server another on the other
core. The sides take turns in random order, once a round. Each client says how many
requests it sent and what was wrong in the replies; an experiment in which anything was
wrong, or the server counted other than the client, gives no figures, and the exit
status says so.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_import
import experiments
import machine
import replies
import report
from experiments import Run
from server import BenchServer
from simulated import SimulatedProcess

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ONE_RUN = 150  # seconds that one client may take


class WrongError(Exception):
    """A client did not do its work, so that its figures mean nothing."""

    def __init__(self, run: Run, problem: str) -> None:
        super().__init__(f"{run.side}, {run.case}: {problem}")


def main() -> None:
    """Measure what the command line asks for."""
    options = parse()
    names = list(chosen(options.only, full=options.full))
    path = RESULTS / ("full.json" if options.full else "quick.json")
    results = {"mode": path.stem, "machine": machine.record(), "experiments": {}}
    if options.only and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["machine"] == results["machine"]:
            results["experiments"] = kept["experiments"]
    failed = []
    for name in names:
        began = time.monotonic()
        try:
            samples = play(name, quick=not options.full, rounds=options.rounds)
        except WrongError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
            results["experiments"].pop(name, None)
            continue
        results["experiments"][name] = samples
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(report.text(results))
    if options.full:
        report.draw(results, RESULTS)
    if failed:
        sys.exit(f"no figures for: {', '.join(failed)}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="the default")
    how.add_argument("--full", action="store_true", help="everything, seven rounds")
    parser.add_argument("--rounds", type=int, help="instead of 3 (7 with --full)")
    parser.add_argument(
        "--only",
        help="goals or experiments, with commas between: "
        + ", ".join([*experiments.GOALS, *experiments.NAMES]),
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (7 if options.full else 3)
    return options


def chosen(only: str | None, *, full: bool) -> Iterator[str]:
    """Return the names of the experiments to play."""
    if only is None:
        yield from experiments.NAMES if full else experiments.QUICK
        return
    wanted = set()
    for word in only.split(","):
        wanted.update(experiments.GOALS.get(word, (word,)))
    unknown = wanted - set(experiments.NAMES)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}")
    yield from (name for name in experiments.NAMES if name in wanted)


def play(name: str, *, quick: bool, rounds: int) -> dict[str, Any]:
    """Play one experiment; return its samples with when and where they were taken."""
    told = machine.moment()
    if name == "import":
        return told | {"server": "none", "samples": bench_import.measure(rounds)}
    runs = experiments.EXPERIMENTS[name](quick=quick)
    samples = []
    for number in range(rounds):
        due = [run for run in runs if number < (run.rounds or rounds)]
        random.shuffle(due)
        for run in due:
            sample, server = play_once(run)
            told.setdefault("server", server)
            samples.append(
                {"side": run.side, "case": run.case, "round": number} | sample
            )
    return told | {"samples": samples}


def play_once(run: Run) -> tuple[dict[str, Any], str]:
    """Start a server and one client; return what the client said, checked."""
    client_core, server_core = machine.cores()
    if server_core is not None:
        os.sched_setaffinity(0, {server_core})
    kind = SimulatedProcess if run.simulated else BenchServer
    with kind(tasks=run.collection or run.spec["tasks"], cpu=server_core) as server:
        before = server.seen()
        spec = run.spec | {
            "url": server.url(changing=run.changing or run.simulated),
            "ca_file": server.ca_file,
            "token": replies.TOKEN,
            "cpu": client_core,
            "options": run.spec.get("options", {}) | server.options,
        }
        sample, connections = play_client(run, spec, server)
        after = server.seen()
        version = server.version()
    problem = sample["wrong"][:3]
    if before is not None and after is not None:
        beyond = after.requests - before.requests - sample["requests"]
        # At the end some may be cut short before the server has read them, or after.
        if abs(beyond) > sample["cut_short"]:
            problem.append(f"the server counted {beyond} requests beyond the client's")
    if problem:
        raise WrongError(run, "; ".join(problem))
    if run.watched:
        sample["connections"] = connections
    return sample, version


def play_client(
    run: Run, spec: dict[str, Any], server: BenchServer | SimulatedProcess
) -> tuple[dict[str, Any], int]:
    """Return what the client said, and the most connections that were open."""
    program = HERE / "peers" / f"{run.program}.py"
    deadline = time.monotonic() + ONE_RUN
    most = 0
    with subprocess.Popen(
        [sys.executable, str(program), json.dumps(spec)],
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        while client.poll() is None:
            if time.monotonic() > deadline:
                client.kill()
                raise WrongError(run, f"not done after {ONE_RUN} s")
            seen = server.seen() if run.watched else None
            if seen is not None:
                most = max(most, seen.open_connections)
            time.sleep(0.05)
        assert client.stdout is not None
        said = client.stdout.read()
    if client.returncode:
        raise WrongError(run, f"exit status {client.returncode}")
    return json.loads(said), most


if __name__ == "__main__":
    main()
