"""What the four actions share: arguments, the loop, errors in words, results."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

import veeam_tasks as vt

from .server import CONNECTION_SPEC, FACT, Server, SettingsError, environment_of
from .text import visible

try:
    from ansible.plugins.action import VariableLayer
except ImportError:
    VariableLayer = None

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_PREFIX: Final = "veeam_em_"
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0}
_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?[hms])+", re.ASCII)
_MAYBE: Final = (
    "It may have been carried out: look at the jobs or in the server's console what"
    " runs now, before it is sent again"
)

display = Display()


class EmAction(ActionBase):
    """An action that talks to an Enterprise Manager from the controller.

    Attributes:
        SPEC: The arguments beside those of the connection.
        RULES: Which of them go together, as Ansible writes it.
        OWN_LOGON: Whether it logs on even where a logon session is shared.
    """

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False
    SPEC: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    RULES: ClassVar[Mapping[str, Any]] = {}
    OWN_LOGON: ClassVar[bool] = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Do the task, and return its result as Ansible wants it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self.validate_argument_spec(
            argument_spec={**CONNECTION_SPEC, **self.SPEC}, **self.RULES
        )[1]
        try:
            server = Server(
                args,
                self._variables(task_vars or {}),
                environment_of(self._templar.template(self._task.environment)),
                own=self.OWN_LOGON,
            )
            result |= run_stoppable(self.work(server, args))
        except SettingsError as error:
            raise AnsibleActionFail(str(error)) from None
        except vt.VeeamTasksError as error:
            result |= {"failed": True, "msg": in_words(error, server)}
        if server.warnings:
            result["warnings"] = [*result.get("warnings", ()), *server.warnings]
        return result

    def work(self, server: Server, args: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Do what is special to this action, and return what goes into the result."""
        raise NotImplementedError

    def tell(self, text: str, level: int = 1) -> None:
        """Show a line at once, from ``-v`` (or ``-vv``, at level 2) on."""
        (display.v if level == 1 else display.vv)(visible(text))

    def share(self, logon: Mapping[str, Any]) -> dict[str, Any]:
        """Make a logon session known to later tasks, and to no cache on a disk.

        Args:
            logon: What they need of it; empty to have the last one forgotten.

        Returns:
            What the result needs for that.
        """
        facts = {FACT: dict(logon)}
        if VariableLayer is not None:
            self.register_host_variables({}, VariableLayer.CACHEABLE_FACT)
            self.register_host_variables(facts, VariableLayer.EPHEMERAL_FACT)
            return {}
        if constants.CACHE_PLUGIN in {"memory", "ansible.builtin.memory"} or not logon:
            return {"ansible_facts": facts}
        text = (
            f"{FACT} is not set, for this ansible-core would write it into the fact"
            " cache; register the result and pass logon: to later tasks"
        )
        return {"warnings": [text]}

    def _variables(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the variables of this host that are ours, templated."""
        found = {
            name.removeprefix(_PREFIX): self._templar.template(value)
            for name, value in task_vars.items()
            if name.startswith(_PREFIX)
        }
        facts = task_vars.get("ansible_facts") or {}
        if FACT in facts and "logon" not in found:
            found["logon"] = facts[FACT]
        return found


def run_stoppable(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; a signal that ends Ansible's worker ends it in good order first.

    Ansible's own handler kills the worker at once, so that the logon session would stay
    open. It gets its signal when the log-out is over.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    received: list[signal.Signals] = []

    async def stoppable() -> Any:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)

        def stop(number: signal.Signals) -> None:
            if not received:
                task.cancel()
            received.append(number)

        # Only the main thread may: a strategy that uses threads goes without.
        with suppress(ValueError, RuntimeError):
            for number in _SIGNALS:
                loop.add_signal_handler(number, stop, number)
        return await task

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        text = "it was stopped; what was started goes on at the server"
        raise AnsibleActionFail(text) from None
    finally:
        with suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
        if received:
            os.kill(os.getpid(), received[0])


def in_words(error: vt.VeeamTasksError, server: Server | None = None) -> str:
    """Return what an error means to whoever runs a playbook."""
    text = str(error)
    if isinstance(error, vt.SubmitUncertainError):
        return visible(f"{error.request}: {error.reason}. {_MAYBE}")
    if getattr(error, "may_be_carried_out", False):
        return f"{text.partition('. It may have been')[0]}. {_MAYBE}"
    if isinstance(error, vt.LogonError):
        if server is not None and server.is_shared:
            return (
                f"{text}. The shared logon session has ended: run the action logon"
                " again, or give url, username and password to this task"
            )
        return (
            f"{text}. Check username and password; it was tried once and is not tried"
            " again, so that the account is not locked"
        )
    return text


def seconds(value: object, name: str) -> float | None:
    """Return seconds of a number or a text like ``1h30m``; None of None.

    Raises:
        SettingsError: It is neither, or not more than nothing.
    """
    if value is None:
        return None
    text = str(value).strip().lower()
    total = 0.0
    if _SPAN.fullmatch(text):
        for number, unit in re.findall(r"([\d.]+)([hms])", text):
            total += float(number) * _UNITS[unit]
    else:
        try:
            total = float(text)
        except ValueError:
            total = 0.0
    if not 0 < total < float("inf"):
        problem = f"{name}: {text!r} is no time like 90, 45s, 20m or 1h30m"
        raise SettingsError(problem)
    return total
