"""Opens a logon session that the tasks of a play share."""

from __future__ import annotations

from typing import Any

from ansible import constants

from ..plugin_utils.base import EmAction
from ..plugin_utils.server import FACT, Server, SettingsError

try:
    from ansible.plugins.action import VariableLayer
except ImportError:
    VariableLayer = None


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
        return {"_ansible_no_log": True, "changed": False, "logon": logon} | self._kept(
            {FACT: logon}
        )

    def _kept(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Make the fact known to later tasks, and to no cache on a disk."""
        if VariableLayer is not None:
            self.register_host_variables({}, VariableLayer.CACHEABLE_FACT)
            self.register_host_variables(facts, VariableLayer.EPHEMERAL_FACT)
            return {}
        if constants.CACHE_PLUGIN in {"memory", "ansible.builtin.memory"}:
            return {"ansible_facts": facts}
        text = (
            f"{FACT} is not set, for this ansible-core would write it into the fact"
            " cache; register the result and pass logon: to later tasks"
        )
        return {"warnings": [text]}
