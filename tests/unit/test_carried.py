"""Records as collectors hand them on: wrappers in lines and arrays, one after another, in an envelope, as a text in a row."""

import json

import pytest

from auditlog.core.errors import Refused
from auditlog.formats import Statement, named, records
from tests.deliveries import (
    AUTH0,
    CLOUDFLARE_PUSHED,
    CLOUDTRAIL,
    GITHUB,
    KEYCLOAK,
    LITELLM,
    OCSF,
    SAMPLES,
    event_in,
    received,
)

ONE = {
    "cloudtrail": ("Records", CLOUDTRAIL, "eventID"), "auth0": ("logs", AUTH0, "log_id"), "litellm": ("data", LITELLM, "request_id"), "keycloak": ("events", KEYCLOAK, "id"),
    "cloudflare": ("result", CLOUDFLARE_PUSHED, "AuditLogID"), "github": ("entries", GITHUB, "_document_id"), "ocsf": ("events", OCSF | {"metadata": None}, "message"),
}  # fmt: skip


def dumped(value, **how):
    return json.dumps(value, **how).encode()


def ids(format, body):
    found = received(format, body).values()
    assert all(isinstance(one, Statement) for one in found), list(found)
    return [json.loads(one.raw)[ONE[format][2]] for one in found]


def several(format, *names):
    wrapper, record, id = ONE[format]
    return {wrapper: [record | {id: name} for name in names]}


@pytest.mark.parametrize("format", ONE)
@pytest.mark.parametrize("joined", [b"\n", b"", b"\r\n\r\n", b" "])
def test_wrappers_one_after_another_are_each_opened(format, joined):
    wrappers = [several(format, "a", "b"), several(format, "c")]

    assert ids(format, joined.join(map(dumped, wrappers))) == ["a", "b", "c"]
    assert (
        ids(format, dumped(wrappers))
        == ids(format, joined.join(dumped(one, indent=2) for one in wrappers))
        == ["a", "b", "c"]
    )


@pytest.mark.parametrize("format", ONE)
def test_records_printed_one_after_another_over_several_lines_are_records(format):
    _, record, id = ONE[format]

    assert ids(format, b"\n".join(dumped(record | {id: name}, indent=2) for name in "abc")) == ["a", "b", "c"]


def test_a_bad_page_beside_good_ones_hurts_no_other():
    pages = [
        dumped(several("cloudtrail", "a")),
        b'{"Records": [',
        dumped({"Records": 7}),
        dumped(several("cloudtrail", "b")),
    ]

    found = received("cloudtrail", b"\n".join(pages))

    assert [name for name, one in found.items() if not isinstance(one, Refused)] == ["a", "b"] and len(found) == 4


def test_a_page_with_its_wrapper_twice_is_refused_by_its_place():
    twice = b'{"Records": [], "Records": [' + dumped(CLOUDTRAIL) + b"]}"

    found = received("cloudtrail", twice + b"\n" + dumped(several("cloudtrail", "b")))

    assert [isinstance(one, Refused) for one in found.values()] == [True, False]


def test_records_in_several_wrappers_are_counted_together(monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORDS", 3)

    with pytest.raises(Refused, match="at most 3 records"):
        received("cloudtrail", [several("cloudtrail", "a", "b"), several("cloudtrail", "c", "d")])


@pytest.mark.parametrize("format", ["cloudtrail", "auth0", "ocsf", "cloudflare", "litellm"])
def test_what_a_collector_puts_around_a_record_hides_it_from_nobody(format):
    record = ONE[format][1]
    plain = event_in(format, dumped(record))
    text = json.dumps(record)
    carried = [
        {"time": 1_795_000_000, "host": "h", "sourcetype": "x", "event": record}, {"event": text}, {"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": text},
        {"messageType": "DATA_MESSAGE", "logGroup": "g", "logEvents": [{"id": "1", "timestamp": 1, "message": text}]},
    ]  # fmt: skip

    for one in carried:
        [statement] = received(format, one).values()
        assert (
            statement.event.type == plain.type
            and statement.event.payload == plain.payload
            and statement.event.occurred_at == plain.occurred_at
        )
    assert len(received(format, b"".join(map(dumped, carried)))) == 4


def test_a_subscriptions_question_whether_the_address_lives_holds_no_record():
    question = {
        "messageType": "CONTROL_MESSAGE",
        "logEvents": [{"message": "CWL CONTROL MESSAGE: Checking health of destination"}],
    }

    assert received("cloudtrail", question) == {}


def test_rows_of_lookups_and_of_lake_are_the_records_in_them():
    """docs.aws.amazon.com: LookupEvents' `Events` (a paginator gives them one by one), CloudTrail Lake's `eventData`; 2026-11."""
    row = {"EventId": "x", "EventName": "RunInstances", "Username": "jane", "CloudTrailEvent": json.dumps(CLOUDTRAIL)}
    plain = event_in("cloudtrail", CLOUDTRAIL)

    for body in (
        row,
        [row],
        {"Events": [row]},
        {"eventData": CLOUDTRAIL, "eventMetadata": {}},
        {"eventData": json.dumps(CLOUDTRAIL)},
    ):
        assert event_in("cloudtrail", body) == plain


def test_a_secret_in_a_carried_text_is_not_stored():
    record = CLOUDTRAIL | {
        "responseElements": {"credentials": {"secretAccessKey": "hunter2hunter2", "accessKeyId": "ASIA1"}}
    }
    [statement] = received(
        "cloudtrail", {"messageType": "DATA_MESSAGE", "logEvents": [{"message": json.dumps(record)}]}
    ).values()

    assert b"hunter2" not in statement.raw and b"ASIA1" in statement.raw


@pytest.mark.parametrize("shaped", [
    {"payload": KEYCLOAK}, {"event": KEYCLOAK}, {"data": KEYCLOAK},
    {name: value for name, value in KEYCLOAK.items() if name != "type"} | {"eventType": KEYCLOAK["type"]},
    {name: value for name, value in KEYCLOAK.items() if name != "type"} | {"event": KEYCLOAK["type"]},
])  # fmt: skip
def test_vendors_shapes_of_keycloaks_events_are_read(shaped):
    assert event_in("keycloak", shaped) == event_in("keycloak", KEYCLOAK)


def test_a_vendors_type_of_keycloak_that_we_do_not_know_is_kept():
    event = event_in("keycloak", {"event": "VENDOR_WORD", "userId": "u", "realm": "r", "timestamp": 1_795_168_800_000})

    assert (event.type, event.payload.outcome, event.payload.action.account, event.dated) == (
        "other.keycloak.VENDOR_WORD",
        "unknown",
        "r",
        True,
    )


def test_half_a_character_in_a_carried_record_loses_none():
    sample = SAMPLES["cloudtrail"]
    text = json.dumps(CLOUDTRAIL | {"userAgent": "sun X"}).replace("sun X", "sun \\ud83d")
    body = b'{"event":' + text.encode() + b'}{"event":' + dumped(CLOUDTRAIL | {"eventID": "ct-2"}) + b"}"

    found = named("cloudtrail").receive(sample.deliver(body), sample.known).statements

    assert list(found) == ["ct-1", "ct-2"] and not any(isinstance(one, Refused) for one in found.values())


def test_auth0s_stream_to_eventbridge_is_read_by_its_detail():
    """auth0.com/docs, Amazon EventBridge log stream: `detail` is the record as a webhook gets it; 2026-11."""
    event = event_in(
        "auth0", {"version": "0", "detail-type": "Auth0 log", "source": "aws.partner/auth0.com/x", "detail": AUTH0}
    )

    assert event == event_in("auth0", AUTH0)
