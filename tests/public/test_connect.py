"""`connect` and `adopt` unawaited and entered, and `log_out` for what was left open."""

import gc
import inspect
import linecache
import warnings
from collections.abc import Callable
from typing import Any, cast

import anyio
import attrs
import pytest
from support.frames import locals_of
from support.managers import direct, door

import veeam_tasks as vt
from veeam_tasks import LogonError, Pace, SessionManager, TransportError
from veeam_tasks._client import late_connect as late
from veeam_tasks._client.connect import log_out
from veeam_tasks._options.keywords import Options
from veeam_tasks._options.settings import Settings
from veeam_tasks.simulator import Fault, SimulatedServer, ThreadedServer

pytestmark = pytest.mark.virtual_time(debug=False)


URL = "https://em.example"


async def left_open(server: SimulatedServer) -> tuple[str, str]:
    """Leave a logon session open; return its token and its ID."""
    em = await door(server)
    await em.aclose(log_out=False)
    return em.token or "", em.session_id or ""


@pytest.mark.parametrize("tells_id", [True, False])
async def test_what_was_left_open_can_be_ended_by_its_token(tells_id: bool) -> None:
    """With one DELETE; newer servers have the ID in the token."""
    async with SimulatedServer(version="13") as server:
        token, session_id = await left_open(server)
        before = server.requests.total
        await log_out(server.url, token, session_id=session_id if tells_id else None)
        assert server.logon_sessions == []
        assert server.requests.total == before + 1
        with pytest.raises(LogonError, match="ended already"):
            await log_out(server.url, token, session_id=session_id)
        assert server.logons.total == 1
        assert server.connections.open == 0


async def test_a_token_that_does_not_tell_its_id_needs_it() -> None:
    """Nothing is sent before that is clear; the token is not repeated."""
    async with SimulatedServer() as server:
        with pytest.raises(ValueError, match="session_id is needed") as caught:
            await log_out(server.url, "bm8gdG9rZW4=")
        assert "bm8gdG9rZW4=" not in str(caught.value)
        with pytest.raises(ValueError, match="session_id is empty"):
            await log_out(server.url, "bm8gdG9rZW4=", session_id="a b")
        assert server.requests.total == 0


async def test_an_end_that_is_not_confirmed_is_an_error() -> None:
    """Unlike a log-out at a close; and the connections are closed all the same."""
    async with SimulatedServer() as server:
        token, session_id = await left_open(server)
        server.faults.add(Fault("reset", method="DELETE"))
        with pytest.raises(TransportError):
            await log_out(server.url, token, session_id=session_id)
        assert len(server.logon_sessions) == 1
        assert server.connections.open == 0


async def test_the_door_is_a_manager_however_it_is_opened() -> None:
    """Awaited, entered, or built and opened: the same, one logon each."""
    async with SimulatedServer() as server:
        awaited = await door(server)
        async with door(server) as entered:
            built = await direct(server).open()
            assert type(awaited) is type(entered) is type(built)
            await built.aclose()
        await awaited.aclose()
        assert server.logons.total == 3
        assert server.logon_sessions == []


DOORS: dict[str, Callable[..., object]] = {
    "connect": vt.connect,
    "adopt": vt.adopt,
    "log_out": vt.log_out,
    "SessionManager": vt.SessionManager,
    "connect in a loop": late.connect,
    "adopt in a loop": late.adopt,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_help_shows_every_keyword_with_its_default_and_meaning(
    door: Callable[..., object],
) -> None:
    """At a prompt nothing hides behind **options, nor in a running loop."""
    shown = inspect.signature(door).parameters
    meaning = inspect.getdoc(door.__init__ if inspect.isclass(door) else door) or ""
    for field in attrs.fields(Settings):
        if field.name in Options.__optional_keys__:
            default = Pace() if field.name == "pace" else field.default
            assert repr(shown[field.name].default) in {repr(default), "Pace()"}
            said = "``Pace()``" if field.name == "pace" else f"{default!r}"
            quoted = said.replace("'", '"')
            assert f"* `{field.name}` ({quoted}): " in meaning
    assert Options.__optional_keys__ <= shown.keys()
    assert all(f"* `{name}`" in meaning for name in shown if name != "self")
    assert not any(one.kind is one.VAR_KEYWORD for one in shown.values())


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("acept", "accept"), ("finger_print", "fingerprint"), ("user_name", "username")],
)
def test_a_typo_names_the_nearest_keyword(typo: str, meant: str) -> None:
    """Who mistypes a keyword is told what may have been meant."""
    options: dict[str, Any] = {"username": "u", "password": "p", typo: "x"}
    with pytest.raises(TypeError, match=f"'{typo}'; did you mean '{meant}'"):
        vt.connect("https://em.example", **options)


@pytest.mark.parametrize("name", ["verify", "verify_ssl", "check_hostname"])
async def test_a_keyword_of_other_clients_names_ours(name: str) -> None:
    """Who knows `verify` of requests and httpx is told what is there instead."""
    options: dict[str, Any] = {"username": "u", "password": "p", name: False}
    for way in ("connect", "connect in a loop", "SessionManager"):
        with pytest.raises(TypeError) as caught:
            await cast("Any", DOORS[way](URL, **options))
        meant = "did you mean 'ca_file', 'fingerprint' or 'insecure'?"
        assert str(caught.value).endswith(f"keyword argument '{name}'; {meant}")


REQUIRED: dict[str, tuple[dict[str, str], str]] = {
    "connect": ({"usrname": "u", "password": "secret-1"}, "username"),
    "connect in a loop": ({"username": "u", "pasword": "secret-1"}, "password"),
    "SessionManager": ({"user_name": "u", "password": "secret-1"}, "username"),
    "adopt": ({"tokn": "secret-1"}, "token"),
    "adopt in a loop": ({"toke": "secret-1"}, "token"),
    "log_out": ({"tokens": "secret-1"}, "token"),
}


@pytest.mark.parametrize("name", REQUIRED)
async def test_a_typo_in_what_has_to_be_given_names_it_too(name: str) -> None:
    """It is not told as missing alone; and no frame of ours shows the secret."""
    given, meant = REQUIRED[name]
    (typo,) = given.keys() - {"username", "password"}
    found = f"{name.split(maxsplit=1)[0]}() got an unexpected keyword argument '{typo}'"
    with pytest.raises(TypeError) as caught:
        await cast("Any", DOORS[name](URL, **given))
    assert str(caught.value) == f"{found}; did you mean '{meant}'?"
    assert not [one for one in locals_of(caught.value) if "secret-1" in one]


@pytest.mark.parametrize("name", ["connect", "connect in a loop", "SessionManager"])
async def test_what_is_missing_is_told_where_nothing_is_misspelt(name: str) -> None:
    """All of it at once; and beside a keyword that resembles none."""
    door: Any = DOORS[name]
    called = name.split(maxsplit=1)[0]
    said = rf"^{called}\(\) missing 3 .*: 'url', 'username' and 'password'$"
    with pytest.raises(TypeError, match=said):
        door()
    with pytest.raises(TypeError, match=r"missing 1 required argument: 'password'$"):
        door(URL, username="u")
    with pytest.raises(TypeError, match=r"'pwd'; missing: 'password'$"):
        door(URL, username="u", pwd="p")
    lacking = r"'token'; missing: 'username' and 'password'$"
    with pytest.raises(TypeError, match=lacking):
        door(URL, token="t")


MISSPELT: dict[str, Callable[[SessionManager, dict[str, Any]], object]] = {
    "watch timeot": lambda em, typo: em.watch("task-1", **typo),
    "watch_all folow": lambda em, typo: em.watch_all(**typo),
    "wait time_out": lambda em, typo: em.wait("task-1", **typo),
    "submit metod": lambda em, typo: em.submit("jobs/x?action=start", **typo),
    "run findtimeout": lambda em, typo: em.run("jobs/x?action=start", **typo),
    "follow timout": lambda em, typo: em.follow("task-1", **typo),
    "resume pase": lambda em, typo: em.resume({}, **typo),
    "SimulatedServer verson": lambda _, typo: SimulatedServer(**typo),
    "ThreadedServer job_link": lambda _, typo: ThreadedServer(**typo),
}
MEANT = {
    "timeot": "timeout",
    "folow": "follow",
    "time_out": "timeout",
    "metod": "method",
    "findtimeout": "find_timeout",
    "timout": "timeout",
    "pase": "pace",
    "verson": "version",
    "job_link": "job_links",
}


@pytest.mark.parametrize("call", MISSPELT)
async def test_a_typo_in_a_call_names_the_nearest_keyword_too(call: str) -> None:
    """On every Python, and before the manager is asked for anything."""
    em = vt.SessionManager("https://em.example", username="u", password="p")
    typo = call.split()[1]
    meant = f"(?i)did you mean '{MEANT[typo]}'"
    with pytest.raises(TypeError, match=meant):
        await cast("Any", MISSPELT[call](em, {typo: 5}))


@pytest.mark.parametrize("name", ["watch", "wait", "run", "submit", "resume"])
def test_help_shows_the_keywords_of_a_call(name: str) -> None:
    """What names the nearest keyword hides neither signature nor text."""
    call = getattr(vt.SessionManager, name)
    shown = inspect.signature(call).parameters
    assert not any(one.kind is one.VAR_KEYWORD for one in shown.values())
    assert "Args:" in (inspect.getdoc(call) or "")
    assert inspect.iscoroutinefunction(call) == (name not in {"watch", "resume"})


def test_a_forgotten_await_is_named() -> None:
    """What connect returns has nothing of a manager before it is awaited."""
    unawaited: Any = vt.connect("https://em.example", username="u", password="p")
    with pytest.raises(AttributeError, match="await connect"):
        unawaited.watch("task-1")
    with pytest.raises(AttributeError, match="no attribute 'wacth'"):
        unawaited.wacth("task-1")


@pytest.mark.parametrize("name", ["connect", "adopt"])
@pytest.mark.parametrize("module", [vt, late], ids=["loaded", "late"])
async def test_a_door_that_nobody_used_warns(module: Any, name: str) -> None:
    """As a coroutine that was never awaited does, with the line that made it."""
    account = {"username": "u", "password": "p"}
    args = () if name == "connect" else ("dG9rZW4=",)
    said = rf"^{name}\(\) was never awaited"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        getattr(module, name)(URL, *args, **({} if args else account))
    [warning] = caught
    assert warning.filename == __file__
    assert "getattr(module, name)" in linecache.getline(__file__, warning.lineno)
    assert f"em = await {name}(...)" in str(warning.message)


async def wait_in_vain(unused: Any) -> None:
    """Wait until nobody answers."""
    with pytest.raises(TransportError):
        await unused


async def give_up(unused: Any) -> None:
    """Be cancelled at once."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await unused


async def look(unused: Any) -> None:
    """Look at it only: its `repr` tells what is to be done."""
    assert "await it" in repr(unused)


@pytest.mark.parametrize("use", [wait_in_vain, give_up, look])
@pytest.mark.parametrize("module", [vt, late], ids=["loaded", "late"])
async def test_a_door_that_was_used_does_not_warn(module: Any, use: Any) -> None:
    """Whatever came of it, nobody forgot to await it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await use(module.connect("http://127.0.0.1:1", username="u", password="p"))
        gc.collect()
    assert [str(one.message) for one in caught] == []


@pytest.mark.parametrize("module", [vt, late], ids=["loaded", "late"])
def test_arguments_may_be_tried_without_a_loop(module: Any) -> None:
    """Where nothing can be awaited nothing was forgotten."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.connect(URL, username="u", password="p")
        gc.collect()
    assert caught == []
