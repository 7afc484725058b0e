"""The books of money, against what people would say of small streams, and against a brute-force reading of the rules."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.core.money.books import HOLD_ENDS, books
from auditlog.core.money.join import MANY, Key, money_keys, thing_key
from auditlog.core.money.money import MoneyFact, amount_text, book_of, interval_start, phase_of

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def fact(n, kind="payment.captured", amount=1000, *, source="shop", at=None, phase="", charge="", key="", request="", invoice="", subscription="",
         rail="card", provider="cloud", currency="USD", principal="id|ada", actor="", grant="", counts=True, period=None, account="", thing="", thing_type="", payee=""):  # fmt: skip
    keys = money_keys(
        provider, rail, idempotency_key=key, request_id=request, ray_id="", invoice=invoice, subscription=subscription
    )
    begins, ends = period or (None, None)
    return MoneyFact(
        f"e{n:05}", source, at if at is not None else NOW + n * MINUTE, phase_of(kind, phase), Decimal(str(amount)), currency, rail, charge, counts,
        bool(grant), keys, kind, book_of(kind, phase), invoice, subscription, begins, ends, principal, actor, provider, payee, account, thing_type, thing, grant,
    )  # fmt: skip


def usage(n, amount, **more):
    return fact(n, "usage.metered", amount, **({"rail": ""} | more))


def total(*facts):
    lines = books(facts)
    return sum(line.spent for line in lines), sum(line.at_most for line in lines)


# --- the type decides the book ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "phase", "book"),
    [
        ("payment.captured", "", "paid"), ("payment.settled", "captured", "paid"), ("invoice.paid", "quoted", "paid"), ("invoice.issued", "settled", "billed"),
        ("payment.refunded", "", "returned"), ("dispute.funds_withdrawn", "", "returned"), ("usage.metered", "", "incurred"), ("domain.registered", "captured", "incurred"),
        ("other.shop.thing", "", "incurred"), ("payment.authorized", "captured", "held"), ("domain.registered", "quoted", ""), ("resource.provisioned", "authorized", ""),
        ("payment.authority_granted", "", ""), ("dispute.opened", "disputed", ""), ("payment.failed", "", ""), ("budget.alerted", "captured", ""),
        ("approval.requested", "", ""), ("resource.requested", "captured", "incurred"), ("resource.failed", "", ""), ("subscription.renewed", "", "incurred"), ("payment.quoted", "", ""),
    ],
)  # fmt: skip
def test_the_type_decides_the_book(kind, phase, book):
    assert book_of(kind, phase) == book


# --- one unit ---------------------------------------------------------------------------------------------------------


def test_captured_and_settled_are_one_amount_and_refunds_add_up_to_what_was_taken():
    told = [
        fact(1, charge="c"),
        fact(2, "payment.settled", 980, charge="c"),
        fact(3, "payment.refunded", 300, charge="c"),
        fact(4, "payment.refunded", 200, charge="c"),
    ]

    assert total(*told) == (500, 500)
    assert total(*told, fact(5, "payment.refunded", 5_000, charge="c")) == (0, 0)


def test_a_sources_later_total_corrects_its_earlier_one_also_downwards():
    assert total(usage(1, 500, charge="m-1"), usage(9, 420, charge="m-1")) == (420, 420)
    assert total(usage(9, 420, charge="m-1"), usage(1, 500, charge="m-1")) == (420, 420)


def test_of_two_sources_the_one_that_saw_more_stands():
    assert total(fact(1, charge="c"), fact(2, charge="c", amount=1_190, source="bank")) == (1190, 1190)
    assert total(
        fact(1, charge="c"),
        fact(2, "payment.refunded", 300, charge="c"),
        fact(3, "payment.refunded", 300, charge="c", source="bank"),
    ) == (700, 700)


def test_a_charge_stated_in_two_currencies_is_one():
    [line] = books(
        [
            fact(1, charge="c", amount=1_100, currency="USD"),
            fact(2, "payment.settled", 1_000, charge="c", currency="EUR", source="bank"),
        ]
    )

    assert (line.spent, line.currency) == (1000, "EUR")


def test_a_chargeback_and_a_refund_together_give_back_no_more_than_was_taken_and_one_that_is_won_goes_back():
    told = [
        fact(1, charge="c"),
        fact(2, "payment.refunded", 600, charge="c"),
        fact(3, "dispute.funds_withdrawn", 1_000, charge="c"),
    ]

    assert total(*told) == (0, 0)
    assert total(*told, fact(4, "dispute.funds_reinstated", 1_000, charge="c")) == (400, 400)


def test_two_charges_under_one_idempotency_key_are_two_payments():
    assert total(fact(1, charge="c1", key="k"), fact(2, charge="c2", key="k")) == (2000, 2000)
    assert total(
        fact(1, "domain.registered", key="k"), fact(2, charge="c1", key="k"), fact(3, charge="c2", key="k")
    ) == (2000, 2000)


def test_five_hundred_calls_of_less_than_a_cent_are_what_they_add_up_to():
    assert total(*(usage(n, "0.4", request=f"r{n}") for n in range(500)))[0] == 200


# --- a later book covers an earlier one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shared", [{"charge": "c"}, {"key": "k"}, {"request": "r"}], ids=["charge", "idempotency key", "request id"]
)
@pytest.mark.parametrize("by", ["shop", "bank"], ids=["by one source", "by two"])
def test_an_act_and_its_payment_are_one_obligation(shared, by):
    act, payment = fact(1, "subscription.started", **shared), fact(2, source=by, **({"charge": "c"} | shared))

    [line] = books([payment, act])

    assert (line.spent, line.at_most, line.at, line.events) == (1000, 1000, act.at, ("e00001", "e00002"))


def test_the_final_price_replaces_the_agreed_one():
    assert total(fact(1, "resource.provisioned", 1_000, key="k"), fact(2, charge="c", amount=1_190, key="k")) == (
        1190,
        1190,
    )
    assert total(fact(1, "resource.provisioned", 1_000, key="k"), fact(2, charge="c", amount=700, key="k")) == (
        700,
        700,
    )


def test_an_invoice_covers_the_calls_that_name_it_and_each_keeps_what_it_incurred():
    calls = [usage(n, 320, invoice="i", actor=f"a{n % 2}") for n in range(30)]

    lines = books([*calls, fact(99, "invoice.paid", 9_600, invoice="i", source="bank", rail="")])

    assert sum(line.spent for line in lines) == 9_600 and len(lines) == 30
    assert {line.actor for line in lines} == {"a0", "a1"} and all(line.spent == 320 for line in lines)


def test_a_smaller_bill_scales_its_acts_down_and_a_larger_one_has_a_line_of_its_own_of_no_agent():
    calls = [usage(n, 300, invoice="i", actor="a", grant="g") for n in range(3)]

    less = books([*calls, fact(9, "invoice.issued", 100, invoice="i", rail="")])
    more = books([*calls, fact(9, "invoice.issued", 1_000, invoice="i", rail="")])

    assert sum(line.spent for line in less) == 100 and len({line.spent for line in less}) <= 2
    assert sum(line.spent for line in more) == 1_000
    [bill] = [line for line in more if line.book == "billed"]
    assert (bill.spent, bill.actor, bill.grant, bill.principal) == (100, "", "", "id|ada")


def test_an_invoice_with_a_period_covers_what_its_provider_metered_in_it():
    month = (NOW, NOW + 30 * DAY)
    inside = [usage(n, 500, at=NOW + n * DAY) for n in range(3)]
    others = [
        usage(50, 70, at=NOW - DAY),
        usage(51, 70, at=NOW + 30 * DAY),
        usage(52, 70, at=NOW + DAY, provider="other"),
        usage(53, 70, at=NOW + DAY, principal="id|bo"),
    ]

    invoice = fact(90, "invoice.issued", 1_500, invoice="i", at=NOW + 31 * DAY, period=month)

    assert total(*inside, *others, invoice) == (1500 + 4 * 70, 1500 + 4 * 70)
    assert (
        total(
            *(usage(n, 500, at=NOW + n * DAY, account="acc-2") for n in range(3)),
            fact(90, "invoice.issued", 1_500, at=NOW + 31 * DAY, period=month, account="acc-1"),
        )[0]
        == 3000
    )


def test_an_invoice_that_names_nothing_covers_what_was_metered_since_the_one_before_up_to_its_amount():
    first = [usage(n, 500) for n in range(3)]
    second = [usage(n, 500) for n in range(20, 24)]

    assert total(*first, fact(10, "invoice.paid", 1_500, invoice="i-1")) == (1500, 1500)
    assert (
        total(
            *first,
            fact(10, "invoice.paid", 1_500, invoice="i-1"),
            *second,
            fact(30, "invoice.paid", 1_500, invoice="i-2"),
        )[0]
        == 1500 + 1500 + 500
    )


def test_nothing_is_covered_across_currencies_and_both_stand():
    lines = books([usage(1, 150), fact(2, "invoice.paid", 83_000, invoice="i", currency="EUR")])

    assert {(line.currency, int(line.spent)) for line in lines} == {("USD", 150), ("EUR", 83_000)}


def test_an_invoice_unpaid_in_part_keeps_its_rest_a_credit_lowers_it_and_a_void_one_owes_only_what_was_paid():
    issued = fact(1, "invoice.issued", 10_000, invoice="i")
    paid = fact(2, amount=4_000, charge="c", invoice="i")

    assert total(issued) == (10_000, 10_000)
    assert total(issued, paid) == (10_000, 10_000)
    assert total(issued, fact(3, "invoice.credited", 2_500, invoice="i")) == (7_500, 7_500)
    assert total(issued, paid, fact(3, "invoice.voided", 0, invoice="i")) == (4_000, 4_000)
    assert total(issued, fact(3, "invoice.voided", 0, invoice="i")) == (0, 0)


def test_partial_payments_of_an_invoice_add_up_and_its_being_paid_restates_them():
    parts = [fact(1, amount=4_000, charge="c1", invoice="i"), fact(2, amount=6_000, charge="c2", invoice="i")]

    assert total(*parts, fact(3, "invoice.paid", 10_000, invoice="i")) == (10_000, 10_000)
    assert total(*parts, fact(3, "invoice.issued", 10_000, invoice="i")) == (10_000, 10_000)
    assert total(parts[0], fact(3, "invoice.paid", 10_000, invoice="i")) == (10_000, 10_000)


def test_the_payment_of_an_invoice_without_an_invoice_statement_covers_the_calls_that_name_it():
    assert total(
        usage(1, 500, invoice="i"), usage(2, 500, invoice="i"), fact(3, charge="c", invoice="i", amount=1_000, rail="")
    ) == (1000, 1000)


def test_of_two_acts_in_one_request_a_payment_covers_the_one_whose_price_it_is():
    acts = [
        fact(1, "domain.registered", 1_200, request="r", thing="a.io"),
        fact(2, "resource.provisioned", 2_000, request="r", thing="vm"),
    ]

    assert total(*acts, fact(3, charge="c", amount=1_200, request="r")) == (3200, 3200)
    assert total(*acts, fact(3, charge="c", amount=3_200, request="r")) == (3200, 3200)


def test_a_subscriptions_payments_cover_its_own_periods():
    july, august = (NOW, NOW + 31 * DAY), (NOW + 31 * DAY, NOW + 62 * DAY)
    started = fact(1, "subscription.started", 2_000, subscription="s")
    first, second = (
        fact(n, "invoice.paid", 2_000, invoice=f"i{n}", subscription="s", period=p, at=p[0])
        for n, p in ((2, july), (3, august))
    )

    assert total(started, first) == (2000, 2000)
    assert total(started, first, second) == (4000, 4000)


# --- perhaps the same -------------------------------------------------------------------------------------------------


def test_a_payment_that_equals_an_open_obligation_is_perhaps_the_same_and_spend_is_a_range():
    act = fact(1, "subscription.started", source="orchestrator", rail="")

    assert total(act, fact(2, charge="c", source="bank")) == (1000, 2000)
    assert total(act, fact(2, charge="c", source="bank", amount=1_190)) == (1190, 2190)
    assert total(act, fact(2, charge="c", source="bank", amount=2_000)) == (3000, 3000)
    assert total(act, fact(2, charge="c", source="bank", provider="other")) == (2000, 2000)
    assert total(act, fact(2, charge="c", source="bank", at=NOW + 6 * DAY)) == (2000, 2000)
    assert total(act, fact(2, charge="c", source="bank", principal="id|bo")) == (2000, 2000)


def test_one_open_obligation_takes_one_payment_and_the_exact_one_first():
    act = fact(1, "subscription.started", source="orchestrator", rail="")
    payments = [fact(2, charge="c1", source="bank", amount=1_100), fact(3, charge="c2", source="bank", amount=1_000)]

    assert total(act, *payments) == (2100, 3100)


def test_a_payment_of_all_that_was_metered_since_the_one_before_is_perhaps_that():
    calls = [usage(n, 320) for n in range(30)]

    assert total(*calls, fact(60, charge="c", source="bank", amount=9_600)) == (9600, 19_200)


def test_an_invoice_said_to_be_paid_and_a_payment_that_names_none_are_perhaps_one():
    assert total(fact(1, "invoice.paid", 2_000, invoice="i"), fact(2, charge="c", amount=2_000)) == (2000, 4000)


def test_two_sources_meters_of_one_call_are_perhaps_one_and_by_the_same_request_surely():
    assert total(usage(1, 50, source="proxy"), usage(2, 50, source="cloud")) == (50, 100)
    assert total(usage(1, 50, source="proxy", request="r"), usage(2, 50, source="cloud", request="r")) == (50, 50)
    assert total(usage(1, 50), usage(2, 50)) == (100, 100)


# --- in advance, held -------------------------------------------------------------------------------------------------


def test_what_is_metered_against_a_topup_counts_only_beyond_it():
    topup = fact(1, charge="c", amount=2_000, thing="main", thing_type="wallet")
    calls = [usage(n, 500) for n in range(2, 8)]

    assert total(topup, *calls) == (3000, 3000)
    assert total(usage(0, 700, at=NOW - DAY), topup, *calls)[0] == 3700


@pytest.mark.parametrize(
    ("readings", "billed", "spent"),
    [([3_000], 2_900, 2_900), ([1_500] * 3, 4_499, 4_499), ([3] * 100, 241, 300), ([4_800], 4_500, 4_500)],
)
def test_an_invoice_a_little_below_its_readings_covers_the_last_one_too_where_it_nearly_fits(readings, billed, spent):
    told = [usage(n, amount, at=NOW + timedelta(minutes=n)) for n, amount in enumerate(readings)]

    assert total(*told, fact(999, "invoice.issued", billed, invoice="i", rail="", at=NOW + timedelta(hours=5))) == (
        spent,
        spent,
    )


@pytest.mark.parametrize(("readings", "bills", "spent"), [
    ([1_000], [600], 1_000), ([1_000], [600, 400], 1_000), ([500, 500], [600, 400], 1_000), ([1_000], [600, 300], 1_000), ([1_000], [600, 700], 1_300),
    ([1_000], [200] * 5, 1_000), ([300] * 3, [700, 200], 900),
])  # fmt: skip
def test_invoices_in_parts_of_what_was_metered_are_not_added_to_it(readings, bills, spent):
    told = [usage(n, amount, at=NOW + timedelta(minutes=n)) for n, amount in enumerate(readings)]
    told += [
        fact(100 + n, "invoice.issued", amount, invoice=f"i{n}", rail="", at=NOW + timedelta(hours=5 + n))
        for n, amount in enumerate(bills)
    ]

    assert total(*told) == (spent, spent)


def test_a_credit_gives_back_from_its_own_time_and_only_what_nobody_paid():
    issued, credit = fact(1, "invoice.issued", 10_000, invoice="i"), fact(3, "invoice.credited", 2_500, invoice="i")
    [line] = books([issued, credit])

    assert line.returns == ((credit.at, Decimal(2_500)),) and line.spent == 7_500
    assert total(issued, credit, fact(4, amount=7_500, charge="c", invoice="i")) == (7_500, 7_500)
    assert total(issued, credit, fact(4, amount=10_000, charge="c", invoice="i")) == (10_000, 10_000)
    assert total(issued, credit, fact(4, "invoice.paid", 9_000, invoice="i")) == (9_000, 9_000)


def test_a_credit_that_was_taken_back_is_owed_again():
    issued, credit = (
        fact(1, "invoice.issued", 10_000, invoice="i"),
        fact(3, "invoice.credited", 2_500, invoice="i", thing="cn"),
    )
    voided = fact(4, "invoice.credited", 2_500, phase="restored", invoice="i", thing="cn")

    assert total(issued, credit, voided) == (10_000, 10_000)
    assert total(issued, voided) == (10_000, 10_000)  # of a credit that nobody told of


def test_a_hold_that_was_let_go_gives_back_nothing_of_what_is_captured_of_it_afterwards():
    hold = fact(1, "payment.authorized", charge="h")
    released = fact(2, "payment.refunded", phase="reversed", charge="h")
    act, capture = fact(0, "domain.registered", charge="h"), fact(3, charge="c")
    link = Key("payment", "rail:card", "h")
    told = [msgspec.structs.replace(one, keys=(*one.keys, link)) for one in (hold, released, capture)]

    assert total(*told) == (1000, 1000)
    assert total(act, hold, released) == (0, 0)  # what was only held is not spent, whatever its act said


def test_a_gateway_and_the_provider_behind_it_that_meter_one_request_are_perhaps_one():
    ours, theirs = (
        usage(1, 400, request="r", source="shop"),
        usage(2, 430, request="r", source="gateway", provider="gateway"),
    )

    assert total(ours, theirs) == (400, 830)
    assert total(ours, usage(2, 430, request="other", source="gateway", provider="gateway")) == (830, 830)


def test_an_invoice_for_a_period_that_was_over_when_it_was_issued_is_no_payment_in_advance():
    told = [
        usage(1, 6_000, at=NOW + timedelta(hours=1)),
        fact(
            2,
            "invoice.issued",
            6_000,
            invoice="i",
            rail="",
            period=(NOW, NOW + timedelta(hours=4)),
            at=NOW + timedelta(hours=5),
        ),
    ]

    assert total(*told) == (6_000, 6_000)
    assert [line.spent for line in books(told) if told[0].event_id in line.events] == [6_000]  # of whoever metered it


def test_an_invoice_whose_period_lies_ahead_is_paid_in_advance():
    ahead = fact(0, "invoice.paid", 1_000, invoice="i", period=(NOW, NOW + 30 * DAY), at=NOW)

    assert total(ahead, *(usage(n, 400, at=NOW + n * DAY) for n in range(1, 4))) == (1200, 1200)


def test_a_hold_is_no_spend_and_ends_with_its_capture_its_release_or_after_a_week():
    hold = fact(1, "payment.authorized", 5_000, charge="c")

    [line] = books([hold])
    assert (line.spent, line.held, line.held_until, line.has_spend) == (0, 5000, hold.at + HOLD_ENDS, False)
    [line] = books([hold, fact(9, charge="c", amount=1_200)])
    assert (line.spent, line.held, line.held_until) == (1200, 5000, NOW + 9 * MINUTE)
    [line] = books([hold, fact(9, "payment.refunded", 5_000, charge="c", phase="reversed")])
    assert (line.spent, line.held_until) == (0, NOW + 9 * MINUTE)


def test_a_hold_for_what_an_act_already_counts_adds_nothing():
    [line] = books(
        [
            fact(1, "domain.registered", 1_200, charge="c"),
            fact(2, "payment.authorized", 1_200, charge="c", source="bank"),
        ]
    )

    assert (line.spent, line.held) == (1200, 0)


# --- who and what not -------------------------------------------------------------------------------------------------


def test_what_a_source_may_not_say_counts_for_nothing_and_takes_nothing():
    assert total(
        fact(1, charge="c"),
        fact(2, "payment.refunded", 1_000, charge="c", counts=False),
        fact(3, charge="x", counts=False),
    ) == (1000, 1000)


def test_credits_are_covered_by_nothing_and_cover_nothing():
    lines = books([usage(1, 500, rail="credits", key="k"), fact(2, charge="c", key="k", amount=500)])

    assert sorted((line.rail, int(line.spent)) for line in lines) == [("card", 500), ("credits", 500)]


def test_a_key_that_a_source_states_for_very_many_acts_names_none_of_them_and_hides_none():
    flood = [fact(n, charge=f"lie-{n}", source="liar", key="k", amount=1) for n in range(MANY + 10)]
    act, payment = fact(900, "domain.registered", key="k"), fact(901, charge="c", key="k", source="bank")

    assert total(*flood, act, payment)[0] == MANY + 10 + 1000


# --- any order, any repeats; the oracle -------------------------------------------------------------------------------

KINDS = ["usage.metered", "domain.registered", "payment.captured", "payment.settled", "payment.refunded", "payment.authorized", "invoice.issued",
         "invoice.paid", "invoice.credited", "invoice.voided", "dispute.funds_withdrawn", "dispute.funds_reinstated", "subscription.started"]  # fmt: skip
ANY = st.lists(
    st.builds(
        fact, st.integers(0, 20_000), st.sampled_from(KINDS), st.sampled_from([0, 1, 400, 500, 600, "0.4"]), source=st.sampled_from("xyz"),
        charge=st.sampled_from(["", "", "c", "d"]), key=st.sampled_from(["", "", "k"]), request=st.sampled_from(["", "r"]), invoice=st.sampled_from(["", "", "i", "j"]),
        subscription=st.sampled_from(["", "", "s"]), currency=st.sampled_from(["USD", "USD", "EUR"]), principal=st.sampled_from(["id|ada", "id|ada", ""]),
        provider=st.sampled_from(["cloud", ""]), rail=st.sampled_from(["card", ""]), thing_type=st.sampled_from(["", "", "wallet"]),
        period=st.sampled_from([None, None, (NOW, NOW + 7 * DAY), (NOW + 7 * DAY, NOW + 14 * DAY)]), grant=st.sampled_from(["", "g"]),
    ), max_size=9, unique_by=lambda f: f.event_id,
)  # fmt: skip


@settings(max_examples=1_000, deadline=None)
@given(ANY, st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(facts, random):
    shuffled = [*facts, *facts[:3]]
    random.shuffle(shuffled)

    assert books(shuffled) == books(facts)


@settings(max_examples=1_000, deadline=None)
@given(ANY)
def test_no_line_is_negative_or_less_certain_than_it_says_and_every_unit_is_counted_once(facts):
    lines = books(facts)

    for line in lines:
        assert 0 <= line.spent <= line.at_most and line.returned == sum(part for _, part in line.returns) >= 0
        assert line.lead in line.events
    assert len({line.key for line in lines}) == len(lines)
    assert sum(line.at_most for line in lines) <= sum(
        f.amount for f in facts if f.book in ("incurred", "billed", "paid")
    )


@settings(max_examples=1_000, deadline=None)
@given(ANY, ANY)
def test_what_may_not_be_said_changes_nothing(facts, claims):
    known = {f.event_id for f in facts}
    claims = [msgspec.structs.replace(c, counts=False) for c in claims if c.event_id not in known]

    assert books([*facts, *claims]) == books(facts)


# Each charge is of one invoice at most, or of none; its statements name the invoice or leave it out.
CHARGED = st.lists(
    st.tuples(st.integers(0, 9_999), st.sampled_from(["usage.metered", "payment.captured", "payment.refunded"]), st.sampled_from([100, 250, 600]),
              st.sampled_from("cde"), st.booleans()), max_size=6, unique_by=lambda row: row[0],
)  # fmt: skip
INVOICED = st.lists(
    st.tuples(st.integers(10_000, 20_000), st.sampled_from(["invoice.issued", "invoice.paid"]), st.sampled_from([100, 250, 600]), st.sampled_from("ij")),
    max_size=3, unique_by=lambda row: row[0],
)  # fmt: skip
NAMED = st.builds(
    lambda charged, invoiced, of: [
        *(fact(n, kind, amount, charge=c, invoice=of[c] if names else "", principal="") for n, kind, amount, c, names in charged),
        *(fact(n, kind, amount, invoice=i, principal="") for n, kind, amount, i in invoiced),
    ],
    CHARGED, INVOICED, st.fixed_dictionaries({c: st.sampled_from(["", "i", "j"]) for c in "cde"}),
)  # fmt: skip


def by_hand(facts):
    """Section 4.1.2 read literally, for one source, charges and invoices by id: brute force over all that shares a
    name.
    """

    def last(kind, name, value):
        told = sorted(
            (f for f in facts if f.type == kind and getattr(f, name) == value),
            key=lambda f: (f.at, f.amount, f.event_id),
        )
        return told[-1].amount if told else None

    charges, invoices = sorted({f.charge for f in facts} - {""}), sorted({f.invoice for f in facts} - {""})
    incurred = {c: a for c in charges if (a := last("usage.metered", "charge", c)) is not None}
    paid = {c: a for c in charges if (a := last("payment.captured", "charge", c)) is not None}
    billed = {i: (last("invoice.issued", "invoice", i), last("invoice.paid", "invoice", i)) for i in invoices}
    billed = {i: said for i, said in billed.items() if any(a is not None for a in said)}
    names = {("charge", c): {f.invoice for f in facts if f.charge == c} - {""} for c in charges}
    # Of an invoice: the charges that it names itself, or that name it.
    of = {i: {c for c in charges if i in names["charge", c]} for i in invoices}
    # A payment without an act of its own charge is of the acts that name its invoice, where nobody tells of the
    # invoice.
    through = {
        c: {d for i in names["charge", c] - billed.keys() for d in of[i] if d in incurred}
        for c in paid
        if c not in incurred
    }
    through = {c: acts for c, acts in through.items() if acts and not names["charge", c] & billed.keys()}
    covered = set().union(*through.values()) if through else set()
    total = Decimal(0)
    seen = set()
    for start in [*(("c", c) for c in charges), *(("i", i) for i in billed)]:
        group, todo = set(), [start]
        while todo:
            kind, name = one = todo.pop()
            if one in group:
                continue
            group.add(one)
            if kind == "c":
                todo += [("i", i) for i in billed if name in of[i] and (name in incurred or name in paid)]
                todo += [("c", c) for c in through.get(name, ())] + [
                    ("c", p) for p, acts in through.items() if name in acts
                ]
            else:
                todo += [("c", c) for c in of[name] if c in incurred or c in paid]
        if group & seen:
            continue
        seen |= group
        mine = [i for k, i in group if k == "i"]
        cs = sorted(c for k, c in group if k == "c")
        if mine:
            left = set(cs)
            for i in sorted(
                mine,
                key=lambda i: (
                    min(f.at for f in facts if f.type.startswith("invoice.") and f.invoice == i),
                    f"invoice:{i}",
                ),
            ):
                own = {c for c in left if c in of[i]}
                left -= own
                total += max(billed[i][0] or 0, billed[i][1] or 0, sum(paid.get(c, 0) for c in own))
            total += sum(paid.get(c, 0) for c in left)
        else:
            total += sum(paid[c] if c in paid else 0 if c in covered else incurred.get(c, 0) for c in cs)
    return total


@settings(max_examples=2_000, deadline=None)
@given(NAMED)
def test_before_anything_came_back_the_sum_is_what_the_rules_say_by_hand(facts):
    facts = [f for f in facts if f.book != "returned"]
    lines = books(facts)

    assert sum(line.at_most for line in lines) == by_hand(facts)


@settings(max_examples=500, deadline=None)
@given(NAMED)
def test_what_came_back_is_never_more_than_was_taken(facts):
    taken = sum(
        line.at_most
        for line in books([msgspec.structs.replace(f, amount=Decimal(0)) if f.book == "returned" else f for f in facts])
    )
    back = sum(f.amount for f in facts if f.book == "returned")
    lines = books(facts)

    assert taken - back <= sum(line.at_most for line in lines) <= taken


# --- how amounts and intervals are written ----------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(1200, "USD", "12.00 USD"), (5, "EUR", "0.05 EUR"), (1200, "JPY", "1,200 JPY"), (1234567, "KWD", "1,234.567 KWD"), (-5, "USD", "-0.05 USD"),
     (Decimal("0.4"), "USD", "0.004 USD"), (Decimal("1200.000"), "USD", "12.00 USD"), (500, "UGX", "500 UGX"), (500, "ISK", "500 ISK")],
)  # fmt: skip
def test_amounts_are_written_with_their_currencys_decimals_and_more_where_there_is_less(amount, currency, text):
    assert amount_text(amount, currency) == text


# --- told by two, and by those who leave something out ----------------------------------------------------------------


def made(n, amount=1000, kind="domain.registered", *, thing="acme.io", provider="cloud", **more):
    return msgspec.structs.replace(
        fact(n, kind, amount, thing=thing, provider=provider, **({"rail": ""} | more)),
        keys=money_keys(provider, "", idempotency_key="", request_id="", ray_id="", invoice="", made=thing_key(kind, "", provider, thing)),
    )  # fmt: skip


def test_a_thing_whose_making_two_tell_of_cost_its_price_once():
    assert total(made(0, source="orchestrator"), made(1, source="registrar")) == (1000, 1000)
    assert total(
        made(0, source="orchestrator", kind="resource.requested"), made(1, source="cloud", kind="resource.provisioned")
    ) == (1000, 1000)
    assert total(made(0, kind="resource.requested"), made(1, kind="resource.provisioned")) == (1000, 1000)


def test_making_it_again_costs_again():
    assert total(made(0), made(1)) == (2000, 2000)  # one source tells two apart
    assert total(made(0, source="a"), made(1, source="b"), made(120, source="a"), made(121, source="b")) == (2000, 2000)
    assert total(made(0, source="a"), made(1, source="b", amount=700)) == (1700, 1700)
    assert total(made(0, source="a"), made(1, source="b", thing="other.io")) == (2000, 2000)
    assert total(made(0, source="a"), made(1, source="b", provider="elsewhere")) == (2000, 2000)
    assert total(made(0, source="a"), made(1, source="b", principal="id|eve")) == (2000, 2000)
    assert total(made(0, source="a", account="one"), made(1, source="b", account="two")) == (2000, 2000)
    assert total(made(0, source="a", account="one"), made(1, source="b")) == (1000, 1000)


def test_a_refund_that_does_not_say_its_rail_is_of_the_charge_that_it_names():
    assert total(fact(0, charge="c"), fact(1, "payment.refunded", 400, charge="c", rail="")) == (600, 600)
    twice = [fact(0, charge="c"), fact(1, charge="c", rail="bank")]
    assert total(*twice, fact(2, "payment.refunded", 400, charge="c", rail="")) == (2000, 2000)  # nobody says of which
    of_another = fact(2, "payment.refunded", 400, charge="c", rail="", principal="id|eve")
    assert total(fact(0, charge="c"), of_another) == (1000, 1000)


def test_one_invoice_id_of_two_customers_is_two_invoices():
    mine = [fact(0, "invoice.issued", 500, invoice="i"), fact(1, "invoice.paid", 500, invoice="i")]
    theirs = [
        fact(2, "invoice.issued", 700, invoice="i", principal="id|eve"),
        fact(3, "invoice.paid", 700, invoice="i", principal="id|eve"),
    ]

    assert total(*mine, *theirs) == (1200, 1200)
    assert {line.principal: line.spent for line in books([*mine, *theirs])} == {"id|ada": 500, "id|eve": 700}


@pytest.mark.parametrize("order", [1, -1])
def test_a_fee_and_the_usage_of_one_period_may_be_billed_apart(order):
    month = (NOW - DAY, NOW + 29 * DAY)
    bills = [
        fact(50_000, "invoice.issued", 300, invoice="fee", period=month),
        fact(50_001, "invoice.issued", 1000, invoice="use", period=month),
    ]
    bills = [msgspec.structs.replace(bill, at=NOW + 30 * DAY + n * MINUTE) for n, bill in enumerate(bills[::order])]
    lines = books([usage(0, 600), usage(1, 400), *bills])

    assert {line.unit: line.spent for line in lines if line.book == "incurred"} == {
        "event:e00000": 600,
        "event:e00001": 400,
    }
    assert sum(line.spent for line in lines) == sum(line.at_most for line in lines) == 1300
