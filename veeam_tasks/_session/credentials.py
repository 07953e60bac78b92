"""Who logs on: the user name, the password, and how both are sent."""

import asyncio
import base64
import inspect
from collections.abc import Awaitable, Callable

import attrs

from veeam_tasks._errors import ArgumentError, TransportError
from veeam_tasks._redaction import Secret, Secrets, has_controls, hidden, quoted

Password = str | Callable[[], str | Awaitable[str]]


@attrs.frozen(kw_only=True)
class Credentials:
    """Who logs on; a password callable is asked anew at each logon.

    Raises:
        TypeError: The user name is no string, or the password neither that nor a
            callable.
        ValueError: The user name is empty, or one of them cannot be sent.
    """

    username: str
    password: Secret = attrs.field(repr=False, converter=hidden)

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
        password = self.password
        if callable(password.reveal()):
            return
        problem = _problem_of(password.reveal())
        if problem is not None and isinstance(password.reveal(), str):
            raise ArgumentError(parameter="password", problem=f"is {problem}")
        if problem is not None:
            text = f"password is {problem}"
            raise TypeError(text)

    async def authorization(self, secrets: Secrets) -> Secret:
        """Return the value of the Authorization header: Basic, in UTF-8.

        Raises:
            TransportError: The password callable raised, or gave no password.
        """
        password, problem = self.password, ""
        if callable(password.reveal()):
            password, problem = await self._ask()
        if problem:
            raise TransportError(
                request="asking for the password",
                reason=f"the password callable {problem}",
                connected=False,
            )
        pair = Secret(f"{self.username}:{password.reveal()}".encode())
        basic = Secret(base64.b64encode(pair.reveal()).decode("ascii"))
        secrets.add(password, basic)
        return Secret(f"Basic {basic.reveal()}")

    async def _ask(self) -> tuple[Secret, str]:
        """Return what the callable gave, and what it did instead, if anything.

        What it gives to be awaited runs in an asyncio task of its own: its own
        CancelledError is then told from ours, and one that swallows its cancellation
        does not hold the close of the manager up.
        """
        answer, problem = _called(self.password)
        if problem or not inspect.isawaitable(answer.reveal()):
            return answer, problem or _returned(answer)
        asking = asyncio.ensure_future(_awaited(answer))
        _asking.add(asking)
        asking.add_done_callback(_asking.discard)
        try:
            await asyncio.wait([asking])
        except asyncio.CancelledError:
            asking.cancel()
            raise
        return asking.result()


# The loop itself holds its tasks weakly.
_asking: "set[asyncio.Future[tuple[Secret, str]]]" = set()


def _called(password: Secret) -> tuple[Secret, str]:
    try:
        return Secret(password.reveal()()), ""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the caller's code may raise anything
        # Its words stay out: they may hold the password.
        return Secret(None), f"raised {type(error).__name__}"


async def _awaited(answer: Secret) -> tuple[Secret, str]:
    try:
        given = Secret(await answer.reveal())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the caller's code may raise anything
        return Secret(None), f"raised {type(error).__name__}"
    return given, _returned(given)


def _returned(password: Secret) -> str:
    problem = _problem_of(password.reveal())
    return "" if problem is None else f"returned {problem}"


def _problem_of(password: object) -> str | None:
    """Return why this can be no password, without repeating it, or None."""
    if not isinstance(password, str):
        return f"no string but of the type {type(password).__name__}"
    # The error of the encoder would hold the password.
    if any("\ud800" <= character <= "\udfff" for character in password):
        return "no text: it has a lone surrogate in it"
    return None
