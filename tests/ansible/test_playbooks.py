"""Playbooks, run by ansible-core: what administrators rely on."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.playbooks import Play, posts, secrets_of

from veeam_tasks.simulator import Fault, ThreadedServer

on_request = pytest.mark.playbooks
BOTH = "- veeam_tasks.em.actions:\n    jobs: [Nightly, broken]\n"
ONE = "- veeam_tasks.em.actions:\n    jobs: [Nightly]\n"
SHARED = """\
- veeam_tasks.em.logon:
- veeam_tasks.em.jobs:
    names: [nightly]
  register: found
- veeam_tasks.em.actions:
    actions:
      - job: "{{ found.jobs[0].id }}"
    wait: false
  register: started
- veeam_tasks.em.actions:
    resume: "{{ started.resume }}"
- veeam_tasks.em.logout:
- veeam_tasks.em.logout:
"""


def test_many_actions_take_one_logon(play: Play, server: ThreadedServer) -> None:
    """Each is started once and followed to the end of its job; the failed one is named.

    One line tells of each new state, and of no secret; it logs out at the end.
    """
    played = play(BOTH)
    assert played.status == 2
    assert [one.accepted for one in server.logons] == [True]
    (result,) = played.results
    assert posts(server) == [one["path"] for one in result["outcomes"]]
    assert result["changed"] is True
    assert result["report"] == {"succeeded": ["Nightly"], "failed": ["Broken"]}
    assert result["msg"] == "1 of 2 did not succeed; Broken failed: db01: No space left"
    assert result["outcomes"][1]["session"]["result"] == "Failed"
    told = ["Nightly: sent, task-1", "Nightly: succeeded", "Broken: failed: db01: No"]
    assert all(f"\n{line}" in played.output for line in told)
    assert not server.logon_sessions
    assert not [one for one in secrets_of(server) if one in played.output]


@on_request
def test_tasks_of_a_play_share_a_logon_session(
    play: Play, server: ThreadedServer
) -> None:
    """One logon for all, started in one task and waited for in another, then ended."""
    played = play(SHARED, "-vvvv", "--diff")
    assert played.status == 0
    assert len(server.logons) == 1
    assert not server.logon_sessions
    assert len(secrets_of(server)) == 3
    assert not [one for one in secrets_of(server) if one in played.output]
    logon, _, started, waited, logout, again = played.results
    assert "censored" in logon
    assert (started["changed"], waited["changed"]) == (True, False)
    assert [one["outcome"] for one in waited["outcomes"]] == ["succeeded"]
    assert "has ended" in logout["msg"]
    assert again["msg"] == "there is no shared logon session"


@on_request
def test_what_failed_is_named_with_the_servers_words(
    play: Play, server: ThreadedServer
) -> None:
    """The task fails; its message has what failed and why, and not what went well."""
    server.set_script("Running 1s, Finished failed 'No repository'")
    played = play(ONE)
    assert played.status == 2
    (result,) = played.results
    assert result["msg"] == "1 of 1 did not succeed; Nightly failed: No repository"
    assert result["report"] == {"failed": ["Nightly"]}


@on_request
def test_a_lost_task_fails_and_says_so(play: Play, server: ThreadedServer) -> None:
    """What can no longer be learnt of is no success."""
    server.faults.add(Fault("status", path="tasks", status=403))
    played = play(ONE)
    assert played.status == 2
    (result,) = played.results
    assert result["outcomes"][0]["outcome"] == "lost"
    assert "Nightly lost: task-1" in result["msg"]


@on_request
def test_a_wrong_password_is_one_refused_logon(
    play: Play, server: ThreadedServer
) -> None:
    """No retry may lock the account, and nothing is sent."""
    played = play(ONE, VEEAM_EM_PASSWORD="wrong-password")
    assert played.status == 2
    assert [one.accepted for one in server.logons] == [False]
    assert "not tried again" in played.results[0]["msg"]
    assert "wrong-password" not in played.output
    assert not posts(server)


@on_request
@pytest.mark.parametrize("counts", [False, True])
def test_a_warning_is_a_failure_on_request(
    play: Play, server: ThreadedServer, counts: bool
) -> None:
    """It is told as one in any case."""
    server.add_job("Meh", session="Starting 1s, Stopped warning")
    asked = f"    jobs: [Meh]\n    warnings_fail: {str(counts).lower()}\n"
    played = play(f"- veeam_tasks.em.actions:\n{asked}")
    assert played.status == (2 if counts else 0)
    assert played.results[0]["report"] == {"warning": ["Meh"]}


@on_request
def test_without_follow_the_start_counts(play: Play, server: ThreadedServer) -> None:
    """A job that began well is a success, whatever becomes of it."""
    played = play(f"{BOTH}    follow: false\n")
    assert played.status == 0
    assert not [one for one in server.requests if "backupSessions" in one.path]


@on_request
def test_a_job_that_is_never_found_is_lost(play: Play) -> None:
    """After find_timeout the task fails, and does not wait for ever."""
    with ThreadedServer(speed=10, job_links="never", session_delay=3600) as server:
        server.add_job("Nightly")
        played = play(f"{ONE}    find_timeout: 2s\n", VEEAM_EM_URL=server.url)
    assert played.status == 2
    assert played.results[0]["outcomes"][0]["outcome"] == "lost"


@on_request
def test_check_mode_says_what_would_be_sent(play: Play, server: ThreadedServer) -> None:
    """Nothing is sent; the diff shows it, and a schedule before and after."""
    played = play(
        f"{BOTH}    action: toggleScheduleEnabled\n{ONE}", "-v", "--check", "--diff"
    )
    assert played.status == 0
    assert not posts(server)
    assert {one.method for one in server.requests} == {"GET", "POST", "DELETE"}
    assert [one["outcome"] for one in played.results[0]["outcomes"]] == ["planned"] * 2
    assert all(one["changed"] for one in played.results)
    assert "-Nightly: schedule enabled\n" in played.output
    assert "+Nightly: schedule disabled\n" in played.output
    assert "+start Nightly (POST jobs/" in played.output


@on_request
def test_a_wrong_name_starts_nothing(play: Play, server: ThreadedServer) -> None:
    """Names are looked up before the first action is sent."""
    played = play("- veeam_tasks.em.actions:\n    jobs: [Nightly, Nobody]\n")
    assert played.status == 2
    assert "'Nobody': there is no such job" in played.results[0]["msg"]
    assert not posts(server)


@on_request
def test_a_refused_action_leaves_the_others_alone(
    play: Play, server: ThreadedServer
) -> None:
    """It is told with the server's words; the others are started and waited for."""
    first = server.jobs[-2]
    server.faults.add(Fault("status", path=first.job_id, status=403))
    played = play(BOTH)
    assert played.status == 2
    outcomes = {one["name"]: one["outcome"] for one in played.results[0]["outcomes"]}
    assert outcomes == {"Nightly": "refused", "Broken": "failed"}


@on_request
def test_a_body_is_a_mapping_or_xml(play: Play, server: ThreadedServer) -> None:
    """Both reach the server as XML."""
    ref = "urn:VMware:Vm:2.vm-1"
    head = f"backupServers/{server.backup_server.server_id}?action=quickbackup"
    played = play(
        "- veeam_tasks.em.actions:\n    follow: false\n    actions:\n"
        f"      - path: {head}\n"
        f"        body: {{QuickBackupStartupSpec: {{VmRef: '{ref}'}}}}\n"
        f"      - path: {head}\n"
        '        body: \'<QuickBackupStartupSpec xmlns="http://www.veeam.com/ent/v1.0">'
        f"<VmRef>{ref}</VmRef></QuickBackupStartupSpec>'\n"
    )
    assert played.status == 0
    sent = [one.body for one in server.requests if "backupServers" in one.path]
    assert [f"<VmRef>{ref}</VmRef>".encode() in body for body in sent] == [True, True]


@on_request
def test_a_logon_that_is_refused_in_between_keeps_what_was_sent(
    server: ThreadedServer, ansible_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """The result has what was started; the account is tried once and no more."""
    server.add_job("Slow", session="Working 1h, Stopped")
    (tmp_path / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - veeam_tasks.em.actions:\n        jobs: [Slow]\n"
        f"        url: {server.url}\n        username: {server.username}\n"
        f"        password: {server.password}\n"
    )
    started = subprocess.Popen(
        ["ansible-playbook", "play.yml", "-v"],
        env={**ansible_environment, "PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started as playing:
        assert playing.stdout is not None
        for line in playing.stdout:
            if line.startswith("Slow: Working"):
                server.change_password("another-password")
                server.expire_logon_sessions()
                break
        output = playing.stdout.read()
    assert started.returncode == 2
    assert "not tried again" in output
    assert '"outcome": "unfinished"' in output
    assert [one.accepted for one in server.logons] == [True, False]


@on_request
def test_a_resume_of_another_server_sends_nothing(
    play: Play, server: ThreadedServer
) -> None:
    """What an earlier task left is looked at before the first action is sent."""
    part = "{checkpoint: {version: 1, url: 'https://else/api/'}, steps: []}"
    played = play(f"{ONE}    resume: {{parts: [{part}]}}\n")
    assert played.status == 2
    assert "resume: " in played.results[0]["msg"]
    assert not posts(server)


@on_request
def test_no_clear_answer_stops_the_sending(play: Play, server: ThreadedServer) -> None:
    """It may have been carried out: that is said, and nothing more is sent."""
    server.faults.add(Fault("reset", path="jobs/.*start", times=1))
    played = play(BOTH)
    assert played.status == 2
    outcomes = {one["name"]: one["outcome"] for one in played.results[0]["outcomes"]}
    assert outcomes == {"Nightly": "uncertain", "Broken": "not_sent"}
    assert "may have been carried out" in played.results[0]["msg"]
    assert len(posts(server)) <= 1


@on_request
def test_a_timeout_names_what_is_unfinished(play: Play, server: ThreadedServer) -> None:
    """The task fails, logs out, and says where the job stood."""
    server.set_script("Running 1h, Finished")
    played = play(f"{ONE}    timeout: 2s\n")
    assert played.status == 2
    assert (
        "Nightly unfinished: not finished in time, last seen Running"
        in (played.results[0]["msg"])
    )
    assert not server.logon_sessions


@on_request
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_play_that_is_stopped_logs_out(
    server: ThreadedServer,
    ansible_environment: Mapping[str, str],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """Ctrl-C and SIGTERM end the wait and leave no logon session open."""
    server.add_job("Long", session="Working 1h, Stopped")
    (tmp_path / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - veeam_tasks.em.actions:\n        jobs: [Long]\n"
        f"        url: {server.url}\n        username: {server.username}\n"
        f"        password: {server.password}\n"
    )
    reader, writer = os.pipe()  # open until the last worker has ended
    # Into a pipe, Ansible's lines would come when the buffer is full.
    started = subprocess.Popen(
        ["ansible-playbook", "play.yml", "-v"],
        env={**ansible_environment, "PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[writer],
        start_new_session=True,
    )
    os.close(writer)
    with started as playing:
        assert playing.stdout is not None
        for line in playing.stdout:
            if line.startswith("Long: Working"):
                break
        os.killpg(playing.pid, number)
        playing.stdout.read()
    with os.fdopen(reader) as ended:
        ended.read()
    assert [one.method for one in server.requests][-1] == "DELETE"
    assert not server.logon_sessions


@on_request
def test_variables_come_from_a_vault(
    play: Play,
    server: ThreadedServer,
    ansible_environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    """An encrypted variable is decrypted, and is seen nowhere."""
    key = tmp_path / "key"
    key.write_text("the key of the vault")
    words = ("encrypt_string", "--vault-password-file", str(key), server.password)
    vaulted = subprocess.run(
        ["ansible-vault", *words, "--name", "vault_em_password"],
        env={**ansible_environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert server.password not in vaulted
    (tmp_path / "vars.yml").write_text(
        f"{vaulted}\nveeam_em_url: {server.url}\nveeam_em_username: admin\n"
        'veeam_em_password: "{{ vault_em_password }}"\n'
    )
    asked = ("-vvvv", "--vault-password-file", str(key), "-e", "@vars.yml")
    played = play(f"{SHARED}{ONE}", *asked, account=False)
    assert played.status == 0
    assert len(server.logons) == 2
    assert not [one for one in secrets_of(server) if one in played.output]


@on_request
@pytest.mark.parametrize(
    ("trust", "is_trusted"),
    [
        ("fingerprint", True),
        ("ca_file", True),
        ("none", False),
        ("insecure", True),
    ],
)
def test_nobody_is_trusted_unasked(play: Play, trust: str, is_trusted: bool) -> None:
    """By fingerprint, by CA, or by a switch that warns; without, nothing is sent."""
    with ThreadedServer(tls=True, speed=10) as server:
        server.add_job("Nightly")
        settings = {
            "fingerprint": f"fingerprint: {server.fingerprint}",
            "ca_file": f"ca_file: {server.ca_file}",
            "insecure": "insecure: true",
            "none": "accept: json",
        }
        played = play(f"{ONE}    {settings[trust]}\n", VEEAM_EM_URL=server.url)
        assert (played.status == 0) is is_trusted
        assert bool(server.logons) is is_trusted
        assert ("no certificate is verified" in played.output) is (trust == "insecure")
        if not is_trusted:
            assert "fingerprint=" in played.results[0]["msg"]


@on_request
def test_a_group_of_module_defaults_sets_the_connection(
    play: Play, server: ThreadedServer
) -> None:
    """The action group covers all four actions."""
    defaults = "\n".join(
        f"      {name}: {value}"
        for name, value in {
            "url": server.url,
            "username": server.username,
            "password": server.password,
        }.items()
    )
    played = play(
        "- hosts: localhost\n  gather_facts: false\n  module_defaults:\n"
        f"    group/veeam_tasks.em.em:\n{defaults}\n  tasks:\n"
        "    - veeam_tasks.em.jobs:\n",
        "-vvvv",
        account=False,
    )
    assert played.status == 0
    assert server.password not in played.output


@on_request
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE, "no url: set url, the variable veeam_em_url or VEEAM_EM_URL"),
        (f"{ONE}    timeout: soon\n", "timeout: 'soon' is no time like"),
        ("- veeam_tasks.em.actions:\n", "one of the following is required"),
        (f"{ONE}    passwort: x\n", "passwort"),
        (f"{ONE}    logon: {{token: ''}}\n", "logon is not what the action logon"),
        (f"{ONE}    url: 'http://u:geheim12@em'\n", "user information"),
        ("- veeam_tasks.em.actions:\n    actions: [{}]\n", "either job or path"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_sent(
    play: Play, text: str, said: str
) -> None:
    """Each names the argument, and repeats no secret."""
    url = "" if text == ONE else "http://127.0.0.1:1"
    played = play(text, VEEAM_EM_URL=url)
    assert played.status == 2
    assert said in played.output
    assert "geheim12" not in played.output
