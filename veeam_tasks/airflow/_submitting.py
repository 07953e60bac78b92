"""Send actions at most once, over the tries of an Airflow task; nothing of Airflow.

A worker can die at any moment, and Airflow then tries the task again, elsewhere. So it
is remembered before the request that it is being sent, and after the reply what it
started. Whoever finds only the first of the two cannot know: it sends nothing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal, Protocol, TypeVar

import attrs

import veeam_tasks as vt
from veeam_tasks.airflow._managers import WORKERS, Source, Uses
from veeam_tasks.airflow._shared_logon import Logon
from veeam_tasks.airflow._watching import Outcome, checkpoint_of
from veeam_tasks.jobs import is_job_id, pick_job, read_jobs

_SERVER_ERROR: Final = 500
_TRIED: Final = "veeam_tried"
_NOTE_EACH: Final = 60.0
_MAYBE: Final = (
    "it may have been carried out: a try before this one was about to send it and ended"
    " without saying how. Look at the server; then clear this task to send it again"
)
T = TypeVar("T")


class Memory(Protocol):
    """What is remembered over the tries of an Airflow task: JSON by key."""

    async def get(self, key: str) -> Any:
        """Return the value, or None."""

    async def put(self, key: str, value: dict[str, Any]) -> None:
        """Set the value."""

    async def delete(self, key: str) -> None:
        """Forget the value."""


@attrs.frozen(kw_only=True)
class Action:
    """One action, as the author of a DAG gave it: a path, or a job with a verb."""

    path: str | None = None
    job: str | None = None
    verb: str = "start"
    body: Any = None
    method: Literal["POST", "PUT", "DELETE"] = "POST"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path or f"{self.verb} {self.job}"


class Step(Enum):
    """What a try has to do for one action."""

    SEND = "send"
    WATCH = "watch"
    GIVE_UP = "give up"
    KEEP = "keep"


def next_step(remembered: object, max_tries: int) -> Step:
    """Tell what to do of what earlier tries left behind.

    Args:
        remembered: The entry of this action.
        max_tries: Airflow raises it when a person clears the task, and leaves it as it
            is when it tries again by itself. A person may send again what may have
            been carried out; a retry may not.
    """
    if remembered is None:
        return Step.SEND
    match remembered:
        case {"noted": "started", "checkpoint": {}, "reference": str() | None}:
            # Cleared or not: it runs, and to send it again would start it twice.
            return Step.WATCH
        case {"max_tries": int(before)} if max_tries > before:
            return Step.SEND
        case {"noted": "ended", "outcome": {"outcome": "failed"}}:
            # It is certain how that ended; the author of the DAG asked for retries.
            return Step.SEND
        case {"noted": "ended", "outcome": {"outcome": str()}}:
            return Step.KEEP
    # It was being sent; or nobody knows, since this is nothing that we wrote.
    return Step.GIVE_UP


@attrs.define
class Submitting:
    """The actions of one Airflow task, sent or found again.

    Args:
        source: The connection.
        memory: What tries before this one remembered.
        max_tries: See `next_step`.
        follow: Whether tasks are followed to the ends of what they start.
        find_timeout: See `veeam_tasks.SessionManager.run`.

    Attributes:
        outcomes: By position, of those that have ended, or were never sent.
        checkpoints: By position, of those to be watched.
        reference: The logon session that was used last.
    """

    source: Source
    memory: Memory
    max_tries: int
    follow: bool = True
    find_timeout: float = 1200.0
    outcomes: dict[int, Outcome] = attrs.field(init=False, factory=dict)
    checkpoints: dict[int, Mapping[str, Any]] = attrs.field(init=False, factory=dict)
    reference: str | None = attrs.field(init=False, default=None)
    _keys: list[str] = attrs.field(init=False, factory=list)
    _unsent: str | None = attrs.field(init=False, default=None)

    async def run(self, actions: Sequence[Action]) -> None:
        """Send what has to be sent.

        Raises:
            LogonRefusedError: The account was refused; nothing was sent.
            VeeamTasksError, ValueError: There is no way to the server.
        """
        to_send: dict[int, Action] = {}
        self._keys = keys_of(actions)
        # Each question costs Airflow's API some 20 ms: none of a first try is asked.
        is_first = await self.memory.get(_TRIED) is None
        if is_first:
            await self.memory.put(_TRIED, {"noted": "tried"})
        for position, action in enumerate(actions):
            remembered: Any = None
            if not is_first:
                remembered = await self.memory.get(self._keys[position])
            step = next_step(remembered, self.max_tries)
            if step is Step.SEND:
                to_send[position] = action
            elif step is Step.WATCH:
                self.checkpoints[position] = remembered["checkpoint"]
                self.reference = remembered["reference"]
            elif step is Step.KEEP:
                self.outcomes[position] = remembered["outcome"]
            else:
                self.outcomes[position] = not_watched(action, "uncertain", _MAYBE)
        if to_send:
            await with_logon(self.source, self._send_all(to_send))

    def _send_all(
        self, actions: dict[int, Action]
    ) -> "Callable[[vt.SessionManager, Logon], Awaitable[None]]":
        async def send_all(em: vt.SessionManager, logon: Logon) -> None:
            self.reference = logon.reference
            paths = await _paths(em, actions)
            for position, action in actions.items():
                done = position in self.checkpoints or position in self.outcomes
                if not done:
                    await self._send(em, logon, position, paths[position], action)

        return send_all

    async def _send(
        self,
        em: vt.SessionManager,
        logon: Logon,
        position: int,
        path: str,
        action: Action,
    ) -> None:
        if self._unsent is not None:
            self.outcomes[position] = not_watched(action, "failed", self._unsent)
            return
        key = self._keys[position]
        entry = {"noted": "sending", "action": action.name, "max_tries": self.max_tries}
        await self.memory.put(key, entry)
        try:
            task = await em.submit(path, action.body, method=action.method)
        except vt.VeeamTasksError as error:
            if may_have_been_carried_out(error):
                outcome = not_watched(action, "uncertain", str(error))
                self.outcomes[position] = outcome
                return
            await self.memory.delete(key)
            if isinstance(error, vt.LogonError):
                # For `with_logon`, which comes back with a new logon session.
                raise
            text = f"not carried out: {error}"
            if isinstance(error, vt.TransportError):
                self._unsent = text
            self.outcomes[position] = not_watched(action, "failed", text)
            return
        try:
            checkpoint = await checkpoint_of(
                em, task, follow=self.follow, find_timeout=self.find_timeout
            )
        except vt.VeeamTasksError as error:
            # A LogonError must not reach `with_logon`, which would send it again.
            text = f"it was started as {task.task_id} and cannot be watched: {error}"
            self.outcomes[position] = not_watched(action, "uncertain", text)
            return
        self.checkpoints[position] = checkpoint
        started = {
            "noted": "started",
            "task_id": task.task_id,
            "reference": logon.reference,
            "checkpoint": checkpoint,
        }
        await self.memory.put(key, {**entry, **started})


async def remember_ends(
    memory: Memory, actions: Sequence[Action], outcomes: Mapping[int, Outcome]
) -> None:
    """Write how actions ended, so that a retry knows."""
    keys = keys_of(actions)
    for position, outcome in outcomes.items():
        entry = await memory.get(keys[position])
        if entry is not None and outcome["outcome"] != "uncertain":
            ended = {**entry, "noted": "ended", "outcome": outcome}
            await memory.put(keys[position], ended)


async def with_logon(
    source: Source, call: "Callable[[vt.SessionManager, Logon], Awaitable[T]]"
) -> T:
    """Call it with a manager over the shared logon session; again if that is dead.

    It must be safe to be called again after a `LogonError`: what the server refuses
    with 401 it has not carried out.
    """
    shared = await source.shared_logon()
    server = shared.server
    logon = await shared.current()
    await Uses(server.conn_id, shared.store).note(WORKERS, unless_younger=_NOTE_EACH)
    for is_last in (False, True):
        em = await vt.adopt(
            server.url, logon.token, session_id=logon.session_id, **server.options
        )
        async with em:
            try:
                return await call(em, logon)
            except vt.LogonError:
                if is_last:
                    raise
        logon = await shared.current(dead=logon.reference)
    raise AssertionError


def may_have_been_carried_out(error: vt.VeeamTasksError) -> bool:
    """Tell whether a `submit` that failed so may have started something."""
    if isinstance(error, vt.StatusError):
        return error.status >= _SERVER_ERROR
    return isinstance(error, (vt.SubmitUncertainError, vt.MalformedReplyError))


def not_watched(action: Action, word: str, error: str) -> Outcome:
    """Return the outcome of an action that has no task to watch."""
    return {
        "task_id": None,
        "action": action.name,
        "outcome": word,
        "operation": None,
        "message": None,
        "error": error,
        "session": None,
        "failures": [],
    }


def keys_of(actions: Sequence[Action]) -> list[str]:
    """Return under what each is remembered: what it is, not where it stands.

    A list that comes from elsewhere may have another order when Airflow tries again.
    """
    seen: Counter[str] = Counter()
    keys = []
    for action in actions:
        text = json.dumps(attrs.asdict(action), sort_keys=True, default=repr)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] += 1
        keys.append(f"veeam_action_{digest}_{seen[digest]}")
    return keys


async def _paths(
    em: vt.SessionManager, actions: Mapping[int, Action]
) -> dict[int, str]:
    """Return where each action goes; reads the jobs once if one is given by name."""
    by_name = [
        one.job for one in actions.values() if one.job and not is_job_id(one.job)
    ]
    jobs = await read_jobs(em) if by_name else []
    paths = {}
    for position, action in actions.items():
        if action.job is None:
            paths[position] = action.path or ""
        elif is_job_id(action.job):
            paths[position] = f"jobs/{action.job}?action={action.verb}"
        else:
            paths[position] = pick_job(jobs, action.job).action_path(action.verb)
    return paths
