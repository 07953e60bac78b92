"""Programs that are killed again and again, against a server whose truth is on record.

``VEEAM_TASKS_KILLS`` says how many kills there are; ``nox -s kills`` makes 500.
"""

import json
import os
import random
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.command_line import COMMAND, clean_environment, settings_of

from veeam_tasks.simulator import Job, ThreadedServer

KILLS = int(os.environ.get("VEEAM_TASKS_KILLS", "6"))
ROUND = 100
"""Kills against one server, with fifty jobs; a few kills have ten."""
SECONDS = 900
WORKER = Path(__file__).parents[1] / "support" / "kill_worker.py"
LOOKS = ("--find-timeout", "3s")
PAUSES = ("--first-pause", "0.2", "--longest-pause", "0.5")
pytestmark = [pytest.mark.lengthy, pytest.mark.timeout(max(300, 10 * KILLS))]


@attrs.define
class Figures:
    """What came of all rounds."""

    jobs: int = 0
    kills: int = 0
    ended: int = 0
    lost: int = 0
    uncertain: int = 0
    submitted_twice: int = 0
    foreign: int = 0
    told_twice: int = 0
    told_again_marked: int = 0
    untold: int = 0


@attrs.define(eq=False)
class Program:
    """A program that follows jobs and is killed: the shell, or one of somebody's."""

    jobs: list[Job]
    begin: list[str]
    resume: list[str]
    notes: Path
    is_shell: bool
    child: "subprocess.Popen[bytes] | None" = None
    runs: int = 0

    def start(self, variables: dict[str, str]) -> None:
        """Run it: the first time to begin, later to go on."""
        has_begun = self.notes.exists()
        command = self.resume if has_begun else self.begin
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.child = subprocess.Popen(
                command, stdout=out, stderr=err, env=clean_environment(**variables)
            )
        self.runs += 1

    @property
    def out(self) -> Path:
        """What it printed, all runs together."""
        return self.notes.with_suffix(".out")

    @property
    def err(self) -> Path:
        """What it complained of, all runs together."""
        return self.notes.with_suffix(".err")

    def poll(self) -> int | None:
        """Return how the run ended; None while it goes on."""
        assert self.child is not None
        return self.child.poll()

    def is_done(self) -> bool:
        """Tell whether the run that has ended needs no other after it."""
        if not self.is_shell:
            return self.poll() == 0
        if "nothing was started" in self.err.read_text().rpartition("\n")[0][-200:]:
            self.notes.unlink()
            return False
        is_uncertain = "look at the job, then delete" in self.err.read_text()
        return self.poll() in {0, 1} or is_uncertain

    def kill(self) -> None:
        """End the run without a word."""
        assert self.child is not None
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


def programs(
    server: ThreadedServer, folder: Path, chance: random.Random, number_of_jobs: int
) -> Iterator[Program]:
    """Yield programs: a fifth of the jobs through the shell, the rest in fours."""
    jobs = []
    fifth = number_of_jobs // 5
    for number in range(number_of_jobs):
        seconds = chance.choice([1, 2, 4, 8])
        end = chance.choice(["", " failed", " warning"])
        script = f"Starting 1s, Working {seconds}s, Stopped{end}"
        jobs.append(server.add_job(f"job {number}", session=script))
    for number, job in enumerate(jobs[:fifth]):
        notes = folder / f"shell-{number}.json"
        state = [*("--json", *PAUSES)]
        submit = ["submit", f"{job.path}?action=start", "--follow", "--state"]
        yield Program(
            [job],
            [*COMMAND, *submit, str(notes), *state],
            [*COMMAND, "resume", str(notes), *state, *LOOKS],
            notes,
            is_shell=True,
        )
    for number in range(fifth):
        some = jobs[fifth + 4 * number : fifth + 4 * number + 4]
        settings = folder / f"settings-{number}.json"
        notes = folder / f"library-{number}.json"
        content = {
            "url": server.url,
            "user": server.username,
            "pw": server.password,
            "token": None,
            "notes": str(notes),
            "paths": [f"{job.path}?action=start" for job in some],
        }
        settings.write_text(json.dumps(content))
        command = [sys.executable, str(WORKER), str(settings)]
        yield Program(some, command, command, notes, is_shell=False)


def play(
    server: ThreadedServer, all_: list[Program], kills: int, chance: random.Random
) -> int:
    """Run the programs to their ends, and kill some now and then; return how often."""
    variables = settings_of(server)
    waiting, running = list(all_), list[Program]()
    end, done = time.monotonic() + SECONDS, 0
    next_kill = time.monotonic() + chance.uniform(0.5, 1.5)
    while waiting or running:
        assert time.monotonic() < end, [one.err.read_text() for one in running]
        while waiting and len(running) < 4:
            running.append(waiting.pop(0))
            running[-1].start(variables)
        for one in list(running):
            if one.poll() is None:
                continue
            running.remove(one)
            if not one.is_done():
                # The server was restarted under its logon, say: it is run again.
                assert one.runs < 3 * kills + 20, one.err.read_text()
                waiting.append(one)
        if done < kills and running and time.monotonic() > next_kill:
            victim = chance.choice(running)
            victim.kill()
            running.remove(victim)
            waiting.insert(chance.randint(0, len(waiting)), victim)
            done += 1
            if chance.random() < 0.15:
                # All logon sessions end, and IDs come again for others.
                server.restart()
            next_kill = time.monotonic() + chance.uniform(0.1, 1.2)
        if running:
            wait_for_any(running, next_kill if done < kills else end)
    return done


def wait_for_any(running: list[Program], until: float) -> None:
    """Wait until one of the programs has ended, or the time has come."""
    with selectors.DefaultSelector() as selector:
        ends = [os.pidfd_open(one.child.pid) for one in running if one.child]
        try:
            for one in ends:
                selector.register(one, selectors.EVENT_READ)
            selector.select(max(0.0, until - time.monotonic()))
        finally:
            for one in ends:
                os.close(one)


def told_by_shell(one: Program) -> tuple[list[dict[str, Any]], bool]:
    """Return the events that the shell told, and whether it is uncertain."""
    lines = [
        json.loads(line)
        for line in one.out.read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
    ]
    events = [line for line in lines if "sequence" in line]
    marks = [line for line in lines if line.get("may_have_been_started")]
    is_uncertain = bool(marks) and marks[-1]["goes_on_as"] is None
    return events, is_uncertain


def count(one: Program, server: ThreadedServer, figures: Figures) -> None:
    """Compare what was told with what the server knows."""
    truth: dict[str, list[Any]] = {}
    for session in server.job_sessions:
        if session.job is not None:
            truth.setdefault(session.job.path, []).append(session)
    if one.is_shell:
        events, is_uncertain = told_by_shell(one)
        told = {
            one.jobs[0].path: [
                {
                    "key": (line["task_id"], line["sequence"]),
                    "again": bool(line.get("again")),
                    "is_final": line["is_final"],
                    "lost": line["outcome"] == "lost",
                    "succeeded": line["succeeded"],
                    "session": line["session"]
                    and line["session"]["uid"].rpartition(":")[2],
                }
                for line in events
            ]
        }
        sent = {one.jobs[0].path: not is_uncertain}
    else:
        content = json.loads(one.notes.read_text())
        sent = {path.partition("?")[0]: ok for path, ok in content["sent"].items()}
        told = {}
        for event in content["told"]:
            path = event["path"].partition("?")[0]
            key = (event["watch"], event["task_id"], event["sequence"])
            told.setdefault(path, []).append({**event, "key": key, "again": False})
    for job in one.jobs:
        figures.jobs += 1
        mine = truth.get(job.path, [])
        figures.submitted_twice += len(mine) > 1
        judge(told.get(job.path, []), mine, sent.get(job.path, False), figures)


def judge(
    events: list[dict[str, Any]], mine: list[Any], is_sure: bool, figures: Figures
) -> None:
    """Count what was told of one job."""
    fresh = Counter(event["key"] for event in events if not event["again"])
    figures.told_twice += sum(number - 1 for number in fresh.values())
    figures.told_again_marked += sum(event["again"] for event in events)
    finals = {event["key"]: event for event in events if event["is_final"]}
    if not finals:
        if is_sure:
            figures.untold += 1
        else:
            figures.uncertain += 1
        return
    (final,) = finals.values()
    if final["lost"]:
        figures.lost += 1
        return
    figures.ended += 1
    is_mine = bool(mine) and final["session"] == mine[0].session_id
    is_true = is_mine and final["succeeded"] == (mine[0].result != "Failed")
    figures.foreign += not is_true


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """No job is started twice, no outcome is another's, no event comes twice unmarked.

    Every job's end is told, or that it is lost, or that it may have been started.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    figures = Figures()
    # On a quick machine the jobs of a round end before it has had all its kills.
    number = 0
    while figures.kills < KILLS:
        number += 1
        kills = min(ROUND, KILLS - figures.kills)
        folder = tmp_path / str(number)
        folder.mkdir()
        with ThreadedServer(seed=seed + number, session_delay=0.5) as server:
            jobs = 50 if kills > 10 else 10
            all_ = list(programs(server, folder, chance, jobs))
            figures.kills += play(server, all_, kills, chance)
            for one in all_:
                count(one, server, figures)
    print(figures)
    assert figures.submitted_twice == 0
    assert figures.foreign == 0
    assert figures.told_twice == 0
    assert figures.untold == 0
    assert figures.ended > 0
    assert figures.kills == KILLS
