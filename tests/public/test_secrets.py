"""No text that anyone may come to see holds a secret."""

import logging
import traceback
import warnings
from collections.abc import Iterator

import anyio
import pytest
from support.managers import Wire, direct, door, settings_for
from support.secrets_guard import forms, texts_of

from veeam_tasks import SessionManager, VeeamTasksError, Watch, adopt
from veeam_tasks.simulator import Fault, FaultKind

pytestmark = pytest.mark.virtual_time(debug=False)

PASSWORD = 'pä<s&s "w>ord/+%:secret'
FAULTS = [
    FaultKind.ECHO_SECRETS,
    FaultKind.RESET,
    FaultKind.DROP,
    FaultKind.STALL,
    FaultKind.GARBAGE,
    FaultKind.CUT_BODY,
    FaultKind.HTML,
    FaultKind.REDIRECT,
    FaultKind.UNAUTHORIZED,
    FaultKind.FORBIDDEN,
    FaultKind.OTHER_TASK,
    FaultKind.CHUNKED_NONSENSE,
]


def said(error: BaseException) -> Iterator[str]:
    """Give each text of an error, its traceback included."""
    yield "".join(traceback.format_exception(error))
    yield from texts_of(error)


async def tried(em: SessionManager, watch: Watch, task: str) -> list[str]:
    """Try each kind of call; return what it showed."""
    shown: list[str] = []
    for attempt in (
        em.open,
        em.fetch_all,
        lambda: em.fetch(task),
        lambda: em.read("jobs"),
        lambda: em.submit("jobs/1?action=start"),
        lambda: em.delete(task),
        lambda: em.wait(task, timeout=5),
        lambda: anext(watch),
    ):
        try:
            with anyio.move_on_after(40):
                shown.append(repr(await attempt()))
        except (VeeamTasksError, StopAsyncIteration) as error:
            shown += said(error)
        shown += [repr(em), str(em), repr(watch), repr(watch.report)]
    shown += [repr(em.statistics()), repr(vars(em)), repr(watch.tasks)]
    return shown


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("path", ["", "sessionMngr|logonSessions"])
async def test_no_secret_in_any_text(
    caplog: pytest.LogCaptureFixture, kind: FaultKind, path: str, wire: Wire
) -> None:
    """Not in a log line, warning, `repr`, message, note, traceback or cause."""
    caplog.set_level(logging.DEBUG, logger="veeam_tasks")
    secrets = [PASSWORD]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with wire.server(password=PASSWORD, any_id=True) as server:
            task = server.add_task("Running").task_id
            notices: list[object] = []
            options = wire.options(patience=60, on_notice=notices.append)
            em = direct(server, **options)
            shown = [repr(em), repr(door(server))]
            await em.open()
            secrets += [em.token or "", em.session_id or ""]
            watch = em.watch(task, timeout=300)
            shown.append(repr(await anext(watch)))
            server.faults.add(Fault(kind, path=path or None))
            shown += await tried(em, watch, task)
            server.expire_logon_sessions(keep_tasks=True)
            shown += await tried(em, watch, task)
            secrets += [em.token or "", em.session_id or ""]
            trust = settings_for(server, {})
            other = adopt(server.url, secrets[1], session_id=secrets[2], **trust)
            shown.append(repr(other))
            try:
                adopted = await other
                shown.append(repr(adopted))
                await adopted.aclose()
            except VeeamTasksError as error:
                shown += said(error)
            await em.aclose()
            shown += [repr(em), repr(watch), repr(notices)]
    shown += [str(one.message) for one in warned]
    shown += [record.getMessage() + repr(record.args) for record in caplog.records]
    shown.append(caplog.text)
    secrets += [f"admin:{PASSWORD}"]
    hidden = [form for secret in secrets if secret for form in forms(secret)]
    assert len(hidden) > 20
    assert [(form, text) for form in hidden for text in shown if form in text] == []
