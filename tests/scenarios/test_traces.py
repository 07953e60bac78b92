"""What OpenTelemetry's own instrumentation of aiohttp sees of us."""

from collections.abc import Iterator

import pytest

pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")

from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.managers import Wire, direct, settings_for
from support.raw_server import RawServer, reply
from support.secrets_guard import forms

from veeam_tasks import VeeamTasksError, adopt, log_out
from veeam_tasks._protocol.messages import Request
from veeam_tasks._protocol.urls import base_url
from veeam_tasks._redaction import Secrets
from veeam_tasks._transport.transport import Transport
from veeam_tasks._transport.trust import Trust
from veeam_tasks.simulator import Fault, FaultKind

pytestmark = pytest.mark.virtual_time(debug=False)

PASSWORD = "pä<s&s:secret"
NEW = "bmV3LXRva2Vu"
CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_"


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """Give the one provider of spans; the API takes no second one."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InMemorySpanExporter]:
    """Switch the instrumentation on, with every header captured."""
    monkeypatch.setenv(f"{CAPTURE}REQUEST", ".*")
    monkeypatch.setenv(f"{CAPTURE}RESPONSE", ".*")
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()
    processor.shutdown()


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
    (told,) = spans.get_finished_spans()
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
    assert [span.name for span in spans.get_finished_spans()] == ["caller"]
