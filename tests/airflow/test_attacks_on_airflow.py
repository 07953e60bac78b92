"""What goes wrong within Airflow itself: Variables, connections, kills, tracebacks."""

import asyncio
import base64
import json
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import metadata
from typing import Any

import attrs
import pytest
from support.airflow_parts import sent
from support.secrets_guard import forms

import veeam_tasks as vt
from veeam_tasks.airflow._shared_logon import Logon
from veeam_tasks.simulator import Fault, ThreadedServer

try:
    metadata.version("apache-airflow-task-sdk")
except metadata.PackageNotFoundError:
    pytest.skip("Airflow is not installed: nox -s airflow", allow_module_level=True)

from support.airflow_itself import connected, new_dag, run, xcom

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("airflow_home"),
]
PASSWORD = "admin-secret"


def variables() -> Any:
    """Return Airflow's Variables, as its database has them: a test is no task."""
    from airflow.models import variable

    return variable.Variable


def deleted(server: ThreadedServer) -> int:
    """Return how many tasks were deleted."""
    wanted = [one for one in server.requests if one.method == "DELETE"]
    return sum("/tasks/" in one.path for one in wanted)


@attrs.define
class Ended:
    """How the tasks of a DAG run ended."""

    states: dict[str, str]
    errors: list[BaseException]


def run_one(conn_id: str, name: str, **options: Any) -> Ended:
    """Run a DAG of one action; return its states, and the errors Airflow saw."""
    from veeam_tasks.airflow.operators import VeeamActionOperator

    errors: list[BaseException] = []

    def note(context: Any) -> None:
        errors.append(context["exception"])

    given = {"job": "Nightly", "on_failure_callback": note, **options}
    with new_dag(name) as dag:
        VeeamActionOperator(task_id="one", veeam_conn_id=conn_id, **given)
        return Ended(run(dag), errors)


@pytest.mark.parametrize(
    "text",
    ["garbage", "[]", '{"reference": "r", "token": null, "session_id": null}'],
)
def test_a_variable_with_garbage_is_replaced(server: ThreadedServer, text: str) -> None:
    """The next task logs on, publishes what it got, and runs."""
    server.add_job("Nightly", session="Working 5s, Stopped")
    with connected(server) as conn_id:
        key = f"veeam_em_token__{conn_id}"
        variables().set(key, text)
        ended = run_one(conn_id, f"garbage_{len(text)}")
        assert ended.states == {"one": "success"}
        found = json.loads(variables().get(key))
        assert found.keys() == {"reference", "token", "session_id"}
    assert len(server.logons) == 1


def test_a_variable_whose_logon_session_is_dead_is_renewed_once(
    server: ThreadedServer,
) -> None:
    """It was idle for too long; the next task meets the 401 and logs on."""
    server.add_job("Nightly", session="Working 5s, Stopped")
    with connected(server) as conn_id:
        assert run_one(conn_id, "alive").states == {"one": "success"}
        server.expire_logon_sessions()
        assert run_one(conn_id, "dead").states == {"one": "success"}
    assert [one.accepted for one in server.logons] == [True, True]
    assert sent(server) == 2


def plant(entry: dict[str, Any], action: dict[str, Any]) -> Callable[[Any], None]:
    """Return what leaves in Airflow's store what a try before this one wrote."""
    from veeam_tasks.airflow._submitting import Action, keys_of

    def write(context: Any) -> None:
        store = context["task_state_store"]
        store.set("veeam_tried", {"noted": "tried"})
        (key,) = keys_of([Action(**action)])
        store.set(key, entry)

    return write


def test_a_retry_that_finds_sending_alone_sends_nothing(server: ThreadedServer) -> None:
    """It fails for good, whatever `retries` says, and tells what to do."""
    server.add_job("Nightly", session="Working 5s, Stopped")
    entry = {"noted": "sending", "action": "start Nightly", "max_tries": 2}
    with connected(server) as conn_id:
        ended = run_one(
            *(conn_id, "sending"),
            retries=2,
            pre_execute=plant(entry, {"job": "Nightly"}),
        )
    assert ended.states == {"one": "failed"}
    assert "may have been carried out" in str(ended.errors)
    assert xcom("sending", "one")["outcome"] == "uncertain"
    assert sent(server) == 0


def test_a_reply_that_does_not_come_is_not_retried(server: ThreadedServer) -> None:
    """The action may have been carried out, so the Airflow task fails for good."""
    server.add_job("Nightly", session="Working 5s, Stopped")
    server.faults.add(Fault("reset", path="action=", carried_out=True))
    with connected(server) as conn_id:
        ended = run_one(conn_id, "no_reply", retries=2)
    assert ended.states == {"one": "failed"}
    assert sent(server) == 1


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"password": None}, "needs a host, an account and a password"),
        ({"password": ""}, "needs a host, an account and a password"),
        ({"extra": "not JSON"}, "no JSON object"),
        ({"extra": "[1]"}, "no JSON object"),
        ({"extra": {"pace_longest": "soon"}}, "pace_longest is no number"),
        ({"extra": {"verify": False}}, "unknown extra 'verify'"),
        ({"extra": {"fingerprint": "ab"}}, "fingerprint"),
    ],
)
def test_a_wrong_connection_fails_the_task_with_what_is_wrong(
    server: ThreadedServer, changed: dict[str, Any], text: str
) -> None:
    """Nothing is asked of the server, so nothing counts as a wrong password."""
    with connected(server, **changed) as conn_id:
        name = f"wrong_{abs(hash(str(changed)))}"
        ended = run_one(conn_id, name)
    assert ended.states == {"one": "failed"}
    assert text in str(ended.errors)
    assert not server.requests


def form_of(server: ThreadedServer, **changed: Any) -> tuple[bool, str]:
    """Press the button of the form of a connection."""
    from airflow.sdk import Connection

    host, _, port = server.url.rpartition(":")
    given = {"login": "admin", "password": PASSWORD, "port": int(port), **changed}
    form = Connection(conn_id="form", conn_type="veeam_em", host=host, **given)
    return form.test_connection()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("html"),
        Fault("status", status=200, body="html"),
        Fault("status", status=403, body="html"),
        Fault("redirect", status=302),
        Fault("garbage"),
        Fault("reset"),
    ],
)
def test_the_button_says_that_this_is_no_enterprise_manager(
    server: ThreadedServer, fault: Fault
) -> None:
    """A portal that answers HTML, a proxy that redirects: one line, no password."""
    server.faults.add(fault)
    good, text = form_of(server)
    assert not good
    assert text
    assert "\n" not in text
    assert not {form for form in forms(PASSWORD) if form in text}
    assert not server.logon_sessions


def test_the_button_says_what_is_wrong_with_the_form(server: ThreadedServer) -> None:
    """Nothing is asked of the server then."""
    assert form_of(server, password="") == (
        False,
        "connection 'form' needs a host, an account and a password",
    )
    assert "no JSON object" in form_of(server, extra="[]")[1]
    assert not server.requests


def within_a_task(name: str, body: Callable[[], Awaitable[None]]) -> dict[str, str]:
    """Run a coroutine function as a task of Airflow, where Variables can be had."""
    from airflow.sdk import task

    with new_dag(name) as dag:
        task(lambda: asyncio.run(body()), task_id="body")()
        return run(dag)


async def started_by(conn_id: str, server: ThreadedServer) -> dict[str, Any]:
    """Start the job as a worker does; return the arguments of a trigger."""
    from veeam_tasks.airflow._submitting import with_logon
    from veeam_tasks.airflow._watching import checkpoint_of
    from veeam_tasks.airflow.hooks import VeeamHook

    async def start(em: vt.SessionManager, logon: Logon) -> dict[str, Any]:
        job = server.jobs[-1]
        task = await em.submit(f"{job.path}?action=start")
        checkpoint = await checkpoint_of(em, task, follow=True, find_timeout=60.0)
        return {
            "veeam_conn_id": conn_id,
            "reference": logon.reference,
            "checkpoints": {"0": checkpoint},
        }

    return await with_logon(VeeamHook(conn_id).source, start)


def set_state(state: str) -> Any:
    """Give the Airflow task that runs a state; return what a triggerer knows of it."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk import get_current_context
    from airflow.utils.session import create_session

    one = get_current_context()["ti"]
    with create_session() as session:
        session.get(TaskInstance, one.id).state = state
    return one


def test_a_kill_deletes_the_task_only_where_that_is_asked_for(
    server: ThreadedServer,
) -> None:
    """And never one of the same ID that another logon session may have."""
    from veeam_tasks.airflow.triggers import VeeamTrigger

    server.add_job("Nightly", session="Working 2h, Stopped")
    counts = []
    with connected(server) as conn_id:

        async def body() -> None:
            given = await started_by(conn_id, server)
            one = set_state("failed")
            for changed in (
                {},
                {"delete_on_kill": True, "reference": "of another"},
                {"delete_on_kill": True},
            ):
                trigger = VeeamTrigger(**{**given, **changed})
                trigger.task_instance = one
                await trigger.on_kill()
                counts.append(deleted(server))
            set_state("running")

        assert within_a_task("kill", body) == {"body": "success"}
    assert counts == [0, 0, 1]


@pytest.mark.parametrize("state", ["deferred", "scheduled", "queued", "running"])
def test_a_triggerer_that_was_only_slow_deletes_nothing(
    server: ThreadedServer, state: str
) -> None:
    """Airflow calls that a kill, too: another one has taken the trigger over."""
    from veeam_tasks.airflow.triggers import VeeamTrigger

    server.add_job("Nightly", session="Working 2h, Stopped")
    with connected(server) as conn_id:

        async def body() -> None:
            given = await started_by(conn_id, server)
            trigger = VeeamTrigger(**given, delete_on_kill=True)
            await trigger.on_kill()
            trigger.task_instance = set_state(state)
            await trigger.on_kill()
            set_state("running")

        assert within_a_task(f"slow_{state}", body) == {"body": "success"}
    assert deleted(server) == 0
    assert sent(server) == 1


def test_a_kill_when_the_account_is_refused_raises_nothing(
    server: ThreadedServer,
) -> None:
    """Airflow would write the traceback to its log."""
    from veeam_tasks.airflow.triggers import VeeamTrigger

    with connected(server, password="wrong-one") as conn_id:
        given = {"veeam_conn_id": conn_id, "reference": "r", "checkpoints": {}}

        async def body() -> None:
            trigger = VeeamTrigger(**given, delete_on_kill=True)
            trigger.task_instance = set_state("failed")
            await trigger.on_kill()
            set_state("running")

        assert within_a_task("kill_refused", body) == {"body": "success"}
    assert [one.accepted for one in server.logons] == [False]


def test_a_trigger_that_is_moved_to_another_triggerer_ends_nothing(
    server: ThreadedServer,
) -> None:
    """Airflow cancels it and calls `cleanup`; the other one sees the same end."""
    from veeam_tasks.airflow.triggers import VeeamTrigger

    class Moved(VeeamTrigger):
        def _on_event(self, event: vt.TaskEvent) -> None:
            super()._on_event(event)
            seen.set()

    server.add_job("Nightly", session="Working 60s, Stopped warning")
    seen, ends = asyncio.Event(), []
    with connected(server) as conn_id:

        async def body() -> None:
            given = await started_by(conn_id, server)
            first = Moved(**given)
            watching = asyncio.create_task(anext(first.run()))
            await seen.wait()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await first.cleanup()
            again = VeeamTrigger(**VeeamTrigger(**given).serialize()[1])
            ends.append((await anext(again.run())).payload)

        assert within_a_task("moved", body) == {"body": "success"}
    assert ends[0]["outcomes"]["0"]["outcome"] == "warning"
    assert len(server.logons) == 1
    assert sent(server) == 1
    assert deleted(server) == 0


@pytest.mark.parametrize("conn_id", ["no_such_connection"])
def test_a_trigger_without_its_connection_says_so(conn_id: str) -> None:
    """It is an end that Airflow tells, not a crash of the trigger."""
    from veeam_tasks.airflow.triggers import VeeamTrigger

    ends = []

    async def body() -> None:
        checkpoint = {"task": "task-1", "watch": {"version": 1}}
        trigger = VeeamTrigger(
            veeam_conn_id=conn_id, reference=None, checkpoints={"0": checkpoint}
        )
        ends.append((await anext(trigger.run())).payload)

    assert within_a_task("no_connection", body) == {"body": "success"}
    assert conn_id in ends[0]["problem"]


def test_a_sensor_of_something_else_says_what_it_wants(server: ThreadedServer) -> None:
    """The XCom of an operator that waited is a report of what has ended."""
    from veeam_tasks.airflow.sensors import VeeamTaskSensor

    errors: list[BaseException] = []
    with connected(server) as conn_id, new_dag("wrong_sensor") as dag:
        VeeamTaskSensor(
            task_id="one",
            tasks=[{"task_id": "task-1", "outcome": "succeeded"}],
            veeam_conn_id=conn_id,
            on_failure_callback=lambda context: errors.append(context["exception"]),
        )
        assert run(dag) == {"one": "failed"}
    assert "neither a task ID nor" in str(errors)


def whole_text(error: BaseException | None) -> str:
    """Return a traceback with all locals, of the error and whatever hangs on it."""
    found = []
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        found += [*told.format(chain=False), repr(error), str(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(found)


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        (None, {"password": "wrong-horse-battery"}),
        (Fault("status", path="action=", status=500), {}),
        (Fault("status", path="action=", status=401), {}),
        (Fault("reset", path="action="), {}),
        (Fault("html", path="action="), {}),
        (Fault("status", path="sessionMngr", status=500), {}),
        (Fault("html", path="sessionMngr"), {}),
        (Fault("reset"), {}),
    ],
)
def test_no_traceback_has_a_secret_even_with_all_its_locals(
    server: ThreadedServer, fault: Fault | None, changed: dict[str, Any]
) -> None:
    """Error trackers send locals along; Airflow's own log shows the traceback."""
    server.add_job("Nightly", session="Working 5s, Stopped")
    if fault is not None:
        server.faults.add(fault)
    with connected(server, **changed) as conn_id:
        name = f"locals_{abs(hash(str((fault, changed))))}"
        ended = run_one(
            conn_id, name, job=None, path=f"{server.jobs[-1].path}?action=start"
        )
    assert ended.states == {"one": "failed"}
    tokens = {one.header("X-RestSvcSessionId") for one in server.requests}
    secrets = [PASSWORD, "wrong-horse-battery", *filter(None, tokens)]
    secrets += [base64.b64decode(token).decode() for token in tokens if token]
    assert len(ended.errors) == 1
    text = whole_text(ended.errors[0])
    assert "execute" in text
    assert not [one for one in secrets for form in forms(one) if form in text]
