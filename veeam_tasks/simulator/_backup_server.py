"""The backup server behind the Enterprise Manager, and how late the latter learns.

The Enterprise Manager shows what its own database holds, which *collections* of data
feed; between two of them it may know nothing new. By default the simulated one sees the
backup server as it is, since clients in production see job sessions move within
seconds.
"""

import uuid
from typing import Final

import attrs

from veeam_tasks.simulator._clock import Clock
from veeam_tasks.simulator._tree import Node, Scalar, TreeLink
from veeam_tasks.simulator._version import ServerVersion

_NAME: Final = "vbr01.example.local"
_PORT: Final = 9392
_CERTIFICATE_PORT: Final = 9405
_THUMBPRINT: Final = "5F" * 20
_BUILDS: Final = {"9.5u4": "9.5.4.2615", "12": "12.3.2.4465", "13": "13.0.1.1071"}
_NAMESPACE: Final = uuid.UUID("6f1c2d14-3f0a-4b5e-9a55-0d5d1b0e8c11")


def derived_guid(*parts: str) -> str:
    """Return a GUID that is always the same for the same parts.

    What is made from something else, such as the machines of a job session, takes none
    of the server's random numbers, so that tests see the same IDs whoever looks first.
    """
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


@attrs.frozen(kw_only=True)
class Collection:
    """One collection of data: a system session of the type ``CollectJob``.

    Attributes:
        session_id: Its GUID.
        begun: When it began, by the server's clock.
        seconds: How long it takes.
    """

    session_id: str
    begun: float
    seconds: float

    @property
    def ended(self) -> float:
        """When the Enterprise Manager knows what it brought."""
        return self.begun + self.seconds


@attrs.define(kw_only=True)
class BackupServer:
    """The one backup server, as far as the Enterprise Manager shows it.

    Attributes:
        clock: The clock of the Enterprise Manager.
        version: The version of both.
        server_id: Its GUID.
        name: Its name.
        skew: Seconds that its clock is ahead of the Enterprise Manager's.
        session_delay: Seconds until a job session is known at all.
        collect_interval: Seconds between two collections; None: what it does is seen at
            once.
        collect_seconds: How long a collection takes.
        failure_messages: Whether ``FailureMessage`` of a job session says why it
            failed.
    """

    clock: Clock
    version: ServerVersion
    server_id: str
    name: str = _NAME
    skew: float = 0.0
    session_delay: float = 0.0
    collect_interval: float | None = None
    collect_seconds: float = 18.0
    failure_messages: bool = False
    _collections: list[Collection] = attrs.field(factory=list, init=False)
    _periods: int = attrs.field(default=0, init=False)

    @property
    def uid(self) -> str:
        """Its UID."""
        return f"urn:veeam:BackupServer:{self.server_id}"

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"backupServers/{self.server_id}"

    def time(self, moment: float) -> str:
        """Return a moment as the server prints it, by its own clock."""
        return self.version.time(self.clock.at(moment + self.skew))

    def time_in_name(self, moment: float) -> str:
        """Return a moment as it stands in a name."""
        return self.version.time_in_name(self.clock.at(moment + self.skew))

    def collect(self, begun: float) -> Collection:
        """Begin a collection, as somebody asked for it."""
        self._catch_up()
        return self._add(begun, f"asked {len(self._collections)}")

    def collections(self) -> list[Collection]:
        """Return all collections that have begun, oldest first."""
        self._catch_up()
        now = self.clock.now()
        begun = (one for one in self._collections if one.begun <= now)
        return sorted(begun, key=lambda one: one.begun)

    def seen_at(self) -> float:
        """Return the moment whose states the Enterprise Manager shows now.

        The present, unless there are collections: then the end of the last one, since
        a state is frozen until the next one has ended. The start counts as one.
        """
        now = self.clock.now()
        if self.collect_interval is None:
            return now
        self._catch_up()
        ends = (one.ended for one in self._collections)
        return max((end for end in ends if end <= now), default=0.0)

    def _catch_up(self) -> None:
        """Add the regular collections that have begun since anyone looked."""
        if self.collect_interval is None:
            return
        due = int(self.clock.now() / self.collect_interval)
        for number in range(self._periods + 1, due + 1):
            self._add(number * self.collect_interval, f"period {number}")
        self._periods = max(self._periods, due)

    def _add(self, begun: float, name: str) -> Collection:
        added = Collection(
            session_id=derived_guid(self.server_id, name),
            begun=begun,
            seconds=self.collect_seconds,
        )
        self._collections.append(added)
        return added

    def up_link(self, base: str) -> TreeLink:
        """Return the link with which everything of this server begins."""
        return TreeLink("Up", f"{base}{self.path}", "BackupServerReference", self.name)

    def fields(self) -> dict[str, Scalar | None]:
        """Return what a query may filter and sort by."""
        return {
            "UID": self.uid,
            "Name": self.name,
            "Description": "Backup server",
            "Port": _PORT,
            "Version": _BUILDS.get(self.version.name, ""),
        }

    def entity(self, base: str) -> Node:
        """Return the entity form."""
        here = f"{base}{self.path}"
        fields = self.fields()
        links = (
            TreeLink("Alternate", here, "BackupServerReference", self.name),
            TreeLink("Down", f"{here}/jobs", "JobReferenceList"),
            TreeLink("Down", f"{here}/repositories", "RepositoryReferenceList"),
            TreeLink("VeeamZip", f"{here}?action=veeamzip"),
            TreeLink("QuickBackup", f"{here}?action=quickbackup"),
            TreeLink("Start", f"{here}?action=collect"),
        )
        names = ("Description", "Port", "Version")
        members = tuple((name, fields[name]) for name in names)
        if self.version.names_machines:
            members += (
                ("WcfPort", _CERTIFICATE_PORT),
                ("VbrCertificateThumbprint", _THUMBPRINT),
            )
        attributes: tuple[tuple[str, Scalar | None], ...] = (
            ("Href", f"{here}?format=Entity"),
            ("Type", "BackupServer"),
            ("Name", self.name),
            ("UID", self.uid),
        )
        return Node("BackupServer", attributes, members, links)

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        links = (
            TreeLink("Alternate", f"{here}?format=Entity", "BackupServer", self.name),
            TreeLink("Down", f"{here}/jobs", "JobReferenceList"),
            TreeLink("Down", f"{here}/repositories", "RepositoryReferenceList"),
        )
        attributes = reference_attributes(here, "BackupServer", self.name, self.uid)
        return Node(element, attributes, (), links)


def reference_attributes(
    here: str, kind: str, name: str, uid: str
) -> tuple[tuple[str, Scalar | None], ...]:
    """Return the attributes of a reference to an entity of that type."""
    return (
        ("Href", here),
        ("Type", f"{kind}Reference"),
        ("Name", name),
        ("UID", uid),
    )


@attrs.frozen(kw_only=True)
class SystemSession:
    """A collection as ``/systemSessions`` shows it.

    Its State is the word of its outcome, and its Result a structure; both as the pages
    ``systemsessions_id`` and ``systemsessions_id_events`` have it.
    """

    server: BackupServer
    collection: Collection

    @property
    def session_id(self) -> str:
        """Its GUID."""
        return self.collection.session_id

    @property
    def is_ended(self) -> bool:
        """Whether the collection has ended."""
        return self.collection.ended <= self.server.clock.now()

    @property
    def name(self) -> str:
        """Its name; a blank stands before the ``@`` in the vendor's samples."""
        return f"Collect Job @{self.server.time_in_name(self.collection.begun)}"

    @property
    def path(self) -> str:
        """Its path below ``/api/``."""
        return f"systemSessions/{self.session_id}"

    @property
    def uid(self) -> str:
        """Its UID."""
        return f"urn:veeam:SystemSession:{self.session_id}"

    def fields(self) -> dict[str, Scalar | None]:
        """Return what stands in it."""
        ended = self.server.time(self.collection.ended) if self.is_ended else None
        return {
            "UID": self.uid,
            "Name": self.name,
            "SessionType": "CollectJob",
            "CreationTime": self.server.time(self.collection.begun),
            "EndTime": ended,
            "State": "CompletedSuccessfully" if self.is_ended else "InProgress",
        }

    def entity(self, base: str) -> Node:
        """Return the entity form."""
        here = f"{base}{self.path}"
        fields = self.fields()
        result: Node | None = None
        if self.is_ended:
            members: tuple[tuple[str, Scalar | None], ...] = (
                # The sample's word; the page's table lists Success, Warning, Failed.
                ("Result", "CompletedSuccessfully"),
                ("Message", ""),
                ("IsCanceled", False),
            )
            result = Node("Result", members=members)
        attributes: tuple[tuple[str, Scalar | None], ...] = (
            ("Href", f"{here}?format=Entity"),
            ("Type", "SystemSession"),
            ("Name", self.name),
            ("UID", self.uid),
        )
        links = (
            TreeLink("Alternate", here, "SystemSessionReference", self.name),
            TreeLink("Down", f"{here}/events", "SystemSessionEvents"),
        )
        return Node(
            "SystemSession",
            attributes,
            (
                ("SessionType", fields["SessionType"]),
                ("CreationTimeUTC", fields["CreationTime"]),
                ("EndTimeUTC", fields["EndTime"]),
                ("State", fields["State"]),
                ("Result", result),
            ),
            links,
        )

    def reference(self, base: str, element: str) -> Node:
        """Return the reference form; `element` is ``Ref`` or ``EntityRef``."""
        here = f"{base}{self.path}"
        links = (
            TreeLink("Alternate", f"{here}?format=Entity", "SystemSession", self.name),
            TreeLink("Down", f"{here}/events", "SystemSessionEvents"),
        )
        attributes = reference_attributes(here, "SystemSession", self.name, self.uid)
        return Node(element, attributes, (), links)

    def events(self, base: str) -> Node:
        """Return what it logged; the times of events have no ``Z``."""
        here = f"{base}{self.path}"
        said = [
            (self.collection.begun, "Starting data collection job..."),
            (self.collection.begun, "Job successfully started."),
        ]
        if self.is_ended:
            said.append((self.collection.ended, "Data collection job finished."))
        events = tuple(
            Node(
                "Events",
                members=(
                    ("CreationTimeUTC", self.server.time(moment).removesuffix("Z")),
                    ("Message", text),
                    ("Order", number),
                ),
            )
            for number, (moment, text) in enumerate(said, 1)
        )
        return Node(
            "SystemSessionEvents",
            (("Href", f"{here}/events"), ("Type", "SystemSessionEvents")),
            (),
            (TreeLink("Up", f"{here}?format=Entity", "SystemSession", self.name),),
            ("Events", events),
        )
