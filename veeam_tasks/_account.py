"""Who logs on: the user name, the password, and how both are sent."""

import base64
import inspect
from collections.abc import Awaitable, Callable

import attrs

from veeam_tasks._errors import ArgumentError, TransportError
from veeam_tasks._shown import has_controls, quoted
from veeam_tasks._text import Secrets

Password = str | Callable[[], str | Awaitable[str]]


@attrs.frozen(kw_only=True)
class Account:
    """Who logs on; a password callable is asked anew at each logon.

    Raises:
        TypeError: The user name is no string, or the password neither that nor a
            callable.
        ValueError: The user name is empty, or one of them cannot be sent.
    """

    username: str
    password: Password = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.username, str):
            text = f"username must be a string, not {type(self.username).__name__}"
            raise TypeError(text)
        if not self.username or ":" in self.username or has_controls(self.username):
            raise ArgumentError(
                parameter="username",
                problem="is empty, or has a colon or a control character in it, which"
                " Basic authentication cannot send",
                shown=quoted(self.username),
                subject=f"username={quoted(self.username)}",
            )
        if callable(self.password):
            return
        problem = _problem_of(self.password)
        if problem is not None and isinstance(self.password, str):
            raise ArgumentError(parameter="password", problem=f"is {problem}")
        if problem is not None:
            text = f"password is {problem}"
            raise TypeError(text)

    async def authorization(self, secrets: Secrets) -> str:
        """Return the value of the Authorization header: Basic, in UTF-8.

        Raises:
            TransportError: The password callable raised, or gave no password.
        """
        password = await self._ask() if callable(self.password) else self.password
        basic = base64.b64encode(f"{self.username}:{password}".encode()).decode("ascii")
        secrets.add(password, basic)
        return f"Basic {basic}"

    async def _ask(self) -> str:
        assert callable(self.password)
        try:
            answer = self.password()
            password: object = await answer if inspect.isawaitable(answer) else answer
            problem = _problem_of(password)
            reason = f"the password callable returned {problem}"
        except Exception as error:  # noqa: BLE001 - the caller's code may raise anything
            # Its words stay out: they may hold the password.
            password, problem = None, "nothing"
            reason = f"the password callable raised {type(error).__name__}"
        if problem is None:
            assert isinstance(password, str)
            return password
        raise TransportError(
            request="asking for the password",
            reason=reason,
            connected=False,
            kind="password",
        )


def _problem_of(password: object) -> str | None:
    """Return why this can be no password, without repeating it, or None."""
    if not isinstance(password, str):
        return f"no string but of the type {type(password).__name__}"
    # The error of the encoder would hold the password.
    if any("\ud800" <= character <= "\udfff" for character in password):
        return "no text: it has a lone surrogate in it"
    return None
