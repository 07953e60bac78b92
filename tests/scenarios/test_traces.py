"""What OpenTelemetry's own instrumentation of aiohttp sees of us."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")

import anyio
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.managers import Wire, direct, settings_for
from support.raw_server import RawServer, reply
from support.secrets_guard import forms

from veeam_tasks import (
    LogonError,
    SessionFailedError,
    VeeamTasksError,
    WatchTimeoutError,
    adopt,
    log_out,
)
from veeam_tasks._protocol.messages import Request
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import Secrets
from veeam_tasks._transport.transport import Transport
from veeam_tasks._transport.trust import Trust
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)

PASSWORD = "pä<s&s:secret"
NEW = "bmV3LXRva2Vu"
CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_"


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Keep all spans; the API takes one provider and no second.

    So it is that of a whole worker: one that steals tests may come here twice.
    """
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InMemorySpanExporter]:
    """Switch the instrumentation on, with every header captured."""
    monkeypatch.setenv(f"{CAPTURE}REQUEST", ".*")
    monkeypatch.setenv(f"{CAPTURE}RESPONSE", ".*")
    exporter.clear()
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument()
    yield exporter
    instrumentor.uninstrument()


def requests_of(spans: InMemorySpanExporter) -> list[str]:
    """Return method and path below ``/api/`` of each request that was traced."""
    return [
        f"{span.name} {url.partition('/api/')[2]}"
        for span in spans.get_finished_spans()
        if (url := str((span.attributes or {}).get("http.url", "")))
    ]


def text_of(span: ReadableSpan) -> str:
    """Return all that a span tells."""
    return span.to_json()


class RaisingProcessor(SpanProcessor):
    """Raises whatever it is told of, while it is switched on."""

    raised = 0
    is_on = False

    def on_start(self, span: object, parent_context: object = None) -> None:
        """Raise where a span begins."""
        self._raise("on_start")

    def on_end(self, span: object) -> None:
        """Raise where a span ends."""
        self._raise("on_end")

    def _raise(self, where: str) -> None:
        if self.is_on:
            self.raised += 1
            raise asyncio.CancelledError(where)


class RaisingAtEnd(RaisingProcessor):
    """Raises at the end of a span only."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        """Do nothing."""


@pytest.mark.usefixtures("exporter")
@pytest.mark.parametrize("kind", [RaisingProcessor, RaisingAtEnd])
async def test_what_tracing_raises_harms_nothing(
    kind: type[RaisingProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a logon nor an action that was carried out nor a run; it is logged."""
    provider, processor = trace.get_tracer_provider(), kind()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(processor)
    processor.is_on = True
    try:
        async with SimulatedServer() as server, direct(server) as em:
            start = f"{server.jobs[0].path}?action=start"
            assert (await em.submit(start)).task_id
            server.expire_logon_sessions(keep_tasks=True)
            run = await em.run(f"{server.jobs[1].path}?action=start")
            assert run.session is not None
            watch = em.watch((await em.submit(start)).task_id, follow=True)
            await watch.aclose()
    finally:
        processor.is_on = False
    assert processor.raised >= 5
    told = [one for one in caplog.records if "tracing" in one.getMessage()]
    assert len(told) >= processor.raised


async def test_no_poll_and_no_logon_session_is_traced(
    spans: InMemorySpanExporter, wire: Wire
) -> None:
    """Calls are; logon, renewal, proof, keep-alive, log-out and polls are not."""
    async with wire.server(any_id=True) as server:
        tracer = trace.get_tracer("test")
        with tracer.start_as_current_span("caller"):
            em = direct(server, **wire.options())
            await em.open()
            started = await em.submit(f"{server.jobs[0].path}?action=start")
            await em.wait(started)
            server.expire_logon_sessions(keep_tasks=True)
            await em.fetch(started)
            await em.read("jobs")
            await em.aclose()
    assert requests_of(spans) == [
        f"POST {server.jobs[0].path}?action=start",
        f"GET tasks/{started.task_id}",
        f"GET tasks/{started.task_id}",
        "GET jobs",
    ]


@pytest.mark.parametrize("kind", [None, FaultKind.ECHO_SECRETS, FaultKind.RESET])
async def test_no_span_holds_a_secret(
    spans: InMemorySpanExporter, wire: Wire, kind: FaultKind | None
) -> None:
    """Neither token, session ID nor password, with every header captured."""
    async with wire.server(password=PASSWORD, any_id=True) as server:
        em = direct(server, **wire.options())
        await em.open()
        token, session_id = em.token or "", em.session_id or ""
        if kind is not None:
            server.faults.add(Fault(kind, path="jobs|tasks"))
        for call in (
            lambda: em.fetch("task-1"),
            lambda: em.read(f"logonSessions/{session_id}"),
            lambda: em.read(f"jobs?token={token}"),
            lambda: em.submit("jobs/1?action=start"),
            lambda: em.delete("task-1"),
        ):
            try:
                await call()
            except VeeamTasksError:
                continue
        trust = settings_for(server, {})
        await em.aclose(log_out=False)
        await (await adopt(server.url, token, session_id=session_id, **trust)).aclose()
        trust.pop("pace")
        trust.pop("coalesce")
        await log_out(server.url, token, session_id=session_id, **trust)
    hidden = [form for one in (token, session_id, PASSWORD) for form in forms(one)]
    told = [text_of(span) for span in spans.get_finished_spans()]
    assert len(told) >= 2
    assert [form for form in hidden for text in told if form in text] == []


async def test_a_token_that_a_reply_brings_is_hidden(
    spans: InMemorySpanExporter,
) -> None:
    """By the name of its header, since it is not known yet; other headers stay."""
    headers = [f"X-RestSvcSessionId: {NEW}", f"Set-Cookie: a={NEW}", "X-Served-By: em"]
    async with RawServer(reply(b"<Jobs/>", headers=headers)) as server:
        transport = Transport(
            base_url(server.url(), insecure=False),
            Trust(),
            secrets=Secrets(),
            request_timeout=5,
        )
        await transport.open()
        asked = Request(method="GET", path="jobs", shown="jobs")
        assert (await transport.send(asked)).token == "[hidden]"
        await transport.aclose()
    (told,) = [span for span in spans.get_finished_spans() if span.name == "GET"]
    assert NEW not in text_of(told)
    seen = told.attributes or {}
    assert seen["http.response.header.x_served_by"] == ("em",)


async def test_a_poll_is_no_child_of_the_span_at_connect(
    spans: InMemorySpanExporter,
) -> None:
    """Whoever opens a manager within a span finds nothing of its polls below it."""
    async with Wire().server() as server:
        server.add_task("Running 30s, Finished")
        with trace.get_tracer("test").start_as_current_span("caller"):
            em = await direct(server).open()
            watch = em.watch("task-1")
        await watch.wait()
        await em.aclose()
    names = [span.name for span in spans.get_finished_spans()]
    assert names == ["veeam_tasks.logon", "caller"]


# --- spans of our own


def ours(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Return our own spans of one name."""
    return [
        span
        for span in spans.get_finished_spans()
        if span.name == f"veeam_tasks.{name}"
    ]


async def test_logon_and_submit_have_spans(
    spans: InMemorySpanExporter,
) -> None:
    """They say which server; a renewal that a poller needed is no child of anyone."""
    async with Wire().server() as server:
        task = server.add_task("Running")
        with trace.get_tracer("test").start_as_current_span("caller") as caller:
            em = await direct(server).open()
            started = await em.submit(f"{server.jobs[0].path}?action=start")
            watch = em.watch(task.task_id)
            await anext(watch)
            server.expire_logon_sessions(keep_tasks=True)
            await anyio.sleep(5)
        await em.aclose()
    first, second = ours(spans, "logon")
    assert first.attributes is not None
    assert first.attributes["server.address"] == "127.0.0.1"
    assert first.attributes["veeam_tasks.renewal"] is False
    assert first.parent == caller.get_span_context()
    assert second.parent is None
    assert second.attributes is not None
    assert second.attributes["veeam_tasks.renewal"] is True
    (submit,) = ours(spans, "submit")
    assert submit.kind is trace.SpanKind.CLIENT
    assert submit.attributes is not None
    assert submit.attributes["veeam_tasks.task_id"] == started.task_id
    assert submit.attributes["http.response.status_code"] == 202


async def test_a_followed_run_is_a_span_linked_to_its_submit(
    spans: InMemorySpanExporter,
) -> None:
    """Each change is an event with the bounds of its time; the end is its status."""
    async with Wire().server(job_links="always") as server, direct(server) as em:
        job = server.add_job(
            "Nightly",
            session="Starting 5s, Working 60s, Stopped failed",
            machines={"db01": "InProgress 5s, Completed failed 'No space'"},
        )
        with pytest.raises(SessionFailedError):
            await em.run(f"{job.path}?action=start")
        with pytest.raises(WatchTimeoutError):
            await em.run(f"{job.path}?action=start", timeout=2)
    (first, second), (run, cut) = ours(spans, "submit"), ours(spans, "run")
    assert [link.context for link in run.links] == [first.get_span_context()]
    assert [link.context for link in cut.links] == [second.get_span_context()]
    stages = [(event.attributes or {})["veeam_tasks.stage"] for event in run.events]
    assert stages == sorted(stages, key=["task", "searching", "session"].index)
    assert {"task", "session"} <= set(stages)
    assert run.attributes is not None
    assert run.attributes["veeam_tasks.job_name"] == "Nightly"
    assert run.attributes["veeam_tasks.outcome"] == "failed"
    assert run.status.status_code is trace.StatusCode.ERROR
    assert "No space" in (run.status.description or "")
    assert run.end_time == run.events[-1].timestamp
    assert cut.attributes is not None
    assert cut.attributes["veeam_tasks.outcome"] == "unfinished"


async def test_a_refused_logon_is_an_error(spans: InMemorySpanExporter) -> None:
    """With the kind of the error and the status, and without a traceback."""
    async with Wire().server() as server:
        em = direct(server)
        server.change_password("another")
        with pytest.raises(LogonError):
            await em.open()
    (logon,) = ours(spans, "logon")
    assert logon.attributes is not None
    assert logon.attributes["error.type"] == "LogonError"
    assert logon.attributes["http.response.status_code"] == 401
    assert logon.status.status_code is trace.StatusCode.ERROR
    assert not logon.events


def test_nothing_of_opentelemetry_is_imported() -> None:
    """A program that does not trace pays nothing for it."""
    code = (
        "import sys, veeam_tasks._client.connect;"
        "assert not [name for name in sys.modules if 'opentelemetry' in name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_a_run_that_nobody_follows_any_more_ends_unfinished(
    spans: InMemorySpanExporter,
) -> None:
    """When it is discarded, and when its watch is closed."""
    async with Wire().server() as server, direct(server) as em:
        for _ in range(2):
            server.add_task("Running")
        watch = em.watch("task-1", "task-2", follow=True)
        await anext(watch)
        await anext(watch)
        watch.discard("task-1")
        assert len(ours(spans, "run")) == 1
        await watch.aclose()
    ended = ours(spans, "run")
    outcomes = [(span.attributes or {})["veeam_tasks.outcome"] for span in ended]
    assert outcomes == ["unfinished", "unfinished"]


async def test_a_lost_run_is_an_error_with_its_reason(
    spans: InMemorySpanExporter,
) -> None:
    """A plain watch has no spans: what it sees is told by its events."""
    async with Wire().server() as server, direct(server) as em:
        task = server.add_task("Running")
        plain, watch = em.watch("task-1"), em.watch("task-1", follow=True)
        await anext(watch)
        task.vanish()
        await watch.wait()
        await plain.wait()
    (run,) = ours(spans, "run")
    assert run.attributes is not None
    assert run.attributes["error.type"] == "lost"
    assert "task-1 is lost" in (run.status.description or "")


PROGRAM = """
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import veeam_tasks as vt
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

provider, exporter = TracerProvider(), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
PASSWORD, SECRETS = "a-secret-password", ["a-secret-password"]

async def use(server, em):
    SECRETS.extend((em.token, em.session_id))
    server.add_task("Running 0.5s, Finished")
    async with em.watch_all() as watch:
        await anext(watch)
        # A renewal within a submit, and one by a poller.
        server.expire_logon_sessions(keep_tasks=True)
        await em.submit(f"{server.jobs[0].path}?action=start")
        SECRETS.extend((em.token, em.session_id))
        server.expire_logon_sessions(keep_tasks=True)
        await asyncio.sleep(0.3)
        server.faults.add(Fault(FaultKind.ECHO_SECRETS, path="jobs"))
        for call in (em.read("jobs"), em.submit("jobs/1?action=start"),
                     em.read(f"logonSessions/{em.session_id}")):
            try:
                with trace.get_tracer("caller").start_as_current_span("call"):
                    await call
            except vt.VeeamTasksError:
                pass
        server.faults.clear()
        SECRETS.extend((em.token, em.session_id))

async def main():
    pace = vt.Pace(first=0.1)
    async with SimulatedServer(password=PASSWORD) as server:
        options = {"username": "admin", "password": PASSWORD, "pace": pace}
        with trace.get_tracer("caller").start_as_current_span("open"):
            before = await vt.connect(server.url, **options)
            await before.read("jobs")
        AioHttpClientInstrumentor().instrument()
        async with vt.connect(server.url, **options) as after:
            await use(server, after)
        await use(server, before)
        AioHttpClientInstrumentor().uninstrument()
        await before.aclose()
    spans = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    json.dump({"spans": spans, "secrets": [one for one in SECRETS if one]}, sys.stdout)

asyncio.run(main())
"""


@pytest.mark.parametrize("names", ["", "http", "http/dup"])
def test_no_way_to_switch_it_on_shows_a_secret(names: str) -> None:
    """Before and after a manager is opened, with the old and the new names of fields.

    Nor do the exceptions that a caller's span records, nor renewals within a submit.
    """
    capture = {f"{CAPTURE}{one}": ".*" for one in ("REQUEST", "RESPONSE")}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **capture, "OTEL_SEMCONV_STABILITY_OPT_IN": names},
        stdout=subprocess.PIPE,
        timeout=100,
        check=True,
    )
    told = json.loads(ran.stdout)
    names_of = [span["name"] for span in told["spans"]]
    assert names_of.count("veeam_tasks.logon") >= 4
    assert any(
        event["name"] == "exception"
        for span in told["spans"]
        for event in span["events"]
    )
    fields = {"http.url", "url.full"}
    urls = [
        str(value)
        for span in told["spans"]
        for name, value in span["attributes"].items()
        if name in fields
    ]
    # Those of the manager that was opened afterwards; of logons and polls, none.
    assert urls
    assert not [url for url in urls if "/tasks" in url or "ession" in url]
    text = json.dumps(told["spans"])
    hidden = {form for one in told["secrets"] for form in forms(one)}
    assert len(hidden) > 4
    assert [form for form in hidden if form in text] == []
