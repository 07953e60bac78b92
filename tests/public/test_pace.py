"""The pace between two polls of one task."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import Pace
from veeam_tasks._pace import LONGEST_PAUSE, next_pauses

seconds = st.floats(min_value=0.001, max_value=LONGEST_PAUSE)


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    """Draw any pace that the rules allow."""
    first = draw(seconds)
    return Pace(
        first=first,
        growth=draw(st.floats(min_value=1, max_value=10)),
        longest=draw(st.floats(min_value=first, max_value=LONGEST_PAUSE)),
        jitter=draw(st.floats(min_value=0, max_value=0.999)),
    )


def test_defaults() -> None:
    """`Pace`: first=1.0, growth=1.1, longest=30.0, jitter=0.1."""
    pace = Pace()
    assert (pace.first, pace.growth, pace.longest, pace.jitter) == (1.0, 1.1, 30.0, 0.1)


def test_whole_numbers_are_numbers() -> None:
    """Whole numbers are taken, and kept as floats."""
    assert repr(Pace(first=2, growth=1, longest=2, jitter=0)) == (
        "Pace(first=2.0, growth=1.0, longest=2.0, jitter=0.0)"
    )


@given(pace=paces(), chance=st.floats(min_value=0, max_value=0.999))
def test_pauses_stay_in_bounds(pace: Pace, chance: float) -> None:
    """Pauses grow from `first` to `longest`, never past it, cut by the jitter alone."""
    pause = pace.first
    for _ in range(20):
        assert pace.first <= pause <= pace.longest
        cut = pace.jittered(pause, chance)
        assert pause * (1 - pace.jitter) <= cut <= pause
        after = pace.after(pause)
        assert after >= pause
        pause = after


@given(
    several=st.lists(paces(), min_size=1, max_size=4, unique=True),
    span=st.floats(0.1, 500),
)
def test_several_paces_make_no_more_polls_than_each_of_them_alone(
    several: list[Pace], span: float
) -> None:
    """Nor does any of them pause for longer than it would alone."""
    pauses = {pace: pace.first for pace in several}
    alone = {pace: count(pace, span) for pace in several}
    now, polls = 0.0, 0
    while (now := now + min(pauses.values())) <= span and polls < 1000:
        polls += 1
        after = next_pauses(pauses)
        assert all(pause <= after[pace] for pace, pause in pauses.items())
        pauses = after
    assert min(polls, 1000) <= sum(alone.values())
    assert all(polls >= min(number, 1000) - 1 for number in alone.values())


def count(pace: Pace, span: float) -> int:
    """Return how many polls one pace makes alone, up to many."""
    now, pause, polls = 0.0, pace.first, 0
    while (now := now + pause) <= span and polls < 1000:
        polls += 1
        pause = pace.after(pause)
    return polls


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"longest": 601}, "longest=601): 600 s at most"),
        ({"longest": 0.5}, "shorter than first=1"),
        ({"first": 0}, "longer than nothing"),
        ({"first": -1}, "longer than nothing"),
        ({"growth": 0.9}, "do not shrink"),
        ({"jitter": 1}, "0 to below 1"),
        ({"jitter": -0.1}, "0 to below 1"),
        ({"first": math.nan}, "finite"),
        ({"longest": math.inf}, "finite"),
    ],
)
def test_out_of_range(wrong: dict[str, float], said: str) -> None:
    """`longest` over 600 is a ValueError, and so is whatever makes no pause."""
    with pytest.raises(ValueError, match="Pace") as caught:
        Pace(**wrong)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["first", "growth", "longest", "jitter"])
@pytest.mark.parametrize("huge", [10**400, -(10**5000)], ids=["huge", "negative"])
def test_beyond_any_float(name: str, huge: int) -> None:
    """A whole number that no float can hold is a ValueError that does not repeat it."""
    with pytest.raises(ValueError, match="numbers: this number is far") as caught:
        Pace(**{name: huge})
    assert caught.value.__context__ is None


@pytest.mark.parametrize("wrong", ["1", None, True, 1j])
def test_no_number(wrong: object) -> None:
    """A pace is made of numbers."""
    with pytest.raises(TypeError, match="made of numbers"):
        Pace(first=wrong)  # type: ignore[arg-type] # the point of the test
