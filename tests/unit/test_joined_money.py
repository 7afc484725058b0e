"""Money that several sources tell of counts once: joined by keys, in any order, and never by a guess."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.join import MANY, Key, money_keys
from auditlog.core.money import GIVEN_BACK, MoneyFact, charges, counted_together

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def fact(n, source, amount=1000, *, phase="captured", key="", invoice="", request="", charge="", rail="stripe", provider="", may_join=True, counts=True, currency="USD"):
    keys = money_keys(provider, rail, idempotency_key=key, request_id=request, ray_id="", invoice=invoice)
    return MoneyFact(f"e{n:05}", source, NOW + timedelta(seconds=n), phase, amount, currency, rail, charge, counts, False, keys, may_join)


def spent(*facts):
    return sorted(charge.spent_minor for charge in charges(facts))


def test_one_payment_told_by_its_orchestrator_and_its_rail_counts_once():
    told = fact(1, "conductor", key="k"), fact(2, "stripe", key="k", charge="ch_1")

    [charge] = charges(told)

    assert (charge.rail, charge.charge, charge.spent_minor, charge.joined) == ("stripe", "ch_1", 1000, ("e00001", "e00002"))


def test_a_third_source_joins_through_another_key():
    told = fact(1, "conductor", key="k"), fact(2, "stripe", key="k", charge="ch_1", invoice="in_1"), fact(3, "books", invoice="in_1")

    assert spent(*told) == [1000]


def test_where_amounts_differ_the_greatest_of_captured_and_settled_stands():
    assert spent(fact(1, "conductor", 1000, key="k"), fact(2, "stripe", 1190, key="k", charge="ch_1")) == [1190]


def test_an_orchestrators_own_id_on_its_own_rail_is_the_same_money():
    told = fact(1, "conductor", rail="wallet", charge="w-1", provider="cloud", key="k"), fact(2, "cloud", charge="ch_1", provider="cloud", key="k")

    assert spent(*told) == [1000]


def test_the_same_key_at_another_rail_and_provider_is_another_key():
    assert spent(fact(1, "conductor", rail="x402", provider="a", key="1"), fact(2, "stripe", charge="ch_1", provider="b", key="1")) == [1000, 1000]


def test_a_source_outside_its_layers_makes_nothing_count_less():
    assert spent(fact(1, "liar", key="k", may_join=False), fact(2, "stripe", key="k", charge="ch_1")) == [1000, 1000]


def test_two_payments_under_one_key_are_told_apart_by_their_source_and_count_twice():
    assert spent(fact(1, "conductor", key="k"), fact(2, "conductor", key="k"), fact(3, "stripe", key="k", charge="ch_1")) == [1000] * 3


def test_two_charges_of_a_rail_are_never_one():
    assert spent(fact(1, "stripe", key="k", charge="ch_1"), fact(2, "other", key="k", charge="ch_2")) == [1000, 1000]


def test_a_bridge_between_two_charges_joins_neither():
    two = [fact(1, "stripe", key="a", charge="ch_1"), fact(2, "stripe", key="b", charge="ch_2")]

    assert spent(*two, fact(3, "liar", key="a", request="r"), fact(4, "books", key="b", request="r")) == [1000] * 4


def test_one_source_alone_is_never_joined():
    assert spent(fact(1, "conductor", key="k"), fact(2, "conductor", phase="settled", key="k")) == [1000, 1000]


def test_phases_of_an_orchestrator_without_charge_ids_are_one_with_the_charge():
    told = [fact(n, "conductor", phase=phase, key="k") for n, phase in enumerate(("authorized", "captured", "settled"))]

    assert spent(*told, fact(9, "stripe", key="k", charge="ch_1")) == [1000]


def test_a_key_that_very_many_state_identifies_nothing():
    many = [fact(n, f"s{n}", key="k") for n in range(MANY + 1)]

    assert spent(*many) == [1000] * (MANY + 1)
    assert spent(*many[1:]) == [1000]


def test_credits_are_joined_with_nothing():
    assert spent(fact(1, "conductor", key="k", rail="credits", provider="c"), fact(2, "stripe", key="k", charge="ch_1", provider="c")) == [1000, 1000]


FACTS = st.lists(
    st.builds(
        fact, st.integers(0, 10**4), st.sampled_from("abc"), st.sampled_from([5, 7]),
        phase=st.sampled_from(["authorized", "captured", "settled", "refunded"]), key=st.sampled_from(["", "k", "l"]),
        invoice=st.sampled_from(["", "i"]), request=st.sampled_from(["", "r"]), charge=st.sampled_from(["", "x", "y"]),
        rail=st.sampled_from(["stripe", "card"]), may_join=st.sampled_from([True, True, False]), counts=st.sampled_from([True, True, False]),
    ), max_size=9, unique_by=lambda f: f.event_id,
)  # fmt: skip


def oracle(facts):
    """Brute force: sets of units grown one pair at a time until nothing changes, then thrown away where inconsistent."""
    may = [f for f in facts if f.may_join and f.counts]
    units = {f.charge_key for f in facts}

    def one(members):
        return not any(
            a.charge_key != b.charge_key
            and (
                (a.source == b.source and a.phase == b.phase and a.phase not in GIVEN_BACK)
                or (a.charge and b.charge and a.rail == b.rail and a.charge != b.charge)
            )
            for a, b in combinations(members, 2)
        )

    def good(key: Key):
        return one([f for f in may if key in f.keys])

    links = [(a.charge_key, b.charge_key) for a, b in combinations(may, 2) if any(good(k) for k in set(a.keys) & set(b.keys))]
    sets = [{unit} for unit in units]
    changed = True
    while changed:
        changed = False
        for a, b in links:
            left, right = (next(s for s in sets if unit in s) for unit in (a, b))
            if left is not right:
                sets.remove(right)
                left |= right
                changed = True
    final = []
    for group in sets:
        members = [f for f in may if f.charge_key in group]
        final += [group] if len({f.source for f in members}) > 1 and one(members) else [{unit} for unit in group]
    return {frozenset(group) for group in final}


@given(FACTS, st.randoms())
def test_what_counts_together_is_what_brute_force_says_in_any_order(facts, random):
    random.shuffle(facts)

    together = counted_together(facts)

    groups = {}
    for unit, stands in together.items():
        groups.setdefault(stands, set()).add(unit)
    assert {frozenset(group) for group in groups.values()} == oracle(facts)


@given(FACTS, FACTS.map(lambda facts: [f for f in facts if not f.may_join]))
def test_claims_never_lower_what_was_spent(facts, claims):
    claims = [c for c in claims if c.phase not in GIVEN_BACK and c.event_id not in {f.event_id for f in facts}]

    assert sum(spent(*facts, *claims)) >= sum(spent(*facts))
