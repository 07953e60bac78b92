"""The link from a task of Airflow to the console of the Enterprise Manager."""

from typing import Any

from airflow.sdk import BaseOperatorLink

from veeam_tasks.airflow.hooks import VeeamHook


class VeeamConsoleLink(BaseOperatorLink):
    """Leads to the console of the server that the operator talks to."""

    name = "Enterprise Manager"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return its address; Airflow asks in the worker, when the task has ended."""
        del ti_key
        return VeeamHook(operator.veeam_conn_id).get_conn().console_url
