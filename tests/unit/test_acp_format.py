"""ACP: the specification's orders and delegated payment, its signature, and no card number in the ledger."""

import copy
import json

import pytest

from auditlog.core.errors import Refused
from auditlog.core.wire.redaction import payment_token
from auditlog.formats import Delivery, acp
from tests import vectors
from tests.deliveries import ACP_ORDER, event_in, merchant_signed, received, sender_of, timestamped_mac, with_token

ORDERS = ["simple-order", "shipped-order", "partial-fulfillment", "digital-fulfillment", "refunded-order"]


def push(message, deliver=merchant_signed):
    [statement] = received("acp", message, deliver=deliver).values()
    return statement


def refusal(message, deliver=merchant_signed):
    with pytest.raises(Refused) as caught:
        push(message, deliver)
    return caught.value


def order(name, kind="order_update"):
    return {"type": kind, "data": vectors.read(f"acp/{name}.json")}


def delegated(**changes):
    examples = vectors.read("acp/examples.delegate_payment.json")
    request = examples["delegate_payment_request"]
    for name in ("number", "cvc"):
        request["payment_method"].pop(name)
    return {"type": "delegate_payment", "idempotency_key": "idem_1",
            "data": {"request": request, "response": examples["delegate_payment_success_response"]} | changes}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("kind", ["order_create", "order_update"])
def test_the_specifications_orders_are_read(name, kind):
    made = order(name, kind)
    statement = push(made)

    assert (statement.grade, statement.key) == ("C", "acp-merchant-secret")
    assert statement.event.payload.action.target.id == made["data"]["id"]
    assert statement.event.payload.session == made["data"]["checkout_session_id"]
    assert statement.event.occurred_at.timestamp() == 1_795_000_000  # the signature's time: the order names none
    assert statement.event.type == (
        "payment.refunded" if (name, kind) == ("refunded-order", "order_update") else "action.performed"
    )


def test_a_refund_on_an_order_has_its_amount_under_its_own_id():
    money = push(order("refunded-order")).event.payload.money

    assert (money.phase, money.amount_minor, money.currency, money.charge) == ("refunded", 32516, "USD", "adj_refund_1")


def test_an_orders_total_is_a_quote_and_never_a_charge():
    money = push(ACP_ORDER).event.payload.money

    assert (money.phase, money.amount_minor, money.currency) == ("quoted", 10766, "USD")
    assert push(order("shipped-order")).event.payload.money is None  # no currency is said, so none is assumed


@pytest.mark.parametrize(
    ("adjustment", "native", "outcome"),
    [
        ({"type": "dispute", "status": "pending"}, "dispute.opened", "success"),
        ({"type": "dispute", "status": "completed"}, "dispute.closed", "success"),
        ({"type": "cancellation", "status": "pending"}, "payment.refunded", "pending"),
        ({"type": "refund", "status": "failed", "amount": 5, "currency": "usd"}, "payment.refunded", "failure"),
        ({"type": "exchange", "status": "completed"}, "action.performed", "success"),
    ],
)
def test_the_latest_adjustment_gives_the_type(adjustment, native, outcome):
    earlier = {"id": "a0", "type": "refund", "status": "completed", "occurred_at": "2026-01-01T00:00:00Z"}
    made = copy.deepcopy(ACP_ORDER) | {"type": "order_update"}
    made["data"]["adjustments"] = [earlier, adjustment | {"id": "a1", "occurred_at": "2026-02-01T00:00:00Z"}, earlier]

    event = push(made).event

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_the_specifications_delegated_payment_is_refused_with_its_card_number():
    examples = vectors.read("acp/examples.delegate_payment.json")
    body = {"type": "delegate_payment", "data": {"request": examples["delegate_payment_request"], "response": None}}

    refused = refusal(body)

    assert "card number" in str(refused) and "4242" not in str(refused)


def test_without_the_number_it_is_a_ceiling_and_its_token_is_a_digest():
    statement = push(delegated())
    event, money = statement.event, statement.event.payload.money

    assert b"vt_01J8Z3WXYZ9ABC" not in statement.raw and statement.grade == "D"
    assert (event.type, event.payload.outcome) == ("payment.authority_granted", "success")
    assert (money.phase, money.amount_minor, money.currency, money.authority) == (
        "ceiling",
        2000,
        "USD",
        payment_token("vt_01J8Z3WXYZ9ABC"),
    )
    assert (event.payload.session, event.payload.action.account, event.payload.call.idempotency_key) == (
        "csn_01HV3P3XYZ9ABC",
        "acme_store",
        "idem_1",
    )
    assert event.occurred_at.isoformat() == "2025-09-29T11:00:00+00:00"


def test_a_security_code_is_never_stored():
    made = delegated()
    made["data"]["request"]["payment_method"]["cvc"] = "223"

    assert b'"223"' not in push(made).raw


def test_a_refused_delegation_is_a_failure_without_money():
    answer = vectors.read("acp/examples.delegate_payment.json")["delegate_payment_error_idempotency_conflict"]
    event = push(delegated(response=answer)).event

    assert (event.type, event.payload.outcome, event.payload.call.error, event.payload.money) == (
        "payment.failed",
        "failure",
        "idempotency_conflict",
        None,
    )


def test_a_redelivery_signed_afresh_is_the_same_statement():
    first = push(ACP_ORDER)
    again = push(
        ACP_ORDER,
        lambda raw: Delivery(raw, "application/json", {"merchant-signature": timestamped_mac(raw, at=1_795_000_999)}),
    )

    assert first.source_event_id == again.source_event_id
    assert acp.content(first.raw, first.headers) == acp.content(again.raw, again.headers)


def test_the_signature_is_checked_and_the_stored_bytes_verify_again():
    statement = push(ACP_ORDER)
    acp.receive(Delivery(statement.raw, "application/json", json.loads(statement.headers)), sender_of("acp"))

    assert (
        refusal(
            ACP_ORDER,
            lambda raw: Delivery(raw + b" ", "application/json", {"merchant-signature": timestamped_mac(raw)}),
        ).err
        == "authentication_failed"
    )
    assert refusal(ACP_ORDER, lambda raw: Delivery(raw, "application/json", {})).err == "authentication_failed"


def test_a_recorder_with_a_static_token_is_grade_d_and_without_a_time_dated_by_its_arrival():
    made = ACP_ORDER | {"at": "2026-11-20T10:30:00Z"}

    assert push(made, with_token).grade == "D"
    assert not push(ACP_ORDER, with_token).event.dated
    assert push(ACP_ORDER, lambda raw: with_token(raw, timestamp="2026-11-20T10:30:00Z")).event.occurred_at.year == 2026


def test_an_unknown_type_is_kept_under_its_source():
    assert (
        event_in("acp", {"type": "intent_trace", "data": {}}, deliver=merchant_signed).type == "other.acp.intent_trace"
    )


@pytest.mark.parametrize(
    "message",
    [{"type": "order_create"}, {"type": 5, "data": {}}, {"type": "order_create", "data": {}}, {"type": "delegate_payment", "data": {}},
     {"type": "delegate_payment", "data": {"request": {"allowance": {"max_amount": 1.5, "currency": "usd"}}}},
     {"type": "delegate_payment", "data": {"request": {"allowance": {"max_amount": -1, "currency": "usd"}}}}],
)  # fmt: skip
def test_messages_of_wrong_types_are_refused(message):
    assert refusal(message).err == "invalid_request"


def test_a_header_that_nobody_signed_does_not_say_when_it_happened():
    def deliver(raw):
        return Delivery(
            raw, "application/json", {"merchant-signature": timestamped_mac(raw), "timestamp": "2001-01-01T00:00:00Z"}
        )

    assert push(ACP_ORDER, deliver).event.occurred_at.timestamp() == 1_795_000_000


@pytest.mark.parametrize("kind", ["order_create", "order_update"])
def test_an_order_of_the_older_versions_is_known_by_its_checkout_session(kind):
    order = {"type": "order", "checkout_session_id": "cs_123", "permalink_url": "https://example.com/orders/123", "status": "shipped",
             "refunds": [{"type": "original_payment", "amount": 100}]}  # fmt: skip
    event = push({"type": kind, "data": order}).event

    assert event.payload.session == "cs_123" and event.payload.action.target.id == "cs_123"
    assert event.type == "action.performed" and event.payload.money is None


def test_a_recorded_payment_without_a_time_is_dated_by_its_arrival():
    recorded = {
        "type": "delegate_payment",
        "data": {"request": {"allowance": {"max_amount": 5, "currency": "usd"}}, "response": {"id": "vt_1"}},
    }

    assert not push(recorded, with_token).event.dated


@pytest.mark.parametrize("amount", [25.5, {"v": 1}, "many"])
def test_an_amount_that_is_no_integer_leaves_the_order_without_money(amount):
    order = ACP_ORDER["data"] | {"currency": "usd", "totals": [{"type": "total", "amount": amount}], "adjustments": []}
    refund = {
        "id": "a1",
        "type": "refund",
        "status": "completed",
        "amount": amount,
        "currency": "usd",
        "occurred_at": "2026-02-01T00:00:00Z",
    }

    assert push({"type": "order_create", "data": order}).event.payload.money is None
    assert push({"type": "order_update", "data": order | {"adjustments": [refund]}}).event.payload.money is None


@pytest.mark.parametrize(
    ("status", "native", "outcome"),
    [
        ("failed", "dispute.closed", "failure"),
        ("next_year", "dispute.updated", "unknown"),
        (None, "dispute.updated", "unknown"),
    ],
)
def test_a_dispute_that_failed_or_says_what_we_do_not_know_is_no_success(status, native, outcome):
    dispute = {"id": "a1", "type": "dispute", "status": status, "occurred_at": "2026-02-01T00:00:00Z"}
    event = push({"type": "order_update", "data": ACP_ORDER["data"] | {"adjustments": [dispute]}}).event

    assert (event.type, event.payload.outcome) == (native, outcome)


@pytest.mark.parametrize(
    "answer", [{"type": "service_unavailable", "message": "later"}, {"message": "later"}, {"error": "x"}]
)
def test_an_answer_without_a_token_that_says_what_went_wrong_is_a_failure(answer):
    body = {
        "type": "delegate_payment",
        "data": {"request": {"allowance": {"max_amount": 2000, "currency": "usd"}}, "response": answer},
    }

    event = push(body).event

    assert (event.type, event.payload.outcome, event.payload.money) == ("payment.failed", "failure", None)


@pytest.mark.parametrize(
    "more",
    [
        {"order_number": "303-1234567-1234564"},
        {"fulfillments": [{"id": "f", "type": "shipping", "tracking_number": "612999984720303"}]},
    ],
)
def test_an_orders_own_number_and_its_parcels_are_no_card(more):
    assert push({"type": "order_update", "data": ACP_ORDER["data"] | more}).event.type
