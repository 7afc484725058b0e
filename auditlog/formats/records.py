"""Records: deliveries of senders that put many events into one request, as JSON lines, an array or an object.

Each record becomes a statement of its own, kept as the very bytes it had in the delivery (redacted where it held a
secret). A bad record does not hurt the others: it is refused by its id where it has one, else by its position.
"""

import json
import re
import zlib
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw

from auditlog.core.document import read_document, whole_escapes
from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, Refused, WrongContentType
from auditlog.core.event import UNREADABLE, Event, encode_payload
from auditlog.core.wire.cards import refuse_card_numbers
from auditlog.core.wire.redaction import NEVER_STORED, redact, redact_headers
from auditlog.core.wire.static_token import check_static_token
from auditlog.formats import Delivery, Received, Sender, Statement
from auditlog.formats.values import noting

CONTENT_TYPES = (
    "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines",
    "application/x-json-stream", "application/json-seq", "application/gzip", "application/octet-stream", "text/plain",
    "",
)  # fmt: skip
ENCODINGS = ("gzip", "deflate")
MAX_INFLATED = 32 * 1024 * 1024
MAX_MEMBERS = 64  # of one gzip stream: each costs a copy of the rest
MAX_VALUES = 2_000_000  # in one array: each could be a record, and costs memory before we can count
MAX_RECORDS = 20_000
MAX_RECORD = 256 * 1024
MAX_DEPTH = 64  # said by us and not left to the stack, so that stored bytes parse wherever they are read
NO_KEY = "-"

_array = msgspec.json.Decoder(list[Raw]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_headers = msgspec.json.Decoder(dict[str, str]).decode
# A string without end runs to the end: trying again from each quote in it would take quadratic time.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_BLANK = b" \t\r\n\x0b\f\x1e"  # with the separator of JSON text sequences (RFC 7464)
_JSON_BEGINS = (b"", b"{", b"[", b"\xef")
_NEXT = re.compile(rb"\}[ \t\r\n\x1e]*\{")
_IDS = ("id", "log_id", "eventID", "AuditLogID", "event_id")


def received(
    delivery: Delivery,
    sender: Sender,
    state: Callable[[bytes], Statement],
    *,
    wrappers: Sequence[str] = (),
    carried: bool = False,
) -> Received:
    """The statements of a delivery that a static token lets in. `carried`: a collector's envelope may be around
    a record. Raises Refused when nothing in it is good.
    """
    check_static_token(delivery.headers.get("authorization", ""), sender.secrets())
    found, alone = split(delivery, wrappers=wrappers, carried=carried)
    return each(found, state, batch=not alone)


def each(found: Sequence[bytes], state: Callable[[bytes], Statement], *, batch: bool = True) -> Received:
    """Every record's statement, or why it is refused. Raises the first refusal when all are."""
    statements: dict[str, Statement | Refused] = {}
    for position, raw in enumerate(found):
        try:
            stated = state(raw)
            name, statement = stated.source_event_id, stated
        except Refused as refused:
            name, statement = _name(raw, position), refused
        statements[name if name not in statements else f"{name}#{position}"] = statement
    if statements and all(isinstance(statement, Refused) for statement in statements.values()):
        raise next(refused for refused in statements.values() if isinstance(refused, Refused))
    return Received(statements, batch=batch)


def stated(
    raw: bytes,
    sender: Sender,
    *,
    parse: Callable[[bytes, bytes, Sender], Event],
    grade: str,
    key: str = NO_KEY,
    names: frozenset[str] = NEVER_STORED,
    keep: frozenset[str] = frozenset(),
    headers: dict[str, str] | None = None,
    limit: int = MAX_RECORD,
    opens: bool = False,
    proofs: dict[str, str] | None = None,
) -> Statement:
    """One record as a statement: bounded, without secrets, refused with a card number, and parsed as it is stored.
    `opens`: its texts are base64 of JSON (headers of a protocol). `proofs`: headers that are kept though they look like
    credentials, because they sign these very bytes and let nobody in."""
    bounded(raw, limit=limit)
    refuse_card_numbers(raw, opens=opens)
    clean = redact(raw, names=names, keep=keep, opens=opens)
    if clean.headers:
        # What we have changed no signature fits any more: it is worth its channel at most.
        grade, key = max(grade, "D"), NO_KEY
    given, hidden = redact_headers(headers or {}, names=names)
    if hidden:
        grade, key = max(grade, "D"), NO_KEY
    kept = clean.headers | given
    if hidden:
        kept["removed"] = ", ".join(filter(None, [kept.get("removed"), *(f"header {name}" for name in hidden)]))[:2000]
    if not clean.headers:
        kept |= proofs or {}
    signed = encode_payload(dict(sorted(kept.items()))) if kept else b""
    with noting() as notes:
        event = parse(clean.raw, signed, sender)
    return Statement(event.source_event_id, clean.raw, signed, grade, key, event, tuple(notes))


def told(headers: bytes) -> dict[str, str]:
    """The signed headers of a stored statement."""
    return _headers(headers) if headers else {}


def split(delivery: Delivery, *, wrappers: Sequence[str] = (), carried: bool = False) -> tuple[list[bytes], bool]:
    """The records' own bytes, and whether there was one object alone. Raises Refused."""
    body = unpacked(delivery).strip(_BLANK)
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:].lstrip(_BLANK)
    if not body:
        raise MalformedEvent("the delivery is empty")
    try:
        return _split(body, wrappers, carried)
    except UNREADABLE as error:
        if b"\\u" not in body:
            raise MalformedEvent(f"expected JSON: {error}") from None
    whole = whole_escapes(body)  # half a character in some text: found by its double, kept as it is
    try:
        found, alone = _split(whole, wrappers, carried)
    except UNREADABLE as error:
        raise MalformedEvent(f"expected JSON: {error}") from None
    place, own = 0, []
    for record in found:
        at = whole.find(record, place)
        own.append(body[at : at + len(record)] if at >= 0 else record)  # not found: it stood in a text
        place = at + len(record) if at >= 0 else place
    return own, alone


def _split(body: bytes, wrappers: Sequence[str], carried: bool) -> tuple[list[bytes], bool]:
    found, alone = _objects(body)
    names = [(wrapper, f'"{wrapper}"'.encode()) for wrapper in wrappers]
    opened: list[bytes] = []
    for record in found:
        inside = _carried(record) if carried else [record]
        alone = alone and len(inside) == 1
        for one in inside:
            listed = _listed(one, names, alone=alone)
            opened += [one] if listed is None else listed
            alone = alone and listed is None
        _counted(opened)
    return opened, alone


def _objects(body: bytes) -> tuple[list[bytes], bool]:
    """What a body holds one after another, and whether that is one object alone."""
    if body[:1] == b"[":
        if body.count(b",") > MAX_VALUES:
            raise DeliveryTooLarge(f"a delivery has at most {MAX_VALUES:,} values")
        return _counted([bytes(record) for record in _array(body)]), False
    if b"\n" not in body and len(row := _in_a_row(body)) > 1:
        return _counted(row), False
    if b"\n" not in body:
        _object(body)
    if b"\n" not in body or _is_one(body):
        return [body], True
    if _is_pretty(body) and (row := _in_a_row(body)):
        return _counted(row), False
    if body.count(b"\n") > 2 * MAX_RECORDS:  # before the list is made
        raise DeliveryTooLarge(f"a delivery has at most {MAX_RECORDS:,} records")
    lines = (line for line in (line.strip(_BLANK) for line in body.split(b"\n")) if line)
    return _counted([record for line in lines for record in _in_a_row(line) or [line]]), False


def _is_pretty(body: bytes) -> bool:
    """Whether its first line is only the beginning of an object, as `jq` prints one after another."""
    return body[:1] == b"{" and not body.partition(b"\n")[0].rstrip(_BLANK).endswith(b"}")


def _in_a_row(text: bytes) -> list[bytes]:
    """Objects that follow each other with nothing between, as Firehose and Splunk's event collector write them. None:
    it is something else.
    """
    if not _NEXT.search(text):
        return []
    found, level, begins = [], 0, 0
    for one in _BRACKETS.finditer(text):
        first = text[one.start()]
        if first in b"[{":
            if level == 0:
                if text[begins : one.start()].strip(_BLANK):
                    return []
                begins = one.start()
            level += 1
        elif level == 0:
            return []
        elif first in b"]}":
            level -= 1
            if level == 0:
                found.append(text[begins : one.end()])
                begins = one.end()
    return found if level == 0 and not text[begins:].strip(_BLANK) else []


def unpacked(delivery: Delivery) -> bytes:
    """The body without its gzip (several members too) or deflate, never more than MAX_INFLATED. Raises Refused.

    By its first bytes and not by its header: a proxy may unpack it and leave the header, or a client not set one. No
    JSON begins as gzip does; deflate is told by its header, and is zlib's (RFC 9110 section 8.4.1.2), whose first byte
    begins no JSON.
    """
    if delivery.content_type not in CONTENT_TYPES:
        raise WrongContentType(f"expected JSON or JSON lines, found {delivery.content_type[:80]!r}")
    refuse_charset(delivery)
    body = delivery.body
    if delivery.encoding == "deflate" and body.lstrip(_BLANK)[:1] not in _JSON_BEGINS:
        return _inflated(body)
    if body[:2] != b"\x1f\x8b":
        return body
    parts, room = [], MAX_INFLATED
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error as error:
            raise MalformedEvent(f"the body is not gzip: {error}") from None
        room -= len(part)
        if room < 0:
            raise DeliveryTooLarge(f"a delivery has at most {MAX_INFLATED:,} bytes after decompression")
        if not member.eof:
            raise MalformedEvent("the gzip stream ends too early")
        parts.append(part)
        body = member.unused_data
        if not body:
            return b"".join(parts)
    raise DeliveryTooLarge(f"a gzip stream has at most {MAX_MEMBERS} members")


def _inflated(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(body, MAX_INFLATED + 1)
    except zlib.error as error:
        raise MalformedEvent(f"the body is not deflate (a zlib stream, RFC 9110 section 8.4.1.2): {error}") from None
    if len(inflated) > MAX_INFLATED:
        raise DeliveryTooLarge(f"a delivery has at most {MAX_INFLATED:,} bytes after decompression")
    if not stream.eof or stream.unused_data:
        raise MalformedEvent("the deflate stream ends too early, or more follows it")
    return inflated


def refuse_charset(delivery: Delivery) -> None:
    """JSON is UTF-8 (RFC 8259 section 8.1). Raises WrongContentType when the sender says something else."""
    _, _, charset = delivery.headers.get("content-type", "").lower().partition("charset=")
    charset = charset.partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise WrongContentType(f"expected charset utf-8, found {charset[:40]!r}")


def bounded(record: bytes, *, limit: int = MAX_RECORD) -> None:
    """Raises Refused for a record that is too large, too deep, or not UTF-8."""
    if len(record) > limit:
        raise DeliveryTooLarge(f"a record has at most {limit:,} bytes, found {len(record):,}")
    if not record.isascii():
        try:
            record.decode()
        except UnicodeDecodeError as error:
            raise MalformedEvent(f"expected UTF-8: {error.reason} at byte {error.start}") from None
    if record.count(b"{") + record.count(b"[") > MAX_DEPTH and depth(record) > MAX_DEPTH:
        raise MalformedEvent(f"nested deeper than {MAX_DEPTH}")


def depth(document: bytes) -> int:
    """How deep objects and arrays are nested, counted without recursion."""
    level = deepest = 0
    for found in _BRACKETS.finditer(document):
        first = document[found.start()]
        if first in b"[{":
            level += 1
            if level > deepest:
                deepest = level
        elif first in b"]}":
            level -= 1
    return deepest


def _is_one(body: bytes) -> bool:
    """Whether a body of several lines is one pretty-printed object and not one object a line."""
    try:
        _object(body)
    except UNREADABLE:
        return False
    return True


def _listed(record: bytes, wrappers: Sequence[tuple[str, bytes]], *, alone: bool) -> list[bytes] | None:
    """The records in the list under a wrapper's name (`{"Records": [...]}`). None: it is a record itself, or is refused
    by its place beside others.
    """
    named = [wrapper for wrapper in wrappers if wrapper[1] in record]
    if not named or record[:1] != b"{":
        return None
    try:
        members = _object(record)
    except UNREADABLE:
        if whole_escapes(record) != record:
            raise  # and is tried again without half characters
        return None
    for wrapper, quoted in named:
        inner = members.get(wrapper)
        if inner is not None and bytes(inner)[:1] == b"[":
            if record.count(b",") > MAX_VALUES:
                raise DeliveryTooLarge(f"a delivery has at most {MAX_VALUES:,} values")
            if record.count(quoted) != 1 and len(_members(record)) != len(members):
                if not alone:
                    return None
                raise MalformedEvent(f"{wrapper!r} is there twice, so that the records of one would be lost")
            return _counted([bytes(one) for one in _array(inner)])
    return None


# What Splunk's event collector may say beside an event.
_COLLECTOR = frozenset("event time host source sourcetype index fields".split())


def _carried(record: bytes) -> list[bytes]:
    """The records in a collector's envelope: Splunk's event collector, SNS, a subscription of CloudWatch Logs."""
    if record[:1] != b"{" or not any([name in record for name in (b'"event"', b'"Message"', b'"logEvents"')]):
        return [record]
    try:
        members = _object(record)
        if _COLLECTOR.issuperset(members) and "event" in members:
            inside = bytes(members["event"])
            return [inside if inside[:1] == b"{" else text_of(inside) or record]
        if "Message" in members and bytes(members.get("Type", b"")) == b'"Notification"':
            return [text_of(bytes(members["Message"])) or record]
        if "logEvents" in members and "messageType" in members:
            if bytes(members["messageType"]) == b'"CONTROL_MESSAGE"':  # whether the destination lives
                return []
            if record.count(b",") > MAX_VALUES:
                raise DeliveryTooLarge(f"a delivery has at most {MAX_VALUES:,} values")
            lines = [
                _object(one).get("message", b"")
                for one in _counted([bytes(one) for one in _array(members["logEvents"])])
            ]
            return [text_of(bytes(line)) or bytes(line) for line in lines]
    except UNREADABLE:
        if whole_escapes(record) != record:
            raise
    return [record]


def text_of(value: bytes) -> bytes:
    """What stands in a JSON string, where that is an object."""
    try:
        text = msgspec.json.decode(value, type=str).strip()
    except UNREADABLE:
        return b""
    return text.encode() if text[:1] == "{" else b""


class _Pairs(list[tuple[str, object]]):
    """An object's members as they stand in the document."""


def _members(body: bytes) -> _Pairs:
    try:
        return json.loads(body, object_pairs_hook=_Pairs, parse_int=len)
    except (ValueError, RecursionError):
        raise MalformedEvent("expected JSON whose names can be counted") from None


def _counted(records: list[bytes]) -> list[bytes]:
    if len(records) > MAX_RECORDS:
        raise DeliveryTooLarge(f"a delivery has at most {MAX_RECORDS:,} records")
    return records


def _name(raw: bytes, position: int) -> str:
    try:
        document = read_document(raw) if len(raw) <= MAX_RECORD else None
    except ValueError:
        document = None
    if isinstance(document, dict):
        for name in _IDS:
            if isinstance(found := document.get(name), str) and 0 < len(found) <= 200:
                return found
    return f"record {position + 1}"
