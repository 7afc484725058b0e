"""Standard Webhooks: both signatures, the specification's example, native payloads in its envelope."""

import json
from base64 import b64encode

import pytest

from auditlog.core.errors import Refused
from auditlog.core.event import act_chain
from auditlog.formats import Delivery, standard_webhooks
from tests.deliveries import KEYS, NATIVE, SIGNER, WHSEC, event_in, received, sender_of, standard_webhook

SENDER = sender_of("standard_webhooks", secret=WHSEC.encode)
BODY = json.dumps(NATIVE).encode()


def push(delivery, sender=SENDER):
    [statement] = standard_webhooks.receive(delivery, sender).statements.values()
    return statement


def refusal(delivery, sender=SENDER):
    with pytest.raises(Refused) as caught:
        push(delivery, sender)
    return caught.value


def changed(**headers):
    good = standard_webhook(BODY)
    return Delivery(good.body, good.content_type, good.headers | {k.replace("_", "-"): v for k, v in headers.items()})


def ed25519(body=BODY, id="msg_1", at="1795000000"):
    signature = SIGNER._key.sign(f"{id}.{at}.".encode() + body).signature
    return Delivery(
        body,
        "application/json",
        {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": "v1a," + b64encode(signature).decode()},
    )


def test_the_specifications_example_is_taken():
    # Headers, secret and body of the specification's worked example (v1).
    body = b'{"test": 2432232314}'
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    sender = sender_of("standard_webhooks", secret=lambda: b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    [statement] = received(
        "standard_webhooks", body, sender=sender, deliver=lambda raw: Delivery(raw, "application/json", headers)
    ).values()

    assert (statement.grade, statement.event.type) == (
        "C",
        "other.standard_webhooks.untyped",
    )  # the example's body names no type
    assert refusal(Delivery(body + b" ", "application/json", headers), sender).err == "authentication_failed"


def test_a_native_payload_is_read_with_its_chain_and_the_headers_id():
    event = event_in("standard_webhooks", BODY, sender=SENDER, deliver=standard_webhook)

    assert (event.source_event_id, event.type, event.txn) == ("msg_1", "payment.captured", "txn-1")
    assert [p.sub for p in act_chain(event.payload.actor)] == ["agent-0", "agent-1"]
    assert event.principal_claim.key == "https://id.example|ada"
    assert event.occurred_at.isoformat() == "2026-11-20T10:30:00+00:00" and event.issued_at.timestamp() == 1_795_000_000


def test_v1_is_grade_c_and_v1a_grade_b_with_its_key():
    hmac_only, key = (
        push(standard_webhook(BODY)),
        push(ed25519(), sender_of("standard_webhooks", keys=KEYS, secret=lambda: None)),
    )

    assert (hmac_only.grade, hmac_only.key) == ("C", "standard-webhooks-secret")
    assert (key.grade, key.key) == ("B", KEYS["k1"].thumbprint)


def test_the_stored_bytes_and_headers_verify_again():
    statement = push(ed25519(), sender_of("standard_webhooks", keys=KEYS))
    headers = json.loads(statement.headers)

    again = push(Delivery(statement.raw, "application/json", headers), sender_of("standard_webhooks", keys=KEYS))

    assert again == statement


def test_any_signature_in_the_list_will_do():
    good = standard_webhook(BODY).headers["webhook-signature"]

    push(changed(webhook_signature=f"v1,AAAA v2,xyz {good}"))
    assert refusal(changed(webhook_signature=good.replace("v1,", "v2,"))).err == "authentication_failed"


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook_id": ""},
        {"webhook_id": "msg_2"},
        {"webhook_timestamp": "1795000001"},
        {"webhook_timestamp": "now"},
        {"webhook_timestamp": "١"},
        {"webhook_signature": ""},
        {"webhook_signature": "v1"},
        {"webhook_signature": "v1,é"},
        {"webhook_signature": "v1a,!!!"},
    ],
)
def test_every_signed_part_counts(headers):
    assert refusal(changed(**headers)).err == "authentication_failed"


def test_a_secret_is_decoded_after_whsec():
    assert (
        refusal(standard_webhook(BODY), sender_of("standard_webhooks", secret=lambda: b"whsec_!!")).err == "invalid_key"
    )
    assert refusal(standard_webhook(BODY), sender_of("standard_webhooks")).err in (
        "invalid_key",
        "authentication_failed",
    )
    assert refusal(standard_webhook(BODY), sender_of("standard_webhooks", secret=lambda: None)).err == "invalid_key"


def test_a_payload_that_says_it_is_ours_is_held_to_it():
    wrong = NATIVE | {"data": NATIVE["data"] | {"outcome": "perhaps"}}
    bare = {"type": "urn:answerable:event:payment.captured:v1", "data": {"amount": 3}}

    assert "outcome" in str(refusal(standard_webhook(json.dumps(wrong).encode())))
    assert "outcome" in str(refusal(standard_webhook(json.dumps(bare).encode())))


def test_data_of_the_senders_own_is_kept_under_its_source():
    event = event_in(
        "standard_webhooks", {"type": "invoice.paid", "data": {"amount": 3}}, sender=SENDER, deliver=standard_webhook
    )

    assert (event.type, event.payload.outcome) == ("other.standard_webhooks.invoice.paid", "unknown")
    assert event.occurred_at.timestamp() == 1_795_000_000


def test_a_body_with_a_secret_is_kept_without_it_and_graded_as_its_channel():
    [statement] = received(
        "standard_webhooks", NATIVE | {"access_token": "hunter2"}, sender=SENDER, deliver=standard_webhook
    ).values()

    assert (statement.grade, statement.key) == ("D", "-")
    assert b"hunter2" not in statement.raw and b"received-sha256" in statement.headers


def test_a_retry_signed_afresh_is_the_same_statement():
    first, again = push(standard_webhook(BODY)), push(standard_webhook(BODY, at="1795000600"))

    content = standard_webhooks.content
    assert first.source_event_id == again.source_event_id
    assert content(first.raw, first.headers) == content(again.raw, again.headers)


def test_a_card_number_is_refused():
    body = json.dumps(NATIVE | {"note": "4242 4242 4242 4242"}).encode()

    assert "card number" in str(refusal(standard_webhook(body)))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"id": "pred_1", "status": "succeeded", "created_at": "2026-11-20T10:00:00Z"}, "untyped"),
        ({"event_type": "incident.created", "incident": {}}, "incident.created"),
        ({"type": None, "event": "user.login"}, "user.login"),
        ({"type": {"x": 1}, "user_id": "u"}, "untyped"),
    ],
)
def test_a_body_without_a_type_is_kept_under_the_senders_own_word(body, word):
    event = event_in("standard_webhooks", body, sender=SENDER, deliver=standard_webhook)

    assert (event.type, event.payload.outcome, event.dated) == (f"other.standard_webhooks.{word}", "unknown", False)


def test_svixs_own_header_names_are_the_same_scheme():
    raw = BODY
    plain = standard_webhook(raw)
    named = {name.replace("webhook-", "svix-"): value for name, value in plain.headers.items()}

    [statement] = received(
        "standard_webhooks", raw, sender=SENDER, deliver=lambda raw: Delivery(raw, "application/json", named)
    ).values()

    assert (statement.grade, statement.source_event_id) == ("C", "msg_1")
    again = Delivery(statement.raw, "application/json", json.loads(statement.headers))
    assert (
        standard_webhooks.receive(again, SENDER).statements["msg_1"].grade == "C"
    )  # as it is stored, it can be checked again
