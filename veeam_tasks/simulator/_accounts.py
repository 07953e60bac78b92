"""Accounts, roles, and the logon sessions that the server holds in state."""

import base64
import binascii
from enum import StrEnum
from typing import Final

import attrs

from veeam_tasks.simulator._tasks import SimulatedTask


class Role(StrEnum):
    """The roles of an account (page ``http_authentication``)."""

    PORTAL_ADMINISTRATOR = "Portal Administrator"
    PORTAL_USER = "Portal User"
    RESTORE_OPERATOR = "Restore Operator"
    """Restores machines and files; the application operators are alike."""
    TENANT = "Tenant"
    """A cloud tenant, who logs on with a body instead of Basic credentials."""
    NONE = "None"
    """An account without a role: the right password is refused all the same."""


# What the page security_roles_concept lets a role read, by the beginning of a path. A
# Restore Operator's list is complete; of a Portal User it says what is missing.
_KEPT_FROM_USERS: Final = ("jobs", "agents/jobs", "nas/jobs", "systemsessions")
_OF_OPERATORS: Final = ("restoresessions", "cloud/failoversessions", "querysvc")
_QUERIES_KEPT_FROM_USERS: Final = frozenset({"job", "agentbackupjob", "nasjob"})


def may_read(role: Role, path: str, query_type: str) -> bool:
    """Tell whether a role may read a path, or ask the query service for a type.

    That a backup session is forbidden to a Restore Operator, while the task that leads
    to it can be read, is normal.
    """
    lowered, asked = path.lower(), query_type.lower()
    match role:
        case Role.PORTAL_ADMINISTRATOR:
            return True
        case Role.PORTAL_USER:
            inner = lowered.partition("/")[2].partition("/")[2]
            if lowered == "query":
                return asked not in _QUERIES_KEPT_FROM_USERS
            return not lowered.startswith(_KEPT_FROM_USERS) and inner != "jobs"
        case Role.RESTORE_OPERATOR:
            if lowered == "query":
                return asked in {"restoresession", "task"}
            return lowered.startswith(_OF_OPERATORS)
    return lowered == "query" and asked == "task"


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
        number: Which one it is since the server was made, from 1; unlike its ID it may
            be shown.
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
    number: int = 0
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
