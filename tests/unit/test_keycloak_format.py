"""Keycloak: exchanges linked by their clients, admin events without their secrets."""

import json

import pytest

from auditlog.core.errors import Refused
from auditlog.core.event import act_chain
from tests.deliveries import KEYCLOAK, event_in, received, with_token


def said(**changes):
    details = changes.pop("details", {})
    return KEYCLOAK | changes | {"details": KEYCLOAK["details"] | details}


ADMIN = {
    "id": "adm-1",
    "time": 1_795_000_000_123,
    "realmId": "acme",
    "operationType": "UPDATE",
    "resourceType": "CLIENT",
    "resourcePath": "clients/42",
    "representation": '{"clientId":"x","secret":"hunter2"}',
    "authDetails": {"realmId": "acme", "clientId": "admin-cli", "userId": "root-user", "ipAddress": "203.0.113.9"},
}


def test_an_exchange_has_the_client_as_actor_and_the_subject_tokens_client_before_it():
    event = event_in("keycloak", KEYCLOAK)

    assert (event.type, event.payload.mode) == ("token.exchanged", "delegation")
    assert [p.sub for p in act_chain(event.payload.actor)] == ["assistant", "deployer"]
    assert event.principal_claim.sub == "user-ada"
    assert event.payload.session == "sess-1"
    assert event.occurred_at.microsecond == 123_000


def test_the_exchanged_token_is_stated_with_its_audience_and_scope():
    token = event_in("keycloak", KEYCLOAK).payload.token

    assert (token.jti, token.audience, token.scope) == ("tok-9", ["provider-api"], "openid deploy")
    assert token.actor.act.sub == "assistant" and token.subject.sub == "user-ada"


def test_a_client_that_exchanges_its_own_token_is_one_hop():
    event = event_in("keycloak", said(details={"subject_token_client_id": "deployer"}))

    assert [p.sub for p in act_chain(event.payload.actor)] == ["deployer"]


def test_events_of_one_session_link_three_hops():
    first = event_in("keycloak", said(id="a", clientId="agent-1", details={"subject_token_client_id": "portal"}))
    second = event_in("keycloak", said(id="b", clientId="agent-2", details={"subject_token_client_id": "agent-1"}))

    assert first.payload.session == second.payload.session
    assert first.payload.actor.key == second.payload.actor.act.key


@pytest.mark.parametrize(
    ("kind", "native", "outcome"),
    [
        ("TOKEN_EXCHANGE_ERROR", "token.exchange_failed", "failure"),
        ("LOGIN", "session.started", "success"),
        ("LOGIN_ERROR", "session.started", "failure"),
        ("LOGOUT", "session.ended", "success"),
        ("CODE_TO_TOKEN", "token.issued", "success"),
        ("GRANT_CONSENT", "consent.granted", "success"),
        ("REVOKE_GRANT", "consent.withdrawn", "success"),
        ("CLIENT_REGISTER", "other.keycloak.CLIENT_REGISTER", "unknown"),
    ],
)
def test_each_type_is_ours_or_kept_under_its_source(kind, native, outcome):
    event = event_in("keycloak", said(type=kind))

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_outside_an_exchange_the_client_is_no_actor():
    assert event_in("keycloak", said(type="CODE_TO_TOKEN")).payload.actor is None


def test_impersonation_is_marked_and_names_the_impersonator():
    event = event_in("keycloak", said(type="IMPERSONATE", details={"impersonator": "admin-eve"}))

    assert (event.payload.mode, event.payload.actor.sub, event.principal_claim.sub) == (
        "impersonation",
        "admin-eve",
        "user-ada",
    )


def test_an_admin_event_is_an_act_and_its_representation_is_not_stored():
    [statement] = received("keycloak", ADMIN).values()

    event = statement.event
    assert (event.type, event.payload.action.verb, event.payload.actor.sub) == (
        "action.performed",
        "client.update",
        "root-user",
    )
    assert event.payload.action.target.id == "clients/42"
    assert b"hunter2" not in statement.raw and b"representation" in statement.headers


def test_an_event_without_id_has_the_same_one_each_time():
    plain = {k: v for k, v in KEYCLOAK.items() if k != "id"}
    first = event_in("keycloak", plain)
    again = event_in("keycloak", json.dumps(plain, indent=3).encode())

    assert first.source_event_id == again.source_event_id and first.source_event_id.startswith("sha256:")
    assert event_in("keycloak", plain | {"time": 1}).source_event_id != first.source_event_id


def test_the_token_comes_after_bearer():
    event_in(
        "keycloak", KEYCLOAK, deliver=lambda raw: with_token(raw, authorization="Bearer a-static-token-of-the-tests")
    )


@pytest.mark.parametrize(
    "changes", [{"time": "x"}, {"time": None}, {"time": -1}, {"type": None}, {"type": ""}, {"userId": 7}, {"id": {}}]
)
def test_events_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("keycloak", said(**changes))
