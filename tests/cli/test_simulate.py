"""The command `simulate`: what it prints works as it stands, and its options."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from support.command_line import (
    COMMAND,
    SECONDS,
    Here,
    between_pipes,
    clean_environment,
    ended,
    on_terminal,
)


@attrs.define
class Simulated:
    """A running command, what it printed first, and what it said at the end."""

    place: dict[str, Any]
    err: str = ""

    def ask(
        self, path: str, token: str | None = None, *, method: str = "GET"
    ) -> tuple[int, bytes, str | None]:
        """Return status, body and token of one request."""
        account = f"{self.place['username']}:{self.place['password']}".encode()
        headers = {"Authorization": f"Basic {b64encode(account).decode()}"}
        if token is not None:
            headers = {"X-RestSvcSessionId": token, "Accept": "application/json"}
        request = urllib.request.Request(
            f"{self.place['url']}/api/{path}",
            headers=headers,
            method=method,
            data=b"" if method == "POST" else None,
        )
        request.add_header("Content-Type", "application/xml")
        try:
            with urllib.request.urlopen(request) as got:
                return got.status, got.read(), got.headers.get("X-RestSvcSessionId")
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read(), None

    def log_on(self) -> str:
        """Return a token."""
        _, _, token = self.ask("sessionMngr/?v=latest", method="POST")
        assert token is not None
        return token


@contextmanager
def simulated(*arguments: str) -> Iterator[Simulated]:
    """Run the command into a pipe until it is told to stop."""
    child = between_pipes(["simulate", "--port", "0", *arguments])
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, child.communicate(timeout=SECONDS)[1]
        running = Simulated(json.loads(line))
        yield running
    finally:
        child.send_signal(signal.SIGTERM)
        running_err = child.communicate(timeout=SECONDS)[1]
    running.err = running_err
    assert child.returncode == 143


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_printed_lines_work_in_order(tmp_path: Path) -> None:
    """Each as it stands: the shell's share one logon session, curl's set TOKEN."""
    child = on_terminal(
        ["simulate", "--port", "0", "--tasks", "3", "--tls", "--speed", "100"],
        columns=400,
    )
    child.expect("SHA-256 of its certificate")
    printed = (child.before or "").splitlines()
    lines = [line.strip() for line in printed if line.startswith("    ")]
    assert any(line.startswith("TOKEN=$(") for line in lines)
    (tmp_path / "veeam-tasks").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m veeam_tasks "$@"\n'
    )
    (tmp_path / "veeam-tasks").chmod(0o755)
    script = "\n".join(lines).replace("--timeout 2m", "--timeout 2s")
    environment = clean_environment()
    path = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", script],
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    child.sendintr()
    assert ended(child) == 130
    assert "not found" not in ran.stderr
    listed = [json.loads(x) for x in ran.stdout.splitlines() if x.startswith("{")]
    ids = {one.get("task_id") for one in listed}
    assert {"task-1", "task-2", "task-3", "task-4"} <= ids
    assert any(one.get("outcome") == "succeeded" for one in listed)
    # The logon session of curl knows the one task that it started itself.
    replies = [x for x in ran.stdout.split("<?xml") if "ent/v1.0" in x]
    assert len(replies) == 2
    assert "<TaskId>task-5</TaskId>" in replies[0]
    assert replies[1].count("<TaskId>") == 1


def test_tasks_belong_to_their_logon_session_or_to_every_one() -> None:
    """Scoped is the default, as of a real server; --shared is the other way."""
    for options, count in (((), 0), (("--shared",), 4), (("--scoped",), 0)):
        with simulated("--tasks", "4", *options) as running:
            tokens = [running.log_on() for _ in range(2)]
            counts = [
                len(json.loads(running.ask("tasks", token)[1])["Tasks"])
                for token in tokens
            ]
            assert counts == [4, count]


def test_v_shows_each_request_without_a_secret() -> None:
    """Method, path, status and the number of the logon session."""
    with simulated("-v", "--tasks", "1") as running:
        token = running.log_on()
        running.ask("tasks", token)
        session_id = json.loads(running.ask("logonSessions", token)[1])
        secret = session_id["LogonSessions"][0]["SessionId"]
        running.ask(f"logonSessions/{secret}", token)
        running.ask("nowhere", "no-token")
    lines = [line.partition("  ")[2] for line in running.err.splitlines()]
    assert lines == [
        "POST /api/sessionMngr/ 201 no logon session",
        "GET /api/tasks 200 logon 1",
        "GET /api/logonSessions 200 logon 1",
        "GET /api/logonSessions/[hidden] 200 logon 1",
        "GET /api/nowhere 401 no logon session",
    ]
    assert token not in running.err
    assert secret not in running.err


def test_faults_are_played_by_kind_share_and_path() -> None:
    """KIND, KIND:SHARE and KIND:SHARE:PATH; without -v nothing is said of it."""
    with simulated(
        "--fault", "status:1:/api/jobs", "--fault", "forbidden::/api/tasks"
    ) as running:
        token = running.log_on()
        assert running.ask("jobs", token)[0] == 500
        assert running.ask("tasks", token)[0] == 403
        assert running.ask("backupSessions", token)[0] == 200
    assert running.err == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--fault", "sttaus"], "no kind of fault"),
        (["--fault", "status:2"], "from 0 to 1"),
        (["--fault", "status:often"], "could not convert"),
        (["--fault", "status:1:("], "unterminated"),
        (["--cert-file", __file__], "no certificate"),
        (["--failing", "2"], "--failing"),
        (["--idle-expiry", "soon"], "no duration"),
    ],
)
def test_what_cannot_be_played_is_told(arguments: list[str], problem: str) -> None:
    """Status 2 and one complaint, before it listens."""
    ran = subprocess.run(
        [*COMMAND, "simulate", "--port", "0", *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 2
    assert problem in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_other_options(tmp_path: Path) -> None:
    """Host, account, password file, certificate, jobs with a share that fails."""
    secret = tmp_path / "password"
    secret.write_text("p:w 1\n")
    certificate = tmp_path / "own.pem"
    own = trustme.CA().issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(certificate)
    with simulated(
        *("--host", "0.0.0.0", "--username", "me", "--password-file", str(secret)),
        *("--jobs", "10", "--failing", "0.3", "--keep-going", "--speed", "100"),
        *("--idle-expiry", "1h", "--shared", "--version", "13"),
    ) as running:
        assert running.place["url"].startswith("http://127.0.0.1:")
        assert (running.place["username"], running.place["password"]) == ("me", "p:w 1")
        token = running.log_on()
        assert len(json.loads(running.ask("jobs", token)[1])["refs"]) == 14
        query = (
            "query?type=BackupJobSession&pageSize=1000&filter=JobName==%22Job%201%22"
        )
        past = json.loads(running.ask(query, token)[1])["refs"]["refs"]
        assert len(past) >= 7
        before = len(json.loads(running.ask("tasks", token)[1])["tasks"])
        later = before
        while later == before:
            later = len(json.loads(running.ask("tasks", token)[1])["tasks"])
    with simulated("--cert-file", str(certificate)) as running:
        assert running.place["url"].startswith("https://")
        assert running.place["ca_file"] == str(certificate)
        assert len(running.place["fingerprint"]) == 95


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\xfd", "is no text in UTF-8"),
        (b"", "holds no password in one line"),
        (b"a\r\nb\r\n", "holds no password in one line"),
    ],
)
def test_a_password_file_that_holds_none_is_one_line(
    bare: Here, tmp_path: Path, content: bytes, said: str
) -> None:
    """Nothing is started then."""
    (tmp_path / "secret").write_bytes(content)
    options = ("--port", "0", "--password-file", str(tmp_path / "secret"))
    ran = bare("simulate", *options)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.complaint
