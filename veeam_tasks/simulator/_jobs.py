"""Jobs and the sessions that they leave: State, Result and Progress that move.

The names and the order of elements are those of the vendor's pages ``jobs_id``,
``backupSessions_id``, ``replicaSessions_id`` and ``restoreSessions_id``.
"""

from typing import Final, Literal

import attrs

from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._tree import Node, Scalar, TreeLink

JobResult = Literal["Success", "Warning", "Failed"]
JobKind = Literal["Backup", "Replica"]
SESSION_PATHS: Final = {
    "BackupJobSession": "backupSessions",
    "ReplicaJobSession": "replicaSessions",
    "RestoreSession": "restoreSessions",
}
_RESULTS: Final = ("Success", "Warning", "Failed")
_STARTING: Final = 1.0


def check_result(_: object, __: object, value: str) -> None:
    """Refuse what is no result of a job session."""
    if value not in _RESULTS:
        problem = f"a result is one of {', '.join(_RESULTS)}, not {value!r}"
        raise ValueError(problem)


@attrs.define(kw_only=True)
class Job:
    """A job on the simulated backup server. A test may change it at any time.

    Attributes:
        job_id: Its GUID.
        name: Its name.
        kind: ``Backup`` or ``Replica``.
        seconds: How long its next session works, before `speed`.
        result: How its next session ends.
        schedule_enabled: Whether its schedule is on.
    """

    job_id: str
    name: str
    kind: JobKind = "Backup"
    seconds: float = 30.0
    result: JobResult = attrs.field(default="Success", validator=check_result)
    schedule_enabled: bool = True

    @property
    def session_type(self) -> str:
        """The type of the sessions that it leaves."""
        return "ReplicaJobSession" if self.kind == "Replica" else "BackupJobSession"

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"jobs/{self.job_id}"

    def fields(self) -> dict[str, Scalar | None]:
        """Return what a query may filter and sort by."""
        return {
            "UID": f"urn:veeam:Job:{self.job_id}",
            "Name": self.name,
            "JobType": self.kind,
            "Platform": "VMware",
            "ScheduleConfigured": True,
            "ScheduleEnabled": self.schedule_enabled,
        }

    def entity(self, base: str) -> Node:
        """Return the entity form."""
        here = f"{base}{self.path}"
        down = SESSION_PATHS[self.session_type]
        actions = ("clone", "toggleScheduleEnabled", "start", "stop", "retry")
        links = (
            TreeLink("Alternate", here, "JobReference", self.name),
            TreeLink("Down", f"{here}/{down}", f"{self.session_type}ReferenceList"),
            *(
                TreeLink(word[0].upper() + word[1:], f"{here}?action={word}")
                for word in actions
            ),
        )
        fields = self.fields()
        return Node(
            "Job",
            (
                ("Href", f"{here}?format=Entity"),
                ("Type", "Job"),
                ("Name", self.name),
                ("UID", fields["UID"]),
            ),
            tuple(
                (name, fields[name])
                for name in (
                    "JobType",
                    "Platform",
                    "ScheduleConfigured",
                    "ScheduleEnabled",
                )
            ),
            links,
        )

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        down = SESSION_PATHS[self.session_type]
        links = (
            TreeLink("Alternate", f"{here}?format=Entity", "Job", self.name),
            TreeLink("Down", f"{here}/{down}", f"{self.session_type}ReferenceList"),
        )
        attributes = _reference(here, "Job", self.name, self.job_id)
        return Node(element, attributes, (), links)


class JobSession:
    """One run of a job, or one restore: Starting, Working, Stopped.

    Attributes:
        session_id: Its GUID.
        type: ``BackupJobSession``, ``ReplicaJobSession`` or ``RestoreSession``.
        job: The job that it belongs to; None for a restore.
        name: What it is about; its full name adds the date.
        is_retry: Whether the job was retried.
    """

    def __init__(
        self,
        *,
        session_id: str,
        type: str,  # noqa: A002 - the vendor's word for it
        clock: Clock,
        name: str,
        seconds: float,
        result: JobResult,
        job: Job | None = None,
        is_retry: bool = False,
    ) -> None:
        self.session_id = session_id
        self.type = type
        self.job = job
        self.is_retry = is_retry
        self._clock = clock
        self._created = clock.now()
        self.name = f"{name}@{clock.date(self._created)}"
        self._about = name
        self._seconds = seconds
        self._end = result
        self._ended: float | None = None
        self._stopped_at = 0

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"{SESSION_PATHS[self.type]}/{self.session_id}"

    @property
    def state(self) -> str:
        """``Starting``, ``Working`` or ``Stopped``."""
        if self._ended is not None:
            return "Stopped"
        elapsed = self._clock.elapsed(self._created)
        if elapsed >= self._starting + self._seconds:
            return "Stopped"
        return "Working" if elapsed >= self._starting else "Starting"

    @property
    def result(self) -> str:
        """``None`` while it works, then ``Success``, ``Warning`` or ``Failed``."""
        return self._end if self.state == "Stopped" else "None"

    @property
    def progress(self) -> int:
        """Percent, 0 to 100."""
        if self._ended is not None:
            return self._stopped_at
        if self.state == "Stopped":
            return 100
        worked = self._clock.elapsed(self._created) - self._starting
        return max(0, int(100 * worked / self._seconds)) if self._seconds else 0

    def finish(self, result: JobResult = "Success") -> None:
        """End it now with that result."""
        check_result(None, None, result)
        progress = 100 if result != "Failed" else self.progress
        self._end_now(result, progress)

    def stop(self) -> None:
        """End it as somebody who stops it: Failed, where it stood."""
        if self.state != "Stopped":
            self._end_now("Failed", self.progress)

    def fields(self) -> dict[str, Scalar | None]:
        """Return what a query may filter and sort by."""
        ended = self._end_moment()
        shared: dict[str, Scalar | None] = {
            "UID": f"urn:veeam:{self.type}:{self.session_id}",
            "Name": self.name,
            "CreationTime": self._clock.stamp(self._created),
            "EndTime": None if ended is None else self._clock.stamp(ended),
            "State": self.state,
            "Result": self.result,
            "Progress": self.progress,
        }
        if self.job is None:
            kind = "FileLevelRestore" if "FLR" in self._about else "RestoreVm"
            return shared | {"Type": kind, "JobType": kind, "VmDisplayName": "srv04"}
        return shared | {
            "JobType": self.job.kind,
            "JobUid": f"urn:veeam:Job:{self.job.job_id}",
            "JobName": self.job.name,
            "IsRetry": self.is_retry,
        }

    def entity(self, base: str) -> Node:
        """Return the entity form."""
        here = f"{base}{self.path}"
        fields = self.fields()
        links = [TreeLink("Alternate", here, f"{self.type}Reference", self.name)]
        names = ["JobType", "CreationTime", "EndTime", "State", "Result", "Progress"]
        attributes: list[tuple[str, Scalar | None]] = [
            ("Href", f"{here}?format=Entity"),
            ("Type", self.type),
            ("Name", self.name),
            ("UID", fields["UID"]),
        ]
        if self.job is None:
            attributes.append(("VmDisplayName", fields["VmDisplayName"]))
        else:
            up = f"{base}{self.job.path}"
            links.insert(0, TreeLink("Up", up, "JobReference", self.job.name))
            links.append(TreeLink("Stop", f"{here}?action=stop"))
            names = ["JobUid", "JobName", *names, "IsRetry"]
        members = tuple((_WIRE.get(name, name), fields[name]) for name in names)
        return Node(self.type, tuple(attributes), members, tuple(links))

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        links = [TreeLink("Alternate", f"{here}?format=Entity", self.type, self.name)]
        if self.job is not None:
            up = f"{base}{self.job.path}"
            links.insert(0, TreeLink("Up", up, "JobReference", self.job.name))
        attributes = _reference(here, self.type, self.name, self.session_id)
        return Node(element, attributes, (), tuple(links))

    def __repr__(self) -> str:
        return (
            f"<JobSession {self.type} {self.name!r} {self.state} {self.result}"
            f" {self.progress}%>"
        )

    @property
    def _starting(self) -> float:
        return min(_STARTING, self._seconds / 2)

    def _end_now(self, result: JobResult, progress: int) -> None:
        self._end = result
        self._ended = self._clock.now()
        self._stopped_at = progress

    def _end_moment(self) -> float | None:
        if self._ended is not None:
            return self._ended
        if self.state != "Stopped":
            return None
        return self._clock.moment(self._created, self._starting + self._seconds)


# In bodies the times carry a suffix that the query parameters lack.
_WIRE: Final = {"CreationTime": "CreationTimeUTC", "EndTime": "EndTimeUTC"}


def _reference(
    here: str, kind: str, name: str, guid: str
) -> tuple[tuple[str, Scalar | None], ...]:
    return (
        ("Href", here),
        ("Type", f"{kind}Reference"),
        ("Name", name),
        ("UID", f"urn:veeam:{kind}:{guid}"),
    )
