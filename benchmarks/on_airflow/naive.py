"""What is compared with: triggers that poll each for itself, and that only sleep."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

import veeam_tasks as vt
from veeam_tasks.airflow.hooks import VeeamHook

POLL_SECONDS = 5


class NaiveTrigger(BaseTrigger):
    """Watches one task, alone, as people write it first.

    Args:
        conn_id: The connection.
        task: The task ID.
    """

    def __init__(self, conn_id: str, task: str) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.task_to_watch = task

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what it is made from again."""
        given = {"conn_id": self.conn_id, "task": self.task_to_watch}
        return "naive.NaiveTrigger", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until it is over."""
        server = await asyncio.to_thread(VeeamHook(self.conn_id).get_conn)
        async with vt.connect(
            server.url,
            username=server.username,
            password=server.password,
            **server.options,
        ) as em:
            while True:
                task = await em.fetch(self.task_to_watch)
                if task.is_finished:
                    break
                await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent({"outcome": "succeeded" if task.succeeded else "failed"})


class SleepTrigger(BaseTrigger):
    """Does nothing until some moment: what Airflow itself costs.

    Args:
        until: When, in seconds since 1970.
    """

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what it is made from again."""
        return "naive.SleepTrigger", {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep."""
        await asyncio.sleep(self.until - time.time())
        yield TriggerEvent({"outcome": "succeeded"})
