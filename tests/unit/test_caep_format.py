"""Shared Signals: what CAEP, RISC and SSF say, in the forms of RFC 9493 and of older drafts, as native events."""

import json

import pytest

from auditlog.core.errors import (
    BadSignature,
    MalformedEvent,
    Refused,
    UnknownKey,
    UnknownKid,
    WrongAudience,
    WrongIssuer,
)
from auditlog.core.wire.keys import load
from auditlog.formats import Delivery, caep
from auditlog.formats.set_polling import poll_response, poll_settled
from auditlog.simulator.signing import Signer
from tests.deliveries import CAEP, ISSUER, SAMPLES, SESSION_REVOKED, compact_jws, event_in, sender_of

SENDER = SAMPLES["caep"].known
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
ADA = {"format": "iss_sub", "iss": "https://id.example", "sub": "ada"}


def deliver(body, **_):
    return SAMPLES["caep"].deliver(body)


def said(uri, subject=ADA, sender=SENDER, claims=None, **fields):
    document = {
        "iss": ISSUER,
        "iat": 1_795_000_010,
        "jti": "s1",
        "aud": "urn:answerable:default",
        "events": {uri: fields},
    }
    if subject is not None:
        document["sub_id"] = subject
    return event_in("caep", document | (claims or {}), sender=sender, deliver=deliver)


def test_a_revoked_session_is_a_session_that_ended_for_its_user():
    event = event_in("caep", SESSION_REVOKED, sender=SENDER, deliver=deliver)

    assert (event.type, event.payload.outcome, event.payload.session) == ("session.ended", "success", "session-7")
    assert event.principal_claim.key == "https://id.example|ada" and event.principal_claim.kind == "human"
    assert (event.payload.actor.sub, event.payload.actor.kind) == ("policy", "service")
    assert event.occurred_at.timestamp() == 1_795_000_000 and event.issued_at.timestamp() == 1_795_000_010
    assert (event.payload.action.target.type, event.payload.action.target.id, event.txn) == (
        "session",
        "session-7",
        "8675309",
    )


@pytest.mark.parametrize(("uri", "fields", "type"), [
    (f"{CAEP}session-established", {}, "session.started"),
    (f"{CAEP}session-presented", {}, "other.caep.caep.session-presented"),
    (f"{CAEP}token-claims-change", {"claims": {"role": "ro-admin"}}, "other.caep.caep.token-claims-change"),
    (f"{CAEP}assurance-level-change", {"current_level": "nist-aal2"}, "other.caep.caep.assurance-level-change"),
    (f"{CAEP}device-compliance-change", {"current_status": "not-compliant"}, "other.caep.caep.device-compliance-change"),
    (f"{CAEP}risk-level-change", {"current_level": "HIGH"}, "other.caep.caep.risk-level-change"),
    (f"{CAEP}credential-change", {"change_type": "create"}, "credential.issued"),
    (f"{CAEP}credential-change", {"change_type": "update"}, "credential.rotated"),
    (f"{CAEP}credential-change", {"change_type": "revoke"}, "credential.revoked"),
    (f"{CAEP}credential-change", {"change_type": "delete"}, "credential.revoked"),
    (f"{CAEP}credential-change", {"change_type": "blessed"}, "other.caep.caep.credential-change"),
    (f"{RISC}account-disabled", {"reason": "hijacking"}, "other.caep.risc.account-disabled"),
    (f"{RISC}account-purged", {}, "other.caep.risc.account-purged"),
    (f"{RISC}credential-compromise", {"credential_type": "password"}, "other.caep.risc.credential-compromise"),
    (f"{RISC}sessions-revoked", {}, "session.ended"),
    ("https://schemas.openid.net/secevent/oauth/event-type/token-revoked", {}, "token.revoked"),
    (f"{SSF}verification", {"state": "abc"}, "source.heartbeat"),
    (f"{SSF}stream-updated", {"status": "paused"}, "other.caep.ssf.stream-updated"),
    ("https://vendor.example/event/odd", {}, "other.caep.https://vendor.example/event/odd"),
])  # fmt: skip
def test_every_event_has_its_type_and_what_has_none_is_kept_under_its_name(uri, fields, type):
    event = said(uri, **fields)

    assert event.type == type
    assert event.payload.outcome == ("success" if "schemas.openid.net" in uri else "unknown")


def test_a_changed_credential_is_named():
    event = said(
        f"{CAEP}credential-change",
        change_type="revoke",
        credential_type="x509",
        x509_serial="03:92",
        initiating_entity="user",
    )

    assert (event.payload.action.target.type, event.payload.action.target.id) == ("x509", "03:92")
    assert event.payload.actor.key == "https://id.example|ada"  # the user did it


@pytest.mark.parametrize(("subject", "key"), [
    (ADA, "https://id.example|ada"),
    ({"format": "email", "email": "ada@acme.example"}, f"{ISSUER}|ada@acme.example"),
    ({"format": "opaque", "id": "u-1"}, f"{ISSUER}|u-1"),
    ({"format": "phone_number", "phone_number": "+12065550100"}, f"{ISSUER}|+12065550100"),
    ({"format": "account", "uri": "acct:ada@acme.example"}, f"{ISSUER}|acct:ada@acme.example"),
    ({"format": "did", "url": "did:example:123"}, f"{ISSUER}|did:example:123"),
    ({"format": "aliases", "identifiers": [{"format": "jwt_id", "iss": "x", "jti": "t"}, ADA]}, "https://id.example|ada"),
    ({"format": "complex", "user": {"format": "email", "email": "ada@acme.example"}, "tenant": {"format": "opaque", "id": "t"}},
     f"{ISSUER}|ada@acme.example"),
    ({"format": "iss_sub", "iss": "https://a|b.example", "sub": "c"}, "https://a%7Cb.example|c"),
    ({"format": "jwt_id", "iss": "https://id.example", "jti": "t-1"}, None),
    ({"format": "complex", "device": {"format": "opaque", "id": "laptop"}}, None),
    ({"format": "complex", "user": {"format": "complex", "user": {"format": "complex"}}}, None),
    ({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [ADA]}]}, None),
    ({}, None),
    (None, None),
])  # fmt: skip
def test_subjects_of_every_form_name_a_party_or_nobody(subject, key):
    principal = said(f"{CAEP}session-revoked", subject).principal_claim

    assert (principal.key if principal else None) == key


def test_older_drafts_put_the_subject_into_the_event():
    given = {"subject_type": "iss-sub", "iss": "https://id.example", "sub": "ada"}
    old = said(f"{RISC}account-disabled", None, claims={"events": {f"{RISC}account-disabled": {"subject": given}}})

    assert old.principal_claim.key == "https://id.example|ada"


def test_a_revoked_token_and_a_device_are_told():
    token = said(f"{CAEP}token-claims-change", {"format": "jwt_id", "iss": "https://id.example", "jti": "t-1"})
    device = said(
        f"{CAEP}device-compliance-change", {"format": "complex", "device": {"format": "opaque", "id": "laptop"}}
    )

    assert token.payload.token == "t-1"
    assert (device.payload.action.target.type, device.payload.action.target.id) == ("device", "laptop")


@pytest.mark.parametrize(
    ("initiating", "actor"),
    [("user", "ada"), ("policy", "policy"), ("system", "system"), ("admin", None), ("", None), ("x", None)],
)
def test_who_began_it_is_said_only_where_somebody_is(initiating, actor):
    found = said(f"{CAEP}session-revoked", initiating_entity=initiating).payload.actor

    assert (found.sub if found else None) == actor


@pytest.mark.parametrize(
    ("stamp", "expected"), [(1_795_000_000, 1_795_000_000), (1_795_000_000_000, 1_795_000_000), (None, 1_795_000_010)]
)
def test_the_time_is_the_events_own_in_seconds_or_milliseconds_else_that_of_the_token(stamp, expected):
    fields = {} if stamp is None else {"event_timestamp": stamp}

    assert said(f"{CAEP}session-revoked", **fields).occurred_at.timestamp() == expected


# --- what is refused, and under which code ---------------------------------------------------------------------------


@pytest.mark.parametrize(("claims", "error", "err"), [
    ({"iss": "https://other.example"}, WrongIssuer, "invalid_issuer"),
    ({"aud": "urn:answerable:other"}, WrongAudience, "invalid_audience"),
    ({"aud": []}, WrongAudience, "invalid_audience"),
    ({"sub": "ada"}, MalformedEvent, "invalid_request"),
    ({"exp": 1}, MalformedEvent, "invalid_request"),
    ({"jti": ""}, MalformedEvent, "invalid_request"),
    ({"events": {}}, MalformedEvent, "invalid_request"),
    ({"events": {f"{CAEP}session-revoked": {}, f"{CAEP}session-presented": {}}}, MalformedEvent, "invalid_request"),
    ({"events": {f"{CAEP}session-revoked": []}}, MalformedEvent, "invalid_request"),
    ({"iat": None}, MalformedEvent, "invalid_request"),
    ({"txn": "a\x00b"}, MalformedEvent, "invalid_request"),
])  # fmt: skip
def test_what_is_wrong_is_refused_with_the_code_of_rfc_8935(claims, error, err):
    with pytest.raises(error) as raised:
        said(f"{CAEP}session-revoked", claims=claims)
    assert raised.value.err == err


def test_an_access_token_an_unknown_key_and_a_forgery_are_refused():
    good = SAMPLES["caep"].deliver(json.dumps(SESSION_REVOKED).encode())
    unknown = Signer(ISSUER, "k9", seed=9).sign_set(SESSION_REVOKED)
    token = compact_jws(json.dumps(SESSION_REVOKED).encode(), typ="at+jwt")

    for raw, error in [(good.body[:-8] + b"AAAAAAAA", BadSignature), (unknown, UnknownKid), (token, MalformedEvent),
                       (compact_jws(json.dumps(SESSION_REVOKED).encode(), typ="secevent+jwt", alg="none"), UnknownKey),
                       (compact_jws(json.dumps(SESSION_REVOKED).encode(), typ="secevent+jwt", jku="https://evil.example"), UnknownKey)]:  # fmt: skip
        with pytest.raises(error):
            caep.receive(Delivery(raw, "application/secevent+jwt", {}), SENDER)


def test_a_stream_with_an_audience_of_its_own_is_held_to_that():
    sender = sender_of(
        "caep", keys={"k1": load(Signer(ISSUER, "k1", seed=1).jwk, "k1")}, audience="https://receiver.example"
    )

    assert said(f"{CAEP}session-revoked", sender=sender, claims={"aud": ["https://receiver.example", "x"]})
    with pytest.raises(WrongAudience):
        said(f"{CAEP}session-revoked", sender=sender)  # the tenant's name is not enough then


def test_polled_it_is_asked_for_and_answered_as_any_set():
    raw = SAMPLES["caep"].deliver(json.dumps(SESSION_REVOKED).encode()).body.decode()
    polled = poll_response(json.dumps({"sets": {"signal-1": raw, "bad": "x"}}).encode(), {})

    [delivery] = polled.deliveries
    statements = caep.receive(delivery, SENDER).statements
    refused = {name: one for name, one in statements.items() if isinstance(one, Refused)}
    state = poll_settled({}, ["signal-1"], refused)

    assert state["ack"] == ["signal-1"] and state["setErrs"]["bad"]["err"] == "invalid_request"
    assert caep.poll_request(state, "https://t.example/poll").method == "POST"


@pytest.mark.parametrize(
    "claims",
    [{"txn": None}, {"txn": {"x": 1}}, {"sub_id": "ada"}, {"toe": "soon"}, {"events": {f"{CAEP}session-revoked": {"initiating_entity": None, "ips": "203.0.113.7"}}},
     {"events": {f"{CAEP}session-revoked": {"reason_admin": 5, "event_timestamp": None, "initiating_entity": 7}}}],
)  # fmt: skip
def test_an_optional_claim_of_another_type_loses_no_signal(claims):
    assert said(f"{CAEP}session-revoked", claims=claims).type == "session.ended"


def test_a_txn_sent_as_a_number_is_its_digits():
    """Every example of SSF and CAEP up to Implementer's Draft 3 has it so."""
    assert said(f"{CAEP}session-revoked", claims={"txn": 8675309}).txn == "8675309"


def test_a_value_that_is_null_or_a_time_that_cannot_be_read_loses_no_signal():
    null = said(f"{CAEP}session-revoked", claims={"events": {f"{CAEP}session-revoked": None}})
    odd = said(f"{CAEP}session-revoked", event_timestamp="soon")

    assert (null.type, odd.type, null.payload.outcome) == ("session.ended", "session.ended", "success")
    assert not null.dated and not odd.dated and odd.occurred_at == odd.issued_at
