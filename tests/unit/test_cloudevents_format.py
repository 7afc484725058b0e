"""CloudEvents 1.0: three modes of one event, the schema's rules, identity of source and id."""

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import jsonschema
import pytest

from auditlog.core.errors import Refused
from auditlog.core.event import act_chain
from auditlog.formats import cloudevents
from tests import vectors
from tests.deliveries import CLOUDEVENT, NATIVE, TOKEN, event_in, received, sender_of, with_token

BINARY = {"ce-specversion": "1.0", "ce-id": "ce-1", "ce-source": CLOUDEVENT["source"], "ce-type": "payment.captured",
          "ce-time": CLOUDEVENT["time"], "ce-subject": "db-1"}  # fmt: skip


def binary(raw, **changes):
    headers = BINARY | {name.replace("_", "-"): value for name, value in changes.items()}
    return with_token(raw, "application/json", **{k: v for k, v in headers.items() if v is not None})


def structured(raw):
    return with_token(raw, "application/cloudevents+json")


def refusal(body, deliver=structured):
    with pytest.raises(Refused) as caught:
        received("cloudevents", body, deliver=deliver)
    return caught.value


def test_structured_binary_and_batch_say_the_same_event():
    one = event_in("cloudevents", CLOUDEVENT, deliver=structured)
    two = event_in("cloudevents", CLOUDEVENT["data"], deliver=binary)
    [three] = received(
        "cloudevents", [CLOUDEVENT], deliver=lambda raw: with_token(raw, "application/cloudevents-batch+json")
    ).values()

    assert one == two == three.event
    assert (one.type, one.payload.money.charge, one.txn) == ("payment.captured", "ch_1", "txn-1")
    assert [p.sub for p in act_chain(one.payload.actor)] == ["agent-0", "agent-1"]
    assert one.payload.action.target.id == "db-1"


def test_the_sample_and_the_schemas_minimum_with_a_time_are_taken():
    schema = vectors.read("cloudevents/cloudevents.schema.json")
    for event in (
        CLOUDEVENT,
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example", "time": "2018-04-05T17:31:00Z"},
    ):
        jsonschema.validate(event, schema)
        event_in("cloudevents", event, deliver=structured)


def test_what_the_schema_does_not_allow_is_refused():
    schema = vectors.read("cloudevents/cloudevents.schema.json")
    wrongs = [{"id": ""}, {"source": ""}, {"type": ""}, {"id": 5}, {"specversion": 1}]
    for wrong in [CLOUDEVENT | w for w in wrongs] + [
        {k: v for k, v in CLOUDEVENT.items() if k != name} for name in schema["required"]
    ]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
        refusal(wrong)


def test_identity_is_source_and_id_together():
    one = event_in("cloudevents", CLOUDEVENT, deliver=structured)
    other = event_in("cloudevents", CLOUDEVENT | {"source": "/elsewhere"}, deliver=structured)

    assert one.source_event_id == "https://orchestrator.example/runs ce-1" != other.source_event_id


def test_attributes_in_headers_are_part_of_the_statement():
    def content(**changes):
        [statement] = cloudevents.receive(
            binary(json.dumps(CLOUDEVENT["data"]).encode(), **changes), sender_of("cloudevents")
        ).statements.values()
        return cloudevents.content(statement.raw, statement.headers)

    assert content() == content(**{"x-other": "1"})
    assert content() != content(ce_type="payment.refunded")


def test_header_values_are_percent_decoded():
    event = event_in("cloudevents", CLOUDEVENT["data"], deliver=lambda raw: binary(raw, ce_source="/a%20b%C3%A9"))

    assert event.source_event_id == "/a bé ce-1"


def test_data_in_base64_is_the_same_data():
    event = {k: v for k, v in CLOUDEVENT.items() if k != "data"} | {
        "data_base64": b64encode(json.dumps(NATIVE["data"]).encode()).decode()
    }

    assert event_in("cloudevents", event, deliver=structured) == event_in("cloudevents", CLOUDEVENT, deliver=structured)
    assert "both" in str(refusal(CLOUDEVENT | {"data_base64": "e30="}))
    assert "base64" in str(refusal({k: v for k, v in CLOUDEVENT.items() if k != "data"} | {"data_base64": "!"}))


def test_an_unknown_type_keeps_its_subject_and_trace():
    event = event_in(
        "cloudevents",
        CLOUDEVENT
        | {"type": "com.example.made", "data": "text", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
        deliver=structured,
    )

    assert event.type == "other.cloudevents.com.example.made"
    assert (event.payload.action.target.id, event.payload.trace_id) == ("db-1", "a" * 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2026-11-20T10:30:00"},
        {"time": "2023-01-25T19:07:06GMT"},
        {"specversion": "0.3"},
        {"data": {"outcome": "perhaps"}},
    ],
)
def test_events_with_a_time_that_is_none_or_of_another_version_are_refused(changes):
    assert refusal(CLOUDEVENT | changes).err == "invalid_request"


@pytest.mark.parametrize("changes", [{"time": None}, {"time": ""}, {"time": 3}])
def test_an_event_without_a_time_is_dated_by_its_arrival(changes):
    event = event_in("cloudevents", CLOUDEVENT | changes, deliver=structured)
    arrived = datetime(2026, 11, 20, tzinfo=UTC)

    assert not event.dated and event.received(arrived).occurred_at == arrived == event.received(arrived).issued_at


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        ("2021-11-17T22:48:50.315578709Z", "2021-11-17T22:48:50.315578+00:00"),
        ("2021-11-17T22:48:50.1234567+01:00", "2021-11-17T21:48:50.123456+00:00"),
        ("2021-11-17t22:48:50z", "2021-11-17T22:48:50+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
    ],
)
def test_every_time_of_rfc_3339_is_read(time, utc):
    assert event_in("cloudevents", CLOUDEVENT | {"time": time}, deliver=structured).occurred_at.isoformat() == utc


@pytest.mark.parametrize("mode", [None, "", "text/json", "application/vnd.acme+json; charset=utf-8"])
def test_binary_mode_without_a_content_type_is_json(mode):
    event = event_in(
        "cloudevents",
        CLOUDEVENT["data"],
        deliver=lambda raw: replace(binary(raw), content_type=(mode or "").partition(";")[0]),
    )

    assert event == event_in("cloudevents", CLOUDEVENT["data"], deliver=binary)


def test_an_extension_of_another_type_is_left_out_with_a_note():
    [statement] = received("cloudevents", CLOUDEVENT | {"traceparent": True, "subject": 7}, deliver=structured).values()

    assert statement.event.type == "payment.captured" and statement.event.payload.trace_id == ""
    assert any("traceparent" in note for note in statement.notes)


def test_the_outcome_of_somebody_elses_data_is_no_claim_to_be_ours():
    event = event_in(
        "cloudevents",
        CLOUDEVENT | {"type": "com.acme.job", "data": {"outcome": "ALLOWED", "session": 5}},
        deliver=structured,
    )

    assert (event.type, event.payload.outcome) == ("other.cloudevents.com.acme.job", "unknown")


def test_a_good_event_of_a_batch_is_kept_beside_a_bad_one():
    statements = received("cloudevents", [CLOUDEVENT, CLOUDEVENT | {"id": "ce-2", "specversion": "2"}])

    assert [isinstance(s, Refused) for s in statements.values()] == [False, True]


def test_binary_mode_needs_the_token():
    data = CLOUDEVENT["data"]
    assert refusal(data, lambda raw: binary(raw, authorization=TOKEN + "x")).err == "authentication_failed"
    assert refusal(b"{", binary).err == "invalid_request"
    assert refusal(data, lambda raw: binary(raw, ce_type=None)).err == "invalid_request"


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/protobuf", "application/avro", "application/x-www-form-urlencoded", "application/yaml",
                                  "image/png", "application/gzip"])  # fmt: skip
def test_data_of_any_media_type_is_kept_by_its_digest(kind):
    """CloudEvents, HTTP binding 3.1.1: `datacontenttype` may be any; what is in it nobody can search for secrets."""
    data = b"\x1f\x8bpassword=hunter2\xff"

    def binary(raw):
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "i",
            "ce-source": "/s",
            "ce-type": "com.x.made",
            "ce-time": "2026-11-20T10:30:00Z",
        }
        return with_token(raw, kind, **headers)

    [statement] = received("cloudevents", data, deliver=binary).values()

    assert (statement.event.type, statement.event.payload.outcome, statement.event.dated) == (
        "other.cloudevents.com.x.made",
        "unknown",
        True,
    )
    assert b"hunter2" not in statement.raw and sha256(data).hexdigest().encode() in statement.raw
