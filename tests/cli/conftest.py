"""Command lines that run here, in the test's own process."""

import os
from collections.abc import Iterator

import pytest
from support.command_line import Here, settings_of

from veeam_tasks.simulator import ThreadedServer


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Give a server without TLS."""
    with ThreadedServer(seed=1) as server:
        yield server


@pytest.fixture
def _nobody_stays(server: ThreadedServer) -> Iterator[None]:
    """Check that whoever logged on to the test's `server` has logged out."""
    yield
    assert server.logon_sessions == []


@pytest.fixture
def bare(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run command lines here, without any setting."""
    here = Here(capsys, monkeypatch)
    here.set({name: None for name in os.environ if name.startswith("VEEAM_EM_")})
    return here


@pytest.fixture
def shell(bare: Here, server: ThreadedServer) -> Here:
    """Run command lines here, with settings that log on to the test's `server`."""
    bare.set(settings_of(server))
    return bare
