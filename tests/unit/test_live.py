"""`bench live` finds the highest rate that holds, and says of none that it held where nothing was seen."""

import pytest

from auditlog.simulator.live import KEPT, WITHIN, Trial, highest


def tried_at(limit):
    def attempt(rate):
        return Trial(rate, sent_per_s=rate, delays=[0.5 if rate <= limit else 9.0] * 100)

    return attempt


@pytest.mark.parametrize("limit", [40, 499, 500, 777, 2_000, 5_300])
def test_the_highest_rate_is_found_from_below_and_from_above(limit):
    best, tried = highest(tried_at(limit), first=500)
    assert 0.8 * limit <= best.rate <= limit
    assert len(tried) < 16


def test_where_no_rate_holds_there_is_none():
    best, tried = highest(tried_at(0), first=500)
    assert best is None and tried[-1].rate <= 10


@pytest.mark.parametrize(
    "why",
    [
        {"delays": [0.1] * 19},
        {"delays": [0.1] * 90 + [WITHIN + 1] * 10},
        {"sent_per_s": KEPT * 100 - 1},
        {"behind": 1_000},
    ],
)
def test_a_rate_holds_only_where_findings_came_in_time_the_sender_was_not_held_up_and_nothing_was_left(why):
    right = {"sent_per_s": 100.0, "delays": [0.1] * 100, "behind": 0}
    assert Trial(100, **right).holds and not Trial(100, **right | why).holds
