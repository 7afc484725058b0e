"""Spend and limits: the one function, against a brute-force reading."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.limits import LimitFact, Spent, crossings, in_force, window_of
from auditlog.core.money import MoneyFact, amount_text, charges, interval_start

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def fact(n, phase, amount, *, charge="c", source="s", currency="USD", counts=True, attributed=False, rail="r"):
    return MoneyFact(f"e{n}", source, NOW + timedelta(seconds=n), phase, amount, currency, rail, charge, counts, attributed)


def spent(*facts):
    return {(c.charge, c.currency): c.spent_minor for c in charges(facts)}


def test_a_charge_is_the_greatest_of_captured_and_settled_minus_what_came_back():
    assert spent(fact(1, "authorized", 1500), fact(2, "captured", 1200), fact(3, "settled", 1180)) == {("c", "USD"): 1200}
    assert spent(fact(1, "captured", 1200), fact(2, "refunded", 300), fact(3, "refunded", 200)) == {("c", "USD"): 700}
    assert spent(fact(1, "captured", 1200), fact(2, "reversed", 1200)) == {("c", "USD"): 0}


def test_money_seen_twice_counts_once_and_two_refunds_of_one_source_are_two():
    assert spent(fact(1, "captured", 1200), fact(2, "captured", 1200, source="t")) == {("c", "USD"): 1200}
    seen = [fact(1, "captured", 1200), fact(2, "refunded", 300), fact(3, "refunded", 300, source="t")]
    assert spent(*seen) == {("c", "USD"): 900}


def test_without_a_charge_id_each_event_counts_once():
    assert sorted(spent(fact(1, "captured", 5, charge=""), fact(2, "captured", 7, charge="")).values()) == [5, 7]


def test_ceilings_quotes_failures_and_test_money_are_no_spend():
    assert spent(fact(1, "ceiling", 99), fact(2, "quoted", 99)) == {("c", "USD"): 0}
    assert spent(fact(1, "captured", 99, counts=False)) == {}


def test_currencies_are_never_added():
    assert spent(fact(1, "captured", 5), fact(2, "captured", 7, currency="EUR")) == {("c", "USD"): 5, ("c", "EUR"): 7}


FACTS = st.lists(
    st.builds(
        fact, st.integers(0, 10**6), st.sampled_from(["authorized", "captured", "settled", "refunded", "reversed", "quoted"]),
        st.integers(0, 1000), charge=st.sampled_from(["", "a", "b"]), source=st.sampled_from("xy"),
        currency=st.sampled_from(["USD", "EUR"]), counts=st.booleans(), attributed=st.booleans(),
    ), max_size=12, unique_by=lambda f: f.event_id,
)  # fmt: skip


@given(FACTS, st.randoms())
def test_order_and_repeats_do_not_matter(facts, random):
    shuffled = [*facts, *facts[:3]]
    random.shuffle(shuffled)

    def key(charge):
        return (charge.rail, charge.charge, charge.currency)

    unique = list({f.event_id: f for f in shuffled}.values())
    assert sorted(charges(facts), key=key) == sorted(charges(unique), key=key)


@given(FACTS)
def test_no_charge_is_negative_or_more_than_was_taken(facts):
    for charge in charges(facts):
        assert 0 <= charge.spent_minor <= charge.taken_minor


@pytest.mark.parametrize(
    ("interval", "start"),
    [
        ("day", datetime(2026, 11, 20, tzinfo=UTC)),
        ("week", datetime(2026, 11, 16, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC)),
        ("year", datetime(2026, 1, 1, tzinfo=UTC)),
        ("once", None),
    ],
)
def test_intervals_are_calendar_and_weeks_start_on_monday(interval, start):
    assert interval_start(NOW, interval) == start


def limit(max_minor=1000, **changes):
    fields = {
        "leaf_index": 0, "event_id": "l", "verb": "set", "holder": "h", "grant": "", "scope": "global", "scope_id": "",
        "provider": "", "currency": "USD", "interval": "month", "zone": "", "max_minor": max_minor, "enforcement": "hard",
        "set_by": "h", "at": NOW - timedelta(days=60),
    } | changes  # fmt: skip
    return LimitFact(**fields)


def charge_at(n, amount, *, at=NOW, provider="p", currency="USD", rail="r", parties=("h",)):
    return Spent(f"s{n}", n, at, provider, currency, amount, 0, rail, frozenset(parties), frozenset())


def test_a_limit_with_a_zone_begins_its_day_there():
    tokyo = limit(interval="day", zone="Asia/Tokyo")

    assert window_of(tokyo, datetime(2026, 11, 20, 14, 59, tzinfo=UTC)) == datetime(2026, 11, 19, 15, tzinfo=UTC)
    assert window_of(tokyo, datetime(2026, 11, 20, 15, 1, tzinfo=UTC)) == datetime(2026, 11, 20, 15, tzinfo=UTC)


def test_the_latest_statement_by_its_own_time_is_in_force():
    first, later = limit(1000), limit(2000, leaf_index=5, at=NOW - timedelta(days=1), verb="raised")

    assert in_force([later, first], NOW)[first.key].max_minor == 2000
    assert in_force([later, first], NOW - timedelta(days=2))[first.key].max_minor == 1000


def test_exactly_the_limit_is_within_it_and_one_more_is_over():
    assert crossings([limit()], [charge_at(1, 1000)]) == []
    [crossing] = crossings([limit()], [charge_at(1, 1000), charge_at(2, 1)])
    assert (crossing.over_minor, crossing.crossed_by.event_id) == (1, "s2")


def test_provider_limits_without_a_provider_hold_for_each_separately():
    each = limit(scope="provider")

    assert crossings([each], [charge_at(1, 900), charge_at(2, 900, provider="q")]) == []
    assert len(crossings([each], [charge_at(1, 900), charge_at(2, 900)])) == 1


def test_other_money_other_parties_and_credits_do_not_count():
    others = [charge_at(1, 9999, currency="EUR"), charge_at(2, 9999, parties=("x",)), charge_at(3, 9999, rail="credits")]

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


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(1200, "USD", "12.00 USD"), (5, "EUR", "0.05 EUR"), (1200, "JPY", "1,200 JPY"), (1234567, "KWD", "1,234.567 KWD"), (-5, "USD", "-0.05 USD")],
)
def test_amounts_are_written_with_their_currencys_decimals(amount, currency, text):
    assert amount_text(amount, currency) == text
