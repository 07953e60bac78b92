"""Sends actions to an Enterprise Manager and waits for their ends."""

from __future__ import annotations

from typing import Any, ClassVar

import veeam_tasks as vt

from ..plugin_utils.base import EmAction, in_words, seconds
from ..plugin_utils.night import (
    Step,
    difference,
    entries_of,
    plan,
    send,
    summary,
    watch_to_end,
)
from ..plugin_utils.server import Server

VERBS = ["start", "stop", "retry", "sync", "toggleScheduleEnabled"]


class ActionModule(EmAction):
    """Start many, watch all of them at once, give one report."""

    SPEC: ClassVar = {
        "jobs": {"type": "list", "elements": "str"},
        "action": {"type": "str", "choices": VERBS, "default": "start"},
        "actions": {
            "type": "list",
            "elements": "dict",
            "options": {
                "job": {"type": "str"},
                "action": {"type": "str", "choices": VERBS},
                "path": {"type": "str"},
                "method": {
                    "type": "str",
                    "choices": ["POST", "PUT", "DELETE"],
                    "default": "POST",
                },
                "body": {"type": "str"},
            },
        },
        "tasks": {"type": "list", "elements": "str"},
        "wait": {"type": "bool", "default": True},
        "follow": {"type": "bool", "default": True},
        "find_timeout": {"type": "str", "default": "20m"},
        "timeout": {"type": "str"},
        "patience": {"type": "str"},
        "warnings_fail": {"type": "bool", "default": False},
    }
    RULES: ClassVar = {"required_one_of": [["jobs", "actions", "tasks"]]}

    async def work(self, server: Server, args: dict[str, Any]) -> dict[str, Any]:
        """Find the jobs, send the actions, watch; in check mode find the jobs only."""
        how = {
            "follow": args["follow"],
            "find_timeout": seconds(args["find_timeout"], "find_timeout"),
            "timeout": seconds(args["timeout"], "timeout"),
        }
        opening = server.opening(patience=seconds(args["patience"], "patience"))
        entries = entries_of(args)
        async with opening as em:
            steps = await plan(em, entries)
            shown = {"diff": difference(steps)} if self._task.diff else {}
            if self._task.check_mode:
                for step in steps:
                    step.outcome = "planned"
                return summary(steps, warnings_fail=False) | shown
            await send(em, steps, self.tell)
            steps += [Step(name=one, task_id=one) for one in args["tasks"] or []]
            if not args["wait"]:
                self._warn_of_an_end(server)
                return summary(steps, warnings_fail=False) | shown
            cut = await watch_to_end(em, steps, self.tell, **how)
        return self._told(cut, steps, server, args) | shown

    def _told(
        self,
        cut: vt.VeeamTasksError | None,
        steps: list[Step],
        server: Server,
        args: dict[str, Any],
    ) -> dict[str, Any]:
        result = summary(steps, warnings_fail=args["warnings_fail"])
        if cut is not None and not isinstance(cut, vt.WatchTimeoutError):
            result["failed"] = True
            result["msg"] = f"{in_words(cut, server)}; {result['msg']}"
        return result

    def _warn_of_an_end(self, server: Server) -> None:
        if not server.is_shared:
            server.warnings.append(
                "wait: false: the logon session of these tasks has ended with this"
                " task, and another one does not know them; share one by the action"
                " logon"
            )
