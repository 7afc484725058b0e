"""A native payload in somebody else's envelope (Standard Webhooks, CloudEvents, a signed request): type and data.

Data with an `outcome` is a payload of the published format and held to it; `txn` and `sub_id` may stand beside its
fields. Any other data is the sender's own: the event is kept under its source with what can be known of it. Others have
types called `dispute.closed` too, whose outcome is `won`: a payload that cannot be read is refused only where it says
that it is ours, by our URN or by having no member but ours.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from auditlog.core.errors import MalformedEvent
from auditlog.core.event import LAYER_OF_TYPE, Id, Issuer, Party, Payload, Subject, decode_payload
from auditlog.formats import Sender
from auditlog.formats.values import decoded, note, type_or_other

URN = re.compile(r"urn:answerable:event:([a-z0-9_.-]{1,120}):v1\Z")


class SubjectId(Struct):
    """RFC 9493; only `iss_sub` names a party."""

    iss: Issuer | None = None
    sub: Subject | None = None

    @property
    def party(self) -> Party | None:
        return Party(self.iss, self.sub) if self.iss and self.sub else None


class Beside(Struct):
    """What stands beside a payload's fields in another's envelope."""

    outcome: Any = msgspec.UNSET
    txn: Id = ""
    sub_id: SubjectId | None = None


class Message(Struct):
    """A body of type and data, as Standard Webhooks suggests it."""

    type: Id = ""
    data: Raw = Raw()
    id: Id = ""
    timestamp: str | int | float | None = None
    time: str | int | float | None = None


class Untyped(Struct):
    """Under what names senders say what it is that they send, where it is not `type`."""

    event_type: str = ""
    eventType: str = ""
    event: str = ""
    topic: str = ""
    kind: str = ""
    action: str = ""


_OURS = frozenset(Payload.__struct_fields__) | {"txn", "sub_id"}
_untyped = msgspec.json.Decoder(Untyped).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_beside = msgspec.json.Decoder(Beside).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_message = msgspec.json.Decoder(Message).decode


def message_in(raw: bytes, what: str) -> Message:
    """A body's parts. Of a list of objects there are none: a signed body may be any bytes, so it is kept as it is."""
    if raw.lstrip()[:1] == b"[" and any(bytes(one)[:1] == b"{" for one in decoded(_list, raw, what)):
        note(f"not read: the body, expected {what}, found a list")
        return Message()
    return decoded(_message, raw, what)


def untyped(raw: bytes, sender: Sender) -> tuple[str, Payload, str, Party | None]:
    """The same of a body without `type`: kept under the sender's own word for it, if it has one."""
    if raw.strip(b" \t\r\n{}") == b"":
        raise MalformedEvent("expected an event, found an empty object")
    said = Untyped() if raw.lstrip()[:1] == b"[" else decoded(_untyped, raw, "a JSON object")
    word = next((given for given in msgspec.structs.astuple(said) if given), "untyped")
    return type_or_other("", sender, word), Payload(outcome="unknown"), "", None


def _read_beside(raw: bytes, *, is_ours: bool) -> Beside:
    if raw.lstrip()[:1] != b"{":
        return Beside()
    try:
        return decoded(_beside, raw, "a payload")
    except MalformedEvent as error:
        if is_ours:
            raise
        note(f"data looks like JSON and is none: {error}")  # a template's text, say
        return Beside()


def opened(type: str, data: bytes | Raw, sender: Sender) -> tuple[str, Payload, str, Party | None]:
    """The event's type, payload, `txn` and principal. Raises MalformedEvent for a payload that says it is ours."""
    if not type:
        raise MalformedEvent("expected a type")
    match = URN.match(type)
    native = match[1] if match else type
    raw = bytes(data)
    beside = _read_beside(raw, is_ours=match is not None)
    if beside.outcome is msgspec.UNSET or beside.outcome is None:
        if match and native in LAYER_OF_TYPE:
            raise MalformedEvent(f"expected the payload of {native} to have an outcome")
        return type_or_other("", sender, type), Payload(outcome="unknown"), "", None
    try:
        payload = decode_payload(raw)
    except MalformedEvent as error:
        if match is not None or (native in LAYER_OF_TYPE and _OURS.issuperset(_members(raw))):
            raise
        note(
            f"data has an outcome, and is no payload of the published format: {error}"
        )  # `outcome` is a word of others too
        return type_or_other("", sender, type), Payload(outcome="unknown"), "", None
    principal = beside.sub_id.party if beside.sub_id else None
    return type_or_other(native, sender, native), payload, beside.txn, principal
