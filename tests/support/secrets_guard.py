"""Walks what any test of the suite lets people see for planted secrets.

Every log record of ours at DEBUG, every warning, every error of ours that is raised
anywhere, with all that hangs on it, and what the shell prints. The secrets are what
the simulated servers know: each password, and each token and session ID handed out.

`sys.monitoring` sees all that without a patch. It came with Python 3.12, so nothing is
walked on 3.11; the same tests run on the others.
"""

import base64
import logging
import sys
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType
from urllib.parse import quote
from warnings import WarningMessage
from xml.sax.saxutils import escape

import attrs

from veeam_tasks import VeeamTasksError
from veeam_tasks.simulator import Account, LogonSession

IS_ABLE = sys.version_info >= (3, 12)
SHORTEST = 6
KEPT = 200
CHUNK = 1 << 14
FIELDS = ("em_url", "error", "state", "operation")
"""Of a log record, beside its sentence: those that others have written."""


def forms(secret: str) -> Iterator[str]:
    """Give each form in which a secret might be written."""
    coded = base64.b64encode(secret.encode()).decode()
    for text in (secret, coded):
        yield from (text, quote(text), quote(text, safe=""), escape(text))
        yield escape(text, {'"': "&quot;"})
        yield from (repr(text)[1:-1], ascii(text)[1:-1])


def texts_of(error: BaseException) -> Iterator[str]:
    """Give each text of an error, its causes, contexts, notes and members."""
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield from getattr(error, "__notes__", ())
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from texts_of(other)
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from texts_of(member)


@attrs.define(eq=False)
class Guard(logging.Handler):
    """Learns secrets, and collects texts until they are looked through.

    It holds text only, so that no error or log record lives longer because of it.

    Attributes:
        leaks: The kinds of text that held a secret, with an excerpt.
        walked: How many texts were looked through so far.
    """

    tool: int
    leaks: list[str] = attrs.field(factory=list)
    walked: int = 0
    # Each with its forms, in lower case.
    _secrets: deque[tuple[str, set[str]]] = attrs.field(
        factory=lambda: deque(maxlen=KEPT)
    )
    _texts: dict[str, str] = attrs.field(factory=dict)
    _length: int = 0
    _last: Callable[[], BaseException | None] = attrs.field(default=lambda: None)
    _sites: set[tuple[CodeType, int]] = attrs.field(factory=set)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def learn(self, *secrets: str) -> None:
        """Look for these from now on. Too short ones stand in any text."""
        for secret in secrets:
            known = any(secret == one for one, _ in self._secrets)
            if len(secret) >= SHORTEST and not known:
                folded = {form.casefold() for form in forms(secret)}
                self._secrets.append((secret, folded))

    def see(self, kind: str, *texts: str) -> None:
        """Take texts that people may come to see."""
        if not self._secrets:
            return
        for text in texts:
            if text not in self._texts:
                self._texts[text] = kind
                self._length += len(text)
        if self._length > CHUNK:
            self.look()

    def look(self) -> None:
        """Look through the texts that came since the last time."""
        whole = "\n".join(self._texts).casefold()
        for _, folded in self._secrets:
            for form in folded:
                if form in whole:
                    self.leaks += [
                        f"{kind}: {text[:500]}"
                        for text, kind in self._texts.items()
                        if form in text.casefold()
                    ]
        self.walked += len(self._texts)
        self._texts.clear()
        self._length = 0

    def forget(self) -> list[str]:
        """Forget the secrets and return what leaked, before the next test begins."""
        self.look()
        self._secrets.clear()
        leaks, self.leaks = self.leaks, []
        return leaks

    def printed(self, command: str, *texts: str) -> None:
        """Take what a command of the shell printed, unless secrets are its job."""
        if command not in {"logon", "simulate"}:
            self.see(f"output of {command}", *texts)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        self.see("log", record.getMessage(), repr(record.args))
        self.see("log", *(str(getattr(record, name, "")) for name in FIELDS))
        if record.exc_info is not None and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self.see("log", *texts_of(error), *traceback.format_exception(error))

    def _raised(self, code: CodeType, offset: int, error: BaseException) -> None:
        if not isinstance(error, VeeamTasksError | BaseExceptionGroup):
            return
        # It is told of again in each frame that the error passes.
        if self._last() is error:
            return
        with suppress(TypeError):  # a plain group
            self._last = weakref.ref(error)
        if self._secrets:
            self.see("error", *texts_of(error))
            if (code, offset) not in self._sites:
                self._sites.add((code, offset))
                self.see("traceback", *traceback.format_exception(error))

    def _started(self, code: CodeType, _: int) -> None:
        known = sys._getframe(1).f_locals
        if code is Account.__init__.__code__:
            # Nobody shows which account it is for, so the Basic value of the default.
            self.learn(known["password"], f"admin:{known['password']}")
        else:
            self.see("warning", str(known["message"]))

    def _opened(self, _: CodeType, __: int, session: LogonSession) -> None:
        self.learn(session.token, session.session_id)

    @contextmanager
    def watching(self) -> Iterator["Guard"]:
        """Learn and collect, in all threads, for as long as this lasts."""
        if not IS_ABLE:
            yield self
            return
        monitoring = sys.monitoring
        events = monitoring.events
        monitoring.use_tool_id(self.tool, "secrets guard")
        logger = logging.getLogger("veeam_tasks")
        level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        opens = LogonSession.open.__func__.__code__  # type: ignore[attr-defined] # a class method
        starts = (WarningMessage.__init__.__code__, Account.__init__.__code__)
        monitoring.register_callback(self.tool, events.RAISE, self._raised)
        monitoring.register_callback(self.tool, events.PY_RETURN, self._opened)
        monitoring.register_callback(self.tool, events.PY_START, self._started)
        monitoring.set_events(self.tool, events.RAISE)
        monitoring.set_local_events(self.tool, opens, events.PY_RETURN)
        for code in starts:
            monitoring.set_local_events(self.tool, code, events.PY_START)
        try:
            yield self
        finally:
            monitoring.set_events(self.tool, events.NO_EVENTS)
            for code in (opens, *starts):
                monitoring.set_local_events(self.tool, code, events.NO_EVENTS)
            monitoring.free_tool_id(self.tool)
            logger.removeHandler(self)
            logger.setLevel(level)


GUARD = Guard(tool=4)
"""The one of the whole suite."""
