"""CloudTrail: role sessions and source identities as hops, sessions linked by their keys, no secrets."""

import copy
import json

import pytest

from auditlog.core.errors import Refused
from auditlog.core.event import act_chain
from tests.deliveries import CLOUDTRAIL, event_in, received

ARN = "arn:aws:sts::123456789012:assumed-role/Deployer/agent-run-7"


def call(**changes):
    identity = changes.pop("userIdentity", {})
    made = copy.deepcopy(CLOUDTRAIL) | changes
    made["userIdentity"] |= identity
    return made


ASSUME = call(
    eventID="ct-0",
    eventSource="sts.amazonaws.com",
    eventName="AssumeRole",
    userIdentity={"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/orchestrator", "accessKeyId": "AKIAFIRSTEXAMPLE1", "sessionContext": None},
    requestParameters={"roleArn": "arn:aws:iam::123456789012:role/Deployer", "roleSessionName": "agent-run-7", "sourceIdentity": "ada@acme.example"},
    responseElements={
        "credentials": {"accessKeyId": "ASIASESSIONEXAMPLE2", "secretAccessKey": "hunter2hunter2", "sessionToken": "FwoGZXIvYXdzE", "expiration": "2026-11-20T11:30:00Z"},
        "assumedRoleUser": {"assumedRoleId": "AROAEXAMPLE:agent-run-7", "arn": ARN},
    },
)  # fmt: skip


def test_the_source_identity_is_the_oldest_hop_and_the_role_session_acts():
    event = event_in("cloudtrail", CLOUDTRAIL)

    assert [p.sub for p in act_chain(event.payload.actor)] == ["ada@acme.example", ARN]
    assert event.payload.actor.kind == "workload" and event.payload.mode == "delegation"
    assert event.principal_claim.sub == "ada@acme.example"


def test_a_session_is_linked_to_its_caller_by_access_key_ids():
    assumed, act = event_in("cloudtrail", ASSUME), event_in("cloudtrail", CLOUDTRAIL)

    token = assumed.payload.token
    assert assumed.type == "token.exchanged"
    assert (token.jti, token.parent_jti) == ("ASIASESSIONEXAMPLE2", "AKIAFIRSTEXAMPLE1")
    assert act.payload.token == token.jti and act.payload.actor.key == token.actor.key
    assert [p.sub for p in act_chain(token.actor)] == [
        "ada@acme.example",
        "arn:aws:iam::123456789012:user/orchestrator",
        ARN,
    ]
    assert token.subject.sub == "ada@acme.example" and token.expires_at - token.issued_at == 3600


def test_session_token_and_secret_key_are_not_stored():
    [statement] = received("cloudtrail", ASSUME).values()

    assert b"hunter2" not in statement.raw and b"FwoGZXIvYXdzE" not in statement.raw and b"ASIASESSION" in statement.raw
    assert statement.grade == "E"


def test_a_domain_registration_names_the_domain():
    event = event_in("cloudtrail", CLOUDTRAIL)

    assert (event.type, event.payload.action.resource, event.payload.call.operation) == (
        "domain.registered",
        "new.example",
        "route53domains.RegisterDomain",
    )
    assert event.payload.action.verb == ""  # so that a grant of domain.register covers it
    assert (event.payload.request_id, event.payload.client.ip, event.payload.action.account) == (
        "req-1",
        "203.0.113.7",
        "123456789012",
    )


@pytest.mark.parametrize(
    ("changes", "native", "outcome"),
    [
        ({"errorCode": "DomainLimitExceeded"}, "domain.registration_failed", "failure"),
        ({"eventSource": "s3.amazonaws.com", "eventName": "CreateBucket"}, "action.performed", "success"),
        (
            {"eventSource": "s3.amazonaws.com", "eventName": "CreateBucket", "errorCode": "AccessDenied"},
            "action.denied",
            "denied",
        ),
        ({"eventSource": "iam.amazonaws.com", "eventName": "CreateAccessKey"}, "credential.issued", "success"),
        (
            {"eventSource": "sts.amazonaws.com", "eventName": "AssumeRole", "errorCode": "AccessDenied"},
            "token.exchange_failed",
            "denied",
        ),
        ({"eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin"}, "session.started", "success"),
    ],
)
def test_calls_give_types_and_outcomes(changes, native, outcome):
    event = event_in("cloudtrail", call(**changes))

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_a_user_of_aws_is_not_said_to_be_human():
    event = event_in(
        "cloudtrail", call(userIdentity={"type": "IAMUser", "arn": "arn:aws:iam::1:user/bot", "sessionContext": None})
    )

    assert event.payload.actor.kind == "unknown" and event.principal_claim is None and event.payload.mode == "direct"


@pytest.mark.parametrize(
    "body",
    [
        {"Records": [CLOUDTRAIL]},
        [CLOUDTRAIL],
        {"version": "0", "detail-type": "AWS API Call via CloudTrail", "detail": CLOUDTRAIL},
    ],
)
def test_files_arrays_and_eventbridge_events_are_one_record(body):
    assert event_in("cloudtrail", body) == event_in("cloudtrail", CLOUDTRAIL)


def test_good_calls_of_a_file_are_kept_beside_bad_ones():
    statements = received(
        "cloudtrail", {"Records": [CLOUDTRAIL, call(eventID="ct-2", eventTime="then"), call(eventID="ct-3")]}
    )

    assert {name: isinstance(s, Refused) for name, s in statements.items()} == {
        "ct-1": False,
        "ct-2": True,
        "ct-3": False,
    }


@pytest.mark.parametrize(
    "changes",
    [{"eventID": ""}, {"eventID": 5}, {"eventTime": "2026-11-20"}, {"eventName": None}, {"requestParameters": []}],
)
def test_records_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("cloudtrail", call(**changes))


def test_an_arn_too_long_for_an_id_keeps_its_identity():
    long = "arn:aws:sts::1:assumed-role/" + "x" * 400
    one, two = (event_in("cloudtrail", call(userIdentity={"arn": long + end})).payload.actor.sub for end in "ab")

    assert len(one) == len(two) == 300 and one != two and json.dumps(one)
