"""The report as text: what it says, what it hides, how large it is."""

import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.deliveries import night

import veeam_tasks as vt
from veeam_tasks.report import Recorder, render, write
from veeam_tasks.report._recorder import Outcome

pytest.importorskip("jinja2")

AT = datetime(2026, 11, 26, 22, 0, tzinfo=UTC)
HOSTILE = (
    "</style></svg><script>alert(1)</script>\"'><img src=x onerror=a()>&amp;{{7*7}}"
)


def event(task_id: str = "task-1", **fields: Any) -> vt.TaskEvent:
    """Give an event of a task, Running unless it is said otherwise."""
    state = fields.pop("state", vt.TaskState.RUNNING)
    message = fields.pop("message", None)
    succeeded = fields.get("succeeded")
    result = None
    if succeeded is not None:
        result = vt.TaskResult(success=succeeded, message=message)
    known: dict[str, Any] = {
        "task_id": task_id,
        "task": vt.Task(
            task_id=task_id,
            state=state,
            raw_state=state.value,
            operation=fields.pop("operation", "StartJob"),
            result=result,
        ),
        "previous": None,
        "state": state,
        "is_final": succeeded is not None,
        "succeeded": succeeded,
        "observed_at": AT,
        "sequence": 1,
    }
    return vt.TaskEvent(**(known | fields))


def ended(
    task_id: str = "task-1", *, succeeded: bool = True, **more: Any
) -> vt.TaskEvent:
    """Give the final event of a task."""
    known: dict[str, Any] = {
        "state": vt.TaskState.FINISHED,
        "succeeded": succeeded,
        "observed_at": AT + timedelta(minutes=5),
        "not_before": AT + timedelta(minutes=4),
        "sequence": 2,
    }
    return event(task_id, **(known | more))


def verdict(page: str) -> str:
    """Return the sentence at the top."""
    found = re.search(r"<h1[^>]*>(.*?)</h1>", page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "No task was seen."),
        ([ended()], "The one task succeeded."),
        ([ended(), ended("task-2")], "All 2 tasks succeeded."),
        (
            [ended(), ended("task-2", succeeded=False), event("task-3")],
            "Of 3 tasks, 1 failed and 1 was left unfinished; 1 succeeded.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(events: list[vt.TaskEvent], said: str) -> None:
    """It counts what went wrong first."""
    assert verdict(render(events, zone=UTC)) == said


def test_a_report_is_taken_as_well() -> None:
    """What `watch.report` has is enough for a page of the ends."""
    report = vt.Report(outcomes={"task-1": ended()})
    assert verdict(render(report)) == "The one task succeeded."


def test_what_cannot_be_kept_is_refused_before_anything_is() -> None:
    """A wrong value or a time without a zone leaves the recorder as it was."""
    naive: Any = datetime(2026, 11, 26)  # noqa: DTZ001 - that is the point
    notice: Any = {"kind": vt.NoticeKind.RENEWED, "detail": ""}
    recorder: Any = Recorder()
    for wrong in ("task-1", (None, event()), event().task):
        with pytest.raises(TypeError, match="an event is a TaskEvent, not"):
            recorder.add_event(wrong)
        with pytest.raises(TypeError, match="a notice is a Notice, not"):
            recorder.add_notice(wrong)
    with pytest.raises(TypeError, match="by its ID, not int"):
        recorder.expect("task-1", 7)
    for late in ({"observed_at": naive}, {"not_before": naive}):
        with pytest.raises(ValueError, match="it has no time zone"):
            recorder.add_event(event(**late))
    with pytest.raises(ValueError, match="at=2026-11-26 00:00:00: it has no time zone"):
        recorder.add_notice(vt.Notice(at=naive, **notice))
    with pytest.raises(ValueError, match="began_at"):
        Recorder(began_at=naive)
    assert (recorder.lanes, recorder.unseen, recorder.renewals) == ([], [], [])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"delivered": 7}, "made of a Recorder, of events or of a Report, not of int"),
        ({"delivered": "task-1"}, "an event is a TaskEvent, not str"),
        ({"zone": "Europe/Berlin"}, "zone must be a tzinfo, as ZoneInfo"),
        ({"now": "today"}, "now must be a datetime, not str"),
    ],
)
def test_a_page_is_made_of_what_it_is_made_of(wrong: dict[str, Any], told: str) -> None:
    """A wrong argument is told by its name."""
    with pytest.raises(TypeError, match=told):
        render(**({"delivered": [event()]} | wrong))


def test_a_task_that_was_never_seen_is_not_left_out() -> None:
    """A watch that ended before the first reply of it knows nothing of its end."""
    report = vt.Report(outcomes={"task-1": ended(), "task-2": None, "task-<3>": None})
    page = render(report)
    assert verdict(page) == "Of 3 tasks, 2 were never seen; 1 succeeded."
    assert "task-2, task-&lt;3&gt;" in page
    recorder = Recorder(began_at=AT)
    recorder.expect("task-1", "task-2", server="branch")
    recorder.add_event(event(), server="branch")
    recorder.expect("task-1", server="branch")
    assert recorder.unseen == ["branch/task-2"]
    said = "Of 2 tasks, 1 is still under way and 1 was not seen yet."
    assert verdict(render(recorder)) == said


def test_a_watch_that_was_cut_short_lasted_until_then() -> None:
    """Not only until the last change that it saw; one that ended does end there."""
    recorder = Recorder(began_at=AT)
    recorder.add_event(ended())
    recorder.finish()
    recorder.ended_at = AT + timedelta(hours=2)
    assert "22:05:00</time>" in render(recorder, zone=UTC)
    recorder.add_event(event("task-2"))
    page = render(recorder, zone=UTC)
    assert '<time datetime="2026-11-27T00:00:00+00:00">' in page
    assert re.search(r'<rect class="running" x="0.0%"[^>]* width="100.0%"', page)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (None, "Its job session was never found: none appeared within 20 min."),
        ("Working", "Its job session was last seen Working: none appeared"),
    ],
)
def test_a_lost_job_is_told_without_the_task_beside_it(
    last: str | None, said: str
) -> None:
    """So that equal reasons are equal, and are told once."""
    session = last and vt.JobSession(
        session_id="1",
        kind="BackupJobSession",
        state=vt.SessionState.WORKING,
        raw_state=last,
        result=vt.SessionResult.NONE,
    )
    events = []
    for task_id in ("task-1", "task-2"):
        error = vt.SessionLostError(
            task_id=task_id,
            task=None,
            last_seen=session or None,
            reason="none appeared within 20 min",
        )
        one = ended(task_id, state=vt.TaskState.LOST, succeeded=None, is_final=True)
        events.append(attrs.evolve(one, error=error))
    page = render(events, zone=UTC)
    assert verdict(page) == "Of 2 tasks, 2 were lost."
    assert page.count('class="problem lost"') == 1
    assert said in page


def test_a_watch_of_nothing_says_why() -> None:
    """A logon that was refused is no quiet night."""
    recorder = Recorder()
    recorder.finish(vt.TransportError(request="GET x", reason="no reply"))
    page = render(recorder)
    assert '<h1 class="failed">No task was seen.</h1>' in page
    assert "Nothing was watched." in page
    assert "no reply" in page


def test_what_goes_on_is_said_so() -> None:
    """A page that is made while the watch lasts does not call tasks left."""
    recorder = Recorder("https://em.example:9398/api/")
    recorder.add_event(event())
    page = render(recorder)
    assert verdict(page) == "The one task is still under way."
    recorder.finish(vt.TransportError(request="GET x", reason="no reply"))
    assert "no reply" in render(recorder)


def test_text_of_the_server_is_only_text() -> None:
    """Nothing of it becomes an element, an attribute, or an expression."""
    machine = vt.TaskSession(
        vm_name=HOSTILE, raw_state=HOSTILE, raw_result=HOSTILE, reason=HOSTILE
    )
    session = vt.JobSession(
        session_id="1",
        kind="BackupJobSession",
        job_name=HOSTILE,
        job_type=HOSTILE,
        state=vt.SessionState.STOPPED,
        raw_state=HOSTILE,
        result=vt.SessionResult.FAILED,
        failure_message=HOSTILE,
    )
    events = [
        ended(
            "task-1",
            succeeded=False,
            stage=vt.RunStage.SESSION,
            session=session,
            failures=(machine,),
        ),
        ended(
            "task-2", succeeded=False, operation=HOSTILE, message=HOSTILE + "\0\x1b[31m"
        ),
    ]
    notice = vt.Notice(kind=vt.NoticeKind.UNREACHABLE, at=AT, detail=HOSTILE)
    page = render(events, [notice], title=HOSTILE, url=HOSTILE, account=HOSTILE)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("{{7*7}}") >= 8
    assert not re.search(r"[\0\x1b]", page)
    assert r"\x1b[31m" in page


def test_nothing_is_asked_of_the_network_and_nothing_runs() -> None:
    """No script, no link to elsewhere, and a policy that forbids both."""
    page = render(night(20), zone=UTC)
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "default-src 'none'" in page


def test_an_account_is_named_only_when_it_is_passed() -> None:
    """Nothing else of a page knows it."""
    assert "no account is named" in render([ended()])
    page = render([ended()], account=r"CORP\svc")
    assert r"as CORP\svc" in page


def test_every_reason_of_every_machine_is_there() -> None:
    """However long, and however many tasks there are."""
    recorder = night(500)
    page = render(recorder, zone=UTC)
    said = page.replace("&#39;", "'").replace("&#34;", '"')
    reasons = {
        machine.reason
        for lane in recorder.lanes
        for machine in lane.latest.failures
        if machine.reason
    }
    assert len(reasons) >= 3
    assert [one for one in reasons if one not in said] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str) -> None:
    """At least 4.5 to 1, as WCAG asks, on whatever it stands."""
    css = render([ended()])
    light, dark = css.split("prefers-color-scheme: dark")[:2]
    text = light if scheme == "light" else dark.split("@media print")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", text))
    tones = ("succeeded", "warning", "failed", "lost", "unfinished")
    for ink in ("ink", "soft", *tones):
        for paper in ("paper", "card", *(f"{tone}-wash" for tone in tones)):
            if ink in tones and paper.endswith("wash") and not paper.startswith(ink):
                continue
            ratio = _contrast(colours[ink], colours[paper])
            assert ratio >= 4.5, (ink, paper, ratio)


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted(map(_luminance, (one, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_equal_reasons_are_told_once() -> None:
    """A thousand tasks that met the same full disk are one entry."""
    events = [
        ended(f"task-{at}", succeeded=False, message="Disk full") for at in range(1000)
    ]
    page = render(events)
    assert page.count('class="problem failed"') == 1
    assert "1,000 tasks" in page


def test_equal_reasons_of_machines_are_told_once() -> None:
    """Of one job, with when it ended first and last; another job is told apart."""
    machine = vt.TaskSession(
        vm_name="fs-07",
        raw_state="Completed",
        raw_result="Warning",
        result=vt.SessionResult.WARNING,
        reason="Changed block tracking cannot be enabled.",
    )
    events = [
        ended(
            f"task-{at}",
            stage=vt.RunStage.SESSION,
            observed_at=AT + timedelta(hours=at),
            failures=(machine,),
            session=vt.JobSession(
                session_id=str(at),
                kind="BackupJobSession",
                job_name="Nightly" if at < 4 else "Weekly",
                state=vt.SessionState.STOPPED,
                raw_state="Stopped",
                result=vt.SessionResult.WARNING,
            ),
        )
        for at in range(1, 5)
    ]
    page = render(events, zone=UTC)
    assert page.count('class="problem warning"') == 2
    assert page.count("Changed block tracking") == 2 + len(events)
    times = re.findall(r'class="soft ended">(.*?)</span>', page)
    assert [re.sub("<.*?>", "", one) for one in times] == [
        "26 Nov 23:00:00 to 27 Nov 01:00:00",
        "27 Nov 02:00:00",
    ]


def test_an_outage_is_a_band_and_a_line_of_text() -> None:
    """With its span and its reason; one that lasts goes to the end."""
    recorder = Recorder(began_at=AT)
    recorder.add_event(event())
    for kind, minute in (("unreachable", 1), ("recovered", 3), ("unreachable", 4)):
        recorder.add_notice(
            vt.Notice(
                kind=vt.NoticeKind(kind),
                at=AT + timedelta(minutes=minute),
                detail="refused",
            )
        )
    page = render(recorder, zone=UTC, now=AT + timedelta(minutes=5))
    assert page.count('class="band"') >= 2
    assert "2\u00a0min\u00a000\u00a0s: refused" in page
    assert "to the end of this report: refused" in page


def test_the_oldest_outages_are_only_counted() -> None:
    """So that a server that comes and goes for months does not fill the page."""
    recorder = Recorder()
    recorder.add_event(event())
    for at in range(510):
        for kind in (vt.NoticeKind.UNREACHABLE, vt.NoticeKind.RECOVERED):
            moment = AT + timedelta(minutes=at, seconds=30 * (kind == "recovered"))
            recorder.add_notice(vt.Notice(kind=kind, at=moment, detail="x"))
    assert (len(recorder.outages), recorder.forgotten_outages) == (500, 10)
    page = render(recorder, zone=UTC)
    assert "; 510 outages of the server" in page
    assert "<li>10 earlier outages not shown.</li>" in page
    assert page.count("<b>Outage</b>") == 500


def test_tasks_and_outages_of_several_servers_are_told_apart() -> None:
    """Each has the name of its server; equal IDs are different tasks."""
    recorder = Recorder(began_at=AT)
    recorder.add_event(ended(), server="north")
    recorder.add_event(ended(succeeded=False, message="Disk full"), server="south")
    for kind, minute in (("unreachable", 1), ("recovered", 3)):
        at = AT + timedelta(minutes=minute)
        notice = vt.Notice(kind=vt.NoticeKind(kind), at=at, detail="no route")
        recorder.add_notice(notice, server="south")
    recorder.finish("north: the time was up")
    page = render(recorder, zone=UTC)
    assert verdict(page) == "Of 2 tasks, 1 failed; 1 succeeded."
    assert page.count("north/task-1") == 3
    assert page.count("south/task-1") == 4
    assert "<b>Outage of south</b>" in page
    assert "north: the time was up" in page


def test_an_outage_is_told_without_the_request_that_showed_it() -> None:
    """Its address may be longer than all the rest."""
    error = vt.TransportError(request="GET https://em/api/query", reason="no route")
    notice = vt.Notice(
        kind=vt.NoticeKind.UNREACHABLE, at=AT, detail=str(error), error=error
    )
    page = render([ended()], [notice])
    assert "no route" in page
    assert "api/query" not in page


def test_what_is_not_known_for_sure_is_drawn_apart() -> None:
    """A change lies between two polls: from the one before to the one that shows it."""
    page = render([event(), ended()], zone=UTC)
    bars = re.findall(
        r'<rect class="(running[^"]*)" x="([\d.]+)%"[^>]* width="([\d.]+)%"', page
    )
    assert bars == [("running", "0.0", "80.0"), ("running maybe", "80.0", "20.0")]


def test_five_thousand_tasks_are_less_than_five_megabytes() -> None:
    """And share lanes, but for those that went wrong."""
    page = render(night(5000), zone=UTC)
    assert len(page.encode()) < 5_000_000
    assert page.count('<tr id="t') == 5000
    assert page.count('class="lanes"') < 10


def test_a_task_under_the_id_of_another_is_one_of_its_own() -> None:
    """IDs begin anew in each logon session."""
    recorder = Recorder()
    for one in (event(), ended(), event(), ended(succeeded=False)):
        recorder.add_event(one)
    assert recorder.counts().total() == 2


def test_the_oldest_that_succeeded_are_only_counted() -> None:
    """So that an endless watch does not fill the memory."""
    recorder = Recorder()
    recorder.add_event(ended("task-0", succeeded=False))
    for at in range(1, 20_011):
        recorder.add_event(ended(f"task-{at}"))
    assert len(recorder.lanes) == 20_000
    assert (recorder.forgotten, recorder.counts().total()) == (11, 20_011)
    assert recorder.lanes[0].latest.task_id == "task-0"


def test_of_tasks_that_were_others_before_the_failures_stay() -> None:
    """IDs that come again for months are bounded, too; what is forgotten is counted."""
    recorder = Recorder()
    recorder.add_event(event())
    recorder.add_event(ended(succeeded=False))
    for _ in range(20_010):
        recorder.add_event(event())
        recorder.add_event(ended())
    assert len(recorder.lanes) == 20_000
    assert (recorder.forgotten, recorder.counts().total()) == (11, 20_011)
    assert recorder.counts()[Outcome.FAILED] == 1


def test_what_is_left_unfinished_costs_no_search() -> None:
    """Of thirty thousand that run nothing is forgotten, until they succeed."""
    recorder = Recorder()
    began = time.process_time()
    for at in range(30_000):
        recorder.add_event(event(f"task-{at}"))
    assert time.process_time() - began < 20
    for at in range(30_000):
        recorder.add_event(ended(f"task-{at}"))
    assert (len(recorder.lanes), recorder.forgotten) == (20_000, 10_000)


def test_of_a_large_report_none_is_called_unseen() -> None:
    """Those that are only counted were seen."""
    outcomes = {f"task-{at}": ended(f"task-{at}") for at in range(20_005)}
    page = render(vt.Report(outcomes={**outcomes, "task-x": None}), zone=UTC)
    assert verdict(page) == ("Of 20,006 tasks, 1 was never seen; 20,005 succeeded.")


@pytest.mark.parametrize("back", [timedelta(minutes=1), timedelta(hours=3)])
@pytest.mark.parametrize("succeeded", [True, False])
def test_a_clock_that_was_set_back_makes_a_page_all_the_same(
    back: timedelta, *, succeeded: bool
) -> None:
    """Tasks that ended before they were seen, by that clock, alone or many alike."""
    seen = AT + timedelta(minutes=30)
    for count in (1, 100):
        events = [
            event("task-x", operation="Other"),
            ended("task-x", operation="Other"),
        ]
        for at in range(count):
            events.append(event(f"task-{at}", observed_at=seen))
            end = ended(f"task-{at}", succeeded=succeeded, observed_at=seen - back)
            events.append(attrs.evolve(end, not_before=seen - back))
        page = render(events, zone=UTC, now=seen)
        assert page.count('<tr id="t') == count + 1
        for path in re.findall(r'class="area" d="([^"]*)"', page):
            assert all(0 <= int(one) <= 100 for one in re.findall(r"V(-?\d+)", path))


def test_a_link_stays_and_a_device_is_left_alone(tmp_path: Path) -> None:
    """What a link leads to is written; nothing takes the place of a pipe."""
    target, link = tmp_path / "page.html", tmp_path / "latest.html"
    link.symlink_to(target)
    write(link, "page")
    assert (link.is_symlink(), target.read_text()) == (True, "page")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no file that can be replaced"):
        write(pipe, "page")
    assert pipe.is_fifo()


def test_a_file_is_whole_at_every_moment(tmp_path: Path) -> None:
    """It is put in place of the old one, and keeps that one's rights."""
    target = tmp_path / "report.html"
    write(target, "old")
    target.chmod(0o640)
    write(target, "new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "report.html", "new")
