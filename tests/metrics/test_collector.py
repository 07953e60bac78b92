"""What a scrape tells, and that nothing of it is without bound."""

import gc
import json
import re
import socket
import struct
import sys
import urllib.request
from types import FrameType
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

import anyio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.managers import Wire, direct, door

import veeam_tasks as vt
from veeam_tasks.metrics import Collector, dashboard, serve
from veeam_tasks.simulator import Fault, FaultKind, SimulatedServer

pytestmark = pytest.mark.virtual_time(debug=False)


class Scrape:
    """One scrape: samples by name and labels."""

    def __init__(self, collector: Collector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        self.text = generate_latest(registry).decode()
        self.families = {
            family.name: family for family in text_string_to_metric_families(self.text)
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the one sample that has these labels; None without one."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == f"veeam_tasks_{name}"
            and labels.items() <= sample.labels.items()
        ]
        assert len(found) < 2, found
        return found[0] if found else None


async def test_a_scrape_tells_what_is_watched_and_how_it_ended(wire: Wire) -> None:
    """By state, by operation and outcome; each change with how late it was seen."""
    async with wire.server() as server:
        server.add_task("Running 100s, Finished", operation="StartJob")
        server.add_task("Running 3s, Finished failed 'no'", operation="RestoreVm")
        async with door(server, **wire.options()) as em:
            collector = Collector(em)
            watch = em.watch("task-1", "task-2")
            await anyio.sleep(10)
            seen = Scrape(collector)
            assert seen.value("watched", state="running") == 1
            assert seen.value("watched", state="unseen") == 0
            ended = seen.value("ends_total", operation="RestoreVm", outcome="failed")
            assert ended == 1
            assert seen.value("change_seen_after_seconds_count") == 1
            assert 0 < (seen.value("change_seen_after_seconds_sum") or 0) <= 2
            await watch.wait()
            seen = Scrape(collector)
            ended = seen.value("ends_total", operation="StartJob", outcome="succeeded")
            assert ended == 1
            assert seen.value("em_reachable") == 1
            assert seen.value("requests_total", kind="logon", status="2xx") == 1
            assert seen.value("logons_total") == 1
        assert Scrape(collector).value("em_reachable") == 0


async def test_what_may_happen_is_counted_before_it_does() -> None:
    """With 0: what a series began with is no increase to Prometheus."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running 100s, Finished", operation="RestoreVm")
        watch = em.watch("task-1")
        await anext(watch)
        seen = Scrape(Collector(em))
        for outcome in ("succeeded", "failed", "lost"):
            assert seen.value("ends_total", outcome=outcome) == 0
        for result in ("success", "warning", "failed", "none", "unknown", "lost"):
            assert seen.value("sessions_total", result=result) == 0


async def test_two_watches_of_a_task_count_its_end_once() -> None:
    """It is the task that ended, however many look on."""
    async with SimulatedServer() as server, door(server) as em:
        server.add_task("Running 3s, Finished")
        first, second = em.watch("task-1"), em.watch("task-1")
        await first.wait()
        await second.wait()
        assert Scrape(Collector(em)).value("ends_total", outcome="succeeded") == 1


async def test_a_followed_job_tells_its_result_and_its_last_success() -> None:
    """The time of success is of jobs that were started here, and of those alone."""
    async with SimulatedServer(job_links="always") as server, door(server) as em:
        good = server.add_job("Nightly", session="Working 20s, Stopped")
        bad = server.add_job("Weekly", session="Working 20s, Stopped failed")
        await em.run(f"{good.path}?action=start")
        with pytest.raises(vt.SessionFailedError):
            await em.run(f"{bad.path}?action=start")
        seen = Scrape(Collector(em))
        assert seen.value("sessions_total", result="success") == 1
        assert seen.value("sessions_total", result="failed") == 1
        assert seen.value("job_last_success_timestamp_seconds", job="Nightly")
        assert seen.value("job_last_success_timestamp_seconds", job="Weekly") is None


async def test_an_outage_and_a_refusal_are_seen() -> None:
    """While it lasts the server is unreachable; what has no reply is ``none``."""
    async with SimulatedServer() as server:
        server.add_task("Running")
        async with door(server) as em:
            watch = em.watch("task-1")
            await anyio.sleep(3)
            server.faults.add(Fault(FaultKind.RESET))
            await anyio.sleep(60)
            collector = Collector(em)
            seen = Scrape(collector)
            assert seen.value("em_reachable") == 0
            assert (seen.value("requests_total", kind="poll", status="none") or 0) > 2
            server.faults.clear()
            await anyio.sleep(60)
            assert Scrape(collector).value("em_reachable") == 1
            await watch.aclose()
        em = direct(server)
        server.change_password("another")
        with pytest.raises(vt.LogonError):
            await em.open()
        assert Scrape(Collector(em)).value("logon_refusals_total") == 1


async def test_counts_go_on_when_a_manager_is_opened_again() -> None:
    """A counter of Prometheus never falls while its program runs."""
    async with SimulatedServer() as server:
        em = direct(server)
        collector = Collector(em)
        for count in (1, 2):
            await em.open()
            await em.fetch_all()
            await em.aclose()
            seen = Scrape(collector)
            assert seen.value("logons_total") == count
            assert seen.value("requests_total", kind="read", status="2xx") == count


async def test_counts_do_not_fall_for_who_asks_while_it_is_opened_again() -> None:
    """A scrape runs in a thread of its own, between any two lines of ours."""
    async with SimulatedServer() as server:
        em = direct(server)
        await em.open()
        await em.fetch_all()
        await em.aclose()
        seen = [em.statistics().requests]

        def look(frame: FrameType, _event: str, _arg: object) -> Any:
            if frame.f_code.co_name == "_open":
                seen.append(em.statistics().requests)
                return look
            return None

        before = sys.gettrace()
        sys.settrace(look)
        try:
            await em.open()
        finally:
            sys.settrace(before)
        await em.aclose()
    assert len(seen) > 5
    assert seen == sorted(seen)


async def test_many_managers_are_told_apart() -> None:
    """By URL, or by the names that were given; one that is gone is told no more."""
    async with SimulatedServer() as one, SimulatedServer() as other:
        collector = Collector(direct(one))
        gc.collect()
        assert Scrape(collector).value("em_reachable") is None
        first, second = direct(one), direct(other)
        collector = Collector(first)
        collector.add(second, name="branch")
        assert Scrape(collector).value("em_reachable", em="branch") == 0
        assert Scrape(collector).value("em_reachable", em=one.url) == 0


async def test_a_collector_may_be_in_several_registries() -> None:
    """And a manager in several collectors; each scrape tells the same."""
    async with SimulatedServer() as server, door(server) as em:
        await em.fetch_all()
        collector = Collector(em)
        one, other = CollectorRegistry(), CollectorRegistry()
        one.register(collector)
        other.register(collector)
        third = Scrape(Collector(em)).text
        assert generate_latest(one).decode() == generate_latest(other).decode() == third


def test_a_second_collector_in_a_registry_is_refused() -> None:
    """A scrape would have each family twice; `add` takes more managers."""
    registry, collector = CollectorRegistry(), Collector()
    registry.register(collector)
    for one in (collector, Collector()):
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(one)
    registry.unregister(collector)
    registry.register(Collector())
    assert generate_latest(registry).count(b"# TYPE veeam_tasks_polls_total ") == 1


async def test_words_of_the_server_make_no_labels_without_bound() -> None:
    """After two hundred operations the rest is ``other``."""
    async with SimulatedServer() as server:
        for at in range(250):
            server.add_task("Finished", operation=f"Operation{at}")
        async with door(server) as em:
            await em.watch([f"task-{at}" for at in range(1, 251)]).wait()
            ends = Scrape(Collector(em)).families["veeam_tasks_ends"].samples
    assert len({sample.labels["operation"] for sample in ends}) == 201
    assert sum(sample.value for sample in ends) == 250


async def test_no_secret_stands_in_a_scrape() -> None:
    """Neither account nor password, token or session ID."""
    async with SimulatedServer() as server, door(server) as em:
        await em.fetch_all()
        text = Scrape(Collector(em)).text
        for secret in (em.token, em.session_id, server.password, server.username):
            assert secret is not None
            assert secret not in text


def test_names_are_as_prometheus_wants_them() -> None:
    """Lower case, base units, and _total at the end of counters."""
    for name, family in Scrape(Collector()).families.items():
        assert re.fullmatch(r"veeam_tasks_[a-z_]+", name)
        assert family.documentation.endswith(".")
        assert not re.search(r"milli|minute|hour|_ms\b|_total$", name)


@pytest.mark.parametrize("wrong", ["https://em.example", None, vt.SessionManager])
def test_what_is_no_manager_is_refused_and_not_at_the_scrape(wrong: Any) -> None:
    """Nobody sees what a scrape raises, so it is told where it was written."""
    with pytest.raises(TypeError, match="tells of a SessionManager, not of"):
        Collector(wrong)


@pytest.mark.parametrize(
    ("port", "error"), [(-1, ValueError), (65536, ValueError), ("9399", TypeError)]
)
def test_what_is_no_port_or_no_collector_is_not_served(
    port: Any, error: type[Exception]
) -> None:
    """The message names the argument, where the socket's would name its own call."""
    with pytest.raises(error, match="port"):
        serve(Collector(), port=port)
    em: Any = vt.SessionManager("https://em.example", username="u", password="p")
    with pytest.raises(TypeError, match="a Collector, not SessionManager"):
        serve(em, port=0)


def test_it_is_served_on_loopback() -> None:
    """Who wants it elsewhere has to say so."""
    server, thread = serve(Collector(), port=0)
    assert server.server_address[0] == "127.0.0.1"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_scraper_that_goes_away_is_no_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whenever it resets its connection, as checks of open ports do; it goes on."""
    server, thread = serve(Collector(), port=0)
    vars(server)["daemon_threads"] = False  # so that its close awaits each scrape
    for said in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n", b"\xff\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.server_port)) as scraper:
            scraper.sendall(said)
            scraper.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert b"veeam_tasks_watched" in reply.read()
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert capfd.readouterr().err == ""


def test_what_else_goes_wrong_in_a_scrape_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As it is by every server of the standard library."""
    server, thread = serve(Collector(), port=0)
    try:
        int("no connection")
    except ValueError:
        server.handle_error(None, ("127.0.0.1", 1))
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert "no connection" in capfd.readouterr().err


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(dashboard())["panels"]
    return found


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Each expression names families of the collector, and each family is shown."""
    text = " ".join(one["expr"] for panel in panels() for one in panel["targets"])
    asked = set(re.findall(r"veeam_tasks_\w+", text))
    known = set()
    for name, family in Scrape(Collector()).families.items():
        suffix = {"counter": "_total", "histogram": "_bucket"}.get(family.type, "")
        known.add(name + suffix)
    assert asked == known


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have IDs of their own and do not overlap; sources are variables."""
    value = json.loads(dashboard())
    names = {one["name"] for one in value["templating"]["list"]}
    assert value["schemaVersion"] >= 36
    assert {"title", "uid", "time", "annotations", "refresh"} <= set(value)
    taken: set[tuple[int, int]] = set()
    for panel in value["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert panel["type"] in {"stat", "timeseries", "bargauge"}
        assert panel["datasource"]["uid"].strip("${}") in names
    ids = [panel["id"] for panel in value["panels"]]
    assert len(set(ids)) == len(ids)
