"""The paths that the vendor's reference documents, and their methods.

What stands here and is not simulated answers 501 with a body that says so; 404 and 405
would tell a client that a real server has no such path, or no such method. Each line is
a path and the first letters of its methods: GET, POST, PUT (U), DELETE.
"""

import re
from functools import cache
from typing import Final

_TABLE: Final = """
agents G
agents/agentRestorePoints G
agents/agentRestorePoints/{ID} G
agents/agentRestorePoints/{ID}/mounts GP
agents/agentRestorePoints/{ID}/mounts/{ID} GD
agents/agentRestorePoints/{ID}/mounts/{ID}/{filepath} GP
agents/backupFiles G
agents/backupSessions G
agents/backups G
agents/discoveredComputers G
agents/discoveredComputers/{ID} G
agents/jobs G
agents/jobs/{ID} GP
agents/jobs/{ID}/includes G
agents/jobs/{ID}/includes/{ID} G
agents/protectionGroups G
agents/protectionGroups/{ID} G
agents/protectionGroups/{ID}/discoveredComputers G
agents/restorePoints G
backupFiles G
backupFiles/{ID} G
backupFiles/{ID}/restorePoints G
backupFiles/{ID}/vmRestorePoints G
backupServers GP
backupServers/{ID} GPUD
backupServers/{ID}/credentials GP
backupServers/{ID}/credentials/{ID} GUD
backupServers/{ID}/externalRepositories G
backupServers/{ID}/passwords GP
backupServers/{ID}/passwords/{ID} GUD
backupSessions G
backupSessions/{ID} GP
backupSessions/{ID}/agentManagementSessions G
backupSessions/{ID}/taskSessions G
backupTaskSessions G
backupTaskSessions/{ID} G
backups G
backups/{ID} G
backups/{ID}/childbackups G
backups/{ID}/restorePoints G
catalog/vms G
catalog/vms/{ID} G
catalog/vms/{ID}/vmRestorePoints G
catalog/vms/{ID}/vmRestorePoints/{ID} G
catalog/vms/{ID}/vmRestorePoints/{ID}/guestfs G
catalog/vms/{ID}/vmRestorePoints/{ID}/guestfs/{filepath} GP
cdpPolicies G
cdpPolicies/{ID} GPU
cdpPolicies/{ID}/cdpReplicaSessions G
cdpPolicies/{ID}/includes GP
cdpPolicies/{ID}/includes/{ID} GD
cdpReplica/vApps G
cdpReplica/vApps/{ID} GP
cdpReplica/vApps/{ID}/vms G
cdpReplica/vApps/{ID}/vms/{ID} G
cdpReplicaSessions G
cdpReplicaSessions/{ID} G
cdpReplicaSessions/{ID}/cdpReplicaTaskSessions G
cdpReplicaTaskSessions G
cdpReplicaTaskSessions/{ID} G
cdpReplicas G
cdpReplicas/{ID} G
cdpReplicas/{ID}/vms G
cdpReplicas/{ID}/vms/{ID} GP
cloud G
cloud/cloudFailoverPlans G
cloud/cloudFailoverPlans/{ID} GPUD
cloud/cloudFailoverPlans/{ID}/includes G
cloud/cloudFailoverPlans/{ID}/includes/{ID} G
cloud/failoverSessions G
cloud/failoverSessions/{ID} G
cloud/gatewayPools GP
cloud/gatewayPools/{ID} GUD
cloud/gateways GP
cloud/gateways/{ID} GUD
cloud/hardwarePlans GP
cloud/hardwarePlans/{ID} GUD
cloud/hardwarePlans/{ID}/tenants G
cloud/publicIpAddresses GP
cloud/publicIpAddresses/{ID} GUD
cloud/replicas G
cloud/replicas/{ID} G
cloud/replicas/{ID}/vmReplicaPoints G
cloud/tenants GP
cloud/tenants/{ID} GUD
cloud/tenants/{ID}/computeResources GP
cloud/tenants/{ID}/computeResources/{ID} GD
cloud/tenants/{ID}/freelicenseCounters G
cloud/tenants/{ID}/gatewayPools G
cloud/tenants/{ID}/resources GP
cloud/tenants/{ID}/resources/{ID} GD
cloud/tenants/{ID}/subtenants GP
cloud/tenants/{ID}/subtenants/{ID} GUD
cloud/tenants/{ID}/vCloudComputeResources GP
cloud/tenants/{ID}/vCloudComputeResources/{ID} GD
cloud/vlans G
cloud/vlans/{ID} GUD
cloud/vmReplicaPoints G
cloud/vmReplicaPoints/{ID} G
externalRepositories G
externalRepositories/{ID} G
externalRepositories/{ID}/backups G
failoverPlans G
failoverPlans/{ID} GPU
hierarchyRoots G
hierarchyRoots/{ID} G
jobs G
jobs/{ID} GPUD
jobs/{ID}/includes GP
jobs/{ID}/includes/{ID} GD
jobs/{ID}/linkedBackupRepositories GP
jobs/{ID}/linkedBackupRepositories/{ID} D
jobs/{ID}/linkedJobs GP
jobs/{ID}/linkedJobs/{ID} D
logonSessions G
logonSessions/{ID} GD
lookup G
lookupSvc G
managedServers G
managedServers/{ID} G
nas G
nas/backupSessions G
nas/fileServers G
nas/fileServers/{ID} G
nas/jobs G
nas/jobs/{ID} G
nas/jobs/{ID}/backupSessions G
nas/jobs/{ID}/includes G
nas/jobs/{ID}/includes/{ID} G
nas/jobs/{ID}/retry P
nas/jobs/{ID}/start P
nas/jobs/{ID}/stop P
nas/jobs/{ID}/toggleScheduleEnabled P
query G
querySvc G
replicaSessions G
replicaSessions/{ID} G
replicaSessions/{ID}/replicaTaskSessions G
replicaTaskSessions G
replicaTaskSessions/{ID} G
replicas G
replicas/{ID} G
reports/summary G
reports/summary/job_statistics G
reports/summary/overview G
reports/summary/processed_vms G
reports/summary/repository G
reports/summary/vms_overview G
repositories G
repositories/{ID} G
restorePoints G
restorePoints/{ID} G
restorePoints/{ID}/agentRestorePoints G
restorePoints/{ID}/backupFiles G
restorePoints/{ID}/vAppRestorePoints G
restorePoints/{ID}/vmRestorePoints G
restoreSessions G
restoreSessions/{ID} G
security G
security/accounts GP
security/accounts/{ID} GPD
security/accounts/{ID}/roles GP
security/accounts/{ID}/roles/{ID} GD
security/accounts/{ID}/scopes GP
security/accounts/{ID}/scopes/{ID} GD
security/roles G
security/roles/{ID} G
selfService/vSphere G
selfService/vSphere/Configs GP
selfService/vSphere/Configs/{ID} GUD
selfService/vSphere/Configs/{ID}/backupJobSettings G
sessionMngr P
systemSessions G
systemSessions/{ID} G
systemSessions/{ID}/events G
tasks G
tasks/{ID} GD
vAppReplicaPoints G
vAppReplicaPoints/{ID} P
vAppRestorePoints G
vAppRestorePoints/{ID} GP
vCloud G
vCloud/orgConfigs GP
vCloud/orgConfigs/39c5ea39-413e-4afa-8bea-78711d7f938d D
vCloud/orgConfigs/{ID} GPUD
vCloud/orgConfigs/{ID}/backupJobSettings G
vmReplicaPoints G
vmReplicaPoints/{ID} GP
vmReplicaPoints/{ID}/mounts GP
vmReplicaPoints/{ID}/mounts/{ID} GD
vmReplicaPoints/{ID}/mounts/{ID}/{filepath} GP
vmRestorePoints G
vmRestorePoints/{ID} GP
vmRestorePoints/{ID}/mounts GP
vmRestorePoints/{ID}/mounts/{ID} GD
vmRestorePoints/{ID}/mounts/{ID}/{filepath} GP
wanAccelerators G
wanAccelerators/{ID} G
"""
_METHODS: Final = {"G": "GET", "P": "POST", "U": "PUT", "D": "DELETE"}
_PLACES: Final = {"{ID}": "[^/]+", "{filepath}": ".+"}


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], frozenset[str]], ...]:
    found = []
    for line in _TABLE.strip().splitlines():
        path, _, letters = line.partition(" ")
        parts = re.split(r"(\{[A-Za-z]+\})", path)
        text = "".join(_PLACES.get(part) or re.escape(part) for part in parts)
        methods = frozenset(_METHODS[letter] for letter in letters)
        found.append((re.compile(text, re.IGNORECASE), methods))
    return tuple(found)


def documented_methods(path: str) -> frozenset[str]:
    """Return the methods that the reference has for a path; none if it has none."""
    for pattern, methods in _patterns():
        if pattern.fullmatch(path) is not None:
            return methods
    return frozenset()
