"""x402: published vectors of offers and receipts, settlements, what is money and what is not."""

import json
from base64 import b64encode, urlsafe_b64encode

import pytest

from auditlog.core.errors import Refused
from auditlog.formats import x402
from tests import vectors
from tests.deliveries import KEYS, X402, X402_TERMS, compact_jws, event_in, received, sender_of

SENDER = sender_of("x402", keys=KEYS)
NOW = 1_741_900_060
RECEIPT = {"version": 1, "network": "eip155:8453", "resourceUrl": "https://api.example.com/weather", "payer": "0xabc1", "issuedAt": NOW - 5,
           "transaction": "0xdeadbeef"}  # fmt: skip
# What these show depends on a policy that is not ours: we hold an offer to its hint, and take one without expiry.
OTHER_POLICY = {"mismatch-warn-and-scan", "eip712-no-expiry-rejected"}


def push(record):
    [statement] = received("x402", record, sender=SENDER).values()
    return statement


def refusal(record):
    with pytest.raises(Refused) as caught:
        push(record)
    return caught.value


def published():
    for file in vectors.files("peac/x402/*.json"):
        text = file.read_text().replace('"__NOW_MINUS_30__"', str(NOW - 30))
        vector = json.loads(text)
        if "input" in vector and file.stem not in OTHER_POLICY:
            yield file.stem, vector


def problems(vector):
    given, config = vector["input"], vector.get("config") or {}
    if vector["kind"] == "consistency_verification":
        return x402.check_consistency(given["offerPayload"], given["receiptPayload"])
    if vector["kind"] == "receipt_verification":
        return x402.check_receipt(given["receipt"], at=config.get("nowSeconds", NOW))
    return x402.check_offer(given["offer"], given["accepts"], at=NOW)


def test_published_vectors_are_judged_as_they_are_marked_and_for_that_reason():
    count = 0
    for name, vector in published():
        if name == "jws-oversize":  # its limit is 100 bytes, ours 64 KiB
            continue
        found, expected = problems(vector), vector["expected"]
        assert (found == []) is expected["valid"], (name, found)
        assert [problem.partition(":")[0] for problem in found] == [error["code"] for error in expected["errors"]], name
        count += 1
    assert count >= 33


def test_published_vectors_are_taken_or_refused_when_they_are_received():
    for name, vector in published():
        if vector["kind"] == "consistency_verification" or name == "jws-oversize":
            continue
        record = {"at": (vector.get("config") or {}).get("nowSeconds", NOW)} | {
            k: v for k, v in vector["input"].items() if k in ("offer", "accepts", "receipt")
        }
        if vector["expected"]["valid"]:
            assert push(record).event.type in ("payment.quoted", "payment.settled"), name
        else:
            assert vector["expected"]["errors"][0]["code"] in str(refusal(record)), name


def test_the_published_oversized_jws_is_refused_under_its_own_limit(monkeypatch):
    vector = next(v for name, v in published() if name == "jws-oversize")
    monkeypatch.setattr(x402, "MAX_JWS", vector["config"]["maxCompactJwsBytes"])

    assert problems(vector) == [error["code"] for error in vector["expected"]["errors"]]


@pytest.mark.parametrize(
    ("name", "ours"), [("mismatch-warn-and-scan", "accept_term_mismatch"), ("eip712-no-expiry-rejected", "")]
)
def test_what_another_policy_judges_otherwise_is_judged_by_ours(name, ours):
    """The one is refused where a hint binds, as here; the other's twin without that policy is marked valid."""
    record = {"at": NOW} | vectors.read(f"peac/x402/{name}.json")["input"]

    if ours:
        assert ours in str(refusal(record))
    else:
        assert vectors.read("peac/x402/eip712-no-expiry.json")["expected"]["valid"] is True
        assert push(record).event.type == "payment.quoted"


def test_an_oversized_jws_is_refused_before_it_is_decoded():
    offer = {"format": "jws", "signature": "a." + "x" * 70_000 + ".c"}

    assert x402.check_offer(offer, None, at=NOW) == ["jws_too_large"]


def test_a_settlement_is_a_payment_by_an_address():
    event = push(X402).event

    assert (event.type, event.payload.outcome) == ("payment.settled", "success")
    assert (event.payload.actor.iss, event.payload.actor.sub) == ("eip155:8453", "0xabc1")
    assert (event.payload.money.amount_minor, event.payload.money.currency, event.payload.money.charge) == (
        100000,
        "USD",
        "0xdeadbeef",
    )
    assert event.payload.action.target.id == "https://api.example.com/weather"


def test_a_token_is_not_taken_for_a_currency():
    event = push(X402 | {"required": {"accepts": [X402_TERMS | {"asset": "USDC"}]}}).event

    assert event.payload.money is None and "USDC" in event.payload.call.operation


def test_headers_are_read_as_they_were_and_the_payers_signature_is_removed():
    def header(value):
        return b64encode(json.dumps(value).encode()).decode()

    record = {
        "at": NOW,
        "headers": {
            "PAYMENT-REQUIRED": header(X402["required"]),
            "PAYMENT-RESPONSE": header(X402["settlement"]),
            "PAYMENT-SIGNATURE": "hunter2",
        },
    }
    statement = push(record)

    assert b"hunter2" not in statement.raw
    assert statement.event.payload == push(X402).event.payload
    assert "base64" in str(refusal({"at": NOW, "headers": {"PAYMENT-RESPONSE": "!"}}))


def test_a_failed_settlement_has_its_reason_and_no_money():
    event = push(
        X402 | {"settlement": {"success": False, "errorReason": "insufficient_funds", "network": "eip155:8453"}}
    ).event

    assert (event.type, event.payload.outcome, event.payload.call.error, event.payload.money) == (
        "payment.failed",
        "failure",
        "insufficient_funds",
        None,
    )


def test_what_is_only_asked_for_is_a_quote():
    event = push({"at": NOW, "required": X402["required"]}).event

    assert (event.type, event.payload.money.phase) == ("payment.quoted", "quoted")


def test_a_jws_receipt_alone_under_a_known_key_is_grade_a_and_checks_again():
    receipt = {"format": "jws", "signature": compact_jws(json.dumps(RECEIPT).encode()).decode()}
    statement = push({"at": NOW, "receipt": receipt})

    assert (statement.grade, statement.key, statement.event.type) == ("A", KEYS["k1"].thumbprint, "payment.settled")
    x402.check_stored(statement.raw, statement.headers, SENDER)
    with pytest.raises(Refused):
        x402.check_stored(statement.raw, statement.headers, sender_of("x402"))
    assert push(X402 | {"receipt": receipt}).grade == "D"  # beside it stands what nobody signed


def test_a_forged_receipt_is_refused_and_an_unknown_key_is_not():
    good = compact_jws(json.dumps(RECEIPT).encode()).decode()
    forged = {"format": "jws", "signature": good[:-6] + "AAAAAA"}
    other = {"format": "jws", "signature": compact_jws(json.dumps(RECEIPT).encode(), kid="k9").decode()}

    assert refusal({"at": NOW, "receipt": forged}).err == "authentication_failed"
    assert push({"at": NOW, "receipt": other}).grade == "D"


def test_a_receipt_for_another_resource_than_the_offer_is_refused():
    offer = {
        "format": "jws",
        "signature": compact_jws(
            json.dumps(X402_TERMS | {"version": 1, "resourceUrl": "https://other.example"}).encode()
        ).decode(),
    }
    receipt = {"format": "jws", "signature": compact_jws(json.dumps(RECEIPT).encode()).decode()}

    assert "receipt_resource_mismatch" in str(refusal({"at": NOW, "offer": offer, "receipt": receipt}))


@pytest.mark.parametrize(
    "changes",
    [
        {"offer": {}},
        {"receipt": {"format": "x", "signature": "y"}},
    ],
)
def test_records_of_wrong_types_are_refused(changes):
    assert refusal(X402 | changes).err == "invalid_request"


def test_a_record_of_nothing_is_refused():
    assert "expected" in str(refusal({"at": NOW}))


BASE = {"scheme": "exact", "network": "eip155:8453", "asset": "0x8335", "amount": "10000", "payTo": "0x1111"}
SOLANA = {
    "scheme": "exact",
    "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "asset": "EPjF",
    "amount": "10000",
    "payTo": "7Xyz",
}
PAID = {"success": True, "transaction": "5Sig", "payer": "9Pay"}


def settled_by(accepts, settlement, **more):
    event = event_in("x402", {"at": "2026-11-20T10:00:00Z", "accepts": accepts, "settlement": PAID | settlement} | more)
    _, _, network, *asset = event.payload.call.operation.split(" ")
    return event.payload.action.account, network, "".join(asset)


@pytest.mark.parametrize("accepts", [[BASE, SOLANA], [SOLANA, BASE]])
def test_the_offer_that_was_settled_is_the_one_that_counts(accepts):
    assert settled_by(accepts, {"network": SOLANA["network"]}) == ("7Xyz", SOLANA["network"], "EPjF")
    assert settled_by(accepts, {"network": BASE["network"]}) == ("0x1111", BASE["network"], "0x8335")


def test_of_offers_that_cannot_be_told_apart_only_what_they_share_is_known():
    other = BASE | {"payTo": "0x2222"}

    assert settled_by([BASE, other], {"network": BASE["network"]}) == ("", BASE["network"], "0x8335")
    assert settled_by([BASE, other], {"network": BASE["network"], "payTo": "0x2222"})[0] == "0x2222"
    assert settled_by([BASE | {"asset": "0x9"}, BASE], {"network": BASE["network"], "asset": "0x8335"})[2] == "0x8335"
    assert settled_by([BASE, SOLANA], {"network": "eip155:1"}) == ("", "eip155:1", "")  # none of them


def test_what_is_only_asked_for_has_no_terms_before_somebody_chooses():
    event = event_in("x402", {"at": "2026-11-20T10:00:00Z", "accepts": [BASE | {"asset": "USD"}, SOLANA]})

    assert event.type == "payment.quoted" and event.payload.money is None and event.payload.action.account == ""
    assert (
        event_in(
            "x402", {"at": "2026-11-20T10:00:00Z", "accepts": [BASE | {"asset": "USD"}]}
        ).payload.money.amount_minor
        == 10_000
    )


def test_the_terms_in_a_settlement_or_those_accepted_go_before_the_offers():
    own = BASE | {"payTo": "0x20", "asset": "USD"}

    assert settled_by([BASE, SOLANA], {"network": BASE["network"], "requirements": own})[0] == "0x20"
    assert settled_by([BASE, SOLANA], {"network": SOLANA["network"]}, accepted=SOLANA)[0] == "7Xyz"
    money = event_in(
        "x402", {"at": "2026-11-20T10:00:00Z", "settlement": PAID | {"network": BASE["network"], "requirements": own}}
    ).payload.money
    assert (money.amount_minor, money.currency, money.phase) == (10_000, "USD", "settled")


def test_version_1_is_read_by_its_own_names():
    response = b64encode(
        json.dumps({"success": True, "transaction": "0xabc", "network": "base", "payer": "0x1"}).encode()
    ).decode()
    offered = {
        "scheme": "exact",
        "network": "base",
        "maxAmountRequired": "10000",
        "resource": "https://a.example/x",
        "payTo": "0x2",
        "asset": "USD",
    }

    event = event_in(
        "x402",
        {
            "at": "2026-11-20T10:00:00Z",
            "headers": {"X-PAYMENT-RESPONSE": response},
            "accepts": [offered, offered | {"network": "solana"}],
        },
    )

    assert (event.type, event.payload.money.amount_minor, event.payload.action.account) == (
        "payment.settled",
        10_000,
        "0x2",
    )
    assert event.payload.action.target.id == "https://a.example/x"


def test_a_record_without_a_time_is_dated_by_its_arrival():
    assert not event_in("x402", {"accepts": [BASE]}).dated


def test_terms_accepted_on_another_network_are_not_those_that_were_settled():
    base, solana = BASE | {"asset": "USD"}, SOLANA | {"asset": "EUR", "amount": "20000"}
    told = {"at": "2026-11-20T10:00:00Z", "accepted": solana, "settlement": PAID | {"network": BASE["network"]}}

    settled = event_in("x402", told | {"accepts": [base, solana]}).payload
    alone = event_in("x402", told).payload

    assert (settled.money.amount_minor, settled.money.currency, settled.action.account) == (10_000, "USD", "0x1111")
    assert (alone.money, alone.action.account) == (None, "")


def test_terms_that_name_no_network_are_those_that_were_settled():
    own = {"payTo": "0x20", "asset": "USD", "amount": "7", "scheme": "exact"}

    assert (
        event_in("x402", {"settlement": PAID | {"network": "base", "requirements": own}}).payload.money.amount_minor
        == 7
    )


def test_an_offer_on_another_network_is_not_what_was_settled():
    offered = {
        "format": "jws",
        "signature": compact_jws(
            json.dumps(X402_TERMS | {"version": 1, "resourceUrl": "https://a.example/x"}).encode()
        ).decode(),
    }
    there = event_in("x402", {"offer": offered, "settlement": PAID | {"network": X402_TERMS["network"]}})
    elsewhere = event_in("x402", {"offer": offered, "settlement": PAID | {"network": SOLANA["network"]}})

    assert there.payload.action.account == X402_TERMS["payTo"] and elsewhere.payload.action.account == ""


@pytest.mark.parametrize("odd", [None, 1, "x", []])
def test_terms_that_are_none_lose_no_settlement(odd):
    event = event_in(
        "x402", {"accepts": [odd, BASE | {"asset": "USD"}], "settlement": PAID | {"network": BASE["network"]}}
    )

    assert (event.type, event.payload.money.amount_minor) == ("payment.settled", 10_000)


def test_an_amount_as_a_number_is_the_same_amount():
    told = {"accepts": [BASE | {"asset": "USD", "amount": 10000}], "settlement": PAID | {"network": BASE["network"]}}

    assert event_in("x402", told).payload.money.amount_minor == 10_000
    assert event_in("x402", told | {"settlement": PAID | {"amount": 7}}).payload.money.amount_minor == 7


@pytest.mark.parametrize("success", [None, "true", "false", 1, {}])
def test_a_settlement_that_does_not_say_whether_it_succeeded_is_unknown(success):
    event = event_in(
        "x402",
        {"accepts": [BASE | {"asset": "USD"}], "settlement": PAID | {"network": BASE["network"], "success": success}},
    )

    assert (event.type, event.payload.outcome) == ("payment.settled", "unknown")


@pytest.mark.parametrize("environment", ["", "live", "test"])
@pytest.mark.parametrize(
    "network",
    ["eip155:84532", "base-sepolia", "solana-devnet", "eip155:43113", "somenet-testnet", "eip155:8453", "solana"],
)
def test_money_on_a_network_for_tests_is_test_money(network, environment):
    told = {"settlement": PAID | {"network": network}} | ({"environment": environment} if environment else {})

    is_test = environment == "test" or (not environment and network not in ("eip155:8453", "solana"))
    assert event_in("x402", told).payload.environment == ("test" if is_test else "live")


def test_a_header_is_read_in_either_alphabet_and_without_padding():
    response = json.dumps(
        {"success": True, "transaction": "0xabc", "network": "base", "payer": "0x1", "x": "?>~"}
    ).encode()
    for value in (b64encode(response), urlsafe_b64encode(response), urlsafe_b64encode(response).rstrip(b"=")):
        assert event_in("x402", {"headers": {"PAYMENT-RESPONSE": value.decode()}}).type == "payment.settled"


def test_an_unreadable_price_hides_no_settlement_and_an_unreadable_settlement_is_refused():
    response = b64encode(json.dumps(PAID | {"network": "base"}).encode()).decode()

    assert (
        event_in("x402", {"headers": {"PAYMENT-REQUIRED": "{}", "PAYMENT-RESPONSE": response}}).type
        == "payment.settled"
    )
    assert refusal({"headers": {"PAYMENT-RESPONSE": "{}"}, "accepts": [BASE]}).err == "invalid_request"
