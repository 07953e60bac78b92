"""The guard of the whole suite finds each kind of leak that is planted."""

import base64
import logging
import warnings
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from support.managers import door
from support.secrets_guard import IS_ABLE, Guard
from veeam_tasks import ClosedError, VeeamTasksError
from veeam_tasks.simulator import SimulatedServer

SECRET = "pl&nted <secret>"

pytestmark = pytest.mark.skipif(not IS_ABLE, reason="needs sys.monitoring of 3.12")


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Give a guard that knows the planted secret, as the suite's own does not."""
    with Guard(tool=3).watching() as guard:
        guard.learn(SECRET)
        yield guard


def error(text: str) -> VeeamTasksError:
    """Return an error of ours that says something."""
    return ClosedError(what="it", advice=text)


def caught(failure: BaseException, other: Exception | None = None) -> None:
    """Raise an error, perhaps while another is handled, and catch it at once."""
    try:
        if other is not None:
            caught_within(failure, other)
        raise failure
    except (VeeamTasksError, ExceptionGroup):
        pass


def caught_within(failure: BaseException, other: Exception) -> None:
    """Raise an error while another one is handled."""
    try:
        raise other
    except KeyError:
        raise failure  # noqa: B904 - the context is the point


def in_message() -> None:
    """Raise it in the text of an error."""
    caught(error(SECRET))


def in_cause() -> None:
    """Raise it in the cause."""
    failure = error("so")
    failure.__cause__ = ValueError(SECRET)
    caught(failure)


def in_context() -> None:
    """Raise it in what was handled meanwhile."""
    caught(error("so"), KeyError(SECRET))


def in_note() -> None:
    """Raise it in a note."""
    failure = error("so")
    failure.add_note(quote(SECRET))
    caught(failure)


def in_field() -> None:
    """Raise it in a field that no text shows."""
    failure = error("so")
    failure.hidden = {"a": base64.b64encode(SECRET.encode())}  # type: ignore[attr-defined] # planted
    caught(failure)


def in_member() -> None:
    """Raise it in the member of a group."""
    members = [error(SECRET)]
    caught(ExceptionGroup("all", members))


def in_log() -> None:
    """Log it."""
    logging.getLogger("veeam_tasks._any").debug("with %s", SECRET)


def in_logged_error() -> None:
    """Log it as what is handled."""
    logging.getLogger("veeam_tasks._any").error("so", exc_info=KeyError(SECRET))


def in_warning() -> None:
    """Warn of it, where it is expected."""
    with pytest.warns(UserWarning, match="pl"):
        warnings.warn(SECRET, UserWarning, stacklevel=1)


LEAKS = [
    *[in_message, in_cause, in_context, in_note, in_field, in_member],
    *[in_log, in_logged_error, in_warning],
]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(guard: Guard, leak: Callable[[], None]) -> None:
    """Whatever kind of text it is in; and nothing else is called a leak."""
    caught(error("nothing"))
    guard.look()
    assert guard.leaks == []
    leak()
    assert guard.forget()


def test_what_the_shell_prints_is_looked_through(guard: Guard) -> None:
    """Unless secrets are the command's job."""
    guard.printed("logon", SECRET)
    guard.look()
    assert guard.leaks == []
    guard.printed("list", SECRET)
    guard.look()
    assert guard.leaks == [f"output of list: {SECRET}"]


async def test_it_learns_what_a_server_knows(guard: Guard) -> None:
    """Its passwords, and the token and session ID of each logon session."""
    async with SimulatedServer() as server, door(server) as em:
        server.change_password("another-one")
        for secret in ("admin-secret", "another-one", em.token, em.session_id):
            guard.see("text", f"it is {secret}")
            guard.look()
            assert guard.leaks.pop() == f"text: it is {secret}"
            assert guard.leaks == [] or secret in {em.token, em.session_id}
            guard.leaks.clear()
