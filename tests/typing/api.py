"""Samples of the public surface, type-checked only: mypy --strict and pyright."""

import ssl
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_type

import veeam_tasks as vt
from veeam_tasks.metrics import Collector, dashboard, serve
from veeam_tasks.report import Recorder, render, write


async def password() -> str:
    """Be an async password callable."""
    return "secret"


def told(notice: vt.Notice) -> None:
    """Be told a notice."""
    assert_type(notice.kind, vt.NoticeKind)
    assert_type(notice.at, datetime)
    assert_type(notice.detail, str)
    assert_type(notice.task_ids, tuple[str, ...])
    if notice.kind is vt.NoticeKind.UNREACHABLE:
        assert_type(notice.kind, Literal[vt.NoticeKind.UNREACHABLE])


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


async def sessions(em: vt.SessionManager, link: vt.Link) -> None:
    """Look at the job session that a task has started."""
    session = await em.fetch_session(link)
    assert_type(session, vt.JobSession)
    assert_type(await em.fetch_session("backupSessions/7e9f"), vt.JobSession)
    assert_type(await em.fetch_session_tasks(session), tuple[vt.TaskSession, ...])


async def runs(em: vt.SessionManager, path: str) -> None:
    """Follow a task to the end of its job."""
    run = await em.run(path, timeout=4 * 3600, find_timeout=600)
    assert_type(run, vt.Run)
    assert_type(run.session, vt.JobSession | None)
    assert_type(run.failures, tuple[vt.TaskSession, ...])
    task = await em.submit(path, follow=True)
    assert_type(await em.follow(task, timeout=60), vt.Run)
    async with em.watch(task, follow=True, find_timeout=900) as watch:
        async for event in watch:
            assert_type(event.stage, vt.RunStage)
            assert_type(event.session, vt.JobSession | None)
            assert_type(event.failures, tuple[vt.TaskSession, ...])
            assert_type(event.has_warnings, bool)
    assert_type(watch.report.warnings, tuple[str, ...])
    assert_type(em.watch_all(60, follow=True), vt.Watch)
    try:
        await em.run(path)
    except vt.SessionFailedError as error:
        assert_type(error.session, vt.JobSession)
    except vt.SessionLostError as error:
        assert_type(error.last_seen, vt.JobSession | None)


async def merged(one: vt.Watch, other: vt.Watch) -> None:
    """Read watches of several managers as one."""
    async with vt.merge(one, other) as both:
        assert_type(both, vt.MergedWatch)
        async for watch, event in both:
            assert_type(watch, vt.Watch)
            assert_type(watch.manager, vt.SessionManager)
            assert_type(event, vt.TaskEvent)
    assert_type(both.watches, tuple[vt.Watch, ...])
    assert_type(await vt.merge([one, other]).wait(), tuple[vt.Report, ...])


def resumed(em: vt.SessionManager, watch: vt.Watch) -> None:
    """Go on with a watch of another process."""
    state = watch.checkpoint()
    assert_type(state, dict[str, Any])
    assert_type(em.resume(state, timeout=60, pace=vt.Pace()), vt.Watch)


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
    assert_type(await em.read(started.related[0]), Mapping[str, Any])
    await em.delete(started)
    assert_type(em.statistics(), vt.Statistics)
    assert_type(em.url, str)
    assert_type(em.token, str | None)
    assert_type(em.session_id, str | None)
    assert_type(em.reference, str | None)
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


async def calls(em: vt.SessionManager, task: vt.Task, link: vt.Link) -> None:
    """Call each method with each kind of argument."""
    assert_type(await em.fetch("task-1"), vt.Task)
    assert_type(await em.fetch(task), vt.Task)
    assert_type(await em.wait("task-1", 5), vt.Task)
    assert_type(await em.wait(task, timeout=None), vt.Task)
    for watch in (
        em.watch(),
        em.watch(task),
        em.watch({"task-1", "task-2"}, timeout=3.5),
        em.watch((task, "task-2"), pace=None),
        em.watch(name for name in ("task-1",)),
        em.watch_all(),
        em.watch_all(5, vt.Pace(first=5, growth=1, longest=5, jitter=0)),
    ):
        assert_type(watch, vt.Watch)
        watch.add([task])
        watch.discard("task-1", task)
        assert_type(aiter(watch), vt.Watch)
    assert_type(await em.submit("jobs/1", "<Spec/>", method="PUT"), vt.Task)
    assert_type(await em.submit(link, b"<Spec/>"), vt.Task)
    assert_type(await em.submit("jobs/1", None, method="DELETE"), vt.Task)
    assert_type(await em.read("jobs"), Mapping[str, Any])
    assert_type(await em.delete("task-1"), None)
    assert_type(await em.aclose(), None)
    async with vt.adopt(em.url, "token", ca_file=Path("ca.pem")) as adopted:
        assert_type(adopted, vt.SessionManager)
    async with vt.connect(
        em.url, username="u", password="p", fingerprint="ab", on_notice=None
    ) as pinned:
        assert_type(pinned, vt.SessionManager)


def values(task: vt.Task, event: vt.TaskEvent, counts: vt.Statistics) -> None:
    """Read each field and property of each value."""
    assert_type(task.task_id, str)
    assert_type(task.state, vt.TaskState)
    assert_type(task.raw_state, str)
    assert_type(task.operation, str)
    assert_type(task.result, vt.TaskResult | None)
    assert_type(task.links, tuple[vt.Link, ...])
    assert_type(task.related, tuple[vt.Link, ...])
    assert_type(task.href, str | None)
    assert_type(task.is_finished, bool)
    assert_type(task.succeeded, bool | None)
    assert_type(task.raise_for_failure(), vt.Task)
    if task.result is not None:
        assert_type(task.result.success, bool)
        assert_type(task.result.message, str | None)
    for link in task.links:
        assert_type((link.rel, link.href), tuple[str, str])
        assert_type((link.type, link.name), tuple[str | None, str | None])
    assert_type(event.task_id, str)
    assert_type(event.is_final, bool)
    assert_type(event.succeeded, bool | None)
    assert_type(event.not_before, datetime | None)
    assert_type(event.sequence, int)
    report = vt.Report(outcomes={event.task_id: event, "task-2": None})
    for ids in (report.succeeded, report.failed, report.lost, report.unfinished):
        assert_type(ids, tuple[str, ...])
    pace = vt.Pace(first=1, growth=1.5, longest=30.0, jitter=0.1)
    assert_type(pace.first + pace.growth + pace.longest + pace.jitter, float)
    assert_type(counts.logons + counts.renewals + counts.requests, int)
    assert_type(counts.polls + counts.coalesced + counts.retries, int)
    assert_type(counts.errors + counts.in_flight + counts.watched, int)
    assert_type(counts.bytes_in, int)


def word(state: vt.TaskState) -> str:
    """Tell each state apart; whoever adds one learns of it here."""
    match state:
        case vt.TaskState.RUNNING | vt.TaskState.OPERATION_FINISHED:
            return "goes on"
        case vt.TaskState.FINISHED:
            return "ended"
        case vt.TaskState.UNKNOWN:
            return "goes on, too"
        case vt.TaskState.LOST:
            return "who knows"


def outcomes(error: vt.VeeamTasksError) -> str:
    """Tell apart what became of a task or a watch."""
    assert_type(error.retryable, bool)
    match error:
        case vt.WatchTimeoutError():
            assert_type(error.report, vt.Report)
            raise TimeoutError from error
        case vt.TaskFailedError():
            return error.task.operation
        case vt.TaskLostError():
            assert_type(error.last_seen, vt.Task | None)
            return error.task_id
        case vt.ClosedError():
            return error.advice
        case vt.MalformedReplyError():
            return error.problem + error.excerpt
        case _:
            return str(error)


def refusals(error: vt.StatusError) -> str | None:
    """Tell the server's refusals apart."""
    assert_type(error.status, int)
    assert_type(error.message, str | None)
    match error:
        case vt.ServerBusyError():
            assert_type(error.retry_after, float | None)
            return error.message
        case vt.LogonError() | vt.ForbiddenError() | vt.TaskNotFoundError():
            return error.request
        case _:
            return error.message


def ways(error: vt.TransportError) -> str | None:
    """Tell apart why no reply came."""
    assert_type(error.connected, bool)
    match error:
        case vt.CertificateError():
            assert_type(error.subject, str | None)
            assert_type(error.expires, str | None)
            return error.fingerprint
        case vt.SubmitUncertainError() | vt.RequestTimeoutError():
            return error.reason
        case _:
            return error.request


async def trust_on_first_use(url: str, token: str) -> tuple[str, str | None]:
    """Look at a certificate, end a logon session, tell a wrong argument."""
    found: vt.Certificate = await vt.inspect_certificate(url, timeout=5.0, proxy=None)
    try:
        await vt.log_out(url, token, fingerprint=found.fingerprint)
    except vt.ArgumentError as error:
        return error.parameter, error.problem
    return found.fingerprint, found.subject


def job_sessions(session: vt.JobSession, machine: vt.TaskSession, run: vt.Run) -> None:
    """Read what became of a started job."""
    assert_type(session.state, vt.SessionState)
    assert_type(session.result, vt.SessionResult)
    assert_type(session.progress, int | None)
    assert_type(machine.succeeded, bool | None)
    assert_type(run.session, vt.JobSession | None)
    assert_type(run.failures, tuple[vt.TaskSession, ...])
    try:
        assert_type(session.raise_for_failure(), vt.JobSession)
    except vt.SessionFailedError as error:
        assert_type(error.failures, tuple[vt.TaskSession, ...])
    except vt.SessionLostError as error:
        assert_type(error.last_seen, vt.JobSession | None)


def stages(event: vt.TaskEvent) -> bool:
    """Tell how far a run is."""
    return event.stage is vt.RunStage.SESSION and not event.has_warnings


async def watched_by_others(em: vt.SessionManager, another: vt.SessionManager) -> None:
    """Make a report for people, and metrics for machines."""
    recorder = Recorder(em.url)
    async with em.watch("task-1", follow=True) as watch:
        async for event in watch:
            recorder.add_event(event)
            recorder.add_event(event, server="branch")
    recorder.finish()
    assert_type(render(recorder, title="Nightly", account=None), str)
    assert_type(render(watch.report), str)
    events: list[vt.TaskEvent] = []
    write(Path("night.html"), render(events, zone=None))
    collector = Collector(em)
    collector.add(another, name="branch")
    server, _ = serve(collector, port=0)
    server.shutdown()
    assert_type(dashboard(), str)
