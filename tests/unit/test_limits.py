"""Limits: what restates what, who may raise, and spending against them, in any order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.money.limits import (
    Limit,
    LimitFact,
    Spent,
    binds,
    crossings_of,
    limits_of,
    overshoots_of,
    run,
    window_of,
)

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def limit(max_minor=1000, **changes):
    fields = {
        "leaf_index": 0, "event_id": "l", "verb": "set", "holder": "h", "grant": "", "scope": "global", "scope_id": "",
        "provider": "", "currency": "USD", "interval": "month", "zone": "", "max_minor": max_minor, "enforcement": "hard",
        "set_by": "h", "at": NOW - timedelta(days=60),
    } | changes  # fmt: skip
    return LimitFact(**fields)


def charge_at(n, amount, *, at=NOW, provider="p", currency="USD", rail="r", parties=("h",), grants=(), held=0, **more):
    if held:
        more = {"held_from": at, "held_until": at + 7 * DAY} | more
    authorized = more.pop("authorized_minor", held)
    return Spent(
        f"s{n}", n, at, provider, currency, amount, authorized, rail, frozenset(parties), frozenset(grants), **more
    )


def counts(fact, before):
    return "counts"


def crossings(facts, spending, judged=counts):
    return [
        c
        for each in limits_of(facts, judged)
        for c in crossings_of(run(each, [s for s in spending if binds(each.first, s) is not False]))
    ]


def overshoots(facts, spending):
    return [c for each in limits_of(facts, counts) for c in overshoots_of(run(each, spending))]


def test_a_limit_with_a_zone_begins_its_day_there():
    tokyo = limit(interval="day", zone="Asia/Tokyo")

    assert window_of(tokyo, datetime(2026, 11, 20, 14, 59, tzinfo=UTC)) == datetime(2026, 11, 19, 15, tzinfo=UTC)
    assert window_of(tokyo, datetime(2026, 11, 20, 15, 1, tzinfo=UTC)) == datetime(2026, 11, 20, 15, tzinfo=UTC)


def test_the_latest_statement_by_its_own_time_is_in_force():
    first, later = limit(1000), limit(2000, leaf_index=5, at=NOW - timedelta(days=1), verb="raised")
    [one] = limits_of([later, first], counts)

    assert one.in_force(NOW).limit.max_minor == 2000
    assert one.in_force(NOW - timedelta(days=2)).limit.max_minor == 1000
    assert one.in_force(NOW - timedelta(days=90)).limit is None


def test_exactly_the_limit_is_within_it_and_one_more_is_over():
    assert crossings([limit()], [charge_at(1, 1000)]) == []
    [crossing] = crossings([limit()], [charge_at(1, 1000), charge_at(2, 1, at=NOW + MINUTE)])
    assert (crossing.over_minor, crossing.crossed_by.event_id) == (1, "s2")


def test_a_limit_that_is_lowered_between_authorization_and_capture_is_crossed_by_what_comes_next():
    lowered = limit(300, verb="lowered", leaf_index=2, at=NOW + MINUTE, event_id="lower")
    taken = charge_at(1, 600, at=NOW + 2 * MINUTE, held_from=NOW, authorized_minor=600)

    assert crossings([limit(), lowered], [taken]) == []
    [crossing] = crossings([limit(), lowered], [taken, charge_at(3, 1, at=NOW + 3 * MINUTE)])
    assert (crossing.crossed_by.event_id, crossing.over_minor) == ("s3", 301)


def test_who_found_no_room_beside_an_authorization_crossed_the_limit_and_not_who_captures_it():
    held = charge_at(1, 300, at=NOW + 2 * MINUTE, held_from=NOW, authorized_minor=300)
    [crossing] = crossings([limit()], [held, charge_at(2, 900, at=NOW + MINUTE)])

    assert (crossing.crossed_by.event_id, crossing.spent_minor) == ("s2", 1200)


def test_provider_limits_without_a_provider_hold_for_each_separately():
    each = limit(scope="provider")

    assert crossings([each], [charge_at(1, 900), charge_at(2, 900, provider="q")]) == []
    assert len(crossings([each], [charge_at(1, 900), charge_at(2, 900)])) == 1


def test_other_money_other_parties_and_credits_do_not_count():
    others = [
        charge_at(1, 9999, currency="EUR"),
        charge_at(2, 9999, parties=("x",)),
        charge_at(3, 9999, rail="credits"),
    ]

    assert crossings([limit()], others) == []


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 700)), max_size=15), st.randoms())
def test_crossings_are_what_adding_up_by_hand_gives(spends, random):
    spending = [charge_at(n, amount, at=NOW - timedelta(days=days)) for n, (days, amount) in enumerate(spends)]
    by_month: dict = {}
    for each in spending:
        if each.at >= limit().at:
            by_month.setdefault((each.at.year, each.at.month), []).append(each.spent_minor)
    over = sorted(sum(amounts) - 1000 for amounts in by_month.values() if sum(amounts) > 1000)
    random.shuffle(spending)

    assert sorted(crossing.over_minor for crossing in crossings([limit()], spending)) == over


# --- what restates what -----------------------------------------------------------------------------------------------


def of(facts):
    return sorted([f.event_id for f in one.versions] for one in limits_of(facts, counts))


def test_an_event_restates_a_grants_limit_of_the_same_kind_and_only_the_one_it_names():
    a, b = (limit(1000, verb="grant", grant=g, event_id=f"grant-{g}") for g in ("g1", "g2"))
    named = limit(3000, verb="raised", grant="g1", event_id="raise", at=NOW - DAY)
    each = limit(500, verb="lowered", event_id="lower", at=NOW - DAY)

    assert of([a, b, named]) == [["grant-g1", "raise"], ["grant-g2"]]
    assert of([a, b, each]) == [["grant-g1", "lower"], ["grant-g2", "lower"]]


def test_the_same_id_restates_whatever_else_is_said_and_only_of_one_holder():
    first, other = limit(1000, id="cap", event_id="a"), limit(1000, id="cap", holder="x", event_id="b")

    assert of([first, other, limit(900, id="cap", interval="week", event_id="c", at=NOW)]) == [["a", "c"], ["b"]]


def test_budgets_of_two_keys_are_two():
    a, b = (limit(1000, scope="grant", grant=g, event_id=g) for g in ("g1", "g2"))

    assert of([a, b]) == [["g1"], ["g2"]]
    assert crossings([a, b], [charge_at(1, 600, grants=("g1",)), charge_at(2, 600, grants=("g2",))]) == []
    assert len(crossings([a, b], [charge_at(1, 600, grants=("g1",)), charge_at(2, 600, grants=("g1",))])) == 1


def test_what_a_source_may_not_say_restates_nothing():
    assert crossings([limit(1000), limit(1, verb="lowered", counts=False, at=NOW - DAY)], [charge_at(1, 900)]) == []


@pytest.mark.parametrize("scope", ["session", "task", "project"])
def test_a_scope_without_a_name_holds_for_each_separately_and_what_names_none_is_unknown(scope):
    each = limit(500, scope=scope, interval="once")

    assert crossings([each], [charge_at(n, 400, **{scope: f"s{n}"}) for n in range(3)]) == []
    assert len(crossings([each], [charge_at(n, 400, **{scope: "s"}) for n in range(3)])) == 1
    assert binds(each, charge_at(9, 400)) is None
    assert crossings([each], [charge_at(n, 400) for n in range(3)]) == []
    assert (
        crossings(
            [limit(500, scope=scope, scope_id="mine", interval="once")],
            [charge_at(n, 400, **{scope: "other"}) for n in range(3)],
        )
        == []
    )


def test_a_merchant_limit_holds_for_each_seller():
    each = limit(500, scope="merchant")

    assert (
        crossings(
            [each], [charge_at(1, 400, provider="rail", payee="a"), charge_at(2, 400, provider="rail", payee="b")]
        )
        == []
    )
    assert (
        len(
            crossings(
                [each], [charge_at(1, 400, provider="rail", payee="a"), charge_at(2, 400, provider="other", payee="a")]
            )
        )
        == 1
    )


def test_another_currency_is_unknown_and_never_counted():
    assert binds(limit(), charge_at(1, 1, currency="EUR")) is None
    assert run(Limit((limit(),), counts), [charge_at(1, 5000, currency="EUR")]).unknown


# --- raises -----------------------------------------------------------------------------------------------------------


def judged_as(standing):
    return lambda fact, before: standing


def test_a_raise_that_counts_for_nothing_leaves_what_stood_and_a_doubtful_one_convicts_nobody():
    facts = [limit(1000), limit(5000, verb="set", event_id="r", leaf_index=3, at=NOW - DAY)]
    spent = [charge_at(9, 3000)]

    assert crossings(facts, spent, judged_as("counts")) == []
    assert len(crossings(facts, spent, judged_as("refused"))) == 1
    assert crossings(facts, spent, judged_as("unknown")) == []
    assert len(crossings(facts, [charge_at(9, 6000)], judged_as("unknown"))) == 1
    [step] = run(limits_of(facts, judged_as("unknown"))[0], spent).steps
    assert step.is_in_doubt and not step.is_over


def test_a_raise_dated_before_an_act_that_was_already_on_record_is_in_doubt_for_it():
    facts = [limit(1000), limit(5000, verb="raised", leaf_index=20, at=NOW - MINUTE)]
    [step] = run(limits_of(facts, counts)[0], [charge_at(9, 3000)]).steps

    assert step.is_in_doubt
    [later] = run(limits_of(facts, counts)[0], [charge_at(30, 3000)]).steps
    assert not later.is_in_doubt and not later.is_over


# --- in flight, and what came back
# --------------------------------------------------------------------------------------


def test_two_holds_that_cross_a_cap_together_are_found_and_the_later_one_is_over():
    holds = [charge_at(1, 0, held=600), charge_at(2, 0, held=600, at=NOW + MINUTE)]
    [one] = limits_of([limit()], counts)

    assert crossings([limit()], holds) == []
    [over] = overshoots([limit()], holds)
    assert (over.in_flight_minor, over.over_minor, len(over.counted)) == (1200, 200, 2)
    assert [(s.spent.event_id, s.is_over) for s in run(one, holds).steps] == [("s1", False), ("s2", True)]


def test_a_hold_and_a_payment_of_its_amount_under_another_id_are_perhaps_one_and_convict_nobody():
    hold = charge_at(1, 0, held=700, at=NOW, book="held")
    taken = charge_at(2, 700, at=NOW + DAY, book="paid")
    assert overshoots([limit()], [hold, taken]) == [] and crossings([limit()], [hold, taken]) == []
    [one] = limits_of([limit()], counts)
    last = run(one, [taken, hold]).steps[-1]
    assert (last.total, last.at_most) == (700, 1400)
    for other in (
        charge_at(2, 700, at=NOW + 8 * DAY, book="paid"),  # the hold is over
        charge_at(2, 700, at=NOW + DAY, book="paid", provider="q"),
        charge_at(2, 701, at=NOW + DAY, book="paid"),
        charge_at(2, 700, at=NOW - DAY, book="paid"),
        charge_at(2, 700, at=NOW + DAY, book="incurred"),
    ):
        ends = run(one, [hold, other]).steps
        assert max(step.total for step in ends) == 700 + (other.gross_minor if other.at < NOW + 7 * DAY else 0)
    # One payment takes one hold.
    [over] = overshoots([limit()], [hold, charge_at(3, 0, held=700, at=NOW + MINUTE, book="held"), taken])
    assert over.spent_minor == 1400 and len(over.counted) == 2


def test_a_capture_ends_its_hold_and_is_judged_when_it_was_authorized():
    captured = charge_at(1, 600, at=NOW + 2 * MINUTE, held=600, held_from=NOW, held_until=NOW + 2 * MINUTE)
    other = charge_at(2, 0, at=NOW + MINUTE, held=600)
    [one] = limits_of([limit()], counts)

    assert [(s.spent.event_id, s.total) for s in run(one, [captured, other]).steps] == [("s1", 600), ("s2", 1200)]
    assert overshoots([limit()], [captured]) == []


def test_a_later_refund_does_not_make_an_earlier_crossing_good_and_gives_room_to_what_follows():
    first = charge_at(1, 0, returns=((NOW + 2 * MINUTE, 900),))
    second, third = charge_at(2, 300, at=NOW + MINUTE), charge_at(3, 600, at=NOW + 3 * MINUTE)

    [over] = crossings([limit()], [first, second, third])
    assert (over.spent_minor, over.crossed_by.event_id) == (1200, "s2")
    steps = run(limits_of([limit()], counts)[0], [first, second, third]).steps
    assert [s.is_over for s in steps] == [False, True, False]


def test_what_is_perhaps_counted_twice_is_in_doubt_and_no_crossing():
    lines = [charge_at(1, 600), charge_at(2, 0, at_most_minor=600)]
    [one] = limits_of([limit()], counts)

    assert crossings([limit()], lines) == []
    assert [s.is_in_doubt for s in run(one, lines).steps] == [False, True]
