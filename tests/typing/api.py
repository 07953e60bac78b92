"""Samples of the public surface, type-checked only: mypy --strict and pyright."""

import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import assert_type

import veeam_tasks as vt


async def password() -> str:
    """Be an async password callable."""
    return "secret"


def told(notice: vt.Notice) -> None:
    """Be told a notice."""
    assert_type(notice.kind, vt.NoticeKind)
    assert_type(notice.task_ids, tuple[str, ...])


async def awaited(secret: str, actions: list[str]) -> None:
    """Use it from an async application."""
    async with vt.connect(
        "https://em.example:9398", username=r"CORP\svc", password=secret
    ) as em:
        assert_type(em, vt.SessionManager)
        started = await em.submit("jobs/b04c?action=start")
        assert_type(started, vt.Task)
        assert_type(await em.wait(started, timeout=600), vt.Task)
        tasks = [await em.submit(path, {"Spec": {"A": 1}}) for path in actions]
        async with em.watch(tasks) as watch:
            assert_type(watch, vt.Watch)
            async for event in watch:
                assert_type(event, vt.TaskEvent)
                assert_type(event.task, vt.Task | None)
                assert_type(event.previous, vt.TaskState | None)
                assert_type(event.state, vt.TaskState)
                assert_type(event.observed_at, datetime)
                assert_type(event.error, vt.VeeamTasksError | None)
        assert_type(watch.report, vt.Report)
        assert_type(watch.report.failed, tuple[str, ...])
        assert_type(watch.report.outcomes, Mapping[str, vt.TaskEvent | None])
        watch.report.raise_for_failures()


async def by_line() -> None:
    """Use it as a REPL does."""
    em = await vt.connect("https://em", username="u", password=password)
    assert_type(em, vt.SessionManager)
    watch = em.watch("task-1", "task-2", timeout=5, pace=vt.Pace(first=2))
    assert_type(await anext(watch), vt.TaskEvent)
    watch.add("task-3", started := await em.fetch("task-4"))
    watch.discard([started])
    assert_type(watch.tasks, Mapping[str, vt.Task])
    assert_type(await watch.wait(), vt.Report)
    await watch.aclose()
    assert_type(em.watch_all(timeout=3), vt.Watch)
    assert_type(await em.fetch_all(), list[vt.Task])
    assert_type(await em.read(started.related[0]), Mapping[str, object])
    await em.delete(started)
    assert_type(em.statistics(), vt.Statistics)
    assert_type(em.url, str)
    assert_type(em.token, str | None)
    assert_type(em.session_id, str | None)
    await em.aclose(log_out=False)
    other = await vt.adopt(em.url, em.token or "", session_id=em.session_id)
    assert_type(other, vt.SessionManager)


async def direct(context: ssl.SSLContext) -> None:
    """Build a manager directly, with every option."""
    em = vt.SessionManager(
        "https://em",
        username="u",
        password=lambda: "secret",
        ssl=context,
        ca_file=None,
        fingerprint=None,
        insecure=False,
        api_version="latest",
        accept="json",
        pace=vt.Pace(),
        request_timeout=30.0,
        max_in_flight=16,
        patience=None,
        keep_alive=True,
        max_reply_bytes=1 << 20,
        coalesce="auto",
        proxy=None,
        on_notice=told,
    )
    assert_type(await em.open(), vt.SessionManager)
    async with em as opened:
        assert_type(opened, vt.SessionManager)


def errors(error: vt.VeeamTasksError) -> str | None:
    """Tell errors apart."""
    match error:
        case vt.WatchTimeoutError():
            assert_type(error.report, vt.Report)
            raise TimeoutError from error
        case vt.TaskFailedError():
            return error.task.operation
        case vt.TaskLostError():
            assert_type(error.last_seen, vt.Task | None)
            return error.task_id
        case vt.StatusError():
            assert_type(error.status, int)
            return error.message
        case _:
            return str(error)
