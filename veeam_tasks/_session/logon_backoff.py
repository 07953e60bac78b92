"""Lifetimes of tokens: when they keep dying young, logons come at longer pauses; pure.

Two nodes behind one address, each of which refuses the other's tokens, would else make
logons without end.
"""

import attrs

_YOUNG = 60.0
"""Seconds. A token that lived longer died of age or of a restart."""

_AT_ONCE = 3
"""Renewals that go at once, since a server may be restarted twice."""


@attrs.define
class LogonBackoff:
    """Counts the tokens that died young, one after the other."""

    _born: float = 0.0
    _died_young: int = 0

    def begin(self, now: float) -> None:
        """Note that a token was taken into use."""
        self._born = now

    def end(self, now: float) -> float:
        """Note that it died; return the pause before the next logon, in seconds."""
        self._died_young = self._died_young + 1 if now - self._born < _YOUNG else 0
        if self._died_young <= _AT_ONCE:
            return 0.0
        return min(_YOUNG, 2.0 ** (self._died_young - _AT_ONCE))
