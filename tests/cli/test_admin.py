"""The shell for an administrator: names, help, servers by name, hooks, outages."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import (
    COMMAND,
    QUICK,
    SECONDS,
    Here,
    between_pipes,
    clean_environment,
    ended,
    on_terminal,
    settings_of,
)

from veeam_tasks.simulator import Fault, ThreadedServer

ORACLE = "78c3919c-54d7-43fe-b047-485d3566f11f"
COMMANDS = (
    *("watch", "submit", "jobs", "actions", "list", "get", "delete", "read"),
    *("logon", "logout", "fingerprint", "repl", "simulate", "help", "version"),
)


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Give a server without TLS; nobody stays logged on."""
    with ThreadedServer(seed=1, speed=20) as server:
        yield server
        assert server.logon_sessions == []


@pytest.fixture
def bare(bare: Here, tmp_path: Path) -> Here:
    """Run command lines here, without any setting, with a home of its own."""
    bare.set({"XDG_CONFIG_HOME": str(tmp_path / "config"), "COLUMNS": "80"})
    return bare


# --- names


def test_jobs_are_listed_by_name(shell: Here) -> None:
    """Name, kind, ID, whether enabled, and how the last job session ended."""
    ran = shell("jobs")
    assert (ran.status, ran.err) == (0, "")
    names = [job["name"] for job in ran.objects]
    assert names == sorted(names, key=str.casefold)
    [oracle] = [job for job in ran.objects if job["name"] == "Oracle Backup"]
    assert oracle == {
        "name": "Oracle Backup",
        "kind": "Backup",
        "id": ORACLE,
        "path": f"jobs/{ORACLE}",
        "enabled": True,
        "last_result": None,
    }


@pytest.mark.parametrize(
    "name", ["Oracle Backup", "oracle backup", "ora", ORACLE, ORACLE.upper()]
)
def test_a_job_is_started_by_its_name(
    shell: Here, server: ThreadedServer, name: str
) -> None:
    """By the whole name, by its beginning without regard to case, or by its ID."""
    server.set_script("Finished")
    ran = shell("submit", "--job", name, *QUICK)
    assert ran.status == 0
    assert ran.objects[-1]["operation"] == "StartJob"
    [sent] = [one for one in server.requests if "action=" in one.query]
    assert sent.path.lower().endswith(f"jobs/{ORACLE}")
    assert ("start: Oracle Backup" in ran.err) is (name in {"oracle backup", "ora"})


@pytest.mark.parametrize("action", ["stop", "retry", "toggleScheduleEnabled"])
def test_other_things_are_done_with_a_job(
    shell: Here, server: ThreadedServer, action: str
) -> None:
    """--action says what."""
    shell("submit", "--job", "Oracle Backup", "--action", action, "--no-watch", "-q")
    assert any(f"action={action}" in one.query for one in server.requests)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--job", "Nightly"], "there is no such job; 'veeam-tasks jobs' lists them"),
        (["--job", ""], "--job '': there is no such job; 'veeam-tasks jobs' lists"),
        (["--job", "Backup"], "--job 'Backup': the name of no job begins with it; it"),
        (["Oracle Backup"], 'veeam-tasks submit --job "Oracle Backup"'),
        (["Oracle"], 'veeam-tasks submit --job "Oracle"'),
        ([], "pass what to do: a PATH like"),
        (["jobs/x?action=start", "--job", "x"], "pass a PATH or --job, not both"),
        (["--job", "Oracle", "Backup"], 'write: --job "Oracle Backup"'),
        (["jobs/x", "--action", "stop"], "--action goes with --job NAME"),
    ],
)
def test_what_names_no_action_is_told_with_the_next_step(
    shell: Here, server: ThreadedServer, arguments: list[str], words: str
) -> None:
    """One line; nothing is started."""
    ran = shell("submit", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.complaint
    assert [one for one in server.requests if "action" in one.query] == []


def test_a_role_that_may_not_read_jobs_is_told_so(
    shell: Here, server: ThreadedServer
) -> None:
    """The path with the ID is the way out; status 4."""
    server.faults.add(Fault("forbidden", path="query"))
    for arguments in (["submit", "--job", "Oracle Backup"], ["jobs"]):
        ran = shell(*arguments)
        assert ran.status == 4
        assert "this account may not read the jobs" in ran.complaint
        assert "'jobs/ID?action=start'" in ran.complaint


def test_any_resource_can_be_read(shell: Here) -> None:
    """As one JSON object; a path that leads out of /api/ is refused."""
    ran = shell("read", f"jobs/{ORACLE}?format=Entity")
    assert (ran.status, ran.objects[0]["Job"]["@Name"]) == (0, "Oracle Backup")
    ran = shell("read", "../web")
    assert ran.status == 2
    assert ran.complaint == (
        "veeam-tasks read: PATH '../web' names no resource of this server: it has a ."
        " or .. in it; write what stands below /api/, as 'jobs/ID?action=start'"
    )


def test_the_documented_actions_are_listed(bare: Here) -> None:
    """All 87, without a server; a word picks some."""
    ran = bare("actions")
    assert (ran.status, len(ran.objects)) == (0, 87)
    assert {one["method"] for one in ran.objects} == {"POST", "PUT", "DELETE"}
    found = bare("actions", "quickbackup").objects
    assert [(one["path"], one["body"]) for one in found] == [
        ("backupServers/{ID}?action=quickbackup", "QuickBackupStartupSpec")
    ]


def test_a_word_that_no_action_has_is_told(bare: Here) -> None:
    """Silence could mean that the command is broken."""
    ran = bare("actions", "nosuch")
    assert (ran.status, ran.objects) == (0, [])
    assert "no documented action has 'nosuch' in it" in ran.err


def test_names_of_jobs_complete_over_an_open_logon_session(
    server: ThreadedServer,
) -> None:
    """With a token in the environment Tab offers them; without one it asks nobody."""
    variables = settings_of(server)
    words = {"COMP_WORDS": "veeam-tasks submit --job ora", "COMP_CWORD": "3"}
    mode = {"_VEEAM_TASKS_COMPLETE": "bash_complete"}

    def completed(extra: dict[str, str]) -> str:
        # Tab waits for some seconds, which a busy machine may take to start all this.
        code = (
            "from veeam_tasks.cli import _jobs, run\n"
            f"_jobs._COMPLETION_SECONDS = {SECONDS}\n"
            "run([])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=clean_environment(**variables, **words, **mode, **extra),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.stdout

    assert "Oracle" not in completed({})
    assert len(server.requests) == 0
    done = subprocess.run(
        [*COMMAND, "logon", "--json"],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        check=True,
    )
    token = json.loads(done.stdout)
    assert completed({"VEEAM_EM_TOKEN": token["VEEAM_EM_TOKEN"]}) == (
        "plain,Oracle Backup\n"
    )
    server.expire_logon_sessions()


# --- help


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_the_help_of_each_command_is_one_screen(bare: Here, command: str) -> None:
    """24 lines of 80 columns hold what it does, its options and an example."""
    ran = bare(*filter(None, [command]), "--help")
    lines = ran.out.splitlines()
    assert ran.status == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"Usage: veeam-tasks {command}".rstrip())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(bare: Here, command: str) -> None:
    """`help COMMAND` has a line for each of those that --help only names."""
    brief = bare(command, "--help").out.partition("More, see ")[2]
    whole = bare("help", command)
    assert whole.status == 0
    for name in brief.split():
        if name.startswith("--"):
            assert any(
                line.lstrip().startswith(name.partition("/")[0]) or f", {name}" in line
                for line in whole.out.splitlines()
            ), name


def test_help_has_groups_and_the_exit_statuses(bare: Here) -> None:
    """Options stand under what they are about; `help` alone has the statuses."""
    text = bare("help", "watch").out
    heads = [line for line in text.splitlines() if line.endswith(":") and line[0] > " "]
    assert heads == [
        *("Examples:", "Options:", "Job:", "Unattended:", "Pace:"),
        *("Connection:", "Trust:", "Output:"),
    ]
    assert "    4    logon or permission refused: stop" in bare("help").out
    assert bare("help", "frob").status == 2


def test_the_version_can_be_had_in_each_usual_way(bare: Here) -> None:
    """-V, --version and `version` print the same."""
    outs = {bare(word).out for word in ("-V", "--version", "version")}
    assert len(outs) == 1
    assert outs.pop().startswith("veeam-tasks, version ")


def test_a_command_has_only_options_that_mean_something(bare: Here) -> None:
    """`logout` logs nobody on, so it takes no account."""
    for option in ("--username", "--password-file", "--accept", "--api-version"):
        ran = bare("logout", option, "x")
        assert ran.status == 2
        assert f"No such option '{option}'" in ran.complaint.replace("'.", "'")
    assert "--fingerprint" in bare("help", "logout").out


def test_options_before_the_command_are_taken(shell: Here) -> None:
    """As if they stood after it; without a command it is told where they go."""
    assert shell("--json", "--username", "admin", "list", "-q").status == 0
    ran = shell("--json")
    assert ran.status == 2
    assert ran.complaint.endswith(
        "--json goes with a command: veeam-tasks COMMAND --json"
    )
    assert "No such option" in shell("--frob", "list").complaint


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("0.1s", "after 0.1 s"),
        ("0.002m", "after 0.12 s"),
        ("0.00002h0.1s", "after 0.172 s"),
    ],
)
def test_a_time_may_have_several_parts(
    shell: Here, server: ThreadedServer, written: str, words: str
) -> None:
    """1h30m is taken; parts without a unit or in a wrong order are not."""
    server.add_task("Running 1h, Finished", shared=True)
    ran = shell("watch", "task-1", "--timeout", written)
    assert ran.status == 124
    assert words in ran.err
    for wrong in ("30m1h", "1h30", "h", "1 hour", "-1s"):
        assert "write 90, 90s, 10m or 2h" in (
            shell("watch", "task-1", f"--timeout={wrong}").complaint
        )


# --- the name that the user gave is blamed


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        ([], {"VEEAM_EM_CA_FILE": "/none"}, "VEEAM_EM_CA_FILE /none cannot be read"),
        (["--ca-file", "/none"], {}, "--ca-file /none cannot be read"),
        ([], {"VEEAM_EM_FINGERPRINT": "ab"}, "VEEAM_EM_FINGERPRINT must be a SHA-256"),
        (
            [],
            {"VEEAM_EM_URL": "em"},
            "VEEAM_EM_URL 'em' has no scheme; write https://em",
        ),
        (["--url", "em"], {}, "--url 'em' has no scheme; write https://em"),
        ([], {"VEEAM_EM_PROXY": "x"}, "VEEAM_EM_PROXY is no http:// URL"),
        ([], {"VEEAM_EM_USERNAME": "a:b"}, "VEEAM_EM_USERNAME 'a:b': is empty, or"),
        (
            ["--fingerprint", "ab" * 32, "--insecure"],
            {},
            "--fingerprint, --insecure: pass one of them at most",
        ),
        (
            [],
            {"VEEAM_EM_CA_FILE": "/x", "VEEAM_EM_FINGERPRINT": "ab" * 32},
            "VEEAM_EM_CA_FILE, VEEAM_EM_FINGERPRINT: pass one of them",
        ),
        ([], {"VEEAM_EM_TOKEN": "a b"}, "VEEAM_EM_TOKEN is empty or has characters"),
    ],
)
def test_what_was_set_is_what_is_blamed(
    bare: Here, arguments: list[str], variables: dict[str, str | None], words: str
) -> None:
    """The option if it was typed, the variable if it came from the environment."""
    bare.set({"VEEAM_EM_URL": "https://em.example", "VEEAM_EM_USERNAME": "u"})
    bare.set({"VEEAM_EM_PASSWORD": "p", **variables})
    ran = bare("list", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.complaint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["read"], "Missing argument 'PATH'; see 'veeam-tasks read --help'"),
        (["actions", "--url", "x"], "No such option '--url'; see 'veeam-tasks actions"),
        (["list", "extra"], "extra argument (extra); see 'veeam-tasks list --help'"),
        (["fingerprint", "em"], "URL 'em' has no scheme; write https://em"),
        (["fingerprint", "http://em"], "URL http://em:9399 speaks no TLS"),
        (["list", "--username=u", "--url=https://u:hush@em"], "--url has user inf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_says_where_to_look(
    bare: Here, arguments: list[str], words: str
) -> None:
    """What is wrong, by the name that was typed, and the next step."""
    ran = bare(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.complaint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "127.0.0.1:1 refuses the connection: nothing listens"),
        ("https://no-such-host.invalid", "there is no host no-such-host.invalid"),
        (
            "TLS",
            "does not speak TLS: is it another port (9398 is usual), or is http://",
        ),
    ],
)
def test_why_there_was_no_connection_is_in_plain_words(
    shell: Here, server: ThreadedServer, url: str, words: str
) -> None:
    """One line with the next step, and no class of Python in it."""
    ran = shell(
        "list", "--url", server.url.replace("http:", "https:") if url == "TLS" else url
    )
    assert ran.status == 3
    assert words in ran.complaint
    assert "Error" not in ran.complaint


def test_http_against_a_port_with_tls_hints_at_https(bare: Here) -> None:
    """A server that speaks TLS hangs up, or answers so."""
    with ThreadedServer(tls=True) as server:
        bare.set(settings_of(server, trust=False))
        ran = bare("list", "--url", server.url.replace("https:", "http:"))
    assert ran.status == 3
    assert "https://" in ran.complaint


# --- servers by name


def write_config(folder: Path, text: str) -> None:
    """Write the configuration file of a test."""
    path = folder / "config" / "veeam-tasks" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def section(server: ThreadedServer, folder: Path, name: str = "prod") -> str:
    """Return a section of the configuration file for a server."""
    secret = folder / "config" / "veeam-tasks" / "secret"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text(server.password)
    secret.chmod(0o600)
    return (
        f'[servers.{name}]\nurl = "{server.url}"\nusername = "{server.username}"\n'
        'password-file = "secret"\nrequest-timeout = "10s"\n'
    )


def test_a_server_is_chosen_by_its_name(
    bare: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """By --server, VEEAM_EM_SERVER, or as the default; files lie beside the file."""
    write_config(tmp_path, f'default = "prod"\n{section(server, tmp_path)}')
    assert bare("list", "-q").status == 0
    assert bare("list", "-q", "--server", "prod").status == 0
    bare.set({"VEEAM_EM_SERVER": "prod"})
    assert bare("list", "-q").status == 0
    assert server.logons.total == 3


def test_what_is_typed_counts_more_than_the_file(
    bare: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """And the file counts more than single variables of the environment."""
    write_config(tmp_path, section(server, tmp_path))
    bare.set({"VEEAM_EM_URL": "https://elsewhere.invalid", "VEEAM_EM_TOKEN": "dead"})
    assert bare("list", "-q", "--server", "prod").status == 0
    ran = bare("list", "--server", "prod", "--username", "nobody")
    assert ran.status == 4
    assert "Check --username and the password" in ran.complaint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "--server prod: there is no configuration file"),
        ("[servers.test]\n", "has no server 'prod'; it has: test"),
        ("[servers.prod]\npassword = 'x'\n", "a password does not stand in a file"),
        ("[servers.prod]\nusrname = 'x'\n", "usrname is not known; is username meant?"),
        ("[servers.prod]\nurl = true\n", "url must be a text"),
        ("[servers.prod]\ninsecure = 'x'\n", "insecure must be true or false"),
        ("servers = [", "is no TOML"),
        ("server = 1\n", "'server' is not known; it takes: default, [servers.NAME]"),
        ("[servers.prod]\nurl = 'em'\n", "[servers.prod] url 'em' has no scheme"),
        ("[servers.prod]\nrequest-timeout = 'x'\n", "write 90, 90s, 10m"),
        ('[servers.prod]\nusername = "C\\svc"\n', r"in single quotes, as 'CORP\svc'"),
        ("[servers.prod]\nusername = 'u'\n", "the server 'prod' of the configuration"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(
    bare: Here, tmp_path: Path, text: str, words: str
) -> None:
    """One line that names the file, the section and the entry."""
    if text:
        write_config(tmp_path, text)
    ran = bare("list", "--server", "prod", "--username", "u")
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.complaint


def test_a_server_of_the_file_without_an_account_is_named(
    bare: Here, tmp_path: Path
) -> None:
    """The entry is missing in the file: no variable would count beside it."""
    write_config(tmp_path, "[servers.prod]\nurl = 'https://em.example'\n")
    bare.set({"VEEAM_EM_USERNAME": "u"})
    ran = bare("list", "--server", "prod")
    assert ran.status == 2
    assert "'prod' of the configuration file has no username; write" in ran.complaint


def test_a_token_counts_more_than_a_server_of_the_environment(
    bare: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """What `logon` printed is used; a server or an account that is typed is not it."""
    write_config(tmp_path, section(server, tmp_path))
    bare.set({"VEEAM_EM_SERVER": "prod"})
    printed = json.loads(bare("logon", "--json").out)
    bare.set(printed)
    logons = server.logons.total
    assert bare("list", "-q").status == 0
    assert server.logons.total == logons
    assert bare("list", "-q", "--server", "prod").status == 0
    assert server.logons.total == logons + 1
    assert bare("logout").status == 0


def test_the_password_comes_from_the_vault(
    bare: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """--password-keyring asks for the URL and the user; what is missing is told."""
    (tmp_path / "vault.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Vault(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, username):\n"
        f"        known = ({server.url!r}, {server.username!r})\n"
        "        is_known = (service, username) == known\n"
        f"        return {server.password!r} if is_known else None\n"
        "    def set_password(self, service, username, password): ...\n"
        "    def delete_password(self, service, username): ...\n"
    )
    variables = {
        **settings_of(server),
        "VEEAM_EM_PASSWORD": "",
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "vault.Vault",
    }

    def ran(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, "list", "-q", "--password-keyring", *arguments],
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    assert ran().returncode == 0
    missing = ran("--username", "other")
    assert missing.returncode == 2
    assert f"keyring set {server.url} other" in missing.stderr


# --- hooks and outages


@pytest.fixture
def hook(tmp_path: Path) -> tuple[str, Path]:
    """Give a command that writes down what it is told, and where."""
    out, script = tmp_path / "told", tmp_path / "hook.py"
    script.write_text(
        "import os, sys\n"
        "assert not {'VEEAM_EM_PASSWORD', 'VEEAM_EM_TOKEN'} & set(os.environ)\n"
        f"open({str(out)!r}, 'a').write(sys.stdin.read())\n"
        "print('noise')\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    return f"{sys.executable} {script}", out


def test_a_command_is_run_for_each_failure(
    server: ThreadedServer, hook: tuple[str, Path]
) -> None:
    """Once per failed or lost task, with the event; standard output stays ours."""
    for script in ("Finished", "Finished failed 'Disk full'"):
        server.add_task(script, shared=True)
    command, out = hook
    arguments = ["watch", "task-1", "task-2", "task-77", *QUICK]
    done = subprocess.run(
        [*COMMAND, *arguments, "--on-failure", f"{command} 0"],
        env=clean_environment(**settings_of(server)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(one["task_id"], one["outcome"]) for one in told} == {
        ("task-2", "failed"),
        ("task-77", "lost"),
    }
    assert len(told) == 2
    assert "noise" not in done.stdout
    assert "warning" not in done.stderr


def test_a_hook_that_fails_is_told_and_hides_nothing(
    shell: Here, server: ThreadedServer, hook: tuple[str, Path]
) -> None:
    """The exit status is that of the tasks; so is it where the command is not there."""
    server.add_task("Finished failed 'Disk full'", shared=True)
    ran = shell("watch", "task-1", "--on-failure", f"{hook[0]} 7")
    assert ran.status == 1
    assert "exited with 7 (for task-1)" in ran.err
    assert "task-1 failed (StartJob): Disk full" in ran.err
    ran = shell("watch", "task-1", "--on-failure", "/nonexistent/hook")
    assert ran.status == 1
    assert "/nonexistent/hook cannot be run: No such file" in ran.err
    ran = shell("watch", "task-1", "--on-failure", "'")
    assert ran.status == 2


def test_a_hook_that_hangs_does_not_hold_ctrl_c(server: ThreadedServer) -> None:
    """It is ended with us."""
    server.add_task("Finished failed", shared=True)
    child = between_pipes(
        ["watch", "task-1", "--on-failure", "sleep 60"], settings_of(server)
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=SECONDS)
    assert child.returncode == 130


def test_patience_covers_the_first_logon(server: ThreadedServer) -> None:
    """A server that is away is waited for, which is told once; then all goes on."""
    server.add_task("Finished", shared=True)
    server.pause()
    child = between_pipes(["watch", "task-1", "--patience", "1m"], settings_of(server))
    assert child.stderr is not None
    line = child.stderr.readline()
    assert line.startswith(f"waiting for {server.url}, for 1 min at most: connection")
    server.resume()
    _, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, err) == (0, "1 task: 1 succeeded, 0 failed\n")


def test_a_timeout_bounds_the_wait_for_the_first_logon(
    shell: Here, server: ThreadedServer
) -> None:
    """A server that stays away is waited for no longer than the command may take."""
    server.faults.add(Fault("status", path="sessionMngr", status=503))
    ran = shell("watch", "task-1", "--patience", "10m", "--timeout", "0.2s")
    assert ran.status == 124
    assert "for 0.2 s at most: it answers 503" in ran.err
    assert "time ran out after 0.2 s, before a logon: it answers 503" in ran.err


def test_patience_ends_and_waits_for_no_refusal(
    shell: Here, server: ThreadedServer
) -> None:
    """Out of patience is status 3; a refused account is not tried again."""
    server.faults.add(Fault("status", path="sessionMngr", status=503))
    ran = shell("watch", "task-1", "--patience", "0.2s")
    assert ran.status == 3
    assert "for 0.2 s at most: it answers 503" in ran.err
    server.faults.clear()
    before = server.logons.total
    ran = shell("watch", "task-1", "--patience", "1m", "--username", "nobody")
    assert ran.status == 4
    assert server.logons.total == before + 1
    server.faults.add(Fault("status", path="sessionMngr", status=503, times=1))
    assert shell("list").status == 3


def test_a_watch_of_all_under_its_own_logon_warns(shell: Here) -> None:
    """At once, that nothing can appear; not over a shared logon session."""
    ran = shell("watch", "--all", "--timeout", "0.1s")
    assert ran.status == 0
    assert "own logon session sees only tasks that are started in it" in ran.err
    exported = json.loads(shell("logon", "--json").out)
    shell.set(exported)
    ran = shell("watch", "--all", "--timeout", "0.1s")
    assert (ran.status, "warning" in ran.err) == (0, False)
    ran = shell("list")
    assert "none was started in it yet" in ran.complaint
    assert shell("logout").status == 0


def test_the_log_has_facts_and_outcomes(
    shell: Here, server: ThreadedServer, tmp_path: Path
) -> None:
    """Who logged on where, and what became of each task; no module of ours."""
    for script in ("Finished", "Finished failed 'Disk full'"):
        server.add_task(script, shared=True)
    file = tmp_path / "log"
    shell("watch", "task-1", "task-2", "task-3", "--log-file", str(file), *QUICK)
    lines = [line.partition(" INFO ")[2] for line in file.read_text().splitlines()]
    told = [line for line in lines if line.startswith(("logged", "task-"))]
    assert told[0] == f"logged on to {server.url}/api/ as admin"
    assert told[-1] == f"logged out of {server.url}/api/"
    assert sorted(told[1:-1]) == [
        "task-1 Finished, succeeded: Ok",
        "task-2 Finished, failed: Disk full",
        (
            "task-3 Lost, lost: the server does not know it: There is no backup task"
            " with id [task-3] in current rest session"
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "task-1"),
        (["get", "task-1"], "operation"),
        (["jobs"], "Oracle Backup"),
        (["read", "jobs"], '"EntityReferences"'),
        (["actions", "jobs"], "jobs/{ID}?action=start"),
        (["help"], "Exit status"),
        (["help", "submit"], "--on-failure"),
        (["version"], "veeam-tasks, version"),
        (["list", "--help"], "Examples:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("columns", [50, 200])
def test_each_command_fits_its_terminal(
    server: ThreadedServer, arguments: list[str], words: str, columns: int
) -> None:
    """No line is wider; but what is to be copied, the terminal itself wraps."""
    server.add_task("Finished failed 'Disk full'", shared=True)
    child = on_terminal(arguments, settings_of(server), columns=columns)
    assert ended(child) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", child.before or "").replace("\r", "")
    assert words in text
    if arguments[0] not in {"read", "help", "actions"} and "--help" not in arguments:
        assert max(map(len, text.split("\n"))) <= columns


def test_lines_for_the_shells_of_windows(shell: Here, server: ThreadedServer) -> None:
    """Values are quoted as PowerShell and cmd.exe take them; only one may be meant."""
    ran = shell("logon", "--cmd")
    assert re.search(r'^set "VEEAM_EM_TOKEN=[^"%]+"$', ran.out, re.MULTILINE)
    assert ran.out.count('set "VEEAM_EM_URL=') == 1
    ran = shell("logon", "--powershell")
    assert re.search(r"^\$env:VEEAM_EM_TOKEN = '[^']+'$", ran.out, re.MULTILINE)
    assert shell("logon", "--powershell", "--cmd").status == 2
    assert server.expire_logon_sessions() == 2
    shell.set({"VEEAM_EM_TOKEN": "ZGVhZA==", "VEEAM_EM_SESSION_ID": "x"})
    assert "set VEEAM_EM_TOKEN=\n" in shell("logout", "--cmd").out
