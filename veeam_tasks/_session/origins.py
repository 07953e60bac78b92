"""Whose a task is that a caller names: of this server, or certainly of another one.

An ID means something in one logon session of one server alone: another server has
another task under it, whose end would be told as if it were that of the one meant.
"""

import attrs
from yarl import URL

from veeam_tasks._errors import ArgumentError, TaskLostError
from veeam_tasks._model import Origin, Task, give, origin_of
from veeam_tasks._protocol.urls import (
    Hide,
    Place,
    is_same_place,
    place_of,
    shown_url,
    task_id_of,
)

_MOST_NAMES = 32
_MOST_LOGONS = 256
_MOST_OPEN = 10_000


@attrs.define(eq=False)
class Origins:
    """Tells the tasks of one server from those that are certainly not its own.

    1. A `Task` remembers whom it was given. It is refused if that was another URL, and
       a logon session that this manager never had. The same URL is enough, since for a
       renewal and for a new process there are the rules of a renewal; so is the same
       logon session, since one server may be reached by several URLs.
    2. An Href says how the server calls itself, which need not be how it is reached. It
       is refused only if this server's own replies have said how it calls itself, and
       that is neither this nor the URL. Over an adopted logon session nothing was said
       yet: then the first reply about the task tells.
    3. An ID says nothing, and is taken.

    Args:
        base: Where the server is reached.
        hide: Hides the secrets of a text that an error shows.
    """

    base: URL = attrs.field(factory=URL)
    hide: Hide = str
    _given: Origin | None = None
    _names: dict[Place, None] = attrs.field(factory=dict)
    _logons: dict[str, None] = attrs.field(factory=dict)
    # By task ID, the Hrefs that were taken while no name of the server was known.
    _open: dict[str, str] = attrs.field(factory=dict)
    _last_root: str = ""

    def logged_on(self, reference: str | None) -> None:
        """Take note of a logon session; what is given from now on is of that one."""
        self._given = Origin(str(self.base), reference)
        if reference is not None:
            self._logons[reference] = None
        if len(self._logons) > _MOST_LOGONS:
            del self._logons[next(iter(self._logons))]

    def learn(self, href: str) -> None:
        """Take note of how the server calls itself."""
        place = place_of(href)
        if place is not None and len(self._names) < _MOST_NAMES:
            self._names[place] = None

    def give(self, task: Task) -> None:
        """Let a task of a reply remember whom it is given."""
        if self._given is not None:
            give(task, self._given)
        root = "" if task.href is None else task.href.rpartition("/")[0]
        if root != self._last_root and task.href is not None:
            # Nearly all tasks have the same.
            self._last_root = root
            self.learn(task.href)

    def is_open(self, task_id: str) -> bool:
        """Tell whether an Href was taken that may yet prove to be another server's."""
        return task_id in self._open

    def id_of(self, value: str | Task) -> str:
        """Return the ID of a task that is not certainly another server's.

        Args:
            value: As the caller named it: an ID, an Href, a `Task`.

        Raises:
            ValueError: It is another server's, or names no task.
            TypeError: It is neither a string nor a `Task`.
        """
        task_id = task_id_of(value, self.hide)
        self._open.pop(task_id, None)
        if value is task_id:
            return task_id
        origin = origin_of(value) if isinstance(value, Task) else None
        href = value.href if isinstance(value, Task) else value
        said = ""
        if origin is not None:
            if origin.url != str(self.base) and origin.logon not in self._logons:
                said = f"was given by {self.hide(origin.url)}"
        elif href is not None and self._is_elsewhere(href):
            if self._names:
                said = f"is named as {shown_url(href, self.hide)}"
            elif len(self._open) < _MOST_OPEN:
                self._open[task_id] = href
        if said:
            raise ArgumentError(
                parameter="task",
                problem=f"{said}, and {self._whose()}",
                subject=f"{task_id}:",
                advice="ask the manager that it came from; if the one here is meant,"
                f" pass {task_id!r} alone",
            )
        return task_id

    def foreign(self, task_id: str) -> TaskLostError | None:
        """Return why a task that was found is not the one named, if that came out."""
        href = self._open.pop(task_id, None) if self._names else None
        if href is None or not self._is_elsewhere(href):
            return None
        said = f"it was named as {shown_url(href, self.hide)}"
        reason = f"{said}, and {self._whose()}"
        return TaskLostError(task_id=task_id, last_seen=None, reason=reason)

    def _is_elsewhere(self, href: str) -> bool:
        place = place_of(href)
        if place is None:
            return False
        ours = [*self._names, place_of(str(self.base))]
        return not any(one is not None and is_same_place(one, place) for one in ours)

    def _whose(self) -> str:
        names = {_shown(place) for place in self._names}
        names -= {_shown(place_of(str(self.base)))}
        also = f" (it calls itself {', '.join(sorted(names))})" if names else ""
        who = self.hide(f"this manager is of {self.base}{also}")
        return f"{who}: the task of that ID here is another one"


def _shown(place: Place | None) -> str:
    if place is None:
        return ""
    return f"{place[0]}:{place[1]}" if place[1] else place[0]
