"""Spans of our own for OpenTelemetry: a logon, a submit, a run that is followed.

Nothing of it is imported here. A program that traces has imported its API already; in
any other there is nothing to trace for, and each function does nothing.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import attrs

from veeam_tasks._errors import StatusError
from veeam_tasks._events import Observation
from veeam_tasks._model import RunStage, TaskState
from veeam_tasks._telemetry.monitor import outcome_of
from veeam_tasks._telemetry.notices import MANAGER

_SCOPE = "veeam_tasks"
_KEPT = 10_000

Attributes = Mapping[str, str | int | bool]


def _api() -> Any:
    return sys.modules.get("opentelemetry.trace")


@attrs.define(eq=False)
class Spans:
    """Makes the spans of one manager.

    Args:
        address: Host name of the server: ``server.address``.
        port: Its port.
        url: Of the server, for the log.
    """

    address: str = ""
    port: int = 0
    url: str = ""
    _submits: dict[str, Any] = attrs.field(factory=dict)

    @property
    def _server(self) -> dict[str, str | int]:
        return {"server.address": self.address, "server.port": self.port}

    @contextmanager
    def client(self, name: str, attributes: Attributes) -> Iterator[Any]:
        """Open a span about a request to the server; give it, or None.

        An error that passes is its status. No traceback is recorded.
        """
        api = _api()
        if api is None:
            yield None
            return
        span, opened = None, None
        with _harmless():
            opened = api.get_tracer(_SCOPE).start_as_current_span(
                name,
                kind=api.SpanKind.CLIENT,
                attributes={**self._server, **attributes},
                record_exception=False,
                set_status_on_exception=False,
            )
            span = opened.__enter__()
        try:
            yield span
        except Exception as error:
            if span is not None:
                with _harmless():
                    _fail(span, error)
            raise
        finally:
            if opened is not None and span is not None:
                with _harmless():
                    opened.__exit__(None, None, None)

    def note_submitted(self, task_id: str, span: Any) -> None:
        """Remember the span of a submit, for the run that it started to link to."""
        if span is None:
            return
        self._submits.pop(task_id, None)
        with _harmless():
            self._submits[task_id] = span.get_span_context()
        if len(self._submits) > _KEPT:
            del self._submits[next(iter(self._submits))]

    def forget_submit(self, task_id: str) -> None:
        """Forget the span of a submit: its ID may be another task's by now."""
        self._submits.pop(task_id, None)

    def runs(self) -> "RunSpans | None":
        """Return what makes spans of the runs of one watch; None if nobody traces.

        They are children of the span that is open now.
        """
        api = _api()
        if api is None:
            return None
        return RunSpans(self, sys.modules["opentelemetry.context"].get_current())

    def begin_run(self, seen: Observation, context: Any) -> Any:
        """Return a span for a run, which was seen for the first time."""
        api = _api()
        submit = self._submits.get(seen.task_id)
        return api.get_tracer(_SCOPE).start_span(
            "veeam_tasks.run",
            context=context,
            attributes={**self._server, "veeam_tasks.task_id": seen.task_id},
            links=[] if submit is None else [api.Link(submit)],
            start_time=_nanoseconds(seen.observed_at),
        )


@attrs.define(eq=False)
class RunSpans:
    """The spans of the runs that one watch follows: each change of state an event."""

    _spans: Spans
    _context: Any
    _open: dict[str, Any] = attrs.field(factory=dict)

    def observed(self, seen: Observation) -> None:
        """Add a change; with the last one the span ends."""
        with _harmless():
            self._observe(seen)

    def _observe(self, seen: Observation) -> None:
        span = self._open.get(seen.task_id)
        if span is None:
            span = self._spans.begin_run(seen, self._context)
            self._open[seen.task_id] = span
        at = _nanoseconds(seen.observed_at)
        span.add_event("veeam_tasks.state", _described(seen), timestamp=at)
        if not seen.is_final:
            return
        del self._open[seen.task_id]
        if seen.task is not None:
            span.set_attribute("veeam_tasks.operation", seen.task.operation)
        session = seen.session
        if session is not None:
            span.set_attribute("veeam_tasks.session.kind", session.kind)
            span.set_attribute("veeam_tasks.session.result", session.result.value)
            if session.job_name:
                span.set_attribute("veeam_tasks.job_name", session.job_name)
        outcome = outcome_of(seen)
        span.set_attribute("veeam_tasks.outcome", outcome)
        if outcome != "succeeded":
            _mark_failed(span, outcome, _reason_of(seen))
        span.end(end_time=at)

    def drop(self, task_ids: list[str] | None = None) -> None:
        """End the spans of runs that are followed no more; all, if none are named."""
        for task_id in list(self._open) if task_ids is None else task_ids:
            span = self._open.pop(task_id, None)
            if span is not None:
                with _harmless():
                    span.set_attribute("veeam_tasks.outcome", "unfinished")
                    span.end()


@contextmanager
def _harmless() -> Iterator[None]:
    """Log what the program's tracing raises: an action was carried out all the same."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - processors and exporters are others' code
        told = {"event": "tracing_raised"}
        MANAGER.exception("the tracing of this program raised", extra=told)


def _described(seen: Observation) -> dict[str, str | int]:
    session, task = seen.session, seen.task
    told: dict[str, str | int] = {
        "veeam_tasks.stage": seen.stage.value,
        "veeam_tasks.state": seen.state.value if task is None else task.raw_state,
    }
    if seen.state is TaskState.LOST:
        told["veeam_tasks.state"] = seen.state.value
    if seen.stage is RunStage.SESSION and session is not None:
        told["veeam_tasks.session.state"] = session.raw_state
        if session.progress is not None:
            told["veeam_tasks.session.progress"] = session.progress
    if seen.not_before is not None:
        # The change lies between this and the time of the event.
        told["veeam_tasks.not_before"] = seen.not_before.isoformat()
    return told


def _reason_of(seen: Observation) -> str:
    if seen.error is not None:
        return str(seen.error)
    if seen.session is not None and seen.session.failure_message:
        return seen.session.failure_message
    reasons = [one.reason for one in seen.failures if one.reason]
    result = None if seen.task is None else seen.task.result
    if not reasons and seen.session is None and result is not None and result.message:
        reasons = [result.message]
    return "; ".join(reasons[:3])


def _fail(span: Any, error: BaseException) -> None:
    if isinstance(error, StatusError):
        span.set_attribute("http.response.status_code", error.status)
    _mark_failed(span, type(error).__qualname__, str(error))


def _mark_failed(span: Any, kind: str, reason: str) -> None:
    api = _api()
    span.set_attribute("error.type", kind)
    span.set_status(api.Status(api.StatusCode.ERROR, reason or None))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
