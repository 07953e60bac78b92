"""Pauses before logons, when new tokens keep being refused."""

from veeam_tasks._session.logon_session import LogonPauses


def test_pauses_grow_while_tokens_are_refused_early() -> None:
    """The first three go at once; at most a minute passes."""
    logon_pauses = LogonPauses()
    found: list[float] = []
    now = 100.0
    for _ in range(11):
        logon_pauses.token_issued(now)
        now += 59.0
        found.append(logon_pauses.token_refused(now))
    assert found == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_token_that_was_good_for_long_ends_the_row() -> None:
    """It has expired, or the server was restarted."""
    logon_pauses = LogonPauses()
    for _ in range(6):
        logon_pauses.token_issued(0.0)
        logon_pauses.token_refused(1.0)
    logon_pauses.token_issued(0.0)
    assert logon_pauses.token_refused(60.0) == 0.0
    logon_pauses.token_issued(0.0)
    assert logon_pauses.token_refused(1.0) == 0.0
