"""OCSF in: published samples, agents and delegation, the classes of our own export read back."""

import json

import pytest

from auditlog.core.errors import Refused
from auditlog.core.event import GrantObject
from tests import vectors
from tests.deliveries import OCSF, event_in, received

GRANTED = OCSF | {"class_uid": 3003, "activity_id": 1, "type_name": "Authorize Session: Assign Privileges"}


@pytest.mark.parametrize(
    ("file", "native", "outcome", "actor", "target"),
    [
        (
            "api_activity",
            "action.performed",
            "unknown",
            "arn:aws:iam::1111111111111:user/Level6",
            "directconnect.amazonaws.com",
        ),
        (
            "account_change",
            "account.created",
            "unknown",
            "arn:aws:sts::112233445566:assumed-role/Admin/Admin-user",
            "test_user2",
        ),
        (
            "authentication",
            "session.started",
            "success",
            "arn:aws:iam::111122223333:user/anaya",
            "arn:aws:iam::111122223333:user/anaya",
        ),
    ],
)
def test_published_samples_are_read(file, native, outcome, actor, target):
    sample = vectors.read(f"ocsf/{file}.json")

    event = event_in("ocsf", sample)

    assert (event.type, event.payload.outcome, event.payload.actor.sub) == (native, outcome, actor)
    assert event.payload.action.target.id == target
    assert event.source_event_id == sample["metadata"]["uid"]
    assert event.occurred_at.timestamp() * 1000 == sample["time"]
    assert event.payload.client.ip == sample["src_endpoint"]["ip"]


def test_an_agent_acts_for_the_user_under_its_delegation():
    event = event_in("ocsf", OCSF)

    assert (event.payload.actor.sub, event.payload.actor.kind, event.payload.mode) == ("agent-7", "agent", "delegation")
    assert (event.principal_claim.sub, event.principal_claim.kind) == ("user-ada", "human")
    assert (event.payload.grant, event.payload.session, event.payload.request_id) == ("dlg-2", "sess-1", "req-1")
    assert (event.payload.action.target.id, event.payload.action.resource) == ("db-1", "primary")


def test_a_delegation_becomes_a_grant_with_its_parent():
    grant = event_in("ocsf", GRANTED).payload.grant

    assert isinstance(grant, GrantObject)
    assert (grant.id, grant.parent, grant.subject.sub, grant.actor.sub) == ("dlg-2", "dlg-1", "user-ada", "agent-7")
    assert grant.not_before == 1_794_999_000 and grant.expires_at is None


def test_what_1_7_puts_under_unmapped_is_found_there():
    old = {k: v for k, v in OCSF.items() if k not in ("ai_agent", "delegation")}
    event = event_in("ocsf", old | {"unmapped": {"ai_agent": OCSF["ai_agent"], "delegation": OCSF["delegation"]}})

    assert (event.payload.actor.sub, event.payload.grant) == ("agent-7", "dlg-2")


def test_a_user_type_that_does_not_say_human_is_unknown():
    event = event_in("ocsf", OCSF | {"ai_agent": None, "actor": {"user": {"uid": "x", "type": "AssumedRole"}}})

    assert event.payload.actor.kind == "unknown" and event.principal_claim is None and event.payload.mode == "direct"


@pytest.mark.parametrize(
    ("changes", "native", "outcome"),
    [
        ({"status_id": 2}, "action.denied", "failure"),
        ({"class_uid": 3005, "activity_id": 2}, "delegation.revoked", "success"),
        ({"class_uid": 3003, "activity_id": 1, "status_id": 2}, "delegation.denied", "denied"),
        ({"class_uid": 3002, "activity_id": 3}, "token.issued", "success"),
        (
            {"class_uid": 2004, "type_name": "Detection Finding: Create"},
            "other.ocsf.Detection Finding: Create",
            "success",
        ),
        ({"class_uid": 2004, "type_name": None}, "other.ocsf.2004.1", "success"),
    ],
)
def test_classes_and_status_give_the_type(changes, native, outcome):
    event = event_in("ocsf", OCSF | changes)

    assert (event.type, event.payload.outcome) == (native, outcome)


def test_it_is_graded_as_fetched_and_secrets_in_requests_are_removed():
    secret = OCSF | {"api": OCSF["api"] | {"request": {"uid": "req-1", "data": {"client_secret": "hunter2"}}}}
    [statement] = received("ocsf", secret).values()

    assert statement.grade == "E" and b"hunter2" not in statement.raw and statement.event.payload.request_id == "req-1"


def test_a_time_in_text_is_the_same_time():
    assert event_in("ocsf", OCSF | {"time": "2026-11-18T11:06:40.123Z"}).occurred_at.microsecond == 123_000


@pytest.mark.parametrize("changes", [{"class_uid": None}, {"class_uid": 0}])
def test_events_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("ocsf", OCSF | changes)


def test_an_event_without_uid_has_the_same_id_each_time():
    plain = OCSF | {"metadata": {"version": "1.7.0"}}

    assert (
        event_in("ocsf", plain).source_event_id
        == event_in("ocsf", json.dumps(plain, indent=1).encode()).source_event_id
    )


def test_a_delegation_with_a_time_of_its_own_is_told_of_by_the_event_and_not_made_by_it():
    at = OCSF["delegation"]["created_time"]
    made = OCSF | {"class_uid": 3005, "activity_id": 1, "time": at + 86_400_000, "status_id": 1}
    undated = made | {
        "delegation": {name: value for name, value in OCSF["delegation"].items() if name != "created_time"}
    }

    event, bare = event_in("ocsf", made), event_in("ocsf", undated)

    assert (event.type, event.dated, event.payload.grant.not_before) == ("delegation.granted", False, at / 1000)
    assert bare.dated and bare.payload.grant.not_before is None


@pytest.mark.parametrize(
    "changes",
    [
        {"actor": 7},
        {"metadata": []},
        {"status_id": "1"},
        {"resources": {}},
        {"activity_id": None},
        {"severity_id": "x"},
        {"http_request": "GET /"},
    ],
)
def test_an_optional_field_of_another_type_loses_no_event(changes):
    assert event_in("ocsf", OCSF | changes).type


def test_a_time_may_be_a_float_or_missing():
    assert event_in("ocsf", OCSF | {"time": 1_795_000_000_123.0}).occurred_at.microsecond == 123_000
    assert not event_in("ocsf", {k: v for k, v in OCSF.items() if k != "time"}).dated


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"status": "Failure"}, "failure"),
        ({"status": "Success"}, "success"),
        ({"status": " failure "}, "failure"),
        ({"status": "Odd"}, "unknown"),
        ({"status": "Failure", "status_id": 1}, "success"),  # the number is the value, the word its caption
        ({"status": "Failure", "status_id": 99}, "failure"),
        ({}, "unknown"),
    ],
)
def test_a_status_in_words_is_one(changes, outcome):
    plain = {k: v for k, v in OCSF.items() if k not in ("status", "status_id")} | {"class_uid": 3002, "activity_id": 1}

    assert event_in("ocsf", plain | changes).payload.outcome == outcome


@pytest.mark.parametrize(
    ("response", "more", "outcome"),
    [
        ({"error": None}, {}, "success"),
        ({"error": "ThrottlingException"}, {}, "failure"),
        ({"error": "AccessDenied"}, {}, "denied"),
        ({"code": 403}, {}, "failure"),
        ({"code": 403}, {"action_id": 2}, "denied"),
        ({"code": 500}, {}, "failure"),
        ({"error": None, "code": 403}, {"status": "Failure"}, "failure"),
        ({"code": 200}, {"status": "Failure"}, "failure"),
    ],
)
def test_a_call_says_by_its_response_what_its_status_does_not(response, more, outcome):
    plain = {k: v for k, v in OCSF.items() if k not in ("status", "status_id")} | {"class_uid": 6003, "activity_id": 1}
    event = event_in("ocsf", plain | {"api": {"operation": "GetObject", "response": response}} | more)

    assert event.payload.outcome == outcome and event.type == (
        "action.performed" if outcome == "success" else "action.denied"
    )


@pytest.mark.parametrize("class_uid", [6003, 6003.0, "6003"])
def test_a_class_is_the_same_as_whichever_number_an_exporter_writes_it(class_uid):
    assert event_in("ocsf", OCSF | {"class_uid": class_uid, "activity_id": 1}).type == "action.performed"


@pytest.mark.parametrize("class_uid", [True, 6003.5, "six", [6003], None])
def test_what_is_no_class_is_refused(class_uid):
    with pytest.raises(Refused, match="class_uid"):
        event_in("ocsf", OCSF | {"class_uid": class_uid})


@pytest.mark.parametrize("time", [{"time": None}, {}])
def test_the_datetime_profiles_time_stands_in_for_one_that_is_missing(time):
    plain = {k: v for k, v in OCSF.items() if k != "time"}

    dated = event_in("ocsf", plain | time | {"time_dt": "2026-11-20T10:00:00Z"})

    assert (dated.occurred_at.isoformat(), dated.dated) == ("2026-11-20T10:00:00+00:00", True)
    assert not event_in("ocsf", plain | time | {"time_dt": None}).dated


@pytest.mark.parametrize(("status", "outcome"), [(1, "success"), (2, "failure")])
def test_who_signed_in_is_the_user_of_an_authentication(status, outcome):
    """schema.ocsf.io/classes/authentication: `user` is required, `actor` only says who asked for it."""
    signed_in = {
        "class_uid": 3002,
        "activity_id": 1,
        "time": 1795168800000,
        "user": {"uid": "u7", "type_id": 1},
        "status_id": status,
    }

    event = event_in("ocsf", signed_in)
    asked = event_in("ocsf", signed_in | {"actor": {"user": {"uid": "gateway", "type_id": 4}}})

    assert (event.type, event.payload.outcome) == ("session.started", outcome)
    assert event.principal_claim.sub == event.payload.actor.sub == "u7" and event.payload.mode == "direct"
    assert (asked.principal_claim.sub, asked.payload.actor.sub, asked.payload.mode) == ("u7", "gateway", "delegation")
