"""Outcomes: snapshots that cost what changed, and never change themselves."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks._events import KINDS, Outcomes

IDS = st.integers(0, 80).map(lambda number: f"task-{number}")
STEPS = st.lists(
    st.tuples(
        st.sets(IDS, max_size=30),
        st.dictionaries(IDS, st.sampled_from(KINDS), max_size=60),
        st.booleans(),
    ),
    max_size=12,
)


def same(word: str) -> str:
    """Return the kind of a value, which is that value here."""
    return word


@given(steps=STEPS)
def test_each_snapshot_stays_what_a_copy_would_have_been(
    steps: list[tuple[set[str], dict[str, str], bool]],
) -> None:
    """Whatever is removed, changed and added later, and from whichever snapshot."""
    outcomes: Outcomes[str] = Outcomes(same)
    model: dict[str, str] = {}
    kept = [(outcomes, model)]
    for removed, latest, goes_back in steps:
        outcomes, model = kept[len(kept) // 2 if goes_back else -1]
        model = {key: value for key, value in model.items() if key not in removed}
        model.update(latest)
        kept.append((outcomes.updated(removed, latest), model))
    for snapshot, expected in kept:
        assert list(snapshot.items()) == list(expected.items())
        assert snapshot == expected
        assert len(snapshot) == len(expected)
        for kind in KINDS:
            ids = tuple(key for key, value in expected.items() if value == kind)
            assert snapshot.ids(kind) == ids
            assert snapshot.ids(kind) is snapshot.ids(kind)
        for number in range(82):
            key = f"task-{number}"
            assert snapshot.get(key) == expected.get(key)


def test_many_grow_by_and_by() -> None:
    """Added one by one, over several levels, and taken out from the front."""
    outcomes: Outcomes[str] = Outcomes(same)
    for number in range(3000):
        outcomes = outcomes.updated((), {str(number): "lost"})
    assert [int(key) for key in outcomes] == list(range(3000))
    for number in range(2990):
        outcomes = outcomes.updated([str(number)], {})
    assert outcomes.ids("lost") == tuple(str(number) for number in range(2990, 3000))
    assert outcomes["2999"] == "lost"
    with pytest.raises(KeyError):
        outcomes["2989"]


def test_they_read_and_copy_as_a_dict() -> None:
    """For people, and for whoever copies or pickles them."""
    outcomes = Outcomes(same).updated((), {"a": "failed"})
    assert repr(outcomes) == "Outcomes({'a': 'failed'})"
    assert copy.deepcopy(outcomes) == {"a": "failed"}
    assert pickle.loads(pickle.dumps(outcomes)) == outcomes
