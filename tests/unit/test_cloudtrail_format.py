"""CloudTrail: role sessions and source identities as hops, sessions linked by their keys, no secrets."""

import copy
import json
from datetime import UTC, datetime

import pytest

from auditlog.core.errors import BadSignature, Refused, UnknownKey
from auditlog.core.event import act_chain
from auditlog.core.wire.keys import load
from auditlog.formats import cloudtrail
from tests.deliveries import CLOUDTRAIL, event_in, received, sender_of
from tests.digests import AWS_JWK, FINGERPRINT, digest_bundle, digest_name

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
        (
            {
                "eventSource": "signin.amazonaws.com",
                "eventName": "ConsoleLogin",
                "responseElements": {"ConsoleLogin": "Success"},
            },
            "session.started",
            "success",
        ),
        ({"eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin"}, "session.started", "unknown"),
        (
            {"eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin", "responseElements": "Failure"},
            "session.started",
            "unknown",
        ),
        # IAM Identity Center's sign-ins ("Understanding IAM Identity Center sign-in events", docs.aws.amazon.com,
        # 2026-11)
        *[
            (
                {
                    "eventSource": "signin.amazonaws.com",
                    "eventName": "UserAuthentication",
                    "responseElements": None,
                    "serviceEventDetails": {"UserAuthentication": said},
                },
                native,
                outcome,
            )
            for said, native, outcome in (
                ("Success", "action.performed", "success"),
                ("Failure", "action.denied", "failure"),
            )
        ],
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
        "cloudtrail",
        {"Records": [CLOUDTRAIL, call(eventID="ct-2", eventName=None, eventType=None), call(eventID="ct-3")]},
    )

    assert {name: isinstance(s, Refused) for name, s in statements.items()} == {
        "ct-1": False,
        "ct-2": True,
        "ct-3": False,
    }


@pytest.mark.parametrize(
    "changes",
    [{"eventID": ""}, {"eventID": None}, {"eventName": None, "eventType": None}],
)
def test_records_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("cloudtrail", call(**changes))


def test_an_arn_too_long_for_an_id_keeps_its_identity():
    long = "arn:aws:sts::1:assumed-role/" + "x" * 400
    one, two = (event_in("cloudtrail", call(userIdentity={"arn": long + end})).payload.actor.sub for end in "ab")

    assert len(one) == len(two) == 300 and one != two and json.dumps(one)


@pytest.mark.parametrize(
    "name",
    [
        "requestParameters",
        "responseElements",
        "userIdentity",
        "resources",
        "sourceIPAddress",
        "userAgent",
        "errorMessage",
        "requestID",
    ],
)
@pytest.mark.parametrize("odd", [None, "null", "HIDDEN_DUE_TO_SECURITY_REASONS", 5, [], {}, True])
def test_an_optional_field_of_another_type_loses_no_record(name, odd):
    made = copy.deepcopy(CLOUDTRAIL)
    made[name] = odd

    assert event_in("cloudtrail", made).source_event_id == "ct-1"


def test_parameters_as_text_are_the_parameters():
    """As CloudTrail Lake and tables over the log export them."""
    text = call(requestParameters=json.dumps(CLOUDTRAIL["requestParameters"]))

    assert event_in("cloudtrail", text) == event_in("cloudtrail", CLOUDTRAIL)


def test_a_row_with_lower_case_columns_is_the_same_record():
    row = {name.lower(): value for name, value in CLOUDTRAIL.items()} | {
        "useridentity": {k.lower(): v for k, v in CLOUDTRAIL["userIdentity"].items()}
    }

    assert event_in("cloudtrail", row) == event_in("cloudtrail", CLOUDTRAIL)


def test_a_time_without_a_zone_is_utc_and_none_is_that_of_arrival():
    assert event_in("cloudtrail", call(eventTime="2026-11-20 10:00:00.500")).occurred_at == datetime(
        2026, 11, 20, 10, 0, 0, 500_000, tzinfo=UTC
    )
    assert not event_in("cloudtrail", call(eventTime=None)).dated


@pytest.mark.parametrize(
    ("changes", "native", "outcome"),
    [
        (
            {
                "eventName": "ConsoleLogin",
                "errorMessage": "Failed authentication",
                "responseElements": {"ConsoleLogin": "Failure"},
            },
            "session.started",
            "failure",
        ),
        ({"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Failure"}}, "session.started", "failure"),
        ({"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Success"}}, "session.started", "success"),
        ({"eventName": "SwitchRole", "responseElements": {"SwitchRole": "Failure"}}, "action.denied", "failure"),
        ({"eventName": "CheckMfa", "responseElements": {"CheckMfa": "Success"}}, "action.performed", "success"),
    ],
)
def test_a_sign_in_says_by_its_own_name_whether_it_failed(changes, native, outcome):
    event = event_in("cloudtrail", call(eventSource="signin.amazonaws.com", **changes))

    assert (event.type, event.payload.outcome) == (native, outcome)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(code, "denied") for code in ("AccessDenied", "Client.UnauthorizedOperation", "AccessDeniedException", "VpceAccessDenied", "NotAuthorized", "UnauthorizedAccess",
                                   "AuthorizationErrorException", "ForbiddenException", "AuthFailure", "NotAuthorizedException", "Client.UnauthorizedAccess", "AccessDeniedFault")]
    + [(code, "failure") for code in ("Client.RequestLimitExceeded", "ThrottlingException", "AuthorizationAlreadyExists", "AuthorizationHeaderMalformed", "NoSuchBucket",
                                      "ExpiredToken", "ServiceUnavailable", "TooManyRequestsException")],
)  # fmt: skip
def test_what_was_forbidden_is_denied_and_what_went_wrong_is_a_failure(code, outcome):
    event = event_in("cloudtrail", call(eventSource="ec2.amazonaws.com", eventName="RunInstances", errorCode=code))

    assert (event.type, event.payload.outcome) == ("action.denied", outcome)


@pytest.mark.parametrize(
    ("text", "hour"),
    [("Nov 20, 2026, 11:00:00 AM", 11), ("Nov 20, 2026 11:00:00 AM", 11), ("Nov 20, 2026, 11:00:00\u202fAM", 11), ("Nov 20, 2026, 12:00:00 AM", 0),
     ("Nov 20, 2026, 12:00:00 PM", 12), ("Nov 20, 2026, 1:00:00 PM", 13), ("2026-11-20T11:00:00Z", 11)],
)  # fmt: skip
def test_credentials_end_when_java_says_they_do(text, hour):
    assumed = copy.deepcopy(ASSUME)
    assumed["responseElements"]["credentials"]["expiration"] = text

    assert (
        event_in("cloudtrail", assumed).payload.token.expires_at == datetime(2026, 11, 20, hour, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    "text", ["Foo 20, 2026, 11:00:00 AM", "Nov 31, 2026, 11:00:00 AM", "Nov 20, 2026, 11:00:00", "soon", None, {}]
)
def test_an_end_that_cannot_be_read_is_not_known(text):
    assumed = copy.deepcopy(ASSUME)
    assumed["responseElements"]["credentials"]["expiration"] = text

    assert event_in("cloudtrail", assumed).payload.token.expires_at is None


def test_what_is_no_call_is_kept_under_its_own_name():
    insight = {"eventVersion": "1.09", "eventTime": "2026-11-20T12:44:00Z", "eventID": "ins-1", "eventType": "AwsCloudTrailInsight", "eventCategory": "Insight",
               "sharedEventID": "sh-1", "insightDetails": {"state": "End", "eventName": "RunInstances"}}  # fmt: skip

    assert event_in("cloudtrail", insight).type == "other.cloudtrail.AwsCloudTrailInsight"
    assert (
        event_in("cloudtrail", {k: v for k, v in insight.items() if k != "eventType"}).type
        == "other.cloudtrail.Insight"
    )


# --- digest files: signed as AWS describes it in "Custom implementations of CloudTrail log file integrity validation"
# ---

PROVING = sender_of("cloudtrail", keys={FINGERPRINT: load(AWS_JWK, FINGERPRINT)})
LOGS = {
    f"AWSLogs/1/{n}.json.gz": json.dumps({"Records": [call(eventID=f"log-{n}-{each}") for each in (1, 2)]})
    for n in (1, 2)
}


def digest_in(statements):
    return next(s.event for s in statements.values() if s.event.type == "other.cloudtrail.log_digest")


@pytest.mark.parametrize("first", [True, False])
def test_records_of_a_signed_log_file_are_proven_and_can_be_checked_again(first):
    statements = received("cloudtrail", digest_bundle(LOGS, first=first), sender=PROVING)

    assert len(statements) == 5 and {s.grade for s in statements.values()} == {"B"}
    for statement in statements.values():
        assert statement.key == PROVING.keys[FINGERPRINT].thumbprint
        cloudtrail.check_stored(statement.raw, statement.headers, PROVING)
    assert digest_in(statements).payload.outcome == "success"
    assert f"b/{digest_name(1)}" in statements


def test_a_removed_log_file_is_shown():
    statements = received(
        "cloudtrail", digest_bundle(LOGS, posted={name: LOGS[name] for name in list(LOGS)[:1]}), sender=PROVING
    )

    said = digest_in(statements).payload
    assert said.outcome == "failure" and "1 of 2" in said.call.error and "AWSLogs/1/2.json.gz" in said.call.error
    assert len(statements) == 3


def test_a_changed_log_file_or_digest_is_refused():
    good = digest_bundle(LOGS)
    changed = {name: text.replace("log-1-1", "log-9-9") for name, text in LOGS.items()}
    for forged in (
        {"logs": changed},
        {"digest": good["digest"].replace("1.json", "9.json")},
        {"logs": LOGS | {"more": "{}"}},
        {"signature": "00"},
    ):
        with pytest.raises(Refused):
            received("cloudtrail", good | forged, sender=PROVING)


def test_a_digest_under_a_key_that_is_not_the_sources_proves_nothing():
    with pytest.raises(UnknownKey):
        received("cloudtrail", digest_bundle(LOGS), sender=sender_of("cloudtrail"))


def test_a_stored_proof_of_another_digest_does_not_hold():
    [first, *_] = received("cloudtrail", digest_bundle(LOGS), sender=PROVING).values()

    with pytest.raises(BadSignature):
        cloudtrail.check_stored(first.raw, first.headers.replace(b"22:01:31Z", b"23:01:31Z"), PROVING)


def test_digest_files_of_a_trail_are_a_chain_by_the_times_in_their_names():
    [first] = received("cloudtrail", digest_bundle(hour=0, first=True), sender=PROVING).values()
    [after_midnight] = received("cloudtrail", digest_bundle(hour=3), sender=PROVING).values()
    [late] = received("cloudtrail", digest_bundle(hour=3, kind="_backfill"), sender=PROVING).values()

    said = first.event.payload.sequence
    assert (said.number, said.previous, said.begins) == (20261120210131, None, True)
    said = after_midnight.event.payload.sequence
    assert (said.number, said.previous, said.begins) == (20261121000131, 20261120230131, False)
    assert (
        said.stream == "111122223333_CloudTrail-Digest_us-east-2_trail_us-east-2" == first.event.payload.sequence.stream
    )
    assert late.event.payload.sequence.stream != said.stream


@pytest.mark.parametrize("odd", [
    {"digestS3Object": "elsewhere/d.json.gz"}, {"previousDigestS3Object": "elsewhere/d.json.gz"}, {"previousDigestS3Object": None},
    {"previousDigestS3Object": digest_name(1, trail="other")}, {"previousDigestS3Object": 7},
])  # fmt: skip
def test_a_digest_whose_name_or_link_says_nothing_of_the_chain_accuses_nobody(odd):
    [statement] = received("cloudtrail", digest_bundle(**odd), sender=PROVING).values()

    assert statement.grade == "B" and statement.event.payload.sequence is None


def test_a_digest_that_nobody_signed_fills_no_gap():
    unsigned = event_in("cloudtrail", json.loads(digest_bundle()["digest"]))

    assert unsigned.type == "other.cloudtrail.log_digest" and unsigned.payload.sequence is None
