"""The simulated server against the vendor's documents, by a client of bare bytes."""

import asyncio
import base64
import uuid

import pytest
from support.plain_client import JSON, NAMESPACE, XML, Client, basic

from veeam_tasks.simulator import Account, Role, SimulatedServer

VERSIONS = ("9.5u4", "12", "13")
PENDING = "Running 1h, Finished"
UNKNOWN = "There is no backup task with id [task-297] in current rest session"
JOB = "/api/jobs/b04c217b-0538-4650-bec4-19deff4ea1ac"


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_base_url_tells_the_versions_to_anyone(version: str) -> None:
    """GET /api/ needs no token and lists SupportedVersions with logon links."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        got = await client.get("/api/")
        assert got.status == 200
        assert got.names == ["EnterpriseManager", "Links", "SupportedVersions"]
        links = got.xml.findall(f".//{NAMESPACE}SupportedVersion//{NAMESPACE}Link")
        newest = {"9.5u4": "v1_4", "12": "v1_7", "13": "v1_7"}[version]
        assert links[-1].get("Href") == f"{server.url}/api/sessionMngr/?v={newest}"
        assert links[-1].get("Rel") == "Create"


@pytest.mark.parametrize("version", VERSIONS)
async def test_logon_answers_201_with_token_cookie_and_session(version: str) -> None:
    """The token is base64 of the SessionId's text, in header and cookie."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        got = await client.log_on()
        assert got.status == 201
        token, session_id = client.token, got.text("SessionId")
        assert token is not None
        assert session_id is not None
        assert (
            base64.b64decode(token).decode() == session_id == str(uuid.UUID(session_id))
        )
        assert got.header("Set-Cookie") == f"X-RestSvcSessionId={token}; Path=/api;"
        assert got.header("Content-Type") == "application/xml; charset=utf-8"
        assert got.header("Cache-Control") == "private"
        assert got.names == ["LogonSession", "Links", "UserName", "SessionId"]
        assert got.xml.get("Type") == "LogonSession"
        here = f"{server.url}/api/logonSessions/{session_id}"
        assert got.xml.get("Href") == here
        deletes = [link for link in got.xml[0] if link.get("Rel") == "Delete"]
        assert [link.attrib for link in deletes] == [{"Href": here, "Rel": "Delete"}]
        assert got.text("UserName") == "admin"


@pytest.mark.parametrize(
    ("version", "name", "server_header", "reason"),
    [
        ("9.5u4", "X-RestSvcSessionId", "Microsoft-HTTPAPI/2.0", "NotFound"),
        ("12", "X-RestSvcSessionId", "Microsoft-HTTPAPI/2.0", "NotFound"),
        ("13", "x-restsvcsessionid", None, "Not Found"),
    ],
)
async def test_header_case_and_reason_phrases_follow_the_version(
    version: str, name: str, server_header: str | None, reason: str
) -> None:
    """Header names are in lower case on 13; older reason phrases are odd."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        got = await client.log_on()
        names = [key for key, _ in got.headers]
        assert name in names
        assert all(key == key.lower() for key in names) is (version == "13")
        if server_header is not None:
            assert got.header("Server") == server_header
        missing = await client.get("/api/nope")
        assert (missing.status, missing.reason) == (404, reason)


@pytest.mark.parametrize(
    ("version", "asked", "status"),
    [
        ("12", "v1_7", 201),
        ("12", "v1_5", 201),
        ("12", "v1_4", 401),
        ("12", "v9_9", 401),
        ("13", "V1_7", 201),
        ("9.5u4", "v1_4", 201),
        ("9.5u4", "v1_7", 401),
    ],
)
async def test_interface_versions_are_accepted_or_refused(
    version: str, asked: str, status: int
) -> None:
    """12a refuses v1_4 like a wrong password, not as a bad version."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        got = await client.log_on(version=asked)
        assert got.status == status
        assert server.logons[-1].accepted is (status == 201)
        assert server.logons[-1].interface_version == asked


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer abc"},
        {"Authorization": basic("admin", "wrong")},
        {"Authorization": basic("nobody", "admin-secret")},
        {"Authorization": basic("idle", "pw")},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
    ],
)
async def test_a_refused_logon_is_401_with_a_challenge(headers: dict[str, str]) -> None:
    """Missing, unreadable or wrong credentials, or no role: one and the same answer."""
    accounts = {"idle": Account("pw", role=Role.NONE)}
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        got = await client.post("/api/sessionMngr/?v=latest", headers)
        assert got.status == 401
        assert got.header("WWW-Authenticate") == "Basic Realm=RestSvc"
        assert got.names[0] == "Error"
        assert got.xml.get("StatusCode") == "401"
        assert [logon.accepted for logon in server.logons] == [False]
        assert server.logon_sessions == []


async def test_logon_knows_paths_with_and_without_the_slash() -> None:
    """The session manager answers /sessionMngr and /sessionMngr/, in any case."""
    headers = {"Authorization": basic("ADMIN", "admin-secret")}
    async with SimulatedServer() as server, Client(server.url) as client:
        for path in (
            "/api/sessionMngr?v=latest",
            "/API/sessionmngr/",
            "/api/sessionMngr",
        ):
            assert (await client.post(path, headers)).status == 201
        assert len(server.logon_sessions) == 3


async def test_passwords_may_hold_colons_and_other_scripts() -> None:
    """Everything after the first colon is the password; UTF-8, else Latin-1."""
    accounts = {"CORP\\svc": "p:ä:ß€", "latin": "pä"}
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        assert (await client.log_on("corp\\SVC", "p:ä:ß€")).status == 201
        latin = {"Authorization": basic("latin", "pä", "latin-1")}
        assert (await client.post("/api/sessionMngr/", latin)).status == 201


async def test_a_post_without_content_length_is_411() -> None:
    """HTTP.sys answers by itself, with a page of its own."""
    async with SimulatedServer() as server, Client(server.url) as client:
        got = await client.ask("POST", "/api/sessionMngr/?v=latest")
        assert (got.status, got.reason) == (411, "Length Required")
        assert b"HTTP Error 411." in got.body
        assert server.logons.total == 0


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/octet-stream", 415),
        ("text/plain", 415),
        ("application/xml", 201),
        ("application/json", 201),
        ("application/x-www-form-urlencoded", 201),
    ],
)
async def test_an_unusual_content_type_of_an_empty_logon_is_415(
    content_type: str, status: int
) -> None:
    """Even without a body, the type that a client declares counts."""
    async with SimulatedServer() as server, Client(server.url) as client:
        got = await client.log_on(headers={"Content-Type": content_type})
        assert got.status == status


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}, XML])
async def test_a_running_task_in_xml(headers: dict[str, str]) -> None:
    """XML is what comes without an Accept header; a running task has no Result."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_task(PENDING, operation="EditCloudTenant")
        await client.log_on()
        got = await client.get("/api/tasks/task-1", headers)
        assert got.status == 200
        assert got.header("Content-Type") == "application/xml; charset=utf-8"
        assert got.names == ["Task", "Links", "TaskId", "State", "Operation"]
        href = f"{server.url}/api/tasks/task-1"
        assert got.xml.attrib == {"Href": href, "Type": "Task"}
        assert [link.attrib for link in got.xml[0]] == [{"Href": href, "Rel": "Delete"}]
        assert [one.text for one in got.xml[1:]] == [
            "task-1",
            "Running",
            "EditCloudTenant",
        ]


async def test_a_running_task_in_json_of_9_5() -> None:
    """The one public capture: PascalCase, Links an array, absent members absent."""
    async with SimulatedServer(version="9.5u4") as server, Client(server.url) as client:
        server.add_task(PENDING, operation="EditCloudTenant")
        await client.log_on()
        got = await client.get("/api/tasks/task-1", JSON)
        assert got.header("Content-Type") == "application/json; charset=utf-8"
        href = f"{server.url}/api/tasks/task-1"
        assert list(got.json) == [
            *("TaskId", "State", "Operation", "Links", "Href", "Type"),
        ]
        assert got.json == {
            "TaskId": "task-1",
            "State": "Running",
            "Operation": "EditCloudTenant",
            "Links": [{"Rel": "Delete", "Href": href}],
            "Href": href,
            "Type": "Task",
        }


async def test_json_of_12_prints_nulls() -> None:
    """Absent members are null in 12; booleans are booleans."""
    async with SimulatedServer(version="12") as server, Client(server.url) as client:
        server.add_task(PENDING)
        server.add_task("Finished failed 'Disk full'")
        await client.log_on()
        running = (await client.get("/api/tasks/task-1", JSON)).json
        assert running["Result"] is None
        assert running["Links"][0]["Name"] is None
        assert running["Links"][0]["Type"] is None
        failed = (await client.get("/api/tasks/task-2", JSON)).json
        assert failed["Result"] == {"Success": False, "Message": "Disk full"}


async def test_json_of_13_is_in_camel_case() -> None:
    """All keys begin in lower case on 13, values stay as they are."""
    async with SimulatedServer(version="13") as server, Client(server.url) as client:
        server.add_task("Finished")
        logon = (await client.log_on(headers=JSON)).json
        assert logon["sessionId"] == server.logon_sessions[0].session_id
        assert logon["userName"] == "admin"
        task = (await client.get("/api/tasks/task-1", JSON)).json
        assert task["taskId"] == "task-1"
        assert task["state"] == "Finished"
        assert task["result"] == {"success": True, "message": "Ok"}
        assert task["links"][0]["rel"] == "Delete"
        jobs = (await client.get("/api/jobs", JSON)).json
        assert jobs["refs"][0]["uid"].startswith("urn:veeam:Job:")


@pytest.mark.parametrize("version", VERSIONS)
async def test_finished_tasks_carry_a_result(version: str) -> None:
    """Success is an attribute, Message a child; text of any kind comes back whole."""
    said = "Job \"A & B\" <x> 'ä' triggered."
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        server.add_task("Finished", message=said)
        server.add_task("Finished failed")
        server.add_task("Finished unsettled")
        await client.log_on()
        first = await client.get("/api/tasks/task-1")
        result = first.xml[-1]
        assert first.names[-1] == "Result"
        assert result.attrib == {"Success": "true"}
        assert first.text("Result/Message") == said
        second = await client.get("/api/tasks/task-2")
        assert second.xml[-1].attrib == {"Success": "false"}
        assert list(second.xml[-1]) == []
        assert (await client.get("/api/tasks/task-3")).names[-1] == "Operation"


async def test_operation_finished_shows_a_placeholder_and_not_before_10() -> None:
    """Both vendor samples say success and OperationFinished; 9.5 says Running."""
    for version, state in (("12", "OperationFinished"), ("9.5u4", "Running")):
        async with (
            SimulatedServer(version=version) as server,
            Client(server.url) as client,
        ):
            server.add_task("OperationFinished 1h, Finished failed 'no'")
            await client.log_on()
            got = await client.get("/api/tasks/task-1")
            assert got.text("State") == state
            placeholder = "OperationFinished" if version == "12" else None
            assert got.text("Result/Message") == placeholder


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_collection_holds_every_task_of_the_logon_session(
    version: str,
) -> None:
    """GET /tasks is never paged; in JSON it is one array under its own name."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        empty = await client.get("/api/tasks")
        assert empty.names == ["Tasks"]
        server.add_tasks(250)
        got = await client.get("/api/tasks")
        assert got.names == ["Tasks", *["Task"] * 250]
        key = "tasks" if version == "13" else "Tasks"
        assert len((await client.get("/api/tasks", JSON)).json[key]) == 250


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_unknown_task_is_500_with_the_server_s_words(version: str) -> None:
    """Not 404: a logon session does not know tasks of others."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        for method in ("GET", "DELETE"):
            got = await client.ask(method, "/api/tasks/task-297", XML)
            assert got.status == 500
            assert got.names[0] == "Error"
            assert got.xml.get("Message") == UNKNOWN
            assert got.xml.get("StatusCode") == "500"
        got = await client.get("/api/tasks/task-297", JSON)
        camel = version == "13"
        assert got.json == {
            (
                "firstChanceExceptionMessage"
                if camel
                else "FirstChanceExceptionMessage"
            ): None,
            ("message" if camel else "Message"): UNKNOWN,
            ("stackTrace" if camel else "StackTrace"): None,
            ("status" if camel else "Status"): None,
            ("statusCode" if camel else "StatusCode"): 500,
        }


async def test_deleting_a_task_is_204_and_then_it_is_unknown() -> None:
    """DELETE /tasks/{id} has no body, and GET fails afterwards."""
    async with SimulatedServer() as server, Client(server.url) as client:
        task = server.add_task(PENDING)
        await client.log_on()
        gone = await client.ask("DELETE", "/api/tasks/task-1")
        assert (gone.status, gone.body) == (204, b"")
        assert gone.header("Content-Type") is None
        assert (await client.get("/api/tasks/task-1")).status == 500
        assert task.is_deleted


async def test_without_a_valid_token_everything_is_401() -> None:
    """Missing, unknown and logged-out tokens are refused alike, with a challenge."""
    async with SimulatedServer() as server, Client(server.url) as client:
        for token in (None, "bm9uc2Vuc2U="):
            client.token = token
            got = await client.get("/api/tasks")
            assert got.status == 401
            assert got.header("WWW-Authenticate") == "Basic Realm=RestSvc"
        assert got.xml.get("Message") == "Authentication token has expired"


async def test_the_cookie_counts_before_the_header() -> None:
    """With both, the header is ignored; a cookie in quotes is no valid token."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        good = client.token
        bad = {"Cookie": "a=b; X-RestSvcSessionId=bm9wZQ=="}
        assert (await client.get("/api/tasks", bad)).status == 401
        client.token = "bm9wZQ=="
        assert (await client.get("/api/tasks")).status == 401
        right = {"Cookie": f"X-RestSvcSessionId={good}"}
        assert (await client.get("/api/tasks", right)).status == 200
        quoted = {"Cookie": f'X-RestSvcSessionId="{good}"'}
        assert (await client.get("/api/tasks", quoted)).status == 401


async def test_logout_by_session_id_is_204_and_ends_the_token() -> None:
    """DELETE /logonSessions/{SessionId}, once; the token is not the ID."""
    async with SimulatedServer() as server, Client(server.url) as client:
        session_id = (await client.log_on()).text("SessionId")
        wrong = await client.ask("DELETE", f"/api/logonSessions/{client.token}")
        assert wrong.status == 404
        got = await client.ask("DELETE", f"/api/logonSessions/{session_id}")
        assert (got.status, got.body) == (204, b"")
        assert (await client.get("/api/tasks")).status == 401
        assert server.logon_sessions == []


async def test_logon_sessions_can_be_listed_and_read() -> None:
    """GET /logonSessions serves as a heartbeat; one of it reads like the logon."""
    async with SimulatedServer() as server, Client(server.url) as client:
        session_id = (await client.log_on()).text("SessionId")
        listed = await client.get("/api/logonSessions")
        assert listed.names == ["LogonSessions", "LogonSession"]
        one = await client.get(f"/api/logonSessions/{session_id}")
        assert one.text("SessionId") == session_id
        assert server.requests[-1].status == 200


@pytest.mark.virtual_time
async def test_an_idle_logon_session_ends_after_fifteen_minutes() -> None:
    """Every request starts the idle time anew; then the token is void."""
    import anyio

    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        for _ in range(3):
            await anyio.sleep(899)
            client.close()
            assert (await client.get("/api/tasks")).status == 200
        await anyio.sleep(900)
        client.close()
        assert server.logon_sessions == []
        got = await client.get("/api/tasks")
        assert got.status == 401
        assert got.xml.get("Message") == "Authentication token has expired"


async def test_tasks_belong_to_the_logon_session_that_started_them() -> None:
    """Another logon session does not know them, unless the server is told to share."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        started = await client.post(f"{JOB}?action=start")
        assert started.text("TaskId") == "task-1"
        mine = client.token
        await client.log_on()
        assert (await client.get("/api/tasks/task-1")).status == 500
        assert (await client.get("/api/tasks")).names == ["Tasks"]
        second = await client.post(f"{JOB}?action=start")
        assert second.text("TaskId") == "task-2"
        client.token = mine
        assert (await client.get("/api/tasks/task-1")).status == 200


async def test_a_counter_of_each_logon_session_can_be_had() -> None:
    """Which of both a real server has is not known: both can be simulated."""
    async with (
        SimulatedServer(per_session_counter=True) as server,
        Client(server.url) as client,
    ):
        for _ in range(2):
            await client.log_on()
            started = await client.post(f"{JOB}?action=start")
            assert started.text("TaskId") == "task-1"


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/api/tasks", "GET"),
        ("PUT", "/api/tasks/task-1", "DELETE, GET"),
        ("GET", "/api/sessionMngr/?v=latest", "POST"),
        ("DELETE", "/api/", "GET"),
        ("DELETE", "/api/jobs", "GET"),
        ("PUT", "/api/logonSessions", "GET"),
        ("PUT", "/api/failoverPlans/x/y", None),
        ("POST", "/api/query?type=Task", "GET"),
        ("DELETE", "/api/nas/jobs/x/start", "POST"),
    ],
)
async def test_a_method_that_a_resource_has_not_is_405(
    method: str, target: str, allowed: str | None
) -> None:
    """405 names what is allowed; a path that nobody knows is 404."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.ask(method, target, {}, b"")
        assert got.status == (404 if allowed is None else 405)
        assert got.header("Allow") == allowed
        assert got.names[0] == "Error"


@pytest.mark.parametrize(
    "path",
    [
        "/api/nope",
        "/api/jobs/00000000-0000-0000-0000-000000000000",
        "/api/backupSessions/00000000-0000-0000-0000-000000000000?format=Entity",
        "/api/logonSessions/current",
    ],
)
async def test_other_unknown_things_are_404(path: str) -> None:
    """Only tasks are unknown with a 500."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get(path)
        assert got.status == 404
        assert got.xml.get("StatusCode") == "404"


async def test_paths_outside_of_the_service_are_answered_by_http_sys() -> None:
    """Whatever is not under /api gets a page, as on a wrong port."""
    async with SimulatedServer() as server, Client(server.url) as client:
        got = await client.get("/")
        assert got.status == 404
        assert (got.header("Content-Type") or "").startswith("text/html")


@pytest.mark.parametrize("role", [Role.PORTAL_USER, Role.RESTORE_OPERATOR])
async def test_an_account_that_may_not_start_jobs_gets_403(role: Role) -> None:
    """Restores it may start."""
    accounts = {"user": Account("pw", role=role)}
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        await client.log_on("user", "pw")
        got = await client.post(f"{JOB}?action=start")
        assert got.status == 403
        assert got.xml.get("Message") == "Access denied"
        restore = await client.post("/api/vmRestorePoints/1?action=restore")
        assert restore.status == 202


async def test_a_tenant_logs_on_with_a_body() -> None:
    """LoginSpec instead of Basic; a tenant starts a cloud failover plan, no job."""
    spec = (
        '<LoginSpec xmlns="http://www.veeam.com/ent/v1.0"><TenantCredentials>'
        "<Username>abc</Username><Password>{}</Password></TenantCredentials></LoginSpec>"
    )
    accounts = {"abc": Account("t-secret", role=Role.TENANT)}
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        path, kind = "/api/sessionMngr/?v=latest", {"Content-Type": "application/xml"}
        wrong = await client.post(path, kind, spec.format("no").encode())
        assert wrong.status == 401
        got = await client.post(path, kind, spec.format("t-secret").encode())
        assert got.status == 201
        client.token = got.header("X-RestSvcSessionId")
        plan = "/api/cloud/cloudFailoverPlans/1?action="
        assert (await client.post(f"{plan}start")).status == 202
        assert (await client.post(f"{plan}test")).status == 403
        assert (await client.post(f"{JOB}?action=start")).status == 403
        basic_logon = await client.log_on("abc", "t-secret")
        assert basic_logon.status == 401


async def test_request_bodies_in_json() -> None:
    """From 12 on the Content-Type decides; a tenant may log on in JSON."""
    accounts = {"abc": Account("t-secret", role=Role.TENANT)}
    kind = {"Content-Type": "application/json"}
    body = b'{"TenantCredentials":{"Username":"abc","Password":"t-secret"}}'
    async with (
        SimulatedServer(accounts=accounts) as server,
        Client(server.url) as client,
    ):
        path = "/api/sessionMngr/?v=latest"
        assert (await client.post(path, kind, body)).status == 201
        assert (await client.post(path, kind, b'{"Username":"x"}')).status == 401
        for broken in (b"[1]", b"{", b"<LoginSpec/>"):
            got = await client.post(path, kind, broken)
            assert got.status == 400
            assert got.xml.get("Message") == "Node [root] does not exist."
        xml = {"Content-Type": "application/xml"}
        assert (await client.post(path, xml, b"<Nonsense/>")).status == 400
        await client.log_on()
        clone = b'{"BackupJobCloneInfo":{"JobName":"Copy"}}'
        assert (await client.post(f"{JOB}?action=clone", kind, clone)).status == 202
        assert server.logons[1].reason == "unknown tenant"


async def test_the_session_manager_has_nothing_below_it() -> None:
    """Other paths there are 404; a collection may end in a slash."""
    async with SimulatedServer() as server, Client(server.url) as client:
        assert (await client.post("/api/sessionMngr/x")).status == 404
        assert (await client.get("/api/tasks/")).status == 401
        await client.log_on()
        assert (await client.get("/api/tasks/")).names == ["Tasks"]
        assert (await client.post("/api/tasks/")).status == 405


async def test_the_media_type_bug_of_9_5() -> None:
    """JSON anywhere in Accept makes 9.5 Update 4 read the request body as JSON."""
    mixed = {
        "Accept": "application/json, text/plain, */*",
        "Content-Type": "application/xml",
    }
    body = b'<JobCloneSpec xmlns="http://www.veeam.com/ent/v1.0" />'
    for version, status in (("9.5u4", 400), ("12", 202), ("13", 202)):
        async with (
            SimulatedServer(version=version) as server,
            Client(server.url) as client,
        ):
            await client.log_on()
            got = await client.post(f"{JOB}?action=clone", mixed, body)
            assert got.status == status
            if status == 400:
                assert got.reason == "BadRequest"
                assert got.json == {
                    "FirstChanceExceptionMessage": None,
                    "Message": "Node [root] does not exist.",
                    "StackTrace": None,
                    "Status": None,
                    "StatusCode": 400,
                }


@pytest.mark.parametrize(
    "body",
    [
        b"<JobCloneSpec",
        b"<JobCloneSpec />",
        b'<RestoreSpec xmlns="http://www.veeam.com/ent/v1.0" />',
    ],
)
async def test_a_wrong_request_body_is_400(body: bytes) -> None:
    """Broken XML, a root without the namespace, another root than the action's."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        xml = {"Content-Type": "application/xml"}
        got = await client.post(f"{JOB}?action=clone", xml, body)
        assert got.status == 400
        assert server.tasks == []


async def test_links_carry_the_server_s_own_idea_of_its_url() -> None:
    """Its host may be one that clients cannot reach."""
    async with (
        SimulatedServer(link_base="https://em01.tech.local:9398") as server,
        Client(server.url) as client,
    ):
        server.add_task(PENDING)
        await client.log_on()
        got = await client.get("/api/tasks/task-1?format=Entity")
        assert got.xml.get("Href") == "https://em01.tech.local:9398/api/tasks/task-1"


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json;q=0.5, application/xml", False),
        ("application/xml;q=0.5, application/json", True),
        ("text/html, application/json", True),
        ("application/json;q=0", False),
        ("application/json;q=x", False),
        ("text/html", False),
    ],
)
async def test_accept_is_weighed(*, accept: str, is_json: bool) -> None:
    """From 12 on, what the client prefers counts; XML without a preference."""
    async with SimulatedServer() as server, Client(server.url) as client:
        got = await client.get("/api/", {"Accept": accept})
        content_type = got.header("Content-Type") or ""
        assert content_type.startswith("application/json") is is_json


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake begins so
        b"GET\r\n\r\n",
        b"GET /api/ HTTP/1.1\r\nNo Header\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /api/ HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "no target", "no header", "too long", "length", "chunk"],
)
async def test_what_is_no_http_is_refused_by_http_sys(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """400 with its page and an end of the connection; nothing is logged of it."""
    async with SimulatedServer() as server, Client(server.url) as client:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head, _, page = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        lines = head.decode("ascii").split("\r\n")
        assert lines[0] == "HTTP/1.1 400 Bad Request"
        assert {
            "Content-Type: text/html; charset=us-ascii",
            f"Content-Length: {len(page)}",
            "Server: Microsoft-HTTPAPI/2.0",
            "Connection: close",
        } < set(lines)
        assert b"HTTP Error 400. The request is badly formed." in page
        assert (await client.get("/api/")).status == 200
        assert server.requests.total == 1
    assert [record for record in caplog.records if record.name != "asyncio"] == []


async def test_a_body_is_not_decompressed() -> None:
    """HTTP.sys does not, so one that only claims to be compressed does no harm."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on(headers={"Content-Encoding": "gzip"})
        await client.post("/api/jobs", {"Content-Encoding": "gzip"}, b"plain")
        assert server.requests[-1].body == b"plain"
