"""Sends actions to an Enterprise Manager and waits for their ends."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import veeam_tasks as vt

from ..plugin_utils.base import EmAction, in_words, seconds
from ..plugin_utils.night import (
    Part,
    Step,
    as_resume,
    difference,
    entries_of,
    parts_of,
    plan,
    send,
    summary,
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
                "body": {"type": "raw"},
            },
        },
        "resume": {"type": "dict"},
        "wait": {"type": "bool", "default": True},
        "follow": {"type": "bool", "default": True},
        "find_timeout": {"type": "str", "default": "20m"},
        "timeout": {"type": "str"},
        "patience": {"type": "str"},
        "warnings_fail": {"type": "bool", "default": False},
    }
    RULES: ClassVar = {"required_one_of": [["jobs", "actions", "resume"]]}

    async def work(self, server: Server, args: dict[str, Any]) -> dict[str, Any]:
        """Find the jobs, send the actions, watch; in check mode find the jobs only."""
        how = {
            "follow": args["follow"],
            "find_timeout": seconds(args["find_timeout"], "find_timeout"),
            "timeout": seconds(args["timeout"], "timeout"),
        }
        opening = server.opening(patience=seconds(args["patience"], "patience"))
        entries, parts = entries_of(args), parts_of(args["resume"])
        async with opening as em:
            steps = await plan(em, entries)
            shown = {"diff": difference(steps)} if self._task.diff else {}
            if self._task.check_mode:
                for step in steps:
                    step.outcome = "planned"
                return summary(steps, warnings_fail=False) | shown
            for part in parts:
                part.begin(em, **how)
            await send(em, steps, self.tell, follow=args["follow"])
            sent = [step for step in steps if step.task_id]
            if sent:
                parts.append(Part(steps=sent))
                parts[-1].begin(em, **how)
            reads = [part.read(self.tell, wait=args["wait"]) for part in parts]
            await asyncio.gather(*reads)
        steps += [step for part in parts for step in part.steps if not step.path]
        return self._told(parts, steps, server, args) | shown

    def _told(
        self,
        parts: list[Part],
        steps: list[Step],
        server: Server,
        args: dict[str, Any],
    ) -> dict[str, Any]:
        if not args["wait"]:
            for step in steps:
                step.outcome = "started" if step.is_open else step.outcome
            self._warn_of_an_end(server)
        result = summary(steps, warnings_fail=args["warnings_fail"])
        result["resume"] = as_resume(parts)
        cuts = [
            in_words(part.cut, server)
            for part in parts
            if part.cut is not None and not isinstance(part.cut, vt.WatchTimeoutError)
        ]
        if cuts:
            result |= {"failed": True, "msg": f"{cuts[0]}; {result['msg']}"}
        return result

    def _warn_of_an_end(self, server: Server) -> None:
        if not server.is_shared:
            server.warnings.append(
                "wait: false: the logon session of these tasks has ended with this"
                " task, and another one does not know them; share one by the action"
                " logon"
            )
