"""OpenTelemetry traces and logs over HTTP (OTLP 1.x), JSON or protobuf, with the attributes of its GenAI conventions.

Verified: the encodings (opentelemetry-proto), and names of attributes in the semantic conventions for GenAI, of which
all are still in development (v1.41, read 2026-11). Not verified: which of them a given library sets.

Telemetry is what a program says of itself to whoever listens: it shows what was done and in which order, and is never
evidence that anybody might do it. So a span or a log record is an act or is kept as it is, and never a grant, token,
approval or payment: grade E. A record without any `gen_ai.` attribute is kept as other.*; leave those out at the
collector.

Each span and log record is stored by itself, as JSON, with the attributes of its resource. Prompts, answers and
arguments of tools (`gen_ai.input.messages` and the like, under the names of other libraries too), headers of requests
and command lines are left out.

Chain order: none. The agent acts (`gen_ai.agent.id`), else the service; the user (`user.id`, `enduser.id`) is claimed.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
import orjson
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from msgspec import Raw, Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from auditlog.core.document import read_document
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent
from auditlog.core.event import Event, Payload
from auditlog.core.wire.redaction import clean_text
from auditlog.core.wire.static_token import check_static_token
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.values import (
    acting,
    action,
    called,
    canonical,
    client,
    decoded,
    digest_id,
    event,
    fitted,
    party,
    told_at,
    type_or_other,
)

PROTOBUF = ("application/x-protobuf", "application/protobuf")
CONTENT_TYPES = ("application/json", *PROTOBUF)
ENCODINGS, content = records.ENCODINGS, canonical
MAX_VALUES = 200  # attributes of one record, and of one list
MAX_DEPTH = 8
_TEXT = 2000  # characters of one attribute that are kept
# Prompts, answers, arguments and results, under the names of the conventions and of the libraries that most people use
# (OpenLLMetry's `gen_ai.prompt.0.content`, OpenInference's `llm.input_messages.0.message.content`, Vercel's AI SDK,
# Pydantic AI, Langfuse, MLflow). And what may be a credential: headers of requests, a process's command line.
_LEFT_OUT = re.compile(
    r"(?:gen_ai\.(?:prompt|completion|prompts|completions|content|input|output|system_instructions"
    r"|tool\.(?:call\.(?:arguments|result)|definitions|parameters)|retrieval\.(?:query|documents)|evaluation\.explanation)"
    r"|llm\.(?:prompts?|completions?|input_messages|output_messages|prompt_template|invocation_parameters|request\.functions|tools|function_call)"
    r"|(?:input|output)\.(?:value|messages)|message\.content|traceloop\.entity\.(?:input|output)|traceloop\.prompt"
    r"|(?:retrieval|reranker|embedding)\.(?:documents|query|input_documents|output_documents|embeddings|text)|document\.content"
    r"|tool\.(?:parameters|input|output)|tool_arguments|tool_response|tool_call\.function\.arguments"
    r"|ai\.(?:prompt|response\.(?:text|object|toolCalls|reasoning)|result|toolCall\.(?:args|result)|values?|embeddings?)"
    r"|all_messages_events|pydantic_ai\.all_messages|final_result|events|model_request_parameters"
    r"|langfuse\.(?:observation|trace)\.(?:input|output)|mlflow\.span(?:Inputs|Outputs)|langsmith\.(?:inputs|outputs)"
    r"|(?:http\.(?:request|response)\.(?:header|body)|rpc\.[a-z_]+\.(?:request|response)\.metadata)"
    r"|process\.command_(?:args|line))(?:\.|\Z)"
)
# Names of the same beginning that say nothing of what was said.
_KEPT_ALL_THE_SAME = frozenset(
    {"gen_ai.prompt.name", "gen_ai.output.type", "http.request.body.size", "http.response.body.size"}
)
# Acts of an agent, and of whatever it calls; any other operation is kept under its own name.
_OPERATIONS = {"execute_tool": "tool", "invoke_agent": "agent", "create_agent": "agent", "invoke_workflow": "workflow",
               "chat": "model", "text_completion": "model", "generate_content": "model", "embeddings": "model", "retrieval": "data_source"}  # fmt: skip

ABOUT = About(
    title="OpenTelemetry (OTLP, gen_ai.*)",
    sent="POST of traces or logs by OTLP over HTTP, application/json or application/x-protobuf, gzip",
    authentication="a static token in the Authorization header; telemetry is not signed",
    grade="E",
    carries="what agents did: tools run, models asked, agents invoked, with conversation, trace and span; other records as other.*",
    chains="none: the agent acts, else its service; the user is claimed. Joined by trace, conversation and response id",
    lacks="a signature, authority of any kind, money; prompts, answers, arguments and headers, which are left out",
    tested="what opentelemetry-proto 1.45 encodes, and its JSON; conventions of v1.41",
    against=("opentelemetry-proto 1.45.2", "semantic conventions for GenAI v1.41"),
    connect=(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={address} (and OTEL_EXPORTER_OTLP_LOGS_ENDPOINT), protocol http/protobuf"
        " or http/json.",
        "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20<the value of {secret}>",
        "At a collector: an otlphttp exporter with traces_endpoint and logs_endpoint, behind a filter that keeps what"
        " has gen_ai.operation.name.",
    ),
)


class Signal(Struct):
    """One span or log record as it is stored."""

    resource: dict[str, Any] = {}
    attributes: dict[str, Any] | None = None
    name: str = ""
    traceId: str = ""
    spanId: str = ""
    startTimeUnixNano: int | str | None = None
    timeUnixNano: int | str | None = None
    observedTimeUnixNano: int | str | None = None
    status: int | str | None = None
    message: str = ""
    eventName: str = ""


class Scope(Struct):
    spans: list[Raw] = []
    logRecords: list[Raw] = []


class ResourceOf(Struct):
    resource: dict[str, Any] = {}
    scopeSpans: list[Scope] = []
    scopeLogs: list[Scope] = []


class Export(Struct):
    resourceSpans: list[Raw] | None = None
    resourceLogs: list[Raw] | None = None


_export = msgspec.json.Decoder(Export).decode
_holder = msgspec.json.Decoder(ResourceOf).decode
_signal = msgspec.json.Decoder(Signal).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
    body = records.unpacked(Delivery(delivery.body, "application/json", delivery.headers))
    found = list(_from_protobuf(body) if delivery.content_type in PROTOBUF else _from_lines(body))
    if len(found) > records.MAX_RECORDS:
        raise DeliveryTooLarge(f"a delivery has at most {records.MAX_RECORDS:,} records")
    # The signals of a delivery are stored one by one and not as they came: its digest says in which they were.
    headers = {"delivery-sha256": sha256(body).hexdigest()}
    return records.each(found, lambda raw: records.stated(raw, sender, parse=parse, grade="E", headers=headers))


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    said = decoded(_signal, raw, "a span or a log record")
    if said.attributes is None:
        raise MalformedEvent("expected a span or a log record, of an OTLP export")
    told = said.resource | said.attributes
    operation = fitted(told.get("gen_ai.operation.name"), 120)
    is_ours = any(name.startswith("gen_ai.") for name in told)
    status = "" if said.status is None else str(said.status).upper().removeprefix("STATUS_CODE_")
    failed = status in ("2", "ERROR") or bool(told.get("error.type"))
    went_well = status in ("", "0", "UNSET", "1", "OK")
    agent = party(sender.issuer, told.get("gen_ai.agent.id") or told.get("gen_ai.agent.name"), "agent")
    service = party(sender.issuer, told.get("service.name"), "workload")
    user = party(sender.issuer, told.get("user.id") or told.get("enduser.id"))
    kind = _OPERATIONS.get(operation, "")
    named = {
        "tool": "gen_ai.tool.name",
        "model": "gen_ai.request.model",
        "agent": "gen_ai.agent.name",
        "workflow": "gen_ai.workflow.name",
        "data_source": "gen_ai.data_source.id",
    }
    name = fitted(told.get(named.get(kind, "gen_ai.request.model")))
    native = (
        ("action.denied" if failed else "action.performed")
        if kind
        else type_or_other("", sender, operation or said.eventName or ("gen_ai" if is_ours else "telemetry"))
    )
    payload = Payload(
        outcome=("failure" if failed else "success" if went_well else "unknown") if is_ours else "unknown",
        mode="delegation" if user else "direct",
        actor=acting([agent or service]),
        action=action((name if kind == "tool" else "") or operation if kind else "", provider=told.get("gen_ai.provider.name") or told.get("gen_ai.system") or sender.provider,
                      target=(kind, name)),
        session=fitted(told.get("gen_ai.conversation.id") or told.get("session.id")),
        trace_id=fitted(said.traceId),
        request_id=fitted(told.get("gen_ai.response.id") or told.get("gen_ai.tool.call.id")),
        call=called(f"{operation} {name}".strip() or said.name, error=(said.message or told.get("error.type")) if failed else ""),
        client=client(told.get("client.address")),
    )  # fmt: skip
    id = (
        f"{said.traceId}:{said.spanId}"
        if said.startTimeUnixNano is not None and said.traceId and said.spanId
        else digest_id(raw)
    )
    times = [
        time
        for time in (said.startTimeUnixNano, said.timeUnixNano, said.observedTimeUnixNano)
        if time not in (None, 0, "0", "")
    ]
    return event(
        sender, id=fitted(id), type=native, at=told_at(times[0] if times else None), payload=payload, principal=user
    )


# --- what was exported, record by record ------------------------------------------------------------------------------


def _from_lines(body: bytes) -> Iterable[bytes]:
    """One export, or one a line as a collector writes them into files. What is none is refused by its place, with a
    reason.
    """
    exports, alone = records.split(Delivery(body, "application/json", {}))
    for export in exports:
        try:
            yield from list(_from_json(export))
        except MalformedEvent:
            if alone:
                raise
            yield export


def _from_json(body: bytes) -> Iterable[bytes]:
    """OTLP's JSON: lowerCamelCase, ids in hexadecimal, 64-bit numbers as text."""
    export = decoded(_export, body, "an OTLP export: {resourceSpans} or {resourceLogs}")
    if export.resourceSpans is None and export.resourceLogs is None and body.strip(b"{ \t\r\n}"):
        raise MalformedEvent("expected resourceSpans or resourceLogs")
    for given in (*(export.resourceSpans or ()), *(export.resourceLogs or ())):
        try:
            holder = decoded(_holder, given, "a resource with its spans or log records")
        except MalformedEvent:
            yield bytes(given)  # is refused by its place, and hurts no other
            continue
        resource = _attributes(holder.resource.get("attributes"))
        for scope in (*holder.scopeSpans, *holder.scopeLogs):
            for raw in (*scope.spans, *scope.logRecords):
                yield _json_record(bytes(raw), resource)


def _json_record(raw: bytes, resource: dict[str, Any]) -> bytes:
    records.bounded(raw, limit=records.MAX_INFLATED)
    try:
        said = read_document(raw)
    except ValueError as error:
        raise MalformedEvent(f"expected JSON: {error}") from None
    if not isinstance(said, dict):
        return raw  # which no parser of ours takes, and is refused by its place
    status = said["status"] if isinstance(said.get("status"), dict) else {"code": said.get("status")}
    return _record(
        said, resource, _attributes(said.get("attributes")), status.get("code"), status.get("message"), said.get("body")
    )


def _from_protobuf(body: bytes) -> Iterable[bytes]:
    """The same in protobuf. Traces and logs have the same outline, and nothing says which it is: whichever can be read
    as one.
    """
    traces, logs = _protobuf(ExportTraceServiceRequest, body), _protobuf(ExportLogsServiceRequest, body)
    spans = (
        [span for holder in traces.resource_spans for scope in holder.scope_spans for span in scope.spans]
        if traces is not None
        else []
    )
    lines = (
        [log for holder in logs.resource_logs for scope in holder.scope_logs for log in scope.log_records]
        if logs is not None
        else []
    )
    if not body or (traces is not None and traces.resource_spans and not spans and not lines):
        return  # an export of nothing, as a probe or a processor that dropped all of it sends
    # Metrics have that outline too: what no metric can hold in the same place tells a span or a log record.
    if any(
        span.start_time_unix_nano or span.kind or any(_is_name(one.key) for one in span.attributes) for span in spans
    ):
        for holder in traces.resource_spans:
            resource = _values(holder.resource.attributes)
            for scope in holder.scope_spans:
                for span in scope.spans:
                    said = {"name": span.name, "traceId": span.trace_id.hex(), "spanId": span.span_id.hex(), "parentSpanId": span.parent_span_id.hex(),
                            "startTimeUnixNano": span.start_time_unix_nano, "endTimeUnixNano": span.end_time_unix_nano}  # fmt: skip
                    yield _record(said, resource, _values(span.attributes), span.status.code, span.status.message, None)
    elif any(
        log.time_unix_nano or log.observed_time_unix_nano or log.severity_number or log.attributes or _has_body(log)
        for log in lines
    ):
        for holder in logs.resource_logs:
            resource = _values(holder.resource.attributes)
            for scope in holder.scope_logs:
                for log in scope.log_records:
                    said = {"traceId": log.trace_id.hex(), "spanId": log.span_id.hex(), "timeUnixNano": log.time_unix_nano, "observedTimeUnixNano": log.observed_time_unix_nano,
                            "severityText": log.severity_text, "eventName": log.event_name}  # fmt: skip
                    body = log.body.WhichOneof("value")  # what was said stays with whoever said it
                    yield _record(said, resource, _values(log.attributes), None, None, body)
    else:
        raise MalformedEvent("expected traces or logs of OTLP in protobuf")


def _has_body(log: Any) -> bool:
    """Whether it is a log record with nothing but a body. A metric has a name, where a log record has a time."""
    return log.HasField("body") and len(UnknownFieldSet(log)) == 0


def _protobuf(message: Any, body: bytes) -> Any:
    try:
        return message.FromString(body)
    except DecodeError:
        return None


_KEPT = (
    "name",
    "traceId",
    "spanId",
    "parentSpanId",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "timeUnixNano",
    "observedTimeUnixNano",
    "severityText",
    "eventName",
)


def _record(
    said: Mapping[str, Any], resource: dict[str, Any], attributes: dict[str, Any], status: Any, message: Any, body: Any
) -> bytes:
    """One record as it is stored: the same bytes for the same record, however it was encoded."""
    kept = {name: _scalar(said[name]) for name in _KEPT if said.get(name) not in (None, "", 0)}
    for name in ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano", "observedTimeUnixNano"):
        if name in kept:
            kept[name] = str(kept[name])
    left_out = [*sorted(filter(_is_left_out, attributes)), *(["body"] if body is not None else [])]
    if left_out:
        kept["leftOut"] = left_out
    kept |= {
        "resource": {name: value for name, value in resource.items() if not _is_left_out(name)},
        "attributes": {name: value for name, value in attributes.items() if not _is_left_out(name)},
    }
    if status not in (None, "", 0, "STATUS_CODE_UNSET", "0"):
        kept["status"] = _scalar(status)
    if message:
        kept["message"] = _scalar(message)
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_TEXT]
    return value if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63) else str(value)[:_TEXT]


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,120}\Z")


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    """Whether it names an attribute, and is nothing that somebody put in the place of a name."""
    return bool(_NAME.match(name)) and clean_text(name) == name


@lru_cache(maxsize=4096)
def _is_left_out(name: str) -> bool:
    return _LEFT_OUT.match(name) is not None and name not in _KEPT_ALL_THE_SAME


def _attributes(given: Any) -> dict[str, Any]:
    """`[{key, value: {stringValue | intValue | ..}}]` of OTLP's JSON."""
    found: dict[str, Any] = {}
    for one in given[:MAX_VALUES] if isinstance(given, list) else ():
        if isinstance(one, dict) and isinstance(name := one.get("key"), str) and _is_name(name):
            found[name] = _any(one.get("value"), 0)
    return found


def _any(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or depth > MAX_DEPTH:
        return None
    for name, read in (("stringValue", _scalar), ("boolValue", bool), ("doubleValue", _scalar)):
        if name in value:
            return read(value[name])
    if "intValue" in value:
        given = value["intValue"]
        return (
            int(given)
            if isinstance(given, str) and given.lstrip("-").isdecimal() and len(given) < 20
            else _scalar(given)
        )
    if isinstance(listed := value.get("arrayValue"), dict):
        values = listed.get("values")
        return [_any(one, depth + 1) for one in values[:MAX_VALUES]] if isinstance(values, list) else []
    return None


def _values(given: Any) -> dict[str, Any]:
    """The same of protobuf's KeyValue."""
    return {one.key: _value(one.value, 0) for one in given[:MAX_VALUES] if _is_name(one.key)}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind in ("string_value", "bool_value", "int_value", "double_value"):
        found = getattr(value, kind)
        return found[:_TEXT] if isinstance(found, str) else found
    if kind == "array_value" and depth < MAX_DEPTH:
        return [_value(one, depth + 1) for one in value.array_value.values[:MAX_VALUES]]
    return b64encode(value.bytes_value[:_TEXT]).decode() if kind == "bytes_value" else None
