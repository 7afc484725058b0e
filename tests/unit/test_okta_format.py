"""Okta's System Log: hooks, streams and lists of one LogEvent. Fields after Okta's reference (read 2026-11)."""

import json

import pytest

from auditlog.core.errors import Refused
from auditlog.formats import okta
from tests.deliveries import OKTA, OKTA_HOOK, event_in, received


def test_a_token_was_got_by_the_client_for_the_user():
    event = event_in("okta", OKTA)

    assert (event.type, event.payload.mode, event.principal_claim.sub) == ("token.exchanged", "delegation", "00u1")
    assert (event.payload.actor.sub, event.payload.actor.kind) == ("0oa1", "service")
    assert (event.payload.token.jti, event.payload.token.scope, event.payload.session) == (
        "AT.1",
        "worker:write",
        "s-0",
    )


def test_without_the_grant_of_an_exchange_it_is_a_token_that_was_issued():
    event = event_in("okta", OKTA | {"debugContext": {"debugData": {"grantType": "authorization_code"}}})

    assert event.type == "token.issued"


def test_the_users_own_act_is_the_users():
    event = event_in(
        "okta", OKTA | {"eventType": "user.session.start", "actor": {"id": "00u1", "type": "User"}, "target": []}
    )

    assert (event.type, event.payload.mode, event.payload.actor.sub, event.principal_claim.kind) == (
        "session.started",
        "direct",
        "00u1",
        "human",
    )


@pytest.mark.parametrize(
    ("kind", "result", "native", "outcome"),
    [
        ("user.session.start", "FAILURE", "session.started", "failure"), ("user.session.end", "SUCCESS", "session.ended", "success"),
        ("policy.evaluate_sign_on", "CHALLENGE", "action.performed", "pending"), ("policy.evaluate_sign_on", "DENY", "action.denied", "denied"),
        ("policy.evaluate_sign_on", "ALLOW", "action.performed", "success"), ("app.oauth2.as.token.revoke", "SUCCESS", "token.revoked", "success"),
        ("app.oauth2.as.consent.grant", "SUCCESS", "consent.granted", "success"), ("system.api_token.create", "SUCCESS", "credential.issued", "success"),
        ("system.api_token.create", "FAILURE", "action.denied", "failure"), ("app.oauth2.as.token.grant.access_token", "FAILURE", "token.exchange_failed", "failure"),
        ("group.user_membership.add", "SKIPPED", "action.performed", "unknown"), ("group.user_membership.add", "NEW_WORD", "action.performed", "unknown"),
    ],
)  # fmt: skip
def test_types_and_outcomes(kind, result, native, outcome):
    event = event_in("okta", OKTA | {"eventType": kind, "outcome": {"result": result, "reason": "why"}})

    assert (event.type, event.payload.outcome) == (native, outcome)
    assert bool(event.payload.call.error) == (outcome in ("failure", "denied"))


def test_hooks_streams_and_lists_are_the_same_events():
    assert list(received("okta", OKTA_HOOK)) == ["okta-2", "okta-3"]
    assert (
        event_in("okta", [OKTA])
        == event_in("okta", {"version": "0", "detail-type": "SystemLog", "detail": OKTA})
        == event_in("okta", OKTA)
    )


def test_half_a_character_in_a_hook_keeps_its_events():
    body = json.dumps(OKTA_HOOK).replace("OAuth2 access token is granted", "Lunch \\ud83d").encode()

    statements = received("okta", body)

    assert list(statements) == ["okta-2", "okta-3"] and all(b"\\ud83d" in s.raw for s in statements.values())


def test_the_challenge_of_a_hook_is_sent_back_and_nothing_else():
    assert okta.verification({"x-okta-verification-challenge": "abc"}) == {"verification": "abc"}
    for headers in (
        {},
        {"x-okta-verification-challenge": ""},
        {"x-okta-verification-challenge": "x" * 501},
        {"x-okta-verification-challenge": "a\nb"},
    ):
        assert okta.verification(headers) is None


@pytest.mark.parametrize("changes", [{"uuid": ""}, {"uuid": None}, {"eventType": ""}])
def test_what_is_no_event_is_refused(changes):
    with pytest.raises(Refused):
        received("okta", OKTA | changes)


@pytest.mark.parametrize(
    "wrapped",
    [{"event": OKTA, "time": 1_795_000_000, "sourcetype": "OktaIM2:log"}, {"detail-type": "SystemLog", "detail": OKTA}],
)
def test_a_collectors_wrapping_hides_no_event(wrapped):
    assert event_in("okta", wrapped).source_event_id == event_in("okta", OKTA).source_event_id


def test_unknown_is_no_session():
    assert (
        event_in(
            "okta", OKTA | {"authenticationContext": {"externalSessionId": "unknown", "rootSessionId": None}}
        ).payload.session
        == ""
    )


@pytest.mark.parametrize(("kind", "native"), [
    *((f"app.oauth2.as.consent.revoke{more}", "consent.withdrawn")
      for more in ("", ".user", ".user.client", ".implicit.as", ".implicit.client", ".implicit.scope", ".implicit.user")),
    *((f"app.oauth2{server}.token.revoke{more}", "token.revoked") for server in ("", ".as") for more in ("", ".implicit.as", ".implicit.client", ".implicit.user")),
    ("app.oauth2.token.revoker", "action.performed"),
])  # fmt: skip
def test_a_consent_or_token_is_withdrawn_by_whichever_of_its_events(kind, native):
    """developer.okta.com/docs/reference/api/event-types, 2026-11."""
    assert event_in("okta", OKTA | {"eventType": kind}).type == native


def test_what_was_done_with_an_api_token_is_nobodys_act_in_person():
    """developer.okta.com, System Log: `requestApiTokenId` says that it was done through the API, with that token."""
    by_hand = OKTA | {
        "eventType": "user.lifecycle.deactivate",
        "actor": {"id": "00u1", "type": "User"},
        "target": [{"id": "00u2", "type": "User"}],
    }

    event = event_in(
        "okta", by_hand | {"transaction": {"type": "WEB", "id": "t", "detail": {"requestApiTokenId": "00T123abc"}}}
    )

    assert (event.payload.actor.kind, event.principal_claim, event.payload.token) == ("unknown", None, "00T123abc")
    assert event_in("okta", by_hand).payload.actor.kind == "human"
