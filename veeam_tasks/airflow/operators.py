"""Operators: send actions at most once, and learn how they and their jobs ended."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

import veeam_tasks as vt
from veeam_tasks.airflow._shared_logon import LogonRefusedError
from veeam_tasks.airflow._submitting import Action, Submitting, remember_ends
from veeam_tasks.airflow._watching import Outcome, check_flags, reason_of, report_of
from veeam_tasks.airflow.hooks import DEFAULT_CONN_ID, VeeamHook
from veeam_tasks.airflow.links import VeeamConsoleLink
from veeam_tasks.airflow.triggers import VeeamTrigger

OnWarning = Literal["succeed", "skip", "fail"]


class TaskMemory:
    """The task state store of Airflow, which survives tries; plain text, so no secret.

    Calls go in a thread, see `veeam_tasks.airflow.hooks.AirflowVariables`.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = context["task_state_store"]

    async def get(self, key: str) -> Any:
        """Return the value, or None."""
        return await asyncio.to_thread(self._store.get, key)

    async def put(self, key: str, value: dict[str, Any]) -> None:
        """Set the value."""
        await asyncio.to_thread(self._store.set, key, value)

    async def delete(self, key: str) -> None:
        """Forget the value."""
        await asyncio.to_thread(self._store.delete, key)


class _ActionsOperator(BaseOperator):
    """What one action and many have in common."""

    operator_extra_links = (VeeamConsoleLink(),)
    ui_color = "#d3f2df"

    def __init__(
        self,
        *,
        body: Any = None,
        method: Literal["POST", "PUT", "DELETE"] = "POST",
        action: str = "start",
        veeam_conn_id: str = DEFAULT_CONN_ID,
        follow: bool = True,
        on_warning: OnWarning = "succeed",
        wait: bool = True,
        find_timeout: float = 1200.0,
        watch_timeout: timedelta | float | None = None,
        delete_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_flags(follow=follow, wait=wait, delete_on_kill=delete_on_kill)
        if on_warning not in ("succeed", "skip", "fail"):
            text = f"on_warning must be succeed, skip or fail, not {on_warning!r}"
            raise ValueError(text)
        self.body = body
        self.method = method
        self.action = action
        self.veeam_conn_id = veeam_conn_id
        self.follow = follow
        self.on_warning = on_warning
        self.wait = wait
        self.find_timeout = find_timeout
        self.watch_timeout = watch_timeout
        self.delete_on_kill = delete_on_kill

    def _actions(self) -> list[Action]:
        raise NotImplementedError

    def _result(self, outcomes: list[Outcome]) -> Any:
        raise NotImplementedError

    def _action(self, *, path: str | None = None, job: str | None = None) -> Action:
        return Action(
            path=path, job=job, verb=self.action, body=self.body, method=self.method
        )

    def execute(self, context: Any) -> Any:
        """Send what was not sent yet, and let a triggerer watch."""
        hook = VeeamHook(self.veeam_conn_id)
        actions = self._actions()
        submitting = Submitting(
            hook.source,
            TaskMemory(context),
            context["ti"].max_tries,
            follow=self.follow,
            find_timeout=self.find_timeout,
        )
        try:
            asyncio.run(submitting.run(actions))
        except LogonRefusedError as error:
            text = f"the logon was refused: {error}"
            raise AirflowException(text) from None
        except (vt.VeeamTasksError, ValueError, TimeoutError) as error:
            raise AirflowException(str(error)) from None
        checkpoints = submitting.checkpoints
        for position in checkpoints:
            self.log.info("%s was started", actions[position].name)
        if not self.wait:
            return self._started(context, submitting)
        if not checkpoints:
            return self._end(context, submitting.outcomes)
        trigger = VeeamTrigger(
            veeam_conn_id=self.veeam_conn_id,
            reference=submitting.reference,
            checkpoints={str(place): one for place, one in checkpoints.items()},
            ended={str(place): one for place, one in submitting.outcomes.items()},
            delete_on_kill=self.delete_on_kill,
        )
        raise TaskDeferred(
            trigger=trigger,
            method_name="execute_complete",
            timeout=self.watch_timeout,
        )

    def _started(self, context: Any, submitting: Submitting) -> Any:
        failed = [end for end in submitting.outcomes.values() if not _is_good(end)]
        if failed:
            return self._end(context, dict(enumerate(failed)))
        started = [
            {"reference": submitting.reference, **checkpoint}
            for _, checkpoint in sorted(submitting.checkpoints.items())
        ]
        return self._result(started)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Judge what the triggerer saw."""
        if "problem" in event:
            # What was started is remembered: a retry only watches on.
            text = f"{event['problem']}. What was started goes on at the server"
            raise AirflowException(text)
        outcomes = {int(place): one for place, one in event["outcomes"].items()}
        actions = self._actions()
        for place, action in enumerate(actions):
            outcomes[place]["action"] = action.name
        asyncio.run(remember_ends(TaskMemory(context), actions, outcomes))
        return self._end(context, outcomes)

    def _end(self, context: Any, by_position: Mapping[int, Outcome]) -> Any:
        outcomes = [by_position[place] for place in sorted(by_position)]
        result = self._result(outcomes)
        bad = [one for one in outcomes if not self._passes(one)]
        for outcome in outcomes:
            self.log.info("%s", reason_of(outcome))
        if not bad:
            return result
        context["ti"].xcom_push("return_value", result)
        text = "; ".join(map(reason_of, bad[:10]))
        if len(bad) < len(outcomes):
            text = f"{len(bad)} of {len(outcomes)} did not succeed: {text}"
        words = {outcome["outcome"] for outcome in bad}
        if words & {"lost", "uncertain"}:
            # Nobody knows what a second try would find running.
            raise AirflowFailException(text)
        if words == {"warning"} and self.on_warning == "skip":
            raise AirflowSkipException(text)
        raise AirflowException(text)

    def _passes(self, outcome: Outcome) -> bool:
        if outcome["outcome"] == "warning":
            return self.on_warning == "succeed"
        return _is_good(outcome)


class VeeamActionOperator(_ActionsOperator):
    """Send one action, at most once; succeed when what it started has succeeded.

    Args:
        path: The action, as ``jobs/<id>?action=start``; or
        job: a job, by its name or ID, and
        action: what to do with it.
        body: Of the request: a mapping, or bytes.
        method: POST, PUT or DELETE.
        veeam_conn_id: The connection.
        follow: Whether it is not over before the job that it starts has ended.
        on_warning: What a job that ended with Warning does to the Airflow task.
        wait: False: succeed as soon as it is started, with what `VeeamTaskSensor` needs
            as XCom.
        find_timeout: How long a job session is searched for, in seconds.
        watch_timeout: When to give up watching. The job itself goes on, and a retry
            watches on.
        delete_on_kill: Delete the task when a person ends the Airflow task. What it
            started goes on in any case.
        **kwargs: Of every operator.
    """

    template_fields: Sequence[str] = ("path", "job", "action", "body", "veeam_conn_id")

    def __init__(
        self, *, path: str | None = None, job: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if (path is None) == (job is None):
            text = "give either path or job"
            raise ValueError(text)
        self.path = path
        self.job = job

    def _actions(self) -> list[Action]:
        return [self._action(path=self.path, job=self.job)]

    def _result(self, outcomes: list[Outcome]) -> Outcome:
        return outcomes[0]


class VeeamActionsOperator(_ActionsOperator):
    """Send many actions, each at most once, and report of all of them.

    A retry sends only those again that have failed.

    Args:
        paths: Actions, and
        jobs: jobs, by name or ID, with
        action: what to do with each.
        **kwargs: As of `VeeamActionOperator`; `body` and `method` are of all.
    """

    template_fields: Sequence[str] = (
        "paths",
        "jobs",
        "action",
        "body",
        "veeam_conn_id",
    )

    def __init__(
        self, *, paths: Sequence[str] = (), jobs: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.paths = paths
        self.jobs = jobs

    def _actions(self) -> list[Action]:
        by_path = [self._action(path=path) for path in self.paths]
        return [*by_path, *(self._action(job=job) for job in self.jobs)]

    def _result(self, outcomes: list[Outcome]) -> Any:
        return report_of(outcomes) if self.wait else outcomes


def _is_good(outcome: Outcome) -> bool:
    word: str = outcome["outcome"]
    return word in ("succeeded", "warning")
