"""What a triggerer runs while a task of Airflow is deferred."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowException
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TriggerEvent

import veeam_tasks as vt
from veeam_tasks.airflow._managers import managers_here
from veeam_tasks.airflow._shared_logon import LogonRefusedError
from veeam_tasks.airflow._watching import (
    Checkpoint,
    Outcome,
    Watching,
    delete_tasks,
)
from veeam_tasks.airflow.hooks import VeeamHook

KNOWN_PROBLEMS = (
    *(vt.VeeamTasksError, LogonRefusedError, ValueError, TimeoutError),
    # There is no such connection, or a Variable cannot be read.
    *(AirflowException, RuntimeError),
)
_ENDED = ("failed", "success", "skipped", "removed")


class VeeamTrigger(BaseTrigger):
    """Watches tasks to their ends; it submits nothing, so it may run twice at once.

    Its arguments are stored and printed by Airflow: no secret is among them.

    Args:
        veeam_conn_id: The connection.
        reference: Stands for the logon session that the tasks belong to.
        checkpoints: From where on each task is watched, by its position.
        ended: How those ended that need no watching. They come back with the event:
            ``dag.test()`` hands nothing else on to the operator.
        delete_on_kill: Whether the tasks are deleted when a person ends the Airflow
            task. What they started goes on in any case.
    """

    def __init__(
        self,
        *,
        veeam_conn_id: str,
        reference: str | None,
        checkpoints: Mapping[str, Checkpoint],
        ended: Mapping[str, Outcome] | None = None,
        delete_on_kill: bool = False,
    ) -> None:
        super().__init__()
        self.veeam_conn_id = veeam_conn_id
        self.reference = reference
        self.checkpoints = dict(checkpoints)
        self.ended = dict(ended or {})
        self.delete_on_kill = delete_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes this trigger from."""
        return (
            f"{VeeamTrigger.__module__}.{VeeamTrigger.__qualname__}",
            {
                "veeam_conn_id": self.veeam_conn_id,
                "reference": self.reference,
                "checkpoints": self.checkpoints,
                "ended": self.ended,
                "delete_on_kill": self.delete_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Give one event: the outcomes, or why they cannot be known."""
        # Nothing may be open over a yield: Airflow ends a trigger between two steps.
        yield TriggerEvent(await self._watch())

    async def _watch(self) -> dict[str, Any]:
        watching = Watching(list(self.checkpoints.values()), self._on_event)
        source = VeeamHook(self.veeam_conn_id).source
        try:
            outcomes = await watching.to_the_end(
                managers_here(), source, self.reference
            )
        except LogonRefusedError as error:
            return {"problem": f"the logon was refused: {error}"}
        except KNOWN_PROBLEMS as error:
            return {"problem": str(error)}
        return {
            "outcomes": {
                **self.ended,
                **dict(zip(self.checkpoints, outcomes, strict=True)),
            }
        }

    def _on_event(self, event: vt.TaskEvent) -> None:
        self.log.info("%r", event)

    async def on_kill(self) -> None:
        """Delete the tasks, if the author of the DAG wants that and a person ended it.

        Airflow 3.3 calls this also when another triggerer has taken the trigger over
        from one that was only slow, and when a person clears the Airflow task, which
        then watches on. So the state of that is what counts.
        """
        if not self.delete_on_kill:
            return
        state = await self._state_of_airflow_task()
        if state not in _ENDED:
            self.log.info("nothing is deleted: the Airflow task is %s", state)
            return
        source = VeeamHook(self.veeam_conn_id).source
        try:
            async with managers_here().use(source, self.reference) as held:
                tasks = list(self.checkpoints.values())
                why = await delete_tasks(held, self.reference, tasks)
        except KNOWN_PROBLEMS as error:
            why = [f"nothing was deleted: {error}"]
        for text in why:
            self.log.warning("%s", text)

    async def _state_of_airflow_task(self) -> str:
        one: Any = self.task_instance
        if one is None:
            return "unknown"
        try:
            runs = await asyncio.to_thread(
                RuntimeTaskInstance.get_task_states,
                dag_id=one.dag_id,
                map_index=one.map_index,
                task_ids=[one.task_id],
                run_ids=[one.run_id],
            )
        except (AirflowException, RuntimeError, OSError):
            return "unknown"
        states = [state for run in runs.values() for state in run.values()]
        return str(states[0]) if len(states) == 1 else "unknown"
