"""Job sessions of the simulated server: scripts, links, times, lateness, history."""

import re
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import pytest
from support.plain_client import JSON, NAMESPACE, Client, member, related

from veeam_tasks.simulator import JobSession, SessionScript, SimulatedServer
from veeam_tasks.simulator._version import VersionName

VERSIONS: tuple[VersionName, ...] = ("9.5u4", "12", "13")
SCRIPT = "Starting 1s, Working 20s, Postprocessing 3s, Stopped failed 'Disk full'"
GUID = "7caf66d5-f700-442c-9aa9-8867f031377f"


async def shown(client: Client, session: JobSession) -> tuple[str | None, ...]:
    """Return State, Result and Progress as the wire says them."""
    got = await client.get(f"/api/{session.path}?format=Entity")
    return tuple(got.text(name) for name in ("State", "Result", "Progress"))


def test_a_session_script_reads_and_prints_itself() -> None:
    """Its text says what it was made from; what is usual is left out."""
    script = SessionScript.parse(SCRIPT)
    assert str(script) == SCRIPT
    assert script.steps[-1].message == "Disk full"
    text = "Working 5s 34%, Stopping 2s, gone 1s, Stopped unsettled"
    assert str(SessionScript.parse(text)) == text
    assert str(SessionScript.parse("Stopped success")) == "Stopped"
    assert str(SessionScript.parse("Working 1s warning, Stopped none")) == (
        "Working 1s warning, Stopped none"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "begins with a state"),
        ("failed", "no state before it"),
        ("Working, Stopped", "needs a duration"),
        ("Working 1s, Stopped 2s", "lasts for ever"),
        ("Working 1s 2s, Stopped", "twice"),
        ("Working 1s maybe, Stopped", "1h, a progress such as 34%"),
        ("Wroking 1x, Stopped", "for 'Wroking', did you mean 'Working'"),
        ("gone 1s failed, Stopped", "nothing but a duration"),
    ],
)
def test_a_session_script_that_cannot_be_read_says_why(text: str, problem: str) -> None:
    """The message quotes the step and says what would do."""
    with pytest.raises(ValueError, match=problem):
        SessionScript.parse(text)


def test_a_misspelt_state_is_told_as_a_likely_slip() -> None:
    """Any word may be scripted, so it is a warning."""
    with pytest.warns(UserWarning, match="'Wroking'.*did you mean 'Working'"):
        SessionScript.parse("Wroking 1s, Stopped")
    SessionScript.parse("Whatever 1s, Stopped")


@pytest.mark.virtual_time
async def test_a_session_plays_its_script() -> None:
    """Any word shows, progress grows, the State alone ends it."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job("Nightly", session=SCRIPT)
        await client.log_on()
        session = server.add_session(job)
        assert await shown(client, session) == ("Starting", "None", "0")
        await anyio.sleep(13)
        assert await shown(client, session) == ("Working", "None", "54")
        await anyio.sleep(9)
        assert await shown(client, session) == ("Postprocessing", "None", "91")
        await anyio.sleep(3)
        assert await shown(client, session) == ("Stopped", "Failed", "100")
        endless = server.add_session(job, "Working 5s 34%, Idle")
        await anyio.sleep(86_400)
        client.close()
        await client.log_on()
        assert await shown(client, endless) == ("Idle", "None", "100")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_without_a_result_has_the_word_none_or_nothing(
    version: VersionName,
) -> None:
    """Stopped with the word None, with no Result, or with a word of tomorrow."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        job = server.add_job("Nightly")
        await client.log_on()
        none = server.add_session(job, "Stopped none")
        assert await shown(client, none) == ("Stopped", "None", "100")
        absent = server.add_session(job, "Stopped unsettled")
        assert await shown(client, absent) == ("Stopped", None, "100")
        got = (await client.get(f"/api/{absent.path}?format=Entity", JSON)).json
        found = {key.lower(): value for key, value in got.items()}
        assert found.get("result") is None
        assert ("result" in found) is (version != "9.5u4")
        none.set_state("Stopped", result="Better")
        assert await shown(client, none) == ("Stopped", "Better", "100")


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        (
            "9.5u4",
            (
                "IsRetry JobUid JobName JobType CreationTimeUTC EndTimeUTC State Result"
                " Progress Name UID Links Href Type"
            ),
        ),
        (
            "12",
            (
                "IsRetry JobUid JobName JobType CreationTimeUTC EndTimeUTC State Result"
                " Progress FailureMessage Name UID Links Href Type"
            ),
        ),
        (
            "13",
            (
                "isRetry jobUid jobName jobType creationTimeUTC endTimeUTC state result"
                " progress failureMessage name uid links href type"
            ),
        ),
    ],
)
async def test_the_keys_of_a_backup_session_in_their_recorded_order(
    version: VersionName, keys: str
) -> None:
    """As captures of 9.5 Update 4, 12.3 and 13.0 have them."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Stopped failed 'Disk full'")
        got = (await client.get(f"/api/{session.path}?format=Entity", JSON)).json
        assert list(got) == keys.split()
        assert member(got, "IsRetry") is False
        assert member(got, "Progress") == 100
        # Null in every capture, also of a job session that failed.
        assert {key.lower(): got[key] for key in got}.get("failuremessage") is None


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_links_of_a_backup_session_in_their_recorded_order(
    version: VersionName,
) -> None:
    """Up server with its Name, Up job, Alternate, Down, Stop, then restore points."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Stopped")
        got = await client.get(f"/api/{session.path}?format=Entity")
        links = [(one.get("Rel"), one.get("Type")) for one in got.xml[0]]
        assert links == [
            ("Up", "BackupServerReference"),
            ("Up", "JobReference"),
            ("Alternate", "BackupJobSessionReference"),
            ("Down", "BackupTaskSessionReferenceList"),
            ("Stop", None),
            ("Related", "RestorePointReference"),
        ]
        assert got.xml[0][0].get("Name") == server.backup_server.name
        point = urlsplit(got.xml[0][-1].get("Href")).path
        assert (await client.get(f"{point!s}")).names[0] == "EntityRef"
        failed = server.add_session(server.jobs[1], "Stopped failed")
        got = await client.get(f"/api/{failed.path}?format=Entity")
        assert len(got.xml[0]) == 5


@pytest.mark.parametrize(
    ("version", "time", "name"),
    [
        ("9.5u4", r"T\d\d:\d\d:\d\dZ", r" \d\d:\d\d:\d\d"),
        ("12", r"T\d\d:\d\d:\d\d(\.\d{1,3})?Z", r" \d\d:\d\d:\d\d"),
        ("13", r"T\d\d:\d\d:\d\d(\.\d{1,6})?Z", r" \d\d:\d\d:\d\d(\.\d{1,6})?"),
    ],
)
async def test_times_have_the_fraction_of_their_version(
    version: VersionName, time: str, name: str
) -> None:
    """None, up to milliseconds, up to microseconds; zeros at the end are dropped."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        await client.log_on()
        lengths = set()
        for started in (-0.1, -0.123456, -1.0, -0.27, -0.3333):
            session = server.add_session(server.jobs[1], "Working", started=started)
            got = await client.get(f"/api/{session.path}?format=Entity")
            said = got.text("CreationTimeUTC") or ""
            assert re.search(f"{time}$", said)
            assert not re.search(r"0Z$", said.rpartition(".")[2]) or "." not in said
            assert re.search(f"@[-0-9]{{10}}{name}$", got.xml.get("Name") or "")
            lengths.add(len(said))
        assert len(lengths) == 1 or version != "9.5u4"


@pytest.mark.virtual_time
async def test_a_session_is_unknown_until_its_delay_has_passed() -> None:
    """Not by its ID, in a collection, in a query; then in all of them."""
    async with (
        SimulatedServer(session_delay=30, job_links="always") as server,
        Client(server.url) as client,
    ):
        server.set_script("Finished")
        await client.log_on()
        job = server.jobs[1]
        started = await client.post(f"/api/{job.path}?action=start")
        path = urlsplit(related(started)[0]["Href"]).path
        query = f"/api/query?type=BackupJobSession&filter=JobUid=={job.job_id}"

        async def counts() -> list[int]:
            counted = [(await client.get(f"{path}?format=Entity")).status]
            counted.append(len((await client.get("/api/backupSessions")).xml))
            of_job = await client.get(f"/api/{job.path}/backupSessions")
            counted.append(len(of_job.xml))
            refs = (await client.get(query)).xml.iter(f"{NAMESPACE}Ref")
            return [*counted, len(list(refs))]

        assert await counts() == [404, 0, 0, 0]
        await anyio.sleep(29)
        assert await counts() == [404, 0, 0, 0]
        await anyio.sleep(1)
        assert await counts() == [200, 1, 1, 1]
        assert server.job_sessions[0].is_known


async def test_an_unknown_session_may_be_500_instead_of_404() -> None:
    """Nothing public says which; both come with the server's own error body."""
    for status in (404, 500):
        async with (
            SimulatedServer(unknown_session=status) as server,
            Client(server.url) as client,
        ):
            await client.log_on()
            for path in ("backupSessions", "restoreSessions", "backupTaskSessions"):
                got = await client.get(f"/api/{path}/{GUID}?format=Entity")
                assert (got.status, got.names[0]) == (status, "Error")


@pytest.mark.virtual_time
async def test_states_are_frozen_between_two_collections() -> None:
    """With an interval, a job session appears and moves when a collection has ended."""
    async with (
        SimulatedServer(collect_interval=900, collect_seconds=18) as server,
        Client(server.url) as client,
    ):
        await client.log_on()
        await anyio.sleep(1)  # what is there at the start was collected
        session = server.add_session(server.jobs[1], "Working 100s, Stopped")
        path = f"/api/{session.path}?format=Entity"
        await anyio.sleep(599)
        client.close()
        assert session.state == "Stopped"
        assert (await client.get(path)).status == 404
        await anyio.sleep(317)
        client.close()
        assert (await client.get(path)).status == 404
        await anyio.sleep(1)
        assert await shown(client, session) == ("Stopped", "Success", "100")
        later = server.add_session(server.jobs[2], "Working 40s, Stopped warning")
        server.set_script("Finished")
        collect = f"/api/{server.backup_server.path}?action=collect"
        started = await client.post(collect)
        assert started.text("Result/Message") == (
            "Data collection started. To view results, go to Sessions."
        )
        await anyio.sleep(18)
        assert await shown(client, later) == ("Working", "None", "45")
        await anyio.sleep(60)
        assert await shown(client, later) == ("Working", "None", "45")
        await client.post(collect)
        await anyio.sleep(18)
        assert await shown(client, later) == ("Stopped", "Warning", "100")


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_collection_is_a_system_session(version: VersionName) -> None:
    """InProgress, then CompletedSuccessfully with a Result; its events have no Z."""
    async with SimulatedServer(version=version) as server, Client(server.url) as client:
        server.set_script("Finished")
        await client.log_on()
        assert (await client.get("/api/systemSessions")).names == ["EntityReferences"]
        await client.post(f"/api/{server.backup_server.path}?action=collect")
        got = await client.get("/api/systemSessions?format=Entity")
        assert got.names == ["SystemSessions", "SystemSession"]
        assert got.text("SystemSession/State") == "InProgress"
        assert got.text("SystemSession/SessionType") == "CollectJob"
        assert got.text("SystemSession/EndTimeUTC") is None
        await anyio.sleep(18)
        path = urlsplit(got.xml[0].get("Href")).path
        one = await client.get(f"{path!s}?format=Entity")
        assert one.text("State") == "CompletedSuccessfully"
        assert one.text("Result/Result") == "CompletedSuccessfully"
        assert one.text("Result/IsCanceled") == "false"
        events = await client.get(f"{path!s}/events")
        assert events.names == ["SystemSessionEvents", "Links", *["Events"] * 3]
        assert "Z" not in (events.text("Events/CreationTimeUTC") or "Z")
        refs = (await client.get("/api/systemSessions", JSON)).json
        assert len(member(refs, "Refs")) == 1


async def test_a_job_has_a_history_over_several_pages() -> None:
    """A run a day, each fifth failed and retried ten minutes later, all Stopped."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job("Nightly", history=250)
        await client.log_on()
        query = (
            "/api/query?type=BackupJobSession&format=Entities&sortDesc=CreationTime"
            f"&filter=JobUid=={job.job_id}"
        )
        got = await client.get(query)
        info = got.xml.find(f"{NAMESPACE}PagingInfo")
        assert info is not None
        assert info.get("PagesCount") == "3"
        sessions = [*got.xml.iter(f"{NAMESPACE}BackupJobSession")]
        assert len(sessions) == 100
        times = [one.findtext(f"{NAMESPACE}CreationTimeUTC") or "" for one in sessions]
        assert times == sorted(times, reverse=True)
        assert {one.findtext(f"{NAMESPACE}State") for one in sessions} == {"Stopped"}
        failed = await client.get(f"{query};Result==Failed")
        assert len([*failed.xml.iter(f"{NAMESPACE}BackupJobSession")]) == 50
        retried = await client.get(f"{query};IsRetry==true")
        assert len([*retried.xml.iter(f"{NAMESPACE}BackupJobSession")]) == 50


async def test_the_last_run_of_a_job_that_fails_failed_too() -> None:
    """It was not retried with success, and its machine says why it failed."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job("Nightly", result="Failed", history=7)
        await client.log_on()
        mine = [one for one in server.job_sessions if one.job is job]
        mine.sort(key=lambda one: one.created)
        assert [one.result for one in mine][-3:] == ["Success", "Success", "Failed"]
        got = await client.get(f"/api/{mine[-1].path}/taskSessions?format=Entity")
        reason = got.xml.findtext(f".//{NAMESPACE}Reason")
        assert reason == (
            "Processing srv01 Error: There is not enough space on the disk."
        )


@pytest.mark.virtual_time
async def test_an_old_session_may_appear_late() -> None:
    """Then its CreationTime alone tells it from the run that was just started."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        job = server.jobs[1]
        old = server.add_session(job, "Working 60s, Stopped", started=-3600, appears=5)
        path = f"/api/{job.path}/backupSessions?format=Entity"
        assert (await client.get(path)).names == ["BackupJobSessions"]
        await anyio.sleep(5)
        got = await client.get(path)
        assert got.text("BackupJobSession/State") == "Stopped"
        assert got.xml[0].get("UID") == old.uid
        old.vanish()
        assert (await client.get(path)).names == ["BackupJobSessions"]
        old.come_back()
        assert len((await client.get(path)).xml) == 1


@pytest.mark.parametrize("skew", [-90.0, 0.0, 3600.0])
async def test_the_backup_server_has_a_clock_of_its_own(skew: float) -> None:
    """CreationTime is by its clock, the Date header by the Enterprise Manager's."""
    from datetime import datetime
    from email.utils import parsedate_to_datetime

    async with SimulatedServer(clock_skew=skew) as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Working")
        got = await client.get(f"/api/{session.path}?format=Entity")
        date = parsedate_to_datetime(got.header("Date") or "")
        created = datetime.fromisoformat(got.text("CreationTimeUTC") or "")
        assert abs((created - date).total_seconds() - skew) < 3


@pytest.mark.virtual_time
async def test_the_date_header_keeps_to_the_server_s_clock_or_is_missing() -> None:
    """An hour of virtual time is an hour in the header."""
    from email.utils import parsedate_to_datetime

    async with SimulatedServer() as server, Client(server.url) as client:
        first = parsedate_to_datetime((await client.get("/api/")).header("Date") or "")
        await anyio.sleep(3600)
        client.close()
        later = parsedate_to_datetime((await client.get("/api/")).header("Date") or "")
        assert abs((later - first).total_seconds() - 3600) < 2
    async with (
        SimulatedServer(date_header=False) as server,
        Client(server.url) as client,
    ):
        assert (await client.get("/api/")).header("Date") is None


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("links", "kind", "seconds", "message"),
    [
        ("documented", "Backup", None, 'Job "Nightly" triggered to start.'),
        ("documented", "NasBackup", None, 'Job "Nightly" triggered to start.'),
        ("documented", "AgentBackup", 0, "Ok"),
        ("always", "Backup", 0, "Ok"),
        ("always", "Replica", 0, "Ok"),
        ("never", "AgentBackup", None, 'Job "Nightly" triggered to start.'),
        ("late", "Backup", 12, "Ok"),
    ],
)
async def test_the_task_of_a_started_job_links_to_its_session_or_not(
    links: Any, kind: Any, seconds: float | None, message: str
) -> None:
    """Two real variants: triggered without a link, Ok with one, at once or late."""
    async with (
        SimulatedServer(job_links=links, link_delay=12) as server,
        Client(server.url) as client,
    ):
        server.set_script("Finished")
        job = server.add_job("Nightly", kind=kind)
        await client.log_on()
        word = "/start" if kind == "NasBackup" else "?action=start"
        started = await client.post(f"/api/{job.path}{word}")
        assert started.text("Result/Message") == message
        (session,) = server.job_sessions
        link = session.path
        if kind == "AgentBackup":
            link = f"agents/backupSessions/{session.session_id}"
        for waited in (0.0, 11.0, 1.0, 600.0):
            await anyio.sleep(waited)
            client.close()
            links_now = related(await client.get("/api/tasks/task-1"))
            is_due = seconds is not None and server._clock.now() >= seconds
            assert [one["Href"] for one in links_now] == (
                [f"{server.url}/api/{link}?format=Entity"] if is_due else []
            )


async def test_retries_and_stops_have_no_link() -> None:
    """In none of the samples; a retry is a job session all the same."""
    async with (
        SimulatedServer(job_links="always") as server,
        Client(server.url) as client,
    ):
        server.set_script("Finished")
        await client.log_on()
        job = server.jobs[1]
        assert related(await client.post(f"/api/{job.path}?action=retry")) == []
        (session,) = server.job_sessions
        assert session.is_retry
        assert related(await client.post(f"/api/{job.path}?action=stop")) == []
        assert session.state == "Stopping"


@pytest.mark.virtual_time
async def test_a_session_begins_when_its_task_has_succeeded_and_not_before() -> None:
    """A start that fails makes none; OperationFinished means done at the server."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        job = server.jobs[1]
        await client.post(f"/api/{job.path}?action=start")
        assert server.job_sessions == []
        await anyio.sleep(1.9)
        assert server.job_sessions == []
        await anyio.sleep(0.2)
        (session,) = server.job_sessions
        assert server.task("task-1").state == "OperationFinished"
        assert session.created == pytest.approx(2)
        server.set_script("Running 1s, OperationFinished 1s, Finished failed 'No'")
        await client.post(f"/api/{server.jobs[2].path}?action=start")
        await anyio.sleep(60)
        client.close()
        assert server.job_sessions == [session]
        again = server.add_task("Running", job=server.jobs[2])
        again.finish()
        assert [one.job for one in server.job_sessions[1:]] == [server.jobs[2]]


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("running_job", "success", "count"),
    [("refused", "false", 1), ("ignored", "true", 1), ("started", "true", 2)],
)
async def test_starting_a_running_job_is_refused_or_begins_nothing(
    running_job: Any, success: str, count: int
) -> None:
    """Nothing public says which; also while the first start is still under way."""
    async with (
        SimulatedServer(running_job=running_job) as server,
        Client(server.url) as client,
    ):
        await client.log_on()
        path = f"/api/{server.jobs[1].path}?action=start"
        await client.post(path)
        await client.post(path)
        await anyio.sleep(10)
        got = await client.get("/api/tasks/task-2")
        assert got.xml[-1].get("Success") == success
        assert len(server.job_sessions) == count
        await anyio.sleep(60)
        client.close()
        await client.post(path)
        await anyio.sleep(10)
        assert len(server.job_sessions) == count + 1


@pytest.mark.parametrize(
    ("path", "kind", "job_type", "name"),
    [
        (
            f"vmRestorePoints/{GUID}?action=restore",
            "RestoreSession",
            "RestoreVm",
            "srv",
        ),
        (f"vmReplicaPoints/{GUID}?action=failover", "RestoreSession", "RestoreVm", "s"),
        (
            f"catalog/vms/db01/vmRestorePoints/{GUID}/guestfs/c:/a?action=restore",
            "RestoreSession",
            "FileLevelRestore",
            "FLR_[db01]",
        ),
        (
            f"cloud/cloudFailoverPlans/{GUID}?action=test",
            "CloudFailoverSession",
            "FailoverPlan",
            "Failover Plan 7caf66d5",
        ),
        (f"backupServers/{GUID}?action=quickbackup", "BackupJobSession", "Backup", "Q"),
        (
            f"backupServers/{GUID}?action=veeamzip",
            "BackupJobSession",
            "Backup",
            "Veeam",
        ),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
async def test_restores_and_failovers_link_to_sessions_of_their_kind(
    version: VersionName, path: str, kind: str, job_type: str, name: str
) -> None:
    """RestoreVm for machines, FileLevelRestore for files, a plan's own session."""
    async with (
        SimulatedServer(version=version, any_id=True) as server,
        Client(server.url) as client,
    ):
        server.set_script("Finished")
        await client.log_on()
        (link,) = related(await client.post(f"/api/{path}"))
        assert link["Type"] == kind
        parts = urlsplit(link["Href"])
        got = await client.get(f"{parts.path}?{parts.query}")
        assert got.names[0] == kind
        assert got.text("JobType") == job_type
        assert (got.xml.get("Name") or "").startswith(name)
        assert got.xml[0][0].get("Type") == "BackupServerReference"
        if kind == "CloudFailoverSession":
            inner = got.xml.findall(f"{NAMESPACE}CloudFailoverTasks/*")
            assert [one.get("VmName") for one in inner] == ["srv01", "srv02"]
            assert link["Name"] == got.xml.get("Name")
        if kind == "RestoreSession":
            assert [one.get("Rel") for one in got.xml[0]] == ["Up", "Alternate"]


@pytest.mark.parametrize(
    ("kind", "folder", "uid", "job_uid", "up"),
    [
        ("AgentBackup", "agents", "AgentBackupJob", "AgentBackupJob", "agents/jobs"),
        ("NasBackup", "nas", "NasJob", "Job", "jobs"),
    ],
)
async def test_agent_and_nas_jobs_have_paths_and_uids_of_their_own(
    kind: Any, folder: str, uid: str, job_uid: str, up: str
) -> None:
    """A NAS job session names its job otherwise than the job names itself."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job("Other", kind=kind)
        await client.log_on()
        session = server.add_session(job, "Working")
        server.add_session(server.jobs[1], "Working")
        one = await client.get(f"/api/{folder}/jobs/{job.job_id}?format=Entity")
        assert one.xml.get("UID") == f"urn:veeam:{uid}:{job.job_id}"
        assert (await client.get(f"/api/jobs/{job.job_id}")).status == 404
        for path in (
            f"{folder}/backupSessions",
            f"{folder}/jobs/{job.job_id}/backupSessions",
        ):
            got = await client.get(f"/api/{path}?format=Entity")
            assert got.names == ["BackupJobSessions", "BackupJobSession"]
        assert got.text("BackupJobSession/JobType") == kind
        assert (
            got.text("BackupJobSession/JobUid") == f"urn:veeam:{job_uid}:{job.job_id}"
        )
        assert (got.xml[0][0][1].get("Href") or "").endswith(f"/api/{up}/{job.job_id}")
        for path in (f"{folder}/backupSessions", "backupSessions"):
            single = await client.get(f"/api/{path}/{session.session_id}?format=Entity")
            assert single.xml.get("UID") == session.uid
        assert len((await client.get("/api/backupSessions")).xml) == 2
        found = await client.get(f"/api/query?type={uid}&filter=Name==Other")
        assert len([*found.xml.iter(f"{NAMESPACE}Ref")]) == 1


async def test_sessions_survive_the_logon_session_and_a_restart() -> None:
    """They belong to the backup server; tasks alone belong to the logon session."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Working")
        server.restart()
        client.close()
        await client.log_on()
        assert await shown(client, session) == ("Working", "None", "0")
        by_name = quote(f'JobName=="{server.jobs[1].name}"')
        found = await client.get(f"/api/query?type=BackupJobSession&filter={by_name}")
        assert len([*found.xml.iter(f"{NAMESPACE}Ref")]) == 1


async def test_collections_hold_thirty_days_and_queries_more() -> None:
    """An older run is found by a query alone; its machines likewise."""
    async with SimulatedServer() as server, Client(server.url) as client:
        job = server.add_job("Nightly", history=40)
        await client.log_on()
        for path, count in (
            ("backupSessions", 30 + 6),
            (f"{job.path}/backupSessions", 30 + 6),
            ("backupTaskSessions", 2 * (30 + 6)),
        ):
            listed = await client.get(f"/api/{path}")
            # The retry of the oldest failure is ten minutes younger than 30 days.
            assert count - 3 <= len(listed.xml) <= count
        found = await client.get(
            f"/api/query?type=BackupJobSession&filter=JobUid=={job.job_id}"
        )
        assert len([*found.xml.iter(f"{NAMESPACE}Ref")]) == 40 + 8


async def test_workers_and_children_are_sessions_but_no_runs() -> None:
    """A worker has a JobUid and a name of its own, a child a JobType of its own."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        copy = server.add_job("Copy Job", kind="ImmediateBackupCopy")
        run = server.add_session(copy, "Working")
        worker = server.add_session(
            copy, "Working", job_type="ImmediateBackupCopyWorker"
        )
        got = await client.get(f"/api/{worker.path}?format=Entity")
        assert got.text("JobType") == "ImmediateBackupCopyWorker"
        assert (got.text("JobName") or "").startswith("Copy Job\\\\Copy Job - ")
        assert copy.job_id not in (got.text("JobUid") or "")
        query = f"/api/query?type=BackupJobSession&filter=JobUid=={copy.job_id}"
        refs = [*(await client.get(query)).xml.iter(f"{NAMESPACE}Ref")]
        assert [one.get("UID") for one in refs] == [run.uid]
        agent = server.jobs[4]
        parent = server.add_session(agent, "Working")
        child = server.add_session(agent, "Working", job_type="AgentManagement")
        ref = await client.get(f"/api/backupSessions/{parent.session_id}")
        rels = [(one.get("Rel"), one.get("Type")) for one in ref.xml[0]]
        assert ("Alternate", "BackupJobSessionReferenceList") in rels
        listed = await client.get(f"/api/{parent.path}/agentManagementSessions")
        assert [one.get("UID") for one in listed.xml] == [child.uid]


@pytest.mark.virtual_time
async def test_what_happened_earlier_comes_first_whoever_looks_late() -> None:
    """A stop whose task was made first ends the run that began before it."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        job = server.jobs[1]
        server.set_script("Running 5s, Finished", operation="StopJob")
        server.set_script("Running 1s, Finished", operation="StartJob")
        await client.post(f"/api/{job.path}?action=stop")
        await client.post(f"/api/{job.path}?action=start")
        await anyio.sleep(10)
        (session,) = server.job_sessions
        assert (session.state, session.result) == ("Stopped", "Failed")
        assert session.created == pytest.approx(1)


@pytest.mark.virtual_time
async def test_stopping_twice_does_not_begin_the_stop_anew() -> None:
    """Two seconds after the first stop it is Stopped."""
    async with SimulatedServer() as server, Client(server.url) as client:
        await client.log_on()
        session = server.add_session(server.jobs[1], "Working 60s, Stopped")
        session.stop()
        await anyio.sleep(1.5)
        session.stop()
        assert session.state == "Stopping"
        await anyio.sleep(0.6)
        assert session.state == "Stopped"
        assert await shown(client, session) == ("Stopped", "Failed", "0")
