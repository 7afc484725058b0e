# ruff: noqa: F811  (fixtures)
"""A bank asks about a payment: what the record says is drafted, staged and submitted once, by stripe-python, against a
server that refuses what stripe-python's own types do not name.
"""

import base64
import json
import os
import re
import sys
import typing
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
import stripe.params as params
import typing_extensions
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.test import Client

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible, OutboundError
from auditlog.models import Event, Payload
from auditlog.reads.access import issue_token
from auditlog.response import receivers
from auditlog.sources import sealed
from disputes.case.answer_bank import draft, send
from disputes.core.bank_answer import MOST, characters
from disputes.models import BankAnswer, Deadline
from disputes.queries import bank_draft
from tests.integration.test_bank_dispute import DISPUTE
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_disputes_cases import buys, decider, handler, opened, person, shop  # noqa: F401  fixtures among them
from tests.integration.test_stripe_money import CHARGE, told  # noqa: F401  fixtures among them

pytestmark = pytest.mark.usefixtures("database")
PAID_AT = datetime.fromtimestamp(1_795_000_000, UTC)
DUE = datetime(2027, 12, 20, tzinfo=UTC)
CARD = {
    "payment_method_details": {"type": "card", "card": {"fingerprint": "fp_1", "brand": "visa", "last4": "4242"}},
    "billing_details": {"name": "Ada L", "email": "ada@acme.example", "address": {"line1": "1 Main St", "city": "Bern", "country": "CH"}},
}  # fmt: skip
ASKED = DISPUTE | {
    "amount": 900, "network_reason_code": "10.4", "created": 1_795_000_500,
    "evidence_details": {"due_by": int(DUE.timestamp()), "has_evidence": False, "past_due": False, "submission_count": 0},
    "enhanced_eligibility_types": ["visa_compelling_evidence_3"],
}  # fmt: skip


def allowed(shape, prefix=""):
    """The form fields that a TypedDict of stripe-python names."""
    found = set()
    for name, kind in typing.get_type_hints(shape, vars(module_of(shape))).items():
        field = f"{prefix}[{name}]" if prefix else name
        found.add(field)
        for inner in inner_of(kind):
            found |= allowed(inner, field)
    return found


def module_of(shape):
    return sys.modules[shape.__module__]


def inner_of(kind):
    """The TypedDicts in a type, also within a list or beside another type."""
    if typing_extensions.is_typeddict(kind):
        return [kind]
    return [one for inner in typing.get_args(kind) for one in inner_of(inner)]


EVIDENCE = sorted(allowed(params.DisputeUpdateParamsEvidence, "evidence"))


def refused_as_stripe_does(path, form):
    """What Stripe's published shapes refuse: another path, a field that there is not, text that is too long."""
    if path != "/v1/disputes/dp_1":
        return 404, {
            "error": {
                "type": "invalid_request_error",
                "message": f"Unrecognized request URL {path}",
                "code": "resource_missing",
            }
        }
    for name, value in form:
        plain = re.sub(r"\[\d+\]", "", name)
        if plain not in EVIDENCE and plain != "submit":
            return 400, {
                "error": {
                    "type": "invalid_request_error",
                    "code": "parameter_unknown",
                    "message": f"Received unknown parameter: {name}",
                }
            }
        if len(value) > 20_000:
            return 400, {"error": {"type": "invalid_request_error", "message": f"{name} is too long"}}
    if sum(len(value) for name, value in form if name != "submit") > MOST:
        return 400, {
            "error": {"type": "invalid_request_error", "message": "the combined character count is over 150,000"}
        }
    return None


@pytest.fixture(autouse=True)
def authority(shop):
    """A grant that is older than every payment here."""
    ada = shop.human("ada", issuer="https://id.acme.example")
    shopper = shop.agent("shopper", issuer="https://conductor.example")
    shop.grant_of_shop = shop.grant(
        ada, shopper, actions=["domain.register"], limits=[{"scope": "global", "max_minor": 20_000, "currency": "USD"}],
        at=PAID_AT - timedelta(days=500),
    )  # fmt: skip
    shop.send(shop.grant_of_shop)


@pytest.fixture
def bank(outside, shop, monkeypatch):
    """Stripe, as far as a dispute goes: what was asked of it, in order."""
    monkeypatch.setenv("ANSWERABLE_SEAL_KEY", base64.b64encode(os.urandom(32)).decode())
    sealed.forget()
    sealed.seal(shop.row, "STRIPE_KEY", b"sk_test_1", now=shop.now)
    receivers.add(
        shop.row, "stripe", kind="stripe", url=outside.url, secret_env="STRIPE_KEY", allow_private=True, now=shop.now
    )
    asked = []

    def answer(method, path, headers, body):
        form = parse_qsl(body.decode(), keep_blank_values=True)
        said = refused_as_stripe_does(path, form)
        if said:
            return said[0], {"Content-Type": "application/json"}, json.dumps(said[1]).encode()
        asked.append((dict(form), {name.lower(): value for name, value in headers.items()}))
        return 200, {"Content-Type": "application/json"}, json.dumps({"id": "dp_1", "object": "dispute"}).encode()

    outside.answer = answer
    asked_of = asked
    return type("Bank", (), {"asked": asked_of, "call": outside.call})


@pytest.fixture
def asked(shop, told, handler):
    """A case about a purchase whose charge a bank disputes. Gives a function, so that a test may tell more before."""

    def make(dispute=ASKED, charge=CHARGE | {"amount": 900, "amount_captured": 900} | CARD, **more):
        bought = shop.registers(
            "superseal.club", grant=shop.grant_of_shop, price_minor=900, at=PAID_AT, client={"ip": "192.0.2.7"},
            charge="ch_1", rail="stripe", **more,
        )  # fmt: skip
        shop.send(bought)
        told(("charge.succeeded", charge), ("charge.dispute.created", dispute))
        event = Event.objects.get(tenant=shop.row, type="dispute.opened")
        return opened(shop, handler, [event.event_id])

    return make


def drafted(case, viewer, shop):
    return bank_draft(viewer, case.ref, now=shop.now)[1]


def test_the_draft_says_what_the_record_says_and_what_it_lacks(shop, asked, handler, bank):
    case = asked()
    found = drafted(case, handler, shop)
    said = found.answer.evidence

    assert found.asked.reason == "fraudulent" and found.asked.due == DUE and found.why_not == ""
    assert (
        said["product_description"].startswith("domain.register superseal.club")
        and "9.00 USD" in said["product_description"]
    )
    assert said["customer_purchase_ip"] == "192.0.2.7"
    assert (said["customer_name"], said["customer_email_address"]) == ("Ada L", "ada@acme.example")
    assert said["billing_address"] == "1 Main St, Bern, CH"
    assert "let https://conductor.example shopper do: domain.register" in said["uncategorized_text"]
    assert "at most 200.00 USD in all" in said["uncategorized_text"]
    assert found.answer.speaks == "for_the_charge"
    assert found.answer.missing == () and found.answer.readiness == 100
    assert "enhanced_evidence" not in said and found.answer.ce3.startswith("0 of the two earlier payments")


def test_a_record_that_speaks_against_the_charge_says_so(shop, asked, handler, bank):
    shop.send(shop.revoke(shop.grant_of_shop, at=PAID_AT - timedelta(minutes=30)))
    found = drafted(asked(), handler, shop)

    assert found.answer.speaks == "against_the_charge" and "outside the authority" in found.answer.says
    assert found.answer.evidence["uncategorized_text"].startswith(found.answer.says)


def test_it_is_staged_then_submitted_once_before_it_is_due(shop, asked, handler, decider, bank):
    case = asked()
    evidence = drafted(case, handler, shop).answer.evidence
    staged = send(case, handler, evidence=evidence, submit=False, now=shop.now, call=bank.call)
    sent = send(case, decider, evidence=evidence, submit=True, now=shop.now, call=bank.call)

    [(first, headers), (second, _)] = bank.asked
    assert first["submit"] == "false" and second["submit"] == "true"
    assert first["evidence[customer_purchase_ip]"] == "192.0.2.7"
    assert headers["authorization"] == "Bearer sk_test_1" and headers["idempotency-key"]
    assert (staged.is_submitted, staged.is_accepted) == (False, True) and sent.is_submitted
    leaf = bytes(Payload.objects.get(tenant=shop.row, leaf_index=sent.leaf_index).raw).decode()
    assert "case.bank_answer_submitted" in leaf and sent.digest in leaf
    assert case.deadlines.get(of_state="").state == Deadline.State.MET
    with pytest.raises(NotPossible, match="one answer"):
        send(case, decider, evidence=evidence, submit=True, now=shop.now, call=bank.call)
    assert len(bank.asked) == 2
    with pytest.raises(DatabaseError), transaction.atomic():
        BankAnswer.objects.filter(pk=sent.pk).update(error="x")
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM dispute_bank_answer")


@pytest.mark.parametrize(
    ("dispute", "why"),
    [
        (ASKED | {"status": "under_review"}, "asks for nothing"),
        (ASKED | {"evidence_details": {"due_by": 1_795_000_600}}, "time is over"),
    ],
)
def test_what_a_bank_does_not_ask_for_is_not_sent(shop, asked, decider, bank, dispute, why):
    case = asked(dispute)
    with pytest.raises(NotPossible, match=why):
        send(case, decider, evidence={"uncategorized_text": "x"}, submit=True, now=shop.now, call=bank.call)
    assert not bank.asked and not case.bank_answers.exists()


@pytest.mark.parametrize(
    ("evidence", "what"),
    [
        ({}, "says something"),
        ({"uncategorized_text": "x" * 20_001}, "20,000"),
        ({"receipt": "file_1"}, "no text field"),
        ({"customer_name": {"a": "b"}}, "expected text"),
    ],
)
def test_what_stripe_would_refuse_is_refused_before_it_is_sent(shop, asked, handler, bank, evidence, what):
    case = asked()
    with pytest.raises(ConfigurationError, match=what):
        send(case, handler, evidence=evidence, submit=False, now=shop.now, call=bank.call)
    assert not bank.asked


def test_what_stripe_refuses_is_kept_with_its_reason_and_may_be_sent_again(shop, asked, handler, bank, outside):
    case, takes = asked(), outside.answer
    refusal = {"error": {"type": "invalid_request_error", "message": "This dispute is already closed"}}
    outside.answer = lambda *_: (400, {"Content-Type": "application/json"}, json.dumps(refusal).encode())
    kept = send(case, handler, evidence={"uncategorized_text": "x"}, submit=False, now=shop.now, call=bank.call)
    assert not kept.is_accepted and "already closed" in kept.error

    outside.answer = lambda *_: (500, {}, b"oops")
    with pytest.raises(OutboundError):
        send(case, handler, evidence={"uncategorized_text": "x"}, submit=False, now=shop.now, call=bank.call)
    outside.answer = takes
    assert send(
        case, handler, evidence={"uncategorized_text": "x"}, submit=False, now=shop.now, call=bank.call
    ).is_accepted


def test_who_may_answer_a_bank(shop, asked, handler, bank):
    case = asked()
    words = {"evidence": {"uncategorized_text": "x"}, "now": shop.now, "call": bank.call}
    with pytest.raises(NotPermitted):
        send(case, person(shop, "auditor", 1), submit=False, **words)
    with pytest.raises(NotPermitted):
        send(case, person(shop, "abuse", 1, provider="stripe"), submit=False, **words)
    with pytest.raises(NotPermitted):
        draft(case, person(shop, "abuse", 1, provider="stripe"), verdicts=[], now=shop.now)
    assert not bank.asked


def test_without_a_receiver_there_is_nobody_to_send_it_to(shop, asked, handler):
    case = asked()
    assert "no receiver" in drafted(case, handler, shop).why_not
    with pytest.raises(NotPossible, match="no receiver"):
        send(case, handler, evidence={"uncategorized_text": "x"}, submit=False, now=shop.now)


def paid_earlier(shop, told, days, *, charge, ip="192.0.2.7", account="acct-main", **said):
    """A payment of that many days before the dispute, told by the orchestrator and by Stripe."""
    at = 1_795_000_500 - days * 86_400
    shop.send(
        shop.registers(
            f"{charge.replace('_', '-')}.example", grant=shop.grant_of_shop, price_minor=500, account=account, charge=charge,
            client={"ip": ip}, at=datetime.fromtimestamp(at, UTC),
        )
    )  # fmt: skip
    body = {
        "id": f"evt_{charge}", "object": "event", "api_version": "2026-01-28.clover", "created": at, "type": "charge.succeeded",
        "livemode": True, "request": {"id": None, "idempotency_key": None},
        "data": {"object": CHARGE | {"id": charge, "amount": 500, "amount_captured": 500, "payment_intent": f"pi_{charge}"} | CARD | said},
    }  # fmt: skip
    assert told.deliver(body).status_code == 202


def test_two_earlier_payments_of_the_card_from_the_same_place_are_compelling_evidence(
    shop, told, asked, handler, decider, bank
):
    paid_earlier(shop, told, 100, charge="ch_young")
    paid_earlier(shop, told, 150, charge="ch_a")
    paid_earlier(shop, told, 200, charge="ch_elsewhere", ip="198.51.100.1")
    paid_earlier(shop, told, 300, charge="ch_b")
    paid_earlier(shop, told, 400, charge="ch_old")
    case = asked()
    found = drafted(case, handler, shop).answer

    enhanced = found.evidence["enhanced_evidence"]["visa_compelling_evidence_3"]
    assert [one["charge"] for one in enhanced["prior_undisputed_transactions"]] == ["ch_a", "ch_b"]
    assert enhanced["disputed_transaction"]["customer_purchase_ip"] == "192.0.2.7"
    assert "earlier acts under the same authority" in found.evidence["uncategorized_text"]
    assert send(case, decider, evidence=found.evidence, submit=True, now=shop.now, call=bank.call).is_accepted
    [(form, _)] = bank.asked
    assert (
        form["evidence[enhanced_evidence][visa_compelling_evidence_3][prior_undisputed_transactions][0][charge]"]
        == "ch_a"
    )


@pytest.mark.parametrize(
    ("of_second", "dispute"),
    [
        ({"payment_method_details": {"card": {"fingerprint": "fp_2"}}}, ASKED),  # another card
        ({"amount_refunded": 500, "refunded": True}, ASKED),
        ({}, ASKED | {"reason": "duplicate"}),
        ({}, ASKED | {"enhanced_eligibility_types": []}),
        ({}, ASKED | {"network_reason_code": "13.1"}),
    ],
)
def test_it_is_not_compelling_where_one_of_visas_conditions_fails(shop, told, asked, handler, of_second, dispute):
    paid_earlier(shop, told, 150, charge="ch_a")
    paid_earlier(shop, told, 300, charge="ch_b", **of_second)
    found = drafted(asked(dispute), handler, shop).answer
    assert "enhanced_evidence" not in found.evidence and found.ce3


def test_a_payment_that_was_disputed_itself_is_no_evidence(shop, told, asked, handler):
    paid_earlier(shop, told, 150, charge="ch_a")
    paid_earlier(shop, told, 300, charge="ch_b")
    told(("charge.dispute.created", DISPUTE | {"id": "dp_old", "charge": "ch_b", "payment_intent": "pi_ch_b"}))
    shop.project()
    shop.send(
        shop.registers(
            "superseal.club",
            grant=shop.grant_of_shop,
            price_minor=900,
            at=PAID_AT,
            client={"ip": "192.0.2.7"},
            charge="ch_1",
        )
    )
    told(("charge.succeeded", CHARGE | CARD), ("charge.dispute.created", ASKED))
    bought = Event.objects.get(tenant=shop.row, type="domain.registered", charge="ch_1")
    found = drafted(opened(shop, handler, [str(bought.event_id)]), handler, shop)
    assert found.asked.id == "dp_1" and "enhanced_evidence" not in found.answer.evidence


@pytest.mark.parametrize(
    ("reason", "field", "words"),
    [
        ("duplicate", "duplicate_charge_explanation", "another purchase: superseal-two.example"),
        ("credit_not_processed", "refund_refusal_explanation", "No refund of this payment is on record."),
        ("subscription_canceled", "cancellation_rebuttal", "No revocation of the authority"),
    ],
)
def test_a_reason_gets_what_it_asks_for(shop, told, asked, handler, reason, field, words):
    at = PAID_AT - timedelta(days=3)
    shop.send(shop.registers("superseal-two.example", grant=shop.grant_of_shop, price_minor=900, at=at, charge="ch_2"))
    found = drafted(asked(ASKED | {"reason": reason}), handler, shop).answer
    assert words in found.evidence[field] and field not in found.missing


def test_an_answer_of_any_length_stays_within_what_stripe_takes(shop, asked, handler, bank):
    found = drafted(asked(), handler, shop)
    assert characters(found.answer.evidence) <= MOST


def test_over_http_it_is_read_and_sent_by_whoever_may(shop, asked, bank, monkeypatch):
    monkeypatch.setattr("disputes.views.send", lambda *a, **k: send(*a, **k, call=bank.call))
    case = asked()
    case.refresh_from_db()
    user = User.objects.create(username=f"mia-{shop.row.name}")
    token = issue_token(shop.row, name="t", role="finance", expires_at=shop.now + timedelta(days=300), owner=user)
    client = Client(headers={"authorization": f"Bearer {token}"})
    read = client.get(f"/api/v1/cases/{case.ref}/bank-answer")
    assert read.status_code == 200, read.content
    assert read.json()["dispute"]["reason"] == "fraudulent" and read.json()["readiness"] == 100
    sent = client.post(f"/api/v1/cases/{case.ref}/bank-answer", {"submit": True}, content_type="application/json")
    assert sent.status_code == 201, sent.content
    again = client.post(f"/api/v1/cases/{case.ref}/bank-answer", {"submit": True}, content_type="application/json")
    assert again.status_code == 409 and "one answer" in again.json()["detail"]
    assert client.get("/api/v1/cases/D-2026-999999/bank-answer").status_code == 404


def test_a_case_that_no_bank_asks_about_has_no_answer(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    with pytest.raises(NotFound, match="no bank"):
        drafted(case, handler, shop)


def test_the_page_shows_the_draft_and_sends_what_is_left_in_it(shop, asked, bank, monkeypatch):
    monkeypatch.setattr("dashboard.pages.cases.bank_answer.send", lambda *a, **k: send(*a, **k, call=bank.call))
    case = asked()
    client = signed_in(shop, "finance")
    assert f"/cases/{case.ref}/bank/" in client.get(f"/cases/{case.ref}/").content.decode()
    page = client.get(f"/cases/{case.ref}/bank/").content.decode()
    assert "192.0.2.7" in page and "100 % of what the bank asks for" in page and "for the charge" in page.lower()

    staged = client.post(f"/cases/{case.ref}/bank/", {"uncategorized_text": "It was allowed."})
    assert staged.status_code == 302 and bank.asked[0][0]["evidence[uncategorized_text]"] == "It was allowed."
    assert "evidence[customer_name]" not in bank.asked[0][0]
    client.post(f"/cases/{case.ref}/bank/", {"uncategorized_text": "It was allowed.", "sure": "on"})
    again = client.post(f"/cases/{case.ref}/bank/", {"uncategorized_text": "More.", "sure": "on"})
    assert again.status_code == 422 and "one answer" in again.content.decode() and len(bank.asked) == 2
    assert signed_in(shop, "auditor").get(f"/cases/{case.ref}/bank/").status_code == 403


def test_what_others_wrote_is_shown_as_text(shop, asked, bank):
    case = asked(charge=CHARGE | {"amount": 900} | CARD | {"billing_details": {"name": "<b>Ada</b>\u202e"}})
    page = signed_in(shop, "finance").get(f"/cases/{case.ref}/bank/").content.decode()
    assert "<b>Ada</b>" not in page and "&lt;b&gt;Ada&lt;/b&gt;⟨U+202E⟩" in page
