"""Which error is raised when; that none holds a secret is in test_secrets."""

import importlib.util
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, get_type_hints

import anyio
import pytest
from support.managers import Wire, direct, door

import veeam_tasks
from veeam_tasks import (
    ArgumentError,
    CertificateError,
    ClosedError,
    ForbiddenError,
    Link,
    LogonError,
    MalformedReplyError,
    Report,
    RequestTimeoutError,
    ServerBusyError,
    SessionFailedError,
    SessionLostError,
    SessionManager,
    StatusError,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TaskLostError,
    TaskNotFoundError,
    TransportError,
    VeeamTasksError,
    WatchTimeoutError,
    adopt,
    connect,
)
from veeam_tasks.simulator import Fault, SimulatedServer

pytestmark = pytest.mark.virtual_time

TREE: dict[type[Exception], tuple[type[Exception], ...]] = {
    VeeamTasksError: (Exception,),
    TransportError: (VeeamTasksError,),
    RequestTimeoutError: (TransportError,),
    CertificateError: (TransportError,),
    SubmitUncertainError: (TransportError,),
    StatusError: (VeeamTasksError,),
    LogonError: (StatusError,),
    ForbiddenError: (StatusError,),
    TaskNotFoundError: (StatusError,),
    ServerBusyError: (StatusError,),
    MalformedReplyError: (VeeamTasksError,),
    TaskFailedError: (VeeamTasksError,),
    TaskLostError: (VeeamTasksError,),
    SessionFailedError: (VeeamTasksError,),
    SessionLostError: (VeeamTasksError,),
    WatchTimeoutError: (VeeamTasksError, TimeoutError),
    ClosedError: (VeeamTasksError,),
    ArgumentError: (ValueError,),
}


def test_the_tree() -> None:
    """One root, `VeeamTasksError`, and each class at its place below it; no others."""
    public = [getattr(veeam_tasks, name) for name in veeam_tasks.__all__]
    errors = [
        one for one in public if isinstance(one, type) and issubclass(one, Exception)
    ]
    assert {one: one.__bases__ for one in errors} == TREE


ATTRIBUTES: dict[type[Exception], dict[str, object]] = {
    StatusError: {"status": int, "message": str | None},
    TaskFailedError: {"task": Task},
    TaskLostError: {"task_id": str, "last_seen": Task | None},
    WatchTimeoutError: {"report": Report},
}


@pytest.mark.parametrize("kind", ATTRIBUTES, ids=lambda kind: kind.__name__)
def test_attributes_are_declared(kind: type[Any]) -> None:
    """`.status`, `.message`, `.task`, `.task_id`, `.last_seen`, `.report`."""
    hints = get_type_hints(kind)
    for name, hint in ATTRIBUTES[kind].items():
        assert hints[name] == hint
        assert f"{name}: " in (kind.__doc__ or "")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_attributes_have_types_in_a_fresh_process(kind: type[Any]) -> None:
    """Whoever asks for them has named nothing but the error."""
    program = (
        "import typing, veeam_tasks as vt;"
        f" print(*typing.get_type_hints(vt.{kind.__name__}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert set(vars(kind).get("__annotations__", ())) <= set(ended.stdout.split())


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_who_must_act(kind: type[Any]) -> None:
    """Each class says what it means, and each of its attributes what that is."""
    assert kind.__doc__
    own = [name for name in vars(kind).get("__annotations__", ()) if name[0] != "_"]
    for name in own:
        assert f"{name}: " in kind.__doc__ or name == "retryable"


STATUSES: list[tuple[Fault, type[StatusError], int]] = [
    (Fault("status", status=400, message="No such spec"), StatusError, 400),
    (Fault("status", status=403, message="Not yours"), ForbiddenError, 403),
    (Fault("status", status=500, message="Out of paper"), StatusError, 500),
    (Fault("status", status=502, message="Nobody there"), StatusError, 502),
    (Fault("status", status=503, message="Maintenance"), ServerBusyError, 503),
]


@pytest.mark.parametrize(("fault", "kind", "status"), STATUSES)
async def test_status_errors(
    fault: Fault, kind: type[StatusError], status: int, wire: Wire
) -> None:
    """`StatusError` with `.status` and the server's `.message`."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        task = server.add_task("Running").task_id
        server.faults.add(fault)
        for attempt in (
            lambda: em.fetch(task),
            em.fetch_all,
            lambda: em.read("jobs"),
            lambda: em.submit("jobs/1?action=start"),
            lambda: em.delete(task),
        ):
            with pytest.raises(StatusError) as caught:
                await attempt()
            error = caught.value
            assert type(error) is kind
            assert error.status == status
            assert error.message == fault.message
            assert str(fault.message) in str(error)
            assert str(status) in str(error)
            assert error.__cause__ is error.__context__ is None


async def test_task_not_found(wire: Wire) -> None:
    """`TaskNotFoundError`: with the server's status and words."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        for attempt in (lambda: em.fetch("task-99"), lambda: em.delete("task-99")):
            with pytest.raises(TaskNotFoundError) as caught:
                await attempt()
            assert caught.value.status >= 400
            assert caught.value.message is not None
            assert "task-99" in str(caught.value)


async def test_logon_error(wire: Wire) -> None:
    """`LogonError`: `.status` and `.message` of the server that refused."""
    async with wire.server() as server:
        em = direct(server, **wire.options())
        server.change_password("another-one")
        with pytest.raises(LogonError) as caught:
            await em.open()
        assert caught.value.status == 401
        assert caught.value.message == "The user name or password is incorrect"
        assert "open()" in str(caught.value)
        async with door(server, **wire.options()) as other:
            server.faults.add(Fault("forbidden", path="sessionMngr"))
            await other.fetch_all()
            server.expire_logon_sessions()
            with pytest.raises(LogonError) as refused:
                await other.fetch_all()
            assert refused.value.status == 403
            assert refused.value.message is not None


async def test_transport_errors(wire: Wire) -> None:
    """`TransportError` and its three: no usable reply came."""
    async with wire.server() as server:
        options = wire.options(request_timeout=5)
        async with door(server, **options) as em:
            server.faults.add(Fault("reset"))
            with pytest.raises(TransportError) as caught:
                await em.fetch_all()
            assert type(caught.value) is TransportError
            with pytest.raises(SubmitUncertainError):
                await em.submit("jobs/1?action=start")
            server.faults.clear()
            server.faults.add(Fault("stall"))
            with pytest.raises(RequestTimeoutError, match="5 s"):
                await em.fetch_all()
            with pytest.raises(SubmitUncertainError, match="5 s"):
                await em.delete("task-1")
            server.faults.clear()
            server.faults.add(Fault("html"))
            with pytest.raises(MalformedReplyError):
                await em.fetch_all()
            server.faults.clear()
        if wire.tls:
            with pytest.raises(CertificateError) as untrusted:
                await door(server, **wire.options(ca_file=None))
            assert untrusted.value.fingerprint is not None
        await server.pause()
        with pytest.raises(TransportError) as down:
            await door(server, **wire.options())
        assert type(down.value) is TransportError
        await server.resume()


async def test_errors_of_tasks(wire: Wire) -> None:
    """`TaskFailedError` (`.task`), `TaskLostError` (`.task_id`, `.last_seen`)."""
    async with wire.server() as server, door(server, **wire.options()) as em:
        failing = server.add_task("Running 5s, Finished failed 'Disk full'").task_id
        leaving = server.add_task("Running 5s, gone").task_id
        with pytest.raises(TaskFailedError, match="Disk full") as failed:
            await em.wait(failing)
        assert failed.value.task.task_id == failing
        assert failed.value.task.result is not None
        with pytest.raises(TaskLostError) as lost:
            await em.wait(leaving)
        assert lost.value.task_id == leaving
        assert lost.value.last_seen is None
        other = server.add_task("Running 5s, gone").task_id
        with pytest.raises(TaskLostError) as seen:
            await em.wait(other)
        assert seen.value.last_seen is not None
        assert seen.value.last_seen.raw_state == "Running"
        with pytest.raises(TimeoutError) as late:
            await em.wait(server.add_task("Running").task_id, timeout=3)
        assert isinstance(late.value, WatchTimeoutError)
        (name,) = late.value.report.unfinished
        assert late.value.report.outcomes[name] is not None


def calls(em: SessionManager) -> Iterator[Callable[[Any], object]]:
    """Give every call that takes a task."""
    yield em.watch
    yield lambda wrong: em.watch([wrong])
    yield lambda wrong: em.watch("task-1", wrong)


def awaits(em: SessionManager) -> Iterator[Callable[[Any], Awaitable[object]]]:
    """Give every await that takes a task."""
    yield em.fetch
    yield em.wait
    yield em.delete


NO_TASKS: list[tuple[object, type[Exception]]] = [
    ("", ValueError),
    ("task-", ValueError),
    ("task-1/", ValueError),
    ("task-1?x", ValueError),
    ("jobs/task-1", ValueError),
    ("../task-1", ValueError),
    ("task-1\n", ValueError),
    (7, TypeError),
    (None, TypeError),
    (b"task-1", TypeError),
    (Link(rel="a", href="/api/tasks/task-1"), TypeError),
]
NO_PATHS: list[tuple[object, type[Exception]]] = [
    ("", ValueError),
    (" ", ValueError),
    ("../x", ValueError),
    ("jobs/%2e%2e/x", ValueError),
    ("https://em/else/jobs", ValueError),
    ("//em/api/jobs", ValueError),
    ("jobs#x", ValueError),
    ("jobs\nx", ValueError),
    (7, TypeError),
    (None, TypeError),
    (b"jobs", TypeError),
]
NO_TIMES: list[tuple[object, type[Exception]]] = [
    (-1, ValueError),
    (float("nan"), ValueError),
    ("5", TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize("is_open", [True, False])
async def test_wrong_arguments_send_nothing(is_open: bool) -> None:
    """Wrong arguments raise `ValueError` or `TypeError` before anything is sent."""
    async with SimulatedServer() as server:
        em = direct(server)
        if is_open:
            await em.open()
        before = server.requests.total
        for wrong, kind in NO_TASKS:
            for call in calls(em):
                with pytest.raises(kind):
                    call(wrong)
            for begin in awaits(em):
                with pytest.raises(kind):
                    await begin(wrong)
        for path, kind in NO_PATHS:
            for asked in (em.read, em.submit):
                with pytest.raises(kind):
                    await asked(path)  # type: ignore[arg-type] # the point
        for wrong, kind in NO_TIMES:
            with pytest.raises(kind):
                em.watch("task-1", timeout=wrong)  # type: ignore[arg-type] # the point
            with pytest.raises(kind):
                em.watch_all(timeout=wrong)  # type: ignore[arg-type] # the point
            with pytest.raises(kind):
                await em.wait("task-1", timeout=wrong)  # type: ignore[arg-type] # the point
        for pace in (5, "fast", {"first": 1}):
            with pytest.raises(TypeError):
                em.watch("task-1", pace=pace)  # type: ignore[arg-type] # the point
            with pytest.raises(TypeError):
                em.watch_all(pace=pace)  # type: ignore[arg-type] # the point
        assert em.statistics().watched == 0
        await anyio.sleep(60)
        assert server.requests.total == before
        await em.aclose()


@pytest.mark.parametrize("attempt", [1, 2, 3])
@pytest.mark.skipif(
    importlib.util.find_spec("trio") is None, reason="trio is not installed"
)
def test_trio_is_refused(attempt: int) -> None:
    """A loop that is not asyncio's is a `RuntimeError` that says so."""
    url, account = "http://127.0.0.1:9", {"username": "u", "password": "p"}

    async def main() -> None:
        if attempt == 1:
            await connect(url, **account)
        elif attempt == 2:
            async with adopt(url, "dG9rZW4="):
                pass
        else:
            await SessionManager(url, **account).open()

    with pytest.raises(RuntimeError, match="trio is not supported"):
        anyio.run(main, backend="trio")
