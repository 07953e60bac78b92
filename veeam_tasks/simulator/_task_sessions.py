"""What stands in a job session: its machines, and the restore point that it leaves.

The names and the order of elements are those of the vendor's pages
``backupTaskSessions_id``, ``replicaTaskSessions_id`` and ``restorePoints_id``.
"""

from typing import TYPE_CHECKING, Final

import attrs

from veeam_tasks.simulator._backup_server import (
    BackupServer,
    derived_guid,
    reference_attributes,
)
from veeam_tasks.simulator._jobs import Machine
from veeam_tasks.simulator._session_script import (
    COMPLETED,
    FULL,
    IN_PROGRESS,
    NO_RESULT,
    PENDING,
    STARTING,
    STOPPED,
    Look,
    look_at,
)
from veeam_tasks.simulator._tree import Node, Scalar, TreeLink

if TYPE_CHECKING:
    from veeam_tasks.simulator._job_sessions import JobSession

TASK_SESSION_TYPES: Final = {
    "BackupJobSession": "BackupTaskSession",
    "ReplicaJobSession": "ReplicaTaskSession",
}
TASK_SESSION_PATHS: Final = {
    "BackupTaskSession": "backupTaskSessions",
    "ReplicaTaskSession": "replicaTaskSessions",
}
_MACHINE_BYTES: Final = 42_949_672_960
# In bodies the times carry a suffix that the query parameters lack.
# In the manner of the log of a backup server; the captures have none of these.
_REASONS = {
    "Failed": "Error: There is not enough space on the disk.",
    "Warning": "Warning: VMware Tools are out of date, so the guest was not quiesced.",
}
_WIRE: Final = {"CreationTime": "CreationTimeUTC", "EndTime": "EndTimeUTC"}
Fields = dict[str, Scalar | None]


@attrs.frozen
class RestorePoint:
    """What a backup session leaves, once it has ended well."""

    session: "JobSession"
    server: BackupServer

    @property
    def point_id(self) -> str:
        """Its GUID."""
        return derived_guid(self.session.session_id, "restore point")

    @property
    def name(self) -> str:
        """Its name: the time of the session."""
        return self.server.time_in_name(self.session.created)

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"restorePoints/{self.point_id}"

    def fields(self) -> Fields:
        """Return what a query may filter and sort by."""
        return {
            "UID": f"urn:veeam:RestorePoint:{self.point_id}",
            "Name": self.name,
            "CreationTime": self.server.time(self.session.created),
            "BackupServerUid": self.server.uid,
            "BackupServerName": self.server.name,
        }

    def entity(self, base: str) -> Node:
        """Return the entity form."""
        here = f"{base}{self.path}"
        fields = self.fields()
        attributes: tuple[tuple[str, Scalar | None], ...] = (
            ("Href", f"{here}?format=Entity"),
            ("Type", "RestorePoint"),
            ("Name", self.name),
            ("UID", fields["UID"]),
        )
        links = (
            self.server.up_link(base),
            TreeLink("Alternate", here, "RestorePointReference", self.name),
        )
        members = (("BackupDateUTC", fields["CreationTime"]),)
        return Node("RestorePoint", attributes, members, links)

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here, uid = f"{base}{self.path}", str(self.fields()["UID"])
        links = (
            self.server.up_link(base),
            TreeLink("Alternate", f"{here}?format=Entity", "RestorePoint", self.name),
        )
        attributes = reference_attributes(here, "RestorePoint", self.name, uid)
        return Node(element, attributes, (), links)


@attrs.frozen(kw_only=True, eq=False)
class TaskSession:
    """One machine of a job session.

    Without a script of its own it follows its session: Pending, InProgress, Completed.
    While it is InProgress its Result says Success already, as the public captures show
    it: a trap that clients must not fall into. Of a job session that ends with Warning
        or
    Failed, the first machine is the one that did, and has the Reason.

    Attributes:
        session: The job session.
        machine: The machine.
        number: Which one of the job session it is, from 0.
        server: The backup server.
    """

    session: "JobSession" = attrs.field(repr=False)
    machine: Machine
    number: int
    server: BackupServer = attrs.field(repr=False)

    @property
    def created(self) -> float:
        """When it began: with its session."""
        return self.session.created

    @property
    def type(self) -> str:
        """``BackupTaskSession`` or ``ReplicaTaskSession``."""
        return TASK_SESSION_TYPES.get(self.session.type, "BackupTaskSession")

    @property
    def session_id(self) -> str:
        """Its GUID."""
        return derived_guid(self.session.session_id, str(self.number))

    @property
    def name(self) -> str:
        """Its name."""
        at = self.server.time_in_name(self.session.created)
        return f"{self.machine.name}@{at}"

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"{TASK_SESSION_PATHS[self.type]}/{self.session_id}"

    @property
    def uid(self) -> str:
        """Its UID."""
        return f"urn:veeam:{self.type}:{self.session_id}"

    @property
    def is_known(self) -> bool:
        """Whether the Enterprise Manager shows it now."""
        return self.session.is_known and not self.seen().is_gone

    def seen(self, *, is_backwards: bool = False) -> Look:
        """Return what the Enterprise Manager shows of it now."""
        moment = self.server.seen_at()
        script, created = self.machine.script, self.session.created
        if script is None:
            followed = self.session.look(moment, is_backwards=is_backwards)
            return self._following(followed)
        clock = self.server.clock
        elapsed = max(moment - created, 0.0) * clock.speed
        found, since = look_at(script, elapsed, COMPLETED, is_backwards=is_backwards)
        if found.state != COMPLETED:
            return found
        return attrs.evolve(found, ended=clock.moment(created, since))

    def _following(self, look: Look) -> Look:
        if look.state in {STARTING, PENDING}:
            return Look(state=PENDING, result=NO_RESULT, progress=0)
        if look.state != STOPPED:
            return Look(state=IN_PROGRESS, result="Success", progress=look.progress)
        has_problem = look.result in {"Warning", "Failed"}
        if has_problem and self.number > 0:
            return attrs.evolve(look, state=COMPLETED, result="Success", message=None)
        reason = look.message
        if has_problem and reason is None:
            reason = f"Processing {self.machine.name} {_REASONS[str(look.result)]}"
        return attrs.evolve(look, state=COMPLETED, message=reason)

    def fields(self) -> Fields:
        """Return what a query may filter and sort by."""
        look, of = self.seen(), self.session.fields()
        return {
            "UID": self.uid,
            "Name": self.name,
            "JobSessionUid": self.session.uid,
            "CreationTime": self.server.time(self.session.created),
            "EndTime": None if look.ended is None else self.server.time(look.ended),
            "State": look.state,
            "Result": look.result,
            "Reason": look.message or "",
            "TotalSize": _MACHINE_BYTES * look.progress // FULL,
            "VmDisplayName": self.machine.name,
            **{
                name: of[name]
                for name in ("JobUid", "JobName", "BackupServerUid", "BackupServerName")
            },
        }

    def entity(self, base: str, *, is_backwards: bool = False) -> Node:
        """Return the entity form."""
        here, look = f"{base}{self.path}", self.seen(is_backwards=is_backwards)
        fields = self.fields() | {
            "State": look.state,
            "Result": look.result,
            "EndTime": None if look.ended is None else self.server.time(look.ended),
            "Reason": look.message or "",
        }
        names = ("JobSessionUid", "CreationTime", "EndTime", "State", "Result")
        members: list[tuple[str, Scalar | None]] = [
            (_WIRE.get(name, name), fields[name])
            for name in (*names, "Reason", "TotalSize")
        ]
        if self.server.version.names_machines:
            number = int(self.session_id[:6], 16)
            vm_uid = f"urn:VMware:Vm:{self.server.server_id}.vm-{number}"
            members.append(("VmUid", vm_uid))
        attributes: tuple[tuple[str, Scalar | None], ...] = (
            ("Href", f"{here}?format=Entity"),
            ("Type", self.type),
            ("Name", self.name),
            ("UID", self.uid),
            ("VmDisplayName", self.machine.name),
        )
        links = (
            *self._up_links(base),
            TreeLink("Alternate", here, f"{self.type}Reference", self.name),
        )
        return Node(self.type, attributes, tuple(members), links)

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        links = (
            *self._up_links(base),
            TreeLink("Alternate", f"{here}?format=Entity", self.type, self.name),
        )
        attributes = reference_attributes(here, self.type, self.name, self.uid)
        return Node(element, attributes, (), links)

    def cloud_failover_task(self) -> Node:
        """Return it as a part of a cloud failover session, which names it otherwise."""
        look = self.session.seen() if self.machine.script is None else self.seen()
        ended = None if look.ended is None else self.server.time(look.ended)
        return Node(
            "CloudFailoverTasks",
            (("VmName", self.machine.name),),
            (
                ("CreationTimeUTC", self.server.time(self.session.created)),
                ("EndTimeUTC", ended),
                ("State", look.state),
                ("Result", look.result),
                ("Progress", look.progress),
                ("FailureMessage", look.message if look.result == "Failed" else None),
            ),
        )

    def _up_links(self, base: str) -> tuple[TreeLink, ...]:
        href, kind = f"{base}{self.session.path}", f"{self.session.type}Reference"
        up = TreeLink("Up", href, kind, self.session.name)
        return (self.server.up_link(base), up)
