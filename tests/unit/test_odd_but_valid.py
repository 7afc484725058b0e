"""What senders may put into fields that nobody relies on, and what they may not put into those that something rests on."""

import json
from base64 import b64encode

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from auditlog.core.errors import Refused
from auditlog.core.wire.keys import load
from auditlog.formats import Delivery, named
from tests.deliveries import (
    ACP_ORDER,
    AP2_MANDATE,
    CLOUDEVENT,
    CLOUDFLARE_PUSHED,
    CLOUDTRAIL,
    GITHUB_MERGE,
    KEYCLOAK,
    LITELLM,
    OCSF,
    OKTA,
    OKTA_HOOK,
    OTLP,
    SAMPLES,
    TOKEN,
    X402,
    sender_of,
)
from tests.deliveries import MPP as MPP_RECORD
from tests.digests import AWS_JWK, FINGERPRINT, digest_bundle

BIG, SURROGATE, ENDLESS = b"1" + b"0" * 30, b'"sun \\ud83d"', b"1e999"
MPP = (
    b'{"challenge":{"id":"c","realm":"r","method":"m","intent":"charge","request":{"amount":"1","currency":"usd"}},'
    b'"credential":{"challenge":{"id":"c"},"payload":{"nonce":%s}},"zz":%s}'
)


def events(format, body, **how):
    sample = SAMPLES[format]
    delivery = sample.deliver(body if isinstance(body, bytes) else json.dumps(body).encode())
    received = named(format).receive(delivery, sample.known).statements.values()
    assert not any(isinstance(one, Refused) for one in received), list(received)
    return [one.event for one in received]


@pytest.mark.parametrize("odd", [BIG, SURROGATE, ENDLESS])
def test_no_format_loses_an_event_over_an_odd_value_that_it_does_not_read(odd):
    [event] = events("keycloak", b'{"event":{"id":"k","time":1795000000123,"type":"LOGIN","x":%s}}' % odd)
    assert event.type == "session.started"
    for nonce, unread in ((odd, b"1"), (b"1", odd)):
        assert events("mpp", MPP % (nonce, unread))[0].type == "payment.quoted"
    assert events("ap2", json.dumps(AP2_MANDATE)[:-1].encode() + b',"zz":%s}' % odd)
    binary = {
        "authorization": TOKEN,
        "ce-specversion": "1.0",
        "ce-id": "i",
        "ce-source": "/s",
        "ce-type": "com.x",
        "content-type": "application/json",
    }
    received = named("cloudevents").receive(
        Delivery(b'{"a":%s}' % odd, "application/json", binary), sender_of("cloudevents")
    )
    [statement] = received.statements.values()
    assert statement.event.type == "other.cloudevents.com.x"
    required = b'{"x402Version":2,"resource":{"url":"https://a","description":%s},"accepts":[]}' % odd
    headers = {
        "PAYMENT-REQUIRED": b64encode(required).decode(),
        "PAYMENT-RESPONSE": b64encode(json.dumps(X402["settlement"]).encode()).decode(),
    }
    assert events("x402", {"at": 1741900060, "headers": headers})


def test_a_good_record_beside_an_odd_one_is_kept():
    good = json.dumps(KEYCLOAK | {"id": "g1"}).encode()
    odd = b'{"event":{"id":"k","time":1795000000123,"type":"LOGIN","x":%s}}' % BIG
    assert len(events("keycloak", b"[" + good + b"," + odd + b"]")) == 2


@pytest.mark.parametrize(
    "more",
    [{"hashed_token": "h=", "token_scopes": "repo"}, {"programmatic_access_type": ["GitHub App server-to-server token"]}, {"programmatic_access_type": True},
     {"agent_session_id": "s"}, {"oauth_application_id": 5}, {"token_id": [1]}],
)  # fmt: skip
def test_a_merge_with_any_sign_of_a_token_or_an_agent_proves_no_human_at_the_gate(more):
    [by_hand] = events("github", GITHUB_MERGE)
    assert by_hand.payload.gate.by.kind == "human"
    [event] = events("github", GITHUB_MERGE | more)
    assert event.payload.gate is None and event.payload.actor.kind == "unknown"


@pytest.mark.parametrize(
    ("action", "outcome", "type"),
    [("protected_branch.rejected_ref_update", "denied", "action.performed"), ("user.failed_login", "failure", "action.performed"),
     ("personal_access_token.credential_revoked", "success", "credential.revoked"), ("personal_access_token.credential_regenerated", "success", "credential.rotated")],
)  # fmt: skip
def test_what_github_logs_because_it_did_not_happen_is_no_success(action, outcome, type):
    [event] = events(
        "github", {k: v for k, v in GITHUB_MERGE.items() if not k.startswith("pull_request")} | {"action": action}
    )
    assert (event.payload.outcome, event.type) == (outcome, type)


def test_the_last_adjustment_of_an_order_is_told_by_its_time_and_not_by_its_text():
    def refund(id, amount, **more):
        return {"id": id, "type": "refund", "amount": amount, "currency": "usd", "status": "completed"} | more

    later = refund("new", 250, occurred_at="2026-11-20T11:00:00Z")
    for other in (
        refund("old", 100, occurred_at="2026-11-20T12:00:00+05:00"),
        refund("undated", 100),
        refund("odd", 100, occurred_at=[]),
    ):
        for told in ([later, other], [other, later]):
            [event] = events("acp", {"type": "order_update", "data": ACP_ORDER["data"] | {"adjustments": told}})
            assert event.payload.money.exact == 250


def test_a_call_that_failed_by_its_metadata_cost_nothing_that_took_effect():
    [event] = events("litellm", LITELLM | {"status": None, "metadata": {"status": "failure"}})
    assert event.payload.outcome == "failure"


@pytest.mark.parametrize(
    ("more", "uri"),
    [({"ActionType": "update", "ResourceProduct": "kv", "ResourceType": "kv_pair"}, "/accounts/a/storage/kv/namespaces/n/values/tokens-today"),
     ({"ActionType": "create", "ResourceProduct": "kv", "ResourceType": "kv_pair"}, "/accounts/a/storage/kv/namespaces/n/values/x/tokens"),
     ({"ActionType": "create", "ResourceProduct": "workers", "ResourceType": "script"}, "/accounts/a/workers/scripts/registrar/deployments"),
     ({"ActionType": "create", "ResourceProduct": "api_shield", "ResourceType": "token_validation_rule"}, "/zones/z/token_validation/rules")],
)  # fmt: skip
def test_whoever_names_a_key_or_a_worker_makes_no_credential_and_no_domain_of_it(more, uri):
    [event] = events("cloudflare", CLOUDFLARE_PUSHED | more | {"Raw": {"uri": uri}})
    assert event.type == "action.performed"


@pytest.mark.parametrize("currency", ["sat", "ETH", "btc", "pts"])
def test_tokens_and_units_are_no_money(currency):
    request = {"amount": "100", "currency": currency}
    receipt = {"status": "success", "method": "lightning", "timestamp": "2026-11-20T10:30:00Z", "reference": "h"}
    [event] = events(
        "mpp",
        {
            "challenge": {"id": "c", "realm": "r", "method": "lightning", "intent": "charge", "request": request},
            "receipt": receipt,
        },
    )
    assert event.type == "payment.settled" and event.payload.money is None


@pytest.mark.parametrize("text", ["Mozilla\x00/5.0", "a backslash: \\u0000"])
def test_whoever_acts_keeps_no_event_off_the_record_by_a_character(text):
    [event] = events("keycloak", KEYCLOAK | {"type": "LOGIN", "details": {"user_agent": text}})
    assert event.payload.client.user_agent == text.replace("\x00", "\ufffd")


def test_a_service_account_of_keycloak_is_no_human():
    for more in (
        {"type": "CLIENT_LOGIN", "userId": "sa"},
        {"type": "LOGIN", "userId": "sa", "details": {"username": "service-account-deployer"}},
    ):
        [event] = events("keycloak", KEYCLOAK | more)
        assert event.principal_claim.kind == "service"
    [event] = events("keycloak", KEYCLOAK | {"type": "LOGIN", "userId": "u", "details": {"username": "ada"}})
    assert event.principal_claim.kind == "human"


WON = {"outcome": "won", "dispute_id": "dp_1", "amount": 500}


@pytest.mark.parametrize(
    ("format", "body"),
    [("standard_webhooks", {"type": "dispute.closed", "data": WON}), ("http_signatures", {"id": "r1", "type": "dispute.closed", "data": WON}),
     ("cloudevents", CLOUDEVENT | {"type": "dispute.closed", "data": WON}), ("cloudevents", CLOUDEVENT | {"data": "{{a template}}"}),
     ("cloudevents", CLOUDEVENT | {"data": None, "data_base64": b64encode(b"{ no json").decode()})],
)  # fmt: skip
def test_a_type_that_others_have_too_is_no_claim_to_be_our_payload(format, body):
    [event] = events(format, {name: value for name, value in body.items() if value is not None})
    assert event.type == f"other.{format}.{body['type']}" and event.payload.outcome == "unknown"


@pytest.mark.parametrize("type", ["urn:answerable:event:dispute.closed:v1", "dispute.closed"])
def test_what_says_that_it_is_our_payload_is_held_to_it(type):
    data = WON if type.startswith("urn") else {"outcome": "won", "txn": "t", "money": {"amount_minor": 5}}
    with pytest.raises(Refused, match="outcome"):
        events("standard_webhooks", {"type": type, "data": data})


def test_an_unreadable_log_file_hurts_no_other_of_its_digest():
    logs = {"AWSLogs/1/a.json.gz": "no json", "AWSLogs/1/b.json.gz": json.dumps({"Records": [CLOUDTRAIL]})}
    sender = sender_of("cloudtrail", keys={FINGERPRINT: load(AWS_JWK, FINGERPRINT)})
    body = json.dumps(digest_bundle(logs)).encode()
    found = named("cloudtrail").receive(SAMPLES["cloudtrail"].deliver(body), sender).statements
    assert isinstance(found["log file AWSLogs/1/a.json.gz"], Refused)
    assert len(found) == 3 and found[CLOUDTRAIL["eventID"]].grade == "B"


def test_what_lookup_events_prints_is_read_by_its_records():
    # docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html, 2026-11
    record = CLOUDTRAIL | {"responseElements": {"credentials": {"secretAccessKey": "hunter2hunter2"}}}
    row = {"EventId": CLOUDTRAIL["eventID"], "EventName": CLOUDTRAIL["eventName"], "ReadOnly": "false", "EventTime": 1795000000.0,
           "Resources": [], "CloudTrailEvent": json.dumps(record)}  # fmt: skip
    body = json.dumps({"Events": [row, row | {"CloudTrailEvent": "{}"}], "NextToken": "x"}).encode()
    good, bad = (
        named("cloudtrail")
        .receive(SAMPLES["cloudtrail"].deliver(body), SAMPLES["cloudtrail"].known)
        .statements.values()
    )
    [plain] = events("cloudtrail", CLOUDTRAIL)
    assert good.event == plain and b"hunter2" not in good.raw
    assert isinstance(bad, Refused)


def test_event_hooks_that_a_collector_batched_are_read_event_by_event():
    hooks = [OKTA_HOOK, OKTA, {"data": {"events": [OKTA | {"uuid": "okta-4"}]}}]
    for body in (json.dumps(hooks).encode(), b"\n".join(json.dumps(hook).encode() for hook in hooks)):
        assert [event.source_event_id for event in events("okta", body)] == ["okta-2", "okta-3", "okta-1", "okta-4"]


def test_an_export_of_nothing_is_taken():
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().resource.attributes.add(key="service.name").value.string_value = "idle"
    for body, kind in ((b"", "application/x-protobuf"), (traces.SerializeToString(), "application/x-protobuf"), (b"{}", "application/json"),
                       (b'{"resourceSpans":[]}', "application/json")):  # fmt: skip
        delivery = Delivery(body, kind, {"authorization": TOKEN})
        assert not named("otlp").receive(delivery, sender_of("otlp")).statements


def test_many_odd_fields_of_a_small_record_lose_no_event():
    attributes = [{"key": f"a{n}", "value": n} for n in range(60)]
    [span] = OTLP["resourceSpans"][0]["scopeSpans"][0]["spans"]
    holders = [
        {
            "resource": [n],
            "scopeSpans": [
                {"spans": [span | {"spanId": f"{n:016x}", "attributes": [*span["attributes"], *attributes]}]}
            ],
        }
        for n in range(60)
    ]
    assert len(events("otlp", {"resourceSpans": holders})) == 60


@pytest.mark.parametrize("time", ["", None])
def test_an_empty_time_is_no_time(time):
    [event] = events("http_signatures", {"id": "r1", "type": "x", "time": time, "data": {}})
    assert not event.dated
    [event] = events("mpp", MPP_RECORD | {"at": time})
    assert event.occurred_at.isoformat() == MPP_RECORD["receipt"]["timestamp"].replace("Z", "+00:00")


@pytest.mark.parametrize(
    "more", [{"intent": "session"}, {"request": MPP_RECORD["challenge"]["request"] | {"unitType": "request"}}]
)
def test_the_price_of_one_unit_is_not_what_a_session_cost(more):
    [event] = events("mpp", MPP_RECORD | {"challenge": MPP_RECORD["challenge"] | more})
    assert event.type == "payment.settled" and event.payload.money is None


def test_a_recorder_may_list_the_lines_of_a_header():
    settled = b64encode(json.dumps(X402["settlement"]).encode()).decode()
    [event] = events("x402", {"at": 1741900060, "headers": {"PAYMENT-RESPONSE": [settled], "X-A": ["a", "b"]}})
    assert event.type == "payment.settled"


@pytest.mark.parametrize(
    ("response", "outcome"),
    [({"code": 403, "error": None}, "failure"), ({"error": "Client.UnauthorizedOperation"}, "denied"), ({"error": "Throttling", "code": 429}, "failure"),
     ({"code": 200}, "success")],
)  # fmt: skip
def test_a_call_that_ocsf_says_was_refused_is_denied(response, outcome):
    unsaid = {name: value for name, value in OCSF.items() if not name.startswith("status")}
    [event] = events("ocsf", unsaid | {"api": {"operation": "RunInstances", "response": response}})
    assert event.payload.outcome == outcome
    if outcome == "denied":
        [event] = events("ocsf", unsaid | {"status_id": 2, "api": {"operation": "RunInstances", "response": response}})
        assert (event.type, event.payload.outcome) == ("action.denied", "denied")


def test_text_in_a_binary_cloudevent_is_kept():
    headers = {"authorization": TOKEN, "ce-specversion": "1.0", "ce-id": "i", "ce-source": "/s", "ce-type": "com.x"}
    for kind in ("text/plain", "application/xml", "image/svg+xml"):
        [kept] = (
            named("cloudevents")
            .receive(Delivery("gr\u00fc\u00dfe".encode(), kind, headers), sender_of("cloudevents"))
            .statements.values()
        )
        assert kept.event.type == "other.cloudevents.com.x" and json.loads(kept.raw) == "gr\u00fc\u00dfe"
    with pytest.raises(Refused):
        named("cloudevents").receive(Delivery(b"\xff", "text/plain", headers), sender_of("cloudevents"))


UNREADABLE_TIMES = [
    ("app", {}, ("at",)), ("auth0", {}, ("data", "date")), ("cloudflare", {}, ("ActionTimestamp",)), ("cloudtrail", {}, ("eventTime",)),
    ("github", {"created_at": None}, ("@timestamp",)), ("keycloak", {}, ("time",)), ("litellm", {}, ("startTime",)), ("mpp", {"receipt": None}, ("at",)), ("ocsf", {}, ("time",)),
    ("okta", {}, ("published",)), ("peac", {}, ("observed_at",)), ("projects_cli", {}, ("at",)), ("standard_webhooks", {}, ("timestamp",)), ("http_signatures", {}, ("time",)),
    ("stripe", {}, ("created",)), ("x402", {}, ("at",)),
]  # fmt: skip


@pytest.mark.parametrize("time", ["soon", "Fri, 20 Nov 2026 10:00:00 GMT", "2026-13-45T10:00:00Z", -1])
@pytest.mark.parametrize(("format", "more", "path"), UNREADABLE_TIMES)
def test_a_time_that_cannot_be_read_loses_no_event(format, more, path, time):
    """It is dated by what else is signed, or by its arrival, and a note says what could not be read."""
    sample = SAMPLES[format]
    document = json.loads(sample.bodies[0]) | more
    holder = document
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = time

    [statement] = named(format).receive(sample.deliver(json.dumps(document).encode()), sample.known).statements.values()

    assert not isinstance(statement, Refused), statement
    assert not statement.event.dated and any("not read" in note for note in statement.notes)


@pytest.mark.parametrize(("format", "path", "time"), [
    ("okta", ("published",), "2026-11-20T10:00:00.123"), ("auth0", ("data", "date"), "2026-11-20T10:00:00.123"), ("github", ("@timestamp",), "2026-11-20 10:00:00.123"),
])  # fmt: skip
def test_a_time_without_a_zone_is_utc_where_the_senders_documentation_says_so(format, path, time):
    sample = SAMPLES[format]
    document = json.loads(sample.bodies[0])
    (document if len(path) == 1 else document[path[0]])[path[-1]] = time

    [statement] = named(format).receive(sample.deliver(json.dumps(document).encode()), sample.known).statements.values()

    assert statement.event.dated and statement.event.occurred_at.isoformat() == "2026-11-20T10:00:00.123000+00:00"


def test_a_recorded_pair_whose_time_cannot_be_read_proves_nothing_by_its_age():
    """Of `exp` in the orchestrator's signature nobody can say whether it was over."""
    assert events("app", json.loads(SAMPLES["app"].bodies[0]) | {"at": "soon"})[0].dated is False


@pytest.mark.parametrize("format", ["standard_webhooks", "http_signatures"])
def test_a_signed_list_of_objects_is_kept_as_it_is(format):
    [event] = events(format, [{"a": 1}, {"b": 2}])

    assert event.type == f"other.{SAMPLES[format].known.name}.untyped" and event.payload.outcome == "unknown"


def test_a_signed_body_without_an_id_goes_by_its_digest():
    body = {"type": "com.example.made", "data": {}}
    [event], [again] = events("http_signatures", body), events("http_signatures", body)

    assert event.source_event_id == again.source_event_id and event.source_event_id.startswith("sha256:")


def test_a_byte_order_mark_before_a_signed_body_loses_the_signature_and_not_the_event():
    sample = SAMPLES["standard_webhooks"]
    [statement] = (
        named("standard_webhooks")
        .receive(sample.deliver(b"\xef\xbb\xbf" + sample.bodies[0]), sample.known)
        .statements.values()
    )

    assert (statement.grade, statement.key, statement.raw) == ("D", "-", sample.bodies[0])
