"""Backoff of logons: pauses when tokens keep dying young."""

from veeam_tasks._session.logon_session import LogonBackoff


def test_pauses_grow_while_tokens_die_young() -> None:
    """The first three go at once; at most a minute passes."""
    backoff = LogonBackoff()
    pauses: list[float] = []
    now = 100.0
    for _ in range(11):
        backoff.token_issued(now)
        now += 59.0
        pauses.append(backoff.token_refused(now))
    assert pauses == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_token_that_lived_long_ends_the_row() -> None:
    """It died of age, or of a restart."""
    backoff = LogonBackoff()
    for _ in range(6):
        backoff.token_issued(0.0)
        backoff.token_refused(1.0)
    backoff.token_issued(0.0)
    assert backoff.token_refused(60.0) == 0.0
    backoff.token_issued(0.0)
    assert backoff.token_refused(1.0) == 0.0
