"""The query service of the simulated server, as the vendor's pages describe it."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from support.plain_client import JSON, NAMESPACE, Client, Got

from veeam_tasks.simulator import SimulatedServer, VersionName
from veeam_tasks.simulator._messages import Refusal
from veeam_tasks.simulator._query import parse_filter

STATES = ("Running 1h, Finished", "OperationFinished 1h, Finished", "Finished")


def found(got: Got) -> list[str | None]:
    """Return the IDs of the tasks in a query result."""
    return [one.text for one in got.xml.iter(f"{NAMESPACE}TaskId")]


def paging(got: Got) -> dict[str, str]:
    """Return the attributes of PagingInfo."""
    info = got.xml.find(f"{NAMESPACE}PagingInfo")
    assert info is not None
    return info.attrib


def links(got: Got) -> dict[str, str]:
    """Return the paging links by Rel."""
    every = got.xml.iterfind(f"{NAMESPACE}PagingInfo/{NAMESPACE}Links/{NAMESPACE}Link")
    return {one.get("Rel", ""): one.get("Href", "") for one in every}


@pytest.mark.parametrize(
    ("filter_", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ("State==Finished", [3, 4]),
        ("state==finished", [3, 4]),
        ('State == "Finished"', [3, 4]),
        ("State!=Finished", [1, 2]),
        ("State>Running", [2, 3, 4]),
        ("State<=OperationFinished", [1, 2]),
        ("TaskId==task-2", [2]),
        ("taskuid==TASK-2", [2]),
        ("TaskId>task-2", [3, 4]),
        ("Operation==CloneJob", [4]),
        ("State==Finished;Operation==StartJob", [3]),
        ("State==Running,Operation==CloneJob", [1, 4]),
        ("State==Running,State==Finished;Operation==CloneJob", [1, 4]),
        ("(State==Running,State==Finished);Operation==StartJob", [1, 3]),
    ],
)
async def test_filters(filter_: str, ids: list[int]) -> None:
    """All six operators, and, or, groups, quotes; case does not count."""
    async with SimulatedServer() as server, Client(server.url) as client:
        for script in STATES:
            server.add_task(script)
        server.add_task("Finished", operation="CloneJob")
        await client.log_on()
        target = f"/api/query?type=Task&filter={quote(filter_)}"
        assert found(await client.get(target)) == [f"task-{number}" for number in ids]


@pytest.mark.parametrize(
    "query",
    [
        "type=Task&filter=State=Finished",
        "type=Task&filter=State==",
        "type=Task&filter=(State==Running",
        "type=Task&filter=State==Running)",
        "type=Task&filter===",
        "type=Task&filter=Owner==me",
        "type=Task&filter=%22",
        "type=Task&sortAsc=Owner",
        "type=Task&pageSize=0",
        "type=Task&page=x",
        pytest.param(f"type=Task&pageSize={'9' * 5_000}", id="long size"),
        pytest.param(f"type=Task&page={'9' * 5_000}", id="long page"),
        pytest.param(f"type=Task&filter={'(' * 2_000}", id="open"),
        pytest.param(
            f"type=Task&filter={'(' * 400}State==Finished{')' * 400}", id="deep"
        ),
        "type=Nonsense",
        "",
    ],
)
async def test_a_query_that_cannot_be_read_is_400(query: str) -> None:
    """By the service's own error body; aiohttp's would show how it is made."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get(f"/api/query?{query}")
        assert got.status == 400
        assert got.names[0] == "Error"


def test_quotes_in_values_are_doubled() -> None:
    """The page on parameters: ``Name==""Backup""`` is the name "Backup" in quotes."""
    test = parse_filter('Name==""Backup""', ["Name"])
    assert test({"Name": '"Backup"'})
    test = parse_filter('Name=="a ""b"" c"', ["Name"])
    assert test({"Name": 'a "b" c'})
    assert not test({"Name": None})
    assert parse_filter("Name!=x", ["Name"])({})
    with pytest.raises(Refusal):
        parse_filter("Name;x", ["Name"])


async def test_sorting_goes_by_number_and_by_index() -> None:
    """task-10 comes after task-9; states go in their order, not by letters."""
    async with SimulatedServer() as server, Client(server.url) as client:
        for index in range(10):
            server.add_task(STATES[index % 3])
        await client.log_on()
        down = await client.get("/api/query?type=Task&sortDesc=TaskUid")
        assert found(down)[:2] == ["task-10", "task-9"]
        up = await client.get("/api/query?type=Task&sortAsc=State&pageSize=4")
        assert found(up) == ["task-1", "task-4", "task-7", "task-10"]


async def test_pages_and_their_links() -> None:
    """PagingInfo counts from 1; First, Prev, Next and Last repeat the whole query."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_tasks(5)
        await client.log_on()
        base = "/api/query?type=task&format=Entities&sortAsc=TaskId&pageSize=2"
        first = await client.get(base)
        assert first.names == ["QueryResult", "Resources", "PagingInfo"]
        assert paging(first) == {"PageNum": "1", "PageSize": "2", "PagesCount": "3"}
        assert list(links(first)) == ["First", "Next", "Last"]
        seen, target = found(first), links(first).get("Next")
        while target is not None:
            parts = urlsplit(target)
            got = await client.get(f"{parts.path}?{parts.query}")
            seen += found(got)
            target = links(got).get("Next")
        assert seen == [f"task-{number}" for number in range(1, 6)]
        assert list(links(got)) == ["First", "Prev", "Last"]
        asked = parse_qs(urlsplit(links(got)["Last"]).query)
        assert asked["page"] == ["3"]
        assert asked["sortAsc"] == ["TaskId"]
        beyond = await client.get(f"{base}&page=9")
        assert found(beyond) == []


async def test_the_default_page_holds_a_hundred() -> None:
    """So programs have seen it; clients must follow the pages."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.add_tasks(101)
        await client.log_on()
        got = await client.get("/api/query?type=Task")
        assert len(found(got)) == 100
        assert paging(got)["PagesCount"] == "2"


async def test_an_empty_result_has_no_pages() -> None:
    """Nothing found: no task, zero pages, links to the first."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get("/api/query?type=Task&filter=State==Finished")
        assert found(got) == []
        assert paging(got)["PagesCount"] == "0"


@pytest.mark.parametrize("version", ["9.5u4", "12", "13"])
async def test_query_results_in_json_double_the_plural(version: str) -> None:
    """Resources.Tasks.Tasks[]; unused members are null from 12 on."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        server.add_task("Finished")
        await client.log_on()
        got = (await client.get("/api/query?type=Task", JSON)).json
        if version == "13":
            assert got["resources"]["tasks"]["tasks"][0]["taskId"] == "task-1"
            assert got["refs"] is None
            assert got["pagingInfo"]["pagesCount"] == 1
            return
        assert got["Resources"]["Tasks"]["Tasks"][0]["TaskId"] == "task-1"
        assert ("Refs" in got) is (version == "12")
        assert got["PagingInfo"]["PageNum"] == 1


async def test_sessions_and_jobs_are_found_by_reference_and_entity() -> None:
    """Other types have both forms: Refs and Entities, in JSON doubled as well."""
    async with SimulatedServer() as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        for job in server.jobs[1:4]:
            await client.post(f"/api/{job.path}?action=start")
        jobs = await client.get(
            "/api/query?type=job&filter=name==%22Oracle%20Backup%22"
        )
        refs = jobs.xml.findall(f"{NAMESPACE}Refs/{NAMESPACE}Ref")
        assert [one.get("Name") for one in refs] == ["Oracle Backup"]
        got = await client.get(
            "/api/query?type=BackupJobSession&format=Entities&sortDesc=JobName"
            "&filter=State!=Stopped",
            JSON,
        )
        sessions = got.json["Entities"]["BackupJobSessions"]["BackupJobSessions"]
        assert [one["JobName"] for one in sessions] == [
            *("Oracle Backup", "Fileserver Backup", "DB Backup"),
        ]
        assert got.json["Refs"] is None
        nothing = await client.get("/api/query?type=Repository&format=Entities")
        assert nothing.xml.find(f".//{NAMESPACE}Repositories") is not None
        service = await client.get("/api/querySvc")
        assert service.names == ["QueryService", "Links"]


@pytest.mark.parametrize("version", ["9.5u4", "12", "13"])
@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        ("JobUid=={guid}", 2),
        ("(JobUID=={guid})", 2),
        ('JobUid=="urn:veeam:Job:{guid}"', 2),
        ("JobUid==urn:veeam:Job:{guid}", 2),
        ("JobUid==urn:veeam:Job:{other}", 0),
        ('JobName=="Oracle Backup"', 2),
        ("UID=={session}", 1),
        ("UID==urn:veeam:BackupJobSession:{session}", 1),
        ("UID=={session},UID=={second}", 2),
        ("CreationTime>{day}", 1),
        ('CreationTime>="{day}"', 1),
        ("CreationTime>={day}T00:00:00Z", 1),
        ('CreationTime>="{day}T00:00:00.123Z"', 1),
        ("CreationTime>={day}T00:00:00.1234567", 1),
        ("JobUid=={guid};CreationTime<{day}", 1),
        ("EndTime>=2000-01-01", 1),
        ("State==Stopped", 1),
        ("State!=Stopped;IsRetry==false", 1),
    ],
)
async def test_filters_that_clients_in_production_send(
    version: VersionName, filter_: str, count: int
) -> None:
    """Bare GUIDs and URNs; times with and without quotes, Z and fractions."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        job = server.jobs[1]
        now = server.add_session(job, "Working")
        old = server.add_session(job, "Working 1s, Stopped", started=-10 * 86_400)
        yesterday = server._clock.at(-86_400).strftime("%Y-%m-%d")
        asked = filter_.format(
            guid=job.job_id,
            other=server.jobs[2].job_id,
            session=now.session_id,
            second=old.session_id,
            day=yesterday,
        )
        got = await client.get(
            "/api/query?type=BackupJobSession&format=Entities"
            f"&sortDesc=CreationTime&filter={quote(asked)}"
        )
        assert got.status == 200
        assert len([*got.xml.iter(f"{NAMESPACE}BackupJobSession")]) == count


async def test_twenty_sessions_are_found_by_one_query() -> None:
    """Their UIDs in one filter, joined by or."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        made = [server.add_session(server.jobs[1], "Working") for _ in range(30)]
        filter_ = ",".join(f'UID=="{one.uid}"' for one in made[5:25])
        got = await client.get(
            "/api/query?type=BackupJobSession&format=Entities&pageSize=20"
            f"&filter={quote(filter_)}"
        )
        found = [one.get("UID") for one in got.xml.iter(f"{NAMESPACE}BackupJobSession")]
        assert found == [one.uid for one in made[5:25]]


async def test_what_is_no_time_is_400() -> None:
    """A filter by a time that cannot be read is refused."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get(
            "/api/query?type=BackupJobSession&filter=CreationTime>yesterday"
        )
        assert got.status == 400


@pytest.mark.parametrize(
    "query",
    [
        "type=CdpPolicy",
        "type=ManagedServer&filter=Name==x",
        "type=Backup&format=Entities&sortAsc=Name",
        "type=VmRestorePoint&filter=VmDisplayName==srv04&format=Entities",
        "type=CatalogVm",
        "type=AgentProtectionGroup&format=Entities",
        "type=CloudTenant&sortDesc=Name&pageSize=5",
    ],
)
async def test_a_documented_type_of_which_nothing_is_held_gives_nothing(
    query: str,
) -> None:
    """200 and an empty page, whatever its parameters are called."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        got = await client.get(f"/api/query?{query}")
        assert got.status == 200
        assert paging(got)["PagesCount"] == "0"


@pytest.mark.parametrize(
    ("version", "encoded"),
    [
        ("9.5u4", "%3d%3d%22Vrfpoller+Servers%22%3bresult%3d%3d%22Success%22"),
        ("12", "%3d%3d%22Vrfpoller+Servers%22%3bresult%3d%3d%22Success%22"),
        ("13", "%3D%3D%22Vrfpoller+Servers%22%3Bresult%3D%3D%22Success%22"),
    ],
)
async def test_paging_links_are_encoded_as_recorded(
    version: VersionName, encoded: str
) -> None:
    """The filter in percents, small letters until 12; then pageSize and page."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        asked = 'jobname=="Vrfpoller Servers";result=="Success"'
        got = await client.get(
            f"/api/query?type=BackupJobSession&format=entities&filter={quote(asked)}"
        )
        assert links(got)["First"] == (
            f"{server.url}/api/query?type=BackupJobSession&format=entities"
            f"&filter=jobname{encoded}&pageSize=100&page=1"
        )


@pytest.mark.parametrize("version", ["12", "13"])
async def test_a_query_result_names_every_type(version: VersionName) -> None:
    """Null but for the one asked for; paging has its links before its numbers."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        got = (
            await client.get("/api/query?type=BackupJobSession&format=Entities", JSON)
        ).json
        lower = {key.lower(): value for key, value in got.items()}
        assert [*lower] == ["refs", "entities", "resources", "links", "paginginfo"]
        sections = [*lower["entities"]]
        assert [one.lower() for one in sections[:3]] == [
            *("jobs", "failoverplans", "backups"),
        ]
        assert sections[-1].lower() == "systemsessions"
        assert len(sections) == 50
        filled = [one for one in sections if lower["entities"][one] is not None]
        assert [one.lower() for one in filled] == ["backupjobsessions"]
        assert [one.lower() for one in lower["paginginfo"]] == [
            *("links", "pagenum", "pagesize", "pagescount"),
        ]
