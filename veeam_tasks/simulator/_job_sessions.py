"""Job sessions, and the machines in them: State, Result and Progress that move.

A job session belongs to the backup server. What the Enterprise Manager shows of it is a
*look* at one moment: not before it knows the job session, and as of its last
collection. The names and the order of elements are those of the vendor's pages
``backupSessions_id``, ``replicaSessions_id``, ``restoreSessions_id``,
``cloudFailoverSessions_id`` and ``backupTaskSessions_id``.
"""

from typing import Final

import attrs

from veeam_tasks.simulator._backup_server import (
    BackupServer,
    derived_guid,
    reference_attributes,
)
from veeam_tasks.simulator._jobs import Job, JobResult, Machine, check_result
from veeam_tasks.simulator._script import GONE, STATE
from veeam_tasks.simulator._session_script import (
    FULL,
    NO_RESULT,
    STOPPED,
    STOPPING,
    Look,
    SessionScript,
    SessionStep,
    as_session_script,
    look_at,
)
from veeam_tasks.simulator._task_sessions import (
    TASK_SESSION_TYPES,
    RestorePoint,
    TaskSession,
)
from veeam_tasks.simulator._tree import Node, Scalar, TreeLink

BACKUP: Final = "BackupJobSession"
REPLICA: Final = "ReplicaJobSession"
RESTORE: Final = "RestoreSession"
CLOUD_FAILOVER: Final = "CloudFailoverSession"
SESSION_PATHS: Final = {
    BACKUP: "backupSessions",
    REPLICA: "replicaSessions",
    RESTORE: "restoreSessions",
    CLOUD_FAILOVER: "cloud/failoverSessions",
}
# Where links lead to; the replica's is misspelt in the vendor's samples.
_DOWN: Final = {BACKUP: "taskSessions", REPLICA: "repicaTaskSessions"}
_STOPPING_SECONDS: Final = 2.0
# In bodies the times carry a suffix that the query parameters lack.
_WIRE: Final = {"CreationTime": "CreationTimeUTC", "EndTime": "EndTimeUTC"}
Fields = dict[str, Scalar | None]


class JobSession:
    """One run of a job, one restore, or one failover of a cloud plan.

    Attributes:
        session_id: Its GUID.
        type: ``BackupJobSession``, ``ReplicaJobSession``, ``RestoreSession`` or
            ``CloudFailoverSession``.
        job: The job that it belongs to; None for a restore.
        job_type: The word of its JobType.
        about: What it is about; its name adds the time.
        created: When it began, by the server's clock; below 0 before the server was
            started.
        appears: When the Enterprise Manager gets to know it, at the earliest.
        is_retry: Whether the job was retried.
        vm_name: The machine that a restore is about, or None.
    """

    def __init__(
        self,
        *,
        session_id: str,
        type: str,  # noqa: A002 - the vendor's word for it
        server: BackupServer,
        about: str,
        script: SessionScript,
        created: float,
        appears: float | None = None,
        job: Job | None = None,
        job_type: str = "Backup",
        is_retry: bool = False,
        vm_name: str | None = None,
        machines: tuple[Machine, ...] = (),
    ) -> None:
        self.session_id = session_id
        self.type = type
        self.job = job
        self.job_type = job_type
        self.about = about
        if job is not None and self.is_worker:
            # As captures of a copy job have it, two backslashes in JSON's text.
            self.about = f"{about}\\\\{job.name} - {server.name}"
        self.created = created
        self.appears = created + server.session_delay if appears is None else appears
        self.is_retry = is_retry
        self.vm_name = vm_name
        self._server = server
        self._is_hidden = False
        # Who steers it appends a script and keeps the old one: the Enterprise Manager
        # may still show a state from before.
        self._played: list[tuple[float, SessionScript]] = [(created, script)]
        self.task_sessions = tuple(
            TaskSession(session=self, machine=machine, number=number, server=server)
            for number, machine in enumerate(machines)
        )

    @property
    def name(self) -> str:
        """Its name: for people, since the time in it may be local time."""
        if self.type == CLOUD_FAILOVER:
            return self.about
        return f"{self.about}@{self._server.time_in_name(self.created)}"

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"{SESSION_PATHS[self.type]}/{self.session_id}"

    @property
    def uid(self) -> str:
        """Its UID."""
        return f"urn:veeam:{self.type}:{self.session_id}"

    @property
    def state(self) -> str:
        """The word of its State now, on the backup server."""
        return self._now().state

    @property
    def result(self) -> str | None:
        """The word of its Result now: ``None`` in letters while it runs."""
        return self._now().result

    @property
    def progress(self) -> int:
        """Percent, 0 to 100, now."""
        return self._now().progress

    @property
    def is_known(self) -> bool:
        """Whether the Enterprise Manager shows it now."""
        moment = self._server.seen_at()
        if self._is_hidden or moment < self.appears:
            return False
        return not self.look(moment).is_gone

    @property
    def is_worker(self) -> bool:
        """Whether it is the worker of a copy job's run, and not the run itself."""
        return self.job_type.endswith("Worker")

    @property
    def has_restore_point(self) -> bool:
        """Whether it shows that it has left a restore point."""
        return _leaves_restore_point(self.type, self.seen())

    def finish(
        self, result: JobResult = "Success", *, message: str | None = None
    ) -> None:
        """End it now with that result.

        Raises:
            ValueError: That is no result.
        """
        check_result(None, None, result)
        progress = FULL if result != "Failed" else self.progress
        self._play(SessionStep(state=STOPPED, result=result, message=message), progress)

    def stop(self, at: float | None = None) -> None:
        """Stop it as a user does: it is Stopping, then Stopped and Failed."""
        moment = self._server.clock.now() if at is None else at
        look = self.look(moment)
        if look.state in {STOPPED, STOPPING}:
            return
        script = SessionScript(
            (
                SessionStep(
                    state=STOPPING, seconds=_STOPPING_SECONDS, progress=look.progress
                ),
                SessionStep(
                    state=STOPPED,
                    result="Failed",
                    message="Operation was canceled by user",
                    progress=look.progress,
                ),
            )
        )
        self._played.append((moment, script))

    def set_state(
        self,
        state: str,
        *,
        result: str | None = NO_RESULT,
        message: str | None = None,
        progress: int | None = None,
    ) -> None:
        """Let it stand at `state`, any word, with any word as its Result.

        A Result of None leaves it out; the default is the word ``None``.

        Raises:
            ValueError: `state` is not one word.
        """
        if not STATE.fullmatch(state) or state == GONE:
            problem = f"a state is one word of letters and digits, not {state!r}"
            raise ValueError(problem)
        shown = self.progress if progress is None else progress
        self._play(SessionStep(state=state, result=result, message=message), shown)

    def play(self, script: str | SessionScript) -> None:
        """Play another script from its beginning, from now on."""
        now = self._server.clock.now()
        self._played.append((now, as_session_script(script)))

    def vanish(self) -> None:
        """Let the Enterprise Manager not know it, until `come_back`."""
        self._is_hidden = True

    def come_back(self) -> None:
        """Let the Enterprise Manager know it again; it went on meanwhile."""
        self._is_hidden = False

    def look(self, moment: float, *, is_backwards: bool = False) -> Look:
        """Return what it shows at a moment, or what it showed before that."""
        begun, script = self._played[0]
        for start, later in self._played[1:]:
            if start <= moment:
                begun, script = start, later
        clock = self._server.clock
        elapsed = max(moment - begun, 0.0) * clock.speed
        found, since = look_at(script, elapsed, STOPPED, is_backwards=is_backwards)
        if found.state != STOPPED:
            return found
        return attrs.evolve(found, ended=clock.moment(begun, since))

    def seen(self, *, is_backwards: bool = False) -> Look:
        """Return what the Enterprise Manager shows of it now."""
        return self.look(self._server.seen_at(), is_backwards=is_backwards)

    def fields(self) -> Fields:
        """Return what a query may filter and sort by."""
        look, server = self.seen(), self._server
        found: Fields = {
            "UID": self.uid,
            "Name": self.name,
            "JobType": self.job_type,
            "Type": self.job_type,
            "CreationTime": server.time(self.created),
            "EndTime": None if look.ended is None else server.time(look.ended),
            "State": look.state,
            "Result": look.result,
            "FailureMessage": self._failure(look),
            "BackupServerUid": server.uid,
            "BackupServerName": server.name,
            "VmDisplayName": self.vm_name,
            "IsRetry": self.is_retry,
        }
        if self.job is not None and self.is_worker:
            found |= {
                "JobUid": f"urn:veeam:Job:{derived_guid(self.job.job_id, 'worker')}",
                "JobName": self.about,
            }
        elif self.job is not None:
            found |= {"JobUid": self.job.session_uid, "JobName": self.job.name}
        elif self.type in TASK_SESSION_TYPES:
            found |= {
                "JobUid": f"urn:veeam:Job:{derived_guid(self.session_id, 'job')}",
                "JobName": self.about,
            }
        return found

    def entity(self, base: str, *, is_backwards: bool = False) -> Node:
        """Return the entity form."""
        here, look = f"{base}{self.path}", self.seen(is_backwards=is_backwards)
        fields = self.fields() | {
            "State": look.state,
            "Result": look.result,
            "EndTime": None if look.ended is None else self._server.time(look.ended),
        }
        members: list[tuple[str, Scalar | Node | None]] = [
            (_WIRE.get(name, name), fields[name])
            for name in ("JobType", "CreationTime", "EndTime", "State", "Result")
        ]
        members += [
            ("Progress", look.progress),
            ("FailureMessage", self._failure(look)),
        ]
        attributes: list[tuple[str, Scalar | None]] = [
            ("Href", f"{here}?format=Entity"),
            ("Type", self.type),
            ("Name", self.name),
            ("UID", self.uid),
        ]
        if self.type in TASK_SESSION_TYPES:
            members[:0] = [("JobUid", fields["JobUid"]), ("JobName", fields["JobName"])]
            members.append(("IsRetry", self.is_retry))
        elif self.type == RESTORE:
            attributes.append(("VmDisplayName", self.vm_name))
        else:
            machines = tuple(one.cloud_failover_task() for one in self.task_sessions)
            inner = Node("CloudFailoverTasks", items=("CloudFailoverTasks", machines))
            members.append(("CloudFailoverTasks", inner))
        if not self._server.version.prints_nulls:
            # 9.5 Update 4 has no such member.
            members = [one for one in members if one[0] != "FailureMessage"]
        return Node(
            self.type,
            tuple(attributes),
            tuple(members),
            tuple(self._links(base, look)),
            json_first=("IsRetry", "CloudFailoverTasks"),
        )

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        links = [*self._up_links(base)]
        if self.job is not None and self.job.kind == "AgentBackup":
            children = f"{here}/agentManagementSessions"
            links.append(TreeLink("Alternate", children, f"{BACKUP}ReferenceList"))
        links.append(
            TreeLink("Alternate", f"{here}?format=Entity", self.type, self.name)
        )
        links += self._down_links(here)
        attributes = reference_attributes(here, self.type, self.name, self.uid)
        return Node(element, attributes, (), tuple(links))

    def __repr__(self) -> str:
        return (
            f"<JobSession {self.type} {self.name!r} {self.state} {self.result}"
            f" {self.progress}%>"
        )

    def _now(self) -> Look:
        return self.look(self._server.clock.now())

    def _play(self, step: SessionStep, progress: int) -> None:
        steps = (attrs.evolve(step, progress=progress),)
        self._played.append((self._server.clock.now(), SessionScript(steps)))

    def _failure(self, look: Look) -> str | None:
        # Null in every capture, also of job sessions that failed.
        return look.message if self._server.failure_messages else None

    def _links(self, base: str, look: Look) -> list[TreeLink]:
        here = f"{base}{self.path}"
        links = [*self._up_links(base)]
        links.append(TreeLink("Alternate", here, f"{self.type}Reference", self.name))
        links += self._down_links(here)
        if self.type == BACKUP:
            # It stays when there is nothing left to stop.
            links.append(TreeLink("Stop", f"{here}?action=stop"))
        return links + self._restore_points(base, look)

    def _up_links(self, base: str) -> list[TreeLink]:
        links = [self._server.up_link(base)]
        if self.job is not None:
            up = f"{base}{self.job.session_up_path}"
            links.append(TreeLink("Up", up, "JobReference", self.job.name))
        return links

    def _down_links(self, here: str) -> list[TreeLink]:
        if self.type not in _DOWN:
            return []
        kind = f"{TASK_SESSION_TYPES[self.type]}ReferenceList"
        return [TreeLink("Down", f"{here}/{_DOWN[self.type]}", kind)]

    def _restore_points(self, base: str, look: Look) -> list[TreeLink]:
        if not _leaves_restore_point(self.type, look):
            return []
        point = RestorePoint(self, self._server)
        href = f"{base}{point.path}"
        return [TreeLink("Related", href, "RestorePointReference", point.name)]


def _leaves_restore_point(kind: str, look: Look) -> bool:
    return kind == BACKUP and look.ended is not None and look.result != "Failed"
