"""Start jobs of a Veeam Backup Enterprise Manager and learn whether they worked.

Start with `connect`; the names below are loaded when they are first used.
"""

import sys
from importlib import import_module

# Type checkers take it for true; `typing` itself would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from veeam_tasks._client.connect import adopt, connect, inspect_certificate, log_out
    from veeam_tasks._client.manager import SessionManager
    from veeam_tasks._engine.merge import MergedWatch, merge
    from veeam_tasks._engine.watch import Watch
    from veeam_tasks._errors import (
        ArgumentError,
        CertificateError,
        ClosedError,
        ForbiddenError,
        LogonError,
        MalformedReplyError,
        RequestTimeoutError,
        ServerBusyError,
        SessionFailedError,
        SessionLostError,
        StatusError,
        SubmitUncertainError,
        TaskFailedError,
        TaskLostError,
        TaskNotFoundError,
        TransportError,
        VeeamTasksError,
        WatchTimeoutError,
    )
    from veeam_tasks._events import Report, TaskEvent
    from veeam_tasks._model import (
        JobSession,
        Link,
        Run,
        RunStage,
        SessionResult,
        SessionState,
        Task,
        TaskResult,
        TaskSession,
        TaskState,
    )
    from veeam_tasks._pace import Pace
    from veeam_tasks._telemetry.notices import Notice, NoticeKind, Statistics
    from veeam_tasks._transport.trust import Certificate

__version__ = "0.2.0"

__all__ = [
    "ArgumentError",
    "Certificate",
    "CertificateError",
    "ClosedError",
    "ForbiddenError",
    "JobSession",
    "Link",
    "LogonError",
    "MalformedReplyError",
    "MergedWatch",
    "Notice",
    "NoticeKind",
    "Pace",
    "Report",
    "RequestTimeoutError",
    "Run",
    "RunStage",
    "ServerBusyError",
    "SessionFailedError",
    "SessionLostError",
    "SessionManager",
    "SessionResult",
    "SessionState",
    "Statistics",
    "StatusError",
    "SubmitUncertainError",
    "Task",
    "TaskEvent",
    "TaskFailedError",
    "TaskLostError",
    "TaskNotFoundError",
    "TaskResult",
    "TaskSession",
    "TaskState",
    "TransportError",
    "VeeamTasksError",
    "Watch",
    "WatchTimeoutError",
    "adopt",
    "connect",
    "inspect_certificate",
    "log_out",
    "merge",
]

_MODULES = {
    "_client.connect": ("adopt", "connect", "inspect_certificate", "log_out"),
    "_errors": (
        "ArgumentError",
        "CertificateError",
        "ClosedError",
        "ForbiddenError",
        "LogonError",
        "MalformedReplyError",
        "RequestTimeoutError",
        "ServerBusyError",
        "SessionFailedError",
        "SessionLostError",
        "StatusError",
        "SubmitUncertainError",
        "TaskFailedError",
        "TaskLostError",
        "TaskNotFoundError",
        "TransportError",
        "VeeamTasksError",
        "WatchTimeoutError",
    ),
    "_events": ("Report", "TaskEvent"),
    "_client.manager": ("SessionManager",),
    "_model": (
        "JobSession",
        "Link",
        "Run",
        "RunStage",
        "SessionResult",
        "SessionState",
        "Task",
        "TaskResult",
        "TaskSession",
        "TaskState",
    ),
    "_telemetry.notices": ("Notice", "NoticeKind", "Statistics"),
    "_pace": ("Pace",),
    "_transport.trust": ("Certificate",),
    "_engine.merge": ("MergedWatch", "merge"),
    "_engine.watch": ("Watch",),
}
# The values that the attributes of an error are annotated with, which stand above it.
# `typing.get_type_hints` looks for them here, and calls no `__getattr__`.
_ATTRIBUTES_OF = {
    "SessionFailedError": ("JobSession", "Task", "TaskSession"),
    "SessionLostError": ("JobSession", "Task"),
    "TaskFailedError": ("Task",),
    "TaskLostError": ("Task",),
    "WatchTimeoutError": ("Report",),
}
# Not loaded by their names: each loads what not every program has, or wants.
_TO_BE_IMPORTED = frozenset(
    ("airflow", "cli", "jobs", "metrics", "pytest_plugin", "report", "simulator")
)
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        text = f"module {__name__!r} has no attribute {name!r}"
        if name in _TO_BE_IMPORTED:
            text += f"; it is a module of its own: import {__name__}.{name}"
        raise AttributeError(text)
    if name in {"adopt", "connect"} and _would_hold_a_loop():
        # Not kept: the next one who asks may have the function itself.
        return getattr(import_module(f"{__name__}._client.late_connect"), name)
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    for other in _ATTRIBUTES_OF.get(name, ()):
        globals()[other] = __getattr__(other)
    return value


def _would_hold_a_loop() -> bool:
    """Tell whether the rest is still to be loaded, inside of a running loop."""
    if f"{__name__}._client.connect" in sys.modules:
        return False
    # Whoever runs a loop has imported it.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - never raises


def __dir__() -> list[str]:
    return sorted(__all__)
