"""What clients of other hands stumbled over, and keys in their recorded order."""

import json

import pytest
from support.plain_client import JSON, NAMESPACE, XML, Client, basic

from veeam_tasks.simulator import (
    Account,
    Fault,
    Role,
    SimulatedServer,
    VersionName,
)

VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")
EXPECT = {"Expect": "100-continue", "Content-Type": "application/xml"}
ORACLE = "jobs/78c3919c-54d7-43fe-b047-485d3566f11f"


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_reply_to_a_logon_says_where_the_session_is(
    version: VersionName,
) -> None:
    """201 with Location, from which clients read the session ID."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        got = await client.log_on()
        (session,) = server.logon_sessions
        here = f"{server.url}/api/logonSessions/{session.session_id}"
        assert got.header("Location") == here


@pytest.mark.parametrize("task_location", [False, True])
async def test_whether_an_action_says_where_its_task_is_is_a_choice(
    task_location: bool,
) -> None:
    """Nothing public says it; by default there is no Location."""
    async with (
        SimulatedServer(task_location=task_location) as server,
        Client(server.url) as client,
    ):
        await client.log_on()
        got = await client.post(f"/api/{ORACLE}?action=start")
        expected = f"{server.url}/api/tasks/task-1" if task_location else None
        assert got.header("Location") == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"id":null}'),
        ("application/json", b"{}"),
        ("application/xml", b"<a/>"),
        (
            "application/xml",
            (
                b'<LoginSpec xmlns="http://www.veeam.com/ent/v1.0"><TenantCredentials>'
                b"<Username>t</Username><Password>x</Password></TenantCredentials>"
                b"</LoginSpec>"
            ),
        ),
    ],
)
async def test_basic_credentials_decide_beside_any_body(kind: str, body: bytes) -> None:
    """A template in production sends such a body with each logon."""
    accounts = {"t": Account("pw", role=Role.TENANT)}
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        account = {"Authorization": basic("admin", "admin-secret")}
        headers = account | {"Content-Type": kind}
        got = await client.post("/api/sessionMngr/?v=latest", headers, body)
        assert got.status == 201
        assert server.logons[0].username == "admin"
        without = await client.post(
            "/api/sessionMngr/?v=latest", {"Content-Type": kind}, body
        )
        assert without.status in {400, 401}


async def test_a_body_that_is_expected_is_asked_for() -> None:
    """.NET and PowerShell send the body after 100 Continue alone."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        body = (
            b'<JobCloneSpec xmlns="http://www.veeam.com/ent/v1.0"><BackupJobCloneInfo>'
            b"<JobName>Later</JobName></BackupJobCloneInfo></JobCloneSpec>"
        )
        server.set_script("Finished")
        headers = EXPECT | {"Content-Length": str(len(body))}
        await client.send("POST", f"/api/{ORACLE}?action=clone", headers)
        asked = await client.head()
        assert (asked.status, asked.headers) == (100, ())
        assert server.requests.total == 1
        assert client._streams is not None
        client._streams[1].write(body)
        got = await client.head()
        assert got.status == 202
        assert server.requests[-1].body == body
        assert "Later" in [job.name for job in server.jobs]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{ORACLE}?action=clone", 401),
        ("sessionMngr/?v=latest", 503),
    ],
)
async def test_a_refusal_or_a_fault_comes_before_the_expected_body(
    path: str, status: int
) -> None:
    """Then the body is not asked for, and the connection ends."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.faults.add(Fault("status", path="sessionMngr", status=503))
        headers = EXPECT | {"Content-Length": "100"}
        await client.send("POST", f"/api/{path}", headers)
        got = await client.head()
        assert got.status == status
        assert server.requests[-1].status == status


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("xml", b'<?xml version="1.0" encoding="nope"?><a/>', 400),
        ("xml", b'<?xml version="1.0" encoding="utf-7"?><a/>', 400),
        ("json", b"[" * 100_000, 400),
        ("json", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400),
        ("xml", b"<a>" + b"x" * (2 << 20) + b"</a>", 413),
    ],
    ids=["encoding", "no_bytes", "list", "deep", "long"],
)
async def test_a_body_that_nobody_can_read_is_refused(
    kind: str, body: bytes, status: int
) -> None:
    """Not by an error of the simulator, nor in the name of aiohttp."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        headers = {"Content-Type": f"application/{kind}"}
        got = await client.post(f"/api/{ORACLE}?action=clone", headers, body)
        assert got.status == status
        assert got.header("Server") == "Microsoft-HTTPAPI/2.0"
        assert server.requests[-1].status == status


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["xml", "json", "none"])
async def test_a_clone_has_the_name_that_was_asked_for(
    version: VersionName, kind: str
) -> None:
    """JobName of a JobCloneSpec in XML or JSON; else one is made up."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        headers, body = dict(XML), b""
        if kind == "xml":
            body = (
                b'<JobCloneSpec xmlns="http://www.veeam.com/ent/v1.0">'
                b"<BackupJobCloneInfo><JobName>A copy</JobName><FolderName>F"
                b"</FolderName></BackupJobCloneInfo></JobCloneSpec>"
            )
            headers["Content-Type"] = "application/xml"
        elif kind == "json":
            spec = {"BackupJobCloneInfo": {"JobName": "A copy", "FolderName": "F"}}
            body = json.dumps(spec).encode()
            headers = JSON | {"Content-Type": "application/json"}
        got = await client.post(f"/api/{ORACLE}?action=clone", headers, body)
        assert got.status == 202
        name = "Oracle Backup_clone" if kind == "none" else "A copy"
        assert server.jobs[-1].name == name


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "cloud/gateways", 501),
        ("GET", "cloud/tenants/1/resources", 501),
        ("GET", f"{ORACLE}/includes", 501),
        ("GET", "vCloud/orgConfigs", 501),
        ("GET", "agents/protectionGroups", 501),
        ("PUT", f"{ORACLE}?action=dance", 501),
        ("POST", f"{ORACLE}?action=dance", 501),
        ("POST", "jobs", 405),
        ("DELETE", "cloud/gateways", 405),
        ("PUT", "backupSessions", 405),
        ("GET", "nothing", 404),
        ("POST", "jobs/1/2/3", 404),
    ],
)
async def test_what_is_documented_and_not_simulated_says_so(
    method: str, path: str, status: int
) -> None:
    """501 with a body that says it; Allow is true; 404 is for what nobody documents."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.ask(method, f"/api/{path}", {}, b"")
        assert (got.status, got.names[0]) == (status, "Error")
        if status == 501:
            assert "not simulated" in (got.xml.get("Message") or "")
        allowed = {"cloud/gateways": "GET, POST"}.get(path, "GET")
        assert got.header("Allow") == (allowed if status == 405 else None)


@pytest.mark.parametrize(
    "path", ["", "tasks", "tasks/task-1", "jobs", "query?type=Job"]
)
async def test_head_is_where_get_is(path: str) -> None:
    """The headers of GET, without its body, on a connection that goes on."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task("Running")
        await client.log_on()
        whole = await client.get(f"/api/{path}")
        await client.send("HEAD", f"/api/{path}")
        got = await client.head()
        assert got.status == 200
        for name in ("Content-Type", "Content-Length"):
            assert got.header(name) == whole.header(name)
        assert (await client.get(f"/api/{path}")).body == whole.body
        await client.send("HEAD", "/api/tasks/task-99")
        assert (await client.head()).status == 500


@pytest.mark.parametrize("version", VERSIONS)
async def test_keys_stand_in_their_recorded_order(version: VersionName) -> None:
    """Of a logon, the root and a job: own members, entity, links, Href, Type."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        logon = (await client.log_on(headers=JSON)).json
        root = (await client.get("/api/", JSON)).json
        job = (await client.get(f"/api/{ORACLE}?format=Entity", JSON)).json

        def lower(body: dict[str, object]) -> list[str]:
            return [key.lower() for key in body]

        assert lower(logon) == ["username", "sessionid", "links", "href", "type"]
        own = ["supportedversions", "links"]
        assert lower(root) == (own if version == "9.5u4" else [*own, "href", "type"])
        versions = {key.lower(): root[key] for key in root}["supportedversions"]
        (inner,) = versions.values()
        assert lower(inner[0]) == ["links", "name"]
        assert lower(job) == [
            *("jobtype", "platform", "description", "scheduleconfigured"),
            *("scheduleenabled", "name", "uid", "links", "href", "type"),
        ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_job_links_up_to_its_server_first(version: VersionName) -> None:
    """Up BackupServerReference with its Name, in both forms."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        for path in (ORACLE, f"{ORACLE}?format=Entity"):
            got = await client.get(f"/api/{path}")
            first = got.xml.find(f"{NAMESPACE}Links/{NAMESPACE}Link")
            assert first is not None
            assert first.attrib == {
                "Rel": "Up",
                "Type": "BackupServerReference",
                "Name": server.backup_server.name,
                "Href": f"{server.url}/api/{server.backup_server.path}",
            }
            up = await client.get(f"/api/{server.backup_server.path}")
            assert up.names[0] == "EntityRef"
