"""OpenTelemetry: what its own encoder makes, in both encodings; acts, and never authority."""

import copy
import gzip
import json

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from auditlog.core.errors import Refused
from auditlog.core.event import LAYER_OF_TYPE
from auditlog.formats import otlp
from tests.deliveries import OTLP, OTLP_LOGS, event_in, received, sender_of, with_token


def with_attributes(**changes):
    """The sample's span with other attributes; `_` stands for a dot."""
    document = json.loads(json.dumps(OTLP))
    [span] = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for name, value in changes.items():
        name = name.replace("__", ".")
        span["attributes"] = [one for one in span["attributes"] if one["key"] != name]
        if value is not None:
            span["attributes"].append({"key": name, "value": {"stringValue": value}})
    return document


def in_protobuf(document, message):
    """As OpenTelemetry's own classes encode it; its JSON has ids in hexadecimal where protobuf's JSON has base64."""
    made = json.loads(json.dumps(document))
    export = message()
    for holder in made.get("resourceSpans", []) + made.get("resourceLogs", []):
        for scope in holder.get("scopeSpans", []) + holder.get("scopeLogs", []):
            for one in scope.get("spans", []) + scope.get("logRecords", []):
                ids = {
                    name: bytes.fromhex(one.pop(name)) for name in ("traceId", "spanId", "parentSpanId") if name in one
                }
                one["_ids"] = ids
    spans = [
        one.pop("_ids")
        for holder in made.get("resourceSpans", [])
        for scope in holder["scopeSpans"]
        for one in scope["spans"]
    ]
    logs = [
        one.pop("_ids")
        for holder in made.get("resourceLogs", [])
        for scope in holder["scopeLogs"]
        for one in scope["logRecords"]
    ]
    ParseDict(made, export)
    targets = [
        span for holder in getattr(export, "resource_spans", []) for scope in holder.scope_spans for span in scope.spans
    ]
    targets += [
        log
        for holder in getattr(export, "resource_logs", [])
        for scope in holder.scope_logs
        for log in scope.log_records
    ]
    for target, ids in zip(targets, spans + logs, strict=True):
        target.trace_id, target.span_id = ids["traceId"], ids["spanId"]
        if "parentSpanId" in ids:
            target.parent_span_id = ids["parentSpanId"]
    return export.SerializeToString()


def test_a_tool_that_an_agent_ran_is_an_act_of_the_agent():
    event = event_in("otlp", OTLP)

    assert (event.type, event.payload.action.verb, event.payload.outcome) == (
        "action.performed",
        "domain.register",
        "success",
    )
    assert (event.payload.actor.sub, event.payload.actor.kind, event.principal_claim.sub) == ("agent-1", "agent", "ada")
    assert (event.payload.session, event.payload.trace_id) == ("sess-7", "5b8efff798038103d269b633813fc60c")
    assert (
        event.occurred_at.microsecond == 123_000
        and event.source_event_id == "5b8efff798038103d269b633813fc60c:eee19b7ec3c1b174"
    )


@pytest.mark.parametrize(
    ("document", "message"), [(OTLP, ExportTraceServiceRequest), (OTLP_LOGS, ExportLogsServiceRequest)]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_protobuf_and_json_of_one_record_are_the_same_statement(document, message, pack):
    [plain] = received("otlp", document).values()

    [encoded] = received(
        "otlp", pack(in_protobuf(document, message)), deliver=lambda raw: with_token(raw, "application/x-protobuf")
    ).values()

    assert encoded.event == plain.event and otlp.content(encoded.raw, encoded.headers) == otlp.content(
        plain.raw, plain.headers
    )


def test_prompts_answers_and_arguments_are_left_out_and_said_to_be():
    [statement] = received(
        "otlp", with_attributes(gen_ai__input__messages="hunter2", gen_ai__tool__call__arguments="hunter2")
    ).values()
    [log] = received("otlp", OTLP_LOGS).values()

    assert b"hunter2" not in statement.raw and json.loads(statement.raw)["leftOut"] == [
        "gen_ai.input.messages",
        "gen_ai.tool.call.arguments",
    ]
    assert json.loads(log.raw)["leftOut"] == ["body"]


@pytest.mark.parametrize("operation", ["execute_tool", "invoke_agent", "create_agent", "invoke_workflow", "chat", "generate_content", "embeddings", "text_completion", "retrieval",
                                       "delegation.granted", "approval.decided", "token.issued", "payment.captured", "limit.raised", "plan", "x" * 300])  # fmt: skip
def test_telemetry_is_never_evidence_of_authority_or_money(operation):
    event = event_in("otlp", with_attributes(gen_ai__operation__name=operation, gen_ai__agent__id="agent-1"))

    assert event.type.startswith("other.otlp.") or LAYER_OF_TYPE[event.type] == "provider"
    payload = event.payload
    assert payload.grant is payload.token is payload.gate is payload.limit is payload.money is payload.intent is None


@pytest.mark.parametrize(
    ("status", "attributes", "outcome"),
    [
        ({"code": 2, "message": "no"}, {}, "failure"),
        ({"code": 0}, {}, "success"),
        ({}, {"error.type": "timeout"}, "failure"),
    ],
)
def test_a_span_that_failed_was_not_done(status, attributes, outcome):
    document = with_attributes(**{name.replace(".", "__"): value for name, value in attributes.items()})
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] = status

    event = event_in("otlp", document)

    assert event.payload.outcome == outcome and event.type == (
        "action.performed" if outcome == "success" else "action.denied"
    )


def test_without_an_agent_the_service_acts_and_what_is_no_gen_ai_is_kept():
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "GET /", "startTimeUnixNano": "1795000000000000000"}
    plain = {"resourceSpans": [{"resource": OTLP["resourceSpans"][0]["resource"], "scopeSpans": [{"spans": [span]}]}]}
    event = event_in("otlp", plain)

    assert (event.type, event.payload.outcome, event.payload.actor.sub, event.payload.actor.kind) == (
        "other.otlp.telemetry",
        "unknown",
        "shop-agent",
        "workload",
    )


def test_many_spans_are_many_statements_and_a_line_is_an_export():
    document = json.loads(json.dumps(OTLP))
    [span] = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    document["resourceSpans"][0]["scopeSpans"][0]["spans"] = [span | {"spanId": f"{n:016x}"} for n in range(1, 4)]

    assert len(received("otlp", document)) == 3
    assert len(received("otlp", json.dumps(document).encode() + b"\n" + json.dumps(OTLP_LOGS).encode())) == 4


@pytest.mark.parametrize(
    "body", [{}, {"resourceSpans": []}, {"resourceSpans": [{"scopeSpans": [{"spans": []}]}]}, {"resourceLogs": []}]
)
def test_an_export_of_nothing_is_taken_and_says_nothing(body):
    assert received("otlp", body) == {}


@pytest.mark.parametrize("body", [{"resourceMetrics": [{}]}, {"spans": []}, [1]])
def test_what_is_no_export_of_traces_or_logs_is_refused(body):
    with pytest.raises(Refused, match=r"expected (resourceSpans|a span)"):
        received("otlp", body)


def test_metrics_are_not_taken_for_spans_or_log_records():
    exported = ExportMetricsServiceRequest()
    metrics = exported.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="0123456789abcdef", description="12345678").sum.is_monotonic = True
    metrics.add(name="http.server", unit="s").gauge.data_points.add(
        time_unix_nano=1_795_000_000_000_000_000, as_double=1.5
    )

    with pytest.raises(Refused, match="traces or logs"):
        received("otlp", exported.SerializeToString(), deliver=lambda raw: with_token(raw, "application/x-protobuf"))


def test_a_log_record_with_nothing_but_a_body_is_kept_without_a_time():
    event = event_in("otlp", {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]})

    assert event.type == "other.otlp.telemetry" and not event.dated


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | st.integers(0, 400).map(lambda n: in_protobuf(OTLP, ExportTraceServiceRequest)[:n]))
def test_bytes_that_are_no_protobuf_are_refused_or_read_and_never_crash(body):
    try:
        found = otlp.receive(with_token(body, "application/x-protobuf"), sender_of("otlp")).statements
    except Refused as refused:
        assert str(refused)
    else:
        # An export of nothing has no spans in it either way.
        assert found or not any(
            scope.spans
            for holder in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in holder.scope_spans
        )


@pytest.mark.parametrize("name", [
    "gen_ai.prompt.0.content", "gen_ai.completion.12.content", "gen_ai.input.messages", "gen_ai.tool.call.arguments", "llm.prompts.0.content", "llm.completions.0",
    "traceloop.entity.input", "traceloop.entity.output", "input.value", "output.value", "llm.input_messages.0.message.content", "llm.output_messages.0.message.content",
    "llm.invocation_parameters", "retrieval.documents.0.document.content", "ai.prompt", "ai.prompt.messages", "ai.response.text", "ai.toolCall.args", "tool_arguments",
    "all_messages_events", "langfuse.observation.input", "mlflow.spanInputs", "http.request.header.x-api-key", "http.response.header.set-cookie", "process.command_args",
])  # fmt: skip
def test_prompts_and_credentials_are_left_out_under_the_names_of_other_libraries(name):
    document = copy.deepcopy(OTLP)
    [span] = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    span["attributes"].append({"key": name, "value": {"stringValue": "hunter2"}})
    document["resourceSpans"][0]["resource"]["attributes"].append({"key": name, "value": {"stringValue": "hunter2"}})

    [statement] = received("otlp", document).values()

    assert b"hunter2" not in statement.raw and name.encode() in statement.raw  # that it was there is said


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.prompt.name",
        "gen_ai.output.type",
        "gen_ai.request.model",
        "http.request.method",
        "tool.name",
        "process.command",
        "inputs",
    ],
)
def test_what_says_nothing_of_a_prompt_is_kept(name):
    document = copy.deepcopy(OTLP)
    [span] = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    span["attributes"].append({"key": name, "value": {"stringValue": "plain-value"}})

    [statement] = received("otlp", document).values()

    assert b"plain-value" in statement.raw


def test_in_protobuf_too_a_record_without_times_is_kept():
    spans = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "name": "chat",
                                "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
                            }
                        ]
                    }
                ]
            }
        ]
    }
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]}
    for document, message, type in (
        (spans, ExportTraceServiceRequest(), "action.performed"),
        (logs, ExportLogsServiceRequest(), "other.otlp.telemetry"),
    ):
        body = ParseDict(document, message).SerializeToString()
        event = event_in("otlp", body, deliver=lambda raw: with_token(raw, "application/x-protobuf"))

        assert event.type == type and not event.dated
