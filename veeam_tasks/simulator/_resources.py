"""Resources around the tasks: the root, logon sessions, collections, query results."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from veeam_tasks.simulator._accounts import LogonSession, Role
from veeam_tasks.simulator._query import Page
from veeam_tasks.simulator._tree import Node, TreeLink
from veeam_tasks.simulator._version import ServerVersion

# Type of the collection and its path, in the order of the vendor's sample.
COLLECTIONS: Final = (
    ("BackupServer", "backupServers"),
    ("ManagedServer", "managedServers"),
    ("Job", "jobs"),
    ("FailoverPlan", "failoverPlans"),
    ("HierarchyRoot", "hierarchyRoots"),
    ("Repository", "repositories"),
    ("Backup", "backups"),
    ("RestorePoint", "restorePoints"),
    ("VmRestorePoint", "vmRestorePoints"),
    ("VAppRestorePoint", "vAppRestorePoints"),
    ("Replica", "replicas"),
    ("VmReplicaPoint", "vmReplicaPoints"),
    ("CatalogVm", "catalog/vms"),
    ("BackupJobSession", "backupSessions"),
    ("RestoreSession", "restoreSessions"),
    ("ReplicaJobSession", "replicaSessions"),
    ("BackupTaskSession", "backupTaskSessions"),
    ("ReplicaTaskSession", "replicaTaskSessions"),
    ("WanAccelerator", "wanAccelerators"),
    ("BackupFile", "backupFiles"),
)
_PLURALS: Final = {"Repository": "Repositories"}


def plural(kind: str) -> str:
    """Return the name of a collection of entities of that type."""
    return _PLURALS.get(kind, f"{kind}s")


def root(base: str, version: ServerVersion) -> Node:
    """Return the resource at the base URL, which anyone may read."""
    links = (
        TreeLink("Create", f"{base}sessionMngr/?v=latest", "LogonSession"),
        TreeLink("Down", f"{base}logonSessions", "LogonSessionList"),
    )
    versions = tuple(
        Node("SupportedVersion", (("Name", version),), (), (_logon(base, version),))
        for version in version.supported
    )
    supported = Node("SupportedVersions", items=("SupportedVersions", versions))
    return Node(
        "EnterpriseManager",
        (("Href", base), ("Type", "EnterpriseManager")),
        (("SupportedVersions", supported),),
        links,
    )


def _logon(base: str, version: str) -> TreeLink:
    return TreeLink("Create", f"{base}sessionMngr/?v={version}", "LogonSession")


def logon_session(session: LogonSession, base: str) -> Node:
    """Return a logon session with the links that its account may follow."""
    here = f"{base}logonSessions/{session.session_id}"
    links = [TreeLink("Up", base, "EnterpriseManager")]
    if session.role is Role.TENANT:
        links.append(TreeLink("Down", f"{base}cloud", "CloudConnectService"))
    else:
        links += [
            TreeLink("Down", f"{base}{path}", f"{kind}ReferenceList")
            for kind, path in COLLECTIONS
        ]
        links += [
            TreeLink("Down", f"{base}tasks", "TaskList"),
            TreeLink("Down", f"{base}querySvc", "QueryService"),
        ]
        links += [
            TreeLink("Down", f"{base}{path}?format=Entity", f"{kind}List")
            for kind, path in COLLECTIONS
        ]
    links.append(TreeLink("Delete", here))
    return Node(
        "LogonSession",
        (("Href", here), ("Type", "LogonSession")),
        (("UserName", session.username), ("SessionId", session.session_id)),
        tuple(links),
    )


def logon_sessions(sessions: Sequence[LogonSession], base: str) -> Node:
    """Return the collection of logon sessions."""
    found = tuple(logon_session(session, base) for session in sessions)
    return Node("LogonSessions", items=("LogonSessions", found))


def references(found: Sequence[Node]) -> Node:
    """Return a collection of references."""
    return Node("EntityReferences", items=("Refs", tuple(found)))


def entities(kind: str, found: Sequence[Node]) -> Node:
    """Return a collection of entities."""
    return Node(plural(kind), items=(plural(kind), tuple(found)))


def query_service(base: str) -> Node:
    """Return the resource that tells of the query service."""
    links = (
        TreeLink("Down", f"{base}query?type=Task&format=Entities&sortAsc=TaskUid"),
        TreeLink("Down", f"{base}query?type=Job&format=Entities&sortAsc=Name"),
    )
    return Node(
        "QueryService",
        (("Href", f"{base}querySvc"), ("Type", "QueryService")),
        (),
        links,
    )


def query_result(
    section: str, content: Node, page: Page, base: str, query: dict[str, str]
) -> Node:
    """Return one page of a query result.

    Args:
        section: Where the found stand: ``Refs``, ``Entities`` or ``Resources``.
        content: The collection in it; for ``Refs`` the section itself.
        page: Which page of how many.
        base: The server's own idea of its URL.
        query: The query as it was asked, names in the spelling for links.
    """
    inner: Node = (
        content if section == "Refs" else Node(section, (), ((content.name, content),))
    )
    members = tuple(
        (name, inner if name == section else None)
        for name in ("Refs", "Entities", "Resources", "Links")
    )
    return Node(
        "QueryResult", (), (*members, ("PagingInfo", _paging(page, base, query)))
    )


def _paging(page: Page, base: str, query: dict[str, str]) -> Node:
    def link(rel: str, number: int) -> TreeLink:
        asked = query | {"pageSize": str(page.size), "page": str(number)}
        return TreeLink(rel, f"{base}query?{urlencode(asked)}")

    links = [link("First", 1)]
    if page.number > 1:
        links.append(link("Prev", page.number - 1))
    if page.number < page.count:
        links.append(link("Next", page.number + 1))
    links.append(link("Last", max(page.count, 1)))
    return Node(
        "PagingInfo",
        (
            ("PageNum", page.number),
            ("PageSize", page.size),
            ("PagesCount", page.count),
        ),
        (),
        tuple(links),
    )
