"""Opens a logon session that the tasks of a play share."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.base import EmAction
from ..plugin_utils.server import Server, SettingsError


class ActionModule(EmAction):
    """Log on, leave the logon session open, and hand it to later tasks."""

    OWN_LOGON = True

    async def work(self, server: Server, args: dict[str, Any]) -> dict[str, Any]:
        """Log on once; the result is hidden, for a token is worth a password."""
        if args["logon"] is not None:
            text = "logon: this action opens one; pass url, username and password"
            raise SettingsError(text)
        async with server.opening(keep_alive=False) as em:
            logon = server.fact(em)
            await em.aclose(log_out=False)
        self.tell(f"logged on at {logon['url']}")
        hidden = {"_ansible_no_log": True, "changed": False, "logon": logon}
        return hidden | self.share(logon)
