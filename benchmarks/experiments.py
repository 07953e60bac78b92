"""What is measured: for each experiment its sides, their specs and its rounds.

An experiment is a list of runs: a side's program, on a server, with a spec. `run.py`
plays each list in random order, once a round.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

TRICKS = (
    "defaults",
    "prebuilt URL",
    "no request timer",
    "prebuilt URL, no timer",
    "body compared",
    "body parsed",
    "fail_after",
    "trace hook",
    "limiter",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One program, once in each round.

    Attributes:
        side: Who is measured.
        case: What of it.
        program: Its file in ``peers/``.
        spec: Its `Spec`, but for what the server and the machine decide.
        rounds: How often, if not as often as everything else.
        watched: Whether the server's open connections are sampled meanwhile.
        simulated: Whether the server is the simulator instead of nginx.
        collection: How many tasks the server has, if more than are watched.
    """

    side: str
    case: str
    program: str
    spec: dict[str, Any]
    rounds: int | None = None
    watched: bool = False
    simulated: bool = False
    collection: int = 0

    @property
    def changing(self) -> bool:
        """Whether it polls the address whose replies change."""
        return bool(self.spec.get("changing"))


def single(*, quick: bool) -> list[Run]:
    """P1, P2, P3 saturated, P4: one GET per task, without a pause."""
    slow = {"tasks": 1000, "warm_up": 1000, "polls": 1000 if quick else 1500}
    fast = {"tasks": 1000, "warm_up": 2000, "polls": 4000 if quick else 10_000}
    runs = []
    for case in ("unchanged", "changed"):
        changing = case == "changed"
        for side, program in (
            ("veeam_tasks", "veeam_watch"),
            ("aiohttp bare", "aiohttp_bare"),
            ("aiohttp loop", "aiohttp_loop"),
        ):
            spec = fast | {"changing": changing}
            runs.append(Run(side=side, case=case, program=program, spec=spec))
    runs.append(
        Run(side="httpx, 10", case="unchanged", program="httpx_pool", spec=slow)
    )
    runs.append(
        Run(
            side="requests, 100",
            case="unchanged",
            program="requests_threads",
            spec=slow,
        )
    )
    return runs


def paced(*, quick: bool) -> list[Run]:
    """P3 paced: 1,000 tasks, each polled every 0.5 s."""
    spec = {"tasks": 1000, "pause": 0.5, "warm_up": 2000}
    spec["seconds"] = 2.0 if quick else 3.0
    return [
        Run(
            side=side,
            case="2,000 polls/s",
            program=program,
            spec=spec,
            rounds=1 if quick else None,
        )
        for side, program in (
            ("veeam_tasks", "veeam_watch"),
            ("aiohttp loop", "aiohttp_loop"),
        )
    ]


def bulk(*, quick: bool) -> list[Run]:
    """P5: 10,000 tasks of one logon session, each looked at every 5 s."""
    pause = 5.0
    spec = {"tasks": 10_000, "pause": pause, "warm_up": 10_000, "seconds": pause}
    rounds = 1 if quick else 3
    runs = [
        Run(
            side="aiohttp loop",
            case="unchanged",
            program="aiohttp_loop",
            spec=spec,
            rounds=rounds,
        )
    ]
    for case in ("unchanged", "1 % changed"):
        # Some that were asked for singly at first are so once or twice more.
        options = {"coalesce": "auto", "settle": 3 * pause}
        mine = spec | {"options": options, "changing": case != "unchanged"}
        # Half a pause more than one or two, so that so many collections are measured.
        mine["seconds"] = 1.5 * pause if quick else 2.5 * pause
        if quick and mine["changing"]:
            continue
        runs.append(
            Run(
                side="veeam_tasks",
                case=case,
                program="veeam_watch",
                spec=mine,
                rounds=rounds,
            )
        )
    return runs


def hold(*, quick: bool) -> list[Run]:
    """P6: the first collection of 10,000 tasks, all of them new."""
    spec = {"tasks": 10_000, "pause": 5.0, "seconds": 0.1}
    return [
        Run(
            side="veeam_tasks",
            case=mode,
            program="veeam_scale",
            spec=spec | {"options": {"coalesce": mode, "settle": 0.1}},
        )
        for mode in (("auto",) if quick else ("auto", "always"))
    ]


def memory(*, quick: bool) -> list[Run]:
    """P7: bytes for each watched task."""
    runs = []
    for mode in ("never",) if quick else ("never", "auto"):
        for how in ("traced", "resident"):
            options = {"coalesce": mode, "traced": how == "traced"}
            spec = {"tasks": 2_000 if quick else 10_000, "pause": 300.0}
            runs.append(
                Run(
                    side="veeam_tasks",
                    case=f"{how}, {mode}",
                    program="veeam_memory",
                    spec=spec | {"options": options},
                    rounds=1,
                )
            )
    return runs


def connections(*, quick: bool) -> list[Run]:
    """P9: 10,000 tasks polled singly at 5 s, the server's connections counted."""
    spec = {"tasks": 10_000, "pause": 5.0, "seconds": 3.0 if quick else 10.0}
    return [
        Run(
            side="veeam_tasks",
            case="singly",
            program="veeam_watch",
            spec=spec,
            rounds=1,
            watched=True,
        )
    ]


def detection(*, quick: bool) -> list[Run]:
    """P8: the time from a change at the server to the event, 1,500 tasks at 1 s."""
    return [
        Run(
            side="veeam_tasks",
            case=mode,
            program="veeam_detection",
            spec={"tasks": 1500, "pause": 1.0, "options": {"coalesce": mode}},
            rounds=1 if quick else 2,
            simulated=True,
        )
        for mode in ("never", "auto")
    ]


def pause_of(size: int, mode: str) -> float:
    """Return a pause at which the client is busy, but not always."""
    if size < 10_000:
        return 0.5
    return 5.0 if mode == "always" else max(5.0, size / 2000)


def scale(*, quick: bool) -> list[Run]:
    """P10 and more: from 10 tasks to 100,000, together and singly."""
    runs = []
    sizes = (100, 1000, 10_000) if quick else (10, 100, 1000, 10_000, 100_000)
    for size in sizes:
        for mode in ("always", "never"):
            pause = pause_of(size, mode)
            spec = {
                "tasks": size,
                "pause": pause,
                # Whole collections count as they come; single polls at any time.
                "seconds": 2.5 * pause if mode == "always" else min(pause, 10.0),
                "options": {"coalesce": mode, "settle": min(pause / 2, 5.0)},
            }
            runs.append(
                Run(
                    side="veeam_tasks",
                    case=f"{size} {mode}",
                    program="veeam_scale",
                    spec=spec,
                    rounds=1 if quick or size >= 10_000 else 2,
                )
            )
    return runs


def crossover(*, quick: bool) -> list[Run]:
    """Few watched tasks of a logon session that has 2,000: singly or together."""
    sizes = (10, 100) if quick else (3, 10, 30, 100, 300, 1000)
    return [
        Run(
            side="veeam_tasks",
            case=f"{size} {mode}",
            program="veeam_watch",
            spec={
                "tasks": size,
                "pause": 0.5,
                "seconds": 1.75,
                "options": {"coalesce": mode, "settle": 0.25},
            },
            rounds=1,
            collection=2000,
        )
        for size in sizes
        for mode in ("always", "never")
    ]


def waits(*, quick: bool) -> list[Run]:
    """Ten thousand gathered `wait` calls against one watch."""
    return [
        Run(
            side=side,
            case="10,000 tasks",
            program="veeam_scale",
            spec={
                "tasks": 10_000,
                "pause": 5.0,
                "seconds": 7.5 if quick else 12.5,
                "options": {"coalesce": "auto", "waits": side == "waits"},
            },
            rounds=1,
        )
        for side in ("one watch", "waits")
    ]


def tricks(*, quick: bool) -> list[Run]:
    """What each trick is worth, on bare aiohttp."""
    spec = {"tasks": 1000, "warm_up": 1000, "polls": 3000 if quick else 6000}
    return [
        Run(
            side=trick,
            case="unchanged",
            program="tricks",
            spec=spec | {"options": {"trick": trick}},
            rounds=1 if quick else 5,
        )
        for trick in TRICKS
    ]


EXPERIMENTS: dict[str, Callable[..., list[Run]]] = {
    "single": single,
    "paced": paced,
    "hold": hold,
    "memory": memory,
    "connections": connections,
    "bulk": bulk,
    "detection": detection,
    "scale": scale,
    "crossover": crossover,
    "waits": waits,
    "tricks": tricks,
}
GOALS = {
    "P1": ("single",),
    "P2": ("single",),
    "P3": ("single", "paced"),
    "P4": ("single",),
    "P5": ("bulk",),
    "P6": ("hold",),
    "P7": ("memory",),
    "P8": ("detection",),
    "P9": ("connections",),
    "P10": ("scale",),
}
NAMES = (*EXPERIMENTS, "import")
"""All experiments; ``import`` has no server and is played by `bench_import`."""
QUICK = ("single", "paced", "hold", "memory", "connections", "import")
"""What the quick mode plays: under a minute."""
