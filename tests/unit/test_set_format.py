"""Security Event Tokens: what is taken, and every reason for which one is not."""

import contextlib
import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import Refused
from auditlog.core.wire.keys import b64url, load
from auditlog.formats import Delivery, Sender
from auditlog.formats import set as sets
from auditlog.simulator.signing import Signer

ISSUER = "https://conductor.example"
SIGNER = Signer(ISSUER, "k1", seed=1)
KEY = load(SIGNER.jwk, "k1")
SENDER = Sender("default", "conductor", ISSUER, keys={"k1": KEY}, retired=frozenset({"k0"}))
URN = "urn:answerable:event:{}:v1"


def claims(**changes):
    body = {
        "iss": ISSUER,
        "iat": 1_795_000_000,
        "jti": "e1",
        "aud": ["urn:answerable:default"],
        "events": {URN.format("action.performed"): {"outcome": "success"}},
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def push(compact, content_type="application/secevent+jwt", sender=SENDER):
    return sets.receive(Delivery(compact, content_type, {}), sender)


def event_of(**changes):
    [statement] = push(SIGNER.sign_set(claims(**changes))).statements.values()
    return statement.event


def refusal(compact, **kwargs):
    with pytest.raises(Refused) as caught:
        push(compact, **kwargs)
    return caught.value


def hand_signed(header, body=None, sign=lambda message: SIGNER._key.sign(message).signature):
    def part(value):
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    message = part(header) + b"." + part(body or claims())
    return message + b"." + urlsafe_b64encode(sign(message)).rstrip(b"=")


def test_a_signed_event_is_read_with_its_times_in_microseconds():
    event = event_of(
        toe=1_795_000_000.123456, txn="t1", sub_id={"format": "iss_sub", "iss": "https://id", "sub": "ada"}
    )

    assert event.occurred_at == datetime.fromtimestamp(1_795_000_000, UTC).replace(microsecond=123456)
    assert (event.txn, event.principal_claim.key) == ("t1", "https://id|ada")


def test_an_unknown_type_is_kept_under_its_source():
    assert (
        event_of(events={URN.format("lunar.landing"): {"outcome": "success"}}).type == "other.conductor.lunar.landing"
    )
    caep = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
    assert event_of(events={caep: {"anything": 1}}).type == f"other.conductor.{caep}"


@pytest.mark.parametrize("typ", ["secevent+jwt", "SecEvent+JWT", "application/secevent+jwt"])
def test_typ_compares_without_case_and_with_its_prefix(typ):
    push(hand_signed({"alg": "EdDSA", "kid": "k1", "typ": typ}))


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_both_names_of_ed25519_are_taken(alg):
    push(hand_signed({"alg": alg, "kid": "k1", "typ": "secevent+jwt"}))


def test_es256_and_rsa_signatures_are_taken():
    p256, rsa_key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    numbers, rsa_numbers = p256.public_key().public_numbers(), rsa_key.public_key().public_numbers()
    jwks = {
        "ec": {"kty": "EC", "crv": "P-256", "x": b64url(numbers.x.to_bytes(32)), "y": b64url(numbers.y.to_bytes(32))},
        "rsa": {"kty": "RSA", "n": b64url(rsa_numbers.n.to_bytes(256)), "e": "AQAB"},
    }
    sender = Sender("default", "conductor", ISSUER, keys={kid: load(jwk, kid) for kid, jwk in jwks.items()})

    def es256(message):
        r, s = decode_dss_signature(p256.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    for alg, kid, sign in (
        ("ES256", "ec", es256),
        ("RS256", "rsa", lambda m: rsa_key.sign(m, padding.PKCS1v15(), hashes.SHA256())),
        ("PS256", "rsa", lambda m: rsa_key.sign(m, pss, hashes.SHA256())),
    ):
        push(hand_signed({"alg": alg, "kid": kid, "typ": "secevent+jwt"}, sign=sign), sender=sender)


@pytest.mark.parametrize(
    ("header", "err"),
    [
        ({"alg": "none", "kid": "k1", "typ": "secevent+jwt"}, "invalid_key"),
        ({"alg": "HS256", "kid": "k1", "typ": "secevent+jwt"}, "invalid_key"),
        ({"alg": "ES256", "kid": "k1", "typ": "secevent+jwt"}, "invalid_key"),
        ({"alg": "EdDSA", "kid": "k0", "typ": "secevent+jwt"}, "invalid_key"),
        ({"alg": "EdDSA", "kid": "kX", "typ": "secevent+jwt"}, "invalid_key"),
        ({"alg": "EdDSA", "typ": "secevent+jwt"}, "invalid_key"),
        ({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt", "jwk": SIGNER.jwk}, "invalid_key"),
        ({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt", "jku": "https://evil.example"}, "invalid_key"),
        ({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt", "x5c": []}, "invalid_key"),
        ({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt", "crit": ["exp"]}, "invalid_request"),
        ({"alg": "EdDSA", "kid": "k1", "typ": "JWT"}, "invalid_request"),
        ({"alg": "EdDSA", "kid": "k1"}, "invalid_request"),
    ],
)
def test_headers_that_are_not_ours_are_refused(header, err):
    assert refusal(hand_signed(header)).err == err


@pytest.mark.parametrize(
    ("changes", "err"),
    [
        ({"aud": ["urn:answerable:other"]}, "invalid_audience"),
        ({"aud": "urn:answerable:other"}, "invalid_audience"),
        ({"aud": None}, "invalid_request"),
        ({"iss": "https://somebody.example"}, "invalid_issuer"),
        ({"iss": None}, "invalid_request"),
        ({"iss": "https://a|b"}, "invalid_request"),
        ({"iat": None}, "invalid_request"),
        ({"iat": "now"}, "invalid_request"),
        ({"iat": -1}, "invalid_request"),
        ({"iat": 1e300}, "invalid_request"),
        ({"jti": None}, "invalid_request"),
        ({"jti": ""}, "invalid_request"),
        ({"jti": "x" * 501}, "invalid_request"),
        ({"jti": "a\x00b"}, "invalid_request"),
        ({"sub": "ada"}, "invalid_request"),
        ({"exp": 2_000_000_000}, "invalid_request"),
        ({"events": {}}, "invalid_request"),
        ({"events": {URN.format("limit.set"): {"outcome": "success"}, "x": {}}}, "invalid_request"),
        ({"events": {URN.format("limit.set"): {}}}, "invalid_request"),
        ({"events": {URN.format("limit.set"): {"outcome": "perhaps"}}}, "invalid_request"),
        ({"events": {URN.format("limit.set"): {"outcome": "success", "money": {"amount_minor": 1.5, "currency": "USD", "phase": "captured"}}}}, "invalid_request"),
        ({"events": {URN.format("limit.set"): {"outcome": "success", "money": {"amount_minor": -1, "currency": "USD", "phase": "captured"}}}}, "invalid_request"),
        ({"events": {URN.format("limit.set"): {"outcome": "success", "call": {"args": {"card": "4242 4242 4242 4242"}}}}}, "invalid_request"),
    ],
)  # fmt: skip
def test_claims_that_do_not_hold_are_refused(changes, err):
    assert refusal(SIGNER.sign_set(claims(**changes))).err == err


def test_a_refusal_says_what_was_found_and_what_was_expected():
    message = str(refusal(SIGNER.sign_set(claims(aud=["urn:answerable:other"]))))

    assert "urn:answerable:default" in message and "urn:answerable:other" in message


def test_a_card_number_is_refused_without_repeating_it():
    payload = {"outcome": "success", "call": {"args": {"pan": "4242424242424242"}}}

    message = str(refusal(SIGNER.sign_set(claims(events={URN.format("usage.metered"): payload}))))

    assert "pan" in message and "4242" not in message


def test_digits_in_id_fields_and_failing_luhn_are_no_cards():
    payload = {"outcome": "success", "request_id": "4242424242424242", "call": {"args": {"n": "4242424242424241"}}}

    assert event_of(events={URN.format("usage.metered"): payload}).payload.request_id == "4242424242424242"


def test_a_changed_byte_is_refused_before_any_claim_is_read():
    compact = SIGNER.sign_set(claims(aud=["urn:answerable:other"]))
    head, payload, signature = compact.split(b".")
    forged = b".".join((head, payload[:-2] + b"AA", signature))

    assert refusal(forged).err == "authentication_failed"


@pytest.mark.parametrize("body", [b"", b"a.b", b"a.b.c.d", b"\xff\xfe", b"{}", b"a.b.!"])
def test_what_is_no_jws_is_refused(body):
    assert refusal(body).err == "invalid_request"


def test_a_set_over_256_kib_is_refused():
    big = claims(events={URN.format("usage.metered"): {"outcome": "success", "unknown": "x" * 262_144}})

    assert "bytes" in str(refusal(SIGNER.sign_set(big)))


def test_a_bad_set_in_a_batch_does_not_hurt_the_others():
    good, other = SIGNER.sign_set(claims(jti="a")), SIGNER.sign_set(claims(jti="b"))
    body = json.dumps({"sets": {"a": good.decode(), "wrong": other.decode(), "c": "junk"}}).encode()

    received = push(body, content_type="application/json")

    kinds = {name: isinstance(value, Refused) for name, value in received.statements.items()}
    assert kinds == {"a": False, "wrong": True, "c": True}


@pytest.mark.parametrize(
    "body", [b"[]", b'{"sets": []}', b'{"sets": {}, "more": {}}', b'{"tests": {}}', b"{", b'{"sets":{"a":1}}']
)
def test_what_is_no_batch_is_refused(body):
    assert refusal(body, content_type="application/json").err == "invalid_request"


def test_a_batch_of_more_than_a_thousand_is_refused():
    body = json.dumps({"sets": {str(n): "x" for n in range(1001)}}).encode()

    assert "1,000" in str(refusal(body, content_type="application/json"))


def test_deep_nesting_is_refused_and_not_crashed_on():
    depth = 100_000
    deep = b'{"sets":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    assert refusal(deep, content_type="application/json").err == "invalid_request"

    actor = {"iss": "i", "sub": "s"}
    for _ in range(80):
        actor = {"iss": "i", "sub": "s", "act": actor}
    nested = claims(events={URN.format("usage.metered"): {"outcome": "success", "actor": actor}})
    assert "nested deeper" in str(refusal(SIGNER.sign_set(nested)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(
    JSON, st.sampled_from(sorted(claims())), st.sampled_from(["outcome", "actor", "grant", "money", "limit", "intent"])
)
def test_no_signed_nonsense_escapes_as_anything_but_a_refusal(value, claim, field):
    for body in (
        claims(**{claim: value}),
        claims(events={URN.format("delegation.granted"): {"outcome": "success", field: value}}),
    ):
        with contextlib.suppress(Refused):
            push(hand_signed({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt"}, body))


@given(st.binary(max_size=300))
def test_no_bytes_escape_as_anything_but_a_refusal(body):
    for content_type in sets.CONTENT_TYPES:
        try:
            received = push(body, content_type=content_type)
            assert not any(not isinstance(s, Refused) for s in received.statements.values())
        except Refused:
            pass


def test_stored_bytes_parse_to_the_same_event():
    compact = SIGNER.sign_set(claims())
    [statement] = push(compact).statements.values()

    assert sets.parse(statement.raw, b"", SENDER) == statement.event


@pytest.mark.parametrize(
    "secret",
    [{"access_token": "hunter2hunter2"}, {"refreshToken": "hunter2hunter2"}, {"CONFIRMATION_SECRET": "hunter2hunter2"}, {"note": "spt_hunter2hunter2"},
     {"note": "Bearer hunter2hunter2"}, {"access-configuration": {"url": "hunter2hunter2"}}, {"note": "eyJhbGciOiJFUzI1NiJ9.e30.hunter2hunter2"}],
)  # fmt: skip
def test_a_secret_cannot_be_taken_out_of_what_is_signed_and_is_refused(secret):
    event = {URN.format("action.performed"): {"outcome": "success", "extra": {"deep": [secret]}}}
    refused = refusal(SIGNER.sign_set(claims(events=event)))

    assert refused.err == "invalid_request" and "secret" in str(refused) and "hunter2" not in str(refused)


def test_a_card_number_is_not_hidden_by_what_cannot_be_searched():
    body = json.dumps(claims()).encode()
    for before in (b'"n":' + b"[" * 60_000 + b"]" * 60_000, b'"n":' + b"1" * 5_000):
        hidden = body[:-1] + b"," + before + b',"number":"4242424242424242"}'
        message = (
            b64url(json.dumps({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt"}).encode()) + "." + b64url(hidden)
        )
        compact = f"{message}.{b64url(SIGNER._key.sign(message.encode()).signature)}".encode()
        assert refusal(compact).err == "invalid_request"


def test_a_batch_with_a_name_twice_is_refused_so_that_none_is_lost():
    one, other = (SIGNER.sign_set(claims(jti="e1", txn=txn)).decode() for txn in ("a", "b"))
    body = '{"sets": {"e1": "%s", "e1": "%s"}}'

    assert "twice" in str(refusal((body % (one, other)).encode(), content_type="application/json"))
    again = '{"sets": {"e1": "' + one + '"}, "sets": {}}'
    assert "twice" in str(refusal(again.encode(), content_type="application/json"))
    escaped = '{"s\\u0065ts": {"e\\u0031": "' + one + '"}}'
    assert list(push(escaped.encode(), "application/json").statements) == ["e1"]
