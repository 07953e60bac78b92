"""Who logs on: the user name, the password, and how both are sent."""

import base64
import inspect
from collections.abc import Awaitable, Callable

import attrs

from veeam_tasks._errors import TransportError
from veeam_tasks._text import Secrets

Password = str | Callable[[], str | Awaitable[str]]


@attrs.frozen(kw_only=True)
class Account:
    """Who logs on; a password callable is asked anew at each logon."""

    username: str
    password: Password = attrs.field(repr=False)

    async def authorization(self, secrets: Secrets) -> str:
        """Return the value of the Authorization header: Basic, in UTF-8.

        Raises:
            TransportError: The password callable raised.
            TypeError: The password is not a string.
        """
        password = await self._ask()
        if not isinstance(password, str):
            text = f"a password must be a string, not {type(password).__name__}"
            raise TypeError(text)
        basic = base64.b64encode(f"{self.username}:{password}".encode()).decode("ascii")
        secrets.add(password, basic)
        return f"Basic {basic}"

    async def _ask(self) -> object:
        if not callable(self.password):
            return self.password
        try:
            answer = self.password()
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:  # noqa: BLE001 - the caller's code may raise anything
            failure = TransportError(
                request="asking for the password",
                reason=f"the password callable raised {type(error).__name__}",
                connected=False,
            )
        raise failure
