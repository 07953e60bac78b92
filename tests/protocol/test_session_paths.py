"""Where a job session and its machines are asked for."""

import pytest
from yarl import URL

from veeam_tasks import JobSession, Link, SessionState
from veeam_tasks._protocol.session_paths import machines_paths

BASE = URL("https://em.example:9398/api/")
GUID = "7e9f6a52-70a5-4f4c-8d0b-6a8d1b1f7f10"
HREF = f"https://em.example:9398/api/replicaSessions/{GUID}"
OWN = f"replicaSessions/{GUID}/replicaTaskSessions?format=Entity"


def session(*links: Link) -> JobSession:
    """Return the job session of a replication, with links."""
    return JobSession(
        session_id=GUID,
        kind="ReplicaJobSession",
        state=SessionState.STOPPED,
        raw_state="Stopped",
        href=HREF,
        links=links,
    )


def link(rel: str, href: str) -> Link:
    """Return a link to machines, as the vendor's samples type it."""
    return Link(rel=rel, href=href, type="ReplicaTaskSessionReferenceList")


@pytest.mark.parametrize(
    ("links", "paths"),
    [
        ((), [OWN]),
        (
            (link("Down", f"{HREF}/repicaTaskSessions"),),
            [f"replicaSessions/{GUID}/repicaTaskSessions?format=Entity", OWN],
        ),
        ((link("Down", f"{HREF}/replicaTaskSessions"),), [OWN]),
        ((link("Up", f"{HREF}/repicaTaskSessions"),), [OWN]),
        ((Link(rel="Down", href=f"{HREF}/items", type="ItemReference"),), [OWN]),
    ],
)
def test_the_link_down_to_the_machines_comes_first(
    links: tuple[Link, ...], paths: list[str]
) -> None:
    """As it is spelt; then the URL of the reference; no other link leads there."""
    assert list(machines_paths(session(*links), BASE)) == paths
