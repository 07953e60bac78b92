"""Accounts, roles, and the logon sessions that the server holds in state."""

import base64
import binascii
from enum import StrEnum

import attrs

from veeam_tasks.simulator._tasks import SimulatedTask


class Role(StrEnum):
    """The roles of an account (page ``http_authentication``)."""

    PORTAL_ADMINISTRATOR = "Portal Administrator"
    PORTAL_USER = "Portal User"
    RESTORE_OPERATOR = "Restore Operator"
    TENANT = "Tenant"
    """A cloud tenant, who logs on with a body instead of Basic credentials."""
    NONE = "None"
    """An account without a role: the right password is refused all the same."""


@attrs.frozen
class Account:
    """A password and a role."""

    password: str = attrs.field(repr=False)
    role: Role = attrs.field(
        default=Role.PORTAL_ADMINISTRATOR, converter=Role, kw_only=True
    )


@attrs.define(kw_only=True)
class LogonSession:
    """One logon session, as the server holds it.

    Attributes:
        session_id: Its GUID, which stands in its URL.
        token: What clients send: the GUID's text in base64.
        username: Who logged on.
        role: What that account may do.
        opened: Seconds since the server was started.
        last_used: When the last request with its token came.
        tasks: The tasks that it knows, by ID.
    """

    session_id: str = attrs.field(repr=False)
    token: str = attrs.field(repr=False)
    username: str
    role: Role
    opened: float
    last_used: float
    tasks: dict[str, SimulatedTask] = attrs.field(
        factory=dict, repr=lambda tasks: str(len(tasks))
    )
    last_number: int = attrs.field(default=0, repr=False)

    @classmethod
    def open(
        cls, session_id: str, username: str, role: Role, now: float
    ) -> "LogonSession":
        """Return a new one; newer servers give the GUID in base64 as token."""
        return cls(
            session_id=session_id,
            token=base64.b64encode(session_id.encode()).decode("ascii"),
            username=username,
            role=role,
            opened=now,
            last_used=now,
        )


def read_basic(header: str) -> tuple[str, str] | None:
    """Return user name and password of a Basic header; None if it cannot be read.

    Nothing public says which encoding the server expects: UTF-8, else Latin-1.
    """
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        raw = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    username, colon, password = text.partition(":")
    return (username, password) if colon else None
