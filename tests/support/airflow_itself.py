"""Airflow itself in tests: a home of its own on SQLite, connections, DAGs that run."""

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veeam_tasks.simulator import ThreadedServer

# Airflow reads its settings when it is imported first.
HOME = Path(tempfile.mkdtemp(prefix="veeam-airflow-"))
os.environ["AIRFLOW_HOME"] = str(HOME)
os.environ["AIRFLOW__CORE__FERNET_KEY"] = base64.urlsafe_b64encode(
    os.urandom(32)
).decode()
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


def make_database() -> None:
    """Make the database of Airflow."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()


@contextmanager
def connected(
    server: ThreadedServer, name: str | None = None, **changed: Any
) -> Iterator[str]:
    """Let a connection of Airflow lead to that server; each has its own name."""
    host, _, port = server.url.rpartition(":")
    name = name or f"em_{port}"
    given = {
        "conn_type": "veeam_em",
        "host": host,
        "port": int(port),
        "login": "admin",
        "password": "admin-secret",
        "extra": {"pace_longest": 1},
        **changed,
    }
    key = f"AIRFLOW_CONN_{name.upper()}"
    os.environ[key] = json.dumps(given)
    try:
        yield name
    finally:
        del os.environ[key]


def new_dag(name: str) -> Any:
    """Return a DAG without a schedule."""
    from airflow.sdk import DAG

    return DAG(name, schedule=None)


def run(dag: Any) -> dict[str, str]:
    """Run it to its end; return the states of its tasks."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    ended = dag.test()
    return {
        f"{one.task_id}{'' if one.map_index < 0 else one.map_index}": str(one.state)
        for one in ended.get_task_instances()
    }


def xcom(dag_id: str, task_id: str) -> Any:
    """Return what the task returned."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(XComModel)
            .filter_by(dag_id=dag_id, task_id=task_id, key="return_value")
            .one()
        )
        return json.loads(row.value) if isinstance(row.value, str) else row.value
