"""The 87 actions that the server answers with a task, as its reference lists them.

Columns: method, path and query; operation; root of the request body or ``-``; what the
task leads to or ``-``; ``R`` if it is a restore, which a Restore Operator may start. A
link is ``Type=path`` with ``{new}`` for a fresh GUID and ``{path}`` for the path of the
request; ``session:Type`` also makes that session.
"""

import re
from functools import cache
from typing import Final

import attrs

_TABLE: Final = r"""
DELETE cdpPolicies/{ID}/includes/{ID} | UpdateCdpPolicy | - | -
DELETE cloud/gatewayPools/{ID} | DeleteCloudGatewayPool | - | CloudGatewayPoolList=cloud/gatewayPools?format=Entity
DELETE cloud/tenants/{ID}/vCloudComputeResources/{ID} | DeletevCloudTenantComputeResource | - | -
DELETE cloud/cloudFailoverPlans/{ID} | DeleteCloudFailoverPlan | - | -
DELETE cloud/gateways/{ID} | DeleteCloudGateway | - | -
DELETE cloud/hardwarePlans/{ID} | DeleteCloudHardwarePlan | - | -
DELETE jobs/{ID} | DeleteJob | - | -
DELETE jobs/{ID}/includes/{ID} | UpdateJob | - | -
DELETE jobs/{ID}/linkedJobs/{ID} | UpdateJob | - | -
DELETE jobs/{ID}/linkedBackupRepositories/{ID} | UpdateJob | - | -
DELETE cloud/publicIpAddresses/{ID} | DeleteCloudPublicIpAddress | - | -
DELETE selfService/vSphere/Configs/{ID} | DeleteVSphereConfigs | - | -
DELETE cloud/tenants/{ID} | DeleteCloudTenant | - | -
DELETE cloud/tenants/{ID}/computeResources/{ID} | DeleteCloudTenantComputeResource | - | -
DELETE cloud/tenants/{ID}/resources/{ID} | DeleteCloudTenantResource | - | -
DELETE cloud/tenants/{ID}/subtenants/{ID} | DeleteCloudSubtenant | - | -
DELETE vCloud/orgConfigs/{ID} | DeleteVCloudOrganizationConfig | - | -
DELETE cloud/vlans/{ID} | DeleteVlanConfiguration | - | -
POST agents/agentRestorePoints/{ID}/mounts | MountRestorePoint | - | AgentRestorePointMount={path}/1 | R
POST agents/agentRestorePoints/{ID}/mounts/{ID}/{filepath}?action=restore | FileRestoreFromMountPoint | FileRestoreSpec | Download={path}?action=download | R
POST agents/jobs/{ID}?action=retry | RetryAgentJob | - | session:BackupJobSession
POST agents/jobs/{ID}?action=start | StartJob | - | session:BackupJobSession
POST agents/jobs/{ID}?action=stop | StopAgentJob | - | -
POST agents/jobs/{ID}?action=toggleScheduleEnabled | UpdateJob | - | -
POST backupServers/{ID}?action=collect | CollectingBackupServer | - | -
POST backupServers/{ID}?action=quickbackup | QuickBackup | QuickBackupStartupSpec | session:BackupJobSession
POST backupServers/{ID}?action=veeamzip | VeeamZip | VeeamZipStartupSpec | session:BackupJobSession
POST backupSessions/{ID}?action=stop | StopJobSession | - | -
POST catalog/vms/{vmname}/vmRestorePoints/{ID}?action=browse | BrowseVM | - | Down:FileSystemItemsList={path}/guestfs | R
POST catalog/vms/{vmname}/vmRestorePoints/{ID}/guestfs/{filepath}?action=restore | RestoreFile | - | session:RestoreSession | R
POST cdpPolicies/{ID}?action=disable | UpdateCdpPolicy | - | -
POST cdpPolicies/{ID}?action=enable | UpdateCdpPolicy | - | -
POST cdpPolicies/{ID}/includes | UpdateCdpPolicy | CreateObjectInJobSpec | -
POST cdpReplica/vApps/{ID}?action=failover | StartFailover | CdpFailoverStartSpec | session:RestoreSession
POST cdpReplicas/{ID}/vms/{ID}?action=failover | StartFailover | CdpFailoverStartSpec | session:RestoreSession
POST cloud/tenants/{ID}/vCloudComputeResources | CreateCloudTenantVCloudComputeResource | CloudTenantVCloudComputeResourceCreateSpec | -
POST cloud/cloudFailoverPlans/{ID}?action=start | StartCloudFailoverPlan | CloudFailoverPlanManagementSpec | session:CloudFailoverSession
POST cloud/cloudFailoverPlans/{ID}?action=test | StartCloudFailoverPlan | - | session:CloudFailoverSession
POST cloud/cloudFailoverPlans/{ID}?action=undo | UndoCloudFailoverPlan | - | -
POST cloud/gatewayPools | CreateCloudGatewayPool | CreateCloudGatewayPoolSpec | CloudGatewayPools=cloud/gatewayPools/{new}?format=Entity
POST failoverPlans/{ID}?action=start | StartFailoverPlan | FailoverPlanManagementSpec | -
POST failoverPlans/{ID}?action=undo | UndoFailoverPlan | - | -
POST cloud/gateways | CreateCloudGateway | CreateCloudGatewaySpec | CloudGateway=cloud/gateways/{new}?format=Entity
POST cloud/hardwarePlans | CreateCloudHardwarePlan | CloudHardwarePlanCreateSpec | CloudHardwarePlan=cloud/hardwarePlans/{new}?format=Entity
POST jobs/{ID}?action=clone | CloneJob | JobCloneSpec | Job=jobs/{new}?format=Entity
POST jobs/{ID}?action=retry | RetryJob | - | session:BackupJobSession
POST jobs/{ID}?action=start | StartJob | - | session:BackupJobSession
POST jobs/{ID}?action=stop | StopJob | - | -
POST jobs/{ID}?action=sync | StartJobSync | - | session:BackupJobSession
POST jobs/{ID}?action=toggleScheduleEnabled | UpdateJob | - | -
POST jobs/{ID}/includes | UpdateJob | CreateObjectInJobSpec | -
POST jobs/{ID}/linkedJobs | UpdateJob | - | -
POST jobs/{ID}/linkedBackupRepositories | UpdateJob | - | -
POST nas/jobs/{ID}/retry | RetryNasJob | - | session:BackupJobSession
POST nas/jobs/{ID}/start | StartNasJob | - | session:BackupJobSession
POST nas/jobs/{ID}/stop | StopNasJob | - | -
POST nas/jobs/{ID}/toggleScheduleEnabled | UpdateJob | - | -
POST cloud/publicIpAddresses | CreateCloudPublicIpAddress | CloudPublicIpAddressCreateSpec | CloudPublicIpAddressList=cloud/publicIpAddresses?format=Entity
POST security/accounts?action=rebuildScope | StartRebuildScope | RebuildScopeJobSpec | -
POST selfService/vSphere/Configs | CreateVSphereSelfServiceConfig | VSphereSelfServiceCreateSpec | VSphereSelfServiceConfigReference=selfService/vSphere/Configs/{new}
POST cloud/tenants | CreateCloudTenant | CreateCloudTenantSpec | CloudTenant=cloud/tenants/{new}?format=Entity
POST cloud/tenants/{ID}/computeResources | CreateCloudTenantResource | CloudTenantComputeResourceCreateSpec | -
POST cloud/tenants/{ID}/resources | CreateCloudTenantResource | CreateCloudTenantResourceSpec | CloudTenantResource={path}/{new}
POST cloud/tenants/{ID}/subtenants | AddCloudSubtenant | CloudSubtenantCreateSpec | -
POST vAppReplicaPoints/{ID}?action=failover | StartReplicaFailover | - | session:RestoreSession
POST vAppRestorepoints/{ID}?action=restore | StartvAppRestore | RestoreSpec | session:RestoreSession | R
POST vCloud/orgConfigs | CreateVCloudOrganizationConfig | VCloudOrganizationConfigCreateSpec | VCloudOrganizationConfigReference=vCloud/orgConfigs/{new}
POST vCloud/orgConfigs/{ID}?action=disable | EditOtherOrganizationConfig | - | -
POST vmReplicaPoints/{ID}?action=failover | StartReplicaFailover | - | session:RestoreSession
POST vmReplicaPoints/{ID}/mounts | MountRestorePoint | - | VmRestorePointMount={path}/1 | R
POST vmReplicaPoints/{ID}/mounts/{ID}/{filepath}?action=restore | FileRestoreFromMountPoint | FileRestoreSpec | Download={path}?action=download | R
POST vmRestorePoints/{ID}?action=restore | StartVMRestore | RestoreSpec | session:RestoreSession | R
POST vmRestorePoints/{ID}/mounts | MountRestorePoint | - | VmRestorePointMount={path}/1 | R
POST vmRestorePoints/{ID}/mounts/{ID}/{filepath}?action=restore | FileRestoreFromMountPoint | FileRestoreSpec | Download={path}?action=download | R
PUT cdpPolicies/{ID} | EditCdpPolicy | CdpPolicy | -
PUT cloud/gatewayPools/{ID} | UpdateCloudGatewayPool | CloudGatewayPool | -
PUT cloud/cloudFailoverPlans/{ID} | UpdateFailoverPlan | CloudFailoverPlan | -
PUT cloud/gateways/{ID} | EditCloudGateway | CloudGateway | -
PUT failoverPlans/{ID} | EditFailoverPlan | FailoverPlan | -
PUT cloud/hardwarePlans/{ID} | EditCloudHardwarePlan | CloudHardwarePlan | -
PUT jobs/{ID}?action=edit | EditJob | Job | -
PUT cloud/publicIpAddresses/{ID} | EditCloudPublicIpAddress | CloudPublicIpAddress | -
PUT selfService/vSphere/Configs/{ID} | EditVSphereOrganizationConfig | VSphereSelfServiceConfig | VSphereOrganizationConfigReference={path}
PUT cloud/tenants/{ID} | EditCloudTenant | CloudTenant | -
PUT cloud/tenants/{ID}/subtenants/{ID} | EditCloudSubtenant | CloudSubtenant | -
PUT vCloud/orgConfigs/{ID} | EditVCloudOrganizationConfig | VCloudOrganizationConfig | VCloudOrganizationConfigReference={path}
PUT cloud/vlans/{ID} | UpdateVlanConfiguration | VlanConfiguration | -
"""  # noqa: E501 - one action a line can be compared with the vendor's list

# 202 is usual; these two answer otherwise, and are Finished at once.
_STATUSES: Final = {"BrowseVM": 200, "StartRebuildScope": 201}
_PLACES: Final = {"{ID}": "([^/]+)", "{vmname}": "([^/]+)", "{filepath}": "(.+)"}


@attrs.frozen(kw_only=True)
class Action:
    """One action that makes a task.

    Attributes:
        method: The HTTP method.
        path: The path below ``/api/``, with places for IDs.
        action: The value of ``action=``, or None if it takes none.
        operation: The operation of the task.
        request_root: The root of the request body, or None if no page shows one.
        related: What the task leads to, as the table says, or None.
        is_restore: Whether a Restore Operator may start it.
    """

    method: str
    path: str
    action: str | None
    operation: str
    request_root: str | None
    related: str | None
    is_restore: bool

    @property
    def status(self) -> int:
        """The HTTP status of the reply."""
        return _STATUSES.get(self.operation, 202)


@attrs.frozen
class Match:
    """What a request may mean.

    Attributes:
        action: The action, or None.
        methods: The methods that the path has; empty for a path of no action.
        ids: What stands in the places of the path.
    """

    action: Action | None
    methods: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


@cache
def actions() -> tuple[Action, ...]:
    """Return all actions in the order of the vendor's pages."""
    found = []
    for line in _TABLE.strip().splitlines():
        head, operation, root, related, *flags = (
            part.strip() for part in line.split("|")
        )
        method, _, target = head.partition(" ")
        path, _, query = target.partition("?action=")
        found.append(
            Action(
                method=method,
                path=path,
                action=query or None,
                operation=operation,
                request_root=None if root == "-" else root,
                related=None if related == "-" else related,
                is_restore="R" in flags,
            )
        )
    return tuple(found)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], Action], ...]:
    # Most exact first, so that {filepath} takes nothing from the others.
    ordered = sorted(actions(), key=lambda action: "{filepath}" in action.path)
    return tuple((_pattern(action.path), action) for action in ordered)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[A-Za-z]+\})", path)
    text = "".join(_PLACES.get(part) or re.escape(part) for part in parts)
    return re.compile(text, re.IGNORECASE)


def match(method: str, path: str, action: str | None) -> Match:
    """Find the action of a request; names count without regard to case."""
    wanted = None if action is None else action.lower()
    methods: list[str] = []
    for pattern, candidate in _patterns():
        found = pattern.fullmatch(path)
        if found is None:
            continue
        has = None if candidate.action is None else candidate.action.lower()
        if candidate.method == method and has == wanted:
            return Match(candidate, (method,), found.groups())
        if candidate.method not in methods:
            methods.append(candidate.method)
    return Match(None, tuple(methods))
