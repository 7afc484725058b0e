"""PEAC: the published life cycle means what it says, and of the published identities and actor bindings the valid are
kept, the invalid refused; a signed record is worth its signature.
"""

import json

import pytest

from auditlog.core.errors import BadSignature, Refused, UnknownKey, UnknownKid, WrongIssuer
from auditlog.formats import Delivery, peac
from tests import vectors
from tests.deliveries import ISSUER, KEYS, PEAC, PEAC_AGENT, PEAC_RECORD, compact_jws, event_in, received, sender_of

LIFECYCLE = [
    ("01-catalog", "other.peac.provisioning-catalog-observed", "", ""),
    ("02-provider-link", "provider.linked", "provider_account", "urn:peac:provider-account:link-001"),
    ("03-account", "account.created", "account", "urn:peac:account:tenant-001"),
    ("04-resource", "resource.provisioned", "managed-database", "urn:peac:resource:db-primary-001"),
    ("05-credential", "credential.issued", "credential", "urn:peac:resource:db-primary-001"),
    ("06-payment-authorization", "payment.authority_granted", "payment-authorization", "urn:peac:auth:auth-001"),
    ("07-budget", "other.peac.provisioning-budget-observed", "", ""),
    ("08-subscription", "subscription.started", "subscription", "urn:peac:subscription:sub-001"),
    ("09-domain", "domain.registered", "domain", "urn:peac:domain:example-app-domain-001"),
    ("10-deployment", "deployment.completed", "deployment", "urn:peac:deployment:release-001"),
]
# Which field a refusal names; of those that a decoder reports by their place or by their kind.
REASONS = {
    "missing-agent-id": "agent_id", "missing-control-type": "control_type", "invalid-control-type": "$.evidence.control_type",
    "invalid-proof-method": "$.evidence.proof.method", "wrong-attestation-type": "$.type", "invalid-datetime-format": "$.issued_at",
    "invalid-binding-datetime": "$.evidence.proof.binding.signed_at", "missing-issuer": "issuer", "extra-field-strict": "unknown_field",
    "invalid-key-directory-url": "evidence.key_directory_url", "empty-agent-id": "$.evidence.agent_id", "missing-proof-key-id": "key_id",
}  # fmt: skip


AT = "2026-11-20T10:00:00Z"
SENDER = sender_of("peac", keys=KEYS)


def identities(name):
    return [(each["name"], each["input"]) for each in vectors.read(f"peac/agent-identity/{name}.json")["fixtures"]]


def signed(claims, **header):
    compact = compact_jws(
        claims if isinstance(claims, bytes) else json.dumps(claims).encode(),
        **{"typ": "interaction-record+jwt"} | header,
    )
    return Delivery(compact, peac.SIGNED, {})


def statement_in(delivery, sender=SENDER):
    [statement] = peac.receive(delivery, sender).statements.values()
    assert peac.parse(statement.raw, statement.headers, sender) == statement.event
    return statement


@pytest.mark.parametrize(("name", "native", "kind", "target"), LIFECYCLE)
def test_every_published_observation_means_what_it_says(name, native, kind, target):
    sample = vectors.read(f"peac/provisioning-lifecycle/{name}-observed.json")

    event = event_in("peac", sample)

    assert event.type == native and event.payload.outcome == ("unknown" if native.startswith("other.") else "success")
    found = event.payload.action.target
    assert (found.type if found and kind else "", found.id if found else "") == (kind, target)
    assert event.payload.action.provider == sample["provider"]["provider_ref"]
    assert (event.payload.actor, event.principal_claim) == (None, None)  # the observer acts for nobody


def test_no_published_observation_is_left_out():
    files = {file.name.removesuffix("-observed.json") for file in vectors.files("peac/provisioning-lifecycle/*.json")}

    assert files == {name for name, *_ in LIFECYCLE}


def test_a_payment_authorization_is_a_ceiling_and_no_charge():
    money = event_in("peac", PEAC).payload.money

    assert (money.amount_minor, money.currency, money.phase, money.authority, money.charge) == (
        5000,
        "USD",
        "ceiling",
        "urn:x:auth-1",
        "",
    )


@pytest.mark.parametrize("amount", ["50.00", 5.5, "", True, "-5", "9" * 30, {}])
def test_an_amount_that_is_none_is_refused(amount):
    wrong = PEAC["payment_authorization_observation"] | {"max_amount_minor": amount}

    with pytest.raises(Refused):
        event_in("peac", PEAC | {"payment_authorization_observation": wrong})


@pytest.mark.parametrize("sub_event", ["denied", "", None, 5, {}])
def test_what_we_have_no_word_for_is_kept_and_not_guessed(sub_event):
    about = {k: v for k, v in PEAC["payment_authorization_observation"].items() if k != "sub_event"}

    event = event_in("peac", PEAC | {"payment_authorization_observation": about | {"sub_event": sub_event}})

    assert event.type == "other.peac.provisioning-payment-authorization-observed" and event.payload.money is None


def test_an_observation_without_what_it_is_about_is_refused():
    with pytest.raises(Refused, match="expected payment_authorization_observation"):
        event_in("peac", {k: v for k, v in PEAC.items() if k != "payment_authorization_observation"})


@pytest.mark.parametrize("file", ["valid", "edge-cases"])
def test_every_valid_published_identity_is_kept_as_nobodys_act(file):
    for name, given in identities(file):
        event = event_in("peac", given)

        assert event.type == "other.peac.agent-identity", name
        assert event.payload.action.target.id == given["evidence"]["agent_id"], name
        assert event.payload.actor is None, name


def test_every_invalid_published_identity_is_refused_for_its_own_reason():
    assert {name for name, _ in identities("invalid")} == REASONS.keys()
    for name, given in identities("invalid"):
        with pytest.raises(Refused) as refused:
            event_in("peac", given)
        assert REASONS[name] in str(refused.value), (name, str(refused.value))


def test_a_proof_of_possession_is_not_stored():
    proof = {"method": "dpop", "key_id": "k", "dpop_proof": "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiIxIn0.c2ln"}
    [statement] = received("peac", PEAC_AGENT | {"evidence": PEAC_AGENT["evidence"] | {"proof": proof}}).values()

    assert (
        b"eyJqdGki" not in statement.raw and json.loads(statement.raw)["evidence"]["proof"]["dpop_proof"] == "[removed]"
    )


# --- who a record is bound to
# ---------------------------------------------------------------------------------------------


def test_every_valid_published_binding_names_its_actor_in_a_record_and_by_itself():
    fixtures = vectors.read("peac/agent-identity/valid-actor-binding.json")["fixtures"]
    assert {f["expected"]["proof_type"] for f in fixtures} == {f["name"] for f in fixtures} and len(fixtures) == 8
    for fixture in fixtures:
        bound = fixture["input"]
        for record in (PEAC_RECORD | {"actor": bound}, {"at": AT, "actor": bound}):
            event = event_in("peac", record)
            actor = event.payload.actor

            assert (actor.iss, actor.sub, actor.act) == (bound["origin"], bound["id"], None), fixture["name"]
            assert actor.kind == ("workload" if fixture["name"] == "spiffe" else "unknown"), fixture[
                "name"
            ]  # no proof is looked at
        assert event.type == "other.peac.actor-binding" and event.payload.outcome == "unknown"


def test_every_invalid_published_binding_and_identity_set_is_refused_for_its_own_reason():
    count = 0
    for fixture in vectors.read("peac/agent-identity/invalid-actor-binding.json")["fixtures"]:
        given = [fixture["input_mvis"]] if "input_mvis" in fixture else []
        if bound := fixture.get("input"):
            given = [bound, {"at": AT, "actor": bound}, PEAC_RECORD | {"actor": bound}]
        for record in given:
            with pytest.raises(Refused) as refused:
                event_in("peac", record)
            assert fixture["expected"]["error_contains"] in str(refused.value), (fixture["name"], str(refused.value))
            count += 1
    assert count == 8 * 3 + 4


def test_a_binding_alone_is_refused_because_nobody_knows_when():
    for _, bound in identities("valid-actor-binding"):
        with pytest.raises(Refused, match="a binding alone says not when"):
            event_in("peac", bound)


def test_an_identity_set_that_says_all_it_must_is_kept_as_nobodys_act():
    said = {
        "issuer": "https://issuer.example", "subject": "agent:7", "key_binding": "kid:k1", "replay_protection": {"jti": "t-1"},
        "time_bounds": {"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-12-31T23:59:59Z"},
    }  # fmt: skip
    event = event_in("peac", said)

    assert (event.type, event.payload.action.target.id, event.payload.actor) == (
        "other.peac.identity-set",
        "agent:7",
        None,
    )
    assert (
        event.occurred_at.isoformat() == "2026-01-01T00:00:00+00:00"
        and event.source_event_id == "https://issuer.example t-1"
    )
    with pytest.raises(Refused, match="a zone"):
        event_in(
            "peac", said | {"time_bounds": {"not_before": "2026-01-01T00:00:00", "not_after": "2026-12-31T23:59:59"}}
        )


@pytest.mark.parametrize("origin", ["https://a.example?", "https://a.example#", "ftp://a.example", "https://", "https://a.example:x", "https://a b",
                                    "https://[fe80::1%25eth0]", "https://a.example\u202e", "not an address", "https://a.example.:443"])  # fmt: skip
def test_an_origin_that_is_more_or_less_than_one_is_refused(origin):
    with pytest.raises(Refused, match="origin must be an origin-only URL"):
        event_in("peac", {"at": AT, "actor": {"id": "a", "proof_type": "did", "origin": origin}})


def test_one_origin_however_it_is_written_is_one_party():
    actors = {
        (e.payload.actor.iss, e.payload.actor.sub)
        for origin in ("https://A.example", "https://a.example/", "HTTPS://a.example")
        for e in [event_in("peac", {"at": AT, "actor": {"id": "X", "proof_type": "did", "origin": origin}})]
    }
    assert actors == {("https://a.example", "X")}


# --- PEAC's signed record
# -------------------------------------------------------------------------------------------------


def test_a_signed_record_is_grade_a_and_carries_the_observation_and_who_acted():
    statement = statement_in(signed(PEAC_RECORD))
    event = statement.event

    assert (statement.grade, statement.key, statement.source_event_id) == ("A", KEYS["k1"].thumbprint, "rec-1")
    assert (event.type, event.payload.money.amount_minor, event.payload.money.phase) == (
        "payment.authority_granted",
        5000,
        "ceiling",
    )
    assert event.payload.actor.sub == "agent:7" and event.occurred_at.isoformat() == "2026-11-20T10:25:00+00:00"
    peac.check_stored(statement.raw, statement.headers, SENDER)
    with pytest.raises(BadSignature):
        peac.check_stored(statement.raw[:-4] + b"AAAA", statement.headers, SENDER)


def test_the_same_record_unsigned_says_the_same_and_is_worth_its_channel():
    [statement] = received("peac", PEAC_RECORD).values()

    assert statement.grade == "D" and statement.event == statement_in(signed(PEAC_RECORD)).event


def test_a_record_that_is_no_observation_is_kept_under_its_own_type():
    said = {k: v for k, v in PEAC_RECORD.items() if k != "extensions"} | {
        "type": "org.peacprotocol/payment",
        "occurred_at": AT,
    }
    event = statement_in(signed(said)).event

    assert (
        event.type == "other.peac.org.peacprotocol/payment"
        and event.payload.money is None
        and event.payload.outcome == "unknown"
    )
    assert event.occurred_at.isoformat() == "2026-11-20T10:00:00+00:00" and event.issued_at.timestamp() == said["iat"]


@pytest.mark.parametrize(
    ("header", "error", "reason"),
    [
        ({"typ": "JWT"}, Refused, "typ"),
        ({"typ": "peac-receipt/0.1"}, Refused, "typ"),
        ({"jwk": {"kty": "OKP"}}, UnknownKey, "a key of its own"),
        ({"x5c": ["a"]}, UnknownKey, "a key of its own"),
        ({"x5u": "https://x"}, UnknownKey, "a key of its own"),
        ({"jku": "https://x"}, UnknownKey, "a key of its own"),
        ({"crit": ["b64"]}, Refused, "critical"),
        ({"b64": False}, Refused, "b64"),
        ({"zip": "DEF"}, Refused, "zip"),
        ({"alg": "none"}, UnknownKey, "alg"),
        ({"alg": "HS256"}, UnknownKey, "alg"),
        ({"kid": ""}, UnknownKey, "kid"),
        ({"kid": "k" * 257}, UnknownKey, "kid"),
        ({"kid": "k2"}, UnknownKid, "k2"),
    ],
)
def test_a_header_that_no_record_may_have_is_refused(header, error, reason):
    with pytest.raises(error, match=reason):
        statement_in(signed(PEAC_RECORD, **header))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peac_version": "0.1"}, "peac_version"),
        ({"kind": "other"}, "kind"),
        ({"jti": ""}, "jti"),
        ({"iat": "now"}, "iat"),
        ({"kind": "challenge", "occurred_at": AT}, "a challenge has not occurred"),
        ({"extra": 1}, "extra"),
        ({"policy": {"card": "4111 1111 1111 1111"}}, "card number"),
        ({"policy": {"access_token": "s3cret-value"}}, "secret"),
    ],
)
def test_claims_that_no_record_may_have_are_refused(change, reason):
    with pytest.raises(Refused, match=reason):
        statement_in(signed(PEAC_RECORD | change))


def test_anothers_signed_record_and_a_forged_one_are_refused():
    with pytest.raises(WrongIssuer):
        statement_in(signed(PEAC_RECORD | {"iss": "https://other.example"}))
    forged = signed(PEAC_RECORD)
    with pytest.raises(BadSignature):
        statement_in(Delivery(forged.body[:-4] + b"AAAA", forged.content_type, {}))
    with pytest.raises(Refused, match="at most"):
        statement_in(Delivery(b"e30." + b"a" * peac.MAX_SIGNED + b".e30", peac.SIGNED, {}))
    assert PEAC_RECORD["iss"] == ISSUER


@pytest.mark.parametrize(("sample", "part", "sub_event", "native"), [
    *(("06-payment-authorization-observed", "payment_authorization_observation", said, "payment.authority_ended") for said in ("revoked", "expired", "consumed")),
    ("09-domain-observed", "domain", "transferred", "domain.transferred"), ("09-domain-observed", "domain", "released", "domain.deleted"),
])  # fmt: skip
def test_the_ends_of_authorizations_and_domains_are_read(sample, part, sub_event, native):
    """`sub_event` as PEAC's schema of the provisioning life cycle lists it (peacprotocol/peac, 2026-11)."""
    observed = vectors.read(f"peac/provisioning-lifecycle/{sample}.json")
    observed[part] = observed[part] | {"sub_event": sub_event}

    event = event_in("peac", observed)

    assert event.type == native and event.payload.money is None


def test_an_observation_without_a_time_is_dated_by_its_arrival():
    observed = vectors.read("peac/provisioning-lifecycle/09-domain-observed.json")

    assert not event_in("peac", {name: value for name, value in observed.items() if name != "observed_at"}).dated
