"""DAGs for the run beside this folder."""

import os
from typing import Any

from airflow.sdk import DAG, task

import veeam_tasks as vt
from veeam_tasks.airflow._watching import checkpoint_of
from veeam_tasks.airflow.hooks import VeeamHook
from veeam_tasks.airflow.operators import VeeamActionOperator

JOBS = [path for path in os.environ["VEEAM_BENCH_JOBS"].split(",") if path]
WRONG = int(os.environ["VEEAM_BENCH_WRONG"])
MANY = int(os.environ["VEEAM_BENCH_MANY"])

with DAG("fifty", schedule=None):
    VeeamActionOperator.partial(task_id="job", veeam_conn_id="em").expand(
        path=JOBS[:-1]
    )

with DAG("wrong", schedule=None):
    VeeamActionOperator.partial(task_id="job", veeam_conn_id="em_wrong").expand(
        path=[JOBS[0]] * WRONG
    )


async def send_all(em: vt.SessionManager) -> list[dict[str, Any]]:
    """Start the long job many times; return what sensors and triggers need."""
    return [
        {
            "reference": em.reference,
            **await checkpoint_of(
                em, await em.submit(JOBS[-1]), follow=True, find_timeout=1200.0
            ),
        }
        for _ in range(MANY)
    ]


with DAG("start_all", schedule=None):

    @task
    def start() -> list[dict[str, Any]]:
        """Send all from one worker: an operator would ask Airflow thrice for each."""
        return VeeamHook("em").call(send_all)

    start()
