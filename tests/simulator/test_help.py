"""What help() and type checkers say of the simulated server."""

import inspect
import re
from typing import get_args, get_type_hints

import pytest

from veeam_tasks.simulator import (
    Fault,
    FaultKind,
    FaultKindName,
    Script,
    ServerOptions,
    SimulatedServer,
    ThreadedServer,
)


@pytest.mark.parametrize("server", [SimulatedServer, ThreadedServer])
def test_help_explains_every_keyword(server: type) -> None:
    """Each has its line under Args, in the order of the signature."""
    names = [*inspect.signature(server).parameters]
    text = (server.__doc__ or "").partition("Args:")[2].partition("Attributes:")[0]
    assert re.findall(r"^    (\w+):", text, re.MULTILINE) == names


def test_the_options_of_a_marker_are_those_of_the_server() -> None:
    """The same names with the same types, and tasks."""
    hints = get_type_hints(ServerOptions)
    assert hints.pop("tasks") is not None
    wanted = get_type_hints(SimulatedServer.__init__)
    del wanted["return"]
    assert hints == wanted


def test_fault_kinds_are_known_to_type_checkers() -> None:
    """Every kind may be written as its word; another one is an error at once."""
    assert [*get_args(FaultKindName)] == [kind.value for kind in FaultKind]
    with pytest.raises(ValueError, match="no kind of fault"):
        Fault("sttaus")  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize(
    ("script", "meant"),
    [
        ("Runing 2s, Finished", "Running"),
        ("running 2s, Finished", "Running"),
        ("Running 2s, Finnished", "Finished"),
        ("Running 2s, OperationFinish 1s, Finished", "OperationFinished"),
    ],
)
def test_a_misspelt_state_of_a_task_is_told_as_a_likely_slip(
    script: str, meant: str
) -> None:
    """A warning names the word that was meant; the script plays as it is written."""
    with pytest.warns(UserWarning, match=f"did you mean '{meant}'"):
        assert Script.parse(script).steps
