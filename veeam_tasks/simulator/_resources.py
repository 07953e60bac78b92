"""Resources around the tasks: the root, logon sessions, collections, query results."""

from collections.abc import Mapping, Sequence
from typing import Final

from veeam_tasks.simulator._accounts import LogonSession, Role
from veeam_tasks.simulator._query import Page
from veeam_tasks.simulator._tree import Node, TreeLink
from veeam_tasks.simulator._version import ServerVersion

# Type of the collection and its path, in the order of a recorded logon of 12.3.
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
    ("ExternalRepository", "externalRepositories"),
    ("CdpPolicy", "cdpPolicies"),
    ("CdpReplicaSession", "cdpReplicaSessions"),
    ("CdpReplicaTaskSession", "cdpReplicaTaskSessions"),
    ("VAppReplicaPoint", "vAppReplicaPoints"),
    ("VmCdpReplica", "cdpReplica/vms"),
    ("VAppCdpReplica", "cdpReplica/vApps"),
    # These stand below services of their own, and not in the list of a logon.
    ("SystemSession", "systemSessions"),
    ("AgentBackupJob", "agents/jobs"),
    ("NasJob", "nas/jobs"),
    ("CloudFailoverSession", "cloud/failoverSessions"),
    ("CloudFailoverPlan", "cloud/cloudFailoverPlans"),
    ("CloudTenant", "cloud/tenants"),
)
_LISTED: Final = COLLECTIONS[:27]
_PLURALS: Final = {
    "Repository": "Repositories",
    "ExternalRepository": "ExternalRepositories",
    "CdpPolicy": "CdpPolicies",
    "NasJob": "NASJobs",
}
# Until 10 the ID was called TaskUid here, and the newest query service still says so.
TASK_FIELDS: Final = ("TaskId", "TaskUid", "State", "Operation")
_SERVER: Final = ("BackupServerUid", "BackupServerName")
_SESSION: Final = (
    *("UID", "Name", "JobType", "JobUid", "JobName", "CreationTime", "EndTime"),
    *("State", "Result", "FailureMessage", "IsRetry", *_SERVER),
)
_TASK_SESSION: Final = (
    *("UID", "Name", "CreationTime", "EndTime", "State", "Result", "Reason"),
    *("TotalSize", "JobSessionUid", "JobUid", "JobName", *_SERVER, "VmDisplayName"),
)
_JOB: Final = (
    *("UID", "Name", "Description", "NextRun", "JobType", "Platform"),
    *("ScheduleConfigured", "ScheduleEnabled", *_SERVER),
)
_OTHER_TYPES: Final = (
    *("AgentProtectionGroup", "AgentRestorePoint", "Backup", "BackupFile", "CatalogVm"),
    *("CdpPolicy", "CdpReplica", "CdpReplicaSession", "CdpReplicaTaskSession"),
    *("CloudFailoverPlan", "CloudGateway", "CloudGatewayPool", "CloudHardwarePlan"),
    *("CloudPublicIpAddress", "CloudReplica", "CloudSubtenant", "CloudTenant"),
    *("CloudVmReplicaPoint", "Credentials", "DiscoveredComputer", "FailoverPlan"),
    *("FileServer", "HierarchyRoot", "ManagedServer", "NasObject", "ObjectInJob"),
    *("ObjectInAgentBackupJob", "Passwords", "Replica", "VAppReplicaPoint"),
    *("VAppRestorePoint", "VCloudOrganizationConfig", "VlanConfiguration"),
    *("VmReplicaPoint", "VmRestorePoint", "VSphereSelfServiceConfig"),
    "WanAccelerator",
)
QUERY_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Job": _JOB,
    "AgentBackupJob": _JOB,
    "NasJob": _JOB,
    "BackupJobSession": _SESSION,
    "ReplicaJobSession": _SESSION,
    "RestoreSession": (
        *("UID", "Name", "Type", "CreationTime", "EndTime", "State", "Result"),
        *(*_SERVER, "VmDisplayName"),
    ),
    "CloudFailoverSession": (
        *("UID", "Name", "Type", "CreationTime", "EndTime", "State", "Result"),
        *("FailureMessage", *_SERVER),
    ),
    "BackupTaskSession": _TASK_SESSION,
    "ReplicaTaskSession": _TASK_SESSION,
    "BackupServer": ("UID", "Name", "Description", "Port", "Version"),
    "Repository": ("UID", "Name", "Capacity", "FreeSpace", "Kind", *_SERVER),
    "RestorePoint": ("UID", "Name", "CreationTime", *_SERVER),
    # Nothing is held of the other documented types, so any of their parameters gives
    # an empty result.
    **dict.fromkeys(_OTHER_TYPES, ()),
}
"""The parameters of each type of query; none where any name will do."""
# A query result names every type, null but for the one asked for, as captures of 12 and
# 13 have it, spelled as they spell it.
_SECTIONS: Final = (
    *("Jobs", "FailoverPlans", "Backups", "Replicas", "Repositories", "RestorePoints"),
    *("VmRestorePoints", "VAppRestorePoints", "VmReplicaPoints", "BackupJobSessions"),
    *("ReplicaJobSessions", "ReplicaTaskSessions", "RestoreSessions", "HierarchyRoots"),
    *("BackupTaskSessions", "BackupServers", "ManagedServers", "EnterpiseRoles"),
    *("EnterpiseAccounts", "WanAccelerators", "CloudGateways", "CloudTenants"),
    *("CloudReplicas", "VCloudOrganizationConfigs", "BackupFiles"),
    *("VSphereSelfServiceConfigs", "CloudPublicIps", "CloudHardwarePlans"),
    *("CloudVmReplicaPoints", "AgentRestorePoints", "AgentBackupJob"),
    *("CloudGatewayPools", "CloudFailoverPlans", "ExternalRepositories"),
    *("VlanConfigurations", "CloudFailoverSessions", "AgentProtectionGroups"),
    *("DiscoveredComputers", "FileServers", "NASJobs", "CdpReplicas"),
    *("CdpReplicaVms", "CdpPolicies", "CdpReplicaSessions", "CdpReplicaTaskSessions"),
    *("VAppReplicaPoints", "VmCdpReplicas", "VAppCdpReplicas", "VAppCdpReplicaVms"),
    "SystemSessions",
)


def plural(kind: str) -> str:
    """Return the name of a collection of entities of that type."""
    return _PLURALS.get(kind, f"{kind}s")


def section_of(kind: str) -> str:
    """Return where entities of that type stand in a query result."""
    return "AgentBackupJob" if kind == "AgentBackupJob" else plural(kind)


def root(base: str, version: ServerVersion) -> Node:
    """Return the resource at the base URL, which anyone may read."""
    links = (
        TreeLink("Down", f"{base}logonSessions", "LogonSessionList"),
        TreeLink("Create", f"{base}sessionMngr/?v=latest", "LogonSession"),
    )
    versions = tuple(
        Node(
            "SupportedVersion",
            (("Name", name),),
            (),
            (_logon(base, name),),
            links_first=True,
        )
        for name in version.supported
    )
    supported = Node("SupportedVersions", items=("SupportedVersions", versions))
    return Node(
        "EnterpriseManager",
        # Null in the captures of the one resource that anyone may read.
        (("Href", None), ("Type", None)),
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
            for kind, path in _LISTED
        ]
        links += [
            # The type is the capture's own slip.
            TreeLink("Down", f"{base}systemSessions", "BackupJobSessionReferenceList"),
            TreeLink("Down", f"{base}tasks", "TaskList"),
            TreeLink("Down", f"{base}querySvc", "QueryService"),
            TreeLink("Down", f"{base}reports/summary", "Report", "Summary"),
        ]
        links += [
            TreeLink("Down", f"{base}{path}?format=Entity", f"{kind}List")
            for kind, path in _LISTED
        ]
        links.append(TreeLink("Down", f"{base}agents", "AgentsService"))
        links.append(TreeLink("Down", f"{base}nas", "NasService"))
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
    section: str, name: str, content: Node, page: Page, links: Mapping[str, str]
) -> Node:
    """Return one page of a query result.

    Args:
        section: Where the found stand: ``Refs``, ``Entities`` or ``Resources``.
        name: The name of their type in it; for ``Refs`` the section's own.
        content: The collection; for ``Refs`` the section itself.
        page: Which page of how many.
        links: The URLs of the paging links by Rel.
    """
    inner = content
    if section == "Entities":
        names = _SECTIONS if name in _SECTIONS else (*_SECTIONS, name)
        inner = Node(
            section,
            (),
            tuple((one, content if one == name else None) for one in names),
        )
    elif section == "Resources":
        inner = Node(section, (), ((name, content),))
    found = tuple(
        (one, inner if one == section else None)
        for one in ("Refs", "Entities", "Resources", "Links")
    )
    return Node("QueryResult", (), (*found, ("PagingInfo", _paging(page, links))))


def _paging(page: Page, links: Mapping[str, str]) -> Node:
    return Node(
        "PagingInfo",
        (
            ("PageNum", page.number),
            ("PageSize", page.size),
            ("PagesCount", page.count),
        ),
        (),
        tuple(TreeLink(rel, href) for rel, href in links.items()),
        links_first=True,
    )
