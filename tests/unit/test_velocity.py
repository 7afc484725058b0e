"""Whether an hour is more than this spender ever spends, from sums by the hour alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.core.money.velocity import KNOWN, episodes


def rises(values, *, budget=0.02, floor=0.0):
    bins = {n: value for n, value in enumerate(values) if value}
    return list(episodes(bins, begins=0, ends=len(values), budget=budget, floor=floor))


def noisy(hours, seed=1):
    chance = random.Random(seed)
    return [chance.randrange(700, 1300) for _ in range(hours)]


@pytest.mark.parametrize("times", [4, 5, 20])
def test_a_rise_is_found_in_its_first_hours_and_is_one_episode(times):
    [rise] = rises(noisy(200) + [1000 * times] * 6 + noisy(60, 2))

    assert 200 <= rise.first <= 202 and rise.last == 205


@pytest.mark.parametrize(
    "values",
    [
        noisy(700),
        [2000 if n % 24 == 2 else 10 for n in range(700)],
        [5000 if n % 168 == 9 else 100 for n in range(1000)][24:],
        [0] * 50 + [9] * KNOWN,
        [random.Random(n).choice((0, 0, 0, 0, 0, 100, 220)) for n in range(900)],
    ],
    ids=["noise", "nightly batch", "weekly report", "newcomer", "now and then"],
)
def test_what_is_usual_is_silent(values):
    # A weekly report has to be seen three times before it is known for one.
    assert [rise for rise in rises(values) if rise.first > 3 * 168] == []


def test_a_larger_budget_finds_more():
    values = [*noisy(300), 1600, *noisy(50, 3)]

    assert rises(values) == [] and len(rises(values, budget=5)) == 1


def test_small_money_is_not_looked_at():
    values = noisy(200) + [9000] * 3

    assert rises(values) and rises(values, floor=10_000) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(0, 300))
def test_later_hours_change_nothing_of_what_was_found_before(values, cut):
    """So that a rise is told the same whenever it is looked at, but for how far it went."""
    head, whole = rises(values[:cut], budget=50), rises(values, budget=50)

    assert [rise.first for rise in head] == [rise.first for rise in whole if rise.first < cut]
