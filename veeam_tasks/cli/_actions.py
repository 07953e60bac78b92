"""The command `actions`: what the server answers with a task.

The table is that of the vendor's reference pages: method, path below ``/api/``, the
operation of the task, and the root element of the body, with a dash for none.
"""

from typing import Final

import attrs
import click

from veeam_tasks.cli._command import Command
from veeam_tasks.cli._exits import Exit
from veeam_tasks.cli._json_lines import write
from veeam_tasks.cli._messages import say
from veeam_tasks.cli._options import output_options
from veeam_tasks.cli._reporters import OutputMode

_TABLE: Final = """\
POST agents/agentRestorePoints/{ID}/mounts MountRestorePoint -
POST agents/agentRestorePoints/{ID}/mounts/{ID}/{filepath}?action=restore FileRestoreFromMountPoint FileRestoreSpec
POST agents/jobs/{ID}?action=retry RetryAgentJob -
POST agents/jobs/{ID}?action=start StartJob -
POST agents/jobs/{ID}?action=stop StopAgentJob -
POST agents/jobs/{ID}?action=toggleScheduleEnabled UpdateJob -
POST backupServers/{ID}?action=collect CollectingBackupServer -
POST backupServers/{ID}?action=quickbackup QuickBackup QuickBackupStartupSpec
POST backupServers/{ID}?action=veeamzip VeeamZip VeeamZipStartupSpec
POST backupSessions/{ID}?action=stop StopJobSession -
POST catalog/vms/{vmname}/vmRestorePoints/{ID}/guestfs/{filepath}?action=restore RestoreFile -
POST catalog/vms/{vmname}/vmRestorePoints/{ID}?action=browse - -
PUT cdpPolicies/{ID} EditCdpPolicy CdpPolicy
POST cdpPolicies/{ID}/includes UpdateCdpPolicy CreateObjectInJobSpec
DELETE cdpPolicies/{ID}/includes/{ID} UpdateCdpPolicy -
POST cdpPolicies/{ID}?action=disable UpdateCdpPolicy -
POST cdpPolicies/{ID}?action=enable UpdateCdpPolicy -
POST cdpReplica/vApps/{ID}?action=failover StartFailover CdpFailoverStartSpec
POST cdpReplicas/{ID}/vms/{ID}?action=failover StartFailover CdpFailoverStartSpec
PUT cloud/cloudFailoverPlans/{ID} UpdateFailoverPlan CloudFailoverPlan
DELETE cloud/cloudFailoverPlans/{ID} DeleteCloudFailoverPlan -
POST cloud/cloudFailoverPlans/{ID}?action=start StartCloudFailoverPlan CloudFailoverPlanManagementSpec
POST cloud/cloudFailoverPlans/{ID}?action=test StartCloudFailoverPlan -
POST cloud/cloudFailoverPlans/{ID}?action=undo UndoCloudFailoverPlan -
POST cloud/gatewayPools CreateCloudGatewayPool CreateCloudGatewayPoolSpec
PUT cloud/gatewayPools/{ID} UpdateCloudGatewayPool CloudGatewayPool
DELETE cloud/gatewayPools/{ID} DeleteCloudGatewayPool -
POST cloud/gateways CreateCloudGateway CreateCloudGatewaySpec
PUT cloud/gateways/{ID} EditCloudGateway CloudGateway
DELETE cloud/gateways/{ID} DeleteCloudGateway -
POST cloud/hardwarePlans CreateCloudHardwarePlan CloudHardwarePlanCreateSpec
PUT cloud/hardwarePlans/{ID} EditCloudHardwarePlan CloudHardwarePlan
DELETE cloud/hardwarePlans/{ID} DeleteCloudHardwarePlan -
POST cloud/publicIpAddresses CreateCloudPublicIpAddress CloudPublicIpAddressCreateSpec
PUT cloud/publicIpAddresses/{ID} EditCloudPublicIpAddress CloudPublicIpAddress
DELETE cloud/publicIpAddresses/{ID} DeleteCloudPublicIpAddress -
POST cloud/tenants CreateCloudTenant CreateCloudTenantSpec
PUT cloud/tenants/{ID} EditCloudTenant CloudTenant
DELETE cloud/tenants/{ID} DeleteCloudTenant -
POST cloud/tenants/{ID}/computeResources CreateCloudTenantResource CloudTenantComputeResourceCreateSpec
DELETE cloud/tenants/{ID}/computeResources/{ID} DeleteCloudTenantComputeResource -
POST cloud/tenants/{ID}/resources CreateCloudTenantResource CreateCloudTenantResourceSpec
DELETE cloud/tenants/{ID}/resources/{ID} DeleteCloudTenantResource -
POST cloud/tenants/{ID}/subtenants AddCloudSubtenant CloudSubtenantCreateSpec
PUT cloud/tenants/{ID}/subtenants/{ID} EditCloudSubtenant CloudSubtenant
DELETE cloud/tenants/{ID}/subtenants/{ID} DeleteCloudSubtenant -
POST cloud/tenants/{ID}/vCloudComputeResources CreateCloudTenantVCloudComputeResource CloudTenantVCloudComputeResourceCreateSpec
DELETE cloud/tenants/{ID}/vCloudComputeResources/{ID} DeletevCloudTenantComputeResource -
PUT cloud/vlans/{ID} UpdateVlanConfiguration VlanConfiguration
DELETE cloud/vlans/{ID} DeleteVlanConfiguration -
PUT failoverPlans/{ID} EditFailoverPlan FailoverPlan
POST failoverPlans/{ID}?action=start StartFailoverPlan FailoverPlanManagementSpec
POST failoverPlans/{ID}?action=undo UndoFailoverPlan -
DELETE jobs/{ID} DeleteJob -
POST jobs/{ID}/includes UpdateJob CreateObjectInJobSpec
DELETE jobs/{ID}/includes/{ID} UpdateJob -
POST jobs/{ID}/linkedBackupRepositories UpdateJob -
DELETE jobs/{ID}/linkedBackupRepositories/{ID} UpdateJob -
POST jobs/{ID}/linkedJobs UpdateJob -
DELETE jobs/{ID}/linkedJobs/{ID} UpdateJob -
POST jobs/{ID}?action=clone CloneJob JobCloneSpec
PUT jobs/{ID}?action=edit EditJob Job
POST jobs/{ID}?action=retry RetryJob -
POST jobs/{ID}?action=start StartJob -
POST jobs/{ID}?action=stop StopJob -
POST jobs/{ID}?action=sync StartJobSync -
POST jobs/{ID}?action=toggleScheduleEnabled UpdateJob -
POST nas/jobs/{ID}/retry RetryNasJob -
POST nas/jobs/{ID}/start StartNasJob -
POST nas/jobs/{ID}/stop StopNasJob -
POST nas/jobs/{ID}/toggleScheduleEnabled UpdateJob -
POST security/accounts?action=rebuildScope StartRebuildScope RebuildScopeJobSpec
POST selfService/vSphere/Configs CreateVSphereSelfServiceConfig VSphereSelfServiceCreateSpec
PUT selfService/vSphere/Configs/{ID} EditVSphereOrganizationConfig VSphereSelfServiceConfig
DELETE selfService/vSphere/Configs/{ID} DeleteVSphereConfigs -
POST vAppReplicaPoints/{ID}?action=failover StartReplicaFailover -
POST vAppRestorepoints/{ID}?action=restore StartvAppRestore RestoreSpec
POST vCloud/orgConfigs CreateVCloudOrganizationConfig VCloudOrganizationConfigCreateSpec
PUT vCloud/orgConfigs/{ID} EditVCloudOrganizationConfig VCloudOrganizationConfig
DELETE vCloud/orgConfigs/{ID} DeleteVCloudOrganizationConfig -
POST vCloud/orgConfigs/{ID}?action=disable EditOtherOrganizationConfig -
POST vmReplicaPoints/{ID}/mounts MountRestorePoint -
POST vmReplicaPoints/{ID}/mounts/{ID}/{filepath}?action=restore FileRestoreFromMountPoint FileRestoreSpec
POST vmReplicaPoints/{ID}?action=failover StartReplicaFailover -
POST vmRestorePoints/{ID}/mounts MountRestorePoint -
POST vmRestorePoints/{ID}/mounts/{ID}/{filepath}?action=restore FileRestoreFromMountPoint FileRestoreSpec
POST vmRestorePoints/{ID}?action=restore StartVMRestore RestoreSpec
"""  # noqa: E501 - a table, a line an action


@attrs.frozen(kw_only=True)
class Action:
    """One documented action that is answered with a task."""

    method: str
    path: str
    operation: str | None
    body: str | None

    @property
    def text(self) -> str:
        """Everything in it, on one line."""
        return " ".join(filter(None, attrs.astuple(self)))


def _parsed(line: str) -> Action:
    method, path, *rest = line.split()
    operation, body = (None if word == "-" else word for word in rest)
    return Action(method=method, path=path, operation=operation, body=body)


ACTIONS: Final = tuple(map(_parsed, _TABLE.splitlines()))


@click.command(
    cls=Command,
    short_help="List the actions that are answered with a task.",
    examples=(
        "veeam-tasks actions",
        "veeam-tasks actions jobs",
        "veeam-tasks submit 'jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start'",
    ),
)
@click.argument("word", required=False)
@output_options
def actions(*, word: str | None, output: OutputMode) -> int:
    """List the documented actions that the server answers with a task.

    A WORD picks those with it in their path, operation or body. Those with a body take
    its XML by --body; nothing is asked of a server.
    """
    found = [
        action
        for action in ACTIONS
        if word is None
        or word.lower() in " ".join(map(str, attrs.astuple(action))).lower()
    ]
    if not found and not output.quiet:
        say(f"no documented action has {word!r} in it; 'veeam-tasks actions' lists all")
    if output.wants_objects:
        for action in found:
            write(attrs.asdict(action))
    else:
        from veeam_tasks.cli._tables import print_actions  # noqa: PLC0415 - rich

        print_actions([attrs.astuple(action) for action in found])
    return Exit.OK
