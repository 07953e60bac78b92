"""How a server takes queries for the sessions of a job."""

from veeam_tasks._engine.run_decisions import QueryHabits
from veeam_tasks._engine.run_records import QueryRequest


def asked(habits: QueryHabits, number: int = 1) -> QueryRequest:
    """Return what is asked for in a round."""
    form = habits.form(number)
    return QueryRequest(path="x", kind="x", by_urn=form.by_urn, has_time=form.has_time)


def test_both_ways_take_turns_until_one_has_shown_something() -> None:
    """Nobody says which of them a server takes."""
    habits = QueryHabits()
    assert [habits.form(number).by_urn for number in (1, 2, 3, 4)] == [
        *(False, True, False, True),
    ]
    habits.note_found(asked(habits, 2))
    assert all(habits.form(number).by_urn for number in (1, 2, 3, 4))


def test_a_filter_by_time_that_is_refused_is_left_out() -> None:
    """It is the first that is given up, for all runs at once."""
    habits = QueryHabits()
    one, other = asked(habits), asked(habits)
    assert one.has_time
    assert habits.note_refused(one)
    assert not asked(habits).has_time
    # That of another run was under way: it proves nothing about the form.
    assert habits.note_refused(other)
    assert [habits.form(number).by_urn for number in (1, 2)] == [False, True]


def test_a_form_that_is_refused_is_not_used_again() -> None:
    """Whatever the number of the round says; once both are refused all begins anew."""
    habits = QueryHabits()
    habits.note_found(asked(habits))
    habits.note_refused(asked(habits))
    assert habits.note_refused(asked(habits))
    assert all(habits.form(number).by_urn for number in (1, 2, 3, 4))
    assert not habits.note_refused(asked(habits))
    assert [habits.form(number).by_urn for number in (1, 2)] == [False, True]
    assert asked(habits).has_time
