"""Repositories and summary reports, counted from jobs and job sessions that are there.

The names of the fields are those of the vendor's pages ``repositories_id`` and
``reports_summary_*``, and of recorded replies where a page lacks them; the spelling
``LastestStates`` is theirs.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from veeam_tasks.simulator._backup_server import (
    BackupServer,
    derived_guid,
    reference_attributes,
)
from veeam_tasks.simulator._job_sessions import BACKUP, JobSession
from veeam_tasks.simulator._jobs import Job
from veeam_tasks.simulator._session_script import COMPLETED, STOPPED
from veeam_tasks.simulator._task_sessions import TaskSession
from veeam_tasks.simulator._tree import Node, Scalar, TreeLink

_DAY: Final = 86_400.0
_WEEK: Final = 7
_ALL: Final = 100
_TERABYTE: Final = 1 << 40
_PLACES: Final = (
    ("Default Backup Repository", "WindowsLocal", 4 * _TERABYTE),
    ("Backup Volume 01", "LinuxLocal", 16 * _TERABYTE),
)
# Where the web console shows more; the captures of 12 and 13 have the same ones.
_CONSOLE: Final = "Workspace/ViewReport.aspx?definition={}&ShowParams=1"
_STATUS_REPORT: Final = "7962844d-db6c-4d29-8b6e-4e0f7db0785f"
_PROTECTED_REPORT: Final = "8a56d84f-1790-4f54-ab20-2e0bfdefa16b"
_CAPACITY_REPORT: Final = "62221565-102c-4ec8-851b-d61c03d972d1"
REPORTS: Final = {
    "overview": "OverviewReportFrame",
    "vms_overview": "VmsOverviewReportFrame",
    "job_statistics": "JobStatisticsReportFrame",
    "processed_vms": "ProcessedVmsReportFrame",
    "repository": "RepositoryReportFrame",
}
Members = tuple[tuple[str, Scalar | Node | None], ...]


@attrs.frozen(kw_only=True)
class Repository:
    """A backup repository.

    Attributes:
        name: Its name.
        kind: Its kind, such as ``LinuxLocal``.
        capacity: Its size in bytes.
        used: How many of them backups take.
        server: The backup server that it belongs to.
    """

    name: str
    kind: str
    capacity: int
    used: int
    server: BackupServer

    @property
    def repository_id(self) -> str:
        """Its GUID."""
        return derived_guid(self.server.server_id, self.name)

    @property
    def uid(self) -> str:
        """Its UID."""
        return f"urn:veeam:Repository:{self.repository_id}"

    def fields(self) -> dict[str, Scalar | None]:
        """Return what a query may filter and sort by."""
        return {
            "UID": self.uid,
            "Name": self.name,
            "Capacity": self.capacity,
            "FreeSpace": self.capacity - self.used,
            "Kind": self.kind,
            "BackupServerUid": self.server.uid,
            "BackupServerName": self.server.name,
        }

    def entity(self, base: str) -> Node:
        """Return the entity form."""
        here = f"{base}repositories/{self.repository_id}"
        fields = self.fields()
        attributes: tuple[tuple[str, Scalar | None], ...] = (
            ("Href", f"{here}?format=Entity"),
            ("Type", "Repository"),
            ("Name", self.name),
            ("UID", self.uid),
        )
        members = tuple((name, fields[name]) for name in _OWN)
        up = self.server.up_link(base)
        alternate = TreeLink("Alternate", here, "RepositoryReference", self.name)
        return Node("Repository", attributes, members, (up, alternate, *_down(here)))

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}repositories/{self.repository_id}"
        entity = f"{here}?format=Entity"
        alternate = TreeLink("Alternate", entity, "Repository", self.name)
        attributes = reference_attributes(here, "Repository", self.name, self.uid)
        links = (self.server.up_link(base), alternate, *_down(here))
        return Node(element, attributes, (), links)


_OWN: Final = ("Capacity", "FreeSpace", "Kind")


def _down(here: str) -> tuple[TreeLink, ...]:
    return (
        TreeLink("Down", f"{here}/backups", "BackupReferenceList"),
        TreeLink("Down", f"{here}/replicas", "ReplicaReferenceList"),
    )


class Reports:
    """The reports of one moment.

    Args:
        server: The backup server.
        jobs: The jobs.
        sessions: The job sessions that the Enterprise Manager knows.
    """

    def __init__(
        self,
        server: BackupServer,
        jobs: Sequence[Job],
        sessions: Sequence[JobSession],
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._sessions = [one for one in sessions if one.job is not None]

    def repositories(self) -> list[Repository]:
        """Return the two repositories; all backups go to the second one."""
        used = (0, sum(map(_size, self._machines(BACKUP))))
        return [
            Repository(
                name=name,
                kind=kind,
                capacity=capacity,
                used=min(taken, capacity),
                server=self._server,
            )
            for (name, kind, capacity), taken in zip(_PLACES, used, strict=True)
        ]

    def read(self, name: str, base: str) -> Node | None:
        """Return a report by its name; the list of them for an empty one."""
        if not name:
            links = tuple(
                TreeLink("Down", f"{base}reports/summary/{one}", kind)
                for one, kind in REPORTS.items()
            )
            return Node("SummaryReport", (("Href", None), ("Type", None)), (), links)
        if name == "processed_vms":
            return _frame(name, (), ("Days", self._days()))
        if name == "repository":
            return self._repository_report()
        found = {
            "overview": self._overview,
            "vms_overview": self._machines_overview,
            "job_statistics": self._statistics,
        }.get(name)
        return None if found is None else _frame(name, found())

    def _overview(self) -> Members:
        latest = list(self._latest_results().values())
        return (
            ("BackupServers", 1),
            ("ProxyServers", 1),
            ("RepositoryServers", len(_PLACES)),
            ("RunningJobs", len(self._running())),
            ("ScheduledJobs", len(self._scheduled())),
            ("SuccessfulVmLastestStates", latest.count("Success")),
            ("WarningVmLastestStates", latest.count("Warning")),
            ("FailedVmLastestStates", latest.count("Failed")),
        )

    def _machines_overview(self) -> Members:
        backed_up = {one.machine.name for one in self._machines(BACKUP)}
        replicated = {one.machine.name for one in self._machines("ReplicaJobSession")}
        protected = backed_up | replicated
        latest = self._latest_results()
        successes = sum(latest[name] != "Failed" for name in backed_up)
        return (
            ("ProtectedVms", len(protected)),
            ("BackedUpVms", len(backed_up)),
            ("ReplicatedVms", len(replicated)),
            ("RestorePoints", sum(one.has_restore_point for one in self._sessions)),
            ("FullBackupPointsSize", sum(map(_size, self._machines(BACKUP)))),
            ("IncrementalBackupPointsSize", 0),
            (
                "ReplicaRestorePointsSize",
                sum(map(_size, self._machines("ReplicaJobSession"))),
            ),
            ("SourceVmsSize", sum(self._sizes().values())),
            (
                "SuccessBackupPercents",
                _ALL * successes // len(backed_up) if backed_up else 0,
            ),
            ("ProtectedVmsReportLink", _CONSOLE.format(_PROTECTED_REPORT)),
        )

    def _statistics(self) -> Members:
        ended = [one for one in self._sessions if one.seen().state == STOPPED]
        results = [one.seen().result for one in ended]
        scheduled = self._scheduled()
        replicas = sum(job.kind == "Replica" for job in scheduled)
        longest = {
            is_replica: max(
                (
                    (_seconds(one), one.job.name)
                    for one in ended
                    if one.job is not None and (one.type != BACKUP) is is_replica
                ),
                default=(0, ""),
            )
            for is_replica in (False, True)
        }
        return (
            ("RunningJobs", len(self._running())),
            ("ScheduledJobs", len(scheduled)),
            ("ScheduledBackupJobs", len(scheduled) - replicas),
            ("ScheduledReplicaJobs", replicas),
            ("TotalJobRuns", len(ended)),
            ("SuccessfulJobRuns", results.count("Success")),
            ("WarningsJobRuns", results.count("Warning")),
            ("FailedJobRuns", results.count("Failed")),
            ("MaxJobDuration", max(longest[False][0], longest[True][0])),
            ("MaxBackupJobDuration", longest[False][0]),
            ("MaxReplicaJobDuration", longest[True][0]),
            ("MaxDurationBackupJobName", longest[False][1]),
            ("MaxDurationReplicaJobName", longest[True][1]),
            ("BackupJobStatusReportLink", _CONSOLE.format(_STATUS_REPORT)),
        )

    def _days(self) -> tuple[Node, ...]:
        """Return how many machines were processed on each of the last seven days."""
        clock = self._server.clock
        today = clock.at(clock.now()).replace(hour=0, minute=0, second=0, microsecond=0)
        found = []
        for ago in range(_WEEK):
            day = today.timestamp() - ago * _DAY
            backups, replicas = (
                sum(
                    day <= clock.at(one.session.created).timestamp() < day + _DAY
                    for one in self._machines(kind)
                )
                for kind in (BACKUP, "ReplicaJobSession")
            )
            at = today.fromtimestamp(day, tz=today.tzinfo)
            found.append(
                Node(
                    "Day",
                    (
                        ("BackupedVms", backups),
                        ("ReplicatedVms", replicas),
                        ("Timestamp", f"{at:%Y-%m-%dT%H:%M:%S}+00:00"),
                    ),
                )
            )
        return tuple(found)

    def _repository_report(self) -> Node:
        periods = tuple(
            Node(
                "Period",
                members=(
                    ("Name", one.name),
                    ("Capacity", one.capacity),
                    ("FreeSpace", one.capacity - one.used),
                    ("BackupSize", one.used),
                ),
            )
            for one in self.repositories()
        )
        link = ("CapacityPlanningReportLink", _CONSOLE.format(_CAPACITY_REPORT))
        return Node(
            REPORTS["repository"],
            (link, ("Href", None), ("Type", None)),
            items=("Periods", periods),
        )

    def _running(self) -> list[JobSession]:
        return [one for one in self._sessions if one.seen().state != STOPPED]

    def _scheduled(self) -> list[Job]:
        return [job for job in self._jobs if job.schedule_enabled]

    def _machines(self, kind: str) -> list[TaskSession]:
        """Return the machines that job sessions of a kind have done with."""
        return [
            machine
            for session in self._sessions
            if session.type == kind
            for machine in session.task_sessions
            if machine.is_known and machine.seen().state == COMPLETED
        ]

    def _latest_results(self) -> dict[str, str | None]:
        """Return the last result of each machine, by its name."""
        done = [*self._machines(BACKUP), *self._machines("ReplicaJobSession")]
        done.sort(key=lambda one: one.session.created)
        return {one.machine.name: one.seen().result for one in done}

    def _sizes(self) -> dict[str, int]:
        done = [*self._machines(BACKUP), *self._machines("ReplicaJobSession")]
        return {one.machine.name: _size(one) for one in done}


def _size(machine: TaskSession) -> int:
    return int(machine.fields()["TotalSize"] or 0)


def _seconds(session: JobSession) -> int:
    ended = session.seen().ended
    return 0 if ended is None else int(ended - session.created)


def _frame(
    name: str, members: Members, items: tuple[str, tuple[Node, ...]] | None = None
) -> Node:
    return Node(REPORTS[name], (("Href", None), ("Type", None)), members, None, items)
