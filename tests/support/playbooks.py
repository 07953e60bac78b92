"""What a playbook that a test ran has done, and what it may not show."""

import base64
from collections.abc import Callable
from typing import Any

import attrs

from veeam_tasks.simulator import ThreadedServer


@attrs.frozen(kw_only=True)
class Played:
    """What a playbook did.

    Attributes:
        status: The exit status.
        output: All that was printed.
        results: The result of each task, as printed at -v.
    """

    status: int
    output: str
    results: list[dict[str, Any]]


Play = Callable[..., Played]
"""Plays tasks; see the fixture."""


def posts(server: ThreadedServer) -> list[str]:
    """Return where actions were sent, in order."""
    return [
        f"{one.path}?{one.query}".removeprefix("/api/")
        for one in server.requests
        if one.method == "POST" and "sessionMngr" not in one.path
    ]


def secrets_of(server: ThreadedServer) -> set[str]:
    """Return what no output may show: password, tokens, session IDs."""
    tokens = {one.header("X-RestSvcSessionId") for one in server.requests} - {None}
    logged_out = {one.path.rpartition("/")[2] for one in server.requests}
    ids = {base64.b64decode(str(token)).decode(errors="replace") for token in tokens}
    return {server.password, *map(str, tokens), *(ids & logged_out)}
