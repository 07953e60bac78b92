"""Lifetimes of tokens: pauses before logons when tokens keep dying young."""

from veeam_tasks._session.logon_backoff import LogonBackoff


def test_pauses_grow_while_tokens_die_young() -> None:
    """The first three go at once; at most a minute passes."""
    lifetimes = LogonBackoff()
    pauses: list[float] = []
    now = 100.0
    for _ in range(11):
        lifetimes.begin(now)
        now += 59.0
        pauses.append(lifetimes.end(now))
    assert pauses == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_token_that_lived_long_ends_the_row() -> None:
    """It died of age, or of a restart."""
    lifetimes = LogonBackoff()
    for _ in range(6):
        lifetimes.begin(0.0)
        lifetimes.end(1.0)
    lifetimes.begin(0.0)
    assert lifetimes.end(60.0) == 0.0
    lifetimes.begin(0.0)
    assert lifetimes.end(1.0) == 0.0
