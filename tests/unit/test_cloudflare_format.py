"""Cloudflare Audit Logs v2: one meaning in two shapes, Logpush's validation, tokens and domains."""

import copy
import gzip
import json

import pytest

from auditlog.core.errors import Refused
from auditlog.formats import cloudflare
from tests.deliveries import CLOUDFLARE_LISTED, CLOUDFLARE_PUSHED, event_in, received, sender_of, with_token


def listed(**changes):
    entry = copy.deepcopy(CLOUDFLARE_LISTED)
    for name, value in changes.items():
        entry[name] = entry[name] | value
    return entry


def test_both_shapes_say_the_same_event():
    pushed, polled = event_in("cloudflare", CLOUDFLARE_PUSHED), event_in("cloudflare", CLOUDFLARE_LISTED)

    assert pushed == polled
    assert (pushed.type, pushed.payload.outcome, pushed.payload.action.verb) == (
        "action.performed",
        "success",
        "dns_records.create",
    )
    assert pushed.payload.actor.sub == "ada@acme.example" and pushed.payload.action.account == "acc-1"


def test_the_join_keys_are_token_ray_id_and_address():
    payload = event_in("cloudflare", CLOUDFLARE_PUSHED).payload

    assert (payload.token, payload.request_id, payload.client.ray_id, payload.client.ip) == (
        "tok-1",
        "8f00",
        "8f00",
        "203.0.113.7",
    )
    assert (payload.action.target.id, payload.action.resource) == ("rec-1", "acme.example")


def test_pushed_is_graded_higher_than_a_page_somebody_fetched():
    [pushed] = received("cloudflare", CLOUDFLARE_PUSHED).values()
    [polled] = received(
        "cloudflare", {"success": True, "result": [CLOUDFLARE_LISTED], "result_info": {"cursor": "x"}}
    ).values()

    assert (pushed.grade, polled.grade) == ("D", "E")


def test_logpush_sends_gzipped_lines():
    body = gzip.compress(b"\n".join(json.dumps(CLOUDFLARE_PUSHED | {"AuditLogID": i}).encode() for i in "abc"))

    assert list(received("cloudflare", body, **{"content-encoding": "gzip"})) == ["a", "b", "c"]


def test_the_validation_request_is_answered_and_holds_no_event():
    delivery = with_token(gzip.compress(b'{"content":"tests"}'), "application/octet-stream")

    answer = cloudflare.receive(delivery, sender_of("cloudflare"))

    assert answer.batch and answer.statements == {}


def test_the_validation_request_needs_the_token_too():
    delivery = with_token(gzip.compress(b'{"content":"tests"}'), authorization="")

    with pytest.raises(Refused):
        cloudflare.receive(delivery, sender_of("cloudflare"))


@pytest.mark.parametrize("at", ["2026-11-20T10:30:00Z", 1_795_170_600, 1_795_170_600_000_000_000, "1795170600"])
def test_timestamps_in_every_form_that_logpush_offers_are_one_time(at):
    assert (
        event_in("cloudflare", CLOUDFLARE_PUSHED | {"ActionTimestamp": at}).occurred_at.isoformat()
        == "2026-11-20T10:30:00+00:00"
    )


@pytest.mark.parametrize(
    ("verb", "uri", "native"),
    [
        ("create", "/user/tokens", "credential.issued"),
        ("update", "/accounts/acc-1/tokens/tok-9/value", "credential.rotated"),
        ("delete", "/user/tokens/tok-9", "credential.revoked"),
        ("create", "/accounts/acc-1/registrar/registrations", "domain.registered"),
        ("view", "/accounts/acc-1/workers/scripts", "action.performed"),
    ],
)
def test_tokens_and_domains_are_seen_by_the_requests_path(verb, uri, native):
    assert event_in("cloudflare", listed(action={"type": verb}, raw={"uri": uri})).type == native


def test_a_registered_domain_is_named():
    entry = listed(
        raw={"uri": "/accounts/acc-1/registrar/registrations"}, resource={"request": {"name": "new.example"}}
    )

    assert event_in("cloudflare", entry).payload.action.resource == "new.example"


def test_failures_are_denied_acts():
    assert event_in("cloudflare", listed(action={"result": "failure"})).type == "action.denied"
    failed = listed(action={"result": "failure"}, raw={"uri": "/accounts/a/registrar/registrations"})
    assert event_in("cloudflare", failed).type == "domain.registration_failed"
    assert event_in("cloudflare", listed(action={"result": None})).payload.outcome == "unknown"


def test_a_made_tokens_value_is_not_stored():
    entry = listed(
        raw={"uri": "/user/tokens"}, resource={"response": {"result": {"id": "tok-9", "value": "v1.0-secret-secret"}}}
    )

    [statement] = received("cloudflare", entry).values()

    assert b"secret-secret" not in statement.raw and b"tok-9" in statement.raw


def test_details_given_as_text_are_read_too():
    pushed = CLOUDFLARE_PUSHED | {"ActorTokenDetails": '{"id": "tok-1"}', "Raw": json.dumps(CLOUDFLARE_PUSHED["Raw"])}

    assert event_in("cloudflare", pushed) == event_in("cloudflare", CLOUDFLARE_PUSHED)


@pytest.mark.parametrize(
    "changes",
    [{"AuditLogID": None}, {"AuditLogID": ""}],
)
def test_records_of_wrong_types_are_refused(changes):
    with pytest.raises(Refused):
        received("cloudflare", CLOUDFLARE_PUSHED | changes)


OLD = {
    "ActionResult": True, "ActionType": "rec_add", "ActorEmail": "ada@acme.example", "ActorID": "user-1", "ActorIP": "203.0.113.7",
    "ActorType": "user", "ID": "old-1", "Interface": "API", "Metadata": {"zone": "acme.example", "key": "hunter2"}, "NewValue": "hunter2",
    "OldValue": {"a": "hunter2"}, "OwnerID": "acc-1", "ResourceID": "rec-1", "ResourceType": "dns_record", "When": "2026-11-20T10:30:00Z",
}  # fmt: skip


def test_the_older_audit_logs_are_read_and_what_they_changed_is_not_stored():
    [statement] = received("cloudflare", OLD).values()
    event = statement.event

    assert (event.source_event_id, event.type, event.payload.outcome, statement.grade) == (
        "old-1",
        "action.performed",
        "success",
        "D",
    )
    assert event.payload.action.verb == "dns_record.create" and event.payload.action.account == "acc-1"
    assert event.payload.client.ip == "203.0.113.7" and b"hunter2" not in statement.raw
    denied = event_in(
        "cloudflare",
        OLD | {"ActionResult": False, "ActionType": "token_create", "ResourceType": "token", "ID": "old-2"},
    )
    assert (denied.type, denied.payload.outcome) == ("action.denied", "failure")
    assert (
        event_in("cloudflare", OLD | {"ActionType": "token_create", "ResourceType": "token"}).type
        == "credential.issued"
    )


@pytest.mark.parametrize("name", ["ResourceResponse", "ResourceRequest", "Raw"])
def test_a_secret_in_what_logpush_gives_as_text_is_not_stored(name):
    text = json.dumps({"result": {"value": "hunter2"}, "access_token": "hunter2"})
    [statement] = received("cloudflare", CLOUDFLARE_PUSHED | {name: text}).values()

    assert b"hunter2" not in statement.raw and name.encode() in statement.headers


@pytest.mark.parametrize(
    "changes", [{"ActorEmail": 1}, {"ActorTokenDetails": 5}, {"Raw": None}, {"ZoneName": []}, {"ResourceType": {}}]
)
def test_an_optional_field_of_another_type_loses_no_record(changes):
    assert event_in("cloudflare", CLOUDFLARE_PUSHED | changes).type


def test_an_entry_without_a_time_is_dated_by_its_arrival():
    assert not event_in("cloudflare", CLOUDFLARE_PUSHED | {"ActionTimestamp": None}).dated


@pytest.mark.parametrize(
    ("theirs", "verb", "native"),
    [
        ("token_create", "", "credential.issued"), ("api_token_create", "", "credential.issued"), ("token_roll", "", "credential.rotated"),
        ("token_revoke", "", "credential.revoked"), ("rec_del", "dns_record.delete", "action.performed"), ("zone_add", "zone.create", "action.performed"),
        ("change_setting", "setting.update", "action.performed"), ("purge", "purge", "action.performed"), ("login", "login", "action.performed"),
    ],
)  # fmt: skip
def test_a_verb_of_the_older_logs_says_what_was_done_to_what(theirs, verb, native):
    event = event_in("cloudflare", OLD | {"ActionType": theirs, "ResourceType": "account"})

    assert event.type == native
    if verb:
        assert event.payload.action.verb.endswith(verb)


MADE = OLD | {
    "ActionType": "token_create",
    "ResourceType": "account",
    "Metadata": {"token_name": "ci", "token_tag": "b7261c", "key": "hunter2"},
}


def test_the_older_logs_name_the_token_that_was_made_and_nothing_else_of_what_was_written():
    [statement] = received("cloudflare", MADE).values()

    assert (statement.event.type, statement.event.payload.action.target.id) == ("credential.issued", "b7261c")
    assert statement.event.payload.token is None  # made by it, not with it
    assert b"hunter2" not in statement.raw + statement.headers


@pytest.mark.parametrize(
    "when", ["2021-11-30T20:19:48Z", "1638303588", 1638303588, 1638303588000000000, "1638303588000000000"]
)
def test_every_way_logpush_writes_a_time_is_read(when):
    assert event_in("cloudflare", OLD | {"When": when}).occurred_at.isoformat() == "2021-11-30T20:19:48+00:00"


def test_the_older_api_says_the_same():
    entry = {"id": "v1-1", "action": {"type": "token_create", "result": True}, "actor": {"email": "ada@acme.example", "id": "user-1", "ip": "203.0.113.7", "type": "user"},
             "owner": {"id": "acc-1"}, "resource": {"id": "acc-1", "type": "account"}, "when": "2026-11-20T10:30:00Z", "metadata": {"token_tag": "b7261c", "x": "hunter2"}}  # fmt: skip
    [statement] = received("cloudflare", entry).values()

    assert (
        statement.event.type,
        statement.event.payload.action.target.id,
        statement.event.payload.outcome,
        statement.grade,
    ) == ("credential.issued", "b7261c", "success", "E")
    assert b"hunter2" not in statement.raw


@pytest.mark.parametrize("body", [b"test", b"tests\n", b'{"content": "tests"}', b'"test"'])
@pytest.mark.parametrize("content_type", ["", "text/plain", "application/gzip", "application/json"])
def test_logpushs_test_of_a_destination_stores_nothing(body, content_type):
    received = cloudflare.receive(with_token(gzip.compress(body), content_type), sender_of("cloudflare"))

    assert received.batch and not received.statements


@pytest.mark.parametrize("when", [{"when": None}, {"when": ""}, {}])
def test_an_entry_of_v1_without_a_time_is_one_of_v1_all_the_same_and_keeps_no_secret(when):
    entry = {"id": "v1-9", "action": {"type": "token_create", "result": True}, "owner": {"id": "acc"}, "interface": "API", "newValue": "hunter2hunter2",
             "resource": {"type": "token", "id": "b7"}} | when  # fmt: skip

    [statement] = received("cloudflare", entry).values()

    assert (statement.event.type, statement.event.dated) == (
        "credential.issued",
        False,
    ) and b"hunter2" not in statement.raw
