"""What error reporters print of our frames: no local shows a secret."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from support.frames import locals_of
from support.managers import direct, door
from support.secrets_guard import forms

from veeam_tasks import (
    SessionManager,
    VeeamTasksError,
    adopt,
    connect,
    inspect_certificate,
)
from veeam_tasks._client import late_connect as _late
from veeam_tasks._client.connect import log_out
from veeam_tasks._options.keywords import Options
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

PASSWORD = "pä<s word>/+:secret"
START = "jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start"


async def shown_by(call: Callable[[], Awaitable[object]]) -> list[str]:
    """Return the locals of what a call raises."""
    try:
        with anyio.fail_after(400):
            await call()
    except (VeeamTasksError, asyncio.CancelledError, ValueError, TypeError) as error:
        shown = list(locals_of(error))
        assert shown
        return shown
    pytest.fail("it did not fail")


FAULTS = [
    Fault("stall"),
    Fault("reset"),
    Fault("drop"),
    Fault("garbage"),
    Fault("html"),
    Fault("cut_body"),
    Fault("unauthorized"),
    Fault("forbidden"),
    Fault("echo_secrets"),
    Fault("status", status=503),
    Fault("chunked_nonsense"),
]


def calls(em: SessionManager, task_id: str) -> list[Callable[[], Awaitable[object]]]:
    """Return each kind of call."""
    return [
        lambda: em.fetch(task_id),
        lambda: em.submit(START),
        lambda: em.delete(task_id),
        lambda: em.read("jobs"),
        em.fetch_all,
    ]


def leaks(shown: list[str], secrets: list[str | None]) -> list[str]:
    """Return what shows a secret in any form."""
    hidden = [form for secret in secrets if secret for form in forms(secret)]
    return [text for text in shown if any(form in text for form in hidden)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.kinds[0].value))
@pytest.mark.parametrize("path", ["sessionMngr", None])
async def test_no_local_shows_a_secret(fault: Fault, path: str | None) -> None:
    """Of a first logon, a call, a renewal, and what goes wrong in each."""
    kind = fault.kinds[0]
    async with SimulatedServer(password=PASSWORD) as server:
        task_id = server.add_task("Running").task_id
        secrets: list[str | None] = [PASSWORD, f"admin:{PASSWORD}"]
        first = Fault(kind, status=fault.status, path="sessionMngr")
        server.faults.add(first)
        shown: list[str] = []
        em = direct(server)
        try:
            await em.open()
        except VeeamTasksError as error:
            shown += locals_of(error)
        server.faults.remove(first)
        await em.aclose()
        await em.open()
        secrets += [em.token, em.session_id]
        server.faults.add(Fault(kind, status=fault.status, path=path))
        for is_expired in (False, True):
            if is_expired:
                server.expire_logon_sessions(keep_tasks=True)
            for call in calls(em, task_id):
                try:
                    await call()
                except VeeamTasksError as error:
                    shown += locals_of(error)
                secrets += [em.token, em.session_id]
        await em.aclose()
        assert shown
        assert leaks(shown, secrets) == []


async def test_no_local_shows_a_secret_when_it_is_cancelled() -> None:
    """In the middle of a logon, a body, a log-out, a close."""
    async with SimulatedServer(password=PASSWORD) as server:
        fault = server.faults.add(Fault("stall"))
        em = direct(server)
        opening = asyncio.create_task(em.open())
        await anyio.sleep(1)
        opening.cancel()
        shown = await shown_by(lambda: opening)
        server.faults.remove(fault)
        await em.open()
        secrets: list[str | None] = [PASSWORD, em.token, em.session_id]
        server.faults.add(Fault("stall"))
        for call in (*calls(em, "task-1"), em.aclose):
            calling = asyncio.ensure_future(call())
            await anyio.sleep(1)
            calling.cancel()
            shown += await shown_by(lambda calling=calling: calling)
        assert leaks(shown, secrets) == []


async def test_no_local_shows_a_password_that_is_refused() -> None:
    """By the server, by us, or by the callable that was to give it."""

    def fail() -> str:
        raise KeyError(PASSWORD)

    async with SimulatedServer(password="another") as server:
        shown = await shown_by(
            lambda: connect(server.url, username="admin", password=PASSWORD)
        )
        shown += await shown_by(
            lambda: connect(server.url, username="admin", password=fail)
        )

        async def wrong() -> None:
            connect(server.url, username="a:b", password=PASSWORD)

        shown += await shown_by(wrong)

        async def unknown() -> None:
            connect(server.url, username="a", password=PASSWORD, nonsense=1)  # type: ignore[call-arg] # the point

        shown += await shown_by(unknown)
    assert leaks(shown, [PASSWORD, f"admin:{PASSWORD}"]) == []


async def test_no_local_shows_a_token_that_is_adopted() -> None:
    """One that is dead, one that has blanks, one that cannot be logged out."""
    token, session_id = "c2VjcmV0LXRva2Vu", "695c2c92-d1e8-4a2a-b5f3-9f2f2b1c1a11"
    async with SimulatedServer() as server:

        async def dead() -> None:
            async with adopt(server.url, token, session_id=session_id) as em:
                await em.fetch_all()

        async def odd() -> None:
            adopt(server.url, token + " ", session_id=session_id)

        shown = await shown_by(dead)
        shown += await shown_by(odd)
        shown += await shown_by(
            lambda: log_out(server.url, token, session_id=session_id)
        )
        shown += await shown_by(
            lambda: log_out(server.url, token + " ", session_id=session_id)
        )
    assert leaks(shown, [token, session_id]) == []


async def test_no_local_shows_a_secret_when_a_certificate_is_refused() -> None:
    """Nothing was sent."""
    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
    async with SimulatedServer(tls=True, password=PASSWORD) as server:
        shown = await shown_by(lambda: door(server, ca_file=None))
    assert leaks(shown, [PASSWORD, f"admin:{PASSWORD}"]) == []


PROXY_PASSWORD = "prxy-secret"
BY_PROXY: Options = {"proxy": f"http://me:{PROXY_PASSWORD}@127.0.0.1:9"}
ODD_PROXY: Options = {"proxy": f"ftp://me:{PROXY_PASSWORD}@127.0.0.1:9"}
NOWHERE = "https://127.0.0.1:9"


CALLS: dict[str, Callable[[], Awaitable[object]]] = {
    "nobody is there": lambda: connect(
        NOWHERE, username="u", password=PASSWORD, **BY_PROXY
    ),
    "no proxy": lambda: connect(NOWHERE, username="u", password=PASSWORD, **ODD_PROXY),
    "no URL": lambda: connect("-", username="u", password=PASSWORD, **BY_PROXY),
    "no account": lambda: connect(NOWHERE, username=":", password="p", **BY_PROXY),
    "no patience": lambda: connect(
        NOWHERE, username="u", password=PASSWORD, patience=-1, **BY_PROXY
    ),
    "manager": lambda: SessionManager(
        "-", username="u", password=PASSWORD, **BY_PROXY
    ).open(),
    "late": lambda: _late.connect("-", username="u", password=PASSWORD, **BY_PROXY),
    "no token": lambda: adopt(NOWHERE, "token ", **BY_PROXY),
    "adopt": lambda: adopt("-", "token", **ODD_PROXY),
    "log out": lambda: log_out(NOWHERE, "dG9r", session_id="one", **BY_PROXY),
    "log out of what": lambda: log_out(NOWHERE, "dG9r", **BY_PROXY),
    "look": lambda: inspect_certificate(NOWHERE, proxy=BY_PROXY["proxy"]),
    "look by no proxy": lambda: inspect_certificate(NOWHERE, proxy=ODD_PROXY["proxy"]),
    "look nowhere": lambda: inspect_certificate("-", proxy=BY_PROXY["proxy"]),
}


@pytest.mark.parametrize("what", CALLS)
async def test_no_local_shows_the_password_of_a_proxy(what: str) -> None:
    """Neither where it is refused, nor where something else is wrong."""

    async def called() -> None:
        await CALLS[what]()

    shown = await shown_by(called)
    assert leaks(shown, [PROXY_PASSWORD, PASSWORD]) == []


async def test_no_local_shows_the_password_of_a_proxy_that_is_slow() -> None:
    """A look at a certificate is cancelled while the proxy says nothing."""
    async with SimulatedServer() as server:
        server.faults.add(Fault("stall"))
        proxy = server.url.replace("http://", f"http://me:{PROXY_PASSWORD}@")
        looking = asyncio.ensure_future(inspect_certificate(NOWHERE, proxy=proxy))
        await anyio.sleep(1)
        looking.cancel()
        shown = await shown_by(lambda: looking)
    assert leaks(shown, [PROXY_PASSWORD]) == []
