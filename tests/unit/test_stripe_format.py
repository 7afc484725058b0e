"""Stripe webhooks, signed by the official library and around Stripe's own published objects."""

import json
import time

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import Refused
from auditlog.formats import Delivery, Sender
from auditlog.formats import stripe as webhooks
from tests import vectors

SECRET = "whsec_dGVzdA"
SENDER = Sender("default", "stripe", "https://stripe.example", secret=lambda: SECRET.encode())


def fixture(name):
    return vectors.read("stripe/fixtures3.json")["resources"][name]


def body_of(event_type, thing, **more):
    event = {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-04-22",
        "created": 1_795_000_000,
        "type": event_type,
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": "req_1", "idempotency_key": "key-1"},
        "data": {"object": thing},
    } | more
    return json.dumps(event).encode()


def signature(body, secret=SECRET, at=None):
    at = at or int(time.time())
    made = stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", secret)
    return f"t={at},v1={made}"


def receive(body, header=None, sender=SENDER, content_type="application/json"):
    header = signature(body) if header is None else header
    [statement] = webhooks.receive(
        Delivery(body, content_type, {"stripe-signature": header}), sender
    ).statements.values()
    return statement


def refusal(*args, **kwargs):
    with pytest.raises(Refused) as caught:
        receive(*args, **kwargs)
    return caught.value


CHARGE = {"id": "ch_1", "object": "charge", "amount": 1200, "amount_captured": 1200, "amount_refunded": 0, "captured": True,
          "currency": "usd", "invoice": "in_1"}  # fmt: skip


def test_what_the_official_library_signs_and_verifies_is_taken():
    body = body_of("charge.succeeded", CHARGE)
    header = signature(body)
    assert stripe.Webhook.construct_event(body, header, SECRET)["id"] == "evt_1"

    event = receive(body, header).event

    money = event.payload.money
    assert (event.type, money.amount_minor, money.currency, money.phase) == (
        "payment.captured",
        1200,
        "USD",
        "captured",
    )
    assert (money.rail, money.charge, money.invoice) == ("stripe", "ch_1", "in_1")
    assert (event.payload.request_id, event.payload.call.idempotency_key) == ("req_1", "key-1")


def test_any_matching_v1_will_do_and_other_schemes_do_not_count():
    body = body_of("charge.succeeded", CHARGE)
    good = signature(body)
    time_part, v1 = good.split(",")

    receive(body, f"{time_part},v0=abc,v1={'0' * 64},{v1}")
    assert refusal(body, good.replace("v1=", "v0=")).err == "authentication_failed"


def test_the_secret_is_used_as_given_and_not_decoded():
    body = body_of("charge.succeeded", CHARGE)

    assert refusal(body, signature(body, secret="dGVzdA")).err == "authentication_failed"


@pytest.mark.parametrize("header", ["", "t=1", "v1=abc", "t=x,v1=abc", "garbage", "t=1,v1=é"])
def test_headers_that_are_no_signature_are_refused(header):
    assert refusal(body_of("charge.succeeded", CHARGE), header).err == "authentication_failed"


def test_a_changed_amount_is_refused():
    body = body_of("charge.succeeded", CHARGE)

    assert refusal(body.replace(b"1200", b"9900"), signature(body)).err == "authentication_failed"


def test_a_late_delivery_is_evidence_too():
    body = body_of("charge.succeeded", CHARGE)

    assert receive(body, signature(body, at=1_600_000_000)).source_event_id == "evt_1"


def test_without_its_secret_the_source_takes_nothing():
    sender = Sender("default", "stripe", "https://stripe.example", secret=lambda: None)

    assert refusal(body_of("charge.succeeded", CHARGE), sender=sender).err == "invalid_key"


def test_only_json_is_taken():
    assert "application/json" in str(refusal(body_of("charge.succeeded", CHARGE), content_type="text/plain"))


def test_a_retry_that_counts_its_webhooks_down_is_the_same_content():
    first = body_of("charge.succeeded", CHARGE)
    again = body_of("charge.succeeded", CHARGE, pending_webhooks=0)

    assert webhooks.content(first, b"") == webhooks.content(again, b"")
    assert webhooks.content(first, b"") != webhooks.content(first.replace(b"1200", b"1300"), b"")


def test_test_mode_is_marked_and_zero_decimal_amounts_pass_through():
    event = receive(body_of("charge.succeeded", CHARGE | {"currency": "jpy"}, livemode=False)).event

    assert event.payload.environment == "test"
    assert (event.payload.money.amount_minor, event.payload.money.currency) == (1200, "JPY")


def test_an_uncaptured_charge_holds_its_amount():
    thing = CHARGE | {"captured": False, "amount_captured": 0}

    money = receive(body_of("charge.succeeded", thing)).event.payload.money

    assert (money.phase, money.amount_minor) == ("authorized", 1200)


def test_a_refund_counts_what_is_new_in_it():
    thing = CHARGE | {"amount_refunded": 900}
    body = body_of("charge.refunded", thing, data={"object": thing, "previous_attributes": {"amount_refunded": 500}})

    assert receive(body).event.payload.money.amount_minor == 400


def test_one_refund_told_twice_is_money_once():
    refund = {"id": "re_1", "object": "refund", "amount": 400, "currency": "usd", "charge": "ch_1"}

    event = receive(body_of("refund.created", refund)).event

    assert event.type == "payment.refunded" and event.payload.money is None


def test_an_amount_that_is_no_integer_is_refused():
    assert refusal(body_of("charge.succeeded", CHARGE | {"amount_captured": 12.5})).err == "invalid_request"


def test_a_type_we_do_not_know_is_kept_under_its_source():
    event = receive(body_of("tax_rate.created", {"id": "txr_1", "object": "tax_rate"})).event

    assert (event.type, event.payload.outcome) == ("other.stripe.tax_rate.created", "unknown")


@pytest.mark.parametrize(
    ("event_type", "resource", "native"),
    [
        ("charge.succeeded", "charge", "payment.authorized"),
        ("charge.failed", "charge", "payment.failed"),
        ("payment_intent.succeeded", "payment_intent", "payment.captured"),
        ("payment_intent.payment_failed", "payment_intent", "payment.failed"),
        ("invoice.paid", "invoice", "invoice.paid"),
        ("invoice.payment_failed", "invoice", "invoice.failed"),
        ("customer.subscription.created", "subscription", "subscription.started"),
        ("customer.subscription.deleted", "subscription", "subscription.ended"),
        ("charge.dispute.created", "dispute", "dispute.opened"),
        ("charge.dispute.closed", "dispute", "dispute.closed"),
        ("issuing_authorization.created", "issuing.authorization", "payment.authorized"),
        ("issuing_transaction.created", "issuing.transaction", "payment.captured"),
        ("refund.created", "refund", "payment.refunded"),
    ],
)
def test_stripes_own_published_objects_are_read(event_type, resource, native):
    thing = fixture(resource)

    event = receive(body_of(event_type, thing)).event

    assert event.type == native
    assert event.payload.action.target.id == thing["id"]
    if event.payload.money:
        assert event.payload.money.currency == thing["currency"].upper()
        assert event.payload.money.amount_minor >= 0


def test_every_published_object_passes_under_some_type():
    for name, thing in vectors.read("stripe/fixtures3.json")["resources"].items():
        receive(body_of(f"{name}.created", thing))


THIN = {
    "id": "evt_2",
    "object": "v2.core.event",
    "type": "v2.core.approval_request.approved",
    "created": "2026-11-20T10:30:00.123Z",
    "livemode": False,
    "context": "acct_7",
    "related_object": {
        "id": "apreq_1",
        "type": "v2.core.approval_request",
        "url": "/v2/core/approval_requests/apreq_1",
    },
    "reason": {"type": "request", "request": {"id": "req_9", "idempotency_key": "key-9"}},
}


def preview(name):
    return vectors.read("stripe/fixtures3.private_preview.json")["resources"][name]


def test_a_thin_event_names_its_object_request_and_account():
    event = receive(json.dumps(THIN).encode()).event

    assert (event.type, event.payload.outcome, event.payload.environment) == ("approval.decided", "success", "test")
    assert (event.payload.action.target.id, event.payload.action.account) == ("apreq_1", "acct_7")
    assert (event.payload.request_id, event.payload.call.idempotency_key) == ("apreq_1", "key-9")
    assert event.occurred_at.isoformat() == "2026-11-20T10:30:00.123000+00:00"


def test_a_v1_type_in_thin_form_has_its_meaning_and_no_money():
    event = receive(
        json.dumps(THIN | {"type": "v1.charge.succeeded", "related_object": {"id": "ch_1", "type": "charge"}}).encode()
    ).event

    assert event.type == "payment.captured" and event.payload.money is None and event.payload.action.target.id == "ch_1"


@pytest.mark.parametrize(
    ("said", "actor", "kind"),
    [
        ({"type": "api_key", "api_key": {"id": "mk_1"}}, "mk_1", "workload"),
        (
            {"type": "dashboard_user", "dashboard_user": {"email": "ada@acme.example", "ip_address": "203.0.113.7"}},
            "ada@acme.example",
            "human",
        ),
        ({"type": "stripe_action"}, "stripe_action", "service"),
    ],
)
def test_a_fetched_event_says_who_did_it_and_stands_beside_the_thin_one(said, actor, kind):
    body = json.dumps(THIN | {"data": {"x": 1}, "reason": {"request": {"id": "req_9", "client": said}}}).encode()

    statement = webhooks.fetched(body, {"event": "evt_2", "context": ""}, SENDER)

    assert (statement.grade, statement.source_event_id) == ("E", "evt_2#fetched")
    assert (statement.event.payload.actor.sub, statement.event.payload.actor.kind) == (actor, kind)
    assert webhooks.parse(statement.raw, statement.headers, SENDER) == statement.event


def test_a_shared_payment_token_is_kept_as_its_digest_and_its_limit_is_a_ceiling():
    from auditlog.core.wire.redaction import payment_token

    for name in ("shared_payment.granted_token", "shared_payment.issued_token"):
        thing = preview(name) | {"id": "spt_123abc"}
        statement = receive(body_of(f"{name}.created", thing))
        money = statement.event.payload.money
        assert b"spt_123abc" not in statement.raw and (statement.grade, statement.key) == ("D", "-")
        assert (money.phase, money.amount_minor, money.currency) == (
            "ceiling",
            thing["usage_limits"]["max_amount"],
            "USD",
        )
        assert money.authority == payment_token("spt_123abc") == statement.event.payload.action.target.id
        assert webhooks.parse(statement.raw, statement.headers, SENDER) == statement.event


@pytest.mark.parametrize("sent", [803901331, "803901331"])
def test_an_integer_sent_as_a_string_is_the_same_amount(sent):
    thing = preview("shared_payment.granted_token")
    thing["usage_limits"] |= {"max_amount": sent, "currency": "kwd"}

    money = receive(body_of("shared_payment.granted_token.created", thing)).event.payload.money

    assert (money.amount_minor, money.currency) == (803901331, "KWD")


def test_what_is_drawn_on_a_payment_token_is_no_charge_of_its_own_and_no_new_authority():
    event = receive(body_of("shared_payment.granted_token.used", preview("shared_payment.granted_token"))).event

    assert event.type == "other.stripe.shared_payment.granted_token.used" and event.payload.money.phase == "ceiling"


@pytest.mark.parametrize(
    ("event_type", "resource", "changes", "native", "outcome", "phase"),
    [
        ("charge.expired", "charge", {}, "payment.refunded", "success", "reversed"),
        ("payment_intent.canceled", "payment_intent", {}, "payment.failed", "failure", None),
        ("payment_intent.requires_action", "payment_intent", {}, "approval.requested", "pending", None),
        ("payment_intent.amount_capturable_updated", "payment_intent", {"amount_capturable": 7}, "payment.authorized", "success", "authorized"),
        ("invoice.voided", "invoice", {}, "invoice.voided", "success", "quoted"),
        ("invoice.overdue", "invoice", {}, "invoice.failed", "pending", None),
        ("invoice_payment.paid", "invoice_payment", {}, "invoice.paid", "success", None),
        ("invoice_payment.paid", "invoice_payment", {"amount_paid": 5, "currency": "usd", "payment": {"type": "charge", "charge": "ch_1"}}, "invoice.paid", "success", "settled"),
        ("issuing_dispute.created", "issuing.dispute", {}, "dispute.opened", "success", "disputed"),
        *[("charge.dispute.closed", "dispute", {"status": status}, "dispute.closed", outcome, None)
          for status, outcome in (("won", "success"), ("lost", "failure"), ("warning_closed", "unknown"), ("prevented", "unknown"), (None, "unknown"))],
        ("issuing_dispute.funds_rescinded", "issuing.dispute", {}, "dispute.funds_reinstated", "success", "disputed"),
        ("issuing_dispute.funds_reinstated", "issuing.dispute", {}, "dispute.funds_withdrawn", "success", "disputed"),
        ("charge.dispute.funds_withdrawn", "dispute", {}, "dispute.funds_withdrawn", "success", "disputed"),
        ("charge.dispute.funds_reinstated", "dispute", {}, "dispute.funds_reinstated", "success", "disputed"),
        ("credit_note.created", "credit_note", {}, "invoice.credited", "success", "refunded"),
        ("issuing_authorization.request", "issuing.authorization", {}, "payment.authorized", "pending", "authorized"),
        ("issuing_authorization.updated", "issuing.authorization", {"status": "reversed"}, "payment.refunded", "success", "reversed"),
        ("issuing_transaction.updated", "issuing.transaction", {"type": "refund"}, "payment.refunded", "success", None),
        ("issuing_card.created", "issuing.card", {}, "payment.authority_granted", "success", None),
        ("issuing_card.updated", "issuing.card", {"status": "canceled"}, "payment.authority_ended", "success", None),
        ("issuing_token.created", "issuing.token", {}, "credential.issued", "success", None),
        ("billing.alert.triggered", "billing.alert_triggered", {}, "budget.alerted", "success", None),
        ("billing.credit_grant.created", "billing.credit_grant", {"amount": {"monetary": {"currency": "usd", "value": 9}}}, "payment.authority_granted", "success", "ceiling"),
        ("billing.credit_grant.updated", "billing.credit_grant", {"voided_at": 1}, "payment.authority_ended", "success", None),
        ("radar.early_fraud_warning.created", "radar.early_fraud_warning", {}, "other.stripe.radar.early_fraud_warning.created", "unknown", None),
    ],
)  # fmt: skip
def test_more_of_stripes_published_objects_are_read(event_type, resource, changes, native, outcome, phase):
    event = receive(body_of(event_type, fixture(resource) | changes)).event

    assert (event.type, event.payload.outcome) == (native, outcome)
    assert (event.payload.money.phase if event.payload.money else None) == phase


def test_an_issued_cards_limit_is_its_ceiling_and_its_spending_names_the_card():
    card = fixture("issuing.card")
    card["spending_controls"] |= {
        "spending_limits": [{"amount": 10000, "interval": "monthly"}],
        "spending_limits_currency": "eur",
    }

    ceiling = receive(body_of("issuing_card.created", card)).event.payload.money
    spent = receive(
        body_of("issuing_transaction.created", fixture("issuing.transaction") | {"card": card["id"]})
    ).event.payload.money

    assert (ceiling.amount_minor, ceiling.currency, ceiling.authority, ceiling.rail) == (
        10000,
        "EUR",
        card["id"],
        "card_issuing",
    )
    assert spent.authority == card["id"]


def test_credits_are_a_rail_of_their_own():
    thing = fixture("billing.credit_grant") | {"amount": {"monetary": {"currency": "usd", "value": 900}}}

    assert receive(body_of("billing.credit_grant.created", thing)).event.payload.money.rail == "credits"


@pytest.mark.parametrize(
    ("event_type", "native"),
    [
        ("v2.iam.api_key.created", "credential.issued"),
        ("v2.iam.api_key.expired", "credential.revoked"),
        ("v2.iam.stripe_access_grant.approved", "delegation.granted"),
        ("v2.iam.stripe_access_grant.removed", "delegation.revoked"),
        ("v2.orchestrated_commerce.agreement.confirmed", "mandate.issued"),
        (
            "v2.orchestrated_commerce.agreement.partially_confirmed",
            "other.stripe.v2.orchestrated_commerce.agreement.partially_confirmed",
        ),
    ],
)
def test_authority_told_by_thin_events_is_read(event_type, native):
    event = receive(json.dumps(THIN | {"type": event_type}).encode()).event

    assert event.type == native
    assert event.payload.grant == ("apreq_1" if native.startswith(("delegation", "mandate")) else None)


def test_every_published_preview_object_passes_under_some_type():
    for name, thing in vectors.read("stripe/fixtures3.private_preview.json")["resources"].items():
        receive(body_of(f"{name}.created", thing))


def test_a_confirmation_secret_is_removed():
    statement = receive(
        body_of("invoice.created", fixture("invoice") | {"confirmation_secret": {"client_secret": "hunter2"}})
    )

    assert b"hunter2" not in statement.raw and statement.grade == "D"


@pytest.mark.parametrize("secret", ["access_token", "refresh_token", "Password", "cvc", "X-Confirmation-Secret"])
def test_a_secret_in_anybodys_metadata_is_removed(secret):
    statement = receive(body_of("charge.succeeded", CHARGE | {"metadata": {"deep": {secret: "hunter2"}}}))

    assert b"hunter2" not in statement.raw and statement.grade == "D"


def test_what_stripe_signed_and_is_no_secret_stays_and_keeps_its_grade():
    parts = {"client_secret": "pi_1_secret_x", "authorization": "iauth_1"}

    assert receive(body_of("charge.succeeded", CHARGE | parts)).grade == "C"


def test_a_payment_tokens_id_is_in_no_part_of_a_thin_event_and_nothing_is_fetched_by_it():
    token = "spt_1hunter2hunter2"
    related = {"id": token, "type": "shared_payment.issued_token", "url": f"/v1/shared_payment/issued_tokens/{token}"}
    body = json.dumps(THIN | {"type": "v1.shared_payment.issued_token.used", "related_object": related}).encode()
    statement = receive(body)

    assert b"hunter2" not in statement.raw + statement.headers
    fetched = webhooks.fetched(body, {"event": THIN["id"]}, SENDER)
    assert b"hunter2" not in fetched.raw and webhooks.announced(fetched.raw, fetched.headers) == []


@pytest.mark.parametrize(
    ("currency", "sent", "minor"),
    [
        ("jpy", 500, 500),
        ("kwd", 5120, 5120),
        ("isk", 500, 5),
        ("ugx", 500, 5),
        ("UGX", "120000", 1200),
        ("mga", 500, 50_000),
        ("MGA", "500", 50_000),
    ],
)
def test_amounts_are_minor_units_as_they_are_shown_here(currency, sent, minor):
    event = receive(body_of("charge.succeeded", CHARGE | {"currency": currency, "amount_captured": sent})).event

    assert (event.payload.money.amount_minor, event.payload.money.currency) == (minor, currency.upper())


def test_a_refund_in_ariary_counts_what_is_new_in_it():
    body = body_of("charge.refunded", CHARGE | {"currency": "mga", "amount_refunded": 300})
    body = json.dumps(
        json.loads(body) | {"data": json.loads(body)["data"] | {"previous_attributes": {"amount_refunded": 100}}}
    ).encode()

    assert receive(body).event.payload.money.amount_minor == 20_000


@pytest.mark.parametrize(
    "event_type",
    ["radar.early_fraud_warning.created", "radar.early_fraud_warning.updated", "review.opened", "v1.review.closed"],
)
def test_what_is_about_a_charge_names_it(event_type):
    event = receive(body_of(event_type, {"id": "x_1", "object": event_type.rpartition(".")[0], "charge": "ch_1"})).event

    assert (event.payload.action.resource, event.payload.money) == ("ch_1", None)


def test_a_deleted_network_token_is_a_credential_revoked():
    event = receive(body_of("issuing_token.updated", fixture("issuing.token") | {"status": "deleted"})).event

    assert event.type == "credential.revoked"


@given(st.binary(max_size=200))
def test_no_bytes_escape_as_anything_but_a_refusal(body):
    import hmac

    made = hmac.new(SECRET.encode(), b"1." + body, "sha256").hexdigest()
    with pytest.raises(Refused):
        receive(body, f"t=1,v1={made}")


# --- what PEAC observed of payments, in the shape in which Stripe tells it
# -------------------------------------------------

INTENT_TYPES = {"succeeded": "payment_intent.succeeded", "requires_capture": "payment_intent.amount_capturable_updated",
                "processing": "payment_intent.processing", "requires_payment_method": "payment_intent.payment_failed"}  # fmt: skip
COMMERCE = {"settlement": "captured", "authorization": "authorized", None: None}


def test_published_payment_observations_settle_authorize_or_say_nothing_of_money_taken():
    """PEAC's vectors are the input of its own mapper: no sender's bytes. Their meaning holds for Stripe's events."""
    count = 0
    for file in vectors.files("peac/stripe/*-pi-*.json"):
        vector = json.loads(file.read_text())
        if vector["input"]["type"] != "pi_observation":
            continue
        said, expected = vector["input"]["data"], vector["expected"]
        if "payment_intent_id" not in said:
            continue  # without its id Stripe has no such object
        amount = int(said.get("amount", 0))
        thing = fixture("payment_intent") | {
            "id": said["payment_intent_id"], "status": said["status"], "amount": amount, "currency": said.get("currency", "usd"),
            "amount_capturable": amount if said["status"] == "requires_capture" else 0, "amount_received": amount if said["status"] == "succeeded" else 0,
        }  # fmt: skip
        payload = receive(body_of(INTENT_TYPES[said["status"]], thing)).event.payload

        taken = (
            payload.money.phase
            if payload.money
            and payload.outcome == "success"
            and payload.money.phase in ("captured", "settled", "authorized")
            else None
        )
        assert taken == COMMERCE[expected.get("commerce_event")], file.name
        if taken:
            assert (payload.money.amount_minor, payload.money.currency) == (amount, "USD"), file.name
        count += 1
    assert count == 4


def test_published_payment_token_observations_are_authority_and_never_a_charge():
    count = 0
    for file in vectors.files("peac/stripe/*-spt-*.json"):
        vector = json.loads(file.read_text())
        said = vector["input"]["data"]
        amount = said.get("amount_limit") or said["amount"]
        thing = preview("shared_payment.granted_token")
        thing["usage_limits"] |= {"max_amount": amount, "currency": said["currency"]}
        told = "created" if vector["input"]["type"] == "spt_grant" else "used"
        body = body_of(f"shared_payment.granted_token.{told}", thing)
        if int(amount) < 0:
            assert "amount" in str(refusal(body)), (
                file.name
            )  # PEAC counts it as nothing; less than nothing is no amount
        else:
            event = receive(body).event
            assert event.payload.money.phase == "ceiling" and event.payload.money.amount_minor == int(amount), file.name
            assert (event.type == "payment.authority_granted") is (told == "created"), file.name
        count += 1
    assert count == 4


def test_a_published_observation_without_its_id_is_told_with_nothing_to_join_by():
    said = vectors.read("peac/stripe/invalid-pi-missing-id.json")
    amount = int(said["input"]["data"]["amount"])
    thing = fixture("payment_intent") | {
        "status": "succeeded",
        "amount": amount,
        "amount_received": amount,
        "currency": "usd",
    }
    thing |= {"latest_charge": None}
    del thing["id"]
    payload = receive(body_of("payment_intent.succeeded", thing)).event.payload

    assert said["expected"]["degraded"] and COMMERCE[said["expected"]["commerce_event"]] == payload.money.phase
    assert (payload.money.amount_minor, payload.money.charge, payload.action.target.id) == (amount, "", "")


def test_a_published_token_observation_without_its_token_is_a_ceiling_of_no_authority():
    said = vectors.read("peac/stripe/invalid-spt-missing-token.json")
    thing = preview("shared_payment.granted_token")
    thing["usage_limits"] |= {"max_amount": int(said["input"]["data"]["amount_limit"]), "currency": "usd"}
    del thing["id"]
    money = receive(body_of("shared_payment.granted_token.created", thing)).event.payload.money

    assert said["expected"]["reference_undefined"]
    assert (money.phase, money.amount_minor, money.authority) == ("ceiling", 10_000, "")


def test_the_published_metadata_stays_in_the_evidence_and_goes_nowhere_else():
    vector = vectors.read("peac/stripe/security-metadata-sanitization.json")
    said = vector["input"]["data"]
    thing = fixture("payment_intent") | {
        "id": said["payment_intent_id"], "status": said["status"], "amount": 1000, "amount_received": 1000, "currency": said["currency"],
        "metadata": said["metadata"],
    }  # fmt: skip
    event = receive(body_of("payment_intent.succeeded", thing)).event

    assert (event.payload.money.phase, event.payload.money.amount_minor) == ("captured", 1000)
    for name in vector["expected"]["metadata_keys_absent"]:
        assert said["metadata"][name] not in repr(event)


ODD = ({"x": 1}, ["succeeded"], 7, True, "a_word_of_next_year")


@pytest.mark.parametrize("status", ODD)
@pytest.mark.parametrize(("event_type", "kind"), [
    ("refund.created", "refund"), ("refund.updated", "refund"), ("charge.refund.updated", "refund"), ("charge.succeeded", "charge"),
    ("charge.dispute.closed", "dispute"), ("issuing_dispute.closed", "issuing.dispute"), ("customer.subscription.created", "subscription"),
    ("customer.subscription.updated", "subscription"), ("invoice.created", "invoice"),
])  # fmt: skip
def test_a_status_that_is_not_understood_is_unknown(event_type, kind, status):
    thing = {"id": "x_1", "object": kind, "amount": 5, "currency": "usd", "status": status}

    assert receive(body_of(event_type, thing)).event.payload.outcome == "unknown"


@pytest.mark.parametrize("approved", [None, "false", "true", 0, 1, {"x": 1}])
@pytest.mark.parametrize("event_type", ["issuing_authorization.created", "issuing_authorization.updated"])
def test_an_authorization_is_approved_only_where_it_says_true(event_type, approved):
    thing = {
        "id": "iauth_1",
        "object": "issuing.authorization",
        "amount": 5,
        "currency": "usd",
        "status": "pending",
        "approved": approved,
    }

    assert receive(body_of(event_type, thing)).event.payload.outcome == "unknown"
    assert receive(body_of(event_type, thing | {"approved": False})).event.payload.outcome == "denied"


def test_a_charge_or_transaction_of_a_kind_that_is_not_understood_is_unknown():
    transaction = {"id": "ipi_1", "object": "issuing.transaction", "amount": 5, "currency": "usd", "type": "next_year"}

    assert receive(body_of("charge.succeeded", CHARGE | {"captured": "false"})).event.payload.outcome == "unknown"
    assert receive(body_of("issuing_transaction.created", transaction)).event.payload.outcome == "unknown"


@pytest.mark.parametrize("event_type", ["refund.updated", "refund.created", "issuing_authorization.created", "issuing_authorization.updated",
                                        "customer.subscription.updated", "invoice.created", "charge.dispute.closed"])  # fmt: skip
def test_a_thin_event_claims_no_success_that_only_its_object_could_tell(event_type):
    """docs.stripe.com/event-destinations: a thin event has the object's id, and nothing of its state."""
    assert receive(json.dumps(THIN | {"type": f"v1.{event_type}"}).encode()).event.payload.outcome == "unknown"
