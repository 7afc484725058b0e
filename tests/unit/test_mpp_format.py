"""MPP: published vectors of challenges, credentials and receipts; the proof of payment is not stored."""

import json
from base64 import urlsafe_b64encode

import pytest

from auditlog.core.errors import Refused
from auditlog.formats import mpp
from tests import vectors
from tests.deliveries import MPP, MPP_REQUEST, event_in, received


def b64(value):
    return urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=").decode()


def header(**changes):
    parameters = {
        "id": "chl_1",
        "realm": "api.example.com",
        "method": "example",
        "intent": "charge",
        "request": b64(MPP_REQUEST),
    } | changes
    return "Payment " + ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value is not None)


def vector(name):
    return vectors.read(f"peac/paymentauth/{name}.json")


def refusal(record):
    with pytest.raises(Refused) as caught:
        received("mpp", record)
    return caught.value


def test_the_published_challenge_is_read():
    case = vector("valid-challenge-parse")
    challenge = mpp.read_challenge(case["input"]["header"])

    assert {name: challenge[name] for name in ("id", "realm", "method", "intent", "expires")} == {
        name: case["expected"][name] for name in ("id", "realm", "method", "intent", "expires")
    }
    event = event_in("mpp", {"at": "2025-01-15T12:00:00Z", "challenge": case["input"]["header"]})
    assert (event.type, event.payload.money.phase, event.payload.money.amount_minor, event.payload.money.currency) == (
        "payment.quoted",
        "quoted",
        1000,
        "USD",
    )
    assert event.payload.action.account == case["expected"]["decodedRequest"]["recipient"]


def test_the_published_receipt_is_a_settlement_of_the_challenges_amount():
    case = vector("valid-receipt-mapping")
    event = event_in("mpp", case["input"])
    money = event.payload.money

    assert (event.type, event.occurred_at.isoformat()) == ("payment.settled", "2025-01-15T12:00:00+00:00")
    assert money.phase == "settled"
    assert (money.amount_minor, money.currency, money.charge) == (
        case["expected"]["amount"],
        case["expected"]["currency"],
        case["expected"]["reference"],
    )
    assert event.payload.request_id == case["input"]["challenge"]["id"]


def test_the_published_credential_is_read_and_its_proof_is_kept_as_a_digest():
    case = vector("valid-credential-parse")
    [statement] = received("mpp", {"at": "2025-01-15T12:00:00Z", "credential": case["input"]["header"]}).values()

    assert statement.event.payload.request_id == case["expected"]["challengeId"]
    assert statement.event.payload.call.operation == f"{case['expected']['method']} {case['expected']['intent']}"
    assert b"abc123" not in statement.raw and b"payload_sha256" in statement.raw and b"eyJ" not in statement.raw
    assert b"received-sha256" in statement.headers and statement.grade == "D"


def test_the_published_edge_cases_are_taken():
    unknown = vector("edge-unknown-method")
    assert mpp.read_challenge(unknown["input"]["header"])["method"] == unknown["expected"]["method"]
    extra = vector("edge-receipt-extra-fields")
    assert set(extra["expected"]["extra_keys"]) <= set(mpp.read_receipt(extra["input"]["header"]))
    assert event_in("mpp", {"receipt": extra["input"]["header"]}).type == "payment.settled"


@pytest.mark.parametrize(
    ("name", "field", "reason"),
    [
        ("invalid-missing-scheme", "credential", "scheme Payment"),
        ("invalid-missing-challenge-id", "challenge", "needs id"),
        ("invalid-truncated-base64", "credential", "base64url"),
        ("invalid-receipt-not-json", "receipt", "not JSON"),
    ],
)
def test_the_published_invalid_ones_are_refused_for_their_reason(name, field, reason):
    assert reason in str(refusal({"at": "2025-01-15T12:00:00Z", field: vector(name)["input"]["header"]}))


def test_an_oversized_header_is_refused_without_repeating_it():
    size = vector("security-oversized-header")["input"]["min_bytes"]
    refused = refusal({"at": "2025-01-15T12:00:00Z", "challenge": header(opaque="x" * size)})

    assert "8,192" in str(refused) and "xxx" not in str(refused)


def test_a_header_and_its_object_say_the_same():
    opened = event_in("mpp", MPP | {"id": "a"})
    raw = event_in("mpp", {"id": "a", "challenge": header(), "receipt": b64(MPP["receipt"])})

    assert opened == raw


def test_the_payer_acts_where_it_is_said():
    credential = "Payment " + b64(
        {
            "challenge": {"id": "chl_1", "method": "example"},
            "source": "did:example:payer",
            "payload": {"proof": "hunter2"},
        }
    )
    [statement] = received("mpp", MPP | {"credential": credential}).values()

    assert statement.event.payload.actor.sub == "did:example:payer" and b"hunter2" not in statement.raw


def test_what_does_not_belong_together_is_refused():
    other = "Payment " + b64({"challenge": {"id": "chl_9"}, "payload": {}})

    assert "another challenge" in str(refusal(MPP | {"credential": other}))
    assert "another" in str(refusal(MPP | {"receipt": MPP["receipt"] | {"method": "tempo"}}))


@pytest.mark.parametrize("currency", ["0x20c0000000000000000000000000000000000001", "USDC", None, 5])
def test_a_token_is_no_currency(currency):
    challenge = MPP["challenge"] | {"request": MPP_REQUEST | {"currency": currency}}

    assert event_in("mpp", MPP | {"challenge": challenge}).payload.money is None


@pytest.mark.parametrize("amount", ["10.00", 10.5, "-", "", True, "9" * 30, "-5"])
def test_an_amount_that_is_no_integer_is_refused(amount):
    challenge = MPP["challenge"] | {"request": MPP_REQUEST | {"amount": amount}}

    assert refusal(MPP | {"challenge": challenge}).err == "invalid_request"


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Payment",
        "Payment id",
        header() + ', id="b"',
        'Payment id="' + "\\" * 4000,
        header(request="!!"),
        header(request=b64(b"[]")),
        header(realm=None),
        {},
        {"id": 5},
    ],
)
def test_challenges_that_cannot_be_read_are_refused(challenge):
    assert refusal({"at": "2025-01-15T12:00:00Z", "challenge": challenge}).err == "invalid_request"


@pytest.mark.parametrize(
    "receipt",
    [
        {"status": "failed", "method": "m", "timestamp": "2025-01-15T12:00:00Z"},
        {"status": "success"},
        "e30",
        "",
        "=",
        {"status": "success", "method": "m", "timestamp": None},
    ],
)
def test_receipts_that_are_none_are_refused(receipt):
    assert refusal({"receipt": receipt}).err == "invalid_request"


def test_a_record_of_nothing_is_refused():
    assert "expected a challenge" in str(refusal({"at": 1}))


def test_a_record_without_a_time_is_dated_by_its_arrival():
    assert not event_in("mpp", {"challenge": MPP["challenge"]}).dated


def challenge_of(id, method, amount="1000", currency="usd"):
    request = b64(json.dumps({"amount": amount, "currency": currency, "recipient": "acct_1"}).encode())
    return f'Payment id="{id}", realm="api.example", method="{method}", intent="charge", request="{request}"'


TEMPO, STRIPE_ONE = challenge_of("c1", "tempo"), challenge_of("c2", "stripe", "2000")


@pytest.mark.parametrize(
    "header",
    [
        f'Bearer realm="x", {STRIPE_ONE}',
        f'{STRIPE_ONE}, Bearer realm="x"',
        f"Negotiate, {STRIPE_ONE}",
        f"Basic abc==, {STRIPE_ONE}, Digest",
        f'Bearer realm="x, y", {STRIPE_ONE}',
    ],
)
def test_challenges_of_other_schemes_beside_it_do_no_harm(header):
    event = event_in("mpp", {"at": "2026-11-20T10:00:00Z", "challenge": header})

    assert event.payload.request_id == "c2" and event.payload.money.amount_minor == 2000


def test_of_several_challenges_only_what_all_ask_for_is_known():
    event = event_in("mpp", {"at": "2026-11-20T10:00:00Z", "challenge": f"{TEMPO}, {STRIPE_ONE}"})

    assert (event.type, event.payload.request_id, event.payload.money) == ("payment.quoted", "", None)
    assert event.payload.action.account == "acct_1" and event.payload.action.target.id == "api.example"
    same = event_in("mpp", {"at": "2026-11-20T10:00:00Z", "challenge": [TEMPO, challenge_of("c2", "stripe")]})
    assert same.payload.money.amount_minor == 1000


def test_of_several_challenges_the_one_counts_that_was_answered():
    both = {"at": "2026-11-20T10:00:00Z", "challenge": f"{TEMPO}, {STRIPE_ONE}"}
    receipt = {"status": "success", "method": "stripe", "timestamp": "2026-11-20T10:00:00Z", "reference": "pi_1"}

    paid = event_in("mpp", both | {"receipt": receipt})
    assert (paid.type, paid.payload.request_id, paid.payload.money.amount_minor) == ("payment.settled", "c2", 2000)
    answered = event_in("mpp", both | {"credential": {"challenge": {"id": "c1"}, "payload": {"x": 1}}})
    assert (answered.payload.request_id, answered.payload.money.amount_minor) == ("c1", 1000)
    assert "another challenge" in str(refusal(both | {"credential": {"challenge": {"id": "c9"}}}))


def test_of_several_header_lines_those_of_other_schemes_do_no_harm():
    lines = ['Bearer realm="x"', challenge_of("c1", "stripe"), 'Basic realm="y", charset="UTF-8"']

    assert event_in("mpp", {"challenge": lines}).payload.request_id == "c1"
    assert refusal({"challenge": lines[:1]}).err == "invalid_request"
