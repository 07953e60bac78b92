"""Several servers at once: `--server` more than once, and IDs as NAME/task-7."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.command_line import QUICK, Here, ended, on_terminal

import veeam_tasks as vt
from veeam_tasks.cli._progress import Progress
from veeam_tasks.simulator import ThreadedServer


@pytest.fixture
def servers() -> Iterator[dict[str, ThreadedServer]]:
    """Give two servers."""
    with ThreadedServer(seed=1, speed=10) as prod, ThreadedServer(seed=2) as dr:
        yield {"prod": prod, "dr": dr}


@pytest.fixture
def shell(bare: Here, servers: dict[str, ThreadedServer], tmp_path: Path) -> Here:
    """Run command lines here, with a configuration file of both and a dead one."""
    bare.set({"XDG_CONFIG_HOME": str(tmp_path / "config"), "COLUMNS": "120"})
    folder = tmp_path / "config" / "veeam-tasks"
    folder.mkdir(parents=True)
    (tmp_path / "password").write_text(servers["prod"].password)
    urls = {name: one.url for name, one in servers.items()}
    urls["dead"] = "http://127.0.0.1:9"
    entries = [
        f'[servers.{name}]\nurl = "{url}"\nusername = "{servers["prod"].username}"\n'
        f'password-file = "{tmp_path / "password"}"\n'
        for name, url in urls.items()
    ]
    (folder / "config.toml").write_text("\n".join(entries))
    return bare


BOTH = ("--server", "prod", "--server", "dr")


def share(shell: Here, *names: str) -> None:
    """Open logon sessions that later commands share."""
    for name in names:
        (found,) = shell("logon", "--server", name, "--json").objects
        shell.set({f"VEEAM_EM_TOKEN_{name.upper()}": found["VEEAM_EM_TOKEN"]})


def test_tasks_of_several_servers_are_watched_in_one_go(
    shell: Here, servers: dict[str, ThreadedServer]
) -> None:
    """Each line says of which server it is; each is logged on to once."""
    for server in servers.values():
        server.add_task("Finished ok", shared=True)
        server.add_task("Finished failed", shared=True)
    ran = shell("watch", "prod/task-1", "dr/task-2", "prod/task-2", *QUICK)
    assert ran.status == 1
    found = {(one["server"], one["task_id"], one["outcome"]) for one in ran.objects}
    assert found == {
        ("prod", "task-1", "succeeded"),
        ("prod", "task-2", "failed"),
        ("dr", "task-2", "failed"),
    }
    assert "3 tasks: 1 succeeded, 2 failed" in ran.err
    assert "dr/task-2 failed" in ran.err
    logons = [
        sum(one.path.startswith("/api/sessionMngr") for one in server.requests)
        for server in servers.values()
    ]
    assert logons == [1, 1]
    assert [server.logon_sessions for server in servers.values()] == [[], []]


def test_a_task_that_is_named_twice_is_counted_once(
    shell: Here, servers: dict[str, ThreadedServer], tmp_path: Path
) -> None:
    """Or one would be shown as not seen yet until the end."""
    task = servers["prod"].add_task("Running", shared=True)
    config = str(tmp_path / "config")
    child = on_terminal(
        ["watch", f"prod/{task.task_id}", f"prod/{task.task_id}", *QUICK],
        {"XDG_CONFIG_HOME": config},
        columns=120,
    )
    child.expect("Watching 1 task of prod")
    child.expect("1 running")
    child.sendintr()
    assert ended(child) == 130
    assert shell("list", "--server", "prod").status == 0


def test_lists_of_several_servers_can_be_watched(
    shell: Here, servers: dict[str, ThreadedServer], tmp_path: Path
) -> None:
    """`list` names the server of each task, and `watch` takes that."""
    for server in servers.values():
        server.add_task("Finished ok", shared=True)
    ran = shell("list", *BOTH)
    assert ran.status == 0
    assert {(one["server"], one["task_id"]) for one in ran.objects} == {
        ("prod", "task-1"),
        ("dr", "task-1"),
    }
    (tmp_path / "ids").write_text(ran.out)
    again = shell("watch", "--file", str(tmp_path / "ids"), *QUICK)
    assert (again.status, len(again.objects)) == (0, 2)


def test_a_dead_server_stops_nobody(
    shell: Here, servers: dict[str, ThreadedServer]
) -> None:
    """The others are watched to their ends; the status tells of it."""
    servers["prod"].add_task("Running 5s, Finished ok", shared=True)
    ran = shell("watch", "prod/task-1", "dead/task-1", *QUICK)
    assert ran.status == 3
    assert ran.objects[-1]["outcome"] == "succeeded"
    assert "dead: " in ran.err
    ran = shell("list", "--server", "dead", *BOTH)
    assert (ran.status, len(ran.objects)) == (3, 1)


def test_a_watch_of_all_that_ends_while_a_server_is_away_is_status_3(
    shell: Here, servers: dict[str, ThreadedServer]
) -> None:
    """Also where only what went wrong is told, and another server is there."""
    share(shell, "prod", "dr")
    servers["dr"].pause()
    ran = shell("watch", "--all", *BOTH, "--timeout", "1.5s", "--quiet", *QUICK)
    assert (ran.status, ran.out) == (3, "")
    assert "watch: the server is away: dr: connection" in ran.err
    servers["dr"].resume()


def test_the_return_of_one_server_is_not_that_of_another() -> None:
    """Each has an outage of its own."""
    progress = Progress(total=None)
    at = datetime(2026, 11, 27, tzinfo=UTC)
    for kind, server in (("unreachable", "dr"), ("unreachable", "prod")):
        notice = vt.Notice(kind=vt.NoticeKind(kind), at=at, detail=server)
        progress.note(notice, server)
    back = vt.Notice(kind=vt.NoticeKind.RECOVERED, at=at, detail="prod")
    progress.note(back, "prod")
    assert progress.outage is not None
    assert progress.outage.detail == "dr"


def test_all_tasks_of_several_servers(
    shell: Here, servers: dict[str, ThreadedServer]
) -> None:
    """Under logon sessions that are shared, by a token for each name."""
    share(shell, "prod", "dr")
    for server in servers.values():
        server.add_task("Finished ok")
    ran = shell("watch", "--all", *BOTH, "--timeout", "2s", *QUICK)
    assert {one["server"] for one in ran.objects} == {"prod", "dr"}
    assert ran.status == 0
    assert "--all waits for new tasks, too: it ends after 2 s" in ran.err
    ran = shell("watch", "--all", *BOTH, "--timeout", "1s", "--quiet", *QUICK)
    assert "--all:" not in ran.err


def test_a_state_of_several_servers_is_resumed(
    shell: Here, servers: dict[str, ThreadedServer], tmp_path: Path
) -> None:
    """Each goes on; one that is away meanwhile stays in the file."""
    share(shell, "prod", "dr")
    tasks = {name: one.add_task("Running") for name, one in servers.items()}
    file = str(tmp_path / "run.json")
    ids = [f"{name}/{task.task_id}" for name, task in tasks.items()]
    ran = shell("watch", *ids, "--state", file, "--timeout", "1s", *QUICK)
    assert ran.status == 124
    tasks["prod"].finish()
    config = tmp_path / "config" / "veeam-tasks" / "config.toml"
    whole = config.read_text()
    config.write_text(whole.replace(servers["dr"].url, "http://127.0.0.1:9"))
    ran = shell("resume", file, "--timeout", "3s", *QUICK)
    assert ran.status in {2, 3}
    config.write_text(whole)
    tasks["dr"].finish(success=False)
    ran = shell("resume", file, *QUICK)
    assert ran.status == 1
    told = [(one["server"], one["sequence"]) for one in ran.objects]
    assert ("dr", 2) in told
    assert not [one for one in told if one[1] == 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("watch", "task-1", *BOTH), "of which server? Write NAME/task-1"),
        (("watch", "nobody/task-1"), "has no server 'nobody'"),
        (("get", "prod/task-1", "--server", "prod"), "--server prod task-1"),
        (("get", "task-1", *BOTH), "pass one of them"),
        (("submit", "jobs/1?action=start", *BOTH), "pass one of them"),
    ],
)
def test_what_is_not_clear_is_told(
    shell: Here, arguments: tuple[str, ...], problem: str
) -> None:
    """Nothing is sent; it is said what to write."""
    ran = shell(*arguments)
    assert ran.status == 2
    assert problem in ran.err


def test_the_names_stand_in_what_is_told_of_failures(
    shell: Here, servers: dict[str, ThreadedServer], tmp_path: Path
) -> None:
    """A command that is run for a failure gets the server with the event."""
    servers["dr"].add_task("Finished failed", shared=True)
    out = tmp_path / "told"
    ran = shell("watch", "dr/task-1", "--on-failure", f"tee {out}", *QUICK)
    assert ran.status == 1
    assert json.loads(out.read_text())["server"] == "dr"


def test_no_server_is_left_logged_on_to_where_one_cannot_begin(
    shell: Here, servers: dict[str, ThreadedServer]
) -> None:
    """Whichever logs on first: nothing of the others goes on, either."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = shell("watch", "--all", *BOTH, "--metrics", f":{port}", "-q")
    assert ran.status == 2
    assert "--metrics: cannot listen on" in ran.err
    for server in servers.values():
        assert server.logon_sessions == []


NAMED = "[servers.prod]\nurl = 'http://127.0.0.1:9'\nusername = 'u'"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("default = ['prod']", "default must be the name of a server"),
        ("default = 7", "default must be the name of a server"),
        ("servers = 3\ndefault = 'prod'", "servers must be a table"),
        (f"default = {'9' * 5000}", "is no TOML"),
        (f"default = {'[' * 5000}", "is no TOML"),
        (f"{NAMED}\npassword-file = '~no_such_user/x'", "/x cannot be read"),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(
    shell: Here, tmp_path: Path, content: str, said: str
) -> None:
    """Whatever is in it, and nothing is sent."""
    (tmp_path / "config" / "veeam-tasks" / "config.toml").write_text(content)
    ran = shell("list", *(["--server", "prod"] if "\n" in content else []))
    assert ran.status == 2
    assert said in ran.complaint
