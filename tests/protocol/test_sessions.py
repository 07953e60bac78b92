"""Job sessions and task sessions are read from the shapes that servers were seen with.

The bodies are retyped from the vendor's reference pages and from published captures of
9.5 Update 4, 10, 12 and 13, shortened, with whole GUIDs.
"""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import MalformedReplyError, VeeamTasksError
from veeam_tasks._model import SessionResult, SessionState
from veeam_tasks._protocol import sessions
from veeam_tasks._protocol.messages import Reply
from veeam_tasks._redaction import Secrets

GUID = "d67d6ac3-3d5e-4a48-8c2a-6f4f1d0b7e11"
JOB = "1c29a0ac-7e4e-4a0b-9f45-6c7b1a0d2e33"

RESTORE_WORKING = f"""\
<RestoreSession xmlns="http://www.veeam.com/ent/v1.0"
 Href="https://em:9398/api/restoreSessions/{GUID}?format=Entity" Type="RestoreSession"
 Name="srv04" UID="urn:veeam:RestoreSession:{GUID}" VmDisplayName="srv04">
 <Links><Link Rel="Up" Type="BackupServerReference" Name="vbr01"
  Href="https://em:9398/api/backupServers/5a"/>
 <Link Rel="Alternate" Type="RestoreSessionReference"
  Href="https://em:9398/api/restoreSessions/{GUID}"/></Links>
 <JobType>RestoreVm</JobType>
 <CreationTimeUTC>2025-10-21T17:10:02.017Z</CreationTimeUTC>
 <State>Working</State><Result>None</Result><Progress>64</Progress></RestoreSession>
"""

BACKUP_13 = f"""\
{{"isRetry": true, "jobUid": "urn:veeam:Job:{JOB}", "jobName": "H3_Daily",
 "jobType": "Backup", "creationTimeUTC": "2026-06-16T06:33:10.659559Z",
 "endTimeUTC": "2026-06-16T06:38:51.134519Z", "state": "Stopped", "result": "Success",
 "progress": 100, "failureMessage": null,
 "name": "H3_Daily@2026-06-16 06:33:10.659559",
 "uid": "urn:veeam:BackupJobSession:{GUID}",
 "links": [{{"rel": "Up", "type": "BackupServerReference", "href": "https://em/a"}},
  {{"rel": "Up", "type": "JobReference", "href": "https://em/b"}},
  {{"rel": "Alternate", "href": "https://em/c"}},
  {{"rel": "Down", "type": "BackupTaskSessionReferenceList", "href": "https://em/d"}},
  {{"rel": "Stop", "href": "https://em/e"}}], "href": "https://em/x", "type":
 "BackupJobSession"}}
"""

TASKS_12 = f"""\
{{"BackupTaskSessions": [{{"JobSessionUid": "urn:veeam:BackupJobSession:{GUID}",
 "State": "Completed", "Result": "Success", "Reason": "", "TotalSize": 0,
 "VmUid": "urn:VMware:Vm:{JOB}.vm-1411027", "VmDisplayName": "MYHOST",
 "CreationTimeUTC": "2026-06-15T05:50:19.807Z",
 "EndTimeUTC": "2026-06-15T05:50:44.62Z"}}]}}
"""


def reply(body: str | bytes, content_type: str = "") -> Reply:
    """Return a 200 with this body."""
    data = body if isinstance(body, bytes) else body.encode()
    kind = content_type or ("json" if data.lstrip().startswith(b"{") else "xml")
    return Reply(
        request="GET https://em:9398/api/x",
        status=200,
        content_type=f"application/{kind}",
        body=data,
    )


def decoded(body: str) -> sessions.JobSession:
    """Return the job session of a body."""
    return sessions.decode_session(reply(body), Secrets())


def test_a_working_restore_of_13_1_is_read_from_xml() -> None:
    """A restore has a machine and no job; while it works its result is None."""
    found = decoded(RESTORE_WORKING)
    assert found.kind == "RestoreSession"
    assert found.session_id == GUID
    assert (found.vm_name, found.job_name, found.job_uid) == ("srv04", None, None)
    assert (found.state, found.result) == (SessionState.WORKING, SessionResult.NONE)
    assert (found.progress, found.ended_at, found.is_retry) == (64, None, None)
    assert found.created_at == datetime(2025, 10, 21, 17, 10, 2, 17000, tzinfo=UTC)
    assert [link.rel for link in found.links] == ["Up", "Alternate"]
    assert found.href is not None
    assert found.href.endswith("?format=Entity")
    assert (found.is_ended, found.succeeded, found.has_warnings) == (False, None, False)


def test_an_ended_backup_of_13_is_read_from_camel_case() -> None:
    """Version 13 writes camelCase and microseconds, and nulls for what is absent."""
    found = decoded(BACKUP_13)
    assert found.kind == "BackupJobSession"
    assert (found.job_name, found.job_type) == ("H3_Daily", "Backup")
    assert found.is_retry is True
    assert found.ended_at == datetime(2026, 6, 16, 6, 38, 51, 134519, tzinfo=UTC)
    assert (found.raw_state, found.raw_result) == ("Stopped", "Success")
    assert found.succeeded is True
    assert found.failure_message is None
    assert [link.rel for link in found.links].count("Up") == 2


def test_a_session_of_9_5_u4_without_failure_message_and_fraction_is_read() -> None:
    """Version 9.5u4 leaves absent members out and writes whole seconds."""
    body = f"""{{"JobUid":"urn:veeam:Job:{JOB}","JobName":"Daily","JobType":"Backup",
    "CreationTimeUTC":"2019-03-02T04:00:11Z","EndTimeUTC":"2019-03-02T06:26:40Z",
    "State":"Stopped","Result":"Failed","Progress":100,"IsRetry":false,
    "Href":"http://em:9399/api/backupSessions/{GUID}?format=Entity",
    "Type":"BackupJobSession","Name":"Daily@2019-03-02 04:00:11",
    "UID":"urn:veeam:BackupJobSession:{GUID}"}}"""
    found = decoded(body)
    assert found.succeeded is False
    assert found.progress == 100
    assert found.created_at == datetime(2019, 3, 2, 4, 0, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-06-16T06:33:10Z", 0),
        ("2026-06-16T06:33:10.7Z", 700000),
        ("2026-06-16T06:33:10.62Z", 620000),
        ("2026-06-16T06:33:10.003406Z", 3406),
        ("2026-06-16T06:33:10.1234567Z", 123456),
        ("2026-06-16T06:33:10.94", 940000),
    ],
)
def test_times_have_none_to_seven_digits(text: str, microsecond: int) -> None:
    """A fraction has any length, and a time without Z is UTC too."""
    expected = datetime(2026, 6, 16, 6, 33, 10, microsecond, tzinfo=UTC)
    assert sessions.time_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "1900-01-01T00:00:00Z",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59.9999999-05:00",
        "x",
    ],
)
def test_nonsense_for_a_time_is_none(text: str) -> None:
    """Working copy jobs end in 1900 or in the year 1: that is no time.

    Nor is the last one that there is: five hours later there is no datetime.
    """
    assert sessions.time_of(text) is None


def test_unknown_words_are_kept() -> None:
    """States and results are open sets."""
    body = RESTORE_WORKING.replace(">Working<", ">Postprocessing<").replace(
        ">None<", ">Partial<"
    )
    found = decoded(body)
    assert (found.state, found.raw_state) == (SessionState.UNKNOWN, "Postprocessing")
    assert (found.result, found.raw_result) == (SessionResult.UNKNOWN, "Partial")


@pytest.mark.parametrize("word", ["Success", "Warning", "Failed", "None", "Odd", ""])
def test_what_a_result_means_once_stopped(word: str) -> None:
    """Warning is a success with remarks; no result and an unknown one are neither."""
    result = f"<Result>{word}</Result>" if word else ""
    body = RESTORE_WORKING.replace("<Result>None</Result>", result).replace(
        ">Working<", ">Stopped<"
    )
    found = decoded(body)
    meaning = {"Success": True, "Warning": True, "Failed": False}
    assert found.is_ended
    assert found.succeeded is meaning.get(word)
    assert found.has_warnings is (word == "Warning")


@pytest.mark.parametrize(
    ("text", "progress"),
    [("0", 0), ("100", 100), ("101", None), ("-1", None), ("", None)],
)
def test_progress_is_a_percentage_or_none(text: str, progress: int | None) -> None:
    """A progress outside of 0 to 100 is none; samples of 2013 have none at all."""
    body = RESTORE_WORKING.replace(">64<", f">{text}<")
    assert decoded(body).progress == progress
    assert decoded(body.replace(f"<Progress>{text}</Progress>", "")).progress is None


def test_a_reference_without_a_state_is_no_job_session() -> None:
    """Without format=Entity comes a reference that has links only."""
    body = f"""<EntityRef xmlns="http://www.veeam.com/ent/v1.0" Type=
    "BackupJobSessionReference" UID="urn:veeam:BackupJobSession:{GUID}"><Links/>
    </EntityRef>"""
    with pytest.raises(MalformedReplyError, match="format=Entity"):
        decoded(body)


def test_a_task_is_no_job_session() -> None:
    """What is of another type is refused, whatever State it has."""
    body = """<Task xmlns="http://www.veeam.com/ent/v1.0" Type="Task">
    <TaskId>task-1</TaskId><State>Running</State></Task>"""
    with pytest.raises(MalformedReplyError, match="no job session"):
        decoded(body)


def test_task_sessions_of_12_are_read_from_json() -> None:
    """A collection has the plural once; an empty reason is none."""
    page = sessions.decode_task_sessions(reply(TASKS_12), Secrets())
    (machine,) = page.sessions
    assert (machine.vm_name, machine.reason) == ("MYHOST", None)
    assert (machine.is_ended, machine.succeeded, machine.size) == (True, True, 0)
    assert machine.ended_at == datetime(2026, 6, 15, 5, 50, 44, 620000, tzinfo=UTC)


def test_in_progress_with_success_has_not_ended() -> None:
    """A task session of version 10 said InProgress and Success at once."""
    body = TASKS_12.replace('"Completed"', '"InProgress"')
    (machine,) = sessions.decode_task_sessions(reply(body), Secrets()).sessions
    assert machine.result is SessionResult.SUCCESS
    assert (machine.is_ended, machine.succeeded) == (False, None)


def test_task_sessions_are_read_from_xml_one_or_many() -> None:
    """One element and several are the same list."""
    one = f"""<BackupTaskSession Type="BackupTaskSession" VmDisplayName="srv"
    UID="urn:veeam:BackupTaskSession:{GUID}"><State>Completed</State>
    <Result>Failed</Result><Reason>Disk full</Reason></BackupTaskSession>"""
    for number in (0, 1, 2):
        body = (
            '<BackupTaskSessions xmlns="http://www.veeam.com/ent/v1.0">'
            f"{one * number}</BackupTaskSessions>"
        )
        found = sessions.decode_task_sessions(reply(body), Secrets()).sessions
        assert [machine.reason for machine in found] == ["Disk full"] * number


def test_a_query_of_12_doubles_the_plural_and_names_every_type() -> None:
    """The types that were not asked for are null."""
    session = BACKUP_13.replace("isRetry", "IsRetry")
    body = f"""{{"Refs":null,"Entities":{{"Jobs":null,"ReplicaJobSessions":null,
    "BackupJobSessions":{{"BackupJobSessions":[{session}]}}}},"Resources":null,
    "Links":null,"PagingInfo":{{"Links":[{{"Rel":"First","Href":"http://em/api/query?a"}},
    {{"Rel":"Next","Href":"http://em:9399/api/query?type=BackupJobSession&page=2"}}],
    "PageNum":1,"PageSize":100,"PagesCount":2}}}}"""
    page = sessions.decode_sessions(reply(body), Secrets())
    assert [one.session_id for one in page.sessions] == [GUID]
    assert page.next_path == "query?type=BackupJobSession&page=2"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_query_in_xml_is_read(number: int) -> None:
    """Entities hold a list of each type; none at all is an empty page."""
    one = f"""<BackupJobSession Type="BackupJobSession"
    UID="urn:veeam:BackupJobSession:{GUID}"><State>Idle</State></BackupJobSession>"""
    inner = f"<BackupJobSessions>{one * number}</BackupJobSessions>" if number else ""
    body = f"""<QueryResult xmlns="http://www.veeam.com/ent/v1.0"><Entities>{inner}
    </Entities><PagingInfo PageNum="1" PageSize="100" PagesCount="1"/></QueryResult>"""
    page = sessions.decode_sessions(reply(body), Secrets())
    assert [one.raw_state for one in page.sessions] == ["Idle"] * number
    assert page.next_path is None


def test_a_failover_session_holds_its_machines() -> None:
    """The name of the list is doubled; each machine has a message of its own."""
    body = f"""<CloudFailoverSession xmlns="http://www.veeam.com/ent/v1.0"
    Type="CloudFailoverSession" UID="urn:veeam:CloudFailoverSession:{GUID}"
    CloudFailoverPlanName="Plan A"><State>Stopped</State><Result>Failed</Result>
    <CloudFailoverTasks><CloudFailoverTasks VmName="srv01"><State>Completed</State>
    <Result>Failed</Result><FailureMessage>No route</FailureMessage>
    </CloudFailoverTasks></CloudFailoverTasks></CloudFailoverSession>"""
    found = decoded(body)
    assert (found.job_name, found.succeeded) == ("Plan A", False)
    (machine,) = sessions.decode_failover_tasks(reply(body), Secrets())
    assert (machine.vm_name, machine.reason) == ("srv01", "No route")


def test_secrets_in_a_session_are_hidden() -> None:
    """What the server echoes of a token is shown nowhere."""
    secrets = Secrets()
    secrets.add("c2VjcmV0LXRva2Vu")
    body = BACKUP_13.replace("H3_Daily", "c2VjcmV0LXRva2Vu")
    found = sessions.decode_session(reply(body), secrets)
    assert "c2VjcmV0LXRva2Vu" not in repr(found)
    assert "c2VjcmV0LXRva2Vu" not in str(found.name)


def test_guids_are_compared_not_urns() -> None:
    """A NAS job session names its job by another URN with the same GUID."""
    assert sessions.guid_of(f"urn:veeam:NasJob:{JOB.upper()}") == JOB
    assert sessions.guid_of(f"urn:veeam:Job:{JOB}") == JOB
    assert sessions.guid_of("urn:veeam:Job:none") is None


@pytest.mark.parametrize("kind", [*sessions.KINDS, *sessions._TASK_KINDS])
def test_a_collection_of_any_kind_reads_the_same_in_json_and_in_xml(kind: str) -> None:
    """Whatever the case of its name in JSON; a kind without one there is no reply."""
    uid = f"urn:veeam:{kind}:{JOB}"
    is_task = kind in sessions._TASK_KINDS
    decode = sessions.decode_task_sessions if is_task else sessions.decode_sessions
    written = (
        f'<{kind}s><{kind} UID="{uid}" Type="{kind}"><State>Stopped</State>'
        f"<Result>Success</Result></{kind}></{kind}s>"
    )
    expected = decode(reply(written), Secrets())
    assert len(expected.sessions) == 1
    entity = {"UID": uid, "Type": kind, "State": "Stopped", "Result": "Success"}
    for name in (f"{kind}s", f"{kind[0].lower()}{kind[1:]}s"):
        assert decode(reply(json.dumps({name: [entity]})), Secrets()) == expected


@given(st.binary(max_size=200) | st.sampled_from([b"{}", b"<a/>", b"<QueryResult/>"]))
def test_any_bytes_give_a_value_or_an_error_of_ours(body: bytes) -> None:
    """Whatever comes, nothing but a `VeeamTasksError` is raised."""
    for decode in (
        sessions.decode_session,
        sessions.decode_sessions,
        sessions.decode_task_sessions,
        sessions.decode_failover_tasks,
    ):
        found: object
        try:
            found = decode(reply(body, "xml"), Secrets())
        except VeeamTasksError as error:
            found = str(error)
        assert found is not None
