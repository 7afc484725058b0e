"""Runs and gaps of numbered streams: functions of the set of numbers, whatever their order and their batches."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.sequence import Run, gaps, in_words, merged, run_of

START = datetime(2026, 11, 20, tzinfo=UTC)


def arrived(numbers):
    """One statement a number, at leaves 0, 1, 2..., a second apart."""
    return [Run(number, number, 1, leaf, START + timedelta(seconds=leaf)) for leaf, number in enumerate(numbers)]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.data())
def test_runs_do_not_depend_on_order_or_batches(numbers, data):
    all_at_once = merged(arrived(numbers))
    in_batches, left = [], data.draw(st.permutations(arrived(numbers)))
    while left:
        size = data.draw(st.integers(1, len(left)))
        in_batches, left = merged([*in_batches, *left[:size]]), left[size:]

    assert in_batches == all_at_once
    assert sum(run.events for run in all_at_once) == len(numbers)
    assert {n for run in all_at_once for n in range(run.first, run.last + 1)} == set(numbers)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_gaps_are_what_lies_between_and_came_to_light_with_the_first_leaf_that_showed_them(numbers):
    found = gaps(merged(arrived(numbers)))

    missing = set(range(min(numbers), max(numbers) + 1)) - set(numbers)
    assert {n for gap in found for n in range(gap.first, gap.last + 1)} == missing
    for gap in found:
        shown = next(
            leaf for leaf in range(len(numbers))
            if min(numbers[: leaf + 1]) < gap.first and max(numbers[: leaf + 1]) > gap.last
        )  # fmt: skip
        assert (gap.leaf_index, gap.revealed_at) == (shown, START + timedelta(seconds=shown))


def test_what_lies_below_the_lowest_number_is_not_missing_and_no_numbers_have_no_gaps():
    assert gaps(merged(arrived([500, 501, 502]))) == [] == gaps([])


def test_gaps_are_named():
    assert in_words(gaps(merged(arrived([1, 3, 9, 11])))) == "2, 4 to 8, 10"
    assert in_words(gaps(merged(arrived(range(0, 60, 2)))), most=2) == "1, 3 and 27 more places"


# --- statements that name the one before them
# ---------------------------------------------------------------------------


def linked(*statements):
    """(number, number of the one before; None: the stream begins) at leaves 0, 1, 2..."""
    return [run_of(number, previous=previous, begins=previous is None, leaf_index=leaf, received_at=START + timedelta(seconds=leaf))
            for leaf, (number, previous) in enumerate(statements)]  # fmt: skip


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11)),
    st.randoms(),
)
def test_a_chain_shows_each_statement_that_is_missing_between_two_that_are_there_and_no_other(
    steps, lost, restarts, random
):
    numbers = [sum(steps[: n + 1]) * 10 for n in range(len(steps))]
    begins = {0} | {n for n in restarts if n < len(numbers)}
    chain = [(number, None if n in begins else numbers[n - 1]) for n, number in enumerate(numbers)]
    there = [n for n in range(len(chain)) if n not in lost]
    # Missing, and known to be: the next one that is there names what lies right below it, which is not there, in a
    # chain that we saw before.
    expected = set()
    for n in there:
        if n not in begins and n - 1 not in there and any(m < n for m in there):
            expected.add(numbers[n - 1])
    statements = linked(*[chain[n] for n in there])
    random.shuffle(statements)

    assert {gap.last for gap in gaps(merged(statements))} == expected
    assert all(gap.count == 1 for gap in gaps(merged(statements)))


def test_a_stream_that_begins_anew_misses_nothing_and_what_it_missed_before_stays_missing():
    found = gaps(merged(linked((10, None), (30, 20), (70, None), (80, 70))))

    assert [(gap.first, gap.last) for gap in found] == [(11, 20)]
    assert in_words(found) == "20 (and whatever lies between it and 10)"


def test_one_that_names_itself_or_a_later_one_as_the_one_before_says_only_its_own_number():
    assert [(run.first, run.last, run.is_linked) for run in linked((5, 5), (5, 9))] == [(5, 5, False), (5, 5, False)]
