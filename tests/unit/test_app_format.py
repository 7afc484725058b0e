"""The APP recorder: what each endpoint means, both signatures of the orchestrator, and no secret stored."""

import copy
import json
from base64 import urlsafe_b64encode
from hashlib import sha256

import pytest

from auditlog.core.errors import Refused
from auditlog.core.wire.redaction import payment_token
from auditlog.formats import Delivery, app
from auditlog.formats.values import instant
from tests.deliveries import (
    APP,
    KEYS,
    compact_jws,
    event_in,
    received,
    recorded,
    sender_of,
    timestamped_mac,
    with_token,
)

SENDER = sender_of("app", keys=KEYS)
AT = int(instant(APP["at"]).timestamp())
PLAIN = {"service_id": "postgres/small", "actor": {"email": "ada@acme.example"}}


def pair(path="/provisioning/resources", method="POST", body=None, response="same", headers=None, **changes):
    made = copy.deepcopy(APP) | changes
    made["request"] |= {"path": path, "method": method}
    if body is not None:
        made["request"]["body"] = body
    if response != "same":
        made["response"] = response
    made["request"]["headers"] |= headers or {}
    return made


def answered(http_status, /, **body):
    return {"status": http_status, "body": body}


def jwt(body: bytes, **changes):
    digest = urlsafe_b64encode(sha256(body).digest()).rstrip(b"=").decode()
    return compact_jws(
        json.dumps({"version": 1, "htm": "POST", "digest": digest, "exp": AT + 60} | changes).encode()
    ).decode()


def signed_pair(body=PLAIN, response=None, **claims):
    """A pair whose request the orchestrator signed; its body's bytes stand in the record as they were sent."""
    return pair(body=body, response=response, headers={"Stripe-Signature-V2": jwt(json.dumps(body).encode(), **claims)})


def push(made, deliver=recorded, sender=SENDER):
    [statement] = received("app", made, deliver=deliver, sender=sender).values()
    return statement


def refusal(made, **how):
    with pytest.raises(Refused) as caught:
        push(made, **how)
    return caught.value


def test_a_provisioned_resource_is_read_with_its_human_and_join_keys():
    event = push(APP).event

    assert (event.type, event.payload.outcome) == ("resource.provisioned", "success")
    assert event.principal_claim.key == "https://sender.example|ada@acme.example" and event.payload.actor is None
    assert (event.payload.action.target.id, event.payload.action.resource, event.payload.action.account) == (
        "db-1",
        "postgres/small",
        "acct_1",
    )
    assert (event.payload.project, event.payload.request_id, event.payload.call.idempotency_key) == (
        "proj_1",
        "res_orch_1",
        "idem-1",
    )
    assert event.payload.client.ip == "203.0.113.7"


def test_no_secret_that_the_recorder_forgot_is_stored_and_the_grade_says_so():
    statement = push(APP)

    assert b"spt_123abc" not in statement.raw and b"postgres://" not in statement.raw
    assert payment_token("spt_123abc").encode() in statement.raw
    assert (statement.grade, statement.key) == ("D", "-")
    assert sha256(json.dumps(APP).encode()).hexdigest().encode() in statement.headers


@pytest.mark.parametrize(
    "secret", ["confirmation_secret", "client_secret", "access_token", "refresh_token", "code_verifier"]
)
def test_every_secret_of_the_protocol_is_removed(secret):
    assert (
        b"hunter2"
        not in push(pair(body=PLAIN | {secret: "hunter2"}, response=answered(200, **{secret: "hunter2"}))).raw
    )


def test_codes_of_the_token_endpoint_are_removed_and_codes_of_errors_stay():
    token = push(
        pair("/oauth/token", body={"grant_type": "authorization_code", "code": "hunter2"}, response=answered(200))
    )
    failed = push(pair(body=PLAIN, response=answered(400, error={"code": "unknown_service"})))
    form = push(pair("/oauth/token", body="grant_type=refresh_token&refresh_token=hunter2", response=answered(200)))

    assert b"hunter2" not in token.raw and token.event.type == "token.issued"
    assert b"hunter2" not in form.raw and form.event.type == "token.issued"
    assert failed.event.payload.call.error == "unknown_service"


def test_a_pair_signed_by_its_recorder_is_grade_c_and_checks_again():
    made = pair(body=PLAIN, response=answered(200, id="db-1", status="complete"))
    statement = push(made)

    assert (statement.grade, statement.key, statement.raw) == ("C", app.KEY_NAME, json.dumps(made).encode())
    app.check_stored(statement.raw, statement.headers, SENDER)
    with pytest.raises(Refused):
        app.check_stored(statement.raw.replace(b"db-1", b"db-2"), statement.headers, SENDER)


def test_by_a_static_token_or_among_others_it_is_grade_d():
    made = pair(body=PLAIN, response=None)

    assert push(made, deliver=with_token).grade == "D"
    assert {s.grade for s in received("app", [made, made | {"id": "b"}], deliver=recorded).values()} == {"D"}


def test_a_request_with_a_valid_v2_signature_is_grade_b_and_checks_again():
    statement = push(signed_pair(), deliver=with_token)

    assert (statement.grade, statement.key) == ("B", KEYS["k1"].thumbprint)
    assert statement.event.payload.attestation.type == "stripe-signature-v2"
    assert b"Stripe-Signature-V2" in statement.raw and b"[removed]" not in statement.raw
    app.check_stored(statement.raw, statement.headers, SENDER)
    with pytest.raises(Refused):
        app.check_stored(statement.raw, statement.headers, sender_of("app"))


def test_with_a_response_the_pair_is_worth_its_channel():
    statement = push(signed_pair(response=answered(200, status="complete")), deliver=with_token)

    assert (statement.grade, statement.key) == ("D", "-")
    assert statement.event.payload.attestation.type == "stripe-signature-v2"


def test_a_body_without_its_secrets_is_held_to_the_digest_that_was_signed():
    full = json.dumps(PLAIN | {"confirmation_secret": "x"}).encode()
    made = pair(body=PLAIN, response=None, headers={"Stripe-Signature-V2": jwt(full)})
    made["request"]["body_sha256"] = sha256(full).hexdigest()

    statement = push(made, deliver=with_token)

    assert statement.grade == "D" and statement.event.payload.attestation.digest in jwt_digest(full)


def jwt_digest(body):
    return urlsafe_b64encode(sha256(body).digest()).decode()


@pytest.mark.parametrize("claims", [{"version": 2}, {"htm": "GET"}, {"digest": "x"}, {"digest": None}])
def test_a_v2_signature_for_something_else_is_refused(claims):
    assert refusal(signed_pair(**claims)).err == "authentication_failed"


@pytest.mark.parametrize("expires", [AT - 301, None, "later"])
def test_a_v2_signature_that_had_expired_proves_nothing_and_the_pair_is_kept(expires):
    statement = push(signed_pair(exp=expires), deliver=with_token)

    assert (statement.grade, statement.key, statement.event.payload.attestation) == ("D", "-", None)
    assert push(signed_pair(exp=AT - 299), deliver=with_token).grade == "B"


@pytest.mark.parametrize(
    "path", ["/oauth/token?code=s3cretValue99", "/provisioning/resources?access_token=s3cretValue99&x=1"]
)
def test_a_secret_in_the_recorded_path_is_removed(path):
    statement = push(pair(path=path))

    assert b"s3cretValue99" not in statement.raw and statement.grade == "D"


def test_a_form_that_came_back_as_text_is_without_its_tokens():
    statement = push(
        pair(path="/oauth/token", response=answered(200) | {"body": "access_token=s3cretValue99&token_type=Bearer"})
    )

    assert b"s3cretValue99" not in statement.raw


def test_a_forged_v2_signature_is_refused_and_an_unknown_key_is_not():
    made = signed_pair()
    compact = made["request"]["headers"]["Stripe-Signature-V2"]
    forged = copy.deepcopy(made)
    forged["request"]["headers"]["Stripe-Signature-V2"] = compact[:-6] + "AAAAAA"

    assert refusal(forged).err == "authentication_failed"
    assert push(made, sender=sender_of("app")).event.payload.attestation is None


def test_the_recorded_hmac_is_seen_where_the_secret_is_shared():
    body = json.dumps(PLAIN).encode()
    made = pair(body=PLAIN, response=None, headers={"Stripe-Signature": timestamped_mac(body)})

    assert push(made).event.payload.attestation.type == "stripe-signature"
    assert push(pair(body=PLAIN, response=None)).event.payload.attestation is None


@pytest.mark.parametrize(
    ("path", "method", "response", "native", "outcome"),
    [
        ("/provisioning/account_requests", "POST", answered(200, type="credentials"), "account.created", "success"),
        ("/provisioning/account_requests", "POST", answered(200, type="oauth"), "account.created", "success"),
        ("/provisioning/account_requests", "POST", answered(200, type="requires_auth"), "account.requested", "pending"),
        ("/provisioning/account_requests", "POST", answered(400, error="expired"), "account.requested", "failure"),
        ("/provisioning/account_requests", "POST", None, "account.requested", "pending"),
        ("/provisioning/resources", "POST", answered(200, status="pending"), "resource.requested", "pending"),
        ("/provisioning/resources", "POST", answered(200, status="needs_information"), "resource.requested", "pending"),
        ("/provisioning/resources", "POST", answered(200, status="error"), "resource.failed", "failure"),
        ("/provisioning/resources", "POST", answered(402), "resource.failed", "failure"),
        ("/provisioning/resources", "POST", answered(403), "resource.failed", "denied"),
        ("/provisioning/resources/db-1", "GET", answered(200, status="complete"), "resource.provisioned", "success"),
        ("/provisioning/resources/db-1", "GET", answered(200, status="pending"), "action.performed", "success"),
        (
            "/provisioning/resources/db-1/update_service",
            "POST",
            answered(200, status="complete"),
            "resource.updated",
            "success",
        ),
        (
            "/provisioning/resources/db-1/remove",
            "POST",
            answered(200, status="pending_removal"),
            "resource.removed",
            "pending",
        ),
        (
            "/provisioning/resources/db-1/rotate_credentials",
            "POST",
            answered(200, status="complete"),
            "credential.rotated",
            "success",
        ),
        ("/v1/provisioning/deep_links?x=1", "POST", answered(200), "action.performed", "success"),
        ("/provisioning/services", "GET", answered(200), "action.performed", "success"),
        (
            "/provisioning/resources/link",
            "POST",
            answered(200),
            "other.app.POST /provisioning/resources/link",
            "unknown",
        ),
        ("/metrics", "GET", answered(200), "other.app.GET /metrics", "unknown"),
    ],
)
def test_each_endpoint_and_answer_has_its_meaning(path, method, response, native, outcome):
    event = push(pair(path, method, PLAIN, response)).event

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_another_version_is_kept_and_not_interpreted():
    assert push(pair(headers={"API-Version": "0.2"})).event.type == "other.app.POST /provisioning/resources"


def test_a_resource_named_in_the_path_is_the_target():
    assert (
        push(pair("/provisioning/resources/db-7/remove", body={}, response=None)).event.payload.action.target.id
        == "db-7"
    )


def test_a_pair_without_id_has_the_same_one_each_time():
    made = {k: v for k, v in APP.items() if k != "id"}

    assert (
        event_in("app", made, deliver=recorded).source_event_id
        == event_in("app", json.dumps(made, indent=1).encode(), deliver=recorded).source_event_id
    )


@pytest.mark.parametrize("header", ["t=1,v1=00", "garbage", "v1=00"])
def test_the_recorders_signature_is_checked(header):
    assert (
        refusal(APP, deliver=lambda raw: Delivery(raw, "application/json", {"recorder-signature": header})).err
        == "authentication_failed"
    )
    assert refusal(APP, deliver=lambda raw: Delivery(raw, "application/json", {})).err == "authentication_failed"


@pytest.mark.parametrize("changes", [{"request": {}}, {"request": 7}])
def test_pairs_of_wrong_types_are_refused(changes):
    assert refusal(APP | changes).err == "invalid_request"


def test_a_body_with_a_card_number_is_refused():
    assert "card number" in str(refusal(pair(body=PLAIN | {"number": "4242424242424242"})))
