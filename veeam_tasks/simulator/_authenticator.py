"""Who comes in: logon with credentials, later requests with a token."""

from enum import StrEnum
from typing import Final

from veeam_tasks.simulator._accounts import Account, LogonSession, Role, read_basic
from veeam_tasks.simulator._messages import TOKEN, Body, Incoming, Refusal, read_body
from veeam_tasks.simulator._records import LogonRecord, Records
from veeam_tasks.simulator._state import ServerState
from veeam_tasks.simulator._tree import NAMESPACE, MediaKind

_UNAUTHORIZED: Final = 401
_BAD: Final = 400
# Page http_authentication; public fingerprints of the service know it as well.
_CHALLENGE: Final = (("WWW-Authenticate", "Basic Realm=RestSvc"),)


class Authenticator:
    """Opens logon sessions and recognizes their tokens."""

    def __init__(
        self,
        *,
        state: ServerState,
        accounts: dict[str, Account],
        logons: Records[LogonRecord],
    ) -> None:
        self._state = state
        self._accounts = accounts
        self._logons = logons

    def admit(self, incoming: Incoming) -> LogonSession:
        """Return the logon session of a request; its idle time starts anew.

        Raises:
            Refusal: 401; there is no token, or one that the server does not know.
        """
        token = token_of(incoming)
        if token is None:
            problem = "The authorization header is expected but was not found"
            raise Refusal(_UNAUTHORIZED, problem, _CHALLENGE)
        session = self._state.use_session(token)
        if session is None:
            problem = "Authentication token has expired"
            raise Refusal(_UNAUTHORIZED, problem, _CHALLENGE)
        return session

    def log_on(self, incoming: Incoming, kind: MediaKind) -> LogonSession:
        """Open a logon session for the credentials of a request.

        Raises:
            Refusal: 400, 401 or 415; the record of logons says why.
        """
        version = self._state.context.version
        asked = incoming.query.get("v", "")
        username: str | None = None
        try:
            body = read_body(incoming, kind, version)
            username, role = self._check(incoming, body)
            if not version.accepts(asked):
                # 12a refuses v1_4 as a failed logon, not as a bad version.
                raise _Refused(_Why.VERSION, username)
        except Refusal as refusal:
            reason = str(refusal)
            if isinstance(refusal, _Refused):
                username, reason = refusal.username, refusal.reason
            self._record(incoming, username, reason, asked)
            raise
        self._record(incoming, username, "", asked)
        return self._state.open_session(username, role)

    def _check(self, incoming: Incoming, body: Body | None) -> tuple[str, Role]:
        header = incoming.headers.get("Authorization")
        # Where there is one, it decides: clients in production send a body such as
        # ``{"id":null}`` beside it, which names no tenant.
        if body is not None and header is None:
            return self._check_tenant(body)
        if header is None:
            raise _Refused(_Why.NO_CREDENTIALS, None)
        credentials = read_basic(header)
        if credentials is None:
            raise _Refused(_Why.UNREADABLE, None)
        username, password = credentials
        account = self._account(username)
        if account is None or account.role is Role.TENANT:
            raise _Refused(_Why.UNKNOWN_ACCOUNT, username)
        if account.password != password:
            raise _Refused(_Why.WRONG_PASSWORD, username)
        if account.role is Role.NONE:
            raise _Refused(_Why.NO_ROLE, username)
        return username, account.role

    def _check_tenant(self, body: Body) -> tuple[str, Role]:
        """Read a ``LoginSpec`` (page ``cloud_connect_tenant_credentials``)."""
        if body.root not in {None, f"{NAMESPACE} LoginSpec"}:
            raise Refusal(_BAD, "There is an error in XML document: no LoginSpec.")
        username = body.texts.get("username") or body.texts.get("login")
        account = None if username is None else self._account(username)
        if username is None or account is None or account.role is not Role.TENANT:
            raise _Refused(_Why.UNKNOWN_TENANT, username)
        if account.password != body.texts.get("password"):
            raise _Refused(_Why.WRONG_PASSWORD, username)
        return username, account.role

    def _account(self, username: str) -> Account | None:
        wanted = username.casefold()
        return next(
            (
                account
                for name, account in self._accounts.items()
                if name.casefold() == wanted
            ),
            None,
        )

    def _record(
        self, incoming: Incoming, username: str | None, reason: str, asked: str
    ) -> None:
        self._logons.append(
            LogonRecord(
                time=self._state.context.clock.now(),
                username=username,
                accepted=not reason,
                reason=reason,
                interface_version=asked,
                connection=incoming.connection,
            )
        )


class _Why(StrEnum):
    NO_CREDENTIALS = "no credentials"
    UNREADABLE = "credentials that cannot be read"
    UNKNOWN_ACCOUNT = "unknown account"
    UNKNOWN_TENANT = "unknown tenant"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 - the words of a record
    NO_ROLE = "account without a role"
    VERSION = "interface version not supported"


class _Refused(Refusal):
    """A logon is refused: clients hear no reason, the record of logons does."""

    def __init__(self, reason: _Why, username: str | None) -> None:
        super().__init__(
            _UNAUTHORIZED, "The user name or password is incorrect", _CHALLENGE
        )
        self.reason = reason.value
        self.username = username


def token_of(incoming: Incoming) -> str | None:
    """Return the token that counts: the cookie's, else the header's.

    A cookie value in quotes stays in quotes, and so is a token that nobody was given.
    """
    for part in incoming.headers.get("Cookie", "").split(";"):
        name, equals, value = part.strip().partition("=")
        if equals and name.lower() == TOKEN.lower():
            return value
    return incoming.headers.get(TOKEN)
