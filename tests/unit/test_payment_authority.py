"""Payment authorities: ceilings and ends, of one principal, widened by those who may alone."""

from datetime import timedelta

import pytest

from auditlog.core.money.payment_authority import Ceiling, beyond_authority, refused_raise
from tests.unit.test_limits import DAY, MINUTE, NOW, charge_at


def ceiling(amount, *, at=NOW - DAY, ended=False, leaf=0, interval="once", **more):
    return Ceiling("auth", f"c{leaf}", leaf, at, None if ended else amount, "USD", ended, interval, **more)


def under(n, amount, *, at=NOW, **more):
    return charge_at(n, amount, at=at, authority="auth", **more)


def test_a_ceiling_is_for_the_authoritys_life_unless_it_states_an_interval():
    lines = [under(1, 600), under(2, 600, at=NOW + 40 * DAY)]

    assert [o.spent.event_id for o in beyond_authority([ceiling(1000)], lines)] == ["s2"]
    assert beyond_authority([ceiling(1000, interval="month")], lines) == []


def test_what_is_taken_after_its_end_is_found_until_it_is_granted_again():
    said = [ceiling(1000), ceiling(0, ended=True, at=NOW, leaf=1), ceiling(1000, at=NOW + 2 * DAY, leaf=2)]

    found = beyond_authority(
        said, [under(1, 100, at=NOW - MINUTE), under(2, 100, at=NOW + DAY), under(3, 100, at=NOW + 3 * DAY)]
    )
    assert [(o.spent.event_id, o.ended is not None) for o in found] == [("s2", True)]


def test_what_comes_back_gives_room_under_an_authority_in_the_interval_it_was_taken_in_alone():
    back = ((NOW + 15 * DAY, 900),)
    lines = [under(1, 0, returns=back), under(2, 900, at=NOW + 16 * DAY), under(3, 900, at=NOW + 17 * DAY)]
    euros = charge_at(4, 0, authority="auth", currency="EUR", returns=((NOW + DAY, 900),))

    assert [o.spent.event_id for o in beyond_authority([ceiling(1000, interval="month")], lines)] == ["s3"]
    assert [o.spent.event_id for o in beyond_authority([ceiling(1000)], lines)] == ["s3"]
    found = beyond_authority([ceiling(1000)], [euros, *lines[1:]])
    assert [(o.spent.event_id, bool(o.doubt)) for o in found] == [("s4", True), ("s3", False)]  # no rate is on record


def held(n, amount, *, at=NOW, until=NOW + 7 * DAY, **more):
    return charge_at(
        n, 0, at=at, authority="auth", authorized_minor=amount, held_from=at, held_until=until, book="held", **more
    )


def found(said, lines, *, judged="counts", principal=""):
    over = beyond_authority(said, lines, principal=principal, judged=lambda fact, before: judged)
    return [(o.spent.event_id, "ended" if o.ended else "above", bool(o.doubt)) for o in over]


def test_holds_that_are_open_together_count_together():
    lines = [held(1, 3000), held(2, 3000, at=NOW + MINUTE)]
    assert found([ceiling(4000)], lines) == [("s2", "above", False)]
    closed = [held(1, 3000, until=NOW + timedelta(seconds=30)), lines[1]]
    assert found([ceiling(4000)], closed) == []


def test_one_name_of_two_principals_is_two_authorities():
    said = [ceiling(4000, principal="mara"), ceiling(90_000, principal="otto", leaf=1, at=NOW - MINUTE)]
    ends = [ceiling(4000, principal="mara"), ceiling(0, ended=True, principal="otto", leaf=1, at=NOW - MINUTE)]
    mine, his = under(1, 6000, principal="mara"), under(2, 6000, principal="otto")

    assert found(said, [mine, his], principal="mara") == [("s1", "above", False)]
    assert found(said, [mine, his], principal="otto") == []
    assert found(ends, [under(1, 100, principal="mara")], principal="mara") == []


@pytest.mark.parametrize(
    ("judged", "expected"),
    [("counts", []), ("refused", [("s1", "above", False)]), ("unknown", [("s1", "above", True)])],
)
def test_a_wider_ceiling_counts_where_somebody_made_it_who_may(judged, expected):
    said = [ceiling(4000), ceiling(90_000, at=NOW - MINUTE, leaf=1, set_by="agent")]
    assert found(said, [under(1, 6000)], judged=judged) == expected
    one = refused_raise(said, "c1", principal="", judged=lambda fact, before: judged)
    assert (one is not None) == (judged == "refused")


def test_a_wider_ceiling_that_is_dated_back_before_an_act_on_record_is_in_doubt():
    said = [ceiling(4000), ceiling(90_000, at=NOW - MINUTE, leaf=50)]
    assert found(said, [under(1, 6000)]) == [("s1", "above", True)]


@pytest.mark.parametrize(
    ("judged", "expected"),
    [("counts", []), ("refused", [("s9", "ended", False)]), ("unknown", [("s9", "ended", True)])],
)
def test_an_authority_that_ended_is_opened_again_by_those_who_may(judged, expected):
    said = [ceiling(4000), ceiling(0, ended=True, at=NOW - 2 * MINUTE, leaf=1), ceiling(4000, at=NOW - MINUTE, leaf=2)]
    assert found(said, [under(9, 100)], judged=judged) == expected


def test_what_was_held_while_it_stood_may_be_taken_after_its_end():
    said = [ceiling(4000), ceiling(0, ended=True, at=NOW, leaf=1)]
    taken = charge_at(1, 3000, at=NOW + DAY, authority="auth", authorized_minor=3000, held_from=NOW - MINUTE)
    assert found(said, [taken]) == []
    assert found(said, [under(1, 3000, at=NOW + DAY)]) == [("s1", "ended", False)]


def test_a_ceiling_in_other_money_is_unknown():
    assert found([ceiling(4000)], [under(1, 9000, currency="EUR")]) == [("s1", "above", True)]
