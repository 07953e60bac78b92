"""DAGs for the run beside this folder."""

import os

from airflow.sdk import DAG

from veeam_tasks.airflow.operators import VeeamActionOperator, VeeamActionsOperator

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

with DAG("start_all", schedule=None):
    VeeamActionsOperator(
        task_id="start", veeam_conn_id="em", paths=[JOBS[-1]] * MANY, wait=False
    )

# The pool has no slots: what is done with these is done by `defer.py`.
for name in ("plain", "naive", "killed"):
    with DAG(name, schedule=None) as dag:
        VeeamActionOperator.partial(
            task_id="job", veeam_conn_id="em", pool="held"
        ).expand(path=[f"jobs/{number}?action=start" for number in range(MANY)])
    globals()[name] = dag
