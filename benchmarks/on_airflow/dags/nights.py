"""DAGs for the run beside this folder."""

import os
from datetime import timedelta

from airflow.sdk import DAG

from veeam_tasks.airflow.operators import VeeamActionOperator

JOBS = os.environ.get("VEEAM_BENCH_JOBS", "")

with DAG("fifty", schedule=None):
    VeeamActionOperator.partial(
        task_id="job",
        veeam_conn_id="em",
        retries=2,
        retry_delay=timedelta(seconds=2),
    ).expand(path=[path for path in JOBS.split(",") if path])
