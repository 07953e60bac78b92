"""From the counts of each manager to families of metrics, when they are scraped."""

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.resources import files
from itertools import accumulate
from socketserver import BaseServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import attrs

import veeam_tasks as vt
from veeam_tasks._redaction import quoted
from veeam_tasks._telemetry.monitor import BOUNDS, NO_REPLY, Measures

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector as _Base
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    text = (
        "metrics need prometheus-client, which the extra 'metrics' installs:"
        " pip install 'veeam-tasks[metrics]'"
    )
    raise ModuleNotFoundError(text, name=error.name) from None

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

_STATES = (
    "unseen",
    "running",
    "operation_finished",
    "finished",
    "unknown",
    "searching",
    "session",
)


_PORTS = 1 << 16


def _type(value: object) -> str:
    return type(value).__name__


class Collector(_Base):
    """What a scrape tells of one manager or many; computed when it is scraped.

    Register it once: ``prometheus_client.REGISTRY.register(Collector(em))``. It does
    not keep a manager alive, and tells of one for as long as that is there.

    Args:
        *managers: More can be added by `add`.
    """

    def __init__(self, *managers: vt.SessionManager) -> None:
        self._managers: dict[str, weakref.ref[vt.SessionManager]] = {}
        for manager in managers:
            self.add(manager)

    def add(self, manager: vt.SessionManager, *, name: str | None = None) -> None:
        """Tell of one more manager, as `name` in the label ``em``; else as its URL.

        Two managers of one URL need names of their own: one takes the place of another.

        Raises:
            TypeError: It is no `SessionManager`.
        """
        if not isinstance(manager, vt.SessionManager):
            text = f"a collector tells of a SessionManager, not of {_type(manager)}"
            raise TypeError(text)
        key = name or manager.url.removesuffix("/").removesuffix("/api")
        self._managers[key] = weakref.ref(manager)

    def collect(self) -> Iterator[Metric]:
        """Give all families; called by whoever scrapes, in a thread of its own."""
        measures = {
            name: manager._measures()  # noqa: SLF001 - of this package, and no promise to callers
            for name, ref in list(self._managers.items())
            if (manager := ref()) is not None
        }
        for family in _FAMILIES:
            metric = family.make()
            for name, one in measures.items():
                for labels, value in family.samples(one):
                    metric.add_metric([name, *labels], value)
            yield metric
        yield _histogram(measures.items())

    def describe(self) -> list[Metric]:
        """Return all families, empty: a registry refuses a second collector by them.

        A scrape of both would have each family twice, which is no text of metrics any
        more: Prometheus bears that, what else reads such text does not.
        """
        return [*(family.make() for family in _FAMILIES), _histogram([])]


_Samples = Iterable[tuple[Sequence[str], float]]


@attrs.frozen
class _Family:
    """One family of metrics.

    Attributes:
        samples: Gives the labels beside ``em``, and the values.
    """

    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    text: str
    labels: tuple[str, ...]
    samples: Callable[[Measures], _Samples]

    def make(self) -> CounterMetricFamily | GaugeMetricFamily:
        return self.kind(
            f"veeam_tasks_{self.name}", self.text, labels=["em", *self.labels]
        )


def _one(value: float) -> _Samples:
    return [((), float(value))]


def _requests(of: Measures) -> _Samples:
    for kind, counts in of.monitor.requests.items():
        for status, count in enumerate(counts):
            if count:
                word = "none" if status == NO_REPLY else f"{status}xx"
                yield (kind, word), count


def _job_times(of: Measures) -> _Samples:
    for job, at in list(of.monitor.last_success.items()):
        yield (job,), at.timestamp()


_FAMILIES = (
    _Family(
        GaugeMetricFamily,
        "watched",
        "Tasks and runs watched now, by where they stand.",
        ("state",),
        lambda of: (((state,), of.states.get(state, 0)) for state in _STATES),
    ),
    _Family(
        CounterMetricFamily,
        "ends",
        "Tasks that were seen to end, by the server's word for their operation.",
        ("operation", "outcome"),
        lambda of: list(of.monitor.ends.items()),
    ),
    _Family(
        CounterMetricFamily,
        "sessions",
        "Job sessions that were followed to their end, by result.",
        ("result",),
        lambda of: [((key,), n) for key, n in list(of.monitor.sessions.items())],
    ),
    _Family(
        GaugeMetricFamily,
        "job_last_success_timestamp_seconds",
        "When a run of a job that was started here was last seen to have ended well.",
        ("job",),
        _job_times,
    ),
    _Family(
        CounterMetricFamily,
        "requests",
        "Requests that ended, by what they were about and the class of the status.",
        ("kind", "status"),
        _requests,
    ),
    _Family(
        GaugeMetricFamily,
        "requests_in_flight",
        "Requests under way now.",
        (),
        lambda of: _one(of.statistics.in_flight),
    ),
    _Family(
        CounterMetricFamily,
        "received_bytes",
        "Bytes of reply bodies, after decompression.",
        (),
        lambda of: _one(of.statistics.bytes_in),
    ),
    _Family(
        CounterMetricFamily,
        "polls",
        "Requests about one watched task each.",
        (),
        lambda of: _one(of.statistics.polls),
    ),
    _Family(
        CounterMetricFamily,
        "coalesced",
        "Watched tasks answered by a collection instead of a request each.",
        (),
        lambda of: _one(of.statistics.coalesced),
    ),
    _Family(
        GaugeMetricFamily,
        "asked_together",
        "Whether one request asks for all tasks (1), or each singly (0).",
        (),
        lambda of: _one(of.statistics.coalescing == "together"),
    ),
    _Family(
        CounterMetricFamily,
        "retries",
        "Requests sent again under a new token, and polls after a failure.",
        (),
        lambda of: _one(of.statistics.retries),
    ),
    _Family(
        CounterMetricFamily,
        "errors",
        "Polls, calls and logons without a usable reply.",
        (),
        lambda of: _one(of.statistics.errors),
    ),
    _Family(
        CounterMetricFamily,
        "logons",
        "Logons that the server accepted, renewals included.",
        (),
        lambda of: _one(of.statistics.logons),
    ),
    _Family(
        CounterMetricFamily,
        "renewals",
        "Logons that replaced a refused token.",
        (),
        lambda of: _one(of.statistics.renewals),
    ),
    _Family(
        CounterMetricFamily,
        "logon_refusals",
        "Logons, and adopted tokens, that were refused: nothing is asked any more.",
        (),
        lambda of: _one(of.monitor.refusals),
    ),
    _Family(
        GaugeMetricFamily,
        "em_reachable",
        "Whether the Enterprise Manager gives good replies (1); 0 also once closed.",
        (),
        lambda of: _one(of.is_reachable),
    ),
)


def _histogram(measures: Iterable[tuple[str, Measures]]) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(
        "veeam_tasks_change_seen_after_seconds",
        "How much later than it happened a change was seen, at most: the time between"
        " the poll before and the reply that showed it.",
        labels=["em"],
    )
    bounds = [*map(str, BOUNDS), "+Inf"]
    for name, one in measures:
        seen = one.monitor.seen_after
        counts = accumulate(list(seen.counts))
        metric.add_metric(
            [name], buckets=list(zip(bounds, counts, strict=True)), sum_value=seen.total
        )
    return metric


def serve(
    collector: Collector, host: str = "127.0.0.1", port: int = 9399
) -> "tuple[WSGIServer, Thread]":
    """Serve a collector over HTTP, in a thread; on loopback unless told otherwise.

    There is neither TLS nor a password: whoever reaches the port reads the names of
    jobs and operations.

    Returns:
        The server, of which ``shutdown()`` and ``server_close()`` end it, and its
        thread.

    Raises:
        OSError: The port cannot be had.
        UnicodeError: The host is no name.
        TypeError: It is no `Collector`, or the port is no number.
        ValueError: There is no such port.
    """
    if not isinstance(collector, Collector):
        text = f"what is served is a Collector, not {_type(collector)}"
        raise TypeError(text)
    if isinstance(port, bool) or not isinstance(port, int):
        text = f"port must be a whole number, not {quoted(port)}"
        raise TypeError(text)
    if port not in range(_PORTS):
        raise vt.ArgumentError(
            parameter="port", problem="a port is 0 to 65535", shown=quoted(port)
        )
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(port, addr=host, registry=registry)
    server.handle_error = partial(_on_error, server)  # type: ignore[method-assign] # its class is another one each time
    return server, thread


def _on_error(server: "WSGIServer", request: Any, client_address: Any) -> None:
    """Take no note of a scraper that went away: a traceback would be printed of it.

    Some that only look whether a port is open reset each of their connections.
    """
    if not isinstance(sys.exception(), ConnectionError | TimeoutError):
        BaseServer.handle_error(server, request, client_address)


def dashboard() -> str:
    """Return a dashboard for Grafana, as JSON; its source is a Prometheus."""
    return (files(__package__) / "dashboard.json").read_text(encoding="utf-8")
