"""`submit` and `delete` are carried out at most once."""

import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable

import pytest
from support.managers import WIRES, Wire, door, raw_door, targets
from support.raw_server import RESET, RawServer, reply

from veeam_tasks import (
    ForbiddenError,
    Link,
    LogonError,
    MalformedReplyError,
    ServerBusyError,
    SessionManager,
    StatusError,
    SubmitUncertainError,
    Task,
    TaskNotFoundError,
    TransportError,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time

ACTIONS = """
DELETE cdpPolicies/{ID}/includes/{ID}
DELETE cloud/gatewayPools/{ID}
DELETE cloud/tenants/{ID}/vCloudComputeResources/{ID}
DELETE cloud/cloudFailoverPlans/{ID}
DELETE cloud/gateways/{ID}
DELETE cloud/hardwarePlans/{ID}
DELETE jobs/{ID}
DELETE jobs/{ID}/includes/{ID}
DELETE jobs/{ID}/linkedJobs/{ID}
DELETE jobs/{ID}/linkedBackupRepositories/{ID}
DELETE cloud/publicIpAddresses/{ID}
DELETE selfService/vSphere/Configs/{ID}
DELETE cloud/tenants/{ID}
DELETE cloud/tenants/{ID}/computeResources/{ID}
DELETE cloud/tenants/{ID}/resources/{ID}
DELETE cloud/tenants/{ID}/subtenants/{ID}
DELETE vCloud/orgConfigs/{ID}
DELETE cloud/vlans/{ID}
POST agents/agentRestorePoints/{ID}/mounts
POST agents/agentRestorePoints/{ID}/mounts/{ID}/{filepath}?action=restore FileRestoreSpec
POST agents/jobs/{ID}?action=retry
POST agents/jobs/{ID}?action=start
POST agents/jobs/{ID}?action=stop
POST agents/jobs/{ID}?action=toggleScheduleEnabled
POST backupServers/{ID}?action=collect
POST backupServers/{ID}?action=quickbackup QuickBackupStartupSpec
POST backupServers/{ID}?action=veeamzip VeeamZipStartupSpec
POST backupSessions/{ID}?action=stop
POST catalog/vms/srv04/vmRestorePoints/7caf66d5-f700-442c-9aa9-8867f031377f?action=browse
POST catalog/vms/{vmname}/vmRestorePoints/{ID}/guestfs/{filepath}?action=restore
POST cdpPolicies/{ID}?action=disable
POST cdpPolicies/{ID}?action=enable
POST cdpPolicies/{ID}/includes CreateObjectInJobSpec
POST cdpReplica/vApps/{ID}?action=failover CdpFailoverStartSpec
POST cdpReplicas/{ID}/vms/{ID}?action=failover CdpFailoverStartSpec
POST cloud/tenants/{ID}/vCloudComputeResources CloudTenantVCloudComputeResourceCreateSpec
POST cloud/cloudFailoverPlans/{ID}?action=start CloudFailoverPlanManagementSpec
POST cloud/cloudFailoverPlans/{ID}?action=test
POST cloud/cloudFailoverPlans/{ID}?action=undo
POST cloud/gatewayPools CreateCloudGatewayPoolSpec
POST failoverPlans/{ID}?action=start FailoverPlanManagementSpec
POST failoverPlans/{ID}?action=undo
POST cloud/gateways CreateCloudGatewaySpec
POST cloud/hardwarePlans CloudHardwarePlanCreateSpec
POST jobs/{ID}?action=clone JobCloneSpec
POST jobs/{ID}?action=retry
POST jobs/{ID}?action=start
POST jobs/{ID}?action=stop
POST jobs/{ID}?action=sync
POST jobs/{ID}?action=toggleScheduleEnabled
POST jobs/{ID}/includes CreateObjectInJobSpec
POST jobs/{ID}/linkedJobs
POST jobs/{ID}/linkedBackupRepositories
POST nas/jobs/{ID}/retry
POST nas/jobs/{ID}/start
POST nas/jobs/{ID}/stop
POST nas/jobs/{ID}/toggleScheduleEnabled
POST cloud/publicIpAddresses CloudPublicIpAddressCreateSpec
POST security/accounts?action=rebuildScope RebuildScopeJobSpec
POST selfService/vSphere/Configs VSphereSelfServiceCreateSpec
POST cloud/tenants CreateCloudTenantSpec
POST cloud/tenants/{ID}/computeResources CloudTenantComputeResourceCreateSpec
POST cloud/tenants/{ID}/resources CreateCloudTenantResourceSpec
POST cloud/tenants/{ID}/subtenants CloudSubtenantCreateSpec
POST vAppReplicaPoints/{ID}?action=failover
POST vAppRestorepoints/{ID}?action=restore RestoreSpec
POST vCloud/orgConfigs VCloudOrganizationConfigCreateSpec
POST vCloud/orgConfigs/{ID}?action=disable
POST vmReplicaPoints/{ID}?action=failover
POST vmReplicaPoints/{ID}/mounts
POST vmReplicaPoints/{ID}/mounts/{ID}/{filepath}?action=restore FileRestoreSpec
POST vmRestorePoints/{ID}?action=restore RestoreSpec
POST vmRestorePoints/{ID}/mounts
POST vmRestorePoints/{ID}/mounts/{ID}/{filepath}?action=restore FileRestoreSpec
PUT cdpPolicies/{ID} CdpPolicy
PUT cloud/gatewayPools/{ID} CloudGatewayPool
PUT cloud/cloudFailoverPlans/{ID} CloudFailoverPlan
PUT cloud/gateways/{ID} CloudGateway
PUT failoverPlans/{ID} FailoverPlan
PUT cloud/hardwarePlans/{ID} CloudHardwarePlan
PUT jobs/{ID}?action=edit Job
PUT cloud/publicIpAddresses/{ID} CloudPublicIpAddress
PUT selfService/vSphere/Configs/{ID} VSphereSelfServiceConfig
PUT cloud/tenants/{ID} CloudTenant
PUT cloud/tenants/{ID}/subtenants/{ID} CloudSubtenant
PUT vCloud/orgConfigs/{ID} VCloudOrganizationConfig
PUT cloud/vlans/{ID} VlanConfiguration
"""  # noqa: E501 - one action a line
"""Method, path and root of the body of the 87 actions that answer with a task."""

GUID = "b04c217b-0538-4650-bec4-19deff4ea1ac"
NAMESPACE = "http://www.veeam.com/ent/v1.0"
LOGON = reply(
    b'<LogonSession xmlns="http://www.veeam.com/ent/v1.0" Type="LogonSession"'
    b' Href="https://h:9398/api/logonSessions/695a4d8a"><Links/><UserName>u</UserName>'
    b"<SessionId>695a4d8a-4b0b-4b0b-8b0b-0a0b0c0d0e0f</SessionId></LogonSession>",
    status="201 Created",
    headers=["X-RestSvcSessionId: Njk1YTRkOGE="],
)
XML_TASK = (
    b'<?xml version="1.0" encoding="utf-8"?><Task'
    b' xmlns="http://www.veeam.com/ent/v1.0" Href="http://h:9399/api/tasks/task-7"'
    b' Type="Task"><Links><Link Href="http://h:9399/api/tasks/task-7" Rel="Delete" />'
    b"</Links><TaskId>task-7</TaskId><State>Running</State>"
    b"<Operation>EditCloudTenant</Operation></Task>"
)
JSON_TASK = (
    b'{"TaskId":"task-9","State":"Running","Operation":"EditCloudTenant",'
    b'"Links":[{"Rel":"Delete","Href":"http://h:9399/api/tasks/task-9"}],'
    b'"Href":"http://h:9399/api/tasks/task-9","Type":"Task"}'
)
GONE = reply(status="204 No Content")
Raw = Callable[[SessionManager], Awaitable[object]]


def split(action: str) -> tuple[str, str, str | None]:
    """Return method, a real path, and the root of the body."""
    method, path, *root = action.split()
    for place, value in (
        ("{ID}", GUID),
        ("{vmname}", "srv 04"),
        ("{filepath}", "C:/a"),
    ):
        path = path.replace(place, value)
    return method, path, root[0] if root else None


def test_there_are_87() -> None:
    """87 actions: 56 POST, 18 DELETE, 13 PUT."""
    methods = [action.split()[0] for action in ACTIONS.strip().splitlines()]
    counts = {method: methods.count(method) for method in set(methods)}
    assert counts == {"POST": 56, "DELETE": 18, "PUT": 13}


@pytest.mark.parametrize("wire", [WIRES[0], WIRES[2], WIRES[4]], ids=str)
async def test_every_action(wire: Wire) -> None:
    """`submit` sends each of the 87 actions; each is answered with a task, once."""
    async with wire.server(any_id=True) as server, door(server, **wire.options()) as em:
        for action in ACTIONS.strip().splitlines():
            method, path, root = split(action)
            body = None if root is None else {root: {"Name": "a"}}
            before = server.requests.total
            task = await em.submit(path, body, method=method)
            assert isinstance(task, Task), action
            assert server.requests.total == before + 1, action
            sent = server.requests[-1]
            assert sent.method == method
            if root is not None:
                assert ET.fromstring(sent.body).tag == f"{{{NAMESPACE}}}{root}"
            else:
                assert sent.body == b""


@pytest.mark.parametrize(
    "status", ["200 OK", "201 Created", "202 Accepted", "200 Success"]
)
@pytest.mark.parametrize(
    ("body", "kind", "name"),
    [
        (XML_TASK, "application/xml; charset=utf-8", "task-7"),
        (b"\xef\xbb\xbf" + XML_TASK, "application/xml", "task-7"),
        (JSON_TASK, "application/json; charset=utf-8", "task-9"),
    ],
)
async def test_success_is_seen_from_the_body(
    status: str, body: bytes, kind: str, name: str
) -> None:
    """200, 201 and 202 are successes; a Task body is the task, whatever was asked."""
    answer = reply(body, status=status, content_type=kind)
    async with RawServer(LOGON, answer, GONE) as server, raw_door(server) as em:
        assert (await em.submit("cloud/tenants/1", method="PUT")).task_id == name


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(status="204 No Content"), "answered 204 without a task"),
        (reply(b"", status="202 Accepted"), "answered 202 without"),
        (reply(b"<html/>", content_type="text/html"), "answered 200 without"),
        (reply(b'<Tasks xmlns="http://www.veeam.com/ent/v1.0" />'), "answered 200"),
    ],
)
async def test_success_without_a_task(answer: bytes, said: str) -> None:
    """A 2xx without a task is a `MalformedReplyError` that says it may be done."""
    async with RawServer(LOGON, answer, GONE) as server, raw_door(server) as em:
        with pytest.raises(MalformedReplyError, match=said) as caught:
            await em.submit("cloud/publicIpAddresses/1", method="PUT")
        assert "may have been carried out" in str(caught.value)
        assert "fetch_all()" in str(caught.value)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_5xx_may_have_been_carried_out(status: int, wire: Wire) -> None:
    """A 5xx is a `StatusError` that says that it may have been carried out."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        for method in ("POST", "DELETE"):
            server.faults.add(
                Fault("status", status=status, message="Busy", method=method)
            )
        task = server.add_task("Running").task_id
        before = server.requests.total
        said = r"may have been carried out: .*fetch_all\(\)"
        for attempt in (
            lambda: em.submit(f"jobs/{GUID}?action=start"),
            lambda: em.delete(task),
        ):
            with pytest.raises(StatusError, match=said) as caught:
                await attempt()
            assert (caught.value.status, caught.value.message) == (status, "Busy")
            assert isinstance(caught.value, ServerBusyError) is (status == 503)
        assert server.requests.total == before + 2
        server.faults.clear()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StatusError),
        (403, ForbiddenError),
        (404, StatusError),
        (501, StatusError),
    ],
)
async def test_4xx_and_501_were_refused(
    status: int, kind: type[StatusError], wire: Wire
) -> None:
    """A refusal is a clear error, sent once, and does not say that it may be done."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        server.faults.add(Fault("status", status=status, message="No", method="POST"))
        with pytest.raises(kind, match="'No'") as caught:
            await em.submit(f"jobs/{GUID}?action=start")
        assert "may have been" not in str(caught.value)
        assert targets(server, "POST").count(f"jobs/{GUID}") == 1


async def submit_post(em: SessionManager) -> object:
    """POST an action."""
    return await em.submit("jobs/1?action=start")


async def submit_put(em: SessionManager) -> object:
    """PUT an entity."""
    return await em.submit("cloud/tenants/1", "<CloudTenant/>", method="PUT")


async def submit_delete(em: SessionManager) -> object:
    """DELETE an entity."""
    return await em.submit("cloud/tenants/1", method="DELETE")


async def delete(em: SessionManager) -> object:
    """DELETE a task."""
    await em.delete("task-7")
    return None


@pytest.mark.parametrize("act", [submit_post, submit_put, submit_delete, delete])
@pytest.mark.parametrize("is_reused", [True, False])
async def test_at_most_once(act: Raw, is_reused: bool) -> None:
    """Sent once, also if the connection is reset after the request was read.

    aiohttp by itself resends PUT and DELETE after a disconnect: that is stopped. The
    error is `SubmitUncertainError`, which names `fetch_all()`.
    """
    first = [LOGON] if is_reused else [LOGON, reply(XML_TASK, headers=())]
    async with RawServer(*first, RESET) as server, raw_door(server) as em:
        if not is_reused:
            await em.fetch("task-7")
        before = len(server.seen)
        with pytest.raises(SubmitUncertainError, match=r"fetch_all\(\)") as caught:
            await act(em)
        # True of an action that starts a task and of the DELETE of one.
        assert "may have been carried out: see with fetch" in str(caught.value)
        assert "its task" not in str(caught.value)
        assert isinstance(caught.value, TransportError)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert len(server.seen) == before + 1


@pytest.mark.parametrize("act", [submit_post, submit_put, submit_delete])
async def test_401_goes_once_more(act: Raw) -> None:
    """Refused with 401 it was not carried out and goes once more under a new token."""
    refused = reply(status="401 Unauthorized")
    good = reply(XML_TASK, status="202 Accepted")
    # A read first: a token that was never accepted is not renewed.
    # After the refusal the logon session itself is asked for, which is refused too.
    answers = (LOGON, reply(XML_TASK), refused, refused, LOGON, good, GONE)
    async with RawServer(*answers) as server:
        async with raw_door(server) as em:
            await em.fetch("task-7")
            assert isinstance(await act(em), Task)
            assert em.statistics().renewals == 1
        assert len(server.seen) == 7
        assert server.seen[2].body == server.seen[5].body
        assert server.seen[2].target == server.seen[5].target


async def test_401_twice_is_the_end() -> None:
    """One renewal, no more."""
    refused = reply(status="401 Unauthorized")
    async with (
        RawServer(LOGON, reply(XML_TASK), refused, refused, LOGON, refused) as server,
        raw_door(server) as em,
    ):
        await em.fetch("task-7")
        with pytest.raises(LogonError):
            await submit_post(em)
        posts = [seen for seen in server.seen if "jobs/1" in seen.target]
        assert len(posts) == 2


async def test_mapping_becomes_xml() -> None:
    """A mapping is turned into XML with the namespace added and the order kept."""
    body = {"JobCloneSpec": {"BackupJobCloneInfo": {"JobName": "ä<&", "Folder": "b"}}}
    answer = reply(XML_TASK, status="202 Accepted")
    async with RawServer(LOGON, answer, GONE) as server:
        async with raw_door(server) as em:
            await em.submit("jobs/1?action=clone", body)
        sent = server.seen[1]
        assert sent.method == "POST"
        assert sent.target == "/api/jobs/1?action=clone"
        assert sent.header("Content-Type") == sent.header("Accept") == "application/xml"
        assert sent.header("X-RestSvcSessionId") == "Njk1YTRkOGE="
        assert sent.header("Cookie") is None
        root = ET.fromstring(sent.body)
        names = [element.tag.partition("}")[2] for element in root.iter()]
        assert names == ["JobCloneSpec", "BackupJobCloneInfo", "JobName", "Folder"]
        assert all(one.tag.startswith(f"{{{NAMESPACE}}}") for one in root.iter())
        assert [one.text for one in root[0]] == ["ä<&", "b"]


@pytest.mark.parametrize("body", ["<Spec>ä</Spec>", "<Spec>ä</Spec>".encode()])
async def test_text_is_sent_as_it_is(body: str | bytes) -> None:
    """A body of `str` or `bytes` is XML and sent as it is, in UTF-8."""
    async with RawServer(LOGON, reply(XML_TASK), GONE) as server:
        async with raw_door(server) as em:
            await em.submit("jobs/1?action=clone", body)
        assert server.seen[1].body == "<Spec>ä</Spec>".encode()


async def test_no_body_has_no_type() -> None:
    """An action without a body says Content-Length 0 and no Content-Type."""
    async with RawServer(LOGON, reply(XML_TASK), GONE) as server:
        async with raw_door(server) as em:
            await em.submit("jobs/1?action=start")
        assert server.seen[1].header("Content-Length") == "0"
        assert server.seen[1].header("Content-Type") is None


@pytest.mark.parametrize(
    ("arguments", "method", "kind", "said"),
    [
        (("jobs/1",), "GET", ValueError, "POST, PUT or DELETE"),
        (("jobs/1",), None, ValueError, "POST, PUT or DELETE"),
        (("jobs/1", 7), "POST", TypeError, "str or bytes, or a mapping"),
        (("jobs/1", {}), "POST", ValueError, "exactly one root"),
        (("jobs/1", {"A": 1, "B": 2}), "POST", ValueError, "exactly one root"),
        (("../x",), "POST", ValueError, "names no resource"),
        (("",), "POST", ValueError, "names no resource"),
        ((7,), "POST", TypeError, "path"),
    ],
)
async def test_wrong_arguments_send_nothing(
    arguments: tuple[str], method: str, kind: type[Exception], said: str
) -> None:
    """Wrong arguments raise `ValueError` or `TypeError` before anything is sent."""
    async with SimulatedServer() as server, door(server) as em:
        before = server.requests.total
        with pytest.raises(kind, match=said):
            await em.submit(*arguments, method=method)
        assert server.requests.total == before


async def test_delete(wire: Wire) -> None:
    """`delete(task)`: the server forgets the task, so it knows none to delete again."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running")
        await em.delete(task.task_id)
        assert task.is_deleted
        with pytest.raises(TaskNotFoundError, match="task-"):
            await em.delete(task.task_id)


@pytest.mark.parametrize(
    "answer",
    [
        reply(status="204 No Content"),
        reply(b" \r\n"),
        reply(XML_TASK, status="202 Accepted"),
        reply(b"{}", content_type="application/json; charset=utf-8"),
    ],
)
async def test_delete_is_said_by_the_server(answer: bytes) -> None:
    """A 2xx without a body, or with one of the Enterprise Manager, is a deletion."""
    async with RawServer(LOGON, answer, GONE) as server, raw_door(server) as em:
        await em.delete("task-7")
        sent = [(one.method, one.target) for one in server.seen[1:]]
        assert sent == [("DELETE", "/api/tasks/task-7")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(b"<html>Hello</html>", content_type="text/html"), "answered 200, but"),
        (reply(b"<HTML>Hello</HTML>"), "it is HTML"),
        (reply(b'<html xmlns="http://www.w3.org/1999/xhtml"/>'), "it is HTML"),
        (reply(b'<page xmlns="urn:another"/>'), "it is no reply"),
        (reply(b"<!-- Hello --><html/>"), "it is no reply of the server"),
        (reply(b"OK", content_type="text/plain", status="201 Created"), "answered 201"),
        (reply(b"\x00\xff" * 9, content_type=""), "answered 200, but"),
        (reply(b'<Error Message="No" StatusCode="500"/>'), "it is an error of the"),
    ],
)
async def test_delete_that_someone_else_answered(answer: bytes, said: str) -> None:
    """Any other 2xx is a `MalformedReplyError` that says that it may be done."""
    async with RawServer(LOGON, answer, GONE) as server, raw_door(server) as em:
        with pytest.raises(MalformedReplyError, match=said) as caught:
            await em.delete("task-7")
    assert "may have been carried out: see with fetch_all()" in str(caught.value)
    assert caught.value.excerpt


async def test_an_action_at_another_server_is_not_sent() -> None:
    """A URL of another server is a ValueError; a Link, whose host may differ, is not.

    What `read` takes is its path alone, whatever the host.
    """
    async with SimulatedServer(seed=1) as server, door(server) as em:
        job = f"jobs/{server.jobs[0].job_id}"
        before = server.requests.total
        elsewhere = f"https://em01.corp:9398/api/{job}"
        with pytest.raises(ValueError, match="that is another server than http://127"):
            await em.submit(f"{elsewhere}?action=start")
        assert server.requests.total == before
        link = Link(rel="Start", href=f"{elsewhere}?action=start")
        assert (await em.submit(link)).operation == "StartJob"
        await em.submit(f"{server.url}/api/{job}?action=start")
        assert await em.read(elsewhere)
