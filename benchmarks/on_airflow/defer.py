"""Defer the mapped tasks of a DAG at once, as their workers would one by one.

A worker takes about a second of processor time for each; a thousand of them would
measure Airflow's workers. Runs with the settings of the stack: ``defer.py DAG SECONDS``
where the DAG is `sleep`, `plain`, `naive` or `killed`.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from naive import NaiveTrigger, SleepTrigger
from sqlalchemy import select

import veeam_tasks as vt
from veeam_tasks.airflow._watching import checkpoint_of
from veeam_tasks.airflow.triggers import VeeamTrigger


async def checkpoint_of_first() -> dict[str, Any]:
    """Return a checkpoint of task-1 of the plain server, under the logon session there.

    Under another one a task of that ID would not be taken for the same.
    """
    url, fingerprint, token = os.environ["VEEAM_BENCH_PLAIN"].split()
    async with vt.adopt(url, token, fingerprint=fingerprint, keep_alive=False) as em:
        return await checkpoint_of(em, "task-1", follow=False, find_timeout=60.0)


def trigger_of(
    kind: str, number: int, started: list[dict[str, Any]], until: float
) -> Any:
    """Return the trigger of one task."""
    task = f"task-{number + 1}"
    if kind == "sleep":
        return SleepTrigger(until)
    if kind == "naive":
        return NaiveTrigger("em_naive", task)
    if kind == "plain":
        text = json.dumps(started[0]).replace('"task-1"', f'"{task}"')
        return VeeamTrigger(
            veeam_conn_id="em_plain",
            reference=None,
            checkpoints={"0": json.loads(text)},
        )
    checkpoint = dict(started[number])
    reference = checkpoint.pop("reference")
    return VeeamTrigger(
        veeam_conn_id="em", reference=reference, checkpoints={"0": checkpoint}
    )


def main(dag: str, seconds: str) -> None:
    """Give each task its trigger."""
    until = time.time() + int(seconds)
    with create_session() as session:
        started: list[dict[str, Any]] = []
        if dag == "killed":
            query = select(XComModel).where(
                XComModel.dag_id == "start_all", XComModel.key == "return_value"
            )
            value = session.scalars(query).one().value
            started = json.loads(value) if isinstance(value, str) else value
        if dag == "plain":
            started = [asyncio.run(checkpoint_of_first())]
        tasks = session.scalars(
            select(TaskInstance).where(TaskInstance.dag_id == dag)
        ).all()
        for task in tasks:
            trigger = Trigger.from_object(
                trigger_of(dag, task.map_index, started, until)
            )
            session.add(trigger)
            session.flush()
            task.trigger_id = trigger.id
            task.next_method = "execute_complete"
            task.next_kwargs = {}
            task.state = "deferred"
    print(len(tasks))


if __name__ == "__main__":
    main(*sys.argv[1:])
