"""A simulated task: where it stands now, and how it looks on the wire."""

from collections.abc import Callable
from typing import Final

import attrs

from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._script import (
    FINISHED,
    GONE,
    OPERATION_FINISHED,
    RUNNING,
    STATE,
    Script,
    Step,
    as_script,
)
from veeam_tasks.simulator._tree import MediaKind, Node, TreeLink, render
from veeam_tasks.simulator._version import ServerVersion

_NEVER: Final = float("inf")


@attrs.frozen(kw_only=True)
class Related:
    """What a task leads to: a job or restore session, a new object, a download.

    Attributes:
        type: The type of the link, such as ``RestoreSession``; None has none.
        path: The path below ``/api/``, with its query.
        name: The name of the link, or None.
        rel: ``Related``, ``Download`` or ``Down``.
        is_early: Whether the link is there before the task is Finished.
        delay: Seconds that it comes later than the others.
    """

    type: str | None
    path: str
    name: str | None = None
    rel: str = "Related"
    is_early: bool = False
    delay: float = 0.0


Effect = Callable[[float], tuple[Related, ...]]
"""What happens once a task has succeeded at a moment, and what it then leads to."""


@attrs.frozen(kw_only=True)
class TaskContext:
    """What all tasks of a server share about their context.

    Attributes:
        clock: The server's clock.
        version: The server's version.
        base: The server's own idea of its URL, which stands in links: an ``/api/`` URL.
        related_delay: Seconds between Finished and its Related links.
    """

    clock: Clock
    version: ServerVersion
    base: Callable[[], str]
    related_delay: float = 0.0


class SimulatedTask:
    """A handle of one task, to look at it and to steer it from a test.

    Attributes:
        task_id: Its ID, such as ``task-1``.
        operation: Its operation, such as ``StartJob``.
        related: What its Related links lead to once it succeeded.
        is_deleted: Whether a client deleted it.
    """

    def __init__(
        self,
        *,
        task_id: str,
        operation: str,
        script: Script,
        context: TaskContext,
        message: str | None = None,
        related: tuple[Related, ...] = (),
        effect: Effect | None = None,
    ) -> None:
        self.task_id = task_id
        self.operation = operation
        self.related = related
        self.is_deleted = False
        self._message = message
        self._effect = effect
        self._context = context
        self._script = script
        self._started = context.clock.now()
        self._fixed: Step | None = None
        self._is_hidden = False
        self._step = script.steps[0]
        self._until = -1.0
        self._shown_links: tuple[Related, ...] = ()
        self._bodies: dict[tuple[MediaKind, bool], bytes] = {}

    @property
    def script(self) -> Script:
        """The script that it plays unless a test took over."""
        return self._script

    @property
    def state(self) -> str:
        """The state that the server would say now."""
        return self._shown(self.step()).state

    @property
    def succeeded(self) -> bool | None:
        """What its Result says now; None without a Result."""
        return self._shown(self.step()).success

    @property
    def is_gone(self) -> bool:
        """Whether the server does not know it now."""
        return self.is_deleted or self._is_hidden or self.step().is_gone

    def finish(self, *, success: bool = True, message: str | None = None) -> None:
        """Let it be Finished from now on.

        Without `message`, a success says what its operation says, a failure nothing.
        """
        self._fix(Step(FINISHED, success=success, message=message))

    def set_state(
        self, state: str, *, success: bool | None = None, message: str | None = None
    ) -> None:
        """Let it stand at `state`, any word, with a Result if `success` is given.

        Raises:
            ValueError: `state` is not one word, or a message comes without a Result.
        """
        if not STATE.fullmatch(state) or state == GONE:
            problem = f"a state is one word of letters and digits, not {state!r}"
            raise ValueError(problem)
        if message is not None and success is None:
            problem = "a message stands in a Result: give success as well"
            raise ValueError(problem)
        self._fix(Step(state, success=success, message=message))

    def play(self, script: str | Script) -> None:
        """FaultyReply another script from its beginning, from now on."""
        self._script = as_script(script)
        self._started = self._context.clock.now()
        self._fixed = None
        self._until = -1.0

    def vanish(self) -> None:
        """Let the server not know it, until `come_back`."""
        self._is_hidden = True

    def come_back(self) -> None:
        """Let the server know it again; its script went on meanwhile."""
        self._is_hidden = False

    def step(self) -> Step:
        """Return the step that it is in; cheap between two changes."""
        now = self._context.clock.now()
        if now >= self._until:
            self._advance(now)
        return self._step

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to happen by it: it did, or it failed for good."""
        if self._effect is None:
            return True
        step = self.step()
        return step.state == FINISHED and not step.success and step.seconds is None

    def succeeded_at(self) -> float | None:
        """Return when the backup server had done it; None as long as it has not.

        That is when it became OperationFinished, if it did, on the way to a success.
        """
        if self._fixed is not None:
            is_done = self._fixed.state in {FINISHED, OPERATION_FINISHED}
            return self._started if is_done and self._fixed.success else None
        index = self._script.succeeds_at()
        if index is None:
            return None
        moment = self._context.clock.moment(self._started, self._script.begins(index))
        return moment if moment <= self._context.clock.now() else None

    def carry_out(self, moment: float) -> None:
        """Let happen what follows from its success, once."""
        effect, self._effect = self._effect, None
        if effect is not None:
            self.related = (*self.related, *effect(moment))
            self._until = -1.0

    def as_before(self) -> "SimulatedTask":
        """Return a copy that stands where this one stood before its last change."""
        self.step()
        steps = self._script.steps
        index, _ = self._script.at(self._context.clock.elapsed(self._started))
        earlier = steps[max(index - 1, 0)] if self._fixed is None else steps[0]
        copy = SimulatedTask(
            task_id=self.task_id,
            operation=self.operation,
            script=self._script,
            context=self._context,
        )
        copy._fix(earlier)
        return copy

    def body(self, kind: MediaKind, *, is_root: bool) -> bytes:
        """Return its bytes, as a document or as a member of a collection."""
        self.step()
        wanted = kind, is_root
        found = self._bodies.get(wanted)
        if found is None:
            found = render(self.node(), kind, self._context.version, is_root=is_root)
            self._bodies[wanted] = found
        return found

    def node(self) -> Node:
        """Return it as a tree, as it stands now."""
        shown = self._shown(self.step())
        href = f"{self._context.base()}tasks/{self.task_id}"
        links = [TreeLink("Delete", href)]
        links += [
            TreeLink(
                link.rel, f"{self._context.base()}{link.path}", link.type, link.name
            )
            for link in self._shown_links
        ]
        return Node(
            "Task",
            (("Href", href), ("Type", "Task")),
            (
                ("TaskId", self.task_id),
                ("State", shown.state),
                ("Operation", self.operation),
                ("Result", self._result(shown)),
            ),
            tuple(links),
        )

    def __repr__(self) -> str:
        state = "gone" if self.is_gone else self.state
        return f"<SimulatedTask {self.task_id} {state} {self.operation}>"

    def _fix(self, step: Step) -> None:
        self._fixed = step
        self._started = self._context.clock.now()
        self._until = -1.0

    def _advance(self, now: float) -> None:
        clock = self._context.clock
        if self._fixed is not None:
            step, since, until = self._fixed, self._started, _NEVER
        else:
            index, ends = self._script.at(clock.elapsed(self._started))
            step = self._script.steps[index]
            since = clock.moment(self._started, self._script.begins(index))
            until = clock.moment(self._started, ends)
        shown = tuple(
            link for link in self.related if self._shows(link, step, now - since)
        )
        for link in self.related:
            if link not in shown and step.state == FINISHED and step.success:
                until = min(until, since + self._context.related_delay + link.delay)
        if step is not self._step or shown != self._shown_links:
            self._bodies.clear()
        self._step, self._until, self._shown_links = step, until, shown

    def _shows(self, link: Related, step: Step, lasted: float) -> bool:
        if link.is_early:
            return True
        is_done = step.state == FINISHED and bool(step.success)
        return is_done and lasted >= self._context.related_delay + link.delay

    def _shown(self, step: Step) -> Step:
        if (
            step.state == OPERATION_FINISHED
            and not self._context.version.knows_operation_finished
        ):
            return Step(RUNNING)
        return step

    def _result(self, step: Step) -> Node | None:
        if step.success is None:
            return None
        message = step.message
        if message is None and step.success:
            # The placeholder of both vendor samples that show this state.
            is_placeholder = step.state == OPERATION_FINISHED
            message = OPERATION_FINISHED if is_placeholder else self._message or "Ok"
        return Node("Result", (("Success", step.success),), (("Message", message),))
