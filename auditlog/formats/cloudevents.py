"""CloudEvents 1.0 over HTTP: structured (`application/cloudevents+json`), batch (`...-batch+json`), binary (`ce-*`).
And the events of Azure Event Grid's own schema, which are the same under other names.

Verified: attribute rules, against the published JSON Schema; Event Grid's schema and handshakes, in its documentation
(2026-11). CloudEvents itself signs nothing (the `verifiability` extension is a draft and is not read), so a static
token lets the sender in: grade D.

Chain order: that of the payload in `data`, if it is ours: nested `act`, outermost current. `source` and `subject` are
no actors. Identity is `source` and `id` together, as the specification has it.
"""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson
from msgspec import Raw, Struct

from auditlog.core.document import dumped, read_document
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, WrongContentType
from auditlog.core.event import UNREADABLE, Action, Event, Target
from auditlog.core.wire.static_token import check_static_token
from auditlog.formats import About, Delivery, Received, Sender, records
from auditlog.formats.envelope import opened
from auditlog.formats.values import canonical, decoded, event, fitted, instant, told_in_text

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
CONTENT_TYPES = (STRUCTURED, BATCH, "application/json", "")
ENCODINGS = records.ENCODINGS
_QUESTION = 64 * 1024  # bytes of a question whether the address is ours
_CODE = re.compile(r"[!-~]{1,200}\Z", re.ASCII)
_ATTRIBUTES = ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "ce-traceparent", "ce-txn")

ABOUT = About(
    title="CloudEvents 1.0",
    sent="POST: structured or batch (application/cloudevents+json, -batch+json), or binary with ce- headers",
    authentication="a static token in the Authorization header; CloudEvents does not sign",
    grade="D",
    carries="any type of the published format, as data; other types are kept as other.*",
    chains="the payload's nested act, outermost is the current actor",
    lacks="a signature; of data that is neither JSON nor text all but its digest; an event without time is dated by its"
    " arrival, and says so",
    tested="the specification's JSON Schema; all three modes of one event compared; what the official Python SDK sends",
    against=("cloudevents 2.2.0", "cloudevents/spec JSON Schema 1.0"),
    connect=(
        "Give your CloudEvents sink the address {address}.",
        "Add the header Authorization: Bearer <the value of {secret}>.",
        "The handshakes of webhook subscriptions (OPTIONS with WebHook-Request-Origin; Azure Event Grid's"
        " SubscriptionValidation) are answered.",
        "Set time on every event, and put a payload of our published format into data.",
    ),
)


class CloudEvent(Struct):
    specversion: str
    id: str
    source: str
    type: str
    time: Any = None
    subject: str | None = None
    data: Raw = Raw()
    data_base64: str | None = None
    traceparent: str | None = None
    txn: str | None = None


class GridEvent(Struct):
    """An event in Azure Event Grid's own schema. A topic may be left out by whoever publishes: Event Grid stamps it."""

    id: str
    eventType: str
    subject: str | None = None
    topic: str | None = None
    eventTime: Any = None
    data: Raw = Raw()


class Either(Struct):
    """What tells the two schemas apart: each has its own name for the type, and needs it."""

    specversion: Any = msgspec.UNSET
    eventType: str | None = None


class Asked(Struct):
    validationCode: str = ""


class Question(Struct):
    """Event Grid's question whether the address is ours, an event like others."""

    eventType: str = ""
    data: Asked | None = None


_event = msgspec.json.Decoder(CloudEvent).decode
_grid = msgspec.json.Decoder(GridEvent).decode
_either = msgspec.json.Decoder(Either).decode
_questions = msgspec.json.Decoder(list[Question]).decode


def receive(delivery: Delivery, sender: Sender) -> Received:
    if delivery.headers.get("aeg-event-type", "").strip() == "SubscriptionValidation":
        return Received({}, answer=_validated(delivery.body))
    if delivery.content_type in (STRUCTURED, BATCH):
        return _structured(Delivery(delivery.body, "application/json", delivery.headers), sender)
    if any(name in delivery.headers for name in ("ce-id", "ce-type", "ce-specversion")):
        return _binary(delivery, sender)
    if delivery.content_type in ("application/json", ""):
        return _structured(delivery, sender)
    raise WrongContentType(f"expected {STRUCTURED}, {BATCH} or ce- headers, found {delivery.content_type[:80]!r}")


def handshake(headers: Mapping[str, str], per_second: float) -> dict[str, str] | None:
    """ "Abuse protection" of webhooks (CloudEvents, HTTP 1.1 Web Hooks, section 4), which Azure Event Grid asks for
    first.

    Whoever asks is let in: the answer says only that events may be sent, and none is taken without the source's token.
    None for a request without an origin, which is no handshake.
    """
    origin = headers.get("webhook-request-origin", "")
    if not origin or len(origin) > 300 or not origin.isascii() or not origin.isprintable():
        return None
    # "*" is no limit; a rate is in requests a minute (section 4.1.2).
    return {
        "WebHook-Allowed-Origin": origin,
        "WebHook-Allowed-Rate": str(max(1, int(per_second * 60))) if per_second else "*",
    }


def _validated(body: bytes) -> dict[str, str]:
    """The answer to Event Grid's question, which comes without the source's token: its own code, and nothing else is
    done with it.

    That events may be sent is all that it says, as of the other handshake. The address beside the code is not called.
    """
    if len(body) > _QUESTION:
        raise DeliveryTooLarge(f"a subscription's validation has at most {_QUESTION:,} bytes, found {len(body):,}")
    asked = decoded(_questions, body, "an array of one Microsoft.EventGrid.SubscriptionValidationEvent")
    code = asked[0].data.validationCode if len(asked) == 1 and asked[0].data else ""
    if (
        len(asked) != 1
        or asked[0].eventType != "Microsoft.EventGrid.SubscriptionValidationEvent"
        or not _CODE.match(code)
    ):
        raise MalformedEvent("expected one Microsoft.EventGrid.SubscriptionValidationEvent with a validationCode")
    return {"validationResponse": code}


def content(raw: bytes, headers: bytes) -> bytes:
    """In binary mode the attributes are part of what was said."""
    attributes = {name: value for name, value in records.told(headers).items() if name in _ATTRIBUTES}
    return canonical(raw) + (orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS) if attributes else b"")


def parse(raw: bytes, headers: bytes, sender: Sender) -> Event:
    attributes = records.told(headers)
    said = _from_headers(attributes, raw) if "ce-id" in attributes else _from_body(raw)
    if said.specversion != "1.0":
        raise MalformedEvent(f"expected specversion 1.0, found {said.specversion[:40]!r}")
    if not said.id or not said.source or not said.type:
        raise MalformedEvent("expected id, source and type, none of them empty")
    native, payload, txn, principal = opened(said.type, _data(said), sender)
    if payload.action is None and said.subject:
        payload = msgspec.structs.replace(payload, action=Action(target=Target("subject", fitted(said.subject))))
    if not payload.trace_id and said.traceparent:
        payload = msgspec.structs.replace(payload, trace_id=_trace(said.traceparent))
    id = fitted(f"{said.source} {said.id}")
    return event(
        sender,
        id=id,
        type=native,
        # RFC 3339 or none, says the specification; text that is neither makes it no CloudEvent.
        at=instant(said.time) if said.time and isinstance(said.time, str) else told_in_text(said.time, "time"),
        payload=payload,
        txn=txn or said.txn or "",
        principal=principal,
    )


def _structured(delivery: Delivery, sender: Sender) -> Received:
    return records.received(delivery, sender, lambda raw: records.stated(raw, sender, parse=parse, grade="D"))


def _binary(delivery: Delivery, sender: Sender) -> Received:
    """Attributes in `ce-` headers, percent-encoded (HTTP binding 3.1.3.2); the body is the data alone.

    Without `datacontenttype` there is no Content-Type, and the data is JSON (CloudEvents 1.0, 3.1.1). Data of any other
    media type is allowed (HTTP binding 3.1.1), and cannot be searched for secrets: its digest is kept.
    """
    kind = delivery.content_type
    is_text = (kind.startswith("text/") and kind != "text/json") or kind == "application/xml" or kind.endswith("+xml")
    is_other = not is_text and kind not in ("application/json", "text/json", "") and not kind.endswith("+json")
    check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
    body = delivery.body  # which may be gzip by its own type
    if not is_other or delivery.encoding:
        body = records.unpacked(Delivery(body, "application/json", delivery.headers))
    body = body or b"null"  # no data is allowed
    if is_other and body != b"null":
        body = orjson.dumps({"datacontenttype": kind[:200], "bytes": len(body), "sha256": sha256(body).hexdigest()})
    elif is_text and body != b"null":
        try:
            body = orjson.dumps(body.decode())  # what is stored is JSON: of a text the same text
        except UnicodeDecodeError as error:
            raise MalformedEvent(f"expected UTF-8: {error.reason} at byte {error.start}") from None
    attributes = {name: delivery.headers[name] for name in _ATTRIBUTES if name in delivery.headers}
    statement = records.stated(body, sender, parse=parse, grade="D", headers=attributes)
    return Received({statement.source_event_id: statement})


def _from_body(raw: bytes) -> CloudEvent:
    try:
        return _event(raw)
    except UNREADABLE:
        with suppress(*UNREADABLE):
            either = _either(raw)
            if either.specversion is msgspec.UNSET and either.eventType:
                said = decoded(_grid, raw, "an event of Event Grid's schema")
                return CloudEvent(
                    "1.0", said.id, said.topic or "event-grid", said.eventType, said.eventTime, said.subject, said.data
                )
        return decoded(_event, raw, "a CloudEvent")


def _from_headers(attributes: dict[str, str], raw: bytes) -> CloudEvent:
    values: dict[str, Any] = {name[3:]: unquote(value) for name, value in attributes.items() if name in _ATTRIBUTES}
    try:
        try:
            data = msgspec.json.decode(raw, type=Raw)
        except msgspec.MsgspecError:  # half a character, or a number out of range, in what nobody reads
            data = Raw(dumped(read_document(raw)))
        return CloudEvent(**{"specversion": "", "source": "", "type": ""} | values, data=data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedEvent(f"expected data in JSON: {error}") from None


def _data(said: CloudEvent) -> bytes:
    if said.data_base64 is None:
        return bytes(said.data)
    if bytes(said.data):
        raise MalformedEvent("expected data or data_base64, found both")
    try:
        return b64decode(said.data_base64, validate=True)
    except (Error, ValueError):
        raise MalformedEvent("data_base64 is not base64") from None


def _trace(traceparent: str) -> str:
    """The trace id of a W3C traceparent."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""
