"""What Stripe's events come to in the books: taken over HTTP, projected, as its versions and its failures really tell them.

Shapes after docs.stripe.com/api and docs.stripe.com/changelog (read 2026-11).
"""

import itertools
import json

import pytest
import stripe

from auditlog.formats import Delivery
from auditlog.models import Charge, Leaf, ProjectionState
from auditlog.projection.project import project
from tests.deliveries import SAMPLES
from tests.integration.test_sender_formats import post

BASIL, CLOVER, OLDER, OLDEST = "2025-03-31.basil", "2026-01-28.clover", "2024-06-20", "2018-11-08"
CHARGE = {"id": "ch_1", "object": "charge", "amount": 2000, "amount_captured": 2000, "amount_refunded": 0, "captured": True, "currency": "usd",
          "payment_intent": "pi_1", "status": "succeeded"}  # fmt: skip
HOLD = CHARGE | {"amount": 1000, "amount_captured": 0, "captured": False}
INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 2000,
    "amount_received": 2000,
    "currency": "usd",
    "status": "succeeded",
    "latest_charge": "ch_1",
}
REFUND = {
    "id": "re_1",
    "object": "refund",
    "amount": 2000,
    "currency": "usd",
    "charge": "ch_1",
    "payment_intent": "pi_1",
    "status": "succeeded",
}
AUTHORIZATION = {"id": "iauth_1", "object": "issuing.authorization", "amount": 1000, "approved": True, "status": "pending", "currency": "usd",
                 "card": {"id": "ic_1", "object": "issuing.card"}, "transactions": [], "pending_request": None}  # fmt: skip
CAPTURE = {
    "id": "ipi_1",
    "object": "issuing.transaction",
    "amount": -400,
    "type": "capture",
    "authorization": "iauth_1",
    "currency": "usd",
    "card": "ic_1",
}


@pytest.fixture
def told(source, tenant, now):
    """Deliver events one a minute, and give the lines of the books: unit, spent, at most, returned, still held."""
    row, numbers = source("stripe"), itertools.count(1)
    secret = SAMPLES["stripe"].known.secret().decode()

    def tell(*events, version=CLOVER):
        for kind, thing, *previous in events:
            number = next(numbers)
            body = {"id": f"evt_{number}", "object": "event", "api_version": version, "created": 1_795_000_000 + 60 * number, "type": kind, "livemode": True,
                    "request": {"id": None, "idempotency_key": None}, "data": {"object": thing} | ({"previous_attributes": previous[0]} if previous else {})}  # fmt: skip
            answer = deliver(body)
            assert answer.status_code == 202, answer.content
        project(tenant, now=now)
        generation = ProjectionState.objects.get(tenant=tenant, is_current=True).generation
        lines = Charge.objects.filter(tenant=tenant, generation=generation)
        return {line.charge: (int(line.spent), int(line.at_most), int(line.returned), _open(line)) for line in lines}

    def _open(line):
        last = 1_795_000_000 + 60 * next(numbers)
        return int(line.held) if line.held and line.held_until.timestamp() > last else 0

    def deliver(body):
        raw = json.dumps(body).encode()
        header = f"t=1,v1={stripe.WebhookSignature._compute_signature('1.' + raw.decode(), secret)}"
        return post(tenant, row.name, Delivery(raw, "application/json", {"stripe-signature": header}))

    tell.deliver = deliver
    return tell


def spent(lines):
    return (
        sum(line[0] for line in lines.values()),
        sum(line[1] for line in lines.values()),
        sum(line[3] for line in lines.values()),
    )


@pytest.mark.parametrize("kind", ["refund.updated", "charge.refund.updated", "refund.failed"])
@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_failed_later_is_spent_again(told, kind, status):
    refunded = ("charge.refunded", CHARGE | {"amount_refunded": 2000, "refunded": True}, {"amount_refunded": 0})

    assert spent(told(("charge.succeeded", CHARGE), refunded)) == (0, 0, 0)
    assert spent(told((kind, REFUND | {"status": status}))) == (2000, 2000, 0)


def test_one_failed_refund_told_three_times_takes_back_one(told):
    part = CHARGE | {"amount_refunded": 500}
    first = [
        ("charge.succeeded", CHARGE),
        ("charge.refunded", part, {"amount_refunded": 0}),
        ("charge.refunded", part | {"amount_refunded": 1000}, {"amount_refunded": 500}),
    ]

    failed = REFUND | {"amount": 500, "status": "failed"}
    lines = told(*first, ("refund.failed", failed), ("refund.updated", failed), ("charge.refund.updated", failed))

    assert lines["ch_1"][:3] == (1500, 1500, 500)


def test_a_refund_that_was_never_told_of_and_failed_takes_nothing(told):
    assert told(("charge.succeeded", CHARGE), ("refund.failed", REFUND | {"status": "failed"}))["ch_1"][:3] == (
        2000,
        2000,
        0,
    )


def test_a_pending_refund_is_pending_and_counts_as_the_charge_says(told):
    assert told(("charge.succeeded", CHARGE), ("refund.created", REFUND | {"status": "pending"}))["ch_1"][:3] == (
        2000,
        2000,
        0,
    )


@pytest.mark.parametrize(
    ("version", "refunded", "captured", "left"),
    [
        (OLDER, 300, 700, 700),  # the rest of the authorization, given back as a refund
        (OLDER, 500, 700, 500),  # and 2.00 of what was taken
        (BASIL, 200, 700, 500),  # since then a refund is always of what was taken
        (OLDER, 1000, 700, 0),
        (None, 300, 700, 700),  # a version that says nothing is an old one
        (7, 300, 700, 700),
        ("unversioned", 300, 700, 700),
    ],
)
def test_what_was_never_captured_is_no_refund_of_what_was(told, version, refunded, captured, left):
    after = HOLD | {"captured": True, "amount_captured": captured}
    lines = told(("charge.succeeded", HOLD), ("charge.captured", after | {"amount_refunded": 0 if version == BASIL else 300}),
                 ("charge.refunded", after | {"amount_refunded": refunded}, {"amount_refunded": 0}), version=version)  # fmt: skip

    assert spent(lines) == (left, left, 0)


def test_a_capture_from_before_amount_captured_is_what_was_not_given_back(told):
    old = {k: v for k, v in HOLD.items() if k != "amount_captured"}
    after = old | {"captured": True, "amount_refunded": 300}

    assert spent(
        told(
            ("charge.succeeded", old),
            ("charge.captured", after),
            ("charge.refunded", after, {"captured": False, "amount_refunded": 0}),
            version=OLDEST,
        )
    ) == (700, 700, 0)


@pytest.mark.parametrize(
    ("end", "version"),
    [
        (("payment_intent.canceled", INTENT | {"amount": 1000, "amount_received": 0, "status": "canceled"}), BASIL),
        (("charge.refunded", HOLD | {"amount_refunded": 1000, "refunded": True}, {"amount_refunded": 0}), OLDER),
        (("charge.expired", HOLD), CLOVER),
    ],
)
def test_an_authorization_that_was_given_up_holds_and_costs_nothing(told, end, version):
    assert spent(told(("charge.succeeded", HOLD), version=version)) == (0, 0, 1000)
    assert spent(told(end, version=version)) == (0, 0, 0)


def test_a_payment_intent_that_failed_and_was_cancelled_released_nothing(told):
    failed = INTENT | {"status": "canceled", "last_payment_error": {"code": "card_declined"}}

    assert told(("charge.failed", CHARGE | {"status": "failed"}), ("payment_intent.canceled", failed)) == {}


def test_a_payment_intent_of_before_latest_charge_is_the_charge_in_its_list(told):
    old = {k: v for k, v in INTENT.items() if k != "latest_charge"} | {
        "charges": {"data": [CHARGE | {"id": "ch_0", "status": "failed"}, CHARGE]}
    }

    assert spent(told(("charge.succeeded", CHARGE), ("payment_intent.succeeded", old), version=OLDEST)) == (
        2000,
        2000,
        0,
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_an_invoice_since_basil_finds_its_charge_by_the_payment_intent(told, order):
    events = [
        ("charge.succeeded", CHARGE), ("payment_intent.succeeded", INTENT),
        ("invoice.paid", {"id": "in_1", "object": "invoice", "amount_paid": 2000, "total": 2000, "currency": "usd", "status": "paid"}),
        ("invoice_payment.paid", {"id": "inpay_1", "object": "invoice_payment", "amount_paid": 2000, "currency": "usd", "invoice": "in_1",
                                  "payment": {"type": "payment_intent", "payment_intent": "pi_1"}, "status": "paid"}),
    ]  # fmt: skip

    assert spent(told(*(events[n] for n in order))) == (2000, 2000, 0)


def test_an_invoice_paid_in_two_payments_is_both(told):
    def paid(n, amount):
        yield (
            "charge.succeeded",
            CHARGE | {"id": f"ch_{n}", "amount": amount, "amount_captured": amount, "payment_intent": f"pi_{n}"},
        )
        yield "invoice_payment.paid", {"id": f"inpay_{n}", "object": "invoice_payment", "amount_paid": amount, "currency": "usd", "invoice": "in_1",
                                       "payment": {"type": "payment_intent", "payment_intent": f"pi_{n}"}}  # fmt: skip

    invoice = {
        "id": "in_1",
        "object": "invoice",
        "amount_paid": 2000,
        "total": 2000,
        "currency": "usd",
        "status": "paid",
    }
    assert spent(told(*paid(1, 1200), *paid(2, 800), ("invoice.paid", invoice))) == (2000, 2000, 0)


def test_a_voided_invoice_is_owed_no_more(told):
    invoice = {
        "id": "in_1",
        "object": "invoice",
        "amount_due": 2000,
        "total": 2000,
        "currency": "usd",
        "status": "open",
    }

    assert spent(told(("invoice.finalized", invoice))) == (2000, 2000, 0)
    assert spent(told(("invoice.voided", invoice | {"status": "void"}))) == (0, 0, 0)


def test_a_draft_is_no_bill_yet(told):
    assert (
        told(
            (
                "invoice.created",
                {
                    "id": "in_1",
                    "object": "invoice",
                    "amount_due": 2000,
                    "total": 2000,
                    "currency": "usd",
                    "status": "draft",
                },
            )
        )
        == {}
    )


def test_captures_of_one_authorization_add_up_and_end_its_hold(told):
    assert spent(told(("issuing_authorization.created", AUTHORIZATION))) == (0, 0, 1000)
    lines = told(
        ("issuing_transaction.created", CAPTURE),
        ("issuing_transaction.created", CAPTURE | {"id": "ipi_2", "amount": -600}),
    )

    assert spent(lines) == (1000, 1000, 0) and lines["ipi_1"][0] == 400 and lines["ipi_2"][0] == 600


def test_a_refund_under_the_authorization_is_of_its_captures(told):
    back = CAPTURE | {"id": "ipi_3", "type": "refund", "amount": 150}

    assert spent(
        told(
            ("issuing_authorization.created", AUTHORIZATION),
            ("issuing_transaction.created", CAPTURE),
            ("issuing_transaction.created", back),
        )
    )[:2] == (250, 250)


def test_a_refund_that_names_no_authorization_is_shown_and_taken_off_nothing(told):
    lines = told(
        ("issuing_transaction.created", CAPTURE),
        (
            "issuing_transaction.created",
            CAPTURE | {"id": "ipi_3", "type": "refund", "amount": 150, "authorization": None},
        ),
    )

    assert lines["ipi_1"][:3] == (400, 400, 0) and lines["ipi_3"][:3] == (0, 0, 150)


def test_a_partial_reversal_holds_what_is_left_and_a_whole_one_nothing(told):
    told(("issuing_authorization.created", AUTHORIZATION))
    assert spent(told(("issuing_authorization.updated", AUTHORIZATION | {"amount": 600}, {"amount": 1000}))) == (
        0,
        0,
        600,
    )
    assert spent(
        told(
            (
                "issuing_authorization.updated",
                AUTHORIZATION | {"amount": 0, "status": "reversed"},
                {"amount": 600, "status": "pending"},
            )
        )
    ) == (0, 0, 0)


@pytest.mark.parametrize("status", ["reversed", "closed", "expired"])
def test_the_end_of_an_authorization_takes_nothing_of_what_was_captured(told, status):
    told(("issuing_authorization.created", AUTHORIZATION), ("issuing_transaction.created", CAPTURE))

    assert spent(
        told(
            (
                "issuing_authorization.updated",
                AUTHORIZATION | {"status": status, "transactions": [{"id": "ipi_1"}]},
                {"status": "pending"},
            )
        )
    ) == (400, 400, 0)


def test_one_event_in_two_versions_is_one_event(told, tenant):
    """A second endpoint at the same address, while the webhook's version is upgraded."""
    event = {
        "id": "evt_same",
        "object": "event",
        "created": 1_795_000_000,
        "type": "charge.succeeded",
        "livemode": True,
    }
    first = told.deliver(event | {"api_version": OLDER, "data": {"object": CHARGE | {"invoice": "in_1"}}})
    second = told.deliver(event | {"api_version": CLOVER, "data": {"object": CHARGE}})

    assert (first.status_code, second.status_code) == (202, 202) and first["Location"] == second["Location"]
    assert Leaf.objects.filter(tenant=tenant, event_id__isnull=False).count() == 1


@pytest.mark.parametrize("changes", [{"amount": 9900}, {"status": "failed"}, {"currency": "eur"}, {"id": "ch_2"}])
def test_another_amount_in_another_version_is_a_conflict_all_the_same(told, changes):
    event = {
        "id": "evt_same",
        "object": "event",
        "created": 1_795_000_000,
        "type": "charge.succeeded",
        "livemode": True,
    }
    told.deliver(event | {"api_version": OLDER, "data": {"object": CHARGE}})

    assert told.deliver(event | {"api_version": CLOVER, "data": {"object": CHARGE | changes}}).status_code == 409
    assert (
        told.deliver(event | {"api_version": OLDER, "data": {"object": CHARGE | {"invoice": "in_9"}}}).status_code
        == 409
    )  # the same version


DISPUTE = {"id": "du_1", "object": "dispute", "amount": 2000, "currency": "usd", "charge": "ch_1", "payment_intent": "pi_1", "status": "needs_response"}  # fmt: skip
CARD_DISPUTE = {"id": "idp_1", "object": "issuing.dispute", "amount": 400, "currency": "usd", "status": "submitted", "transaction": "ipi_1"}  # fmt: skip
INVOICE = {"id": "in_1", "object": "invoice", "currency": "usd", "total": 2000, "amount_due": 2000, "amount_paid": 0, "status": "open"}  # fmt: skip
NOTE = {"id": "cn_1", "object": "credit_note", "amount": 500, "currency": "usd", "invoice": "in_1", "status": "issued", "type": "pre_payment"}  # fmt: skip


def test_a_dispute_gives_the_charge_back_until_it_is_won(told):
    """docs.stripe.com/api/disputes/object: it carries the disputed amount, its currency and its charge."""
    opened = ("charge.dispute.created", DISPUTE)

    assert spent(told(("charge.succeeded", CHARGE), opened)) == (2000, 2000, 0)
    assert spent(told(("charge.dispute.funds_withdrawn", DISPUTE))) == (0, 0, 0)
    assert spent(told(("charge.dispute.closed", DISPUTE | {"status": "lost"}))) == (0, 0, 0)
    assert spent(told(("charge.dispute.funds_reinstated", DISPUTE | {"status": "won"}))) == (2000, 2000, 0)


def test_a_dispute_of_an_issued_card_gives_back_when_funds_are_reinstated(told):
    """docs.stripe.com/issuing/purchases/disputes: the account is the cardholder's, so the funds run the other way."""
    told(("issuing_transaction.created", CAPTURE), ("issuing_dispute.created", CARD_DISPUTE))

    assert spent(told(("issuing_dispute.funds_reinstated", CARD_DISPUTE | {"status": "won"}))) == (0, 0, 0)
    assert spent(told(("issuing_dispute.funds_rescinded", CARD_DISPUTE | {"status": "lost"}))) == (400, 400, 0)


def test_a_credit_note_lowers_what_is_owed_and_a_voided_one_does_not(told):
    assert spent(told(("invoice.finalized", INVOICE), ("credit_note.created", NOTE))) == (1500, 1500, 0)
    assert spent(told(("credit_note.voided", NOTE | {"status": "void"}))) == (2000, 2000, 0)


@pytest.mark.parametrize("split", [{"pre_payment_amount": 0, "post_payment_amount": 500}, {"type": "post_payment"}])
def test_a_credit_note_after_payment_lowers_nothing_by_itself(told, split):
    assert spent(told(("invoice.finalized", INVOICE), ("credit_note.created", NOTE | split))) == (2000, 2000, 0)


@pytest.mark.parametrize("owed", [
    ({"total": 2000, "amount_due": 0, "starting_balance": -2000}, 0),
    ({"total": 2000, "amount_due": 1500, "starting_balance": -500}, 1500),
    ({"total": -500, "amount_due": 0}, 0),
    ({"total": -500, "amount_due": None}, 0),
])  # fmt: skip
def test_an_invoice_bills_what_is_due_and_not_what_the_customers_balance_pays(told, owed):
    """docs.stripe.com/api/invoices/object: `amount_due` is what is left after the balance; below zero nothing is due."""
    invoice, due = INVOICE | owed[0], owed[1]

    assert spent(told(("invoice.finalized", invoice))) == (due, due, 0)
    assert spent(told(("invoice.paid", invoice | {"amount_paid": due, "status": "paid"}))) == (due, due, 0)


@pytest.mark.parametrize("ended", [
    (AUTHORIZATION | {"status": "expired"}, {"status": "pending"}),
    (AUTHORIZATION | {"amount": 0, "status": "reversed"}, {"amount": 1000, "status": "pending"}),
])  # fmt: skip
def test_what_is_captured_after_an_authorization_ended_is_spent(told, ended):
    """docs.stripe.com/issuing/purchases/transactions: a merchant may capture late, and the transaction is the charge."""
    assert spent(told(("issuing_authorization.created", AUTHORIZATION), ("issuing_authorization.updated", *ended))) == (
        0,
        0,
        0,
    )
    lines = told(("issuing_transaction.created", CAPTURE | {"amount": -1000}))

    assert spent(lines) == (1000, 1000, 0) and lines["ipi_1"][2] == 0


@pytest.mark.parametrize(
    ("livemode", "counted"), [(True, 2000), (None, 2000), ("true", 2000), (False, 0), ("false", 0), (0, 0)]
)
def test_test_money_is_not_counted_however_it_says_so(told, livemode, counted):
    event = {"id": "evt_x", "object": "event", "api_version": CLOVER, "created": 1_795_000_000, "type": "charge.succeeded", "livemode": livemode,
             "data": {"object": CHARGE}}  # fmt: skip

    assert told.deliver(event).status_code == 202
    assert spent(told()) == (counted, counted, 0)


@pytest.mark.parametrize(("version", "before", "after"), [
    ("2018-11-08", ("payment_intent.created", INTENT | {"status": "requires_source"}), {"status": "requires_payment_method"}),
    ("2018-11-08", ("payment_intent.requires_action", INTENT | {"status": "requires_source_action"}), {"status": "requires_action"}),
    ("2014-01-31", ("charge.succeeded", CHARGE | {"status": "paid"}), {"status": "succeeded"}),
    ("2016-07-06", ("transfer.paid", {"id": "tr_1", "object": "transfer", "amount": 5}), {"object": "payout"}),
])  # fmt: skip
def test_what_older_versions_called_otherwise_is_one_event(told, tenant, version, before, after):
    kind, thing = before
    event = {"id": "evt_1", "object": "event", "created": 1_795_000_000, "type": kind, "livemode": True}

    assert told.deliver(event | {"api_version": version, "data": {"object": thing}}).status_code == 202
    assert told.deliver(event | {"api_version": CLOVER, "data": {"object": thing | after}}).status_code == 202


@pytest.mark.parametrize(("kind", "thing", "changed"), [
    ("invoice.finalized", INVOICE, {"total": 1}), ("invoice.finalized", INVOICE, {"amount_due": 1}),
    ("payment_intent.amount_capturable_updated", INTENT | {"amount_capturable": 5}, {"amount_capturable": 1}),
    ("charge.succeeded", CHARGE | {"customer": "cus_1"}, {"customer": "cus_2"}),
    ("issuing_transaction.created", CAPTURE, {"type": "refund"}),
])  # fmt: skip
def test_other_money_in_another_version_is_no_rendering(told, kind, thing, changed):
    event = {"id": "evt_1", "object": "event", "created": 1_795_000_000, "type": kind, "livemode": True}

    assert told.deliver(event | {"api_version": OLDER, "data": {"object": thing}}).status_code == 202
    assert told.deliver(event | {"api_version": CLOVER, "data": {"object": thing | changed}}).status_code == 409


def test_another_amount_before_the_change_is_no_rendering(told):
    event = {"id": "evt_1", "object": "event", "created": 1_795_000_000, "type": "charge.refunded", "livemode": True}

    def data(before):
        return {
            "data": {"object": CHARGE | {"amount_refunded": 900}, "previous_attributes": {"amount_refunded": before}}
        }

    assert told.deliver(event | {"api_version": OLDER} | data(0)).status_code == 202
    assert told.deliver(event | {"api_version": CLOVER} | data(500)).status_code == 409


def test_the_account_under_its_older_name_is_the_same_account(told):
    event = {"id": "evt_1", "object": "event", "created": 1_795_000_000, "type": "charge.succeeded", "livemode": True, "data": {"object": CHARGE}}  # fmt: skip

    assert told.deliver(event | {"api_version": "2016-07-06", "user_id": "acct_1"}).status_code == 202
    assert told.deliver(event | {"api_version": CLOVER, "account": "acct_1"}).status_code == 202
    assert told.deliver(event | {"api_version": OLDER, "account": "acct_2"}).status_code == 409
