"""A sensor for tasks that were started elsewhere."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

import veeam_tasks as vt
from veeam_tasks.airflow._shared_logon import Logon, LogonRefusedError
from veeam_tasks.airflow._submitting import with_logon
from veeam_tasks.airflow._watching import (
    check_flags,
    checkpoint_of,
    is_checkpoint,
    reason_of,
    report_of,
)
from veeam_tasks.airflow.hooks import DEFAULT_CONN_ID, VeeamHook
from veeam_tasks.airflow.links import VeeamConsoleLink
from veeam_tasks.airflow.triggers import VeeamTrigger

Started = str | Mapping[str, Any]
_NOT_STARTED = (
    "tasks: neither a task ID nor what an operator with wait=False has returned"
)


class VeeamTaskSensor(BaseSensorOperator):
    """Wait for tasks that were started elsewhere; hold no worker meanwhile.

    A task belongs to the logon session that started it, so they must have been started
    over the same connection.

    Args:
        tasks: Task IDs, or what operators with ``wait=False`` gave; one or many.
        veeam_conn_id: The connection.
        follow: Whether IDs are followed to the ends of what they started. By link
            alone: who started them knew more, so better pass their XCom.
        find_timeout: How long a job session is searched for, in seconds.
        **kwargs: Of every sensor; ``timeout`` and ``soft_fail`` hold.
    """

    template_fields: Sequence[str] = ("tasks", "veeam_conn_id")
    operator_extra_links = (VeeamConsoleLink(),)
    ui_color = "#d3f2df"

    def __init__(
        self,
        *,
        tasks: Started | Sequence[Started],
        veeam_conn_id: str = DEFAULT_CONN_ID,
        follow: bool = True,
        find_timeout: float = 1200.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_flags(follow=follow)
        self.tasks = tasks
        self.veeam_conn_id = veeam_conn_id
        self.follow = follow
        self.find_timeout = find_timeout

    def execute(self, context: Any) -> Any:
        """Let a triggerer watch."""
        del context
        hook = VeeamHook(self.veeam_conn_id)
        one = isinstance(self.tasks, (str, Mapping))
        tasks = [self.tasks] if one else list(self.tasks)
        if not tasks:
            return report_of([])
        try:
            reference, checkpoints = asyncio.run(self._checkpoints(hook, tasks))
        except LogonRefusedError as error:
            text = f"the logon was refused: {error}"
            raise AirflowException(text) from None
        except (vt.VeeamTasksError, ValueError, TimeoutError) as error:
            raise AirflowException(str(error)) from None
        trigger = VeeamTrigger(
            veeam_conn_id=self.veeam_conn_id,
            reference=reference,
            checkpoints={str(n): one for n, one in enumerate(checkpoints)},
        )
        raise TaskDeferred(
            trigger=trigger,
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    async def _checkpoints(
        self, hook: VeeamHook, tasks: Sequence[Any]
    ) -> tuple[str | None, list[Mapping[str, Any]]]:
        async def make(
            em: vt.SessionManager, logon: Logon
        ) -> tuple[str | None, list[Mapping[str, Any]]]:
            reference = logon.reference
            found: list[Mapping[str, Any]] = []
            for task in tasks:
                if isinstance(task, str):
                    given = await checkpoint_of(
                        em, task, follow=self.follow, find_timeout=self.find_timeout
                    )
                elif is_checkpoint(task):
                    given = dict(task)
                    reference = given.pop("reference", None) or reference
                else:
                    raise ValueError(_NOT_STARTED)
                found.append(given)
            return reference, found

        return await with_logon(hook.source, make)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Judge what the triggerer saw."""
        if "problem" in event:
            raise AirflowException(event["problem"])
        outcomes = list(event["outcomes"].values())
        bad = [
            one for one in outcomes if one["outcome"] not in ("succeeded", "warning")
        ]
        report = report_of(outcomes)
        if not bad:
            return report
        context["ti"].xcom_push("return_value", report)
        raise AirflowFailException("; ".join(map(reason_of, bad[:10])))
