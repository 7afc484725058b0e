"""Money that several sources tell of counts once: joined by keys, in any order, and never by a guess."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.core.join import MANY, money_keys
from auditlog.core.money import AGREED, GIVEN_BACK, MoneyFact, charges, counted_together

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

    bridged = spent(*two, fact(3, "liar", key="a", request="r"), fact(4, "books", key="b", request="r"))

    assert bridged == [1000, 1000]  # each of the others is joined to one of them, and the charges stay two


def test_one_source_alone_is_never_joined():
    assert spent(fact(1, "conductor", key="k"), fact(2, "conductor", phase="settled", key="k")) == [1000, 1000]


def test_phases_of_an_orchestrator_without_charge_ids_are_one_with_the_charge():
    told = [fact(n, "conductor", phase=phase, key="k") for n, phase in enumerate(("authorized", "captured", "settled"))]

    assert spent(*told, fact(9, "stripe", key="k", charge="ch_1")) == [1000]


def test_a_key_that_a_source_states_very_often_names_nothing_to_it_and_still_joins_the_others():
    many = [fact(n, "meter", phase="refunded", key="k") for n in range(MANY + 1)]
    two = fact(100, "conductor", key="k"), fact(101, "stripe", key="k", charge="ch_1")

    assert sum(spent(*many, *two)) == 1000 and sum(spent(*many[1:], *two)) == 0  # so many refunds of one payment are none of it


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


def partition(facts):
    groups = {}
    for unit, stands in counted_together(facts).items():
        groups.setdefault(stands, set()).add(unit)
    return {frozenset(group) for group in groups.values()}


@given(FACTS, st.randoms())
def test_what_counts_together_is_the_same_in_any_order(facts, random):
    first = partition(facts)
    random.shuffle(facts)

    assert partition(facts) == first


@given(FACTS)
def test_what_counts_together_nobody_tells_apart_and_every_two_share_a_key_or_agree(facts):
    for group in partition(facts):
        members = [f for f in facts if f.charge_key in group and f.may_join and f.counts]
        if len(group) == 1:
            continue
        assert len({f.source for f in members}) > 1
        for a, b in combinations(members, 2):
            if a.charge_key == b.charge_key:
                continue
            assert a.source != b.source or a.phase != b.phase or a.phase in GIVEN_BACK
            assert not (a.charge and b.charge and a.rail == b.rail)
            agree = (a.amount_minor, a.currency) == (b.amount_minor, b.currency) and abs(a.at - b.at) <= AGREED
            assert set(a.keys) & set(b.keys) or agree


def pair_is_joined(facts, one, other):
    together = counted_together(facts)
    return together[one.charge_key] == together[other.charge_key]


@given(FACTS)
def test_two_sources_that_share_a_key_nobody_else_uses_are_joined(facts):
    a, b = fact(20_000, "orchestrator", 900, key="ours"), fact(20_001, "stripe-itself", 900, key="ours", charge="ch_ours")

    assert pair_is_joined([*facts, a, b], a, b)


# --- a source that may speak of money, and lies -----------------------------------------------------------------------------

# Who tells of a payment's phases without a charge id is taken at its word only beside somebody else (each counts once):
# so the honest tell of one phase here, or whoever stands beside them would lower what they come to.
HONEST = st.lists(
    st.builds(
        dict, source=st.sampled_from("abc"), amount=st.sampled_from([100, 119, 250]), phase=st.sampled_from(["authorized", "captured"]),
        key=st.sampled_from(["", "k", "l"]), invoice=st.sampled_from(["", "i"]), request=st.sampled_from(["", "r"]), charge=st.sampled_from(["", "x", "y"]),
        rail=st.sampled_from(["stripe", "card"]), provider=st.sampled_from(["", "cloud"]),
    ), max_size=6,
).map(lambda many: [fact(n * 10_000, **one) for n, one in enumerate(many)])  # hours apart: nothing agrees but by key  # fmt: skip
LIES = st.lists(
    st.builds(
        dict, amount=st.sampled_from([1, 100, 119, 250, 9_999]), phase=st.sampled_from(["authorized", "captured", "settled"]),
        key=st.sampled_from(["", "k", "l", "z"]), invoice=st.sampled_from(["", "i"]), request=st.sampled_from(["", "r"]),
        charge=st.sampled_from(["", "h1", "h2"]), rail=st.sampled_from(["stripe", "card"]), provider=st.sampled_from(["", "cloud"]), at=st.integers(0, 5),
    ), max_size=5,
).map(lambda many: [fact(one.pop("at") * 10_000 + n + 1, "liar", **one) for n, one in enumerate(many)])  # fmt: skip


@settings(max_examples=2_000, deadline=None)
@given(HONEST, LIES)
def test_no_source_hides_the_money_of_others(honest, lies):
    assert sum(spent(*honest, *lies)) >= sum(spent(*honest))


@settings(max_examples=2_000, deadline=None)
@given(HONEST, LIES)
def test_no_source_inflates_the_money_of_others(honest, lies):
    """What it adds is at most what it states of its own."""
    assert sum(spent(*honest, *lies)) <= sum(spent(*honest)) + sum(spent(*lies))


@pytest.mark.parametrize(
    "lies",
    [
        [fact(10, "liar", 1, key="k"), fact(11, "liar", 2, key="k")],  # tells two payments apart under their key
        [fact(10, "liar", 1, key="k", charge="ch_9")],  # says that the key is another charge's
        [fact(10 + n, "liar", 1, key="k") for n in range(MANY + 5)],  # states it very often
        [fact(10, "liar", 1, key="k", request="r"), fact(11, "liar", 1, request="r", charge="ch_9")],
    ],
    ids=["twice", "another charge", "very often", "a bridge"],
)
def test_a_liar_takes_no_join_from_two_honest_sources(lies):
    a, b = fact(1, "conductor", key="k"), fact(2, "stripe", 1190, key="k", charge="ch_1")

    assert pair_is_joined([a, b, *lies], a, b)


def test_a_bridge_between_two_payments_of_others_hides_neither():
    a, b = fact(1, "conductor", 1000, key="a"), fact(2, "books", 700, invoice="i", rail="stripe")

    assert sum(spent(a, b, fact(3, "liar", 1, key="a", invoice="i"))) == 1700
    # On a charge that somebody else stated, too.
    c = fact(4, "stripe", 500, charge="ch_1")
    assert sum(spent(a, c, fact(5, "liar", 500, key="a", charge="ch_1"))) == 1500


def test_what_a_source_without_layers_says_was_given_back_lowers_nothing():
    taken = fact(1, "stripe", charge="ch_1")

    assert spent(taken, fact(2, "liar", phase="refunded", charge="ch_1", may_join=False)) == [1000]
    assert spent(taken, fact(2, "conductor", phase="refunded", charge="ch_1")) == [0]


@given(FACTS, FACTS.map(lambda facts: [f for f in facts if not f.may_join]))
def test_claims_never_lower_what_was_spent(facts, claims):
    claims = [c for c in claims if c.event_id not in {f.event_id for f in facts}]

    assert sum(spent(*facts, *claims)) >= sum(spent(*facts))
