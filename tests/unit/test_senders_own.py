"""From the sender's side: what the senders' own libraries make is taken, and what we make they take.

Stripe's library signs the events of test_stripe_format and test_stripe_money, OpenTelemetry's classes encode those of
test_otlp_format, PyNaCl's keys stand behind native events. Where a sender publishes no library that installs, its
format says which page or sources it follows and when they were read (ABOUT.against): the registry's `ap2` is not by
AP2's authors and of an earlier version of it; LiteLLM's package is 140 MB and asks for clouds' SDKs, so its types were
read and are not installed.
"""

import json
import re
from base64 import b64encode
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
import standardwebhooks
from cloudevents.core.bindings import http as cloudevents_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import http as cloudevents_v1
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from mpp import Challenge, Credential, Receipt
from svix.webhooks import Webhook as SvixWebhook
from x402.http import utils as x402_http
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements, ResourceInfo, SettleResponse
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1

from auditlog.core.wire.keys import b64url, load
from auditlog.formats import (
    NAMES,
    Delivery,
    Sender,
    Statement,
    cloudevents,
    http_signatures,
    mpp,
    named,
    standard_webhooks,
    x402,
)
from auditlog.formats import set as set_format
from auditlog.formats.trial import trial_delivery
from tests.deliveries import CLOUDEVENT, NATIVE, SIGNED_BODY, WHSEC, sender_of, with_token

AT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
HOOKED = sender_of("standard_webhooks", secret=WHSEC.encode)


def only(received) -> Statement:
    [statement] = received.statements.values()
    assert isinstance(statement, Statement), statement
    return statement


# --- Standard Webhooks, Svix
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("library", "prefix"), [(standardwebhooks.Webhook, "webhook"), (SvixWebhook, "svix")])
def test_what_webhook_libraries_sign_is_taken_under_both_header_names(library, prefix):
    body = json.dumps(NATIVE)
    headers = {
        f"{prefix}-id": "msg_1",
        f"{prefix}-timestamp": str(int(AT.timestamp())),
        f"{prefix}-signature": library(WHSEC).sign("msg_1", AT, body),
    }

    statement = only(standard_webhooks.receive(Delivery(body.encode(), "application/json", headers), HOOKED))

    assert (statement.grade, statement.event.type, statement.source_event_id) == ("C", "payment.captured", "msg_1")


def test_what_we_sign_as_a_trial_the_libraries_verify():
    now = datetime.now(UTC)
    trial = trial_delivery("standard_webhooks", WHSEC.encode(), now=now)

    for library in (standardwebhooks.Webhook, SvixWebhook):
        library(WHSEC).verify(trial.body, dict(trial.headers))


# --- CloudEvents
# ------------------------------------------------------------------------------------------------------------


def as_delivery(headers, body) -> Delivery:
    given = {name.lower(): value for name, value in headers.items()}
    content_type = given.get("content-type", "").partition(";")[0].strip()
    return with_token(
        body if isinstance(body, bytes) else body.encode(),
        content_type,
        **{k: v for k, v in given.items() if k != "content-type"},
    )


ATTRIBUTES = {"type": CLOUDEVENT["type"], "source": CLOUDEVENT["source"], "id": "ce-9", "time": AT, "subject": "db-1"}


@pytest.mark.parametrize("datacontenttype", [{}, {"datacontenttype": "application/json"}])
@pytest.mark.parametrize("bind", [cloudevents_http.to_binary, cloudevents_http.to_structured])
def test_what_the_cloudevents_sdk_sends_is_taken_with_and_without_a_content_type(bind, datacontenttype):
    message = bind(CloudEvent(ATTRIBUTES | datacontenttype, CLOUDEVENT["data"]), JSONFormat())

    event = only(cloudevents.receive(as_delivery(message.headers, message.body), sender_of("cloudevents"))).event

    assert (event.type, event.payload.money.charge, event.occurred_at) == ("payment.captured", "ch_1", AT)


@pytest.mark.parametrize("bind", [cloudevents_v1.to_binary, cloudevents_v1.to_structured])
def test_what_its_older_interface_sends_is_taken_too(bind):
    headers, body = bind(cloudevents_v1.CloudEvent({**ATTRIBUTES, "time": AT.isoformat()}, CLOUDEVENT["data"]))

    event = only(cloudevents.receive(as_delivery(headers, body), sender_of("cloudevents"))).event

    assert (event.type, event.payload.money.charge, event.occurred_at) == ("payment.captured", "ch_1", AT)


def test_an_event_without_a_time_of_its_own_gets_the_sdks_and_is_dated():
    message = cloudevents_http.to_binary(
        CloudEvent({"type": "com.example.made", "source": "/shop", "id": "x"}, {"a": 1}), JSONFormat()
    )

    statement = only(cloudevents.receive(as_delivery(message.headers, message.body), sender_of("cloudevents")))

    assert statement.event.dated == ("ce-time" in {name.lower() for name in message.headers})


# --- HTTP Message Signatures
# ------------------------------------------------------------------------------------------------


def _number(value: int, size: int) -> str:
    return b64url(value.to_bytes(size, "big"))


def keys_of_all_kinds():
    ed = Ed25519PrivateKey.generate()
    p256 = ec.generate_private_key(ec.SECP256R1())
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    point, numbers = p256.public_key().public_numbers(), big.public_key().public_numbers()
    rsa_jwk = {"kty": "RSA", "n": _number(numbers.n, 256), "e": _number(numbers.e, 3)}
    return [
        (algorithms.ED25519, ed, {"kty": "OKP", "crv": "Ed25519", "x": b64url(ed.public_key().public_bytes_raw())}),
        (
            algorithms.ECDSA_P256_SHA256,
            p256,
            {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)},
        ),
        (algorithms.RSA_PSS_SHA512, big, rsa_jwk),
        (algorithms.RSA_V1_5_SHA256, big, rsa_jwk),
    ]


@pytest.mark.parametrize(
    ("algorithm", "private", "jwk"), keys_of_all_kinds(), ids=lambda value: getattr(value, "algorithm_id", "")
)
@pytest.mark.parametrize(
    "covered",
    [
        ("@method", "@authority", "@target-uri", "content-digest"),
        ("@path", "content-type", "content-digest"),
        ("content-digest",),
    ],
)
@pytest.mark.parametrize("include_alg", [True, False])
def test_what_the_library_signs_with_every_algorithm_is_taken_and_checked_again(
    algorithm, private, jwk, covered, include_alg
):
    if not include_alg and algorithm is not algorithms.ED25519 and algorithm is not algorithms.ECDSA_P256_SHA256:
        pytest.skip("an RSA key has several algorithms, so the signature has to name one")
    body = json.dumps(SIGNED_BODY).encode()
    request = httpx.Request(
        "POST", "https://log.example/ingest/robot?x=1", content=body, headers={"Content-Type": "application/json"}
    )
    signer = HTTPMessageSigner(
        signature_algorithm=algorithm,
        key_resolver=MappingKeyResolver(public_keys={}, private_keys={"robot-1": private}),
    )
    signer.sign(
        request,
        key_id="robot-1",
        covered_component_ids=covered,
        created=AT,
        include_alg=include_alg,
        body=body,
        label="sig1",
    )
    headers = {name.lower(): value for name, value in request.headers.items()} | {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "log.example",
        ":path": "/ingest/robot?x=1",
    }
    sender = Sender("default", "robot", "https://robot.example", keys={"robot-1": load(jwk, "robot-1")})

    statement = only(http_signatures.receive(Delivery(body, "application/json", headers), sender))

    assert (statement.grade, statement.event.source_event_id) == ("B", "rs-1")
    again = http_signatures.receive(Delivery(statement.raw, "application/json", json.loads(statement.headers)), sender)
    assert only(again).key == statement.key


def test_a_signature_of_the_library_over_another_body_is_refused():
    [(algorithm, private, jwk), *_] = keys_of_all_kinds()
    body = json.dumps(SIGNED_BODY).encode()
    request = httpx.Request(
        "POST", "https://log.example/ingest/robot", content=body, headers={"Content-Type": "application/json"}
    )
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=MappingKeyResolver(public_keys={}, private_keys={"robot-1": private})).sign(
        request, key_id="robot-1", covered_component_ids=("content-digest",), created=AT, body=body)  # fmt: skip
    headers = {name.lower(): value for name, value in request.headers.items()}
    sender = Sender("default", "robot", "https://robot.example", keys={"robot-1": load(jwk, "robot-1")})

    with pytest.raises(Exception, match="sha-"):
        http_signatures.receive(
            Delivery(body + b" ", "application/json", headers | {"x": b64encode(b"x").decode()}), sender
        )


# --- Security Event Tokens
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alg", "made"), [("ES256", lambda: ECKey.generate_key("P-256")), ("RS256", lambda: RSAKey.generate_key(2048)),
                                           ("PS256", lambda: RSAKey.generate_key(2048)), ("Ed25519", lambda: OKPKey.generate_key("Ed25519"))])  # fmt: skip
def test_what_a_jose_library_signs_as_a_set_is_taken(alg, made):
    key = made()
    claims = {"iss": "https://sender.example", "iat": int(AT.timestamp()), "jti": "j-1", "aud": "urn:answerable:default", "toe": int(AT.timestamp()),
              "events": {"urn:answerable:event:action.performed:v1": {"outcome": "success"}}}  # fmt: skip
    compact = jws.serialize_compact(
        {"alg": alg, "typ": "secevent+jwt", "kid": "k-1"}, json.dumps(claims), key, algorithms=[alg]
    )
    sender = sender_of("set", keys={"k-1": load(key.as_dict(private=False) | {"kid": "k-1"}, "k-1")})

    statement = only(set_format.receive(Delivery(compact.encode(), "application/secevent+jwt", {}), sender))

    assert (statement.grade, statement.event.type, statement.event.occurred_at) == ("A", "action.performed", AT)


# --- x402
# -------------------------------------------------------------------------------------------------------------------

BASE, SOLANA, USDC = (
    "eip155:8453",
    "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
)
DEARER = PaymentRequirements(
    scheme="exact", network=SOLANA, asset="EPjF", amount="20000", pay_to="9Pay", max_timeout_seconds=60
)
CHEAPER = PaymentRequirements(
    scheme="exact", network=BASE, asset=USDC, amount="10000", pay_to="0x20", max_timeout_seconds=60
)
ASKED = PaymentRequired(accepts=[DEARER, CHEAPER], resource=ResourceInfo(url="https://api.example/report"))
PAID = SettleResponse(success=True, transaction="0x36", network=BASE, payer="0xf6")


def of(module, name, record):
    return only(module.receive(with_token(json.dumps(record).encode()), sender_of(name))).event


def test_what_the_x402_sdk_writes_into_headers_names_the_offer_that_was_settled():
    headers = {
        "PAYMENT-REQUIRED": x402_http.encode_payment_required_header(ASKED),
        "PAYMENT-RESPONSE": x402_http.encode_payment_response_header(PAID),
    }

    event = of(x402, "x402", {"at": AT.isoformat(), "headers": headers})

    assert (event.type, event.payload.outcome, event.payload.actor.sub, event.payload.actor.iss) == (
        "payment.settled",
        "success",
        "0xf6",
        BASE,
    )
    assert event.payload.action.account == "0x20" and event.payload.action.target.id == "https://api.example/report"
    assert event.payload.call.operation == f"x402 exact {BASE} {USDC}"


def test_a_settlement_that_failed_by_the_x402_sdk_is_a_failure_with_its_reason():
    failed = SettleResponse(
        success=False,
        error_reason="insufficient_funds",
        error_message="not enough",
        transaction="",
        network=BASE,
        payer="0xf6",
    )

    event = of(x402, "x402", {"headers": {"PAYMENT-RESPONSE": x402_http.encode_payment_response_header(failed)}})

    assert (event.type, event.payload.outcome, event.payload.call.error, event.dated) == (
        "payment.failed",
        "failure",
        "insufficient_funds",
        False,
    )


def test_objects_and_the_first_versions_of_the_x402_sdk_are_read_alike():
    objects = {
        "at": AT.isoformat(),
        "required": ASKED.model_dump(by_alias=True),
        "settlement": PAID.model_dump(by_alias=True),
    }
    accepted = objects | {
        "accepted": DEARER.model_dump(by_alias=True) | {"payTo": "9Own"},
        "settlement": PAID.model_dump(by_alias=True) | {"network": SOLANA},
    }
    old = PaymentRequiredV1(accepts=[PaymentRequirementsV1(scheme="exact", network="base", max_amount_required="10000", resource="https://api.example/report",
                                                           pay_to="0x20", max_timeout_seconds=60, asset=USDC)])  # fmt: skip
    first = {
        "required": old.model_dump(by_alias=True),
        "headers": {"X-PAYMENT-RESPONSE": x402_http.encode_payment_response_header(PAID)},
    }

    assert of(x402, "x402", objects).payload.action.account == "0x20" == of(x402, "x402", first).payload.action.account
    assert (
        of(x402, "x402", accepted).payload.action.account == "9Own"
    )  # what the buyer accepted, and not what looks like it


def test_the_payment_itself_which_the_x402_sdk_signs_is_not_stored():
    payment = PaymentPayload(payload={"signature": "0x" + "ab" * 65, "authorization": {}}, accepted=CHEAPER)
    headers = {
        "PAYMENT-SIGNATURE": x402_http.encode_payment_signature_header(payment),
        "PAYMENT-RESPONSE": x402_http.encode_payment_response_header(PAID),
    }

    statement = only(x402.receive(with_token(json.dumps({"headers": headers}).encode()), sender_of("x402")))

    assert headers["PAYMENT-SIGNATURE"].encode() not in statement.raw and statement.event.type == "payment.settled"


# --- Machine Payments Protocol
# ----------------------------------------------------------------------------------------------

CARD = Challenge.create(secret_key="k", realm="api.example", method="stripe", intent="charge", request={"amount": "1000", "currency": "usd", "recipient": "acct_1"},
                        expires="2026-11-20T11:00:00Z", description='a "quoted" \\ text, id="x"', meta={"order": "7"})  # fmt: skip
CHAIN = Challenge.create(
    secret_key="k",
    realm="api.example",
    method="tempo",
    intent="charge",
    request={"amount": "1000000", "currency": "0x20c0", "recipient": "0x9"},
)
RECEIPT = Receipt(
    status="success", timestamp=AT, reference="pi_9", method="stripe", external_id="o-1", funding_currency="usd"
)


def test_what_the_mpp_sdk_writes_into_headers_is_one_payment():
    credential = Credential(CARD.to_echo(), {"spt": "spt_secret"}, source="did:example:ada")
    record = {
        "challenge": CARD.to_www_authenticate("api.example"),
        "credential": credential.to_authorization(),
        "receipt": RECEIPT.to_payment_receipt(),
    }

    statement = only(mpp.receive(with_token(json.dumps(record).encode()), sender_of("mpp")))
    event = statement.event

    assert (event.type, event.payload.actor.sub, event.occurred_at) == ("payment.settled", "did:example:ada", AT)
    money = event.payload.money
    assert (money.amount_minor, money.currency, money.charge, event.payload.action.account) == (
        1000,
        "USD",
        "pi_9",
        "acct_1",
    )
    assert b"spt_secret" not in statement.raw and b64url(b"spt_secret").encode()[:12] not in statement.raw


def test_of_two_challenges_of_the_mpp_sdk_the_paid_one_counts_in_one_header_or_in_two():
    both = [one.to_www_authenticate("api.example") for one in (CHAIN, CARD)]

    for challenge in (", ".join(both), f'{", ".join(both)}, Basic realm="x"', both):
        event = of(mpp, "mpp", {"challenge": challenge, "receipt": RECEIPT.to_payment_receipt()})
        assert (event.payload.money.amount_minor, event.payload.call.operation) == (1000, "stripe charge"), challenge
    assert (
        of(mpp, "mpp", {"challenge": ", ".join(both)}).payload.money is None
    )  # nothing was paid yet, in nobody knows which


# --- the table of what was tested with what
# -----------------------------------------------------------------------------------

_RELEASE = re.compile(r"([a-z0-9-]+) (\d+(?:\.\d+)+)\Z")
_WHICH = re.compile(r"20\d\d-\d\d|\d+\.\d+|RFC \d{4}|\b[0-9a-f]{7}\b")  # when it was read, of which version, a commit
_LIBRARIES = {
    "stripe",
    "standardwebhooks",
    "svix",
    "cloudevents",
    "http-message-signatures",
    "opentelemetry-proto",
    "x402",
    "pympp",
    "ocsf-json-schema",
    "joserfc",
}


def test_the_table_in_help_names_the_very_versions_that_the_tests_use():
    found = set()
    for name in NAMES:
        for one in named(name).ABOUT.against:
            if release := _RELEASE.match(one):
                assert version(release[1]) == release[2], (
                    name,
                    one,
                )  # a release of a library is one that is installed here
                found.add(release[1])
            else:
                assert _WHICH.search(one), f"{name}: of which version or when was {one!r} read"
    assert found == _LIBRARIES


def test_every_library_of_the_table_is_used_by_a_test_and_every_format_has_one_of_its_own():
    tests = {path.name: path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py")}
    modules = {
        "http-message-signatures": "http_message_signatures",
        "opentelemetry-proto": "opentelemetry",
        "pympp": "mpp",
        "ocsf-json-schema": "ocsf_schema",
    }

    for library in _LIBRARIES:
        module = modules.get(library, library)
        assert any(
            re.search(rf"^(?:from|import) (?:tests\.)?{module}\b", text, re.MULTILINE) for text in tests.values()
        ), library
    assert {f"test_{name}_format.py" for name in NAMES} - tests.keys() <= {"test_set_polling_format.py"}
