"""Keycloak: exchanges linked by their clients, admin events without their secrets."""

import hmac
import json
from dataclasses import replace
from hashlib import sha256

import pytest

from auditlog.core.errors import BadSignature, Refused
from auditlog.core.event import act_chain
from auditlog.formats import Delivery, keycloak
from tests.deliveries import ISSUER, KEYCLOAK, KEYS, TOKEN, compact_jws, event_in, received, sender_of, with_token


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


@pytest.mark.parametrize("changes", [{"type": None}, {"type": ""}])
def test_events_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("keycloak", said(**changes))


def test_an_event_without_a_time_is_dated_by_its_arrival():
    event = event_in("keycloak", said(time=None))

    assert not event.dated and event.payload.token.jti == "tok-9"


def test_an_optional_field_of_another_type_is_left_out_with_a_note():
    [statement] = received("keycloak", said(userId=7, ipAddress=["203.0.113.7"])).values()

    assert statement.event.principal_claim.sub == "7" and statement.event.payload.client is None
    assert any("ipAddress" in note for note in statement.notes)


# Shapes of the HTTP listeners that people run, in tests' words.
PHASE_TWO = {
    "time": 1_795_000_000_123, "realmId": "acme", "uid": "pt-1", "type": "access.TOKEN_EXCHANGE",
    "authDetails": {"realmId": "acme", "clientId": "deployer", "userId": "user-ada", "ipAddress": "203.0.113.7", "username": "ada", "sessionId": "sess-1"},
    "details": {"audience": "provider-api", "subject_token_client_id": "assistant", "token_id": "tok-9", "scope": "openid deploy"},
}  # fmt: skip
PHASE_TWO_ADMIN = {
    "time": 1_795_000_000_123, "realmId": "acme", "uid": "pt-2", "type": "admin.REALM_ROLE_MAPPING-CREATE", "resourceType": "REALM_ROLE_MAPPING",
    "operationType": "CREATE", "resourcePath": "users/u-9/role-mappings/realm", "authDetails": {"realmId": "master", "userId": "root-user"},
}  # fmt: skip


def test_phase_twos_events_say_the_same_as_keycloaks_own():
    theirs, own = event_in("keycloak", PHASE_TWO), event_in("keycloak", KEYCLOAK)

    assert theirs.source_event_id == "pt-1" and theirs.type == own.type
    assert theirs.payload.actor == own.payload.actor and theirs.principal_claim == own.principal_claim
    assert (theirs.payload.session, theirs.payload.token.jti) == ("sess-1", "tok-9")


def test_phase_twos_failures_and_admin_events_are_read():
    failed = event_in("keycloak", PHASE_TWO | {"type": "access.LOGIN_ERROR", "error": "invalid_user_credentials"})
    admin = event_in("keycloak", PHASE_TWO_ADMIN)

    assert (failed.type, failed.payload.outcome, failed.payload.call.error) == (
        "session.started",
        "failure",
        "invalid_user_credentials",
    )
    assert (admin.type, admin.payload.action.verb, admin.payload.actor.sub, admin.source_event_id) == (
        "action.performed", "realm_role_mapping.create", "root-user", "pt-2")  # fmt: skip


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE", "DELETE", "ACTION"])
def test_an_admin_event_without_an_operation_type_names_the_administrator_as_who_acted(operation):
    """vymalo's listener: the administrator is `userId`, the operation is in `type`."""
    event = event_in(
        "keycloak",
        {
            "id": "v-1",
            "time": 1_795_000_000_123,
            "realmName": "Acme",
            "userId": "a-1",
            "type": f"GROUP_MEMBERSHIP-{operation}",
            "resourcePath": "users/u-9",
        },
    )

    assert (event.type, event.payload.action.verb, event.payload.actor.sub) == (
        "action.performed",
        f"group_membership.{operation.lower()}",
        "a-1",
    )
    assert event.payload.action.target.id == "users/u-9" and event.principal_claim is None


@pytest.mark.parametrize("around", [{"event": KEYCLOAK}, {"data": KEYCLOAK}, {"adminEvent": ADMIN}])
def test_an_event_inside_of_another_object_is_found(around):
    assert event_in("keycloak", around).source_event_id in ("kc-1", "adm-1")


def test_snake_case_is_read():
    event = event_in(
        "keycloak",
        {
            "type": "LOGIN",
            "user_id": "u-1",
            "created_timestamp": 1_621_459_200_000,
            "user_ip": "203.0.113.9",
            "realm": {"id": "r1", "name": "acme"},
        },
    )

    assert (event.type, event.principal_claim.sub, event.payload.action.account) == ("session.started", "u-1", "acme")
    assert event.occurred_at.year == 2021 and event.payload.client.ip == "203.0.113.9"


def mac_signed(raw, hash="sha256", secret=TOKEN):
    return Delivery(raw, "application/json", {"x-keycloak-signature": hmac.new(secret.encode(), raw, hash).hexdigest()})


@pytest.mark.parametrize("hash", ["sha256", "sha1"])
def test_phase_twos_signature_is_checked_and_can_be_checked_again(hash):
    [statement] = received("keycloak", PHASE_TWO, deliver=lambda raw: mac_signed(raw, hash)).values()

    assert (statement.grade, statement.key) == ("C", keycloak.KEY_NAME)
    keycloak.check_stored(statement.raw, statement.headers, sender_of("keycloak"))


def test_a_changed_body_or_another_secret_does_not_fit_phase_twos_signature():
    for deliver in (
        lambda raw: mac_signed(raw, secret="another"),
        lambda raw: replace(mac_signed(raw), body=raw.replace(b"ada", b"eve")),
    ):
        with pytest.raises(BadSignature):
            received("keycloak", PHASE_TWO, deliver=deliver)


def test_a_signed_event_from_which_a_secret_was_removed_is_worth_its_channel():
    [statement] = received(
        "keycloak", PHASE_TWO_ADMIN | {"representation": '{"secret":"hunter2"}'}, deliver=mac_signed
    ).values()

    assert (statement.grade, statement.key) == ("D", "-") and b"hunter2" not in statement.raw


def jwt_signed(raw, **claims):
    said = {
        "iss": ISSUER,
        "iat": 1_795_000_000,
        "exp": 1_795_000_300,
        "jti": "j",
        "request_body_sha256": sha256(raw).hexdigest(),
    } | claims
    return Delivery(
        raw,
        "application/json",
        {"authorization": "Bearer " + compact_jws(json.dumps(said).encode(), typ="JWT").decode()},
    )


def test_a_jwt_of_the_realms_key_over_the_body_is_grade_b_and_is_kept_to_be_checked_again():
    sender = sender_of("keycloak", keys=KEYS)
    [statement] = received("keycloak", PHASE_TWO, sender=sender, deliver=jwt_signed).values()

    assert (statement.grade, statement.key) == ("B", KEYS["k1"].thumbprint)
    keycloak.check_stored(statement.raw, statement.headers, sender)


@pytest.mark.parametrize(
    "claims", [{"request_body_sha256": "0" * 64}, {"request_body_sha256": None}, {"iss": "https://other.example"}]
)
def test_a_jwt_over_another_body_or_of_another_realm_is_refused(claims):
    with pytest.raises(Refused):
        received(
            "keycloak",
            PHASE_TWO,
            sender=sender_of("keycloak", keys=KEYS),
            deliver=lambda raw: jwt_signed(raw, **claims),
        )
