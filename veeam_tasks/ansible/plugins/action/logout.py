"""Ends the logon session that the action logon opened."""

from __future__ import annotations

from typing import Any

import veeam_tasks as vt

from ..plugin_utils.base import EmAction
from ..plugin_utils.server import Server


class ActionModule(EmAction):
    """End the shared logon session; one that has ended already is no failure."""

    async def work(
        self,
        server: Server,
        args: dict[str, Any],  # noqa: ARG002 - every action takes them
    ) -> dict[str, Any]:
        """Send one DELETE of the logon session, if there is one."""
        if not server.is_shared:
            return {"changed": False, "msg": "there is no shared logon session"}
        said = "the logon session has ended"
        try:
            await server.log_out()
        except vt.LogonError:
            said = "the logon session had ended already"
        return {"changed": False, "msg": said} | self.share({})
