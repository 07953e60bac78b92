"""Command lines that run here, in the test's own process."""

import os

import pytest
from support.command_line import Here, settings_of

from veeam_tasks.simulator import ThreadedServer


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
