"""Jobs: what they are called, where they stand, how their next run goes.

The names and the order of elements are those of the vendor's pages ``jobs_id``,
``agents_jobs_id`` and ``nas_jobs_id``.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import attrs

from veeam_tasks.simulator._backup_server import BackupServer, reference_attributes
from veeam_tasks.simulator._session_script import (
    SessionScript,
    as_session_script,
    usual_script,
)
from veeam_tasks.simulator._tree import Node, Scalar, TreeLink

JobResult = Literal["Success", "Warning", "Failed"]
JobKind = Literal[
    "Backup",
    "BackupCopy",
    "ImmediateBackupCopy",
    "Replica",
    "AgentBackup",
    "NasBackup",
]
_RESULTS: Final = ("Success", "Warning", "Failed")


@attrs.frozen
class _Family:
    """What the jobs of one path share."""

    path: str
    type: str
    element: str
    platform: str | None
    actions: tuple[str, ...]


_COMMON: Final = ("toggleScheduleEnabled", "start", "stop", "retry")
_JOBS: Final = _Family("jobs", "Job", "Job", "VMware", ("clone", *_COMMON))
_AGENTS: Final = _Family(
    "agents/jobs", "AgentBackupJob", "AgentBackupJob", "AgentForWindows", _COMMON
)
# The element is spelled otherwise than the type.
_NAS: Final = _Family("nas/jobs", "NasJob", "NASJob", None, _COMMON)
_FAMILIES: Final[Mapping[str, _Family]] = {
    "Backup": _JOBS,
    "BackupCopy": _JOBS,
    "ImmediateBackupCopy": _JOBS,
    "Replica": _JOBS,
    "AgentBackup": _AGENTS,
    "NasBackup": _NAS,
}


def check_result(_: object, __: object, value: str) -> None:
    """Refuse what is no result of a job session."""
    if value not in _RESULTS:
        problem = f"a result is one of {', '.join(_RESULTS)}, not {value!r}"
        raise ValueError(problem)


def _check_kind(_: object, __: object, value: str) -> None:
    if value not in _FAMILIES:
        problem = f"a kind of job is one of {', '.join(_FAMILIES)}, not {value!r}"
        raise ValueError(problem)


@attrs.frozen
class Machine:
    """One machine, or share, that a job works on.

    Attributes:
        name: Its name.
        script: What its task session goes through; None follows the job session.
    """

    name: str
    script: SessionScript | None = None


Machines = Iterable[str] | Mapping[str, "str | SessionScript | None"]


def as_machines(given: "Machines | tuple[Machine, ...]") -> tuple[Machine, ...]:
    """Return the machines that names, or names with scripts, stand for."""
    if isinstance(given, Mapping):
        return tuple(
            Machine(name, None if script is None else as_session_script(script))
            for name, script in given.items()
        )
    return tuple(one if isinstance(one, Machine) else Machine(one) for one in given)


def _script(given: "str | SessionScript | None") -> SessionScript | None:
    return None if given is None else as_session_script(given)


@attrs.define(kw_only=True)
class Job:
    """A job on the simulated backup server. A test may change it at any time.

    Attributes:
        job_id: Its GUID.
        name: Its name.
        kind: ``Backup``, ``Replica``, ``AgentBackup``, ``NasBackup``, ...
        seconds: How long its next session works, before `speed`.
        result: How its next session ends.
        session: What its next session goes through, instead of these two, or None.
        machines: The machines that it works on.
        schedule_enabled: Whether its schedule is on.
    """

    job_id: str
    name: str
    kind: JobKind = attrs.field(default="Backup", validator=_check_kind)
    seconds: float = 30.0
    result: JobResult = attrs.field(default="Success", validator=check_result)
    session: SessionScript | None = attrs.field(default=None, converter=_script)
    machines: tuple[Machine, ...] = attrs.field(
        default=("srv01", "srv02"), converter=as_machines
    )
    schedule_enabled: bool = True

    @property
    def session_type(self) -> str:
        """The type of the job sessions that it leaves."""
        return "ReplicaJobSession" if self.kind == "Replica" else "BackupJobSession"

    @property
    def type(self) -> str:
        """Its type: ``Job``, ``AgentBackupJob`` or ``NasJob``."""
        return _FAMILIES[self.kind].type

    @property
    def uid(self) -> str:
        """Its UID, whose middle differs by its kind."""
        return f"urn:veeam:{self.type}:{self.job_id}"

    @property
    def session_uid(self) -> str:
        """The JobUid in its sessions: that of a NAS job is not the job's own UID."""
        kind = "Job" if self.kind == "NasBackup" else self.type
        return f"urn:veeam:{kind}:{self.job_id}"

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"{_FAMILIES[self.kind].path}/{self.job_id}"

    @property
    def session_up_path(self) -> str:
        """Where its sessions link up to; those of a NAS job to ``/jobs``."""
        return f"jobs/{self.job_id}" if self.kind == "NasBackup" else self.path

    def toggle_schedule(self) -> None:
        """Switch its schedule on, or off."""
        self.schedule_enabled = not self.schedule_enabled

    def next_script(self) -> SessionScript:
        """Return what its next session goes through."""
        return self.session or usual_script(self.seconds, self.result)

    def fields(self, server: BackupServer) -> dict[str, Scalar | None]:
        """Return what a query may filter and sort by."""
        return {
            "UID": self.uid,
            "Name": self.name,
            "Description": f"{self.name} of the simulated server",
            "JobType": self.kind,
            "Platform": _FAMILIES[self.kind].platform,
            "ScheduleConfigured": True,
            "ScheduleEnabled": self.schedule_enabled,
            "BackupServerUid": server.uid,
            "BackupServerName": server.name,
        }

    def entity(self, server: BackupServer, base: str) -> Node:
        """Return the entity form."""
        here, family = f"{base}{self.path}", _FAMILIES[self.kind]
        # The actions of NAS jobs are paths of their own.
        sign = "/" if family is _NAS else "?action="
        links = (
            server.up_link(base),
            TreeLink("Alternate", here, "JobReference", self.name),
            self._down(here),
            *(
                TreeLink(word[0].upper() + word[1:], f"{here}{sign}{word}")
                for word in family.actions
            ),
        )
        fields = self.fields(server)
        names = ["JobType", "Platform", "Description"]
        if family is _NAS:
            names = ["Description"]
        names += ["ScheduleConfigured", "ScheduleEnabled"]
        return Node(
            family.element,
            (
                ("Href", f"{here}?format=Entity"),
                ("Type", family.type),
                ("Name", self.name),
                ("UID", self.uid),
            ),
            tuple((name, fields[name]) for name in names),
            links,
        )

    def reference(self, server: BackupServer, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        links = (
            server.up_link(base),
            TreeLink("Alternate", f"{here}?format=Entity", "Job", self.name),
            self._down(here),
        )
        attributes = reference_attributes(here, self.type, self.name, self.uid)
        return Node(element, attributes, (), links)

    def _down(self, here: str) -> TreeLink:
        kind = self.session_type
        path = "replicaSessions" if kind == "ReplicaJobSession" else "backupSessions"
        return TreeLink("Down", f"{here}/{path}", f"{kind}ReferenceList")
