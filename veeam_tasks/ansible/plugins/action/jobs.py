"""Lists the jobs of an Enterprise Manager."""

from __future__ import annotations

from typing import Any, ClassVar

from veeam_tasks.jobs import pick_job, read_jobs

from ..plugin_utils.base import EmAction
from ..plugin_utils.server import Server


class ActionModule(EmAction):
    """Read the jobs, or those of the names that are asked for."""

    SPEC: ClassVar = {
        "names": {"type": "list", "elements": "str"},
        "results": {"type": "bool", "default": True},
    }

    async def work(self, server: Server, args: dict[str, Any]) -> dict[str, Any]:
        """Read them all, since the server finds none by the beginning of its name."""
        async with server.opening() as em:
            found = await read_jobs(em, results=args["results"])
        if args["names"] is not None:
            found = [pick_job(found, name) for name in args["names"]]
        return {"changed": False, "jobs": [job.as_object() for job in found]}
