"""The bodies that the benchmark server answers with, in the vendor's published form.

See https://helpcenter.veeam.com/docs/vbr/em_rest/tasks.html and ``tasks_id.html``.
A reply about one task is about 400 bytes long.
"""

NAMESPACE = "http://www.veeam.com/ent/v1.0"
TOKEN = "YmVuY2htYXJrLXRva2VuLTAwMDAwMDAwMDAwMDAwMDA="
SESSION_ID = "5ae45cb5-43d0-4a3f-8b9d-6c2f6f3d1f10"
CHANGING = "QuickBackupCHANGING"
"""The operation of every hundredth task of a collection; a changing server replaces
it in each reply."""

LOGON = (
    f'<LogonSession xmlns="{NAMESPACE}" Type="LogonSession"'
    f' Href="https://em:9398/api/logonSessions/{SESSION_ID}"><Links>'
    f'<Link Rel="Delete" Href="https://em:9398/api/logonSessions/{SESSION_ID}" />'
    f"</Links><UserName>bench</UserName><SessionId>{SESSION_ID}</SessionId>"
    "</LogonSession>"
)
ERROR = (
    f'<Error xmlns="{NAMESPACE}" StatusCode="%d" Message="%s">'
    "<FirstChanceExceptionMessage>%s</FirstChanceExceptionMessage></Error>"
)


def one_task(task_id: str, operation: str) -> str:
    """Return the reply about one running task."""
    href = f"https://em:9398/api/tasks/{task_id}"
    return (
        f'<Task xmlns="{NAMESPACE}" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' Href="{href}" Type="Task"><Links><Link Href="{href}" Rel="Delete" />'
        f"</Links><TaskId>{task_id}</TaskId><State>Running</State>"
        f"<Operation>{operation}</Operation></Task>"
    )


def collection(tasks: int) -> str:
    """Return the reply about all tasks, ``task-1`` to ``task-<tasks>``, running."""
    return "".join(
        [
            f'<?xml version="1.0" encoding="utf-8"?>\n<Tasks xmlns="{NAMESPACE}">\n',
            *(_entry(number) for number in range(1, tasks + 1)),
            "</Tasks>\n",
        ]
    )


def _entry(number: int) -> str:
    href = f"https://em:9398/api/tasks/task-{number}"
    operation = "StartJob" if number % 100 else CHANGING
    return (
        f'  <Task Type="Task" Href="{href}">\n    <Links><Link Rel="Delete"'
        f' Type="Task" Href="{href}" /></Links>\n'
        f"    <TaskId>task-{number}</TaskId><State>Running</State>"
        f"<Operation>{operation}</Operation>\n  </Task>\n"
    )
