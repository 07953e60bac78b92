"""Watch tasks to their end, through renewals of the logon session.

Nothing of Airflow is imported here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import anyio
import attrs

import veeam_tasks as vt
from veeam_tasks.airflow._managers import Held, Managers, Source

# Control characters, surrogates, line separators, and what turns the direction of text.
_CONTROLS: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]"
)

Outcome = dict[str, Any]
"""How a task ended, as JSON has it: what XComs and events of triggers hold."""
Checkpoint = Mapping[str, Any]

_REASONS: Final = 3


def check_flags(**flags: object) -> None:
    """Raise unless each is True or False, while the DAG is read.

    Any text would be true, "no" as well, and so would what another task returns: only
    fields of templates are filled in.

    Raises:
        TypeError: One is of another type; its name is in the message.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            text = f"{name} must be True or False, not {value!r}"
            raise TypeError(text)


async def checkpoint_of(
    em: vt.SessionManager, task: vt.Task | str, *, follow: bool, find_timeout: float
) -> dict[str, Any]:
    """Return what another process needs to watch this task from here on.

    No secret is in it: Airflow keeps it in plain text.
    """
    watch = em.watch(task, follow=follow, find_timeout=find_timeout)
    try:
        saved = watch.checkpoint()
    finally:
        await watch.aclose()
    task_id = task if isinstance(task, str) else task.task_id
    return {"task": task_id, "watch": saved}


@attrs.define
class Watching:
    """Tasks on their way to their ends.

    Args:
        checkpoints: One for each task.
        on_event: Is told each event.

    Attributes:
        outcomes: By position; None until that task has ended.
        cut_short: By position: why it cannot be watched on.
    """

    checkpoints: list[Checkpoint]
    on_event: Callable[[vt.TaskEvent], object]
    outcomes: list[Outcome | None] = attrs.field(init=False)
    _is_dead: bool = False

    def __attrs_post_init__(self) -> None:
        self.outcomes = [None] * len(self.checkpoints)

    async def to_the_end(
        self, managers: Managers, source: Source, reference: str | None
    ) -> list[Outcome]:
        """Watch until each has ended; return how, in their order.

        Raises:
            LogonRefusedError: The account was refused.
            VeeamTasksError, ValueError: There is no way to the server.
        """
        dead: str | None = None
        while None in self.outcomes:
            async with managers.use(source, reference, dead=dead) as held:
                reference, self._is_dead = held.reference, False
                await self._watch(held)
                dead = held.reference if self._is_dead else None
        return [outcome for outcome in self.outcomes if outcome is not None]

    async def _watch(self, held: Held) -> None:
        errors: list[vt.VeeamTasksError] = []

        async def watch_one(position: int) -> None:
            try:
                await self._watch_one(held.manager, position)
            except vt.VeeamTasksError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            for position, outcome in enumerate(self.outcomes):
                if outcome is None:
                    tasks.start_soon(watch_one, position)
        if errors:
            raise errors[0]

    async def _watch_one(self, em: vt.SessionManager, position: int) -> None:
        checkpoint = self.checkpoints[position]
        watch: vt.Watch | None = None
        try:
            # The first line may raise it, too: another may have met the dead token.
            watch = em.resume(checkpoint["watch"])
            async for event in watch:
                self.on_event(event)
                if event.is_final:
                    self.outcomes[position] = outcome_of(event)
        except vt.LogonError:
            self._is_dead = True
            if watch is not None:
                self.checkpoints[position] = {
                    **checkpoint,
                    "watch": watch.checkpoint(),
                }
        finally:
            if watch is not None:
                with anyio.CancelScope(shield=True):
                    await watch.aclose()


async def delete_tasks(
    held: Held, reference: str | None, checkpoints: Sequence[Checkpoint]
) -> list[str]:
    """Delete these tasks of one logon session; return why some were not deleted.

    Under another logon session the same ID may be another's task.
    """
    if held.reference != reference:
        return ["nothing was deleted: the logon session of the tasks is no more"]
    why = []
    for checkpoint in checkpoints:
        try:
            await held.manager.delete(checkpoint["task"])
        except vt.VeeamTasksError as error:
            why.append(f"{checkpoint['task']} was not deleted: {error}")
    return why


def is_checkpoint(value: object) -> bool:
    """Tell whether this is what `checkpoint_of` gave, as far as its shape says."""
    match value:
        case {"task": str(), "watch": {"version": int()}}:
            return True
    return False


def outcome_of(event: vt.TaskEvent) -> Outcome:
    """Return how a task ended, of its final event."""
    task, session = event.task, event.session
    result = None if task is None else task.result
    return {
        "task_id": event.task_id,
        "outcome": _word(event),
        "operation": None if task is None else task.operation,
        "message": None if result is None else result.message,
        "error": None if event.error is None else str(event.error),
        "session": None if session is None else _session(session),
        "failures": [
            {"vm": one.vm_name, "result": one.raw_result, "reason": one.reason}
            for one in event.failures
        ],
    }


def _word(event: vt.TaskEvent) -> str:
    if event.state is vt.TaskState.LOST:
        return "lost"
    if not event.succeeded:
        return "failed"
    return "warning" if event.has_warnings else "succeeded"


def _session(session: vt.JobSession) -> dict[str, Any]:
    return {
        "uid": session.uid,
        "kind": session.kind,
        "name": session.name,
        "job_name": session.job_name,
        "result": session.raw_result,
        "created_at": session.created_at and session.created_at.isoformat(),
        "ended_at": session.ended_at and session.ended_at.isoformat(),
    }


def reason_of(outcome: Outcome) -> str:
    """Say in a line how a task ended, and why."""
    session = outcome.get("session")
    what = (session and session["job_name"]) or outcome.get("action") or ""
    parts = [f"{outcome['task_id']} {what}".strip(), outcome["outcome"]]
    reasons = [
        f"{one['vm']}: {one['reason'] or one['result']}"
        for one in outcome["failures"][:_REASONS]
    ]
    more = len(outcome["failures"]) - _REASONS
    if more > 0:
        reasons.append(f"and {more} more")
    if not reasons:
        reasons = [outcome["error"] or outcome["message"] or ""]
    told = ": ".join(filter(None, (*parts, "; ".join(filter(None, reasons)))))
    # What the server says reaches a log that people read in a terminal.
    return _CONTROLS.sub(_escape, told)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def report_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the counts of many outcomes, and themselves."""
    words = ("succeeded", "warning", "failed", "lost", "uncertain")
    counts = {
        word: sum(outcome["outcome"] == word for outcome in outcomes) for word in words
    }
    return {**counts, "actions": list(outcomes)}
