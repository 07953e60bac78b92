"""A simulated server in this process, to try things without a real one."""

import attrs

import veeam_tasks as vt
from veeam_tasks.cli._ends import Exit
from veeam_tasks.cli._following import follow
from veeam_tasks.cli._shows import Show

_SHORTEST_PAUSE = 0.02
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 0.4


@attrs.frozen(kw_only=True)
class Simulation:
    """Tasks of a simulated server; exactly one of them fails.

    Attributes:
        tasks: How many.
        speed: How many seconds of their scripts pass in one second.
    """

    tasks: int
    speed: float

    async def watched(
        self,
        show: Show,
        *,
        timeout: float | None,  # noqa: ASYNC109 - it is the watch's own
        fail_fast: bool,
    ) -> Exit:
        """Start the server, watch its tasks to the end, stop it."""
        from veeam_tasks.simulator import (  # noqa: PLC0415 - loads aiohttp
            Mix,
            SimulatedServer,
        )

        mix = Mix(
            failing=1 / self.tasks,
            running=(1.0, 3.5),
            collecting=(0.8, 1.2),
            skipping=0.0,
        )
        async with SimulatedServer(speed=self.speed) as server:
            tasks = server.add_tasks(self.tasks, mix)
            async with vt.connect(
                server.url,
                username=server.username,
                password=server.password,
                pace=self._pace(),
                on_notice=show.notice,
            ) as em:
                watch = em.watch([task.task_id for task in tasks], timeout=timeout)
                noun = "task" if self.tasks == 1 else "tasks"
                title = f"Watching {self.tasks} {noun} of a simulated server"
                show.begin(f"{title} at {em.url}", self.tasks)
                return await follow(watch, show, fail_fast=fail_fast)

    def _pace(self) -> vt.Pace:
        """Return a pace that sees each state of a script go by."""
        return vt.Pace(
            first=max(_SHORTEST_PAUSE, _FIRST_PAUSE / self.speed),
            growth=1.2,
            longest=max(_SHORTEST_PAUSE, min(30.0, _LONGEST_PAUSE / self.speed)),
        )
