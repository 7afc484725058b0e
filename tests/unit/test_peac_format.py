"""PEAC: the published life cycle means what it says, and of the published identities the valid are kept, the invalid refused."""

import json

import pytest

from auditlog.core.errors import Refused
from tests import vectors
from tests.deliveries import PEAC, PEAC_AGENT, event_in

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


def identities(name):
    return [(each["name"], each["input"]) for each in vectors.read(f"peac/agent-identity/{name}.json")["fixtures"]]


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

    assert (money.amount_minor, money.currency, money.phase, money.authority, money.charge) == (5000, "USD", "ceiling", "urn:x:auth-1", "")


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
    from tests.deliveries import received

    proof = {"method": "dpop", "key_id": "k", "dpop_proof": "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiIxIn0.c2ln"}
    [statement] = received("peac", PEAC_AGENT | {"evidence": PEAC_AGENT["evidence"] | {"proof": proof}}).values()

    assert b"eyJqdGki" not in statement.raw and json.loads(statement.raw)["evidence"]["proof"]["dpop_proof"] == "[removed]"
