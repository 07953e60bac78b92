"""Which job sessions are asked for with one query, and whether that pays.

One by one a job session costs a request a pause. One query has up to twenty of them, by
their UIDs (``get_query_backupjobsession`` reference page), and costs about as much as
two or three single requests; both are measured, and the cheaper way is taken. What
other work on either machine adds is chance, so the least of the last few counts: a mean
is the worse the busier they are, and would have twenty times the requests sent then.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal

import attrs

from veeam_tasks._engine.due_queue import GRID
from veeam_tasks._engine.records import DueState
from veeam_tasks._engine.run_records import RunRecord
from veeam_tasks._model import JobSession
from veeam_tasks._protocol.session_paths import AT_ONCE, PATHS

_EARLY = 0.25
"""The share of its pause by which a job session may be asked for early, to be one of a
query: so those that began one by one come together, and stay so."""

_LOOKED_AT = 256
_TRY_AGAIN = 60.0
_FEWEST = 2
_FEW, _LAST = 4, 8
"""So many queries decide that they do not pay, and so many of the last are kept."""
_FAILURES = 2


@attrs.define(eq=False, kw_only=True)
class SessionBatches:
    """Gathers job sessions that are due, and remembers what both ways cost.

    Args:
        mode: "auto" takes the cheaper way; "never" and "always" do not compare.

    Attributes:
        single: Seconds that one job session takes of the server, asked for singly; None
            until that was measured.
        together: The same for one query, however many it asks for.
    """

    mode: Literal["auto", "never", "always"]
    single: float | None = None
    together: float | None = None
    _last_single: deque[float] = attrs.field(factory=lambda: deque(maxlen=_LAST))
    _last_together: deque[float] = attrs.field(factory=lambda: deque(maxlen=_LAST))
    _is_single_old: bool = False
    _singles_wanted: int = 0
    _off_until: float = 0.0
    _failures: int = 0
    # In the order in which they were asked for last: those due next come first.
    _known: defaultdict[str, dict[RunRecord, None]] = attrs.field(
        factory=lambda: defaultdict(dict)
    )

    def note_asked(self, record: RunRecord) -> None:
        """Take note that a job session was asked for now, in whichever way."""
        session = record.session
        if session is None or session.kind not in PATHS:
            return
        known = self._known[session.kind]
        known.pop(record, None)
        # One for one, since nobody may gather: what has ended would be kept for ever.
        first = next(iter(known), None)
        if first is not None and first.due == DueState.DROPPED:
            del known[first]
        known[record] = None

    def note_single(self, seconds: float) -> None:
        """Take note of what one job session took, asked for singly."""
        self._last_single.append(seconds)
        self._singles_wanted = max(0, self._singles_wanted - 1)
        self.single = min(self._last_single)

    def note_together(self, seconds: float) -> None:
        """Take note of what one query took."""
        self._last_together.append(seconds)
        self._is_single_old = True
        self.together = min(self._last_together)
        self._failures = 0

    def note_failed(self, now: float, *, is_refused: bool) -> None:
        """Take note of a query that told nothing; two in a row may be its fault."""
        self._failures += 1
        if is_refused:
            self._off_until = math.inf
        elif self._failures >= _FAILURES:
            self._off_until = now + _TRY_AGAIN

    def shown(self, members: list[RunRecord]) -> dict[int, JobSession]:
        """Return by the keys of their bytes the job sessions that pages have shown."""
        return dict([one.shown for one in members if one.shown is not None])

    def note_shown(
        self,
        members: list[RunRecord],
        sessions: Sequence[JobSession],
        keys: Sequence[int],
    ) -> None:
        """Take note of what stands for each job session's bytes; nothing for none."""
        if keys:
            found = {
                session.session_id: (key, session)
                for key, session in zip(keys, sessions, strict=True)
            }
            for one in members:
                one.shown = found.get(one.session_id or "")

    def gather(self, record: RunRecord, now: float) -> list[RunRecord]:
        """Return what is asked for with a job session that is due, itself first.

        The others are taken from where they stand: they are being polled from now on.
        """
        session = record.session
        if self.mode == "never" or session is None or record.is_single:
            return [record]
        if now < self._off_until:
            return [record]
        found = [record]
        known = self._known[session.kind]
        for other in list(islice(known, _LOOKED_AT)):
            if len(found) == AT_ONCE:
                break
            if other.due == DueState.DROPPED:
                del known[other]
            elif other is not record and self._may_come(other, now):
                found.append(other)
        if not self._pays(len(found), now):
            return [record]
        for other in found:
            other.due = DueState.POLLING
            # Now, so that those under way do not hide the others from the next one.
            known.pop(other, None)
            known[other] = None
        return found

    def _may_come(self, record: RunRecord, now: float) -> bool:
        """Tell whether a job session is due, or soon enough."""
        if record.is_single or not record.is_wanted or record.not_before > now:
            return False
        if record.due == DueState.READY:
            return True
        return 0 <= record.due * GRID <= now + _EARLY * record.pause

    def _pays(self, count: int, now: float) -> bool:
        if count < _FEWEST:
            return False
        if self.mode == "always" or self.single is None or self.together is None:
            return True
        if self._singles_wanted:
            return False
        if self.together <= count * self.single or len(self._last_together) < _FEW:
            return True
        if self.together > AT_ONCE * self.single:
            # Not even for as many as there may be.
            if self._is_single_old:
                # The server may be busier now: single requests would take longer, too.
                self._last_single.clear()
                self._singles_wanted, self._is_single_old = _LAST, False
                return False
            # Both were measured under some load, so it is tried again later.
            self._last_together.clear()
            self.together = None
            self._off_until = now + _TRY_AGAIN
        return False


def hash_of_page(body: bytes) -> int:
    """Return what stands for a page in each record that it has told of.

    Not the hash of the body alone: a single reply of the same bytes is another one.
    """
    return hash(("page", body))


def is_unchanged(members: Iterable[RunRecord], body: bytes) -> bool:
    """Tell whether a page says of each job session what was acted on the last time.

    Each record remembers its page. A table of pages by what was asked for together
    knew thousands of groups, since these mix, and the garbage collector had to go
    through them; and it took a job session that went back to where it was in one of
    them for one that had not changed.
    """
    page_hash = hash_of_page(body)
    return all(one.unchanged_hash == page_hash for one in members)
