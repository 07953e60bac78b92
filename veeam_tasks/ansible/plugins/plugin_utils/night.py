"""Several actions over one logon session: sent, watched to their ends, told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

import veeam_tasks as vt
from veeam_tasks.jobs import Job, is_job_id, pick_job, read_jobs

from .server import SettingsError
from .text import visible

GOOD: Final = frozenset({"succeeded", "started", "planned"})
"""The outcomes that are no failure, beside ``warning`` where that is none."""

Tell = Callable[[str, int], None]

_DEFAULT: Final = "start"
_REASONS: Final = 3


@attrs.define(kw_only=True, eq=False)
class Step:
    """One action, and what became of it.

    Attributes:
        name: Of the job, or the path or task ID that was given.
        action: What is done with the job; empty for a path or a task.
        path: What stands below ``/api/``; empty for what an earlier task has sent.
        method: POST, PUT or DELETE.
        body: XML, or a mapping of its one root element, or None.
        enabled: Whether the job's schedule is on, if that was read.
        task_id: Of the task that the server made of it.
        outcome: See `Step.end` and the documentation of the action.
        error: Why it is not well.
        event: The latest event of its task.
    """

    name: str
    action: str = ""
    path: str = ""
    method: Literal["POST", "PUT", "DELETE"] = "POST"
    body: str | Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    enabled: bool | None = None
    task_id: str | None = None
    outcome: str = "not_sent"
    error: vt.VeeamTasksError | None = None
    event: vt.TaskEvent | None = None

    @property
    def is_open(self) -> bool:
        """Whether its end is not known yet, and can be."""
        return self.outcome in {"started", "unfinished"}

    @property
    def title(self) -> str:
        """How it is called in a line: the action, if it is not the usual one."""
        return (
            self.name if self.action in {"", _DEFAULT} else f"{self.action} {self.name}"
        )

    def note(self, event: vt.TaskEvent) -> None:
        """Take over what an event says."""
        self.event, self.error = event, event.error
        if not event.is_final:
            return
        if event.state is vt.TaskState.LOST:
            self.outcome = "lost"
        elif not event.succeeded:
            self.outcome = "failed"
        else:
            self.outcome = "warning" if event.has_warnings else "succeeded"

    @property
    def reasons(self) -> list[str]:
        """Why it is not well, one machine a line, as far as is known."""
        return [visible(one) for one in self._reasons()]

    def _reasons(self) -> list[str]:
        event = self.event
        if self.error is not None:
            return [str(self.error)]
        if self.outcome == "unfinished":
            return [f"not finished in time, last seen {self.standing}"]
        if event is None:
            return [self.outcome.replace("_", " ")]
        machines = [
            f"{one.vm_name or 'a machine'}: {one.reason or one.raw_result}"
            for one in event.failures
        ]
        said = [event.session.failure_message] if event.session else []
        if event.task is not None and event.task.result is not None:
            said.append(None if event.task.succeeded else event.task.result.message)
        ended = [event.session.raw_result or "no result"] if event.session else []
        return machines or [text for text in said if text] or ended or ["no result"]

    @property
    def standing(self) -> str:
        """Where it stands, in the server's words."""
        if self.event is None:
            return "submitted" if self.task_id else self.outcome
        session, task = self.event.session, self.event.task
        if session is not None:
            done = "" if session.progress is None else f" {session.progress} %"
            return visible(f"{session.raw_state}{done}")
        word = self.event.state.value if task is None else task.raw_state
        is_searched = self.event.stage is vt.RunStage.SEARCHING
        said = f"{word}, its job session is searched for" if is_searched else word
        return visible(said)

    def as_dict(self) -> dict[str, Any]:
        """Return what the result of the task has of it."""
        event = self.event
        task = None if event is None else event.task
        return {
            "name": self.name,
            "action": self.action or None,
            "path": self.path or None,
            "task_id": self.task_id,
            "outcome": self.outcome,
            "state": self.standing,
            "message": task.result.message if task and task.result else None,
            "reasons": [] if self.outcome in GOOD else self.reasons,
            "session": _session(event.session) if event else None,
            "failures": [
                {"vm": one.vm_name, "result": one.raw_result, "reason": one.reason}
                for one in (event.failures if event else ())
            ],
        }


def _session(session: vt.JobSession | None) -> dict[str, Any] | None:
    if session is None:
        return None
    ended, began = session.ended_at, session.created_at
    return {
        "uid": session.uid,
        "kind": session.kind,
        "name": session.name,
        "job_name": session.job_name,
        "state": session.raw_state,
        "result": session.raw_result,
        "progress": session.progress,
        "created_at": began.isoformat() if began else None,
        "ended_at": ended.isoformat() if ended else None,
    }


Entry = Mapping[str, Any]


def entries_of(args: Mapping[str, Any]) -> list[Entry]:
    """Return what there is to do, before anybody has been asked.

    Raises:
        SettingsError: An entry says too little or too much.
    """
    entries: list[Entry] = [
        {"job": name, "action": args["action"]} for name in args["jobs"] or []
    ]
    entries += args["actions"] or []
    for entry in entries:
        _check(entry)
    return entries


async def plan(em: vt.SessionManager, entries: Sequence[Entry]) -> list[Step]:
    """Return what there is to do; each job is found before anything is sent.

    Raises:
        SettingsError: This account may not read the jobs.
        JobNameError: A job is not there, or its name fits several.
        VeeamTasksError: The jobs could not be read.
    """
    try:
        jobs = await read_jobs(em) if any(map(_needs_jobs, entries)) else []
    except vt.ForbiddenError:
        text = (
            "this account may not read the jobs, so they cannot be found by their"
            " names; give their IDs"
        )
        raise SettingsError(text) from None
    return [_step(entry, jobs) for entry in entries]


def _check(entry: Entry) -> None:
    if (entry.get("job") is None) == (entry.get("path") is None):
        text = "actions: each entry has either job or path"
        raise SettingsError(text)
    if entry.get("path") is not None and entry.get("action"):
        text = "actions: action goes with job; write it into the path"
        raise SettingsError(text)


def _needs_jobs(entry: Entry) -> bool:
    """Tell whether a job has to be looked up, for its name or for its schedule."""
    job = entry.get("job")
    return job is not None and not (
        is_job_id(job) and entry.get("action") != "toggleScheduleEnabled"
    )


def _step(entry: Entry, jobs: Sequence[Job]) -> Step:
    verb, enabled = entry.get("action") or _DEFAULT, None
    name, path = entry.get("job"), entry.get("path")
    if path is not None:
        name, verb = path, ""
    elif _needs_jobs(entry):
        job = pick_job(jobs, str(name))
        name, path, enabled = job.name, job.action_path(verb), job.enabled
    else:
        path = f"jobs/{name}?action={verb}"
    return Step(
        name=str(name),
        action=verb,
        path=str(path),
        method=entry.get("method") or "POST",
        body=entry.get("body"),
        enabled=enabled,
    )


async def send(
    em: vt.SessionManager,
    steps: Iterable[Step],
    tell: Callable[[str], None],
    *,
    follow: bool,
) -> None:
    """Send each action once, in order.

    What is refused leaves the others alone. Where no clear answer comes the rest is
    not sent: the server, or the way to it, is out of order.
    """
    for step in steps:
        try:
            task = await em.submit(
                step.path, step.body, method=step.method, follow=follow
            )
        except vt.LogonError as error:
            step.error = error
            return
        except vt.StatusError as error:
            step.error = error
            step.outcome = "uncertain" if error.may_be_carried_out else "refused"
            tell(f"{step.title}: {step.outcome}")
        except vt.VeeamTasksError as error:
            step.error = error
            if isinstance(error, vt.SubmitUncertainError | vt.MalformedReplyError):
                step.outcome = "uncertain"
            tell(f"{step.title}: {step.outcome}")
            return
        except (ValueError, TypeError) as error:
            text = f"{step.name}: {error}"
            raise SettingsError(text) from None
        else:
            step.task_id, step.outcome = task.task_id, "started"
            tell(f"{step.title}: sent, {task.task_id}")


@attrs.define(kw_only=True, eq=False)
class Part:
    """Steps that one watch watches, now or in an earlier task of the play.

    Attributes:
        steps: What it watches.
        checkpoint: Where it stood, if it is gone on with, or is to be later.
        cut: What cut it short, if anything did.
        watch: What it is read from, once it has begun.
    """

    steps: list[Step]
    watch: vt.Watch | None = None
    checkpoint: Mapping[str, Any] | None = None
    cut: vt.VeeamTasksError | None = None

    def begin(self, em: vt.SessionManager, **how: Any) -> None:
        """Begin to watch, or go on.

        Raises:
            SettingsError: The checkpoint is damaged, or of another server.
        """
        for step in self.steps:
            step.outcome = "unfinished"
        try:
            if self.checkpoint is not None:
                self.watch = em.resume(self.checkpoint, timeout=how["timeout"])
            else:
                ids = {str(step.task_id) for step in self.steps}
                self.watch = em.watch(*ids, **how)
        except vt.VeeamTasksError as error:
            # What was sent is told in any case.
            self.cut = error
        except (ValueError, TypeError) as error:
            text = f"resume: {error}"
            raise SettingsError(text) from None

    async def read(self, tell: Tell, *, wait: bool) -> None:
        """Take the events of the watch until it ends, or only note where it stands."""
        if self.watch is None:
            return
        mine: dict[str, list[Step]] = {}
        for step in self.steps:
            mine.setdefault(str(step.task_id), []).append(step)
        shown: dict[str, str] = {}
        async with self.watch as watch:
            try:
                if wait:
                    async for event in watch:
                        for step in mine.get(event.task_id, ()):
                            step.note(event)
                            _tell(step, shown, tell)
            except vt.VeeamTasksError as error:
                self.cut = error
            self.checkpoint = watch.checkpoint()


def parts_of(resume: Any) -> list[Part]:
    """Return what an earlier task of the play has left to wait for.

    Raises:
        SettingsError: It is not what a result had under ``resume``.
    """
    try:
        return [
            Part(
                checkpoint=part["checkpoint"],
                steps=[
                    Step(name=name, action=action, task_id=task_id)
                    for name, action, task_id in part["steps"]
                ],
            )
            for part in (resume or {"parts": ()})["parts"]
        ]
    except (LookupError, TypeError, ValueError):
        text = "resume: it is not what the result of an earlier task had under resume"
        raise SettingsError(text) from None


def as_resume(parts: Iterable[Part]) -> dict[str, Any]:
    """Return what a later task takes to wait for what is unfinished."""
    left = [
        {
            "checkpoint": part.checkpoint,
            "steps": [[s.name, s.action, s.task_id] for s in part.steps if s.is_open],
        }
        for part in parts
        if part.checkpoint is not None and any(step.is_open for step in part.steps)
    ]
    return {"parts": left}


def _tell(step: Step, shown: dict[str, str], tell: Callable[[str, int], None]) -> None:
    """Tell of each new word at -v, of mere progress at -vv."""
    event, task_id = step.event, step.task_id
    if event is None or task_id is None:
        return
    if event.is_final:
        reasons = [] if step.outcome in GOOD else step.reasons[:_REASONS]
        tell(f"{step.title}: {': '.join([step.outcome, *reasons])}", 1)
        return
    word = event.session.raw_state if event.session else step.standing
    is_new = shown.get(task_id) != f"{event.stage} {word}"
    shown[task_id] = f"{event.stage} {word}"
    tell(f"{step.title}: {step.standing}", 1 if is_new else 2)


def summary(steps: Sequence[Step], *, warnings_fail: bool) -> dict[str, Any]:
    """Return what the task's result says of all: changed, failed, message, report."""
    good = GOOD if warnings_fail else GOOD | {"warning"}
    bad = [step for step in steps if step.outcome not in good]
    report: dict[str, list[str]] = {}
    for step in steps:
        report.setdefault(step.outcome, []).append(step.name)
    result: dict[str, Any] = {
        "changed": any(step.path and step.outcome not in _UNSENT for step in steps),
        "outcomes": [step.as_dict() for step in steps],
        "report": report,
    }
    counts = ", ".join(f"{len(names)} {word}" for word, names in report.items())
    result["msg"] = counts.replace("_", " ") or "nothing to do"
    if bad:
        told = [f"{step.title} {step.outcome}: {_brief(step)}" for step in bad]
        result["failed"] = True
        result["msg"] = "; ".join(
            [f"{len(bad)} of {len(steps)} did not succeed", *told]
        )
    return result


_UNSENT: Final = frozenset({"not_sent", "refused"})


def _brief(step: Step) -> str:
    reasons = step.reasons
    more = len(reasons) - _REASONS
    return ", ".join(reasons[:_REASONS]) + (f" (+{more} more)" if more > 0 else "")


def difference(steps: Sequence[Step]) -> dict[str, str]:
    """Return what ``--diff`` shows: schedules before and after, and what is sent."""
    before, after = [], []
    for step in steps:
        if step.action == "toggleScheduleEnabled" and step.enabled is not None:
            words = ("enabled", "disabled")
            before.append(f"{step.name}: schedule {words[not step.enabled]}")
            after.append(f"{step.name}: schedule {words[step.enabled]}")
        elif step.path:
            what = f"{step.action} {step.name} " if step.action else ""
            after.append(f"{what}({step.method} {step.path})")
    return {
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }
