"""A simulated Enterprise Manager: a real server on a real socket, for tests and trials.

    async with SimulatedServer() as server:
        server.add_task("Running 2s, OperationFinished 1s, Finished failed 'Disk full'")
        ...  # any client: server.url, server.username, server.password

It was written after the public documents alone and imports nothing of the client in
this package: an error in reading the wire that both shared would cancel itself.
`SimulatedServer` runs in the caller's event loop, `ThreadedServer` in a thread. `Fault`
and `FaultKind` list what can go wrong, `Script.parse` and `SessionScript.parse` what a
task and a job session can go through, `Mix` how many tasks are drawn.
"""

from veeam_tasks.simulator._accounts import Account, LogonSession, Role
from veeam_tasks.simulator._backup_server import BackupServer
from veeam_tasks.simulator._faults import Fault, FaultKind, FaultKindName, Faults
from veeam_tasks.simulator._job_sessions import JobSession
from veeam_tasks.simulator._jobs import Job, Machine
from veeam_tasks.simulator._records import (
    Connections,
    LogonRecord,
    Records,
    RequestRecord,
)
from veeam_tasks.simulator._script import Mix, Script, Step
from veeam_tasks.simulator._servers import (
    ServerOptions,
    SimulatedServer,
    ThreadedServer,
)
from veeam_tasks.simulator._session_script import SessionScript, SessionStep
from veeam_tasks.simulator._task_sessions import TaskSession
from veeam_tasks.simulator._tasks import Related, SimulatedTask
from veeam_tasks.simulator._version import VersionName

__all__ = [
    "Account",
    "BackupServer",
    "Connections",
    "Fault",
    "FaultKind",
    "FaultKindName",
    "Faults",
    "Job",
    "JobSession",
    "LogonRecord",
    "LogonSession",
    "Machine",
    "Mix",
    "Records",
    "Related",
    "RequestRecord",
    "Role",
    "Script",
    "ServerOptions",
    "SessionScript",
    "SessionStep",
    "SimulatedServer",
    "SimulatedTask",
    "Step",
    "TaskSession",
    "ThreadedServer",
    "VersionName",
]
