"""DAGs whose tasks are made and then held, for the run beside this folder."""

import os

from airflow.sdk import DAG

from veeam_tasks.airflow.operators import VeeamActionOperator

MANY = int(os.environ["VEEAM_BENCH_MANY"])

# The pool has no slots: what is done with these is done by `defer.py`.
for name in ("sleep", "plain", "naive", "killed"):
    with DAG(name, schedule=None) as dag:
        VeeamActionOperator.partial(
            task_id="job", veeam_conn_id="em", pool="held"
        ).expand(path=[f"jobs/{number}?action=start" for number in range(MANY)])
    globals()[name] = dag
