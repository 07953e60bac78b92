"""The loggers, by what they tell of; their names and fields are public.

Each record has fields beside its sentence (``extra``), so that whoever writes JSON gets
values; the README of `metrics` lists them. Names of modules would move with the code.
"""

import logging

from veeam_tasks._errors import VeeamTasksError

LOGON = logging.getLogger("veeam_tasks.logon")
"""Logon sessions: logged on, renewed, kept alive, logged out."""

SERVER = logging.getLogger("veeam_tasks.server")
"""The health of the server, and how it is asked."""

TASKS = logging.getLogger("veeam_tasks.tasks")
"""Each change and each end of a task or a run; polls that failed."""

MANAGER = logging.getLogger("veeam_tasks.manager")
"""Errors of our own, or of the caller's functions."""


def error_fields(error: VeeamTasksError | None) -> dict[str, str]:
    """Return the fields about an error; none without one."""
    if error is None:
        return {}
    return {"error_type": type(error).__name__, "error": str(error)}
