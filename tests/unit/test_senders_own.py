"""From the sender's side: what the senders' own libraries make is taken, and what we make they take.

Stripe's library signs the events of test_stripe_format and test_stripe_money, OpenTelemetry's classes encode those of
test_otlp_format, PyNaCl's keys stand behind native events. Where a sender publishes no library, its format's test names the
page it follows and when it was read (see ABOUT.tested).
"""

import json
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

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
from svix.webhooks import Webhook as SvixWebhook

from auditlog.core.keys import b64url, load
from auditlog.formats import NAMES, Delivery, Sender, Statement, cloudevents, http_signatures, named, standard_webhooks
from auditlog.formats.trial import trial_delivery
from tests.deliveries import CLOUDEVENT, NATIVE, SIGNED_BODY, WHSEC, sender_of, with_token

AT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
HOOKED = sender_of("standard_webhooks", secret=WHSEC.encode)


def only(received) -> Statement:
    [statement] = received.statements.values()
    assert isinstance(statement, Statement), statement
    return statement


# --- Standard Webhooks, Svix ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("library", "prefix"), [(standardwebhooks.Webhook, "webhook"), (SvixWebhook, "svix")])
def test_what_webhook_libraries_sign_is_taken_under_both_header_names(library, prefix):
    body = json.dumps(NATIVE)
    headers = {f"{prefix}-id": "msg_1", f"{prefix}-timestamp": str(int(AT.timestamp())), f"{prefix}-signature": library(WHSEC).sign("msg_1", AT, body)}

    statement = only(standard_webhooks.receive(Delivery(body.encode(), "application/json", headers), HOOKED))

    assert (statement.grade, statement.event.type, statement.source_event_id) == ("C", "payment.captured", "msg_1")


def test_what_we_sign_as_a_trial_the_libraries_verify():
    now = datetime.now(UTC)
    trial = trial_delivery("standard_webhooks", WHSEC.encode(), now=now)

    for library in (standardwebhooks.Webhook, SvixWebhook):
        library(WHSEC).verify(trial.body, dict(trial.headers))


# --- CloudEvents ------------------------------------------------------------------------------------------------------------


def as_delivery(headers, body) -> Delivery:
    given = {name.lower(): value for name, value in headers.items()}
    content_type = given.get("content-type", "").partition(";")[0].strip()
    return with_token(body if isinstance(body, bytes) else body.encode(), content_type, **{k: v for k, v in given.items() if k != "content-type"})


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
    message = cloudevents_http.to_binary(CloudEvent({"type": "com.example.made", "source": "/shop", "id": "x"}, {"a": 1}), JSONFormat())

    statement = only(cloudevents.receive(as_delivery(message.headers, message.body), sender_of("cloudevents")))

    assert statement.event.dated == ("ce-time" in {name.lower() for name in message.headers})


# --- HTTP Message Signatures ------------------------------------------------------------------------------------------------


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
        (algorithms.ECDSA_P256_SHA256, p256, {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}),
        (algorithms.RSA_PSS_SHA512, big, rsa_jwk),
        (algorithms.RSA_V1_5_SHA256, big, rsa_jwk),
    ]


@pytest.mark.parametrize(("algorithm", "private", "jwk"), keys_of_all_kinds(), ids=lambda value: getattr(value, "algorithm_id", ""))
@pytest.mark.parametrize("covered", [("@method", "@authority", "@target-uri", "content-digest"), ("@path", "content-type", "content-digest"), ("content-digest",)])
@pytest.mark.parametrize("include_alg", [True, False])
def test_what_the_library_signs_with_every_algorithm_is_taken_and_checked_again(algorithm, private, jwk, covered, include_alg):
    if not include_alg and algorithm is not algorithms.ED25519 and algorithm is not algorithms.ECDSA_P256_SHA256:
        pytest.skip("an RSA key has several algorithms, so the signature has to name one")
    body = json.dumps(SIGNED_BODY).encode()
    request = httpx.Request("POST", "https://log.example/ingest/robot?x=1", content=body, headers={"Content-Type": "application/json"})
    signer = HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=MappingKeyResolver(public_keys={}, private_keys={"robot-1": private}))
    signer.sign(request, key_id="robot-1", covered_component_ids=covered, created=AT, include_alg=include_alg, body=body, label="sig1")
    headers = {name.lower(): value for name, value in request.headers.items()} | {":method": "POST", ":scheme": "https", ":authority": "log.example", ":path": "/ingest/robot?x=1"}
    sender = Sender("default", "robot", "https://robot.example", keys={"robot-1": load(jwk, "robot-1")})

    statement = only(http_signatures.receive(Delivery(body, "application/json", headers), sender))

    assert (statement.grade, statement.event.source_event_id) == ("B", "rs-1")
    again = http_signatures.receive(Delivery(statement.raw, "application/json", json.loads(statement.headers)), sender)
    assert only(again).key == statement.key


def test_a_signature_of_the_library_over_another_body_is_refused():
    [(algorithm, private, jwk), *_] = keys_of_all_kinds()
    body = json.dumps(SIGNED_BODY).encode()
    request = httpx.Request("POST", "https://log.example/ingest/robot", content=body, headers={"Content-Type": "application/json"})
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=MappingKeyResolver(public_keys={}, private_keys={"robot-1": private})).sign(
        request, key_id="robot-1", covered_component_ids=("content-digest",), created=AT, body=body)  # fmt: skip
    headers = {name.lower(): value for name, value in request.headers.items()}
    sender = Sender("default", "robot", "https://robot.example", keys={"robot-1": load(jwk, "robot-1")})

    with pytest.raises(Exception, match="sha-"):
        http_signatures.receive(Delivery(body + b" ", "application/json", headers | {"x": b64encode(b"x").decode()}), sender)


def test_the_table_in_help_names_the_very_versions_that_the_tests_use():
    for name in NAMES:
        for one in named(name).ABOUT.against:
            package, _, stated = one.partition(" ")
            with suppress(PackageNotFoundError):
                assert version(package) == stated, (name, one)
    libraries = {one.partition(" ")[0] for name in NAMES for one in named(name).ABOUT.against}
    assert {"stripe", "standardwebhooks", "svix", "cloudevents", "http-message-signatures", "opentelemetry-proto"} <= libraries
