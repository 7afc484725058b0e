"""GitHub's audit log: who acted for whom, the merge gate from the vendor's own log. Fields after GitHub's documentation
("Audit log events for your enterprise", "Audit log events for agents", read 2026-11)."""

import gzip
import json

import pytest

from auditlog.core.event import act_chain
from tests.deliveries import GITHUB, GITHUB_MERGE, TOKEN, event_in, received, with_token


def test_an_agent_acts_for_the_user_who_began_its_session():
    event = event_in("github", GITHUB)

    assert (event.type, event.payload.action.verb, event.payload.session) == (
        "action.performed",
        "pull_request.create",
        "sess-7",
    )
    assert [(p.sub, p.kind) for p in act_chain(event.payload.actor)] == [
        ("ada", "human"),
        ("copilot-swe-agent", "agent"),
    ]
    assert event.principal_claim.sub == "ada" and event.payload.gate is None
    assert (
        event.payload.action.target.id == "https://github.com/acme/shop/pull/12"
        and event.payload.action.resource == "acme/shop"
    )


def test_a_merge_by_a_person_in_person_is_that_persons_answer_at_the_gate():
    event = event_in("github", GITHUB_MERGE)

    assert event.payload.action.verb == "deployment.merge"
    assert (event.payload.gate.kind, event.payload.gate.by.sub, event.payload.gate.by.kind) == ("merge", "ada", "human")
    assert event.payload.gate.at == 1_795_000_000.123


@pytest.mark.parametrize(
    "changes",
    [{"actor_is_agent": True}, {"actor_is_bot": True}, {"actor_is_bot": None}, {"actor_is_agent": None}, {"programmatic_access_type": "Personal access token (classic)"}, {"token_id": 5},
     {"actor": None}],
)  # fmt: skip
def test_a_merge_by_anybody_who_may_be_no_person_says_nothing_of_a_gate(changes):
    event = event_in("github", GITHUB_MERGE | changes)

    assert event.payload.action.verb == "deployment.merge" and event.payload.gate is None
    assert event.payload.actor is None or event.payload.actor.kind != "human"


@pytest.mark.parametrize(
    ("action", "native"),
    [
        ("protected_branch.policy_override", "action.performed"), ("repo.create", "action.performed"), ("personal_access_token.create", "credential.issued"),
        ("oauth_access.regenerate", "credential.rotated"), ("public_key.delete", "credential.revoked"), ("org.add_member", "action.performed"),
    ],
)  # fmt: skip
def test_actions_are_what_was_done_or_a_credential(action, native):
    event = event_in("github", GITHUB | {"action": action})

    assert event.type == native and event.payload.call.operation == action


def test_every_way_it_is_streamed_is_the_same_event():
    plain = event_in("github", GITHUB)
    collected = {"event": GITHUB, "source": "github", "sourcetype": "_json", "time": 1_795_000_000}

    for body in (
        json.dumps(collected).encode(),
        json.dumps([GITHUB]).encode(),
        gzip.compress(json.dumps(GITHUB).encode() + b"\n"),
    ):
        [statement] = received(
            "github", body, deliver=lambda raw: with_token(raw, authorization=f"Splunk {TOKEN}")
        ).values()
        assert statement.event == plain


def test_a_record_of_copilots_use_is_kept_without_its_prompt():
    record = {
        "type": "request",
        "user_id": 7,
        "enterprise_id": 1,
        "endpoint": "/chat",
        "body": '{"prompt": "hunter2"}',
        "@timestamp": 1_795_000_000_123,
        "event_id": "u-1",
    }

    [statement] = received("github", record).values()

    assert statement.event.type == "other.github.usage.request" and b"hunter2" not in statement.raw


def test_ids_are_numbers_or_texts_and_events_may_follow_each_other_with_nothing_between():
    numbered = GITHUB | {"user_id": 7, "token_id": 9, "pull_request_id": 12, "pull_request_url": None}
    row = json.dumps({"event": numbered}) + json.dumps({"event": numbered | {"_document_id": "another"}})

    first, second = received("github", row.encode()).values()

    assert first.notes == () and first.event.payload.action.target.id == "12" and first.event.payload.token == "9"
    assert second.source_event_id == "another"


def test_an_event_about_no_repository_is_about_its_organisation():
    about = event_in(
        "github",
        GITHUB
        | {
            "action": "org.add_member",
            "repo": None,
            "repository": None,
            "pull_request_url": None,
            "pull_request_id": None,
            "org": "acme",
        },
    ).payload.action.target

    assert (about.type, about.id) == ("organization", "acme")
