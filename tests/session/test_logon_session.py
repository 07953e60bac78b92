"""The logon session over a scripted transport: once for all, and never a loop."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import anyio
import attrs
import pytest

from veeam_tasks import (
    ClosedError,
    LogonError,
    MalformedReplyError,
    ServerBusyError,
    StatusError,
    Task,
    TaskState,
    TransportError,
    VeeamTasksError,
)
from veeam_tasks._model import origin_of
from veeam_tasks._protocol.logon import session_id_in
from veeam_tasks._protocol.messages import Reply, Request
from veeam_tasks._redaction import Secret, Secrets
from veeam_tasks._session.credentials import Credentials
from veeam_tasks._session.logon_session import LogonSession

SESSION_ID = "695c2c92-d1e8-4a2a-b5f3-9f2f2b1c1a11"
BODY = (
    '<LogonSession xmlns="http://www.veeam.com/ent/v1.0" Type="LogonSession"'
    f' Href="https://h:9398/api/logonSessions/{SESSION_ID}"><Links/>'
    f"<UserName>admin</UserName><SessionId>{SESSION_ID}</SessionId></LogonSession>"
).encode()
ERROR = (
    b'<Error Message="Access denied" StatusCode="403"'
    b' xmlns="http://www.veeam.com/ent/v1.0"></Error>'
)
AS_IT_IS = 0
"""Answers 401 if the token has expired, else 200."""
ASK = Request(method="GET", path="tasks/task-1", shown="tasks/task-1")
OWN = f"GET logonSessions/{SESSION_ID}"
LOG_ON = "POST sessionMngr/?v=latest"
ABSENT = "GET tasks/task-0"
ASKED = "GET tasks/task-1"
RESET = TransportError(request="GET x", reason="reset")

Answer = int | VeeamTasksError | Callable[[], Awaitable[int]]


@attrs.define
class Script:
    """A transport that answers each kind of request with its next answer, or the last.

    Keys are the method and how the path begins; a logon answered with 201 brings the
    next token. Unless told otherwise, a token that was refused for a task has expired.
    """

    answers: dict[str, list[Answer]]
    asked: list[tuple[str, str | None]] = attrs.field(factory=list)
    tokens: int = 0
    expired: set[str | None] = attrs.field(factory=set)
    error: bytes = ERROR
    session: bytes = BODY

    async def send(
        self, request: Request, token: str | None = None, *, uncertain: bool = False
    ) -> Reply:
        """Give the next answer."""
        what = f"{request.method} {request.path}"
        self.asked.append((what, token))
        key = next(key for key in self.answers if what.startswith(key))
        is_poll = key == "GET tasks"
        answers = self.answers[key]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        # Not earlier than the next step, as on a wire.
        await asyncio.sleep(0)
        if isinstance(answer, VeeamTasksError):
            raise answer
        status = answer if isinstance(answer, int) else await answer()
        if status == 401 and is_poll:
            self.expired.add(token)
        if status == AS_IT_IS:
            status = 401 if token in self.expired else 200
        new = None
        if request.method == "POST" and status == 201:
            self.tokens += 1
            new = f"token-{self.tokens}"
        return Reply(
            request=f"{request.method} {request.shown}",
            status=status,
            content_type="application/xml",
            body=BODY if new else self.error if status >= 400 else self.session,
            token=new,
        )

    def count(self, kind: str) -> int:
        """Return how many requests of one kind there were."""
        return sum(what.startswith(kind) for what, _ in self.asked)


class Scene:
    """A logon over a script, and what it told."""

    def __init__(self, *, adopted: bool = False, **answers: list[Answer]) -> None:
        self.script = Script(
            {
                "POST sessionMngr": answers.get("post", [201]),
                "GET logonSessions": answers.get("own", [AS_IT_IS]),
                "DELETE logonSessions": answers.get("out", [204]),
                # By default it says nothing of the token.
                ABSENT: answers.get("absent", [405]),
                "GET tasks": answers.get("get", [200]),
            }
        )
        self.told: list[object] = []
        self.logon = LogonSession(
            transport=self.script,
            listener=self,
            secrets=Secrets(),
            credentials=None
            if adopted
            else Credentials(username="u", password=self.password),
            api_version="latest",
            media_type="application/xml",
        )
        self.passwords: list[str] = ["secret"]

    def logged_on(self) -> None:
        """Note a first logon."""
        self.told.append("logged on")

    def renewed(self) -> None:
        """Note a renewal."""
        self.told.append("renewed")

    def refused(self, error: LogonError) -> None:
        """Note a refusal."""
        self.told.append(error)

    def password(self) -> str:
        """Return the password of the day."""
        return self.passwords[0]

    async def opened(self, *, accepted: bool = True) -> LogonSession:
        """Log on, and let the token be accepted; forget what was asked for it."""
        await self.logon.open()
        if accepted:
            self.logon.mark_accepted(1)
        self.script.asked.clear()
        self.told.clear()
        return self.logon


async def test_each_logon_session_is_one_that_tasks_are_given_by() -> None:
    """What is read from then on remembers the reference of the new one."""
    logon = await Scene().opened()
    given = Task(
        task_id="task-1", state=TaskState.RUNNING, raw_state="Running", operation="x"
    )
    logon.origins.give(given)
    origin = origin_of(given)
    assert origin is not None
    assert origin.logon == logon.reference is not None


# --- open


async def test_open_logs_on_once() -> None:
    """Token and session ID come from the reply; a second open asks nothing."""
    scene = Scene()
    await asyncio.gather(*(scene.logon.open() for _ in range(20)))
    await scene.logon.open()
    logon = scene.logon
    assert scene.script.asked == [("POST sessionMngr/?v=latest", None)]
    assert (logon.token, logon.session_id) == ("token-1", SESSION_ID)
    assert (logon.generation, logon.logons, logon.renewals) == (1, 1, 0)
    assert (logon.accepted, logon.renewed_at) == (False, None)
    assert scene.told == ["logged on"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_logon_is_final_until_open(status: int) -> None:
    """Sent once however many wait; later calls get it at once; open asks anew."""
    scene = Scene(post=[status, 201])
    got = await asyncio.gather(
        *(scene.logon.open() for _ in range(20)), return_exceptions=True
    )
    assert {type(error) for error in got} == {LogonError}
    assert len(set(map(id, got))) == 20, "a traceback is shared"
    assert scene.script.count("POST") == 1
    assert len(scene.told) == 1
    for call in (
        lambda: scene.logon.send(ASK),
        lambda: scene.logon.renew(1, is_expired=True),
    ):
        with pytest.raises(LogonError, match="not tried again until open"):
            await call()
    with pytest.raises(LogonError):
        scene.logon.check()
    assert scene.script.count("") == 1
    await scene.logon.open()
    assert scene.logon.check() == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (500, StatusError),
        (503, ServerBusyError),
        (302, StatusError),
        (200, MalformedReplyError),
        (RESET, TransportError),
    ],
)
async def test_a_logon_without_an_answer_is_no_refusal(
    answer: Answer, kind: type[VeeamTasksError]
) -> None:
    """It may be tried again: an outage, or a URL that is no Enterprise Manager."""
    scene = Scene(post=[answer, 201])
    with pytest.raises(kind) as caught:
        await scene.logon.open()
    assert not isinstance(caught.value, LogonError)
    assert scene.logon.refused is None
    with pytest.raises(ClosedError):
        scene.logon.check()
    await scene.logon.open()
    assert scene.told == ["logged on"]


# --- renewal


async def test_many_refused_make_one_logon() -> None:
    """Each hands back the generation that it was refused with; all go once more."""
    scene = Scene(get=[*[401] * 50, 200])
    logon = await scene.opened()
    got = await asyncio.gather(*(logon.send(ASK) for _ in range(50)))
    assert {(reply.status, generation) for reply, generation in got} == {(200, 2)}
    assert scene.script.count("POST") == 1
    assert (logon.generation, logon.renewals, logon.retries) == (2, 1, 50)
    assert logon.accepted
    assert logon.renewed_at is not None
    assert scene.told == ["renewed"]
    assert {token for what, token in scene.script.asked[:50]} == {"token-1"}
    # One for all is asked for the logon session itself, then one logs on.
    assert scene.script.asked[50:52] == [(OWN, "token-1"), (LOG_ON, None)]
    assert {token for what, token in scene.script.asked[52:]} == {"token-2"}


async def test_a_late_401_of_an_older_token_renews_nothing() -> None:
    """What counts is the token that the request was sent with."""
    gate = asyncio.Event()

    async def late() -> int:
        await gate.wait()
        return 401

    scene = Scene(get=[late, 401, 200])
    logon = await scene.opened()
    slow = asyncio.create_task(logon.send(ASK))
    await anyio.wait_all_tasks_blocked()
    await logon.send(ASK)
    assert logon.generation == 2
    gate.set()
    assert (await slow)[0].status == 200
    await logon.renew(1, is_expired=True)
    await logon.renew(0)
    assert scene.script.count("POST") == 1
    assert logon.renewals == 1


async def test_a_cancelled_first_waiter_takes_nobody_down() -> None:
    """The logon is an asyncio task of its own; also if all who waited have gone."""
    gate = asyncio.Event()

    async def slow() -> int:
        await gate.wait()
        return 201

    scene = Scene(post=[201, slow])
    logon = await scene.opened()
    first = asyncio.create_task(logon.renew(1, is_expired=True))
    await anyio.wait_all_tasks_blocked()
    second = asyncio.create_task(logon.renew(1, is_expired=True))
    await anyio.wait_all_tasks_blocked()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    gate.set()
    await second
    assert logon.generation == 2
    assert scene.script.count("POST") == 1


async def test_a_failure_without_waiters_is_nobodys_complaint() -> None:
    """Asyncio does not report an exception that nobody waited for any more."""
    gate = asyncio.Event()

    async def slow() -> int:
        await gate.wait()
        return 500

    scene = Scene(post=[201, slow])
    logon = await scene.opened()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(context)
    )
    alone = asyncio.create_task(logon.renew(1, is_expired=True))
    await anyio.wait_all_tasks_blocked()
    alone.cancel()
    await asyncio.wait([alone])
    gate.set()
    await logon.wait_for_pending()
    assert complaints == []
    assert logon.generation == 1


@pytest.mark.parametrize("answer", [500, RESET])
async def test_a_failed_renewal_is_shared_and_may_be_tried_again(
    answer: Answer,
) -> None:
    """All who wait get their own copy of the error; the old token stays for now."""
    scene = Scene(post=[201, answer, 201])
    logon = await scene.opened()
    got = await asyncio.gather(
        *(logon.renew(1, is_expired=True) for _ in range(10)), return_exceptions=True
    )
    assert len({type(error) for error in got}) == 1
    assert len(set(map(id, got))) == 10
    assert scene.script.count("POST") == 1
    assert (logon.token, logon.refused) == ("token-1", None)
    await logon.renew(1, is_expired=True)
    assert logon.token == "token-2"
    assert scene.told == ["renewed"]


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("status", [401, 500])
async def test_whoever_comes_when_a_logon_has_ended_makes_the_next(
    steps: int, status: int
) -> None:
    """There is no step of the loop in which a logon is shared that is over."""
    gate = asyncio.Event()

    async def slow() -> int:
        await gate.wait()
        return status

    async def unhurried() -> int:
        for _ in range(9):
            await asyncio.sleep(0)
        return 201

    async def come(steps: int) -> None:
        await gate.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        await (logon.renew(1, is_expired=True) if status == 500 else logon.open())

    scene = Scene(post=[201, slow, unhurried])
    logon = await scene.opened()
    first = asyncio.create_task(logon.renew(1, is_expired=True))
    await anyio.wait_all_tasks_blocked()
    second = asyncio.create_task(come(steps))
    third = asyncio.create_task(come(steps + 4))
    await anyio.wait_all_tasks_blocked()
    gate.set()
    await asyncio.wait([first, second, third])
    assert isinstance(first.exception(), StatusError)
    assert second.exception() is third.exception() is None
    assert scene.script.count("POST") == 2
    assert logon.generation == 2


async def test_an_error_of_another_kind_is_not_swallowed() -> None:
    """Whatever it is, whoever waits is told."""
    scene = Scene()

    def crash() -> None:
        raise ZeroDivisionError

    scene.logged_on = crash  # type: ignore[method-assign] # one that fails
    with pytest.raises(ZeroDivisionError):
        await scene.logon.open()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_renewal_ends_all(status: int) -> None:
    """The token is dropped, everybody is told once, and nothing is asked any more."""
    scene = Scene(post=[201, status], get=[401])
    logon = await scene.opened()
    got = await asyncio.gather(
        *(logon.send(ASK) for _ in range(10)), return_exceptions=True
    )
    assert {type(error) for error in got} == {LogonError}
    assert scene.script.count("POST") == 1
    assert [type(one) for one in scene.told] == [LogonError]
    assert (logon.token, logon.session_id) == (None, None)
    asked = len(scene.script.asked)
    with pytest.raises(LogonError):
        await logon.keep_alive()
    assert len(scene.script.asked) == asked


async def test_a_second_401_of_a_token_that_was_replaced_proves_nothing() -> None:
    """Whether the newest token is good is not asked because of an older one."""

    async def late() -> int:
        logon.mark_accepted(2)
        await logon.renew(2, is_expired=True)
        return 401

    scene = Scene(get=[401, late], own=[401])
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 401
    assert logon.generation == 3
    assert scene.script.count("GET logonSessions") == 1


@pytest.mark.parametrize("own", [200, 403])
async def test_a_good_token_is_not_given_up_for_one_refused_resource(own: int) -> None:
    """A renewal would lose every task of the logon session; it is asked once more."""
    scene = Scene(get=[401], own=[own])
    logon = await scene.opened()
    reply, generation = await logon.send(ASK)
    assert (reply.status, generation) == (401, 1)
    assert await logon.renew(1) is False
    assert scene.script.count("POST") == 0
    assert scene.script.count(ASKED) == 2


@pytest.mark.parametrize(
    ("own", "body"), [(404, ERROR), (405, ERROR), (403, b""), (200, b""), (400, b"")]
)
async def test_a_server_that_shows_no_logon_session_is_believed_the_401(
    own: int, body: bytes
) -> None:
    """Only the logon session itself, or its own 403, shows a good token."""
    scene = Scene(get=[401, 200], own=[own])
    scene.script.error = scene.script.session = body
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 200
    assert scene.script.count("POST") == 1
    # Yet it may be that resource alone, all the same.
    assert await logon.renew(2) is False
    assert await logon.renew(2) is True


@pytest.mark.parametrize("own", [404, 410, 429, 302, 500, 503, RESET])
async def test_a_task_that_cannot_be_there_tells_where_else_nothing_does(
    own: Answer,
) -> None:
    """An expired token is renewed, a good one kept, where no logon session is shown."""
    scene = Scene(get=[401, 200], own=[own], absent=[401])
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 200
    assert scene.script.count("POST") == 1
    scene = Scene(get=[401, 200], own=[own], absent=[404])
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 200
    assert scene.script.count("POST") == 0


async def test_a_logon_session_that_is_shown_to_whomever_proves_nothing() -> None:
    """The task that cannot be there is refused as all others are."""
    scene = Scene(get=[401, 200], own=[200], absent=[401])
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 200
    assert scene.script.count("POST") == 1


@pytest.mark.virtual_time
async def test_tokens_refused_early_are_renewed_at_longer_pauses() -> None:
    """Two nodes that refuse each other's tokens do not lead to logons without end."""
    scene = Scene()
    logon = await scene.opened()
    began = anyio.current_time()
    pauses: list[float] = []
    for generation in range(1, 12):
        logon.mark_accepted(generation)
        await logon.renew(generation, is_expired=True)
        pauses.append(round(anyio.current_time() - began))
        began = anyio.current_time()
    assert pauses == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]
    await anyio.sleep(61)
    logon.mark_accepted(12)
    began = anyio.current_time()
    await logon.renew(12, is_expired=True)
    assert anyio.current_time() == began


@pytest.mark.virtual_time
async def test_a_close_does_not_wait_for_such_a_pause() -> None:
    """No logon is under way meanwhile, so there is nothing to log out."""
    scene = Scene()
    logon = await scene.opened()
    for generation in range(1, 4):
        logon.mark_accepted(generation)
        await logon.renew(generation, is_expired=True)
    logon.mark_accepted(4)
    waiting = asyncio.create_task(logon.renew(4, is_expired=True))
    await anyio.wait_all_tasks_blocked()
    began = anyio.current_time()
    await logon.wait_for_pending()
    assert anyio.current_time() == began
    with pytest.raises(ClosedError):
        await waiting


async def test_a_close_begun_before_such_a_pause_does_not_wait_for_it() -> None:
    """The token turns out to be dead while the close waits for what is under way."""
    gate = asyncio.Event()

    async def slow() -> int:
        await gate.wait()
        return 401

    scene = Scene(own=[slow])
    logon = await scene.opened()
    for generation in range(1, 4):
        logon.mark_accepted(generation)
        await logon.renew(generation, is_expired=True)
    logon.mark_accepted(4)
    waiting = asyncio.create_task(logon.renew(4))
    await anyio.wait_all_tasks_blocked()
    settling = asyncio.create_task(logon.wait_for_pending())
    await anyio.wait_all_tasks_blocked()
    gate.set()
    await settling
    with pytest.raises(ClosedError):
        await waiting
    assert logon.logons == 4


async def test_403_on_a_request_never_renews() -> None:
    """It is about the account's rights, not about the token."""
    scene = Scene(get=[403])
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 403
    assert scene.script.count("POST") == 0


async def test_a_password_that_changes_is_asked_for_anew() -> None:
    """A callable is asked at each logon, and what it gave is hidden."""
    scene = Scene(get=[401, 200])
    logon = await scene.opened()
    scene.passwords = ["another"]
    await logon.send(ASK)
    assert logon.secrets.hide("secret another") == "[hidden] [hidden]"


async def test_a_password_callable_that_fails_is_no_refusal() -> None:
    """The server never saw it."""
    scene = Scene()
    scene.passwords = []
    with pytest.raises(TransportError, match="IndexError"):
        await scene.logon.open()
    assert (scene.logon.refused, scene.script.asked) == (None, [])


@pytest.mark.parametrize("error", [IndexError("secret"), asyncio.CancelledError()])
async def test_a_password_that_is_awaited_in_vain_is_no_refusal(
    error: BaseException,
) -> None:
    """Whatever ends the caller's code ends the logon as an error of ours."""
    scene = Scene()
    assert scene.logon.credentials is not None

    async def ask() -> str:
        raise error

    scene.logon.credentials = Credentials(username="admin", password=ask)
    with pytest.raises(TransportError, match=type(error).__name__) as caught:
        await scene.logon.open()
    assert "secret" not in str(caught.value)
    assert (scene.logon.refused, scene.script.asked) == (None, [])


# --- a token that was never accepted


@pytest.mark.parametrize("own", [200, 403])
async def test_a_refused_resource_is_no_refused_token(own: int) -> None:
    """Never accepted so far, but it lets us ask for our own logon session."""
    scene = Scene(get=[401], own=[own])
    logon = await scene.opened(accepted=False)
    assert (await logon.send(ASK))[0].status == 401
    assert logon.accepted
    assert scene.script.count("POST") == 0


async def test_a_token_that_was_never_accepted_is_not_renewed() -> None:
    """A server that refuses its own tokens would be logged on to for ever."""
    scene = Scene(get=[401], own=[401])
    logon = await scene.opened(accepted=False)
    got = await asyncio.gather(
        *(logon.send(ASK) for _ in range(5)), return_exceptions=True
    )
    assert {type(error) for error in got} == {LogonError}
    assert "refused its own token" in str(got[0])
    assert scene.script.count("POST") == 0
    assert scene.script.count("GET logonSessions") == 1
    assert logon.refused is not None


async def test_a_renewed_token_that_is_refused_at_once_ends_all() -> None:
    """One renewal, and the new token is refused like the old one: no loop."""
    scene = Scene(get=[401], own=[401])
    logon = await scene.opened()
    with pytest.raises(LogonError, match="refused its own token"):
        await logon.send(ASK)
    assert scene.script.count("POST") == 1
    assert scene.script.count(ASKED) == 2


async def test_a_request_that_alone_is_refused_after_a_renewal_is_returned() -> None:
    """The new token is good, so the 401 is about that resource."""
    scene = Scene(get=[401], own=[401, 200])
    logon = await scene.opened()
    assert (await logon.send(ASK))[0].status == 401
    assert scene.script.count("POST") == 1
    assert logon.refused is None


@pytest.mark.parametrize("own", [500, 502, 503, RESET])
async def test_a_server_that_is_unwell_proves_nothing(own: Answer) -> None:
    """Whether the token is good stays open, and nothing is refused."""
    scene = Scene(get=[401], own=[own])
    logon = await scene.opened(accepted=False)
    with pytest.raises(VeeamTasksError) as caught:
        await logon.send(ASK)
    assert not isinstance(caught.value, LogonError)
    assert (logon.refused, logon.accepted) == (None, False)


async def test_noting_an_older_generation_accepts_nothing() -> None:
    """A late good reply says nothing of the token that came after."""
    scene = Scene(get=[401])
    logon = await scene.opened()
    await logon.renew(1, is_expired=True)
    logon.mark_accepted(1)
    assert not logon.accepted


# --- adopted


async def test_an_adopted_token_is_never_renewed() -> None:
    """A dead one is a LogonError that says so, at once for all."""
    scene = Scene(adopted=True, get=[200, 401], own=[401])
    scene.logon.adopt("token-0", None)
    assert (await scene.logon.send(ASK))[0].status == 200
    with pytest.raises(LogonError, match="adopted token is refused"):
        await scene.logon.send(ASK)
    assert [type(one) for one in scene.told] == [LogonError]
    assert scene.script.count("POST") == 0


async def test_an_adopted_token_outlives_one_refused_resource() -> None:
    """The logon session itself still answers."""
    scene = Scene(adopted=True, get=[401], own=[200])
    scene.logon.adopt("token-0", SESSION_ID)
    assert (await scene.logon.send(ASK))[0].status == 401
    assert scene.logon.refused is None
    assert OWN in [what for what, _ in scene.script.asked]


@pytest.mark.parametrize(
    ("session_id", "token", "what"),
    [
        (SESSION_ID, "dG9rZW4=", OWN),
        (None, base64.b64encode(SESSION_ID.encode()).decode(), OWN),
        (None, "dG9rZW4tMTI=", "GET logonSessions/token-12"),
        (None, "not base64", "GET logonSessions"),
    ],
)
async def test_our_own_logon_session_is_asked_for_by_its_id(
    session_id: str | None, token: str, what: str
) -> None:
    """Which newer servers put into the token; without one the collection must do."""
    scene = Scene(adopted=True)
    scene.logon.adopt(token, session_id)
    await scene.logon.keep_alive()
    assert scene.script.asked == [(what, token)]


@pytest.mark.parametrize(
    "token", ["", "!", "short", "c2hvcnQ=", "/////w==", "YSBiIGMgZCBlIGYgZyBo"]
)
def test_tokens_that_tell_no_session_id(token: str) -> None:
    """What is no base64 of an ID is none."""
    assert session_id_in(Secret(token)) is None


# --- keep-alive


async def test_keep_alive_asks_for_our_own_logon_session() -> None:
    """One cheap GET, which also shows that the token is accepted."""
    scene = Scene()
    logon = await scene.opened(accepted=False)
    await logon.keep_alive()
    assert scene.script.asked == [(OWN, "token-1")]
    assert logon.accepted


async def test_keep_alive_renews_a_token_that_is_void_already() -> None:
    """A laptop that slept wakes to an expired logon session."""
    scene = Scene(own=[401])
    logon = await scene.opened()
    await logon.keep_alive()
    assert logon.generation == 2
    assert scene.told == ["renewed"]


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_keep_alive_does_not_mind_other_answers(status: int) -> None:
    """They neither renew nor show that the token is accepted."""
    scene = Scene(own=[status])
    logon = await scene.opened(accepted=False)
    await logon.keep_alive()
    assert scene.script.count("POST") == 0
    assert not logon.accepted


async def test_keep_alive_of_a_dead_adopted_token_ends_all() -> None:
    """Its end is told as soon as it is known."""
    scene = Scene(adopted=True, own=[401])
    scene.logon.adopt("token-0", SESSION_ID)
    with pytest.raises(LogonError):
        await scene.logon.keep_alive()
    assert [type(one) for one in scene.told] == [LogonError]


async def test_keep_alive_without_a_reply_is_its_callers_to_ride_out() -> None:
    """And without a logon session there is nothing to keep."""
    scene = Scene(own=[RESET])
    with pytest.raises(ClosedError):
        await scene.logon.keep_alive()
    logon = await scene.opened()
    with pytest.raises(TransportError):
        await logon.keep_alive()
    assert logon.token == "token-1"


# --- log out


async def test_log_out_forgets_first_and_asks_once() -> None:
    """Whatever comes of it, nothing goes on under that token."""
    scene = Scene()
    logon = await scene.opened()
    leaving = asyncio.create_task(logon.log_out())
    await asyncio.sleep(0)
    assert logon.token is None
    assert await leaving
    assert scene.script.asked == [(f"DELETE logonSessions/{SESSION_ID}", "token-1")]
    assert not await logon.log_out()
    assert len(scene.script.asked) == 1


@pytest.mark.parametrize(
    ("out", "confirmed", "times"),
    [
        ([RESET, 204], True, 2),
        ([RESET], False, 2),
        ([401], False, 1),
        ([404], False, 1),
        ([500], False, 1),
    ],
)
async def test_log_out_goes_once_more_over_a_new_connection(
    out: list[Answer],
    confirmed: bool,
    times: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A kept connection may have died unnoticed; a failure is only logged.

    Where the server does not know it any more, it has ended already.
    """
    scene = Scene(out=out)
    logon = await scene.opened()
    assert await logon.log_out() is confirmed
    assert scene.script.count("DELETE") == times
    is_left = out in ([RESET], [500])
    assert ("not logged out" in caplog.text) is is_left


async def test_a_cancellation_in_mid_log_out_is_honoured_after_one_more_try() -> None:
    """A Ctrl-C must not leave the logon session open."""

    async def hang() -> int:
        await asyncio.sleep(3600)
        return 204

    scene = Scene(out=[hang, 204])
    logon = await scene.opened()
    leaving = asyncio.create_task(logon.log_out())
    await anyio.wait_all_tasks_blocked()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert scene.script.count("DELETE") == 2


async def test_a_second_cancellation_is_the_end() -> None:
    """Nobody is held who insists."""

    async def hang() -> int:
        await asyncio.sleep(3600)
        return 204

    scene = Scene(out=[hang])
    logon = await scene.opened()
    leaving = asyncio.create_task(logon.log_out())
    for _ in range(2):
        await anyio.wait_all_tasks_blocked()
        leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert scene.script.count("DELETE") == 2


async def test_what_is_not_ours_or_has_no_id_is_not_logged_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An adopted logon session stays; one without an ID cannot be ended."""
    adopted = Scene(adopted=True)
    adopted.logon.adopt("token-0", SESSION_ID)
    assert not await adopted.logon.log_out()
    nameless = Scene()
    logon = await nameless.opened()
    logon.session_id = None
    assert not await logon.log_out()
    assert "never told the ID of our logon session" in caplog.text
    assert adopted.script.asked == nameless.script.asked == []


# --- end, settle, stop


@pytest.mark.parametrize(
    ("out", "kind", "said"),
    [
        (401, LogonError, "has ended already"),
        (500, StatusError, "500"),
        (RESET, TransportError, "reset"),
    ],
)
async def test_an_end_on_request_says_what_went_wrong(
    out: Answer, kind: type[VeeamTasksError], said: str
) -> None:
    """Unlike a log-out at a close, somebody wants to know."""
    scene = Scene(adopted=True, out=[out, 204])
    with pytest.raises(ClosedError):
        await scene.logon.delete()
    scene.logon.adopt("token-0", SESSION_ID)
    with pytest.raises(kind, match=said):
        await scene.logon.delete()
    assert scene.logon.token == "token-0"
    await scene.logon.delete()
    assert scene.logon.token is None


async def test_settle_waits_for_a_logon_that_nobody_waits_for() -> None:
    """So that the logon session that comes of it can be logged out."""
    gate = asyncio.Event()

    async def slow() -> int:
        await gate.wait()
        return 201

    scene = Scene(post=[slow])
    await scene.logon.wait_for_pending()
    opening = asyncio.create_task(scene.logon.open())
    await anyio.wait_all_tasks_blocked()
    opening.cancel()
    settling = asyncio.create_task(scene.logon.wait_for_pending())
    await anyio.wait_all_tasks_blocked()
    assert not settling.done()
    gate.set()
    await settling
    assert scene.logon.token == "token-1"
    assert await scene.logon.log_out()


async def test_a_logon_that_is_stopped_is_no_cancellation_of_its_waiters() -> None:
    """They were not cancelled by anybody: they are told that it is closed."""

    async def hang() -> int:
        await asyncio.sleep(3600)
        return 201

    scene = Scene(post=[201, hang])
    logon = await scene.opened()
    waiting = [asyncio.create_task(logon.renew(1, is_expired=True)) for _ in range(3)]
    await anyio.wait_all_tasks_blocked()
    await logon.cancel_pending()
    await asyncio.wait(waiting)
    assert [type(one.exception()) for one in waiting] == [ClosedError] * 3
    await logon.cancel_pending()
