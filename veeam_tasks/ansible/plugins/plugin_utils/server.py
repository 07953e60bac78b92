"""Which server, as whom, and whom to trust: from the task, variables, environment."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import veeam_tasks as vt

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

CONNECTION_SPEC: Final[dict[str, dict[str, Any]]] = {
    "url": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "logon": {"type": "dict", "no_log": True},
    "ca_file": {"type": "path"},
    "fingerprint": {"type": "str"},
    "insecure": {"type": "bool"},
    "proxy": {"type": "str", "no_log": True},
    "request_timeout": {"type": "float"},
    "api_version": {"type": "str"},
    "accept": {"type": "str", "choices": ["xml", "json"]},
}
"""The arguments that all four actions have; the fragment documents them."""

FACT: Final = "veeam_em_logon"
"""The variable that holds a shared logon session."""

_TRUST: Final = ("ca_file", "fingerprint", "insecure")
_PLAIN: Final = ("proxy", "request_timeout", "api_version", "accept")
_ACCOUNT: Final = ("url", "username", "password")
# As the shell has them: none of them switches verification off.
_VARIABLES: Final = (
    *("url", "username", "password", "token", "session_id"),
    *("ca_file", "fingerprint", "proxy"),
)


class SettingsError(Exception):
    """What the task, the variables or the environment say is not enough, or wrong."""


class Server:
    """Where to log on, as whom, and whom to trust.

    What stands at the task counts most, then the variables ``veeam_em_*``, then the
    environment; a logon session that is shared counts more than an account, unless one
    stands at the task.

    Args:
        args: What stands at the task, checked.
        variables: Those of the host, templated: without the prefix ``veeam_em_``.
        environment: Of the task and of the controller.
        own: Whether to log on in any case, and share nothing.

    Attributes:
        warnings: What the user is to be warned of.
    """

    def __init__(
        self,
        args: Mapping[str, Any],
        variables: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        own: bool = False,
    ) -> None:
        self.warnings: list[str] = []
        levels = [_set(args), _set(variables), _named(environment)]
        names = (*_ACCOUNT, *_PLAIN)
        found = {
            name: next((level[name] for level in levels if name in level), None)
            for name in names
        }
        found |= _trust(levels)
        self._logon = None if own else _shared(levels, found)
        self._found = found if self._logon is None else self._logon

    @property
    def is_shared(self) -> bool:
        """Whether a logon session is used that `logon` or the shell opened."""
        return self._logon is not None

    @property
    def options(self) -> dict[str, Any]:
        """What goes to the package as it is."""
        found = _set({name: self._found.get(name) for name in (*_TRUST, *_PLAIN)})
        if "request_timeout" in found:
            found["request_timeout"] = float(found["request_timeout"])
        if "insecure" in found:
            found["insecure"] = _is_true(found["insecure"])
        return found

    def opening(self, **more: Any) -> AbstractAsyncContextManager[vt.SessionManager]:
        """Return what gives a manager when it is entered; nothing is sent yet.

        Args:
            **more: Arguments of `veeam_tasks.connect`.

        Raises:
            SettingsError: Something is missing or wrong.
        """
        options = {**self.options, **more}
        if options.get("insecure"):
            self.warnings.append(
                "insecure: no certificate is verified, so anyone on the way can read"
                " the password"
            )
        with warnings.catch_warnings():
            # A worker's standard error is not for warnings: they go with the result.
            warnings.simplefilter("ignore", UserWarning)
            try:
                return self._opening(options)
            except (ValueError, TypeError) as error:
                raise SettingsError(str(error)) from None

    def _opening(
        self, options: dict[str, Any]
    ) -> AbstractAsyncContextManager[vt.SessionManager]:
        url = self._required("url", "as https://em.example:9398")
        if self._logon is not None:
            token, session_id = self._logon.get("token"), self._logon.get("session_id")
            return vt.adopt(url, str(token), session_id=session_id, **options)
        username = self._required("username", r"as CORP\svc")
        # Not `connect`: this one checks the arguments at once.
        return vt.SessionManager(
            url, username=username, password=self._required("password"), **options
        )

    async def log_out(self) -> None:
        """End the shared logon session.

        Raises:
            SettingsError: Something is missing or wrong.
            VeeamTasksError: The server could not be asked, or refused.
        """
        logon = self._logon or {}
        token, session_id = logon.get("token"), logon.get("session_id")
        try:
            await vt.log_out(
                self._required("url"),
                str(token),
                session_id=session_id,
                **self.options,
            )
        except (ValueError, TypeError) as error:
            raise SettingsError(str(error)) from None

    def fact(self, em: vt.SessionManager) -> dict[str, Any]:
        """Return what lets later tasks use the logon session of a manager."""
        return {
            "url": em.url.removesuffix("/").removesuffix("/api"),
            "token": em.token,
            "session_id": em.session_id,
            **self.options,
        }

    def _required(self, name: str, example: str = "") -> str:
        value = self._found.get(name)
        if value is None or value == "":
            text = (
                f"no {name}: set {name}, the variable veeam_em_{name} or"
                f" VEEAM_EM_{name.upper()} in the environment"
            )
            raise SettingsError(f"{text}, {example}" if example else text)
        return str(value)


def _set(level: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in level.items() if value is not None}


def _named(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the variables of the shell say, by the names of arguments."""
    found = {
        name: environment[f"VEEAM_EM_{name.upper()}"]
        for name in _VARIABLES
        if environment.get(f"VEEAM_EM_{name.upper()}")
    }
    if "password" in found:
        # What containers mount as a secret often ends with a newline.
        found["password"] = found["password"].removesuffix("\n").removesuffix("\r")
    return found


def _trust(levels: list[dict[str, Any]]) -> dict[str, Any]:
    """Return whom to trust, as one level says it: a nearer one replaces all of it."""
    for level in levels:
        if any(name in level for name in _TRUST):
            return {name: level.get(name) for name in _TRUST}
    return {}


def _shared(
    levels: list[dict[str, Any]], found: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the logon session to use, with the settings to use it by, if any."""
    args, variables, environment = levels
    if "logon" in args:
        logon = _checked(args["logon"])
    elif any(name in args for name in _ACCOUNT):
        return None
    elif variables.get("logon"):
        logon = _checked(variables["logon"])
    elif any(name in variables for name in ("username", "password")):
        return None
    elif "token" in environment:
        names = ("token", "session_id")
        return found | {name: environment.get(name) for name in names}
    else:
        return None
    # It brings what it was opened with, but the task has the last word.
    logon |= _trust([args, logon])
    logon.update({name: args[name] for name in _PLAIN if name in args})
    return logon


def _checked(logon: Any) -> dict[str, Any]:
    if not isinstance(logon, Mapping) or not logon.get("token"):
        text = f"logon is not what the action logon returns; pass {{{{ {FACT} }}}}"
        raise SettingsError(text)
    return dict(logon)


def _is_true(value: object) -> bool:
    return str(value).lower() in {"true", "yes", "on", "1"}


def environment_of(task_environment: Any) -> dict[str, str]:
    """Return the environment: that of the controller, and the task's before it."""
    merged = dict(os.environ)
    for part in task_environment or []:
        if isinstance(part, Mapping):
            merged |= {str(name): str(value) for name, value in part.items()}
    return merged
