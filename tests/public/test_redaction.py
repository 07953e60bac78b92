"""What is hidden from people, and for how long."""

import re

import pytest

from veeam_tasks._redaction import Secrets


def test_a_secret_is_hidden_in_every_form() -> None:
    """Plain, in base64, percent-encoded, escaped for XML, in any letter case."""
    secrets = Secrets()
    secrets.add('p&ss "w/rd')
    said = 'p&ss "w/rd cCZzcyAidy9yZA== p%26ss%20%22w%2Frd P&AMP;SS &quot;w/rd'
    assert secrets.hide(said) == " ".join(["[hidden]"] * 4)


@pytest.mark.parametrize(
    "secret", ["\u03b1\u03a3\u03a3\u0391\u03a3", "Stra\u00dfe", "\u0130stanbul"]
)
def test_a_secret_beyond_ascii_is_hidden(secret: str) -> None:
    """Letters whose lower case depends on what follows them are found too."""
    secrets = Secrets()
    secrets.add(secret)
    assert secrets.is_in(f"x{secret}\u0391")
    assert secrets.hide(f"x{secret}\u0391") == "x[hidden]\u0391"


def test_a_password_outlives_a_hundred_renewals() -> None:
    """What each logon adds again is never forgotten, however many tokens came."""
    secrets = Secrets()
    for number in range(100):
        secrets.add("correct horse")
        secrets.add(f"token-{number:04}", f"session-{number:04}")
        assert secrets.hide("correct horse") == "[hidden]"


def test_what_is_told_once_is_kept() -> None:
    """A proxy's password is hidden for as long as the manager lives."""
    secrets = Secrets()
    secrets.keep("proxy's own")
    for number in range(100):
        secrets.add(f"token-{number:04}")
    assert secrets.hide("proxy's own") == "[hidden]"
    assert secrets.hide("token-0000") == "token-0000"


def test_tokens_that_come_and_go_leave_no_patterns() -> None:
    """Hiding nothing compiles nothing, which the cache of `re` would keep."""
    re.purge()
    secrets = Secrets()
    for number in range(10):
        secrets.add(f"token-{number:04}")
        secrets.hide("nothing to hide")
    cached = [key for key in re._cache if "token" in str(key)]  # type: ignore[attr-defined] # no public way to see it
    assert cached == []
