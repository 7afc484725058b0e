"""What became of it: a sender's word that we do not understand is unknown, an error of any type is an error, and neither
is ever a success. Of every log format, by its own fields."""

import json

import pytest

from auditlog.formats import named
from auditlog.formats.values import outcome_of
from tests.deliveries import (
    APP,
    CLI,
    CLOUDFLARE_PUSHED,
    CLOUDTRAIL,
    GITHUB,
    KEYCLOAK,
    LITELLM,
    OCSF,
    OKTA,
    OTLP,
    SAMPLES,
    event_in,
)

ODD = [{"a": 2}, ["success"], 0, 7, 1.5, "a_word_of_next_year"]


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def ocsf(**changes):
    return event_in("ocsf", OCSF | changes).payload.outcome


def cloudtrail(**changes):
    return event_in(
        "cloudtrail",
        CLOUDTRAIL
        | {"eventSource": "ec2.amazonaws.com", "eventName": "RunInstances", "responseElements": None}
        | changes,
    )


@pytest.mark.parametrize(("told", "outcome"), [
    (True, "success"), (False, "failure"), ("Succeeded", "success"), ("COMPLETED", "success"), ("timed out", "failure"), ("startup-failure", "failure"), ("Cancelled", "failure"),
    ("blocked", "denied"), ("AccessDenied", "denied"), ("in_progress", "pending"), (200, "success"), (302, "unknown"), (403, "denied"), (500, "failure"), (1, "unknown"),
    (0, "unknown"), ("", "unknown"), (None, "unknown"), ({}, "unknown"), ("partial", "unknown"),
])  # fmt: skip
def test_a_word_for_how_it_went(told, outcome):
    assert outcome_of(told) == outcome


@pytest.mark.parametrize("odd", ODD[:1] + ODD[1:2] + ODD[4:])
def test_ocsf_does_not_take_an_odd_status_for_none(odd):
    assert ocsf(status_id=odd, status=None) == ocsf(status_id=None, status=odd) == "unknown"


@pytest.mark.parametrize(("changes", "outcome"), [
    ({"disposition_id": 2}, "denied"), ({"disposition_id": "2"}, "denied"), ({"disposition_id": 6}, "denied"), ({"disposition": "Blocked"}, "denied"), ({"disposition_id": 27}, "failure"),
    ({"disposition_id": 1}, "success"), ({"disposition_id": {"a": 2}}, "unknown"), ({"action_id": 2}, "denied"), ({"action_id": "2"}, "denied"), ({"action_id": []}, "unknown"),
    ({"action_id": 1}, "success"), ({"status_id": "2"}, "failure"), ({"status_id": 2.0}, "failure"), ({"status_id": "1"}, "success"),
])  # fmt: skip
def test_ocsf_was_not_let_through_where_its_disposition_says_so(changes, outcome):
    """schema.ocsf.io, security control profile: disposition 2 is Blocked, 6 Dropped, 25 Rejected, 26 Unauthorized, 27 Error."""
    assert ocsf(**changes) == outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("403", "failure"),
        (403, "failure"),
        ("200", "success"),
        (200, "success"),
        (None, "success"),
        ("x", "unknown"),
        ({}, "unknown"),
    ],
)
def test_ocsf_reads_a_responses_code_as_text_too(code, outcome):
    assert ocsf(status_id=None, status=None, api={"operation": "X", "response": {"code": code}}) == outcome


@pytest.mark.parametrize("error", [{"code": "x"}, ["x"], True, 500, "Throttling"])
def test_an_error_of_any_type_is_an_error(error):
    assert cloudtrail(errorCode=error).payload.outcome == cloudtrail(errorMessage=error).payload.outcome == "failure"
    assert event_in("keycloak", KEYCLOAK | {"type": "LOGIN", "error": error}).payload.outcome == "failure"
    assert (
        event_in("keycloak", {"operationType": "CREATE", "resourceType": "USER", "time": 1, "error": error}).type
        == "action.denied"
    )
    assert event_in("keycloak", {"payload": KEYCLOAK | {"type": "LOGIN"}, "error": error}).payload.outcome == "failure"


def test_no_error_in_another_form_is_none():
    for none in (None, "", False, {}, []):
        assert (
            cloudtrail(errorCode=none).payload.outcome
            == event_in("keycloak", KEYCLOAK | {"type": "LOGIN", "error": none}).payload.outcome
            == "success"
        )


@pytest.mark.parametrize(("changes", "outcome"), [
    ({"eventType": "AwsServiceEvent", "eventSource": "secretsmanager.amazonaws.com", "eventName": "RotationFailed"}, "failure"),
    ({"eventType": "AwsServiceEvent", "eventSource": "secretsmanager.amazonaws.com", "eventName": "RotationAbandoned"}, "failure"),
    ({"eventType": "AwsServiceEvent", "eventSource": "secretsmanager.amazonaws.com", "eventName": "RotationSucceeded"}, "success"),
    *(({"eventType": "AwsServiceEvent", "eventSource": "backup.amazonaws.com", "eventName": "BackupJobCompleted", "serviceEventDetails": {"state": state}}, outcome)
      for state, outcome in (("FAILED", "failure"), ("ABORTED", "failure"), ("EXPIRED", "failure"), ("COMPLETED", "success"), ("RUNNING", "pending"), ("PARTIAL", "unknown"), ({}, "unknown"))),
    ({"responseElements": {"_return": False}}, "failure"), ({"responseElements": {"_return": True}}, "success"), ({"responseElements": {"_return": "false"}}, "failure"),
    ({"responseElements": {"_return": {}}}, "unknown"),
])  # fmt: skip
def test_aws_says_in_other_places_too_that_it_failed(changes, outcome):
    """docs.aws.amazon.com: "Logging AWS Secrets Manager events", "Logging AWS Backup API calls", EC2's `_return`; 2026-11."""
    event = cloudtrail(**changes)

    assert (event.payload.outcome, event.type) == (
        outcome,
        "action.denied" if outcome == "failure" else "action.performed",
    )


@pytest.mark.parametrize(("conclusion", "outcome"), [
    ("success", "success"), ("failure", "failure"), ("timed_out", "failure"), ("startup_failure", "failure"), ("cancelled", "failure"), ("action_required", "pending"),
    ("skipped", "unknown"), ("neutral", "unknown"), ({"a": 1}, "unknown"), (None, "success"),
])  # fmt: skip
def test_a_workflow_run_went_as_its_conclusion_says(conclusion, outcome):
    run = GITHUB | {"action": "workflows.completed_workflow_run", "conclusion": conclusion}

    assert event_in("github", run).payload.outcome == outcome


@pytest.mark.parametrize(("status", "metadata", "outcome"), [
    *((odd, {}, "unknown") for odd in ODD), (500, {}, "failure"), ({"code": 500}, {"status": "success"}, "unknown"), ("success", {"status": "failure"}, "failure"),
    ("success", {}, "success"), (None, {}, "success"), (None, {"status": {"a": 1}}, "unknown"), ("failure", {"status": "success"}, "failure"),
])  # fmt: skip
def test_a_call_of_a_model_went_as_the_worst_of_what_is_said_of_it(status, metadata, outcome):
    assert event_in("litellm", LITELLM | {"status": status, "metadata": metadata}).payload.outcome == outcome


@pytest.mark.parametrize(("result", "outcome", "native"), [
    ("success", "success", "action.performed"), (True, "success", "action.performed"), ("True", "success", "action.performed"), ("failure", "failure", "action.denied"),
    (False, "failure", "action.denied"), ("error", "failure", "action.denied"), ("denied", "denied", "action.denied"), ("blocked", "denied", "action.denied"),
    (0, "unknown", "action.performed"), ({}, "unknown", "action.performed"), ("maybe", "unknown", "action.performed"), (None, "unknown", "action.performed"),
])  # fmt: skip
def test_cloudflares_result_is_a_success_only_where_it_says_so(result, outcome, native):
    event = event_in("cloudflare", CLOUDFLARE_PUSHED | {"ActionResult": result})

    assert (event.payload.outcome, event.type) == (outcome, native)


@pytest.mark.parametrize(("status", "outcome"), [
    ({}, "success"), ({"code": 0}, "success"), ({"code": 1}, "success"), ({"code": "STATUS_CODE_OK"}, "success"), ({"code": "OK"}, "success"), ({"code": 2}, "failure"),
    ({"code": "STATUS_CODE_ERROR"}, "failure"), ({"code": "ERROR"}, "failure"), ({"code": "Error"}, "failure"), ("ERROR", "failure"), ({"code": 7}, "unknown"), ({"code": {"a": 2}}, "unknown"),
])  # fmt: skip
def test_a_span_went_well_unless_it_says_otherwise_in_whatever_form(status, outcome):
    document = json.loads(json.dumps(OTLP))
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] = status

    assert event_in("otlp", document).payload.outcome == outcome


@pytest.mark.parametrize("odd", ODD)
def test_oktas_result_of_another_kind_is_unknown(odd):
    assert event_in("okta", OKTA | {"outcome": {"result": odd}}).payload.outcome == "unknown"
    assert event_in("okta", OKTA | {"outcome": odd}).payload.outcome == "unknown"


@pytest.mark.parametrize(("output", "outcome"), [
    ({"ok": True, "command": "rotate", "data": {"status": "error"}}, "failure"), ({"ok": True, "command": "remove", "data": {"status": "pending_removal"}}, "pending"),
    ({"ok": True, "command": "rotate", "error": {"code": "X"}}, "unknown"), ({"ok": True, "command": "rotate", "data": {"status": "active"}}, "success"),
])  # fmt: skip
def test_the_cli_may_be_ok_and_yet_not_done(output, outcome):
    assert event_in("projects_cli", CLI | {"output": output}).payload.outcome == outcome


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"status": "updating"}, "unknown"),
        ({"status": {"a": 1}}, "unknown"),
        ({"error": {"code": "x"}}, "unknown"),
        ({"status": "complete"}, "success"),
        ({}, "success"),
    ],
)
def test_a_provider_that_answers_with_what_we_do_not_know_did_not_say_that_it_was_done(body, outcome):
    request = APP["request"] | {"method": "POST", "path": "/provisioning/resources/res_1/rotate_credentials"}
    sample = SAMPLES["app"]
    raw = json.dumps(APP | {"request": request, "response": {"status": 200, "body": body}}).encode()

    [statement] = named("app").receive(sample.deliver(raw), sample.known).statements.values()

    assert (statement.event.type, statement.event.payload.outcome) == ("credential.rotated", outcome)
